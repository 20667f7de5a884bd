//! The configuration: one TOML file, refused with file, line and remedy where it is wrong.
//!
//! Everything is checked here, before the broker serves anybody, and secrets are read here,
//! while it is still root.

mod access;
mod claims;
mod join;
mod ldap;
mod local_groups;
mod oidc;
mod oidc_check;
mod oidc_directory;
mod passcode;
mod people;
mod profile;
mod providers;
mod values;

pub use access::{Access, AccessRules};
pub use claims::{ClaimPath, GroupRule, Pattern, Template};
pub use ldap::{
    AccessAttribute, LdapAttributes, LdapConfig, LdapIds, LdapMembers, LdapSchema, LdapSync, OneOrMore, SrvScheme,
    fill_in,
};
pub use local_groups::LocalGroup;
pub use oidc::{Endpoints, OidcConfig, Organization, Qr, Tenants};
pub use oidc_check::is_email;
pub use oidc_directory::DirectoryConfig;
pub use passcode::Passcode;
pub use people::{Audit, Builtin, DeclaredGroup, DeclaredUser, Ids, People, ServiceMode, Services};
pub use profile::{PROFILES, Profile, Proof, is_guid};
pub use providers::ProviderConfig;
pub use values::{ConfigError, DurationText, SecretFile, is_mounted_secret};

use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The whole configuration, checked.
#[derive(Debug, Default)]
pub struct Config {
    /// `[broker]`
    pub broker: Broker,
    /// `[ids]`
    pub ids: Ids,
    /// `[people]`
    pub people: People,
    /// `[access]`
    pub access: Access,
    /// `[services]`
    pub services: Services,
    /// `[passcode]`
    pub passcode: Passcode,
    /// `[audit]`
    pub audit: Audit,
    /// `[builtin]`
    pub builtin: Builtin,
    /// `[[local_group]]`
    pub local_groups: Vec<Spanned<LocalGroup>>,
    /// `[[provider]]`, in order
    pub providers: Vec<ProviderConfig>,
}

/// `[broker]`: the process itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// What the box is called in prompts and JSON audit lines; absent: the host name.
    pub box_name: Option<String>,
    /// Unix users besides root who may run logins: the service user of an unprivileged JupyterHub.
    pub login_peers: Vec<u32>,
    /// Where the key is by which the refresh tokens of people are sealed; made if it is not there. Not where the store
    /// is: who copies that has no key.
    pub grant_key_file: Option<PathBuf>,
}

/// See [`Broker::grant_key_file`].
pub const GRANT_KEY_FILE: &str = "/etc/gpuhub/grant.key";

/// Every table but the providers, for serde.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    broker: Broker,
    ids: Ids,
    people: People,
    access: Access,
    services: Services,
    passcode: Passcode,
    audit: Audit,
    builtin: Builtin,
    #[serde(rename = "local_group")]
    local_groups: Vec<Spanned<LocalGroup>>,
}

impl Config {
    /// Reads the file. One that does not exist is the empty configuration: a freshly installed
    /// package runs on the builtin directory. `must_exist` when somebody named it.
    pub fn load(path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(e) => Err(ConfigError {
                file,
                line: None,
                what: format!("cannot be read: {e}"),
                remedy: "Create it, or let root and the group gpuhub read it (chmod 0640).".into(),
            }),
        }
    }

    /// Parses and checks `text`; `file` is only its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let source = values::Source { file, text };
        let mut table = DeTable::parse(text).map_err(|e| source.toml(&e))?;
        let providers = match table.get_mut().remove("provider") {
            None => Vec::new(),
            Some(value) => Self::providers(&source, value)?,
        };
        let tables = Tables::deserialize(toml::Deserializer::from(table)).map_err(|e| source.toml(&e))?;
        let mut config = Self {
            broker: tables.broker,
            ids: tables.ids,
            people: tables.people,
            access: tables.access,
            services: tables.services,
            passcode: tables.passcode,
            audit: tables.audit,
            builtin: tables.builtin,
            local_groups: tables.local_groups,
            providers,
        };
        if let Some(group) = &config.ids.primary_group {
            config.builtin.declare_group(group);
        }
        config.ids.check(&source)?;
        config.people.check(&source)?;
        config.access.check(&source)?;
        config.passcode.check(&source, &config.services, &config.providers)?;
        config.builtin.check(&source)?;
        for rule in &config.local_groups {
            rule.get_ref().check(&source, &rule.span())?;
        }
        Ok(config)
    }

    fn providers(source: &values::Source<'_>, value: Spanned<DeValue<'_>>) -> Result<Vec<ProviderConfig>, ConfigError> {
        let span = value.span();
        let DeValue::Array(array) = value.into_inner() else {
            return Err(source.at(
                &span,
                "`provider` is not a list",
                "Write each provider as its own [[provider]] table.",
            ));
        };
        let (mut providers, mut spans): (Vec<ProviderConfig>, Vec<_>) = Default::default();
        for entry in array {
            let span = entry.span();
            let DeValue::Table(mut table) = entry.into_inner() else {
                return Err(source.at(&span, "a provider is not a table", "Write it as [[provider]]."));
            };
            let kind = table.remove("kind");
            let kind = match kind.as_ref().map(|k| k.get_ref()) {
                Some(DeValue::String(kind)) => kind.to_string(),
                _ => {
                    return Err(source.at(
                        &span,
                        "a provider has no `kind`",
                        "Write kind = \"ldap\" or kind = \"oidc\".",
                    ));
                }
            };
            let provider = ProviderConfig::parse(&kind, table, source, &span)?;
            if providers.iter().any(|p| p.name() == provider.name()) || provider.name() == "builtin" {
                return Err(source.at(
                    &span,
                    &format!("two providers are called `{}`", provider.name()),
                    "Rename one.",
                ));
            }
            providers.push(provider);
            spans.push(span);
        }
        join::tie(source, &mut providers, &spans)?;
        Ok(providers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::parse("gpuhub.toml", text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn empty_is_the_builtin_directory() {
        let c = Config::parse("f", "").unwrap();
        assert!(c.providers.is_empty());
        assert_eq!(c.ids.uid_range(), [1_000_000_000, 1_999_999_999]);
    }

    #[test]
    fn the_example_is_valid_and_so_is_every_line_it_comments_out() {
        let example = include_str!("../../../conf/gpuhub.toml.example");
        assert!(Config::parse("example", example).unwrap().providers.is_empty());
        let dir = std::env::temp_dir().join(format!("gpuhub-example-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str, content: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        let (secret, ca) = (file("secret", "x"), file("ca.pem", CERTIFICATE));
        let key = regex::Regex::new(r"^# ([a-z_]+ = |\[\[)").unwrap();
        let lines = example.lines().map(|l| if key.is_match(l) { &l[2..] } else { l });
        let all = lines.collect::<Vec<_>>().join("\n");
        let all =
            ["/run/secrets/alice", "/etc/gpuhub/ldap.secret", "/etc/gpuhub/oidc.secret", "/etc/gpuhub/registry.secret"]
                .iter()
                .fold(all.replace("/etc/gpuhub/ca.pem", &ca), |text, path| text.replace(path, &secret));
        let config = Config::parse("example", &all).unwrap();
        assert_eq!(config.providers.len(), 2);
        assert_eq!(config.builtin.user.len(), 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// Any certificate at all.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUV5e7TWq9Zhkc9TIqO9xTy8HO8/swCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIyMzIxNTdaGA8yMTI2MTAyOTIzMjE1
N1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIxI
7la1SBnzoK2+9Hf246OOkRbuCJf2xRJsYsKYz0wagxcK+ARi6CUs1nybZ21Crs5S
PtDaqaZaO6UDE9s7PKKjUzBRMB0GA1UdDgQWBBQQfNeyY9DKEvpNLVYUvUCH3DTv
ZDAfBgNVHSMEGDAWgBQQfNeyY9DKEvpNLVYUvUCH3DTvZDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCICkk8CzuQcfA4CakbLqvqgSpGDwkuV7Xq9mV
Kh4SSypVAiEA+5smKzRYRHGfIDdXRd389bcW/8licY35awQQU52+0t0=
-----END CERTIFICATE-----
";

    #[test]
    fn unknown_key_names_file_and_line() {
        let e = refused("[ids]\n\nuid_rang = [1, 2]\n");
        assert!(e.starts_with("gpuhub.toml:3: unknown field `uid_rang`"), "{e}");
    }

    #[test]
    fn unknown_key_inside_a_provider() {
        let e = refused(
            "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\nbind_pw = \"x\"\n",
        );
        assert!(e.starts_with("gpuhub.toml:6: unknown field `bind_pw`"), "{e}");
    }

    #[test]
    fn wrong_type() {
        let e = refused("[access]\ntries = \"many\"\n");
        assert!(e.starts_with("gpuhub.toml:2: invalid type"), "{e}");
    }

    #[test]
    fn syntax() {
        let e = refused("[ids\n");
        assert!(e.starts_with("gpuhub.toml:1: "), "{e}");
    }

    #[test]
    fn missing_file_that_somebody_named() {
        let e = Config::load(Path::new("/nonexistent/g.toml"), true).map(|_| ()).unwrap_err().to_string();
        assert!(e.starts_with("/nonexistent/g.toml: cannot be read"), "{e}");
        assert!(Config::load(Path::new("/nonexistent/g.toml"), false).is_ok());
    }

    #[test]
    fn secrets_must_be_private_but_for_mounted_ones() {
        let dir = std::env::temp_dir().join(format!("gpuhub-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("secret");
        std::fs::write(&file, "s3cret\n").unwrap();
        let text = format!(
            "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\nbind_dn = \"cn=r\"\nbind_password_file = \"{}\"\n",
            file.display()
        );
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let e = refused(&text);
        assert!(e.starts_with("gpuhub.toml:7: ") && e.contains("chmod 0640"), "{e}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let c = Config::parse("f", &text).unwrap();
        let ProviderConfig::Ldap(ldap) = &c.providers[0] else { panic!("not ldap") };
        assert_eq!(ldap.bind_password_file.as_ref().unwrap().secret().expose(), b"s3cret");
        assert!(!format!("{c:?}").contains("s3cret"), "no secret in Debug");
        std::fs::remove_dir_all(&dir).unwrap();
        let e = refused(&text);
        assert!(e.starts_with("gpuhub.toml:7: ") && e.contains("cannot be read"), "{e}");
    }

    #[test]
    fn no_open_door() {
        let base = "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://x\"\nclient_id = \"c\"\n";
        assert!(refused(base).contains("anyone"));
        assert!(Config::parse("f", &format!("{base}allow_anyone = true\n")).is_ok());
        assert!(Config::parse("f", &format!("{base}required_groups = [\"g\"]\n")).is_ok());
        let email = format!("{base}name_claim = \"email\"\n");
        assert!(refused(&format!("{email}allow_anyone = true\n")).contains("allowed_domains"));
        assert!(Config::parse("f", &format!("{email}allowed_domains = [\"x.example\"]\n")).is_ok());
        let plain = base.replace("https", "http");
        assert!(refused(&format!("{plain}allow_anyone = true\n")).contains("https"));
    }

    #[test]
    fn passcodes() {
        let sso = "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://x\"\nclient_id = \"c\"\nallow_anyone = true\n";
        let first = |passcode: &str| format!("[passcode]\n{passcode}\n{sso}ask_passcode_first = true\n");
        assert!(refused(&first("one_time = true")).contains("nobody can have one"));
        assert!(Config::parse("f", &first("enabled = true")).is_ok());
        assert!(refused("[passcode]\nmin_length = 5\n").contains("less than 6"));
        assert!(refused("[passcode]\ntries = 0\n").contains("tries"));
        assert!(refused("[passcode]\nservices = [\"sshd\"]\n").contains("no single password"));
        assert!(Config::parse("f", "[passcode]\nservices = [\"sudo\"]\n").is_ok());
        let default = Config::parse("f", sso).unwrap();
        assert!(!default.passcode.is_on() && default.passcode.is_for("jupyterhub") && !default.passcode.is_for("sudo"));
        let ProviderConfig::Oidc(oidc) = &default.providers[0] else { panic!("not oidc") };
        assert!(!oidc.id_token_as_password && !oidc.ask_passcode_first);
    }

    #[test]
    fn filters_attributes_and_homes_of_a_directory() {
        let base = "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\n";
        for (line, why) in [
            ("user_filter = \"uid=a\"", "no LDAP filter"),
            ("group_filter = \"(cn=a\"", "no LDAP filter"),
            ("user_filter = \"(a=b)(c=d)\"", "no LDAP filter"),
            ("attributes = { user_name = \"a)(b\" }", "no attribute's name"),
            ("override_home = \"/home\"", "of her own"),
            ("user_base = []", "bases is empty"),
        ] {
            assert!(refused(&format!("{base}{line}\n")).contains(why), "{line}");
        }
        assert!(Config::parse("f", &format!("{base}user_filter = \"(uid=a)\"\n")).is_ok());
    }

    #[test]
    fn what_is_for_a_registry_needs_one() {
        for registry in ["", "registry = \"local\"\n"] {
            let e = refused(&format!("[ids]\n{registry}registry_ca_file = \"/x\"\n"));
            assert!(e.starts_with(&format!("gpuhub.toml:{}: registry_ca_file", 2 + registry.lines().count())), "{e}");
        }
    }

    #[test]
    fn plaintext_binds_must_be_written_out() {
        let base = "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nurls = [\"ldap://x\"]\nbase = \"o=x\"\n";
        assert!(refused(base).contains("start_tls"));
        assert!(Config::parse("f", &format!("{base}start_tls = true\n")).is_ok());
        assert!(Config::parse("f", &format!("{base}allow_plaintext = true\n")).is_ok());
    }

    #[test]
    fn servers_by_dns() {
        let base = "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nbase = \"o=x\"\n";
        assert!(refused(base).contains("no urls"));
        for (lines, why) in [
            ("srv_domain = \"\"", "no domain"),
            ("srv_domain = \"example.org.\"", "no domain"),
            ("srv_domain = \"ldap://example.org\"", "no domain"),
            ("srv_domain = \"example.org\"\nsrv_scheme = \"ldap\"", "start_tls"),
            ("urls = [\"ldaps://x\"]\nsrv_targets_anywhere = true", "for srv_domain"),
            ("srv_domain = \"example.org\"\nbind_external = true", "nothing to show"),
        ] {
            assert!(refused(&format!("{base}{lines}\n")).contains(why), "{lines}");
        }
        let scheme = |lines: &str| {
            let config = Config::parse("f", &format!("{base}srv_domain = \"example.org\"\n{lines}\n")).unwrap();
            let ProviderConfig::Ldap(ldap) = &config.providers[0] else { panic!("not ldap") };
            ldap.srv_scheme().name()
        };
        assert_eq!(scheme(""), "ldaps");
        assert_eq!(scheme("start_tls = true"), "ldap");
        assert_eq!(scheme("start_tls = true\nsrv_scheme = \"ldaps\""), "ldaps");
        assert_eq!(scheme("allow_plaintext = true\nsrv_scheme = \"ldap\"\nurls = [\"ldaps://x\"]"), "ldap");
    }

    #[test]
    fn access_rules_that_cannot_match() {
        assert!(refused("[access]\ndeny_groups = [\"sudo\"]\n").contains("never has anybody"));
        assert!(refused("[access]\nallow_groups = [\"a/b\"]\n").contains("never has anybody"));
        assert!(refused("[access]\ndeny_users = [\"a b\"]\n").contains("no user"));
        assert!(Config::parse("f", "[access]\ndeny_groups = [\"Domain Users\"]\n").is_ok());
    }

    #[test]
    fn a_common_primary_group_is_one_of_the_builtin_directory() {
        let c = Config::parse("f", "[ids]\nprimary_group = \"people\"\n").unwrap();
        assert_eq!(c.builtin.group.iter().map(|g| g.get_ref().name.as_str()).collect::<Vec<_>>(), ["people"]);
        let declared = "[ids]\nprimary_group = \"people\"\n[[builtin.group]]\nname = \"people\"\ngid = 7000\n";
        let c = Config::parse("f", declared).unwrap();
        assert_eq!(c.builtin.group.iter().map(|g| g.get_ref().gid).collect::<Vec<_>>(), [Some(7000)]);
        assert!(refused("[ids]\nprimary_group = \"sudo\"\n").starts_with("gpuhub.toml:2: "));
    }

    #[test]
    fn local_groups_are_joined_by_explicit_rule() {
        let rule = |lines: &str| format!("[[local_group]]\n{lines}\n");
        for good in ["device = \"/dev/dri/card0\"", "name = \"video\"\ngroups = [\"ml\"]"] {
            assert!(Config::parse("f", &rule(good)).is_ok(), "{good}");
        }
        for bad in [
            "groups = [\"ml\"]",
            "name = \"video\"\ndevice = \"/dev/dri/card0\"",
            "device = \"/etc/passwd\"",
            "device = \"/dev/../etc/passwd\"",
            "name = \"video\"\ngroups = []",
            "name = \"video\"\ngroups = [\"sudo\"]",
            "name = \"video\"\nusers = [\"alice\"]",
        ] {
            assert!(refused(&rule(bad)).starts_with("gpuhub.toml:"), "{bad}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        assert!(refused("[ids]\nuid_range = [0, 5000]\n").contains("gpuhub.toml:2"));
        assert!(refused("[ids]\nuid_range = [70000, 69999]\n").contains("gpuhub.toml:2"));
        assert!(refused("[ids]\nuid_range = [60000, 70000]\n").contains("61184"));
    }
}
