"""A whole directory on the box: everybody is there, at once, and whoever is not costs the directory nothing."""

import json
import time

import pytest

from harness.box import wait_until
from harness.product import LDAP
from harness.slapd import ALICE, BOB, CAROL, EVERYBODY, GROUPS, PRIMARY, Person
from harness.ssh import authorize_key, ssh_key

REPLICA = LDAP + 'sync = "replica"\n'
ZOE = Person("zoe", 20500, "late arrival 9", "Zoe Zimmer", ())
# Changes are seen within 2 s on a machine that has time; what is waited for is a gross bound.
SOON = 10


def provider(box):
    return next(p for p in json.loads(box.out(["gpuhub", "cache", "show", "--json"]))["providers"] if p["name"] == "corp")


def people(box):
    return box.out(["getent", "-s", "gpuhub", "passwd"]).splitlines()


def names(box):
    return [line.split(":")[0] for line in people(box)]


def seen(condition, what):
    start = time.monotonic()
    wait_until(condition, what, timeout=SOON)
    print(f"{what}: {time.monotonic() - start:.2f} s")


@pytest.fixture
def box(make_gpubox, slapd):
    box = make_gpubox(REPLICA)
    wait_until(lambda: provider(box)["complete"], "the whole directory")
    return box


def test_everybody_is_there_and_an_absent_name_costs_no_search(box, slapd):
    assert provider(box)["mode"] == "syncrepl" and provider(box)["cookie"]
    entries = {line.split(":")[0]: line for line in people(box)}
    assert set(entries) == {person.name for person in EVERYBODY}
    assert entries["alice"] == f"alice:*:20001:{PRIMARY}:Alice Archer:/home/alice:/bin/bash"
    groups = dict(line.split(":*:") for line in box.out(["getent", "-s", "gpuhub", "group"]).splitlines())
    assert set(groups) == {"people", "gpu-users", "ml", "interns"}
    assert groups["gpu-users"].endswith(":alice,bob") and groups["interns"].endswith(":carol")
    assert set(box.out(["id", "-G", "alice"]).split()) == {"20000", "21001", "21002"}

    before = len(slapd.log())
    slapd.suspend()
    try:
        start = time.monotonic()
        for n in range(100):
            assert box.run(["getent", "passwd", f"nobody-{n}"], check=False).returncode == 2
            assert box.run(["getent", "group", str(41000 + n)], check=False).returncode == 2
        print(f"200 absent names, slapd stopped: {time.monotonic() - start:.2f} s")
    finally:
        slapd.resume()
    # The server and its log are those of all tests.
    assert "nobody-" not in slapd.log()[before:], "nobody was asked"


def test_who_comes_and_goes_is_seen(box, slapd):
    slapd.add_person(ZOE)
    try:
        seen(lambda: "zoe" in names(box), "added")
        authorize_key(box, "zoe", "/home/zoe")
        assert ssh_key(box, "zoe").accepted
        slapd.modify(f"cn=ml,{GROUPS}", "add: memberUid\nmemberUid: zoe")
        seen(lambda: "21002" in box.out(["id", "-G", "zoe"]).split(), "in a group")
        slapd.modify(f"cn=ml,{GROUPS}", "delete: memberUid\nmemberUid: zoe")
        seen(lambda: "21002" not in box.out(["id", "-G", "zoe"]).split(), "not in it")
        slapd.lock(ZOE)
        assert not ssh_key(box, "zoe").accepted, "a key does not outlive the account's lock"
        slapd.unlock(ZOE)
        assert ssh_key(box, "zoe").accepted
    finally:
        slapd.delete(ZOE.dn)
    seen(lambda: "zoe" not in names(box), "deleted")
    assert box.run(["getent", "passwd", "zoe"], check=False).returncode == 2
    assert not ssh_key(box, "zoe").accepted


def test_an_enumeration_is_whole_while_others_come_and_go(box, slapd):
    crowd = [Person(f"guest{n}", 20600 + n, "guest guest 1", f"Guest {n}", ()) for n in range(20)]
    try:
        for guest in crowd:
            slapd.add_person(guest)
            there = names(box)
            assert len(there) == len(set(there)), there
            assert {ALICE.name, BOB.name, CAROL.name} <= set(there)
        seen(lambda: set(names(box)) == {p.name for p in (*EVERYBODY, *crowd)}, "all of them")
    finally:
        for guest in crowd:
            slapd.delete(guest.dn)
            there = names(box)
            assert len(there) == len(set(there)) and {ALICE.name, BOB.name, CAROL.name} <= set(there)
    seen(lambda: set(names(box)) == {person.name for person in EVERYBODY}, "none of them")


def test_the_server_dies_and_comes_back(box, slapd):
    slapd.kill()
    try:
        wait_until(lambda: provider(box)["problem"], "the broker to notice")
        assert set(names(box)) == {person.name for person in EVERYBODY}
        assert box.out(["getent", "passwd", "alice"]).startswith("alice:")
        refused = box.run(["gpuhub", "cache", "refresh", "--all"], check=False)
        assert refused.returncode == 1 and "unavailable" in refused.stderr, refused.stderr
    finally:
        slapd.start()
    slapd.add_person(ZOE)
    try:
        seen(lambda: "zoe" in names(box), "added after its return")
    finally:
        slapd.delete(ZOE.dn)
    seen(lambda: "zoe" not in names(box), "deleted after its return")


def test_the_cache_can_be_seen_expired_and_refreshed(box, slapd):
    shown = box.out(["gpuhub", "cache", "show"])
    assert "provider corp: syncrepl, 3 people, 4 groups, from ldaps://ldap.test" in shown and ", complete" in shown
    assert "user alice 20001 of corp: fresh" in box.out(["gpuhub", "cache", "show", "alice"])
    assert "group ml 21002 of corp: fresh" in box.out(["gpuhub", "cache", "show", "ml"])
    assert box.run(["gpuhub", "cache", "show", "nobody-here"], check=False).returncode == 1
    assert box.out(["gpuhub", "cache", "expire", "alice"]) == "1 to be asked for again"
    seen(lambda: "fresh" in box.out(["gpuhub", "cache", "show", "alice"]), "fresh again")
    assert box.out(["gpuhub", "cache", "refresh", "alice"]) == "1 found, 0 not there, 0 unavailable"
    assert box.out(["gpuhub", "cache", "refresh", "nobody-here"]) == "0 found, 1 not there, 0 unavailable"
    assert box.out(["gpuhub", "cache", "refresh", "--all"]) == "7 found, 0 not there, 0 unavailable"
    assert box.run(["gpuhub", "cache", "expire"], check=False).returncode == 2
    assert box.run(["gpuhub", "cache", "show"], user="nobody", check=False).returncode == 77
    box.wait_audit(event="admin", detail="cache refresh all by uid 0 on main")


def test_on_demand_people_are_expired_and_refreshed_too(make_gpubox, slapd):
    box = make_gpubox(LDAP)
    assert box.out(["getent", "passwd", "alice"]).startswith("alice:")
    assert provider(box) | {"mode": "on-demand", "complete": False} == provider(box)
    assert "fresh" in box.out(["gpuhub", "cache", "show", "alice"])
    slapd.modify(ALICE.dn, "replace: loginShell\nloginShell: /bin/sh")
    try:
        assert "1 found" in box.out(["gpuhub", "cache", "refresh", "alice"])
        assert box.out(["getent", "passwd", "alice"]).endswith(":/bin/sh")
        slapd.modify(ALICE.dn, "replace: loginShell\nloginShell: /bin/dash")
        box.out(["gpuhub", "cache", "expire", "--all"])
        seen(lambda: box.out(["getent", "passwd", "alice"]).endswith(":/bin/dash"), "asked again by and by")
    finally:
        slapd.modify(ALICE.dn, "replace: loginShell\nloginShell: /bin/bash")


def test_people_can_be_found_and_not_listed(make_gpubox, slapd):
    box = make_gpubox(REPLICA + "enumerate = false\n")
    wait_until(lambda: provider(box)["complete"], "the whole directory")
    assert box.out(["getent", "passwd", "alice"]).startswith("alice:*:20001:")
    assert box.out(["getent", "group", "21002"]).startswith("ml:")
    assert people(box) == [] and box.out(["getent", "-s", "gpuhub", "group"]) == ""
    slapd.add_person(ZOE)
    try:
        seen(lambda: box.run(["getent", "passwd", "zoe"], check=False).returncode == 0, "added")
        assert people(box) == []
    finally:
        slapd.delete(ZOE.dn)
