//! From root to the broker's own user: what needs root is done first, then root is given up for
//! good.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chown, setgid, setgroups, setuid};
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where the broker lives, and as whom.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Socket and snapshot.
    pub run: PathBuf,
    /// The store.
    pub state: PathBuf,
    /// The user to become, if started as root.
    pub user: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            run: gpuhub_common::paths::RUN_DIR.into(),
            state: gpuhub_common::paths::STATE_DIR.into(),
            user: "gpuhub".into(),
        }
    }
}

/// Makes the directories, binds the socket and drops to the broker's user. Must run before any
/// thread is started: credentials are per thread in Linux.
pub fn prepare(paths: &Paths) -> Result<UnixListener, String> {
    umask(Mode::from_bits_truncate(0o077));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| format!("no core dumps: {e}"))?;
    // One descriptor a connection, and those of the directories; 1024 is the usual soft limit.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most.min(16_384), most);
    }
    let root = Uid::effective().is_root();
    let owner = if root { Some(account(&paths.user)?) } else { None };
    directory(&paths.run, 0o755, owner)?;
    directory(&paths.state, 0o700, owner)?;
    let listener = bind(&paths.run.join("broker.sock"))?;
    if let Some((uid, gid)) = owner {
        setgroups(&[gid]).map_err(|e| format!("setgroups: {e}"))?;
        setgid(gid).map_err(|e| format!("setgid: {e}"))?;
        setuid(uid).map_err(|e| format!("setuid: {e}"))?;
        if setuid(Uid::from_raw(0)).is_ok() {
            return Err("root could be taken back".into());
        }
    }
    nix::sys::prctl::set_no_new_privs().map_err(|e| format!("no_new_privs: {e}"))?;
    nix::sys::prctl::set_dumpable(false).map_err(|e| format!("dumpable: {e}"))?;
    Ok(listener)
}

/// The ids of the broker's user, read from /etc/passwd itself: NSS would ask the broker.
fn account(user: &str) -> Result<(Uid, Gid), String> {
    let passwd = std::fs::read_to_string(gpuhub_common::local::PASSWD).map_err(|e| format!("/etc/passwd: {e}"))?;
    let line = passwd.lines().find(|l| l.split(':').next() == Some(user));
    let mut fields = line.into_iter().flat_map(|l| l.split(':')).skip(2).filter_map(|f| f.parse::<u32>().ok());
    match (fields.next(), fields.next()) {
        (Some(uid), Some(gid)) if uid != 0 && gid != 0 => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(format!("there is no local user {user} to become; the package makes it (or name one: --user)")),
    }
}

fn directory(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> Result<(), String> {
    let text = |e: std::io::Error| format!("{}: {e}", path.display());
    match DirBuilder::new().recursive(true).mode(mode).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(text(e)),
        _ => {}
    }
    let meta = std::fs::symlink_metadata(path).map_err(text)?;
    if !meta.is_dir() {
        return Err(format!("{} is not a directory", path.display()));
    }
    // Ours already, or root's to give; a directory of somebody else's could be swapped under us.
    if let Some((uid, gid)) = owner {
        if meta.uid() != 0 && meta.uid() != uid.as_raw() {
            return Err(format!("{} belongs to uid {}", path.display(), meta.uid()));
        }
        chown(path, Some(uid), Some(gid)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    set_permissions(path, Permissions::from_mode(mode)).map_err(text)
}

/// Binds the socket, in place of one that nobody answers any more.
fn bind(path: &Path) -> Result<UnixListener, String> {
    let text = |e: std::io::Error| format!("{}: {e}", path.display());
    if UnixStream::connect(path).is_ok() {
        return Err(format!("another broker serves {}", path.display()));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(text(e)),
        _ => {}
    }
    // Everybody may connect; what they may ask is the rights table's. By umask, not by chmod(2): the
    // directory is the broker's user's already, and a link put there would be followed as root.
    let before = umask(Mode::from_bits_truncate(0o111));
    let listener = UnixListener::bind(path).map_err(text);
    umask(before);
    listener
}
