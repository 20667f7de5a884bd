//! What a search in a snapshot gives: an outcome, and an entry whose text lies in the caller's memory.
#![allow(unsafe_code)] // the caller's memory may come uninitialised from C

use crate::name::Ended;
use std::mem::MaybeUninit;

/// The outcome of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Here it is.
    Found(T),
    /// Not in this snapshot. That it does not exist follows only if the snapshot is complete and
    /// fresh.
    Absent,
    /// It is there and does not fit into the buffer.
    TooSmall,
    /// The snapshot contradicts itself.
    Corrupt,
}

impl<T> Lookup<T> {
    /// The same outcome of what was found.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Lookup::Found(t) => Lookup::Found(f(t)),
            Lookup::Absent => Lookup::Absent,
            Lookup::TooSmall => Lookup::TooSmall,
            Lookup::Corrupt => Lookup::Corrupt,
        }
    }
}

/// Memory of the caller's that is filled from the front. It may come uninitialised from C.
#[derive(Debug)]
pub struct Out<'a> {
    memory: &'a mut [MaybeUninit<u8>],
    /// So many bytes at the front are initialised.
    written: usize,
}

impl<'a> Out<'a> {
    /// Over `memory`, with nothing written.
    pub fn new(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { memory, written: 0 }
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.written = 0;
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `written` bytes at the front are initialised: only `push` raises it, after the
        // copy, and it never exceeds the memory's length.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.written) }
    }

    /// Appends `bytes`; false if they do not fit, and then nothing is written.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.memory.get_mut(self.written..).and_then(|rest| rest.get_mut(..bytes.len())) else {
            return false;
        };
        // SAFETY: source and target are of the same length, and a unique and a shared borrow
        // cannot overlap. MaybeUninit<u8> has the layout of u8.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), room.as_mut_ptr().cast(), bytes.len()) };
        self.written += bytes.len();
        true
    }

    /// Appends `len` bytes that come in words, little-endian, of which `word` gives the nth; false
    /// if they do not fit, and then nothing is written.
    pub(super) fn push_words(&mut self, len: usize, mut word: impl FnMut(usize) -> u64) -> bool {
        let Some(room) = self.memory.get_mut(self.written..).and_then(|rest| rest.get_mut(..len)) else {
            return false;
        };
        let (whole, rest) = room.split_at_mut(len & !7);
        let mut n = 0;
        for part in whole.chunks_exact_mut(8) {
            part.copy_from_slice(&word(n).to_le_bytes().map(MaybeUninit::new));
            n += 1;
        }
        if !rest.is_empty() {
            rest.iter_mut().zip(word(n).to_le_bytes()).for_each(|(to, from)| _ = to.write(from));
        }
        self.written += len;
        true
    }

    /// Room left.
    pub fn room(&self) -> usize {
        self.memory.len() - self.written
    }

    /// What was written, and the memory behind it.
    pub fn split(self) -> (&'a mut [u8], &'a mut [MaybeUninit<u8>]) {
        let (front, rest) = self.memory.split_at_mut(self.written);
        // SAFETY: as in `bytes`; the borrow is handed over whole.
        (unsafe { std::slice::from_raw_parts_mut(front.as_mut_ptr().cast(), front.len()) }, rest)
    }
}

/// A user as found. The text lies in the [`Out`] that the search was given:
/// name, gecos, home and shell, each with its NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserEntry {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Lengths of name, gecos, home and shell, without NUL.
    pub lens: [usize; 4],
}

impl UserEntry {
    /// Name, gecos, home and shell out of the text.
    pub fn fields<'t>(&self, text: &'t [u8]) -> [&'t [u8]; 4] {
        let mut start = 0;
        self.lens.map(|len| {
            let field = text.get(start..start + len).unwrap_or_default();
            start += len + 1;
            field
        })
    }

    /// Length of the text, NULs included.
    pub fn text_len(&self) -> usize {
        self.lens.iter().map(|len| len + 1).sum()
    }
}

/// A group as found. The text lies in the [`Out`] that the search was given: the name and the
/// members, each with its NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group id.
    pub gid: u32,
    /// Length of the name, without NUL.
    pub name_len: usize,
    /// How many members.
    pub members: usize,
    /// Length of the members, NULs included.
    pub members_len: usize,
}

impl GroupEntry {
    /// The name out of the text.
    pub fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(..self.name_len).unwrap_or_default()
    }

    /// The members out of the text, in order: at most as many as the entry says.
    pub fn members<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = &'t [u8]> + use<'t> {
        Ended(self.members_text(text)).take(self.members)
    }

    /// The members, each with its NUL.
    pub fn members_text<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.name_len + 1..self.text_len()).unwrap_or_default()
    }

    /// Length of the text, NULs included.
    pub fn text_len(&self) -> usize {
        self.name_len + 1 + self.members_len
    }
}
