"""People of a real OpenID provider where no device code can be shown: JupyterHub's form, sudo, scripts."""

import re
import time

import pytest

from harness import product, roots
from harness.hub import PAM_SERVICE, Hub
from harness.product import OIDC
from harness.ssh import Terminal

PASSCODE = "correct Horse"
ON = OIDC + """
[passcode]
enabled = true
one_time = true
"""
OFFER = r"New passcode \(Enter alone: none\): $"


def sign_in(box, oidc, user, *answers, command="true", account=None):
    """A login by device code; then the answers to what is asked after it, each expected as (pattern, line)."""
    terminal = Terminal(box, user, command)
    code = terminal.device_code()
    oidc.device.approve(code, account or user)
    terminal.line("")
    for pattern, line in answers:
        terminal.expect(pattern)
        terminal.line(line)
    session = terminal.finish()
    assert session.accepted, session
    return session


def declined(box, oidc, user):
    return sign_in(box, oidc, user, (OFFER, ""))


def with_passcode(box, oidc, user, passcode=PASSCODE):
    return sign_in(box, oidc, user, (OFFER, passcode), (r"again: $", passcode))


def a_box(make_gpubox, more="", config=ON):
    box = make_gpubox(config + more)
    box.write_file("/etc/pam.d/jupyterhub", PAM_SERVICE)
    return box


def form(box, user, answer):
    """What a program that has one password makes of it, from its question to its session."""
    return box.pam(user, "authenticate", "acct_mgmt", answers=(answer,), service="jupyterhub")


@pytest.fixture(scope="module")
def hub(lan, ca, package, oidc_session):
    box = product.GpuBox(lan, "hub", roots.HUB)
    box.configure(ON, ca)
    box.up()
    running = Hub(box, open_sessions=True).start()
    yield running
    box.close()


def test_a_passcode_that_is_set_at_the_end_of_a_sign_in_opens_the_hub(hub, oidc):
    box = hub.box
    assert not hub.login("dave", PASSCODE).accepted, "nobody yet"
    session = sign_in(box, oidc, "dave", (OFFER, "short"), (OFFER, PASSCODE), (r"again: $", PASSCODE), command="id -u")
    assert "too short" in session.transcript and "has been set" in session.transcript, session
    uid = int(re.search(r"^(\d+)\s*$", session.transcript, re.M)[1])
    visit = hub.login("dave", PASSCODE)
    assert visit.accepted, visit.text
    assert visit.spawn_and_wait().identity()["uids"] == [uid]
    visit.stop_server()
    line = box.wait_audit(event="passcode-set", user="dave")
    assert line["result"] == "ok" and line["uid"] == str(uid) and "sign-in" in line["detail"]
    line = box.wait_audit(event="auth", user="dave", service="jupyterhub", result="ok")
    assert line | {"method": "passcode", "backend": "sso", "uid": str(uid), "reason": "ok"} == line


def test_a_wrong_passcode_none_and_nobody_are_refused_alike_by_the_hub(hub, oidc):
    declined(hub.box, oidc, "erin")
    pages = {name: hub.login(name, "wrong Horse") for name in ("dave", "erin", "nemo")}
    assert not any(page.accepted for page in pages.values())
    assert len({page.text.replace(name, "X") for name, page in pages.items()}) == 1
    for name, reason in (("dave", "wrong-password"), ("erin", "no-passcode"), ("nemo", "unknown-user")):
        hub.box.wait_audit(event="auth", user=name, service="jupyterhub", reason=reason)
    assert hub.login("dave", PASSCODE).accepted


def test_a_one_time_code_lets_in_once(hub, oidc):
    declined_lately = sign_in(hub.box, oidc, "erin", command="gpuhub passcode once")
    code = re.search(r"^([0-9A-Z]{5}-[0-9A-Z]{5})\s*$", declined_lately.transcript, re.M)[1]
    assert hub.login("erin", code.lower()).accepted
    assert not hub.login("erin", code).accepted
    line = hub.box.wait_audit(event="auth", user="erin", service="jupyterhub", result="ok")
    assert line["method"] == "one-time-code"
    hub.box.wait_audit(event="passcode-once", user="erin", result="ok")
    hub.box.wait_audit(event="auth", user="erin", service="jupyterhub", result="denied", reason="no-passcode", count=2)


def test_a_one_time_code_expires(make_gpubox, oidc):
    box = a_box(make_gpubox, 'one_time_life = "2s"\n')
    declined(box, oidc, "dave")
    code = box.gpuhub("passcode", "once", user="dave").stdout.strip()
    time.sleep(2.5)
    assert form(box, "dave", code) == "PAM_AUTH_ERR"
    box.wait_audit(event="auth", user="dave", service="jupyterhub", reason="no-passcode")


def test_wrong_ones_are_counted_across_a_restart_until_she_signs_in(make_gpubox, oidc):
    box = a_box(make_gpubox, "tries = 2\n")
    with_passcode(box, oidc, "dave")
    for _ in range(2):
        assert form(box, "dave", "wrong") == "PAM_AUTH_ERR"
    box.restart_broker()
    assert form(box, "dave", PASSCODE) == "PAM_AUTH_ERR"
    box.wait_audit(event="auth", user="dave", service="jupyterhub", reason="passcode-locked")
    assert "locked" in box.gpuhub("passcode", "status", user="dave").stdout
    sign_in(box, oidc, "dave")
    assert form(box, "dave", PASSCODE) == "PAM_SUCCESS"


def test_her_uid_alone_sets_nothing(make_gpubox, oidc):
    box = a_box(make_gpubox)
    box.run(["useradd", "-m", "tess"])
    declined(box, oidc, "dave")
    box.restart_broker()        # which knows of no sign-in just before
    refused = box.gpuhub("passcode", "set", "--stdin", user="dave", input=PASSCODE + "\n", check=False)
    assert refused.returncode == 1 and "Sign in by SSH" in refused.stderr
    assert box.gpuhub("passcode", "once", user="dave", check=False).returncode == 1
    for event in ("passcode-set", "passcode-once"):
        box.wait_audit(event=event, user="dave", result="denied", reason="sign-in-needed")
    sign_in(box, oidc, "dave")
    for other in ("tess", None):
        assert box.gpuhub("passcode", "set", "--stdin", user=other, input=PASSCODE + "\n", check=False).returncode == 1
    box.gpuhub("passcode", "set", "--stdin", user="dave", input=PASSCODE + "\n")
    assert form(box, "dave", PASSCODE) == "PAM_SUCCESS"
    # The window was for one thing; what else she wants takes the passcode, asked at her terminal.
    again = box.gpuhub("passcode", "set", "--stdin", user="dave", input="another Horse\n", check=False)
    assert again.returncode == 1
    child = box.spawn(["gpuhub", "passcode", "set"], user="dave")
    for answer in (PASSCODE, "another Horse", "another Horse"):
        child.expect(r": $")
        child.sendline(answer)
    child.expect("\r\n$")
    child.wait()
    assert child.exitstatus == 0, child.before
    assert form(box, "dave", PASSCODE) == "PAM_AUTH_ERR" and form(box, "dave", "another Horse") == "PAM_SUCCESS"
    told = sign_in(box, oidc, "dave").transcript
    assert "A passcode was set for you on" in told and "A passcode was" not in sign_in(box, oidc, "dave").transcript
    box.gpuhub("passcode", "clear", user="dave")
    assert form(box, "dave", "another Horse") == "PAM_AUTH_ERR"
    box.wait_audit(event="passcode-clear", user="dave", result="ok")


def test_an_old_sign_in_is_no_basis_for_anything(make_gpubox, oidc):
    box = a_box(make_gpubox, 'sign_in_every = "2s"\n')
    with_passcode(box, oidc, "dave")
    time.sleep(2.5)
    assert form(box, "dave", PASSCODE) == "PAM_AUTH_ERR"
    box.wait_audit(event="auth", user="dave", service="jupyterhub", reason="sign-in-needed")


def test_root_clears_what_somebody_has(make_gpubox, oidc):
    box = a_box(make_gpubox)
    with_passcode(box, oidc, "dave")
    assert "a passcode, set on" in box.gpuhub("passcode", "status", "dave").stdout
    box.gpuhub("passcode", "clear", "dave")
    assert form(box, "dave", PASSCODE) == "PAM_AUTH_ERR"


def test_sudo_takes_it_only_where_the_configuration_says_so(make_gpubox, oidc):
    for more, accepted in (("", False), ('services = ["sudo"]\n', True)):
        box = a_box(make_gpubox, more)
        box.write_file("/etc/sudoers.d/dave", "dave ALL=(ALL) ALL\nDefaults passwd_tries=1\n", mode=0o440)
        with_passcode(box, oidc, "dave")
        child = box.spawn(["sudo", "-k", "id", "-un"], user="dave", timeout=30)
        child.expect(r"[Pp]assword.*: $")
        child.sendline(PASSCODE)
        child.expect_exact("root\r\n") if accepted else child.expect("\r\n.*(sudo|PAM).*")
        child.wait()
        assert (child.exitstatus == 0) == accepted
        reason = "ok" if accepted else "no-interactive-service"
        box.wait_audit(event="auth", user="dave", service="sudo", reason=reason)
        box.close()


def test_neither_passcode_nor_code_is_in_any_log_or_file(make_gpubox, oidc):
    box = a_box(make_gpubox)
    with_passcode(box, oidc, "dave", "Sesame-open-0815")
    sign_in(box, oidc, "dave")
    code = box.gpuhub("passcode", "once", user="dave").stdout.strip()
    assert form(box, "dave", code) == "PAM_SUCCESS" and form(box, "dave", "Sesame-open-0815") == "PAM_SUCCESS"
    everything = str(box.syslog()) + box.log("gpuhubd").read_text() + box.read_file("/var/log/sshd.log")
    for secret in ("Sesame-open-0815", code, code.replace("-", "")):
        assert secret not in everything
        assert box.run(["grep", "-rqF", secret, "/var/lib/gpuhub", "/run/gpuhub"], check=False).returncode == 1


def test_a_passcode_before_the_code(make_gpubox, oidc):
    """A stranger who starts a login in her name gets no code that he could send her."""
    box = make_gpubox(ON.replace("[passcode]", "ask_passcode_first = true\n\n[passcode]"))
    first = r"Passcode \(Enter alone if you have none\): $"
    terminal = Terminal(box, "dave", "true")
    terminal.expect(first)
    terminal.line("")
    oidc.device.approve(terminal.device_code(), "dave")
    terminal.line("")
    for pattern, line in ((OFFER, PASSCODE), (r"again: $", PASSCODE)):
        terminal.expect(pattern)
        terminal.line(line)
    assert terminal.finish().accepted
    requested = oidc.log().count("device_authorization")
    screens = {}
    for name, answer in (("dave", "wrong Horse"), ("dave", ""), ("erin", "wrong Horse"), ("nemo", "wrong Horse")):
        terminal = Terminal(box, name, "true")
        terminal.expect(first)
        terminal.line(answer)
        session = terminal.finish()
        assert not session.accepted and "Code:" not in session.transcript, session
        screens[name, answer] = session.transcript.replace(name, "X")
    assert len(set(screens.values())) == 1, screens
    assert oidc.log().count("device_authorization") == requested
    box.wait_audit(event="auth", user="dave", service="sshd", reason="wrong-password", method="passcode", count=2)
    terminal = Terminal(box, "dave", "id -un")
    terminal.expect(first)
    terminal.line(PASSCODE)
    oidc.device.approve(terminal.device_code(), "dave")
    terminal.line("")
    session = terminal.finish()
    assert session.status == 0 and "dave" in session.transcript, session


def test_an_id_token_as_the_password(make_gpubox, oidc):
    config = OIDC + "id_token_as_password = true\n"
    box = a_box(make_gpubox, config=config)
    token = oidc.id_token("dave")
    assert form(box, "dave", token) == "PAM_SUCCESS"
    line = box.wait_audit(event="auth", user="dave", service="jupyterhub", result="ok")
    assert line["method"] == "id-token" and line["backend"] == "sso"
    assert box.out(["getent", "passwd", "dave"])
    for name, given, reason in (("dave", oidc.id_token("dave", client="another-app"), "wrong-audience"),
                                ("dave", oidc.id_token("erin"), "wrong-subject"),
                                ("dave", token[:-8] + "AAAAAAAA", "bad-token"),
                                ("frank", oidc.id_token("frank"), "not-allowed")):
        assert form(box, name, given) != "PAM_SUCCESS"
        box.wait_audit(event="auth", user=name, service="jupyterhub", reason=reason, method="id-token")
    assert form(box, "dave", "anything else") != "PAM_SUCCESS"
    everything = str(box.syslog()) + box.log("gpuhubd").read_text()
    assert "eyJ" not in everything
    assert box.run(["grep", "-rqF", "eyJ", "/var/lib/gpuhub", "/run/gpuhub"], check=False).returncode == 1


def test_an_old_id_token_or_one_where_they_are_not_wanted(make_gpubox, oidc):
    token = oidc.id_token("dave")
    box = a_box(make_gpubox)
    assert form(box, "dave", token) != "PAM_SUCCESS"
    box.wait_audit(event="auth", user="dave", service="jupyterhub", reason="unknown-user")
    box.close()
    box = a_box(make_gpubox, config=OIDC + 'id_token_as_password = true\nid_token_max_age = "1s"\nleeway = "1s"\n')
    time.sleep(2.5)
    assert form(box, "dave", token) != "PAM_SUCCESS"
    box.wait_audit(event="auth", user="dave", service="jupyterhub", reason="token-expired")
    assert form(box, "dave", oidc.id_token("dave")) == "PAM_SUCCESS"
