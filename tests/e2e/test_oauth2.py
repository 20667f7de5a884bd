"""People of a real provider without ID tokens (Django OAuth Toolkit), alone and beside an OpenID provider."""

import pytest

from harness.dot import ISSUER
from harness.product import CA, OAUTH2, OIDC
from harness.ssh import DEVICE_PROMPT, Terminal

# The same provider, taken for one of OpenID Connect.
AS_OIDC = OAUTH2.replace('kind = "oauth2"', 'kind = "oidc"')


def log_in(box, provider, user, command="true", account=None):
    terminal = Terminal(box, user, command)
    provider.approve(terminal.device_code(), account or user.partition("@")[0])
    terminal.line("")
    return terminal.finish()


def test_identity_from_userinfo(make_gpubox, dot):
    box = make_gpubox(OAUTH2)
    terminal = Terminal(box, "dave", "id; pwd")
    code = terminal.device_code()
    assert f"{ISSUER}/device/" in terminal.text
    dot.approve(code, "dave")
    terminal.line("")
    session = terminal.finish()
    assert session.status == 0, session
    assert "(gpu-users)" in session.transcript and "(vision)" in session.transcript and "/home/dave" in session.transcript
    box.wait_audit(event="auth", user="dave", result="ok", method="device-code", backend="second", reason="ok")
    assert box.out(["getent", "passwd", "dave"]).split(":")[4] == "Dave Dunn"
    # She is her number there, whatever she is called.
    assert log_in(box, dot, "dave", "id -un").accepted


def test_openid_connect_refuses_an_answer_without_an_id_token(make_gpubox, dot):
    box = make_gpubox(AS_OIDC)
    session = log_in(box, dot, "dave")
    assert not session.accepted and "could not be verified" in session.transcript
    box.wait_audit(event="auth", user="dave", result="denied", reason="no-id-token", backend="second")
    assert box.run(["getent", "passwd", "dave"], check=False).returncode == 2


def test_denied_somebody_else_and_outside_the_domain(make_gpubox, dot):
    box = make_gpubox(OAUTH2)
    terminal = Terminal(box, "dave")
    dot.deny(terminal.device_code(), "dave")
    terminal.line("")
    assert not terminal.finish().accepted
    box.wait_audit(event="auth", user="dave", reason="denied-by-user")
    assert not log_in(box, dot, "erin", account="dave").accepted
    box.wait_audit(event="auth", user="erin", reason="wrong-subject")
    assert not log_in(box, dot, "frank").accepted
    box.wait_audit(event="auth", user="frank", reason="not-allowed")


def test_two_providers_by_the_end_of_the_name(make_gpubox, oidc, dot):
    partner = OAUTH2 + 'name_suffix = "@partner.example"\ngroup_rules = [{ match = ".*", name = "partner-$0" }]\n'
    box = make_gpubox(OIDC + partner)
    theirs = log_in(box, dot, "dave@partner.example", "id")
    assert theirs.status == 0 and "(partner-vision)" in theirs.transcript, theirs
    ours = log_in(box, oidc.device, "dave", "id")
    assert ours.status == 0 and "(vision)" in ours.transcript, ours
    lines = [box.wait_audit(event="auth", user=user, result="ok") for user in ("dave", "dave@partner.example")]
    assert [line["backend"] for line in lines] == ["sso", "second"] and lines[0]["uid"] != lines[1]["uid"]
    # Nobody of the one provider is somebody of the other.
    terminal = Terminal(box, "erin@elsewhere.example")
    assert terminal.expect(r"Password: $", DEVICE_PROMPT) == 0
    terminal.close()


def test_the_doctor_sees_it(make_gpubox, dot):
    box = make_gpubox(OAUTH2)
    assert f"{ISSUER} answers" in box.run(["gpuhubd", "--check"], check=False).stdout


@pytest.mark.parametrize("kind, lines", [
    ("oidc", 'issuer = "https://x.test"'), ("oauth2", 'issuer = "https://x.test"'), ("google", ""), ("github", ""),
    ("entra", 'tenant = "organizations"\nstrip_domains = ["x.test"]')])
def test_an_open_door_is_no_configuration(make_gpubox, kind, lines):
    box = make_gpubox(f'[[provider]]\nname = "p"\nkind = "{kind}"\nclient_id = "c"\nca_file = "{CA}"\n{lines}\n', up=False)
    done = box.run(["gpuhubd", "--check"], check=False)
    assert done.returncode != 0 and "allow_anyone = true" in done.stdout + done.stderr, done
