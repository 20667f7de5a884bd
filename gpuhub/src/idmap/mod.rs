//! `gpuhub idmap …`: the ids that were given.

mod files;
mod rows;

use crate::args::Args;
use crate::broker;
use crate::outcome::{Failure, plain, print};
use gpuhub_common::client::CallError;
use gpuhub_common::wire::{
    Call, IdAt, IdChange, IdImport, IdQuery, IdRow, IdSpace, IdmapCall, IdmapReply, Named, NewId, Nothing, Rename,
};
use rows::Format;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Rows of an import in one request, which is at most 64 KiB: a row with a long key is some 300 bytes.
const ROWS_A_REQUEST: usize = 100;

/// `gpuhub idmap set`
pub fn set(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["user|group", "NAME", "ID"])?;
    let [kind, name, id] = p.operands;
    let kind = space(&kind)?;
    let id = id.parse().map_err(|_| Failure::Usage(format!("`{}` is no id", plain(&id))))?;
    let changed = changed(ask(p.socket.as_deref(), IdmapCall::Set(NewId { kind, name, id }))?)?;
    print(&told(&changed));
    let old = changed.iter().find_map(|c| c.old.filter(|old| *old != c.new));
    if let Some(old) = old {
        print(&format!("Files keep the number {old}: see find(1), -uid and -gid, and chown(1).\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub idmap move`
pub fn rename(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["user", "OLD", "NEW"])?;
    let [kind, old, new] = p.operands;
    if space(&kind)? != IdSpace::User {
        return Err(Failure::Usage("only users are moved: a group is named by its directory".into()));
    }
    let changed = changed(ask(p.socket.as_deref(), IdmapCall::Move(Rename { old: old.clone(), new }))?)?;
    for c in &changed {
        print(&plain(&format!("{old} is {} now, with the uid {}. The home does not move by itself.", c.name, c.new)));
        print("\n");
    }
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub idmap untie`
pub fn untie(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["user", "NAME"])?;
    let [kind, name] = p.operands;
    if space(&kind)? != IdSpace::User {
        return Err(Failure::Usage("only users sign in".into()));
    }
    changed(ask(p.socket.as_deref(), IdmapCall::Untie(Named { name: name.clone() }))?)?;
    print(&plain(&format!(
        "{name} is tied to the account with which she signs in next. Her passcode is gone, and so is what her \
         provider was asked with."
    )));
    print("\n");
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub idmap show`
pub fn show(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["NAME"])?;
    let [name] = p.operands;
    let rows = rows_of(ask(p.socket.as_deref(), IdmapCall::List(IdQuery { name: Some(name.clone()), after: None }))?)?;
    if rows.is_empty() {
        return Err(Failure::Refused(format!("{name} has no id.")));
    }
    let mut out = String::new();
    for r in rows {
        let key = r.issuer.zip(r.subject).map(|(i, s)| format!(", bound to {s} of {i}")).unwrap_or_default();
        let retired = if r.retired { ", retired" } else { "" };
        let line = format!("{} {} {} ({}){retired}{key}", word(r.kind), r.name, r.id, r.source.unwrap_or_default());
        out += &(plain(&line) + "\n");
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub idmap export`
pub fn export(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &["--format"], [])?;
    let format = match p.value("--format").unwrap_or("csv") {
        "csv" => Format::Csv,
        "json" => Format::Json,
        other => return Err(Failure::Usage(format!("what is the format `{}`?", plain(other)))),
    };
    print(&rows::write(&all(p.socket.as_deref())?, format));
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub idmap import`
pub fn import(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--dry-run", "--replace"], &["--format", "--files-under"], ["FILE"])?;
    let [file] = &p.operands;
    let format = match p.value("--format") {
        Some(word) => {
            Format::parse(word).ok_or_else(|| Failure::Usage(format!("what is the format `{}`?", plain(word))))?
        }
        None if file.ends_with(".json") => Format::Json,
        None => Format::Csv,
    };
    let (dry_run, replace) = (p.flag("--dry-run"), p.flag("--replace"));
    let under = p.value("--files-under");
    if under.is_some() && !dry_run {
        return Err(Failure::Usage("--files-under goes with --dry-run".into()));
    }
    let text = std::fs::read_to_string(file).map_err(|e| Failure::Refused(format!("{file} cannot be read: {e}.")))?;
    let rows = rows::read(&text, format).map_err(|e| Failure::Refused(format!("{file}: {e}.")))?;
    rows::one_each(&rows).map_err(|e| Failure::Refused(format!("{file}: {e}.")))?;
    let socket = p.socket.as_deref();
    let before = if under.is_some() { all(socket)? } else { Vec::new() };

    // All of it is tried before any of it is done.
    let mut would = Vec::new();
    let mut problems = Vec::new();
    let send =
        |rows: &[IdRow], dry_run| ask(socket, IdmapCall::Import(IdImport { rows: rows.to_vec(), dry_run, replace }));
    for page in rows.chunks(ROWS_A_REQUEST) {
        match send(page, true)? {
            IdmapReply::Problems(more) => problems.extend(more),
            reply => would.extend(changed(reply)?),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::Refused(format!("nothing was imported:\n{}", lines(&problems))));
    }
    if dry_run {
        print(&told(&would));
        if let Some(path) = under {
            print(&files::changing(Path::new(path), &before, &would));
        }
        return Ok(ExitCode::SUCCESS);
    }
    for page in rows.chunks(ROWS_A_REQUEST) {
        match send(page, false)? {
            IdmapReply::Problems(more) => {
                return Err(Failure::Refused(format!(
                    "something came between; not all was imported:\n{}",
                    lines(&more)
                )));
            }
            reply => _ = changed(reply)?,
        }
    }
    print(&told(&would));
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub idmap check`
pub fn check(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], [])?;
    match ask(p.socket.as_deref(), IdmapCall::Check(Nothing {}))? {
        IdmapReply::Problems(problems) if problems.is_empty() => {
            print("All ids are as they should be.\n");
            Ok(ExitCode::SUCCESS)
        }
        IdmapReply::Problems(problems) => Err(Failure::Refused(lines(&problems))),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn ask(socket: Option<&str>, call: IdmapCall) -> Result<IdmapReply, Failure> {
    match broker::ask(socket, Call::Idmap(call)) {
        Ok(IdmapReply::Refused(why)) => Err(Failure::Refused(why)),
        Ok(reply) => Ok(reply),
        Err(CallError::Protocol) if !nix::unistd::geteuid().is_root() => Err(Failure::NotRoot),
        Err(e) => Err(Failure::Broker(e)),
    }
}

/// Every id that was ever given.
fn all(socket: Option<&str>) -> Result<Vec<IdRow>, Failure> {
    let mut rows: Vec<IdRow> = Vec::new();
    loop {
        let after = rows.last().map(|r| IdAt { kind: r.kind, id: r.id });
        let more = rows_of(ask(socket, IdmapCall::List(IdQuery { name: None, after }))?)?;
        if more.is_empty() {
            return Ok(rows);
        }
        rows.extend(more);
    }
}

fn rows_of(reply: IdmapReply) -> Result<Vec<IdRow>, Failure> {
    match reply {
        IdmapReply::Rows(rows) => Ok(rows),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn changed(reply: IdmapReply) -> Result<Vec<IdChange>, Failure> {
    match reply {
        IdmapReply::Changed(changes) => Ok(changes),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn told(changes: &[IdChange]) -> String {
    let mut out = String::new();
    for c in changes {
        let old = c.old.map_or("-".to_owned(), |old| old.to_string());
        let _ = writeln!(out, "{} {} {old} -> {}", word(c.kind), plain(&c.name), c.new);
    }
    out
}

fn lines(problems: &[String]) -> String {
    problems.iter().map(|p| plain(p)).collect::<Vec<_>>().join("\n")
}

fn space(word: &str) -> Result<IdSpace, Failure> {
    match word {
        "user" => Ok(IdSpace::User),
        "group" => Ok(IdSpace::Group),
        other => Err(Failure::Usage(format!("`{}` is neither user nor group", plain(other)))),
    }
}

fn word(kind: IdSpace) -> &'static str {
    match kind {
        IdSpace::User => "user",
        IdSpace::Group => "group",
    }
}
