//! Names: a [`UserName`] or [`GroupName`] exists only if it is legal.
//!
//! Legal is what survives every consumer on the way: passwd(5) lines (no colon, newline or
//! NUL), paths (no slash), command lines (no leading `-`), shells and `chown` (not all digits,
//! which would read as an id). Spelling is exact: no case folding, so that `BOB` never slips past
//! a rule that names `bob`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest user or group name in bytes. utmp(5) keeps 32 of them; LDAP directories have longer.
pub const MAX_NAME: usize = 64;

/// Why a text is not a name. Carries no part of the text: it may be hostile, and it may be a
/// password typed at the wrong prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// Empty.
    Empty,
    /// Longer than [`MAX_NAME`] bytes.
    TooLong,
    /// A byte outside `A-Za-z0-9._@+-` (and, inside group names, the space).
    BadByte,
    /// Starts with `-`, `.`, `+` or `@`.
    BadStart,
    /// Nothing but digits: programs would take it for an id.
    AllDigits,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadName::Empty => "is empty",
            BadName::TooLong => "is longer than 64 bytes",
            BadName::BadByte => "has a character that names may not have",
            BadName::BadStart => "starts with a character that names may not start with",
            BadName::AllDigits => "is all digits",
        })
    }
}

impl std::error::Error for BadName {}

/// May stand in a user name: `A-Za-z0-9._@+-`.
const IN_USER: u8 = 1;
/// May stand in a group name: the same, and the space.
const IN_GROUP: u8 = 2;
/// Is a digit.
const DIGIT: u8 = 4;

/// What each byte is.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut rest: &mut [u8] = &mut classes;
    let mut b = 0u8;
    while let Some((class, more)) = rest.split_first_mut() {
        if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'+' | b'-') {
            *class = IN_USER | IN_GROUP;
        }
        if b == b' ' {
            *class = IN_GROUP;
        }
        if b.is_ascii_digit() {
            *class |= DIGIT;
        }
        rest = more;
        b = b.wrapping_add(1);
    }
    classes
};

fn check(bytes: &[u8], inner_space: bool) -> Result<(), BadName> {
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(BadName::Empty);
    };
    if bytes.len() > MAX_NAME {
        return Err(BadName::TooLong);
    }
    // What all bytes have in common. A group of 100,000 members is vetted in one lookup, so there
    // is one pass and no search in it.
    let all = bytes.iter().fold(u8::MAX, |all, b| all & CLASSES.get(usize::from(*b)).copied().unwrap_or(0));
    if all & (if inner_space { IN_GROUP } else { IN_USER }) == 0 {
        return Err(BadName::BadByte);
    }
    if b"-.+@ ".contains(first) || *last == b' ' {
        return Err(BadName::BadStart);
    }
    if all & DIGIT != 0 {
        return Err(BadName::AllDigits);
    }
    Ok(())
}

/// Whether `bytes` could be a user name. Allocates nothing: NSS asks it on every lookup.
pub fn is_user_name(bytes: &[u8]) -> bool {
    check(bytes, false).is_ok()
}

/// Whether `bytes` could be a group name. Directories have groups called `Domain Users`, so a
/// space inside is legal.
pub fn is_group_name(bytes: &[u8]) -> bool {
    check(bytes, true).is_ok()
}

macro_rules! name_type {
    ($(#[$doc:meta])* $t:ident, $space:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $t(String);

        impl $t {
            /// Parses; the only way to make one.
            pub fn new(text: &str) -> Result<Self, BadName> {
                check(text.as_bytes(), $space).map(|()| Self(text.to_owned()))
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $t {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                check(text.as_bytes(), $space).map(|()| Self(text))
            }
        }
        impl From<$t> for String {
            fn from(name: $t) -> String {
                name.0
            }
        }
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A legal user name, in its one canonical spelling.
    UserName,
    false
);
name_type!(
    /// A legal group name.
    GroupName,
    true
);

/// Group names that give power on common images by name alone (sudoers, polkit, device nodes,
/// container daemons). A directory that has such a group must not hand that power out.
/// GHSA CVE-2025-49012: an identity provider's group called `sudo`.
pub const POWER_GROUPS: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "adm",
    "admin",
    "wheel",
    "sudo",
    "sudoers",
    "tty",
    "disk",
    "lp",
    "mail",
    "kmem",
    "mem",
    "operator",
    "src",
    "shadow",
    "utmp",
    "staff",
    "video",
    "render",
    "audio",
    "input",
    "kvm",
    "libvirt",
    "libvirtd",
    "libvirt-qemu",
    "docker",
    "podman",
    "containerd",
    "lxd",
    "lxc",
    "incus",
    "incus-admin",
    "microk8s",
    "sgx",
    "netdev",
    "plugdev",
    "dialout",
    "cdrom",
    "floppy",
    "tape",
    "crontab",
    "ssh",
    "_ssh",
    "ssl-cert",
    "messagebus",
    "polkitd",
    "systemd-journal",
    "systemd-network",
    "systemd-resolve",
    "wireshark",
    "vboxusers",
    "nogroup",
    "nobody",
    "gpuhub",
];

/// The shapes of [`POWER_GROUPS`].
const POWER_SHAPES: Shapes = {
    let mut shapes = Shapes::none();
    let mut rest = POWER_GROUPS;
    while let Some((name, more)) = rest.split_first() {
        shapes.add(name.as_bytes());
        rest = more;
    }
    shapes
};

/// Whether a group name gives power by itself; see [`POWER_GROUPS`].
pub fn is_power_group(name: &[u8]) -> bool {
    POWER_SHAPES.may_have(name) && POWER_GROUPS.iter().any(|g| g.as_bytes().eq_ignore_ascii_case(name))
}

/// A set of names that says at once of most others that they are not in it: a bit for each of 1024
/// shapes, by length, first and last byte, whatever the case.
#[derive(Debug, Default)]
pub(crate) struct Shapes([u64; 16]);

impl Shapes {
    pub(crate) const fn none() -> Self {
        Self([0; 16])
    }

    pub(crate) const fn add(&mut self, name: &[u8]) {
        let (word, bit) = shape(name);
        let (_, from_word) = self.0.split_at_mut(word);
        if let Some(word) = from_word.first_mut() {
            *word |= bit;
        }
    }

    pub(crate) fn may_have(&self, name: &[u8]) -> bool {
        let (word, bit) = shape(name);
        self.0.get(word).is_some_and(|w| w & bit != 0)
    }
}

/// A place among 16 words, and a bit.
const fn shape(name: &[u8]) -> (usize, u64) {
    let (first, last) = match name {
        [first, .., last] => (first.to_ascii_lowercase(), last.to_ascii_lowercase()),
        [one] => (one.to_ascii_lowercase(), one.to_ascii_lowercase()),
        [] => (0, 0),
    };
    let n = name.len().wrapping_mul(89) ^ (first as usize).wrapping_mul(37) ^ (last as usize).wrapping_mul(11);
    (n / 64 % 16, 1 << (n % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names() {
        for n in ["alice", "a", "a.b-c_d", "alice@example.org", "BOB", "x1", "1x", "_svc", &"a".repeat(64)] {
            assert!(UserName::new(n).is_ok(), "{n}");
        }
        assert!(GroupName::new("Domain Users").is_ok());
    }

    #[test]
    fn illegal_names() {
        for (n, why) in [
            ("", BadName::Empty),
            (&*"a".repeat(65), BadName::TooLong),
            ("a:b", BadName::BadByte),
            ("a\nb", BadName::BadByte),
            ("a\0b", BadName::BadByte),
            ("a/b", BadName::BadByte),
            ("a b", BadName::BadByte),
            ("é", BadName::BadByte),
            ("-a", BadName::BadStart),
            (".a", BadName::BadStart),
            ("1000", BadName::AllDigits),
        ] {
            assert_eq!(UserName::new(n), Err(why), "{n:?}");
        }
        assert_eq!(GroupName::new("a "), Err(BadName::BadStart));
        assert_eq!(GroupName::new(" a"), Err(BadName::BadStart));
    }

    #[test]
    fn power_groups_in_any_case() {
        assert!(is_power_group(b"sudo") && is_power_group(b"Docker"));
        assert!(!is_power_group(b"gpu-users") && !is_power_group(b"") && !is_power_group(b"sudoer"));
        for name in POWER_GROUPS {
            assert!(is_power_group(name.as_bytes()) && is_power_group(name.to_uppercase().as_bytes()), "{name}");
        }
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<UserName>("\"a:b\"").is_err());
    }
}
