//! Changes in a file that is in use, against a model, and under readers.

use super::*;
use crate::entry::Passwd;
use crate::local::LocalAccounts;
use crate::snapshot::tests::{Chance, group, user};
use crate::snapshot::{Content, Lookup, Mapping, Out, Prepared, Publisher, Reader, Room, VALIDITY_MS, encode, now_ms};
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A directory of one test's own.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gpuhub-change-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
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

/// How long the readers are troubled: GPUHUB_STRESS_SECONDS, or a few.
fn stress_time() -> Duration {
    let seconds = std::env::var("GPUHUB_STRESS_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

const CROWD: usize = 400;

fn crowd(generation: u64) -> Content {
    let users: Vec<_> = (0..CROWD).map(|n| somebody(n, 100_000 + n as u32, generation)).collect();
    let members = users.iter().map(|u| u.passwd.name.clone()).collect();
    let groups = vec![Group { name: "all".into(), gid: 70_000, members }];
    Content { generation, complete: true, users, groups, ..Content::default() }
}

/// One round of a reader's questions; the newest version seen of each user is in `seen`.
fn ask(reader: &Reader, seen: &mut [u64], chance: &mut Chance) {
    let mut memory = [MaybeUninit::uninit(); 1 << 14];
    let n = chance.below(CROWD);
    let name = format!("user{n}");
    let mut out = Out::new(&mut memory);
    let found = match chance.below(2) {
        0 => reader.user_by_name(name.as_bytes(), &mut out),
        _ => reader.user_by_uid(100_000 + n as u32, &mut out),
    };
    let crate::snapshot::Answer::Found(entry) = found else { panic!("{name} is missing: {found:?}") };
    let [its_name, gecos, home, _] = entry.fields(out.bytes()).map(|f| std::str::from_utf8(f).unwrap());
    assert_eq!((its_name, entry.uid, home), (&*name, 100_000 + n as u32, &*format!("/home/{name}")));
    let version: u64 = gecos.trim_start_matches('v').parse().unwrap();
    assert_eq!(gecos, somebody(n, 1, version).passwd.gecos, "torn");
    assert!(version >= seen[n], "{name} was at {} and is at {version}", seen[n]);
    seen[n] = version;
    let mut gids = 0;
    let known = reader.group_ids_of(name.as_bytes(), |ids| gids = ids.count());
    assert_eq!(known, crate::snapshot::Answer::Found(()));
    assert!(gids <= 6);
    let guest = format!("guest{}", chance.below(50));
    let answer = reader.user_by_name(guest.as_bytes(), &mut Out::new(&mut memory));
    assert!(
        matches!(answer, crate::snapshot::Answer::Found(_) | crate::snapshot::Answer::Absent),
        "{guest}: {answer:?}"
    );
    let members = reader.group_by_gid(70_000, &mut Out::new(&mut memory));
    assert!(matches!(members, crate::snapshot::Answer::Found(g) if g.members == CROWD), "{members:?}");
}

fn in_a_child(f: impl FnOnce()) -> bool {
    // SAFETY: fork(2), alarm(2), _exit(2) take no pointers, waitpid(2) writes one int. The child
    // of many threads goes on to allocate: glibc's allocator is made ready for that.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(20);
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            libc::_exit(i32::from(!well));
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0) == child && status == 0
    }
}

#[test]
fn changed_and_replaced_a_hundred_times_a_second_under_eight_readers_that_fork() {
    let dir = Dir::new("stress");
    let path: &'static str = dir.path().to_str().unwrap().to_owned().leak();
    let reader: &'static Reader = Box::leak(Box::new(Reader::with_local(path, nobody)));
    reader.register();
    let mut publisher = Publisher::open(&dir.path());
    publisher.publish(&encode(&crowd(1), Room::ForChanges).unwrap(), now_ms() + VALIDITY_MS).unwrap();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|l| l.contains(path)).count();
    let descriptors = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter(|l| std::fs::read_link(l.path()).is_ok_and(|to| to.to_string_lossy().contains(path))).count()
    };
    let stop = AtomicBool::new(false);
    let (mut generation, mut whole, mut forks) = (1u64, 0, 0);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let stop = &stop;
            scope.spawn(move || {
                let (mut seen, mut chance) = (vec![0; CROWD], Chance(100 + seed));
                while !stop.load(Ordering::Relaxed) {
                    ask(reader, &mut seen, &mut chance);
                }
            });
        }
        let forking = scope.spawn(|| {
            let mut forks = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(in_a_child(|| {
                    let (mut seen, mut chance) = (vec![0; CROWD], Chance(7));
                    let end = Instant::now() + Duration::from_millis(30);
                    while Instant::now() < end {
                        ask(reader, &mut seen, &mut chance);
                    }
                }));
                forks += 1;
            }
            forks
        });
        let (start, mut chance, mut versions) = (Instant::now(), Chance(22), vec![1u64; CROWD]);
        let mut guests = std::collections::HashSet::new();
        while start.elapsed() < stress_time() && !forking.is_finished() {
            generation += 1;
            let n = chance.below(CROWD);
            versions[n] = generation;
            let guest = chance.below(50);
            let comes = guests.insert(guest) || !guests.remove(&guest);
            let guest_user = SnapshotUser {
                passwd: Passwd { name: format!("guest{guest}"), ..somebody(0, 300_000 + guest as u32, 1).passwd },
                gids: Vec::new(),
            };
            let changes = of_users(
                generation,
                [
                    (format!("user{n}"), Some(somebody(n, 100_000 + n as u32, generation))),
                    (format!("guest{guest}"), comes.then_some(guest_user)),
                ],
            );
            // Now and then a whole file though there were room.
            let changed = if chance.below(8) == 0 { Err(ChangeError::Full) } else { publisher.change(&changes) };
            if let Err(e) = changed {
                assert!(matches!(e, ChangeError::Full), "{e}");
                whole += 1;
                let mut content = crowd(generation);
                for (n, user) in content.users.iter_mut().enumerate() {
                    *user = somebody(n, 100_000 + n as u32, versions[n]);
                }
                content.users.extend(guests.iter().map(|g| SnapshotUser {
                    passwd: Passwd { name: format!("guest{g}"), ..somebody(0, 300_000 + *g as u32, 1).passwd },
                    gids: Vec::new(),
                }));
                let bytes = encode(&content, Room::ForChanges).unwrap();
                publisher.publish(&bytes, now_ms() + VALIDITY_MS).unwrap();
            }
            publisher.push_valid_until(now_ms() + VALIDITY_MS);
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        forks = forking.join().unwrap();
    });
    assert!(whole > 5 && forks > 5 && generation > 50, "{whole} whole files, {generation} changes, {forks} forks");
    std::thread::sleep(Duration::from_millis(20));
    ask(reader, &mut vec![0; CROWD], &mut Chance(1));
    assert_eq!(maps(), 2, "the reader's and the publisher's, after {generation} changes and {whole} files");
    assert_eq!(descriptors(), 1, "the publisher's");
}
