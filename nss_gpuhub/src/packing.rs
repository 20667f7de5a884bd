//! Puts an entry into the structures of pwd.h and grp.h.
//!
//! The texts are in the caller's buffer already, each with its NUL; what is added here is the
//! password field and, of a group, the array of its members. All is measured before it is written.
#![allow(unsafe_code)] // pointers into the caller's buffer, written to the caller's structure

use crate::outcome::Miss;
use gpuhub_common::name::for_each_nul;
use gpuhub_common::snapshot::{GroupEntry, Out, UserEntry};
use libc::c_char;
use std::mem::MaybeUninit;

/// No password is ever here. In the caller's buffer, since programs overwrite this field.
const NO_PASSWORD: &[u8] = b"*\0";

/// A caller's buffer.
///
/// # Safety
///
/// `buffer` must point to `len` bytes that are the caller's for `'a`, or be null.
pub(crate) unsafe fn buffer<'a>(buffer: *mut c_char, len: usize) -> &'a mut [MaybeUninit<u8>] {
    if buffer.is_null() {
        return &mut [];
    }
    let len = len.min(isize::MAX as usize);
    // SAFETY: the promise above; MaybeUninit, since glibc gives fresh stack or heap memory.
    unsafe { std::slice::from_raw_parts_mut(buffer.cast(), len) }
}

/// Writes `*target`.
///
/// # Safety
///
/// `target` must point to a passwd structure of the caller's.
pub(crate) unsafe fn user(entry: &UserEntry, mut out: Out<'_>, target: *mut libc::passwd) -> Result<(), Miss> {
    let password = out.bytes().len();
    if !out.push(NO_PASSWORD) {
        return Err(Miss::TooSmall);
    }
    let [name, gecos, home, _] = entry.lens;
    let text = out.split().0.as_mut_ptr().cast::<c_char>();
    // SAFETY: the text is name, gecos, home, shell, each with its NUL, as long as the entry says
    // (snapshot::found, lookup::push_user), then the password: every offset is inside it.
    unsafe {
        target.write(libc::passwd {
            pw_name: text,
            pw_passwd: text.add(password),
            pw_uid: entry.uid,
            pw_gid: entry.gid,
            pw_gecos: text.add(name + 1),
            pw_dir: text.add(name + gecos + 2),
            pw_shell: text.add(name + gecos + home + 3),
        });
    }
    Ok(())
}

/// Writes `*target`.
///
/// # Safety
///
/// `target` must point to a group structure of the caller's.
pub(crate) unsafe fn group(entry: &GroupEntry, mut out: Out<'_>, target: *mut libc::group) -> Result<(), Miss> {
    let password = out.bytes().len();
    if !out.push(NO_PASSWORD) {
        return Err(Miss::TooSmall);
    }
    let (text, rest) = out.split();
    let gap = rest.as_ptr().align_offset(align_of::<*mut c_char>());
    let room = rest.get_mut(gap..).unwrap_or_default();
    let needed = entry.members.checked_add(1).and_then(|n| n.checked_mul(size_of::<*mut c_char>()));
    if needed.is_none_or(|needed| needed > room.len()) {
        return Err(Miss::TooSmall);
    }
    let array = room.as_mut_ptr().cast::<*mut c_char>();
    let start = text.as_mut_ptr().cast::<c_char>();
    let first = entry.name_len + 1;
    let (mut at, mut count) = (first, 0);
    for_each_nul(entry.members_text(text), |end| {
        if count < entry.members {
            // SAFETY: the member begins behind the NUL before it, and the text has its own, so that
            // `at` is inside of it; the array has room for so many and the NULL.
            unsafe { array.add(count).write(start.add(at)) };
            (at, count) = (first + end + 1, count + 1);
        }
    });
    // SAFETY: the array has room for one more than `entry.members`; the text begins with the
    // name and its NUL and ends with the password.
    unsafe {
        array.add(count).write(std::ptr::null_mut());
        target.write(libc::group { gr_name: start, gr_passwd: start.add(password), gr_gid: entry.gid, gr_mem: array });
    }
    Ok(())
}
