"""One private network for a test session: loopback only, and everything on it ends with it.

The Lan is a process, the init of its own PID namespace, with its own network namespace. Boxes and
servers are started inside that PID namespace, so whatever ends the init ends them all: `close()`, an
exception, Ctrl-C, or the death of the test run itself (the init reads a pipe that only we hold open).

The thread that calls `enter()` joins the network namespace: from then on its sockets, and those of the
processes that it starts, are on the Lan and nowhere else.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

# Names on the Lan; the boxes have them in /etc/hosts, this process through `_resolve`.
HOSTS = {
    "ldap.test": "127.0.0.2",
    "sso.test": "127.0.0.3",
    "faulty.test": "127.0.0.4",
    "ad.test": "127.0.0.5",
    "ds.test": "127.0.0.6",
    "dot.test": "127.0.0.7",
}

# Before a command: it is killed when the thread that started it ends (the main thread, for a test).
DIE_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

# PID 1 of the Lan. It waits for the end of its input; where there is none (KEEP), for ever.
_INIT = r"""
ip link set lo up && echo ready
if [ "$KEEP" = yes ]; then while :; do sleep 86400 & wait $!; done; fi
while read -r _; do :; done
"""


class Lan:
    def __init__(self, keep: bool = False):
        self.keep = keep
        self.tie = [] if keep else DIE_WITH_US
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gpuhub-lan-"))
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self._boxes: list = []
        self._numbers = itertools.count()
        self._outside: int | None = None
        with open(self.logs / "lan.log", "wb") as log:
            self._process = self._start(log)
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the Lan did not start: {(self.logs / 'lan.log').read_text()}")
        self.pid = namespace_init(self._process.pid, depth=1)

    def _start(self, log) -> subprocess.Popen:
        return subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "bash", "-c", _INIT],
            stdin=subprocess.DEVNULL if self.keep else subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True, env={**os.environ, "KEEP": "yes" if self.keep else "no"})

    # ---- life ---------------------------------------------------------------------------------

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.keep:
            self.close()

    def close(self) -> None:
        """Ends every process on the Lan and takes back what was written for it."""
        self.leave()
        for box in list(self._boxes):
            box.close()
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- where am I ---------------------------------------------------------------------------

    def enter(self) -> None:
        """This thread (and what it starts) moves onto the Lan."""
        if self._outside is None:
            self._outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            _join(f"/proc/{self.pid}/ns/net")
            _resolve()

    def leave(self) -> None:
        if self._outside is not None:
            _setns(self._outside)
            os.close(self._outside)
            self._outside = None

    @contextlib.contextmanager
    def outside(self):
        """For what needs the machine's own network again, such as building a layer."""
        inside = self._outside is not None
        self.leave()
        try:
            yield
        finally:
            if inside:
                self.enter()

    # ---- processes ----------------------------------------------------------------------------

    def command(self, argv: list[str]) -> list[str]:
        """The argv that runs `argv` of this machine's own root on the Lan, to die with it."""
        return [*self.tie, "nsenter", "-t", str(self.pid), "--net", "--pid", "--ipc", "--", *self.tie, *argv]

    def popen(self, argv: list[str], **options) -> subprocess.Popen:
        return subprocess.Popen(self.command(argv), **options)

    def next_address(self) -> str:
        """127.1.1.10 and up: an address of its own for each box of a session."""
        high, low = divmod(next(self._numbers), 200)
        return f"127.1.{1 + high}.{10 + low}"


def namespace_init(pid: int, depth: int) -> int:
    """The first descendant of `pid` that is process 1 of a PID namespace `depth` levels down."""
    waiting = [pid]
    while waiting:
        current = waiting.pop(0)
        numbers = status(current)["NSpid"].split()
        if len(numbers) == depth + 1 and numbers[-1] == "1":
            return current
        children = pathlib.Path(f"/proc/{current}/task/{current}/children").read_text()
        waiting += [int(child) for child in children.split()]
    raise RuntimeError(f"process {pid} has no namespace of its own")


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status as a dictionary."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _join(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(fd)
    finally:
        os.close(fd)


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


_real_getaddrinfo = socket.getaddrinfo


def _resolve() -> None:
    """Makes this process know the names of the Lan, as /etc/hosts would."""

    def getaddrinfo(host, *rest, **options):
        return _real_getaddrinfo(HOSTS.get(host, host), *rest, **options)

    socket.getaddrinfo = getaddrinfo
