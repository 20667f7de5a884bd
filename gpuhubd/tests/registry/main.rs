//! The registry of ids in a real PostgreSQL: several boxes at once, a server that dies, hangs, or
//! is another one, and rows that nobody of ours wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod boxes;
#[path = "../support/ca.rs"]
mod ca;
mod server;
#[path = "../support/mod.rs"]
mod support;

use gpuhubd::idmap::{Fixed, Given, Idmap};
use gpuhubd::model::{Denied, PersonKey, Reason};
use gpuhubd::registry::RegistryError;
use gpuhubd::store::{IdKind, Source, Store};
use server::Server;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A box: its own store, its own connection.
struct Box_ {
    idmap: Idmap,
    store: Store,
}

impl Box_ {
    fn new(server: &Server, range: [u32; 2]) -> Self {
        let store = Store::in_memory().unwrap();
        Self { idmap: Idmap::new(store.clone(), range, Some(Arc::new(server.registry()))), store }
    }

    /// As at somebody's first login here.
    async fn first_login(&self, name: &str) -> Result<Given, Denied> {
        self.idmap.user(name, None, true, Some(&key(name)), &|_| false).await
    }

    /// As at her next one.
    async fn known(&self, name: &str) -> Result<Given, Denied> {
        self.idmap.user(name, None, true, None, &|_| false).await
    }
}

fn key(subject: &str) -> PersonKey {
    PersonKey { issuer: "corp".into(), subject: subject.into() }
}

const WIDE: [u32; 2] = [1_000_000_000, 1_999_999_999];

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_first_logins_over_eight_boxes() {
    let server = Server::start();
    // A third of the range will be used, so that every third candidate is taken.
    let boxes: Vec<Arc<Box_>> = (0..8).map(|_| Arc::new(Box_::new(&server, [100_000, 129_999]))).collect();
    const NAMES: usize = 10_000;
    let tasks: Vec<_> = boxes
        .iter()
        .enumerate()
        .flat_map(|(b, one)| {
            // Each name is asked for by two boxes, at about the same time; 8 tasks in each box.
            (0..8).map(move |task| {
                let one = Arc::clone(one);
                tokio::spawn(async move {
                    let mut given = Vec::new();
                    for n in (task..NAMES).step_by(8).filter(|n| n % 4 == b % 4) {
                        let name = format!("user{n}");
                        let id = loop {
                            match one.first_login(&name).await {
                                Ok(g) => break g.id,
                                // A loaded machine may let a deadline pass; nothing else is forgiven.
                                Err(d) => assert_eq!(d.reason, Reason::RegistryUnavailable, "{d:?}"),
                            }
                            tokio::time::sleep(Duration::from_millis(300)).await;
                        };
                        given.push((name, id));
                    }
                    given
                })
            })
        })
        .collect();
    let mut by_name: HashMap<String, u32> = HashMap::new();
    let mut answers = 0;
    for task in tasks {
        for (name, id) in task.await.unwrap() {
            assert_eq!(*by_name.entry(name.clone()).or_insert(id), id, "{name} has two ids");
            answers += 1;
        }
    }
    assert_eq!((by_name.len(), answers), (NAMES, 2 * NAMES));
    let ids: HashSet<u32> = by_name.values().copied().collect();
    assert_eq!(ids.len(), NAMES, "an id has two names");
    for one in &boxes {
        for given in one.store.given_ids(None, u32::MAX).unwrap() {
            assert_eq!(by_name[&given.name], given.id, "the box's copy differs");
        }
    }
    assert_eq!(
        server.sql("SELECT count(*), count(DISTINCT id), count(DISTINCT name) FROM gpuhub_ids WHERE kind = 'user'"),
        format!("{NAMES}|{NAMES}|{NAMES}")
    );
    assert_eq!(server.sql("SELECT count(*) FROM gpuhub_ids u JOIN gpuhub_ids g ON g.id = u.id AND g.name = u.name WHERE u.kind = 'user' AND g.kind = 'group'"), NAMES.to_string());
    assert!(server.sql("SELECT count(*) FROM gpuhub_ids WHERE probes > 0").parse::<u32>().unwrap() > 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_is_alone_and_one_with_a_registry_agree() {
    let server = Server::start();
    let fleet = Box_::new(&server, WIDE);
    let alone = Idmap::new(Store::in_memory().unwrap(), WIDE, None);
    assert_eq!(fleet.idmap.preview("alice", &|_| false).await.unwrap(), 1_414_134_783);
    assert_eq!(fleet.first_login("alice").await.unwrap().id, 1_414_134_783);
    assert_eq!(alone.user("alice", None, true, Some(&key("alice")), &|_| false).await.unwrap().id, 1_414_134_783);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collision_is_decided_once_for_the_fleet() {
    let server = Server::start();
    let (a, b) = (Box_::new(&server, [100_000, 100_015]), Box_::new(&server, [100_000, 100_015]));
    let mut on_a = Vec::new();
    for n in 0..16 {
        let name = format!("u{n}");
        let given = a.first_login(&name).await.unwrap();
        on_a.push((name, given));
    }
    assert!(on_a.iter().any(|(_, g)| g.collided), "16 names on 16 ids");
    for (name, given) in on_a.into_iter().rev() {
        assert_eq!(b.first_login(&name).await.unwrap().id, given.id, "{name}, in another order");
        assert_eq!(b.idmap.preview(&name, &|_| false).await.unwrap(), given.id);
    }
    assert_eq!(a.first_login("u16").await.unwrap_err().reason, Reason::NoId);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_bound_for_every_box() {
    let server = Server::start();
    let (a, b) = (Box_::new(&server, WIDE), Box_::new(&server, WIDE));
    a.first_login("alice").await.unwrap();
    let other = b.idmap.user("alice", None, true, Some(&key("mallory")), &|_| false).await.unwrap_err();
    assert_eq!(other.reason, Reason::NameTaken, "never seen here, and bound there");
    let other = b.idmap.user("alicia", None, true, Some(&key("alice")), &|_| false).await.unwrap_err();
    assert_eq!(other.reason, Reason::NameTaken);
    assert_eq!(b.store.id_of(IdKind::User, "alicia").unwrap(), None, "nothing is left behind");
    assert_eq!(server.sql("SELECT count(*) FROM gpuhub_ids WHERE name = 'alicia'"), "0");
    b.first_login("alice").await.unwrap();
    // Whose id came from elsewhere is bound at her first login all the same.
    b.store.give_id(&[(IdKind::User, "carol")], 5000, Source::Imported, 0, false).unwrap();
    a.idmap.user("carol", None, false, Some(&key("carol")), &|_| false).await.unwrap();
    let stolen = b.idmap.user("carol", None, false, Some(&key("mallory")), &|_| false).await.unwrap_err();
    assert_eq!(stolen.reason, Reason::NameTaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_goes_on_without_it_and_who_is_new_is_refused() {
    let mut server = Server::start();
    let one = Box_::new(&server, WIDE);
    let alice = one.first_login("alice").await.unwrap();
    server.kill();
    assert_eq!(one.known("alice").await.unwrap(), alice);
    let refused = one.first_login("bob").await.unwrap_err();
    assert_eq!(refused.reason, Reason::RegistryUnavailable);
    assert_eq!(one.idmap.preview("bob", &|_| false).await.unwrap_err().reason, Reason::RegistryUnavailable);
    assert_eq!(one.store.id_of(IdKind::User, "bob").unwrap(), None);
    server.launch();
    let start = Instant::now();
    while let Err(d) = one.first_login("bob").await {
        assert_eq!(d.reason, Reason::RegistryUnavailable);
        assert!(start.elapsed() < Duration::from_secs(30), "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_left_and_costs_the_next_nothing() {
    let server = Server::start();
    let one = Arc::new(Box_::new(&server, WIDE));
    one.first_login("alice").await.unwrap();
    server.signal("-STOP");
    let start = Instant::now();
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let one = Arc::clone(&one);
            tokio::spawn(async move { one.first_login(&format!("new{n}")).await.unwrap_err().reason })
        })
        .collect();
    assert!(one.known("alice").await.is_ok());
    for task in waiting {
        assert_eq!(task.await.unwrap(), Reason::RegistryUnavailable);
    }
    // 2 s for the answer, and for whoever came later 2 s to connect; with slack for a loaded machine.
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    server.signal("-CONT");
    let start = Instant::now();
    while one.first_login("new0").await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.sql("SELECT count(*) FROM gpuhub_ids WHERE kind = 'user' AND name = 'new0'"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_again_and_again_nobody_has_two_ids() {
    let mut server = Server::start();
    let boxes: Vec<Arc<Box_>> = (0..4).map(|_| Arc::new(Box_::new(&server, [100_000, 101_999]))).collect();
    let tasks: Vec<_> = boxes
        .iter()
        .map(|one| {
            let one = Arc::clone(one);
            tokio::spawn(async move {
                let mut given = Vec::new();
                for n in 0..600 {
                    let name = format!("user{n}");
                    let id = loop {
                        match one.first_login(&name).await {
                            Ok(g) => break g.id,
                            Err(d) => assert_eq!(d.reason, Reason::RegistryUnavailable, "{d:?}"),
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    };
                    given.push((name, id));
                }
                given
            })
        })
        .collect();
    for pause in [30, 170, 90, 240] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.launch();
        });
    }
    let mut by_name = HashMap::new();
    for task in tasks {
        for (name, id) in task.await.unwrap() {
            assert_eq!(*by_name.entry(name).or_insert(id), id);
        }
    }
    assert_eq!(by_name.len(), 600);
    assert_eq!(by_name.values().collect::<HashSet<_>>().len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_not_believed() {
    let server = Server::start();
    let wrong = Arc::new(server.registry_by("other"));
    let refused = wrong.preview("alice", &[70_000]).await.unwrap_err();
    assert!(matches!(&refused, RegistryError::Unavailable(why) if why.contains("UnknownIssuer")), "{refused}");
    let by_address = server.url().replace("localhost", "127.0.0.1");
    let ca = server.dir.0.join("ca.pem");
    let by_address = gpuhubd::registry::Postgres::new(&by_address, None, ca.to_str()).unwrap();
    let refused = by_address.preview("alice", &[70_000]).await.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "the certificate is of localhost: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_given_is_not_given_though_the_registry_says_so() {
    let server = Server::start();
    let one = Box_::new(&server, WIDE);
    one.first_login("alice").await.unwrap();
    for (n, id) in [61184u32, 65519, 65534, 65535].into_iter().enumerate() {
        server
            .sql(&format!("INSERT INTO gpuhub_ids (kind, id, name, source) VALUES ('user', {id}, 'm{n}', 'override')"));
        let refused = one.first_login(&format!("m{n}")).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RegistryUnavailable, "{id}: {refused:?}");
        assert_eq!(one.store.id_of(IdKind::User, &format!("m{n}")).unwrap(), None);
    }
    for id in ["0", "999", "4294967295", "-1"] {
        let row = format!("INSERT INTO gpuhub_ids (kind, id, name, source) VALUES ('user', {id}, 'm', 'override')");
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.sql(&row))).is_err(), "{id}");
    }
    // An id that is another's in this box's own store: neither of the two is made a liar.
    one.store.give_id(&[(IdKind::User, "old")], 70_123, Source::Directory, 0, true).unwrap();
    server.sql("INSERT INTO gpuhub_ids (kind, id, name, source) VALUES ('user', 70123, 'bob', 'computed')");
    assert_eq!(one.first_login("bob").await.unwrap_err().reason, Reason::NoId);
}

#[tokio::test(flavor = "multi_thread")]
async fn fixed_ids_overrides_and_renames() {
    let server = Server::start();
    let (a, b) = (Box_::new(&server, WIDE), Box_::new(&server, WIDE));
    let fixed = |id| Some(Fixed { id, source: Source::Directory });
    let k = key("alice");
    assert_eq!(a.idmap.user("alice", fixed(5000), false, Some(&k), &|_| false).await.unwrap().id, 5000);
    let other = b.idmap.user("alice", fixed(5001), false, Some(&k), &|_| false).await.unwrap_err();
    assert_eq!(other.reason, Reason::NoId, "one directory says 5000, another 5001");
    let bob = b.idmap.user("bob", fixed(5000), false, Some(&key("bob")), &|_| false).await.unwrap_err();
    assert_eq!(bob.reason, Reason::NoId);

    let registry = server.registry();
    registry.set(&[(IdKind::User, "alice")], 6000, Source::Override).await.unwrap();
    let moved = b.idmap.user("alice", fixed(5001), false, Some(&k), &|_| false).await.unwrap();
    assert_eq!(moved.id, 6000, "the administrator's word counts more than the directory's");
    let e = registry.set(&[(IdKind::User, "bob")], 5000, Source::Override).await.unwrap_err();
    assert!(matches!(e, RegistryError::Collision(_)), "alice had it: {e}");
    let changes = |from| {
        let registry = &registry;
        async move {
            let all = registry.changes(from).await.unwrap().into_iter().map(Result::unwrap);
            all.map(|c| (c.serial, c.id, c.name, c.was)).collect::<Vec<_>>()
        }
    };
    assert_eq!(changes(0).await, [(1, 6000, "alice".into(), None)], "what nobody changed is not to be followed");

    assert!(a.idmap.rename_user("nobody", "somebody").await.unwrap(), "nothing to do");
    registry.rename(&[IdKind::User], "alice", "alicia", Some(6000)).await.unwrap();
    registry.rename(&[IdKind::User], "alice", "alicia", Some(6000)).await.unwrap(); // its answer was lost
    assert_eq!(registry.binding("alicia").await.unwrap(), Some(("corp".into(), "alice".into())));
    assert_eq!(registry.binding("alice").await.unwrap(), None);
    let was = |name: &str| Some(name.to_owned());
    let moved = changes(2).await;
    assert_eq!(moved, [(2, 5000, "alicia".into(), was("alice")), (3, 6000, "alicia".into(), was("alice"))]);
    a.first_login("carol").await.unwrap();
    let e = registry.rename(&[IdKind::User], "alicia", "carol", Some(6000)).await.unwrap_err();
    assert!(matches!(e, RegistryError::Collision(_)), "{e}");
    // Her own group goes with her, whoever asks.
    registry.set(&[(IdKind::User, "carol")], 7000, Source::Override).await.unwrap();
    assert_eq!(registry.id_of(IdKind::Group, "carol").await.unwrap(), Some(7000));
    assert_eq!(changes(4).await.len(), 2, "and boxes are told of both");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_box_retired_is_given_by_none() {
    let server = Server::start();
    let registry = server.registry();
    let retired = |name: &str, id| gpuhubd::store::GivenId {
        kind: IdKind::User,
        id,
        name: name.into(),
        source: Source::Directory,
        probes: 0,
        retired_at: Some(1),
    };
    assert_eq!(registry.retire(&retired("bob", 20001)).await.unwrap(), "bob");
    assert_eq!(registry.retire(&retired("bob", 20001)).await.unwrap(), "bob", "again");
    let b = Box_::new(&server, WIDE);
    let fixed = Some(Fixed { id: 20001, source: Source::Directory });
    let carol = b.idmap.user("carol", fixed, false, Some(&key("carol")), &|_| false).await.unwrap_err();
    assert_eq!(carol.reason, Reason::NoId);
    let dave = b.first_login("dave").await.unwrap();
    assert_eq!(registry.retire(&retired("eve", dave.id)).await.unwrap(), "dave", "whose it is instead");
}
