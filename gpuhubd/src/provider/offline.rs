//! Passwords of people whose directory does not answer: compared with what it said yes to some time ago. Only where
//! the configuration wants that (`offline_passwords`).

use super::Authenticated;
use super::hash::Hashes;
use crate::model::{Denied, Method, Person, PersonKey, Reason};
use crate::store::{Remembered, Store, StoreError, unix_now};
use gpuhub_common::secret::Secret;
use std::time::Duration;

/// Over the broker's store.
#[derive(Debug, Clone)]
pub struct Offline {
    store: Store,
    hashes: Hashes,
}

impl Offline {
    /// With nobody at work yet.
    pub fn new(store: Store) -> Self {
        Self { store, hashes: Hashes::default() }
    }

    /// Her directory has just verified this password, and she was let in.
    pub async fn remember(&self, name: String, key: PersonKey, password: Secret) {
        if let Some(hash) = self.hashes.hash(password).await {
            // If the store does not take it, she is not let in offline.
            let _ = self.store.remember_password(&name, &key, &hash, unix_now());
        }
    }

    /// Compares a password with the last one that was right. After `tries` wrong ones, or when that was longer ago
    /// than `max_age`, only her directory can say. It takes as long for who has none.
    pub async fn verify(
        &self,
        person: Person,
        last: Option<&Remembered>,
        password: &Secret,
        max_age: Duration,
        tries: u32,
    ) -> Result<Authenticated, Denied> {
        let away =
            |what: &str| Err(Denied::because(Reason::BackendUnavailable, format!("{what}, and its directory is away")));
        let name = person.name.as_str();
        let fresh = last.filter(|last| is_fresh(last.verified_at, max_age) && last.key == person.key);
        let Some(hash) = fresh.and_then(|last| last.hash.clone()) else {
            self.hashes.decoy(password).await;
            return away("no password of this name was verified here lately");
        };
        let internal = |e: StoreError| Denied::because(Reason::Internal, format!("store: {e}"));
        if self.store.count_offline_try(name).map_err(internal)? > tries {
            self.hashes.decoy(password).await;
            return away("too many wrong passwords were tried");
        }
        if !self.hashes.matches(password, hash).await? {
            return Err(Denied::because(Reason::WrongPassword, "its directory is away"));
        }
        self.store.clear_offline_tries(name).map_err(internal)?;
        Ok(Authenticated::verified(person, Method::CachedPassword))
    }
}

/// Whether something that was so at a time (seconds since 1970) still counts. A clock that went back makes nothing
/// fresher than it is.
pub fn is_fresh(at: i64, max_age: Duration) -> bool {
    let age = unix_now() - at;
    age >= -60 && age < i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX)
}
