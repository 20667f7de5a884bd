//! One question to the broker.

use crate::outcome::Failure;
use gpuhub_common::client::{CallError, Client};
use gpuhub_common::paths;
use gpuhub_common::wire::{Admin, AdminReply, Call};
use serde::de::DeserializeOwned;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(2);
/// A change hashes a password and publishes a snapshot, perhaps behind other changes.
const ANSWER: Duration = Duration::from_secs(30);

/// Asks, and waits for the answer.
pub fn ask<T: DeserializeOwned>(socket: Option<&str>, call: Call) -> Result<T, CallError> {
    ask_for(socket, call, ANSWER)
}

/// Asks, and waits for so long.
pub fn ask_for<T: DeserializeOwned>(socket: Option<&str>, call: Call, answer: Duration) -> Result<T, CallError> {
    Client::connect(socket.unwrap_or(paths::SOCKET), CONNECT)?.call(call, answer)
}

/// Asks for administration. The broker hangs up on whoever has no right to a method.
pub fn admin(socket: Option<&str>, call: Admin) -> Result<AdminReply, Failure> {
    match ask(socket, Call::Admin(call)) {
        Ok(AdminReply::Refused(why)) => Err(Failure::Refused(why)),
        Ok(reply) => Ok(reply),
        Err(CallError::Protocol) if !nix::unistd::geteuid().is_root() => Err(Failure::NotRoot),
        Err(e) => Err(Failure::Broker(e)),
    }
}
