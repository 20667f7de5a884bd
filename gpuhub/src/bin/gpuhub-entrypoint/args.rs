//! The command line. Options of ours stand before the command; whatever follows belongs to the command.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints. `--broker`, `--socket` and `--wait` are for tests and are not shown.
pub(crate) const HELP: &str = "\
Usage: gpuhub-entrypoint [COMMAND [ARGUMENT...]]

Starts the gpuhub broker, waits up to 10 s until it answers, runs COMMAND beside it,
and exits with COMMAND's status (128 + signal number if a signal ended it).
Without COMMAND it runs the broker alone until it is told to stop.

In a Dockerfile:
    ENTRYPOINT [\"gpuhub-entrypoint\"]
    CMD [\"/usr/sbin/sshd\", \"-D\", \"-e\"]
An image's own entrypoint can follow:
    ENTRYPOINT [\"gpuhub-entrypoint\", \"/opt/image/entrypoint.sh\"]

  --help       this text
  --version    the version
";

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Supervise.
    Run(Options),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// How to supervise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The broker's program.
    pub(crate) broker: CString,
    /// The socket on which the broker answers.
    pub(crate) socket: PathBuf,
    /// How long the command waits for that.
    pub(crate) wait: Duration,
    /// The image's command; empty: the broker alone.
    pub(crate) command: Vec<CString>,
}

/// Reads the arguments (without the program's own name).
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let mut options = Options {
        broker: c"/usr/sbin/gpuhubd".into(),
        socket: PathBuf::from("/run/gpuhub/broker.sock"),
        wait: Duration::from_secs(10),
        command: Vec::new(),
    };
    let mut args = args.peekable();
    while let Some(option) = args.next_if(|arg| arg.as_bytes().starts_with(b"-")) {
        let mut value = || args.next().ok_or_else(|| format!("{} needs a value", option.to_string_lossy()));
        match option.as_bytes() {
            b"--" => break,
            b"--help" | b"-h" => return Ok(Request::Help),
            b"--version" | b"-V" => return Ok(Request::Version),
            b"--broker" => options.broker = c_string(value()?)?,
            b"--socket" => options.socket = PathBuf::from(value()?),
            b"--wait" => options.wait = seconds(&value()?)?,
            _ => return Err(format!("unknown option {}", option.to_string_lossy())),
        }
    }
    options.command = args.map(c_string).collect::<Result<_, _>>()?;
    Ok(Request::Run(options))
}

fn c_string(arg: OsString) -> Result<CString, String> {
    CString::new(arg.into_vec()).map_err(|_| "an argument contains a NUL byte".to_owned())
}

fn seconds(arg: &OsString) -> Result<Duration, String> {
    arg.to_str()
        .and_then(|text| text.parse::<f64>().ok())
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| format!("not a number of seconds: {}", arg.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(args: &[&str]) -> Options {
        match parse(args.iter().map(OsString::from)).unwrap() {
            Request::Run(options) => options,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn the_command_keeps_its_own_options() {
        let command = options(&["/usr/sbin/sshd", "-D", "--help"]).command;
        assert_eq!(command, [c"/usr/sbin/sshd", c"-D", c"--help"]);
    }

    #[test]
    fn two_dashes_end_our_options() {
        let command = options(&["--wait", "0.5", "--", "-odd-name"]).command;
        assert_eq!(command, [c"-odd-name"]);
    }

    #[test]
    fn no_command_is_a_broker_alone() {
        let alone = options(&[]);
        assert!(alone.command.is_empty());
        assert_eq!(alone.broker.as_c_str(), c"/usr/sbin/gpuhubd");
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [vec!["--wat"], vec!["--wait"], vec!["--wait", "-1"], vec!["--wait", "x"]] {
            assert!(parse(args.into_iter().map(OsString::from)).is_err());
        }
    }
}
