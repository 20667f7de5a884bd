//! Polling for the tokens (RFC 8628 §3.4, §3.5).
//!
//! ```text
//!            interval                     answer
//!   start ────────────▶ ask ─────────────────────────▶ tokens, or refused for good
//!                        ▲    authorization_pending │
//!                        │    slow_down (+5 s)      │
//!                        └── 5xx, no answer (×2) ◀──┘   until expires_in
//! ```
//!
//! [`Pace`] and [`hear`] are the whole protocol, without I/O and without a clock; [`tokens`]
//! drives them. Dropping its future ends the polling.

use super::device::Grant;
use super::http::{Answer, Credentials, Fault, Http};
use super::opaque::Opaque;
use crate::model::{Denied, Reason};
use serde::Deserialize;
use std::time::Duration;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// §3.2: "If no value is provided, clients MUST use 5 as the default."
const DEFAULT_INTERVAL: u64 = 5;
/// §3.5: "the interval MUST be increased by 5 seconds for this and all subsequent requests".
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// The longest pause that failures lead to, unless the interval is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What the person's approval gave.
#[derive(Debug)]
pub struct Tokens {
    /// Who she is, with OpenID Connect.
    pub id_token: Option<Opaque>,
    /// For userinfo, if there is one.
    pub access_token: Option<Opaque>,
    /// For other tokens, later, without her (RFC 6749 §1.5).
    pub refresh_token: Option<Opaque>,
}

/// What one poll brought.
#[derive(Debug)]
pub enum Heard {
    /// She has not decided yet.
    Pending,
    /// Too fast; perhaps with the interval that is wanted from now on.
    SlowDown(Option<u64>),
    /// The provider is not well; it may be in a moment.
    Trouble(String),
    /// She approved.
    Tokens(Tokens),
    /// It ends here.
    Refused(Denied),
}

/// What to do next.
#[derive(Debug)]
pub enum Then {
    /// Wait, then ask again.
    Wait(Duration),
    /// It is over.
    Done(Result<Tokens, Denied>),
}

/// When to ask: the state of the polling.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    life: Duration,
    failures: u32,
    trouble: Option<String>,
}

/// Polls until there is an end.
pub async fn tokens(http: &Http, endpoint: &str, who: &Credentials, grant: &Grant) -> Result<Tokens, Denied> {
    let form = [("grant_type", GRANT_TYPE), ("device_code", grant.device_code.expose())];
    let mut pace = Pace::new(grant.interval, grant.life);
    let mut then = pace.wait(grant.since.elapsed());
    loop {
        match then {
            Then::Wait(time) => tokio::time::sleep(time).await,
            Then::Done(end) => return end,
        }
        let heard = match http.post(endpoint, who, &form).await {
            Ok(answer) => hear(&answer),
            Err(fault @ Fault::TooLong) => Heard::Refused(unavailable(&fault.to_string())),
            Err(fault) => Heard::Trouble(fault.to_string()),
        };
        then = pace.after(heard, grant.since.elapsed());
    }
}

impl Pace {
    /// For a code that lives for `life`. An interval of 0 is taken as 1 s.
    pub fn new(interval: Option<u64>, life: Duration) -> Self {
        let interval = Duration::from_secs(interval.unwrap_or(DEFAULT_INTERVAL).max(1));
        Self { interval, life, failures: 0, trouble: None }
    }

    /// After `heard`, `elapsed` since the code was given.
    pub fn after(&mut self, heard: Heard, elapsed: Duration) -> Then {
        match heard {
            Heard::Tokens(tokens) => return Then::Done(Ok(tokens)),
            Heard::Refused(why) => return Then::Done(Err(why)),
            Heard::Trouble(what) => {
                self.failures += 1;
                self.trouble = Some(what);
            }
            Heard::Pending => self.recovered(),
            Heard::SlowDown(wanted) => {
                self.recovered();
                let wanted = Duration::from_secs(wanted.unwrap_or_default());
                self.interval = self.interval.saturating_add(SLOW_DOWN).max(wanted);
            }
        }
        self.wait(elapsed)
    }

    fn recovered(&mut self) {
        self.failures = 0;
        self.trouble = None;
    }

    /// The pause before the next poll, the first one included; over when that would be too late.
    pub fn wait(&self, elapsed: Duration) -> Then {
        // §3.5: "clients MUST unilaterally reduce their polling frequency"; doubling is recommended.
        let doubled = self.interval.saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(MAX_BACKOFF.max(self.interval));
        if elapsed.saturating_add(pause) <= self.life {
            return Then::Wait(pause);
        }
        Then::Done(Err(match &self.trouble {
            Some(what) => unavailable(what),
            None => Denied::because(Reason::CodeExpired, "nobody used the code in time"),
        }))
    }
}

#[derive(Deserialize)]
struct Body {
    error: Option<String>,
    id_token: Option<Opaque>,
    access_token: Option<Opaque>,
    refresh_token: Option<Opaque>,
    interval: Option<u64>,
}

/// Reads an answer of the token endpoint: §3.5, and RFC 6749 §5.1, §5.2.
pub fn hear(answer: &Answer) -> Heard {
    let body: Option<Body> = answer.json();
    let error = error_code(&answer.body);
    match (answer.status, error.as_deref()) {
        (_, Some("authorization_pending")) => Heard::Pending,
        // GitHub says what the interval is then.
        (_, Some("slow_down")) => Heard::SlowDown(body.and_then(|b| b.interval)),
        // The second is Entra's word for it.
        (_, Some("access_denied" | "authorization_declined")) => Heard::Refused(Reason::DeniedByUser.into()),
        // The second is GitHub's.
        (_, Some(expired @ ("expired_token" | "token_expired"))) => {
            Heard::Refused(Denied::because(Reason::CodeExpired, expired))
        }
        // RFC 6585 §4 is slow_down in HTTP's words.
        (429, _) => Heard::SlowDown(None),
        (408 | 500..600, _) | (_, Some("server_error" | "temporarily_unavailable")) => {
            Heard::Trouble(error.unwrap_or_else(|| answer.status_text()))
        }
        // The code is not one of theirs (any more); the second is Entra's word for it, the third GitHub's.
        (_, Some(unknown @ ("invalid_grant" | "bad_verification_code" | "incorrect_device_code"))) => {
            Heard::Refused(Denied::because(Reason::BadToken, unknown))
        }
        (_, Some(other)) => Heard::Refused(unavailable(other)),
        (200..300, None) => match body {
            Some(Body { id_token, access_token, refresh_token, error: None, .. }) => {
                let [id_token, access_token, refresh_token] =
                    [id_token, access_token, refresh_token].map(|t| t.filter(|t| !t.is_empty()));
                match (&id_token, &access_token) {
                    (None, None) => Heard::Refused(Denied::because(Reason::BadToken, "the answer has no token")),
                    _ => Heard::Tokens(Tokens { id_token, access_token, refresh_token }),
                }
            }
            _ => Heard::Refused(unavailable("not an answer of RFC 6749")),
        },
        (_, None) => Heard::Refused(unavailable(&answer.status_text())),
    }
}

/// The `error` of an answer, if it is one (RFC 6749 §5.2). The description is left out: it is
/// free text that may repeat what was sent.
pub fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let error = serde_json::from_slice::<ErrorBody>(body).ok()?.error;
    let plain =
        (1..=64).contains(&error.len()) && error.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    Some(if plain { error } else { "an unreadable error".into() })
}

fn unavailable(what: &str) -> Denied {
    Denied::because(Reason::BackendUnavailable, format!("token endpoint: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(600);

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            date: None,
            link: None,
            retry_after: None,
            body: zeroize::Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    fn seconds(then: Then) -> u64 {
        match then {
            Then::Wait(time) => time.as_secs(),
            Then::Done(end) => panic!("over: {end:?}"),
        }
    }

    fn reason(then: Then) -> Reason {
        match then {
            Then::Done(Err(denied)) => denied.reason,
            other => panic!("{other:?}"),
        }
    }

    fn trouble() -> Heard {
        Heard::Trouble("HTTP 502".into())
    }

    #[test]
    fn waits_before_the_first_poll() {
        for (interval, wait) in [(None, 5), (Some(0), 1), (Some(1), 1), (Some(7), 7)] {
            assert_eq!(seconds(Pace::new(interval, LIFE).wait(Duration::ZERO)), wait);
        }
    }

    #[test]
    fn slow_down_is_for_good() {
        let mut pace = Pace::new(Some(5), LIFE);
        let mut next = |heard| seconds(pace.after(heard, Duration::ZERO));
        assert_eq!(next(Heard::Pending), 5);
        assert_eq!(next(Heard::SlowDown(None)), 10);
        assert_eq!(next(Heard::Pending), 10);
        assert_eq!(next(Heard::SlowDown(None)), 15);
        assert_eq!(next(trouble()), 30);
        assert_eq!(next(Heard::Pending), 15);
        assert_eq!(next(Heard::SlowDown(Some(35))), 35, "GitHub says how long");
        assert_eq!(next(Heard::SlowDown(Some(0))), 40, "never less than the RFC wants");
    }

    #[test]
    fn trouble_is_survived_ever_more_slowly() {
        let mut pace = Pace::new(Some(2), LIFE);
        let waits: Vec<_> = (0..6).map(|_| seconds(pace.after(trouble(), Duration::ZERO))).collect();
        assert_eq!(waits, [4, 8, 16, 30, 30, 30]);
        assert_eq!(seconds(pace.after(Heard::Pending, Duration::ZERO)), 2);
        let mut slow = Pace::new(Some(45), LIFE);
        assert_eq!(seconds(slow.after(trouble(), Duration::ZERO)), 45, "never faster than the interval");
        for _ in 0..100 {
            slow.after(trouble(), Duration::ZERO);
        }
    }

    #[test]
    fn ends_with_the_code() {
        let mut pace = Pace::new(Some(5), LIFE);
        assert_eq!(seconds(pace.after(Heard::Pending, LIFE - Duration::from_secs(5))), 5);
        assert_eq!(reason(pace.after(Heard::Pending, LIFE - Duration::from_secs(4))), Reason::CodeExpired);
        assert_eq!(reason(pace.after(trouble(), LIFE - Duration::from_secs(9))), Reason::BackendUnavailable);
        assert_eq!(reason(Pace::new(Some(u64::MAX), LIFE).wait(Duration::ZERO)), Reason::CodeExpired);
        assert_eq!(reason(Pace::new(None, Duration::ZERO).wait(Duration::ZERO)), Reason::CodeExpired);
    }

    #[test]
    fn answers_that_go_on() {
        assert!(matches!(hear(&answer(400, r#"{"error":"authorization_pending"}"#)), Heard::Pending));
        assert!(matches!(hear(&answer(200, r#"{"error":"authorization_pending"}"#)), Heard::Pending), "GitHub");
        assert!(matches!(hear(&answer(400, r#"{"error":"slow_down","interval":10}"#)), Heard::SlowDown(Some(10))));
        assert!(matches!(hear(&answer(429, "calm down")), Heard::SlowDown(None)));
        for (status, body) in [
            (500, "<html>"),
            (502, ""),
            (503, r#"{"error":"temporarily_unavailable"}"#),
            (400, r#"{"error":"temporarily_unavailable"}"#),
            (408, ""),
        ] {
            assert!(matches!(hear(&answer(status, body)), Heard::Trouble(_)), "{status} {body}");
        }
    }

    #[test]
    fn answers_that_end_it() {
        for (status, body, reason) in [
            (400, r#"{"error":"access_denied"}"#, Reason::DeniedByUser),
            (403, r#"{"error":"access_denied"}"#, Reason::DeniedByUser),
            (400, r#"{"error":"expired_token"}"#, Reason::CodeExpired),
            (400, r#"{"error":"invalid_grant"}"#, Reason::BadToken),
            (401, r#"{"error":"invalid_client"}"#, Reason::BackendUnavailable),
            (400, r#"{"error":"unsupported_grant_type"}"#, Reason::BackendUnavailable),
            (400, "{\"error\":\"\\u001b[2J\"}", Reason::BackendUnavailable),
            (302, "", Reason::BackendUnavailable),
            (404, "<html>", Reason::BackendUnavailable),
            (200, "<html>", Reason::BackendUnavailable),
            (400, r#"{"error":"authorization_declined"}"#, Reason::DeniedByUser),
            (400, r#"{"error":"bad_verification_code"}"#, Reason::BadToken),
            (200, r#"{"error":"token_expired"}"#, Reason::CodeExpired),
            (200, r#"{"error":"incorrect_device_code"}"#, Reason::BadToken),
            (200, r#"{"error":"device_flow_disabled"}"#, Reason::BackendUnavailable),
            (200, r#"{"token_type":"bearer"}"#, Reason::BadToken),
            (200, r#"{"id_token":"","access_token":""}"#, Reason::BadToken),
            (200, r#"{"id_token":7}"#, Reason::BackendUnavailable),
        ] {
            match hear(&answer(status, body)) {
                Heard::Refused(denied) => {
                    assert_eq!(denied.reason, reason, "{status} {body}");
                    assert!(denied.detail.is_none_or(|d| d.bytes().all(|b| (32..127).contains(&b))), "{body}");
                }
                other => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let heard = hear(&answer(200, r#"{"id_token":"sesame","access_token":"open","refresh_token":"again"}"#));
        assert!(matches!(&heard, Heard::Tokens(t) if t.id_token.as_ref().unwrap().expose() == "sesame"));
        let shown = format!("{heard:?}");
        assert!(!["sesame", "\"open\"", "again"].iter().any(|token| shown.contains(token)), "{shown}");
    }
}
