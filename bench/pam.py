"""`make bench-pam`: logins by gpuhub and its peers, and a bind on a kept connection, in one run against one slapd.

All of it runs in a root of its own. Each measured process has a mount namespace with an nsswitch.conf that names
one module only, and a PAM service of one module only. The systems take turns case by case, several times round, since
the machine is never quiet; what is told is the median of the rounds. A system that does not start, or whose logins do
not end as they should, is told as such, and the others go on. Results go to bench/results/pam.jsonl, the tables into
bench/README.md between their markers. QUICK=1 goes round once.
"""

import base64
import hashlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time

BENCH = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent / "tests"), str(BENCH / "pam")]

from harness import layers, product, roots  # noqa: E402
from harness.box import Box, Failed, wait_until  # noqa: E402
from harness.ca import Authority  # noqa: E402
from harness.lan import Lan  # noqa: E402
from harness.places import say  # noqa: E402
from measures import CASES, CLIENTS, FLOOR, MODES, Measures  # noqa: E402

PEERS = ("slapd nslcd libnss-ldapd libpam-ldapd sssd-ldap sssd-common libnss-sss libpam-sss"
         " gcc libc6-dev libpam0g-dev libldap-dev")
USERS, GROUPS, MEMBERS = 10_000, 1_000, 50
BASE = "dc=example,dc=net"
QUICK = bool(os.environ.get("QUICK"))
ROUNDS, SECONDS = (1, 0.7) if QUICK else (3, 1.2)
CA = "/bench/ca.pem"

_SLAPD = f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/slapd/slapd.pid
threads 16
sizelimit unlimited
TLSCACertificateFile {CA}
TLSCertificateFile /bench/server.pem
TLSCertificateKeyFile /bench/server.key
database mdb
suffix {BASE}
rootdn cn=admin,{BASE}
directory /run/slapd/db
maxsize 268435456
index objectClass,uid,uidNumber,gidNumber,memberUid,member,cn,entryCSN,entryUUID eq
access to attrs=userPassword by anonymous auth by * none
access to * by * read
"""

_URI = {"ldaps": "ldaps://ldap.test", "starttls": "ldap://ldap.test", "plain": "ldap://ldap.test"}


def nslcd_conf(mode: str) -> str:
    return f"""
uid nslcd
gid nslcd
uri {_URI[mode]}/
base {BASE}
ssl {"start_tls" if mode == "starttls" else "off"}
tls_reqcert demand
tls_cacertfile {CA}
"""


def sssd_conf(mode: str) -> str:
    tls = {"starttls": "ldap_id_use_start_tls = true",
           "plain": "ldap_auth_disable_tls_never_use_in_production = true"}.get(mode, "")
    return f"""
[sssd]
services = nss, pam
domains = lab
[nss]
[pam]
[domain/lab]
id_provider = ldap
auth_provider = ldap
access_provider = permit
ldap_uri = {_URI[mode]}/
ldap_search_base = {BASE}
ldap_schema = rfc2307
ldap_tls_reqcert = demand
ldap_tls_cacert = {CA}
cache_credentials = false
enumerate = false
{tls}
"""


def gpuhub_toml(mode: str) -> str:
    """Its lock after wrong passwords is put out of the way: what is measured is the verification."""
    more = {"starttls": "start_tls = true", "plain": "allow_plaintext = true"}.get(mode, "")
    return f"""
[access]
tries = 4000000000
[[provider]]
kind = "ldap"
name = "lab"
urls = ["{_URI[mode]}"]
ca_file = "{CA}"
base = "{BASE}"
{more}
"""


class Peer:
    """A daemon and its modules: `name` is the system's, `module` its name in nsswitch.conf, `library` PAM's."""

    def __init__(self, name: str, module: str, library: str, programs: tuple[str, ...], argv: list[str], socket: str,
                 kept: str, conf: tuple[str, str, int], write):
        self.name, self.module, self.library, self.programs = name, module, library, programs
        self.argv, self.socket, self.kept, self.conf, self.write = argv, socket, kept, conf, write
        self.service = f"bench-{name}"

    def command(self, argv: list[str]) -> list[str]:
        script = f"mount --bind /bench/nsswitch.{self.module} /etc/nsswitch.conf\nexec \"$@\""
        return ["unshare", "--mount", "sh", "-euc", script, "sh", *argv]

    def start(self, box: Box, mode: str) -> None:
        """Anew, with nothing that it kept on disk."""
        path, owner, permissions = self.conf
        box.write_file(path, self.write(mode), mode=permissions, owner=owner)
        box.run(f"rm -rf {self.kept}")
        process = box.popen(self.argv, log=f"{self.name}-{mode}")
        wait_until(lambda: box.exists(self.socket), f"{self.name} ({mode})", 30, process, box.log(f"{self.name}-{mode}"))
        wait_until(lambda: self.say(box, "lookup", "u00010")[0] == "found", f"{self.name} ({mode}) to know u00010", 30)

    def stop(self, box: Box) -> None:
        for program in self.programs:
            box.stop(program, timeout=30)
        box.run(["rm", "-f", self.socket])

    def say(self, box: Box, *arguments: str, timeout: float = 200) -> list[str]:
        """One login or one lookup by a process of its own: what came of it, and the ms it took."""
        what, ns = box.run(self.command(["/bench/logins", *arguments]), timeout=timeout).stdout.split()
        return [what, int(ns) / 1e6]

    def login(self, box: Box, user: str = "u00010") -> list[str]:
        return self.say(box, "login", self.service, user, f"pw-{user}")


PEERS_AND_US = (
    Peer("gpuhub", "gpuhub", "pam_gpuhub.so", ("gpuhubd",), ["/usr/sbin/gpuhubd", "--foreground"],
         "/run/gpuhub/broker.sock", "/var/lib/gpuhub/* /run/gpuhub/*", ("/etc/gpuhub/gpuhub.toml", "root:gpuhub", 0o640),
         gpuhub_toml),
    Peer("nslcd", "ldap", "pam_ldap.so", ("nslcd",), ["/usr/sbin/nslcd", "-n"], "/run/nslcd/socket", "/run/nslcd/*",
         ("/etc/nslcd.conf", "root:root", 0o600), nslcd_conf),
    Peer("sssd", "sss", "pam_sss.so", ("sssd", "sssd_be", "sssd_nss", "sssd_pam"), ["/usr/sbin/sssd", "-i"],
         "/var/lib/sss/pipes/private/pam", "/var/lib/sss/db/* /var/lib/sss/mc/*",
         ("/etc/sssd/sssd.conf", "root:root", 0o600), sssd_conf),
)


class Bench:
    def __init__(self, lan: Lan, root: layers.Recipe):
        self.box = Box(lan, root.stack(), "bench", address="127.0.0.2")
        self.authority = Authority(lan.directory / "ca")
        self.measures = Measures(ROUNDS)
        self.note = self.measures.note

    # ---- what is measured against ----------------------------------------------------------------

    def prepare(self) -> None:
        box = self.box
        box.run("mkdir -p /bench /run/slapd/db /run/nslcd && chown nslcd /run/nslcd")
        for peer in PEERS_AND_US:
            box.write_file(f"/bench/nsswitch.{peer.module}", f"passwd: {peer.module}\ngroup: {peer.module}\nhosts: files\n")
            box.write_file(f"/etc/pam.d/{peer.service}", f"auth required {peer.library}\naccount required {peer.library}\n")
        # Of every login PAM also loads what stands in this one: nothing of any system's.
        box.write_file("/etc/pam.d/other", "".join(f"{kind} required pam_deny.so\n" for kind in ("auth", "account")))
        box.write_file("/bench/logins.c", (BENCH / "pam" / "logins.c").read_text())
        box.run("cd /bench && gcc -O2 -Wall -Wextra -pthread -o logins logins.c -lpam -lldap -llber")
        certificate, key = self.authority.issue("ldap.test", "127.0.0.2")
        box.write_file(CA, self.authority.certificate)
        box.write_file("/bench/server.pem", certificate)
        box.write_file("/bench/server.key", key, mode=0o600)
        box.write_file("/etc/ldap/bench.conf", _SLAPD)
        box.write_file("/bench/data.ldif", self.people())
        box.run("slapadd -q -f /etc/ldap/bench.conf -l /bench/data.ldif", timeout=120)
        slapd = box.popen(["/usr/sbin/slapd", "-d", "0", "-f", "/etc/ldap/bench.conf", "-h",
                           "ldap://127.0.0.2 ldaps://127.0.0.2 ldapi://%2Frun%2Fslapd%2Fldapi"], log="slapd")
        wait_until(lambda: box.exists("/run/slapd/ldapi"), "slapd", process=slapd)

    @staticmethod
    def people() -> str:
        """Ten thousand, each in five of a thousand groups."""
        def ssha(password: str) -> str:
            salt = os.urandom(8)
            return "{SSHA}" + base64.b64encode(hashlib.sha1(password.encode() + salt).digest() + salt).decode()

        ldif = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: ex\ndc: example\n"]
        ldif += [f"dn: ou={ou},{BASE}\nobjectClass: organizationalUnit\nou: {ou}\n" for ou in ("people", "groups")]
        for i in range(USERS):
            name = f"u{i:05}"
            ldif.append(
                f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n"
                f"objectClass: shadowAccount\nuid: {name}\ncn: User {i}\nsn: {i}\nuidNumber: {20000 + i}\n"
                f"gidNumber: {30000 + i // 50}\nhomeDirectory: /home/{name}\nloginShell: /bin/bash\ngecos: User {i}\n"
                f"mail: {name}@example.net\nuserPassword: {ssha(f'pw-{name}')}\n")
        for g in range(GROUPS):
            members = "".join(f"memberUid: u{(g * MEMBERS + j) % USERS:05}\n" for j in range(MEMBERS))
            ldif.append(f"dn: cn=g{g:04},ou=groups,{BASE}\nobjectClass: posixGroup\ncn: g{g:04}\n"
                        f"gidNumber: {30000 + g}\n{members}")
        return "\n".join(ldif)

    # ---- logins ----------------------------------------------------------------------------------

    def logins(self) -> None:
        for mode in MODES:
            peers = [peer for peer in PEERS_AND_US if self.begin(peer, mode)]
            for round_ in range(ROUNDS):
                say(f"{mode}, round {round_ + 1} of {ROUNDS}")
                for case in CASES:
                    for clients in CLIENTS:
                        self.floor(mode, case, clients)
                        for peer in peers:
                            self.measure(peer.name, peer.command, ["pam", peer.service], mode, case, clients)
            if mode != MODES[-1]:       # the faults are of that one
                for peer in peers:
                    peer.stop(self.box)

    def begin(self, peer: Peer, mode: str) -> bool:
        """Starts it, and lets it know the thousand names: a login program asks for the name before it asks PAM."""
        say(f"{mode}: {peer.name} meets a thousand people")
        names = " ".join(f"u{i:05}" for i in range(0, USERS, 10))
        try:
            peer.start(self.box, mode)
            self.box.run(peer.command(["sh", "-c", f"for n in {names}; do echo $n; done | xargs getent passwd >/dev/null"]),
                         timeout=120)
            code, _ = peer.login(self.box)
            if code != "0":
                raise Failed(f"a login ended with {code}")
        except (Failed, TimeoutError, subprocess.TimeoutExpired) as error:
            self.measures.failed(peer.name, mode, error)
            return False
        return True

    def floor(self, mode: str, case: str, clients: int) -> None:
        uri = _URI[mode] + ("+starttls" if mode == "starttls" else "")
        self.measure(FLOOR, lambda argv: ["env", f"LDAPTLS_CACERT={CA}", *argv], ["bind", uri], mode, case, clients)

    def measure(self, system: str, command, how: list[str], mode: str, case: str, clients: int) -> None:
        # Each run goes on with people whom the one before did not have.
        first = self.measures.turns * 137 % 1000
        argv = ["/bench/logins", *how, *case.split(":"), str(clients), str(SECONDS), str(first)]
        try:
            out = self.box.run(command(argv), timeout=120).stdout.split()
        except (Failed, subprocess.TimeoutExpired) as error:
            return self.measures.failed(system, f"{mode}:{case}, {clients} clients", error)
        logins, expected, other = (int(word) for word in out[:3])
        if expected < logins:
            return self.measures.failed(system, f"{mode}:{case}, {clients} clients",
                                        f"{logins - expected} of {logins} ended with code {other}")
        for metric, value, unit in (("p50", int(out[4]), "ns"), ("p99", int(out[5]), "ns"),
                                    ("rate", logins / float(out[3]), "1/s")):
            self.note(system, f"{mode}:{case}", metric, unit, value, clients)
        self.measures.turns += 1

    # ---- a server that hangs -----------------------------------------------------------------------

    def faults(self) -> None:
        """Each system beside slapd under SIGSTOP, and how long after its return all is well again."""
        box = self.box
        peers = [peer for peer in PEERS_AND_US if not self.measures.is_out(peer.name, MODES[-1])]
        for peer in peers:
            peer.login(box)
            for _ in range(5):
                self.fault(peer, "before: a known name", peer.say(box, "lookup", "u00010"), expect="found")
        # All at once: they wait, and need no processor for it.
        box.kill("slapd", signal.SIGSTOP)
        say("slapd hangs")
        together(*((self.hung, peer, part) for peer in peers for part in (self.lookups_while_hung, self.logins_while_hung)))
        box.kill("slapd", signal.SIGCONT)
        say("slapd is back")
        start = time.monotonic()
        together(*((self.until_back, peer, start) for peer in peers))

    def hung(self, peer: Peer, part) -> None:
        try:
            part(peer)
        except (Failed, subprocess.TimeoutExpired) as error:
            self.measures.failed(peer.name, "hung", error)

    def lookups_while_hung(self, peer: Peer) -> None:
        first = peer.say(self.box, "lookup", "nobody.1")
        self.fault(peer, "hung: an unknown name", first)
        if first[1] < 10_000:
            time.sleep(6)
            self.fault(peer, "hung: an unknown name, later", peer.say(self.box, "lookup", "nobody.2"))
        until = time.monotonic() + 5
        for _ in range(5):
            if time.monotonic() < until:
                self.fault(peer, "hung: a known name", peer.say(self.box, "lookup", "u00010"))
        say(f"{peer.name}: lookups done")

    def logins_while_hung(self, peer: Peer) -> None:
        self.fault(peer, "hung: a login, the first", peer.login(self.box))
        # For some seconds, with pauses in which a system may forget what it learned of the server.
        until, worst = time.monotonic() + 8, ["", 0.0]
        while time.monotonic() < until:
            worst = max(worst, peer.login(self.box), key=lambda login: login[1])
            time.sleep(0.7)
        self.fault(peer, "hung: a login afterwards, at worst", worst)
        say(f"{peer.name}: logins done")

    def until_back(self, peer: Peer, start: float) -> None:
        """Until a login succeeds, and a name is found that was not asked for before."""
        try:
            for case, works in (("back: logins", lambda: peer.login(self.box)[0] == "0"),
                                ("back: new names", lambda: peer.say(self.box, "lookup", "u00011")[0] == "found")):
                while not works():
                    if time.monotonic() - start > 180:
                        return self.measures.failed(peer.name, case, "not within 180 s")
                    time.sleep(0.05)
                self.note(peer.name, case, "time", "ms", (time.monotonic() - start) * 1000)
        except (Failed, subprocess.TimeoutExpired) as error:
            self.measures.failed(peer.name, "back", error)

    def fault(self, peer: Peer, case: str, told: list, expect: str | None = None) -> None:
        what, ms = told
        if expect and what != expect:
            return self.measures.failed(peer.name, case, what)
        self.note(peer.name, case, "time", "ms", ms)
        self.measures.ended(peer.name, case, what)


def together(*calls: tuple) -> None:
    """Each of these functions with its arguments, at once."""
    threads = [threading.Thread(target=what, args=arguments) for what, *arguments in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    # Before the private network, from which nothing can be fetched.
    peers = layers.chroot_layer("bench-pam-peers", [roots.BOX], roots._INSTALL + PEERS + "\nrm -rf /var/lib/ldap/*\n")
    root = product.installed(peers)
    layers.ensure(root)
    with Lan() as lan:
        lan.enter()
        bench = Bench(lan, root)
        say("preparing")
        bench.prepare()
        bench.logins()
        bench.faults()
        bench.measures.write()
    print(bench.measures.tables())


if __name__ == "__main__":
    main()
