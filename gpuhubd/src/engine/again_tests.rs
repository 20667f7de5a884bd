//! Somebody who signed in once, and what her provider says of her later.

use super::again::Word;
use super::passcode_tests::on;
use super::tests::{Box_, a_box_with, person};
use super::visits::{by_key, verdict, visit};
use super::*;
use crate::model::{PersonKey, Reason};
use crate::provider::grant::AskAgain;
use crate::store::{Granted, unix_now};
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::Code;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const RULE: AskAgain =
    AskAgain { at_login: MINUTE, every: Duration::from_secs(3600), grace: Duration::from_secs(7200) };

pub(super) fn seal(test: &str) -> Arc<Seal> {
    let path = std::env::temp_dir().join(format!("gpuhub-again-{test}-{}", std::process::id()));
    let seal = Seal::of_file(&path).unwrap();
    std::fs::remove_file(Path::new(&path)).unwrap();
    Arc::new(seal)
}

/// dave of `sso`, who has signed in just now.
async fn a_box_with_dave(test: &str) -> Box_ {
    let rules = Rules { passcode: on(), seal: Some(seal(test)), ..Rules::default() };
    let b = a_box_with(test, rules);
    *b.sso.asks_again.lock().unwrap() = Some(RULE);
    b.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[("ml", None)]));
    b.engine.user(UserKey::Name("dave"), Asker::Login).await.unwrap();
    sign_in(&b).await;
    b
}

async fn sign_in(b: &Box_) {
    assert_eq!(visit(b, "dave", "sshd", &[""]).await.code, Code::Success);
}

async fn code(b: &Box_) -> Code {
    by_key(b, "dave").await
}

fn granted(b: &Box_) -> Granted {
    let key = b.engine.store.person("dave").unwrap().unwrap().key;
    b.engine.store.granted("dave", &key).unwrap().unwrap()
}

/// All that is known of dave is older by so much, or as old.
fn age(b: &Box_, by: Duration) {
    let at = unix_now() - i64::try_from(by.as_secs()).unwrap();
    b.engine.store.grant(&Granted { confirmed_at: at, asked_at: at, ..granted(b) }).unwrap();
    // Nor was it silent a moment ago.
    b.engine.asking.forget_silence();
}

fn asked(b: &Box_) -> u32 {
    b.sso.renewals.load(Ordering::Relaxed)
}

fn away(b: &Box_, away: bool) {
    b.sso.away.store(away, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_there_comes_in_no_longer_than_its_word_is_good() {
    let b = a_box_with_dave("again-disabled").await;
    b.sso.people.lock().unwrap().clear();
    assert_eq!((code(&b).await, asked(&b)), (Code::Success, 0), "its word is fresh");
    age(&b, MINUTE * 2);
    let refused = verdict(&b, "dave").await;
    assert_eq!((refused.code, asked(&b)), (Code::AcctExpired, 1));
    assert!(refused.messages.iter().any(|m| Some(m.text.as_str()) == Reason::NotHonoured.told()));
    assert_eq!(granted(&b).token, None, "what is worth nothing is not kept");
    // Nor is it asked about that again; even though it is away.
    assert_eq!((code(&b).await, asked(&b)), (Code::AcctExpired, 1));
    away(&b, true);
    assert_eq!(code(&b).await, Code::AcctExpired);
    away(&b, false);
    // Enabled again she has to show it once.
    b.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[]));
    assert_eq!(code(&b).await, Code::AcctExpired);
    sign_in(&b).await;
    assert_eq!(code(&b).await, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_word_is_renewed_and_so_is_the_token() {
    let b = a_box_with_dave("again-renewed").await;
    for n in 1..4 {
        age(&b, MINUTE * 2);
        assert_eq!((code(&b).await, asked(&b)), (Code::Success, n), "each token is good once");
        assert_eq!((code(&b).await, asked(&b)), (Code::Success, n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_word_counts_while_it_is_away_for_so_long() {
    let b = a_box_with_dave("again-grace").await;
    away(&b, true);
    age(&b, RULE.grace - MINUTE);
    assert_eq!(code(&b).await, Code::Success);
    age(&b, RULE.grace + MINUTE);
    assert_eq!(code(&b).await, Code::AuthinfoUnavail);
    away(&b, false);
    b.engine.asking.forget_silence();
    assert_eq!(code(&b).await, Code::Success, "it answers, and says yes");
    // A no is one whether it is away or not.
    b.engine.store.refused("dave", &granted(&b).token.unwrap(), "not-allowed", false).unwrap();
    away(&b, true);
    assert_eq!(code(&b).await, Code::AuthinfoUnavail);
    b.engine.asking.forget_silence();
    away(&b, false);
    assert_eq!(code(&b).await, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_asks_once() {
    let b = a_box_with_dave("again-crowd").await;
    age(&b, MINUTE * 2);
    let logins = futures_util::future::join_all((0..20).map(|_| code(&b))).await;
    assert!(logins.iter().all(|code| *code == Code::Success), "a token that is used twice is good for nobody");
    assert_eq!(asked(&b), 1);
}

/// What the schedule reads of a hundred people at once is old when the last of them has her turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_replaced_meanwhile_is_not_asked_with() {
    let b = a_box_with_dave("again-stale").await;
    age(&b, MINUTE * 2);
    let (stale, sso): (_, Arc<dyn Provider>) = (granted(&b), b.sso.clone());
    assert_eq!((code(&b).await, asked(&b)), (Code::Success, 1));
    let dave = UserName::new("dave").unwrap();
    let word = b.engine.question(&sso, &dave, stale.clone()).await;
    assert!(matches!(word, Word::Yes(_)) && asked(&b) == 1, "{word:?}");
    age(&b, MINUTE * 2);
    let stale = Granted { confirmed_at: unix_now(), ..stale };
    let word = b.engine.question(&sso, &dave, stale).await;
    assert!(matches!(word, Word::Yes(_)) && asked(&b) == 2, "with the token that is good now: {word:?}");
    assert_eq!(granted(&b).refused, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_loses_no_token() {
    let b = a_box_with_dave("again-gone").await;
    age(&b, MINUTE * 2);
    let before = granted(&b).token;
    assert!(tokio::time::timeout(Duration::from_millis(20), code(&b)).await.is_err());
    let deadline = Instant::now() + Duration::from_secs(10);
    while granted(&b).token == before && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    age(&b, MINUTE * 2);
    assert_eq!((code(&b).await, asked(&b)), (Code::Success, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_follow_by_the_same_call() {
    let b = a_box_with_dave("again-groups").await;
    let groups = || {
        let gids = b.engine.store.gids_of("dave").unwrap();
        gids.into_iter().map(|gid| b.engine.store.group_by_gid(gid).unwrap().unwrap().group.name).collect::<Vec<_>>()
    };
    assert!(groups().contains(&"ml".into()) && !groups().contains(&"vision".into()));
    *b.sso.people.lock().unwrap() = vec![person("sso", "dave", "1", &[("vision", None)])];
    age(&b, MINUTE * 2);
    assert_eq!(code(&b).await, Code::Success);
    assert!(groups().contains(&"vision".into()) && !groups().contains(&"ml".into()), "{:?}", groups());
    // And on a schedule, with nobody logging in.
    *b.sso.people.lock().unwrap() = vec![person("sso", "dave", "1", &[("ml", None)])];
    let sso: Arc<dyn Provider> = b.sso.clone();
    b.engine.ask_for_all(&sso, RULE.every).await;
    assert!(groups().contains(&"vision".into()), "not due yet");
    age(&b, RULE.every * 2);
    b.engine.ask_for_all(&sso, RULE.every).await;
    assert!(groups().contains(&"ml".into()) && !groups().contains(&"vision".into()), "{:?}", groups());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_notes_who_is_not_honoured_any_more() {
    let b = a_box_with_dave("again-schedule").await;
    b.sso.people.lock().unwrap().clear();
    age(&b, RULE.every * 2);
    let sso: Arc<dyn Provider> = b.sso.clone();
    b.engine.ask_for_all(&sso, RULE.every).await;
    assert_eq!(granted(&b).refused.as_deref(), Some("not-honoured"));
    b.engine.ask_for_all(&sso, RULE.every).await;
    assert_eq!(asked(&b), 1);
    assert_eq!(code(&b).await, Code::AcctExpired);
}

#[tokio::test(flavor = "multi_thread")]
async fn passcodes_are_good_while_she_is_honoured() {
    let b = a_box_with_dave("again-passcode").await;
    const HORSE: &str = "correct Horse";
    let key = b.engine.store.person("dave").unwrap().unwrap().key;
    b.engine
        .passcodes
        .set("dave", &key, &Secret::new(HORSE.as_bytes()).unwrap(), crate::store::SetBy::SignIn)
        .await
        .unwrap();
    // However long ago she signed in: her provider is asked.
    b.engine.store.signed_in("dave", &key, 1).unwrap();
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::Success);
    b.sso.people.lock().unwrap().clear();
    age(&b, MINUTE * 2);
    assert_eq!(visit(&b, "dave", "jupyterhub", &["wrong"]).await.code, Code::AuthErr);
    assert_eq!(asked(&b), 0, "nobody learns of it who does not know her passcode");
    assert_eq!(visit(&b, "dave", "jupyterhub", &[HORSE]).await.code, Code::AcctExpired);
    assert_eq!(asked(&b), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_whom_nothing_is_known_has_to_sign_in() {
    let b = a_box_with_dave("again-never").await;
    let key = b.engine.store.person("dave").unwrap().unwrap().key;
    // Nothing to ask with: its word counts as if it were away.
    b.engine.store.grant(&Granted { token: None, ..granted(&b) }).unwrap();
    age(&b, RULE.grace - MINUTE);
    assert_eq!(code(&b).await, Code::Success);
    age(&b, RULE.grace + MINUTE);
    assert_eq!(code(&b).await, Reason::SignInNeeded.code());
    sign_in(&b).await;
    assert_eq!(code(&b).await, Code::Success);
    // Signed in elsewhere, or at one that is another provider by now.
    let there = PersonKey { issuer: "before".into(), ..key.clone() };
    b.engine.store.grant(&Granted { there, ..granted(&b) }).unwrap();
    assert_eq!(code(&b).await, Reason::SignInNeeded.code());
    sign_in(&b).await;
    // Sealed by a key that is no more, or moved from another's row.
    b.engine.store.grant(&Granted { token: seal("again-other").seal("dave", b"r0"), ..granted(&b) }).unwrap();
    age(&b, MINUTE * 2);
    assert_eq!((code(&b).await, asked(&b)), (Reason::SignInNeeded.code(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tokens_that_are_somebody_else_s_are_a_no() {
    let b = a_box_with_dave("again-other").await;
    *b.sso.people.lock().unwrap() = vec![person("sso", "dave", "2", &[])];
    b.sso.confused.store(true, Ordering::Relaxed);
    age(&b, MINUTE * 2);
    assert_eq!(code(&b).await, Reason::WrongSubject.code());
    assert_eq!(granted(&b).refused.as_deref(), Some("wrong-subject"));
    away(&b, true);
    assert_ne!(code(&b).await, Code::Success, "nor does the word of before count any more");
}
