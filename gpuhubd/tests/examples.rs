//! The example configurations are configurations, with what they offer instead, too. They are run against their
//! servers in tests/e2e.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use gpuhubd::config::{Config, LdapConfig, LdapIds, LdapSchema, ProviderConfig};
use rcgen::{CertificateParams, KeyPair};
use std::os::unix::fs::PermissionsExt;

/// The only provider of an example in `conf/`, whose files are there.
fn provider(example: &str, instead: &[(&str, &str)]) -> LdapConfig {
    let dir = std::env::temp_dir().join(format!("gpuhub-{}-{}-{}", example, instead.len(), std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let ca = CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
    for (name, content) in [("ca.pem", ca.pem()), ("ldap.secret", "x\n".into())] {
        std::fs::write(dir.join(name), content).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/");
    let mut text = std::fs::read_to_string(format!("{path}{example}")).unwrap();
    for (old, new) in instead.iter().chain([&("/etc/gpuhub", dir.to_str().unwrap())]) {
        assert!(text.contains(old), "{example} has no {old}");
        text = text.replace(old, new);
    }
    let mut config = Config::parse(example, &text).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let Some(ProviderConfig::Ldap(ldap)) = config.providers.pop() else { panic!("not LDAP") };
    assert!(config.providers.is_empty() && ldap.bind_password_file.is_some() && ldap.urls.len() == 2);
    *ldap
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
