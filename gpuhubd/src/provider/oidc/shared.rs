//! One document of a provider, fetched once for everybody.
//!
//! However many logins want it, one fetch is under way at most; it runs in a task of its own, so
//! that a client that goes away cancels only its own waiting. No lock is held meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// While a document is at hand, no more than one further fetch in this time: a token with an
/// unknown key must not make us a flood for the provider. The first fetch does not count: keys
/// may be rotated in the very moment after it.
pub const PAUSE: Duration = Duration::from_secs(10);

/// The document, if any, and what is known of fetching it.
#[derive(Debug)]
pub struct Shared<T> {
    state: Arc<watch::Sender<State<T>>>,
}

#[derive(Debug)]
struct State<T> {
    kept: Option<(Arc<T>, Instant)>,
    fetching: bool,
    tried: Option<Instant>,
    fault: String,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        let state = State { kept: None, fetching: false, tried: None, fault: String::new() };
        Self { state: Arc::new(watch::Sender::new(state)) }
    }

    /// The document, fetched if there is none or if it is older than `max_age`. When that fails
    /// the old one serves on.
    pub async fn get<F>(&self, max_age: Duration, fetch: F) -> Result<Arc<T>, String>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        if let Some((kept, since)) = &self.state.borrow().kept {
            if since.elapsed() < max_age {
                return Ok(kept.clone());
            }
        }
        self.refresh(fetch).await;
        let state = self.state.borrow();
        state.kept.as_ref().map(|(kept, _)| kept.clone()).ok_or_else(|| state.fault.clone())
    }

    /// A document other than `than`, fetched if nobody has it yet. `None`: there is none now.
    pub async fn newer<F>(&self, than: &Arc<T>, fetch: F) -> Option<Arc<T>>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let current = || self.state.borrow().kept.as_ref().map(|(kept, _)| kept.clone());
        let is_newer = |kept: &Arc<T>| !Arc::ptr_eq(kept, than);
        if let Some(kept) = current().filter(is_newer) {
            return Some(kept);
        }
        self.refresh(fetch).await;
        current().filter(is_newer)
    }

    /// Fetches, unless somebody does already or has just done, and waits until nobody does.
    async fn refresh<F>(&self, fetch: F)
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let mine = self.state.send_if_modified(|s| {
            let lately = s.tried.is_some_and(|t| t.elapsed() < PAUSE);
            if s.fetching || (lately && s.kept.is_some()) {
                return false;
            }
            s.fetching = true;
            s.tried = s.kept.is_some().then(Instant::now);
            true
        });
        let mut seen = self.state.subscribe();
        if mine {
            let turn = Turn(self.state.clone());
            tokio::spawn(async move {
                let got = fetch.await;
                turn.0.send_modify(|s| match got {
                    Ok(document) => s.kept = Some((Arc::new(document), Instant::now())),
                    Err(fault) => s.fault = fault,
                });
                drop(turn);
            });
        }
        // Fails only when the sender is gone, and that is `self`.
        let _ = seen.wait_for(|s| !s.fetching).await;
    }
}

/// The turn of whoever fetches: given back however the fetch ends.
struct Turn<T>(Arc<watch::Sender<State<T>>>);

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        self.0.send_modify(|s| s.fetching = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const HOUR: Duration = Duration::from_secs(3600);

    /// Answers 1, 2, 3 … after a second; fails where the number is in `failing`.
    struct Source {
        count: Arc<AtomicU32>,
        failing: &'static [u32],
    }

    impl Source {
        fn new(failing: &'static [u32]) -> Self {
            Self { count: Arc::default(), failing }
        }
        fn fetch(&self) -> impl Future<Output = Result<u32, String>> + Send + 'static {
            let (count, failing) = (self.count.clone(), self.failing);
            async move {
                let n = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
                if failing.contains(&n) { Err(format!("fault {n}")) } else { Ok(n) }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_makes_one_fetch() {
        let (shared, source) = (Shared::new(), Source::new(&[]));
        let (a, b) = tokio::join!(shared.get(HOUR, source.fetch()), shared.get(HOUR, source.fetch()));
        assert_eq!((*a.unwrap(), *b.unwrap()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn revalidated_after_its_time_and_kept_when_that_fails() {
        let (shared, source) = (Shared::new(), Source::new(&[2]));
        assert_eq!(*shared.get(HOUR, source.fetch()).await.unwrap(), 1);
        tokio::time::advance(HOUR).await;
        assert_eq!(*shared.get(HOUR, source.fetch()).await.unwrap(), 1, "2 failed: the old one serves on");
        assert_eq!(*shared.get(HOUR, source.fetch()).await.unwrap(), 1, "not tried again at once");
        tokio::time::advance(PAUSE).await;
        assert_eq!(*shared.get(HOUR, source.fetch()).await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_failure_is_told_and_tried_again_at_once() {
        let (shared, source) = (Shared::new(), Source::new(&[1]));
        assert_eq!(shared.get(HOUR, source.fetch()).await.unwrap_err(), "fault 1");
        assert_eq!(*shared.get(HOUR, source.fetch()).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn newer_is_shared_and_rate_limited() {
        let (shared, source) = (Shared::new(), Source::new(&[]));
        let old = shared.get(HOUR, source.fetch()).await.unwrap();
        let (a, b) = tokio::join!(shared.newer(&old, source.fetch()), shared.newer(&old, source.fetch()));
        let second = a.unwrap();
        assert_eq!((*second, b.as_deref()), (2, Some(&2)));
        assert_eq!(shared.newer(&old, source.fetch()).await.as_deref(), Some(&2), "somebody has it already");
        assert_eq!(shared.newer(&second, source.fetch()).await, None, "fetched a moment ago");
        tokio::time::advance(PAUSE).await;
        assert_eq!(shared.newer(&second, source.fetch()).await.as_deref(), Some(&3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_cancels_nobody_else() {
        let (shared, source) = (Shared::new(), Source::new(&[]));
        let impatient = tokio::time::timeout(Duration::from_millis(10), shared.get(HOUR, source.fetch()));
        assert!(impatient.await.is_err());
        assert_eq!(*shared.get(HOUR, source.fetch()).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_panics_gives_its_turn_back() {
        let shared = Shared::<u32>::new();
        assert!(shared.get(HOUR, async { panic!("a parser") }).await.is_err());
        assert_eq!(*shared.get(HOUR, async { Ok(7) }).await.unwrap(), 7);
    }
}
