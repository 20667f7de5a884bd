//! Brokers that do not answer as they should, and signals in between: every lookup ends in its time.

use super::*;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// "Unavailable" after the patience of a lookup, with much time to spare for a busy machine.
fn ends_in_time(name: &str) {
    let start = Instant::now();
    assert_eq!(getpwnam(name), Err(UNAVAILABLE));
    let took = start.elapsed().as_millis();
    assert!((250..2500).contains(&took), "{took} ms");
}

/// A broker's socket whose one connection is left to `serve`.
fn serving(place: &Place, serve: impl FnOnce(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(place.dir.join("sock")).unwrap();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
}

/// A socket at the broker's place that nobody accepts from, with no room for another connection.
fn full_backlog(place: &Place) -> (UnixListener, Vec<UnixStream>) {
    // SAFETY: socket(2), bind(2) and listen(2) on an address of ours.
    let listener = unsafe {
        let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0));
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        let path = place.dir.join("sock");
        for (to, from) in address.sun_path.iter_mut().zip(path.to_str().unwrap().bytes()) {
            *to = from as c_char;
        }
        let len = size_of_val(&address) as u32;
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len), 0);
        assert_eq!(libc::listen(socket.as_raw_fd(), 0), 0);
        UnixListener::from(socket)
    };
    // A backlog of 0 takes one.
    let waiting = vec![UnixStream::connect(place.dir.join("sock")).unwrap()];
    (listener, waiting)
}

#[test]
fn a_full_backlog() {
    let place = Place::new("backlog", NOBODY);
    let (_listener, _waiting) = full_backlog(&place);
    ends_in_time("zoe");
    let start = Instant::now();
    assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
    assert!(start.elapsed() < Duration::from_millis(250), "the breaker");
}

#[test]
fn a_backlog_that_is_full_for_a_moment() {
    let place = Place::new("backlog-moment", SSHD);
    let (listener, waiting) = full_backlog(&place);
    let broker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        drop((listener.accept().unwrap(), waiting));
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(format!("{}\0", user_reply(&passwd("zoe", 30001))).as_bytes());
    });
    assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)), "a login is worth five seconds");
    broker.join().unwrap();
}

#[test]
fn a_byte_now_and_then() {
    let place = Place::new("trickle", NOBODY);
    serving(&place, |mut stream| {
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    ends_in_time("zoe");
}

#[test]
fn an_answer_without_an_end() {
    let place = Place::new("endless", NOBODY);
    serving(&place, |mut stream| while stream.write_all(&[b' '; 65536]).is_ok() {});
    let start = Instant::now();
    assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
    assert!(start.elapsed() < Duration::from_millis(2500));
}

#[test]
fn a_broker_that_hangs_up_kills_nobody() {
    let place = Place::new("hangup", NOBODY);
    let listener = UnixListener::bind(place.dir.join("sock")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    assert!(in_a_child(|| {
        // SAFETY: signal(2): as a program has it that never heard of SIGPIPE; the tests ignore it.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        for _ in 0..200 {
            assert_eq!(getpwnam("zoe"), Err(UNAVAILABLE));
        }
    }));
}

extern "C" fn nothing(_: c_int) {}

/// A signal every millisecond that interrupts whatever it meets (no SA_RESTART).
fn interrupted() {
    let tick = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: sigaction(2) with a handler that lives for ever, setitimer(2) on a structure of ours.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_neither_end_a_lookup_nor_prolong_it() {
    let place = Place::new("signals", NOBODY);
    let _asked = place.broker(|request| {
        std::thread::sleep(Duration::from_millis(50));
        request.contains("zoe").then(|| user_reply(&passwd("zoe", 30001)))
    });
    assert!(in_a_child(|| {
        interrupted();
        assert_eq!(getpwnam("zoe"), Ok(passwd("zoe", 30001)));
        ends_in_time("silence");
    }));
    std::fs::remove_file(place.dir.join("sock")).unwrap();
    let (_listener, _waiting) = full_backlog(&place);
    assert!(in_a_child(|| {
        interrupted();
        ends_in_time("backlog");
    }));
}
