//! What a provider says about itself: discovery (OpenID Connect Discovery 1.0) and keys (RFC 7517).

use super::http::{Answer, Fault, Http};
use super::shared::Shared;
use crate::model::Unavailable;
use openidconnect::core::CoreJsonWebKeySet;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long discovery and keys serve before they are asked for again.
const FRESH: Duration = Duration::from_secs(3600);

/// What of the discovery document the device grant needs. Not the type of the crate
/// openidconnect: that one refuses a document for what it lacks of flows that are not used here.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    /// Who it is about.
    pub issuer: String,
    /// Where codes are turned into tokens.
    pub token_endpoint: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where codes come from (RFC 8628 §4); absent where the device grant is not offered.
    pub device_authorization_endpoint: Option<String>,
    /// Where claims are that the ID token leaves out.
    pub userinfo_endpoint: Option<String>,
    /// What it signs ID tokens with.
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
}

/// Why a document is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Nothing usable came.
    Fault(Fault),
    /// Something else came.
    Status(String),
    /// Not what it should be.
    Malformed(&'static str),
    /// About somebody else.
    OtherIssuer(String),
}

/// The documents of one provider.
#[derive(Debug)]
pub struct Documents {
    http: Arc<Http>,
    issuer: String,
    metadata: Shared<Metadata>,
    keys: Shared<CoreJsonWebKeySet>,
}

impl Documents {
    /// Those of `issuer`.
    pub fn new(http: Arc<Http>, issuer: &str) -> Self {
        Self { http, issuer: issuer.to_owned(), metadata: Shared::new(), keys: Shared::new() }
    }

    /// The discovery document, an hour old at most while the provider answers.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Unavailable> {
        let (http, issuer) = (self.http.clone(), self.issuer.clone());
        let fetch = async move { discover(&http, &issuer).await.map(|(m, _)| m).map_err(|e| e.to_string()) };
        self.metadata.get(FRESH, fetch).await.map_err(|e| Unavailable(format!("discovery: {e}")))
    }

    /// The provider's keys.
    pub async fn keys(&self, metadata: &Metadata) -> Result<Arc<CoreJsonWebKeySet>, Unavailable> {
        self.keys.get(FRESH, self.fetch_keys(metadata)).await.map_err(|e| Unavailable(format!("keys: {e}")))
    }

    /// Keys other than `than`, after a token came with a key that is not among those. `None`: there
    /// are no others, or they were fetched a moment ago.
    pub async fn newer_keys(
        &self,
        metadata: &Metadata,
        than: &Arc<CoreJsonWebKeySet>,
    ) -> Option<Arc<CoreJsonWebKeySet>> {
        self.keys.newer(than, self.fetch_keys(metadata)).await
    }

    fn fetch_keys(
        &self,
        metadata: &Metadata,
    ) -> impl Future<Output = Result<CoreJsonWebKeySet, String>> + Send + 'static {
        let (http, url) = (self.http.clone(), metadata.jwks_uri.clone());
        async move { fetch_keys(&http, &url).await.map_err(|e| e.to_string()) }
    }
}

/// Fetches the discovery document of `issuer` (Discovery §4).
pub async fn discover(http: &Http, issuer: &str) -> Result<(Metadata, Answer), Missing> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let answer = fetch(http, &url).await?;
    let metadata: Metadata = answer.json().ok_or(Missing::Malformed("not a discovery document"))?;
    // Discovery §4.3: identical, or somebody else's tokens would be taken for this provider's.
    if metadata.issuer != issuer {
        return Err(Missing::OtherIssuer(metadata.issuer));
    }
    Ok((metadata, answer))
}

/// Fetches a key set; keys of unknown kinds are left out of it.
pub async fn fetch_keys(http: &Http, url: &str) -> Result<CoreJsonWebKeySet, Missing> {
    fetch(http, url).await?.json().ok_or(Missing::Malformed("not a key set"))
}

async fn fetch(http: &Http, url: &str) -> Result<Answer, Missing> {
    let answer = http.get(url).await.map_err(Missing::Fault)?;
    if answer.is_success() { Ok(answer) } else { Err(Missing::Status(answer.status_text())) }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Fault(fault) => fault.fmt(f),
            Missing::Status(status) => write!(f, "the provider answers with {status}"),
            Missing::Malformed(what) => f.write_str(what),
            Missing::OtherIssuer(other) => {
                write!(f, "it is about another issuer, {}", super::shown::message(other))
            }
        }
    }
}
