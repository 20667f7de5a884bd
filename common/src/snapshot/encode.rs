//! From users and groups to the bytes of a snapshot.

use super::format::{
    COMPLETE, GROUP_HEAD, HEADER, MAGIC, MAX_FILE, MAX_PROGRAMS, Section, USER_HEAD, VERSION, at, seeds,
};
use super::record::{GROUP_PLACE, USER_PLACE, pad, put_group, put_text, put_u32, put_user};
use super::table::{Key, build, slots_for};
use crate::entry::{Group, Passwd};
use std::collections::HashSet;
use std::fmt;

/// What a snapshot says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Number of the store's state that this is.
    pub generation: u64,
    /// Everybody is in here: who is not in it does not exist.
    pub complete: bool,
    /// Names of programs (as prctl(2), PR_GET_NAME gives them: 15 bytes) that ask before a login.
    /// For these, in a process of uid 0, an absence is never final, complete or not: the broker
    /// may have a provisional entry. Empty: nobody is special, and a complete snapshot answers
    /// every absence without a system call.
    pub login_programs: Vec<String>,
    /// The users, in any order.
    pub users: Vec<SnapshotUser>,
    /// The groups, in any order.
    pub groups: Vec<Group>,
}

/// A user with her supplementary groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotUser {
    /// Her entry.
    pub passwd: Passwd,
    /// Ids of the groups that list her, the primary one too if it does: whoever asks for her groups
    /// with another primary one (newgrp(1)) gets it. The encoder sorts them and drops doubles.
    pub gids: Vec<u32>,
}

/// Why there are no bytes, or not those of one entry. The broker's store let through what it must
/// not: it vets what directories say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// A field of this user is not legal, or she has too many groups.
    BadUser(String),
    /// A field or member of this group is not legal, or it has too many members.
    BadGroup(String),
    /// Another user has this one's name or uid.
    DoubleUser(String),
    /// Another group has this one's name or gid.
    DoubleGroup(String),
    /// A login program's name is empty or longer than 15 bytes, or there are too many.
    BadProgram,
    /// Longer than [`MAX_FILE`].
    TooLarge,
    /// No seed spreads the names well enough: someone chose them to collide.
    NoSeed,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::BadUser(name) => write!(f, "user {name:?} is not legal"),
            EncodeError::BadGroup(name) => write!(f, "group {name:?} is not legal"),
            EncodeError::DoubleUser(name) => write!(f, "user {name:?} has another one's name or uid"),
            EncodeError::DoubleGroup(name) => write!(f, "group {name:?} has another one's name or gid"),
            EncodeError::BadProgram => f.write_str("a login program's name is not legal"),
            EncodeError::TooLarge => f.write_str("the snapshot would be longer than 1 GiB"),
            EncodeError::NoSeed => f.write_str("the names cannot be spread over a hash table"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// What is left free for [`super::Published::change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Nothing: the smallest file of this content.
    None,
    /// For some thousand changes, or an eighth of what there is: it costs a few percent of the
    /// file, and the next whole one is made before it is used up.
    ForChanges,
}

impl Room {
    /// Bytes for records, where those that there are take `used`.
    fn bytes(self, used: usize) -> usize {
        match self {
            Room::None => 0,
            Room::ForChanges => (used / 8).clamp(256 << 10, 32 << 20) & !7,
        }
    }

    /// Entries that may come to `count`.
    pub(super) fn entries(self, count: usize) -> usize {
        match self {
            Room::None => 0,
            Room::ForChanges => (count / 8).max(256),
        }
    }
}

/// The bytes of a snapshot: the same for the same content, in whatever order. `valid_until` is 0 (valid for nobody)
/// until [`super::Published::write`] sets it. Nothing is encoded if one entry cannot be.
pub fn encode(content: &Content, room: Room) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new(content.generation, content.complete, &content.login_programs)?;
    let mut users: Vec<&SnapshotUser> = content.users.iter().collect();
    users.sort_unstable_by(|a, b| a.passwd.name.cmp(&b.passwd.name));
    users.into_iter().try_for_each(|u| encoder.user(u))?;
    let mut groups: Vec<&Group> = content.groups.iter().collect();
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    groups.into_iter().try_for_each(|g| encoder.group(g))?;
    let Encoded { bytes, left_out } = encoder.finish(room)?;
    left_out.into_iter().next().map_or(Ok(bytes), Err)
}

/// Takes users and groups one by one, so that nobody need hold them all at once.
#[derive(Debug)]
pub struct Encoder {
    /// Header, programs, and the records so far.
    bytes: Vec<u8>,
    generation: u64,
    complete: bool,
    programs: usize,
    users: Vec<Entry>,
    groups: Vec<Entry>,
}

/// A record, and the id that it is found by.
#[derive(Debug, Clone, Copy)]
struct Entry {
    unit: u32,
    id: u32,
    /// Its place in the index stays empty.
    hidden: bool,
}

/// A snapshot's bytes, and who is not in it.
#[derive(Debug)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// Of two with one name or id, the later one.
    pub left_out: Vec<EncodeError>,
}

impl Encoder {
    /// Of an empty snapshot; the arguments are those of [`Content`].
    pub fn new(generation: u64, complete: bool, login_programs: &[String]) -> Result<Self, EncodeError> {
        let legal = |p: &String| !p.is_empty() && p.len() <= 15 && p.bytes().all(|b| b.is_ascii_graphic());
        let programs = login_programs.iter().map(|p| p.len() + 1).sum::<usize>();
        if !login_programs.iter().all(legal) || programs > MAX_PROGRAMS {
            return Err(EncodeError::BadProgram);
        }
        let mut bytes = vec![0; HEADER];
        login_programs.iter().for_each(|p| put_text(&mut bytes, p));
        pad(&mut bytes);
        Ok(Self { bytes, generation, complete, programs, users: Vec::new(), groups: Vec::new() })
    }

    /// Adds a user; on an error she is left out and the others may follow.
    pub fn user(&mut self, user: &SnapshotUser) -> Result<(), EncodeError> {
        let unit = self.unit()?;
        put_user(&mut self.bytes, user, 0)?;
        self.users.push(Entry { unit, id: user.passwd.uid, hidden: false });
        Ok(())
    }

    /// The last user that was added is found by name and by id alone: no enumeration tells of her.
    pub fn hide_user(&mut self) {
        self.users.iter_mut().last().iter_mut().for_each(|e| e.hidden = true);
    }

    /// The same of the last group.
    pub fn hide_group(&mut self) {
        self.groups.iter_mut().last().iter_mut().for_each(|e| e.hidden = true);
    }

    /// Adds a group; on an error it is left out and the others may follow.
    pub fn group(&mut self, group: &Group) -> Result<(), EncodeError> {
        let unit = self.unit()?;
        put_group(&mut self.bytes, group, 0)?;
        self.groups.push(Entry { unit, id: group.gid, hidden: false });
        Ok(())
    }

    /// The whole file.
    pub fn finish(mut self, room: Room) -> Result<Encoded, EncodeError> {
        let mut left_out = Vec::new();
        for (entries, name_of, double) in [
            (&mut self.users, user_name as NameOf, EncodeError::DoubleUser as fn(String) -> EncodeError),
            (&mut self.groups, group_name as NameOf, EncodeError::DoubleGroup as fn(String) -> EncodeError),
        ] {
            let bytes = &self.bytes;
            entries.sort_by(|a, b| name_of(bytes, a.unit).cmp(name_of(bytes, b.unit)));
            let mut ids = HashSet::with_capacity(entries.len());
            let mut last: &[u8] = b"";
            entries.retain(|e| {
                let name = name_of(bytes, e.unit);
                let good = name != last && ids.insert(e.id);
                if good {
                    last = name;
                } else {
                    left_out.push(double(String::from_utf8_lossy(name).into_owned()));
                }
                good
            });
        }
        self.places();
        let Self { mut bytes, generation, complete, programs, users, groups } = self;
        let records = bytes.len();

        let (user_slots, group_slots) =
            (slots_for(users.len() + room.entries(users.len())), slots_for(groups.len() + room.entries(groups.len())));
        let names = |seed, entries: &[Entry], slots, name_of: NameOf| {
            build(slots, entries.iter().map(|e| (Key::of_name(seed, name_of(&bytes, e.unit)), e.unit)))
        };
        let ids =
            |seed, entries: &[Entry], slots| build(slots, entries.iter().map(|e| (Key::of_id(seed, e.id), e.unit)));
        let (seed, tables) = seeds()
            .find_map(|seed| {
                Some((
                    seed,
                    [
                        (Section::UserNames, names(seed, &users, user_slots, user_name)?),
                        (Section::UserIds, ids(seed, &users, user_slots)?),
                        (Section::GroupNames, names(seed, &groups, group_slots, group_name)?),
                        (Section::GroupIds, ids(seed, &groups, group_slots)?),
                    ],
                ))
            })
            .ok_or(EncodeError::NoSeed)?;

        let mut header = Header { sections: [(0, 0); Section::ALL.len()] };
        header.section(Section::Programs, HEADER, HEADER + programs);
        for (section, slots) in tables {
            let start = bytes.len();
            slots.iter().for_each(|slot| bytes.extend_from_slice(&slot.to_le_bytes()));
            header.section(section, start, bytes.len());
        }
        for (section, entries) in [(Section::UserIndex, &users), (Section::GroupIndex, &groups)] {
            let start = bytes.len();
            entries.iter().for_each(|e| put_u32(&mut bytes, if e.hidden { 0 } else { e.unit }));
            bytes.resize(bytes.len() + room.entries(entries.len()) * 4, 0);
            header.section(section, start, bytes.len());
            pad(&mut bytes);
        }
        let first_free = bytes.len();
        bytes.resize(first_free + room.bytes(records), 0);
        if bytes.len() > MAX_FILE {
            return Err(EncodeError::TooLarge);
        }
        header.fill(&mut bytes, |put| {
            put(at::GENERATION, &generation.to_le_bytes());
            put(at::FLAGS, &(if complete { COMPLETE } else { 0 }).to_le_bytes());
            put(at::SEED, &seed.to_le_bytes());
            put(at::USERS, &(users.len() as u32).to_le_bytes());
            put(at::GROUPS, &(groups.len() as u32).to_le_bytes());
            put(at::ROOM, &(first_free as u64).to_le_bytes());
        });
        Ok(Encoded { bytes, left_out })
    }

    /// Writes into each record where the index has it.
    fn places(&mut self) {
        for (entries, place_at) in [(&self.users, USER_PLACE), (&self.groups, GROUP_PLACE)] {
            for (place, entry) in entries.iter().enumerate() {
                put_at(&mut self.bytes, entry.unit as usize * 8 + place_at, &(place as u32).to_le_bytes());
            }
        }
    }

    /// The unit of the record that begins here.
    fn unit(&self) -> Result<u32, EncodeError> {
        if self.bytes.len() > MAX_FILE { Err(EncodeError::TooLarge) } else { Ok((self.bytes.len() / 8) as u32) }
    }
}

/// The name in the record of a unit.
type NameOf = fn(&[u8], u32) -> &[u8];

fn user_name(bytes: &[u8], unit: u32) -> &[u8] {
    text_at(bytes, unit as usize * 8 + USER_HEAD)
}

fn group_name(bytes: &[u8], unit: u32) -> &[u8] {
    text_at(bytes, unit as usize * 8 + GROUP_HEAD)
}

/// The bytes from `at` to the next NUL.
fn text_at(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).and_then(|rest| rest.split(|b| *b == 0).next()).unwrap_or_default()
}

fn put_at(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}

/// Where the sections lie.
struct Header {
    sections: [(u32, u32); Section::ALL.len()],
}

impl Header {
    fn section(&mut self, section: Section, start: usize, end: usize) {
        if let Some(place) = self.sections.get_mut(section as usize) {
            // A file of more than MAX_FILE is refused at the end.
            *place = (start as u32, (end - start) as u32);
        }
    }

    fn fill(self, bytes: &mut [u8], more: impl FnOnce(&mut dyn FnMut(usize, &[u8]))) {
        let total = bytes.len() as u64;
        let mut put = |at: usize, new: &[u8]| put_at(bytes, at, new);
        put(at::MAGIC, &MAGIC);
        put(at::VERSION, &VERSION.to_le_bytes());
        put(at::HEADER_LEN, &(HEADER as u32).to_le_bytes());
        put(at::TOTAL_LEN, &total.to_le_bytes());
        for (n, (offset, len)) in self.sections.into_iter().enumerate() {
            put(at::SECTIONS + n * 8, &offset.to_le_bytes());
            put(at::SECTIONS + n * 8 + 4, &len.to_le_bytes());
        }
        more(&mut put);
    }
}
