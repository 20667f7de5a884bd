//! Who is known here, and in which groups she is.

use super::served::gids_of;
use super::{EXPIRED, Store, StoreError, bump_generation};
use crate::model::PersonKey;
use gpuhub_common::entry::{Group, Passwd};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

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

    /// Names and keys of `provider`'s people who are served.
    pub fn people_of(&self, provider: &str) -> Result<Vec<(String, PersonKey)>, StoreError> {
        self.with(|c| {
            c.prepare_cached("SELECT name, issuer, subject FROM people WHERE provider = ?1 AND gone = 0")?
                .query_map([provider], |r| Ok((r.get(0)?, PersonKey { issuer: r.get(1)?, subject: r.get(2)? })))?
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{IdKind, KnownGroup, Source, unix_now};

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
        s.confirm("corp", 10).unwrap();
        assert_eq!((s.person("alice").unwrap().unwrap().fetched_at, s.edits()), (10, edits));
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
