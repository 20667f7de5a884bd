//! The reader against a publisher: what is believed, for how long, and while files change.

use super::*;
use crate::entry::{Group, Passwd};
use crate::snapshot::tests::directory;
use crate::snapshot::{Content, MAX_VALIDITY_MS, Published, Publisher, Room, SnapshotUser, VALIDITY_MS, encode};
use std::mem::MaybeUninit;
use std::path::PathBuf;

const LOCAL_PASSWD: &str = "root:x:0:0::/root:/bin/sh\nubuntu:x:1500:1500::/home/ubuntu:/bin/sh\n";
const LOCAL_GROUP: &str = "video:x:44:\nubuntu:x:1500:\n";

fn accounts() -> LocalAccounts {
    LocalAccounts::from_texts(LOCAL_PASSWD, LOCAL_GROUP, "44\n")
}

fn local() -> io::Result<LocalAccounts> {
    Ok(accounts())
}

fn passwd(name: &str, uid: u32, gecos: &str) -> Passwd {
    Passwd {
        name: name.into(),
        uid,
        gid: uid,
        gecos: gecos.into(),
        home: format!("/home/{name}"),
        shell: "/bin/sh".into(),
    }
}

/// Alice and her groups, as of a generation that her gecos tells.
fn content(generation: u64) -> Content {
    Content {
        generation,
        complete: true,
        login_programs: vec!["sshd".into()],
        users: vec![SnapshotUser {
            passwd: passwd("alice", 20001, &generation.to_string()),
            gids: vec![44, 45, 20100],
        }],
        groups: vec![Group { name: "ml".into(), gid: 20100, members: vec!["alice".into()] }],
    }
}

/// A directory of one test's own with a snapshot path, and a reader of it.
struct Place {
    dir: PathBuf,
    path: &'static str,
    reader: &'static Reader,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = directory(&format!("reader-{name}"));
        let path: &'static str = dir.join("snapshot").to_str().unwrap().to_owned().leak();
        Self { dir, path, reader: Box::leak(Box::new(Reader::with_local(path, local))) }
    }

    fn path(&self) -> &'static Path {
        Path::new(self.path)
    }

    fn publish(&self, content: &Content) -> Published {
        Published::write(self.path(), &encode(content, Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap()
    }

    /// The next lookup may open the path again.
    fn at_once(&self) {
        self.reader.retry_at.store(0, Ordering::Relaxed);
    }

    fn gecos_of(&self, name: &str) -> Answer<String> {
        gecos_of(self.reader, name)
    }

    fn maps(&self) -> usize {
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|l| l.contains(self.path)).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn gecos_of(reader: &Reader, name: &str) -> Answer<String> {
    let mut memory = [MaybeUninit::uninit(); 1024];
    let mut out = Out::new(&mut memory);
    match reader.user_by_name(name.as_bytes(), &mut out) {
        Answer::Found(e) => Answer::Found(String::from_utf8(e.fields(out.bytes())[1].to_vec()).unwrap()),
        Answer::Absent => Answer::Absent,
        Answer::Refused => Answer::Refused,
        Answer::TooSmall => Answer::TooSmall,
        Answer::Unknown => Answer::Unknown,
    }
}

#[test]
fn a_fresh_and_complete_snapshot_knows_all() {
    let place = Place::new("fresh");
    assert_eq!(place.gecos_of("alice"), Answer::Unknown);
    assert!(!place.reader.has_snapshot());
    let published = place.publish(&content(1));
    place.at_once();
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    assert_eq!(place.gecos_of("bob"), Answer::Absent);
    assert_eq!(place.reader.is_login_program(b"sshd"), Some(true));
    assert_eq!(place.reader.is_login_program(b"ssh"), Some(false));
    let mut gids = Vec::new();
    assert_eq!(place.reader.group_ids_of(b"alice", |ids| gids.extend(ids)), Answer::Found(()));
    assert_eq!(gids, [44, 20100], "45 is local, and root did not open it");
    assert_eq!((published.generation(), published.complete()), (1, true));
}

#[test]
fn an_incomplete_one_says_nothing_of_others() {
    let place = Place::new("incomplete");
    let _published = place.publish(&Content { complete: false, ..content(1) });
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    assert_eq!(place.gecos_of("bob"), Answer::Unknown);
}

#[test]
fn past_its_time_it_vouches_for_no_absence() {
    let place = Place::new("stale");
    let published = place.publish(&content(1));
    for (until, absent) in [
        (now_ms() + VALIDITY_MS, Answer::Absent),
        (now_ms() - 1, Answer::Unknown),
        (now_ms() + 2 * MAX_VALIDITY_MS, Answer::Unknown),
        (u64::MAX, Answer::Unknown),
        (0, Answer::Unknown),
        (now_ms() + VALIDITY_MS, Answer::Absent),
    ] {
        published.push_valid_until(until);
        assert_eq!(place.gecos_of("bob"), absent);
        assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    }
    assert_eq!(place.maps(), 2, "the reader's and the publisher's");
}

#[test]
fn a_new_file_is_seen_at_the_next_lookup() {
    let place = Place::new("new");
    let mut publisher = Publisher::open(place.path());
    for generation in 1..20 {
        publisher.publish(&encode(&content(generation), Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap();
        assert_eq!(place.gecos_of("alice"), Answer::Found(generation.to_string()));
    }
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(place.gecos_of("alice"), Answer::Found("19".into()));
    assert_eq!(place.maps(), 2, "the old ones are given back");
}

#[test]
fn one_that_was_replaced_while_it_was_opened_does_not_keep_the_next_one_waiting() {
    let place = Place::new("overtaken");
    let first = place.publish(&content(1));
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    // What is opened in the moment between two replacements.
    place.publish(&content(2)).mark_superseded();
    first.mark_superseded();
    assert!(place.reader.refresh(now_ms()));
    let _third = place.publish(&content(3));
    assert_eq!(place.gecos_of("alice"), Answer::Found("3".into()), "not after {RETRY_MS} ms");
    assert_eq!(place.gecos_of("bob"), Answer::Absent);
}

#[test]
fn a_crash_between_rename_and_mark_is_noticed_when_the_time_is_over() {
    let place = Place::new("crash");
    let old = place.publish(&content(1));
    assert_eq!(place.gecos_of("bob"), Answer::Absent);
    let mut next = content(2);
    next.users.push(SnapshotUser { passwd: passwd("bob", 20002, "new"), gids: Vec::new() });
    let _new = place.publish(&next);
    assert_eq!(place.gecos_of("bob"), Answer::Absent, "nobody told us yet");
    old.push_valid_until(now_ms() - 1);
    assert_eq!(place.gecos_of("bob"), Answer::Found("new".into()));
}

#[test]
fn a_file_that_is_gone_still_serves_those_it_held() {
    let place = Place::new("gone");
    place.publish(&content(1)).mark_superseded();
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    std::fs::remove_file(place.path()).unwrap();
    place.at_once();
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    assert_eq!(place.gecos_of("bob"), Answer::Unknown);
}

#[test]
fn a_file_that_cannot_be_read_ends_the_old_one() {
    let place = Place::new("bad");
    let old = place.publish(&content(1));
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    let mut bytes = encode(&content(2), Room::None).unwrap();
    bytes[8] = 99;
    assert!(Published::write(place.path(), &bytes, 0).is_err(), "not even written");
    std::fs::remove_file(place.path()).unwrap();
    std::fs::write(place.path(), &bytes).unwrap();
    old.mark_superseded();
    place.at_once();
    assert_eq!(place.gecos_of("alice"), Answer::Unknown);
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let place = Place::new("fifo");
    let path = std::ffi::CString::new(place.path).unwrap();
    // SAFETY: mkfifo(3) reads the one string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
    assert_eq!(place.gecos_of("alice"), Answer::Unknown);
    std::fs::remove_file(place.path()).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.path()).unwrap();
    place.at_once();
    assert_eq!(place.gecos_of("alice"), Answer::Unknown);
}

#[test]
fn opening_is_not_tried_at_every_lookup() {
    let place = Place::new("throttle");
    let before = now_ms();
    assert_eq!(place.gecos_of("alice"), Answer::Unknown);
    assert!(place.reader.retry_at.load(Ordering::Relaxed) >= before + RETRY_MS);
    let _published = place.publish(&content(1));
    loop {
        place.reader.retry_at.store(now_ms() + RETRY_MS, Ordering::Relaxed);
        let (start, answer) = (Instant::now(), place.gecos_of("alice"));
        if start.elapsed() < Duration::from_millis(RETRY_MS / 2) {
            break assert_eq!(answer, Answer::Unknown, "tried just now");
        }
    }
    std::thread::sleep(Duration::from_millis(RETRY_MS + 10));
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
}

#[test]
fn a_restarted_broker_takes_over_what_it_finds() {
    let place = Place::new("takeover");
    drop(place.publish(&content(7)));
    std::fs::write(place.dir.join(".snapshot.new"), b"left by a crash").unwrap();
    let mut publisher = Publisher::open(place.path());
    assert!(!place.dir.join(".snapshot.new").exists());
    assert_eq!(publisher.current().map(Published::generation), Some(7));
    publisher.push_valid_until(now_ms() - 1);
    assert_eq!(place.gecos_of("bob"), Answer::Unknown);
    publisher.push_valid_until(now_ms() + VALIDITY_MS);
    assert_eq!(place.gecos_of("bob"), Answer::Absent);
    publisher.publish(&encode(&content(8), Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap();
    assert_eq!(place.gecos_of("alice"), Answer::Found("8".into()));
    drop(publisher);
    std::fs::write(place.path(), b"rubbish").unwrap();
    assert!(Publisher::open(place.path()).current().is_none());
}

#[test]
fn forged_entries_are_refused() {
    let place = Place::new("forged");
    let user = |name: &str, uid, gid| SnapshotUser { passwd: Passwd { gid, ..passwd(name, uid, "") }, gids: vec![] };
    let group = |name: &str, gid, member: &str| Group { name: name.into(), gid, members: vec![member.into()] };
    // What the encoder would not write is put in afterwards, byte for byte: in the records, not
    // where the table has the uid as a key (at 4, 12, …).
    let forged = Content {
        users: vec![
            user("root", 20001, 20001),
            user("ubuntu", 20002, 20002),
            user("mallory", 1500, 20003),
            user("marvin", 20004, 44),
            user("mary", 20005, 45),
            user("toor", 0x4d4d_4d4d, 20006),
            user("nl.x", 20007, 20007),
        ],
        groups: vec![
            group("sudo", 20100, "a"),
            group("ubuntu", 20101, "a"),
            group("ml", 27, "a"),
            group("gpu", 20102, "nl.y"),
        ],
        ..content(1)
    };
    let mut bytes = encode(&forged, Room::None).unwrap();
    for (from, to) in [(&b"MMMM"[..], &b"\0\0\0\0"[..]), (b"nl.x\0", b"nl\nx\0"), (b"nl.y\0", b"nl\ny\0")] {
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from) && (from != b"MMMM" || at % 8 == 0) {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
    }
    let _published = Published::write(place.path(), &bytes, now_ms() + VALIDITY_MS).unwrap();
    assert_eq!(place.gecos_of("marvin"), Answer::Found(String::new()), "root opened gid 44");
    for name in ["root", "ubuntu", "mallory", "mary", "toor", "nl\nx"] {
        assert_eq!(place.gecos_of(name), Answer::Refused, "{name}");
    }
    assert_eq!(place.gecos_of("nl.x"), Answer::Absent);
    let mut memory = [MaybeUninit::uninit(); 1024];
    let mut out = Out::new(&mut memory);
    for uid in [0, 1500, 20001, 20002, 20005, 20007] {
        assert_eq!(place.reader.user_by_uid(uid, &mut out), Answer::Refused, "{uid}");
    }
    for name in ["sudo", "ubuntu", "ml", "gpu"] {
        assert_eq!(place.reader.group_by_name(name.as_bytes(), &mut out), Answer::Refused, "{name}");
    }
    for gid in [0, 27, 1500, 20100, 20101, 20102] {
        assert_eq!(place.reader.group_by_gid(gid, &mut out), Answer::Refused, "{gid}");
    }
    for name in ["root", "toor", "mallory", "mary"] {
        assert_eq!(place.reader.group_ids_of(name.as_bytes(), |_| panic!("{name}")), Answer::Refused);
    }
}

#[test]
fn small_buffers() {
    let place = Place::new("small");
    let _published = place.publish(&content(1));
    let mut memory = [MaybeUninit::uninit(); 10];
    let mut out = Out::new(&mut memory);
    assert_eq!(place.reader.user_by_uid(20001, &mut out), Answer::TooSmall);
    assert_eq!(place.reader.group_by_gid(20100, &mut out), Answer::Found(out_group()));
    let mut out = Out::new(&mut []);
    assert_eq!(place.reader.group_by_name(b"ml", &mut out), Answer::TooSmall);
}

fn out_group() -> GroupEntry {
    GroupEntry { gid: 20100, name_len: 2, members: 1, members_len: 6 }
}

#[test]
fn a_broker_that_writes_while_we_read() {
    let place = Place::new("captured");
    let bytes = encode(&content(1), Room::None).unwrap();
    let _published = Published::write(place.path(), &bytes, now_ms() + VALIDITY_MS).unwrap();
    let mapping = Mapping::open_with(place.path(), local).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt;
            let file = std::fs::OpenOptions::new().write(true).open(place.path()).unwrap();
            let mut chance = crate::snapshot::tests::Chance(14);
            while !stop.load(Ordering::Relaxed) {
                // Good bytes come back now and then, or nothing would be found any more.
                let at = chance.below(bytes.len());
                let byte = if chance.below(8) == 0 { chance.next() as u8 } else { bytes[at] };
                file.write_all_at(&[byte], at as u64).unwrap();
                if chance.below(512) == 0 {
                    file.write_all_at(&bytes, 0).unwrap();
                }
            }
        });
        let start = Instant::now();
        let mut found = 0u32;
        while start.elapsed() < Duration::from_secs(1) {
            let mut memory = [MaybeUninit::uninit(); 1024];
            let mut out = Out::new(&mut memory);
            if let Lookup::Found(Ok(e)) = mapping.user_by_name(b"alice", &mut out) {
                let [name, gecos, home, shell] = e.fields(out.bytes()).map(|f| String::from_utf8_lossy(f).into_owned());
                assert_eq!(name, "alice");
                let passwd = Passwd { name, uid: e.uid, gid: e.gid, gecos, home, shell };
                assert_eq!(passwd.vet(&accounts()), Ok(()));
                found += 1;
            }
            if let Lookup::Found(Ok(e)) = mapping.group_by_gid(20100, &mut out) {
                let utf8 = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                let members = e.members(out.bytes()).map(utf8).collect();
                assert_eq!(Group { name: utf8(e.name(out.bytes())), gid: e.gid, members }.vet(&accounts()), Ok(()));
            }
            mapping.group_ids_of(b"alice", |mut gids| {
                assert!(gids.all(|gid| crate::entry::vet_membership(gid, &accounts()).is_ok()));
            });
        }
        stop.store(true, Ordering::Relaxed);
        assert!(found > 0);
    });
}

/// Replaces the file some hundred times a second while others read, for so long.
fn replace_for(publisher: &mut Publisher, time: Duration) -> u64 {
    let (start, mut generation) = (Instant::now(), 1);
    while start.elapsed() < time {
        generation += 1;
        publisher.publish(&encode(&content(generation), Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    generation
}

#[test]
fn a_reader_that_never_ends_costs_no_memory() {
    let place = Place::new("stuck");
    let mut publisher = Publisher::open(place.path());
    publisher.publish(&encode(&content(1), Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap();
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    let stuck = place.reader.pin();
    for generation in 2..200 {
        publisher.publish(&encode(&content(generation), Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap();
        assert_eq!(place.gecos_of("alice"), Answer::Found(generation.to_string()));
    }
    assert!(place.maps() <= MAX_RETIRED + 2, "{}", place.maps());
    let mut memory = [MaybeUninit::uninit(); 64];
    let old = stuck.mapping().unwrap();
    assert_eq!(old.user_by_name(b"alice", &mut Out::new(&mut memory)), Lookup::Absent);
    assert!(!old.view().is_fresh(now_ms()));
    drop(stuck);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(place.gecos_of("alice"), Answer::Found("199".into()));
    assert_eq!(place.maps(), 2);
}

#[test]
fn a_walk_that_the_file_was_taken_from_counts_for_nothing() {
    let place = Place::new("halfway");
    let mut many = content(1);
    many.users[0].gids = (70_000..70_100).collect();
    let _published = place.publish(&many);
    let mapping = std::mem::ManuallyDrop::new(Mapping::open_with(place.path(), local).unwrap());
    let mut taken = Vec::new();
    let outcome = mapping.group_ids_of(b"alice", |mut gids| {
        taken.extend(gids.by_ref().take(10));
        mapping.abandon();
        taken.extend(gids);
    });
    assert_eq!((taken.len(), outcome), (10, Lookup::Corrupt), "ten of her groups are not her groups");
    assert!(mapping.is_abandoned());
    // Through a reader the same begins anew, in the file that has its place.
    let (mut taken, mut walks) = (Vec::new(), 0);
    let answer = place.reader.group_ids_of(b"alice", |mut gids| {
        (walks, taken) = (walks + 1, gids.by_ref().take(10).collect());
        if walks == 1 {
            place.publish(&Content { generation: 2, ..many.clone() });
            place.reader.pin().mapping().unwrap().abandon();
        }
        taken.extend(gids);
    });
    assert_eq!((answer, walks), (Answer::Found(()), 2));
    assert_eq!(taken, (70_000..70_100).collect::<Vec<_>>());
}

#[test]
fn a_fork_in_the_middle_of_a_lookup_leaves_no_count_behind() {
    let place = Place::new("midfork");
    let _published = place.publish(&content(1));
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    // As in the child of a signal handler that forked.
    let interrupted = place.reader.pin();
    place.reader.after_fork();
    drop(interrupted);
    assert!(place.reader.shards.iter().all(|shard| shard.0.load(Ordering::Relaxed) == 0));
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    assert!(place.reader.shards.iter().all(|shard| shard.0.load(Ordering::Relaxed) == 0));
}

#[test]
fn where_the_local_accounts_cannot_be_read_nobody_is_given() {
    static READABLE: AtomicBool = AtomicBool::new(false);
    let place = Place::new("unreadable");
    let reader = Reader::with_local(place.path, || match READABLE.load(Ordering::Relaxed) {
        true => local(),
        false => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    });
    let _published = place.publish(&content(1));
    assert_eq!(gecos_of(&reader, "alice"), Answer::Unknown);
    assert_eq!(place.maps(), 1, "the publisher's");
    READABLE.store(true, Ordering::Relaxed);
    reader.retry_at.store(0, Ordering::Relaxed);
    assert_eq!(gecos_of(&reader, "alice"), Answer::Found("1".into()));
}

#[test]
fn a_refresh_that_never_ends_stops_nobody() {
    let place = Place::new("locked");
    let published = place.publish(&content(1));
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    let _held = place.reader.try_lock().unwrap();
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
        assert_eq!(place.gecos_of("bob"), Answer::Absent);
    }
    assert!(start.elapsed() < MAX_WAIT * 1000, "nobody waits for a lock that a hit does not take");
    // Not fresh any more: now the one who holds the lock is waited for, but not for ever.
    published.mark_superseded();
    assert_eq!(place.gecos_of("alice"), Answer::Found("1".into()));
    assert_eq!(place.gecos_of("bob"), Answer::Unknown);
}

#[test]
fn children_of_many_threads_read_and_replace() {
    let place = Place::new("fork");
    let mut publisher = Publisher::open(place.path());
    publisher.publish(&encode(&content(1), Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap();
    place.reader.register();
    let stop = AtomicBool::new(false);
    let reader = place.reader;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(matches!(gecos_of(reader, "alice"), Answer::Found(_)));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                replace_for(&mut publisher, Duration::from_millis(20));
            }
        });
        let failed = (0..40).filter(|_| !in_a_child(|| child_is_well(&place))).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "children that hung or failed");
    });
}

/// Reads for a while as the parent's publisher goes on; true if nothing was missing or kept.
fn child_is_well(place: &Place) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(40) {
        if !matches!(gecos_of(place.reader, "alice"), Answer::Found(_)) {
            return false;
        }
    }
    // Its own mapping and the parent's publisher's, one that was being retired at the fork and
    // one being replaced just now, on either side.
    place.maps() <= 8
}

fn in_a_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: fork(2), alarm(2), _exit(2) take no pointers, waitpid(2) writes one int. The child
    // of many threads goes on to allocate: glibc's allocator is made ready for that.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(10);
            libc::_exit(if f() { 0 } else { 1 });
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0) == child && status == 0
    }
}
