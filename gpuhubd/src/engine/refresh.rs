//! What directories said earlier, asked again before it is too old: so that somebody who was
//! disabled or deleted goes from the box's view even if nobody asks for her.

use super::Engine;
use crate::store::unix_now;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked for what is old, at most and at least; and how many are asked each time, if not more
/// have to be: a directory of 10,000 known people with a ttl of 10 minutes is asked 23 times a second.
const EVERY: Duration = Duration::from_secs(15);
const OFTEN: Duration = Duration::from_secs(1);
const MOST: u32 = 250;

/// Runs for ever; one person after the other, so that a slow directory only slows itself.
pub async fn run(engine: Arc<Engine>) {
    let ttls = engine.providers.iter().filter_map(|p| p.cache_ttl());
    let every = ttls.map(every).min().unwrap_or(EVERY);
    loop {
        // Else all of them would be asked for now. If it cannot be written, they are.
        let _ = engine.write_seen().await;
        for provider in &engine.providers {
            let Some(ttl) = provider.cache_ttl().filter(|_| !engine.replicas.is_current(provider.as_ref())) else {
                continue;
            };
            let soon = unix_now() - seconds(asked_after(ttl));
            let most = enough(engine.store.known_of(provider.name()).unwrap_or(0), ttl, every);
            // An unavailable directory leaves entries as they are: known people keep resolving.
            for name in engine.store.stale_people(provider.name(), soon, most).unwrap_or_default() {
                let _ = engine.ask_for_user(&name).await;
            }
            for name in engine.store.stale_groups(provider.name(), soon, most).unwrap_or_default() {
                let _ = engine.ask_for_group(&name).await;
            }
        }
        let _ = tokio::time::timeout(every, engine.ask_soon.notified()).await;
    }
}

/// At what age an entry is asked for again: early enough that whoever looks it up meanwhile finds it fresh.
fn asked_after(ttl: Duration) -> Duration {
    ttl.mul_f64(0.75)
}

/// Twice before an entry is too old, at least.
fn every(ttl: Duration) -> Duration {
    (ttl / 10).clamp(OFTEN, EVERY)
}

/// So many at a time that all have had their turn when the first is old again.
fn enough(known: i64, ttl: Duration, every: Duration) -> u32 {
    let rounds = (seconds(asked_after(ttl)) / seconds(every).max(1)).max(1);
    u32::try_from(known / rounds + 1).unwrap_or(u32::MAX).max(MOST)
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_for_before_they_are_too_old() {
        for ttl in [10, 60, 600, 86_400].map(Duration::from_secs) {
            let (every, after) = (every(ttl), asked_after(ttl));
            assert!(after + every * 2 <= ttl, "{ttl:?}");
            for known in [0, 1, 10_000, 1_000_000] {
                let rounds = u64::try_from(known).unwrap() / u64::from(enough(known, ttl, every)) + 1;
                assert!(every * u32::try_from(rounds).unwrap() <= ttl, "{known} in {ttl:?}");
            }
        }
    }
}
