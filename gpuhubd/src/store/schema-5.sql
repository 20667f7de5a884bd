-- What is remembered of people for when their directory is away: by which services they were let in, and when, as
-- JSON {service: seconds}; what access rules call their groups, as a JSON list; and the password, as an argon2id
-- hash, with the wrong ones that were tried since.
CREATE TABLE offline (
    name TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    services TEXT NOT NULL,
    also_in TEXT NOT NULL,
    hash TEXT,
    verified_at INTEGER NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0
) STRICT;
