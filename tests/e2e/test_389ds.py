"""People of a real 389 Directory Server, in a tree like FreeIPA's, log in: its locks, policies and keys."""

import json
import time

import pytest

from harness.box import wait_until
from harness.ds import ALICE, BASE, BOB, CAROL, DAVE, EVERYBODY, IPA, PEOPLE, RFC2307BIS, Person, group_dn
from harness.places import CHECKOUT
from harness.ssh import authorize_key, ssh_kbdint, ssh_key

NEW = "something else 9"


@pytest.fixture
def box(make_gpubox, ds):
    return make_gpubox(IPA)


def reason(box, person, password=None):
    """PAM's code of a refused login and the reason in the audit log."""
    before = len(box.audit(event="auth", user=person.name, result="denied"))
    code = box.pam(person.name, answers=(password or person.password,))
    return code, box.wait_audit(event="auth", user=person.name, result="denied", count=before + 1)["reason"]


def lets_in(box, person, password=None):
    return box.pam(person.name, answers=(password or person.password,)) == "PAM_SUCCESS"


@pytest.mark.parametrize("config", [IPA, RFC2307BIS], ids=["ipa", "rfc2307bis"])
def test_a_login_with_groups_of_groups(make_gpubox, ds, config):
    box = make_gpubox(config)
    session = ssh_kbdint(box, "alice", [ALICE.password], "id; pwd")
    assert session.accepted, session
    assert "uid=30001(alice) gid=30000(people)" in session.transcript and "/home/alice" in session.transcript
    line = box.wait_audit(event="auth", user="alice", result="ok")
    assert line["uid"] == "30001" and line["method"] == "password" and line["backend"] == "ipa"
    names = {name: set(box.out(["id", "-Gn", name]).split()) for name in ("alice", "bob", "carol")}
    assert names["alice"] == names["bob"] == {"people", "gpu-users", "lab"}
    assert names["carol"] == {"people", "ml", "gpu-users", "lab"}
    # One member of gpu-users is no longer there.
    members = {name: box.out(["getent", "group", name]).split(":")[2:] for name in ("gpu-users", "ml", "lab")}
    assert members == {"gpu-users": ["31001", "alice,bob,carol"], "ml": ["31002", "carol"],
                       "lab": ["31003", "alice,bob,carol"]}
    assert ssh_kbdint(box, "bob", [BOB.password]).accepted, "of a DN with a comma"
    assert box.run(["/usr/sbin/gpuhubd", "--check"], check=False).returncode == 0


def test_the_example_for_389_directory_server_and_ipa(make_gpubox, ds):
    example = (CHECKOUT / "conf" / "389ds-ipa.toml").read_text()
    # Of its two servers the first is away.
    changes = {"ipa1.example.org": "localhost", "ipa2.example.org": "ds.test", "dc=example,dc=org": BASE}
    for theirs, ours in changes.items():
        assert theirs in example
        example = example.replace(theirs, ours)
    box = make_gpubox(example)
    assert lets_in(box, ALICE) and lets_in(box, CAROL), "in gpu-users, or in a group that is"
    assert reason(box, DAVE) == ("PAM_PERM_DENIED", "not-allowed")


def test_wrong_passwords_and_names_that_nobody_has(box):
    wrong, unknown = ssh_kbdint(box, "alice", ["wrong"]), ssh_kbdint(box, "nobody-here", ["wrong"])
    assert not wrong.accepted
    box.wait_audit(event="auth", user="alice", result="denied", reason="wrong-password")
    box.wait_audit(event="auth", user="nobody-here", result="denied", reason="unknown-user")
    assert wrong.transcript.replace("alice", "X") == unknown.transcript.replace("nobody-here", "X")


# ---- locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["locked", "locked_by_role"])
def test_an_inactivated_account_by_password_and_by_key(box, ds, how):
    authorize_key(box, "carol", "/home/carol")
    assert ssh_key(box, "carol").accepted
    with getattr(ds, how)(CAROL):
        assert reason(box, CAROL) == ("PAM_ACCT_EXPIRED", "account-locked")
        refused = ssh_key(box, "carol")
        assert not refused.accepted, refused
        box.wait_audit(event="account", user="carol", result="denied", reason="account-locked")
    assert lets_in(box, CAROL) and ssh_key(box, "carol").accepted


def test_too_many_wrong_passwords_lock_the_account_in_the_directory(box, ds):
    authorize_key(box, "carol", "/home/carol")
    with ds.policy(CAROL, passwordLockout="on", passwordMaxFailure="3", passwordUnlock="on",
                   passwordLockoutDuration="600"):
        for _ in range(2):
            assert not ds.can_bind(CAROL.dn, "wrong")
        assert reason(box, CAROL, "wrong") == ("PAM_AUTH_ERR", "wrong-password")
        assert reason(box, CAROL) == ("PAM_ACCT_EXPIRED", "account-locked")
        assert not ssh_key(box, "carol").accepted
        box.wait_audit(event="account", user="carol", result="denied", reason="account-locked")
        # The server counts from nought then, and leaves the time in her entry.
        ds.set_password(CAROL, CAROL.password)
        assert lets_in(box, CAROL) and ssh_key(box, "carol").accepted


# ---- passwords that have become too old --------------------------------------------------------------


def test_an_expired_password_lets_in_as_often_as_the_policy_says(box, ds):
    with ds.policy(CAROL, passwordExp="on", passwordMaxAge="1", passwordWarning="0", passwordGraceLimit="2"):
        ds.set_password(CAROL, CAROL.password)
        time.sleep(2.1)
        assert lets_in(box, CAROL) and lets_in(box, CAROL)
        assert reason(box, CAROL) == ("PAM_NEW_AUTHTOK_REQD", "password-unchangeable")
        assert reason(box, CAROL, "wrong")[1] == "wrong-password", "only who knows it is told so"


def test_a_password_that_must_be_changed_and_is(box, ds):
    with ds.policy(CAROL, passwordMustChange="on"):
        ds.set_password(CAROL, CAROL.password)
        assert reason(box, CAROL) == ("PAM_NEW_AUTHTOK_REQD", "must-change-password")
        assert box.pam("carol", "chauthtok", answers=(CAROL.password, NEW, NEW)) == "PAM_SUCCESS"
        assert lets_in(box, CAROL, NEW) and not lets_in(box, CAROL)


# ---- passwd ------------------------------------------------------------------------------------------


def test_somebody_changes_her_password(box, ds):
    with ds.policy(CAROL, passwordCheckSyntax="on", passwordMinLength="8"):
        assert lets_in(box, CAROL)
        passwd = box.spawn(["passwd"], user="carol")
        passwd.expect("Password: ")
        passwd.sendline(CAROL.password)
        for new in ("short", NEW):
            for prompt in ("New password: ", "New password again: "):
                passwd.expect_exact(prompt)
                passwd.sendline(new)
            if new == "short":
                passwd.expect("The directory finds the new password too simple|The new password is too short")
        passwd.expect("password updated successfully")
        passwd.wait()
        box.wait_audit(event="password-change", user="carol", result="ok")
        assert lets_in(box, CAROL, NEW)
        assert ds.can_bind(CAROL.dn, NEW) and not ds.can_bind(CAROL.dn, CAROL.password)


def test_the_old_password_is_asked_for_even_of_root(box, ds):
    assert box.pam("carol", "chauthtok", answers=("wrong", NEW, NEW)) == "PAM_AUTH_ERR"
    box.wait_audit(event="password-change", user="carol", result="denied", reason="wrong-password")
    assert ds.can_bind(CAROL.dn, CAROL.password) and not ds.can_bind(CAROL.dn, NEW)


# ---- who is who --------------------------------------------------------------------------------------


def test_a_renamed_entry_is_the_same_person(make_gpubox, ds):
    box = make_gpubox(RFC2307BIS)
    assert lets_in(box, BOB)
    ds.rename(BOB.dn, "cn=Robert Baker")
    try:
        assert lets_in(box, BOB) and box.out(["id", "-u", "bob"]) == "30002"
    finally:
        ds.rename(BOB.dn.replace(BOB.rdn, "cn=Robert Baker"), BOB.rdn)
    assert lets_in(box, BOB)


def test_who_gets_another_name_keeps_her_ids(make_gpubox, ds):
    box = make_gpubox(RFC2307BIS)
    assert lets_in(box, ALICE)
    ds.rename(ALICE.dn, "uid=alicia")
    try:
        assert box.pam("alicia", answers=(ALICE.password,)) == "PAM_SUCCESS"
        assert box.wait_audit(event="renamed", user="alicia")["detail"].startswith("was alice;")
        assert box.out(["id", "-u", "alicia"]) == "30001"
        assert not lets_in(box, ALICE)
    finally:
        ds.rename(ALICE.dn.replace("uid=alice", "uid=alicia"), "uid=alice")


def test_an_entry_that_gets_its_entry_uuid_years_later_is_the_same_person(make_gpubox, ds):
    box = make_gpubox(RFC2307BIS)
    assert ds.value(ALICE.dn, "entryUUID") is None
    assert lets_in(box, ALICE)
    with ds.entry_uuids():
        assert lets_in(box, ALICE)


def test_another_entry_of_her_name_is_not_her(box, ds):
    assert lets_in(box, ALICE)
    ds.delete(ALICE.dn)
    ds.add_person(ALICE, ipaUniqueID="somebody-else")
    try:
        assert reason(box, ALICE) == ("PAM_PERM_DENIED", "name-taken")
    finally:
        ds.delete(ALICE.dn)
        ds.add_person(ALICE)


# ---- all of it here ----------------------------------------------------------------------------------


EVE = Person("eve", 30005, "late arrival 5", "Eve Early")


@pytest.mark.parametrize("config", [IPA, RFC2307BIS], ids=["ipa", "rfc2307bis"])
def test_a_replica_that_is_polled(make_gpubox, ds, config):
    box = make_gpubox(config + 'sync = "replica"\npoll_interval = "1s"\n')

    def provider():
        return next(p for p in json.loads(box.out(["gpuhub", "cache", "show", "--json"]))["providers"]
                    if p["name"] == "ipa")

    def listed(what):
        lines = (line.split(":") for line in box.out(["getent", "-s", "gpuhub", what]).splitlines())
        return {line[0]: line[-1] for line in lines}

    def gids(name):
        return set(box.out(["id", "-G", name]).split())

    wait_until(lambda: provider()["complete"], "the whole directory")
    assert provider()["mode"] == "polling"
    assert set(listed("passwd")) == {person.name for person in EVERYBODY}
    assert {name: listed("group")[name] for name in ("gpu-users", "ml", "lab")} == {
        "gpu-users": "alice,bob,carol", "ml": "carol", "lab": "alice,bob,carol"}
    assert gids("carol") == {"30000", "31001", "31002", "31003"}

    eve = EVE.dn
    ds.add_person(EVE)
    try:
        wait_until(lambda: "eve" in listed("passwd"), "somebody added")
        ds.modify(eve, "replace: loginShell\nloginShell: /bin/sh")
        wait_until(lambda: listed("passwd")["eve"] == "/bin/sh", "a change")
        ds.modify(group_dn("ml"), f"add: member\nmember: {eve}")
        wait_until(lambda: gids("eve") == gids("carol") and listed("group")["lab"] == "alice,bob,carol,eve", "a member")
        with ds.locked(EVE):
            authorize_key(box, "eve", "/home/eve")
            assert not ssh_key(box, "eve").accepted
        assert ssh_key(box, "eve").accepted
        ds.modify(group_dn("ml"), f"delete: member\nmember: {eve}")
        wait_until(lambda: gids("eve") == {"30000"}, "a member no more")
        # The entry has another name, and is the same: there are never two of her.
        ds.rename(eve, "uid=evelyn")
        eve = f"uid=evelyn,{PEOPLE}"
        wait_until(lambda: "evelyn" in listed("passwd"), "another name")
        assert "eve" not in listed("passwd") and box.out(["id", "-u", "evelyn"]) == "30005"
        assert provider()["complete"]
    finally:
        ds.delete(eve)
    wait_until(lambda: "evelyn" not in listed("passwd"), "a deletion")
    assert set(listed("passwd")) == {person.name for person in EVERYBODY}


def test_a_replica_knows_an_entry_of_another_name(make_gpubox, ds):
    box = make_gpubox(RFC2307BIS + 'sync = "replica"\npoll_interval = "1s"\n')

    def is_complete():
        return json.loads(box.out(["gpuhub", "cache", "show", "--json"]))["providers"][0]["complete"]

    wait_until(is_complete, "the whole directory")
    ds.rename(BOB.dn, "cn=Robert Baker")
    try:
        # Four polls, and what there is is listed.
        for _ in range(25):
            assert is_complete(), "there are never two of him"
            time.sleep(0.2)
        assert box.out(["id", "-u", "bob"]) == "30002"
    finally:
        ds.rename(BOB.dn.replace(BOB.rdn, "cn=Robert Baker"), BOB.rdn)


# ---- a server that does not answer -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "suspend"])
def test_server_down(box, ds, how):
    getattr(ds, how)()
    start = time.monotonic()
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    assert time.monotonic() - start < 20
    assert box.wait_audit(event="auth", user="alice", reason="backend-unavailable")["result"] == "error"
    ds.resume() if how == "suspend" else ds.start()
    wait_until(lambda: lets_in(box, ALICE), "the broker to find the server again", 20)
