-- People of a directory who prove themselves at an identity provider: as whom each has done so there first. Key and
-- account belong together from then on, each to one other, so that an attribute's value that is given to somebody else
-- later (a recycled e-mail address) leads nobody into her account.
CREATE TABLE joins (
    issuer     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    at_issuer  TEXT NOT NULL,
    at_subject TEXT NOT NULL,
    since      INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject, at_issuer),
    UNIQUE (at_issuer, at_subject)
) STRICT;
