//! What the snapshot is made of: everybody who is served, and who of them changed.
//!
//! Temporary triggers of the one connection that writes note the name of every entry that a
//! reader of the snapshot could see change. They are rolled back with what they noted, cost no
//! write to disk, and nobody who writes need think of them.

use super::groups::group_where;
use super::people::{PERSON, person};
use super::{IdKind, Store, StoreError, generation};
use gpuhub_common::entry::Group;
use gpuhub_common::snapshot::{Changes, SnapshotUser};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};
use std::collections::BTreeSet;
use std::time::Duration;

/// An entry by kind and name.
pub type Changed = (IdKind, String);

/// Sets up the notes in a connection.
pub(super) fn track(c: &Connection) -> Result<(), StoreError> {
    // In memory: nobody needs them after the connection. A name may be noted twice: OR IGNORE
    // would not help, since the outer statement's ON CONFLICT outranks that of a trigger (SQLite,
    // "CREATE TRIGGER").
    c.pragma_update(None, "temp_store", "MEMORY")?;
    c.execute_batch(
        "CREATE TEMP TABLE changed (kind TEXT NOT NULL, name TEXT NOT NULL);

         CREATE TEMP TRIGGER person_comes AFTER INSERT ON main.people BEGIN
             INSERT INTO changed VALUES ('user', NEW.name);
         END;
         CREATE TEMP TRIGGER person_changes AFTER UPDATE ON main.people
         WHEN (OLD.name, OLD.uid, OLD.gid, OLD.gecos, OLD.home, OLD.shell, OLD.gone)
             IS NOT (NEW.name, NEW.uid, NEW.gid, NEW.gecos, NEW.home, NEW.shell, NEW.gone) BEGIN
             INSERT INTO changed VALUES ('user', OLD.name), ('user', NEW.name);
         END;
         CREATE TEMP TRIGGER person_goes AFTER DELETE ON main.people BEGIN
             INSERT INTO changed VALUES ('user', OLD.name);
         END;

         CREATE TEMP TRIGGER group_comes AFTER INSERT ON main.groups BEGIN
             INSERT INTO changed VALUES ('group', NEW.name);
             INSERT INTO changed SELECT 'user', user FROM main.members WHERE grp = NEW.name;
             INSERT INTO changed SELECT 'user', name FROM main.people WHERE gid = NEW.gid;
         END;
         CREATE TEMP TRIGGER group_changes AFTER UPDATE ON main.groups
         WHEN OLD.gid <> NEW.gid OR OLD.name <> NEW.name BEGIN
             INSERT INTO changed VALUES ('group', OLD.name), ('group', NEW.name);
             INSERT INTO changed SELECT 'user', user FROM main.members WHERE grp IN (OLD.name, NEW.name);
             INSERT INTO changed SELECT 'user', name FROM main.people WHERE gid IN (OLD.gid, NEW.gid);
         END;
         CREATE TEMP TRIGGER group_is_listed AFTER UPDATE ON main.groups
         WHEN (OLD.fetched_at = 0) <> (NEW.fetched_at = 0) BEGIN
             INSERT INTO changed VALUES ('group', NEW.name);
         END;
         CREATE TEMP TRIGGER group_goes AFTER DELETE ON main.groups BEGIN
             INSERT INTO changed VALUES ('group', OLD.name);
             INSERT INTO changed SELECT 'user', user FROM main.members WHERE grp = OLD.name;
             INSERT INTO changed SELECT 'user', name FROM main.people WHERE gid = OLD.gid;
         END;

         CREATE TEMP TRIGGER member_comes AFTER INSERT ON main.members BEGIN
             INSERT INTO changed VALUES ('user', NEW.user), ('group', NEW.grp);
         END;
         CREATE TEMP TRIGGER member_changes AFTER UPDATE ON main.members BEGIN
             INSERT INTO changed VALUES ('user', OLD.user), ('group', OLD.grp), ('user', NEW.user), ('group', NEW.grp);
         END;
         CREATE TEMP TRIGGER member_goes AFTER DELETE ON main.members BEGIN
             INSERT INTO changed VALUES ('user', OLD.user), ('group', OLD.grp);
         END;",
    )
}

impl Store {
    /// Adds the names of what changed since the last call to `names`, and says what is now so of
    /// all of those. A group that one of `listing` must still list, since so far only its
    /// members' own entries named it, counts as absent: half a list of members would pass for
    /// the whole.
    pub fn changes(&self, names: &mut BTreeSet<Changed>, listing: &[String]) -> Result<Changes, StoreError> {
        let read = |tx: &Transaction<'_>| {
            self.sync_in(tx)?;
            let mut rows = tx.prepare_cached("DELETE FROM temp.changed RETURNING kind, name")?;
            for row in rows.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get(1)?)))? {
                let (kind, name) = row?;
                let kind = if kind == IdKind::User.as_str() { IdKind::User } else { IdKind::Group };
                names.insert((kind, name));
            }
            let mut changes = Changes { generation: generation(tx)?, ..Changes::default() };
            for (kind, name) in names.iter() {
                match kind {
                    IdKind::User => {
                        let (user, provider) = served_user(tx, name)?.unzip();
                        if provider.is_some_and(|p| self.hides(&p)) {
                            changes.hidden_users.insert(name.clone());
                        }
                        changes.users.insert(name.clone(), user);
                    }
                    IdKind::Group => {
                        let (group, provider) = served_group(tx, name, listing)?.unzip();
                        if provider.is_some_and(|p| self.hides(&p)) {
                            changes.hidden_groups.insert(name.clone());
                        }
                        changes.groups.insert(name.clone(), group);
                    }
                }
            }
            Ok(changes)
        };
        self.transaction_of(read, |_| false)
    }

    /// Whose people and groups are found by name and id, and told by no enumeration. To be called once, before
    /// anything is published.
    pub fn hide(&self, providers: Vec<String>) {
        _ = self.hidden.set(providers);
    }

    fn hides(&self, provider: &str) -> bool {
        self.hidden.get().is_some_and(|hidden| hidden.iter().any(|h| h == provider))
    }

    /// How many changes were noted since [`Store::changes`] was last called, doubles included.
    pub fn count_changes(&self) -> Result<usize, StoreError> {
        self.with(|c| c.query_row("SELECT count(*) FROM temp.changed", [], |r| r.get::<_, u32>(0))).map(|n| n as usize)
    }

    /// Hands everybody who is served to `user` and then to `group`, each in the order of their
    /// names; before that, the number of the state that this is to `begin`. By a connection of its
    /// own, so that nobody who writes waits, and one entry at a time.
    pub fn everything<R>(
        &self,
        listing: &[String],
        read: impl FnOnce(u64, &mut Everything<'_>) -> R,
    ) -> Result<R, StoreError> {
        let read_in = |c: &Connection| {
            // From here on the connection sees one state (SQLite, "Isolation").
            let tx = c.unchecked_transaction()?;
            let generation = generation(&tx)?;
            let hidden = self.hidden.get().map(Vec::as_slice).unwrap_or_default();
            Ok(read(generation, &mut Everything { tx: &tx, listing, hidden }))
        };
        match &self.path {
            Some(path) => {
                let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                connection.busy_timeout(Duration::from_secs(2))?;
                read_in(&connection)
            }
            None => self.with(read_in),
        }
    }
}

/// One state of the store.
pub struct Everything<'t> {
    tx: &'t Transaction<'t>,
    listing: &'t [String],
    hidden: &'t [String],
}

impl Everything<'_> {
    /// Everybody who is served, and whether no enumeration is to tell of her.
    pub fn users(&self, mut each: impl FnMut(SnapshotUser, bool)) -> Result<(), StoreError> {
        let mut people = self.tx.prepare(&format!("{PERSON} WHERE gone = 0 ORDER BY name"))?;
        for known in people.query_map([], person)? {
            let known = known?;
            let (passwd, hidden) = (known.passwd, self.hidden.contains(&known.provider));
            let gids = gids_of(self.tx, &passwd.name)?;
            each(SnapshotUser { passwd, gids }, hidden);
        }
        Ok(())
    }

    /// Every group that is served, with its members, and whether it is hidden.
    pub fn groups(&self, mut each: impl FnMut(Group, bool)) -> Result<(), StoreError> {
        let mut names = self.tx.prepare("SELECT name FROM groups ORDER BY name")?;
        let mut names = names.query([])?;
        while let Some(row) = names.next()? {
            if let Some((group, provider)) = served_group(self.tx, row.get_ref(0)?.as_str()?, self.listing)? {
                each(group, self.hidden.contains(&provider));
            }
        }
        Ok(())
    }
}

/// Somebody, and her provider.
fn served_user(c: &Connection, name: &str) -> Result<Option<(SnapshotUser, String)>, StoreError> {
    let known = c.prepare_cached(&format!("{PERSON} WHERE name = ?1 AND gone = 0"))?.query_row([name], person);
    let Some(known) = known.optional()? else { return Ok(None) };
    Ok(Some((SnapshotUser { gids: gids_of(c, name)?, passwd: known.passwd }, known.provider)))
}

pub(super) fn gids_of(c: &Connection, name: &str) -> Result<Vec<u32>, StoreError> {
    c.prepare_cached(
        "SELECT g.gid FROM members m JOIN groups g ON g.name = m.grp WHERE m.user = ?1
         UNION
         SELECT l.gid FROM local_groups l WHERE l.grp = ''
            OR l.grp IN (SELECT grp FROM members WHERE user = ?1)
            OR l.grp IN (SELECT g.name FROM groups g JOIN people p ON p.gid = g.gid WHERE p.name = ?1)
         ORDER BY 1",
    )?
    .query_map([name], |r| r.get(0))?
    .collect()
}

fn served_group(c: &Connection, name: &str, listing: &[String]) -> Result<Option<(Group, String)>, StoreError> {
    let known = group_where(c, "name = ?1", [name])?;
    let known = known.filter(|k| k.fetched_at > 0 || !listing.contains(&k.provider));
    Ok(known.map(|k| (k.group, k.provider)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PersonKey;
    use crate::store::{KnownGroup, KnownPerson};
    use gpuhub_common::entry::Passwd;

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
            fetched_at: 1,
            gone: false,
        }
    }

    fn group(name: &str, gid: u32, members: &[&str]) -> Group {
        Group { name: name.into(), gid, members: members.iter().map(|m| (*m).to_owned()).collect() }
    }

    fn everything(s: &Store, listing: &[String]) -> (Vec<SnapshotUser>, Vec<Group>) {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        s.everything(listing, |_, all| {
            all.users(|u, _| users.push(u)).unwrap();
            all.groups(|g, _| groups.push(g)).unwrap();
        })
        .unwrap();
        (users, groups)
    }

    /// The changes since the last call, of users and of groups.
    fn changes(s: &Store) -> (Vec<String>, Vec<String>) {
        let c = s.changes(&mut BTreeSet::new(), &[]).unwrap();
        (c.users.into_keys().collect(), c.groups.into_keys().collect())
    }

    #[test]
    fn half_a_list_of_members_is_not_served() {
        let s = Store::in_memory().unwrap();
        let g = [group("ml", 7000, &["alice"]), group("alice", 5000, &[])];
        assert!(s.put_person(&known("alice", 5000), &g).unwrap());
        let (users, groups) = everything(&s, &["corp".into()]);
        assert!(groups.is_empty(), "nobody has listed them yet");
        assert_eq!(users.len(), 1);
        let (users, groups) = everything(&s, &[]);
        assert_eq!(users, [SnapshotUser { passwd: known("alice", 5000).passwd, gids: vec![7000] }]);
        assert_eq!(groups, [group("alice", 5000, &[]), group("ml", 7000, &["alice"])]);
        assert!(s.mark_gone("alice").unwrap());
        assert!(everything(&s, &[]).0.is_empty());
    }

    #[test]
    fn only_those_are_noted_whom_a_reader_sees_change() {
        let s = Store::in_memory().unwrap();
        let ml = [group("ml", 7000, &["alice"])];
        let names = |users: &[&str], groups: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
            (owned(users), owned(groups))
        };
        s.put_person(&known("alice", 5000), &ml).unwrap();
        s.put_person(&known("bob", 5001), &[]).unwrap();
        assert_eq!(changes(&s), names(&["alice", "bob"], &["ml"]));
        s.put_person(&KnownPerson { fetched_at: 99, ..known("alice", 5000) }, &ml).unwrap();
        assert_eq!(changes(&s), names(&[], &[]), "fetched again, and the same");
        let mut listed =
            KnownGroup { provider: "corp".into(), group: group("ml", 7000, &["alice", "bob"]), fetched_at: 5 };
        s.put_group(&listed).unwrap();
        assert_eq!(changes(&s), names(&["alice", "bob"], &["ml"]), "bob came, and who said so of alice");
        listed.fetched_at = 6;
        s.put_group(&listed).unwrap();
        assert_eq!(changes(&s), names(&[], &[]));
        listed.group.members.retain(|m| m == "alice");
        s.put_group(&listed).unwrap();
        assert_eq!(changes(&s), names(&["bob"], &["ml"]));
        listed.group.gid = 7001;
        s.put_group(&listed).unwrap();
        assert_eq!(changes(&s), names(&["alice"], &["ml"]), "her gids are others now");
        s.drop_group("ml").unwrap();
        assert_eq!(changes(&s), names(&["alice"], &["ml"]));
        s.mark_gone("bob").unwrap();
        assert_eq!(changes(&s), names(&["bob"], &[]));
    }

    #[test]
    fn what_was_rolled_back_is_not_noted_and_what_was_asked_for_is_said_again() {
        let s = Store::in_memory().unwrap();
        s.put_person(&known("alice", 5000), &[]).unwrap();
        assert_eq!(s.count_changes().unwrap(), 1);
        assert_eq!(changes(&s), (vec!["alice".to_owned()], vec![]));
        assert!(s.put_person(&known("bob", 5000), &[]).is_err(), "alice has that uid");
        assert_eq!(s.count_changes().unwrap(), 0);
        let mut names = BTreeSet::from([(IdKind::User, "alice".to_owned()), (IdKind::Group, "no".to_owned())]);
        let c = s.changes(&mut names, &[]).unwrap();
        assert_eq!(c.users["alice"].as_ref().unwrap().passwd, known("alice", 5000).passwd);
        assert_eq!(c.groups["no"], None);
    }

    #[tokio::test]
    async fn what_came_in_bulk_is_on_disk_before_it_is_published() {
        let s = Store::in_memory().unwrap();
        let waits = || s.with(|c| c.pragma_query_value(None, "synchronous", |r| r.get::<_, i64>(0))).unwrap() == 2;
        let unsynced = || s.unsynced.load(std::sync::atomic::Ordering::Relaxed);
        assert!(waits() && !unsynced());
        crate::store::in_bulk(async { s.put_person(&known("alice", 5000), &[]).unwrap() }).await;
        assert!(waits() && unsynced(), "others wait for the disk meanwhile");
        let refused = crate::store::in_bulk(async { s.put_person(&known("bob", 5000), &[]) }).await;
        assert!(refused.is_err() && waits());
        assert_eq!(changes(&s).0, ["alice"]);
        assert!(!unsynced());
        assert!(crate::store::in_bulk(async { s.mark_gone("alice").unwrap() }).await);
        s.sync().unwrap();
        assert!(!unsynced());
    }

    #[test]
    fn a_reader_sees_one_state_while_others_write() {
        let dir = std::env::temp_dir().join(format!("gpuhub-served-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let s = Store::open(&dir.join("store.db")).unwrap();
        s.put_person(&known("alice", 5000), &[]).unwrap();
        let seen = s.everything(&[], |generation, all| {
            s.put_person(&known("bob", 5001), &[group("ml", 7000, &["bob"])]).unwrap();
            assert!(s.generation().unwrap() > generation);
            let mut n = 0;
            all.users(|_, _| n += 1).unwrap();
            all.groups(|_, _| n += 1).unwrap();
            n
        });
        assert_eq!(seen.unwrap(), 1, "alice alone");
        assert_eq!(changes(&s), (vec!["alice".to_owned(), "bob".to_owned()], vec!["ml".to_owned()]));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
