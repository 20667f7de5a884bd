//! The HTTP client for one provider: https only, no redirects, no cookies, deadlines on
//! everything, and answers of bounded size.
//!
//! A proxy is taken from the configuration, or from the broker's environment (`HTTPS_PROXY`, `NO_PROXY`), as
//! boxes behind one have it there already. The TLS session ends at the provider all the same, so a proxy sees a
//! host name and nothing else, and cannot answer in the provider's stead.

use super::opaque::Opaque;
use super::shown;
use crate::config::OidcConfig;
use chrono::{DateTime, Utc};
use openidconnect::url::form_urlencoded;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Proxy, RequestBuilder, Response, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Longest answer in bytes: an ID token of 10,000 groups is a third of it.
pub const MAX_BODY: usize = 1024 * 1024;
/// A provider that takes longer to be reached is away.
const CONNECT: Duration = Duration::from_secs(5);
/// Long enough for the requests at the two ends of a login to share a connection, and shorter than
/// the pause between polls: servers close idle connections after five seconds, just as the next
/// poll is sent, and what it meets then looks like a fault of theirs.
const IDLE: Duration = Duration::from_secs(2);

/// The client.
#[derive(Debug)]
pub struct Http {
    client: Client,
    timeout: Duration,
}

/// Who we are at the token endpoint (RFC 6749 §2.3).
#[derive(Debug)]
pub struct Credentials {
    /// The client's id.
    pub id: String,
    /// Its secret; a public client has none.
    pub secret: Option<Opaque>,
    /// The secret goes into the form, where the provider documents it so, and only to the token endpoint.
    pub in_form: bool,
}

/// What came back, whatever its status.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The provider's clock (RFC 9110 §6.6.1), for the doctor.
    pub date: Option<DateTime<Utc>>,
    /// Where the rest of a list is (RFC 8288).
    pub link: Option<String>,
    /// It wants not to be asked for so long.
    pub retry_after: Option<Duration>,
    /// The body. Tokens come in it.
    pub body: Zeroizing<Vec<u8>>,
}

/// Nothing usable came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server's certificate is not trusted.
    Certificate(String),
    /// It cannot be reached, or does not answer in time.
    Network(String),
    /// It answers with more than [`MAX_BODY`].
    TooLong,
}

impl Http {
    /// A client as the configuration says.
    pub fn new(config: &OidcConfig) -> Result<Self, String> {
        let tls = crate::tls::client_config(config.ca_file.as_deref())?;
        let timeout = config.timeout.0;
        let builder = match config.proxy.as_deref() {
            None => Client::builder(),
            Some("") => Client::builder().no_proxy(),
            Some(url) => Client::builder().proxy(Proxy::https(url).map_err(|e| format!("proxy: {}", cause(&e)))?),
        };
        let client = builder
            .use_preconfigured_tls((*tls).clone())
            .https_only(true)
            .redirect(Policy::none())
            .connect_timeout(CONNECT.min(timeout))
            .timeout(timeout)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("gpuhub/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("the HTTP client cannot be made: {}", cause(&e)))?;
        Ok(Self { client, timeout })
    }

    /// Fetches a document.
    pub async fn get(&self, url: &str) -> Result<Answer, Fault> {
        self.send(self.client.get(url).header(header::ACCEPT, "application/json")).await
    }

    /// Fetches what an access token gives access to (RFC 6750 §2.1).
    pub async fn get_as(&self, url: &str, token: &Opaque) -> Result<Answer, Fault> {
        self.get_with(url, token, &[("accept", "application/json")]).await
    }

    /// The same, with these headers.
    pub async fn get_with(&self, url: &str, token: &Opaque, headers: &[(&str, &str)]) -> Result<Answer, Fault> {
        let request = headers.iter().fold(self.client.get(url), |r, (name, value)| r.header(*name, *value));
        self.send(request.bearer_auth(token.expose())).await
    }

    /// Posts JSON, with these headers, to where the token gives access.
    pub async fn post_json(
        &self,
        url: &str,
        token: &Opaque,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Fault> {
        let request = headers.iter().fold(self.client.post(url), |r, (name, value)| r.header(*name, *value));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        self.send(request.bearer_auth(token.expose())).await
    }

    /// Posts a form as the client: its secret by HTTP Basic, both halves form-encoded
    /// (RFC 6749 §2.3.1), or in the form; without a secret its id is part of the form.
    pub async fn post(&self, url: &str, who: &Credentials, form: &[(&str, &str)]) -> Result<Answer, Fault> {
        let request = self.client.post(url).header(header::ACCEPT, "application/json");
        let request = match &who.secret {
            None => request.form(&[form, &[("client_id", &who.id)]].concat()),
            Some(secret) if who.in_form => {
                request.form(&[form, &[("client_id", &who.id), ("client_secret", secret.expose())]].concat())
            }
            Some(secret) => {
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let secret = Zeroizing::new(encode(secret.expose()));
                request.form(form).basic_auth(encode(&who.id), Some(&*secret))
            }
        };
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Fault> {
        let mut response = request.send().await.map_err(|e| self.fault(&e))?;
        let mut body = Zeroizing::new(Vec::with_capacity(expected_length(&response)?));
        while let Some(chunk) = response.chunk().await.map_err(|e| self.fault(&e))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Fault::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let date = response.headers().get(header::DATE).and_then(|d| d.to_str().ok());
        let date = date.and_then(|d| DateTime::parse_from_rfc2822(d).ok()).map(|d| d.with_timezone(&Utc));
        let link = response.headers().get(header::LINK).and_then(|l| l.to_str().ok()).map(String::from);
        let retry_after = retry_after(response.headers(), SystemTime::now());
        Ok(Answer { status: response.status().as_u16(), date, link, retry_after, body })
    }

    fn fault(&self, error: &reqwest::Error) -> Fault {
        if error.is_timeout() {
            return Fault::Network(format!("no answer within {} s", self.timeout.as_secs_f32()));
        }
        match certificate_problem(error) {
            Some(what) => Fault::Certificate(shown::message(&what)),
            None => Fault::Network(shown::message(&cause(error))),
        }
    }
}

/// Room for the whole body from the start, so that a grown buffer leaves no copy of a token behind.
fn expected_length(response: &Response) -> Result<usize, Fault> {
    match response.content_length().map(usize::try_from) {
        None => Ok(16 * 1024),
        Some(Ok(length)) if length <= MAX_BODY => Ok(length),
        Some(_) => Err(Fault::TooLong),
    }
}

/// Until when it wants to be left alone: in seconds or as a date (RFC 9110 §10.2.3); or as GitHub says that nothing is
/// left of what it allows in an hour
/// (<https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0)).saturating_sub(since_1970);
    match text("retry-after") {
        Some(after) => match after.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => DateTime::parse_from_rfc2822(after).ok().map(|at| until(at.timestamp())),
        },
        None if text("x-ratelimit-remaining") == Some("0") => {
            text("x-ratelimit-reset").and_then(|at| at.parse().ok()).map(until)
        }
        None => None,
    }
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The status in words.
    pub fn status_text(&self) -> String {
        match self.status {
            300..400 => format!("a redirect (HTTP {}), which is not followed", self.status),
            status => format!("HTTP {status}"),
        }
    }
}

/// Without the body.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Certificate(what) => write!(f, "its certificate is not trusted: {what}"),
            Fault::Network(what) => f.write_str(what),
            Fault::TooLong => write!(f, "its answer is longer than {MAX_BODY} bytes"),
        }
    }
}

/// The innermost cause: "connection refused" rather than "error sending request for url".
fn cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// Looks for rustls under the layers of hyper; an [`std::io::Error`] hides what it wraps from `source`.
fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error.downcast_ref::<rustls::Error>().or_else(|| inner?.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(what)) = tls {
            return Some(what.to_string());
        }
        if let Some(deeper) = inner.and_then(|inner| certificate_problem(inner)) {
            return Some(deeper);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_ask_again() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let after = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            retry_after(&headers.collect(), now).map(|time| time.as_secs())
        };
        assert_eq!(after(&[("retry-after", "7")]), Some(7));
        assert_eq!(after(&[("retry-after", "Tue, 14 Nov 2023 22:14:20 GMT")]), Some(60));
        assert_eq!(after(&[("retry-after", "Fri, 14 Nov 2003 22:14:20 GMT")]), Some(0));
        assert_eq!(after(&[("retry-after", "soon")]), None);
        let left = |n| [("x-ratelimit-remaining", n), ("x-ratelimit-reset", "1700000090")];
        assert_eq!((after(&left("0")), after(&left("1")), after(&[])), (Some(90), None, None));
    }
}
