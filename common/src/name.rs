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

/// May stand in a user name: `A-Za-z0-9._@+-`. Written so that a loop runs over many bytes at once.
const fn is_in_user(b: u8) -> bool {
    let letter = (b | 0x20).wrapping_sub(b'a') < 26;
    let digit = b.wrapping_sub(b'0') < 10;
    letter | digit | (b == b'.') | (b == b'_') | (b == b'@') | (b == b'+') | (b == b'-')
}

/// May stand in a user name.
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
        if is_in_user(b) {
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
    // What all bytes have in common: one pass, and no search in it.
    let class = |b: &u8| CLASSES.get(usize::from(*b)).copied().unwrap_or(0);
    let all = bytes.iter().fold(u8::MAX, |all, b| all & class(b));
    if all & (if inner_space { IN_GROUP } else { IN_USER }) == 0 {
        return Err(BadName::BadByte);
    }
    if matches!(first, b'-' | b'.' | b'+' | b'@' | b' ') || *last == b' ' {
        return Err(BadName::BadStart);
    }
    if all & DIGIT != 0 {
        return Err(BadName::AllDigits);
    }
    Ok(())
}

/// Whether each of the names in `text`, which all end with a NUL, could be a user name. A group of
/// 100,000 members is vetted in one lookup.
pub fn are_user_names(text: &[u8]) -> bool {
    text.is_empty() || are_usual_names(text) || Ended(text).all(is_user_name)
}

/// Whether all of them are legal and such as most are: they begin with a letter or `_`, and none is
/// so long that there is no NUL in 32 bytes. Two loops that have no way out of them and no name of
/// their own, so that they run over many bytes at once.
fn are_usual_names(text: &[u8]) -> bool {
    // Of the legal bytes, letters and `_` are those from `A` on, and a NUL there is an empty name.
    let unusual = |before: u8, b: u8| !(is_in_user(b) | (b == 0)) | ((before == 0) & (b < b'A'));
    let pairs = || text.iter().zip(text.get(1..).unwrap_or_default());
    let short = |part: &[u8]| part.iter().fold(0u8, |has_nul, b| has_nul | u8::from(*b == 0)) != 0;
    text.first().is_some_and(|first| !unusual(0, *first))
        && text.last() == Some(&0)
        && pairs().fold(0u8, |bad, (before, b)| bad | u8::from(unusual(*before, *b))) == 0
        && text.chunks(32).all(short)
}

/// The names in a text in which each ends with a NUL.
#[derive(Debug, Clone)]
pub struct Ended<'t>(pub &'t [u8]);

impl<'t> Iterator for Ended<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Some(name)
    }
}

/// Hands the place of each NUL in `text` to `each`, in order. Looks at eight bytes at a time: between
/// names there are many, and the usual search begins anew at each.
#[inline]
pub fn for_each_nul(text: &[u8], mut each: impl FnMut(usize)) {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    let (eights, rest) = text.split_at(text.len() & !7);
    for (n, eight) in eights.chunks_exact(8).enumerate() {
        let word = eight.try_into().map_or(u64::MAX, u64::from_le_bytes);
        // The top bit of each byte that is 0: the sum of the others reaches it unless all are 0.
        let mut nuls = !(((word & LOW) + LOW) | word | LOW);
        while nuls != 0 {
            each(n * 8 + nuls.trailing_zeros() as usize / 8);
            nuls &= nuls - 1;
        }
    }
    rest.iter().enumerate().filter(|(_, b)| **b == 0).for_each(|(n, _)| each(eights.len() + n));
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

/// Whether a user name may be another login name of somebody (`alice@corp.example`, Active Directory's
/// userPrincipalName): then the entry that answers to it has a name of its own.
pub fn may_be_alias(name: &[u8]) -> bool {
    name.contains(&b'@')
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

/// A set of names that says at once of most others that they are not in it: a bit for each of 4096
/// shapes, by length, first and last byte, whatever the case.
#[derive(Debug)]
pub(crate) struct Shapes([u64; 64]);

impl Shapes {
    pub(crate) const fn none() -> Self {
        Self([0; 64])
    }

    pub(crate) const fn add(&mut self, name: &[u8]) {
        let (word, bit) = shape(name);
        let (_, from_word) = self.0.split_at_mut(word);
        if let Some(word) = from_word.first_mut() {
            *word |= bit;
        }
    }

    #[inline]
    pub(crate) fn may_have(&self, name: &[u8]) -> bool {
        let (word, bit) = shape(name);
        self.0.get(word).is_some_and(|w| w & bit != 0)
    }
}

/// A place among 64 words, and a bit.
#[inline]
const fn shape(name: &[u8]) -> (usize, u64) {
    let (first, last) = match name {
        [first, .., last] => (*first, *last),
        [one] => (*one, *one),
        [] => (0, 0),
    };
    let bytes = (name.len() as u32) << 16 | (first.to_ascii_lowercase() as u32) << 8 | last.to_ascii_lowercase() as u32;
    // The upper bits of the product depend on all of them.
    let n = bytes.wrapping_mul(0x9E37_79B1) >> 20;
    ((n / 64) as usize, 1 << (n % 64))
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
    fn a_byte_is_legal_in_a_list_as_it_is_in_a_name() {
        for b in 0..=255u8 {
            let name = [b'a', b, b'a'];
            let legal = b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
            assert_eq!(is_user_name(&name), legal, "{b}");
            assert_eq!(is_group_name(&name), legal || b == b' ', "{b}");
            assert_eq!(are_user_names(&[&name[..], b"\0"].concat()), legal || b == 0, "{b}");
        }
    }

    #[test]
    fn lists_of_names() {
        let long = "x".repeat(64);
        let names = ["a", "alice", "eight.ch", "nine.char", "1x", &long, "exactly.sixteen."];
        let text: String = names.iter().map(|n| format!("{n}\0")).collect();
        assert!(Ended(text.as_bytes()).eq(names.iter().map(|n| n.as_bytes())));
        assert!(are_user_names(text.as_bytes()) && are_user_names(b""));
        for bad in ["", "-a", ".a", "+a", "@a", "a b", "1000", "a:b", "a\nb", &"x".repeat(65), "\u{e4}"] {
            assert!(!are_user_names(format!("{text}{bad}\0{text}").as_bytes()), "{bad:?}");
            assert!(!is_user_name(bad.as_bytes()), "{bad:?}");
        }
        // Whatever two bytes are beside each other, wherever: what is quick says what is exact.
        for (before, b, at) in (0..=255).flat_map(|a| (0..=255u8).map(move |b| (a, b, usize::from(b) % 37))) {
            let mut text = *b"lena\0albert.einstein\0noether\0gauss\0al\0";
            (text[at], text[at + 1]) = (before, b);
            let exact = Ended(&text).all(is_user_name);
            assert_eq!(are_user_names(&text), exact, "{before} {b} at {at}");
            assert!(!are_usual_names(&text) || exact, "{before} {b} at {at}");
        }
        assert!(Ended(b"a\0\0b").eq([&b"a"[..], b"", b"b"]) && Ended(b"").eq([&b""[..]; 0]));
        for at in 0..40 {
            // 1 and 0x80 are what a quicker way of seeing a NUL takes for one.
            let mut text = [[1, 0x80, 0xff, b'a', 1, 1, 1, 1]; 5].concat();
            (text[at], text[39 - at]) = (0, 0);
            let mut nuls = Vec::new();
            for_each_nul(&text, |nul| nuls.push(nul));
            let want: Vec<_> = (0..40).filter(|n| *n == at || *n == 39 - at).collect();
            assert_eq!(nuls, want);
        }
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
