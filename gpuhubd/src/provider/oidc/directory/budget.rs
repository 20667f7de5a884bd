//! How often a directory is asked for names that may be made up, by any process here, or by whoever tries names at the
//! door. Who was found there before is asked for without a limit: real people are few.

use crate::model::Unavailable;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So many at once, and one more after each such time. Logins have a purse of their own.
const AT_ONCE: u32 = 100;
const ONE_MORE: Duration = Duration::from_millis(50);

/// Names remembered; when they are more, all begin anew.
const MOST: usize = 50_000;

/// What may still be asked.
#[derive(Debug)]
pub struct Budget(Mutex<Purses>);

#[derive(Debug)]
struct Purses {
    of_logins: Purse,
    of_others: Purse,
    found: HashSet<String>,
}

/// When it will be full again.
#[derive(Debug)]
struct Purse(Instant);

impl Default for Budget {
    fn default() -> Self {
        let full = || Purse(Instant::now());
        Self(Mutex::new(Purses { of_logins: full(), of_others: full(), found: HashSet::new() }))
    }
}

impl Budget {
    /// Before a question.
    pub fn spend(&self, name: &str, login: bool) -> Result<(), Unavailable> {
        let mut purses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if purses.found.contains(name) {
            return Ok(());
        }
        let purse = if login { &mut purses.of_logins } else { &mut purses.of_others };
        if purse.spend(Instant::now()) { Ok(()) } else { Err(Unavailable("directory: too many new names".into())) }
    }

    /// Somebody is called so.
    pub fn found(&self, name: &str) {
        let mut purses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if purses.found.len() >= MOST {
            purses.found.clear();
        }
        purses.found.insert(name.to_owned());
    }
}

impl Purse {
    fn spend(&mut self, now: Instant) -> bool {
        let full = self.0.max(now) + ONE_MORE;
        let is_enough = full <= now + ONE_MORE * AT_ONCE;
        if is_enough {
            self.0 = full;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn made_up_names_run_out_and_real_ones_do_not() {
        let budget = Budget::default();
        budget.found("alice");
        let asked = |login| (0..1000).filter(|n| budget.spend(&format!("x{n}"), login).is_ok()).count();
        assert_eq!((asked(false), asked(false)), (100, 0));
        assert!(budget.spend("alice", false).is_ok(), "somebody real");
        assert_eq!(asked(true), 100, "who stands at the door has nothing to do with the crowd inside");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(asked(false), 20);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(asked(false), 100);
    }
}
