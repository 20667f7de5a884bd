//! Ids out of Windows security identifiers, the same that sssd computes (sssd-ldap(5), "ID MAPPING";
//! its defaults: ldap_idmap_range_min 200000, ldap_idmap_range_max 2000200000, ldap_idmap_range_size
//! 200000).
//!
//! The range has 10,000 slices. A domain gets the slice that MurmurHash3 of its SID names, or the
//! next one that no other domain has; ids are that slice's first plus the relative identifier
//! (RID). RIDs that do not fit get slices of their own, each named by the SID and the first RID in
//! it. Which domain has which slice depends on who came first where two want the same one, so it
//! is written down and never decided again.

use crate::model::Sid;
use crate::store::{Store, StoreError};
use std::fmt;

/// First id of the range.
const RANGE_MIN: u32 = 200_000;
/// Ids of a slice.
const SLICE: u32 = 200_000;
/// How many slices: (2000200000 - 200000) / 200000.
const SLICES: u32 = 10_000;
/// Seed of the hash.
const SEED: u32 = 0xdead_beef;

/// Why a SID has no id.
#[derive(Debug)]
pub enum SidError {
    /// Every slice belongs to another domain.
    Full,
    /// The store has a fault.
    Store(StoreError),
}

impl fmt::Display for SidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SidError::Full => f.write_str("every slice of ids belongs to another domain"),
            SidError::Store(e) => write!(f, "store: {e}"),
        }
    }
}

impl std::error::Error for SidError {}

/// The id of a SID. Its slice is given for good.
pub fn id_of(store: &Store, sid: Sid) -> Result<u32, SidError> {
    let first_rid = sid.rid() / SLICE * SLICE;
    let named = if first_rid == 0 { sid.domain() } else { format!("{}-{first_rid}", sid.domain()) };
    let wanted = murmur3(named.as_bytes(), SEED) % SLICES;
    let slice = store.sid_slice(&named, wanted, SLICES).map_err(SidError::Store)?.ok_or(SidError::Full)?;
    Ok(RANGE_MIN + slice * SLICE + (sid.rid() - first_rid))
}

/// The SID that an id is computed from, if its slice was given to anybody.
pub fn sid_of(store: &Store, id: u32) -> Result<Option<Sid>, StoreError> {
    let Some(from_min) = id.checked_sub(RANGE_MIN).filter(|n| n / SLICE < SLICES) else { return Ok(None) };
    let Some(named) = store.owner_of_sid_slice(from_min / SLICE)? else { return Ok(None) };
    // The SID of the domain, or that and the first RID of the slice.
    let first = Sid::parse(&named).or_else(|_| Sid::parse(&format!("{named}-0")));
    Ok(first.ok().and_then(|first| Some(first.with_rid(first.rid().checked_add(from_min % SLICE)?))))
}

/// MurmurHash3_x86_32 (Austin Appleby, public domain).
fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
    let mut hash = seed;
    let mut blocks = bytes.chunks_exact(4);
    for block in &mut blocks {
        hash = (hash ^ scramble(word(block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= scramble(word(blocks.remainder()));
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_murmur3() {
        // Published vectors of MurmurHash3_x86_32.
        for (text, seed, hash) in [
            ("", 0, 0),
            ("", 1, 0x514e_28b7),
            ("", 0xffff_ffff, 0x81f1_6f39),
            ("test", 0, 0xba6b_d213),
            ("test", 0x9747_b28c, 0x704b_81dc),
            ("Hello, world!", 0, 0xc036_3e43),
            ("Hello, world!", 0x9747_b28c, 0x2488_4cba),
            ("The quick brown fox jumps over the lazy dog", 0x9747_b28c, 0x2fa8_26cd),
        ] {
            assert_eq!(murmur3(text.as_bytes(), seed), hash, "{text:?} {seed:x}");
        }
    }

    #[test]
    fn golden_ids_are_those_of_sssd() {
        let s = Store::in_memory().unwrap();
        let id = |text: &str| id_of(&s, Sid::parse(text).unwrap()).unwrap();
        assert_eq!(id("S-1-5-21-123-456-789-0"), 1_842_600_000);
        assert_eq!(id("S-1-5-21-123-456-789-1105"), 1_842_601_105);
        assert_eq!(id("S-1-5-21-3623811015-3361044348-30300820-1013"), 674_001_013);
    }

    #[test]
    fn a_large_rid_has_a_slice_of_its_own() {
        let s = Store::in_memory().unwrap();
        let id = |rid: u32| id_of(&s, Sid::parse("S-1-5-21-123-456-789-0").unwrap().with_rid(rid)).unwrap();
        let slice = |named: &str| RANGE_MIN + murmur3(named.as_bytes(), SEED) % SLICES * SLICE;
        assert_eq!(id(199_999), 1_842_799_999);
        assert_eq!(id(200_000), slice("S-1-5-21-123-456-789-200000"));
        assert_eq!(id(399_999), slice("S-1-5-21-123-456-789-200000") + 199_999);
        assert_eq!(id(400_007), slice("S-1-5-21-123-456-789-400000") + 7);
        assert!(id(u32::MAX) < RANGE_MIN + SLICES * SLICE);
    }

    #[test]
    fn every_id_leads_back_to_its_sid_and_no_other_does() {
        let s = Store::in_memory().unwrap();
        let sid = |rid: u32| Sid::parse("S-1-5-21-123-456-789-0").unwrap().with_rid(rid);
        for rid in [0, 500, 199_999, 200_000, 399_999, 4_000_000_007, u32::MAX] {
            let id = id_of(&s, sid(rid)).unwrap();
            assert_eq!(sid_of(&s, id).unwrap(), Some(sid(rid)), "{rid}");
        }
        for id in [0, 1000, RANGE_MIN - 1, RANGE_MIN, RANGE_MIN + SLICES * SLICE, u32::MAX] {
            assert_eq!(sid_of(&s, id).unwrap(), None, "{id}");
        }
    }

    #[test]
    fn two_domains_of_one_slice_and_who_came_first_for_good() {
        // By search: another domain whose hash names the same slice.
        let hash = |sid: &str| murmur3(sid.as_bytes(), SEED) % SLICES;
        let first = "S-1-5-21-123-456-789".to_owned();
        let second = (0..).map(|n| format!("S-1-5-21-1-2-{n}")).find(|s| hash(s) == hash(&first)).unwrap();
        let dir = std::env::temp_dir().join(format!("gpuhub-sid-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let id = |s: &Store, domain: &str| id_of(s, Sid::parse(&format!("{domain}-5")).unwrap()).unwrap();
        let s = Store::open(&dir.join("a.db")).unwrap();
        assert_eq!(id(&s, &first), 1_842_600_005);
        assert_eq!(id(&s, &second), 1_842_800_005, "the next slice");
        drop(s);
        let s = Store::open(&dir.join("a.db")).unwrap();
        assert_eq!((id(&s, &second), id(&s, &first)), (1_842_800_005, 1_842_600_005));
        let other = Store::open(&dir.join("b.db")).unwrap();
        assert_eq!((id(&other, &second), id(&other, &first)), (1_842_600_005, 1_842_800_005), "in another order");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_last_slice_is_followed_by_the_first() {
        let s = Store::in_memory().unwrap();
        assert_eq!(s.sid_slice("a", 9_999, SLICES).unwrap(), Some(9_999));
        assert_eq!(s.sid_slice("b", 9_999, SLICES).unwrap(), Some(0));
        assert_eq!(s.sid_slice("c", 9_998, 9_999).unwrap(), Some(9_998));
        assert_eq!(s.sid_slice("b", 9_999, SLICES).unwrap(), Some(0));
        let small = Store::in_memory().unwrap();
        assert_eq!(small.sid_slice("a", 0, 1).unwrap(), Some(0));
        assert_eq!(small.sid_slice("b", 0, 1).unwrap(), None);
    }
}
