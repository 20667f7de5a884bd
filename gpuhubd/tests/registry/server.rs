//! A real PostgreSQL of the distribution, in a private directory, on loopback, over TLS with a CA
//! of its own. It is killed and its directory removed when the value is dropped.

use crate::ca::{Scratch, Valid, free_ports, make_ca, make_certificate, run};
use gpuhubd::registry::Postgres;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Option<Child>,
    pub dir: Scratch,
    port: u16,
}

/// PostgreSQL does not run as root.
fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", program]);
    command
}

/// Where the newest of the installed versions has its programs.
fn bin(program: &str) -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is needed (make prerequisites)");
    let newest = versions.flatten().max_by_key(|v| v.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.unwrap().path().join("bin").join(program).to_str().unwrap().to_owned()
}

impl Server {
    pub fn start() -> Self {
        let dir = Scratch::new();
        make_ca(&dir.0, "ca");
        make_ca(&dir.0, "other");
        make_certificate(&dir.0, "ca", "server", "DNS:localhost", Valid::Now);
        let d = dir.0.to_str().unwrap();
        run(Command::new("chown").args(["-R", "postgres", d]));
        run(as_postgres(&bin("initdb")).args(["-D", &format!("{d}/data"), "-A", "trust", "-U", "gpuhub", "-N"]));
        let [port] = free_ports();
        let mut server = Self { child: None, dir, port };
        server.launch();
        server
    }

    /// Starts the process (again) and waits until it answers.
    pub fn launch(&mut self) {
        let d = self.dir.0.display();
        let settings = [
            format!("unix_socket_directories={d}"),
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "ssl=on".into(),
            format!("ssl_cert_file={d}/server.pem"),
            format!("ssl_key_file={d}/server.key"),
            // It is killed in these tests, and not the machine.
            "fsync=off".into(),
            "max_connections=50".into(),
        ];
        let log = std::fs::File::create(self.dir.0.join("log")).unwrap();
        let mut command = as_postgres(&bin("postgres"));
        command.args(["-D", &format!("{d}/data")]).args(settings.iter().flat_map(|s| ["-c", s]));
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let patience = Instant::now() + Duration::from_secs(30);
        while !self.psql_status("SELECT 1") {
            assert!(Instant::now() < patience, "PostgreSQL does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn psql(&self, sql: &str) -> Command {
        let mut command = Command::new("psql");
        let (host, port) = (self.dir.0.to_str().unwrap(), self.port.to_string());
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", &port, "-U", "gpuhub", "-d", "postgres"]);
        command.args(["-c", sql]);
        command
    }

    fn psql_status(&self, sql: &str) -> bool {
        self.psql(sql).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// What a query prints, as the administrator of the database sees it.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.psql(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A box's way to it, with the right CA.
    pub fn registry(&self) -> Postgres {
        self.registry_by("ca")
    }

    pub fn registry_by(&self, ca: &str) -> Postgres {
        let ca = self.dir.0.join(format!("{ca}.pem"));
        Postgres::new(&self.url(), None, ca.to_str()).unwrap()
    }

    pub fn url(&self) -> String {
        format!("postgres://gpuhub@localhost:{}/postgres", self.port)
    }

    /// SIGKILL to all of its processes.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.dir.0.join("data/postmaster.pid"));
    }

    /// SIGSTOP to all of its processes, or SIGCONT.
    pub fn signal(&self, signal: &str) {
        let Some(child) = &self.child else { return };
        let main = child.id().to_string();
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        let all: Vec<&str> = std::iter::once(main.as_str()).chain(children.split_whitespace()).collect();
        // One of them may just have ended.
        let _ = Command::new("kill").arg(signal).args(all).stderr(Stdio::null()).status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("-CONT");
        self.kill();
    }
}
