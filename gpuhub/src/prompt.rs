//! Reading passwords: from the terminal without echo, or from standard input. Never from the
//! command line or the environment, which other processes can read.

use crate::outcome::Failure;
use gpuhub_common::secret::{MAX_SECRET, Secret};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Whether somebody can be asked.
pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// All of standard input as one password, one newline at its end dropped.
pub fn from_stdin() -> Result<Secret, Failure> {
    // Not std::io::Stdin: its buffer is never wiped.
    let stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| unreadable(&e))?);
    let mut typed = Typed::new();
    while typed.read(&stdin)? {}
    typed.into_secret()
}

/// Asks twice without echo.
pub fn twice(prompt: &str) -> Result<Secret, Failure> {
    let (first, second) = at_terminal(|ask| Ok((ask(prompt)?, ask("Again: ")?)))?;
    if first.expose() != second.expose() {
        return Err(Failure::Refused("the two are not the same".into()));
    }
    Ok(first)
}

/// Asks without echo.
pub fn once(prompt: &str) -> Result<Secret, Failure> {
    at_terminal(|ask| ask(prompt))
}

/// Asks questions without echo. A signal ends them, and the echo is back before it takes its course.
fn at_terminal<T>(
    questions: impl FnOnce(&dyn Fn(&str) -> Result<Secret, Failure>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if !is_terminal() {
        return Err(Failure::Refused("there is no terminal to ask on: give it on standard input (--stdin)".into()));
    }
    let tty = File::options().read(true).write(true).open("/dev/tty").map_err(|e| unreadable(&e))?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTSTP] {
        signals.add(signal);
    }
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(|e| unreadable(&e.into()))?;
    let answers = Echo::off(&tty).and_then(|_echo| questions(&|prompt| line(&tty, prompt, &signals)));
    // A signal that came is still pending, for read_signal was never called: now it acts.
    let _ = before.thread_set_mask();
    answers
}

/// One line from the terminal.
fn line(mut tty: &File, prompt: &str, signals: &SigSet) -> Result<Secret, Failure> {
    let arrived = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC).map_err(|e| unreadable(&e.into()))?;
    let mut typed = Typed::new();
    tty.write_all(prompt.as_bytes()).map_err(|e| unreadable(&e))?;
    loop {
        let mut fds = [PollFd::new(tty.as_fd(), PollFlags::POLLIN), PollFd::new(arrived.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(unreadable(&e.into())),
        }
        let [on_tty, on_signal] = fds.map(|fd| fd.any().unwrap_or(false));
        if on_signal {
            let _ = tty.write_all(b"\n");
            return Err(Failure::Refused("interrupted".into()));
        }
        if on_tty && (!typed.read(tty)? || typed.line_ended()) {
            let _ = tty.write_all(b"\n");
            return typed.into_secret();
        }
    }
}

/// The terminal without echo, until dropped.
struct Echo<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Echo<'a> {
    fn off(tty: &'a File) -> Result<Self, Failure> {
        let before = tcgetattr(tty).map_err(|e| unreadable(&e.into()))?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ECHOK | LocalFlags::ECHONL);
        tcsetattr(tty, SetArg::TCSAFLUSH, &silent).map_err(|e| unreadable(&e.into()))?;
        Ok(Self { tty, before })
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty, SetArg::TCSAFLUSH, &self.before);
    }
}

/// What was read so far, in one buffer that never grows and is wiped.
struct Typed {
    buffer: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Typed {
    fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; MAX_SECRET + 2]), length: 0 }
    }

    /// Reads once; false at the end of the input or of the buffer.
    fn read(&mut self, mut from: &File) -> Result<bool, Failure> {
        let Some(room) = self.buffer.get_mut(self.length..).filter(|r| !r.is_empty()) else { return Ok(false) };
        match from.read(room) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.length += n;
                Ok(true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Ok(true),
            Err(e) => Err(unreadable(&e)),
        }
    }

    fn text(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    fn line_ended(&self) -> bool {
        self.text().ends_with(b"\n")
    }

    fn into_secret(self) -> Result<Secret, Failure> {
        let text = self.text();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            return Err(Failure::Refused("an empty password is not taken".into()));
        }
        if text.iter().any(|b| matches!(b, 0 | b'\n' | b'\r')) {
            return Err(Failure::Refused("a password is one line, without NUL".into()));
        }
        Secret::new(text).ok_or_else(|| Failure::Refused(format!("the password is longer than {MAX_SECRET} bytes")))
    }
}

fn unreadable(e: &std::io::Error) -> Failure {
    Failure::Refused(format!("the password could not be read: {e}"))
}
