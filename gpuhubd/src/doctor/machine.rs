//! What of the machine would stop a login: ids, directories, homes, shells, local accounts.

use crate::config::{Builtin, Config, Ids, LocalGroup, People};
use crate::finding::Finding;
use crate::machine;
use crate::privileges::Paths;
use gpuhub_common::entry;
use gpuhub_common::local::{self, LocalAccounts};
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The machine as it is looked at: this one, or a test's.
pub(super) struct Machine {
    root: PathBuf,
    paths: Paths,
    local: LocalAccounts,
    /// The uid that root has here: 0, except in a test without root.
    root_uid: u32,
    /// Only root can tell what root, in the PAM module, may write.
    is_root: bool,
}

impl Machine {
    pub(super) fn this(paths: Paths) -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        Self { root: "/".into(), paths, local: LocalAccounts::read(), root_uid: 0, is_root }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn check(&self, config: &Config, has_providers: bool) -> Vec<Finding> {
        let mut findings = self.ids(&config.ids, &config.builtin);
        let kept = "ids, bindings and passwords are kept there";
        findings.extend(self.broker_user());
        findings.extend(self.broker_directory("state", &self.paths.state, kept));
        findings.extend(self.broker_directory("run-dir", &self.paths.run, "a tmpfs is enough"));
        findings.extend(self.homes(&config.people));
        findings.extend(self.shell(&config.people));
        findings.extend(self.declared(&config.builtin));
        findings.extend(self.local_groups(&config.local_groups));
        findings.extend(self.state(&config.ids, has_providers));
        findings
    }

    /// `uid-range`: ids that this user namespace has no number for.
    fn ids(&self, ids: &Ids, builtin: &Builtin) -> Vec<Finding> {
        let finding = |problem: machine::Unmapped| match problem.is_certain {
            true => Finding::fatal("uid-range", problem.what, machine::UNMAPPED_REMEDY),
            false => Finding::note("uid-range", problem.what),
        };
        machine::unmapped(&self.root, ids, builtin).into_iter().map(finding).collect()
    }

    /// `local-group`: whom a rule lets join a group of the machine does so only if root's list has it.
    fn local_groups(&self, rules: &[Spanned<LocalGroup>]) -> Vec<Finding> {
        let finding = |rule: &LocalGroup| match machine::gid_of(&self.root, rule) {
            Err(what) => Some(Finding {
                remedy: "Give the container the device or the group, or remove the [[local_group]].".into(),
                ..Finding::note("local-group", what)
            }),
            Ok(gid) if self.local.allows_gid(gid) => None,
            Ok(gid) => Some(Finding {
                remedy: format!(
                    "Run, as root: echo {} >> {}",
                    rule.device.clone().unwrap_or_else(|| gid.to_string()),
                    local::EXTRA_GIDS
                ),
                ..Finding::note(
                    "local-group",
                    format!(
                        "Nobody joins {rule} (gid {gid}): {} does not list it, or is not root's alone.",
                        local::EXTRA_GIDS
                    ),
                )
            }),
        };
        rules.iter().filter_map(|rule| finding(rule.get_ref())).collect()
    }

    /// `state-lost`: a name that is forgotten with the container may be another person's in the next.
    fn state(&self, ids: &Ids, has_providers: bool) -> Option<Finding> {
        if ids.is_registered() || !has_providers {
            return None;
        }
        let mounts = std::fs::read_to_string(self.at("/proc/self/mountinfo")).ok()?;
        let (point, kind) = mount_of(&mounts, &self.paths.state)?;
        let is_lost = matches!(kind, "tmpfs" | "ramfs")
            || (matches!(kind, "overlay" | "fuse.fuse-overlayfs") && point == Path::new("/"));
        is_lost.then(|| Finding {
            remedy: format!(
                "Mount something that stays at {}, or set [ids] registry; \"local\" there says that it is meant so.",
                self.paths.state.display()
            ),
            ..Finding::note(
                "state-lost",
                format!(
                    "{} goes with the container, and with it which person each name belongs to: in the next one, \
                     whoever comes first under a name gets its home.",
                    self.paths.state.display()
                ),
            )
        })
    }

    /// `broker-user`: whom the broker becomes.
    fn broker_user(&self) -> Option<Finding> {
        let user = &self.paths.user;
        if !self.is_root || self.broker_uid().is_some_and(|uid| uid != 0) {
            return None;
        }
        Some(Finding::fatal(
            "broker-user",
            format!("There is no local user {user} (other than root) for the broker to become."),
            format!("Run: useradd --system --home-dir {} --shell /usr/sbin/nologin {user}", self.paths.state.display()),
        ))
    }

    /// By hand: the broker never asks NSS, which would ask the broker.
    fn broker_uid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.at(local::PASSWD)).ok()?;
        let line = text.lines().find(|l| l.split(':').next() == Some(&self.paths.user))?;
        line.split(':').nth(2)?.parse().ok()
    }

    /// `state`, `run-dir`: the broker makes them, and makes them its own, while it is root. That
    /// must be possible.
    fn broker_directory(&self, id: &'static str, path: &Path, why: &str) -> Option<Finding> {
        let (dir, shown) = (self.at(path), path.display());
        let bad = |what: String, remedy: String| Some(Finding::fatal(id, what, remedy));
        let there = std::fs::symlink_metadata(&dir).ok();
        if there.as_ref().is_some_and(|meta| !meta.is_dir()) {
            return bad(format!("{shown} is not a directory."), "Remove it; the broker makes the directory.".into());
        }
        let strange = |owner: &u32| *owner != self.root_uid && self.broker_uid() != Some(*owner);
        if let Some(owner) = there.map(|meta| meta.uid()).filter(strange) {
            let user = &self.paths.user;
            return bad(
                format!("{shown} belongs to uid {owner}, who is neither root nor {user}."),
                format!("Run: chown -R {user}:{user} {shown}"),
            );
        }
        let nearest = dir.ancestors().find(|d| d.is_dir()).unwrap_or(&self.root);
        if !self.writable(nearest) {
            return bad(format!("{shown} cannot be written."), format!("Mount something writable there: {why}."));
        }
        if statvfs(nearest).is_ok_and(|s| s.blocks() > 0 && s.blocks_available() == 0) {
            return bad(format!("The file system of {shown} is full."), "Make room on it.".into());
        }
        None
    }

    /// `homes`: the PAM module, as root, makes what is missing, but only where nobody else than
    /// root could slip something under its hands.
    fn homes(&self, people: &People) -> Option<Finding> {
        let fatal = |what: String, remedy: &str| Some(Finding::fatal("homes", what, remedy));
        let elsewhere = "Set [people] home in gpuhub.toml to another place, such as \"/home/%u\"; or, where homes are \
                         made by others, set make_homes = false.";
        let before = people.home.split("%u").next().unwrap_or_default();
        let parent = Path::new(before.rsplit_once('/').map_or("", |(parent, _)| parent));
        if !people.make_homes {
            let what = format!("The directory {}, where homes are, is not there.", parent.display());
            let remedy = "Mount it, or set [people] home in gpuhub.toml to where homes are.".into();
            return (!self.at(parent).is_dir()).then(|| Finding { remedy, ..Finding::note("homes", what) });
        }
        let top = parent.components().nth(1).and_then(|c| c.as_os_str().to_str()).unwrap_or_default();
        if top.is_empty() || entry::SYSTEM_DIRS.contains(&top) {
            return fatal(format!("No home is made in {}/, which is the system's.", parent.display()), elsewhere);
        }
        let mut nearest = Path::new("/");
        for dir in parent.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let shown = dir.display();
            // What is missing is made.
            let Ok(meta) = std::fs::symlink_metadata(self.at(dir)) else { break };
            if !meta.is_dir() {
                return fatal(
                    format!("No home is made in {shown}, which is not a directory but a link or a file."),
                    elsewhere,
                );
            }
            if meta.uid() != self.root_uid || meta.mode() & 0o022 != 0 {
                return fatal(
                    format!("No home is made in {shown}, which others than root may write."),
                    &format!("Run: chown root:root {shown} && chmod go-w {shown}"),
                );
            }
            nearest = dir;
        }
        if !self.writable(&self.at(nearest)) {
            return fatal(
                format!("No home can be made in {}, which cannot be written.", parent.display()),
                "Mount it writable; or, where homes are made by others, set [people] make_homes = false.",
            );
        }
        None
    }

    /// `shell`: sshd refuses a person whose shell is not there.
    fn shell(&self, people: &People) -> Option<Finding> {
        if access(&self.at(&people.shell), AccessFlags::X_OK) != Err(Errno::ENOENT) {
            return None;
        }
        Some(Finding::fatal(
            "shell",
            format!("The login shell {} is not in this image; sshd lets nobody in without one.", people.shell),
            "Install it, or set [people] shell in gpuhub.toml.",
        ))
    }

    /// `local-name`, `local-id`: what the container's own files have is never ours.
    fn declared(&self, builtin: &Builtin) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut clash = |id, kind: &str, name: &str, what: &str, file: &str| {
            findings.push(Finding::fatal(
                id,
                format!("The {kind} {name} of gpuhub.toml has {what} that {file} already has; it is not served."),
                format!("Rename or renumber it in gpuhub.toml, or remove the local one from {file}."),
            ));
        };
        for user in &builtin.user {
            let u = user.get_ref();
            if self.local.has_user(u.name.as_str().as_bytes()) {
                clash("local-name", "user", u.name.as_str(), "a name", local::PASSWD);
            }
            if u.uid.is_some_and(|uid| self.local.has_uid(uid)) {
                clash("local-id", "user", u.name.as_str(), "an id", local::PASSWD);
            }
        }
        for group in &builtin.group {
            let g = group.get_ref();
            if self.local.has_group(g.name.as_str().as_bytes()) {
                clash("local-name", "group", g.name.as_str(), "a name", local::GROUP);
            }
            if g.gid.is_some_and(|gid| self.local.has_gid(gid)) {
                clash("local-id", "group", g.name.as_str(), "an id", local::GROUP);
            }
        }
        findings
    }

    fn writable(&self, dir: &Path) -> bool {
        let read_only = statvfs(dir).is_ok_and(|s| s.flags().contains(FsFlags::ST_RDONLY));
        !read_only && (!self.is_root || access(dir, AccessFlags::W_OK).is_ok())
    }
}

/// Where the file system of `path` is mounted, and what it is (proc_pid_mountinfo(5)). Of several at
/// one place the last one is seen.
fn mount_of<'m>(mountinfo: &'m str, path: &Path) -> Option<(PathBuf, &'m str)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let point = PathBuf::from(head.split(' ').nth(4)?.replace("\\040", " "));
        path.starts_with(&point).then_some((point, tail.split(' ').next()?))
    });
    mounts.max_by_key(|(point, _)| point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A machine on which all is well, in a directory of its own.
    struct Fixture(Machine);

    impl Fixture {
        fn new() -> Self {
            static N: AtomicU32 = AtomicU32::new(0);
            let n = N.fetch_add(1, Ordering::Relaxed);
            let root = std::env::temp_dir().join(format!("gpuhubd-doctor-{}-{n}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            let me = nix::unistd::geteuid();
            let paths = Paths { user: "broker".into(), ..Paths::default() };
            let local =
                LocalAccounts::from_texts("root:x:0:0\nubuntu:x:1500:1500\n", "video:x:44:\nml:x:1600:\n", "44\n");
            let f = Self(Machine { root, paths, local, root_uid: me.as_raw(), is_root: true });
            f.write("proc/self/uid_map", "0 0 4294967295\n");
            f.write("proc/self/gid_map", "0 0 4294967295\n");
            f.write("etc/passwd", "root:x:0:0:::\nbroker:x:990:990:::\n");
            f.write("bin/bash", "");
            f.mode("bin/bash", 0o755);
            f.dir("home");
            f.dir("var/lib/gpuhub");
            f.mode("var/lib/gpuhub", 0o700);
            f
        }

        fn dir(&self, path: &str) {
            let path = self.0.at(path);
            std::fs::create_dir_all(&path).unwrap();
            // Whatever the umask of whoever runs the tests.
            for dir in path.ancestors().take_while(|d| d.starts_with(&self.0.root)) {
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.at(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn mode(&self, path: &str, mode: u32) {
            std::fs::set_permissions(self.0.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn found(&self, config: &str) -> Vec<Finding> {
            let config = Config::parse("gpuhub.toml", config).unwrap();
            self.0.check(&config, !config.providers.is_empty())
        }

        /// The one finding.
        fn one(&self, config: &str) -> Finding {
            let mut found = self.found(config);
            assert_eq!(found.len(), 1, "{found:?}");
            let finding = found.remove(0);
            assert!(!finding.remedy.is_empty(), "{finding:?}");
            finding
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0.root);
        }
    }

    #[test]
    fn a_machine_on_which_all_is_well() {
        assert_eq!(Fixture::new().found(""), []);
    }

    #[test]
    fn uid_range_outside_the_map() {
        let f = Fixture::new();
        f.write("proc/self/uid_map", "         0     100000      65536\n");
        let finding = f.one("");
        assert!(finding.id == "uid-range" && finding.fatal);
        assert!(
            finding.what.contains("uid_map has 0-65535") && finding.what.contains("1000000000"),
            "{}",
            finding.what
        );
        f.write("proc/self/uid_map", "0 0 4294967295\n");
        f.write("proc/self/gid_map", "0 100000 65536\n");
        assert!(f.one("").what.contains("gid_map"));
        // A declared id counts too, and so does a range that two extents cover together.
        f.write("proc/self/gid_map", "0 1 1100000000\n1100000000 5 1000000000\n");
        assert_eq!(f.found(""), []);
        let finding = f.one("[[builtin.group]]\nname = \"vision\"\ngid = 2100000000\n");
        assert!(finding.what.contains("The ids 2100000000 are"), "{}", finding.what);
    }

    #[test]
    fn local_groups_that_nobody_joins() {
        let mut f = Fixture::new();
        f.0.local = LocalAccounts::from_texts("", "", "");
        f.write("etc/group", "video:x:44:\n");
        let video = "[[local_group]]\nname = \"video\"\n";
        let finding = f.one(video);
        assert!(finding.id == "local-group" && !finding.fatal && finding.remedy.contains("echo 44 >>"), "{finding:?}");
        f.0.local = LocalAccounts::from_texts("", "", "44\n");
        assert_eq!(f.found(video), []);
        assert!(f.one("[[local_group]]\ndevice = \"/dev/gpu0\"\n").what.contains("no device"));
    }

    #[test]
    fn state_that_goes_with_the_container() {
        let f = Fixture::new();
        let ldap = "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\n";
        let overlay = "20 1 0:5 / / rw,relatime - overlay overlay rw\n";
        f.write("proc/self/mountinfo", overlay);
        assert_eq!(f.one(ldap).id, "state-lost");
        assert_eq!(f.found(""), [], "nobody but the builtin directory's people");
        assert_eq!(f.found(&format!("[ids]\nregistry = \"local\"\n{ldap}")), [], "it is meant so");
        f.write("proc/self/mountinfo", &format!("{overlay}21 20 8:1 / /var/lib/gpuhub rw - ext4 /dev/sda rw\n"));
        assert_eq!(f.found(ldap), [], "a volume");
        f.write("proc/self/mountinfo", &format!("{overlay}21 20 0:7 / /var/lib rw - tmpfs tmpfs rw\n"));
        assert_eq!(f.one(ldap).id, "state-lost");
        f.write("proc/self/mountinfo", "20 1 8:1 / / rw - ext4 /dev/sda rw\n");
        assert_eq!(f.found(ldap), [], "a machine");
    }

    #[test]
    fn broker_s_directories() {
        let f = Fixture::new();
        std::fs::remove_dir(f.0.at("/var/lib/gpuhub")).unwrap();
        assert_eq!(f.found(""), [], "the broker makes it");
        f.write("var/lib/gpuhub", "");
        let finding = f.one("");
        assert!(finding.id == "state" && finding.fatal && finding.what.contains("/var/lib/gpuhub is not a directory"));
        std::fs::remove_file(f.0.at("/var/lib/gpuhub")).unwrap();
        f.write("run/gpuhub", "");
        assert_eq!(f.one("").id, "run-dir");
    }

    #[test]
    fn broker_s_directory_of_somebody_else() {
        let mut f = Fixture::new();
        f.0.root_uid += 1;
        let found = f.0.broker_directory("state", &f.0.paths.state, "");
        assert!(found.is_some_and(|f| f.id == "state" && f.remedy.contains("chown -R broker")));
        f.write("etc/passwd", &format!("broker:x:{}:990:::\n", f.0.root_uid - 1));
        assert_eq!(f.0.broker_directory("state", &f.0.paths.state, ""), None);
    }

    #[test]
    fn nobody_to_become() {
        let f = Fixture::new();
        for passwd in ["root:x:0:0:::\n", "broker:x:0:0:::\n"] {
            f.write("etc/passwd", passwd);
            let finding = f.one("");
            assert!(finding.id == "broker-user" && finding.fatal);
        }
    }

    #[test]
    fn homes_where_none_are_made() {
        let f = Fixture::new();
        let says = |home: &str, what: &str| {
            let finding = f.one(&format!("[people]\nhome = \"{home}\"\n"));
            assert!(finding.id == "homes" && finding.fatal && finding.what.contains(what), "{}", finding.what);
        };
        says("/var/homes/%u", "in /var/homes/, which is the system's");
        says("/%u", "in /, which is the system's");
        f.write("file", "");
        says("/file/%u", "in /file, which is not a directory");
        f.dir("data/shared");
        f.mode("data/shared", 0o1777);
        says("/data/shared/lab/%u", "in /data/shared, which others than root may write");
        assert_eq!(f.found("[people]\nhome = \"/data/homes/%u\"\n"), [], "what is missing is made");
    }

    #[test]
    fn homes_that_others_make() {
        let finding = Fixture::new().one("[people]\nhome = \"/nfs/%u\"\nmake_homes = false\n");
        assert!(finding.id == "homes" && !finding.fatal && finding.what.contains("/nfs,"), "{}", finding.what);
    }

    #[test]
    fn homes_and_state_that_cannot_be_written() {
        let f = Fixture::new();
        let ids = |f: &Fixture| f.found("").iter().map(|f| (f.id, f.fatal)).collect::<Vec<_>>();
        if nix::unistd::geteuid().is_root() {
            // Modes do not stop root: a read-only mount does, in a mount namespace of one thread's own.
            let found = std::thread::spawn(move || {
                use nix::mount::{MsFlags, mount};
                #[allow(unsafe_code)] // nix has unshare behind a feature that only this test would need
                // SAFETY: unshare(2) takes no pointer; only this thread changes its namespace.
                let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
                assert_eq!(unshared, 0, "a mount namespace can be made (CAP_SYS_ADMIN)");
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                for dir in ["home", "var/lib/gpuhub"] {
                    mount(Some("tmpfs"), &f.0.at(dir), Some("tmpfs"), MsFlags::MS_RDONLY, Some("mode=0700")).unwrap();
                }
                ids(&f)
            });
            assert_eq!(found.join().unwrap(), [("state", true), ("homes", true)]);
        } else {
            f.mode("home", 0o555);
            f.mode("var/lib/gpuhub", 0o500);
            assert_eq!(ids(&f), [("state", true), ("homes", true)]);
        }
    }

    #[test]
    fn shell_that_is_not_there() {
        let f = Fixture::new();
        std::fs::remove_file(f.0.at("bin/bash")).unwrap();
        assert_eq!(f.one("").id, "shell");
        assert_eq!(f.found("[people]\nshell = \"/home\"\n"), []);
    }

    #[test]
    fn declared_names_and_ids_that_are_local() {
        let f = Fixture::new();
        let id = |config: &str| {
            let finding = f.one(config);
            assert!(finding.fatal);
            finding.id
        };
        assert_eq!(id("[[builtin.user]]\nname = \"ubuntu\"\n"), "local-name");
        assert_eq!(id("[[builtin.user]]\nname = \"alice\"\nuid = 1500\n"), "local-id");
        assert_eq!(id("[[builtin.group]]\nname = \"ml\"\n"), "local-name");
        assert_eq!(id("[[builtin.group]]\nname = \"vision\"\ngid = 1600\n"), "local-id");
    }
}
