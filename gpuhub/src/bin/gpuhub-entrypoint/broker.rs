//! The broker as a child: started, started again, and stopped in the end.
//!
//! ```text
//!   Down{at} ──start──▶ Up{pid} ──died──▶ Down{now + pause} …
//!      any ──stop──▶ Stopping{kill_at} ──died, or 5 s and SIGKILL──▶ Gone
//! ```

use crate::backoff::{Backoff, WELL};
use crate::child::{self, End, Terminal};
use crate::say;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{Pid, Uid, seteuid};
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The broker exits with this when it refuses its configuration (sysexits: `EX_CONFIG`).
const EX_CONFIG: i32 = 78;
/// How long a broker that was told to stop may take.
const STOP: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    Down { at: Instant },
    Up { pid: Pid, since: Instant },
    Stopping { pid: Pid, kill_at: Option<Instant> },
    Gone,
}

/// Why a command that waits for the broker need not wait any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It accepts connections.
    Ready,
    /// It may yet.
    NotYet,
    /// It cannot: refused configuration, or no program.
    Hopeless,
}

/// The broker, supervised.
#[derive(Debug)]
pub(crate) struct Broker {
    argv: [CString; 2],
    socket: PathBuf,
    mask: SigSet,
    state: State,
    backoff: Backoff,
    hopeless: bool,
}

impl Broker {
    /// A broker that is to be started at once. `mask` is the signal mask it shall have.
    pub(crate) fn new(program: &CString, socket: &Path, mask: SigSet, now: Instant) -> Self {
        Self {
            argv: [program.clone(), c"--foreground".into()],
            socket: socket.to_owned(),
            mask,
            state: State::Down { at: now },
            backoff: Backoff::new(),
            hopeless: false,
        }
    }

    /// Does what is due: a start, or the kill of a broker that does not stop.
    pub(crate) fn tick(&mut self, now: Instant) {
        match self.state {
            State::Down { at } if at <= now => self.start(now),
            State::Stopping { pid, kill_at: Some(at) } if at <= now => {
                say("the broker does not stop; killing it");
                self.state = State::Stopping { pid, kill_at: None };
                self.send(pid, Signal::SIGKILL);
            }
            _ => {}
        }
    }

    /// When [`Self::tick`] wants to be called next.
    pub(crate) const fn wakes_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { at } => Some(at),
            State::Stopping { kill_at, .. } => kill_at,
            State::Up { .. } | State::Gone => None,
        }
    }

    fn start(&mut self, now: Instant) {
        match child::start(&self.argv, Terminal::None, &self.mask) {
            Ok(pid) => self.state = State::Up { pid, since: now },
            Err(why) => {
                let [program, _] = &self.argv;
                self.give_up(&format!("cannot start {}: {why}", program.to_string_lossy()));
                let pause = self.backoff.after(Duration::ZERO);
                self.state = State::Down { at: now + pause };
            }
        }
    }

    /// A process ended. Ours? Then remembers when to start it again.
    pub(crate) fn ended(&mut self, pid: Pid, end: End, now: Instant) {
        match self.state {
            State::Up { pid: ours, since } if ours == pid => {
                let lived = now.saturating_duration_since(since);
                let pause = self.backoff.after(lived);
                self.state = State::Down { at: now + pause };
                self.hopeless &= lived < WELL;
                if end == End::Exited(EX_CONFIG) {
                    self.give_up(
                        "the broker refuses its configuration (its message is above; gpuhubd --check says more)",
                    );
                } else {
                    self.hopeless = false;
                    say(&format!("the broker ended ({end}); starting it again in {:.1} s", pause.as_secs_f32()));
                }
            }
            State::Stopping { pid: ours, .. } if ours == pid => self.state = State::Gone,
            _ => {}
        }
    }

    /// Says once why there is no broker; the tries go on at the backoff's pace.
    fn give_up(&mut self, why: &str) {
        if !self.hopeless {
            say(&format!(
                "{why}. The image goes on without it: only local accounts can log in. \
                 It is tried again from time to time, without a further word."
            ));
        }
        self.hopeless = true;
    }

    /// Whether logins would be answered now.
    pub(crate) fn readiness(&self) -> Readiness {
        if accepts(&self.socket) {
            Readiness::Ready
        } else if self.hopeless {
            Readiness::Hopeless
        } else {
            Readiness::NotYet
        }
    }

    /// Asks the broker to stop, now or never.
    pub(crate) fn stop(&mut self, now: Instant) {
        match self.state {
            State::Up { pid, .. } => {
                self.state = State::Stopping { pid, kill_at: Some(now + STOP) };
                self.send(pid, Signal::SIGTERM);
            }
            State::Down { .. } => self.state = State::Gone,
            State::Stopping { .. } | State::Gone => {}
        }
    }

    /// Passes a signal on, if the broker lives.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if let State::Up { pid, .. } = self.state {
            self.send(pid, signal);
        }
    }

    /// The broker's process, if there is one.
    pub(crate) const fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Up { pid, .. } | State::Stopping { pid, .. } => Some(pid),
            State::Down { .. } | State::Gone => None,
        }
    }

    /// It was asked to stop and is no more.
    pub(crate) const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Where nothing helps there is nothing to wait for: at the end of a container the kernel does it.
    fn send(&mut self, pid: Pid, signal: Signal) {
        let sent = match kill(pid, signal) {
            Err(Errno::EPERM) => kill_as_itself(pid, signal),
            other => other,
        };
        if sent == Err(Errno::EPERM) && matches!(self.state, State::Stopping { .. }) {
            self.state = State::Gone;
        }
    }
}

/// A root without `CAP_KILL` (hardened containers) may not signal a broker that dropped to its own user.
/// That user may: we are it for a moment. There is one thread, so nothing else happens in between.
fn kill_as_itself(pid: Pid, signal: Signal) -> nix::Result<()> {
    let user = user_of(pid).ok_or(Errno::EPERM)?;
    let ourselves = Uid::effective();
    seteuid(user)?;
    let sent = kill(pid, signal);
    seteuid(ourselves)?;
    sent
}

/// From `status`, which everyone may read; the owner of /proc/PID is root for a process that dropped root.
fn user_of(pid: Pid) -> Option<Uid> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok().map(Uid::from_raw)
}

/// Whether something accepts connections at `path`. Never blocks: a full queue is an answer too.
fn accepts(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(address) = UnixAddr::new(path) else {
        return false;
    };
    let Ok(probe) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else {
        return false;
    };
    matches!(connect(probe.as_raw_fd(), &address), Ok(()) | Err(Errno::EAGAIN))
}
