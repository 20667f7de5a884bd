//! Groups, and whom their own lists name.

use super::{Store, StoreError, bump_generation};
use gpuhub_common::entry::Group;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeSet;

/// A group as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownGroup {
    /// Its provider.
    pub provider: String,
    /// Its entry; members sorted.
    pub group: Group,
    /// When its whole list of members was last fetched; 0: never.
    pub fetched_at: i64,
}

impl Store {
    /// A group by name.
    pub fn group(&self, name: &str) -> Result<Option<KnownGroup>, StoreError> {
        self.with(|c| group_where(c, "name = ?1", [name]))
    }

    /// A group by gid.
    pub fn group_by_gid(&self, gid: u32) -> Result<Option<KnownGroup>, StoreError> {
        self.with(|c| group_where(c, "gid = ?1", [gid]))
    }

    /// Whose a group is: everybody who comes in brings her groups, and they may be everybody's.
    pub fn provider_of_group(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.with(|c| {
            let mut find = c.prepare_cached("SELECT provider FROM groups WHERE name = ?1")?;
            find.query_row([name], |r| r.get(0)).optional()
        })
    }

    /// The same by gid, and the group's name.
    pub fn provider_of_gid(&self, gid: u32) -> Result<Option<(String, String)>, StoreError> {
        self.with(|c| {
            let mut find = c.prepare_cached("SELECT provider, name FROM groups WHERE gid = ?1")?;
            find.query_row([gid], |r| Ok((r.get(0)?, r.get(1)?))).optional()
        })
    }

    /// Writes a group with its whole list of members. Whether a reader could see a difference.
    pub fn put_group(&self, known: &KnownGroup) -> Result<bool, StoreError> {
        let write = |tx: &Transaction<'_>| {
            let g = &known.group;
            let before = group_where(tx, "name = ?1", [&g.name])?;
            tx.execute(
                "INSERT INTO groups (name, gid, provider, fetched_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET gid = ?2, fetched_at = ?4 WHERE provider = ?3",
                params![g.name, g.gid, known.provider, known.fetched_at],
            )?;
            if before.as_ref().is_some_and(|b| b.provider != known.provider) {
                return Err(StoreError::QueryReturnedNoRows);
            }
            put_list(tx, g)?;
            let after = group_where(tx, "name = ?1", [&g.name])?;
            // One that nobody had listed yet was not published.
            let listed = before.as_ref().is_some_and(|b| b.fetched_at > 0);
            let changed = !listed || before.map(|b| b.group) != after.map(|a| a.group);
            if changed {
                bump_generation(tx)?;
            }
            Ok(changed)
        };
        self.transaction_of(write, |changed| *changed)
    }

    /// The directory no longer has this group.
    pub fn drop_group(&self, name: &str) -> Result<bool, StoreError> {
        self.transaction(|tx| {
            let changed = tx.execute("DELETE FROM groups WHERE name = ?1", [name])? > 0;
            if changed {
                tx.execute("DELETE FROM members WHERE grp = ?1", [name])?;
                bump_generation(tx)?;
            }
            Ok(changed)
        })
    }

    /// Who joins which local groups: gids, each with the groups of ours whose people do (none: everybody).
    /// To be called before anything is published.
    pub fn declare_local_groups(&self, rules: &[(u32, Vec<String>)]) -> Result<(), StoreError> {
        let everybody = [String::new()];
        let pairs = rules.iter().flat_map(|(gid, groups)| {
            let groups = if groups.is_empty() { &everybody[..] } else { groups };
            groups.iter().map(move |grp| (*gid, grp.clone()))
        });
        let wanted: BTreeSet<(u32, String)> = pairs.collect();
        self.transaction(|tx| {
            let had: BTreeSet<(u32, String)> = tx
                .prepare("SELECT gid, grp FROM local_groups")?
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect::<Result<_, _>>()?;
            if had == wanted {
                return Ok(());
            }
            tx.execute("DELETE FROM local_groups", [])?;
            for (gid, grp) in &wanted {
                tx.execute("INSERT INTO local_groups VALUES (?1, ?2)", params![gid, grp])?;
            }
            bump_generation(tx)
        })
    }

    /// Names of `provider`'s groups.
    pub fn groups_of(&self, provider: &str) -> Result<Vec<String>, StoreError> {
        self.with(|c| {
            c.prepare_cached("SELECT name FROM groups WHERE provider = ?1")?
                .query_map([provider], |r| r.get(0))?
                .collect()
        })
    }
}

pub(super) fn group_where<P: rusqlite::Params>(
    c: &Connection,
    clause: &str,
    p: P,
) -> Result<Option<KnownGroup>, StoreError> {
    let found = c
        .prepare_cached(&format!("SELECT provider, name, gid, fetched_at FROM groups WHERE {clause}"))?
        .query_row(p, |r| {
            Ok(KnownGroup {
                provider: r.get(0)?,
                group: Group { name: r.get(1)?, gid: r.get(2)?, members: Vec::new() },
                fetched_at: r.get(3)?,
            })
        })
        .optional()?;
    let Some(mut known) = found else { return Ok(None) };
    known.group.members = c
        .prepare_cached("SELECT DISTINCT user FROM members WHERE grp = ?1 ORDER BY user")?
        .query_map([&known.group.name], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some(known))
}

/// Replaces the members that a group's own list names. Only those rows are touched that change:
/// each of them has somebody's entry published again.
fn put_list(tx: &Transaction<'_>, group: &Group) -> Result<(), StoreError> {
    let mut left: BTreeSet<&str> = group.members.iter().map(String::as_str).collect();
    let before: Vec<String> = tx
        .prepare_cached("SELECT user FROM members WHERE grp = ?1 AND via = 'list'")?
        .query_map([&group.name], |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    let mut remove = tx.prepare_cached("DELETE FROM members WHERE grp = ?1 AND user = ?2 AND via = 'list'")?;
    for user in before.iter().filter(|user| !left.remove(user.as_str())) {
        remove.execute(params![group.name, user])?;
    }
    let mut add = tx.prepare_cached("INSERT INTO members (grp, user, via) VALUES (?1, ?2, 'list')")?;
    for user in left {
        add.execute(params![group.name, user])?;
    }
    Ok(())
}
