"""`make bench-nss`: lookups by gpuhub, its peers and a module that does nothing, in one run.

All of it runs in a root of its own. Each measured process has a mount namespace with an nsswitch.conf
that names one module only. The systems take turns, several times round; what is told is the median of the
rounds, since the machine is never quiet. The module that does nothing and gpuhub's snapshot, whose difference
is told, take turns case by case: what such a machine drifts within a minute is more than what lies between
them. Results go to bench/results/nss.jsonl, the tables into
bench/README.md between their markers. QUICK=1 goes round once.
"""

import base64
import hashlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent / "tests"), str(BENCH / "nss")]

from harness import crowd, layers, product, roots, tools, wire  # noqa: E402
from harness.box import Box, wait_until  # noqa: E402
from harness.lan import Lan  # noqa: E402
from harness.places import say  # noqa: E402
from results import OPS, SETS, Results  # noqa: E402

PEERS = "slapd ldap-utils nslcd libnss-ldapd nscd sssd-ldap sssd-common libnss-sss gcc libc6-dev python3-minimal"
USERS, GROUPS, MEMBERS = 10_000, 1_000, 50
BASE = "dc=example,dc=net"
ROUNDS = 1 if os.environ.get("QUICK") else 3
# Of each round, case by case, of those whose difference is told.
TURNS = 5
# Lookups a second of names that nobody has, by so many processes.
FLOOD, FLOODERS = 10_000, 50

_PASSWORD = "swordfish"
_SSHA = "{SSHA}" + base64.b64encode(hashlib.sha1(_PASSWORD.encode() + b"salt").digest() + b"salt").decode()

_SLAPD = f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/slapd/slapd.pid
sizelimit unlimited
database mdb
suffix {BASE}
rootdn cn=admin,{BASE}
directory /run/slapd/db
maxsize 268435456
index objectClass,uid,uidNumber,gidNumber,memberUid,cn eq
access to * by * read
"""
_NSLCD = f"""
uid nslcd
gid nslcd
uri ldap://127.0.0.1:389/
base {BASE}
"""
_SSSD = f"""
[sssd]
services = nss
domains = lab
[nss]
[domain/lab]
id_provider = ldap
auth_provider = none
access_provider = permit
ldap_uri = ldap://127.0.0.1:389/
ldap_search_base = {BASE}
ldap_schema = rfc2307
enumerate = false
"""
_GPUHUB = f"""
[[provider]]
kind = "ldap"
name = "lab"
urls = ["ldapi://%2Frun%2Fslapd%2Fldapi"]
base = "{BASE}"
cache_ttl = "1h"
"""


class System:
    """A way to resolve names: what stands in nsswitch.conf, and what its processes see."""

    def __init__(self, name: str, module: str, mounts: str = "", env: dict | None = None, nscd: bool = False,
                 first: tuple[int, int] = (20_000, 30_000), user: str = "u05000", sets=SETS):
        self.name, self.module, self.env, self.sets = name, module, env or {}, sets
        self.arguments = ["-u", str(first[0]), "-g", str(first[1]), "-n", user]
        # glibc asks nscd before any module: only those who are to ask it see its socket.
        socket = "mount --bind /bench/nscd /run/nscd\n" if nscd else ""
        self.script = f"mount --bind /bench/nsswitch.{module} /etc/nsswitch.conf\n{socket}{mounts}exec \"$@\""

    def command(self, argv: list[str]) -> list[str]:
        return ["unshare", "--mount", "sh", "-euc", self.script, "sh", *argv]

    def run(self, box: Box, argv: list[str], **options) -> subprocess.CompletedProcess:
        return box.run(self.command(argv), env=self.env, **options)


def snapshot_of(directory: str) -> str:
    return f"mount --bind /bench/{directory} /run/gpuhub\n"


_FILES = "mount --bind /bench/passwd.{0} /etc/passwd\nmount --bind /bench/group.{0} /etc/group\n"
_IDS = (1_000_000_000, 1_500_000_000)
FLOOR = System("floor", "floor")
GPUHUB = System("gpuhub", "gpuhub", snapshot_of("10k"), first=_IDS)
GPUHUB_1M = System("gpuhub-1M", "gpuhub", snapshot_of("1m"), first=_IDS, user="u500000")
GPUHUB_SOCKET = System("gpuhub-socket", "gpuhub", "mount --bind /dev/null /run/gpuhub/snapshot\n")
GPUHUB_LDAP = System("gpuhub", "gpuhub")
NSLCD = System("nslcd", "ldap")
NSCD = System("nslcd+nscd", "ldap", nscd=True)
SSSD = System("sssd", "sss")
SSSD_RESPONDER = System("sssd-no-cache", "sss", env={"SSS_NSS_USE_MEMCACHE": "NO"})
FILES_10K = System("files-10k", "files", _FILES.format("10k"))
SYSTEMS = [
    FLOOR, GPUHUB, GPUHUB_1M, GPUHUB_SOCKET, NSLCD, NSCD, SSSD, SSSD_RESPONDER,
    System("files", "files", _FILES.format("small"), sets=("hot", "absent")), FILES_10K,
]
COMPARED = (FLOOR, GPUHUB, GPUHUB_1M)


class Bench:
    def __init__(self, lan: Lan, root: layers.Recipe):
        self.box = Box(lan, root.stack(), "bench")
        self.results = Results(SYSTEMS, ROUNDS)
        self.note = self.results.note

    # ---- what is measured against ----------------------------------------------------------------

    def prepare(self) -> None:
        box = self.box
        box.run("mkdir -p /bench/10k /bench/1m /bench/50 /bench/nscd /run/slapd/db /run/nscd /run/nslcd")
        box.run("chown nslcd /run/nslcd")
        for module in ("floor", "gpuhub", "ldap", "sss", "files"):
            box.write_file(f"/bench/nsswitch.{module}", f"passwd: {module}\ngroup: {module}\nhosts: files\n")
        for file in (BENCH / "nss").iterdir():
            if file.is_file():
                box.write_file(f"/bench/{file.name}", file.read_text())
        box.run("cd /bench && gcc -O2 -Wall -pthread -o lookups lookups.c && gcc -O2 -Wall -fPIC -shared "
                "-Wl,-soname,libnss_floor.so.2 -o /usr/lib/$(gcc -print-multiarch)/libnss_floor.so.2 floor.c")
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BENCH.parent / "target"))
        box.write_file("/bench/make_snapshot", (target / "release/examples/make_snapshot").read_bytes(), mode=0o755)
        self.directory()
        self.users_of_files()
        for where, users, groups in (("10k", USERS, 5), ("50", USERS, 50), ("1m", 1_000_000, 5)):
            maker = box.popen(["/bench/make_snapshot", f"/bench/{where}/snapshot", str(users), str(groups), "3600"],
                              log=f"snapshot-{where}")
            wait_until(lambda: box.exists(f"/bench/{where}/snapshot"), f"snapshot {where}", 120, maker)
        self.daemons()

    def directory(self) -> None:
        ldif = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: ex\ndc: example\n"]
        ldif += [f"dn: ou={ou},{BASE}\nobjectClass: organizationalUnit\nou: {ou}\n" for ou in ("people", "groups")]
        for i in range(USERS):
            name = f"u{i:05}"
            ldif.append(
                f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n"
                f"uid: {name}\ncn: User {i}\nsn: {i}\nuidNumber: {20000 + i}\ngidNumber: {30000 + i // 50}\n"
                f"homeDirectory: /home/{name}\nloginShell: /bin/bash\ngecos: User {i}\n"
                + (f"userPassword: {_SSHA}\n" if name == "u00002" else ""))
        for g, members in enumerate(self.members()):
            ldif.append(f"dn: cn=g{g:04},ou=groups,{BASE}\nobjectClass: posixGroup\ncn: g{g:04}\n"
                        f"gidNumber: {30000 + g}\n" + "".join(f"memberUid: {m}\n" for m in members))
        self.box.write_file("/etc/ldap/bench.conf", _SLAPD)
        self.box.write_file("/bench/data.ldif", "\n".join(ldif))
        self.box.run("slapadd -q -f /etc/ldap/bench.conf -l /bench/data.ldif", timeout=120)

    @staticmethod
    def members() -> list[list[str]]:
        """Each user is in five groups; u00001 in fifty."""
        groups = [[f"u{(g * MEMBERS + j) % USERS:05}" for j in range(MEMBERS)] for g in range(GROUPS)]
        for g in range(1, 46):
            groups[g][0] = "u00001"
        return groups

    def users_of_files(self) -> None:
        passwd = [f"u{i:05}:x:{20000 + i}:{30000 + i // 50}:User {i}:/home/u{i:05}:/bin/bash\n" for i in range(USERS)]
        group = [f"g{g:04}:x:{30000 + g}:{','.join(m)}\n" for g, m in enumerate(self.members())]
        system = [self.box.read_file(f"/etc/{name}") for name in ("passwd", "group")]
        for name, users, groups in (("10k", passwd, group), ("small", [passwd[5000]], [group[500]])):
            self.box.write_file(f"/bench/passwd.{name}", system[0] + "".join(users))
            self.box.write_file(f"/bench/group.{name}", system[1] + "".join(groups))

    def daemons(self) -> None:
        box = self.box
        self.slapd = box.popen(["/usr/sbin/slapd", "-d", "0", "-f", "/etc/ldap/bench.conf", "-h",
                                "ldap://127.0.0.1:389/ ldapi://%2Frun%2Fslapd%2Fldapi"], log="slapd")
        wait_until(lambda: box.exists("/run/slapd/ldapi"), "slapd", process=self.slapd)
        box.run("chmod 777 /run/slapd/ldapi")
        box.write_file("/etc/nslcd.conf", _NSLCD, mode=0o600)
        box.write_file("/etc/sssd/sssd.conf", _SSSD, mode=0o600)
        for program, argv, there in (
                ("nslcd", ["/usr/sbin/nslcd", "-n"], "/run/nslcd/socket"),
                ("sssd", ["/usr/sbin/sssd", "-i"], "/var/lib/sss/pipes/nss")):
            process = box.popen(argv, log=program)
            wait_until(lambda: box.exists(there), program, 30, process, box.log(program))
        box.popen(NSCD.command(["/usr/sbin/nscd", "-F"]), log="nscd")
        wait_until(lambda: box.exists("/bench/nscd/socket"), "nscd")
        box.write_file("/etc/gpuhub/gpuhub.toml", _GPUHUB, mode=0o640, owner="root:gpuhub")
        box.start_broker()
        for system in SYSTEMS:
            user = "u00001" if system.name != "files" else "u05000"
            wait_until(lambda: system.run(box, ["getent", "passwd", user], check=False).returncode == 0,
                       f"{system.name} to know {user}", 30)

    # ---- lookups ---------------------------------------------------------------------------------

    def lookups(self) -> None:
        for round_ in range(ROUNDS):
            for system in SYSTEMS:
                if system in COMPARED:
                    continue
                say(f"round {round_ + 1} of {ROUNDS}: {system.name}")
                for threads in (1, 2):
                    cases = [f"{op}:{set_}" for set_ in system.sets for op in OPS]
                    self.measure(system, threads, cases, system.arguments)
            say(f"round {round_ + 1} of {ROUNDS}: {', '.join(system.name for system in COMPARED)}")
            for _ in range(TURNS):
                for threads in (1, 2):
                    for case in (f"{op}:{set_}" for set_ in SETS for op in OPS):
                        for system in COMPARED:
                            self.measure(system, threads, [case], system.arguments)
                self.measure(FLOOR, 1, ["grouplist:hot"], ["-n", "m05000"], rename="grouplist-50:hot")
                fifty = System("gpuhub", "gpuhub", snapshot_of("50"), first=_IDS)
                self.measure(fifty, 1, ["grouplist:hot"], ["-n", "u05000"], rename="grouplist-50:hot")

    def measure(self, system: System, threads: int, cases: list[str], arguments: list[str], rename: str = "") -> None:
        done = system.run(self.box, ["/bench/lookups", "-t", str(threads), *arguments, *cases], timeout=300)
        for line in done.stdout.splitlines():
            case, _, median, p99, found, calls = line.split("\t")
            wanted = 0 if case.endswith("absent") else int(calls)
            if int(found) != wanted:
                raise AssertionError(f"{system.name} {case}: found {found} of {calls}, and {wanted} are there")
            self.note(system.name, rename or case, float(median), "ns", threads=threads)
            self.note(system.name, rename or case, float(p99), "ns", "p99", threads=threads)

    # ---- whole commands, memory, start, faults ---------------------------------------------------

    def commands(self) -> None:
        box = self.box
        box.run("mkdir -p /bench/files && cd /bench/files && for i in $(seq 0 10 9999); do f=$(printf %05d $i); "
                "echo > $f; chown $((20000 + i)):$((30000 + i / 50)) $f; done; cp -r /bench/files /bench/files-gpuhub; "
                "cd /bench/files-gpuhub && for i in $(seq 0 10 9999); do f=$(printf %05d $i); "
                "chown $((1000000000 + i)):$((1500000000 + i / 10)) $f; done", timeout=300)
        fifty = System("gpuhub", "gpuhub", snapshot_of("50"), first=_IDS)
        for system, files in ((FILES_10K, "files"), (NSLCD, "files"), (NSCD, "files"), (SSSD, "files"),
                              (GPUHUB, "files-gpuhub")):
            in_fifty = fifty if system is GPUHUB else system
            for case, which, argv in (
                    ("id, 50 groups", in_fifty, ["id", "u00001"]),
                    ("ls -l, 1000 owners", system, ["ls", "-l", f"/bench/{files}"]),
                    ("getent passwd", system, ["getent", "passwd"])):
                if case == "getent passwd" and system is SSSD:
                    continue        # it does not enumerate, by its own advice
                out = which.run(box, argv).stdout
                least = {"id, 50 groups": 1, "ls -l, 1000 owners": 1000, "getent passwd": USERS}[case]
                if len(out.splitlines()) < least:
                    raise AssertionError(f"{system.name}: {case} said {len(out.splitlines())} lines")
                self.note(system.name, case, self.script(which, "time_command.py", "7", *argv)[0], "ms")
        self.note("nothing", "true", self.script(System("nothing", "files"), "time_command.py", "20", "true")[0], "ms")

    def script(self, system: System, name: str, *arguments: str, timeout: float = 300) -> list[float]:
        """The numbers that one of bench/nss/*.py prints, run as that system's process."""
        done = system.run(self.box, ["/usr/bin/python3", f"/bench/{name}", *arguments], timeout=timeout)
        return [float(word) for word in done.stdout.split()]

    def pss(self, *names: str) -> float:
        """Of all processes with these names, in MB."""
        total = 0
        for name in names:
            for pid in self.box.pids(name):
                text = self.box.run(["cat", f"/proc/{pid}/smaps_rollup"]).stdout
                total += int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
        return total / 1024

    def memory(self) -> None:
        self.note("nslcd", "memory", self.pss("nslcd"), "MB", "pss")
        self.note("nslcd+nscd", "memory", self.pss("nslcd", "nscd"), "MB", "pss")
        self.note("sssd", "memory", self.pss("sssd", "sssd_be", "sssd_nss"), "MB", "pss")
        self.note("gpuhub", "reader's private memory", self.script(GPUHUB, "reader.py")[0], "KiB", "private")

    def floods(self) -> None:
        """Logins at the broker while many processes ask for names that nobody has."""
        flood, seconds = tools.install(self.box, "flood"), 10 if ROUNDS == 1 else 30

        def logins(case: str, for_seconds: float) -> None:
            took, end = [], time.monotonic() + for_seconds
            while time.monotonic() < end:
                took.append(wire.whole_login(self.box, "u00002", _PASSWORD) * 1000)
                time.sleep(0.05)
            for metric, value in zip(("median", "p90", "max"), (statistics.median(took), *percentiles(took, 90, 100))):
                self.note("gpuhub", f"login, {case}", value, "ms", metric)

        logins("idle", seconds)
        for rate in (FLOOD // 10, FLOOD):
            case = f"{rate} lookups/s of nobody"
            process = self.box.popen(
                GPUHUB_LDAP.command([flood, str(FLOODERS), str(rate // FLOODERS), str(seconds), f"x{rate}"]),
                stdout=subprocess.PIPE, text=True)
            time.sleep(1)
            logins(case, seconds - 2)
            told = json.loads(process.communicate(timeout=60)[0])
            if told["found"]:
                raise AssertionError(f"nobody was found: {told}")
            self.note("gpuhub", case, told["asked"] / told["seconds"], "lookups/s", "asked")
            self.note("gpuhub", case, told["absent"] / told["seconds"], "lookups/s", "answered")
            self.note("gpuhub", f"lookup, {case}", told["median_us"] / 1000, "ms")
            self.note("gpuhub", f"lookup, {case}", told["p99_us"] / 1000, "ms", "p99")

    def faults(self) -> None:
        """A known and an unknown name with slapd stopped, and with nobody at its port."""
        peers = (("gpuhub", GPUHUB_LDAP), ("nslcd", NSLCD), ("sssd", SSSD))
        for fault, number in (("hung", signal.SIGSTOP), ("gone", signal.SIGKILL)):
            for name, system in peers:
                system.run(self.box, ["getent", "passwd", "u00010"], check=False)
            self.box.kill("slapd", number)
            for name, system in peers:
                for what, user in (("known", "u00010"), ("unknown", f"nobody.{fault}")):
                    start = time.perf_counter()
                    code = system.run(self.box, ["getent", "passwd", user], check=False, timeout=90).returncode
                    self.note(name, f"{fault}: {what}", (time.perf_counter() - start) * 1000, "ms", f"exit {code}")
            if fault == "hung":
                self.box.kill("slapd", signal.SIGCONT)
                for name, system in peers:
                    wait_until(lambda: system.run(self.box, ["getent", "passwd", "u00011"], check=False).returncode == 0,
                               f"{name} to recover", 180)

    def starts(self) -> None:
        """Each daemon from its start to the first name, all with whatever they keep on disk."""
        box = self.box
        for name, system, programs, argv in (
                ("nslcd", NSLCD, ("nslcd",), ["/usr/sbin/nslcd", "-n"]),
                ("sssd", SSSD, ("sssd", "sssd_be", "sssd_nss"), ["/usr/sbin/sssd", "-i"]),
                ("gpuhub", GPUHUB_LDAP, ("gpuhubd",), ["/usr/sbin/gpuhubd", "--foreground"])):
            for program in programs:
                box.stop(program)
            for _ in range(ROUNDS):
                self.note(name, "start to the first name", self.script(system, "start_peer.py", "u00010", *argv)[0], "ms")
                for program in programs:
                    wait_until(lambda: not box.pids(program), f"{program} to end", 30)
            box.popen(argv, log=name)
            wait_until(lambda: system.run(box, ["getent", "passwd", "u00010"], check=False).returncode == 0, name, 60)

    def brokers(self) -> None:
        """The broker alone, with people that it already knows: memory, start, and what a change costs."""
        box, plain = self.box, System("gpuhub", "gpuhub")
        box.stop("gpuhubd")
        for people in (1_000, 10_000, 100_000, *([] if ROUNDS == 1 else [1_000_000])):
            say(f"the broker with {people} people")
            crowd.fill(box, people, "lab")
            whole, ran = self.script(plain, "start_broker.py", "whole", timeout=300)
            self.note("gpuhub", f"whole file: until seen, {people} people", whole, "ms")
            self.note("gpuhub", f"whole file: broker's processor, {people} people", ran, "ms")
            if people in (10_000, 100_000):
                for _ in range(3 if ROUNDS == 1 else 9):
                    took = self.script(plain, "start_broker.py")[0]
                    self.note("gpuhub", f"start to first answer, {people} people", took, "ms")
            inode = box.out("stat -c %i /run/gpuhub/snapshot")
            process = box.start_broker()
            wait_until(lambda: box.out("stat -c %i /run/gpuhub/snapshot") != inode, "the whole snapshot", 300, process)
            time.sleep(2)
            if people in (10_000, 100_000):
                self.note("gpuhub", f"broker's memory, {people} people", self.pss("gpuhubd"), "MB", "pss")
            seen, last, ran, wrote = self.script(plain, "change_one.py", str(people), "200")
            for what, value, unit in (("seen", seen, "ms"), ("seen at the latest", last, "ms"),
                                      ("broker's processor", ran, "ms"), ("bytes written", wrote, "bytes")):
                self.note("gpuhub", f"changed: {what}, {people} people", value, unit)
            box.stop("gpuhubd")


def percentiles(values: list[float], *wanted: int) -> list[float]:
    ordered = sorted(values)
    return [ordered[min(len(ordered) * p // 100, len(ordered) - 1)] for p in wanted]


def main() -> None:
    # Before the private network, from which nothing can be fetched.
    peers = layers.chroot_layer("bench-peers", [roots.BOX], roots._INSTALL + PEERS + "\nrm -rf /var/lib/ldap/*\n")
    root = product.installed(peers)
    layers.ensure(root)
    with Lan() as lan:
        lan.enter()
        bench = Bench(lan, root)
        say("preparing")
        bench.prepare()
        bench.lookups()
        say("whole commands, memory")
        bench.commands()
        bench.memory()
        say("logins under a flood of lookups")
        bench.floods()
        say("starts")
        bench.starts()
        say("a directory that hangs, and one that is gone")
        bench.faults()
        bench.brokers()
        bench.results.write()
    print(bench.results.tables())


if __name__ == "__main__":
    main()
