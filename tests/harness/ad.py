"""A real Active Directory domain: Samba's domain controller, of which only the LDAP server runs here."""

import signal
import subprocess

from . import roots
from .box import Box, wait_until
from .ca import Authority
from .lan import HOSTS, Lan
from .product import CA

BASE = "DC=ad,DC=test"
USERS = f"CN=Users,{BASE}"
READER = f"CN=reader,{USERS}"
READER_PASSWORD = "Reader.Passw0rd"
PASSWORD = "Passw0rd.Of.Theirs"     # everybody's; the domain's policy wants several kinds of letters
_CONFIG = "/srv/ad/etc/smb.conf"
_DATABASE = "/srv/ad/private/sam.ldb"
# Only LDAP, on its own address, with a certificate of the session's CA.
_OPTIONS = {
    "server services": "ldap",
    "interfaces": f"{HOSTS['ad.test']}/8",
    "bind interfaces only": "yes",
    # Else one that was changed is still good for an hour, as by NTLM in Windows' domains.
    "old password allowed period": "0",
    "tls certfile": "/srv/ad/server.pem",
    "tls keyfile": "/srv/ad/server.key",
    "tls cafile": "/srv/ad/ca.pem",
}

AD = f"""
[[provider]]
name = "ad"
kind = "ldap"
schema = "ad"
urls = ["ldaps://ad.test"]
ca_file = "{CA}"
base = "{BASE}"
bind_dn = "{READER}"
bind_password_file = "/etc/gpuhub/ldap.secret"
"""


class ActiveDirectory:
    """Listens on ldaps://ad.test and ldap://ad.test. Its people are made with the root (`roots.AD`)."""

    def __init__(self, lan: Lan, authority: Authority):
        self.box = Box(lan, roots.AD.stack(), "ad", address=HOSTS["ad.test"])
        certificate, key = authority.issue("ad.test", HOSTS["ad.test"])
        self.box.write_file("/srv/ad/ca.pem", authority.certificate)
        self.box.write_file("/srv/ad/server.pem", certificate)
        self.box.write_file("/srv/ad/server.key", key, mode=0o600)
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        options = [f"--option={key}={value}" for key, value in _OPTIONS.items()]
        self._process = self.box.popen(
            ["/usr/sbin/samba", "-s", _CONFIG, "-i", "--no-process-group", "--debug-stdout", *options], log="samba")
        wait_until(self._answers, "samba to answer", 60, process=self._process, log=self.box.log("samba"))

    def _answers(self) -> bool:
        return self.box.run(["bash", "-c", f": < /dev/tcp/{HOSTS['ad.test']}/636"], check=False).returncode == 0

    def stop(self) -> None:
        self.box.stop("samba", signal.SIGKILL)

    def tool(self, *arguments: str) -> str:
        """samba-tool, on the domain's own files."""
        return self.box.run(["samba-tool", *arguments, "-s", _CONFIG], timeout=60).stdout

    def modify(self, dn: str, *changes: str) -> None:
        """Each change is LDIF's own."""
        ldif = f"dn: {dn}\nchangetype: modify\n" + "\n-\n".join(changes) + "\n"
        self.box.run(["ldbmodify", "-H", _DATABASE], input=ldif)

    def add(self, ldif: str) -> None:
        self.box.run(["ldbadd", "-H", _DATABASE], input=ldif)

    def rename(self, dn: str, new: str) -> None:
        self.box.run(["ldbrename", "-H", _DATABASE, dn, new])

    def delete(self, *dns: str) -> None:
        self.box.run(["ldbdel", "-H", _DATABASE, *dns])

    def show(self, dn: str, attribute: str) -> str:
        """An attribute as ldbsearch shows it."""
        return self.box.run(["ldbsearch", "-H", _DATABASE, "-b", dn, "-s", "base", "(objectClass=*)", attribute]).stdout

    def backup(self) -> None:
        """Keeps the domain as it is now, while nothing runs."""
        self.box.run("rm -rf /srv/ad/private.kept && cp -a /srv/ad/private /srv/ad/private.kept")

    def restore(self) -> None:
        self.box.run("rm -rf /srv/ad/private && cp -a /srv/ad/private.kept /srv/ad/private")

    def sid(self, name: str) -> str:
        out = self.box.run(["ldbsearch", "-H", _DATABASE, f"(sAMAccountName={name})", "objectSid"]).stdout
        return next(line.split()[1] for line in out.splitlines() if line.startswith("objectSid:"))
