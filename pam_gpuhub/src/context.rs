//! Whose login is it, and what does the application say about it: PAM items → [`Context`].
//!
//! Decided here, before and without the broker: uid 0 and every name in the container's own
//! /etc/passwd are not ours, in all hooks, so that a dead broker never locks out root, a local
//! user, sudo or cron.

use crate::handle;
use crate::report;
use gpuhub_common::wire::Context;
use gpuhub_common::{local, name};
use pam::constants::PamResultCode;
use pam::items::{Item, RHost, Service, Tty, User};
use pam::module::PamHandle;
use std::ffi::CStr;
use std::ops::Deref;

/// The context of a login, for the hook that comes first; may ask for the name. Otherwise as [`ours`].
pub fn ours_asking_for_a_name(handle: &mut PamHandle) -> Result<Context, PamResultCode> {
    if text_item::<User<'_>>(handle).is_none() {
        // Not its result: pam-bindings has "not UTF-8" for an error, which is answered below.
        if let Err(PamResultCode::PAM_CONV_ERR | PamResultCode::PAM_CONV_AGAIN) = handle.get_user(None) {
            return Err(PamResultCode::PAM_CONV_ERR);
        }
    }
    ours(handle)
}

/// The context, if the login is ours. Otherwise the code with which the hook returns at once:
/// PAM_USER_UNKNOWN for root, local users and names that cannot be ours.
pub fn ours(handle: &mut PamHandle) -> Result<Context, PamResultCode> {
    let Some(user) = text_item::<User<'_>>(handle) else {
        return Err(PamResultCode::PAM_SERVICE_ERR);
    };
    // Not a text, or not a name: nobody of ours, and nothing of it is sent or logged. Somebody may
    // have typed a password at the name's prompt.
    let user = match user {
        Ok(user) if name::is_user_name(user.as_bytes()) => user,
        _ => return Err(PamResultCode::PAM_USER_UNKNOWN),
    };
    let context = Context {
        user,
        typed: None,
        service: lossy_item::<Service<'_>>(handle).unwrap_or_default(),
        source: lossy_item::<RHost<'_>>(handle).filter(|s| !s.is_empty()),
        tty: lossy_item::<Tty<'_>>(handle).filter(|s| !s.is_empty()),
        ssh_auth_info: handle::get_env(handle, c"SSH_AUTH_INFO_0"),
    };
    match local::is_local_user(&context.user) {
        Ok(false) => Ok(context),
        Ok(true) => Err(PamResultCode::PAM_USER_UNKNOWN),
        // Without the file we cannot tell whose login it is.
        Err(_) => {
            report::refusal(handle, &context, "whose", "passwd-unreadable");
            Err(PamResultCode::PAM_AUTHINFO_UNAVAIL)
        }
    }
}

/// An item, copied: the application may replace the original in a conversation. `Err` if it is
/// not UTF-8.
fn text_item<'h, T>(handle: &'h PamHandle) -> Option<Result<String, std::string::FromUtf8Error>>
where
    T: Item<'h> + Deref<Target = &'h CStr>,
{
    handle.get_item::<T>().ok().flatten().map(|item| String::from_utf8(item.to_bytes().to_vec()))
}

/// As [`text_item`], with bytes that are not UTF-8 replaced: it is for the eye and the log.
fn lossy_item<'h, T>(handle: &'h PamHandle) -> Option<String>
where
    T: Item<'h> + Deref<Target = &'h CStr>,
{
    handle.get_item::<T>().ok().flatten().map(|item| item.to_string_lossy().into_owned())
}
