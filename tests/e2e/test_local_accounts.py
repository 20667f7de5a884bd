"""root and local users get in as before: with the broker running, stopped, and never properly installed."""

import pytest

from harness.ssh import authorize_key, ssh_kbdint, ssh_key, ssh_password

PASSWORD = "local-pw-1"


def never_installed(box):
    """The module's line is in the stacks and its file is not there; nor is NSS's."""
    box.run("rm /usr/lib/*/security/pam_gpuhub.so /usr/lib/*/libnss_gpuhub.so.2; rm -rf /run/gpuhub /etc/gpuhub")


def broken_module(box):
    """A module that is there and cannot be loaded."""
    box.run("for f in /usr/lib/*/security/pam_gpuhub.so; do echo 'not a library' > $f; done")


STATES = {
    "running": lambda box: box.start_broker(),
    "stopped": lambda box: (box.start_broker(), box.stop_broker()),
    "killed": lambda box: (box.start_broker(), box.stop_broker(9)),
    "hanging": lambda box: (box.start_broker(), box.kill("gpuhubd", 19)),
    "never-started": lambda box: None,
    "never-installed": never_installed,
    "broken-module": broken_module,
}


@pytest.fixture(params=STATES)
def box(request, make_gpubox):
    box = make_gpubox(up=False)
    box.run(["useradd", "-m", "-s", "/bin/bash", "-G", "sudo", "tess"])
    box.run(["chpasswd"], input=f"tess:{PASSWORD}\nroot:{PASSWORD}\n")
    STATES[request.param](box)
    box.start_sshd(PermitRootLogin="yes", KbdInteractiveAuthentication="yes")
    yield box
    box.kill("gpuhubd", 18)


def test_a_local_user_logs_in_with_one_prompt(box):
    session = ssh_kbdint(box, "tess", [PASSWORD], "id -un")
    assert session.status == 0, session
    assert session.transcript.count("Password") == 1
    assert session.seconds < 10
    assert not ssh_kbdint(box, "tess", ["wrong"]).accepted
    assert ssh_password(box, "tess", PASSWORD).accepted


def test_root_logs_in(box):
    assert ssh_kbdint(box, "root", [PASSWORD], "id -u").status == 0


def test_keys_of_local_users_work(box):
    authorize_key(box, "tess", "/home/tess")
    assert ssh_key(box, "tess").accepted


def test_su_and_sudo_and_cron(box):
    assert box.out(["su", "-", "tess", "-c", "id -un"]) == "tess"
    assert box.out("echo %s | su - tess -c 'sudo -S -p \"\" id -un'" % PASSWORD) == "root"
    assert box.pam("tess", "acct_mgmt", "open_session", "close_session", service="cron") == "PAM_SUCCESS"


def test_passwd_changes_a_local_password(box):
    child = box.spawn(["passwd"], user="tess")
    child.expect("(?i)current password: ")
    child.sendline(PASSWORD)
    child.expect("(?i)new password: ")
    child.sendline("another-Local-pw2")
    child.expect("(?i)new password: ")
    child.sendline("another-Local-pw2")
    child.expect("successfully")
    child.close()
    assert ssh_kbdint(box, "tess", ["another-Local-pw2"]).accepted


def test_the_admin_s_tools_work(box):
    box.run(["useradd", "-m", "new-one"])
    box.run(["groupadd", "new-group"])
    box.run(["usermod", "-aG", "new-group", "new-one"])
    assert box.out(["id", "-Gn", "new-one"]) == "new-one new-group"
    box.run(["userdel", "-r", "new-one"])
