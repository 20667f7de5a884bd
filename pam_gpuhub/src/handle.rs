//! The few functions of libpam that pam-bindings lacks, each with a safe face.
//!
//! The contract is the same for all (pam(3)): a handle is valid for the whole of a hook's call,
//! which is what `&mut PamHandle` says; strings are NUL-terminated, and libpam copies them.
#![allow(unsafe_code)] // calls into libpam

use gpuhub_common::secret::Secret;
use libc::{c_char, c_int, c_uint, c_void};
use pam::items::ItemType;
use pam::module::PamHandle;
use std::ffi::{CStr, CString};
use zeroize::Zeroizing;

unsafe extern "C" {
    fn pam_putenv(pamh: *mut PamHandle, name_value: *const c_char) -> c_int;
    fn pam_getenv(pamh: *mut PamHandle, name: *const c_char) -> *const c_char;
    fn pam_fail_delay(pamh: *mut PamHandle, usec: c_uint) -> c_int;
    fn pam_set_item(pamh: *mut PamHandle, item_type: c_int, item: *const c_void) -> c_int;
    fn pam_syslog(pamh: *const PamHandle, priority: c_int, format: *const c_char, ...);
}

/// Puts `name=value` into the PAM environment, from where applications take the session's.
/// Without success there is only a variable less.
pub fn put_env(handle: &mut PamHandle, name: &str, value: &str) {
    if let Ok(pair) = CString::new(format!("{name}={value}")) {
        // SAFETY: valid handle and string; pam_putenv(3) copies the string.
        unsafe { pam_putenv(handle, pair.as_ptr()) };
    }
}

/// A variable of the PAM environment, copied: the next pam_putenv(3) may free the original.
pub fn get_env(handle: &mut PamHandle, name: &CStr) -> Option<String> {
    // SAFETY: valid handle and string; pam_getenv(3) returns NULL or a string that lives until the
    // environment changes, and it is copied before anything else happens.
    unsafe {
        let value = pam_getenv(handle, name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// Asks libpam to delay the answer to a failed login as pam_unix does (2 s, varied by libpam):
/// failures then take alike long whoever found them, and guessing is slow.
pub fn fail_delay(handle: &mut PamHandle) {
    // SAFETY: valid handle.
    unsafe { pam_fail_delay(handle, 2_000_000) };
}

/// Hands a password on to the modules behind us, as PAM_AUTHTOK. libpam copies it, and wipes its
/// copy when the login ends.
pub fn set_authtok(handle: &mut PamHandle, secret: &Secret) {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.expose().len() + 1));
    // It came as a C string, so it has no NUL inside; a C reader would stop there anyway.
    text.extend_from_slice(secret.expose());
    text.push(0);
    // SAFETY: valid handle; the item is a NUL-terminated string, as pam_set_item(3) wants for
    // PAM_AUTHTOK, and libpam copies it.
    unsafe { pam_set_item(handle, ItemType::AuthTok as c_int, text.as_ptr().cast()) };
}

/// One line to syslog, facility authpriv; libpam puts `pam_gpuhub(service:type): ` before it.
pub fn log(handle: &PamHandle, priority: c_int, line: &str) {
    if let Ok(line) = CString::new(line) {
        // SAFETY: valid handle; the format takes exactly the one string given.
        unsafe { pam_syslog(handle, priority, c"%s".as_ptr(), line.as_ptr()) };
    }
}

/// The key of [`keep_session`]. It carries the version, since the type behind it is Rust's own:
/// two builds of this module in one stack must not read each other's memory.
const SESSION: &str = concat!("gpuhub-session-", env!("CARGO_PKG_VERSION"));

/// Keeps the session's id with the handle, for close_session.
pub fn keep_session(handle: &mut PamHandle, id: &str) {
    // Without success there is the PAM environment still.
    let _ = handle.set_data(SESSION, Box::new(id.to_owned()));
}

/// The id that [`keep_session`] kept.
pub fn kept_session(handle: &PamHandle) -> Option<String> {
    // SAFETY: only `keep_session` stores under this key, and it stores a String.
    unsafe { handle.get_data::<String>(SESSION) }.ok().cloned()
}
