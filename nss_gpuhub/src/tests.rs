//! The entry points as glibc calls them, against snapshots and scripted brokers of the test's own.
#![allow(unsafe_code)] // calls through the C boundary

use crate::exports::*;
use crate::lookup::Nss;
use crate::process::{Name, Process};
use gpuhub_common::entry::{Group, Passwd};
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::snapshot::{Content, Published, Room, SnapshotUser, VALIDITY_MS, encode, now_ms};
use libc::{c_char, c_int, c_long};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

mod descriptors;
mod from_snapshot;
mod from_socket;
mod large;
mod never;
mod places;
mod quiet;
mod slow;

thread_local! {
    static CURRENT: Cell<Option<&'static Nss>> = const { Cell::new(None) };
}

/// The instance that entry points use in this thread.
pub(crate) fn current() -> Option<&'static Nss> {
    CURRENT.get()
}

const SUCCESS: c_int = 1;
const NOT_FOUND: (c_int, c_int) = (0, libc::ENOENT);
const UNAVAILABLE: (c_int, c_int) = (-1, libc::EAGAIN);
const TOO_SMALL: (c_int, c_int) = (-2, libc::ERANGE);

fn local() -> std::io::Result<LocalAccounts> {
    let passwd = "root:x:0:0::/root:/bin/sh\nubuntu:x:1500:1500::/home/ubuntu:/bin/sh\n";
    Ok(LocalAccounts::from_texts(passwd, "video:x:44:\nubuntu:x:1500:\n", "44\n"))
}

fn named(name: &[u8]) -> Name {
    let mut out = Name([0; 16]);
    out.0[..name.len()].copy_from_slice(name);
    out
}

const NOBODY: Process = Process { is_root: || false, name: || named(b"ls") };
const SSHD: Process = Process { is_root: || true, name: || named(b"sshd") };

/// A run directory of one test's own; this thread's entry points use it.
struct Place {
    dir: PathBuf,
    nss: &'static Nss,
}

impl Place {
    fn new(name: &str, process: Process) -> Self {
        let dir = std::env::temp_dir().join(format!("gpuhub-nss-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let path = |file: &str| -> &'static str { dir.join(file).to_str().unwrap().to_owned().leak() };
        let nss: &'static Nss = Box::leak(Box::new(Nss::with(path("sock"), path("snapshot"), local, process)));
        CURRENT.set(Some(nss));
        Self { nss, dir }
    }

    fn publish(&self, content: &Content) -> Published {
        Published::write(self.nss.reader.path(), &encode(content, Room::None).unwrap(), now_ms() + VALIDITY_MS).unwrap()
    }

    /// A broker that answers every request by `script`; none: it lets the client wait. What it
    /// was asked is in the list.
    fn broker(&self, script: impl Fn(&str) -> Option<String> + Send + 'static) -> Arc<Mutex<Vec<String>>> {
        let listener = UnixListener::bind(self.dir.join("sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut waiting = Vec::new();
            for stream in listener.incoming().flatten() {
                let mut request = Vec::new();
                let mut reader = BufReader::new(stream);
                reader.read_until(0, &mut request).unwrap();
                let request = String::from_utf8(request).unwrap();
                let reply = script(&request);
                log.lock().unwrap().push(request);
                match reply {
                    Some(text) => _ = reader.get_mut().write_all(format!("{text}\0").as_bytes()),
                    None => waiting.push(reader),
                }
            }
        });
        asked
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CURRENT.set(None);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn passwd(name: &str, uid: u32) -> Passwd {
    Passwd {
        name: name.into(),
        uid,
        gid: uid,
        gecos: "Alice Ä".into(),
        home: format!("/home/{name}"),
        shell: "/bin/bash".into(),
    }
}

fn content() -> Content {
    let group = |name: &str, gid, members: &[&str]| Group {
        name: name.into(),
        gid,
        members: members.iter().map(|m| (*m).to_owned()).collect(),
    };
    Content {
        generation: 1,
        complete: true,
        login_programs: Vec::new(),
        users: vec![
            SnapshotUser { passwd: passwd("alice", 20001), gids: vec![20001, 44, 20100, 20101, 45] },
            SnapshotUser { passwd: passwd("bob", 20002), gids: Vec::new() },
            // Local here, though not where the broker vetted it.
            SnapshotUser { passwd: passwd("ubuntu", 20003), gids: vec![20100] },
        ],
        groups: vec![
            group("empty", 20102, &[]),
            group("gpu users", 20101, &["alice"]),
            group("ml", 20100, &["alice", "bob", "x"]),
            group("sudo", 20103, &["alice"]),
        ],
    }
}

fn user_reply(user: &Passwd) -> String {
    format!(
        r#"{{"parameters":{{"user":{{"name":{:?},"uid":{},"gid":{},"gecos":{:?},"home":{:?},"shell":{:?}}}}}}}"#,
        user.name, user.uid, user.gid, user.gecos, user.home, user.shell
    )
}

fn group_reply(name: &str, gid: u32, member: &str) -> String {
    format!(r#"{{"parameters":{{"group":{{"name":{name:?},"gid":{gid},"members":[{member:?}]}}}}}}"#)
}

fn error(name: &str) -> String {
    format!(r#"{{"error":"io.gpuhub.Broker.{name}"}}"#)
}

/// Whether `f` comes to its end in a child of this process, without a panic and in time.
fn in_a_child(f: impl FnOnce()) -> bool {
    // SAFETY: fork(2), alarm(2), _exit(2) take no pointers, waitpid(2) writes one int. The child
    // of many threads goes on to allocate: glibc's allocator is made ready for that.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(20);
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            libc::_exit(i32::from(!well));
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0) == child && status == 0
    }
}

/// A call's end: the status and errno, or what was found.
type End<T> = Result<T, (c_int, c_int)>;

fn text(p: *const c_char) -> String {
    // SAFETY: the pointers that a successful call gave, into a buffer that is still there.
    unsafe { CStr::from_ptr(p) }.to_str().unwrap().to_owned()
}

/// Runs `call` with a buffer of `len` bytes that begins at an odd address, and sees to it that
/// nothing is written past it and that errno comes out right.
fn with_buffer<R, T>(
    len: usize,
    call: impl FnOnce(*mut R, *mut c_char, usize, *mut c_int) -> c_int,
    read: impl FnOnce(&R) -> T,
) -> End<T> {
    let mut memory = vec![0xa5u8; len + 65];
    let mut target = std::mem::MaybeUninit::<R>::uninit();
    // SAFETY: errno is this thread's own.
    let errno = unsafe { &mut *libc::__errno_location() };
    *errno = libc::ERANGE;
    let status = call(target.as_mut_ptr(), memory[1..].as_mut_ptr().cast(), len, errno);
    assert!(memory[0] == 0xa5 && memory[len + 1..].iter().all(|b| *b == 0xa5), "wrote outside");
    if status == SUCCESS {
        assert_eq!(*errno, libc::ERANGE, "as it was");
        // SAFETY: success says that the structure is filled, with pointers into `memory`.
        return Ok(read(unsafe { target.assume_init_ref() }));
    }
    Err((status, *errno))
}

fn read_passwd(p: &libc::passwd) -> Passwd {
    assert_eq!(text(p.pw_passwd), "*");
    Passwd {
        name: text(p.pw_name),
        uid: p.pw_uid,
        gid: p.pw_gid,
        gecos: text(p.pw_gecos),
        home: text(p.pw_dir),
        shell: text(p.pw_shell),
    }
}

fn read_group(g: &libc::group) -> Group {
    assert_eq!(text(g.gr_passwd), "*");
    assert_eq!(g.gr_mem.align_offset(align_of::<*mut c_char>()), 0);
    let mut members = Vec::new();
    let mut at = g.gr_mem;
    // SAFETY: grp.h: the array ends with a null pointer.
    while let Some(member) = unsafe { (*at).as_ref() } {
        members.push(text(member));
        // SAFETY: as above, this one was not null.
        at = unsafe { at.add(1) };
    }
    Group { name: text(g.gr_name), gid: g.gr_gid, members }
}

fn getpwnam_in(len: usize, name: &str) -> End<Passwd> {
    let name = CString::new(name).unwrap();
    // SAFETY: as glibc would call it; so are all below.
    with_buffer(len, |t, b, l, e| unsafe { _nss_gpuhub_getpwnam_r(name.as_ptr(), t, b, l, e) }, read_passwd)
}

fn getpwnam(name: &str) -> End<Passwd> {
    getpwnam_in(1024, name)
}

fn getpwuid(uid: u32) -> End<Passwd> {
    // SAFETY: see `getpwnam_in`.
    with_buffer(1024, |t, b, l, e| unsafe { _nss_gpuhub_getpwuid_r(uid, t, b, l, e) }, read_passwd)
}

fn getpwent_in(len: usize) -> End<Passwd> {
    // SAFETY: see `getpwnam_in`.
    with_buffer(len, |t, b, l, e| unsafe { _nss_gpuhub_getpwent_r(t, b, l, e) }, read_passwd)
}

fn getgrnam_in(len: usize, name: &str) -> End<Group> {
    let name = CString::new(name).unwrap();
    // SAFETY: see `getpwnam_in`.
    with_buffer(len, |t, b, l, e| unsafe { _nss_gpuhub_getgrnam_r(name.as_ptr(), t, b, l, e) }, read_group)
}

fn getgrnam(name: &str) -> End<Group> {
    getgrnam_in(1024, name)
}

fn getgrgid_in(len: usize, gid: u32) -> End<Group> {
    // SAFETY: see `getpwnam_in`.
    with_buffer(len, |t, b, l, e| unsafe { _nss_gpuhub_getgrgid_r(gid, t, b, l, e) }, read_group)
}

fn getgrgid(gid: u32) -> End<Group> {
    getgrgid_in(1024, gid)
}

fn getgrent_in(len: usize) -> End<Group> {
    // SAFETY: see `getpwnam_in`.
    with_buffer(len, |t, b, l, e| unsafe { _nss_gpuhub_getgrent_r(t, b, l, e) }, read_group)
}

fn getgrent() -> End<Group> {
    getgrent_in(1024)
}

/// The list after initgroups_dyn, which held `primary` in an array of `size`.
fn initgroups(name: &str, primary: u32, size: usize, limit: c_long) -> End<Vec<u32>> {
    let name = CString::new(name).unwrap();
    let (mut start, mut len, mut errno) = (1 as c_long, size as c_long, libc::ERANGE);
    // SAFETY: as glibc would: a malloc(3)ed list of `len` ids, `start` of them in use.
    unsafe {
        let mut list = libc::malloc(size * 4).cast::<u32>();
        list.write(primary);
        let status = _nss_gpuhub_initgroups_dyn(
            name.as_ptr(),
            primary,
            &raw mut start,
            &raw mut len,
            &raw mut list,
            limit,
            &raw mut errno,
        );
        assert!(start <= len && (limit <= 0 || len <= limit.max(size as c_long)));
        let out = std::slice::from_raw_parts(list, start as usize).to_vec();
        libc::free(list.cast());
        // glibc takes what is in the list whatever the status says.
        assert!(status == SUCCESS || out == [primary], "{out:?}");
        if status == SUCCESS { Ok(out) } else { Err((status, errno)) }
    }
}

#[test]
fn a_panic_is_caught() {
    let _place = Place::new("panic", NOBODY);
    let mut errno = libc::ERANGE;
    assert_eq!(guarded(&raw mut errno, |_| panic!("one of ours")), -1);
    assert_eq!(errno, libc::EAGAIN);
}
