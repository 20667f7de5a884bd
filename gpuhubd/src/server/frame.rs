//! Frames: JSON texts, each ended by a NUL byte, within hard caps.

use gpuhub_common::wire::{MAX_REPLY, MAX_REQUEST};
use serde::Serialize;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// For a client to take a reply.
const WRITE: Duration = Duration::from_secs(10);

/// A connection, frame by frame.
pub struct Frames {
    stream: UnixStream,
}

impl Frames {
    /// Over a fresh connection.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// The connection, for another runtime to watch.
    pub fn into_std(self) -> Option<std::os::unix::net::UnixStream> {
        self.stream.into_std().ok()
    }

    /// The next frame, without its NUL; wiped when dropped, since it may hold a secret. `None`:
    /// the connection ended, the frame is too long, or something follows it before it was answered.
    pub async fn next(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        // Small at first: a lookup is some 100 bytes, and there may be thousands of connections.
        // Growing copies into a fresh buffer and wipes the old one.
        let mut frame = Zeroizing::new(Vec::with_capacity(1024));
        let mut chunk = Zeroizing::new([0u8; 1024]);
        loop {
            let n = self.stream.read(&mut *chunk).await.ok().filter(|n| *n > 0)?;
            let new = chunk.get(..n)?;
            if frame.len() + n > MAX_REQUEST {
                return None;
            }
            if frame.capacity() < frame.len() + n {
                let mut larger = Zeroizing::new(Vec::with_capacity(frame.capacity() * 4));
                larger.extend_from_slice(&frame);
                frame = larger;
            }
            frame.extend_from_slice(new);
            match new.iter().position(|b| *b == 0) {
                Some(at) if at + 1 == n => {
                    frame.pop();
                    return Some(frame);
                }
                Some(_) => return None,
                None => {}
            }
        }
    }

    /// Sends one reply; `None` if the client does not take it.
    pub async fn send<T: Serialize>(&mut self, reply: &T) -> Option<()> {
        let mut bytes = serde_json::to_vec(reply).ok()?;
        bytes.push(0);
        if bytes.len() > MAX_REPLY {
            return None;
        }
        timeout(WRITE, self.stream.write_all(&bytes)).await.ok()?.ok()
    }

    /// Returns when the client does anything while it is not its turn: goes away, or talks.
    pub async fn disturbed(&mut self) {
        // An error is an end, too.
        let _ = self.stream.read(&mut [0]).await;
    }
}
