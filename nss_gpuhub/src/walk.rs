//! Enumeration: setpwent(3) and its kin walk one snapshot from end to end.
//!
//! A walk maps the file for itself, so that nobody is left out or told twice when it is replaced
//! in between; who comes while it lasts is at its end. glibc lets one thread at a time in; who finds
//! the walk taken nevertheless is told "unavailable" rather than made to wait.

use crate::lookup::Nss;
use crate::outcome::Miss;
use gpuhub_common::client::never_started;
use gpuhub_common::entry::Refusal;
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::snapshot::{Lookup, MapError, Mapping, Out};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// A process's walk over the users or over the groups.
#[derive(Debug)]
pub(crate) struct Walk(Mutex<Option<Position>>);

#[derive(Debug)]
struct Position {
    mapping: Mapping,
    next: u32,
}

impl Walk {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Ends a walk; the next step begins another one.
    pub(crate) fn reset(&self) -> Result<(), Miss> {
        *self.lock()? = None;
        Ok(())
    }

    /// One step. `read` gets the next entry at or behind a place and `pack` puts it where it belongs;
    /// if it does not fit, the next step comes to the same entry. Refused and damaged entries are
    /// passed over.
    pub(crate) fn step<T>(
        &self,
        nss: &Nss,
        mut out: Out<'_>,
        read: impl Fn(&Mapping, &mut u32, &mut Out<'_>) -> Lookup<Result<T, Refusal>>,
        pack: impl FnOnce(T, Out<'_>) -> Result<(), Miss>,
    ) -> Result<(), Miss> {
        let mut state = self.lock()?;
        let position = match &mut *state {
            Some(position) => position,
            none => none.insert(Position { mapping: open(nss.reader.path(), nss.local)?, next: 0 }),
        };
        loop {
            match read(&position.mapping, &mut position.next, &mut out) {
                Lookup::Found(Ok(entry)) => {
                    pack(entry, out)?;
                    position.next += 1;
                    return Ok(());
                }
                Lookup::Found(Err(_)) | Lookup::Corrupt => position.next += 1,
                Lookup::TooSmall => return Err(Miss::TooSmall),
                Lookup::Absent => return Err(Miss::NotFound),
            }
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, Option<Position>>, Miss> {
        match self.0.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Miss::Unavailable),
        }
    }
}

fn open(path: &Path, local: fn() -> io::Result<LocalAccounts>) -> Result<Mapping, Miss> {
    Mapping::open_with(path, local).map_err(|e| match e {
        // No run directory: no broker was ever started here.
        MapError::Gone(_) if never_started(path) => Miss::NotFound,
        MapError::Gone(_) | MapError::Bad(_) => Miss::Unavailable,
    })
}
