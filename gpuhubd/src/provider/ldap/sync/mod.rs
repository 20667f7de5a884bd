//! The whole directory, kept here: by content synchronisation (RFC 4533) where the server has it, else by
//! asking again and again what has changed.
//!
//! ```text
//! mod     the connection: made, kept, left, made again; which way it goes
//! stream  what one search that goes on says
//! poll    searches for what changed, and for what is there; domain: of Active Directory
//! mirror  what the directory has, and what of that is news (pure); content: what an entry says
//! ```
//!
//! What is deleted is known from the server's word for it, or from a listing that came to its end. One
//! that did not, or in which nobody is, deletes nobody.

mod content;
mod domain;
mod mirror;
mod poll;
mod stream;

use super::LdapProvider;
use super::directory::AWAY;
use super::entry::Entry;
use super::link::{Link, Query};
use super::schema::Members;
use super::server::Server;
use super::trouble::{Ended, Trouble};
use crate::config::{LdapConfig, LdapMembers, LdapSync};
use crate::provider::Who;
use crate::provider::news::{Contact, News};
use content::{GroupEntry, Id, Kind, PersonEntry};
use ldap3::Scope;
use mirror::Mirror;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use stream::{How, Said, Search};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// The control that a server has who synchronises content.
const CONTENT_SYNC: &str = "1.3.6.1.4.1.4203.1.9.1.1";
/// A server that says nothing for so long in the middle of its content hangs.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a server that says nothing, since nothing changes, is asked whether it is there.
const PROBE: Duration = Duration::from_secs(10);
/// Content that was last heard of so long ago is not vouched for.
const BOUND: Duration = Duration::from_secs(60);
/// After a failure the next try comes after the first of these, then after twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Messages that wait to be worked on.
const WAITING: usize = 1024;

/// What a provider that is kept whole has besides.
#[derive(Debug)]
pub(super) struct Sync {
    poll_interval: Duration,
    again: Notify,
}

/// Why a session ended.
enum End {
    /// A fault.
    Trouble(String),
    /// All of it is wanted once more.
    Again,
    /// A server of the first choice may be back.
    Away,
    /// The server does not synchronise content after all.
    NoSync,
}

/// What is kept from one session to the next.
struct Kept {
    mirror: Mirror,
    /// Where each search was, and on which server.
    cookies: Vec<Option<Vec<u8>>>,
    /// Where it is polled: the server, and until when its changes are known, by search.
    polled: Option<(Arc<Server>, Vec<String>)>,
    /// Until when an Active Directory's changes are known.
    domain: Option<domain::Known>,
}

impl Sync {
    pub(super) fn new(config: &LdapConfig) -> Option<Self> {
        let sync = || Self { poll_interval: config.poll_interval.0, again: Notify::new() };
        (config.sync == LdapSync::Replica).then(sync)
    }

    /// See [`crate::provider::Provider::replica`].
    pub(super) fn bound(&self) -> Duration {
        BOUND.max(self.poll_interval * 2)
    }

    pub(super) fn again(&self) {
        self.again.notify_one();
    }
}

impl LdapProvider {
    /// Tells its content and what changes in it, until nobody listens.
    pub(super) async fn keep_in_sync(&self, sync: &Sync, tell: &mpsc::Sender<News>) {
        let searches = self.searches();
        let mut kept = Kept::new(self, searches.len());
        let (mut wait, mut no_sync) = (FIRST_WAIT, None);
        while !tell.is_closed() {
            let started = Instant::now();
            let end = self.session(sync, &searches, &mut kept, &mut no_sync, tell).await;
            match end {
                End::Trouble(why) => {
                    _ = tell.send(News::Trouble(why)).await;
                    // One that went well for a while begins anew.
                    if started.elapsed() > LONGEST_WAIT {
                        wait = FIRST_WAIT;
                    }
                    if timeout(wait, sync.again.notified()).await.is_ok() {
                        kept = Kept::new(self, searches.len());
                    }
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                End::Again => {
                    kept = Kept::new(self, searches.len());
                    (wait, no_sync) = (FIRST_WAIT, None);
                }
                End::Away => {}
                // At once, and for a while the other way.
                End::NoSync => sleep(FIRST_WAIT).await,
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn session(
        &self,
        sync: &Sync,
        searches: &[Search],
        kept: &mut Kept,
        no_sync: &mut Option<Instant>,
        tell: &mpsc::Sender<News>,
    ) -> End {
        let link = match self.directory.open(true).await {
            Ok(link) => link,
            Err(why) => return End::Trouble(why),
        };
        let failed = |trouble: &Trouble| End::Trouble(self.directory.failed(&link.server, trouble));
        let root = match link.search(about("", &["supportedControl"]), self.directory.timeout()).await {
            Ok(entries) => entries.into_iter().next().unwrap_or_default(),
            Err(trouble) => return failed(&trouble),
        };
        let polls = no_sync.is_some_and(|since| since.elapsed() < AWAY);
        let ended = if self.schema.members == Members::Asked {
            self.poll_domain(sync, kept, &link, tell).await
        } else if !polls && root.values("supportedcontrol").iter().any(|c| c == CONTENT_SYNC) {
            self.stream(sync, searches, kept, &link, tell).await
        } else {
            self.poll(sync, searches, kept, &link, tell).await
        };
        match ended {
            Err(trouble) => {
                let went_on = kept.cookies.iter().any(Option::is_some);
                let refused = match &trouble {
                    Trouble::Refused(result) => Some(result.rc),
                    _ => None,
                };
                if !trouble.is_of_the_server() {
                    kept.cookies.iter_mut().for_each(|c| *c = None);
                    (kept.polled, kept.domain) = (None, None);
                }
                match refused {
                    // What was is not known there any more (e-syncRefreshRequired, RFC 4533 §3.7), or the server's
                    // content is older than that: from the beginning, at once.
                    Some(_) if went_on => End::Away,
                    Some(rc) if !polls && NO_SYNC.contains(&rc) => {
                        *no_sync = Some(Instant::now());
                        End::NoSync
                    }
                    _ => failed(&trouble),
                }
            }
            Ok(end) => end,
        }
    }

    /// Content synchronisation over one connection.
    async fn stream(
        &self,
        sync: &Sync,
        searches: &[Search],
        kept: &mut Kept,
        link: &Link,
        tell: &mpsc::Sender<News>,
    ) -> Result<End, Trouble> {
        if kept.polled.take().is_some() {
            *kept = Kept::new(self, searches.len());
        }
        let (mut said, _readers) = run_all(link, searches, |n, search| {
            (search.clone(), How::Followed(kept.cookies.get(n).cloned().flatten()))
        });
        let mut refresh: Vec<Refresh> = searches
            .iter()
            .zip(&kept.cookies)
            .map(|(s, cookie)| Refresh { kind: s.kind, all: cookie.is_none(), ..Refresh::default() })
            .collect();
        kept.mirror.note_all();
        while refresh.iter().any(|r| !r.done) {
            let next = timeout(SILENCE, said.recv()).await.map_err(|_| Trouble::Slow("content"))?;
            self.take(kept, &mut refresh, next.ok_or_else(ended)?)?;
        }
        if let Err(why) = self.tell_all(kept, tell).await {
            return Ok(End::Trouble(format!("{} {why}", link.server.url)));
        }
        let mut contact = tokio::time::interval_at(Instant::now() + PROBE, PROBE);
        contact.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.tell_contact(kept, "syncrepl", link, tell).await;
            tokio::select! {
                next = said.recv() => {
                    self.take(kept, &mut refresh, next.ok_or_else(ended)?)?;
                    // Those that have come meanwhile, too.
                    while let Ok(next) = said.try_recv() {
                        self.take(kept, &mut refresh, next)?;
                    }
                    self.tell_news(kept, tell).await;
                }
                _ = contact.tick() => {
                    if self.directory.is_away(link) {
                        return Ok(End::Away);
                    }
                    link.search(about("", &["1.1"]), self.directory.timeout()).await?;
                }
                () = sync.again.notified() => return Ok(End::Again),
                () = tell.closed() => return Ok(End::Away),
            }
        }
    }

    /// Puts into the mirror what a search has said.
    fn take(&self, kept: &mut Kept, all: &mut [Refresh], (n, said): (usize, Said)) -> Result<(), Trouble> {
        let Some(refresh) = all.get_mut(n) else { return Ok(()) };
        match said {
            Said::Ended(trouble) => return Err(trouble),
            Said::Is(id, entry) => {
                self.put(&mut kept.mirror, n, refresh.kind, id.clone(), &entry, String::new());
                refresh.see([id]);
            }
            Said::Present(ids) => refresh.see(ids),
            Said::Gone(ids) => ids.iter().for_each(|id| kept.mirror.lost(n, refresh.kind, id)),
            Said::NoOthers => kept.mirror.only(n, refresh.kind, &std::mem::take(&mut refresh.seen)),
            Said::Cookie(cookie) => refresh.cookie = Some(cookie),
            Said::Refreshed => {
                if refresh.all && !refresh.done {
                    kept.mirror.only(n, refresh.kind, &std::mem::take(&mut refresh.seen));
                }
                refresh.done = true;
            }
        }
        // Not in the middle of a refresh: the next session would go on from what was not said.
        if let (true, Some(kept)) = (refresh.done, kept.cookies.get_mut(n)) {
            *kept = refresh.cookie.take().or(kept.take());
        }
        Ok(())
    }

    /// Puts an entry into the mirror.
    fn put(&self, mirror: &mut Mirror, n: usize, kind: Kind, id: Id, entry: &Entry, stamp: String) {
        match kind {
            Kind::Person => {
                let person = self.person(std::slice::from_ref(entry), Who::Uid(0, None));
                let person = person.map(|found| found.map(|f| f.person));
                mirror.put_person(n, id, PersonEntry::of(&self.schema, entry, person), stamp);
            }
            Kind::Group => mirror.put_group(n, id, GroupEntry::of(&self.schema, entry), stamp),
        }
    }

    /// At the end of a refresh: what is news, and who is there; unless nobody is.
    async fn tell_all(&self, kept: &mut Kept, tell: &mpsc::Sender<News>) -> Result<(), String> {
        if kept.mirror.whole().people.is_some_and(|people| people.is_empty()) {
            *kept = Kept::new(self, kept.cookies.len());
            let why = format!("shows nobody who matches {} under {}", self.schema.people(), self.user_bases.join(", "));
            return Err(why);
        }
        self.tell_news(kept, tell).await;
        _ = tell.send(News::Whole(kept.mirror.whole())).await;
        Ok(())
    }

    async fn tell_news(&self, kept: &mut Kept, tell: &mpsc::Sender<News>) {
        if kept.mirror.has_news() {
            let update = kept.mirror.news();
            if !update.is_empty() {
                _ = tell.send(News::Update(update)).await;
            }
        }
    }

    /// Tells what a round of polling has found; how that ends the session, if it does.
    async fn tell_round(&self, round: u32, kept: &mut Kept, link: &Link, tell: &mpsc::Sender<News>) -> Option<End> {
        if round > 0 {
            self.tell_news(kept, tell).await;
            return None;
        }
        let told = self.tell_all(kept, tell).await;
        told.err().map(|why| End::Trouble(format!("{} {why}", link.server.url)))
    }

    /// Waits until the next round of polling is due, unless it is over.
    async fn next_round(&self, sync: &Sync, kept: &Kept, link: &Link, tell: &mpsc::Sender<News>) -> Option<End> {
        self.tell_contact(kept, "polling", link, tell).await;
        if self.directory.is_away(link) {
            return Some(End::Away);
        }
        tokio::select! {
            () = tokio::time::sleep(sync.poll_interval) => None,
            () = sync.again.notified() => Some(End::Again),
            () = tell.closed() => Some(End::Away),
        }
    }

    async fn tell_contact(&self, kept: &Kept, mode: &'static str, link: &Link, tell: &mpsc::Sender<News>) {
        let contact = Contact {
            mode,
            server: link.server.url.clone(),
            people: kept.mirror.count(Kind::Person),
            groups: kept.mirror.count(Kind::Group),
            cookie: kept.cookies.iter().all(Option::is_some),
            unclear: kept.mirror.unclear(),
        };
        _ = tell.send(News::Contact(contact)).await;
    }

    /// One for each base.
    fn searches(&self) -> Vec<Search> {
        let people = self.user_bases.iter().map(|base| Search {
            kind: Kind::Person,
            base: base.clone(),
            filter: self.schema.people().to_owned(),
            attributes: self.schema.of_person.clone(),
            controls: Vec::new(),
        });
        let groups = self.group_bases.iter().map(|base| Search {
            kind: Kind::Group,
            base: base.clone(),
            filter: self.schema.any_group().to_owned(),
            attributes: self.schema.of_group.clone(),
            controls: Vec::new(),
        });
        people.chain(groups).collect()
    }
}

/// How far a search has come.
#[derive(Default)]
struct Refresh {
    kind: Kind,
    /// It began without a cookie: whoever is not mentioned is not there.
    all: bool,
    seen: HashSet<Id>,
    cookie: Option<Vec<u8>>,
    done: bool,
}

impl Refresh {
    fn see(&mut self, ids: impl IntoIterator<Item = Id>) {
        if !self.done {
            self.seen.extend(ids);
        }
    }
}

impl Kept {
    fn new(provider: &LdapProvider, searches: usize) -> Self {
        let listed = provider.members == LdapMembers::All;
        Self {
            mirror: Mirror::new(provider.schema.members, provider.nesting, listed),
            cookies: vec![None; searches],
            polled: None,
            domain: None,
        }
    }
}

/// What a server answers who has not, or not here, what it says that it has: that it is done, does not know the
/// control, grants no access to it, or is not willing (RFC 4511 §4.1.9).
const NO_SYNC: [u32; 4] = [0, 12, 50, 53];

/// A search for one entry's attributes.
fn about(dn: &str, attributes: &[&str]) -> Query {
    Query {
        base: dn.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".into(),
        attributes: attributes.iter().map(|a| (*a).to_owned()).collect(),
        most: 1,
        paged: false,
    }
}

/// Begins all searches over one connection; they end with what is returned.
fn run_all(
    link: &Link,
    searches: &[Search],
    how: impl Fn(usize, &Search) -> (Search, How),
) -> (mpsc::Receiver<(usize, Said)>, Vec<Ended<()>>) {
    let (say, said) = mpsc::channel(WAITING);
    let run = |(n, search)| {
        let (search, how) = how(n, search);
        Ended(tokio::spawn(stream::run(link.handle(), n, search, how, say.clone())))
    };
    let readers = searches.iter().enumerate().map(run).collect();
    (said, readers)
}

fn ended() -> Trouble {
    Trouble::Lost("it ended before the answer".into())
}
