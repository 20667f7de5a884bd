//! The decisions that no single real server makes happen on demand.

use super::*;
use crate::config::Audit as AuditConfig;
use crate::dialog::Dialog;
use crate::model::{GroupClaim, Method, Person, PersonKey, Reason, Sid, Standing};
use crate::provider::scripted::Scripted;
use crate::publish::{self, View};
use crate::store::{IdKind, Source};
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::secret::Secret;
use gpuhub_common::snapshot::{Lookup, Mapping, Out};
use gpuhub_common::wire::{Code, IdImport, IdRow, IdSpace, IdmapCall, IdmapReply, NewId, Next, Rename};
use std::path::PathBuf;

pub(super) struct Box_ {
    pub(super) engine: Engine,
    dir: PathBuf,
    pub(super) corp: Arc<Scripted>,
    pub(super) sso: Arc<Scripted>,
}

impl Drop for Box_ {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A box with a directory `corp` and, after it, an identity provider `sso`.
pub(super) fn a_box(test: &str) -> Box_ {
    a_box_with(test, Rules::default())
}

pub(super) fn a_box_with(test: &str, rules: Rules) -> Box_ {
    let dir = std::env::temp_dir().join(format!("gpuhub-engine-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let store = Store::in_memory().unwrap();
    let audit = Audit::start("/nonexistent/log", AuditConfig::default().queue, "test").unwrap();
    let publishing = publish::start(store.clone(), dir.join("snapshot"), View::default(), audit.clone());
    let scripted = |name, method| {
        let (people, aliases, joins, replica) =
            (Mutex::default(), Mutex::default(), Mutex::default(), Mutex::default());
        let (away, forgetful, passcode_first, tokens) = (false.into(), false.into(), false.into(), false.into());
        let (asks_again, renewals, confused) = (Mutex::default(), 0.into(), false.into());
        let for_others = false.into();
        Arc::new(Scripted {
            name,
            method,
            people,
            aliases,
            away,
            forgetful,
            passcode_first,
            tokens,
            asks_again,
            renewals,
            confused,
            joins,
            for_others,
            replica,
        })
    };
    let (corp, sso) = (scripted("corp", Method::Password), scripted("sso", Method::DeviceCode));
    let providers: Vec<Arc<dyn Provider>> = vec![corp.clone(), sso.clone()];
    let idmap = Idmap::new(store.clone(), [1_000_000_000, 1_999_999_999], None);
    let engine = Engine::new(rules, store, idmap, providers, publishing, audit);
    Box_ { engine, dir, corp, sso }
}

pub(super) fn person(provider: &str, name: &str, subject: &str, groups: &[(&str, Option<u32>)]) -> Person {
    let claim = |(name, gid): &(&str, Option<u32>)| GroupClaim {
        name: GroupName::new(name).unwrap(),
        gid: gid.map(Into::into),
    };
    Person {
        provider: provider.into(),
        name: UserName::new(name).unwrap(),
        key: PersonKey { issuer: provider.into(), subject: subject.into() },
        full_name: String::new(),
        uid: None,
        gid: None,
        home: None,
        shell: None,
        groups: groups.iter().map(claim).collect(),
        also_in: Vec::new(),
        standing: Standing::Active,
    }
}

fn nobody_s_process() -> Caller {
    Caller { listener: "test".into(), uid: 0, pid: None }
}

async fn log_in(b: &Box_, name: &str) -> Code {
    log_in_from(b, &nobody_s_process(), name).await
}

async fn log_in_from(b: &Box_, caller: &Caller, name: &str) -> Code {
    let (dialog, mut far) = Dialog::pair();
    let context = Context { user: name.into(), service: "sshd".into(), ..Context::default() };
    let person = async {
        loop {
            match far.steps.recv().await.unwrap().next {
                Next::Done(code) => return code,
                Next::Prompt(_) => far.answers.send(Secret::new(b"x").unwrap()).await.unwrap(),
            }
        }
    };
    tokio::join!(b.engine.login(caller, &context, dialog), person).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_login_needs_the_promise_that_sshd_acts_on() {
    let b = a_box("promise");
    b.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[]));
    assert_eq!(log_in(&b, "dave").await, Code::AuthErr, "nobody was promised anything");
    assert!(b.engine.store.person("dave").unwrap().is_none());
    let b_login = a_box("promise-login");
    b_login.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[]));
    assert_eq!(log_in(&b_login, "dave").await, Code::AuthErr);
    assert_eq!(log_in(&b_login, "dave").await, Code::Success, "asked to sign in again, she is let in");
    let promised = b.engine.user(UserKey::Name("dave"), Asker::Login).await.unwrap();
    assert_eq!(log_in(&b, "dave").await, Code::Success);
    assert_eq!(b.engine.user(UserKey::Name("dave"), Asker::Broker).await.unwrap(), promised);
    assert_eq!(log_in(&b, "dave").await, Code::Success, "now she is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_takes_no_promise_back() {
    let b = a_box("failed");
    let promised = b.engine.user(UserKey::Name("dave"), Asker::Login).await.unwrap();
    assert_eq!(log_in(&b, "dave").await, Code::AuthErr, "sso does not have her yet");
    assert!(b.engine.provisional.reserved("erin").contains(&promised.uid), "another connection may rely on it");
    b.sso.people.lock().unwrap().push(person("sso", "dave", "1", &[]));
    assert_eq!(log_in(&b, "dave").await, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_turns_out_otherwise_is_a_refusal_and_the_next_is_right() {
    let b = a_box("otherwise");
    b.engine.user(UserKey::Name("dave"), Asker::Login).await.unwrap();
    let mut dave = person("sso", "dave", "1", &[]);
    dave.home = Some("/data/dave".into());
    b.sso.people.lock().unwrap().push(dave);
    assert_eq!(log_in(&b, "dave").await, Code::AuthErr);
    assert_eq!(b.engine.user(UserKey::Name("dave"), Asker::Login).await.unwrap().home, "/data/dave");
    assert_eq!(log_in(&b, "dave").await, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_stays_with_its_first_key() {
    let b = a_box("key");
    assert!(b.engine.absorb(&person("sso", "dave", "1", &[])).await.is_ok());
    let other = b.engine.absorb(&person("sso", "dave", "2", &[])).await.unwrap_err();
    assert_eq!(other.reason, Reason::NameTaken);
    let renamed = b.engine.absorb(&person("sso", "david", "1", &[])).await.unwrap_err();
    assert_eq!(renamed.reason, Reason::NameTaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_belong_to_the_provider_that_had_them_first() {
    let b = a_box("groups");
    let gids = |name: &str| b.engine.store.gids_of(name).unwrap();
    b.engine.absorb(&person("corp", "alice", "1", &[("ml", Some(5000))])).await.unwrap();
    b.engine.absorb(&person("sso", "dave", "1", &[("ml", None), ("vision", None)])).await.unwrap();
    assert_eq!(gids("alice"), [5000]);
    assert_eq!(gids("dave").len(), 1, "vision, but not the other's ml");
    b.engine.absorb(&person("corp", "bob", "2", &[("vision", Some(6000))])).await.unwrap();
    assert!(gids("bob").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_somebody_s_own_group_by_its_name() {
    let b = a_box("own");
    let (dave, _) = b.engine.absorb(&person("sso", "dave", "1", &[])).await.unwrap();
    b.engine.absorb(&person("sso", "erin", "2", &[("dave", None)])).await.unwrap();
    assert!(!b.engine.store.gids_of("erin").unwrap().contains(&dave.gid));
    // The other way round: a group of her name does not keep frank out.
    b.engine.absorb(&person("corp", "alice", "1", &[("frank", Some(7000))])).await.unwrap();
    let (frank, _) = b.engine.absorb(&person("sso", "frank", "3", &[])).await.unwrap();
    assert_ne!(frank.gid, 7000);
    assert_eq!(b.engine.store.gids_of("alice").unwrap(), [7000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_gid_is_not_another_provider_s_group() {
    let b = a_box("primary");
    let (dave, _) = b.engine.absorb(&person("sso", "dave", "1", &[])).await.unwrap();
    let mut mallory = person("corp", "mallory", "9", &[]);
    (mallory.uid, mallory.gid) = (Some(20009.into()), Some(dave.gid.into()));
    assert_eq!(b.engine.absorb(&mallory).await.unwrap_err().reason, Reason::EntryRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_another_one_under_the_old_name_knows_nobody() {
    let b = a_box("issuer");
    let mut dave = person("sso", "dave", "1", &[]);
    dave.key.issuer = "the old sso".into();
    b.engine.absorb(&dave).await.unwrap();
    let context = Context { user: "dave".into(), service: "sshd".into(), ..Context::default() };
    assert_eq!(
        b.engine.account(&nobody_s_process(), &context).await.code,
        Code::PermDenied,
        "a key is no proof any more"
    );
    b.corp.people.lock().unwrap().push(person("corp", "dave", "1", &[]));
    assert_eq!(b.engine.account(&nobody_s_process(), &context).await.code, Code::PermDenied, "nor is another dave she");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_her_directory_renames_keeps_ids_and_nobody_inherits_the_old_name() {
    let b = a_box("rename");
    let (alice, _) = b.engine.absorb(&person("corp", "alice", "1", &[("ml", Some(5000))])).await.unwrap();
    let (alicia, _) = b.engine.absorb(&person("corp", "alicia", "1", &[("ml", Some(5000))])).await.unwrap();
    assert_eq!((alicia.uid, alicia.gid), (alice.uid, alice.gid));
    assert_eq!(b.engine.store.gids_of("alicia").unwrap(), [5000]);
    assert_eq!(b.engine.store.person("alice").unwrap(), None);
    assert_eq!(
        b.engine.store.group("alicia").unwrap().unwrap().group.gid,
        alice.gid,
        "the group of her own goes along"
    );
    // Another person who gets the old name later is another person.
    let (second, _) = b.engine.absorb(&person("corp", "alice", "2", &[])).await.unwrap();
    assert_ne!(second.uid, alice.uid);
    // Nobody takes a name that somebody has by a rename.
    let taken = b.engine.absorb(&person("corp", "alice", "1", &[])).await.unwrap_err();
    assert_eq!(taken.reason, Reason::NameTaken);
    let local = b.engine.absorb(&person("corp", "root", "1", &[])).await.unwrap_err();
    assert_eq!(local.reason, Reason::NameTaken);
    assert_eq!(b.engine.store.id_of(IdKind::User, "alicia").unwrap(), Some(alice.uid));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_ids_come_from_in_order() {
    let b = a_box("sources");
    let sid = |rid: u32| Sid::parse("S-1-5-21-123-456-789-0").unwrap().with_rid(rid);
    let source = |name: &str| b.engine.store.given_to(IdKind::User, name).unwrap().unwrap().source;
    // The name alone.
    let nemo = b.engine.absorb(&person("corp", "nemo", "0", &[])).await.unwrap().0;
    assert!((1_000_000_000..=1_999_999_999).contains(&nemo.uid) && nemo.gid == nemo.uid);
    assert_eq!(source("nemo"), Source::Computed);
    // A SID, hers and that of her primary group and of a group of hers.
    let mut alice = person("corp", "alice", "1", &[]);
    (alice.uid, alice.gid) = (Some(sid(1105).into()), Some(sid(513).into()));
    alice.groups = vec![GroupClaim { name: GroupName::new("ml").unwrap(), gid: Some(sid(1200).into()) }];
    let passwd = b.engine.absorb(&alice).await.unwrap().0;
    assert_eq!((passwd.uid, passwd.gid), (1_842_601_105, 1_842_600_513));
    assert_eq!(b.engine.store.gids_of("alice").unwrap(), [1_842_601_200]);
    assert_eq!(source("alice"), Source::Sid);
    // An attribute.
    let mut bob = person("corp", "bob", "2", &[]);
    bob.uid = Some(20001.into());
    assert_eq!(b.engine.absorb(&bob).await.unwrap().0.uid, 20001);
    assert_eq!(source("bob"), Source::Directory);
    // The administrator.
    let caller = Caller { listener: "test".into(), uid: 0, pid: None };
    for (name, id, who) in
        [("nemo", 30001, person("corp", "nemo", "0", &[])), ("alice", 30002, alice), ("bob", 30003, bob)]
    {
        let set = IdmapCall::Set(NewId { kind: IdSpace::User, name: name.into(), id });
        assert!(matches!(b.engine.idmap(&caller, set).await, IdmapReply::Changed(_)));
        assert_eq!(b.engine.absorb(&who).await.unwrap().0.uid, id, "{name}");
        assert_eq!(source(name), Source::Override);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_primary_group_for_all_whose_directory_names_none() {
    let common = GroupClaim { name: GroupName::new("people").unwrap(), gid: None };
    let b = a_box_with("primary", Rules { primary_group: Some(common), ..Rules::default() });
    let alice = b.engine.absorb(&person("corp", "alice", "1", &[])).await.unwrap().0;
    let bob = b.engine.absorb(&person("corp", "bob", "2", &[])).await.unwrap().0;
    let people = b.engine.store.id_of(IdKind::Group, "people").unwrap();
    assert_eq!((Some(alice.gid), Some(bob.gid)), (people, people));
    assert!(alice.uid != alice.gid && b.engine.store.group("alice").unwrap().is_none(), "no group of her own");
    let mut carol = person("corp", "carol", "3", &[]);
    carol.gid = Some(5000.into());
    assert_eq!(b.engine.absorb(&carol).await.unwrap().0.gid, 5000, "the directory's");
    b.sso.people.lock().unwrap().push(person("sso", "erin", "9", &[]));
    let promised = b.engine.user(UserKey::Name("erin"), Asker::Login).await.unwrap();
    assert_eq!(Some(promised.gid), people, "before the first login too");
    assert_eq!(log_in(&b, "erin").await, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_groups_are_joined_by_rule() {
    let b = a_box("local-groups");
    b.engine.store.declare_local_groups(&[(44, vec!["ml".into(), "lab".into()]), (109, vec![])]).unwrap();
    b.engine.absorb(&person("corp", "alice", "1", &[("ml", Some(5000))])).await.unwrap();
    let mut bob = person("corp", "bob", "2", &[]);
    bob.gid = Some(5001.into());
    b.engine.absorb(&bob).await.unwrap();
    assert_eq!(b.engine.store.gids_of("alice").unwrap(), [44, 109, 5000]);
    assert_eq!(b.engine.store.gids_of("bob").unwrap(), [109], "lab is known to nobody yet");
    let lab = GroupClaim { name: GroupName::new("lab").unwrap(), gid: Some(5001.into()) };
    b.engine.take_in_group("corp", &lab, Vec::new()).await.unwrap();
    assert_eq!(b.engine.store.gids_of("bob").unwrap(), [44, 109], "her primary group counts");
    b.engine.absorb(&person("corp", "alice", "1", &[])).await.unwrap();
    assert_eq!(b.engine.store.gids_of("alice").unwrap(), [109], "who leaves ml leaves 44");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_s_id_outranks_the_directory_s() {
    let b = a_box("override");
    let mut alice = person("corp", "alice", "1", &[("ml", Some(5000))]);
    (alice.uid, alice.gid) = (Some(20001.into()), Some(5000.into()));
    assert_eq!(b.engine.absorb(&alice).await.unwrap().0.uid, 20001);
    alice.uid = Some(20002.into());
    assert_eq!(b.engine.absorb(&alice).await.unwrap_err().reason, Reason::NoId, "an attribute does not move files");
    let caller = Caller { listener: "test".into(), uid: 0, pid: None };
    let set = IdmapCall::Set(NewId { kind: IdSpace::User, name: "alice".into(), id: 20003 });
    assert!(matches!(b.engine.idmap(&caller, set).await, IdmapReply::Changed(_)));
    let passwd = b.engine.absorb(&alice).await.unwrap().0;
    assert_eq!((passwd.uid, passwd.gid), (20003, 5000));
    // Also where the directory's own is one that is never given.
    alice.uid = Some(0.into());
    assert_eq!(b.engine.absorb(&alice).await.unwrap().0.uid, 20003);
    let set = IdmapCall::Set(NewId { kind: IdSpace::Group, name: "ml".into(), id: 5001 });
    assert!(matches!(b.engine.idmap(&caller, set).await, IdmapReply::Changed(_)));
    b.engine.absorb(&person("corp", "bob", "2", &[("ml", Some(5000))])).await.unwrap();
    assert_eq!(b.engine.store.gids_of("bob").unwrap(), [5001]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_given_is_not_given_by_a_directory() {
    let b = a_box("never");
    for (n, id) in [0, 1, 999, 61184, 65000, 65519, 65534, 65535, u32::MAX].into_iter().enumerate() {
        let name = format!("mallory{n}");
        let mut uid = person("corp", &name, "m", &[]);
        uid.uid = Some(id.into());
        assert_eq!(b.engine.absorb(&uid).await.unwrap_err().reason, Reason::EntryRefused, "uid {id}");
        let mut gid = person("corp", &name, "m", &[]);
        (gid.uid, gid.gid) = (Some(20001.into()), Some(id.into()));
        assert_eq!(b.engine.absorb(&gid).await.unwrap_err().reason, Reason::EntryRefused, "gid {id}");
        let group = format!("g{n}");
        b.engine.absorb(&person("corp", &format!("user{n}"), &group, &[(&group, Some(id))])).await.unwrap();
        assert!(!b.engine.store.gids_of(&format!("user{n}")).unwrap().contains(&id), "supplementary gid {id}");
        assert_eq!(b.engine.store.name_of_id(IdKind::Group, id).unwrap(), None);
        assert_eq!(b.engine.store.name_of_id(IdKind::User, id).unwrap(), None);
    }
    for group in ["root", "sudo", "wheel", "docker", "shadow", "disk"] {
        b.engine.absorb(&person("corp", "alice", "1", &[(group, Some(70_000)), (group, None)])).await.unwrap();
        assert_eq!(b.engine.store.gids_of("alice").unwrap(), [0u32; 0], "{group}");
    }
    assert_eq!(b.engine.absorb(&person("corp", "root", "9", &[])).await.unwrap_err().reason, Reason::EntryRefused);
}

fn set(kind: IdSpace, name: &str, id: u32) -> (Caller, IdmapCall) {
    let caller = Caller { listener: "test".into(), uid: 0, pid: None };
    (caller, IdmapCall::Set(NewId { kind, name: name.into(), id }))
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_alias_nobody_is_renamed() {
    let b = a_box("alias");
    assert!(b.engine.publishing.publish().await);
    let alice = person("corp", "alice", "1", &[]);
    b.engine.absorb(&alice).await.unwrap();
    b.corp.people.lock().unwrap().push(alice.clone());
    let alias = person("corp", "al", "1", &[]);
    assert_eq!(b.engine.absorb(&alias).await.unwrap_err().reason, Reason::NameTaken);
    assert!(b.engine.store.person("alice").unwrap().is_some_and(|k| !k.gone));
    // Whom the directory does not call so any more is renamed, and seen under the new name at once.
    *b.corp.people.lock().unwrap() = vec![alias.clone()];
    b.engine.absorb(&alias).await.unwrap();
    let snapshot = Mapping::open(&b.dir.join("snapshot")).unwrap();
    let mut memory = [std::mem::MaybeUninit::uninit(); 1024];
    let mut out = Out::new(&mut memory);
    let mut has = |name: &str| matches!(snapshot.user_by_name(name.as_bytes(), &mut out), Lookup::Found(Ok(_)));
    assert!(has("al") && !has("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_administrator_renumbered_is_found_by_the_new_number() {
    let b = a_box("renumbered");
    let mut alice = person("corp", "alice", "1", &[("ml", Some(5000))]);
    alice.uid = Some(20001.into());
    b.corp.people.lock().unwrap().push(alice.clone());
    b.corp.forgetful.store(true, std::sync::atomic::Ordering::Relaxed);
    b.engine.absorb(&alice).await.unwrap();
    for (kind, name, id) in [(IdSpace::Group, "ml", 5001), (IdSpace::User, "alice", 20003)] {
        let (caller, call) = set(kind, name, id);
        assert!(matches!(b.engine.idmap(&caller, call).await, IdmapReply::Changed(_)));
    }
    assert_eq!(b.engine.group(GroupKey::Gid(5001), Asker::Broker).await.unwrap().name, "ml");
    assert_eq!(b.engine.user(UserKey::Uid(20003), Asker::Broker).await.unwrap().name, "alice");
    assert_eq!(b.engine.group_ids("alice", Asker::Broker).await.unwrap(), [5001], "and she is in it still");
    assert!(b.engine.group(GroupKey::Gid(5000), Asker::Broker).await.is_err());
    assert!(b.engine.user(UserKey::Uid(20001), Asker::Broker).await.is_err());
    // By the old number as primary group she is in the group's new one.
    let mut bob = person("corp", "bob", "2", &[]);
    (bob.uid, bob.gid) = (Some(20009.into()), Some(5000.into()));
    assert_eq!(b.engine.absorb(&bob).await.unwrap().0.gid, 5001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_group_s_number_is_not_another_directory_s_primary_gid() {
    let b = a_box("deleted");
    let vision = GroupClaim { name: GroupName::new("vision").unwrap(), gid: None };
    let vision = b.engine.take_in_group("sso", &vision, vec![]).await.unwrap();
    assert!(b.engine.store.drop_group("vision").unwrap());
    let mut mallory = person("corp", "mallory", "1", &[]);
    (mallory.uid, mallory.gid) = (Some(20001.into()), Some(vision.gid.into()));
    assert_eq!(b.engine.absorb(&mallory).await.unwrap_err().reason, Reason::EntryRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_primary_group_outlives_the_account_check() {
    let b = a_box("claimed");
    let mut erin = person("sso", "erin", "9", &[]);
    erin.gid = Some(7000.into());
    b.sso.people.lock().unwrap().push(erin);
    // The first time sshd acts on what was promised before.
    b.engine.user(UserKey::Name("erin"), Asker::Login).await.unwrap();
    assert_ne!(log_in(&b, "erin").await, Code::Success);
    b.engine.user(UserKey::Name("erin"), Asker::Login).await.unwrap();
    assert_eq!(log_in(&b, "erin").await, Code::Success);
    let context = Context { user: "erin".into(), service: "sshd".into(), ..Context::default() };
    b.engine.account(&nobody_s_process(), &context).await;
    assert_eq!(b.engine.user(UserKey::Name("erin"), Asker::Broker).await.unwrap().gid, 7000);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_groups_come_and_go_in_the_snapshot_too() {
    let b = a_box("local-snapshot");
    b.engine.store.declare_local_groups(&[(70_044, vec!["lab".into()])]).unwrap();
    let mut bob = person("corp", "bob", "2", &[]);
    bob.gid = Some(5001.into());
    b.engine.absorb(&bob).await.unwrap();
    assert!(b.engine.publishing.publish().await);
    let gids = || {
        let snapshot = Mapping::open(&b.dir.join("snapshot")).unwrap();
        let mut gids = Vec::new();
        snapshot.group_ids_of(b"bob", |all| gids.extend(all));
        gids
    };
    assert_eq!(gids(), [0u32; 0]);
    let lab = GroupClaim { name: GroupName::new("lab").unwrap(), gid: Some(5001.into()) };
    b.engine.take_in_group("corp", &lab, Vec::new()).await.unwrap();
    assert_eq!(gids(), [70_044], "her primary group is lab now");
    assert!(b.engine.store.drop_group("lab").unwrap() && b.engine.publishing.publish().await);
    assert_eq!(gids(), [0u32; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_do_not_exist_in_this_user_namespace_are_nobody_s() {
    let root = std::env::temp_dir().join(format!("gpuhub-maps-of-a-namespace-{}", std::process::id()));
    std::fs::create_dir_all(root.join("proc/self")).unwrap();
    for file in ["uid_map", "gid_map"] {
        std::fs::write(root.join("proc/self").join(file), "0 100000 65534\n1000000000 1000000000 1000000000\n")
            .unwrap();
    }
    let b = a_box_with("unmapped", Rules { mapped: crate::machine::Mapped::read(&root), ..Rules::default() });
    std::fs::remove_dir_all(&root).unwrap();
    let of = |uid: u32, gid: Option<u32>| Person {
        uid: Some(uid.into()),
        gid: gid.map(Into::into),
        ..person("corp", "alice", "1", &[("near", Some(5000)), ("far", Some(70_000))])
    };
    for far in [of(70_000, None), of(20_001, Some(70_000))] {
        let denied = b.engine.absorb(&far).await.unwrap_err();
        assert_eq!(denied.reason, Reason::EntryRefused);
        assert!(denied.detail.unwrap().contains("70000 does not exist"));
    }
    assert_eq!(b.engine.store.id_of(IdKind::User, "alice").unwrap(), None, "none is recorded for it");
    let (alice, _) = b.engine.absorb(&of(20_001, None)).await.unwrap();
    assert_eq!(alice.uid, 20_001);
    assert_eq!(b.engine.store.gids_of("alice").unwrap(), [5000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_s_own_group_has_a_name_of_power() {
    let b = a_box("own-power");
    let docker = b.engine.absorb(&person("corp", "docker", "1", &[])).await.unwrap().0;
    assert!(b.engine.store.group("docker").unwrap().is_none());
    assert_eq!(docker.gid, docker.uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_group_is_renumbered_and_renamed_with_its_person_alone() {
    let b = a_box("own-group");
    let dave = b.engine.absorb(&person("corp", "dave", "1", &[])).await.unwrap().0;
    let (caller, call) = set(IdSpace::Group, "dave", 70_100);
    assert!(matches!(b.engine.idmap(&caller, call).await, IdmapReply::Refused(why) if why.contains("own group")));
    assert_eq!(b.engine.absorb(&person("corp", "dave", "1", &[])).await.unwrap().0, dave);
    // Another group has frank's name, so that his own has a number alone; it goes where he goes.
    let taken = GroupClaim { name: GroupName::new("frank").unwrap(), gid: Some(5000.into()) };
    b.engine.take_in_group("corp", &taken, vec![]).await.unwrap();
    let frank = b.engine.absorb(&person("corp", "frank", "2", &[])).await.unwrap().0;
    let caller = Caller { listener: "test".into(), uid: 0, pid: None };
    let moved = IdmapCall::Move(Rename { old: "frank".into(), new: "franca".into() });
    assert!(matches!(b.engine.idmap(&caller, moved).await, IdmapReply::Changed(_)));
    let franca = b.engine.absorb(&person("corp", "franca", "2", &[])).await.unwrap().0;
    assert_eq!((franca.uid, franca.gid), (frank.uid, frank.gid));
    // Nobody is renamed whose directory would rename her back.
    b.corp.people.lock().unwrap().push(person("corp", "franca", "2", &[]));
    let back = || IdmapCall::Move(Rename { old: "franca".into(), new: "frances".into() });
    let refused = b.engine.idmap(&caller, back()).await;
    assert!(matches!(&refused, IdmapReply::Refused(why) if why.contains("still calls her franca")), "{refused:?}");
    b.corp.people.lock().unwrap().clear();
    // By an import, too, her own group goes along.
    let row = IdRow {
        kind: IdSpace::User,
        name: "dave".into(),
        id: 70_200,
        source: None,
        retired: false,
        issuer: None,
        subject: None,
    };
    let import = IdmapCall::Import(IdImport { rows: vec![row], dry_run: false, replace: true });
    assert!(matches!(b.engine.idmap(&caller, import).await, IdmapReply::Changed(_)));
    let dave = b.engine.absorb(&person("corp", "dave", "1", &[])).await.unwrap().0;
    assert_eq!((dave.uid, dave.gid), (70_200, 70_200));
    assert_eq!(b.engine.store.group("dave").unwrap().unwrap().group.gid, 70_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_as_before_costs_no_write_and_any_change_is_noticed() {
    let b = a_box("unchanged");
    let store = &b.engine.store;
    // What is kept of the machine's accounts depends on when they last changed: here they are at rest.
    let local = b.engine.local.accounts().unwrap();
    let settled = Arc::ptr_eq(&local, &b.engine.local.accounts().unwrap());
    let alice = person("corp", "alice", "1", &[("ml", Some(5000))]);
    let (passwd, changed) = b.engine.absorb(&alice).await.unwrap();
    assert!(changed);
    assert_eq!(b.engine.absorb(&alice).await.unwrap(), (passwd.clone(), false));
    let state = b.engine.state().unwrap();
    assert_eq!(b.engine.as_before(&alice, &state).as_ref(), settled.then_some(&passwd));
    // What the directory says.
    let moved = person("corp", "alice", "1", &[("vision", Some(5001))]);
    assert_eq!(b.engine.as_before(&moved, &state), None);
    assert!(b.engine.absorb(&moved).await.unwrap().1);
    assert_eq!(store.gids_of("alice").unwrap(), [5001]);
    // What the administrator says.
    b.engine.absorb(&moved).await.unwrap();
    let caller = Caller { listener: "test".into(), uid: 0, pid: None };
    let set = IdmapCall::Set(NewId { kind: IdSpace::User, name: "alice".into(), id: 70_300 });
    assert!(matches!(b.engine.idmap(&caller, set).await, IdmapReply::Changed(_)));
    assert_eq!(b.engine.as_before(&moved, &b.engine.state().unwrap()), None);
    assert_eq!(b.engine.absorb(&moved).await.unwrap().0.uid, 70_300);
    // She was gone in between.
    b.engine.absorb(&moved).await.unwrap();
    store.mark_gone("alice").unwrap();
    assert!(b.engine.absorb(&moved).await.unwrap().1);
    assert!(!store.person("alice").unwrap().unwrap().gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_password_the_same_process_is_asked_for_no_second_answer_of_the_directory() {
    let b = a_box("proven");
    let process = |pid| Caller { listener: "test".into(), uid: 0, pid };
    let alice = || b.corp.people.lock().unwrap().push(person("corp", "alice", "1", &[]));
    let account = async |pid, user: &str| {
        let context = Context { user: user.into(), service: "sshd".into(), ..Context::default() };
        b.engine.account(&process(pid), &context).await.code
    };
    // `false`: what she is is known without asking over a network, as of the builtin directory.
    for (is_asked, pid, by, want) in [
        (true, Some(7), Some(7), Code::Success),
        (true, Some(7), Some(8), Code::PermDenied),
        (true, None, None, Code::PermDenied),
        (false, Some(7), Some(7), Code::PermDenied),
    ] {
        b.corp.forgetful.store(is_asked, std::sync::atomic::Ordering::Relaxed);
        alice();
        assert_eq!(log_in_from(&b, &process(pid), "alice").await, Code::Success);
        b.corp.people.lock().unwrap().clear();
        assert_eq!(account(by, "alice").await, want, "{is_asked} {pid:?} {by:?}");
        assert_eq!(account(by, "alice").await, Code::PermDenied, "once");
        let _ = b.engine.proven.take(&process(pid), "alice");
    }
    // The answer is a moment old at the most.
    alice();
    b.corp.forgetful.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(log_in_from(&b, &process(Some(7)), "alice").await, Code::Success);
    b.corp.people.lock().unwrap().clear();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(account(Some(7), "alice").await, Code::PermDenied);
}
