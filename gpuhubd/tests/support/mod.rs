//! The real broker, as a process, in a directory of its own.
#![allow(dead_code)] // each test binary uses its part

use gpuhub_common::client::Client;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running broker; killed and cleaned up when dropped.
pub struct Broker {
    pub dir: PathBuf,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Broker {
    /// With `config` added to a minimal one. Audit lines go to stderr as JSON.
    pub fn start(name: &str, config: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gpuhubd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("gpuhub.toml"), format!("[audit]\nsyslog = \"/nonexistent/log\"\n{config}")).unwrap();
        let (child, lines) = Self::spawn(&dir);
        let broker = Self { dir, child, lines };
        broker.wait();
        broker
    }

    fn spawn(dir: &Path) -> (Child, Arc<Mutex<Vec<String>>>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gpuhubd"))
            .args(["--foreground", "--user", "nobody"])
            .arg("--config")
            .arg(dir.join("gpuhub.toml"))
            .arg("--run-dir")
            .arg(dir.join("run"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        (child, lines)
    }

    /// Until it answers.
    pub fn wait(&self) {
        let start = Instant::now();
        while Client::connect(&self.socket(), Duration::from_millis(100)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the broker does not come up: {:?}", self.audit());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn socket(&self) -> String {
        self.dir.join("run/broker.sock").to_str().unwrap().to_owned()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket(), Duration::from_secs(2)).unwrap()
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another process over the same state.
    pub fn restart(&mut self) {
        (self.child, self.lines) = Self::spawn(&self.dir);
        self.wait();
    }

    /// Audit lines so far.
    pub fn audit(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for an audit line that has all of `parts`.
    pub fn audited(&self, parts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self.audit().into_iter().find(|l| parts.iter().all(|p| l.contains(p))) {
                return line;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no line with {parts:?} in {:#?}", self.audit());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
