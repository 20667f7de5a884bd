"""Device logins as life has them: two at once of one person, a stranger's flood, a broker that dies meanwhile, a
provider with new keys, names of the box's own, and login(1) on a terminal."""

import concurrent.futures
import re
import time

import pexpect
import pytest
from test_clients import is_as_it_should_be

from harness import wire
from harness.product import LDAP, OIDC
from harness.slapd import ALICE
from harness.ssh import DEVICE_PROMPT, Terminal, ssh_kbdint

STRANGER = "127.0.6.66"


@pytest.fixture
def box(make_gpubox, oidc):
    return make_gpubox(OIDC)


def log_in(box, oidc, user, command="id -u"):
    terminal = Terminal(box, user, command)
    oidc.device.approve(terminal.device_code(), user)
    terminal.line("")
    return terminal.finish()


def number(session):
    assert session.status == 0, session
    return re.findall(r"^(\d+)$", session.transcript, re.M)[-1]


# ---- two logins of one person -------------------------------------------------------------------

def test_two_first_logins_of_one_person_at_once(box, oidc):
    terminals = [Terminal(box, "dave", "id -u") for _ in range(2)]
    codes = [terminal.device_code() for terminal in terminals]
    assert codes[0] != codes[1]
    for code in codes:
        oidc.device.approve(code, "dave")
    for terminal in terminals:
        terminal.line("")
    uids = {number(terminal.finish()) for terminal in terminals}
    assert len(uids) == 1 and box.out(["getent", "passwd", "dave"]).split(":")[2] in uids
    box.wait_audit(event="auth", user="dave", result="ok", count=2)


def test_each_of_two_logins_ends_as_its_own_code_does(box, oidc):
    """One is approved by her; the other is denied, then approved by somebody else."""
    for spoil, reason in ((lambda code: oidc.device.deny(code), "denied-by-user"),
                          (lambda code: oidc.device.approve(code, "erin"), "wrong-subject")):
        hers, other = Terminal(box, "dave", "id -un"), Terminal(box, "dave", "id -un")
        good, bad = hers.device_code(), other.device_code()
        spoil(bad)
        oidc.device.approve(good, "dave")
        # The spoiled one first: its end must not end hers, nor hers let it in.
        other.line("")
        refused = other.finish()
        assert not refused.accepted, refused
        box.wait_audit(event="auth", user="dave", result="denied", reason=reason)
        hers.line("")
        assert hers.finish().status == 0


# ---- a flood ------------------------------------------------------------------------------------

def test_200_logins_from_one_source_block_nobody_else(make_gpubox, oidc, slapd):
    box = make_gpubox(LDAP + OIDC)
    box.add_user("ada", "first-Passw0rd")
    # Not by 200 ssh clients, of which sshd's MaxStartups would refuse most: by what they would make the module send.
    connections = [wire.Connection(box) for _ in range(200)]
    asked = oidc.log().count("device_authorization")

    def begin(n):
        context = {"user": f"dave{n}" if n < 150 else "dave", "service": "sshd", "source": STRANGER}
        step = connections[n].call("Begin", {"purpose": "authenticate", "context": context})
        return "prompt" in step["parameters"]["next"]

    with concurrent.futures.ThreadPoolExecutor(20) as strangers:
        waiting = sum(strangers.map(begin, range(200)))
    assert waiting == 20 and oidc.log().count("device_authorization") - asked == 20, "the rest cost the provider nothing"
    box.wait_audit(event="auth", source=STRANGER, reason="busy", count=180, timeout=20)
    # Out of a password directory, of the builtin one, and of the same provider, under a name that the stranger tried.
    assert ssh_kbdint(box, "alice", [ALICE.password], "id -un").status == 0
    assert ssh_kbdint(box, "ada", ["first-Passw0rd"], "id -un").status == 0
    assert log_in(box, oidc, "dave").status == 0
    assert len([1 for line in box.audit(event="auth", source=STRANGER) if line["reason"] == "busy"]) == 180
    # They hang up, and the places are free at once.
    for connection in connections:
        connection.close()
    box.wait_audit(event="auth", source=STRANGER, reason="cancelled", count=20, timeout=20)
    terminal = Terminal(box, "erin", source=STRANGER)
    terminal.device_code()
    terminal.close()


# ---- the broker dies ----------------------------------------------------------------------------

@pytest.mark.parametrize("pressed", [False, True], ids=["before-enter", "after-enter"])
def test_a_broker_that_is_restarted_in_the_middle(box, oidc, pressed):
    with wire.Connection(box) as sshd:
        promised = str(sshd.call("GetUser", {"name": "dave", "login": True})["parameters"]["user"]["uid"])
    terminal = Terminal(box, "dave", "id -u")
    code = terminal.device_code()
    if pressed:
        terminal.line("")
        time.sleep(0.5)
    box.stop_broker(9)
    box.restart_broker()
    # She approves, and it is of no use: who asked for the code is gone.
    oidc.device.approve(code, "dave")
    start = time.monotonic()
    if not pressed:
        terminal.line("")
    refused = terminal.finish(timeout=20)
    assert not refused.accepted and time.monotonic() - start < 10, refused
    assert box.run(["getent", "passwd", "dave"], check=False).returncode == 2
    # Nothing is left of it: the next one is a first login like any, with the id that was promised before.
    assert number(log_in(box, oidc, "dave")) == promised


# ---- the provider's keys ------------------------------------------------------------------------

def test_keys_that_are_rotated_between_two_logins(box, oidc):
    assert log_in(box, oidc, "dave").status == 0
    asked = oidc.log().count(" jwks ")
    assert log_in(box, oidc, "dave").status == 0
    assert oidc.log().count(" jwks ") == asked, "kept, not fetched for each login"
    oidc.rotate_keys()
    try:
        assert log_in(box, oidc, "dave").status == 0
        assert oidc.log().count(" jwks ") == asked + 1
    finally:
        oidc.first_keys()


# ---- the box's own people -----------------------------------------------------------------------

def test_the_name_of_a_system_account_is_never_a_provider_s(box, oidc):
    """Though the provider has people of that name, whom it vouches for."""
    box.run(["useradd", "-m", "tess"])
    local = box.read_file("/etc/passwd")
    oidc.set_accounts({**oidc.accounts, **{
        name: {**oidc.accounts["dave"], "email": f"{name}@example.org", "preferred_username": name}
        for name in ("daemon", "tess")}})
    for name in ("daemon", "tess"):
        terminal = Terminal(box, name)
        assert terminal.expect(DEVICE_PROMPT, r"assword: $") == 1, terminal.text
        terminal.close()
        # And what if the module had asked all the same?
        with wire.Connection(box) as sshd:
            assert "error" in sshd.call("GetUser", {"name": name, "login": True})
        with wire.Connection(box) as module:
            step = module.call("Begin", {"purpose": "authenticate", "context": {"user": name, "service": "sshd"}})
            code = re.search(r"Code: (\S+)", step["parameters"]["next"]["prompt"]["text"])
            if code:
                oidc.device.approve(code[1], name, oidc.accounts["dave"]["password"])
            step = module.call("Answer", {"secret": [] if code else list(b"anything")})
            assert step["parameters"]["next"]["done"] != "success", step
    assert box.out(["getent", "passwd"]) == local.rstrip("\n")


# ---- login(1) -----------------------------------------------------------------------------------

def test_login_on_a_terminal_of_80_columns(box, oidc):
    assert log_in(box, oidc, "dave").status == 0
    for command in (["login", "dave"], ["login"]):
        child = box.spawn(command, timeout=30)
        child.setwinsize(24, 80)
        if len(command) == 1:
            child.expect("login: ")
            child.sendline("dave")
        assert child.expect([DEVICE_PROMPT, pexpect.EOF]) == 0, child.before
        oidc.device.approve(is_as_it_should_be(child.before), "dave")
        child.sendline("")
        child.expect(r"\$ ")
        child.sendline("id -un; echo $((6 * 7)) columns $(tput cols 2>/dev/null || stty size)")
        child.expect(r"dave\r\n42 columns .*80\r\n")
        child.sendline("exit")
        child.expect(pexpect.EOF)
    box.wait_audit(event="auth", user="dave", service="login", result="ok", method="device-code", count=2)
    # It asks PAM before it asks for the name, so that nobody could be promised an entry: a first login takes two.
    for end in ("(?i)again|incorrect", r"\$ "):
        child = box.spawn(["login", "erin"], timeout=30)
        assert child.expect([DEVICE_PROMPT, pexpect.EOF]) == 0, child.before
        oidc.device.approve(is_as_it_should_be(child.before.replace("as erin", "as dave")), "erin")
        child.sendline("")
        child.expect(end)
        child.close(force=True)
    box.wait_audit(event="auth", user="erin", result="denied", reason="entry-changed")
    box.wait_audit(event="auth", user="erin", service="login", result="ok")
