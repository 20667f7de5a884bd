//! A server with GitHub's quirks, each from its public documents:
//!
//! - answers are forms unless JSON is asked for, an error comes with 200, `slow_down` says the new interval:
//!   <https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps#device-flow>
//! - a request needs a User-Agent:
//!   <https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent>
//! - lists come in pages, by Link headers:
//!   <https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api>
//! - `GET /user`: <https://docs.github.com/en/rest/users/users#get-the-authenticated-user>
//! - `GET /user/emails`:
//!   <https://docs.github.com/en/rest/users/emails#list-email-addresses-for-the-authenticated-user>
//! - `GET /user/orgs`: <https://docs.github.com/en/rest/orgs/orgs#list-organizations-for-the-authenticated-user>
//! - `GET /user/teams`: <https://docs.github.com/en/rest/teams/teams#list-teams-for-the-authenticated-user>
//! - an Enterprise Server has its API at `/api/v3`:
//!   <https://docs.github.com/en/enterprise-server/rest/using-the-rest-api/getting-started-with-the-rest-api>

use crate::idp::{CLIENT, Idp, Poll, Seen};
use crate::login::{Login, of_kind};
use futures_util::future::join_all;
use gpuhubd::model::{Person, Reason};
use gpuhubd::provider::Provider;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub const TOKEN: &str = "gho_16C7e42F292c6912E7710c838347Ae178B4a";
const DEVICE: &str = "3584d83530557fdd1f46af8289938c8ef79f9dc5";

/// As a form, unless JSON is asked for.
fn vary(seen: &Seen, answer: Value) -> Poll {
    if seen.accept.contains("application/json") {
        return Poll::Json(200, answer);
    }
    let pairs: Vec<_> = answer.as_object().unwrap().iter().map(|(k, v)| format!("{k}={v}").replace('"', "")).collect();
    Poll::Text(200, "application/x-www-form-urlencoded", pairs.join("&"))
}

/// A page of a list: `size` to a page, whatever is asked for.
pub fn page(seen: &Seen, base: &str, all: &[Value], size: usize) -> Poll {
    let number = |key: &str| seen.query.split('&').find_map(|p| p.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
    let page: usize = number("page").unwrap_or(1);
    let last = all.len().div_ceil(size).max(1);
    let link = |n: usize, rel: &str| format!("<{base}{}?per_page=100&page={n}>; rel=\"{rel}\"", seen.path);
    let header = match page {
        _ if last == 1 => String::new(),
        p if p < last => format!("Link: {}, {}\r\n", link(p + 1, "next"), link(last, "last")),
        p => format!("Link: {}, {}\r\n", link(p - 1, "prev"), link(1, "first")),
    };
    let rows: Vec<_> = all.iter().skip((page - 1) * size).take(size).collect();
    Poll::Raw(200, header, Box::leak(json!(rows).to_string().into_boxed_str()))
}

/// A request to the API, by her token.
fn api(seen: &Seen, answer: impl FnOnce() -> Poll) -> Poll {
    match () {
        () if seen.agent.is_empty() => {
            Poll::Text(403, "text/html", "Request forbidden by administrative rules.".into())
        }
        () if seen.authorization != format!("Bearer {TOKEN}") => Poll::Json(401, json!({"message": "Bad credentials"})),
        () => answer(),
    }
}

pub fn org(id: u64, login: &str) -> Value {
    json!({"login": login, "id": id, "description": "x"})
}

pub fn team(org_id: u64, org_login: &str, slug: &str) -> Value {
    json!({"id": 1, "name": "A Name", "slug": slug, "organization": org(org_id, org_login)})
}

/// Of alice, who is called `Alice` there, in many organisations and teams. She approves at once, or after a poll.
async fn github_after(wait: bool) -> Idp {
    let idp = Idp::start().await;
    let base = idp.issuer.clone();
    let uri = format!("{base}/login/device");
    idp.route("/login/device/code", move |seen| {
        assert_eq!(seen.form["client_id"], CLIENT);
        vary(
            seen,
            json!({"device_code": DEVICE, "user_code": "WDJB-MJHT", "verification_uri": uri,
                          "expires_in": 60, "interval": 1}),
        )
    });
    let polls = AtomicUsize::new(0);
    idp.route("/login/oauth/access_token", move |seen| {
        vary(
            seen,
            match polls.fetch_add(1, Ordering::SeqCst) {
                _ if seen.form["device_code"] != DEVICE => json!({"error": "incorrect_device_code"}),
                0 if wait => {
                    json!({"error": "authorization_pending", "error_description": "…", "error_uri": "https://x"})
                }
                _ => json!({"access_token": TOKEN, "token_type": "bearer", "scope": "read:org,read:user,user:email"}),
            },
        )
    });
    idp.route("/api/v3/user", |seen| {
        api(seen, || Poll::Json(200, json!({"login": "Alice", "id": 583_231, "name": "Alice A", "email": null})))
    });
    let emails = json!([
        {"email": "alice@private.example", "primary": false, "verified": true, "visibility": null},
        {"email": "alice@example.org", "primary": true, "verified": true, "visibility": "private"},
    ]);
    idp.route("/api/v3/user/emails", move |seen| api(seen, || Poll::Json(200, emails.clone())));
    let mut orgs: Vec<_> = (0..70).map(|n| org(1000 + n, &format!("club-{n}"))).collect();
    orgs.push(org(42, "Acme"));
    list(&idp, "/api/v3/user/orgs", orgs);
    let mut teams: Vec<_> = (0..70).map(|n| team(1000 + n, &format!("club-{n}"), "gpu-users")).collect();
    teams.extend([team(42, "Acme", "vision"), team(42, "Acme", "ml_ops")]);
    list(&idp, "/api/v3/user/teams", teams);
    idp
}

pub async fn github() -> Idp {
    github_after(false).await
}

fn list(idp: &Idp, path: &str, rows: Vec<Value>) {
    let base = idp.issuer.clone();
    idp.route(path, move |seen| api(seen, || page(seen, &base, &rows, 30)));
}

async fn login(idp: &Idp, lines: &str) -> Result<Person, gpuhubd::model::Denied> {
    Login::plan().run(&of_kind(idp, "github", &format!("host = \"HOST\"\n{lines}"))).await.result
}

fn groups(person: &Person) -> Vec<&str> {
    person.groups.iter().map(|g| g.name.as_str()).collect()
}

const ACME: &str = "allowed_organizations = [\"acme\"]";

#[tokio::test]
async fn a_person_of_an_organisation() {
    let idp = github_after(true).await;
    let person = login(&idp, ACME).await.unwrap();
    assert_eq!((person.name.as_str(), person.full_name.as_str()), ("alice", "Alice A"));
    assert_eq!((person.key.issuer.as_str(), person.key.subject.as_str()), (idp.issuer.as_str(), "583231"));
    // What other organisations call their teams is nothing here: everybody can make one.
    assert_eq!(groups(&person), ["Acme", "Acme.ml_ops", "Acme.vision"]);
    assert_eq!(idp.seen("/login/device/code")[0].form["scope"], "read:user user:email read:org");
    assert_eq!((idp.seen("/api/v3/user/orgs").len(), idp.seen("/api/v3/user/teams").len()), (3, 3), "all pages");
    assert!(idp.seen("/api/v3/user/emails").is_empty(), "nobody needs her address");
    assert_eq!(idp.seen("/api/v3/user")[0].accept, "application/vnd.github+json");
}

#[tokio::test]
async fn by_number_by_team_and_by_address() {
    let idp = github().await;
    assert!(login(&idp, "allowed_organization_ids = [42]").await.is_ok());
    assert!(login(&idp, &format!("{ACME}\nrequired_groups = [\"Acme/vision\"]")).await.is_ok());
    let named = "name_claim = \"email\"\nallowed_domains = [\"example.org\"]";
    let person = login(&idp, named).await.unwrap();
    assert_eq!((person.name.as_str(), groups(&person).len()), ("alice", 0));
    let refused = [
        ("allowed_organization_ids = [43]", "organisations"),
        ("allowed_organizations = [\"acm\"]", "organisations"),
        ("allowed_organizations = [\"acme\"]\nrequired_groups = [\"club-1/gpu-users\"]", "required_groups"),
        ("allowed_domains = [\"private.example\"]", "allowed_domains"),
    ];
    join_all(refused.map(|(lines, why)| async move {
        let denied = login(&github().await, lines).await.unwrap_err();
        assert!(denied.reason == Reason::NotAllowed && denied.detail.as_ref().unwrap().contains(why), "{denied:?}");
    }))
    .await;
    let unverified = json!([{"email": "alice@example.org", "primary": true, "verified": false}]);
    idp.route("/api/v3/user/emails", move |_| Poll::Json(200, unverified.clone()));
    assert_eq!(login(&idp, named).await.unwrap_err().reason, Reason::NotAllowed);
}

#[tokio::test]
async fn slow_down_says_for_how_long() {
    let idp = github().await;
    let polls = AtomicUsize::new(0);
    idp.route("/login/oauth/access_token", move |seen| {
        vary(
            seen,
            match polls.fetch_add(1, Ordering::SeqCst) {
                0 => json!({"error": "slow_down", "interval": 8}),
                _ => json!({"error": "access_denied"}),
            },
        )
    });
    assert_eq!(login(&idp, ACME).await.unwrap_err().reason, Reason::DeniedByUser);
    let polls = idp.seen("/login/oauth/access_token");
    assert!(polls[1].at - polls[0].at >= Duration::from_millis(7900), "more than the five seconds of the RFC");
}

#[tokio::test]
async fn what_the_api_does_not_tell_is_not_nothing() {
    let answers = [
        Poll::Json(404, json!({"message": "Not Found"})),
        Poll::Json(200, json!({"message": "x"})),
        Poll::Json(403, json!({"message": "API rate limit exceeded"})),
    ];
    let cases = ["/api/v3/user", "/api/v3/user/orgs", "/api/v3/user/teams"].into_iter().flat_map(|path| {
        answers.iter().map(move |answer| async move {
            let (idp, answer) = (github().await, answer.clone());
            idp.route(path, move |_| answer.clone());
            let denied = login(&idp, ACME).await.unwrap_err();
            assert_eq!(denied.reason, Reason::BackendUnavailable, "{path} {denied:?}");
        })
    });
    join_all(cases).await;
}

#[tokio::test]
async fn her_token_goes_nowhere_else() {
    let elsewhere =
        ["https://127.0.0.1:1/api/v3/user/orgs?page=2", "http://HOST/api/v3/x", "https://HOST/api/v3.evil/x"];
    join_all(elsewhere.map(|elsewhere| async move {
        let idp = github().await;
        let link = format!("Link: <{}>; rel=\"next\"\r\n", elsewhere.replace("HOST", &idp.issuer["https://".len()..]));
        idp.route("/api/v3/user/orgs", move |_| Poll::Raw(200, link.clone(), "[]"));
        let denied = login(&idp, ACME).await.unwrap_err();
        assert!(denied.detail.unwrap().contains("somewhere else"), "{elsewhere}");
    }))
    .await;
    // And a list that never ends does end.
    let idp = github().await;
    let link = format!("Link: <{}/api/v3/user/orgs?page=2>; rel=\"next\"\r\n", idp.issuer);
    idp.route("/api/v3/user/orgs", move |_| Poll::Raw(200, link.clone(), "[]"));
    assert!(login(&idp, ACME).await.unwrap_err().detail.unwrap().contains("without an end"));
}

#[tokio::test]
async fn the_doctor_asks_the_api() {
    let idp = github().await;
    let provider = of_kind(&idp, "github", &format!("host = \"HOST\"\n{ACME}"));
    let found: Vec<_> = provider.check().await.into_iter().map(|f| f.id).collect();
    assert_eq!(found, ["oidc", "oidc-not-asked-again"]);
    assert_eq!((provider.kind(), provider.issuer()), ("github", idp.issuer.as_str()));
}
