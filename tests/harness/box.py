"""A box: a running container-like root, as a GPU box would be, with its own address on the Lan."""

import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable

import pexpect

from . import audit
from .lan import HOSTS, Lan, namespace_init

_SETUP = pathlib.Path(__file__).with_name("box-init.sh")
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root", "LANG": "C.UTF-8", "TERM": "xterm",
}

AUDIT_LOG = "/var/log/authpriv.json"
SOCKET = "/run/gpuhub/broker.sock"

_RSYSLOG = r"""
module(load="imuxsock" SysSock.Use="on" SysSock.Name="/dev/log" SysSock.RateLimit.Interval="0")
template(name="json" type="list" option.jsonf="on") {
    property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="host" name="hostname" format="jsonf")
    property(outname="tag" name="syslogtag" format="jsonf")
    property(outname="facility" name="syslogfacility-text" format="jsonf")
    property(outname="severity" name="syslogseverity-text" format="jsonf")
    property(outname="raw" name="rawmsg" format="jsonf")
    property(outname="message" name="msg" format="jsonf")
}
authpriv.*,auth.* action(type="omfile" file="%s" template="json")
""" % AUDIT_LOG


class Failed(AssertionError):
    """A command in a box exited with a status that the test did not expect."""


class Box:
    """Made by `Box(lan, layers, name)`; `close()` (or the end of the Lan) ends all that runs in it."""

    def __init__(self, lan: Lan, lower: Iterable[pathlib.Path], name: str = "box", address: str | None = None):
        self.lan = lan
        self.name = name
        self.address = address or lan.next_address()
        self.place = lan.directory / f"{name}-{self.address}"
        self.place.mkdir()
        self.lower = list(lower)
        self.port = 22
        hosts = lan.directory / f"{self.place.name}.hosts"
        names = {"localhost": "127.0.0.1", name: self.address, **HOSTS}
        hosts.write_text("".join(f"{number} {host}\n" for host, number in names.items()))
        environment = {
            "PATH": _ENV["PATH"], "PLACE": str(self.place), "NAME": name, "HOSTS": str(hosts),
            "LOWER": ":".join(str(path) for path in self.lower)}
        self._process = subprocess.Popen(
            [*lan.tie, "nsenter", "-t", str(lan.pid), "--net", "--pid", "--mount", "--",
             "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "bash", str(_SETUP)],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"box {name} did not start: {self._process.stderr.read().decode()}")
        self.pid = namespace_init(self._process.pid, depth=2)
        self.children: list[subprocess.Popen] = []
        lan._boxes.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        if self in self.lan._boxes:
            self.lan._boxes.remove(self)
        # The handles first: a namespace is gone only when its processes' parents have seen them end.
        for child in self.children:
            child.kill()
            child.wait()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    # ---- commands -----------------------------------------------------------------------------

    def command(self, argv: list[str], user: str | None = None, env: dict[str, str] | None = None) -> list[str]:
        """The argv that runs `argv` in the box; it dies when the harness's own process of it dies."""
        settings = {**_ENV, **(env or {})}
        become = []
        if user:
            become = ["setpriv", f"--reuid={user}", f"--regid={self._group_of(user)}", "--init-groups", "--"]
            settings.setdefault("USER", user)
        return [*self.lan.tie, "nsenter", "-t", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--",
                "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()),
                *become, *self.lan.tie, *argv]

    def _group_of(self, user: str) -> str:
        line = self.run(["getent", "passwd", user]).stdout
        return line.split(":")[3]

    def run(self, argv: list[str] | str, check: bool = True, input: str | None = None, user: str | None = None,
            env: dict[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess:
        """Runs a command (a string is a shell's) and returns what it said; text, not bytes."""
        argv = ["/bin/bash", "-c", argv] if isinstance(argv, str) else argv
        done = subprocess.run(self.command(argv, user, env), input=input, capture_output=True, text=True,
                              errors="replace", timeout=timeout,
                              **({} if input is not None else {"stdin": subprocess.DEVNULL}))
        if check and done.returncode != 0:
            raise Failed(f"in {self.name}: {shlex.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def out(self, argv: list[str] | str, **options) -> str:
        """What a command wrote, without the last newline."""
        return self.run(argv, **options).stdout.rstrip("\n")

    def popen(self, argv: list[str], log: str | None = None, user: str | None = None,
              env: dict[str, str] | None = None, **options) -> subprocess.Popen:
        """Starts a process in the box; `log` names a file of the Lan's log directory for its output."""
        if log:
            # Our copy of the file's descriptor is closed again: the process has its own.
            with open(self.log(log), "ab") as out:
                child = subprocess.Popen(self.command(argv, user, env), stdin=subprocess.DEVNULL, stdout=out,
                                         stderr=subprocess.STDOUT, start_new_session=True, **options)
        else:
            child = subprocess.Popen(self.command(argv, user, env), **options)
        self.children.append(child)
        return child

    def spawn(self, argv: list[str], user: str | None = None, env: dict[str, str] | None = None,
              timeout: float = 20) -> pexpect.spawn:
        """Starts a process on a terminal of its own, for a conversation."""
        command = self.command(argv, user, env)
        return pexpect.spawn(command[0], command[1:], encoding="utf-8", codec_errors="replace", timeout=timeout,
                             dimensions=(50, 160), echo=True)

    def log(self, name: str) -> pathlib.Path:
        return self.lan.logs / f"{self.name}-{self.address}-{name}.log"

    # ---- files --------------------------------------------------------------------------------

    def write_file(self, path: str, text: str | bytes, mode: int = 0o644, owner: str = "root:root") -> None:
        data = text.encode() if isinstance(text, str) else text
        script = 'umask 077; mkdir -p -m 755 "${1%/*}"; cat > "$1" && chown "$3" "$1" && chmod "$2" "$1"'
        done = subprocess.run(self.command(["/bin/sh", "-c", script, "sh", path, f"{mode:o}", owner]), input=data,
                              capture_output=True)
        if done.returncode != 0:
            raise Failed(f"writing {path} in {self.name}: {done.stderr.decode()}")

    def read_file(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    def exists(self, path: str) -> bool:
        return self.run(["test", "-e", path], check=False).returncode == 0

    # ---- the package --------------------------------------------------------------------------

    def install_deb(self, package: pathlib.Path) -> str:
        """Installs a .deb as a person would, with apt; the Lan has no network, so nothing is fetched."""
        self.write_file(f"/tmp/{package.name}", package.read_bytes())
        done = self.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", f"/tmp/{package.name}"],
                        env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=180)
        return done.stdout + done.stderr

    # ---- daemons ------------------------------------------------------------------------------

    def start_sshd(self, port: int = 22, **settings: str) -> subprocess.Popen:
        """A real sshd with the box's own configuration; `settings` stand before it."""
        self.port = port
        self.run(["mkdir", "-p", "-m", "755", "/run/sshd"])
        options = [f"-oListenAddress={self.address}", f"-oPort={port}", *(f"-o{k}={v}" for k, v in settings.items())]
        process = self.popen(["/usr/sbin/sshd", "-D", "-E", "/var/log/sshd.log", *options], log="sshd")
        wait_until(lambda: self._connects(port), "sshd to listen", process=process)
        return process

    def _connects(self, port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address, port)) == 0

    def start_rsyslog(self) -> subprocess.Popen:
        """A real syslogd at /dev/log, which writes authpriv as JSON lines for `audit()`."""
        self.write_file("/etc/rsyslog-tests.conf", _RSYSLOG)
        process = self.popen(["/usr/sbin/rsyslogd", "-n", "-f", "/etc/rsyslog-tests.conf", "-i", "/run/rsyslogd.pid"],
                             log="rsyslogd")
        wait_until(lambda: self.exists("/dev/log"), "rsyslogd to make /dev/log", process=process)
        return process

    def start_broker(self, *arguments: str, wait: bool = True) -> subprocess.Popen:
        """gpuhubd in the foreground; its standard error is in the log `gpuhubd`."""
        process = self.popen(["/usr/sbin/gpuhubd", "--foreground", *arguments], log="gpuhubd")
        if wait:
            self.wait_broker(process)
        return process

    def start_entrypoint(self, *command: str) -> subprocess.Popen:
        """gpuhub-entrypoint as an image would have it, around the image's own command."""
        process = self.popen(["/usr/bin/gpuhub-entrypoint", *(command or ("sleep", "infinity"))], log="entrypoint")
        self.wait_broker(process)
        return process

    def wait_broker(self, process: subprocess.Popen | None = None) -> None:
        wait_until(self.broker_accepts, f"the broker in {self.name} to accept", process=process,
                   log=self.log("gpuhubd"))

    def broker_accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.host_path(SOCKET)) == 0

    def host_path(self, path: str) -> str:
        """A path of the box as seen from outside; only for paths without absolute symbolic links."""
        return f"/proc/{self.pid}/root{path}"

    def pids(self, name: str) -> list[int]:
        """The processes of that program in the box, by the box's numbers.

        By the name of the program or of its first argument: node calls its main thread "MainThread".
        """
        found = []
        for line in self.run(["ps", "-eo", "pid=,stat=,comm=,args="]).stdout.splitlines():
            pid, state, command, first = [*line.split(None, 4), "", ""][:4]
            if name in (command, first.rpartition("/")[2].rstrip(":")) and not state.startswith("Z"):
                found.append(int(pid))
        return found

    def kill(self, name: str, number: int = signal.SIGTERM) -> None:
        """Sends a signal to every process of that name, by its id."""
        for pid in self.pids(name):
            self.run(["kill", f"-{int(number)}", str(pid)], check=False)
        if number == signal.SIGCONT:        # nsenter stops when its child does
            for child in self.children:
                child.send_signal(number)

    def stop(self, name: str, number: int = signal.SIGTERM, timeout: float = 10) -> None:
        """Ends the processes of that name and waits until they are gone."""
        self.kill(name, number)
        wait_until(lambda: not self.pids(name), f"{name} to end", timeout=timeout)

    # ---- the audit log ------------------------------------------------------------------------

    def syslog(self) -> list[dict[str, str]]:
        """Every line that the box's syslogd wrote: time, host, tag, facility, severity, raw, message."""
        done = self.run(["cat", AUDIT_LOG], check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def audit(self, **wanted: str) -> list[dict[str, str]]:
        """gpuhub's lines, each as a dictionary of its pairs; `wanted` picks those with these values."""
        lines = [audit.parse(entry["message"]) for entry in self.syslog()]
        return audit.matching([line for line in lines if line], **wanted)

    def wait_audit(self, timeout: float = 5, count: int = 1, **wanted: str) -> dict[str, str]:
        """Waits for that many lines with these values and returns the last."""
        found: list[dict[str, str]] = []

        def seen() -> bool:
            found[:] = self.audit(**wanted)
            return len(found) >= count

        try:
            wait_until(seen, "", timeout=timeout)
        except TimeoutError:
            lines = "\n".join(str(line) for line in self.audit()) or "(none)"
            raise AssertionError(f"no audit line {wanted} in {timeout} s; there are:\n{lines}") from None
        return found[-1]


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 20,
               process: subprocess.Popen | None = None, log: pathlib.Path | None = None) -> None:
    """Waits until the condition holds; ends early if the process that should bring it about is gone."""
    end = time.monotonic() + timeout
    pause = 0.01
    while not condition():
        dead = process is not None and process.poll() is not None
        if dead or time.monotonic() > end:
            tail = log.read_text(errors="replace")[-3000:] if log and log.exists() else ""
            why = f"it exited {process.returncode}" if dead else f"waited {timeout} s"
            raise TimeoutError(f"no sign of {what}: {why}\n{tail}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
