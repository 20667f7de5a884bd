//! Too many failures of one name: refused for a while, whoever it is and whether she exists.

use crate::config::Access;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Names remembered at once. A stranger who tries more of them pushes out the oldest, which only
/// ends a lock early; each of those tries cost him a failed login.
const MOST: usize = 10_000;

/// The failures in memory: they are only worth something for minutes.
#[derive(Debug)]
pub struct Lockout {
    access: Access,
    failures: Mutex<HashMap<String, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    first: Instant,
    locked: Option<Instant>,
}

impl Lockout {
    /// With the limits of `access`.
    pub fn new(access: &Access) -> Self {
        Self { access: access.clone(), failures: Mutex::default() }
    }

    /// Whether `name` is refused now.
    pub fn is_locked(&self, name: &str, now: Instant) -> bool {
        let map = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(name).and_then(|f| f.locked).is_some_and(|since| now.duration_since(since) < self.access.lock.0)
    }

    /// Counts a failure. A password is counted before it is verified, and taken back if it was
    /// right: else prompts that were opened beforehand could all be answered at once.
    pub fn failed(&self, name: &str, now: Instant) {
        let mut map = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MOST && !map.contains_key(name) {
            let oldest = map.iter().min_by_key(|(_, f)| f.first).map(|(n, _)| n.clone());
            oldest.map(|n| map.remove(&n));
        }
        let fresh = Failures { count: 0, first: now, locked: None };
        let f = map.entry(name.to_owned()).or_insert(fresh);
        let over = match f.locked {
            Some(since) => now.duration_since(since) >= self.access.lock.0,
            None => now.duration_since(f.first) >= self.access.window.0,
        };
        if over {
            *f = fresh;
        }
        f.count += 1;
        if f.count >= self.access.tries && f.locked.is_none() {
            f.locked = Some(now);
        }
    }

    /// Takes back a try that was counted before it was made, and that the backend never judged.
    pub fn was_no_try(&self, name: &str) {
        let mut map = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(f) = map.get_mut(name) {
            f.count = f.count.saturating_sub(1);
            if f.count < self.access.tries {
                f.locked = None;
            }
        }
    }

    /// Forgets the failures of somebody who proved herself.
    pub fn succeeded(&self, name: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn locks_after_so_many_and_opens_again() {
        let l = Lockout::new(&Access { tries: 3, ..Access::default() });
        let t = Instant::now();
        for i in 0..3 {
            assert!(!l.is_locked("alice", t), "{i}");
            l.failed("alice", t);
        }
        assert!(l.is_locked("alice", t));
        assert!(!l.is_locked("bob", t));
        let later = t + Duration::from_secs(301);
        assert!(!l.is_locked("alice", later));
        l.failed("alice", later);
        assert!(!l.is_locked("alice", later), "counts from the start again");
    }

    #[test]
    fn slow_failures_do_not_add_up_and_success_forgets() {
        let l = Lockout::new(&Access { tries: 2, ..Access::default() });
        let t = Instant::now();
        l.failed("alice", t);
        l.failed("alice", t + Duration::from_secs(400));
        assert!(!l.is_locked("alice", t + Duration::from_secs(400)));
        l.succeeded("alice");
        l.failed("alice", t + Duration::from_secs(401));
        assert!(!l.is_locked("alice", t + Duration::from_secs(401)));
    }

    #[test]
    fn memory_is_bounded() {
        let l = Lockout::new(&Access::default());
        for i in 0..MOST + 10 {
            l.failed(&format!("n{i}"), Instant::now());
        }
        assert_eq!(l.failures.lock().unwrap().len(), MOST);
    }
}
