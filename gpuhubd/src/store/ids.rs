//! Every id ever given, and from where it came. A row is never deleted and an id is never given
//! to another name: one that its name does not have any more is retired.

use super::{Store, StoreError, bump_generation, unix_now};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// Users and groups have separate id spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdKind {
    /// uid
    User,
    /// gid
    Group,
}

impl IdKind {
    /// The word in the database, and in the hash of a candidate.
    pub const fn as_str(self) -> &'static str {
        match self {
            IdKind::User => "user",
            IdKind::Group => "group",
        }
    }

    /// From that word.
    pub fn parse(word: &str) -> Option<Self> {
        [IdKind::User, IdKind::Group].into_iter().find(|k| k.as_str() == word)
    }
}

/// Who decided on an id. In this order: an earlier one is never corrected by a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The administrator (`gpuhub idmap set`).
    Override,
    /// The directory's attribute, or the provider's claim.
    Directory,
    /// Computed from the SID as sssd does.
    Sid,
    /// Computed from the name.
    Computed,
    /// Taken over from another installation (`gpuhub idmap import`), or from a version that did
    /// not write it down.
    Imported,
}

impl Source {
    /// Every source once.
    pub const ALL: [Source; 5] = [Source::Override, Source::Directory, Source::Sid, Source::Computed, Source::Imported];

    /// The word in the databases and in exports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Override => "override",
            Source::Directory => "directory",
            Source::Sid => "sid",
            Source::Computed => "computed",
            Source::Imported => "imported",
        }
    }

    /// From that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// One id as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenId {
    /// User or group.
    pub kind: IdKind,
    /// The id.
    pub id: u32,
    /// Whose.
    pub name: String,
    /// Who decided.
    pub source: Source,
    /// So many earlier candidates were taken.
    pub probes: u32,
    /// When its name got another one, in seconds since 1970; none: it is in use.
    pub retired_at: Option<i64>,
}

const GIVEN: &str = "SELECT kind, id, name, source, probes, retired_at FROM ids";

fn given(r: &Row<'_>) -> Result<GivenId, StoreError> {
    let (kind, source): (String, String) = (r.get(0)?, r.get(3)?);
    Ok(GivenId {
        // The schema checks both words.
        kind: IdKind::parse(&kind).unwrap_or(IdKind::User),
        id: r.get(1)?,
        name: r.get(2)?,
        source: Source::parse(&source).unwrap_or(Source::Imported),
        probes: r.get(4)?,
        retired_at: r.get(5)?,
    })
}

impl Store {
    /// The id that a name has.
    pub fn id_of(&self, kind: IdKind, name: &str) -> Result<Option<u32>, StoreError> {
        Ok(self.given_to(kind, name)?.map(|g| g.id))
    }

    /// The id that a name has, with its history.
    pub fn given_to(&self, kind: IdKind, name: &str) -> Result<Option<GivenId>, StoreError> {
        self.with(|c| given_to(c, kind, name))
    }

    /// The name that an id was given to, retired or not.
    pub fn name_of_id(&self, kind: IdKind, id: u32) -> Result<Option<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached("SELECT name FROM ids WHERE kind = ?1 AND id = ?2")?
                .query_row(params![kind.as_str(), id], |r| r.get(0))
                .optional()
        })
    }

    /// How an id was given, retired or not.
    pub fn given_id(&self, kind: IdKind, id: u32) -> Result<Option<GivenId>, StoreError> {
        self.with(|c| {
            c.prepare_cached(&format!("{GIVEN} WHERE kind = ?1 AND id = ?2"))?
                .query_row(params![kind.as_str(), id], given)
                .optional()
        })
    }

    /// Gives `id` to every one of `names`, or to none: `false` if another name has or had it, or
    /// one of them has another. `registered`: the fleet's registry says so.
    pub fn give_id(
        &self,
        names: &[(IdKind, &str)],
        id: u32,
        source: Source,
        probes: u32,
        registered: bool,
    ) -> Result<bool, StoreError> {
        // Of whom all is written down already (nearly always), nothing need be synced to a disk.
        let is_so = |g: &GivenId, is_registered: bool| g.id == id && (is_registered || !registered);
        let known = self.with(|c| {
            let mut all = true;
            for (kind, name) in names {
                let sql = "SELECT registered FROM ids WHERE kind = ?1 AND name = ?2 AND retired_at IS NULL";
                let has = c.prepare_cached(sql)?.query_row(params![kind.as_str(), name], |r| r.get(0)).optional()?;
                let given = given_to(c, *kind, name)?;
                all &= given.zip(has).is_some_and(|(g, has)| is_so(&g, has));
            }
            Ok(all)
        })?;
        if known {
            return Ok(true);
        }
        self.add(|tx| {
            for (kind, name) in names {
                if !is_free_for(tx, *kind, id, name)? {
                    return Ok(false);
                }
            }
            for (kind, name) in names {
                tx.execute(
                    "INSERT INTO ids (kind, id, name, source, probes, given_at, registered)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT (kind, id) DO UPDATE SET registered = max(registered, ?7)",
                    params![kind.as_str(), id, name, source.as_str(), probes, unix_now(), registered],
                )?;
            }
            Ok(true)
        })
    }

    /// Gives every one of `names` the id `id`, whatever they had; what they had is retired. A user's
    /// group of her own goes with her. The people and groups that are served get it too. The other name
    /// that has or had the id for one of them, and nothing changes, if there is one.
    pub fn change_id(
        &self,
        names: &[(IdKind, &str)],
        id: u32,
        source: Source,
        registered: bool,
    ) -> Result<Option<String>, StoreError> {
        self.transaction(|tx| {
            let mut all: Vec<(IdKind, String)> = names.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect();
            for (_, name) in names.iter().filter(|(kind, _)| *kind == IdKind::User) {
                let Some(old) = given_to(tx, IdKind::User, name)? else { continue };
                for group in [(*name).to_owned(), format!("~{name}")] {
                    let own = given_to(tx, IdKind::Group, &group)?.is_some_and(|g| g.id == old.id);
                    if own && !all.contains(&(IdKind::Group, group.clone())) {
                        all.push((IdKind::Group, group));
                    }
                }
            }
            let names = &all;
            for (kind, name) in names {
                let owner: Option<String> = tx
                    .query_row(
                        "SELECT name FROM ids WHERE kind = ?1 AND id = ?2 AND name <> ?3",
                        params![kind.as_str(), id, name],
                        |r| r.get(0),
                    )
                    .optional()?;
                if owner.is_some() {
                    return Ok(owner);
                }
            }
            for (kind, name) in names {
                let (kind, now) = (kind.as_str(), unix_now());
                tx.execute(
                    "UPDATE ids SET retired_at = ?4 WHERE kind = ?1 AND name = ?2 AND id <> ?3 AND retired_at IS NULL",
                    params![kind, name, id, now],
                )?;
                tx.execute(
                    "INSERT INTO ids (kind, id, name, source, given_at, registered) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (kind, id) DO UPDATE SET retired_at = NULL, source = ?4, registered = ?6",
                    params![kind, id, name, source.as_str(), now, registered],
                )?;
            }
            for (kind, name) in names {
                match kind {
                    // Her primary group goes along if it is the one of her own.
                    IdKind::User => tx.execute(
                        "UPDATE people SET gid = iif(gid = uid, ?2, gid), uid = ?2 WHERE name = ?1",
                        params![name, id],
                    )?,
                    IdKind::Group => {
                        // Whose primary group it is stays in it.
                        tx.execute(
                            "UPDATE people SET gid = ?2 WHERE gid = (SELECT gid FROM groups WHERE name = ?1)",
                            params![name, id],
                        )?;
                        tx.execute("UPDATE groups SET gid = ?2 WHERE name = ?1", params![name, id])?
                    }
                };
            }
            bump_generation(tx)?;
            Ok(None)
        })
    }

    /// Gives what `old` has and is to the name `new`: ids, key, entry, memberships. `false`, and
    /// nothing changes, if `new` has an id or is somebody already.
    pub fn rename(&self, kinds: &[IdKind], old: &str, new: &str) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            for kind in kinds {
                if given_to(tx, *kind, new)?.is_some() {
                    return Ok(false);
                }
            }
            let users = kinds.contains(&IdKind::User);
            let there = |sql: &str| tx.query_row(sql, [new], |_| Ok(())).optional().map(|r| r.is_some());
            if users && there("SELECT 1 FROM people WHERE name = ?1")?
                || kinds.contains(&IdKind::Group) && there("SELECT 1 FROM groups WHERE name = ?1")?
            {
                return Ok(false);
            }
            for kind in kinds {
                tx.execute("UPDATE ids SET name = ?3 WHERE kind = ?1 AND name = ?2", params![kind.as_str(), old, new])?;
                match kind {
                    IdKind::User => {
                        tx.execute("UPDATE people SET name = ?2 WHERE name = ?1", params![old, new])?;
                        // The group of her own that has no name, since another group has hers.
                        tx.execute(
                            "UPDATE ids SET name = '~' || ?2 WHERE kind = 'group' AND name = '~' || ?1",
                            params![old, new],
                        )?;
                        tx.execute("UPDATE bindings SET name = ?2 WHERE name = ?1", params![old, new])?;
                        tx.execute("UPDATE OR IGNORE members SET user = ?2 WHERE user = ?1", params![old, new])?;
                    }
                    IdKind::Group => {
                        tx.execute("UPDATE groups SET name = ?2 WHERE name = ?1", params![old, new])?;
                        tx.execute("UPDATE OR IGNORE members SET grp = ?2 WHERE grp = ?1", params![old, new])?;
                    }
                }
            }
            bump_generation(tx)?;
            Ok(true)
        })
    }

    /// Notes an id that `name` once had and nobody ever gets. Whether it is so: another name may have it.
    pub fn retire_id(&self, kind: IdKind, name: &str, id: u32, source: Source) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            tx.execute(
                "INSERT INTO ids (kind, id, name, source, given_at, retired_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                 ON CONFLICT DO NOTHING",
                params![kind.as_str(), id, name, source.as_str(), unix_now()],
            )?;
            let owner: String =
                tx.query_row("SELECT name FROM ids WHERE kind = ?1 AND id = ?2", params![kind.as_str(), id], |r| {
                    r.get(0)
                })?;
            Ok(owner == name)
        })
    }

    /// Ids of a name, retired ones too.
    pub fn ids_of(&self, name: &str) -> Result<Vec<GivenId>, StoreError> {
        self.with(|c| {
            c.prepare_cached(&format!("{GIVEN} WHERE name IN (?1, '~' || ?1) ORDER BY kind, id"))?
                .query_map([name], given)?
                .collect()
        })
    }

    /// Ids by kind and number behind `after`, retired ones too; at most `most`.
    pub fn given_ids(&self, after: Option<(IdKind, u32)>, most: u32) -> Result<Vec<GivenId>, StoreError> {
        let (kind, id) = after.map_or(("", 0), |(kind, id)| (kind.as_str(), id));
        self.with(|c| {
            c.prepare_cached(&format!("{GIVEN} WHERE (kind, id) > (?1, ?2) ORDER BY kind, id LIMIT ?3"))?
                .query_map(params![kind, id, most], given)?
                .collect()
        })
    }

    /// Ids, retired ones too, that the registry does not have yet; at most `most`.
    pub fn unregistered_ids(&self, most: u32) -> Result<Vec<GivenId>, StoreError> {
        self.with(|c| {
            c.prepare_cached(&format!("{GIVEN} WHERE registered = 0 ORDER BY kind, id LIMIT ?1"))?
                .query_map([most], given)?
                .collect()
        })
    }

    /// The registry knows of this id.
    pub fn mark_registered(&self, kind: IdKind, id: u32) -> Result<(), StoreError> {
        self.with(|c| {
            c.execute("UPDATE ids SET registered = 1 WHERE kind = ?1 AND id = ?2", params![kind.as_str(), id])
                .map(|_| ())
        })
    }

    /// People whose uid is not recorded as theirs, with it.
    pub fn people_without_id(&self) -> Result<Vec<(String, u32)>, StoreError> {
        self.with(|c| {
            c.prepare(
                "SELECT name, uid FROM people p WHERE NOT EXISTS (SELECT 1 FROM ids i WHERE i.kind = 'user'
                     AND i.id = p.uid AND i.name = p.name AND i.retired_at IS NULL) ORDER BY name",
            )?
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect()
        })
    }

    /// The slice of `named`: what it has, or from `wanted` on the first of `slices` that nobody has.
    pub fn sid_slice(&self, named: &str, wanted: u32, slices: u32) -> Result<Option<u32>, StoreError> {
        self.transaction(|tx| {
            let has =
                tx.query_row("SELECT slice FROM sid_slices WHERE named = ?1", [named], |r| r.get(0)).optional()?;
            if has.is_some() {
                return Ok(has);
            }
            for n in 0..slices {
                let slice = (wanted + n) % slices;
                let sql = "INSERT OR IGNORE INTO sid_slices VALUES (?1, ?2)";
                if tx.execute(sql, params![slice, named])? > 0 {
                    return Ok(Some(slice));
                }
            }
            Ok(None)
        })
    }

    /// Whose a slice is.
    pub fn owner_of_sid_slice(&self, slice: u32) -> Result<Option<String>, StoreError> {
        self.with(|c| c.query_row("SELECT named FROM sid_slices WHERE slice = ?1", [slice], |r| r.get(0)).optional())
    }

    /// Up to where the registry was followed.
    pub fn registry_serial(&self) -> Result<i64, StoreError> {
        self.with(|c| c.query_row("SELECT registry_serial FROM meta", [], |r| r.get(0)))
    }

    /// Notes that the registry was followed up to `serial`.
    pub fn set_registry_serial(&self, serial: i64) -> Result<(), StoreError> {
        self.with(|c| c.execute("UPDATE meta SET registry_serial = ?1", [serial]).map(|_| ()))
    }
}

fn given_to(c: &Connection, kind: IdKind, name: &str) -> Result<Option<GivenId>, StoreError> {
    c.prepare_cached(&format!("{GIVEN} WHERE kind = ?1 AND name = ?2 AND retired_at IS NULL"))?
        .query_row(params![kind.as_str(), name], given)
        .optional()
}

fn is_free_for(tx: &Transaction<'_>, kind: IdKind, id: u32, name: &str) -> Result<bool, StoreError> {
    let others: u32 = tx.query_row(
        "SELECT count(*) FROM ids WHERE kind = ?1
            AND ((id = ?2 AND (name <> ?3 OR retired_at IS NOT NULL))
                OR (name = ?3 AND id <> ?2 AND retired_at IS NULL))",
        params![kind.as_str(), id, name],
        |r| r.get(0),
    )?;
    Ok(others == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: (IdKind, &str) = (IdKind::User, "alice");

    #[test]
    fn a_retired_id_is_nobody_else_s_and_comes_back_only_by_hand() {
        let s = Store::in_memory().unwrap();
        assert!(s.give_id(&[ALICE, (IdKind::Group, "alice")], 70_000, Source::Computed, 2, false).unwrap());
        assert_eq!(s.given_to(IdKind::User, "alice").unwrap().unwrap().probes, 2);
        assert_eq!(s.change_id(&[ALICE], 70_001, Source::Override, false).unwrap(), None);
        assert_eq!(s.id_of(IdKind::User, "alice").unwrap(), Some(70_001));
        assert_eq!(s.id_of(IdKind::Group, "alice").unwrap(), Some(70_001), "and her own group");
        assert_eq!(s.name_of_id(IdKind::User, 70_000).unwrap().as_deref(), Some("alice"));
        assert!(!s.give_id(&[(IdKind::User, "bob")], 70_000, Source::Computed, 0, false).unwrap());
        assert!(!s.give_id(&[ALICE], 70_000, Source::Computed, 0, false).unwrap(), "not by itself");
        assert_eq!(
            s.change_id(&[(IdKind::User, "bob")], 70_000, Source::Override, false).unwrap().as_deref(),
            Some("alice")
        );
        assert_eq!(s.id_of(IdKind::User, "bob").unwrap(), None, "and nothing has changed");
        assert_eq!(s.change_id(&[ALICE], 70_000, Source::Override, false).unwrap(), None);
        let all = s.given_ids(None, 10).unwrap();
        let in_use: Vec<_> = all.iter().map(|g| (g.kind, g.id, g.retired_at.is_none())).collect();
        assert_eq!(
            in_use,
            [
                (IdKind::Group, 70_000, true),
                (IdKind::Group, 70_001, false),
                (IdKind::User, 70_000, true),
                (IdKind::User, 70_001, false)
            ]
        );
        assert_eq!(s.given_ids(Some((IdKind::User, 70_000)), 10).unwrap().len(), 1);
    }

    #[test]
    fn a_rename_keeps_ids_and_takes_nobody_s_name() {
        let s = Store::in_memory().unwrap();
        s.give_id(&[ALICE, (IdKind::Group, "alice")], 70_000, Source::Computed, 0, false).unwrap();
        s.give_id(&[(IdKind::User, "bob")], 70_001, Source::Computed, 0, false).unwrap();
        assert!(!s.rename(&[IdKind::User], "alice", "bob").unwrap());
        assert!(s.rename(&[IdKind::User, IdKind::Group], "alice", "alicia").unwrap());
        assert_eq!(s.id_of(IdKind::User, "alicia").unwrap(), Some(70_000));
        assert_eq!(s.id_of(IdKind::Group, "alicia").unwrap(), Some(70_000));
        assert_eq!(s.id_of(IdKind::User, "alice").unwrap(), None);
        assert!(!s.give_id(&[ALICE], 70_000, Source::Computed, 0, false).unwrap());
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for source in Source::ALL {
            assert_eq!(Source::parse(source.as_str()), Some(source));
        }
        assert_eq!(IdKind::parse("user"), Some(IdKind::User));
        assert_eq!((IdKind::parse("root"), Source::parse("")), (None, None));
    }
}
