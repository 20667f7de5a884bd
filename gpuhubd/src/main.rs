//! gpuhubd: starts as root, opens what needs root, drops to its own user, serves.

use gpuhubd::audit::{Audit, Event, Outcome};
use gpuhubd::config::{Config, ConfigError, GRANT_KEY_FILE, ProviderConfig};
use gpuhubd::engine::{Engine, Rules, again, follow, refresh, replica};
use gpuhubd::finding::Finding;
use gpuhubd::idmap::Idmap;
use gpuhubd::machine;
use gpuhubd::model::GroupClaim;
use gpuhubd::privileges::{self, Paths};
use gpuhubd::provider::Provider;
use gpuhubd::provider::builtin::{self, BuiltinProvider, PasswordRule};
use gpuhubd::provider::ldap::LdapProvider;
use gpuhubd::provider::oidc::OidcProvider;
use gpuhubd::publish::View;
use gpuhubd::seal::Seal;
use gpuhubd::server::{self, Policy};
use gpuhubd::store::Store;
use gpuhubd::{doctor, publish};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

/// sysexits(3): the configuration is wrong; a supervisor need not try again soon.
const EX_CONFIG: u8 = 78;
const EX_USAGE: u8 = 64;
const EX_FAILURE: u8 = 1;

const USAGE: &str =
    "usage: gpuhubd [--foreground] [--check [--json]] [--config FILE] [--run-dir DIR] [--state-dir DIR] [--user NAME]";

struct Options {
    config: PathBuf,
    config_named: bool,
    paths: Paths,
    check: bool,
    json: bool,
}

fn main() -> ExitCode {
    one_arena();
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("gpuhubd: {text}\n{USAGE}");
            return ExitCode::from(EX_USAGE);
        }
    };
    let config = Config::load(&options.config, options.config_named);
    if options.check {
        return check(config, &options);
    }
    match config.and_then(usable) {
        Ok(config) => match run(config, &options.paths) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("gpuhubd: {e}");
                ExitCode::from(EX_FAILURE)
            }
        },
        Err(e) => {
            eprintln!("gpuhubd: {e}");
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// A broker that gives ids that nobody can have would let people in to nothing.
fn usable(config: Config) -> Result<Config, ConfigError> {
    let unmapped = machine::unmapped(Path::new("/"), &config.ids, &config.builtin);
    match unmapped.into_iter().find(|problem| problem.is_certain) {
        None => Ok(config),
        Some(problem) => Err(ConfigError {
            file: "[ids] uid_range".into(),
            line: None,
            what: problem.what,
            remedy: machine::UNMAPPED_REMEDY.into(),
        }),
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut o = Options {
        config: gpuhub_common::paths::CONFIG.into(),
        config_named: false,
        paths: Paths::default(),
        check: false,
        json: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--foreground" => {}
            "--check" => o.check = true,
            "--json" => o.json = true,
            "--config" => (o.config, o.config_named) = (value()?.into(), true),
            "--run-dir" => o.paths.run = value()?.into(),
            "--state-dir" => o.paths.state = value()?.into(),
            "--user" => o.paths.user = value()?,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(o)
}

/// One heap for all threads. glibc gives each thread one of its own (mallopt(3), M_ARENA_MAX), which
/// keeps what was once used there: 6 MB of a broker with 10,000 people, 25 of one with 100,000.
#[allow(unsafe_code)] // mallopt(3), which no crate offers
fn one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers; no thread has been started.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The configured providers. The one place that names concrete ones.
fn providers(configs: Vec<ProviderConfig>) -> Result<Vec<Arc<dyn Provider>>, String> {
    configs
        .into_iter()
        .map(|config| -> Result<Arc<dyn Provider>, String> {
            match config {
                ProviderConfig::Ldap(c) => Ok(Arc::new(LdapProvider::new(&c)?)),
                ProviderConfig::Oidc(c) => Ok(Arc::new(OidcProvider::new(*c)?)),
            }
        })
        .collect()
}

fn runtime(threads: usize) -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        // Every thread has the name by which our own NSS library knows not to ask us (prctl(2),
        // PR_GET_NAME): a name lookup inside the broker would wait for itself.
        .thread_name("gpuhubd")
        .enable_all()
        .build()
        .map_err(|e| format!("no runtime: {e}"))
}

fn check(mut config: Result<Config, ConfigError>, options: &Options) -> ExitCode {
    let configs = config.as_mut().map(|c| std::mem::take(&mut c.providers)).unwrap_or_default();
    let (made, broken) = match providers(configs) {
        Ok(made) => (made, None),
        Err(e) => (Vec::new(), Some(Finding::fatal("config", e, "Correct it in gpuhub.toml."))),
    };
    let mut findings = match runtime(2) {
        Ok(rt) => rt.block_on(doctor::check(config.as_ref(), &made, &options.paths)),
        Err(e) => {
            eprintln!("gpuhubd: {e}");
            return ExitCode::from(EX_FAILURE);
        }
    };
    findings.extend(broken);
    let printed = doctor::print(&findings, options.json, &mut std::io::stdout());
    ExitCode::from(if doctor::any_fatal(&findings) || printed.is_err() { EX_FAILURE } else { 0 })
}

fn run(config: Config, paths: &Paths) -> Result<(), String> {
    // Still root and single-threaded: the socket, the directories, the user.
    let seal = seal_of(&config)?;
    let listener = privileges::prepare(paths)?;
    let crowd = runtime(1)?;
    // One thread: what it hands to another, and gets back, takes longer than most of what a login does.
    let served = runtime(1)?.block_on(serve(config, seal, paths, listener, crowd.handle().clone()));
    crowd.shutdown_background();
    served
}

/// The key for what people's providers are asked with again. Only root reads it.
fn seal_of(config: &Config) -> Result<Option<Arc<Seal>>, String> {
    if !config.providers.iter().any(|p| matches!(p, ProviderConfig::Oidc(c) if c.ask_again.is_some())) {
        return Ok(None);
    }
    let path = config.broker.grant_key_file.as_deref().unwrap_or(Path::new(GRANT_KEY_FILE));
    Seal::of_file(path).map(|seal| Some(Arc::new(seal))).map_err(|e| format!("{e}; see [broker] grant_key_file"))
}

async fn serve(
    mut config: Config,
    seal: Option<Arc<Seal>>,
    paths: &Paths,
    listener: std::os::unix::net::UnixListener,
    crowd: Handle,
) -> Result<(), String> {
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_else(|| "box".into());
    let box_name = config.broker.box_name.clone().unwrap_or(host);
    let audit = Audit::start(&config.audit.syslog, config.audit.queue, &box_name).map_err(|e| e.to_string())?;
    let store = Store::open(&paths.state.join("store.db")).map_err(|e| format!("store: {e}"))?;
    builtin::declare(&store, &config.builtin).map_err(|e| e.to_string())?;
    store.declare_local_groups(&local_groups(&config, &audit)).map_err(|e| format!("store: {e}"))?;
    let rules = Rules {
        box_name,
        primary_group: primary_group(&config),
        people: config.people.clone(),
        access: config.access.clone(),
        services: config.services.clone(),
        passcode: config.passcode.clone(),
        mapped: machine::Mapped::read(Path::new("/")),
        seal,
    };
    let policy = Policy { label: "main".into(), login_peers: config.broker.login_peers.clone() };
    let rule = PasswordRule { min_length: config.builtin.min_length, min_classes: config.builtin.min_classes };
    let registry = config.ids.registry()?.map(Arc::new);
    let idmap = Idmap::new(store.clone(), config.ids.uid_range(), registry);
    let mut all: Vec<Arc<dyn Provider>> = vec![Arc::new(BuiltinProvider::new(store.clone(), &config.builtin))];
    all.extend(providers(std::mem::take(&mut config.providers))?);
    let providers = all;
    let complete = providers.iter().all(|p| p.is_complete());
    let provisional = providers.iter().any(|p| p.has_people() && !p.knows_people());
    let listing = providers.iter().filter(|p| p.refreshes_groups()).map(|p| p.name().to_owned()).collect();
    store.hide(providers.iter().filter(|p| !p.is_enumerated()).map(|p| p.name().to_owned()).collect());
    let view = View { complete, provisional, listing };
    let publishing = publish::start(store.clone(), paths.run.join("snapshot"), view, audit.clone());
    let engine = Arc::new(Engine::new(rules, store, idmap, providers, publishing, audit.clone()));

    audit.log(Event { detail: Some(format!("version {}", env!("CARGO_PKG_VERSION"))), ..Event::ok("broker-start") });
    // Not in the way of logins.
    crowd.spawn(refresh::run(Arc::clone(&engine)));
    crowd.spawn(follow::run(Arc::clone(&engine)));
    crowd.spawn(replica::run(Arc::clone(&engine)));
    crowd.spawn(again::run(Arc::clone(&engine)));
    // What the store has is served at once; what the configuration changed of it follows.
    let taking_in = Arc::clone(&engine);
    let taking_in = tokio::spawn(async move { taking_in.take_in_builtins().await });
    let serving = crowd.spawn(server::serve(listener, policy, engine, rule, Handle::current()));
    tokio::select! {
        e = failure(serving) => return Err(format!("socket: {e}")),
        e = failure(taking_in) => return Err(format!("store: {e}")),
        () = terminated() => {}
    }
    audit.log(Event::ok("broker-stop"));
    audit.flush(Duration::from_secs(2));
    Ok(())
}

/// The common primary group, with the gid that it is declared with.
fn primary_group(config: &Config) -> Option<GroupClaim> {
    let name = config.ids.primary_group.as_ref()?.get_ref();
    let declared = config.builtin.group.iter().find(|g| g.get_ref().name == *name);
    Some(GroupClaim { name: name.clone(), gid: declared.and_then(|g| g.get_ref().gid).map(Into::into) })
}

/// The rules about local groups, with the gids of this machine. A device that is not there is told,
/// and keeps nobody out.
fn local_groups(config: &Config, audit: &Audit) -> Vec<(u32, Vec<String>)> {
    let mut rules = Vec::new();
    for rule in config.local_groups.iter().map(|r| r.get_ref()) {
        match machine::gid_of(Path::new("/"), rule) {
            Ok(gid) => {
                let groups = rule.groups.iter().flatten().map(|g| g.as_str().to_owned());
                rules.push((gid, groups.collect()));
            }
            Err(detail) => audit.log(Event {
                result: Outcome::Error,
                reason: "no-such-local-group",
                detail: Some(detail),
                ..Event::ok("local-group")
            }),
        }
    }
    rules
}

/// Why a task failed; if it does not fail, there is nothing to wait for.
async fn failure<E: std::fmt::Display>(task: tokio::task::JoinHandle<Result<(), E>>) -> String {
    match task.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(e)) => e.to_string(),
        Err(e) => e.to_string(),
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
