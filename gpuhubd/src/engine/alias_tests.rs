//! Who is meant by another login name, and whom nobody gets by one.

use super::super::UserKey;
use super::super::tests::{Box_, a_box, person};
use super::*;
use std::sync::atomic::Ordering;

const ANYBODY: Asker = Asker::Anybody(1000);
const TYPED: &str = "ada@corp.example";

/// A box whose directory has ada, and says so each time.
fn with_ada(test: &str) -> Box_ {
    let b = a_box(test);
    b.corp.forgetful.store(true, Ordering::Relaxed);
    b.corp.people.lock().unwrap().push(person("corp", "ada", "1", &[]));
    b.corp.aliases.lock().unwrap().insert(TYPED.into(), "ada".into());
    b
}

async fn own_name(b: &Box_, typed: &str, asker: Asker) -> Result<String, LookupError> {
    b.engine.own_name(typed.to_owned(), asker).await
}

/// What a moment ago was is long ago now.
fn a_moment_later(b: &Box_) {
    b.engine.aliases.all().clear();
}

fn context(typed: &str) -> Context {
    Context { user: typed.into(), service: "sshd".into(), ..Context::default() }
}

#[tokio::test]
async fn an_alias_leads_to_the_one_name_and_others_stay_as_they_are() {
    let b = with_ada("alias");
    assert_eq!(own_name(&b, "Ada@CORP.example", ANYBODY).await.as_deref(), Ok("ada"));
    for typed in ["ada", "bob", "bob@corp.example", "not a name@"] {
        assert_eq!(own_name(&b, typed, ANYBODY).await.as_deref(), Ok(typed));
    }
    let context = b.engine.by_own_name(context(TYPED)).await;
    assert_eq!((context.user.as_str(), context.typed.as_deref()), ("ada", Some(TYPED)));
}

#[tokio::test]
async fn while_the_directory_is_away_it_is_whose_it_was_and_what_is_new_cannot_be_known() {
    let b = with_ada("alias-away");
    assert_eq!(own_name(&b, TYPED, Asker::Login).await.as_deref(), Ok("ada"));
    a_moment_later(&b);
    b.corp.away.store(true, Ordering::Relaxed);
    assert_eq!(own_name(&b, TYPED, ANYBODY).await.as_deref(), Ok("ada"));
    assert_eq!(b.engine.by_known_name(context(TYPED)).user, "ada");
    assert_eq!(own_name(&b, "bob@corp.example", ANYBODY).await, Err(LookupError::Unavailable));
    let nobody = b.engine.by_own_name(context("bob@corp.example")).await;
    assert_eq!((nobody.user.as_str(), nobody.typed), ("bob@corp.example", None));
}

#[tokio::test]
async fn an_alias_that_was_given_to_somebody_else_is_hers_and_one_that_was_taken_away_nobody_s() {
    let b = with_ada("alias-moves");
    assert_eq!(own_name(&b, TYPED, ANYBODY).await.as_deref(), Ok("ada"));
    a_moment_later(&b);
    b.corp.aliases.lock().unwrap().insert(TYPED.into(), "eve".into());
    assert_eq!(own_name(&b, TYPED, Asker::Login).await.as_deref(), Ok("eve"));
    a_moment_later(&b);
    b.corp.aliases.lock().unwrap().clear();
    assert_eq!(own_name(&b, TYPED, Asker::Login).await.as_deref(), Ok(TYPED));
    b.corp.away.store(true, Ordering::Relaxed);
    assert_eq!(own_name(&b, TYPED, Asker::Login).await, Err(LookupError::Unavailable), "nor is it remembered");
}

#[tokio::test]
async fn no_alias_leads_to_another_provider_s_people_or_takes_a_name() {
    let b = with_ada("alias-theft");
    b.corp
        .people
        .lock()
        .unwrap()
        .extend([person("sso", "bob", "b", &[]), person("corp", "real@corp.example", "r", &[])]);
    for (alias, name) in [("b@corp.example", "bob"), ("real@corp.example", "ada")] {
        b.corp.aliases.lock().unwrap().insert(alias.into(), name.into());
    }
    for known in ["bob", "real@corp.example"] {
        b.engine.user(UserKey::Name(known), ANYBODY).await.unwrap();
    }
    for typed in ["b@corp.example", "real@corp.example"] {
        assert_eq!(own_name(&b, typed, Asker::Login).await.as_deref(), Ok(typed));
    }
}
