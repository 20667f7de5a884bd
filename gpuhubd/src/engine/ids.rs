//! Administration of the ids that were given (`gpuhub idmap`).

use super::{Caller, Engine, local};
use crate::audit::{Event, Outcome};
use crate::model::{Denied, PersonKey, Unavailable};
use crate::provider::Who;
use crate::store::{GivenId, IdKind, Source, StoreError};
use gpuhub_common::entry;
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::name::UserName;
use gpuhub_common::wire::{
    IDS_A_REPLY, IdChange, IdImport, IdQuery, IdRow, IdSpace, IdmapCall, IdmapReply, NewId, Rename,
};
use std::collections::HashMap;

pub(super) type Answer = Result<IdmapReply, String>;

impl Engine {
    /// One administrative call; who may make it is the server's to decide.
    pub async fn idmap(&self, caller: &Caller, call: IdmapCall) -> IdmapReply {
        let what = match &call {
            IdmapCall::Set(n) => Some(format!("idmap set {} {} {}", kind_of(n.kind).as_str(), n.name, n.id)),
            IdmapCall::Move(r) => Some(format!("idmap move {} {}", r.old, r.new)),
            IdmapCall::Import(i) if !i.dry_run => Some(format!("idmap import of {} ids", i.rows.len())),
            IdmapCall::Untie(n) => Some(format!("idmap untie {}", n.name)),
            IdmapCall::Import(_) | IdmapCall::List(_) | IdmapCall::Check(_) => None,
        };
        let sets = matches!(call, IdmapCall::Set(_));
        let answer = match call {
            IdmapCall::Set(new) => self.set_id(new).await,
            IdmapCall::Move(rename) => self.move_ids(rename).await,
            IdmapCall::List(query) => self.list_ids(query),
            IdmapCall::Import(import) => self.import_ids(import).await,
            IdmapCall::Check(_) => self.check_ids().await,
            IdmapCall::Untie(named) => self.untie(&named.name),
        };
        if let Some(what) = what {
            let done = matches!(answer, Ok(IdmapReply::Changed(_)));
            let (result, reason) = if done { (Outcome::Ok, "ok") } else { (Outcome::Denied, "refused") };
            let before = match &answer {
                Ok(IdmapReply::Changed(changes)) if sets => changes.first().and_then(|c| c.old),
                _ => None,
            };
            let before = before.map(|id| format!(", which was {id},")).unwrap_or_default();
            let by = format!("{what}{before} by uid {} on {}", caller.uid, caller.listener);
            self.audit.log(Event { result, reason, detail: Some(by), ..Event::ok("admin") });
        }
        answer.unwrap_or_else(IdmapReply::Refused)
    }

    async fn set_id(&self, new: NewId) -> Answer {
        let changes = self.change_id(kind_of(new.kind), &new.name, new.id, Source::Override).await?;
        self.publishing.publish().await;
        Ok(IdmapReply::Changed(changes))
    }

    /// Gives a name an id, and her own group with her. In the registry first: what it has and this
    /// box has not (it was killed in between), this box follows.
    async fn change_id(&self, kind: IdKind, name: &str, id: u32, source: Source) -> Result<Vec<IdChange>, String> {
        let local = local::read().map_err(|d| why(&d))?;
        vet(kind, name, id, &local)?;
        let old = self.store.id_of(kind, name).map_err(text)?;
        if kind == IdKind::Group && old.is_some() && self.store.id_of(IdKind::User, name).map_err(text)? == old {
            return Err(format!("{name} is that person's own group, which goes with her: set the user's id."));
        }
        let own = self.idmap.own_group(name).map_err(|d| why(&d))?;
        let mut names = vec![(kind, name)];
        if kind == IdKind::User && old.is_some() && self.store.id_of(IdKind::Group, &own).map_err(text)? == old {
            vet(IdKind::Group, name, id, &local)?;
            names.push((IdKind::Group, own.as_str()));
        }
        for (kind, name) in &names {
            if let Some(owner) = self.store.name_of_id(*kind, id).map_err(text)?.filter(|o| o != name) {
                return Err(format!("The {} id {id} belongs to {owner}, or did.", kind.as_str()));
            }
        }
        if let Some(registry) = self.idmap.registry() {
            registry.set(&names, id, source).await.map_err(|e| sentence(&e.to_string()))?;
        }
        let registered = self.idmap.registry().is_some();
        if let Some(owner) = self.store.change_id(&names, id, source, registered).map_err(text)? {
            return Err(format!("The {} id {id} belongs to {owner}, or did.", kind.as_str()));
        }
        let change =
            |(kind, name): &(IdKind, &str)| IdChange { kind: space_of(*kind), name: (*name).to_owned(), old, new: id };
        Ok(names.iter().map(change).collect())
    }

    async fn move_ids(&self, rename: Rename) -> Answer {
        let new = UserName::new(&rename.new).map_err(|e| format!("The name {e}."))?;
        if self.local.accounts().map_err(|d| why(&d))?.has_user(new.as_str().as_bytes()) {
            return Err(format!("{new} is a local account of this machine."));
        }
        let Some(id) = self.store.id_of(IdKind::User, &rename.old).map_err(text)? else {
            return Err(format!("{} has no id.", rename.old));
        };
        self.lets_go(&rename.old).await?;
        self.rename("idmap", &rename.old, new.as_str()).await.map_err(|d| why(&d))?;
        self.publishing.publish().await;
        let change = IdChange { kind: IdSpace::User, name: rename.new, old: Some(id), new: id };
        Ok(IdmapReply::Changed(vec![change]))
    }

    /// Whoever is called `old` by her directory would be called so again at the next lookup.
    async fn lets_go(&self, old: &str) -> Result<(), String> {
        let Some(known) = self.store.person(old).map_err(text)?.filter(|k| !k.gone) else { return Ok(()) };
        let Some(directory) = self.provider(&known.provider).filter(|p| p.knows_people()) else {
            return Ok(());
        };
        let name = UserName::new(old).map_err(|e| format!("The name {e}."))?;
        match directory.look_up(Who::Name(&name)).await {
            Ok(Some(person)) if person.key == known.key => Err(format!(
                "The directory {} still calls her {old}. Rename her there: that is followed by itself.",
                directory.name()
            )),
            Ok(_) => Ok(()),
            Err(Unavailable(why)) => {
                Err(format!("Whether her directory still calls her {old} cannot be known: {why}."))
            }
        }
    }

    fn list_ids(&self, query: IdQuery) -> Answer {
        let given = match &query.name {
            Some(name) => self.store.ids_of(name).map_err(text)?,
            None => {
                let after = query.after.map(|at| (kind_of(at.kind), at.id));
                self.store.given_ids(after, IDS_A_REPLY).map_err(text)?
            }
        };
        let rows = given.into_iter().map(|g| self.row(g)).collect::<Result<_, _>>().map_err(text)?;
        Ok(IdmapReply::Rows(rows))
    }

    fn row(&self, g: GivenId) -> Result<IdRow, StoreError> {
        let key = match g.kind {
            IdKind::User if g.retired_at.is_none() => self.store.key_of(&g.name)?,
            _ => None,
        };
        let (issuer, subject) = key.map(|k| (k.issuer, k.subject)).unzip();
        Ok(IdRow {
            kind: space_of(g.kind),
            name: g.name,
            id: g.id,
            source: Some(g.source.as_str().to_owned()),
            retired: g.retired_at.is_some(),
            issuer,
            subject,
        })
    }

    async fn import_ids(&self, import: IdImport) -> Answer {
        let local = local::read().map_err(|d| why(&d))?;
        let (mut problems, mut plan) = (Vec::new(), Vec::new());
        for row in &import.rows {
            match self.plan_import(row, import.replace, &local).map_err(text)? {
                Ok(change) => plan.push((row, change)),
                Err(problem) => problems.push(problem),
            }
        }
        let (mut by_id, mut by_name) = (HashMap::new(), HashMap::new());
        for row in &import.rows {
            if by_id.insert((row.kind, row.id), &row.name).is_some_and(|other| *other != row.name) {
                problems.push(format!("{} id {} is given to two names", kind_of(row.kind).as_str(), row.id));
            }
            if !row.retired && by_name.insert((row.kind, &row.name), row.id).is_some_and(|other| other != row.id) {
                problems.push(format!("{} {} is given two ids", kind_of(row.kind).as_str(), row.name));
            }
        }
        if !problems.is_empty() {
            return Ok(IdmapReply::Problems(problems));
        }
        let changed = plan.iter().filter_map(|(_, change)| change.clone()).collect();
        if !import.dry_run {
            for (n, (row, change)) in plan.iter().enumerate() {
                if let Err(e) = self.import_row(row, change.as_ref()).await {
                    self.publishing.publish().await;
                    return Err(format!("{}: {e} {n} rows before it were imported.", row.name));
                }
            }
            self.publishing.publish().await;
        }
        Ok(IdmapReply::Changed(changed))
    }

    /// What importing a row would change, or why it cannot be imported.
    fn plan_import(
        &self,
        row: &IdRow,
        replace: bool,
        local: &LocalAccounts,
    ) -> Result<Result<Option<IdChange>, String>, StoreError> {
        let kind = kind_of(row.kind);
        let named = format!("{} {} with id {}", kind.as_str(), row.name, row.id);
        // The group of her own that has no name of its own.
        let name = row.name.strip_prefix('~').filter(|_| kind == IdKind::Group).unwrap_or(&row.name);
        if let Err(why) = vet(kind, name, row.id, local) {
            return Ok(Err(format!("{named}: {why}")));
        }
        if let Some(owner) = self.store.name_of_id(kind, row.id)?.filter(|owner| *owner != row.name) {
            return Ok(Err(format!("{named}: that id belongs to {owner}, or did")));
        }
        if let Some(key) = key_of(row) {
            let (bound, other) = (self.store.key_of(&row.name)?, self.store.name_of_key(&key)?);
            if bound.is_some_and(|b| b != key) || other.is_some_and(|name| name != row.name) {
                return Ok(Err(format!("{named}: name or key is bound otherwise")));
            }
        }
        if row.retired {
            return Ok(Ok(None));
        }
        Ok(match self.store.id_of(kind, &row.name)? {
            Some(id) if id == row.id => Ok(None),
            Some(id) if !replace => Err(format!("{named}: it has the id {id}; --replace changes that")),
            old => Ok(Some(IdChange { kind: row.kind, name: row.name.clone(), old, new: row.id })),
        })
    }

    async fn import_row(&self, row: &IdRow, change: Option<&IdChange>) -> Result<(), String> {
        let (kind, key) = (kind_of(row.kind), key_of(row));
        let source = match change {
            // It takes the place of another one: the administrator's word, and every box follows it.
            Some(IdChange { old: Some(_), .. }) => Source::Override,
            _ => row.source.as_deref().and_then(Source::parse).unwrap_or(Source::Imported),
        };
        if row.retired {
            return if self.store.retire_id(kind, &row.name, row.id, source).map_err(text)? {
                Ok(())
            } else {
                Err("that id belongs to another name by now".into())
            };
        }
        let registry = self.idmap.registry();
        if change.is_some() {
            if let Some(registry) = registry {
                registry.set(&[(kind, &row.name)], row.id, source).await.map_err(|e| e.to_string())?;
            }
            let registered = registry.is_some();
            let owner = self.store.change_id(&[(kind, &row.name)], row.id, source, registered).map_err(text)?;
            if let Some(owner) = owner {
                return Err(format!("that id belongs to {owner} by now"));
            }
        }
        if let Some(key) = key {
            if let Some(registry) = registry {
                registry.bind(&row.name, &key).await.map_err(|e| e.to_string())?;
            }
            if self.store.key_of(&row.name).map_err(text)?.is_none() {
                self.store.bind(&row.name, &key).map_err(text)?;
            }
        }
        Ok(())
    }

    async fn check_ids(&self) -> Answer {
        let local = local::read().map_err(|d| why(&d))?;
        let (mut problems, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.given_ids(after, IDS_A_REPLY).map_err(text)?;
            let Some(last) = page.last() else { break };
            after = Some((last.kind, last.id));
            for g in page.iter().filter(|g| g.retired_at.is_none()) {
                let name = g.name.strip_prefix('~').unwrap_or(&g.name);
                if let Err(why) = vet(g.kind, name, g.id, &local) {
                    problems.push(format!("{} {} has the id {}: {why}", g.kind.as_str(), g.name, g.id));
                }
                if g.source == Source::Computed && !self.idmap.is_in_range(g.id) {
                    problems.push(format!(
                        "{} {} has the computed id {}, which is outside of uid_range",
                        g.kind.as_str(),
                        g.name,
                        g.id
                    ));
                }
                let Some(registry) = self.idmap.registry() else { continue };
                match registry.id_of(g.kind, &g.name).await.map_err(|e| sentence(&e.to_string()))? {
                    Some(id) if id == g.id => {}
                    Some(id) => problems.push(format!(
                        "{} {} has the id {} here and {id} in the registry",
                        g.kind.as_str(),
                        g.name,
                        g.id
                    )),
                    None => problems.push(format!("{} {} is not in the registry", g.kind.as_str(), g.name)),
                }
                // The same name and id, and two persons.
                let key = if g.kind == IdKind::User { self.store.key_of(&g.name).map_err(text)? } else { None };
                let Some(ours) = key else { continue };
                let theirs = registry.binding(&g.name).await.map_err(|e| sentence(&e.to_string()))?;
                if theirs.is_some_and(|theirs| theirs != (ours.issuer, ours.subject)) {
                    problems.push(format!("user {} is bound to another person in the registry", g.name));
                }
            }
        }
        for (name, uid) in self.store.people_without_id().map_err(text)? {
            problems.push(format!("user {name} is served with the uid {uid}, which is not recorded as hers"));
        }
        Ok(IdmapReply::Problems(problems))
    }
}

/// What is never given is not given by the administrator either.
pub(super) fn vet(kind: IdKind, name: &str, id: u32, local: &LocalAccounts) -> Result<(), String> {
    let vetted = match kind {
        // Home and shell say nothing here.
        IdKind::User => entry::vet_user(name.as_bytes(), id, id, b"", b"/-", b"/-", local),
        IdKind::Group => entry::vet_group(name.as_bytes(), id, local),
    };
    vetted.map_err(|r| format!("{r}."))
}

fn key_of(row: &IdRow) -> Option<PersonKey> {
    match (&row.issuer, &row.subject) {
        (Some(issuer), Some(subject)) if !issuer.is_empty() && !subject.is_empty() => {
            Some(PersonKey { issuer: issuer.clone(), subject: subject.clone() })
        }
        _ => None,
    }
}

fn kind_of(space: IdSpace) -> IdKind {
    match space {
        IdSpace::User => IdKind::User,
        IdSpace::Group => IdKind::Group,
    }
}

fn space_of(kind: IdKind) -> IdSpace {
    match kind {
        IdKind::User => IdSpace::User,
        IdKind::Group => IdSpace::Group,
    }
}

pub(super) fn why(d: &Denied) -> String {
    sentence(d.detail.as_deref().unwrap_or(d.reason.as_str()))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

pub(super) fn text(e: StoreError) -> String {
    format!("The store has a fault: {e}.")
}
