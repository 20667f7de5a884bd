"""Who may log in where: rules of the box and of the directory, and keys that the directory has."""

import contextlib

import pytest

from harness.product import LDAP
from harness.slapd import ALICE, BASE, BOB, CAROL, GROUPS
from harness.ssh import authorize_key, public_key, ssh_kbdint, ssh_key


@contextlib.contextmanager
def entry_with(slapd, person, classes, **attributes):
    lines = [f"add: objectClass\n" + "".join(f"objectClass: {name}\n" for name in classes).rstrip()]
    lines += [f"add: {key}\n" + "\n".join(f"{key}: {value}" for value in values) for key, values in attributes.items()]
    slapd.modify(person.dn, *lines)
    try:
        yield
    finally:
        undo = [f"delete: {key}" for key in attributes]
        undo += ["delete: objectClass\n" + "".join(f"objectClass: {name}\n" for name in classes).rstrip()]
        slapd.modify(person.dn, *undo)


def tries(box, *names):
    """Who is let in by ssh with her password."""
    passwords = {one.name: one.password for one in (ALICE, BOB, CAROL)}
    return {name for name in names if ssh_kbdint(box, name, [passwords[name]], "true").accepted}


ALL = ("alice", "bob", "carol")


@pytest.mark.parametrize("rules, let_in", [
    (f'allow_groups = ["CN=ml, {GROUPS}"]', {"alice"}),
    (f'deny_groups = ["cn=ml,{GROUPS}"]', {"bob", "carol"}),
    ('deny_groups = ["people"]', set()),      # everybody's primary group
    ('allow_groups = ["people"]\ndeny_users = ["bob"]', {"alice", "carol"}),
    ('[access.service.sshd]\nallow_users = ["carol"]', {"carol"}),
    ('allow_groups = ["gpu-users"]\n[access.service.sshd]\nallow_users = ["carol", "bob"]', {"bob"}),
], ids=["dn", "deny dn", "deny primary", "primary", "service", "both"])
def test_rules_of_the_box(make_gpubox, slapd, rules, let_in):
    box = make_gpubox(f"[access]\n{rules}\n{LDAP}")
    assert tries(box, *ALL) == let_in
    for name in set(ALL) - let_in:
        assert box.wait_audit(event="auth", user=name, result="denied")["reason"] == "not-allowed"
        # A key does not go around it.
        authorize_key(box, name, f"/home/{name}")
        assert not ssh_key(box, name).accepted
        box.wait_audit(event="account", user=name, result="denied", reason="not-allowed")


def test_a_rule_for_one_service_leaves_the_others(make_gpubox, slapd):
    box = make_gpubox(f'[access.service.sshd]\nallow_users = ["carol"]\n{LDAP}')
    assert not ssh_kbdint(box, "bob", [BOB.password], "true").accepted
    assert box.pam("bob", answers=(BOB.password,)) == "PAM_SUCCESS"


def test_a_filter_of_the_directory(make_gpubox, slapd):
    box = make_gpubox(LDAP + 'access_filter = "(&(employeeType=staff)(host=$host))"\n')
    with entry_with(slapd, ALICE, ["hostObject"], employeeType=["staff"], host=["gpu1"]), \
            entry_with(slapd, BOB, ["hostObject"], employeeType=["staff"], host=["gpu2"]):
        assert tries(box, *ALL) == {"alice"}
        authorize_key(box, "bob", "/home/bob")
        assert not ssh_key(box, "bob").accepted
        assert "access_filter" in box.wait_audit(event="account", user="bob", reason="not-allowed")["detail"]


def test_attributes_that_list_boxes_and_services(make_gpubox, slapd):
    box = make_gpubox(LDAP + 'access_attributes = ["host", "authorizedService"]\n')
    both = ["hostObject", "authorizedServiceObject"]
    with entry_with(slapd, ALICE, both, host=["*"], authorizedService=["sshd"]), \
            entry_with(slapd, BOB, both, host=["*", "!gpu1"], authorizedService=["*"]), \
            entry_with(slapd, CAROL, both, host=["gpu1"], authorizedService=["login"]):
        assert tries(box, *ALL) == {"alice"}


def test_keys_that_the_directory_has(make_gpubox, slapd, lan):
    box = make_gpubox(LDAP, up=False)
    box.write_file("/etc/ssh/sshd_config.d/keys.conf",
                   "AuthorizedKeysCommand /usr/bin/gpuhub ssh-keys %u\nAuthorizedKeysCommandUser nobody\n")
    box.up()
    key = public_key(lan).strip()
    assert not ssh_key(box, "carol").accepted
    with entry_with(slapd, CAROL, ["ldapPublicKey"], sshPublicKey=[key, f'command="id" {key}', "rubbish"]):
        assert box.out(["gpuhub", "ssh-keys", "carol"]).split() == key.split()[:2]
        session = ssh_key(box, "carol", "id -un")
        assert session.accepted and "carol" in session.transcript, session
        kind, fingerprint = key.split()[0], box.out(["ssh-keygen", "-lf", "/dev/stdin"], input=key).split()[1]
        opened = box.wait_audit(event="session-open", user="carol")
        assert opened["method"] == "publickey" and f"{kind} {fingerprint}" in opened["detail"]
        # Her key is no way around her account.
        slapd.lock(CAROL)
        try:
            assert not ssh_key(box, "carol").accepted
            box.wait_audit(event="account", user="carol", result="denied", reason="account-locked")
        finally:
            slapd.unlock(CAROL)
        # A stranger's name has no keys, and the directory's absence is not the same as none.
        for name in ("nobody-here", "root", "*", "a:b"):
            done = box.run(["gpuhub", "ssh-keys", name], check=False)
            assert (done.returncode, done.stdout) == (0, ""), name
        slapd.stop()
        assert box.run(["gpuhub", "ssh-keys", "carol"], check=False).returncode == 69
        slapd.start()
    assert not ssh_key(box, "carol").accepted
