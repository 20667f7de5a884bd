"""People of a real OpenLDAP server log in over SSH."""

import asyncio
import statistics
import warnings
import time

import pytest

from harness import product, wire
from harness.ca import Authority
from harness.product import LDAP, LDAP_STARTTLS
from harness.slapd import ALICE, BASE, BOB, CAROL, GROUPS, PRIMARY, Person
from harness.ssh import SOURCE, _quick_try, authorize_key, quick_try, ssh_kbdint, ssh_key


@pytest.fixture
def box(make_gpubox, slapd):
    return make_gpubox(LDAP)


@pytest.mark.parametrize("config", [LDAP, LDAP_STARTTLS], ids=["ldaps", "starttls"])
def test_a_login_under_a_private_ca(make_gpubox, slapd, config):
    box = make_gpubox(config)
    session = ssh_kbdint(box, "alice", [ALICE.password], "id; pwd; stat -c '%a %U:%G' .")
    assert session.status == 0, session
    assert "uid=20001(alice) gid=20000(people)" in session.transcript
    assert "21001(gpu-users)" in session.transcript and "21002(ml)" in session.transcript
    assert "21003" not in session.transcript
    assert "/home/alice" in session.transcript and "700 alice:people" in session.transcript
    line = box.wait_audit(event="auth", user="alice")
    wanted = {"result": "ok", "uid": "20001", "service": "sshd", "source": SOURCE, "method": "password",
              "backend": "corp", "reason": "ok"}
    assert line | wanted == line
    box.wait_audit(event="session-close", user="alice")


def test_the_directory_is_seen_before_anybody_has_logged_in(box):
    entry = box.out(["getent", "passwd", "bob"]).split(":")
    assert entry == ["bob", "*", "20002", "20000", "Bob Baker", "/home/bob", "/bin/bash"]
    assert box.out(["getent", "passwd", "20003"]).startswith("carol:*:20003:")
    assert set(box.out(["id", "-G", "alice"]).split()) == {"20000", "21001", "21002"}
    # Members are those whom this box has met: the whole directory is not copied.
    name, _, gid, members = box.out(["getent", "group", "gpu-users"]).split(":")
    assert (name, gid) == ("gpu-users", "21001") and set(members.split(",")) == {"alice", "bob"}
    assert box.run(["getent", "passwd", "nobody-here"], check=False).returncode == 2


# ---- denials: each has its own reason and its own code ---------------------------------------------


def test_wrong_password(box):
    assert box.pam("alice", answers=("wrong",)) == "PAM_AUTH_ERR"
    line = box.wait_audit(event="auth", user="alice", result="denied", reason="wrong-password")
    assert line["backend"] == "corp"


def test_unknown_user(box):
    assert box.pam("nobody-here", answers=("wrong",)) == "PAM_USER_UNKNOWN"
    box.wait_audit(event="auth", user="nobody-here", result="denied", reason="unknown-user")


def test_locked_account(box, slapd):
    slapd.lock(BOB)
    try:
        assert box.pam("bob", answers=(BOB.password,)) in ("PAM_ACCT_EXPIRED", "PAM_PERM_DENIED")
        box.wait_audit(event="auth", user="bob", result="denied", reason="account-locked")
        assert not ssh_kbdint(box, "bob", [BOB.password]).accepted
    finally:
        slapd.unlock(BOB)
    assert ssh_kbdint(box, "bob", [BOB.password]).accepted


@pytest.mark.parametrize("day", [0, 1])
def test_expired_account(box, slapd, day):
    authorize_key(box, "carol", "/home/carol")
    assert ssh_key(box, "carol").accepted
    slapd.expire_account(CAROL, day)
    try:
        assert box.pam("carol", "authenticate", "acct_mgmt", answers=(CAROL.password,)) == "PAM_ACCT_EXPIRED"
        box.wait_audit(user="carol", result="denied", reason="account-expired")
        refused = ssh_key(box, "carol")
        assert not refused.accepted, refused
        box.wait_audit(event="account", user="carol", result="denied", reason="account-expired")
    finally:
        slapd.unexpire_account(CAROL)
    assert ssh_key(box, "carol").accepted


def test_expired_password(box, slapd):
    slapd.modify(CAROL.dn, f"add: pwdPolicySubentry\npwdPolicySubentry: cn=expiring,ou=policies,{BASE}")
    try:
        slapd.set_password(CAROL, CAROL.password)
        time.sleep(2.1)
        assert box.pam("carol", answers=(CAROL.password,)) == "PAM_NEW_AUTHTOK_REQD"
        box.wait_audit(event="auth", user="carol", reason="password-unchangeable")
    finally:
        slapd.modify(CAROL.dn, "delete: pwdPolicySubentry")
        slapd.set_password(CAROL, CAROL.password)


@pytest.mark.parametrize("how", ["stop", "kill", "suspend"])
def test_server_down(box, slapd, how):
    getattr(slapd, how)()
    start = time.monotonic()
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    assert time.monotonic() - start < 20
    line = box.wait_audit(event="auth", user="alice", reason="backend-unavailable")
    assert line["result"] == "error"
    told = ssh_kbdint(box, "alice", [ALICE.password], timeout=60)
    assert not told.accepted
    slapd.resume() if how == "suspend" else slapd.start()
    deadline = time.monotonic() + 20
    while box.pam("alice", answers=(ALICE.password,)) != "PAM_SUCCESS":
        assert time.monotonic() < deadline, "the broker did not find the server again"


def test_a_hanging_server_delays_nobody_of_another_backend(box, slapd):
    box.add_user("ada", "first-Passw0rd")
    assert quick_try(box, "ada", ["first-Passw0rd"]).accepted
    slapd.suspend()
    start = time.monotonic()
    assert quick_try(box, "ada", ["first-Passw0rd"]).accepted
    assert time.monotonic() - start < 3


def test_an_empty_password_is_not_an_anonymous_bind(box):
    assert box.pam("alice", answers=("",)) != "PAM_SUCCESS"
    box.wait_audit(event="auth", user="alice", result="denied", reason="empty-password")


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [LDAP, LDAP_STARTTLS], ids=["ldaps", "starttls"])
def test_another_ca_is_not_trusted(make_gpubox, slapd, lan, config):
    box = make_gpubox(config, up=False)
    box.write_file(product.CA, Authority(lan.directory / "other-ca").certificate)
    box.up()
    before = len(slapd.log())
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    box.wait_audit(event="auth", user="alice", reason="backend-unavailable")
    assert "BIND" not in slapd.log()[before:], "nothing is said before the server has shown who it is"


@pytest.mark.parametrize(("names", "days"), [(("elsewhere.test",), 10), (("ldap.test",), -1)], ids=["name", "expired"])
def test_a_certificate_must_be_for_the_host_and_valid(make_gpubox, slapd, ca, names, days):
    slapd.use_certificate(*ca.issue(*names, days=days))
    slapd.restart()
    try:
        box = make_gpubox(LDAP)
        assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    finally:
        slapd.use_certificate(*ca.issue("ldap.test", "127.0.0.2"))
        slapd.restart()


def test_passwords_never_travel_in_the_clear(make_gpubox, slapd):
    box = make_gpubox(LDAP.replace("ldaps://", "ldap://"), up=False)
    done = box.run(["/usr/sbin/gpuhubd", "--check"], check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "gpuhub.toml:" in said and "start_tls" in said, said


# ---- what a directory must not be able to do -------------------------------------------------------


@pytest.fixture
def entry(slapd):
    """Adds people to the directory for one test."""
    added = []

    def add(name, number=29000, groups=(), **attributes):
        person = Person(name, number, "mallorys-pw-1", name.title(), groups)
        slapd.add_person(person, **attributes)
        added.append(person)
        return person

    yield add
    for person in added:
        slapd.remove_person(person)


def refused(box, name):
    assert box.run(["getent", "passwd", name], check=False).returncode == 2
    assert box.pam(name, answers=("mallorys-pw-1",)) != "PAM_SUCCESS"
    box.wait_audit(event="entry-refused", user=name, backend="corp")


@pytest.mark.parametrize("number", [0, 1, 999, 61184, 65519, 65534, 65535, 4294967295])
def test_system_ids_are_refused(box, entry, number):
    entry("mallory", number)
    refused(box, "mallory")
    assert box.run(["getent", "passwd", str(number)], check=False).stdout.startswith("mallory") is False


def test_the_id_of_a_local_account_is_refused(make_gpubox, slapd, entry):
    box = make_gpubox(LDAP, up=False)
    box.run(["useradd", "-u", "29001", "tess"])
    box.up()
    entry("mallory", 29001)
    refused(box, "mallory")
    assert box.out(["id", "-un", "29001"]) == "tess"


def test_a_local_name_stays_local(make_gpubox, slapd, entry):
    box = make_gpubox(LDAP, up=False)
    box.run(["useradd", "-u", "1500", "tess"])
    box.run(["chpasswd"], input="tess:local-pw-1\n")
    box.up()
    entry("tess", 29002)
    assert box.out(["id", "-u", "tess"]) == "1500"
    assert not ssh_kbdint(box, "tess", ["mallorys-pw-1"]).accepted
    assert ssh_kbdint(box, "tess", ["local-pw-1"]).accepted


@pytest.mark.parametrize("name", ["sudo", "docker", "root", "adm", "wheel"])
def test_groups_that_give_power_are_never_ours(box, slapd, name):
    slapd.add_group(name, 28000, members=("alice",))
    try:
        session = ssh_kbdint(box, "alice", [ALICE.password], "id -Gn; id -G")
        assert session.accepted, session
        assert name not in session.transcript.split() and "28000" not in session.transcript
        box.wait_audit(event="entry-refused", user=name)
    finally:
        slapd.delete(f"cn={name},{GROUPS}")


@pytest.mark.parametrize(("attribute", "value"), [
    ("homeDirectory", ":: L2hvbWUveDovYmluL3NoCnJvb3Q6eDowOjA6"),   # a newline and "root:x:0:0:"
    ("loginShell", ":: L2Jpbi9zaDp4"),                               # a colon
    ("gecos", ":: YQpyb290Ong6MDowOjovcm9vdDovYmluL2Jhc2g=")])        # a newline and a whole passwd line
def test_fields_that_would_forge_a_line_are_refused(box, slapd, entry, attribute, value):
    entry("mallory", 29003)
    # LDIF's own base64: "name:: text".
    slapd.modify("uid=mallory,ou=people," + BASE, f"replace: {attribute}\n{attribute}{value}")
    lines = box.run("getent passwd mallory; getent passwd", check=False).stdout.splitlines()
    assert all(line.count(":") == 6 for line in lines), lines
    assert sum(line.startswith("root:") for line in lines) == 1
    assert box.out(["id", "-u", "root"]) == "0"


def test_names_cannot_say_more_than_a_name(box):
    for name in ("*", "alice)(uid=*", "al*ce", "uid=alice", "ALICE", " alice", "alice "):
        assert not quick_try(box, name, [ALICE.password]).accepted, name


# ---- the person at the prompt cannot tell an unknown user from a wrong password ----------------------

TRIES = 200

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)     # gone in Python 3.13; Debian 12 has 3.11
    import crypt


def show(what, seconds):
    ordered = sorted(seconds)
    at = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1000 for p in (5, 25, 50, 75, 95)}
    print(f"{what:24} n={len(ordered)} " + "  ".join(f"{name} {value:8.1f} ms" for name, value in at.items()))
    return statistics.median(ordered)


@pytest.fixture
def patient_box(make_gpubox, slapd):
    """A box whose lockout does not come into the way of hundreds of tries."""
    return make_gpubox("[access]\ntries = 1000000\n" + LDAP, up=False)


@pytest.fixture(params=["stored in the clear", "a slow hash"])
def alice_with_a_hash(request, slapd):
    """A directory that works for 40 ms on a real password and for none on a name that it does not have."""
    if request.param == "a slow hash":
        hashed = crypt.crypt(ALICE.password, "$6$rounds=50000$" + "saltsalt")
        slapd.set_password(ALICE, "{CRYPT}" + hashed)
    yield
    slapd.set_password(ALICE, ALICE.password)


def test_the_times_of_an_unknown_user_and_of_a_wrong_password_at_the_broker(alice_with_a_hash, patient_box, capsys):
    box = patient_box.up(sshd=False)
    known, unknown = [], []
    for number in range(TRIES + 10):
        known.append(wire.login(box, "alice", "wrong"))
        unknown.append(wire.login(box, f"nobody{number}", "wrong"))
    with capsys.disabled():
        print()
        before = [show(f"{what}, until prompt", [one.until_prompt for one in group[10:]])
                  for what, group in (("known", known), ("unknown", unknown))]
        after = [show(f"{what}, answer", [one.after_answer for one in group[10:]])
                 for what, group in (("known", known), ("unknown", unknown))]
    total = [one + two for one, two in zip(before, after, strict=True)]
    assert abs(total[0] - total[1]) < max(0.25 * max(total), 0.005), (before, after)
    assert abs(after[0] - after[1]) < max(0.25 * max(after), 0.005), after


def test_the_times_of_an_unknown_user_and_of_a_wrong_password_over_ssh(patient_box, capsys):
    """The same by sshd, where the delay that PAM puts before a refusal is part of what is seen."""
    box = patient_box.up(sshd=False)
    box.start_sshd(MaxStartups="200:30:400", LoginGraceTime="120")
    tries = asyncio.run(many(box, [name for n in range(TRIES) for name in ("alice", f"nobody{n}")]))
    known, unknown = tries[0::2], tries[1::2]
    assert not any(one.accepted for one in tries)
    assert {tuple(one.prompts) for one in tries} == {("Password: ",)}
    with capsys.disabled():
        print()
        medians = [show(what, [one.seconds for one in group])
                   for what, group in (("wrong password, ssh", known), ("unknown user, ssh", unknown))]
    assert abs(medians[0] - medians[1]) < 0.1 * max(medians), medians


async def many(box, names, at_once=20):
    limit = asyncio.Semaphore(at_once)

    async def one(name):
        async with limit:
            return await _quick_try(box, name, ["wrong"], SOURCE)

    return await asyncio.gather(*(one(name) for name in names))


def test_the_screen_is_the_same(box):
    wrong, unknown = ssh_kbdint(box, "alice", ["wrong"]), ssh_kbdint(box, "nobody-here", ["wrong"])
    assert wrong.transcript.replace("alice", "X") == unknown.transcript.replace("nobody-here", "X")


def test_primary_group_is_the_directory_s(box):
    assert box.out(["id", "-g", "alice"]) == str(PRIMARY)
    assert box.out(["id", "-gn", "alice"]) == "people"
