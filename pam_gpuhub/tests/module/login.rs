//! authenticate and acct_mgmt.

use crate::broker::{self, Broker, Say};
use crate::space::Space;
use gpuhub_common::wire::{Call, Code, ErrorCode};
use std::time::Duration;

/// pam_strerror(3) of each code.
fn words(code: Code) -> &'static str {
    match code {
        Code::Success => "done",
        Code::PermDenied => "Permission denied",
        Code::AuthErr => "Authentication failure",
        Code::CredInsufficient => "Insufficient credentials to access authentication data",
        Code::AuthinfoUnavail => UNAVAILABLE,
        Code::UserUnknown => "User not known to the underlying authentication module",
        Code::MaxTries => "Have exhausted maximum number of retries for service",
        Code::NewAuthtokReqd => "Authentication token is no longer valid; new one required",
        Code::AcctExpired => "User account has expired",
        Code::SessionErr => "Cannot make/remove an entry for the specified session",
        Code::AuthtokErr => "Authentication token manipulation error",
        Code::SystemErr => "System error",
    }
}

const UNAVAILABLE: &str = "Authentication service cannot retrieve authentication info";

#[test]
fn the_right_password_and_who_asks_from_where() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    let end = space.pamtester(
        &["-I", "rhost=192.0.2.7", "-I", "tty=ssh", "test", "alice", "authenticate", "acct_mgmt"],
        "right\n",
    );
    end.succeeded();
    assert!(end.says("Password: "));
    assert_eq!(
        broker.heard(),
        [r#"begin Authenticate alice test Some("192.0.2.7") Some("ssh")"#, "answer right", "account alice None"]
    );
    assert!(end.our_log().is_empty());
}

#[test]
fn a_wrong_or_empty_password_is_denied_and_delayed() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    for typed in ["wrong\n", "\n"] {
        let end = space.pamtester(&["test", "alice", "authenticate"], typed);
        end.failed_with(words(Code::AuthErr));
        // Two seconds, which libpam varies by up to a half.
        assert!(end.took > Duration::from_millis(900), "{:?}", end.took);
        assert_eq!(end.text.matches("assword").count(), 1, "{}", end.text);
    }
    assert_eq!(broker.heard().len(), 4);
}

#[test]
fn every_code_of_the_broker_arrives() {
    for code in Code::ALL {
        let space = Space::new();
        space.service("bare", "auth required MODULE\naccount required MODULE\n");
        Broker::at(&space.socket(), move |call, _| match call {
            Call::Account(_) => broker::verdict(code, &["a word of the broker"]),
            _ => broker::done(code, &[]),
        });
        let end = space.pamtester(&["bare", "alice", "acct_mgmt"], "");
        assert_eq!(end.ok, code == Code::Success);
        assert!(end.says(words(code)) && end.says("a word of the broker"), "{code:?}: {}", end.text);
        assert_eq!(space.pamtester(&["bare", "alice", "authenticate"], "").ok, code == Code::Success);
        assert!(!space.pamtester(&["bare", "alice", "acct_mgmt(PAM_SILENT)"], "").says("a word"));
    }
}

#[test]
fn a_device_login_with_prompts_as_the_broker_wrote_them() {
    const CODE: &str = "\nOpen https://idp.example/device\nand enter WDJB-MJHT, then press Enter: ";
    let space = Space::new();
    let broker = Broker::at(&space.socket(), |_, nth| match nth {
        0 => broker::prompt(true, "Passcode: ", &["from 192.0.2.7", "!careful"]),
        1 => broker::prompt(false, CODE, &[]),
        _ => broker::done(Code::Success, &["Welcome, alice."]),
    });
    let end = space.pamtester(&["test", "alice", "authenticate"], "1234\n\n");
    end.succeeded();
    for text in ["from 192.0.2.7", "!careful", "Passcode: ", CODE, "Welcome, alice."] {
        assert!(end.says(text), "{text:?}: {}", end.text);
    }
    assert_eq!(broker.heard()[1..], ["answer 1234", "answer "]);
}

#[test]
fn the_key_of_a_key_login_is_told_to_the_account_check() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    let key = "publickey ssh-ed25519 AAAAC3Nz";
    space.pamtester(&["-E", &format!("SSH_AUTH_INFO_0={key}"), "test", "alice", "acct_mgmt"], "").succeeded();
    assert_eq!(broker.heard(), [format!("account alice Some({key:?})")]);
}

#[test]
fn a_dead_broker_denies_and_says_so() {
    let space = Space::new();
    for (operation, event) in [("authenticate", "auth"), ("acct_mgmt", "account")] {
        let end = space.pamtester(&["test", "alice", operation], "right\n");
        end.failed_with(UNAVAILABLE);
        assert!(end.says("Sign-in is unavailable: the identity broker is not running."), "{}", end.text);
        let [line] = end.our_log()[..] else { panic!("{:?}", end.log) };
        let want = format!(r#"event="{event}" result="denied" user="alice" service="test" reason="broker-down""#);
        assert!(line.starts_with("<8") && line.ends_with(&want), "authpriv, and {want}: {line}");
    }
}

#[test]
fn where_no_broker_was_ever_started_people_of_ours_are_denied_too() {
    let space = Space::new();
    std::fs::remove_dir(space.path("gpuhub")).unwrap();
    for operation in ["authenticate", "acct_mgmt"] {
        let end = space.pamtester(&["test", "alice", operation], "right\n");
        end.failed_with(UNAVAILABLE);
        assert!(end.our_log()[0].contains("broker-never-started"));
    }
}

#[test]
fn a_broker_that_dies_or_raves_in_a_login_denies_at_once() {
    let raves: [fn() -> Say; 4] = [
        || Say::HangUp,
        || Say::Reply("garbage\0".into()),
        || Say::Reply("{\"parameters\":{\"next\":{\"done\":\"ignore\"}}}\0".into()),
        || broker::error(ErrorCode::Busy),
    ];
    for rave in raves {
        let space = Space::new();
        Broker::at(&space.socket(), move |call, nth| {
            if nth == 0 && matches!(call, Call::Begin(_)) { broker::password() } else { rave() }
        });
        let end = space.pamtester(&["test", "alice", "authenticate"], "right\n");
        end.failed_with(UNAVAILABLE);
        assert!(end.took < Duration::from_secs(6));
        assert_eq!(end.our_log().len(), 1);
        assert!(!end.log.concat().contains("right"), "no secret in a log");
        space.pamtester(&["test", "alice", "acct_mgmt"], "").failed_with(UNAVAILABLE);
    }
}

#[test]
fn a_silent_broker_is_given_up_on() {
    let space = Space::new();
    Broker::at(&space.socket(), |_, _| Say::Nothing);
    let end = space.pamtester(&["test", "alice", "acct_mgmt"], "");
    end.failed_with(UNAVAILABLE);
    assert!(end.took > Duration::from_secs(9) && end.took < Duration::from_secs(14), "{:?}", end.took);
    assert!(end.our_log()[0].contains("broker-timeout"));
}

#[test]
fn hanging_up_at_the_prompt_cancels() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    space.pamtester(&["test", "alice", "authenticate"], "").failed_with("Conversation error");
    assert_eq!(broker.heard().len(), 1, "nothing was answered");
}
