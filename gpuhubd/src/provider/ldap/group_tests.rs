//! Entries of groups, and what becomes of them.

use super::*;
use crate::model::Sid;

fn name(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

fn group_entry(dn: &str, cn: &[&str], gid: &[&str], members: &[&str]) -> Entry {
    Entry::of(dn, &[("cn", cn), ("gidnumber", gid), ("memberuid", members)])
}

#[test]
fn groups_of_a_person_are_sorted_and_legal() {
    let schema = Schema::configured("");
    let entries = [
        group_entry("cn=zoo,o=x", &["zoo"], &["3"], &[]),
        group_entry("cn=ml,o=x", &["ml-team", "ml"], &["2"], &[]),
        group_entry("cn=x,o=x", &["a\nb"], &["4"], &[]),
        group_entry("cn=zoo,o=x", &["zoo"], &["3"], &[]),
        group_entry("cn=Domain Users,o=x", &["Domain Users"], &["1"], &[]),
    ];
    let claims: Vec<_> = claims(&schema, &entries).unwrap().into_iter().map(|c| (c.name.to_string(), c.gid)).collect();
    let want = [("Domain Users", 1), ("ml", 2), ("zoo", 3)];
    assert_eq!(claims, want.map(|(n, g)| (n.to_owned(), Some(g.into()))));
    assert!(super::claims(&schema, &[group_entry("cn=ml,o=x", &["ml"], &[], &[])]).is_err());
}

#[test]
fn where_groups_are_in_groups_only_posix_ones_are_told() {
    let schema = Schema::configured("schema = \"rfc2307bis\"");
    let entry = |dn: &str, cn: &str, gid: &[&str], class: &str| {
        Entry::of(dn, &[("cn", &[cn]), ("gidnumber", gid), ("objectclass", &["top", class])])
    };
    let team = entry("cn=team,o=x", "team", &[], "groupOfNames");
    let ml = entry("cn=ml,o=x", "ml", &["2"], "PosixGroup");
    let claims: Vec<_> = claims(&schema, &[team, ml]).unwrap().into_iter().map(|c| c.name.to_string()).collect();
    assert_eq!(claims, ["ml"]);
    assert!(super::claims(&schema, &[entry("cn=ml,o=x", "ml", &[], "posixGroup")]).is_err(), "its id is not readable");
}

#[test]
fn a_group() {
    let entry = group_entry("cn=ml,o=x", &["ml"], &["20100"], &["bob", "a:b", "alice", "bob", "root\n"]);
    let ml = GroupName::new("ml").unwrap();
    let schema = Schema::configured("");
    let (claim, got) = group(&schema, std::slice::from_ref(&entry), Which::Name(&ml)).unwrap().unwrap();
    assert_eq!((claim.name.as_str(), claim.gid), ("ml", Some(20100.into())));
    assert_eq!(names(members(&schema, got)), [name("alice"), name("bob")]);
    assert!(group(&schema, std::slice::from_ref(&entry), Which::Gid(20100, None)).unwrap().is_some());
    let shouted = GroupName::new("ML").unwrap();
    assert!(group(&schema, std::slice::from_ref(&entry), Which::Name(&shouted)).unwrap().is_none());
    assert!(group(&schema, &[entry.clone(), entry], Which::Gid(20100, None)).is_err());
}

#[test]
fn ids_come_from_sids_where_the_configuration_says_so() {
    let schema = Schema::configured("ids = \"sid\"");
    let sid = Sid::parse("S-1-5-21-1-2-3-1200").unwrap();
    let team = group_entry("cn=ml,o=x", &["ml"], &[], &[]).with_sids(&[&sid.to_bytes()]);
    let want = GroupClaim { name: GroupName::new("ml").unwrap(), gid: Some(sid.into()) };
    assert_eq!(claims(&schema, std::slice::from_ref(&team)), Ok(vec![want.clone()]));
    let (found, _) = group(&schema, std::slice::from_ref(&team), Which::Gid(7, Some(sid))).unwrap().unwrap();
    assert_eq!(found, want);
}

#[test]
fn what_every_server_has_for_itself_is_no_group_of_ours() {
    let schema = Schema::configured("schema = \"ad\"");
    let entry = |sid: &[u8]| Entry::of("cn=a,dc=x", &[("samaccountname", &["a"])]).with_sids(&[sid]);
    // S-1-5-32-544
    let builtin = entry(&[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0]);
    assert_eq!(claims(&schema, std::slice::from_ref(&builtin)), Ok(Vec::new()));
    let domain = entry(&Sid::parse("S-1-5-21-1-2-3-1105").unwrap().to_bytes());
    assert_eq!(claims(&schema, &[domain]).unwrap().len(), 1);
    assert!(claims(&schema, &[entry(b"")]).is_ok_and(|c| c.is_empty()), "nor what is no SID");
    assert!(claims(&schema, &[Entry::of("cn=a,dc=x", &[("samaccountname", &["a"])])]).is_err(), "unreadable");
}
