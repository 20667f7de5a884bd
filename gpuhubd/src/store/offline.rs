//! What is remembered of people for when their directory is away.

use super::{Store, StoreError};
use crate::model::PersonKey;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::collections::BTreeMap;

/// Somebody as she last came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Who she was.
    pub key: PersonKey,
    /// PAM service → when she was last let in by it, in seconds since 1970.
    pub services: BTreeMap<String, i64>,
    /// What access rules may call her groups, besides their names.
    pub also_in: Vec<String>,
    /// Her password, if she ever gave it here.
    pub hash: Option<String>,
    /// When that was.
    pub verified_at: i64,
    /// Wrong passwords since.
    pub failures: u32,
}

/// As of a user of the builtin directory: without the hash.
impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, services, verified_at, failures, .. } = self;
        f.debug_struct("Remembered")
            .field("key", key)
            .field("services", services)
            .field("verified_at", verified_at)
            .field("failures", failures)
            .finish_non_exhaustive()
    }
}

fn remembered(r: &Row<'_>) -> Result<Remembered, StoreError> {
    // What cannot be read is nothing, and lets nobody in.
    let services = serde_json::from_str(&r.get::<_, String>(2)?).unwrap_or_default();
    let also_in = serde_json::from_str(&r.get::<_, String>(3)?).unwrap_or_default();
    let key = PersonKey { issuer: r.get(0)?, subject: r.get(1)? };
    Ok(Remembered { key, services, also_in, hash: r.get(4)?, verified_at: r.get(5)?, failures: r.get(6)? })
}

const ROW: &str = "SELECT issuer, subject, services, also_in, hash, verified_at, failures FROM offline WHERE name = ?1";

impl Store {
    /// What is remembered of her.
    pub fn remembered(&self, name: &str) -> Result<Option<Remembered>, StoreError> {
        self.with(|c| c.prepare_cached(ROW)?.query_row([name], remembered).optional())
    }

    /// She was let in now, by this service. What was known of somebody else of her name goes.
    pub fn remember_admission(
        &self,
        name: &str,
        key: &PersonKey,
        also_in: &[String],
        service: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        // When somebody was last let in is no edit (`Store::edits`), as it is none when she was last seen.
        let write = |tx: &Transaction<'_>| {
            let known = tx.prepare_cached(ROW)?.query_row([name], remembered).optional()?.filter(|k| k.key == *key);
            let mut services = known.as_ref().map(|k| k.services.clone()).unwrap_or_default();
            services.insert(service.to_owned(), now);
            let (hash, verified_at, failures) =
                known.map_or((None, 0, 0), |known| (known.hash, known.verified_at, known.failures));
            let json = |value: Result<String, _>| {
                value.map_err(|e: serde_json::Error| StoreError::ToSqlConversionFailure(e.into()))
            };
            tx.execute(
                "INSERT OR REPLACE INTO offline (name, issuer, subject, services, also_in, hash, verified_at, failures)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    name,
                    key.issuer,
                    key.subject,
                    json(serde_json::to_string(&services))?,
                    json(serde_json::to_string(also_in))?,
                    hash,
                    verified_at,
                    failures
                ],
            )
            .map(|_| ())
        };
        self.transaction_of(write, |()| false)
    }

    /// Her password was right, and its hash is this; if she is remembered at all, as the same.
    pub fn remember_password(&self, name: &str, key: &PersonKey, hash: &str, now: i64) -> Result<(), StoreError> {
        self.with(|c| {
            c.execute(
                "UPDATE offline SET hash = ?4, verified_at = ?5, failures = 0
                 WHERE name = ?1 AND issuer = ?2 AND subject = ?3",
                params![name, key.issuer, key.subject, hash, now],
            )
            .map(|_| ())
        })
    }

    /// A password is about to be compared with hers: it is counted first. How many there were with it.
    pub fn count_offline_try(&self, name: &str) -> Result<u32, StoreError> {
        self.with(|c| {
            c.query_row("UPDATE offline SET failures = failures + 1 WHERE name = ?1 RETURNING failures", [name], |r| {
                r.get(0)
            })
        })
    }

    /// The one that was counted was right.
    pub fn clear_offline_tries(&self, name: &str) -> Result<(), StoreError> {
        self.with(|c| c.execute("UPDATE offline SET failures = 0 WHERE name = ?1", [name]).map(|_| ()))
    }

    /// Nothing is remembered of her any more. Cheap where nothing was.
    pub fn forget_offline(&self, name: &str) -> Result<(), StoreError> {
        self.with(|c| c.execute("DELETE FROM offline WHERE name = ?1", [name]).map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered() {
        let store = Store::in_memory().unwrap();
        let key = |subject: &str| PersonKey { issuer: "ldap:corp".into(), subject: subject.into() };
        store.remember_password("alice", &key("1"), "h", 5).unwrap();
        assert_eq!(store.remembered("alice").unwrap(), None, "who was not let in is not remembered");
        store.remember_admission("alice", &key("1"), &["cn=x".into()], "sshd", 10).unwrap();
        store.remember_password("alice", &key("1"), "h1", 10).unwrap();
        store.remember_admission("alice", &key("1"), &["cn=y".into()], "login", 11).unwrap();
        let alice = store.remembered("alice").unwrap().unwrap();
        assert_eq!(alice.services, BTreeMap::from([("sshd".into(), 10), ("login".into(), 11)]));
        assert_eq!((alice.also_in.join(""), alice.hash.as_deref(), alice.verified_at), ("cn=y".into(), Some("h1"), 10));
        assert!(!format!("{alice:?}").contains("h1"));
        assert_eq!(store.count_offline_try("alice").unwrap(), 1);
        assert_eq!(store.count_offline_try("alice").unwrap(), 2);
        store.clear_offline_tries("alice").unwrap();
        assert_eq!(store.remembered("alice").unwrap().unwrap().failures, 0);
        // Another person of that name inherits nothing.
        store.remember_password("alice", &key("2"), "h2", 12).unwrap();
        assert_eq!(store.remembered("alice").unwrap().unwrap().hash.as_deref(), Some("h1"));
        store.remember_admission("alice", &key("2"), &[], "login", 12).unwrap();
        let other = store.remembered("alice").unwrap().unwrap();
        assert_eq!((other.hash, other.services.len()), (None, 1));
        store.forget_offline("alice").unwrap();
        assert_eq!(store.remembered("alice").unwrap(), None);
    }
}
