//! The device authorization request (RFC 8628 §3.1, §3.2).

use super::http::{Credentials, Http};
use super::opaque::Opaque;
use super::poll::error_code;
use super::shown;
use crate::model::{Denied, Reason};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

/// Longest that a code is waited for, whatever the provider says: a login that nobody finishes
/// must not be kept for a day.
const MAX_LIFE: u64 = 1800;

/// What a provider gave for a login. Every text in it can be shown.
#[derive(Debug)]
pub struct Grant {
    /// What polling asks with.
    pub device_code: Opaque,
    /// What the person enters.
    pub user_code: String,
    /// Where she enters it.
    pub uri: String,
    /// The same with the code in it, for the picture.
    pub uri_complete: Option<String>,
    /// How long both codes live.
    pub life: Duration,
    /// Seconds between polls, if the provider says.
    pub interval: Option<u64>,
    /// When it came.
    pub since: Instant,
}

#[derive(Deserialize)]
struct Response {
    device_code: Opaque,
    user_code: String,
    /// Google called it so before the RFC was finished.
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// Asks for a code. Not tried again: nobody has been shown anything yet.
pub async fn request(http: &Http, endpoint: &str, who: &Credentials, scopes: &str) -> Result<Grant, Denied> {
    let unavailable = |what: String| Denied::because(Reason::BackendUnavailable, format!("device code: {what}"));
    let form: &[_] = if scopes.is_empty() { &[] } else { &[("scope", scopes)] };
    // Where the secret is part of a form (Google), this one has none.
    let public = who.in_form.then(|| Credentials { id: who.id.clone(), secret: None, in_form: true });
    let answer =
        http.post(endpoint, public.as_ref().unwrap_or(who), form).await.map_err(|e| unavailable(e.to_string()))?;
    if !answer.is_success() {
        let why = error_code(&answer.body).unwrap_or_else(|| answer.status_text());
        return Err(unavailable(format!("the provider answers with {why}")));
    }
    let response: Response = answer.json().ok_or_else(|| unavailable("not an answer of RFC 8628".into()))?;
    check(response, Instant::now()).map_err(|what| unavailable(what.into()))
}

/// A provider whose texts would act on a terminal is refused as a whole.
fn check(r: Response, since: Instant) -> Result<Grant, &'static str> {
    if r.device_code.is_empty() {
        return Err("device_code is empty");
    }
    if !shown::is_code(&r.user_code) {
        return Err("user_code cannot be shown");
    }
    if !shown::is_url(&r.verification_uri) {
        return Err("verification_uri cannot be shown");
    }
    if r.verification_uri_complete.as_ref().is_some_and(|u| !shown::is_url(u)) {
        return Err("verification_uri_complete cannot be shown");
    }
    Ok(Grant {
        device_code: r.device_code,
        user_code: r.user_code,
        uri: r.verification_uri,
        uri_complete: r.verification_uri_complete,
        life: Duration::from_secs(r.expires_in.min(MAX_LIFE)),
        interval: r.interval,
        since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: &[(&str, serde_json::Value)]) -> Result<Grant, String> {
        // RFC 8628 §3.2
        let mut example = serde_json::json!({
            "device_code": "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS",
            "user_code": "WDJB-MJHT",
            "verification_uri": "https://example.com/device",
            "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
            "expires_in": 1800,
            "interval": 5
        });
        for (key, value) in change {
            example[key] = value.clone();
        }
        let response = serde_json::from_value(example).map_err(|e| e.to_string())?;
        check(response, Instant::now()).map_err(String::from)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let grant = parse(&[]).unwrap();
        assert_eq!((grant.user_code.as_str(), grant.interval, grant.life.as_secs()), ("WDJB-MJHT", Some(5), 1800));
        assert!(!format!("{grant:?}").contains("GmRhmhcxhwAz"), "no device code in Debug");
    }

    #[test]
    fn a_code_that_lives_for_ever_does_not() {
        assert_eq!(parse(&[("expires_in", u64::MAX.into())]).unwrap().life.as_secs(), MAX_LIFE);
    }

    #[test]
    fn hostile_texts_are_refused() {
        for (key, value) in [
            ("user_code", "\u{1b}[2J\u{1b}[HPassword:"),
            ("user_code", "A\nroot@box password: "),
            ("user_code", ""),
            ("verification_uri", "https://x.example/\r\nEnter your password here:"),
            ("verification_uri", "http://x.example/"),
            ("verification_uri_complete", "https://x.example/\u{9b}31m"),
            ("device_code", ""),
        ] {
            assert!(parse(&[(key, value.into())]).is_err(), "{key} {value:?}");
        }
    }
}
