"""People of a real OpenID provider log in over SSH by a device code, the first time and ever after."""

import re
import time

import pytest

from harness.oidc import CONFIDENTIAL, ISSUER, SECRET
from harness.product import OIDC
from harness.ssh import DEVICE_PROMPT, SOURCE, Terminal, authorize_key, public_key, ssh_key


@pytest.fixture
def box(make_gpubox, oidc):
    return make_gpubox(OIDC)


def log_in(box, oidc, user, command="true", account=None, **how):
    """A whole login: the code is read off the screen and approved in the browser, then Enter."""
    terminal = Terminal(box, user, command, **how)
    code = terminal.device_code()
    oidc.device.approve(code, account or user)
    terminal.line("")
    return terminal.finish()


def test_the_first_login_of_somebody_who_exists_nowhere_on_the_box(box, oidc):
    assert box.run(["getent", "passwd", "dave"], check=False).returncode == 2
    terminal = Terminal(box, "dave", "id; pwd; stat -c '%a %U' .")
    code = terminal.device_code()
    shown = terminal.text
    assert "gpu1" in shown and SOURCE in shown and f"{ISSUER}/device" in shown
    assert re.search(r"Code:\s*" + code, shown)
    oidc.device.approve(code, "dave")
    terminal.line("")
    session = terminal.finish()
    assert session.status == 0, session
    uid = int(re.search(r"uid=(\d+)\(dave\)", session.transcript)[1])
    assert 1_000_000_000 <= uid <= 1_999_999_999
    assert "(gpu-users)" in session.transcript and "(vision)" in session.transcript
    assert "/home/dave" in session.transcript and "700 dave" in session.transcript
    line = box.wait_audit(event="auth", user="dave")
    wanted = {"result": "ok", "uid": str(uid), "service": "sshd", "source": SOURCE, "method": "device-code",
              "backend": "sso", "reason": "ok"}
    assert line | wanted == line
    box.wait_audit(event="session-close", user="dave")
    # From now on everybody sees her, and she is the same the next time.
    assert box.out(["getent", "passwd", str(uid)]).split(":")[0] == "dave"
    assert f"uid={uid}(dave)" in log_in(box, oidc, "dave", "id").transcript


def test_nobody_sees_a_name_before_its_first_login(box, oidc):
    box.run(["useradd", "-m", "tess"])
    terminal = Terminal(box, "erin")
    terminal.device_code()
    for user in (None, "tess"):
        assert box.run(["getent", "passwd", "erin"], check=False, user=user).returncode == 2
    terminal.close()
    box.run(["useradd", "-m", "frank"])     # a name that every pattern allows is not taken


def test_enter_before_she_has_signed_in_waits_for_her(box, oidc):
    terminal = Terminal(box, "dave", "id -un")
    code = terminal.device_code()
    terminal.line("")
    time.sleep(1.5)
    oidc.device.approve(code, "dave")
    session = terminal.finish()
    assert session.status == 0, session


def test_somebody_else_signed_in_with_the_code(box, oidc):
    session = log_in(box, oidc, "dave", account="erin")
    assert not session.accepted
    assert "somebody else" in session.transcript
    box.wait_audit(event="auth", user="dave", result="denied", reason="wrong-subject", method="device-code")
    for name in ("dave", "erin"):
        assert box.run(["getent", "passwd", name], check=False).returncode == 2


def test_denied_in_the_browser(box, oidc):
    terminal = Terminal(box, "dave")
    oidc.device.deny(terminal.device_code())
    terminal.line("")
    session = terminal.finish()
    assert not session.accepted and "denied" in session.transcript
    box.wait_audit(event="auth", user="dave", result="denied", reason="denied-by-user")


def test_a_code_expires_and_a_fresh_one_too(box, oidc):
    oidc.restart(code_ttl=4)
    try:
        session = Terminal(box, "dave").press_enter(timeout=40)
        assert not session.accepted and session.transcript.count("Here is a fresh one.") == 1
        assert "Log in again for a new one." in session.transcript
        box.wait_audit(event="auth", user="dave", result="denied", reason="code-expired")
    finally:
        oidc.restart(code_ttl=120)


def test_a_fresh_code_is_as_good(box, oidc):
    oidc.restart(code_ttl=10)
    try:
        terminal = Terminal(box, "dave", "id -un", timeout=40)
        late = terminal.device_code()
        terminal.line("")
        fresh = terminal.device_code()
        assert fresh != late
        oidc.device.approve(fresh, "dave")
        terminal.line("")
        session = terminal.finish()
        assert session.status == 0, session
    finally:
        oidc.restart(code_ttl=120)


def test_a_login_that_is_hung_up_leaves_nothing_behind(box, oidc):
    terminal = Terminal(box, "dave")
    terminal.device_code()
    terminal.vanish()
    box.wait_audit(event="auth", user="dave", result="denied", reason="cancelled", timeout=10)
    polls = oidc.log().count("authorization_pending")
    time.sleep(2.5)
    assert oidc.log().count("authorization_pending") <= polls + 2, "nobody polls for a login that is gone"


def test_people_outside_the_domain_are_refused(box, oidc):
    session = log_in(box, oidc, "frank")
    assert not session.accepted
    box.wait_audit(event="auth", user="frank", result="denied", reason="not-allowed")
    assert box.run(["getent", "passwd", "frank"], check=False).returncode == 2


def test_names_that_do_not_match_the_pattern_get_no_code(make_gpubox, oidc):
    box = make_gpubox(OIDC + 'name_pattern = "[a-z]{3,8}"\n')
    for name in ("Dave", "d", "dave2", "backup-job-7"):
        terminal = Terminal(box, name)
        assert terminal.expect(r"Password: $", DEVICE_PROMPT) == 0
        terminal.close()
    assert log_in(box, oidc, "dave").accepted


def test_required_groups(make_gpubox, oidc):
    box = make_gpubox(OIDC.replace('allowed_domains = ["example.org"]', 'required_groups = ["vision"]'))
    assert log_in(box, oidc, "dave").accepted
    assert not log_in(box, oidc, "erin").accepted
    box.wait_audit(event="auth", user="erin", result="denied", reason="not-allowed")


def test_a_confidential_client(make_gpubox, oidc):
    config = OIDC.replace('"gpuhub"', f'"{CONFIDENTIAL}"') + 'client_secret_file = "/etc/gpuhub/oidc.secret"\n'
    box = make_gpubox(config, up=False)
    box.write_file("/etc/gpuhub/oidc.secret", SECRET + "\n", mode=0o640, owner="root:gpuhub")
    box.up()
    assert log_in(box, oidc, "dave").accepted


def test_the_email_as_the_name(make_gpubox, oidc):
    box = make_gpubox(OIDC + 'name_claim = "email"\n')
    assert log_in(box, oidc, "dave").accepted


def test_a_key_is_never_the_first_proof(box, oidc):
    """Her home is there already, on a shared file system, with her key in it."""
    box.run(["install", "-d", "-m", "755", "/home/dave/.ssh"])
    box.write_file("/home/dave/.ssh/authorized_keys", public_key(box.lan))
    box.stop("sshd", 9)
    box.start_sshd(StrictModes="no")
    assert not ssh_key(box, "dave").accepted
    assert box.run(["getent", "passwd", "dave"], check=False).returncode == 2


def test_a_key_works_after_the_first_login(box, oidc):
    assert log_in(box, oidc, "dave").accepted
    authorize_key(box, "dave", "/home/dave")
    assert ssh_key(box, "dave").accepted
    box.wait_audit(event="account", user="dave", result="ok", backend="sso")
    box.wait_audit(event="session-open", user="dave", method="publickey")


def test_the_same_id_in_two_boxes_that_saw_people_in_different_orders(make_gpubox, oidc):
    first, second = make_gpubox(OIDC, name="gpu1"), make_gpubox(OIDC, name="gpu2")
    for box, order in ((first, ("dave", "erin")), (second, ("erin", "dave"))):
        for name in order:
            assert log_in(box, oidc, name).accepted
    for name in ("dave", "erin"):
        assert first.out(["id", "-u", name]) == second.out(["id", "-u", name])
        assert first.out(["id", "-g", name]) == second.out(["id", "-g", name])
    assert first.out(["getent", "group", "gpu-users"]).split(":")[2] == \
        second.out(["getent", "group", "gpu-users"]).split(":")[2]
    assert first.out(["id", "-u", "dave"]) != first.out(["id", "-u", "erin"])


def test_a_claim_that_fixes_her_uid(make_gpubox, oidc):
    box = make_gpubox(OIDC + 'uid_claim = "uid_number"\n')
    oidc.set_accounts({**oidc.accounts, "dave": {**oidc.accounts["dave"], "uid_number": 23001}})
    # sshd acts on the uid that was computed from the name; the second time it is the right one.
    first = log_in(box, oidc, "dave", "id -u")
    assert not first.accepted and "again" in first.transcript, first
    box.wait_audit(event="auth", user="dave", result="denied", reason="entry-changed")
    second = log_in(box, oidc, "dave", "id -u")
    assert second.status == 0 and "23001" in second.transcript, second
    # Without the claim another id would be computed, and be hers for good.
    refused = log_in(box, oidc, "erin", "id -u")
    assert not refused.accepted
    box.wait_audit(event="auth", user="erin", result="denied", reason="entry-refused")


def test_who_was_bound_stays_bound_after_a_restart(box, oidc):
    assert log_in(box, oidc, "dave").accepted
    before = box.out(["id", "dave"])
    box.stop_broker(9)
    box.restart_broker()
    assert box.out(["id", "dave"]) == before
    # A name given to somebody else at the provider: not she.
    accounts = dict(oidc.accounts)
    accounts["dave"] = {**accounts["dave"], "sub": "another-person-0002"}
    oidc.set_accounts(accounts)
    session = log_in(box, oidc, "dave")
    assert not session.accepted
    box.wait_audit(event="auth", user="dave", result="denied", reason="name-taken")


def test_groups_follow_the_provider(box, oidc):
    assert "vision" in log_in(box, oidc, "dave", "id -Gn").transcript
    accounts = dict(oidc.accounts)
    accounts["dave"] = {**accounts["dave"], "groups": ["gpu-users", "sudo", "docker", "root"]}
    oidc.set_accounts(accounts)
    session = log_in(box, oidc, "dave", "echo groups=$(id -Gn)")
    assert session.accepted, session
    groups = re.search(r"groups=(.*)", session.transcript)[1].split()
    assert "gpu-users" in groups and not {"vision", "sudo", "docker", "root"} & set(groups)


def test_a_token_with_ten_thousand_groups(box, oidc):
    accounts = dict(oidc.accounts)
    accounts["dave"] = {**accounts["dave"], "groups": [f"group-{n:05}" for n in range(10_000)]}
    oidc.set_accounts(accounts)
    session = log_in(box, oidc, "dave", "echo count=$(id -G | wc -w)")
    assert session.status == 0 and "count=10001" in session.transcript, session
    assert box.out(["getent", "group", "group-09999"]).endswith(":dave")
    # And none of them once the provider says so.
    accounts["dave"] = {**accounts["dave"], "groups": ["gpu-users"]}
    oidc.set_accounts(accounts)
    assert "count=2" in log_in(box, oidc, "dave", "echo count=$(id -G | wc -w)").transcript


def test_groups_and_roles_by_rule_and_a_local_group_by_explicit_rule(make_gpubox, oidc):
    box = make_gpubox(OIDC + """groups_claim = ["groups", "realm_access.roles"]
group_rules = [
  { claim = "realm_access.roles", match = "gpu-(.*)", name = "role-$1" },
  { claim = "realm_access.roles", match = ".*" },
  { match = "lab/(.*)", name = "lab.$1" },
]
[[local_group]]
name = "video"
groups = ["role-user"]
""", up=False)
    video = box.out(["getent", "group", "video"]).split(":")[2]
    box.write_file("/etc/gpuhub/extra-gids", f"{video}\n")
    box.up()
    roles = {"roles": ["gpu-user", "offline_access", "video"]}
    accounts = dict(oidc.accounts)
    accounts["dave"] = {**accounts["dave"], "groups": ["lab/vision", "render", "sudo"], "realm_access": roles}
    oidc.set_accounts(accounts)
    session = log_in(box, oidc, "dave", "echo groups=$(id -Gn)")
    groups = set(re.search(r"groups=(.*)", session.transcript)[1].split())
    # `render` is the box's own, and `video` is joined by the rule alone.
    assert groups == {"dave", "lab.vision", "role-user", "video"}, session
    assert box.out(["getent", "group", "role-user"]).endswith(":dave")
    accounts["dave"] = {**accounts["dave"], "realm_access": {"roles": ["video"]}}
    oidc.set_accounts(accounts)
    session = log_in(box, oidc, "dave", "echo groups=$(id -Gn)")
    assert set(re.search(r"groups=(.*)", session.transcript)[1].split()) == {"dave", "lab.vision"}, session


def test_no_code_where_nobody_waits(box, oidc):
    assert log_in(box, oidc, "dave").accepted
    asked = oidc.log().count("device_authorization")
    for service in ("jupyterhub", "sudo", "cron"):
        box.write_file(f"/etc/pam.d/{service}", "auth required pam_gpuhub.so\naccount required pam_gpuhub.so\n")
        start = time.monotonic()
        assert box.pam("dave", answers=("anything",), service=service) != "PAM_SUCCESS"
        assert time.monotonic() - start < 10
    assert oidc.log().count("device_authorization") == asked
    box.wait_audit(event="auth", user="dave", service="jupyterhub", reason="no-interactive-service")


def test_su_shows_a_code_too(box, oidc):
    assert log_in(box, oidc, "dave").accepted
    box.run(["useradd", "-m", "-s", "/bin/bash", "tess"])
    child = box.spawn(["su", "dave", "-c", "id -un"], user="tess")
    child.expect(DEVICE_PROMPT)
    oidc.device.approve(re.findall(r"Code:\s*([A-Z0-9]{4}-[A-Z0-9]{4})", child.before)[-1], "dave")
    child.sendline("")
    child.expect("dave\r\n")
    child.close()
    box.wait_audit(event="auth", user="dave", service="su", result="ok", method="device-code")


def test_two_people_at_once(box, oidc):
    terminals = {name: Terminal(box, name, "id -un") for name in ("dave", "erin")}
    codes = {name: terminal.device_code() for name, terminal in terminals.items()}
    assert codes["dave"] != codes["erin"]
    for name in ("erin", "dave"):
        oidc.device.approve(codes[name], name)
        terminals[name].line("")
    for name, terminal in terminals.items():
        session = terminal.finish()
        assert session.status == 0 and name in session.transcript, session


def test_no_code_or_token_is_in_any_log(box, oidc):
    terminal = Terminal(box, "dave", "true")
    code = terminal.device_code()
    oidc.device.approve(code, "dave")
    terminal.line("")
    assert terminal.finish().accepted
    everything = str(box.syslog()) + box.log("gpuhubd").read_text() + box.read_file("/var/log/sshd.log")
    assert code not in everything and "eyJ" not in everything
    assert box.run(["grep", "-rqF", "eyJ", "/var/lib/gpuhub", "/run/gpuhub"], check=False).returncode == 1


def test_the_provider_away(box, oidc):
    for fault in ("stop", "suspend"):
        getattr(oidc, fault)()
        start = time.monotonic()
        assert box.pam("dave", answers=("x",), service="sshd") == "PAM_AUTHINFO_UNAVAIL"
        assert time.monotonic() - start < 30
        box.wait_audit(event="auth", user="dave", reason="backend-unavailable")
        if fault == "stop":
            oidc.start()
    oidc.resume()
    assert log_in(box, oidc, "dave").accepted
