//! `kind = "oidc"`: an OpenID Connect provider with the device grant (RFC 8628).

use super::providers::{check_ca, seconds};
use super::values::{ConfigError, DurationText, SecretFile, Source};
use serde::Deserialize;
use std::ops::Range;

/// An OpenID Connect provider with the device grant (RFC 8628).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// Name in the audit log.
    pub name: String,
    /// Issuer identifier, exactly as in the tokens.
    pub issuer: String,
    /// The client.
    pub client_id: String,
    /// Its secret; absent: a public client.
    pub client_secret_file: Option<SecretFile>,
    /// PEM file added to the system's CA store.
    pub ca_file: Option<String>,
    /// Asked for; `openid` is always among them.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim that is the login name. `email` has its domain stripped.
    #[serde(default = "preferred_username")]
    pub name_claim: String,
    /// The claim that lists groups; absent in the token: no groups.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// The claim that is her uid, a number; absent: computed from her name.
    pub uid_claim: Option<String>,
    /// The claim that is the gid of her primary group, a number.
    pub gid_claim: Option<String>,
    /// Regular expression that a new person's whole name must match.
    #[serde(default = "name_pattern")]
    pub name_pattern: String,
    /// Verified e-mail must be in one of these domains.
    #[serde(default)]
    pub allowed_domains: Vec<String>,
    /// Membership of one of these is required.
    #[serde(default)]
    pub required_groups: Vec<String>,
    /// Whoever the provider knows may log in.
    #[serde(default)]
    pub allow_anyone: bool,
    /// Accepted signature algorithms of ID tokens; never `none`, never symmetric.
    #[serde(default = "signing_algs")]
    pub signing_algs: Vec<String>,
    /// For each request.
    #[serde(default = "ten")]
    pub timeout: DurationText,
    /// Clock difference tolerated.
    #[serde(default = "one_minute")]
    pub leeway: DurationText,
    /// How the code is drawn.
    #[serde(default)]
    pub qr: Qr,
}

/// See [`OidcConfig::qr`]. sshd knows no terminal type or locale before login, so this is by
/// configuration, not by guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Qr {
    /// Half blocks.
    #[default]
    Unicode,
    /// `##` and spaces.
    Ascii,
    /// None.
    Off,
}

fn scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(String::from).to_vec()
}
fn preferred_username() -> String {
    "preferred_username".into()
}
fn groups() -> String {
    "groups".into()
}
fn name_pattern() -> String {
    "[a-z][a-z0-9_-]{0,30}".into()
}
fn signing_algs() -> Vec<String> {
    ["RS256", "ES256", "PS256", "EdDSA"].map(String::from).to_vec()
}
fn ten() -> DurationText {
    seconds(10)
}
fn one_minute() -> DurationText {
    seconds(60)
}

/// What may sign an ID token here.
const ASYMMETRIC: &[&str] = &["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512", "EdDSA"];

impl OidcConfig {
    pub(super) fn check(&self, source: &Source<'_>, span: &Range<usize>) -> Result<(), ConfigError> {
        let bad = |what: &str, remedy: &str| Err(source.at(span, &format!("provider {}: {what}", self.name), remedy));
        if !self.issuer.starts_with("https://") {
            return bad(
                "the issuer is not https://",
                "Tokens travel on this connection; give the provider's https issuer.",
            );
        }
        if self.client_id.is_empty() {
            return bad("client_id is empty", "Give the client's id; it is the audience that tokens must name.");
        }
        if !self.allow_anyone && self.allowed_domains.is_empty() && self.required_groups.is_empty() {
            return bad(
                "anyone whom the provider knows could log in",
                "Write allowed_domains, required_groups, or allow_anyone = true.",
            );
        }
        if self.name_claim == "email" && self.allowed_domains.is_empty() {
            return bad(
                "name_claim = \"email\" makes one alice of everybody called so, in whatever domain",
                "Write allowed_domains: only their addresses name people.",
            );
        }
        if self.signing_algs.is_empty() || self.signing_algs.iter().any(|a| !ASYMMETRIC.contains(&a.as_str())) {
            return bad(
                "signing_algs has an algorithm that is not accepted",
                &format!("Choose from {}.", ASYMMETRIC.join(", ")),
            );
        }
        if regex::Regex::new(&self.name_pattern).is_err() {
            return bad("name_pattern is not a regular expression", "See the syntax of the Rust crate regex.");
        }
        check_ca(self.ca_file.as_deref()).or_else(|what| bad(&what, "Give a PEM file that the broker can read."))
    }
}
