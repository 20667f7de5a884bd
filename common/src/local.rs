//! The container's own accounts: /etc/passwd and /etc/group, read without NSS.
//!
//! They are never ours. The PAM module asks before it wakes the broker (a dead broker must not
//! lock out root, a local user, sudo or cron), and the client refuses entries that would stand in
//! for them. NSS cannot be asked: we are NSS.

use crate::id;
use crate::name::Shapes;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The container's own users.
pub const PASSWD: &str = "/etc/passwd";
/// The container's own groups.
pub const GROUP: &str = "/etc/group";
/// Local groups that people of ours may join (`video`, `render`), one a line: a gid, or the path of
/// a device node, which stands for the gid that it has on this machine. `#` comments. Believed only
/// if root owns it and nobody else may write it; the broker cannot.
pub const EXTRA_GIDS: &str = "/etc/gpuhub/extra-gids";

/// Most bytes read of each file: a container's own passwd is small, and this runs in every
/// process that looks up a name.
const MAX_FILE: u64 = 4 << 20;

/// A set of local names and ids. Asking takes no allocation, and of what is certainly not local
/// (nearly everything that is asked) a few nanoseconds.
#[derive(Debug)]
pub struct LocalAccounts {
    hasher: RandomState,
    users: Names,
    uids: Ids,
    groups: Names,
    gids: Ids,
    extra: Ids,
    highest_gid: u32,
}

/// Names as hashes (keyed, so that nobody can craft a collision), sorted.
#[derive(Debug)]
struct Names {
    hashes: Vec<u64>,
    /// Without them the hash would have to be computed of every name.
    shapes: Shapes,
}

impl Names {
    fn add(&mut self, name: &[u8], hasher: &RandomState) {
        self.hashes.push(hasher.hash_one(name));
        self.shapes.add(name);
    }

    fn has(&self, name: &[u8], hasher: &RandomState) -> bool {
        self.shapes.may_have(name) && self.hashes.binary_search(&hasher.hash_one(name)).is_ok()
    }
}

/// Ids, sorted.
#[derive(Debug, Default)]
struct Ids(Vec<u32>);

impl Ids {
    /// People's ids lie above all local ones on most machines.
    fn has(&self, id: u32) -> bool {
        self.0.last().is_some_and(|last| id <= *last) && self.0.binary_search(&id).is_ok()
    }
}

impl LocalAccounts {
    /// Reads the container's files. One that cannot be read counts as empty.
    pub fn read() -> Self {
        let text = |path| read_capped(path).unwrap_or_default();
        Self::from_texts(&text(PASSWD), &text(GROUP), &read_root_owned(EXTRA_GIDS))
    }

    /// Reads the container's files. One that is not there is empty (an image without /etc/group
    /// has no local groups); one that cannot be read is an error: in a process without a free
    /// descriptor, too, nobody may be taken for one who is not local.
    pub fn try_read() -> io::Result<Self> {
        let text = |path| match read_capped(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        Ok(Self::from_texts(&text(PASSWD)?, &text(GROUP)?, &read_root_owned(EXTRA_GIDS)))
    }

    /// From the texts of passwd(5), group(5) and the extra-gids list.
    pub fn from_texts(passwd: &str, group: &str, extra: &str) -> Self {
        let hasher = RandomState::new();
        let (users, uids) = columns(passwd, &hasher);
        let (groups, gids) = columns(group, &hasher);
        let mut extra: Vec<u32> = extra
            .lines()
            .filter_map(|line| listed(line.split('#').next()?.trim()))
            .filter(|g| may_be_joined(*g))
            .collect();
        extra.sort_unstable();
        let highest_gid = gids.0.last().max(extra.last()).copied().unwrap_or(0);
        Self { hasher, users, uids, groups, gids, extra: Ids(extra), highest_gid }
    }

    /// Whether /etc/passwd has this name.
    pub fn has_user(&self, name: &[u8]) -> bool {
        self.users.has(name, &self.hasher)
    }

    /// Whether /etc/passwd has this uid.
    pub fn has_uid(&self, uid: u32) -> bool {
        self.uids.has(uid)
    }

    /// Whether /etc/group has this name.
    pub fn has_group(&self, name: &[u8]) -> bool {
        self.groups.has(name, &self.hasher)
    }

    /// Whether /etc/group has this gid.
    pub fn has_gid(&self, gid: u32) -> bool {
        self.gids.has(gid)
    }

    /// Whether no local group, nor one that root's list opens, has this gid or one above it.
    #[inline]
    pub fn is_above_all(&self, gid: u32) -> bool {
        gid > self.highest_gid
    }

    /// Whether root's list opens this local gid to people of ours.
    pub fn allows_gid(&self, gid: u32) -> bool {
        self.extra.has(gid)
    }
}

/// Whether the login of `name` is none of our business: uid 0 by any name, and every name of the
/// container's own /etc/passwd. Unlike [`LocalAccounts`] this reads the file anew, since a PAM
/// stack may live in a process for months. A file that cannot be read makes everyone local
/// except nobody: without it we cannot tell, and the caller must fail closed.
pub fn is_local_user(name: &str) -> io::Result<bool> {
    let mut text = Vec::new();
    File::open(PASSWD)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(has_passwd_line(&text, name.as_bytes()))
}

fn has_passwd_line(text: &[u8], name: &[u8]) -> bool {
    text.split(|b| *b == b'\n').any(|line| line.split(|b| *b == b':').next() == Some(name))
}

/// The gid that a line of [`EXTRA_GIDS`] means.
fn listed(line: &str) -> Option<u32> {
    if line.starts_with('/') { node_gid(Path::new(line)) } else { line.parse().ok() }
}

/// The gid of a device node; `None` if it is not there, or is something else.
pub fn node_gid(path: &Path) -> Option<u32> {
    let meta = std::fs::metadata(path).ok()?;
    let kind = meta.file_type();
    (kind.is_char_device() || kind.is_block_device()).then(|| meta.gid())
}

/// Whether a local gid may be joined at all: never root's, nor one that stands for "no group", as
/// the gid of a node does that this user namespace has no number for.
pub fn may_be_joined(gid: u32) -> bool {
    gid != 0 && (gid < id::FIRST_PERSON || id::is_allowed(gid))
}

fn columns(text: &str, hasher: &RandomState) -> (Names, Ids) {
    let (mut names, mut ids) = (Names { hashes: Vec::new(), shapes: Shapes::none() }, Vec::new());
    for line in text.lines() {
        let mut fields = line.split(':');
        let Some(name) = fields.next().filter(|n| !n.is_empty() && !n.starts_with('#')) else { continue };
        names.add(name.as_bytes(), hasher);
        ids.extend(fields.nth(1).and_then(|id| id.trim().parse::<u32>().ok()));
    }
    names.hashes.sort_unstable();
    ids.sort_unstable();
    (names, Ids(ids))
}

fn read_capped(path: &str) -> io::Result<String> {
    let file = File::open(path)?;
    // With room for all of it: else it is read by and by.
    let size = file.metadata()?.len().min(MAX_FILE);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_root_owned(path: &str) -> String {
    match std::fs::metadata(path) {
        Ok(meta) if meta.uid() == 0 && meta.mode() & 0o022 == 0 => read_capped(path).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_ids() {
        let l = LocalAccounts::from_texts(
            "root:x:0:0:root:/root:/bin/bash\n# c\nbroken\nubuntu:x:1000:1000::/h:/s\n",
            "video:x:44:ubuntu\n",
            "# devices\n44 # video\n0\nx\n65534\n61200\n/dev/null\n/etc/passwd\n/dev/no-such-node\n",
        );
        assert!(l.has_user(b"root") && l.has_user(b"ubuntu") && l.has_user(b"broken"));
        assert!(!l.has_user(b"alice") && !l.has_user(b""));
        assert!(l.has_uid(0) && l.has_uid(1000) && !l.has_uid(1001));
        assert!(l.has_group(b"video") && l.has_gid(44) && !l.has_gid(45));
        assert!(l.allows_gid(44));
        // /dev/null is root's, which is never joined, and /etc/passwd no device.
        for gid in [0, 65534, 61200] {
            assert!(!l.allows_gid(gid), "{gid}");
        }
    }

    #[test]
    fn a_device_stands_for_the_gid_that_it_has() {
        use std::os::unix::fs::chown;
        assert_eq!(node_gid(Path::new("/dev/null")), Some(0));
        assert_eq!(node_gid(Path::new("/etc/passwd")), None);
        assert_eq!(node_gid(Path::new("/dev/no-such-node")), None);
        let node = std::env::temp_dir().join(format!("gpuhub-node-{}", std::process::id()));
        let made = std::process::Command::new("mknod").arg(&node).args(["c", "1", "3"]).status();
        assert!(made.is_ok_and(|s| s.success()), "tests are run by root");
        chown(&node, None, Some(44)).unwrap();
        let line = format!("{}  # a GPU\n", node.display());
        let l = LocalAccounts::from_texts("", "", &line);
        std::fs::remove_file(&node).unwrap();
        assert!(l.allows_gid(44) && !l.allows_gid(45));
        assert!(!LocalAccounts::from_texts("", "", &line).allows_gid(44), "it has gone");
    }

    #[test]
    fn many_names_are_all_known_and_no_others() {
        let passwd: String = (0..2000).map(|n| format!("name{n}:x:{}:{}::/:/s\n", n * 3, n)).collect();
        let l = LocalAccounts::from_texts(&passwd, "", "");
        for n in 0..2000 {
            assert!(l.has_user(format!("name{n}").as_bytes()) && !l.has_user(format!("nome{n}").as_bytes()));
            assert!(l.has_uid(n * 3) && !l.has_uid(n * 3 + 1));
        }
        assert!(!l.has_uid(u32::MAX) && !l.has_gid(0) && !l.has_group(b"name1"));
    }

    #[test]
    fn passwd_lines_match_whole_names() {
        let text = b"root:x:0:0\nalice:x:1:1\n";
        assert!(has_passwd_line(text, b"alice"));
        assert!(!has_passwd_line(text, b"ali") && !has_passwd_line(text, b"x"));
    }

    #[test]
    fn this_machine_s_root_is_local() {
        assert!(is_local_user("root").is_ok_and(|yes| yes));
        assert!(LocalAccounts::read().has_uid(0));
        assert!(LocalAccounts::try_read().is_ok_and(|l| l.has_uid(0)));
    }

    #[test]
    fn a_file_that_is_not_there_is_not_one_that_cannot_be_read() {
        let not_there = read_capped("/nonexistent/passwd").unwrap_err();
        assert_eq!(not_there.kind(), io::ErrorKind::NotFound);
        assert!(read_capped("/etc").is_err());
    }
}
