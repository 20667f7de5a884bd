//! Servers that answer, and not as they should. Each costs bounded time, lets nobody in, and is "unavailable": never
//! "no such user".

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn unavailable(p: &LdapProvider, name: &str) -> String {
    let t = Instant::now();
    let e = p.find(Who::Name(&user(name))).await.unwrap_err();
    assert!(t.elapsed() < BOUND, "{:?} {}", t.elapsed(), e.0);
    e.0
}

fn plain(dir: &Path, port: u16, extra: &str) -> LdapProvider {
    let extra = format!("allow_plaintext = true\n{extra}");
    LdapProvider::new(&config(dir, &[format!("ldap://127.0.0.1:{port}")], &extra)).unwrap()
}

/// A server of the test's own: what it does with each connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    (port, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dribbles() {
    let s = Slapd::start();
    let real = s.ldap;
    let (port, task) = server(move |client| async move {
        let (mut from, mut to) = client.into_split();
        let (mut answers, mut asked) = TcpStream::connect(("127.0.0.1", real)).await.unwrap().into_split();
        let up = tokio::spawn(async move { tokio::io::copy(&mut from, &mut asked).await });
        // A byte at a time, and never a whole answer within the deadline.
        while let Ok(byte) = answers.read_u8().await {
            if to.write_u8(byte).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        up.abort();
    })
    .await;
    let p = plain(&s.dir, port, "");
    assert!(unavailable(&p, "alice").await.contains("did not answer in time"));
    unavailable(&p, "nobody-here").await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_without_end() {
    /// A bind that succeeded, as the answer to message 1.
    const BOUND_AS: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
    /// An entry "uid=alice" without attributes, as one of the answers to message 2.
    const ENTRY: &[u8] = b"\x30\x12\x02\x01\x02\x64\x0d\x04\x09uid=alice\x30\x00";
    let (port, task) = server(|mut client| async move {
        let mut buffer = [0; 4096];
        let _ = client.read(&mut buffer).await;
        let _ = client.write_all(BOUND_AS).await;
        let _ = client.read(&mut buffer).await;
        let many = ENTRY.repeat(1000);
        while client.write_all(&many).await.is_ok() {}
    })
    .await;
    let dir = slapd::Scratch::new();
    let why = unavailable(&plain(&dir.0, port, ""), "alice").await;
    assert!(why.contains("more entries") || why.contains("in time"), "{why}");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_or_too_long() {
    for answer in [
        // A length of two gigabytes, and some of them; half a message; a message in a message that is longer than it.
        [&b"\x30\x84\x7f\xff\xff\xff\x02\x01\x01\x61"[..], &[0; 100_000]].concat(),
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01".to_vec(),
        b"\x30\x0c\x02\x01\x01\x61\x7f\x0a\x01\x00\x04\x00\x04\x00".to_vec(),
    ] {
        let answer: &'static [u8] = answer.leak();
        let (port, task) = server(move |mut client| async move {
            let _ = client.read(&mut [0; 512]).await;
            let _ = client.write_all(answer).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        })
        .await;
        let dir = slapd::Scratch::new();
        unavailable(&plain(&dir.0, port, ""), "alice").await;
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn referrals_are_not_followed_and_hide_nobody() {
    let s = Slapd::start();
    // Each refers to the other.
    let referral = |name: &str, to: &str| {
        format!(
            "\ndn: ou={name},{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\nou: {name}\n\
             ref: ldap://127.0.0.1:{}/ou={to},{SUFFIX}\n",
            s.ldap
        )
    };
    let mut s2 = Slapd::with(&format!("{}{}{}", slapd::ENTRIES, referral("there", "back"), referral("back", "there")));
    let p = ldaps(&s2);
    assert!(find(&p, "alice").await.is_some());
    assert!(find(&p, "nobody-here").await.is_none(), "what is elsewhere is none of this directory");
    let there = format!("{}\nuser_base = \"ou=there,{SUFFIX}\"", with_ca(&s2));
    let why = unavailable(&at(&s2, &format!("ldaps://127.0.0.1:{}", s2.ldaps), &there), "alice").await;
    assert!(!why.is_empty());
    s2.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_there_is_no_empty_directory() {
    let mut s = Slapd::start();
    let nowhere = format!("{}\nuser_base = \"ou=nowhere,{SUFFIX}\"", with_ca(&s));
    let p = at(&s, &format!("ldaps://127.0.0.1:{}", s.ldaps), &nowhere);
    unavailable(&p, "alice").await;
    unavailable(&p, "nobody-here").await;
    assert!(!p.is_away(), "it answers");
    s.kill();
    unavailable(&p, "alice").await;
    assert!(p.is_away());
    s.launch();
    unavailable(&p, "alice").await;
    assert!(!p.is_away());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_logins_with_one_of_two_servers_hung() {
    let (hung, well) = (Slapd::start(), Slapd::start());
    std::fs::copy(well.path("ca.pem"), hung.path("other.pem")).unwrap();
    let both = hung.dir.join("cas");
    std::fs::create_dir(&both).unwrap();
    std::fs::copy(well.path("ca.pem"), both.join("well.pem")).unwrap();
    std::fs::copy(hung.path("ca.pem"), both.join("hung.pem")).unwrap();
    let urls = [&hung, &well].map(|s| format!("ldaps://127.0.0.1:{}", s.ldaps));
    let c = config(&hung.dir, &urls, &format!("ca_dir = \"{}\"", both.display()));
    let p = std::sync::Arc::new(LdapProvider::new(&c).unwrap());
    assert!(find(&p, "alice").await.is_some());
    hung.stop();
    let t = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let p = p.clone();
        tasks.spawn(async move {
            let Ok(Some(alice)) = p.find(Who::Name(&user("alice"))).await else { return None };
            Some((i % 2 == 0, log_in(&p, &alice, if i % 2 == 0 { "pw-alice" } else { "wrong" }).await.map(|_| ())))
        });
    }
    let (mut in_time, mut lost) = (0, 0);
    while let Some(result) = tasks.join_next().await {
        match result.unwrap() {
            Some((true, Ok(()))) | Some((false, Err(Reason::WrongPassword))) => in_time += 1,
            // Whoever was on the hung server when it hung.
            None | Some((_, Err(Reason::BackendUnavailable))) => lost += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(t.elapsed() < Duration::from_secs(20), "{:?}", t.elapsed());
    assert!(in_time >= 190, "{in_time} let in or refused rightly, {lost} not answered");
    hung.go_on();
}

/// Lets the reader look for these attributes, and not read them.
fn hide(s: &mut Slapd, attributes: &str) {
    s.kill();
    let path = s.path("slapd.conf");
    let (first, rule) = ("access to attrs=userPassword", format!("by dn.exact=\"{READER}\" search by * none"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(first));
    std::fs::write(&path, text.replacen(first, &format!("access to attrs={attributes} {rule}\n{first}"), 1)).unwrap();
    s.launch();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_makes_nobody_somebody_else_or_absent() {
    for attribute in ["uidNumber", "gidNumber"] {
        let mut s = Slapd::start();
        hide(&mut s, attribute);
        let why = unavailable(&ldaps(&s), "alice").await;
        assert!(why.contains(&format!("no single readable {}", attribute.to_lowercase())), "{why}");
    }
    // Which of her entries and her groups' is which can then not be seen, and is asked for apart.
    let mut s = Slapd::start();
    let whole = find(&ldaps(&s), "alice").await;
    assert!(!whole.as_ref().unwrap().groups.is_empty());
    hide(&mut s, "objectClass");
    assert_eq!(find(&ldaps(&s), "alice").await, whole);
    // A name that may not be read is nobody's: the server does not say that there is anybody.
    hide(&mut s, "entry");
    assert_eq!(find(&ldaps(&s), "alice").await, None);
}
