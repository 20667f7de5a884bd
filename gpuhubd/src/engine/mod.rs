//! The decisions. One file for each thing that can be asked:
//!
//! - [`directory`]: who is `alice`, who is 20001 (NSS); [`turns`]: who may ask for it;
//!   [`absent`]: who was not there a moment ago; [`local`]: who is the machine's own
//! - [`alias`]: other names by which people log in
//! - [`absorb`]: the one way an entry comes in; [`unchanged`]: who came in just so a moment ago
//! - [`login`]: is this really alice (pam_authenticate)
//! - [`join`]: people of a directory who prove themselves at an identity provider
//! - [`offline`]: the same while her directory is away
//! - [`passcode`]: the same where nobody can show a device code; [`passcodes`]: how she gets what she gives there
//! - [`again`]: whether her provider still honours her
//! - [`account`]: may she come in now; her sessions (the other PAM hooks); [`proven`]: who has just logged in
//! - [`password`]: changing it (pam_chauthtok)
//! - [`ssh_keys`]: by which keys she may be known
//! - [`cache`]: what is known, and from when
//! - [`admin`]: the builtin directory; [`ids`]: the ids that were given; [`follow`]: what the fleet's
//!   registry has of them
//! - [`refresh`]: what directories said earlier, asked again
//! - [`replica`]: directories that tell all that they have, and what changes

mod absent;
mod absorb;
mod account;
mod admin;
pub mod again;
#[cfg(test)]
mod again_tests;
mod alias;
mod cache;
mod directory;
pub mod follow;
mod ids;
mod join;
#[cfg(test)]
mod join_tests;
mod local;
mod lockout;
mod login;
mod offline;
mod passcode;
#[cfg(test)]
mod passcode_tests;
mod passcodes;
mod password;
mod policy;
mod proven;
mod provisional;
pub mod refresh;
pub mod replica;
mod ssh_keys;
#[cfg(test)]
mod tests;
mod turns;
mod unchanged;
#[cfg(test)]
mod visits;

pub use directory::{GroupKey, LookupError, UserKey};
pub use turns::Asker;

use crate::audit::{Audit, Event};
use crate::config::{Access, Passcode, People, Services};
use crate::idmap::Idmap;
use crate::machine::Mapped;
use crate::model::GroupClaim;
use crate::provider::Provider;
use crate::provider::offline::Offline;
use crate::provider::passcode::Passcodes;
use crate::publish::Publishing;
use crate::seal::Seal;
use crate::store::Store;
use gpuhub_common::wire::{Context, ProviderStatus, Status};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// On whose behalf something is asked. Part of every request: root of one container is not root
/// of another.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The listener's label.
    pub listener: Arc<str>,
    /// Effective uid of the peer (SO_PEERCRED), as this broker's user namespace sees it.
    pub uid: u32,
    /// Its process, where this broker's PID namespace has it.
    pub pid: Option<u32>,
}

/// What the engine needs from the configuration.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Name of the box in prompts.
    pub box_name: String,
    /// `[people]`
    pub people: People,
    /// The group that is everybody's primary one where the directory names none; else each has one of
    /// her own.
    pub primary_group: Option<GroupClaim>,
    /// `[access]`
    pub access: Access,
    /// `[services]`
    pub services: Services,
    /// `[passcode]`
    pub passcode: Passcode,
    /// The ids that exist here.
    pub mapped: Mapped,
    /// Seals what providers are asked with again; there, if one is.
    pub seal: Option<Arc<Seal>>,
}

/// Everything that decides. Shared by all connections.
pub struct Engine {
    rules: Rules,
    store: Store,
    idmap: Idmap,
    /// In the order they are asked; the builtin directory is first.
    providers: Vec<Arc<dyn Provider>>,
    publishing: Publishing,
    audit: Audit,
    lockout: lockout::Lockout,
    provisional: provisional::Provisional,
    /// Who has just proved herself.
    proven: proven::Proven,
    /// Whose the other login names were a moment ago.
    aliases: alias::Aliases,
    /// Names that nobody had a moment ago.
    absent: absent::Absent,
    local: local::Local,
    offline: Offline,
    passcodes: Passcodes,
    /// Who has just signed in at a provider.
    signed_in: passcodes::SignIns,
    /// Who was taken in just so a moment ago.
    unchanged: unchanged::Unchanged,
    /// Which providers are being asked again, about whom.
    asking: again::Asking,
    /// Whose lookup may ask a directory.
    turns: turns::Turns,
    /// Refusals of entries that were audited already.
    refused: Mutex<std::collections::HashSet<(String, &'static str)>>,
    /// Somebody of the builtin directory could not be taken in yet.
    undecided: AtomicBool,
    /// How those directories stand that are kept whole here.
    replicas: replica::Replicas,
    /// What is old is to be asked for now.
    ask_soon: tokio::sync::Notify,
    started: Instant,
}

impl Engine {
    /// Over an open store and publishing task.
    pub fn new(
        rules: Rules,
        store: Store,
        idmap: Idmap,
        providers: Vec<Arc<dyn Provider>>,
        publishing: Publishing,
        audit: Audit,
    ) -> Self {
        Self {
            lockout: lockout::Lockout::new(&rules.access),
            rules,
            offline: Offline::new(store.clone()),
            passcodes: Passcodes::new(store.clone()),
            signed_in: passcodes::SignIns::default(),
            store,
            idmap,
            providers,
            publishing,
            audit,
            provisional: provisional::Provisional::default(),
            proven: proven::Proven::default(),
            aliases: alias::Aliases::default(),
            absent: absent::Absent::default(),
            local: local::Local::default(),
            unchanged: unchanged::Unchanged::default(),
            asking: again::Asking::default(),
            turns: turns::Turns::default(),
            refused: Mutex::default(),
            undecided: AtomicBool::new(false),
            replicas: replica::Replicas::default(),
            ask_soon: tokio::sync::Notify::new(),
            started: Instant::now(),
        }
    }

    fn provider(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.providers.iter().find(|p| p.name() == name)
    }

    /// Logs that an entry is not served, once for each name and reason.
    fn audit_refused(&self, backend: &str, name: &str, reason: &'static str, detail: Option<String>) {
        if self.is_news(name, reason) {
            self.audit.log(Event { detail, ..Event::entry_refused(backend, name, reason) });
        }
    }

    /// Whether this has not been said of the name yet: anybody may ask for it again and again.
    fn is_news(&self, name: &str, what: &'static str) -> bool {
        /// A directory full of bad entries must not fill the memory either; then all is said once more.
        const MOST: usize = 10_000;
        let mut seen = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert((name.to_owned(), what))
    }

    /// What `gpuhub status` prints.
    pub fn status(&self) -> Status {
        let (generation, users, groups) = self.store.counts().unwrap_or_default();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.started.elapsed().as_secs(),
            generation,
            users,
            groups,
            sessions: self.store.session_count().unwrap_or(0),
            audit_dropped: self.audit.dropped(),
            providers: self
                .providers
                .iter()
                .map(|p| ProviderStatus { name: p.name().into(), kind: p.kind().into(), problem: None })
                .collect(),
        }
    }
}

/// The event of a PAM call, with what its context says.
fn event_of(base: Event, context: &Context) -> Event {
    let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    // What is no name is not logged: it may be a password typed at the wrong prompt.
    let user = gpuhub_common::name::is_user_name(context.user.as_bytes()).then(|| context.user.clone());
    Event {
        user: Some(user.unwrap_or_else(|| "?".into())),
        login_name: some(&context.typed),
        service: Some(context.service.clone()),
        source: some(&context.source),
        tty: some(&context.tty),
        ..base
    }
}
