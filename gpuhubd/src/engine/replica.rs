//! Directories that are kept whole here: they tell what they have and what changes in it
//! ([`crate::provider::news`]), and it comes in as anything else does.
//!
//! While such a directory is heard of, nobody asks it: who is known is as it says, and who is not does not
//! exist. When it has not been heard of for too long, it is one that is asked on demand.

use super::Engine;
use super::absorb::is_undecided;
use super::directory::LookupError;
use crate::audit::{Event, Outcome};
use crate::model::{DirectoryGroup, Person};
use crate::provider::Provider;
use crate::provider::news::{Contact, News, Update, Whole};
use crate::store::{EXPIRED, in_bulk, unix_now};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often is looked whether a directory is still heard of.
const WATCH: Duration = Duration::from_secs(1);
/// How often those are tried again who could not be taken in for a reason that may pass.
const AGAIN: Duration = Duration::from_secs(5);
/// News that wait to be worked on.
const WAITING: usize = 4;

/// How they stand, by the provider's name.
#[derive(Debug, Default)]
pub(super) struct Replicas(Mutex<HashMap<String, Standing>>);

/// How one stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// When all that was told was so, and what it was.
    pub(super) contact: Option<(Instant, i64, Contact)>,
    /// All was told, and is in the store.
    pub(super) whole: bool,
    /// How often, and how often there was trouble.
    pub(super) rounds: u64,
    pub(super) troubles: u64,
    /// So many are not, for a reason that may pass.
    pub(super) undecided: usize,
    /// Why it cannot be asked.
    pub(super) trouble: Option<String>,
    /// The last word on whether it is relied on.
    was_current: bool,
}

impl Standing {
    /// Whether what is known of the directory is as it says.
    fn is_current(&self, bound: Duration) -> bool {
        self.whole && self.contact.as_ref().is_some_and(|(at, ..)| at.elapsed() < bound)
    }

    /// Whether moreover it is all of it.
    fn is_complete(&self, bound: Duration) -> bool {
        let clear = self.contact.as_ref().is_some_and(|(.., c)| c.unclear.is_none());
        self.is_current(bound) && clear && self.undecided == 0
    }
}

impl Replicas {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, provider: &dyn Provider, change: impl FnOnce(&mut Standing)) {
        change(self.lock().entry(provider.name().to_owned()).or_default());
    }

    /// How it stands.
    pub(super) fn standing(&self, provider: &dyn Provider) -> Standing {
        self.lock().get(provider.name()).cloned().unwrap_or_default()
    }

    /// Whether what is known of this provider's people needs no asking.
    pub(super) fn is_current(&self, provider: &dyn Provider) -> bool {
        let Some(bound) = provider.replica() else { return false };
        self.lock().get(provider.name()).is_some_and(|s| s.is_current(bound))
    }

    /// Whether who is not known of this provider does not exist.
    pub(super) fn is_complete(&self, provider: &dyn Provider) -> bool {
        let Some(bound) = provider.replica() else { return provider.is_complete() };
        self.lock().get(provider.name()).is_some_and(|s| s.is_complete(bound))
    }
}

/// Those who could not be taken in, by name.
#[derive(Default)]
struct Undecided {
    people: HashMap<String, Person>,
    groups: HashMap<String, DirectoryGroup>,
}

/// Follows all of them, for ever.
pub async fn run(engine: Arc<Engine>) {
    for provider in engine.providers.iter().filter(|p| p.replica().is_some()) {
        let (tell, told) = mpsc::channel(WAITING);
        let telling = Arc::clone(provider);
        tokio::spawn(async move { telling.follow(tell).await });
        tokio::spawn(listen(Arc::clone(&engine), Arc::clone(provider), told));
    }
    let mut tick = tokio::time::interval(WATCH);
    loop {
        tick.tick().await;
        engine.watch().await;
    }
}

async fn listen(engine: Arc<Engine>, provider: Arc<dyn Provider>, mut told: mpsc::Receiver<News>) {
    let mut undecided = Undecided::default();
    let mut again = tokio::time::interval(AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            news = told.recv() => match news {
                Some(news) => engine.hear(provider.as_ref(), news, &mut undecided).await,
                None => return,
            },
            _ = again.tick() => engine.try_again(provider.as_ref(), &mut undecided).await,
        }
    }
}

impl Engine {
    async fn hear(&self, provider: &dyn Provider, news: News, undecided: &mut Undecided) {
        match news {
            News::Update(update) => in_bulk(self.take_in_all(provider, update, undecided)).await,
            News::Whole(whole) => {
                in_bulk(self.reconcile(provider, &whole)).await;
                self.replicas.change(provider, |s| {
                    (s.whole, s.trouble) = (true, None);
                    s.rounds += 1;
                });
            }
            News::Contact(contact) => {
                self.replicas.change(provider, |s| {
                    (s.contact, s.trouble) = (Some((Instant::now(), unix_now(), contact)), None);
                });
                self.watch().await;
            }
            News::Trouble(why) => {
                let is_news = self.replicas.standing(provider).trouble.as_ref() != Some(&why);
                self.replicas.change(provider, |s| {
                    s.trouble = Some(why.clone());
                    s.troubles += 1;
                });
                if is_news {
                    self.say(provider, Outcome::Error, "backend-unavailable", why);
                }
            }
        }
    }

    async fn take_in_all(&self, provider: &dyn Provider, update: Update, undecided: &mut Undecided) {
        for person in update.people {
            undecided.people.remove(person.name.as_str());
            match self.absorb(&person).await {
                Err(denied) if is_undecided(&denied) => {
                    undecided.people.insert(person.name.as_str().to_owned(), person);
                }
                // What is refused is audited there.
                Ok(_) | Err(_) => {}
            }
            // Whoever logs in meanwhile has the thread now and then.
            tokio::task::yield_now().await;
        }
        for group in update.groups {
            undecided.groups.remove(group.claim.name.as_str());
            let members = group.members.iter().map(|m| m.as_str().to_owned()).collect();
            if let Err(LookupError::Unavailable) = self.absorb_group(provider.name(), &group.claim, members).await {
                undecided.groups.insert(group.claim.name.as_str().to_owned(), group);
            }
            tokio::task::yield_now().await;
        }
        for (name, key) in update.gone {
            undecided.people.remove(name.as_str());
            let known = self.store.person(name.as_str()).ok().flatten();
            if known.is_some_and(|k| k.provider == provider.name() && k.key == key) {
                // A store that fails keeps her: she is looked for again at the next refresh.
                _ = self.store.mark_gone(name.as_str());
            }
        }
        for name in update.gone_groups {
            undecided.groups.remove(name.as_str());
            self.drop_group_of(provider, name.as_str());
        }
        self.publishing.publish().await;
        self.count_undecided(provider, undecided);
    }

    async fn try_again(&self, provider: &dyn Provider, undecided: &mut Undecided) {
        if undecided.people.is_empty() && undecided.groups.is_empty() {
            return;
        }
        let people = undecided.people.drain().map(|(_, person)| person).collect();
        let groups = undecided.groups.drain().map(|(_, group)| group).collect();
        let update = Update { people, groups, ..Update::default() };
        in_bulk(self.take_in_all(provider, update, undecided)).await;
        self.watch().await;
    }

    fn count_undecided(&self, provider: &dyn Provider, undecided: &Undecided) {
        self.replicas.change(provider, |s| s.undecided = undecided.people.len() + undecided.groups.len());
    }

    /// Whoever is known of this provider and is not there any more is gone. Where nobody is there, or
    /// nobody can say who, nobody is gone.
    async fn reconcile(&self, provider: &dyn Provider, whole: &Whole) {
        if let Some(people) = whole.people.as_ref().filter(|people| !people.is_empty()) {
            for (name, _) in self.store.people_of(provider.name()).unwrap_or_default() {
                if !people.contains(&name) {
                    _ = self.store.mark_gone(&name);
                }
            }
        }
        if let Some(groups) = whole.groups.as_ref().filter(|groups| !groups.is_empty()) {
            for name in self.store.groups_of(provider.name()).unwrap_or_default() {
                if !groups.contains(&name) {
                    self.drop_group_of(provider, &name);
                }
            }
        }
        self.publishing.publish().await;
    }

    fn drop_group_of(&self, provider: &dyn Provider, name: &str) {
        let known = self.store.group(name).ok().flatten();
        if known.is_some_and(|k| k.provider == provider.name()) {
            _ = self.store.drop_group(name);
        }
    }

    /// Says to readers whether all is known now, and to the administrator what has changed in that.
    async fn watch(&self) {
        for provider in self.providers.iter().filter(|p| p.replica().is_some()) {
            let (is_current, mut was_current) = (self.replicas.is_current(provider.as_ref()), false);
            self.replicas
                .change(provider.as_ref(), |s| was_current = std::mem::replace(&mut s.was_current, is_current));
            if is_current == was_current {
                continue;
            }
            let standing = self.replicas.standing(provider.as_ref());
            let Some((_, at, contact)) = standing.contact else { continue };
            if is_current {
                let told = format!("{} people and {} groups, by {}", contact.people, contact.groups, contact.mode);
                self.say(provider.as_ref(), Outcome::Ok, "ok", told);
            } else {
                // From then on it is known no better than if it had been asked for each then.
                _ = self.store.confirm(provider.name(), at);
                let told = format!("not heard of for {} s; asked on demand", unix_now() - at);
                self.say(provider.as_ref(), Outcome::Error, "out-of-date", told);
            }
        }
        self.publishing.vouch(self.providers.iter().all(|p| self.replicas.is_complete(p.as_ref()))).await;
    }

    fn say(&self, provider: &dyn Provider, result: Outcome, reason: &'static str, detail: String) {
        let backend = Some(provider.name().to_owned());
        self.audit.log(Event { result, reason, backend, detail: Some(detail), ..Event::ok("replica") });
    }

    /// Whether what was said then is still so.
    pub(super) fn is_current(&self, provider: &dyn Provider, fetched_at: i64) -> bool {
        fetched_at != EXPIRED && self.replicas.is_current(provider)
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
