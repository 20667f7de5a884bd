//! What directories said earlier, asked again before it is too old: so that somebody who was
//! disabled or deleted goes from the box's view even if nobody asks for her.

use super::{Asker, Engine, GroupKey, UserKey};
use crate::store::unix_now;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked for what is old, and how many are asked each time: a directory of 10,000
/// known people with a ttl of 10 minutes is asked 17 times a second at the most.
const EVERY: Duration = Duration::from_secs(15);
const MOST: u32 = 250;

/// Runs for ever; one person after the other, so that a slow directory only slows itself.
pub async fn run(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for provider in &engine.providers {
            let Some(ttl) = provider.cache_ttl() else { continue };
            let old = unix_now() - i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
            // An unavailable directory leaves entries as they are: known people keep resolving.
            for name in engine.store.stale_people(provider.name(), old, MOST).unwrap_or_default() {
                let _ = engine.user(UserKey::Name(&name), Asker::Broker).await;
            }
            for name in engine.store.stale_groups(provider.name(), old, MOST).unwrap_or_default() {
                let _ = engine.group(GroupKey::Name(&name), Asker::Broker).await;
            }
        }
    }
}
