//! As whom people of a directory have proved themselves at an identity provider.

use super::{Store, StoreError};
use crate::model::PersonKey;
use rusqlite::{OptionalExtension, params};

/// Whether key and account belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// They do; from now on, if neither had another.
    Hers,
    /// She has another account there.
    Otherwise,
    /// The account there is that of somebody else.
    Anothers(PersonKey),
}

impl Store {
    /// She has proved herself as `at`, and belongs together with that, unless one of the two belongs to another.
    pub fn join(&self, key: &PersonKey, at: &PersonKey, now: i64) -> Result<Joined, StoreError> {
        // As of whoever has an account there, this is nothing that anybody is served.
        self.add(|tx| {
            let hers = "SELECT at_subject FROM joins WHERE issuer = ?1 AND subject = ?2 AND at_issuer = ?3";
            let hers: Option<String> = tx
                .prepare_cached(hers)?
                .query_row(params![key.issuer, key.subject, at.issuer], |r| r.get(0))
                .optional()?;
            match hers {
                Some(subject) if subject == at.subject => return Ok(Joined::Hers),
                Some(_) => return Ok(Joined::Otherwise),
                None => {}
            }
            let owner = "SELECT issuer, subject FROM joins WHERE at_issuer = ?1 AND at_subject = ?2";
            let owner = tx
                .prepare_cached(owner)?
                .query_row(params![at.issuer, at.subject], |r| Ok(PersonKey { issuer: r.get(0)?, subject: r.get(1)? }));
            if let Some(owner) = owner.optional()? {
                return Ok(Joined::Anothers(owner));
            }
            tx.execute(
                "INSERT INTO joins (issuer, subject, at_issuer, at_subject, since) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![key.issuer, key.subject, at.issuer, at.subject, now],
            )?;
            Ok(Joined::Hers)
        })
    }

    /// She belongs to no account any more, and to that of her next sign-in. False: there was none.
    pub fn untie(&self, key: &PersonKey) -> Result<bool, StoreError> {
        let untie = "DELETE FROM joins WHERE issuer = ?1 AND subject = ?2";
        self.with(|c| c.execute(untie, [&key.issuer, &key.subject]).map(|n| n > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(issuer: &str, subject: &str) -> PersonKey {
        PersonKey { issuer: issuer.into(), subject: subject.into() }
    }

    #[test]
    fn one_account_there_for_each_and_one_of_each() {
        let store = Store::in_memory().unwrap();
        let join = |who: &str, at: &str| store.join(&key("ldap:corp", who), &key("https://sso", at), 1).unwrap();
        for _ in 0..2 {
            assert_eq!(join("alice", "1"), Joined::Hers);
        }
        assert_eq!(join("alice", "2"), Joined::Otherwise, "the address was given to somebody else");
        assert_eq!(join("bob", "1"), Joined::Anothers(key("ldap:corp", "alice")), "both have her address");
        assert_eq!(join("bob", "2"), Joined::Hers);
        // Another provider knows nothing of this one's accounts.
        assert_eq!(store.join(&key("ldap:corp", "alice"), &key("https://new", "2"), 1).unwrap(), Joined::Hers);
        assert_eq!(join("alice", "1"), Joined::Hers);
        // Until the administrator says otherwise.
        assert!(store.untie(&key("ldap:corp", "alice")).unwrap() && !store.untie(&key("ldap:corp", "alice")).unwrap());
        assert_eq!(join("bob", "1"), Joined::Otherwise, "bob stays who he is");
        assert_eq!(join("alice", "3"), Joined::Hers);
        assert_eq!(join("alice", "1"), Joined::Otherwise);
    }

    #[test]
    fn nobody_is_served_otherwise_for_it() {
        let store = Store::in_memory().unwrap();
        let edits = store.edits();
        store.join(&key("ldap:corp", "alice"), &key("https://sso", "1"), 1).unwrap();
        assert_eq!(store.edits(), edits);
    }
}
