-- Other login names (Active Directory's userPrincipalName) as their directory last said whose they are: so they hold
-- while it is away. In lower case: it compares without case.
CREATE TABLE aliases (
    alias TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
