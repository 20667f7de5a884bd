//! Beside other modules: whose login it is, and what goes on to pam_unix.

use crate::broker::{self, Broker};
use crate::space::Space;
use gpuhub_common::wire::{Call, Code};
use std::os::unix::net::UnixListener;

const UNKNOWN: &str = "User not known to the underlying authentication module";
const ALL: [&str; 6] =
    ["authenticate", "acct_mgmt", "setcred(PAM_ESTABLISH_CRED)", "open_session", "close_session", "chauthtok"];

#[test]
fn root_local_users_and_impossible_names_are_not_ours_in_any_hook() {
    let space = Space::new();
    let line = |t: &str| format!("{t} required MODULE\n");
    space.service("bare", &["auth", "account", "session", "password"].map(line).concat());
    let broker = Broker::at(&space.socket(), broker::alice);
    for name in ["root", "lola", "", "a:b", "-x", "1000", "../x", "two words", "a\nb", "é", &"x".repeat(65)] {
        for operation in ALL {
            let end = space.pamtester(&["--", "bare", name, operation], "right\nright\nright\n");
            end.failed_with(UNKNOWN);
            assert!(!end.says("assword: "), "{name:?} {operation}: {}", end.text);
            assert!(end.our_log().is_empty());
        }
    }
    assert!(broker.heard().is_empty(), "{:?}", broker.heard());
}

#[test]
fn a_local_user_logs_in_whatever_the_broker_does() {
    let login = |space: &Space| {
        let end = space.pamtester(&["test", "lola", "authenticate"], "local-secret\n");
        end.succeeded();
        assert_eq!(end.text.matches("assword: ").count(), 1);
        space.pamtester(&["test", "lola", "authenticate"], "wrong\n").failed_with("Authentication failure");
    };
    let running = Space::new();
    Broker::at(&running.socket(), broker::alice);
    login(&running);
    let dead = Space::new();
    login(&dead);
    let stuck = Space::new();
    let _listener = UnixListener::bind(stuck.socket()).unwrap();
    login(&stuck);
    let never = Space::new();
    std::fs::remove_dir(never.path("gpuhub")).unwrap();
    login(&never);
}

#[test]
fn without_a_readable_passwd_nobody_is_taken_for_ours() {
    let space = Space::new();
    std::fs::remove_file(space.path("passwd")).unwrap();
    // open(2) of a socket fails, for root too.
    let _socket = UnixListener::bind(space.path("passwd")).unwrap();
    let broker = Broker::at(&space.socket(), broker::alice);
    let end = space.pamtester(&["test", "alice", "authenticate"], "right\n");
    end.failed_with("Authentication service cannot retrieve authentication info");
    assert!(end.our_log()[0].contains("passwd-unreadable"), "{:?}", end.log);
    assert!(broker.heard().is_empty());
}

#[test]
fn a_name_that_nobody_knows_is_asked_once() {
    let space = Space::new();
    Broker::at(
        &space.socket(),
        |_, nth| if nth == 0 { broker::password() } else { broker::done(Code::UserUnknown, &[]) },
    );
    for typed in ["guess\n", "\n"] {
        let end = space.pamtester(&["test", "nobody-here", "authenticate"], typed);
        assert!(!end.ok);
        assert_eq!(end.text.matches("assword: ").count(), 1, "pam_unix takes what was typed: {}", end.text);
    }
}

#[test]
fn a_password_that_was_asked_for_before_is_taken_where_the_stack_says_so() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    // pam_unix asks, does not know her, and leaves the password behind.
    for (argument, prompts) in [("try_first_pass", 1), ("use_first_pass", 1), ("", 2)] {
        space.service("after", &format!("auth optional pam_unix.so\nauth required MODULE {argument}\n"));
        let end = space.pamtester(&["after", "alice", "authenticate"], "right\nright\n");
        end.succeeded();
        assert_eq!(end.text.matches("assword: ").count(), prompts, "{argument}: {}", end.text);
    }
    assert_eq!(broker.heard().len(), 6);
}

#[test]
fn use_first_pass_never_asks() {
    let space = Space::new();
    space.service("strict", "auth required MODULE use_first_pass\n");
    let broker = Broker::at(&space.socket(), broker::alice);
    let end = space.pamtester(&["strict", "alice", "authenticate"], "right\n");
    end.failed_with("Authentication failure");
    assert!(!end.says("assword: "));
    assert_eq!(broker.heard().len(), 1);
    // A second question is one too many.
    let space = Space::new();
    space.service("strict", "auth optional pam_unix.so\nauth required MODULE use_first_pass\n");
    let broker = Broker::at(&space.socket(), |call, _| match call {
        Call::Begin(_) => broker::password(),
        _ => broker::prompt(false, "One-time code: ", &[]),
    });
    let end = space.pamtester(&["strict", "alice", "authenticate"], "right\n123456\n");
    end.failed_with("Authentication failure");
    assert!(!end.says("One-time code"));
    assert_eq!(broker.heard().len(), 2);
}
