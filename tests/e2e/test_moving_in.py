"""A box leaves nslcd or sssd: its own configuration is translated, and its people are who they were. The example
configurations are run here, too, each against its kind of server."""

from harness import ad as active_directory
from harness import alike, roots
from harness import slapd as lab
from harness.box import Box, wait_until
from harness.places import CHECKOUT
from harness.product import CONFIG, GpuBox
from harness.slapd import ALICE, BOB, CAROL
from harness.ssh import ssh_kbdint

ADA = f"uid=ada,ou=people,{alike.ROOT}"
PASSWORD = "engine weaver 9"

SSSD = f"""
[sssd]
services = nss, pam
domains = lab
config_file_version = 2
[nss]
filter_users = root, {BOB.name}
[pam]
[domain/lab]
id_provider = ldap
auth_provider = ldap
access_provider = simple
simple_allow_groups = gpu-users
ldap_uri = ldap://ldap.test
ldap_id_use_start_tls = true
ldap_tls_cacert = /etc/ca.pem
ldap_search_base = {lab.BASE}
ldap_user_search_base = {lab.PEOPLE}?subtree?(sn=*)
ldap_default_bind_dn = {lab.READER}
ldap_default_authtok = {lab.READER_PASSWORD}
min_id = 2000
override_homedir = /home/%d/%u
override_shell = /bin/sh
"""


def translate(box: GpuBox, program: str, path: str) -> str:
    """The box's new configuration is what the command makes of the old one; what it says of it."""
    done = box.gpuhub("config", f"from-{program}", "--secrets-dir", "/etc/gpuhub", path, check=False)
    box.write_file(CONFIG, done.stdout, mode=0o640, owner="root:gpuhub")
    assert done.returncode == (3 if done.stderr else 0), done
    assert lab.READER_PASSWORD not in done.stdout + done.stderr
    return done.stderr


def who(box: Box, names: tuple[str, ...], groups: tuple[str, ...]) -> list[str]:
    """What programs are told of them; members are in no order."""
    said = [box.out(["getent", "passwd", name]) for name in names]
    for name in names:
        said.append(" ".join(sorted(box.out(["id", "-Gn", name]).split())))
    for group in groups:
        head, _, members = box.out(["getent", "group", group]).rpartition(":")
        said.append(f"{head}:{sorted(members.split(','))}")
    return said


def test_from_nslcd(lan, ca, slapd, package, make_gpubox):
    alike.fill(slapd)
    slapd.modify(ADA, f"add: userPassword\nuserPassword: {PASSWORD}")
    names, groups = ("ada", "Kim", "bea", "dot"), ("people", "dots", "Domain Users", "empty")
    try:
        with alike.nslcd(lan) as before:
            theirs = who(before, names, groups)
            assert before.run(["getent", "passwd", "alice"], check=False).returncode == 2, "she is under another base"
        box = make_gpubox(up=False)
        box.write_file("/etc/nslcd.conf", alike.NSLCD, mode=0o600)
        told = translate(box, "nslcd", "/etc/nslcd.conf")
        assert told.splitlines() == [line for line in told.splitlines() if ": ssl: without TLS" in line] != []
        assert box.out("stat -c '%a %U' /etc/gpuhub/ldap.secret") == "600 root"
        box.up()
        assert who(box, names, groups) == theirs
        session = ssh_kbdint(box, "ada", [PASSWORD], "id -u; pwd")
        assert session.accepted and "30001" in session.transcript and "/home/ada" in session.transcript, session
        assert not ssh_kbdint(box, "ada", ["wrong"], "true").accepted
        assert box.run(["getent", "passwd", "alice"], check=False).returncode == 2
    finally:
        alike.empty(slapd)


def test_from_sssd(lan, ca, slapd, package, make_gpubox):
    names = (ALICE.name, CAROL.name)
    with Box(lan, roots.PEERS.stack(), "sssd") as before:
        before.write_file("/etc/ca.pem", ca.certificate)
        before.write_file("/etc/sssd/sssd.conf", SSSD, mode=0o600)
        before.write_file("/etc/nsswitch.conf", "passwd: files sss\ngroup: files sss\n")
        before.run("mkdir -p /run/sssd /var/lib/sss/pipes/private")
        process = before.popen(["/usr/sbin/sssd", "-i"], log="sssd")
        wait_until(lambda: before.run(["getent", "passwd", ALICE.name], check=False).returncode == 0, "sssd to answer",
                   timeout=60, process=process, log=before.log("sssd"))
        theirs = who(before, names, ("interns",))
        assert before.run(["getent", "passwd", BOB.name], check=False).returncode == 2, "he is filtered"
    box = make_gpubox(up=False)
    box.write_file("/etc/ca.pem", ca.certificate)
    box.write_file("/root/sssd.conf", SSSD, mode=0o600)
    assert translate(box, "sssd", "/root/sssd.conf") == ""
    box.up()
    assert who(box, names, ("interns",)) == theirs
    assert theirs[0].endswith(":/home/lab/alice:/bin/sh")
    assert box.run(["getent", "passwd", BOB.name], check=False).returncode == 2
    session = ssh_kbdint(box, ALICE.name, [ALICE.password], "pwd")
    assert session.accepted and "/home/lab/alice" in session.transcript, session
    # simple_allow_groups.
    assert not ssh_kbdint(box, CAROL.name, [CAROL.password], "true").accepted
    assert box.wait_audit(event="auth", user=CAROL.name, result="denied")["reason"] == "not-allowed"


def test_a_rule_that_is_not_understood_lets_nobody_in(slapd, ca, make_gpubox):
    box = make_gpubox(up=False)
    box.write_file("/etc/ca.pem", ca.certificate)
    rule = "access_provider = simple\nsimple_allow_groups = gpu-users"
    box.write_file("/root/sssd.conf", SSSD.replace(rule, "access_provider = ipa"), mode=0o600)
    assert ": access_provider: IPA's HBAC rules are not read." in translate(box, "sssd", "/root/sssd.conf")
    box.up()
    assert box.out(["id", "-u", ALICE.name]) == str(ALICE.number), "she is known"
    assert not ssh_kbdint(box, ALICE.name, [ALICE.password], "true").accepted
    assert box.wait_audit(event="auth", user=ALICE.name, result="denied")["reason"] == "not-allowed"


def example(name: str, instead: dict[str, str]) -> str:
    """A file of conf/ with the names of this network."""
    text = (CHECKOUT / "conf" / name).read_text()
    for old, new in instead.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_the_example_for_openldap(make_gpubox, slapd):
    hosts = {"ldap1.example.org": "ldap.test", "ldap2.example.org": "ldap.test"}
    box = make_gpubox(example("openldap.toml", hosts))
    session = ssh_kbdint(box, ALICE.name, [ALICE.password], "id -Gn")
    assert session.accepted and "gpu-users" in session.transcript, session
    assert not ssh_kbdint(box, CAROL.name, [CAROL.password], "true").accepted


def test_the_example_for_active_directory(make_gpubox, ad):
    reader = "CN=gpuhub,CN=Users,DC=example,DC=org"
    text = example("active-directory.toml", {
        reader: active_directory.READER, "dc=example,dc=org": active_directory.BASE,
        "dc1.example.org": "ad.test", "dc2.example.org": "ad.test"})
    box = make_gpubox(text, up=False)
    box.write_file("/etc/gpuhub/ldap.secret", active_directory.READER_PASSWORD + "\n", mode=0o640, owner="root:gpuhub")
    box.up()
    # She is in gpu-users; the account that reads is not.
    assert ssh_kbdint(box, "alice", [active_directory.PASSWORD], "true").accepted
    assert box.pam("reader", "acct_mgmt") == "PAM_PERM_DENIED"
