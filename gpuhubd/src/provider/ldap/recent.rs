//! What a login has read of somebody, for the password that comes in the same moment (JupyterHub has it at once; a
//! person takes longer, and then all is read again).

use super::person::Found;
use gpuhub_common::name::UserName;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Somebody who was locked or renamed since may come in for no longer than this.
const MOMENT: Duration = Duration::from_secs(1);

/// Who was read a moment ago, or is known to be nobody; each is used once.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<String, Read>>);

/// An answer of the directory.
#[derive(Debug)]
pub(super) struct Read {
    /// When it was asked.
    pub(super) at: Instant,
    /// What it said.
    pub(super) found: Option<Found>,
}

impl Recent {
    pub(super) fn put(&self, name: &UserName, read: Read) {
        let mut all = self.all();
        // What nobody came for goes with the next: there are never more than logins begin in a moment.
        all.retain(|_, read| read.is_recent());
        all.insert(name.as_str().to_owned(), read);
    }

    pub(super) fn take(&self, name: &str) -> Option<Read> {
        self.all().remove(name).filter(Read::is_recent)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < MOMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_used_once_and_only_for_a_moment() {
        let (recent, name) = (Recent::default(), UserName::new("alice").unwrap());
        let Some(long_ago) = Instant::now().checked_sub(MOMENT) else { return };
        assert!(recent.take("alice").is_none());
        recent.put(&name, Read { at: Instant::now(), found: None });
        assert!(recent.take("alice").is_some_and(|read| read.found.is_none()));
        assert!(recent.take("alice").is_none());
        recent.put(&name, Read { at: long_ago, found: None });
        assert!(recent.take("alice").is_none());
        recent.put(&name, Read { at: long_ago, found: None });
        recent.put(&UserName::new("bob").unwrap(), Read { at: Instant::now(), found: None });
        assert_eq!(recent.all().len(), 1);
    }
}
