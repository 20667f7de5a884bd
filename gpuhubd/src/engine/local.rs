//! The container's own accounts, read again only when their files have changed: lookups ask thousands
//! of times a second, and to read and parse three files was a fifth of what each cost.
//!
//! A file that cannot be read is an error: nobody may be taken for one who is not local.

use crate::model::{Denied, Reason};
use gpuhub_common::local::{EXTRA_GIDS, GROUP, LocalAccounts, PASSWD};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A file that was changed less than this ago may be changed once more under the same time stamp (a tick
/// of the kernel, or of whatever file system it lies on): what was read of it is not kept.
const SETTLED: Duration = Duration::from_secs(2);

/// The files are not looked at more often: that costs three calls of the system, and a flood of lookups
/// has ten thousand a second. What comes in is vetted with what was read then ([`read`]).
const LOOK: Duration = Duration::from_millis(10);

/// What the last reading was of, and what it was; when the files were looked at last.
#[derive(Debug, Default)]
pub(super) struct Local(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    of: Stamps,
    looked: Instant,
    accounts: Arc<LocalAccounts>,
}

/// Of each file: device, inode, size, and when it changed last (its content or its attributes), in
/// seconds and nanoseconds. `None`: it is not there.
type Stamps = [Option<(u64, u64, u64, i64, i64)>; 3];

impl Local {
    /// The accounts as they were a moment ago, at the most; but which local gids people may join is that of the last reading,
    /// since the list may name device nodes: for that, [`read`].
    pub(super) fn accounts(&self) -> Result<Arc<LocalAccounts>, Denied> {
        let now = Instant::now();
        if let Some(kept) = self.kept().as_ref().filter(|kept| now.saturating_duration_since(kept.looked) < LOOK) {
            return Ok(Arc::clone(&kept.accounts));
        }
        self.of([PASSWD, GROUP, EXTRA_GIDS], LocalAccounts::try_read).map_err(unreadable)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, files: [&str; 3], read: impl FnOnce() -> io::Result<LocalAccounts>) -> io::Result<Arc<LocalAccounts>> {
        // Before the reading: a change after it is seen next time.
        let stamps = files.map(stamp);
        let looked = Instant::now();
        let mut kept = self.kept();
        if let Some(kept) = kept.as_mut().filter(|kept| kept.of == stamps) {
            kept.looked = looked;
            return Ok(Arc::clone(&kept.accounts));
        }
        *kept = None;
        let accounts = Arc::new(read()?);
        *kept = is_settled(&stamps, SystemTime::now()).then(|| Kept {
            of: stamps,
            looked,
            accounts: Arc::clone(&accounts),
        });
        Ok(accounts)
    }
}

/// All of the accounts, read now.
pub(super) fn read() -> Result<LocalAccounts, Denied> {
    LocalAccounts::try_read().map_err(unreadable)
}

fn unreadable(e: io::Error) -> Denied {
    Denied::because(Reason::Internal, format!("this machine's own accounts: {e}"))
}

fn stamp(path: &str) -> Option<(u64, u64, u64, i64, i64)> {
    // Through links: the content's own.
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()))
}

/// Whether all changes are long past, or (the clock was set back) nothing is certain.
fn is_settled(stamps: &Stamps, now: SystemTime) -> bool {
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0));
    let settled = i64::try_from(SETTLED.as_secs()).unwrap_or(i64::MAX);
    stamps.iter().flatten().all(|(.., ctime, _)| now_s.saturating_sub(*ctime) > settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(local: &Local, files: [&str; 3], reads: &mut u32) {
        local
            .of(files, || {
                *reads += 1;
                Ok(LocalAccounts::from_texts("", "", ""))
            })
            .unwrap();
    }

    #[test]
    fn files_that_are_at_rest_are_read_once() {
        let (local, mut reads) = (Local::default(), 0);
        let old = ["/proc/self/no-such-file"; 3];
        for _ in 0..3 {
            count(&local, old, &mut reads);
        }
        assert_eq!(reads, 1);
    }

    #[test]
    fn what_has_just_changed_is_read_each_time() {
        let path = std::env::temp_dir().join(format!("gpuhub-local-{}", std::process::id()));
        let text = path.to_str().unwrap();
        let (local, mut reads) = (Local::default(), 0);
        for n in 1..=3 {
            // The same length, perhaps within one tick.
            std::fs::write(&path, format!("u{n}:x:1:1::/:/bin/sh\n")).unwrap();
            count(&local, [text; 3], &mut reads);
            assert_eq!(reads, n);
        }
        std::fs::remove_file(&path).unwrap();
        count(&local, [text; 3], &mut reads);
        assert_eq!(reads, 4, "that it is gone is a change");
    }

    #[test]
    fn a_change_of_a_moment_ago_or_of_the_future_is_not_settled() {
        let of = |ctime| [None, Some((1, 1, 1, ctime, 0)), None];
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert!(is_settled(&of(997), now) && is_settled(&[None; 3], now));
        assert!(!is_settled(&of(998), now) && !is_settled(&of(1000), now) && !is_settled(&of(2000), now));
    }

    #[test]
    fn what_cannot_be_read_is_not_what_was_read_before() {
        let (local, mut reads) = (Local::default(), 0);
        let old = ["/proc/self/no-such-file"; 3];
        assert!(local.of(old, || Err(io::ErrorKind::Other.into())).is_err());
        count(&local, old, &mut reads);
        assert_eq!(reads, 1);
        let other = ["/proc/self/no-such-file", "/etc/passwd", "/proc/self/no-such-file"];
        assert!(local.of(other, || Err(io::ErrorKind::Other.into())).is_err());
    }
}
