//! `[[provider]]`: directories and identity providers.

use super::ldap::LdapConfig;
use super::oidc::OidcConfig;
use super::values::{ConfigError, DurationText, Source};
use std::ops::Range;
use std::time::Duration;

/// One provider.
#[derive(Debug)]
pub enum ProviderConfig {
    /// `kind = "ldap"`
    Ldap(Box<LdapConfig>),
    /// `kind = "oidc"`
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

    pub(super) fn check(&self, source: &Source<'_>, span: &Range<usize>) -> Result<(), ConfigError> {
        match self {
            ProviderConfig::Ldap(c) => c.check(source, span),
            ProviderConfig::Oidc(c) => c.check(source, span),
        }
    }
}

pub(super) const fn seconds(n: u64) -> DurationText {
    DurationText(Duration::from_secs(n))
}

pub(super) fn check_ca(ca_file: Option<&str>) -> Result<(), String> {
    crate::tls::Own { ca_file, ..Default::default() }.check()
}
