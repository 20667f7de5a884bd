//! Other login names, as their directory last said whose they are.

use super::{Store, StoreError};
use rusqlite::OptionalExtension;

impl Store {
    /// Whose login name `alias` was when it was last asked for.
    pub fn owner_of_alias(&self, alias: &str) -> Result<Option<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached("SELECT name FROM aliases WHERE alias = ?1")?
                .query_row([alias.to_ascii_lowercase()], |r| r.get(0))
                .optional()
        })
    }

    /// Its directory has just said so; `None`: it is nobody's.
    pub fn remember_alias(&self, alias: &str, name: Option<&str>) -> Result<(), StoreError> {
        // Most logins find what is there already, and wait for no disk.
        if self.owner_of_alias(alias)?.as_deref() == name {
            return Ok(());
        }
        let alias = alias.to_ascii_lowercase();
        self.with(|c| match name {
            Some(name) => c.execute("INSERT OR REPLACE INTO aliases VALUES (?1, ?2)", [&alias, name]).map(drop),
            None => c.execute("DELETE FROM aliases WHERE alias = ?1", [&alias]).map(drop),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_whose_it_was_last_in_any_case() {
        let store = Store::in_memory().unwrap();
        let owner = |alias: &str| store.owner_of_alias(alias).unwrap();
        assert_eq!(owner("ada@corp.example"), None);
        store.remember_alias("Ada@corp.example", Some("ada")).unwrap();
        assert_eq!(owner("ada@CORP.example").as_deref(), Some("ada"));
        store.remember_alias("ada@corp.example", Some("ada2")).unwrap();
        assert_eq!(owner("ada@corp.example").as_deref(), Some("ada2"));
        store.remember_alias("ADA@corp.example", None).unwrap();
        assert_eq!(owner("ada@corp.example"), None);
    }
}
