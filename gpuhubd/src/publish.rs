//! Store → snapshot. The snapshot is derived: it is made anew from the store whenever the store
//! changed, and its content is never read back.

use crate::audit::{Audit, Event, Outcome};
use crate::store::Store;
use gpuhub_common::snapshot::{
    Content, EncodeError, PUSH_EVERY_MS, Publisher, SnapshotUser, VALIDITY_MS, encode, now_ms,
};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Programs that may be given a provisional entry: login daemons, which ask for a name before
/// PAM does. A courtesy to useradd and apt, not a defence (docs/threats.md).
const LOGIN_PROGRAMS: &[&str] = &["sshd", "sshd-session", "sshd-auth", "login", "su"];

/// What the snapshot says of itself.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Everybody is in it: who is not, does not exist.
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
}

impl Publishing {
    /// Publishes what the store has now; `true` once readers can see it. Requests that come
    /// while one snapshot is written share the next.
    pub async fn publish(&self) -> bool {
        let (done, wait) = oneshot::channel();
        self.requests.send(done).await.is_ok() && wait.await.unwrap_or(false)
    }
}

/// Starts the task. The file kept from before goes on serving, however long the first snapshot
/// takes; then it is replaced, since the configuration may have changed what it says.
pub fn start(store: Store, path: PathBuf, view: View, audit: Audit) -> Publishing {
    let (requests, queue) = mpsc::channel(256);
    let publisher = Publisher::open(&path);
    publisher.push_valid_until(now_ms() + VALIDITY_MS);
    let task = Task { store, publisher, view, audit, failed: false };
    tokio::spawn(task.run(queue));
    Publishing { requests }
}

struct Task {
    store: Store,
    publisher: Publisher,
    view: View,
    audit: Audit,
    failed: bool,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<oneshot::Sender<bool>>) {
        self.publish();
        let mut push = tokio::time::interval(Duration::from_millis(PUSH_EVERY_MS));
        loop {
            tokio::select! {
                request = queue.recv() => {
                    let Some(first) = request else { return };
                    let mut waiting = vec![first];
                    while let Ok(more) = queue.try_recv() {
                        waiting.push(more);
                    }
                    let done = self.publish();
                    for w in waiting {
                        let _ = w.send(done);
                    }
                }
                _ = push.tick() => {
                    self.publisher.push_valid_until(now_ms() + VALIDITY_MS);
                    if self.failed {
                        self.publish();
                    }
                }
            }
        }
    }

    fn publish(&mut self) -> bool {
        // Encoding a large directory takes a while; the other tasks move to another thread meanwhile.
        match tokio::task::block_in_place(|| self.write()) {
            Ok(()) => {
                self.failed = false;
                true
            }
            Err(detail) => {
                self.failed = true;
                self.audit.log(Event {
                    result: Outcome::Error,
                    reason: "snapshot-not-written",
                    detail: Some(detail),
                    ..Event::ok("publish")
                });
                false
            }
        }
    }

    fn write(&mut self) -> Result<(), String> {
        let (generation, people, groups) = self.store.everything(&self.view.listing).map_err(|e| e.to_string())?;
        let users = people.into_iter().map(|(passwd, gids)| SnapshotUser { passwd, gids }).collect();
        let programs = if self.view.provisional { LOGIN_PROGRAMS } else { &[] };
        let login_programs = programs.iter().map(|p| (*p).to_owned()).collect();
        let mut content = Content { generation, complete: self.view.complete, login_programs, users, groups };
        let bytes = loop {
            let before = content.users.len() + content.groups.len();
            // One entry that cannot be written (the store was vetted; this is the second lock on
            // that door) must not keep all others from being seen.
            let name = match encode(&content) {
                Ok(bytes) => break bytes,
                Err(EncodeError::BadUser(name) | EncodeError::DoubleUser(name)) => {
                    content.users.retain(|u| u.passwd.name != name);
                    name
                }
                Err(EncodeError::BadGroup(name) | EncodeError::DoubleGroup(name)) => {
                    content.groups.retain(|g| g.name != name);
                    name
                }
                Err(e) => return Err(e.to_string()),
            };
            self.audit.log(Event::entry_refused("store", &name, "not-publishable"));
            if content.users.len() + content.groups.len() == before {
                return Err(format!("{name} keeps the snapshot from being encoded"));
            }
        };
        self.publisher.publish(&bytes, now_ms() + VALIDITY_MS).map_err(|e| e.to_string())
    }
}
