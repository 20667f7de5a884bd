//! GitHub: OAuth 2.0 and an API of its own instead of OpenID Connect (docs/providers/github.md has the documents).
//!
//! ```text
//!   GET /user           id, which stays; login, which its owner can change; name
//!   GET /user/emails    the primary address, if it is verified       (when an address decides anything)
//!   GET /user/orgs      organisations      ┐ of those that the configuration allows, no others:
//!   GET /user/teams     teams              ┘ everybody can make an organisation of any name
//! ```

use super::claims::{self, ORGANIZATIONS};
use super::http::{Answer, Http};
use super::opaque::Opaque;
use super::token::Claims;
use crate::config::{OidcConfig, Organization};
use crate::model::{Denied, Reason};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The longest list that is read, in pages of a hundred. One that goes on is not read as one that ends.
const MAX_PAGES: usize = 50;

/// What it wants to be asked with.
pub const HEADERS: [(&str, &str); 2] =
    [("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")];

/// The API, as a person who approved.
pub struct Api<'a> {
    http: &'a Http,
    root: &'a str,
    token: &'a Opaque,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

/// An organisation.
#[derive(Debug, Deserialize)]
pub struct Org {
    /// Its number, which stays.
    pub id: u64,
    /// What it is called now.
    pub login: String,
}

#[derive(Deserialize)]
struct Team {
    slug: String,
    organization: Org,
}

impl<'a> Api<'a> {
    /// At `root`, by her token.
    pub fn new(http: &'a Http, root: &'a str, token: &'a Opaque) -> Self {
        Self { http, root, token }
    }

    /// Who she is, in the words of OpenID Connect.
    pub async fn claims(&self, config: &OidcConfig) -> Result<Claims, Denied> {
        let user: User = parsed("/user", &self.get(&format!("{}/user", self.root), "/user").await?)?;
        let mut claims = Claims::new();
        claims.insert("sub".into(), json!(user.id.to_string()));
        claims.insert("preferred_username".into(), json!(user.login));
        claims.insert("name".into(), json!(user.name));
        if claims::needs_email(config) {
            let emails: Vec<Email> = self.list("/user/emails").await?;
            if let Some(primary) = emails.iter().find(|e| e.primary) {
                claims.insert("email".into(), json!(primary.email));
                claims.insert("email_verified".into(), json!(primary.verified));
            }
        }
        if !config.organizations.is_empty() {
            let orgs: Vec<Org> = self.list("/user/orgs").await?;
            let allowed: Vec<_> = orgs.into_iter().filter(|org| is_allowed(config, org)).collect();
            let mut groups: Vec<_> = allowed.iter().map(|org| org.login.clone()).collect();
            if !allowed.is_empty() && !config.groups_claims.is_empty() {
                let teams: Vec<Team> = self.list("/user/teams").await?;
                let of_allowed = teams.iter().filter(|team| allowed.iter().any(|org| org.id == team.organization.id));
                groups.extend(of_allowed.map(|team| format!("{}/{}", team.organization.login, team.slug)));
            }
            claims.insert(ORGANIZATIONS.into(), allowed.iter().map(|org| json!(org.id)).collect());
            claims.insert("groups".into(), groups.into_iter().map(Value::from).collect());
        }
        Ok(claims)
    }

    /// All pages of a list.
    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Denied> {
        let mut url = format!("{}{path}?per_page=100", self.root);
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.get(&url, path).await?;
            all.extend(parsed::<Vec<T>>(path, &answer)?);
            match answer.link.as_deref().and_then(next) {
                None => return Ok(all),
                // Her token goes along.
                Some(next) if next.strip_prefix(self.root).is_some_and(|rest| rest.starts_with('/')) => {
                    url = next.to_owned();
                }
                Some(_) => return Err(unavailable(path, "its next page is somewhere else")),
            }
        }
        Err(unavailable(path, "a list without an end"))
    }

    async fn get(&self, url: &str, path: &str) -> Result<Answer, Denied> {
        let answer = self.http.get_with(url, self.token, &HEADERS).await;
        let answer = answer.map_err(|e| unavailable(path, &e.to_string()))?;
        if answer.status == 401 {
            return Err(Denied::because(Reason::NotHonoured, format!("{path}: the token is taken no more (HTTP 401)")));
        }
        // 403 and 404 are its ways to say that the token has not the scope.
        if answer.is_success() { Ok(answer) } else { Err(unavailable(path, &answer.status_text())) }
    }
}

fn parsed<T: DeserializeOwned>(path: &str, answer: &Answer) -> Result<T, Denied> {
    answer.json().ok_or_else(|| unavailable(path, "not what its API documents"))
}

fn is_allowed(config: &OidcConfig, org: &Org) -> bool {
    config.organizations.iter().any(|allowed| is(allowed, org))
}

/// Whether it is the one that the configuration means.
pub fn is(meant: &Organization, org: &Org) -> bool {
    match meant {
        Organization::Login(login) => login.eq_ignore_ascii_case(&org.login),
        Organization::Id(id) => *id == org.id,
    }
}

fn unavailable(path: &str, what: &str) -> Denied {
    Denied::because(Reason::BackendUnavailable, format!("{path}: {what}"))
}

/// The next page by a Link header (RFC 8288): `<https://…?page=2>; rel="next", <…>; rel="last"`.
pub fn next(link: &str) -> Option<&str> {
    let mut rest = link;
    while let Some((_, after)) = rest.split_once('<') {
        let (url, after) = after.split_once('>')?;
        let parameters = after.split_once('<').map_or(after, |(own, _)| own);
        if parameters.split([';', ',']).any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next")) {
            return Some(url);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_next_page() {
        let header = "<https://api.github.com/x?page=1>; rel=\"prev\", <https://api.github.com/x?a=1,2&page=3>; rel=\"next\", \
                      <https://api.github.com/x?page=9>; rel=\"last\"";
        assert_eq!(next(header), Some("https://api.github.com/x?a=1,2&page=3"));
        assert_eq!(next("<https://x/1>; rel=\"last\""), None);
        assert_eq!(next("<https://x/1>; title=\"rel=next\"; rel=\"first\""), None);
        assert_eq!(next("<https://x/1"), None);
        assert_eq!(next(""), None);
    }
}
