//! Keycloak's Admin REST API (docs/providers/keycloak.md has the documents).
//!
//! ```text
//!   GET /users?username=…&exact=true                       who is called so; or email=…, or q=ATTRIBUTE:…
//!   GET /users/{id}/groups                                 her groups, those that she is in herself, as in tokens
//!   GET /users/{id}/role-mappings/realm/composite          realm_access.roles
//!   GET /users/{id}/role-mappings/clients/{id}/composite   resource_access.CLIENT.roles; by GET /clients?clientId=…
//! ```
//!
//! Who may search and not view is told of nobody, with 200: so that nobody is there is believed only of somebody who
//! sees anybody at all.

use super::api::{Api, MAX_PAGES, Trouble, quoted};
use super::{Found, Spelling};
use crate::config::OidcConfig;
use crate::provider::oidc::claims::text;
use crate::provider::oidc::token::Claims;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;

/// As many as a page has.
const PAGE: usize = 100;

const JSON: [(&str, &str); 1] = [("accept", "application/json")];

/// UserRepresentation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    username: String,
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    enabled: bool,
    #[serde(default)]
    attributes: Option<HashMap<String, Vec<String>>>,
    service_account_client_id: Option<String>,
}

/// GroupRepresentation.
#[derive(Deserialize)]
struct Group {
    name: String,
    path: String,
}

/// RoleRepresentation.
#[derive(Deserialize)]
struct Role {
    name: String,
}

/// ClientRepresentation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    id: String,
    client_id: String,
}

/// Everybody of whom the claim may be that.
pub async fn search(api: &Api, config: &OidcConfig, spelling: &Spelling<'_>) -> Result<Vec<Found>, Trouble> {
    let parameter = if spelling.claim == "email" { "email" } else { "username" };
    users(api, config, &format!("{parameter}={}&exact=true", quoted(&spelling.value))).await
}

/// Everybody of whom an attribute is that.
pub async fn by_attribute(api: &Api, config: &OidcConfig, name: &str, value: &str) -> Result<Vec<Found>, Trouble> {
    users(api, config, &format!("q={}&exact=true", quoted(&format!("{name}:{value}")))).await
}

async fn users(api: &Api, config: &OidcConfig, query: &str) -> Result<Vec<Found>, Trouble> {
    let url = format!("{}/users?{query}&briefRepresentation=false&max={PAGE}", api.root);
    let users: Vec<User> = there(api, &url).await?;
    if users.is_empty() {
        check(api).await?;
    }
    // The accounts by which clients act are nobody's.
    let people = users.into_iter().filter(|u| u.service_account_client_id.is_none());
    let people = people.filter(|u| !u.username.starts_with("service-account-"));
    Ok(people.map(|user| Found { enabled: user.enabled, claims: claims(config, user) }).collect())
}

/// In the words of its tokens (the mappers of the client scopes `profile` and `email`).
fn claims(config: &OidcConfig, user: User) -> Claims {
    let names: Vec<String> = [user.first_name, user.last_name].into_iter().flatten().collect();
    let mut claims = Claims::new();
    claims.insert("sub".into(), json!(user.id));
    claims.insert("preferred_username".into(), json!(user.username));
    claims.insert("name".into(), json!(names.join(" ").trim()));
    if let Some(email) = user.email {
        claims.insert("email".into(), json!(email));
        claims.insert("email_verified".into(), json!(user.email_verified));
    }
    let attributes = user.attributes.unwrap_or_default();
    for id in [&config.uid_claim, &config.gid_claim].into_iter().flatten() {
        if let Some([value]) = attributes.get(id.outermost()).map(Vec::as_slice) {
            claims.entry(id.outermost()).or_insert(json!(value));
        }
    }
    claims
}

/// Adds the claims that list her groups.
pub async fn add_groups(api: &Api, config: &OidcConfig, claims: &mut Claims) -> Result<(), Trouble> {
    let user = format!("{}/users/{}", api.root, quoted(text(claims, "sub")));
    let full_paths = config.directory.as_ref().is_some_and(|directory| directory.full_group_paths);
    for claim in &config.groups_claims {
        match claim.keys() {
            [_] => {
                let groups: Vec<Group> = pages(api, &format!("{user}/groups")).await?;
                let names = groups.into_iter().map(|g| Value::from(if full_paths { g.path } else { g.name }));
                claims.insert("groups".into(), names.collect());
            }
            [_, _] => {
                let roles = roles(api, &format!("{user}/role-mappings/realm/composite")).await?;
                claims.insert("realm_access".into(), json!({"roles": roles}));
            }
            [_, client, _] => {
                let url = format!("{}/clients?clientId={}", api.root, quoted(client));
                let clients: Vec<Client> = there(api, &url).await?;
                let Some(found) = clients.into_iter().find(|c| c.client_id == *client) else {
                    return Err(Trouble::Refused(format!("/clients: it shows no client {client} (view-clients)")));
                };
                let url = format!("{user}/role-mappings/clients/{}/composite", quoted(&found.id));
                let roles = roles(api, &url).await?;
                if let Value::Object(all) = claims.entry("resource_access").or_insert(json!({})) {
                    all.insert(client.clone(), json!({"roles": roles}));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

async fn roles(api: &Api, url: &str) -> Result<Vec<String>, Trouble> {
    let roles: Vec<Role> = there(api, url).await?;
    Ok(roles.into_iter().map(|role| role.name).collect())
}

/// Whether it lets us see people.
pub async fn check(api: &Api) -> Result<(), Trouble> {
    let users: Vec<User> = there(api, &format!("{}/users?briefRepresentation=true&max=1", api.root)).await?;
    match users.is_empty() {
        false => Ok(()),
        true => Err(Trouble::Refused("/users: it shows nobody at all (view-users)".into())),
    }
}

/// What must be there: where a list is not, something is wrong.
async fn there<T: DeserializeOwned>(api: &Api, url: &str) -> Result<T, Trouble> {
    let answer = api.json(url, &JSON).await?;
    answer.ok_or_else(|| Trouble::Odd(format!("{}: not there", api.path(url))))
}

async fn pages<T: DeserializeOwned>(api: &Api, url: &str) -> Result<Vec<T>, Trouble> {
    let mut all = Vec::new();
    for page in 0..MAX_PAGES {
        let url = format!("{url}?briefRepresentation=true&first={}&max={PAGE}", page * PAGE);
        let more: Vec<T> = there(api, &url).await?;
        let is_last = more.len() < PAGE;
        all.extend(more);
        if is_last {
            return Ok(all);
        }
    }
    Err(Trouble::Odd(format!("{}: a list without an end", api.path(url))))
}
