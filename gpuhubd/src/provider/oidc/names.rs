//! The login name that claims give.
//!
//! ```text
//!   the first of name_claim that is there ── e-mail: verified, of a domain that names people
//!      └─ a domain that is stripped is taken off ── lower case ── name_match, name_template ── name_suffix
//! ```

use super::claims::text;
use super::token::Claims;
use crate::config::{OidcConfig, is_email};
use crate::model::{Denied, Reason};
use gpuhub_common::name::UserName;
use serde_json::Value;

/// The name. There is none that is empty: that would equal an empty one (CVE-2026-87853).
pub fn name(config: &OidcConfig, claims: &Claims) -> Result<UserName, Denied> {
    let wrong = |detail: String| Denied::because(Reason::WrongSubject, detail);
    let is_there = |value: Option<&Value>| value.is_some_and(|v| v.as_str() != Some(""));
    let present = config.name_claims.iter().find(|c| is_there(c.get(claims)));
    let Some(claim) = present.or(config.name_claims.first()) else { return Err(wrong("no name_claim".into())) };
    let mut name = if is_email(claim) {
        let (local, domain) = verified_email(config, claims)?;
        if !config.mail_domains().any(|d| d.eq_ignore_ascii_case(domain)) {
            return Err(Denied::because(
                Reason::NotAllowed,
                "the e-mail's domain is not among strip_domains or allowed_domains",
            ));
        }
        local
    } else {
        // Of another type than a text is none: the next claim is not tried in its place.
        strip(config, claim.get(claims).and_then(Value::as_str).unwrap_or_default())
    }
    .to_owned();
    if config.lowercase_names {
        name.make_ascii_lowercase();
    }
    if let Some((pattern, template)) = &config.name_rule {
        let Some(captures) = pattern.captures(&name) else {
            return Err(wrong(format!("the claim {claim} does not match name_match")));
        };
        name = template.fill_in(&captures);
    }
    if !name.is_empty() {
        name.push_str(&config.name_suffix);
    }
    UserName::new(&name).map_err(|why| wrong(format!("the claim {claim} {why}")))
}

/// Whether somebody of that name may turn up there.
pub fn may_become(config: &OidcConfig, name: &str) -> bool {
    name.strip_suffix(config.name_suffix.as_str()).is_some_and(|name| config.name_pattern.is_match(name))
}

/// Without a domain of strip_domains.
fn strip<'n>(config: &OidcConfig, name: &'n str) -> &'n str {
    match name.rsplit_once('@') {
        Some((local, domain)) if is_among(&config.strip_domains, domain) => local,
        _ => name,
    }
}

/// Exactly one of the domains: a subdomain or a longer name is another domain.
pub fn is_among(domains: &[String], domain: &str) -> bool {
    domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
}

/// Both halves of an address that the provider says it has verified. An unverified one is
/// whatever its owner typed.
pub fn verified_email<'c>(config: &OidcConfig, claims: &'c Claims) -> Result<(&'c str, &'c str), Denied> {
    let refused = |what: &str| Err(Denied::because(Reason::NotAllowed, what));
    let verified = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(verified)) => verified == "true",
        _ => false,
    };
    if !verified {
        return refused("the e-mail address is not verified");
    }
    let (local, domain) = match text(claims, "email").split_once('@') {
        Some(halves @ (local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => halves,
        _ => return refused("the e-mail address is malformed"),
    };
    // Verified once, and kept when she left its organisation, unless the provider hosts it.
    let hosts = config.profile.hosts_mail;
    if !hosts.is_empty() && text(claims, "hd").is_empty() && !hosts.iter().any(|h| h.eq_ignore_ascii_case(domain)) {
        return refused("the e-mail address is not one that the provider hosts (no hd)");
    }
    Ok((local, domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oidc::trial::{ANYONE, config, login, of_kind, refused};
    use serde_json::json;

    const EMAIL_NAMES: &str = "name_claim = \"email\"\nallowed_domains = [\"example.org\", \"Lab.Example\"]";

    #[test]
    fn nobody_else() {
        for other in [
            json!({"preferred_username": "bob"}),
            json!({"preferred_username": "Alice"}),
            json!({"preferred_username": "alice "}),
            json!({"preferred_username": "alic"}),
            json!({"preferred_username": "alice@example.org"}),
            json!({"preferred_username": ""}),
            json!({"preferred_username": null}),
            json!({"preferred_username": ["alice"]}),
            json!({"nickname": "alice"}),
            json!({"preferred_username": "alice\u{0}"}),
            json!({"preferred_username": "alice\n"}),
        ] {
            assert_eq!(refused(ANYONE, "alice", other.clone()), Reason::WrongSubject, "{other}");
        }
        assert_eq!(refused(ANYONE, "alice", json!({"preferred_username": "alice", "sub": ""})), Reason::BadToken);
    }

    #[test]
    fn an_email_names_somebody_only_if_verified_and_of_an_allowed_domain() {
        let email = |address: &str| json!({"email": address, "email_verified": true});
        for good in ["alice@example.org", "alice@EXAMPLE.ORG", "alice@lab.example"] {
            assert_eq!(login(EMAIL_NAMES, "alice", email(good)).unwrap().name.as_str(), "alice", "{good}");
        }
        for bad in [
            "alice@evil.example",
            "alice@example.org.evil.example",
            "alice@sub.example.org",
            "alice@xexample.org",
            "alice@example.org@evil.example",
            "alice@evil.example@example.org",
            "alice@",
            "@example.org",
            "alice",
            "",
        ] {
            assert_eq!(refused(EMAIL_NAMES, "alice", email(bad)), Reason::NotAllowed, "{bad}");
        }
        assert_eq!(refused(EMAIL_NAMES, "alice", email("bob@example.org")), Reason::WrongSubject);
        assert_eq!(refused(EMAIL_NAMES, "alice", email("alice+x@example.org")), Reason::WrongSubject);
        for unverified in [json!(false), json!("false"), json!(null), json!(1), json!("True")] {
            let claims = json!({"email": "alice@example.org", "email_verified": unverified});
            assert_eq!(refused(EMAIL_NAMES, "alice", claims), Reason::NotAllowed);
        }
        assert_eq!(refused(EMAIL_NAMES, "alice", json!({"email": "alice@example.org"})), Reason::NotAllowed);
    }

    #[test]
    fn the_first_claim_that_is_there() {
        let lines = format!("{ANYONE}\nname_claim = [\"nickname\", \"account.name\", \"preferred_username\"]");
        let named = |claims: Value| login(&lines, "alice", claims).map(|p| p.name.to_string());
        let alice = Ok("alice".to_owned());
        assert_eq!(named(json!({"nickname": "alice", "preferred_username": "bob"})), alice);
        assert_eq!(named(json!({"account": {"name": "alice"}, "preferred_username": "bob"})), alice);
        assert_eq!(named(json!({"nickname": "", "account": {"name": null}, "preferred_username": "alice"})), alice);
        for other in [
            json!({"nickname": "bob", "preferred_username": "alice"}),
            json!({"nickname": ["alice"], "preferred_username": "alice"}),
            json!({"account": {"name": 7}, "preferred_username": "alice"}),
        ] {
            assert_eq!(refused(&lines, "alice", other), Reason::WrongSubject);
        }
        // An e-mail address in a list of claims is held to the same.
        let lines =
            "name_claim = [\"preferred_username\", \"email\"]\nstrip_domains = [\"example.org\"]\nallow_anyone = true";
        let email = |verified: bool| json!({"email": "alice@example.org", "email_verified": verified});
        assert!(login(lines, "alice", email(true)).is_ok());
        assert_eq!(refused(lines, "alice", email(false)), Reason::NotAllowed);
    }

    #[test]
    fn domains_are_taken_off_by_list_only() {
        let lines = format!("{ANYONE}\nstrip_domains = [\"example.org\"]");
        let alice = |name: &str| json!({"preferred_username": name});
        for good in ["alice@example.org", "alice@EXAMPLE.org", "alice"] {
            assert!(login(&lines, "alice", alice(good)).is_ok(), "{good}");
        }
        for other in ["alice@evil.example", "alice@sub.example.org", "alice@x@example.org", "@example.org"] {
            assert_eq!(refused(&lines, "alice", alice(other)), Reason::WrongSubject, "{other}");
        }
        assert!(login(&lines, "alice@evil.example", alice("alice@evil.example")).is_ok(), "that is another name");
    }

    #[test]
    fn names_by_pattern_and_template() {
        let lines = format!(
            "{ANYONE}\nname_match = '(?<given>[a-z]+)\\.(?<family>[a-z]+)'\nname_template = '${{family}}-$given'"
        );
        let named = |name: &str| json!({"preferred_username": name});
        assert!(login(&lines, "byron-ada", named("ada.byron")).is_ok());
        assert_eq!(refused(&lines, "byron-ada", named("ada.byron.x")), Reason::WrongSubject);
        assert_eq!(refused(&lines, "ada", named("ada")), Reason::WrongSubject);
        let first = format!("{ANYONE}\nname_match = '([a-z]+)-ext'");
        assert!(login(&first, "ada", named("ada-ext")).is_ok());
        let prefixed = format!("{ANYONE}\nname_template = 'x-$0'\nlowercase_names = true");
        assert!(login(&prefixed, "x-ada", named("Ada")).is_ok());
        // Nothing is made of nothing.
        assert_eq!(refused(&first, "ada", json!({})), Reason::WrongSubject);
        assert_eq!(refused(&format!("{ANYONE}\nname_suffix = '@lab'"), "x", json!({})), Reason::WrongSubject);
    }

    #[test]
    fn a_provider_by_the_end_of_the_name() {
        let config = config(&format!("{ANYONE}\nname_suffix = \"@partner.example\""));
        assert!(may_become(&config, "alice@partner.example"));
        for other in
            ["alice", "alice@partner.example.org", "alice@example.org", "@partner.example", "a@b@partner.example"]
        {
            assert!(!may_become(&config, other), "{other}");
        }
        let lines = format!("{ANYONE}\nname_suffix = \"@partner.example\"");
        assert!(login(&lines, "alice@partner.example", json!({"preferred_username": "alice"})).is_ok());
        assert_eq!(refused(&lines, "alice", json!({"preferred_username": "alice"})), Reason::WrongSubject);
    }

    #[test]
    fn google_vouches_only_for_mail_that_it_hosts() {
        let google = of_kind("google", "allowed_domains = [\"example.org\", \"gmail.com\"]");
        let email = |address: &str, hd: Value| {
            let claims = json!({"email": address, "email_verified": true, "hd": hd});
            name(&google, claims.as_object().unwrap()).map(|n| n.to_string())
        };
        assert_eq!(email("alice@example.org", json!("example.org")).as_deref(), Ok("alice"));
        assert_eq!(email("Alice@gmail.com", json!(null)).as_deref(), Ok("alice"));
        assert_eq!(email("alice@example.org", json!(null)).unwrap_err().reason, Reason::NotAllowed);
        assert_eq!(email("alice@example.org", json!("")).unwrap_err().reason, Reason::NotAllowed);
    }
}
