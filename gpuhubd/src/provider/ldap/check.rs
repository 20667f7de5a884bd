//! What the doctor finds by trying: each server, its certificate, the account that searches, the
//! base.

use super::directory::{Directory, Failure};
use super::link::{Link, Query};
use super::schema::Schema;
use super::trouble::Trouble;
use crate::finding::Finding;
use chrono::DateTime;
use ldap3::Scope;
use rustls::CertificateError;

/// Every server, asked in turn, those that seem down too.
pub(super) async fn findings(directory: &Directory, schema: &Schema, user_bases: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut works = false;
    let mut unreached = Vec::new();
    let (servers, answer) = directory.servers.ask().await;
    if let Err(why) = answer {
        unreached.push(Finding::fatal(
            "ldap-srv",
            why,
            "Check srv_domain, and that this box asks a DNS server that has the records (dig SRV).",
        ));
    }
    for server in servers.iter() {
        match directory.connect(server, true).await {
            Ok(link) => {
                let mut found = Vec::new();
                for base in user_bases {
                    found.push(people(&link, &server.url, directory, schema, base).await);
                    found.extend(joined(&link, &server.url, directory, schema, base).await);
                }
                works |= found.iter().all(|finding| !finding.fatal);
                findings.extend(found);
            }
            Err(Failure::Bind(trouble)) => findings.push(refused_bind(&server.url, directory, &trouble)),
            Err(Failure::Connect(trouble)) => unreached.push(no_connection(&server.url, &trouble)),
        }
    }
    // One server that works is enough for a login.
    findings.extend(unreached.into_iter().map(|f| Finding { fatal: f.fatal && !works, ..f }));
    findings
}

/// Whether people can be read.
async fn people(link: &Link, url: &str, directory: &Directory, schema: &Schema, base: &str) -> Finding {
    match link.search(any(schema, schema.people().to_owned(), base), directory.timeout()).await {
        Ok(entries) if entries.is_empty() => Finding::fatal(
            "ldap-base",
            format!("{url} shows nothing that matches {} under {base} to {}", schema.people(), reader(directory)),
            "Correct base or user_base, or let the server show the entries (its access rules may hide them).",
        ),
        // More than the one asked for is what a directory has.
        Ok(_) | Err(Trouble::TooMany(_)) => Finding::note("ldap-ok", format!("{url} answers, and shows people")),
        // noSuchObject, and invalidDNSyntax.
        Err(Trouble::Refused(result)) if matches!(result.rc, 32 | 34) => Finding::fatal(
            "ldap-base",
            format!("{url} has no entry {base}, or hides it from {}: {}", reader(directory), Trouble::Refused(result)),
            "Correct base or user_base.",
        ),
        Err(trouble @ Trouble::Refused(_)) => Finding::fatal(
            "ldap-base",
            format!("{url} does not let {} search {base}: {trouble}", reader(directory)),
            "Set bind_dn and bind_password_file, or let the server allow the search.",
        ),
        Err(trouble) => Finding::fatal(
            "ldap-unreachable",
            format!("{url} {trouble}"),
            "It took the connection and then failed; look at the server.",
        ),
    }
}

/// Whether people's entries say who they are where they prove themselves.
async fn joined(link: &Link, url: &str, directory: &Directory, schema: &Schema, base: &str) -> Option<Finding> {
    let attribute = &schema.login.as_ref()?.name;
    let is_anybody = async |filter: String| match link.search(any(schema, filter, base), directory.timeout()).await {
        Ok(entries) => Some(!entries.is_empty()),
        Err(Trouble::TooMany(_)) => Some(true),
        // What stops a search at all has been told.
        Err(_) => None,
    };
    let people = schema.people();
    if !is_anybody(format!("(&{people}({attribute}=*))")).await? {
        return Some(Finding::fatal(
            "ldap-login",
            format!("{url} shows {attribute} of nobody under {base} to {}, and nobody can sign in", reader(directory)),
            "Correct login_attribute, or let the server show it (its access rules may hide it).",
        ));
    }
    let lacking = is_anybody(format!("(&{people}(!({attribute}=*)))")).await?;
    let what = format!("{url} shows no {attribute} of some people under {base}, who cannot sign in");
    lacking.then(|| Finding::note("ldap-login", what))
}

/// One of those whom a filter finds.
fn any(schema: &Schema, filter: String, base: &str) -> Query {
    let (base, attributes) = (base.to_owned(), [schema.name.name.clone()].into());
    Query { base, scope: Scope::Subtree, filter, attributes, most: 1, paged: false }
}

fn reader(directory: &Directory) -> &str {
    directory.bind_dn().unwrap_or("anonymous readers")
}

fn refused_bind(url: &str, directory: &Directory, trouble: &Trouble) -> Finding {
    Finding::fatal(
        "ldap-bind",
        format!("{url} refused bind_dn {}: {trouble}", reader(directory)),
        "Correct bind_dn and the password in bind_password_file.",
    )
}

fn no_connection(url: &str, trouble: &Trouble) -> Finding {
    match trouble {
        Trouble::Tls(rustls::Error::InvalidCertificate(error)) => certificate(url, error),
        Trouble::Tls(error) => Finding::fatal(
            "ldap-certificate",
            format!("{url}: the TLS handshake failed: {error}"),
            "Check the port, and that the server speaks TLS 1.2 or 1.3.",
        ),
        Trouble::Refused(_) => Finding::fatal(
            "ldap-starttls",
            format!("{url} refused StartTLS: {trouble}"),
            "Give the server a certificate, or use ldaps://.",
        ),
        Trouble::Lost(_) => Finding::fatal(
            "ldap-unreachable",
            format!("{url}: {trouble}"),
            "Something answers there that is no LDAP server, or not in this way; check scheme and port.",
        ),
        _ => Finding::fatal(
            "ldap-unreachable",
            format!("{url} {trouble}"),
            "Check host name, port and network from here; the server may be down.",
        ),
    }
}

fn certificate(url: &str, error: &CertificateError) -> Finding {
    let (what, remedy) = match error {
        CertificateError::UnknownIssuer => (
            "was issued by a CA that is not known here".to_owned(),
            "Set ca_file to the PEM file of that CA, or add it to the system's store.",
        ),
        CertificateError::Expired => ("has expired".to_owned(), RENEW),
        CertificateError::ExpiredContext { not_after, .. } => {
            (format!("expired on {}", moment(not_after.as_secs())), RENEW)
        }
        CertificateError::NotValidYet => return clock(url, "is not valid yet".into()),
        CertificateError::NotValidYetContext { time, not_before } => {
            let (now, from) = (moment(time.as_secs()), moment(not_before.as_secs()));
            return clock(url, format!("is valid from {from}, and the clock here says {now}"));
        }
        CertificateError::NotValidForName => ("is for another name".to_owned(), NAME),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|n| bare(n)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            (format!("is for {names}, not for {}", expected.to_str()), NAME)
        }
        other => (format!("is not accepted: {other}"), "Give the server a certificate for servers, issued by a CA."),
    };
    Finding::fatal("ldap-certificate", format!("the certificate of {url} {what}"), remedy)
}

const RENEW: &str = "Renew the server's certificate, or set the clock if it is wrong here.";
const NAME: &str = "Write the name in the certificate into the url, or give the server a certificate with this name among its subjectAltNames.";

fn clock(url: &str, what: String) -> Finding {
    Finding::fatal("clock", format!("the certificate of {url} {what}"), "Set the clock of this machine.")
}

fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| DateTime::from_timestamp(s, 0));
    time.map_or_else(|| "an unknown time".into(), |t| t.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// `DnsName("ldap.example.org")` as a person writes it.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').map_or(presented, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inner.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    #[test]
    fn certificates_are_told_plainly() {
        let at = |s| UnixTime::since_unix_epoch(Duration::from_secs(s));
        let expired = CertificateError::ExpiredContext { time: at(1_800_000_000), not_after: at(1_793_491_200) };
        let f = certificate("ldaps://x", &expired);
        assert_eq!(f.what, "the certificate of ldaps://x expired on 2026-11-01 00:00 UTC");
        let early = CertificateError::NotValidYetContext { time: at(0), not_before: at(1_793_491_200) };
        let f = certificate("ldaps://x", &early);
        assert_eq!(f.id, "clock");
        assert!(f.what.ends_with("valid from 2026-11-01 00:00 UTC, and the clock here says 1970-01-01 00:00 UTC"));
        let other = CertificateError::NotValidForNameContext {
            expected: "x".try_into().unwrap(),
            presented: vec!["DnsName(\"a.example\")".into(), "IpAddress(10.0.0.1)".into()],
        };
        let f = certificate("ldaps://x", &other);
        assert_eq!(f.what, "the certificate of ldaps://x is for a.example, 10.0.0.1, not for x");
    }
}
