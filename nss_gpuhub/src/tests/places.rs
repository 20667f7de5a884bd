//! Lookups go on wherever a process goes: in children, in a chroot, as somebody else.

use super::*;

/// chroot(2) into an empty directory.
fn leave_for(dir: &std::path::Path) {
    let path = CString::new(dir.to_str().unwrap()).unwrap();
    // SAFETY: chroot(2) and chdir(2) read their texts.
    unsafe {
        assert_eq!(libc::chroot(path.as_ptr()), 0, "needs root");
        assert_eq!(libc::chdir(c"/".as_ptr()), 0);
    }
}

#[test]
fn in_a_chroot_without_a_run_directory() {
    let place = Place::new("in-chroot", NOBODY);
    let mut published = place.publish(&content());
    std::fs::create_dir(place.dir.join("empty")).unwrap();
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    assert!(in_a_child(|| {
        leave_for(&place.dir.join("empty"));
        assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
        assert_eq!(getgrgid(20100).map(|g| g.members.len()), Ok(3));
        assert_eq!(initgroups("alice", 20001, 8, -1), Ok(vec![20001, 44, 20100, 20101]));
        assert_eq!(getpwnam("carol"), Err(NOT_FOUND), "the broker outside vouches for it");
        // It cannot follow when the file is replaced outside: it knows that it does not know.
        published.push_valid_until(now_ms() - 1);
        assert_eq!(getpwnam("carol"), Err(UNAVAILABLE));
        assert_eq!(getpwnam("root"), Err(NOT_FOUND), "local, here as there");
        assert_eq!(getpwuid(20002), Ok(passwd("bob", 20002)));
        published.push_valid_until(now_ms() + VALIDITY_MS);
        assert_eq!(getpwnam("carol"), Err(NOT_FOUND));
    }));
    // What changes in the file is seen from inside, too.
    let mut bob_goes = gpuhub_common::snapshot::Changes { generation: 2, ..Default::default() };
    bob_goes.users.insert("bob".into(), None);
    published = {
        let bytes = encode(&content(), Room::ForChanges).unwrap();
        let new = Published::write(place.nss.reader.path(), &bytes, now_ms() + VALIDITY_MS).unwrap();
        published.mark_superseded();
        new
    };
    assert_eq!(getpwnam("bob"), Ok(passwd("bob", 20002)));
    assert!(in_a_child(|| {
        leave_for(&place.dir.join("empty"));
        assert_eq!(getpwnam("bob"), Ok(passwd("bob", 20002)));
        published.change(&bob_goes).unwrap();
        assert_eq!(getpwnam("bob"), Err(NOT_FOUND));
    }));
}

#[test]
fn as_somebody_else_who_follows_a_new_file_by_herself() {
    let place = Place::new("setuid", NOBODY);
    let old = place.publish(&content());
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    let _new = place.publish(&Content { generation: 2, users: Vec::new(), ..content() });
    old.mark_superseded();
    assert!(in_a_child(|| {
        // SAFETY: setgroups(2), setresgid(2) and setresuid(2) change this child alone.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0, "needs root");
            assert_eq!(libc::setresgid(20001, 20001, 20001), 0);
            assert_eq!(libc::setresuid(20001, 20001, 20001), 0);
        }
        assert!(std::fs::File::create(place.dir.join("mine")).is_err(), "she has no power here");
        assert_eq!(getpwnam("alice"), Err(NOT_FOUND), "the new file is read with her rights");
        assert_eq!(getgrnam("ml").map(|g| g.gid), Ok(20100));
    }));
}

#[test]
fn in_children_s_children_and_their_threads() {
    let place = Place::new("children", NOBODY);
    let _published = place.publish(&content());
    let nss = place.nss;
    nss.reader.register();
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    fn deeper(nss: &'static Nss, depth: u32) -> bool {
        in_a_child(|| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    std::thread::spawn(move || {
                        CURRENT.set(Some(nss));
                        for _ in 0..50 {
                            assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
                            assert_eq!(getpwnam("carol"), Err(NOT_FOUND));
                        }
                        CURRENT.set(None);
                    })
                })
                .collect();
            // While they are at it.
            assert!(depth == 0 || deeper(nss, depth - 1));
            threads.into_iter().for_each(|t| t.join().unwrap());
        })
    }
    assert!(deeper(nss, 4));
}

#[test]
fn in_a_child_that_shares_its_parent_s_memory() {
    let place = Place::new("vfork", NOBODY);
    let published = place.publish(&content());
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    extern "C" fn ask(_: *mut libc::c_void) -> c_int {
        i32::from(getpwnam("alice") != Ok(passwd("alice", 20001)))
    }
    let mut stack = vec![0u128; 1 << 14];
    let mut status = 0;
    // SAFETY: clone(2) as vfork(2) does it, on a stack of its own: the parent waits until the child
    // has ended, so that one of the two runs at a time; waitpid(2) writes one int.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let child = libc::clone(ask, top, flags, std::ptr::null_mut());
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
    }
    assert_eq!(status, 0);
    // It left nothing behind that would keep an old file.
    place.publish(&Content { generation: 2, ..content() });
    published.mark_superseded();
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(maps.lines().filter(|l| l.contains(place.nss.reader.path().to_str().unwrap())).count(), 1);
}
