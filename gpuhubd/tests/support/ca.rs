//! What every test with a server of its own needs: a directory, ports, a CA, certificates.
#![allow(dead_code)] // each test binary uses some of it

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gpuhub-test-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Valid {
    Now,
    Past,
    Future,
}

/// `<name>.pem`, `<name>.key`.
pub fn make_ca(dir: &Path, name: &str) {
    let path = |ext: &str| dir.join(format!("{name}.{ext}")).to_str().unwrap().to_owned();
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", &format!("/CN=test {name}"), "-keyout", &path("key"), "-out", &path("pem")]));
}

/// `<name>.pem` and `<name>.key`, issued by `ca`. `openssl ca` is the one that takes dates.
pub fn make_certificate(dir: &Path, ca: &str, name: &str, names: &str, valid: Valid) {
    let path = |file: String| dir.join(file).to_str().unwrap().to_owned();
    let (from, to) = match valid {
        Valid::Now => ("20200101000000Z", "20491231000000Z"),
        Valid::Past => ("20200101000000Z", "20200201000000Z"),
        Valid::Future => ("20480101000000Z", "20491231000000Z"),
    };
    let d = dir.display();
    fs::write(
        dir.join("ca.cnf"),
        format!(
            "[ca]\ndefault_ca = d\n[d]\nnew_certs_dir = {d}\ndatabase = {d}/index\nrand_serial = yes\ndefault_md = sha256\n\
             policy = p\nunique_subject = no\nx509_extensions = e\n[p]\ncommonName = supplied\n[e]\nbasicConstraints = CA:FALSE\n\
             extendedKeyUsage = serverAuth, clientAuth\nsubjectAltName = {names}\n"
        ),
    )
    .unwrap();
    fs::write(dir.join("index"), "").unwrap();
    let (key, csr, pem) = (path(format!("{name}.key")), path(format!("{name}.csr")), path(format!("{name}.pem")));
    run(Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
        ])
        .args(["-keyout", &key, "-out", &csr]));
    run(Command::new("openssl")
        .args(["ca", "-batch", "-config", &path("ca.cnf".into()), "-startdate", from, "-enddate", to, "-notext"])
        .args([
            "-cert",
            &path(format!("{ca}.pem")),
            "-keyfile",
            &path(format!("{ca}.key")),
            "-in",
            &csr,
            "-out",
            &pem,
        ]));
}

/// Ports that were free a moment ago.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|i| held[i].local_addr().unwrap().port())
}

/// A secret file as the configuration wants it.
pub fn secret_file(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|e| {
        panic!("{program} is needed (make prerequisites): {e}");
    });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
