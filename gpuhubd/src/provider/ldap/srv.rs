//! Which servers there are: those of the configuration, then those that DNS names (RFC 2782).
//!
//! DNS is asked in a task of its own, and nobody who has a server waits for it: what it said last is used until
//! it says something else, also past its time and while DNS is away. Only who has found no server at all waits,
//! `connect_timeout` at most. That there are no records, or that the service is not offered (a target of "."), is
//! an answer, too.
//!
//! An answer proves nothing: who can forge one names a host of his own, which may well have a certificate of a CA
//! that everybody trusts. So a target must lie under the domain, where such a certificate is not to be had.

use super::server::Server;
use super::trouble::{Trouble, contain};
use crate::config::LdapConfig;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::proto::{ProtoError, ProtoErrorKind};
use hickory_resolver::{Resolver, system_conf};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// An answer is used for at least so long, whatever it says of itself.
const SHORTEST: Duration = Duration::from_secs(30);

/// And at most so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// DNS is asked again after so long where it did not answer, or where none of its servers did.
const PAUSE: Duration = Duration::from_secs(5);

/// More servers than these are left out.
const MOST: usize = 32;

/// The servers of one directory.
pub(super) struct Servers {
    fixed: Vec<Arc<Server>>,
    srv: Option<Srv>,
    state: Mutex<State>,
    /// Changes when a question has come to its end.
    rounds: watch::Sender<u64>,
}

struct State {
    all: Arc<[Arc<Server>]>,
    /// When DNS is to be asked, whether or not somebody waits for it.
    due: Instant,
    /// When it was asked last.
    asked: Option<Instant>,
    asking: bool,
    /// What was wrong with the last answer.
    wrong: Option<String>,
}

/// What is asked, and of whom.
#[derive(Debug, Clone)]
struct Srv {
    /// With the dot at its end: no search list applies.
    name: String,
    /// Targets must lie there.
    within: Option<String>,
    scheme: &'static str,
    start_tls: bool,
    /// Absent: those of /etc/resolv.conf.
    dns: Vec<SocketAddr>,
    limit: Duration,
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

#[derive(Debug)]
struct Answer {
    records: Vec<Record>,
    ttl: Duration,
}

impl Servers {
    /// Asks nobody yet.
    pub(super) fn new(config: &LdapConfig) -> Result<Self, String> {
        let fixed = config.urls.iter().map(|u| Server::new(u, config.start_tls).map(Arc::new));
        let fixed = fixed.collect::<Result<Vec<_>, _>>()?;
        let srv = config.srv_domain.as_deref().map(|domain| Srv {
            name: format!("_{}._tcp.{domain}.", config.srv_scheme().name()),
            within: (!config.srv_targets_anywhere).then(|| organisation(domain).to_ascii_lowercase()),
            scheme: config.srv_scheme().name(),
            start_tls: config.start_tls,
            dns: config.srv_dns.clone(),
            limit: config.connect_timeout.0,
        });
        if fixed.is_empty() && srv.is_none() {
            return Err("no urls".into());
        }
        let all = fixed.clone().into();
        let state = State { all, due: Instant::now(), asked: None, asking: false, wrong: None };
        Ok(Self { fixed, srv, state: Mutex::new(state), rounds: watch::Sender::new(0) })
    }

    /// Those that are known now, in the order in which they are to be asked. Asks DNS where it is time to.
    pub(super) fn known(self: &Arc<Self>) -> Arc<[Arc<Server>]> {
        let mut state = self.state();
        if Instant::now() >= state.due {
            self.begin(&mut state);
        }
        state.all.clone()
    }

    /// Those that there are now that no known one works: waits for DNS, unless it was asked a moment ago. The error
    /// is what was wrong with its answer.
    pub(super) async fn ask(self: &Arc<Self>) -> (Arc<[Arc<Server>]>, Result<(), String>) {
        let mut round = self.rounds.subscribe();
        let asking = {
            let mut state = self.state();
            if state.asked.is_none_or(|at| at.elapsed() >= PAUSE) {
                self.begin(&mut state);
            }
            state.asking
        };
        if let Some(srv) = self.srv.as_ref().filter(|_| asking) {
            // The question has a limit of its own; this one is for the case that its task was ended.
            let _ = tokio::time::timeout(srv.limit * 2, round.changed()).await;
        }
        let state = self.state();
        (state.all.clone(), state.wrong.clone().map_or(Ok(()), Err))
    }

    /// Starts the question, if there is one and it does not run.
    fn begin(self: &Arc<Self>, state: &mut State) {
        let Some(srv) = self.srv.clone().filter(|_| !state.asking) else { return };
        state.asking = true;
        state.asked = Some(Instant::now());
        let servers = self.clone();
        tokio::spawn(async move {
            let limit = srv.limit;
            let asked = srv.clone();
            let answer = contain(limit, "DNS", async move { Ok(asked.ask().await) }).await;
            let answer = answer.unwrap_or_else(|trouble: Trouble| Err(trouble.to_string()));
            servers.take(&srv, answer, Instant::now());
        });
    }

    /// Takes an answer, or that there is none.
    fn take(&self, srv: &Srv, answer: Result<Answer, String>, now: Instant) {
        let mut state = self.state();
        state.asking = false;
        state.due = now + PAUSE;
        match answer {
            Err(why) => state.wrong = Some(format!("DNS has no answer for {}: {why}", srv.name)),
            Ok(answer) => {
                let (targets, refused) = srv.targets(answer.records);
                let mut all = self.fixed.clone();
                all.extend(targets.into_iter().map(|new| {
                    // One that stays keeps its connections, and what is remembered of it.
                    let same = state.all.iter().find(|old| old.url == new.url).cloned();
                    same.unwrap_or_else(|| Arc::new(new))
                }));
                let nothing_else = all.len() == self.fixed.len() && !refused.is_empty();
                state.wrong = match refused.is_empty() {
                    false => Some(format!("of the servers that DNS names at {} {}", srv.name, refused.join("; "))),
                    true if all.is_empty() => Some(format!("DNS names no server at {}", srv.name)),
                    true => None,
                };
                if !nothing_else {
                    state.all = all.into();
                    state.due = now + answer.ttl.clamp(SHORTEST, LONGEST);
                }
            }
        }
        drop(state);
        self.rounds.send_modify(|round| *round += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Srv {
    async fn ask(&self) -> Result<Answer, String> {
        // Read each time: the box may have moved to another network.
        let (mut config, mut options) = system_conf::read_system_conf().or_else(|e| match self.dns.is_empty() {
            true => Err(format!("/etc/resolv.conf: {e}")),
            false => Ok(Default::default()),
        })?;
        if !self.dns.is_empty() {
            config = ResolverConfig::new();
            for address in &self.dns {
                config.add_name_server(NameServerConfig::new(*address, Protocol::Udp));
                config.add_name_server(NameServerConfig::new(*address, Protocol::Tcp));
            }
        }
        // What is lost is asked for again, and of the next one, within the limit.
        (options.timeout, options.attempts) = (self.limit / 4, 2);
        options.use_hosts_file = ResolveHosts::Never;
        let resolver =
            Resolver::builder_with_config(config, TokioConnectionProvider::default()).with_options(options).build();
        let name = Name::from_ascii(&self.name).map_err(|e| e.to_string())?;
        let found = match resolver.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) => return none(error.proto()).ok_or_else(|| error.to_string()),
        };
        let ttl = found.as_lookup().record_iter().map(|record| record.ttl()).min().unwrap_or_default();
        let records = found.iter().map(|srv| Record {
            priority: srv.priority(),
            weight: srv.weight(),
            port: srv.port(),
            target: srv.target().to_ascii(),
        });
        Ok(Answer { records: records.collect(), ttl: Duration::from_secs(ttl.into()) })
    }

    /// The servers in the order in which they are to be asked, and why others are none.
    fn targets(&self, records: Vec<Record>) -> (Vec<Server>, Vec<String>) {
        let (mut servers, mut refused, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for record in in_order(records, random).into_iter().take(MOST) {
            let target = record.target.trim_end_matches('.').to_ascii_lowercase();
            // RFC 2782: decidedly not available.
            if target.is_empty() {
                continue;
            }
            let url = format!("{}://{target}:{}", self.scheme, record.port);
            match self.check(&target).and_then(|()| Server::new(&url, self.start_tls)) {
                Ok(server) if seen.insert(url) => servers.push(server),
                Ok(_) => {}
                Err(why) => refused.push(why),
            }
        }
        (servers, refused)
    }

    fn check(&self, target: &str) -> Result<(), String> {
        if target.parse::<IpAddr>().is_ok() {
            return Err(format!("{target} is no host's name"));
        }
        match &self.within {
            Some(domain) if !lies_under(target, domain) => Err(format!("{target} is not under {domain}")),
            _ => Ok(()),
        }
    }
}

/// The domain itself, without the labels that stand for a part of its servers: `dc._msdcs.example.org`,
/// `paris._sites.example.org`.
fn organisation(domain: &str) -> &str {
    let mut rest = domain;
    let mut found = domain;
    while let Some((label, after)) = rest.split_once('.') {
        if label.starts_with('_') {
            found = after;
        }
        rest = after;
    }
    found
}

fn lies_under(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The answer that there is nothing, if it is one. A server that cannot say (SERVFAIL, REFUSED) has not said so.
fn none(error: Option<&ProtoError>) -> Option<Answer> {
    match error?.kind() {
        ProtoErrorKind::NoRecordsFound {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            negative_ttl,
            ..
        } => {
            let ttl = Duration::from_secs(negative_ttl.unwrap_or_default().into());
            Some(Answer { records: Vec::new(), ttl })
        }
        _ => None,
    }
}

/// RFC 2782: by priority, and among equals drawn by weight. `random` gives a number from 0 to its argument.
fn in_order(mut records: Vec<Record>, mut random: impl FnMut(u64) -> u64) -> Vec<Record> {
    // Those without a weight first, so that they are drawn by a zero and by nothing else.
    records.sort_by_key(|r| (r.priority, r.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|r| r.priority) {
        let equals = || records.iter().take_while(|r| r.priority == priority);
        let drawn = random(equals().map(|r| u64::from(r.weight)).sum());
        let mut sum = 0;
        let index = equals().position(|r| {
            sum += u64::from(r.weight);
            sum >= drawn
        });
        ordered.push(records.remove(index.unwrap_or_default()));
    }
    ordered
}

/// From 0 to `most`. Without a source of randomness it is 0: any order is one.
fn random(most: u64) -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes) % (most + 1)
}

#[cfg(test)]
#[path = "srv_tests.rs"]
mod tests;
