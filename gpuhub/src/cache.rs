//! `gpuhub cache …`: what the broker knows of people and groups, and from when.

use crate::args::Args;
use crate::broker;
use crate::outcome::{Failure, plain, print};
use gpuhub_common::client::CallError;
use gpuhub_common::wire::{
    CACHED_A_REPLY, CacheAt, CacheCall, CacheDone, CacheProvider, CacheQuery, CacheReply, CacheRow, CacheShown,
    CacheState, Call, IdSpace,
};
use std::process::ExitCode;
use std::time::Duration;

/// A directory may have to be read from its beginning to its end, or asked for each of thousands.
const ANSWER: Duration = Duration::from_secs(1800);

/// `gpuhub cache show`
pub fn show(args: Args) -> Result<ExitCode, Failure> {
    let (name, json, _, socket) = operands(args)?;
    let all = known(socket.as_deref(), name.as_deref())?;
    if json {
        print(&(serde_json::to_string(&all).unwrap_or_default() + "\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(name), true) = (&name, all.rows.is_empty()) {
        return Err(Failure::Refused(format!("Nothing is known of {name}.")));
    }
    let mut out = String::new();
    if name.is_none() {
        all.providers.iter().for_each(|p| out += &(plain(&provider(p)) + "\n"));
    }
    all.rows.iter().for_each(|r| out += &(plain(&row(r)) + "\n"));
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub cache expire`
pub fn expire(args: Args) -> Result<ExitCode, Failure> {
    let (name, socket) = whom(args)?;
    let done = done(ask(socket.as_deref(), CacheCall::Expire(CacheQuery { name, after: None }))?)?;
    print(&format!("{} to be asked for again\n", done.entries));
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub cache refresh`
pub fn refresh(args: Args) -> Result<ExitCode, Failure> {
    let (name, socket) = whom(args)?;
    let done = done(ask(socket.as_deref(), CacheCall::Refresh(CacheQuery { name, after: None }))?)?;
    let told = format!("{} found, {} not there, {} unavailable", done.entries, done.gone, done.unavailable);
    if done.unavailable > 0 || done.problem.is_some() {
        let why = done.problem.map(|p| format!(": {p}")).unwrap_or_default();
        return Err(Failure::Refused(format!("{told}{why}")));
    }
    print(&(told + "\n"));
    Ok(ExitCode::SUCCESS)
}

/// A name, if one is there; `--json`, `--all`, `--socket`.
fn operands(args: Args) -> Result<(Option<String>, bool, bool, Option<String>), Failure> {
    let flags = &["--json", "--all"];
    if let Ok(p) = args.clone().parse(flags, &[], ["NAME"]) {
        let (json, all) = (p.flag("--json"), p.flag("--all"));
        let [name] = p.operands;
        return Ok((Some(name), json, all, p.socket));
    }
    let p = args.parse(flags, &[], [])?;
    Ok((None, p.flag("--json"), p.flag("--all"), p.socket))
}

/// Whom it is about: a name, or explicitly all.
fn whom(args: Args) -> Result<(Option<String>, Option<String>), Failure> {
    match operands(args)? {
        (Some(name), _, false, socket) => Ok((Some(name), socket)),
        (None, _, true, socket) => Ok((None, socket)),
        _ => Err(Failure::Usage("give a NAME, or --all".into())),
    }
}

fn ask(socket: Option<&str>, call: CacheCall) -> Result<CacheReply, Failure> {
    match broker::ask_for(socket, Call::Cache(call), ANSWER) {
        Ok(CacheReply::Refused(why)) => Err(Failure::Refused(why)),
        Ok(reply) => Ok(reply),
        Err(CallError::Protocol) if !nix::unistd::geteuid().is_root() => Err(Failure::NotRoot),
        Err(e) => Err(Failure::Broker(e)),
    }
}

/// All of it, however many replies that takes.
fn known(socket: Option<&str>, name: Option<&str>) -> Result<CacheShown, Failure> {
    let mut all: Option<CacheShown> = None;
    loop {
        let after = all.as_ref().and_then(|all| all.rows.last());
        let after = after.map(|r| CacheAt { kind: r.kind, name: r.name.clone() });
        let query = CacheQuery { name: name.map(str::to_owned), after };
        let CacheReply::Shown(more) = ask(socket, CacheCall::Show(query))? else {
            return Err(Failure::Broker(CallError::Protocol));
        };
        let last = more.rows.len() < CACHED_A_REPLY as usize;
        let all = match &mut all {
            Some(all) => {
                all.rows.extend(more.rows);
                all
            }
            none => none.insert(more),
        };
        if last {
            return Ok(CacheShown {
                providers: std::mem::take(&mut all.providers),
                rows: std::mem::take(&mut all.rows),
            });
        }
    }
}

fn done(reply: CacheReply) -> Result<CacheDone, Failure> {
    match reply {
        CacheReply::Done(done) => Ok(done),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn provider(p: &CacheProvider) -> String {
    let mut line = format!("provider {}: {}", p.name, p.mode);
    if let (Some(people), Some(groups)) = (p.people, p.groups) {
        line += &format!(", {people} people, {groups} groups");
    }
    if let Some(server) = &p.server {
        line += &format!(", from {server}");
    }
    if let Some(s) = p.contact_s {
        line += &format!(", as of {s} s ago, {} cookie", if p.cookie { "a" } else { "no" });
    }
    line += if p.complete { ", complete" } else { ", not complete" };
    p.problem.iter().for_each(|problem| line += &format!(": {problem}"));
    line
}

fn row(r: &CacheRow) -> String {
    let kind = match r.kind {
        IdSpace::User => "user",
        IdSpace::Group => "group",
    };
    let state = match r.state {
        CacheState::Fresh => "fresh",
        CacheState::Stale => "stale",
        CacheState::Gone => "gone",
    };
    let age = r.age_s.map(|s| format!(", {s} s old")).unwrap_or_default();
    let key = r.subject.as_ref().map(|s| format!(", bound to {s}")).unwrap_or_default();
    format!("{kind} {} {} of {}: {state}{age}{key}", r.name, r.id, r.provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_this() {
        let corp = CacheProvider {
            name: "corp".into(),
            mode: "syncrepl".into(),
            complete: false,
            people: Some(3),
            groups: Some(2),
            contact_s: Some(4),
            cookie: true,
            server: Some("ldaps://a".into()),
            problem: Some("2 have the name twin".into()),
        };
        assert_eq!(
            provider(&corp),
            "provider corp: syncrepl, 3 people, 2 groups, from ldaps://a, as of 4 s ago, a cookie, not complete: \
             2 have the name twin"
        );
        let alice = CacheRow {
            kind: IdSpace::User,
            name: "alice".into(),
            id: 20001,
            provider: "corp".into(),
            subject: Some("k".into()),
            age_s: Some(7),
            state: CacheState::Fresh,
        };
        assert_eq!(row(&alice), "user alice 20001 of corp: fresh, 7 s old, bound to k");
        let gone = CacheRow { subject: None, age_s: None, kind: IdSpace::Group, state: CacheState::Gone, ..alice };
        assert_eq!(row(&gone), "group alice 20001 of corp: gone");
    }
}
