"""`make bench-nss`: lookups by gpuhub, its peers and a module that does nothing, in one run.

All of it runs in a root of its own. Each measured process has a mount namespace with an nsswitch.conf
that names one module only. The systems take turns, several times round; what is told is the median of the
rounds, since the machine is never quiet. Results go to bench/results/nss.jsonl, the tables into
bench/README.md between their markers. QUICK=1 goes round once.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

BENCH = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent / "tests"))

from harness import layers, product, roots  # noqa: E402
from harness.box import Box, wait_until  # noqa: E402
from harness.lan import Lan  # noqa: E402
from harness.places import say  # noqa: E402

PEERS = "slapd ldap-utils nslcd libnss-ldapd nscd sssd-ldap sssd-common libnss-sss gcc libc6-dev python3-minimal"
USERS, GROUPS, MEMBERS = 10_000, 1_000, 50
BASE = "dc=example,dc=net"
OPS = ("pwnam", "pwuid", "grnam", "grgid", "grouplist")
SETS = ("hot", "names", "absent")
ROUNDS = 1 if os.environ.get("QUICK") else 3

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


class Bench:
    def __init__(self, lan: Lan, root: layers.Recipe):
        self.box = Box(lan, root.stack(), "bench")
        self.results: list[dict] = []
        self.values: dict[tuple, list[float]] = {}

    def note(self, system: str, case: str, value: float, unit: str, metric: str = "median", threads: int = 1) -> None:
        self.values.setdefault((system, case, threads, metric, unit), []).append(value)

    def value(self, system: str, case: str, metric: str = "median", threads: int = 1) -> float | None:
        found = [v for (s, c, t, m, _), v in self.values.items() if (s, c, t, m) == (system, case, threads, metric)]
        return statistics.median(found[0]) if found else None

    # ---- what is measured against ----------------------------------------------------------------

    def prepare(self) -> None:
        box = self.box
        box.run("mkdir -p /bench/10k /bench/1m /bench/50 /bench/nscd /run/slapd/db /run/nscd /run/nslcd")
        box.run("chown nslcd /run/nslcd")
        for module in ("floor", "gpuhub", "ldap", "sss", "files"):
            box.write_file(f"/bench/nsswitch.{module}", f"passwd: {module}\ngroup: {module}\nhosts: files\n")
        for name in ("lookups.c", "floor.c"):
            box.write_file(f"/bench/{name}", (BENCH / "nss" / name).read_text())
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
                f"homeDirectory: /home/{name}\nloginShell: /bin/bash\ngecos: User {i}\n")
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
                say(f"round {round_ + 1} of {ROUNDS}: {system.name}")
                for threads in (1, 2):
                    cases = [f"{op}:{set_}" for set_ in system.sets for op in OPS]
                    self.measure(system, threads, cases, system.arguments)
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
                times = []
                for _ in range(3 if ROUNDS == 1 else 5):
                    start = time.perf_counter()
                    out = which.run(box, argv).stdout
                    times.append((time.perf_counter() - start) * 1000)
                least = {"id, 50 groups": 1, "ls -l, 1000 owners": 1000, "getent passwd": USERS}[case]
                if len(out.splitlines()) < least:
                    raise AssertionError(f"{system.name}: {case} said {len(out.splitlines())} lines")
                self.note(system.name, case, statistics.median(times), "ms")
        empty = System("nothing", "files")
        times = []
        for _ in range(10):
            start = time.perf_counter()
            empty.run(box, ["true"])
            times.append((time.perf_counter() - start) * 1000)
        self.note("nothing", "true", statistics.median(times), "ms")

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
        reader = self.box.popen(GPUHUB.command(["/usr/bin/python3", "-c", _READER]), stdout=subprocess.PIPE, text=True)
        self.note("gpuhub", "reader's private memory", float(reader.stdout.readline()), "KiB", "private")
        reader.wait()

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

    def brokers(self) -> None:
        """The broker's own memory and start, with people that it already knows."""
        box = self.box
        box.stop("gpuhubd")
        schema = box.run(["/usr/bin/python3", "-c", _FILL, "schema"]).stdout
        del schema
        for people in (10_000, 100_000):
            box.run(["/usr/bin/python3", "-c", _FILL, str(people)], timeout=120)
            inode = box.run("stat -c %i /run/gpuhub/snapshot", check=False).stdout
            first = box.start_broker()
            wait_until(lambda: box.run("stat -c %i /run/gpuhub/snapshot", check=False).stdout != inode,
                       "the whole snapshot", 60, first)
            time.sleep(2)
            memory = self.pss("gpuhubd")
            box.stop("gpuhubd")
            times = [float(box.run(["/usr/bin/python3", "-c", _START]).stdout) for _ in range(3 if ROUNDS == 1 else 9)]
            self.note("gpuhub", f"broker's memory, {people} people", memory, "MB", "pss")
            self.note("gpuhub", f"start to first answer, {people} people", statistics.median(times), "ms")

    # ---- what is told ----------------------------------------------------------------------------

    def write(self) -> None:
        results = BENCH / "results"
        results.mkdir(exist_ok=True)
        with open(results / "nss.jsonl", "w") as out:
            for (system, case, threads, metric, unit), values in self.values.items():
                line = {"bench": "nss", "system": system, "case": case, "threads": threads, "metric": metric,
                        "unit": unit, "value": round(statistics.median(values), 1)}
                out.write(json.dumps(line) + "\n")
        readme = BENCH / "README.md"
        text = readme.read_text()
        begin, end = "<!-- bench-nss -->\n", "<!-- /bench-nss -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        readme.write_text(head + begin + self.tables() + end + tail)

    def tables(self) -> str:
        cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
        memory = int(open("/proc/meminfo").readline().split()[1]) // 1024
        out = [f"{time.strftime('%Y-%m-%d')}; {cpu}, {os.cpu_count()} cores, {memory} MiB; Linux {os.uname().release}; "
               f"load {os.getloadavg()[0]:.1f} at the end; {ROUNDS} round(s).\n"]
        for set_ in SETS:
            rows = [[s.name, *(self.cell(s.name, f"{op}:{set_}") for op in OPS)] for s in SYSTEMS if set_ in s.sets]
            out.append(f"**{set_}**, one thread, ns a call (times the floor):\n")
            out.append(table(["", *OPS], rows))
        rows = []
        for s in SYSTEMS:
            one, two = self.value(s.name, "pwnam:hot"), self.value(s.name, "pwnam:hot", threads=2)
            p99 = self.value(s.name, "pwnam:hot", "p99")
            rows.append([s.name, number(p99), number(self.value(s.name, "pwnam:hot", "p99", 2)), number(two),
                         f"{2 * one / two:.2f}"])
        out.append("**Two threads**, getpwnam hot: p99 of one and of two threads (single calls, the clock's own "
                   "cost included), ns a call of each of two, and calls a second beside one thread's:\n")
        out.append(table(["", "p99, 1", "p99, 2", "ns, 2", "scale"], rows))
        for title, unit in (("Whole commands, ms", "ms"), ("Memory, start and faults", None)):
            picked = [(k, v) for k, v in self.values.items() if k[4] != "ns"
                      and ((k[1] in _COMMANDS) if unit else (k[1] not in _COMMANDS))]
            out.append(f"**{title}**\n")
            out.append(table(["case", "system", "", ""], sorted(
                [k[1], k[0], f"{statistics.median(v):.1f} {k[4]}", k[3] if k[3] != "median" else ""]
                for k, v in picked)))
        out.append("**Aims**\n")
        out.append(table(["aim", "measured", ""], self.aims()))
        return "\n".join(out)

    def cell(self, system: str, case: str) -> str:
        value, floor = self.value(system, case), self.value("floor", case)
        return f"{number(value)} ({value / floor:.2g})"

    def aims(self) -> list[list[str]]:
        def above(system: str, case: str, base: str | None = None) -> float:
            return self.value(system, case) - self.value("floor", base or case)

        aims = []
        for system, limit in (("gpuhub", 250), ("gpuhub-1M", 400)):
            for case in ("pwnam:hot", "pwnam:absent", "pwuid:hot", "grnam:hot", "grouplist:hot"):
                aims.append((f"{system} {case} within {limit} ns of the floor", above(system, case), limit, "ns"))
        aims.append(("getgrouplist of 50 groups within 500 ns of the floor", above("gpuhub", "grouplist-50:hot"), 500, "ns"))
        scale = {s: 2 * self.value(s, "pwnam:hot") / self.value(s, "pwnam:hot", threads=2) for s in ("floor", "gpuhub")}
        aims.append(("two threads scale as the floor does: its scale less ours", scale["floor"] - scale["gpuhub"], 0.1, ""))
        for people, memory, start in ((10_000, 10, 20), (100_000, 64, 100)):
            aims.append((f"broker's memory with {people} people", self.value("gpuhub", f"broker's memory, {people} people", "pss"), memory, "MB"))
            aims.append((f"start to first answer with {people} people", self.value("gpuhub", f"start to first answer, {people} people"), start, "ms"))
        aims.append(("a reader's private memory", self.value("gpuhub", "reader's private memory", "private"), 64, "KiB"))
        return [[what, f"{value:.1f} {unit} (aim {limit})", "met" if value <= limit else "**missed**"]
                for what, value, limit, unit in aims]


_COMMANDS = ("id, 50 groups", "ls -l, 1000 owners", "getent passwd", "true")

# Memory that lookups cost a process: what all its mappings but the shared snapshot have of their own after
# ten thousand of them, less what they had after the first hundred, which loaded the library.
_READER = """
import pwd
def private():
    total, count = 0, True
    for line in open('/proc/self/smaps'):
        if '-' in line.split()[0]: count = not line.rstrip().endswith('/snapshot')
        elif count and line.startswith(('Private_Dirty', 'Private_Clean')): total += int(line.split()[1])
    return total
def ask(first, last):
    for i in range(first, last): pwd.getpwnam('u%05d' % i)
private(); ask(0, 100)
before = private()
ask(100, 10000)
print(private() - before)
"""

# From exec(2) of the broker to its first answer, in ms.
_START = """
import json, socket, subprocess, time
request = json.dumps({'version': 1, 'method': 'io.gpuhub.Broker.GetUser', 'parameters': {'name': 'p0000007', 'login': False}})
start = time.perf_counter()
broker = subprocess.Popen(['/usr/sbin/gpuhubd', '--foreground'], stderr=subprocess.DEVNULL)
while True:
    try:
        s = socket.socket(socket.AF_UNIX)
        s.connect('/run/gpuhub/broker.sock')
        s.sendall(request.encode() + bytes(1))
        reply = b''
        while not reply.endswith(bytes(1)):
            reply += s.recv(65536)
        break
    except (ConnectionError, FileNotFoundError):
        time.sleep(0.0005)
took = time.perf_counter() - start
assert json.loads(reply[:-1])['parameters']['user']['uid'] == 1000000007, reply
time.sleep(1)
broker.terminate()
broker.wait()
print(took * 1000)
"""

# People that a directory told of an hour ago, straight into the store of a broker that is not running.
_FILL = """
import sqlite3, sys, time
db = sqlite3.connect('/var/lib/gpuhub/store.db')
if sys.argv[1] != 'schema':
    now = int(time.time())
    for t in ('people', 'ids', 'members', 'groups'): db.execute('DELETE FROM ' + t)
    for n in range(int(sys.argv[1])):
        name, uid = 'p%07d' % n, 1000000000 + n
        db.execute('INSERT INTO people VALUES (?,?,?,?,?,?,?,?,?,?,0)',
            (name, 'lab', 'lab', str(n), uid, uid, 'Person %d' % n, '/home/' + name, '/bin/bash', now))
        for kind in ('user', 'group'):
            db.execute('INSERT INTO ids (kind, id, name, source, given_at) VALUES (?,?,?,?,?)', (kind, uid, name, 'computed', now))
        db.execute('INSERT INTO groups VALUES (?,?,?,0)', (name, uid, 'builtin'))
        for g in range(n % 5): db.execute('INSERT INTO members VALUES (?,?,?)', ('g%04d' % ((n + g) % 1000), name, 'claim'))
    for g in range(1000): db.execute('INSERT INTO groups VALUES (?,?,?,?)', ('g%04d' % g, 1500000000 + g, 'lab', now))
    db.execute('UPDATE meta SET generation = generation + 1')
    db.commit()
"""


def number(value: float) -> str:
    return f"{value:,.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in lines)


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
        say("the broker alone")
        bench.brokers()
        bench.box.start_broker()
        say("a directory that hangs, and one that is gone")
        bench.faults()
        bench.write()
    print(bench.tables())


if __name__ == "__main__":
    main()
