//! Members of an organisation before they log in: a server that answers as GitHub's public documents say.
//!
//! - `GET /user/orgs`: <https://docs.github.com/en/rest/orgs/orgs#list-organizations-for-the-authenticated-user>
//! - `GET /orgs/{org}/members`, `GET /orgs/{org}/memberships/{username}` (`state`):
//!   <https://docs.github.com/en/rest/orgs/members>
//! - `GET /users/{username}`: <https://docs.github.com/en/rest/users/users#get-a-user>
//! - `organization.teams(userLogins:)`: <https://docs.github.com/en/graphql/reference/objects#organization>
//! - 403 or 429, `retry-after`, `x-ratelimit-remaining`, `x-ratelimit-reset`:
//!   <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>

use crate::engine::Box_;
use crate::github::{org, page, team};
use crate::idp::{Idp, Poll, Seen, now};
use crate::login::{file, of_kind};
use gpuhub_common::wire::Code;
use gpuhubd::engine::LookupError;
use gpuhubd::provider::Provider;
use gpuhubd::provider::oidc::OidcProvider;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const READER: &str = "github_pat_reader";
const HERS: &str = "gho_hers";
const ALICE: u64 = 583_231;

/// GitHub with alice in acme: her login, whether she is in it, her teams there.
struct GitHub {
    idp: Idp,
    login: Arc<Mutex<Option<&'static str>>>,
}

/// By the token of whoever reads the directory.
fn api(seen: &Seen, answer: impl FnOnce() -> Poll) -> Poll {
    if seen.authorization == format!("Bearer {READER}") && seen.agent.starts_with("gpuhub/") {
        answer()
    } else {
        Poll::Json(401, json!({"message": "Bad credentials"}))
    }
}

fn not_found() -> Poll {
    Poll::Json(404, json!({"message": "Not Found"}))
}

impl GitHub {
    async fn start() -> Self {
        let idp = Idp::start().await;
        let login = Arc::new(Mutex::new(Some("Alice")));
        let base = idp.issuer.clone();
        let uri = format!("{base}/login/device");
        idp.route("/login/device/code", move |_| {
            Poll::Json(200, json!({"device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": uri, "expires_in": 60, "interval": 1}))
        });
        idp.route("/login/oauth/access_token", |_| {
            Poll::Json(200, json!({"access_token": HERS, "token_type": "bearer"}))
        });

        // By her own token, when she logs in.
        let hers = |seen: &Seen, answer: Value| {
            if seen.authorization == format!("Bearer {HERS}") { Poll::Json(200, answer) } else { not_found() }
        };
        let it = login.clone();
        idp.route("/api/v3/user", move |seen| {
            hers(seen, json!({"login": *it.lock().unwrap(), "id": ALICE, "name": "Alice A"}))
        });
        idp.route("/api/v3/user/teams", move |seen| hers(seen, json!([team(42, "Acme", "vision")])));
        let orgs = json!([org(42, "Acme"), org(7, "elsewhere")]);
        idp.route("/api/v3/user/orgs", move |_| Poll::Json(200, orgs.clone()));

        // By the reader's token.
        let (it, others) = (login.clone(), (0..70).map(|n| json!({"login": format!("member-{n}"), "id": n})));
        let others: Vec<_> = others.collect();
        let at = base.clone();
        idp.route("/api/v3/orgs/Acme/members", move |seen| {
            let her = it.lock().unwrap().map(|login| json!({"login": login, "id": ALICE, "type": "User"}));
            api(seen, || page(seen, &at, &others.iter().cloned().chain(her).collect::<Vec<_>>(), 30))
        });
        for spelled in ["alice", "member-3"] {
            let it = login.clone();
            idp.route(&format!("/api/v3/users/{spelled}"), move |seen| {
                api(seen, || match *it.lock().unwrap() {
                    Some(login) if spelled == "alice" => {
                        Poll::Json(200, json!({"login": login, "id": ALICE, "name": "Alice A", "email": null}))
                    }
                    _ => not_found(),
                })
            });
            let it = login.clone();
            idp.route(&format!("/api/v3/orgs/Acme/memberships/{spelled}"), move |seen| {
                let is_member = it.lock().unwrap().is_some();
                api(seen, || {
                    if is_member { Poll::Json(200, json!({"state": "active", "role": "member"})) } else { not_found() }
                })
            });
        }
        idp.route("/api/graphql", |seen| {
            let second = seen.body.contains("\"after\":\"c1\"");
            assert!(seen.body.contains("userLogins") && seen.body.contains("\"logins\":[\"Alice\"]"), "{}", seen.body);
            let (slug, next) = if second { ("vision", Value::Null) } else { ("ml_ops", json!("c1")) };
            let teams = json!({"nodes": [{"slug": slug}], "pageInfo": {"hasNextPage": !second, "endCursor": next}});
            api(seen, || Poll::Json(200, json!({"data": {"organization": {"teams": teams}}})))
        });
        Self { idp, login }
    }

    fn provider(&self, lines: &str, ttl: &str) -> OidcProvider {
        let token = file(READER);
        let table = format!("[provider.directory]\ntoken_file = \"{token}\"\ncache_ttl = \"{ttl}\"");
        let provider = of_kind(&self.idp, "github", &format!("host = \"HOST\"\n{lines}\n{table}"));
        std::fs::remove_file(token).unwrap();
        provider
    }
}

const ACME: &str = "allowed_organizations = [\"acme\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_member_before_she_logs_in_and_after_it() {
    let github = GitHub::start().await;
    let b = Box_::of(github.provider(ACME, "10m"));
    let before = b.user("alice").await.unwrap();
    assert_eq!(before.gecos, "Alice A");
    assert_eq!(b.groups("alice").await, ["Acme", "Acme.ml_ops", "Acme.vision"], "both pages");
    assert_eq!(b.log_in("alice").await.0, Code::Success);
    assert_eq!(b.user("alice").await.unwrap(), before);
    assert_eq!(b.by_key("alice").await, Code::Success);
    // Names that somebody makes up cost nothing; all pages of the members are read once.
    for n in 0..300 {
        assert_eq!(b.user(&format!("made-up-{n}")).await, Err(LookupError::NoSuchEntry));
    }
    assert_eq!(github.idp.seen("/api/v3/orgs/Acme/members").len(), 3);
    assert_eq!(b.user("member-3").await, Err(LookupError::NoSuchEntry), "on the list, and gone meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_and_who_is_called_otherwise_now() {
    let github = GitHub::start().await;
    let b = Box_::of(github.provider(ACME, "0s"));
    assert!(b.user("alice").await.is_ok());
    *github.login.lock().unwrap() = None;
    assert_eq!(b.user("alice").await, Err(LookupError::NoSuchEntry), "at once, whatever the list says");
    assert_eq!(b.by_key("alice").await, Code::PermDenied);
    // Another who takes her login is another person.
    *github.login.lock().unwrap() = Some("Alice");
    github.idp.route("/api/v3/users/alice", |seen| {
        api(seen, || Poll::Json(200, json!({"login": "alice", "id": 99, "name": null})))
    });
    github.idp.route("/api/graphql", |seen| {
        let teams = json!({"nodes": [], "pageInfo": {"hasNextPage": false, "endCursor": null}});
        api(seen, || Poll::Json(200, json!({"data": {"organization": {"teams": teams}}})))
    });
    assert_eq!(b.by_key("alice").await, Code::PermDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_teams_are_the_directory_s_for_key_logins() {
    let github = GitHub::start().await;
    for (team, code) in [("Acme/vision", Code::Success), ("Acme/other", Code::PermDenied)] {
        let b = Box_::of(github.provider(&format!("{ACME}\nrequired_groups = [\"{team}\"]"), "10m"));
        assert!(b.user("alice").await.is_ok());
        assert_eq!(b.by_key("alice").await, code, "{team}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_does_not_tell_is_not_nobody() {
    let github = GitHub::start().await;
    let reset = format!("x-ratelimit-remaining: 0\r\nx-ratelimit-reset: {}\r\n", now() + 600);
    let limited = Poll::Raw(403, reset, "{\"message\": \"API rate limit exceeded\"}");
    let elsewhere = Poll::Raw(200, "Link: <https://127.0.0.1:1/x>; rel=\"next\"\r\n".into(), "[]");
    let refused = Poll::Json(403, json!({"message": "Must have admin rights"}));
    let forbidden = json!({"errors": [{"type": "INSUFFICIENT_SCOPES", "message": "x"}], "data": null});
    let cases = [
        ("/api/v3/user/orgs", Poll::Json(200, json!([org(7, "elsewhere")]))),
        ("/api/v3/orgs/Acme/members", limited),
        ("/api/v3/orgs/Acme/members", elsewhere),
        ("/api/v3/orgs/Acme/memberships/alice", refused),
        ("/api/v3/users/alice", Poll::Json(200, json!({"login": "alice"}))),
        ("/api/graphql", Poll::Json(200, forbidden)),
    ];
    for (path, answer) in cases {
        let github = GitHub::start().await;
        github.idp.route(path, move |_| answer.clone());
        let b = Box_::of(github.provider(ACME, "10m"));
        assert_eq!(b.user("alice").await, Err(LookupError::Unavailable), "{path}");
    }
    // And of it the doctor tells.
    let ids = |findings: Vec<gpuhubd::finding::Finding>| {
        findings.into_iter().map(|f| f.id).filter(|id| id.starts_with("oidc-directory")).collect::<Vec<_>>()
    };
    let provider = github.provider(ACME, "10m");
    assert_eq!(ids(provider.check().await), ["oidc-directory"]);
    github.idp.route("/api/v3/orgs/Acme/members", |_| Poll::Json(403, json!({"message": "x"})));
    assert_eq!(ids(provider.check().await), ["oidc-directory-refused"]);
}
