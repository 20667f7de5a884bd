//! One server: its address (RFC 4516 as far as an address goes), and a short memory of its
//! having been down.

use super::trouble::Ended;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A server that failed is asked after the others for so long.
const SHUNNED: Duration = Duration::from_secs(10);

/// A server that made somebody wait is not asked at all for so long, even if there is no other:
/// the next ones fail at once instead of waiting too.
const RESTED: Duration = Duration::from_secs(1);

/// A server that has said nothing to anybody for so long hangs, as far as a login is concerned: the search that it
/// begins with is a small one. One that is merely busy answers somebody meanwhile.
const SILENCE: Duration = Duration::from_millis(2500);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `ldap://` and `ldaps://`
    Tcp {
        /// Name, or address without brackets.
        host: String,
        /// Port.
        port: u16,
        /// How it is protected.
        security: Security,
    },
    /// `ldapi://`: path of a socket.
    Unix(PathBuf),
}

/// How a TCP connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    /// Not at all.
    Plain,
    /// StartTLS (RFC 4511 §4.14).
    StartTls,
    /// TLS from the first byte.
    Ldaps,
}

/// A server that is configured, or that DNS names.
#[derive(Debug)]
pub(super) struct Server {
    /// The url as written, or as it would be.
    pub(super) url: String,
    /// The same, taken apart.
    pub(super) place: Place,
    pub(super) memory: Arc<Memory>,
}

/// What is known of how it does.
#[derive(Debug, Default)]
pub(super) struct Memory {
    down: Mutex<Option<Down>>,
    heard: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    slow: bool,
    why: String,
    watch: Option<Ended<()>>,
}

impl Down {
    /// Whether somebody asks it again and again, so that nobody else need ([`super::watch`]).
    fn is_watched(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.0.is_finished())
    }
}

impl Server {
    /// Parses a url. `start_tls` is for `ldap://` alone.
    pub(super) fn new(url: &str, start_tls: bool) -> Result<Self, String> {
        let place = parse(url, start_tls).map_err(|why| format!("the url {url} {why}"))?;
        Ok(Self { url: url.to_owned(), place, memory: Arc::default() })
    }

    /// The same, of which nothing is known.
    pub(super) fn without_memory(&self) -> Self {
        Self { url: self.url.clone(), place: self.place.clone(), memory: Arc::default() }
    }

    /// Whether nobody else can read what is sent to it.
    pub(super) fn is_private(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp { security, .. } => *security != Security::Plain,
        }
    }

    /// Remembers that it failed.
    pub(super) fn is_down(&self, slow: bool, why: String) {
        let mut down = self.memory.down();
        // Whoever watches it knows better.
        if !down.as_ref().is_some_and(Down::is_watched) {
            *down = Some(Down { since: Instant::now(), slow, why, watch: None });
        }
    }

    /// Whether it failed when it was last asked.
    pub(super) fn seems_down(&self) -> bool {
        self.memory.down().is_some()
    }

    /// Remembers that it works.
    pub(super) fn is_up(&self) {
        self.memory.is_up();
    }

    /// Remembers that it has answered something just now, whatever it was.
    pub(super) fn is_heard(&self) {
        *self.memory.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns when from now on it has answered nothing to anybody for [`SILENCE`].
    pub(super) async fn silence(&self) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until((since + SILENCE).into()).await;
            match *self.memory.heard.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(heard) if heard > since => since = heard,
                _ => return,
            }
        }
    }

    /// In which order the servers are asked now; the error says why none is.
    pub(super) fn order(servers: &[Arc<Server>], now: Instant) -> Result<Vec<Arc<Server>>, String> {
        let (mut up, mut shunned, mut whys) = (Vec::new(), Vec::new(), Vec::new());
        for server in servers {
            match server.memory.down().as_ref().filter(|d| d.is_watched() || now.duration_since(d.since) < SHUNNED) {
                None => up.push(server.clone()),
                Some(down) if down.is_watched() || down.slow && now.duration_since(down.since) < RESTED => {
                    whys.push(format!("{} {} a moment ago", server.url, down.why));
                }
                Some(_) => shunned.push(server.clone()),
            }
        }
        up.extend(shunned);
        if up.is_empty() { Err(whys.join("; ")) } else { Ok(up) }
    }
}

impl Memory {
    pub(super) fn is_up(&self) {
        *self.down() = None;
    }

    /// It hangs no more: there is no server.
    pub(super) fn is_gone(&self, why: String) {
        *self.down() = Some(Down { since: Instant::now(), slow: false, why, watch: None });
    }

    /// Has it watched by the task that `start` starts, if it is one that hangs and is not watched yet.
    pub(super) fn watch(self: &Arc<Self>, start: impl FnOnce(Weak<Self>) -> Ended<()>) {
        if let Some(down) = self.down().as_mut().filter(|down| down.slow && !down.is_watched()) {
            down.watch = Some(start(Arc::downgrade(self)));
        }
    }

    fn down(&self) -> std::sync::MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(url: &str, start_tls: bool) -> Result<Place, String> {
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme")?;
    let (security, default_port) = match scheme {
        "ldapi" => return socket_path(rest).map(Place::Unix),
        "ldap" if start_tls => (Security::StartTls, 389),
        "ldap" => (Security::Plain, 389),
        "ldaps" => (Security::Ldaps, 636),
        _ => return Err("is not ldaps://, ldap:// or ldapi://".into()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((address, after)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "has a malformed address")?;
            if security != Security::Plain {
                return Err("has a bare IPv6 address, which TLS cannot check here; write a host name".into());
            }
            (address, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or("has a malformed port")?)
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err("has no plain host name (only host and port are taken from it)".into());
    }
    let port = match port {
        "" => default_port,
        digits => digits.parse().ok().filter(|p| *p != 0).ok_or("has a malformed port")?,
    };
    Ok(Place::Tcp { host: host.to_owned(), port, security })
}

/// `ldapi://%2Frun%2Fslapd%2Fldapi` as OpenLDAP writes it, or simply `ldapi:///run/slapd/ldapi`.
fn socket_path(rest: &str) -> Result<PathBuf, String> {
    let mut path = Vec::new();
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|d| d.and_then(|d| char::from(d).to_digit(16)));
                let [Some(high), Some(low)] = digits else { return Err("has a malformed escape".into()) };
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            byte => byte,
        };
        path.push(byte);
    }
    let path = String::from_utf8(path).map_err(|_| "is not UTF-8")?;
    if !path.starts_with('/') || path.len() < 2 || path.contains('\0') {
        return Err("names no socket; write ldapi:///run/slapd/ldapi".into());
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, security: Security) -> Result<Place, String> {
        Ok(Place::Tcp { host: host.into(), port, security })
    }

    #[test]
    fn urls() {
        assert_eq!(parse("ldaps://ldap.example.org", false), tcp("ldap.example.org", 636, Security::Ldaps));
        assert_eq!(parse("ldaps://ldap.example.org:1636/", true), tcp("ldap.example.org", 1636, Security::Ldaps));
        assert_eq!(parse("ldap://10.0.0.1", true), tcp("10.0.0.1", 389, Security::StartTls));
        assert_eq!(parse("ldap://[::1]:1389", false), tcp("::1", 1389, Security::Plain));
        let socket = Ok(Place::Unix("/run/slapd/ldapi".into()));
        assert_eq!(parse("ldapi://%2Frun%2fslapd%2Fldapi", false), socket);
        assert_eq!(parse("ldapi:///run/slapd/ldapi", false), socket);
    }

    #[test]
    fn urls_that_are_refused() {
        for url in [
            "",
            "ldaps:/x",
            "http://x",
            "ldap://",
            "ldap:///",
            "ldap:///dc=x",
            "ldap://user@host",
            "ldap://host/dc=x",
            "ldap://host?uid",
            "ldap://host:0",
            "ldap://host:70000",
            "ldap://host:x",
            "ldap://[::1",
            "ldap://[::1]x",
            "ldaps://[::1]",
            "ldap://a b",
            "ldapi://",
            "ldapi:///",
            "ldapi://%2",
            "ldapi://relative",
            "ldapi://%2Frun%00",
        ] {
            assert!(parse(url, false).is_err(), "{url}");
        }
    }

    #[test]
    fn a_dead_server_is_asked_last_and_a_hung_one_not_at_all() {
        let servers = ["ldap://a", "ldap://b"].map(|u| Arc::new(Server::new(u, false).unwrap()));
        let order = |now| {
            let order = Server::order(&servers, now)?;
            let index = |one| servers.iter().position(|server| Arc::ptr_eq(server, one)).unwrap();
            Ok::<Vec<_>, String>(order.iter().map(index).collect())
        };
        let now = Instant::now();
        let later = |s| now + Duration::from_secs(s);
        assert_eq!(order(now), Ok(vec![0, 1]));
        servers[0].is_down(false, "refused".into());
        assert_eq!(order(now), Ok(vec![1, 0]));
        servers[0].is_down(true, "hung".into());
        assert_eq!(order(now), Ok(vec![1]));
        servers[1].is_down(true, "hung too".into());
        let why = order(Instant::now()).unwrap_err();
        assert_eq!(why, "ldap://a hung a moment ago; ldap://b hung too a moment ago");
        assert_eq!(order(later(2)), Ok(vec![0, 1]));
        servers[1].is_up();
        assert_eq!(order(later(2)), Ok(vec![1, 0]));
        assert_eq!(order(later(12)), Ok(vec![0, 1]));
    }

    #[tokio::test]
    async fn silence_begins_anew_with_every_answer() {
        let server = Server::new("ldap://a", false).unwrap();
        server.is_heard();
        let start = Instant::now();
        let answer = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.is_heard();
        };
        tokio::join!(server.silence(), answer);
        assert!(start.elapsed() >= SILENCE + Duration::from_millis(500), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn what_is_watched_is_asked_by_nobody_else() {
        let servers = ["ldap://a"].map(|u| Arc::new(Server::new(u, false).unwrap()));
        let order = |now| Server::order(&servers, now).map(|order| order.len());
        let memory = &servers[0].memory;
        let hangs = |_: Weak<Memory>| Ended(tokio::spawn(std::future::pending()));
        memory.watch(hangs);
        assert_eq!(order(Instant::now()), Ok(1), "nobody has waited for it");
        servers[0].is_down(true, "hung".into());
        memory.watch(hangs);
        let much_later = Instant::now() + SHUNNED * 2;
        assert!(order(much_later).is_err());
        servers[0].is_down(false, "an old connection ended".into());
        assert!(order(much_later).is_err());
        memory.is_gone("refused".into());
        assert_eq!(order(Instant::now()), Ok(1));
        // A watch that has ended in another way does not keep it away for good.
        servers[0].is_down(true, "hung".into());
        memory.watch(|_| Ended(tokio::spawn(async {})));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(order(Instant::now() + RESTED), Ok(1));
    }
}
