//! What is asked of the broker, and what of its answers is believed.

use super::*;

#[test]
fn where_no_broker_was_ever_there_nobody_is() {
    let place = Place::new("never", NOBODY);
    std::fs::remove_dir_all(&place.dir).unwrap();
    assert_eq!(getpwnam("alice"), Err(NOT_FOUND));
    assert_eq!(getgrgid(20100).err(), Some(NOT_FOUND));
    assert_eq!(initgroups("alice", 1, 8, -1), Err(NOT_FOUND));
}

#[test]
fn a_process_that_had_a_snapshot_knows_that_it_does_not_know() {
    let place = Place::new("chroot", NOBODY);
    let published = place.publish(&content());
    assert_eq!(getpwnam("carol"), Err(NOT_FOUND));
    published.mark_superseded();
    std::fs::remove_dir_all(&place.dir).unwrap();
    assert_eq!(getpwnam("carol"), Err(UNAVAILABLE));
    assert_eq!(getpwnam("alice"), Ok(passwd("alice", 20001)));
}

#[test]
fn a_broker_that_is_down_is_asked_once_in_a_while() {
    let place = Place::new("down", NOBODY);
    assert_eq!(getpwnam("alice"), Err(UNAVAILABLE));
    let asked = place.broker(|_| Some(error("NoSuchEntry")));
    assert_eq!(getpwnam("alice"), Err(UNAVAILABLE), "not yet");
    assert!(asked.lock().unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(1010));
    assert_eq!(getpwnam("alice"), Err(NOT_FOUND));
}

#[test]
fn names_that_cannot_be_are_not_asked_for() {
    let place = Place::new("illegal", NOBODY);
    let asked = place.broker(|_| Some(error("Unavailable")));
    let long = "a".repeat(65);
    for name in ["", "a:b", "a\nb", "a/b", "-a", ".a", "1000", "a b", long.as_str(), &"a".repeat(70_000)] {
        assert_eq!(getpwnam(name), Err(NOT_FOUND), "{name:?}");
        assert_eq!(initgroups(name, 1, 8, -1), Err(NOT_FOUND), "{name:?}");
    }
    for name in ["sudo", "a\nb"] {
        assert_eq!(getgrnam(name).err(), Some(NOT_FOUND), "{name:?}");
    }
    for uid in [0, 999, 61184, 65534, u32::MAX] {
        assert_eq!(getpwuid(uid), Err(NOT_FOUND));
    }
    // Local here: a hanging broker must not delay root.
    for name in ["root", "ubuntu"] {
        assert_eq!(getpwnam(name), Err(NOT_FOUND));
        assert_eq!(initgroups(name, 1, 8, -1), Err(NOT_FOUND));
    }
    assert_eq!(getgrgid(0).err(), Some(NOT_FOUND));
    assert!(asked.lock().unwrap().is_empty(), "{asked:?}");
    assert_eq!(getpwnam("alice"), Err(UNAVAILABLE));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

/// Whose another login name is the broker alone knows, however complete the snapshot; what it answers is vetted.
#[test]
fn another_login_name_has_the_entry_of_whoever_logs_in_by_it() {
    let place = Place::new("alias", NOBODY);
    let _published = place.publish(&content());
    let asked = place.broker(|request| {
        Some(match request {
            r if r.contains("GetGroupIds") => r#"{"parameters":{"gids":[30001,30002]}}"#.into(),
            r if r.contains("root@corp") => user_reply(&passwd("root", 30001)),
            r if r.contains("low@corp") => user_reply(&passwd("low", 999)),
            r if r.contains("nobody@corp") => error("NoSuchEntry"),
            _ => user_reply(&passwd("zoe", 30001)),
        })
    });
    assert_eq!(getpwnam("zoe@corp.example"), Ok(passwd("zoe", 30001)));
    assert_eq!(initgroups("zoe@corp.example", 30001, 8, -1), Ok(vec![30001, 30002]));
    for name in ["nobody@corp.example", "root@corp.example", "low@corp.example"] {
        assert_eq!(getpwnam(name), Err(NOT_FOUND), "{name}");
    }
    let before = asked.lock().unwrap().len();
    assert_eq!(getpwnam("carol"), Err(NOT_FOUND), "a complete snapshot knows all other names");
    assert_eq!(asked.lock().unwrap().len(), before);
}

#[test]
fn what_the_broker_knows_is_found() {
    let place = Place::new("socket", NOBODY);
    let _published = place.publish(&Content { complete: false, users: Vec::new(), groups: Vec::new(), ..content() });
    let asked = place.broker(|request| {
        Some(match request {
            r if r.contains("GetUser") => user_reply(&passwd("zoe", 30001)),
            r if r.contains("GetGroupIds") => r#"{"parameters":{"gids":[0,27,44,45,1500,30001,30002]}}"#.into(),
            _ => group_reply("dune", 30002, "zoe"),
        })
    });
    assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)));
    assert_eq!(getpwnam_in(20, "zoe"), Err(TOO_SMALL));
    assert_eq!(getpwuid(30001), Ok(passwd("zoe", 30001)));
    assert_eq!(getgrnam("dune").map(|g| g.gid), Ok(30002));
    assert_eq!(getgrgid(30002).map(|g| g.members), Ok(vec!["zoe".into()]));
    assert_eq!(getgrnam_in(5, "dune").err(), Some(TOO_SMALL));
    assert_eq!(initgroups("zoe", 30001, 1, -1), Ok(vec![30001, 44, 30002]), "only what may be hers");
    assert!(asked.lock().unwrap().iter().all(|r| !r.contains(r#""login":true"#)));
}

#[test]
fn forged_answers_are_refused() {
    let place = Place::new("forged", NOBODY);
    let _published = place.publish(&Content { complete: false, users: Vec::new(), groups: Vec::new(), ..content() });
    let script = |r: &str| {
        let name = r.split(r#""name":""#).nth(1).and_then(|r| r.split('"').next());
        let mut user = passwd(name.unwrap_or("zoe"), 30001);
        match user.name.as_str() {
            "uid0" => user.uid = 0,
            "gid0" => user.gid = 0,
            "local" => user.uid = 1500,
            "newline" => user.gecos = "a\nb".into(),
            "nul" => return Some(user_reply(&user).replace("Alice", r"\u0000")),
            "home" => user.home = "/".into(),
            "other" => user.name = "someone".into(),
            "empty" => return Some("{}".into()),
            "both" => return Some(r#"{"parameters":{},"error":"io.gpuhub.Broker.NoSuchEntry"}"#.into()),
            "noise" => return Some("\u{1}\u{2}".into()),
            "unknown" => return Some(error("NoSuchEntry")),
            "away" => return Some(error("Unavailable")),
            "busy" => return Some(error("Busy")),
            "future" => return Some(error("VersionMismatch")),
            "asudo" => return Some(group_reply("sudo", 30002, "zoe")),
            "gid27" => return Some(group_reply("gid27", 27, "zoe")),
            "member" => return Some(group_reply("member", 30002, "a\nb")),
            _ => {}
        }
        Some(user_reply(&user))
    };
    let _asked = place.broker(script);
    for name in ["uid0", "gid0", "local", "newline", "nul", "home", "unknown"] {
        assert_eq!(getpwnam(name), Err(NOT_FOUND), "{name}");
    }
    for name in ["other", "empty", "both", "noise", "away", "busy", "future"] {
        assert_eq!(getpwnam(name), Err(UNAVAILABLE), "{name}");
    }
    assert_eq!(getpwuid(30002), Err(UNAVAILABLE), "another one's entry");
    for name in ["gid27", "member"] {
        assert_eq!(getgrnam(name).err(), Some(NOT_FOUND), "{name}");
    }
    assert_eq!(getgrnam("asudo").err(), Some(UNAVAILABLE));
    assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)), "and it is asked on");
}

#[test]
fn silence_ends_in_time() {
    let place = Place::new("silent", NOBODY);
    let asked = place.broker(|_| None);
    let start = Instant::now();
    assert_eq!(getpwnam("alice"), Err(UNAVAILABLE));
    let took = start.elapsed();
    assert!((250..1500).contains(&took.as_millis()), "{took:?}");
    assert_eq!(getpwnam("bob"), Err(UNAVAILABLE));
    assert_eq!(asked.lock().unwrap().len(), 1, "the second was not even asked");
}

#[test]
fn a_login_daemon_waits_longer_and_says_so() {
    let place = Place::new("login", SSHD);
    let asked = place.broker(|r| {
        std::thread::sleep(Duration::from_millis(500));
        Some(if r.contains(r#""login":true"#) { user_reply(&passwd("zoe", 30001)) } else { error("NoSuchEntry") })
    });
    assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)), "by the built-in list");
    assert_eq!(getpwuid(30001), Err(UNAVAILABLE), "not before a login");
    assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)), "whatever the breaker says");
    // A complete snapshot that names login programs does not settle who may log in; one that
    // names none does.
    let published = place.publish(&Content { login_programs: vec!["sshd".into()], ..content() });
    std::thread::sleep(Duration::from_millis(110));
    assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)));
    assert_eq!(getpwuid(30001), Err(NOT_FOUND));
    place.publish(&Content { login_programs: vec!["login".into()], ..content() });
    published.mark_superseded();
    assert_eq!(getpwnam("zoe"), Err(NOT_FOUND), "sshd is not in the list");
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[test]
fn nobody_else_is_a_login_daemon() {
    for process in [
        NOBODY,
        Process { is_root: || false, name: || named(b"sshd") },
        Process { is_root: || true, name: || named(b"useradd") },
        Process { is_root: || true, name: || named(b"sshd-keygen") },
    ] {
        let place = Place::new("nologin", process);
        let asked = place.broker(|_| Some(error("NoSuchEntry")));
        assert_eq!(getpwnam("zoe"), Err(NOT_FOUND));
        assert!(asked.lock().unwrap().iter().all(|r| r.contains(r#""login":false"#)));
    }
}

#[test]
fn the_broker_does_not_ask_itself() {
    let place = Place::new("self", Process { is_root: || false, name: || named(b"gpuhubd") });
    let asked = place.broker(|_| Some(error("NoSuchEntry")));
    assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
    assert_eq!(getgrgid(30001).err(), Some(UNAVAILABLE));
    assert!(asked.lock().unwrap().is_empty());
}

/// Returns 1 if the call came back though the thread was cancelled in it.
extern "C" fn look_up_and_return(nss: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `a_thread_cancelled_in_a_lookup` passes its instance.
    CURRENT.set(Some(unsafe { &*nss.cast::<Nss>() }));
    let end = getpwnam("alice");
    CURRENT.set(None);
    usize::from(end == Err(UNAVAILABLE)) as *mut libc::c_void
}

unsafe extern "C" {
    fn pthread_cancel(thread: libc::pthread_t) -> c_int;
}

#[test]
fn a_thread_cancelled_in_a_lookup() {
    let place = Place::new("cancel", NOBODY);
    let asked = place.broker(|_| None);
    let nss = std::ptr::from_ref(place.nss).cast_mut().cast();
    // SAFETY: pthread_create(3) and kin, with a function that lives for ever.
    unsafe {
        let mut thread = 0;
        assert_eq!(libc::pthread_create(&raw mut thread, std::ptr::null(), look_up_and_return, nss), 0);
        while asked.lock().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(pthread_cancel(thread), 0);
        let mut result = std::ptr::null_mut();
        assert_eq!(libc::pthread_join(thread, &raw mut result), 0);
        assert_eq!(result as usize, 1);
    }
}
