//! The doctor against trees that the tests make: each finding has a test that makes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use gpuhub_common::wire::{ErrorCode, ProviderStatus, Reply, Status};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

const AUTH: &str = "auth [success=2 user_unknown=ignore module_unknown=ignore default=die] pam_gpuhub.so\n\
                    auth [success=1 default=ignore] pam_unix.so try_first_pass\n\
                    auth requisite pam_deny.so\nauth required pam_permit.so\n";
const ACCOUNT: &str = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n\
                       account requisite pam_deny.so\naccount required pam_permit.so\n\
                       account [success=ok new_authtok_reqd=ok user_unknown=ignore module_unknown=1 \\\n  default=bad] pam_gpuhub.so\n";
const SESSION: &str = "session required pam_unix.so\nsession optional pam_gpuhub.so\n";

/// A root file system on which everything is as it should be.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("gpuhub-doctor-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let t = Self { root };
        t.write("etc/nsswitch.conf", "passwd: files gpuhub\ngroup: files gpuhub\nhosts: files dns\n");
        t.write("usr/lib/x86_64-linux-gnu/libnss_gpuhub.so.2", "");
        t.write("usr/lib/x86_64-linux-gnu/security/pam_gpuhub.so", "");
        t.write("etc/pam.d/common-auth", AUTH);
        t.write("etc/pam.d/common-account", ACCOUNT);
        t.write("etc/pam.d/common-session", SESSION);
        t.write("etc/pam.d/sshd", "# sshd\n@include common-auth\naccount required pam_nologin.so\n@include common-account\n@include common-session\n");
        t.write("etc/pam.d/su", "auth sufficient pam_rootok.so\nauth include common-auth\naccount substack common-account\n-session include common-session\n");
        t.write("etc/pam.d/other", "@include common-auth\n@include common-account\n@include common-session\n");
        t.write(
            "etc/ssh/sshd_config",
            "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n",
        );
        t.write("etc/ssh/sshd_config.d/50-gpuhub.conf", "KbdInteractiveAuthentication yes\nUsePAM yes\n");
        // Like an sshd without host keys.
        t.script("usr/sbin/sshd", "echo 'sshd: no hostkeys available -- exiting.' >&2; exit 1");
        t.script("usr/sbin/gpuhubd", "[ \"$*\" = '--check --json' ] && echo '[]'");
        t
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn script(&self, path: &str, text: &str) {
        // By another process: a file that is open for writing in a child that another test is just
        // starting could not be run.
        let (from, to) = (self.root.join(format!("{path}.sh")), self.root.join(path));
        self.write(&format!("{path}.sh"), &format!("#!/bin/sh\n{text}\n"));
        assert!(Command::new("install").args(["-m", "0755"]).args([from, to]).status().unwrap().success());
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.root.join(path)).unwrap();
    }

    /// A broker that answers one connection.
    fn broker(&self, reply: Result<Status, ErrorCode>) {
        std::fs::create_dir_all(self.root.join("run/gpuhub")).unwrap();
        let listener = UnixListener::bind(self.root.join("run/gpuhub/broker.sock")).unwrap();
        let (parameters, error) = match reply {
            Ok(status) => (Some(status), None),
            Err(e) => (None, Some(e)),
        };
        let mut bytes = serde_json::to_vec(&Reply { parameters, error }).unwrap();
        bytes.push(0);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&bytes);
        });
    }

    fn doctor(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gpuhub"))
            .arg("doctor")
            .args(args)
            .arg("--root")
            .arg(&self.root)
            .output()
            .unwrap()
    }

    /// The findings, with a broker that is well: id, fatal, what; each has a remedy.
    fn findings(&self) -> Vec<(String, bool, String)> {
        self.broker(Ok(status()));
        self.findings_as_it_is()
    }

    fn findings_as_it_is(&self) -> Vec<(String, bool, String)> {
        let out = self.doctor(&["--json"]);
        let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let found: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|f| {
                assert!(!f["remedy"].as_str().unwrap().is_empty(), "{f}");
                (
                    f["id"].as_str().unwrap().to_owned(),
                    f["fatal"].as_bool().unwrap(),
                    f["what"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        assert_eq!(out.status.code(), Some(found.iter().any(|f| f.1).into()), "exit status: {found:?}");
        found
    }

    /// The one finding, which is fatal, of this id, and says this.
    #[track_caller]
    fn fatal(&self, id: &str, says: &str) {
        self.one(id, true, says);
    }

    #[track_caller]
    fn note(&self, id: &str, says: &str) {
        self.one(id, false, says);
    }

    #[track_caller]
    fn one(&self, id: &str, fatal: bool, says: &str) {
        let found = self.findings();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0.as_str(), found[0].1), (id, fatal), "{found:?}");
        assert!(found[0].2.contains(says), "{found:?}");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn status() -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: 1,
        generation: 1,
        users: 3,
        groups: 1,
        sessions: 0,
        audit_dropped: 0,
        providers: vec![ProviderStatus { name: "builtin".into(), kind: "builtin".into(), problem: None }],
    }
}

#[test]
fn all_is_well() {
    let t = Tree::new();
    t.broker(Ok(status()));
    let out = t.doctor(&[]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("ok ")).count(), 6, "{text}");
    assert!(!text.contains("PROBLEM") && !text.contains("note"), "{text}");
    assert!(text.contains("PAM asks gpuhub for sshd, su\n"), "{text}");
    assert_eq!(Tree::new().findings(), []);
}

#[test]
fn in_words() {
    let t = Tree::new();
    t.write("etc/nsswitch.conf", "passwd: files gpuhub\ngroup: files\n");
    let out = t.doctor(&[]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text.starts_with("PROBLEM  No broker was ever started here"), "{text}");
    assert!(text.contains("\nPROBLEM  /etc/nsswitch.conf does not name gpuhub for group"), "{text}");
    assert!(text.contains("\n         -> Write in /etc/nsswitch.conf: group: files gpuhub\n"), "{text}");
    assert!(text.ends_with("\n2 problems would stop a login or weaken it.\n"), "{text}");
}

#[test]
fn broker_never_started() {
    let found = Tree::new().findings_as_it_is();
    assert!(found.len() == 1 && found[0].0 == "broker-down" && found[0].1, "{found:?}");
    assert!(found[0].2.contains("/run/gpuhub is not there"), "{found:?}");
}

#[test]
fn broker_gone() {
    let t = Tree::new();
    std::fs::create_dir_all(t.root.join("run/gpuhub")).unwrap();
    assert!(t.findings_as_it_is()[0].2.contains("nobody answers at"));
    // A socket file that a killed broker left behind.
    drop(UnixListener::bind(t.root.join("run/gpuhub/broker.sock")).unwrap());
    let found = t.findings_as_it_is();
    assert!(found.len() == 1 && found[0].0 == "broker-down" && found[0].2.contains("nobody answers at"), "{found:?}");
}

#[test]
fn broker_of_another_protocol() {
    let t = Tree::new();
    t.broker(Err(ErrorCode::VersionMismatch));
    let found = t.findings_as_it_is();
    assert!(found.len() == 1 && found[0].0 == "broker-down" && found[0].2.contains("another version"), "{found:?}");
}

#[test]
fn broker_of_another_release() {
    let t = Tree::new();
    t.broker(Ok(Status { version: "0.0.1".into(), ..status() }));
    let found = t.findings_as_it_is();
    assert!(found.len() == 1 && found[0].0 == "broker-version" && !found[0].1, "{found:?}");
}

#[test]
fn audit_lines_dropped() {
    let t = Tree::new();
    t.broker(Ok(Status { audit_dropped: 7, ..status() }));
    let found = t.findings_as_it_is();
    assert!(found.len() == 1 && found[0].0 == "audit-dropped" && found[0].2.starts_with("7 "), "{found:?}");
}

#[test]
fn nsswitch_without_us() {
    let t = Tree::new();
    t.write("etc/nsswitch.conf", "passwd: files gpuhub\ngroup: files systemd\n");
    t.fatal("nsswitch", "does not name gpuhub for group");
}

#[test]
fn nsswitch_asks_us_before_files() {
    let t = Tree::new();
    t.write("etc/nsswitch.conf", "passwd: gpuhub files\ngroup: files gpuhub\n");
    t.fatal("nsswitch", "before files for passwd");
}

#[test]
fn nsswitch_stops_before_us() {
    let t = Tree::new();
    t.write("etc/nsswitch.conf", "passwd: files [NOTFOUND=return] gpuhub\ngroup: files gpuhub\n");
    t.fatal("nsswitch", "stops before gpuhub");
}

#[test]
fn nsswitch_gathers_groups_elsewhere() {
    let t = Tree::new();
    t.write("etc/nsswitch.conf", "passwd: files gpuhub\ngroup: files gpuhub\ninitgroups: files\n");
    t.fatal("nsswitch", "for initgroups");
}

#[test]
fn nsswitch_missing() {
    let t = Tree::new();
    t.remove("etc/nsswitch.conf");
    let found = t.findings();
    assert!(found.len() == 2 && found.iter().all(|f| f.0 == "nsswitch" && f.1), "{found:?}");
}

#[test]
fn nss_library_missing() {
    let t = Tree::new();
    t.remove("usr/lib/x86_64-linux-gnu/libnss_gpuhub.so.2");
    t.fatal("nss-library", "libnss_gpuhub.so.2");
    let t = Tree::new();
    t.remove("usr/lib/x86_64-linux-gnu/libnss_gpuhub.so.2");
    t.write("lib64/libnss_gpuhub.so.2", "");
    assert_eq!(t.findings(), []);
}

#[test]
fn pam_module_missing() {
    let t = Tree::new();
    t.remove("usr/lib/x86_64-linux-gnu/security/pam_gpuhub.so");
    t.fatal("pam-stack", "The PAM module pam_gpuhub.so");
}

#[test]
fn pam_without_us() {
    for (file, kind) in [("common-auth", "auth"), ("common-account", "account"), ("common-session", "session")] {
        let t = Tree::new();
        t.write(&format!("etc/pam.d/{file}"), &format!("{kind} required pam_unix.so\n"));
        t.remove("etc/pam.d/su");
        t.write("etc/pam.d/jupyterhub", "auth include other\naccount include other\nsession include other\n");
        t.fatal("pam-stack", &format!("pam_gpuhub.so is not in the {kind} stack (PAM service sshd, jupyterhub)."));
    }
}

/// sshd alone, with this stack of its own.
fn with_stack(text: &str) -> Tree {
    let t = Tree::new();
    t.remove("etc/pam.d/su");
    t.write("etc/pam.d/sshd", text);
    t
}

#[test]
fn pam_asks_the_files_first() {
    let stack = format!("auth sufficient pam_unix.so\n{AUTH}{ACCOUNT}{SESSION}");
    with_stack(&stack).fatal("pam-stack", "pam_unix.so stands before pam_gpuhub.so in auth");
}

#[test]
fn pam_would_lock_out_root() {
    let stack = format!("auth required pam_gpuhub.so\n{ACCOUNT}{SESSION}");
    with_stack(&stack).fatal("pam-stack", "local users would be locked out");
    let stack = format!("{AUTH}account [success=ok default=bad] pam_gpuhub.so\n{SESSION}");
    with_stack(&stack).fatal("pam-stack", "local users would be locked out");
    let stack = format!("{AUTH}{ACCOUNT}session required pam_gpuhub.so\n");
    with_stack(&stack).fatal("pam-stack", "is \"required\" in session: root and local users would be locked out");
}

#[test]
fn pam_policy_that_does_not_count() {
    for control in ["sufficient", "optional", "[success=ok default=ignore]"] {
        let stack = format!("{AUTH}account {control} pam_gpuhub.so\n{SESSION}");
        with_stack(&stack).fatal("pam-stack", "a refusal would not count");
    }
    let stack = format!("{AUTH}account sufficient pam_unix.so\n{ACCOUNT}{SESSION}");
    with_stack(&stack).fatal("pam-stack", "key logins would slip past");
}

#[test]
fn pam_asks_twice() {
    let stack = format!("auth sufficient pam_gpuhub.so\n{AUTH}{ACCOUNT}{SESSION}");
    with_stack(&stack).note("pam-stack", "asks again");
}

#[test]
fn pam_includes_what_is_not_there_or_itself() {
    with_stack("@include common-nothing\n").fatal("pam-stack", "/etc/pam.d/sshd includes common-nothing");
    with_stack("@include sshd\n").fatal("pam-stack", "includes itself");
}

#[test]
fn pam_services_missing() {
    let t = Tree::new();
    t.remove("etc/pam.d/su");
    t.remove("etc/pam.d/sshd");
    t.fatal("pam-stack", "No PAM service that people log in by");
    // One of the vendor's counts.
    let t = Tree::new();
    t.remove("etc/pam.d/su");
    t.remove("etc/pam.d/sshd");
    t.write("usr/lib/pam.d/login", &format!("{AUTH}{ACCOUNT}{SESSION}"));
    assert_eq!(t.findings(), []);
}

#[test]
fn pam_jupyterhub_without_a_service_of_its_own() {
    let t = Tree::new();
    t.write(
        "etc/pam.d/other",
        "auth required pam_deny.so\naccount required pam_deny.so\nsession required pam_deny.so\n",
    );
    t.note("pam-stack", "PAM service other, which JupyterHub gets");
}

#[test]
fn sshd_without_keyboard_interactive() {
    let t = Tree::new();
    t.remove("etc/ssh/sshd_config.d/50-gpuhub.conf");
    t.fatal("sshd-keyboard-interactive", "KbdInteractiveAuthentication no");
    let t = Tree::new();
    t.write("etc/ssh/sshd_config.d/10-old.conf", "ChallengeResponseAuthentication=no\n");
    t.fatal("sshd-keyboard-interactive", "KbdInteractiveAuthentication no");
    let t = Tree::new();
    t.write("etc/ssh/sshd_config", "Match User git\n  Include /etc/ssh/sshd_config.d/*.conf\n");
    t.fatal("sshd-keyboard-interactive", "UsePAM no");
}

#[test]
fn sshd_speaks_for_itself() {
    let t = Tree::new();
    t.script("usr/sbin/sshd", "[ \"$1\" = -T ] && printf 'usepam yes\\nkbdinteractiveauthentication no\\n'");
    t.fatal("sshd-keyboard-interactive", "KbdInteractiveAuthentication no");
}

#[test]
fn sshd_is_not_everywhere() {
    let t = Tree::new();
    t.remove("usr/sbin/sshd");
    t.remove("etc/ssh/sshd_config");
    assert_eq!(t.findings(), []);
}

/// Whichever kind of provider shows device codes.
#[test]
fn sshd_grace() {
    for kind in ["oidc", "github"] {
        let with_codes = || {
            let mut status = status();
            status.providers.push(ProviderStatus { name: "sso".into(), kind: kind.into(), problem: None });
            Ok(status)
        };
        let t = Tree::new();
        t.broker(with_codes());
        let found = t.findings_as_it_is();
        assert!(found.len() == 1 && found[0].0 == "sshd-grace" && !found[0].1, "{found:?}");
        assert!(found[0].2.contains("gives a person 120 seconds"), "{found:?}");
        let t = Tree::new();
        t.write("etc/ssh/sshd_config.d/60-grace.conf", "LoginGraceTime 10m\n");
        t.broker(with_codes());
        assert_eq!(t.findings_as_it_is(), []);
    }
}

/// How long codes live here, the broker has found out.
#[test]
fn sshd_grace_is_measured_by_the_codes_that_are_given() {
    for (life, is_told) in [(120, false), (121, true)] {
        let t = Tree::new();
        let note = r#"[{"id":"oidc","fatal":false,"what":"It answers.","remedy":"None.","seconds":LIFE}]"#;
        t.script("usr/sbin/gpuhubd", &format!("echo '{}'", note.replace("LIFE", &life.to_string())));
        let mut status = status();
        status.providers.push(ProviderStatus { name: "sso".into(), kind: "oidc".into(), problem: None });
        t.broker(Ok(status));
        let found = t.findings_as_it_is();
        let grace: Vec<_> = found.iter().filter(|f| f.0 == "sshd-grace").collect();
        assert_eq!(grace.len(), usize::from(is_told), "{found:?}");
        assert!(grace.iter().all(|f| f.2.contains("120 seconds") && f.2.contains("longer, 121 seconds")), "{found:?}");
    }
}

#[test]
fn the_broker_s_own_findings_are_shown() {
    let t = Tree::new();
    t.script(
        "usr/sbin/gpuhubd",
        r#"echo '[{"id":"uid-range","fatal":true,"what":"The ids are not mapped.","remedy":"Map them."}]'; exit 1"#,
    );
    t.fatal("uid-range", "The ids are not mapped.");
}

#[test]
fn a_check_that_fails() {
    let t = Tree::new();
    t.script("usr/sbin/gpuhubd", "echo 'gpuhubd: unknown option' >&2; exit 2");
    t.fatal("check-failed", "gpuhubd: unknown option");
}

#[test]
fn an_image_without_the_broker() {
    let t = Tree::new();
    t.remove("usr/sbin/gpuhubd");
    t.note("no-gpuhubd", "not checked here");
}
