//! gpuhub-entrypoint with real processes: the supervisor as built, a stand-in broker, and shells.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ENTRYPOINT: &str = env!("CARGO_BIN_EXE_gpuhub-entrypoint");
/// A broker that lives until it is told to stop, and says so.
const OBEDIENT: &str = "trap 'echo term >> $here/ended; exit 0' TERM\nwhile :; do sleep 0.05; done";

/// A directory with a stand-in broker in it.
struct Stage {
    dir: PathBuf,
}

impl Stage {
    fn new(name: &str, behaviour: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let script = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/entrypoint/broker.sh");
        symlink(script, dir.join("broker")).unwrap();
        fs::write(dir.join("behaviour"), behaviour).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The broker's socket, served by the test; relative to the directory, for sun_path is short.
    fn listen(&self) -> UnixListener {
        let short = PathBuf::from("/tmp").join(self.dir.file_name().unwrap());
        let _ = fs::remove_file(&short);
        symlink(&self.dir, &short).unwrap();
        let listener = UnixListener::bind(short.join("broker.sock")).unwrap();
        fs::remove_file(short).unwrap();
        listener
    }

    fn options(&self, command: &mut Command, wait: &str) {
        // The child runs in the directory, so that the socket's name is short.
        command.current_dir(&self.dir);
        command.args(["--broker", self.path("broker").to_str().unwrap()]);
        command.args(["--socket", "broker.sock", "--wait", wait]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Starts the supervisor with `sh -c SCRIPT` as the image's command.
    fn spawn(&self, wait: &str, script: &str) -> Child {
        let mut command = Command::new(ENTRYPOINT);
        self.options(&mut command, wait);
        command.args(["sh", "-c", script]).spawn().unwrap()
    }

    fn run(&self, wait: &str, script: &str) -> Output {
        self.spawn(wait, script).wait_with_output().unwrap()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the file has so many lines.
    fn wait_for(&self, name: &str, lines: usize) -> Vec<String> {
        eventually(&format!("{lines} lines in {name}"), || {
            let found = self.lines(name);
            (found.len() >= lines).then_some(found)
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
            return;
        }
        // What a failed test started works in its directory, or has its broker's path in argv.
        let _ = fs::write(self.path("enough"), "");
        let _ = Command::new("pkill").args(["-KILL", "-f"]).arg(&self.dir).status();
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn pid_of(line: &str) -> Pid {
    Pid::from_raw(line.split(' ').next().unwrap().parse().unwrap())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn exits_as_the_command_exits_and_stops_the_broker() {
    let stage = Stage::new("status", OBEDIENT);
    let _listener = stage.listen();
    let output = stage.run("10", "sleep 0.5; exit 7");
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(stage.lines("ended"), ["term"]);
    assert!(stage.lines("starts")[0].ends_with(" --foreground"));
    assert_eq!(stderr(&output), "", "nothing to say when all is well");
}

#[test]
fn a_command_killed_by_a_signal_is_128_plus_it() {
    let stage = Stage::new("killed", OBEDIENT);
    let _listener = stage.listen();
    assert_eq!(stage.run("10", "kill -KILL $$").status.code(), Some(137));
    // A real-time signal, for which the wait functions have no name.
    assert_eq!(stage.run("10", "kill -40 $$").status.code(), Some(255));
}

#[test]
fn the_command_waits_until_the_broker_answers() {
    let stage = Stage::new("ready", OBEDIENT);
    let child = stage.spawn("20", "echo here > command");
    stage.wait_for("starts", 1);
    thread::sleep(Duration::from_millis(500));
    assert!(!stage.path("command").exists(), "started before the broker answered");
    let _listener = stage.listen();
    stage.wait_for("command", 1);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_broker_that_never_answers_does_not_stop_the_image() {
    let stage = Stage::new("mute", OBEDIENT);
    let begin = Instant::now();
    let output = stage.run("0.7", "echo ran");
    assert!(begin.elapsed() >= Duration::from_millis(700));
    assert_eq!(stdout(&output), "ran\n");
    assert!(stderr(&output).contains("does not answer yet"), "{}", stderr(&output));
}

#[test]
fn a_stale_socket_is_no_answer() {
    let stage = Stage::new("stale", OBEDIENT);
    drop(stage.listen());
    assert!(stage.path("broker.sock").exists());
    let output = stage.run("0.3", "true");
    assert!(stderr(&output).contains("does not answer yet"), "{}", stderr(&output));
}

#[test]
fn a_refused_configuration_is_said_once_and_not_waited_for() {
    let stage = Stage::new("config", "echo 'gpuhub.toml:3: unknown key' >&2\nexit 78");
    let begin = Instant::now();
    let output = stage.run("60", "sleep 2.2; echo ran");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(stdout(&output), "ran\n");
    // Tried at 0, 0.5 and 1.5 s (the last one late on a busy machine), each with its own message.
    let starts = stage.lines("starts").len();
    assert!((2..=3).contains(&starts), "{starts} starts");
    let said = stderr(&output);
    assert_eq!(said.matches("refuses its configuration").count(), 1, "{said}");
    assert_eq!(said.matches("unknown key").count(), starts, "{said}");
}

#[test]
fn no_broker_program_is_said_once_and_not_waited_for() {
    let stage = Stage::new("absent", "");
    fs::remove_file(stage.path("broker")).unwrap();
    let output = stage.run("60", "sleep 1; echo ran");
    assert_eq!(stdout(&output), "ran\n");
    assert_eq!(stderr(&output).matches("cannot start").count(), 1, "{}", stderr(&output));
}

#[test]
fn a_dead_broker_is_started_again_later_and_later() {
    let stage = Stage::new("again", OBEDIENT);
    let _listener = stage.listen();
    let child = stage.spawn("10", "exec sleep 60");
    let mut begin = Instant::now();
    for (nth, pause) in [(1, 0), (2, 500), (3, 1000)] {
        let starts = stage.wait_for("starts", nth);
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(pause), "start {nth} after {took:?}");
        thread::sleep(Duration::from_millis(100));
        begin = Instant::now();
        kill(pid_of(&starts[nth - 1]), Signal::SIGKILL).unwrap();
    }
    thread::sleep(Duration::from_millis(200)); // the last death is seen before the order to stop
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    let said = stderr(&output);
    for pause in ["in 0.5 s", "in 1.0 s", "in 2.0 s"] {
        assert!(said.contains(pause), "{said}");
    }
}

#[test]
fn signals_reach_the_command_and_not_the_broker() {
    let stage = Stage::new("signals", &format!("trap 'echo hup >> $here/wrong' HUP\n{OBEDIENT}"));
    let _listener = stage.listen();
    let child = stage.spawn(
        "10",
        "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo $s >> got\" $s; done
         trap 'echo TERM >> got; exit 3' TERM; echo set > ready; while :; do sleep 0.05; done",
    );
    stage.wait_for("ready", 1);
    for (nth, (name, number)) in [
        ("HUP", Signal::SIGHUP),
        ("INT", Signal::SIGINT),
        ("QUIT", Signal::SIGQUIT),
        ("USR1", Signal::SIGUSR1),
        ("USR2", Signal::SIGUSR2),
        ("WINCH", Signal::SIGWINCH),
        ("TERM", Signal::SIGTERM),
    ]
    .into_iter()
    .enumerate()
    {
        signal(&child, number);
        assert_eq!(stage.wait_for("got", nth + 1)[nth], name);
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
    assert!(!stage.path("wrong").exists());
    assert_eq!(stage.lines("ended"), ["term"]);
}

#[test]
fn the_command_has_a_clean_signal_mask_and_our_environment() {
    let stage = Stage::new("mask", OBEDIENT);
    let _listener = stage.listen();
    let mut command = Command::new(ENTRYPOINT);
    stage.options(&mut command, "10");
    command.args(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let output = command.output().unwrap();
    for line in stdout(&output).lines() {
        // 32 and 33 are glibc's own; its posix_spawn leaves them ignored, whatever was asked for.
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        assert_eq!(mask & !0x1_8000_0000, 0, "{line}");
    }
    assert_eq!(stdout(&output).lines().count(), 2);

    let mut command = Command::new(ENTRYPOINT);
    stage.options(&mut command, "10");
    command.args(["sh", "-c", "echo $COLOUR"]).env("COLOUR", "blue");
    assert_eq!(stdout(&command.output().unwrap()), "blue\n");
}

#[test]
fn one_ctrl_c_is_one_interrupt_and_none_for_the_broker() {
    let stage = Stage::new("tty", &format!("trap 'echo int >> $here/wrong' INT\n{OBEDIENT}"));
    let _listener = stage.listen();
    // A busy loop: a sleeping shell runs its trap once for two signals. script(1) gives the supervisor a
    // terminal, as `docker run -it` does, through $SHELL, which must not stay in between: it would have
    // the interrupt too. timeout(1) gives back an interrupt that whoever runs the tests may ignore.
    let inner = format!(
        "exec {ENTRYPOINT} --broker {} --socket broker.sock sh -c \
         'trap \"echo INT >> got\" INT; echo set > ready; while ! test -e enough; do :; done'",
        stage.path("broker").display()
    );
    let mut command = Command::new("timeout");
    command.args(["60", "script", "--quiet", "--return", "--command", &inner, "/dev/null"]);
    command.current_dir(&stage.dir).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    stage.wait_for("ready", 1);
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    stage.wait_for("got", 1);
    thread::sleep(Duration::from_millis(300));
    fs::write(stage.path("enough"), "").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(stage.lines("got"), ["INT"]);
    assert!(!stage.path("wrong").exists());
    assert_eq!(stage.lines("ended"), ["term"]);
}

#[test]
fn told_to_stop_while_it_waits_it_stops() {
    let stage = Stage::new("early", OBEDIENT);
    let child = stage.spawn("60", "echo here > command");
    stage.wait_for("starts", 1);
    thread::sleep(Duration::from_millis(200));
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    assert!(!stage.path("command").exists());
    assert_eq!(stage.lines("ended"), ["term"]);
}

#[test]
fn a_broker_that_does_not_stop_is_killed() {
    let stage = Stage::new("stubborn", "trap '' TERM\nwhile :; do sleep 0.05; done");
    let _listener = stage.listen();
    let begin = Instant::now();
    let output = stage.run("10", "sleep 0.3");
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(15), "{took:?}");
    assert!(output.status.success());
    assert!(stderr(&output).contains("killing it"));
    assert!(kill(pid_of(&stage.lines("starts")[0]), None).is_err(), "it still lives");
}

#[test]
fn orphans_are_adopted_and_reaped() {
    let stage = Stage::new("orphans", OBEDIENT);
    let _listener = stage.listen();
    // Each inner shell leaves a child behind that outlives it; nobody but the supervisor can reap it.
    let child = stage.spawn("10", "for i in 1 2 3; do sh -c 'sleep 0.3 & echo $! >> orphans'; done; exec sleep 60");
    for orphan in stage.wait_for("orphans", 3) {
        eventually("an orphan is gone", || kill(pid_of(&orphan), None).is_err().then_some(()));
    }
    signal(&child, Signal::SIGTERM);
    child.wait_with_output().unwrap();
}

#[test]
fn a_command_that_cannot_be_run_has_a_shells_status() {
    let stage = Stage::new("norun", OBEDIENT);
    let _listener = stage.listen();
    for (program, code) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
        let mut command = Command::new(ENTRYPOINT);
        stage.options(&mut command, "10");
        let output = command.arg(program).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(&format!("cannot run {program}")));
    }
}

#[test]
fn without_a_command_the_broker_runs_alone() {
    let stage = Stage::new("alone", &format!("trap 'echo hup >> $here/hup' HUP\n{OBEDIENT}"));
    let mut command = Command::new(ENTRYPOINT);
    stage.options(&mut command, "10");
    let child = command.spawn().unwrap();
    stage.wait_for("starts", 1);
    thread::sleep(Duration::from_millis(200));
    signal(&child, Signal::SIGHUP);
    stage.wait_for("hup", 1);
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stage.lines("ended"), ["term"]);
}

#[test]
fn as_pid_1_it_reaps_forwards_and_ends() {
    let stage = Stage::new("pid1", OBEDIENT);
    let _listener = stage.listen();
    let mut command = Command::new("unshare");
    // As root plain; a developer's own user gets a user namespace too.
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--mount-proc", ENTRYPOINT]);
    stage.options(&mut command, "10");
    let script = "readlink /proc/1/exe > one; sh -c 'sleep 0.2 &'; sleep 0.6; ps -e -o stat= > states; exit 9";
    let output = command.args(["sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", stderr(&output));
    assert!(stage.lines("one")[0].ends_with("gpuhub-entrypoint"));
    assert!(stage.lines("states").iter().all(|state| !state.starts_with('Z')));
}

#[test]
fn nonsense_is_refused_with_a_word() {
    let output = Command::new(ENTRYPOINT).arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("unknown option --nonsense"));
    let output = Command::new(ENTRYPOINT).arg("--version").output().unwrap();
    assert_eq!(stdout(&output), format!("gpuhub-entrypoint {}\n", env!("CARGO_PKG_VERSION")));
}
