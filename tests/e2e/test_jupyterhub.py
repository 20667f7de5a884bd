"""JupyterHub with its stock PAMAuthenticator lets in people of the directory, as themselves."""

import threading
import time

import pytest

from harness import product, roots
from harness.hub import Hub
from harness.product import LDAP, OIDC
from harness.slapd import ALICE, BOB
from harness.ssh import ssh_kbdint

BUILTIN_PASSWORD = "first-Passw0rd"


@pytest.fixture(scope="module")
def hub(lan, ca, package, slapd_session, oidc_session):
    """One hub for the tests of this file: it takes seconds to start, and people share it anyway."""
    box = product.GpuBox(lan, "hub", roots.HUB)
    box.configure(LDAP + OIDC, ca)
    box.up()
    box.add_user("ada", BUILTIN_PASSWORD)
    running = Hub(box, open_sessions=True).start()
    yield running
    box.close()


def test_a_notebook_server_runs_under_her_uid_and_all_her_groups(hub, slapd):
    visit = hub.login("alice", ALICE.password)
    assert visit.accepted, visit.text
    notebook = visit.spawn_and_wait()
    assert notebook.identity() == {"uids": [20001], "gids": [20000], "groups": [20000, 21001, 21002]}
    assert notebook.directory() == "/home/alice"
    notebook.save("hello.txt", "hello")
    assert hub.box.out(["stat", "-c", "%U:%G", "/home/alice/hello.txt"]) == "alice:people"
    assert hub.box.out(["stat", "-c", "%a %U", "/home/alice"]) == "700 alice"
    line = hub.box.wait_audit(event="auth", user="alice", service="jupyterhub")
    wanted = {"result": "ok", "uid": "20001", "method": "password", "backend": "corp"}
    assert line | wanted == line
    hub.box.wait_audit(event="session-open", user="alice", service="jupyterhub")
    visit.stop_server()
    hub.box.wait_audit(event="session-close", user="alice", service="jupyterhub")


def test_the_same_person_by_ssh_and_by_the_hub(hub, slapd):
    assert "uid=20002(bob)" in ssh_kbdint(hub.box, "bob", [BOB.password], "id").transcript
    visit = hub.login("bob", BOB.password)
    notebook = visit.spawn_and_wait()
    assert notebook.identity()["uids"] == [20002]
    visit.stop_server()


def test_somebody_of_the_builtin_directory(hub):
    visit = hub.login("ada", BUILTIN_PASSWORD)
    assert visit.accepted
    assert str(visit.spawn_and_wait().identity()["uids"][0]) == hub.box.out(["id", "-u", "ada"])
    visit.stop_server()


def test_a_wrong_password_and_an_unknown_name_are_refused_alike(hub, slapd):
    wrong, unknown = hub.login("alice", "wrong"), hub.login("nobody-here", "wrong")
    assert not wrong.accepted and not unknown.accepted
    assert "Invalid username or password" in wrong.text
    assert wrong.text.replace("alice", "X") == unknown.text.replace("nobody-here", "X")
    hub.box.wait_audit(event="auth", user="alice", service="jupyterhub", reason="wrong-password")
    hub.box.wait_audit(event="auth", user="nobody-here", service="jupyterhub", reason="unknown-user")


def test_this_service_never_waits_for_a_human(hub, oidc):
    start = time.monotonic()
    for name in ("dave", "erin"):
        assert not hub.login(name, "anything at all").accepted
    assert time.monotonic() - start < 20
    assert "device_authorization" not in oidc.log().rpartition("ready")[2] or not hub.box.audit(
        service="jupyterhub", method="device-code")
    assert hub.responsive() < 1


def test_a_hanging_directory_does_not_freeze_the_hub(hub, slapd):
    slapd.suspend()
    logins = [threading.Thread(target=hub.login, args=(name, "whatever")) for name in ("carol", "nobody2", "nobody3")]
    for login in logins:
        login.start()
    slowest = 0.0
    while any(login.is_alive() for login in logins):
        slowest = max(slowest, hub.responsive())
        time.sleep(0.1)
    assert slowest < 2, f"the hub's event loop stood still for {slowest:.1f} s"
    slapd.resume()


def test_many_logins_after_a_failed_one_still_open_sessions(hub, slapd):
    """The hub switches PAM sessions off for good after one failure: there must be none."""
    assert not hub.login("alice", "wrong").accepted
    before = len(hub.box.audit(event="session-open", user="alice", service="jupyterhub"))
    visit = hub.login("alice", ALICE.password)
    visit.spawn_and_wait()
    hub.box.wait_audit(event="session-open", user="alice", service="jupyterhub", count=before + 1)
    visit.stop_server()
    assert "Failed to open PAM session" not in hub.log() and "Disabling PAM sessions" not in hub.log()


def test_local_users_of_the_hub_work_as_before(hub):
    hub.box.run(["useradd", "-m", "-s", "/bin/bash", "tess"])
    hub.box.run(["chpasswd"], input="tess:unixpw\n")
    visit = hub.login("tess", "unixpw")
    assert visit.accepted
    assert hub.box.out(["id", "-u", "tess"]) == str(visit.spawn_and_wait().identity()["uids"][0])
    visit.stop_server()
