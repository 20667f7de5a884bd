//! What is said when the broker cannot say it: one line to syslog, one sentence to the person.

use crate::conversation::Conversation;
use crate::handle;
use crate::options::Options;
use crate::relay::Person;
use gpuhub_common::client::CallError;
use gpuhub_common::wire::{Context, ErrorCode, Message, Purpose};
use pam::module::PamHandle;

/// The longest value in a line; the application's items have no limit of their own.
const MAX_VALUE: usize = 256;

/// Logs that `event` was denied for `reason`.
pub fn refusal(handle: &PamHandle, context: &Context, event: &str, reason: &str) {
    handle::log(handle, libc::LOG_ERR, &line(context, event, "denied", reason));
}

/// Logs an event that goes on though the broker could not record it.
pub fn unrecorded(handle: &PamHandle, context: &Context, event: &str, reason: &str) {
    handle::log(handle, libc::LOG_WARNING, &line(context, event, "unrecorded", reason));
}

/// Tells the person, as an error message.
pub fn tell(handle: &mut PamHandle, options: &Options, sentence: &str) {
    let message = Message { error: true, text: sentence.to_owned() };
    Conversation::new(handle, Purpose::Authenticate, options).show(&message);
}

fn line(context: &Context, event: &str, result: &str, reason: &str) -> String {
    let mut line = format!("event={} result={}", quoted(event), quoted(result));
    line += &format!(" user={} service={}", quoted(&context.user), quoted(&context.service));
    if let Some(source) = &context.source {
        line += &format!(" source={}", quoted(source));
    }
    line += &format!(" reason={}", quoted(reason));
    line
}

/// `text` in quotes, on one line and in ASCII: nobody forges a line or a field, or turns the
/// terminal of whoever reads the log.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_VALUE).collect();
    format!("\"{}\"", cut.escape_default())
}

/// The audit reason.
pub const fn reason(error: CallError) -> &'static str {
    match error {
        CallError::NeverStarted => "broker-never-started",
        CallError::NoBroker => "broker-down",
        CallError::TimedOut => "broker-timeout",
        CallError::Protocol => "broker-protocol",
        CallError::Broker(ErrorCode::NoSuchEntry) => "no-such-entry",
        CallError::Broker(ErrorCode::Unavailable) => "directory-unavailable",
        CallError::Broker(ErrorCode::VersionMismatch) => "broker-version",
        CallError::Broker(ErrorCode::Busy) => "broker-busy",
    }
}

/// What the person is told. The same for everyone who is not local, so it tells nobody who exists.
pub const fn sentence(error: CallError) -> &'static str {
    match error {
        CallError::NeverStarted | CallError::NoBroker => "Sign-in is unavailable: the identity broker is not running.",
        CallError::TimedOut => "Sign-in is unavailable: the identity broker did not answer in time.",
        CallError::Broker(ErrorCode::Busy) => "Sign-in is unavailable: too many sign-ins at once. Try again later.",
        CallError::Broker(ErrorCode::Unavailable) => "Sign-in is unavailable: the directory does not answer.",
        CallError::Protocol | CallError::Broker(ErrorCode::VersionMismatch | ErrorCode::NoSuchEntry) => {
            "Sign-in is unavailable: the identity broker's answer was not understood."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_their_quotes() {
        let context = Context {
            user: "alice".into(),
            service: "x\" result=\"allowed\nnext\u{1b}[2J\u{202e}".into(),
            source: Some("s".repeat(1000)),
            ..Context::default()
        };
        let line = line(&context, "auth", "denied", "broker-down");
        assert!(line.starts_with(
            r#"event="auth" result="denied" user="alice" service="x\" result=\"allowed\nnext\u{1b}[2J\u{202e}""#
        ));
        assert!(line.ends_with(r#" reason="broker-down""#));
        assert!(line.len() < 512 && line.bytes().all(|b| (0x20..0x7f).contains(&b)));
    }
}
