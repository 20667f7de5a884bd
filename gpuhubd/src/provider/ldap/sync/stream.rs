//! One long search: what the server says of it, read in a task of its own, since the parsers of the
//! LDAP library panic on malformed messages.

use super::super::entry::Entry;
use super::super::trouble::{Ended, Trouble};
use super::content::{Id, Kind};
use ldap3::adapters::{Adapter, PagedResults};
use ldap3::controls::{
    ControlType, EntryState, MakeCritical, RawControl, RefreshMode, SyncInfo, SyncRequest, SyncState, parse_syncinfo,
};
use ldap3::{Ldap, ResultEntry, Scope, SearchEntry};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is to be searched for.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// People, or groups.
    pub(super) kind: Kind,
    pub(super) base: String,
    pub(super) filter: String,
    pub(super) attributes: Arc<[String]>,
    /// Sent along, besides what [`How`] takes; of a search that is [`How::Paged`].
    pub(super) controls: Vec<RawControl>,
}

/// What the server said.
#[derive(Debug)]
pub(super) enum Said {
    /// This is how an entry is now.
    Is(Id, Box<Entry>),
    /// These are as they were.
    Present(Vec<Id>),
    /// These are no more.
    Gone(Vec<Id>),
    /// Whoever was not mentioned until now is no more.
    NoOthers,
    /// All is said; what follows are changes.
    Refreshed,
    /// Up to here.
    Cookie(Vec<u8>),
    /// Nothing more comes.
    Ended(Trouble),
}

/// Entries in a page.
const PAGE: i32 = 1000;

/// How one search is done.
#[derive(Debug)]
pub(super) enum How {
    /// It goes on for ever (RFC 4533), perhaps from where it was.
    Followed(Option<Vec<u8>>),
    /// It comes to its end, page by page (RFC 2696). Nobody's id is told.
    Paged,
}

/// Says what the search number `n` finds, and at last why it ended.
pub(super) async fn run(ldap: Ldap, n: usize, search: Search, how: How, say: mpsc::Sender<(usize, Said)>) {
    let saying = say.clone();
    let mut reader = Ended(tokio::spawn(async move {
        match how {
            How::Followed(cookie) => follow(ldap, n, search, cookie, saying).await,
            How::Paged => list(ldap, n, search, saying).await,
        }
    }));
    let end = (&mut reader.0).await.unwrap_or_else(|_| Err(Trouble::Lost("the answer was malformed".into())));
    _ = say.send((n, end.map_or_else(Said::Ended, |()| Said::Refreshed))).await;
}

async fn list(mut ldap: Ldap, n: usize, search: Search, say: mpsc::Sender<(usize, Said)>) -> Result<(), Trouble> {
    let pages: Vec<Box<dyn Adapter<'_, String, Arc<[String]>>>> = vec![Box::new(PagedResults::new(PAGE))];
    let mut stream = ldap
        .with_controls(search.controls)
        .streaming_search_with(pages, &search.base, Scope::Subtree, &search.filter, search.attributes)
        .await?;
    while let Some(message) = stream.next().await? {
        if !message.is_ref() && !message.is_intermediate() {
            let entry = Box::new(SearchEntry::construct(message).into());
            say.send((n, Said::Is(Id::new(), entry))).await.map_err(|_| unheard())?;
        }
    }
    let result = stream.finish().await;
    if result.rc == 0 { Ok(()) } else { Err(Trouble::Refused(Box::new(result))) }
}

/// It ends only with an error.
async fn follow(
    mut ldap: Ldap,
    n: usize,
    search: Search,
    cookie: Option<Vec<u8>>,
    say: mpsc::Sender<(usize, Said)>,
) -> Result<(), Trouble> {
    let request = SyncRequest { mode: RefreshMode::RefreshAndPersist, cookie, reload_hint: false };
    // Critical: a server that does not know it must say so, and not simply search.
    let control: RawControl = request.critical().into();
    let mut stream = ldap
        .with_controls(control)
        .streaming_search(&search.base, Scope::Subtree, &search.filter, search.attributes)
        .await?;
    while let Some(message) = stream.next().await? {
        for said in parse(message) {
            say.send((n, said)).await.map_err(|_| unheard())?;
        }
    }
    // It was to go on: a server that ends it says why.
    Err(Trouble::Refused(Box::new(stream.finish().await)))
}

fn unheard() -> Trouble {
    Trouble::Lost("nobody listens any more".into())
}

/// Panics on what is malformed.
fn parse(message: ResultEntry) -> Vec<Said> {
    if message.is_ref() {
        return Vec::new();
    }
    if message.is_intermediate() {
        return info(parse_syncinfo(message));
    }
    let state = message.1.iter().find(|c| matches!(c.0, Some(ControlType::SyncState))).map(|c| c.1.parse());
    // An entry that nobody asked for.
    let Some(SyncState { state, entry_uuid: id, cookie }) = state else { return Vec::new() };
    let said = match state {
        EntryState::Present => Said::Present(vec![id]),
        EntryState::Delete => Said::Gone(vec![id]),
        EntryState::Add | EntryState::Modify => Said::Is(id, Box::new(SearchEntry::construct(message).into())),
    };
    std::iter::once(said).chain(cookie.map(Said::Cookie)).collect()
}

fn info(info: SyncInfo) -> Vec<Said> {
    let (said, refreshed, cookie) = match info {
        SyncInfo::NewCookie(cookie) => (None, false, Some(cookie)),
        SyncInfo::RefreshDelete { cookie, refresh_done } => (None, refresh_done, cookie),
        SyncInfo::RefreshPresent { cookie, refresh_done } => (Some(Said::NoOthers), refresh_done, cookie),
        SyncInfo::SyncIdSet { cookie, refresh_deletes, sync_uuids } => {
            let ids = sync_uuids.into_iter().collect();
            (Some(if refresh_deletes { Said::Gone(ids) } else { Said::Present(ids) }), false, cookie)
        }
    };
    said.into_iter().chain(cookie.map(Said::Cookie)).chain(refreshed.then_some(Said::Refreshed)).collect()
}
