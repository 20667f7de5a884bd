//! Two boxes, each a real broker with its own state, and one registry; and a box without one.

use crate::server::Server;
use crate::support::Broker;
use gpuhub_common::entry::Passwd;
use gpuhub_common::wire::*;
use std::time::{Duration, Instant};

const T: Duration = Duration::from_secs(20);

fn config(server: &Server) -> String {
    let ca = server.dir.0.join("ca.pem");
    format!("[ids]\nregistry = \"{}\"\nregistry_ca_file = \"{}\"\n", server.url(), ca.display())
}

fn add(broker: &Broker, name: &str, uid: Option<u32>) -> AdminReply {
    let new = NewUser { name: name.into(), full_name: String::new(), uid, groups: Vec::new(), password: None };
    broker.client().call(Call::Admin(Admin::UserAdd(new)), T).unwrap()
}

fn added(broker: &Broker, name: &str) -> Passwd {
    let reply = add(broker, name, None);
    assert!(matches!(reply, AdminReply::Done(_)), "{reply:?} {:#?}", broker.audit());
    user(broker, name)
}

fn user(broker: &Broker, name: &str) -> Passwd {
    let query = UserQuery { name: Some(name.into()), uid: None, login: false };
    broker.client().call::<UserReply>(Call::GetUser(query), T).unwrap().user
}

fn idmap(broker: &Broker, call: IdmapCall) -> IdmapReply {
    broker.client().call(Call::Idmap(call), T).unwrap()
}

fn set(kind: IdSpace, name: &str, id: u32) -> IdmapCall {
    IdmapCall::Set(NewId { kind, name: name.into(), id })
}

fn rows(broker: &Broker, name: Option<&str>) -> Vec<IdRow> {
    match idmap(broker, IdmapCall::List(IdQuery { name: name.map(str::to_owned), after: None })) {
        IdmapReply::Rows(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn problems(reply: IdmapReply) -> Vec<String> {
    match reply {
        IdmapReply::Problems(problems) => problems,
        other => panic!("{other:?}"),
    }
}

fn until(what: &str, broker: &Broker, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:#?}", broker.audit());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A thousand in every run; as many as GPUHUB_FIRST_LOGINS says by hand.
#[test]
fn first_logins_over_eight_brokers() {
    const BROKERS: usize = 8;
    let names: usize = std::env::var("GPUHUB_FIRST_LOGINS").map_or(1_000, |n| n.parse().unwrap());
    let server = Server::start();
    // Of the range a third will be used: every third candidate is taken.
    let range = format!("uid_range = [100000, {}]\n", 100_000 + 3 * names);
    let config = config(&server).replace("[ids]\n", &format!("[ids]\n{range}"));
    let brokers: Vec<Broker> = (0..BROKERS).map(|n| Broker::start(&format!("eight-{n}"), &config)).collect();
    // Each name comes to two brokers at about the same time, each broker has four clients.
    std::thread::scope(|scope| {
        for (b, broker) in brokers.iter().enumerate() {
            for task in 0..4 {
                scope.spawn(move || {
                    for n in (task..names).step_by(4).filter(|n| n / 4 % 4 == b % 4) {
                        let start = Instant::now();
                        loop {
                            match add(broker, &format!("user{n}"), None) {
                                AdminReply::Done(_) => break,
                                // A loaded machine may let a deadline pass; nothing else is forgiven.
                                AdminReply::Refused(why) if why.contains("registry-unavailable") => {}
                                other => panic!("{other:?}"),
                            }
                            assert!(start.elapsed() < Duration::from_secs(60), "user{n}");
                            std::thread::sleep(Duration::from_millis(300));
                        }
                    }
                });
            }
        }
    });
    let mut ids = std::collections::HashMap::new();
    let mut answers = 0;
    for (b, broker) in brokers.iter().enumerate() {
        for n in (0..names).filter(|n| n / 4 % 4 == b % 4) {
            let entry = user(broker, &format!("user{n}"));
            assert_eq!(entry.gid, entry.uid);
            let owner = *ids.entry(entry.uid).or_insert(n);
            assert_eq!(owner, n, "two names have the id {}", entry.uid);
            answers += 1;
        }
    }
    assert_eq!((ids.len(), answers), (names, 2 * names), "one id each, on whichever broker");
    let count =
        server.sql("SELECT count(*), count(DISTINCT id), count(DISTINCT name) FROM gpuhub_ids WHERE kind = 'user'");
    assert_eq!(count, format!("{names}|{names}|{names}"));
}

#[test]
fn two_boxes_and_one_registry() {
    let mut server = Server::start();
    let a = Broker::start("fleet-a", &config(&server));
    let alice = added(&a, "alice");
    // Another box, on which bob has what would be hers: the registry decides, not the order here.
    let mut b = Broker::start("fleet-b", &config(&server));
    let refused = add(&b, "bob", Some(alice.uid));
    assert!(matches!(&refused, AdminReply::Refused(why) if why.contains("no-id")), "{refused:?}");
    b.audited(&["id-collision", "bob"]);
    assert_eq!(added(&b, "alice").uid, alice.uid);
    assert_eq!(problems(idmap(&b, IdmapCall::Check(Nothing {}))), [""; 0]);

    // What the administrator sets on one box, the other follows.
    let changed = idmap(&a, set(IdSpace::User, "alice", 70_001));
    assert!(matches!(&changed, IdmapReply::Changed(c) if c.len() == 2 && c[0].old == Some(alice.uid)), "{changed:?}");
    assert_eq!((user(&a, "alice").uid, user(&a, "alice").gid), (70_001, 70_001));
    until("alice on b", &b, || user(&b, "alice").uid == 70_001 && user(&b, "alice").gid == 70_001);
    b.audited(&["id-changed", "alice"]);
    let again = idmap(&b, IdmapCall::Move(Rename { old: "alice".into(), new: "alicia".into() }));
    assert!(matches!(&again, IdmapReply::Refused(why) if why.contains("still calls her")), "{again:?}");
    for broker in [&a, &b] {
        let gone = Call::Admin(Admin::UserDel(NameQuery { name: "alice".into() }));
        assert!(matches!(broker.client().call(gone, T).unwrap(), AdminReply::Done(_)));
    }
    let renamed = idmap(&b, IdmapCall::Move(Rename { old: "alice".into(), new: "alicia".into() }));
    assert!(matches!(renamed, IdmapReply::Changed(_)), "{renamed:?}");
    until("alicia on a", &a, || rows(&a, Some("alicia")).iter().any(|r| r.id == 70_001));

    // Without it, who is known goes on, and who is new is refused and told why.
    server.kill();
    let bob = add(&b, "bob", None);
    assert!(matches!(&bob, AdminReply::Refused(why) if why.contains("registry-unavailable")), "{bob:?}");
    b.kill();
    b.restart();
    assert_eq!(rows(&b, Some("alicia")).len(), 4, "two in use, two retired");
    server.launch();
    until("bob", &b, || matches!(add(&b, "bob", None), AdminReply::Done(_)));
}

#[test]
fn what_is_followed_whatever_else_the_registry_says() {
    let server = Server::start();
    let (a, b) = (Broker::start("follow-a", &config(&server)), Broker::start("follow-b", &config(&server)));
    for broker in [&a, &b] {
        added(broker, "alice");
        added(broker, "bob");
    }
    let follow = |name: &str, id| {
        let changed = idmap(&a, set(IdSpace::User, name, id));
        assert!(matches!(&changed, IdmapReply::Changed(_)), "{changed:?}");
        until(name, &b, || user(&b, name).uid == id);
    };
    let insert = |values: &str| {
        server.sql(&format!("INSERT INTO gpuhub_changes SELECT max(serial) + 1, {values} FROM gpuhub_changes"));
    };
    follow("alice", 70_001);
    // What no broker would write stops nothing that comes behind it.
    insert("'user', 0, 'alice', NULL");
    insert("'printer', 70002, 'alice', NULL");
    follow("alice", 70_003);
    b.audited(&["illegal-change"]);
    assert_eq!(user(&b, "alice").uid, 70_003);
    // A name took another's place there; here the id is somebody else's, who keeps her name.
    insert("'user', 70003, 'carol', 'dave'");
    follow("bob", 70_004);
    assert_eq!(user(&b, "alice").uid, 70_003);
    assert_eq!(rows(&b, Some("carol")), []);
    // An older state of the registry was brought back: what it says from then on is followed.
    server.sql("DELETE FROM gpuhub_changes");
    follow("bob", 70_005);
}

#[test]
fn a_box_tells_a_new_registry_what_it_knew() {
    let server = Server::start();
    let mut a = Broker::start("late-a", "");
    let (alice, bob, carol) = (added(&a, "alice"), added(&a, "bob"), added(&a, "carol"));
    let other = Broker::start("late-b", &config(&server));
    // The registry has another idea of bob by the time that this box joins.
    let theirs = idmap(&other, set(IdSpace::User, "bob", 70_001));
    assert!(matches!(theirs, IdmapReply::Changed(_)), "{theirs:?}");
    // And of carol, but nobody decided that: another directory says so.
    assert!(matches!(add(&other, "carol", Some(70_002)), AdminReply::Done(_)));
    a.kill();
    std::fs::write(a.dir.join("gpuhub.toml"), format!("[audit]\nsyslog = \"/nonexistent/log\"\n{}", config(&server)))
        .unwrap();
    a.restart();
    until("alice is registered", &a, || {
        server.sql(&format!("SELECT count(*) FROM gpuhub_ids WHERE id = {} AND name = 'alice'", alice.uid)) == "2"
    });
    a.audited(&["id-collision", "bob", "this box's alone"]);
    // The fleet's word counts: the box follows, and says so.
    until("bob follows", &a, || user(&a, "bob").uid == 70_001);
    assert!(rows(&a, Some("bob")).iter().any(|r| r.retired && r.id == bob.uid));
    assert_eq!(user(&a, "carol").uid, carol.uid, "files here have it");
    let left = problems(idmap(&a, IdmapCall::Check(Nothing {})));
    assert!(left.iter().any(|p| p.contains("carol") && p.contains("70002 in the registry")), "{left:?}");
    // The same name and number, and yet another person.
    server.sql("UPDATE gpuhub_bindings SET subject = 'somebody else' WHERE name = 'alice'");
    let left = problems(idmap(&a, IdmapCall::Check(Nothing {})));
    assert!(left.iter().any(|p| p.contains("alice is bound to another person")), "{left:?}");
}

#[test]
fn set_show_and_what_is_refused() {
    let mut a = Broker::start("idmap-set", "");
    let (alice, bob) = (added(&a, "alice"), added(&a, "bob"));
    let refused = |kind, name: &str, id| match idmap(&a, set(kind, name, id)) {
        IdmapReply::Refused(why) => why,
        other => panic!("{name} {id}: {other:?}"),
    };
    // What is never given is not given by the administrator either.
    for id in [0, 1, 999, 61184, 65519, 65534, 65535, u32::MAX] {
        refused(IdSpace::User, "alice", id);
        refused(IdSpace::Group, "ml", id);
    }
    for name in ["root", "nobody", "", "a:b"] {
        refused(IdSpace::User, name, 70_000);
    }
    for name in ["root", "sudo", "docker", "shadow"] {
        refused(IdSpace::Group, name, 70_000);
    }
    assert!(refused(IdSpace::User, "alice", bob.uid).contains("bob"));
    assert!(matches!(idmap(&a, set(IdSpace::User, "alice", 70_001)), IdmapReply::Changed(_)));
    assert!(refused(IdSpace::User, "carol", alice.uid).contains("alice"), "retired, and nobody else's");
    assert_eq!(user(&a, "alice").uid, 70_001);
    // Before anybody comes, too; then it is hers.
    assert!(matches!(idmap(&a, set(IdSpace::User, "dora", 70_009)), IdmapReply::Changed(_)));
    assert_eq!(added(&a, "dora").uid, 70_009);
    a.audited(&["admin", "refused", "idmap set"]);
    a.kill();
    a.restart();
    assert_eq!(user(&a, "alice").uid, 70_001, "for good");
    let shown = rows(&a, Some("alice"));
    let own: Vec<_> = shown.iter().map(|r| (r.kind, r.id, r.retired, r.source.clone().unwrap())).collect();
    assert_eq!(
        own,
        [
            (IdSpace::Group, 70_001, false, "override".into()),
            (IdSpace::Group, alice.uid, true, "computed".into()),
            (IdSpace::User, 70_001, false, "override".into()),
            (IdSpace::User, alice.uid, true, "computed".into()),
        ]
    );
    assert_eq!(problems(idmap(&a, IdmapCall::Check(Nothing {}))), [""; 0]);
}

#[test]
fn what_one_box_exports_another_imports_whole_or_not_at_all() {
    let a = Broker::start("export-a", "");
    for name in ["alice", "bob", "carol"] {
        added(&a, name);
    }
    idmap(&a, set(IdSpace::User, "bob", 70_001));
    let exported = rows(&a, None);
    assert_eq!(exported.len(), 8, "three people, three groups, two retired");

    let b = Broker::start("export-b", "");
    let import = |rows: &[IdRow], dry_run, replace| {
        idmap(&b, IdmapCall::Import(IdImport { rows: rows.to_vec(), dry_run, replace }))
    };
    let would = import(&exported, true, false);
    assert!(matches!(&would, IdmapReply::Changed(c) if c.len() == 6), "{would:?}");
    assert!(rows(&b, None).is_empty(), "it was a trial");
    // One row that cannot be keeps out all.
    let mut bad = exported.clone();
    bad[0].id = 65534;
    assert_eq!(problems(import(&bad, false, false)).len(), 1);
    assert!(rows(&b, None).is_empty());

    assert!(matches!(import(&exported, false, false), IdmapReply::Changed(_)));
    assert_eq!(rows(&b, None), exported);
    assert_eq!(added(&b, "bob").uid, 70_001, "the same key, so it is she");
    // Somebody else of that name is not.
    let mut other = exported.iter().find(|r| r.name == "carol" && r.subject.is_some()).unwrap().clone();
    other.subject = Some("another".into());
    assert_eq!(problems(import(&[other], false, true)).len(), 1);
    let moved =
        IdRow { id: 70_005, ..exported.iter().find(|r| r.name == "alice" && r.kind == IdSpace::User).unwrap().clone() };
    assert_eq!(problems(import(std::slice::from_ref(&moved), false, false)).len(), 1, "she has another id");
    assert!(matches!(import(&[moved], false, true), IdmapReply::Changed(_)));
    assert!(rows(&b, Some("alice")).iter().any(|r| r.id == 70_005 && !r.retired));
}
