//! A whole device login against a scripted provider: every answer that the documents allow, and
//! those that they do not. One test, one thing that goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod again;
#[path = "../support/ca.rs"]
mod ca;
mod engine;
mod entra;
mod entra_directory;
mod github;
mod github_directory;
mod google;
mod idp;
mod keycloak_directory;
mod login;
mod oauth2;
mod proxy;
#[path = "../registry/server.rs"]
#[allow(dead_code)] // the registry's own tests use more of it
mod server;
#[path = "../support/mod.rs"]
mod support;
mod whole;

use gpuhub_common::secret::Secret;
use gpuhubd::model::{Method, Reason};
use gpuhubd::provider::Provider;
use idp::{CLIENT, Idp, Poll, SECRET, Signer, error, now, padded, pending, signed, token};
use login::{Login, provider};
use serde_json::json;
use std::time::Duration;

// ---- as it should be

#[tokio::test]
async fn a_person_signs_in() {
    let idp = Idp::start().await;
    idp.polls([pending(), token(json!({}))]);
    let login = Login::of(&idp, "").await;
    let person = login.result.unwrap();
    assert_eq!((person.name.as_str(), person.full_name.as_str()), ("alice", "Alice A"));
    assert_eq!((person.key.issuer, person.key.subject.as_str()), (idp.issuer.clone(), "subject-of-alice"));
    assert_eq!(person.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["gpu-users", "ml"]);

    // RFC 8628 §3.1: a public client names itself; §3.4: the device code is what it asks with.
    let asked = &idp.seen("/device/auth")[0];
    assert_eq!((asked.form["client_id"].as_str(), asked.form["scope"].as_str()), (CLIENT, "openid profile email"));
    assert!(asked.agent.starts_with("gpuhub/"));
    let polled = &idp.seen("/token")[0];
    assert_eq!(polled.form["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!((polled.form["device_code"].as_str(), polled.form["client_id"].as_str()), ("the-device-code", CLIENT));

    // One prompt, with an echo, that says everything.
    let [prompt] = &login.prompts[..] else { panic!("{:?}", login.prompts) };
    assert!(prompt.echo && prompt.patience_s >= 60);
    for part in ["\nBox:     gpu-17\n", "sshd", "192.0.2.7", "Sign in as alice", "/device\n", "Code: WDJB-MJHT", "█"]
    {
        assert!(prompt.text.contains(part), "{part:?}: {}", prompt.text);
    }
    assert!(!prompt.text.contains("the-device-code"));
}

#[tokio::test]
async fn a_client_secret_goes_into_the_header_form_encoded() {
    let idp = Idp::start().await;
    idp.polls([token(json!({}))]);
    let secret = login::file(SECRET);
    Login::of(&idp, &format!("client_secret_file = \"{secret}\"")).await.result.unwrap();
    std::fs::remove_file(secret).unwrap();
    for path in ["/device/auth", "/token"] {
        let asked = &idp.seen(path)[0];
        // RFC 6749 §2.3.1: gpuhub-test:s3cret%3Awith%2Fodd%2Bchars
        assert_eq!(asked.authorization, "Basic Z3B1aHViLXRlc3Q6czNjcmV0JTNBd2l0aCUyRm9kZCUyQmNoYXJz");
        assert!(!asked.form.contains_key("client_id"));
    }
}

#[tokio::test]
async fn approval_before_enter_is_remembered() {
    let idp = Idp::start().await;
    idp.polls([token(json!({}))]);
    let login = Login::plan().enter_after(Duration::from_secs(3)).run(&provider(&idp, "")).await;
    assert!(login.result.is_ok());
    assert!(login.after_enter < Duration::from_millis(300), "{:?}", login.after_enter);
    assert_eq!(idp.seen("/token").len(), 1, "no poll after the tokens");
}

#[tokio::test]
async fn a_refusal_before_enter_is_told_after_it() {
    let idp = Idp::start().await;
    idp.polls([error("access_denied")]);
    let login = Login::plan().enter_after(Duration::from_secs(2)).run(&provider(&idp, "")).await;
    assert_eq!(login.result.unwrap_err().reason, Reason::DeniedByUser);
    assert!(login.after_enter < Duration::from_millis(300));
}

#[tokio::test]
async fn userinfo_gives_what_the_token_leaves_out() {
    let idp = Idp::start().await;
    idp.change(|s| {
        s.userinfo = Some(
            json!({"sub": "subject-of-alice", "email": "alice@example.org", "email_verified": true, "groups": ["ml"]}),
        )
    });
    idp.polls([token(json!({"email": null, "email_verified": null, "groups": null}))]);
    let lines = "allowed_domains = [\"example.org\"]\nname_claim = \"email\"";
    let person = Login::of(&idp, lines).await.result.unwrap();
    assert_eq!(person.groups.len(), 1);
    idp.change(|s| {
        s.userinfo = Some(json!({"sub": "subject-of-bob", "email": "alice@example.org", "email_verified": true}))
    });
    let refused = Login::of(&idp, lines).await.result.unwrap_err();
    assert_eq!(refused.reason, Reason::BadToken);
    idp.change(|s| s.userinfo = None);
    assert_eq!(Login::of(&idp, lines).await.result.unwrap_err().reason, Reason::BackendUnavailable);
}

#[tokio::test]
async fn a_token_with_ten_thousand_groups() {
    let idp = Idp::start().await;
    let groups: Vec<_> = (0..10_000).map(|n| format!("/projects/group-{n:05}")).collect();
    idp.polls([token(json!({"groups": groups}))]);
    let rules = "group_rules = [{ match = 'projects/(.*)', name = '$1' }]";
    let person = Login::of(&idp, rules).await.result.unwrap();
    assert_eq!((person.groups.len(), person.groups[9_999].name.as_str()), (10_000, "group-09999"));
}

#[tokio::test]
async fn documents_are_fetched_once_for_several_logins() {
    let idp = Idp::start().await;
    idp.polls([token(json!({}))]);
    let provider = provider(&idp, "");
    let (a, b) = tokio::join!(Login::plan().run(&provider), Login::plan().run(&provider));
    assert!(a.result.is_ok() && b.result.is_ok());
    assert!(Login::plan().run(&provider).await.result.is_ok());
    assert_eq!((idp.seen("/.well-known/openid-configuration").len(), idp.seen("/jwks").len()), (1, 1));
}

// ---- polling (RFC 8628 §3.5)

#[tokio::test]
async fn slow_down_is_obeyed() {
    let idp = Idp::start().await;
    idp.polls([error("slow_down"), token(json!({}))]);
    assert!(Login::of(&idp, "").await.result.is_ok());
    let polls = idp.seen("/token");
    let pause = polls[1].at - polls[0].at;
    assert!(pause >= Duration::from_secs(6), "1 s for an interval of 0, and 5 s more: {pause:?}");
}

/// RFC 6585 §4, as providers and what stands before them say it: HTML, and nothing of the RFC's own errors.
#[tokio::test]
async fn too_many_requests_are_a_slow_down() {
    let idp = Idp::start().await;
    let too_many = Poll::Raw(429, "Retry-After: 1\r\n".into(), "<html>Too many requests");
    idp.polls([too_many, token(json!({}))]);
    assert!(Login::of(&idp, "").await.result.is_ok());
    let polls = idp.seen("/token");
    assert!(polls[1].at - polls[0].at >= Duration::from_secs(6));
    // Before there is a code nobody has been shown anything: the login ends, and the provider is left alone.
    idp.change(|s| s.device = (429, json!({})));
    refused_unseen(&idp).await;
    assert_eq!(idp.seen("/device/auth").len(), 2);
}

#[tokio::test]
async fn an_interval_of_zero_is_one_second() {
    let idp = Idp::start().await;
    idp.polls([pending(), pending(), padded(1000, true)]);
    let login = Login::of(&idp, "").await;
    assert!(login.result.is_ok());
    let polls = idp.seen("/token");
    assert!(polls[0].at - idp.seen("/device/auth")[0].at >= Duration::from_secs(1), "before the first one too");
    assert!(polls[2].at - polls[1].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_provider_that_stumbles_is_asked_again() {
    let idp = Idp::start().await;
    idp.polls([Poll::Raw(500, String::new(), "<html>"), Poll::HangUp, token(json!({}))]);
    assert!(Login::of(&idp, "").await.result.is_ok());
}

#[tokio::test]
async fn a_provider_that_hangs_is_left_in_time() {
    let idp = Idp::start().await;
    idp.change(|s| s.device.1["expires_in"] = json!(4));
    idp.polls([Poll::Hang]);
    let login = Login::of(&idp, "timeout = \"1s\"").await;
    assert_eq!(login.result.unwrap_err().reason, Reason::BackendUnavailable);
    assert!(login.after_enter < Duration::from_secs(6), "{:?}", login.after_enter);
}

#[tokio::test]
async fn a_code_that_nobody_uses_expires() {
    let idp = Idp::start().await;
    idp.polls([pending(), error("expired_token")]);
    let login = Login::of(&idp, "").await;
    assert_eq!(login.result.unwrap_err().reason, Reason::CodeExpired);
    assert_eq!((login.prompts.len(), idp.seen("/device/auth").len()), (2, 2), "a fresh one, once");
    idp.change(|s| s.device.1["expires_in"] = json!(2));
    idp.polls([pending()]);
    assert_eq!(Login::of(&idp, "").await.result.unwrap_err().reason, Reason::CodeExpired);
}

#[tokio::test]
async fn a_fresh_code_is_as_good_as_the_first() {
    let idp = Idp::start().await;
    idp.polls([error("expired_token"), token(json!({}))]);
    let login = Login::of(&idp, "").await;
    assert_eq!(login.result.unwrap().name.as_str(), "alice");
    assert_eq!(login.prompts.len(), 2);
    // A refusal is followed by none.
    let idp = Idp::start().await;
    idp.polls([error("access_denied")]);
    let login = Login::of(&idp, "").await;
    assert_eq!((login.result.unwrap_err().reason, login.prompts.len()), (Reason::DeniedByUser, 1));
}

#[tokio::test]
async fn who_goes_away_ends_the_polling() {
    let idp = Idp::start().await;
    let login = Login::plan().hang_up().run(&provider(&idp, "")).await;
    assert_eq!(login.result.unwrap_err().reason, Reason::Cancelled);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(idp.seen("/token").len(), 0);
}

// ---- answers that must not let anybody in

/// What the login is refused with that ends with this poll, and the detail.
async fn refused(poll: Poll, lines: &str) -> (Reason, String) {
    let idp = Idp::start().await;
    idp.polls([poll]);
    let denied = Login::of(&idp, lines).await.result.unwrap_err();
    let detail = denied.detail.unwrap_or_default();
    assert!(!detail.contains("eyJ") && !detail.contains("the-"), "no token in {detail}");
    (denied.reason, detail)
}

/// Each at a provider of its own, all at once: every login waits a second for its first poll.
async fn all_refused(lines: &str, cases: Vec<(Poll, Reason, &'static str)>) {
    let mut logins = tokio::task::JoinSet::new();
    for (poll, reason, detail) in cases {
        let lines = lines.to_owned();
        logins.spawn(async move {
            let found = refused(poll, &lines).await;
            assert!(found.0 == reason && found.1.contains(detail), "{reason}, {detail}: {found:?}");
        });
    }
    while let Some(login) = logins.join_next().await {
        login.unwrap();
    }
}

#[tokio::test]
async fn denied_by_the_person() {
    assert_eq!(refused(error("access_denied"), "").await.0, Reason::DeniedByUser);
}

#[tokio::test]
async fn signatures() {
    let secret = login::file(SECRET);
    let signed = |signer| signed(json!({}), signer, "a");
    all_refused(
        &format!("client_secret_file = \"{secret}\""),
        vec![
            (signed(Signer::Broken), Reason::BadToken, "signature is wrong"),
            (signed(Signer::Key("b")), Reason::BadToken, "signature is wrong"),
            (signed(Signer::Nobody), Reason::BadToken, "alg none"),
            (signed(Signer::Hmac(SECRET)), Reason::BadToken, "not among signing_algs"),
        ],
    )
    .await;
    std::fs::remove_file(secret).unwrap();
}

#[tokio::test]
async fn tokens_of_others_and_of_other_times() {
    all_refused(
        "",
        vec![
            (token(json!({"aud": "another-client"})), Reason::WrongAudience, "aud"),
            (token(json!({"aud": [CLIENT, "another-client"]})), Reason::WrongAudience, "aud"),
            (token(json!({"azp": "another-client"})), Reason::WrongAudience, "azp"),
            (token(json!({"iss": "https://evil.example"})), Reason::BadToken, "iss"),
            (token(json!({"exp": now() - 100})), Reason::TokenExpired, "exp"),
            (token(json!({"iat": now() + 100})), Reason::TokenExpired, "iat"),
            (token(json!({"nbf": now() + 100})), Reason::TokenExpired, "nbf"),
            (token(json!({"sub": ""})), Reason::BadToken, "sub"),
            (token(json!({"sub": "subject-of-bob", "preferred_username": "bob"})), Reason::WrongSubject, "as bob"),
            (token(json!({"preferred_username": ""})), Reason::WrongSubject, "empty"),
        ],
    )
    .await;
}

/// Given in a password's place (`id_token_as_password`).
#[tokio::test]
async fn a_token_as_the_password() {
    let idp = Idp::start().await;
    let provider = provider(&idp, "allowed_domains = [\"example.org\"]\nid_token_max_age = \"2m\"\nleeway = \"10s\"");
    let alice = login::name("alice");
    let verified = async |answer: Poll| {
        let token = Secret::new(idp.id_token(&answer).as_bytes()).unwrap();
        provider.verify_token((&alice).into(), &token).await
    };
    let proven = verified(token(json!({"iat": now() - 100}))).await.unwrap();
    assert_eq!((proven.method(), proven.person().key.subject.as_str()), (Method::IdToken, "subject-of-alice"));
    assert_eq!(proven.person().groups.len(), 2);
    for (answer, reason, what) in [
        (token(json!({"iat": now() - 140})), Reason::TokenExpired, "issued too long ago, though it has not expired"),
        (token(json!({"exp": now() - 20})), Reason::TokenExpired, "exp"),
        (token(json!({"aud": "another-client"})), Reason::WrongAudience, "aud"),
        (token(json!({"azp": "another-client"})), Reason::WrongAudience, "azp"),
        (token(json!({"iss": "https://evil.example"})), Reason::BadToken, "iss"),
        (token(json!({"preferred_username": "bob"})), Reason::WrongSubject, "another's"),
        (token(json!({"email": "alice@evil.example"})), Reason::NotAllowed, "allowed_domains"),
        (token(json!({"groups": null})), Reason::BadToken, "userinfo would have to say"),
        (signed(json!({}), Signer::Key("b"), "a"), Reason::BadToken, "another key"),
        (signed(json!({}), Signer::Nobody, "a"), Reason::BadToken, "alg none"),
        (signed(json!({}), Signer::Broken, "a"), Reason::BadToken, "a bit of the signature"),
    ] {
        let denied = verified(answer).await.unwrap_err();
        assert_eq!(denied.reason, reason, "{what}: {denied:?}");
    }
    for text in ["eyJ.x.y", "eyJ\u{e4}.x.y"] {
        let denied = provider.verify_token((&alice).into(), &Secret::new(text.as_bytes()).unwrap()).await.unwrap_err();
        assert_eq!(denied.reason, Reason::BadToken);
    }
    assert!(idp.seen("/device/auth").is_empty() && idp.seen("/userinfo").is_empty());
}

#[tokio::test]
async fn restrictions() {
    all_refused(
        "allowed_domains = [\"example.org\"]\nrequired_groups = [\"gpu-users\"]",
        vec![
            (token(json!({"email": "alice@evil.example"})), Reason::NotAllowed, "allowed_domains"),
            (token(json!({"email_verified": false})), Reason::NotAllowed, "not verified"),
            (token(json!({"groups": ["others"]})), Reason::NotAllowed, "required_groups"),
        ],
    )
    .await;
}

#[tokio::test]
async fn answers_of_another_protocol() {
    let oauth = json!({"access_token": "the-access-token", "token_type": "Bearer"});
    all_refused(
        "",
        vec![
            (Poll::Json(200, oauth), Reason::NoIdToken, "no id_token"),
            (Poll::Raw(200, String::new(), "<html>Welcome to the hotel"), Reason::BackendUnavailable, "RFC 6749"),
            (Poll::Json(404, json!({})), Reason::BackendUnavailable, "404"),
            (error("invalid_client"), Reason::BackendUnavailable, "invalid_client"),
            (padded(2 << 20, false), Reason::BackendUnavailable, "longer than"),
            (padded(2 << 20, true), Reason::BackendUnavailable, "longer than"),
        ],
    )
    .await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let idp = Idp::start().await;
    let location = format!("Location: {}/elsewhere\r\n", idp.issuer);
    // 307 would take the device code along.
    idp.polls([Poll::Raw(307, location, "")]);
    let denied = Login::of(&idp, "").await.result.unwrap_err();
    assert_eq!(denied.reason, Reason::BackendUnavailable);
    assert!(denied.detail.unwrap().contains("redirect") && idp.seen("/elsewhere").is_empty());
}

// ---- keys

#[tokio::test]
async fn rotated_keys_are_fetched_again_but_not_in_a_flood() {
    let idp = Idp::start().await;
    idp.polls([token(json!({}))]);
    let provider = provider(&idp, "");
    assert!(Login::plan().run(&provider).await.result.is_ok());
    idp.change(|s| s.keys = vec!["b"]);
    idp.polls([signed(json!({}), Signer::Key("b"), "b")]);
    assert!(Login::plan().run(&provider).await.result.is_ok());
    assert_eq!(idp.seen("/jwks").len(), 2);
    idp.change(|s| s.keys = vec!["a"]);
    idp.polls([token(json!({}))]);
    let denied = Login::plan().run(&provider).await.result.unwrap_err();
    assert_eq!((denied.reason, idp.seen("/jwks").len()), (Reason::BadToken, 2), "fetched a moment ago");
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(Login::plan().run(&provider).await.result.is_ok());
    assert_eq!(idp.seen("/jwks").len(), 3);
}

// ---- before anything is shown

/// Refused before there is a prompt.
async fn refused_unseen(idp: &Idp) {
    let login = Login::of(idp, "").await;
    let denied = login.result.unwrap_err();
    assert_eq!(denied.reason, Reason::BackendUnavailable, "{denied:?}");
    assert!(denied.detail.unwrap().bytes().all(|b| (32..127).contains(&b)));
    assert!(login.prompts.is_empty(), "{:?}", login.prompts);
}

#[tokio::test]
async fn a_provider_whose_texts_would_act_on_the_terminal() {
    for (key, value) in [
        ("user_code", "\u{1b}]0;owned\u{7}WDJB-MJHT"),
        ("user_code", "WDJB\r\nPassword: "),
        ("verification_uri", "https://sso.example/\u{1b}[2J"),
        ("verification_uri_complete", "https://sso.example/\u{202e}"),
    ] {
        let idp = Idp::start().await;
        idp.change(|s| s.device.1[key] = json!(value));
        refused_unseen(&idp).await;
    }
}

#[tokio::test]
async fn a_provider_that_gives_no_code() {
    for device in [(400, json!({"error": "unauthorized_client"})), (500, json!({})), (200, json!([])), (302, json!({}))]
    {
        let idp = Idp::start().await;
        idp.change(|s| s.device = device);
        refused_unseen(&idp).await;
    }
}

#[tokio::test]
async fn a_provider_that_is_another_one() {
    let idp = Idp::start().await;
    idp.change(|s| s.metadata["issuer"] = json!(format!("{}/", idp.issuer)));
    refused_unseen(&idp).await;
}

#[tokio::test]
async fn endpoints_without_tls_are_not_used() {
    let idp = Idp::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("http://{}/device/auth", listener.local_addr().unwrap());
    idp.change(|s| s.metadata["device_authorization_endpoint"] = json!(plain));
    refused_unseen(&idp).await;
    let nobody = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(nobody.is_err(), "not even connected to");
}

#[tokio::test]
async fn a_source_that_starts_too_many() {
    let idp = Idp::start().await;
    let provider = provider(&idp, "");
    let login = || Login::plan().enter_after(Duration::from_secs(3)).hang_up();
    let (a, b, c, d) =
        tokio::join!(login().run(&provider), login().run(&provider), login().run(&provider), login().run(&provider));
    let reasons: Vec<_> = [a, b, c, d].into_iter().map(|l| l.result.unwrap_err().reason).collect();
    assert_eq!(reasons.iter().filter(|r| **r == Reason::Busy).count(), 1, "{reasons:?}");
    idp.polls([token(json!({}))]);
    assert!(Login::plan().run(&provider).await.result.is_ok(), "the places are free again");
}

// ---- what the doctor finds

async fn found(idp: &Idp) -> Vec<(&'static str, bool)> {
    found_with(idp, "ask_again = \"5m\"").await
}

async fn found_with(idp: &Idp, lines: &str) -> Vec<(&'static str, bool)> {
    provider(idp, &format!("timeout = \"2s\"\n{lines}")).check().await.into_iter().map(|f| (f.id, f.fatal)).collect()
}

#[tokio::test]
async fn the_doctor() {
    let idp = Idp::start().await;
    assert_eq!(found(&idp).await, [("oidc", false)]);
    idp.change(|s| s.metadata["id_token_signing_alg_values_supported"] = json!(["HS256"]));
    assert_eq!(found(&idp).await, [("oidc-algorithm", true)]);
    idp.change(|s| drop(s.metadata.as_object_mut().unwrap().remove("device_authorization_endpoint")));
    assert_eq!(found(&idp).await, [("oidc-no-device-grant", true), ("oidc-algorithm", true)]);
    idp.change(|s| s.metadata["issuer"] = json!("https://other.example"));
    assert_eq!(found(&idp).await, [("oidc-issuer", true)]);
    idp.change(|s| s.metadata = json!("hello"));
    assert_eq!(found(&idp).await, [("oidc-unreachable", true)]);

    let idp = Idp::start().await;
    idp.change(|s| s.date = Some("Wed, 21 Oct 2015 07:28:00 GMT"));
    assert_eq!(found(&idp).await, [("clock", true)]);

    let idp = Idp::start().await;
    let notes = provider(&idp, "ask_again = \"5m\"").check().await;
    assert_eq!(notes.iter().map(|f| f.seconds).collect::<Vec<_>>(), [Some(60)], "so long its codes live");
    idp.change(|s| s.device = (401, json!({"error": "invalid_client"})));
    let refused = provider(&idp, "ask_again = \"5m\"").check().await;
    assert!(refused[0].id == "oidc-no-code" && refused[0].what.contains("invalid_client"), "{refused:?}");

    let idp = Idp::start().await;
    assert_eq!(found_with(&idp, "").await, [("oidc", false), ("oidc-not-asked-again", false)]);
    idp.change(|s| s.metadata["scopes_supported"] = json!(["openid", "email"]));
    assert_eq!(found(&idp).await, [("oidc", false), ("oidc-no-refresh-token", false)]);
    idp.change(|s| s.metadata["scopes_supported"] = json!(["openid", "offline_access"]));
    assert_eq!(found(&idp).await, [("oidc", false)]);
    idp.change(|s| s.metadata["grant_types_supported"] = json!(["authorization_code"]));
    assert_eq!(found(&idp).await, [("oidc", false), ("oidc-no-refresh-token", false)]);

    let mut strange = Idp::start().await;
    strange.ca_pem = idp.ca_pem.clone();
    assert_eq!(found(&strange).await, [("oidc-certificate", true)]);
    strange.issuer = "https://127.0.0.1:1".into();
    assert_eq!(found(&strange).await, [("oidc-unreachable", true)]);
}

// ---- what needs no provider

#[tokio::test]
async fn names_that_may_turn_up() {
    let idp = Idp::start().await;
    let provider = provider(&idp, "name_pattern = \"[a-z]+|root2\"");
    let may = |name: &str| provider.may_become(&login::name(name));
    assert!(may("alice") && may("root2"));
    assert!(!may("alice2") && !may("Alice") && !may("xroot2") && !may("a.b"), "the whole name must match");
    assert_eq!((provider.kind(), provider.name(), provider.method()), ("oidc", "sso", Method::DeviceCode));
}
