//! Who is in which groups, and of whom a group is made, where groups have groups for members.
//!
//! Both go through the directory level by level, up to `group_nesting`; what was seen is not asked for
//! again, so that groups that contain each other end.

use super::directory::Lane;
use super::entry::Entry;
use super::link::Query;
use super::schema::Members;
use super::{LdapProvider, MOST_GROUPS, MOST_NAMESAKES, group, person};
use crate::config::LdapMembers;
use crate::model::{DirectoryId, GroupClaim, Unavailable, dn};
use crate::provider::Which;
use futures_util::future::try_join_all;
use gpuhub_common::name::UserName;
use ldap3::Scope;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// DNs in one filter. They are some 60 bytes long; servers take filters of many times that.
const IN_A_FILTER: usize = 64;
/// Members of unknown kind that are asked for at once, and at most.
const AT_ONCE: usize = 16;
const MOST_STRANGERS: usize = 5_000;
/// People of one group.
const MOST_MEMBERS: usize = 200_000;

/// The groups that somebody is in.
#[derive(Debug)]
pub(super) struct Groups {
    /// Those that are POSIX groups, sorted.
    pub(super) claims: Vec<GroupClaim>,
    /// The DNs of all, in one spelling.
    pub(super) dns: Vec<String>,
}

/// What the primary groups of people who logged in are called: there are few, and they keep their names.
#[derive(Debug, Default)]
pub(super) struct Primary(Mutex<HashMap<DirectoryId, (Vec<String>, Instant)>>);

impl Primary {
    /// So many groups are remembered.
    const MOST: usize = 1_000;

    /// What is known of it, if that is younger than `ttl`.
    fn get(&self, gid: DirectoryId, ttl: Duration) -> Option<Vec<String>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&gid).filter(|(_, since)| since.elapsed() < ttl).map(|(names, _)| names.clone())
    }

    fn put(&self, gid: DirectoryId, names: Vec<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(gid, (names, Instant::now()));
    }
}

impl LdapProvider {
    /// Name and DN of the group that somebody has for her primary one: no group has her as its member for that,
    /// and rules that name the group mean her, too.
    pub(super) async fn primary_group(&self, gid: DirectoryId) -> Result<Vec<String>, Unavailable> {
        if let Some(names) = self.primary.get(gid, self.cache_ttl) {
            return Ok(names);
        }
        let which = match gid {
            DirectoryId::Number(gid) => Which::Gid(gid, None),
            DirectoryId::Sid(sid) => Which::Gid(0, Some(sid)),
        };
        let Some(filter) = self.schema.group_filter(which) else { return Ok(Vec::new()) };
        let attributes = self.schema.of_her_groups.clone();
        let entries = self.search(Lane::Logins, &self.group_bases, filter, attributes, MOST_NAMESAKES).await?;
        // Of several groups of one number each is meant.
        let claims = group::claims(&self.schema, &entries)?;
        let names = claims.into_iter().map(|claim| claim.name.as_str().to_owned());
        let names: Vec<_> = names.chain(entries.iter().map(|entry| dn::normalised(&entry.dn))).collect();
        self.primary.put(gid, names.clone());
        Ok(names)
    }

    /// The groups that somebody is in.
    pub(super) async fn groups_of(&self, lane: Lane, name: &UserName, dn: &str) -> Result<Groups, Unavailable> {
        let attributes = || self.schema.of_her_groups.clone();
        match self.schema.members {
            Members::Names => {
                let filter = self.schema.groups_of_name(name.as_str());
                let entries = self.search(lane, &self.group_bases, filter, attributes(), MOST_GROUPS).await?;
                return self.groups(&entries);
            }
            Members::Asked => return self.groups_of_token(lane, dn).await,
            Members::Dns => {}
        }
        let mut seen = HashSet::from([dn::normalised(dn)]);
        let (mut all, mut level) = (Vec::new(), vec![dn.to_owned()]);
        for _ in 0..=self.nesting {
            let mut found = Vec::new();
            for some in level.chunks(IN_A_FILTER) {
                let filter = self.schema.groups_of_dns(some.iter().map(String::as_str));
                found.extend(self.search(lane, &self.group_bases, filter, attributes(), MOST_GROUPS).await?);
            }
            found.retain(|entry| seen.insert(dn::normalised(&entry.dn)));
            level = found.iter().map(|entry| entry.dn.clone()).collect();
            all.extend(found);
            if all.len() > MOST_GROUPS {
                return Err(Unavailable(format!("{name} is in more than {MOST_GROUPS} groups")));
            }
            if level.is_empty() {
                break;
            }
        }
        self.groups(&all)
    }

    pub(super) fn groups(&self, entries: &[Entry]) -> Result<Groups, Unavailable> {
        let dns = entries.iter().map(|entry| dn::normalised(&entry.dn)).collect();
        Ok(Groups { claims: group::claims(&self.schema, entries)?, dns })
    }

    /// Those of the token that Active Directory makes for somebody who logs in: through all groups, her primary
    /// one included.
    async fn groups_of_token(&self, lane: Lane, dn: &str) -> Result<Groups, Unavailable> {
        let query = Query {
            base: dn.to_owned(),
            scope: Scope::Base,
            filter: "(objectClass=*)".into(),
            attributes: ["tokenGroups".to_owned()].into(),
            most: 1,
            paged: false,
        };
        let token = self.directory.search(lane, query).await?;
        let sids: Vec<_> = token.iter().flat_map(Entry::token_groups).collect();
        // Everybody has a primary group at least: who reads none of it may not.
        if let (Some(somebody), true) = (token.first(), sids.is_empty()) {
            return Err(Unavailable(format!("the tokenGroups of {} are not readable", somebody.dn)));
        }
        let mut all = Vec::new();
        for some in sids.chunks(IN_A_FILTER) {
            let (filter, attributes) = (self.schema.groups_of_sids(some), self.schema.of_her_groups.clone());
            all.extend(self.search(lane, &self.group_bases, filter, attributes, MOST_GROUPS).await?);
        }
        self.groups(&all)
    }

    /// The people whom the server finds in a group, and in those that are in it.
    async fn people_in(&self, group: &Entry) -> Result<Vec<UserName>, Unavailable> {
        let mut seen = HashSet::from([dn::normalised(&group.dn)]);
        let (mut all, mut level) = (vec![group.dn.clone()], vec![group.dn.clone()]);
        for _ in 0..self.nesting {
            let mut found = Vec::new();
            for some in level.chunks(IN_A_FILTER) {
                let (filter, attributes) = (self.schema.groups_in(some), self.schema.of_her_groups.clone());
                found.extend(self.search(Lane::Lookups, &self.group_bases, filter, attributes, MOST_GROUPS).await?);
            }
            level = found.into_iter().map(|entry| entry.dn).filter(|dn| seen.insert(dn::normalised(dn))).collect();
            all.extend(level.iter().cloned());
            if level.is_empty() {
                break;
            }
        }
        let attributes: Arc<[String]> = [self.schema.name.name.clone()].into();
        let mut names = BTreeSet::new();
        for some in all.chunks(IN_A_FILTER) {
            let (filter, attributes) = (self.schema.people_in(some), attributes.clone());
            let people = self.search(Lane::Lookups, &self.user_bases, filter, attributes, MOST_MEMBERS).await?;
            names.extend(people.iter().filter_map(|person| person::user_name(&self.schema, person)));
        }
        Ok(names.into_iter().collect())
    }

    /// The people of a group, sorted. What is named as a member and is not there, or is neither a person nor
    /// a group, is left out.
    pub(super) async fn members_of(&self, entry: &Entry) -> Result<Vec<UserName>, Unavailable> {
        let values = group::members(&self.schema, entry);
        match (self.members, self.schema.members) {
            (LdapMembers::None, _) => return Ok(Vec::new()),
            (LdapMembers::All, Members::Names) => return Ok(group::names(values)),
            (LdapMembers::All, Members::Asked) => return self.people_in(entry).await,
            (LdapMembers::All, Members::Dns) => {}
        }
        let mut seen = HashSet::from([dn::normalised(&entry.dn)]);
        let (mut names, mut strangers) = (BTreeSet::new(), 0);
        let mut level: Vec<String> = values.map(str::to_owned).collect();
        for _ in 0..=self.nesting {
            let (mut named, mut unknown) = (Vec::new(), Vec::new());
            for dn in std::mem::take(&mut level) {
                let normalised = dn::normalised(&dn);
                if seen.insert(normalised.clone()) {
                    match self.named_by(&dn, &normalised) {
                        Some(name) => named.push(name),
                        None => unknown.push(dn),
                    }
                }
            }
            // Those who are there, and are whom the DN means.
            for some in named.chunks(IN_A_FILTER) {
                let filter = self.schema.people_by_name(some);
                let people = self.search_people(Lane::Lookups, filter, MOST_NAMESAKES * some.len()).await?;
                let meant = people.iter().filter(|person| seen.contains(&dn::normalised(&person.dn)));
                names.extend(meant.filter_map(|person| person::user_name(&self.schema, person)));
            }
            strangers += unknown.len();
            if strangers > MOST_STRANGERS {
                return Err(Unavailable(format!(
                    "{} has more than {MOST_STRANGERS} members of unknown names",
                    entry.dn
                )));
            }
            for some in unknown.chunks(AT_ONCE) {
                for found in try_join_all(some.iter().map(|dn| self.member(dn))).await?.into_iter().flatten() {
                    let more: Vec<_> = group::members(&self.schema, &found).map(str::to_owned).collect();
                    if more.is_empty() {
                        names.extend(person::user_name(&self.schema, &found));
                    }
                    level.extend(more);
                }
            }
            if level.is_empty() {
                break;
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Whose DN it is, where that can be seen: it has her name in it, and lies where people are.
    fn named_by(&self, dn: &str, normalised: &str) -> Option<UserName> {
        let name = dn::naming_value(dn, &self.schema.name.key).and_then(|n| UserName::new(&n).ok())?;
        let below = |base: &String| normalised.ends_with(&format!(",{}", dn::normalised(base)));
        self.user_bases.iter().any(below).then_some(name)
    }

    async fn member(&self, dn: &str) -> Result<Option<Entry>, Unavailable> {
        let query = Query {
            base: dn.to_owned(),
            scope: Scope::Base,
            filter: self.schema.anything(),
            attributes: self.schema.of_member.clone(),
            most: 1,
            paged: false,
        };
        Ok(self.directory.search(Lane::Lookups, query).await?.pop())
    }
}
