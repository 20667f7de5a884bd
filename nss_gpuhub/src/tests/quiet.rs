//! What the snapshot answers, it answers without a system call and without an allocation.
//!
//! In a child whose kernel lets it do nothing but report: any other system call ends it (seccomp(2)).
//! A lock that is taken by nobody makes none, so that there is none is shown elsewhere
//! (snapshot::reader: a refresh that never ends stops nobody).

use super::*;
use gpuhub_common::snapshot::Changes;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The system's allocator, and how often it was asked.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How a child ended that may do nothing but think.
#[derive(Debug, PartialEq, Eq)]
enum Quiet {
    /// With this result, and so many calls of the allocator.
    Thought(usize, u64),
    /// By a system call, this one.
    Called(i64),
    Crashed(c_int),
}

static REPORT: AtomicI32 = AtomicI32::new(-1);

/// Writes two words and ends the process, by the only system calls that are left to it.
fn report(what: i64, of_it: i64) -> ! {
    let words = [what, of_it];
    // SAFETY: write(2) reads the two words; exit_group(2) does not return.
    unsafe {
        libc::write(REPORT.load(Ordering::Relaxed), words.as_ptr().cast(), size_of_val(&words));
        libc::_exit(0)
    }
}

extern "C" fn forbidden(_: c_int, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: sigaction(2): of a SIGSYS the union is address (8 bytes), number, architecture; it
    // begins behind three ints and their padding.
    let number = unsafe { info.cast::<u8>().add(24).cast::<c_int>().read() };
    report(i64::from(number), -1)
}

/// Runs `thought` in a child with the kernel's help, all but stdio and the report's pipe closed.
fn quietly(thought: impl FnOnce() -> usize) -> Quiet {
    let mut pipe = [0; 2];
    // SAFETY: pipe(2), fork(2), waitpid(2), read(2) on memory of ours.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let child = libc::fork();
        if child == 0 {
            libc::alarm(20);
            REPORT.store(libc::dup2(pipe[1], 3), Ordering::Relaxed);
            libc::close_range(4, u32::MAX, 0);
            allow_only(&[libc::SYS_write, libc::SYS_exit_group]);
            let before = ASKED.load(Ordering::Relaxed);
            let result = thought();
            report(result as i64, (ASKED.load(Ordering::Relaxed) - before) as i64);
        }
        libc::close(pipe[1]);
        let (mut words, mut status) = ([0i64; 2], 0);
        let got = libc::read(pipe[0], words.as_mut_ptr().cast(), 16);
        libc::close(pipe[0]);
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        match (got, words) {
            (16, [number, -1]) => Quiet::Called(number),
            (16, [result, asked]) => Quiet::Thought(result as usize, asked as u64),
            _ => Quiet::Crashed(status),
        }
    }
}

/// Every system call but these is a SIGSYS from here on.
fn allow_only(allowed: &[i64]) {
    let line = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // The number is the first word of struct seccomp_data.
    let mut program = vec![line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (n, number) in allowed.iter().enumerate() {
        let to_the_end = (allowed.len() - n) as u8;
        program.push(line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_the_end, 0, *number as u32));
    }
    program.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_TRAP));
    program.push(line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: sigaction(2) with a handler that lives for ever; prctl(2) and seccomp(2) with the
    // program above, which they copy. The vector is leaked, since freeing it might call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = forbidden as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()), 0);
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        std::mem::forget(program);
        assert_eq!(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter), 0);
    }
}

/// A question that is ready to be asked, and the status that it must end with.
enum Question {
    UserByName(CString, usize),
    UserById(u32, usize),
    GroupByName(CString, usize),
    GroupById(u32, usize),
    GroupsOf(CString),
}

const ROOMY: usize = 1024;
const TIGHT: usize = 12;

/// Each kind of question with each kind of answer that the snapshot gives.
fn questions() -> Vec<(Question, c_int)> {
    let text = |t: &str| CString::new(t).unwrap();
    let mut all = Vec::new();
    for (name, status) in [
        ("alice", SUCCESS),
        ("bob", SUCCESS),
        ("carol", 0),
        ("alic", 0),
        ("root", 0),
        ("ubuntu", 0),
        ("", 0),
        ("a:b", 0),
        ("1000", 0),
        (&*"a".repeat(64), 0),
        (&*"a".repeat(300), 0),
    ] {
        all.push((Question::UserByName(text(name), ROOMY), status));
        all.push((Question::GroupsOf(text(name)), status));
    }
    for (name, status) in [("ml", SUCCESS), ("gpu users", SUCCESS), ("empty", SUCCESS), ("carol", 0)] {
        all.push((Question::GroupByName(text(name), ROOMY), status));
    }
    for name in ["sudo", "docker", "root", "video", "ubuntu", "", "a\n"] {
        all.push((Question::GroupByName(text(name), ROOMY), 0));
    }
    for uid in [20001, 20002] {
        all.push((Question::UserById(uid, ROOMY), SUCCESS));
    }
    for uid in [20009, 20003, 0, 1, 999, 1500, 61184, 65519, 65534, 65535, u32::MAX] {
        all.push((Question::UserById(uid, ROOMY), 0));
    }
    for gid in [20100, 20101, 20102] {
        all.push((Question::GroupById(gid, ROOMY), SUCCESS));
    }
    for gid in [20109, 20103, 0, 27, 45, 999, 1500, 61184, 65519, 65534, 65535, u32::MAX] {
        all.push((Question::GroupById(gid, ROOMY), 0));
    }
    all.push((Question::UserByName(text("alice"), TIGHT), TOO_SMALL.0));
    all.push((Question::UserById(20001, TIGHT), TOO_SMALL.0));
    all.push((Question::GroupByName(text("ml"), TIGHT), TOO_SMALL.0));
    all.push((Question::GroupById(20100, TIGHT), TOO_SMALL.0));
    all
}

/// Asks as glibc would, with memory that is there already.
fn ask(question: &Question, list: &mut *mut u32) -> c_int {
    let mut memory = [0 as c_char; ROOMY];
    let (buffer, mut errno) = (memory.as_mut_ptr(), 0);
    let mut user = std::mem::MaybeUninit::uninit();
    let mut group = std::mem::MaybeUninit::uninit();
    let errno = &raw mut errno;
    // SAFETY: as glibc would call them; the list has room for 64 ids.
    unsafe {
        match question {
            Question::UserByName(name, len) => {
                _nss_gpuhub_getpwnam_r(name.as_ptr(), user.as_mut_ptr(), buffer, *len, errno)
            }
            Question::UserById(uid, len) => _nss_gpuhub_getpwuid_r(*uid, user.as_mut_ptr(), buffer, *len, errno),
            Question::GroupByName(name, len) => {
                _nss_gpuhub_getgrnam_r(name.as_ptr(), group.as_mut_ptr(), buffer, *len, errno)
            }
            Question::GroupById(gid, len) => _nss_gpuhub_getgrgid_r(*gid, group.as_mut_ptr(), buffer, *len, errno),
            Question::GroupsOf(name) => {
                let (mut start, mut size) = (1, 64);
                let (start, size) = (&raw mut start, &raw mut size);
                _nss_gpuhub_initgroups_dyn(name.as_ptr(), 1, start, size, list, -1, errno)
            }
        }
    }
}

/// Asks everything some times. The number of the first question with the wrong answer, from 1; 0
/// is well.
fn ask_all(questions: &[(Question, c_int)], list: &mut *mut u32) -> usize {
    let wrong = |(question, status): &(Question, c_int)| ask(question, list) != *status;
    let asked = questions.iter().cycle().take(questions.len() * 20);
    asked.map(wrong).position(|wrong| wrong).map_or(0, |n| n % questions.len() + 1)
}

fn list_of_64() -> *mut u32 {
    // SAFETY: malloc(3), as glibc gives such a list.
    unsafe { libc::malloc(64 * 4).cast() }
}

#[test]
fn the_kernel_sees_a_call_and_the_allocator_is_counted() {
    // SAFETY: getppid(2) takes and keeps nothing.
    assert_eq!(quietly(|| unsafe { libc::getppid() as usize }), Quiet::Called(libc::SYS_getppid));
    assert_eq!(quietly(|| usize::from(std::fs::metadata("/").is_ok())), Quiet::Called(libc::SYS_statx));
    assert_eq!(quietly(|| usize::from(*std::hint::black_box(Box::new(7u8)))), Quiet::Thought(7, 2));
    assert_eq!(quietly(|| 5), Quiet::Thought(5, 0));
}

#[test]
fn hits_absences_and_refusals_take_no_system_call_and_no_memory() {
    let place = Place::new("quiet", Process::SELF);
    let published = place.publish(&content());
    let (questions, mut list) = (questions(), list_of_64());
    assert_eq!(ask_all(&questions, &mut list), 0, "the first maps the file");
    assert_eq!(quietly(|| ask_all(&questions, &mut list)), Quiet::Thought(0, 0));

    // Of those who are not found, none is vouched for any more: the same questions call, so that
    // it was indeed the snapshot that made the difference.
    published.push_valid_until(now_ms() - 1);
    let absent = [(Question::UserById(20009, ROOMY), 0)];
    assert!(matches!(quietly(|| ask_all(&absent, &mut list)), Quiet::Called(_)));
    let refused = [(Question::UserById(0, ROOMY), 0), (Question::GroupByName(CString::new("root").unwrap(), ROOMY), 0)];
    assert_eq!(quietly(|| ask_all(&refused, &mut list)), Quiet::Thought(0, 0), "root is never ours, whatever happens");
}

#[test]
fn nor_do_they_in_a_file_that_was_changed_or_replaced_before_or_for_those_who_may_not_be_login_daemons() {
    let place = Place::new("quiet-changed", NOBODY);
    let now = Content { login_programs: vec!["sshd".into()], ..content() };
    let before = Content { users: Vec::new(), groups: Vec::new(), ..now.clone() };
    let write = |content: &Content| {
        let bytes = encode(content, Room::ForChanges).unwrap();
        Published::write(place.nss.reader.path(), &bytes, now_ms() + VALIDITY_MS).unwrap()
    };
    let (questions, mut list) = (questions(), list_of_64());
    let first = write(&before);
    assert_eq!(getpwnam("alice"), Err(NOT_FOUND));
    let mut second = write(&before);
    first.mark_superseded();
    assert_eq!(getpwnam("alice"), Err(NOT_FOUND));
    let mut changes = Changes { generation: 2, ..Changes::default() };
    changes.users.extend(now.users.iter().map(|u| (u.passwd.name.clone(), Some(u.clone()))));
    changes.groups.extend(now.groups.iter().map(|g| (g.name.clone(), Some(g.clone()))));
    second.change(&changes).unwrap();
    // The old mapping is given back by a lookup of a later tick, and then all is quiet again.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(ask_all(&questions, &mut list), 0);
    assert_eq!(quietly(|| ask_all(&questions, &mut list)), Quiet::Thought(0, 0));
}
