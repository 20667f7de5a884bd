CREATE TABLE meta (generation INTEGER NOT NULL);
INSERT INTO meta VALUES (1);

-- Every id ever given. A row is never deleted: an id is never given to another name.
CREATE TABLE ids (
    kind     TEXT NOT NULL CHECK (kind IN ('user', 'group')),
    id       INTEGER NOT NULL,
    name     TEXT NOT NULL,
    given_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE UNIQUE INDEX ids_by_name ON ids (kind, name);

-- Everybody who is known here, with the key that her name is bound to. `gone`: the directory no
-- longer has her; the binding stays, so that a recycled name does not inherit a home.
CREATE TABLE people (
    name       TEXT PRIMARY KEY,
    provider   TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    uid        INTEGER NOT NULL UNIQUE,
    gid        INTEGER NOT NULL,
    gecos      TEXT NOT NULL,
    home       TEXT NOT NULL,
    shell      TEXT NOT NULL,
    fetched_at INTEGER NOT NULL,
    gone       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (issuer, subject)
) STRICT;

CREATE TABLE groups (
    name       TEXT PRIMARY KEY,
    gid        INTEGER NOT NULL UNIQUE,
    provider   TEXT NOT NULL,
    fetched_at INTEGER NOT NULL          -- 0: known from a member's claims only
) STRICT;

-- Who says that `user` is in `grp`: her own entry or token ('claim'), or the group's ('list').
CREATE TABLE members (
    grp  TEXT NOT NULL,
    user TEXT NOT NULL,
    via  TEXT NOT NULL CHECK (via IN ('claim', 'list')),
    PRIMARY KEY (grp, user, via)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user);

-- The builtin directory.
CREATE TABLE builtin_users (
    name      TEXT PRIMARY KEY,
    full_name TEXT NOT NULL,
    uid       INTEGER,
    home      TEXT,
    shell     TEXT,
    hash      TEXT,                      -- argon2id, PHC form; NULL: key logins only
    declared  INTEGER NOT NULL           -- by the configuration, and goes when that goes
) STRICT;
CREATE TABLE builtin_groups (
    name     TEXT PRIMARY KEY,
    gid      INTEGER,
    declared INTEGER NOT NULL
) STRICT;
CREATE TABLE builtin_members (
    grp  TEXT NOT NULL REFERENCES builtin_groups (name) ON DELETE CASCADE,
    user TEXT NOT NULL REFERENCES builtin_users (name) ON DELETE CASCADE,
    PRIMARY KEY (grp, user)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id        TEXT PRIMARY KEY,
    user      TEXT NOT NULL,
    uid       INTEGER NOT NULL,
    service   TEXT NOT NULL,
    tty       TEXT NOT NULL,
    source    TEXT NOT NULL,
    opened_at INTEGER NOT NULL
) STRICT;
