"""The same package in a real container: podman with runc, on a storage of its own that goes with the test."""

import json
import pathlib
import re
import shutil
import subprocess

import pexpect

from . import product, roots
from .box import wait_until
from .lan import namespace_init
from .layers import ensure

# crun is not in every distribution's default set; a cgroup manager and limits must be named where there is
# no systemd to give them; no network, since a bridge would leave things behind on this machine.
_RUN = ["--cgroup-manager=cgroupfs", "--runtime=runc"]
_LIMITS = ["--network=none", "--ulimit=nofile=1024:4096", "--ulimit=nproc=1024:4096", "--pids-limit=0"]
# What sshd and PAM need, and nothing else.
CAPABILITIES = ("SETUID", "SETGID", "SYS_CHROOT", "CHOWN", "DAC_OVERRIDE", "FOWNER")

_TAR = 'mount -t overlay overlay -o "ro,lowerdir=$1" "$2" && exec tar -C "$2" --one-file-system -c .'


# Process 1 of the namespaces in which the engine works: with it end its containers and its mounts.
_HOLDER = "mount --make-rprivate / && echo ready; while read -r _; do :; done"


class Podman:
    """An engine for one test run: storage, mounts and processes of its own, gone when it is closed."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", _HOLDER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._holder.stdout.readline()
        pid = str(namespace_init(self._holder.pid, depth=1))
        self._base = ["nsenter", "-t", pid, "--mount", "--pid", "--", "podman", "--root", str(directory / "root"), "--runroot", str(directory / "run"),
                      "--tmpdir", str(directory / "tmp"), "--storage-driver=vfs", *_RUN]

    def run(self, *arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        done = subprocess.run([*self._base, *arguments], capture_output=True, text=True, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"podman {' '.join(arguments)} exited {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def image(self, name: str = "gpu-box") -> str:
        """An image of the box root with the package installed."""
        layer = product.installed(roots.BOX)
        ensure(layer)
        empty = self.directory / "mnt"
        empty.mkdir(exist_ok=True)
        lower = ":".join(str(path) for path in layer.stack())
        tar = subprocess.Popen(["unshare", "--mount", "bash", "-euc", _TAR, "_", lower, str(empty)],
                               stdout=subprocess.PIPE)
        self.run("import", "-", name, stdin=tar.stdout)
        if tar.wait() != 0:
            raise RuntimeError("the root could not be packed")
        return name

    def start(self, image: str, *command: str, options: tuple[str, ...] = ()) -> "Container":
        capabilities = ["--cap-drop=all", *(f"--cap-add={name}" for name in CAPABILITIES)]
        done = self.run("run", "-d", "--hostname=gpu1", *_LIMITS, *capabilities, *options, image, *command)
        return Container(self, done.stdout.strip())

    def close(self) -> None:
        self.run("rm", "-af", "-t", "0", check=False)
        self.run("rmi", "-af", check=False)
        self._holder.stdin.close()
        self._holder.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Container:
    def __init__(self, podman: Podman, number: str):
        self.podman, self.number = podman, number

    def exec(self, *argv: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess:
        return self.podman.run("exec", *(["-i"] if input is not None else []), self.number, *argv, check=check,
                               input=input)

    def out(self, *argv: str) -> str:
        return self.exec(*argv).stdout.rstrip("\n")

    def logs(self) -> str:
        done = self.podman.run("logs", self.number, check=False)
        return done.stdout + done.stderr

    def audit(self) -> list[dict]:
        """A container has no syslogd: the audit lines are JSON on its standard error."""
        return [json.loads(line) for line in self.logs().splitlines() if re.match(r'\{.*"event"', line)]

    def running(self) -> bool:
        return self.podman.run("inspect", "-f", "{{.State.Running}}", self.number).stdout.strip() == "true"

    def wait(self, *argv: str, what: str, timeout: float = 30) -> None:
        """Until that command succeeds in the container."""
        wait_until(lambda: self.exec(*argv, check=False).returncode == 0, f"{what}; its log:\n{self.logs()}",
                   timeout=timeout)

    def ssh(self, user: str, password: str, command: str) -> str:
        """OpenSSH's client in the container itself: it has no network but its own loopback."""
        quiet = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=INFO",
                 "-oPreferredAuthentications=keyboard-interactive", "-oNumberOfPasswordPrompts=1", "-p2222"]
        argv = [*self.podman._base, "exec", "-it", self.number, "ssh", *quiet, f"{user}@127.0.0.1", command]
        child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", timeout=30, dimensions=(50, 160))
        child.expect("Password: $")
        child.sendline(password)
        child.expect(pexpect.EOF)
        text = child.before
        child.close()
        return text
