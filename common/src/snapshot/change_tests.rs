//! Changes in a file that is in use, against a model, and under readers.

use super::*;
use crate::entry::Passwd;
use crate::local::LocalAccounts;
use crate::snapshot::tests::{Chance, directory, group, user};
use crate::snapshot::{Content, Lookup, Mapping, Prepared, Publisher, Room, VALIDITY_MS, encode, now_ms};
use std::path::PathBuf;

/// A directory of one test's own.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        Self(directory(&format!("change-{name}")))
    }

    fn path(&self) -> PathBuf {
        self.0.join("snapshot")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A container without accounts of its own.
fn nobody() -> io::Result<LocalAccounts> {
    Ok(LocalAccounts::from_texts("root:x:0:0::/root:/bin/sh\n", "", ""))
}

fn somebody(n: usize, uid: u32, version: u64) -> SnapshotUser {
    let name = format!("user{n}");
    let gecos = "v".repeat((version % 40) as usize) + &version.to_string();
    let home = format!("/home/{name}");
    let passwd = Passwd { name, uid, gid: uid, gecos, home, shell: "/bin/sh".into() };
    SnapshotUser { passwd, gids: (0..version as u32 % 7).map(|g| 70_000 + g).collect() }
}

fn published(dir: &Dir, content: &Content, room: Room) -> Published {
    Published::write(&dir.path(), &encode(content, room).unwrap(), now_ms() + VALIDITY_MS).unwrap()
}

fn of_users(generation: u64, users: impl IntoIterator<Item = (String, Option<SnapshotUser>)>) -> Changes {
    Changes { generation, users: users.into_iter().collect(), ..Changes::default() }
}

/// Everything that the view gives by enumeration, sorted.
fn enumerated(view: &crate::snapshot::View) -> (Vec<Passwd>, Vec<Group>) {
    let (mut users, mut groups, mut n) = (Vec::new(), Vec::new(), 0);
    while let Lookup::Found(u) = user(|o| view.user_at(&mut n, o)) {
        users.push(u);
        n += 1;
    }
    n = 0;
    while let Lookup::Found(g) = group(|o| view.group_at(&mut n, o)) {
        groups.push(g);
        n += 1;
    }
    users.sort_by(|a, b| a.name.cmp(&b.name));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    (users, groups)
}

#[test]
fn who_is_hidden_is_found_and_never_told() {
    let dir = Dir::new("hidden");
    let mut encoder = crate::snapshot::Encoder::new(1, true, &[]).unwrap();
    encoder.user(&somebody(1, 70_001, 1)).unwrap();
    encoder.user(&somebody(2, 70_002, 1)).unwrap();
    encoder.hide_user();
    let group_of = |n: u32| Group { name: format!("group{n}"), gid: 80_000 + n, members: Vec::new() };
    encoder.group(&group_of(1)).unwrap();
    encoder.hide_group();
    encoder.group(&group_of(2)).unwrap();
    let bytes = encoder.finish(Room::ForChanges).unwrap().bytes;
    let mut file = Published::write(&dir.path(), &bytes, now_ms() + VALIDITY_MS).unwrap();
    let told = |file: &Published| {
        let (users, groups) = enumerated(file.view());
        let names = users.into_iter().map(|u| u.name).chain(groups.into_iter().map(|g| g.name));
        names.collect::<Vec<_>>().join(" ")
    };
    let found = |file: &Published, n: usize| {
        matches!(user(|o| file.view().user_by_uid(70_000 + n as u32, o)), Lookup::Found(_))
    };
    assert_eq!(told(&file), "user1 group2");
    assert!(found(&file, 1) && found(&file, 2));

    // She changes, others come, hidden and not; one who was hidden is hidden no more.
    let users = [(2, 2), (3, 1), (4, 1)].map(|(n, v)| (format!("user{n}"), Some(somebody(n, 70_000 + n as u32, v))));
    let mut changes = of_users(2, users);
    changes.hidden_users = ["user2", "user3"].map(String::from).into();
    assert!(file.change(&changes).unwrap().is_empty());
    assert_eq!(told(&file), "user1 user4 group2");
    assert!((1..=4).all(|n| found(&file, n)));
    let shown = of_users(3, [("user2".to_owned(), Some(somebody(2, 70_002, 3)))]);
    assert!(file.change(&shown).unwrap().is_empty());
    assert_eq!(told(&file), "user1 user2 user4 group2");
}

#[test]
fn a_thousand_changes_by_chance_leave_what_a_whole_file_would_have() {
    let dir = Dir::new("model");
    let mut content = Content { complete: true, ..Content::default() };
    let mut file = published(&dir, &content, Room::ForChanges);
    let mut reader = Mapping::open_with(&dir.path(), nobody).unwrap();
    let chance = &mut Chance(21);
    let mut whole = 0;
    // 60 names and 80 ids: names go and come again, ids change hands.
    for generation in 1..=1000 {
        let mut changes = Changes { generation, ..Changes::default() };
        for _ in 0..1 + chance.below(3) {
            let n = chance.below(60);
            let name = format!("user{n}");
            content.users.retain(|u| u.passwd.name != name);
            let uid = 100_000 + chance.below(80) as u32;
            let free = content.users.iter().all(|u| u.passwd.uid != uid)
                && changes.users.values().flatten().all(|u| u.passwd.uid != uid);
            let new = (free && chance.below(3) > 0).then(|| somebody(n, uid, chance.next()));
            content.users.extend(new.clone());
            changes.users.insert(name, new);
        }
        let n = chance.below(20);
        let name = format!("group {n}");
        content.groups.retain(|g| g.name != name);
        let members = (0..chance.below(9)).map(|m| format!("user{m}")).collect();
        let new = (chance.below(4) > 0).then(|| Group { name: name.clone(), gid: 70_000 + n as u32, members });
        content.groups.extend(new.clone());
        changes.groups.insert(name, new);

        let was_tight = file.is_tight();
        match file.change(&changes) {
            Ok(left_out) => assert_eq!(left_out, []),
            Err(e) => {
                assert!(was_tight && matches!(e, ChangeError::Full), "{generation}: {e}");
                content.generation = generation;
                file = published(&dir, &content, Room::ForChanges);
                reader = Mapping::open_with(&dir.path(), nobody).unwrap();
                whole += 1;
            }
        }
        let view = reader.view();
        assert_eq!(view.generation(), generation);
        assert_eq!((view.users() as usize, view.groups() as usize), (content.users.len(), content.groups.len()));
        content.users.sort_by(|a, b| a.passwd.name.cmp(&b.passwd.name));
        content.groups.sort_by(|a, b| a.name.cmp(&b.name));
        let passwd: Vec<_> = content.users.iter().map(|u| u.passwd.clone()).collect();
        assert_eq!(enumerated(view), (passwd, content.groups.clone()));
        for n in 0..60 {
            let name = format!("user{n}");
            let want = content.users.iter().find(|u| u.passwd.name == name);
            let found = user(|o| view.user_by_name(name.as_bytes(), o));
            assert_eq!(found, want.map_or(Lookup::Absent, |u| Lookup::Found(u.passwd.clone())));
            let gids = match view.group_ids_of(name.as_bytes()) {
                Lookup::Found(ids) => Some(ids.collect::<Vec<_>>()),
                other => {
                    assert!(matches!(other, Lookup::Absent));
                    None
                }
            };
            assert_eq!(gids.as_ref(), want.map(|u| &u.gids));
        }
        for uid in 100_000..100_080 {
            let want = content.users.iter().find(|u| u.passwd.uid == uid);
            let found = user(|o| view.user_by_uid(uid, o));
            assert_eq!(found, want.map_or(Lookup::Absent, |u| Lookup::Found(u.passwd.clone())), "{uid}");
        }
        for g in 0..20 {
            let want = content.groups.iter().find(|have| have.gid == 70_000 + g);
            let want = want.map_or(Lookup::Absent, |g| Lookup::Found(g.clone()));
            assert_eq!(group(|o| view.group_by_gid(70_000 + g, o)), want);
            assert_eq!(group(|o| view.group_by_name(format!("group {g}").as_bytes(), o)), want);
        }
    }
    assert!((1..6).contains(&whole), "{whole}");
}

#[test]
fn what_is_so_already_takes_no_room() {
    let dir = Dir::new("same");
    let content = Content { users: vec![somebody(1, 100_001, 5)], ..Content::default() };
    let mut file = published(&dir, &content, Room::ForChanges);
    let tail = |file: &Published| file.space.as_ref().unwrap().tail;
    let before = tail(&file);
    for generation in 1..50 {
        let again = content.users.iter().map(|u| (u.passwd.name.clone(), Some(u.clone())));
        file.change(&of_users(generation, again)).unwrap();
        file.change(&of_users(generation, [("nobody".into(), None)])).unwrap();
    }
    assert_eq!(tail(&file), before);
    assert_eq!(file.generation(), 49);
}

#[test]
fn an_id_of_another_is_refused_and_one_that_she_leaves_is_not() {
    let dir = Dir::new("ids");
    let content = Content { users: vec![somebody(1, 100_001, 5), somebody(2, 100_002, 5)], ..Content::default() };
    let mut file = published(&dir, &content, Room::ForChanges);
    let change = |user: SnapshotUser| (user.passwd.name.clone(), Some(user));
    let left_out = file.change(&of_users(1, [change(somebody(3, 100_001, 1))])).unwrap();
    assert_eq!(left_out, [EncodeError::DoubleUser("user3".into())]);
    assert_eq!(user(|o| file.view().user_by_name(b"user3", o)), Lookup::Absent);
    let swapped = [change(somebody(1, 100_002, 6)), change(somebody(2, 100_001, 6))];
    assert_eq!(file.change(&of_users(2, swapped)).unwrap(), []);
    assert_eq!(user(|o| file.view().user_by_uid(100_001, o)), Lookup::Found(somebody(2, 100_001, 6).passwd));
    assert_eq!(user(|o| file.view().user_by_uid(100_002, o)), Lookup::Found(somebody(1, 100_002, 6).passwd));
    // One that is not legal any more is as if she were gone, and the others are as they should be.
    let mut bad = somebody(1, 100_002, 7);
    bad.passwd.home = "/home/a:b".into();
    let left_out = file.change(&of_users(3, [change(bad), change(somebody(3, 100_003, 1))])).unwrap();
    assert_eq!(left_out, [EncodeError::BadUser("user1".into())]);
    assert_eq!(user(|o| file.view().user_by_uid(100_002, o)), Lookup::Absent);
    assert_eq!(user(|o| file.view().user_by_name(b"user3", o)), Lookup::Found(somebody(3, 100_003, 1).passwd));
}

#[test]
fn a_file_without_room_says_so_and_one_from_before_is_not_touched() {
    let dir = Dir::new("full");
    let content = Content { users: vec![somebody(1, 100_001, 5)], ..Content::default() };
    let one = || of_users(1, [("user2".to_owned(), Some(somebody(2, 100_002, 1)))]);
    let mut file = published(&dir, &content, Room::None);
    assert!(matches!(file.change(&one()), Err(ChangeError::Full)));
    assert_eq!(user(|o| file.view().user_by_name(b"user1", o)), Lookup::Found(somebody(1, 100_001, 5).passwd));

    let mut file = published(&dir, &content, Room::ForChanges);
    let mut n = 2;
    let (mut tight, mut added) = (None, 0);
    loop {
        let batch = (n..n + 50).map(|n| (format!("user{n}"), Some(somebody(n, 100_000 + n as u32, 3))));
        match file.change(&of_users(n as u64, batch)) {
            Ok(_) => (n, added) = (n + 50, added + 50),
            Err(e) => break assert!(matches!(e, ChangeError::Full)),
        }
        tight = tight.or(file.is_tight().then_some(n));
    }
    assert!(added >= 200 && tight.is_some_and(|t| t < n - 50), "{added} {tight:?}");
    for known in 1..n {
        assert!(matches!(user(|o| file.view().user_by_uid(100_000 + known as u32, o)), Lookup::Found(_)));
    }
    drop(file);
    let mut kept = Published::open_existing(&dir.path()).unwrap();
    assert!(kept.is_tight());
    assert!(matches!(kept.change(&one()), Err(ChangeError::Full)));
}

#[test]
fn a_prepared_file_is_changed_before_it_is_seen_and_leaves_nothing_behind() {
    let dir = Dir::new("prepared");
    let content = Content { users: vec![somebody(1, 100_001, 5)], ..Content::default() };
    let bytes = encode(&content, Room::ForChanges).unwrap();
    let mut publisher = Publisher::open(&dir.path());
    drop(Prepared::write(&dir.path(), &bytes, now_ms()).unwrap());
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
    let mut prepared = Prepared::write(&dir.path(), &bytes, now_ms() + VALIDITY_MS).unwrap();
    prepared.change(&of_users(9, [("user2".to_owned(), Some(somebody(2, 100_002, 1)))])).unwrap();
    assert!(!dir.path().exists());
    publisher.replace(prepared).unwrap();
    assert_eq!(publisher.current().map(Published::generation), Some(9));
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1);
    assert_eq!(
        user(|o| publisher.current().unwrap().view().user_by_uid(100_002, o)),
        Lookup::Found(somebody(2, 100_002, 1).passwd)
    );
}
