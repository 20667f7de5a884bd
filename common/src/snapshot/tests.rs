//! Encoder and view against a naive model, and the view against bytes that nobody encoded.
#![allow(unsafe_code)] // views over memory of the test's own

use super::view::{GroupEntry, UserEntry};
use super::*;
use crate::entry::{Group, Passwd};
use std::mem::MaybeUninit;

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

    pub(super) fn view(&self) -> Result<View, ViewError> {
        // SAFETY: the words outlive every view in these tests, and nobody writes them.
        unsafe { View::new(self.words.as_ptr().cast(), self.len) }
    }
}

/// A search's answer, owned.
pub(super) fn user(find: impl FnOnce(&mut Out<'_>) -> Lookup<UserEntry>) -> Lookup<Passwd> {
    let mut memory = vec![MaybeUninit::uninit(); 1 << 14];
    let mut out = Out::new(&mut memory);
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
    let mut memory = vec![MaybeUninit::uninit(); 1 << 20];
    let mut out = Out::new(&mut memory);
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
    let bytes = encode(content).unwrap();
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
        let mut got = Vec::new();
        let found = view.group_ids_of(p.name.as_bytes(), |gid| {
            got.push(gid);
            true
        });
        assert_eq!((found, got), (Lookup::Found((p.uid, p.gid)), want));
    }
    for g in content.groups.iter().step_by(step) {
        assert_eq!(group(|o| view.group_by_name(g.name.as_bytes(), o)), Lookup::Found(g.clone()));
        assert_eq!(group(|o| view.group_by_gid(g.gid, o)), Lookup::Found(g.clone()));
        assert_eq!(group(|o| view.group_by_gid(g.gid + 1, o)), Lookup::Absent);
    }
    let mut sorted: Vec<&Passwd> = content.users.iter().map(|u| &u.passwd).collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for (n, p) in sorted.into_iter().enumerate().step_by(step) {
        assert_eq!(user(|o| view.user_at(n as u32, o)), Lookup::Found(p.clone()));
    }
    assert_eq!(user(|o| view.user_at(view.users(), o)), Lookup::Absent);
    assert_eq!(group(|o| view.group_at(view.groups(), o)), Lookup::Absent);
}

#[test]
fn everything_that_went_in_comes_out() {
    check_all(&content(0, 0, &mut Chance(1)), 1);
    check_all(&content(10, 3, &mut Chance(2)), 1);
    check_all(&content(1000, 100, &mut Chance(3)), 1);
}
