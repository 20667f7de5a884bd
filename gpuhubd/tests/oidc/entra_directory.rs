//! People of Entra before they log in, and groups that a token has no room for: a server that answers as the public
//! documents of Microsoft Graph say.
//!
//! - the client credentials grant, with `scope=https://HOST/.default`:
//!   <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
//! - `GET /users` with `$filter` and `$select`: <https://learn.microsoft.com/en-us/graph/api/user-list>
//! - `GET /users/{id}/transitiveMemberOf`, the cast to groups with `ConsistencyLevel: eventual` and `$count`:
//!   <https://learn.microsoft.com/en-us/graph/api/user-list-transitivememberof>
//! - `@odata.nextLink`: <https://learn.microsoft.com/en-us/graph/paging>
//! - 429 and Retry-After: <https://learn.microsoft.com/en-us/graph/throttling>
//! - `_claim_names`, `hasgroups` for groups beyond 200:
//!   <https://learn.microsoft.com/en-us/entra/identity-platform/id-token-claims-reference#groups-overage-claim>

use crate::engine::Box_;
use crate::entra::{ALICE, GROUP, OURS, claims, entra};
use crate::idp::{Idp, Poll, SECRET, Seen, token};
use crate::login::{Login, file, of_kind};
use gpuhub_common::wire::Code;
use gpuhubd::engine::LookupError;
use gpuhubd::model::Reason;
use gpuhubd::provider::Provider;
use gpuhubd::provider::oidc::OidcProvider;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const USERS: &str = "/graph/v1.0/users";
const GROUPS: &str = "/graph/v1.0/users/6f1e0b2a-0000-4000-8000-0123456789ab/transitiveMemberOf/microsoft.graph.group";

/// To whoever has the application's token.
fn graph(seen: &Seen, answer: impl FnOnce() -> Poll) -> Poll {
    match seen.authorization.as_str() {
        "Bearer app-token" => answer(),
        _ => Poll::Json(401, json!({"error": {"code": "InvalidAuthenticationToken"}})),
    }
}

fn group(id: &str, security: bool) -> Value {
    json!({"id": id, "securityEnabled": security})
}

fn numbered(n: usize) -> Value {
    group(&format!("00000000-0000-4000-8000-{n:012}"), true)
}

/// The tenant, with alice in 231 groups, of which 230 are security groups; whether she may log in.
async fn tenant(change: Value) -> (Idp, Arc<AtomicBool>) {
    let idp = entra(OURS, json!({})).await;
    let (base, enabled) = (idp.issuer.clone(), Arc::new(AtomicBool::new(true)));
    let root = base.clone();
    idp.route("/token", move |seen| {
        if seen.form["grant_type"] == "client_credentials" {
            let host = root.trim_start_matches("https://");
            assert_eq!(seen.form["scope"].replace("%2F", "/"), format!("https://{host}/.default"));
            return Poll::Json(200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "app-token"}));
        }
        token(claims(&root, OURS, change.clone()))
    });
    let is_enabled = enabled.clone();
    idp.route(USERS, move |seen| {
        let is_hers = seen.query.contains("$filter=userPrincipalName%20eq%20%27alice%40contoso.example%27&");
        let alice = json!({"id": ALICE, "userPrincipalName": "Alice@contoso.example", "displayName": "Alice A",
                           "accountEnabled": is_enabled.load(Ordering::SeqCst)});
        graph(seen, || Poll::Json(200, json!({"value": if is_hers { vec![alice] } else { vec![] }})))
    });
    idp.route(GROUPS, move |seen| {
        graph(seen, || {
            assert!(seen.query.contains("$count=true") && seen.consistency == "eventual", "an advanced query");
            if seen.query.contains("$skiptoken=second") {
                return Poll::Json(200, json!({"value": (100..229).map(numbered).collect::<Vec<_>>()}));
            }
            let first = (0..100).map(numbered).chain([group(GROUP, true), group("of-365", false)]);
            let next = format!("{base}{GROUPS}?$select=id,securityEnabled&$count=true&$skiptoken=second");
            Poll::Json(200, json!({"value": first.collect::<Vec<_>>(), "@odata.nextLink": next}))
        })
    });
    (idp, enabled)
}

fn provider(idp: &Idp, lines: &str, ttl: &str) -> OidcProvider {
    let secret = file(SECRET);
    let lines = format!(
        "host = \"HOST\"\ntenant = \"{OURS}\"\nstrip_domains = [\"contoso.example\"]\n{lines}\n[provider.directory]\n\
         url = \"https://HOST/graph/v1.0\"\nclient_id = \"reader\"\nclient_secret_file = \"{secret}\"\ncache_ttl = \"{ttl}\""
    );
    let provider = of_kind(idp, "entra", &lines);
    std::fs::remove_file(secret).unwrap();
    provider
}

#[tokio::test(flavor = "multi_thread")]
async fn known_before_she_logs_in_and_the_same_after_it() {
    let (idp, enabled) = tenant(json!({})).await;
    let b = Box_::of(provider(&idp, "", "0s"));
    let before = b.user("alice").await.unwrap();
    assert_eq!(before.gecos, "Alice A");
    let groups = b.groups("alice").await;
    assert!(groups.len() == 230 && groups.contains(&GROUP.to_owned()), "both pages, security groups: {}", groups.len());
    assert_eq!(b.log_in("alice").await.0, Code::Success);
    assert_eq!(b.user("alice").await.unwrap(), before);
    assert_eq!(b.by_key("alice").await, Code::Success);
    assert_eq!(b.user("o-brien").await, Err(LookupError::NoSuchEntry));
    enabled.store(false, Ordering::SeqCst);
    assert_eq!(b.by_key("alice").await, Code::AcctExpired);
    assert_eq!(b.log_in("alice").await.0, Code::AcctExpired);
    assert_eq!(b.user("alice").await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_groups_for_a_token_are_asked_of_graph() {
    for overage in [
        json!({"groups": null, "_claim_names": {"groups": "src1"},
               "_claim_sources": {"src1": {"endpoint": "https://graph.microsoft.com/v1.0/users/x/getMemberObjects"}}}),
        json!({"groups": null, "hasgroups": true}),
    ] {
        let (idp, _) = tenant(overage).await;
        let required = format!("required_groups = [\"{GROUP}\"]");
        let person = Login::plan().run(&provider(&idp, &required, "0s")).await.result.unwrap();
        assert_eq!(person.groups.len(), 230);
        let other = "required_groups = [\"11111111-1111-4111-8111-111111111111\"]";
        let denied = Login::plan().run(&provider(&idp, other, "0s")).await.result.unwrap_err();
        assert_eq!(denied.reason, Reason::NotAllowed);
        // By what Graph does not tell nobody gets past a rule.
        let elsewhere = json!({"value": [], "@odata.nextLink": "https://127.0.0.1:1/graph/v1.0/x"});
        for answer in [Poll::Json(403, json!({})), Poll::Json(200, elsewhere), Poll::Json(404, json!({}))] {
            idp.route(GROUPS, move |_| answer.clone());
            let denied = Login::plan().run(&provider(&idp, &required, "0s")).await.result.unwrap_err();
            assert_eq!(denied.reason, Reason::BackendUnavailable);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_graph_does_not_tell_is_not_nobody() {
    let not_told = json!({"value": [{"id": ALICE, "userPrincipalName": "alice@contoso.example", "displayName": null,
                                     "accountEnabled": null}]});
    let cases = [
        (USERS, Poll::Json(403, json!({"error": {"code": "Authorization_RequestDenied"}}))),
        (USERS, Poll::Raw(429, "Retry-After: 10\r\n".into(), "{}")),
        (USERS, Poll::Json(200, not_told)),
        (USERS, Poll::Text(200, "text/html", "<html>".into())),
        (GROUPS, Poll::Json(503, json!({}))),
    ];
    for (path, answer) in cases {
        let (idp, _) = tenant(json!({})).await;
        idp.route(path, move |_| answer.clone());
        assert_eq!(Box_::of(provider(&idp, "", "0s")).user("alice").await, Err(LookupError::Unavailable), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_graph() {
    let (idp, _) = tenant(json!({})).await;
    idp.route("/graph/v1.0/groups", |seen| graph(seen, || Poll::Json(200, json!({"value": []}))));
    let find = |id: &'static str, all: Vec<gpuhubd::finding::Finding>| all.into_iter().find(|f| f.id == id).unwrap();
    let provider = provider(&idp, "", "10m");
    find("oidc-directory", provider.check().await);
    idp.route("/graph/v1.0/groups", |_| Poll::Json(403, json!({})));
    let refused = find("oidc-directory-refused", provider.check().await);
    assert!(refused.remedy.contains("GroupMember.Read.All") && refused.what.contains("/groups"), "{refused:?}");
}
