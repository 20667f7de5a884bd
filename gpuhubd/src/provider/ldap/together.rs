//! Names that many processes ask for at the same time, asked of the directory together.
//!
//! [`FLIGHTS`] searches are on their way at most; who comes while they are waits, and is taken along
//! by the next, with up to [`MOST`] names in one filter. So one name alone is asked for at once, and a
//! flood of them costs the directory (and whoever logs in meanwhile) a small fraction of a search
//! each.

use super::entry::Entry;
use crate::model::Unavailable;
use gpuhub_common::name::UserName;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// Searches at once: one travels while the server works on the other.
const FLIGHTS: usize = 2;
/// Names in a search. Names are short; servers take filters of many times this size.
pub(super) const MOST: usize = 64;

/// What was found for all names of a search.
type Found = Result<Arc<Vec<Entry>>, Unavailable>;

/// Those who wait.
#[derive(Debug)]
pub(super) struct Together {
    waiting: Mutex<VecDeque<(UserName, oneshot::Sender<Found>)>>,
    flights: Semaphore,
}

impl Default for Together {
    fn default() -> Self {
        Self { waiting: Mutex::default(), flights: Semaphore::new(FLIGHTS) }
    }
}

impl Together {
    /// The entries of `name`, perhaps with those of others. `search` asks for several names; it is
    /// called by whoever has a flight, for all whom he takes along.
    pub(super) async fn find<F>(&self, name: &UserName, search: impl FnOnce(Vec<UserName>) -> F) -> Found
    where
        F: Future<Output = Result<Vec<Entry>, Unavailable>>,
    {
        let (sender, mut mine) = oneshot::channel();
        self.lock().push_back((name.clone(), sender));
        tokio::select! {
            biased;
            found = &mut mine => return found.unwrap_or_else(lost),
            // Closed it never is.
            flight = self.flights.acquire() => {
                let (names, senders): (Vec<_>, Vec<_>) = {
                    let mut waiting = self.lock();
                    // Whoever went away meanwhile is not asked for.
                    waiting.retain(|(_, sender)| !sender.is_closed());
                    let number = waiting.len().min(MOST);
                    waiting.drain(..number).unzip()
                };
                // Perhaps another flight has just taken everybody.
                if !names.is_empty() {
                    let found = search(names).await.map(Arc::new);
                    senders.into_iter().for_each(|sender| drop(sender.send(found.clone())));
                }
                drop(flight);
            }
        }
        mine.await.unwrap_or_else(lost)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(UserName, oneshot::Sender<Found>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever asked for us went away before the answer.
fn lost(_: oneshot::error::RecvError) -> Found {
    Err(Unavailable("the search was given up".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(n: usize) -> UserName {
        UserName::new(&format!("user{n}")).unwrap()
    }

    /// Asks for `number` names at once of a server that takes 10 ms; how many were in each search.
    async fn ask(number: usize, answer: Result<Vec<Entry>, Unavailable>) -> (Vec<usize>, Vec<Found>) {
        let (together, searches) = (Arc::new(Together::default()), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..number {
            let (together, searches, answer) = (together.clone(), searches.clone(), answer.clone());
            tasks.spawn(async move {
                let search = |names: Vec<_>| async move {
                    searches.lock().unwrap().push(names.len());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    answer
                };
                together.find(&name(n), search).await
            });
        }
        let found = tasks.join_all().await;
        assert!(together.lock().is_empty());
        let searches = searches.lock().unwrap().clone();
        (searches, found)
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_asked_for_at_once_and_many_together() {
        assert_eq!(ask(1, Ok(vec![])).await.0, [1]);
        let (searches, found) = ask(200, Ok(vec![Entry::default()])).await;
        assert_eq!(searches.iter().sum::<usize>(), 200, "each once: {searches:?}");
        assert!(searches.len() <= 6 && searches.iter().all(|n| *n <= MOST), "{searches:?}");
        assert!(found.iter().all(|f| f.as_ref().unwrap().len() == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_everybody_s() {
        let (searches, found) = ask(50, Err(Unavailable("away".into()))).await;
        assert!(searches.len() < 5 && found.iter().all(Result::is_err));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_takes_nobody_along_for_good() {
        let together = Together::default();
        let never = |_| std::future::pending();
        let short = Duration::from_millis(5);
        let (a, b, c) = (name(0), name(1), name(2));
        let (one, two) = (together.find(&a, never), together.find(&b, never));
        assert!(tokio::time::timeout(short, async { tokio::join!(one, two) }).await.is_err());
        let found = together.find(&c, |names| async move {
            assert_eq!(names, [name(2)]);
            Ok(vec![])
        });
        assert!(tokio::time::timeout(short, found).await.unwrap().is_ok());
    }
}
