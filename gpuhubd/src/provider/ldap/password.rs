//! What the answer to a bind or a password change means. Pure.

use super::link::Answer;
use super::ppolicy::{Fault, Warning};
use super::trouble::{shortened, told};
use crate::model::{Denied, Notice, Reason};
use gpuhub_common::secret::Secret;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// A password as LDAP carries it (RFC 4513 §5.1.3: UTF-8). `None` if it cannot be one; a NUL is
/// refused because crypt(3) in a server would end there.
pub(super) fn text(password: &Secret) -> Option<Zeroizing<String>> {
    password.expose_str().filter(|p| !p.is_empty() && !p.contains('\0')).map(|p| Zeroizing::new(p.to_owned()))
}

/// Whether the password was hers and may be used, and what she should know of it then. Success is result
/// code 0 and nothing else (RFC 4511 §A.1).
pub(super) fn verdict(answer: &Answer) -> Result<Option<Notice>, Denied> {
    let result = &answer.result;
    let because = |reason| Err(Denied::because(reason, told(result)));
    match (result.rc, answer.policy.error) {
        (_, Some(Fault::AccountLocked)) => because(Reason::AccountLocked),
        // The server says this only of a password that was right.
        (0, Some(Fault::PasswordExpired)) => because(Reason::PasswordExpired),
        (49, Some(Fault::PasswordExpired)) => because(Reason::PasswordUnchangeable),
        (0 | 49, Some(Fault::ChangeAfterReset)) => because(Reason::MustChangePassword),
        (0, _) => Ok(answer.policy.warning.map(|warning| match warning {
            Warning::ExpiresIn(seconds) => Notice::ExpiresIn(seconds.into()),
            Warning::GraceLogins(n) => Notice::GraceLogins(n),
        })),
        (49, _) => because(active_directory(&result.text).unwrap_or(Reason::WrongPassword)),
        // noSuchObject (deleted a moment ago) and inappropriateAuthentication
        // (no password in the entry), where the server tells them apart.
        (32 | 48, _) => because(Reason::WrongPassword),
        // 389 Directory Server: "Exceed password retry limit", and "Account inactivated".
        (19, _) => because(Reason::AccountLocked),
        // "Account (Kerberos principal) is expired"; "Too many failed logins.", "Entry permanently locked.": FreeIPA's.
        (53, _) if says(&result.text, &["is expired"]) => because(Reason::AccountExpired),
        (53, _) if says(&result.text, &["inactivated", "locked", "disabled", "failed logins"]) => {
            because(Reason::AccountLocked)
        }
        _ => because(Reason::BackendUnavailable),
    }
}

/// What Active Directory adds to "invalid credentials", as a Windows error in hexadecimal ([MS-ERREF] 2.2).
fn active_directory(text: &str) -> Option<Reason> {
    let (_, data) = text.split_once(", data ")?;
    let code = data.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    Some(match code {
        // ERROR_INVALID_LOGON_HOURS, ERROR_INVALID_WORKSTATION
        "530" | "531" => Reason::LogonRestricted,
        // ERROR_PASSWORD_EXPIRED
        "532" => Reason::PasswordExpired,
        // ERROR_ACCOUNT_DISABLED
        "533" => Reason::AccountDisabled,
        // ERROR_ACCOUNT_EXPIRED
        "701" => Reason::AccountExpired,
        // ERROR_PASSWORD_MUST_CHANGE
        "773" => Reason::MustChangePassword,
        // ERROR_ACCOUNT_LOCKED_OUT
        "775" => Reason::AccountLocked,
        // ERROR_NO_SUCH_USER, ERROR_LOGON_FAILURE, and whatever else it is: not her password.
        _ => return None,
    })
}

fn says(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

/// What the person is told about her change.
pub(super) fn changed(bound: &Answer, change: Option<&Answer>) -> Result<(), String> {
    let Some(answer) = change else {
        return Err(match verdict(bound).map_err(|d| d.reason) {
            Err(Reason::WrongPassword) => "The old password is wrong.",
            Err(reason @ Reason::PasswordUnchangeable) => reason.told().unwrap_or_default(),
            _ => "The directory does not let you change your password.",
        }
        .into());
    };
    taken(answer)
}

/// What she is told about the answer to a change itself.
pub(super) fn taken(answer: &Answer) -> Result<(), String> {
    if answer.result.rc == 0 {
        return Ok(());
    }
    let why = match answer.policy.error {
        Some(Fault::ModNotAllowed) => "The directory does not let you change your password.".into(),
        Some(Fault::MustSupplyOld) => "The directory wants the old password.".into(),
        Some(Fault::InsufficientQuality) => "The directory finds the new password too simple.".into(),
        Some(Fault::TooShort) => "The new password is too short.".into(),
        Some(Fault::TooYoung) => "The password was changed only a short time ago. Try again later.".into(),
        Some(Fault::InHistory) => "You have used this password before. Choose another.".into(),
        _ => match (answer.result.rc, answer.result.text.as_str()) {
            // Active Directory says it as a Windows error: ERROR_PASSWORD_RESTRICTION, ERROR_INVALID_PASSWORD.
            (19 | 53, text) if text.starts_with("0000052D") => {
                "The directory finds the new password too short, too simple, too young a change, or used before.".into()
            }
            (19 | 53, text) if text.starts_with("00000056") => "The old password is wrong.".into(),
            // constraintViolation: servers without the control say the rule in words.
            (19, rule) if !rule.is_empty() => format!("The directory refused the new password: {}", shortened(rule)),
            (19, _) => "The directory refused the new password.".into(),
            (50 | 53, _) => "The directory does not let you change your password.".into(),
            (51 | 52, _) => "The directory cannot change passwords now. Try again later.".into(),
            _ => "The directory did not change the password.".into(),
        },
    };
    Err(why)
}

/// How long refused binds take. A server hashes the password of an entry that exists (argon2:
/// tens of milliseconds) and answers at once for one that does not; a stranger must not see the
/// difference, so a bind of nobody is followed by a wait: the difference of the two medians.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    refused: VecDeque<Duration>,
    nobody: VecDeque<Duration>,
}

impl Pace {
    /// So many binds of each kind are remembered.
    const MEMORY: usize = 31;

    /// What the timer cannot measure off: tokio's has milliseconds, and rounds up.
    const TICK: Duration = Duration::from_millis(1);

    /// A bind with a wrong password took so long.
    pub(super) fn refused(&self, took: Duration) {
        remember(&mut self.latest().refused, took);
    }

    /// A bind of nobody took so long. How long to wait now, if at all.
    pub(super) fn nobody(&self, took: Duration) -> Option<Duration> {
        let mut latest = self.latest();
        remember(&mut latest.nobody, took);
        let missing = median(&latest.refused).saturating_sub(median(&latest.nobody));
        missing.checked_sub(Self::TICK / 2).filter(|wait| *wait >= Self::TICK / 2)
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(latest: &mut VecDeque<Duration>, took: Duration) {
    if latest.len() >= Pace::MEMORY {
        latest.pop_front();
    }
    latest.push_back(took);
}

fn median(latest: &VecDeque<Duration>) -> Duration {
    let mut sorted: Vec<_> = latest.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::ppolicy::Policy;
    use super::*;
    use ldap3::LdapResult;

    fn answer(rc: u32, text: &str, error: Option<Fault>) -> Answer {
        let result = LdapResult { rc, matched: String::new(), text: text.into(), refs: vec![], ctrls: vec![] };
        Answer { result, policy: Policy { warning: None, error } }
    }

    #[test]
    fn verdicts() {
        let reason = |rc, text, error| verdict(&answer(rc, text, error)).map_err(|d| d.reason);
        assert_eq!(reason(0, "", None), Ok(None));
        assert_eq!(reason(0, "", Some(Fault::ChangeAfterReset)), Err(Reason::MustChangePassword));
        assert_eq!(reason(0, "", Some(Fault::AccountLocked)), Err(Reason::AccountLocked));
        assert_eq!(reason(49, "", None), Err(Reason::WrongPassword));
        assert_eq!(reason(49, "", Some(Fault::AccountLocked)), Err(Reason::AccountLocked));
        assert_eq!(reason(49, "", Some(Fault::PasswordExpired)), Err(Reason::PasswordUnchangeable));
        assert_eq!(reason(0, "", Some(Fault::PasswordExpired)), Err(Reason::PasswordExpired));
        assert_eq!(reason(19, "Exceed password retry limit.", None), Err(Reason::AccountLocked));
        assert_eq!(reason(53, "Account inactivated. Contact", None), Err(Reason::AccountLocked));
        assert_eq!(reason(53, "Entry permanently locked.\n", None), Err(Reason::AccountLocked));
        assert_eq!(reason(53, "Too many failed logins.\n", None), Err(Reason::AccountLocked));
        assert_eq!(reason(53, "Account (Kerberos principal) is expired", None), Err(Reason::AccountExpired));
        assert_eq!(reason(53, "operation restricted", None), Err(Reason::BackendUnavailable));
        for rc in [1, 2, 3, 5, 6, 8, 10, 13, 14, 50, 51, 52, 80, 118, 4_294_967_295] {
            assert_eq!(reason(rc, "", None), Err(Reason::BackendUnavailable), "{rc}");
        }
    }

    #[test]
    fn what_active_directory_adds_to_invalid_credentials() {
        let of = |data: &str| {
            let text =
                format!("80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {data}, v1db1");
            verdict(&answer(49, &text, None)).unwrap_err().reason
        };
        for (data, want) in [
            ("525", Reason::WrongPassword),
            ("52e", Reason::WrongPassword),
            ("530", Reason::LogonRestricted),
            ("531", Reason::LogonRestricted),
            ("532", Reason::PasswordExpired),
            ("533", Reason::AccountDisabled),
            ("701", Reason::AccountExpired),
            ("773", Reason::MustChangePassword),
            ("775", Reason::AccountLocked),
            ("", Reason::WrongPassword),
            ("5333", Reason::WrongPassword),
        ] {
            assert_eq!(of(data), want, "{data}");
        }
    }

    #[test]
    fn a_warning_does_not_keep_anybody_out() {
        let mut answer = answer(0, "", None);
        answer.policy.warning = Some(Warning::GraceLogins(1));
        assert_eq!(verdict(&answer), Ok(Some(Notice::GraceLogins(1))));
        answer.policy.warning = Some(Warning::ExpiresIn(7));
        assert_eq!(verdict(&answer), Ok(Some(Notice::ExpiresIn(7))));
    }

    #[test]
    fn only_success_is_a_change() {
        let bound = answer(0, "", None);
        assert_eq!(changed(&bound, Some(&answer(0, "", None))), Ok(()));
        for error in [None, Some(Fault::TooShort), Some(Fault::InHistory)] {
            for rc in [1, 19, 49, 50, 53, 80] {
                assert!(changed(&bound, Some(&answer(rc, "", error))).is_err());
            }
        }
        assert!(changed(&answer(49, "", None), None).is_err());
        assert!(changed(&bound, None).is_err());
        let e = changed(&bound, Some(&answer(19, "too\x1b[2Jshort", None))).unwrap_err();
        assert_eq!(e, "The directory refused the new password: too [2Jshort");
    }

    #[test]
    fn passwords_that_cannot_be_sent() {
        for bad in [&b""[..], b"a\0b", b"\xff"] {
            assert!(text(&Secret::new(bad).unwrap()).is_none());
        }
        assert_eq!(text(&Secret::new("pässwort".as_bytes()).unwrap()).unwrap().as_str(), "pässwort");
    }

    #[test]
    fn nobody_waits_for_what_somebody_takes_longer() {
        let ms = Duration::from_millis;
        let pace = Pace::default();
        assert_eq!(pace.nobody(ms(5)), None, "nothing is known of anybody");
        for n in 0..40 {
            pace.refused(ms(20 + n % 3));
        }
        assert_eq!(pace.nobody(ms(5)), Some(ms(16) - Duration::from_micros(500)));
        for _ in 0..40 {
            let _ = pace.nobody(ms(21));
        }
        assert_eq!(pace.nobody(ms(1)), None, "they take the same; one quick answer changes nothing");
        assert_eq!(pace.nobody(ms(900)), None);
    }
}
