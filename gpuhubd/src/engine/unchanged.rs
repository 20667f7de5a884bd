//! Who was taken in a short while ago just as she is now: nothing of it need be done again.
//!
//! What becomes of somebody's entry follows from what her directory says, from the store and from the machine's own
//! accounts. While all three are as they were, so is what became of it: some fifty questions to the store, and a write
//! to its disk, that each login would otherwise ask twice. That she was seen is written later, for all at once
//! ([`Engine::write_seen`]).

use super::Engine;
use crate::model::{Denied, Person};
use crate::store::{EXPIRED, KnownPerson, StoreError, in_bulk, unix_now};
use gpuhub_common::entry::Passwd;
use gpuhub_common::local::LocalAccounts;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// People remembered at once, each some 500 bytes. When they are more, all begin anew.
const MOST: usize = 5_000;

/// Then she is taken in as if for the first time: which device nodes a local group is that of, which is not noticed by
/// their list, is looked at again.
const FOR: Duration = Duration::from_secs(600);

/// Those who were taken in, with what followed from it.
#[derive(Debug, Default)]
pub(super) struct Unchanged {
    taken: Mutex<HashMap<String, Taken>>,
    /// Who was as before, and when (in seconds since 1970), of which the store does not know yet.
    seen: Mutex<HashMap<String, i64>>,
}

#[derive(Debug)]
struct Taken {
    person: Person,
    passwd: Passwd,
    with: State,
    at: Instant,
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
    pub(super) fn as_before(&self, person: &Person, now: &State) -> Option<Passwd> {
        let name = person.name.as_str();
        let passwd = {
            let all = self.unchanged.taken();
            let taken = all.get(name).filter(|taken| taken.at.elapsed() < FOR)?;
            (taken.with == *now && taken.person.has_the_same_entry(person)).then(|| taken.passwd.clone())?
        };
        self.saw(name);
        Some(passwd)
    }

    /// Her provider has just said that she is as the store has her.
    pub(super) fn saw(&self, name: &str) {
        self.unchanged.seen().insert(name.to_owned(), unix_now());
    }

    /// When her provider last said so.
    pub(super) fn seen_at(&self, known: &KnownPerson) -> i64 {
        let seen = self.unchanged.seen().get(&known.passwd.name).copied();
        // Who is to be asked for is, whoever has been here before.
        seen.filter(|_| known.fetched_at > EXPIRED).map_or(known.fetched_at, |at| at.max(known.fetched_at))
    }

    /// She was taken in, in this state, and this became of it.
    pub(super) fn remember(&self, person: &Person, passwd: &Passwd, state: State) {
        let mut all = self.unchanged.taken();
        if all.len() >= MOST && !all.contains_key(person.name.as_str()) {
            all.clear();
        }
        let taken = Taken { person: person.clone(), passwd: passwd.clone(), with: state, at: Instant::now() };
        all.insert(person.name.as_str().to_owned(), taken);
    }

    /// Lets the store know who was seen. What is lost of it is asked for once more.
    pub(super) async fn write_seen(&self) -> Result<(), StoreError> {
        let seen = std::mem::take(&mut *self.unchanged.seen());
        if seen.is_empty() {
            return Ok(());
        }
        in_bulk(async { self.store.put_seen(&seen) }).await
    }
}

impl Unchanged {
    fn taken(&self) -> MutexGuard<'_, HashMap<String, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
