//! `gpuhub config from-sssd` and `from-nslcd`: the configuration of a box that has one of those, as a gpuhub.toml.
//!
//! ```text
//! source        the files taken apart
//! sssd, nslcd   what each option becomes; who may log in is sssd_access' and nslcd_access'
//! rest          tables of what becomes of all others
//! translation   what comes out, and the list of what was left out; toml, filter, servers
//! ```
//!
//! The file is only read, and no server is asked.

mod filter;
mod nslcd;
mod nslcd_access;
mod nslcd_maps;
mod rest;
mod servers;
mod source;
mod sssd;
mod sssd_access;
mod sssd_options;
mod sssd_servers;
mod toml;
mod translation;

use crate::args::Args;
use crate::outcome::{Failure, print};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use translation::Translation;
use zeroize::Zeroizing;

/// Something was left out, or has to be looked at; 2 is for wrong usage.
const INCOMPLETE: u8 = 3;

/// No such file is longer.
const LONGEST: u64 = 1 << 20;

/// `gpuhub config from-sssd`
pub fn from_sssd(args: Args) -> Result<ExitCode, Failure> {
    run(args, sssd::COMMAND, sssd::translate)
}

/// `gpuhub config from-nslcd`
pub fn from_nslcd(args: Args) -> Result<ExitCode, Failure> {
    run(args, nslcd::COMMAND, nslcd::translate)
}

fn run(args: Args, command: &str, translate: fn(&str, &str) -> Translation) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &["--secrets-dir"], ["FILE"])?;
    let [file] = &p.operands;
    let text = read(file).map_err(|e| Failure::Refused(format!("{file} cannot be read: {e}")))?;
    let mut translation = translate(file, &text);
    snippets(file, &mut translation);
    if let Some(dir) = p.value("--secrets-dir") {
        let dir = std::fs::canonicalize(dir).map_err(|e| Failure::Refused(format!("{dir}: {e}")))?;
        for provider in &mut translation.providers {
            if let Some(secret) = provider.secret.take() {
                let path = dir.join(provider.secret_name());
                keep(&path, &secret).map_err(|e| Failure::Refused(format!("{}: {e}", path.display())))?;
                provider.secret_is_in(&dir);
            }
        }
    }
    print(&translation.write(command));
    let remarks = translation.remarks();
    let _ = std::io::stderr().write_all(remarks.as_bytes());
    Ok(if translation.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}

/// There is a password in it.
fn read(file: &str) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(file)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if read as u64 > LONGEST {
        return Err(std::io::Error::other("it is longer than any such file"));
    }
    Ok(text)
}

/// sssd reads what is in conf.d beside its file, too.
fn snippets(file: &str, t: &mut Translation) {
    if Path::new(file).file_name().is_none_or(|name| name != "sssd.conf") {
        return;
    }
    let beside = Path::new(file).parent().map(|parent| parent.join("conf.d")).unwrap_or_default();
    let entries = std::fs::read_dir(beside).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
    paths.sort();
    for path in paths {
        let why = "sssd reads this file, too, and it was not translated";
        t.remark(1, &path.display().to_string(), why, "Put both into one file, and translate that.");
    }
}

/// Into a file of its own, which replaces what was there at once.
fn keep(path: &Path, secret: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(secret.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&beside, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&beside);
    })
}
