"""The same people out of three systems: `files`, nslcd, and gpuhub, the latter two from one real directory.

Each system is a box of its own, made of the same layers but for gpuhub's package. The lines of `files` have
`*` for a password, as the other two answer: the `x` that is usual there says that shadow(5) has more of her.

The directory is filled in the order of ids, and so are the files. For then the three orders in which groups
come are one (a file's own, a server's own, and gpuhub's, which sorts), and `id` need not be sorted to be
compared.
"""

import base64
from dataclasses import dataclass

from . import roots, slapd
from .box import Box, wait_until
from .lan import Lan
from .product import LDAP, GpuBox
from .slapd import Slapd

ROOT = f"ou=alike,{slapd.BASE}"
COMMON = 40000       # gid of "people"
NSLCD = f"""\
uid nslcd
gid nslcd
uri ldap://ldap.test
base {ROOT}
binddn {slapd.READER}
bindpw {slapd.READER_PASSWORD}
"""
FILES = "/srv/owned"    # a file for each person and each group, hers or its, and some of nobody


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int = COMMON
    gecos: str = "An Ordinary Person"
    home: str = ""
    shell: str = "/bin/bash"
    attribute: str | None = None    # what `gecos` is in the directory, if not that
    where: str = "people"       # the part of the directory: two names that differ by case need two

    def line(self) -> str:
        return f"{self.name}:*:{self.uid}:{self.gid}:{self.gecos}:{self.home or f'/home/{self.name}'}:{self.shell}\n"

    def ldif(self) -> str:
        """`gecos` is ASCII by its schema; who has another name has it in `cn` alone."""
        attribute = self.gecos if self.attribute is None and self.gecos.isascii() else self.attribute
        values = [("cn", self.name if attribute else self.gecos), ("sn", self.name), ("uid", self.name),
                  ("uidNumber", str(self.uid)), ("gidNumber", str(self.gid)),
                  ("homeDirectory", self.home or f"/home/{self.name}"), ("loginShell", self.shell)]
        values += [("gecos", attribute)] if attribute is not None else []
        return _entry(f"uid={self.name},ou={self.where},{ROOT}", ("inetOrgPerson", "posixAccount"), values)


@dataclass(frozen=True)
class Group:
    name: str
    gid: int
    members: tuple[str, ...] = ()

    def line(self) -> str:
        return f"{self.name}:*:{self.gid}:{','.join(self.members)}\n"

    def ldif(self) -> str:
        values = [("cn", self.name), ("gidNumber", str(self.gid)), *(("memberUid", m) for m in self.members)]
        return _entry(f"cn={self.name},ou=groups,{ROOT}", ("posixGroup",), values)


def _entry(dn: str, classes: tuple[str, ...], values: list[tuple[str, str]]) -> str:
    lines = [f"dn: {dn}", *(f"objectClass: {name}" for name in classes)]
    # In base64, so that any text goes.
    lines += [f"{key}:: {base64.b64encode(value.encode()).decode()}" if value else f"{key}:" for key, value in values]
    return "\n".join(lines) + "\n"


LONG = "l" * 64     # the longest name that gpuhub takes; utmp(5) keeps 32 bytes
PEOPLE = (
    User("ada", 30001, gecos="Ada Adams"),
    User("bea", 30002, gecos="Bea, in fifty groups"),
    User("cyd", 30003, gecos="Cyd of no supplementary group"),
    User("dot", 30004, gid=40001, gecos="Dot, whose primary group lists her too"),
    User("eve", 30005, gid=30005, gecos="Eve, who has a group of her own"),
    User("fay", 30006, gecos="Fäy Łukasiewicz 山田"),
    User("gus", 30020, attribute=""),
    User("gil", 30007, gecos=" "),      # as empty as the directory's `cn` may be, without which nobody is
    User("hal", 30008, gid=49999, gecos="Hal, whose primary group has no entry"),
    User("ivy", 30009, shell="/usr/sbin/nologin"),
    User("jo.ann_o-h@example.org", 30010, gecos="Jo 'Ann' O\"Hara, Room 1, +1 (555) 0100, \\ & $HOME;"),
    User("7of9", 30011),
    User("_svc", 30012, home="/srv/a home with spaces"),
    User("Kim", 30013, gecos="Kim, by this spelling alone"),
    User("max", 30014, gecos="max"),
    User("Max", 30015, gecos="Max", where="others"),
    User("q", 30016, gecos="-"),
    User("end-", 30017, home="/home/./end-/"),
    User("old", 60000, gecos="Of an id below those that systemd takes"),
    User("far", 4000000000, gecos="Of an id beyond 2^31"),
    # More than the 1024 bytes of room that programs try first. nslcd itself has no more than 1024 for a gecos.
    User("wide", 30018, gecos="w" * 900, home="/home/" + "w" * 200),
    User(LONG, 30019),
    User("p007", 31007),
)
CROWD = tuple(User(f"p{n:03}", 31000 + n, gecos=f"Person {n}") for n in range(300) if n != 7)
EVERYBODY = (*PEOPLE, *CROWD)
GROUPS = (
    Group("eve", 30005),
    Group("people", COMMON),
    Group("dots", 40001, ("dot",)),
    Group("empty", 40002),
    Group("Domain Users", 40003, ("Kim", "ada", "far")),
    Group("gpu.users_2-b@lab", 40004, ("ada",)),
    Group("L" * 64, 40005, (LONG,)),
    Group("ghosts", 40006, ("ghost", "www-data")),      # people who have no entry, or are not the directory's
    Group("case", 40007, ("Kim", "Max")),
    *(Group(f"g{n:02}", 41000 + n, ("bea",)) for n in range(50)),
    Group("big", 42000, tuple(f"p{n:03}" for n in range(1000)) + tuple(f"q{n:03}" for n in range(1000))),
    Group("far", 4000000000, ("far",)),
)


def say(box: Box, script: str, keys: list[str] = (), user: str | None = None) -> str:
    """What the script says and how it ends; it reads `keys`, each ended by a NUL."""
    done = box.run(script, input="".join(f"{key}\0" for key in keys), check=False, user=user)
    return f"{done.stdout}{done.stderr}= {done.returncode}\n"


def files(lan: Lan) -> Box:
    box = Box(lan, roots.PEERS.stack(), "files")
    _configure(box, "files")
    for path, people in (("/etc/passwd", EVERYBODY), ("/etc/group", GROUPS)):
        box.write_file(path, box.read_file(path) + "".join(one.line() for one in people))
    return box


def nslcd(lan: Lan) -> Box:
    box = Box(lan, roots.PEERS.stack(), "nslcd")
    _configure(box, "files ldap")
    box.write_file("/etc/nslcd.conf", NSLCD, mode=0o600)
    box.run("mkdir -p /run/nslcd && chown nslcd:nslcd /run/nslcd")
    process = box.popen(["/usr/sbin/nslcd", "-n"], log="nslcd")
    _wait_for(box, process)
    return box


def gpuhub(lan: Lan, ca) -> GpuBox:
    box = GpuBox(lan, "gpuhub", roots.PEERS)
    # As the package would leave it, were the peers' libraries not in the root.
    _ask(box, "files gpuhub")
    box.configure(LDAP.replace(slapd.PEOPLE, ROOT).replace(slapd.GROUPS, ROOT), ca)
    box.up(sshd=False)
    _wait_for(box, box.broker)
    return box


def forget(box: GpuBox) -> None:
    """A broker that has met nobody but ada, nor any group but the big one: these show that it is ready."""
    box.stop_broker()
    box.run("rm -rf /var/lib/gpuhub/* /run/gpuhub/*")
    box.restart_broker()
    _wait_for(box, box.broker)


def _ask(box: Box, modules: str) -> None:
    box.write_file("/etc/nsswitch.conf", f"passwd: {modules}\ngroup: {modules}\nshadow: files\nhosts: files\n")


def _configure(box: Box, modules: str) -> None:
    """The same local accounts as where gpuhub is installed, and other modules."""
    _ask(box, modules)
    box.run(["useradd", "--system", "--user-group", "--home-dir", "/var/lib/gpuhub", "--no-create-home",
             "--shell", "/usr/sbin/nologin", "--comment", "gpuhub broker", "gpuhub"])


def _wait_for(box: Box, process) -> None:
    known = "getent passwd ada && getent group big"
    wait_until(lambda: box.run(known, check=False).returncode == 0, f"{box.name} to know ada", process=process)


def fill(server: Slapd) -> None:
    parts = [f"dn: {ROOT}\nobjectClass: organizationalUnit\n"]
    parts += [f"dn: ou={name},{ROOT}\nobjectClass: organizationalUnit\n" for name in ("people", "others", "groups")]
    server.add("\n".join([*parts, *(one.ldif() for one in (*EVERYBODY, *GROUPS))]))


def empty(server: Slapd) -> None:
    server.delete_tree(ROOT)


def own_files(box: Box) -> None:
    """Homes, and files that belong to everybody and to nobody: by number, as they lie on a shared disk."""
    owned = [(one.home or f"/home/{one.name}", one.uid, one.gid) for one in PEOPLE]
    owned += [(f"{FILES}/of-{one.uid}", one.uid, one.gid) for one in PEOPLE]
    owned += [(f"{FILES}/group-{one.gid}", 0, one.gid) for one in GROUPS]
    owned += [(f"{FILES}/nobodys", 39999, 48888), (f"{FILES}/last", 4294967294, 4294967294)]
    box.run(["/usr/bin/python3", "-c", _OWN], input="".join(f"{uid} {gid} {path}\n" for path, uid, gid in owned))


_OWN = """
import os, sys
for line in sys.stdin:
    uid, gid, path = line.rstrip("\\n").split(" ", 2)
    os.makedirs(path, exist_ok=True)
    os.chown(path, int(uid), int(gid))
    os.chmod(path, 0o700)
    os.utime(path, (1767323040, 1767323040))
os.utime(os.path.dirname(path), (1767323040, 1767323040))
"""
