"""A DNS server for one domain: this machine's own dnsmasq, on the Lan."""

import contextlib
import socket
import subprocess

from .box import wait_until
from .lan import Lan

ADDRESS = "127.0.0.53"
RESOLV_CONF = f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n"


class Dns:
    """`start()` it with records, each (target, port, priority)."""

    def __init__(self, lan: Lan, name: str):
        self._lan, self._name = lan, name
        self._pid_file = lan.directory / "dnsmasq.pid"
        self._process: subprocess.Popen | None = None

    def start(self, *records: tuple[str, int, int]) -> None:
        self.stop()
        domain = self._name.partition("._tcp.")[2]
        with open(self._lan.logs / "dnsmasq.log", "ab") as log:
            self._process = self._lan.popen(
                ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                 f"--pid-file={self._pid_file}", "--user=root", "--log-facility=-", f"--local=/{domain}/",
                 f"--listen-address={ADDRESS}", "--bind-interfaces",
                 *(f"--srv-host={self._name},{target},{port},{priority},1"
                   for target, port, priority in records)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, "dnsmasq", process=self._process, log=self._lan.logs / "dnsmasq.log")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, 53), timeout=1):
            return True
        return False

    def stop(self) -> None:
        if self._process:
            # By its number on the Lan: it changes its own credentials, and so does not end with what started it.
            subprocess.run(self._lan.command(["kill", self._pid_file.read_text().strip()]), check=True)
            self._process.wait(timeout=10)
            self._process = None
