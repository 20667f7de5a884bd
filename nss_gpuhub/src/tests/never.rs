//! What is never given is not given by the library either, whatever the broker answers: each class of
//! ids and names at each place, by each entry point. (What a forged snapshot says:
//! snapshot::never_tests, and the last test here.)

use super::*;
use gpuhub_common::id::NEVER;
use gpuhub_common::name::POWER_GROUPS;

/// The ends and the middle of each range, and one that is local.
fn ids() -> impl Iterator<Item = u32> {
    NEVER.into_iter().flat_map(|(first, last)| [first, first.midpoint(last), last]).chain([1500])
}

const BAD_NAMES: [&str; 8] = ["-x", ".x", "1000", "a:b", "a/b", "a\nb", "a b", "\u{e4}"];

/// A broker that gives mallory, or the gang, with what the test says now.
struct Captured {
    place: Place,
    user: Arc<Mutex<Passwd>>,
    group: Arc<Mutex<Group>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Captured {
    fn new(name: &str) -> Self {
        let place = Place::new(name, NOBODY);
        let user = Arc::new(Mutex::new(passwd("mallory", 30001)));
        let group = Arc::new(Mutex::new(Group { name: "gang".into(), gid: 30002, members: vec!["mallory".into()] }));
        let (its_user, its_group) = (Arc::clone(&user), Arc::clone(&group));
        let everything: Vec<String> = ids().chain([30002]).map(|id| id.to_string()).collect();
        let gids = format!(r#"{{"parameters":{{"gids":[{}]}}}}"#, everything.join(","));
        let asked = place.broker(move |request| {
            Some(match request {
                r if r.contains("GetGroupIds") => gids.clone(),
                r if r.contains("GetUser") => user_reply(&its_user.lock().unwrap()),
                _ => {
                    let group = its_group.lock().unwrap();
                    group_reply(&group.name, group.gid, &group.members[0])
                }
            })
        });
        Self { place, user, group, asked }
    }
}

#[test]
fn ids_from_the_broker() {
    let captured = Captured::new("never-ids");
    assert_eq!(getpwnam("mallory"), Ok(passwd("mallory", 30001)));
    assert_eq!(getgrnam("gang").map(|g| g.gid), Ok(30002));
    for id in ids() {
        *captured.user.lock().unwrap() = passwd("mallory", id);
        assert_eq!(getpwnam("mallory"), Err(NOT_FOUND), "uid {id}");
        *captured.user.lock().unwrap() = Passwd { gid: id, ..passwd("mallory", 30001) };
        assert_eq!(getpwnam("mallory"), Err(NOT_FOUND), "gid {id}");
        assert_eq!(getpwuid(30001), Err(NOT_FOUND), "gid {id}");
        captured.group.lock().unwrap().gid = id;
        assert_eq!(getgrnam("gang").err(), Some(NOT_FOUND), "gid {id}");
    }
    assert_eq!(initgroups("mallory", 30001, 8, -1), Ok(vec![30001, 30002]), "of all that it said");
    // Who asks for one of these is answered without the broker.
    let before = captured.asked.lock().unwrap().len();
    for id in ids() {
        *captured.user.lock().unwrap() = passwd("mallory", id);
        captured.group.lock().unwrap().gid = id;
        assert_eq!(getpwuid(id), Err(NOT_FOUND), "{id}");
        assert_eq!(getgrgid(id).err(), Some(NOT_FOUND), "{id}");
    }
    assert_eq!(captured.asked.lock().unwrap().len(), before);
    drop(captured.place);
}

#[test]
fn names_from_the_broker() {
    let captured = Captured::new("never-names");
    for name in ["root", "ubuntu"].into_iter().chain(BAD_NAMES) {
        captured.user.lock().unwrap().name = name.into();
        assert_eq!(getpwuid(30001), Err(NOT_FOUND), "{name:?}");
    }
    let upper: Vec<String> = POWER_GROUPS.iter().map(|name| name.to_uppercase()).collect();
    // A space is legal inside of a group's name.
    let bad = BAD_NAMES.into_iter().filter(|name| *name != "a b");
    let powers = || POWER_GROUPS.iter().copied().chain(upper.iter().map(String::as_str)).chain(["video", "ubuntu"]);
    for name in powers().chain(bad.clone()) {
        captured.group.lock().unwrap().name = name.into();
        assert_eq!(getgrgid(30002).err(), Some(NOT_FOUND), "{name:?}");
    }
    for name in BAD_NAMES {
        *captured.group.lock().unwrap() = Group { name: "gang".into(), gid: 30002, members: vec![name.into()] };
        assert_eq!(getgrgid(30002).err(), Some(NOT_FOUND), "member {name:?}");
        assert_eq!(getgrnam("gang").err(), Some(NOT_FOUND), "member {name:?}");
    }
    let before = captured.asked.lock().unwrap().len();
    for name in ["root", "ubuntu"].into_iter().chain(BAD_NAMES) {
        captured.user.lock().unwrap().name = name.into();
        assert_eq!(getpwnam(name), Err(NOT_FOUND), "{name:?}");
        assert_eq!(initgroups(name, 1, 8, -1), Err(NOT_FOUND), "{name:?}");
    }
    for name in powers().chain(bad) {
        captured.group.lock().unwrap().name = name.into();
        assert_eq!(getgrnam(name).err(), Some(NOT_FOUND), "{name:?}");
    }
    assert_eq!(captured.asked.lock().unwrap().len(), before, "nobody need be asked for these");
    drop(captured.place);
}

#[test]
fn ids_and_names_from_the_snapshot_by_every_entry_point() {
    for id in ids().filter(|id| *id != 0) {
        let place = Place::new("never-snapshot", NOBODY);
        let user = |name: &str, uid, gid, gids| SnapshotUser { passwd: Passwd { gid, ..passwd(name, uid) }, gids };
        let group = |name: &str, gid| Group { name: name.into(), gid, members: vec!["mallory".into()] };
        let _published = place.publish(&Content {
            users: vec![user("good", 30001, 30001, vec![id, 30002]), user("mallory", 30003, id, vec![30002])],
            groups: vec![group("gang", id), group("sudo", 30004), group("zoo", 30005)],
            ..content()
        });
        assert_eq!(getpwnam("mallory"), Err(NOT_FOUND), "{id}");
        assert_eq!(getpwuid(30003), Err(NOT_FOUND), "{id}");
        assert_eq!(initgroups("mallory", 1, 8, -1), Err(NOT_FOUND), "{id}");
        assert_eq!(initgroups("good", 1, 8, -1), Ok(vec![1, 30002]), "{id}");
        assert_eq!(getgrnam("gang").err(), Some(NOT_FOUND), "{id}");
        assert_eq!(getgrgid(id).err(), Some(NOT_FOUND), "{id}");
        assert_eq!((getpwent_in(1024).map(|p| p.name), getpwent_in(1024)), (Ok("good".into()), Err(NOT_FOUND)));
        assert_eq!((getgrent().map(|g| g.name), getgrent().err()), (Ok("zoo".into()), Some(NOT_FOUND)));
    }
}
