//! By what people are known where they prove themselves, as a real directory has it.

use super::*;
use gpuhubd::model::Method;

fn joined(s: &Slapd, lines: &str) -> LdapProvider {
    let sso =
        "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://x\"\nclient_id = \"c\"\nallow_anyone = true";
    let extra = format!("{}\nlogin = \"sso\"\n{lines}\n{sso}", with_ca(s));
    let text = text(&s.dir, &[format!("ldaps://127.0.0.1:{}", s.ldaps)], &extra);
    match Config::parse("test", &text).unwrap().providers.remove(0) {
        ProviderConfig::Ldap(c) => LdapProvider::new(&c).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn values(p: &LdapProvider, name: &str) -> Result<Vec<String>, Reason> {
    let person = find(p, name).await.unwrap();
    let values = p.join(&person).await.map(|join| join.values).map_err(|d| d.reason);
    // What was read a moment ago is used once; then the directory is asked again, and says the same.
    assert_eq!(p.join(&person).await.map(|join| join.values).map_err(|d| d.reason), values);
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_attribute_or_the_name() {
    let s = Slapd::start();
    let by_name = joined(&s, "");
    assert_eq!(
        (by_name.method(), by_name.signs_in_at(), by_name.knows_people()),
        (Method::DeviceCode, Some("sso"), true)
    );
    assert_eq!(values(&by_name, "bob").await, Ok(vec!["bob".into()]), "an alias is none of her names");
    let by_number = joined(&s, "login_attribute = \"uidNumber\"\nlogin_claim = \"uid_number\"");
    assert_eq!(values(&by_number, "bob").await, Ok(vec!["20002".into()]));
    let by_key = joined(&s, "login_attribute = \"ENTRYuuid\"\nlogin_claim = \"oid\"");
    let alice = find(&by_key, "alice").await.unwrap();
    assert_eq!(values(&by_key, "alice").await, Ok(vec![alice.key.subject.clone()]), "operational attributes, too");
    let by_uid = joined(&s, "login_attribute = \"uid\"");
    let mut both = values(&by_uid, "bob").await.unwrap();
    both.sort();
    assert_eq!(both, ["Bobby", "bob"]);
    let by_mail = joined(&s, "login_attribute = \"mail\"\nlogin_claim = \"email\"");
    assert_eq!(values(&by_mail, "alice").await, Err(Reason::EntryRefused));
    // Who has another entry by now is somebody else.
    let other = Person { key: find(&by_mail, "bob").await.unwrap().key, ..alice.clone() };
    assert_eq!(by_mail.join(&other).await.map_err(|d| d.reason), Err(Reason::UnknownUser));
    assert_eq!(log_in(&by_name, &alice, "pw-alice").await, Err(Reason::Internal), "no password counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_sees_who_has_it() {
    let s = Slapd::start();
    for (attribute, fatal) in [("uidNumber", &[false][..]), ("mail", &[false, true]), ("gecos", &[false, false])] {
        let p = joined(&s, &format!("login_attribute = \"{attribute}\"\nlogin_claim = \"x\""));
        let findings = p.check().await;
        assert_eq!(findings.iter().map(|f| f.fatal).collect::<Vec<_>>(), fatal, "{attribute}: {findings:?}");
        assert!(findings.iter().skip(1).all(|f| f.id == "ldap-login" && f.what.contains(attribute)), "{findings:?}");
    }
}
