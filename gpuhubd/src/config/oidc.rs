//! Providers with the device grant (RFC 8628): `kind = "oidc"`, and the profiles of profile.rs.

use super::claims::{ClaimPath, ClaimPaths, GroupRule, Pattern, Template};
use super::oidc_directory::{DirectoryConfig, DirectoryTable};
use super::profile::{Profile, Proof, is_of_many_tenants};
use super::providers::seconds;
use super::values::{ConfigError, DurationText, SecretFile, Source};
use crate::provider::grant::AskAgain;
use serde::Deserialize;
use std::ops::Range;

/// A provider, with everything that its profile says filled in.
#[derive(Debug)]
pub struct OidcConfig {
    /// Name in the audit log.
    pub name: String,
    /// What kind it is.
    pub profile: &'static Profile,
    /// Issuer identifier, exactly as in the tokens, and in the keys of its people. Where it stands for many tenants
    /// tokens have their tenant's.
    pub issuer: String,
    /// For tokens of many tenants: whose are taken; `None`: this is about one issuer.
    pub tenants: Option<Tenants>,
    /// Whether its people are people here. Not if a directory's people prove themselves there (`login`).
    pub has_people: bool,
    /// Where it is asked, for what its metadata leaves out or is not asked about.
    pub endpoints: Endpoints,
    /// The client.
    pub client_id: String,
    /// Its secret; absent: a public client.
    pub client_secret_file: Option<SecretFile>,
    /// PEM file added to the system's CA store.
    pub ca_file: Option<String>,
    /// Asked for; with ID tokens `openid` is always among them.
    pub scopes: Vec<String>,
    /// The claims that say together who somebody is for good.
    pub subject_claims: Vec<ClaimPath>,
    /// The first of these that is there is the login name.
    pub name_claims: Vec<ClaimPath>,
    /// Taken off a name that ends with @ and one of them. An e-mail address names somebody only with one of them.
    pub strip_domains: Vec<String>,
    /// Names are spelled in lower case.
    pub lowercase_names: bool,
    /// What is made of a name.
    pub name_rule: Option<(Pattern, Template)>,
    /// All its people's names here end so, and nobody else's are looked for there.
    pub name_suffix: String,
    /// What a new person's name must match, without the suffix.
    pub name_pattern: Pattern,
    /// The claims that list groups; none of them in the token: no groups.
    pub groups_claims: Vec<ClaimPath>,
    /// Which of them are groups here.
    pub group_rules: Vec<GroupRule>,
    /// The claim that is her uid, a number; absent: computed from her name.
    pub uid_claim: Option<ClaimPath>,
    /// The claim that is the gid of her primary group, a number.
    pub gid_claim: Option<ClaimPath>,
    /// Verified e-mail must be in one of these domains.
    pub allowed_domains: Vec<String>,
    /// Membership of one of these is required, by the provider's own names.
    pub required_groups: Vec<String>,
    /// Google: the account must be one of these organisations'.
    pub hosted_domains: Vec<String>,
    /// GitHub: membership of one of these is required; only their teams are groups.
    pub organizations: Vec<Organization>,
    /// Accepted signature algorithms of ID tokens; never `none`, never symmetric.
    pub signing_algs: Vec<String>,
    /// For each request.
    pub timeout: DurationText,
    /// Through which proxy it is reached; empty: through none; absent: what the broker's environment says.
    pub proxy: Option<String>,
    /// Clock difference tolerated.
    pub leeway: DurationText,
    /// How the code is drawn.
    pub qr: Qr,
    /// Who has a passcode gives it before a code is requested.
    pub ask_passcode_first: bool,
    /// Where no code can be shown, an ID token counts as a password.
    pub id_token_as_password: bool,
    /// One that was issued no longer ago than this.
    pub id_token_max_age: DurationText,
    /// How long its word is good that somebody may come in; absent: it is not asked again after a sign-in.
    pub ask_again: Option<AskAgain>,
    /// By which API its people are known before they log in; absent: they are not.
    pub directory: Option<DirectoryConfig>,
}

/// See [`OidcConfig::tenants`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// Whoever's.
    Any,
    /// Of those with these ids.
    These(Vec<String>),
}

/// An organisation of GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Organization {
    /// By login, in any case. Whoever renames one leaves its login to others.
    Login(String),
    /// By its number, which stays.
    Id(u64),
}

/// See [`OidcConfig::endpoints`]. With all of them there is no metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Codes (RFC 8628 §3.1).
    pub device_authorization: Option<String>,
    /// Tokens.
    pub token: Option<String>,
    /// Who somebody is: userinfo, or the root of GitHub's API.
    pub userinfo: Option<String>,
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

/// The table as it is written; what the profile says is absent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcTable {
    pub(super) name: String,
    pub(super) issuer: Option<String>,
    pub(super) host: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) application: Option<String>,
    pub(super) authorization_server: Option<String>,
    pub(super) tenant: Option<String>,
    allowed_tenants: Option<Vec<String>>,
    hosted_domains: Option<Vec<String>>,
    allowed_organizations: Option<Vec<String>>,
    allowed_organization_ids: Option<Vec<u64>>,
    device_authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    client_id: String,
    client_secret_file: Option<SecretFile>,
    ca_file: Option<String>,
    scopes: Option<Vec<String>>,
    subject_claim: Option<ClaimPath>,
    name_claim: Option<ClaimPaths>,
    #[serde(default)]
    strip_domains: Vec<String>,
    lowercase_names: Option<bool>,
    name_match: Option<Pattern>,
    name_template: Option<String>,
    #[serde(default)]
    name_suffix: String,
    name_pattern: Option<Pattern>,
    groups_claim: Option<ClaimPaths>,
    #[serde(default)]
    group_rules: Vec<GroupRule>,
    uid_claim: Option<ClaimPath>,
    gid_claim: Option<ClaimPath>,
    #[serde(default)]
    allowed_domains: Vec<String>,
    #[serde(default)]
    required_groups: Vec<String>,
    #[serde(default)]
    allow_anyone: bool,
    #[serde(default = "signing_algs")]
    signing_algs: Vec<String>,
    #[serde(default = "ten")]
    timeout: DurationText,
    proxy: Option<String>,
    #[serde(default = "one_minute")]
    leeway: DurationText,
    #[serde(default)]
    qr: Qr,
    #[serde(default)]
    ask_passcode_first: bool,
    #[serde(default)]
    id_token_as_password: bool,
    #[serde(default = "five_minutes")]
    id_token_max_age: DurationText,
    pub(super) ask_again: Option<DurationText>,
    pub(super) ask_every: Option<DurationText>,
    pub(super) grace: Option<DurationText>,
    directory: Option<DirectoryTable>,
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
fn five_minutes() -> DurationText {
    seconds(300)
}

const NAMES: &str = "[a-z][a-z0-9_-]{0,30}";

/// What is wrong, and what to do.
pub(super) type Wrong = (String, String);

impl OidcConfig {
    /// Fills in what the profile says, and checks.
    pub(super) fn new(
        profile: &'static Profile,
        table: OidcTable,
        source: &Source<'_>,
        span: &Range<usize>,
    ) -> Result<Self, ConfigError> {
        let (name, anyone) = (table.name.clone(), table.allow_anyone);
        table
            .into_config(profile)
            .and_then(|config| config.check(anyone).map(|()| config))
            .map_err(|(what, remedy): Wrong| source.at(span, &format!("provider {name}: {what}"), &remedy))
    }
}

impl OidcTable {
    fn into_config(self, profile: &'static Profile) -> Result<OidcConfig, Wrong> {
        self.keys_of(profile)?;
        let issuer = (profile.issuer)(&self).map_err(|what| {
            wrong(what, &format!("A provider of kind {} has the keys {}.", profile.kind, profile.keys.join(", ")))
        })?;
        let endpoints = self.endpoints(profile, &issuer);
        let tenants = self.tenants()?;
        let ask_again = self.asked_again()?;
        let directory = self.directory.map(|table| table.into_config(profile, &issuer)).transpose()?;
        let name_rule = name_rule(self.name_match, self.name_template)?;
        let fixed = |claims: &[&str]| -> Result<Vec<_>, Wrong> {
            claims.iter().map(|c| ClaimPath::parse(c).map_err(|e| wrong(&e, ""))).collect()
        };
        let mut group_rules = self.group_rules;
        for (pattern, name) in profile.group_rules {
            group_rules.push(GroupRule::fixed(pattern, *name).map_err(|e| wrong(&e, ""))?);
        }
        let logins = self.allowed_organizations.into_iter().flatten().map(Organization::Login);
        let ids = self.allowed_organization_ids.into_iter().flatten().map(Organization::Id);
        Ok(OidcConfig {
            name: self.name,
            profile,
            has_people: true,
            issuer,
            tenants,
            endpoints,
            client_id: self.client_id,
            client_secret_file: self.client_secret_file,
            ca_file: self.ca_file,
            scopes: self.scopes.unwrap_or_else(|| profile.scopes.iter().map(|s| (*s).to_owned()).collect()),
            subject_claims: self.subject_claim.map_or_else(|| fixed(profile.subject_claims), |c| Ok(vec![c]))?,
            name_claims: self.name_claim.map_or_else(|| fixed(profile.name_claims), |c| Ok(c.0))?,
            strip_domains: self.strip_domains,
            lowercase_names: self.lowercase_names.unwrap_or(profile.lowercase_names),
            name_rule,
            name_suffix: self.name_suffix,
            name_pattern: self.name_pattern.map_or_else(|| Pattern::parse(NAMES), Ok).map_err(|e| wrong(&e, ""))?,
            groups_claims: self.groups_claim.map_or_else(|| fixed(profile.groups_claims), |c| Ok(c.0))?,
            group_rules,
            uid_claim: self.uid_claim,
            gid_claim: self.gid_claim,
            allowed_domains: self.allowed_domains,
            required_groups: self.required_groups,
            hosted_domains: self.hosted_domains.unwrap_or_default(),
            organizations: logins.chain(ids).collect(),
            signing_algs: self.signing_algs,
            timeout: self.timeout,
            proxy: self.proxy,
            leeway: self.leeway,
            qr: self.qr,
            ask_passcode_first: self.ask_passcode_first,
            id_token_as_password: self.id_token_as_password,
            id_token_max_age: self.id_token_max_age,
            ask_again,
            directory,
        })
    }

    fn tenants(&self) -> Result<Option<Tenants>, Wrong> {
        match (&self.tenant, &self.allowed_tenants) {
            (Some(tenant), allowed) if is_of_many_tenants(tenant) => {
                Ok(Some(allowed.clone().map_or(Tenants::Any, Tenants::These)))
            }
            (_, Some(_)) => Err(wrong("allowed_tenants is for tenant = \"organizations\"", "Leave it out.")),
            _ => Ok(None),
        }
    }

    /// A key that another kind has would do nothing here.
    fn keys_of(&self, profile: &Profile) -> Result<(), Wrong> {
        let written = [
            ("issuer", self.issuer.is_some()),
            ("host", self.host.is_some()),
            ("realm", self.realm.is_some()),
            ("application", self.application.is_some()),
            ("authorization_server", self.authorization_server.is_some()),
            ("tenant", self.tenant.is_some()),
            ("allowed_tenants", self.allowed_tenants.is_some()),
            ("hosted_domains", self.hosted_domains.is_some()),
            ("allowed_organizations", self.allowed_organizations.is_some()),
            ("allowed_organization_ids", self.allowed_organization_ids.is_some()),
            ("device_authorization_endpoint", self.device_authorization_endpoint.is_some()),
            ("token_endpoint", self.token_endpoint.is_some()),
            ("userinfo_endpoint", self.userinfo_endpoint.is_some()),
            ("subject_claim", self.subject_claim.is_some()),
        ];
        let is_host = |host: &String| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
        match written.iter().find(|(key, is_there)| *is_there && !profile.keys.contains(key)) {
            None if self.host.as_ref().is_some_and(|host| host.is_empty() || !is_host(host)) => {
                Err(wrong("host is no host", "Write it without https:// and without a path."))
            }
            None => Ok(()),
            Some((key, _)) => Err(wrong(
                &format!("the kind {} has no {key}", profile.kind),
                &format!("Of such keys it has {}.", profile.keys.join(", ")),
            )),
        }
    }

    fn endpoints(&self, profile: &Profile, issuer: &str) -> Endpoints {
        if profile.proof == Proof::GitHub {
            let api = match issuer {
                "https://github.com" => "https://api.github.com".into(),
                server => format!("{server}/api/v3"),
            };
            return Endpoints {
                device_authorization: Some(format!("{issuer}/login/device/code")),
                token: Some(format!("{issuer}/login/oauth/access_token")),
                userinfo: Some(api),
            };
        }
        Endpoints {
            device_authorization: self.device_authorization_endpoint.clone(),
            token: self.token_endpoint.clone(),
            userinfo: self.userinfo_endpoint.clone(),
        }
    }
}

/// What is made of a name; without a template the first group of the pattern, or all of it.
fn name_rule(pattern: Option<Pattern>, template: Option<String>) -> Result<Option<(Pattern, Template)>, Wrong> {
    if pattern.is_none() && template.is_none() {
        return Ok(None);
    }
    let pattern = pattern.map_or_else(|| Pattern::parse("(?s).*"), Ok).map_err(|e| wrong(&e, ""))?;
    let template = template.unwrap_or_else(|| if pattern.is_grouped() { "$1" } else { "$0" }.into());
    match Template::new(&template, &pattern) {
        Ok(template) => Ok(Some((pattern, template))),
        Err(e) => {
            Err(wrong(&format!("name_template: {e}"), "Write ${1} for what the first group of name_match matched."))
        }
    }
}

pub(super) fn wrong(what: &str, remedy: &str) -> Wrong {
    (what.to_owned(), remedy.to_owned())
}
