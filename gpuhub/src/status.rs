//! `gpuhub status`: what the broker says of itself.

use crate::args::Args;
use crate::broker;
use crate::outcome::{Failure, plain, print};
use gpuhub_common::wire::{Call, Nothing, Status};
use std::fmt::Write;
use std::process::ExitCode;

/// Asks and shows.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--json"], &[], [])?;
    let status: Status = broker::ask(p.socket.as_deref(), Call::GetStatus(Nothing {})).map_err(Failure::Broker)?;
    if p.flag("--json") {
        print(&(serde_json::to_string(&status).unwrap_or_default() + "\n"));
    } else {
        print(&text(&status));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(s: &Status) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "{key:<13}{}", plain(&value));
    };
    line("broker", format!("version {}, up {}", s.version, duration(s.uptime_s)));
    line("snapshot", format!("generation {}, {} users, {} groups", s.generation, s.users, s.groups));
    line("sessions", format!("{} open", s.sessions));
    line("audit", format!("{} lines dropped since the start", s.audit_dropped));
    for p in &s.providers {
        line("provider", format!("{} ({}): {}", p.name, p.kind, p.problem.as_deref().unwrap_or("ok")));
    }
    out
}

fn duration(s: u64) -> String {
    match (s / 86_400, s / 3600 % 24, s / 60 % 60) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuhub_common::wire::ProviderStatus;

    #[test]
    fn reads_like_this() {
        let status = Status {
            version: "0.1.0".into(),
            uptime_s: 3700,
            generation: 7,
            users: 3,
            groups: 2,
            sessions: 1,
            audit_dropped: 0,
            providers: vec![ProviderStatus { name: "corp".into(), kind: "ldap".into(), problem: Some("a\nb".into()) }],
        };
        assert_eq!(
            text(&status),
            "broker       version 0.1.0, up 1 h 1 min\n\
             snapshot     generation 7, 3 users, 2 groups\n\
             sessions     1 open\n\
             audit        0 lines dropped since the start\n\
             provider     corp (ldap): a?b\n"
        );
    }

    #[test]
    fn durations() {
        for (s, text) in [(59, "59 s"), (60, "1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration(s), text);
        }
    }
}
