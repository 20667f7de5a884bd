//! `gpuhub user …` and `gpuhub group …`: the builtin directory.

use crate::args::Args;
use crate::outcome::{Failure, plain, print};
use crate::{broker, prompt};
use gpuhub_common::client::CallError;
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::wire::{Admin, AdminReply, Membership, NameQuery, NewGroup, NewPassword, NewUser, Nothing};
use std::process::ExitCode;

/// `gpuhub user add`
pub fn user_add(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--password-stdin"], &["--full-name", "--uid", "--groups"], ["NAME"])?;
    let uid = p.number("--uid")?;
    let groups = match p.value("--groups") {
        None => Vec::new(),
        Some(list) => list.split(',').map(group_name).collect::<Result<_, _>>()?,
    };
    let [name] = &p.operands;
    // Before anybody types a password for it.
    let name = user_name(name)?;
    let password = if p.flag("--password-stdin") {
        Some(prompt::from_stdin()?)
    } else if prompt::is_terminal() {
        Some(prompt::twice(&format!("Password of {name}: "))?)
    } else {
        None
    };
    let full_name = p.value("--full-name").unwrap_or_default().to_owned();
    done(broker::admin(p.socket.as_deref(), Admin::UserAdd(NewUser { name, full_name, uid, groups, password }))?)
}

/// `gpuhub user del`
pub fn user_del(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["NAME"])?;
    let [name] = p.operands;
    done(broker::admin(p.socket.as_deref(), Admin::UserDel(NameQuery { name }))?)
}

/// `gpuhub user list`: passwd(5) lines.
pub fn user_list(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], [])?;
    let AdminReply::Users(users) = broker::admin(p.socket.as_deref(), Admin::UserList(Nothing {}))? else {
        return Err(Failure::Broker(CallError::Protocol));
    };
    let line = |u: &gpuhub_common::entry::Passwd| {
        plain(&format!("{}:*:{}:{}:{}:{}:{}", u.name, u.uid, u.gid, u.gecos, u.home, u.shell)) + "\n"
    };
    print(&users.iter().map(line).collect::<String>());
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub user passwd`
pub fn user_passwd(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--stdin"], &[], ["NAME"])?;
    let [name] = &p.operands;
    let name = user_name(name)?;
    let password =
        if p.flag("--stdin") { prompt::from_stdin()? } else { prompt::twice(&format!("New password of {name}: "))? };
    done(broker::admin(p.socket.as_deref(), Admin::UserPasswd(NewPassword { name, password }))?)
}

/// `gpuhub group add`
pub fn group_add(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &["--gid"], ["NAME"])?;
    let gid = p.number("--gid")?;
    let [name] = &p.operands;
    done(broker::admin(p.socket.as_deref(), Admin::GroupAdd(NewGroup { name: group_name(name)?, gid }))?)
}

/// `gpuhub group del`
pub fn group_del(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["NAME"])?;
    let [name] = p.operands;
    done(broker::admin(p.socket.as_deref(), Admin::GroupDel(NameQuery { name }))?)
}

/// `gpuhub group list`: group(5) lines.
pub fn group_list(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], [])?;
    let AdminReply::Groups(groups) = broker::admin(p.socket.as_deref(), Admin::GroupList(Nothing {}))? else {
        return Err(Failure::Broker(CallError::Protocol));
    };
    let line =
        |g: &gpuhub_common::entry::Group| plain(&format!("{}:*:{}:{}", g.name, g.gid, g.members.join(","))) + "\n";
    print(&groups.iter().map(line).collect::<String>());
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub group member add|del`
pub fn group_member(args: Args, member: bool) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["GROUP", "USER"])?;
    let [group, user] = p.operands;
    done(broker::admin(p.socket.as_deref(), Admin::GroupMember(Membership { group, user, member }))?)
}

fn done(reply: AdminReply) -> Result<ExitCode, Failure> {
    match reply {
        AdminReply::Done(_) => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn user_name(text: &str) -> Result<String, Failure> {
    UserName::new(text).map(String::from).map_err(|e| Failure::Refused(format!("the user name {e}")))
}

fn group_name(text: &str) -> Result<String, Failure> {
    GroupName::new(text).map(String::from).map_err(|e| Failure::Refused(format!("a group name {e}")))
}
