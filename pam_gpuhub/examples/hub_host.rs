//! A host that converses as JupyterHub's pamela does, for the module's tests (tests/module/hub.rs):
//! messages and visible prompts are answered with NULL, the first hidden prompt with the form's
//! password, the next with an error; the account check runs on a new handle.
#![allow(unsafe_code)] // calls into libpam
#![allow(clippy::unwrap_used)] // a test's other half

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

#[repr(C)]
struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct PamResponse {
    text: *mut c_char,
    code: c_int,
}

type Converse = unsafe extern "C" fn(c_int, *const *const PamMessage, *mut *mut PamResponse, *mut c_void) -> c_int;

#[repr(C)]
struct PamConv {
    converse: Converse,
    data: *mut c_void,
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_start(service: *const c_char, user: *const c_char, conv: *const PamConv, handle: *mut *mut c_void) -> c_int;
    fn pam_end(handle: *mut c_void, status: c_int) -> c_int;
    fn pam_authenticate(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_setcred(handle: *mut c_void, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut c_void, flags: c_int) -> c_int;
}

const DELETE: c_int = 4;
const REINITIALIZE: c_int = 8;

/// The passwords that are left.
struct Form(Vec<CString>);

unsafe extern "C" fn converse(
    n: c_int,
    messages: *const *const PamMessage,
    responses: *mut *mut PamResponse,
    data: *mut c_void,
) -> c_int {
    // SAFETY: libpam's contract (pam_conv(3)): one message, the data of pam_start, a place for the
    // responses, which the module frees.
    unsafe {
        assert_eq!(n, 1);
        let form = &mut *data.cast::<Form>();
        let response: *mut PamResponse = libc::calloc(1, size_of::<PamResponse>()).cast();
        if (**messages).style == 1 {
            if form.0.is_empty() {
                libc::free(response.cast());
                return 19;
            }
            (*response).text = libc::strdup(form.0.remove(0).as_ptr());
        }
        *responses = response;
        0
    }
}

/// pamela.authenticate, and then pamela.check_account if that went well.
fn login(service: &CStr, user: &CStr, password: &CStr) -> c_int {
    let authenticate = |handle| {
        // SAFETY: a live handle.
        match unsafe { pam_authenticate(handle, 0) } {
            // SAFETY: as above.
            0 => unsafe { pam_setcred(handle, REINITIALIZE) },
            code => code,
        }
    };
    match with_handle(service, user, Form(vec![password.into()]), authenticate) {
        0 => with_handle(service, user, Form(vec![]), |handle| {
            // SAFETY: a live handle.
            unsafe {
                assert_eq!(pam_setcred(handle, DELETE), 0, "needs no broker");
                pam_acct_mgmt(handle, 0)
            }
        }),
        code => code,
    }
}

/// An empty name stands for none.
fn with_handle(service: &CStr, user: &CStr, mut form: Form, work: impl Fn(*mut c_void) -> c_int) -> c_int {
    let conv = PamConv { converse, data: (&raw mut form).cast() };
    let mut handle = ptr::null_mut();
    let user = if user.is_empty() { ptr::null() } else { user.as_ptr() };
    // SAFETY: valid strings; conv and form outlive the handle.
    unsafe {
        assert_eq!(pam_start(service.as_ptr(), user, &raw const conv, &raw mut handle), 0);
        let code = work(handle);
        pam_end(handle, code);
        code
    }
}

/// Logs in HUB_TIMES times; prints each code, and what the logins after the first 50 have cost.
fn main() {
    let get = |name| CString::new(std::env::var(name).unwrap()).unwrap();
    let (user, password) = (get("HUB_USER"), get("HUB_PASSWORD"));
    let times: u32 = std::env::var("HUB_TIMES").unwrap().parse().unwrap();
    let usage = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        (pages, std::fs::read_dir("/proc/self/fd").unwrap().count())
    };
    let mut before = (0, 0);
    for n in 0..times {
        println!("code {}", login(c"hub", &user, &password));
        if n == 49 {
            before = usage();
        }
    }
    let after = usage();
    println!("pages {} descriptors {}", after.0 as i64 - before.0 as i64, after.1 as i64 - before.1 as i64);
}
