//! The protocol between the broker and its clients, on one page.
//!
//! JSON objects over a unix stream socket, each ended by a NUL byte, in the shape of Varlink
//! (varlink.org): a request is `{"method", "version", "parameters"}`, a reply is `{"parameters"}` or
//! `{"error"}`. `common/io.gpuhub.Broker.varlink` is the same protocol in Varlink's own words.
//! A request has exactly one reply; a login is a conversation of requests on one connection, and
//! closing the connection cancels it.

mod admin;
mod cache;
mod ids;
mod passcode;

pub use admin::*;
pub use cache::*;
pub use ids::*;
pub use passcode::*;

use crate::entry::{Group, Passwd};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// Version of the protocol. Another version is answered with [`ErrorCode::VersionMismatch`]:
/// install the same gpuhub on both sides of the socket.
pub const VERSION: u32 = 1;

/// Longest request in bytes, NUL included. A secret is at most 8 KiB, four digits a byte.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest reply in bytes, NUL included: a group of 100,000 members.
pub const MAX_REPLY: usize = 8 * 1024 * 1024;

/// What a client may ask. Which peer may ask it, and when, is the rights table of the server.
#[derive(Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
pub enum Call {
    /// getpwnam(3) or getpwuid(3).
    #[serde(rename = "io.gpuhub.Broker.GetUser")]
    GetUser(UserQuery),
    /// getgrnam(3) or getgrgid(3).
    #[serde(rename = "io.gpuhub.Broker.GetGroup")]
    GetGroup(GroupQuery),
    /// The supplementary groups of getgrouplist(3).
    #[serde(rename = "io.gpuhub.Broker.GetGroupIds")]
    GetGroupIds(NameQuery),
    /// The public keys by which a user may log in, for sshd's AuthorizedKeysCommand. Reply: [`SshKeysReply`].
    #[serde(rename = "io.gpuhub.Broker.GetSshKeys")]
    GetSshKeys(NameQuery),
    /// Begins a login or a password change. Reply: [`Step`].
    #[serde(rename = "io.gpuhub.Broker.Begin")]
    Begin(Begin),
    /// The answer to the prompt of the last [`Step`]. Reply: the next [`Step`].
    #[serde(rename = "io.gpuhub.Broker.Answer")]
    Answer(Answer),
    /// pam_acct_mgmt(3): may this person log in now, however she was authenticated? Reply: [`Verdict`].
    #[serde(rename = "io.gpuhub.Broker.Account")]
    Account(Context),
    /// pam_setcred(3): what the module must make ready. Reply: [`Ready`].
    #[serde(rename = "io.gpuhub.Broker.Establish")]
    Establish(Context),
    /// pam_open_session(3). Reply: [`Ready`] with a session id.
    #[serde(rename = "io.gpuhub.Broker.OpenSession")]
    OpenSession(Context),
    /// pam_close_session(3). Reply: [`Nothing`].
    #[serde(rename = "io.gpuhub.Broker.CloseSession")]
    CloseSession(CloseSession),
    /// Administration of the builtin directory. Reply: [`AdminReply`].
    #[serde(rename = "io.gpuhub.Broker.Admin")]
    Admin(Admin),
    /// Administration of the ids that were given. Reply: [`IdmapReply`].
    #[serde(rename = "io.gpuhub.Broker.Idmap")]
    Idmap(IdmapCall),
    /// What is known of people and groups. Reply: [`CacheReply`].
    #[serde(rename = "io.gpuhub.Broker.Cache")]
    Cache(CacheCall),
    /// A person's passcode and one-time codes. Reply: [`PasscodeReply`].
    #[serde(rename = "io.gpuhub.Broker.Passcode")]
    Passcode(PasscodeCall),
    /// What the broker is and how its providers are. Reply: [`Status`].
    #[serde(rename = "io.gpuhub.Broker.GetStatus")]
    GetStatus(Nothing),
}

/// A request as it travels. Read it with [`Request::parse`].
#[derive(Debug, Serialize)]
pub struct Request {
    /// [`VERSION`] of the sender. First, so that a stranger's version is seen before anything else.
    pub version: u32,
    /// The call.
    #[serde(flatten)]
    pub call: Call,
}

/// Why a frame is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest {
    /// Not the JSON that any method takes, or a method that nobody has.
    Malformed,
    /// Of another version of the protocol.
    Version,
}

impl Request {
    /// Reads one frame, without its NUL. By hand and in two steps, since serde's own way
    /// (`flatten`) would copy every parameter, secrets too, through buffers that nobody wipes.
    pub fn parse(frame: &[u8]) -> Result<Self, BadRequest> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope<'a> {
            version: u32,
            #[serde(borrow)]
            method: &'a str,
            #[serde(borrow)]
            parameters: &'a serde_json::value::RawValue,
        }
        let envelope: Envelope<'_> = serde_json::from_slice(frame).map_err(|_| BadRequest::Malformed)?;
        if envelope.version != VERSION {
            return Err(BadRequest::Version);
        }
        fn read<'a, T: Deserialize<'a>>(text: &'a serde_json::value::RawValue) -> Result<T, BadRequest> {
            serde_json::from_str(text.get()).map_err(|_| BadRequest::Malformed)
        }
        let p = envelope.parameters;
        let call = match envelope.method.strip_prefix("io.gpuhub.Broker.").unwrap_or_default() {
            "GetUser" => Call::GetUser(read(p)?),
            "GetGroup" => Call::GetGroup(read(p)?),
            "GetGroupIds" => Call::GetGroupIds(read(p)?),
            "GetSshKeys" => Call::GetSshKeys(read(p)?),
            "Begin" => Call::Begin(read(p)?),
            "Answer" => Call::Answer(read(p)?),
            "Account" => Call::Account(read(p)?),
            "Establish" => Call::Establish(read(p)?),
            "OpenSession" => Call::OpenSession(read(p)?),
            "CloseSession" => Call::CloseSession(read(p)?),
            "Admin" => Call::Admin(read(p)?),
            "Idmap" => Call::Idmap(read(p)?),
            "Cache" => Call::Cache(read(p)?),
            "Passcode" => Call::Passcode(read(p)?),
            "GetStatus" => Call::GetStatus(read(p)?),
            _ => return Err(BadRequest::Malformed),
        };
        Ok(Self { version: envelope.version, call })
    }
}

/// A reply as it travels: exactly one of the two is there.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply<T> {
    /// The result.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub parameters: Option<T>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub error: Option<ErrorCode>,
}

fn none<T>() -> Option<T> {
    None
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// It certainly does not exist.
    #[serde(rename = "io.gpuhub.Broker.NoSuchEntry")]
    NoSuchEntry,
    /// It cannot be known now: a directory does not answer. Never told as "no such user".
    #[serde(rename = "io.gpuhub.Broker.Unavailable")]
    Unavailable,
    /// Client and broker speak different versions.
    #[serde(rename = "io.gpuhub.Broker.VersionMismatch")]
    VersionMismatch,
    /// Too many connections or logins at once.
    #[serde(rename = "io.gpuhub.Broker.Busy")]
    Busy,
}

/// No parameters.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Which user: by exactly one of the two.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserQuery {
    /// By name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// By id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// A login daemon asks before PAM: someone who does not exist yet may get a provisional entry.
    #[serde(default)]
    pub login: bool,
}

/// Which group: by exactly one of the two.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupQuery {
    /// By name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// By id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<u32>,
}

/// A name alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameQuery {
    /// The user's name.
    pub name: String,
}

/// Reply to [`Call::GetUser`].
#[derive(Debug, Serialize, Deserialize)]
pub struct UserReply {
    /// The entry.
    pub user: Passwd,
}

/// Reply to [`Call::GetGroup`].
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupReply {
    /// The entry.
    pub group: Group,
}

/// Reply to [`Call::GetGroupIds`].
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupIdsReply {
    /// Ids of the groups that list her, sorted; the primary one is among them if it does, too.
    pub gids: Vec<u32>,
}

/// Reply to [`Call::GetSshKeys`].
#[derive(Debug, Serialize, Deserialize)]
pub struct SshKeysReply {
    /// Lines of an authorized_keys file (sshd(8)), each a type and a key and nothing else.
    pub keys: Vec<String>,
}

/// Who asks PAM for what: the PAM items that the application set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// PAM_USER.
    pub user: String,
    /// PAM_USER, where the broker has found whose other login name that is, and put her own in its place. Does not
    /// travel.
    #[serde(skip)]
    pub typed: Option<String>,
    /// PAM_SERVICE.
    pub service: String,
    /// PAM_RHOST: where the person comes from, as the service says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// PAM_TTY.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tty: Option<String>,
    /// SSH_AUTH_INFO_0 of a public-key login: `publickey ssh-ed25519 AAAA…` (sshd_config(5),
    /// ExposeAuthInfo), one method a line.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ssh_auth_info: Option<String>,
}

/// What a conversation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// pam_authenticate(3).
    Authenticate,
    /// pam_chauthtok(3).
    ChangePassword,
}

/// Begins a conversation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// What for.
    pub purpose: Purpose,
    /// For whom.
    pub context: Context,
}

/// What the person typed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The text, however harmless: nobody knows what people type at a prompt.
    pub secret: Secret,
}

/// One message for the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// PAM_ERROR_MSG rather than PAM_TEXT_INFO.
    #[serde(default)]
    pub error: bool,
    /// The text, without control characters but newline and tab.
    pub text: String,
}

/// What the module does next: show the messages, then prompt or end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    /// Shown first, in order. Whether anybody sees them depends on the application.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// Then.
    pub next: Next,
}

/// See [`Step`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Ask the person, and send [`Call::Answer`].
    Prompt(Prompt),
    /// The conversation is over with this code.
    Done(Code),
}

/// A question to the person.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prompt {
    /// PAM_PROMPT_ECHO_ON rather than ECHO_OFF.
    pub echo: bool,
    /// The text.
    pub text: String,
    /// After the answer the broker may take so many seconds for its next step: a provider may
    /// have to be asked, or a person waited for.
    pub patience_s: u32,
}

/// Reply to [`Call::Account`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The decision.
    pub code: Code,
    /// Shown to the person.
    #[serde(default)]
    pub messages: Vec<Message>,
}

/// Reply to [`Call::Establish`] and [`Call::OpenSession`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Whose session it is. The module vets it before it touches a file.
    pub user: Passwd,
    /// The home that must exist; absent where homes are made by others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub home: Option<HomePlan>,
    /// The session's id in the audit log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
}

/// How a missing home is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HomePlan {
    /// Permission bits of the home itself.
    pub mode: u32,
    /// The directory whose content is copied.
    pub skel: String,
}

/// Ends a session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseSession {
    /// As at its opening.
    pub context: Context,
    /// The id that OpenSession gave, where the handle still has it (JupyterHub closes on a new
    /// handle): else the newest open one of the same user, service and tty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
}

/// How a call ended, in PAM's words (pam(3)); [`Code::pam`] gives the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// PAM_SUCCESS.
    Success,
    /// PAM_PERM_DENIED: known, but not allowed here.
    PermDenied,
    /// PAM_AUTH_ERR: the proof was wrong.
    AuthErr,
    /// PAM_CRED_INSUFFICIENT: this service cannot show what a login would need.
    CredInsufficient,
    /// PAM_AUTHINFO_UNAVAIL: a directory or provider does not answer.
    AuthinfoUnavail,
    /// PAM_USER_UNKNOWN: nobody of that name.
    UserUnknown,
    /// PAM_MAXTRIES: too many failures.
    MaxTries,
    /// PAM_NEW_AUTHTOK_REQD: the password must be changed first.
    NewAuthtokReqd,
    /// PAM_ACCT_EXPIRED: the account is locked or its time is over.
    AcctExpired,
    /// PAM_SESSION_ERR.
    SessionErr,
    /// PAM_AUTHTOK_ERR: the new password was not taken.
    AuthtokErr,
    /// PAM_SYSTEM_ERR.
    SystemErr,
}

impl Code {
    /// Every code once, for tables and tests.
    pub const ALL: [Code; 12] = [
        Code::Success,
        Code::PermDenied,
        Code::AuthErr,
        Code::CredInsufficient,
        Code::AuthinfoUnavail,
        Code::UserUnknown,
        Code::MaxTries,
        Code::NewAuthtokReqd,
        Code::AcctExpired,
        Code::SessionErr,
        Code::AuthtokErr,
        Code::SystemErr,
    ];

    /// Linux-PAM's number (security/_pam_types.h).
    pub const fn pam(self) -> i32 {
        match self {
            Code::Success => 0,
            Code::SystemErr => 4,
            Code::PermDenied => 6,
            Code::AuthErr => 7,
            Code::CredInsufficient => 8,
            Code::AuthinfoUnavail => 9,
            Code::UserUnknown => 10,
            Code::MaxTries => 11,
            Code::NewAuthtokReqd => 12,
            Code::AcctExpired => 13,
            Code::SessionErr => 14,
            Code::AuthtokErr => 20,
        }
    }
}

/// Reply to [`Call::GetStatus`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version (of the package).
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Generation of the published snapshot.
    pub generation: u64,
    /// Users and groups in the snapshot.
    pub users: u64,
    /// See `users`.
    pub groups: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Audit lines dropped since the start because the queue was full.
    pub audit_dropped: u64,
    /// The providers in order.
    pub providers: Vec<ProviderStatus>,
}

/// One provider in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `builtin`, `ldap`, or the kind of a provider with the device grant: `oidc`, `github` …
    pub kind: String,
    /// What is wrong, if anything.
    #[serde(default)]
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_documented() {
        let r = Request {
            version: VERSION,
            call: Call::GetUser(UserQuery { name: Some("alice".into()), uid: None, login: false }),
        };
        let text = serde_json::to_string(&r).unwrap_or_default();
        assert_eq!(
            text,
            r#"{"version":1,"method":"io.gpuhub.Broker.GetUser","parameters":{"name":"alice","login":false}}"#
        );
        assert!(Request::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn unknown_methods_and_fields_are_refused() {
        for text in [
            r#"{"version":1,"method":"io.gpuhub.Broker.Nope","parameters":{}}"#,
            r#"{"version":1,"method":"io.gpuhub.Broker.GetUser","parameters":{"nmae":"x"}}"#,
            r#"{"method":"io.gpuhub.Broker.GetStatus","parameters":{}}"#,
            r#"{"version":1,"method":"GetStatus","parameters":{}}"#,
            "[]",
        ] {
            assert_eq!(Request::parse(text.as_bytes()).err(), Some(BadRequest::Malformed), "{text}");
        }
        let later = r#"{"version":2,"method":"io.gpuhub.Broker.GetStatus","parameters":{}}"#;
        assert_eq!(Request::parse(later.as_bytes()).err(), Some(BadRequest::Version));
    }

    #[test]
    fn codes_are_distinct_and_round_trip() {
        let mut numbers: Vec<i32> = Code::ALL.iter().map(|c| c.pam()).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
        for code in Code::ALL {
            let text = serde_json::to_string(&code).unwrap_or_default();
            assert!(serde_json::from_str::<Code>(&text).is_ok_and(|back| back == code));
        }
    }
}
