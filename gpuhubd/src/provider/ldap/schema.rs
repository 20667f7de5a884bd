//! RFC 2307: which entries are people and groups, and what they say. Pure: entries in, model out.
//!
//! What an entry says is passed on as it is, hostile or not; the engine vets it and audits what
//! it refuses. Only what the model cannot hold at all (an illegal name) is dropped here, and what
//! cannot be known (an id that is not readable) is "unavailable": to derive another id in its
//! place would give her files to somebody else.
//!
//! Ids are the numbers of RFC 2307, or those that sssd computes from Active Directory's SIDs
//! ([`LdapIds`]).

use super::dn;
use super::entry::Entry;
use crate::config::LdapIds;
use crate::model::{DirectoryGroup, DirectoryId, GroupClaim, Person, PersonKey, Sid, Standing, Unavailable};
use crate::provider::{Which, Who};
use chrono::NaiveDate;
use gpuhub_common::name::{GroupName, UserName};
use ldap3::ldap_escape;

/// Asked of a person's entry. The last three are operational: only who names them gets them.
pub(super) const PERSON: &[&str] = &[
    "uid",
    "uidNumber",
    "gidNumber",
    "objectSid",
    "primaryGroupID",
    "cn",
    "gecos",
    "homeDirectory",
    "loginShell",
    "shadowExpire",
    "entryUUID",
    "pwdAccountLockedTime",
    "nsAccountLock",
];

/// Asked of the groups of somebody: not their members.
pub(super) const GROUP_OF_PERSON: &[&str] = &["cn", "gidNumber", "objectSid"];

/// Asked of a group's entry.
pub(super) const GROUP: &[&str] = &["cn", "gidNumber", "objectSid", "memberUid"];

/// Any person: for the doctor.
pub(super) const ANY_PERSON: &str = "(objectClass=posixAccount)";

const SECONDS_A_DAY: i64 = 86_400;

/// `pwdAccountLockedTime` is when the account was locked; for how long is written in a policy
/// that we cannot see from here. Such a lock counts for a day, and the server has the last word
/// whenever there is a password to ask it about.
const RECENT_S: i64 = SECONDS_A_DAY;

/// The filter for a person; `None`: an id that nobody of this directory can have.
pub(super) fn person_filter(who: Who<'_>, ids: LdapIds) -> Option<String> {
    Some(match who {
        Who::Name(name) => person_by_name(name.as_str()),
        Who::Uid(uid, sid) => format!("(&(objectClass=posixAccount){})", id_filter("uidNumber", uid, sid, ids)?),
    })
}

fn id_filter(attribute: &str, id: u32, sid: Option<Sid>, ids: LdapIds) -> Option<String> {
    match ids {
        LdapIds::Attributes => Some(format!("({attribute}={id})")),
        LdapIds::Sid => {
            let bytes = sid?.to_bytes().iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
            Some(format!("(objectSid={bytes})"))
        }
    }
}

/// The filter for somebody of this name, whatever it is.
pub(super) fn person_by_name(name: &str) -> String {
    format!("(&(objectClass=posixAccount)(uid={}))", ldap_escape(name))
}

/// The filter for whoever has one of these names.
pub(super) fn people_by_name(names: &[UserName]) -> String {
    let any = names.iter().fold(String::new(), |text, n| text + &format!("(uid={})", ldap_escape(n.as_str())));
    format!("(&(objectClass=posixAccount)(|{any}))")
}

/// The filter for the groups of this member.
pub(super) fn groups_of(name: &str) -> String {
    format!("(&(objectClass=posixGroup)(memberUid={}))", ldap_escape(name))
}

/// The filter for a group; `None` as for a person.
pub(super) fn group_filter(which: Which<'_>, ids: LdapIds) -> Option<String> {
    Some(match which {
        Which::Name(name) => format!("(&(objectClass=posixGroup)(cn={}))", ldap_escape(name.as_str())),
        Which::Gid(gid, sid) => format!("(&(objectClass=posixGroup){})", id_filter("gidNumber", gid, sid, ids)?),
    })
}

/// A person, and what is needed to verify her password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whom to bind as.
    pub(super) dn: String,
    /// She, without her groups.
    pub(super) person: Person,
    /// Whether the lock in her standing is one that ends by itself.
    pub(super) lock_may_be_over: bool,
}

/// The one person among the entries of a search.
pub(super) fn person(
    entries: &[Entry],
    who: Who<'_>,
    ids: LdapIds,
    provider: &str,
    now_s: i64,
) -> Result<Option<Found>, Unavailable> {
    // The directory compares without case; we do not.
    let named = entries.iter().filter_map(|e| user_name(e, who).map(|name| (e, name)));
    let Some((entry, name)) = single(named, |(e, _)| &e.dn, "people of one name or uid")? else { return Ok(None) };
    if entry.dn.is_empty() {
        return Err(Unavailable("an entry without a name".into()));
    }
    let (standing, lock_may_be_over) = standing(entry, now_s);
    let subject = match entry.only("entryuuid").filter(|id| !id.is_empty()) {
        Some(id) => id.to_ascii_lowercase(),
        // Active Directory has no entryUUID; a SID is never given again ([MS-ADTS] 3.1.1.1.9).
        None => entry.sid().map_or_else(|| dn::normalised(&entry.dn), |sid| sid.to_string()),
    };
    let person = Person {
        provider: provider.to_owned(),
        name,
        key: PersonKey { issuer: issuer(provider), subject },
        full_name: entry.one("gecos").filter(|g| !g.is_empty()).or(entry.one("cn")).unwrap_or_default().to_owned(),
        uid: Some(id(entry, "uidnumber", ids)?),
        gid: Some(match ids {
            LdapIds::Attributes => id(entry, "gidnumber", ids)?,
            LdapIds::Sid => sid(entry)?.with_rid(number(entry, "primarygroupid")?).into(),
        }),
        home: entry.one("homedirectory").map(str::to_owned),
        shell: entry.one("loginshell").map(str::to_owned),
        groups: Vec::new(),
        standing,
    };
    Ok(Some(Found { dn: entry.dn.clone(), person, lock_may_be_over }))
}

/// The groups of somebody, sorted. Groups of illegal names are left out.
pub(super) fn claims(entries: &[Entry], ids: LdapIds) -> Result<Vec<GroupClaim>, Unavailable> {
    let mut claims = Vec::new();
    for entry in entries {
        if let Some(name) = group_name(entry, None) {
            claims.push(GroupClaim { name, gid: Some(id(entry, "gidnumber", ids)?) });
        }
    }
    claims.sort_unstable();
    claims.dedup();
    Ok(claims)
}

/// The one group among the entries of a search.
pub(super) fn group(entries: &[Entry], which: Which<'_>, ids: LdapIds) -> Result<Option<DirectoryGroup>, Unavailable> {
    let asked = match which {
        Which::Name(name) => Some(name),
        Which::Gid(..) => None,
    };
    let named = entries.iter().filter_map(|e| group_name(e, asked).map(|name| (e, name)));
    let Some((entry, name)) = single(named, |(e, _)| &e.dn, "groups of one name or gid")? else { return Ok(None) };
    let mut members: Vec<_> = entry.values("memberuid").iter().filter_map(|m| UserName::new(m).ok()).collect();
    members.sort_unstable();
    members.dedup();
    let claim = GroupClaim { name, gid: Some(id(entry, "gidnumber", ids)?) };
    Ok(Some(DirectoryGroup { claim, members }))
}

/// Never the first of several: which one comes first is the server's mood.
fn single<T>(items: impl Iterator<Item = T>, dn: impl Fn(&T) -> &String, what: &str) -> Result<Option<T>, Unavailable> {
    let mut items: Vec<T> = items.collect();
    if items.len() > 1 {
        let dns: Vec<_> = items.iter().take(3).map(|i| super::trouble::shortened(dn(i))).collect();
        return Err(Unavailable(format!("{} {what}: {}", items.len(), dns.join("; "))));
    }
    Ok(items.pop())
}

/// The one name of an entry: of several values the one that is in its DN, or else the first legal one by
/// spelling. The others are nobody's: by an alias somebody would slip past a rule that names her, and
/// which of her names came first would decide who she is.
fn user_name(entry: &Entry, who: Who<'_>) -> Option<UserName> {
    let values = entry.values("uid");
    let naming = dn::naming_value(&entry.dn, "uid").filter(|n| values.contains(n));
    let naming = naming.and_then(|n| UserName::new(&n).ok());
    let name = naming.or_else(|| values.iter().filter_map(|v| UserName::new(v).ok()).min());
    name.filter(|name| !matches!(who, Who::Name(asked) if asked != name))
}

/// The same of a group.
fn group_name(entry: &Entry, asked: Option<&GroupName>) -> Option<GroupName> {
    let values = entry.values("cn");
    let naming = dn::naming_value(&entry.dn, "cn").filter(|n| values.contains(n));
    let naming = naming.and_then(|n| GroupName::new(&n).ok());
    let name = naming.or_else(|| values.iter().filter_map(|v| GroupName::new(v).ok()).min());
    name.filter(|name| asked.is_none_or(|asked| asked == name))
}

/// What her id is or comes from. Which ids are legal is the engine's to say.
fn id(entry: &Entry, attribute: &str, ids: LdapIds) -> Result<DirectoryId, Unavailable> {
    match ids {
        LdapIds::Attributes => number(entry, attribute).map(Into::into),
        LdapIds::Sid => sid(entry).map(Into::into),
    }
}

fn sid(entry: &Entry) -> Result<Sid, Unavailable> {
    entry.sid().ok_or_else(|| unreadable(entry, "objectSid"))
}

/// Exactly one value, digits.
fn number(entry: &Entry, attribute: &str) -> Result<u32, Unavailable> {
    let text = entry.only(attribute).unwrap_or_default();
    match text.parse() {
        Ok(id) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(id),
        _ => Err(unreadable(entry, attribute)),
    }
}

fn unreadable(entry: &Entry, attribute: &str) -> Unavailable {
    Unavailable(format!("{} has no single readable {attribute}", super::trouble::shortened(&entry.dn)))
}

/// Whether she may log in, and whether a lock may be over by itself.
fn standing(entry: &Entry, now_s: i64) -> (Standing, bool) {
    // 389 Directory Server and FreeIPA.
    if entry.values("nsaccountlock").iter().any(|v| v.eq_ignore_ascii_case("true")) {
        return (Standing::Locked, false);
    }
    let locks = entry.values("pwdaccountlockedtime");
    // "000001010000Z": locked by the administrator, for good (draft-behera §5.3.3).
    if locks.iter().any(|v| v.starts_with("0000")) {
        return (Standing::Locked, false);
    }
    // What is not a time is taken for a lock that stands.
    if locks.iter().any(|v| generalized_time(v).is_none_or(|at| now_s - at < RECENT_S)) {
        return (Standing::Locked, true);
    }
    // Days since 1970, of which the first is already too late; 0 is one of them (CVE-2026-104033).
    // Negative: never. What is no number cannot be in the future.
    let over = |v: &String| v.trim().parse::<i128>().map_or(true, |day| (0..=i128::from(today(now_s))).contains(&day));
    if entry.values("shadowexpire").iter().any(over) {
        return (Standing::Expired, false);
    }
    (Standing::Active, false)
}

fn today(now_s: i64) -> i64 {
    now_s.div_euclid(SECONDS_A_DAY)
}

/// GeneralizedTime in UTC (RFC 4517 §3.3.13) as seconds since 1970. A fraction is dropped.
fn generalized_time(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    let digits = digits.split(['.', ',']).next()?;
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(digits.get(0..4)?.parse().ok()?, part(4..6)?, part(6..8)?)?;
    let time = date.and_hms_opt(part(8..10)?, part(10..12)?, part(12..14)?.min(59))?;
    Some(time.and_utc().timestamp())
}

/// The issuer in the keys of a provider's people.
pub fn issuer(provider: &str) -> String {
    format!("ldap:{provider}")
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
