//! `[[provider]]`: directories and identity providers.

use super::ldap::LdapConfig;
use super::oidc::{OidcConfig, OidcTable};
use super::profile::{self, PROFILES};
use super::values::{ConfigError, DurationText, Source};
use serde::Deserialize;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// One provider.
#[derive(Debug)]
pub enum ProviderConfig {
    /// `kind = "ldap"`
    Ldap(Box<LdapConfig>),
    /// `kind = "oidc"`, and its profiles
    Oidc(Box<OidcConfig>),
}

impl ProviderConfig {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            ProviderConfig::Ldap(c) => &c.name,
            ProviderConfig::Oidc(c) => &c.name,
        }
    }

    /// Reads and checks the table of a provider of that kind.
    pub(super) fn parse(
        kind: &str,
        table: DeTable<'_>,
        source: &Source<'_>,
        span: &Range<usize>,
    ) -> Result<Self, ConfigError> {
        let rest = ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table)));
        if kind == "ldap" {
            let config = LdapConfig::deserialize(rest).map_err(|e| source.toml(&e))?;
            config.check(source, span)?;
            return Ok(ProviderConfig::Ldap(Box::new(config)));
        }
        let Some(profile) = profile::of_kind(kind) else {
            let kinds: Vec<_> = PROFILES.iter().map(|p| format!("\"{}\"", p.kind)).collect();
            return Err(source.at(
                span,
                &format!("unknown kind of provider `{}`", kind.escape_default()),
                &format!("The kinds are \"ldap\", {}.", kinds.join(", ")),
            ));
        };
        let table = OidcTable::deserialize(rest).map_err(|e| source.toml(&e))?;
        Ok(ProviderConfig::Oidc(Box::new(OidcConfig::new(profile, table, source, span)?)))
    }
}

pub(super) const fn seconds(n: u64) -> DurationText {
    DurationText(Duration::from_secs(n))
}

pub(super) fn check_ca(ca_file: Option<&str>) -> Result<(), String> {
    crate::tls::Own { ca_file, ..Default::default() }.check()
}
