//! A provider that is asked again, without her: RFC 6749 §6, OpenID Connect Core §12, and GitHub, whose tokens of OAuth
//! apps do not expire ("Expiring user access tokens are currently an optional feature" of GitHub Apps:
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens>).

use crate::github::{TOKEN, github};
use crate::idp::{CLIENT, Idp, Poll, error, token};
use crate::login::{self, Login, name, of_kind, provider};
use crate::oauth2;
use gpuhubd::model::{Denied, Person, Reason};
use gpuhubd::provider::Provider;
use gpuhubd::provider::grant::Kept;
use gpuhubd::provider::oidc::OidcProvider;
use serde_json::{Value, json};
use std::time::Duration;

const AGAIN: &str = "ask_again = \"5m\"\n";

/// An answer of the token endpoint with a refresh token, and an ID token with these changes, if any.
fn answer(idp: &Idp, refresh: &str, change: Option<Value>) -> Poll {
    let mut answer = json!({"access_token": "the-access-token", "token_type": "Bearer", "refresh_token": refresh});
    if let Some(change) = change {
        answer["id_token"] = json!(idp.id_token(&token(change)));
    }
    Poll::Json(200, answer)
}

fn refresh(token: &str) -> Kept {
    Kept::from_bytes(format!("r{token}").as_bytes()).unwrap()
}

/// What it says, asked with `kept`.
async fn again(provider: &OidcProvider, kept: &Kept) -> Result<Option<Person>, Denied> {
    provider.who_has(&provider.renew(kept).await?, (&name("alice")).into()).await
}

async fn refused(provider: &OidcProvider) -> (Reason, String) {
    let denied = again(provider, &refresh("r1")).await.unwrap_err();
    (denied.reason, denied.detail.unwrap_or_default())
}

#[tokio::test]
async fn a_refresh_token_is_asked_for_and_kept_only_where_it_is_wanted() {
    let idp = Idp::start().await;
    idp.polls([answer(&idp, "r1", Some(json!({})))]);
    let login = Login::of(&idp, "").await;
    assert!(login.result.is_ok() && login.kept.is_none());
    let login = Login::of(&idp, AGAIN).await;
    assert_eq!((login.result.is_ok(), login.kept.as_deref()), (true, Some(&b"rr1"[..])));
    let scopes: Vec<_> = idp.seen("/device/auth").iter().map(|s| s.form["scope"].clone()).collect();
    assert_eq!(scopes, ["openid profile email", "openid profile email offline_access"]);
    // It gives none: the sign-in counts all the same.
    idp.polls([token(json!({}))]);
    let login = Login::of(&idp, AGAIN).await;
    assert!(login.result.is_ok() && login.kept.is_none());
}

#[tokio::test]
async fn new_tokens_and_who_she_is_by_now() {
    let idp = Idp::start().await;
    let secret = login::file(crate::idp::SECRET);
    let provider = provider(&idp, &format!("{AGAIN}client_secret_file = \"{secret}\""));
    std::fs::remove_file(secret).unwrap();
    idp.polls([answer(&idp, "r2", Some(json!({"groups": ["vision"]})))]);
    let tokens = provider.renew(&refresh("r1")).await.unwrap();
    assert_eq!(tokens.refresh_token.as_ref().unwrap().expose(), "r2");
    let person = provider.who_has(&tokens, (&name("alice")).into()).await.unwrap().unwrap();
    assert_eq!(person.key.subject, "subject-of-alice");
    assert_eq!(person.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["vision"]);
    let asked = &idp.seen("/token")[0];
    assert_eq!((asked.form["grant_type"].as_str(), asked.form["refresh_token"].as_str()), ("refresh_token", "r1"));
    assert!(asked.authorization.starts_with("Basic ") && !asked.form.contains_key("client_id"));
    // OpenID Connect Core §12.2: the answer "might not contain an id_token".
    idp.polls([answer(&idp, "r3", None)]);
    assert!(again(&provider, &refresh("r2")).await.unwrap().is_none());
}

#[tokio::test]
async fn what_it_may_say_against_her() {
    let idp = Idp::start().await;
    let provider = provider(&idp, &format!("{AGAIN}required_groups = [\"gpu-users\"]"));
    for (poll, reason) in [
        (error("invalid_grant"), Reason::NotHonoured),
        (error("interaction_required"), Reason::NotHonoured),
        (error("invalid_client"), Reason::BackendUnavailable),
        (Poll::Json(429, json!({})), Reason::BackendUnavailable),
        (Poll::Text(503, "text/html", "<html>".into()), Reason::BackendUnavailable),
        (Poll::HangUp, Reason::BackendUnavailable),
        // As at a sign-in: tokens verify, are hers, and the provider's restrictions let her in.
        (answer(&idp, "r2", Some(json!({"aud": "another"}))), Reason::WrongAudience),
        (answer(&idp, "r2", Some(json!({"preferred_username": "bob"}))), Reason::WrongSubject),
        (answer(&idp, "r2", Some(json!({"groups": []}))), Reason::NotAllowed),
    ] {
        idp.polls([poll]);
        let (found, detail) = refused(&provider).await;
        assert_eq!(found, reason, "{detail}");
    }
    assert!(idp.seen("/token").iter().all(|s| s.form["client_id"] == CLIENT), "a public client says who it is");
}

#[tokio::test]
async fn one_that_hangs_is_left_in_time() {
    let idp = Idp::start().await;
    idp.polls([Poll::Hang]);
    let provider = provider(&idp, &format!("{AGAIN}timeout = \"1s\""));
    let asked = tokio::time::timeout(Duration::from_secs(10), refused(&provider)).await.unwrap();
    assert_eq!(asked.0, Reason::BackendUnavailable);
}

/// Where there is no OpenID Connect its access token says who she is, as long as it is taken.
#[tokio::test]
async fn without_openid_connect() {
    let idp = oauth2::idp(oauth2::alice()).await;
    let provider = of_kind(&idp, "oauth2", &format!("{}{AGAIN}", oauth2::DOMAIN));
    let login = Login::plan().run(&provider).await;
    let kept = Kept::from_bytes(&login.kept.unwrap()).unwrap();
    assert!(matches!(kept, Kept::Access(_)));
    let polls = idp.seen("/token").len();
    assert_eq!(again(&provider, &kept).await.unwrap().unwrap().key.subject, "s-1");
    assert_eq!(idp.seen("/token").len(), polls, "it is good as it is");
    idp.change(|s| s.userinfo = None);
    assert_eq!(again(&provider, &kept).await.unwrap_err().reason, Reason::NotHonoured, "HTTP 401");
    idp.route("/userinfo", |_| Poll::Json(500, json!({})));
    assert_eq!(again(&provider, &kept).await.unwrap_err().reason, Reason::BackendUnavailable);
    // One that gives refresh tokens is asked with them.
    idp.polls([answer(&idp, "r1", None)]);
    let me = oauth2::alice();
    idp.route("/userinfo", move |_| Poll::Json(200, me.clone()));
    let login = Login::plan().run(&provider).await;
    assert_eq!(login.kept.as_deref(), Some(&b"rr1"[..]));
    assert_eq!(again(&provider, &refresh("r1")).await.unwrap().unwrap().key.subject, "s-1");
}

#[tokio::test]
async fn github_says_who_she_is_until_the_token_is_revoked() {
    let idp = github().await;
    let lines = format!("host = \"HOST\"\nallowed_organizations = [\"Acme\"]\n{AGAIN}");
    let provider = of_kind(&idp, "github", &lines);
    let kept = Kept::from_bytes(&Login::plan().run(&provider).await.kept.unwrap()).unwrap();
    assert!(matches!(&kept, Kept::Access(token) if token.expose() == TOKEN));
    assert_eq!(again(&provider, &kept).await.unwrap().unwrap().key.subject, "583231");
    // She leaves the organisation.
    idp.route("/api/v3/user/orgs", |_| Poll::Json(200, json!([])));
    assert_eq!(again(&provider, &kept).await.unwrap_err().reason, Reason::NotAllowed);
    idp.route("/api/v3/user", |_| Poll::Json(401, json!({"message": "Bad credentials"})));
    assert_eq!(again(&provider, &kept).await.unwrap_err().reason, Reason::NotHonoured);
    // A GitHub App whose tokens expire: "The refresh_token is incorrect or expired", with 200.
    idp.route("/login/oauth/access_token", |_| Poll::Json(200, json!({"error": "bad_refresh_token"})));
    assert_eq!(again(&provider, &refresh("ghr_1")).await.unwrap_err().reason, Reason::NotHonoured);
}
