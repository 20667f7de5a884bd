//! What a provider says about itself: discovery (OpenID Connect Discovery 1.0), metadata without OpenID Connect
//! (RFC 8414), and keys (RFC 7517).

use super::http::{Answer, Fault, Http};
use super::shared::Shared;
use super::token;
use crate::config::{Endpoints, OidcConfig, Proof};
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
    /// Where its keys are; without OpenID Connect there need be none.
    pub jwks_uri: Option<String>,
    /// Where codes come from (RFC 8628 §4); absent where the device grant is not offered.
    pub device_authorization_endpoint: Option<String>,
    /// Where claims are that the ID token leaves out.
    pub userinfo_endpoint: Option<String>,
    /// What it signs ID tokens with.
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// What tokens are given for; absent where it does not say.
    pub grant_types_supported: Option<Vec<String>>,
    /// Which scopes it knows; it may know more (Discovery §3).
    pub scopes_supported: Option<Vec<String>>,
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
    place: Place,
    /// Metadata that the configuration has all of.
    written: Option<Arc<Metadata>>,
    metadata: Shared<Metadata>,
    keys: Shared<CoreJsonWebKeySet>,
}

/// Where a provider's metadata is, and whose it must be.
#[derive(Debug, Clone)]
pub struct Place {
    url: String,
    issuer: String,
    /// What the configuration has of it stands.
    endpoints: Endpoints,
}

impl Place {
    /// That of a provider.
    pub fn of(config: &OidcConfig) -> Self {
        let issuer = config.issuer.trim_end_matches('/');
        let rest = issuer.strip_prefix("https://").unwrap_or(issuer);
        let url = match (config.profile.proof, rest.split_once('/')) {
            // RFC 8414 §3.1: between the host and the path.
            (Proof::Userinfo, Some((host, path))) => {
                format!("https://{host}/.well-known/oauth-authorization-server/{path}")
            }
            (Proof::Userinfo, None) => format!("{issuer}/.well-known/oauth-authorization-server"),
            // Discovery §4: after both.
            _ => format!("{issuer}/.well-known/openid-configuration"),
        };
        Self { url, issuer: token::announced(config), endpoints: config.endpoints.clone() }
    }
}

impl Metadata {
    /// That of a provider that needs no more than endpoints, and has them in its configuration.
    pub fn written(config: &OidcConfig) -> Option<Self> {
        let Endpoints { device_authorization, token, userinfo } = config.endpoints.clone();
        // Where keys are is in the metadata alone.
        if config.profile.proof == Proof::IdToken {
            return None;
        }
        Some(Self {
            issuer: config.issuer.clone(),
            token_endpoint: token?,
            jwks_uri: None,
            device_authorization_endpoint: Some(device_authorization?),
            userinfo_endpoint: Some(userinfo?),
            id_token_signing_alg_values_supported: Vec::new(),
            grant_types_supported: None,
            scopes_supported: None,
        })
    }
}

impl Documents {
    /// Those of a provider; asks for none of them.
    pub fn new(http: Arc<Http>, config: &OidcConfig) -> Self {
        let written = Metadata::written(config).map(Arc::new);
        Self { http, place: Place::of(config), written, metadata: Shared::new(), keys: Shared::new() }
    }

    /// The discovery document, an hour old at most while the provider answers.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Unavailable> {
        if let Some(written) = &self.written {
            return Ok(written.clone());
        }
        let (http, place) = (self.http.clone(), self.place.clone());
        let fetch = async move { discover(&http, &place).await.map(|(m, _)| m).map_err(|e| e.to_string()) };
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
        async move {
            let url = url.ok_or("the discovery document has no jwks_uri")?;
            fetch_keys(&http, &url).await.map_err(|e| e.to_string())
        }
    }
}

/// Fetches the metadata from its place.
pub async fn discover(http: &Http, place: &Place) -> Result<(Metadata, Answer), Missing> {
    let answer = fetch(http, &place.url).await?;
    let mut metadata: Metadata = answer.json().ok_or(Missing::Malformed("not a discovery document"))?;
    // Discovery §4.3, RFC 8414 §3.3: identical, or somebody else's tokens would be taken for this provider's.
    if metadata.issuer != place.issuer {
        return Err(Missing::OtherIssuer(metadata.issuer));
    }
    let Endpoints { device_authorization, token, userinfo } = place.endpoints.clone();
    metadata.device_authorization_endpoint = device_authorization.or(metadata.device_authorization_endpoint);
    metadata.token_endpoint = token.unwrap_or(metadata.token_endpoint);
    metadata.userinfo_endpoint = userinfo.or(metadata.userinfo_endpoint);
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
