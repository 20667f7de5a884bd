//! Between us and the server: ends the connection at the first message that holds given bytes, as
//! a network does at the worst moment, and counts how often it saw them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

pub struct Proxy {
    pub port: u16,
    seen: Arc<AtomicU32>,
    task: AbortHandle,
}

impl Proxy {
    /// Cuts the first `cuts` times that the client sends `trigger`.
    pub async fn to(server: u16, trigger: &'static [u8], cuts: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(AtomicU32::new(0));
        let counter = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, trigger, cuts, counter.clone()));
            }
        });
        Self { port, seen, task: task.abort_handle() }
    }

    pub fn seen(&self) -> u32 {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, server: u16, trigger: &[u8], cuts: u32, seen: Arc<AtomicU32>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            n = client.read(&mut up) => match n {
                Ok(n) if n > 0 => {
                    let hit = up[..n].windows(trigger.len()).any(|w| w == trigger);
                    // It reaches the server; only the answer is lost.
                    server.write_all(&up[..n]).await.unwrap();
                    if hit && seen.fetch_add(1, Ordering::SeqCst) < cuts {
                        return;
                    }
                }
                _ => return,
            },
            n = server.read(&mut down) => match n {
                Ok(n) if n > 0 => client.write_all(&down[..n]).await.unwrap(),
                _ => return,
            },
        }
    }
}
