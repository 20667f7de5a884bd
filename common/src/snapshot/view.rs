//! Reads a snapshot that somebody may still be writing.
//!
//! The bytes belong to the broker. If it is captured, they change while we look. So: every offset
//! is checked against the length that the caller vouches for; each word is read once; what is
//! given out is first copied into the caller's private memory and checked there. The answer may
//! then still be a lie, so [`crate::entry::vet_user`] and its kin come after (in
//! [`super::Reader`]), but it is never wild: every search is bounded, nothing is allocated, nothing
//! is written, and no byte outside the map is touched.
#![allow(unsafe_code)] // volatile and atomic reads of memory that another process writes

use super::format::{
    COMPLETE, DELETED, GROUP_HEAD, HEADER, MAGIC, MAX_FILE, MAX_GIDS, MAX_MEMBERS, MAX_PROGRAMS, MAX_RUN,
    MAX_VALIDITY_MS, Section, USER_HEAD, VERSION, align8, at, hash_id, hash_name,
};
use super::found::{GroupEntry, Lookup, Out, UserEntry};
use crate::entry::MAX_FIELD;
use crate::name::MAX_NAME;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Why bytes are not a snapshot that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewError {
    /// Too short, or not gpuhub's.
    NotASnapshot,
    /// Of another version of the format: install the same gpuhub on both sides.
    Version(u32),
    /// The header contradicts itself or the file's length.
    Malformed,
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ViewError::NotASnapshot => f.write_str("is not a snapshot"),
            ViewError::Version(v) => write!(f, "is a snapshot of version {v}, and this gpuhub reads {VERSION}"),
            ViewError::Malformed => f.write_str("is a damaged snapshot"),
        }
    }
}

impl std::error::Error for ViewError {}

/// A user's ids, and her supplementary group ids as an iterator.
#[derive(Debug)]
pub struct GroupIds<'v> {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Of the ids that are left, all inside of the view's memory.
    next: *const u32,
    left: usize,
    view: PhantomData<&'v View>,
}

impl Iterator for GroupIds<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: one of the ids that `View::group_ids_of` has seen to lie inside of its memory, which
        // lives as long as the view that is borrowed; volatile as in `View::u32`.
        unsafe {
            let gid = self.next.read_volatile();
            self.next = self.next.add(1);
            Some(u32::from_le(gid))
        }
    }
}

/// A snapshot in memory. Its header was read once, into here; only the two words that change are
/// read again.
#[derive(Debug)]
pub struct View {
    base: *const u8,
    len: usize,
    complete: bool,
    seed: u64,
    sections: [(usize, usize); Section::ALL.len()],
}

// SAFETY: the memory is only read, by volatile and atomic loads, for as long as whoever called
// `View::new` promised; nothing here depends on the thread.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Reads the header of `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// While the view lives, `base` must point to `len` bytes that can be read, 8-aligned. Other
    /// processes may write them; this one only through atomics.
    pub unsafe fn new(base: *const u8, len: usize) -> Result<Self, ViewError> {
        if len < HEADER || base.is_null() || base.align_offset(8) != 0 {
            return Err(ViewError::NotASnapshot);
        }
        let sections = [(0, 0); Section::ALL.len()];
        let mut view = Self { base, len, complete: false, seed: 0, sections };
        if view.u64(at::MAGIC) != Some(u64::from_le_bytes(MAGIC)) {
            return Err(ViewError::NotASnapshot);
        }
        match view.u32(at::VERSION) {
            Some(VERSION) => {}
            other => return Err(ViewError::Version(other.unwrap_or(0))),
        }
        view.header().ok_or(ViewError::Malformed)?;
        Ok(view)
    }

    /// The rest of the header; none if it contradicts itself.
    fn header(&mut self) -> Option<()> {
        let flags = self.u32(at::FLAGS)?;
        let sane = self.u32(at::HEADER_LEN)? as usize == HEADER
            && self.u64(at::TOTAL_LEN)? == self.len as u64
            && self.len <= MAX_FILE
            && flags & !COMPLETE == 0;
        if !sane {
            return None;
        }
        self.complete = flags & COMPLETE != 0;
        self.seed = self.u64(at::SEED)?;
        for (n, section) in Section::ALL.into_iter().enumerate() {
            let offset = self.u32(at::SECTIONS + n * 8)? as usize;
            let len = self.u32(at::SECTIONS + n * 8 + 4)? as usize;
            let inside = offset >= HEADER && offset % 8 == 0 && offset.checked_add(len)? <= self.len;
            let fits = match section {
                Section::UserNames | Section::UserIds | Section::GroupNames | Section::GroupIds => {
                    len >= 64 && len.is_power_of_two()
                }
                Section::UserIndex | Section::GroupIndex => len % 4 == 0,
                Section::Programs => len <= MAX_PROGRAMS,
            };
            if !(inside && fits) {
                return None;
            }
            *self.sections.get_mut(n)? = (offset, len);
        }
        Some(())
    }

    /// Number of the store's state that this is.
    pub fn generation(&self) -> u64 {
        self.u64(at::GENERATION).unwrap_or(0)
    }

    /// Whether an absence is authoritative (while fresh).
    pub fn complete(&self) -> bool {
        self.complete
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many users there are.
    pub fn users(&self) -> u32 {
        self.u32(at::USERS).unwrap_or(0)
    }

    /// How many groups there are.
    pub fn groups(&self) -> u32 {
        self.u32(at::GROUPS).unwrap_or(0)
    }

    /// Whether this is the newest snapshot, as far as its living writer can tell: see
    /// [the module](super).
    pub fn is_fresh(&self, now_ms: u64) -> bool {
        let superseded = self.is_superseded();
        // SAFETY: it lies in the header, 8-aligned, and lives as long as the view (the promise of
        // `View::new`). Relaxed loads of this size are allowed on read-only memory (std::sync::atomic,
        // "Atomic accesses to read-only memory").
        let until = unsafe { &*self.base.add(at::VALID_UNTIL).cast::<AtomicU64>() };
        let until = u64::from_le(until.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        !superseded && until >= now_ms && until - now_ms <= MAX_VALIDITY_MS
    }

    /// Whether a newer snapshot has this one's place.
    pub fn is_superseded(&self) -> bool {
        // SAFETY: as in `is_fresh`, and 4-aligned.
        let superseded = unsafe { &*self.base.add(at::SUPERSEDED).cast::<AtomicU32>() };
        superseded.load(Ordering::Relaxed) != 0
    }

    /// Whether a program of this name asks before a login ([`super::Content::login_programs`]).
    pub fn is_login_program(&self, program: &[u8]) -> bool {
        let mut memory = [MaybeUninit::uninit(); MAX_PROGRAMS];
        let mut out = Out::new(&mut memory);
        let (offset, len) = self.section(Section::Programs);
        !program.is_empty()
            && self.copy(offset, len, &mut out).is_some()
            && out.bytes().split(|b| *b == 0).any(|p| p == program)
    }

    /// Whether there are login programs at all: if not, nobody needs to ask who we are.
    pub fn has_login_programs(&self) -> bool {
        self.section(Section::Programs).1 != 0
    }

    /// The user of this name.
    pub fn user_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Lookup<UserEntry> {
        self.by_name(Section::UserNames, name, |unit| match self.user(unit, Some(name), out) {
            Lookup::Found(e) if e.fields(out.bytes()).first() == Some(&name) => Some(Lookup::Found(e)),
            Lookup::Found(_) | Lookup::Absent => None,
            other => Some(other),
        })
    }

    /// The user of this id.
    pub fn user_by_uid(&self, uid: u32, out: &mut Out<'_>) -> Lookup<UserEntry> {
        self.by_id(Section::UserIds, uid, |unit| match self.user(unit, None, out) {
            Lookup::Found(e) if e.uid != uid => Lookup::Corrupt,
            other => other,
        })
    }

    /// The first user at or behind place `n` of the index, and in `n` where that is: every user
    /// comes once who is there from the first step to the last, whoever comes and goes meanwhile.
    pub fn user_at(&self, n: &mut u32, out: &mut Out<'_>) -> Lookup<UserEntry> {
        match self.indexed(Section::UserIndex, n) {
            Lookup::Found(unit) => self.user(unit, None, out),
            Lookup::Absent => Lookup::Absent,
            Lookup::TooSmall | Lookup::Corrupt => Lookup::Corrupt,
        }
    }

    /// The group of this name, with its members.
    pub fn group_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Lookup<GroupEntry> {
        self.by_name(Section::GroupNames, name, |unit| match self.group(unit, Some(name), out) {
            Lookup::Found(e) if e.name(out.bytes()) == name => Some(Lookup::Found(e)),
            Lookup::Found(_) | Lookup::Absent => None,
            other => Some(other),
        })
    }

    /// The group of this id, with its members.
    pub fn group_by_gid(&self, gid: u32, out: &mut Out<'_>) -> Lookup<GroupEntry> {
        self.by_id(Section::GroupIds, gid, |unit| match self.group(unit, None, out) {
            Lookup::Found(e) if e.gid != gid => Lookup::Corrupt,
            other => other,
        })
    }

    /// The first group at or behind place `n` of the index, and in `n` where that is: every group
    /// comes once who is there from the first step to the last, whoever comes and goes meanwhile.
    pub fn group_at(&self, n: &mut u32, out: &mut Out<'_>) -> Lookup<GroupEntry> {
        match self.indexed(Section::GroupIndex, n) {
            Lookup::Found(unit) => self.group(unit, None, out),
            Lookup::Absent => Lookup::Absent,
            Lookup::TooSmall | Lookup::Corrupt => Lookup::Corrupt,
        }
    }

    /// The user of this name as in [`View::user_by_name`], but her groups instead of her text.
    pub fn group_ids_of(&self, name: &[u8]) -> Lookup<GroupIds<'_>> {
        self.by_name(Section::UserNames, name, |unit| {
            let Some(head) = self.user_head(unit) else { return Some(Lookup::Corrupt) };
            let UserEntry { uid, gid, lens: [name_len, ..] } = head.entry;
            // SAFETY: `user_head` has compared the end of the ids with that of the memory.
            let next = unsafe { self.base.add(head.gids_at).cast() };
            let gids = GroupIds { uid, gid, next, left: head.gids, view: PhantomData };
            self.has_name(head.text, name_len, name).then_some(Lookup::Found(gids))
        })
    }

    fn by_name<T>(&self, table: Section, name: &[u8], accept: impl FnMut(u32) -> Option<Lookup<T>>) -> Lookup<T> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Lookup::Absent;
        }
        let hash = hash_name(self.seed, name);
        self.probe(table, hash, hash as u32, accept)
    }

    fn by_id<T>(&self, table: Section, id: u32, mut read: impl FnMut(u32) -> Lookup<T>) -> Lookup<T> {
        self.probe(table, hash_id(self.seed, id), id, |unit| match read(unit) {
            // A record that is not where its slot says.
            Lookup::Absent => Some(Lookup::Corrupt),
            other => Some(other),
        })
    }

    fn probe<T>(
        &self,
        table: Section,
        hash: u64,
        key: u32,
        mut accept: impl FnMut(u32) -> Option<Lookup<T>>,
    ) -> Lookup<T> {
        let (offset, len) = self.section(table);
        let mask = len / 8 - 1;
        let first = (hash >> 32) as usize;
        for n in 0..MAX_RUN {
            match self.slot(offset + ((first + n) & mask) * 8) {
                None => return Lookup::Corrupt,
                Some(0) => return Lookup::Absent,
                Some(slot) if (slot >> 32) as u32 == key && slot as u32 != DELETED => {
                    if let Some(end) = accept(slot as u32) {
                        return end;
                    }
                }
                Some(_) => {}
            }
        }
        Lookup::Corrupt
    }

    fn indexed(&self, index: Section, n: &mut u32) -> Lookup<u32> {
        let (offset, len) = self.section(index);
        loop {
            let place = *n as usize * 4;
            if place >= len {
                return Lookup::Absent;
            }
            match self.u32(offset + place) {
                Some(0) => *n += 1,
                Some(unit) => {
                    fence(Ordering::Acquire);
                    return Lookup::Found(unit);
                }
                None => return Lookup::Corrupt,
            }
        }
    }

    /// Copies a user record into `out`. With a `name`, a record of another name is `Absent`, at
    /// the latest when it does not fit.
    fn user(&self, unit: u32, name: Option<&[u8]>, out: &mut Out<'_>) -> Lookup<UserEntry> {
        out.clear();
        let Some(UserHead { entry, text, .. }) = self.user_head(unit) else { return Lookup::Corrupt };
        let [name_len, ..] = entry.lens;
        if name.is_some_and(|name| name.len() != name_len) {
            return Lookup::Absent;
        }
        if entry.text_len() > out.room() {
            let other = name.is_some_and(|name| !self.has_name(text, name_len, name));
            return if other { Lookup::Absent } else { Lookup::TooSmall };
        }
        if self.copy(text, entry.text_len(), out).is_none() {
            return Lookup::Corrupt;
        }
        let mut end = 0;
        let ended = entry.lens.iter().all(|len| {
            end += len + 1;
            out.bytes().get(end - 1) == Some(&0)
        });
        if ended { Lookup::Found(entry) } else { Lookup::Corrupt }
    }

    /// Copies a group record into `out`, as [`View::user`] does.
    fn group(&self, unit: u32, name: Option<&[u8]>, out: &mut Out<'_>) -> Lookup<GroupEntry> {
        out.clear();
        let Some((entry, text)) = self.group_head(unit) else { return Lookup::Corrupt };
        if name.is_some_and(|name| name.len() != entry.name_len) {
            return Lookup::Absent;
        }
        if entry.text_len() > out.room() {
            let other = name.is_some_and(|name| !self.has_name(text, entry.name_len, name));
            return if other { Lookup::Absent } else { Lookup::TooSmall };
        }
        if self.copy(text, entry.text_len(), out).is_none() {
            return Lookup::Corrupt;
        }
        // As many NULs as members, the last of them at the end: then `members` yields just those.
        let nuls = count_nuls(entry.members_text(out.bytes()));
        let ended = out.bytes().get(entry.name_len) == Some(&0) && out.bytes().last() == Some(&0);
        if ended && nuls == entry.members { Lookup::Found(entry) } else { Lookup::Corrupt }
    }

    fn user_head(&self, unit: u32) -> Option<UserHead> {
        let (start, room) = self.record(unit)?;
        let ids = self.u64(start)?;
        let gids = self.u32(start + 8)? as usize;
        let packed = self.u64(start + 16)?;
        let lens = [0, 16, 32, 48].map(|shift| (packed >> shift) as u16 as usize);
        let entry = UserEntry { uid: ids as u32, gid: (ids >> 32) as u32, lens };
        let [name, fields @ ..] = &lens;
        let sane = (1..=MAX_NAME).contains(name) && fields.iter().all(|len| *len <= MAX_FIELD) && gids <= MAX_GIDS;
        let gids_at = align8(USER_HEAD + entry.text_len());
        (sane && gids_at + gids * 4 <= room).then_some(UserHead {
            entry,
            text: start + USER_HEAD,
            gids_at: start + gids_at,
            gids,
        })
    }

    fn group_head(&self, unit: u32) -> Option<(GroupEntry, usize)> {
        let (start, room) = self.record(unit)?;
        let (a, b) = (self.u64(start)?, self.u64(start + 8)?);
        let entry = GroupEntry {
            gid: a as u32,
            name_len: (a >> 32) as usize,
            members: b as u32 as usize,
            members_len: (b >> 32) as usize,
        };
        let sane = (1..=MAX_NAME).contains(&entry.name_len)
            && entry.members <= MAX_MEMBERS
            // A member is at least one byte and its NUL.
            && entry.members_len >= entry.members * 2
            && entry.members_len <= entry.members * (MAX_NAME + 1);
        (sane && align8(GROUP_HEAD + entry.text_len()) <= room).then_some((entry, start + GROUP_HEAD))
    }

    /// Offset of a record, and the bytes from there to the end of the file.
    fn record(&self, unit: u32) -> Option<(usize, usize)> {
        let start = (unit as usize).checked_mul(8)?;
        if start < HEADER {
            return None;
        }
        Some((start, self.len.checked_sub(start)?))
    }

    pub(super) fn section(&self, section: Section) -> (usize, usize) {
        self.sections.get(section as usize).copied().unwrap_or((HEADER, 0))
    }

    /// Whether the `len` bytes at `at` are `name`. They are copied first, since a comparison in
    /// place may read a byte twice.
    fn has_name(&self, at: usize, len: usize, name: &[u8]) -> bool {
        let mut memory = [MaybeUninit::uninit(); MAX_NAME];
        let mut out = Out::new(&mut memory);
        len == name.len() && self.copy(at, len, &mut out).is_some() && out.bytes() == name
    }

    /// Appends `len` bytes from offset `at`, which is a multiple of 8, to `out`. Word by word
    /// with volatile loads: of a plain copy the compiler may read the source again, later.
    fn copy(&self, at: usize, len: usize, out: &mut Out<'_>) -> Option<()> {
        if at % 8 != 0 || at.checked_add(align8(len))? > self.len {
            return None;
        }
        // SAFETY: every word that begins before `len` lies inside the memory that `View::new` was
        // promised, aligned as in `u32`, which says the rest.
        let word = |n: usize| u64::from_le(unsafe { self.base.add(at + n * 8).cast::<u64>().read_volatile() });
        out.push_words(len, word).then_some(())
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        if at % 4 != 0 || at.checked_add(4)? > self.len {
            return None;
        }
        // SAFETY: inside the memory that `View::new` was promised, and aligned since its start
        // is. Volatile, since other processes may write it: read once, right here.
        Some(u32::from_le(unsafe { self.base.add(at).cast::<u32>().read_volatile() }))
    }

    /// A word that tells where a record is: what was written before it is seen after it.
    fn slot(&self, at: usize) -> Option<u64> {
        let word = self.u64(at);
        fence(Ordering::Acquire);
        word
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        if at % 8 != 0 || at.checked_add(8)? > self.len {
            return None;
        }
        // SAFETY: as in `u32`.
        Some(u64::from_le(unsafe { self.base.add(at).cast::<u64>().read_volatile() }))
    }
}

/// By parts in which the sum fits into a byte, so that the loop runs over many bytes at once.
fn count_nuls(text: &[u8]) -> usize {
    text.chunks(128).map(|part| usize::from(part.iter().map(|b| u8::from(*b == 0)).sum::<u8>())).sum()
}

/// What precedes a user's text, and where text and gids lie.
struct UserHead {
    entry: UserEntry,
    text: usize,
    gids_at: usize,
    gids: usize,
}
