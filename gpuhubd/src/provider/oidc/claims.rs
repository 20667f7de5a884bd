//! From verified claims to a person.
//!
//! The token says who signed in; it must be who was asked for. A device login that only looked at
//! the domain let everybody of an organisation be anybody (GHSA-pmxh-j4r6-88mv).

use super::token::Claims;
use crate::config::OidcConfig;
use crate::model::{Denied, DirectoryId, GroupClaim, Person, PersonKey, Reason, Standing};
use gpuhub_common::name::{GroupName, UserName, is_power_group};
use serde_json::Value;
use std::collections::BTreeSet;

/// The claims of an e-mail address (OpenID Connect Core §5.1). They belong together: an address
/// from one source is never taken for verified because another source verified something.
const EMAIL: [&str; 2] = ["email", "email_verified"];

/// Whether userinfo should be asked for what the ID token leaves out.
pub fn lacks(config: &OidcConfig, claims: &Claims) -> bool {
    let absent = |name: &str| claims.get(name).is_none_or(Value::is_null);
    absent(&config.name_claim)
        || absent(&config.groups_claim)
        || [&config.uid_claim, &config.gid_claim].into_iter().flatten().any(|claim| absent(claim))
        || (needs_email(config) && EMAIL.iter().any(|name| absent(name)))
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

/// The person of these claims, who must be `asked`.
pub fn person(config: &OidcConfig, claims: &Claims, asked: &UserName) -> Result<Person, Denied> {
    let subject = text(claims, "sub");
    if subject.is_empty() {
        return Err(Denied::because(Reason::BadToken, "sub is empty"));
    }
    let name = name(config, claims)?;
    if name != *asked {
        return Err(Denied::because(Reason::WrongSubject, format!("signed in as {name}")));
    }
    let groups = groups(claims, &config.groups_claim)?;
    restrict(config, claims, &groups)?;
    Ok(Person {
        provider: config.name.clone(),
        name,
        key: PersonKey { issuer: config.issuer.clone(), subject: subject.to_owned() },
        full_name: text(claims, "name").to_owned(),
        uid: id(claims, config.uid_claim.as_deref())?,
        gid: id(claims, config.gid_claim.as_deref())?,
        home: None,
        shell: None,
        groups: servable(&groups),
        also_in: Vec::new(),
        standing: Standing::Active,
    })
}

/// The login name that the claims give. There is none that is empty: that would equal an empty
/// one (CVE-2026-87853).
fn name(config: &OidcConfig, claims: &Claims) -> Result<UserName, Denied> {
    let name = if config.name_claim == "email" {
        let (local, domain) = verified_email(claims)?;
        allow_domain(config, domain)?;
        local
    } else {
        text(claims, &config.name_claim)
    };
    UserName::new(name)
        .map_err(|why| Denied::because(Reason::WrongSubject, format!("the claim {} {why}", config.name_claim)))
}

/// Whether the provider's own restrictions let her in (`allow_anyone` is having none).
fn restrict(config: &OidcConfig, claims: &Claims, groups: &BTreeSet<&str>) -> Result<(), Denied> {
    if !config.allowed_domains.is_empty() {
        allow_domain(config, verified_email(claims)?.1)?;
    }
    if !config.required_groups.is_empty() && !config.required_groups.iter().any(|g| groups.contains(g.as_str())) {
        return Err(Denied::because(Reason::NotAllowed, "in none of required_groups"));
    }
    Ok(())
}

fn needs_email(config: &OidcConfig) -> bool {
    config.name_claim == "email" || !config.allowed_domains.is_empty()
}

/// Exactly one of the domains: a subdomain or a longer name is another domain.
fn allow_domain(config: &OidcConfig, domain: &str) -> Result<(), Denied> {
    if config.allowed_domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
        Ok(())
    } else {
        Err(Denied::because(Reason::NotAllowed, "the e-mail's domain is not among allowed_domains"))
    }
}

/// Both halves of an address that the provider says it has verified. An unverified one is
/// whatever its owner typed.
fn verified_email(claims: &Claims) -> Result<(&str, &str), Denied> {
    let verified = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(verified)) => verified == "true",
        _ => false,
    };
    if !verified {
        return Err(Denied::because(Reason::NotAllowed, "the e-mail address is not verified"));
    }
    match text(claims, "email").split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => {
            Ok((local, domain))
        }
        _ => Err(Denied::because(Reason::NotAllowed, "the e-mail address is malformed")),
    }
}

/// The groups as the provider calls them, without the `/` that Keycloak begins its paths with. A
/// claim of another shape is refused: taken for "no groups", it would get past a rule that
/// forbids one.
fn groups<'a>(claims: &'a Claims, claim: &str) -> Result<BTreeSet<&'a str>, Denied> {
    let strip = |text: &'a String| text.strip_prefix('/').unwrap_or(text);
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::String(one)) => Ok(BTreeSet::from([strip(one)])),
        Some(Value::Array(many)) => many
            .iter()
            .map(|group| match group {
                Value::String(group) => Ok(strip(group)),
                _ => Err(Denied::because(Reason::BadToken, format!("the claim {claim} lists what is not a text"))),
            })
            .collect(),
        Some(_) => Err(Denied::because(Reason::BadToken, format!("the claim {claim} is not a list"))),
    }
}

/// Those that may be served: of a legal name, and none that gives power by its name alone
/// (CVE-2025-49012).
fn servable(groups: &BTreeSet<&str>) -> Vec<GroupClaim> {
    let legal = groups.iter().filter(|g| !is_power_group(g.as_bytes())).filter_map(|g| GroupName::new(g).ok());
    legal.map(|name| GroupClaim { name, gid: None }).collect()
}

/// The id that a claim fixes. One that is configured must be there: computed in its place, another id
/// would be hers for good.
fn id(claims: &Claims, claim: Option<&str>) -> Result<Option<DirectoryId>, Denied> {
    let Some(claim) = claim else { return Ok(None) };
    let id = match claims.get(claim) {
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

fn text<'a>(claims: &'a Claims, claim: &str) -> &'a str {
    claims.get(claim).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ProviderConfig};
    use serde_json::json;

    fn config(lines: &str) -> OidcConfig {
        let text = format!(
            "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://sso.example\"\nclient_id = \"c\"\n{lines}\n"
        );
        match Config::parse("test", &text).unwrap().providers.remove(0) {
            ProviderConfig::Oidc(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn login(lines: &str, asked: &str, claims: Value) -> Result<Person, Denied> {
        let Value::Object(mut claims) = claims else { panic!("not an object") };
        claims.entry("sub").or_insert(json!("s-1"));
        person(&config(lines), &claims, &UserName::new(asked).unwrap())
    }

    fn refused(lines: &str, asked: &str, claims: Value) -> Reason {
        login(lines, asked, claims).unwrap_err().reason
    }

    const ANYONE: &str = "allow_anyone = true";
    const EMAIL_NAMES: &str = "name_claim = \"email\"\nallowed_domains = [\"example.org\", \"Lab.Example\"]";
    const DOMAIN: &str = "allowed_domains = [\"example.org\"]";
    const GROUPS: &str = "required_groups = [\"gpu-users\", \"admin\"]";

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
    fn the_domain_counts_for_every_name_claim() {
        let alice = |email: Value, verified: Value| json!({"preferred_username": "alice", "email": email, "email_verified": verified});
        assert!(login(DOMAIN, "alice", alice(json!("a.archer@example.org"), json!(true))).is_ok());
        assert_eq!(refused(DOMAIN, "alice", alice(json!("a@evil.example"), json!(true))), Reason::NotAllowed);
        assert_eq!(refused(DOMAIN, "alice", alice(json!("a@example.org"), json!(false))), Reason::NotAllowed);
        assert_eq!(refused(DOMAIN, "alice", json!({"preferred_username": "alice"})), Reason::NotAllowed);
    }

    #[test]
    fn required_groups() {
        let alice = |groups: Value| json!({"preferred_username": "alice", "groups": groups});
        assert!(login(GROUPS, "alice", alice(json!(["x", "gpu-users"]))).is_ok());
        assert!(login(GROUPS, "alice", alice(json!(["/gpu-users"]))).is_ok());
        assert!(login(GROUPS, "alice", alice(json!("gpu-users"))).is_ok());
        for none in [json!([]), json!(null), json!(["GPU-users"]), json!(["gpu-users-2"]), json!(["x/gpu-users"])] {
            assert_eq!(refused(GROUPS, "alice", alice(none)), Reason::NotAllowed);
        }
        assert_eq!(refused(GROUPS, "alice", json!({"preferred_username": "alice"})), Reason::NotAllowed);
    }

    #[test]
    fn groups_that_give_power_admit_but_are_not_served() {
        let claims = json!({"preferred_username": "alice", "groups": ["admin", "/Sudo", "docker", "a:b", "1000", "a/b", "", "Domain Users"]});
        let groups = login(GROUPS, "alice", claims).unwrap().groups;
        assert_eq!(groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["Domain Users"]);
    }

    #[test]
    fn groups_of_another_shape_are_refused() {
        for odd in [json!({"a": 1}), json!(7), json!(true), json!(["a", 7])] {
            let claims = json!({"preferred_username": "alice", "groups": odd});
            assert_eq!(refused(ANYONE, "alice", claims), Reason::BadToken);
        }
    }

    #[test]
    fn ten_thousand_groups() {
        let groups: Vec<_> = (0..10_000).map(|n| format!("g{n}")).collect();
        let p = login(ANYONE, "alice", json!({"preferred_username": "alice", "groups": groups})).unwrap();
        assert_eq!(p.groups.len(), 10_000);
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
