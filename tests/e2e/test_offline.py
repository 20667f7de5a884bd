"""No server answers: who was let in here lately may come in again, where the configuration wants that."""

import contextlib
import pathlib
import shutil
import sqlite3
import tempfile
import time

import pytest

from harness.box import wait_until
from harness.product import LDAP
from harness.slapd import ALICE, BOB, PEOPLE
from harness.ssh import authorize_key, ssh_kbdint, ssh_key

OFFLINE = LDAP + "offline_passwords = true\n"


@pytest.fixture
def box(make_gpubox, slapd):
    return make_gpubox("[access]\ntries = 3\n" + OFFLINE)


def met(box, person):
    """She logs in while her directory answers; her password is hashed after she is in."""
    assert ssh_kbdint(box, person.name, [person.password], "true").accepted
    query = f"SELECT count(*) FROM offline WHERE name = '{person.name}' AND hash IS NOT NULL"
    wait_until(lambda: remembered(box, query) == 1, "the password to be remembered", 20)


def remembered(box, query):
    """What the broker's store says, by a copy of it."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("store.db", "store.db-wal"):
            shutil.copyfile(box.host_path(f"/var/lib/gpuhub/{name}"), pathlib.Path(copy, name))
        with contextlib.closing(sqlite3.connect(pathlib.Path(copy, "store.db"))) as db:
            return db.execute(query).fetchone()[0]


def test_a_password_that_was_right_lately(box, slapd):
    met(box, ALICE)
    authorize_key(box, "alice", "/home/alice")
    slapd.stop()
    session = ssh_kbdint(box, "alice", [ALICE.password], "id -un")
    assert session.accepted and "as it last knew you" in session.transcript, session
    line = box.wait_audit(event="auth", user="alice", method="cached-password")
    assert line["result"] == "ok" and line["uid"] == "20001"
    assert ssh_key(box, "alice").accepted
    assert not ssh_kbdint(box, "alice", ["wrong"], "true").accepted
    box.wait_audit(event="auth", user="alice", method="cached-password", reason="wrong-password")
    # By another service she was never let in; bob was by none.
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    assert not ssh_kbdint(box, "bob", [BOB.password], "true").accepted
    box.wait_audit(event="auth", user="bob", result="error", reason="backend-unavailable")
    assert box.out(["id", "-un", "20001"]).strip() == "alice"


def test_what_it_says_again_counts_again(box, slapd):
    met(box, ALICE)
    try:
        slapd.set_password(ALICE, "another one 9")
        assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
        slapd.stop()
        assert ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
        slapd.start()
        wait_until(lambda: not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted, "the directory's word", 30)
        box.wait_audit(event="auth", user="alice", method="password", reason="wrong-password")
    finally:
        slapd.set_password(ALICE, ALICE.password)


def test_whom_it_refused_does_not_come_in_without_it(box, slapd):
    met(box, ALICE)
    authorize_key(box, "alice", "/home/alice")
    slapd.lock(ALICE)
    try:
        assert not ssh_key(box, "alice").accepted
        assert remembered(box, "SELECT count(*) FROM offline") == 0
        slapd.stop()
        assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
        assert not ssh_key(box, "alice").accepted
        slapd.start()
    finally:
        slapd.unlock(ALICE)


def test_wrong_passwords_are_counted_for_good(box, slapd):
    met(box, ALICE)
    slapd.stop()
    for _ in range(3):
        assert not ssh_kbdint(box, "alice", ["wrong"], "true").accepted
    # The broker's own memory of it ends with it.
    box.restart_broker()
    assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
    detail = box.wait_audit(event="auth", user="alice", reason="backend-unavailable")["detail"]
    assert "too many wrong passwords" in detail


def test_not_for_ever(make_gpubox, slapd):
    box = make_gpubox(OFFLINE + 'offline_max_age = "2s"\n')
    met(box, ALICE)
    authorize_key(box, "alice", "/home/alice")
    slapd.stop()
    time.sleep(2.5)
    assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
    assert not ssh_key(box, "alice").accepted


def test_only_where_it_is_wanted(make_gpubox, slapd):
    box = make_gpubox(LDAP)
    assert ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
    authorize_key(box, "alice", "/home/alice")
    assert remembered(box, "SELECT count(*) FROM offline") == 0
    slapd.stop()
    assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
    assert not ssh_key(box, "alice").accepted


def test_a_directory_that_answers_is_not_away(box, slapd):
    """Two people of one name: who of them is meant cannot be known, and no cached password says it."""
    met(box, ALICE)
    twin = f"cn=twin,{PEOPLE}"
    slapd.add(f"dn: {twin}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\ncn: twin\nsn: Twin\nuid: alice\n"
              "uidNumber: 20009\ngidNumber: 20000\nhomeDirectory: /home/twin\n")
    try:
        assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
        line = box.wait_audit(event="auth", user="alice", reason="backend-unavailable")
        assert "2 people of one name" in line["detail"] and line.get("method") != "cached-password"
    finally:
        slapd.delete(twin)
    assert ssh_kbdint(box, "alice", [ALICE.password], "true").accepted


def test_a_rule_of_the_box_for_one_service_is_not_the_directory_s_word(make_gpubox, slapd):
    box = make_gpubox(f'[access.service.gpuhub-bare]\nallow_users = ["bob"]\n{OFFLINE}')
    met(box, ALICE)
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_PERM_DENIED"
    slapd.stop()
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    assert ssh_kbdint(box, "alice", [ALICE.password], "true").accepted


def test_a_rule_of_the_directory_is(make_gpubox, slapd):
    box = make_gpubox(OFFLINE + 'access_filter = "(loginShell=/bin/bash)"\n')
    met(box, ALICE)
    slapd.modify(ALICE.dn, "replace: loginShell\nloginShell: /bin/sh")
    try:
        assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
        slapd.stop()
        assert not ssh_kbdint(box, "alice", [ALICE.password], "true").accepted
        slapd.start()
    finally:
        slapd.modify(ALICE.dn, "replace: loginShell\nloginShell: /bin/bash")
