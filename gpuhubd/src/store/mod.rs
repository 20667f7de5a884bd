//! The only durable truth: one SQLite database. Everything else (the snapshot, caches) is derived.
//!
//! Lock order: there is one lock, the connection's; it is held for single transactions, never
//! across an await and never across the network. The snapshot is read by another connection
//! ([`Store::everything`]), which waits for nobody.

mod aliases;
mod builtin;
mod cached;
mod grants;
mod groups;
mod ids;
mod joins;
mod offline;
mod passcodes;
mod people;
mod served;
mod sessions;

pub use builtin::{BuiltinGroup, BuiltinUser};
pub use cached::{Cached, EXPIRED};
pub use grants::Granted;
pub use groups::KnownGroup;
pub use ids::{GivenId, IdKind, Source};
pub use joins::Joined;
pub use offline::Remembered;
pub use passcodes::{Passcode, SetBy};
pub use people::KnownPerson;
pub use served::{Changed, Everything};
pub use sessions::OpenSession;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A fault of the database. What it says goes to the administrator.
pub type StoreError = rusqlite::Error;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    /// See [`Store::edits`].
    edits: Arc<AtomicU64>,
    /// None: it lives in memory.
    path: Option<Arc<Path>>,
    /// There are transactions that a power cut would take back ([`in_bulk`]).
    unsynced: Arc<AtomicBool>,
    /// Providers whose people and groups no enumeration tells of.
    hidden: Arc<OnceLock<Vec<String>>>,
}

tokio::task_local! {
    static IN_BULK: ();
}

/// Runs `work`, whose transactions do not wait for the disk, each: where thousands come in at once, that
/// would take minutes. They are on disk before anything of them is published ([`Store::changes`]), or any
/// other transaction is done.
pub async fn in_bulk<F: Future>(work: F) -> F::Output {
    IN_BULK.scope((), work).await
}

/// Each entry takes the schema from its index to the next. Never edited, only appended.
const MIGRATIONS: &[&str] = &[
    include_str!("schema-1.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
    include_str!("schema-7.sql"),
    include_str!("schema-8.sql"),
    include_str!("schema-9.sql"),
];

/// All that lookups and logins ask come again and again.
const STATEMENTS: usize = 64;

impl Store {
    /// Opens or makes the database, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::prepare(Connection::open(path)?, Some(path.into()))
    }

    /// One that lives in memory, for tests and for `--check`.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    fn prepare(mut connection: Connection, path: Option<Arc<Path>>) -> Result<Self, StoreError> {
        connection.busy_timeout(Duration::from_secs(2))?;
        // WAL with FULL: an id that was given must survive a power cut, or it could be given twice.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let at: usize = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
        for (version, sql) in MIGRATIONS.iter().enumerate().skip(at) {
            let tx = connection.transaction()?;
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", version + 1)?;
            tx.commit()?;
        }
        served::track(&connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            edits: Arc::default(),
            path,
            unsynced: Arc::default(),
            hidden: Arc::default(),
        })
    }

    /// One read or single write.
    fn with<T>(&self, f: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A poisoned lock means that another task panicked between statements; SQLite rolled its
        // transaction back, so the connection is as good as before.
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let before = connection.total_changes();
        let result = f(&connection);
        self.count_edits(connection.total_changes() != before);
        result
    }

    /// One transaction that takes the write lock at its start, so that what it read still holds
    /// when it writes.
    fn transaction<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.transaction_of(f, |_| true)
    }

    /// The same of what only adds somebody or something new: no edit.
    fn add<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.transaction_of(f, |_| false)
    }

    /// The same; of what it says to have done, `is_edit` says whether it counts.
    fn transaction_of<T>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
        is_edit: impl FnOnce(&T) -> bool,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let before = connection.total_changes();
        let result = if IN_BULK.try_with(|()| ()).is_err() {
            commit(&mut connection, f)?
        } else {
            self.unsynced.store(true, Ordering::Relaxed);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let result = commit(&mut connection, f);
            connection.pragma_update(None, "synchronous", "FULL")?;
            result?
        };
        self.count_edits(connection.total_changes() != before && is_edit(&result));
        Ok(result)
    }

    /// Brings what was written in bulk to the disk. SQLite syncs the whole log with each transaction that waits.
    fn sync_in(&self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        if self.unsynced.swap(false, Ordering::Relaxed) {
            tx.execute("UPDATE meta SET generation = generation", [])?;
        }
        Ok(())
    }

    /// The same, now.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.transaction(|tx| self.sync_in(tx)).inspect_err(|_| self.unsynced.store(true, Ordering::Relaxed))
    }

    fn count_edits(&self, edited: bool) {
        if edited {
            self.edits.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts whatever was written since the start that could make somebody who is known another entry than she has:
    /// not who and what is new, nor when somebody was last seen, nor sessions.
    pub fn edits(&self) -> u64 {
        self.edits.load(Ordering::SeqCst)
    }

    /// Counts every change that a reader of the snapshot could see.
    pub fn generation(&self) -> Result<u64, StoreError> {
        self.with(generation)
    }
}

fn commit<T>(
    connection: &mut Connection,
    f: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = f(&tx)?;
    tx.commit()?;
    Ok(result)
}

fn generation(c: &Connection) -> Result<u64, StoreError> {
    c.query_row("SELECT generation FROM meta", [], |r| r.get::<_, i64>(0)).map(|g| g.unsigned_abs())
}

fn bump_generation(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute("UPDATE meta SET generation = generation + 1", []).map(|_| ())
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
