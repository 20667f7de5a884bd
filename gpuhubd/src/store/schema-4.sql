-- Local groups of the machine that people of ours join, by the configuration's rules: who is in
-- `grp`, or everybody where that is empty.
CREATE TABLE local_groups (
    gid INTEGER NOT NULL,
    grp TEXT NOT NULL,
    PRIMARY KEY (gid, grp)
) STRICT, WITHOUT ROWID;
-- Whose record changes when their primary group comes or goes.
CREATE INDEX people_by_gid ON people (gid);
