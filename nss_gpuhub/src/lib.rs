//! libnss_gpuhub.so.2: users and groups out of the gpuhub snapshot, and from the broker where the
//! snapshot cannot know.
//!
//! This is loaded into every process that asks for a name. So: no thread, no descriptor kept, no
//! environment variable read, no configuration, no log; no wait without an end; no panic that
//! crosses into C. `exports` are the entry points, a few lines each; `lookup` decides where an
//! answer comes from; `packing` puts it into the caller's buffer; `walk` enumerates;
//! `gids` is the list that initgroups fills.
//!
//! # Panics
//!
//! The code is written not to panic (workspace lints), every entry point catches what would, and
//! nothing is printed: the first call installs an empty panic hook. That is no surprise to the
//! host, not even to one written in Rust: a cdylib carries its own copy of std, whose hook sees
//! only panics of this library.

mod breaker;
mod exports;
mod gids;
mod lookup;
mod outcome;
mod packing;
mod process;
mod walk;

use gpuhub_common::paths;
use lookup::Nss;

/// The one that the entry points use.
static NSS: Nss = Nss::new(paths::SOCKET, paths::SNAPSHOT);

#[cfg(test)]
mod tests;
