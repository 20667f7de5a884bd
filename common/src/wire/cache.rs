//! What the broker knows of people and groups, and from when (`gpuhub cache`).

use super::IdSpace;
use serde::{Deserialize, Serialize};

/// Rows in a reply: some 200 bytes each.
pub const CACHED_A_REPLY: u32 = 5_000;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheCall {
    /// `gpuhub cache show`.
    Show(CacheQuery),
    /// `gpuhub cache expire`.
    Expire(CacheQuery),
    /// `gpuhub cache refresh`.
    Refresh(CacheQuery),
}

/// Of whom.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheQuery {
    /// The user and the group of this name; absent: all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Only those behind this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<CacheAt>,
}

/// A place in the order of kinds and names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheAt {
    /// User or group.
    pub kind: IdSpace,
    /// Its name.
    pub name: String,
}

/// Somebody or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRow {
    /// User or group.
    pub kind: IdSpace,
    /// Name.
    pub name: String,
    /// uid or gid.
    pub id: u32,
    /// Whose.
    pub provider: String,
    /// Of a user: what her name is bound to.
    #[serde(default)]
    pub subject: Option<String>,
    /// Seconds since the provider said so; absent: it has not said so itself, or it was expired.
    #[serde(default)]
    pub age_s: Option<u64>,
    /// How it is served.
    pub state: CacheState,
}

/// See [`CacheRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheState {
    /// It is as its provider says.
    Fresh,
    /// Its provider is asked before it is believed, if it answers.
    Stale,
    /// Its provider no longer has it; only the name's binding is kept.
    Gone,
}

/// How a provider is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheProvider {
    /// Its name in the configuration.
    pub name: String,
    /// `own`, `login`, `on-demand`, `replica`; and how a replica is followed: `syncrepl`, `polling`.
    pub mode: String,
    /// Who is not known of it does not exist.
    pub complete: bool,
    /// Of a replica: entries of people and of groups.
    #[serde(default)]
    pub people: Option<u64>,
    /// See `people`.
    #[serde(default)]
    pub groups: Option<u64>,
    /// Seconds since it was known to be as it is here.
    #[serde(default)]
    pub contact_s: Option<u64>,
    /// It could go on from where it was.
    #[serde(default)]
    pub cookie: bool,
    /// The server.
    #[serde(default)]
    pub server: Option<String>,
    /// Why it is not complete.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Reply to [`super::Call::Cache`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheReply {
    /// A sentence for the administrator.
    Refused(String),
    /// What is known.
    Shown(CacheShown),
    /// What was done.
    Done(CacheDone),
}

/// See [`CacheReply`].
#[derive(Debug, Serialize, Deserialize)]
pub struct CacheShown {
    /// The providers in order.
    pub providers: Vec<CacheProvider>,
    /// At most [`CACHED_A_REPLY`], in the order of kinds and names.
    pub rows: Vec<CacheRow>,
}

/// See [`CacheReply`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CacheDone {
    /// So many entries are to be asked for again, or were found.
    pub entries: u64,
    /// So many are no more.
    pub gone: u64,
    /// Of so many it cannot be known now.
    pub unavailable: u64,
    /// Why.
    #[serde(default)]
    pub problem: Option<String>,
}
