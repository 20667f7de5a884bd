"""What a directory says of accounts whose password was right, and what people see of it."""

import contextlib
import time

import pytest

from harness.product import LDAP
from harness.slapd import BASE, BOB, CAROL
from harness.ssh import Terminal, ssh_kbdint, ssh_password

NEW = "a wholly new one 7"
KBDINT = r"[Pp]assword: $"


@pytest.fixture
def box(make_gpubox, slapd):
    return make_gpubox(LDAP)


@contextlib.contextmanager
def under(slapd, policy, *more):
    """Carol under another policy; afterwards she is as she was."""
    slapd.modify(CAROL.dn, f"replace: pwdPolicySubentry\npwdPolicySubentry: cn={policy},ou=policies,{BASE}", *more)
    try:
        yield
    finally:
        slapd.modify(CAROL.dn, "delete: pwdPolicySubentry")
        slapd.modify(CAROL.dn, "replace: pwdReset")
        slapd.set_password(CAROL, CAROL.password)


def test_a_password_that_must_be_changed_is_changed_on_the_way_in(box, slapd):
    with under(slapd, "must", "add: pwdReset\npwdReset: TRUE"):
        terminal = Terminal(box, "carol", "id -un")
        terminal.expect(KBDINT)
        terminal.line(CAROL.password)
        terminal.expect("must be changed before the first login")
        terminal.expect("New password: $")
        terminal.line("short")
        terminal.expect("New password again: $")
        terminal.line("short")
        terminal.expect("too short")
        terminal.expect("New password: $")
        terminal.line(NEW)
        terminal.expect("New password again: $")
        terminal.line(NEW)
        session = terminal.finish()
        assert session.accepted and "carol" in session.transcript, session
        assert "Your password has been changed" in session.transcript
        assert box.wait_audit(event="password-change", user="carol")["result"] == "ok"
        assert box.wait_audit(event="auth", user="carol")["result"] == "ok"
        assert ssh_kbdint(box, "carol", [NEW], "true").accepted
        assert not ssh_kbdint(box, "carol", [CAROL.password], "true").accepted


def test_a_service_with_one_prompt_refuses_it(box, slapd):
    with under(slapd, "must", "add: pwdReset\npwdReset: TRUE"):
        assert box.pam("carol", answers=(CAROL.password, NEW, NEW)) == "PAM_NEW_AUTHTOK_REQD"
        box.wait_audit(event="auth", user="carol", result="denied", reason="must-change-password")


def test_a_program_that_knows_one_password_changes_none(box, slapd):
    """sshd's "password" method answers every question with it."""
    with under(slapd, "must", "add: pwdReset\npwdReset: TRUE"):
        assert not ssh_password(box, "carol", CAROL.password).accepted
        box.wait_audit(event="password-change", user="carol", result="denied", reason="password-not-changed")
        assert "pwdReset: TRUE" in slapd.search("(uid=carol)", "pwdReset")


def test_a_grace_login_offers_the_change(box, slapd):
    with under(slapd, "grace"):
        slapd.set_password(CAROL, CAROL.password)
        time.sleep(3.1)
        terminal = Terminal(box, "carol", "id -un")
        terminal.expect(KBDINT)
        terminal.line(CAROL.password)
        terminal.expect("has expired. It lets you in")
        terminal.expect("not now\\): $")
        terminal.line("")
        assert terminal.finish().accepted
        # Where nobody is asked, she is let in: her directory has decided so.
        assert box.pam("carol", answers=(CAROL.password,)) == "PAM_SUCCESS"
        # Nor is she kept out by what she does not manage to choose.
        session = ssh_kbdint(box, "carol", [CAROL.password] * 4, "id -un")
        assert session.accepted and "The new password is the old one." in session.transcript, session
        session = ssh_kbdint(box, "carol", [CAROL.password, NEW, NEW], "id -un")
        assert session.accepted, session
        assert ssh_kbdint(box, "carol", [NEW, ""], "true").accepted


def test_an_expired_password_without_grace_says_so(box, slapd):
    with under(slapd, "expiring"):
        slapd.set_password(CAROL, CAROL.password)
        time.sleep(2.1)
        session = ssh_kbdint(box, "carol", [CAROL.password], "true")
        assert not session.accepted
        assert "no longer lets you change it" in session.transcript, session
        assert "New password" not in session.transcript, "nobody is asked in vain"
        box.wait_audit(event="auth", user="carol", result="denied", reason="password-unchangeable")


def test_what_is_coming_is_said(box, slapd):
    with under(slapd, "warning"):
        slapd.set_password(CAROL, CAROL.password)
        time.sleep(2.1)
        session = ssh_kbdint(box, "carol", [CAROL.password], "true")
        assert session.accepted and "Your password expires in 9 days." in session.transcript, session


def test_shadow_s_dates(box, slapd):
    today = int(time.time() // 86_400)
    slapd.modify(BOB.dn, f"add: shadowLastChange\nshadowLastChange: {today - 100}", "add: shadowMax\nshadowMax: 90",
                 "add: shadowWarning\nshadowWarning: 95")
    try:
        assert box.pam("bob", answers=(BOB.password,)) == "PAM_NEW_AUTHTOK_REQD"
        box.wait_audit(event="auth", user="bob", reason="password-expired")
        session = ssh_kbdint(box, "bob", [BOB.password, NEW, NEW], "id -un")
        assert session.accepted, session
        assert f"shadowLastChange: {today}" in slapd.search("(uid=bob)", "shadowLastChange")
        session = ssh_kbdint(box, "bob", [NEW], "true")
        assert session.accepted and "expires in 91 days" in session.transcript, session
        slapd.modify(BOB.dn, f"replace: shadowLastChange\nshadowLastChange: {today - 100}",
                     "add: shadowInactive\nshadowInactive: 5")
        assert box.pam("bob", answers=(NEW,)) == "PAM_ACCT_EXPIRED"
        slapd.modify(BOB.dn, "delete: shadowInactive")
    finally:
        slapd.modify(BOB.dn, "delete: shadowLastChange", "delete: shadowMax", "delete: shadowWarning")
        slapd.set_password(BOB, BOB.password)
