//! What is never given is not given by the reader either, wherever a captured broker puts it: each
//! class of ids and names at each place, by each question.

use super::format::{GROUP_HEAD, Section, USER_HEAD, at};
use super::table::{Key, Place, find};
use super::tests::directory;
use super::*;
use crate::entry::{Group, Passwd, Refusal};
use crate::id::NEVER;
use crate::local::LocalAccounts;
use crate::name::POWER_GROUPS;
use std::io;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const LOCAL_ID: u32 = 1500;
/// A local one that root has opened.
const OPEN_GID: u32 = 44;

fn local() -> io::Result<LocalAccounts> {
    let passwd = "root:x:0:0::/root:/bin/sh\nubuntu:x:1500:1500::/home/ubuntu:/bin/sh\n";
    Ok(LocalAccounts::from_texts(passwd, "video:x:44:\nubuntu:x:1500:\nplocate:x:1501:\n", "44\n"))
}

/// The ends and the middle of each range, and one that is local.
fn ids() -> impl Iterator<Item = u32> {
    NEVER.into_iter().flat_map(|(first, last)| [first, first.midpoint(last), last]).chain([LOCAL_ID])
}

const BAD_NAMES: [&str; 9] = ["-x", ".x", "1000", "a:b", "a/b", "a\nb", "a\tb", "\u{e4}", "a\u{7f}"];

/// A file of one user and one group, which a captured broker goes on to change.
struct Forgery(Vec<u8>);

impl Forgery {
    /// A user with uid 20001 in the group with gid 20100 and another one. The encoder, which would
    /// refuse some of the names, is given others as long as these.
    fn of(user: &str, group: &str) -> Self {
        let (user_q, group_q) = ("q".repeat(user.len()), "q".repeat(group.len()));
        let passwd = Passwd {
            name: user_q,
            uid: 20001,
            gid: 20001,
            gecos: String::new(),
            home: "/home/m".into(),
            shell: "/bin/sh".into(),
        };
        let content = Content {
            generation: 1,
            complete: true,
            login_programs: Vec::new(),
            users: vec![SnapshotUser { passwd, gids: vec![20100, 20101] }],
            groups: vec![Group { name: group_q, gid: 20100, members: vec!["mallory".into()] }],
        };
        let mut new = Self(encode(&content, Room::None).unwrap());
        new.put(new.record(Section::UserIndex) + USER_HEAD, user.as_bytes());
        new.put(new.record(Section::GroupIndex) + GROUP_HEAD, group.as_bytes());
        new.lead(Section::UserNames, Section::UserIndex, |seed| Key::of_name(seed, user.as_bytes()));
        new.lead(Section::GroupNames, Section::GroupIndex, |seed| Key::of_name(seed, group.as_bytes()));
        new
    }

    fn new() -> Self {
        Self::of("mallory", "gang")
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn section(&self, section: Section) -> (usize, usize) {
        let at = at::SECTIONS + section as usize * 8;
        (self.u32(at) as usize, self.u32(at + 4) as usize)
    }

    /// Lets a table lead to the one record of an index by another key than its own.
    fn lead(&mut self, table: Section, index: Section, key: impl Fn(u64) -> Key) {
        let seed = u64::from_le_bytes(self.0[at::SEED..at::SEED + 8].try_into().unwrap());
        let ((start, len), unit) = (self.section(table), self.u32(self.section(index).0));
        let word = |slot: usize| u64::from_le_bytes(self.0[start + slot * 8..start + slot * 8 + 8].try_into().unwrap());
        let Place::Free(slot) = find(len / 8, key(seed), word, |_| false) else { panic!("no room in the table") };
        self.put(start + slot * 8, &key(seed).slot(unit).to_le_bytes());
    }

    fn record(&self, index: Section) -> usize {
        self.u32(self.section(index).0) as usize * 8
    }

    fn uid(mut self, uid: u32) -> Self {
        self.put(self.record(Section::UserIndex), &uid.to_le_bytes());
        self.lead(Section::UserIds, Section::UserIndex, |seed| Key::of_id(seed, uid));
        self
    }

    fn primary_gid(mut self, gid: u32) -> Self {
        self.put(self.record(Section::UserIndex) + 4, &gid.to_le_bytes());
        self
    }

    /// In the place of 20100, the first of two.
    fn supplementary_gid(mut self, gid: u32) -> Self {
        let record = self.record(Section::UserIndex);
        let here = (record..).step_by(4).find(|at| self.u32(*at) == 20100).unwrap();
        self.put(here, &gid.to_le_bytes());
        self
    }

    fn gid(mut self, gid: u32) -> Self {
        self.put(self.record(Section::GroupIndex), &gid.to_le_bytes());
        self.lead(Section::GroupIds, Section::GroupIndex, |seed| Key::of_id(seed, gid));
        self
    }

    fn member(mut self, name: &str) -> Self {
        let text = self.record(Section::GroupIndex) + GROUP_HEAD + "gang\0".len();
        self.put(text, name.as_bytes());
        self
    }

    /// What all the questions about the user give.
    fn user(&self, name: &str, uid: u32) -> [Answer<()>; 4] {
        let place = Forged::new(&self.0);
        let mut memory = [MaybeUninit::uninit(); 512];
        let mut out = Out::new(&mut memory);
        let by_name = place.reader.user_by_name(name.as_bytes(), &mut out);
        let by_uid = place.reader.user_by_uid(uid, &mut out);
        let mut taken = 0;
        let groups = place.reader.group_ids_of(name.as_bytes(), |ids| taken = ids.count());
        assert!(groups == Answer::Found(()) || taken == 0, "groups of somebody who is refused");
        let walked = place.mapping().user_at(&mut 0, &mut out).map(|found| found.map(drop));
        [unit(by_name), unit(by_uid), groups, of_walk(walked)]
    }

    /// What all the questions about the group give.
    fn group(&self, name: &str, gid: u32) -> [Answer<()>; 3] {
        let place = Forged::new(&self.0);
        let mut memory = [MaybeUninit::uninit(); 512];
        let mut out = Out::new(&mut memory);
        let by_name = place.reader.group_by_name(name.as_bytes(), &mut out);
        let by_gid = place.reader.group_by_gid(gid, &mut out);
        let walked = place.mapping().group_at(&mut 0, &mut out).map(|found| found.map(drop));
        [unit(by_name), unit(by_gid), of_walk(walked)]
    }

    /// The groups that mallory is told to be in.
    fn gids(&self) -> Vec<u32> {
        let (place, mut gids) = (Forged::new(&self.0), Vec::new());
        assert_eq!(place.reader.group_ids_of(b"mallory", |ids| gids = ids.collect()), Answer::Found(()));
        gids
    }
}

fn unit<T>(answer: Answer<T>) -> Answer<()> {
    match answer {
        Answer::Found(_) => Answer::Found(()),
        Answer::Absent => Answer::Absent,
        Answer::Refused => Answer::Refused,
        Answer::TooSmall => Answer::TooSmall,
        Answer::Unknown => Answer::Unknown,
    }
}

/// A walk passes over who is refused.
fn of_walk(walked: Lookup<Result<(), Refusal>>) -> Answer<()> {
    match walked {
        Lookup::Found(Ok(())) => Answer::Found(()),
        Lookup::Found(Err(_)) => Answer::Refused,
        Lookup::Absent => Answer::Absent,
        Lookup::TooSmall => Answer::TooSmall,
        Lookup::Corrupt => Answer::Unknown,
    }
}

/// A forged file that is published, and a reader of it.
struct Forged {
    dir: PathBuf,
    reader: Reader,
    _published: Published,
}

impl Forged {
    fn new(bytes: &[u8]) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let dir = directory(&format!("never-{}", N.fetch_add(1, Ordering::Relaxed)));
        let path: &'static str = dir.join("snapshot").to_str().unwrap().to_owned().leak();
        let published = Published::write(path.as_ref(), bytes, now_ms() + VALIDITY_MS).unwrap();
        Self { dir, reader: Reader::with_local(path, local), _published: published }
    }

    fn mapping(&self) -> Mapping {
        Mapping::open_with(self.reader.path(), local).unwrap()
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const FOUND: Answer<()> = Answer::Found(());
const REFUSED: Answer<()> = Answer::Refused;

#[test]
fn what_is_not_forged_is_found() {
    assert_eq!(Forgery::new().user("mallory", 20001), [FOUND; 4]);
    assert_eq!(Forgery::new().group("gang", 20100), [FOUND; 3]);
    assert_eq!(Forgery::new().gids(), [20100, 20101]);
    // The forger's means are good: with ids that are allowed all is found where it is now.
    assert_eq!(Forgery::new().uid(20002).user("mallory", 20002), [FOUND; 4]);
    assert_eq!(Forgery::new().gid(20200).group("gang", 20200), [FOUND; 3]);
    assert_eq!(Forgery::new().supplementary_gid(OPEN_GID).gids(), [OPEN_GID, 20101]);
    assert_eq!(Forgery::new().primary_gid(OPEN_GID).user("mallory", 20001), [FOUND; 4], "root has opened it");
}

#[test]
fn ids_that_are_never_given() {
    for id in ids() {
        assert_eq!(Forgery::new().uid(id).user("mallory", id), [REFUSED; 4], "uid {id}");
        assert_eq!(Forgery::new().primary_gid(id).user("mallory", 20001), [REFUSED; 4], "primary gid {id}");
        assert_eq!(Forgery::new().gid(id).group("gang", id), [REFUSED; 3], "gid {id}");
        // 0 is what the encoder never writes at all: the whole list is damaged.
        if id != 0 {
            assert_eq!(Forgery::new().supplementary_gid(id).gids(), [20101], "supplementary gid {id}");
        }
    }
    let zero = Forged::new(&Forgery::new().supplementary_gid(0).0);
    let mut taken = Vec::new();
    let answer = zero.reader.group_ids_of(b"mallory", |ids| taken.extend(ids));
    assert_eq!((answer, taken), (Answer::Unknown, vec![]));
}

#[test]
fn names_that_are_local_or_give_power_or_are_none() {
    for name in ["root", "ubuntu"].into_iter().chain(BAD_NAMES) {
        assert_eq!(Forgery::of(name, "gang").user(name, 20001), [REFUSED; 4], "user {name:?}");
    }
    for name in POWER_GROUPS.iter().copied().chain(["video", "ubuntu", "plocate"]).chain(BAD_NAMES) {
        assert_eq!(Forgery::of("mallory", name).group(name, 20100), [REFUSED; 3], "group {name:?}");
    }
    for name in POWER_GROUPS.iter().map(|name| name.to_uppercase()) {
        assert_eq!(Forgery::of("mallory", &name).group(&name, 20100), [REFUSED; 3], "group {name:?}");
    }
    // A NUL makes a name of two, and a file that contradicts itself.
    assert_eq!(Forgery::of("a\0b", "gang").user("a\0b", 20001), [REFUSED; 4]);
    assert!(!Forgery::of("mallory", "a\0b").group("a\0b", 20100).contains(&FOUND));
    // As long as the one member's.
    for name in ["-allory", "mal:ory", "mal\nory", "mal ory", "1234567"] {
        assert_eq!(Forgery::new().member(name).group("gang", 20100), [REFUSED; 3], "member {name:?}");
    }
}
