//! The command against a broker of the test's own: what it asks, what it prints, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use gpuhub_common::entry::{Group, Passwd};
use gpuhub_common::wire::{Admin, AdminReply, Call, Nothing, Reply, Request};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

/// Answers one request with `reply` (nothing: hangs up), and hands back the request.
struct Broker {
    socket: PathBuf,
    thread: JoinHandle<Call>,
}

impl Broker {
    fn new(reply: Option<AdminReply>) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("gpuhub-commands-{}-{n}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut frame = Vec::new();
            while frame.last() != Some(&0) {
                let mut chunk = [0; 4096];
                let n = stream.read(&mut chunk).unwrap();
                assert!(n > 0, "the command hung up");
                frame.extend_from_slice(&chunk[..n]);
            }
            frame.pop();
            if let Some(reply) = reply {
                let mut bytes = serde_json::to_vec(&Reply { parameters: Some(reply), error: None }).unwrap();
                bytes.push(0);
                stream.write_all(&bytes).unwrap();
            }
            Request::parse(&frame).unwrap().call
        });
        Self { socket, thread }
    }

    fn done() -> Self {
        Self::new(Some(AdminReply::Done(Nothing {})))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpuhub"));
        command.args(args).arg("--socket").arg(&self.socket);
        command
    }

    fn asked(self) -> Admin {
        let call = self.thread.join().unwrap();
        let _ = std::fs::remove_file(&self.socket);
        match call {
            Call::Admin(admin) => admin,
            other => panic!("{other:?}"),
        }
    }
}

fn with_stdin(mut command: Command, text: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn err(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

#[test]
fn user_add_sends_everything() {
    let broker = Broker::done();
    let command = broker.command(&[
        "user",
        "add",
        "alice",
        "--full-name",
        "Alice Archer",
        "--uid=20001",
        "--groups",
        "ml,vision",
        "--password-stdin",
    ]);
    let out = with_stdin(command, "correct horse 1\n");
    assert!(out.status.success(), "{}", err(&out));
    assert!(out.stdout.is_empty());
    let Admin::UserAdd(new) = broker.asked() else { panic!() };
    assert_eq!((new.name.as_str(), new.full_name.as_str(), new.uid), ("alice", "Alice Archer", Some(20001)));
    assert_eq!(new.groups, ["ml", "vision"]);
    assert_eq!(new.password.unwrap().expose(), b"correct horse 1");
}

#[test]
fn without_a_terminal_nobody_is_asked_for_a_password() {
    let broker = Broker::done();
    let out = with_stdin(broker.command(&["user", "add", "alice"]), "not a password\n");
    assert!(out.status.success(), "{}", err(&out));
    let Admin::UserAdd(new) = broker.asked() else { panic!() };
    assert!(new.password.is_none());
}

/// On a terminal: asked twice, nothing echoed.
fn on_a_terminal(first: &str, second: &str) -> (String, Option<Vec<u8>>, i32) {
    let broker = Broker::done();
    let pty = nix::pty::openpty(None, None).unwrap();
    let inner = broker.command(&["user", "add", "alice"]);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(inner.get_program()).args(inner.get_args());
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    drop(command);
    let mut master = std::fs::File::from(pty.master);
    let mut seen = String::new();
    let mut until = |what: &str, master: &mut std::fs::File| {
        while !seen.contains(what) {
            let mut chunk = [0; 256];
            let n = master.read(&mut chunk).unwrap();
            seen.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
        }
    };
    until("Password of alice: ", &mut master);
    master.write_all(format!("{first}\n").as_bytes()).unwrap();
    until("Again: ", &mut master);
    master.write_all(format!("{second}\n").as_bytes()).unwrap();
    let status = child.wait().unwrap().code().unwrap();
    if status != 0 {
        until("same", &mut master);
        return (seen, None, status);
    }
    let Admin::UserAdd(new) = broker.asked() else { panic!() };
    (seen, new.password.map(|p| p.expose().to_vec()), status)
}

#[test]
fn on_a_terminal_the_password_is_asked_twice_without_echo() {
    let (seen, password, _) = on_a_terminal("correct horse 1", "correct horse 1");
    assert_eq!(password.as_deref(), Some(&b"correct horse 1"[..]));
    assert!(!seen.contains("horse"), "{seen}");
    let (seen, password, status) = on_a_terminal("correct horse 1", "correct horse 2");
    assert_eq!((password, status), (None, 1));
    assert!(!seen.contains("horse"), "{seen}");
}

#[test]
fn the_other_changes() {
    let broker = Broker::done();
    let out = with_stdin(broker.command(&["user", "passwd", "alice", "--stdin"]), "new one 22");
    assert!(out.status.success(), "{}", err(&out));
    let Admin::UserPasswd(new) = broker.asked() else { panic!() };
    assert_eq!((new.name.as_str(), new.password.expose()), ("alice", &b"new one 22"[..]));

    let ask = |args: &[&str]| {
        let broker = Broker::done();
        let out = broker.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", err(&out));
        broker.asked()
    };
    assert!(matches!(ask(&["user", "del", "alice"]), Admin::UserDel(q) if q.name == "alice"));
    assert!(
        matches!(ask(&["group", "add", "ml", "--gid", "20100"]), Admin::GroupAdd(g) if g.name == "ml" && g.gid == Some(20100))
    );
    assert!(matches!(ask(&["group", "del", "ml"]), Admin::GroupDel(q) if q.name == "ml"));
    for (word, member) in [("add", true), ("del", false)] {
        let Admin::GroupMember(m) = ask(&["group", "member", word, "ml", "alice"]) else { panic!() };
        assert_eq!((m.group.as_str(), m.user.as_str(), m.member), ("ml", "alice", member));
    }
}

#[test]
fn lists_are_passwd_and_group_lines_without_control_characters() {
    let alice = Passwd {
        name: "alice".into(),
        uid: 20001,
        gid: 20001,
        gecos: "Alice\x1b[2J".into(),
        home: "/home/alice".into(),
        shell: "/bin/bash".into(),
    };
    let broker = Broker::new(Some(AdminReply::Users(vec![alice])));
    let out = broker.command(&["user", "list"]).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "alice:*:20001:20001:Alice?[2J:/home/alice:/bin/bash\n");
    let group = Group { name: "ml".into(), gid: 20100, members: vec!["alice".into(), "bob".into()] };
    let broker = Broker::new(Some(AdminReply::Groups(vec![group])));
    let out = broker.command(&["group", "list"]).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "ml:*:20100:alice,bob\n");
}

#[test]
fn a_refusal_is_told_and_counts() {
    let broker = Broker::new(Some(AdminReply::Refused("alice is declared in the configuration".into())));
    let out = broker.command(&["user", "del", "alice"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(err(&out), "gpuhub: alice is declared in the configuration\n");
}

#[test]
fn bad_names_and_empty_passwords_never_reach_the_broker() {
    let run = |args: &[&str], stdin: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpuhub"));
        command.args(args).args(["--socket", "/nonexistent/x"]);
        let out = with_stdin(command, stdin);
        assert_eq!(out.status.code(), Some(1), "{}", err(&out));
        err(&out)
    };
    assert!(run(&["user", "add", "a:b"], "").contains("a character that names may not have"));
    assert!(run(&["group", "add", "1000"], "").contains("all digits"));
    assert!(run(&["user", "passwd", "alice", "--stdin"], "\n").contains("empty"));
    assert!(run(&["user", "passwd", "alice", "--stdin"], "one\ntwo\n").contains("one line"));
    assert!(run(&["user", "passwd", "alice", "--stdin"], &"x".repeat(9000)).contains("longer than 8192"));
}

#[test]
fn no_broker_says_what_to_do() {
    for args in [&["status"][..], &["user", "list"], &["group", "add", "ml"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_gpuhub"))
            .args(args)
            .args(["--socket", "/nonexistent/gpuhub/broker.sock"])
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(69));
        assert!(err(&out).contains("gpuhub-entrypoint"), "{}", err(&out));
    }
}

#[test]
fn wrong_usage_shows_the_usage() {
    for args in [&[][..], &["nope"], &["user"], &["user", "add"], &["user", "add", "a", "--nope"], &["group", "member"]]
    {
        let out = Command::new(env!("CARGO_BIN_EXE_gpuhub")).args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(err(&out).contains("usage:"), "{}", err(&out));
    }
    let out = Command::new(env!("CARGO_BIN_EXE_gpuhub")).arg("--help").output().unwrap();
    assert!(out.status.success() && out.stdout.starts_with(b"gpuhub - "));
}

#[test]
fn a_hash_that_the_configuration_takes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpuhub"));
    command.args(["hash-password", "--stdin"]);
    let out = with_stdin(command, "correct horse 1\n");
    assert!(out.stdout.starts_with(b"$argon2id$v=19$m=19456,t=2,p=1$") && out.stdout.ends_with(b"\n"));
}
