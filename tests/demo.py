"""`make demo`: people log in to a container by every way there is, on real servers, before your eyes.

A person's screen is shown as it was; below it the line that the event left in syslog. KEEP=1 leaves
everything running and says how to log in by hand; `tests/harness/run demo approve CODE NAME` is then
the person in the browser, and `tests/harness/run demo stop` ends it.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness import product, roots  # noqa: E402
from harness.ca import Authority  # noqa: E402
from harness.hub import Hub  # noqa: E402
from harness.lan import Lan  # noqa: E402
from harness.oidc import ACCOUNTS, ISSUER, DevicePage, OidcProvider  # noqa: E402
from harness.places import Missing, cache, say  # noqa: E402
from harness.product import LDAP, OIDC, GpuBox  # noqa: E402
from harness.slapd import ALICE, BOB, CAROL, Slapd  # noqa: E402
from harness.ssh import Session, Terminal, authorize_key, ssh_kbdint, ssh_key  # noqa: E402

STATE = cache() / "demo.json"
ADA_PASSWORD = "first-Passw0rd"
CONFIG = LDAP + OIDC
PASSCODES = """
[passcode]
enabled = true
one_time = true
"""
PASSCODE = "correct Horse"


class Demo:
    def __init__(self, lan: Lan):
        self.lan = lan
        self.seen = 0

    # ---- what is shown ------------------------------------------------------------------------

    def screen(self, title: str, text: str) -> None:
        print(f"\n  ┌─ {title}")
        for line in text.replace("\r", "").strip("\n").splitlines():
            print(f"  │ {line}")
        print("  └─")

    def audit(self, box: GpuBox, count: int = 1, **wanted: str) -> None:
        """The newest line with these values, as syslog has it."""
        box.wait_audit(count=count, **wanted)
        for entry in reversed(box.syslog()):
            if all(f'{key}="{value}"' in entry["message"] for key, value in wanted.items()):
                print(f"    syslog: {entry['time'][:19]} {entry['host']} {entry['tag']}{entry['message']}")
                return

    def show(self, title: str, session: Session, accepted: bool = True) -> None:
        self.screen(title, session.transcript)
        if session.accepted != accepted:
            raise AssertionError(f"{title}: expected to be {'let in' if accepted else 'refused'}\n{session}")

    # ---- the scenes ---------------------------------------------------------------------------

    def set_up(self) -> None:
        say("a private network, a certificate authority, slapd and the OpenID provider")
        self.ca = Authority(self.lan.directory / "ca")
        self.slapd = Slapd(self.lan, self.ca)
        self.oidc = OidcProvider(self.lan, self.ca)
        say("a container-like root with sshd; the package is installed in it by apt")
        self.box = GpuBox(self.lan, "gpu1")
        self.box.configure(CONFIG, self.ca)
        say("syslogd, the broker, sshd")
        self.box.up()

    def builtin(self) -> None:
        say("(a) the builtin directory: somebody made with the command, no server anywhere")
        box = self.box
        box.gpuhub("group", "add", "robotics")
        box.add_user("ada", ADA_PASSWORD, "--full-name", "Ada Adams", "--groups", "robotics")
        self.screen("root@gpu1", "# gpuhub user list\n" + box.gpuhub("user", "list").stdout)
        self.show("ssh ada@gpu1", ssh_kbdint(box, "ada", [ADA_PASSWORD], "id; pwd; stat -c '%A %U' ."))
        self.audit(box, event="auth", user="ada", result="ok")
        self.audit(box, event="session-close", user="ada")
        self.show("ssh ada@gpu1, with a wrong password", ssh_kbdint(box, "ada", ["guessing"]), accepted=False)
        self.audit(box, event="auth", user="ada", result="denied")
        authorize_key(box, "ada", "/home/ada")
        self.show("ssh -i key ada@gpu1", ssh_key(box, "ada", "echo in by key"))
        self.audit(box, event="session-open", user="ada", method="publickey")

    def ldap(self) -> None:
        say("(b) LDAP, over TLS under a private CA")
        box = self.box
        self.show("ssh alice@gpu1", ssh_kbdint(box, "alice", [ALICE.password], "id; pwd"))
        self.audit(box, event="auth", user="alice", result="ok")
        self.show("ssh alice@gpu1, with a wrong password", ssh_kbdint(box, "alice", ["guessing"]), accepted=False)
        self.audit(box, event="auth", user="alice", reason="wrong-password")
        self.show("ssh no.one@gpu1, who does not exist", ssh_kbdint(box, "no.one", ["guessing"]), accepted=False)
        self.audit(box, event="auth", user="no.one", reason="unknown-user")
        self.slapd.lock(BOB)
        self.show("ssh bob@gpu1, whose account is locked", ssh_kbdint(box, "bob", [BOB.password]), accepted=False)
        self.audit(box, event="auth", user="bob", reason="account-locked")
        self.slapd.unlock(BOB)
        self.slapd.stop()
        down = ssh_kbdint(box, "alice", [ALICE.password])
        self.show("ssh alice@gpu1, while the directory is down", down, accepted=False)
        self.audit(box, event="auth", user="alice", reason="backend-unavailable")
        self.slapd.start()

    def jupyterhub(self) -> None:
        say("(c) JupyterHub: another box, with the hub and its proxy")
        box = self.hub_box = GpuBox(self.lan, "hub", roots.HUB)
        box.configure(CONFIG + PASSCODES, self.ca)
        box.up()
        self.hub = Hub(box, open_sessions=True).start()
        say("alice fills in the login form")
        refused = self.hub.login("alice", "guessing")
        self.screen("the hub's page, after a wrong password", refused.text)
        visit = self.hub.login("alice", ALICE.password)
        if refused.accepted or not visit.accepted:
            raise AssertionError(f"the hub's form: {visit.text}\n{self.hub.log()[-2000:]}")
        notebook = visit.spawn_and_wait()
        notebook.save("from-the-notebook.txt", "hello\n")
        identity = notebook.identity()
        self.screen("her notebook server", f"uid {identity['uids']} gid {identity['gids']} groups {identity['groups']}\n"
                    + box.out(["ls", "-l", "/home/alice"]))
        if identity != {"uids": [20001], "gids": [20000], "groups": [20000, 21001, 21002]}:
            raise AssertionError(f"the notebook server runs as {identity}")
        self.audit(box, event="auth", user="alice", service="jupyterhub", result="ok")
        self.audit(box, event="session-open", user="alice", service="jupyterhub")
        visit.stop_server()
        self.audit(box, event="session-close", user="alice", service="jupyterhub")

    def device_code(self) -> None:
        say("(d) single sign-on by a device code: dave exists nowhere on the box")
        box = self.box
        terminal = Terminal(box, "dave", "id; pwd")
        code = terminal.device_code()
        say(f"in a browser: dave opens {ISSUER}/device, enters {code}, signs in")
        page = self.oidc.device.approve(code, "dave")
        terminal.line("")
        self.show("ssh dave@gpu1", terminal.finish())
        self.screen("the browser's last page", page)
        self.audit(box, event="auth", user="dave", result="ok")
        terminal = Terminal(box, "erin", "id")
        self.oidc.device.approve(terminal.device_code(), "dave")
        terminal.line("")
        self.show("ssh erin@gpu1, but dave signs in with her code", terminal.finish(), accepted=False)
        self.audit(box, event="auth", user="erin", reason="wrong-subject")
        say("another box, which never saw dave: the same id")
        second = GpuBox(self.lan, "gpu2")
        second.configure(CONFIG, self.ca)
        second.up()
        for name in ("erin", "dave"):
            terminal = Terminal(second, name, "true")
            self.oidc.device.approve(terminal.device_code(), name)
            terminal.line("")
            if not terminal.finish().accepted:
                raise AssertionError(f"{name} was refused on gpu2: {terminal.text}")
        ids = [each.out(["id", "-u", "dave"]) for each in (box, second)]
        self.screen("id -u dave on gpu1 and gpu2", "\n".join(ids))
        if ids[0] != ids[1]:
            raise AssertionError("dave has two ids")
        second.close()

    def passcode(self) -> None:
        say("(e) JupyterHub's form shows no code: dave signs in by SSH once, and sets a passcode")
        box = self.hub_box
        terminal = Terminal(box, "dave", "id -un")
        self.oidc.device.approve(terminal.device_code(), "dave")
        terminal.line("")
        for prompt in (r"Enter alone: none\): $", r"again: $"):
            terminal.expect(prompt)
            terminal.line(PASSCODE)
        self.show("ssh dave@hub", terminal.finish())
        self.audit(box, event="passcode-set", user="dave")
        self.fills_in("dave", PASSCODE, "his passcode")
        self.audit(box, event="auth", user="dave", service="jupyterhub", result="ok")
        self.fills_in("dave", "a wrong one", "a wrong passcode", accepted=False)
        self.audit(box, event="auth", user="dave", service="jupyterhub", result="denied")
        say("and erin, who wants none, gets a code for one login")
        terminal = Terminal(box, "erin", "gpuhub passcode once")
        self.oidc.device.approve(terminal.device_code(), "erin")
        terminal.line("")
        terminal.expect(r"Enter alone: none\): $")
        terminal.line("")
        session = terminal.finish()
        self.show("ssh erin@hub gpuhub passcode once", session)
        code = re.search(r"^([0-9A-Z]{5}-[0-9A-Z]{5})\s*$", session.transcript, re.M)[1]
        self.fills_in("erin", code, "the one-time code")
        self.audit(box, event="auth", user="erin", service="jupyterhub", result="ok")
        self.fills_in("erin", code, "the same code again", accepted=False)
        self.audit(box, event="auth", user="erin", service="jupyterhub", result="denied")

    def fills_in(self, user: str, answer: str, what: str, accepted: bool = True) -> None:
        visit = self.hub.login(user, answer)
        self.screen(f"the hub's form: {user}, {what}", f"{'let in' if visit.accepted else 'refused'}: {visit.text}")
        if visit.accepted != accepted:
            raise AssertionError(f"the hub's form with {what}: {visit.text}\n{self.hub.log()[-2000:]}")

    def doctor(self) -> None:
        done = self.box.gpuhub("doctor", check=False)
        self.screen("root@gpu1", "# gpuhub doctor\n" + done.stdout + done.stderr)
        if done.returncode != 0:
            raise AssertionError(f"the doctor found what would stop a login (exit {done.returncode})")

    # ---- KEEP=1 -------------------------------------------------------------------------------

    def stay(self) -> None:
        ports = {2222: (self.box.address, 22), 2223: (self.hub_box.address, 22), 8000: (self.hub_box.address, 8000),
                 4400: ("127.0.0.3", 4400)}
        rules = [f"{port}={host}:{far}" for port, (host, far) in ports.items()]
        self.lan.leave()
        forward = subprocess.Popen(
            ["nsenter", "-t", str(self.lan.pid), "--pid", "--", sys.executable, "-m", "harness.forward",
             str(self.lan.pid), *rules], cwd=pathlib.Path(__file__).parent, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, start_new_session=True)
        forwarded = forward.stdout.readline() == b"ready\n"
        STATE.write_text(json.dumps({"pid": self.lan.pid, "directory": str(self.lan.directory),
                                     "started": started(self.lan.pid)}))
        print(f"""
It stays up. By hand:

    ssh -p 2222 alice@127.0.0.1        # LDAP; password: {ALICE.password}
    ssh -p 2222 carol@127.0.0.1        # LDAP; password: {CAROL.password}
    ssh -p 2222 ada@127.0.0.1          # builtin; password: {ADA_PASSWORD}
    ssh -p 2222 dave@127.0.0.1         # single sign-on: a code is shown; in another terminal:
        tests/harness/run demo approve CODE dave
    http://127.0.0.1:8000              # JupyterHub, for alice and carol; for dave with the passcode: {PASSCODE}
    ssh -p 2223 dave@127.0.0.1         # the hub's box: gpuhub passcode once, status, set

    nsenter -t {self.box.pid} -a bash          # root on gpu1: gpuhub status, gpuhub doctor, /var/log/authpriv.json
    tests/harness/run demo stop        # ends it
""" + ("" if forwarded else "(Ports 2222, 2223, 8000 or 4400 were taken: log in by nsenter -t "
             f"{self.lan.pid} -n ssh alice@{self.box.address})\n"))


def started(pid: int) -> str:
    """When a process began, by /proc: tells it from a later one of the same number."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def kept() -> dict:
    if not STATE.exists():
        raise Missing("a demo that was kept: start one with `make demo KEEP=1`")
    state = json.loads(STATE.read_text())
    if not pathlib.Path(f"/proc/{state['pid']}").exists() or started(state["pid"]) != state["started"]:
        STATE.unlink()
        raise Missing("the demo that was kept: it is not running any more")
    return state


def approve(code: str, name: str) -> None:
    state = kept()
    from harness import lan
    lan._join(f"/proc/{state['pid']}/ns/net")
    lan._resolve()
    authority = type("Files", (), {"file": pathlib.Path(state["directory"]) / "ca" / "ca.pem"})
    print(DevicePage(authority).approve(code, name, ACCOUNTS[name]["password"]))


def stop() -> None:
    state = kept()
    os.kill(state["pid"], signal.SIGKILL)
    shutil.rmtree(state["directory"], ignore_errors=True)
    STATE.unlink()


def perform(keep: bool) -> int:
    if keep and STATE.exists():
        try:
            kept()
        except Missing:
            pass
        else:
            raise Missing("room: a demo is running already; `tests/harness/run demo stop` ends it")
    say(f"the package: {product.package().name}")
    for root in (roots.BOX, roots.HUB):
        product.layers.ensure(product.installed(root))
    lan = Lan(keep=keep)
    demo = Demo(lan)
    done = False
    try:
        lan.enter()
        for scene in (demo.set_up, demo.builtin, demo.ldap, demo.jupyterhub, demo.device_code, demo.passcode,
                      demo.doctor):
            scene()
        if keep:
            demo.stay()
        done = True
    except AssertionError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
    finally:
        if not (keep and done):
            for log in sorted(lan.logs.glob("gpu1-*gpuhubd.log")) if not done else []:
                print(f"---- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            lan.close()
    say("done: everybody came in who should, and nobody else" if done else "the demo failed")
    return 0 if done else 1


def main() -> int:
    match sys.argv[1:]:
        case []:
            return perform(os.environ.get("KEEP", "") not in ("", "0", "no"))
        case ["approve", code, name]:
            approve(code, name)
        case ["stop"]:
            stop()
        case _:
            print("usage: demo.py [approve CODE NAME | stop]", file=sys.stderr)
            return 64
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"demo: missing: {missing}")
