//! GitHub's API, about other people than the one whose token it is (docs/providers/github.md has the documents).
//!
//! ```text
//!   GET /user/orgs                              the allowed organisations; the token's owner is in all of them
//!   GET /orgs/{org}/members                     who is in them at all: kept for a while, so that a name that somebody
//!                                               made up costs no request (there are 5,000 an hour)
//!   GET /users/{login}                          id, login, name
//!   GET /orgs/{org}/memberships/{login}         whether she still is
//!   POST /graphql                               her teams: organization.teams(userLogins)
//! ```

use super::api::{Api, MAX_PAGES, Trouble, quoted};
use super::{Found, Spelling};
use crate::config::{OidcConfig, Organization};
use crate::provider::oidc::claims::{ORGANIZATIONS, text};
use crate::provider::oidc::github::{HEADERS, Org, is, next};
use crate::provider::oidc::shared::{PAUSE, Shared};
use crate::provider::oidc::token::Claims;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Who joined before this is known at her login.
const AT_LOGIN: Duration = Duration::from_secs(60);

const TEAMS: &str = "query($org: String!, $logins: [String!], $after: String) { organization(login: $org) { \
    teams(first: 100, userLogins: $logins, after: $after) { nodes { slug } pageInfo { hasNextPage endCursor } } } }";

/// What is known of the organisations.
#[derive(Debug)]
pub struct GitHub {
    roster: Shared<Roster>,
}

/// Who is in them.
#[derive(Debug)]
struct Roster {
    at: Instant,
    orgs: Vec<Org>,
    logins: HashSet<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
    /// Of an Enterprise Server.
    suspended_at: Option<String>,
}

#[derive(Deserialize)]
struct Member {
    login: String,
}

#[derive(Deserialize)]
struct Membership {
    state: String,
}

impl Default for GitHub {
    fn default() -> Self {
        Self { roster: Shared::new() }
    }
}

impl GitHub {
    /// Whoever has the login: one member, or nobody.
    pub async fn search(
        &self,
        api: &Arc<Api>,
        config: &OidcConfig,
        spelling: &Spelling<'_>,
        login: bool,
    ) -> Result<Vec<Found>, Trouble> {
        let ttl = config.directory.as_ref().map_or(AT_LOGIN, |directory| directory.cache_ttl.0);
        let max_age = if login { ttl.min(AT_LOGIN) } else { ttl };
        let fetch = {
            let (api, wanted) = (api.clone(), config.organizations.clone());
            async move { roster(&api, &wanted).await.map_err(|trouble| trouble.to_string()) }
        };
        let roster = self.roster.get(max_age, fetch).await.map_err(Trouble::Away)?;
        if !roster.logins.contains(&spelling.value.to_ascii_lowercase()) {
            // It may be an old one that could not be fetched again.
            let is_certain = roster.at.elapsed() <= max_age + PAUSE;
            return if is_certain { Ok(Vec::new()) } else { Err(Trouble::Away("its members are not told".into())) };
        }
        let name = quoted(&spelling.value);
        let Some(user) = api.json::<User>(&format!("{}/users/{name}", api.root), &HEADERS).await? else {
            return Ok(Vec::new());
        };
        let mut of = Vec::new();
        for org in &roster.orgs {
            let url = format!("{}/orgs/{}/memberships/{name}", api.root, quoted(&org.login));
            let membership: Option<Membership> = api.json(&url, &HEADERS).await?;
            if membership.is_some_and(|m| m.state == "active") {
                of.push(org);
            }
        }
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut claims = Claims::new();
        claims.insert("sub".into(), json!(user.id.to_string()));
        claims.insert("preferred_username".into(), json!(user.login));
        claims.insert("name".into(), json!(user.name));
        claims.insert(ORGANIZATIONS.into(), of.iter().map(|org| json!(org.id)).collect());
        claims.insert("groups".into(), of.iter().map(|org| json!(org.login)).collect());
        Ok(vec![Found { claims, enabled: user.suspended_at.is_none() }])
    }
}

/// Adds the teams to the organisations.
pub async fn add_groups(api: &Api, claims: &mut Claims) -> Result<(), Trouble> {
    let login = text(claims, "preferred_username").to_owned();
    let Some(Value::Array(mut groups)) = claims.remove("groups") else { return Ok(()) };
    let orgs: Vec<String> = groups.iter().filter_map(|org| org.as_str().map(String::from)).collect();
    for org in orgs {
        groups.extend(teams(api, &org, &login).await?.into_iter().map(|team| json!(format!("{org}/{team}"))));
    }
    claims.insert("groups".into(), Value::Array(groups));
    Ok(())
}

async fn teams(api: &Api, org: &str, login: &str) -> Result<Vec<String>, Trouble> {
    // An Enterprise Server has it beside /api/v3.
    let url = match api.root.strip_suffix("/v3") {
        Some(root) => format!("{root}/graphql"),
        None => format!("{}/graphql", api.root),
    };
    let (mut all, mut after) = (Vec::new(), Value::Null);
    for _ in 0..MAX_PAGES {
        let asked = json!({"query": TEAMS, "variables": {"org": org, "logins": [login], "after": after}});
        let answer: Value = api.post(&url, &HEADERS, &asked).await?;
        if let Some(kind) = answer.pointer("/errors/0") {
            let kind = kind.get("type").and_then(Value::as_str).unwrap_or_default();
            return Err(match kind {
                "RATE_LIMITED" => Trouble::Away("/graphql: it was asked too much".into()),
                "FORBIDDEN" | "INSUFFICIENT_SCOPES" | "NOT_FOUND" => {
                    Trouble::Refused(format!("/graphql: {kind} of the teams of {org}"))
                }
                _ => Trouble::Odd("/graphql: an error".into()),
            });
        }
        let odd = || Trouble::Odd("/graphql: not what its API documents".into());
        let teams = answer.pointer("/data/organization/teams").ok_or_else(odd)?;
        for node in teams.get("nodes").and_then(Value::as_array).ok_or_else(odd)? {
            all.push(node.get("slug").and_then(Value::as_str).ok_or_else(odd)?.to_owned());
        }
        match (teams.pointer("/pageInfo/hasNextPage"), teams.pointer("/pageInfo/endCursor")) {
            (Some(Value::Bool(false)), _) => return Ok(all),
            (Some(Value::Bool(true)), Some(cursor @ Value::String(_))) => after = cursor.clone(),
            _ => return Err(odd()),
        }
    }
    Err(Trouble::Odd("/graphql: a list without an end".into()))
}

/// Whether it lets us see the organisations and who is in them.
pub async fn check(api: &Api, config: &OidcConfig) -> Result<(), Trouble> {
    roster(api, &config.organizations).await.map(drop)
}

/// All of them, or none: who is in one that is not seen would seem to be gone.
async fn roster(api: &Api, wanted: &[Organization]) -> Result<Roster, Trouble> {
    let at = Instant::now();
    let mut orgs: Vec<Org> = list(api, "/user/orgs").await?;
    orgs.retain(|org| wanted.iter().any(|wanted| is(wanted, org)));
    if !wanted.iter().all(|wanted| orgs.iter().any(|org| is(wanted, org))) {
        return Err(Trouble::Refused("/user/orgs: it does not show all the allowed organisations".into()));
    }
    let mut logins = HashSet::new();
    for org in &orgs {
        let members: Vec<Member> = list(api, &format!("/orgs/{}/members", quoted(&org.login))).await?;
        logins.extend(members.into_iter().map(|member| member.login.to_ascii_lowercase()));
    }
    Ok(Roster { at, orgs, logins })
}

/// All pages of a list.
async fn list<T: DeserializeOwned>(api: &Api, path: &str) -> Result<Vec<T>, Trouble> {
    let mut url = format!("{}{path}?per_page=100", api.root);
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let answer = api.get(&url, &HEADERS).await?.ok_or_else(|| Trouble::Refused(format!("{path}: HTTP 404")))?;
        all.extend(api.read::<Vec<T>>(&url, &answer)?);
        match answer.link.as_deref().and_then(next) {
            None => return Ok(all),
            Some(next) if api.is_here(next) => url = next.to_owned(),
            Some(_) => return Err(Trouble::Odd(format!("{path}: its next page is somewhere else"))),
        }
    }
    Err(Trouble::Odd(format!("{path}: a list without an end")))
}
