//! Replaces the snapshot file so that no reader ever sees half of it.
//!
//! Write to a temporary name, fsync, rename, fsync the directory; only then mark the old file
//! superseded, through the mapping that the broker keeps of it. A crash in between leaves the old
//! file unmarked: its readers believe it until its `valid_until` passes, which nobody pushes any
//! more. A published file is never truncated: its readers would die of SIGBUS.
#![allow(unsafe_code)] // mmap(2), and atomic stores into what it gave

use super::format::{HEADER, MAX_FILE, at};
use super::view::{View, ViewError};
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
        let new = Published::write(&self.path, bytes, valid_until_ms)?;
        if let Some(old) = self.current.replace(new) {
            old.mark_superseded();
        }
        Ok(())
    }

    /// The living broker's sign: to be called every [`super::PUSH_EVERY_MS`] with now +
    /// [`super::VALIDITY_MS`].
    pub fn push_valid_until(&self, ms: u64) {
        if let Some(current) = &self.current {
            current.push_valid_until(ms);
        }
    }
}

/// One published file, mapped so that its two changing words can be written. Dropped without
/// [`Published::mark_superseded`] it stays as it is.
#[derive(Debug)]
pub struct Published {
    base: *mut u8,
    len: usize,
    generation: u64,
    complete: bool,
}

// SAFETY: the mapping is ours alone in this process, and is touched only by atomic stores.
unsafe impl Send for Published {}
// SAFETY: as above.
unsafe impl Sync for Published {}

impl Published {
    /// Writes `bytes` (of [`super::encode()`]) to `path`, by way of a temporary file beside it.
    pub fn write(path: &Path, bytes: &[u8], valid_until_ms: u64) -> io::Result<Self> {
        let temporary = temporary(path);
        match Self::write_to(&temporary, bytes, valid_until_ms).and_then(|new| {
            std::fs::rename(&temporary, path)?;
            let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(directory)?.sync_all()?;
            Ok(new)
        }) {
            Ok(new) => Ok(new),
            Err(e) => {
                let _ = std::fs::remove_file(&temporary);
                Err(e)
            }
        }
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
        let new = Self::map(&file)?;
        new.push_valid_until(valid_until_ms);
        file.sync_all()?;
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
        let old = Self::map(&file)?;
        if old.superseded().load(Ordering::Relaxed) != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(old)
    }

    fn map(file: &File) -> io::Result<Self> {
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
        let mut new = Self { base: base.cast(), len, generation: 0, complete: false };
        // SAFETY: `new` holds the mapping, page-aligned and of this length, and outlives the view.
        let view = unsafe { View::new(new.base, len) }
            .map_err(|e: ViewError| io::Error::new(io::ErrorKind::InvalidData, e))?;
        (new.generation, new.complete) = (view.generation(), view.complete());
        Ok(new)
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
        self.generation
    }

    /// Whether its content is complete.
    pub fn complete(&self) -> bool {
        self.complete
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
