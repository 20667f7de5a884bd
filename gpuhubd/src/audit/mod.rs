//! The audit log: one sink for every event, one line an event.
//!
//! [`Event`] is what happened; [`line`] makes its text; [`sink`] brings it to syslog (authpriv) or,
//! where there is none, to stderr as JSON, through a bounded queue that counts what it must drop:
//! a stuck syslogd must not stop logins, and a login must not wait for one.

mod line;
mod sink;

use crate::model::{Denied, Reason};
pub use sink::Audit;

/// What happened. Fields that do not apply stay `None`; nothing in it is ever a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Which kind of event.
    pub event: &'static str,
    /// How it went.
    pub result: Outcome,
    /// PAM_USER, if it could be a name at all; or the name of whoever logs in as that, too.
    pub user: Option<String>,
    /// PAM_USER, if it is not that.
    pub login_name: Option<String>,
    /// Her uid, where she is known.
    pub uid: Option<u32>,
    /// PAM_SERVICE.
    pub service: Option<String>,
    /// PAM_RHOST.
    pub source: Option<String>,
    /// PAM_TTY.
    pub tty: Option<String>,
    /// `password`, `device-code`, `publickey`.
    pub method: Option<&'static str>,
    /// The provider's name in the configuration.
    pub backend: Option<String>,
    /// `ok`, or a word of [`Reason`] or of an entry's refusal.
    pub reason: &'static str,
    /// What exactly, for the administrator.
    pub detail: Option<String>,
    /// The session's id.
    pub session: Option<String>,
    /// Seconds that a session lasted.
    pub duration_s: Option<i64>,
}

/// See [`Event::result`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It was done.
    #[default]
    Ok,
    /// It was refused.
    Denied,
    /// It failed through no fault of whoever asked.
    Error,
}

impl Event {
    /// An event that went well.
    pub fn ok(event: &'static str) -> Self {
        Self { event, reason: "ok", ..Self::default() }
    }

    /// A refusal.
    pub fn denied(event: &'static str, denied: &Denied) -> Self {
        let result = match denied.reason {
            Reason::Internal | Reason::BackendUnavailable | Reason::RegistryUnavailable => Outcome::Error,
            _ => Outcome::Denied,
        };
        Self { event, result, reason: denied.reason.as_str(), detail: denied.detail.clone(), ..Self::default() }
    }

    /// An entry that is not served, and why.
    pub fn entry_refused(backend: &str, name: &str, reason: &'static str) -> Self {
        Self {
            event: "entry-refused",
            result: Outcome::Denied,
            backend: Some(backend.into()),
            user: Some(name.into()),
            reason,
            ..Self::default()
        }
    }
}
