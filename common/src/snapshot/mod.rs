//! The snapshot: a file that answers name lookups without asking anybody.
//!
//! The broker writes it ([`encode()`], [`Publisher`]); every process that looks up a name maps it
//! read-only ([`Reader`]). It is derived from the broker's store and never an input to it.
//!
//! - [`mod@format`] says what lies where in the file, and in which version;
//! - [`mod@encode`] makes the bytes, the same bytes for the same content (`record` those of one
//!   entry, `table` the hash tables);
//! - [`view`] reads them, whoever may be writing them at the time; [`found`] is what it gives;
//! - [`map`] holds one mapped file, [`reader`] the current one of a process;
//! - [`publish`] replaces the file so that no reader ever sees half of it, and [`change`] changes
//!   single entries of it in place.
//!
//! # Whose word counts, and for how long
//!
//! The header holds two words that say so, and change while the file is in use. `superseded` is set by the
//! broker once a newer file has its place. `valid_until` is pushed forward by the living broker.
//! A mapping is *fresh* while it is not superseded and `now <= valid_until <= now +`
//! [`MAX_VALIDITY_MS`]. Only a fresh and complete snapshot vouches for an absence. One that is not
//! fresh makes the reader open the path again; if that helps nothing, those whom it holds are
//! still found (the broker is being restarted), and who is not in it must be asked for elsewhere.
//! So neither a crash between rename and mark, nor a dead broker, nor a reboot makes anyone lie.

pub mod change;
pub mod encode;
pub mod format;
pub mod found;
pub mod map;
pub mod publish;
pub mod reader;
mod record;
mod table;
pub mod view;

pub use change::{ChangeError, Changes};
pub use encode::{Content, EncodeError, Encoded, Encoder, Room, SnapshotUser, encode};
pub use format::{MAX_VALIDITY_MS, PUSH_EVERY_MS, VALIDITY_MS};
pub use found::{GroupEntry, Lookup, Out, UserEntry};
pub use map::{MapError, Mapping, VettedIds};
pub use publish::{Prepared, Published, Publisher};
pub use reader::{Answer, Reader};
pub use view::{GroupIds, View, ViewError};

/// Milliseconds since 1970 by the coarse realtime clock: good to some 4 ms, and never a system
/// call (the vdso serves it on every clock source). 0 if there is no such clock: nothing is
/// fresh then.
#[allow(unsafe_code)] // clock_gettime(2), which std offers only in its precise and slower form
pub fn now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) fills the one timespec it is given and keeps no pointer.
    if unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) } != 0 {
        return 0;
    }
    let (s, ns) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    s.saturating_mul(1000).saturating_add(ns / 1_000_000)
}

#[cfg(test)]
mod never_tests;
#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;
