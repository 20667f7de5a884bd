//! Asked again, without her: a refresh token for new tokens (RFC 6749 §6, OpenID Connect Core §12), and these for who
//! she is by now.
//!
//! A provider that disables an account takes its refresh tokens no more. What else is no answer to that question, an
//! error of the client's own above all, says nothing about her.

use super::OidcProvider;
use super::http::Answer;
use super::poll::{Heard, Tokens, error_code, hear};
use crate::config::Proof;
use crate::model::{Denied, Person, Reason};
use crate::provider::grant::{Grant, Kept};
use crate::provider::join::Sought;

/// Errors that are about her and not about us: RFC 6749 §5.2; GitHub's word for it; and those by which providers say
/// that she must sign in once more (OpenID Connect Core §3.1.2.6, which Entra gives here).
const OVER: [&str; 6] = [
    "invalid_grant",
    "bad_refresh_token",
    "access_denied",
    "interaction_required",
    "login_required",
    "consent_required",
];

impl OidcProvider {
    /// What this sign-in leaves, if the provider is to be asked again.
    pub(super) fn grant(&self, person: &Person, tokens: Option<&Tokens>) -> Option<Grant> {
        self.config.ask_again?;
        let kept = tokens.and_then(|tokens| {
            let refresh = tokens.refresh_token.clone().map(Kept::Refresh);
            // GitHub's do not expire (docs/providers/github.md); with OpenID Connect there is the scope offline_access.
            let access = || tokens.access_token.clone().filter(|_| self.config.profile.proof != Proof::IdToken);
            refresh.or_else(|| access().map(Kept::Access))
        });
        Some(Grant { provider: self.config.name.clone(), key: person.key.clone(), kept })
    }

    pub(super) async fn tokens_again(&self, kept: &Kept) -> Result<Tokens, Denied> {
        let token = match kept {
            Kept::Refresh(token) => token,
            Kept::Access(token) => {
                return Ok(Tokens { id_token: None, access_token: Some(token.clone()), refresh_token: None });
            }
        };
        let metadata = self.documents.metadata().await?;
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
        match self.http.post(&metadata.token_endpoint, &self.credentials, &form).await {
            Ok(answer) => renewed(&answer),
            Err(fault) => Err(silent(&fault.to_string())),
        }
    }

    pub(super) async fn identify_again(&self, tokens: &Tokens, sought: Sought<'_>) -> Result<Option<Person>, Denied> {
        let metadata = self.documents.metadata().await?;
        let says_who = match self.config.profile.proof {
            // "might not contain an id_token" (OpenID Connect Core §12.2)
            Proof::IdToken => tokens.id_token.is_some(),
            Proof::Userinfo | Proof::GitHub => true,
        };
        if says_who { self.identify(&metadata, tokens, sought).await.map(Some) } else { Ok(None) }
    }
}

fn renewed(answer: &Answer) -> Result<Tokens, Denied> {
    if let Some(error) = error_code(&answer.body).filter(|error| OVER.contains(&error.as_str())) {
        return Err(Denied::because(Reason::NotHonoured, format!("token endpoint: {error}")));
    }
    match hear(answer) {
        Heard::Tokens(tokens) => Ok(tokens),
        Heard::Trouble(what) => Err(silent(&what)),
        Heard::Refused(Denied { detail, .. }) => Err(silent(&detail.unwrap_or_default())),
        Heard::Pending | Heard::SlowDown(_) => Err(silent("not now")),
    }
}

/// A token that was given a moment ago, and is not taken, says something about the provider and nothing about her.
pub(super) fn of_a_new_token(denied: Denied) -> Denied {
    match denied.reason {
        Reason::NotHonoured => Denied { reason: Reason::BackendUnavailable, ..denied },
        _ => denied,
    }
}

fn silent(what: &str) -> Denied {
    Denied::because(Reason::BackendUnavailable, format!("asked again: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(status: u16, body: &str) -> Result<Tokens, Reason> {
        let body = zeroize::Zeroizing::new(body.as_bytes().to_vec());
        renewed(&Answer { status, date: None, link: None, retry_after: None, body }).map_err(|denied| denied.reason)
    }

    #[test]
    fn only_what_is_about_her_is_a_no() {
        for error in OVER {
            assert_eq!(heard(400, &format!("{{\"error\":\"{error}\"}}")).unwrap_err(), Reason::NotHonoured, "{error}");
        }
        assert_eq!(heard(200, r#"{"error":"bad_refresh_token"}"#).unwrap_err(), Reason::NotHonoured, "GitHub");
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"unauthorized_client"}"#),
            (400, r#"{"error":"unsupported_grant_type"}"#),
            (400, r#"{"error":"invalid_scope"}"#),
            (400, r#"{"error":"temporarily_unavailable"}"#),
            (429, "calm down"),
            (500, "<html>"),
            (503, ""),
            (302, ""),
            (404, "<html>invalid_grant"),
            (200, "<html>"),
            (200, "{}"),
        ] {
            assert_eq!(heard(status, body).unwrap_err(), Reason::BackendUnavailable, "{status} {body}");
        }
        let tokens = heard(200, r#"{"access_token":"a","refresh_token":"r2"}"#).unwrap();
        assert_eq!(tokens.refresh_token.unwrap().expose(), "r2");
        assert!(heard(200, r#"{"access_token":"a"}"#).unwrap().refresh_token.is_none(), "the old one stays");
    }
}
