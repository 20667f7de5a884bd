"""What many can do to the broker, and what one change costs: lookups without end for names that nobody
has, and one person's change among a hundred thousand.

The bounds are gross, since these machines are noisy; `make bench-nss` measures.
"""

import json
import subprocess
import time

import pytest
from harness import crowd, tools, wire
from harness.product import LDAP
from harness.slapd import ALICE, BOB
from harness.ssh import ssh_kbdint

PROCESSES, EACH, SECONDS = 50, 200, 8


@pytest.fixture
def box(make_gpubox, slapd):
    return make_gpubox(LDAP)


def flood(box, prefix, user=None):
    return box.popen([tools.install(box, "flood"), str(PROCESSES), str(EACH), str(SECONDS), prefix], user=user,
                     stdout=subprocess.PIPE, text=True)


def told(process):
    out, _ = process.communicate(timeout=60)
    return json.loads(out)


def test_a_flood_of_unknown_names_stops_neither_logins_nor_others(box):
    box.run(["useradd", "mallory"])
    assert box.out(["id", "-u", "bob"]) == str(BOB.number)
    start = time.monotonic()
    process = flood(box, "nobody", user="mallory")
    time.sleep(1)
    # Somebody whom nobody has looked up yet: her name comes before her login.
    session = ssh_kbdint(box, "alice", [ALICE.password], "id -Gn")
    assert session.accepted and "ml" in session.transcript, session
    logins = [wire.login(box, "alice", ALICE.password) for _ in range(20)]
    assert all("success" in login.code for login in logins), logins
    # Lookups of others: one that needs no directory, and one that does.
    assert box.out(["id", "-u", "bob"]) == str(BOB.number)
    others = [box.run(["getent", "passwd", f"other{n}"], check=False).returncode for n in range(10)]
    assert time.monotonic() - start < SECONDS, "all of it was meant to be in the flood"
    seconds = sorted(login.until_prompt + login.after_answer for login in logins)
    flooded = told(process)
    assert flooded["found"] == 0 and flooded["absent"] > 0, flooded
    assert flooded["absent"] + flooded["unavailable"] == flooded["asked"] > PROCESSES * SECONDS, flooded
    assert seconds[len(seconds) // 2] < 1 and seconds[-1] < 2, (seconds, flooded)
    assert flooded["longest_us"] < 2_000_000, flooded
    assert others.count(2) >= 8, (others, "an absence that another's flood makes unknown")


def test_a_flood_at_a_directory_that_hangs_ends_in_time(box, slapd):
    assert box.out(["id", "-u", "bob"]) == str(BOB.number)
    slapd.suspend()
    process = flood(box, "hung")
    time.sleep(1)
    start = time.monotonic()
    assert box.out(["id", "-u", "bob"]) == str(BOB.number)
    assert time.monotonic() - start < 2
    flooded = told(process)
    assert flooded["found"] == flooded["absent"] == 0 and flooded["unavailable"] == flooded["asked"] > 0, flooded
    assert flooded["longest_us"] < 2_000_000, flooded
    slapd.resume()
    # One server that hung is let rest for a moment.
    end = time.monotonic() + 20
    while box.run(["getent", "passwd", "alice"], check=False).returncode != 0:
        assert time.monotonic() < end, "the directory is back, and alice is not"
        time.sleep(0.2)


# ---- one of a hundred thousand -----------------------------------------------------------------------

CROWD = 100_000
FAR = """
[[provider]]
name = "far"
kind = "ldap"
urls = ["ldapi:///run/nobody-listens"]
base = "dc=example,dc=org"
cache_ttl = "10h"
"""


def test_one_change_among_a_hundred_thousand_reaches_whoever_runs_already(make_gpubox):
    box = make_gpubox(FAR, up=False).up(sshd=False)
    watch = tools.install(box, "watch")
    box.stop_broker()
    crowd.fill(box, CROWD, "far")
    before = box.out("stat -c %i /run/gpuhub/snapshot")
    box.restart_broker()
    end = time.monotonic() + 60
    while (inode := box.out("stat -c %i /run/gpuhub/snapshot")) == before:
        assert time.monotonic() < end, "no whole snapshot"
        time.sleep(0.1)

    somebody = crowd.name(CROWD // 3)
    # Those who watch cannot ask the broker: its socket is out of their sight.
    blind = ["unshare", "--mount", "sh", "-ec", "mount --bind /dev/null /run/gpuhub/broker.sock; exec \"$@\"", "sh"]
    watchers = [box.popen([*blind, watch, somebody, "500"], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    uids = [crowd.FIRST_UID + CROWD // 3, 1_700_000_001, 1_700_000_002, 1_700_000_003]
    delays = []
    for uid in uids:
        asked = time.monotonic_ns()
        if uid != uids[0]:
            box.gpuhub("idmap", "set", "user", somebody, str(uid))
        for watcher in watchers:
            seen, what = watcher.stdout.readline().split()
            assert what == str(uid)
            delays.append((int(seen) - asked) / 1e6)
    assert box.out("stat -c %i /run/gpuhub/snapshot") == inode, "it was changed, not replaced"
    assert max(delays[len(watchers):]) < 5_000, delays
    assert box.out(["id", "-u", crowd.name(CROWD - 1)]) == str(crowd.FIRST_UID + CROWD - 1)
