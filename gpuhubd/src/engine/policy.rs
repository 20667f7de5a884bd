//! Access: who may log in here. Where a rule is written and nothing matches: nobody.

use crate::config::Access;
use crate::model::{Denied, Person, Reason, Standing};

/// The standing of the account, then the access rules.
pub fn check(access: &Access, person: &Person) -> Result<(), Denied> {
    match person.standing {
        Standing::Active => {}
        Standing::Locked => return Err(Reason::AccountLocked.into()),
        Standing::Expired => return Err(Reason::AccountExpired.into()),
    }
    let name = person.name.as_str();
    let in_any = |groups: &[String]| person.groups.iter().find(|g| groups.iter().any(|r| r == g.name.as_str()));
    if access.deny_users.iter().any(|u| u == name) {
        return Err(Denied::because(Reason::NotAllowed, "deny_users"));
    }
    if let Some(group) = in_any(&access.deny_groups) {
        return Err(Denied::because(Reason::NotAllowed, format!("deny_groups: {}", group.name)));
    }
    let by_name = access.allow_users.as_ref().is_some_and(|users| users.iter().any(|u| u == name));
    let by_group = access.allow_groups.as_ref().is_some_and(|groups| in_any(groups).is_some());
    let no_rule = access.allow_users.is_none() && access.allow_groups.is_none();
    if no_rule || by_name || by_group {
        Ok(())
    } else {
        Err(Denied::because(Reason::NotAllowed, "neither allow_users nor allow_groups has her"))
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
            standing: Standing::Active,
        }
    }

    fn some(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|n| (*n).to_owned()).collect())
    }

    #[test]
    fn rules() {
        let reason = |a: &Access, p: &Person| check(a, p).map_err(|d| d.reason);
        let open = Access::default();
        assert_eq!(reason(&open, &alice(&[])), Ok(()));
        let groups = Access { allow_groups: some(&["ml"]), ..Access::default() };
        assert_eq!(reason(&groups, &alice(&["ml"])), Ok(()));
        assert_eq!(reason(&groups, &alice(&["hr"])), Err(Reason::NotAllowed));
        let nobody = Access { allow_groups: some(&[]), ..Access::default() };
        assert_eq!(reason(&nobody, &alice(&["ml"])), Err(Reason::NotAllowed));
        let either = Access { allow_users: some(&["alice"]), ..groups.clone() };
        assert_eq!(reason(&either, &alice(&[])), Ok(()));
        let denied = Access { deny_users: vec!["alice".into()], ..either };
        assert_eq!(reason(&denied, &alice(&["ml"])), Err(Reason::NotAllowed));
        let deny_group = Access { deny_groups: vec!["ml".into()], ..Access::default() };
        assert_eq!(reason(&deny_group, &alice(&["ml"])), Err(Reason::NotAllowed));
    }

    #[test]
    fn standing_comes_first() {
        let mut p = alice(&[]);
        p.standing = Standing::Locked;
        assert_eq!(check(&Access::default(), &p).unwrap_err().reason, Reason::AccountLocked);
        p.standing = Standing::Expired;
        assert_eq!(check(&Access::default(), &p).unwrap_err().reason, Reason::AccountExpired);
    }
}
