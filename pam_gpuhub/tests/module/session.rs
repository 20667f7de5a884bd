//! setcred, open_session, close_session: homes and the session's id.

use crate::broker::{self, Broker, Say};
use crate::space::{self, Space};
use gpuhub_common::wire::{Call, ErrorCode};
use std::os::unix::fs::MetadataExt;

const CRED_ERR: &str = "Failure setting user credentials";
const CRED_UNAVAIL: &str = "Authentication service cannot retrieve user credentials";
const SESSION_ERR: &str = "Cannot make/remove an entry for the specified session";

#[track_caller]
fn assert_home(space: &Space) {
    let home = std::fs::metadata(space.path("home/alice")).unwrap();
    assert_eq!((home.uid(), home.gid(), home.mode() & 0o7777), (20001, 20001, 0o700));
    assert_eq!(std::fs::metadata(space.path("home/alice/.profile")).unwrap().uid(), 20001);
}

#[test]
fn setcred_makes_the_home() {
    for flag in ["PAM_ESTABLISH_CRED", "PAM_REINITIALIZE_CRED"] {
        let space = Space::new();
        let broker = Broker::at(&space.socket(), broker::alice);
        space.pamtester(&["test", "alice", &format!("setcred({flag})")], "").succeeded();
        assert_home(&space);
        assert_eq!(broker.heard(), ["establish alice"]);
    }
}

#[test]
fn refreshing_credentials_needs_no_broker() {
    let space = Space::new();
    space.pamtester(&["test", "alice", "setcred(PAM_REFRESH_CRED)"], "").succeeded();
}

#[test]
fn a_session_makes_the_home_and_keeps_its_id_to_the_end() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    let end = space.pamtester(&["test", "alice", "open_session", "close_session"], "");
    end.succeeded();
    assert!(end.says("GPUHUB_SESSION=s-1"), "in the session's environment: {}", end.text);
    assert_home(&space);
    assert_eq!(broker.heard(), ["open alice", r#"close alice Some("s-1")"#]);
}

#[test]
fn a_close_on_another_handle_takes_what_it_has() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    space.pamtester(&["test", "alice", "close_session"], "").succeeded();
    space.pamtester(&["-E", "GPUHUB_SESSION=s-7", "test", "alice", "close_session"], "").succeeded();
    space.pamtester(&["-E", "GPUHUB_SESSION=no id", "test", "alice", "close_session"], "").succeeded();
    assert_eq!(broker.heard(), ["close alice None", r#"close alice Some("s-7")"#, "close alice None"]);
}

#[test]
fn entries_that_must_not_be_believed_are_refused_before_a_file_is_touched() {
    for (name, uid) in [("alice", 0), ("alice", 1500), ("alice", 61184), ("bob", 20001), ("lola", 20001)] {
        let space = Space::new();
        let broker = Broker::at(&space.socket(), move |call, nth| match call {
            Call::Establish(_) | Call::OpenSession(_) => broker::ready(name, uid, "/home/alice"),
            _ => broker::alice(call, nth),
        });
        let end = space.pamtester(&["test", "alice", "setcred(PAM_ESTABLISH_CRED)"], "");
        end.failed_with(CRED_ERR);
        assert!(end.our_log()[0].contains("entry-refused"), "{:?}", end.log);
        space.pamtester(&["test", "alice", "open_session"], "").failed_with(SESSION_ERR);
        assert!(!space::exists(&space.path("home/alice")));
        assert_eq!(broker.heard(), ["establish alice", "open alice", r#"close alice Some("s-1")"#]);
    }
}

#[test]
fn without_a_home_nobody_comes_in() {
    let space = Space::new();
    Broker::at(&space.socket(), broker::alice);
    std::fs::write(space.path("home/alice"), "not a directory").unwrap();
    let end = space.pamtester(&["test", "alice", "setcred(PAM_ESTABLISH_CRED)"], "");
    end.failed_with(CRED_ERR);
    assert!(end.says("Your home directory could not be made."), "{}", end.text);
    assert!(end.our_log()[0].ends_with(r#"reason="home-not-a-directory""#), "{:?}", end.log);
    space.pamtester(&["test", "alice", "open_session"], "").failed_with(SESSION_ERR);
}

#[test]
fn a_home_in_a_system_directory_is_refused() {
    let space = Space::new();
    Broker::at(&space.socket(), |call, nth| match call {
        Call::Establish(_) => broker::ready("alice", 20001, "/etc/gpuhub-test-home/alice"),
        _ => broker::alice(call, nth),
    });
    space.pamtester(&["test", "alice", "setcred(PAM_ESTABLISH_CRED)"], "").failed_with(CRED_ERR);
    assert!(!std::path::Path::new("/etc/gpuhub-test-home").exists());
}

#[test]
fn an_outage_after_the_account_check_costs_the_record_only() {
    let space = Space::new();
    let end = space.pamtester(&["test", "alice", "open_session", "close_session"], "");
    end.succeeded();
    let lines = end.our_log();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(r#"event="session-open" result="unrecorded" user="alice""#), "{lines:?}");
    assert!(lines[1].contains(r#"event="session-close" result="unrecorded" user="alice""#), "{lines:?}");
    // setcred comes before she is in.
    space.pamtester(&["test", "alice", "setcred(PAM_ESTABLISH_CRED)"], "").failed_with(CRED_UNAVAIL);
}

#[test]
fn a_broker_that_hangs_up_or_knows_her_not() {
    let space = Space::new();
    Broker::at(&space.socket(), |_, _| Say::HangUp);
    space.pamtester(&["test", "alice", "open_session"], "").failed_with(SESSION_ERR);
    space.pamtester(&["test", "alice", "close_session"], "").succeeded();
    let space = Space::new();
    Broker::at(&space.socket(), |_, _| broker::error(ErrorCode::NoSuchEntry));
    space.pamtester(&["test", "alice", "open_session"], "").failed_with("User not known");
    // The stack ignores it, and pam_unix sets what it sets for everybody.
    space.pamtester(&["test", "alice", "setcred(PAM_ESTABLISH_CRED)"], "").succeeded();
}
