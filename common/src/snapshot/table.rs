//! The hash tables as their writer sees them: a slot's word, where it goes, and how long a run may be.

use super::format::{DELETED, MAX_RUN, hash_id, hash_name};

/// Where a search begins, and what its slot has in the upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    first: u32,
    key: u32,
}

impl Key {
    pub(super) fn of_name(seed: u64, name: &[u8]) -> Self {
        let hash = hash_name(seed, name);
        Self { first: (hash >> 32) as u32, key: hash as u32 }
    }

    pub(super) fn of_id(seed: u64, id: u32) -> Self {
        Self { first: (hash_id(seed, id) >> 32) as u32, key: id }
    }

    pub(super) fn slot(self, unit: u32) -> u64 {
        u64::from(self.key) << 32 | u64::from(unit)
    }

    /// The unit in a slot with this key, if it is in use.
    fn unit_in(self, slot: u64) -> Option<u32> {
        let unit = slot as u32;
        ((slot >> 32) as u32 == self.key && unit != DELETED && slot != 0).then_some(unit)
    }
}

/// What a search in a table of `slots` found: the slot of this entry, or the one for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is in this slot, with this unit.
    Used(usize, u32),
    /// It is not there; this slot was never used.
    Free(usize),
    /// It is not there; this slot was used by somebody else once.
    Reusable(usize),
    /// It is not there, and there is no slot that would not make a run too long.
    Full,
}

/// Looks for the entry with `key` for which `is_it` says yes to the unit, among `slots` slots of
/// which `load` gives the words.
pub(super) fn find(slots: usize, key: Key, load: impl Fn(usize) -> u64, is_it: impl Fn(u32) -> bool) -> Place {
    let mask = slots - 1;
    let mut reusable = None;
    for n in 0..MAX_RUN {
        let at = (key.first as usize + n) & mask;
        let slot = load(at);
        if slot == 0 {
            return match reusable {
                Some(earlier) => Place::Reusable(earlier),
                None if joins_too_long_a_run(mask, at, load) => Place::Full,
                None => Place::Free(at),
            };
        }
        if slot as u32 == DELETED {
            reusable = reusable.or(Some(at));
        } else if let Some(unit) = key.unit_in(slot).filter(|unit| is_it(*unit)) {
            return Place::Used(at, unit);
        }
    }
    reusable.map_or(Place::Full, Place::Reusable)
}

/// Whether the run that the free slot `at` would belong to were too long: a search ends at a free
/// slot, so it is the runs that must be short, not only the hits.
fn joins_too_long_a_run(mask: usize, at: usize, load: impl Fn(usize) -> u64) -> bool {
    let used = |step: &dyn Fn(usize) -> usize| {
        (1..MAX_RUN).take_while(|n| load((at.wrapping_add(step(*n))) & mask) != 0).count()
    };
    used(&|n| n) + used(&|n| n.wrapping_neg()) + 1 >= MAX_RUN
}

/// A table of `slots` slots; none if these keys make too long a run.
pub(super) fn build(slots: usize, entries: impl Iterator<Item = (Key, u32)>) -> Option<Vec<u64>> {
    let mut table = vec![0u64; slots];
    for (key, unit) in entries {
        // Nobody is looked for: the doubles were left out before.
        let place = find(slots, key, |at| table.get(at).copied().unwrap_or(0), |_| false);
        let Place::Free(at) = place else { return None };
        *table.get_mut(at)? = key.slot(unit);
    }
    Some(table)
}

/// How many slots for so many entries: at most half of them are used.
pub(super) fn slots_for(entries: usize) -> usize {
    (entries * 2).next_power_of_two().max(8)
}
