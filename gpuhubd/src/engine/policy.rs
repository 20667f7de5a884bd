//! Access: who may log in here. Where a rule is written and nothing matches: nobody.

use super::Engine;
use crate::config::{Access, AccessRules};
use crate::model::{Denied, Person, Reason, Standing, dn};
use crate::provider::Origin;
use gpuhub_common::wire::Context;

impl Engine {
    /// The standing of the account, the access rules, and what her directory says of this login.
    pub(super) async fn permit(&self, person: &Person, context: &Context) -> Result<(), Denied> {
        check(&self.rules.access, &context.service, person, self.common_group())?;
        match self.provider(&person.provider) {
            Some(provider) => provider.permits(person, &self.origin(context)).await.inspect_err(|denied| {
                if denied.reason == Reason::NotAllowed {
                    self.forget_admissions(person.name.as_str());
                }
            }),
            None => Err(Denied::because(Reason::Internal, "her provider is not configured")),
        }
    }

    /// The primary group of whoever gets none from her directory.
    pub(super) fn common_group(&self) -> Option<&str> {
        self.rules.primary_group.as_ref().map(|group| group.name.as_str())
    }

    /// What a login says of itself.
    pub(super) fn origin(&self, context: &Context) -> Origin {
        Origin {
            box_name: self.rules.box_name.clone(),
            service: context.service.clone(),
            source: context.source.clone().filter(|s| !s.is_empty()),
        }
    }
}

/// The standing of the account, then the access rules: those for all, and those for the service. `primary`: the
/// primary group of whoever gets none from her directory.
pub(super) fn check(access: &Access, service: &str, person: &Person, primary: Option<&str>) -> Result<(), Denied> {
    match person.standing {
        Standing::Active => {}
        Standing::Locked => return Err(Reason::AccountLocked.into()),
        Standing::Disabled => return Err(Reason::AccountDisabled.into()),
        Standing::Barred => return Err(Denied::because(Reason::NotAllowed, "the provider's restrictions")),
        Standing::Expired => return Err(Reason::AccountExpired.into()),
    }
    let primary = primary.filter(|_| person.gid.is_none());
    obey(&access.rules, "", person, primary)?;
    let of_service = access.service.get(service);
    of_service.map_or(Ok(()), |rules| obey(rules, &format!(" of {service}"), person, primary))
}

fn obey(rules: &AccessRules, whose: &str, person: &Person, primary: Option<&str>) -> Result<(), Denied> {
    let name = person.name.as_str();
    let called: Vec<&str> = person.groups.iter().map(|g| g.name.as_str()).chain(primary).collect();
    let is_in = |rule: &str| {
        called.contains(&rule) || person.also_in.iter().any(|other| other == rule || *other == dn::normalised(rule))
    };
    if rules.deny_users.iter().any(|u| u == name) {
        return Err(Denied::because(Reason::NotAllowed, format!("deny_users{whose}")));
    }
    if let Some(group) = rules.deny_groups.iter().find(|rule| is_in(rule)) {
        return Err(Denied::because(Reason::NotAllowed, format!("deny_groups{whose}: {group}")));
    }
    let by_name = rules.allow_users.as_ref().is_some_and(|users| users.iter().any(|u| u == name));
    let by_group = rules.allow_groups.as_ref().is_some_and(|groups| groups.iter().any(|rule| is_in(rule)));
    let no_rule = rules.allow_users.is_none() && rules.allow_groups.is_none();
    if no_rule || by_name || by_group {
        Ok(())
    } else {
        Err(Denied::because(Reason::NotAllowed, format!("neither allow_users nor allow_groups{whose} has her")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupClaim, PersonKey};
    use gpuhub_common::name::{GroupName, UserName};

    fn alice(groups: &[&str]) -> Person {
        Person {
            provider: "p".into(),
            name: UserName::new("alice").unwrap(),
            key: PersonKey { issuer: "p".into(), subject: "1".into() },
            full_name: String::new(),
            uid: None,
            gid: None,
            home: None,
            shell: None,
            groups: groups.iter().map(|g| GroupClaim { name: GroupName::new(g).unwrap(), gid: None }).collect(),
            also_in: Vec::new(),
            standing: Standing::Active,
        }
    }

    fn some(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|n| (*n).to_owned()).collect())
    }

    fn reason(rules: &AccessRules, person: &Person) -> Result<(), Reason> {
        check(&Access { rules: rules.clone(), ..Access::default() }, "sshd", person, None).map_err(|d| d.reason)
    }

    #[test]
    fn rules() {
        let open = AccessRules::default();
        assert_eq!(reason(&open, &alice(&[])), Ok(()));
        let groups = AccessRules { allow_groups: some(&["ml"]), ..AccessRules::default() };
        assert_eq!(reason(&groups, &alice(&["ml"])), Ok(()));
        assert_eq!(reason(&groups, &alice(&["hr"])), Err(Reason::NotAllowed));
        let nobody = AccessRules { allow_groups: some(&[]), ..AccessRules::default() };
        assert_eq!(reason(&nobody, &alice(&["ml"])), Err(Reason::NotAllowed));
        let either = AccessRules { allow_users: some(&["alice"]), ..groups.clone() };
        assert_eq!(reason(&either, &alice(&[])), Ok(()));
        let denied = AccessRules { deny_users: vec!["alice".into()], ..either };
        assert_eq!(reason(&denied, &alice(&["ml"])), Err(Reason::NotAllowed));
        let deny_group = AccessRules { deny_groups: vec!["ml".into()], ..AccessRules::default() };
        assert_eq!(reason(&deny_group, &alice(&["ml"])), Err(Reason::NotAllowed));
    }

    #[test]
    fn a_group_by_its_dn_and_a_primary_group() {
        let mut alice = alice(&[]);
        alice.also_in = vec!["cn=gpu\\2c users,ou=groups,o=x".into(), "people".into()];
        let deny = |group: &str| AccessRules { deny_groups: vec![group.into()], ..AccessRules::default() };
        for rule in ["CN=gpu\\, Users, ou=groups,O=x", "people"] {
            assert_eq!(reason(&deny(rule), &alice), Err(Reason::NotAllowed), "{rule}");
        }
        for rule in ["cn=gpu,ou=groups,o=x", "gpu, users", "People"] {
            assert_eq!(reason(&deny(rule), &alice), Ok(()), "{rule}");
        }
        // Who gets no primary group from her directory has the common one.
        let rules = AccessRules { allow_groups: some(&["staff"]), ..AccessRules::default() };
        let access = Access { rules, ..Access::default() };
        assert!(check(&access, "sshd", &alice, Some("staff")).is_ok());
        alice.gid = Some(7000.into());
        assert!(check(&access, "sshd", &alice, Some("staff")).is_err());
    }

    #[test]
    fn a_service_has_rules_besides() {
        let rules = |groups| AccessRules { allow_groups: some(groups), ..AccessRules::default() };
        let access =
            Access { rules: rules(&["ml"]), service: [("sshd".into(), rules(&["ops"]))].into(), ..Access::default() };
        let reason = |service, groups: &[&str]| check(&access, service, &alice(groups), None).map_err(|d| d.detail);
        assert_eq!(reason("login", &["ml"]), Ok(()));
        let why = Some("neither allow_users nor allow_groups of sshd has her".into());
        assert_eq!(reason("sshd", &["ml"]), Err(why));
        assert_eq!(reason("sshd", &["ml", "ops"]), Ok(()));
        assert!(reason("sshd", &["ops"]).is_err(), "the rules for all hold for each");
    }

    #[test]
    fn standing_comes_first() {
        let mut p = alice(&[]);
        p.standing = Standing::Locked;
        assert_eq!(reason(&AccessRules::default(), &p), Err(Reason::AccountLocked));
        p.standing = Standing::Expired;
        assert_eq!(reason(&AccessRules::default(), &p), Err(Reason::AccountExpired));
        p.standing = Standing::Disabled;
        assert_eq!(reason(&AccessRules::default(), &p), Err(Reason::AccountDisabled));
        p.standing = Standing::Barred;
        assert_eq!(reason(&AccessRules::default(), &p), Err(Reason::NotAllowed));
    }
}
