//! Whom a directory's own rules let in, where.

use super::groups::bis;
use super::*;
use gpuhubd::provider::Origin;

fn with(s: &Slapd, lines: &str) -> LdapProvider {
    at(s, &format!("ldaps://127.0.0.1:{}", s.ldaps), &format!("{}\n{lines}", with_ca(s)))
}

async fn permits(p: &LdapProvider, name: &str, service: &str, host: &str, source: Option<&str>) -> Result<(), Reason> {
    let person = find(p, name).await.unwrap();
    let origin = Origin { box_name: host.into(), service: service.into(), source: source.map(str::to_owned) };
    p.permits(&person, &origin).await.map_err(|d| d.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_with_what_the_login_is() {
    const NO: Result<(), Reason> = Err(Reason::NotAllowed);
    let s = Slapd::start();
    let open = ldaps(&s);
    assert_eq!(permits(&open, "alice", "sshd", "gpu1", None).await, Ok(()));

    let staff = with(&s, "access_filter = \"(employeeType=staff)\"");
    assert_eq!(permits(&staff, "placed", "sshd", "gpu1", None).await, Ok(()));
    assert_eq!(permits(&staff, "alice", "sshd", "gpu1", None).await, NO);

    let here = with(&s, "access_filter = \"(&(host=$host)(authorizedService=$service)(uid=$username))\"");
    assert_eq!(permits(&here, "placed", "sshd", "gpu1", None).await, Ok(()));
    assert_eq!(permits(&here, "placed", "login", "gpu1", None).await, NO);
    assert_eq!(permits(&here, "placed", "sshd", "gpu9", None).await, NO);
    // Whatever a stranger calls his host or service is a value and no filter.
    for forged in ["*", "gpu1)(uid=*", "*)(|(uid=*", "\\2a", "gpu1\0"] {
        assert_eq!(permits(&here, "placed", "sshd", forged, None).await, NO, "{forged}");
        assert_eq!(permits(&here, "placed", forged, "gpu1", None).await, NO, "{forged}");
    }
    let from = with(&s, "access_filter = \"(|(host=$rhost)(uid=alice))\"");
    assert_eq!(permits(&from, "placed", "sshd", "x", Some("gpu2")).await, Ok(()));
    for source in [None, Some(""), Some("*"), Some("gpu2)(host=*")] {
        assert_eq!(permits(&from, "placed", "sshd", "x", source).await, NO, "{source:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_list_boxes_and_services() {
    let s = Slapd::start();
    let p = with(&s, "access_attributes = [\"host\", \"authorizedService\"]");
    assert_eq!(permits(&p, "placed", "sshd", "gpu1", None).await, Ok(()));
    assert_eq!(permits(&p, "placed", "sshd", "gpu3", None).await, Err(Reason::NotAllowed));
    assert_eq!(permits(&p, "placed", "login", "gpu1", None).await, Err(Reason::NotAllowed));
    assert_eq!(permits(&p, "alice", "sshd", "gpu1", None).await, Err(Reason::NotAllowed), "none is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rules_may_call_her_groups() {
    let s = Slapd::start_bis();
    let p = bis(&s, "");
    let somebody = find(&p, "alice").await.unwrap();
    let names: Vec<&str> = somebody.groups.iter().map(|g| g.name.as_str()).collect();
    assert!(!names.is_empty());
    for name in names {
        let dn = format!("cn={}", name.to_lowercase());
        assert!(somebody.also_in.iter().any(|other| other.starts_with(&dn)), "{name}: {:?}", somebody.also_in);
    }
    assert!(somebody.also_in.len() > somebody.groups.len(), "groups that are no POSIX groups count, too");

    let s = Slapd::start();
    let alice = find(&ldaps(&s), "alice").await.unwrap();
    assert!(alice.also_in.contains(&"staffers".to_owned()), "her primary group: {:?}", alice.also_in);
    assert!(alice.also_in.contains(&format!("cn=ml,ou=groups,{SUFFIX}")), "{:?}", alice.also_in);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_keys() {
    let s = Slapd::start();
    let p = ldaps(&s);
    let keys = |name: &'static str| {
        let p = &p;
        async move { p.ssh_keys(&user(name)).await.unwrap() }
    };
    assert_eq!(
        keys("keyed").await.map(|mut keys| {
            keys.sort();
            keys
        }),
        Some(vec!["first key".into(), "second key".into()])
    );
    assert_eq!(keys("alice").await, Some(vec![]));
    assert_eq!(keys("nobody-here").await, None);
}
