//! `[passcode]`: what people of OpenID providers give to services that cannot show a device code.

use super::values::{ConfigError, DurationText, Source};
use super::{ProviderConfig, ServiceMode, Services};
use crate::provider::builtin::PasswordRule;
use serde::Deserialize;
use std::time::Duration;

/// `[passcode]`. Off unless it is wanted: whoever chose an identity provider may not want a password beside it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passcode {
    /// People may have a passcode of their own.
    pub enabled: bool,
    /// They may get codes for one login each.
    pub one_time: bool,
    /// PAM services that take either, or an ID token. No other does, so that nobody's code running under her uid makes itself root by
    /// a service that nobody thought of (sudo).
    pub services: Vec<String>,
    /// Shortest passcode in characters.
    pub min_length: usize,
    /// Of lower case, upper case, digits and others, at least so many.
    pub min_classes: usize,
    /// For so long a passcode is good.
    pub expires: DurationText,
    /// And only for so long after the last sign-in at the provider.
    pub sign_in_every: DurationText,
    /// For so long after it no old passcode is asked for; zero: always.
    pub set_within: DurationText,
    /// Who has none is offered one at the end of a sign-in, so often at the most.
    pub offer_every: DurationText,
    /// After so many wrong ones in a row it counts no more until she signs in at the provider.
    pub tries: u32,
    /// For so long a one-time code is good.
    pub one_time_life: DurationText,
}

impl Default for Passcode {
    fn default() -> Self {
        let days = |n: u64| DurationText(Duration::from_secs(n * 86_400));
        let minutes = |n: u64| DurationText(Duration::from_secs(n * 60));
        Self {
            enabled: false,
            one_time: false,
            services: vec!["jupyterhub".into()],
            min_length: 10,
            min_classes: 2,
            expires: days(90),
            sign_in_every: days(7),
            set_within: minutes(5),
            offer_every: days(30),
            tries: 10,
            one_time_life: minutes(2),
        }
    }
}

impl Passcode {
    /// Whether anybody has a passcode or a one-time code.
    pub fn is_on(&self) -> bool {
        self.enabled || self.one_time
    }

    /// Whether a service takes what is no device code.
    pub fn is_for(&self, service: &str) -> bool {
        self.services.iter().any(|s| s == service)
    }

    /// What a new one must be.
    pub fn rule(&self) -> PasswordRule {
        PasswordRule { min_length: self.min_length, min_classes: self.min_classes }
    }

    pub(super) fn check(
        &self,
        source: &Source<'_>,
        services: &Services,
        providers: &[ProviderConfig],
    ) -> Result<(), ConfigError> {
        let bad = |what: &str, remedy: &str| Err(source.at(&(0..0), what, remedy));
        if let Some(service) = self.services.iter().find(|s| services.mode(s) != ServiceMode::SinglePrompt) {
            return bad(
                &format!("[passcode] services has {service:?}, which asks for no single password"),
                "Leave it out, or write \"single-prompt\" for it in [services]: then it shows no device codes.",
            );
        }
        if self.min_length < 6 {
            return bad("[passcode] min_length is less than 6", "Strangers may guess at it: ask for 10 or more.");
        }
        if self.tries == 0 {
            return bad("[passcode] tries is 0", "Nobody could use a passcode: write enabled = false for that.");
        }
        let first = |p: &&ProviderConfig| matches!(p, ProviderConfig::Oidc(c) if c.ask_passcode_first);
        match providers.iter().find(first) {
            Some(p) if !self.enabled => bad(
                &format!("provider {}: ask_passcode_first is set, and nobody can have one", p.name()),
                "Write [passcode] enabled = true, too.",
            ),
            _ => Ok(()),
        }
    }
}
