//! The entries that NSS serves, and the vetting that both sides apply to them.
//!
//! The broker vets what a directory says before it stores it; the client vets what the snapshot
//! or the socket says before it hands it to a process. The client does not trust the broker: a
//! captured broker can impersonate people, but it cannot make root (docs/threats.md).

use crate::local::LocalAccounts;
use crate::{id, name};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A passwd(5) entry. `pw_passwd` is always `*` and is not carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwd {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Full name, as in passwd(5).
    pub gecos: String,
    /// Home directory, absolute.
    pub home: String,
    /// Login shell, absolute.
    pub shell: String,
}

/// A group(5) entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of the supplementary members, in a fixed order.
    pub members: Vec<String>,
}

/// Why an entry is refused. The words are the audit reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The name is not legal ([`crate::name`]).
    BadName,
    /// An id that is never given ([`crate::id::is_allowed`]).
    BadId,
    /// A name that the container's own /etc/passwd or /etc/group has.
    LocalName,
    /// An id that the container's own /etc/passwd or /etc/group has.
    LocalId,
    /// A group name that gives power by itself.
    PowerGroup,
    /// Colon, control character or not absolute, in gecos, home or shell.
    BadField,
}

impl Refusal {
    /// The audit reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Refusal::BadName => "bad-name",
            Refusal::BadId => "bad-id",
            Refusal::LocalName => "local-name",
            Refusal::LocalId => "local-id",
            Refusal::PowerGroup => "power-group",
            Refusal::BadField => "bad-field",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

/// Vets the parts of a passwd entry. Takes bytes and allocates nothing: the snapshot reader
/// calls it on what it has just copied into the caller's buffer.
pub fn vet_user(
    name: &[u8],
    uid: u32,
    gid: u32,
    gecos: &[u8],
    home: &[u8],
    shell: &[u8],
    local: &LocalAccounts,
) -> Result<(), Refusal> {
    vet_identity(name, uid, gid, local)?;
    if is_plain(gecos) && is_path(home) && is_path(shell) { Ok(()) } else { Err(Refusal::BadField) }
}

/// Vets who somebody is, without the fields that give no power.
pub fn vet_identity(name: &[u8], uid: u32, gid: u32, local: &LocalAccounts) -> Result<(), Refusal> {
    if !name::is_user_name(name) {
        return Err(Refusal::BadName);
    }
    if local.has_user(name) {
        return Err(Refusal::LocalName);
    }
    if !id::is_allowed(uid) {
        return Err(Refusal::BadId);
    }
    if local.has_uid(uid) {
        return Err(Refusal::LocalId);
    }
    vet_membership(gid, local)
}

/// Vets a group's name and id (its members are vetted as names, one by one, where they are used).
pub fn vet_group(name: &[u8], gid: u32, local: &LocalAccounts) -> Result<(), Refusal> {
    if !name::is_group_name(name) {
        return Err(Refusal::BadName);
    }
    if name::is_power_group(name) {
        return Err(Refusal::PowerGroup);
    }
    if local.has_group(name) {
        return Err(Refusal::LocalName);
    }
    vet_gid(gid, local)
}

/// Vets the id of a group that somebody is in, her primary one or another. Those that root allowed in
/// [`crate::local::EXTRA_GIDS`] pass though they are local.
#[inline]
pub fn vet_membership(gid: u32, local: &LocalAccounts) -> Result<(), Refusal> {
    if local.is_above_all(gid) && id::is_allowed(gid) || local.allows_gid(gid) {
        return Ok(());
    }
    vet_gid(gid, local)
}

/// Vets the id of a group of ours, which is never a local one.
pub fn vet_gid(gid: u32, local: &LocalAccounts) -> Result<(), Refusal> {
    if !id::is_allowed(gid) {
        return Err(Refusal::BadId);
    }
    if local.has_gid(gid) { Err(Refusal::LocalId) } else { Ok(()) }
}

impl Passwd {
    /// [`vet_user`] on the whole entry.
    pub fn vet(&self, local: &LocalAccounts) -> Result<(), Refusal> {
        vet_user(
            self.name.as_bytes(),
            self.uid,
            self.gid,
            self.gecos.as_bytes(),
            self.home.as_bytes(),
            self.shell.as_bytes(),
            local,
        )
    }
}

impl Group {
    /// [`vet_group`], and every member a legal name.
    pub fn vet(&self, local: &LocalAccounts) -> Result<(), Refusal> {
        vet_group(self.name.as_bytes(), self.gid, local)?;
        if self.members.iter().all(|m| name::is_user_name(m.as_bytes())) { Ok(()) } else { Err(Refusal::BadName) }
    }
}

/// Neither a colon nor a control character: what passwd(5) can carry.
const PLAIN: u8 = 1;
/// Not a dot.
const NO_DOT: u8 = 2;

/// What each byte is.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut rest: &mut [u8] = &mut classes;
    let mut b = 0u8;
    while let Some((class, more)) = rest.split_first_mut() {
        if b != b':' && !b.is_ascii_control() {
            *class = PLAIN;
        }
        if b != b'.' {
            *class |= NO_DOT;
        }
        rest = more;
        b = b.wrapping_add(1);
    }
    classes
};

/// What all bytes of a field have in common. Without a way out of the loop: fields are short, and good.
fn common(field: &[u8]) -> u8 {
    let class = |b: &u8| CLASSES.get(usize::from(*b)).copied().unwrap_or(0);
    field.iter().fold(u8::MAX, |all, b| all & class(b))
}

/// No colon and no control character: what passwd(5) can carry.
pub fn is_plain(field: &[u8]) -> bool {
    field.len() <= MAX_FIELD && common(field) & PLAIN != 0
}

/// Top directories where programs of the system look for code or configuration: no place for
/// anybody's home. The PAM module makes none there, whatever the broker says.
pub const SYSTEM_DIRS: &[&str] = &[
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "root", "run", "sbin", "sys", "tmp",
    "usr", "var",
];

/// Longest gecos, home or shell in bytes (PATH_MAX).
pub const MAX_FIELD: usize = 4096;

/// [`is_plain`], absolute, not `/` itself (CVE-2019-3811), and without `..`.
pub fn is_path(field: &[u8]) -> bool {
    let all = common(field);
    field.len() <= MAX_FIELD
        && all & PLAIN != 0
        && field.first() == Some(&b'/')
        && field.iter().any(|b| *b != b'/')
        // Most paths have no dots, and need not be taken apart.
        && (all & NO_DOT != 0 || field.split(|b| *b == b'/').all(|part| part != b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Passwd {
        Passwd {
            name: "alice".into(),
            uid: 20001,
            gid: 20001,
            gecos: "Alice A".into(),
            home: "/home/alice".into(),
            shell: "/bin/bash".into(),
        }
    }

    fn local() -> LocalAccounts {
        LocalAccounts::from_texts(
            "root:x:0:0::/root:/bin/sh\nubuntu:x:1500:1500::/home/ubuntu:/bin/sh\n",
            "video:x:44:\nubuntu:x:1500:\n",
            "44\n",
        )
    }

    #[test]
    fn good_user_passes() {
        assert_eq!(alice().vet(&local()), Ok(()));
    }

    #[test]
    fn each_bad_user_is_refused_for_its_reason() {
        type Spoil = fn(&mut Passwd);
        let cases: [(Spoil, Refusal); 14] = [
            (|p| p.name = "a:b".into(), Refusal::BadName),
            (|p| p.name = "root".into(), Refusal::LocalName),
            (|p| p.name = "ubuntu".into(), Refusal::LocalName),
            (|p| p.uid = 0, Refusal::BadId),
            (|p| p.uid = 33, Refusal::BadId),
            (|p| p.uid = 1500, Refusal::LocalId),
            (|p| p.gid = 0, Refusal::BadId),
            (|p| p.gid = 1500, Refusal::LocalId),
            (|p| p.gecos = "x\ny".into(), Refusal::BadField),
            (|p| p.gecos = "x:y".into(), Refusal::BadField),
            (|p| p.home = "".into(), Refusal::BadField),
            (|p| p.home = "/".into(), Refusal::BadField),
            (|p| p.home = "/home/../root".into(), Refusal::BadField),
            (|p| p.shell = "bash".into(), Refusal::BadField),
        ];
        for (spoil, want) in cases {
            let mut p = alice();
            spoil(&mut p);
            assert_eq!(p.vet(&local()), Err(want), "{p:?}");
        }
    }

    #[test]
    fn fields_byte_by_byte() {
        for b in 0..=255u8 {
            let plain = b != b':' && b >= 0x20 && b != 0x7f;
            assert_eq!(is_plain(&[b'a', b, b'a']), plain, "{b}");
            assert_eq!(is_path(&[b'/', b, b'a']), plain, "{b}");
        }
        for path in ["/a", "//a", "/.", "/...", "/a..b/c", "/.a", "/a/.b"] {
            assert!(is_path(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "//", "a", "a/", "/..", "/a/..", "/../a", "/a/../b", "/a//.."] {
            assert!(!is_path(path.as_bytes()), "{path}");
        }
        let long = [b"/".as_slice(), &[b'a'; MAX_FIELD]].concat();
        assert!(is_path(&long[..MAX_FIELD]) && !is_path(&long) && !is_plain(&long));
    }

    #[test]
    fn groups() {
        let g = |name: &str, gid| Group { name: name.into(), gid, members: vec!["alice".into()] };
        assert_eq!(g("ml", 20100).vet(&local()), Ok(()));
        assert_eq!(g("sudo", 20100).vet(&local()), Err(Refusal::PowerGroup));
        assert_eq!(g("ubuntu", 20100).vet(&local()), Err(Refusal::LocalName));
        assert_eq!(g("ml", 27).vet(&local()), Err(Refusal::BadId));
        let mut bad = g("ml", 20100);
        bad.members.push("x\ny".into());
        assert_eq!(bad.vet(&local()), Err(Refusal::BadName));
    }

    #[test]
    fn only_root_s_list_opens_a_local_gid() {
        assert_eq!(vet_membership(44, &local()), Ok(()));
        assert_eq!(vet_membership(45, &local()), Err(Refusal::BadId));
        assert_eq!(vet_membership(20100, &local()), Ok(()));
        assert_eq!(vet_gid(44, &local()), Err(Refusal::BadId), "no group of ours is the local one");
        assert_eq!(Passwd { gid: 44, ..alice() }.vet(&local()), Ok(()));
        assert_eq!(Passwd { gid: 45, ..alice() }.vet(&local()), Err(Refusal::BadId));
    }
}
