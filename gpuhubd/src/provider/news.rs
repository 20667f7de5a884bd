//! What a directory tells of itself, where it is kept whole here (`sync = "replica"`).

use crate::model::{DirectoryGroup, Person, PersonKey};
use gpuhub_common::name::{GroupName, UserName};
use std::collections::HashSet;

/// One piece of news. They are told in order: what comes later holds.
#[derive(Debug)]
pub enum News {
    /// These are now so.
    Update(Update),
    /// All that there is was told: whoever is not among these is not there.
    Whole(Whole),
    /// Everything that was told is still so, as of now.
    Contact(Contact),
    /// It cannot be asked now, and why. What was told may be out of date.
    Trouble(String),
}

/// What changed.
#[derive(Debug, Default)]
pub struct Update {
    /// People who are new, or others than before.
    pub people: Vec<Person>,
    /// The same for groups.
    pub groups: Vec<DirectoryGroup>,
    /// Names that those with these keys do not have any more.
    pub gone: Vec<(UserName, PersonKey)>,
    /// Groups that are no more.
    pub gone_groups: Vec<GroupName>,
}

impl Update {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty() && self.groups.is_empty() && self.gone.is_empty() && self.gone_groups.is_empty()
    }
}

/// The names of all who are there, those of unreadable entries included; none where that cannot be
/// said, since there are entries without a readable name.
#[derive(Debug, Default)]
pub struct Whole {
    /// People.
    pub people: Option<HashSet<String>>,
    /// Groups.
    pub groups: Option<HashSet<String>>,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// How it is followed: `syncrepl`, `polling`.
    pub mode: &'static str,
    /// The server.
    pub server: String,
    /// Entries of people that it has.
    pub people: usize,
    /// Entries of groups.
    pub groups: usize,
    /// Whether it could go on from where it was (RFC 4533).
    pub cookie: bool,
    /// What of it cannot be told, since it is unreadable or ambiguous, with examples.
    pub unclear: Option<String>,
}
