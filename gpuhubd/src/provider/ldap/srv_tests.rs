//! Tests of [`super`].

use super::*;

fn record(priority: u16, weight: u16, target: &str) -> Record {
    Record { priority, weight, port: 636, target: target.into() }
}

fn names(records: &[Record]) -> String {
    records.iter().map(|r| r.target.as_str()).collect::<Vec<_>>().join(" ")
}

fn srv(within: Option<&str>) -> Srv {
    Srv {
        name: "_ldaps._tcp.example.org.".into(),
        within: within.map(str::to_owned),
        scheme: "ldaps",
        start_tls: false,
        dns: Vec::new(),
        limit: Duration::from_secs(1),
    }
}

fn servers(config: &str) -> Arc<Servers> {
    let text = format!("[[provider]]\nname = \"corp\"\nkind = \"ldap\"\nbase = \"o=x\"\n{config}\n");
    let config = crate::config::Config::parse("test", &text).unwrap();
    let [crate::config::ProviderConfig::Ldap(config)] = &config.providers[..] else { panic!("no LDAP provider") };
    Arc::new(Servers::new(config).unwrap())
}

fn urls(servers: &Servers) -> Vec<String> {
    servers.state().all.iter().map(|server| server.url.clone()).collect()
}

#[test]
fn priorities_come_before_weights() {
    let records = vec![record(20, 100, "c"), record(10, 0, "a"), record(20, 0, "d"), record(15, 1, "b")];
    // Whatever is drawn.
    assert_eq!(names(&in_order(records.clone(), |most| most)), "a b c d");
    assert_eq!(names(&in_order(records, |_| 0)), "a b d c");
    assert_eq!(in_order(Vec::new(), |_| 0), []);
}

#[test]
fn weights_are_shares() {
    let records = vec![record(1, 60, "a"), record(1, 30, "b"), record(1, 10, "c"), record(1, 0, "never")];
    let mut first = std::collections::HashMap::new();
    for _ in 0..20_000 {
        let ordered = in_order(records.clone(), random);
        assert_eq!(ordered.len(), 4);
        *first.entry(ordered[0].target.clone()).or_insert(0) += 1;
    }
    // A hundred and one numbers are drawn from; the bounds are ten standard deviations wide.
    for (name, share) in [("a", 0.594), ("b", 0.297), ("c", 0.099), ("never", 0.0099)] {
        let got = f64::from(first.get(name).copied().unwrap_or(0)) / 20_000.0;
        let deviation = (share * (1.0 - share) / 20_000.0f64).sqrt();
        assert!((got - share).abs() < 10.0 * deviation, "{name}: {got} for {share}");
    }
}

#[test]
fn only_targets_under_the_domain_are_servers() {
    let records = || {
        [
            "a.example.org.",
            "B.Example.ORG.",
            "example.org.",
            "evil-example.org.",
            "example.org.evil.test.",
            "127.0.0.1.",
            "x\\.y.example.org.",
            ".",
            "a.example.org.",
        ]
        .iter()
        .enumerate()
        .map(|(priority, target)| record(u16::try_from(priority).unwrap(), 0, target))
        .collect::<Vec<_>>()
    };
    let told = |(servers, refused): (Vec<Server>, Vec<String>)| {
        (servers.iter().map(|s| s.url.clone()).collect::<Vec<_>>(), refused.len())
    };
    let mut expected =
        ["a.example.org", "b.example.org", "example.org"].map(|host| format!("ldaps://{host}:636")).to_vec();
    assert_eq!(told(srv(Some("example.org")).targets(records())), (expected.clone(), 4));
    expected.extend(["evil-example.org", "example.org.evil.test"].map(|host| format!("ldaps://{host}:636")));
    assert_eq!(told(srv(None).targets(records())), (expected, 2), "an address is no name, and a dot no part of one");
}

#[test]
fn labels_of_services_belong_to_no_target() {
    assert_eq!(organisation("example.org"), "example.org");
    assert_eq!(organisation("dc._msdcs.example.org"), "example.org");
    assert_eq!(organisation("paris._sites.dc._msdcs.example.org"), "example.org");
}

#[test]
fn an_answer_replaces_what_dns_named_and_nothing_else() {
    let servers = servers("urls = [\"ldaps://first\"]\nsrv_domain = \"example.org\"");
    let srv = srv(Some("example.org"));
    let now = Instant::now();
    let answer = |targets: &[&str], ttl| {
        let records = targets.iter().zip(1..).map(|(target, n)| record(n, 0, target)).collect();
        Ok(Answer { records, ttl: Duration::from_secs(ttl) })
    };
    let due = || servers.state().due.duration_since(now);
    servers.take(&srv, answer(&["a.example.org.", "b.example.org."], 300), now);
    assert_eq!(urls(&servers), ["ldaps://first", "ldaps://a.example.org:636", "ldaps://b.example.org:636"]);
    assert_eq!((due(), servers.state().wrong.clone()), (Duration::from_secs(300), None));
    let b = servers.state().all[2].clone();

    servers.take(&srv, answer(&["b.example.org."], 0), now);
    assert_eq!(urls(&servers), ["ldaps://first", "ldaps://b.example.org:636"]);
    assert!(Arc::ptr_eq(&servers.state().all[1], &b), "what is known of it is kept");
    assert_eq!(due(), SHORTEST);

    // Away, or nothing but what is not allowed: nothing is lost, and it is asked again soon.
    for wrong in [Err("timed out".to_owned()), answer(&["evil.test."], 3600)] {
        servers.take(&srv, wrong, now);
        assert_eq!(urls(&servers), ["ldaps://first", "ldaps://b.example.org:636"]);
        assert_eq!(due(), PAUSE);
        assert!(servers.state().wrong.is_some());
    }
    servers.take(&srv, answer(&["."], 1_000_000), now);
    assert_eq!(urls(&servers), ["ldaps://first"]);
    assert_eq!(due(), LONGEST);
}

#[test]
fn only_some_errors_are_answers() {
    let error = |code| {
        ProtoError::from(ProtoErrorKind::NoRecordsFound {
            query: Box::default(),
            soa: None,
            ns: None,
            negative_ttl: Some(7),
            response_code: code,
            trusted: false,
            authorities: None,
        })
    };
    assert_eq!(none(Some(&error(ResponseCode::NXDomain))).unwrap().ttl, Duration::from_secs(7));
    assert!(none(Some(&error(ResponseCode::ServFail))).is_none());
    assert!(none(Some(&ProtoError::from(ProtoErrorKind::Timeout))).is_none());
    assert!(none(None).is_none());
}

/// A DNS server with one record of no lifetime, which the test changes.
async fn dns(target: Arc<Mutex<&'static str>>) -> SocketAddr {
    use hickory_resolver::proto::op::{Message, MessageType};
    use hickory_resolver::proto::rr::{RData, rdata::SRV};
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            let mut message = Message::from_vec(&buffer[..n]).unwrap();
            let query = message.queries()[0].clone();
            let target = Name::from_ascii(*target.lock().unwrap()).unwrap();
            let data = RData::SRV(SRV::new(1, 1, 636, target));
            message.set_message_type(MessageType::Response);
            message.add_answer(hickory_resolver::proto::rr::Record::from_rdata(query.name().clone(), 0, data));
            socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn dns_is_asked_again_when_it_is_time_and_nobody_waits() {
    let target = Arc::new(Mutex::new("a.example.org."));
    let address = dns(target.clone()).await;
    let servers = servers(&format!("srv_domain = \"example.org\"\nsrv_dns = [\"{address}\"]"));
    assert!(servers.known().is_empty());
    let (all, answer) = servers.ask().await;
    assert_eq!((all.len(), answer), (1, Ok(())));
    assert_eq!(urls(&servers), ["ldaps://a.example.org:636"]);

    *target.lock().unwrap() = "b.example.org.";
    assert_eq!(servers.ask().await.1, Ok(()));
    assert_eq!(urls(&servers), ["ldaps://a.example.org:636"], "it was asked a moment ago");
    servers.known();
    assert!(!servers.state().asking, "the answer is still good");
    servers.state().due = Instant::now();
    assert_eq!(servers.known()[0].url, "ldaps://a.example.org:636");
    // Who has no server that works waits for the question that runs.
    assert_eq!(servers.ask().await.0[0].url, "ldaps://b.example.org:636");
}
