"""Each authentication, denial, session and change is one line in syslog, and no secret is ever in any."""

import json
import time

from harness import product
from harness.ssh import SOURCE, Terminal, quick_try, ssh_kbdint

PASSWORD = "first-Passw0rd"


def test_a_login_from_its_beginning_to_its_end(make_gpubox):
    box = make_gpubox()
    box.wait_audit(event="broker-start")
    box.add_user("ada", PASSWORD)
    terminal = Terminal(box, "ada", None)
    terminal.expect(r"Password: $")
    terminal.line(PASSWORD)
    terminal.expect(r"\$ $")
    opened = box.wait_audit(event="session-open", user="ada")
    time.sleep(1.2)
    terminal.line("exit")
    assert terminal.finish().status == 0
    closed = box.wait_audit(event="session-close", user="ada")
    uid = box.out(["id", "-u", "ada"])
    for line in (opened, closed):
        assert line["service"] == "sshd" and line["source"] == SOURCE and line["uid"] == uid
    assert opened["session"] == closed["session"] != ""
    assert 1 <= float(closed["duration_s"]) < 30
    events = [line["event"] for line in box.audit(user="ada") if line["event"] != "password-change"]
    assert events.index("auth") < events.index("account") < events.index("session-open") < events.index("session-close")
    entry = next(entry for entry in box.syslog() if 'event="auth"' in entry["message"])
    assert entry["facility"] == "authpriv" and entry["host"] == "gpu1" and entry["time"]
    assert entry["tag"].startswith("gpuhubd[")
    box.stop_broker()
    box.wait_audit(event="broker-stop")


def test_the_time_is_local_time(make_gpubox):
    box = make_gpubox(up=False)
    box.run("ln -sf /usr/share/zoneinfo/Etc/GMT-5 /etc/localtime || true")
    if not box.exists("/etc/localtime"):
        box.write_file("/etc/localtime", b"TZif2" + bytes(15) + bytes(24) + b"TZif2" + bytes(15)
                       + b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4"
                       + b"\0\0\x46\x50\0\0+05\0\n<+05>-5\n")
    box.up(sshd=False)
    box.wait_audit(event="broker-start")
    entry = next(entry for entry in box.syslog() if 'event="broker-start"' in entry["message"])
    assert box.out(["date", "+%H"]) == entry["raw"].split(">")[1].split()[2][:2], entry


def test_a_denial_says_why(make_gpubox):
    box = make_gpubox('[access]\ndeny_users = ["carl"]\n')
    box.add_user("ada", PASSWORD)
    box.add_user("carl", PASSWORD)
    for user, answer, reason in (("ada", "wrong", "wrong-password"), ("ada", "", "empty-password"),
                                 ("nobody-here", "x", "unknown-user"), ("carl", PASSWORD, "not-allowed")):
        assert not quick_try(box, user, [answer]).accepted
        line = box.wait_audit(event="auth", user=user, reason=reason)
        assert line["result"] == "denied" and line["service"] == "sshd" and line["source"] == SOURCE


def test_a_login_that_is_hung_up_is_cancelled(make_gpubox):
    box = make_gpubox()
    box.add_user("ada", PASSWORD)
    terminal = Terminal(box, "ada")
    terminal.expect(r"Password: $")
    terminal.vanish()
    box.wait_audit(event="auth", user="ada", result="denied", reason="cancelled")


def test_nothing_typed_as_a_name_forges_a_line_or_a_field(make_gpubox):
    box = make_gpubox()
    evil = 'eve\nevent="auth" result="ok" user="root"\x1b[2J\u202e'
    assert not quick_try(box, evil, ["x"]).accepted
    # What can never be a name is nobody's of ours; whoever speaks of it keeps it on one line, in quotes.
    assert not box.audit(user="root")
    for line in box.audit(event="auth"):
        assert line["reason"] == "bad-name" and line["user"].startswith("eve\nevent=")
    for entry in box.syslog():
        if entry["tag"].startswith("gpuhub"):
            assert "\x1b" not in entry["raw"] and "\u202e" not in entry["raw"]


def test_no_secret_is_in_any_log(make_gpubox):
    box = make_gpubox()
    box.add_user("ada", PASSWORD)
    box.gpuhub("user", "passwd", "ada", "--stdin", input="second-Passw0rd\n")
    assert quick_try(box, "ada", ["second-Passw0rd"]).accepted
    assert not quick_try(box, "ada", ["a-wrong-Secret9"]).accepted
    box.stop_broker()
    everything = json.dumps(box.syslog()) + box.log("gpuhubd").read_text() + box.read_file("/var/log/sshd.log")
    for secret in (PASSWORD, "second-Passw0rd", "a-wrong-Secret9", "$argon2id$"):
        assert secret not in everything
    # Nor is a password in the store as it was typed.
    for secret in (PASSWORD, "second-Passw0rd"):
        assert box.run(["grep", "-rqF", secret, "/var/lib/gpuhub", "/run/gpuhub"], check=False).returncode == 1


def test_lines_go_on_after_syslogd_was_restarted(make_gpubox):
    box = make_gpubox()
    box.add_user("ada", PASSWORD)
    assert quick_try(box, "ada", [PASSWORD]).accepted
    box.wait_audit(event="auth", user="ada")
    box.stop("rsyslogd")
    box.run(["rm", "-f", "/dev/log"])
    box.start_rsyslog()
    before = len(box.audit(event="auth", user="ada"))
    assert quick_try(box, "ada", [PASSWORD]).accepted
    box.wait_audit(event="auth", user="ada", count=before + 1)


def json_lines(box) -> list[dict]:
    lines = box.log("gpuhubd").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_without_a_syslogd_the_lines_are_json_on_standard_error(make_gpubox):
    box = make_gpubox(syslog=False)
    box.add_user("ada", PASSWORD)
    assert quick_try(box, "ada", [PASSWORD]).accepted
    found = [line for line in json_lines(box) if line["event"] == "auth"]
    assert len(found) == 1
    line = found[0]
    assert line["user"] == "ada" and line["result"] == "ok" and line["host"] == "gpu1" and line["time"]
    # A syslogd that comes later gets the lines from then on.
    box.start_rsyslog()
    assert quick_try(box, "ada", [PASSWORD]).accepted
    box.wait_audit(event="auth", user="ada", result="ok")


def test_a_syslogd_that_does_not_read_stops_no_login_and_what_is_dropped_is_counted(make_gpubox):
    box = make_gpubox("[audit]\nqueue = 4\n")
    box.add_user("ada", PASSWORD)
    box.kill("rsyslogd", 19)
    start = time.monotonic()
    # Its socket holds a few lines before whoever writes to it has to wait: fill it.
    box.run("for i in $(seq 300); do timeout 0.2 logger -p authpriv.info filler || break; done", check=False)
    tries = [quick_try(box, "ada", [PASSWORD]) for _ in range(3)]
    assert all(one.accepted for one in tries)
    assert time.monotonic() - start < 30
    box.kill("rsyslogd", 18)
    box.wait_audit(event="session-open", user="ada", timeout=15)


def test_sudo_and_su_are_audited_too(make_gpubox):
    box = make_gpubox(sshd=False)
    box.add_user("ada", PASSWORD)
    box.run(["useradd", "-m", "-s", "/bin/bash", "tess"])
    child = box.spawn(["su", "ada", "-c", "id -un"], user="tess")
    child.expect("Password: ")
    child.sendline(PASSWORD)
    child.expect("ada\r\n")
    child.close()
    line = box.wait_audit(event="auth", user="ada", service="su", result="ok")
    assert line["method"] == "password"
    assert "PAM_SUCCESS" == box.pam("ada", answers=(PASSWORD,), service=product.BARE, source="192.0.2.7")
    box.wait_audit(event="auth", user="ada", service=product.BARE, source="192.0.2.7")
