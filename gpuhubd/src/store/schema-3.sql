-- Which slice of ids a Windows domain has (idmap/sid.rs), by its SID, or by that and the first RID
-- of a further slice. Given once, for good.
CREATE TABLE sid_slices (
    slice INTEGER PRIMARY KEY,
    named TEXT NOT NULL UNIQUE
) STRICT;
