//! The list that initgroups_dyn fills: glibc's, grown with realloc(3).
#![allow(unsafe_code)] // glibc's pointers

use crate::outcome::Miss;
use libc::{c_long, gid_t};

/// glibc's list, by the pointers that initgroups_dyn gets.
#[derive(Debug)]
pub(crate) struct Gids {
    start: *mut c_long,
    size: *mut c_long,
    list: *mut *mut gid_t,
    limit: c_long,
    /// `*start` as it was, and as it is to be; `*size`.
    first: c_long,
    used: c_long,
    len: c_long,
    failed: bool,
}

impl Gids {
    /// # Safety
    ///
    /// glibc's contract (nss_files/files-initgroups.c): while this lives, `*list` is malloc(3)ed
    /// memory of `*size` ids, of which the first `*start` are in use; `limit` is the most that
    /// `*size` may become, if it is positive.
    pub(crate) unsafe fn new(start: *mut c_long, size: *mut c_long, list: *mut *mut gid_t, limit: c_long) -> Self {
        // SAFETY: the promise above.
        let (first, len) = unsafe { (*start, *size) };
        Self { start, size, list, limit, first, used: first, len, failed: false }
    }

    /// Puts these ids behind those that were in the list at first, without `primary`, which glibc
    /// has put there. Called again, it begins anew.
    pub(crate) fn fill(&mut self, primary: gid_t, ids: impl Iterator<Item = gid_t>) {
        self.used = self.first;
        for gid in ids.filter(|gid| *gid != primary) {
            if !self.push(gid) {
                break;
            }
        }
    }

    /// Appends an id; false if no more can be taken.
    fn push(&mut self, gid: gid_t) -> bool {
        if self.used >= self.len && !self.grow() {
            return false;
        }
        // SAFETY: the contract of `new`: the place is not negative, and below the size, before or
        // after `grow`.
        unsafe { (*self.list).offset(self.used as isize).write(gid) };
        self.used += 1;
        true
    }

    /// Says how many there are, unless memory was missing (a list that is full is no failure). Of a
    /// list that does not come to this, glibc sees nothing new.
    pub(crate) fn end(self) -> Result<(), Miss> {
        if self.failed {
            return Err(Miss::NoMemory);
        }
        // SAFETY: the contract of `new`.
        unsafe { *self.start = self.used };
        Ok(())
    }

    fn grow(&mut self) -> bool {
        if self.limit > 0 && self.len >= self.limit {
            return false;
        }
        let doubled = self.len.max(16).saturating_mul(2);
        let new = if self.limit > 0 { doubled.min(self.limit) } else { doubled };
        let bytes = usize::try_from(new).ok().and_then(|n| n.checked_mul(size_of::<gid_t>()));
        // SAFETY: the contract of `new`: glibc frees what realloc(3) gives as it would the old one,
        // and on failure the old one stays.
        let list = bytes.map_or(std::ptr::null_mut(), |bytes| unsafe { libc::realloc((*self.list).cast(), bytes) });
        if list.is_null() {
            self.failed = true;
            return false;
        }
        // SAFETY: the contract of `new`.
        unsafe {
            *self.list = list.cast();
            *self.size = new;
        }
        self.len = new;
        true
    }
}
