//! What both ends of a gpuhub socket or file must agree on.
//!
//! This crate is loaded, through the PAM module and the NSS library, into other people's
//! processes. The link law (ARCHITECTURE.md) therefore holds here: std, libc, zeroize and a
//! JSON codec; no threads, no TLS, no configuration parser, no logging. Nothing here panics.

pub mod client;
pub mod entry;
pub mod id;
pub mod local;
pub mod name;
pub mod secret;
pub mod snapshot;
pub mod wire;

/// Where things are when nobody says otherwise. No environment variable is read: setuid
/// programs load this crate.
pub mod paths {
    /// The broker's run directory; may be bind-mounted into many containers.
    pub const RUN_DIR: &str = "/run/gpuhub";
    /// The broker's socket.
    pub const SOCKET: &str = "/run/gpuhub/broker.sock";
    /// The published snapshot.
    pub const SNAPSHOT: &str = "/run/gpuhub/snapshot";
    /// The broker's state.
    pub const STATE_DIR: &str = "/var/lib/gpuhub";
    /// The configuration; absent means the builtin directory only.
    pub const CONFIG: &str = "/etc/gpuhub/gpuhub.toml";
}
