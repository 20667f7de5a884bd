"""A crowd: people in a broker's store as if a directory had told of each, but made in a second.

Person n is p0000000 and so on, with uid and gid FIRST_UID + n, a group of her own, and in up to four of
the 1,000 groups g0000 and so on.
"""

import pathlib
import shutil
import sqlite3
import tempfile

from .box import Box

FIRST_UID, FIRST_GID, GROUPS = 1_000_000_000, 1_900_000_000, 1_000
_STORE = "/var/lib/gpuhub/store.db"

_NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {})"
_PERSON = f"""
SELECT printf('p%07d', n), :provider, 'ldap:' || :provider, n, {FIRST_UID} + n, {FIRST_UID} + n, 'Person ' || n,
       '/home/' || printf('p%07d', n), '/bin/bash', unixepoch() FROM numbers"""
_OWN_ID = f"SELECT '{{}}', {FIRST_UID} + n, printf('p%07d', n), 'computed', unixepoch() FROM numbers"


def name(n: int) -> str:
    return f"p{n:07}"


def fill(box: Box, people: int, provider: str) -> None:
    """Instead of whoever is there. The box's broker has made its store once, and does not run."""
    # SQLite would resolve /proc/PID/root to our own root: it works on a copy.
    store = pathlib.Path(box.host_path(_STORE))
    log = store.with_name(store.name + "-wal")
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory) / store.name
        for file in (store, log):
            if file.exists():
                shutil.copy(file, copy.with_name(file.name))
        _fill(copy, people, provider)
        shutil.copyfile(copy, store)
    log.unlink(missing_ok=True)


def _fill(store: pathlib.Path, people: int, provider: str) -> None:
    db = sqlite3.connect(store)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -400000")
    with db:
        for table in ("people", "members", "groups", "ids"):
            db.execute(f"DELETE FROM {table}")
        numbers = _NUMBERS.format(people)
        db.execute("INSERT INTO people (name, provider, issuer, subject, uid, gid, gecos, home, shell, fetched_at) "
                   + numbers + _PERSON, {"provider": provider})
        for kind in ("user", "group"):
            db.execute("INSERT INTO ids (kind, id, name, source, given_at) " + numbers + _OWN_ID.format(kind))
        db.execute(f"INSERT INTO groups (name, gid, provider, fetched_at) {numbers} "
                   f"SELECT printf('p%07d', n), {FIRST_UID} + n, 'builtin', 0 FROM numbers")
        db.execute(f"INSERT INTO groups (name, gid, provider, fetched_at) {_NUMBERS.format(GROUPS)} "
                   f"SELECT printf('g%04d', n), {FIRST_GID} + n, ?, unixepoch() FROM numbers", (provider,))
        for place in range(4):
            db.execute(f"INSERT INTO members (grp, user, via) {numbers} "
                       f"SELECT printf('g%04d', (n + {place}) % {GROUPS}), printf('p%07d', n), 'claim' FROM numbers "
                       f"WHERE n % 5 > {place}")
        db.execute("UPDATE meta SET generation = generation + 1")
    db.close()
