//! A directory by its descriptor: every name is one component, and no link is ever followed.
//!
//! Homes are made by root in directories that others may have had their hands in; a path that is
//! walked twice may lead to two places (CVE-2026-31979: a helper of root that followed a link).
#![allow(unsafe_code)] // the *at system calls, which std does not offer

use libc::{c_int, gid_t, mode_t, uid_t};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// What fstat(2) says, as far as it is asked.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: mode_t,
    /// The owner.
    pub uid: uid_t,
}

impl Stat {
    /// One of the S_IF* constants.
    pub const fn kind(&self) -> mode_t {
        self.mode & libc::S_IFMT
    }
    /// Whether it is a directory.
    pub const fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

const OPEN_DIR: c_int = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

impl Dir {
    /// The root of the file system.
    pub fn root() -> io::Result<Self> {
        Self::at(libc::AT_FDCWD, c"/")
    }

    /// A directory in this one.
    pub fn open(&self, name: &CStr) -> io::Result<Self> {
        Self::at(self.fd(), name)
    }

    fn at(parent: c_int, name: &CStr) -> io::Result<Self> {
        // SAFETY: a valid string; a non-negative result is a new descriptor that we own.
        unsafe {
            let fd = check(libc::openat(parent, name.as_ptr(), OPEN_DIR))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// A file in this directory, to be read. Does not wait for the other end of a pipe.
    pub fn open_file(&self, name: &CStr) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: as in `at`.
        unsafe { Ok(File::from_raw_fd(check(libc::openat(self.fd(), name.as_ptr(), flags))?)) }
    }

    /// A new file in this directory, 0600.
    pub fn create_file(&self, name: &CStr) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let mode: libc::c_uint = 0o600;
        // SAFETY: as in `at`; O_CREAT takes the mode as the one variadic argument.
        unsafe { Ok(File::from_raw_fd(check(libc::openat(self.fd(), name.as_ptr(), flags, mode))?)) }
    }

    /// A new directory in this one, with the bits of `mode` that the umask leaves.
    pub fn make(&self, name: &CStr, mode: mode_t) -> io::Result<()> {
        // SAFETY: a valid string.
        unsafe { check(libc::mkdirat(self.fd(), name.as_ptr(), mode)).map(drop) }
    }

    /// fstat(2) of the directory itself.
    pub fn stat(&self) -> io::Result<Stat> {
        stat_fd(&self.0)
    }

    /// fstatat(2) of a name in it; the link itself, if it is one.
    pub fn stat_name(&self, name: &CStr) -> io::Result<Stat> {
        self.stat_at(name, libc::AT_SYMLINK_NOFOLLOW)
    }

    /// fstatat(2) of a path below it, links followed: to look, not to touch.
    pub fn stat_path(&self, path: &CStr) -> io::Result<Stat> {
        self.stat_at(path, 0)
    }

    fn stat_at(&self, path: &CStr, flags: c_int) -> io::Result<Stat> {
        // SAFETY: stat is plain data, all-zero is a valid value; valid string; the kernel fills it.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            check(libc::fstatat(self.fd(), path.as_ptr(), &raw mut stat, flags))?;
            Ok(Stat { mode: stat.st_mode, uid: stat.st_uid })
        }
    }

    /// Owner and permission bits of the directory itself, whatever the umask.
    pub fn give(&self, uid: uid_t, gid: gid_t, mode: mode_t) -> io::Result<()> {
        give(&self.0, uid, gid, mode)
    }

    /// A symbolic link in it, with its owner.
    pub fn make_link(&self, name: &CStr, target: &CStr, uid: uid_t, gid: gid_t) -> io::Result<()> {
        // SAFETY: valid strings; neither call follows the link.
        unsafe {
            check(libc::symlinkat(target.as_ptr(), self.fd(), name.as_ptr()))?;
            check(libc::fchownat(self.fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW)).map(drop)
        }
    }

    /// Where a symbolic link in it points.
    pub fn read_link(&self, name: &CStr) -> io::Result<CString> {
        let mut target = vec![0u8; libc::PATH_MAX as usize];
        // SAFETY: pointer and length are of one live buffer; readlinkat(2) writes at most its length.
        let length = unsafe { libc::readlinkat(self.fd(), name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        if length == target.len() {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        target.truncate(length);
        CString::new(target).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    }

    /// Renames within the directory. Fails with EEXIST if `to` is there.
    pub fn rename_new(&self, from: &CStr, to: &CStr) -> io::Result<()> {
        // SAFETY: valid strings. By number: renameat2 is no function of every libc.
        let done = unsafe {
            libc::syscall(libc::SYS_renameat2, self.fd(), from.as_ptr(), self.fd(), to.as_ptr(), libc::RENAME_NOREPLACE)
        };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // NFS and some others cannot promise it. Then the plain rename: of a directory it
            // replaces nothing but an empty directory.
            Some(libc::EINVAL | libc::ENOSYS) => match self.rename(from, to) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::ENOTDIR)) => {
                    Err(io::Error::from_raw_os_error(libc::EEXIST))
                }
                other => other,
            },
            _ => Err(error),
        }
    }

    fn rename(&self, from: &CStr, to: &CStr) -> io::Result<()> {
        // SAFETY: valid strings.
        unsafe { check(libc::renameat(self.fd(), from.as_ptr(), self.fd(), to.as_ptr())).map(drop) }
    }

    /// Removes a name in it, and what is below.
    pub fn remove_tree(&self, name: &CStr) -> io::Result<()> {
        if self.stat_name(name)?.is_dir() {
            let inner = self.open(name)?;
            for child in inner.names(usize::MAX)? {
                inner.remove_tree(&child)?;
            }
            self.unlink(name, libc::AT_REMOVEDIR)
        } else {
            self.unlink(name, 0)
        }
    }

    fn unlink(&self, name: &CStr, flags: c_int) -> io::Result<()> {
        // SAFETY: a valid string.
        unsafe { check(libc::unlinkat(self.fd(), name.as_ptr(), flags)).map(drop) }
    }

    /// The names in it, without `.` and `..`. EFBIG if they are more than `most`.
    pub fn names(&self, most: usize) -> io::Result<Vec<CString>> {
        let own = self.open(c".")?.0.into_raw_fd();
        // SAFETY: `own` is a directory's descriptor that nobody else has; fdopendir(3) takes it,
        // and closedir(3) ends it. The entry's name is copied before the stream is read again.
        unsafe {
            let stream = libc::fdopendir(own);
            if stream.is_null() {
                let error = io::Error::last_os_error();
                drop(OwnedFd::from_raw_fd(own));
                return Err(error);
            }
            let mut names = Vec::new();
            let result = loop {
                *libc::__errno_location() = 0;
                let entry = libc::readdir(stream);
                if entry.is_null() {
                    break match io::Error::last_os_error() {
                        e if e.raw_os_error() == Some(0) => Ok(names),
                        e => Err(e),
                    };
                }
                let name = CStr::from_ptr((&raw const (*entry).d_name).cast());
                if name != c"." && name != c".." {
                    if names.len() == most {
                        break Err(io::Error::from_raw_os_error(libc::EFBIG));
                    }
                    names.push(name.to_owned());
                }
            };
            libc::closedir(stream);
            result
        }
    }

    fn fd(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

/// fstat(2).
pub fn stat_fd(file: &impl AsRawFd) -> io::Result<Stat> {
    // SAFETY: stat is plain data, all-zero is a valid value; the descriptor lives for the call.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(file.as_raw_fd(), &raw mut stat))?;
        Ok(Stat { mode: stat.st_mode, uid: stat.st_uid })
    }
}

/// Owner and permission bits, whatever the umask. In this order: a change of owner clears bits.
pub fn give(file: &impl AsRawFd, uid: uid_t, gid: gid_t, mode: mode_t) -> io::Result<()> {
    // SAFETY: the descriptor lives for the calls.
    unsafe {
        check(libc::fchown(file.as_raw_fd(), uid, gid))?;
        check(libc::fchmod(file.as_raw_fd(), mode)).map(drop)
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
