//! Whatever happens in whatever order: what was told adds up to what there is.

use super::*;
use crate::model::{Sid, Standing};
use std::collections::BTreeMap;

fn somebody(name: &str, n: u8) -> PersonEntry {
    let name = UserName::new(name).unwrap();
    let person = Person {
        provider: "corp".into(),
        name: name.clone(),
        key: PersonKey { issuer: "ldap:corp".into(), subject: format!("key {n}") },
        full_name: String::new(),
        uid: Some((20_000 + u32::from(n)).into()),
        gid: Some(20_100.into()),
        home: None,
        shell: None,
        groups: Vec::new(),
        also_in: Vec::new(),
        standing: Standing::Active,
    };
    let dn = format!("uid={name},o=x");
    PersonEntry { dn, name: Some(name), nameless: false, person: Ok(Some(person)), primary: None }
}

fn group(name: &str, n: u8, is_posix: bool, members: &[String]) -> GroupEntry {
    let name = GroupName::new(name).unwrap();
    let claim = is_posix.then(|| GroupClaim { name: name.clone(), gid: Some((20_100 + u32::from(n)).into()) });
    GroupEntry {
        dn: format!("cn={name},o=x"),
        name: Some(name).filter(|_| is_posix),
        nameless: false,
        claim: Ok(claim),
        members: members.to_vec(),
        sid: None,
        wanted: true,
    }
}

/// The group of this number has it.
fn sid(n: u8) -> Sid {
    Sid::parse("S-1-5-21-1-2-3-1").unwrap().with_rid(u32::from(n))
}

fn mirror(members: Members) -> Mirror {
    Mirror::new(members, 8, true)
}

/// What somebody knows who has heard all news: people with their key and groups, groups with their members.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    people: BTreeMap<String, (PersonKey, Vec<String>)>,
    groups: BTreeMap<String, Vec<String>>,
}

impl Heard {
    fn hear(&mut self, update: Update) {
        for person in update.people {
            // A rename is seen by the key, as the engine does.
            self.people.retain(|_, (key, _)| *key != person.key);
            let groups = person.groups.iter().map(|g| g.name.to_string()).collect();
            self.people.insert(person.name.to_string(), (person.key, groups));
        }
        for group in update.groups {
            self.groups.insert(group.claim.name.to_string(), group.members.iter().map(|m| m.to_string()).collect());
        }
        for (name, key) in update.gone {
            if self.people.get(name.as_str()).is_some_and(|(of, _)| *of == key) {
                self.people.remove(name.as_str());
            }
        }
        for name in update.gone_groups {
            self.groups.remove(name.as_str());
        }
    }

    /// All of it, told by one who begins.
    fn afresh(people: &BTreeMap<u8, PersonEntry>, groups: &BTreeMap<u8, GroupEntry>, members: Members) -> Self {
        let (mut fresh, mut heard) = (mirror(members), Self::default());
        people.iter().for_each(|(n, e)| fresh.put_person(0, vec![*n], e.clone(), String::new()));
        groups.iter().for_each(|(n, e)| fresh.put_group(1, vec![100 + n], e.clone(), String::new()));
        heard.hear(fresh.news());
        heard
    }
}

/// A sequence that looks random and is the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u8 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u8::try_from((z ^ (z >> 31)) % sides).unwrap()
    }
}

fn whatever_happens(members: Members) {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let (mut mirror, mut heard) = (mirror(members), Heard::default());
        let (mut people, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for step in 0..150 {
            let n = dice.throw(6);
            match dice.throw(6) {
                // Each has two names, so that people are renamed; nobody ever has another's.
                0 | 1 => {
                    let mut entry = somebody(&format!("user{n}{}", ["a", "b"][usize::from(dice.throw(2))]), n);
                    if members == Members::Asked {
                        entry = PersonEntry { dn: format!("guid{n}"), primary: Some(sid(dice.throw(6))), ..entry };
                    }
                    people.insert(n, entry.clone());
                    mirror.put_person(0, vec![n], entry, String::new());
                }
                2 => {
                    people.remove(&n);
                    mirror.lost(0, Kind::Person, &vec![n]);
                }
                3 | 4 => {
                    let member = |dice: &mut Dice| {
                        let (user, group) = (dice.throw(6), dice.throw(6));
                        let user = format!("user{user}{}", ["a", "b"][usize::from(dice.throw(2))]);
                        match members {
                            Members::Asked if dice.throw(2) == 0 => format!("guid{}", dice.throw(6)),
                            Members::Dns | Members::Asked if dice.throw(2) == 0 => format!("cn=group{group},o=x"),
                            Members::Dns | Members::Asked => format!("uid={user},o=x"),
                            Members::Names => user,
                        }
                    };
                    let mut list: Vec<String> = (0..dice.throw(5)).map(|_| member(&mut dice)).collect();
                    list.sort_unstable();
                    list.dedup();
                    let is_posix = members == Members::Names || dice.throw(4) > 0;
                    let mut entry = group(&format!("group{n}"), n, is_posix, &list);
                    entry.sid = Some(sid(n)).filter(|_| members == Members::Asked);
                    groups.insert(n, entry.clone());
                    mirror.put_group(1, vec![100 + n], entry, String::new());
                }
                _ => {
                    groups.remove(&n);
                    mirror.lost(1, Kind::Group, &vec![100 + n]);
                }
            }
            if dice.throw(3) == 0 {
                heard.hear(mirror.news());
                assert_eq!(heard, Heard::afresh(&people, &groups, members), "seed {seed}, step {step}");
                assert!(mirror.news().is_empty() && !mirror.has_news());
            }
        }
    }
}

#[test]
fn groups_that_name_people() {
    whatever_happens(Members::Names);
}

#[test]
fn groups_of_groups() {
    whatever_happens(Members::Dns);
}

#[test]
fn groups_of_a_domain() {
    whatever_happens(Members::Asked);
}

#[test]
fn through_her_primary_group_and_all_that_it_is_in_and_not_in_their_lists() {
    let mut m = Mirror::new(Members::Asked, 1, true);
    let alice = PersonEntry { dn: "alice".into(), primary: Some(sid(1)), ..somebody("alice", 1) };
    m.put_person(0, vec![1], alice, String::new());
    let put = |m: &mut Mirror, n: u8, wanted: bool, member: &str| {
        let entry = group(&format!("g{n}"), n, wanted, &[member.to_owned()]);
        let entry = GroupEntry { dn: format!("g{n}"), sid: Some(sid(n)), wanted, ..entry };
        m.put_group(1, vec![100 + n], entry, String::new());
    };
    // g4 > g3 > g2 (not wanted here) > g1, deeper than lists go; and g5 > alice.
    for (n, wanted, member) in [(1, true, ""), (2, false, "g1"), (3, true, "g2"), (4, true, "g3"), (5, true, "alice")] {
        put(&mut m, n, wanted, member);
    }
    let told = m.news();
    let groups: Vec<_> = told.people[0].groups.iter().map(|g| g.name.to_string()).collect();
    assert_eq!(groups, ["g1", "g3", "g4", "g5"]);
    let lists: Vec<_> = told.groups.iter().map(|g| (g.claim.name.as_str(), g.members.len())).collect();
    assert_eq!(lists, [("g1", 0), ("g3", 0), ("g4", 0), ("g5", 1)]);
    assert!(m.is_wanted(&vec![103]) && !m.is_wanted(&vec![102]));
    // Far up, a branch goes.
    put(&mut m, 2, false, "");
    let groups: Vec<_> = m.news().people[0].groups.iter().map(|g| g.name.to_string()).collect();
    assert_eq!(groups, ["g1", "g5"]);
}

#[test]
fn what_is_told_is_told_once() {
    let mut m = mirror(Members::Names);
    m.put_person(0, vec![1], somebody("alice", 1), String::new());
    m.put_group(1, vec![101], group("ml", 1, true, &["alice".into()]), String::new());
    let first = m.news();
    assert_eq!((first.people.len(), first.groups.len()), (1, 1));
    assert_eq!(first.people[0].groups.len(), 1);
    m.put_person(0, vec![1], somebody("alice", 1), "later".into());
    assert_eq!(m.stamp(Kind::Person, &vec![1]), Some("later"));
    m.put_group(1, vec![101], group("ml", 1, true, &["alice".into()]), String::new());
    assert!(!m.has_news(), "nothing of it is new");
    // All of it is looked at, and she is as she was told.
    m.note_all();
    assert!(m.news().people.is_empty());
}

#[test]
fn of_two_of_one_name_neither_is_told_and_whoever_was_is_not_gone() {
    let mut m = mirror(Members::Names);
    m.put_person(0, vec![1], somebody("alice", 1), String::new());
    assert_eq!(m.news().people.len(), 1);
    m.put_person(0, vec![2], somebody("alice", 2), String::new());
    assert!(m.news().is_empty());
    assert_eq!(m.unclear().as_deref(), Some("2 have the name alice"));
    assert!(m.whole().people.unwrap().contains("alice"));
    m.lost(0, Kind::Person, &vec![1]);
    let news = m.news();
    assert_eq!(news.people.len(), 1, "the other is it now; whether she may be is the engine's to say");
    assert_eq!(news.gone.len(), 1);
    assert_eq!(m.unclear(), None);
}

#[test]
fn what_cannot_be_read_is_neither_told_nor_gone() {
    let mut m = mirror(Members::Names);
    m.put_person(0, vec![1], somebody("alice", 1), String::new());
    m.put_group(1, vec![101], group("ml", 1, true, &["alice".into()]), String::new());
    assert!(!m.news().is_empty());
    m.put_person(0, vec![1], PersonEntry { person: Err("no uid".into()), ..somebody("alice", 1) }, String::new());
    assert!(m.news().is_empty());
    assert!(m.whole().people.unwrap().contains("alice"));
    let nameless = PersonEntry { name: None, nameless: true, person: Ok(None), ..somebody("alice", 1) };
    m.put_person(0, vec![2], nameless, String::new());
    assert!(m.whole().people.is_none(), "of whom there is one without a name, nobody can say who is not there");
    assert_eq!(m.unclear().as_deref(), Some("no uid; and 1 more"));
    // A group without its number: nobody knows what its people may.
    m.put_group(
        1,
        vec![101],
        GroupEntry { claim: Err("no gid".into()), ..group("ml", 1, true, &["alice".into()]) },
        String::new(),
    );
    assert!(m.news().is_empty());
    assert!(m.whole().groups.unwrap().contains("ml"));
}

#[test]
fn who_is_found_by_two_searches_is_gone_when_both_have_lost_her() {
    let mut m = mirror(Members::Names);
    m.put_person(0, vec![1], somebody("alice", 1), String::new());
    m.put_person(1, vec![1], somebody("alice", 1), String::new());
    assert_eq!(m.news().people.len(), 1);
    m.only(0, Kind::Person, &HashSet::new());
    assert!(m.news().is_empty());
    m.lost(1, Kind::Person, &vec![1]);
    assert_eq!(m.news().gone.len(), 1);
    assert_eq!(m.count(Kind::Person), 0);
}
