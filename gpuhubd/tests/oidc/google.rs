//! A server with Google's quirks, each from its public documents:
//!
//! - `verification_url` for `verification_uri`; pending is HTTP 428, `slow_down` and `access_denied` are 403; the
//!   client's secret is part of the form that asks for tokens:
//!   <https://developers.google.com/identity/protocols/oauth2/limited-input-device>
//! - `hd` is the organisation of the account, and there is none of a private one:
//!   <https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload>
//! - an address is Google's to vouch for if it is `gmail.com`'s, or verified and with `hd`:
//!   <https://developers.google.com/identity/gsi/web/guides/verify-google-id-token>

use crate::idp::{CLIENT, Idp, Poll, SECRET, token};
use crate::login::{self, Login, of_kind};
use futures_util::future::join_all;
use gpuhubd::model::{Denied, Person, Reason};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

async fn google(change: Value) -> Idp {
    let idp = Idp::start().await;
    let page = format!("{}/device", idp.issuer);
    idp.route("/device/auth", move |seen| {
        assert_eq!((seen.form["client_id"].as_str(), seen.form["scope"].as_str()), (CLIENT, "openid email profile"));
        assert!(!seen.form.contains_key("client_secret") && seen.authorization.is_empty());
        Poll::Json(
            200,
            json!({"device_code": "the-device-code", "user_code": "GQVQ-JKEC", "verification_url": page,
                               "expires_in": 60, "interval": 1}),
        )
    });
    // Without groups, and with the address that is her name.
    let mut claims = json!({"preferred_username": null, "groups": null, "sub": "10769150350006150715113082367",
                            "hd": "example.org", "azp": CLIENT});
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let polls = AtomicUsize::new(0);
    idp.route("/token", move |seen| {
        let client = (
            &seen.form["client_id"],
            seen.form.get("client_secret").map(|s| s.replace("%2F", "/").replace("%2B", "+")),
        );
        if client != (&CLIENT.to_owned(), Some(SECRET.to_owned())) {
            return Poll::Json(401, json!({"error": "invalid_client", "error_description": "Unauthorized"}));
        }
        match polls.fetch_add(1, Ordering::SeqCst) {
            0 => {
                Poll::Json(428, json!({"error": "authorization_pending", "error_description": "Precondition Required"}))
            }
            _ => token(claims.clone()),
        }
    });
    idp
}

async fn login(idp: &Idp, lines: &str) -> Result<Person, Denied> {
    let secret = login::file(SECRET);
    let lines = format!("host = \"HOST\"\nclient_secret_file = \"{secret}\"\n{lines}");
    let provider = of_kind(idp, "google", &lines);
    std::fs::remove_file(secret).unwrap();
    Login::plan().run(&provider).await.result
}

const HOSTED: &str = "hosted_domains = [\"example.org\"]";

#[tokio::test]
async fn a_person_of_an_organisation() {
    let idp = google(json!({})).await;
    let person = login(&idp, HOSTED).await.unwrap();
    assert_eq!((person.name.as_str(), person.groups.len()), ("alice", 0));
    assert_eq!(person.key.subject, "10769150350006150715113082367");
    assert!(idp.seen("/userinfo").is_empty(), "the ID token says it all");
}

#[tokio::test]
async fn accounts_of_others() {
    let private = json!({"hd": null, "email": "alice@gmail.com"});
    let cases = [
        (json!({"hd": "evil.example"}), HOSTED, Reason::NotAllowed),
        (json!({"hd": null}), HOSTED, Reason::NotAllowed),
        (json!({"hd": ["example.org"]}), HOSTED, Reason::NotAllowed),
        (json!({"email_verified": false}), HOSTED, Reason::NotAllowed),
        (json!({"email": "alice@other.example"}), HOSTED, Reason::NotAllowed),
        // A private account with the address of an organisation that she has left.
        (json!({"hd": null}), "allowed_domains = [\"example.org\"]", Reason::NotAllowed),
        (private.clone(), HOSTED, Reason::NotAllowed),
    ];
    join_all(cases.map(|(change, lines, reason)| async move {
        let idp = google(change.clone()).await;
        let denied = login(&idp, lines).await.unwrap_err();
        assert_eq!(denied.reason, reason, "{change} {denied:?}");
    }))
    .await;
    let idp = google(private).await;
    assert!(login(&idp, "allowed_domains = [\"gmail.com\"]\nallow_anyone = true").await.is_ok(), "as it is written");
}

#[tokio::test]
async fn refused_with_http_403() {
    let idp = google(json!({})).await;
    idp.route("/token", |_| Poll::Json(403, json!({"error": "access_denied", "error_description": "Forbidden"})));
    assert_eq!(login(&idp, HOSTED).await.unwrap_err().reason, Reason::DeniedByUser);
}
