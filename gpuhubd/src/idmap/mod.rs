//! Which number somebody gets. In this order: what the administrator set, what the directory
//! fixes (an attribute, a claim, or a SID), a deterministic candidate with probing. It is recorded in the
//! store, in the fleet's registry if there is one, and never given to another name.
//!
//! A candidate depends only on the configured range, the kind and the name, so boxes that never
//! met agree except where a collision decides. A collision is recorded with the id, so that it is
//! never decided differently later.

pub mod sid;

use crate::model::{Denied, DirectoryId, PersonKey, Reason, Sid};
use crate::registry::{Claim, Postgres, RegistryError};
use crate::store::{GivenId, IdKind, Source, Store, StoreError};
use gpuhub_common::id;
use sha2::{Digest, Sha256};
use sid::SidError;
use std::sync::Arc;

/// How often a taken candidate is followed by the next. At a load of 1 % the odds of needing
/// even four are 1 in 10^8; a range so full that this fails needs an administrator.
const PROBES: u32 = 64;

/// Gives ids within a range.
#[derive(Clone)]
pub struct Idmap {
    store: Store,
    registry: Option<Arc<Postgres>>,
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

/// An id that something else than the name decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The id.
    pub id: u32,
    /// Who says so.
    pub source: Source,
}

/// Whether an id is not to be given though nobody has it: promised to a pending login, or local.
pub type Avoid<'a> = &'a (dyn Fn(u32) -> bool + Sync);

impl Idmap {
    /// For `range`, which the configuration has checked. Without a registry the store is all there is.
    pub fn new(store: Store, range: [u32; 2], registry: Option<Arc<Postgres>>) -> Self {
        let [first, last] = range;
        Self { store, registry, first, last }
    }

    /// The fleet's registry.
    pub fn registry(&self) -> Option<&Postgres> {
        self.registry.as_deref()
    }

    /// Whether an id is one that may be computed.
    pub fn is_in_range(&self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// The uid of `name`, whose group of her own has the same number when `own_group`. Given for
    /// good. Where another group has her name already, her own has the number alone. With a `key`,
    /// this is the first time that she is seen here, and a registry binds her name to it.
    pub async fn user(
        &self,
        name: &str,
        fixed: Option<Fixed>,
        own_group: bool,
        key: Option<&PersonKey>,
        avoid: Avoid<'_>,
    ) -> Result<Given, Denied> {
        let group = if own_group { Some(self.own_group(name)?) } else { None };
        self.give(IdKind::User, name, group, fixed, key, avoid).await
    }

    /// The gid of the group `name`.
    pub async fn group(&self, name: &str, fixed: Option<Fixed>, avoid: Avoid<'_>) -> Result<Given, Denied> {
        self.give(IdKind::Group, name, None, fixed, None, avoid).await
    }

    /// The uid that [`Idmap::user`] would give now, without giving it.
    pub async fn preview(&self, name: &str, avoid: Avoid<'_>) -> Result<u32, Denied> {
        if let Some(id) = self.recorded(IdKind::User, name)? {
            return Ok(id.id);
        }
        let candidates = self.candidates(IdKind::User, name).filter(|(_, id)| !avoid(*id)).collect();
        let free = self.free(candidates, IdKind::User, true)?;
        let first = match &self.registry {
            None => free.first().map(|(_, id)| *id),
            Some(registry) => {
                let ids: Vec<u32> = free.iter().map(|(_, id)| *id).collect();
                registry.preview(name, &ids).await?
            }
        };
        first.ok_or_else(|| Denied::because(Reason::NoId, "every candidate is taken"))
    }

    /// Gives what the user `old` has, ids and binding and the group of her own, to the name `new`;
    /// `false` if that is somebody, or was. In the registry first: what it has renamed and this box
    /// has not (it was killed in between), this box follows.
    pub async fn rename_user(&self, old: &str, new: &str) -> Result<bool, Denied> {
        let id = |kind, name| self.recorded(kind, name).map(|g| g.map(|g| g.id));
        let uid = id(IdKind::User, old)?;
        if id(IdKind::User, new)?.is_some() {
            return Ok(false);
        }
        let own = uid.is_some() && id(IdKind::Group, old)? == uid;
        let kinds: &[IdKind] = if own { &[IdKind::User, IdKind::Group] } else { &[IdKind::User] };
        if let Some(registry) = &self.registry {
            match registry.rename(kinds, old, new, uid).await {
                Ok(()) => {}
                Err(RegistryError::Collision(_)) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        self.store.rename(kinds, old, new).map_err(fault)
    }

    /// What decides on the id of `name` before its name does: the administrator, else the directory.
    pub fn fixed(&self, kind: IdKind, name: &str, said: Option<DirectoryId>) -> Result<Option<Fixed>, Denied> {
        match self.recorded(kind, name)?.filter(|g| g.source == Source::Override) {
            Some(set) => Ok(Some(Fixed { id: set.id, source: Source::Override })),
            None => said.map(|said| self.by_directory(said)).transpose(),
        }
    }

    /// The number of what a directory says. The slice of a SID's domain is given with it, for good.
    pub fn by_directory(&self, said: DirectoryId) -> Result<Fixed, Denied> {
        match said {
            DirectoryId::Number(id) => Ok(Fixed { id, source: Source::Directory }),
            DirectoryId::Sid(sid) => match sid::id_of(&self.store, sid) {
                Ok(id) => Ok(Fixed { id, source: Source::Sid }),
                Err(SidError::Full) => Err(Denied::because(Reason::NoId, format!("{sid}: {}", SidError::Full))),
                Err(SidError::Store(e)) => Err(fault(e)),
            },
        }
    }

    /// The id that the owner of `id` has now; `None` if she has none any more.
    pub fn now(&self, kind: IdKind, id: u32) -> Result<Option<u32>, Denied> {
        match self.store.given_id(kind, id).map_err(fault)? {
            Some(given) if given.retired_at.is_some() => Ok(self.recorded(kind, &given.name)?.map(|g| g.id)),
            _ => Ok(Some(id)),
        }
    }

    /// The SID that an id may come from.
    pub fn sid_of(&self, id: u32) -> Result<Option<Sid>, Denied> {
        sid::sid_of(&self.store, id).map_err(fault)
    }

    /// Under which name somebody's own group is recorded: hers, or one that no group can have.
    pub fn own_group(&self, name: &str) -> Result<String, Denied> {
        let nameless = format!("~{name}");
        let id = |kind, name: &str| self.recorded(kind, name).map(|g| g.map(|g| g.id));
        let taken = match id(IdKind::Group, name)? {
            Some(gid) => id(IdKind::User, name)? != Some(gid),
            None => id(IdKind::Group, &nameless)?.is_some(),
        };
        Ok(if taken { nameless } else { name.to_owned() })
    }

    /// One id for a name, and for the group of her own if she gets one.
    async fn give(
        &self,
        kind: IdKind,
        name: &str,
        group: Option<String>,
        fixed: Option<Fixed>,
        key: Option<&PersonKey>,
        avoid: Avoid<'_>,
    ) -> Result<Given, Denied> {
        let recorded = self.recorded(kind, name)?;
        let names = |group: &Option<String>| -> Vec<(IdKind, String)> {
            let own = group.iter().map(|g| (IdKind::Group, g.clone()));
            std::iter::once((kind, name.to_owned())).chain(own).collect()
        };
        let given =
            |id, collided, group: Option<String>| Given { id, collided, names_group: group.is_some_and(|g| g == name) };
        let is_new = recorded.is_none();
        // Each costs a hash: they are for whoever has no id yet.
        let mut candidates = Vec::new();
        if is_new && fixed.is_none() {
            candidates.extend(self.candidates(kind, name).filter(|(_, id)| !avoid(*id)));
        }
        let mut source = Source::Computed;
        if let Some(f) = fixed {
            (candidates, source) = (vec![(0, f.id)], f.source);
        }
        if let Some(known) = recorded {
            let differs = fixed.is_some_and(|f| f.id != known.id) && known.source != Source::Override;
            // A name that was given a uid while its directory had a group for it has no group yet.
            if differs || !self.record(&names(&group), known.id, known.source, known.probes, false)? {
                return Err(Denied::because(Reason::NoId, self.conflict(kind, name, fixed, &known)));
            }
            if key.is_none() || self.registry.is_none() {
                return Ok(given(known.id, false, group));
            }
            (candidates, source) = (vec![(known.probes, known.id)], known.source);
        }
        let Some(registry) = &self.registry else {
            for (probes, id) in candidates {
                if self.record(&names(&group), id, source, probes, false)? {
                    return Ok(given(id, probes > 0, group));
                }
            }
            return Err(Denied::because(
                Reason::NoId,
                match fixed {
                    Some(f) => format!("{} id {} of {name} was given to another name", kind.as_str(), f.id),
                    None => "every candidate is taken".into(),
                },
            ));
        };
        if is_new && fixed.is_none() {
            candidates = self.free(candidates, kind, group.is_some())?;
        }
        let ids: Vec<u32> = candidates.iter().map(|(_, id)| *id).collect();
        let claimed =
            registry.claim(Claim { kind, name, own_group: group.is_some(), candidates: &ids, source, key }).await?;
        // It counts the candidates that it was given; those that were not free here came before.
        let skipped = candidates.iter().find(|(_, id)| *id == claimed.id).map_or(0, |(n, _)| *n);
        let (group, probes) = (claimed.group, claimed.probes.max(skipped));
        if !self.record(&names(&group), claimed.id, claimed.source, probes, true)? {
            return Err(Denied::because(
                Reason::NoId,
                format!("the registry gives {name} the {} id {}, which is another's here", kind.as_str(), claimed.id),
            ));
        }
        Ok(given(claimed.id, is_new && source == Source::Computed && probes > 0, group))
    }

    fn record(
        &self,
        names: &[(IdKind, String)],
        id: u32,
        source: Source,
        probes: u32,
        registered: bool,
    ) -> Result<bool, Denied> {
        let names: Vec<(IdKind, &str)> = names.iter().map(|(k, n)| (*k, n.as_str())).collect();
        self.store.give_id(&names, id, source, probes, registered).map_err(fault)
    }

    fn conflict(&self, kind: IdKind, name: &str, fixed: Option<Fixed>, known: &GivenId) -> String {
        match fixed {
            Some(f) if f.id != known.id => format!(
                "{name} has the {} id {} ({}), and now it is to be {}; `gpuhub idmap set` decides",
                kind.as_str(),
                known.id,
                known.source.as_str(),
                f.id
            ),
            _ => format!("a group has the id {} that {name} needs for her own", known.id),
        }
    }

    fn recorded(&self, kind: IdKind, name: &str) -> Result<Option<GivenId>, Denied> {
        self.store.given_to(kind, name).map_err(fault)
    }

    /// Those candidates that nobody has here; with `own_group`, no group either.
    fn free(&self, candidates: Vec<(u32, u32)>, kind: IdKind, own_group: bool) -> Result<Vec<(u32, u32)>, Denied> {
        let taken = |kind, id| self.store.name_of_id(kind, id).map(|owner| owner.is_some()).map_err(fault);
        let mut free = Vec::new();
        for (probe, id) in candidates {
            let is_taken = taken(kind, id)? || (own_group && taken(IdKind::Group, id)?);
            if !is_taken {
                free.push((probe, id));
            }
        }
        Ok(free)
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
        Idmap::new(Store::in_memory().unwrap(), range, None)
    }

    async fn user(m: &Idmap, name: &str, fixed: Option<Fixed>, own: bool, avoid: Avoid<'_>) -> Result<Given, Denied> {
        let key = PersonKey { issuer: "test".into(), subject: name.into() };
        m.user(name, fixed, own, Some(&key), avoid).await
    }

    const FIXED_1: Option<Fixed> = Some(Fixed { id: 20001, source: Source::Directory });
    const FIXED_2: Option<Fixed> = Some(Fixed { id: 20002, source: Source::Directory });
    const FIXED_3: Option<Fixed> = Some(Fixed { id: 5000, source: Source::Directory });
    const WIDE: [u32; 2] = [1_000_000_000, 1_999_999_999];

    #[tokio::test]
    async fn boxes_that_never_met_agree_whatever_the_order() {
        let (a, b) = (idmap(WIDE), idmap(WIDE));
        let none = |_: u32| false;
        let names: Vec<String> = (0..200).map(|i| format!("user{i}")).collect();
        let mut on_a = Vec::new();
        for name in &names {
            on_a.push(user(&a, name, None, true, &none).await.unwrap().id);
        }
        for (name, id) in names.iter().zip(on_a).rev() {
            assert_eq!(user(&b, name, None, true, &none).await.unwrap().id, id);
        }
    }

    #[tokio::test]
    async fn golden_candidates_never_change() {
        // Computed apart, in Python. A change here moves every file of every site that has no registry.
        let m = idmap(WIDE);
        assert_eq!(user(&m, "alice", None, true, &|_| false).await.unwrap().id, 1_414_134_783);
        assert_eq!(m.group("gpu-users", None, &|_| false).await.unwrap().id, 1_920_715_555);
    }

    #[tokio::test]
    async fn a_collision_is_probed_recorded_and_said() {
        let m = idmap([70_000, 70_015]);
        let none = |_: u32| false;
        let mut ids: Vec<u32> = Vec::new();
        let mut collided = 0;
        for i in 0..16 {
            let given = user(&m, &format!("u{i}"), None, true, &none).await.unwrap();
            collided += u32::from(given.collided);
            ids.push(given.id);
            assert_eq!(user(&m, &format!("u{i}"), None, true, &none).await.unwrap().id, given.id, "for good");
        }
        ids.sort_unstable();
        assert_eq!(ids, (70_000..=70_015).collect::<Vec<_>>());
        assert!(collided > 0);
        assert_eq!(user(&m, "one-too-many", None, true, &none).await.unwrap_err().reason, Reason::NoId);
    }

    #[tokio::test]
    async fn a_fixed_id_belongs_to_one_name() {
        let m = idmap(WIDE);
        let none = |_: u32| false;
        assert_eq!(user(&m, "alice", FIXED_1, false, &none).await.unwrap().id, 20001);
        assert_eq!(user(&m, "bob", FIXED_1, false, &none).await.unwrap_err().reason, Reason::NoId);
        assert_eq!(user(&m, "alice", FIXED_2, false, &none).await.unwrap_err().reason, Reason::NoId);
        assert_eq!(m.group("ml", FIXED_1, &none).await.unwrap().id, 20001, "groups have their own numbers");
    }

    #[tokio::test]
    async fn a_group_of_her_name_keeps_nobody_out() {
        let m = idmap(WIDE);
        let none = |_: u32| false;
        let group = m.group("carol", FIXED_3, &none).await.unwrap();
        let carol = user(&m, "carol", None, true, &none).await.unwrap();
        assert!(!carol.names_group && carol.id != group.id);
        assert_eq!(user(&m, "carol", None, true, &none).await.unwrap(), carol);
        assert!(
            m.group("other", Some(Fixed { id: carol.id, source: Source::Directory }), &none).await.is_err(),
            "the number is hers alone"
        );
        assert!(user(&m, "dave", None, true, &none).await.unwrap().names_group);
    }

    #[tokio::test]
    async fn what_is_reserved_is_not_given() {
        let m = idmap(WIDE);
        let promised = m.preview("alice", &|_| false).await.unwrap();
        let reserved = |id| id == promised;
        assert_ne!(user(&m, "alice", None, true, &reserved).await.unwrap().id, promised);
    }
}
