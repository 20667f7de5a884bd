//! Where the lines go: a thread of its own, behind a bounded queue.

use super::{Event, Outcome};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use syslog::{Facility, LogFormat, Severity};

/// How long a line waits for a syslogd that is being restarted, before it goes to stderr.
const RESTART: Duration = Duration::from_secs(3);

/// The sink. Cheap to clone; the thread ends when the last clone is dropped and the queue empty.
#[derive(Debug, Clone)]
pub struct Audit {
    queue: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

enum Job {
    Write(Box<Event>),
    Flush(SyncSender<()>),
}

impl Audit {
    /// Starts the thread. `socket`: usually `/dev/log`; `host`: for the JSON lines.
    pub fn start(socket: &str, capacity: usize, host: &str) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            socket: socket.to_owned(),
            host: host.to_owned(),
            connection: None,
            dropped: Arc::clone(&dropped),
            reported: 0,
        };
        std::thread::Builder::new().name("gpuhubd".into()).spawn(move || writer.run(&jobs))?;
        Ok(Self { queue, dropped })
    }

    /// Queues an event; never waits.
    pub fn log(&self, event: Event) {
        if self.queue.try_send(Job::Write(Box::new(event))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything queued so far is written, at most `timeout`: the broker's last act.
    pub fn flush(&self, timeout: Duration) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(timeout);
        }
    }
}

struct Writer {
    socket: String,
    host: String,
    connection: Option<UnixDatagram>,
    dropped: Arc<AtomicU64>,
    reported: u64,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Write(event) => {
                    self.write(&event);
                    self.report_drops();
                }
                Job::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    /// What was dropped is itself an event, once there is room again.
    fn report_drops(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > self.reported {
            let detail = Some(format!("{} lines dropped, {dropped} since the start", dropped - self.reported));
            self.reported = dropped;
            let event = Event { result: Outcome::Error, reason: "queue-full", detail, ..Event::ok("audit-dropped") };
            self.write(&event);
        }
    }

    fn write(&mut self, event: &Event) {
        // In most containers there is no syslogd; then nothing is made for it.
        if self.connection.is_none() && !std::fs::exists(&self.socket).unwrap_or(true) {
            return self.print_to_stderr(event);
        }
        let mut line = Vec::new();
        if Rfc3164.format(&mut line, severity(event), event.as_pairs()).is_err() || !self.send_to_syslog(&line) {
            self.print_to_stderr(event);
        }
    }

    /// Whether syslogd took it. One that was restarted has made a new socket under the old name:
    /// the old connection is refused for good, so connect again; give it a moment to come up.
    fn send_to_syslog(&mut self, line: &[u8]) -> bool {
        let start = Instant::now();
        loop {
            if self.connection.is_none() {
                match self.connect() {
                    Ok(connection) => self.connection = Some(connection),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return false,
                    Err(_) => {}
                }
            }
            match self.connection.as_ref().map(|c| c.send(line)) {
                Some(Ok(_)) => return true,
                _ => self.connection = None,
            }
            if start.elapsed() > RESTART {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn connect(&self) -> std::io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.socket)?;
        // A syslogd that reads no more must not hold the queue for ever.
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        Ok(socket)
    }

    fn print_to_stderr(&self, event: &Event) {
        let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let mut line = event.as_json(&time, &self.host);
        line.push('\n');
        // Nobody is left to tell if stderr is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// The form of /dev/log, as syslog(3) writes it: local time, no host. The crate's own
/// `Formatter3164` writes UTC, which a local syslogd takes for local time.
struct Rfc3164;

impl<T: std::fmt::Display> LogFormat<T> for Rfc3164 {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, message: T) -> syslog::Result<()> {
        let priority = Facility::LOG_AUTHPRIV as u8 | severity as u8;
        let time = chrono::Local::now().format("%b %e %H:%M:%S");
        write!(w, "<{priority}>{time} gpuhubd[{}]: {message}", std::process::id()).map_err(syslog::Error::Write)
    }
}

fn severity(event: &Event) -> Severity {
    match event.result {
        Outcome::Ok => Severity::LOG_INFO,
        Outcome::Denied => Severity::LOG_NOTICE,
        Outcome::Error => Severity::LOG_ERR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 2048];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[test]
    fn lines_go_on_after_syslogd_was_restarted() {
        let path = std::env::temp_dir().join(format!("gpuhub-log-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let first = UnixDatagram::bind(&path).unwrap();
        let audit = Audit::start(path.to_str().unwrap(), 16, "box").unwrap();
        audit.log(Event::ok("broker-start"));
        let line = receive(&first);
        assert!(line.starts_with("<86>"), "authpriv.info: {line}");
        assert!(line.contains("]: event=\"broker-start\" result=\"ok\""), "{line}");
        drop(first);
        audit.log(Event::ok("lost"));
        std::thread::sleep(Duration::from_millis(100));
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        audit.log(Event::ok("after"));
        let mut seen = receive(&second);
        if seen.contains("lost") {
            seen = receive(&second);
        }
        assert!(seen.contains("after"), "{seen}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let path = std::env::temp_dir().join(format!("gpuhub-log-full-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let held = UnixDatagram::bind(&path).unwrap();
        drop(held); // refused from now on: the writer waits for a restart that never comes
        let audit = Audit::start(path.to_str().unwrap(), 2, "box").unwrap();
        for _ in 0..50 {
            audit.log(Event::ok("flood"));
        }
        assert!(audit.dropped() >= 47, "{}", audit.dropped());
        std::fs::remove_file(&path).unwrap();
    }
}
