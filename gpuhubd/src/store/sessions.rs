//! Open sessions, so that a close knows its opening even after a restart of the broker.

use super::{Store, StoreError};
use rusqlite::{OptionalExtension, Row, Transaction, params};

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Its id in the audit log.
    pub id: String,
    /// Whose.
    pub user: String,
    /// Her uid.
    pub uid: u32,
    /// PAM service.
    pub service: String,
    /// PAM_TTY; empty where there is none.
    pub tty: String,
    /// PAM_RHOST; empty where there is none.
    pub source: String,
    /// Seconds since 1970.
    pub opened_at: i64,
}

const SESSION: &str = "SELECT id, user, uid, service, tty, source, opened_at FROM sessions";

fn session(r: &Row<'_>) -> Result<OpenSession, StoreError> {
    Ok(OpenSession {
        id: r.get(0)?,
        user: r.get(1)?,
        uid: r.get(2)?,
        service: r.get(3)?,
        tty: r.get(4)?,
        source: r.get(5)?,
        opened_at: r.get(6)?,
    })
}

impl Store {
    /// Records one.
    pub fn open_session(&self, s: &OpenSession) -> Result<(), StoreError> {
        let write = |tx: &Transaction<'_>| {
            tx.execute(
                "INSERT INTO sessions (id, user, uid, service, tty, source, opened_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![s.id, s.user, s.uid, s.service, s.tty, s.source, s.opened_at],
            )
            .map(|_| ())
        };
        self.transaction_of(write, |()| false)
    }

    /// Ends the session of this id, if it is hers; without an id, the newest of the same user,
    /// service and tty (JupyterHub closes on a new PAM handle, which knows no id).
    pub fn close_session(
        &self,
        id: Option<&str>,
        user: &str,
        service: &str,
        tty: &str,
    ) -> Result<Option<OpenSession>, StoreError> {
        let write = |tx: &Transaction<'_>| {
            let found = match id {
                Some(id) => tx.query_row(&format!("{SESSION} WHERE id = ?1 AND user = ?2"), params![id, user], session),
                None => tx.query_row(
                    &format!("{SESSION} WHERE user = ?1 AND service = ?2 AND tty = ?3 ORDER BY opened_at DESC, rowid DESC LIMIT 1"),
                    params![user, service, tty],
                    session,
                ),
            }
            .optional()?;
            if let Some(s) = &found {
                tx.execute("DELETE FROM sessions WHERE id = ?1", [&s.id])?;
            }
            Ok(found)
        };
        self.transaction_of(write, |_| false)
    }

    /// How many are open.
    pub fn session_count(&self) -> Result<u64, StoreError> {
        self.with(|c| c.query_row("SELECT count(*) FROM sessions", [], |r| r.get::<_, i64>(0))).map(i64::unsigned_abs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_of_the_same_kind_is_closed_without_an_id() {
        let s = Store::in_memory().unwrap();
        let one = |id: &str, at| OpenSession {
            id: id.into(),
            user: "alice".into(),
            uid: 5000,
            service: "jupyterhub".into(),
            tty: String::new(),
            source: String::new(),
            opened_at: at,
        };
        s.open_session(&one("a", 1)).unwrap();
        s.open_session(&one("b", 2)).unwrap();
        assert_eq!(s.close_session(None, "alice", "jupyterhub", "").unwrap().unwrap().id, "b");
        assert_eq!(s.close_session(Some("a"), "bob", "jupyterhub", "").unwrap(), None, "not hers");
        assert_eq!(s.close_session(Some("a"), "alice", "x", "").unwrap().unwrap().opened_at, 1);
        assert_eq!(s.session_count().unwrap(), 0);
    }
}
