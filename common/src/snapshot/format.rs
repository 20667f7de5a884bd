//! What lies where in a snapshot file. All numbers are little-endian, all records 8-aligned.
//!
//! ```text
//!   0  magic                     8 bytes
//!   8  version, header length    u32, u32
//!  16  total length              u64, equal to the file's size
//!  24  generation                u64, atomic
//!  32  flags                     u32: bit 0 complete; the others must be 0
//!  40  hash seed                 u64
//!  48  users, groups             u32, u32, atomic
//!  56  room                      u64: offset of the first byte that no entry uses; the writer's note
//!  64  superseded                u32, atomic
//!  72  valid until               u64, atomic
//! 128  sections                  7 × (offset u32, length u32), in the order of `Section`
//! 256  programs, records, tables, indexes, room
//! ```
//!
//! A table is a power of two of 8-byte slots with linear probing, at most half full. A slot is
//! `key << 32 | unit`, where the unit is a record's offset in 8-byte steps; 0 is a free slot, and
//! the unit [`DELETED`] is one that was used: a search goes on behind it. The key is the id itself,
//! or 32 bits of the name's hash (the other 32 choose the slot). No run of used slots is longer
//! than [`MAX_RUN`]: the encoder tries other seeds until that holds, and a reader that sees a
//! longer run knows that the file is corrupt. A hit thus touches the header's line, a slot's, and
//! one or two of the record. An index has the units of all records, 4 bytes each: in the order of
//! their names when the file is made, what is added later behind them; 0 is a place that is not used, or that of
//! somebody whom no enumeration tells of.
//!
//! ```text
//! user:   uid, gid, number of gids, place in the index   4 × u32
//!         lengths of name, gecos, home, shell   4 × u16
//!         name 0 gecos 0 home 0 shell 0   padded to 8; then the gids, u32 each, padded to 8
//! group:  gid, length of name, number of members, bytes of members with their 0,
//!         place in the index, 0           6 × u32
//!         name 0 member 0 member 0 …      padded to 8
//! ```
//!
//! # What changes in a file that is in use
//!
//! A published file has room for more: `super::change` writes new records there, and then stores
//! the slots and index places that point to them, one word each. A record that is in use, or once
//! was, is never written again, so that nobody reads half of one. The other words that change are
//! those marked atomic above. The file never becomes shorter or longer.
//!
//! A reader refuses every version but its own: install the same gpuhub on both sides of the run
//! directory. Until then it asks the socket.

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"gpuhub\x1a\n";
/// Version of the format.
pub const VERSION: u32 = 2;
/// Length of the header.
pub const HEADER: usize = 256;
/// Longest file that is written or mapped: a million users with twenty groups each take a third.
pub const MAX_FILE: usize = 1 << 30;
/// Longest run of used slots in a table. Of a half-full table with a million entries the longest
/// is about 100.
pub const MAX_RUN: usize = 512;
/// Most supplementary groups of a user (NGROUPS_MAX of Linux).
pub const MAX_GIDS: usize = 65536;
/// Most members of a group.
pub const MAX_MEMBERS: usize = 1_000_000;
/// Most bytes of login program names, with their NULs.
pub const MAX_PROGRAMS: usize = 1024;

/// Further ahead than this, `valid_until` is not believed: the clock was set back, or somebody
/// wants to be believed for ever.
pub const MAX_VALIDITY_MS: u64 = 60_000;
/// How far ahead a living broker sets `valid_until`.
pub const VALIDITY_MS: u64 = 20_000;
/// How often it does so.
pub const PUSH_EVERY_MS: u64 = 5_000;

pub(super) mod at {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 8;
    pub(crate) const HEADER_LEN: usize = 12;
    pub(crate) const TOTAL_LEN: usize = 16;
    pub(crate) const GENERATION: usize = 24;
    pub(crate) const FLAGS: usize = 32;
    pub(crate) const SEED: usize = 40;
    pub(crate) const USERS: usize = 48;
    pub(crate) const GROUPS: usize = 52;
    pub(crate) const ROOM: usize = 56;
    pub(crate) const SUPERSEDED: usize = 64;
    pub(crate) const VALID_UNTIL: usize = 72;
    pub(crate) const SECTIONS: usize = 128;
}

/// The unit of a slot whose entry is gone. It lies in the header, where no record is.
pub(super) const DELETED: u32 = 1;
/// Bit of the flags: an absence is authoritative.
pub(super) const COMPLETE: u32 = 1;
/// Bytes of a user record before its text.
pub(super) const USER_HEAD: usize = 24;
/// Bytes of a group record before its text.
pub(super) const GROUP_HEAD: usize = 24;

/// The sections, in the order of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    UserNames,
    UserIds,
    GroupNames,
    GroupIds,
    /// Units of the user records: u32 each.
    UserIndex,
    /// The same of the groups.
    GroupIndex,
    /// Names of login programs, each with its NUL.
    Programs,
}

impl Section {
    pub(super) const ALL: [Section; 7] = [
        Section::UserNames,
        Section::UserIds,
        Section::GroupNames,
        Section::GroupIds,
        Section::UserIndex,
        Section::GroupIndex,
        Section::Programs,
    ];
}

/// The next multiple of 8.
pub(super) const fn align8(n: usize) -> usize {
    (n + 7) & !7
}

// Odd constants with about half their bits set (digits of pi and of the golden ratio).
const K1: u64 = 0x9E37_79B9_7F4A_7C15;
const K2: u64 = 0x2436_A6F0_89D3_1319;

/// Both halves of a 128-bit product, folded: every bit of `a` reaches every bit of the result.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Hash of a name: the upper half chooses the slot, the lower half is kept in it.
pub(super) fn hash_name(seed: u64, name: &[u8]) -> u64 {
    let mut hash = seed ^ name.len() as u64;
    let mut words = name.chunks_exact(8);
    for word in &mut words {
        hash = fold(hash ^ little_endian(word), K1);
    }
    fold(fold(hash ^ little_endian(words.remainder()), K1), seed ^ K2)
}

/// Up to eight bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Hash of an id; its upper half chooses the slot.
pub(super) fn hash_id(seed: u64, id: u32) -> u64 {
    fold(fold(seed ^ u64::from(id), K1), seed ^ K2)
}

/// The seeds that an encoder tries, in order.
pub(super) fn seeds() -> impl Iterator<Item = u64> {
    (1..=64u64).map(|n| fold(n.wrapping_mul(K2), K1) | 1)
}
