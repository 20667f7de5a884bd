//! `gpuhub-entrypoint`: the first process of a container. It starts the broker, waits a moment until
//! logins can be answered, runs the image's own command beside it, and ends as that command ends.
//!
//! ```text
//!   gpuhub-entrypoint            (PID 1, or a child subreaper anywhere else)
//!     ├─ gpuhubd --foreground    own process group; started again when it dies
//!     └─ the image's command     our process group, our terminal; gets the signals we get
//! ```
//!
//! One rule decides the doubtful cases: a broker that is ill must never take the image with it.
//! Nothing here is run by a shell, and nothing but the command line is believed.

mod args;
mod backoff;
mod broker;
mod child;
mod supervisor;

use std::io::Write;
use std::process::ExitCode;

/// Exit status of a command line that makes no sense (sysexits: `EX_USAGE`).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(args::Request::Run(options)) => ExitCode::from(supervisor::run(&options)),
        Ok(args::Request::Help) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Ok(args::Request::Version) => {
            println!("gpuhub-entrypoint {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            say(&format!("{why}; see gpuhub-entrypoint --help"));
            ExitCode::from(EX_USAGE)
        }
    }
}

/// One line on stderr. Unlike `eprintln!` it cannot panic: a closed log must not end the container.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "gpuhub-entrypoint: {what}");
}
