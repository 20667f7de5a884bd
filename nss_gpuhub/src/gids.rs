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
    failed: bool,
}

impl Gids {
    /// # Safety
    ///
    /// glibc's contract (nss_files/files-initgroups.c): while this lives, `*list` is malloc(3)ed
    /// memory of `*size` ids, of which the first `*start` are in use; `limit` is the most that
    /// `*size` may become, if it is positive.
    pub(crate) unsafe fn new(start: *mut c_long, size: *mut c_long, list: *mut *mut gid_t, limit: c_long) -> Self {
        Self { start, size, list, limit, failed: false }
    }

    /// Appends an id; false if no more can be taken.
    pub(crate) fn push(&mut self, gid: gid_t) -> bool {
        // SAFETY: the contract of `new`.
        let (start, size) = unsafe { (*self.start, *self.size) };
        if start >= size && !self.grow(size) {
            return false;
        }
        let Ok(place) = usize::try_from(start) else { return false };
        // SAFETY: the contract of `new`: `start` is below the size, before or after `grow`.
        unsafe {
            (*self.list).add(place).write(gid);
            *self.start = start + 1;
        }
        true
    }

    /// Whether memory was missing (a list that is full is no failure).
    pub(crate) fn end(self) -> Result<(), Miss> {
        if self.failed { Err(Miss::NoMemory) } else { Ok(()) }
    }

    fn grow(&mut self, size: c_long) -> bool {
        if self.limit > 0 && size >= self.limit {
            return false;
        }
        let doubled = size.max(16).saturating_mul(2);
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
        true
    }
}
