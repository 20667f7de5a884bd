"""People of a real OpenLDAP who sign in at a real OpenID provider: uid, groups and home are the directory's word."""

import re

import pytest

from harness import product
from harness.hub import PAM_SERVICE
from harness.product import LDAP, OIDC
from harness.slapd import ALICE, BOB, CAROL, Person
from harness.ssh import Terminal, authorize_key, ssh_kbdint, ssh_key

BY_NAME = LDAP + 'login = "sso"\n' + OIDC
BY_MAIL = BY_NAME.replace('login = "sso"', 'login = "sso"\nlogin_attribute = "mail"\nlogin_claim = "email"')
GUS = Person("gus", 20031, "a horse of 3", "Gus Green", ("gpu-users",))


def account(name, mail, **more):
    return {"password": "a browser's", "preferred_username": name, "name": f"{name} at sso", "email": mail,
            "email_verified": True, "groups": ["vision"], "uid_number": 66666, "sub": f"subject-of-{name}", **more}


# They are called otherwise there; a person's address is what the directory has, in whatever case.
ACCOUNTS = {"archer": account("archer", "Alice@Example.org"), "baker": account("baker", "bob@example.org"),
            "green": account("green", "gus@example.org"), "alice": account("alice", "mallory@example.org")}


@pytest.fixture(autouse=True)
def accounts(oidc):
    oidc.set_accounts(ACCOUNTS)


@pytest.fixture(scope="module")
def box(lan, ca, package, slapd_session, oidc_session):
    box = product.GpuBox(lan, "gpu1")
    box.configure(BY_MAIL + "\n[passcode]\none_time = true\n", ca)
    box.up()
    box.write_file("/etc/pam.d/jupyterhub", PAM_SERVICE)
    yield box
    box.close()


def sign_in(box, oidc, user, account, command="true"):
    terminal = Terminal(box, user, command)
    oidc.device.approve(terminal.device_code(), account, "a browser's")
    terminal.line("")
    return terminal.finish()


def turned_away(box, user):
    """Asked for a password, shown no code, and refused."""
    session = ssh_kbdint(box, user, ["whatever"])
    assert not session.accepted and "Password:" in session.transcript and "Code:" not in session.transcript, session
    return session


def test_uid_groups_and_home_are_the_directory_s(box, slapd, oidc):
    session = sign_in(box, oidc, "alice", "archer", "id; pwd; stat -c '%a %U' .; echo $SHELL")
    assert session.status == 0, session
    assert "uid=20001(alice) gid=20000(people)" in session.transcript, session
    for group in ("21001(gpu-users)", "21002(ml)"):
        assert group in session.transcript, session
    assert "vision" not in session.transcript and "/home/alice" in session.transcript, session
    assert "700 alice" in session.transcript and "/bin/bash" in session.transcript, session
    line = box.wait_audit(event="auth", user="alice", result="ok")
    wanted = {"method": "device-code", "backend": "corp", "uid": "20001", "detail": "at sso", "reason": "ok"}
    assert line | wanted == line
    assert box.wait_audit(event="session-open", user="alice")["uid"] == "20001"


def test_somebody_else_s_account(box, slapd, oidc):
    # Whoever is called alice there has not her address.
    session = sign_in(box, oidc, "alice", "alice")
    assert not session.accepted and "somebody else" in session.transcript, session
    line = box.wait_audit(event="auth", user="alice", result="denied", reason="wrong-subject")
    assert line["backend"] == "corp" and line["detail"].endswith("mallory@example.org; at sso"), line


def test_who_has_no_address_and_who_is_nobody(box, slapd, oidc):
    slapd.modify(CAROL.dn, "delete: mail")
    try:
        assert "cannot be used here" in turned_away(box, "carol").transcript
    finally:
        slapd.modify(CAROL.dn, "add: mail\nmail: carol@example.org")
    line = box.wait_audit(event="auth", user="carol", result="denied", reason="entry-refused", backend="corp")
    assert line["detail"] == "her entry has no mail, by which sso would know her"
    # The provider has people of its own, and here they are nobody.
    turned_away(box, "archer")
    box.wait_audit(event="auth", user="archer", result="denied", reason="unknown-user")
    assert box.run(["getent", "passwd", "archer"], check=False).returncode == 2


def test_her_address_is_given_to_somebody_else(box, slapd, oidc):
    assert sign_in(box, oidc, "bob", "baker").accepted
    oidc.set_accounts({"baker": account("baker", "bob@example.org", sub="another person")})
    box.restart_broker()        # it is written down
    session = sign_in(box, oidc, "bob", "baker")
    assert not session.accepted and "belongs to another person" in session.transcript, session
    box.wait_audit(event="auth", user="bob", result="denied", reason="name-taken", backend="corp")
    # Unless the administrator knows that it is she.
    box.gpuhub("idmap", "untie", "user", "bob")
    assert sign_in(box, oidc, "bob", "baker").accepted


def test_who_is_disabled_or_deleted_in_the_directory(box, slapd, oidc):
    slapd.add_person(GUS)
    try:
        authorize_key(box, "gus", "/home/gus")
        assert ssh_key(box, "gus").accepted
        slapd.expire_account(GUS)
        session = sign_in(box, oidc, "gus", "green")
        assert not session.accepted and "expired" in session.transcript, session
        assert not ssh_key(box, "gus").accepted
    finally:
        slapd.remove_person(GUS)
    turned_away(box, "gus")
    assert not ssh_key(box, "gus").accepted
    box.wait_audit(event="account", user="gus", result="denied", reason="account-expired")
    box.wait_audit(event="auth", user="gus", result="denied", reason="unknown-user")


def test_a_form_takes_a_one_time_code_and_no_password(box, slapd, oidc):
    shown = sign_in(box, oidc, "alice", "archer", "gpuhub passcode once").transcript
    code = re.search(r"^([0-9A-Z]{5}-[0-9A-Z]{5})\s*$", shown, re.M)[1]

    def form(answer):
        return box.pam("alice", "authenticate", "acct_mgmt", answers=(answer,), service="jupyterhub")

    assert form(ALICE.password) == "PAM_AUTH_ERR"
    assert [form(code), form(code)] == ["PAM_SUCCESS", "PAM_AUTH_ERR"]
    line = box.wait_audit(event="auth", user="alice", service="jupyterhub", result="ok")
    assert (line["method"], line["backend"], line["uid"]) == ("one-time-code", "corp", "20001")
    # Nor does ssh: what is typed beside Enter is nothing.
    terminal = Terminal(box, "alice")
    oidc.device.approve(terminal.device_code(), "baker", "a browser's")
    terminal.line(ALICE.password)
    assert not terminal.finish().accepted


def test_one_of_the_two_is_away(box, slapd, oidc):
    authorize_key(box, "bob", "/home/bob")
    oidc.stop()
    assert not ssh_kbdint(box, "bob", ["x"]).accepted
    line = box.wait_audit(event="auth", user="bob", result="error", reason="backend-unavailable")
    assert line["backend"] == "corp" and line["detail"].endswith("at sso")
    assert ssh_key(box, "bob").accepted, "a key is the directory's business"
    oidc.start()
    slapd.stop()
    turned_away(box, "bob")
    assert not ssh_key(box, "bob").accepted
    assert box.out(["id", "-u", "bob"]) == str(BOB.number)


def test_by_the_login_name_alone_and_what_the_doctor_finds(make_gpubox, ca, slapd, oidc):
    box = make_gpubox(BY_NAME)
    oidc.set_accounts({**ACCOUNTS, "carol": account("carol", "c@example.org")})
    assert "uid=20003(carol)" in sign_in(box, oidc, "carol", "carol", "id").transcript
    assert not sign_in(box, oidc, "carol", "baker").accepted
    box.wait_audit(event="auth", user="carol", result="denied", reason="wrong-subject")

    def check(attribute):
        text = BY_NAME.replace('login = "sso"', f'login = "sso"\nlogin_attribute = "{attribute}"\nlogin_claim = "x"')
        box.write_file("/etc/gpuhub/other.toml", text, mode=0o640, owner="root:gpuhub")
        return box.run(["gpuhubd", "--check", "--config", "/etc/gpuhub/other.toml"], check=False).stdout

    assert "employeeNumber of nobody" in check("employeeNumber")
    assert "of nobody" not in check("mail")
