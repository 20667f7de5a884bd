//! When people signed in at their OpenID providers, and the passcodes that they have set since.

use super::{Store, StoreError};
use crate::model::PersonKey;
use rusqlite::{OptionalExtension, Row, params};

/// What there is of somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct Passcode {
    /// Who she was.
    pub key: PersonKey,
    /// When she last signed in at her provider, and was let in; in seconds since 1970, as all times here.
    pub signed_in_at: i64,
    /// When she was last asked whether she wants a passcode.
    pub offered_at: i64,
    /// Her passcode, if she has one.
    pub hash: Option<String>,
    /// When it was set.
    pub set_at: i64,
    /// How it was set.
    pub set_by: Option<SetBy>,
    /// She has been told of it when she signed in.
    pub told: bool,
    /// Wrong ones in a row.
    pub failures: u32,
}

/// How a passcode was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// At the end of a sign-in, in the same conversation.
    SignIn,
    /// With the old one.
    OldPasscode,
    /// By a process of hers, shortly after she had signed in.
    Command,
}

impl SetBy {
    const ALL: [SetBy; 3] = [SetBy::SignIn, SetBy::OldPasscode, SetBy::Command];

    /// The word in the store and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            SetBy::SignIn => "sign-in",
            SetBy::OldPasscode => "old-passcode",
            SetBy::Command => "command",
        }
    }
}

/// As of what is remembered for when a directory is away: without the hash.
impl std::fmt::Debug for Passcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, signed_in_at, set_at, failures, .. } = self;
        f.debug_struct("Passcode")
            .field("key", key)
            .field("signed_in_at", signed_in_at)
            .field("set_at", set_at)
            .field("failures", failures)
            .finish_non_exhaustive()
    }
}

fn passcode(r: &Row<'_>) -> Result<Passcode, StoreError> {
    let by: String = r.get(6)?;
    Ok(Passcode {
        key: PersonKey { issuer: r.get(0)?, subject: r.get(1)? },
        signed_in_at: r.get(2)?,
        offered_at: r.get(3)?,
        hash: r.get(4)?,
        set_at: r.get(5)?,
        set_by: SetBy::ALL.into_iter().find(|s| s.as_str() == by),
        told: r.get(7)?,
        failures: r.get(8)?,
    })
}

const ROW: &str = "SELECT issuer, subject, signed_in_at, offered_at, hash, set_at, set_by, told, failures
                   FROM passcodes WHERE name = ?1 AND issuer = ?2 AND subject = ?3";

impl Store {
    /// What there is of her; nothing of somebody else who had her name.
    pub fn passcode(&self, name: &str, key: &PersonKey) -> Result<Option<Passcode>, StoreError> {
        self.with(|c| c.prepare_cached(ROW)?.query_row(params![name, key.issuer, key.subject], passcode).optional())
    }

    /// She has signed in at her provider now, and was let in: her passcode may be tried again. What was known of
    /// somebody else of her name goes.
    pub fn signed_in(&self, name: &str, key: &PersonKey, now: i64) -> Result<(), StoreError> {
        // When somebody was last let in is no edit (`Store::edits`), as it is none when she was last seen.
        self.transaction_of(
            |tx| {
                tx.execute(
                    "DELETE FROM passcodes WHERE name = ?1 AND (issuer <> ?2 OR subject <> ?3)",
                    params![name, key.issuer, key.subject],
                )?;
                tx.execute(
                    "INSERT INTO passcodes (name, issuer, subject, signed_in_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET signed_in_at = excluded.signed_in_at, failures = 0",
                    params![name, key.issuer, key.subject, now],
                )
                .map(|_| ())
            },
            |()| false,
        )
    }

    /// Her passcode is this from now on. False: she never signed in here.
    pub fn set_passcode(
        &self,
        name: &str,
        key: &PersonKey,
        hash: &str,
        by: SetBy,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.with(|c| {
            c.execute(
                "UPDATE passcodes SET hash = ?4, set_at = ?5, set_by = ?6, told = ?7, failures = 0
                 WHERE name = ?1 AND issuer = ?2 AND subject = ?3",
                params![name, key.issuer, key.subject, hash, now, by.as_str(), by == SetBy::SignIn],
            )
            .map(|n| n == 1)
        })
    }

    /// Nobody's passcode is hers any more. False: there was none.
    pub fn clear_passcode(&self, name: &str) -> Result<bool, StoreError> {
        let clear = "UPDATE passcodes SET hash = NULL, failures = 0 WHERE name = ?1 AND hash IS NOT NULL";
        self.with(|c| c.execute(clear, [name]).map(|n| n == 1))
    }

    /// Something is about to be compared with hers: it is counted first. How many there were with it.
    pub fn count_passcode_try(&self, name: &str) -> Result<u32, StoreError> {
        self.with(|c| {
            c.query_row(
                "UPDATE passcodes SET failures = failures + 1 WHERE name = ?1 RETURNING failures",
                [name],
                |r| r.get(0),
            )
        })
    }

    /// The one that was counted was right.
    pub fn clear_passcode_tries(&self, name: &str) -> Result<(), StoreError> {
        self.with(|c| c.execute("UPDATE passcodes SET failures = 0 WHERE name = ?1", [name]).map(|_| ()))
    }

    /// She was asked now whether she wants one.
    pub fn offered_passcode(&self, name: &str, now: i64) -> Result<(), StoreError> {
        self.with(|c| c.execute("UPDATE passcodes SET offered_at = ?2 WHERE name = ?1", params![name, now]).map(|_| ()))
    }

    /// She was told now how her passcode was set.
    pub fn told_of_passcode(&self, name: &str) -> Result<(), StoreError> {
        self.with(|c| c.execute("UPDATE passcodes SET told = 1 WHERE name = ?1", [name]).map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> PersonKey {
        PersonKey { issuer: "https://sso".into(), subject: subject.into() }
    }

    #[test]
    fn a_passcode_is_of_who_signed_in_and_of_nobody_who_gets_her_name() {
        let store = Store::in_memory().unwrap();
        assert!(!store.set_passcode("dave", &key("1"), "h", SetBy::Command, 5).unwrap(), "never signed in");
        store.signed_in("dave", &key("1"), 10).unwrap();
        assert!(!store.set_passcode("dave", &key("2"), "h", SetBy::Command, 11).unwrap(), "somebody else did");
        assert!(store.set_passcode("dave", &key("1"), "h1", SetBy::Command, 12).unwrap());
        let dave = store.passcode("dave", &key("1")).unwrap().unwrap();
        assert_eq!((dave.hash.as_deref(), dave.signed_in_at, dave.set_at), (Some("h1"), 10, 12));
        assert_eq!((dave.set_by, dave.told), (Some(SetBy::Command), false));
        assert!(!format!("{dave:?}").contains("h1"));
        assert_eq!(store.passcode("dave", &key("2")).unwrap(), None);
        // Another person of that name inherits nothing, and the first gets nothing back.
        store.signed_in("dave", &key("2"), 20).unwrap();
        assert_eq!(store.passcode("dave", &key("2")).unwrap().unwrap().hash, None);
        assert_eq!(store.passcode("dave", &key("1")).unwrap(), None);
    }

    #[test]
    fn tries_add_up_until_one_is_right_or_she_signs_in() {
        let store = Store::in_memory().unwrap();
        store.signed_in("dave", &key("1"), 10).unwrap();
        assert_eq!((1..=3).map(|_| store.count_passcode_try("dave").unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        store.clear_passcode_tries("dave").unwrap();
        assert_eq!(store.count_passcode_try("dave").unwrap(), 1);
        store.signed_in("dave", &key("1"), 11).unwrap();
        assert_eq!(store.passcode("dave", &key("1")).unwrap().unwrap().failures, 0);
        store.set_passcode("dave", &key("1"), "h", SetBy::SignIn, 12).unwrap();
        store.signed_in("dave", &key("1"), 13).unwrap();
        assert!(store.passcode("dave", &key("1")).unwrap().unwrap().hash.is_some(), "signing in again keeps it");
        assert!(store.clear_passcode("dave").unwrap() && !store.clear_passcode("dave").unwrap());
    }
}
