//! What the store keeps and must not be read from a copy of it: sealed by a key that is in another file.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a nonce drawn for each sealing. What is sealed is bound to whose it is, so that
//! no row of the store can be put in another's place.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;

/// The key.
pub struct Seal(LessSafeKey);

impl Seal {
    /// The key of this file: 64 hexadecimal digits. One that is not there is made, for root or whoever the broker is
    /// alone.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        let text = |e: std::io::Error| format!("{}: {e}", path.display());
        match read(path) {
            Ok(key) => key,
            Err(e) if e.kind() == ErrorKind::NotFound => match make(path) {
                // Another broker was faster.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => read(path).map_err(text)?,
                made => made.map_err(|e| format!("{} cannot be made: {e}", path.display()))?,
            },
            Err(e) => return Err(text(e)),
        }
        .map_err(|what| format!("{} {what}", path.display()))
    }

    fn new(key: &[u8]) -> Option<Self> {
        Some(Self(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?)))
    }

    /// Seals `plain` for `whose`; `None`: there is no randomness to be had.
    pub fn seal(&self, whose: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        // Room for the tag from the start, so that a grown buffer leaves no copy behind.
        let mut sealed = Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len());
        sealed.extend_from_slice(plain);
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(whose), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed for `whose` by this key; `None`: this was not.
    pub fn open(&self, whose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(whose), &mut rest).ok()?.len();
        rest.truncate(length);
        Some(rest)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

/// `Ok(Err)`: what is there is no key.
fn read(path: &Path) -> std::io::Result<Result<Seal, String>> {
    let mut file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(Err("is not a file".into()));
    }
    if meta.mode() & 0o007 != 0 && !crate::config::is_mounted_secret(path) {
        return Ok(Err(format!("can be read by everyone (mode {:04o}): chmod 0600", meta.mode() & 0o7777)));
    }
    let mut text = Zeroizing::new([0; 2 * KEY_LEN + 1]);
    let mut length = 0;
    while let Some(rest) = text.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            n => length += n,
        }
    }
    let digits = text.get(..length).unwrap_or_default();
    let key = from_hex(digits.strip_suffix(b"\n").unwrap_or(digits));
    let key = key.and_then(|key| Seal::new(&*key));
    Ok(key.ok_or_else(|| "is no key: it must have 64 hexadecimal digits (openssl rand -hex 32)".into()))
}

fn make(path: &Path) -> std::io::Result<Result<Seal, String>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    getrandom::fill(&mut *key).map_err(|e| std::io::Error::other(e.to_string()))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 1));
    for byte in key.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
    // Under another name first: who reads it meanwhile finds none, and never half of one.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    linked?;
    Ok(Seal::new(&*key).ok_or_else(|| "is no key".into()))
}

fn from_hex(digits: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    if digits.len() != 2 * KEY_LEN {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn key(n: u8) -> Seal {
        Seal::new(&[n; KEY_LEN]).unwrap()
    }

    #[test]
    fn opened_by_the_same_key_for_the_same_person_only() {
        let seal = key(1);
        let sealed = seal.seal("dave", b"a token").unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"a token"));
        assert_eq!(seal.open("dave", &sealed).unwrap().as_slice(), b"a token");
        assert_ne!(sealed, seal.seal("dave", b"a token").unwrap(), "a nonce of its own");
        assert!(seal.open("erin", &sealed).is_none());
        assert!(key(2).open("dave", &sealed).is_none());
        for n in 0..sealed.len() {
            let mut other = sealed.clone();
            other[n] ^= 1;
            assert!(seal.open("dave", &other).is_none(), "{n}");
            assert!(seal.open("dave", &sealed[..n]).is_none(), "{n}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_must_be_private() {
        let dir = std::env::temp_dir().join(format!("gpuhub-seal-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("grant.key");
        let sealed = Seal::of_file(&path).unwrap().seal("dave", b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
        assert!(Seal::of_file(&path).unwrap().open("dave", &sealed).is_some(), "the same key again");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(Seal::of_file(&path).unwrap_err().contains("can be read by everyone"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for odd in ["", "0011", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            fs::write(&path, odd).unwrap();
            assert!(Seal::of_file(&path).unwrap_err().contains("is no key"), "{odd}");
        }
        fs::write(&path, "A0".repeat(32)).unwrap();
        assert!(Seal::of_file(&path).is_ok());
        assert!(Seal::of_file(&dir).unwrap_err().contains("is not a file"));
        assert!(Seal::of_file(&dir.join("no/grant.key")).unwrap_err().contains("cannot be made"));
        assert!(!format!("{:?}", key(7)).contains('7'));
        fs::remove_dir_all(&dir).unwrap();
    }
}
