//! Who has just proved herself by a password, for the account phase that follows in the same process.

use super::Caller;
use crate::model::Person;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Somebody who was disabled since her directory was asked may come in for no longer than this.
const MOMENT: Duration = Duration::from_secs(1);

/// By process and name; each is used once. A key login proves nothing here, so its account phase asks the directory.
#[derive(Debug, Default)]
pub(super) struct Proven(Mutex<HashMap<(u32, String), (Instant, Person)>>);

impl Proven {
    /// `asked`: when the directory was asked for her.
    pub(super) fn remember(&self, caller: &Caller, person: &Person, asked: Instant) {
        let Some(pid) = caller.pid else { return };
        let mut all = self.all();
        all.retain(|_, (asked, _)| asked.elapsed() < MOMENT);
        all.insert((pid, person.name.as_str().to_owned()), (asked, person.clone()));
    }

    /// Her, as her directory had her a moment ago.
    pub(super) fn take(&self, caller: &Caller, name: &str) -> Option<Person> {
        let (asked, person) = self.all().remove(&(caller.pid?, name.to_owned()))?;
        (asked.elapsed() < MOMENT).then_some(person)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(u32, String), (Instant, Person)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
