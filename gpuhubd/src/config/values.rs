//! Values that need more than a type: durations, secret files, and errors with a line.

use gpuhub_common::secret::{MAX_SECRET, Secret};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Why the configuration is refused: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Its line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do; empty where the message says it.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, ". {}", self.remedy) }
    }
}

impl std::error::Error for ConfigError {}

/// The text, for turning spans into lines.
pub struct Source<'a> {
    /// File name in messages.
    pub file: &'a str,
    /// Its content.
    pub text: &'a str,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count()
    }

    /// An error of serde or of the TOML parser.
    pub fn toml(&self, e: &toml::de::Error) -> ConfigError {
        let message = e.message().lines().collect::<Vec<_>>().join(" ");
        ConfigError {
            file: self.file.into(),
            line: e.span().map(|s| self.line(s.start)),
            what: message,
            remedy: "See gpuhub.toml(5) for the keys and their types.".into(),
        }
    }

    /// An error of ours at a span.
    pub fn at(&self, span: &Range<usize>, what: &str, remedy: &str) -> ConfigError {
        ConfigError {
            file: self.file.into(),
            line: Some(self.line(span.start)),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// A duration written as `"300ms"`, `"5s"`, `"10m"`, `"8h"` or `"1d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(
    /// The value.
    pub Duration,
);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let bad = || de::Error::custom("not a duration; write \"300ms\", \"5s\", \"10m\", \"8h\" or \"1d\"");
        let n: u64 = number.parse().map_err(|_| bad())?;
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        n.checked_mul(ms).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(bad)
    }
}

/// Where Docker and Kubernetes mount secrets. They choose the modes (0444 by default), and the
/// directory is private to the container, so a world-readable file is accepted there and nowhere
/// else. `/etc/gpuhub/secrets` is not among them on purpose.
const MOUNTED_SECRETS: &[&str] = &["/run/secrets/", "/var/run/secrets/"];

/// Whether a file is among them.
pub fn is_mounted_secret(path: &Path) -> bool {
    MOUNTED_SECRETS.iter().any(|dir| path.as_os_str().as_encoded_bytes().starts_with(dir.as_bytes()))
}

/// A secret in a file of its own: read when the configuration is, one trailing newline dropped.
pub struct SecretFile(Secret);

impl SecretFile {
    /// The secret.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    fn read(path: &str) -> Result<Self, String> {
        let mut file = std::fs::File::open(path).map_err(|e| format!("the secret file {path} cannot be read: {e}"))?;
        let meta = file.metadata().map_err(|e| format!("{path}: {e}"))?;
        if !meta.is_file() {
            return Err(format!("{path} is not a file"));
        }
        if meta.mode() & 0o007 != 0 && !is_mounted_secret(path.as_ref()) {
            return Err(format!(
                "everyone can read the secret file {path} (mode {:04o}). Run: chown root:gpuhub {path} && chmod 0640 {path}",
                meta.mode() & 0o7777
            ));
        }
        // One buffer that never grows, so that no copy is left behind.
        let mut bytes = Zeroizing::new(vec![0; MAX_SECRET + 1]);
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|r| !r.is_empty()) {
            match file.read(rest).map_err(|e| format!("{path}: {e}"))? {
                0 => break,
                n => length += n,
            }
        }
        let text = bytes.get(..length).unwrap_or_default();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        match Secret::new(text) {
            Some(secret) if !secret.is_empty() => Ok(Self(secret)),
            Some(_) => Err(format!("the secret file {path} is empty")),
            None => Err(format!("the secret file {path} is longer than {MAX_SECRET} bytes")),
        }
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretFile(…)")
    }
}

/// Reading it while deserialising gives its errors the line of the key.
impl<'de> Deserialize<'de> for SecretFile {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}
