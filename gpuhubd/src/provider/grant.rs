//! What a sign-in leaves behind, so that its provider can be asked again, without her, whether she may still come in.

use super::oidc::Opaque;
use crate::model::PersonKey;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a provider's word is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskAgain {
    /// At a login it is asked again if its word is older than this.
    pub at_login: Duration,
    /// And so often in any case.
    pub every: Duration,
    /// While it does not answer its word counts for so long.
    pub grace: Duration,
}

/// What a provider can be asked with.
#[derive(Debug)]
pub enum Kept {
    /// A refresh token (RFC 6749 §1.5).
    Refresh(Opaque),
    /// An access token that does not expire, of a provider that gives no other.
    Access(Opaque),
}

/// Of one sign-in.
#[derive(Debug)]
pub struct Grant {
    /// Name of the provider.
    pub provider: String,
    /// Who signed in, by the provider's own word.
    pub key: PersonKey,
    /// `None`: the provider gave nothing.
    pub kept: Option<Kept>,
}

impl Kept {
    /// To be sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (kind, token) = match self {
            Kept::Refresh(token) => (b'r', token.expose()),
            Kept::Access(token) => (b'a', token.expose()),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + token.len()));
        bytes.push(kind);
        bytes.extend_from_slice(token.as_bytes());
        bytes
    }

    /// What was sealed; `None`: this was not.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, token) = bytes.split_first()?;
        let token = Opaque::from(std::str::from_utf8(token).ok()?.to_owned());
        match kind {
            b'r' => Some(Kept::Refresh(token)),
            b'a' => Some(Kept::Access(token)),
            _ => None,
        }
    }
}
