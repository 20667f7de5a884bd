"""The harness itself, on real parts and without gpuhub: what these show, the other tests rely on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jwt
import pytest

from harness import oidc as sso
from harness import roots
from harness.audit import parse
from harness.lan import Lan
from harness.oidc import browser
from harness.oidc_faulty import ISSUER as FAULTY_ISSUER
from harness.slapd import ALICE, BASE, BOB, CAROL, READER, READER_PASSWORD
from harness.ssh import Terminal, authorize_key, quick_try, ssh_kbdint, ssh_key, ssh_password

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def add_local(box, name="tess", password="unixpw"):
    box.run(["useradd", "-m", "-s", "/bin/bash", name])
    box.run(["chpasswd"], input=f"{name}:{password}\n")


# ---- boxes ---------------------------------------------------------------------------------------


def test_a_box_is_up_at_once_and_sees_only_itself(make_box):
    start = time.monotonic()
    box = make_box()
    assert time.monotonic() - start < 1
    processes = box.out(["ps", "-eo", "pid="]).split()
    assert len(processes) <= 4, processes
    assert box.out(["hostname"]) == "box"
    assert box.out("cat /etc/hostname") == "box"


def test_what_a_box_writes_is_gone_with_it_and_the_layers_stay_as_they_are(make_box, lan):
    first = make_box()
    first.write_file("/etc/motd", "mine\n", mode=0o600)
    assert first.read_file("/etc/motd") == "mine\n"
    assert first.out(["stat", "-c", "%a", "/etc/motd"]) == "600"
    second = make_box()
    assert second.out("cat /etc/motd") != "mine"
    first.close()
    assert not pathlib.Path(f"/proc/{first.pid}").exists()


def test_commands_run_as_a_user_with_her_groups(make_box):
    box = make_box()
    add_local(box)
    box.run("groupadd -g 5555 ml; gpasswd -a tess ml")
    assert box.out(["id", "-Gn"], user="tess") == "tess ml"
    assert box.run(["false"], check=False).returncode == 1
    with pytest.raises(AssertionError, match="exited 7"):
        box.run("echo why >&2; exit 7")


def test_a_process_ends_with_the_harnesss_handle_of_it(make_box):
    box = make_box()
    process = box.popen(["sleep", "4321"])
    while not box.pids("sleep") or "4321" not in box.out("pgrep -af 'sleep 4321' || true"):
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.1)
    assert "sleep 4321" not in box.out("ps -eo args=")


def test_a_local_package_is_installed_by_apt_without_a_network(make_box, tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: Test <test@example.org>\n"
        "Depends: libpam-runtime, adduser\nDescription: sample\n")
    (tree / "etc").mkdir()
    (tree / "etc" / "sample").write_text("yes\n")
    deb = tmp_path / "sample_1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(deb)], check=True, stdout=subprocess.DEVNULL)
    box = make_box()
    box.install_deb(deb)
    assert box.read_file("/etc/sample") == "yes\n"
    assert box.out(["dpkg-query", "-W", "-f", "${Status}", "sample"]) == "install ok installed"


def test_everything_on_a_lan_ends_with_the_process_that_made_it():
    """Not by its clean-up code: it is killed without warning."""
    script = (
        "import sys; sys.path.insert(0, %r)\n"
        "from harness import roots; from harness.box import Box; from harness.lan import Lan\n"
        "lan = Lan(); lan.enter(); box = Box(lan, roots.BOX.stack()); box.start_sshd()\n"
        "print(lan.pid, box.pid, lan.directory, flush=True); import time; time.sleep(600)\n"
    ) % str(pathlib.Path(__file__).resolve().parents[1])
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    lan_pid, box_pid, directory = child.stdout.readline().split()
    child.send_signal(signal.SIGKILL)
    child.wait()
    end = time.monotonic() + 5
    while any(pathlib.Path(f"/proc/{pid}/ns/pid").exists() and alive(int(pid)) for pid in (lan_pid, box_pid)):
        assert time.monotonic() < end, "the Lan outlived its maker"
        time.sleep(0.05)
    subprocess.run(["rm", "-rf", directory], check=True)


def alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_machine_itself_is_not_touched(make_box):
    box = make_box()
    box.start_rsyslog()
    assert box.exists("/dev/log")
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    assert "overlay" not in [line.split()[0] for line in mounts.splitlines() if "gpuhub-lan" in line]
    log = pathlib.Path("/dev/log")
    assert not log.exists() or log.stat().st_ino != os.stat(box.host_path("/dev/log")).st_ino


# ---- syslog --------------------------------------------------------------------------------------


def test_audit_lines_are_read_back(make_box):
    box = make_box()
    box.start_rsyslog()
    box.run(["logger", "-p", "authpriv.notice", "-t", "gpuhubd", r'event="auth" user="a\"b" reason="x\ny"'])
    box.run(["logger", "-p", "authpriv.notice", "-t", "sshd", "something else"])
    line = box.wait_audit(event="auth")
    assert line == {"event": "auth", "user": 'a"b', "reason": "x\ny"}
    assert len(box.syslog()) == 2
    assert box.syslog()[0]["facility"] == "authpriv"


def test_audit_escapes():
    line = parse(r'event="auth" user="\\\x1b[1m" duration_s="1.5"')
    assert line == {"event": "auth", "user": "\\\x1b[1m", "duration_s": "1.5"}
    assert parse("Server listening on :: port 22.") is None


# ---- ssh -----------------------------------------------------------------------------------------


@pytest.fixture
def ssh_box(make_box):
    box = make_box()
    add_local(box)
    box.start_sshd(KbdInteractiveAuthentication="yes")
    return box


def test_a_local_user_logs_in_with_her_password(ssh_box):
    session = ssh_kbdint(ssh_box, "tess", ["unixpw"], "id -un; echo $SSH_CLIENT; exit 3")
    assert session.status == 3, session
    assert "tess" in session.transcript
    assert "127.0.9.9" in session.transcript
    refused = ssh_kbdint(ssh_box, "tess", ["wrong"])
    assert not refused.accepted, refused
    assert "Permission denied" in refused.transcript
    assert ssh_password(ssh_box, "tess", "unixpw").accepted


def test_a_shell_has_a_terminal(ssh_box):
    terminal = Terminal(ssh_box, "tess", None)
    terminal.expect(r"Password: $")
    terminal.line("unixpw")
    terminal.expect(r"\$ $")
    terminal.line("tty; exit 4")
    session = terminal.finish()
    assert session.status == 4, session
    assert "/dev/pts/" in session.transcript


def test_a_key_logs_in(ssh_box):
    assert not ssh_key(ssh_box, "tess").accepted
    authorize_key(ssh_box, "tess", "/home/tess")
    assert ssh_key(ssh_box, "tess").accepted


def test_quick_tries(ssh_box):
    good, bad = quick_try(ssh_box, "tess", ["unixpw"]), quick_try(ssh_box, "tess", ["wrong"])
    assert good.accepted and good.prompts == ["Password: "]
    assert not bad.accepted and bad.seconds > good.seconds


# ---- the directory -------------------------------------------------------------------------------


def search(box, url, *options, check=True):
    return box.run(["ldapsearch", "-LLL", "-x", "-H", url, *options, "-D", READER, "-w", READER_PASSWORD, "-b", BASE,
                    "(uid=alice)", "uidNumber"], env={"LDAPTLS_CACERT": "/etc/ldap/ca.pem"}, check=check)


def test_slapd_answers_over_ldaps_and_starttls_under_the_private_ca(slapd, make_box):
    box = slapd.box
    assert "uidNumber: 20001" in search(box, "ldaps://ldap.test").stdout
    assert "uidNumber: 20001" in search(box, "ldap://ldap.test", "-ZZ").stdout
    strangers = box.run(["ldapsearch", "-x", "-H", "ldaps://ldap.test", "-b", BASE], check=False)
    assert strangers.returncode != 0 and "contact" in strangers.stderr


def bind(slapd, person, password):
    return slapd.box.run(["ldapwhoami", "-x", "-e", "ppolicy", "-H", "ldaps://ldap.test", "-D", person.dn, "-w", password],
                         env={"LDAPTLS_CACERT": "/etc/ldap/ca.pem"}, check=False)


def test_binds_and_locks(slapd):
    assert bind(slapd, ALICE, ALICE.password).returncode == 0
    assert bind(slapd, ALICE, "wrong").returncode == 49
    slapd.lock(BOB)
    try:
        locked = bind(slapd, BOB, BOB.password)
        assert locked.returncode == 49 and "Account locked" in locked.stdout + locked.stderr
    finally:
        slapd.unlock(BOB)
    assert bind(slapd, BOB, BOB.password).returncode == 0


def test_groups_are_by_member_uid(slapd):
    assert "memberUid: alice" in slapd.search("(cn=ml)") and "memberUid: alice" in slapd.search("(cn=gpu-users)")
    assert "memberUid" not in slapd.search("(memberUid=carol)", "cn")
    assert f"cn: {CAROL.groups[0]}" in slapd.search("(memberUid=carol)", "cn")


def test_slapd_stops_hangs_and_comes_back(slapd):
    slapd.suspend()
    with pytest.raises(subprocess.TimeoutExpired):
        slapd.box.run(["ldapwhoami", "-x", "-H", "ldap://ldap.test"], timeout=1)
    slapd.resume()
    slapd.restart()
    assert bind(slapd, ALICE, ALICE.password).returncode == 0


# ---- the provider --------------------------------------------------------------------------------


def begin_flow(session, issuer=sso.ISSUER, auth=None, client=sso.CLIENT, device="/device/auth"):
    fields = {"scope": "openid profile email"} | ({} if auth else {"client_id": client})
    flow = session.post(f"{issuer}{device}", data=fields, auth=auth, timeout=10).json()

    def poll():
        sent = {"grant_type": DEVICE_GRANT, "device_code": flow["device_code"]} | ({} if auth else {"client_id": client})
        return session.post(f"{issuer}/token", data=sent, auth=auth, timeout=10).json()

    return flow, poll


def test_a_device_flow_is_approved_through_the_forms(oidc, ca):
    session = browser(ca)
    flow, poll = begin_flow(session)
    assert flow["interval"] == 1
    assert poll()["error"] == "authorization_pending"
    assert poll()["error"] == "slow_down"
    oidc.device.approve(flow["user_code"], "dave")
    keys = jwt.PyJWKSet.from_dict(session.get(f"{sso.ISSUER}/jwks").json())
    claims = jwt.decode(poll()["id_token"], keys.keys[0], algorithms=["RS256"], audience=sso.CLIENT, issuer=sso.ISSUER)
    assert claims["preferred_username"] == "dave"
    assert claims["groups"] == ["gpu-users", "vision"]
    assert claims["email_verified"] is True


def test_a_device_flow_is_denied_and_a_wrong_password_does_not_end_it_well(oidc, ca):
    flow, poll = begin_flow(browser(ca), auth=(sso.CONFIDENTIAL, sso.SECRET))
    with pytest.raises(AssertionError, match="Wrong name or password"):
        oidc.device.approve(flow["user_code"], "erin", "not hers")
    assert poll()["error"] == "authorization_pending"
    flow, poll = begin_flow(browser(ca))
    oidc.device.deny(flow["user_code"])
    assert poll()["error"] == "access_denied"


def test_accounts_can_change(oidc, ca):
    oidc.set_accounts({"gina": {"password": "pw", "preferred_username": "gina", "email": "g@example.org",
                                "email_verified": True, "name": "Gina", "groups": []}})
    flow, poll = begin_flow(browser(ca))
    oidc.device.approve(flow["user_code"], "gina", "pw")
    assert jwt.decode(poll()["id_token"], options={"verify_signature": False})["preferred_username"] == "gina"


def test_the_faulty_provider_without_a_fault_is_a_good_one(faulty, ca):
    session = browser(ca)
    known = session.get(f"{FAULTY_ISSUER}/.well-known/openid-configuration").json()
    key = jwt.PyJWKSet.from_dict(session.get(known["jwks_uri"]).json()).keys[0]
    _, poll = begin_flow(session, FAULTY_ISSUER, device="/device")
    claims = jwt.decode(poll()["id_token"], key, algorithms=["RS256"], audience="gpuhub", issuer=FAULTY_ISSUER)
    assert claims["preferred_username"] == "dave"


@pytest.mark.parametrize(("fault", "error"), [
    ("wrong-signature", jwt.InvalidSignatureError), ("wrong-audience", jwt.InvalidAudienceError),
    ("wrong-issuer", jwt.InvalidIssuerError), ("expired", jwt.ExpiredSignatureError),
    ("not-yet-valid", jwt.ImmatureSignatureError), ("alg-none", jwt.InvalidAlgorithmError),
    ("alg-hs256", jwt.InvalidAlgorithmError)])
def test_the_faulty_provider_is_faulty_in_the_way_it_says(faulty, ca, fault, error):
    session = browser(ca)
    faulty.begin(fault)
    key = jwt.PyJWKSet.from_dict(session.get(f"{FAULTY_ISSUER}/jwks").json()).keys[0]
    _, poll = begin_flow(session, FAULTY_ISSUER, device="/device")
    with pytest.raises(error):
        jwt.decode(poll()["id_token"], key, algorithms=["RS256"], audience="gpuhub", issuer=FAULTY_ISSUER)


# ---- JupyterHub ----------------------------------------------------------------------------------


def test_a_local_user_logs_in_to_the_hub_and_her_server_runs_under_her_uid(make_box, make_hub):
    box = make_box(roots.HUB, "hub")
    add_local(box)
    box.run("groupadd -g 5555 ml; gpasswd -a tess ml")
    hub = make_hub(box)
    refused = hub.login("tess", "wrong")
    assert not refused.accepted and "Invalid username or password" in refused.text
    visit = hub.login("tess", "unixpw")
    assert visit.accepted
    notebook = visit.spawn_and_wait()
    uid = int(box.out(["id", "-u", "tess"]))
    assert notebook.identity() == {"uids": [uid], "gids": [uid], "groups": sorted([uid, 5555])}
    assert notebook.directory() == "/home/tess"
    notebook.save("hello.txt", "hello")
    assert box.out(["stat", "-c", "%U", "/home/tess/hello.txt"]) == "tess"
    visit.stop_server()
    assert visit.server_pids() == []
    hub.stop()


def test_the_cache_is_the_recipes(lan):
    """A layer's name is a hash of how it is made: the lock files and scripts are part of it."""
    assert len({recipe.key for recipe in roots.ALL}) == len(roots.ALL)
    lock = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "oidc" / "package-lock.json").read_text())
    assert all("resolved" not in entry for entry in lock["packages"].values()), "a registry's host is written down"


def test_two_lans_do_not_meet(lan):
    with Lan() as other:
        assert os.readlink(f"/proc/{other.pid}/ns/net") != os.readlink(f"/proc/{lan.pid}/ns/net")
