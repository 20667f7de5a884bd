//! OAuth 2.0 without OpenID Connect: no ID token, and identity from userinfo alone.

use crate::idp::{Idp, Poll};
use crate::login::{Login, of_kind, provider};
use futures_util::future::join_all;
use gpuhubd::model::Reason;
use gpuhubd::provider::Provider;
use serde_json::{Value, json};

/// RFC 6749 §5.1, without an ID token.
fn access_only() -> Poll {
    Poll::Json(200, json!({"access_token": "the-access-token", "token_type": "Bearer", "expires_in": 300}))
}

pub async fn idp(userinfo: Value) -> Idp {
    let idp = Idp::start().await;
    idp.change(|s| {
        s.userinfo = Some(userinfo);
        s.metadata.as_object_mut().unwrap().remove("jwks_uri");
    });
    // RFC 8414 §3: the metadata is somewhere else than OpenID Connect's.
    let metadata = idp.script.lock().unwrap().metadata.clone();
    idp.route("/.well-known/oauth-authorization-server", move |_| Poll::Json(200, metadata.clone()));
    idp.route("/.well-known/openid-configuration", |_| Poll::Json(404, json!({})));
    idp.polls([access_only()]);
    idp
}

pub fn alice() -> Value {
    json!({"sub": "s-1", "preferred_username": "alice", "name": "Alice A", "email": "alice@example.org",
           "email_verified": true, "groups": ["ml"]})
}

pub const DOMAIN: &str = "issuer = \"https://HOST\"\nallowed_domains = [\"example.org\"]\n";

#[tokio::test]
async fn identity_from_userinfo() {
    let idp = idp(alice()).await;
    let provider = of_kind(&idp, "oauth2", DOMAIN);
    let person = Login::plan().run(&provider).await.result.unwrap();
    assert_eq!((person.name.as_str(), person.full_name.as_str()), ("alice", "Alice A"));
    assert_eq!((person.key.issuer, person.key.subject.as_str()), (idp.issuer.clone(), "s-1"));
    assert_eq!(person.groups.len(), 1);
    assert_eq!(idp.seen("/userinfo")[0].authorization, "Bearer the-access-token");
    // No scope is asked for unless it is written, and nobody looks for keys.
    assert!(!idp.seen("/device/auth")[0].form.contains_key("scope") && idp.seen("/jwks").is_empty());
    assert_eq!(provider.kind(), "oauth2");
}

#[tokio::test]
async fn metadata_and_endpoints_that_are_written() {
    // RFC 8414 §3.1: of an issuer with a path the well-known part comes first.
    let idp = idp(alice()).await;
    let issuer = format!("{}/tenant/1", idp.issuer);
    let mut metadata = idp.script.lock().unwrap().metadata.clone();
    metadata["issuer"] = json!(issuer);
    idp.route("/.well-known/oauth-authorization-server/tenant/1", move |_| Poll::Json(200, metadata.clone()));
    let of_path = of_kind(&idp, "oauth2", &DOMAIN.replace("HOST", "HOST/tenant/1"));
    assert_eq!(Login::plan().run(&of_path).await.result.unwrap().key.issuer, issuer);

    let endpoints = "device_authorization_endpoint = \"https://HOST/device/auth\"\n\
                     token_endpoint = \"https://HOST/token\"\nuserinfo_endpoint = \"https://HOST/me\"\nsubject_claim = \"account.id\"\n";
    let me = json!({"account": {"id": 4711}, "preferred_username": "alice", "email": "alice@example.org", "email_verified": true});
    idp.route("/me", move |_| Poll::Json(200, me.clone()));
    let before = idp.seen("/.well-known/oauth-authorization-server").len();
    let person = Login::plan().run(&of_kind(&idp, "oauth2", &format!("{DOMAIN}{endpoints}"))).await.result.unwrap();
    assert_eq!(person.key.subject, "4711");
    assert_eq!(idp.seen("/.well-known/oauth-authorization-server").len(), before);
}

#[tokio::test]
async fn who_is_not_let_in() {
    let cases = [
        (json!({"sub": null}), Reason::BadToken),
        (json!({"sub": ""}), Reason::BadToken),
        (json!({"sub": ["s-1"]}), Reason::BadToken),
        (json!({"preferred_username": "bob"}), Reason::WrongSubject),
        (json!({"email_verified": false}), Reason::NotAllowed),
        (json!({"email": "alice@evil.example"}), Reason::NotAllowed),
    ];
    join_all(cases.map(|(change, reason)| async move {
        let mut userinfo = alice();
        userinfo.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let idp = idp(userinfo).await;
        let denied = Login::plan().run(&of_kind(&idp, "oauth2", DOMAIN)).await.result.unwrap_err();
        assert_eq!(denied.reason, reason, "{change}: {denied:?}");
    }))
    .await;
}

#[tokio::test]
async fn userinfo_that_fails_lets_nobody_in() {
    let answers = [Poll::Json(500, json!({})), Poll::Json(401, alice()), Poll::Json(200, json!([])), Poll::HangUp];
    join_all(answers.map(|answer| async move {
        let idp = idp(alice()).await;
        idp.route("/userinfo", move |_| answer.clone());
        let denied = Login::plan().run(&of_kind(&idp, "oauth2", DOMAIN)).await.result.unwrap_err();
        assert_eq!(denied.reason, Reason::BackendUnavailable, "{denied:?}");
    }))
    .await;
    let idp = idp(alice()).await;
    idp.polls([Poll::Json(200, json!({"token_type": "Bearer"}))]);
    let denied = Login::plan().run(&of_kind(&idp, "oauth2", DOMAIN)).await.result.unwrap_err();
    assert_eq!(denied.reason, Reason::BadToken);
}

/// Where an ID token is the proof, userinfo is none: whoever can have an access token made for another client could be
/// anybody here.
#[tokio::test]
async fn openid_connect_wants_its_id_token() {
    let idp = Idp::start().await;
    idp.change(|s| s.userinfo = Some(alice()));
    idp.polls([access_only()]);
    let denied = Login::plan().run(&provider(&idp, "")).await.result.unwrap_err();
    assert_eq!((denied.reason, denied.reason.as_str()), (Reason::NoIdToken, "no-id-token"));
    assert!(idp.seen("/userinfo").is_empty());
}

#[tokio::test]
async fn what_the_doctor_finds() {
    let idp = idp(alice()).await;
    let found = |lines: String| {
        let provider = of_kind(&idp, "oauth2", &format!("timeout = \"2s\"\n{lines}"));
        async move { provider.check().await.into_iter().map(|f| (f.id, f.fatal)).collect::<Vec<_>>() }
    };
    let domain = format!("{DOMAIN}ask_again = \"5m\"\n");
    assert_eq!(found(domain.clone()).await, [("oidc", false)]);
    let device = idp.script.lock().unwrap().device.1.clone();
    idp.route("/x", move |_| Poll::Json(200, device.clone()));
    let endpoint = |name: &str| format!("{name}_endpoint = \"https://HOST/x\"\n");
    let written = ["device_authorization", "token", "userinfo"].map(endpoint).concat();
    assert_eq!(found(format!("{domain}{written}")).await, [("oidc", false)]);
    assert_eq!(
        found(format!("{DOMAIN}{written}").replace("HOST/x", "127.0.0.1:1/x")).await,
        [("oidc-unreachable", true)]
    );
    idp.route("/.well-known/oauth-authorization-server", {
        let mut metadata = idp.script.lock().unwrap().metadata.clone();
        metadata.as_object_mut().unwrap().remove("userinfo_endpoint");
        move |_| Poll::Json(200, metadata.clone())
    });
    assert_eq!(found(domain).await, [("oauth2-no-userinfo", true)]);
}
