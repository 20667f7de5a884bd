"""People of the builtin directory log in over SSH, through a real sshd with the package's own setup."""

import re

import pytest

from harness.box import wait_until
from harness.ssh import SOURCE, Terminal, authorize_key, quick_try, ssh_kbdint, ssh_key, ssh_password

PASSWORD = "first-Passw0rd"


@pytest.fixture
def box(make_gpubox):
    box = make_gpubox()
    box.gpuhub("group", "add", "ml")
    box.add_user("ada", PASSWORD, "--full-name", "Ada Adams", "--groups", "ml")
    return box


def test_a_freshly_installed_package_without_configuration_lets_people_in(box):
    session = ssh_kbdint(box, "ada", [PASSWORD], "id -un; id -Gn; pwd; stat -c '%a %U' .; ls -A")
    assert session.status == 0, session
    screen = session.transcript
    assert re.search(r"^ada\s*$", screen, re.M) and "ml" in screen
    assert "/home/ada" in screen and "700 ada" in screen
    assert ".bashrc" in screen, "the home has what /etc/skel has"
    line = box.wait_audit(event="auth", user="ada")
    uid = box.out(["id", "-u", "ada"])
    assert 1_000_000_000 <= int(uid) <= 1_999_999_999
    assert line | {"result": "ok", "uid": uid, "service": "sshd", "source": SOURCE, "method": "password",
                   "backend": "builtin", "reason": "ok"} == line


def test_the_prompt_is_one_and_an_interactive_shell_works(box):
    terminal = Terminal(box, "ada", None)
    terminal.expect(r"\(ada@[0-9.]+\) Password: $")
    terminal.line(PASSWORD)
    terminal.expect(r"ada@gpu1:~\$ $")
    terminal.line("echo $HOME $SHELL $USER; exit 5")
    session = terminal.finish()
    assert session.status == 5, session
    assert "/home/ada /bin/bash ada" in session.transcript
    assert session.transcript.count("Password") == 1


def test_a_wrong_password_is_refused_and_looks_like_an_unknown_name(box):
    wrong = ssh_kbdint(box, "ada", ["not-her-Passw0rd"])
    unknown = ssh_kbdint(box, "nobody-here", ["not-her-Passw0rd"])
    assert not wrong.accepted and not unknown.accepted
    assert wrong.transcript.replace("ada", "X") == unknown.transcript.replace("nobody-here", "X")
    box.wait_audit(event="auth", user="ada", result="denied", reason="wrong-password", method="password")
    box.wait_audit(event="auth", user="nobody-here", result="denied", reason="unknown-user")


def test_an_empty_password_is_never_accepted(box):
    assert not ssh_kbdint(box, "ada", [""]).accepted
    box.wait_audit(event="auth", user="ada", result="denied", reason="empty-password")
    for options in ("yes", "no"):
        box.stop("sshd", 9)
        box.start_sshd(PermitEmptyPasswords=options)
        assert not ssh_kbdint(box, "ada", [""]).accepted


def test_the_password_method_works_too(box):
    assert ssh_password(box, "ada", PASSWORD).accepted
    assert not ssh_password(box, "ada", "something else").accepted


def test_the_command_for_users(box):
    box.add_user("carl", PASSWORD, "--uid", "1234567")
    assert box.out(["getent", "passwd", "carl"]).split(":")[2] == "1234567"
    assert {line.split(":")[0] for line in box.gpuhub("user", "list").stdout.splitlines()} == {"ada", "carl"}
    box.gpuhub("group", "member", "add", "ml", "carl")
    assert "ml" in box.out(["id", "-Gn", "carl"]).split()
    assert "carl" in box.gpuhub("group", "list").stdout
    box.gpuhub("group", "member", "del", "ml", "carl")
    assert "ml" not in box.out(["id", "-Gn", "carl"]).split()
    box.gpuhub("user", "passwd", "carl", "--stdin", input="second-Passw0rd\n")
    assert not ssh_kbdint(box, "carl", [PASSWORD]).accepted
    assert ssh_kbdint(box, "carl", ["second-Passw0rd"]).accepted
    box.gpuhub("user", "del", "carl")
    assert not ssh_kbdint(box, "carl", ["second-Passw0rd"]).accepted
    assert box.run(["getent", "passwd", "carl"], check=False).returncode == 2
    box.gpuhub("group", "del", "ml")
    assert box.run(["getent", "group", "ml"], check=False).returncode == 2


def test_only_root_administers(box):
    box.run(["useradd", "tess"])
    for arguments in (("user", "add", "eve"), ("user", "del", "ada"), ("group", "add", "eves")):
        done = box.gpuhub(*arguments, check=False, user="tess", input="")
        assert done.returncode != 0, arguments
    assert box.out(["id", "-un", "ada"]) == "ada"
    assert box.run(["getent", "passwd", "eve"], check=False).returncode == 2


@pytest.mark.parametrize("password", ["Short-1", "alllowercaseletters", ""])
def test_the_password_rule_is_kept(box, password):
    done = box.gpuhub("user", "add", "weak", "--password-stdin", input=password + "\n", check=False)
    assert done.returncode == 1, done
    assert box.run(["getent", "passwd", "weak"], check=False).returncode == 2


def test_she_changes_her_own_password(box):
    terminal = Terminal(box, "ada", "passwd", options=[
        "-t", "-oPreferredAuthentications=keyboard-interactive", "-oPubkeyAuthentication=no"])
    terminal.expect(r"Password: $")
    terminal.line(PASSWORD)
    terminal.expect(r"Password: $")
    terminal.line(PASSWORD)
    terminal.expect(r"New password: $")
    terminal.line("third-Passw0rd")
    terminal.expect(r"New password again: $")
    terminal.line("third-Passw0rd")
    session = terminal.finish()
    assert session.status == 0, session
    assert ssh_kbdint(box, "ada", ["third-Passw0rd"]).accepted
    assert not ssh_kbdint(box, "ada", [PASSWORD]).accepted
    box.wait_audit(event="password-change", user="ada", result="ok")


def test_a_key_login_passes_the_account_policy(box):
    uid = box.out(["id", "-u", "ada"])
    authorize_key(box, "ada", "/home/ada")
    assert ssh_key(box, "ada").accepted
    assert box.wait_audit(event="account", user="ada", result="ok")["uid"] == uid
    # sshd tells the key when the session opens.
    line = box.wait_audit(event="session-open", user="ada", method="publickey")
    assert line["uid"] == uid and re.search(r"^ssh-ed25519 SHA256:[A-Za-z0-9+/]{43}$", line["detail"])
    box.configure('[access]\ndeny_users = ["ada"]\n')
    box.restart_broker()
    refused = ssh_key(box, "ada")
    assert not refused.accepted, refused
    box.wait_audit(event="account", user="ada", result="denied", reason="not-allowed")


def test_a_key_of_somebody_who_was_removed_opens_nothing(box):
    authorize_key(box, "ada", "/home/ada")
    assert ssh_key(box, "ada").accepted
    box.gpuhub("user", "del", "ada")
    assert not ssh_key(box, "ada").accepted


def test_a_key_opens_nothing_while_the_broker_is_away(box):
    authorize_key(box, "ada", "/home/ada")
    box.stop_broker()
    assert not ssh_key(box, "ada").accepted


def test_access_by_group(make_gpubox):
    box = make_gpubox('[access]\nallow_groups = ["ml"]\n')
    box.gpuhub("group", "add", "ml")
    box.add_user("ada", PASSWORD, "--groups", "ml")
    box.add_user("carl", PASSWORD)
    assert ssh_kbdint(box, "ada", [PASSWORD]).accepted
    refused = ssh_kbdint(box, "carl", [PASSWORD])
    assert not refused.accepted
    assert "not allowed to log in" in refused.transcript
    box.wait_audit(event="auth", user="carl", result="denied", reason="not-allowed")


def test_too_many_tries_lock_a_name_for_a_while(make_gpubox):
    box = make_gpubox('[access]\ntries = 3\nwindow = "1m"\nlock = "6s"\n')
    box.add_user("ada", PASSWORD)
    for _ in range(3):
        assert box.pam("ada", answers=("wrong",)) == "PAM_AUTH_ERR"
    assert box.pam("ada", answers=(PASSWORD,)) == "PAM_MAXTRIES"
    box.wait_audit(event="auth", user="ada", result="denied", reason="too-many-tries")
    box.run(["sleep", "6"])
    assert box.pam("ada", answers=(PASSWORD,)) == "PAM_SUCCESS"


DECLARED = """
[[builtin.group]]
name = "gpu-users"
gid = 1000000500

[[builtin.user]]
name = "alice"
full_name = "Alice Archer"
uid = 1000000001
groups = ["gpu-users"]
password_hash = "%s"

[[builtin.user]]
name = "bob"
groups = ["gpu-users"]
password_file = "/etc/gpuhub/bob.secret"
"""


def test_an_image_made_by_configuration_alone(make_gpubox):
    box = make_gpubox(up=False)
    hashed = box.gpuhub("hash-password", "--stdin", input=PASSWORD + "\n").stdout.strip()
    assert hashed.startswith("$argon2id$") and PASSWORD not in hashed
    box.configure(DECLARED % hashed)
    box.write_file("/etc/gpuhub/bob.secret", "bobs-Passw0rd\n", mode=0o640, owner="root:gpuhub")
    box.up()
    session = ssh_kbdint(box, "alice", [PASSWORD], "id")
    assert session.status == 0, session
    assert "uid=1000000001(alice)" in session.transcript and "1000000500(gpu-users)" in session.transcript
    assert ssh_kbdint(box, "bob", ["bobs-Passw0rd"]).accepted
    assert not ssh_kbdint(box, "bob", [PASSWORD]).accepted


def test_what_was_stored_is_there_after_a_restart(box):
    before = box.out(["id", "ada"])
    box.restart_broker()
    assert box.out(["id", "ada"]) == before
    assert ssh_kbdint(box, "ada", [PASSWORD]).accepted


def test_twenty_at_once(box):
    for number in range(20):
        box.add_user(f"user{number}", PASSWORD)
    import asyncio

    from harness.ssh import _quick_try

    async def all_of_them():
        return await asyncio.gather(*(_quick_try(box, f"user{n}", [PASSWORD], SOURCE) for n in range(20)))

    # sshd itself drops connections that are not yet logged in when there are more than 10 of them.
    box.stop("sshd", 9)
    box.start_sshd(MaxStartups="100:30:200")
    tries = asyncio.run(all_of_them())
    assert all(one.accepted for one in tries)
    assert len(box.audit(event="auth", result="ok", service="sshd")) >= 20


def test_with_the_entrypoint_the_image_s_own_command_runs_beside_the_broker(make_gpubox):
    box = make_gpubox(up=False)
    box.run(["mkdir", "-p", "/run/sshd"])
    entrypoint = box.start_entrypoint("/usr/sbin/sshd", "-D", "-e", f"-oListenAddress={box.address}")
    box.add_user("ada", PASSWORD)
    assert ssh_kbdint(box, "ada", [PASSWORD]).accepted
    # The broker is started again when it dies; the command never notices.
    killed = box.pids("gpuhubd")
    box.kill("gpuhubd", 9)
    wait_until(lambda: set(box.pids("gpuhubd")) - set(killed), "the broker to be started again", timeout=15)
    box.wait_broker(entrypoint)
    assert ssh_kbdint(box, "ada", [PASSWORD]).accepted
    assert quick_try(box, "ada", [PASSWORD]).accepted
