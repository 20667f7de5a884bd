-- People of OpenID providers, whose name is bound to (issuer, subject): when each last signed in there, and the passcode
-- that she has set for services that cannot show a device code, as an argon2id hash, with the wrong ones that were
-- tried since. `told`: she has been told of it at a sign-in. `offered_at`: when she was last asked whether she wants one.
CREATE TABLE passcodes (
    name         TEXT PRIMARY KEY,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    signed_in_at INTEGER NOT NULL,
    offered_at   INTEGER NOT NULL DEFAULT 0,
    hash         TEXT,
    set_at       INTEGER NOT NULL DEFAULT 0,
    set_by       TEXT NOT NULL DEFAULT '',
    told         INTEGER NOT NULL DEFAULT 1,
    failures     INTEGER NOT NULL DEFAULT 0
) STRICT;
