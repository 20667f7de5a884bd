//! `gpuhub ssh-keys NAME`: for sshd's AuthorizedKeysCommand.

use crate::args::Args;
use crate::broker;
use crate::outcome::{Failure, print};
use gpuhub_common::client::CallError;
use gpuhub_common::wire::{Call, ErrorCode, NameQuery, SshKeysReply};
use std::process::ExitCode;

/// Prints the keys that the directory has for her. Nobody's name has none, which is no error: sshd asks for each
/// name that is typed at it, and whoever is none of ours has her keys elsewhere.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let p = args.parse(&[], &[], ["NAME"])?;
    let [name] = p.operands;
    match broker::ask::<SshKeysReply>(p.socket.as_deref(), Call::GetSshKeys(NameQuery { name })) {
        Ok(reply) => {
            print(&reply.keys.iter().fold(String::new(), |text, key| text + key + "\n"));
            Ok(ExitCode::SUCCESS)
        }
        Err(CallError::Broker(ErrorCode::NoSuchEntry)) => Ok(ExitCode::SUCCESS),
        Err(e) => Err(Failure::Broker(e)),
    }
}
