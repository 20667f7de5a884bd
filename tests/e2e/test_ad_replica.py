"""A whole Active Directory (Samba) on the box: as if it was asked for each, and following what happens there."""

import contextlib
import json
import time

import pytest

from harness.ad import AD, BASE, READER, READER_PASSWORD, USERS
from harness.box import wait_until
from harness.ssh import authorize_key, ssh_key

REPLICA = AD + 'sync = "replica"\npoll_interval = "1s"\n'
CROWD = {f"c{n:04}" for n in range(1, 1601)}
UNIX = f"OU=unix,{BASE}"
ZOE = f"CN=Zoe Zimmer,{USERS}"
# Changes are seen at the next poll and deletions four polls later, on a machine that has time; this is a gross bound.
SOON = 60


@pytest.fixture
def make(make_gpubox, ad):
    def make(config=REPLICA, name="gpu1", password=READER_PASSWORD):
        box = make_gpubox(config, name, up=False)
        box.write_file("/etc/gpuhub/ldap.secret", password + "\n", mode=0o640, owner="root:gpuhub")
        box.up()
        if "replica" in config:
            wait_until(lambda: provider(box)["complete"], "the whole domain", 120)
        return box

    return make


def provider(box):
    return next(p for p in json.loads(box.out(["gpuhub", "cache", "show", "--json"]))["providers"] if p["name"] == "ad")


def listed(box, what):
    lines = (line.split(":") for line in box.out(["getent", "-s", "gpuhub", what]).splitlines())
    return {line[0]: line[1:] for line in lines}


def gids(box, name):
    return set(box.out(["id", "-G", name]).split())


def gid(box, group):
    return box.out(["getent", "group", group]).split(":")[2]


def members(box, group):
    return set(filter(None, box.out(["getent", "group", group]).split(":")[3].split(",")))


def is_there(box, name):
    return box.run(["getent", "passwd", name], check=False).returncode == 0


def seen(condition, what):
    start = time.monotonic()
    wait_until(condition, what, timeout=SOON)
    print(f"{what}: {time.monotonic() - start:.2f} s")


def user(name, dn, *more):
    lines = (f"dn: {dn}", "objectClass: user", f"sAMAccountName: {name}", "userAccountControl: 512", *more)
    return "\n".join((*lines, "", ""))


def group(name, *dns, place=USERS, more=()):
    return "\n".join((f"dn: CN={name},{place}", "objectClass: group", f"sAMAccountName: {name}", *more,
                      *(f"member: {dn}" for dn in dns), "", ""))


@contextlib.contextmanager
def added(ad, *entries):
    """They are gone afterwards, the last first."""
    try:
        for entry in entries:
            ad.add(entry)
        yield
    finally:
        for entry in reversed(entries):
            dn = entry.partition("\n")[0].removeprefix("dn: ")
            ad.box.run(["ldbdel", "-H", "/srv/ad/private/sam.ldb", dn], check=False)


def test_everybody_is_as_if_asked_for(make, ad):
    mail = ("groupType: 2",)        # a group that is no security group
    with added(ad,
               f"dn: {UNIX}\nobjectClass: organizationalUnit\n\n",
               user("zoe", ZOE),
               group("outer", f"CN=Domain Users,{USERS}"),
               group("letters", ZOE, f"CN=ml,{USERS}", more=mail),
               group("by-letters", f"CN=letters,{USERS}"),
               group("plain", ZOE),
               group("wanted", f"CN=plain,{USERS}", place=UNIX)):
        for more in ("", f'group_base = "{UNIX}"\ngroup_filter = "(!(sAMAccountName=plain))"\n'):
            replica, asking = make(REPLICA + more), make(AD + more, "gpu2")
            everybody, groups = listed(replica, "passwd"), listed(replica, "group")
            assert CROWD | {"alice", "bob", "carol", "reader", "zoe", "krbtgt"} <= set(everybody)
            assert not any(name.endswith("$") for name in everybody)
            for name in ("alice", "bob", "carol", "zoe", "reader", "krbtgt", "Administrator", "c0001", "c1600"):
                there = asking.run(["getent", "passwd", name], check=False).stdout.rstrip("\n")
                assert there.split(":")[1:] == everybody.get(name, []), name
                if there:
                    assert gids(asking, name) == gids(replica, name), (more, name)
            if "base" in more:
                assert set(groups) == {"wanted"} and gid(replica, "wanted") in gids(replica, "zoe")
            if not more:
                for name in ("gpu-users", "ml", "everyone", "letters", "by-letters", "plain", "wanted",
                             "Domain Admins", "Administrators", "Users"):
                    there = asking.run(["getent", "group", name], check=False)
                    assert there.returncode in (0, 2), name
                    assert there.stdout.rstrip("\n").split(":")[1:] == groups.get(name, []), name
                assert "letters" not in groups and "Users" not in groups
                assert members(replica, "crowd") == CROWD
                assert gid(replica, "outer") in gids(replica, "alice"), "through her primary group"
                assert members(replica, "outer") == set(everybody) - {"Guest"}, "of all whose primary one it is"
                assert gid(replica, "by-letters") not in gids(replica, "zoe"), "not through what is for mail"
            replica.close()
            asking.close()
    # More than comes at once.
    assert "member;range=0-1499:" in ad.show(f"CN=crowd,{USERS}", "member;range=0-1499")


def test_what_happens_in_the_domain_is_seen(make, ad):
    box = make()
    assert provider(box)["mode"] == "polling"
    ml, everyone = gid(box, "ml"), gid(box, "everyone")
    with added(ad, group("fresh")):
        ad.tool("user", "create", "zoe", "Passw0rd.Of.Theirs", "--given-name=Zoe", "--surname=Zimmer")
        zoe = ZOE
        try:
            seen(lambda: is_there(box, "zoe"), "added")
            assert (int(box.out(["id", "-u", "zoe"])) - int(ad.sid("zoe").rsplit("-", 1)[1])) % 200_000 == 0
            assert len(gids(box, "zoe")) == 1, "the primary one"
            ad.modify(zoe, "add: loginShell\nloginShell: /bin/sh")
            seen(lambda: box.out(["getent", "passwd", "zoe"]).endswith(":/bin/sh"), "changed")
            ad.modify(f"CN=ml,{USERS}", f"add: member\nmember: {zoe}")
            seen(lambda: {ml, everyone} <= gids(box, "zoe") and "zoe" in members(box, "everyone"), "in two groups")

            # What she is called, and where she lies, is not told by the groups that she is in.
            ad.rename(zoe, f"CN=Zimmer\\, Zoe,{USERS}")
            zoe = f"CN=Zimmer\\, Zoe,{USERS}"
            ad.modify(zoe, "replace: sAMAccountName\nsAMAccountName: zoey")
            seen(lambda: is_there(box, "zoey") and not is_there(box, "zoe"), "renamed")
            seen(lambda: {ml, everyone} <= gids(box, "zoey") and "zoey" in members(box, "ml"), "and still in it")
            ad.modify(f"CN=everyone,{USERS}", f"delete: member\nmember: CN=ml,{USERS}")
            seen(lambda: everyone not in gids(box, "zoey") and "zoey" not in members(box, "everyone"), "cut off")
            ad.modify(f"CN=everyone,{USERS}", f"add: member\nmember: CN=ml,{USERS}")
            seen(lambda: everyone in gids(box, "zoey"), "and put back")

            rid = ad.sid("fresh").rsplit("-", 1)[1]
            ad.modify(f"CN=fresh,{USERS}", f"add: member\nmember: {zoe}")
            ad.modify(zoe, f"replace: primaryGroupID\nprimaryGroupID: {rid}")
            seen(lambda: box.out(["id", "-g", "zoey"]) == gid(box, "fresh"), "another primary group")
            ad.modify(zoe, "replace: primaryGroupID\nprimaryGroupID: 513")
            seen(lambda: box.out(["id", "-g", "zoey"]) == box.out(["id", "-g", "alice"]), "and the usual one again")

            authorize_key(box, "zoey", "/home/zoey")
            assert ssh_key(box, "zoey").accepted
            ad.tool("user", "disable", "zoey")
            assert not ssh_key(box, "zoey").accepted, "disabled"
            ad.tool("user", "enable", "zoey")
            assert ssh_key(box, "zoey").accepted
        finally:
            ad.delete(zoe)
        seen(lambda: not is_there(box, "zoey") and "zoey" not in members(box, "ml"), "deleted")
        assert not ssh_key(box, "zoey").accepted
    seen(lambda: box.run(["getent", "group", "fresh"], check=False).returncode == 2, "a group deleted")
    assert provider(box)["complete"]


def test_who_may_see_what_is_deleted_sees_it_at_once(make, ad):
    # So that there is no listing in between.
    seldom = REPLICA.replace('"1s"', '"10s"').replace(READER, f"CN=Administrator,{USERS}")
    box = make(seldom, password="Admin.Passw0rd")
    with added(ad, user("zoe", ZOE)):
        seen(lambda: is_there(box, "zoe"), "added")
    start = time.monotonic()
    seen(lambda: not is_there(box, "zoe"), "deleted")
    assert time.monotonic() - start < 30, "before there is a listing"


def test_the_broker_and_the_server_begin_again(make, ad):
    box = make()
    everybody = set(listed(box, "passwd"))
    assert CROWD <= everybody
    box.stop_broker()
    with added(ad, user("zoe", ZOE)):
        box.restart_broker()
        seen(lambda: is_there(box, "zoe"), "added while nobody listened")
        box.stop_broker()
    box.restart_broker()
    seen(lambda: not is_there(box, "zoe"), "deleted while nobody listened")
    assert set(listed(box, "passwd")) == everybody

    # The domain's database is put back: its numbers are given once more, to others.
    ad.stop()
    ad.backup()
    ad.start()
    try:
        with added(ad, user("yves", f"CN=yves,{USERS}")):
            seen(lambda: is_there(box, "yves"), "added")
            ad.stop()
            ad.restore()
    finally:
        if ad.box.pids("samba"):
            ad.stop()
        ad.restore()
        ad.start()
    seen(lambda: not is_there(box, "yves"), "not there in what was put back")
    assert set(listed(box, "passwd")) == everybody
