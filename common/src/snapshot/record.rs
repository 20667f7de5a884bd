//! From one user or group to the bytes of its record.

use super::encode::{EncodeError, SnapshotUser};
use super::format::{GROUP_HEAD, MAX_GIDS, MAX_MEMBERS, USER_HEAD, align8};
use crate::entry::{Group, is_path, is_plain};
use crate::{id, name};

/// Offset of the place in the index, in the records of users and in those of groups.
pub(super) const USER_PLACE: usize = 12;
/// The same of groups.
pub(super) const GROUP_PLACE: usize = 16;

/// Appends her record to `bytes`, whose length is a multiple of 8, or nothing.
pub(super) fn put_user(bytes: &mut Vec<u8>, user: &SnapshotUser, place: u32) -> Result<(), EncodeError> {
    let p = &user.passwd;
    let mut gids = user.gids.clone();
    gids.sort_unstable();
    gids.dedup();
    let legal = name::is_user_name(p.name.as_bytes())
        && id::is_allowed(p.uid)
        && p.gid != 0
        && is_plain(p.gecos.as_bytes())
        && is_path(p.home.as_bytes())
        && is_path(p.shell.as_bytes())
        && !gids.contains(&0)
        && gids.len() <= MAX_GIDS;
    if !legal {
        return Err(EncodeError::BadUser(p.name.clone()));
    }
    let start = bytes.len();
    for n in [p.uid, p.gid, gids.len() as u32, place] {
        put_u32(bytes, n);
    }
    let texts = [&p.name, &p.gecos, &p.home, &p.shell];
    // Each is at most MAX_FIELD long: the check above.
    texts.iter().for_each(|t| bytes.extend_from_slice(&(t.len() as u16).to_le_bytes()));
    debug_assert_eq!(bytes.len() - start, USER_HEAD);
    texts.iter().for_each(|t| put_text(bytes, t));
    pad(bytes);
    gids.iter().for_each(|gid| put_u32(bytes, *gid));
    pad(bytes);
    Ok(())
}

/// Appends the group's record to `bytes`, whose length is a multiple of 8, or nothing.
pub(super) fn put_group(bytes: &mut Vec<u8>, group: &Group, place: u32) -> Result<(), EncodeError> {
    let legal = name::is_group_name(group.name.as_bytes())
        && group.gid != 0
        && group.members.len() <= MAX_MEMBERS
        && group.members.iter().all(|m| name::is_user_name(m.as_bytes()));
    if !legal {
        return Err(EncodeError::BadGroup(group.name.clone()));
    }
    let start = bytes.len();
    let members: usize = group.members.iter().map(|m| m.len() + 1).sum();
    for n in [group.gid, group.name.len() as u32, group.members.len() as u32, members as u32, place, 0] {
        put_u32(bytes, n);
    }
    debug_assert_eq!(bytes.len() - start, GROUP_HEAD);
    put_text(bytes, &group.name);
    group.members.iter().for_each(|m| put_text(bytes, m));
    pad(bytes);
    Ok(())
}

pub(super) fn put_u32(bytes: &mut Vec<u8>, n: u32) {
    bytes.extend_from_slice(&n.to_le_bytes());
}

/// A text with its NUL; the callers have checked that there is none inside.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

pub(super) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(align8(bytes.len()), 0);
}
