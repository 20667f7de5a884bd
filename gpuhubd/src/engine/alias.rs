//! Other names by which people log in: Active Directory's userPrincipalName, `alice@corp.example`.
//!
//! Whatever asks by such a name is answered as if it had asked by the one name of whoever has it: entries, groups,
//! rules, tries, homes and sessions know only that. PAM_USER stays what was typed (sshd ends a login in which it
//! changes), and so does what JupyterHub calls her, unless it is told to take the name of her entry
//! (`pam_normalize_username`).
//!
//! A name that somebody has as her own is no alias of anybody. An alias is a name with an `@`
//! ([`gpuhub_common::name::may_be_alias`]).

use super::Engine;
use super::directory::{LookupError, unavailable};
use super::turns::Asker;
use gpuhub_common::name::{UserName, may_be_alias};
use gpuhub_common::wire::Context;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For so long a directory's answer is good: for the steps of one login.
const FRESH: Duration = Duration::from_secs(10);
/// So many answers are kept; then all are asked for anew.
const MOST: usize = 1_000;

/// Whose the aliases were that were asked for a moment ago, by alias in lower case.
#[derive(Debug, Default)]
pub(super) struct Aliases(Mutex<HashMap<String, (UserName, Instant)>>);

impl Aliases {
    fn get(&self, alias: &str, now: Instant) -> Option<UserName> {
        let all = self.all();
        let (name, at) = all.get(&alias.to_ascii_lowercase())?;
        (now.saturating_duration_since(*at) < FRESH).then(|| name.clone())
    }

    fn put(&self, alias: &str, name: &UserName, now: Instant) {
        let mut all = self.all();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(alias.to_ascii_lowercase(), (name.clone(), now));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, (UserName, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The name of whoever logs in as `typed`, too; `None`: `typed` is no alias.
    async fn owner_of_alias(&self, typed: &str, asker: Asker) -> Result<Option<UserName>, LookupError> {
        let Some(alias) = self.alias(typed)? else { return Ok(None) };
        if let Some(name) = self.aliases.get(typed, Instant::now()) {
            return Ok(Some(name));
        }
        let absent = format!("alias {typed}");
        if asker != Asker::Login && self.absent.has(&absent, Instant::now()) {
            return Ok(None);
        }
        let Some(_turn) = self.turns.take(asker).await else { return self.last_owner(typed) };
        for provider in self.providers.iter().filter(|p| p.has_aliases()) {
            match provider.owner_of_alias(&alias, asker == Asker::Login).await {
                // Somebody of another provider has that name: an alias leads to nobody else's account.
                Ok(Some(name)) if self.is_anothers(&name, provider.name())? => {}
                Ok(Some(name)) => {
                    self.aliases.put(typed, &name, Instant::now());
                    self.store.remember_alias(typed, Some(name.as_str())).map_err(unavailable)?;
                    return Ok(Some(name));
                }
                Ok(None) => {}
                Err(_) => return self.last_owner(typed),
            }
        }
        self.store.remember_alias(typed, None).map_err(unavailable)?;
        self.absent.remember(absent, Instant::now());
        Ok(None)
    }

    /// The name by which everything else here knows whoever logs in as `typed`.
    pub async fn own_name(&self, typed: String, asker: Asker) -> Result<String, LookupError> {
        Ok(self.owner_of_alias(&typed, asker).await?.map_or(typed, String::from))
    }

    /// The context of a login, under the one name of whoever logs in. If it cannot be known whose the typed one is,
    /// it stays, and is nobody's: its directory does not answer for it either.
    pub async fn by_own_name(&self, context: Context) -> Context {
        let owner = self.owner_of_alias(&context.user, Asker::Login).await;
        renamed(context, owner.ok().flatten())
    }

    /// The same of one who has just logged in: asks nobody.
    pub fn by_known_name(&self, context: Context) -> Context {
        let owner = match self.alias(&context.user) {
            Ok(Some(alias)) => self.aliases.get(alias.as_str(), Instant::now()),
            Ok(None) | Err(_) => return context,
        };
        let owner = owner.or_else(|| self.last_owner(&context.user).ok().flatten());
        renamed(context, owner)
    }

    /// `typed`, if it may be an alias.
    fn alias(&self, typed: &str) -> Result<Option<UserName>, LookupError> {
        if !may_be_alias(typed.as_bytes()) || !self.providers.iter().any(|p| p.has_aliases()) {
            return Ok(None);
        }
        let is_taken = self.store.person(typed).map_err(unavailable)?.is_some_and(|known| !known.gone);
        Ok(UserName::new(typed).ok().filter(|_| !is_taken))
    }

    fn is_anothers(&self, name: &UserName, provider: &str) -> Result<bool, LookupError> {
        let known = self.store.person(name.as_str()).map_err(unavailable)?;
        Ok(known.is_some_and(|known| !known.gone && known.provider != provider))
    }

    /// Whose it was; if that is not known, it cannot be known.
    fn last_owner(&self, typed: &str) -> Result<Option<UserName>, LookupError> {
        let owner = self.store.owner_of_alias(typed).map_err(unavailable)?;
        owner.and_then(|name| UserName::new(&name).ok()).map(Some).ok_or(LookupError::Unavailable)
    }
}

fn renamed(context: Context, owner: Option<UserName>) -> Context {
    match owner {
        Some(name) => Context { typed: Some(context.user), user: name.into(), ..context },
        None => context,
    }
}

#[cfg(test)]
#[path = "alias_tests.rs"]
mod tests;
