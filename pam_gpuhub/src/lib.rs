//! PAM module of gpuhub: a thin relay between a login program and the broker.
//!
//! All dialog text and all decisions come from the broker; this module decides only whose login
//! it is ([`context`]), and it fails closed. It runs inside sshd, su and JupyterHub: it starts no
//! thread, reads no configuration and no environment variable, leaves signals alone, and every
//! wait has an end.
//!
//! ```text
//! hook ─ context (ours?) ─┬─ login    authenticate, acct_mgmt, chauthtok ─ relay ─ conversation
//!                         └─ session  setcred, open_session, close_session ─ home
//! ```

pub mod context;
pub mod conversation;
pub mod dir;
pub mod handle;
pub mod home;
pub mod login;
pub mod options;
pub mod relay;
pub mod report;
pub mod session;

use options::Options;
use pam::constants::{PamFlag, PamResultCode};
use pam::module::{PamHandle, PamHooks};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// The module, as pam-bindings wants to see it.
#[derive(Debug)]
pub struct Gpuhub;

#[allow(missing_docs, unsafe_code)] // pam_hooks! defines the six exported C functions of pam(3)
mod hooks {
    use super::Gpuhub;
    pam::pam_hooks!(Gpuhub);
}
pub use hooks::*;

impl PamHooks for Gpuhub {
    fn sm_authenticate(handle: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(handle, |h| login::authenticate(h, &Options::new(&args, flags)))
    }

    fn acct_mgmt(handle: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(handle, |h| login::account(h, &Options::new(&args, flags)))
    }

    fn sm_chauthtok(handle: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(handle, |h| login::change_password(h, &Options::new(&args, flags)))
    }

    fn sm_setcred(handle: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(handle, |h| session::establish(h, &Options::new(&args, flags)))
    }

    fn sm_open_session(handle: &mut PamHandle, args: Vec<&CStr>, flags: PamFlag) -> PamResultCode {
        guarded(handle, |h| session::open(h, &Options::new(&args, flags)))
    }

    fn sm_close_session(handle: &mut PamHandle, _args: Vec<&CStr>, _flags: PamFlag) -> PamResultCode {
        guarded(handle, session::close)
    }
}

/// Runs a hook so that a panic becomes PAM_SYSTEM_ERR and one line in syslog. (pam-bindings would
/// contain it too, but without a trace.)
fn guarded(handle: &mut PamHandle, hook: impl FnOnce(&mut PamHandle) -> PamResultCode) -> PamResultCode {
    // std would print the panic to the host's stderr: for sshd that is the client's terminal. The
    // panic hook is a static of the std that is linked into this .so, so a host that is written in
    // Rust keeps its own.
    static SILENT: Once = Once::new();
    SILENT.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    match catch_unwind(AssertUnwindSafe(|| hook(handle))) {
        Ok(code) => code,
        Err(_) => {
            handle::log(handle, libc::LOG_CRIT, "event=\"internal\" result=\"denied\" reason=\"panic\"");
            PamResultCode::PAM_SYSTEM_ERR
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code)] // a handle of libpam's own
mod tests {
    use super::*;
    use libc::{c_char, c_int, c_void};

    unsafe extern "C" {
        fn pam_start(
            service: *const c_char,
            user: *const c_char,
            conv: *const c_void,
            handle: *mut *mut PamHandle,
        ) -> c_int;
        fn pam_end(handle: *mut PamHandle, status: c_int) -> c_int;
    }

    #[test]
    fn a_panic_is_contained_and_denies() {
        let no_conversation: [*const c_void; 2] = [std::ptr::null(); 2];
        let mut handle = std::ptr::null_mut();
        // SAFETY: valid strings, a pam_conv that is never called, and a place for the handle.
        let handle = unsafe {
            let started =
                pam_start(c"gpuhub-test".as_ptr(), c"alice".as_ptr(), no_conversation.as_ptr().cast(), &raw mut handle);
            assert_eq!(started, 0);
            &mut *handle
        };
        let code = guarded(handle, |_| panic!("nobody hears this"));
        // The other tests' panics are to be heard.
        drop(std::panic::take_hook());
        assert_eq!(code, PamResultCode::PAM_SYSTEM_ERR);
        // SAFETY: the handle of pam_start, once.
        unsafe { pam_end(handle, 0) };
    }
}
