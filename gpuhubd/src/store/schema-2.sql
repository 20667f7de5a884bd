-- Ids know where they come from, and may be retired: their name has another one now, and nobody
-- else ever gets them. `probes`: so many earlier candidates were taken. `registered`: the registry
-- of the fleet has the row too.
CREATE TABLE new_ids (
    kind       TEXT NOT NULL CHECK (kind IN ('user', 'group')),
    id         INTEGER NOT NULL,
    name       TEXT NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('override', 'directory', 'sid', 'computed', 'imported')),
    probes     INTEGER NOT NULL DEFAULT 0,
    given_at   INTEGER NOT NULL,
    retired_at INTEGER,
    registered INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id)
) STRICT;
-- Until now nobody wrote down which ids were computed.
INSERT INTO new_ids (kind, id, name, source, given_at) SELECT kind, id, name, 'imported', given_at FROM ids;
DROP TABLE ids;
ALTER TABLE new_ids RENAME TO ids;
CREATE UNIQUE INDEX ids_by_name ON ids (kind, name) WHERE retired_at IS NULL;
CREATE INDEX ids_unregistered ON ids (registered) WHERE registered = 0;

-- How far this box has followed the registry.
ALTER TABLE meta ADD COLUMN registry_serial INTEGER NOT NULL DEFAULT 0;

-- Names that are bound to a key though nobody of that name was seen here yet: imported.
CREATE TABLE bindings (
    name    TEXT PRIMARY KEY,
    issuer  TEXT NOT NULL,
    subject TEXT NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;
