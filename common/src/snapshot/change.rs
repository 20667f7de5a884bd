//! Changes single entries of the published file, under its readers.
//!
//! The new records are appended to the room that the file was made with, and only when they are
//! on disk do slots come to point to them: after a power cut, too, a slot leads to a whole record.
//! Readers load slots one word at a time, so each answer is the old or the new one; none is torn,
//! since a record in use is never written again. Nobody need open the path anew, and a hit costs
//! what it costs in a file that never changed.
//!
//! Within one change, what comes is put in place before what goes is taken away: whoever only
//! changes (her uid, her groups) is there at every moment, under the old id or the new.
//!
//! When room, a table or an index is full, [`ChangeError::Full`] asks for a whole new file.
#![allow(unsafe_code)] // atomic stores into the mapped file

use super::encode::{EncodeError, Room, SnapshotUser};
use super::format::{DELETED, GROUP_HEAD, Section, USER_HEAD, at};
use super::publish::Published;
use super::record::{GROUP_PLACE, USER_PLACE, put_group, put_user};
use super::table::{Key, Place, find};
use crate::entry::Group;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// What is now so, of those who changed; none: they are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Number of the store's state after them.
    pub generation: u64,
    /// Users by name.
    pub users: BTreeMap<String, Option<SnapshotUser>>,
    /// Groups by name.
    pub groups: BTreeMap<String, Option<Group>>,
    /// Those of the users whom no enumeration tells of.
    pub hidden_users: BTreeSet<String>,
    /// Those of the groups.
    pub hidden_groups: BTreeSet<String>,
}

/// Why a file does not say what has changed. Some of the changes may be in it; a whole new file
/// must follow.
#[derive(Debug)]
pub enum ChangeError {
    /// There is no room left, or the file is one from before, of which nobody knows how it was left.
    Full,
    /// The records could not be written.
    Io(io::Error),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Full => f.write_str("the snapshot has no room left"),
            ChangeError::Io(e) => write!(f, "the snapshot cannot be written: {e}"),
        }
    }
}

impl std::error::Error for ChangeError {}

/// How far the file is used; kept by its writer alone. Offsets and lengths in bytes, indexes in places.
#[derive(Debug)]
pub(super) struct Space {
    /// Where the room began.
    first: usize,
    /// Where it begins now.
    tail: usize,
    user_slots: Used,
    group_slots: Used,
    user_places: usize,
    group_places: usize,
    users: u32,
    groups: u32,
}

/// Slots of a table that are or were in use: those of the names, and those of the ids.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    names: usize,
    ids: usize,
}

/// The users' half of the file, or the groups'.
#[derive(Debug, Clone, Copy)]
struct Half {
    names: Section,
    ids: Section,
    index: Section,
    head: usize,
    place: usize,
    count: usize,
}

const USERS: Half = Half {
    names: Section::UserNames,
    ids: Section::UserIds,
    index: Section::UserIndex,
    head: USER_HEAD,
    place: USER_PLACE,
    count: at::USERS,
};
const GROUPS: Half = Half {
    names: Section::GroupNames,
    ids: Section::GroupIds,
    index: Section::GroupIndex,
    head: GROUP_HEAD,
    place: GROUP_PLACE,
    count: at::GROUPS,
};

/// One entry that comes, changes or goes.
struct Step {
    half: Half,
    name: Vec<u8>,
    /// Unit, id and place in the index of what there is.
    old: Option<Old>,
    /// Id of what is to be, and its record, which [`Published::append`] gives a unit.
    new: Option<(u32, Vec<u8>)>,
    /// Its place in the index stays empty.
    hidden: bool,
}

#[derive(Debug, Clone, Copy)]
struct Old {
    unit: u32,
    id: u32,
    place: u32,
}

impl Space {
    /// Of a file that was just encoded, with nothing changed in it.
    pub(super) fn of_new(published: &Published) -> Self {
        let view = published.view();
        let (users, groups) = (view.users(), view.groups());
        let used = |n: u32| Used { names: n as usize, ids: n as usize };
        let first = u64::from_le(published.word(at::ROOM).load(Ordering::Relaxed)) as usize;
        Self {
            first,
            tail: first,
            user_slots: used(users),
            group_slots: used(groups),
            user_places: users as usize,
            group_places: groups as usize,
            users,
            groups,
        }
    }
}

impl Published {
    /// Makes the file say what is now so. Returns the entries that cannot be in a snapshot; they
    /// are as if they were gone.
    pub fn change(&mut self, changes: &Changes) -> Result<Vec<EncodeError>, ChangeError> {
        let mut space = self.space.take().ok_or(ChangeError::Full)?;
        let result = self.change_in(&mut space, changes);
        // After an error nobody knows how the file was left: no change follows.
        if result.is_ok() {
            self.space = Some(space);
        }
        result
    }

    /// Whether it is time to make a whole new file: more than half of some room is used.
    pub fn is_tight(&self) -> bool {
        let Some(space) = &self.space else { return true };
        let short = |left: usize, live: u32| left * 2 < Room::ForChanges.entries(live as usize);
        let slots_left = |table, used: usize| (self.view().section(table).1 / 16).saturating_sub(used);
        (self.len() - space.tail) * 2 < self.len() - space.first
            || short(slots_left(Section::UserNames, space.user_slots.names), space.users)
            || short(slots_left(Section::UserIds, space.user_slots.ids), space.users)
            || short(slots_left(Section::GroupNames, space.group_slots.names), space.groups)
            || short(slots_left(Section::GroupIds, space.group_slots.ids), space.groups)
            || short(self.places_left(Section::UserIndex, space.user_places), space.users)
            || short(self.places_left(Section::GroupIndex, space.group_places), space.groups)
    }

    fn places_left(&self, index: Section, used: usize) -> usize {
        (self.view().section(index).1 / 4).saturating_sub(used)
    }

    fn change_in(&self, space: &mut Space, changes: &Changes) -> Result<Vec<EncodeError>, ChangeError> {
        let mut left_out = Vec::new();
        let mut steps = Vec::new();
        for (name, user) in &changes.users {
            let record = |place| user.as_ref().map(|u| made(u.passwd.uid, |bytes| put_user(bytes, u, place)));
            let step = self.step(USERS, name, record, &mut left_out)?;
            steps.extend(step.map(|step| Step { hidden: changes.hidden_users.contains(name), ..step }));
        }
        for (name, group) in &changes.groups {
            let record = |place| group.as_ref().map(|g| made(g.gid, |bytes| put_group(bytes, g, place)));
            let step = self.step(GROUPS, name, record, &mut left_out)?;
            steps.extend(step.map(|step| Step { hidden: changes.hidden_groups.contains(name), ..step }));
        }
        self.refuse_doubles(&mut steps, &mut left_out);

        let units = self.append(space, &steps)?;
        for (step, unit) in steps.iter().zip(&units) {
            if let (Some((id, _)), Some(unit)) = (&step.new, unit) {
                self.put(space, step, *id, *unit)?;
            }
        }
        for step in &steps {
            self.take_away(space, step);
        }
        self.u32_word(at::USERS).store(space.users.to_le(), Ordering::Relaxed);
        self.u32_word(at::GROUPS).store(space.groups.to_le(), Ordering::Relaxed);
        self.word(at::GENERATION).store(changes.generation.to_le(), Ordering::Release);
        Ok(left_out)
    }

    /// What is to be done for one entry; nothing if it is so already.
    fn step(
        &self,
        half: Half,
        name: &str,
        record: impl FnOnce(u32) -> Option<Result<(u32, Vec<u8>), EncodeError>>,
        left_out: &mut Vec<EncodeError>,
    ) -> Result<Option<Step>, ChangeError> {
        let old = self.old(half, name.as_bytes())?;
        // A new one's place is given with its unit.
        let new = match record(old.map_or(0, |o| o.place)) {
            Some(Ok(new)) => Some(new),
            Some(Err(e)) => {
                left_out.push(e);
                None
            }
            None => None,
        };
        let same = match (&old, &new) {
            (None, None) => true,
            (Some(old), Some((_, bytes))) => self.has_bytes(old.unit as usize * 8, bytes),
            _ => false,
        };
        Ok((!same).then(|| Step { half, name: name.as_bytes().to_vec(), old, new, hidden: false }))
    }

    fn old(&self, half: Half, name: &[u8]) -> Result<Option<Old>, ChangeError> {
        match self.find_name(half, name) {
            Place::Used(_, unit) => {
                let start = unit as usize * 8;
                let (Some(id), Some(place)) = (self.view().u32(start), self.view().u32(start + half.place)) else {
                    return Err(ChangeError::Full);
                };
                Ok(Some(Old { unit, id, place }))
            }
            Place::Free(_) | Place::Reusable(_) => Ok(None),
            Place::Full => Err(ChangeError::Full),
        }
    }

    /// Leaves out whoever would take an id that another keeps, in the file or in this change.
    fn refuse_doubles(&self, steps: &mut [Step], left_out: &mut Vec<EncodeError>) {
        let mut freed = HashSet::new();
        let mut taken = HashSet::new();
        let kind = |half: Half| half.count;
        for step in steps.iter() {
            if let Some(old) = step.old.filter(|old| step.new.as_ref().is_none_or(|(id, _)| *id != old.id)) {
                freed.insert((kind(step.half), old.id));
            }
        }
        for step in steps {
            let Some((id, _)) = &step.new else { continue };
            let (half, id) = (step.half, *id);
            let keeps = step.old.is_some_and(|old| old.id == id);
            let used = matches!(self.find_id(half, id), Place::Used(..)) && !freed.contains(&(kind(half), id));
            if (used && !keeps) || !taken.insert((kind(half), id)) {
                let name = String::from_utf8_lossy(&step.name).into_owned();
                let double = if half.count == at::USERS { EncodeError::DoubleUser } else { EncodeError::DoubleGroup };
                left_out.push(double(name));
                step.new = None;
            }
        }
    }

    /// Writes the records into the room, and waits until they are on disk. The unit of each.
    fn append(&self, space: &mut Space, steps: &[Step]) -> Result<Vec<Option<u32>>, ChangeError> {
        let mut places = (space.user_places, space.group_places);
        let mut bytes: Vec<u8> = Vec::new();
        let mut units = Vec::with_capacity(steps.len());
        for step in steps {
            let Some((_, record)) = &step.new else {
                units.push(None);
                continue;
            };
            let start = bytes.len();
            units.push(Some(((space.tail + start) / 8) as u32));
            bytes.extend_from_slice(record);
            if step.old.is_none() {
                let next = if step.half.count == at::USERS { &mut places.0 } else { &mut places.1 };
                let place = (*next as u32).to_le_bytes();
                if let Some(word) = bytes.get_mut(start + step.half.place..start + step.half.place + 4) {
                    word.copy_from_slice(&place);
                }
                *next += 1;
            }
        }
        let enough = bytes.len() <= self.len() - space.tail
            && self.places_left(Section::UserIndex, space.user_places) >= places.0 - space.user_places
            && self.places_left(Section::GroupIndex, space.group_places) >= places.1 - space.group_places;
        if !enough {
            return Err(ChangeError::Full);
        }
        if !bytes.is_empty() {
            // By write(2) and not through the mapping: a file system that is full then says so,
            // where a store would end the process (SIGBUS).
            self.file.write_all_at(&bytes, space.tail as u64).map_err(ChangeError::Io)?;
            self.file.sync_data().map_err(ChangeError::Io)?;
            space.tail += bytes.len();
            self.word(at::ROOM).store((space.tail as u64).to_le(), Ordering::Relaxed);
        }
        fence(Ordering::Release);
        Ok(units)
    }

    /// Lets id, name and index lead to the new record.
    fn put(&self, space: &mut Space, step: &Step, id: u32, unit: u32) -> Result<(), ChangeError> {
        let half = step.half;
        let seed = self.view().seed();
        let used = if half.count == at::USERS { &mut space.user_slots } else { &mut space.group_slots };
        self.set_slot(half.ids, Key::of_id(seed, id), self.find_id(half, id), unit, &mut used.ids)?;
        let place = self.find_name(half, &step.name);
        self.set_slot(half.names, Key::of_name(seed, &step.name), place, unit, &mut used.names)?;
        let (places, count) = if half.count == at::USERS {
            (&mut space.user_places, &mut space.users)
        } else {
            (&mut space.group_places, &mut space.groups)
        };
        let at = match step.old {
            Some(old) => old.place as usize,
            None => {
                *places += 1;
                *count += 1;
                *places - 1
            }
        };
        self.set_place(half, at, if step.hidden { 0 } else { unit });
        Ok(())
    }

    fn set_slot(&self, table: Section, key: Key, place: Place, unit: u32, used: &mut usize) -> Result<(), ChangeError> {
        let (offset, len) = self.view().section(table);
        let at = match place {
            Place::Used(at, _) | Place::Reusable(at) => at,
            // At most half of the slots, whatever the runs.
            Place::Free(_) if *used >= len / 16 => return Err(ChangeError::Full),
            Place::Free(at) => {
                *used += 1;
                at
            }
            Place::Full => return Err(ChangeError::Full),
        };
        self.word(offset + at * 8).store(key.slot(unit).to_le(), Ordering::Release);
        Ok(())
    }

    /// Takes away what leads to the old record, where nothing new took its place.
    fn take_away(&self, space: &mut Space, step: &Step) {
        let (Some(old), half) = (step.old, step.half) else { return };
        match self.find_id(half, old.id) {
            Place::Used(at, unit) if unit == old.unit => self.delete(half.ids, at),
            _ => {}
        }
        if step.new.is_none() {
            if let Place::Used(at, _) = self.find_name(half, &step.name) {
                self.delete(half.names, at);
            }
            self.set_place(half, old.place as usize, 0);
            let count = if half.count == at::USERS { &mut space.users } else { &mut space.groups };
            *count = count.saturating_sub(1);
        }
    }

    fn delete(&self, table: Section, slot: usize) {
        let offset = self.view().section(table).0 + slot * 8;
        self.word(offset).store(u64::from(DELETED).to_le(), Ordering::Release);
    }

    fn set_place(&self, half: Half, place: usize, unit: u32) {
        let (offset, len) = self.view().section(half.index);
        if place * 4 < len {
            self.u32_word(offset + place * 4).store(unit.to_le(), Ordering::Release);
        }
    }

    fn find_name(&self, half: Half, name: &[u8]) -> Place {
        let key = Key::of_name(self.view().seed(), name);
        // With its NUL: a record's name is not the beginning of a longer one.
        let ended: Vec<u8> = name.iter().copied().chain([0]).collect();
        self.find(half.names, key, |unit| self.has_bytes(unit as usize * 8 + half.head, &ended))
    }

    fn find_id(&self, half: Half, id: u32) -> Place {
        self.find(half.ids, Key::of_id(self.view().seed(), id), |_| true)
    }

    fn find(&self, table: Section, key: Key, is_it: impl Fn(u32) -> bool) -> Place {
        let (offset, len) = self.view().section(table);
        find(len / 8, key, |at| self.view().u64(offset + at * 8).unwrap_or(0), is_it)
    }

    /// Whether the file has these bytes at an offset that is a multiple of 8.
    fn has_bytes(&self, at: usize, bytes: &[u8]) -> bool {
        bytes.chunks(8).enumerate().all(|(n, chunk)| {
            self.view().u64(at + n * 8).is_some_and(|word| word.to_le_bytes().get(..chunk.len()) == Some(chunk))
        })
    }
}

/// An id and its record, made by `put`.
fn made(id: u32, put: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) -> Result<(u32, Vec<u8>), EncodeError> {
    let mut bytes = Vec::new();
    put(&mut bytes).map(|()| (id, bytes))
}

impl Published {
    /// The word at an offset of ours.
    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at % 8 == 0 && at + 8 <= self.len());
        // SAFETY: inside the mapping, since the callers' offsets come out of the header that
        // `View::new` has checked against its length; 8-aligned as sections are; alive while
        // `self` is. Others only read it.
        unsafe { &*self.base().add(at).cast::<AtomicU64>() }
    }

    fn u32_word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at % 4 == 0 && at + 4 <= self.len());
        // SAFETY: as in `word`.
        unsafe { &*self.base().add(at).cast::<AtomicU32>() }
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
