//! What a directory has, as far as it concerns us, in memory: who is in which groups comes out of it
//! as [`super::super::membership`] would find it by asking. Pure: entries in, news out.
//!
//! Whoever may have changed is noted, and looked at when news are wanted: only what then differs from
//! what was told before is told.

use super::super::schema::Members;
use super::content::{GroupEntry, Id, Kind, PersonEntry, same_person};
use crate::model::{DirectoryGroup, GroupClaim, Person, PersonKey, Sid};
use crate::provider::news::{Update, Whole};
use gpuhub_common::name::{GroupName, UserName};
use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

/// An entry, and the searches that found it.
#[derive(Debug)]
struct Row<E, K> {
    entry: E,
    /// A bit for each search.
    found_by: u32,
    /// For [`super::poll`]: what tells that it has changed.
    stamp: String,
    /// It was told as it is here; of a person, with the groups that are in her entry.
    told: bool,
    /// As whom the engine knows it.
    known: Option<K>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Mirror {
    members: Members,
    nesting: u8,
    /// Groups are shown with their members.
    listed: bool,
    people: HashMap<Id, Row<PersonEntry, (UserName, PersonKey)>>,
    groups: HashMap<Id, Row<GroupEntry, GroupName>>,
    /// Whose names these are; more than one is nobody's.
    user_names: HashMap<String, BTreeSet<Id>>,
    group_names: HashMap<String, BTreeSet<Id>>,
    by_dn: HashMap<String, (Kind, Id)>,
    /// The groups that have this member.
    holders: HashMap<String, BTreeSet<Id>>,
    /// The group that has this SID, and the people whose primary one it is.
    by_sid: HashMap<Sid, Id>,
    primary_of: HashMap<Sid, BTreeSet<Id>>,
    /// Whoever may have changed.
    noted: HashSet<(Kind, Id)>,
    /// Everybody may have.
    all_noted: bool,
    gone: Vec<(UserName, PersonKey)>,
    gone_groups: Vec<GroupName>,
}

impl Mirror {
    pub(super) fn new(members: Members, nesting: u8, listed: bool) -> Self {
        Self {
            members,
            nesting,
            listed,
            people: HashMap::new(),
            groups: HashMap::new(),
            user_names: HashMap::new(),
            group_names: HashMap::new(),
            by_dn: HashMap::new(),
            holders: HashMap::new(),
            by_sid: HashMap::new(),
            primary_of: HashMap::new(),
            noted: HashSet::new(),
            all_noted: true,
            gone: Vec::new(),
            gone_groups: Vec::new(),
        }
    }

    /// From now until the next news everybody is looked at: cheaper than to note each, where many come.
    pub(super) fn note_all(&mut self) {
        self.all_noted = true;
        self.noted.clear();
    }

    /// How many entries there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Person => self.people.len(),
            Kind::Group => self.groups.len(),
        }
    }

    /// Puts in what the search number `n` has found.
    pub(super) fn put_person(&mut self, n: usize, id: Id, new: PersonEntry, stamp: String) {
        let found_by = bit(n) | self.people.get(&id).map_or(0, |row| row.found_by);
        if let Some(row) = self.people.get_mut(&id) {
            row.found_by = found_by;
            row.stamp.clone_from(&stamp);
            if same_person(&row.entry, &new) {
                return;
            }
        }
        let old = self.people.remove(&id);
        if let Some(old) = &old {
            self.unlink_person(&id, &old.entry);
        }
        if let Some(name) = &new.name {
            self.user_names.entry(name.as_str().to_owned()).or_default().insert(id.clone());
        }
        self.by_dn.insert(new.dn.clone(), (Kind::Person, id.clone()));
        if let Some(sid) = new.primary {
            self.primary_of.entry(sid).or_default().insert(id.clone());
        }
        let (mut new, mut known) = (new, None);
        if let Some(old) = old {
            match old.known {
                Some(was) if new.name.as_ref() == Some(&was.0) => known = Some(was),
                was => self.gone.extend(was),
            }
            // Her groups as they were told last.
            if let (Ok(Some(was)), Ok(Some(is))) = (old.entry.person, &mut new.person) {
                is.groups = was.groups;
            }
        }
        self.note_person(&id, &new);
        self.people.insert(id, Row { entry: new, found_by, stamp, told: false, known });
    }

    /// Puts in what the search number `n` has found.
    pub(super) fn put_group(&mut self, n: usize, id: Id, new: GroupEntry, stamp: String) {
        let found_by = bit(n) | self.groups.get(&id).map_or(0, |row| row.found_by);
        if let Some(row) = self.groups.get_mut(&id) {
            row.found_by = found_by;
            row.stamp.clone_from(&stamp);
            if row.entry == new {
                return;
            }
        }
        let mut known = None;
        if let Some(old) = self.groups.remove(&id) {
            self.note_group(&id, &old.entry);
            self.unlink_group(&id, &old.entry);
            match old.known {
                was if was == new.name => known = was,
                was => self.gone_groups.extend(was),
            }
        }
        if let Some(name) = &new.name {
            self.group_names.entry(name.as_str().to_owned()).or_default().insert(id.clone());
        }
        self.by_dn.insert(new.dn.clone(), (Kind::Group, id.clone()));
        self.by_sid.extend(new.sid.map(|sid| (sid, id.clone())));
        for member in &new.members {
            self.holders.entry(member.clone()).or_default().insert(id.clone());
        }
        self.groups.insert(id.clone(), Row { entry: new.clone(), found_by, stamp, told: false, known });
        self.note_group(&id, &new);
    }

    /// The search number `n` finds it no more.
    pub(super) fn lost(&mut self, n: usize, kind: Kind, id: &Id) {
        let found_by = match kind {
            Kind::Person => self.people.get_mut(id).map(|row| &mut row.found_by),
            Kind::Group => self.groups.get_mut(id).map(|row| &mut row.found_by),
        };
        let Some(found_by) = found_by else { return };
        *found_by &= !bit(n);
        if *found_by != 0 {
            return;
        }
        match kind {
            Kind::Person => {
                let Some(old) = self.people.remove(id) else { return };
                self.unlink_person(id, &old.entry);
                self.gone.extend(old.known);
            }
            Kind::Group => {
                let Some(old) = self.groups.get(id).map(|row| row.entry.clone()) else { return };
                self.note_group(id, &old);
                self.gone_groups.extend(self.groups.remove(id).and_then(|row| row.known));
                self.unlink_group(id, &old);
            }
        }
    }

    /// The search number `n` is over, and has found only these.
    pub(super) fn only(&mut self, n: usize, kind: Kind, seen: &HashSet<Id>) {
        let found = |id: &Id, found_by: u32| found_by & bit(n) != 0 && !seen.contains(id);
        let lost: Vec<Id> = match kind {
            Kind::Person => {
                self.people.iter().filter(|(id, row)| found(id, row.found_by)).map(|p| p.0.clone()).collect()
            }
            Kind::Group => {
                self.groups.iter().filter(|(id, row)| found(id, row.found_by)).map(|g| g.0.clone()).collect()
            }
        };
        lost.iter().for_each(|id| self.lost(n, kind, id));
    }

    /// When an entry was changed last, as the directory says.
    pub(super) fn stamp(&self, kind: Kind, id: &Id) -> Option<&str> {
        match kind {
            Kind::Person => self.people.get(id).map(|row| row.stamp.as_str()),
            Kind::Group => self.groups.get(id).map(|row| row.stamp.as_str()),
        }
    }

    /// Whether a group is one of those that are wanted here.
    pub(super) fn is_wanted(&self, id: &Id) -> bool {
        self.groups.get(id).is_some_and(|row| row.entry.wanted)
    }

    /// Whether anything may have changed.
    pub(super) fn has_news(&self) -> bool {
        self.all_noted || !self.noted.is_empty() || !self.gone.is_empty() || !self.gone_groups.is_empty()
    }

    /// What is other than what was told.
    pub(super) fn news(&mut self) -> Update {
        let mut noted: Vec<(Kind, Id)> = self.noted.drain().collect();
        if std::mem::take(&mut self.all_noted) {
            noted = self.people.keys().map(|id| (Kind::Person, id.clone())).collect();
            noted.extend(self.groups.keys().map(|id| (Kind::Group, id.clone())));
        }
        noted.sort_unstable();
        let mut update = Update::default();
        for (kind, id) in noted {
            match kind {
                Kind::Person => update.people.extend(self.changed_person(&id)),
                Kind::Group => update.groups.extend(self.changed_group(&id)),
            }
        }
        let names = &self.user_names;
        update.gone = std::mem::take(&mut self.gone);
        // Whoever has come back, or is called so all the same.
        update.gone.retain(|(name, key)| {
            let now = names.get(name.as_str()).into_iter().flatten().filter_map(|id| self.people.get(id));
            !now.into_iter()
                .any(|row| row.entry.person.as_ref().map_or(true, |p| p.as_ref().is_some_and(|p| p.key == *key)))
        });
        update.gone_groups = std::mem::take(&mut self.gone_groups);
        update.gone_groups.retain(|name| !self.group_names.contains_key(name.as_str()));
        update
    }

    /// Who is there.
    pub(super) fn whole(&self) -> Whole {
        let people = self.people.values().all(|row| !row.entry.nameless);
        let groups = self.groups.values().all(|row| !row.entry.nameless);
        Whole {
            people: people.then(|| self.user_names.keys().cloned().collect()),
            groups: groups.then(|| self.group_names.keys().cloned().collect()),
        }
    }

    /// What cannot be told, with examples: unreadable entries, and names that several have.
    pub(super) fn unclear(&self) -> Option<String> {
        let unreadable = self.people.values().filter_map(|row| {
            let nameless = || row.entry.nameless.then(|| format!("{} has no readable name", row.entry.dn));
            row.entry.person.as_ref().err().cloned().or_else(nameless)
        });
        let unreadable = unreadable.chain(self.groups.values().filter_map(|row| {
            let nameless = || row.entry.nameless.then(|| format!("{} has no readable name", row.entry.dn));
            row.entry.claim.as_ref().err().cloned().or_else(nameless)
        }));
        let several = |ids: &BTreeSet<Id>| ids.len() > 1;
        let names = self.user_names.iter().chain(&self.group_names).filter(|(_, ids)| several(ids));
        let mut all: Vec<String> =
            unreadable.chain(names.map(|(name, n)| format!("{} have the name {name}", n.len()))).collect();
        all.sort_unstable();
        let first = all.first()?;
        Some(match all.len() - 1 {
            0 => first.clone(),
            more => format!("{first}; and {more} more"),
        })
    }

    fn changed_person(&mut self, id: &Id) -> Option<Person> {
        let row = self.people.get(id)?;
        let alone =
            row.entry.name.as_ref().and_then(|n| self.user_names.get(n.as_str())).is_some_and(|ids| ids.len() == 1);
        let Ok(Some(person)) = &row.entry.person else { return None };
        // Who has a group that cannot be read: nobody knows what she may.
        let groups = if alone { self.groups_of(&row.entry, &person.name)? } else { return None };
        let row = self.people.get_mut(id)?;
        let Ok(Some(person)) = &mut row.entry.person else { return None };
        if row.told && person.groups == groups {
            return None;
        }
        row.told = true;
        row.known = Some((person.name.clone(), person.key.clone()));
        person.groups = groups;
        Some(person.clone())
    }

    fn changed_group(&mut self, id: &Id) -> Option<DirectoryGroup> {
        let row = self.groups.get(id)?;
        let Ok(Some(claim)) = &row.entry.claim else { return None };
        if self.group_names.get(claim.name.as_str()).is_none_or(|ids| ids.len() != 1) {
            return None;
        }
        let claim = claim.clone();
        let members = if self.listed { self.members_of(&row.entry) } else { Vec::new() };
        let row = self.groups.get_mut(id)?;
        (row.told, row.known) = (true, Some(claim.name.clone()));
        Some(DirectoryGroup { claim, members })
    }

    /// The groups that somebody is in, sorted; `None`: that cannot be known.
    fn groups_of(&self, person: &PersonEntry, name: &UserName) -> Option<Vec<GroupClaim>> {
        let (first, levels) = match self.members {
            Members::Names => (name.as_str(), 0),
            Members::Dns => (person.dn.as_str(), usize::from(self.nesting)),
            // As tokenGroups has it: her primary one, too, and through as many as there are.
            Members::Asked => (person.dn.as_str(), usize::MAX),
        };
        let mut claims = Vec::new();
        let mut found: Vec<&Id> = person.primary.and_then(|sid| self.by_sid.get(&sid)).into_iter().collect();
        found.extend(self.holders.get(first).into_iter().flatten());
        let mut seen: HashSet<&str> = HashSet::from([person.dn.as_str()]);
        for _ in 0..=levels {
            let rows = found.into_iter().filter_map(|id| self.groups.get(id));
            let mut next = Vec::new();
            for row in rows.filter(|row| seen.insert(row.entry.dn.as_str())) {
                claims.extend(row.entry.claim.as_ref().ok()?.clone());
                next.extend(self.holders.get(&row.entry.dn).into_iter().flatten());
            }
            found = next;
            if found.is_empty() {
                break;
            }
        }
        claims.sort_unstable();
        claims.dedup();
        Some(claims)
    }

    /// The people of a group, sorted.
    fn members_of(&self, group: &GroupEntry) -> Vec<UserName> {
        if self.members == Members::Names {
            return group.members.iter().filter_map(|name| UserName::new(name).ok()).collect();
        }
        let mut names = BTreeSet::new();
        // Whose primary one it is is not among its members in Active Directory, either.
        self.walk(group, usize::from(self.nesting) + 1, |kind, id| {
            if kind == Kind::Person {
                names.extend(self.people.get(id).and_then(|row| row.entry.name.clone()));
            }
        });
        names.into_iter().collect()
    }

    /// Everybody who is in a group whose members are DNs, and every group in it, through so many levels.
    fn walk<'m>(&'m self, group: &'m GroupEntry, levels: usize, mut each: impl FnMut(Kind, &'m Id)) {
        let mut seen: HashSet<&str> = HashSet::from([group.dn.as_str()]);
        let mut level: Vec<&str> = group.members.iter().map(String::as_str).collect();
        for _ in 0..levels {
            let mut next = Vec::new();
            for dn in level.into_iter().filter(|dn| seen.insert(dn)) {
                // Else it is not there, or is neither.
                let Some((kind, id)) = self.by_dn.get(dn) else { continue };
                each(*kind, id);
                if *kind == Kind::Group {
                    let members = self.groups.get(id).into_iter().flat_map(|row| &row.entry.members);
                    next.extend(members.map(String::as_str));
                }
            }
            level = next;
            if level.is_empty() {
                break;
            }
        }
    }

    /// She has changed; so have others of her name, and the lists of the groups that she is in.
    fn note_person(&mut self, id: &Id, entry: &PersonEntry) {
        if self.all_noted {
            return;
        }
        self.noted.insert((Kind::Person, id.clone()));
        let namesakes = entry.name.as_ref().and_then(|name| self.user_names.get(name.as_str()));
        self.noted.extend(namesakes.into_iter().flatten().map(|id| (Kind::Person, id.clone())));
        if self.members != Members::Names {
            self.note_holders(&entry.dn);
        }
    }

    /// It has changed; so have the groups that it is in, and everybody who is in it.
    fn note_group(&mut self, id: &Id, entry: &GroupEntry) {
        if self.all_noted {
            return;
        }
        self.noted.insert((Kind::Group, id.clone()));
        let namesakes = entry.name.as_ref().and_then(|name| self.group_names.get(name.as_str()));
        self.noted.extend(namesakes.into_iter().flatten().map(|id| (Kind::Group, id.clone())));
        let mut people = Vec::new();
        if self.members != Members::Names {
            self.note_holders(&entry.dn);
            let mut of = |group: &GroupEntry| {
                people.extend(group.sid.and_then(|sid| self.primary_of.get(&sid)).into_iter().flatten().cloned());
            };
            of(entry);
            let mut members = Vec::new();
            self.walk(entry, usize::MAX, |kind, id| match kind {
                Kind::Person => members.push(id.clone()),
                Kind::Group => self.groups.get(id).into_iter().for_each(|row| of(&row.entry)),
            });
            people.extend(members);
        } else {
            people.extend(entry.members.iter().filter_map(|name| self.user_names.get(name)).flatten().cloned());
        }
        self.noted.extend(people.into_iter().map(|id| (Kind::Person, id)));
    }

    fn note_holders(&mut self, dn: &str) {
        let mut level = vec![dn.to_owned()];
        while let Some(dn) = level.pop() {
            let Some(holders) = self.holders.get(&dn) else { continue };
            for id in holders {
                if self.noted.insert((Kind::Group, id.clone())) {
                    level.extend(self.groups.get(id).map(|row| row.entry.dn.clone()));
                }
            }
        }
    }

    fn unlink_person(&mut self, id: &Id, entry: &PersonEntry) {
        if let Some(name) = &entry.name {
            unlink(&mut self.user_names, name.as_str(), id);
        }
        if let Some(sid) = entry.primary {
            unlink(&mut self.primary_of, &sid, id);
        }
        self.unlink_dn(id, &entry.dn);
        // Those of the name that she had, and of the place where she was.
        self.note_person(id, entry);
    }

    fn unlink_group(&mut self, id: &Id, entry: &GroupEntry) {
        if let Some(name) = &entry.name {
            unlink(&mut self.group_names, name.as_str(), id);
        }
        for member in &entry.members {
            unlink(&mut self.holders, member.as_str(), id);
        }
        if let Some(sid) = entry.sid.filter(|sid| self.by_sid.get(sid) == Some(id)) {
            self.by_sid.remove(&sid);
        }
        self.unlink_dn(id, &entry.dn);
    }

    fn unlink_dn(&mut self, id: &Id, dn: &str) {
        if self.by_dn.get(dn).is_some_and(|(_, of)| of == id) {
            self.by_dn.remove(dn);
        }
    }
}

fn bit(n: usize) -> u32 {
    1u32.checked_shl(u32::try_from(n).unwrap_or(u32::MAX)).unwrap_or(0)
}

fn unlink<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized>(index: &mut HashMap<K, BTreeSet<Id>>, key: &Q, id: &Id) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
