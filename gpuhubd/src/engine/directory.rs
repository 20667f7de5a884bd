//! Who is alice, who is 20001: lookups.

use super::Engine;
use super::turns::{Asker, Turn};
use crate::model::{Denied, Person, Reason};
use crate::provider::{Provider, Which, Who};
use crate::store::{KnownGroup, KnownPerson, StoreError, unix_now};
use gpuhub_common::entry::{Group, Passwd};
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
            Look::Busy(known) => return still(known).map(|k| k.passwd).ok_or(LookupError::Unavailable),
            Look::Ask(known, turn) => (known, turn),
        };
        match key {
            UserKey::Uid(uid) => {
                // Who is known is asked for by name: her directory may have another number for her.
                let known = still(known);
                let Some(name) = known.as_ref().and_then(|k| UserName::new(&k.passwd.name).ok()) else {
                    return self.user_by_uid(uid).await;
                };
                self.user_by_name(&name, known, asker).await.and_then(|p| same(p.uid == uid, p))
            }
            UserKey::Name(text) => {
                let Ok(name) = UserName::new(text) else { return Err(LookupError::NoSuchEntry) };
                self.user_by_name(&name, known, asker).await
            }
        }
    }

    /// What can be said of a user without asking anybody.
    fn user_here(&self, key: UserKey<'_>, asker: Asker) -> Result<Here<KnownPerson>, LookupError> {
        let known = match key {
            UserKey::Name(name) => self.store.person(name),
            UserKey::Uid(uid) => self.store.person_by_uid(uid),
        }
        .map_err(unavailable)?;
        if let Some(k) = known.as_ref().filter(|k| !k.gone && self.is_fresh(&k.provider, self.seen_at(k))) {
            return Ok(Here::Fresh(k.clone()));
        }
        let local = self.local.accounts().map_err(|_| LookupError::Unavailable)?;
        let (absent, none_of_ours) = match key {
            UserKey::Uid(uid) => (
                self.absent.has(&absent_uid(uid), Instant::now()),
                !gpuhub_common::id::is_allowed(uid) || local.has_uid(uid),
            ),
            UserKey::Name(name) => (
                asker != Asker::Login && self.absent.has(name, Instant::now()),
                UserName::new(name).is_err() || local.has_user(name.as_bytes()),
            ),
        };
        if absent || none_of_ours { Err(LookupError::NoSuchEntry) } else { Ok(Here::Old(known)) }
    }

    async fn user_by_name(
        &self,
        name: &UserName,
        known: Option<KnownPerson>,
        asker: Asker,
    ) -> Result<Passwd, LookupError> {
        let resolved = self.resolve_known(name, known.as_ref(), asker).await;
        let known = still(known);
        match resolved {
            // Boxed, since most lookups of a flood do not come here, and each carries what its future may need.
            Ok(Resolved::Known(_, person)) => Box::pin(self.take_in(&person)).await,
            Ok(Resolved::AtProvider(_, true)) => known.map(|k| k.passwd).ok_or(LookupError::NoSuchEntry),
            Ok(Resolved::AtProvider(_, false)) if asker == Asker::Login => Box::pin(self.promise(name)).await,
            Ok(_) => {
                self.absent.remember(name.as_str().to_owned(), Instant::now());
                Err(LookupError::NoSuchEntry)
            }
            // Known people keep resolving while their directory is away.
            Err(_) => known.map(|k| k.passwd).ok_or(LookupError::Unavailable),
        }
    }

    /// Asks for somebody who is known, however fresh she is.
    pub(super) async fn ask_for_user(&self, name: &str) -> Result<Passwd, LookupError> {
        let Ok(legal) = UserName::new(name) else { return Err(LookupError::NoSuchEntry) };
        let known = self.store.person(name).map_err(unavailable)?;
        self.user_by_name(&legal, known, Asker::Broker).await
    }

    /// Somebody who is not known here.
    async fn user_by_uid(&self, uid: u32) -> Result<Passwd, LookupError> {
        let sid = self.idmap.sid_of(uid).map_err(|_| LookupError::Unavailable)?;
        for provider in self.providers.iter().filter(|p| !self.has_nobody_else(p)) {
            match provider.look_up(Who::Uid(uid, sid)).await {
                Ok(Some(person)) => return Box::pin(self.take_in(&person)).await.and_then(|p| same(p.uid == uid, p)),
                Ok(None) => {}
                Err(_) => return Err(LookupError::Unavailable),
            }
        }
        self.absent.remember(absent_uid(uid), Instant::now());
        Err(LookupError::NoSuchEntry)
    }

    /// getgrnam(3), getgrgid(3).
    pub async fn group(&self, key: GroupKey<'_>, asker: Asker) -> Result<Group, LookupError> {
        let (known, _turn) = match self.look(asker, || self.group_here(key)).await? {
            Look::Here(known) => return Ok(known.group),
            Look::Busy(known) => return known.map(|k| k.group).ok_or(LookupError::Unavailable),
            Look::Ask(known, turn) => (known, turn),
        };
        self.ask_for_known(key, known, asker).await
    }

    /// The same of a group.
    pub(super) async fn ask_for_group(&self, name: &str) -> Result<Group, LookupError> {
        let known = self.store.group(name).map_err(unavailable)?;
        self.ask_for_known(GroupKey::Name(name), known, Asker::Broker).await
    }

    async fn ask_for_known(
        &self,
        key: GroupKey<'_>,
        known: Option<KnownGroup>,
        asker: Asker,
    ) -> Result<Group, LookupError> {
        // By name, if it is known: its directory may have another number for it.
        let text = match key {
            GroupKey::Name(text) => Some(text),
            GroupKey::Gid(_) => known.as_ref().map(|k| k.group.name.as_str()),
        };
        let Ok(name) = text.map(GroupName::new).transpose() else { return Err(LookupError::NoSuchEntry) };
        let which = match (&name, key) {
            (None, GroupKey::Gid(gid)) => {
                Which::Gid(gid, self.idmap.sid_of(gid).map_err(|_| LookupError::Unavailable)?)
            }
            (Some(name), _) => Which::Name(name),
            (None, GroupKey::Name(_)) => return Err(LookupError::NoSuchEntry),
        };
        let of = known.as_ref().map(|k| k.provider.as_str());
        let ask = |p: &&Arc<dyn Provider>| of == Some(p.name()) || asker == Asker::Broker || !self.has_nobody_else(p);
        for provider in self.providers.iter().filter(ask) {
            match provider.find_group(which).await {
                Ok(Some(found)) => {
                    let members = found.members.iter().map(|m| m.as_str().to_owned()).collect();
                    let taken = Box::pin(self.take_in_group(provider.name(), &found.claim, members)).await?;
                    return same(
                        match key {
                            GroupKey::Name(n) => taken.name == n,
                            GroupKey::Gid(gid) => taken.gid == gid,
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
            Some(k) if self.provider(&k.provider).is_none_or(|p| p.refreshes_groups()) => {
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
        let as_its_people = |k: &KnownGroup| self.provider(&k.provider).is_some_and(|p| !p.refreshes_groups());
        if let Some(k) = known.as_ref().filter(|k| as_its_people(k) || self.is_fresh(&k.provider, k.fetched_at)) {
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
    pub(super) async fn resolve(&self, name: &UserName, asker: Asker) -> Result<Resolved, Denied> {
        let known = self.store.person(name.as_str()).map_err(internal)?;
        self.resolve_known(name, known.as_ref(), asker).await
    }

    /// The same of somebody of whom the store was asked already.
    async fn resolve_known(
        &self,
        name: &UserName,
        known: Option<&KnownPerson>,
        asker: Asker,
    ) -> Result<Resolved, Denied> {
        // Logins and the administrator want to know it from the directory itself.
        let is_anybody = matches!(asker, Asker::Anybody(_));
        let is_hers = |p: &&Arc<dyn Provider>| known.is_some_and(|k| k.key.issuer == p.issuer()) && p.has_people();
        let bound = known.and_then(|k| self.provider(&k.provider)).filter(is_hers).cloned();
        if let Some(provider) = &bound {
            if !provider.knows_people() {
                return Ok(Resolved::AtProvider(Arc::clone(provider), known.is_some_and(|k| !k.gone)));
            }
            let spared = is_anybody && known.is_some_and(|k| k.gone) && self.has_nobody_else(provider);
            if let Some(person) = if spared { None } else { find(provider, name, asker).await? } {
                return Ok(Resolved::Known(Arc::clone(provider), Box::new(person)));
            }
            self.forget(name.as_str()).await;
        }
        let others = self.providers.iter().filter(|p| bound.as_ref().is_none_or(|b| b.name() != p.name()));
        for provider in others.filter(|p| p.has_people()) {
            if !provider.knows_people() {
                if provider.may_become(name) {
                    return Ok(Resolved::AtProvider(Arc::clone(provider), false));
                }
            } else if is_anybody && self.has_nobody_else(provider) {
                // Nor does anybody find more by asking it.
            } else if let Some(person) = find(provider, name, asker).await? {
                return Ok(Resolved::Known(Arc::clone(provider), Box::new(person)));
            }
        }
        Ok(Resolved::Nobody)
    }

    /// Whether a provider has nobody whom the store has not.
    fn has_nobody_else(&self, provider: &Arc<dyn Provider>) -> bool {
        provider.replica().is_some() && self.replicas.is_complete(provider.as_ref())
    }

    /// A provisional entry: exactly what she will get if she turns out to be who she says.
    pub(super) async fn promise(&self, name: &UserName) -> Result<Passwd, LookupError> {
        let now = Instant::now();
        if let Some(entry) = self.provisional.get(name.as_str(), now) {
            return Ok(entry);
        }
        let reserved = self.provisional.reserved(name.as_str());
        let local = self.local.accounts().map_err(|_| LookupError::Unavailable)?;
        let avoid = |id| reserved.contains(&id) || local.has_uid(id) || local.has_gid(id);
        let uid = self.idmap.preview(name.as_str(), &avoid).await.map_err(|_| LookupError::Unavailable)?;
        let gid = self.common_gid(&local).await.map_err(|_| LookupError::Unavailable)?;
        let people = &self.rules.people;
        let entry = Passwd {
            name: name.as_str().into(),
            uid,
            gid: gid.unwrap_or(uid),
            gecos: String::new(),
            home: people.home_of(name),
            shell: people.shell.clone(),
        };
        entry.vet(&local).map_err(|_| LookupError::NoSuchEntry)?;
        self.provisional.promise(entry, now).ok_or(LookupError::Unavailable)
    }

    pub(super) fn is_fresh(&self, provider: &str, fetched_at: i64) -> bool {
        match self.provider(provider).map(|p| p.cache_ttl()) {
            Some(Some(_)) if self.provider(provider).is_some_and(|p| self.is_current(p.as_ref(), fetched_at)) => true,
            Some(Some(ttl)) => unix_now() - fetched_at < i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            Some(None) => true,
            // A provider that was taken out of the configuration vouches for nobody.
            None => false,
        }
    }
}

/// Who is not gone.
fn still(known: Option<KnownPerson>) -> Option<KnownPerson> {
    known.filter(|k| !k.gone)
}

/// Asks a directory; who logs in, not in the crowd's way.
async fn find(provider: &Arc<dyn Provider>, name: &UserName, asker: Asker) -> Result<Option<Person>, Denied> {
    let who = Who::Name(name);
    let found = if asker == Asker::Login { provider.find(who).await } else { provider.look_up(who).await };
    Ok(found?)
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

pub(super) fn unavailable(_: StoreError) -> LookupError {
    LookupError::Unavailable
}

pub(super) fn internal(e: StoreError) -> Denied {
    Denied::because(Reason::Internal, format!("store: {e}"))
}
