//! The one type that holds passwords, codes and tokens.

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::Zeroizing;

/// Longest secret in bytes. Long enough for an ID token given as a password.
pub const MAX_SECRET: usize = 8192;

/// Bytes that are wiped when dropped, never shown by `Debug`, and never reallocated (a grown
/// buffer would leave a copy behind). [`Secret::expose`] is the only way out.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Copies `bytes`; `None` if they are more than [`MAX_SECRET`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_SECRET {
            return None;
        }
        let mut buffer = Zeroizing::new(Vec::with_capacity(bytes.len().max(1)));
        buffer.extend_from_slice(bytes);
        Some(Self(buffer))
    }

    /// The bytes. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, where they are UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there is nothing in it. An empty password is an anonymous LDAP bind that
    /// "succeeds" (RFC 4513 §5.1.2), so everyone asks this first.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// As an array of numbers: a JSON string with escapes would leave copies in the parser's scratch
/// buffer, and a password need not be UTF-8.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("at most 8192 bytes as numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Secret, A::Error> {
                let mut buffer = Zeroizing::new(Vec::with_capacity(MAX_SECRET));
                while let Some(byte) = seq.next_element::<u8>()? {
                    if buffer.len() == MAX_SECRET {
                        return Err(de::Error::custom("secret too long"));
                    }
                    buffer.push(byte);
                }
                Ok(Secret(buffer))
            }
        }
        d.deserialize_seq(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shown() {
        let s = Secret::new(b"hunter2").map(|s| format!("{s:?}"));
        assert_eq!(s.as_deref(), Some("Secret(…)"));
    }

    #[test]
    fn round_trip_and_cap() {
        let json = serde_json::to_string(&Secret::new(b"a\"\xff")).unwrap_or_default();
        assert_eq!(json, "[97,34,255]");
        let back: Result<Secret, _> = serde_json::from_str(&json);
        assert!(back.is_ok_and(|s| s.expose() == b"a\"\xff"));
        let long = format!("[{}1]", "1,".repeat(MAX_SECRET));
        assert!(serde_json::from_str::<Secret>(&long).is_err());
        assert!(Secret::new(&[0; MAX_SECRET + 1]).is_none());
    }
}
