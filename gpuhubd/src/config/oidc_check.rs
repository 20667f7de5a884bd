//! What is refused of a provider with the device grant: above all a door that stands open.

use super::claims::ClaimPath;
use super::oidc::{OidcConfig, OidcTable, Organization, Tenants, Wrong, wrong};
use super::profile::{Proof, is_guid};
use super::providers::check_ca;
use super::values::DurationText;
use crate::provider::grant::AskAgain;
use gpuhub_common::name;
use std::time::Duration;

/// What may sign an ID token here.
const ASYMMETRIC: &[&str] = &["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512", "EdDSA"];

impl OidcConfig {
    pub(super) fn check(&self, allow_anyone: bool) -> Result<(), Wrong> {
        let urls = [&self.endpoints.device_authorization, &self.endpoints.token, &self.endpoints.userinfo];
        if !std::iter::once(&self.issuer).chain(urls.into_iter().flatten()).all(|url| is_https(url)) {
            return Err(wrong(
                "the issuer is not https://",
                "Tokens travel on this connection; give the provider's https issuer, and https endpoints.",
            ));
        }
        if self.client_id.is_empty() {
            return Err(wrong("client_id is empty", "Give the client's id; it is the audience that tokens must name."));
        }
        self.check_lists()?;
        self.no_open_door(allow_anyone)?;
        self.check_names()?;
        self.check_directory()?;
        if self.signing_algs.is_empty() || self.signing_algs.iter().any(|a| !ASYMMETRIC.contains(&a.as_str())) {
            return Err(wrong(
                "signing_algs has an algorithm that is not accepted",
                &format!("Choose from {}.", ASYMMETRIC.join(", ")),
            ));
        }
        let is_proxy = |url: &str| url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
        if !self.proxy.as_deref().is_none_or(is_proxy) {
            return Err(wrong("proxy is no address", "Write http://host:port, or \"\" for none."));
        }
        if self.id_token_as_password && self.profile.proof != Proof::IdToken {
            return Err((
                format!("id_token_as_password is set, and a provider of kind {} signs no ID tokens", self.profile.kind),
                "Leave it out.".into(),
            ));
        }
        check_ca(self.ca_file.as_deref()).map_err(|what| wrong(&what, "Give a PEM file that the broker can read."))
    }

    /// Everybody of a provider is nobody's crowd: without a restriction whoever has, or makes, an account there
    /// could log in here (CVE-2026-31957).
    fn no_open_door(&self, allow_anyone: bool) -> Result<(), Wrong> {
        if allow_anyone {
            return Ok(());
        }
        let open = |what: &str, remedy: &str| {
            Err((format!("anyone {what} could log in"), format!("{remedy}, or allow_anyone = true.")))
        };
        if self.tenants == Some(Tenants::Any) {
            // Whoever owns a tenant decides what its tokens say of domains and groups.
            return open("with a tenant of Entra's", "Write allowed_tenants, or the one tenant");
        }
        let domains = self.allowed_domains.iter().filter(|d| !self.profile.hosts_mail.contains(&d.as_str()));
        let one_tenant = self.profile.kind == "entra";
        let restricted = one_tenant
            || domains.count() > 0
            || [!self.required_groups.is_empty(), !self.hosted_domains.is_empty(), !self.organizations.is_empty()]
                .contains(&true);
        match (restricted, self.profile.kind) {
            (true, _) => Ok(()),
            (false, "google") => open("with an account of Google's", "Write hosted_domains"),
            (false, "github") => open("with an account of GitHub's", "Write allowed_organizations or allowed_domains"),
            (false, _) => open("whom the provider knows", "Write allowed_domains, required_groups"),
        }
    }

    /// An entry that can never match, or matches nothing in particular, is a door that only looks shut.
    fn check_lists(&self) -> Result<(), Wrong> {
        let domains = [&self.allowed_domains, &self.hosted_domains, &self.strip_domains];
        if let Some(odd) = domains.into_iter().flatten().find(|d| !is_domain(d)) {
            return Err((format!("{odd:?} is no domain"), "Write domains as \"example.org\".".into()));
        }
        if self.required_groups.iter().any(String::is_empty) {
            return Err(wrong("required_groups has an empty name", "Write groups as the provider calls them."));
        }
        if self.profile.proof == Proof::GitHub && !self.required_groups.is_empty() && self.organizations.is_empty() {
            return Err(wrong(
                "required_groups is set, and no organisation that they are of",
                "Write allowed_organizations: of no others the teams are groups here.",
            ));
        }
        if !self.required_groups.is_empty() && self.groups_claims.is_empty() {
            return Err(wrong(
                "required_groups is set, and no claim that lists groups",
                "Write groups_claim, or another restriction.",
            ));
        }
        let login = |o: &&Organization| matches!(o, Organization::Login(l) if !is_github_login(l));
        if let Some(Organization::Login(odd)) = self.organizations.iter().find(login) {
            return Err((
                format!("{odd:?} is no organisation of GitHub's"),
                "Write its login, or its number in allowed_organization_ids.".into(),
            ));
        }
        match &self.tenants {
            Some(Tenants::These(ids)) if ids.is_empty() || !ids.iter().all(|id| is_guid(id)) => Err(wrong(
                "allowed_tenants are not ids of tenants",
                "Write them as 00000000-0000-0000-0000-000000000000, in lower case.",
            )),
            _ => Ok(()),
        }
    }

    fn check_names(&self) -> Result<(), Wrong> {
        if self.name_claims.is_empty() {
            return Err(wrong("name_claim is empty", "Name the claim that is the login name."));
        }
        if let Some(claim) = self.name_claims.iter().find(|c| is_unverifiable(c)) {
            return Err((
                format!("name_claim {claim} is an address of which nothing says whether it is verified"),
                "Only \"email\" does, with email_verified beside it.".into(),
            ));
        }
        if self.name_claims.iter().any(is_email) && self.mail_domains().next().is_none() {
            return Err(wrong(
                "name_claim = \"email\" makes one alice of everybody called so, in whatever domain",
                "Write allowed_domains or strip_domains: only their addresses name people.",
            ));
        }
        let is_left_alone =
            self.strip_domains.is_empty() && self.name_rule.is_none() && !self.name_pattern.is_match("a@b.c");
        if self.profile.names_have_domains
            && is_left_alone
            && self.name_claims.iter().any(|c| c.is("preferred_username"))
        {
            return Err(wrong(
                "people are called alice@example.org there, and name_pattern allows no such names",
                "Write strip_domains = [\"example.org\"] to call them alice, or another name_pattern or name_claim.",
            ));
        }
        if !name::is_user_name(format!("a{}", self.name_suffix).as_bytes()) {
            return Err(wrong("no name may end with name_suffix", "Write it as \"@partner.example\"."));
        }
        if self.name_rule.as_ref().is_some_and(|(_, template)| template.is_constant()) {
            return Err(wrong("name_template gives everybody the same name", "Write ${0} where the name is to be."));
        }
        if self.profile.proof == Proof::GitHub
            && !self.name_claims.iter().all(|c| c.is("preferred_username") || is_email(c))
        {
            return Err(wrong(
                "GitHub's people are named by \"preferred_username\", which is the login, or by \"email\"",
                "Choose of these.",
            ));
        }
        Ok(())
    }

    /// The domains whose addresses name people.
    pub fn mail_domains(&self) -> impl Iterator<Item = &String> {
        let given = if self.strip_domains.is_empty() { &[][..] } else { &self.strip_domains };
        let otherwise = given.is_empty().then(|| self.allowed_domains.iter().chain(&self.hosted_domains));
        given.iter().chain(otherwise.into_iter().flatten())
    }
}

/// Whether it is the e-mail address of OpenID Connect Core §5.1.
pub fn is_email(claim: &ClaimPath) -> bool {
    claim.is("email")
}

impl OidcTable {
    /// `ask_again`, `ask_every` and `grace`.
    pub(super) fn asked_again(&self) -> Result<Option<AskAgain>, Wrong> {
        const HOUR: Duration = Duration::from_secs(3600);
        let Some(at_login) = self.ask_again.map(|d| d.0) else {
            return match (&self.ask_every, &self.grace) {
                (None, None) => Ok(None),
                _ => Err(wrong("ask_every or grace without ask_again", "Write ask_again = \"5m\", too.")),
            };
        };
        let or = |written: Option<DurationText>, otherwise: Duration| written.map_or(otherwise, |d| d.0);
        let (every, grace) = (or(self.ask_every, HOUR.max(at_login)), or(self.grace, (8 * HOUR).max(at_login)));
        if every < at_login || every < Duration::from_secs(60) {
            return Err(wrong("ask_every is shorter than ask_again, or than a minute", "Write ask_every = \"1h\"."));
        }
        if grace < at_login {
            return Err(wrong("grace is shorter than ask_again", "Write grace = \"8h\", or the same as ask_again."));
        }
        Ok(Some(AskAgain { at_login, every, grace }))
    }
}

/// Whether it is another one.
pub(super) fn is_unverifiable(claim: &ClaimPath) -> bool {
    !is_email(claim) && matches!(claim.innermost(), "email" | "mail")
}

pub(super) fn is_https(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.contains('.') && text.split('.').all(is_label)
}

fn is_github_login(text: &str) -> bool {
    (1..=39).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, PROFILES, ProviderConfig};

    fn parse(kind: &str, lines: &str) -> Result<OidcConfig, String> {
        let text = format!("[[provider]]\nname = \"p\"\nkind = \"{kind}\"\nclient_id = \"c\"\n{lines}\n");
        match Config::parse("f", &text).map_err(|e| e.to_string())?.providers.remove(0) {
            ProviderConfig::Oidc(config) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    /// What each kind must have, and nothing that restricts it.
    fn base(kind: &str) -> String {
        match kind {
            "oidc" | "oauth2" | "dex" => "issuer = \"https://sso.example\"",
            "keycloak" => "host = \"sso.example\"\nrealm = \"lab\"",
            "authentik" => "host = \"sso.example\"\napplication = \"gpuhub\"",
            "okta" => "host = \"x.okta.example\"\nstrip_domains = [\"example.org\"]",
            "entra" => "tenant = \"organizations\"\nstrip_domains = [\"example.org\"]",
            "google" => "strip_domains = [\"example.org\"]",
            _ => "",
        }
        .to_owned()
    }

    #[test]
    fn no_kind_is_an_open_door() {
        for profile in PROFILES {
            let base = base(profile.kind);
            let refused = parse(profile.kind, &base).unwrap_err();
            assert!(refused.contains("could log in") && refused.contains("allow_anyone = true"), "{refused}");
            assert!(refused.starts_with("f:1: provider p: "), "{refused}");
            assert!(parse(profile.kind, &format!("{base}\nallow_anyone = true")).is_ok(), "{}", profile.kind);
            // No list that is empty, or has nothing in it, is a restriction.
            for nothing in ["allowed_domains = []", "required_groups = []", "allow_anyone = false"] {
                assert!(parse(profile.kind, &format!("{base}\n{nothing}")).is_err(), "{} {nothing}", profile.kind);
            }
            for odd in ["allowed_domains = [\"\"]", "allowed_domains = [\"*.example.org\"]", "required_groups = [\"\"]"]
            {
                let refused = parse(profile.kind, &format!("{base}\nallow_anyone = true\n{odd}"));
                assert!(refused.is_err(), "{} {odd}", profile.kind);
            }
        }
        for (kind, line) in [
            ("oidc", "allowed_domains = [\"example.org\"]"),
            ("oauth2", "required_groups = [\"gpu\"]"),
            ("keycloak", "required_groups = [\"gpu\"]"),
            ("google", "hosted_domains = [\"example.org\"]"),
            ("google", "allowed_domains = [\"example.org\"]"),
            ("gitlab", "required_groups = [\"lab\"]"),
            ("okta", "required_groups = [\"gpu\"]"),
            ("github", "allowed_organizations = [\"acme\"]"),
            ("github", "allowed_organization_ids = [42]"),
            ("github", "allowed_domains = [\"example.org\"]"),
        ] {
            assert!(parse(kind, &format!("{}\n{line}", base(kind))).is_ok(), "{kind} {line}");
        }
    }

    #[test]
    fn doors_that_only_look_shut() {
        // Anybody gets an address of gmail.com.
        let google = base("google");
        assert!(parse("google", &format!("{google}\nallowed_domains = [\"gmail.com\"]")).is_err());
        assert!(parse("google", &format!("{google}\nhosted_domains = []")).is_err());
        // Groups that no claim lists, and that nobody could be in.
        assert!(
            parse("google", &format!("{google}\nrequired_groups = [\"gpu\"]")).unwrap_err().contains("lists groups")
        );
        assert!(parse("github", "allowed_organizations = []").is_err());
        assert!(parse("github", "required_groups = [\"acme/gpu\"]").unwrap_err().contains("allowed_organizations"));
        assert!(parse("github", "allowed_organizations = [\"\"]").is_err());
        assert!(parse("github", "allowed_organizations = [\"acme/team\"]").is_err());
    }

    #[test]
    fn only_who_signs_id_tokens_has_them_taken_for_passwords() {
        for profile in PROFILES {
            let lines = format!("{}\nallow_anyone = true\nid_token_as_password = true", base(profile.kind));
            assert_eq!(parse(profile.kind, &lines).is_ok(), profile.proof == Proof::IdToken, "{}", profile.kind);
        }
    }

    #[test]
    fn proxies() {
        let with = |proxy: &str| parse("oidc", &format!("{}\nallow_anyone = true\nproxy = \"{proxy}\"", base("oidc")));
        for good in ["", "http://proxy.example:3128", "https://proxy.example"] {
            assert!(with(good).is_ok(), "{good}");
        }
        for bad in ["proxy.example:3128", "socks5://proxy.example", "file:///etc"] {
            assert!(with(bad).unwrap_err().contains("proxy is no address"), "{bad}");
        }
    }

    #[test]
    fn asked_again() {
        let with = |lines: &str| parse("oidc", &format!("{}\nallow_anyone = true\n{lines}", base("oidc")));
        let seconds = |lines: &str| {
            let ask = with(lines).unwrap().ask_again?;
            Some([ask.at_login, ask.every, ask.grace].map(|d| d.as_secs()))
        };
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("ask_again = \"5m\""), Some([300, 3600, 28_800]));
        assert_eq!(seconds("ask_again = \"0s\"\nask_every = \"1m\"\ngrace = \"0s\""), Some([0, 60, 0]));
        assert_eq!(seconds("ask_again = \"2d\""), Some([172_800; 3]));
        for bad in [
            "grace = \"8h\"",
            "ask_every = \"1h\"",
            "ask_again = \"5m\"\nask_every = \"4m\"",
            "ask_again = \"0s\"\nask_every = \"59s\"",
            "ask_again = \"5m\"\ngrace = \"4m\"",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tenants_of_entra() {
        let entra = |lines: &str| parse("entra", &format!("strip_domains = [\"example.org\"]\n{lines}"));
        let one = entra(&format!("tenant = \"{TENANT}\"")).unwrap();
        assert_eq!((one.issuer, one.tenants), (format!("https://login.microsoftonline.com/{TENANT}/v2.0"), None));
        for many in ["organizations", "common"] {
            // Whoever owns a tenant says what its tokens hold: neither groups nor domains shut this door.
            for line in ["", "required_groups = [\"g\"]", "allowed_domains = [\"example.org\"]"] {
                let refused = entra(&format!("tenant = \"{many}\"\n{line}")).unwrap_err();
                assert!(refused.contains("anyone with a tenant"), "{many} {line}: {refused}");
            }
            let listed = entra(&format!("tenant = \"{many}\"\nallowed_tenants = [\"{TENANT}\"]")).unwrap();
            assert_eq!(listed.tenants, Some(Tenants::These(vec![TENANT.into()])));
            assert!(entra(&format!("tenant = \"{many}\"\nallow_anyone = true")).is_ok());
            assert!(entra(&format!("tenant = \"{many}\"\nallowed_tenants = []")).is_err());
            assert!(entra(&format!("tenant = \"{many}\"\nallowed_tenants = [\"example.org\"]")).is_err());
        }
        for odd in ["", "example.org", "../common", &TENANT.to_uppercase()] {
            assert!(entra(&format!("tenant = \"{odd}\"")).is_err(), "{odd}");
        }
        assert!(entra(&format!("tenant = \"{TENANT}\"\nallowed_tenants = [\"{TENANT}\"]")).is_err());
        assert!(parse("entra", &format!("tenant = \"{TENANT}\"")).unwrap_err().contains("strip_domains"));
    }

    #[test]
    fn issuers_of_the_kinds() {
        let issuer = |kind: &str, lines: &str| {
            let more = if kind == "okta" { "strip_domains = [\"example.org\"]" } else { "" };
            parse(kind, &format!("{lines}\nallow_anyone = true\n{more}")).map(|c| c.issuer)
        };
        for (kind, lines, made) in [
            ("keycloak", "host = \"sso.example\"\nrealm = \"lab\"", "https://sso.example/realms/lab"),
            ("keycloak", "issuer = \"https://sso.example/auth/realms/lab\"", "https://sso.example/auth/realms/lab"),
            ("gitlab", "", "https://gitlab.com"),
            ("gitlab", "host = \"git.example:8443\"", "https://git.example:8443"),
            ("github", "", "https://github.com"),
            ("okta", "host = \"x.okta.example\"", "https://x.okta.example"),
            (
                "okta",
                "host = \"x.okta.example\"\nauthorization_server = \"default\"",
                "https://x.okta.example/oauth2/default",
            ),
            ("authentik", "host = \"a.example\"\napplication = \"gpu\"", "https://a.example/application/o/gpu/"),
        ] {
            assert_eq!(issuer(kind, lines).as_deref(), Ok(made), "{kind} {lines}");
        }
        for (kind, lines) in [
            ("oidc", ""),
            ("keycloak", "host = \"sso.example\""),
            ("keycloak", "host = \"sso.example\"\nrealm = \"../master\""),
            ("keycloak", "host = \"sso.example\"\nrealm = \"lab\"\nissuer = \"https://x.example\""),
            ("okta", ""),
            ("authentik", "host = \"a.example\""),
            ("gitlab", "issuer = \"https://gitlab.com\""),
            ("google", "tenant = \"organizations\"\nstrip_domains = [\"x.example\"]"),
            ("oidc", "issuer = \"https://sso.example\"\nallowed_organizations = [\"acme\"]"),
            ("oidc", "issuer = \"https://sso.example\"\ntoken_endpoint = \"http://sso.example/token\""),
            ("gitlab", "host = \"https://git.example\""),
            ("gitlab", "host = \"git.example/path\""),
            ("github", "host = \"\""),
            ("kanidm", ""),
        ] {
            assert!(issuer(kind, lines).is_err(), "{kind} {lines}");
        }
        let google = parse("google", "hosted_domains = [\"example.org\"]").unwrap();
        assert_eq!((google.issuer.as_str(), google.mail_domains().count()), ("https://accounts.google.com", 1));
    }

    #[test]
    fn names_that_would_be_one() {
        let oidc = |lines: &str| parse("oidc", &format!("{}\nallow_anyone = true\n{lines}", base("oidc")));
        for bad in [
            "name_claim = []",
            "name_claim = \"email\"",
            "name_claim = [\"preferred_username\", \"email\"]",
            "name_claim = \"a..b\"",
            "name_claim = \"mail\"\nstrip_domains = [\"example.org\"]",
            "name_claim = [\"preferred_username\", \"account.email\"]\nstrip_domains = [\"example.org\"]",
            "name_template = \"everybody\"",
            "name_template = \"$1\"",
            "name_match = '([a-z]+'",
            "name_match = '([a-z]+)-ext'\nname_template = '$2'",
            "strip_domains = [\"@example.org\"]",
            "name_pattern = \"(\"",
            "name_suffix = \"/x\"",
            "name_suffix = \" \"",
        ] {
            assert!(oidc(bad).is_err(), "{bad}");
        }
        for good in [
            "name_claim = \"email\"\nstrip_domains = [\"example.org\"]",
            "name_match = '([a-z]+)-ext'",
            "name_template = 'x-$0'",
        ] {
            assert!(oidc(good).is_ok(), "{good}");
        }
        assert!(parse("github", "allowed_organizations = [\"acme\"]\nname_claim = \"nickname\"").is_err());
    }
}
