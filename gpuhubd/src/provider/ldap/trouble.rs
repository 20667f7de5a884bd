//! What can go wrong between us and a server, and the task that every operation runs in.

use ldap3::{LdapError, LdapResult};
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Why an operation has no answer. None of these ever holds a secret.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection could be made: refused, no route, no such host.
    Unreachable(String),
    /// The deadline passed, in this step.
    Slow(&'static str),
    /// The TLS handshake failed.
    Tls(rustls::Error),
    /// The connection ended, or what came over it was not LDAP.
    Lost(String),
    /// The server answered with a result code other than success (RFC 4511 §4.1.9).
    Refused(Box<LdapResult>),
    /// More entries than asked for.
    TooMany(usize),
}

impl Trouble {
    /// Whether the server made us wait for nothing.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Trouble::Slow(_))
    }

    /// Whether another server may do better. An answer is an answer, except from a server that
    /// says of itself that it cannot serve: busy (51), unavailable (52).
    pub(super) fn is_of_the_server(&self) -> bool {
        match self {
            Trouble::Refused(result) => matches!(result.rc, 51 | 52),
            Trouble::TooMany(_) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable(what) => write!(f, "cannot be reached: {what}"),
            Trouble::Slow(step) => write!(f, "did not answer in time ({step})"),
            Trouble::Tls(error) => write!(f, "TLS failed: {error}"),
            Trouble::Lost(what) => write!(f, "the connection failed: {what}"),
            Trouble::Refused(result) => f.write_str(&told(result)),
            Trouble::TooMany(most) => write!(f, "has more entries than it gives out, or than the {most} asked for"),
        }
    }
}

impl From<LdapError> for Trouble {
    fn from(error: LdapError) -> Self {
        match error {
            LdapError::Io { source } => match source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                Some(tls) => Trouble::Tls(tls.clone()),
                None => Trouble::Lost(source.to_string()),
            },
            LdapError::Rustls { source } => Trouble::Tls(source),
            LdapError::LdapResult { result } => Trouble::Refused(Box::new(result)),
            LdapError::DNSName { .. } => Trouble::Unreachable("its name cannot be in a certificate".into()),
            // These quote the operation, which may hold a password.
            LdapError::OpSend { .. } | LdapError::ResultRecv { .. } | LdapError::IdScrubSend { .. } => ended(),
            LdapError::MiscSend { .. } | LdapError::EndOfStream => ended(),
            other => Trouble::Lost(other.to_string()),
        }
    }
}

fn ended() -> Trouble {
    Trouble::Lost("it ended before the answer".into())
}

/// A result as the administrator reads it: code, its name, and what the server says.
pub(super) fn told(result: &LdapResult) -> String {
    let plain = LdapResult { matched: String::new(), text: String::new(), ..result.clone() };
    let code = plain.to_string();
    let code = code.split(',').next().unwrap_or_default();
    if result.text.is_empty() { code.to_owned() } else { format!("{code}: {}", shortened(&result.text)) }
}

/// At most 200 characters, none of them a control character: the text is the server's.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Runs `work` in a task of its own: the parsers of the LDAP library panic on malformed replies,
/// and a panic must end this one operation and nothing else. `step` names it in [`Trouble::Slow`].
/// When the caller goes away the task is ended.
pub(super) async fn contain<T: Send + 'static>(
    limit: Duration,
    step: &'static str,
    work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Trouble> {
    let mut task = Ended(tokio::spawn(work));
    match tokio::time::timeout(limit, &mut task.0).await {
        Err(_) => Err(Trouble::Slow(step)),
        Ok(Err(_)) => Err(Trouble::Lost("the answer was malformed".into())),
        Ok(Ok(result)) => result,
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Ended<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rc: u32, text: &str) -> LdapResult {
        LdapResult { rc, matched: "dc=x".into(), text: text.into(), refs: vec![], ctrls: vec![] }
    }

    #[test]
    fn results_are_told_in_one_short_line() {
        assert_eq!(told(&result(49, "")), "rc=49 (invalidCredentials)");
        assert_eq!(told(&result(53, "a\nb")), "rc=53 (unwillingToPerform): a b");
        assert!(told(&result(80, &"x".repeat(5000))).len() < 300);
    }

    #[tokio::test]
    async fn a_panic_ends_one_operation() {
        let work = async { if true { panic!("malformed") } else { Ok(()) } };
        let trouble = contain(Duration::from_secs(5), "search", work).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Lost(_)), "{trouble}");
    }

    #[tokio::test]
    async fn an_operation_is_left_at_its_deadline() {
        let work = std::future::pending::<Result<(), Trouble>>();
        let trouble = contain(Duration::from_millis(5), "search", work).await.unwrap_err();
        assert_eq!(trouble.to_string(), "did not answer in time (search)");
    }
}
