//! Microsoft Graph (docs/providers/entra.md has the documents).
//!
//! ```text
//!   GET /users?$filter=userPrincipalName eq '…'                    who is called so
//!   GET /users/{id}/transitiveMemberOf/microsoft.graph.group       her groups, through others, too, as in tokens
//! ```
//!
//! Tokens have security groups, if the application is set up as docs/providers/entra.md says; so those are taken.

use super::api::{Api, MAX_PAGES, Trouble, quoted};
use super::{Found, Spelling};
use crate::config::OidcConfig;
use crate::provider::oidc::claims::text;
use crate::provider::oidc::token::Claims;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A cast to groups is one of the queries that need this, with `$count`:
/// <https://learn.microsoft.com/en-us/graph/aad-advanced-queries>
const EVENTUAL: [(&str, &str); 2] = [("accept", "application/json"), ("consistencylevel", "eventual")];
const JSON: [(&str, &str); 1] = [("accept", "application/json")];

#[derive(Deserialize)]
struct Page<T> {
    value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

/// What is not told is null; then it is no answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    user_principal_name: String,
    display_name: Option<String>,
    account_enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    id: String,
    security_enabled: bool,
}

/// What a token for it is asked for: all that the application has been given.
pub fn scope(root: &str) -> String {
    let host = root.strip_prefix("https://").unwrap_or(root).split('/').next().unwrap_or_default();
    format!("https://{host}/.default")
}

/// Everybody who is called so: one, or nobody.
pub async fn search(api: &Api, config: &OidcConfig, spelling: &Spelling<'_>) -> Result<Vec<Found>, Trouble> {
    let (root, filter) = (&api.root, filter(&spelling.value));
    let url = format!("{root}/users?$filter={filter}&$select=id,userPrincipalName,displayName,accountEnabled");
    let users: Vec<User> = pages(api, url, &JSON).await?;
    let tenant = config.issuer.rsplit('/').nth(1).unwrap_or_default();
    let claims = |user: &User| {
        let mut claims = Claims::new();
        claims.insert("tid".into(), json!(tenant));
        claims.insert("oid".into(), json!(user.id));
        claims.insert(spelling.claim.into(), json!(user.user_principal_name));
        claims.insert("name".into(), json!(user.display_name));
        claims
    };
    Ok(users.iter().map(|user| Found { claims: claims(user), enabled: user.account_enabled }).collect())
}

/// Quotes are doubled: <https://learn.microsoft.com/en-us/graph/query-parameters#escaping-single-quotes>
fn filter(name: &str) -> String {
    quoted(&format!("userPrincipalName eq '{}'", name.replace('\'', "''")))
}

/// Adds the claim that lists her groups.
pub async fn add_groups(api: &Api, claims: &mut Claims) -> Result<(), Trouble> {
    let user = quoted(text(claims, "oid"));
    let what = "transitiveMemberOf/microsoft.graph.group";
    let url = format!("{}/users/{user}/{what}?$select=id,securityEnabled&$count=true&$top=999", api.root);
    let groups: Vec<Group> = pages(api, url, &EVENTUAL).await?;
    let ids = groups.into_iter().filter(|g| g.security_enabled).map(|g| Value::from(g.id));
    claims.insert("groups".into(), ids.collect());
    Ok(())
}

/// Whether it lets us see people and groups.
pub async fn check(api: &Api) -> Result<(), Trouble> {
    for url in ["users?$top=1&$select=id", "groups?$top=1&$select=id"] {
        let url = format!("{}/{url}", api.root);
        let _: Page<Value> = there(api, &url, &JSON).await?;
    }
    Ok(())
}

async fn there<T: DeserializeOwned>(api: &Api, url: &str, headers: &[(&str, &str)]) -> Result<T, Trouble> {
    let answer = api.json(url, headers).await?;
    answer.ok_or_else(|| Trouble::Odd(format!("{}: not there", api.path(url))))
}

async fn pages<T: DeserializeOwned>(api: &Api, mut url: String, headers: &[(&str, &str)]) -> Result<Vec<T>, Trouble> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let page: Page<T> = there(api, &url, headers).await?;
        all.extend(page.value);
        match page.next {
            None => return Ok(all),
            Some(next) if api.is_here(&next) => url = next,
            Some(_) => return Err(Trouble::Odd(format!("{}: its next page is somewhere else", api.path(&url)))),
        }
    }
    Err(Trouble::Odd(format!("{}: a list without an end", api.path(&url))))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_quote_ends_no_filter() {
        let asked = super::filter("x' or 'a' eq 'a&$top=1#+");
        assert_eq!(
            asked,
            "userPrincipalName%20eq%20%27x%27%27%20or%20%27%27a%27%27%20eq%20%27%27a%26%24top%3D1%23%2B%27"
        );
    }
}
