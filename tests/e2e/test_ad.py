"""People of a real Active Directory (Samba) log in: SIDs, nested groups, and what the domain says of accounts."""

import pytest

from harness import roots
from harness.ad import AD, PASSWORD, READER_PASSWORD, USERS
from harness.box import wait_until
from harness.ssh import authorize_key, ssh_kbdint, ssh_key

CAROL = f"CN=Carol Cho,{USERS}"


@pytest.fixture
def box(make_gpubox, ad):
    box = make_gpubox(AD, up=False)
    box.write_file("/etc/gpuhub/ldap.secret", READER_PASSWORD + "\n", mode=0o640, owner="root:gpuhub")
    return box.up()


def groups(box, name):
    return set(box.out(["id", "-Gn", name]).split("\n")[0].replace("Domain Users", "Domain_Users").split())


def test_a_login_with_ids_from_sids_and_groups_of_groups(box, ad):
    session = ssh_kbdint(box, "alice", [PASSWORD], "id -u; id -g; pwd")
    assert session.accepted, session
    uid, gid = int(box.out(["id", "-u", "alice"])), int(box.out(["id", "-g", "alice"]))
    rid = int(ad.sid("alice").rsplit("-", 1)[1])
    # sssd's slices have 200,000 ids each; the primary group is Domain Users, RID 513, of the same domain.
    assert (uid - rid) % 200_000 == 0 and uid - rid == gid - 513
    assert str(uid) in session.transcript and "/home/alice" in session.transcript
    assert groups(box, "alice") >= {"Domain_Users", "gpu-users", "everyone"}
    assert "ml" not in groups(box, "alice")
    line = box.wait_audit(event="auth", user="alice")
    assert line["result"] == "ok" and line["uid"] == str(uid) and line["backend"] == "ad"
    assert box.out(["getent", "passwd", "alice"]).split(":")[4:] == ["Alice Archer", "/home/alice", "/bin/bash"]


def test_names_with_commas_and_groups_in_a_circle(box):
    assert ssh_kbdint(box, "bob", [PASSWORD], "true").accepted
    assert groups(box, "carol") >= {"ml", "everyone", "gpu-users"}
    members = {name: set(box.out(["getent", "group", name]).split(":")[3].split(","))
               for name in ("gpu-users", "ml", "everyone")}
    assert members["everyone"] == members["gpu-users"] == {"alice", "bob", "carol"}
    # Through gpu-users, which is in everyone, of which ml is not.
    assert members["ml"] == {"carol"}
    gid = box.out(["getent", "group", "everyone"]).split(":")[2]
    assert box.out(["getent", "group", gid]).startswith("everyone:")


def test_a_group_of_more_people_than_a_page_holds(box):
    # The first answer may come too late for getent, and is kept.
    wait_until(lambda: box.run(["getent", "group", "crowd"], check=False).returncode == 0, "the crowd", 30)
    members = box.out(["getent", "group", "crowd"]).split(":")[3].split(",")
    assert members == [f"c{n:04}" for n in range(1, 1601)]


def test_computers_and_other_spellings_are_nobody(box):
    for name in ("DC1$", "dc1$", "Alice", "ALICE", "krbtgt2"):
        assert box.run(["getent", "passwd", name], check=False).returncode == 2, name


def refused(box, name, password=PASSWORD):
    code = box.pam(name, "authenticate", answers=(password,))
    return code, box.wait_audit(event="auth", user=name, result="denied")["reason"]


def test_a_wrong_password(box):
    assert refused(box, "carol", "wrong") == ("PAM_AUTH_ERR", "wrong-password")


def test_a_disabled_account_by_password_and_by_key(box, ad):
    authorize_key(box, "carol", "/home/carol")
    assert ssh_key(box, "carol").accepted
    ad.tool("user", "disable", "carol")
    try:
        assert refused(box, "carol") == ("PAM_ACCT_EXPIRED", "account-disabled")
        assert not ssh_key(box, "carol").accepted
    finally:
        ad.tool("user", "enable", "carol")
    assert ssh_key(box, "carol").accepted


def test_an_expired_account(box, ad):
    ad.modify(CAROL, "replace: accountExpires\naccountExpires: 133000000000000000")
    try:
        assert refused(box, "carol") == ("PAM_ACCT_EXPIRED", "account-expired")
    finally:
        ad.modify(CAROL, "replace: accountExpires\naccountExpires: 0")
    assert ssh_kbdint(box, "carol", [PASSWORD], "true").accepted


def test_a_password_that_must_be_changed(box, ad):
    ad.modify(CAROL, "replace: pwdLastSet\npwdLastSet: 0")
    try:
        assert refused(box, "carol") == ("PAM_NEW_AUTHTOK_REQD", "must-change-password")
    finally:
        ad.modify(CAROL, "replace: pwdLastSet\npwdLastSet: -1")


def test_an_old_password_is_changed_on_the_way_in(box, ad):
    new = "Another.Passw0rd.8"
    ad.modify(CAROL, "replace: pwdLastSet\npwdLastSet: 0")
    try:
        session = ssh_kbdint(box, "carol", [PASSWORD, "abc", "abc", new, new], "id -un")
        assert session.accepted, session
        assert "too short, too simple" in session.transcript
        assert box.wait_audit(event="password-change", user="carol")["result"] == "ok"
        assert ssh_kbdint(box, "carol", [new], "true").accepted
        assert refused(box, "carol") == ("PAM_AUTH_ERR", "wrong-password")
    finally:
        ad.tool("user", "setpassword", "carol", f"--newpassword={PASSWORD}")
        ad.modify(CAROL, "replace: pwdLastSet\npwdLastSet: -1")


def test_a_locked_account(box, ad):
    ad.tool("domain", "passwordsettings", "set", "--account-lockout-threshold=3")
    try:
        for _ in range(4):
            box.pam("carol", "authenticate", answers=("wrong",))
        assert box.pam("carol", "authenticate", answers=(PASSWORD,)) == "PAM_ACCT_EXPIRED"
        box.wait_audit(event="auth", user="carol", result="denied", reason="account-locked")
    finally:
        ad.tool("domain", "passwordsettings", "set", "--account-lockout-threshold=0")
        ad.modify(CAROL, "replace: lockoutTime\nlockoutTime: 0")


def test_her_principal_name_is_another_name_of_hers(box, ad):
    entry = box.out(["getent", "passwd", "alice"])
    for typed in ("alice@ad.test", "Alice@AD.test"):
        assert box.out(["getent", "passwd", typed]) == entry
        assert box.out(["id", "-G", typed]) == box.out(["id", "-G", "alice"])
    session = ssh_kbdint(box, "alice@ad.test", [PASSWORD], "id -un; echo $USER $HOME; touch here; stat -c owner=%U here")
    assert session.accepted, session
    assert "alice /home/alice" in session.transcript and "owner=alice" in session.transcript
    for event in ("auth", "account", "session-open", "session-close"):
        line = box.wait_audit(event=event, login_name="alice@ad.test")
        assert (line["user"], line["result"]) == ("alice", "ok"), line
    authorize_key(box, "alice", "/home/alice")
    assert ssh_key(box, "alice@ad.test").accepted
    # sshd names her to AuthorizedKeysCommand as her entry does, others as they like.
    ad.modify(f"CN=Alice Archer,{USERS}", "add: altSecurityIdentities\naltSecurityIdentities: ssh-ed25519 AAAA")
    try:
        assert box.out(["gpuhub", "ssh-keys", "alice@ad.test"]) == box.out(["gpuhub", "ssh-keys", "alice"])
    finally:
        ad.modify(f"CN=Alice Archer,{USERS}", "delete: altSecurityIdentities")


def test_a_principal_name_that_nobody_has(box):
    assert box.run(["getent", "passwd", "zoe@ad.test"], check=False).returncode == 2
    assert refused(box, "zoe@ad.test") == ("PAM_USER_UNKNOWN", "unknown-user")
    session = ssh_kbdint(box, "zoe@ad.test", [PASSWORD], "true")
    assert not session.accepted


def test_by_her_principal_name_nobody_gets_around_a_rule(make_gpubox, ad):
    box = make_gpubox(AD + '[access]\ndeny_users = ["alice"]\ntries = 3\n', up=False)
    box.write_file("/etc/gpuhub/ldap.secret", READER_PASSWORD + "\n", mode=0o640, owner="root:gpuhub")
    box.up()
    code = box.pam("alice@ad.test", "authenticate", answers=(PASSWORD,))
    line = box.wait_audit(event="auth", login_name="alice@ad.test")
    assert (code, line["user"], line["reason"]) == ("PAM_PERM_DENIED", "alice", "not-allowed")
    # Wrong passwords count against the person, by whatever name they are tried.
    for name in ("carol@ad.test", "carol", "Carol@ad.test"):
        assert box.pam(name, "authenticate", answers=("wrong",)) == "PAM_AUTH_ERR"
    assert box.pam("carol", "authenticate", answers=(PASSWORD,)) == "PAM_MAXTRIES"


def test_her_principal_name_in_the_hub(make_gpubox, make_hub, ad):
    box = make_gpubox(AD, root=roots.HUB, up=False)
    box.write_file("/etc/gpuhub/ldap.secret", READER_PASSWORD + "\n", mode=0o640, owner="root:gpuhub")
    hub = make_hub(box.up(), normalize=True)
    visit = hub.login("alice@ad.test", PASSWORD)
    assert visit.accepted, visit.text
    visit.user = "alice"    # so the hub calls her now
    assert visit.spawn_and_wait().identity()["uids"] == [int(box.out(["id", "-u", "alice"]))]
    visit.stop_server()
