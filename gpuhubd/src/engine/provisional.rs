//! Provisional entries: sshd calls getpwnam before PAM, and somebody of an OIDC provider exists
//! nowhere on the box until her first login is over.
//!
//! The promise is kept exactly or the login is refused. It is in nobody else's view, and goes
//! away by itself.

use gpuhub_common::entry::Passwd;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a promise waits for its login to begin: longer than sshd's LoginGraceTime (120 s).
const UNCLAIMED: Duration = Duration::from_secs(150);

/// How long it is kept for a login that did begin: longer than any device code (30 minutes is the
/// cap of ours).
const CLAIMED: Duration = Duration::from_secs(2400);

/// Promises at once. A stranger can ask for as many names as match the pattern; beyond this nobody
/// new is promised anything for a while. None is ever pushed out: a session may be starting on it.
const MOST: usize = 20_000;

/// The promises.
#[derive(Debug, Default)]
pub struct Provisional {
    /// The entry, and until when it holds.
    promised: Mutex<HashMap<String, (Passwd, Instant)>>,
}

impl Provisional {
    /// What was promised for `name`, if that still holds.
    pub fn get(&self, name: &str, now: Instant) -> Option<Passwd> {
        let map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(name).filter(|(_, until)| now < *until).map(|(entry, _)| entry.clone())
    }

    /// Promises, or repeats the promise that holds; `None` if there are too many.
    pub fn promise(&self, entry: Passwd, now: Instant) -> Option<Passwd> {
        let mut map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MOST {
            map.retain(|_, (_, until)| now < *until);
        }
        if map.len() >= MOST && !map.contains_key(&entry.name) {
            return None;
        }
        let slot = map.entry(entry.name.clone()).or_insert_with(|| (entry.clone(), now));
        if slot.1 <= now {
            slot.0 = entry;
        }
        slot.1 = slot.1.max(now + UNCLAIMED);
        Some(slot.0.clone())
    }

    /// A login has begun that relies on the promise. It is never withdrawn because a login failed:
    /// another connection may still rely on it.
    pub fn claim(&self, name: &str, now: Instant) {
        let mut map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, until)) = map.get_mut(name).filter(|(_, until)| now < *until) {
            *until = now + CLAIMED;
        }
    }

    /// What was promised is not what she is: from now on it is.
    pub fn correct(&self, entry: Passwd) {
        let mut map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((promised, _)) = map.get_mut(&entry.name) {
            *promised = entry;
        }
    }

    /// The promise was kept: she is in the store now.
    pub fn kept(&self, name: &str) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Ids promised to others than `name`: not to be given to it.
    pub fn reserved(&self, name: &str) -> HashSet<u32> {
        let map = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        map.iter()
            .filter(|(other, (_, until))| *other != name && now < *until)
            .flat_map(|(_, (e, _))| [e.uid, e.gid])
            .collect()
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
        let uid = |e: Option<Passwd>| e.map(|e| e.uid);
        assert_eq!(uid(p.promise(entry("dave", 7000), t)), Some(7000));
        assert_eq!(uid(p.promise(entry("dave", 9999), t)), Some(7000), "the first promise counts");
        assert_eq!(p.reserved("erin"), HashSet::from([7000]));
        assert!(p.reserved("dave").is_empty());
        assert!(p.get("dave", t + UNCLAIMED).is_none(), "nobody began");
        p.claim("dave", t);
        assert_eq!(uid(p.get("dave", t + UNCLAIMED)), Some(7000));
        assert!(p.get("dave", t + CLAIMED).is_none());
        assert_eq!(uid(p.promise(entry("dave", 8000), t + CLAIMED)), Some(8000), "a new one");
        p.kept("dave");
        assert!(p.get("dave", t).is_none());
    }

    #[test]
    fn memory_is_bounded_and_no_promise_is_pushed_out() {
        let p = Provisional::default();
        let t = Instant::now();
        for i in 0..MOST {
            assert!(p.promise(entry(&format!("n{i}"), 7000), t).is_some());
        }
        assert!(p.promise(entry("late", 7000), t).is_none());
        assert!(p.get("n0", t).is_some());
        assert!(p.promise(entry("later", 7000), t + UNCLAIMED).is_some(), "the old ones are over");
    }
}
