//! A server that hangs: it takes connections and answers nothing. Whoever asked it first has waited; from then on nobody
//! does but a task that asks it again and again, so that everybody else is told at once that it is away, and that it
//! is back within a moment of its return.

use super::link::{Link, Query};
use super::server::{Memory, Server};
use super::trouble::{Ended, Trouble};
use ldap3::Scope;
use rustls::ClientConfig;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two questions. The answer to one that was asked while it hung comes at once when it is back.
const PAUSE: Duration = Duration::from_millis(250);

/// How to ask.
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// Begins, unless it is begun. Ends with the server's memory, or when that says that it is up or gone.
pub(super) fn begin(server: &Server, limits: &Limits) {
    let (place, limits) = (Arc::new(server.without_memory()), limits.clone());
    server.memory.watch(|memory| Ended(tokio::spawn(watch(place, memory, limits))));
}

async fn watch(server: Arc<Server>, memory: Weak<Memory>, limits: Limits) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let answer = ask(&server, &limits).await;
        let Some(memory) = memory.upgrade() else { return };
        match answer {
            Err(trouble) if trouble.is_slow() => {}
            Err(trouble) if trouble.is_of_the_server() => return memory.is_gone(trouble.to_string()),
            // What it refuses, it has answered.
            _ => return memory.is_up(),
        }
    }
}

/// What every server tells everybody, of itself (RFC 4512 §5.1). No password of anybody's is sent.
async fn ask(server: &Arc<Server>, limits: &Limits) -> Result<(), Trouble> {
    let link = Link::open(server, &limits.tls, limits.connect_timeout).await?;
    let query = Query {
        base: String::new(),
        scope: Scope::Base,
        filter: "(objectClass=*)".into(),
        attributes: ["1.1".to_owned()].into(),
        most: 1,
        paged: false,
    };
    link.search(query, limits.timeout).await.map(|_| ())
}
