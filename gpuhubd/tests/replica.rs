//! `sync = "replica"` against a real slapd: with content synchronisation, without, and without saying so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod slapd;
mod support;

use gpuhub_common::client::CallError;
use gpuhub_common::entry::Passwd;
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::snapshot::{Lookup, Mapping, Out, now_ms};
use gpuhub_common::wire::{Call, Code, Context, ErrorCode, UserQuery, UserReply, Verdict};
use gpuhubd::config::{Config, ProviderConfig};
use gpuhubd::provider::ldap::LdapProvider;
use gpuhubd::provider::{Provider, Which, Who};
use ldap3::{LdapConnAsync, Mod};
use slapd::{
    ENTRIES, ENTRIES_BIS, READER, READER_PASSWORD, ROOT, ROOT_PASSWORD, SUFFIX, Slapd, Tells, free_ports, secret_file,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
use support::Broker;

/// For something to be seen that takes a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// A person that each test has somebody of.
fn person(name: &str, uid: u32) -> Vec<(String, HashSet<String>)> {
    let home = format!("/home/{name}");
    let uid = uid.to_string();
    let attributes: [(&str, &[&str]); 7] = [
        ("objectClass", &["inetOrgPerson", "posixAccount"]),
        ("uid", &[name]),
        ("cn", &[name]),
        ("sn", &[name]),
        ("uidNumber", &[&uid]),
        ("gidNumber", &["20100"]),
        ("homeDirectory", &[&home]),
    ];
    attributes.map(|(n, v)| (n.to_owned(), v.iter().map(|v| (*v).to_owned()).collect())).to_vec()
}

fn dn(name: &str) -> String {
    format!("uid={name},ou=people,{SUFFIX}")
}

/// A directory and a broker that keeps it whole.
struct Site {
    slapd: Slapd,
    broker: Broker,
}

impl Site {
    fn start(name: &str, slapd: Slapd, more: &str) -> Self {
        let broker =
            Broker::start(&format!("replica-{name}"), &provider(&slapd, &format!("sync = \"replica\"\n{more}")));
        Self { slapd, broker }
    }

    /// The writer's connection.
    async fn root(&self) -> ldap3::Ldap {
        let (connection, mut ldap) =
            LdapConnAsync::new(&format!("ldap://127.0.0.1:{}", self.slapd.ldap)).await.unwrap();
        ldap3::drive!(connection);
        ldap.simple_bind(ROOT, ROOT_PASSWORD).await.unwrap().success().unwrap();
        ldap
    }

    async fn add(&self, name: &str, uid: u32) {
        self.root().await.add(&dn(name), person(name, uid)).await.unwrap().success().unwrap();
    }

    async fn delete(&self, dn: &str) {
        self.root().await.delete(dn).await.unwrap().success().unwrap();
    }

    async fn modify(&self, dn: &str, mods: Vec<Mod<String>>) {
        self.root().await.modify(dn, mods).await.unwrap().success().unwrap();
    }

    fn mapping(&self) -> Mapping {
        let start = Instant::now();
        loop {
            let local = || Ok(LocalAccounts::from_texts("", "", ""));
            match Mapping::open_with(&self.broker.dir.join("run/snapshot"), local) {
                Ok(mapping) => return mapping,
                // The broker has just begun.
                Err(e) => assert!(start.elapsed() < PATIENCE, "{e:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether who is not in the snapshot does not exist.
    fn vouches(&self) -> bool {
        let mapping = self.mapping();
        mapping.view().complete() && mapping.view().is_fresh(now_ms())
    }

    /// What getpwent(3) tells: names and uids.
    fn people(&self) -> BTreeMap<String, u32> {
        let (mapping, mut memory, mut n, mut all) = (self.mapping(), [MaybeUninit::uninit(); 4096], 0, BTreeMap::new());
        loop {
            let mut out = Out::new(&mut memory);
            match mapping.user_at(&mut n, &mut out) {
                Lookup::Found(Ok(e)) => {
                    let name = String::from_utf8(e.fields(out.bytes())[0].to_vec()).unwrap();
                    assert!(all.insert(name, e.uid).is_none(), "told twice");
                }
                Lookup::Absent => return all,
                _ => {}
            }
            n += 1;
        }
    }

    /// What getgrent(3) tells: names and members.
    fn groups(&self) -> BTreeMap<String, BTreeSet<String>> {
        let (mapping, mut memory, mut n, mut all) = (self.mapping(), [MaybeUninit::uninit(); 4096], 0, BTreeMap::new());
        loop {
            let mut out = Out::new(&mut memory);
            match mapping.group_at(&mut n, &mut out) {
                Lookup::Found(Ok(e)) => {
                    let text = |t: &[u8]| String::from_utf8(t.to_vec()).unwrap();
                    all.insert(text(e.name(out.bytes())), e.members(out.bytes()).map(text).collect());
                }
                Lookup::Absent => return all,
                _ => {}
            }
            n += 1;
        }
    }

    fn gids_of(&self, name: &str) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        let found = self.mapping().group_ids_of(name.as_bytes(), |gids| all.extend(gids));
        assert!(matches!(found, Lookup::Found(Ok(()))), "{name}");
        all
    }

    fn ask(&self, name: &str) -> Result<Passwd, CallError> {
        let call = Call::GetUser(UserQuery { name: Some(name.into()), uid: None, login: false });
        self.broker.client().call(call, Duration::from_secs(5)).map(|UserReply { user }| user)
    }

    fn account(&self, name: &str) -> Code {
        let context = Context { user: name.into(), service: "sshd".into(), ..Context::default() };
        let Verdict { code, .. } = self.broker.client().call(Call::Account(context), Duration::from_secs(10)).unwrap();
        code
    }

    /// Waits until it is so, and says how long that took.
    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            let audit = self.broker.audit();
            assert!(start.elapsed() < PATIENCE, "never: {what}; {:?}; {audit:#?}", self.people());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("{what}: {:?}", start.elapsed());
    }
}

fn provider(slapd: &Slapd, more: &str) -> String {
    let password = secret_file(&slapd.dir, "reader", READER_PASSWORD);
    format!(
        "[[provider]]\nkind = \"ldap\"\nname = \"corp\"\nurls = [\"ldap://127.0.0.1:{}\"]\nallow_plaintext = true\n\
         base = \"{SUFFIX}\"\nbind_dn = \"{READER}\"\nbind_password_file = \"{password}\"\ntimeout = \"2s\"\n{more}\n",
        slapd.ldap
    )
}

/// Adds, changes, renames, deletes; the same whichever way the changes come.
async fn follows(site: &Site) {
    site.until("everybody", |s| s.people().get("alice") == Some(&20001) && s.groups().contains_key("ml")).await;
    let people = site.people();
    assert!(people.contains_key("bob") && people.contains_key("locked") && !people.contains_key("twin"), "{people:?}");
    assert!(!people.contains_key("evil") && !people.contains_key("hidden"), "{people:?}");
    assert_eq!(site.groups()["ml"], BTreeSet::from(["alice", "bob"].map(String::from)));
    assert_eq!(site.gids_of("alice"), BTreeSet::from([20101, 20102]));
    assert!(!site.vouches(), "of two of one name nobody knows who is meant");
    site.delete(&format!("uid=twin,ou=other,{SUFFIX}")).await;
    site.until("one twin is nobody's double", |s| s.people().contains_key("twin")).await;
    site.until("all is clear", Site::vouches).await;

    site.add("zoe", 20500).await;
    site.until("added", |s| s.people().get("zoe") == Some(&20500)).await;
    let ml = format!("cn=ml,ou=groups,{SUFFIX}");
    let zoe = || HashSet::from(["zoe".to_owned()]);
    site.modify(&ml, vec![Mod::Add("memberUid".into(), zoe())]).await;
    site.until("a member", |s| s.groups()["ml"].contains("zoe") && s.gids_of("zoe").contains(&20102)).await;
    site.modify(&ml, vec![Mod::Delete("memberUid".into(), zoe())]).await;
    site.until("no member", |s| !s.groups()["ml"].contains("zoe") && s.gids_of("zoe").is_empty()).await;

    assert_eq!(site.account("zoe"), Code::Success);
    site.modify(&dn("zoe"), vec![Mod::Add("objectClass".into(), HashSet::from(["shadowAccount".to_owned()]))]).await;
    site.modify(&dn("zoe"), vec![Mod::Replace("shadowExpire".into(), HashSet::from(["0".to_owned()]))]).await;
    assert_eq!(site.account("zoe"), Code::AcctExpired);
    assert_eq!(site.account("locked"), Code::AcctExpired);

    site.root().await.modifydn(&dn("zoe"), "uid=zoey", true, None).await.unwrap().success().unwrap();
    site.until("renamed", |s| s.people().get("zoey") == Some(&20500) && !s.people().contains_key("zoe")).await;
    site.delete(&dn("zoey")).await;
    site.until("deleted", |s| !s.people().contains_key("zoey")).await;
    assert_eq!(site.account("zoey"), Code::PermDenied, "who was known here is nobody else's");
    site.delete(&ml).await;
    site.until("a group deleted", |s| !s.groups().contains_key("ml") && s.gids_of("bob").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_what_the_server_tells() {
    let mut site = Site::start("told", Slapd::telling(ENTRIES, Tells::Changes), "");
    follows(&site).await;
    let line = site.broker.audited(&["\"event\":\"replica\"", "\"result\":\"ok\""]);
    assert!(line.contains("by syncrepl"), "{line}");

    site.until("vouched for", Site::vouches).await;
    site.slapd.stop();
    assert_eq!(site.ask("nosuch").unwrap_err(), CallError::Broker(ErrorCode::NoSuchEntry), "and nobody was asked");
    site.slapd.go_on();

    // It goes on from where it was, or from the beginning, after a death of the server.
    site.slapd.kill();
    site.broker.audited(&["\"event\":\"replica\"", "backend-unavailable"]);
    assert_eq!(site.people().get("alice"), Some(&20001));
    site.slapd.launch();
    site.add("yves", 20501).await;
    site.until("after a restart", |s| s.people().contains_key("yves") && s.vouches()).await;
    site.delete(&dn("yves")).await;
    site.until("deleted after a restart", |s| !s.people().contains_key("yves")).await;
}

/// RFC 4533 §3.7: of what was so long ago the server knows nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn it_begins_anew_when_the_server_wants_that() {
    let mut site = Site::start("anew", Slapd::telling(ENTRIES, Tells::ChangesOfLate), "");
    site.until("everybody", |s| s.people().contains_key("alice")).await;
    site.add("zoe", 20500).await;
    site.until("added", |s| s.people().contains_key("zoe")).await;
    site.slapd.kill();
    site.broker.audited(&["\"event\":\"replica\"", "backend-unavailable"]);
    // Everything is of later than what was told last.
    let everything = site.slapd.dump();
    let without: Vec<&str> = everything.split("\n\n").filter(|e| !e.contains("uid: bob\n")).collect();
    assert_eq!(without.len() + 1, everything.split("\n\n").count());
    // What slapadd adds it dates to the second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    site.slapd.load(&without.join("\n\n"));
    site.slapd.launch();
    site.until("gone", |s| !s.people().contains_key("bob")).await;
    assert!(site.people().contains_key("zoe") && site.people().get("alice") == Some(&20001));
    assert!(site.slapd.log().contains("err=4096"), "{}", site.slapd.log());
    site.add("yves", 20502).await;
    site.until("and goes on", |s| s.people().contains_key("yves")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_asks_again_and_again_who_does_not_tell() {
    let site = Site::start("polled", Slapd::telling(ENTRIES, Tells::Nothing), "poll_interval = \"1s\"");
    follows(&site).await;
    site.broker.audited(&["\"event\":\"replica\"", "by polling"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_it_could_tell_and_does_not_is_polled() {
    let site = Site::start("liar", Slapd::telling(ENTRIES, Tells::NothingAfterAll), "poll_interval = \"1s\"");
    site.until("everybody", |s| s.people().contains_key("alice")).await;
    site.broker.audited(&["\"event\":\"replica\"", "by polling"]);
    site.add("zoe", 20500).await;
    site.until("added", |s| s.people().contains_key("zoe")).await;
}

/// Content that was put back to an older or to another state, and content in which nobody is.
async fn survives_other_content(tells: Tells) {
    let mut site = Site::start(&format!("other-{tells:?}"), Slapd::telling(ENTRIES, tells), "poll_interval = \"1s\"");
    site.broker.audited(&["\"event\":\"replica\"", "\"result\":\"ok\""]);
    let known = site.people();

    site.slapd.kill();
    let nobody = ENTRIES.split("\n\n").filter(|e| !e.contains("posixAccount")).collect::<Vec<_>>().join("\n\n");
    site.slapd.load(&nobody);
    site.slapd.launch();
    let line = site.broker.audited(&["\"event\":\"replica\"", "shows nobody"]);
    assert!(line.contains("posixAccount"), "{line}");
    assert_eq!(site.people(), known, "nobody is deleted");

    site.slapd.kill();
    let base = ENTRIES.split("\n\n").next().unwrap();
    site.slapd.load(&format!("{base}\n"));
    site.slapd.launch();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(site.people(), known, "nor where who searches is not known there");

    site.slapd.kill();
    let without = ENTRIES.split("\n\n").filter(|e| !e.contains("uid: bob\n")).collect::<Vec<_>>().join("\n\n");
    site.slapd.load(&without);
    site.slapd.launch();
    site.until("bob is no more", |s| !s.people().contains_key("bob")).await;
    // The others were put in anew and are others: a name does not go to another key by itself.
    assert_eq!(site.people().get("alice"), Some(&20001));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_of_nobody_deletes_nobody() {
    survives_other_content(Tells::Changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_nobody_deletes_nobody() {
    survives_other_content(Tells::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_there_deletes_nobody() {
    let slapd = Slapd::telling(ENTRIES, Tells::Changes);
    let mut site = Site::start("base", slapd, "");
    site.broker.audited(&["\"event\":\"replica\"", "\"result\":\"ok\""]);
    let known = site.people();
    let wrong = format!("sync = \"replica\"\nuser_base = [\"ou=people,{SUFFIX}\", \"ou=nowhere,{SUFFIX}\"]");
    let config = format!("[audit]\nsyslog = \"/nonexistent/log\"\n{}", provider(&site.slapd, &wrong));
    std::fs::write(site.broker.dir.join("gpuhub.toml"), config).unwrap();
    site.broker.kill();
    site.broker.restart();
    site.broker.audited(&["\"event\":\"replica\"", "noSuchObject"]);
    assert_eq!(site.people(), known);
    assert!(!site.vouches());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_followed_when_the_first_has_died() {
    let (mut first, second) = (Slapd::telling(ENTRIES, Tells::Changes), Slapd::telling(ENTRIES, Tells::Changes));
    let [dead] = free_ports();
    let urls = format!("urls = [\"ldap://127.0.0.1:{}\"]", first.ldap);
    let all = format!(
        "urls = [\"ldap://127.0.0.1:{dead}\", \"ldap://127.0.0.1:{}\", \"ldap://127.0.0.1:{}\"]",
        first.ldap, second.ldap
    );
    let config = provider(&first, "sync = \"replica\"").replace(&urls, &all);
    let broker = Broker::start("replica-next", &config);
    // The second is the one that is written to.
    let site = Site { slapd: second, broker };
    site.until("everybody", |s| s.people().contains_key("alice")).await;
    first.kill();
    site.add("zoe", 20500).await;
    site.until("told by the next", |s| s.people().contains_key("zoe")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_groups_come_out_as_if_they_were_asked_for() {
    let more = "schema = \"rfc2307bis\"";
    let site = Site::start("bis", Slapd::bis_telling(Tells::Changes), more);
    site.until("everybody", |s| s.people().contains_key("alice") && s.groups().len() > 1).await;
    let asking = Config::parse("test", &provider(&site.slapd, more)).unwrap().providers.pop();
    let Some(ProviderConfig::Ldap(asking)) = asking else { panic!("no LDAP provider") };
    let asking = LdapProvider::new(&asking).unwrap();
    let people: Vec<&str> = ENTRIES_BIS.lines().filter_map(|l| l.strip_prefix("uid: ")).collect();
    let groups: Vec<&str> = ENTRIES_BIS.lines().filter_map(|l| l.strip_prefix("cn: ")).collect();
    compare(&site, &asking, &people, &groups).await;

    // A whole branch goes, and comes back.
    let group = ENTRIES_BIS.split("\n\n").find(|e| e.contains("posixGroup") && e.contains("\nmember: cn=")).unwrap();
    let field = |key: &str| group.lines().find_map(|l| l.strip_prefix(key)).unwrap().to_owned();
    let (group, member) = (field("dn: "), HashSet::from([field("member: cn=")].map(|m| format!("cn={m}"))));
    site.modify(&group, vec![Mod::Delete("member".into(), member.clone())]).await;
    compare(&site, &asking, &people, &groups).await;
    site.modify(&group, vec![Mod::Add("member".into(), member)]).await;
    compare(&site, &asking, &people, &groups).await;
}

/// Whether the snapshot comes to say what the directory says when it is asked.
async fn compare(site: &Site, asking: &LdapProvider, people: &[&str], groups: &[&str]) {
    let mut wanted_groups = BTreeMap::new();
    for name in groups.iter().filter_map(|n| GroupName::new(n).ok()) {
        if let Some(found) = asking.find_group(Which::Name(&name)).await.unwrap() {
            wanted_groups.insert(name.to_string(), found.members.iter().map(|m| m.to_string()).collect());
        }
    }
    let mut wanted_people = BTreeMap::new();
    for name in people.iter().filter_map(|n| UserName::new(n).ok()) {
        if let Some(found) = asking.find(Who::Name(&name)).await.unwrap() {
            let gids: BTreeSet<String> = found.groups.iter().map(|g| g.gid.unwrap().to_string()).collect();
            wanted_people.insert(name.to_string(), gids);
        }
    }
    assert!(wanted_groups.len() > 3 && wanted_people.len() > 2, "{wanted_groups:?} {wanted_people:?}");
    let is_so = |s: &Site| {
        let known = s.people();
        s.groups() == wanted_groups
            && known.keys().eq(wanted_people.keys())
            && wanted_people
                .iter()
                .all(|(n, gids)| s.gids_of(n).iter().map(u32::to_string).collect::<BTreeSet<_>>() == *gids)
    };
    let start = Instant::now();
    while !is_so(site) {
        assert!(
            start.elapsed() < PATIENCE,
            "{:#?}\nis not\n{wanted_groups:#?}\n{wanted_people:?}, {:?}",
            site.groups(),
            site.people()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
