//! The hooks around the session: setcred, open_session, close_session.
//!
//! Homes are made in both setcred and open_session: JupyterHub opens no PAM session by default,
//! and a key login's setcred may fail without sshd minding.
//!
//! What fails, and why. setcred fails whenever something is missing: the person is not in yet, and
//! a clear denial is better than a session in `/` without her files. open_session fails only for
//! one who must not come in, or who has no home and cannot get one: JupyterHub answers one failure
//! by never opening a PAM session again, for anybody. Who may come in was decided, fail closed, in
//! acct_mgmt; a broker that cannot be reached after that costs the record, and the line in syslog
//! takes its place. close_session keeps nobody from leaving.

use crate::context;
use crate::handle;
use crate::home::{self, HomeError};
use crate::login::connect;
use crate::options::Options;
use crate::relay::REPLY;
use crate::report;
use gpuhub_common::client::CallError;
use gpuhub_common::local::LocalAccounts;
use gpuhub_common::name::may_be_alias;
use gpuhub_common::wire::{Call, CloseSession, Context, ErrorCode, Nothing, Ready};
use pam::constants::{PAM_DELETE_CRED, PAM_REFRESH_CRED, PamResultCode};
use pam::module::PamHandle;

/// The session's id in the PAM environment; it names the session in the audit log and is no secret.
const SESSION_ENV: (&str, &std::ffi::CStr) = ("GPUHUB_SESSION", c"GPUHUB_SESSION");

/// pam_sm_setcred(3).
pub fn establish(handle: &mut PamHandle, options: &Options) -> PamResultCode {
    let context = match context::ours(handle) {
        Ok(context) => context,
        Err(code) => return code,
    };
    // There is nothing to take away and nothing that ages; no flag at all means PAM_ESTABLISH_CRED.
    if options.has(PAM_DELETE_CRED | PAM_REFRESH_CRED) {
        return PamResultCode::PAM_SUCCESS;
    }
    match ask(Call::Establish(context.clone())).and_then(|ready| make_ready(&context, &ready)) {
        Ok(()) => PamResultCode::PAM_SUCCESS,
        Err(Failure::Call(CallError::Broker(ErrorCode::NoSuchEntry))) => PamResultCode::PAM_USER_UNKNOWN,
        Err(failure) => {
            refuse(handle, options, &context, "setcred", &failure);
            match failure {
                Failure::Call(_) => PamResultCode::PAM_CRED_UNAVAIL,
                Failure::Entry(_) | Failure::Home(_) => PamResultCode::PAM_CRED_ERR,
            }
        }
    }
}

/// pam_sm_open_session(3).
pub fn open(handle: &mut PamHandle, options: &Options) -> PamResultCode {
    let context = match context::ours(handle) {
        Ok(context) => context,
        Err(code) => return code,
    };
    match ask(Call::OpenSession(context.clone())).and_then(|ready| begin(&context, ready)) {
        Ok(session) => {
            if let Some(id) = session {
                handle::keep_session(handle, &id);
                handle::put_env(handle, SESSION_ENV.0, &id);
            }
            PamResultCode::PAM_SUCCESS
        }
        Err(Failure::Call(CallError::Broker(ErrorCode::NoSuchEntry))) => PamResultCode::PAM_USER_UNKNOWN,
        Err(failure) if failure.is_outage() => {
            report::unrecorded(handle, &context, "session-open", &failure.reason());
            PamResultCode::PAM_SUCCESS
        }
        Err(failure) => {
            refuse(handle, options, &context, "session-open", &failure);
            PamResultCode::PAM_SESSION_ERR
        }
    }
}

/// Makes ready what an opened session needs, and returns its id. If that fails, the broker hears
/// that the session is over: no application closes what it could not open.
fn begin(context: &Context, ready: Ready) -> Result<Option<String>, Failure> {
    let session = ready.session.clone().filter(|id| is_session_id(id));
    match make_ready(context, &ready) {
        Ok(()) => Ok(session),
        Err(failure) => {
            let _ = tell_closed(context, session);
            Err(failure)
        }
    }
}

/// pam_sm_close_session(3).
pub fn close(handle: &mut PamHandle) -> PamResultCode {
    let context = match context::ours(handle) {
        Ok(context) => context,
        Err(code) => return code,
    };
    // The handle's own first: a user's ~/.pam_environment may write to the other.
    let session =
        handle::kept_session(handle).or_else(|| handle::get_env(handle, SESSION_ENV.1)).filter(|id| is_session_id(id));
    match tell_closed(&context, session) {
        Ok(Nothing {}) | Err(CallError::Broker(ErrorCode::NoSuchEntry)) => {}
        Err(error) => report::unrecorded(handle, &context, "session-close", report::reason(error)),
    }
    PamResultCode::PAM_SUCCESS
}

/// Why a session is not ready.
enum Failure {
    Call(CallError),
    /// The broker's entry is not one to believe.
    Entry(&'static str),
    Home(HomeError),
}

impl Failure {
    fn reason(&self) -> String {
        match self {
            Failure::Call(error) => report::reason(*error).to_owned(),
            Failure::Entry(reason) => format!("entry-refused: {reason}"),
            Failure::Home(error) => error.to_string(),
        }
    }

    const fn sentence(&self) -> &'static str {
        match self {
            Failure::Call(error) => report::sentence(*error),
            Failure::Entry(_) => "Your account cannot be used here. Ask the administrator.",
            Failure::Home(_) => "Your home directory could not be made. Ask the administrator.",
        }
    }

    /// Whether the broker merely cannot be reached. Not if it hung up: so it answers a peer or a
    /// request that it does not allow.
    const fn is_outage(&self) -> bool {
        matches!(
            self,
            Failure::Call(
                CallError::NeverStarted
                    | CallError::NoBroker
                    | CallError::TimedOut
                    | CallError::Broker(ErrorCode::Unavailable | ErrorCode::Busy)
            )
        )
    }
}

/// Says to the log and to the person why there is no session.
fn refuse(handle: &mut PamHandle, options: &Options, context: &Context, event: &str, failure: &Failure) {
    report::refusal(handle, context, event, &failure.reason());
    report::tell(handle, options, failure.sentence());
}

fn tell_closed(context: &Context, session: Option<String>) -> Result<Nothing, CallError> {
    connect()?.call(Call::CloseSession(CloseSession { context: context.clone(), session }), REPLY)
}

fn ask(call: Call) -> Result<Ready, Failure> {
    connect().and_then(|mut client| client.call(call, REPLY)).map_err(Failure::Call)
}

/// Vets the entry, as NSS does: a captured broker must not make us touch a file as somebody else.
/// Then makes the home, if there should be one and is none.
fn make_ready(context: &Context, ready: &Ready) -> Result<(), Failure> {
    let user = &context.user;
    if ready.user.name != *user && !may_be_alias(user.as_bytes()) {
        return Err(Failure::Entry("another-name"));
    }
    let local = LocalAccounts::try_read().map_err(|_| Failure::Entry("passwd-unreadable"))?;
    ready.user.vet(&local).map_err(|refusal| Failure::Entry(refusal.reason()))?;
    match &ready.home {
        Some(plan) => home::ensure(&ready.user, plan).map_err(Failure::Home),
        None => Ok(()),
    }
}

/// What may stand in an environment variable and a log line as it is.
fn is_session_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuhub_common::entry::Passwd;

    fn ready(name: &str, uid: u32) -> Ready {
        Ready {
            user: Passwd {
                name: name.into(),
                uid,
                gid: 20001,
                gecos: String::new(),
                home: "/home/alice".into(),
                shell: "/bin/sh".into(),
            },
            home: None,
            session: None,
        }
    }

    #[test]
    fn entries_are_vetted_and_must_be_of_the_one_who_logs_in() {
        let context = Context { user: "alice".into(), ..Context::default() };
        assert!(make_ready(&context, &ready("alice", 20001)).is_ok());
        for bad in [ready("alice", 0), ready("bob", 20001), ready("root", 0), ready("alice", 61184)] {
            assert!(matches!(make_ready(&context, &bad), Err(Failure::Entry(_))));
        }
    }

    #[test]
    fn by_another_login_name_it_is_whoever_the_broker_says_and_never_somebody_local() {
        let context = Context { user: "alice@corp.example".into(), ..Context::default() };
        assert!(make_ready(&context, &ready("alice", 20001)).is_ok());
        assert!(matches!(make_ready(&context, &ready("root", 20001)), Err(Failure::Entry("local-name"))));
        assert!(matches!(make_ready(&context, &ready("alice", 0)), Err(Failure::Entry("bad-id"))));
    }

    #[test]
    fn no_class_of_ids_that_are_never_given_passes() {
        let entry = |name: &str, uid, gid| {
            let mut ready = ready(name, uid);
            ready.user.gid = gid;
            make_ready(&Context { user: name.into(), ..Context::default() }, &ready)
        };
        assert!(entry("alice", 20001, 20001).is_ok());
        for id in gpuhub_common::id::NEVER.into_iter().flat_map(|(first, last)| [first, first.midpoint(last), last]) {
            assert!(matches!(entry("alice", id, 20001), Err(Failure::Entry("bad-id"))), "uid {id}");
            assert!(matches!(entry("alice", 20001, id), Err(Failure::Entry("bad-id"))), "gid {id}");
        }
        // This machine's own: root's name with an id that were allowed, too.
        assert!(matches!(entry("root", 20001, 20001), Err(Failure::Entry("local-name"))));
        for name in ["", "-alice", ".alice", "1000", "a:b", "a/b", "a\nb", "a b"] {
            assert!(matches!(entry(name, 20001, 20001), Err(Failure::Entry("bad-name"))), "{name:?}");
        }
    }

    #[test]
    fn session_ids() {
        assert!(is_session_id("a1-B_2.c"));
        for bad in ["", "a b", "a\nb", "a=b\0", "é", &"x".repeat(65)] {
            assert!(!is_session_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_an_outage_lets_a_session_begin_unrecorded() {
        assert!(Failure::Call(CallError::NoBroker).is_outage());
        assert!(!Failure::Call(CallError::Protocol).is_outage());
        assert!(!Failure::Call(CallError::Broker(ErrorCode::VersionMismatch)).is_outage());
        assert!(!Failure::Entry("bad-id").is_outage());
    }
}
