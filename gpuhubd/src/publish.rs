//! Store → snapshot. The snapshot is derived and its content is never read back: what changed in
//! the store is changed in the published file, and a whole new file is made from the store at the
//! start and when the room for changes comes to an end.
//!
//! A whole file of a large directory takes a while. It is made by a thread of its own, from one
//! state of the store, and meanwhile changes go on to the old file. Those names are noted, and
//! what is so of them by then goes into the new file before it is seen: what was once published is
//! never taken back.

use crate::audit::{Audit, Event, Outcome};
use crate::store::{Changed, Store};
use gpuhub_common::snapshot::{
    ChangeError, Changes, EncodeError, Encoded, Encoder, PUSH_EVERY_MS, Prepared, Publisher, Room, VALIDITY_MS, now_ms,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Programs that may be given a provisional entry: login daemons, which ask for a name before
/// PAM does. A courtesy to useradd and apt, not a defence (docs/threats.md).
const LOGIN_PROGRAMS: &[&str] = &["sshd", "sshd-session", "sshd-auth", "login", "su"];

/// From so many changes at once on, a whole file is the shorter way, and takes less memory.
const MANY: usize = 10_000;

/// What the snapshot says of itself.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Everybody is in it, from the start: who is not, does not exist.
    pub complete: bool,
    /// Names that are not in it may get a provisional entry in a login daemon.
    pub provisional: bool,
    /// Providers whose groups have lists of members of their own.
    pub listing: Vec<String>,
}

/// Asks the publishing task; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publishing {
    requests: mpsc::Sender<oneshot::Sender<bool>>,
    settled: Arc<AtomicBool>,
    complete: Arc<AtomicBool>,
}

impl Publishing {
    /// Whether everybody is in the store now, as far as the providers can say. If not, readers know it at
    /// once; if so, as soon as a whole file says it.
    pub async fn vouch(&self, complete: bool) {
        if self.complete.swap(complete, Ordering::SeqCst) != complete {
            self.publish().await;
        }
    }

    /// From now on the store has everybody whom the configuration declares. Until then no file
    /// says of anybody that he does not exist.
    pub async fn settle(&self) -> bool {
        self.settled.store(true, Ordering::SeqCst);
        self.publish().await
    }

    /// Publishes what the store has now; `true` once readers can see it. Requests that come
    /// while others are worked on share the next.
    pub async fn publish(&self) -> bool {
        let (done, wait) = oneshot::channel();
        self.requests.send(done).await.is_ok() && wait.await.unwrap_or(false)
    }
}

/// Starts the task. In the file kept from before people are found, however long the first whole
/// one takes. It vouches for no absence: the store or the configuration may have changed since.
pub fn start(store: Store, path: PathBuf, view: View, audit: Audit) -> Publishing {
    let (requests, queue) = mpsc::channel(256);
    let publisher = Publisher::open(&path);
    publisher.push_valid_until(0);
    let settled = Arc::new(AtomicBool::new(false));
    let complete = Arc::new(AtomicBool::new(view.complete));
    let whole = Whole { store, path, view, audit, settled: Arc::clone(&settled), complete: Arc::clone(&complete) };
    let task = Task { whole, publisher, rewriting: None, waiting: Vec::new(), failed: false };
    tokio::spawn(task.run(queue));
    Publishing { requests, settled, complete }
}

struct Task {
    whole: Whole,
    publisher: Publisher,
    rewriting: Option<Rewriting>,
    /// Whom only the whole file that is being made can satisfy.
    waiting: Vec<oneshot::Sender<bool>>,
    /// After a fault nobody knows what the file lacks: no change goes into it, until a whole one is there.
    failed: bool,
}

/// A whole file that is being made.
struct Rewriting {
    done: oneshot::Receiver<Result<Prepared, String>>,
    /// Entries that changed since it was begun.
    since: BTreeSet<Changed>,
    /// The one before could not take up what had changed meanwhile, so now nothing is published
    /// until this one is.
    quiet: bool,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<oneshot::Sender<bool>>) {
        self.rewrite(false);
        let mut push = tokio::time::interval(Duration::from_millis(PUSH_EVERY_MS));
        loop {
            tokio::select! {
                request = queue.recv() => {
                    let Some(first) = request else { return };
                    let mut asking = vec![first];
                    while let Ok(more) = queue.try_recv() {
                        asking.push(more);
                    }
                    self.publish(asking);
                }
                prepared = finished(&mut self.rewriting) => self.put_in_place(prepared),
                _ = push.tick() => {
                    if self.failed {
                        self.rewrite(true);
                    }
                    self.vouch();
                }
            }
        }
    }

    /// Pushes the file's validity forward; but not that of one that lacks something, from before or since a
    /// fault, and one that says of too many that they do not exist is not believed from now on.
    fn vouch(&self) {
        match self.publisher.current() {
            Some(file) if file.complete() && !self.whole.complete() => self.publisher.push_valid_until(0),
            Some(file) if file.is_of_this_run() && !self.failed => {
                self.publisher.push_valid_until(now_ms() + VALIDITY_MS);
            }
            _ => {}
        }
    }

    fn publish(&mut self, asking: Vec<oneshot::Sender<bool>>) {
        // SQLite and fsync(2) take their time; the other tasks move to another thread meanwhile.
        if tokio::task::block_in_place(|| self.change()) {
            let is_old = self.publisher.current().is_none_or(|p| p.is_tight() || p.complete() != self.whole.complete());
            // Before anybody is told that it is published.
            if is_old {
                self.vouch();
            }
            asking.into_iter().for_each(|a| _ = a.send(true));
            if is_old {
                self.rewrite(false);
            }
        } else {
            self.waiting.extend(asking);
            self.rewrite(false);
        }
    }

    /// Changes the file that is published now; false if only a whole new one can say it.
    fn change(&mut self) -> bool {
        if self.failed || self.rewriting.as_ref().is_some_and(|r| r.quiet) {
            return false;
        }
        let mut names = BTreeSet::new();
        let changes = match self.whole.store.count_changes() {
            Ok(n) if n > MANY => return false,
            Ok(_) => self.whole.changes(&mut names),
            Err(e) => Err(e.to_string()),
        };
        if let Some(rewriting) = &mut self.rewriting {
            rewriting.since.extend(names);
        }
        let changed = changes.and_then(|changes| match self.publisher.change(&changes) {
            Ok(left_out) => Ok(Some(left_out)),
            Err(ChangeError::Full) => Ok(None),
            Err(e) => Err(e.to_string()),
        });
        match changed {
            Ok(Some(left_out)) => {
                left_out.iter().for_each(|e| self.whole.refused(e));
                true
            }
            Ok(None) => false,
            Err(detail) => {
                self.fail(detail);
                false
            }
        }
    }

    /// Begins a whole file, unless one is being made.
    fn rewrite(&mut self, quiet: bool) {
        if self.rewriting.is_some() {
            return;
        }
        let (send, done) = oneshot::channel();
        let whole = self.whole.clone();
        // Not a thread of the runtime's: the broker's end does not wait for it.
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            let _ = send.send(whole.prepare());
            give_memory_back();
        });
        match thread {
            Ok(_) => self.rewriting = Some(Rewriting { done, since: BTreeSet::new(), quiet }),
            Err(e) => self.fail(e.to_string()),
        }
    }

    fn put_in_place(&mut self, prepared: Result<Prepared, String>) {
        let Some(Rewriting { mut since, quiet, .. }) = self.rewriting.take() else { return };
        let replaced = prepared.and_then(|mut new| {
            tokio::task::block_in_place(|| {
                self.whole.store.sync().map_err(|e| e.to_string())?;
                // After a quiet time there is nothing published that this one lacks.
                let missing = if quiet { None } else { Some(self.whole.changes(&mut since)?) };
                match missing.map(|changes| new.change(&changes)) {
                    None => {}
                    Some(Ok(left_out)) => left_out.iter().for_each(|e| self.whole.refused(e)),
                    Some(Err(ChangeError::Full)) => return Ok(false),
                    Some(Err(e)) => return Err(e.to_string()),
                }
                self.publisher.replace(new).map(|()| true).map_err(|e| e.to_string())
            })
        });
        match replaced {
            Ok(true) => {
                self.failed = false;
                self.vouch();
                let waiting = std::mem::take(&mut self.waiting);
                // What it says of those who are not in it may have ceased to be so while it was made.
                if !waiting.is_empty()
                    || self.publisher.current().is_some_and(|p| p.complete() != self.whole.complete())
                {
                    self.publish(waiting);
                }
            }
            Ok(false) => self.rewrite(true),
            Err(detail) => self.fail(detail),
        }
    }

    /// Tells the administrator, and those who wait; a later whole file makes up for it.
    fn fail(&mut self, detail: String) {
        self.failed = true;
        std::mem::take(&mut self.waiting).into_iter().for_each(|w| _ = w.send(false));
        self.whole.audit.log(Event {
            result: Outcome::Error,
            reason: "snapshot-not-written",
            detail: Some(detail),
            ..Event::ok("publish")
        });
    }
}

/// Waits for the whole file that is being made; for ever, if none is.
async fn finished(rewriting: &mut Option<Rewriting>) -> Result<Prepared, String> {
    match rewriting {
        Some(r) => (&mut r.done).await.unwrap_or_else(|_| Err("the thread that makes the snapshot has ended".into())),
        None => std::future::pending().await,
    }
}

/// What a whole file is made of.
#[derive(Clone)]
struct Whole {
    store: Store,
    path: PathBuf,
    view: View,
    audit: Audit,
    settled: Arc<AtomicBool>,
    complete: Arc<AtomicBool>,
}

impl Whole {
    fn changes(&self, names: &mut BTreeSet<Changed>) -> Result<Changes, String> {
        self.store.changes(names, &self.view.listing).map_err(|e| e.to_string())
    }

    /// Whether it may say who does not exist.
    fn complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst) && self.settled.load(Ordering::SeqCst)
    }

    fn prepare(&self) -> Result<Prepared, String> {
        let Encoded { bytes, left_out } = self.encode()?;
        left_out.iter().for_each(|e| self.refused(e));
        Prepared::write(Path::new(&self.path), &bytes, now_ms() + VALIDITY_MS).map_err(|e| e.to_string())
    }

    fn encode(&self) -> Result<Encoded, String> {
        let programs = if self.view.provisional { LOGIN_PROGRAMS } else { &[] };
        let programs: Vec<String> = programs.iter().map(|p| (*p).to_owned()).collect();
        self.store
            .everything(&self.view.listing, |generation, all| {
                let mut encoder = Encoder::new(generation, self.complete(), &programs).map_err(|e| e.to_string())?;
                // One entry that cannot be written (the store was vetted; this is the second lock
                // on that door) must not keep all others from being seen.
                let mut failed = None;
                all.users(|user, hidden| {
                    let put = encoder.user(&user);
                    // Of one who was refused there is nothing to hide.
                    if hidden && put.is_ok() {
                        encoder.hide_user();
                    }
                    failed = failed.take().or(self.only_refused(put));
                })
                .map_err(|e| e.to_string())?;
                all.groups(|group, hidden| {
                    let put = encoder.group(&group);
                    if hidden && put.is_ok() {
                        encoder.hide_group();
                    }
                    failed = failed.take().or(self.only_refused(put));
                })
                .map_err(|e| e.to_string())?;
                if let Some(e) = failed {
                    return Err(e.to_string());
                }
                encoder.finish(Room::ForChanges).map_err(|e| e.to_string())
            })
            .map_err(|e| e.to_string())?
    }

    fn refused(&self, e: &EncodeError) {
        let _ = self.only_refused(Err(e.clone()));
    }

    /// Audits the refusal of one entry; any other error comes back.
    fn only_refused(&self, result: Result<(), EncodeError>) -> Option<EncodeError> {
        use EncodeError::{BadGroup, BadUser, DoubleGroup, DoubleUser};
        match result.err()? {
            BadUser(name) | DoubleUser(name) | BadGroup(name) | DoubleGroup(name) => {
                self.audit.log(Event::entry_refused("store", &name, "not-publishable"));
                None
            }
            other => Some(other),
        }
    }
}

/// A large directory went through the allocator, and will not soon again.
#[allow(unsafe_code)] // malloc_trim(3), which no crate offers
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer and may be called by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Audit as AuditConfig;
    use crate::model::PersonKey;
    use crate::store::KnownPerson;
    use gpuhub_common::entry::Passwd;
    use gpuhub_common::local::LocalAccounts;
    use gpuhub_common::snapshot::{Lookup, Mapping, Out};
    use std::os::unix::fs::MetadataExt;

    struct Place {
        dir: PathBuf,
        store: Store,
        publishing: Publishing,
    }

    impl Place {
        /// With a store of `people` users.
        fn new(name: &str, people: u32) -> Self {
            let dir = std::env::temp_dir().join(format!("gpuhub-publish-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir(&dir).unwrap();
            let store = Store::open(&dir.join("store.db")).unwrap();
            (0..people).for_each(|n| put(&store, n, "first"));
            let publishing = Self::start(&dir, &store, View::default());
            Self { dir, store, publishing }
        }

        fn start(dir: &Path, store: &Store, view: View) -> Publishing {
            let audit = Audit::start("/nonexistent/log", AuditConfig::default().queue, "test").unwrap();
            start(store.clone(), dir.join("snapshot"), view, audit)
        }

        fn mapping(&self) -> Mapping {
            Mapping::open_with(&self.dir.join("snapshot"), || Ok(LocalAccounts::from_texts("", "", ""))).unwrap()
        }

        fn inode(&self) -> u64 {
            std::fs::metadata(self.dir.join("snapshot")).unwrap().ino()
        }

        fn gecos(&self, n: u32) -> Option<String> {
            let mapping = self.mapping();
            let mut memory = [std::mem::MaybeUninit::uninit(); 1024];
            let mut out = Out::new(&mut memory);
            match mapping.user_by_name(name(n).as_bytes(), &mut out) {
                Lookup::Found(Ok(e)) => Some(String::from_utf8_lossy(e.fields(out.bytes())[1]).into_owned()),
                Lookup::Absent => None,
                other => panic!("{other:?}"),
            }
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    fn name(n: u32) -> String {
        format!("user{n}")
    }

    fn put(store: &Store, n: u32, gecos: &str) {
        let (name, uid) = (name(n), 100_000 + n);
        let home = format!("/home/{name}");
        let known = KnownPerson {
            provider: "corp".into(),
            key: PersonKey { issuer: "corp".into(), subject: name.clone() },
            passwd: Passwd { name, uid, gid: uid, gecos: gecos.into(), home, shell: "/bin/sh".into() },
            fetched_at: 1,
            gone: false,
        };
        store.put_person(&known, &[]).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_change_changes_the_file_and_does_not_replace_it() {
        let place = Place::new("one", 20);
        assert!(place.publishing.publish().await);
        let inode = place.inode();
        put(&place.store, 7, "second");
        put(&place.store, 20, "new");
        assert!(place.publishing.publish().await);
        assert_eq!((place.gecos(7).as_deref(), place.gecos(20).as_deref()), (Some("second"), Some("new")));
        place.store.mark_gone("user7").unwrap();
        assert!(place.publishing.publish().await);
        assert_eq!(place.gecos(7), None);
        assert_eq!(place.inode(), inode);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_file_vouches_for_an_absence_before_everybody_is_in_the_store() {
        let place = Place::new("settled", 20);
        assert!(place.publishing.settle().await);
        let kept = place.mapping();
        assert!(kept.view().is_fresh(now_ms()));
        // Another broker over the same state: a configuration may have come with it.
        let publishing = Place::start(&place.dir, &place.store, View { complete: true, ..View::default() });
        assert!(!kept.view().is_fresh(now_ms()), "the file from before");
        assert_eq!(place.gecos(7).as_deref(), Some("first"), "though in it people are found");
        assert!(publishing.publish().await);
        let vouches = || {
            let mapping = place.mapping();
            mapping.view().complete() && mapping.view().is_fresh(now_ms())
        };
        assert!(!vouches());
        put(&place.store, 20, "declared");
        assert!(publishing.settle().await);
        let start = std::time::Instant::now();
        while !vouches() {
            assert!(start.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(place.gecos(20).as_deref(), Some("declared"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_published_stays_so_while_whole_files_come() {
        let place = Place::new("whole", 300);
        assert!(place.publishing.publish().await);
        let mut files = BTreeSet::from([place.inode()]);
        // More than there is room for, so that whole files are made in between.
        for n in 300..1500 {
            put(&place.store, n, "new");
            put(&place.store, n % 300, &n.to_string());
            assert!(place.publishing.publish().await);
            assert_eq!(place.gecos(n).as_deref(), Some("new"));
            assert_eq!(place.gecos(n % 300), Some(n.to_string()));
            let earlier = n - (n % 97).min(n - 300);
            assert_eq!(place.gecos(earlier).as_deref(), Some("new"), "{earlier} at {n}");
            files.insert(place.inode());
        }
        assert!((2..100).contains(&files.len()), "{} files", files.len());
        assert_eq!(
            std::fs::read_dir(&place.dir).unwrap().filter(|e| e.as_ref().unwrap().file_name() == "snapshot").count(),
            1
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_changes_at_once_are_one_new_file() {
        let place = Place::new("many", 5);
        assert!(place.publishing.publish().await);
        let inode = place.inode();
        for n in 5..2000 {
            put(&place.store, n, "new");
        }
        assert!(place.publishing.publish().await);
        for n in (5..2000).step_by(131) {
            assert_eq!(place.gecos(n).as_deref(), Some("new"));
        }
        assert_ne!(place.inode(), inode);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn readers_know_at_once_that_nobody_vouches_any_more() {
        let p = Place::new("vouch", 3);
        assert!(p.publishing.settle().await);
        assert!(!p.mapping().view().complete());
        p.publishing.vouch(true).await;
        let until = |complete: bool| {
            let start = std::time::Instant::now();
            while p.mapping().view().complete() != complete || !p.mapping().view().is_fresh(now_ms()) {
                assert!(start.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        until(true);
        let before = p.mapping();
        p.publishing.vouch(false).await;
        assert!(!before.view().is_fresh(now_ms()), "whoever has the file open");
        until(false);
        // And however often it changes.
        for _ in 0..5 {
            p.publishing.vouch(true).await;
            p.publishing.vouch(false).await;
        }
        p.publishing.vouch(true).await;
        until(true);
    }
}
