//! Filters, and how a configuration changes them.

use super::*;
use crate::config::{Config, ProviderConfig};
use gpuhub_common::name::GroupName;

impl Schema {
    /// Of a provider with these lines.
    pub(in super::super) fn configured(lines: &str) -> Self {
        let provider = "[[provider]]\nkind = \"ldap\"\nname = \"corp\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\n";
        match Config::parse("test", &format!("{provider}{lines}\n")).unwrap().providers.pop() {
            Some(ProviderConfig::Ldap(config)) => Schema::new(&config),
            _ => panic!("no LDAP provider"),
        }
    }
}

#[test]
fn values_in_filters_are_escaped() {
    let schema = Schema::configured("");
    assert_eq!(equals(&schema.name, "*)(uid=*\0\\"), r"(uid=\2a\29\28uid=\2a\00\5c)");
    let filter = schema.groups_of_name("a)(b");
    assert_eq!(filter, r"(&(objectClass=posixGroup)(memberUid=a\29\28b))");
    let bis = Schema::configured("schema = \"rfc2307bis\"");
    let filter = bis.groups_of_dns([r"cn=Smith\2C (J*),o=x", "uid=b,o=x"].into_iter());
    assert!(
        filter.contains(r"(member=cn=Smith\5c2C \28J\2a\29,o=x)(member=uid=b,o=x)(uniqueMember=cn=Smith"),
        "{filter}"
    );
    assert!(ldap3::parse_filter(filter).is_ok());
}

#[test]
fn what_a_configuration_changes_is_asked_for() {
    let schema = Schema::configured(
        "schema = \"rfc2307bis\"\nuser_filter = \"(employeeType=staff)\"\ngroup_filter = \"(!(cn=secret))\"\n\
         [provider.attributes]\nuser_name = \"sAMAccountName\"\nuser_home = \"unixHomeDirectory\"\n\
         group_member = \"uniqueMember\"\n",
    );
    let name = |n: &str| UserName::new(n).unwrap();
    assert_eq!(
        schema.people_by_name(&[name("alice"), name("bob")]),
        "(&(&(objectClass=posixAccount)(employeeType=staff))(|(sAMAccountName=alice)(sAMAccountName=bob)))"
    );
    let group = GroupName::new("ml").unwrap();
    assert_eq!(
        schema.group_filter(Which::Name(&group)).unwrap(),
        "(&(&(objectClass=posixGroup)(!(cn=secret)))(cn=ml))"
    );
    assert!(schema.groups_of_dns(["o=y"].into_iter()).ends_with("(!(cn=secret)))(uniqueMember=o=y))"));
    for attribute in ["sAMAccountName", "unixHomeDirectory", "loginShell", "entryUUID"] {
        assert!(schema.of_person.iter().any(|a| a == attribute), "{attribute}: {:?}", schema.of_person);
    }
    assert!(!schema.of_person.iter().any(|a| a == "homeDirectory"));
    assert_eq!(schema.of_group.last().map(String::as_str), Some("uniqueMember"));
    let keys = |lines: &str| Schema::configured(lines).keys;
    assert_eq!(keys(""), ["nsuniqueid", "entryuuid"]);
    assert_eq!(keys("schema = \"ipa\""), ["ipauniqueid", "nsuniqueid"]);
    assert_eq!(keys("[provider.attributes]\nuser_key = \"guid\""), ["guid", "nsuniqueid"]);
}

#[test]
fn an_id_is_looked_for_by_the_sid_that_it_is_computed_from() {
    let sid = Sid::parse("S-1-5-21-1-2-3-1105").unwrap();
    let sids = Schema::configured("ids = \"sid\"");
    let filter = sids.person_filter(Who::Uid(7, Some(sid))).unwrap();
    let bytes = r"\01\05\00\00\00\00\00\05\15\00\00\00\01\00\00\00\02\00\00\00\03\00\00\00\51\04\00\00";
    assert_eq!(filter, format!("(&(objectClass=posixAccount)(objectSid={bytes}))"));
    assert!(ldap3::parse_filter(filter).is_ok());
    assert_eq!(sids.person_filter(Who::Uid(7, None)), None, "of no domain that is known");
    assert_eq!(sids.group_filter(Which::Gid(7, None)), None);
    let by_number = Schema::configured("").person_filter(Who::Uid(7, Some(sid)));
    assert_eq!(by_number.as_deref(), Some("(&(objectClass=posixAccount)(uidNumber=7))"));
}

#[test]
fn active_directory_is_asked_in_its_own_words() {
    let schema = Schema::configured("schema = \"ad\"\nuser_filter = \"(memberOf=cn=gpu)\"");
    let alice = UserName::new("alice").unwrap();
    assert_eq!(
        schema.person_filter(Who::Name(&alice)).unwrap(),
        "(&(&(&(objectClass=user)(objectCategory=person))(memberOf=cn=gpu))(sAMAccountName=alice))"
    );
    let sid = Sid::parse("S-1-5-21-1-2-3-1105").unwrap();
    for filter in [
        schema.groups_of_sids(&[sid, sid.with_rid(513)]),
        schema.people_in(&[r"CN=a (b)\, c,DC=x".to_owned()]),
        schema.groups_in(&["CN=a,DC=x".to_owned(), "CN=b,DC=x".to_owned()]),
        schema.person_filter(Who::Uid(7, Some(sid))).unwrap(),
    ] {
        assert!(ldap3::parse_filter(&filter).is_ok(), "{filter}");
    }
    let people = schema.people_in(&[r"CN=a (b)\, c,DC=x".to_owned()]);
    assert!(people.ends_with(r"(memberOf=CN=a \28b\29\5c, c,DC=x))"), "{people}");
    for asked in ["sAMAccountName", "unixHomeDirectory", "userAccountControl", "accountExpires"] {
        assert!(schema.of_person.iter().any(|a| a == asked), "{asked}");
    }
    let numbers = Schema::configured("schema = \"ad\"\nids = \"attributes\"");
    assert!(numbers.people().contains("(uidNumber=*)"), "who has no number is not of this system");
}
