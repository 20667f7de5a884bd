//! What entries say, as [`super::mirror`] keeps it. Pure.

use super::super::dn;
use super::super::entry::Entry;
use super::super::group;
use super::super::person::user_name;
use super::super::schema::{Members, Schema};
use crate::model::{GroupClaim, Person, Sid, Unavailable};
use gpuhub_common::name::{GroupName, UserName};

/// What an entry is called for good: its entryUUID, or what stands for it.
pub(super) type Id = Vec<u8>;

/// People or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) enum Kind {
    #[default]
    Person,
    Group,
}

/// What an entry says of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PersonEntry {
    /// What groups call her: her DN, normalised, or in Active Directory what stands for her objectGUID. (There the
    /// groups that an entry is in do not change when it is renamed or moved, nor does it when what it lies in is.)
    pub(super) dn: String,
    /// `None`: she has none that is legal, and is nobody.
    pub(super) name: Option<UserName>,
    /// The attribute that has the name is not there: perhaps it is not readable.
    pub(super) nameless: bool,
    /// Without her groups; an error says why it cannot be known.
    pub(super) person: Result<Option<Person>, String>,
    /// The group that she is in by her entry alone (Active Directory's primaryGroupID).
    pub(super) primary: Option<Sid>,
}

/// What an entry says of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupEntry {
    pub(super) dn: String,
    /// `None`: it is none of ours.
    pub(super) name: Option<GroupName>,
    pub(super) nameless: bool,
    /// `None`: people are in other groups through it, and it is none of ours.
    pub(super) claim: Result<Option<GroupClaim>, String>,
    /// Names, or what entries have for their `dn`.
    pub(super) members: Vec<String>,
    /// As which it is somebody's primary one.
    pub(super) sid: Option<Sid>,
    /// Of Active Directory, which finds people in groups of any place: it is one of those that are wanted here.
    pub(super) wanted: bool,
}

impl PersonEntry {
    /// `person` is what [`super::super::person`] makes of it.
    pub(super) fn of(schema: &Schema, entry: &Entry, person: Result<Option<Person>, Unavailable>) -> Self {
        let primary = || Some(entry.sid()?.with_rid(entry.only("primarygroupid")?.parse().ok()?));
        Self {
            dn: entry.guid.clone().unwrap_or_else(|| dn::normalised(&entry.dn)),
            name: user_name(schema, entry),
            nameless: entry.values(&schema.name.key).is_empty(),
            person: person.map_err(|e| e.0),
            primary: if schema.members == Members::Asked { primary() } else { None },
        }
    }
}

impl GroupEntry {
    pub(super) fn of(schema: &Schema, entry: &Entry) -> Self {
        let values = group::members(schema, entry);
        let members = match schema.members {
            Members::Dns => values.map(dn::normalised).collect(),
            Members::Names | Members::Asked => group::names(values).into_iter().map(String::from).collect(),
        };
        let claims = group::claims(schema, std::slice::from_ref(entry));
        let claim = claims.map(|mut claims| claims.pop()).map_err(|e| e.0);
        Self {
            dn: entry.guid.clone().unwrap_or_else(|| dn::normalised(&entry.dn)),
            name: group::group_name(schema, entry).filter(|_| claim != Ok(None)),
            nameless: entry.values(&schema.group_name.key).is_empty(),
            claim,
            members,
            sid: None,
            wanted: true,
        }
    }

    /// Active Directory's. What is not wanted here is there for whom it has for its members.
    pub(super) fn of_domain(schema: &Schema, entry: &Entry, wanted: bool, members: Vec<String>) -> Self {
        let of_it = Self { members, sid: entry.sid(), wanted, ..Self::of(schema, entry) };
        // Nobody's token shows the groups that each server has for itself.
        if wanted && !entry.is_of_no_domain() {
            return of_it;
        }
        Self { name: None, nameless: false, claim: Ok(None), ..of_it }
    }
}

/// Whether nothing but her groups differs.
pub(super) fn same_person(a: &PersonEntry, b: &PersonEntry) -> bool {
    let same = match (&a.person, &b.person) {
        (Ok(Some(a)), Ok(Some(b))) => {
            let Person { provider: _, name, key, full_name, uid, gid, home, shell, groups: _, also_in: _, standing } =
                a;
            (name, key, full_name, uid, gid) == (&b.name, &b.key, &b.full_name, &b.uid, &b.gid)
                && (home, shell, standing) == (&b.home, &b.shell, &b.standing)
        }
        (a, b) => a == b,
    };
    same && (&a.dn, &a.name, a.nameless, a.primary) == (&b.dn, &b.name, b.nameless, b.primary)
}
