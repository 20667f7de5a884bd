//! Who is alice, who is 20001: lookups, and [`Engine::absorb`], the one way an entry comes in.

use super::Engine;
use super::turns::{Asker, Turn};
use crate::audit::{Event, Outcome};
use crate::idmap::Fixed;
use crate::model::{Denied, GroupClaim, Method, Person, Reason};
use crate::provider::{Provider, Which, Who};
use crate::store::{IdKind, KnownGroup, KnownPerson, StoreError, unix_now};
use gpuhub_common::entry::{self, Group, Passwd};
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::name::{GroupName, UserName};
use std::sync::Arc;
use std::time::Instant;

/// Why a lookup has no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupError {
    /// Certainly nobody.
    NoSuchEntry,
    /// Cannot be known now.
    Unavailable,
}

/// How to look a user up.
#[derive(Debug, Clone, Copy)]
pub enum UserKey<'a> {
    /// Exactly this name.
    Name(&'a str),
    /// This uid.
    Uid(u32),
}

/// How to look a group up.
#[derive(Debug, Clone, Copy)]
pub enum GroupKey<'a> {
    /// Exactly this name.
    Name(&'a str),
    /// This gid.
    Gid(u32),
}

/// Whose name it is, for a login.
pub(super) enum Resolved {
    /// A directory knows her.
    Known(Arc<dyn Provider>, Box<Person>),
    /// She proves herself at the provider; whether she was here before.
    AtProvider(Arc<dyn Provider>, bool),
    /// Nobody's.
    Nobody,
}

impl Engine {
    /// getpwnam(3), getpwuid(3).
    pub async fn user(&self, key: UserKey<'_>, asker: Asker) -> Result<Passwd, LookupError> {
        let (known, _turn) = match self.look(asker, || self.user_here(key, asker)).await? {
            Look::Here(known) => return Ok(known.passwd),
            Look::Busy(known) => return known.map(|k| k.passwd).ok_or(LookupError::Unavailable),
            Look::Ask(known, turn) => (known, turn),
        };
        match key {
            UserKey::Uid(uid) => self.user_by_uid(uid, known).await,
            UserKey::Name(text) => {
                let Ok(name) = UserName::new(text) else { return Err(LookupError::NoSuchEntry) };
                self.user_by_name(&name, known, asker == Asker::Login).await
            }
        }
    }

    /// What can be said of a user without asking anybody.
    fn user_here(&self, key: UserKey<'_>, asker: Asker) -> Result<Here<KnownPerson>, LookupError> {
        let known = match key {
            UserKey::Name(name) => self.store.person(name),
            UserKey::Uid(uid) => self.store.person_by_uid(uid),
        }
        .map_err(unavailable)?
        .filter(|k| !k.gone);
        if let Some(k) = known.as_ref().filter(|k| self.is_fresh(&k.provider, k.fetched_at)) {
            return Ok(Here::Fresh(k.clone()));
        }
        let (absent, none_of_ours) = match key {
            UserKey::Uid(uid) => (
                self.absent.has(&absent_uid(uid), Instant::now()),
                !gpuhub_common::id::is_allowed(uid) || LocalAccounts::read().has_uid(uid),
            ),
            UserKey::Name(name) => (
                asker != Asker::Login && self.absent.has(name, Instant::now()),
                UserName::new(name).is_err() || LocalAccounts::read().has_user(name.as_bytes()),
            ),
        };
        if absent || none_of_ours { Err(LookupError::NoSuchEntry) } else { Ok(Here::Old(known)) }
    }

    async fn user_by_name(
        &self,
        name: &UserName,
        known: Option<KnownPerson>,
        login: bool,
    ) -> Result<Passwd, LookupError> {
        match self.resolve(name).await {
            Ok(Resolved::Known(_, person)) => self.take_in(&person).await,
            Ok(Resolved::AtProvider(_, true)) => known.map(|k| k.passwd).ok_or(LookupError::NoSuchEntry),
            Ok(Resolved::AtProvider(_, false)) if login => self.promise(name).await,
            Ok(_) => {
                self.absent.remember(name.as_str().to_owned(), Instant::now());
                Err(LookupError::NoSuchEntry)
            }
            // Known people keep resolving while their directory is away.
            Err(_) => known.map(|k| k.passwd).ok_or(LookupError::Unavailable),
        }
    }

    async fn user_by_uid(&self, uid: u32, known: Option<KnownPerson>) -> Result<Passwd, LookupError> {
        for provider in &self.providers {
            match provider.find(Who::Uid(uid)).await {
                Ok(Some(person)) => return self.take_in(&person).await.and_then(|p| same(p.uid == uid, p)),
                Ok(None) => {}
                Err(_) => return known.map(|k| k.passwd).ok_or(LookupError::Unavailable),
            }
        }
        // Whoever is known by a key alone (OIDC) is in no directory.
        match known {
            Some(k) if self.provider(&k.provider).is_some_and(|p| p.method() == Method::DeviceCode) => Ok(k.passwd),
            Some(k) => {
                self.forget(&k.passwd.name).await;
                Err(LookupError::NoSuchEntry)
            }
            None => {
                self.absent.remember(absent_uid(uid), Instant::now());
                Err(LookupError::NoSuchEntry)
            }
        }
    }

    /// getgrnam(3), getgrgid(3).
    pub async fn group(&self, key: GroupKey<'_>, asker: Asker) -> Result<Group, LookupError> {
        let (known, _turn) = match self.look(asker, || self.group_here(key)).await? {
            Look::Here(known) => return Ok(known.group),
            Look::Busy(known) => return known.map(|k| k.group).ok_or(LookupError::Unavailable),
            Look::Ask(known, turn) => (known, turn),
        };
        let name;
        let which = match key {
            GroupKey::Gid(gid) => Which::Gid(gid),
            GroupKey::Name(text) => {
                let Ok(legal) = GroupName::new(text) else { return Err(LookupError::NoSuchEntry) };
                name = legal;
                Which::Name(&name)
            }
        };
        for provider in &self.providers {
            match provider.find_group(which).await {
                Ok(Some(found)) => {
                    let members = found.members.iter().map(|m| m.as_str().to_owned()).collect();
                    let taken = self.take_in_group(provider.name(), &found.claim, members).await?;
                    return same(
                        match which {
                            Which::Name(n) => taken.name == n.as_str(),
                            Which::Gid(gid) => taken.gid == gid,
                        },
                        taken,
                    );
                }
                Ok(None) => {}
                Err(_) => return known.map(|k| k.group).ok_or(LookupError::Unavailable),
            }
        }
        match known {
            // Its directory no longer has it.
            Some(k) if self.provider(&k.provider).is_none_or(|p| p.cache_ttl().is_some()) => {
                if self.store.drop_group(&k.group.name).map_err(unavailable)? {
                    self.publishing.publish().await;
                }
                Err(LookupError::NoSuchEntry)
            }
            // Groups that only claims and own groups made are in no directory.
            Some(k) => Ok(k.group),
            None => {
                self.absent.remember(absent_group(key), Instant::now());
                Err(LookupError::NoSuchEntry)
            }
        }
    }

    /// What can be said of a group without asking anybody.
    fn group_here(&self, key: GroupKey<'_>) -> Result<Here<KnownGroup>, LookupError> {
        let known = match key {
            GroupKey::Name(name) => self.store.group(name),
            GroupKey::Gid(gid) => self.store.group_by_gid(gid),
        }
        .map_err(unavailable)?;
        if let Some(k) = known.as_ref().filter(|k| self.is_fresh(&k.provider, k.fetched_at)) {
            return Ok(Here::Fresh(k.clone()));
        }
        let illegal = matches!(key, GroupKey::Name(name) if GroupName::new(name).is_err());
        if illegal || (known.is_none() && self.absent.has(&absent_group(key), Instant::now())) {
            return Err(LookupError::NoSuchEntry);
        }
        Ok(Here::Old(known))
    }

    /// The supplementary groups of getgrouplist(3), sorted.
    pub async fn group_ids(&self, name: &str, asker: Asker) -> Result<Vec<u32>, LookupError> {
        self.user(UserKey::Name(name), asker).await?;
        self.store.gids_of(name).map_err(unavailable)
    }

    /// What `here` has, or else a turn to ask a directory. Who had to wait for it looks here once
    /// more: another may have asked the same.
    async fn look<K>(
        &self,
        asker: Asker,
        here: impl Fn() -> Result<Here<K>, LookupError>,
    ) -> Result<Look<K>, LookupError> {
        let known = match here()? {
            Here::Fresh(known) => return Ok(Look::Here(known)),
            Here::Old(known) => known,
        };
        let Some(turn) = self.turns.take(asker).await else { return Ok(Look::Busy(known)) };
        if !turn.waited() {
            return Ok(Look::Ask(known, turn));
        }
        Ok(match here()? {
            Here::Fresh(known) => Look::Here(known),
            Here::Old(known) => Look::Ask(known, turn),
        })
    }

    /// Whose login it is. Asks the directories now, whatever is cached. One that is bound to a
    /// provider is that provider's alone: a directory that is away must not let another speak for
    /// its people.
    pub(super) async fn resolve(&self, name: &UserName) -> Result<Resolved, Denied> {
        let known = self.store.person(name.as_str()).map_err(internal)?;
        let bound =
            known.as_ref().and_then(|k| self.provider(&k.provider).filter(|p| p.issuer() == k.key.issuer)).cloned();
        if let Some(provider) = &bound {
            if provider.method() == Method::DeviceCode {
                return Ok(Resolved::AtProvider(Arc::clone(provider), known.is_some_and(|k| !k.gone)));
            }
            if let Some(person) = provider.find(Who::Name(name)).await? {
                return Ok(Resolved::Known(Arc::clone(provider), Box::new(person)));
            }
            self.forget(name.as_str()).await;
        }
        for provider in self.providers.iter().filter(|p| bound.as_ref().is_none_or(|b| b.name() != p.name())) {
            if provider.method() == Method::DeviceCode {
                if provider.may_become(name) {
                    return Ok(Resolved::AtProvider(Arc::clone(provider), false));
                }
            } else if let Some(person) = provider.find(Who::Name(name)).await? {
                return Ok(Resolved::Known(Arc::clone(provider), Box::new(person)));
            }
        }
        Ok(Resolved::Nobody)
    }

    /// Makes what a provider says of somebody an entry: name bound to her key, ids given, all
    /// vetted, stored. What is refused is audited and never served.
    pub(super) async fn absorb(&self, person: &Person) -> Result<(Passwd, bool), Denied> {
        let name = person.name.as_str();
        let refused = |reason: &'static str, detail: String| {
            self.audit_refused(&person.provider, name, reason, Some(detail.clone()));
            Denied::because(Reason::EntryRefused, detail)
        };
        let local = LocalAccounts::read();
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
        let fixed = match self.idmap.overridden(IdKind::User, name)? {
            None => Fixed::by_directory(person.uid),
            set => set,
        };
        draft(fixed.map_or(u32::MAX - 1, |f| f.id), person.gid.unwrap_or(u32::MAX - 1))
            .vet(&local)
            .map_err(|r| refused(r.reason(), format!("uid {:?} gid {:?}: {r}", person.uid, person.gid)))?;
        if let Some(owner) = self.foreign_owner(person.gid, &person.provider)? {
            return Err(refused("foreign-gid", format!("gid {:?} is that of the group {owner}", person.gid)));
        }
        let key = is_new.then_some(&person.key);
        let given = self.idmap.user(name, fixed, person.gid.is_none(), key, &avoid).await.inspect_err(|d| {
            if d.reason == Reason::NoId {
                self.collision(&person.provider, name, d.detail.clone());
            }
        })?;
        if given.collided {
            self.collision(&person.provider, name, Some(format!("uid {} is not the first candidate", given.id)));
        }
        let passwd = draft(given.id, person.gid.unwrap_or(given.id));
        passwd.vet(&local).map_err(|r| refused(r.reason(), format!("uid {}: {r}", given.id)))?;
        let mut groups: Vec<Group> = Vec::new();
        for claim in &person.groups {
            if let Some(gid) = self.group_id(&person.provider, claim, &local).await? {
                groups.push(Group { name: claim.name.as_str().into(), gid, members: vec![name.to_owned()] });
            }
        }
        if given.names_group {
            groups.push(Group { name: name.to_owned(), gid: given.id, members: Vec::new() });
        }
        let known = KnownPerson {
            provider: person.provider.clone(),
            key: person.key.clone(),
            passwd: passwd.clone(),
            fetched_at: unix_now(),
            gone: false,
        };
        let changed = self.store.put_person(&known, &groups).map_err(internal)?;
        Ok((passwd, changed))
    }

    /// The first login binds a name to a key; another key with that name is refused: a recycled
    /// name or e-mail address must not inherit a home. Another name with that key is a rename,
    /// which is believed of a directory, whose administrator decides on names, and not of an
    /// identity provider, where many can change their own. Whether she is seen for the first time.
    async fn check_binding(&self, person: &Person, local: &LocalAccounts) -> Result<bool, Denied> {
        if person.key.subject.is_empty() || person.key.issuer.is_empty() {
            return Err(Denied::because(Reason::EntryRefused, "the provider gives no key for her"));
        }
        let name = person.name.as_str();
        let bound = self.store.key_of(name).map_err(internal)?;
        if bound.is_some_and(|key| key != person.key) {
            return Err(Denied::because(Reason::NameTaken, "the name is bound to another key"));
        }
        let Some(old) = self.store.name_of_key(&person.key).map_err(internal)?.filter(|old| old != name) else {
            return Ok(self.store.person(name).map_err(internal)?.is_none());
        };
        let by_directory = self.provider(&person.provider).is_some_and(|p| p.method() == Method::Password);
        if !by_directory || local.has_user(name.as_bytes()) {
            return Err(Denied::because(Reason::NameTaken, format!("her key is bound to the name {old}")));
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
        let fixed = match self.idmap.overridden(IdKind::Group, name)? {
            None => Fixed::by_directory(claim.gid),
            set => set,
        };
        if !vet(fixed.map_or(u32::MAX - 1, |f| f.id)) {
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
                Ok(vet(given.id).then_some(given.id))
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
        let known = self.store.group(name).ok().flatten();
        if let Some(k) = known.filter(|k| k.provider != provider && self.provider(&k.provider).is_some()) {
            return Some(k.provider);
        }
        let private = claim.gid.is_none() && self.store.id_of(IdKind::User, name).is_ok_and(|id| id.is_some());
        private.then(|| format!("the person {name}"))
    }

    /// The group that has a primary gid already, if it is another provider's.
    fn foreign_owner(&self, gid: Option<u32>, provider: &str) -> Result<Option<String>, Denied> {
        let Some(gid) = gid else { return Ok(None) };
        let group = self.store.group_by_gid(gid).map_err(internal)?;
        let named = group.filter(|g| g.provider != provider && self.provider(&g.provider).is_some());
        if let Some(g) = named {
            return Ok(Some(g.group.name));
        }
        // The own group of somebody that has no name, since another group has hers.
        Ok(self.store.name_of_id(IdKind::Group, gid).map_err(internal)?.filter(|n| n.starts_with('~')))
    }

    pub(super) fn collision(&self, provider: &str, name: &str, detail: Option<String>) {
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

    async fn take_in(&self, person: &Person) -> Result<Passwd, LookupError> {
        match self.absorb(person).await {
            Ok((passwd, changed)) => {
                if changed {
                    self.publishing.publish().await;
                }
                Ok(passwd)
            }
            // An entry that is refused is nobody's, for good; a fault of ours is not.
            Err(d) if matches!(d.reason, Reason::Internal | Reason::RegistryUnavailable) => {
                Err(LookupError::Unavailable)
            }
            Err(_) => Err(LookupError::NoSuchEntry),
        }
    }

    pub(super) async fn take_in_group(
        &self,
        provider: &str,
        claim: &GroupClaim,
        members: Vec<String>,
    ) -> Result<Group, LookupError> {
        let local = LocalAccounts::read();
        let gid = self.group_id(provider, claim, &local).await.map_err(|_| LookupError::Unavailable)?;
        let gid = gid.ok_or(LookupError::NoSuchEntry)?;
        let group = Group { name: claim.name.as_str().into(), gid, members };
        let known = KnownGroup { provider: provider.into(), group, fetched_at: unix_now() };
        if self.store.put_group(&known).map_err(unavailable)? {
            self.publishing.publish().await;
        }
        let stored = self.store.group(claim.name.as_str()).map_err(unavailable)?;
        stored.map(|k| k.group).ok_or(LookupError::NoSuchEntry)
    }

    /// Her directory no longer has her.
    pub(super) async fn forget(&self, name: &str) {
        if self.store.mark_gone(name).unwrap_or(false) {
            self.publishing.publish().await;
        }
    }

    /// A provisional entry: exactly what she will get if she turns out to be who she says.
    async fn promise(&self, name: &UserName) -> Result<Passwd, LookupError> {
        let now = Instant::now();
        if let Some(entry) = self.provisional.get(name.as_str(), now) {
            return Ok(entry);
        }
        let reserved = self.provisional.reserved(name.as_str());
        let local = LocalAccounts::read();
        let avoid = |id| reserved.contains(&id) || local.has_uid(id) || local.has_gid(id);
        let uid = self.idmap.preview(name.as_str(), &avoid).await.map_err(|_| LookupError::Unavailable)?;
        let people = &self.rules.people;
        let entry = Passwd {
            name: name.as_str().into(),
            uid,
            gid: uid,
            gecos: String::new(),
            home: people.home_of(name),
            shell: people.shell.clone(),
        };
        entry.vet(&local).map_err(|_| LookupError::NoSuchEntry)?;
        self.provisional.promise(entry, now).ok_or(LookupError::Unavailable)
    }

    pub(super) fn is_fresh(&self, provider: &str, fetched_at: i64) -> bool {
        match self.provider(provider).map(|p| p.cache_ttl()) {
            Some(Some(ttl)) => unix_now() - fetched_at < i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            Some(None) => true,
            // A provider that was taken out of the configuration vouches for nobody.
            None => false,
        }
    }
}

/// What is here of an entry.
enum Here<K> {
    /// The answer.
    Fresh(K),
    /// What was so some time ago, or nothing.
    Old(Option<K>),
}

/// How a lookup goes on.
enum Look<K> {
    /// With the answer.
    Here(K),
    /// A directory is to be asked, by whoever has the turn.
    Ask(Option<K>, Turn),
    /// None can be asked in time.
    Busy(Option<K>),
}

/// How absences are remembered; a name is itself, and no name has a blank in it.
fn absent_uid(uid: u32) -> String {
    format!("uid {uid}")
}

fn absent_group(key: GroupKey<'_>) -> String {
    match key {
        GroupKey::Name(name) => format!("group {name}"),
        GroupKey::Gid(gid) => format!("gid {gid}"),
    }
}

fn same<T>(it_is: bool, entry: T) -> Result<T, LookupError> {
    if it_is { Ok(entry) } else { Err(LookupError::NoSuchEntry) }
}

fn unavailable(_: StoreError) -> LookupError {
    LookupError::Unavailable
}

pub(super) fn internal(e: StoreError) -> Denied {
    Denied::because(Reason::Internal, format!("store: {e}"))
}
