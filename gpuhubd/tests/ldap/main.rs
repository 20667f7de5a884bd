//! The LDAP provider against a real slapd: StartTLS, LDAPS and ldapi, the password policy, and a
//! server that hangs, dies and comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod access;
mod doctor;
mod faults;
mod groups;
mod join;
mod policy;
mod sizes;
#[path = "../slapd/mod.rs"]
mod slapd;
mod srv;
mod tls;

use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::secret::Secret;
use gpuhubd::config::{Config, LdapConfig, ProviderConfig};
use gpuhubd::idmap::{Fixed, Idmap};
use gpuhubd::model::{DirectoryId, Person, Reason, Standing};
use gpuhubd::provider::ldap::LdapProvider;
use gpuhubd::provider::{Provider, Which, Who};
use gpuhubd::store::{Source, Store};
use slapd::proxy::Proxy;
use slapd::{READER, READER_PASSWORD, SUFFIX, Slapd, Valid, free_ports, make_ca, make_certificate, secret_file};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an operation may take with the deadlines of [`config`]: 1 s to connect, 1 s for each
/// operation, and slack for a loaded machine.
const BOUND: Duration = Duration::from_millis(3500);

/// Less than the shortest of the deadlines: nobody waited for one.
const AT_ONCE: Duration = Duration::from_millis(900);

fn config(dir: &Path, urls: &[String], extra: &str) -> LdapConfig {
    let mut config = Config::parse("test", &text(dir, urls, extra)).unwrap();
    match config.providers.pop() {
        Some(ProviderConfig::Ldap(c)) => *c,
        _ => panic!("no LDAP provider"),
    }
}

fn text(dir: &Path, urls: &[String], extra: &str) -> String {
    let password = secret_file(dir, "reader", READER_PASSWORD);
    format!(
        "[[provider]]\nkind = \"ldap\"\nname = \"corp\"\nurls = {urls:?}\nbase = \"{SUFFIX}\"\nbind_dn = \"{READER}\"\n\
         bind_password_file = \"{password}\"\nconnect_timeout = \"1s\"\ntimeout = \"1s\"\n{extra}\n"
    )
}

fn ldaps(s: &Slapd) -> LdapProvider {
    at(s, &format!("ldaps://127.0.0.1:{}", s.ldaps), &with_ca(s))
}

fn at(s: &Slapd, url: &str, extra: &str) -> LdapProvider {
    LdapProvider::new(&config(&s.dir, &[url.to_owned()], extra)).unwrap()
}

fn with_ca(s: &Slapd) -> String {
    format!("ca_file = \"{}\"", s.path("ca.pem"))
}

fn user(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

async fn find(p: &LdapProvider, name: &str) -> Option<Person> {
    p.find(Who::Name(&user(name))).await.unwrap()
}

async fn log_in(p: &LdapProvider, person: &Person, password: &str) -> Result<Person, Reason> {
    let result = p.verify_password(person, &secret(password)).await;
    result.map(|a| a.person().clone()).map_err(|d| {
        assert!(!format!("{d:?}").contains(password) || password.is_empty(), "the password is in {d:?}");
        d.reason
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_over_every_transport() {
    let s = Slapd::start();
    let ldapi = format!("ldapi://{}", s.path("ldapi"));
    for (url, extra) in [
        (format!("ldaps://localhost:{}", s.ldaps), with_ca(&s)),
        (format!("ldaps://127.0.0.1:{}/", s.ldaps), with_ca(&s)),
        (format!("ldap://127.0.0.1:{}", s.ldap), format!("start_tls = true\n{}", with_ca(&s))),
        (format!("ldap://127.0.0.1:{}", s.ldap), "allow_plaintext = true".into()),
        (ldapi, String::new()),
    ] {
        let p = at(&s, &url, &extra);
        let alice = find(&p, "alice").await.unwrap();
        assert_eq!((alice.uid, alice.gid), (Some(20001.into()), Some(20100.into())), "{url}");
        assert_eq!(alice.full_name, "Alice A,,,");
        assert_eq!(alice.home.as_deref(), Some("/home/alice"));
        assert_eq!(alice.shell.as_deref(), Some("/bin/bash"));
        assert_eq!(alice.key.issuer, "ldap:corp");
        assert_eq!(alice.key.subject.len(), 36, "an entryUUID: {}", alice.key.subject);
        let groups: Vec<_> = alice.groups.iter().map(|g| (g.name.as_str(), g.gid)).collect();
        assert_eq!(groups, [("Data Science", Some(20101.into())), ("ml", Some(20102.into()))]);
        assert_eq!(log_in(&p, &alice, "pw-alice").await, Ok(alice.clone()));
        assert_eq!(log_in(&p, &alice, "pw-bob").await, Err(Reason::WrongPassword));
        assert_eq!(log_in(&p, &alice, "").await, Err(Reason::EmptyPassword));
        assert_eq!(log_in(&p, &alice, "pw-alice\0x").await, Err(Reason::WrongPassword));
        assert_eq!(log_in(&p, &alice, "pw-alice").await, Ok(alice));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_ids() {
    let s = Slapd::start();
    let p = ldaps(&s);
    assert_eq!(find(&p, "nosuch").await, None);
    assert_eq!(find(&p, "ALICE").await, None, "only the exact spelling");
    assert_eq!(find(&p, "bobby").await, None);
    assert_eq!(find(&p, "Bobby").await, None, "an alias of bob's");
    assert_eq!(find(&p, "bob").await.unwrap().uid, Some(20002.into()));
    let by_uid = p.find(Who::Uid(20002, None)).await.unwrap().unwrap();
    assert_eq!(by_uid.name, user("bob"), "by uid, the name in the DN");
    assert_eq!(by_uid.groups.len(), 1);
    assert_eq!(p.find(Who::Uid(29999, None)).await.unwrap(), None);
    assert_eq!(p.find(Who::Uid(20009, None)).await.unwrap(), None, "its name is no name");
    assert!(p.find(Who::Name(&user("twin"))).await.is_err(), "never the first of two");
    assert!(p.find(Who::Uid(20010, None)).await.is_err());
    assert_eq!(find(&p, "hidden").await, None);
    let evil = find(&p, "evil").await.unwrap();
    assert_eq!((evil.uid, evil.gid), (Some(0.into()), Some(0.into())), "the engine refuses it, with a reason");
    assert_eq!(evil.full_name, "x\nroot::0:0:::");
    assert_eq!(find(&p, "latin").await.unwrap().full_name, "Lätin");
    for hostile in ["*)(uid=*", "*", "alice)(uid=*", "alice\0", "alice,ou=people"] {
        assert!(UserName::new(hostile).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups() {
    let s = Slapd::start();
    let p = ldaps(&s);
    let ml = p.find_group(Which::Gid(20102, None)).await.unwrap().unwrap();
    assert_eq!(ml.claim.name.as_str(), "ml");
    assert_eq!(ml.members, [user("alice"), user("bob")]);
    let name = GroupName::new("ml").unwrap();
    assert_eq!(p.find_group(Which::Name(&name)).await.unwrap(), Some(ml));
    let science = GroupName::new("Data Science").unwrap();
    assert_eq!(p.find_group(Which::Name(&science)).await.unwrap().unwrap().claim.gid, Some(20101.into()));
    for other in ["ML", "nosuch"] {
        assert_eq!(p.find_group(Which::Name(&GroupName::new(other).unwrap())).await.unwrap(), None);
    }
    assert_eq!(p.find_group(Which::Gid(1, None)).await.unwrap(), None);
}

/// The domain of the example in Microsoft's documents, whose slice sssd's own tests have.
const WITH_SIDS: &str = "dn: dc=example,dc=org
objectClass: domain
dc: example

dn: cn=reader,dc=example,dc=org
objectClass: simpleSecurityObject
objectClass: organizationalRole
cn: reader
userPassword: reader-secret

dn: uid=alice,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: posixAccount
objectClass: extensibleObject
uid: alice
cn: Alice
sn: A
uidNumber: 20001
gidNumber: 20100
homeDirectory: /home/alice
objectSid:: AQUAAAAAAAUVAAAAx/f+13x3VciUWs4B9QMAAA==
primaryGroupID: 513

dn: cn=ml,dc=example,dc=org
objectClass: posixGroup
objectClass: extensibleObject
cn: ml
gidNumber: 20102
memberUid: alice
objectSid:: AQUAAAAAAAUVAAAAx/f+13x3VciUWs4BsAQAAA==
";

#[tokio::test(flavor = "multi_thread")]
async fn one_search_finds_of_a_login_what_two_find() {
    let twin = format!(
        "\ndn: cn=placed,ou=groups,{SUFFIX}\nobjectClass: posixGroup\ncn: placed\ngidNumber: 20990\n\
         memberUid: placed\nmemberUid: alice\n"
    );
    let s = Slapd::with(&format!("{}{twin}", slapd::ENTRIES));
    let apart = format!("user_base = \"ou=people,{SUFFIX}\"\ngroup_base = \"ou=groups,{SUFFIX}\"");
    for names in ["", "[provider.attributes]\nuser_name = \"cn\""] {
        let url = format!("ldaps://127.0.0.1:{}", s.ldaps);
        let one = at(&s, &url, &format!("{}\n{names}", with_ca(&s)));
        let two = at(&s, &url, &format!("{}\n{apart}\n{names}", with_ca(&s)));
        for name in ["placed", "alice", "nobody-at-all"] {
            assert_eq!(find(&one, name).await, find(&two, name).await, "{name} {names}");
        }
        assert!(find(&one, "placed").await.unwrap().groups.iter().any(|g| g.name.as_str() == "placed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_those_that_sssd_computes() {
    let s = Slapd::with(WITH_SIDS);
    let p = at(&s, &format!("ldaps://localhost:{}", s.ldaps), &format!("{}\nids = \"sid\"", with_ca(&s)));
    let idmap = Idmap::new(Store::in_memory().unwrap(), [1_000_000_000, 1_999_999_999], None);
    assert_eq!(idmap.sid_of(674_001_013).unwrap(), None, "a domain that nobody has seen yet");
    let alice = find(&p, "alice").await.unwrap();
    let id = |said: Option<DirectoryId>| idmap.by_directory(said.unwrap()).unwrap();
    assert_eq!(id(alice.uid), Fixed { id: 674_001_013, source: Source::Sid });
    assert_eq!(id(alice.gid).id, 674_000_513);
    assert_eq!(id(alice.groups[0].gid).id, 674_001_200);
    // And back: who is 674001013?
    let by_uid = Who::Uid(674_001_013, idmap.sid_of(674_001_013).unwrap());
    let looked_up = Person { also_in: alice.also_in.clone(), ..p.find(by_uid).await.unwrap().unwrap() };
    assert_eq!(looked_up, alice);
    let by_gid = Which::Gid(674_001_200, idmap.sid_of(674_001_200).unwrap());
    assert_eq!(p.find_group(by_gid).await.unwrap().unwrap().members, [user("alice")]);
    assert_eq!(p.find(Who::Uid(20001, None)).await.unwrap(), None, "uidNumber does not count");
    assert_eq!(p.find(Who::Uid(674_009_999, idmap.sid_of(674_009_999).unwrap())).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_s_policy_is_obeyed() {
    let s = Slapd::start();
    let p = ldaps(&s);
    let locked = find(&p, "locked").await.unwrap();
    assert_eq!(locked.standing, Standing::Locked);
    assert_eq!(log_in(&p, &locked, "pw-locked").await, Err(Reason::AccountLocked));
    assert_eq!(log_in(&p, &locked, "wrong").await, Err(Reason::AccountLocked));
    let expired = find(&p, "expired").await.unwrap();
    assert_eq!(expired.standing, Standing::Expired);
    assert_eq!(log_in(&p, &expired, "pw-expired").await, Err(Reason::AccountExpired));
    assert_eq!(log_in(&p, &expired, "wrong").await, Err(Reason::WrongPassword));
    let stale = find(&p, "stale").await.unwrap();
    assert_eq!(log_in(&p, &stale, "pw-stale").await, Err(Reason::PasswordUnchangeable));
    assert_eq!(log_in(&p, &stale, "wrong").await, Err(Reason::WrongPassword));
    let reset = find(&p, "reset").await.unwrap();
    assert_eq!(log_in(&p, &reset, "pw-reset").await, Err(Reason::MustChangePassword));

    // Three wrong ones lock bob for two seconds.
    let bob = find(&p, "bob").await.unwrap();
    assert_eq!(bob.standing, Standing::Active);
    for _ in 0..3 {
        assert_eq!(log_in(&p, &bob, "wrong").await, Err(Reason::WrongPassword));
    }
    assert_eq!(log_in(&p, &bob, "pw-bob").await, Err(Reason::AccountLocked));
    assert_eq!(find(&p, "bob").await.unwrap().standing, Standing::Locked);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let back = log_in(&p, &bob, "pw-bob").await.unwrap();
    assert_eq!(back.standing, Standing::Active, "the server says that its lock is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_changed() {
    let s = Slapd::start();
    let p = ldaps(&s);
    let bob = find(&p, "bob").await.unwrap();
    let change = |old: &'static str, new: &'static str| {
        let (p, bob) = (&p, &bob);
        async move { p.change_password(bob, &secret(old), &secret(new)).await }
    };
    assert_eq!(change("wrong", "new-password").await.unwrap_err(), "The old password is wrong.");
    assert_eq!(change("pw-bob", "a").await.unwrap_err(), "The new password is too short.");
    assert_eq!(change("pw-bob", "new-password").await, Ok(()));
    assert_eq!(log_in(&p, &bob, "pw-bob").await, Err(Reason::WrongPassword));
    assert!(log_in(&p, &bob, "new-password").await.is_ok());
    let e = change("new-password", "pw-bob").await.unwrap_err();
    assert_eq!(e, "You have used this password before. Choose another.");
    assert!(change("new-password", "").await.is_err());
    // She who must change it first can.
    let reset = find(&p, "reset").await.unwrap();
    assert_eq!(p.change_password(&reset, &secret("pw-reset"), &secret("quite-new")).await, Ok(()));
    assert!(log_in(&p, &reset, "quite-new").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_of_the_same_name_is_not_let_in() {
    let s = Slapd::start();
    let p = ldaps(&s);
    let mut alice = find(&p, "alice").await.unwrap();
    alice.key.subject = "00000000-0000-4000-8000-000000000000".into();
    assert_eq!(log_in(&p, &alice, "pw-alice").await, Err(Reason::NameTaken));
    assert_eq!(log_in(&p, &alice, "wrong").await, Err(Reason::WrongPassword), "a stranger learns nothing");
    alice.name = user("nosuch");
    assert_eq!(log_in(&p, &alice, "pw-alice").await, Err(Reason::UnknownUser));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_as_long_as_somebody() {
    let s = Slapd::start();
    // A password that the server compares at once, and one that it hashes for milliseconds.
    for name in ["alice", "hashed"] {
        let p = ldaps(&s);
        let person = find(&p, name).await.unwrap();
        let password = secret(&format!("pw-{name}"));
        assert!(p.verify_password(&person, &password).await.is_ok());
        let wrong = secret("wrong");
        let (mut hers, mut nobodys) = (Vec::new(), Vec::new());
        for n in 0..100 {
            // A person takes longer to type it than what was read of her is good for; a program does not.
            let by_program = n % 2 == 0;
            if by_program {
                assert!(find(&p, name).await.is_some());
            }
            let t = Instant::now();
            assert!(p.verify_password(&person, &wrong).await.is_err());
            hers.push(t.elapsed());
            if by_program {
                assert!(find(&p, "nosuch").await.is_none());
            }
            let t = Instant::now();
            p.verify_decoy("nosuch", &wrong).await;
            nobodys.push(t.elapsed());
        }
        let at = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            [10, 25, 50, 75, 90].map(|percent| times[percent])
        };
        let (hers, nobodys) = (at(&mut hers), at(&mut nobodys));
        println!("{name}, 10/25/50/75/90%: wrong password {hers:?}, nobody {nobodys:?}");
        let (hers, nobodys) = (hers[2], nobodys[2]);
        assert!(hers.abs_diff(nobodys) < hers / 2 + Duration::from_millis(2), "{name}: {hers:?} {nobodys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_server_is_left_within_the_deadline() {
    let s = Slapd::start();
    let p = ldaps(&s);
    let alice = find(&p, "alice").await.unwrap();
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
    s.stop();
    let t = Instant::now();
    assert!(p.find(Who::Name(&user("alice"))).await.is_err(), "unavailable, not unknown");
    assert!(t.elapsed() < BOUND, "{:?}", t.elapsed());
    let t = Instant::now();
    assert_eq!(log_in(&p, &alice, "pw-alice").await, Err(Reason::BackendUnavailable));
    assert!(t.elapsed() < AT_ONCE, "at once afterwards: {:?}", t.elapsed());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let t = Instant::now();
    p.verify_decoy("nosuch", &secret("x")).await;
    assert!(t.elapsed() < AT_ONCE, "nobody waits for it a second time: {:?}", t.elapsed());
    assert!(p.find(Who::Name(&user("nosuch"))).await.is_err(), "unavailable, not unknown");
    s.go_on();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restarted_is_found_again() {
    let mut s = Slapd::start();
    let p = ldaps(&s);
    let alice = find(&p, "alice").await.unwrap();
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
    s.kill();
    s.launch();
    assert!(find(&p, "alice").await.is_some(), "the next lookup works");
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
    s.kill();
    let t = Instant::now();
    assert_eq!(log_in(&p, &alice, "pw-alice").await, Err(Reason::BackendUnavailable));
    assert!(p.find(Who::Name(&user("alice"))).await.is_err());
    assert!(t.elapsed() < AT_ONCE, "{:?}", t.elapsed());
    s.launch();
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok(), "at once after its return");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_asked() {
    let (first, second) = (Slapd::start(), Slapd::start());
    // The same CA for both.
    std::fs::copy(second.path("ca.pem"), first.path("ca2.pem")).unwrap();
    let both = format!(
        "{}{}",
        std::fs::read_to_string(first.path("ca.pem")).unwrap(),
        std::fs::read_to_string(first.path("ca2.pem")).unwrap()
    );
    std::fs::write(first.path("both.pem"), both).unwrap();
    let [dead] = free_ports();
    let urls = [dead, first.ldaps, second.ldaps].map(|port| format!("ldaps://127.0.0.1:{port}"));
    let c = config(&first.dir, &urls, &format!("ca_file = \"{}\"", first.path("both.pem")));
    let p = LdapProvider::new(&c).unwrap();
    let person = p.find(Who::Name(&user("bob"))).await.unwrap().unwrap();
    first.stop();
    let t = Instant::now();
    let again = p.find(Who::Name(&user("bob"))).await.unwrap().unwrap();
    assert!(t.elapsed() < BOUND, "{:?}", t.elapsed());
    assert_eq!(again.uid, person.uid);
    for _ in 0..5 {
        let t = Instant::now();
        assert!(log_in(&p, &again, "pw-bob").await.is_ok());
        assert!(t.elapsed() < AT_ONCE, "the hung one is not asked each time: {:?}", t.elapsed());
    }
    let findings = p.check().await;
    assert!(findings.iter().all(|f| !f.fatal), "one server works: {findings:?}");
    assert_eq!(findings.iter().filter(|f| f.id == "ldap-unreachable").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_whose_answer_is_lost_is_not_sent_again() {
    let s = Slapd::start();
    let proxy = Proxy::to(s.ldap, b"pw-alice", 1).await;
    // A second way to the server, which would have the answer.
    let urls = [proxy.port, s.ldap].map(|port| format!("ldap://127.0.0.1:{port}"));
    let p = LdapProvider::new(&config(&s.dir, &urls, "allow_plaintext = true")).unwrap();
    let alice = find(&p, "alice").await.unwrap();
    assert_eq!(log_in(&p, &alice, "pw-alice").await, Err(Reason::BackendUnavailable));
    assert_eq!(proxy.seen(), 1);
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok(), "the next login goes the other way");
    assert_eq!(proxy.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_whose_answer_is_lost_is_asked_once_more() {
    let s = Slapd::start();
    for (cuts, works) in [(1, true), (9, false)] {
        let proxy = Proxy::to(s.ldap, b"gidNumber", cuts).await;
        let p = at(&s, &format!("ldap://127.0.0.1:{}", proxy.port), "allow_plaintext = true");
        let ml = p.find_group(Which::Gid(20102, None)).await;
        assert_eq!((ml.is_ok(), proxy.seen()), (works, 2), "{ml:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_has_just_read_is_good_for_one_password_and_one_moment() {
    let s = Slapd::start();
    let proxy = Proxy::to(s.ldap, b"uidNumber", 0).await;
    let p = at(&s, &format!("ldap://127.0.0.1:{}", proxy.port), "allow_plaintext = true");
    let alice = find(&p, "alice").await.unwrap();
    assert_eq!(log_in(&p, &alice, "wrong").await, Err(Reason::WrongPassword));
    assert_eq!(proxy.seen(), 1, "her entry was read once");
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
    assert_eq!(proxy.seen(), 2, "for a second password once more");
    assert!(find(&p, "nosuch").await.is_none());
    p.verify_decoy("nosuch", &secret("wrong")).await;
    assert_eq!(proxy.seen(), 3, "as it is of nobody");
    p.verify_decoy("nosuch", &secret("wrong")).await;
    assert_eq!(proxy.seen(), 4);
    let alice = find(&p, "alice").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
    assert_eq!(proxy.seen(), 6, "too long ago");
    // She whom the login is for is not she who was read.
    let mut other = find(&p, "alice").await.unwrap();
    other.key.subject = "00000000-0000-4000-8000-000000000000".into();
    assert_eq!(log_in(&p, &other, "pw-alice").await, Err(Reason::NameTaken));
    assert_eq!(proxy.seen(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let s = Slapd::start();
    let p = std::sync::Arc::new(ldaps(&s));
    let alice = find(&p, "alice").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..40 {
        let (p, alice) = (p.clone(), alice.clone());
        tasks.spawn(async move {
            // Whose bind was whose: a right password never gets the answer of a wrong one.
            if i % 2 == 0 {
                assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
            } else {
                assert_eq!(log_in(&p, &alice, "wrong").await, Err(Reason::WrongPassword));
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

/// Answers everything with the same bytes.
async fn parrot(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((mut c, _)) = listener.accept().await {
            let mut buffer = [0; 512];
            let _ = c.read(&mut buffer).await;
            let _ = c.write_all(answer).await;
        }
    });
    (port, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_starttls_gets_no_password() {
    // ExtendedResponse, protocolError.
    let (port, server) = parrot(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00").await;
    let dir = slapd::Scratch::new();
    let c = config(&dir.0, &[format!("ldap://127.0.0.1:{port}")], "start_tls = true");
    let p = LdapProvider::new(&c).unwrap();
    let findings = p.check().await;
    assert!(findings[0].id == "ldap-starttls" && findings[0].fatal, "{findings:?}");
    assert!(p.find(Who::Name(&user("alice"))).await.is_err());
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_ldap_server_is_unavailable() {
    // Each is answered to whatever comes; the first panics in the library's parser.
    for garbage in [
        &b"\x30\x00"[..],
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x01",
        b"\x30\x05\x02\x01\x01\x61\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ] {
        let (port, server) = parrot(garbage).await;
        let dir = slapd::Scratch::new();
        let c = config(&dir.0, &[format!("ldap://127.0.0.1:{port}")], "allow_plaintext = true");
        let p = LdapProvider::new(&c).unwrap();
        let t = Instant::now();
        let e = p.find(Who::Name(&user("alice"))).await.unwrap_err();
        assert!(t.elapsed() < BOUND, "{:?} {}", t.elapsed(), e.0);
        assert!(!e.0.contains(READER_PASSWORD), "{}", e.0);
        assert!(p.check().await.iter().any(|f| f.fatal));
        server.abort();
    }
}
