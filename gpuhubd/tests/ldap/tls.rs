//! Whom TLS trusts, and who we are by it.

use super::*;

/// As the others, but of who searches: `lines` say that.
fn provider(s: &Slapd, url: &str, lines: &str) -> Result<LdapProvider, String> {
    let text = format!(
        "[[provider]]\nkind = \"ldap\"\nname = \"corp\"\nurls = [\"{url}\"]\nbase = \"{SUFFIX}\"\n\
         connect_timeout = \"1s\"\ntimeout = \"1s\"\n{lines}\n"
    );
    let config = Config::parse("test", &text).map_err(|e| e.to_string())?;
    let [ProviderConfig::Ldap(config)] = &config.providers[..] else { panic!("no LDAP provider") };
    assert!(s.dir.exists());
    LdapProvider::new(config)
}

fn key_file(s: &Slapd, name: &str) -> String {
    let key = std::fs::read_to_string(s.path(&format!("{name}.key"))).unwrap();
    secret_file(&s.dir, &format!("{name}.secret"), &key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_who_searches() {
    let s = Slapd::start();
    make_certificate(&s.dir, "ca", "client", "DNS:client", Valid::Now);
    make_certificate(&s.dir, "ca", "stranger", "DNS:stranger", Valid::Now);
    let url = format!("ldaps://127.0.0.1:{}", s.ldaps);
    let shown = |name: &str| {
        format!(
            "{}\nclient_cert_file = \"{}\"\nclient_key_file = \"{}\"",
            with_ca(&s),
            s.path(&format!("{name}.pem")),
            key_file(&s, name)
        )
    };
    let p = provider(&s, &url, &format!("{}\nbind_external = true", shown("client"))).unwrap();
    let alice = find(&p, "alice").await.unwrap();
    assert_eq!(log_in(&p, &alice, "pw-alice").await.map(|a| a.name), Ok(alice.name));

    // It is only shown, and nobody searches by it: the directory hides its people from strangers.
    let p = provider(&s, &url, &shown("client")).unwrap();
    assert_eq!(find_or_not(&p, "alice").await, None);
    let p = provider(&s, &url, &format!("{}\nbind_external = true", shown("stranger"))).unwrap();
    assert_eq!(find_or_not(&p, "alice").await, None);

    let p = provider(&s, &format!("ldapi://{}", s.path("ldapi")), "bind_external = true").unwrap();
    assert!(find(&p, "alice").await.is_some());
}

/// Somebody, if she can be seen.
async fn find_or_not(p: &LdapProvider, name: &str) -> Option<Person> {
    p.find(Who::Name(&user(name))).await.unwrap_or(None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_authorities() {
    let s = Slapd::start();
    make_ca(&s.dir, "other");
    let url = format!("ldaps://127.0.0.1:{}", s.ldaps);
    let reader =
        format!("bind_dn = \"{READER}\"\nbind_password_file = \"{}\"", secret_file(&s.dir, "reader", READER_PASSWORD));
    let dir = |name: &str, files: &[&str]| {
        let dir = s.dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        for file in files {
            std::fs::copy(s.path(file), dir.join(file)).unwrap();
        }
        std::fs::write(dir.join("README"), "no certificate").unwrap();
        format!("{reader}\nca_dir = \"{}\"", dir.display())
    };
    let p = provider(&s, &url, &dir("both", &["other.pem", "ca.pem"])).unwrap();
    assert!(find(&p, "alice").await.is_some());
    let p = provider(&s, &url, &dir("wrong", &["other.pem"])).unwrap();
    assert!(p.find(Who::Name(&user("alice"))).await.is_err(), "a stranger's certificate");
    let why = provider(&s, &url, &dir("empty", &[])).err().unwrap();
    assert!(why.contains("has no certificate"), "{why}");
}

#[test]
fn halves_are_no_configuration() {
    let refused = |lines: &str| {
        let text = format!(
            "[[provider]]\nkind = \"ldap\"\nname = \"corp\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\n{lines}\n"
        );
        Config::parse("test", &text).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused("client_cert_file = \"/x\"").contains("go together"));
    assert!(refused("bind_external = true").contains("nothing to show"));
    assert!(refused("ca_dir = \"/nonexistent\"").contains("cannot be read"));
}
