//! What would stop a login, as far as the broker's side can tell: `gpuhubd --check`.
//!
//! The other half, what stands between a login program and the broker, is looked at by
//! `gpuhub doctor`, which runs this and adds its own findings.

mod machine;

use crate::config::{Config, ConfigError};
use crate::finding::Finding;
use crate::privileges::Paths;
use crate::provider::Provider;
use machine::Machine;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// A provider that has not been checked by then is found to hang. Its own deadlines are shorter.
const PATIENCE: Duration = Duration::from_secs(45);

/// Everything that the broker can find out here. `providers` are those that `config` makes.
pub async fn check(
    config: Result<&Config, &ConfigError>,
    providers: &[Arc<dyn Provider>],
    paths: &Paths,
) -> Vec<Finding> {
    let mut findings = match config {
        Ok(config) => Machine::this(paths.clone()).check(config, !providers.is_empty()),
        Err(e) => vec![refused(e)],
    };
    findings.extend(ask(providers, PATIENCE).await);
    findings
}

async fn ask(providers: &[Arc<dyn Provider>], patience: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    // All at once: three servers that are down take the time of one.
    let tasks: Vec<_> = providers
        .iter()
        .map(|provider| {
            let provider = Arc::clone(provider);
            (provider.name().to_owned(), tokio::spawn(async move { provider.check().await }))
        })
        .collect();
    for (name, mut task) in tasks {
        match tokio::time::timeout(patience, &mut task).await {
            Ok(Ok(found)) => findings.extend(found),
            Ok(Err(_)) => findings.push(Finding::fatal(
                "provider-check",
                format!("The check of provider {name} failed because of an internal error."),
                "Report it, with what gpuhubd --check wrote on stderr.",
            )),
            Err(_) => {
                task.abort();
                findings.push(Finding::fatal(
                    "provider-check",
                    format!("Provider {name} could not be checked within {} seconds.", patience.as_secs()),
                    "See whether its server answers, and the network between.",
                ));
            }
        }
    }
    findings
}

/// Whether any of them would stop a login: the exit status of `--check`.
pub fn any_fatal(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.fatal)
}

/// Writes the findings: as a JSON array on one line, or in words.
pub fn print(findings: &[Finding], json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, findings)?;
        return writeln!(out);
    }
    for f in findings {
        writeln!(out, "{:<9}{}", if f.fatal { "PROBLEM" } else { "note" }, plain(&f.what))?;
        if !f.remedy.is_empty() {
            writeln!(out, "         -> {}", plain(&f.remedy))?;
        }
    }
    if !any_fatal(findings) {
        writeln!(out, "ok       nothing that the broker can see would stop a login")?;
    }
    Ok(())
}

/// What a directory server wrote into an error must not move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn refused(e: &ConfigError) -> Finding {
    let at = e.line.map_or_else(|| e.file.clone(), |line| format!("{}:{line}", e.file));
    Finding::fatal("config", format!("{at}: {}", e.what), e.remedy.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DirectoryGroup, Method, Person, Unavailable};
    use crate::provider::{Which, Who};

    #[tokio::test]
    async fn config_error_with_file_and_line() {
        let e = Config::parse("gpuhub.toml", "[ids]\nuid_rang = 1\n").map(|_| ()).unwrap_err();
        let found = check(Err(&e), &[], &Paths::default()).await;
        assert_eq!(found.len(), 1);
        assert!(found[0].id == "config" && found[0].fatal);
        assert!(found[0].what.starts_with("gpuhub.toml:2: unknown field"), "{}", found[0].what);
        assert!(!found[0].remedy.is_empty());
    }

    /// A provider whose check does what the test says.
    struct Ill(&'static str);

    #[async_trait::async_trait]
    impl Provider for Ill {
        fn name(&self) -> &str {
            self.0
        }
        fn kind(&self) -> &'static str {
            "ldap"
        }
        fn issuer(&self) -> &str {
            "ill"
        }

        fn method(&self) -> Method {
            Method::Password
        }
        async fn find(&self, _: Who<'_>) -> Result<Option<Person>, Unavailable> {
            Ok(None)
        }
        async fn find_group(&self, _: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable> {
            Ok(None)
        }
        async fn check(&self) -> Vec<Finding> {
            match self.0 {
                "hangs" => std::future::pending().await,
                "panics" => panic!("on purpose"),
                _ => vec![Finding::fatal("ldap-unreachable", "No.", "Do.")],
            }
        }
    }

    #[tokio::test]
    async fn providers_that_speak_hang_and_panic() {
        let providers: Vec<Arc<dyn Provider>> = ["hangs", "panics", "speaks"].map(|n| Arc::new(Ill(n)) as _).to_vec();
        let found = ask(&providers, Duration::from_millis(50)).await;
        let ids: Vec<_> = found.iter().map(|f| f.id).collect();
        assert_eq!(ids, ["provider-check", "provider-check", "ldap-unreachable"]);
        assert!(found[0].what.contains("hangs") && found[1].what.contains("panics"));
    }

    #[test]
    fn printed() {
        let findings = [Finding::fatal("state", "It is\x1b gone.", "Make it."), Finding::note("x", "By the way.")];
        let text = |findings: &[Finding], json| {
            let mut out = Vec::new();
            print(findings, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&findings, false), "PROBLEM  It is  gone.\n         -> Make it.\nnote     By the way.\n");
        assert!(any_fatal(&findings) && !any_fatal(&findings[1..]));
        assert!(text(&[], false).starts_with("ok "));
        assert_eq!(text(&[], true), "[]\n");
        assert_eq!(
            text(&findings[1..], true),
            "[{\"id\":\"x\",\"fatal\":false,\"what\":\"By the way.\",\"remedy\":\"\"}]\n"
        );
    }
}
