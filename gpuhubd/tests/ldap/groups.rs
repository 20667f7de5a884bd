//! Groups that have DNs for members, other groups among them.

use super::*;

const BIS: &str = "schema = \"rfc2307bis\"";

pub fn bis(s: &Slapd, lines: &str) -> LdapProvider {
    at(s, &format!("ldaps://127.0.0.1:{}", s.ldaps), &format!("{}\n{BIS}\n{lines}", with_ca(s)))
}

pub fn names_of(person: &Person) -> Vec<&str> {
    person.groups.iter().map(|g| g.name.as_str()).collect()
}

pub async fn members(p: &LdapProvider, group: &str) -> Vec<String> {
    let name = GroupName::new(group).unwrap();
    let found = p.find_group(Which::Name(&name)).await.unwrap().unwrap();
    found.members.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_have_people_and_groups_for_members() {
    let s = Slapd::start_bis();
    let p = bis(&s, "");
    let alice = find(&p, "alice").await.unwrap();
    assert_eq!(names_of(&alice), ["gpu", "ml", "people", "unique"]);
    assert_eq!(log_in(&p, &alice, "pw-alice").await, Ok(alice));
    // By a name with a comma, parentheses and a star in it; and by one of two parts, in another order.
    let bob = find(&p, "bob").await.unwrap();
    let deep: Vec<String> = (0..=8).map(|n| format!("deep{n}")).collect();
    assert_eq!(names_of(&bob), [&deep.iter().map(String::as_str).collect::<Vec<_>>()[..], &["ml"]].concat());
    assert_eq!(log_in(&p, &bob, "pw-bob").await, Ok(bob));
    let carol = p.find(Who::Uid(20003, None)).await.unwrap().unwrap();
    assert_eq!(names_of(&carol), ["gpu", "unique"], "through two groups that are no POSIX groups, in a circle");
    assert_eq!(find(&p, "hid").await, None, "the reader may not see her");

    assert_eq!(members(&p, "gpu").await, ["alice", "carol", "gina"]);
    // Who is not there, who may not be seen, and what is nobody.
    assert_eq!(members(&p, "ml").await, ["alice", "bob"]);
    assert_eq!(members(&p, "unique").await, ["alice", "carol"]);
    let team = GroupName::new("team").unwrap();
    assert_eq!(p.find_group(Which::Name(&team)).await.unwrap(), None, "no POSIX group");
    assert_eq!(p.find_group(Which::Gid(20103, None)).await.unwrap().unwrap().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_says_of_bases_groups_and_homes() {
    let s = Slapd::start_bis();
    let flat = bis(&s, "group_nesting = 0");
    assert_eq!(names_of(&find(&flat, "bob").await.unwrap()), ["deep0", "ml"]);
    assert_eq!(members(&flat, "gpu").await, ["alice"]);
    let deepest = bis(&s, "group_nesting = 20");
    assert_eq!(names_of(&find(&deepest, "bob").await.unwrap()).len(), 13);

    let two = format!("user_base = [\"ou=people,{SUFFIX}\", \"ou=guests,{SUFFIX}\", \"uid=gina,ou=guests,{SUFFIX}\"]");
    let p = bis(&s, &two);
    assert_eq!(find(&p, "gina").await.unwrap().uid, Some(20004.into()), "under two of them, and one person");
    assert!(p.check().await.iter().all(|f| !f.fatal), "{:?}", p.check().await);
    let one = bis(&s, &format!("user_base = \"ou=people,{SUFFIX}\"\ngroup_base = [\"ou=groups,{SUFFIX}\"]"));
    assert_eq!(find(&one, "gina").await, None);
    assert_eq!(names_of(&find(&one, "carol").await.unwrap()), ["unique"], "the team is not under a base of groups");

    let p = bis(
        &s,
        "user_filter = \"(!(uid=bob))\"\ngroup_filter = \"(!(cn=ml))\"\nmembers = \"none\"\n\
                     override_home = \"/data/%u\"\noverride_shell = \"/bin/zsh\"",
    );
    assert_eq!(find(&p, "bob").await, None);
    let alice = find(&p, "alice").await.unwrap();
    assert_eq!(names_of(&alice), ["gpu", "people", "unique"]);
    assert_eq!((alice.home.as_deref(), alice.shell.as_deref()), (Some("/data/alice"), Some("/bin/zsh")));
    assert_eq!(members(&p, "gpu").await, [""; 0]);

    let p = bis(
        &s,
        "[provider.attributes]\nuser_name = \"sn\"\nuser_gecos = \"cn\"\nuser_home = \"description\"\n\
                     group_member = \"uniqueMember\"",
    );
    let archer = find(&p, "Archer").await.unwrap();
    assert_eq!((archer.full_name.as_str(), archer.home.as_deref()), ("Alice Archer", None));
    assert_eq!(names_of(&archer), ["unique"]);
    assert_eq!(members(&p, "unique").await, ["Archer", "Cho"], "their names are not in their DNs");
    assert_eq!(log_in(&p, &archer, "pw-alice").await, Ok(archer));
}
