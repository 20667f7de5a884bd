//! Whether verified claims are those of whom a sign-in is for.
//!
//! Of somebody of a directory they must have one of the values that her entry has ([`Join`]). An address counts only if
//! it is verified, and has no case, as the directory's `mail` has none. Anything else is compared exactly, but for names
//! that have no case at the provider (`lowercase_names`).

use super::names;
use super::token::Claims;
use crate::config::{ClaimPath, OidcConfig, is_email};
use crate::model::{Denied, Reason};
use crate::provider::join::{By, Join, Sought};
use gpuhub_common::name::UserName;
use serde_json::Value;

/// Her name here, if they are hers.
pub fn name(config: &OidcConfig, claims: &Claims, sought: Sought<'_>) -> Result<UserName, Denied> {
    let wrong = |detail: String| Err(Denied::because(Reason::WrongSubject, detail));
    let name = sought.name;
    let by_name = |is_she: &dyn Fn(&UserName) -> bool| {
        let there = names::name(config, claims)?;
        if is_she(&there) { Ok(name.clone()) } else { wrong(format!("signed in as {there}")) }
    };
    match sought.by {
        By::Key => Ok(name.clone()),
        By::Name => by_name(&|there| there == name),
        By::Join(Join { claim: None, values }) => by_name(&|there| values.iter().any(|v| v == there.as_str())),
        By::Join(Join { claim: Some(claim), values }) => {
            let said = said(config, claims, claim)?;
            let is_it = |value: &String| match has_no_case(config, claim) {
                true => value.eq_ignore_ascii_case(&said),
                false => *value == said,
            };
            // An empty one would equal an empty one (CVE-2026-87853).
            if !said.is_empty() && values.iter().any(is_it) {
                return Ok(name.clone());
            }
            wrong(format!("signed in with the {claim} {}", said.chars().take(100).collect::<String>()))
        }
    }
}

/// Whether userinfo should be asked for what this needs and the ID token leaves out.
pub fn lacks(claims: &Claims, sought: Sought<'_>) -> bool {
    let By::Join(Join { claim: Some(claim), .. }) = sought.by else { return false };
    let is_absent = |value: Option<&Value>| value.is_none_or(Value::is_null);
    is_absent(claim.get(claims)) || (is_email(claim) && is_absent(claims.get("email_verified")))
}

fn said(config: &OidcConfig, claims: &Claims, claim: &ClaimPath) -> Result<String, Denied> {
    if is_email(claim) {
        return names::verified_email(config, claims).map(|(local, domain)| format!("{local}@{domain}"));
    }
    match claim.get(claims) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) if number.is_u64() => Ok(number.to_string()),
        Some(Value::Null) | None => {
            Err(Denied::because(Reason::WrongSubject, format!("the claim {claim} is not there")))
        }
        Some(_) => {
            Err(Denied::because(Reason::WrongSubject, format!("the claim {claim} is neither a text nor a number")))
        }
    }
}

fn has_no_case(config: &OidcConfig, claim: &ClaimPath) -> bool {
    is_email(claim) || (config.lowercase_names && config.name_claims.contains(claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PersonKey;
    use crate::provider::oidc::claims;
    use crate::provider::oidc::trial::{ANYONE, config, of_kind};
    use serde_json::json;

    fn joined(lines: &str, claim: Option<&str>, values: &[&str], claims: Value) -> Result<PersonKey, Reason> {
        joined_at(&config(lines), claim, values, claims)
    }

    fn joined_at(
        config: &OidcConfig,
        claim: Option<&str>,
        values: &[&str],
        claims: Value,
    ) -> Result<PersonKey, Reason> {
        let Value::Object(mut claims) = claims else { panic!("not an object") };
        claims.entry("sub").or_insert(json!("s-1"));
        let alice = UserName::new("alice").unwrap();
        let join = Join {
            claim: claim.map(|c| ClaimPath::parse(c).unwrap()),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        };
        let sought = Sought { name: &alice, by: By::Join(&join) };
        let person = claims::person(config, &claims, sought).map_err(|d| d.reason)?;
        assert_eq!(person.name, alice, "the name is the one here");
        Ok(person.key)
    }

    #[test]
    fn by_the_name_that_the_rules_make() {
        let lines = format!("{ANYONE}\nstrip_domains = [\"example.org\"]");
        let at = |name: &str| joined(&lines, None, &["alice", "a.archer"], json!({"preferred_username": name}));
        for good in ["alice", "alice@example.org", "a.archer"] {
            assert_eq!(at(good).unwrap().subject, "s-1", "{good}");
        }
        for other in ["bob", "Alice", "alice@evil.example", ""] {
            assert_eq!(at(other), Err(Reason::WrongSubject), "{other}");
        }
    }

    #[test]
    fn by_a_claim_exactly() {
        let at = |number: Value| {
            joined(
                ANYONE,
                Some("hr.number"),
                &["A-17", "4711"],
                json!({"preferred_username": "x", "hr": {"number": number}}),
            )
        };
        for good in [json!("A-17"), json!("4711"), json!(4711)] {
            assert!(at(good.clone()).is_ok(), "{good}");
        }
        for other in [
            json!("a-17"),
            json!("A-17 "),
            json!("A-1"),
            json!("A-177"),
            json!(4711.0),
            json!(-4711),
            json!(["A-17"]),
            json!(null),
            json!(""),
            json!(true),
            json!({"A-17": 1}),
        ] {
            assert_eq!(at(other.clone()), Err(Reason::WrongSubject), "{other}");
        }
        assert_eq!(joined(ANYONE, Some("hr.number"), &["A-17"], json!({})), Err(Reason::WrongSubject));
    }

    #[test]
    fn nothing_is_nobodys() {
        for values in [&[][..], &[""]] {
            assert_eq!(joined(ANYONE, Some("oid"), values, json!({"oid": ""})), Err(Reason::WrongSubject));
        }
        assert_eq!(joined(ANYONE, None, &[], json!({"preferred_username": "alice"})), Err(Reason::WrongSubject));
    }

    #[test]
    fn by_an_address_that_is_verified() {
        let at = |email: &str, verified: Value| {
            joined(
                ANYONE,
                Some("email"),
                &["A.Archer@example.org"],
                json!({"email": email, "email_verified": verified}),
            )
        };
        for good in ["A.Archer@example.org", "a.archer@EXAMPLE.org"] {
            assert!(at(good, json!(true)).is_ok(), "{good}");
        }
        assert_eq!(at("b@example.org", json!(true)), Err(Reason::WrongSubject));
        for not in [json!(false), json!(null), json!("yes"), json!(1)] {
            assert_eq!(at("a.archer@example.org", not.clone()), Err(Reason::NotAllowed), "{not}");
        }
        // Google's, of a domain that it does not host: verified once, and perhaps another's by now.
        let google = of_kind("google", "allowed_domains = [\"example.org\"]");
        let claims = |hd: Value| json!({"email": "a@example.org", "email_verified": true, "hd": hd});
        assert!(joined_at(&google, Some("email"), &["a@example.org"], claims(json!("example.org"))).is_ok());
        assert_eq!(joined_at(&google, Some("email"), &["a@example.org"], claims(json!(null))), Err(Reason::NotAllowed));
    }

    #[test]
    fn names_without_case_are_compared_without() {
        let claims = || json!({"upn": "Alice@Corp.example", "oid": "AA"});
        let lines = |more: &str| format!("{ANYONE}\nname_claim = \"upn\"\nname_pattern = \".*\"\n{more}");
        let values = &["alice@corp.example", "aa"];
        assert!(joined(&lines("lowercase_names = true"), Some("upn"), values, claims()).is_ok());
        assert_eq!(joined(&lines(""), Some("upn"), values, claims()), Err(Reason::WrongSubject));
        assert_eq!(joined(&lines("lowercase_names = true"), Some("oid"), values, claims()), Err(Reason::WrongSubject));
    }

    #[test]
    fn the_providers_own_restrictions_hold() {
        let claims = |group: &str| json!({"oid": "1", "groups": [group]});
        let lines = "required_groups = [\"gpu\"]";
        assert!(joined(lines, Some("oid"), &["1"], claims("gpu")).is_ok());
        assert_eq!(joined(lines, Some("oid"), &["1"], claims("hr")), Err(Reason::NotAllowed));
    }

    #[test]
    fn what_userinfo_is_asked_for() {
        let alice = UserName::new("alice").unwrap();
        let lacks = |claim: Option<&str>, claims: Value| {
            let join = Join { claim: claim.map(|c| ClaimPath::parse(c).unwrap()), values: Vec::new() };
            lacks(claims.as_object().unwrap(), Sought { name: &alice, by: By::Join(&join) })
        };
        assert!(!lacks(None, json!({})));
        assert!(lacks(Some("oid"), json!({})) && lacks(Some("oid"), json!({"oid": null})));
        assert!(!lacks(Some("oid"), json!({"oid": "1"})));
        assert!(lacks(Some("email"), json!({"email": "a@x.example"})));
        assert!(!lacks(Some("email"), json!({"email": "a@x.example", "email_verified": false})));
    }
}
