//! The registry in a PostgreSQL database: one connection, made when it is needed, given up when an
//! answer is late.

use super::tls::Tls;
use super::{Change, Claim, Claimed, Followed, RegistryError};
use crate::model::PersonKey;
use crate::store::{GivenId, IdKind, Source};
use gpuhub_common::secret::Secret;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls, Row};

/// So long a connection, its TLS handshake and the authentication may take.
const CONNECT: Duration = Duration::from_secs(2);
/// So long a statement may take.
const ANSWER: Duration = Duration::from_secs(2);
/// After a failure nobody tries again for so long, doubled each time up to the second.
const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// Rows that are followed at once.
const FOLLOW: i64 = 1000;

/// The tables and functions; where the broker's role may not make them, the administrator does.
pub const SCHEMA: &str = include_str!("schema-1.sql");

/// A registry that can be asked from many tasks at once.
pub struct Postgres {
    config: Config,
    /// None: a server on this very machine, without TLS.
    tls: Option<Tls>,
    state: Mutex<State>,
    /// Held by whoever connects, for [`CONNECT`] at the longest.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    failures: u32,
    retry_at: Option<Instant>,
    last: String,
}

impl Postgres {
    /// The registry at `url` (libpq's URI form, without a password). A server that is not on this
    /// machine must show a certificate for its name; one that is, if `ca_file` is given.
    pub fn new(url: &str, password: Option<&Secret>, ca_file: Option<&str>) -> Result<Self, String> {
        let mut config: Config = url.parse().map_err(|e| format!("registry: {e}"))?;
        if config.get_password().is_some() {
            return Err(
                "registry: the password is in the URL; write it to a file and set registry_password_file".into()
            );
        }
        if config.get_hosts().is_empty() {
            return Err("registry: the URL names no host".into());
        }
        // An address beside the names is where the connection goes (libpq, hostaddr).
        let here = config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
            && config.get_hosts().iter().all(|h| match h {
                Host::Tcp(name) => {
                    name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
                }
                Host::Unix(_) => true,
            });
        let tls = if here && ca_file.is_none() { None } else { Some(Tls(crate::tls::client_config(ca_file)?)) };
        config
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(30))
            .application_name("gpuhub")
            .options(format!(
                "-c statement_timeout={} -c lock_timeout={} -c default_transaction_isolation=read\\ committed",
                ANSWER.as_millis() * 9 / 10,
                ANSWER.as_millis() * 8 / 10
            ));
        if let Some(password) = password {
            config.password(password.expose());
        }
        let state = Mutex::new(State::default());
        Ok(Self { config, tls, state, connecting: tokio::sync::Mutex::new(()) })
    }

    /// Gives an id and binds the name, or says what was given before.
    pub async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, RegistryError> {
        let candidates: Vec<i64> = claim.candidates.iter().map(|id| i64::from(*id)).collect();
        let (issuer, subject) = claim.key.map(|k| (k.issuer.as_str(), k.subject.as_str())).unzip();
        let row = self
            .ask(|client| async move {
                client
                    .query_one(
                        "SELECT o_id, o_probes, o_group, o_source FROM gpuhub_claim($1, $2, $3, $4, $5, $6, $7)",
                        &[
                            &claim.kind.as_str(),
                            &claim.name,
                            &claim.own_group,
                            &candidates,
                            &claim.source.as_str(),
                            &issuer,
                            &subject,
                        ],
                    )
                    .await
            })
            .await?;
        let (id, probes): (i64, i32) = (get(&row, 0)?, get(&row, 1)?);
        let source: String = get(&row, 3)?;
        Ok(Claimed {
            id: legal_id(id)?,
            source: Source::parse(&source).ok_or_else(|| broken("an unknown source"))?,
            probes: u32::try_from(probes).unwrap_or(0),
            group: get(&row, 2)?,
        })
    }

    /// The id that a user with a group of her own would get.
    pub async fn preview(&self, name: &str, candidates: &[u32]) -> Result<Option<u32>, RegistryError> {
        let candidates: Vec<i64> = candidates.iter().map(|id| i64::from(*id)).collect();
        let row = self
            .ask(|c| async move { c.query_one("SELECT gpuhub_preview($1, $2)", &[&name, &candidates]).await })
            .await?;
        get::<Option<i64>>(&row, 0)?.map(legal_id).transpose()
    }

    /// Gives all of `names` the id `id`.
    pub async fn set(&self, names: &[(IdKind, &str)], id: u32, source: Source) -> Result<(), RegistryError> {
        let (kinds, names): (Vec<&str>, Vec<&str>) = names.iter().map(|(k, n)| (k.as_str(), *n)).unzip();
        let id = i64::from(id);
        self.ask(|c| async move {
            c.execute("SELECT gpuhub_set($1, $2, $3, $4)", &[&kinds, &names, &id, &source.as_str()]).await
        })
        .await
        .map(|_| ())
    }

    /// Gives what `old` has to `new`; that `new` has the uid already is the answer to asking again.
    pub async fn rename(&self, kinds: &[IdKind], old: &str, new: &str, uid: Option<u32>) -> Result<(), RegistryError> {
        let kinds: Vec<&str> = kinds.iter().map(|k| k.as_str()).collect();
        let uid = uid.map(i64::from);
        self.ask(|c| async move { c.execute("SELECT gpuhub_move($1, $2, $3, $4)", &[&kinds, &old, &new, &uid]).await })
            .await
            .map(|_| ())
    }

    /// Binds a name to a key.
    pub async fn bind(&self, name: &str, key: &PersonKey) -> Result<(), RegistryError> {
        self.ask(
            |c| async move { c.execute("SELECT gpuhub_bind($1, $2, $3)", &[&name, &key.issuer, &key.subject]).await },
        )
        .await
        .map(|_| ())
    }

    /// Notes an id that a name once had and nobody ever gets; the name that has or had it.
    pub async fn retire(&self, retired: &GivenId) -> Result<String, RegistryError> {
        let (kind, id) = (retired.kind.as_str(), i64::from(retired.id));
        self.ask(|c| async move {
            c.execute(
                "INSERT INTO gpuhub_ids (kind, id, name, source, retired_at) VALUES ($1, $2, $3, $4, now())
                 ON CONFLICT DO NOTHING",
                &[&kind, &id, &retired.name, &retired.source.as_str()],
            )
            .await
        })
        .await?;
        let row = self
            .ask(|c| async move {
                c.query_one("SELECT name FROM gpuhub_ids WHERE kind = $1 AND id = $2", &[&kind, &id]).await
            })
            .await?;
        get(&row, 0)
    }

    /// The id that a name has.
    pub async fn id_of(&self, kind: IdKind, name: &str) -> Result<Option<u32>, RegistryError> {
        let row = self
            .ask(|c| async move {
                let sql = "SELECT id FROM gpuhub_ids WHERE kind = $1 AND name = $2 AND retired_at IS NULL";
                c.query_opt(sql, &[&kind.as_str(), &name]).await
            })
            .await?;
        row.map(|r| get(&r, 0).and_then(legal_id)).transpose()
    }

    /// The key that a name is bound to, as issuer and subject.
    pub async fn binding(&self, name: &str) -> Result<Option<(String, String)>, RegistryError> {
        let row = self
            .ask(|c| async move {
                c.query_opt("SELECT issuer, subject FROM gpuhub_bindings WHERE name = $1", &[&name]).await
            })
            .await?;
        row.map(|r| Ok((get(&r, 0)?, get(&r, 1)?))).transpose()
    }

    /// The changes from number `serial` on, in order; not all of them at once.
    pub async fn changes(&self, serial: i64) -> Result<Vec<Followed>, RegistryError> {
        let rows = self
            .ask(|c| async move {
                let sql = "SELECT serial, kind, id, name, was FROM gpuhub_changes
                           WHERE serial >= $1 ORDER BY serial LIMIT $2";
                c.query(sql, &[&serial, &FOLLOW]).await
            })
            .await?;
        rows.iter().map(change).collect()
    }

    /// Runs one statement on a connection that works.
    async fn ask<T, F>(&self, statement: impl FnOnce(Arc<Client>) -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let client = self.client().await?;
        match tokio::time::timeout(ANSWER, statement(Arc::clone(&client))).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(match e.as_db_error() {
                Some(db) => match db.code().code() {
                    "GH001" => RegistryError::NameTaken(db.message().to_owned()),
                    "GH002" => RegistryError::NoId(db.message().to_owned()),
                    "GH003" => RegistryError::Collision(db.message().to_owned()),
                    // Another box was faster, between our look and our insert.
                    "23505" => RegistryError::Collision(db.message().to_owned()),
                    // A lock or a statement that took too long, a deadlock: the connection is well.
                    code if code == "57014" || ["40", "55"].iter().any(|class| code.starts_with(class)) => {
                        RegistryError::Unavailable(db.message().to_owned())
                    }
                    // Out of something, shutting down: classes 53, 57, 58.
                    code if ["53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
                        self.lost(&client, db.message())
                    }
                    _ => RegistryError::Broken(db.message().to_owned()),
                },
                None => self.lost(&client, &plain(&e)),
            }),
            Err(_) => Err(self.lost(&client, "no answer in time")),
        }
    }

    async fn client(&self) -> Result<Arc<Client>, RegistryError> {
        if let Some(client) = self.usable()? {
            return Ok(client);
        }
        let _connecting = self.connecting.lock().await;
        // Somebody else may have been at it meanwhile, with whatever outcome.
        if let Some(client) = self.usable()? {
            return Ok(client);
        }
        match tokio::time::timeout(CONNECT, self.connect()).await {
            Ok(Ok(client)) => {
                let client = Arc::new(client);
                *self.state() = State { client: Some(Arc::clone(&client)), ..State::default() };
                Ok(client)
            }
            Ok(Err(e)) => Err(self.failed(&e)),
            Err(_) => Err(self.failed("no connection in time")),
        }
    }

    /// The connection that there is; an error while nobody is to try.
    fn usable(&self) -> Result<Option<Arc<Client>>, RegistryError> {
        let mut state = self.state();
        state.client.take_if(|c| c.is_closed());
        match (&state.client, state.retry_at) {
            (Some(client), _) => Ok(Some(Arc::clone(client))),
            (None, Some(at)) if Instant::now() < at => Err(RegistryError::Unavailable(state.last.clone())),
            _ => Ok(None),
        }
    }

    async fn connect(&self) -> Result<Client, String> {
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(|e| plain(&e))?;
                // Ends when the client is dropped, or the server goes.
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(|e| plain(&e))?;
                tokio::spawn(connection);
                client
            }
        };
        prepare(&client).await?;
        Ok(client)
    }

    /// Gives a connection up, unless somebody has already.
    fn lost(&self, client: &Arc<Client>, why: &str) -> RegistryError {
        if self.state().client.as_ref().is_some_and(|current| Arc::ptr_eq(current, client)) {
            return self.failed(why);
        }
        RegistryError::Unavailable(why.to_owned())
    }

    fn failed(&self, why: &str) -> RegistryError {
        let mut state = self.state();
        let [first, most] = BACKOFF;
        let wait = first.saturating_mul(1 << state.failures.min(10)).min(most);
        *state = State {
            client: None,
            failures: state.failures.saturating_add(1),
            retry_at: Some(Instant::now() + wait),
            last: why.to_owned(),
        };
        RegistryError::Unavailable(why.to_owned())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in there is ever half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the tables and functions if they are not there. Boxes that start at once do it one after
/// the other.
async fn prepare(client: &Client) -> Result<(), String> {
    let there = "SELECT to_regclass('gpuhub_registry') IS NOT NULL";
    let is_there = |row: Row| row.try_get::<_, bool>(0).map_err(|e| plain(&e));
    if !is_there(client.query_one(there, &[]).await.map_err(|e| plain(&e))?)? {
        let make = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(7309453);
             DO $make$ BEGIN IF to_regclass('gpuhub_registry') IS NULL THEN EXECUTE $schema${SCHEMA}$schema$; END IF; END $make$;
             COMMIT;"
        );
        if let Err(e) = client.batch_execute(&make).await {
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(format!("its tables cannot be made (see /usr/share/gpuhub/registry.sql): {}", plain(&e)));
        }
    }
    let row = client.query_one("SELECT version FROM gpuhub_registry", &[]).await.map_err(|e| plain(&e))?;
    match row.try_get::<_, i32>(0).map_err(|e| plain(&e))? {
        1 => Ok(()),
        other => Err(format!("its tables are of version {other}, and this gpuhub knows version 1")),
    }
}

fn change(row: &Row) -> Result<Followed, RegistryError> {
    let (serial, name, was) = (get(row, 0)?, get(row, 3)?, get(row, 4)?);
    let (kind, id): (String, i64) = (get(row, 1)?, get(row, 2)?);
    Ok(match (IdKind::parse(&kind), legal_id(id)) {
        (Some(kind), Ok(id)) => Ok(Change { serial, kind, id, name, was }),
        (None, _) => Err((serial, format!("{name}: no kind of id is called {kind:?}"))),
        (_, Err(e)) => Err((serial, format!("{name}: {e}"))),
    })
}

fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, RegistryError> {
    row.try_get(column).map_err(|e| broken(&plain(&e)))
}

/// The registry is no more trusted than a directory: whoever writes to it by hand gives nobody an
/// id that is never given.
fn legal_id(id: i64) -> Result<u32, RegistryError> {
    u32::try_from(id)
        .ok()
        .filter(|id| gpuhub_common::id::is_allowed(*id))
        .ok_or_else(|| broken(&format!("the id {id} is never given")))
}

fn broken(what: &str) -> RegistryError {
    RegistryError::Broken(what.to_owned())
}

/// An error with its causes, which tokio-postgres leaves out.
fn plain(e: &tokio_postgres::Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}
