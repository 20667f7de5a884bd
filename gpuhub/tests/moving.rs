//! `gpuhub config from-sssd` and `from-nslcd`: what comes out of the examples of those programs' own documentation
//! (`moving/sssd`, `moving/nslcd`: which section, each says; beside each is what is expected), and that the broker
//! takes all of it.
//!
//! `GPUHUB_BLESS=1` writes anew what is expected; read the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use gpuhubd::config::Config;
use rcgen::{CertificateParams, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/moving");
/// What stands for a password in all of them.
const SECRET: &str = "s3cret";

fn config(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpuhub")).arg("config").args(arguments).current_dir(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory of the test's own.
fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("gpuhub-moving-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn fixtures(program: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("{FIXTURES}/{program}")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
    found.sort();
    assert!(found.len() > 8, "{found:?}");
    found
}

/// The configuration with files that are there: the broker reads them.
fn takes(program: &str, name: &str, toml: &str) -> Result<Config, String> {
    let dir = scratch(&format!("takes-{program}-{name}"));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["gpu1".into()]).unwrap().self_signed(&key).unwrap();
    for (file, content) in [("ca.pem", certificate.pem()), ("key.pem", key.serialize_pem()), ("secret", "x\n".into())] {
        std::fs::write(dir.join(file), content).unwrap();
        std::fs::set_permissions(dir.join(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let there = |line: &str| {
        let file = match line.split_once(" = ").map_or("", |(key, _)| key) {
            "ca_file" | "client_cert_file" => "/ca.pem",
            "client_key_file" => "/key.pem",
            "bind_password_file" => "/secret",
            "ca_dir" => "",
            _ => return line.to_owned(),
        };
        format!("{} = \"{}{file}\"", line.split_once(" = ").unwrap().0, dir.display())
    };
    let text = toml.lines().map(there).collect::<Vec<_>>().join("\n");
    let config = Config::parse(name, &text).map_err(|e| format!("{e}\n{text}"));
    std::fs::remove_dir_all(&dir).unwrap();
    config
}

/// Output, remarks and exit status of all examples of a program are as they are written beside them.
fn as_expected(program: &str) {
    let dir = PathBuf::from(FIXTURES).join(program);
    for path in fixtures(program) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let done = config(&[&format!("from-{program}"), name], &dir);
        let (out, remarks) = (text(&done.stdout), text(&done.stderr));
        let expected = path.with_extension("toml");
        if std::env::var_os("GPUHUB_BLESS").is_some() {
            std::fs::write(&expected, &out).unwrap();
        }
        assert_eq!(out, std::fs::read_to_string(&expected).unwrap(), "{name}");
        assert_eq!(done.status.code(), Some(if remarks.is_empty() { 0 } else { 3 }), "{name}");
        // One line each, and the same in the file.
        for line in remarks.lines() {
            assert!(line.starts_with(&format!("{name}:")), "{line}");
            assert!(out.contains(&format!("#   {line}\n")), "{line}");
        }
        assert!(!out.contains(SECRET) && !remarks.contains(SECRET), "{name} shows a secret");
    }
}

#[test]
fn examples_of_sssd() {
    as_expected("sssd");
}

#[test]
fn examples_of_nslcd() {
    as_expected("nslcd");
}

/// No key comes out that the broker does not know, and no value that it does not take.
fn the_broker_takes(program: &str) {
    let mut refused = Vec::new();
    for path in fixtures(program) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        match takes(program, name, &std::fs::read_to_string(path.with_extension("toml")).unwrap()) {
            Ok(_) => {}
            Err(e) => refused.push(e.lines().next().unwrap_or_default().to_owned()),
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_broker_takes_what_comes_of_sssd() {
    the_broker_takes("sssd");
}

#[test]
fn the_broker_takes_what_comes_of_nslcd() {
    the_broker_takes("nslcd");
}

/// Every option is in the output by what came of it, or named as left out, or as one that needs nothing: none is
/// forgotten. Here: all that are unknown are told.
#[test]
fn what_is_unknown_is_told() {
    let dir = scratch("unknown");
    std::fs::write(dir.join("sssd.conf"), "[sssd]\nfoo=1\n[nss]\nbar=1\n[baz]\nx=1\n[domain/a]\nid_provider=ldap\nldap_uri=ldaps://a\nldap_search_base=dc=a\nqux=1\nldap_uri=ldaps://b\n").unwrap();
    std::fs::create_dir(dir.join("conf.d")).unwrap();
    std::fs::write(dir.join("conf.d/10-more.conf"), "[domain/a]\naccess_provider=deny\n").unwrap();
    let done = config(&["from-sssd", "sssd.conf"], &dir);
    let told = text(&done.stderr);
    for one in [
        "sssd.conf:2: foo:",
        "sssd.conf:4: [nss] bar:",
        "sssd.conf:5: [baz]:",
        "sssd.conf:9: ldap_uri: it is given again",
        "sssd.conf:11: qux:",
        "conf.d/10-more.conf: ",
    ] {
        assert!(told.contains(one), "{one} is not in\n{told}");
    }
    assert!(text(&done.stdout).contains("urls = [\"ldaps://b\"]"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn secrets_are_written_where_they_are_wanted() {
    for (program, name, file) in [("sssd", "site.conf", "lab.secret"), ("nslcd", "site.conf", "ldap.secret")] {
        let dir = scratch(&format!("secrets-{program}"));
        let path = format!("{FIXTURES}/{program}/{name}");
        for _ in 0..2 {
            let done = config(&[&format!("from-{program}"), "--secrets-dir", ".", &path], &dir);
            assert!(done.status.code() == Some(3) || done.status.success(), "{}", text(&done.stderr));
            let written = dir.join(file).canonicalize().unwrap();
            assert!(text(&done.stdout).contains(&format!("bind_password_file = \"{}\"", written.display())));
            assert!(!text(&done.stdout).contains(SECRET));
        }
        let equals = if program == "sssd" { "=" } else { "" };
        assert_eq!(std::fs::read_to_string(dir.join(file)).unwrap(), format!("{equals}s3cret \"pass\" #1\n"));
        assert_eq!(std::fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left there");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn what_cannot_be_read() {
    let dir = scratch("unreadable");
    std::fs::write(dir.join("binary"), b"\xff\xfe").unwrap();
    for arguments in [
        &["from-sssd", "absent"][..],
        &["from-nslcd", "."],
        &["from-nslcd", "binary"],
        &["from-nslcd", "/dev/null", "--secrets-dir", "absent"],
    ] {
        let done = config(arguments, &dir);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}");
        assert!(done.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(config(&["from-sssd"], &dir).status.code(), Some(2));
    std::fs::remove_dir_all(&dir).unwrap();
}
