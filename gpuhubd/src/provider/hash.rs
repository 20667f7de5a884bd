//! Passwords that are kept here, as argon2id hashes in PHC form.

use crate::model::{Denied, Reason};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use gpuhub_common::secret::Secret;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Verifications at once: each takes 19 MiB and a core for some 20 ms, and a stranger may ask.
const AT_ONCE: usize = 2;

/// Of a password that nobody knows, for nobody: verifying it takes what verifying somebody's takes. To
/// make one at each start would be a third of the start.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$eOmqqh7AJlv+VPNoXllXlA$Eq/VAmKFPnizyFq5NH4NHZFy/IU0U9x2q5IzGaVByWE";

/// An argon2id hash in PHC form, with the crate's defaults (19 MiB, 2 passes: OWASP's first choice).
pub fn hash_password(password: &Secret) -> Result<String, String> {
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).map_err(|e| e.to_string())?;
    let salt = SaltString::encode_b64(&salt).map_err(|e| e.to_string())?;
    Argon2::default().hash_password(password.expose(), &salt).map(|h| h.to_string()).map_err(|e| e.to_string())
}

/// Whether a password is the one that was hashed.
pub(super) fn fits(password: &Secret, hash: &str) -> bool {
    let hash = PasswordHash::new(hash).ok();
    hash.is_some_and(|hash| Argon2::default().verify_password(password.expose(), &hash).is_ok())
}

/// Whoever hashes and compares; a clone takes turns with the others.
#[derive(Debug, Clone)]
pub struct Hashes {
    workers: Arc<Semaphore>,
}

impl Default for Hashes {
    fn default() -> Self {
        Self { workers: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Hashes {
    /// Off the async threads, and only so many at once.
    pub(super) async fn matches(&self, password: &Secret, hash: String) -> Result<bool, Denied> {
        let password = Secret::new(password.expose()).ok_or(Reason::WrongPassword)?;
        let _turn = self.workers.acquire().await.map_err(|_| Reason::Internal)?;
        tokio::task::spawn_blocking(move || {
            PasswordHash::new(&hash).map_err(|e| Denied::because(Reason::Internal, format!("hash: {e}")))?;
            Ok(fits(&password, &hash))
        })
        .await
        .map_err(|_| Reason::Internal)?
    }

    /// What [`Hashes::matches`] does, for nobody.
    pub(super) async fn decoy(&self, password: &Secret) {
        let _ = self.matches(password, DECOY.into()).await;
    }

    /// A new hash; `None` if there cannot be one.
    pub(super) async fn hash(&self, password: Secret) -> Option<String> {
        let _turn = self.workers.acquire().await.ok()?;
        tokio::task::spawn_blocking(move || hash_password(&password).ok()).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoy_costs_what_a_hash_of_today_costs() {
        let cost = |text: &str| {
            let hash = PasswordHash::new(text).unwrap();
            let (name, salt) = (hash.algorithm.to_string(), hash.salt.unwrap().as_str().len());
            (name, hash.version, hash.params.to_string(), salt, hash.hash.unwrap().len())
        };
        assert_eq!(cost(DECOY), cost(&hash_password(&Secret::new(b"x").unwrap()).unwrap()));
    }
}
