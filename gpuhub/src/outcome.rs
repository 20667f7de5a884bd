//! How a command ends: its output, its message, its exit status.

use gpuhub_common::client::CallError;
use gpuhub_common::wire::ErrorCode;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// Somebody said no: the broker, or the command itself before it asked.
    Refused(String),
    /// The broker does not answer.
    Broker(CallError),
    /// The broker hung up on somebody who is not root.
    NotRoot,
}

impl Failure {
    /// sysexits.h, where it has a word.
    fn status(&self) -> u8 {
        match self {
            Failure::Refused(_) | Failure::Broker(CallError::Broker(ErrorCode::NoSuchEntry)) => 1,
            Failure::Usage(_) => 2,
            Failure::Broker(_) => 69,
            Failure::NotRoot => 77,
        }
    }

    /// Says so on stderr.
    pub fn report(self) -> ExitCode {
        let _ = writeln!(std::io::stderr(), "gpuhub: {self}");
        ExitCode::from(self.status())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(what) => write!(f, "{what}\n\n{}", crate::USAGE.trim_end()),
            Failure::Refused(what) => f.write_str(&plain(what)),
            Failure::NotRoot => f.write_str("the broker closed the connection: only root may do this"),
            Failure::Broker(e) => write!(f, "{e}. {}", remedy(*e)),
        }
    }
}

/// What to do about a broker that does not answer.
pub fn remedy(e: CallError) -> &'static str {
    match e {
        CallError::NeverStarted | CallError::NoBroker => {
            "Make gpuhub-entrypoint the image's entrypoint, or start /usr/sbin/gpuhubd as root, and see what it says."
        }
        CallError::TimedOut => "See its log; if it stays silent, restart it.",
        CallError::Protocol | CallError::Broker(ErrorCode::VersionMismatch) => {
            "Install the same gpuhub on both sides of the socket, and restart the broker."
        }
        CallError::Broker(ErrorCode::Busy) => "Try again in a moment.",
        CallError::Broker(ErrorCode::Unavailable) => "See `gpuhub doctor`.",
        CallError::Broker(ErrorCode::NoSuchEntry) => "",
    }
}

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Text from elsewhere as it may be shown on a terminal: control characters become `?`.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
