//! Which process are we in?
#![allow(unsafe_code)] // prctl(2), geteuid(2), getauxval(3)

/// The broker's own name. It never asks NSS; a library in it might, and would ask the broker.
pub(crate) const BROKER: &[u8] = b"gpuhubd";

/// Programs that ask before a login, where no snapshot says which. Debian's OpenSSH asks in
/// `sshd-session` since 9.8.
pub(crate) const LOGIN_PROGRAMS: &[&[u8]] = &[b"sshd", b"sshd-session", b"login", b"su"];

/// How to find out; replaced in tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// Whether the process has uid 0 in effect, and had from its start.
    pub(crate) is_root: fn() -> bool,
    /// The name of the calling thread, and of a program's only thread.
    pub(crate) name: fn() -> Name,
}

impl Process {
    /// This process.
    pub(crate) const SELF: Self = Self { is_root, name };
}

/// A thread's name, at most 15 bytes and a NUL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name(pub(crate) [u8; 16]);

impl Name {
    /// Without the NUL.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.split(|b| *b == 0).next().unwrap_or_default()
    }
}

fn is_root() -> bool {
    // SAFETY: both take and keep no pointer. The first reads what execve(2) left in our memory, so
    // that a process that never was root costs no system call.
    unsafe { libc::getauxval(libc::AT_EUID) == 0 && libc::geteuid() == 0 }
}

/// By prctl(2): sshd overwrites its argv, so program_invocation_short_name would lie.
fn name() -> Name {
    let mut name = Name([0; 16]);
    // SAFETY: PR_GET_NAME writes at most 16 bytes, NUL included (prctl(2)).
    if unsafe { libc::prctl(libc::PR_GET_NAME, name.0.as_mut_ptr()) } != 0 {
        name.0 = [0; 16];
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_has_a_name() {
        let named = std::thread::Builder::new().name("sshd-session".into());
        let thread = named.spawn(|| (Process::SELF.name)().bytes().to_vec()).unwrap();
        assert_eq!(thread.join().unwrap(), b"sshd-session");
        assert!(LOGIN_PROGRAMS.contains(&&b"sshd-session"[..]));
    }
}
