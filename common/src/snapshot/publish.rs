//! Replaces the snapshot file so that no reader ever sees half of it.
//!
//! Write to a temporary name, fsync, rename, fsync the directory; only then mark the old file
//! superseded, through the mapping that the broker keeps of it. A crash in between leaves the old
//! file unmarked: its readers believe it until its `valid_until` passes, which nobody pushes any
//! more. A published file is never truncated: its readers would die of SIGBUS. What changes in it
//! while it is in use, [`super::change`] does.
#![allow(unsafe_code)] // mmap(2), and atomic stores into what it gave

use super::change::{ChangeError, Changes, Space};
use super::encode::EncodeError;
use super::format::{HEADER, MAX_FILE, at};
use super::view::View;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The file at a path, as its one writer sees it. Two brokers must never have the same path:
/// the broker's own lock sees to that.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    current: Option<Published>,
}

impl Publisher {
    /// Takes over `path`, where a file from before may go on serving: push its validity, compare
    /// its generation with the store's, and publish if they differ. A file that cannot be read
    /// counts as none.
    pub fn open(path: &Path) -> Self {
        let _ = std::fs::remove_file(temporary(path));
        Self { path: path.to_owned(), current: Published::open_existing(path).ok() }
    }

    /// What is published now.
    pub fn current(&self) -> Option<&Published> {
        self.current.as_ref()
    }

    /// Puts `bytes` in the place of the current file. On an error the current one stays.
    pub fn publish(&mut self, bytes: &[u8], valid_until_ms: u64) -> io::Result<()> {
        self.replace(Prepared::write(&self.path, bytes, valid_until_ms)?)
    }

    /// Puts a prepared file in the place of the current one. On an error the current one stays.
    pub fn replace(&mut self, new: Prepared) -> io::Result<()> {
        let new = new.put_in_place(&self.path)?;
        if let Some(old) = self.current.replace(new) {
            old.mark_superseded();
        }
        Ok(())
    }

    /// Changes the current file: [`Published::change`].
    pub fn change(&mut self, changes: &Changes) -> Result<Vec<EncodeError>, ChangeError> {
        self.current.as_mut().ok_or(ChangeError::Full)?.change(changes)
    }

    /// The living broker's sign: to be called every [`super::PUSH_EVERY_MS`] with now +
    /// [`super::VALIDITY_MS`].
    pub fn push_valid_until(&self, ms: u64) {
        if let Some(current) = &self.current {
            current.push_valid_until(ms);
        }
    }
}

/// A whole file under its temporary name, which nobody reads yet.
#[derive(Debug)]
pub struct Prepared {
    /// None once it has its place.
    file: Option<Published>,
    temporary: PathBuf,
}

impl Prepared {
    /// Writes `bytes` (of [`super::encode()`]) beside `path`, and to disk.
    pub fn write(path: &Path, bytes: &[u8], valid_until_ms: u64) -> io::Result<Self> {
        // Removes what it wrote when that fails.
        let mut new = Self { file: None, temporary: temporary(path) };
        new.file = Some(Published::write_to(&new.temporary, bytes, valid_until_ms)?);
        Ok(new)
    }

    /// Brings it up to date before it is seen: [`Published::change`].
    pub fn change(&mut self, changes: &Changes) -> Result<Vec<EncodeError>, ChangeError> {
        self.file.as_mut().ok_or(ChangeError::Full)?.change(changes)
    }

    fn put_in_place(mut self, path: &Path) -> io::Result<Published> {
        std::fs::rename(&self.temporary, path)?;
        let new = self.file.take().ok_or(io::ErrorKind::InvalidData)?;
        // Readers have it by now, whatever comes. A file system that cannot sync a directory may lose the new
        // name in a power cut, and then has the old file, which the next start replaces.
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = File::open(directory).and_then(|d| d.sync_all());
        Ok(new)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Not there any more if it was put in place.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// One published file, mapped so that the words that change can be written. Dropped without
/// [`Published::mark_superseded`] it stays as it is.
#[derive(Debug)]
pub struct Published {
    base: *mut u8,
    len: usize,
    view: View,
    pub(super) file: File,
    /// None of a file that is not to be changed any more: one from before, of which nobody knows
    /// how it was left, and one after an error.
    pub(super) space: Option<Space>,
}

// SAFETY: the mapping is ours alone in this process, and is touched only by atomic stores.
unsafe impl Send for Published {}
// SAFETY: as above.
unsafe impl Sync for Published {}

impl Published {
    /// Writes `bytes` (of [`super::encode()`]) to `path`, by way of a temporary file beside it.
    pub fn write(path: &Path, bytes: &[u8], valid_until_ms: u64) -> io::Result<Self> {
        Prepared::write(path, bytes, valid_until_ms)?.put_in_place(path)
    }

    fn write_to(temporary: &Path, bytes: &[u8], valid_until_ms: u64) -> io::Result<Self> {
        // Left there by a crash: there is one writer, so it is nobody's.
        match std::fs::remove_file(temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .mode(0o644)
            .open(temporary)?;
        // Whatever the umask says: every process must be able to read it.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all(bytes)?;
        let mut new = Self::map(file)?;
        new.push_valid_until(valid_until_ms);
        new.file.sync_all()?;
        new.space = Some(Space::of_new(&new));
        Ok(new)
    }

    /// Takes over a file from before. One that is marked superseded, damaged or of another
    /// version is an error ([`io::ErrorKind::InvalidData`]).
    pub fn open_existing(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)?;
        let old = Self::map(file)?;
        if old.superseded().load(Ordering::Relaxed) != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(old)
    }

    fn map(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let len = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        if !meta.is_file() || !(HEADER..=MAX_FILE).contains(&len) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: mmap(2) chooses the place, so nothing of ours is overlaid; the length is the file's.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = base.cast::<u8>();
        // SAFETY: page-aligned and of this length, until the drop of the Published that holds the view.
        match unsafe { View::new(base, len) } {
            Ok(view) => Ok(Self { base, len, view, file, space: None }),
            Err(e) => {
                // SAFETY: mapped above, and no view of it is left.
                unsafe { libc::munmap(base.cast(), len) };
                Err(io::Error::new(io::ErrorKind::InvalidData, e))
            }
        }
    }

    /// Whether it can be changed; not one from before, or one after an error.
    pub fn is_of_this_run(&self) -> bool {
        self.space.is_some()
    }

    /// Tells the readers to open the path again. After the new file has been renamed to its
    /// place, never before.
    pub fn mark_superseded(self) {
        self.superseded().store(1, Ordering::Release);
    }

    /// Vouches for this file until `ms` (since 1970). Readers believe at most
    /// [`super::MAX_VALIDITY_MS`] ahead of their clock.
    pub fn push_valid_until(&self, ms: u64) {
        // SAFETY: inside the mapping (at least a header long), 8-aligned, and alive while `self` is.
        let word = unsafe { &*self.base.add(at::VALID_UNTIL).cast::<AtomicU64>() };
        word.store(ms.to_le(), Ordering::Release);
    }

    /// The generation of its content.
    pub fn generation(&self) -> u64 {
        self.view.generation()
    }

    /// Whether its content is complete.
    pub fn complete(&self) -> bool {
        self.view.complete()
    }

    /// What readers of it find.
    pub fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn superseded(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping (at least a header long), 4-aligned, and alive while `self` is.
        unsafe { &*self.base.add(at::SUPERSEDED).cast::<AtomicU32>() }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // SAFETY: the mapping of `map`, which nobody else knows, and nobody uses after this.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// The one temporary name beside `path`, so that a crash leaves at most one file behind and the
/// next start removes it.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}
