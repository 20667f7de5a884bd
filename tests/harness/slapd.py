"""A real OpenLDAP server with the people of a small laboratory (RFC 2307 entries)."""

import signal
import subprocess
from dataclasses import dataclass

from . import roots
from .box import Box, wait_until
from .ca import Authority
from .lan import HOSTS, Lan

BASE = "dc=example,dc=org"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
READER = f"cn=reader,{BASE}"
READER_PASSWORD = "reader-secret-1"
_LDAPI = "ldapi://%2Frun%2Fslapd%2Fldapi"
_CONFIG = "/etc/ldap/lab.conf"


@dataclass(frozen=True)
class Person:
    name: str
    number: int
    password: str
    full_name: str
    groups: tuple[str, ...]

    @property
    def dn(self) -> str:
        return f"uid={self.name},{PEOPLE}"


PRIMARY = 20000     # gidNumber of "people", everybody's first group
GROUP_IDS = {"people": PRIMARY, "gpu-users": 21001, "ml": 21002, "interns": 21003}
ALICE = Person("alice", 20001, "correct horse 1", "Alice Archer", ("gpu-users", "ml"))
BOB = Person("bob", 20002, "battery staple 2", "Bob Baker", ("gpu-users",))
CAROL = Person("carol", 20003, "tangled wires 3", "Carol Cho", ("interns",))
EVERYBODY = (ALICE, BOB, CAROL)

_SLAPD_CONF = f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
# Active Directory's, as it defines them: what ids are computed from.
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid' EQUALITY octetStringMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.98 NAME 'primaryGroupID' EQUALITY integerMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
# What pam_ldap's ldapns.schema and openssh-lpk add to an account.
attributetype ( 1.3.6.1.4.1.5322.17.2.1 NAME 'authorizedService' EQUALITY caseIgnoreMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.5322.17.1.1 NAME 'authorizedServiceObject' SUP top AUXILIARY MAY authorizedService )
objectclass ( 1.3.6.1.4.1.5322.17.1.2 NAME 'hostObject' SUP top AUXILIARY MAY host )
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY MAY sshPublicKey )
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload syncprov
pidfile /run/slapd/slapd.pid
TLSCACertificateFile /etc/ldap/ca.pem
TLSCertificateFile /etc/ldap/server.pem
TLSCertificateKeyFile /etc/ldap/server.key
authz-regexp "gidNumber=0[+]uidNumber=0,cn=peercred,cn=external,cn=auth" "cn=admin,{BASE}"
database mdb
suffix {BASE}
rootdn cn=admin,{BASE}
directory /run/slapd/db
maxsize 33554432
index objectClass,uid,uidNumber,gidNumber,memberUid,cn eq
overlay ppolicy
ppolicy_default cn=default,ou=policies,{BASE}
ppolicy_use_lockout
overlay syncprov
access to attrs=userPassword by self write by anonymous auth by * none
access to attrs=shadowLastChange by dn.exact="{READER}" read by self write by * none
access to * by dn.exact="{READER}" read by self read by * none
"""

_TREE = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example

dn: ou=people,{BASE}
objectClass: organizationalUnit

dn: ou=groups,{BASE}
objectClass: organizationalUnit

dn: ou=policies,{BASE}
objectClass: organizationalUnit

dn: cn=default,ou=policies,{BASE}
objectClass: pwdPolicy
objectClass: device
cn: default
pwdAttribute: userPassword
pwdLockout: TRUE

dn: cn=expiring,ou=policies,{BASE}
objectClass: pwdPolicy
objectClass: device
cn: expiring
pwdAttribute: userPassword
pwdMaxAge: 1

dn: cn=grace,ou=policies,{BASE}
objectClass: pwdPolicy
objectClass: device
cn: grace
pwdAttribute: userPassword
pwdMaxAge: 2
pwdGraceAuthNLimit: 9

dn: cn=warning,ou=policies,{BASE}
objectClass: pwdPolicy
objectClass: device
cn: warning
pwdAttribute: userPassword
pwdMaxAge: 864000
pwdExpireWarning: 864000

dn: cn=must,ou=policies,{BASE}
objectClass: pwdPolicy
objectClass: device
cn: must
pwdAttribute: userPassword
pwdMustChange: TRUE
pwdMinLength: 8
pwdCheckQuality: 2

dn: {READER}
objectClass: simpleSecurityObject
objectClass: organizationalRole
cn: reader
userPassword: {READER_PASSWORD}
"""


class Slapd:
    """Listens on ldap://ldap.test, ldaps://ldap.test and, in its own box, ldapi."""

    def __init__(self, lan: Lan, authority: Authority):
        self.box = Box(lan, roots.SERVERS.stack(), "ldap", address=HOSTS["ldap.test"])
        certificate, key = authority.issue("ldap.test", HOSTS["ldap.test"])
        self.use_certificate(certificate, key)
        self.box.write_file("/etc/ldap/ca.pem", authority.certificate)
        self.box.write_file(_CONFIG, _SLAPD_CONF)
        self.box.run(["mkdir", "-p", "/run/slapd/db"])
        self._process: subprocess.Popen | None = None
        self.start()
        self.add(_TREE)
        for name, number in GROUP_IDS.items():
            self.add_group(name, number)
        for person in EVERYBODY:
            self.add_person(person)

    # ---- the server's life --------------------------------------------------------------------

    def start(self) -> None:
        address = HOSTS["ldap.test"]
        self._process = self.box.popen(
            ["/usr/sbin/slapd", "-d", "stats", "-f", _CONFIG, "-h", f"ldap://{address} ldaps://{address} {_LDAPI}"],
            log="slapd")
        wait_until(self._answers, "slapd to answer", process=self._process, log=self.box.log("slapd"))

    def _answers(self) -> bool:
        return self._ldap("ldapwhoami", check=False).returncode == 0

    def stop(self) -> None:
        """A clean end: the port is closed, clients see "connection refused"."""
        self.box.stop("slapd")

    def kill(self) -> None:
        self.box.stop("slapd", signal.SIGKILL)

    def restart(self) -> None:
        if self.box.pids("slapd"):
            self.stop()
        self.start()

    def suspend(self) -> None:
        """The worst kind of server: it accepts connections and never answers."""
        self.box.kill("slapd", signal.SIGSTOP)

    def resume(self) -> None:
        self.box.kill("slapd", signal.SIGCONT)

    def use_certificate(self, certificate: str, key: str) -> None:
        """Takes effect at the next start."""
        self.box.write_file("/etc/ldap/server.pem", certificate)
        self.box.write_file("/etc/ldap/server.key", key, mode=0o600)

    def log(self) -> str:
        """slapd's own account of connections, binds and searches."""
        return self.box.log("slapd").read_text(errors="replace")

    # ---- the directory's content --------------------------------------------------------------

    def _ldap(self, tool: str, *arguments: str, input: str | None = None, check: bool = True):
        return self.box.run([tool, "-Q", "-Y", "EXTERNAL", "-H", _LDAPI, *arguments], input=input, check=check)

    def add(self, ldif: str) -> None:
        self._ldap("ldapadd", input=ldif)

    def modify(self, dn: str, *changes: str) -> None:
        """Each change is LDIF's own, such as "replace: loginShell\\nloginShell: /bin/sh"."""
        self._ldap("ldapmodify", input=f"dn: {dn}\nchangetype: modify\n" + "\n-\n".join(changes) + "\n")

    def delete(self, dn: str) -> None:
        self._ldap("ldapdelete", dn)

    def delete_tree(self, dn: str) -> None:
        self._ldap("ldapdelete", "-r", dn)

    def search(self, filter: str, *attributes: str) -> str:
        return self._ldap("ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-b", BASE, filter, *attributes).stdout

    def add_group(self, name: str, number: int, members: tuple[str, ...] = ()) -> None:
        lines = "".join(f"memberUid: {member}\n" for member in members)
        self.add(f"dn: cn={name},{GROUPS}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: {number}\n{lines}")

    def add_person(self, person: Person, **attributes: str) -> None:
        """`attributes` are added to the entry, or replace what it would have had."""
        values = {
            "cn": person.full_name, "sn": person.full_name.split()[-1], "uid": person.name,
            "uidNumber": str(person.number), "gidNumber": str(PRIMARY), "homeDirectory": f"/home/{person.name}",
            "loginShell": "/bin/bash", "gecos": person.full_name, "mail": f"{person.name}@example.org",
            "userPassword": person.password, **attributes}
        classes = "".join(f"objectClass: {name}\n" for name in ("inetOrgPerson", "posixAccount", "shadowAccount"))
        self.add(f"dn: {person.dn}\n{classes}" + "".join(f"{key}: {value}\n" for key, value in values.items() if value))
        for group in person.groups:
            self.modify(f"cn={group},{GROUPS}", f"add: memberUid\nmemberUid: {person.name}")

    def remove_person(self, person: Person) -> None:
        self.delete(person.dn)
        for group in person.groups:
            self.modify(f"cn={group},{GROUPS}", f"delete: memberUid\nmemberUid: {person.name}")

    def set_password(self, person: Person, password: str) -> None:
        self.modify(person.dn, f"replace: userPassword\nuserPassword: {password}")

    def lock(self, person: Person) -> None:
        """Locked for good, by the password policy (draft-behera-ldap-password-policy, 000001010000Z)."""
        self.modify(person.dn, "replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z")

    def unlock(self, person: Person) -> None:
        self.modify(person.dn, "delete: pwdAccountLockedTime")

    def expire_account(self, person: Person, day: int = 1) -> None:
        """shadowExpire, in days since 1970; 0 is expired too."""
        self.modify(person.dn, f"replace: shadowExpire\nshadowExpire: {day}")

    def unexpire_account(self, person: Person) -> None:
        self.modify(person.dn, "delete: shadowExpire")
