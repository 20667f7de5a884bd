//! From when it is what is known of people and groups.

use super::{IdKind, Store, StoreError};
use rusqlite::{Transaction, params};
use std::collections::HashMap;

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

impl Store {
    /// Generation, people served, groups.
    pub fn counts(&self) -> Result<(u64, u64, u64), StoreError> {
        self.with(|c| {
            let count = |sql: &str| c.query_row(sql, [], |r| r.get::<_, i64>(0)).map(i64::unsigned_abs);
            let people = count("SELECT count(*) FROM people WHERE gone = 0")?;
            Ok((super::generation(c)?, people, count("SELECT count(*) FROM groups")?))
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
        let write = |tx: &Transaction<'_>| {
            for table in ["people", "groups"] {
                tx.execute(
                    &format!("UPDATE {table} SET fetched_at = ?2 WHERE provider = ?1 AND fetched_at > {EXPIRED}"),
                    params![provider, at],
                )?;
            }
            Ok(())
        };
        self.transaction_of(write, |()| false)
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
