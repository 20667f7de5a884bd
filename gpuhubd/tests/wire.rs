//! The real broker against clients that do not keep to the protocol, and against its own death.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may
#![allow(unsafe_code)] // one raw setresuid(2), to connect as somebody else

mod support;

use gpuhub_common::client::{CallError, Client};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::Broker;

const T: Duration = Duration::from_secs(10);

/// A password that the rule accepts.
const PASSWORD: &str = "Correct horse 1";

fn add_user(broker: &Broker, name: &str) {
    let new = NewUser {
        name: name.into(),
        full_name: String::new(),
        uid: None,
        groups: Vec::new(),
        password: Secret::new(PASSWORD.as_bytes()),
    };
    let reply: AdminReply = broker.client().call(Call::Admin(Admin::UserAdd(new)), T).unwrap();
    assert!(matches!(reply, AdminReply::Done(_)), "{reply:?}");
}

fn begin(user: &str, service: &str) -> Call {
    let context = Context { user: user.into(), service: service.into(), ..Context::default() };
    Call::Begin(Begin { purpose: Purpose::Authenticate, context })
}

fn answer(text: &str) -> Call {
    Call::Answer(Answer { secret: Secret::new(text.as_bytes()).unwrap() })
}

fn log_in(broker: &Broker, user: &str, password: &str) -> Code {
    let mut c = broker.client();
    let step: Step = c.call(begin(user, "sshd"), T).unwrap();
    let Next::Prompt(prompt) = step.next else { panic!("{step:?}") };
    assert_eq!((prompt.echo, &*prompt.text), (false, "Password: "));
    let step: Step = c.call(answer(password), T).unwrap();
    let Next::Done(code) = step.next else { panic!("{step:?}") };
    code
}

/// Sends raw bytes; what came back before the broker dropped the connection.
fn raw(broker: &Broker, bytes: &[u8], shut: bool) -> Vec<u8> {
    let mut s = UnixStream::connect(broker.socket()).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    // A broken pipe means that the broker dropped us while we still wrote.
    let _ = s.write_all(bytes);
    if shut {
        s.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut got = Vec::new();
    match s.read_to_end(&mut got) {
        Err(e) if e.kind() != std::io::ErrorKind::ConnectionReset => panic!("not dropped: {e}"),
        _ => got,
    }
}

#[test]
fn whatever_is_not_the_protocol_is_dropped_and_the_broker_lives() {
    let b = Broker::start("protocol", "");
    let answer_now = br#"{"version":1,"method":"io.gpuhub.Broker.Answer","parameters":{"secret":[1]}}"#;
    let status = br#"{"version":1,"method":"io.gpuhub.Broker.GetStatus","parameters":{}}"#;
    let two = [&status[..], b"\0", &status[..], b"\0"].concat();
    let neither = br#"{"version":1,"method":"io.gpuhub.Broker.GetUser","parameters":{}}"#;
    for (what, bytes, shut) in [
        ("oversize", vec![b'x'; MAX_REQUEST + 10], false),
        ("oversize with its NUL", [vec![b' '; MAX_REQUEST], status.to_vec(), vec![0]].concat(), false),
        ("truncated", status.to_vec(), true),
        ("nothing", Vec::new(), true),
        ("garbage", b"\xff\xfe\0".to_vec(), false),
        ("unknown method", b"{\"version\":1,\"method\":\"io.gpuhub.Broker.Nope\",\"parameters\":{}}\0".to_vec(), false),
        ("out of state", [&answer_now[..], b"\0"].concat(), false),
        ("pipelined", two, false),
        ("neither name nor uid", [&neither[..], b"\0"].concat(), false),
    ] {
        assert_eq!(raw(&b, &bytes, shut), b"", "{what}");
    }
    let late = raw(&b, b"{\"version\":9,\"method\":\"x\",\"parameters\":{}}\0", false);
    assert_eq!(late, b"{\"error\":\"io.gpuhub.Broker.VersionMismatch\"}\0");
    let _: Status = b.client().call(Call::GetStatus(Nothing {}), T).unwrap();
}

#[test]
fn only_root_logs_people_in() {
    let b = Broker::start("peers", "");
    add_user(&b, "alice");
    let socket = b.socket();
    let as_nobody = std::thread::spawn(move || {
        // SAFETY: the raw system call changes the credentials of this thread alone, which ends here.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(done, 0);
        let connect = || Client::connect(&socket, T).unwrap();
        let found: UserReply = connect()
            .call(Call::GetUser(UserQuery { name: Some("alice".into()), uid: None, login: false }), T)
            .unwrap();
        assert_eq!(found.user.name, "alice", "lookups are open");
        let login = connect().call::<Step>(begin("alice", "sshd"), T);
        assert_eq!(login.err(), Some(CallError::Protocol));
        let account = Context { user: "alice".into(), service: "sshd".into(), ..Context::default() };
        assert_eq!(connect().call::<Verdict>(Call::Account(account), T).err(), Some(CallError::Protocol));
        let admin = Call::Admin(Admin::UserDel(NameQuery { name: "alice".into() }));
        assert_eq!(connect().call::<AdminReply>(admin, T).err(), Some(CallError::Protocol));
    });
    as_nobody.join().unwrap();
    assert_eq!(log_in(&b, "alice", PASSWORD), Code::Success);
}

#[test]
fn a_conversation_takes_answers_only() {
    let b = Broker::start("state", "");
    add_user(&b, "alice");
    let mut c = b.client();
    let _: Step = c.call(begin("alice", "sshd"), T).unwrap();
    let second = c.call::<Step>(begin("alice", "sshd"), T);
    assert_eq!(second.err(), Some(CallError::Protocol));
    b.audited(&["cancelled", "alice"]);
    assert_eq!(log_in(&b, "alice", PASSWORD), Code::Success);
}

#[test]
fn each_refusal_has_its_code_and_its_line() {
    let b = Broker::start("codes", "[access]\ntries = 3\ndeny_users = [\"carol\"]\n");
    add_user(&b, "alice");
    add_user(&b, "carol");
    assert_eq!(log_in(&b, "alice", PASSWORD), Code::Success);
    b.audited(&["\"auth\"", "alice", "\"ok\"", "\"password\"", "builtin"]);
    assert_eq!(log_in(&b, "alice", "wrong"), Code::AuthErr);
    b.audited(&["alice", "wrong-password"]);
    assert_eq!(log_in(&b, "alice", ""), Code::AuthErr);
    b.audited(&["alice", "empty-password"]);
    assert_eq!(log_in(&b, "nobody-here", PASSWORD), Code::UserUnknown);
    b.audited(&["nobody-here", "unknown-user"]);
    assert_eq!(log_in(&b, "bad:name", PASSWORD), Code::UserUnknown);
    b.audited(&["\"?\"", "bad-name"]);
    assert_eq!(log_in(&b, "carol", PASSWORD), Code::PermDenied);
    b.audited(&["carol", "not-allowed"]);
    assert_eq!(log_in(&b, "alice", "wrong"), Code::AuthErr);
    assert_eq!(log_in(&b, "alice", "wrong"), Code::AuthErr);
    assert_eq!(log_in(&b, "alice", "wrong"), Code::MaxTries);
    b.audited(&["alice", "too-many-tries"]);
    assert_eq!(log_in(&b, "alice", PASSWORD), Code::MaxTries, "locked is locked");
    let all = b.audit().join("\n");
    assert!(!all.contains(PASSWORD) && !all.contains("bad:name"), "{all}");
}

#[test]
fn the_account_decides_for_key_logins() {
    let b = Broker::start("account", "[access]\ndeny_users = [\"carol\"]\n");
    add_user(&b, "alice");
    add_user(&b, "carol");
    let key = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let verdict = |user: &str| -> Code {
        let context = Context {
            user: user.into(),
            service: "sshd".into(),
            ssh_auth_info: Some(key.into()),
            ..Context::default()
        };
        b.client().call::<Verdict>(Call::Account(context), T).unwrap().code
    };
    assert_eq!(verdict("alice"), Code::Success);
    b.audited(&["\"account\"", "alice", "publickey", "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]);
    assert_eq!(verdict("carol"), Code::PermDenied);
    assert_eq!(verdict("stranger"), Code::UserUnknown, "somebody else's business");
    let del = Call::Admin(Admin::UserDel(NameQuery { name: "alice".into() }));
    let _: AdminReply = b.client().call(del, T).unwrap();
    assert_eq!(verdict("alice"), Code::PermDenied, "whom NSS may still remember must not slip past pam_unix");
}

#[test]
fn killed_in_a_login_it_comes_back_with_everybody() {
    let mut b = Broker::start("killed", "");
    add_user(&b, "alice");
    let mut c = b.client();
    let _: Step = c.call(begin("alice", "sshd"), T).unwrap();
    b.kill();
    let started = Instant::now();
    assert_eq!(c.call::<Step>(answer(PASSWORD), T).err(), Some(CallError::Protocol));
    assert!(started.elapsed() < Duration::from_secs(5), "a clean end, not a wait");
    assert_eq!(Client::connect(&b.socket(), T).err(), Some(CallError::NoBroker));
    b.restart();
    assert_eq!(log_in(&b, "alice", PASSWORD), Code::Success);
}

#[test]
fn killed_again_and_again_while_it_publishes() {
    let mut b = Broker::start("storm", "");
    for round in 0..8u64 {
        add_user(&b, &format!("user{round}"));
        let socket = b.socket();
        let storm = std::thread::spawn(move || {
            for i in 0.. {
                let Ok(mut c) = Client::connect(&socket, T) else { return };
                let new = NewGroup { name: format!("g{round}-{i}"), gid: None };
                if c.call::<AdminReply>(Call::Admin(Admin::GroupAdd(new)), T).is_err() {
                    return;
                }
            }
        });
        std::thread::sleep(Duration::from_millis(40 + 13 * round));
        b.kill();
        storm.join().unwrap();
        // Whatever the file is now, it is a whole snapshot.
        let kept = gpuhub_common::snapshot::Published::open_existing(&b.dir.join("run/snapshot"));
        assert!(kept.is_ok(), "{kept:?}");
        b.restart();
        for known in 0..=round {
            assert_eq!(log_in(&b, &format!("user{known}"), PASSWORD), Code::Success);
        }
    }
    let left: Vec<_> = std::fs::read_dir(b.dir.join("run")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.len() <= 3, "unfinished files are cleared away: {left:?}");
}

#[test]
fn sessions_are_opened_and_closed_with_their_duration() {
    let mut b = Broker::start("sessions", "");
    add_user(&b, "alice");
    let context = Context {
        user: "alice".into(),
        service: "jupyterhub".into(),
        source: Some("192.0.2.7".into()),
        ..Context::default()
    };
    let ready: Ready = b.client().call(Call::OpenSession(context.clone()), T).unwrap();
    let id = ready.session.unwrap();
    b.audited(&["session-open", &id, "192.0.2.7"]);
    b.kill();
    b.restart();
    let close = CloseSession { context: context.clone(), session: None };
    let _: Nothing = b.client().call(Call::CloseSession(close), T).unwrap();
    b.audited(&["session-close", &id, "duration_s"]);
    let again = CloseSession { context, session: Some(id) };
    assert!(b.client().call::<Nothing>(Call::CloseSession(again), T).is_err());
}

#[test]
fn passwords_are_changed_by_their_owner() {
    let b = Broker::start("chauthtok", "");
    add_user(&b, "alice");
    let change = |answers: &[&str]| -> Code {
        let mut c = b.client();
        let context = Context { user: "alice".into(), service: "passwd".into(), ..Context::default() };
        let mut step: Step = c.call(Call::Begin(Begin { purpose: Purpose::ChangePassword, context }), T).unwrap();
        for text in answers {
            assert!(matches!(step.next, Next::Prompt(_)), "{step:?}");
            step = c.call(answer(text), T).unwrap();
        }
        match step.next {
            Next::Done(code) => code,
            Next::Prompt(p) => panic!("{p:?}"),
        }
    };
    assert_eq!(change(&["wrong"]), Code::AuthErr);
    let new = "Another horse 2";
    assert_eq!(change(&[PASSWORD, "short", "short", new, "typo", new, new]), Code::Success);
    b.audited(&["password-change", "alice", "\"ok\""]);
    assert_eq!(log_in(&b, "alice", PASSWORD), Code::AuthErr);
    assert_eq!(log_in(&b, "alice", new), Code::Success);
}
