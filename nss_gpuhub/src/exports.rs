//! The entry points, and nothing else: what they must do is in the other rooms.
//!
//! Every one runs in [`guarded`]: no panic crosses, no thread is cancelled in the middle
//! (pthread_cancel(3) unwinds, which Rust does not survive), and errno is as glibc wants it.
#![allow(unsafe_code)] // the C boundary

use crate::gids::Gids;
use crate::lookup::Nss;
use crate::outcome::{Miss, SUCCESS};
use crate::packing;
use gpuhub_common::name::MAX_NAME;
use gpuhub_common::snapshot::{Mapping, Out};
use libc::{c_char, c_int, c_long, gid_t, size_t, uid_t};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// getpwnam_r(3).
///
/// # Safety
///
/// All functions here are called as glibc calls `_nss_*` functions: every pointer is valid for
/// what its type says, `buffer` points to `len` bytes of the caller's own, texts end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_getpwnam_r(
    name: *const c_char,
    target: *mut libc::passwd,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, above.
        let (name, mut out) = unsafe { (text(name), Out::new(packing::buffer(buffer, len))) };
        let entry = nss.user_by_name(name, &mut out)?;
        // SAFETY: glibc's contract, above.
        unsafe { packing::user(&entry, out, target) }
    })
}

/// getpwuid_r(3).
///
/// # Safety
///
/// See [`_nss_gpuhub_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_getpwuid_r(
    uid: uid_t,
    target: *mut libc::passwd,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, see `_nss_gpuhub_getpwnam_r`.
        let mut out = Out::new(unsafe { packing::buffer(buffer, len) });
        let entry = nss.user_by_uid(uid, &mut out)?;
        // SAFETY: the same.
        unsafe { packing::user(&entry, out, target) }
    })
}

/// getgrnam_r(3).
///
/// # Safety
///
/// See [`_nss_gpuhub_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_getgrnam_r(
    name: *const c_char,
    target: *mut libc::group,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, see `_nss_gpuhub_getpwnam_r`.
        let (name, mut out) = unsafe { (text(name), Out::new(packing::buffer(buffer, len))) };
        let entry = nss.group_by_name(name, &mut out)?;
        // SAFETY: the same.
        unsafe { packing::group(&entry, out, target) }
    })
}

/// getgrgid_r(3).
///
/// # Safety
///
/// See [`_nss_gpuhub_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_getgrgid_r(
    gid: gid_t,
    target: *mut libc::group,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, see `_nss_gpuhub_getpwnam_r`.
        let mut out = Out::new(unsafe { packing::buffer(buffer, len) });
        let entry = nss.group_by_gid(gid, &mut out)?;
        // SAFETY: the same.
        unsafe { packing::group(&entry, out, target) }
    })
}

/// The supplementary groups of getgrouplist(3). `group`, the primary one, is in the list already.
///
/// # Safety
///
/// See [`_nss_gpuhub_getpwnam_r`] and [`Gids::new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_initgroups_dyn(
    name: *const c_char,
    group: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    list: *mut *mut gid_t,
    limit: c_long,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, see `_nss_gpuhub_getpwnam_r`.
        let (name, mut gids) = unsafe { (text(name), Gids::new(start, size, list, limit)) };
        nss.group_ids_of(name, group, &mut gids)?;
        gids.end()
    })
}

/// setpwent(3).
#[unsafe(no_mangle)]
pub extern "C" fn _nss_gpuhub_setpwent(_stay_open: c_int) -> c_int {
    guarded(null_mut(), |nss| nss.users.reset())
}

/// endpwent(3).
#[unsafe(no_mangle)]
pub extern "C" fn _nss_gpuhub_endpwent() -> c_int {
    guarded(null_mut(), |nss| nss.users.reset())
}

/// getpwent_r(3).
///
/// # Safety
///
/// See [`_nss_gpuhub_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_getpwent_r(
    target: *mut libc::passwd,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, see `_nss_gpuhub_getpwnam_r`.
        let out = Out::new(unsafe { packing::buffer(buffer, len) });
        // SAFETY: the same.
        nss.users.step(nss, out, Mapping::user_at, |entry, out| unsafe { packing::user(&entry, out, target) })
    })
}

/// setgrent(3).
#[unsafe(no_mangle)]
pub extern "C" fn _nss_gpuhub_setgrent(_stay_open: c_int) -> c_int {
    guarded(null_mut(), |nss| nss.groups.reset())
}

/// endgrent(3).
#[unsafe(no_mangle)]
pub extern "C" fn _nss_gpuhub_endgrent() -> c_int {
    guarded(null_mut(), |nss| nss.groups.reset())
}

/// getgrent_r(3).
///
/// # Safety
///
/// See [`_nss_gpuhub_getpwnam_r`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _nss_gpuhub_getgrent_r(
    target: *mut libc::group,
    buffer: *mut c_char,
    len: size_t,
    errno: *mut c_int,
) -> c_int {
    guarded(errno, |nss| {
        // SAFETY: glibc's contract, see `_nss_gpuhub_getpwnam_r`.
        let out = Out::new(unsafe { packing::buffer(buffer, len) });
        // SAFETY: the same.
        nss.groups.step(nss, out, Mapping::group_at, |entry, out| unsafe { packing::group(&entry, out, target) })
    })
}

/// Runs one call between glibc and us.
pub(crate) fn guarded(errno: *mut c_int, call: impl FnOnce(&'static Nss) -> Result<(), Miss>) -> c_int {
    let _uncancelled = Uncancelled::begin();
    // SAFETY: __errno_location(3) gives this thread's errno, which lives as long as the thread.
    let before = unsafe { *libc::__errno_location() };
    let nss = ready();
    let result = catch_unwind(AssertUnwindSafe(|| call(nss))).unwrap_or_else(|payload| {
        // Dropping what somebody panicked with could panic again.
        std::mem::forget(payload);
        Err(Miss::Unavailable)
    });
    match result {
        Ok(()) => {
            // SAFETY: as above. Our own system calls have changed it, perhaps to ERANGE.
            unsafe { *libc::__errno_location() = before };
            SUCCESS
        }
        Err(miss) => {
            let (status, code) = miss.status();
            // SAFETY: as above; `errno` is null or glibc's, and usually the very same.
            unsafe {
                *libc::__errno_location() = code;
                if !errno.is_null() {
                    errno.write(code);
                }
            }
            status
        }
    }
}

/// The library's state, with what must happen before its first use.
fn ready() -> &'static Nss {
    #[cfg(test)]
    if let Some(nss) = crate::tests::current() {
        return nss;
    }
    static READY: AtomicBool = AtomicBool::new(false);
    if !READY.load(Ordering::Relaxed) && !READY.swap(true, Ordering::Relaxed) {
        // Ours alone: see the crate's documentation. The box is empty, so nothing is allocated.
        #[cfg(not(test))]
        std::panic::set_hook(Box::new(|_| {}));
        crate::NSS.reader.register();
    }
    &crate::NSS
}

/// A name as glibc gives it, cut off where it is too long to be one of ours.
///
/// # Safety
///
/// `name` must be null or end with a NUL, and live for `'a`.
unsafe fn text<'a>(name: *const c_char) -> &'a [u8] {
    if name.is_null() {
        return &[];
    }
    // SAFETY: the promise above; strnlen(3) reads up to the NUL at most.
    unsafe { std::slice::from_raw_parts(name.cast(), libc::strnlen(name, MAX_NAME + 1)) }
}

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// While this lives, the thread is not cancelled: our waits would be cancellation points.
struct Uncancelled(c_int);

impl Uncancelled {
    fn begin() -> Self {
        const PTHREAD_CANCEL_DISABLE: c_int = 1;
        let mut old = 0;
        // SAFETY: pthread_setcancelstate(3) writes one int and changes this thread alone.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut old) };
        Self(old)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: as above, with the state that it gave; a null pointer is allowed by glibc.
        unsafe { pthread_setcancelstate(self.0, null_mut()) };
    }
}
