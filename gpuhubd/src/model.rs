//! What providers and the engine talk about: people, groups, proofs and refusals.
//!
//! Nothing here knows of sockets, SQL or HTTP.

pub mod dn;
mod sid;

pub use sid::{NotADomainSid, Sid};

use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::wire::Code;
use std::fmt;

/// Who somebody is for good. A name can be given to another person later; a key cannot.
/// OIDC: issuer and `sub`. Directories: the provider's name and nsUniqueId, entryUUID or objectSid (the DN
/// where a server has neither).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PersonKey {
    /// Who says so.
    pub issuer: String,
    /// What she is called there. Compared exactly, never empty.
    pub subject: String,
}

/// A person as a provider describes her.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name of the provider in the configuration.
    pub provider: String,
    /// Login name.
    pub name: UserName,
    /// The key.
    pub key: PersonKey,
    /// gecos; control characters and colons are the engine's to refuse.
    pub full_name: String,
    /// Uid that the directory fixes; else the idmap derives one.
    pub uid: Option<DirectoryId>,
    /// Primary gid that the directory fixes; else that of the common primary group, or of a group of
    /// her own with the uid's number.
    pub gid: Option<DirectoryId>,
    /// Home, where the directory says; else the template.
    pub home: Option<String>,
    /// Shell, where the directory says; else the default.
    pub shell: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<GroupClaim>,
    /// What access rules may call her groups besides the names of `groups`: their DNs, in one spelling, and the
    /// name and DN of her primary group. A directory says so of whoever logs in.
    pub also_in: Vec<String>,
    /// May she log in at all?
    pub standing: Standing,
}

impl Person {
    /// Whether nothing differs but what only access rules look at.
    pub fn has_the_same_entry(&self, other: &Person) -> bool {
        let Self { provider, name, key, full_name, uid, gid, home, shell, groups, also_in: _, standing } = self;
        (provider, name, key, full_name) == (&other.provider, &other.name, &other.key, &other.full_name)
            && (uid, gid, home, shell) == (&other.uid, &other.gid, &other.home, &other.shell)
            && (groups, standing) == (&other.groups, &other.standing)
    }
}

/// A group by name, and by id where the directory fixes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupClaim {
    /// Its name.
    pub name: GroupName,
    /// Its gid; else the idmap derives one.
    pub gid: Option<DirectoryId>,
}

/// An id that a directory decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DirectoryId {
    /// An attribute or a claim has the number.
    Number(u32),
    /// The number is computed from this (`crate::idmap::sid`).
    Sid(Sid),
}

impl From<u32> for DirectoryId {
    fn from(id: u32) -> Self {
        Self::Number(id)
    }
}

impl From<Sid> for DirectoryId {
    fn from(sid: Sid) -> Self {
        Self::Sid(sid)
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryId::Number(id) => id.fmt(f),
            DirectoryId::Sid(sid) => sid.fmt(f),
        }
    }
}

/// A group as a directory describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryGroup {
    /// Name and id.
    pub claim: GroupClaim,
    /// Legal member names, in the directory's order.
    pub members: Vec<UserName>,
}

/// Whether an account may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Active,
    /// Locked or disabled by the directory.
    Locked,
    /// Switched off at her provider.
    Disabled,
    /// In order, but not one of those whom the provider's restrictions let in.
    Barred,
    /// Its last day is over (shadowExpire; 0 means expired, CVE-2026-104033).
    Expired,
}

/// How somebody proved who she is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A password.
    Password,
    /// A password that the directory verified some time ago, and is too far away to verify now.
    CachedPassword,
    /// The device authorization grant (RFC 8628).
    DeviceCode,
    /// A passcode of her own, where no device code can be shown.
    Passcode,
    /// A code for one login, which she got after a sign-in.
    OneTimeCode,
    /// An ID token of her provider, given as a password.
    IdToken,
    /// An SSH key, which sshd checked; we only decide on the account.
    PublicKey,
}

impl Method {
    /// The word in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::CachedPassword => "cached-password",
            Method::DeviceCode => "device-code",
            Method::Passcode => "passcode",
            Method::OneTimeCode => "one-time-code",
            Method::IdToken => "id-token",
            Method::PublicKey => "publickey",
        }
    }
}

/// What somebody whose password was right should know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It expires in so many seconds.
    ExpiresIn(u64),
    /// It has expired; the directory lets it in so many more times (draft-behera-ldap-password-policy §6.2).
    GraceLogins(u32),
}

impl Notice {
    /// The sentence for the person.
    pub fn told(self) -> String {
        match self {
            Notice::ExpiresIn(seconds) => {
                let (n, unit) = match seconds {
                    0..=7_199 => (seconds.div_ceil(60), "minute"),
                    7_200..=172_799 => (seconds / 3_600, "hour"),
                    _ => (seconds / 86_400, "day"),
                };
                format!("Your password expires in {n} {unit}{}.", if n == 1 { "" } else { "s" })
            }
            Notice::GraceLogins(0) => "Your password has expired, and this was its last login.".into(),
            Notice::GraceLogins(1) => "Your password has expired. It lets you in once more.".into(),
            Notice::GraceLogins(n) => format!("Your password has expired. It lets you in {n} more times."),
        }
    }
}

/// Why somebody is not let in. Each has its audit reason, its PAM code, and what the person is
/// told; the three tables below are complete by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The password is not hers.
    WrongPassword,
    /// An empty password; never tried anywhere (RFC 4513 §5.1.2, CVE-2010-2940).
    EmptyPassword,
    /// Nobody of that name.
    UnknownUser,
    /// A name that cannot be one.
    BadName,
    /// Locked or disabled in the directory.
    AccountLocked,
    /// Disabled in the directory.
    AccountDisabled,
    /// Its time is over.
    AccountExpired,
    /// The password is too old, and must be changed first.
    PasswordExpired,
    /// It has expired, and its directory does not even let her in to change it.
    PasswordUnchangeable,
    /// The administrator wants it changed first.
    MustChangePassword,
    /// No new password that the directory takes.
    NotChanged,
    /// Not at this time of the day, or not from here (Active Directory).
    LogonRestricted,
    /// Too many failures in a row.
    TooManyTries,
    /// No access rule lets her in here.
    NotAllowed,
    /// This service cannot show a device code or wait for a person.
    NoInteractiveService,
    /// She has no passcode, and this is no one-time code of hers.
    NoPasscode,
    /// Too many wrong passcodes: hers does not count until she signs in at the provider.
    PasscodeLocked,
    /// Her passcode is right, and too old.
    PasscodeExpired,
    /// It takes a sign-in at the provider first.
    SignInNeeded,
    /// Asked again, her provider says no: her account there is disabled, or her sign-in has expired or been revoked.
    NotHonoured,
    /// The directory or provider does not answer, or not what its protocol says.
    BackendUnavailable,
    /// The device code was not used in time.
    CodeExpired,
    /// The person pressed "deny" at the provider.
    DeniedByUser,
    /// The token names another person than the one who logs in.
    WrongSubject,
    /// This name is bound to another key: a recycled name or address.
    NameTaken,
    /// A token that does not verify: signature, algorithm, issuer.
    BadToken,
    /// No ID token came where one is the proof: the provider speaks OAuth 2.0 alone.
    NoIdToken,
    /// A token for somebody else's client.
    WrongAudience,
    /// A token past its time, or from the future.
    TokenExpired,
    /// What the provisional entry promised is not what she is; the next attempt is right.
    EntryChanged,
    /// Her entry may not be served: an id or name that is never given.
    EntryRefused,
    /// No id could be given.
    NoId,
    /// The registry of ids does not answer, and who is new here needs it.
    RegistryUnavailable,
    /// The connection ended, or the prompt could not be shown.
    Cancelled,
    /// Too many logins at once, of this name, from this source, or in all.
    Busy,
    /// A fault of ours.
    Internal,
}

impl Reason {
    /// Every reason once.
    pub const ALL: [Reason; 36] = [
        Reason::WrongPassword,
        Reason::EmptyPassword,
        Reason::UnknownUser,
        Reason::BadName,
        Reason::AccountLocked,
        Reason::AccountDisabled,
        Reason::AccountExpired,
        Reason::PasswordExpired,
        Reason::PasswordUnchangeable,
        Reason::MustChangePassword,
        Reason::NotChanged,
        Reason::LogonRestricted,
        Reason::TooManyTries,
        Reason::NotAllowed,
        Reason::NoInteractiveService,
        Reason::NoPasscode,
        Reason::PasscodeLocked,
        Reason::PasscodeExpired,
        Reason::SignInNeeded,
        Reason::NotHonoured,
        Reason::BackendUnavailable,
        Reason::CodeExpired,
        Reason::DeniedByUser,
        Reason::WrongSubject,
        Reason::NameTaken,
        Reason::BadToken,
        Reason::NoIdToken,
        Reason::WrongAudience,
        Reason::TokenExpired,
        Reason::EntryChanged,
        Reason::EntryRefused,
        Reason::NoId,
        Reason::RegistryUnavailable,
        Reason::Cancelled,
        Reason::Busy,
        Reason::Internal,
    ];

    /// Whether the password was right, and only another one will be let in.
    pub const fn wants_a_new_password(self) -> bool {
        matches!(self, Reason::PasswordExpired | Reason::MustChangePassword)
    }

    /// The word in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::WrongPassword => "wrong-password",
            Reason::EmptyPassword => "empty-password",
            Reason::UnknownUser => "unknown-user",
            Reason::BadName => "bad-name",
            Reason::AccountLocked => "account-locked",
            Reason::AccountDisabled => "account-disabled",
            Reason::AccountExpired => "account-expired",
            Reason::PasswordExpired => "password-expired",
            Reason::PasswordUnchangeable => "password-unchangeable",
            Reason::MustChangePassword => "must-change-password",
            Reason::NotChanged => "password-not-changed",
            Reason::LogonRestricted => "logon-restricted",
            Reason::TooManyTries => "too-many-tries",
            Reason::NotAllowed => "not-allowed",
            Reason::NoInteractiveService => "no-interactive-service",
            Reason::NoPasscode => "no-passcode",
            Reason::PasscodeLocked => "passcode-locked",
            Reason::PasscodeExpired => "passcode-expired",
            Reason::SignInNeeded => "sign-in-needed",
            Reason::NotHonoured => "not-honoured",
            Reason::BackendUnavailable => "backend-unavailable",
            Reason::CodeExpired => "code-expired",
            Reason::DeniedByUser => "denied-by-user",
            Reason::WrongSubject => "wrong-subject",
            Reason::NameTaken => "name-taken",
            Reason::BadToken => "bad-token",
            Reason::NoIdToken => "no-id-token",
            Reason::WrongAudience => "wrong-audience",
            Reason::TokenExpired => "token-expired",
            Reason::EntryChanged => "entry-changed",
            Reason::EntryRefused => "entry-refused",
            Reason::NoId => "no-id",
            Reason::RegistryUnavailable => "registry-unavailable",
            Reason::Cancelled => "cancelled",
            Reason::Busy => "busy",
            Reason::Internal => "internal",
        }
    }

    /// What the login program gets.
    pub const fn code(self) -> Code {
        match self {
            Reason::UnknownUser | Reason::BadName => Code::UserUnknown,
            Reason::AccountLocked | Reason::AccountDisabled | Reason::AccountExpired | Reason::NotHonoured => {
                Code::AcctExpired
            }
            Reason::PasswordExpired | Reason::PasswordUnchangeable | Reason::MustChangePassword => Code::NewAuthtokReqd,
            Reason::TooManyTries | Reason::Busy => Code::MaxTries,
            Reason::NotAllowed | Reason::LogonRestricted | Reason::NameTaken | Reason::EntryRefused | Reason::NoId => {
                Code::PermDenied
            }
            Reason::NoInteractiveService => Code::CredInsufficient,
            Reason::BackendUnavailable | Reason::RegistryUnavailable => Code::AuthinfoUnavail,
            Reason::Internal => Code::SystemErr,
            Reason::WrongPassword
            | Reason::EmptyPassword
            | Reason::NotChanged
            | Reason::NoPasscode
            | Reason::PasscodeLocked
            | Reason::PasscodeExpired
            | Reason::SignInNeeded
            | Reason::CodeExpired
            | Reason::DeniedByUser
            | Reason::WrongSubject
            | Reason::BadToken
            | Reason::NoIdToken
            | Reason::WrongAudience
            | Reason::TokenExpired
            | Reason::EntryChanged
            | Reason::Cancelled => Code::AuthErr,
        }
    }

    /// What the person is told. Nothing for whatever would tell a stranger that a name exists.
    pub const fn told(self) -> Option<&'static str> {
        match self {
            Reason::WrongPassword
            | Reason::EmptyPassword
            | Reason::UnknownUser
            | Reason::BadName
            | Reason::AccountLocked
            | Reason::AccountDisabled
            | Reason::TooManyTries
            | Reason::NoPasscode
            | Reason::PasscodeLocked
            | Reason::Cancelled => None,
            Reason::AccountExpired => Some("This account has expired."),
            Reason::PasswordExpired => Some("Your password has expired and must be changed."),
            Reason::PasswordUnchangeable => Some(
                "Your password has expired, and the directory no longer lets you change it. Ask your administrator.",
            ),
            Reason::MustChangePassword => Some("Your password must be changed before the first login."),
            Reason::NotChanged => Some("Your password has not been changed."),
            Reason::LogonRestricted => Some("You are not allowed to log in now, or from here."),
            Reason::NotAllowed => Some("You are not allowed to log in to this machine."),
            Reason::NoInteractiveService => {
                Some("This login needs a browser, which this service cannot show. Log in by SSH.")
            }
            Reason::PasscodeExpired => {
                Some("Your passcode has expired. Sign in by SSH, and set another: gpuhub passcode set")
            }
            Reason::SignInNeeded => Some("It is too long since you signed in with a code. Do so once, by SSH."),
            Reason::NotHonoured => Some("Your sign-in no longer counts at the provider. Sign in with a code, by SSH."),
            Reason::BackendUnavailable => Some("Sign-in is unavailable now: the directory does not answer."),
            Reason::RegistryUnavailable => Some("First sign-ins are not possible now; tell your administrator."),
            Reason::CodeExpired => Some("The code has expired. Log in again for a new one."),
            Reason::DeniedByUser => Some("The sign-in was denied."),
            Reason::WrongSubject => Some("You signed in as somebody else than the account asked for."),
            Reason::NameTaken => Some("This name belongs to another person. Ask your administrator."),
            Reason::BadToken | Reason::NoIdToken | Reason::WrongAudience | Reason::TokenExpired => {
                Some("The provider's answer could not be verified. Ask your administrator.")
            }
            Reason::EntryChanged => Some("Your account has just been set up. Please sign in again."),
            Reason::EntryRefused | Reason::NoId => Some("This account cannot be used here. Ask your administrator."),
            Reason::Busy => Some("Too many sign-ins are under way. Try again in a moment."),
            Reason::Internal => Some("Sign-in failed because of an internal error."),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal, with a detail for the audit log: never a secret, never a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// What exactly, for the administrator.
    pub detail: Option<String>,
}

impl Denied {
    /// With a detail.
    pub fn because(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: Some(detail.into()) }
    }
}

impl From<Reason> for Denied {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None }
    }
}

/// A directory could not be asked. What cannot be known is "unavailable", never "no such user".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(
    /// What happened, for the administrator.
    pub String,
);

impl From<Unavailable> for Denied {
    fn from(u: Unavailable) -> Self {
        Denied::because(Reason::BackendUnavailable, u.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Notice, Reason};
    use gpuhub_common::wire::Code;

    #[test]
    fn what_is_coming_is_told_in_words() {
        for (notice, told) in [
            (Notice::ExpiresIn(1), "Your password expires in 1 minute."),
            (Notice::ExpiresIn(7_199), "Your password expires in 120 minutes."),
            (Notice::ExpiresIn(7_200), "Your password expires in 2 hours."),
            (Notice::ExpiresIn(172_799), "Your password expires in 47 hours."),
            (Notice::ExpiresIn(864_000), "Your password expires in 10 days."),
            (Notice::GraceLogins(0), "Your password has expired, and this was its last login."),
            (Notice::GraceLogins(1), "Your password has expired. It lets you in once more."),
            (Notice::GraceLogins(3), "Your password has expired. It lets you in 3 more times."),
        ] {
            assert_eq!(notice.told(), told);
        }
    }

    #[test]
    fn every_reason_has_its_own_word_and_no_reason_is_success() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|r| r.code() != Code::Success));
    }

    #[test]
    fn a_stranger_is_told_the_same_of_an_unknown_name_and_a_wrong_password() {
        assert_eq!(Reason::UnknownUser.told(), Reason::WrongPassword.told());
        assert_eq!(Reason::AccountLocked.told(), Reason::WrongPassword.told());
        for reason in [Reason::NoPasscode, Reason::PasscodeLocked] {
            assert_eq!((reason.told(), reason.code()), (Reason::WrongPassword.told(), Reason::WrongPassword.code()));
        }
    }
}
