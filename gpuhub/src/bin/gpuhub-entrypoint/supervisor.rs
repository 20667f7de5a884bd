//! The one loop: signals arrive on a descriptor, children are reaped, timers are looked at.
//!
//! ```text
//!   Waiting{until} ──broker answers, cannot, or 10 s──▶ Running{pid} ──ends──▶ Leaving{code} ──▶ exit
//!        └─ TERM, INT, QUIT ─────────────────────────────────────────────────────▲
//!   Alone (no command) ── TERM, INT, QUIT ────────────────────────────────────────┘
//! ```

use crate::args::Options;
use crate::broker::{Broker, Readiness};
use crate::child::{self, End, Terminal};
use crate::say;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What the command gets when we get it.
const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];
/// How often a command that waits for the broker looks for it.
const LOOK: Duration = Duration::from_millis(20);
/// The wait is announced nowhere, so a longer sleep than this would only hide a mistake of ours.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Exit statuses of a command that cannot be started, as shells have them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// Our own failure to do anything at all (sysexits: `EX_OSERR`).
const EX_OSERR: u8 = 71;

#[derive(Clone, Copy, Debug)]
enum Phase {
    Waiting { until: Instant },
    Running { pid: Pid },
    Alone,
    Leaving { code: u8 },
}

struct Supervisor<'a> {
    command: &'a [CString],
    /// The signal mask that we were started with, and that children get.
    mask: SigSet,
    phase: Phase,
    broker: Broker,
}

/// Supervises until the command has ended; gives the exit status.
pub(crate) fn run(options: &Options) -> u8 {
    let (mask, signals) = match take_signals() {
        Ok(taken) => taken,
        Err(why) => {
            say(&format!("cannot take signals: {why}"));
            return EX_OSERR;
        }
    };
    // Orphans come to PID 1 by themselves; anywhere else this makes them come to us.
    if let Err(why) = nix::sys::prctl::set_child_subreaper(true) {
        say(&format!("cannot become the reaper of orphans: {why}"));
    }
    let now = Instant::now();
    let phase = if options.command.is_empty() { Phase::Alone } else { Phase::Waiting { until: now + options.wait } };
    Supervisor {
        command: &options.command,
        mask,
        phase,
        broker: Broker::new(&options.broker, &options.socket, mask, now),
    }
    .serve(&signals)
}

/// Blocks what we handle and has it delivered to a descriptor. SIGTTIN and SIGTTOU are blocked only so
/// that a line on stderr cannot stop us while the command has the terminal.
fn take_signals() -> nix::Result<(SigSet, SignalFd)> {
    let mut handled = SigSet::from(Signal::SIGCHLD);
    handled.extend(FORWARDED);
    let mut blocked = handled;
    blocked.extend([Signal::SIGTTIN, Signal::SIGTTOU]);
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let signals = SignalFd::with_flags(&handled, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Ok((before, signals))
}

impl Supervisor<'_> {
    fn serve(&mut self, signals: &SignalFd) -> u8 {
        loop {
            let now = Instant::now();
            self.broker.tick(now);
            self.step(now);
            if let Phase::Leaving { code } = self.phase {
                if self.broker.is_gone() {
                    return code;
                }
            }
            self.sleep(signals, now);
            while let Ok(Some(info)) = signals.read_signal() {
                self.signalled(&info);
            }
            self.reap();
        }
    }

    /// Starts the command when its time has come.
    fn step(&mut self, now: Instant) {
        let Phase::Waiting { until } = self.phase else {
            return;
        };
        match self.broker.readiness() {
            Readiness::NotYet if now < until => return,
            Readiness::NotYet => {
                say("the broker does not answer yet; going on. Until it does, only local accounts can log in.");
            }
            Readiness::Ready | Readiness::Hopeless => {}
        }
        match child::start(self.command, Terminal::Shared, &self.mask) {
            Ok(pid) => self.phase = Phase::Running { pid },
            Err(why) => {
                let name = self.command.first().map(|name| name.to_string_lossy());
                say(&format!("cannot run {}: {why}", name.unwrap_or_default()));
                let code = match why {
                    Errno::ENOENT | Errno::ENOTDIR => NOT_FOUND,
                    _ => NOT_EXECUTABLE,
                };
                self.leave(code, now);
            }
        }
    }

    /// Until a signal (a child's end is one) or the next thing due.
    fn sleep(&self, signals: &SignalFd, now: Instant) {
        let due = match self.phase {
            Phase::Waiting { .. } => Some(now + LOOK),
            Phase::Running { .. } | Phase::Alone | Phase::Leaving { .. } => None,
        };
        let pause = [due, self.broker.wakes_at()]
            .into_iter()
            .flatten()
            .min()
            .map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(now));
        // Rounded up: a millisecond too early would spin.
        let millis = PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut events = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut events, millis);
    }

    fn signalled(&mut self, info: &siginfo) {
        let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok()) else {
            return;
        };
        if signal == Signal::SIGCHLD {
            return; // reaped after the queue is empty: several deaths make one signal
        }
        let ends = matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT);
        match self.phase {
            Phase::Running { pid } if !has_it_already(info, pid) => {
                let _ = kill(pid, signal);
            }
            Phase::Running { .. } | Phase::Leaving { .. } => {}
            Phase::Alone if ends => self.leave(0, Instant::now()),
            Phase::Alone => self.broker.signal(signal),
            Phase::Waiting { .. } if ends => self.leave(End::Killed(signal).exit_code(), Instant::now()),
            Phase::Waiting { .. } => {}
        }
    }

    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => match End::of(status) {
                    Some((pid, end)) => self.ended(pid, end),
                    None => return, // nobody else has ended
                },
                // Reaped, but killed by a real-time signal, for which there is no name: whoever is
                // missing now was it.
                Err(Errno::EINVAL) => {
                    let command = match self.phase {
                        Phase::Running { pid } => Some(pid),
                        _ => None,
                    };
                    for pid in [command, self.broker.pid()].into_iter().flatten() {
                        if kill(pid, None) == Err(Errno::ESRCH) {
                            self.ended(pid, End::Exited(255));
                        }
                    }
                }
                Err(_) => return, // no children at all
            }
        }
    }

    fn ended(&mut self, pid: Pid, end: End) {
        let now = Instant::now();
        match self.phase {
            Phase::Running { pid: command } if command == pid => self.leave(end.exit_code(), now),
            _ => self.broker.ended(pid, end, now), // or an orphan, which is nobody's
        }
    }

    fn leave(&mut self, code: u8, now: Instant) {
        self.phase = Phase::Leaving { code };
        self.broker.stop(now);
    }
}

/// A terminal (Ctrl-C, a new window size) signals its whole foreground group, so a command in our group
/// has this one already; sent again, one Ctrl-C would count as two.
fn has_it_already(info: &siginfo, command: Pid) -> bool {
    info.ssi_code == libc::SI_KERNEL && getpgid(Some(command)) == Ok(getpgrp())
}
