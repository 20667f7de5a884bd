//! What the doctor finds at a directory.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_wrong() {
    let s = Slapd::start();
    let ldaps_url = format!("ldaps://127.0.0.1:{}", s.ldaps);
    let ca = with_ca(&s);
    let found = async |url: &str, extra: &str| {
        let findings = at(&s, url, extra).check().await;
        assert_eq!(findings.len(), 1, "{findings:?}");
        let f = findings.into_iter().next().unwrap();
        println!("{} {}: {} {}", f.id, f.fatal, f.what, f.remedy);
        assert_eq!(f.fatal, !f.remedy.is_empty());
        f
    };
    assert_eq!(found(&ldaps_url, &ca).await.id, "ldap-ok");

    let [dead] = free_ports();
    let f = found(&format!("ldaps://127.0.0.1:{dead}"), &ca).await;
    assert_eq!(f.id, "ldap-unreachable");
    assert!(f.what.contains("refused"), "{}", f.what);
    let f = found("ldaps://no-such-host.invalid", &ca).await;
    assert_eq!(f.id, "ldap-unreachable");
    // No TLS on that port.
    assert_eq!(found(&format!("ldaps://127.0.0.1:{}", s.ldap), &ca).await.id, "ldap-unreachable");

    let f = found(&ldaps_url, "").await;
    assert_eq!(f.id, "ldap-certificate");
    assert!(f.what.contains("CA that is not known") && f.remedy.contains("ca_file"), "{}", f.what);

    for missing in ["ou=nosuch,dc=example,dc=org", "dc=elsewhere", "not a dn"] {
        assert_eq!(found(&ldaps_url, &format!("{ca}\nuser_base = \"{missing}\"")).await.id, "ldap-base");
    }
    let f = found(&ldaps_url, &format!("{ca}\nuser_base = \"ou=groups,dc=example,dc=org\"")).await;
    assert!(f.id == "ldap-base" && f.what.contains("nothing that matches (objectClass=posixAccount)"), "{}", f.what);

    let mut text = config(&s.dir, std::slice::from_ref(&ldaps_url), &ca);
    text.bind_dn = Some(format!("cn=nobody,{SUFFIX}"));
    let findings = LdapProvider::new(&text).unwrap().check().await;
    assert!(findings[0].id == "ldap-bind" && findings[0].fatal, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_reads_certificates() {
    let mut s = Slapd::start();
    let url = format!("ldap://127.0.0.1:{}", s.ldap);
    let extra = format!("start_tls = true\n{}", with_ca(&s));
    make_ca(&s.dir, "stranger");
    for (ca, names, valid, id, words) in [
        ("ca", "IP:127.0.0.1", Valid::Past, "ldap-certificate", "expired on 2020-02-01"),
        ("ca", "IP:127.0.0.1", Valid::Future, "clock", "valid from 2048-01-01"),
        ("ca", "DNS:ldap.example.org", Valid::Now, "ldap-certificate", "is for ldap.example.org, not for 127.0.0.1"),
        ("stranger", "IP:127.0.0.1", Valid::Now, "ldap-certificate", "CA that is not known here"),
    ] {
        s.kill();
        make_certificate(&s.dir, ca, "server", names, valid);
        s.launch();
        let p = at(&s, &url, &extra);
        let findings = p.check().await;
        assert!(findings[0].fatal && findings[0].id == id && findings[0].what.contains(words), "{findings:?}");
        let e = p.find(Who::Name(&user("alice"))).await.unwrap_err();
        assert!(e.0.contains("TLS failed"), "{}", e.0);
    }
}
