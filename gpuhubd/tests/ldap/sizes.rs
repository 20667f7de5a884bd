//! Groups of thousands, and somebody in a thousand groups, whose order is always the same.

use super::groups::*;
use super::*;
use std::fmt::Write;

const PEOPLE: usize = 5_000;
const GROUPS: usize = 1_000;

/// Everybody is in `all`; p0001 is in all groups. The server has both in no order of names.
fn crowd(member: impl Fn(usize) -> String, class: &str) -> String {
    let mut ldif = String::new();
    for n in (1..=PEOPLE).rev() {
        let _ = write!(
            ldif,
            "\ndn: uid=p{n:04},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: p{n:04}\n\
             cn: p{n:04}\nsn: P\nuidNumber: {}\ngidNumber: 20100\nhomeDirectory: /home/p{n:04}\n",
            30_000 + n
        );
    }
    let group = |name: &str, gid: usize, members: String| {
        format!("\ndn: cn={name},ou=groups,{SUFFIX}\n{class}cn: {name}\ngidNumber: {gid}\n{members}")
    };
    ldif += &group("all", 40_000, (1..=PEOPLE).rev().map(&member).collect());
    for n in (1..=GROUPS).rev() {
        ldif += &group(&format!("g{n:04}"), 50_000 + n, member(1));
    }
    ldif
}

async fn is_all_there(p: &LdapProvider) {
    let everybody: Vec<String> = (1..=PEOPLE).map(|n| format!("p{n:04}")).collect();
    assert_eq!(members(p, "all").await, everybody);
    let mut groups: Vec<String> = (1..=GROUPS).map(|n| format!("g{n:04}")).collect();
    groups.insert(0, "all".into());
    for _ in 0..2 {
        let somebody = find(p, "p0001").await.unwrap();
        assert_eq!(names_of(&somebody), groups);
    }
    assert_eq!(names_of(&find(p, "p5000").await.unwrap()), ["all"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_names() {
    let names = crowd(|n| format!("memberUid: p{n:04}\n"), "objectClass: posixGroup\n");
    let s = Slapd::with(&format!("{}{names}", slapd::ENTRIES));
    is_all_there(&ldaps(&s)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_dns() {
    let dns = crowd(
        |n| format!("member: uid=p{n:04},ou=people,{SUFFIX}\n"),
        "objectClass: groupOfNames\nobjectClass: posixGroup\n",
    );
    let mut s = Slapd::start_bis();
    s.kill();
    s.load(&format!("{}{dns}", slapd::ENTRIES_BIS));
    s.launch();
    is_all_there(&bis(&s, "")).await;
    let hidden = GroupName::new("all").unwrap();
    let none = bis(&s, "members = \"none\"");
    assert_eq!(none.find_group(Which::Name(&hidden)).await.unwrap().unwrap().members, []);
    assert_eq!(names_of(&find(&none, "p0001").await.unwrap()).len(), GROUPS + 1);
}
