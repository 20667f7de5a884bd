//! A snapshot that is replaced a hundred times a second, and changed in place a hundred times more,
//! under eight readers: no answer is wrong, torn, out of date or missing, and nothing leaks.
//!
//! GPUHUB_STRESS_SECONDS says for how long (4 if it is not set):
//!
//!     GPUHUB_STRESS_SECONDS=60 cargo test --release -p gpuhub-common stress -- --nocapture
#![allow(unsafe_code)] // fork(2)

use super::tests::{Chance, directory};
use super::*;
use crate::entry::{Group, Passwd};
use crate::local::LocalAccounts;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Users who are always there, and at what version each.
const CROWD: usize = 400;
/// Users who come and go.
const GUESTS: usize = 50;
const FIRST_UID: u32 = 100_000;
const FIRST_GUEST: u32 = 300_000;
/// The group that everybody of the crowd is in, and the first of those that she is in by her version.
const ALL: u32 = 70_000;

/// What the writer has said so far, for the readers to judge by.
struct Said {
    /// Versions that are certainly published: a lookup that begins now finds no older ones.
    floor: Vec<AtomicU64>,
    /// Versions that may be published already.
    ceiling: Vec<AtomicU64>,
    /// Of each guest, twice the number of her comings and goings (even: she is not there); plus 1 while
    /// that is changing.
    guests: Vec<AtomicU64>,
}

fn crowd_member(n: usize, version: u64) -> SnapshotUser {
    let (name, uid) = (format!("user{n}"), FIRST_UID + n as u32);
    let gecos = "v".repeat((version % 40) as usize) + &version.to_string();
    let home = format!("/home/{name}");
    let passwd = Passwd { name, uid, gid: uid, gecos, home, shell: "/bin/sh".into() };
    SnapshotUser { passwd, gids: gids_of(version) }
}

fn gids_of(version: u64) -> Vec<u32> {
    (ALL..=ALL + version as u32 % 7).collect()
}

fn guest(n: usize) -> SnapshotUser {
    let (name, uid) = (format!("guest{n}"), FIRST_GUEST + n as u32);
    let home = format!("/home/{name}");
    SnapshotUser {
        passwd: Passwd { gecos: String::new(), shell: "/bin/sh".into(), gid: uid, name, uid, home },
        gids: vec![],
    }
}

/// The one writer: what it publishes is in `said` before it is there, and after.
struct Writer<'s> {
    publisher: Publisher,
    said: &'s Said,
    generation: u64,
    chance: Chance,
    changes: u64,
    replacements: u64,
}

impl Writer<'_> {
    /// A new version of somebody, and a guest who comes or goes; in a whole new file, or in place if
    /// there is room.
    fn step(&mut self, whole: bool) {
        self.generation += 1;
        let (n, g) = (self.chance.below(CROWD), self.chance.below(GUESTS));
        let (version, comings) = (self.generation, self.said.guests[g].load(SeqCst));
        self.said.ceiling[n].store(version, SeqCst);
        self.said.guests[g].store(comings + 1, SeqCst);
        let comes = comings % 4 == 0;
        let changes = Changes {
            generation: version,
            users: [
                (format!("user{n}"), Some(crowd_member(n, version))),
                (format!("guest{g}"), comes.then(|| guest(g))),
            ]
            .into(),
            ..Changes::default()
        };
        if !whole && self.publisher.change(&changes).is_ok_and(|left_out| left_out.is_empty()) {
            self.changes += 1;
        } else {
            let bytes = encode(&self.content(g, comes), Room::ForChanges).unwrap();
            self.publisher.publish(&bytes, now_ms() + VALIDITY_MS).unwrap();
            self.replacements += 1;
        }
        self.said.floor[n].store(version, SeqCst);
        self.said.guests[g].store(comings + 2, SeqCst);
    }

    fn content(&self, changing: usize, comes: bool) -> Content {
        let crowd = self.said.ceiling.iter().enumerate().map(|(n, version)| crowd_member(n, version.load(SeqCst)));
        let there = |g: &usize| if *g == changing { comes } else { self.said.guests[*g].load(SeqCst) % 4 == 2 };
        let members = (0..CROWD).map(|n| format!("user{n}")).collect();
        Content {
            generation: self.generation,
            complete: true,
            login_programs: Vec::new(),
            users: crowd.chain((0..GUESTS).filter(there).map(guest)).collect(),
            groups: vec![Group { name: "all".into(), gid: ALL, members }],
        }
    }
}

/// What a reader was told.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    lookups: u64,
    /// From the file before: another thread was at the new one for so long that it was not waited for.
    late: u64,
    /// "Ask the broker", of somebody who is not there: for the same reason.
    unknown: u64,
}

/// One round of a reader's questions.
fn ask(reader: &Reader, said: &Said, chance: &mut Chance, told: &mut Told) {
    let n = chance.below(CROWD);
    let name = format!("user{n}");
    let floor = said.floor[n].load(SeqCst);
    let mut version = version_of(reader, n, &name, chance.below(2) == 0);
    told.late += u64::from(version < floor);
    let end = Instant::now() + Duration::from_secs(2);
    while version < floor {
        assert!(Instant::now() < end, "{name} stays at {version}, and was published at {floor}");
        version = version_of(reader, n, &name, true);
    }
    let mut gids = Vec::new();
    assert_eq!(reader.group_ids_of(name.as_bytes(), |ids| gids = ids.collect()), Answer::Found(()), "{name}");
    let ceiling = said.ceiling[n].load(SeqCst);
    assert!(version <= ceiling, "{name} is at {version}, and nobody said more than {ceiling}");
    if version == ceiling {
        assert_eq!(gids, gids_of(version), "{name}");
    }

    let g = chance.below(GUESTS);
    let before = said.guests[g].load(SeqCst);
    let mut memory = [MaybeUninit::uninit(); 1 << 14];
    let found = reader.user_by_name(format!("guest{g}").as_bytes(), &mut Out::new(&mut memory));
    let settled = before % 2 == 0 && said.guests[g].load(SeqCst) == before;
    match found {
        Answer::Found(entry) => assert_eq!(entry.uid, FIRST_GUEST + g as u32),
        Answer::Absent => assert!(!settled || before % 4 == 0, "guest{g} is missing"),
        Answer::Unknown => told.unknown += 1,
        other => panic!("guest{g}: {other:?}"),
    }
    if settled && before % 4 == 0 && matches!(found, Answer::Found(_)) {
        told.late += 1;
    }
    match reader.user_by_uid(900_000 + n as u32, &mut Out::new(&mut memory)) {
        Answer::Absent => {}
        Answer::Unknown => told.unknown += 1,
        other => panic!("nobody has this uid: {other:?}"),
    }
    let mut out = Out::new(&mut memory);
    let Answer::Found(all) = reader.group_by_gid(ALL, &mut out) else { panic!("the group is missing") };
    let mut members = all.members(out.bytes());
    assert!((0..CROWD).all(|n| members.next() == Some(format!("user{n}").as_bytes())), "torn");
    told.lookups += 5;
}

/// Somebody's version, from an entry that must be whole.
fn version_of(reader: &Reader, n: usize, name: &str, by_name: bool) -> u64 {
    let mut memory = [MaybeUninit::uninit(); 512];
    let mut out = Out::new(&mut memory);
    let found = match by_name {
        true => reader.user_by_name(name.as_bytes(), &mut out),
        false => reader.user_by_uid(FIRST_UID + n as u32, &mut out),
    };
    let Answer::Found(entry) = found else { panic!("{name} is missing: {found:?}") };
    let [its_name, gecos, home, shell] = entry.fields(out.bytes()).map(|f| String::from_utf8(f.to_vec()).unwrap());
    let version = gecos.trim_start_matches('v').parse().unwrap();
    let passwd = Passwd { name: its_name, uid: entry.uid, gid: entry.gid, gecos, home, shell };
    assert_eq!(passwd, crowd_member(n, version).passwd, "torn");
    version
}

/// A walk from end to end, as getpwent(3) does it, has everybody who stays, once.
fn walk(path: &Path) {
    let mapping = Mapping::open_with(path, nobody).unwrap();
    let (mut seen, mut memory, mut at) = (vec![0; CROWD], [MaybeUninit::uninit(); 512], 0);
    loop {
        let mut out = Out::new(&mut memory);
        match mapping.user_at(&mut at, &mut out) {
            Lookup::Found(Ok(entry)) => _ = seen.get_mut((entry.uid - FIRST_UID) as usize).map(|n| *n += 1),
            Lookup::Absent => break,
            other => panic!("{other:?}"),
        }
        at += 1;
    }
    assert!(seen.iter().all(|n| *n == 1), "{seen:?}");
}

/// A container without accounts of its own.
fn nobody() -> io::Result<LocalAccounts> {
    Ok(LocalAccounts::from_texts("root:x:0:0::/root:/bin/sh\n", "", ""))
}

fn in_a_child(f: impl FnOnce()) -> bool {
    // SAFETY: fork(2), alarm(2), _exit(2) take no pointers, waitpid(2) writes one int. The child
    // of many threads goes on to allocate: glibc's allocator is made ready for that.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(30);
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            libc::_exit(i32::from(!well));
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0) == child && status == 0
    }
}

/// What this process holds of the file: mappings, descriptors, and all its private memory in KiB.
fn held(path: &Path) -> (usize, usize, u64) {
    let (maps, path) = (std::fs::read_to_string("/proc/self/maps").unwrap(), path.to_str().unwrap());
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let of_it = links.filter(|l| std::fs::read_link(l.path()).is_ok_and(|to| to.to_string_lossy().contains(path)));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let private = status.lines().find_map(|l| l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    (maps.lines().filter(|l| l.contains(path)).count(), of_it.count(), private.unwrap())
}

#[test]
fn replaced_and_changed_a_hundred_times_a_second_under_eight_readers_that_fork() {
    let seconds = std::env::var("GPUHUB_STRESS_SECONDS").ok().and_then(|s| s.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(4));
    let dir = directory("stress");
    let path: &'static str = dir.join("snapshot").to_str().unwrap().to_owned().leak();
    let reader: &'static Reader = Box::leak(Box::new(Reader::with_local(path, nobody)));
    let path = Path::new(path);
    reader.register();
    let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let said = &Said { floor: words(CROWD), ceiling: words(CROWD), guests: words(GUESTS) };
    let (publisher, chance) = (Publisher::open(path), Chance(22));
    let mut writer = Writer { publisher, said, generation: 0, chance, changes: 0, replacements: 0 };
    writer.step(true);

    let stop = &AtomicBool::new(false);
    let (told, walks, forks, took, private) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|seed| {
                scope.spawn(move || {
                    let (mut told, mut chance) = (Told::default(), Chance(100 + seed));
                    while !stop.load(SeqCst) {
                        ask(reader, said, &mut chance, &mut told);
                    }
                    told
                })
            })
            .collect();
        let walking = scope.spawn(move || {
            let mut walks = 0;
            while !stop.load(SeqCst) {
                walk(path);
                walks += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            walks
        });
        let forking = scope.spawn(move || {
            let mut forks = 0;
            while !stop.load(SeqCst) {
                assert!(in_a_child(|| child_asks(reader, path)), "a child hung, failed, or kept what it should not");
                forks += 1;
            }
            forks
        });
        let (start, mut steps, mut private) = (Instant::now(), 0, None);
        while start.elapsed() < time && !readers.iter().any(|r| r.is_finished()) && !forking.is_finished() {
            steps += 1;
            writer.step(steps % 2 == 0);
            // What threads and allocator take at all they have taken after a second.
            if private.is_none() && start.elapsed() > Duration::from_secs(1) {
                private = Some(held(path).2);
            }
            std::thread::sleep((Duration::from_millis(5) * steps).saturating_sub(start.elapsed()));
        }
        let took = start.elapsed();
        let private = (private.unwrap_or(0), held(path).2);
        stop.store(true, SeqCst);
        let told: Vec<Told> = readers.into_iter().map(|r| r.join().unwrap()).collect();
        (told, walking.join().unwrap(), forking.join().unwrap(), took, private)
    });
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (lookups, late, unknown) = (sum(|t| t.lookups), sum(|t| t.late), sum(|t| t.unknown));
    // The last old mappings are given back by a lookup of a later tick of the clock.
    std::thread::sleep(Duration::from_millis(20));
    ask(reader, said, &mut Chance(1), &mut Told::default());
    let (maps, descriptors, _) = held(path);
    println!(
        "{} files and {} changes in {took:?}: {lookups} lookups by 8 readers, {late} late, {unknown} unknown; \
         {walks} walks, {forks} forks; private memory {} KiB after a second, {} KiB at the end",
        writer.replacements, writer.changes, private.0, private.1
    );
    assert_eq!((maps, descriptors), (2, 1), "the reader's and the publisher's mapping, the publisher's descriptor");
    assert!(private.1 < private.0 + 4096, "{private:?} KiB");
    // Gross bounds, for slow machines: that all of it took place. (Whoever is kept from running for longer
    // than a replacement takes is late, or asks the broker.)
    assert!((late + unknown) * 2 <= lookups, "{late} late, {unknown} unknown of {lookups}");
    let seconds = took.as_secs().max(1);
    assert!(writer.replacements >= seconds * 10 && writer.changes >= seconds * 10 && forks >= seconds && walks > 5);
    let _ = std::fs::remove_dir_all(&dir);
}

/// A child has no writer's word that is kept up to date; who is there must be there.
fn child_asks(reader: &Reader, path: &Path) {
    let end = Instant::now() + Duration::from_millis(30);
    let (mut memory, mut n) = ([MaybeUninit::uninit(); 1 << 14], 0);
    while Instant::now() < end {
        n = (n + 7) % CROWD;
        version_of(reader, n, &format!("user{n}"), n % 2 == 0);
        assert!(matches!(reader.group_by_gid(ALL, &mut Out::new(&mut memory)), Answer::Found(g) if g.members == CROWD));
    }
    // Its own mapping, the publisher's, the walk's, one that was being retired at the fork, and one
    // that is being replaced just now, on either side.
    assert!(held(path).0 <= 8);
}
