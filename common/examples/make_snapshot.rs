//! Publishes a snapshot of invented people, for trials and measurements without a broker:
//!
//!     make_snapshot PATH USERS GROUPS_PER_USER SECONDS
//!
//! User n is `u<n>` (five digits), uid 1,000,000,000 + n; groups are `g<n>` (four digits). There are
//! USERS / 10 + GROUPS_PER_USER groups, and user n is in GROUPS_PER_USER of them from number n / 10
//! on. The snapshot is complete, and kept fresh for so many seconds.

use gpuhub_common::entry::{Group, Passwd};
use gpuhub_common::snapshot::{Content, PUSH_EVERY_MS, Publisher, Room, SnapshotUser, VALIDITY_MS, encode, now_ms};
use std::path::Path;
use std::time::{Duration, Instant};

const FIRST_UID: u32 = 1_000_000_000;
const FIRST_GID: u32 = 1_500_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, users, groups, seconds] = arguments.as_slice() else {
        return Err("usage: make_snapshot PATH USERS GROUPS_PER_USER SECONDS".into());
    };
    let start = Instant::now();
    let content = content(users.parse()?, groups.parse()?);
    let made = start.elapsed();
    let bytes = encode(&content, Room::ForChanges)?;
    let encoded = start.elapsed();
    let mut publisher = Publisher::open(Path::new(path));
    publisher.publish(&bytes, now_ms() + VALIDITY_MS)?;
    println!(
        "{} bytes: {:?} to invent, {:?} to encode, {:?} to publish",
        bytes.len(),
        made,
        encoded - made,
        start.elapsed() - encoded
    );
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(PUSH_EVERY_MS).min(end - Instant::now()));
        publisher.push_valid_until(now_ms() + VALIDITY_MS);
    }
    Ok(())
}

fn content(users: u32, groups_per_user: u32) -> Content {
    let first_group = |user: u32| user / 10;
    let groups = (0..users / 10 + groups_per_user).map(|g| {
        let first = g.saturating_sub(groups_per_user.saturating_sub(1)) * 10;
        let members = (first..users.min((g + 1) * 10)).map(|n| format!("u{n:05}")).collect();
        Group { name: format!("g{g:04}"), gid: FIRST_GID + g, members }
    });
    let people = (0..users).map(|n| SnapshotUser {
        passwd: Passwd {
            name: format!("u{n:05}"),
            uid: FIRST_UID + n,
            gid: FIRST_GID + first_group(n),
            gecos: format!("User {n}"),
            home: format!("/home/u{n:05}"),
            shell: "/bin/bash".into(),
        },
        gids: (0..groups_per_user).map(|g| FIRST_GID + first_group(n) + g).collect(),
    });
    Content {
        generation: 1,
        complete: true,
        login_programs: Vec::new(),
        users: people.collect(),
        groups: groups.collect(),
    }
}
