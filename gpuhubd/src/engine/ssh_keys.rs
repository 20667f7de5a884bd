//! The public keys of somebody, for sshd's AuthorizedKeysCommand. They only say which key is hers: the account
//! phase decides, as of everybody else, whether she may come in.

use super::directory::{LookupError, unavailable};
use super::{Asker, Engine};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gpuhub_common::name::UserName;

impl Engine {
    /// The keys as lines of authorized_keys(5), from the directory whose she is, asked now.
    pub async fn ssh_keys(&self, name: &str, asker: Asker) -> Result<Vec<String>, LookupError> {
        let name = UserName::new(name).map_err(|_| LookupError::NoSuchEntry)?;
        let local = self.local.accounts().map_err(|_| LookupError::Unavailable)?;
        if local.has_user(name.as_str().as_bytes()) {
            return Err(LookupError::NoSuchEntry);
        }
        let bound = self.store.person(name.as_str()).map_err(unavailable)?;
        let _turn = self.turns.take(asker).await.ok_or(LookupError::Unavailable)?;
        for provider in &self.providers {
            // Whose she is, nobody else has a key of hers.
            if bound.as_ref().is_some_and(|b| b.provider != provider.name() && self.provider(&b.provider).is_some()) {
                continue;
            }
            if !provider.knows_people() {
                if bound.is_some() || provider.may_become(&name) {
                    return Ok(Vec::new());
                }
                continue;
            }
            match provider.ssh_keys(&name).await {
                Ok(Some(values)) => return Ok(values.iter().filter_map(|value| line(value)).collect()),
                Ok(None) => {}
                Err(_) => return Err(LookupError::Unavailable),
            }
        }
        Err(LookupError::NoSuchEntry)
    }
}

/// What a directory has for a key, as a line that is nothing but a key: its comment could be anything, and so
/// could options before it, with which a line is left out altogether. Active Directory's altSecurityIdentities
/// has identities of many kinds, of which keys begin with "SSHKey:".
fn line(value: &str) -> Option<String> {
    const KIND: &str = "SSHKey:";
    let value = match value.split_at_checked(KIND.len()) {
        Some((kind, rest)) if kind.eq_ignore_ascii_case(KIND) => rest,
        _ => value,
    };
    let mut words = value.split_ascii_whitespace();
    let (kind, text) = (words.next()?, words.next()?);
    let key = STANDARD.decode(text).ok()?;
    // It begins with its own type (RFC 4253 §6.6), length first.
    let (length, rest) = key.split_first_chunk::<4>()?;
    let named = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let plain = kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b));
    (plain && named == kind.as_bytes()).then(|| format!("{kind} {text}"))
}

#[cfg(test)]
mod tests {
    use super::line;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn a_key_and_nothing_else() {
        for value in [
            KEY.to_owned(),
            format!("{KEY} alice@laptop"),
            format!(" {KEY}\tx\n"),
            format!("SSHKey:{KEY}"),
            format!("sshkey: {KEY}"),
        ] {
            assert_eq!(line(&value).as_deref(), Some(KEY), "{value}");
        }
        let text = KEY.split(' ').nth(1).unwrap();
        for value in [
            String::new(),
            "ssh-ed25519".into(),
            "ssh-ed25519 AAAA".into(),
            "ssh-ed25519 !".into(),
            format!("ssh-rsa {text}"),
            format!("command=\"sh\" {KEY}"),
            format!("cert-authority {KEY}"),
            format!("X509:<I>x<S>y {text}"),
            "Kerberos:alice@AD.TEST".into(),
            format!("é {text}"),
        ] {
            assert_eq!(line(&value), None, "{value}");
        }
        assert_eq!(line(&format!("{KEY}\nssh-rsa {text}")).as_deref(), Some(KEY), "one value is one key");
    }
}
