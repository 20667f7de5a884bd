//! `gpuhub doctor`: what would stop a login here, in plain words.
//!
//! This side looks at what stands between a login program and the broker: the socket, NSS, PAM,
//! sshd. What depends on the configuration (providers, ids, homes, state) is the broker's to
//! know: `gpuhubd --check --json` is run, and its findings are shown with ours.

mod broker;
mod nss;
mod pam;
mod sshd;
mod tree;

use crate::args::Args;
use crate::outcome::{Failure, plain, print};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::process::ExitCode;
use tree::Tree;

/// One finding, of this side or of gpuhubd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable word for scripts and tests, such as `broker-down`.
    pub id: String,
    /// Whether it would stop a login, or let somebody past the policy.
    pub fatal: bool,
    /// What is so.
    pub what: String,
    /// What to do about it; empty if nothing.
    pub remedy: String,
    /// How long a person has to sign in, where the broker found that out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl Finding {
    fn fatal(id: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id: id.into(), fatal: true, what: what.into(), remedy: remedy.into(), seconds: None }
    }

    fn note(id: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { fatal: false, ..Self::fatal(id, what, remedy) }
    }
}

/// One part that was looked at.
struct Part {
    /// Said if nothing fatal was found.
    ok: String,
    findings: Vec<Finding>,
}

/// Looks, and tells.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&["--json"], &[], [])?;
    let parts = examine(&Tree::new(p.root.as_deref()), p.socket.as_deref());
    let fatal = parts.iter().flat_map(|part| &part.findings).any(|f| f.fatal);
    if p.flag("--json") {
        let findings: Vec<_> = parts.iter().flat_map(|part| &part.findings).collect();
        print(&(serde_json::to_string(&findings).unwrap_or_default() + "\n"));
    } else {
        print(&text(&parts));
    }
    Ok(if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn examine(tree: &Tree, socket: Option<&str>) -> Vec<Part> {
    let (answers, status) = broker::answers(tree, socket);
    let device_codes = status.is_some_and(|s| s.providers.iter().any(|p| p.kind != "builtin" && p.kind != "ldap"));
    let mut parts = vec![answers, nss::switch(tree), nss::library(tree), pam::stacks(tree)];
    let check = broker::check(tree);
    let code_s = check.findings.iter().filter_map(|f| f.seconds).max();
    parts.extend(sshd::server(tree, device_codes, code_s));
    parts.push(check);
    parts
}

fn text(parts: &[Part]) -> String {
    let mut out = String::new();
    for part in parts {
        if !part.findings.iter().any(|f| f.fatal) && !part.ok.is_empty() {
            let _ = writeln!(out, "ok       {}", plain(&part.ok));
        }
        for f in &part.findings {
            let _ = writeln!(out, "{:<9}{}", if f.fatal { "PROBLEM" } else { "note" }, plain(&f.what));
            if !f.remedy.is_empty() {
                let _ = writeln!(out, "         -> {}", plain(&f.remedy));
            }
        }
    }
    match parts.iter().flat_map(|part| &part.findings).filter(|f| f.fatal).count() {
        0 => out.push_str("\nNothing was found that would stop a login.\n"),
        1 => out.push_str("\n1 problem would stop a login or weaken it.\n"),
        n => {
            let _ = writeln!(out, "\n{n} problems would stop a login or weaken it.");
        }
    }
    out
}
