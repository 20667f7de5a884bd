//! The kinds of providers with the device grant: what each has that differs from `oidc`, on one page. The flow is
//! one and the same. Where each difference is documented is in docs/providers/.

use super::oidc::OidcTable;

/// One kind.
#[derive(Debug)]
pub struct Profile {
    /// `kind` in the configuration.
    pub kind: &'static str,
    /// What says who somebody is.
    pub proof: Proof,
    /// Keys that only some kinds have.
    pub(super) keys: &'static [&'static str],
    /// Its issuer, from those keys.
    pub(super) issuer: fn(&OidcTable) -> Result<String, &'static str>,
    /// Asked for.
    pub(super) scopes: &'static [&'static str],
    /// The claims that may be the login name: the first that is there.
    pub(super) name_claims: &'static [&'static str],
    /// The claims that list groups.
    pub(super) groups_claims: &'static [&'static str],
    /// Pattern and name (none: left out) of groups about which no configured rule is.
    pub(super) group_rules: &'static [(&'static str, Option<&'static str>)],
    /// The claims that say together who somebody is for good.
    pub(super) subject_claims: &'static [&'static str],
    /// Names there are spelled in any case, and are the same.
    pub(super) lowercase_names: bool,
    /// Names there are `alice@example.org`.
    pub(super) names_have_domains: bool,
    /// A client secret goes into the form, and `client_id` beside it.
    pub secret_in_form: bool,
    /// The scope that brings a refresh token that outlives her session there, if one has to be asked for.
    pub lasting_scope: Option<&'static str>,
    /// userinfo has claims that the ID token leaves out.
    pub has_userinfo: bool,
    /// An address is a person's for sure only with the claim `hd`, or below these domains, which are open to anyone.
    pub hosts_mail: &'static [&'static str],
}

/// What says who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// An ID token, and what userinfo adds to it.
    IdToken,
    /// userinfo alone: OAuth 2.0 without OpenID Connect.
    Userinfo,
    /// GitHub's API.
    GitHub,
}

const ENDPOINTS: [&str; 3] = ["device_authorization_endpoint", "token_endpoint", "userinfo_endpoint"];

/// OpenID Connect as it is written.
const OIDC: Profile = Profile {
    kind: "oidc",
    proof: Proof::IdToken,
    keys: &["issuer", ENDPOINTS[0], ENDPOINTS[1], ENDPOINTS[2]],
    issuer: written,
    scopes: &["openid", "profile", "email"],
    name_claims: &["preferred_username"],
    groups_claims: &["groups"],
    group_rules: &[],
    subject_claims: &["sub"],
    lowercase_names: false,
    names_have_domains: false,
    secret_in_form: false,
    lasting_scope: Some("offline_access"),
    has_userinfo: true,
    hosts_mail: &[],
};

/// All kinds.
pub static PROFILES: &[Profile] = &[
    OIDC,
    Profile {
        kind: "oauth2",
        proof: Proof::Userinfo,
        keys: &["issuer", "subject_claim", ENDPOINTS[0], ENDPOINTS[1], ENDPOINTS[2]],
        scopes: &[],
        lasting_scope: None,
        ..OIDC
    },
    Profile { kind: "keycloak", keys: &["issuer", "host", "realm"], issuer: keycloak, ..OIDC },
    // Its device grant knows no other scopes, and it has no groups for them.
    Profile {
        kind: "google",
        keys: &["host", "hosted_domains"],
        issuer: |t| Ok(at(t.host.as_deref().unwrap_or("accounts.google.com"), "")),
        scopes: &["openid", "email", "profile"],
        name_claims: &["email"],
        groups_claims: &[],
        lowercase_names: true,
        secret_in_form: true,
        lasting_scope: None,
        hosts_mail: &["gmail.com", "googlemail.com"],
        ..OIDC
    },
    // Everybody may make groups there, so none is one here unless a rule says so.
    Profile {
        kind: "gitlab",
        keys: &["host"],
        issuer: |t| Ok(at(t.host.as_deref().unwrap_or("gitlab.com"), "")),
        group_rules: &[(".*", None)],
        lasting_scope: None,
        ..OIDC
    },
    // `sub` is another one for each application; tenant and object are the same for all.
    Profile {
        kind: "entra",
        keys: &["host", "tenant", "allowed_tenants"],
        issuer: entra,
        subject_claims: &["tid", "oid"],
        lowercase_names: true,
        names_have_domains: true,
        has_userinfo: false,
        ..OIDC
    },
    Profile {
        kind: "okta",
        keys: &["host", "authorization_server"],
        issuer: okta,
        lowercase_names: true,
        names_have_domains: true,
        ..OIDC
    },
    Profile { kind: "authentik", keys: &["issuer", "host", "application"], issuer: authentik, ..OIDC },
    Profile { kind: "dex", scopes: &["openid", "profile", "email", "groups"], ..OIDC },
    // A team is `organisation/team` there, and no group's name may have a slash.
    Profile {
        kind: "github",
        proof: Proof::GitHub,
        keys: &["host", "allowed_organizations", "allowed_organization_ids"],
        issuer: |t| Ok(at(t.host.as_deref().unwrap_or("github.com"), "")),
        scopes: &["read:user", "user:email", "read:org"],
        group_rules: &[("([^/]+)/(.+)", Some("$1.$2"))],
        lasting_scope: None,
        lowercase_names: true,
        ..OIDC
    },
];

/// The profile of that kind.
pub fn of_kind(kind: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|p| p.kind == kind)
}

fn at(host: &str, path: &str) -> String {
    format!("https://{host}{path}")
}

fn written(table: &OidcTable) -> Result<String, &'static str> {
    table.issuer.clone().ok_or("issuer is missing")
}

/// One of an `issuer` as it is written, and a host with something else.
fn either(table: &OidcTable, other: Option<&String>, made: fn(&str, &str) -> String) -> Result<String, &'static str> {
    match (&table.issuer, &table.host, other) {
        (Some(issuer), None, None) => Ok(issuer.clone()),
        (None, Some(host), Some(other)) if is_path(other) => Ok(made(host, other)),
        (None, Some(_), Some(_)) => Err("the name after the host is not one word of letters, digits and -._"),
        _ => Err("either issuer, or host and the name that belongs to it"),
    }
}

fn keycloak(table: &OidcTable) -> Result<String, &'static str> {
    either(table, table.realm.as_ref(), |host, realm| at(host, &format!("/realms/{realm}")))
}

fn authentik(table: &OidcTable) -> Result<String, &'static str> {
    either(table, table.application.as_ref(), |host, slug| at(host, &format!("/application/o/{slug}/")))
}

fn okta(table: &OidcTable) -> Result<String, &'static str> {
    let host = table.host.as_ref().ok_or("host is missing")?;
    match &table.authorization_server {
        None => Ok(at(host, "")),
        Some(server) if is_path(server) => Ok(at(host, &format!("/oauth2/{server}"))),
        Some(_) => Err("authorization_server is not the id of one"),
    }
}

/// Tokens have the tenant's id for issuer, so a tenant's domain would never fit.
fn entra(table: &OidcTable) -> Result<String, &'static str> {
    let tenant = table.tenant.as_ref().ok_or("tenant is missing")?;
    if !is_guid(tenant) && !is_of_many_tenants(tenant) {
        return Err("tenant is neither a tenant's id nor \"organizations\" nor \"common\"");
    }
    Ok(at(table.host.as_deref().unwrap_or("login.microsoftonline.com"), &format!("/{tenant}/v2.0")))
}

/// A tenant that stands for many.
pub(super) fn is_of_many_tenants(tenant: &str) -> bool {
    matches!(tenant, "common" | "organizations" | "consumers")
}

/// As Entra writes ids.
pub fn is_guid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let lower_hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(lower_hex)
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) && !text.starts_with('.')
}
