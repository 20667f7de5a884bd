//! What the snapshot answers.

use super::*;

#[test]
fn people_and_groups_by_name_and_id() {
    let place = Place::new("hits", NOBODY);
    let _published = place.publish(&content());
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    assert_eq!(getpwuid(20002), Ok(passwd("bob", 20002)));
    assert_eq!(getgrnam("gpu users").map(|g| g.gid), Ok(20101));
    assert_eq!(getgrgid(20100).map(|g| g.members), Ok(vec!["alice".into(), "bob".into(), "x".into()]));
    assert_eq!(getgrgid(20102).map(|g| g.members), Ok(Vec::new()));
}

#[test]
fn absences_are_certain_while_the_broker_lives() {
    let place = Place::new("absent", NOBODY);
    let published = place.publish(&content());
    for end in [getpwnam("carol").err(), getpwuid(20009).err()] {
        assert_eq!(end, Some(NOT_FOUND));
    }
    for end in [getgrnam("carol").err(), getgrgid(20009).err()] {
        assert_eq!(end, Some(NOT_FOUND));
    }
    assert_eq!(initgroups("carol", 1, 8, -1), Err(NOT_FOUND));
    published.push_valid_until(now_ms() - 1);
    assert_eq!(getpwnam("carol"), Err(UNAVAILABLE));
    assert_eq!(getgrgid(20009).err(), Some(UNAVAILABLE));
    assert_eq!(initgroups("carol", 1, 8, -1), Err(UNAVAILABLE));
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)), "known people stay");
}

#[test]
fn what_is_local_or_gives_power_is_not_ours() {
    let place = Place::new("local", NOBODY);
    let _published = place.publish(&content());
    for name in ["ubuntu", "root"] {
        assert_eq!(getpwnam(name), Err(NOT_FOUND));
        assert_eq!(initgroups(name, 1, 8, -1), Err(NOT_FOUND));
    }
    for uid in [0, 999, 1500, 20003, 65534, u32::MAX] {
        assert_eq!(getpwuid(uid), Err(NOT_FOUND), "{uid}");
    }
    for name in ["sudo", "video", "root"] {
        assert_eq!(getgrnam(name).err(), Some(NOT_FOUND), "{name}");
    }
    for gid in [0, 27, 1500, 20103] {
        assert_eq!(getgrgid(gid).err(), Some(NOT_FOUND), "{gid}");
    }
}

#[test]
fn small_buffers_say_so_until_they_are_not() {
    let place = Place::new("small", NOBODY);
    let _published = place.publish(&content());
    let alice = passwd("alice", 20001);
    let texts = alice.name.len() + alice.gecos.len() + alice.home.len() + alice.shell.len() + 4;
    let first = (0..1024).find(|len| getpwnam_in(*len, "alice") != Err(TOO_SMALL));
    assert_eq!(first, Some(texts + 2));
    assert_eq!(getpwnam_in(texts + 2, "alice"), Ok(alice));
    let first = (0..1024).find(|len| getgrnam_in(*len, "ml").err() != Some(TOO_SMALL)).unwrap();
    let texts = "ml alice bob x * ".len();
    assert!((texts + 4 * 8..texts + 5 * 8).contains(&first), "{first}");
    for len in first..first + 16 {
        assert_eq!(getgrnam_in(len, "ml").map(|g| g.members.len()), Ok(3));
    }
}

#[test]
fn enumeration_keeps_its_place() {
    let place = Place::new("walk", NOBODY);
    let published = place.publish(&content());
    for _ in 0..2 {
        assert_eq!(_nss_gpuhub_setpwent(0), SUCCESS);
        assert_eq!(getpwent_in(1024), Ok(passwd("alice", 20001)));
        assert_eq!(getpwent_in(10), Err(TOO_SMALL));
        assert_eq!(getpwent_in(10), Err(TOO_SMALL));
        assert_eq!(getpwent_in(1024), Ok(passwd("bob", 20002)));
        assert_eq!(getpwent_in(1024), Err(NOT_FOUND), "ubuntu is local");
        assert_eq!(getpwent_in(1024), Err(NOT_FOUND));
    }
    assert_eq!(_nss_gpuhub_endpwent(), SUCCESS);
    assert_eq!(_nss_gpuhub_setgrent(1), SUCCESS);
    let mut names = Vec::new();
    while let Ok(group) = getgrent() {
        names.push(group.name);
        // In the middle of it: the walk goes on in what it began with.
        place.publish(&Content { generation: 2, groups: Vec::new(), ..content() });
    }
    published.mark_superseded();
    assert_eq!(names, ["empty", "gpu users", "ml"], "without sudo");
    assert_eq!(_nss_gpuhub_endgrent(), SUCCESS);
    assert_eq!(getgrent().err(), Some(NOT_FOUND));
    assert_eq!(_nss_gpuhub_endgrent(), SUCCESS);
}

#[test]
fn enumeration_without_a_snapshot() {
    let place = Place::new("nowalk", NOBODY);
    assert_eq!(getpwent_in(1024), Err(UNAVAILABLE), "a broker should be here");
    std::fs::remove_dir_all(&place.dir).unwrap();
    assert_eq!(getpwent_in(1024), Err(NOT_FOUND), "nobody was ever here");
}

#[test]
fn group_lists_grow_and_end_at_their_limit() {
    let place = Place::new("groups", NOBODY);
    let _published = place.publish(&content());
    // 45 is local, 44 opened by root; 20001 lists her, and is the primary one too.
    for size in [1, 2, 3, 50] {
        assert_eq!(initgroups("alice", 20001, size, -1), Ok(vec![20001, 44, 20100, 20101]), "{size}");
        assert_eq!(initgroups("alice", 20001, size, 0), Ok(vec![20001, 44, 20100, 20101]), "{size}");
    }
    assert_eq!(initgroups("alice", 20100, 1, -1), Ok(vec![20100, 44, 20001, 20101]), "not twice");
    assert_eq!(initgroups("alice", 20001, 1, 2), Ok(vec![20001, 44]));
    assert_eq!(initgroups("alice", 20001, 1, 1), Ok(vec![20001]));
    assert_eq!(initgroups("alice", 20001, 1, 3), Ok(vec![20001, 44, 20100]));
    assert_eq!(initgroups("bob", 20002, 1, -1), Ok(vec![20002]));
}
