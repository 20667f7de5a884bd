//! The example configurations are configurations, with what they offer instead, too. They are run against their
//! servers in tests/e2e.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use gpuhubd::config::{Config, LdapConfig, LdapIds, LdapSchema, PROFILES, ProviderConfig};
use rcgen::{CertificateParams, KeyPair};
use std::os::unix::fs::PermissionsExt;

/// A provider of LDAP.
fn provider(example: &str, instead: &[(&str, &str)]) -> LdapConfig {
    let ProviderConfig::Ldap(ldap) = only_one(example, instead) else { panic!("not LDAP") };
    assert!(ldap.bind_password_file.is_some() && ldap.urls.len() == 2);
    *ldap
}

/// The only provider of an example.
fn only_one(example: &str, instead: &[(&str, &str)]) -> ProviderConfig {
    let mut providers = all(example, instead);
    let provider = providers.pop().unwrap();
    assert!(providers.is_empty());
    provider
}

/// The providers of an example in `conf/`, whose files are there.
fn all(example: &str, instead: &[(&str, &str)]) -> Vec<ProviderConfig> {
    let dir = std::env::temp_dir().join(format!("gpuhub-{}-{}-{}", example, instead.len(), std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let ca = CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
    for (name, content) in [
        ("ca.pem", ca.pem()),
        ("ldap.secret", "x\n".into()),
        ("oidc.secret", "x\n".into()),
        ("directory.secret", "x\n".into()),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/");
    let mut text = std::fs::read_to_string(format!("{path}{example}")).unwrap();
    for (old, new) in instead {
        assert!(text.contains(old), "{example} has no {old}");
        text = text.replace(old, new);
    }
    text = text.replace("\"/etc/gpuhub/", &format!("\"{}/", dir.display()));
    let config = Config::parse(example, &text).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    config.providers
}

#[test]
fn openldap() {
    assert_eq!(provider("openldap.toml", &[]).schema, LdapSchema::Rfc2307);
}

#[test]
fn active_directory() {
    assert_eq!(provider("active-directory.toml", &[]).ids(), LdapIds::Sid);
    assert_eq!(provider("active-directory.toml", &[("# ids =", "ids =")]).ids(), LdapIds::Attributes);
}

#[test]
fn ipa_and_389ds() {
    assert_eq!(provider("389ds-ipa.toml", &[]).schema, LdapSchema::Ipa);
    let instead = [("schema = \"ipa\"", "#"), ("# schema =", "schema ="), ("# attributes", "attributes")];
    let plain = provider("389ds-ipa.toml", &instead);
    assert_eq!(plain.schema, LdapSchema::Rfc2307bis);
    assert_eq!(plain.attributes.user_key.as_deref(), Some("nsUniqueId"));
}

#[test]
fn a_directory_and_a_sign_on() {
    let unique = [
        ("login_attribute = \"mail\"", "#"),
        ("login_claim = \"email\"", "#"),
        ("# login_attribute", "login_attribute"),
        ("# login_claim", "login_claim"),
    ];
    for (instead, attribute) in [(&[][..], "mail"), (&unique, "entryUUID")] {
        let [ProviderConfig::Ldap(ldap), ProviderConfig::Oidc(sso)] = &all("ldap-with-sso.toml", instead)[..] else {
            panic!()
        };
        assert_eq!((ldap.login.as_deref(), ldap.login_attribute.as_deref()), (Some("sso"), Some(attribute)));
        assert!(!sso.has_people);
    }
}

/// Each kind that is no standard has its example and its page, and what an example offers instead is right, too.
#[test]
fn one_of_each_kind() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/providers/");
    for profile in PROFILES.iter().filter(|p| p.kind != "oidc") {
        let example = format!("{}.toml", profile.kind);
        let ProviderConfig::Oidc(config) = only_one(&example, &[]) else { panic!("{example}") };
        assert_eq!((config.profile.kind, config.ask_again), (profile.kind, None));
        let again = only_one(&example, &[("# ask_again", "ask_again")]);
        assert!(matches!(again, ProviderConfig::Oidc(config) if config.ask_again.is_some()), "{example}");
        let page = std::fs::read_to_string(format!("{docs}{}.md", profile.kind)).unwrap();
        let honest = ["**Run against the provider", "**Written from its documents"]
            .iter()
            .filter(|h| page.contains(**h))
            .count();
        assert!(page.contains("For `ask_again`"), "{example}: what it takes there is on its page");
        assert!(honest == 1 && page.contains("https://"), "{example}: how it was tested, and the documents");
    }
    let roles = [("# groups_claim", "groups_claim"), ("# group_rules", "group_rules"), ("#   {", "  {"), ("# ]", "]")];
    let ProviderConfig::Oidc(keycloak) = only_one("keycloak.toml", &roles) else { panic!() };
    assert_eq!((keycloak.groups_claims.len(), keycloak.group_rules.len()), (3, 3));
    let several = [
        ("tenant = \"00000000-0000-0000-0000-000000000000\"", "tenant = \"organizations\""),
        ("# allowed_tenants", "allowed_tenants"),
    ];
    let ProviderConfig::Oidc(entra) = only_one("entra.toml", &several) else { panic!() };
    assert!(entra.tenants.is_some());
    let client = [
        ("# [provider", "[provider"),
        ("# client_id", "client_id"),
        ("# client_secret_file = \"/etc/gpuhub/d", "client_secret_file = \"/etc/gpuhub/d"),
    ];
    let token = [("# [provider", "[provider"), ("# token_file", "token_file")];
    for (example, instead) in [("keycloak.toml", &client[..]), ("entra.toml", &client[..]), ("github.toml", &token[..])]
    {
        let ProviderConfig::Oidc(config) = only_one(example, instead) else { panic!("{example}") };
        assert!(config.directory.is_some(), "{example}");
    }
    let names = [("# name_claim", "name_claim"), ("# strip_domains", "strip_domains")];
    let ProviderConfig::Oidc(dex) = only_one("dex.toml", &names) else { panic!() };
    assert_eq!(dex.name_claims.len(), 2);
}
