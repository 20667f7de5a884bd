//! What a person's entry says. Pure: entries in, model out.
//!
//! It is passed on as it is, hostile or not; the engine vets it and audits what it refuses. Only what the
//! model cannot hold at all (an illegal name) is dropped here, and what cannot be known (an id that is not
//! readable) is "unavailable": to derive another id in its place would give her files to somebody else.

use super::aging::Aging;
use super::entry::Entry;
use super::schema::{Attribute, Schema, issuer};
use crate::config::LdapIds;
use crate::model::{DirectoryId, Person, PersonKey, Sid, Standing, Unavailable, dn};
use crate::provider::Who;
use chrono::NaiveDate;
use gpuhub_common::name::UserName;

const SECONDS_A_DAY: i64 = 86_400;

/// `pwdAccountLockedTime` is when the account was locked; for how long is written in a policy
/// that we cannot see from here. Such a lock counts for a day, and the server has the last word
/// whenever there is a password to ask it about.
const RECENT_S: i64 = SECONDS_A_DAY;

/// A person, and what is needed to verify her password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Whom to bind as.
    pub(super) dn: String,
    /// She, without her groups.
    pub(super) person: Person,
    /// Whether the lock in her standing is one that ends by itself.
    pub(super) lock_may_be_over: bool,
    /// How old her password may be; no rule where the configuration does not want to know.
    pub(super) aging: Aging,
    /// Who she is where she proves herself, if that is by an attribute of its own.
    pub(super) login: Vec<String>,
}

/// The one person among the entries of a search.
pub(super) fn person(
    schema: &Schema,
    entries: &[Entry],
    who: Who<'_>,
    provider: &str,
    now_s: i64,
) -> Result<Option<Found>, Unavailable> {
    let Some((entry, name)) = entry(schema, entries, who)? else { return Ok(None) };
    if entry.dn.is_empty() {
        return Err(Unavailable("an entry without a name".into()));
    }
    let (standing, lock_may_be_over) = standing(entry, now_s);
    let mut keys = schema.keys.iter().filter_map(|key| entry.only(key)).filter(|id| !id.is_empty());
    let subject = match keys.next() {
        Some(id) => id.to_ascii_lowercase(),
        // Active Directory has no entryUUID; a SID is never given again ([MS-ADTS] 3.1.1.1.9).
        None => entry.sid().map_or_else(|| dn::normalised(&entry.dn), |sid| sid.to_string()),
    };
    let gecos = entry.one(&schema.gecos.key).filter(|g| !g.is_empty());
    let person = Person {
        provider: provider.to_owned(),
        name,
        key: PersonKey { issuer: issuer(provider), subject },
        full_name: gecos.or(entry.one("displayname")).or(entry.one("cn")).unwrap_or_default().to_owned(),
        uid: Some(id(schema, entry, &schema.uid)?),
        gid: Some(match schema.ids {
            LdapIds::Attributes => number(entry, &schema.gid.key)?.into(),
            LdapIds::Sid => sid(entry)?.with_rid(number(entry, "primarygroupid")?).into(),
        }),
        home: entry.one(&schema.home.key).map(str::to_owned),
        shell: entry.one(&schema.shell.key).map(str::to_owned),
        groups: Vec::new(),
        also_in: Vec::new(),
        standing,
    };
    let aging = if schema.shadow { Aging::of(entry) } else { Aging::default() };
    let login = schema.login.as_ref().map(|attribute| entry.texts(&attribute.key)).unwrap_or_default();
    Ok(Some(Found { dn: entry.dn.clone(), person, lock_may_be_over, aging, login }))
}

/// The one entry that is meant, and its name.
pub(super) fn entry<'e>(
    schema: &Schema,
    entries: &'e [Entry],
    who: Who<'_>,
) -> Result<Option<(&'e Entry, UserName)>, Unavailable> {
    // The directory compares without case; we do not.
    let asked = |name: &UserName| !matches!(who, Who::Name(asked) if asked != name);
    let named = entries.iter().filter_map(|e| user_name(schema, e).filter(asked).map(|name| (e, name)));
    single(named, |(e, _)| &e.dn, "people of one name or uid")
}

/// The one name of an entry: of several values the one that is in its DN, or else the first legal one by
/// spelling. The others are nobody's: by an alias somebody would slip past a rule that names her, and
/// which of her names came first would decide who she is.
pub(super) fn user_name(schema: &Schema, entry: &Entry) -> Option<UserName> {
    let values = entry.values(&schema.name.key);
    let naming = dn::naming_value(&entry.dn, &schema.name.key).filter(|n| values.contains(n));
    let naming = naming.and_then(|n| UserName::new(&n).ok());
    naming.or_else(|| values.iter().filter_map(|v| UserName::new(v).ok()).min())
}

/// Never the first of several: which one comes first is the server's mood.
pub(super) fn single<T>(
    items: impl Iterator<Item = T>,
    dn: impl Fn(&T) -> &String,
    what: &str,
) -> Result<Option<T>, Unavailable> {
    let mut items: Vec<T> = items.collect();
    if items.len() > 1 {
        let dns: Vec<_> = items.iter().take(3).map(|i| super::trouble::shortened(dn(i))).collect();
        return Err(Unavailable(format!("{} {what}: {}", items.len(), dns.join("; "))));
    }
    Ok(items.pop())
}

/// What an id is or comes from. Which ids are legal is the engine's to say.
pub(super) fn id(schema: &Schema, entry: &Entry, attribute: &Attribute) -> Result<DirectoryId, Unavailable> {
    match schema.ids {
        LdapIds::Attributes => number(entry, &attribute.key).map(Into::into),
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
    // Active Directory. What is no number is taken for every flag.
    let flags = entry.values("useraccountcontrol").iter().map(|flags| flags.parse::<i64>().unwrap_or(-1));
    if flags.into_iter().any(|flags| flags & ACCOUNT_DISABLE != 0) {
        return (Standing::Locked, false);
    }
    if entry.values("accountexpires").iter().any(|at| has_expired(at, now_s)) {
        return (Standing::Expired, false);
    }
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
    // 389 Directory Server, after too many wrong passwords: until then, or with 1970 until somebody resets that.
    // The attribute stays when it is over; the count does not.
    let ends = entry.values("accountunlocktime").iter().map(|v| generalized_time(v));
    let stands = |ends: Option<i64>| ends.is_none_or(|ends| ends == 0 || now_s < ends);
    if entry.only("passwordretrycount") != Some("0") && ends.into_iter().any(stands) {
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

/// The flag in userAccountControl of an account that is disabled ([MS-ADTS] 2.2.16).
const ACCOUNT_DISABLE: i64 = 2;

/// accountExpires ([MS-ADA1] 2.1): tenths of microseconds since 1601; 0 and the largest number: never.
fn has_expired(text: &str, now_s: i64) -> bool {
    const SECONDS_FROM_1601_TO_1970: i64 = 11_644_473_600;
    match text.parse::<i64>() {
        Ok(0 | i64::MAX) => false,
        Ok(at) => at / 10_000_000 - SECONDS_FROM_1601_TO_1970 <= now_s,
        // What is no number cannot be in the future.
        Err(_) => true,
    }
}

/// The day since 1970, as shadow(5) counts.
pub(super) fn today(now_s: i64) -> i64 {
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

#[cfg(test)]
#[path = "person_tests.rs"]
mod tests;
