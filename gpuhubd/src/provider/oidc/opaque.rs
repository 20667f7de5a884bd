//! Texts that open doors: tokens and device codes.

use serde::{Deserialize, Deserializer};
use std::fmt;
use zeroize::Zeroizing;

/// A token or device code: wiped when dropped, never shown by `Debug`. Unlike
/// [`gpuhub_common::secret::Secret`] it has no cap of its own (an ID token may list thousands of
/// groups); the cap is that of the answer it came in.
pub struct Opaque(Zeroizing<String>);

impl Opaque {
    /// The text. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Clone for Opaque {
    fn clone(&self) -> Self {
        self.0.as_str().to_owned().into()
    }
}

impl From<String> for Opaque {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque(…)")
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::from)
    }
}
