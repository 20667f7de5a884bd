//! Where ids and bindings are unique for a fleet of boxes: a PostgreSQL database. Without one, the
//! box's own store is all there is.
//!
//! The store keeps a copy of whatever this box learned, so the registry is asked only for what is
//! new here: who is known goes on when it is away, who is new is refused. Each question is one
//! statement, so it happened whole or not at all; if the answer is lost, asking again gives the
//! same one.

mod postgres;
mod tls;

pub use postgres::Postgres;

use crate::model::{Denied, PersonKey, Reason};
use crate::store::{IdKind, Source};
use std::fmt;

/// What somebody asks an id for.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// User or group.
    pub kind: IdKind,
    /// Whose.
    pub name: &'a str,
    /// A group gets the same number: hers, or `~name` where another group has her name.
    pub own_group: bool,
    /// In the order of preference. One alone, with a source other than computed, must be it.
    pub candidates: &'a [u32],
    /// Who decided on them.
    pub source: Source,
    /// The name is to be bound to this key, too.
    pub key: Option<&'a PersonKey>,
}

/// What the registry says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The id.
    pub id: u32,
    /// Who decided: an override, perhaps, where something else was asked for.
    pub source: Source,
    /// So many candidates were taken.
    pub probes: u32,
    /// Name of the own group.
    pub group: Option<String>,
}

/// Why the registry gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryError {
    /// It does not answer, or not in time.
    Unavailable(String),
    /// The name is bound to another key, or the key to another name.
    NameTaken(String),
    /// Every candidate is taken.
    NoId(String),
    /// The name has another id, or the id another name.
    Collision(String),
    /// Something that no registry of ours would say.
    Broken(String),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Unavailable(why) => write!(f, "the registry of ids is not available: {why}"),
            RegistryError::NameTaken(why) | RegistryError::NoId(why) | RegistryError::Collision(why) => {
                write!(f, "registry of ids: {why}")
            }
            RegistryError::Broken(why) => write!(f, "the registry of ids is broken: {why}"),
        }
    }
}

impl std::error::Error for RegistryError {}

impl From<RegistryError> for Denied {
    fn from(e: RegistryError) -> Self {
        let reason = match &e {
            RegistryError::Unavailable(_) | RegistryError::Broken(_) => Reason::RegistryUnavailable,
            RegistryError::NameTaken(_) => Reason::NameTaken,
            RegistryError::NoId(_) | RegistryError::Collision(_) => Reason::NoId,
        };
        Denied::because(reason, e.to_string())
    }
}

/// What every box has to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which change it was: from 1 on, without a gap.
    pub serial: i64,
    /// User or group.
    pub kind: IdKind,
    /// The id.
    pub id: u32,
    /// Whose it is from then on.
    pub name: String,
    /// Its owner's name before; none: the administrator gave the name this id.
    pub was: Option<String>,
}

/// A change, or the number of one that no registry of ours would have, and why it cannot be followed.
pub type Followed = Result<Change, (i64, String)>;
