//! The current snapshot of a process: found, replaced and given back while other threads read.
//!
//! # A lookup
//!
//! A fresh mapping is asked and that is all: no system call, no lock, no allocation. If it is not
//! fresh, or there is none, one thread opens the path (the others wait for it, briefly), and the
//! question is asked once more. An absence counts only if the mapping was still fresh *after* the
//! search. Where opening did not help, it is tried again only after [`RETRY_MS`]: a dead broker
//! must not cost an open(2) a lookup.
//!
//! # How an old mapping is given back
//!
//! A reader *pins*: it adds one to a counter, then loads the pointer to the current mapping, reads,
//! and subtracts one. A replacing thread first exchanges the pointer, then *retires* the old
//! mapping: it may go once every counter has been seen at zero, each at any moment after the
//! exchange. For if a reader got the old pointer, its load came before the exchange and its
//! addition before that (all four are sequentially consistent), so its counter is not zero until
//! it is done; and whoever pins later gets the new pointer. There are 64 counters, a cache line each,
//! chosen by the address of the thread's stack, so that threads do not share a line and a counter
//! is often zero even where many threads read without pause.
//!
//! A counter that never comes to zero (a thread was ended inside a lookup) would keep every
//! mapping for ever. So no more than `MAX_RETIRED` wait: then the oldest is abandoned
//! (`Mapping::abandon`), which costs addresses but no memory, and a reader that still is in it
//! finds nothing there, sees that it is not fresh, and asks again.
//!
//! # fork(2)
//!
//! The child has one thread, and counters and lock as they were among many. A handler
//! (pthread_atfork(3)) sets them back in the child: of those who were reading or replacing,
//! nobody is there. A process made by
//! clone(2) behind libc's back runs no handlers; there old mappings are abandoned as above, and if
//! the lock was held, the mapping that it has goes on answering but is not replaced.
#![allow(unsafe_code)] // the pointer to the current mapping, and pthread_atfork(3)

use super::found::{GroupEntry, Lookup, Out, UserEntry};
use super::map::{Key, MapError, Mapping, VettedIds};
use super::now_ms;
use crate::entry::Refusal;
use crate::local::LocalAccounts;
use std::io;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// After an open(2) that gave nothing fresher, so long until the next.
pub const RETRY_MS: u64 = 100;
/// So many old mappings may wait for their readers: at a hundred replacements a second, those of
/// the last half second.
const MAX_RETIRED: usize = 64;
/// So long a thread waits for another one that opens the path.
const MAX_WAIT: Duration = Duration::from_millis(50);
/// So often at most a lookup begins anew because the file was replaced under it.
const MAX_ROUNDS: u32 = 4;
/// Counters; a retired mapping has a bit for each.
const SHARDS: usize = u64::BITS as usize;

/// What the current snapshot answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T> {
    /// Here it is, vetted.
    Found(T),
    /// It does not exist: a complete and fresh snapshot does not have it.
    Absent,
    /// It is none of ours: a name or id that is local or never given, or an entry that the
    /// vetting refused. Nobody else is asked.
    Refused,
    /// It is there and does not fit into the buffer.
    TooSmall,
    /// Nothing can be said: ask the broker.
    Unknown,
}

/// A process's way to the snapshot at one path.
#[derive(Debug)]
pub struct Reader {
    path: &'static str,
    local: fn() -> io::Result<LocalAccounts>,
    current: AtomicPtr<Mapping>,
    /// Held while the path is opened, and while the retired ones are looked through. Only tried.
    lock: AtomicBool,
    /// Time of the next open(2) after one that did not help.
    retry_at: AtomicU64,
    /// Time of the last look through the retired ones; 0: there are none.
    tidied_at: AtomicU64,
    /// A ring, written only under `lock`. Atomics, so that it can be read after a fork in the
    /// middle of a change.
    retired: [Retired; MAX_RETIRED],
    next_retired: AtomicUsize,
    /// How many forks lie between the first process and this one.
    forks: AtomicU32,
    shards: [Shard; SHARDS],
}

/// Readers of some threads, in a cache line of its own (two, as prefetchers pair them).
#[derive(Debug)]
#[repr(align(128))]
struct Shard(AtomicU32);

/// An old mapping, if any, and a bit for each counter that was not yet seen at zero since.
#[derive(Debug)]
struct Retired {
    mapping: AtomicPtr<Mapping>,
    unseen: AtomicU64,
}

impl Reader {
    /// A reader of the file at `path`. To be kept in a static, and [registered](Reader::register).
    pub const fn new(path: &'static str) -> Self {
        Self::with_local(path, LocalAccounts::try_read)
    }

    /// [`Reader::new`] with other local accounts than this machine's, for tests.
    pub const fn with_local(path: &'static str, local: fn() -> io::Result<LocalAccounts>) -> Self {
        Self {
            path,
            local,
            current: AtomicPtr::new(null_mut()),
            lock: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            tidied_at: AtomicU64::new(0),
            retired: [const { Retired { mapping: AtomicPtr::new(null_mut()), unseen: AtomicU64::new(0) } };
                MAX_RETIRED],
            next_retired: AtomicUsize::new(0),
            forks: AtomicU32::new(0),
            shards: [const { Shard(AtomicU32::new(0)) }; SHARDS],
        }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        Path::new(self.path)
    }

    /// The user of this name.
    pub fn user_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Answer<UserEntry> {
        self.find(Key::UserName(name), |m| m.user_by_name(name, out))
    }

    /// The user of this id.
    pub fn user_by_uid(&self, uid: u32, out: &mut Out<'_>) -> Answer<UserEntry> {
        self.find(Key::Uid(uid), |m| m.user_by_uid(uid, out))
    }

    /// The group of this name.
    pub fn group_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Answer<GroupEntry> {
        self.find(Key::GroupName(name), |m| m.group_by_name(name, out))
    }

    /// The group of this id.
    pub fn group_by_gid(&self, gid: u32, out: &mut Out<'_>) -> Answer<GroupEntry> {
        self.find(Key::Gid(gid), |m| m.group_by_gid(gid, out))
    }

    /// The user's supplementary group ids into `take`, as [`Mapping::group_ids_of`] does. If the
    /// file was replaced in the middle of it, `take` is called once more and begins anew.
    pub fn group_ids_of(&self, name: &[u8], mut take: impl FnMut(VettedIds<'_>)) -> Answer<()> {
        self.find(Key::UserName(name), |m| m.group_ids_of(name, &mut take))
    }

    /// Whether a program of this name asks before a login; none without a snapshot.
    pub fn is_login_program(&self, program: &[u8]) -> Option<bool> {
        self.pin().mapping().map(|m| m.view().is_login_program(program))
    }

    /// Whether the snapshot names any login program; none without a snapshot.
    pub fn has_login_programs(&self) -> Option<bool> {
        self.pin().mapping().map(|m| m.view().has_login_programs())
    }

    /// Whether there is a snapshot, fresh or not: a broker was here once.
    pub fn has_snapshot(&self) -> bool {
        self.pin().mapping().is_some()
    }

    fn find<T>(&self, key: Key<'_>, mut search: impl FnMut(&Mapping) -> Lookup<Result<T, Refusal>>) -> Answer<T> {
        let now = now_ms();
        if self.tidied_at.load(Ordering::Relaxed) != 0 {
            self.tidy(now);
        }
        if let Some(answer) = self.ask(key, now, true, &mut search) {
            // What was tried in vain is over: the next time that opening may help, it is tried.
            if !matches!(answer, Answer::Refused) && self.retry_at.load(Ordering::Relaxed) != 0 {
                self.retry_at.store(0, Ordering::Relaxed);
            }
            return answer;
        }
        // Once is enough, but for a thread that did not run while the file was replaced many times.
        for _ in 0..MAX_ROUNDS {
            let renewed = self.refresh(now);
            match self.ask(key, now, renewed, &mut search) {
                Some(answer) => return answer,
                None if renewed => {}
                None => return Answer::Unknown,
            }
        }
        self.ask(key, now, false, &mut search).unwrap_or(Answer::Unknown)
    }

    /// Asks the current mapping; none if there is none, if it does not know, or if it is not
    /// fresh and `only_fresh` will do.
    fn ask<T>(
        &self,
        key: Key<'_>,
        now: u64,
        only_fresh: bool,
        search: &mut impl FnMut(&Mapping) -> Lookup<Result<T, Refusal>>,
    ) -> Option<Answer<T>> {
        let pin = self.pin();
        let mapping = pin.mapping()?;
        if !mapping.may_have(key) {
            return Some(Answer::Refused);
        }
        if only_fresh && !mapping.view().is_fresh(now) {
            return None;
        }
        match search(mapping) {
            Lookup::Found(Ok(found)) => Some(Answer::Found(found)),
            // It may be only half of what it was.
            Lookup::Found(Err(_)) if mapping.is_abandoned() => None,
            Lookup::Found(Err(_)) => Some(Answer::Refused),
            Lookup::TooSmall => Some(Answer::TooSmall),
            Lookup::Absent if !mapping.view().is_fresh(now) => None,
            Lookup::Absent if mapping.view().complete() => Some(Answer::Absent),
            Lookup::Absent => Some(Answer::Unknown),
            Lookup::Corrupt => None,
        }
    }

    fn pin(&self) -> Pin<'_> {
        let here = 0u8;
        // Threads have their stacks some pages apart; the product's upper bits depend on all of them.
        let place = ((&raw const here as usize as u64) >> 13).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // There are 64 shards and 6 bits: `first` is never taken.
        let shard = self.shards.get((place >> 58) as usize).unwrap_or(self.first_shard());
        let forks = self.forks.load(Ordering::Relaxed);
        shard.0.fetch_add(1, Ordering::SeqCst);
        Pin { reader: self, shard, forks, mapping: self.current.load(Ordering::SeqCst) }
    }

    fn first_shard(&self) -> &Shard {
        let [first, ..] = &self.shards;
        first
    }

    /// Opens the path, unless that was tried just now; waits for a thread that is at it. False if
    /// asking again is of no use.
    fn refresh(&self, now: u64) -> bool {
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        // The second condition: the clock was set back.
        if now < retry_at && retry_at - now <= RETRY_MS {
            return false;
        }
        let Some(guard) = self.try_lock() else { return self.wait(now) };
        let known = {
            let pin = self.pin();
            match pin.mapping() {
                // Somebody else was faster.
                Some(m) if m.view().is_fresh(now) => return true,
                other => other.map(Mapping::file),
            }
        };
        let (renewed, next) = match Mapping::open_unless(self.path(), known, self.local) {
            Ok(Some(new)) => {
                // One that is superseded already was opened in the moment before the next had its
                // place: that is there now.
                let helps = new.view().is_superseded() || new.view().is_fresh(now_ms());
                self.replace(Box::into_raw(Box::new(new)), &guard);
                (true, if helps { 0 } else { now + RETRY_MS })
            }
            Ok(None) | Err(MapError::Gone(_)) => (false, now + RETRY_MS),
            // The broker has moved on to something that we cannot read: what we have is not its
            // word any more.
            Err(MapError::Bad(_)) => {
                self.replace(null_mut(), &guard);
                (false, now + RETRY_MS)
            }
        };
        self.retry_at.store(next, Ordering::Relaxed);
        renewed
    }

    fn wait(&self, now: u64) -> bool {
        let until = Instant::now() + MAX_WAIT;
        while self.lock.load(Ordering::Acquire) {
            if Instant::now() >= until {
                self.retry_at.store(now + RETRY_MS, Ordering::Relaxed);
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    fn replace(&self, new: *mut Mapping, guard: &Guard<'_>) {
        let old = self.current.swap(new, Ordering::SeqCst);
        if old.is_null() {
            return;
        }
        let place = self.next_retired.fetch_add(1, Ordering::Relaxed) % MAX_RETIRED;
        let Some(slot) = self.retired.get(place) else { return };
        // SAFETY: null, or retired a whole round ago and not freed since, nor will it be: it
        // leaves the ring here. Readers may still be in it.
        if let Some(oldest) = unsafe { slot.mapping.swap(null_mut(), Ordering::SeqCst).as_ref() } {
            oldest.abandon();
        }
        slot.unseen.store(u64::MAX, Ordering::SeqCst);
        slot.mapping.store(old, Ordering::SeqCst);
        self.sweep(guard);
    }

    /// Gives back what nobody reads any more; at most once a tick of the clock.
    fn tidy(&self, now: u64) {
        if self.tidied_at.load(Ordering::Relaxed) == now {
            return;
        }
        if let Some(guard) = self.try_lock() {
            self.sweep(&guard);
        }
    }

    fn sweep(&self, _guard: &Guard<'_>) {
        let retired = || self.retired.iter().filter(|r| !r.mapping.load(Ordering::SeqCst).is_null());
        for (n, shard) in self.shards.iter().enumerate() {
            // A reader is done in less than a microsecond, if it runs at all.
            let idle = (0..32).any(|_| {
                std::hint::spin_loop();
                shard.0.load(Ordering::SeqCst) == 0
            });
            if idle {
                retired().for_each(|r| _ = r.unseen.fetch_and(!(1 << n), Ordering::SeqCst));
            }
        }
        for r in retired().filter(|r| r.unseen.load(Ordering::SeqCst) == 0) {
            let mapping = r.mapping.swap(null_mut(), Ordering::SeqCst);
            // SAFETY: from Box::into_raw in `refresh`, exchanged for another since, in one slot
            // only, and every counter was seen at zero after: nobody has it (see the module).
            drop(unsafe { Box::from_raw(mapping) });
        }
        let left = retired().next().is_some();
        self.tidied_at.store(if left { now_ms().max(1) } else { 0 }, Ordering::Relaxed);
    }

    fn try_lock(&self) -> Option<Guard<'_>> {
        self.lock.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| Guard(self))
    }
}

/// Somebody reads: the mapping stays.
struct Pin<'r> {
    reader: &'r Reader,
    shard: &'r Shard,
    forks: u32,
    mapping: *mut Mapping,
}

impl Pin<'_> {
    fn mapping(&self) -> Option<&Mapping> {
        // SAFETY: null, or from Box::into_raw; not given back while our counter is not zero.
        unsafe { self.mapping.as_ref() }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        // A signal handler may have forked in the middle of this lookup: then the child's counter
        // was set back, and must not come to less than nothing.
        if self.reader.forks.load(Ordering::Relaxed) == self.forks {
            self.shard.0.fetch_sub(1, Ordering::Release);
        }
    }
}

/// The lock is held.
struct Guard<'r>(&'r Reader);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.lock.store(false, Ordering::Release);
    }
}

/// The readers whose state a fork sets back. One in the NSS library; a few in tests.
static REGISTERED: [AtomicPtr<Reader>; 8] = [const { AtomicPtr::new(null_mut()) }; 8];

impl Reader {
    /// Has the reader set back in every child of a fork. Call it once, before the first lookup;
    /// from a library that can be unloaded (dlclose(3)) never.
    pub fn register(&'static self) {
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        let me = std::ptr::from_ref(self).cast_mut();
        let free = |slot: &&AtomicPtr<Reader>| {
            slot.compare_exchange(null_mut(), me, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if REGISTERED.iter().find(free).is_some() && !INSTALLED.swap(true, Ordering::SeqCst) {
            // SAFETY: the handler is a function of this object, which stays (see above); it only
            // stores to atomics, which a child may do (pthread_atfork(3)).
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        }
    }

    fn after_fork(&self) {
        self.forks.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            shard.0.store(0, Ordering::SeqCst);
        }
        self.lock.store(false, Ordering::SeqCst);
        // If its holder was in the middle of it, what it had in hand is lost to the child: at
        // most one mapping. The retired ones are looked through soon.
        self.tidied_at.store(1, Ordering::SeqCst);
    }
}

extern "C" fn in_child() {
    for slot in &REGISTERED {
        // SAFETY: null, or a `&'static Reader` from `register`.
        if let Some(reader) = unsafe { slot.load(Ordering::SeqCst).as_ref() } {
            reader.after_fork();
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
