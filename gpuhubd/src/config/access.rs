//! `[access]`: who may log in here.

use super::values::{ConfigError, DurationText, Source};
use crate::model::dn;
use gpuhub_common::name;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who may log in: by user and by group, of which each is a name or, in a directory, the DN of a group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessRules {
    /// Members of these; absent: everyone a provider knows.
    pub allow_groups: Option<Vec<String>>,
    /// These, besides `allow_groups`.
    pub allow_users: Option<Vec<String>>,
    /// Never members of these.
    pub deny_groups: Vec<String>,
    /// Never these.
    pub deny_users: Vec<String>,
}

/// `[access]`: who may log in here.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "AccessTable")]
pub struct Access {
    /// For all services.
    pub rules: AccessRules,
    /// PAM service → what its logins must satisfy besides.
    pub service: BTreeMap<String, AccessRules>,
    /// So many failures of one name …
    pub tries: u32,
    /// … within this time …
    pub window: DurationText,
    /// … lock it for so long.
    pub lock: DurationText,
}

/// `[access]` as it is written; serde cannot refuse unknown keys of a flattened table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AccessTable {
    allow_groups: Option<Vec<String>>,
    allow_users: Option<Vec<String>>,
    deny_groups: Vec<String>,
    deny_users: Vec<String>,
    service: BTreeMap<String, AccessRules>,
    tries: u32,
    window: DurationText,
    lock: DurationText,
}

impl Default for AccessTable {
    fn default() -> Self {
        let five = DurationText(Duration::from_secs(300));
        Self {
            allow_groups: None,
            allow_users: None,
            deny_groups: Vec::new(),
            deny_users: Vec::new(),
            service: BTreeMap::new(),
            tries: 10,
            window: five,
            lock: five,
        }
    }
}

impl From<AccessTable> for Access {
    fn from(table: AccessTable) -> Self {
        let AccessTable { allow_groups, allow_users, deny_groups, deny_users, service, tries, window, lock } = table;
        Self { rules: AccessRules { allow_groups, allow_users, deny_groups, deny_users }, service, tries, window, lock }
    }
}

impl Default for Access {
    fn default() -> Self {
        AccessTable::default().into()
    }
}

impl Access {
    /// A rule that can never match is a door that only looks shut.
    pub(super) fn check(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        std::iter::once(&self.rules).chain(self.service.values()).try_for_each(|rules| rules.check(source))
    }
}

impl AccessRules {
    fn check(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let groups = self.allow_groups.iter().flatten().chain(&self.deny_groups);
        // What has an equals sign is a DN: no group's name can have one.
        for group in groups {
            let legal = match group.contains('=') {
                true => dn::is_one(group),
                false => name::is_group_name(group.as_bytes()) && !name::is_power_group(group.as_bytes()),
            };
            if !legal {
                return Err(source.at(
                    &(0..0),
                    &format!("[access] names the group {group:?}, in which gpuhub never has anybody"),
                    "Groups with names that are not legal, or that give power by themselves, are never taken from a directory.",
                ));
            }
        }
        let users = self.allow_users.iter().flatten().chain(&self.deny_users);
        for user in users {
            if !name::is_user_name(user.as_bytes()) {
                return Err(source.at(
                    &(0..0),
                    &format!("[access] names {user:?}, which no user can be called"),
                    "Correct it.",
                ));
            }
        }
        Ok(())
    }
}
