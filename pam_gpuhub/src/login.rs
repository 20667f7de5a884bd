//! The hooks in which the broker decides: authenticate, acct_mgmt, chauthtok.

use crate::context;
use crate::conversation::Conversation;
use crate::handle;
use crate::options::{Options, PRELIM_CHECK, UPDATE_AUTHTOK};
use crate::relay::{self, Broken, NoAnswer, Person};
use crate::report;
use gpuhub_common::client::{CallError, Client};
use gpuhub_common::paths;
use gpuhub_common::wire::{Begin, Call, Code, Context, ErrorCode, Purpose, Verdict};
use pam::constants::{PAM_CHANGE_EXPIRED_AUTHTOK, PamResultCode};
use pam::module::PamHandle;

/// pam_sm_authenticate(3).
pub fn authenticate(handle: &mut PamHandle, options: &Options) -> PamResultCode {
    let context = match context::ours_asking_for_a_name(handle) {
        Ok(context) => context,
        Err(code) => return code,
    };
    let code = converse(handle, options, Purpose::Authenticate, context);
    if code != PamResultCode::PAM_SUCCESS {
        handle::fail_delay(handle);
    }
    code
}

/// pam_sm_acct_mgmt(3). Stateless: key logins come without authenticate, and JupyterHub with
/// another handle.
pub fn account(handle: &mut PamHandle, options: &Options) -> PamResultCode {
    let context = match context::ours(handle) {
        Ok(context) => context,
        Err(code) => return code,
    };
    match verdict(&context) {
        Ok(verdict) => {
            let mut person = Conversation::new(handle, Purpose::Authenticate, options);
            verdict.messages.iter().for_each(|message| person.show(message));
            pam_code(verdict.code)
        }
        Err(error) => unavailable(handle, options, &context, "account", error),
    }
}

/// pam_sm_chauthtok(3), which PAM calls twice: to see whether it can be done, and to do it.
pub fn change_password(handle: &mut PamHandle, options: &Options) -> PamResultCode {
    let context = match context::ours(handle) {
        Ok(context) => context,
        Err(code) => return code,
    };
    if options.has(PRELIM_CHECK) {
        return match connect() {
            Ok(_) => PamResultCode::PAM_SUCCESS,
            Err(error) => {
                unavailable(handle, options, &context, "password", error);
                // "Signals an immediate return to the application": no module changes anything.
                PamResultCode::PAM_TRY_AGAIN
            }
        };
    }
    if !options.has(UPDATE_AUTHTOK) {
        return PamResultCode::PAM_SYSTEM_ERR;
    }
    // "Only if it has expired": what acct_mgmt said may have been said by another module.
    if options.has(PAM_CHANGE_EXPIRED_AUTHTOK) {
        match verdict(&context).map(|verdict| verdict.code) {
            Ok(Code::NewAuthtokReqd) => {}
            Ok(code) => return pam_code(code),
            Err(error) => return unavailable(handle, options, &context, "password", error),
        }
    }
    converse(handle, options, Purpose::ChangePassword, context)
}

/// One conversation from its beginning to its code.
fn converse(handle: &mut PamHandle, options: &Options, purpose: Purpose, context: Context) -> PamResultCode {
    let event = match purpose {
        Purpose::Authenticate => "auth",
        Purpose::ChangePassword => "password",
    };
    let begin = Begin { purpose, context: context.clone() };
    let mut person = Conversation::new(handle, purpose, options);
    let end = connect().map_err(Broken::Call).and_then(|mut client| relay::converse(&mut client, &mut person, begin));
    let handle = person.end();
    match end {
        Ok(code) => pam_code(code),
        Err(Broken::Call(error)) => unavailable(handle, options, &context, event, error),
        Err(Broken::NoAnswer(NoAnswer::Conversation)) => PamResultCode::PAM_CONV_ERR,
        Err(Broken::NoAnswer(NoAnswer::Refused)) => PamResultCode::PAM_AUTH_ERR,
    }
}

fn verdict(context: &Context) -> Result<Verdict, CallError> {
    connect()?.call(Call::Account(context.clone()), relay::REPLY)
}

/// Connects to the broker; every hook has its own connection.
pub fn connect() -> Result<Client, CallError> {
    Client::connect(paths::SOCKET, relay::CONNECT)
}

/// The broker did not decide: says so to the log and to the person, and denies.
fn unavailable(
    handle: &mut PamHandle,
    options: &Options,
    context: &Context,
    event: &str,
    error: CallError,
) -> PamResultCode {
    // "It certainly does not exist": somebody else's (another directory may serve this container
    // too), not an inability.
    if error == CallError::Broker(ErrorCode::NoSuchEntry) {
        return PamResultCode::PAM_USER_UNKNOWN;
    }
    report::refusal(handle, context, event, report::reason(error));
    report::tell(handle, options, report::sentence(error));
    PamResultCode::PAM_AUTHINFO_UNAVAIL
}

/// PAM's number for the broker's code.
fn pam_code(code: Code) -> PamResultCode {
    PamResultCode::try_from(code.pam()).unwrap_or(PamResultCode::PAM_SYSTEM_ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_pam_s_and_never_ignore() {
        for code in Code::ALL {
            let pam = pam_code(code);
            assert_ne!(pam, PamResultCode::PAM_IGNORE);
            assert_eq!(pam == PamResultCode::PAM_SUCCESS, code == Code::Success);
            assert_eq!(pam as i32, code.pam());
        }
    }
}
