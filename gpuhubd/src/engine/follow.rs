//! Following the fleet's registry: it is told what this box knew before it had one, and what other boxes
//! changed there is taken over here.

use super::ids::{vet, why};
use super::{Engine, local};
use crate::audit::{Event, Outcome};
use crate::registry::{Change, Claim, Followed, Postgres, RegistryError};
use crate::store::{GivenId, IdKind, Source};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a box asks the registry what changed.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);
/// How many ids are told to a new registry at once.
const REGISTER: u32 = 500;

impl Engine {
    /// Tells the registry what this box knew before it had one, and takes over what others changed.
    async fn follow(&self) -> Result<(), RegistryError> {
        if self.undecided.load(Ordering::Relaxed) {
            let _ = self.take_in_builtins().await;
        }
        let Some(registry) = self.idmap.registry() else { return Ok(()) };
        for given in self.store.unregistered_ids(REGISTER).unwrap_or_default() {
            self.register(&given).await?;
        }
        self.catch_up(registry).await
    }

    /// Takes over what others changed since the last time.
    async fn catch_up(&self, registry: &Postgres) -> Result<(), RegistryError> {
        let mut known = self.store.registry_serial().unwrap_or(0);
        loop {
            // The last known one is asked for, too: where it is not there, this is another registry, or an
            // older state of it, and all of it is new.
            let mut changes = registry.changes(known).await?;
            if known > 0 && changes.first().map(serial_of) != Some(known) {
                known = 0;
                // Now: by the next time it may have as many changes as the one before.
                let _ = self.store.set_registry_serial(known);
                changes = registry.changes(known).await?;
            }
            let Some(last) = changes.last().map(serial_of).filter(|last| *last > known) else { return Ok(()) };
            let mut changed = false;
            for change in changes.iter().filter(|c| serial_of(c) > known) {
                match change {
                    Ok(change) => changed |= self.take_over(change),
                    Err((n, why)) => {
                        let detail = format!("change {n} of the registry is not followed: {why}");
                        self.audit_refused("registry", "", "illegal-change", Some(detail));
                    }
                }
            }
            if changed {
                self.publishing.publish().await;
            }
            if self.store.set_registry_serial(last).is_err() {
                return Ok(());
            }
            known = last;
        }
    }

    async fn register(&self, given: &GivenId) -> Result<(), RegistryError> {
        let Some(registry) = self.idmap.registry() else { return Ok(()) };
        if given.retired_at.is_some() {
            let owner = registry.retire(given).await?;
            if owner != given.name {
                let detail = format!("{} id {} is retired here and {owner}'s there", given.kind.as_str(), given.id);
                self.collision("registry", &given.name, Some(detail));
            }
            let _ = self.store.mark_registered(given.kind, given.id);
            return Ok(());
        }
        let key = match given.kind {
            IdKind::User => self.store.key_of(&given.name).ok().flatten(),
            IdKind::Group => None,
        };
        let claim = Claim {
            kind: given.kind,
            name: &given.name,
            own_group: false,
            candidates: &[given.id],
            // What a box computed alone is fixed by now: files have it.
            source: if given.source == Source::Computed { Source::Imported } else { given.source },
            key: key.as_ref(),
        };
        let conflict = match registry.claim(claim).await {
            Ok(claimed) if claimed.id == given.id => None,
            Ok(claimed) => Some(format!("the registry has the id {}", claimed.id)),
            Err(e @ (RegistryError::Unavailable(_) | RegistryError::Broken(_))) => return Err(e),
            Err(e) => Some(e.to_string()),
        };
        if let Some(why) = conflict {
            let detail = format!("{} id {} is this box's alone: {why}", given.kind.as_str(), given.id);
            self.collision("registry", &given.name, Some(detail));
        }
        // Said once; `gpuhub idmap check` goes on saying it.
        let _ = self.store.mark_registered(given.kind, given.id);
        Ok(())
    }

    /// An id or a name that was changed elsewhere, of somebody who is known here. Whether it is news.
    fn take_over(&self, change: &Change) -> bool {
        let Change { kind, id, name, was, .. } = change;
        let legal = || {
            let local = local::read().map_err(|d| why(&d))?;
            vet(*kind, name.trim_start_matches('~'), *id, &local)
        };
        let (before, done) = match was {
            // Only of whoever has the id under that name: to a box that gave it to somebody else, before it
            // had a registry, this is no news of hers.
            Some(was) => {
                let ours = self.store.name_of_id(*kind, *id).ok().flatten();
                if ours.as_deref() != Some(was) {
                    return false;
                }
                let renamed = legal().is_ok_and(|()| self.store.rename(&[*kind], was, name).unwrap_or(false));
                (format!("was {was}"), renamed)
            }
            None => {
                let Some(old) = self.store.id_of(*kind, name).ok().flatten().filter(|old| old != id) else {
                    return false;
                };
                let names = [(*kind, name.as_str())];
                let set = || matches!(self.store.change_id(&names, *id, Source::Override, true), Ok(None));
                (format!("had the id {old}"), legal().is_ok_and(|()| set()))
            }
        };
        self.followed(change, done, &before);
        done
    }

    fn followed(&self, change: &Change, done: bool, before: &str) {
        let (kind, id) = (change.kind.as_str(), change.id);
        if !done {
            let detail = format!("the registry gives {kind} id {id}; {before} here");
            return self.audit_refused("registry", &change.name, "id-collision", Some(detail));
        }
        self.audit.log(Event {
            event: "id-changed",
            result: Outcome::Ok,
            backend: Some("registry".into()),
            user: Some(change.name.clone()),
            reason: "ok",
            detail: Some(format!("{kind} id {id}; {before}")),
            ..Event::default()
        });
    }
}

fn serial_of(change: &Followed) -> i64 {
    match change {
        Ok(change) => change.serial,
        Err((serial, _)) => *serial,
    }
}

/// Follows the registry for ever. While it is away, known people go on.
pub async fn run(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(FOLLOW_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        tick.tick().await;
        let result = engine.follow().await;
        if let (Err(e), false) = (&result, away) {
            engine.audit.log(Event {
                result: Outcome::Error,
                reason: "registry-unavailable",
                detail: Some(e.to_string()),
                ..Event::ok("registry")
            });
        }
        away = result.is_err();
    }
}
