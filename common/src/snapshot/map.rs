//! One mapped snapshot file, and what it says of us that may be believed.
//!
//! Every answer is vetted against the container's own accounts as they were when the file was
//! mapped. These lie in private memory, and a name or id of theirs is refused before the mapped
//! bytes are touched: a captured broker that truncates the file can kill those who look up
//! people of ours (SIGBUS), but not sudo or cron that ask for root and local users.
#![allow(unsafe_code)] // mmap(2) and munmap(2)

use super::format::{HEADER, MAX_FILE};
use super::found::{GroupEntry, Lookup, Out, UserEntry};
use super::view::{View, ViewError};
use crate::entry::{Refusal, vet_gid, vet_group, vet_membership, vet_user};
use crate::local::LocalAccounts;
use crate::{id, name};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Why there is no mapping.
#[derive(Debug)]
pub enum MapError {
    /// The file cannot be opened, or not be mapped: nothing is known of its content.
    Gone(io::Error),
    /// There is a file, and it is nothing that could be read.
    Bad(ViewError),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Gone(e) => write!(f, "cannot be mapped: {e}"),
            MapError::Bad(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for MapError {}

/// What a search is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    UserName(&'a [u8]),
    Uid(u32),
    GroupName(&'a [u8]),
    Gid(u32),
}

/// A file mapped read-only. Unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: *mut libc::c_void,
    len: usize,
    file: FileId,
    view: View,
    local: LocalAccounts,
}

/// Device and inode. While we map a file its inode number is not given to another.
pub(super) type FileId = (u64, u64);

// SAFETY: the mapping belongs to the process, not to a thread; `View` is Send and Sync.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the snapshot at `path`, and reads the container's own accounts.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        Self::open_with(path, LocalAccounts::read)
    }

    /// [`Mapping::open`] with other local accounts than this machine's, for tests.
    pub fn open_with(path: &Path, local: impl FnOnce() -> LocalAccounts) -> Result<Self, MapError> {
        Self::open_unless(path, None, local)?.ok_or(MapError::Bad(ViewError::Malformed))
    }

    /// Maps the file at `path` unless it is still the one that is `known`.
    pub(super) fn open_unless(
        path: &Path,
        known: Option<FileId>,
        local: impl FnOnce() -> LocalAccounts,
    ) -> Result<Option<Self>, MapError> {
        let file = OpenOptions::new()
            .read(true)
            // NONBLOCK: somebody may have put a FIFO there.
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(MapError::Gone)?;
        let meta = file.metadata().map_err(MapError::Gone)?;
        let id = (meta.dev(), meta.ino());
        if known == Some(id) {
            return Ok(None);
        }
        let len = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        if !meta.is_file() || !(HEADER..=MAX_FILE).contains(&len) {
            return Err(MapError::Bad(ViewError::NotASnapshot));
        }
        // SAFETY: mmap(2) chooses the place, so nothing of ours is overlaid; the length is the file's.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(MapError::Gone(io::Error::last_os_error()));
        }
        // The mapping stays without the descriptor, and programs that close all of theirs lose nothing.
        drop(file);
        // SAFETY: page-aligned and `len` long, until the drop of the Mapping that holds the view.
        // The broker keeps published files as long as they are (snapshot::publish); one that does
        // not can end this process by SIGBUS, and nothing worse.
        match unsafe { View::new(base.cast(), len) } {
            Ok(view) => Ok(Some(Self { base, len, file: id, view, local: local() })),
            Err(e) => {
                // SAFETY: mapped above, and no view of it is left.
                unsafe { libc::munmap(base, len) };
                Err(MapError::Bad(e))
            }
        }
    }

    /// What the file says, unvetted.
    pub fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Whether the key can be one of ours at all. Reads private memory only.
    pub(super) fn may_have(&self, key: Key<'_>) -> bool {
        match key {
            Key::UserName(name) => name::is_user_name(name) && !self.local.has_user(name),
            Key::Uid(uid) => id::is_allowed(uid) && !self.local.has_uid(uid),
            Key::GroupName(name) => name::is_group_name(name) && !self.local.has_group(name),
            Key::Gid(gid) => vet_gid(gid, &self.local).is_ok(),
        }
    }

    /// The user of this name, vetted.
    pub fn user_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Lookup<Result<UserEntry, Refusal>> {
        let found = self.view.user_by_name(name, out);
        self.vet_user(found, out)
    }

    /// The user of this id, vetted.
    pub fn user_by_uid(&self, uid: u32, out: &mut Out<'_>) -> Lookup<Result<UserEntry, Refusal>> {
        let found = self.view.user_by_uid(uid, out);
        self.vet_user(found, out)
    }

    /// The next user at or behind place `n`, vetted ([`View::user_at`]).
    pub fn user_at(&self, n: &mut u32, out: &mut Out<'_>) -> Lookup<Result<UserEntry, Refusal>> {
        let found = self.view.user_at(n, out);
        self.vet_user(found, out)
    }

    /// The group of this name, vetted with all its members.
    pub fn group_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Lookup<Result<GroupEntry, Refusal>> {
        let found = self.view.group_by_name(name, out);
        self.vet_group(found, out)
    }

    /// The group of this id, vetted with all its members.
    pub fn group_by_gid(&self, gid: u32, out: &mut Out<'_>) -> Lookup<Result<GroupEntry, Refusal>> {
        let found = self.view.group_by_gid(gid, out);
        self.vet_group(found, out)
    }

    /// The next group at or behind place `n`, vetted with all its members ([`View::group_at`]).
    pub fn group_at(&self, n: &mut u32, out: &mut Out<'_>) -> Lookup<Result<GroupEntry, Refusal>> {
        let found = self.view.group_at(n, out);
        self.vet_group(found, out)
    }

    /// Hands the user's supplementary group ids to `each`, which ends the walk by returning
    /// false. Ids that are not allowed are left out. Her name and ids are vetted first; her other
    /// fields give no power here.
    pub fn group_ids_of(&self, name: &[u8], mut each: impl FnMut(u32) -> bool) -> Lookup<Result<(), Refusal>> {
        self.view.group_ids_of(name).map(|gids| {
            vet_user(name, gids.uid, gids.gid, b"", b"/-", b"/-", &self.local)?;
            gids.filter(|gid| vet_membership(*gid, &self.local).is_ok()).all(&mut each);
            Ok(())
        })
    }

    fn vet_user(&self, found: Lookup<UserEntry>, out: &Out<'_>) -> Lookup<Result<UserEntry, Refusal>> {
        found.map(|e| {
            let [name, gecos, home, shell] = e.fields(out.bytes());
            vet_user(name, e.uid, e.gid, gecos, home, shell, &self.local).map(|()| e)
        })
    }

    fn vet_group(&self, found: Lookup<GroupEntry>, out: &Out<'_>) -> Lookup<Result<GroupEntry, Refusal>> {
        found.map(|e| {
            vet_group(e.name(out.bytes()), e.gid, &self.local)?;
            if e.members(out.bytes()).all(name::is_user_name) { Ok(e) } else { Err(Refusal::BadName) }
        })
    }

    /// Gives the file back though somebody may still be reading it: zeros take its place, in
    /// which nothing is found and which are never fresh. The Mapping must never be dropped, and
    /// its addresses are lost.
    pub(super) fn abandon(&self) {
        // SAFETY: MAP_FIXED over a mapping of exactly this place and length, which is ours and
        // stays readable at every moment (mmap(2)): readers get zeros where the file was.
        unsafe {
            libc::mmap(
                self.base,
                self.len,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `open_unless`; the only view of it is dropped with us.
        unsafe { libc::munmap(self.base, self.len) };
    }
}
