//! The groups that claims give.

use super::token::Claims;
use crate::config::{ClaimPath, GroupRule, OidcConfig};
use crate::model::{Denied, GroupClaim, Reason};
use gpuhub_common::name::{GroupName, is_power_group};
use serde_json::Value;
use std::collections::BTreeSet;

/// The groups as the provider calls them, without the `/` that Keycloak begins its paths with, and the claim that
/// each is in.
#[derive(Debug)]
pub struct Groups<'c>(Vec<(&'c ClaimPath, BTreeSet<&'c str>)>);

impl<'c> Groups<'c> {
    /// Those of all the claims that list groups. A claim of another shape is refused, and so is one that is kept
    /// somewhere else: taken for "no groups", it would get past a rule that forbids one.
    pub fn of(config: &'c OidcConfig, claims: &'c Claims) -> Result<Self, Denied> {
        let lists = config.groups_claims.iter().map(|claim| match claim.get(claims) {
            None if is_elsewhere(claims, claim) => Err(Denied::because(
                Reason::NotAllowed,
                format!("more of the claim {claim} than the token has room for"),
            )),
            value => Ok((claim, list(value, claim)?)),
        });
        lists.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the provider has her in it.
    pub fn has(&self, group: &str) -> bool {
        self.0.iter().any(|(_, groups)| groups.contains(group))
    }

    /// Those that may be served: as the rules say, of a legal name, and none that gives power by its name alone
    /// (CVE-2025-49012).
    pub fn servable(&self, rules: &[GroupRule]) -> Vec<GroupClaim> {
        let all = self.0.iter().flat_map(|(claim, groups)| groups.iter().map(move |g| (claim, g)));
        let names = all.filter_map(|(claim, group)| GroupRule::name(rules, claim, group));
        let legal = names.filter(|g| !is_power_group(g.as_bytes())).filter_map(|g| GroupName::new(&g).ok());
        let sorted: BTreeSet<_> = legal.map(|name| GroupClaim { name, gid: None }).collect();
        sorted.into_iter().collect()
    }
}

/// Whether the token says that the claim is to be had from another place (OpenID Connect Core §5.6.2), as Entra does
/// of somebody in more than 200 groups; `hasgroups` is its other word for that.
fn is_elsewhere(claims: &Claims, claim: &ClaimPath) -> bool {
    is_named_elsewhere(claims, claim.outermost())
}

fn is_named_elsewhere(claims: &Claims, claim: &str) -> bool {
    let is_named = |claims: &Value| claims.get(claim).is_some_and(|source| !source.is_null());
    claims.get("_claim_names").is_some_and(is_named)
        || claims.get("hasgroups").is_some_and(|has| !matches!(has, Value::Null | Value::Bool(false)))
}

/// Whether that is so of the claim `groups`.
pub fn are_elsewhere(claims: &Claims) -> bool {
    claims.get("groups").is_none_or(Value::is_null) && is_named_elsewhere(claims, "groups")
}

/// They have been got from there.
pub fn take_off_elsewhere(claims: &mut Claims) {
    claims.remove("hasgroups");
    if let Some(Value::Object(elsewhere)) = claims.get_mut("_claim_names") {
        elsewhere.remove("groups");
    }
}

fn list<'c>(value: Option<&'c Value>, claim: &ClaimPath) -> Result<BTreeSet<&'c str>, Denied> {
    let strip = |text: &'c String| text.strip_prefix('/').unwrap_or(text);
    match value {
        None => Ok(BTreeSet::new()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oidc::trial::{ANYONE, login, refused};
    use serde_json::json;

    const GROUPS: &str = "required_groups = [\"gpu-users\", \"admin\"]";

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
    fn roles_and_groups_by_path_and_rule() {
        let lines = r#"required_groups = ["gpu"]
groups_claim = ["groups", "realm_access.roles", 'resource_access.gpu\.hub.roles']
group_rules = [
  { claim = "realm_access.roles", match = "gpu", name = "role-$0" },
  { claim = "realm_access.roles", match = ".*" },
  { match = "power", name = "sudo" },
  { match = "lab/(.*)", name = "lab.$1" },
]"#;
        let claims = json!({
            "preferred_username": "alice", "groups": ["/lab/vision", "/ml", "power"],
            "realm_access": {"roles": ["gpu", "offline_access"]}, "resource_access": {"gpu.hub": {"roles": ["ml", "ops"]}},
        });
        let groups = login(lines, "alice", claims).unwrap().groups;
        let names: Vec<_> = groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["lab.vision", "ml", "ops", "role-gpu"]);
        let odd = json!({"preferred_username": "alice", "realm_access": {"roles": {"gpu": true}}});
        assert_eq!(refused(lines, "alice", odd), Reason::BadToken);
    }

    #[test]
    fn groups_that_are_kept_elsewhere_are_not_none() {
        let alice = |more: Value| {
            let mut claims = json!({"preferred_username": "alice"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            claims
        };
        for elsewhere in [
            json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}}),
            json!({"hasgroups": true}),
            json!({"hasgroups": "true"}),
        ] {
            assert_eq!(refused(ANYONE, "alice", alice(elsewhere.clone())), Reason::NotAllowed, "{elsewhere}");
            let without = format!("{ANYONE}\ngroups_claim = []");
            assert!(login(&without, "alice", alice(elsewhere)).is_ok(), "nobody asked for groups");
        }
        let others = json!({"_claim_names": {"address": "src1"}, "hasgroups": false});
        assert!(login(ANYONE, "alice", alice(others)).is_ok());
    }
}
