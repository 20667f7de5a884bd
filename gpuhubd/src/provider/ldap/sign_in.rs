//! People who prove themselves at another provider: by which attribute of their entries they are known there.

use super::person::Found;
use super::schema::Schema;
use crate::config::{ClaimPath, LdapConfig};
use crate::model::{Denied, Reason};
use crate::provider::join::Join;

/// A directory's.
#[derive(Debug)]
pub(super) struct SignIn {
    /// The name of that provider.
    pub(super) at: String,
    claim: Option<ClaimPath>,
}

impl SignIn {
    pub(super) fn new(config: &LdapConfig) -> Option<Self> {
        Some(Self { at: config.login.clone()?, claim: config.login_claim.clone() })
    }

    /// By what the provider must know her.
    pub(super) fn join(&self, schema: &Schema, found: &Found) -> Result<Join, Denied> {
        let values = match &schema.login {
            None => vec![found.person.name.as_str().to_owned()],
            Some(attribute) if found.login.is_empty() => {
                let detail = format!("her entry has no {}, by which {} would know her", attribute.name, self.at);
                return Err(Denied::because(Reason::EntryRefused, detail));
            }
            Some(_) => found.login.clone(),
        };
        Ok(Join { claim: self.claim.clone(), values })
    }
}
