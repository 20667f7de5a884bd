//! `login`, `login_attribute`, `login_claim`: people of a directory who prove themselves at a provider.

use super::ProviderConfig;
use super::ldap::LdapConfig;
use super::oidc::{Wrong, wrong};
use super::oidc_check::is_unverifiable;
use super::profile::Proof;
use super::values::{ConfigError, Source};
use std::ops::Range;

/// All that GitHub's API says of somebody, and nobody else there could say.
const OF_GITHUB: [&str; 3] = ["sub", "preferred_username", "email"];

impl LdapConfig {
    pub(super) fn check_login(&self) -> Result<(), Wrong> {
        if self.login.is_none() {
            let joined = self.login_attribute.is_some() || self.login_claim.is_some();
            return match joined {
                true => Err(wrong("login_attribute and login_claim are for login", "Give it, too, or leave them out.")),
                false => Ok(()),
            };
        }
        if self.offline_passwords {
            return Err(wrong(
                "offline_passwords and login: its people log in by no password",
                "Leave offline_passwords out.",
            ));
        }
        match &self.login_claim {
            Some(claim) if is_unverifiable(claim) => Err((
                format!("login_claim {claim} is an address of which nothing says whether it is verified"),
                "Only \"email\" does, with email_verified beside it.".into(),
            )),
            _ => Ok(()),
        }
    }
}

/// Ties directories to the providers that they name. Those have no people of their own from then on.
pub(super) fn tie(
    source: &Source<'_>,
    providers: &mut [ProviderConfig],
    spans: &[Range<usize>],
) -> Result<(), ConfigError> {
    let mut named = Vec::new();
    for (provider, span) in providers.iter().zip(spans) {
        let ProviderConfig::Ldap(ldap) = provider else { continue };
        let Some(login) = &ldap.login else { continue };
        let bad = |(what, remedy): Wrong| source.at(span, &format!("provider {}: {what}", ldap.name), &remedy);
        let at = providers.iter().find_map(|p| match p {
            ProviderConfig::Oidc(oidc) if oidc.name == *login => Some(oidc),
            _ => None,
        });
        let Some(at) = at else {
            let what = format!("login = {login:?} is no provider where people sign in by a code");
            return Err(bad((what, "Name a [[provider]] of kind \"oidc\", or of one of its kinds.".into())));
        };
        let unknown = |claim: &&super::ClaimPath| !OF_GITHUB.iter().any(|known| claim.is(known));
        if let Some(claim) = ldap.login_claim.as_ref().filter(unknown).filter(|_| at.profile.proof == Proof::GitHub) {
            return Err(bad((
                format!("login_claim {claim} is nothing that GitHub says of anybody"),
                format!("Choose of {}.", OF_GITHUB.join(", ")),
            )));
        }
        named.push(login.clone());
    }
    for provider in providers {
        if let ProviderConfig::Oidc(oidc) = provider {
            oidc.has_people = !named.contains(&oidc.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ProviderConfig};

    const LDAP: &str = "[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nurls = [\"ldaps://x\"]\nbase = \"o=x\"\n";
    const SSO: &str = "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://x\"\nclient_id = \"c\"\nallow_anyone = true\n";
    const HUB: &str = "[[provider]]\nname = \"hub\"\nkind = \"github\"\nclient_id = \"c\"\nallow_anyone = true\n";

    fn parse(lines: &str) -> Result<Config, String> {
        Config::parse("f", &format!("{LDAP}{lines}\n{SSO}{HUB}")).map_err(|e| e.to_string())
    }

    #[test]
    fn who_is_joined_has_nobody_else() {
        let people = |config: Config| {
            let oidc = config.providers.into_iter().filter_map(|p| match p {
                ProviderConfig::Oidc(oidc) => Some((oidc.name, oidc.has_people)),
                ProviderConfig::Ldap(_) => None,
            });
            oidc.collect::<Vec<_>>()
        };
        let both = |sso, hub| vec![("sso".to_owned(), sso), ("hub".to_owned(), hub)];
        assert_eq!(people(parse("").unwrap()), both(true, true));
        for good in [
            "login = \"sso\"",
            "login = \"sso\"\nlogin_attribute = \"mail\"\nlogin_claim = \"email\"",
            "login = \"sso\"\nlogin_attribute = \"employeeNumber\"\nlogin_claim = \"hr.number\"",
        ] {
            assert_eq!(people(parse(good).unwrap()), both(false, true), "{good}");
        }
        assert_eq!(people(parse("login = \"hub\"\nlogin_claim = \"sub\"").unwrap()), both(true, false));
        // Whatever the order in the file is.
        assert!(Config::parse("f", &format!("{SSO}{LDAP}login = \"sso\"\n")).is_ok());
    }

    #[test]
    fn joins_that_cannot_be() {
        for (lines, why) in [
            ("login = \"nowhere\"", "no provider where people sign in"),
            ("login = \"corp\"", "no provider where people sign in"),
            ("login = \"builtin\"", "no provider where people sign in"),
            ("login = \"\"", "no provider where people sign in"),
            ("login_attribute = \"mail\"", "are for login"),
            ("login_claim = \"email\"", "are for login"),
            ("login = \"sso\"\nofficial = true", "unknown field"),
            ("login = \"sso\"\noffline_passwords = true", "by no password"),
            ("login = \"sso\"\nlogin_attribute = \"ma il\"", "no attribute's name"),
            ("login = \"sso\"\nlogin_attribute = \"\"", "no attribute's name"),
            ("login = \"sso\"\nlogin_claim = \"mail\"", "whether it is verified"),
            ("login = \"sso\"\nlogin_claim = \"account.email\"", "whether it is verified"),
            ("login = \"hub\"\nlogin_claim = \"oid\"", "nothing that GitHub says"),
            ("login = \"sso\"\nlogin_claim = \"a..b\"", "a..b"),
        ] {
            let refused = parse(lines).map(|_| ()).unwrap_err();
            assert!(refused.contains(why), "{lines}: {refused}");
        }
        let refused = parse("login = \"nowhere\"").map(|_| ()).unwrap_err();
        assert!(refused.starts_with("f:1: provider corp: "), "{refused}");
        // Whoever may prove herself there must be said, as ever: the directory does not say who can get a name there.
        let open = SSO.replace("allow_anyone = true\n", "");
        let refused = Config::parse("f", &format!("{LDAP}login = \"sso\"\n{open}")).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("could log in"), "{refused}");
    }
}
