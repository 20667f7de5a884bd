//! Which connection an operation goes over: a kept service connection for the searches of logins and
//! another for those of lookups, a few kept ones for binds, and the next server when one fails.
//!
//! No lock is held while anything travels: a connection is taken out, or its handle is shared.
//! A search may be asked once more over a fresh connection. A password is sent once: when its
//! answer is lost, nobody knows what the server counted.

use super::entry::Entry;
use super::link::{Answer, Link, Query};
use super::server::Server;
use super::srv::Servers;
use super::trouble::Trouble;
use super::watch;
use crate::config::LdapConfig;
use crate::model::Unavailable;
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Connections that are kept for binds.
const KEPT: usize = 4;

/// A bind connection that was not used for so long is closed: what stands between us and the
/// server may have forgotten it, and a password must not be the first to find out.
const IDLE: Duration = Duration::from_secs(30);

/// A service connection to other than the first server is replaced after so long, so that we
/// come back.
pub(super) const AWAY: Duration = Duration::from_secs(900);

/// The servers of one directory and the connections to them.
pub(super) struct Directory {
    pub(super) servers: Arc<Servers>,
    tls: Arc<ClientConfig>,
    account: Option<Account>,
    connect_timeout: Duration,
    timeout: Duration,
    /// One for each [`Lane`].
    service: [Mutex<Option<Arc<Link>>>; 2],
    idle: Mutex<Vec<(Link, Instant)>>,
}

/// Who searches.
enum Account {
    /// Of a DN and a password.
    Simple { dn: String, password: Zeroizing<String> },
    /// Whoever the connection itself says we are.
    External,
}

/// For whom a search is. On a connection answers come one after the other: a login's must not stand
/// behind those of lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Somebody is at a prompt.
    Logins,
    /// Some process wants to know a name.
    Lookups,
}

/// A step of making a connection, for [`super::check`].
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection.
    Connect(Trouble),
    /// The service account was refused.
    Bind(Trouble),
}

/// Why no server of some gives a connection.
enum Closed {
    /// Others may.
    Here(Vec<String>),
    /// No other is to be asked.
    Everywhere(String),
}

impl Directory {
    pub(super) fn new(config: &LdapConfig) -> Result<Self, String> {
        let servers = Arc::new(Servers::new(config)?);
        let account = match (&config.bind_dn, &config.bind_password_file) {
            (None, _) => config.bind_external.then_some(Account::External),
            (Some(dn), Some(file)) => {
                let password = file.secret().expose_str().ok_or("the password of bind_dn is not UTF-8")?;
                if dn.is_empty() || password.is_empty() {
                    return Err("bind_dn or its password is empty".into());
                }
                Some(Account::Simple { dn: dn.clone(), password: Zeroizing::new(password.to_owned()) })
            }
            (Some(_), None) => return Err("bind_dn has no bind_password_file".into()),
        };
        Ok(Self {
            servers,
            tls: crate::tls::config_with(&config.tls())?,
            account,
            connect_timeout: config.connect_timeout.0,
            timeout: config.timeout.0,
            service: [Mutex::new(None), Mutex::new(None)],
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Searches; once more over a fresh connection, perhaps of another server, if the first try
    /// had no answer.
    pub(super) async fn search(&self, lane: Lane, query: Query) -> Result<Vec<Entry>, Unavailable> {
        let mut whys = Vec::new();
        for _ in 0..2 {
            let link = match self.service(lane).await {
                Ok(link) => link,
                Err(why) => {
                    whys.push(why);
                    break;
                }
            };
            let answer = link.search(query.clone(), self.timeout);
            let answer = match lane {
                Lane::Logins => tokio::select! {
                    answer = answer => answer,
                    () = link.server.silence() => Err(Trouble::Slow("search")),
                },
                Lane::Lookups => answer.await,
            };
            match answer {
                Ok(entries) => {
                    link.server.is_heard();
                    return Ok(entries);
                }
                Err(trouble) => {
                    whys.push(self.failed(&link.server, &trouble));
                    if !trouble.is_of_the_server() {
                        break;
                    }
                    self.forget(&link);
                }
            }
        }
        Err(Unavailable(whys.join("; then ")))
    }

    /// Binds, once, over a connection that nobody else uses.
    pub(super) async fn bind(&self, dn: &str, password: &Zeroizing<String>) -> Result<Answer, Unavailable> {
        let mut link = match self.take_idle() {
            Some(link) => link,
            None => self.open(false).await.map_err(Unavailable)?,
        };
        match link.bind(dn, password, self.timeout).await {
            Ok(answer) => {
                link.server.is_heard();
                self.keep_idle(link);
                Ok(answer)
            }
            Err(trouble) => Err(Unavailable(self.failed(&link.server, &trouble))),
        }
    }

    /// Binds with the old password over a connection of its own and changes it there. The
    /// second answer is absent where the first is no success. `today`: to be written into shadowLastChange
    /// (shadow(5), days since 1970) by her who may, which not every server does by itself.
    pub(super) async fn change_password(
        &self,
        dn: &str,
        old: &Zeroizing<String>,
        new: &Zeroizing<String>,
        today: Option<i64>,
    ) -> Result<(Answer, Option<Answer>), Unavailable> {
        let mut link = self.open(false).await.map_err(Unavailable)?;
        let server = link.server.clone();
        let lost = |trouble| Unavailable(self.failed(&server, &trouble));
        let bound = link.bind(dn, old, self.timeout).await.map_err(lost)?;
        if bound.result.rc != 0 {
            return Ok((bound, None));
        }
        let changed = link.change_password(dn, old, new, self.timeout).await.map_err(lost)?;
        if let Some(today) = today.filter(|_| changed.result.rc == 0) {
            // Where she may not, the server's own overlay does it, or the administrator is told by the next login.
            let _ = link.replace(dn, "shadowLastChange", today.to_string(), self.timeout).await;
        }
        Ok((bound, Some(changed)))
    }

    /// The same in Active Directory, where an expired password binds nobody: the service account asks.
    pub(super) async fn change_unicode_pwd(
        &self,
        dn: &str,
        old: &Zeroizing<String>,
        new: &Zeroizing<String>,
    ) -> Result<Answer, Unavailable> {
        let mut link = self.open(true).await.map_err(Unavailable)?;
        let server = link.server.clone();
        if !server.is_private() {
            return Err(Unavailable("passwords are only changed over TLS".into()));
        }
        let lost = |trouble| Unavailable(self.failed(&server, &trouble));
        link.change_unicode_pwd(dn, old, new, self.timeout).await.map_err(lost)
    }

    /// One connection to one server, for [`super::check`] and [`Directory::open`].
    pub(super) async fn connect(&self, server: &Arc<Server>, as_service: bool) -> Result<Link, Failure> {
        let mut link = Link::open(server, &self.tls, self.connect_timeout).await.map_err(Failure::Connect)?;
        if let Some(account) = self.account.as_ref().filter(|_| as_service) {
            let bound = match account {
                Account::Simple { dn, password } => link.bind(dn, password, self.timeout).await.map(|b| b.result),
                Account::External => link.bind_external(self.timeout).await,
            };
            let bound = bound.map_err(Failure::Connect)?;
            if bound.rc != 0 {
                return Err(Failure::Bind(Trouble::Refused(Box::new(bound))));
            }
        }
        Ok(link)
    }

    /// The deadline of one operation.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Who searches, if not anybody.
    pub(super) fn bind_dn(&self) -> Option<&str> {
        self.account.as_ref().map(|account| match account {
            Account::Simple { dn, .. } => dn.as_str(),
            Account::External => "the client's certificate",
        })
    }

    /// The service connection, shared by all searches of the lane.
    async fn service(&self, lane: Lane) -> Result<Arc<Link>, String> {
        let service = self.lane(lane);
        let kept = lock(service).clone().filter(|link| !link.is_dead());
        let servers = self.servers.known();
        if let Some(link) = kept.as_ref().filter(|link| !is_away(link, &servers)) {
            return Ok(link.clone());
        }
        let link = match (self.open(true).await, kept) {
            (Ok(link), _) => Arc::new(link),
            (Err(_), Some(old)) => return Ok(old),
            (Err(why), None) => return Err(why),
        };
        *lock(service) = Some(link.clone());
        Ok(link)
    }

    fn lane(&self, lane: Lane) -> &Mutex<Option<Arc<Link>>> {
        let [logins, lookups] = &self.service;
        match lane {
            Lane::Logins => logins,
            Lane::Lookups => lookups,
        }
    }

    /// A connection to the first server that gives one.
    pub(super) async fn open(&self, as_service: bool) -> Result<Link, String> {
        let known = self.servers.known();
        let mut whys = match self.open_one(&known, as_service).await {
            Ok(link) => return Ok(link),
            Err(Closed::Everywhere(why)) => return Err(why),
            Err(Closed::Here(whys)) => whys,
        };
        // DNS may know others by now.
        let (all, answer) = self.servers.ask().await;
        let new = |server: &&Arc<Server>| !known.iter().any(|old| Arc::ptr_eq(old, server));
        let new: Vec<_> = all.iter().filter(new).cloned().collect();
        match self.open_one(&new, as_service).await {
            Ok(link) => return Ok(link),
            Err(Closed::Everywhere(why)) => return Err(why),
            Err(Closed::Here(more)) => whys.extend(more),
        }
        whys.extend(answer.err());
        Err(whys.join("; "))
    }

    async fn open_one(&self, servers: &[Arc<Server>], as_service: bool) -> Result<Link, Closed> {
        let mut whys = Vec::new();
        if servers.is_empty() {
            return Err(Closed::Here(whys));
        }
        for server in Server::order(servers, Instant::now()).map_err(|whys| Closed::Here(vec![whys]))? {
            match self.connect(&server, as_service).await {
                Ok(link) => {
                    server.is_up();
                    return Ok(link);
                }
                Err(Failure::Connect(trouble)) => whys.push(self.failed(&server, &trouble)),
                Err(Failure::Bind(trouble)) => {
                    let why = format!("refused bind_dn: {trouble}");
                    whys.push(self.down(&server, true, why));
                    if !trouble.is_of_the_server() {
                        // Another server would count one more failure of the service account.
                        return Err(Closed::Everywhere(whys.join("; ")));
                    }
                }
            }
        }
        Err(Closed::Here(whys))
    }

    /// Remembers what happened to a server, and says so for the administrator.
    pub(super) fn failed(&self, server: &Arc<Server>, trouble: &Trouble) -> String {
        if trouble.is_of_the_server() {
            return self.down(server, trouble.is_slow(), trouble.to_string());
        }
        format!("{} {trouble}", server.url)
    }

    fn down(&self, server: &Arc<Server>, slow: bool, why: String) -> String {
        if slow {
            // Whoever comes next shall not wait on an old connection for what hangs.
            lock(&self.idle).retain(|(link, _)| !Arc::ptr_eq(&link.server, server));
            for service in &self.service {
                let mut service = lock(service);
                if service.as_ref().is_some_and(|link| Arc::ptr_eq(&link.server, server)) {
                    *service = None;
                }
            }
        }
        let told = format!("{} {why}", server.url);
        server.is_down(slow, why);
        if slow {
            let (tls, connect_timeout, timeout) = (self.tls.clone(), self.connect_timeout, self.timeout);
            watch::begin(server, &watch::Limits { tls, connect_timeout, timeout });
        }
        told
    }

    /// Whether a better server is to be had than that of a connection: it is not one of ours (any longer), or for
    /// long not the first.
    pub(super) fn is_away(&self, link: &Link) -> bool {
        is_away(link, &self.servers.known())
    }

    fn forget(&self, link: &Arc<Link>) {
        for service in &self.service {
            let mut service = lock(service);
            if service.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, link)) {
                *service = None;
            }
        }
    }

    fn take_idle(&self) -> Option<Link> {
        let servers = self.servers.known();
        let mut idle = lock(&self.idle);
        idle.retain(|(link, since)| !link.is_dead() && since.elapsed() < IDLE && !is_away(link, &servers));
        idle.pop().map(|(link, _)| link)
    }

    /// It stays bound as whoever was last; the next bind begins by undoing that (RFC 4511 §4.2.1),
    /// and nothing but binds is ever done on it.
    fn keep_idle(&self, link: Link) {
        let mut idle = lock(&self.idle);
        if idle.len() < KEPT && !link.is_dead() {
            idle.push((link, Instant::now()));
        }
    }
}

fn is_away(link: &Link, servers: &[Arc<Server>]) -> bool {
    match servers.iter().position(|server| Arc::ptr_eq(server, &link.server)) {
        Some(0) => false,
        Some(_) => link.opened.elapsed() > AWAY,
        None => true,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
