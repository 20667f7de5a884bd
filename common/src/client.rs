//! The blocking client: one connection, one deadline, nothing that surprises the host process.
//!
//! The socket is close-on-exec and non-blocking; every wait is a poll(2) against the deadline; no
//! SIGPIPE is ever raised; nothing is retried here. Used by the PAM module, the NSS library and
//! the command.
#![allow(unsafe_code)] // socket calls with flags that std does not offer: MSG_NOSIGNAL, SOCK_NONBLOCK

use crate::wire::{self, Call, ErrorCode, Reply, Request};
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// No run directory: no broker was ever started here (`RUN` lines of a Dockerfile).
    NeverStarted,
    /// A broker should be there and is not, or does not take the connection.
    NoBroker,
    /// The deadline passed.
    TimedOut,
    /// The connection ended, or what came is not the protocol.
    Protocol,
    /// The broker's own answer.
    Broker(ErrorCode),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::NeverStarted => "no broker was ever started here",
            CallError::NoBroker => "the broker does not run",
            CallError::TimedOut => "the broker did not answer in time",
            CallError::Protocol => "the broker's answer was not understood",
            CallError::Broker(ErrorCode::NoSuchEntry) => "there is no such entry",
            CallError::Broker(ErrorCode::Unavailable) => "the directory cannot be asked now",
            CallError::Broker(ErrorCode::VersionMismatch) => "the broker is of another version",
            CallError::Broker(ErrorCode::Busy) => "the broker is too busy",
        })
    }
}

impl std::error::Error for CallError {}

/// A connection to the broker.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// Grows to the largest reply and is wiped at the end: prompts may quote what was typed.
    buffer: Zeroizing<Vec<u8>>,
}

impl Client {
    /// Connects to the broker's socket at `path`, waiting at most `timeout` (a full backlog).
    pub fn connect(path: &str, timeout: Duration) -> Result<Self, CallError> {
        let deadline = Instant::now() + timeout;
        // SAFETY: socket(2) takes no pointers; a valid result is a descriptor that we own.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
            if fd < 0 {
                return Err(CallError::NoBroker);
            }
            above_stdio(OwnedFd::from_raw_fd(fd))?
        };
        // SAFETY: sockaddr_un is plain data; all-zero is a valid value of it.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if path.len() >= address.sun_path.len() {
            return Err(CallError::NoBroker);
        }
        for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
            *to = from as libc::c_char;
        }
        loop {
            // SAFETY: the address outlives the call and its size is given; unix(7).
            let done = unsafe {
                libc::connect(
                    socket.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of::<libc::sockaddr_un>() as libc::socklen_t,
                )
            };
            if done == 0 {
                return Ok(Self { socket, buffer: Zeroizing::new(Vec::new()) });
            }
            match errno() {
                libc::EINTR => {}
                // unix(7): a full backlog is EAGAIN on a non-blocking socket, and poll(2) does not help.
                libc::EAGAIN if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                libc::EAGAIN => return Err(CallError::TimedOut),
                libc::ENOENT if never_started(Path::new(path)) => return Err(CallError::NeverStarted),
                _ => return Err(CallError::NoBroker),
            }
        }
    }

    /// Sends `call` and waits for its reply, all within `timeout`.
    pub fn call<T: DeserializeOwned>(&mut self, call: Call, timeout: Duration) -> Result<T, CallError> {
        let deadline = Instant::now() + timeout;
        let frame = frame(&Request { version: wire::VERSION, call })?;
        self.send(&frame, deadline)?;
        self.receive(deadline)?;
        let reply: Reply<T> = serde_json::from_slice(&self.buffer).map_err(|_| CallError::Protocol)?;
        match (reply.parameters, reply.error) {
            (Some(parameters), None) => Ok(parameters),
            (None, Some(error)) => Err(CallError::Broker(error)),
            _ => Err(CallError::Protocol),
        }
    }

    fn send(&self, mut bytes: &[u8], deadline: Instant) -> Result<(), CallError> {
        while !bytes.is_empty() {
            // SAFETY: pointer and length are of one live slice; send(2) only reads it.
            // MSG_NOSIGNAL: the host process must not get our SIGPIPE.
            let sent =
                unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
            match usize::try_from(sent) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(_) => match errno() {
                    libc::EINTR => {}
                    libc::EAGAIN => self.wait(libc::POLLOUT, deadline)?,
                    _ => return Err(CallError::Protocol),
                },
            }
        }
        Ok(())
    }

    /// Reads up to the NUL into `buffer`, which then holds the JSON text alone.
    fn receive(&mut self, deadline: Instant) -> Result<(), CallError> {
        self.buffer.clear();
        let mut chunk = Zeroizing::new([0u8; 4096]);
        loop {
            // SAFETY: pointer and length are of one live array; recv(2) writes at most its length.
            let got = unsafe { libc::recv(self.socket.as_raw_fd(), chunk.as_mut_ptr().cast(), chunk.len(), 0) };
            match usize::try_from(got) {
                Ok(0) => return Err(CallError::Protocol),
                Ok(n) => {
                    let new = chunk.get(..n).unwrap_or_default();
                    if self.buffer.len() + new.len() > wire::MAX_REPLY {
                        return Err(CallError::Protocol);
                    }
                    self.buffer.extend_from_slice(new);
                    // One reply a request: anything after the NUL is not the protocol.
                    match new.iter().position(|b| *b == 0) {
                        Some(at) if at + 1 == new.len() => {
                            self.buffer.pop();
                            return Ok(());
                        }
                        Some(_) => return Err(CallError::Protocol),
                        None => {}
                    }
                }
                Err(_) => match errno() {
                    libc::EINTR => {}
                    libc::EAGAIN => self.wait(libc::POLLIN, deadline)?,
                    _ => return Err(CallError::Protocol),
                },
            }
        }
    }

    fn wait(&self, events: libc::c_short, deadline: Instant) -> Result<(), CallError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CallError::TimedOut);
            }
            let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events, revents: 0 };
            let ms = i32::try_from(left.as_millis().max(1)).unwrap_or(i32::MAX);
            // SAFETY: one pollfd, on our stack, for the length of the call.
            match unsafe { libc::poll(&raw mut poll, 1, ms) } {
                0 => return Err(CallError::TimedOut),
                n if n > 0 => return Ok(()),
                _ if errno() == libc::EINTR => {}
                _ => return Err(CallError::Protocol),
            }
        }
    }
}

/// The request with its NUL, in one allocation that never moves: it may hold a secret. Written twice, so that no more
/// has to be wiped than there is.
fn frame(request: &Request) -> Result<Zeroizing<Vec<u8>>, CallError> {
    let mut length = Length(1);
    serde_json::to_writer(&mut length, request).map_err(|_| CallError::Protocol)?;
    if length.0 > wire::MAX_REQUEST {
        return Err(CallError::Protocol);
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *frame, request).map_err(|_| CallError::Protocol)?;
    frame.push(0);
    Ok(frame)
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The descriptor, or one like it: not one of the first three. In a process that has closed them,
/// another thread's print would write into our conversation.
fn above_stdio(socket: OwnedFd) -> Result<OwnedFd, CallError> {
    if socket.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(socket);
    }
    // SAFETY: fcntl(2) takes two numbers here; a valid result is a descriptor that we own.
    unsafe {
        match libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) {
            fd if fd < 0 => Err(CallError::NoBroker),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Whether no broker was ever started here: there is no directory for what it would leave at
/// `path`. One that cannot be looked at is no sign of that.
pub fn never_started(path: &Path) -> bool {
    let gone = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    path.parent().is_none_or(|dir| std::fs::metadata(dir).map_or_else(|e| gone(&e), |meta| !meta.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Nothing, Status};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    fn answering(reply: &'static [u8]) -> (std::path::PathBuf, std::thread::JoinHandle<()>) {
        static N: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = N.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gpuhub-client-{}-{n}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(reply);
            if reply.is_empty() {
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        (path, thread)
    }

    fn ask(reply: &'static [u8]) -> Result<Status, CallError> {
        let (path, thread) = answering(reply);
        let out = Client::connect(path.to_str().unwrap(), Duration::from_secs(1))
            .and_then(|mut c| c.call(Call::GetStatus(Nothing {}), Duration::from_millis(100)));
        thread.join().unwrap();
        std::fs::remove_file(path).unwrap();
        out
    }

    #[test]
    fn broken_answers_are_errors() {
        assert_eq!(ask(b"{}\0").err(), Some(CallError::Protocol));
        assert_eq!(ask(b"{\"parameters\":{}}\0").err(), Some(CallError::Protocol));
        assert_eq!(ask(b"not json\0").err(), Some(CallError::Protocol));
        assert_eq!(ask(b"{\"error\":\"io.gpuhub.Broker.Busy\"}\0more").err(), Some(CallError::Protocol));
        assert_eq!(ask(b"cut short").err(), Some(CallError::Protocol));
    }

    #[test]
    fn silence_times_out() {
        assert_eq!(ask(b"").err(), Some(CallError::TimedOut));
    }

    #[test]
    fn the_broker_s_own_error_arrives() {
        assert_eq!(
            ask(b"{\"error\":\"io.gpuhub.Broker.Unavailable\"}\0").err(),
            Some(CallError::Broker(ErrorCode::Unavailable))
        );
    }

    #[test]
    fn nobody_there() {
        let gone = |p: &str| Client::connect(p, Duration::from_millis(50)).err();
        assert_eq!(gone("/nonexistent/gpuhub/broker.sock"), Some(CallError::NeverStarted));
        assert_eq!(gone("/tmp/no-such-gpuhub.sock"), Some(CallError::NoBroker));
    }

    #[test]
    fn the_socket_is_above_stdio_and_closed_on_exec() {
        let (path, thread) = answering(b"{\"error\":\"io.gpuhub.Broker.Unavailable\"}\0");
        // SAFETY: fork(2), close_range(2), alarm(2), _exit(2) take no pointers, fcntl(2) neither,
        // waitpid(2) writes one int. The child uses no descriptor that it closes.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(10);
                libc::close_range(0, u32::MAX, 0);
                let client = Client::connect(path.to_str().unwrap(), Duration::from_secs(1));
                let fd = client.as_ref().map_or(-1, |c| c.socket.as_raw_fd());
                let flags = (libc::fcntl(fd, libc::F_GETFD), libc::fcntl(fd, libc::F_GETFL));
                let low = (0..3).any(|fd| libc::fcntl(fd, libc::F_GETFD) != -1);
                let answer = client.and_then(|mut c| {
                    c.call::<Status>(Call::GetStatus(Nothing {}), Duration::from_secs(5)).map(|_| ())
                });
                let well = fd > 2
                    && flags.0 & libc::FD_CLOEXEC != 0
                    && flags.1 & libc::O_NONBLOCK != 0
                    && !low
                    && answer == Err(CallError::Broker(ErrorCode::Unavailable));
                libc::_exit(i32::from(!well));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        assert_eq!(status, 0);
        thread.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn only_a_directory_that_is_not_there_is_one_that_never_was() {
        assert!(never_started(Path::new("/nonexistent/gpuhub/snapshot")));
        assert!(never_started(Path::new("/etc/passwd/snapshot")));
        assert!(!never_started(Path::new("/tmp/snapshot")));
        // Too long a name is an error of another kind, as a directory that may not be searched is.
        assert!(!never_started(Path::new(&format!("/{}/snapshot", "x".repeat(300)))));
    }
}
