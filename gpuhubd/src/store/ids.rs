//! Every id ever given.

use super::{Store, StoreError, unix_now};
use rusqlite::{OptionalExtension, Transaction, params};

/// Users and groups have separate id spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdKind {
    /// uid
    User,
    /// gid
    Group,
}

impl IdKind {
    /// The word in the database, and in the hash of a candidate.
    pub const fn as_str(self) -> &'static str {
        match self {
            IdKind::User => "user",
            IdKind::Group => "group",
        }
    }
}

impl Store {
    /// The id that a name once got.
    pub fn id_of(&self, kind: IdKind, name: &str) -> Result<Option<u32>, StoreError> {
        self.with(|c| {
            c.query_row("SELECT id FROM ids WHERE kind = ?1 AND name = ?2", params![kind.as_str(), name], |r| r.get(0))
                .optional()
        })
    }

    /// The name that an id was given to.
    pub fn name_of_id(&self, kind: IdKind, id: u32) -> Result<Option<String>, StoreError> {
        self.with(|c| {
            c.query_row("SELECT name FROM ids WHERE kind = ?1 AND id = ?2", params![kind.as_str(), id], |r| r.get(0))
                .optional()
        })
    }

    /// Gives `id` to every one of `names`, or to none: `false` if another name has it, or one of
    /// them has another.
    pub fn give_id(&self, names: &[(IdKind, &str)], id: u32) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            for (kind, name) in names {
                if !is_free_for(tx, *kind, id, name)? {
                    return Ok(false);
                }
            }
            for (kind, name) in names {
                tx.execute(
                    "INSERT OR IGNORE INTO ids (kind, id, name, given_at) VALUES (?1, ?2, ?3, ?4)",
                    params![kind.as_str(), id, name, unix_now()],
                )?;
            }
            Ok(true)
        })
    }
}

fn is_free_for(tx: &Transaction<'_>, kind: IdKind, id: u32, name: &str) -> Result<bool, StoreError> {
    let others: u32 = tx.query_row(
        "SELECT count(*) FROM ids WHERE kind = ?1 AND ((id = ?2) <> (name = ?3))",
        params![kind.as_str(), id, name],
        |r| r.get(0),
    )?;
    Ok(others == 0)
}
