"""A hundred thousand people out of the snapshot alone: the broker is dead, and whoever asks its socket is seen."""

import os
import pathlib
import shutil
import socket
import sqlite3
import threading
import time

import pytest

from harness import product, roots
from harness.box import SOCKET, wait_until

PEOPLE = 100_000
TEAMS = 1_000
FIRST = 1_000_000_000
FIRST_TEAM = 1_500_000_000

CONFIG = """
[[provider]]
name = "corp"
kind = "ldap"
urls = ["ldapi://%2Frun%2Fnobody-is-here"]
base = "dc=example,dc=org"
"""


def name(n):
    return f"p{n:06}"


def gid_of_team(n):
    return FIRST_TEAM + n % TEAMS


PASSWD = [f"{name(n)}:*:{FIRST + n}:{FIRST + n}:Person {n}:/home/{name(n)}:/bin/bash" for n in range(PEOPLE)]
GROUP = [f"{name(n)}:*:{FIRST + n}:" for n in range(PEOPLE)] + [
    f"t{t:04}:*:{FIRST_TEAM + t}:" + ",".join(name(n) for n in range(t, PEOPLE, TEAMS)) for t in range(TEAMS)]


class Listener:
    """Stands at the broker's socket and counts who comes; nobody is answered."""

    def __init__(self, box):
        path = box.host_path(SOCKET)
        os.unlink(path)
        self.asked = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        os.chmod(path, 0o666)
        self._socket.listen(1000)
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


def fill(box, directory):
    """People whom a directory told of just now, and the teams that it lists; each has a group of her own."""
    # Elsewhere, since sqlite resolves paths, and a box's would end in this machine's own root.
    inside = pathlib.Path(box.host_path("/var/lib/gpuhub"))
    for part in inside.glob("store.db*"):
        shutil.copyfile(part, directory / part.name)
    db = sqlite3.connect(directory / "store.db")
    now = int(time.time())
    db.executemany(
        "INSERT INTO people (name, provider, issuer, subject, uid, gid, gecos, home, shell, fetched_at)"
        " VALUES (?, 'corp', 'ldap:corp', ?, ?, ?, ?, ?, '/bin/bash', ?)",
        ((name(n), name(n), FIRST + n, FIRST + n, f"Person {n}", f"/home/{name(n)}", now) for n in range(PEOPLE)))
    groups = [(name(n), FIRST + n, "builtin") for n in range(PEOPLE)]
    groups += [(f"t{t:04}", FIRST_TEAM + t, "corp") for t in range(TEAMS)]
    db.executemany(f"INSERT INTO groups (name, gid, provider, fetched_at) VALUES (?, ?, ?, {now})", groups)
    db.executemany("INSERT INTO members (grp, user, via) VALUES (?, ?, 'list')",
                   ((f"t{n % TEAMS:04}", name(n)) for n in range(PEOPLE)))
    db.execute("UPDATE meta SET generation = generation + 1")
    db.commit()
    db.close()
    for part in inside.glob("store.db-*"):
        part.unlink()
    shutil.copyfile(directory / "store.db", inside / "store.db")


@pytest.fixture(scope="module")
def box(lan, ca, package, tmp_path_factory):
    box = product.GpuBox(lan, "crowd", roots.PEERS)
    try:
        box.configure(CONFIG)
        box.up(syslog=False, sshd=False).stop_broker()
        fill(box, tmp_path_factory.mktemp("store"))
        box.restart_broker()
        snapshot = pathlib.Path(box.host_path("/run/gpuhub/snapshot"))
        wait_until(lambda: snapshot.exists() and snapshot.stat().st_size > 10_000_000, "the whole snapshot", 60, box.broker)
        box.stop_broker(9)
        box.died_at = time.monotonic()
        box.listener = Listener(box)
        yield box
        box.listener.close()
    finally:
        box.close()


@pytest.fixture
def unasked(box):
    """The socket was never asked, from the beginning of the test to its end."""
    before = box.listener.asked
    yield box
    assert box.listener.asked == before


def everybody(box, user=None):
    """What `getent` enumerates but for the box's own accounts, and the seconds it took."""
    lines = {}
    start = time.monotonic()
    for database, local in (("passwd", "/etc/passwd"), ("group", "/etc/group")):
        own = box.read_file(local).splitlines()
        said = box.out(["getent", database], user=user).splitlines()
        assert said[:len(own)] == own
        lines[database] = sorted(said[len(own):])
    return lines["passwd"], lines["group"], time.monotonic() - start


@pytest.mark.parametrize("user", [None, "p000007"])
def test_everybody_is_there_once(unasked, user):
    passwd, group, _ = everybody(unasked, user)
    assert len(passwd) == PEOPLE and passwd == PASSWD
    assert len(group) == PEOPLE + TEAMS and group == GROUP
    assert unasked.out("getent passwd | grep -c :/home/p", user=user) == str(PEOPLE)


def test_whom_the_snapshot_does_not_have_the_socket_is_asked_for(box):
    """So that the tests around this one could fail."""
    before = box.listener.asked
    assert box.run(["getent", "passwd", "nobody-here"], check=False).returncode == 2
    assert box.listener.asked > before


_ELSEWHERE = r"""
import _thread, grp, os, pwd, sys

def check(where):
    # Each time somebody else, so that nothing but the snapshot can know.
    global n
    n += 997
    name, uid, team = "p%06d" % n, 1000000000 + n, 1500000000 + n % 1000
    assert pwd.getpwnam(name).pw_uid == uid and pwd.getpwuid(uid).pw_name == name, where
    assert grp.getgrgid(team).gr_name == "t%04d" % (n % 1000) and name in grp.getgrgid(team).gr_mem, where
    assert os.getgrouplist(name, uid) == [uid, team], where
    os.lseek(maps, 0, os.SEEK_SET)
    lines = b"".join(iter(lambda: os.read(maps, 65536), b"")).splitlines()
    mapped = [line.split()[0] for line in lines if line.endswith(b"/snapshot")]
    assert len(mapped) == 1 and mapped == seen.setdefault("mapped", mapped), (where, mapped, seen)

n, seen = 0, {}
maps = os.open("/proc/self/maps", os.O_RDONLY)
check("at first")
os.closerange(3, 4096)
maps = os.open("/proc/self/maps", os.O_RDONLY)
check("without its descriptors")
done = _thread.allocate_lock()
done.acquire()
def thread():
    try:
        check("in a thread")
        seen["thread"] = True
    finally:
        done.release()
_thread.start_new_thread(thread, ())
assert done.acquire(timeout=20) and seen.pop("thread")
if os.fork() == 0:
    maps = os.open("/proc/self/maps", os.O_RDONLY)
    check("in a child")
    os._exit(0)
assert os.wait()[1] == 0
os.chroot("/srv/empty")
os.chdir("/")
check("in a chroot")
os.setgroups([])
os.setgid(1000000007)
os.setuid(1000000007)
check("as somebody else")
os.closerange(3, 4096)
if os.fork() == 0:
    assert pwd.getpwnam("p099999").pw_uid == 1000099999
    os._exit(0)
assert os.wait()[1] == 0
print("everywhere")
"""


def test_one_snapshot_wherever_the_process_goes(unasked):
    """The same mapping all the time, and nothing asked."""
    unasked.run(["mkdir", "-p", "/srv/empty"])
    assert unasked.out(["/usr/bin/python3", "-c", _ELSEWHERE]) == "everywhere"


def test_a_walk_goes_on_without_descriptors_in_a_child_and_in_a_chroot(unasked):
    """Perl, since it has getpwent(3) itself."""
    unasked.run(["mkdir", "-p", "/srv/empty"])
    script = ("use POSIX; $| = 1; my %seen; sub some { for (1..$_[0]) { my @e = getpwent or last; $seen{$e[0]}++ } }"
              "some(1000); POSIX::close($_) for 3..255; some(1000); chroot '/srv/empty'; chdir '/'; some(1000);"
              "my $pid = fork; some(1e9); my @twice = grep { $seen{$_} > 1 } keys %seen;"
              "if ($pid) { wait; $? and die } print scalar(grep { /^p\\d{6}$/ } keys %seen), ' ', scalar(@twice), qq{\\n};")
    assert unasked.out(["perl", "-e", script]).splitlines() == [f"{PEOPLE} 0"] * 2


def test_a_setuid_program(unasked):
    unasked.run("cp /usr/bin/id /tmp/id && chmod u+s /tmp/id")
    said = unasked.out(["/tmp/id"], user="p000042", env={"LD_LIBRARY_PATH": "/nowhere", "HOME": "/nowhere"})
    assert said == ("uid=1000000042(p000042) gid=1000000042(p000042) euid=0(root) "
                    "groups=1000000042(p000042),1500000042(t0042)")


def test_after_the_snapshot_s_time_it_is_the_same_and_nobody_waits(unasked):
    """A living broker says every 5 s that for 20 more the file is its word. This one has long been dead."""
    time.sleep(max(0, unasked.died_at + 21 - time.monotonic()))
    passwd, group, took = everybody(unasked)
    assert (passwd, group) == (PASSWD, GROUP)
    assert took < 20, "seconds: it takes one or two"
    assert unasked.out(["getent", "passwd", "p050000"]) == PASSWD[50_000]
    assert unasked.out(["/usr/bin/python3", "-c", _ELSEWHERE]) == "everywhere"
