//! A proxy that the configuration names (RFC 9110 §9.3.6, CONNECT).

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A proxy, and how many tunnels it has made.
async fn proxy() -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let tunnels = Arc::new(AtomicU32::new(0));
    let made = tunnels.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            made.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(tunnel(client));
        }
    });
    (url, tunnels)
}

async fn tunnel(client: TcpStream) {
    let mut client = BufReader::new(client);
    let mut request = String::new();
    client.read_line(&mut request).await.unwrap();
    let server = request.strip_prefix("CONNECT ").and_then(|r| r.split(' ').next()).unwrap().to_owned();
    let mut line = String::new();
    while client.read_line(&mut line).await.unwrap() > 2 {
        line.clear();
    }
    let mut server = TcpStream::connect(server.replace("localhost", "127.0.0.1")).await.unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn the_provider_is_reached_through_it_and_through_nothing_else() {
    let idp = Idp::start().await;
    idp.polls([token(json!({}))]);
    let (url, tunnels) = proxy().await;
    assert!(Login::of(&idp, &format!("proxy = \"{url}\"")).await.result.is_ok());
    assert!(tunnels.load(Ordering::SeqCst) > 0);
    // One that is not there is not gone around.
    let dead = "proxy = \"http://127.0.0.1:9\"";
    assert_eq!(Login::of(&idp, dead).await.result.unwrap_err().reason, Reason::BackendUnavailable);
    let before = tunnels.load(Ordering::SeqCst);
    assert!(Login::of(&idp, "proxy = \"\"").await.result.is_ok());
    assert_eq!(tunnels.load(Ordering::SeqCst), before);
}
