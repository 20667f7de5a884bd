//! Active Directory is asked, again and again, for what has got a higher number (uSNChanged) since.
//!
//! Numbers are those of one server's database: from another, or from one that was put back to an earlier state, all
//! is read again. (DirSync would spare that. It reads whole domains only, no bases and filters, is a right that few
//! accounts have, or else leaves out what changes in what cannot be seen, and says of an entry what changed alone.)
//!
//! Members are known by their objectGUIDs: when somebody is renamed, moved or deleted, the groups that she is in get
//! no higher number. People are in groups through any group of the domain, wanted here or not, as in tokenGroups.

use super::super::entry::{Entry, guid};
use super::super::link::Link;
use super::super::schema::DOMAIN_GROUPS;
use super::super::trouble::Trouble;
use super::super::{LdapProvider, dn};
use super::content::{GroupEntry, Id, Kind};
use super::poll::{LISTING, lose};
use super::stream::Search;
use super::{End, Kept, Sync, about};
use crate::provider::news::News;
use ldap3::controls::RawControl;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The number of the last change of an entry.
const USN: &str = "uSNChanged";
const USN_KEY: &str = "usnchanged";
/// What each group has; so many of them at once, as servers give them ([MS-ADTS] 3.1.1.3.1.3.3), asked for in so many
/// words, since not all of them cut by themselves what is too much.
const MEMBER: &str = "member";
const FIRST_MEMBERS: &str = "member;range=0-1499";
/// Names come with objectGUIDs ([MS-ADTS] 3.1.1.3.4.1.5, LDAP_SERVER_EXTENDED_DN_OID).
const EXTENDED_DN: &str = "1.2.840.113556.1.4.529";
/// Deleted entries come, too (LDAP_SERVER_SHOW_DELETED_OID).
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";
/// Where they are ([MS-ADTS] 6.1.1.4.2), which few may see.
const DELETED_OBJECTS: &str = "18E2EA80684F11D2B9AA00C04F79F805";
const NO_SUCH_OBJECT: u32 = 32;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Root {
    /// The domain's name.
    domain: String,
    /// Which database it has: the server's entry, and what is new whenever that is put back (invocationId).
    database: (String, Option<Vec<u8>>),
    /// All changes up to this are made.
    usn: u64,
}

/// Up to where a database is known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// As it was then.
    root: Root,
    /// What there was at this number was listed.
    listed: u64,
    /// Deleted entries can perhaps be seen.
    sees_deleted: bool,
}

impl Known {
    /// Whether changes since are all that has to be asked for.
    fn goes_on(&self, now: &Root) -> bool {
        self.root.domain == now.domain && self.root.database == now.database && self.root.usn <= now.usn
    }
}

/// Where and what is asked.
struct Domain<'l> {
    link: &'l Link,
    searches: Vec<Search>,
    /// Which groups are wanted here; none of these: all.
    wanted: Vec<Search>,
}

/// A group as it has come.
struct Read {
    n: usize,
    id: Id,
    usn: String,
    entry: Entry,
    members: Vec<String>,
    /// From this one on there are more.
    next: Option<usize>,
}

impl LdapProvider {
    /// Polls over one connection.
    pub(super) async fn poll_domain(
        &self,
        sync: &Sync,
        kept: &mut Kept,
        link: &Link,
        tell: &mpsc::Sender<News>,
    ) -> Result<End, Trouble> {
        for round in 0u32.. {
            let Some(root) = self.root(link).await? else {
                let why = "does not say what an Active Directory says of itself (highestCommittedUSN)";
                return Ok(End::Trouble(format!("{} {why}", link.server.url)));
            };
            // Of a round that fails nothing is known: the next one goes on from here.
            let known = kept.domain.clone();
            if known.as_ref().is_some_and(|known| known.root.domain != root.domain) {
                *kept = Kept::new(self, kept.cookies.len());
            }
            let domain = self.domain(link, &root.domain);
            let known = match known.filter(|known| known.goes_on(&root)) {
                Some(known) => self.go_on(kept, &domain, known, root, round % LISTING == 0).await?,
                None => self.read_all(kept, &domain, root).await?,
            };
            if let Some(end) = self.tell_round(round, kept, link, tell).await {
                return Ok(end);
            }
            kept.domain = Some(known);
            if let Some(end) = self.next_round(sync, kept, link, tell).await {
                return Ok(end);
            }
        }
        Ok(End::Away)
    }

    /// `None`: it is no Active Directory.
    async fn root(&self, link: &Link) -> Result<Option<Root>, Trouble> {
        let asked = ["defaultNamingContext", "dsServiceName", "highestCommittedUSN"];
        let found = link.search(about("", &asked), self.directory.timeout()).await?;
        let root = found.into_iter().next().unwrap_or_default();
        let (domain, service) = (root.only("defaultnamingcontext"), root.only("dsservicename"));
        let usn = root.only("highestcommittedusn").and_then(|usn| usn.parse().ok());
        let (Some(domain), Some(service), Some(usn)) = (domain, service, usn) else { return Ok(None) };
        let found = link.search(about(service, &["invocationId"]), self.directory.timeout()).await?;
        let invocation = found.first().and_then(|entry| entry.only_bytes("invocationid")).map(<[u8]>::to_vec);
        Ok(Some(Root { domain: domain.to_owned(), database: (service.to_owned(), invocation), usn }))
    }

    /// People under each of their bases; groups of the whole domain, and of bases that lie elsewhere.
    fn domain<'l>(&self, link: &'l Link, domain: &str) -> Domain<'l> {
        let with_usn = |attributes: &[String], more: &[&str]| -> Arc<[String]> {
            attributes.iter().cloned().chain([USN].iter().chain(more).map(|a| (*a).to_owned())).collect()
        };
        let people = self
            .user_bases
            .iter()
            .map(|base| extended(Kind::Person, base, self.schema.people(), with_usn(&self.schema.of_person, &[])));
        let name = dn::normalised(domain);
        let (is_it, below) = (|base: &&String| dn::normalised(base) == name, format!(",{name}"));
        let elsewhere = self.group_bases.iter().filter(|b| !is_it(b) && !dn::normalised(b).ends_with(&below));
        let of_group = with_usn(&self.schema.of_her_groups, &[FIRST_MEMBERS]);
        let groups = std::iter::once(domain)
            .chain(elsewhere.map(String::as_str))
            .map(|base| extended(Kind::Group, base, DOMAIN_GROUPS, of_group.clone()));
        let wanted =
            self.group_bases.iter().map(|base| extended(Kind::Group, base, self.schema.any_group(), nothing()));
        let all = self.schema.any_group() == DOMAIN_GROUPS && self.group_bases.iter().any(|base| is_it(&base));
        Domain {
            link,
            searches: people.chain(groups).collect(),
            wanted: if all { Vec::new() } else { wanted.collect() },
        }
    }

    /// All of it.
    async fn read_all(&self, kept: &mut Kept, domain: &Domain<'_>, root: Root) -> Result<Known, Trouble> {
        kept.mirror.note_all();
        let seen = self.read_in_domain(kept, domain, None).await?;
        lose(kept, &domain.searches, &seen);
        Ok(Known { listed: root.usn, root, sees_deleted: true })
    }

    /// What is new, and perhaps who is there at all.
    async fn go_on(
        &self,
        kept: &mut Kept,
        domain: &Domain<'_>,
        mut known: Known,
        root: Root,
        lists: bool,
    ) -> Result<Known, Trouble> {
        if known.root.usn < root.usn {
            let since = known.root.usn.saturating_add(1);
            self.read_in_domain(kept, domain, Some(since)).await?;
            known.sees_deleted = known.sees_deleted && self.look_at_deleted(kept, domain, &root.domain, since).await?;
        }
        if lists && known.listed < root.usn {
            if self.is_otherwise(kept, domain).await? {
                return self.read_all(kept, domain, root).await;
            }
            known.listed = root.usn;
        }
        Ok(Known { root, ..known })
    }

    /// Reads what was changed since, or all, and says whom it has found.
    async fn read_in_domain(
        &self,
        kept: &mut Kept,
        domain: &Domain<'_>,
        since: Option<u64>,
    ) -> Result<Vec<HashSet<Id>>, Trouble> {
        let later = |_, search: &Search| match since {
            Some(since) => Search { filter: format!("(&{}({USN}>={since}))", search.filter), ..search.clone() },
            None => search.clone(),
        };
        let (mut seen, mut groups) = (vec![HashSet::new(); domain.searches.len()], Vec::new());
        self.list(domain.link, &domain.searches, later, |n, kind, mut entry| {
            let (Some(id), usn) = (id(&entry), entry.one(USN_KEY).unwrap_or_default().to_owned()) else { return };
            seen.get_mut(n).map(|seen| seen.insert(id.clone()));
            if kind == Kind::Person {
                return self.put(&mut kept.mirror, n, kind, id, &entry, usn);
            }
            let (members, next) = entry.take_part_of(MEMBER);
            groups.push(Read { n, id, usn, entry, members: guids(&members), next });
        })
        .await?;
        // After the groups: one that has changed meanwhile must be among these as well.
        let wanted = self.wanted(domain, later).await?;
        for Read { n, id, usn, entry, mut members, next } in groups {
            self.read_on(domain, &entry, next, &mut members).await?;
            let group = GroupEntry::of_domain(&self.schema, &entry, is_in(&wanted, &id), members);
            kept.mirror.put_group(n, id, group, usn);
        }
        Ok(seen)
    }

    /// Those of the groups that are wanted here; `None`: all.
    async fn wanted(
        &self,
        domain: &Domain<'_>,
        narrowed: impl Fn(usize, &Search) -> Search,
    ) -> Result<Option<HashSet<Id>>, Trouble> {
        if domain.wanted.is_empty() {
            return Ok(None);
        }
        let mut wanted = HashSet::new();
        self.list(domain.link, &domain.wanted, narrowed, |_, _, entry| wanted.extend(id(&entry))).await?;
        Ok(Some(wanted))
    }

    /// Reads the members of a group from the one that is `next` on.
    async fn read_on(
        &self,
        domain: &Domain<'_>,
        group: &Entry,
        mut next: Option<usize>,
        members: &mut Vec<String>,
    ) -> Result<(), Trouble> {
        let Some(guid) = &group.guid else { return Ok(()) };
        while let Some(first) = next.take() {
            let part = [format!("{MEMBER};range={first}-*")].into();
            let search = [extended(Kind::Group, guid, DOMAIN_GROUPS, part)];
            let read = self.list(domain.link, &search, as_it_is, |_, _, mut entry| {
                if entry.guid == group.guid {
                    let (more, then) = entry.take_part_of(MEMBER);
                    members.extend(guids(&more));
                    // One that does not go on would never end.
                    next = then.filter(|then| *then > first);
                }
            });
            match read.await {
                // It has gone meanwhile.
                Err(Trouble::Refused(result)) if result.rc == NO_SUCH_OBJECT => break,
                read => read?,
            }
        }
        Ok(())
    }

    /// Forgets whoever was deleted since; `false`: that is not shown to us.
    async fn look_at_deleted(
        &self,
        kept: &mut Kept,
        domain: &Domain<'_>,
        name: &str,
        since: u64,
    ) -> Result<bool, Trouble> {
        let (base, filter) =
            (format!("<WKGUID={DELETED_OBJECTS},{name}>"), format!("(&(isDeleted=TRUE)({USN}>={since}))"));
        let mut deleted = extended(Kind::Person, &base, &filter, nothing());
        deleted.controls.push(critical(SHOW_DELETED));
        let deleted = [deleted];
        let read = self.list(domain.link, &deleted, as_it_is, |_, _, entry| {
            let Some(id) = id(&entry) else { return };
            for (n, search) in domain.searches.iter().enumerate() {
                kept.mirror.lost(n, search.kind, &id);
            }
        });
        match read.await {
            Err(Trouble::Refused(_)) => Ok(false),
            read => read.map(|()| true),
        }
    }

    /// Looks who is there, and forgets whoever is not; `true`: some are there, or otherwise, without having got a
    /// higher number. (They came in with what they lie in, or changed after all was read, or what is wanted here is
    /// not a matter of their own.)
    async fn is_otherwise(&self, kept: &mut Kept, domain: &Domain<'_>) -> Result<bool, Trouble> {
        let wanted = self.wanted(domain, as_it_is).await?;
        let (mut seen, mut missed) = (vec![HashSet::new(); domain.searches.len()], false);
        let brief = |_, search: &Search| Search { attributes: [USN.to_owned()].into(), ..search.clone() };
        self.list(domain.link, &domain.searches, brief, |n, kind, entry| {
            let Some(id) = id(&entry) else { return };
            missed |= kept.mirror.stamp(kind, &id) != Some(entry.one(USN_KEY).unwrap_or_default());
            missed |= kind == Kind::Group && kept.mirror.is_wanted(&id) != is_in(&wanted, &id);
            seen.get_mut(n).map(|seen| seen.insert(id));
        })
        .await?;
        lose(kept, &domain.searches, &seen);
        Ok(missed)
    }
}

/// A search whose entries come with their objectGUIDs.
fn extended(kind: Kind, base: &str, filter: &str, attributes: Arc<[String]>) -> Search {
    let controls = vec![critical(EXTENDED_DN)];
    Search { kind, base: base.to_owned(), filter: filter.to_owned(), attributes, controls }
}

fn as_it_is(_: usize, search: &Search) -> Search {
    search.clone()
}

/// No attribute (RFC 4511 §4.5.1.8).
fn nothing() -> Arc<[String]> {
    ["1.1".to_owned()].into()
}

/// A server that does not know it must say so.
fn critical(oid: &str) -> RawControl {
    RawControl { ctype: oid.to_owned(), crit: true, val: None }
}

fn id(entry: &Entry) -> Option<Id> {
    entry.guid.as_ref().map(|guid| guid.clone().into_bytes())
}

fn guids(names: &[String]) -> Vec<String> {
    names.iter().filter_map(|name| guid(name)).collect()
}

fn is_in(wanted: &Option<HashSet<Id>>, id: &Id) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_one_database_that_goes_on() {
        let root = |service: &str, invocation: u8, usn| Root {
            domain: "DC=x".into(),
            database: (service.into(), Some(vec![invocation])),
            usn,
        };
        let known = Known { root: root("dc1", 1, 100), listed: 90, sees_deleted: true };
        assert!(known.goes_on(&root("dc1", 1, 100)) && known.goes_on(&root("dc1", 1, 200)));
        assert!(!known.goes_on(&root("dc2", 1, 200)), "another server");
        assert!(!known.goes_on(&root("dc1", 2, 200)), "put back");
        assert!(!known.goes_on(&root("dc1", 1, 99)), "put back by a snapshot of its disk");
        assert!(!known.goes_on(&Root { domain: "DC=y".into(), ..root("dc1", 1, 200) }));
    }
}
