//! Where the server does not tell what changes it is asked, again and again: for what was changed since
//! (modifyTimestamp), and now and then for what is there at all, since nobody says what was deleted.

use super::super::entry::Entry;
use super::super::link::Link;
use super::super::trouble::Trouble;
use super::super::{LdapProvider, dn};
use super::content::{Id, Kind};
use super::stream::{How, Said, Search};
use super::{End, Kept, SILENCE, Sync, ended, run_all};
use crate::provider::news::News;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What is there at all is looked at so often, in polls.
pub(super) const LISTING: u32 = 4;
/// When something was changed.
const STAMP: &str = "modifyTimestamp";
const STAMP_KEY: &str = "modifytimestamp";

impl LdapProvider {
    /// Polls over one connection.
    pub(super) async fn poll(
        &self,
        sync: &Sync,
        searches: &[Search],
        kept: &mut Kept,
        link: &Link,
        tell: &mpsc::Sender<News>,
    ) -> Result<End, Trouble> {
        if kept.cookies.iter().any(Option::is_some) {
            *kept = Kept::new(self, searches.len());
        }
        // Another server may have got a change later than it was made: there all is read.
        let since = kept.polled.take().filter(|(server, _)| Arc::ptr_eq(server, &link.server));
        let mut since = since.map_or_else(|| vec![String::new(); searches.len()], |(_, since)| since);
        for round in 0u32.. {
            if round % LISTING == 0 {
                self.look_at_all(searches, kept, link, &mut since).await?;
            } else {
                self.look_at_changes(searches, kept, link, &mut since).await?;
            }
            if let Some(end) = self.tell_round(round, kept, link, tell).await {
                return Ok(end);
            }
            kept.polled = Some((link.server.clone(), since.clone()));
            if let Some(end) = self.next_round(sync, kept, link, tell).await {
                return Ok(end);
            }
        }
        Ok(End::Away)
    }

    /// Reads what was changed since.
    async fn look_at_changes(
        &self,
        searches: &[Search],
        kept: &mut Kept,
        link: &Link,
        since: &mut [String],
    ) -> Result<(), Trouble> {
        let stamps = since.to_vec();
        let changed = |n: usize, search: &Search| {
            let stamp = stamps.get(n).filter(|stamp| !stamp.is_empty());
            let later = stamp.map(|stamp| format!("(&{}({STAMP}>={stamp}))", search.filter));
            let attributes = self.with_stamp(&search.attributes);
            Search { filter: later.unwrap_or_else(|| search.filter.clone()), attributes, ..search.clone() }
        };
        self.list(link, searches, changed, |n, kind, entry| self.read_in(kept, n, kind, &entry, since)).await
    }

    /// Looks who is there, and reads whoever has changed without having been seen to.
    async fn look_at_all(
        &self,
        searches: &[Search],
        kept: &mut Kept,
        link: &Link,
        since: &mut [String],
    ) -> Result<(), Trouble> {
        if since.iter().any(String::is_empty) {
            kept.mirror.note_all();
            let all = |_, search: &Search| {
                let attributes = self.with_stamp(&search.attributes);
                Search { attributes, ..search.clone() }
            };
            let mut seen = vec![HashSet::new(); searches.len()];
            self.list(link, searches, all, |n, kind, entry| {
                seen.get_mut(n).map(|seen| seen.insert(self.id(&entry)));
                self.read_in(kept, n, kind, &entry, since);
            })
            .await?;
            lose(kept, searches, &seen);
            return Ok(());
        }
        self.look_at_changes(searches, kept, link, since).await?;
        let keys = |_, search: &Search| Search { attributes: self.with_stamp(&[]), ..search.clone() };
        let (mut seen, mut missed) = (vec![HashSet::new(); searches.len()], false);
        self.list(link, searches, keys, |n, kind, entry| {
            let id = self.id(&entry);
            missed |= kept.mirror.stamp(kind, &id) != Some(entry.one(STAMP_KEY).unwrap_or_default());
            seen.get_mut(n).map(|seen| seen.insert(id));
        })
        .await?;
        lose(kept, searches, &seen);
        if missed {
            // Changed after the changes were read; or before, by another server's clock.
            since.iter_mut().for_each(String::clear);
            return Box::pin(self.look_at_all(searches, kept, link, since)).await;
        }
        Ok(())
    }

    fn read_in(&self, kept: &mut Kept, n: usize, kind: Kind, entry: &Entry, since: &mut [String]) {
        let stamp = entry.one(STAMP_KEY).unwrap_or_default();
        if let Some(since) = since.get_mut(n).filter(|since| since.as_str() < stamp) {
            stamp.clone_into(since);
        }
        self.put(&mut kept.mirror, n, kind, self.id(entry), entry, stamp.to_owned());
    }

    /// Searches for all of these, each to its end.
    pub(super) async fn list(
        &self,
        link: &Link,
        searches: &[Search],
        search: impl Fn(usize, &Search) -> Search,
        mut each: impl FnMut(usize, Kind, Entry),
    ) -> Result<(), Trouble> {
        let (mut said, _readers) = run_all(link, searches, |n, s| (search(n, s), How::Paged));
        let mut left = searches.len();
        while left > 0 {
            let next = timeout(SILENCE, said.recv()).await.map_err(|_| Trouble::Slow("content"))?;
            match next.ok_or_else(ended)? {
                (n, Said::Is(_, entry)) => {
                    if let Some(search) = searches.get(n) {
                        each(n, search.kind, *entry);
                    }
                }
                (_, Said::Ended(trouble)) => return Err(trouble),
                _ => left -= 1,
            }
        }
        Ok(())
    }

    /// What it is called for good, as far as it says: the same as of a person.
    fn id(&self, entry: &Entry) -> Id {
        let mut keys = self.schema.keys.iter().filter_map(|key| entry.only(key)).filter(|key| !key.is_empty());
        keys.next().map_or_else(|| dn::normalised(&entry.dn).into_bytes(), |key| key.to_ascii_lowercase().into_bytes())
    }

    /// Operational attributes are shown only to who names them.
    fn with_stamp(&self, attributes: &[String]) -> Arc<[String]> {
        attributes.iter().chain(&self.schema.keys).cloned().chain([STAMP.to_owned()]).collect()
    }
}

pub(super) fn lose(kept: &mut Kept, searches: &[Search], seen: &[HashSet<Id>]) {
    for (n, (search, seen)) in searches.iter().zip(seen).enumerate() {
        kept.mirror.only(n, search.kind, seen);
    }
}
