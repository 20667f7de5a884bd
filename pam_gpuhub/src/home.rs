//! Makes a missing home: as a whole or not at all.
//!
//! It is built under another name beside its place, root's alone until it is complete, and then
//! renamed into place; so nobody ever sees half a home, nobody can slip a link under our hands,
//! and of two logins at once one wins and both are right. A home that exists is left as it is.
//!
//! The plan comes from the broker, and a captured broker must not gain root by it:
//! - only below directories where homes may be ([`SYSTEM_DIRS`]): a directory of hers called
//!   `/etc/profile.d` would be root's undoing;
//! - only in a parent that root owns and nobody else may write, or which is made so;
//! - a skeleton other than `SKEL` gives only what everyone may read anyway (`/root`, no).
//!
//! Where root is nobody (NFS with root_squash), nothing can be made: make homes on the server.

use crate::dir::{self, Dir};
use gpuhub_common::entry::{Passwd, SYSTEM_DIRS};
use gpuhub_common::wire::HomePlan;
use libc::mode_t;
use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::fmt;
use std::hash::BuildHasher;
use std::io::{self, Read};

/// The skeleton of the image, root's own.
const SKEL: &str = "/etc/skel";
/// Most bytes of a skeleton.
const MAX_BYTES: u64 = 64 << 20;
/// Most files, directories and links of a skeleton.
const MAX_ENTRIES: usize = 10_000;
/// Deepest directory of a skeleton; each level holds two descriptors.
const MAX_DEPTH: usize = 32;

/// Why there is no home. Its text is the audit reason.
#[derive(Debug)]
pub enum HomeError {
    /// Something else has its name.
    NotADirectory,
    /// A first component of [`SYSTEM_DIRS`], or no path at all.
    BadPlace,
    /// A parent directory is not root's alone, or is a link.
    UnsafeParent,
    /// More than the caps.
    SkelTooBig,
    /// The skeleton cannot be read.
    Skel(io::Error),
    /// It cannot be written.
    Make(io::Error),
}

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HomeError::NotADirectory => f.write_str("home-not-a-directory"),
            HomeError::BadPlace => f.write_str("home-in-a-system-directory"),
            HomeError::UnsafeParent => f.write_str("home-parent-not-root-s-alone"),
            HomeError::SkelTooBig => f.write_str("skel-too-big"),
            HomeError::Skel(error) => write!(f, "skel-unreadable: {error}"),
            HomeError::Make(error) => write!(f, "home-not-made: {error}"),
        }
    }
}

impl std::error::Error for HomeError {}

/// Sees to it that the home of `user`, an entry that was vetted, exists.
pub fn ensure(user: &Passwd, plan: &HomePlan) -> Result<(), HomeError> {
    ensure_below(&Dir::root().map_err(HomeError::Make)?, user, plan)
}

/// As [`ensure`], with `root` for the file system's root.
fn ensure_below(root: &Dir, user: &Passwd, plan: &HomePlan) -> Result<(), HomeError> {
    if exists(root, &user.home)? {
        return Ok(());
    }
    let parts = components(&user.home)?;
    let Some((home, parents)) = parts.split_last() else { return Err(HomeError::BadPlace) };
    if parents.is_empty() || parts.first().is_some_and(|p| SYSTEM_DIRS.iter().any(|s| s.as_bytes() == p.to_bytes())) {
        return Err(HomeError::BadPlace);
    }
    let parent = walk(root, parents)?;
    let temporary = temporary_name()?;
    let made = build(root, &parent, &temporary, user, plan)
        .and_then(|()| parent.rename_new(&temporary, home).map_err(HomeError::Make));
    if let Err(error) = made {
        // What is left of it belongs to root; nobody can have put anything else there.
        let _ = parent.remove_tree(&temporary);
        return match error {
            HomeError::Make(e) if e.kind() == io::ErrorKind::AlreadyExists && exists(root, &user.home)? => Ok(()),
            error => Err(error),
        };
    }
    Ok(())
}

/// Whether the home is there, by the path as everyone walks it.
fn exists(root: &Dir, path: &str) -> Result<bool, HomeError> {
    let relative = CString::new(path.trim_start_matches('/')).map_err(|_| HomeError::BadPlace)?;
    match root.stat_path(&relative) {
        Ok(stat) if stat.is_dir() => Ok(true),
        Ok(_) => Err(HomeError::NotADirectory),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(false),
            // A file system on which root is nobody (FUSE, NFS): it is hers, not ours to see.
            Some(libc::EACCES) => Ok(true),
            _ => Err(HomeError::Make(error)),
        },
    }
}

/// The components of an absolute path; `.` and empty ones fall away, `..` the vetting refused.
fn components(path: &str) -> Result<Vec<CString>, HomeError> {
    path.split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .map(
            |part| {
                if part == ".." {
                    Err(HomeError::BadPlace)
                } else {
                    CString::new(part).map_err(|_| HomeError::BadPlace)
                }
            },
        )
        .collect()
}

/// Goes down to the home's parent. Each directory on the way must be root's alone, and is made so
/// if it is missing.
fn walk(root: &Dir, parents: &[CString]) -> Result<Dir, HomeError> {
    let mut here = root.open(c".").map_err(HomeError::Make)?;
    for name in parents {
        roots_alone(&here)?;
        here = match here.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_parent(&here, name)?,
            other => other.map_err(not_a_link)?,
        };
    }
    roots_alone(&here)?;
    Ok(here)
}

fn roots_alone(dir: &Dir) -> Result<(), HomeError> {
    let stat = dir.stat().map_err(HomeError::Make)?;
    if stat.uid == 0 && stat.mode & 0o022 == 0 { Ok(()) } else { Err(HomeError::UnsafeParent) }
}

fn make_parent(parent: &Dir, name: &CStr) -> Result<Dir, HomeError> {
    match parent.make(name, 0o755) {
        Ok(()) => {
            let made = parent.open(name).map_err(not_a_link)?;
            made.give(0, 0, 0o755).map_err(HomeError::Make)?;
            Ok(made)
        }
        // Somebody else's login just made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => parent.open(name).map_err(not_a_link),
        Err(error) => Err(HomeError::Make(error)),
    }
}

/// O_NOFOLLOW with O_DIRECTORY: a link is "not a directory".
fn not_a_link(error: io::Error) -> HomeError {
    match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => HomeError::UnsafeParent,
        _ => HomeError::Make(error),
    }
}

/// A name that nothing has. Chance against ourselves is enough: only root can make names here.
fn temporary_name() -> Result<CString, HomeError> {
    let random = RandomState::new().hash_one(std::process::id());
    CString::new(format!(".gpuhub-new-home-{random:016x}")).map_err(|_| HomeError::BadPlace)
}

/// Builds the home under its temporary name: root's, 0700, until the last step gives it away.
fn build(root: &Dir, parent: &Dir, name: &CStr, user: &Passwd, plan: &HomePlan) -> Result<(), HomeError> {
    parent.make(name, 0o700).map_err(HomeError::Make)?;
    let home = parent.open(name).map_err(HomeError::Make)?;
    if let Some(skel) = open_skel(root, &plan.skel)? {
        let mut copy = Copy { user, public_only: !is_image_skel(&plan.skel), bytes: MAX_BYTES, entries: MAX_ENTRIES };
        copy.tree(&skel, &home, MAX_DEPTH)?;
    }
    // Hers at least, and nobody else's to write: no plan can say otherwise.
    let mode = (plan.mode as mode_t & 0o755) | 0o700;
    home.give(user.uid, user.gid, mode).map_err(HomeError::Make)
}

fn is_image_skel(skel: &str) -> bool {
    skel.trim_end_matches('/') == SKEL
}

/// The skeleton, if there is one: an image need not have it.
fn open_skel(root: &Dir, path: &str) -> Result<Option<Dir>, HomeError> {
    let mut here = root.open(c".").map_err(HomeError::Skel)?;
    for name in components(path)? {
        here = match here.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(HomeError::Skel)?,
        };
        if !is_image_skel(path) && here.stat().map_err(HomeError::Skel)?.mode & 0o001 == 0 {
            return Err(HomeError::Skel(io::Error::from_raw_os_error(libc::EACCES)));
        }
    }
    Ok(Some(here))
}

/// A copy of the skeleton on its way.
struct Copy<'a> {
    user: &'a Passwd,
    /// Leave out what others may not read.
    public_only: bool,
    /// Left of the caps.
    bytes: u64,
    entries: usize,
}

impl Copy<'_> {
    fn tree(&mut self, from: &Dir, to: &Dir, depth: usize) -> Result<(), HomeError> {
        let names = from.names(self.entries).map_err(|e| match e.raw_os_error() {
            Some(libc::EFBIG) => HomeError::SkelTooBig,
            _ => HomeError::Skel(e),
        })?;
        self.entries = self.entries.saturating_sub(names.len());
        for name in &names {
            match from.stat_name(name).map_err(HomeError::Skel)?.kind() {
                libc::S_IFREG => self.file(from, to, name)?,
                libc::S_IFDIR if depth == 0 => return Err(HomeError::SkelTooBig),
                libc::S_IFDIR => self.directory(from, to, name, depth - 1)?,
                libc::S_IFLNK => {
                    let target = from.read_link(name).map_err(HomeError::Skel)?;
                    to.make_link(name, &target, self.user.uid, self.user.gid).map_err(HomeError::Make)?;
                }
                // Devices, pipes and sockets are nothing to begin a home with.
                _ => {}
            }
        }
        Ok(())
    }

    fn directory(&mut self, from: &Dir, to: &Dir, name: &CStr, depth: usize) -> Result<(), HomeError> {
        let source = from.open(name).map_err(HomeError::Skel)?;
        let mode = source.stat().map_err(HomeError::Skel)?.mode;
        if self.public_only && mode & 0o005 != 0o005 {
            return Ok(());
        }
        to.make(name, 0o700).map_err(HomeError::Make)?;
        let target = to.open(name).map_err(HomeError::Make)?;
        self.tree(&source, &target, depth)?;
        target.give(self.user.uid, self.user.gid, mode & 0o777).map_err(HomeError::Make)
    }

    fn file(&mut self, from: &Dir, to: &Dir, name: &CStr) -> Result<(), HomeError> {
        let source = from.open_file(name).map_err(HomeError::Skel)?;
        // Of what is open now, whatever the name was a moment ago.
        let stat = dir::stat_fd(&source).map_err(HomeError::Skel)?;
        if stat.kind() != libc::S_IFREG || (self.public_only && stat.mode & 0o004 == 0) {
            return Ok(());
        }
        let mut target = to.create_file(name).map_err(HomeError::Make)?;
        // One byte more than is left shows that there is more.
        let copied = io::copy(&mut source.take(self.bytes + 1), &mut target).map_err(HomeError::Make)?;
        self.bytes = self.bytes.checked_sub(copied).ok_or(HomeError::SkelTooBig)?;
        // No setuid or setgid bits: they would be hers.
        dir::give(&target, self.user.uid, self.user.gid, stat.mode & 0o777).map_err(HomeError::Make)
    }
}

#[cfg(test)]
mod tests;
