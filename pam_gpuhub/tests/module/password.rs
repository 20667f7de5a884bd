//! chauthtok.

use crate::broker::{self, Broker};
use crate::space::Space;
use gpuhub_common::wire::{Call, Code};

/// Debian's common-password with ours before it.
const DEBIAN: &str = "\
password [success=2 user_unknown=ignore default=die] MODULE
password [success=1 default=ignore] pam_unix.so obscure yescrypt use_authtok try_first_pass
password requisite pam_deny.so
password required pam_permit.so
";

fn ask(call: &Call, nth: usize, end: Code) -> broker::Say {
    match (call, nth) {
        (Call::Account(_), _) => broker::verdict(Code::NewAuthtokReqd, &[]),
        (_, 0) => broker::prompt(false, "Current password: ", &[]),
        (_, 1) => broker::prompt(false, "New password: ", &[]),
        (_, 2) => broker::prompt(false, "Again: ", &[]),
        _ => broker::done(end, &[]),
    }
}

#[test]
fn a_change_is_a_conversation() {
    for operation in ["chauthtok", "chauthtok(PAM_CHANGE_EXPIRED_AUTHTOK)"] {
        let space = Space::new();
        space.service("debian", DEBIAN);
        let broker = Broker::at(&space.socket(), |call, nth| ask(call, nth, Code::Success));
        space.pamtester(&["debian", "alice", operation], "old\nnew\nnew\n").succeeded();
        let heard = broker.heard();
        assert_eq!(
            heard[heard.len() - 4..],
            [
                "begin ChangePassword alice debian None None".to_owned(),
                "answer old".to_owned(),
                "answer new".to_owned(),
                "answer new".to_owned()
            ]
        );
    }
}

#[test]
fn a_refused_change_is_reported() {
    for (code, words) in
        [(Code::AuthtokErr, "Authentication token manipulation error"), (Code::AuthErr, "Authentication failure")]
    {
        for stack in [DEBIAN, "password required MODULE\n"] {
            let space = Space::new();
            space.service("stack", stack);
            Broker::at(&space.socket(), move |call, nth| ask(call, nth, code));
            space.pamtester(&["stack", "alice", "chauthtok"], "old\nnew\nnew\n").failed_with(words);
        }
    }
}

#[test]
fn only_what_has_expired_is_changed_where_the_application_says_so() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    space.pamtester(&["test", "alice", "chauthtok(PAM_CHANGE_EXPIRED_AUTHTOK)"], "").succeeded();
    assert_eq!(broker.heard(), ["account alice None"]);
}

#[test]
fn without_a_broker_nothing_is_changed() {
    let space = Space::new();
    let end = space.pamtester(&["test", "alice", "chauthtok"], "old\nnew\nnew\n");
    assert!(!end.ok && end.says("not running"), "{}", end.text);
    assert!(end.our_log()[0].contains(r#"event="password" result="denied""#));
}
