//! Whose turn it is to ask a directory.
//!
//! What the store cannot answer costs a question to a directory, and anybody can make up names:
//! fifty processes in a loop. So only a few such questions are on their way at once, of one uid
//! only a part of them, and the uids take turns. Who would have to wait for too long is told
//! "cannot be known now" while his client still listens.
//!
//! Logins do not stand in this line. They are few (`server` counts them), and whatever is asked
//! here, a directory has hardly more to do than to answer them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Questions on their way at once, and those of one uid. A directory on this machine is busy with
/// fewer; one that is 20 ms away answers 400 such questions a second.
const MOST: usize = 8;
const MOST_OF_ONE: usize = 6;
/// So many of one uid may wait.
const MOST_WAITING: usize = 200;
/// So long; a client listens for 300 ms (`nss_gpuhub`), and the directory must answer, too.
const PATIENCE: Duration = Duration::from_millis(200);

/// Who looks somebody up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A login daemon, before a login: a name that an identity provider may turn out to know gets a
    /// provisional entry. It does not wait here.
    Login,
    /// Any process of this uid.
    Anybody(u32),
    /// The broker itself, one thing after the other.
    Broker,
}

/// The line. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Line>>);

/// May ask, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    waited: bool,
    /// The place in the line that it gives back, if it needed one.
    place: Option<(Turns, u32)>,
}

#[derive(Debug, Default)]
struct Line {
    asking: usize,
    uids: HashMap<u32, Share>,
    /// The uids of which somebody waits, the next one first.
    rota: VecDeque<u32>,
}

/// What one uid has of it.
#[derive(Debug, Default)]
struct Share {
    asking: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

impl Turns {
    /// Waits until `asker` may ask; none: that would take too long.
    pub(super) async fn take(&self, asker: Asker) -> Option<Turn> {
        let Asker::Anybody(uid) = asker else { return Some(Turn { waited: false, place: None }) };
        let waiting = {
            let mut line = self.line();
            if line.begin(uid) {
                return Some(Turn { waited: false, place: Some((self.clone(), uid)) });
            }
            line.wait(uid)?
        };
        timeout(PATIENCE, waiting).await.ok()?.ok()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether it took a while to come.
    pub(super) fn waited(&self) -> bool {
        self.waited
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((turns, uid)) = self.place.take() else { return };
        let next = turns.line().end(uid);
        if let Some((uid, tell)) = next {
            // If he has just given up, his turn comes back and is dropped, and so goes to the next.
            drop(tell.send(Turn { waited: true, place: Some((turns, uid)) }));
        }
    }
}

impl Line {
    /// Takes a place for `uid`, if it may have one now.
    fn begin(&mut self, uid: u32) -> bool {
        let own = self.uids.entry(uid).or_default();
        let free = self.asking < MOST && own.asking < MOST_OF_ONE;
        if free {
            own.asking += 1;
            self.asking += 1;
        }
        free
    }

    /// Where `uid`, who has to wait, is told of its turn.
    fn wait(&mut self, uid: u32) -> Option<oneshot::Receiver<Turn>> {
        let own = self.uids.entry(uid).or_default();
        if own.waiting.len() >= MOST_WAITING {
            own.waiting.retain(|w| !w.is_closed());
            if own.waiting.len() >= MOST_WAITING {
                return None;
            }
        }
        let (tell, told) = oneshot::channel();
        if own.waiting.is_empty() {
            self.rota.push_back(uid);
        }
        own.waiting.push_back(tell);
        Some(told)
    }

    /// Gives the place of `uid` to whoever is next, if anybody is.
    fn end(&mut self, uid: u32) -> Option<(u32, oneshot::Sender<Turn>)> {
        self.asking -= 1;
        if let Some(own) = self.uids.get_mut(&uid) {
            own.asking -= 1;
        }
        let next = (0..self.rota.len()).find_map(|_| {
            let uid = self.rota.pop_front()?;
            let own = self.uids.get_mut(&uid)?;
            let next = if own.asking < MOST_OF_ONE { own.next() } else { None };
            if !own.waiting.is_empty() {
                self.rota.push_back(uid);
            }
            next.map(|tell| (uid, tell))
        });
        if let Some((next, _)) = next {
            _ = self.begin(next);
        }
        if self.uids.get(&uid).is_some_and(|own| own.asking == 0 && own.waiting.is_empty()) {
            self.uids.remove(&uid);
        }
        next
    }
}

impl Share {
    /// The first who still waits.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(tell) = self.waiting.pop_front() {
            if !tell.is_closed() {
                return Some(tell);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;
    use tokio::task::JoinHandle;

    async fn begin(turns: &Turns, uid: u32, n: usize) -> Vec<Turn> {
        let mut all = Vec::new();
        for _ in 0..n {
            let turn = turns.take(Asker::Anybody(uid)).await.unwrap();
            assert!(!turn.waited());
            all.push(turn);
        }
        all
    }

    /// Somebody who stands in the line by now.
    async fn waiting(turns: &Turns, uid: u32) -> JoinHandle<Option<Turn>> {
        let turns = turns.clone();
        let task = tokio::spawn(async move { turns.take(Asker::Anybody(uid)).await });
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        task
    }

    #[tokio::test]
    async fn one_uid_leaves_room_for_another() {
        let turns = Turns::default();
        let flood = begin(&turns, 1000, MOST_OF_ONE).await;
        let more = waiting(&turns, 1000).await;
        let other = begin(&turns, 1001, MOST - MOST_OF_ONE).await;
        drop(other);
        assert!(!more.is_finished(), "that place is not for the same one again");
        drop(flood);
        assert!(more.await.unwrap().unwrap().waited());
        assert!(turns.line().uids.is_empty(), "nobody is remembered: {:?}", turns.line());
    }

    #[tokio::test]
    async fn uids_take_turns() {
        let turns = Turns::default();
        let mut all = begin(&turns, 1000, MOST_OF_ONE).await;
        all.extend(begin(&turns, 1001, MOST - MOST_OF_ONE).await);
        let flood = [waiting(&turns, 1000).await, waiting(&turns, 1000).await, waiting(&turns, 1000).await];
        let late = waiting(&turns, 1002).await;
        all.remove(0);
        all.remove(0);
        let late = late.await.unwrap().unwrap();
        assert_eq!(flood.iter().filter(|f| f.is_finished()).count(), 1, "the late one did not wait for all of them");
        drop(late);
        drop(all);
        for one in flood {
            assert!(one.await.unwrap().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_and_a_turn_is_not_lost_on_who_has_gone() {
        let turns = Turns::default();
        let all = begin(&turns, 0, MOST_OF_ONE).await;
        let start = tokio::time::Instant::now();
        assert!(turns.take(Asker::Anybody(0)).await.is_none());
        assert_eq!(start.elapsed(), PATIENCE);
        let gone = waiting(&turns, 0).await;
        let next = waiting(&turns, 0).await;
        gone.abort();
        assert!(gone.await.is_err());
        drop(all);
        assert!(next.await.unwrap().is_some());
        assert_eq!(turns.line().asking, 0);
    }

    #[tokio::test]
    async fn a_turn_that_meets_who_just_gave_up_goes_on() {
        let turns = Turns::default();
        let mut all = begin(&turns, 0, MOST_OF_ONE).await;
        let first = turns.clone();
        let mut first = Box::pin(async move { first.take(Asker::Anybody(0)).await });
        let pending = std::future::poll_fn(|c| Poll::Ready(first.as_mut().poll(c).is_pending())).await;
        assert!(pending);
        let next = waiting(&turns, 0).await;
        all.pop();
        // The turn is on its way to the first, who never takes it.
        drop(first);
        assert!(next.await.unwrap().is_some());
        drop(all);
        assert_eq!(turns.line().asking, 0);
    }

    #[tokio::test]
    async fn the_line_has_an_end_and_others_do_not_stand_in_it() {
        let turns = Turns::default();
        let _all = begin(&turns, 0, MOST_OF_ONE).await;
        let mut line = Vec::new();
        for _ in 0..MOST_WAITING {
            line.push(waiting(&turns, 0).await);
        }
        assert!(turns.take(Asker::Anybody(0)).await.is_none(), "at once");
        assert!(turns.take(Asker::Login).await.is_some_and(|t| !t.waited()));
        assert!(turns.take(Asker::Broker).await.is_some());
        line.into_iter().for_each(|one| one.abort());
    }
}
