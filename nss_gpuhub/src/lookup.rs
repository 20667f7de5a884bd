//! Where an answer comes from.
//!
//! 1. The snapshot: whom it holds, and, if it is complete and fresh, whom it does not.
//! 2. Where it cannot know, the socket, within a deadline: [`PATIENCE`], or [`LOGIN_PATIENCE`] in a
//!    login daemon's getpwnam, since a cold directory over a WAN must not make a login impossible.
//! 3. What cannot be known is "unavailable", never "no such user".
//!
//! Nothing is believed unvetted, wherever it comes from, and who is refused does not exist.

use crate::breaker::Breaker;
use crate::gids::Gids;
use crate::outcome::Miss;
use crate::process::{BROKER, LOGIN_PROGRAMS, Process};
use crate::walk::Walk;
use gpuhub_common::client::{CallError, Client, never_started};
use gpuhub_common::entry::{Group, Passwd, vet_gid, vet_membership};
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::snapshot::{Answer, GroupEntry, Out, Reader, UserEntry, now_ms};
use gpuhub_common::wire::{Call, ErrorCode, GroupIdsReply, GroupQuery, GroupReply, NameQuery, UserQuery, UserReply};
use gpuhub_common::{id, name};
use std::io;
use std::time::{Duration, Instant};

/// A socket lookup takes at most so long.
const PATIENCE: Duration = Duration::from_millis(300);
/// A login daemon's question before a login may take so long.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// All that the library keeps.
#[derive(Debug)]
pub(crate) struct Nss {
    socket: &'static str,
    pub(crate) reader: Reader,
    pub(crate) users: Walk,
    pub(crate) groups: Walk,
    breaker: Breaker,
    pub(crate) local: fn() -> io::Result<LocalAccounts>,
    process: Process,
}

impl Nss {
    /// With the broker's socket and the snapshot at these paths.
    pub(crate) const fn new(socket: &'static str, snapshot: &'static str) -> Self {
        Self::with(socket, snapshot, LocalAccounts::try_read, Process::SELF)
    }

    /// [`Nss::new`] in another container and process than this one, for tests.
    pub(crate) const fn with(
        socket: &'static str,
        snapshot: &'static str,
        local: fn() -> io::Result<LocalAccounts>,
        process: Process,
    ) -> Self {
        Self {
            socket,
            reader: Reader::with_local(snapshot, local),
            users: Walk::new(),
            groups: Walk::new(),
            breaker: Breaker::new(),
            local,
            process,
        }
    }

    /// getpwnam(3).
    pub(crate) fn user_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Result<UserEntry, Miss> {
        let login = match self.reader.user_by_name(name, out) {
            // The broker may know whose other login name that is.
            Answer::Absent if name::may_be_alias(name) => self.is_before_login(),
            // Whom a complete snapshot does not have may yet have a provisional entry.
            Answer::Absent => self.is_before_login().then_some(true).ok_or(Miss::NotFound)?,
            answer => match known(answer)? {
                Some(entry) => return Ok(entry),
                None => self.is_before_login(),
            },
        };
        let name = legal(name, name::is_user_name)?;
        let query = UserQuery { name: Some(name.to_owned()), uid: None, login };
        let (UserReply { user }, local) = self.ask(
            |client, time| client.call(Call::GetUser(query), time),
            login,
            |local| !local.has_user(name.as_bytes()),
        )?;
        let is_hers = user.name == name || name::may_be_alias(name.as_bytes());
        if is_hers { push_user(&user, &local, out) } else { Err(Miss::Unavailable) }
    }

    /// getpwuid(3).
    pub(crate) fn user_by_uid(&self, uid: u32, out: &mut Out<'_>) -> Result<UserEntry, Miss> {
        if let Some(entry) = known(self.reader.user_by_uid(uid, out))? {
            return Ok(entry);
        }
        if !id::is_allowed(uid) {
            return Err(Miss::NotFound);
        }
        let query = UserQuery { name: None, uid: Some(uid), login: false };
        let (UserReply { user }, local) =
            self.ask(|client, time| client.call(Call::GetUser(query), time), false, |local| !local.has_uid(uid))?;
        if user.uid == uid { push_user(&user, &local, out) } else { Err(Miss::Unavailable) }
    }

    /// getgrnam(3).
    pub(crate) fn group_by_name(&self, name: &[u8], out: &mut Out<'_>) -> Result<GroupEntry, Miss> {
        if let Some(entry) = known(self.reader.group_by_name(name, out))? {
            return Ok(entry);
        }
        let name = legal(name, name::is_group_name)?;
        if name::is_power_group(name.as_bytes()) {
            return Err(Miss::NotFound);
        }
        let query = GroupQuery { name: Some(name.to_owned()), gid: None };
        let (GroupReply { group }, local) = self.ask(
            |client, time| client.call(Call::GetGroup(query), time),
            false,
            |local| !local.has_group(name.as_bytes()),
        )?;
        if group.name == name { push_group(&group, &local, out) } else { Err(Miss::Unavailable) }
    }

    /// getgrgid(3).
    pub(crate) fn group_by_gid(&self, gid: u32, out: &mut Out<'_>) -> Result<GroupEntry, Miss> {
        if let Some(entry) = known(self.reader.group_by_gid(gid, out))? {
            return Ok(entry);
        }
        let query = GroupQuery { name: None, gid: Some(gid) };
        let (GroupReply { group }, local) = self.ask(
            |client, time| client.call(Call::GetGroup(query), time),
            false,
            |local| vet_gid(gid, local).is_ok(),
        )?;
        if group.gid == gid { push_group(&group, &local, out) } else { Err(Miss::Unavailable) }
    }

    /// The supplementary group ids of getgrouplist(3), without the primary one.
    pub(crate) fn group_ids_of(&self, name: &[u8], primary: u32, list: &mut Gids) -> Result<(), Miss> {
        match self.reader.group_ids_of(name, |gids| list.fill(primary, gids)) {
            Answer::Absent if name::may_be_alias(name) => {}
            answer => {
                if let Some(()) = known(answer)? {
                    return Ok(());
                }
            }
        }
        let name = legal(name, name::is_user_name)?;
        let call = Call::GetGroupIds(NameQuery { name: name.to_owned() });
        let (GroupIdsReply { gids }, local) =
            self.ask(|client, time| client.call(call, time), false, |local| !local.has_user(name.as_bytes()))?;
        list.fill(primary, gids.into_iter().filter(|gid| vet_membership(*gid, &local).is_ok()));
        Ok(())
    }

    /// Whether this is a login daemon, which asks for people who may not exist yet. Asks the
    /// kernel only if there is anything to be found out.
    fn is_before_login(&self) -> bool {
        self.reader.has_login_programs() != Some(false) && (self.process.is_root)() && {
            let name = (self.process.name)();
            self.reader.is_login_program(name.bytes()).unwrap_or_else(|| LOGIN_PROGRAMS.contains(&name.bytes()))
        }
    }

    /// Asks the broker. `may_be_ours` says whether the container's own accounts leave room for
    /// what is asked. The reply comes with them, to be vetted.
    fn ask<T>(
        &self,
        call: impl FnOnce(&mut Client, Duration) -> Result<T, CallError>,
        login: bool,
        may_be_ours: impl FnOnce(&LocalAccounts) -> bool,
    ) -> Result<(T, LocalAccounts), Miss> {
        if (self.process.name)().bytes() == BROKER {
            return Err(Miss::Unavailable);
        }
        // Logins are few, and each is worth a try.
        if !login && self.breaker.is_open(now_ms()) {
            return Err(Miss::Unavailable);
        }
        // Without a snapshot nobody has looked yet whether it can be one of ours, and root and
        // local users must not wait for a broker that hangs.
        let mut local = None;
        if !self.reader.has_snapshot() {
            if never_started(self.reader.path()) {
                return Err(self.failed(CallError::NeverStarted));
            }
            if !may_be_ours(local.insert(self.local_accounts()?)) {
                return Err(Miss::NotFound);
            }
        }
        let patience = if login { LOGIN_PATIENCE } else { PATIENCE };
        let deadline = Instant::now() + patience;
        let mut client = Client::connect(self.socket, patience).map_err(|e| self.failed(e))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let reply = call(&mut client, left).map_err(|e| self.failed(e))?;
        self.breaker.close();
        let local = local.map_or_else(|| self.local_accounts(), Ok)?;
        Ok((reply, local))
    }

    /// Without them nobody can be vetted.
    fn local_accounts(&self) -> Result<LocalAccounts, Miss> {
        (self.local)().map_err(|_| Miss::Unavailable)
    }

    fn failed(&self, error: CallError) -> Miss {
        match error {
            CallError::Broker(ErrorCode::NoSuchEntry) => {
                self.breaker.close();
                Miss::NotFound
            }
            // A process that has had a snapshot, and now does not see the run directory, is in a
            // chroot, or the directory was removed: it knows that it does not know.
            CallError::NeverStarted if !self.reader.has_snapshot() => Miss::NotFound,
            CallError::NoBroker | CallError::TimedOut => {
                self.breaker.open(now_ms());
                Miss::Unavailable
            }
            CallError::NeverStarted | CallError::Protocol | CallError::Broker(_) => Miss::Unavailable,
        }
    }
}

/// The name as text, if it can be one of ours: else nobody need be asked.
fn legal(name: &[u8], is_legal: fn(&[u8]) -> bool) -> Result<&str, Miss> {
    if !is_legal(name) {
        return Err(Miss::NotFound);
    }
    std::str::from_utf8(name).map_err(|_| Miss::NotFound)
}

/// What the snapshot knows: the entry, that there is none, or nothing.
fn known<T>(answer: Answer<T>) -> Result<Option<T>, Miss> {
    match answer {
        Answer::Found(found) => Ok(Some(found)),
        Answer::Absent | Answer::Refused => Err(Miss::NotFound),
        Answer::TooSmall => Err(Miss::TooSmall),
        Answer::Unknown => Ok(None),
    }
}

fn push_user(user: &Passwd, local: &LocalAccounts, out: &mut Out<'_>) -> Result<UserEntry, Miss> {
    user.vet(local).map_err(|_| Miss::NotFound)?;
    out.clear();
    let texts = [&user.name, &user.gecos, &user.home, &user.shell];
    for text in texts {
        push_text(text, out)?;
    }
    Ok(UserEntry { uid: user.uid, gid: user.gid, lens: texts.map(String::len) })
}

fn push_group(group: &Group, local: &LocalAccounts, out: &mut Out<'_>) -> Result<GroupEntry, Miss> {
    group.vet(local).map_err(|_| Miss::NotFound)?;
    out.clear();
    push_text(&group.name, out)?;
    for member in &group.members {
        push_text(member, out)?;
    }
    let name_len = group.name.len();
    let members_len = out.bytes().len().saturating_sub(name_len + 1);
    Ok(GroupEntry { gid: group.gid, name_len, members: group.members.len(), members_len })
}

/// A text with its NUL. The vetting has made sure that there is none inside.
fn push_text(text: &str, out: &mut Out<'_>) -> Result<(), Miss> {
    if out.push(text.as_bytes()) && out.push(&[0]) { Ok(()) } else { Err(Miss::TooSmall) }
}
