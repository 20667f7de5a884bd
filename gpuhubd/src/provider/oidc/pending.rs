//! How many device logins may wait for a person at once (CVE-2026-104046: requests that nobody
//! finished were never freed).
//!
//! A login holds a [`Slot`]; dropping it, however the login ends, gives the place back. The caps
//! are nested so that one source can use up neither a name nor the whole: a stranger's flood
//! blocks nobody but the stranger. Strangers at many addresses use up the whole, and then other
//! logins still have places (`server::MOST_LOGINS`).

use crate::model::{Denied, Reason};
use gpuhub_common::name::UserName;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The caps.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Of one name from one source: a second terminal, a third.
    pub name_and_source: u32,
    /// From one source: a class behind one address.
    pub source: u32,
    /// Of one name, from wherever.
    pub name: u32,
    /// In all. One that waits costs some 20 KB, its connection, and every few seconds a poll on a
    /// connection that others use, too (`make bench-oidc`).
    pub all: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self { name_and_source: 3, source: 20, name: 20, all: 1500 }
    }
}

/// The logins that wait.
#[derive(Debug)]
pub struct Pending {
    caps: Caps,
    counts: Mutex<HashMap<Key, u32>>,
}

/// A login's place.
#[derive(Debug)]
pub struct Slot {
    pending: Arc<Pending>,
    keys: [Key; 4],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Both(UserName, String),
    Source(String),
    Name(UserName),
    All,
}

impl Pending {
    /// None yet.
    pub fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, counts: Mutex::default() })
    }

    /// A place, or [`Reason::Busy`].
    pub fn enter(self: &Arc<Self>, name: &UserName, source: Option<&str>) -> Result<Slot, Denied> {
        let source = block(source.unwrap_or_default());
        let keys = [Key::Both(name.clone(), source.clone()), Key::Source(source), Key::Name(name.clone()), Key::All];
        let mut counts = self.counts();
        for key in &keys {
            let (cap, whose) = match key {
                Key::Both(..) => (self.caps.name_and_source, "of this name from this source"),
                Key::Source(_) => (self.caps.source, "from this source"),
                Key::Name(_) => (self.caps.name, "of this name"),
                Key::All => (self.caps.all, "in all"),
            };
            if counts.get(key).is_some_and(|n| *n >= cap) {
                return Err(Denied::because(Reason::Busy, format!("{cap} device logins {whose} wait already")));
            }
        }
        for key in &keys {
            *counts.entry(key.clone()).or_default() += 1;
        }
        drop(counts);
        Ok(Slot { pending: self.clone(), keys })
    }

    /// Never held across an await. A panic elsewhere leaves the counts as they are, so they serve on.
    fn counts(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.pending.counts();
        for key in &self.keys {
            match counts.get_mut(key) {
                Some(n) if *n > 1 => *n -= 1,
                _ => drop(counts.remove(key)),
            }
        }
    }
}

/// The source as one who can choose addresses must be counted: an IPv6 host has a /64 of them.
fn block(source: &str) -> String {
    match source.parse().map(|ip: IpAddr| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
        }
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Err(_) => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        UserName::new(text).unwrap()
    }

    #[test]
    fn each_cap_holds_and_nothing_is_left_behind() {
        let pending = Pending::new(Caps { name_and_source: 2, source: 4, name: 3, all: 6 });
        let enter = |n: &str, s: &str| pending.enter(&name(n), Some(s));
        let mut slots = vec![enter("alice", "10.0.0.1").unwrap(), enter("alice", "10.0.0.1").unwrap()];
        assert_eq!(enter("alice", "10.0.0.1").unwrap_err().reason, Reason::Busy, "name and source");
        slots.push(enter("alice", "10.0.0.2").unwrap());
        assert_eq!(enter("alice", "10.0.0.3").unwrap_err().reason, Reason::Busy, "name");
        slots.push(enter("bob", "10.0.0.1").unwrap());
        slots.push(enter("carol", "10.0.0.1").unwrap());
        assert_eq!(enter("dave", "10.0.0.1").unwrap_err().reason, Reason::Busy, "source");
        slots.push(enter("dave", "10.0.0.4").unwrap());
        assert_eq!(enter("erin", "10.0.0.5").unwrap_err().reason, Reason::Busy, "all");
        slots.pop();
        slots.push(enter("erin", "10.0.0.5").unwrap());
        slots.clear();
        assert!(pending.counts().is_empty());
    }

    #[test]
    fn one_source_blocks_nobody_else() {
        let pending = Pending::new(Caps::default());
        let flood: Vec<_> = (0..200).filter_map(|_| pending.enter(&name("alice"), Some("192.0.2.66")).ok()).collect();
        assert_eq!(flood.len(), 3);
        let more: Vec<_> =
            (0..200).filter_map(|n| pending.enter(&name(&format!("u{n}")), Some("192.0.2.66")).ok()).collect();
        assert_eq!(flood.len() + more.len(), 20);
        assert!(pending.enter(&name("alice"), Some("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_thousand_people_may_be_at_their_browsers() {
        let pending = Pending::new(Caps::default());
        let enter = |n: u32| pending.enter(&name(&format!("u{n}")), Some(&format!("192.0.2.{}", n / 10)));
        let slots: Vec<_> = (0..1000).map(|n| enter(n).unwrap()).collect();
        assert_eq!(slots.len(), 1000);
    }

    #[test]
    fn an_ipv6_host_is_one_source() {
        assert_eq!(block("2001:db8:1:2:3:4:5:6"), block("2001:db8:1:2:ffff::1"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_eq!(block("host.example"), "host.example");
    }
}
