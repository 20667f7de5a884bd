//! `gpuhub`: the administrator's command, and of a person about her passcode. It decides nothing itself: it asks the broker, and the
//! doctor looks at what stands between a login program and the broker.

mod accounts;
mod args;
mod broker;
mod cache;
mod doctor;
mod hash;
mod idmap;
mod moving;
mod outcome;
mod passcode;
mod prompt;
mod ssh_keys;
mod status;

use args::Args;
use outcome::{Failure, print};
use std::process::ExitCode;

const USAGE: &str = "\
gpuhub - accounts of a container image that knows the organisation's people

usage:
  gpuhub user add NAME [--full-name TEXT] [--uid N] [--groups A,B] [--password-stdin]
  gpuhub user del NAME
  gpuhub user list
  gpuhub user passwd NAME [--stdin]
  gpuhub group add NAME [--gid N]
  gpuhub group del NAME
  gpuhub group list
  gpuhub group member add GROUP USER
  gpuhub group member del GROUP USER
  gpuhub idmap set user|group NAME ID
  gpuhub idmap move user OLD NEW
  gpuhub idmap untie user NAME
  gpuhub idmap show NAME
  gpuhub idmap export [--format csv|json]
  gpuhub idmap import FILE [--format csv|json|passwd|group] [--replace]
                           [--dry-run [--files-under PATH]]
  gpuhub idmap check
  gpuhub ssh-keys NAME            her public keys, for sshd's AuthorizedKeysCommand
  gpuhub config from-sssd FILE [--secrets-dir DIR]     sssd.conf as a gpuhub.toml
  gpuhub config from-nslcd FILE [--secrets-dir DIR]    nslcd.conf as a gpuhub.toml
  gpuhub cache show [NAME] [--json]   what the broker knows, and from when
  gpuhub cache expire NAME|--all      it is asked for again, by and by
  gpuhub cache refresh NAME|--all     it is asked for now
  gpuhub passcode set [--stdin]       for services that cannot show a device code
  gpuhub passcode once [--stdin]      a code for one login there
  gpuhub passcode clear [NAME] [--stdin]
  gpuhub passcode status [NAME]
  gpuhub status [--json]          what the broker is and how its providers are
  gpuhub doctor [--json]          what would stop a login here, and what to do
  gpuhub hash-password [--stdin]  a password_hash for [[builtin.user]] in gpuhub.toml
  gpuhub version
  gpuhub help

exit status: 0 done, 1 refused or a problem found, 2 wrong usage, 3 config
left something out, 69 the broker does not answer, 77 only root may do this.
See gpuhub(1).
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<ExitCode, Failure> {
    let (words, rest) = Args::command(std::env::args_os().skip(1))?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["user", "add"] => accounts::user_add(rest),
        ["user", "del"] => accounts::user_del(rest),
        ["user", "list"] => accounts::user_list(rest),
        ["user", "passwd"] => accounts::user_passwd(rest),
        ["group", "add"] => accounts::group_add(rest),
        ["group", "del"] => accounts::group_del(rest),
        ["group", "list"] => accounts::group_list(rest),
        ["group", "member", "add"] => accounts::group_member(rest, true),
        ["group", "member", "del"] => accounts::group_member(rest, false),
        ["idmap", "set"] => idmap::set(rest),
        ["idmap", "move"] => idmap::rename(rest),
        ["idmap", "untie"] => idmap::untie(rest),
        ["idmap", "show"] => idmap::show(rest),
        ["idmap", "export"] => idmap::export(rest),
        ["idmap", "import"] => idmap::import(rest),
        ["idmap", "check"] => idmap::check(rest),
        ["config", "from-sssd"] => moving::from_sssd(rest),
        ["config", "from-nslcd"] => moving::from_nslcd(rest),
        ["cache", "show"] => cache::show(rest),
        ["cache", "expire"] => cache::expire(rest),
        ["cache", "refresh"] => cache::refresh(rest),
        ["passcode", "set"] => passcode::set(rest),
        ["passcode", "once"] => passcode::once(rest),
        ["passcode", "clear"] => passcode::clear(rest),
        ["passcode", "status"] => passcode::status(rest),
        ["doctor"] => doctor::run(rest),
        ["ssh-keys"] => ssh_keys::run(rest),
        ["status"] => status::run(rest),
        ["hash-password"] => hash::run(rest),
        ["version"] => {
            print(&format!("gpuhub {}\n", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        ["help"] => {
            print(USAGE);
            Ok(ExitCode::SUCCESS)
        }
        [] => Err(Failure::Usage("what is to be done?".into())),
        other => Err(Failure::Usage(format!("there is no command `{}`", outcome::plain(&other.join(" "))))),
    }
}
