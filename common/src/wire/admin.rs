//! Administration of the builtin directory: `gpuhub user`, `gpuhub group`.

use super::{NameQuery, Nothing};
use crate::entry::{Group, Passwd};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// Administration of the builtin directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admin {
    /// `gpuhub user add`.
    UserAdd(NewUser),
    /// `gpuhub user del`.
    UserDel(NameQuery),
    /// `gpuhub user list`.
    UserList(Nothing),
    /// `gpuhub user passwd`.
    UserPasswd(NewPassword),
    /// `gpuhub group add`.
    GroupAdd(NewGroup),
    /// `gpuhub group del`.
    GroupDel(NameQuery),
    /// `gpuhub group list`.
    GroupList(Nothing),
    /// `gpuhub group member add|del`.
    GroupMember(Membership),
}

/// A user to be added.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Login name.
    pub name: String,
    /// Full name.
    #[serde(default)]
    pub full_name: String,
    /// A fixed uid; absent: derived from the name.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Names of existing builtin groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// First password; absent: only key logins.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// A password set by the administrator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// Whose.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// A group to be added.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// A fixed gid; absent: derived from the name.
    #[serde(default)]
    pub gid: Option<u32>,
}

/// A change of membership.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// The member.
    pub user: String,
    /// Becomes one (true) or is one no more.
    pub member: bool,
}

/// Reply to [`Call::Admin`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminReply {
    /// Done.
    Done(Nothing),
    /// Refused; a sentence for the administrator.
    Refused(String),
    /// A list of users.
    Users(Vec<Passwd>),
    /// A list of groups.
    Groups(Vec<Group>),
}
