//! Starting processes and saying how they ended.
//!
//! `posix_spawn` rather than `std::process::Command`: it sets the child's signal mask, which is ours
//! (everything blocked, read from a descriptor) otherwise, and it does so without a line of `unsafe`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

/// Whether the child shares our terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Our process group, our stdin: the image's command.
    Shared,
    /// A process group of its own and no stdin: Ctrl-C in `docker run -it` is not meant for the broker.
    None,
}

/// Starts `argv`, searched in PATH, with our environment and the signal mask that we were given.
pub(crate) fn start(argv: &[CString], terminal: Terminal, mask: &SigSet) -> nix::Result<Pid> {
    let program = argv.first().ok_or(Errno::ENOENT)?;
    let mut attributes = PosixSpawnAttr::init()?;
    let mut flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    attributes.set_sigmask(mask)?;
    // The Rust runtime ignores SIGPIPE, and that would be inherited.
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    let mut files = PosixSpawnFileActions::init()?;
    if terminal == Terminal::None {
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
        attributes.set_pgroup(Pid::from_raw(0))?;
        files.add_open(0, c"/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    }
    attributes.set_flags(flags)?;
    posix_spawnp(program, &files, &attributes, argv, &environment())
}

fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).ok()
        })
        .collect()
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(Signal),
}

impl End {
    /// The end of a process, if the status tells of one.
    pub(crate) const fn of(status: WaitStatus) -> Option<(Pid, Self)> {
        match status {
            WaitStatus::Exited(pid, code) => Some((pid, Self::Exited(code))),
            WaitStatus::Signaled(pid, signal, _) => Some((pid, Self::Killed(signal))),
            _ => None,
        }
    }

    /// What a shell would say: the status, or 128 + the signal's number.
    pub(crate) fn exit_code(self) -> u8 {
        let code = match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal as i32,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(out, "exit status {code}"),
            Self::Killed(signal) => write!(out, "{signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_become_what_a_shell_would_say() {
        assert_eq!(End::Exited(0).exit_code(), 0);
        assert_eq!(End::Exited(78).exit_code(), 78);
        assert_eq!(End::Killed(Signal::SIGTERM).exit_code(), 143);
        assert_eq!(End::Killed(Signal::SIGKILL).exit_code(), 137);
    }
}
