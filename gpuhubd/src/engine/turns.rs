//! Whose turn it is to ask a directory.
//!
//! What the store cannot answer costs a question to a directory, and anybody can make up names:
//! fifty processes in a loop. So only a few such questions are on their way at once, of one uid
//! only a part of them, and the uids take turns; and all of them begin no faster than this machine
//! can answer them beside other work. Who would have to wait for too long is told "cannot be known
//! now" while his client still listens.
//!
//! Logins do not stand in this line. They are few (`server` counts them), and whatever is asked
//! here, a directory and this machine's processors have hardly more to do than to answer them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Questions on their way at once, and those of one uid. As many names as the LDAP provider puts into
/// one search, so that a flood costs the directory little more than one who asks.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 48;
/// Questions a second for each processor that this process may use, and how many may begin at once
/// before that counts. All who take part in an answer (who asks, the broker, a directory on this
/// machine) need some 0.2 ms of a processor for it: a flood has less than half of the machine, and
/// whoever logs in has the rest.
const A_SECOND: u32 = 2_000;
const AT_ONCE: u32 = 100;
/// Those that have to wait begin together, so often: what is asked at one time is asked in one search.
const TOGETHER_MS: u64 = 10;
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
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Line>>);

impl Default for Turns {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        Self::with(Duration::from_secs(1) / (A_SECOND * processors))
    }
}

/// May ask, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    waited: bool,
    /// The place in the line that it gives back, if it needed one.
    place: Option<(Turns, u32)>,
}

#[derive(Debug)]
struct Line {
    opened: Instant,
    asking: usize,
    uids: HashMap<u32, Share>,
    /// The uids of which somebody waits, the next one first.
    rota: VecDeque<u32>,
    /// Between two questions; and when those that have begun would all be answered, one after the other.
    apart: Duration,
    all_answered: Option<Instant>,
}

/// What one uid has of it.
#[derive(Debug, Default)]
struct Share {
    asking: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

impl Turns {
    fn with(apart: Duration) -> Self {
        Self(Arc::new(Mutex::new(Line {
            opened: Instant::now(),
            asking: 0,
            uids: HashMap::new(),
            rota: VecDeque::new(),
            apart,
            all_answered: None,
        })))
    }

    /// Waits until `asker` may ask; none: that would take too long.
    pub(super) async fn take(&self, asker: Asker) -> Option<Turn> {
        let Asker::Anybody(uid) = asker else { return Some(Turn { waited: false, place: None }) };
        let end = Instant::now() + PATIENCE;
        let waiting = {
            let mut line = self.line();
            if line.begin(uid) { None } else { Some(line.wait(uid)?) }
        };
        let mut turn = match waiting {
            None => Turn { waited: false, place: Some((self.clone(), uid)) },
            Some(waiting) => timeout_at(end, waiting).await.ok()?.ok()?,
        };
        let start = self.line().start(Instant::now(), end)?;
        if let Some(start) = start {
            sleep_until(start).await;
            turn.waited = true;
        }
        Some(turn)
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
    /// When the next question may begin, if not now; none: not before `end`.
    fn start(&mut self, now: Instant, end: Instant) -> Option<Option<Instant>> {
        let all_answered = self.all_answered.map_or(now, |then| then.max(now));
        let start = all_answered.checked_sub(self.apart * AT_ONCE).filter(|start| *start > now);
        let start = start.map(|start| together(self.opened, start));
        if start.is_some_and(|start| start > end) {
            return None;
        }
        self.all_answered = Some(all_answered + self.apart);
        Some(start)
    }

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

/// The first time from `start` on at which those who have waited begin.
fn together(opened: Instant, start: Instant) -> Instant {
    let ms = u64::try_from(start.duration_since(opened).as_millis()).unwrap_or(u64::MAX);
    opened + Duration::from_millis((ms / TOGETHER_MS + 1) * TOGETHER_MS)
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
        let turns = Turns::with(Duration::ZERO);
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
        let turns = Turns::with(Duration::ZERO);
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
        let turns = Turns::with(Duration::ZERO);
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
        let turns = Turns::with(Duration::ZERO);
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
        let turns = Turns::with(Duration::ZERO);
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

    #[tokio::test(start_paused = true)]
    async fn questions_begin_no_faster_than_the_machine_can_answer() {
        let turns = Turns::with(Duration::from_millis(1));
        let start = Instant::now();
        for n in 0..u64::from(AT_ONCE) + 501 {
            let turn = turns.take(Asker::Anybody(1000)).await.unwrap();
            assert!(!turn.waited() || n > u64::from(AT_ONCE), "{n}");
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(500) && took <= Duration::from_millis(500 + TOGETHER_MS), "{took:?}");
        assert!(turns.take(Asker::Login).await.is_some());
        assert_eq!(start.elapsed(), took, "a login stands in no line");
        sleep_until(Instant::now() + Duration::from_secs(10)).await;
        begin(&turns, 1000, MOST_OF_ONE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_would_come_too_late() {
        let turns = Turns::with(PATIENCE);
        let burst = begin(&turns, 0, MOST_OF_ONE).await;
        let other = begin(&turns, 1, MOST - MOST_OF_ONE).await;
        turns.line().all_answered = Some(Instant::now() + PATIENCE * (AT_ONCE + 2));
        let start = Instant::now();
        drop(other);
        assert!(turns.take(Asker::Anybody(2)).await.is_none());
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(turns.line().asking, burst.len(), "its place is free again");
    }
}
