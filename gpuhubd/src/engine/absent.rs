//! Names and ids that nobody had a moment ago: not asked for again at once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An absence is believed for one to two of these.
const GENERATION: Duration = Duration::from_secs(1);
/// So many are remembered of each generation; then the next one begins early.
const MOST: usize = 5_000;

/// Two generations, so that forgetting costs nothing, however many names are made up.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    /// When the young ones began.
    since: Option<Instant>,
    young: HashSet<String>,
    old: HashSet<String>,
}

impl Absent {
    /// Whether this was absent a moment ago.
    pub(super) fn has(&self, key: &str, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.age(now);
        all.young.contains(key) || all.old.contains(key)
    }

    /// Nobody has it now.
    pub(super) fn remember(&self, key: String, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.age(now);
        if all.young.len() >= MOST {
            all.turn(now);
        }
        all.young.insert(key);
    }
}

impl Generations {
    fn age(&mut self, now: Instant) {
        let age = self.since.map(|since| now.saturating_duration_since(since));
        if age.is_none_or(|age| age >= GENERATION) {
            self.turn(now);
        }
        if age.is_none_or(|age| age >= GENERATION * 2) {
            self.old.clear();
        }
    }

    fn turn(&mut self, now: Instant) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believed_for_a_moment() {
        let absent = Absent::default();
        let now = Instant::now();
        let later = |ms| now + Duration::from_millis(ms);
        assert!(!absent.has("x", now));
        absent.remember("x".into(), now);
        assert!(absent.has("x", later(999)));
        absent.remember("y".into(), later(1_500));
        assert!(absent.has("x", later(1_500)), "of the generation before");
        assert!(!absent.has("x", later(2_600)));
        assert!(absent.has("y", later(2_600)));
        assert!(!absent.has("y", later(60_000)), "nobody asked in between");
    }

    #[test]
    fn a_flood_of_names_is_not_a_flood_of_memory() {
        let absent = Absent::default();
        let now = Instant::now();
        (0..3 * MOST).for_each(|n| absent.remember(n.to_string(), now));
        assert!(absent.has(&(3 * MOST - 1).to_string(), now));
        assert!(!absent.has("0", now));
        let all = absent.0.lock().unwrap();
        assert!(all.young.len() + all.old.len() <= 2 * MOST);
    }
}
