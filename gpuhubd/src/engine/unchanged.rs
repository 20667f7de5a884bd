//! Who was taken in a short while ago just as she is now: nothing of it need be done again.
//!
//! What becomes of somebody's entry follows from what her directory says, from the store and from the machine's own
//! accounts. While all three are as they were, so is what became of it: some fifty questions to the store, and a write
//! to its disk, that each login would otherwise ask twice.

use super::Engine;
use super::directory::internal;
use crate::model::{Denied, Person};
use crate::store::unix_now;
use gpuhub_common::entry::Passwd;
use gpuhub_common::local::LocalAccounts;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// People remembered at once, each some 500 bytes. When they are more, all begin anew.
const MOST: usize = 5_000;

/// Then she is taken in as if for the first time, in seconds: the store learns that she is still so, and which device
/// nodes a local group is that of, which is not noticed by their list, is looked at again.
const FOR_S: i64 = 60;

/// Those who were taken in, with what followed from it.
#[derive(Debug, Default)]
pub(super) struct Unchanged(Mutex<HashMap<String, Taken>>);

#[derive(Debug)]
struct Taken {
    person: Person,
    with: State,
}

/// Of what an outcome was made, besides what the directory said.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// See [`crate::store::Store::edits`].
    edits: u64,
    local: Arc<LocalAccounts>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        // The same reading: as long as one is kept here, no other can have its address.
        self.edits == other.edits && Arc::ptr_eq(&self.local, &other.local)
    }
}

impl Engine {
    /// To be asked before somebody is taken in.
    pub(super) fn state(&self) -> Result<State, Denied> {
        Ok(State { edits: self.store.edits(), local: self.local.accounts()? })
    }

    /// Her entry, if nothing has changed since she was last taken in.
    pub(super) fn as_before(&self, person: &Person, now: &State) -> Result<Option<Passwd>, Denied> {
        let name = person.name.as_str();
        if self.unchanged.all().get(name).is_none_or(|taken| taken.with != *now || taken.person != *person) {
            return Ok(None);
        }
        let ttl = self.provider(&person.provider).and_then(|p| p.cache_ttl());
        let for_s = ttl.map_or(FOR_S, |ttl| i64::try_from(ttl.as_secs() / 2).unwrap_or(FOR_S).min(FOR_S));
        let known = self.store.person(name).map_err(internal)?;
        let known =
            known.filter(|k| k.key == person.key && !k.gone && (0..for_s).contains(&(unix_now() - k.fetched_at)));
        Ok(known.map(|k| k.passwd))
    }

    /// She was taken in, in this state.
    pub(super) fn remember(&self, person: &Person, state: State) {
        let mut all = self.unchanged.all();
        if all.len() >= MOST && !all.contains_key(person.name.as_str()) {
            all.clear();
        }
        all.insert(person.name.as_str().to_owned(), Taken { person: person.clone(), with: state });
    }
}

impl Unchanged {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
