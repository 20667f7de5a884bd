//! The builtin directory's own tables.

use super::people::mark_gone;
use super::{Store, StoreError};
use rusqlite::{OptionalExtension, Row, params};

/// A user of the builtin directory.
#[derive(Clone, PartialEq, Eq)]
pub struct BuiltinUser {
    /// Login name.
    pub name: String,
    /// gecos.
    pub full_name: String,
    /// Fixed uid.
    pub uid: Option<u32>,
    /// Home, where it is not the template's.
    pub home: Option<String>,
    /// Shell, where it is not the default.
    pub shell: Option<String>,
    /// argon2id in PHC form.
    pub hash: Option<String>,
    /// By the configuration.
    pub declared: bool,
}

/// A hash is not a password, but it is nobody's business either.
impl std::fmt::Debug for BuiltinUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltinUser")
            .field("name", &self.name)
            .field("declared", &self.declared)
            .finish_non_exhaustive()
    }
}

/// A group of the builtin directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltinGroup {
    /// Its name.
    pub name: String,
    /// Fixed gid.
    pub gid: Option<u32>,
    /// By the configuration.
    pub declared: bool,
}

const USER: &str = "SELECT name, full_name, uid, home, shell, hash, declared FROM builtin_users";

fn user(r: &Row<'_>) -> Result<BuiltinUser, StoreError> {
    Ok(BuiltinUser {
        name: r.get(0)?,
        full_name: r.get(1)?,
        uid: r.get(2)?,
        home: r.get(3)?,
        shell: r.get(4)?,
        hash: r.get(5)?,
        declared: r.get(6)?,
    })
}

impl Store {
    /// A builtin user.
    pub fn builtin_user(&self, name: &str) -> Result<Option<BuiltinUser>, StoreError> {
        self.with(|c| c.prepare_cached(&format!("{USER} WHERE name = ?1"))?.query_row([name], user).optional())
    }

    /// Who was of `provider`, this directory, and no longer is: served no more.
    pub fn forget_former_builtins(&self, provider: &str) -> Result<(), StoreError> {
        self.transaction(|tx| {
            let former: Vec<String> = tx
                .prepare(
                    "SELECT name FROM people WHERE provider = ?1 AND gone = 0
                     AND name NOT IN (SELECT name FROM builtin_users)",
                )?
                .query_map([provider], |r| r.get(0))?
                .collect::<Result<_, _>>()?;
            former.iter().try_for_each(|name| mark_gone(tx, name).map(|_| ()))
        })
    }

    /// All builtin users, by name.
    pub fn builtin_users(&self) -> Result<Vec<BuiltinUser>, StoreError> {
        self.with(|c| c.prepare(&format!("{USER} ORDER BY name"))?.query_map([], user)?.collect())
    }

    /// Adds a user with her groups; `false` if the name is there already.
    pub fn add_builtin_user(&self, u: &BuiltinUser, groups: &[String]) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            let added = tx.execute(
                "INSERT OR IGNORE INTO builtin_users (name, full_name, uid, home, shell, hash, declared)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![u.name, u.full_name, u.uid, u.home, u.shell, u.hash, u.declared],
            )? > 0;
            for group in groups.iter().filter(|_| added) {
                tx.execute(
                    "INSERT OR IGNORE INTO builtin_members (grp, user) VALUES (?1, ?2)",
                    params![group, u.name],
                )?;
            }
            Ok(added)
        })
    }

    /// Brings a declared user to what the configuration says.
    pub fn declare_builtin_user(&self, u: &BuiltinUser, groups: &[String]) -> Result<(), StoreError> {
        self.add_builtin_user(u, groups)?;
        self.transaction(|tx| {
            tx.execute(
                "UPDATE builtin_users SET full_name = ?2, uid = ?3, home = ?4, shell = ?5, hash = ?6, declared = 1 WHERE name = ?1",
                params![u.name, u.full_name, u.uid, u.home, u.shell, u.hash],
            )?;
            tx.execute("DELETE FROM builtin_members WHERE user = ?1", [&u.name])?;
            for group in groups {
                tx.execute("INSERT OR IGNORE INTO builtin_members (grp, user) VALUES (?1, ?2)", params![group, u.name])?;
            }
            Ok(())
        })
    }

    /// Whether there was one to delete.
    pub fn delete_builtin_user(&self, name: &str) -> Result<bool, StoreError> {
        self.with(|c| Ok(c.execute("DELETE FROM builtin_users WHERE name = ?1", [name])? > 0))
    }

    /// Whether there is such a user.
    pub fn set_builtin_hash(&self, name: &str, hash: &str) -> Result<bool, StoreError> {
        self.with(|c| Ok(c.execute("UPDATE builtin_users SET hash = ?2 WHERE name = ?1", params![name, hash])? > 0))
    }

    /// All builtin groups, by name.
    pub fn builtin_groups(&self) -> Result<Vec<BuiltinGroup>, StoreError> {
        self.with(|c| {
            c.prepare("SELECT name, gid, declared FROM builtin_groups ORDER BY name")?
                .query_map([], |r| Ok(BuiltinGroup { name: r.get(0)?, gid: r.get(1)?, declared: r.get(2)? }))?
                .collect()
        })
    }

    /// Adds or declares a group; `false` if it is there already.
    pub fn add_builtin_group(&self, g: &BuiltinGroup) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            let added = tx.execute(
                "INSERT OR IGNORE INTO builtin_groups (name, gid, declared) VALUES (?1, ?2, ?3)",
                params![g.name, g.gid, g.declared],
            )? > 0;
            if !added && g.declared {
                tx.execute("UPDATE builtin_groups SET gid = ?2, declared = 1 WHERE name = ?1", params![g.name, g.gid])?;
            }
            Ok(added)
        })
    }

    /// Whether there was one to delete.
    pub fn delete_builtin_group(&self, name: &str) -> Result<bool, StoreError> {
        self.with(|c| Ok(c.execute("DELETE FROM builtin_groups WHERE name = ?1", [name])? > 0))
    }

    /// Makes somebody a member, or no member.
    pub fn set_builtin_member(&self, group: &str, user: &str, member: bool) -> Result<(), StoreError> {
        let sql = if member {
            "INSERT OR IGNORE INTO builtin_members (grp, user) VALUES (?1, ?2)"
        } else {
            "DELETE FROM builtin_members WHERE grp = ?1 AND user = ?2"
        };
        self.with(|c| c.execute(sql, params![group, user]).map(|_| ()))
    }

    /// Groups of a user with their fixed gids, by name.
    pub fn builtin_groups_of(&self, user: &str) -> Result<Vec<BuiltinGroup>, StoreError> {
        self.with(|c| {
            c.prepare(
                "SELECT g.name, g.gid, g.declared FROM builtin_members m JOIN builtin_groups g ON g.name = m.grp
                 WHERE m.user = ?1 ORDER BY g.name",
            )?
            .query_map([user], |r| Ok(BuiltinGroup { name: r.get(0)?, gid: r.get(1)?, declared: r.get(2)? }))?
            .collect()
        })
    }

    /// Members of a group, by name.
    pub fn builtin_members_of(&self, group: &str) -> Result<Vec<String>, StoreError> {
        self.with(|c| {
            c.prepare("SELECT user FROM builtin_members WHERE grp = ?1 ORDER BY user")?
                .query_map([group], |r| r.get(0))?
                .collect()
        })
    }
}
