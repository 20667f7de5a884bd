//! One mapped snapshot file, and what it says of us that may be believed.
//!
//! Every answer is vetted against the container's own accounts as they were when the file was
//! mapped. These lie in private memory, and a name or id of theirs is refused before the mapped
//! bytes are touched: a captured broker that truncates the file can kill those who look up
//! people of ours (SIGBUS), but not sudo or cron that ask for root and local users.
#![allow(unsafe_code)] // mmap(2) and munmap(2)

use super::format::{HEADER, MAX_FILE, at};
use super::found::{GroupEntry, Lookup, Out, UserEntry};
use super::view::{GroupIds, View, ViewError};
use crate::entry::{Refusal, vet_gid, vet_group, vet_identity, vet_membership, vet_user};
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
        Self::open_with(path, LocalAccounts::try_read)
    }

    /// [`Mapping::open`] with other local accounts than this machine's, for tests.
    pub fn open_with(path: &Path, local: impl FnOnce() -> io::Result<LocalAccounts>) -> Result<Self, MapError> {
        Self::open_unless(path, None, local)?.ok_or(MapError::Bad(ViewError::Malformed))
    }

    /// Maps the file at `path` unless it is still the one that is `known`.
    pub(super) fn open_unless(
        path: &Path,
        known: Option<FileId>,
        local: impl FnOnce() -> io::Result<LocalAccounts>,
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
        // Without them nobody could be vetted.
        let local = local().map_err(MapError::Gone)?;
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
            Ok(view) => Ok(Some(Self { base, len, file: id, view, local })),
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
            Key::GroupName(name) => {
                name::is_group_name(name) && !name::is_power_group(name) && !self.local.has_group(name)
            }
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

    /// Hands the user's supplementary group ids to `take`, without those that are not allowed. Her
    /// name and ids are vetted first; her other fields give no power here. What was taken counts
    /// only if the outcome is that she was found.
    pub fn group_ids_of(&self, name: &[u8], take: impl FnOnce(VettedIds<'_>)) -> Lookup<Result<(), Refusal>> {
        let gids = match self.view.group_ids_of(name) {
            Lookup::Found(gids) => gids,
            other => return other.map(|_| Ok(())),
        };
        if let Err(refusal) = vet_identity(name, gids.uid, gids.gid, &self.local) {
            return Lookup::Found(Err(refusal));
        }
        let mut whole = true;
        take(VettedIds { ids: gids, local: &self.local, whole: &mut whole });
        if whole { Lookup::Found(Ok(())) } else { Lookup::Corrupt }
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
            if name::are_user_names(e.members_text(out.bytes())) { Ok(e) } else { Err(Refusal::BadName) }
        })
    }

    /// Whether it was abandoned: what was found in it then may be half of an entry.
    pub(super) fn is_abandoned(&self) -> bool {
        self.view.u64(at::MAGIC) == Some(0)
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

/// Supplementary group ids that are allowed.
#[derive(Debug)]
pub struct VettedIds<'m> {
    ids: GroupIds<'m>,
    local: &'m LocalAccounts,
    whole: &'m mut bool,
}

impl Iterator for VettedIds<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        loop {
            let gid = self.ids.next()?;
            // The encoder writes none: the file was abandoned, or is damaged.
            if gid == 0 {
                *self.whole = false;
                return None;
            }
            if vet_membership(gid, self.local).is_ok() {
                return Some(gid);
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `open_unless`; the only view of it is dropped with us.
        unsafe { libc::munmap(self.base, self.len) };
    }
}
