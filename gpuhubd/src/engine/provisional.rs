//! Provisional entries: sshd calls getpwnam before PAM, and somebody of an OIDC provider exists
//! nowhere on the box until her first login is over.
//!
//! The promise is kept exactly or the login is refused. It is in nobody else's view, and goes
//! away by itself.

use gpuhub_common::entry::Passwd;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a promise lives: longer than any device code (RFC 8628 leaves that to the provider;
/// 10 to 15 minutes are usual).
const LIFE: Duration = Duration::from_secs(1800);

/// Promises at once. A stranger can ask for as many names as match the pattern; beyond this the
/// oldest goes, whose login, if it is a real one, is then refused with "sign in again".
const MOST: usize = 2000;

/// The promises.
#[derive(Debug, Default)]
pub struct Provisional {
    promised: Mutex<HashMap<String, (Passwd, Instant)>>,
}

impl Provisional {
    /// What was promised for `name`, if that still holds.
    pub fn get(&self, name: &str, now: Instant) -> Option<Passwd> {
        let map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(name).filter(|(_, since)| now.duration_since(*since) < LIFE).map(|(entry, _)| entry.clone())
    }

    /// Promises, or repeats the promise that holds.
    pub fn promise(&self, entry: Passwd, now: Instant) -> Passwd {
        let mut map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, (_, since)| now.duration_since(*since) < LIFE);
        if map.len() >= MOST && !map.contains_key(&entry.name) {
            let oldest = map.iter().min_by_key(|(_, (_, since))| *since).map(|(n, _)| n.clone());
            oldest.map(|n| map.remove(&n));
        }
        let slot = map.entry(entry.name.clone()).or_insert((entry, now));
        slot.1 = now;
        slot.0.clone()
    }

    /// The login is over, one way or the other.
    pub fn forget(&self, name: &str) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Ids promised to others than `name`: not to be given to it.
    pub fn reserved(&self, name: &str) -> HashSet<u32> {
        let map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().filter(|(other, _)| *other != name).flat_map(|(_, (e, _))| [e.uid, e.gid]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, uid: u32) -> Passwd {
        Passwd { name: name.into(), uid, gid: uid, gecos: String::new(), home: "/h/x".into(), shell: "/bin/sh".into() }
    }

    #[test]
    fn a_promise_holds_until_it_is_kept_or_old() {
        let p = Provisional::default();
        let t = Instant::now();
        assert_eq!(p.promise(entry("dave", 7000), t).uid, 7000);
        assert_eq!(p.promise(entry("dave", 9999), t).uid, 7000, "the first promise counts");
        assert_eq!(p.reserved("erin"), HashSet::from([7000]));
        assert!(p.reserved("dave").is_empty());
        assert!(p.get("dave", t + LIFE).is_none());
        p.forget("dave");
        assert!(p.get("dave", t).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let p = Provisional::default();
        for i in 0..MOST + 10 {
            p.promise(entry(&format!("n{i}"), 7000), Instant::now());
        }
        assert_eq!(p.promised.lock().unwrap().len(), MOST);
    }
}
