//! One connection: made, bound, searched over.

use super::entry::Entry;
use super::ppolicy::{self, Policy};
use super::server::{Place, Security, Server};
use super::trouble::{Ended, Trouble, contain};
use ldap3::adapters::{Adapter, PagedResults};
use ldap3::exop::PasswordModify;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapResult, Mod, Scope, SearchEntry, SearchOptions, StdStream};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

/// Keepalive: a connection whose other end has silently gone is found after a minute.
const QUIET_S: u32 = 30;
const PROBE_S: u32 = 10;
const PROBES: u32 = 3;

/// Entries in a page.
const PAGE: i32 = 500;

/// A connection. Several searches may share it; a bind needs it alone (RFC 4511 §4.2.1). It is
/// closed when it is dropped.
pub(super) struct Link {
    ldap: Ldap,
    driver: Ended<()>,
    /// Whereto.
    pub(super) server: Arc<Server>,
    /// Since when it stands.
    pub(super) opened: Instant,
}

/// A search.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// Where.
    pub(super) base: String,
    /// How deep.
    pub(super) scope: Scope,
    /// What; every value in it is escaped.
    pub(super) filter: String,
    /// What is wanted of each entry.
    pub(super) attributes: Arc<[String]>,
    /// More entries than these are an error.
    pub(super) most: usize,
    /// In pages (RFC 2696): Active Directory gives no more than 1,000 entries at once.
    pub(super) paged: bool,
}

/// The answer to a bind or a password change.
#[derive(Debug)]
pub(super) struct Answer {
    /// The result.
    pub(super) result: LdapResult,
    /// What the password policy adds.
    pub(super) policy: Policy,
}

impl Link {
    /// Connects, with TLS where the url wants it. `limit` covers all of it.
    pub(super) async fn open(server: &Arc<Server>, tls: &Arc<ClientConfig>, limit: Duration) -> Result<Self, Trouble> {
        let (server, tls) = (server.clone(), tls.clone());
        contain(limit, "connect", async move {
            let (connection, ldap) = connect(server.place.clone(), tls).await?;
            // It is driven in a task of its own, which ends at the end of the connection, at the
            // first malformed message, and with us.
            let driver = Ended(tokio::spawn(async move {
                let _ = connection.drive().await;
            }));
            Ok(Link { ldap, driver, server, opened: Instant::now() })
        })
        .await
    }

    /// Whether it is known to have ended. `false` promises nothing.
    pub(super) fn is_dead(&self) -> bool {
        self.driver.0.is_finished() || self.ldap.clone().is_closed()
    }

    /// A handle for operations that outlast a deadline ([`super::sync`]); each must run in a task of its own.
    pub(super) fn handle(&self) -> Ldap {
        self.ldap.clone()
    }

    /// Searches. References to other servers are left out: they are not entries, and usual.
    pub(super) async fn search(&self, query: Query, limit: Duration) -> Result<Vec<Entry>, Trouble> {
        let mut ldap = self.ldap.clone();
        contain(limit, "search", async move {
            // The server should stop when we do.
            let seconds = i32::try_from(limit.as_secs() + 1).unwrap_or(i32::MAX);
            let most = i32::try_from(query.most).unwrap_or(i32::MAX);
            let options = SearchOptions::new().timelimit(seconds).sizelimit(most);
            let mut adapters: Vec<Box<dyn Adapter<'_, String, Arc<[String]>>>> = Vec::new();
            if query.paged {
                adapters.push(Box::new(PagedResults::new(PAGE)));
            }
            let mut stream = ldap
                .with_search_options(options)
                .streaming_search_with(adapters, &query.base, query.scope, &query.filter, query.attributes)
                .await?;
            let mut entries = Vec::new();
            let mut over = false;
            while let Some(raw) = stream.next().await? {
                // SearchEntry::construct panics on these.
                if raw.is_ref() || raw.is_intermediate() {
                    continue;
                }
                if entries.len() >= query.most {
                    over = true;
                    break;
                }
                entries.push(Entry::from(SearchEntry::construct(raw)));
            }
            let result = stream.finish().await;
            match result.rc {
                _ if over => Err(Trouble::TooMany(query.most)),
                0 => Ok(entries),
                // noSuchObject, invalidDNSyntax: what was asked for by its name is not there.
                32 | 34 if query.scope == Scope::Base => Ok(Vec::new()),
                // sizeLimitExceeded
                4 => Err(Trouble::TooMany(query.most)),
                _ => Err(Trouble::Refused(Box::new(result))),
            }
        })
        .await
    }

    /// A simple bind with the password policy control. The caller has made sure that neither
    /// name nor password is empty, which would be an anonymous bind that succeeds (RFC 4513 §5.1).
    pub(super) async fn bind(
        &mut self,
        dn: &str,
        password: &Zeroizing<String>,
        limit: Duration,
    ) -> Result<Answer, Trouble> {
        if dn.is_empty() || password.is_empty() {
            return Err(Trouble::Lost("a bind without name or password is never sent".into()));
        }
        let (mut ldap, dn, password) = (self.ldap.clone(), dn.to_owned(), password.clone());
        contain(limit, "bind", async move {
            let result = ldap.with_controls(ppolicy::request()).simple_bind(&dn, &password).await?;
            Ok(Answer::from(result))
        })
        .await
    }

    /// Lets the server take us for whoever TLS or the socket says we are (RFC 4422 appendix A).
    pub(super) async fn bind_external(&mut self, limit: Duration) -> Result<LdapResult, Trouble> {
        let mut ldap = self.ldap.clone();
        contain(limit, "bind", async move { Ok(ldap.sasl_external_bind().await?) }).await
    }

    /// The password modify operation (RFC 3062) on a connection that is bound as the person.
    pub(super) async fn change_password(
        &mut self,
        dn: &str,
        old: &Zeroizing<String>,
        new: &Zeroizing<String>,
        limit: Duration,
    ) -> Result<Answer, Trouble> {
        let (mut ldap, dn, old, new) = (self.ldap.clone(), dn.to_owned(), old.clone(), new.clone());
        contain(limit, "password change", async move {
            let change = PasswordModify { user_id: Some(&dn), old_pass: Some(&old), new_pass: Some(&new) };
            let answer = ldap.with_controls(ppolicy::request()).extended(change).await?;
            Ok(Answer::from(answer.1))
        })
        .await
    }
}

impl Link {
    /// Changes a password as Active Directory wants it ([MS-ADTS] 3.1.1.3.1.5): the old value of unicodePwd goes
    /// and the new one comes, in one request, by whoever may try; the server compares the old one.
    pub(super) async fn change_unicode_pwd(
        &mut self,
        dn: &str,
        old: &Zeroizing<String>,
        new: &Zeroizing<String>,
        limit: Duration,
    ) -> Result<Answer, Trouble> {
        let (mut ldap, dn) = (self.ldap.clone(), dn.to_owned());
        let (old, new) = (quoted_utf_16(old), quoted_utf_16(new));
        contain(limit, "password change", async move {
            let attribute = || b"unicodePwd".to_vec();
            let changes =
                vec![Mod::Delete(attribute(), HashSet::from([old])), Mod::Add(attribute(), HashSet::from([new]))];
            Ok(Answer::from(ldap.modify(&dn, changes).await?))
        })
        .await
    }

    /// Gives an attribute its one value.
    pub(super) async fn replace(
        &mut self,
        dn: &str,
        attribute: &str,
        value: String,
        limit: Duration,
    ) -> Result<LdapResult, Trouble> {
        let (mut ldap, dn, attribute) = (self.ldap.clone(), dn.to_owned(), attribute.to_owned());
        contain(limit, "modify", async move {
            Ok(ldap.modify(&dn, vec![Mod::Replace(attribute, HashSet::from([value]))]).await?)
        })
        .await
    }
}

/// A value of unicodePwd: in quotes, UTF-16 from the small end. The library keeps it in memory, as it does all
/// passwords.
fn quoted_utf_16(password: &str) -> Vec<u8> {
    let quoted = Zeroizing::new(format!("\"{password}\""));
    quoted.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

impl From<LdapResult> for Answer {
    fn from(result: LdapResult) -> Self {
        let policy = Policy::of(&result.ctrls);
        Self { result, policy }
    }
}

async fn connect(place: Place, tls: Arc<ClientConfig>) -> Result<(LdapConnAsync, Ldap), Trouble> {
    let unreachable = |e: std::io::Error| Trouble::Unreachable(e.to_string());
    let settings = LdapConnSettings::new().set_config(tls);
    // The sockets are made here: the library would set neither keepalive nor nodelay, and its
    // errors would not tell a refused connection from a failed handshake.
    let (settings, url) = match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(&path).await.and_then(UnixStream::into_std).map_err(unreachable)?;
            (settings.set_std_stream(StdStream::Unix(stream)), "ldapi://socket".to_owned())
        }
        Place::Tcp { host, port, security } => {
            let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
            keep_alive(&stream).map_err(unreachable)?;
            let stream = stream.into_std().map_err(unreachable)?;
            let scheme = if security == Security::Ldaps { "ldaps" } else { "ldap" };
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            let settings = settings.set_starttls(security == Security::StartTls);
            (settings.set_std_stream(StdStream::Tcp(stream)), format!("{scheme}://{host}:{port}"))
        }
    };
    Ok(LdapConnAsync::with_settings(settings, &url).await?)
}

fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &QUIET_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &PROBES)?;
    Ok(())
}
