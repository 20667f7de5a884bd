//! `gpuhub passcode …`: what a person gives where no device code can be shown. By herself, not by root.

use crate::args::Args;
use crate::broker;
use crate::outcome::{Failure, plain, print};
use crate::prompt;
use gpuhub_common::client::CallError;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{
    Call, NewPasscode, PasscodeCall, PasscodeOf, PasscodeProof, PasscodeReply, PasscodeStatus, ProofOfHer,
};
use std::process::ExitCode;

const OLD: &str = "Your passcode of until now: ";

/// `gpuhub passcode set`
pub fn set(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--stdin"], &[], [])?;
    let socket = p.socket.as_deref();
    // On standard input there is the new one alone: she has just signed in, or must sit at a terminal.
    let (old, passcode) = if p.flag("--stdin") {
        (None, prompt::from_stdin()?)
    } else {
        (old(socket, false)?, prompt::twice("New passcode: ")?)
    };
    done(ask(socket, PasscodeCall::Set(NewPasscode { passcode, old }))?)
}

/// `gpuhub passcode clear`
pub fn clear(args: Args) -> Result<ExitCode, Failure> {
    let (name, stdin, socket) = operands(args)?;
    let old = if name.is_some() { None } else { old(socket.as_deref(), stdin)? };
    done(ask(socket.as_deref(), PasscodeCall::Clear(PasscodeProof { old, name }))?)
}

/// `gpuhub passcode once`: the code alone on standard output.
pub fn once(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--stdin"], &[], [])?;
    let socket = p.socket.as_deref();
    let old = old(socket, p.flag("--stdin"))?;
    let PasscodeReply::Code(given) = ask(socket, PasscodeCall::Once(PasscodeProof { old, name: None }))? else {
        return Err(Failure::Broker(CallError::Protocol));
    };
    print(&(plain(given.code.expose_str().unwrap_or_default()) + "\n"));
    eprintln!("Good for one login, within {} seconds.", given.life_s);
    Ok(ExitCode::SUCCESS)
}

/// `gpuhub passcode status`
pub fn status(args: Args) -> Result<ExitCode, Failure> {
    let (name, _, socket) = operands(args)?;
    print(&told(&ask_status(socket.as_deref(), name)?));
    Ok(ExitCode::SUCCESS)
}

/// A name, if one is there; `--stdin`, `--socket`.
fn operands(args: Args) -> Result<(Option<String>, bool, Option<String>), Failure> {
    if let Ok(p) = args.clone().parse(&["--stdin"], &[], ["NAME"]) {
        let stdin = p.flag("--stdin");
        let [name] = p.operands;
        return Ok((Some(name), stdin, p.socket));
    }
    let p = args.parse(&["--stdin"], &[], [])?;
    Ok((None, p.flag("--stdin"), p.socket))
}

/// Her passcode of until now, if the broker will want it.
fn old(socket: Option<&str>, stdin: bool) -> Result<Option<Secret>, Failure> {
    if stdin {
        return prompt::from_stdin().map(Some);
    }
    match ask_status(socket, None)?.proof {
        ProofOfHer::OldPasscode => prompt::once(OLD).map(Some),
        // Who has neither is told by the broker what to do.
        ProofOfHer::SignIn | ProofOfHer::None => Ok(None),
    }
}

fn ask_status(socket: Option<&str>, name: Option<String>) -> Result<PasscodeStatus, Failure> {
    match ask(socket, PasscodeCall::Status(PasscodeOf { name }))? {
        PasscodeReply::Status(status) => Ok(status),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn ask(socket: Option<&str>, call: PasscodeCall) -> Result<PasscodeReply, Failure> {
    match broker::ask(socket, Call::Passcode(call)) {
        Ok(PasscodeReply::Refused(why)) => Err(Failure::Refused(why)),
        Ok(reply) => Ok(reply),
        Err(e) => Err(Failure::Broker(e)),
    }
}

fn done(reply: PasscodeReply) -> Result<ExitCode, Failure> {
    match reply {
        PasscodeReply::Done(_) => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::Broker(CallError::Protocol)),
    }
}

fn told(s: &PasscodeStatus) -> String {
    let mut lines = Vec::new();
    let when = |at: Option<i64>| at.map_or_else(|| "never".into(), utc);
    match (s.passcodes, s.set_at) {
        (false, _) => lines.push(format!("{}: passcodes are not switched on here", s.name)),
        (true, None) => lines.push(format!("{}: no passcode", s.name)),
        (true, set_at) => {
            let by = s.set_by.as_deref().unwrap_or("?");
            lines.push(format!("{}: a passcode, set on {} (by {by})", s.name, when(set_at)));
            lines.push(format!("good until {}", when(s.expires_at)));
        }
    }
    if s.locked {
        lines.push("locked, since too many wrong ones were tried: sign in by SSH to use it again".into());
    }
    lines.push(format!("one-time codes are {}switched on here", if s.one_time { "" } else { "not " }));
    lines.push(format!("last sign-in with a code: {}", when(s.signed_in_at)));
    lines.push(match (s.signed_in_at, s.counts_until) {
        (Some(_), None) => "passcodes and one-time codes count while the provider, when asked, honours her".into(),
        (_, until) => format!("which lets passcodes and one-time codes count until {}", when(until)),
    });
    lines.push(match s.proof {
        ProofOfHer::SignIn => "to change something: nothing more is needed, just now, for one change".into(),
        ProofOfHer::OldPasscode => "to change something: sign in by SSH, or give the passcode".into(),
        ProofOfHer::None => "to change something: sign in by SSH".into(),
    });
    lines.iter().map(|line| plain(line) + "\n").collect()
}

/// A time of seconds since 1970, as "2026-11-26 10:42 UTC" (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days).
fn utc(at: i64) -> String {
    let (days, second) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3_600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        // date -u -d @N
        for (at, said) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_868_799, "2000-02-29 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_795_689_720, "2026-11-26 10:42 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(at), said);
        }
    }

    #[test]
    fn reads_like_this() {
        let status = PasscodeStatus {
            name: "dave".into(),
            passcodes: true,
            one_time: false,
            set_at: Some(0),
            set_by: Some("command".into()),
            expires_at: Some(86_400),
            locked: true,
            signed_in_at: Some(60),
            counts_until: None,
            proof: ProofOfHer::OldPasscode,
        };
        let text = told(&status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "dave: a passcode, set on 1970-01-01 00:00 UTC (by command)");
        assert_eq!(lines[1], "good until 1970-01-02 00:00 UTC");
        assert!(lines[2].starts_with("locked") && lines[3].ends_with("not switched on here"));
        assert_eq!(lines[4], "last sign-in with a code: 1970-01-01 00:01 UTC");
        assert!(lines[5].ends_with("honours her"), "{}", lines[5]);
        let limited = told(&PasscodeStatus { counts_until: Some(86_460), ..status.clone() });
        assert!(limited.contains("count until 1970-01-02 00:01 UTC"));
        let none = told(&PasscodeStatus { set_at: None, locked: false, proof: ProofOfHer::None, ..status });
        assert!(none.starts_with("dave: no passcode\n") && none.ends_with("sign in by SSH\n"));
    }
}
