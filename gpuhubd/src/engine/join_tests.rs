//! People of a directory who sign in at an identity provider: whom a sign-in there lets in, and as whom.

use super::again_tests::seal;
use super::tests::{Box_, a_box_with, person};
use super::visits::{by_key, visit, visit_meanwhile};
use super::*;
use crate::dialog::Dialog;
use crate::model::{Person, Reason};
use crate::provider::grant::AskAgain;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Code, IdmapCall, IdmapReply, Named, Next, PasscodeCall, PasscodeProof, PasscodeReply};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A box whose directory's people sign in at `sso`; alice is `a-1` there, as her entry says.
fn a_joined_box(test: &str, rules: Rules) -> Box_ {
    let b = a_box_with(test, rules);
    b.sso.for_others.store(true, Ordering::Relaxed);
    b.corp.people.lock().unwrap().push(alice());
    b.sso.people.lock().unwrap().push(person("sso", "a-1", "subject-1", &[("strangers", None)]));
    knows(&b, &[("alice", &["a-0", "a-1"])]);
    b
}

fn alice() -> Person {
    Person {
        uid: Some(20001.into()),
        home: Some("/data/alice".into()),
        ..person("corp", "alice", "1", &[("ml", Some(21002))])
    }
}

/// What their entries say.
fn knows(b: &Box_, values: &[(&str, &[&str])]) {
    let values = values.iter().map(|(n, v)| ((*n).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()));
    *b.corp.joins.lock().unwrap() = Some(("sso", values.collect::<HashMap<_, _>>()));
}

fn passcodes() -> Rules {
    Rules { passcode: Passcode { enabled: true, one_time: true, ..Passcode::default() }, ..Rules::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn she_is_who_her_directory_says_and_proves_it_elsewhere() {
    let b = a_joined_box("join", Rules::default());
    let seen = visit(&b, "alice", "sshd", &[]).await;
    assert_eq!((seen.code, &seen.prompts[..]), (Code::Success, &["Press Enter: ".to_owned()][..]));
    let known = b.engine.store.person("alice").unwrap().unwrap();
    assert_eq!((known.provider.as_str(), known.key, known.passwd.uid), ("corp", alice().key, 20001));
    assert_eq!((known.passwd.home.as_str(), b.engine.store.gids_of("alice").unwrap()), ("/data/alice", vec![21002]));
    assert_eq!(by_key(&b, "alice").await, Code::Success);
    // Nobody else can prove that she is alice, and no password is asked.
    b.sso.people.lock().unwrap()[0] = person("sso", "b-1", "subject-2", &[]);
    let seen = visit(&b, "alice", "sshd", &[]).await;
    assert_eq!((seen.code, &seen.prompts[..]), (Code::AuthErr, &["Press Enter: ".to_owned()][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_has_nobody_of_its_own() {
    let b = a_joined_box("nobody", Rules::default());
    b.sso.people.lock().unwrap().push(person("sso", "dave", "4", &[]));
    let promised = b.engine.user(UserKey::Name("dave"), Asker::Login).await;
    assert_eq!(promised, Err(LookupError::NoSuchEntry), "no entry is promised");
    let seen = visit(&b, "dave", "sshd", &["x"]).await;
    assert_eq!(
        (seen.code, &seen.prompts[..]),
        (Code::UserUnknown, &["Password: ".to_owned()][..]),
        "and no code shown"
    );
    // Who was its own before the directory was, is not any more; nor does the directory's inherit her home.
    b.engine.store.bind("erin", &person("sso", "erin", "5", &[]).key).unwrap();
    b.engine.absorb(&person("sso", "erin", "5", &[])).await.unwrap();
    assert_eq!(visit(&b, "erin", "sshd", &["x"]).await.code, Code::UserUnknown);
    b.sso.people.lock().unwrap().push(person("sso", "erin", "5", &[]));
    b.corp.away.store(true, Ordering::Relaxed);
    assert_eq!(visit(&b, "erin", "sshd", &["x"]).await.prompts, ["Password: "], "nor is she while it is away");
    b.corp.away.store(false, Ordering::Relaxed);
    b.corp.people.lock().unwrap().push(person("corp", "erin", "6", &[]));
    knows(&b, &[("erin", &["a-1"])]);
    assert_eq!(visit(&b, "erin", "sshd", &[]).await.code, Code::PermDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_and_entry_belong_together_from_the_first_sign_in_on() {
    let b = a_joined_box("pin", Rules::default());
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    // Her value is another account's by now.
    let theirs = |subject: &str| b.sso.people.lock().unwrap()[0] = person("sso", "a-1", subject, &[]);
    theirs("subject-2");
    let seen = visit(&b, "alice", "sshd", &[]).await;
    assert_eq!(seen.code, Code::PermDenied);
    assert!(seen.told[0].contains("belongs to another person"), "{seen:?}");
    // Her account is nobody else's, whatever an entry says.
    theirs("subject-1");
    b.corp.people.lock().unwrap().push(person("corp", "bob", "2", &[]));
    knows(&b, &[("alice", &["a-1"]), ("bob", &["a-1"])]);
    assert_eq!(visit(&b, "bob", "sshd", &[]).await.code, Code::PermDenied);
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    // Unless the administrator says that she has another one.
    let caller = Caller { listener: "test".into(), uid: 0, pid: None };
    let untie = |name: &str| b.engine.idmap(&caller, IdmapCall::Untie(Named { name: name.into() }));
    for nobody in ["bob", "nemo"] {
        assert!(matches!(untie(nobody).await, IdmapReply::Refused(_)), "{nobody}");
    }
    assert!(matches!(untie("alice").await, IdmapReply::Changed(_)));
    theirs("subject-2");
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    // Who is refused by a rule is tied to nothing.
    let rules = crate::config::AccessRules { deny_users: vec!["alice".into()], ..Default::default() };
    let b = a_joined_box("pin-refused", Rules { access: Access { rules, ..Access::default() }, ..Rules::default() });
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::PermDenied);
    let (key, at) = (alice().key, person("sso", "x", "subject-9", &[]).key);
    assert_eq!(b.engine.store.join(&key, &at, 1).unwrap(), crate::store::Joined::Hers);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_does_not_say_who_she_is_there() {
    let b = a_joined_box("no-value", passcodes());
    knows(&b, &[]);
    for service in ["sshd", "jupyterhub"] {
        let seen = visit(&b, "alice", service, &["x"]).await;
        assert_eq!((seen.code, &seen.prompts[..]), (Code::PermDenied, &["Password: ".to_owned()][..]), "{service}");
    }
    assert_eq!(by_key(&b, "alice").await, Code::Success, "her key is the directory's business");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_she_is_at_her_browser_counts() {
    let b = a_joined_box("meanwhile", Rules::default());
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    let locked = || b.corp.people.lock().unwrap()[0].standing = crate::model::Standing::Locked;
    assert_eq!(visit_meanwhile(&b, "alice", "sshd", &[], locked).await.code, Code::AcctExpired);
    *b.corp.people.lock().unwrap() = vec![alice()];
    let other_value = || knows(&b, &[("alice", &["a-2"])]);
    assert_eq!(visit_meanwhile(&b, "alice", "sshd", &[], other_value).await.code, Code::AuthErr);
    knows(&b, &[("alice", &["a-1"])]);
    let another = || b.corp.people.lock().unwrap()[0].key.subject = "2".into();
    assert_eq!(visit_meanwhile(&b, "alice", "sshd", &[], another).await.code, Code::AuthErr);
    *b.corp.people.lock().unwrap() = vec![alice()];
    assert_eq!(
        visit_meanwhile(&b, "alice", "sshd", &[], || b.corp.people.lock().unwrap().clear()).await.code,
        Code::AcctExpired
    );
    assert_eq!(by_key(&b, "alice").await, Code::PermDenied, "nor does a key let her in");
    *b.corp.people.lock().unwrap() = vec![alice()];
    let away = || b.corp.away.store(true, Ordering::Relaxed);
    assert_eq!(visit_meanwhile(&b, "alice", "sshd", &[], away).await.code, Code::AuthinfoUnavail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_takes_her_passcode_or_code_or_token_and_no_password() {
    let b = a_joined_box("form", passcodes());
    let horse = "correct Horse";
    b.sso.tokens.store(true, Ordering::Relaxed);
    assert_eq!(visit(&b, "alice", "jupyterhub", &["her password"]).await.code, Code::UserUnknown, "not seen yet");
    assert_eq!(visit(&b, "alice", "sshd", &["", horse, horse]).await.code, Code::Success);
    for (answer, code) in [(horse, Code::Success), ("her password", Code::AuthErr)] {
        let seen = visit(&b, "alice", "jupyterhub", &[answer]).await;
        assert_eq!((seen.code, &seen.prompts[..]), (code, &["Password: ".to_owned()][..]), "{answer}");
    }
    // A passcode opens no window for a code.
    let caller = Caller { listener: "test".into(), uid: 20001, pid: None };
    let old = || PasscodeProof { old: Secret::new(horse.as_bytes()), name: None };
    let PasscodeReply::Code(once) = b.engine.passcode(&caller, PasscodeCall::Once(old())).await else { panic!() };
    let once = once.code.expose_str().unwrap().to_owned();
    for code in [Code::Success, Code::AuthErr] {
        assert_eq!(visit(&b, "alice", "jupyterhub", &[&once]).await.code, code);
    }
    for (token, code) in [("eyJ.x.alice", Code::Success), ("eyJ.x.bob", Code::AuthErr)] {
        assert_eq!(visit(&b, "alice", "jupyterhub", &[token]).await.code, code, "{token}");
    }
    // They are hers as long as her directory has her, and are no other's of her name.
    b.corp.people.lock().unwrap()[0].standing = crate::model::Standing::Locked;
    assert_eq!(visit(&b, "alice", "jupyterhub", &[horse]).await.code, Code::AcctExpired);
    *b.corp.people.lock().unwrap() = vec![Person { key: person("corp", "x", "9", &[]).key, ..alice() }];
    assert_ne!(visit(&b, "alice", "jupyterhub", &[horse]).await.code, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_passcodes_a_form_refuses_her_and_her_password_is_changed_nowhere() {
    let b = a_joined_box("closed", Rules::default());
    assert_eq!(visit(&b, "alice", "jupyterhub", &["x"]).await.code, Code::CredInsufficient);
    let (dialog, mut far) = Dialog::pair();
    let context = Context { user: "alice".into(), service: "passwd".into(), ..Context::default() };
    let told = async {
        let step = far.steps.recv().await.unwrap();
        assert!(matches!(step.next, Next::Done(Code::AuthtokErr)), "{step:?}");
        step.messages.into_iter().map(|m| m.text).collect::<String>()
    };
    let ((), told) = tokio::join!(b.engine.change_password(&context, dialog), told);
    assert!(told.contains("change it there"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_may_rename_her() {
    let b = a_joined_box("renamed", Rules::default());
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    *b.corp.people.lock().unwrap() = vec![Person { name: person("corp", "alicia", "1", &[]).name, ..alice() }];
    knows(&b, &[("alicia", &["a-1"])]);
    assert_eq!(visit(&b, "alicia", "sshd", &[]).await.code, Code::Success, "her account there is the same");
    assert_eq!(b.engine.store.person("alicia").unwrap().unwrap().passwd.uid, 20001);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_are_asked_whether_she_may_still_come_in() {
    let b = a_joined_box("join-again", Rules { seal: Some(seal("join")), ..Rules::default() });
    let hours = |n: u64| Duration::from_secs(n * 3600);
    *b.sso.asks_again.lock().unwrap() = Some(AskAgain { at_login: Duration::ZERO, every: hours(1), grace: hours(8) });
    let asked = || b.sso.renewals.load(Ordering::Relaxed);
    // The directory vouches for her, and a key is no first proof all the same.
    b.engine.user(UserKey::Name("alice"), Asker::Login).await.unwrap();
    assert_eq!((by_key(&b, "alice").await, asked()), (Reason::SignInNeeded.code(), 0));
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    // Her name there is another one by now; she is who she was when she signed in.
    b.sso.people.lock().unwrap()[0] = person("sso", "a-2", "subject-1", &[("strangers", None)]);
    assert_eq!((by_key(&b, "alice").await, asked()), (Code::Success, 1));
    assert_eq!(b.engine.store.gids_of("alice").unwrap(), [21002], "groups are the directory's");
    b.corp.people.lock().unwrap().clear();
    assert_eq!((by_key(&b, "alice").await, asked()), (Code::PermDenied, 1));
    b.corp.people.lock().unwrap().push(alice());
    assert_eq!(by_key(&b, "alice").await, Code::Success);
    // Untied, since it was not she: nor does her key count for who signed in.
    b.engine.untie("alice").unwrap();
    assert_eq!(by_key(&b, "alice").await, Reason::SignInNeeded.code());
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::AuthErr, "she is another one there by now");
    knows(&b, &[("alice", &["a-2"])]);
    assert_eq!(visit(&b, "alice", "sshd", &[]).await.code, Code::Success);
    b.sso.people.lock().unwrap().clear();
    assert_eq!(by_key(&b, "alice").await, Reason::NotHonoured.code());
}
