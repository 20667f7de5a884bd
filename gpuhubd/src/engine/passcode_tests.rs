//! Passcodes and one-time codes, from the sign-in that they come from to the login that they are for.

use super::tests::{Box_, a_box_with, person};
use super::visits::visit;
use super::*;
use crate::config::{DurationText, ServiceMode};
use crate::store::unix_now;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{
    Code, NewPasscode, PasscodeCall, PasscodeOf, PasscodeProof, PasscodeReply, PasscodeStatus, ProofOfHer,
};
use std::time::Duration;

const HORSE: &str = "correct Horse";

fn rules(passcode: Passcode) -> Rules {
    Rules { passcode, ..Rules::default() }
}

pub(super) fn on() -> Passcode {
    Passcode { enabled: true, one_time: true, ..Passcode::default() }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

/// dave of `sso`, who has signed in once, and answered so what he was asked after it.
async fn a_box_with_dave(test: &str, rules: Rules, answers: &[&str]) -> (Box_, u32) {
    let b = a_box_with(test, rules);
    b.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[]));
    let promised = b.engine.user(UserKey::Name("dave"), Asker::Login).await.unwrap();
    let answers: Vec<&str> = [&[""], answers].concat();
    assert_eq!(visit(&b, "dave", "sshd", &answers).await.code, Code::Success);
    (b, promised.uid)
}

async fn call(b: &Box_, uid: u32, call: PasscodeCall) -> PasscodeReply {
    b.engine.passcode(&Caller { listener: "test".into(), uid, pid: None }, call).await
}

fn set(new: &str, old: Option<&str>) -> PasscodeCall {
    PasscodeCall::Set(NewPasscode { passcode: secret(new), old: old.map(secret) })
}

fn proof(old: Option<&str>) -> PasscodeProof {
    PasscodeProof { old: old.map(secret), name: None }
}

fn is_done(reply: &PasscodeReply) -> bool {
    matches!(reply, PasscodeReply::Done(_))
}

fn refused(reply: PasscodeReply) -> String {
    match reply {
        PasscodeReply::Refused(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

fn code(reply: PasscodeReply) -> String {
    match reply {
        PasscodeReply::Code(given) => given.code.expose_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

async fn status(b: &Box_, uid: u32) -> PasscodeStatus {
    match call(b, uid, PasscodeCall::Status(PasscodeOf::default())).await {
        PasscodeReply::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offered_after_a_sign_in_and_good_for_the_hub() {
    let (b, uid) = a_box_with_dave("pass-offer", rules(on()), &["short", HORSE, "another", HORSE, HORSE]).await;
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::Success);
    assert_eq!(visit(&b, "dave", "jupyterhub", &["correct horse"]).await.code, Code::AuthErr);
    assert_eq!(visit(&b, "dave", "jupyterhub", &[""]).await.code, Code::AuthErr);
    assert_eq!(visit(&b, "dave", "sudo", &[HORSE]).await.code, Code::CredInsufficient, "not among the services");
    assert_eq!(visit(&b, "dave", "sshd", &[HORSE]).await.prompts, ["Press Enter: "], "no way round the provider");
    assert_eq!(status(&b, uid).await.set_by.as_deref(), Some("sign-in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn not_offered_every_time() {
    let (b, _) = a_box_with_dave("pass-decline", rules(on()), &[""]).await;
    assert_eq!(visit(&b, "dave", "sshd", &[]).await.prompts.len(), 1, "declined a moment ago");
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AuthErr);
    let (b, _) = a_box_with_dave("pass-off", rules(Passcode::default()), &[]).await;
    let seen = visit(&b, "dave", "sshd", &[]).await;
    assert_eq!((seen.prompts.len(), seen.told.len()), (1, 0), "switched off");
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::CredInsufficient);
}

/// Who has none, who never was here, and who gives a wrong one: all the same but for the audit log.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_learned_by_a_wrong_one() {
    let (b, _) = a_box_with_dave("pass-same", rules(on()), &[HORSE, HORSE]).await;
    b.sso.people.lock().unwrap().push(person("sso", "erin", "2", &[]));
    b.engine.user(UserKey::Name("erin"), Asker::Login).await.unwrap();
    assert_eq!(visit(&b, "erin", "sshd", &[]).await.code, Code::Success);
    let wrong = visit(&b, "dave", "jupyterhub", &["wrong"]).await;
    assert_eq!(wrong, visit(&b, "erin", "jupyterhub", &["wrong"]).await);
    let never = visit(&b, "nemo", "jupyterhub", &["wrong"]).await;
    assert_eq!((&wrong.prompts, &wrong.told), (&never.prompts, &never.told));
    assert_eq!(wrong.told.len(), 1);
    let rules = Passcode { tries: 1, ..on() };
    let (b, _) = a_box_with_dave("pass-same-locked", self::rules(rules), &[HORSE, HORSE]).await;
    assert_eq!(visit(&b, "dave", "jupyterhub", &["wrong"]).await, wrong);
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await, wrong, "it is locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_opens_a_window_for_one_thing() {
    let (b, uid) = a_box_with_dave("pass-window", rules(on()), &[""]).await;
    assert_eq!(status(&b, uid).await.proof, ProofOfHer::SignIn);
    assert!(is_done(&call(&b, uid, set(HORSE, None)).await));
    assert_eq!(status(&b, uid).await.proof, ProofOfHer::OldPasscode);
    assert!(refused(call(&b, uid, set("another Horse", None)).await).contains("done already"));
    assert!(refused(call(&b, uid, PasscodeCall::Once(proof(None))).await).contains("done already"));
    assert!(refused(call(&b, uid, set("another Horse", Some("wrong"))).await).contains("not your passcode"));
    assert!(is_done(&call(&b, uid, set("another Horse", Some(HORSE))).await));
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AuthErr);
    assert_eq!(visit(&b, "dave", "jupyterhub", &["another Horse"]).await.code, Code::Success);
    // A login by passcode is no sign-in.
    assert!(refused(call(&b, uid, set(HORSE, None)).await).contains("done already"));
    // The next sign-in tells her, once.
    let told = visit(&b, "dave", "sshd", &[]).await.told;
    assert!(told.len() == 1 && told[0].starts_with("A passcode was set for you on "), "{told:?}");
    assert_eq!(visit(&b, "dave", "sshd", &[]).await.told, [""; 0]);
    // And lets her take back what something in her name did in the window.
    assert!(is_done(&call(&b, uid, set("Mallory's one", None)).await));
    assert!(is_done(&call(&b, uid, PasscodeCall::Clear(proof(None))).await));
    assert_eq!(visit(&b, "dave", "jupyterhub", &["Mallory's one"]).await.code, Code::AuthErr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_closes_and_may_be_shut() {
    let closed = Passcode { set_within: DurationText(Duration::ZERO), ..on() };
    let (b, uid) = a_box_with_dave("pass-shut", rules(closed), &[HORSE, HORSE]).await;
    for refusal in
        [call(&b, uid, set("another Horse", None)).await, call(&b, uid, PasscodeCall::Once(proof(None))).await]
    {
        assert!(refused(refusal).contains("no sign-in"));
    }
    assert!(refused(call(&b, uid, PasscodeCall::Clear(proof(None))).await).contains("no sign-in"));
    assert!(code(call(&b, uid, PasscodeCall::Once(proof(Some(HORSE)))).await).contains('-'));
    let brief = Passcode { set_within: DurationText(Duration::from_millis(1)), ..on() };
    let (b, uid) = a_box_with_dave("pass-brief", rules(brief), &[""]).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(refused(call(&b, uid, set(HORSE, None)).await).contains("no sign-in"));
    // Who has set one at the sign-in itself has done the one thing.
    let (b, uid) = a_box_with_dave("pass-done", rules(on()), &[HORSE, HORSE]).await;
    assert!(refused(call(&b, uid, set("another Horse", None)).await).contains("done already"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_herself() {
    let (b, uid) = a_box_with_dave("pass-self", rules(on()), &[""]).await;
    b.corp.people.lock().unwrap().push(person("corp", "alice", "9", &[]));
    let alice = b.engine.user(UserKey::Name("alice"), Asker::Broker).await.unwrap();
    for other in [alice.uid, uid + 1, 1000] {
        assert!(refused(call(&b, other, set(HORSE, None)).await).starts_with("Only people"), "{other}");
    }
    assert!(refused(call(&b, 0, set(HORSE, None)).await).contains("root has none"));
    let of_dave = || PasscodeProof { old: None, name: Some("dave".into()) };
    assert!(is_done(&call(&b, uid, set(HORSE, None)).await));
    assert!(
        refused(call(&b, uid, PasscodeCall::Clear(PasscodeProof { name: Some("erin".into()), old: None })).await)
            .starts_with("Only root")
    );
    assert!(is_done(&call(&b, 0, PasscodeCall::Clear(of_dave())).await), "root needs no proof");
    assert!(refused(call(&b, 0, PasscodeCall::Clear(of_dave())).await).contains("no passcode"));
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AuthErr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_for_one_login() {
    let (b, uid) = a_box_with_dave("pass-once", rules(on()), &[""]).await;
    let given = code(call(&b, uid, PasscodeCall::Once(proof(None))).await);
    assert_eq!(visit(&b, "dave", "jupyterhub", &[&given]).await.code, Code::Success);
    assert_eq!(visit(&b, "dave", "jupyterhub", &[&given]).await.code, Code::AuthErr);
    // Without passcodes there is nothing to give instead of a sign-in.
    let only = Passcode { enabled: false, ..on() };
    let (b, uid) = a_box_with_dave("pass-once-only", rules(only), &[]).await;
    assert!(refused(call(&b, uid, set(HORSE, None)).await).contains("not switched on"));
    let given = code(call(&b, uid, PasscodeCall::Once(proof(None))).await);
    assert_eq!(visit(&b, "dave", "jupyterhub", &[&given]).await.code, Code::Success);
    assert!(refused(call(&b, uid, PasscodeCall::Once(proof(None))).await).contains("done already"));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_her_provider_honours_her() {
    let (b, uid) = a_box_with_dave("pass-stale", rules(on()), &[HORSE, HORSE]).await;
    let key = person("sso", "dave", "1", &[]).key;
    let days_ago = |n: i64| unix_now() - n * 86_400;
    b.engine.store.signed_in("dave", &key, days_ago(8)).unwrap();
    let seen = visit(&b, "dave", "jupyterhub", &[HORSE]).await;
    assert_eq!((seen.code, seen.told.len()), (Code::AuthErr, 1));
    assert!(seen.told[0].contains("too long"), "{seen:?}");
    assert!(refused(call(&b, uid, PasscodeCall::Once(proof(Some(HORSE)))).await).contains("too long ago"));
    let wrong = visit(&b, "dave", "jupyterhub", &["wrong"]).await;
    assert!(!wrong.told[0].contains("too long"), "only who has the right one is told: {wrong:?}");
    b.engine.store.signed_in("dave", &key, days_ago(6)).unwrap();
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::Success);
    // A clock that went back makes nothing fresher.
    b.engine.store.signed_in("dave", &key, days_ago(-1)).unwrap();
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AuthErr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passcode_grows_old() {
    let brief = Passcode { expires: DurationText(Duration::ZERO), offer_every: DurationText(Duration::ZERO), ..on() };
    let (b, uid) = a_box_with_dave("pass-old", rules(brief), &[HORSE, HORSE]).await;
    let seen = visit(&b, "dave", "jupyterhub", &[HORSE]).await;
    assert!(seen.code == Code::AuthErr && seen.told[0].contains("expired"), "{seen:?}");
    let stale = refused(call(&b, uid, PasscodeCall::Once(proof(Some(HORSE)))).await);
    assert!(stale.contains("expired"), "nor does it give out codes: {stale}");
    assert_eq!(visit(&b, "dave", "sshd", &[]).await.prompts.len(), 2, "another is offered");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_rules_hold_for_passcodes_too() {
    let rules = Rules { access: Access { tries: 3, ..Access::default() }, ..rules(on()) };
    let (mut b, _) = a_box_with_dave("pass-rules", rules, &[HORSE, HORSE]).await;
    b.engine.rules.access.rules.deny_users = vec!["dave".into()];
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::PermDenied);
    b.engine.rules.access.rules.deny_users.clear();
    // So does the lockout, which is shorter than the passcode's own.
    for _ in 0..3 {
        assert_eq!(visit(&b, "dave", "jupyterhub", &["wrong"]).await.code, Code::AuthErr);
    }
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::MaxTries);
    assert_eq!(b.engine.rules.services.mode("jupyterhub"), ServiceMode::SinglePrompt);
}

/// Who has a passcode gives it before her provider hears of the login; who has none is asked the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_passcode_before_the_code() {
    const FIRST: &str = "Passcode (Enter alone if you have none): ";
    let (b, _) = a_box_with_dave("pass-first", rules(Passcode { tries: 1, ..on() }), &[HORSE, HORSE]).await;
    b.sso.passcode_first.store(true, std::sync::atomic::Ordering::Relaxed);
    b.sso.people.lock().unwrap().push(person("sso", "erin", "2", &[]));
    b.engine.user(UserKey::Name("erin"), Asker::Login).await.unwrap();
    let wrong = visit(&b, "dave", "sshd", &["wrong"]).await;
    assert_eq!((wrong.code, &wrong.prompts[..]), (Code::AuthErr, &[FIRST.to_owned()][..]), "no code was requested");
    assert_eq!(visit(&b, "erin", "sshd", &["wrong"]).await, wrong, "who has none");
    assert_eq!(visit(&b, "nemo", "sshd", &["wrong"]).await, wrong, "who never was here");
    assert_eq!(visit(&b, "dave", "sshd", &[""]).await, wrong, "Enter alone is for who has none");
    let seen = visit(&b, "erin", "sshd", &["", ""]).await;
    assert_eq!((seen.code, seen.prompts[..2].to_vec()), (Code::Success, vec![FIRST.into(), "Press Enter: ".into()]));
    // By now strangers have locked it for the hub, but nobody out of the sign-in.
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AuthErr);
    assert_eq!(visit(&b, "dave", "sshd", &[HORSE, ""]).await.prompts, [FIRST, "Press Enter: "]);
    assert_eq!(
        visit(&b, "dave", "jupyterhub", &[HORSE]).await.code,
        Code::Success,
        "which has forgiven the wrong ones"
    );
    // The right passcode alone forgives none: somebody might have found it so.
    assert_eq!(visit(&b, "dave", "jupyterhub", &["wrong"]).await.code, Code::AuthErr);
    b.sso.people.lock().unwrap().retain(|p| p.name.as_str() != "dave");
    assert_eq!(visit(&b, "dave", "sshd", &[HORSE, ""]).await.code, Code::AuthErr, "she does not approve");
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AuthErr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_provider_as_the_password() {
    let b = a_box_with("pass-token", Rules::default());
    b.sso.tokens.store(true, std::sync::atomic::Ordering::Relaxed);
    b.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[]));
    for (service, given, code) in [
        ("jupyterhub", "eyJ.x.erin", Code::AuthErr),
        ("sudo", "eyJ.x.dave", Code::UserUnknown),
        ("jupyterhub", "eyJx.dave", Code::UserUnknown),
        ("jupyterhub", "eyJ.x.dave", Code::Success),
        ("sudo", "eyJ.x.dave", Code::CredInsufficient),
        ("jupyterhub", "x", Code::AuthErr),
    ] {
        assert_eq!(visit(&b, "dave", service, &[given]).await.code, code, "{service} {given}");
    }
}

/// A decoy is hashed for who has no passcode. By the fastest of some, within gross bounds.
#[tokio::test(flavor = "multi_thread")]
async fn none_takes_the_time_of_a_wrong_one() {
    let lasting =
        Rules { access: Access { tries: 100, ..Access::default() }, ..rules(Passcode { tries: 100, ..on() }) };
    let (b, _) = a_box_with_dave("pass-time", lasting, &[HORSE, HORSE]).await;
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..5 {
        for (name, fastest) in ["dave", "nemo"].into_iter().zip(&mut fastest) {
            let start = Instant::now();
            visit(&b, name, "jupyterhub", &["wrong"]).await;
            *fastest = start.elapsed().min(*fastest);
        }
    }
    let [dave, nemo] = fastest;
    assert!(nemo * 4 > dave && dave * 4 > nemo, "{fastest:?}");
}
