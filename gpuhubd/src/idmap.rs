//! Which number somebody gets: what the directory fixes, or a deterministic candidate with
//! probing. Either is recorded in the store and never given to another name.
//!
//! A candidate depends only on the configured range, the kind and the name, so boxes that never
//! met agree except where a collision decides.

use crate::model::{Denied, Reason};
use crate::store::{IdKind, Store, StoreError};
use gpuhub_common::id;
use sha2::{Digest, Sha256};

/// How often a taken candidate is followed by the next. At a load of 1 % the odds of needing
/// even four are 1 in 10^8; a range so full that this fails needs an administrator.
const PROBES: u32 = 64;

/// Gives ids within a range.
#[derive(Debug, Clone)]
pub struct Idmap {
    store: Store,
    first: u32,
    last: u32,
}

/// An id, and whether it is its name's first candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The id.
    pub id: u32,
    /// Other candidates were taken: on another box, which saw people in another order, this name
    /// may have another id. Audited.
    pub collided: bool,
    /// Her own group may have her name: no other group has it.
    pub names_group: bool,
}

/// Whether an id is not to be given though nobody has it: promised to a pending login, or local.
pub type Avoid<'a> = &'a (dyn Fn(u32) -> bool + Sync);

impl Idmap {
    /// For `range`, which the configuration has checked.
    pub fn new(store: Store, range: [u32; 2]) -> Self {
        let [first, last] = range;
        Self { store, first, last }
    }

    /// The uid of `name`, whose group of her own has the same number when `own_group`. Given for
    /// good. Where another group has her name already, her own has the number alone.
    pub fn user(&self, name: &str, fixed: Option<u32>, own_group: bool, avoid: Avoid<'_>) -> Result<Given, Denied> {
        let user = (IdKind::User, name);
        if !own_group {
            return self.give(&[user], fixed, avoid);
        }
        let group = self.own_group(name)?;
        let given = self.give(&[user, (IdKind::Group, &group)], fixed, avoid)?;
        Ok(Given { names_group: group == name, ..given })
    }

    /// The gid of the group `name`.
    pub fn group(&self, name: &str, fixed: Option<u32>, avoid: Avoid<'_>) -> Result<Given, Denied> {
        self.give(&[(IdKind::Group, name)], fixed, avoid)
    }

    /// The uid that [`Idmap::user`] would give now, without giving it.
    pub fn preview(&self, name: &str, avoid: Avoid<'_>) -> Result<u32, Denied> {
        if let Some(id) = self.recorded(IdKind::User, name)? {
            return Ok(id);
        }
        for (_, id) in self.candidates(IdKind::User, name) {
            let taken = |kind| self.store.name_of_id(kind, id).map(|owner| owner.is_some()).map_err(fault);
            if !avoid(id) && !taken(IdKind::User)? && !taken(IdKind::Group)? {
                return Ok(id);
            }
        }
        Err(Denied::because(Reason::NoId, "every candidate is taken"))
    }

    /// Under which name somebody's own group is recorded: hers, or one that no group can have.
    fn own_group(&self, name: &str) -> Result<String, Denied> {
        let nameless = format!("~{name}");
        let taken = match self.recorded(IdKind::Group, name)? {
            Some(gid) => self.recorded(IdKind::User, name)? != Some(gid),
            None => self.recorded(IdKind::Group, &nameless)?.is_some(),
        };
        Ok(if taken { nameless } else { name.to_owned() })
    }

    /// One id for all of `names`, of which the first decides the candidates.
    fn give(&self, names: &[(IdKind, &str)], fixed: Option<u32>, avoid: Avoid<'_>) -> Result<Given, Denied> {
        let &(kind, name) = names.first().ok_or(Reason::Internal)?;
        let given = |id, collided| Given { id, collided, names_group: false };
        if let Some(id) = fixed {
            return if self.store.give_id(names, id).map_err(fault)? {
                Ok(given(id, false))
            } else {
                Err(Denied::because(
                    Reason::NoId,
                    format!("{} id {id} of {name} was given to another name, or {name} has another", kind.as_str()),
                ))
            };
        }
        if let Some(id) = self.recorded(kind, name)? {
            // A name that was given a uid while its directory had a group for it has no group yet.
            return if self.store.give_id(names, id).map_err(fault)? {
                Ok(given(id, false))
            } else {
                Err(Denied::because(Reason::NoId, format!("a group has the id {id} that {name} needs for her own")))
            };
        }
        for (probe, id) in self.candidates(kind, name) {
            if !avoid(id) && self.store.give_id(names, id).map_err(fault)? {
                return Ok(given(id, probe > 0));
            }
        }
        Err(Denied::because(Reason::NoId, "every candidate is taken"))
    }

    fn recorded(&self, kind: IdKind, name: &str) -> Result<Option<u32>, Denied> {
        self.store.id_of(kind, name).map_err(fault)
    }

    /// The candidates in order: SHA-256 of a label, kind, name and probe, modulo the range.
    fn candidates(&self, kind: IdKind, name: &str) -> impl Iterator<Item = (u32, u32)> {
        let (first, span) = (self.first, u64::from(self.last - self.first) + 1);
        let seed = format!("gpuhub-id-1\0{}\0{name}\0", kind.as_str());
        (0..PROBES).filter_map(move |probe| {
            let hash = Sha256::new().chain_update(&seed).chain_update(probe.to_be_bytes()).finalize();
            let number = hash.iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
            let id = first + u32::try_from(number % span).unwrap_or(0);
            id::is_allowed(id).then_some((probe, id))
        })
    }
}

fn fault(e: StoreError) -> Denied {
    Denied::because(Reason::Internal, format!("store: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idmap(range: [u32; 2]) -> Idmap {
        Idmap::new(Store::in_memory().unwrap(), range)
    }

    const WIDE: [u32; 2] = [1_000_000_000, 1_999_999_999];

    #[test]
    fn boxes_that_never_met_agree_whatever_the_order() {
        let (a, b) = (idmap(WIDE), idmap(WIDE));
        let none = |_: u32| false;
        let names: Vec<String> = (0..200).map(|i| format!("user{i}")).collect();
        let on_a: Vec<_> = names.iter().map(|n| a.user(n, None, true, &none).unwrap().id).collect();
        let mut on_b: Vec<_> = names.iter().rev().map(|n| b.user(n, None, true, &none).unwrap().id).collect();
        on_b.reverse();
        assert_eq!(on_a, on_b);
    }

    #[test]
    fn golden_candidates_never_change() {
        // Computed apart, in Python. A change here moves every file of every site that has no registry.
        let m = idmap(WIDE);
        assert_eq!(m.user("alice", None, true, &|_| false).unwrap().id, 1_414_134_783);
        assert_eq!(m.group("gpu-users", None, &|_| false).unwrap().id, 1_920_715_555);
    }

    #[test]
    fn a_collision_is_probed_recorded_and_said() {
        let m = idmap([70_000, 70_015]);
        let none = |_: u32| false;
        let mut ids: Vec<u32> = Vec::new();
        let mut collided = 0;
        for i in 0..16 {
            let given = m.user(&format!("u{i}"), None, true, &none).unwrap();
            collided += u32::from(given.collided);
            ids.push(given.id);
            assert_eq!(m.user(&format!("u{i}"), None, true, &none).unwrap().id, given.id, "for good");
        }
        ids.sort_unstable();
        assert_eq!(ids, (70_000..=70_015).collect::<Vec<_>>());
        assert!(collided > 0);
        assert_eq!(m.user("one-too-many", None, true, &none).unwrap_err().reason, Reason::NoId);
    }

    #[test]
    fn a_fixed_id_belongs_to_one_name() {
        let m = idmap(WIDE);
        let none = |_: u32| false;
        assert_eq!(m.user("alice", Some(20001), false, &none).unwrap().id, 20001);
        assert_eq!(m.user("bob", Some(20001), false, &none).unwrap_err().reason, Reason::NoId);
        assert_eq!(m.user("alice", Some(20002), false, &none).unwrap_err().reason, Reason::NoId);
        assert_eq!(m.group("ml", Some(20001), &none).unwrap().id, 20001, "groups have their own numbers");
    }

    #[test]
    fn a_group_of_her_name_keeps_nobody_out() {
        let m = idmap(WIDE);
        let none = |_: u32| false;
        let group = m.group("carol", Some(5000), &none).unwrap();
        let carol = m.user("carol", None, true, &none).unwrap();
        assert!(!carol.names_group && carol.id != group.id);
        assert_eq!(m.user("carol", None, true, &none).unwrap(), carol);
        assert!(m.group("other", Some(carol.id), &none).is_err(), "the number is hers alone");
        assert!(m.user("dave", None, true, &none).unwrap().names_group);
    }

    #[test]
    fn what_is_reserved_is_not_given() {
        let m = idmap(WIDE);
        let promised = m.preview("alice", &|_| false).unwrap();
        let reserved = |id| id == promised;
        assert_ne!(m.user("alice", None, true, &reserved).unwrap().id, promised);
    }
}
