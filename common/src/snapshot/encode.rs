//! From users and groups to the bytes of a snapshot.

use super::format::{
    COMPLETE, GROUP_HEAD, HEADER, MAGIC, MAX_FILE, MAX_GIDS, MAX_MEMBERS, MAX_PROGRAMS, MAX_RUN, Section, USER_HEAD,
    VERSION, align8, at, hash_id, hash_name, seeds,
};
use crate::entry::{Group, Passwd, is_path, is_plain};
use crate::{id, name};
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
    /// Supplementary group ids. The encoder sorts them and drops the primary one and doubles.
    pub gids: Vec<u32>,
}

/// Why there are no bytes. Nothing is published then: the broker's store let through what it
/// must not (it vets what directories say), and the last good snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// A field of this user is not legal, or she has too many groups.
    BadUser(String),
    /// A field or member of this group is not legal, or it has too many members.
    BadGroup(String),
    /// Two users with this name or with this one's uid.
    DoubleUser(String),
    /// Two groups with this name or with this one's gid.
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

/// The bytes of a snapshot: the same for the same content. `valid_until` is 0 (valid for nobody)
/// until [`super::Published::write`] sets it.
pub fn encode(content: &Content) -> Result<Vec<u8>, EncodeError> {
    let mut users: Vec<&SnapshotUser> = content.users.iter().collect();
    users.sort_unstable_by(|a, b| a.passwd.name.cmp(&b.passwd.name));
    let mut groups: Vec<&Group> = content.groups.iter().collect();
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    check_doubles(&users, &groups)?;

    // The sections that the tables point into come first in the file.
    let mut file = File::new();
    let user_units =
        file.section(Section::Users, |f| users.iter().map(|u| f.user(u)).collect::<Result<Vec<_>, _>>())?;
    let group_units =
        file.section(Section::Groups, |f| groups.iter().map(|g| f.group(g)).collect::<Result<Vec<_>, _>>())?;
    file.section(Section::Programs, |f| f.programs(&content.login_programs))?;
    file.section(Section::UserIndex, |f| f.index(&user_units))?;
    file.section(Section::GroupIndex, |f| f.index(&group_units))?;

    let user_names: Vec<&[u8]> = users.iter().map(|u| u.passwd.name.as_bytes()).collect();
    let group_names: Vec<&[u8]> = groups.iter().map(|g| g.name.as_bytes()).collect();
    let uids: Vec<u32> = users.iter().map(|u| u.passwd.uid).collect();
    let gids: Vec<u32> = groups.iter().map(|g| g.gid).collect();
    let (seed, tables) = seeds()
        .find_map(|seed| {
            Some((
                seed,
                [
                    (Section::UserNames, name_table(seed, &user_names, &user_units)?),
                    (Section::UserIds, id_table(seed, &uids, &user_units)?),
                    (Section::GroupNames, name_table(seed, &group_names, &group_units)?),
                    (Section::GroupIds, id_table(seed, &gids, &group_units)?),
                ],
            ))
        })
        .ok_or(EncodeError::NoSeed)?;
    for (section, slots) in tables {
        file.section(section, |f| {
            slots.iter().for_each(|slot| f.u64(*slot));
            Ok(())
        })?;
    }
    file.finish(content, seed, users.len(), groups.len())
}

fn check_doubles(users: &[&SnapshotUser], groups: &[&Group]) -> Result<(), EncodeError> {
    let by_name = |a: &SnapshotUser, b: &SnapshotUser| a.passwd.name == b.passwd.name;
    if let Some([a, _]) = users.windows(2).find(|w| matches!(w, [a, b] if by_name(a, b))) {
        return Err(EncodeError::DoubleUser(a.passwd.name.clone()));
    }
    if let Some([a, _]) = groups.windows(2).find(|w| matches!(w, [a, b] if a.name == b.name)) {
        return Err(EncodeError::DoubleGroup(a.name.clone()));
    }
    let mut ids: Vec<(u32, &str)> = users.iter().map(|u| (u.passwd.uid, u.passwd.name.as_str())).collect();
    if let Some(name) = double_id(&mut ids) {
        return Err(EncodeError::DoubleUser(name));
    }
    let mut ids: Vec<(u32, &str)> = groups.iter().map(|g| (g.gid, g.name.as_str())).collect();
    double_id(&mut ids).map_or(Ok(()), |name| Err(EncodeError::DoubleGroup(name)))
}

fn double_id(ids: &mut [(u32, &str)]) -> Option<String> {
    ids.sort_unstable();
    let double = ids.windows(2).find(|w| matches!(w, [a, b] if a.0 == b.0))?;
    double.last().map(|(_, name)| (*name).to_owned())
}

/// The file as it grows.
struct File {
    bytes: Vec<u8>,
    sections: [(u32, u32); Section::ALL.len()],
}

impl File {
    fn new() -> Self {
        Self { bytes: vec![0; HEADER], sections: [(0, 0); Section::ALL.len()] }
    }

    /// Appends a section and notes where it lies. Sections begin 8-aligned.
    fn section<T>(
        &mut self,
        section: Section,
        fill: impl FnOnce(&mut Self) -> Result<T, EncodeError>,
    ) -> Result<T, EncodeError> {
        let start = self.bytes.len();
        let out = fill(self)?;
        let end = self.bytes.len();
        if end > MAX_FILE {
            return Err(EncodeError::TooLarge);
        }
        if let Some(place) = self.sections.get_mut(section as usize) {
            *place = (start as u32, (end - start) as u32);
        }
        self.pad();
        Ok(out)
    }

    fn u16(&mut self, n: u16) {
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }

    fn u32(&mut self, n: u32) {
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }

    /// A text with its NUL; the callers have checked that there is none inside.
    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn pad(&mut self) {
        self.bytes.resize(align8(self.bytes.len()), 0);
    }

    /// The unit of the record that begins here.
    fn unit(&self) -> Result<u32, EncodeError> {
        if self.bytes.len() > MAX_FILE { Err(EncodeError::TooLarge) } else { Ok((self.bytes.len() / 8) as u32) }
    }

    fn user(&mut self, user: &SnapshotUser) -> Result<u32, EncodeError> {
        let p = &user.passwd;
        let mut gids = user.gids.clone();
        gids.sort_unstable();
        gids.dedup();
        gids.retain(|gid| *gid != p.gid);
        let legal = name::is_user_name(p.name.as_bytes())
            && id::is_allowed(p.uid)
            && p.gid != 0
            && is_plain(p.gecos.as_bytes())
            && is_path(p.home.as_bytes())
            && is_path(p.shell.as_bytes())
            && !gids.contains(&0)
            && gids.len() <= MAX_GIDS;
        if !legal {
            return Err(EncodeError::BadUser(p.name.clone()));
        }
        let unit = self.unit()?;
        for n in [p.uid, p.gid, gids.len() as u32, 0] {
            self.u32(n);
        }
        let texts = [&p.name, &p.gecos, &p.home, &p.shell];
        // Each is at most MAX_FIELD long: the check above.
        texts.iter().for_each(|t| self.u16(t.len() as u16));
        debug_assert_eq!(self.bytes.len() - unit as usize * 8, USER_HEAD);
        texts.iter().for_each(|t| self.text(t));
        self.pad();
        gids.iter().for_each(|gid| self.u32(*gid));
        self.pad();
        Ok(unit)
    }

    fn group(&mut self, group: &Group) -> Result<u32, EncodeError> {
        let legal = name::is_group_name(group.name.as_bytes())
            && group.gid != 0
            && group.members.len() <= MAX_MEMBERS
            && group.members.iter().all(|m| name::is_user_name(m.as_bytes()));
        if !legal {
            return Err(EncodeError::BadGroup(group.name.clone()));
        }
        let unit = self.unit()?;
        let bytes: usize = group.members.iter().map(|m| m.len() + 1).sum();
        for n in [group.gid, group.name.len() as u32, group.members.len() as u32, bytes as u32] {
            self.u32(n);
        }
        debug_assert_eq!(self.bytes.len() - unit as usize * 8, GROUP_HEAD);
        self.text(&group.name);
        group.members.iter().for_each(|m| self.text(m));
        self.pad();
        Ok(unit)
    }

    fn programs(&mut self, programs: &[String]) -> Result<(), EncodeError> {
        let legal = |p: &String| !p.is_empty() && p.len() <= 15 && p.bytes().all(|b| b.is_ascii_graphic());
        if !programs.iter().all(legal) || programs.iter().map(|p| p.len() + 1).sum::<usize>() > MAX_PROGRAMS {
            return Err(EncodeError::BadProgram);
        }
        programs.iter().for_each(|p| self.text(p));
        Ok(())
    }

    fn index(&mut self, units: &[u32]) -> Result<(), EncodeError> {
        units.iter().for_each(|unit| self.u32(*unit));
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn finish(mut self, content: &Content, seed: u64, users: usize, groups: usize) -> Result<Vec<u8>, EncodeError> {
        let total = self.bytes.len();
        if total > MAX_FILE {
            return Err(EncodeError::TooLarge);
        }
        self.put(at::MAGIC, &MAGIC);
        self.put(at::VERSION, &VERSION.to_le_bytes());
        self.put(at::HEADER_LEN, &(HEADER as u32).to_le_bytes());
        self.put(at::TOTAL_LEN, &(total as u64).to_le_bytes());
        self.put(at::GENERATION, &content.generation.to_le_bytes());
        self.put(at::FLAGS, &(if content.complete { COMPLETE } else { 0 }).to_le_bytes());
        self.put(at::SEED, &seed.to_le_bytes());
        self.put(at::USERS, &(users as u32).to_le_bytes());
        self.put(at::GROUPS, &(groups as u32).to_le_bytes());
        for (n, (offset, len)) in self.sections.into_iter().enumerate() {
            self.put(at::SECTIONS + n * 8, &offset.to_le_bytes());
            self.put(at::SECTIONS + n * 8 + 4, &len.to_le_bytes());
        }
        Ok(self.bytes)
    }
}

fn name_table(seed: u64, names: &[&[u8]], units: &[u32]) -> Option<Vec<u64>> {
    table(names.len(), names.iter().map(|name| hash_name(seed, name)).map(|h| ((h >> 32) as u32, h as u32)), units)
}

fn id_table(seed: u64, ids: &[u32], units: &[u32]) -> Option<Vec<u64>> {
    table(ids.len(), ids.iter().map(|id| ((hash_id(seed, *id) >> 32) as u32, *id)), units)
}

/// A table of (place, key) pairs; none if this seed makes too long a run.
fn table(count: usize, keys: impl Iterator<Item = (u32, u32)>, units: &[u32]) -> Option<Vec<u64>> {
    let mut slots = vec![0u64; (count * 2).next_power_of_two().max(8)];
    let mask = slots.len() - 1;
    for ((place, key), unit) in keys.zip(units) {
        let free = (0..MAX_RUN).map(|n| (place as usize + n) & mask).find(|at| slots.get(*at) == Some(&0))?;
        *slots.get_mut(free)? = u64::from(key) << 32 | u64::from(*unit);
    }
    // A search ends at a free slot, so it is the runs that must be short, not only the hits. The
    // table is read twice round: a run may pass its end.
    let mut run = 0;
    for slot in slots.iter().chain(&slots) {
        run = if *slot == 0 { 0 } else { run + 1 };
        if run >= MAX_RUN {
            return None;
        }
    }
    Some(slots)
}
