//! The circuit breaker: a broker that does not answer costs one try a second and process.

use std::sync::atomic::{AtomicU64, Ordering};

/// So long nobody is asked after a failure.
const PAUSE_MS: u64 = 1000;

/// Open after a failure, until its time is over or an answer came. Time is passed in.
#[derive(Debug)]
pub(crate) struct Breaker(AtomicU64);

impl Breaker {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether asking is of no use now.
    pub(crate) fn is_open(&self, now_ms: u64) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        // The second condition: the clock was set back.
        now_ms < until && until - now_ms <= PAUSE_MS
    }

    /// The broker could not be asked.
    pub(crate) fn open(&self, now_ms: u64) {
        self.0.store(now_ms.saturating_add(PAUSE_MS), Ordering::Relaxed);
    }

    /// It answered.
    pub(crate) fn close(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_a_while() {
        let b = Breaker::new();
        assert!(!b.is_open(5_000));
        b.open(5_000);
        assert!(b.is_open(5_000) && b.is_open(5_999));
        assert!(!b.is_open(6_000), "its time is over");
        assert!(!b.is_open(3_000), "the clock was set back");
        b.close();
        assert!(!b.is_open(5_500));
    }
}
