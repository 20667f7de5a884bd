//! As root, in a directory that stands for the root of the file system.
#![allow(unsafe_code)] // mkfifo(3), umask(2)

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A root with /home and /etc/skel, gone at the end.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let root = Self(std::env::temp_dir().join(format!("gpuhub-home-{}-{n}", std::process::id())));
        let _ = fs::remove_dir_all(&root.0);
        root.dir("home", 0o755);
        root.dir("etc/skel", 0o755);
        // Another test may have the umask in its hands.
        root.mode("", 0o755);
        root.mode("etc", 0o755);
        root
    }
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
    fn dir(&self, path: &str, mode: u32) {
        fs::create_dir_all(self.path(path)).unwrap();
        self.mode(path, mode);
    }
    fn file(&self, path: &str, mode: u32, text: &str) {
        fs::write(self.path(path), text).unwrap();
        self.mode(path, mode);
    }
    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fn ensure(&self, home: &str) -> Result<(), HomeError> {
        self.ensure_from(home, "/etc/skel")
    }
    fn ensure_from(&self, home: &str, skel: &str) -> Result<(), HomeError> {
        ensure_below(&self.open(), &alice(home), &HomePlan { mode: 0o700, skel: skel.into() })
    }
    fn open(&self) -> Dir {
        let root = Dir::root().unwrap();
        let parts = components(self.0.to_str().unwrap()).unwrap();
        parts.iter().fold(root, |dir, name| dir.open(name).unwrap())
    }
    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn alice(home: &str) -> Passwd {
    Passwd {
        name: "alice".into(),
        uid: 20001,
        gid: 20002,
        gecos: String::new(),
        home: home.into(),
        shell: "/bin/sh".into(),
    }
}

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn a_home_is_made_with_what_the_skeleton_has() {
    let root = Root::new();
    root.file("etc/skel/.profile", 0o644, "umask 022\n");
    root.file("etc/skel/run", 0o4755, "#!/bin/sh\n");
    root.dir("etc/skel/.ssh", 0o700);
    root.file("etc/skel/.ssh/config", 0o600, "Host *\n");
    symlink("/srv/data", root.path("etc/skel/data")).unwrap();
    let fifo = CString::new(root.path("etc/skel/fifo").to_str().unwrap()).unwrap();
    // SAFETY: a valid string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) }, 0);

    root.ensure("/home/alice").unwrap();

    assert_eq!(root.names("home"), ["alice"]);
    assert_eq!(root.names("home/alice"), [".profile", ".ssh", "data", "run"]);
    let hers = |path: &str| owner_and_mode(&root.path(path));
    assert_eq!(hers("home/alice"), (20001, 20002, 0o700));
    assert_eq!(hers("home/alice/.profile"), (20001, 20002, 0o644));
    assert_eq!(hers("home/alice/run"), (20001, 20002, 0o755), "no setuid bit");
    assert_eq!(hers("home/alice/.ssh"), (20001, 20002, 0o700));
    assert_eq!(hers("home/alice/.ssh/config"), (20001, 20002, 0o600));
    assert_eq!(hers("home/alice/data").0, 20001);
    assert_eq!(fs::read_link(root.path("home/alice/data")).unwrap(), Path::new("/srv/data"));
    assert_eq!(fs::read_to_string(root.path("home/alice/.profile")).unwrap(), "umask 022\n");
}

#[test]
fn the_host_s_umask_and_a_lax_plan_do_not_matter() {
    let root = Root::new();
    root.file("etc/skel/f", 0o644, "x");
    let plan = HomePlan { mode: 0o7777, skel: "/etc/skel".into() };
    // SAFETY: takes no pointers. Other tests set modes themselves and do not mind.
    let before = unsafe { libc::umask(0o777) };
    let made = ensure_below(&root.open(), &alice("/home/deep/er/alice"), &plan);
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    made.unwrap();
    assert_eq!(owner_and_mode(&root.path("home/deep")), (0, 0, 0o755));
    assert_eq!(owner_and_mode(&root.path("home/deep/er")), (0, 0, 0o755));
    assert_eq!(owner_and_mode(&root.path("home/deep/er/alice")), (20001, 20002, 0o755));
    assert_eq!(owner_and_mode(&root.path("home/deep/er/alice/f")), (20001, 20002, 0o644));
}

#[test]
fn an_existing_home_is_left_as_it_is() {
    let root = Root::new();
    root.file("etc/skel/f", 0o644, "x");
    root.dir("home/alice", 0o751);
    root.ensure("/home/alice").unwrap();
    assert_eq!(owner_and_mode(&root.path("home/alice")), (0, 0, 0o751));
    assert!(root.names("home/alice").is_empty());
}

#[test]
fn something_else_in_its_place_is_an_error() {
    let root = Root::new();
    root.file("home/alice", 0o644, "");
    assert!(matches!(root.ensure("/home/alice"), Err(HomeError::NotADirectory)));
    symlink("nowhere", root.path("home/bob")).unwrap();
    assert!(matches!(root.ensure("/home/bob"), Err(HomeError::Make(_))));
    assert_eq!(root.names("home"), ["alice", "bob"], "nothing is left behind");
}

#[test]
fn system_directories_are_no_place() {
    let root = Root::new();
    for home in ["/etc/profile.d", "//etc/./x/alice", "/root/.ssh", "/usr/local/x", "/alice", "/home/../etc/x"] {
        assert!(matches!(root.ensure(home), Err(HomeError::BadPlace)), "{home}");
    }
    assert_eq!(root.names("etc"), ["skel"]);
    assert_eq!(root.names(""), ["etc", "home"]);
}

#[test]
fn parents_must_be_root_s_alone_and_no_links() {
    let root = Root::new();
    for (mode, uid) in [(0o777, 0), (0o775, 0), (0o1777, 0), (0o755, 20009)] {
        root.mode("home", mode);
        std::os::unix::fs::chown(root.path("home"), Some(uid), None).unwrap();
        assert!(matches!(root.ensure("/home/alice"), Err(HomeError::UnsafeParent)), "{mode:o} {uid}");
    }
    symlink("etc", root.path("data")).unwrap();
    assert!(matches!(root.ensure("/data/alice"), Err(HomeError::UnsafeParent)));
    assert!(root.names("home").is_empty());
}

#[test]
fn without_a_skeleton_the_home_is_empty() {
    let root = Root::new();
    root.ensure_from("/home/alice", "/etc/no-skel").unwrap();
    assert!(root.names("home/alice").is_empty());
}

#[test]
fn another_skeleton_gives_only_what_everyone_may_read() {
    let root = Root::new();
    root.dir("root", 0o700);
    root.file("root/readable", 0o644, "secret by its directory");
    root.file("etc/shadow", 0o640, "secret");
    root.file("etc/passwd", 0o644, "public");
    assert!(matches!(root.ensure_from("/home/alice", "/root"), Err(HomeError::Skel(_))));
    root.ensure_from("/home/alice", "/etc").unwrap();
    assert_eq!(root.names("home/alice"), ["passwd", "skel"]);
    symlink("/root", root.path("etc/link")).unwrap();
    assert!(matches!(root.ensure_from("/home/bob", "/etc/link"), Err(HomeError::Skel(_))));
    assert_eq!(root.names("home"), ["alice"]);
}

#[test]
fn the_skeleton_has_caps() {
    let root = Root::new();
    let deep = format!("etc/skel/{}", ["d"; MAX_DEPTH + 1].join("/"));
    root.dir(&deep, 0o755);
    assert!(matches!(root.ensure("/home/alice"), Err(HomeError::SkelTooBig)));
    fs::remove_dir_all(root.path("etc/skel/d")).unwrap();

    fs::File::create(root.path("etc/skel/big")).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert!(matches!(root.ensure("/home/alice"), Err(HomeError::SkelTooBig)));
    fs::remove_file(root.path("etc/skel/big")).unwrap();

    for n in 0..=MAX_ENTRIES {
        symlink("x", root.path(&format!("etc/skel/{n}"))).unwrap();
    }
    assert!(matches!(root.ensure("/home/alice"), Err(HomeError::SkelTooBig)));
    assert!(root.names("home").is_empty(), "nothing half-made is left");
}

#[test]
fn many_logins_at_once_make_one_home() {
    let root = Root::new();
    for n in 0..50 {
        root.file(&format!("etc/skel/{n}"), 0o644, "x");
    }
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| root.ensure("/home/new/alice"))).collect();
        for login in logins {
            login.join().unwrap().unwrap();
        }
    });
    assert_eq!(root.names("home/new"), ["alice"]);
    assert_eq!(root.names("home/new/alice").len(), 50);
}
