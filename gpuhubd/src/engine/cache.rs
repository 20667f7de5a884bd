//! What is known, and from when (`gpuhub cache`).

use super::{Caller, Engine, LookupError};
use crate::audit::{Event, Outcome};
use crate::provider::{Provider, builtin};
use crate::store::{Cached, EXPIRED, IdKind, StoreError, unix_now};
use gpuhub_common::wire::{
    CACHED_A_REPLY, CacheCall, CacheDone, CacheProvider, CacheQuery, CacheReply, CacheRow, CacheShown, CacheState,
    IdSpace,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A replica that has not told all again after so long has not.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

type Answer = Result<CacheReply, String>;

impl Engine {
    /// One call; who may make it is the server's to decide.
    pub async fn cache(&self, caller: &Caller, call: CacheCall) -> CacheReply {
        let of = |query: &CacheQuery| query.name.clone().unwrap_or_else(|| "all".into());
        let what = match &call {
            CacheCall::Show(_) => None,
            CacheCall::Expire(query) => Some(format!("cache expire {}", of(query))),
            CacheCall::Refresh(query) => Some(format!("cache refresh {}", of(query))),
        };
        // What is shown is of the store.
        let answer = match (self.write_seen().await, call) {
            (Err(e), _) => Err(text(e)),
            (Ok(()), CacheCall::Show(query)) => self.show(&query),
            (Ok(()), CacheCall::Expire(query)) => self.expire(&query),
            (Ok(()), CacheCall::Refresh(query)) => self.ask_again(&query).await,
        };
        if let Some(what) = what {
            let (result, reason) = if answer.is_ok() { (Outcome::Ok, "ok") } else { (Outcome::Denied, "refused") };
            let by = format!("{what} by uid {} on {}", caller.uid, caller.listener);
            self.audit.log(Event { result, reason, detail: Some(by), ..Event::ok("admin") });
        }
        answer.unwrap_or_else(CacheReply::Refused)
    }

    fn show(&self, query: &CacheQuery) -> Answer {
        let after = query.after.as_ref().map(|at| (kind_of(at.kind), at.name.as_str()));
        let cached = self.store.cached(query.name.as_deref(), after, CACHED_A_REPLY).map_err(text)?;
        Ok(CacheReply::Shown(CacheShown {
            providers: self.providers.iter().map(|p| self.how_followed(p.as_ref())).collect(),
            rows: cached.into_iter().map(|c| self.cache_row(c)).collect(),
        }))
    }

    fn cache_row(&self, c: Cached) -> CacheRow {
        let state = match c {
            Cached { gone: true, .. } => CacheState::Gone,
            _ if self.is_fresh(&c.provider, c.fetched_at) => CacheState::Fresh,
            _ => CacheState::Stale,
        };
        let provider = self.provider(&c.provider).filter(|p| self.is_current(p.as_ref(), c.fetched_at));
        let contact = provider.and_then(|p| self.replicas.standing(p.as_ref()).contact).map(|(_, at, _)| at);
        // One whom a replica vouches for is as old as the last word of its directory.
        let at = contact.unwrap_or(c.fetched_at);
        CacheRow {
            kind: match c.kind {
                IdKind::User => IdSpace::User,
                IdKind::Group => IdSpace::Group,
            },
            name: c.name,
            id: c.id,
            provider: c.provider,
            subject: c.subject,
            age_s: (at > EXPIRED).then(|| (unix_now() - at).max(0).unsigned_abs()),
            state,
        }
    }

    /// How a provider is followed.
    fn how_followed(&self, provider: &dyn Provider) -> CacheProvider {
        let standing = self.replicas.standing(provider);
        let contact = standing.contact.as_ref().map(|(.., contact)| contact);
        let mode = match (provider.replica(), contact) {
            (Some(_), Some(contact)) => contact.mode,
            (Some(_), None) => "replica",
            (None, _) if provider.name() == builtin::NAME => "own",
            (None, _) if !provider.knows_people() => "login",
            (None, _) => "on-demand",
        };
        let undecided =
            || (standing.undecided > 0).then(|| format!("{} entries cannot be taken in now", standing.undecided));
        let problem = standing.trouble.clone().or_else(|| contact?.unclear.clone()).or_else(undecided);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        CacheProvider {
            name: provider.name().to_owned(),
            mode: mode.to_owned(),
            complete: self.replicas.is_complete(provider),
            people: contact.map(|c| count(c.people)),
            groups: contact.map(|c| count(c.groups)),
            contact_s: standing.contact.as_ref().map(|(at, ..)| at.elapsed().as_secs()),
            cookie: contact.is_some_and(|c| c.cookie),
            server: contact.map(|c| c.server.clone()),
            problem,
        }
    }

    /// What was said counts as old, and is asked for again, by and by.
    fn expire(&self, query: &CacheQuery) -> Answer {
        let entries = self.expire_in_store(query.name.as_deref())?;
        for provider in self.providers.iter().filter(|p| p.replica().is_some()) {
            provider.tell_again();
        }
        self.ask_soon.notify_one();
        Ok(CacheReply::Done(CacheDone { entries, ..CacheDone::default() }))
    }

    fn expire_in_store(&self, name: Option<&str>) -> Result<u64, String> {
        let mut entries = 0;
        for provider in self.providers.iter().filter(|p| p.cache_ttl().is_some()) {
            entries += self.store.expire(provider.name(), name).map_err(text)?;
        }
        match name {
            Some(name) if entries == 0 => Err(format!("Nothing is known of {name} that a directory said.")),
            _ => Ok(entries),
        }
    }

    /// Asks now.
    async fn ask_again(&self, query: &CacheQuery) -> Answer {
        let mut done = CacheDone::default();
        if let Some(name) = &query.name {
            let group = self.store.group(name).map_err(text)?.is_some();
            let user = self.store.person(name).map_err(text)?.is_some();
            if group {
                count(&mut done, self.ask_for_group(name).await.map(|_| ()));
            }
            if user {
                count(&mut done, self.ask_for_user(name).await.map(|_| ()));
            }
            // Whoever is not known yet is asked for, too.
            if !group && !user {
                let found = match self.ask_for_user(name).await {
                    Err(LookupError::NoSuchEntry) => self.ask_for_group(name).await.map(|_| ()),
                    found => found.map(|_| ()),
                };
                count(&mut done, found);
            }
            return Ok(CacheReply::Done(done));
        }
        let replicas: Vec<_> = self.providers.iter().filter(|p| p.replica().is_some()).collect();
        for provider in self.providers.iter().filter(|p| p.replica().is_none() && p.cache_ttl().is_some()) {
            self.store.expire(provider.name(), None).map_err(text)?;
            for name in self.store.stale_people(provider.name(), EXPIRED + 1, u32::MAX).map_err(text)? {
                count(&mut done, self.ask_for_user(&name).await.map(|_| ()));
            }
            for name in self.store.stale_groups(provider.name(), EXPIRED + 1, u32::MAX).map_err(text)? {
                count(&mut done, self.ask_for_group(&name).await.map(|_| ()));
            }
        }
        for provider in replicas {
            self.tell_all_again(provider, &mut done).await?;
        }
        Ok(CacheReply::Done(done))
    }

    /// Waits until a replica has told all of it again.
    async fn tell_all_again(&self, provider: &Arc<dyn Provider>, done: &mut CacheDone) -> Result<(), String> {
        let known = || Ok::<_, String>(self.store.known_of(provider.name()).map_err(text)?.unsigned_abs());
        let (before, known_before) = (self.replicas.standing(provider.as_ref()), known()?);
        provider.tell_again();
        let end = Instant::now() + PATIENCE;
        loop {
            sleep(LOOK).await;
            let now = self.replicas.standing(provider.as_ref());
            if now.rounds > before.rounds {
                let known = known()?;
                done.entries += known;
                done.gone += known_before.saturating_sub(known);
                return Ok(());
            }
            if now.troubles > before.troubles || Instant::now() > end {
                done.unavailable += known_before;
                done.problem = now.trouble.or_else(|| Some("it takes too long".into()));
                return Ok(());
            }
        }
    }
}

fn count(done: &mut CacheDone, found: Result<(), LookupError>) {
    match found {
        Ok(()) => done.entries += 1,
        Err(LookupError::NoSuchEntry) => done.gone += 1,
        Err(LookupError::Unavailable) => done.unavailable += 1,
    }
}

fn kind_of(space: IdSpace) -> IdKind {
    match space {
        IdSpace::User => IdKind::User,
        IdSpace::Group => IdKind::Group,
    }
}

fn text(e: StoreError) -> String {
    format!("The store failed: {e}")
}
