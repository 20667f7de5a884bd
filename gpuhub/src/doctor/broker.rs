//! Whether the broker answers, and what it finds by itself.

use super::tree::Tree;
use super::{Finding, Part};
use crate::broker::ask;
use crate::outcome;
use gpuhub_common::client::CallError;
use gpuhub_common::paths;
use gpuhub_common::wire::{Call, ErrorCode, Nothing, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const GPUHUBD: &str = "/usr/sbin/gpuhubd";

/// Longer than gpuhubd gives its providers together: they are asked all at once.
const CHECK: Duration = Duration::from_secs(90);

/// `broker-down`.
pub fn answers(tree: &Tree, socket: Option<&str>) -> (Part, Option<Status>) {
    let path = socket.map_or_else(|| tree.at(paths::SOCKET).display().to_string(), str::to_owned);
    let status: Status = match ask(Some(&path), Call::GetStatus(Nothing {})) {
        Ok(status) => status,
        Err(e) => {
            let what = match e {
                CallError::NeverStarted => format!("No broker was ever started here: {} is not there.", paths::RUN_DIR),
                CallError::NoBroker => format!("The broker does not run: nobody answers at {path}."),
                CallError::TimedOut => "The broker does not answer in time.".into(),
                CallError::Protocol => "The broker's answer is not understood.".into(),
                CallError::Broker(ErrorCode::VersionMismatch) => {
                    "The broker is of another version than this command.".into()
                }
                CallError::Broker(ErrorCode::Busy) => "The broker has too many connections.".into(),
                CallError::Broker(_) => "The broker does not say how it is.".into(),
            };
            let finding = Finding::fatal("broker-down", what, outcome::remedy(e));
            return (Part { ok: String::new(), findings: vec![finding] }, None);
        }
    };
    let mut findings = Vec::new();
    if status.version != env!("CARGO_PKG_VERSION") {
        let what = format!("The running broker is {}, this command is {}.", status.version, env!("CARGO_PKG_VERSION"));
        findings.push(Finding::note("broker-version", what, "Restart the broker after an upgrade."));
    }
    if status.audit_dropped > 0 {
        let what = format!("{} audit lines were dropped since the broker started.", status.audit_dropped);
        findings.push(Finding::note(
            "audit-dropped",
            what,
            "See whether syslog takes them; [audit] queue sets how many wait.",
        ));
    }
    let providers: Vec<&str> = status.providers.iter().map(|p| p.name.as_str()).collect();
    let ok = format!(
        "the broker answers: version {}, {} users known, asks {}",
        status.version,
        status.users,
        providers.join(", ")
    );
    (Part { ok, findings }, Some(status))
}

/// What `gpuhubd --check` finds.
pub fn check(tree: &Tree) -> Part {
    let ok = "the configuration, ids, state, homes and providers are as they should be".into();
    let instead = |finding| Part { ok: String::new(), findings: vec![finding] };
    if !tree.has(GPUHUBD) {
        return instead(Finding::note(
            "no-gpuhubd",
            format!("{GPUHUBD} is not in this image: its configuration and providers are not checked here."),
            "Run gpuhub doctor where the broker runs, too.",
        ));
    }
    if tree.is_machine() && !geteuid().is_root() {
        return instead(Finding::note(
            "not-root",
            "The configuration and the providers were not checked: only root may read the secrets.",
            "Run gpuhub doctor as root.",
        ));
    }
    match run(tree) {
        Ok(findings) => Part { ok, findings },
        Err(what) => instead(Finding::fatal(
            "check-failed",
            format!("{GPUHUBD} --check gave no findings: {what}"),
            "Run it by hand, and install the same version of everything.",
        )),
    }
}

fn run(tree: &Tree) -> Result<Vec<Finding>, String> {
    let child = Command::new(tree.at(GPUHUBD))
        .args(["--check", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let pid = child.id();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let output = match receive.recv_timeout(CHECK) {
        Ok(output) => output.map_err(|e| e.to_string())?,
        Err(_) => {
            // Not waited for yet, so the number is still its own.
            if let Ok(pid) = i32::try_from(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            return Err(format!("it did not end within {} seconds", CHECK.as_secs()));
        }
    };
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
        format!("{} ({})", said.trim(), output.status)
    })
}
