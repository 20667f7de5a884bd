//! What a group's entry says. Pure: entries in, model out.

use super::entry::Entry;
use super::person::{id, single};
use super::schema::{Members, POSIX_GROUP, Schema};
use crate::config::LdapIds;
use crate::model::{GroupClaim, Unavailable, dn};
use crate::provider::Which;
use gpuhub_common::name::{GroupName, UserName};

/// The groups of somebody, sorted. Groups of illegal names are left out, and those that are no POSIX groups,
/// through which she may be in others.
pub(super) fn claims(schema: &Schema, entries: &[Entry]) -> Result<Vec<GroupClaim>, Unavailable> {
    let mut claims = Vec::new();
    for entry in entries.iter().filter(|e| is_posix(schema, e)) {
        if let Some(name) = group_name(schema, entry) {
            claims.push(GroupClaim { name, gid: Some(id(schema, entry, &schema.group_gid)?) });
        }
    }
    claims.sort_unstable();
    claims.dedup();
    Ok(claims)
}

/// The one group among the entries of a search, and its entry.
pub(super) fn group<'e>(
    schema: &Schema,
    entries: &'e [Entry],
    which: Which<'_>,
) -> Result<Option<(GroupClaim, &'e Entry)>, Unavailable> {
    let asked = |name: &GroupName| !matches!(which, Which::Name(asked) if asked != name);
    let named = entries.iter().filter_map(|e| group_name(schema, e).filter(asked).map(|name| (e, name)));
    let Some((entry, name)) = single(named, |(e, _)| &e.dn, "groups of one name or gid")? else { return Ok(None) };
    Ok(Some((GroupClaim { name, gid: Some(id(schema, entry, &schema.group_gid)?) }, entry)))
}

/// The values that say who its members are.
pub(super) fn members<'e>(schema: &'e Schema, entry: &'e Entry) -> impl Iterator<Item = &'e str> {
    schema.member.iter().flat_map(|m| entry.values(&m.key)).map(String::as_str)
}

/// Sorted, each once; what is no name is left out.
pub(super) fn names<'v>(values: impl Iterator<Item = &'v str>) -> Vec<UserName> {
    let mut names: Vec<_> = values.filter_map(|v| UserName::new(v).ok()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether it is one by its class. Where no others were asked for, it is.
fn is_posix(schema: &Schema, entry: &Entry) -> bool {
    match schema.members {
        Members::Names | Members::Asked => true,
        Members::Dns => entry.values("objectclass").iter().any(|class| class.eq_ignore_ascii_case(POSIX_GROUP)),
    }
}

/// The one name of an entry, as of a person's. What each server has for itself (BUILTIN) has no id that could be
/// computed, and is no group here.
pub(super) fn group_name(schema: &Schema, entry: &Entry) -> Option<GroupName> {
    if schema.ids == LdapIds::Sid && entry.is_of_no_domain() {
        return None;
    }
    let values = entry.values(&schema.group_name.key);
    let naming = dn::naming_value(&entry.dn, &schema.group_name.key).filter(|n| values.contains(n));
    let naming = naming.and_then(|n| GroupName::new(&n).ok());
    naming.or_else(|| values.iter().filter_map(|v| GroupName::new(v).ok()).min())
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
