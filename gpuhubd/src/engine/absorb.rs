//! [`Engine::absorb`], the one way an entry comes in: what a provider says of somebody becomes what is
//! served. Names are bound, ids given, everything is vetted; what is refused is audited.

use super::directory::{LookupError, internal, unavailable};
use super::{Engine, local};
use crate::audit::{Event, Outcome};
use crate::model::{Denied, DirectoryId, GroupClaim, Person, Reason};
use crate::provider::{Who, builtin};
use crate::store::{GivenId, IdKind, KnownGroup, KnownPerson, Source, unix_now};
use gpuhub_common::entry::{self, Group, Passwd};
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::name::UserName;
use std::time::Instant;

impl Engine {
    /// Makes what a provider says of somebody an entry: name bound to her key, ids given, all
    /// vetted, stored. What is refused is audited and never served.
    pub(super) async fn absorb(&self, person: &Person) -> Result<(Passwd, bool), Denied> {
        let state = self.state()?;
        if let Some(passwd) = self.as_before(person, &state) {
            return Ok((passwd, false));
        }
        let taken = self.absorb_anew(person).await?;
        self.remember(person, &taken.0, state);
        Ok(taken)
    }

    async fn absorb_anew(&self, person: &Person) -> Result<(Passwd, bool), Denied> {
        let name = person.name.as_str();
        let refused = |reason: &'static str, detail: String| {
            self.audit_refused(&person.provider, name, reason, Some(detail.clone()));
            Denied::because(Reason::EntryRefused, detail)
        };
        let local = local::read()?;
        let is_new = self.check_binding(person, &local).await?;
        let reserved = self.provisional.reserved(name);
        let avoid = |id| reserved.contains(&id) || local.has_uid(id) || local.has_gid(id);
        // Before an id is recorded for it: what the directory fixes must be allowed at all.
        let draft = |uid, gid| Passwd {
            name: name.to_owned(),
            uid,
            gid,
            gecos: person.full_name.clone(),
            home: person.home.clone().unwrap_or_else(|| self.rules.people.home_of(&person.name)),
            shell: person.shell.clone().unwrap_or_else(|| self.rules.people.shell.clone()),
        };
        let fixed = self.idmap.fixed(IdKind::User, name, person.uid)?;
        let (own_group, gid) = self.primary_gid(person, &local).await?;
        draft(fixed.map_or(u32::MAX - 1, |f| f.id), gid.unwrap_or(u32::MAX - 1)).vet(&local).map_err(|r| {
            let shown = |id: Option<DirectoryId>| id.map_or("none".to_owned(), |id| id.to_string());
            refused(r.reason(), format!("uid {}, gid {}: {r}", shown(person.uid), shown(person.gid)))
        })?;
        let exists = |kind, id| {
            if self.rules.mapped.has(kind, id) {
                return Ok(());
            }
            Err(refused("unmapped-id", format!("{} id {id} does not exist in this user namespace", kind.as_str())))
        };
        fixed.map_or(Ok(()), |f| exists(IdKind::User, f.id))?;
        gid.map_or(Ok(()), |gid| exists(IdKind::Group, gid))?;
        let key = is_new.then_some(&person.key);
        let given = self.idmap.user(name, fixed, own_group, key, &avoid).await.inspect_err(|d| {
            if d.reason == Reason::NoId {
                self.collision(&person.provider, name, d.detail.clone());
            }
        })?;
        if given.collided {
            self.collision(&person.provider, name, Some(format!("uid {} is not the first candidate", given.id)));
        }
        let passwd = draft(given.id, gid.unwrap_or(given.id));
        passwd.vet(&local).map_err(|r| refused(r.reason(), format!("uid {}: {r}", given.id)))?;
        exists(IdKind::User, given.id)?;
        let mut groups: Vec<Group> = Vec::new();
        for claim in &person.groups {
            if let Some(gid) = self.group_id(&person.provider, claim, &local).await? {
                groups.push(Group { name: claim.name.as_str().into(), gid, members: vec![name.to_owned()] });
            }
        }
        // Hers has her number alone if her name is not one that a group of ours can have.
        if given.names_group && entry::vet_group(name.as_bytes(), given.id, &local).is_ok() {
            groups.push(Group { name: name.to_owned(), gid: given.id, members: Vec::new() });
        }
        let known = KnownPerson {
            provider: person.provider.clone(),
            key: person.key.clone(),
            passwd: passwd.clone(),
            fetched_at: unix_now(),
            gone: false,
        };
        if self.store.is_known_so(&known, &groups).map_err(internal)? {
            self.saw(name);
            return Ok((passwd, false));
        }
        let changed = self.store.put_person(&known, &groups).map_err(internal)?;
        Ok((passwd, changed))
    }

    /// The gid that is not her own group's number: the directory's, or that of the common primary
    /// group. Whether she gets a group of her own.
    async fn primary_gid(&self, person: &Person, local: &LocalAccounts) -> Result<(bool, Option<u32>), Denied> {
        if let Some(said) = person.gid {
            let said = self.idmap.by_directory(said)?.id;
            // A retired number stands for the one that its name has now.
            let gid = self.idmap.now(IdKind::Group, said)?;
            let owner = match gid {
                Some(gid) => self.foreign_owner(gid, &person.provider)?,
                None => Some("that is no more".into()),
            };
            if let Some(owner) = owner {
                let detail = format!("gid {said} is that of the group {owner}");
                self.audit_refused(&person.provider, person.name.as_str(), "foreign-gid", Some(detail.clone()));
                return Err(Denied::because(Reason::EntryRefused, detail));
            }
            return Ok((false, gid));
        }
        Ok((self.rules.primary_group.is_none(), self.common_gid(local).await?))
    }

    /// The gid of the common primary group; `None` if everybody has one of her own.
    pub(super) async fn common_gid(&self, local: &LocalAccounts) -> Result<Option<u32>, Denied> {
        let Some(common) = &self.rules.primary_group else { return Ok(None) };
        match self.group_id(builtin::NAME, common, local).await? {
            Some(gid) => Ok(Some(gid)),
            None => Err(Denied::because(Reason::NoId, format!("the primary group {} is refused", common.name))),
        }
    }

    /// The first login binds a name to a key; another key with that name is refused: a recycled
    /// name or e-mail address must not inherit a home. Another name with that key is a rename,
    /// which is believed of a directory, whose administrator decides on names, and not of an
    /// identity provider, where many can change their own; and of a directory only if it does not know
    /// her by the old one any more. Whether she is seen for the first time.
    async fn check_binding(&self, person: &Person, local: &LocalAccounts) -> Result<bool, Denied> {
        if person.key.subject.is_empty() || person.key.issuer.is_empty() {
            return Err(Denied::because(Reason::EntryRefused, "the provider gives no key for her"));
        }
        let name = person.name.as_str();
        let taken = |detail: String| {
            self.audit_refused(&person.provider, name, "name-taken", Some(detail.clone()));
            Err(Denied::because(Reason::NameTaken, detail))
        };
        let bound = self.store.key_of(name).map_err(internal)?;
        if bound.is_some_and(|key| key != person.key) {
            return taken("the name is bound to another key".into());
        }
        let Some(old) = self.store.name_of_key(&person.key).map_err(internal)?.filter(|old| old != name) else {
            return Ok(self.store.person(name).map_err(internal)?.is_none());
        };
        let directory = self.provider(&person.provider).filter(|p| p.decides_on_names());
        let Some(directory) = directory.filter(|_| !local.has_user(name.as_bytes())) else {
            return taken(format!("her key is bound to the name {old}"));
        };
        if let Ok(old) = UserName::new(&old) {
            let there = directory.find(Who::Name(&old)).await?;
            if there.is_some_and(|p| p.key == person.key) {
                return taken(format!("her name is {old}, and this one an alias"));
            }
        }
        self.rename(&person.provider, &old, name).await?;
        Ok(false)
    }

    /// Gives ids, binding and memberships of `old` to `new`.
    pub(super) async fn rename(&self, provider: &str, old: &str, new: &str) -> Result<(), Denied> {
        if !self.idmap.rename_user(old, new).await? {
            return Err(Denied::because(Reason::NameTaken, format!("{old} cannot become {new}, which is taken")));
        }
        self.audit.log(Event {
            event: "renamed",
            result: Outcome::Ok,
            backend: Some(provider.into()),
            user: Some(new.into()),
            reason: "ok",
            detail: Some(format!("was {old}; ids and binding stay, the home does not move by itself")),
            ..Event::default()
        });
        // What is put next is no change to the store any more.
        self.publishing.publish().await;
        Ok(())
    }

    /// A group's gid, or `None` if the group is refused. An error if that cannot be known now.
    async fn group_id(&self, provider: &str, claim: &GroupClaim, local: &LocalAccounts) -> Result<Option<u32>, Denied> {
        let name = claim.name.as_str();
        let vet = |gid| {
            entry::vet_group(name.as_bytes(), gid, local)
                .inspect_err(|r| self.audit_refused(provider, name, r.reason(), Some(format!("group, gid {gid}"))))
                .is_ok()
        };
        // A process that is given one that does not exist here does not start at all (setgroups(2)).
        let exists = |gid| {
            let exists = self.rules.mapped.has(IdKind::Group, gid);
            if !exists {
                let detail = format!("group id {gid} does not exist in this user namespace");
                self.audit_refused(provider, name, "unmapped-id", Some(detail));
            }
            exists
        };
        let fixed = self.idmap.fixed(IdKind::Group, name, claim.gid)?;
        if fixed.is_some_and(|f| !exists(f.id)) || !vet(fixed.map_or(u32::MAX - 1, |f| f.id)) {
            return Ok(None);
        }
        if let Some(owner) = self.group_owner(provider, claim) {
            self.audit_refused(provider, name, "name-taken", Some(format!("group, belongs to {owner}")));
            return Ok(None);
        }
        let reserved = self.provisional.reserved("");
        let avoid = |id| reserved.contains(&id) || local.has_uid(id) || local.has_gid(id);
        match self.idmap.group(name, fixed, &avoid).await {
            Ok(given) => {
                if given.collided {
                    self.collision(provider, name, Some(format!("gid {} is not the first candidate", given.id)));
                }
                Ok((vet(given.id) && exists(given.id)).then_some(given.id))
            }
            Err(d) if d.reason == Reason::NoId => {
                self.collision(provider, name, d.detail);
                Ok(None)
            }
            Err(d) => Err(d),
        }
    }

    /// Whose a group's name is, if not `provider`'s: the provider that had it first, or the person
    /// whose own group it is. No directory joins its people to another's groups by a name.
    fn group_owner(&self, provider: &str, claim: &GroupClaim) -> Option<String> {
        let name = claim.name.as_str();
        let known = self.store.provider_of_group(name).ok().flatten();
        if let Some(other) = known.filter(|known| known != provider && self.provider(known).is_some()) {
            return Some(other);
        }
        let private = claim.gid.is_none() && self.store.id_of(IdKind::User, name).is_ok_and(|id| id.is_some());
        private.then(|| format!("the person {name}"))
    }

    /// Whose a primary gid is, if it is not `provider`'s to give.
    fn foreign_owner(&self, gid: u32, provider: &str) -> Result<Option<String>, Denied> {
        if let Some((owner, name)) = self.store.provider_of_gid(gid).map_err(internal)? {
            let foreign = owner != provider && self.provider(&owner).is_some();
            return Ok(foreign.then_some(name));
        }
        // A group that is not there any more, and perhaps was another provider's; or the own group of
        // somebody that has no name, since another group has hers. Its files are not everybody's. Only what
        // a directory fixed may come from a directory again.
        let given = self.store.given_id(IdKind::Group, gid).map_err(internal)?;
        let foreign = |g: &GivenId| g.name.starts_with('~') || !matches!(g.source, Source::Directory | Source::Sid);
        Ok(given.filter(foreign).map(|g| g.name))
    }

    /// Logs a collision, once for each name.
    pub(super) fn collision(&self, provider: &str, name: &str, detail: Option<String>) {
        if !self.is_news(name, "id-collision") {
            return;
        }
        self.audit.log(Event {
            event: "id-collision",
            result: Outcome::Error,
            backend: Some(provider.into()),
            user: Some(name.into()),
            reason: "id-collision",
            detail,
            ..Event::default()
        });
    }

    pub(super) async fn take_in(&self, person: &Person) -> Result<Passwd, LookupError> {
        match self.absorb(person).await {
            Ok((passwd, changed)) => {
                if changed {
                    self.publishing.publish().await;
                }
                Ok(passwd)
            }
            Err(d) if is_undecided(&d) => Err(LookupError::Unavailable),
            Err(_) => {
                self.absent.remember(person.name.as_str().to_owned(), Instant::now());
                Err(LookupError::NoSuchEntry)
            }
        }
    }

    pub(super) async fn take_in_group(
        &self,
        provider: &str,
        claim: &GroupClaim,
        members: Vec<String>,
    ) -> Result<Group, LookupError> {
        if self.absorb_group(provider, claim, members).await? {
            self.publishing.publish().await;
        }
        let stored = self.store.group(claim.name.as_str()).map_err(unavailable)?;
        stored.map(|k| k.group).ok_or(LookupError::NoSuchEntry)
    }

    /// What [`Engine::absorb`] is to a person. Whether a reader could see a difference.
    pub(super) async fn absorb_group(
        &self,
        provider: &str,
        claim: &GroupClaim,
        members: Vec<String>,
    ) -> Result<bool, LookupError> {
        let local = local::read().map_err(|_| LookupError::Unavailable)?;
        let gid = self.group_id(provider, claim, &local).await.map_err(|_| LookupError::Unavailable)?;
        let gid = gid.ok_or(LookupError::NoSuchEntry)?;
        let group = Group { name: claim.name.as_str().into(), gid, members };
        let known = KnownGroup { provider: provider.into(), group, fetched_at: unix_now() };
        self.store.put_group(&known).map_err(unavailable)
    }

    /// Her directory no longer has her.
    pub(super) async fn forget(&self, name: &str) {
        if self.store.mark_gone(name).unwrap_or(false) {
            self.publishing.publish().await;
        }
    }
}

/// Whether it may be otherwise next time: an entry that is refused is nobody's, for good; a fault of ours is not.
pub(super) fn is_undecided(denied: &Denied) -> bool {
    matches!(denied.reason, Reason::Internal | Reason::RegistryUnavailable | Reason::BackendUnavailable)
}
