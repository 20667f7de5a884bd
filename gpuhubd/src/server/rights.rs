//! Who may ask what, and when: one table. Whatever is not in it ends the connection.

use gpuhub_common::wire::Call;

/// Who is at the other end, by SO_PEERCRED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// uid 0: sshd, login, su, the administrator.
    Root,
    /// A uid that the configuration lets run logins.
    LoginProgram,
    /// Any process of anybody.
    Anyone,
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No conversation.
    Fresh,
    /// A prompt waits for its answer.
    Prompted,
}

use Peer::{Anyone, LoginProgram, Root};
use State::{Fresh, Prompted};

/// Method, peers, state. Lookups are open, as passwd(5) is; logins and sessions are for login
/// programs; administration is root's.
const RIGHTS: &[(&str, &[Peer], State)] = &[
    ("GetUser", &[Root, LoginProgram, Anyone], Fresh),
    ("GetGroup", &[Root, LoginProgram, Anyone], Fresh),
    ("GetGroupIds", &[Root, LoginProgram, Anyone], Fresh),
    ("GetSshKeys", &[Root, LoginProgram, Anyone], Fresh),
    ("GetStatus", &[Root, LoginProgram, Anyone], Fresh),
    ("Begin", &[Root, LoginProgram], Fresh),
    ("Answer", &[Root, LoginProgram], Prompted),
    ("Account", &[Root, LoginProgram], Fresh),
    ("Establish", &[Root, LoginProgram], Fresh),
    ("OpenSession", &[Root, LoginProgram], Fresh),
    ("CloseSession", &[Root, LoginProgram], Fresh),
    ("Admin", &[Root], Fresh),
    ("Idmap", &[Root], Fresh),
    ("Cache", &[Root], Fresh),
    // Of whoever asks, by her uid; what she must prove besides is the engine's to decide.
    ("Passcode", &[Root, LoginProgram, Anyone], Fresh),
];

/// Whether `peer` may make this call in this state.
pub fn allowed(call: &Call, peer: Peer, state: State) -> bool {
    let method = match call {
        Call::GetUser(_) => "GetUser",
        Call::GetGroup(_) => "GetGroup",
        Call::GetGroupIds(_) => "GetGroupIds",
        Call::GetSshKeys(_) => "GetSshKeys",
        Call::GetStatus(_) => "GetStatus",
        Call::Begin(_) => "Begin",
        Call::Answer(_) => "Answer",
        Call::Account(_) => "Account",
        Call::Establish(_) => "Establish",
        Call::OpenSession(_) => "OpenSession",
        Call::CloseSession(_) => "CloseSession",
        Call::Admin(_) => "Admin",
        Call::Idmap(_) => "Idmap",
        Call::Cache(_) => "Cache",
        Call::Passcode(_) => "Passcode",
    };
    RIGHTS.iter().any(|(m, peers, s)| *m == method && peers.contains(&peer) && *s == state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuhub_common::secret::Secret;
    use gpuhub_common::wire::{Admin, Answer, CacheCall, CacheQuery, Context, Nothing, PasscodeCall, PasscodeOf};

    #[test]
    fn the_table() {
        let status = Call::GetStatus(Nothing {});
        let account = Call::Account(Context::default());
        let admin = Call::Admin(Admin::UserList(Nothing {}));
        let answer = Call::Answer(Answer { secret: Secret::new(b"x").unwrap() });
        assert!(allowed(&status, Anyone, Fresh));
        assert!(!allowed(&status, Root, Prompted));
        assert!(allowed(&account, Root, Fresh) && allowed(&account, LoginProgram, Fresh));
        assert!(!allowed(&account, Anyone, Fresh));
        assert!(allowed(&admin, Root, Fresh) && !allowed(&admin, LoginProgram, Fresh));
        let cache = Call::Cache(CacheCall::Show(CacheQuery::default()));
        assert!(allowed(&cache, Root, Fresh) && !allowed(&cache, LoginProgram, Fresh));
        assert!(!allowed(&cache, Anyone, Fresh), "whose key is what is nobody else's business");
        let passcode = Call::Passcode(PasscodeCall::Status(PasscodeOf::default()));
        assert!(allowed(&passcode, Anyone, Fresh) && !allowed(&passcode, Anyone, Prompted));
        assert!(allowed(&answer, Root, Prompted) && !allowed(&answer, Root, Fresh));
        assert!(!allowed(&answer, Anyone, Prompted));
    }
}
