"""The ids that gpuhub computes from SIDs are those that sssd computes: both on one directory.

sssd is the distribution's, with its defaults, and gpuhub's configuration is translated from its. Who is asked for in which order is part of it, since domains that
want one slice of the numbers get it in the order in which they are seen.
"""

import base64
import json
import struct

import pytest

from harness import roots, slapd
from harness.box import Box, wait_until
from harness.product import CONFIG, GpuBox

ROOT = f"ou=sids,{slapd.BASE}"

# Domains by the last three numbers of their SIDs. The first is that of Microsoft's documents. The last two want the
# slice of the second (found by search), so that they are put elsewhere.
EXAMPLE = (3623811015, 3361044348, 30300820)
FIRST = (123, 456, 789)
RIVALS = ((1, 2, 10795), (1, 2, 43284))
PEOPLE = {
    "admin500": (EXAMPLE, 500), "user1013": (EXAMPLE, 1013), "last": (EXAMPLE, 199_999),
    # Beyond the slice: those have slices of their own, by another hash.
    "next": (EXAMPLE, 200_000), "later": (EXAMPLE, 399_999), "far": (EXAMPLE, 1_234_567),
    "first": (FIRST, 1105), "rival": (RIVALS[0], 1105), "third": (RIVALS[1], 1105),
}
GROUPS = {"domainusers": (EXAMPLE, 513), "team": (EXAMPLE, 1200), "distant": (EXAMPLE, 600_001)}

_SSSD = f"""
[sssd]
services = nss
domains = lab
[nss]
[domain/lab]
id_provider = ldap
auth_provider = none
access_provider = permit
ldap_uri = ldap://ldap.test
ldap_id_use_start_tls = true
ldap_tls_cacert = /etc/ca.pem
ldap_search_base = {ROOT}
ldap_default_bind_dn = {slapd.READER}
ldap_default_authtok = {slapd.READER_PASSWORD}
ldap_schema = rfc2307
ldap_id_mapping = true
ldap_user_objectsid = objectSid
ldap_group_objectsid = objectSid
ldap_user_primary_group = primaryGroupID
"""


def sid(domain, rid):
    return base64.b64encode(struct.pack("<8B5I", 1, 5, 0, 0, 0, 0, 0, 5, 21, *domain, rid)).decode()


@pytest.fixture(scope="module")
def directory(lan, slapd_session):
    entries = [f"dn: {ROOT}\nobjectClass: organizationalUnit\nou: sids\n"]
    for name, (domain, rid) in PEOPLE.items():
        entries.append(
            f"dn: uid={name},{ROOT}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n"
            f"objectClass: extensibleObject\nuid: {name}\ncn: {name}\nsn: {name}\nuidNumber: 7\ngidNumber: 7\n"
            f"homeDirectory: /home/{name}\nloginShell: /bin/sh\nprimaryGroupID: 513\nobjectSid:: {sid(domain, rid)}\n")
    for name, (domain, rid) in GROUPS.items():
        entries.append(
            f"dn: cn={name},{ROOT}\nobjectClass: posixGroup\nobjectClass: extensibleObject\ncn: {name}\n"
            f"gidNumber: 7\nmemberUid: user1013\nobjectSid:: {sid(domain, rid)}\n")
    slapd_session.add("\n".join(entries))
    yield slapd_session
    slapd_session.delete_tree(ROOT)


def ask(box):
    """uid and primary gid of everybody, and the gid of every group, one after the other."""
    uids = {}
    for name in PEOPLE:
        line = box.out(["getent", "passwd", name])
        uids[name] = line.split(":")[2:4]
        assert box.out(["getent", "passwd", uids[name][0]]) == line, "and back"
    return uids, {name: box.out(["getent", "group", name]).split(":")[2] for name in GROUPS}


def test_the_same_ids_as_sssd(lan, ca, package, directory):
    with Box(lan, roots.PEERS.stack(), "sssd") as peer:
        peer.write_file("/etc/ca.pem", ca.certificate)
        peer.write_file("/etc/sssd/sssd.conf", _SSSD, mode=0o600)
        peer.write_file("/etc/nsswitch.conf", "passwd: files sss\ngroup: files sss\n")
        peer.run("mkdir -p /run/sssd /var/lib/sss/pipes/private")
        process = peer.popen(["/usr/sbin/sssd", "-i"], log="sssd")
        wait_until(lambda: peer.run(["getent", "passwd", "admin500"], check=False).returncode == 0, "sssd to answer",
                   timeout=60, process=process, log=peer.log("sssd"))
        theirs = ask(peer)
        lines = {kind: peer.out(["getent", "-s", "sss", kind, *names]) + "\n"
                 for kind, names in (("passwd", PEOPLE), ("group", GROUPS))}
    with GpuBox(lan, "gpuhub", roots.PEERS) as box:
        # Of sssd's own configuration.
        box.write_file("/etc/ca.pem", ca.certificate)
        box.write_file("/etc/sssd/sssd.conf", _SSSD, mode=0o600)
        translated = box.gpuhub("config", "from-sssd", "--secrets-dir", "/etc/gpuhub", "/etc/sssd/sssd.conf", check=False)
        box.write_file(CONFIG, translated.stdout, mode=0o640, owner="root:gpuhub")
        box.up(sshd=False)
        ours = ask(box)
        assert ours == theirs
        assert ours[0]["user1013"] == ["674001013", "674000513"]
        assert len({uid for uid, _ in ours[0].values()}) == len(PEOPLE)
        sources = {row["name"]: row["source"] for row in json.loads(box.gpuhub("idmap", "export", "--format", "json").stdout)
                   if row["kind"] == "user"}
        assert sources == dict.fromkeys(PEOPLE, "sid")
    # A site that leaves sssd takes its ids along, whatever they were computed from.
    with GpuBox(lan, "gpuhub", roots.PEERS) as box:
        box.up(sshd=False)
        for kind, text in lines.items():
            box.write_file(f"/root/{kind}", text)
            box.gpuhub("idmap", "import", f"/root/{kind}", "--format", kind)
        box.add_user("far", "first-Passw0rd")
        assert box.out(["id", "-u", "far"]) == theirs[0]["far"][0]
        assert "imported" in box.gpuhub("idmap", "show", "team").stdout
