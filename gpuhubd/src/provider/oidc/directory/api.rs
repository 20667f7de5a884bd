//! The API of a directory, as whoever is configured to ask it: by a token of its own, or as a client by the client
//! credentials grant (RFC 6749 §4.4), whose tokens are kept until shortly before they expire, and fetched anew, once,
//! when one is refused.

use super::super::documents::Documents;
use super::super::http::{Answer, Credentials, Fault, Http};
use super::super::opaque::Opaque;
use super::super::poll::error_code;
use super::super::shared::Shared;
use crate::model::Unavailable;
use openidconnect::url::form_urlencoded;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest list that is read. One that goes on is not read as one that ends.
pub const MAX_PAGES: usize = 50;

/// What it is left alone for when it says "too many" and not for how long, and at most: GitHub counts by the hour.
const QUIET: Duration = Duration::from_secs(60);
const MAX_QUIET: Duration = Duration::from_secs(3600);

/// For how long a token is good that does not say so.
const TOKEN_LIFE: u64 = 60;

/// Why there is no answer to go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be reached, is not well, or has been asked too much.
    Away(String),
    /// It does not let us ask.
    Refused(String),
    /// It answers, and not what its documents say.
    Odd(String),
}

/// The API.
#[derive(Debug)]
pub struct Api {
    http: Arc<Http>,
    /// Without a slash at the end.
    pub root: String,
    access: Access,
    /// It wants not to be asked until then.
    quiet: Mutex<Option<Instant>>,
    away: AtomicBool,
}

/// As whom it is asked.
#[derive(Debug)]
enum Access {
    Token(Arc<Granted>),
    Client(Box<Client>),
}

#[derive(Debug)]
struct Client {
    credentials: Arc<Credentials>,
    scope: Option<String>,
    documents: Arc<Documents>,
    /// That the client is refused is kept, too: it is so until somebody changes something.
    granted: Shared<Result<Arc<Granted>, String>>,
}

#[derive(Debug)]
struct Granted {
    token: Opaque,
    until: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Ask<'a> {
    Get,
    Post(&'a Value),
}

impl Api {
    /// At `root`, by a token that stays.
    pub fn with_token(http: Arc<Http>, root: &str, token: Opaque) -> Self {
        Self::new(http, root, Access::Token(Arc::new(Granted { token, until: None })))
    }

    /// At `root`, as a client of the provider.
    pub fn with_client(
        http: Arc<Http>,
        root: &str,
        credentials: Credentials,
        scope: Option<String>,
        documents: Arc<Documents>,
    ) -> Self {
        let client = Client { credentials: Arc::new(credentials), scope, documents, granted: Shared::new() };
        Self::new(http, root, Access::Client(Box::new(client)))
    }

    fn new(http: Arc<Http>, root: &str, access: Access) -> Self {
        Self { http, root: root.to_owned(), access, quiet: Mutex::default(), away: false.into() }
    }

    /// Whether it did not answer when it was last asked.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// It was not waited for any longer.
    pub fn takes_too_long(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// What is there; `None`: nothing (404).
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Option<Answer>, Trouble> {
        let answer = self.ask(url, headers, Ask::Get).await?;
        Ok((answer.status != 404).then_some(answer))
    }

    /// The same as JSON.
    pub async fn json<T: DeserializeOwned>(&self, url: &str, headers: &[(&str, &str)]) -> Result<Option<T>, Trouble> {
        self.get(url, headers).await?.map(|answer| self.read(url, &answer)).transpose()
    }

    /// What it answers to a question in JSON.
    pub async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<T, Trouble> {
        let answer = self.ask(url, headers, Ask::Post(body)).await?;
        self.read(url, &answer)
    }

    /// An answer that is what it should be.
    pub fn read<T: DeserializeOwned>(&self, url: &str, answer: &Answer) -> Result<T, Trouble> {
        answer.json().ok_or_else(|| Trouble::Odd(format!("{}: not what its API documents", self.path(url))))
    }

    /// Where in the API that is, without what was asked: it may be somebody's name.
    pub fn path<'u>(&self, url: &'u str) -> &'u str {
        let path = url.strip_prefix(self.root.as_str()).unwrap_or(url);
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// Whether a further page is one of the same API: the token goes along.
    pub fn is_here(&self, url: &str) -> bool {
        url.strip_prefix(self.root.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    async fn ask(&self, url: &str, headers: &[(&str, &str)], ask: Ask<'_>) -> Result<Answer, Trouble> {
        let answered = self.ask_now(url, headers, ask).await;
        self.away.store(matches!(answered, Err(Trouble::Away(_))), Ordering::Relaxed);
        answered
    }

    async fn ask_now(&self, url: &str, headers: &[(&str, &str)], ask: Ask<'_>) -> Result<Answer, Trouble> {
        if self.quiet().is_some_and(|until| Instant::now() < until) {
            return Err(Trouble::Away("it was asked too much".into()));
        }
        let granted = self.access(None).await?;
        let mut answer = self.send(url, headers, ask, &granted.token).await?;
        if answer.status == 401 {
            if let Access::Client(_) = self.access {
                let granted = self.access(Some(&granted)).await?;
                answer = self.send(url, headers, ask, &granted.token).await?;
            }
        }
        self.judge(url, answer)
    }

    async fn send(&self, url: &str, headers: &[(&str, &str)], ask: Ask<'_>, token: &Opaque) -> Result<Answer, Trouble> {
        let answer = match ask {
            Ask::Get => self.http.get_with(url, token, headers).await,
            Ask::Post(body) => self.http.post_json(url, token, headers, body).await,
        };
        answer.map_err(|fault| trouble(self.path(url), &fault))
    }

    fn judge(&self, url: &str, answer: Answer) -> Result<Answer, Trouble> {
        let told = || format!("{}: {}", self.path(url), answer.status_text());
        // GitHub says 403 for "too many", as well.
        let too_many = answer.status == 429 || (matches!(answer.status, 403 | 503) && answer.retry_after.is_some());
        if too_many {
            let pause = answer.retry_after.unwrap_or(QUIET).min(MAX_QUIET);
            *self.quiet() = Some(Instant::now() + pause);
            return Err(Trouble::Away(format!("{}, not to be asked for {} s", told(), pause.as_secs())));
        }
        match answer.status {
            200..300 | 404 => Ok(answer),
            401 | 403 => Err(Trouble::Refused(told())),
            408 | 500..600 => Err(Trouble::Away(told())),
            _ => Err(Trouble::Odd(told())),
        }
    }

    fn quiet(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good; another one than `refused`.
    async fn access(&self, refused: Option<&Arc<Granted>>) -> Result<Arc<Granted>, Trouble> {
        let client = match &self.access {
            Access::Token(granted) => return Ok(granted.clone()),
            Access::Client(client) => client,
        };
        let is_good = |kept: &Result<Arc<Granted>, String>| {
            kept.as_ref().is_ok_and(|granted| {
                granted.until.is_none_or(|until| Instant::now() < until)
                    && refused.is_none_or(|refused| !Arc::ptr_eq(refused, granted))
            })
        };
        let kept = client.granted.get(Duration::MAX, client.fetch(&self.http)).await.map_err(Trouble::Away)?;
        let kept = if is_good(&kept) {
            kept
        } else {
            client.granted.newer(&kept, client.fetch(&self.http)).await.unwrap_or(kept)
        };
        match &*kept {
            Err(why) => Err(Trouble::Refused(format!("token endpoint: {why}"))),
            Ok(granted) if is_good(&kept) => Ok(granted.clone()),
            Ok(_) if refused.is_some() => Err(Trouble::Refused("it refuses a token that it has just given".into())),
            Ok(_) => Err(Trouble::Away("token endpoint: no new token".into())),
        }
    }
}

impl Client {
    fn fetch(
        &self,
        http: &Arc<Http>,
    ) -> impl Future<Output = Result<Result<Arc<Granted>, String>, String>> + Send + 'static {
        #[derive(Deserialize)]
        struct Body {
            access_token: Opaque,
            expires_in: Option<u64>,
        }
        let (http, documents, credentials) = (http.clone(), self.documents.clone(), self.credentials.clone());
        let scope = self.scope.clone();
        async move {
            let metadata = documents.metadata().await.map_err(|Unavailable(why)| why)?;
            let scope = scope.as_deref().map(|scope| ("scope", scope));
            let form: Vec<_> = [("grant_type", "client_credentials")].into_iter().chain(scope).collect();
            let answer = http.post(&metadata.token_endpoint, &credentials, &form).await;
            let answer = answer.map_err(|fault| format!("token endpoint: {fault}"))?;
            if matches!(answer.status, 408 | 429 | 500..600) {
                return Err(format!("token endpoint: {}", answer.status_text()));
            }
            if !answer.is_success() {
                return Ok(Err(error_code(&answer.body).unwrap_or_else(|| answer.status_text())));
            }
            let Some(body) = answer.json::<Body>().filter(|body| !body.access_token.is_empty()) else {
                return Ok(Err("not an answer of RFC 6749".into()));
            };
            let life = body.expires_in.unwrap_or(TOKEN_LIFE).min(86_400);
            // It must still be good when it arrives.
            let until = Instant::now() + Duration::from_secs(life.saturating_sub((life / 10).clamp(1, 30)));
            Ok(Ok(Arc::new(Granted { token: body.access_token, until: Some(until) })))
        }
    }
}

fn trouble(path: &str, fault: &Fault) -> Trouble {
    match fault {
        Fault::TooLong => Trouble::Odd(format!("{path}: {fault}")),
        Fault::Certificate(_) | Fault::Network(_) => Trouble::Away(format!("{path}: {fault}")),
    }
}

/// A text as a part of a path or of a query.
pub fn quoted(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Away(what) | Trouble::Refused(what) | Trouble::Odd(what)) = self;
        f.write_str(what)
    }
}

impl From<Trouble> for Unavailable {
    fn from(trouble: Trouble) -> Self {
        Unavailable(format!("directory: {trouble}"))
    }
}
