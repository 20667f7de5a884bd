//! `[[local_group]]`: groups of the machine (`video`, `render`) that people of ours join.

use super::values::{ConfigError, Source};
use gpuhub_common::name::{self, GroupName};
use serde::Deserialize;
use std::fmt;
use std::ops::Range;

/// One rule. It takes effect where root's own list (extra-gids) has the gid, too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalGroup {
    /// A device node: the group that owns it on this machine.
    pub device: Option<String>,
    /// Or a group of the container's own /etc/group.
    pub name: Option<String>,
    /// Whose members join it; absent: everybody.
    pub groups: Option<Vec<GroupName>>,
}

impl LocalGroup {
    pub(super) fn check(&self, source: &Source<'_>, span: &Range<usize>) -> Result<(), ConfigError> {
        let bad = |what: &str, remedy: &str| Err(source.at(span, what, remedy));
        if self.device.is_some() == self.name.is_some() {
            return bad(
                "a [[local_group]] has either a device or a name",
                "Write device = \"/dev/dri/renderD128\", or name = \"render\".",
            );
        }
        if self.device.as_ref().is_some_and(|d| !d.starts_with("/dev/") || d.split('/').any(|part| part == "..")) {
            return bad("the device of a [[local_group]] is not in /dev", "Write device = \"/dev/dri/renderD128\".");
        }
        let never = |g: &&GroupName| name::is_power_group(g.as_str().as_bytes());
        match self.groups.as_deref() {
            Some([]) => bad("the groups of a [[local_group]] are none", "Leave groups out if everybody is to join."),
            Some(groups) => match groups.iter().find(never) {
                Some(group) => bad(
                    &format!("a [[local_group]] names the group {group}, in which gpuhub never has anybody"),
                    "Name a group of a directory.",
                ),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// As a person calls it.
impl fmt::Display for LocalGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.device.as_deref().or(self.name.as_deref()).unwrap_or_default())
    }
}
