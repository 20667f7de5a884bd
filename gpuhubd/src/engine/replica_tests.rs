//! What is told, what is not, and what follows when nobody tells any more.

use super::super::tests::{Box_, a_box, person};
use super::super::{Asker, GroupKey, UserKey};
use super::*;
use crate::model::GroupClaim;
use gpuhub_common::name::{GroupName, UserName};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

const PATIENCE: Duration = Duration::from_secs(20);
const ANYBODY: Asker = Asker::Anybody(1000);

/// A box whose directory counts as known for so long after it was heard of.
fn replica(test: &str, bound: Duration) -> Box_ {
    let b = a_box(test);
    b.corp.forgetful.store(true, Ordering::Relaxed);
    *b.corp.replica.lock().unwrap() = Some(bound);
    b
}

fn alice() -> Person {
    person("corp", "alice", "1", &[("ml", Some(80_001))])
}

fn group(members: &[&str]) -> DirectoryGroup {
    let claim = GroupClaim { name: GroupName::new("ml").unwrap(), gid: Some(80_001.into()) };
    DirectoryGroup { claim, members: members.iter().map(|m| UserName::new(m).unwrap()).collect() }
}

fn names(names: &[&str]) -> Option<HashSet<String>> {
    Some(names.iter().map(|n| (*n).to_owned()).collect())
}

async fn tell(b: &Box_, news: News) {
    b.engine.hear(b.corp.as_ref(), news, &mut Undecided::default()).await;
}

async fn tell_all(b: &Box_) {
    let update = Update { people: vec![alice()], groups: vec![group(&["alice"])], ..Update::default() };
    tell(b, News::Update(update)).await;
    tell(b, News::Whole(Whole { people: names(&["alice"]), groups: names(&["ml"]) })).await;
    tell(b, News::Contact(Contact::default())).await;
}

fn is_complete(b: &Box_) -> bool {
    b.engine.replicas.is_complete(b.corp.as_ref())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_while_it_is_heard_of_and_everybody_when_it_is_not() {
    let b = replica("replica-asked", Duration::from_secs(2));
    // The directory has him, and has not told of him yet.
    b.corp.people.lock().unwrap().push(person("corp", "bob", "2", &[]));
    assert!(!is_complete(&b), "nothing was told");
    tell_all(&b).await;
    assert!(is_complete(&b));
    assert_eq!(
        b.engine.user(UserKey::Name("alice"), ANYBODY).await.unwrap().name,
        "alice",
        "the directory would not say so"
    );
    assert_eq!(b.engine.user(UserKey::Name("bob"), ANYBODY).await, Err(LookupError::NoSuchEntry));
    assert_eq!(b.engine.group(GroupKey::Gid(80_002), ANYBODY).await, Err(LookupError::NoSuchEntry));
    assert_eq!(b.engine.ask_for_user("bob").await.unwrap().name, "bob", "the administrator asks");

    let start = Instant::now();
    while is_complete(&b) {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    b.engine.watch().await;
    assert_eq!(b.engine.user(UserKey::Name("alice"), ANYBODY).await, Err(LookupError::NoSuchEntry), "now it is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_among_all_is_gone_unless_nobody_can_say() {
    let b = replica("replica-gone", PATIENCE);
    tell_all(&b).await;
    let is_there = || !b.engine.store.person("alice").unwrap().unwrap().gone;
    let has_group = || b.engine.store.group("ml").unwrap().is_some();
    for unsure in [Whole::default(), Whole { people: names(&[]), groups: names(&[]) }] {
        tell(&b, News::Whole(unsure)).await;
        assert!(is_there() && has_group());
    }
    tell(&b, News::Whole(Whole { people: names(&["bob"]), groups: names(&["other"]) })).await;
    assert!(!is_there() && !has_group());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_goes_only_with_the_key_that_had_it() {
    let b = replica("replica-key", PATIENCE);
    tell_all(&b).await;
    let gone = |subject: &str| {
        let person = person("corp", "alice", subject, &[]);
        News::Update(Update { gone: vec![(person.name, person.key)], ..Update::default() })
    };
    tell(&b, gone("2")).await;
    assert!(!b.engine.store.person("alice").unwrap().unwrap().gone, "another's end");
    tell(&b, gone("1")).await;
    assert!(b.engine.store.person("alice").unwrap().unwrap().gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unclear_is_not_vouched_for_and_what_is_expired_is_asked_for() {
    let b = replica("replica-unclear", PATIENCE);
    tell_all(&b).await;
    tell(&b, News::Contact(Contact { unclear: Some("two of one name".into()), ..Contact::default() })).await;
    assert!(!is_complete(&b));
    assert!(b.engine.is_fresh("corp", 5), "what is known is so");
    assert_eq!(b.engine.store.expire("corp", Some("alice")).unwrap(), 1);
    let expired = b.engine.store.person("alice").unwrap().unwrap().fetched_at;
    assert!(!b.engine.is_fresh("corp", expired));
}
