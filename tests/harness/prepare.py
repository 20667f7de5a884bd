#!/usr/bin/python3
"""Fetches and builds, once, what the tests run on. A second run takes a second.

Needs nothing but Debian 12's python3: what else is missing, it installs from the distribution.
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import layers, roots  # noqa: E402  (the path is set up above)
from harness.places import Missing, cache, say  # noqa: E402

PREREQUISITES = (
    "debootstrap",          # the roots
    "util-linux",           # unshare, nsenter, setpriv
    "iproute2",             # loopback up
    "python3-venv",
    "podman", "runc",       # the test in a real container
    "ca-certificates",
)


def installed(package: str) -> bool:
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.startswith("ii")


def prerequisites() -> None:
    """The distribution's packages; what cannot be installed is named, and ends the run."""
    if os.geteuid() != 0:
        raise Missing("root: the tests make namespaces and mounts; run them as root")
    if not shutil.which("apt-get"):
        raise Missing("apt-get: the tests run on Debian 12")
    absent = [package for package in PREREQUISITES if not installed(package)]
    if absent:
        say(f"installing from the distribution: {' '.join(absent)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        log = cache() / "logs" / "prerequisites.log"
        layers.run_logged(["apt-get", "-q", "update"], log, env=environment)
        layers.run_logged(["apt-get", "-q", "-y", "install", "--no-install-recommends", *absent], log, env=environment)
    still = [package for package in PREREQUISITES if not installed(package)]
    if still:
        raise Missing(f"Debian packages that could not be installed: {' '.join(still)}")
    if "overlay" not in pathlib.Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "overlay"], check=False)
        if "overlay" not in pathlib.Path("/proc/filesystems").read_text():
            raise Missing("overlayfs in this kernel (/proc/filesystems does not list it)")


def build() -> None:
    """The roots that do not stand on each other are built side by side."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = [pool.submit(layers.ensure, roots.BASE), pool.submit(prepare_npm)]
        for future in concurrent.futures.as_completed(first):
            future.result()
        others = (roots.SERVERS, roots.HUB, roots.DJANGO, roots.AD, roots.DS, roots.PEERS, roots.CLIENTS)
        second = [pool.submit(layers.ensure, recipe) for recipe in others]
        for future in concurrent.futures.as_completed(second):
            future.result()


def prepare_npm() -> None:
    for recipe in (roots.VENV, roots.NODE, roots.CHP, roots.OIDC):
        layers.ensure(recipe)


def main() -> int:
    try:
        prerequisites()
        build()
    except Missing as missing:
        print(f"prepare: missing: {missing}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    say(f"the roots are ready in {cache()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
