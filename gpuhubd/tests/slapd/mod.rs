//! A real slapd of the distribution, in a private directory, on loopback, with a CA of its own.
//! It is killed and its directory removed when the value is dropped.

#![allow(dead_code)] // each test binary uses its part

#[path = "../support/ca.rs"]
mod ca;
pub mod proxy;

pub use ca::*;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const SUFFIX: &str = "dc=example,dc=org";
pub const READER: &str = "cn=reader,dc=example,dc=org";
pub const READER_PASSWORD: &str = "reader-secret";

/// [`ROOT`] writes what others may not.
pub const ROOT: &str = "cn=root,dc=example,dc=org";
pub const ROOT_PASSWORD: &str = "root-secret";

const NIS: &str = "/etc/ldap/schema/nis.schema";

/// What it tells by itself of changes (RFC 4533).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// All.
    Changes,
    /// All, but not since long ago: who then comes back must begin anew (e-syncRefreshRequired).
    ChangesOfLate,
    /// Nothing, though it says that it could.
    NothingAfterAll,
    /// Nothing.
    Nothing,
}

/// The server and where it is.
pub struct Slapd {
    child: Option<Child>,
    /// What it says in its log (slapd.conf(5), loglevel).
    level: &'static str,
    pub dir: PathBuf,
    pub ldap: u16,
    pub ldaps: u16,
}

impl Slapd {
    /// With everything of [`ENTRIES`].
    pub fn start() -> Self {
        Self::with(ENTRIES)
    }

    pub fn with(entries: &str) -> Self {
        Self::with_schema(NIS, entries, Tells::Nothing)
    }

    /// One that can be followed, or is to be polled.
    pub fn telling(entries: &str, tells: Tells) -> Self {
        Self::with_schema(NIS, entries, tells)
    }

    /// With groups of DNs, from [`ENTRIES_BIS`].
    pub fn start_bis() -> Self {
        Self::bis_telling(Tells::Nothing)
    }

    pub fn bis_telling(tells: Tells) -> Self {
        let schema = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/slapd/rfc2307bis.schema");
        Self::with_schema(schema.to_str().unwrap(), ENTRIES_BIS, tells)
    }

    /// `schema`: the file that says what a posixGroup is.
    fn with_schema(schema: &str, entries: &str, tells: Tells) -> Self {
        // The directory is removed in our own Drop, after the server has gone.
        let scratch = Scratch::new();
        let dir = scratch.0.clone();
        std::mem::forget(scratch);
        let [ldap, ldaps] = free_ports();
        let level = if tells == Tells::ChangesOfLate { "stats" } else { "0" };
        let slapd = Self { child: None, level, dir, ldap, ldaps };
        make_ca(&slapd.dir, "ca");
        make_certificate(&slapd.dir, "ca", "server", "DNS:localhost,IP:127.0.0.1", Valid::Now);
        fs::write(slapd.path("slapd.conf"), configuration(&slapd.dir, schema, tells)).unwrap();
        slapd.load(entries);
        let mut slapd = slapd;
        slapd.launch();
        slapd
    }

    /// Has just these entries, and no memory of others; while it does not run.
    pub fn load(&self, entries: &str) {
        let _ = fs::remove_dir_all(self.dir.join("db"));
        fs::create_dir(self.dir.join("db")).unwrap();
        fs::write(self.path("data.ldif"), entries).unwrap();
        let (conf, data) = (self.path("slapd.conf"), self.path("data.ldif"));
        run(Command::new("/usr/sbin/slapadd").args(["-q", "-w", "-f", &conf, "-l", &data]));
    }

    /// What it has, for [`Slapd::load`]: the same entries, without when they were changed; while it does not run.
    pub fn dump(&self) -> String {
        let dumped =
            Command::new("/usr/sbin/slapcat").args(["-o", "ldif-wrap=no", "-f", &self.path("slapd.conf")]).output();
        let text = String::from_utf8(dumped.unwrap().stdout).unwrap();
        text.lines().filter(|l| !l.contains("CSN: ")).fold(String::new(), |all, line| all + line + "\n")
    }

    /// What it has said since it was started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Starts the process (again) and waits until it answers.
    pub fn launch(&mut self) {
        let urls = format!(
            "ldap://127.0.0.1:{} ldaps://127.0.0.1:{} ldapi://{}",
            self.ldap,
            self.ldaps,
            self.path("ldapi").replace('/', "%2F")
        );
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new("/usr/sbin/slapd")
            .args(["-f", &self.path("slapd.conf"), "-h", &urls, "-d", self.level])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("/usr/sbin/slapd is needed: apt-get install slapd");
        self.child = Some(child);
        let patience = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.ldap)).is_err() {
            let log = self.log();
            assert!(Instant::now() < patience, "slapd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP; returns when every thread has stopped.
    pub fn stop(&self) {
        self.signal("-STOP");
        let tasks = format!("/proc/{}/task", self.child.as_ref().unwrap().id());
        let stopped = || {
            fs::read_dir(&tasks).unwrap().all(|task| {
                let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
                stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
            })
        };
        while !stopped() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        run(Command::new("/bin/kill").args([signal, &pid]));
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn configuration(dir: &Path, schema: &str, tells: Tells) -> String {
    let d = dir.display();
    let module = if tells == Tells::Nothing { "" } else { "moduleload syncprov" };
    let overlay = match tells {
        Tells::Changes => "overlay syncprov",
        // Else it takes any cookie, and says who is there.
        Tells::ChangesOfLate => "overlay syncprov\nsyncprov-reloadhint TRUE",
        Tells::NothingAfterAll | Tells::Nothing => "",
    };
    format!(
        "modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload argon2
{module}
sizelimit unlimited
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include {schema}
include /etc/ldap/schema/inetorgperson.schema
# Active Directory's objectSid and primaryGroupID, as it defines them.
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid' EQUALITY octetStringMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.98 NAME 'primaryGroupID' EQUALITY integerMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
# What pam_ldap's ldapns.schema adds to an account.
attributetype ( 1.3.6.1.4.1.5322.17.2.1 NAME 'authorizedService' EQUALITY caseIgnoreMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.5322.17.1.1 NAME 'authorizedServiceObject' SUP top AUXILIARY MAY authorizedService )
objectclass ( 1.3.6.1.4.1.5322.17.1.2 NAME 'hostObject' SUP top AUXILIARY MAY host )
# openssh-lpk
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch
 SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY MAY sshPublicKey )
pidfile {d}/pid
TLSCertificateFile {d}/server.pem
TLSCertificateKeyFile {d}/server.key
TLSCACertificateFile {d}/ca.pem
TLSVerifyClient try
# The certificate that the tests show, and a process of theirs on the socket, are the reader.
authz-regexp \"cn=client\" \"{READER}\"
authz-regexp \"gidNumber=.*uidNumber=.*,cn=peercred,cn=external,cn=auth\" \"{READER}\"
access to attrs=userPassword by self write by anonymous auth by * none
access to dn.subtree=\"ou=hidden,{SUFFIX}\" by * none
access to * by dn.exact=\"{READER}\" read by self write by anonymous auth by * none
database mdb
suffix {SUFFIX}
rootdn {ROOT}
rootpw {ROOT_PASSWORD}
directory {d}/db
maxsize 67108864
index objectClass,uid,uidNumber,gidNumber,memberUid,cn eq
# Without it slapd takes a cookie of any age for one that it knows (slapo-syncprov(5)).
index entryCSN,entryUUID eq
overlay ppolicy
ppolicy_default cn=default,{SUFFIX}
ppolicy_use_lockout
{overlay}
"
    )
}

/// People with every trouble that the tests are about. Their password is `pw-` and the name.
pub const ENTRIES: &str = include_str!("entries.ldif");

/// Groups of people and of groups.
pub const ENTRIES_BIS: &str = include_str!("entries-bis.ldif");
