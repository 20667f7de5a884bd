-- People who have signed in at a provider that is asked again whether they may still come in: what it is asked with
-- (sealed by a key that is not in this database), when it last said yes, and why it last said no. (issuer, subject) is
-- who she is here, (at_issuer, at_subject) who she is at the provider: the same unless a directory has her entry.
CREATE TABLE grants (
    name         TEXT PRIMARY KEY,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    provider     TEXT NOT NULL,
    at_issuer    TEXT NOT NULL,
    at_subject   TEXT NOT NULL,
    token        BLOB,
    confirmed_at INTEGER NOT NULL,
    asked_at     INTEGER NOT NULL,
    refused      TEXT
) STRICT;
