//! The module under a host that converses as JupyterHub's pamela does: `examples/hub_host.rs`.

use crate::broker::{self, Broker};
use crate::space::{Ended, Space};
use gpuhub_common::wire::{Call, Code};

fn hub(space: &Space, user: &str, password: &str, times: u32) -> Ended {
    space.service(
        "hub",
        "auth [success=done user_unknown=ignore default=die] MODULE\nauth required pam_deny.so\naccount required MODULE\n",
    );
    let times = times.to_string();
    // target/debug/deps/module-… → target/debug/examples/hub_host, built with the tests.
    let host = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/hub_host");
    let set = |name: &str, value: &str| format!("{name}={value}");
    let args =
        [&set("HUB_USER", user), &set("HUB_PASSWORD", password), &set("HUB_TIMES", &times), host.to_str().unwrap()];
    space.run("env", &args, "")
}

#[test]
fn the_form_s_password_logs_in_and_the_home_is_made() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), |call, nth| match call {
        Call::Begin(_) => broker::prompt(false, "Password: ", &["nobody sees this"]),
        _ => broker::alice(call, nth),
    });
    let end = hub(&space, "alice", "right", 1);
    assert!(end.says("code 0\n"), "{}", end.text);
    assert!(space.path("home/alice").is_dir());
    assert_eq!(
        broker.heard(),
        ["begin Authenticate alice hub None None", "answer right", "establish alice", "account alice None"]
    );
}

#[test]
fn prompts_that_the_form_cannot_answer_end_the_login() {
    for echo in [true, false] {
        let space = Space::new();
        let broker = Broker::at(&space.socket(), move |call, _| match call {
            Call::Begin(_) => broker::password(),
            _ => broker::prompt(echo, "One-time code: ", &[]),
        });
        let end = hub(&space, "alice", "right", 1);
        assert!(end.says("code 19\n"), "{}", end.text);
        assert_eq!(broker.heard().len(), 2);
    }
}

#[test]
fn an_application_without_a_name_is_asked_for_one() {
    let space = Space::new();
    let broker = Broker::at(&space.socket(), broker::alice);
    // This one cannot tell: the question is a visible prompt.
    let end = hub(&space, "", "right", 1);
    assert!(end.says("code 19\n"), "{}", end.text);
    assert!(broker.heard().is_empty());
}

#[test]
fn a_denial_s_code_reaches_the_hub() {
    let space = Space::new();
    Broker::at(&space.socket(), |_, _| broker::done(Code::CredInsufficient, &["!this service cannot show a code"]));
    assert!(hub(&space, "alice", "right", 1).says("code 8\n"));
}

/// libpam opens and closes the .so at each login.
#[test]
fn a_host_that_lives_long_loses_no_memory_and_no_descriptor() {
    let space = Space::new();
    Broker::at(&space.socket(), broker::alice);
    let end = hub(&space, "alice", "right", 400);
    assert_eq!(end.text.matches("code 0\n").count(), 400);
    let line = end.text.lines().find(|line| line.starts_with("pages")).unwrap();
    let numbers: Vec<i64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] < 64 && numbers[1] == 0, "after 350 logins: {line}");
}
