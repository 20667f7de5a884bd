//! The ids that were given, and their administration (`gpuhub idmap`).

use super::Nothing;
use serde::{Deserialize, Serialize};

/// Users and groups have separate id spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdSpace {
    /// uid
    User,
    /// gid
    Group,
}

/// One id as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRow {
    /// User or group.
    pub kind: IdSpace,
    /// Whose.
    pub name: String,
    /// The id.
    pub id: u32,
    /// Who decided: override, directory, sid, computed, imported.
    #[serde(default)]
    pub source: Option<String>,
    /// Its name has another one now, and nobody else ever gets it.
    #[serde(default)]
    pub retired: bool,
    /// Of a user: who vouches for the key that the name is bound to.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Of a user: what she is called there.
    #[serde(default)]
    pub subject: Option<String>,
}

/// A name's id, to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewId {
    /// User or group.
    pub kind: IdSpace,
    /// Whose.
    pub name: String,
    /// The id.
    pub id: u32,
}

/// A user's new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// As she was called.
    pub old: String,
    /// As she is called now.
    pub new: String,
}

/// Which ids to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdQuery {
    /// Of this name alone.
    #[serde(default)]
    pub name: Option<String>,
    /// Those behind this one, in the order of kind and id. A reply has at most
    /// [`IDS_A_REPLY`]; one that has none was the last.
    #[serde(default)]
    pub after: Option<IdAt>,
}

/// Most rows in a reply.
pub const IDS_A_REPLY: u32 = 5000;

/// Where one is in the list of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdAt {
    /// User or group.
    pub kind: IdSpace,
    /// The id.
    pub id: u32,
}

/// Ids from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdImport {
    /// The ids.
    pub rows: Vec<IdRow>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// A name that has another id already gets this one.
    pub replace: bool,
}

/// What the administrator wants of the ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdmapCall {
    /// `gpuhub idmap set`.
    Set(NewId),
    /// `gpuhub idmap move`.
    Move(Rename),
    /// `gpuhub idmap show` and `export`.
    List(IdQuery),
    /// `gpuhub idmap import`.
    Import(IdImport),
    /// `gpuhub idmap check`.
    Check(Nothing),
    /// `gpuhub idmap untie`.
    Untie(Named),
}

/// Somebody by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// An id that changed, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdChange {
    /// User or group.
    pub kind: IdSpace,
    /// Whose.
    pub name: String,
    /// What the name had; none: it had none.
    pub old: Option<u32>,
    /// What it has.
    pub new: u32,
}

/// Reply to [`super::Call::Idmap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdmapReply {
    /// Refused; a sentence for the administrator.
    Refused(String),
    /// Ids.
    Rows(Vec<IdRow>),
    /// What is wrong, or keeps an import from being done; none of it was done.
    Problems(Vec<String>),
    /// What changed, or would.
    Changed(Vec<IdChange>),
}
