//! What sign-ins left behind, by which providers are asked again whether people may still come in.

use super::{Store, StoreError};
use crate::model::PersonKey;
use rusqlite::{OptionalExtension, Row, params};

/// What there is of somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    /// Her name.
    pub name: String,
    /// Who she is here.
    pub key: PersonKey,
    /// Where she signed in.
    pub provider: String,
    /// Who she is there.
    pub there: PersonKey,
    /// What the provider is asked with, sealed; `None`: it gave nothing, or takes it no more.
    pub token: Option<Vec<u8>>,
    /// When the provider last said that she may come in; in seconds since 1970, as all times here.
    pub confirmed_at: i64,
    /// When it was last asked.
    pub asked_at: i64,
    /// Why it has said since that she may not.
    pub refused: Option<String>,
}

/// Without the token, sealed as it is.
impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, there, confirmed_at, refused, .. } = self;
        f.debug_struct("Granted")
            .field("name", name)
            .field("there", there)
            .field("confirmed_at", confirmed_at)
            .field("refused", refused)
            .finish_non_exhaustive()
    }
}

const ROW: &str =
    "SELECT name, issuer, subject, provider, at_issuer, at_subject, token, confirmed_at, asked_at, refused
                   FROM grants";

fn granted(r: &Row<'_>) -> Result<Granted, StoreError> {
    Ok(Granted {
        name: r.get(0)?,
        key: PersonKey { issuer: r.get(1)?, subject: r.get(2)? },
        provider: r.get(3)?,
        there: PersonKey { issuer: r.get(4)?, subject: r.get(5)? },
        token: r.get(6)?,
        confirmed_at: r.get(7)?,
        asked_at: r.get(8)?,
        refused: r.get(9)?,
    })
}

/// None of this is an edit ([`Store::edits`]): it makes nobody another entry.
impl Store {
    /// What there is of her; nothing of somebody else who had her name.
    pub fn granted(&self, name: &str, key: &PersonKey) -> Result<Option<Granted>, StoreError> {
        self.with(|c| {
            c.prepare_cached(&format!("{ROW} WHERE name = ?1 AND issuer = ?2 AND subject = ?3"))?
                .query_row(params![name, key.issuer, key.subject], granted)
                .optional()
        })
    }

    /// She has signed in. Of before, and of somebody else of her name, nothing is left.
    pub fn grant(&self, new: &Granted) -> Result<(), StoreError> {
        let Granted { name, key, provider, there, token, confirmed_at, asked_at, refused } = new;
        let row = params![
            name,
            key.issuer,
            key.subject,
            provider,
            there.issuer,
            there.subject,
            token,
            confirmed_at,
            asked_at,
            refused
        ];
        self.add(|tx| {
            tx.execute("INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)", row)
                .map(|_| ())
        })
    }

    /// Her provider is being asked now.
    pub fn asking(&self, name: &str, now: i64) -> Result<(), StoreError> {
        self.add(|tx| tx.execute("UPDATE grants SET asked_at = ?2 WHERE name = ?1", params![name, now]).map(|_| ()))
    }

    /// The provider has given `new` in the place of `old`. False: she has signed in anew meanwhile.
    pub fn replace_token(&self, name: &str, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        let sql = "UPDATE grants SET token = ?3 WHERE name = ?1 AND token = ?2";
        self.add(|tx| tx.execute(sql, params![name, old, new]).map(|n| n == 1))
    }

    /// Asked with `token`, the provider has said that she may come in.
    pub fn confirmed(&self, name: &str, token: &[u8], now: i64) -> Result<(), StoreError> {
        let sql = "UPDATE grants SET confirmed_at = ?3, refused = NULL WHERE name = ?1 AND token = ?2";
        self.add(|tx| tx.execute(sql, params![name, token, now]).map(|_| ()))
    }

    /// Asked with `token`, it has said no; `over`: and takes that no more.
    pub fn refused(&self, name: &str, token: &[u8], reason: &str, over: bool) -> Result<(), StoreError> {
        let sql = "UPDATE grants SET refused = ?3, token = iif(?4, NULL, token) WHERE name = ?1 AND token = ?2";
        self.add(|tx| tx.execute(sql, params![name, token, reason, over]).map(|_| ()))
    }

    /// Her directory has said no: what the provider said before counts no more, and it is asked anew.
    pub fn refused_otherwise(&self, name: &str, reason: &str) -> Result<(), StoreError> {
        let sql = "UPDATE grants SET refused = ?2 WHERE name = ?1 AND refused IS NULL";
        self.add(|tx| tx.execute(sql, params![name, reason]).map(|_| ()))
    }

    /// What there is of her goes: it was not she who signed in.
    pub fn forget_grant(&self, name: &str) -> Result<(), StoreError> {
        self.add(|tx| tx.execute("DELETE FROM grants WHERE name = ?1", [name]).map(|_| ()))
    }

    /// She has proved herself by something else of the provider's: it honours her, by whatever it was asked before.
    pub fn confirm_otherwise(&self, name: &str, key: &PersonKey, now: i64) -> Result<bool, StoreError> {
        let sql =
            "UPDATE grants SET confirmed_at = ?4, refused = NULL WHERE name = ?1 AND issuer = ?2 AND subject = ?3";
        self.add(|tx| tx.execute(sql, params![name, key.issuer, key.subject, now]).map(|n| n == 1))
    }

    /// People of a provider who may come in as far as is known, and of whom it was asked before `then`; `most` of
    /// them, those first of whom it was asked longest ago.
    pub fn to_be_asked(&self, provider: &str, then: i64, most: u32) -> Result<Vec<Granted>, StoreError> {
        self.with(|c| {
            c.prepare_cached(&format!(
                "{ROW} WHERE provider = ?1 AND token IS NOT NULL AND refused IS NULL
                 AND max(asked_at, confirmed_at) < ?2 ORDER BY max(asked_at, confirmed_at) LIMIT ?3"
            ))?
            .query_map(params![provider, then, most], granted)?
            .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> PersonKey {
        PersonKey { issuer: "https://sso".into(), subject: subject.into() }
    }

    fn dave(token: &[u8]) -> Granted {
        Granted {
            name: "dave".into(),
            key: key("1"),
            provider: "sso".into(),
            there: key("1"),
            token: Some(token.to_vec()),
            confirmed_at: 100,
            asked_at: 100,
            refused: None,
        }
    }

    #[test]
    fn an_answer_is_about_the_token_that_was_asked_with() {
        let store = Store::in_memory().unwrap();
        let row = || store.granted("dave", &key("1")).unwrap().unwrap();
        store.grant(&dave(b"t1")).unwrap();
        assert_eq!(row(), dave(b"t1"));
        assert_eq!(store.granted("dave", &key("2")).unwrap(), None, "somebody else of that name");
        assert!(store.replace_token("dave", b"t1", b"t2").unwrap());
        assert!(!store.replace_token("dave", b"t1", b"t3").unwrap(), "that was replaced already");
        // She signs in anew while the old one is asked with: what comes of that is of no interest any more.
        store.grant(&dave(b"t4")).unwrap();
        store.refused("dave", b"t2", "not-honoured", true).unwrap();
        store.confirmed("dave", b"t2", 900).unwrap();
        assert_eq!(row(), dave(b"t4"));
        store.confirmed("dave", b"t4", 200).unwrap();
        assert_eq!(row().confirmed_at, 200);
        store.refused("dave", b"t4", "not-allowed", false).unwrap();
        assert_eq!((row().refused.as_deref(), row().token.is_some()), (Some("not-allowed"), true));
        store.confirmed("dave", b"t4", 300).unwrap();
        assert_eq!(row().refused, None, "she is in the group again");
        store.refused("dave", b"t4", "not-honoured", true).unwrap();
        assert_eq!((row().refused.as_deref(), row().token), (Some("not-honoured"), None));
        store.refused_otherwise("dave", "account-disabled").unwrap();
        assert_eq!(row().refused.as_deref(), Some("not-honoured"), "the first no stays");
        assert!(store.confirm_otherwise("dave", &key("1"), 400).unwrap());
        assert!(!store.confirm_otherwise("dave", &key("2"), 900).unwrap());
        assert_eq!((row().refused, row().confirmed_at), (None, 400));
        assert!(!format!("{:?}", dave(b"secret")).contains("115, 101"));
    }

    #[test]
    fn who_is_to_be_asked_for() {
        let store = Store::in_memory().unwrap();
        let of = |name: &str, at| Granted { name: name.into(), confirmed_at: at, asked_at: at, ..dave(b"t") };
        for row in [of("a", 10), of("b", 5), of("c", 20), Granted { provider: "other".into(), ..of("d", 1) }] {
            store.grant(&row).unwrap();
        }
        store.grant(&Granted { token: None, ..of("e", 1) }).unwrap();
        store.grant(&Granted { refused: Some("not-allowed".into()), ..of("f", 1) }).unwrap();
        let asked = |then, most| -> Vec<String> {
            store.to_be_asked("sso", then, most).unwrap().into_iter().map(|g| g.name).collect()
        };
        assert_eq!(asked(20, 9), ["b", "a"]);
        assert_eq!(asked(20, 1), ["b"]);
        store.asking("b", 50).unwrap();
        assert_eq!(asked(20, 9), ["a"]);
    }
}
