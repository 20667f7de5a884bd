//! Who is known here, and in which groups.

use super::served::gids_of;
use super::{IdKind, Store, StoreError, bump_generation};
use crate::model::PersonKey;
use gpuhub_common::entry::{Group, Passwd};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::collections::{BTreeSet, HashMap};

/// Somebody who is or was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPerson {
    /// Her provider.
    pub provider: String,
    /// What her name is bound to.
    pub key: PersonKey,
    /// Her entry.
    pub passwd: Passwd,
    /// When the provider last said so, in seconds since 1970.
    pub fetched_at: i64,
    /// The provider no longer has her.
    pub gone: bool,
}

/// A group as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownGroup {
    /// Its provider.
    pub provider: String,
    /// Its entry; members sorted.
    pub group: Group,
    /// When its whole list of members was last fetched; 0: never.
    pub fetched_at: i64,
}

/// What is known of somebody or of a group, in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// User or group.
    pub kind: IdKind,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Its provider.
    pub provider: String,
    /// Of a user: the key within the provider.
    pub subject: Option<String>,
    /// As in [`KnownPerson`] and [`KnownGroup`].
    pub fetched_at: i64,
    /// The provider no longer has it.
    pub gone: bool,
}

/// An entry that is to be asked for again, however old it is. In the column of a group, 0 is another thing.
pub const EXPIRED: i64 = 1;

pub(super) const PERSON: &str =
    "SELECT provider, issuer, subject, name, uid, gid, gecos, home, shell, fetched_at, gone FROM people";

pub(super) fn person(r: &Row<'_>) -> Result<KnownPerson, StoreError> {
    Ok(KnownPerson {
        provider: r.get(0)?,
        key: PersonKey { issuer: r.get(1)?, subject: r.get(2)? },
        passwd: Passwd {
            name: r.get(3)?,
            uid: r.get(4)?,
            gid: r.get(5)?,
            gecos: r.get(6)?,
            home: r.get(7)?,
            shell: r.get(8)?,
        },
        fetched_at: r.get(9)?,
        gone: r.get(10)?,
    })
}

impl Store {
    /// By name, gone or not.
    pub fn person(&self, name: &str) -> Result<Option<KnownPerson>, StoreError> {
        self.with(|c| c.prepare_cached(&format!("{PERSON} WHERE name = ?1"))?.query_row([name], person).optional())
    }

    /// By uid, gone or not.
    pub fn person_by_uid(&self, uid: u32) -> Result<Option<KnownPerson>, StoreError> {
        self.with(|c| c.prepare_cached(&format!("{PERSON} WHERE uid = ?1"))?.query_row([uid], person).optional())
    }

    /// The name that a key is bound to.
    pub fn name_of_key(&self, key: &PersonKey) -> Result<Option<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached(
                "SELECT name FROM people WHERE issuer = ?1 AND subject = ?2
                 UNION ALL SELECT name FROM bindings WHERE issuer = ?1 AND subject = ?2 LIMIT 1",
            )?
            .query_row(params![key.issuer, key.subject], |r| r.get(0))
            .optional()
        })
    }

    /// The key that a name is bound to.
    pub fn key_of(&self, name: &str) -> Result<Option<PersonKey>, StoreError> {
        self.with(|c| {
            c.prepare_cached(
                "SELECT issuer, subject FROM people WHERE name = ?1
                 UNION ALL SELECT issuer, subject FROM bindings WHERE name = ?1 LIMIT 1",
            )?
            .query_row([name], |r| Ok(PersonKey { issuer: r.get(0)?, subject: r.get(1)? }))
            .optional()
        })
    }

    /// Binds a name that nobody here has yet. An error if it or the key is bound otherwise.
    pub fn bind(&self, name: &str, key: &PersonKey) -> Result<(), StoreError> {
        self.add(|tx| {
            tx.execute("INSERT INTO bindings VALUES (?1, ?2, ?3)", params![name, key.issuer, key.subject]).map(|_| ())
        })
    }

    /// The supplementary gids of somebody, sorted.
    pub fn gids_of(&self, name: &str) -> Result<Vec<u32>, StoreError> {
        self.with(|c| gids_of(c, name))
    }

    /// Writes what a provider has just said of somebody. Whether a reader could see a difference.
    pub fn put_person(&self, known: &KnownPerson, groups: &[Group]) -> Result<bool, StoreError> {
        let write = |tx: &Transaction<'_>| {
            let name = &known.passwd.name;
            let before =
                tx.prepare_cached(&format!("{PERSON} WHERE name = ?1"))?.query_row([name], person).optional()?;
            let p = &known.passwd;
            // Another key under that name is refused here too, where nobody can come between.
            let mut write = tx.prepare_cached(
                "INSERT INTO people (provider, issuer, subject, name, uid, gid, gecos, home, shell, fetched_at, gone)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (name) DO UPDATE SET provider = ?1, uid = ?5, gid = ?6, gecos = ?7, home = ?8,
                    shell = ?9, fetched_at = ?10, gone = ?11
                 WHERE issuer = ?2 AND subject = ?3",
            )?;
            let written = write.execute(params![
                known.provider,
                known.key.issuer,
                known.key.subject,
                name,
                p.uid,
                p.gid,
                p.gecos,
                p.home,
                p.shell,
                known.fetched_at,
                known.gone
            ])?;
            if written == 0 {
                return Err(StoreError::QueryReturnedNoRows);
            }
            let is_new = before.is_none();
            let same_provider = before.as_ref().is_some_and(|b| b.provider == known.provider);
            let same_person = before.is_some_and(|b| b.passwd == known.passwd && b.gone == known.gone);
            let renumbered = renumber(tx, &known.provider, groups)?;
            let same_groups = !put_memberships(tx, &known.provider, name, groups)? && !renumbered;
            if !(same_person && same_groups) {
                bump_generation(tx)?;
            }
            let is_seen = !(same_person && same_groups);
            Ok((is_seen, renumbered || (!is_new && (is_seen || !same_provider))))
        };
        self.transaction_of(write, |(_, is_edit)| *is_edit).map(|(is_seen, _)| is_seen)
    }

    /// Whether [`Store::put_person`] would change nothing but when she was last seen, and she is not to be asked for.
    pub fn is_known_so(&self, known: &KnownPerson, groups: &[Group]) -> Result<bool, StoreError> {
        let KnownPerson { provider, key, passwd, fetched_at: _, gone } = known;
        let name = &passwd.name;
        self.with(|c| {
            // The locks of a transaction are taken once.
            let c = c.unchecked_transaction()?;
            let Some(is) =
                c.prepare_cached(&format!("{PERSON} WHERE name = ?1"))?.query_row([name], person).optional()?
            else {
                return Ok(false);
            };
            if (&is.provider, &is.key, &is.passwd, &is.gone) != (provider, key, passwd, gone)
                || is.fetched_at <= EXPIRED
            {
                return Ok(false);
            }
            let mut gid_of = c.prepare_cached("SELECT gid FROM groups WHERE name = ?1")?;
            for group in groups {
                let gid: Option<u32> = gid_of.query_row([&group.name], |r| r.get(0)).optional()?;
                if gid != Some(group.gid) {
                    return Ok(false);
                }
            }
            Ok(memberships(&c, name)? == joined(name, groups))
        })
    }

    /// The provider no longer has her: she is served no more, her binding stays.
    pub fn mark_gone(&self, name: &str) -> Result<bool, StoreError> {
        self.transaction(|tx| mark_gone(tx, name))
    }

    /// A group by name.
    pub fn group(&self, name: &str) -> Result<Option<KnownGroup>, StoreError> {
        self.with(|c| group_where(c, "name = ?1", [name]))
    }

    /// A group by gid.
    pub fn group_by_gid(&self, gid: u32) -> Result<Option<KnownGroup>, StoreError> {
        self.with(|c| group_where(c, "gid = ?1", [gid]))
    }

    /// Whose a group is: everybody who comes in brings her groups, and they may be everybody's.
    pub fn provider_of_group(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.with(|c| {
            let mut find = c.prepare_cached("SELECT provider FROM groups WHERE name = ?1")?;
            find.query_row([name], |r| r.get(0)).optional()
        })
    }

    /// The same by gid, and the group's name.
    pub fn provider_of_gid(&self, gid: u32) -> Result<Option<(String, String)>, StoreError> {
        self.with(|c| {
            let mut find = c.prepare_cached("SELECT provider, name FROM groups WHERE gid = ?1")?;
            find.query_row([gid], |r| Ok((r.get(0)?, r.get(1)?))).optional()
        })
    }

    /// Writes a group with its whole list of members. Whether a reader could see a difference.
    pub fn put_group(&self, known: &KnownGroup) -> Result<bool, StoreError> {
        let write = |tx: &Transaction<'_>| {
            let g = &known.group;
            let before = group_where(tx, "name = ?1", [&g.name])?;
            tx.execute(
                "INSERT INTO groups (name, gid, provider, fetched_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET gid = ?2, fetched_at = ?4 WHERE provider = ?3",
                params![g.name, g.gid, known.provider, known.fetched_at],
            )?;
            if before.as_ref().is_some_and(|b| b.provider != known.provider) {
                return Err(StoreError::QueryReturnedNoRows);
            }
            put_list(tx, g)?;
            let after = group_where(tx, "name = ?1", [&g.name])?;
            // One that nobody had listed yet was not published.
            let listed = before.as_ref().is_some_and(|b| b.fetched_at > 0);
            let changed = !listed || before.map(|b| b.group) != after.map(|a| a.group);
            if changed {
                bump_generation(tx)?;
            }
            Ok(changed)
        };
        self.transaction_of(write, |changed| *changed)
    }

    /// The directory no longer has this group.
    pub fn drop_group(&self, name: &str) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            let changed = tx.execute("DELETE FROM groups WHERE name = ?1", [name])? > 0;
            if changed {
                tx.execute("DELETE FROM members WHERE grp = ?1", [name])?;
                bump_generation(tx)?;
            }
            Ok(changed)
        })
    }

    /// Who joins which local groups: gids, each with the groups of ours whose people do (none: everybody).
    /// To be called before anything is published.
    pub fn declare_local_groups(&self, rules: &[(u32, Vec<String>)]) -> Result<(), StoreError> {
        let everybody = [String::new()];
        let pairs = rules.iter().flat_map(|(gid, groups)| {
            let groups = if groups.is_empty() { &everybody[..] } else { groups };
            groups.iter().map(move |grp| (*gid, grp.clone()))
        });
        let wanted: BTreeSet<(u32, String)> = pairs.collect();
        self.transaction(|tx| {
            let had: BTreeSet<(u32, String)> = tx
                .prepare("SELECT gid, grp FROM local_groups")?
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect::<Result<_, _>>()?;
            if had == wanted {
                return Ok(());
            }
            tx.execute("DELETE FROM local_groups", [])?;
            for (gid, grp) in &wanted {
                tx.execute("INSERT INTO local_groups VALUES (?1, ?2)", params![gid, grp])?;
            }
            bump_generation(tx)
        })
    }

    /// Generation, people served, groups.
    pub fn counts(&self) -> Result<(u64, u64, u64), StoreError> {
        self.with(|c| {
            let count = |sql: &str| c.query_row(sql, [], |r| r.get::<_, i64>(0)).map(i64::unsigned_abs);
            let people = count("SELECT count(*) FROM people WHERE gone = 0")?;
            Ok((super::generation(c)?, people, count("SELECT count(*) FROM groups")?))
        })
    }

    /// Names and keys of `provider`'s people who are served.
    pub fn people_of(&self, provider: &str) -> Result<Vec<(String, PersonKey)>, StoreError> {
        self.with(|c| {
            c.prepare_cached("SELECT name, issuer, subject FROM people WHERE provider = ?1 AND gone = 0")?
                .query_map([provider], |r| Ok((r.get(0)?, PersonKey { issuer: r.get(1)?, subject: r.get(2)? })))?
                .collect()
        })
    }

    /// Names of `provider`'s groups.
    pub fn groups_of(&self, provider: &str) -> Result<Vec<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached("SELECT name FROM groups WHERE provider = ?1")?
                .query_map([provider], |r| r.get(0))?
                .collect()
        })
    }

    /// What is known of `name`, or of all behind `after` in the order of kinds (groups first) and names.
    pub fn cached(
        &self,
        name: Option<&str>,
        after: Option<(IdKind, &str)>,
        most: u32,
    ) -> Result<Vec<Cached>, StoreError> {
        let (kind, behind) = after.map_or(("", ""), |(kind, name)| (kind.as_str(), name));
        self.with(|c| {
            c.prepare_cached(
                "SELECT * FROM (
                     SELECT 'user' AS kind, name, uid, provider, subject, fetched_at, gone FROM people
                     UNION ALL
                     SELECT 'group', name, gid, provider, NULL, fetched_at, 0 FROM groups)
                 WHERE (?1 IS NULL OR name = ?1) AND (kind, name) > (?2, ?3) ORDER BY kind, name LIMIT ?4",
            )?
            .query_map(params![name, kind, behind, most], |r| {
                let kind: String = r.get(0)?;
                Ok(Cached {
                    kind: IdKind::parse(&kind).unwrap_or(IdKind::User),
                    name: r.get(1)?,
                    id: r.get(2)?,
                    provider: r.get(3)?,
                    subject: r.get(4)?,
                    fetched_at: r.get(5)?,
                    gone: r.get(6)?,
                })
            })?
            .collect()
        })
    }

    /// How many people and groups of `provider` are served.
    pub fn known_of(&self, provider: &str) -> Result<i64, StoreError> {
        self.with(|c| {
            c.query_row(
                "SELECT (SELECT count(*) FROM people WHERE provider = ?1 AND gone = 0)
                      + (SELECT count(*) FROM groups WHERE provider = ?1)",
                [provider],
                |r| r.get(0),
            )
        })
    }

    /// What `provider` said of `name`, or of all, is to be asked for again. Of how many that is.
    pub fn expire(&self, provider: &str, name: Option<&str>) -> Result<u64, StoreError> {
        self.transaction(|tx| {
            let mut entries = 0;
            for served in
                ["people SET fetched_at = ?3 WHERE gone = 0", "groups SET fetched_at = ?3 WHERE fetched_at > 0"]
            {
                let sql = format!("UPDATE {served} AND provider = ?1 AND (?2 IS NULL OR name = ?2)");
                entries += tx.execute(&sql, params![provider, name, EXPIRED])?;
            }
            Ok(u64::try_from(entries).unwrap_or(u64::MAX))
        })
    }

    /// `provider` has just said, at `at`, that all that is known of its people and groups is so; but not of
    /// those that are expired.
    pub fn confirm(&self, provider: &str, at: i64) -> Result<(), StoreError> {
        self.transaction(|tx| {
            for table in ["people", "groups"] {
                tx.execute(
                    &format!("UPDATE {table} SET fetched_at = ?2 WHERE provider = ?1 AND fetched_at > {EXPIRED}"),
                    params![provider, at],
                )?;
            }
            Ok(())
        })
    }

    /// Who was seen when, just as she is known; but not those who are expired.
    pub fn put_seen(&self, seen: &HashMap<String, i64>) -> Result<(), StoreError> {
        let write = |tx: &Transaction<'_>| {
            let sql =
                format!("UPDATE people SET fetched_at = ?2 WHERE name = ?1 AND fetched_at > {EXPIRED} AND gone = 0");
            let mut put = tx.prepare_cached(&sql)?;
            seen.iter().try_for_each(|(name, at)| put.execute(params![name, at]).map(drop))
        };
        self.transaction_of(write, |()| false)
    }

    /// Names of `provider`'s people whose entry is older than `before`, oldest first.
    pub fn stale_people(&self, provider: &str, before: i64, most: u32) -> Result<Vec<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached(
                "SELECT name FROM people WHERE provider = ?1 AND fetched_at < ?2 AND gone = 0 ORDER BY fetched_at LIMIT ?3",
            )?
            .query_map(params![provider, before, most], |r| r.get(0))?
            .collect()
        })
    }

    /// Names of `provider`'s groups whose list of members is older than `before`, oldest first.
    pub fn stale_groups(&self, provider: &str, before: i64, most: u32) -> Result<Vec<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached(
                "SELECT name FROM groups WHERE provider = ?1 AND fetched_at > 0 AND fetched_at < ?2 ORDER BY fetched_at LIMIT ?3",
            )?
            .query_map(params![provider, before, most], |r| r.get(0))?
            .collect()
        })
    }
}

pub(super) fn mark_gone(tx: &Transaction<'_>, name: &str) -> Result<bool, StoreError> {
    let changed = tx.execute("UPDATE people SET gone = 1 WHERE name = ?1 AND gone = 0", [name])? > 0;
    if changed {
        tx.execute("DELETE FROM members WHERE user = ?1", [name])?;
        tx.execute("DELETE FROM offline WHERE name = ?1", [name])?;
        bump_generation(tx)?;
    }
    Ok(changed)
}

pub(super) fn group_where<P: rusqlite::Params>(
    c: &Connection,
    clause: &str,
    p: P,
) -> Result<Option<KnownGroup>, StoreError> {
    let found = c
        .prepare_cached(&format!("SELECT provider, name, gid, fetched_at FROM groups WHERE {clause}"))?
        .query_row(p, |r| {
            Ok(KnownGroup {
                provider: r.get(0)?,
                group: Group { name: r.get(1)?, gid: r.get(2)?, members: Vec::new() },
                fetched_at: r.get(3)?,
            })
        })
        .optional()?;
    let Some(mut known) = found else { return Ok(None) };
    known.group.members = c
        .prepare_cached("SELECT DISTINCT user FROM members WHERE grp = ?1 ORDER BY user")?
        .query_map([&known.group.name], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some(known))
}

/// Gives the provider's groups the gids that they have now. Whether one had another.
fn renumber(tx: &Transaction<'_>, provider: &str, groups: &[Group]) -> Result<bool, StoreError> {
    let mut renumbered = false;
    let mut put = tx.prepare_cached("UPDATE groups SET gid = ?2 WHERE name = ?1 AND gid <> ?2 AND provider = ?3")?;
    for g in groups {
        renumbered |= put.execute(params![g.name, g.gid, provider])? > 0;
    }
    Ok(renumbered)
}

/// The groups that have somebody, sorted.
fn memberships(c: &Connection, user: &str) -> Result<Vec<String>, StoreError> {
    c.prepare_cached("SELECT DISTINCT grp FROM members WHERE user = ?1 ORDER BY grp")?
        .query_map([user], |r| r.get(0))?
        .collect()
}

/// Those of `groups` that have her, sorted.
fn joined<'g>(user: &str, groups: &'g [Group]) -> Vec<&'g str> {
    let mut joined: Vec<&str> =
        groups.iter().filter(|g| g.members.iter().any(|m| m == user)).map(|g| &*g.name).collect();
    joined.sort_unstable();
    joined.dedup();
    joined
}

/// Replaces the memberships that somebody's own entry claims; makes the groups that are new.
/// Whether anything changed.
fn put_memberships(tx: &Transaction<'_>, provider: &str, user: &str, groups: &[Group]) -> Result<bool, StoreError> {
    let mut changed = false;
    let mut put = tx.prepare_cached(
        "INSERT INTO groups (name, gid, provider, fetched_at) VALUES (?1, ?2, ?3, 0) ON CONFLICT (name) DO NOTHING",
    )?;
    for g in groups {
        changed |= put.execute(params![g.name, g.gid, provider])? > 0;
    }
    let (before, after) = (memberships(tx, user)?, joined(user, groups));
    // What her own entry says also corrects what the lists of groups said earlier.
    if before != after {
        changed = true;
        for group in before.iter().filter(|g| !after.contains(&g.as_str())) {
            tx.execute("DELETE FROM members WHERE user = ?1 AND grp = ?2", params![user, group])?;
        }
        for group in after.into_iter().filter(|g| !before.iter().any(|b| b == g)) {
            tx.execute("INSERT INTO members (grp, user, via) VALUES (?1, ?2, 'claim')", params![group, user])?;
        }
    }
    Ok(changed)
}

/// Replaces the members that a group's own list names. Only those rows are touched that change:
/// each of them has somebody's entry published again.
fn put_list(tx: &Transaction<'_>, group: &Group) -> Result<(), StoreError> {
    let mut left: BTreeSet<&str> = group.members.iter().map(String::as_str).collect();
    let before: Vec<String> = tx
        .prepare_cached("SELECT user FROM members WHERE grp = ?1 AND via = 'list'")?
        .query_map([&group.name], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    let mut remove = tx.prepare_cached("DELETE FROM members WHERE grp = ?1 AND user = ?2 AND via = 'list'")?;
    for user in before.iter().filter(|user| !left.remove(user.as_str())) {
        remove.execute(params![group.name, user])?;
    }
    let mut add = tx.prepare_cached("INSERT INTO members (grp, user, via) VALUES (?1, ?2, 'list')")?;
    for user in left {
        add.execute(params![group.name, user])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Source, unix_now};

    fn known(name: &str, uid: u32) -> KnownPerson {
        KnownPerson {
            provider: "corp".into(),
            key: PersonKey { issuer: "corp".into(), subject: name.into() },
            passwd: Passwd {
                name: name.into(),
                uid,
                gid: uid,
                gecos: String::new(),
                home: format!("/home/{name}"),
                shell: "/bin/sh".into(),
            },
            fetched_at: unix_now(),
            gone: false,
        }
    }

    fn group(name: &str, gid: u32, members: &[&str]) -> Group {
        Group { name: name.into(), gid, members: members.iter().map(|m| (*m).to_owned()).collect() }
    }

    #[test]
    fn people_and_groups_come_back_as_written() {
        let s = Store::in_memory().unwrap();
        let g = [group("ml", 7000, &["alice"]), group("alice", 5000, &[])];
        assert!(s.put_person(&known("alice", 5000), &g).unwrap());
        let generation = s.generation().unwrap();
        assert!(!s.put_person(&known("alice", 5000), &g).unwrap(), "the same again is no change");
        assert_eq!(s.generation().unwrap(), generation);
        assert_eq!(s.gids_of("alice").unwrap(), [7000]);
        assert!(s.mark_gone("alice").unwrap());
        assert!(s.person("alice").unwrap().unwrap().gone, "the binding stays");
    }

    #[test]
    fn when_somebody_was_last_seen_is_no_edit() {
        let s = Store::in_memory().unwrap();
        let g = [group("ml", 7000, &["alice"])];
        s.put_person(&known("alice", 5000), &g).unwrap();
        let edits = s.edits();
        s.put_person(&KnownPerson { fetched_at: 9, ..known("alice", 5000) }, &g).unwrap();
        assert_eq!(s.person("alice").unwrap().unwrap().fetched_at, 9);
        assert_eq!(s.edits(), edits);
        // Nor is what comes in new, of somebody else.
        s.put_person(&known("bob", 5001), &[group("ml", 7000, &["bob"]), group("vision", 7002, &["bob"])]).unwrap();
        s.bind("carol", &PersonKey { issuer: "corp".into(), subject: "carol".into() }).unwrap();
        s.give_id(&[(IdKind::User, "carol")], 5002, Source::Computed, 0, false).unwrap();
        assert_eq!(s.edits(), edits);
        let list = |members: &[&str]| KnownGroup {
            provider: "corp".into(),
            group: group("ml", 7001, members),
            fetched_at: unix_now(),
        };
        for edit in [
            &(|| s.put_person(&known("bob", 5001), &[group("ml", 7001, &["bob"])]).map(|_| ()))
                as &dyn Fn() -> Result<(), StoreError>,
            &|| s.put_person(&KnownPerson { provider: "sso".into(), ..known("alice", 5000) }, &g).map(|_| ()),
            &|| s.put_group(&list(&["alice", "bob"])).map(|_| ()),
            &|| s.change_id(&[(IdKind::User, "bob")], 5009, Source::Override, false).map(|_| ()),
            &|| s.mark_gone("alice").map(|_| ()),
        ] {
            let before = s.edits();
            edit().unwrap();
            assert!(s.edits() > before);
        }
        s.put_group(&list(&["bob"])).unwrap();
        let edits = s.edits();
        s.put_group(&list(&["bob"])).unwrap();
        assert_eq!(s.edits(), edits, "the same list, a moment later");
    }

    #[test]
    fn what_is_known_so_need_not_be_written() {
        let s = Store::in_memory().unwrap();
        let g = [group("ml", 7000, &["alice"]), group("alice", 5000, &[])];
        let alice = known("alice", 5000);
        assert!(!s.is_known_so(&alice, &g).unwrap());
        s.put_person(&alice, &g).unwrap();
        assert!(s.is_known_so(&KnownPerson { fetched_at: 9, ..alice.clone() }, &g).unwrap());
        let other = [
            KnownPerson { provider: "sso".into(), ..alice.clone() },
            KnownPerson { key: PersonKey { issuer: "corp".into(), subject: "2".into() }, ..alice.clone() },
            known("alice", 5001),
        ];
        assert!(other.iter().all(|other| !s.is_known_so(other, &g).unwrap()));
        for groups in [&g[1..], &[group("ml", 7001, &["alice"])], &[group("ml", 7000, &[])]] {
            assert!(!s.is_known_so(&alice, groups).unwrap(), "{groups:?}");
        }
        s.expire("corp", Some("alice")).unwrap();
        assert!(!s.is_known_so(&alice, &g).unwrap(), "she is to be asked for, and this is the answer");
        s.put_person(&alice, &g).unwrap();
        s.mark_gone("alice").unwrap();
        assert!(!s.is_known_so(&alice, &g).unwrap());
    }

    #[test]
    fn who_was_seen_is_fresh_but_not_who_is_gone_or_to_be_asked_for() {
        let s = Store::in_memory().unwrap();
        for (n, name) in ["alice", "bob", "carol"].into_iter().enumerate() {
            let uid = 5000 + u32::try_from(n).unwrap();
            s.put_person(&KnownPerson { fetched_at: 100, ..known(name, uid) }, &[]).unwrap();
        }
        s.expire("corp", Some("bob")).unwrap();
        s.mark_gone("carol").unwrap();
        let edits = s.edits();
        s.put_seen(&["alice", "bob", "carol", "dave"].map(|name| (name.to_owned(), 200)).into()).unwrap();
        let at = |name| s.person(name).unwrap().unwrap().fetched_at;
        assert_eq!((at("alice"), at("bob"), at("carol")), (200, EXPIRED, 100));
        assert_eq!(s.edits(), edits);
    }

    #[test]
    fn one_uid_one_name() {
        let s = Store::in_memory().unwrap();
        s.put_person(&known("alice", 5000), &[]).unwrap();
        assert!(s.put_person(&known("bob", 5000), &[]).is_err());
    }

    #[test]
    fn leaving_a_group_is_seen() {
        let s = Store::in_memory().unwrap();
        s.put_person(&known("alice", 5000), &[group("ml", 7000, &["alice"])]).unwrap();
        assert!(s.put_person(&known("alice", 5000), &[]).unwrap());
        assert!(s.gids_of("alice").unwrap().is_empty());
    }
}
