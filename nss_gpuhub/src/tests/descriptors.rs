//! A process does with its descriptors and signals what it likes. Each in a child of its own.

use super::*;
use std::os::fd::AsRawFd;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A broker that knows zoe, and ends each conversation about others in its own way.
fn zoe_s_broker(place: &Place) -> Arc<Mutex<Vec<String>>> {
    place.broker(|request| {
        Some(match request {
            r if r.contains("zoe") => user_reply(&passwd("zoe", 30001)),
            r if r.contains("noise") => "\u{1}".into(),
            r if r.contains("cut") => "\0{".into(),
            _ => error("NoSuchEntry"),
        })
    })
}

fn limit_descriptors(to: u64) {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: setrlimit(2) reads the one structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn one_that_closes_them_all_loses_nothing() {
    let place = Place::new("closed", NOBODY);
    let _published = place.publish(&Content { complete: false, ..content() });
    let _asked = zoe_s_broker(&place);
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    assert!(in_a_child(|| {
        for _ in 0..3 {
            // SAFETY: nobody in this child uses a descriptor that it closes, not even a panic.
            unsafe { libc::close_range(0, u32::MAX, 0) };
            assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
            assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)));
            assert_eq!(initgroups("alice", 20001, 8, -1), Ok(vec![20001, 44, 20100, 20101]));
            assert_eq!(open_descriptors(), 1, "the directory's own");
        }
        let old = Published::open_existing(place.nss.reader.path()).unwrap();
        place.publish(&Content { generation: 2, ..content() });
        old.mark_superseded();
        // SAFETY: as above.
        unsafe { libc::close_range(0, u32::MAX, 0) };
        assert_eq!(getpwnam("bob"), Ok(passwd("bob", 20002)));
        assert_eq!(getpwnam("zoe"), Err(NOT_FOUND), "the new one is complete");
    }));
}

#[test]
fn one_that_has_none_left_is_told_that_it_cannot_be_known() {
    let place = Place::new("none-left", NOBODY);
    let _asked = zoe_s_broker(&place);
    let without_any = || {
        // The last one counted is the directory's own.
        limit_descriptors(open_descriptors() as u64 - 1);
        assert!(std::fs::File::open("/").is_err());
    };
    assert!(in_a_child(|| {
        // SAFETY: nobody in this child uses a descriptor that it closes.
        unsafe { libc::close_range(3, u32::MAX, 0) };
        without_any();
        assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
        assert_eq!(getgrgid(20100).err(), Some(UNAVAILABLE));
        assert_eq!(initgroups("zoe", 1, 8, -1), Err(UNAVAILABLE));
        assert_eq!(getpwent_in(1024), Err(UNAVAILABLE));
    }));
    let _published = place.publish(&Content { complete: false, ..content() });
    std::thread::sleep(Duration::from_millis(110));
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
    assert!(in_a_child(|| {
        // SAFETY: as above.
        unsafe { libc::close_range(3, u32::MAX, 0) };
        let old = Published::open_existing(place.nss.reader.path()).unwrap();
        without_any();
        assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
        old.mark_superseded();
        without_any();
        assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
        assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)), "who is mapped is found");
    }));
}

#[test]
fn one_with_more_than_select_can_take() {
    let place = Place::new("many-open", NOBODY);
    let _asked = zoe_s_broker(&place);
    assert!(in_a_child(|| {
        limit_descriptors(2048);
        let null = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: dup(2) takes and keeps a number.
        while !matches!(unsafe { libc::dup(null.as_raw_fd()) }, -1 | 1023..) {}
        assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)));
        assert_eq!(getpwnam("cut"), Err(UNAVAILABLE));
    }));
}

#[test]
fn none_is_kept_however_a_lookup_ends() {
    let place = Place::new("kept", NOBODY);
    let _asked = zoe_s_broker(&place);
    assert!(in_a_child(|| {
        let before = open_descriptors();
        for _ in 0..100 {
            assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)));
            assert_eq!(getpwnam_in(1, "zoe"), Err(TOO_SMALL));
            assert_eq!(getpwnam("nobody"), Err(NOT_FOUND));
            for name in ["noise", "cut"] {
                assert_eq!(getpwnam(name), Err(UNAVAILABLE));
            }
        }
        assert_eq!(open_descriptors(), before);
    }));
    // Nobody listens, and a broker that says nothing.
    std::fs::remove_file(place.dir.join("sock")).unwrap();
    drop(UnixListener::bind(place.dir.join("sock")).unwrap());
    assert!(in_a_child(|| {
        let before = open_descriptors();
        assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
        assert_eq!(open_descriptors(), before);
    }));
    std::fs::remove_file(place.dir.join("sock")).unwrap();
    let _silent = place.broker(|_| None);
    assert!(in_a_child(|| {
        let before = open_descriptors();
        assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
        assert_eq!(open_descriptors(), before);
    }));
}
