//! Servers that DNS names, by a real dnsmasq.

use super::*;
use std::process::{Child, Command, Stdio};

/// Answers for example.org alone; ended with its value.
struct Dns {
    child: Option<Child>,
    port: u16,
}

impl Dns {
    fn away() -> Self {
        let [port] = free_ports();
        Self { child: None, port }
    }

    /// Each record: target, port and priority.
    fn start(records: &[(&str, u16, u16)]) -> Self {
        let mut dns = Self::away();
        dns.launch(records);
        dns
    }

    fn launch(&mut self, records: &[(&str, u16, u16)]) {
        self.kill();
        let records = records
            .iter()
            .map(|(target, port, priority)| format!("--srv-host=_ldaps._tcp.example.org,{target},{port},{priority},0"));
        let child = Command::new("/usr/sbin/dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
            .args(["--log-facility=-", "--local=/example.org/", "--listen-address=127.0.0.1", "--bind-interfaces"])
            .args([format!("--port={}", self.port), "--user=root".to_owned()]) // nobody else, where it is started by root
            .args(records)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/usr/sbin/dnsmasq is needed: apt-get install dnsmasq-base");
        self.child = Some(child);
        let patience = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < patience, "dnsmasq does not answer");
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "dnsmasq has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A provider with no server but those that `dns` names, wherever.
fn provider(s: &Slapd, dns: &Dns) -> LdapProvider {
    by_dns(s, dns, "srv_targets_anywhere = true")
}

fn by_dns(s: &Slapd, dns: &Dns, extra: &str) -> LdapProvider {
    let srv = format!("srv_domain = \"example.org\"\nsrv_dns = [\"127.0.0.1:{}\"]", dns.port);
    LdapProvider::new(&config(&s.dir, &[], &format!("{srv}\n{}\n{extra}", with_ca(s)))).unwrap()
}

/// What is asked again after a pause happens, some time.
async fn soon(p: &LdapProvider, name: &str) -> Person {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        match p.find(Who::Name(&user(name))).await {
            Ok(found) => return found.unwrap(),
            Err(why) => assert!(Instant::now() < patience, "{why:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn refused(p: &LdapProvider) -> String {
    format!("{:?}", p.find(Who::Name(&user("alice"))).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_one_of_those_that_dns_names() {
    let s = Slapd::start();
    let [dead] = free_ports();
    let dns = Dns::start(&[("localhost", s.ldaps, 20), ("localhost", dead, 10)]);
    let p = provider(&s, &dns);
    let alice = find(&p, "alice").await.unwrap();
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());
    let findings = p.check().await;
    assert!(findings.iter().all(|f| !f.fatal), "{findings:?}");
    let told: Vec<_> = findings.iter().map(|f| f.id).collect();
    assert_eq!(told, ["ldap-ok", "ldap-unreachable"]);

    // Those of the configuration come first.
    let both = config(
        &s.dir,
        &[format!("ldaps://127.0.0.1:{}", s.ldaps)],
        &format!("{}\nsrv_domain = \"example.org\"\nsrv_dns = [\"127.0.0.1:1\"]", with_ca(&s)),
    );
    let p = LdapProvider::new(&both).unwrap();
    let t = Instant::now();
    assert!(find(&p, "alice").await.is_some());
    assert!(t.elapsed() < AT_ONCE, "nobody waits for DNS who has a server: {:?}", t.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_comes_goes_and_changes() {
    let (mut s, mut other) = (Slapd::start(), Slapd::start());
    let mut dns = Dns::away();
    let p = provider(&s, &dns);
    let t = Instant::now();
    assert!(refused(&p).await.contains("DNS has no answer for _ldaps._tcp.example.org"));
    assert!(t.elapsed() < BOUND, "{:?}", t.elapsed());
    let t = Instant::now();
    refused(&p).await;
    assert!(t.elapsed() < AT_ONCE, "it is not asked each time: {:?}", t.elapsed());
    dns.launch(&[("localhost", s.ldaps, 10)]);
    let alice = soon(&p, "alice").await;

    // What it said last is used while it is away.
    dns.kill();
    s.kill();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let why = refused(&p).await;
    assert!(why.contains("cannot be reached") && why.contains("DNS has no answer"), "{why}");
    s.launch();
    assert!(log_in(&p, &alice, "pw-alice").await.is_ok());

    // Where nothing works that is known, it is asked, and the new server at once.
    std::fs::copy(s.path("server.pem"), other.path("server.pem")).unwrap();
    std::fs::copy(s.path("server.key"), other.path("server.key")).unwrap();
    other.kill();
    other.launch();
    dns.launch(&[("localhost", other.ldaps, 10)]);
    s.kill();
    let same = soon(&p, "alice").await;
    assert_eq!(same.uid, alice.uid);
    assert!(log_in(&p, &same, "pw-alice").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dns_says_is_not_believed() {
    let mut s = Slapd::start();
    // Out of the domain, though its certificate is good.
    let mut dns = Dns::start(&[("localhost", s.ldaps, 10)]);
    let why = refused(&by_dns(&s, &dns, "")).await;
    assert!(why.contains("localhost is not under example.org"), "{why}");
    // An address is no name.
    dns.launch(&[("127.0.0.1", s.ldaps, 10)]);
    let why = refused(&provider(&s, &dns)).await;
    assert!(why.contains("127.0.0.1 is no host's name"), "{why}");
    // No service, and no records at all.
    dns.launch(&[("", 1, 0)]);
    assert!(refused(&provider(&s, &dns)).await.contains("DNS names no server"));
    dns.launch(&[]);
    let p = provider(&s, &dns);
    assert!(refused(&p).await.contains("DNS names no server"));
    let findings = p.check().await;
    assert!(findings.iter().any(|f| f.id == "ldap-srv" && f.fatal), "{findings:?}");
    // The name that DNS says must be in the certificate.
    s.kill();
    make_certificate(&s.dir, "ca", "server", "DNS:ldap.example.org", Valid::Now);
    s.launch();
    dns.launch(&[("localhost", s.ldaps, 10)]);
    let why = refused(&provider(&s, &dns)).await;
    assert!(why.contains("TLS failed") && why.contains("localhost"), "{why}");
}
