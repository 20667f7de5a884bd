//! `[provider.directory]`: the API by which a provider says who its people are before they log in. Three kinds of
//! providers have one that is used here.

use super::claims::ClaimPath;
use super::oidc::{OidcConfig, Wrong, wrong};
use super::oidc_check::{is_email, is_https};
use super::profile::Profile;
use super::providers::seconds;
use super::values::{DurationText, SecretFile};
use serde::Deserialize;

/// Where the directory is asked, and as whom.
#[derive(Debug)]
pub struct DirectoryConfig {
    /// Root of its API, without a slash at the end.
    pub url: String,
    /// The client that asks; absent: the provider's own.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret_file: Option<SecretFile>,
    /// A token that never changes, in place of a client.
    pub token_file: Option<SecretFile>,
    /// So long is served what it said.
    pub cache_ttl: DurationText,
    /// Keycloak: groups are in tokens with their whole path.
    pub full_group_paths: bool,
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryTable {
    url: Option<String>,
    client_id: Option<String>,
    client_secret_file: Option<SecretFile>,
    token_file: Option<SecretFile>,
    #[serde(default = "ten_minutes")]
    cache_ttl: DurationText,
    full_group_paths: Option<bool>,
}

fn ten_minutes() -> DurationText {
    seconds(600)
}

/// National clouds have a Graph of their own:
/// <https://learn.microsoft.com/en-us/graph/deployments#microsoft-graph-and-graph-explorer-service-root-endpoints>
const GRAPHS: [(&str, &str); 3] = [
    ("https://login.microsoftonline.com/", "https://graph.microsoft.com/v1.0"),
    ("https://login.microsoftonline.us/", "https://graph.microsoft.us/v1.0"),
    ("https://login.partner.microsoftonline.cn/", "https://microsoftgraph.chinacloudapi.cn/v1.0"),
];

impl DirectoryTable {
    pub(super) fn into_config(self, profile: &Profile, issuer: &str) -> Result<DirectoryConfig, Wrong> {
        let url = match profile.kind {
            "keycloak" => issuer.rsplit_once("/realms/").map(|(base, realm)| format!("{base}/admin/realms/{realm}")),
            "entra" => GRAPHS.iter().find(|(login, _)| issuer.starts_with(login)).map(|(_, graph)| (*graph).to_owned()),
            "github" => Some(match issuer {
                "https://github.com" => "https://api.github.com".into(),
                server => format!("{server}/api/v3"),
            }),
            kind => {
                return Err((
                    format!("a provider of kind {kind} has no directory that can be asked"),
                    "Only the kinds keycloak, entra and github have one; leave the table directory out.".into(),
                ));
            }
        };
        let url = self.url.or(url).ok_or_else(|| {
            wrong("directory: where its API is does not follow from the issuer", "Write url in the table directory.")
        })?;
        if !is_https(&url) {
            return Err(wrong("directory: url is not https://", "Its secret and its answers travel there."));
        }
        if self.full_group_paths.is_some() && profile.kind != "keycloak" {
            return Err(wrong("directory: full_group_paths is about Keycloak's groups", "Leave it out."));
        }
        Ok(DirectoryConfig {
            url: url.trim_end_matches('/').to_owned(),
            client_id: self.client_id,
            client_secret_file: self.client_secret_file,
            token_file: self.token_file,
            cache_ttl: self.cache_ttl,
            full_group_paths: self.full_group_paths.unwrap_or(true),
        })
    }
}

impl OidcConfig {
    /// Whether its directory can be asked, and says all that tokens say: what it left out would be another person, or
    /// a rule that is not kept.
    pub(super) fn check_directory(&self) -> Result<(), Wrong> {
        let Some(directory) = &self.directory else { return Ok(()) };
        self.check_access(directory)?;
        if self.name_rule.is_some() {
            return Err(wrong(
                "directory: it cannot be asked for names that name_match and name_template make",
                "Leave these or the table directory out.",
            ));
        }
        let is_known = |claim: &ClaimPath, known: &[&str]| known.iter().any(|name| claim.is(name));
        let (names, ids) = match self.profile.kind {
            "keycloak" => (&["preferred_username", "email"][..], true),
            "entra" => (&["preferred_username", "upn"][..], false),
            _ => (&["preferred_username"][..], false),
        };
        if let Some(odd) = self.name_claims.iter().find(|claim| !is_known(claim, names)) {
            return Err((
                format!("directory: nobody can be looked for there by the claim {odd}"),
                format!("With it, name_claim is {}.", names.join(" or ")),
            ));
        }
        let is_read = |claim: &ClaimPath| match claim.keys() {
            [first] => first == "groups",
            [first, last] => ids && first == "realm_access" && last == "roles",
            [first, _, last] => ids && first == "resource_access" && last == "roles",
            _ => false,
        };
        if let Some(odd) = self.groups_claims.iter().find(|claim| !is_read(claim)) {
            return Err((
                format!("directory: it does not say what the claim {odd} has"),
                "Leave the claim out of groups_claim, or the table directory.".into(),
            ));
        }
        let of_ids = [&self.uid_claim, &self.gid_claim].into_iter().flatten();
        if of_ids.clone().any(|claim| !ids || claim.keys().len() != 1) {
            return Err(wrong(
                "directory: it does not say what uid_claim and gid_claim have",
                "Only of Keycloak, whose attribute must be called as the claim is; leave them or the directory out.",
            ));
        }
        if !ids && (!self.allowed_domains.is_empty() || self.name_claims.iter().any(is_email)) {
            return Err(wrong(
                "directory: it does not say whether an address is verified, and allowed_domains asks for that",
                "Write another restriction, or leave the table directory out.",
            ));
        }
        match self.profile.kind {
            "entra" if self.tenants.is_some() => {
                Err(wrong("directory: it is that of one tenant", "Write the tenant's id as tenant."))
            }
            "github" if self.organizations.is_empty() => Err(wrong(
                "directory: it is that of organisations, and none is written",
                "Write allowed_organizations or allowed_organization_ids.",
            )),
            _ => Ok(()),
        }
    }

    /// As whom it is asked.
    fn check_access(&self, directory: &DirectoryConfig) -> Result<(), Wrong> {
        let own = (&directory.client_id, &directory.client_secret_file);
        match (self.profile.kind, own, &directory.token_file) {
            ("github", (None, None), Some(_)) => Ok(()),
            ("github", ..) => Err(wrong(
                "directory: GitHub is asked by a token",
                "Write token_file, and no client: a token that may read the organisation's members.",
            )),
            (_, _, Some(_)) => {
                Err(wrong("directory: token_file is for GitHub", "Write client_id and client_secret_file."))
            }
            (_, (Some(_), Some(_)), None) => Ok(()),
            (_, (None, None), None) if self.client_secret_file.is_some() => Ok(()),
            _ => Err(wrong(
                "directory: it is asked by a client with a secret",
                "Write client_id and client_secret_file there, or give the provider's own client a secret.",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, DirectoryConfig, ProviderConfig};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::PathBuf;

    /// A secret, until the end of the test.
    struct Secret(PathBuf);

    impl Secret {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gpuhub-directory-{test}-{}", std::process::id()));
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            std::io::Write::write_all(&mut file, b"s3cret\n").unwrap();
            Self(path)
        }
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    /// Of a kind, with these lines, and these in the table.
    fn parse(secret: &Secret, kind: &str, lines: &str, table: &str) -> Result<DirectoryConfig, String> {
        let own = match kind {
            "keycloak" => "host = \"sso.example\"\nrealm = \"lab\"\nallow_anyone = true".into(),
            "entra" => format!("tenant = \"{TENANT}\"\nstrip_domains = [\"a.example\"]"),
            "github" => "allowed_organizations = [\"acme\"]".into(),
            "google" => "hosted_domains = [\"a.example\"]".into(),
            _ => "issuer = \"https://sso.example\"\nallow_anyone = true".into(),
        };
        let text = format!(
            "[[provider]]\nname = \"p\"\nkind = \"{kind}\"\nclient_id = \"c\"\n{own}\n{lines}\n[provider.directory]\n{table}\n"
        );
        let text = text.replace("SECRET", &format!("\"{}\"", secret.0.display()));
        match Config::parse("f", &text).map_err(|e| e.to_string())?.providers.remove(0) {
            ProviderConfig::Oidc(config) => Ok(config.directory.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    const CLIENT: &str = "client_id = \"reader\"\nclient_secret_file = SECRET";
    const TOKEN: &str = "token_file = SECRET";

    #[test]
    fn where_it_is() {
        let secret = Secret::new("where");
        let url = |kind: &str, lines: &str, table: &str| parse(&secret, kind, lines, table).map(|d| d.url);
        assert_eq!(url("keycloak", "", CLIENT).unwrap(), "https://sso.example/admin/realms/lab");
        assert_eq!(url("entra", "", CLIENT).unwrap(), "https://graph.microsoft.com/v1.0");
        let government = url("entra", "host = \"login.microsoftonline.us\"", CLIENT).unwrap();
        assert_eq!(government, "https://graph.microsoft.us/v1.0");
        assert_eq!(url("github", "", TOKEN).unwrap(), "https://api.github.com");
        assert_eq!(url("github", "host = \"git.example\"", TOKEN).unwrap(), "https://git.example/api/v3");
        let other = url("keycloak", "", &format!("{CLIENT}\nurl = \"https://admin.example/admin/realms/lab/\""));
        assert_eq!(other.unwrap(), "https://admin.example/admin/realms/lab");
        let unknown = url("entra", "host = \"login.example\"", CLIENT).unwrap_err();
        assert!(unknown.contains("Write url"), "{unknown}");
        assert!(url("keycloak", "", &format!("{CLIENT}\nurl = \"http://x\"")).unwrap_err().contains("https"));
    }

    #[test]
    fn as_whom_it_is_asked() {
        let secret = Secret::new("whom");
        let is_ok = |kind: &str, lines: &str, table: &str| parse(&secret, kind, lines, table).is_ok();
        assert!(is_ok("keycloak", "client_secret_file = SECRET", ""), "the provider's own client");
        assert!(!is_ok("keycloak", "", ""), "a public client has no account of its own");
        assert!(!is_ok("keycloak", "client_secret_file = SECRET", "client_id = \"reader\""));
        assert!(!is_ok("keycloak", "", "client_secret_file = SECRET"));
        assert!(!is_ok("keycloak", "", TOKEN) && !is_ok("entra", "", TOKEN));
        assert!(!is_ok("github", "", CLIENT) && !is_ok("github", "client_secret_file = SECRET", ""));
        assert!(!is_ok("github", "", &format!("{TOKEN}\n{CLIENT}")));
        let shown = format!("{:?}", parse(&secret, "github", "", TOKEN).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(parse(&secret, "github", "", TOKEN).unwrap().cache_ttl.0.as_secs(), 600);
    }

    #[test]
    fn kinds_without_one() {
        let secret = Secret::new("kinds");
        for kind in ["oidc", "google"] {
            let error = parse(&secret, kind, "", CLIENT).unwrap_err();
            assert!(error.contains("keycloak, entra and github"), "{error}");
        }
        assert!(parse(&secret, "keycloak", "", "key = 1").unwrap_err().contains("key"));
    }

    #[test]
    fn what_it_could_not_be_asked_for() {
        let secret = Secret::new("asked");
        let refused = [
            ("keycloak", "name_match = '(.*)-ext'", CLIENT, "name_match"),
            ("keycloak", "name_template = 'x-$0'", CLIENT, "name_match"),
            ("keycloak", "name_claim = \"nickname\"", CLIENT, "nickname"),
            ("keycloak", "groups_claim = \"teams\"", CLIENT, "teams"),
            ("keycloak", "uid_claim = \"a.b\"", CLIENT, "uid_claim"),
            ("entra", "uid_claim = \"uid\"", CLIENT, "uid_claim"),
            ("entra", "groups_claim = \"roles\"", CLIENT, "roles"),
            ("entra", "allowed_domains = [\"a.example\"]", CLIENT, "verified"),
            ("entra", "name_claim = \"email\"", CLIENT, "email"),
            ("github", "allowed_domains = [\"a.example\"]", TOKEN, "verified"),
            ("github", "name_claim = \"email\"\nstrip_domains = [\"a.example\"]", TOKEN, "email"),
            ("github", "", "token_file = SECRET\nfull_group_paths = true", "full_group_paths"),
        ];
        for (kind, lines, table, why) in refused {
            let error = parse(&secret, kind, lines, table).unwrap_err();
            assert!(error.contains("directory") && error.contains(why), "{kind} {lines}: {error}");
        }
        let fine = [
            ("keycloak", "name_claim = [\"email\", \"preferred_username\"]\nallowed_domains = [\"a.example\"]"),
            ("keycloak", "groups_claim = [\"groups\", \"realm_access.roles\", 'resource_access.a\\.b.roles']"),
            ("keycloak", "uid_claim = \"uid_number\"\ngid_claim = \"gid_number\""),
            ("entra", "groups_claim = []\nname_claim = \"upn\""),
        ];
        for (kind, lines) in fine {
            parse(&secret, kind, lines, CLIENT).unwrap();
        }
    }

    #[test]
    fn of_whom_it_is() {
        let secret = Secret::new("of");
        let file = format!("\"{}\"", secret.0.display());
        let text = |own: &str, table: &str| {
            let text = format!("[[provider]]\nname = \"p\"\nclient_id = \"c\"\n{own}\n[provider.directory]\n{table}\n");
            Config::parse("f", &text.replace("SECRET", &file)).map(drop).map_err(|e| e.to_string())
        };
        let many = format!(
            "kind = \"entra\"\ntenant = \"organizations\"\nallowed_tenants = [\"{TENANT}\"]\nstrip_domains = [\"a.example\"]"
        );
        assert!(text(&many, CLIENT).unwrap_err().contains("one tenant"));
        assert!(text("kind = \"github\"\nallow_anyone = true", TOKEN).unwrap_err().contains("organisations"));
    }
}
