-- The registry of ids and bindings of a fleet of boxes. The broker runs this by itself where its
-- role may create tables; else the administrator of the database does, once:
--
--     psql -d gpuhub -f /usr/share/gpuhub/registry.sql
--     GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO gpuhub;

CREATE TABLE gpuhub_registry (version INTEGER NOT NULL);
INSERT INTO gpuhub_registry VALUES (1);

-- Every id ever given. No row is ever deleted, and no id is ever given to another name.
CREATE TABLE gpuhub_ids (
    kind       TEXT NOT NULL CHECK (kind IN ('user', 'group')),
    id         BIGINT NOT NULL CHECK (id BETWEEN 1000 AND 4294967294),
    name       TEXT NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('override', 'directory', 'sid', 'computed', 'imported')),
    probes     INTEGER NOT NULL DEFAULT 0,
    given_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    retired_at TIMESTAMPTZ,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX gpuhub_ids_by_name ON gpuhub_ids (kind, name) WHERE retired_at IS NULL;

-- What every box has to follow, from 1 on without a gap: an id that the administrator gave a name
-- (was is NULL), or the name that took the place of another one.
CREATE TABLE gpuhub_changes (
    serial BIGINT PRIMARY KEY,
    kind   TEXT NOT NULL,
    id     BIGINT NOT NULL,
    name   TEXT NOT NULL,
    was    TEXT
);

-- Whoever changes something waits for the one before: so the numbers become visible in their order, and
-- no two of them wait for each other.
CREATE FUNCTION gpuhub_changing() RETURNS VOID LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(7309454)
$$;

CREATE FUNCTION gpuhub_changed(p_kind TEXT, p_id BIGINT, p_name TEXT, p_was TEXT) RETURNS VOID LANGUAGE sql AS $$
    INSERT INTO gpuhub_changes
        SELECT coalesce(max(serial), 0) + 1, p_kind, p_id, p_name, p_was FROM gpuhub_changes
$$;

-- Which person, by her key, a name belongs to.
CREATE TABLE gpuhub_bindings (
    name     TEXT PRIMARY KEY,
    issuer   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    bound_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (issuer, subject)
);

-- Binds a name to a key, or says that it is so; GH001 if it is not.
CREATE FUNCTION gpuhub_bind(p_name TEXT, p_issuer TEXT, p_subject TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    v_bound TEXT;
BEGIN
    INSERT INTO gpuhub_bindings (name, issuer, subject) VALUES (p_name, p_issuer, p_subject) ON CONFLICT DO NOTHING;
    SELECT name INTO v_bound FROM gpuhub_bindings WHERE issuer = p_issuer AND subject = p_subject;
    IF v_bound IS NULL THEN
        RAISE EXCEPTION 'the name is bound to another key' USING ERRCODE = 'GH001';
    ELSIF v_bound <> p_name THEN
        RAISE EXCEPTION 'her key is bound to the name %', v_bound USING ERRCODE = 'GH001';
    END IF;
END $$;

-- Gives a name the first of the candidates that nobody has or had; or says which id it has. With
-- p_own_group, a group gets the same number: hers, or ~name if another group has her name. One
-- candidate with a source other than 'computed' is one that nothing but an override may differ
-- from: GH003. No candidate left: GH002. p_issuer: her name is bound to that key, too.
CREATE FUNCTION gpuhub_claim(
    p_kind TEXT, p_name TEXT, p_own_group BOOLEAN, p_candidates BIGINT[], p_source TEXT, p_issuer TEXT, p_subject TEXT,
    OUT o_id BIGINT, OUT o_probes INTEGER, OUT o_group TEXT, OUT o_source TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    v_has_group BIGINT;
    v_candidate BIGINT;
    v_owner TEXT;
BEGIN
    IF p_issuer IS NOT NULL THEN
        PERFORM gpuhub_bind(p_name, p_issuer, p_subject);
    END IF;
    o_probes := 0;
    -- Twice, since another box may give the name its id between the look and the insert.
    FOR i IN 1..2 LOOP
        SELECT id, source, probes INTO o_id, o_source, o_probes FROM gpuhub_ids
            WHERE kind = p_kind AND name = p_name AND retired_at IS NULL;
        IF p_own_group THEN
            SELECT id INTO v_has_group FROM gpuhub_ids
                WHERE kind = 'group' AND name = p_name AND retired_at IS NULL;
            o_group := p_name;
            IF v_has_group IS NOT NULL THEN
                IF o_id IS NULL OR o_id <> v_has_group THEN
                    o_group := '~' || p_name;
                END IF;
            ELSIF EXISTS (SELECT 1 FROM gpuhub_ids
                    WHERE kind = 'group' AND name = '~' || p_name AND retired_at IS NULL) THEN
                o_group := '~' || p_name;
            END IF;
        END IF;

        IF o_id IS NOT NULL THEN
            IF p_source <> 'computed' AND o_source <> 'override' AND NOT o_id = ANY (p_candidates) THEN
                RAISE EXCEPTION '% % has the id %', p_kind, p_name, o_id USING ERRCODE = 'GH003';
            END IF;
            IF p_own_group THEN
                INSERT INTO gpuhub_ids (kind, id, name, source)
                    VALUES ('group', o_id, o_group, o_source) ON CONFLICT DO NOTHING;
                SELECT name INTO v_owner FROM gpuhub_ids WHERE kind = 'group' AND id = o_id AND retired_at IS NULL;
                IF v_owner IS DISTINCT FROM o_group THEN
                    RAISE EXCEPTION 'a group has the id % that % needs for her own', o_id, p_name
                        USING ERRCODE = 'GH002';
                END IF;
            END IF;
            RETURN;
        END IF;

        FOR n IN 1..coalesce(array_length(p_candidates, 1), 0) LOOP
            v_candidate := p_candidates[n];
            BEGIN
                INSERT INTO gpuhub_ids (kind, id, name, source, probes)
                    VALUES (p_kind, v_candidate, p_name, p_source, n - 1);
                IF p_own_group THEN
                    INSERT INTO gpuhub_ids (kind, id, name, source, probes)
                        VALUES ('group', v_candidate, o_group, p_source, n - 1);
                END IF;
                o_id := v_candidate;
                o_probes := n - 1;
                o_source := p_source;
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                -- The id is another's, or the name has one by now.
                EXIT WHEN EXISTS (SELECT 1 FROM gpuhub_ids
                    WHERE kind = p_kind AND name = p_name AND retired_at IS NULL);
            END;
        END LOOP;
    END LOOP;
    SELECT name INTO v_owner FROM gpuhub_ids WHERE kind = p_kind AND id = p_candidates[1];
    RAISE EXCEPTION 'no id is free for %: the first candidate % belongs to %', p_name, p_candidates[1],
        coalesce(v_owner, 'a group') USING ERRCODE = 'GH002';
END $$;

-- The id that gpuhub_claim would give a user with a group of her own, without giving it.
CREATE FUNCTION gpuhub_preview(p_name TEXT, p_candidates BIGINT[]) RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT id FROM gpuhub_ids WHERE kind = 'user' AND name = p_name AND retired_at IS NULL),
        (SELECT c FROM unnest(p_candidates) WITH ORDINALITY AS t (c, n)
            WHERE NOT EXISTS (SELECT 1 FROM gpuhub_ids WHERE kind IN ('user', 'group') AND id = c)
            ORDER BY n LIMIT 1))
$$;

-- Gives every one of the names the id, whatever they had, which is retired; a user's group of her
-- own goes with her. GH003 if somebody else has or had it.
CREATE FUNCTION gpuhub_set(p_kinds TEXT[], p_names TEXT[], p_id BIGINT, p_source TEXT) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_owner TEXT;
    v_group TEXT;
BEGIN
    PERFORM gpuhub_changing();
    FOR n IN 1..array_length(p_kinds, 1) LOOP
        FOR v_group IN SELECT g.name FROM gpuhub_ids u JOIN gpuhub_ids g ON g.kind = 'group' AND g.id = u.id
                WHERE p_kinds[n] = 'user' AND u.kind = 'user' AND u.name = p_names[n] AND u.retired_at IS NULL
                    AND g.name IN (p_names[n], '~' || p_names[n]) AND g.retired_at IS NULL LOOP
            IF NOT EXISTS (SELECT 1 FROM unnest(p_kinds, p_names) AS t (k, m) WHERE k = 'group' AND m = v_group) THEN
                p_kinds := p_kinds || 'group'::TEXT;
                p_names := p_names || v_group;
            END IF;
        END LOOP;
    END LOOP;
    FOR n IN 1..array_length(p_kinds, 1) LOOP
        UPDATE gpuhub_ids SET retired_at = now()
            WHERE kind = p_kinds[n] AND name = p_names[n] AND id <> p_id AND retired_at IS NULL;
        INSERT INTO gpuhub_ids (kind, id, name, source) VALUES (p_kinds[n], p_id, p_names[n], p_source)
            ON CONFLICT (kind, id) DO UPDATE
                SET retired_at = NULL, source = p_source
                WHERE gpuhub_ids.name = p_names[n];
        SELECT name INTO v_owner FROM gpuhub_ids WHERE kind = p_kinds[n] AND id = p_id;
        IF v_owner <> p_names[n] THEN
            RAISE EXCEPTION 'the % id % belongs to %', p_kinds[n], p_id, v_owner USING ERRCODE = 'GH003';
        END IF;
        -- Nothing but the administrator's word takes an id from somebody who has files with it.
        IF p_source = 'override' THEN
            PERFORM gpuhub_changed(p_kinds[n], p_id, p_names[n], NULL);
        END IF;
    END LOOP;
END $$;

-- Gives what p_old has to the name p_new; GH003 if that has something already, but for the uid
-- p_id: then it was done before, and the answer was lost.
CREATE FUNCTION gpuhub_move(p_kinds TEXT[], p_old TEXT, p_new TEXT, p_id BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    v_moved RECORD;
BEGIN
    PERFORM gpuhub_changing();
    IF EXISTS (SELECT 1 FROM gpuhub_ids
            WHERE kind = 'user' AND id = p_id AND name = p_new AND retired_at IS NULL) THEN
        RETURN;
    END IF;
    -- Bindings first, as gpuhub_claim takes them: in one order nobody waits for each other.
    PERFORM 1 FROM gpuhub_bindings WHERE name = p_old FOR UPDATE;
    IF EXISTS (SELECT 1 FROM gpuhub_ids WHERE kind = ANY (p_kinds) AND name = p_new AND retired_at IS NULL)
        OR ('user' = ANY (p_kinds) AND EXISTS (SELECT 1 FROM gpuhub_bindings WHERE name = p_new)) THEN
        RAISE EXCEPTION 'the name % is taken', p_new USING ERRCODE = 'GH003';
    END IF;
    FOR v_moved IN UPDATE gpuhub_ids SET name = p_new WHERE kind = ANY (p_kinds) AND name = p_old
            RETURNING kind, id LOOP
        PERFORM gpuhub_changed(v_moved.kind, v_moved.id, p_new, p_old);
    END LOOP;
    IF 'user' = ANY (p_kinds) THEN
        UPDATE gpuhub_bindings SET name = p_new WHERE name = p_old;
        -- The group of her own that has no name, since another group has hers: boxes know that it goes along.
        UPDATE gpuhub_ids SET name = '~' || p_new WHERE kind = 'group' AND name = '~' || p_old;
    END IF;
END $$;
