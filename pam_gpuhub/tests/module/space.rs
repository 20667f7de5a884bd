//! A private place to run a PAM application in: its own /etc/pam.d, /etc/passwd, /etc/skel, /home,
//! /run/gpuhub and /dev/log, by bind mounts that end with the process.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ENTER: &str = r#"
set -e
cd "$SPACE"
mount --bind pam.d /etc/pam.d
mount --bind passwd /etc/passwd
mount --bind shadow /etc/shadow
mount --bind skel /etc/skel
mount --bind home /home
mount -t tmpfs -o mode=0755 none /run
if [ -d gpuhub ]; then mkdir /run/gpuhub; mount --bind gpuhub /run/gpuhub; fi
for n in null zero random urandom; do : > dev/$n; mount --bind /dev/$n dev/$n; done
mount --rbind dev /dev
cd /
exec "$@"
"#;

/// The shadow line's password is `local-secret`.
const SHADOW: &str = "root:*:19000::::::\nlola:$6$gpuhub$ndU6.eoKZYy42DONVphbCAD5UjbVRSGNQG62N8ziAnRcseSv5mldIi6CdVIAHq40ELEIlzFwhpVoRDGWEqixq.:19000::::::\n";

pub struct Space {
    pub dir: PathBuf,
    /// What reached /dev/log. Read all the time: syslog(3) waits for a full socket.
    log: Arc<Mutex<Vec<String>>>,
}

/// How an application ended.
pub struct Ended {
    pub ok: bool,
    /// Both streams: what a person would see.
    pub text: String,
    pub took: Duration,
    /// The lines that reached syslog.
    pub log: Vec<String>,
}

impl Space {
    /// With a run directory, an empty skeleton but `.profile`, and the local users root and lola.
    pub fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gpuhub-pam-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for sub in ["pam.d", "skel", "home", "gpuhub", "dev"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("passwd"), "root:x:0:0::/root:/bin/sh\nlola:x:1500:1500::/home/lola:/bin/sh\n").unwrap();
        fs::write(dir.join("shadow"), SHADOW).unwrap();
        fs::write(dir.join("skel/.profile"), "# hello\n").unwrap();
        let space = Self { log: listen(&dir.join("dev/log")), dir };
        // As the package's profile has it.
        space.service(
            "test",
            "auth     [success=done user_unknown=ignore default=die] MODULE\n\
             auth     required pam_unix.so try_first_pass\n\
             account  [success=ok new_authtok_reqd=ok user_unknown=ignore default=bad] MODULE\n\
             session  required MODULE\n\
             session  optional pam_exec.so stdout /usr/bin/env\n\
             password required MODULE\n",
        );
        space
    }

    /// The .so under test, which cargo builds beside the tests.
    pub fn module() -> String {
        let here = std::env::current_exe().unwrap();
        let so = here.parent().unwrap().join("libpam_gpuhub.so");
        assert!(so.exists(), "{} is not there", so.display());
        so.to_str().unwrap().to_owned()
    }

    /// Writes /etc/pam.d/NAME; `MODULE` stands for the module.
    pub fn service(&self, name: &str, lines: &str) {
        fs::write(self.dir.join("pam.d").join(name), lines.replace("MODULE", &Self::module())).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("gpuhub/broker.sock")
    }

    /// `pamtester OPTIONS SERVICE USER OPERATIONS`, with `typed` as its input.
    pub fn pamtester(&self, args: &[&str], typed: &str) -> Ended {
        self.run("pamtester", args, typed)
    }

    pub fn run(&self, program: &str, args: &[&str], typed: &str) -> Ended {
        let begin = Instant::now();
        let mut child = Command::new("timeout")
            .args(["60", "unshare", "-m", "sh", "-c", ENTER, "sh", program])
            .args(args)
            .env("SPACE", &self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let out = child.wait_with_output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        Ended { ok: out.status.success(), text, took: begin.elapsed(), log: self.drain_log() }
    }

    /// All lines so far: syslog(3) has returned, so they are in the socket, and so behind the mark.
    fn drain_log(&self) -> Vec<String> {
        let mark = UnixDatagram::unbound().unwrap();
        mark.send_to(MARK, self.path("dev/log")).unwrap();
        loop {
            let mut log = self.log.lock().unwrap();
            if log.last().is_some_and(|line| line.as_bytes() == MARK) {
                log.pop();
                return std::mem::take(&mut log);
            }
            drop(log);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

const MARK: &[u8] = b"that is all";

fn listen(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let (socket, log) = (UnixDatagram::bind(path).unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let lines = log.clone();
    std::thread::spawn(move || {
        let mut line = [0; 4096];
        while let Ok(n) = socket.recv(&mut line) {
            lines.lock().unwrap().push(String::from_utf8_lossy(&line[..n]).into_owned());
        }
    });
    log
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Ended {
    pub fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }
    /// The application failed, with this word of pam_strerror(3).
    #[track_caller]
    pub fn failed_with(&self, text: &str) {
        assert!(!self.ok && self.says(text), "wanted {text:?}: {}", self.text);
    }
    /// Everything succeeded.
    #[track_caller]
    pub fn succeeded(&self) {
        assert!(self.ok, "{}", self.text);
    }
    /// Our own lines in the log.
    pub fn our_log(&self) -> Vec<&str> {
        self.log.iter().filter(|line| line.contains("pam_gpuhub")).map(String::as_str).collect()
    }
}

pub fn output(program: &str, args: &[&str]) -> String {
    let mut child = Command::new(program).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {args:?}");
    text
}

pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
