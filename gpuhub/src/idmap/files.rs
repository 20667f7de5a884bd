//! Whose files would be another's after ids change.

use crate::outcome::plain;
use gpuhub_common::wire::{IdChange, IdRow, IdSpace};
use std::collections::HashMap;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A line for each file at or under `path` whose owner or group has another name, or a name no
/// more, once `changes` are made to what there is `before`. Links are not followed, and nothing is
/// left that lies on another file system. What cannot be read has a line that says so.
pub fn changing(path: &Path, before: &[IdRow], changes: &[IdChange]) -> String {
    let mut out = String::new();
    let owners = [IdSpace::User, IdSpace::Group].map(|kind| Owners::new(kind, before, changes));
    let device = path.symlink_metadata().map(|m| m.dev()).ok();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let shown = plain(&path.to_string_lossy());
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) => {
                let _ = writeln!(out, "{shown}: {e}");
                continue;
            }
        };
        // Only a directory can be a mount point of what is asked for: the files of an overlay, a
        // container's root, have the numbers of the layers' file systems (overlayfs, "Inode properties").
        if meta.is_dir() && Some(meta.dev()) != device {
            continue;
        }
        for (owners, id) in owners.iter().zip([meta.uid(), meta.gid()]) {
            if let Some(change) = owners.change(id) {
                let _ = writeln!(out, "{shown}: {change}");
            }
        }
        if meta.is_dir() {
            match std::fs::read_dir(&path) {
                // The last first, so that they come in order.
                Ok(entries) => {
                    let mut names: Vec<_> = entries.flatten().map(|e| e.path()).collect();
                    names.sort_unstable_by(|a, b| b.cmp(a));
                    left.extend(names);
                }
                Err(e) => _ = writeln!(out, "{shown}: {e}"),
            }
        }
    }
    out
}

/// Names by id, before and after.
struct Owners<'a> {
    word: &'static str,
    before: HashMap<u32, &'a str>,
    after: HashMap<u32, &'a str>,
}

impl<'a> Owners<'a> {
    fn new(kind: IdSpace, rows: &'a [IdRow], changes: &'a [IdChange]) -> Self {
        let in_use = rows.iter().filter(|r| r.kind == kind && !r.retired);
        let before: HashMap<u32, &str> = in_use.map(|r| (r.id, r.name.as_str())).collect();
        let mut after = before.clone();
        for change in changes.iter().filter(|c| c.kind == kind) {
            if let Some(old) = change.old {
                after.remove(&old);
            }
            after.insert(change.new, &change.name);
        }
        Self { word: if kind == IdSpace::User { "uid" } else { "gid" }, before, after }
    }

    fn change(&self, id: u32) -> Option<String> {
        let (before, after) = (self.before.get(&id), self.after.get(&id));
        let name = |n: Option<&&str>| plain(n.copied().unwrap_or("-"));
        (before != after).then(|| format!("{} {id} is {} and would be {}", self.word, name(before), name(after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_would_be_another_s_are_listed() {
        let dir = std::env::temp_dir().join(format!("gpuhub-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("sub/file"), "").unwrap();
        std::os::unix::fs::symlink("/nonexistent", dir.join("link")).unwrap();
        let me = dir.symlink_metadata().unwrap().uid();
        let row = |name: &str, id| IdRow {
            kind: IdSpace::User,
            name: name.into(),
            id,
            source: None,
            retired: false,
            issuer: None,
            subject: None,
        };
        let change = |name: &str, old, new| IdChange { kind: IdSpace::User, name: name.into(), old, new };
        let before = [row("alice", me), row("bob", me + 7)];
        assert_eq!(changing(&dir, &before, &[change("bob", Some(me + 7), me + 8)]), "");
        let listed = changing(&dir, &before, &[change("alice", Some(me), me + 9)]);
        assert_eq!(listed.lines().count(), 4, "{listed}");
        assert!(listed.contains(&format!("sub/file: uid {me} is alice and would be -")));
        let listed = changing(&dir.join("link"), &[], &[change("carol", None, me)]);
        assert!(listed.contains(&format!("link: uid {me} is - and would be carol")), "{listed}");
        assert!(changing(&dir.join("gone"), &[], &[]).contains("gone: "));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
