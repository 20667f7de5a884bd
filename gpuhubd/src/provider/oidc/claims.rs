//! From verified claims to a person.
//!
//! The token says who signed in; it must be who was asked for. A device login that only looked at
//! the domain let everybody of an organisation be anybody (GHSA-pmxh-j4r6-88mv).

use super::groups::Groups;
use super::token::Claims;
use super::{join, names};
use crate::config::{ClaimPath, OidcConfig, is_email};
use crate::model::{Denied, DirectoryId, Person, PersonKey, Reason, Standing};
use crate::provider::join::Sought;
use serde_json::Value;

/// The claims of an e-mail address (OpenID Connect Core §5.1). They belong together: an address
/// from one source is never taken for verified because another source verified something.
const EMAIL: [&str; 2] = ["email", "email_verified"];

/// Of GitHub's people: the organisations that they are admitted for.
pub const ORGANIZATIONS: &str = "organizations";

/// Longest subject (OpenID Connect Core §2: "MUST NOT exceed 255 ASCII characters").
const MAX_SUBJECT: usize = 255;

/// Whether userinfo should be asked for what the ID token leaves out.
pub fn lacks(config: &OidcConfig, claims: &Claims) -> bool {
    let absent = |claim: &ClaimPath| claim.get(claims).is_none();
    let lacks = config.name_claims.first().is_some_and(absent)
        || config.groups_claims.iter().any(absent)
        || [&config.uid_claim, &config.gid_claim].into_iter().flatten().any(absent)
        || (needs_email(config) && EMAIL.iter().any(|name| claims.get(*name).is_none_or(Value::is_null)));
    lacks && config.profile.has_userinfo
}

/// Whether an address decides anything.
pub fn needs_email(config: &OidcConfig) -> bool {
    !config.allowed_domains.is_empty() || config.name_claims.iter().any(is_email)
}

/// Adds what userinfo says to what the ID token leaves out.
pub fn complete(claims: &mut Claims, mut userinfo: Claims) {
    if EMAIL.iter().any(|name| claims.get(*name).is_none_or(Value::is_null)) {
        for name in EMAIL {
            claims.remove(name);
        }
    } else {
        for name in EMAIL {
            userinfo.remove(name);
        }
    }
    for (name, value) in userinfo {
        let known = claims.entry(name).or_insert(Value::Null);
        if known.is_null() {
            *known = value;
        }
    }
}

/// The person of these claims, who must be whom they are for, and be let in by the provider's own restrictions.
pub fn person(config: &OidcConfig, claims: &Claims, sought: Sought<'_>) -> Result<Person, Denied> {
    let (person, barred) = described(config, claims, sought)?;
    barred.map(|()| person)
}

/// The same person, let in or not.
pub fn known(config: &OidcConfig, claims: &Claims, sought: Sought<'_>) -> Result<Person, Denied> {
    let (person, barred) = described(config, claims, sought)?;
    let standing = if barred.is_ok() { Standing::Active } else { Standing::Barred };
    Ok(Person { standing, ..person })
}

/// Her, and what the restrictions say.
fn described(config: &OidcConfig, claims: &Claims, sought: Sought<'_>) -> Result<(Person, Result<(), Denied>), Denied> {
    let subject = subject(config, claims)?;
    let name = join::name(config, claims, sought)?;
    let groups = Groups::of(config, claims)?;
    let barred = restrict(config, claims, &groups);
    let person = Person {
        provider: config.name.clone(),
        name,
        key: PersonKey { issuer: config.issuer.clone(), subject },
        full_name: text(claims, "name").to_owned(),
        uid: id(claims, config.uid_claim.as_ref())?,
        gid: id(claims, config.gid_claim.as_ref())?,
        home: None,
        shell: None,
        groups: groups.servable(&config.group_rules),
        also_in: Vec::new(),
        standing: Standing::Active,
    };
    Ok((person, barred))
}

/// Who she is for good: one claim, or several with a slash between them. Numbers are how some providers without
/// OpenID Connect count their people.
pub fn subject(config: &OidcConfig, claims: &Claims) -> Result<String, Denied> {
    let bad = |claim: &ClaimPath, what| Err(Denied::because(Reason::BadToken, format!("{claim} is {what}")));
    let mut subject = String::new();
    for claim in &config.subject_claims {
        let part = match claim.get(claims) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if number.is_u64() => number.to_string(),
            Some(_) => return bad(claim, "neither a text nor a number"),
            None => return bad(claim, "not there"),
        };
        if part.is_empty() {
            return bad(claim, "empty");
        }
        if !subject.is_empty() {
            subject.push('/');
        }
        subject.push_str(&part);
    }
    match subject.len() {
        1..=MAX_SUBJECT => Ok(subject),
        _ => Err(Denied::because(Reason::BadToken, "no subject, or one that is too long")),
    }
}

/// Whether the provider's own restrictions let her in (`allow_anyone` is having none).
fn restrict(config: &OidcConfig, claims: &Claims, groups: &Groups<'_>) -> Result<(), Denied> {
    let refused = |what: &str| Err(Denied::because(Reason::NotAllowed, what));
    if !config.allowed_domains.is_empty() {
        let (_, domain) = names::verified_email(config, claims)?;
        if !names::is_among(&config.allowed_domains, domain) {
            return refused("the e-mail's domain is not among allowed_domains");
        }
    }
    if !config.hosted_domains.is_empty() && !names::is_among(&config.hosted_domains, text(claims, "hd")) {
        return refused("hd is not among hosted_domains");
    }
    if !config.organizations.is_empty() && claims.get(ORGANIZATIONS).and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        return refused("a member of none of the allowed organisations");
    }
    if !config.required_groups.is_empty() && !config.required_groups.iter().any(|g| groups.has(g)) {
        return refused("in none of required_groups");
    }
    Ok(())
}

/// The id that a claim fixes. One that is configured must be there: computed in its place, another id
/// would be hers for good.
fn id(claims: &Claims, claim: Option<&ClaimPath>) -> Result<Option<DirectoryId>, Denied> {
    let Some(claim) = claim else { return Ok(None) };
    let id = match claim.get(claims) {
        Some(Value::Number(n)) => n.as_u64().and_then(|n| u32::try_from(n).ok()),
        // Keycloak gives attributes of its users as text unless it is told their type.
        Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    match id {
        Some(id) => Ok(Some(id.into())),
        None => Err(Denied::because(Reason::EntryRefused, format!("the claim {claim} is no id"))),
    }
}

/// A claim that is a text; any other is an empty one.
pub fn text<'c>(claims: &'c Claims, claim: &str) -> &'c str {
    claims.get(claim).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oidc::trial::{ANYONE, config, login, refused};
    use serde_json::json;

    const DOMAIN: &str = "allowed_domains = [\"example.org\"]";

    #[test]
    fn the_person_asked_for() {
        let claims = json!({"preferred_username": "alice", "name": "Alice A", "groups": ["/ml", "gpu-users", "ml"]});
        let p = login(ANYONE, "alice", claims).unwrap();
        assert_eq!((p.name.as_str(), p.full_name.as_str(), p.provider.as_str()), ("alice", "Alice A", "sso"));
        assert_eq!(p.key, PersonKey { issuer: "https://sso.example".into(), subject: "s-1".into() });
        assert_eq!((p.uid, p.gid, p.home, p.shell), (None, None, None, None));
        let groups: Vec<_> = p.groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(groups, ["gpu-users", "ml"]);
    }

    #[test]
    fn a_claim_may_fix_her_ids() {
        let ids = "allow_anyone = true\nuid_claim = \"uid_number\"\ngid_claim = \"gid_number\"";
        let alice =
            |uid: Value, gid: Value| json!({"preferred_username": "alice", "uid_number": uid, "gid_number": gid});
        let p = login(ids, "alice", alice(json!(20001), json!("20100"))).unwrap();
        assert_eq!((p.uid, p.gid), (Some(20001.into()), Some(20100.into())));
        for odd in [
            json!(null),
            json!(-1),
            json!(1.5),
            json!(4294967296u64),
            json!("0x10"),
            json!(""),
            json!([1]),
            json!("+1"),
        ] {
            assert_eq!(refused(ids, "alice", alice(odd.clone(), json!(1))), Reason::EntryRefused, "{odd}");
            assert_eq!(refused(ids, "alice", alice(json!(1), odd)), Reason::EntryRefused);
        }
        assert!(lacks(&config(ids), json!({"preferred_username": "a", "groups": []}).as_object().unwrap()));
    }

    #[test]
    fn the_domain_counts_for_every_name_claim() {
        let alice = |email: Value, verified: Value| json!({"preferred_username": "alice", "email": email, "email_verified": verified});
        assert!(login(DOMAIN, "alice", alice(json!("a.archer@example.org"), json!(true))).is_ok());
        assert_eq!(refused(DOMAIN, "alice", alice(json!("a@evil.example"), json!(true))), Reason::NotAllowed);
        assert_eq!(refused(DOMAIN, "alice", alice(json!("a@example.org"), json!(false))), Reason::NotAllowed);
        assert_eq!(refused(DOMAIN, "alice", json!({"preferred_username": "alice"})), Reason::NotAllowed);
    }

    #[test]
    fn userinfo_fills_gaps_and_changes_nothing() {
        let object = |v: Value| v.as_object().unwrap().clone();
        let mut claims = object(json!({"sub": "s", "preferred_username": "alice", "groups": null}));
        complete(&mut claims, object(json!({"sub": "t", "preferred_username": "bob", "groups": ["ml"], "name": "A"})));
        assert_eq!(claims["sub"], "s");
        assert_eq!(claims["preferred_username"], "alice");
        assert_eq!((&claims["groups"], &claims["name"]), (&json!(["ml"]), &json!("A")));
    }

    #[test]
    fn an_address_is_verified_only_by_who_gave_it() {
        let object = |v: Value| v.as_object().unwrap().clone();
        let mut claims = object(json!({"email": "alice@example.org"}));
        complete(&mut claims, object(json!({"email": "mallory@evil.example", "email_verified": true})));
        assert_eq!(claims["email"], "mallory@evil.example");
        let mut claims = object(json!({"email": "alice@example.org"}));
        complete(&mut claims, object(json!({"email_verified": true})));
        assert!(!claims.contains_key("email"));
        let mut claims = object(json!({"email": "a@example.org", "email_verified": false}));
        complete(&mut claims, object(json!({"email": "a@example.org", "email_verified": true})));
        assert_eq!(claims["email_verified"], false);
    }

    #[test]
    fn userinfo_is_asked_only_for_what_is_used() {
        let object = |v: Value| v.as_object().unwrap().clone();
        let full = object(json!({"preferred_username": "a", "groups": []}));
        assert!(!lacks(&config(ANYONE), &full));
        assert!(lacks(&config(DOMAIN), &full));
        assert!(lacks(&config(ANYONE), &object(json!({"preferred_username": "a"}))));
        assert!(lacks(&config(ANYONE), &object(json!({"groups": []}))));
    }
}
