"""A real 389 Directory Server with a tree as FreeIPA makes it, and FreeIPA's attributes."""

import contextlib
import re
import signal
import subprocess
from dataclasses import dataclass

from . import roots
from .box import Box, wait_until
from .ca import Authority
from .lan import HOSTS, Lan
from .product import CA
from .slapd import READER_PASSWORD

BASE = "dc=ds,dc=test"
PEOPLE = f"cn=users,cn=accounts,{BASE}"
GROUPS = f"cn=groups,cn=accounts,{BASE}"
POLICIES = f"cn=policies,{BASE}"
READER = f"uid=gpuhub,cn=sysaccounts,cn=etc,{BASE}"
_ROOT = "cn=Directory Manager"      # whoever is root at the socket
_LDAPI = "ldapi://%2Frun%2Fdirsrv%2Fldapi"
_CONFIG = "/etc/dirsrv/slapd-lab"
_LOG = "/var/log/dirsrv"


@dataclass(frozen=True)
class Person:
    name: str
    number: int
    password: str
    full_name: str
    rdn: str = ""       # FreeIPA's is the uid; another is for what it does not make, too

    @property
    def dn(self) -> str:
        return f"{self.rdn or f'uid={self.name}'},{PEOPLE}"

    @property
    def key(self) -> str:
        """ipaUniqueID, which FreeIPA's own plugin would make."""
        return f"00000000-0000-11ee-8000-{self.number:012}"


PRIMARY = 30000     # gidNumber of "people", everybody's first group
ALICE = Person("alice", 30001, "correct horse 1", "Alice Archer")
BOB = Person("bob", 30002, "battery staple 2", "Bob Baker", r"cn=Baker\, Bob (B*)")
CAROL = Person("carol", 30003, "tangled wires 3", "Carol Cho")
DAVE = Person("dave", 30004, "frayed rope 4", "Dave Dunn")      # in no group
EVERYBODY = (ALICE, BOB, CAROL, DAVE)
GONE = f"uid=gone,{PEOPLE}"


def group_dn(name: str) -> str:
    return f"cn={name},{GROUPS}"


# By name: number and members. "lab" has "gpu-users", which has "ml".
GROUP_ENTRIES: dict[str, tuple[int, tuple[str, ...]]] = {
    "people": (PRIMARY, ()),
    "gpu-users": (31001, (ALICE.dn, BOB.dn, GONE, group_dn("ml"))),
    "ml": (31002, (CAROL.dn,)),
    "lab": (31003, (group_dn("gpu-users"),)),
}

IPA = f"""
[[provider]]
name = "ipa"
kind = "ldap"
schema = "ipa"
urls = ["ldaps://ds.test"]
ca_file = "{CA}"
base = "cn=accounts,{BASE}"
bind_dn = "{READER}"
bind_password_file = "/etc/gpuhub/ldap.secret"
"""

# The same server as its own people without FreeIPA have it.
RFC2307BIS = IPA.replace('schema = "ipa"', 'schema = "rfc2307bis"')

# The definitions of FreeIPA's (its OIDs are below 2.16.840.1.113730.3.8) that people and groups have.
_SCHEMA = """dn: cn=schema
attributeTypes: ( 2.16.840.1.113730.3.8.3.1 NAME 'ipaUniqueID' EQUALITY caseIgnoreMatch
  ORDERING caseIgnoreOrderingMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributeTypes: ( 2.16.840.1.113730.3.8.11.31 NAME 'ipaSshPubKey' EQUALITY octetStringMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectClasses: ( 2.16.840.1.113730.3.8.4.12 NAME 'ipaObject' AUXILIARY MUST ipaUniqueID )
objectClasses: ( 2.16.840.1.113730.3.8.4.3 NAME 'nestedGroup' SUP groupOfNames STRUCTURAL MAY memberOf )
objectClasses: ( 2.16.840.1.113730.3.8.4.4 NAME 'ipaUserGroup' SUP nestedGroup STRUCTURAL )
objectClasses: ( 2.16.840.1.113730.3.8.12.11 NAME 'ipaSshGroupOfPubKeys' ABSTRACT MAY ipaSshPubKey )
objectClasses: ( 2.16.840.1.113730.3.8.12.12 NAME 'ipaSshUser' SUP ipaSshGroupOfPubKeys AUXILIARY )
"""

# What the server's own dscreate would add to its template; entries are as before there were entryUUIDs.
_MORE_CONFIG = f"""
dn: cn=userroot,cn=ldbm database,cn=plugins,cn=config
objectClass: extensibleObject
objectClass: nsBackendInstance
cn: userroot
nsslapd-suffix: {BASE}
nsslapd-directory: /var/lib/dirsrv/db/userroot

dn: cn="{BASE}",cn=mapping tree,cn=config
objectClass: extensibleObject
objectClass: nsMappingTree
cn: {BASE}
nsslapd-state: backend
nsslapd-backend: userroot

dn: cn=entryuuid,cn=plugins,cn=config
objectClass: nsSlapdPlugin
cn: entryuuid
nsslapd-pluginPath: libentryuuid-plugin
nsslapd-pluginInitfunc: entryuuid_plugin_init
nsslapd-pluginType: betxnpreoperation
nsslapd-pluginId: entryuuid
nsslapd-pluginVersion: none
nsslapd-pluginVendor: 389 Project
nsslapd-pluginDescription: entryuuid
nsslapd-pluginEnabled: off
"""

_MORE_OF_THE_SERVER = f"""nsslapd-listenhost: {HOSTS['ds.test']}
nsslapd-securelistenhost: {HOSTS['ds.test']}
nsslapd-security: on
nsslapd-secureport: 636
nsslapd-pwpolicy-local: on
nsslapd-accesslog-logbuffering: off
"""

_PATHS = {
    "schema_dir": f"{_CONFIG}/schema", "cert_dir": _CONFIG, "config_dir": _CONFIG, "lock_dir": "/run/dirsrv/lock",
    "tmp_dir": "/tmp", "ldif_dir": "/var/lib/dirsrv/ldif", "bak_dir": "/var/lib/dirsrv/bak", "run_dir": "/run/dirsrv",
    "inst_dir": "/var/lib/dirsrv", "log_dir": _LOG, "db_dir": "/var/lib/dirsrv/db", "db_home_dir": "/var/lib/dirsrv/db",
    "ldapi": "/run/dirsrv/ldapi",
}
_SETTINGS = {
    **_PATHS, "fqdn": "ds.test", "ds_port": "389", "ds_user": "dirsrv", "rootdn": _ROOT, "ds_suffix": BASE,
    # Nobody's: the socket is the one way in.
    "ds_passwd": "{SSHA512}!", "db_lib": "bdb", "ldapi_enabled": "on", "ldapi_autobind": "on",
}

_TREE = f"""
dn: {BASE}
objectClass: domain
dc: ds
aci: (targetattr != "userPassword")(version 3.0; acl "reader"; allow (read, search, compare)
  userdn = "ldap:///{READER}";)
aci: (targetattr = "userPassword")(version 3.0; acl "self"; allow (write) userdn = "ldap:///self";)

""" + "".join(f"dn: {dn}\nobjectClass: nsContainer\n\n" for dn in (
    f"cn=accounts,{BASE}", PEOPLE, GROUPS, f"cn=etc,{BASE}", f"cn=sysaccounts,cn=etc,{BASE}", POLICIES,
)) + f"""dn: {READER}
objectClass: account
objectClass: simpleSecurityObject
uid: gpuhub
userPassword: {READER_PASSWORD}
"""

_PERSON = ("top", "person", "organizationalPerson", "inetOrgPerson", "posixAccount", "ipaObject", "ipaSshUser")
_GROUP = ("top", "groupOfNames", "nestedGroup", "ipaUserGroup", "posixGroup", "ipaObject")


class DirectoryServer:
    """Listens on ldap://ds.test, ldaps://ds.test and, in its own box, ldapi."""

    def __init__(self, lan: Lan, authority: Authority):
        self.box = Box(lan, roots.DS.stack(), "ds", address=HOSTS["ds.test"])
        self._configure()
        self.use_certificate(*authority.issue("ds.test", HOSTS["ds.test"]))
        self._process: subprocess.Popen | None = None
        self.start()
        self.add(_TREE)
        for name, (number, members) in GROUP_ENTRIES.items():
            self.add_group(name, number, members)
        for person in EVERYBODY:
            self.add_person(person)

    def _configure(self) -> None:
        template = self.box.read_file("/usr/share/dirsrv/data/template-dse.ldif")
        config = re.sub(r"%(\w+)%", lambda name: _SETTINGS[name[1]], template)
        config = config.replace("cn: config\n", f"cn: config\n{_MORE_OF_THE_SERVER}", 1)
        self.box.write_file(f"{_CONFIG}/dse.ldif", config.rstrip("\n") + "\n" + _MORE_CONFIG)
        self.box.write_file(f"{_CONFIG}/schema/60ipa.ldif", _SCHEMA)
        directories = " ".join(path for name, path in _PATHS.items() if name.endswith("_dir") and path != "/tmp")
        self.box.run(f"""set -e
            cp /etc/dirsrv/config/*.conf {_CONFIG}
            cp /etc/dirsrv/schema/* {_CONFIG}/schema
            mkdir -p {directories}
            certutil -N -d sql:{_CONFIG} --empty-password
            chown -R dirsrv:dirsrv {directories}""")

    # ---- the server's life --------------------------------------------------------------------

    def start(self) -> None:
        self._process = self.box.popen(["/usr/sbin/ns-slapd", "-D", _CONFIG, "-d", "0"], log="ns-slapd")
        wait_until(self._answers, "ns-slapd to answer", 60, process=self._process, log=self.box.log("ns-slapd"))

    def _answers(self) -> bool:
        return self._ldap("ldapwhoami", check=False).returncode == 0

    def stop(self) -> None:
        self.box.stop("ns-slapd", timeout=30)

    def kill(self) -> None:
        self.box.stop("ns-slapd", signal.SIGKILL)

    def suspend(self) -> None:
        """It accepts connections and never answers."""
        self.box.kill("ns-slapd", signal.SIGSTOP)

    def resume(self) -> None:
        self.box.kill("ns-slapd", signal.SIGCONT)

    def use_certificate(self, certificate: str, key: str) -> None:
        """Takes effect at the next start."""
        self.box.write_file("/tmp/server.pem", certificate + key, mode=0o600)
        self.box.run(f"""set -e
            openssl pkcs12 -export -in /tmp/server.pem -name Server-Cert -passout pass: -out /tmp/server.p12
            certutil -D -d sql:{_CONFIG} -n Server-Cert 2>/dev/null || :
            pk12util -i /tmp/server.p12 -d sql:{_CONFIG} -K '' -W ''
            chown dirsrv:dirsrv {_CONFIG}/*.db""")

    def log(self) -> str:
        """The server's own account of connections, binds and searches."""
        return self.box.read_file(f"{_LOG}/access")

    # ---- the directory's content --------------------------------------------------------------

    def _ldap(self, tool: str, *arguments: str, input: str | None = None, check: bool = True):
        return self.box.run([tool, "-Q", "-Y", "EXTERNAL", "-H", _LDAPI, *arguments], input=input, check=check)

    def add(self, ldif: str) -> None:
        self._ldap("ldapadd", input=ldif)

    def modify(self, dn: str, *changes: str) -> None:
        """Each change is LDIF's own, such as "replace: loginShell\\nloginShell: /bin/sh"."""
        self._ldap("ldapmodify", input=f"dn: {dn}\nchangetype: modify\n" + "\n-\n".join(changes) + "\n")

    def rename(self, dn: str, rdn: str) -> None:
        """Gives the entry another RDN; the old one's value goes."""
        self._ldap("ldapmodrdn", "-r", dn, rdn)

    def delete(self, dn: str) -> None:
        self._ldap("ldapdelete", dn)

    def value(self, dn: str, attribute: str) -> str | None:
        """The one value of an attribute, operational ones too."""
        found = self._ldap("ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-s", "base", "-b", dn, attribute).stdout
        lines = (line.partition(": ") for line in found.splitlines())
        values = [value for name, _, value in lines if name.lower() == attribute.lower()]
        assert len(values) < 2, found
        return values[0] if values else None

    def add_group(self, name: str, number: int, members: tuple[str, ...] = ()) -> None:
        lines = "".join(f"objectClass: {kind}\n" for kind in _GROUP) + "".join(f"member: {dn}\n" for dn in members)
        self.add(f"dn: {group_dn(name)}\ncn: {name}\ngidNumber: {number}\n{lines}"
                 f"ipaUniqueID: 00000000-0000-11ee-8000-{number:012}\n")

    def add_person(self, person: Person, **attributes: str) -> None:
        """`attributes` are added to the entry."""
        values = {
            "sn": person.full_name.split()[-1], "uid": person.name, "uidNumber": str(person.number),
            "gidNumber": str(PRIMARY), "homeDirectory": f"/home/{person.name}", "loginShell": "/bin/bash",
            "gecos": person.full_name, "userPassword": person.password, "ipaUniqueID": person.key, **attributes}
        if not person.rdn:
            values["cn"] = person.full_name
        classes = "".join(f"objectClass: {kind}\n" for kind in _PERSON)
        self.add(f"dn: {person.dn}\n{classes}" + "".join(f"{key}: {value}\n" for key, value in values.items()))

    def set_password(self, person: Person, password: str) -> None:
        """As an administrator: a reset, where the policy tells one from her own change."""
        self.modify(person.dn, f"replace: userPassword\nuserPassword: {password}")

    @contextlib.contextmanager
    def entry_uuids(self):
        """Turns on the plugin that gives new entries an entryUUID, and gives one to each that is there."""
        self._turn_plugin("entryuuid", "on")
        self.add("dn: cn=all,cn=entryuuid task,cn=tasks,cn=config\nobjectClass: extensibleObject\n"
                 f"cn: all\nbasedn: {BASE}\nfilter: (uid=*)\n")
        wait_until(lambda: all(self.value(person.dn, "entryUUID") for person in EVERYBODY), "the entryUUIDs")
        try:
            yield
        finally:
            self._turn_plugin("entryuuid", "off")
            for person in EVERYBODY:
                self.delete(person.dn)
                self.add_person(person)

    def _turn_plugin(self, name: str, how: str) -> None:
        self.modify(f"cn={name},cn=plugins,cn=config", f"replace: nsslapd-pluginEnabled\nnsslapd-pluginEnabled: {how}")
        self.stop()
        self.start()

    def can_bind(self, dn: str, password: str) -> bool:
        return self.box.run(["ldapwhoami", "-x", "-H", _LDAPI, "-D", dn, "-w", password], check=False).returncode == 0

    # ---- accounts -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, person: Person):
        """As FreeIPA's user-disable and the server's own `dsidm account lock` do it."""
        self.modify(person.dn, "replace: nsAccountLock\nnsAccountLock: true")
        try:
            yield
        finally:
            self.modify(person.dn, "delete: nsAccountLock")

    @contextlib.contextmanager
    def locked_by_role(self, person: Person):
        """As the console and ns-inactivate.pl did it: a managed role, whose class of service is the lock."""
        role, template = f"cn=nsManagedDisabledRole,{BASE}", f"cn=nsAccountInactivationTmp,{BASE}"
        self.add(f"dn: {role}\nobjectClass: LDAPsubentry\nobjectClass: nsRoleDefinition\n"
                 "objectClass: nsSimpleRoleDefinition\nobjectClass: nsManagedRoleDefinition\n\n"
                 f"dn: {template}\nobjectClass: nsContainer\n\n"
                 f'dn: cn="{role}",{template}\nobjectClass: extensibleObject\nobjectClass: costemplate\n'
                 "objectClass: ldapsubentry\ncosPriority: 1\nnsAccountLock: true\n\n"
                 f"dn: cn=nsAccountInactivation_cos,{BASE}\nobjectClass: LDAPsubentry\n"
                 "objectClass: cosSuperDefinition\nobjectClass: cosClassicDefinition\n"
                 f"cosTemplateDn: {template}\ncosAttribute: nsAccountLock operational\ncosSpecifier: nsRole\n")
        self.modify(person.dn, f"add: nsRoleDN\nnsRoleDN: {role}")
        try:
            yield
        finally:
            self.modify(person.dn, "delete: nsRoleDN")
            for dn in (f"cn=nsAccountInactivation_cos,{BASE}", f'cn="{role}",{template}', template, role):
                self.delete(dn)

    @contextlib.contextmanager
    def policy(self, person: Person, **settings: str):
        """A password policy for one person. Whatever it did to her is gone afterwards."""
        dn = f"cn={person.name},{POLICIES}"
        self.add(f"dn: {dn}\nobjectClass: ldapSubEntry\nobjectClass: passwordPolicy\n"
                 + "".join(f"{name}: {value}\n" for name, value in settings.items()))
        self.modify(person.dn, f"add: pwdPolicySubentry\npwdPolicySubentry: {dn}")
        try:
            yield
        finally:
            self.delete(person.dn)
            self.delete(dn)
            self.add_person(person)
