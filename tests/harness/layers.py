"""Cached, never-written layers, from which overlayfs stacks the roots.

A layer is a directory in the cache, named by a hash of its recipe (the script that makes it, its
inputs, the layers below). It is built in a temporary directory and renamed when it is complete, so a
layer that exists is whole, and an interrupted build is thrown away by the next run.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import hostconf
from .places import cache, say

KEEP = 3            # artefacts of one name that stay: this checkout's, and those of other branches
UNUSED_DAYS = 3     # … younger ones always stay


@dataclass(frozen=True)
class Recipe:
    """What decides a cached artefact: change any of it, and it is built anew under another name."""

    name: str
    build: Callable[[pathlib.Path], pathlib.Path] = field(compare=False)
    inputs: tuple[str, ...] = ()
    below: tuple["Recipe", ...] = ()

    @property
    def key(self) -> str:
        text = json.dumps([self.name, list(self.inputs), [layer.key for layer in self.below]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def path(self) -> pathlib.Path:
        return cache() / "artefacts" / f"{self.name}-{self.key}"

    def stack(self) -> list[pathlib.Path]:
        """This layer and those below it, uppermost first, as overlayfs's lowerdir wants them."""
        seen: list[Recipe] = []

        def visit(recipe: Recipe) -> None:
            if recipe not in seen:
                seen.append(recipe)
            for lower in recipe.below:
                visit(lower)

        visit(self)
        return [recipe.path for recipe in seen]


def ensure(recipe: Recipe) -> pathlib.Path:
    """Builds what the cache lacks; two processes that want the same wait for each other."""
    for lower in recipe.below:
        ensure(lower)
    if recipe.path.is_dir():
        os.utime(recipe.path)
        return recipe.path
    with _lock(recipe.name):
        if recipe.path.is_dir():
            return recipe.path
        recipe.path.parent.mkdir(exist_ok=True)
        work = cache() / "tmp" / f"{recipe.name}-{recipe.key}"
        remove(work)
        work.mkdir(parents=True)
        say(f"{recipe.name}: building")
        start = time.monotonic()
        result = recipe.build(work)
        os.rename(result, recipe.path)
        remove(work)
        say(f"{recipe.name}: done in {time.monotonic() - start:.0f} s")
    _prune(recipe)
    return recipe.path


@contextlib.contextmanager
def _lock(name: str):
    directory = cache() / "locks"
    directory.mkdir(exist_ok=True)
    with open(directory / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another process is building it, waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prune(recipe: Recipe) -> None:
    """Old artefacts of the same name go, but not one that another checkout used lately."""
    same = [p for p in recipe.path.parent.iterdir() if p.name.rpartition("-")[0] == recipe.name and not p.suffix]
    same.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for old in same[KEEP:]:
        if time.time() - old.stat().st_mtime > UNUSED_DAYS * 86400 or recipe.name.endswith("-installed"):
            say(f"{recipe.name}: removing {old.name}, long unused")
            remove(old)


def remove(path: pathlib.Path) -> None:
    """Removes a directory tree; overlayfs leaves work directories that need their mode back."""
    if not path.exists():
        return

    def retry(function, name, _error):
        os.chmod(os.path.dirname(name), 0o700)
        os.chmod(name, 0o700)
        function(name)

    shutil.rmtree(path, onerror=retry)


# The script that enters a root to build a layer: private mount and PID namespaces, a /dev of device
# nodes alone, the machine's resolver, and apt told by APT_CONFIG how this machine reaches its archive.
_ENTER = r"""
set -eu
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
R=$WORK/root
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$R/dev/"
ln -s /proc/self/fd "$R/dev/fd"; mkdir "$R/dev/shm" "$R/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$R/dev/pts"; ln -s pts/ptmx "$R/dev/ptmx"
mount -t tmpfs -o mode=755 tmpfs "$R/run"; mkdir -m 1777 "$R/run/lock"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
cp -r "$WORK/in" "$R/run/build"
if [ "$NETWORK" = yes ]; then
    mount -t tmpfs tmpfs "$R/var/lib/apt/lists"
    mount --bind "$DEBS" "$R/var/cache/apt/archives"
    for f in resolv.conf hosts; do mount --bind /etc/$f "$R/etc/$f"; done
fi
exec chroot "$R" /bin/bash -euc "$SCRIPT"
"""


def chroot_layer(name: str, below: list[Recipe], script: str, files: dict[str, pathlib.Path] | None = None,
                 network: bool = True, extra: tuple[str, ...] = (),
                 fetch: Callable[[pathlib.Path], None] | None = None) -> Recipe:
    """A layer made by running `script` in the root below it.

    `files` are put into /run/build by name; `fetch` may put more there before the root is entered.
    """
    files = files or {}
    inputs = (script, *(f"{n} {digest(p)}" for n, p in sorted(files.items())), *extra)

    def build(work: pathlib.Path) -> pathlib.Path:
        for part in ("upper", "work", "root", "in"):
            (work / part).mkdir()
        for file, source in files.items():
            shutil.copy(source, work / "in" / file)
        if fetch:
            fetch(work / "in")
        lower = ":".join(str(path) for path in list(dict.fromkeys(p for r in below for p in r.stack())))
        run_in_root(work, lower, script, network, name)
        return work / "upper"

    return Recipe(name, build, inputs, tuple(below))


def run_in_root(work: pathlib.Path, lower: str, script: str, network: bool, name: str) -> None:
    debs = cache() / "debs" / name      # one a layer: apt locks the directory
    (debs / "partial").mkdir(parents=True, exist_ok=True)
    if network:
        _apt_configuration(work / "in")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
        "LOWER": lower, "WORK": str(work), "SCRIPT": script, "DEBS": str(debs),
        "NETWORK": "yes" if network else "no",
    }
    if network:
        environment["APT_CONFIG"] = "/run/build/apt.conf"
        environment |= {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    unshare = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
    run_logged([*unshare, *([] if network else ["--net"]), "bash", "-c", _ENTER], cache() / "logs" / f"{name}.log",
               env=environment)


def run_logged(argv: list[str], log: pathlib.Path, **options) -> None:
    """Runs a command, its output to a log; if it fails, the end of the log is the error's text."""
    log.parent.mkdir(exist_ok=True)
    with open(log, "wb") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-25:]
        shown = " ".join(argv[:3])
        raise RuntimeError(f"{shown} … exited {done.returncode}; the end of {log}:\n" + "\n".join(tail))


def _apt_configuration(directory: pathlib.Path) -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = [f"deb [signed-by={keyring}] {uri} {suite} main\n" for uri, suite in hostconf.debian_sources()]
    (directory / "sources.list").write_text("".join(lines))
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", directory / "ca.crt")
    (directory / "apt.conf").write_text(
        hostconf.apt_settings()
        + 'Acquire::https::CaInfo "/run/build/ca.crt";\nAcquire::Languages "none";\n'
        'Dir::Etc::sourcelist "/run/build/sources.list";\nDir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\nAPT::Install-Recommends "0";\nBinary::apt::APT::Keep-Downloaded-Packages "1";\n'
        'Dpkg::Use-Pty "0";\n')


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
