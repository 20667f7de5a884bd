"""People that a directory told of a moment ago, straight into the store of a broker that is not running: each has a
group of her own and up to four others."""

import sqlite3
import sys
import time

people, now = int(sys.argv[1]), int(time.time())
db = sqlite3.connect("/var/lib/gpuhub/store.db")
db.execute("PRAGMA synchronous = OFF")
for table in ("people", "ids", "members", "groups"):
    db.execute("DELETE FROM " + table)
each = [("p%07d" % n, 1_000_000_000 + n, n) for n in range(people)]
db.executemany("INSERT INTO people VALUES (?1, 'lab', 'ldap:lab', ?3, ?2, ?2, 'Person ' || ?3, '/home/' || ?1, '/bin/bash', ?4, 0)",
               ((name, uid, str(n), now) for name, uid, n in each))
for kind in ("user", "group"):
    db.executemany("INSERT INTO ids (kind, id, name, source, given_at) VALUES (?, ?, ?, 'computed', ?)",
                   ((kind, uid, name, now) for name, uid, _ in each))
db.executemany("INSERT INTO groups VALUES (?, ?, 'builtin', 0)", ((name, uid) for name, uid, _ in each))
db.executemany("INSERT INTO members VALUES (?, ?, 'claim')",
               (("g%04d" % ((n + g) % 1000), name) for name, _, n in each for g in range(n % 5)))
db.executemany("INSERT INTO groups VALUES (?, ?, 'lab', ?)", (("g%04d" % g, 2_000_000_000 + g, now) for g in range(1000)))
db.execute("UPDATE meta SET generation = generation + 1")
db.commit()
