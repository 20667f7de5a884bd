//! Encoder and view against a naive model, and the view against bytes that nobody encoded.
#![allow(unsafe_code)] // views over memory of the test's own

use super::*;
use crate::entry::{Group, Passwd};

/// xorshift64*: enough chance for a test, and the same every time.
pub(super) struct Chance(pub u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A directory of one test's own. In memory, as a run directory is: fsync(2) of a disk would be most
/// of what a test does.
pub(super) fn directory(name: &str) -> std::path::PathBuf {
    let shm = std::path::Path::new("/dev/shm");
    let dir = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let dir = dir.join(format!("gpuhub-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    dir
}

/// Bytes at an aligned address, as mmap(2) would have them.
pub(super) struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        };
        Self { words: bytes.chunks(8).map(word).collect(), len: bytes.len() }
    }

    pub(super) fn set(&mut self, at: usize, byte: u8) -> u8 {
        let mut word = self.words[at / 8].to_ne_bytes();
        let old = std::mem::replace(&mut word[at % 8], byte);
        self.words[at / 8] = u64::from_ne_bytes(word);
        old
    }

    pub(super) fn view(&self) -> Result<View, ViewError> {
        // SAFETY: the words outlive every view in these tests, and nobody writes them.
        unsafe { View::new(self.words.as_ptr().cast(), self.len) }
    }
}

/// A search's answer, owned.
pub(super) fn user(find: impl FnOnce(&mut Out<'_>) -> Lookup<UserEntry>) -> Lookup<Passwd> {
    let mut memory: Vec<u8> = Vec::with_capacity(1 << 14);
    let mut out = Out::new(memory.spare_capacity_mut());
    match find(&mut out) {
        Lookup::Found(e) => {
            let [name, gecos, home, shell] = e.fields(out.bytes()).map(|f| String::from_utf8_lossy(f).into_owned());
            Lookup::Found(Passwd { name, uid: e.uid, gid: e.gid, gecos, home, shell })
        }
        Lookup::Absent => Lookup::Absent,
        Lookup::TooSmall => Lookup::TooSmall,
        Lookup::Corrupt => Lookup::Corrupt,
    }
}

/// A search's answer, owned.
pub(super) fn group(find: impl FnOnce(&mut Out<'_>) -> Lookup<GroupEntry>) -> Lookup<Group> {
    let mut memory: Vec<u8> = Vec::with_capacity(1 << 20);
    let mut out = Out::new(memory.spare_capacity_mut());
    match find(&mut out) {
        Lookup::Found(e) => Lookup::Found(Group {
            name: String::from_utf8_lossy(e.name(out.bytes())).into_owned(),
            gid: e.gid,
            members: e.members(out.bytes()).map(|m| String::from_utf8_lossy(m).into_owned()).collect(),
        }),
        Lookup::Absent => Lookup::Absent,
        Lookup::TooSmall => Lookup::TooSmall,
        Lookup::Corrupt => Lookup::Corrupt,
    }
}

/// `users` people in some groups, by chance but always the same for the same numbers.
pub(super) fn content(users: usize, groups: usize, chance: &mut Chance) -> Content {
    let mut out = Content {
        generation: chance.next(),
        complete: true,
        login_programs: vec!["sshd".into(), "login".into()],
        ..Content::default()
    };
    for n in 0..groups {
        let gid = 500_000_000 + n as u32 * 7;
        out.groups.push(Group { name: format!("group {n}"), gid, members: Vec::new() });
    }
    for n in 0..users {
        let name = format!("u{n}{}", "x".repeat(chance.below(20)));
        let mut gids = Vec::new();
        for _ in 0..chance.below(5).min(groups) {
            let g = &mut out.groups[chance.below(groups)];
            g.members.push(name.clone());
            gids.push(g.gid);
        }
        out.users.push(SnapshotUser {
            passwd: Passwd {
                uid: 1_000_000_000 + n as u32 * 3,
                gid: 1_000_000_000 + n as u32 * 3,
                gecos: "é".repeat(chance.below(30)),
                home: format!("/home/{name}"),
                shell: "/bin/bash".into(),
                name,
            },
            gids,
        });
    }
    out
}

fn check_all(content: &Content, step: usize) {
    let bytes = encode(content, Room::None).unwrap();
    let memory = Aligned::new(&bytes);
    let view = memory.view().unwrap();
    assert_eq!((view.generation(), view.complete()), (content.generation, content.complete));
    assert_eq!((view.users() as usize, view.groups() as usize), (content.users.len(), content.groups.len()));
    for u in content.users.iter().step_by(step) {
        let p = &u.passwd;
        assert_eq!(user(|o| view.user_by_name(p.name.as_bytes(), o)), Lookup::Found(p.clone()));
        assert_eq!(user(|o| view.user_by_uid(p.uid, o)), Lookup::Found(p.clone()));
        assert_eq!(user(|o| view.user_by_uid(p.uid + 1, o)), Lookup::Absent);
        assert_eq!(user(|o| view.user_by_name(format!("{}y", p.name).as_bytes(), o)), Lookup::Absent);
        let mut want = u.gids.clone();
        want.sort_unstable();
        want.dedup();
        let Lookup::Found(found) = view.group_ids_of(p.name.as_bytes()) else { panic!("{} has no groups", p.name) };
        assert_eq!((found.uid, found.gid, found.collect::<Vec<_>>()), (p.uid, p.gid, want));
    }
    for g in content.groups.iter().step_by(step) {
        assert_eq!(group(|o| view.group_by_name(g.name.as_bytes(), o)), Lookup::Found(g.clone()));
        assert_eq!(group(|o| view.group_by_gid(g.gid, o)), Lookup::Found(g.clone()));
        assert_eq!(group(|o| view.group_by_gid(g.gid + 1, o)), Lookup::Absent);
    }
    let mut sorted: Vec<&Passwd> = content.users.iter().map(|u| &u.passwd).collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for (n, p) in sorted.into_iter().enumerate().step_by(step) {
        assert_eq!(user(|o| view.user_at(&mut (n as u32), o)), Lookup::Found(p.clone()));
    }
    assert_eq!(user(|o| view.user_at(&mut view.users(), o)), Lookup::Absent);
    assert_eq!(group(|o| view.group_at(&mut view.groups(), o)), Lookup::Absent);
}

#[test]
fn everything_that_went_in_comes_out() {
    check_all(&content(0, 0, &mut Chance(1)), 1);
    check_all(&content(10, 3, &mut Chance(2)), 1);
    check_all(&content(1000, 100, &mut Chance(3)), 1);
    check_all(&content(100_000, 5000, &mut Chance(4)), 97);
}

/// User `n` of a million, in some of the hundred thousand groups.
fn one_of_a_million(n: u32) -> SnapshotUser {
    let name = format!("u{n}");
    let passwd = Passwd {
        uid: 1_000_000_000 + n,
        gid: 1_500_000_000 + n % 100_000,
        gecos: format!("User {n}"),
        home: format!("/home/{name}"),
        shell: "/bin/bash".into(),
        name,
    };
    SnapshotUser { passwd, gids: (1..1 + n % 4).map(|g| 1_500_000_000 + (n + g) % 100_000).collect() }
}

#[test]
fn a_million_users_and_a_hundred_thousand_groups() {
    let group_of = |n: u32| Group { name: format!("g{n}"), gid: 1_500_000_000 + n, members: vec![format!("u{n}")] };
    let mut encoder = Encoder::new(1, true, &[]).unwrap();
    (0..1_000_000).for_each(|n| encoder.user(&one_of_a_million(n)).unwrap());
    (0..100_000).for_each(|n| encoder.group(&group_of(n)).unwrap());
    let Encoded { bytes, left_out } = encoder.finish(Room::ForChanges).unwrap();
    assert_eq!(left_out, []);
    let memory = Aligned::new(&bytes);
    drop(bytes);
    let view = memory.view().unwrap();
    assert_eq!((view.users(), view.groups()), (1_000_000, 100_000));
    // Everybody's place in the tables, by the cheapest question; of a thousand all there is.
    let mut none = [];
    for n in 0..1_000_000 {
        let name = format!("u{n}");
        assert!(matches!(view.group_ids_of(name.as_bytes()), Lookup::Found(ids) if ids.uid == 1_000_000_000 + n));
        assert_eq!(view.user_by_uid(1_000_000_000 + n, &mut Out::new(&mut none)), Lookup::TooSmall, "{n}");
    }
    for n in (0..1_000_000).step_by(997) {
        let SnapshotUser { passwd, gids } = one_of_a_million(n);
        let Lookup::Found(found) = view.group_ids_of(passwd.name.as_bytes()) else { panic!("{n}") };
        let mut want = gids;
        want.sort_unstable();
        assert_eq!((found.gid, found.collect()), (passwd.gid, want));
        assert_eq!(user(|o| view.user_by_name(passwd.name.as_bytes(), o)), Lookup::Found(passwd.clone()));
        assert_eq!(user(|o| view.user_by_uid(passwd.uid, o)), Lookup::Found(passwd));
        assert_eq!(user(|o| view.user_by_name(format!("v{n}").as_bytes(), o)), Lookup::Absent);
        assert_eq!(user(|o| view.user_by_uid(2_100_000_000 + n, o)), Lookup::Absent);
        let g = n % 100_000;
        assert_eq!(group(|o| view.group_by_name(format!("g{g}").as_bytes(), o)), Lookup::Found(group_of(g)));
        assert_eq!(group(|o| view.group_by_gid(1_500_000_000 + g, o)), Lookup::Found(group_of(g)));
    }
    // A walk from end to end has each of them once.
    let (mut at, mut count, mut sum) = (0, 0u64, 0u64);
    let mut memory = [std::mem::MaybeUninit::uninit(); 256];
    while let Lookup::Found(entry) = view.user_at(&mut at, &mut Out::new(&mut memory)) {
        (at, count, sum) = (at + 1, count + 1, sum + u64::from(entry.uid - 1_000_000_000));
    }
    assert_eq!((count, sum), (1_000_000, 1_000_000 * 999_999 / 2));
}

#[test]
fn the_largest_group_and_the_most_groups() {
    let mut c = content(3, 10_000, &mut Chance(5));
    c.users[1].gids = c.groups.iter().map(|g| g.gid).collect();
    c.groups[2].members = (0..100_000).map(|n| format!("m{n}")).collect();
    check_all(&c, 1);
}

#[test]
fn the_same_content_in_another_order_gives_the_same_bytes() {
    let mut c = content(50, 20, &mut Chance(6));
    let bytes = encode(&c, Room::None).unwrap();
    c.users.reverse();
    c.groups.rotate_left(7);
    c.users.iter_mut().for_each(|u| {
        u.gids.reverse();
        u.gids.extend_from_within(..);
    });
    assert_eq!(encode(&c, Room::None).unwrap(), bytes);
    c.generation += 1;
    assert_ne!(encode(&c, Room::None).unwrap(), bytes);
}

#[test]
fn what_is_not_legal_is_not_encoded() {
    let good = || content(3, 3, &mut Chance(7));
    type Spoil = fn(&mut Content);
    let cases: [(Spoil, EncodeError); 13] = [
        (|c| c.users[0].passwd.name = "a:b".into(), EncodeError::BadUser("a:b".into())),
        (|c| c.users[0].passwd.uid = 0, EncodeError::BadUser(String::new())),
        (|c| c.users[0].passwd.gid = 0, EncodeError::BadUser(String::new())),
        (|c| c.users[0].gids = vec![0], EncodeError::BadUser(String::new())),
        (|c| c.users[0].passwd.gecos = "a\0b".into(), EncodeError::BadUser(String::new())),
        (|c| c.users[0].passwd.home = "/".into(), EncodeError::BadUser(String::new())),
        (|c| c.users[0].passwd.gecos = "x".repeat(5000), EncodeError::BadUser(String::new())),
        (|c| c.groups[0].name = "a\n".into(), EncodeError::BadGroup("a\n".into())),
        (|c| c.groups[0].members.push("a b".into()), EncodeError::BadGroup(String::new())),
        (|c| c.users[0].passwd.uid = c.users[1].passwd.uid, EncodeError::DoubleUser(String::new())),
        (|c| c.groups[0].name = c.groups[1].name.clone(), EncodeError::DoubleGroup(String::new())),
        (|c| c.login_programs.push("sixteen bytes ..".into()), EncodeError::BadProgram),
        (|c| c.login_programs.push(String::new()), EncodeError::BadProgram),
    ];
    for (n, (spoil, want)) in cases.into_iter().enumerate() {
        let mut c = good();
        spoil(&mut c);
        let got = encode(&c, Room::None).unwrap_err();
        assert_eq!(std::mem::discriminant(&got), std::mem::discriminant(&want), "{n}: {got}");
    }
}

#[test]
fn other_versions_and_other_files_are_refused() {
    let bytes = encode(&content(3, 3, &mut Chance(8)), Room::None).unwrap();
    for version in [0, 1, 3, 99, u32::MAX] {
        let mut other = bytes.clone();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        assert_eq!(Aligned::new(&other).view().err(), Some(ViewError::Version(version)));
    }
    for len in [0, 1, 8, 255, 256, bytes.len() - 8, bytes.len() - 1] {
        assert!(Aligned::new(&bytes[..len]).view().is_err(), "{len}");
    }
    assert_eq!(Aligned::new(&[0; 4096]).view().err(), Some(ViewError::NotASnapshot));
    assert_eq!(Aligned::new(&[bytes.clone(), vec![0; 8]].concat()).view().err(), Some(ViewError::Malformed));
}

/// Asks everything there is to ask of a view over bytes that may be anything. Each answer must
/// be what was asked for, in the form that the vetting relies on.
fn ask_everything(view: &View, content: &Content) {
    let check = |found: Lookup<Passwd>, name: Option<&str>, uid: Option<u32>| {
        if let Lookup::Found(p) = found {
            assert!(name.is_none_or(|n| n == p.name) && uid.is_none_or(|uid| uid == p.uid));
        }
    };
    for u in &content.users {
        let p = &u.passwd;
        check(user(|o| view.user_by_name(p.name.as_bytes(), o)), Some(&p.name), None);
        check(user(|o| view.user_by_uid(p.uid, o)), None, Some(p.uid));
        if let Lookup::Found(gids) = view.group_ids_of(p.name.as_bytes()) {
            assert!(gids.count() <= format::MAX_GIDS);
        }
    }
    for g in &content.groups {
        if let Lookup::Found(found) = group(|o| view.group_by_name(g.name.as_bytes(), o)) {
            assert_eq!(found.name, g.name);
        }
        if let Lookup::Found(found) = group(|o| view.group_by_gid(g.gid, o)) {
            assert_eq!(found.gid, g.gid);
        }
    }
    for n in 0..5 {
        check(user(|o| view.user_at(&mut { n }, o)), None, None);
        let _ = group(|o| view.group_at(&mut { n }, o));
    }
    check(user(|o| view.user_by_name(b"nobody.there", o)), Some("nobody.there"), None);
    check(user(|o| view.user_by_uid(77_777, o)), None, Some(77_777));
    let _ = (view.is_fresh(now_ms()), view.is_login_program(b"sshd"));
}

#[test]
fn every_byte_changed() {
    let content = content(3, 2, &mut Chance(9));
    let bytes = encode(&content, Room::None).unwrap();
    let mut memory = Aligned::new(&bytes);
    for (at, good) in bytes.iter().enumerate() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let old = memory.set(at, good ^ change);
            if let Ok(view) = memory.view() {
                ask_everything(&view, &content);
            }
            memory.set(at, old);
        }
    }
}

#[test]
fn many_bytes_changed() {
    let content = content(20, 5, &mut Chance(10));
    let bytes = encode(&content, Room::None).unwrap();
    let chance = &mut Chance(11);
    for _ in 0..4000 {
        let mut memory = Aligned::new(&bytes);
        for _ in 0..1 + chance.below(40) {
            // Numbers near the edges of something are the interesting ones.
            let byte = [0, 1, 0x7f, 0x80, 0xff, chance.next() as u8][chance.below(6)];
            // Past what a changed header would only be refused for.
            memory.set(32 + chance.below(bytes.len() - 32), byte);
        }
        if let Ok(view) = memory.view() {
            ask_everything(&view, &content);
        }
    }
}

#[test]
fn nothing_but_noise_behind_a_good_header() {
    let content = content(20, 5, &mut Chance(12));
    let bytes = encode(&content, Room::None).unwrap();
    let chance = &mut Chance(13);
    for _ in 0..500 {
        let mut memory = Aligned::new(&bytes);
        for at in format::HEADER..bytes.len() {
            memory.set(at, chance.next() as u8);
        }
        ask_everything(&memory.view().unwrap(), &content);
    }
}
