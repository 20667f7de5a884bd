//! The password policy control (draft-behera-ldap-password-policy-11 §6): a request without a
//! value, and a response of a few BER bytes, read by hand because they are a stranger's.

use ldap3::controls::{Control, RawControl};

/// Both request and response.
const OID: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// The request control; not critical, so that servers without policies pay it no attention.
pub(super) fn request() -> RawControl {
    RawControl { ctype: OID.into(), crit: false, val: None }
}

/// What the response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Policy {
    /// What is coming.
    pub(super) warning: Option<Warning>,
    /// What is wrong.
    pub(super) error: Option<Fault>,
}

/// `warning` of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warning {
    /// Seconds until the password expires.
    ExpiresIn(u32),
    /// Logins left with an expired password.
    GraceLogins(u32),
}

/// `error` of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// 0
    PasswordExpired,
    /// 1
    AccountLocked,
    /// 2
    ChangeAfterReset,
    /// 3
    ModNotAllowed,
    /// 4
    MustSupplyOld,
    /// 5
    InsufficientQuality,
    /// 6
    TooShort,
    /// 7
    TooYoung,
    /// 8
    InHistory,
}

impl Policy {
    /// From the controls of a result. A response that cannot be read says nothing.
    pub(super) fn of(controls: &[Control]) -> Self {
        let value = controls.iter().find(|c| c.1.ctype == OID).and_then(|c| c.1.val.as_deref());
        value.and_then(parse).unwrap_or_default()
    }
}

/// ```text
/// PasswordPolicyResponseValue ::= SEQUENCE {
///     warning [0] CHOICE {
///         timeBeforeExpiration [0] INTEGER (0 .. maxInt),
///         graceAuthNsRemaining [1] INTEGER (0 .. maxInt) } OPTIONAL,
///     error   [1] ENUMERATED { … } OPTIONAL }
/// ```
fn parse(value: &[u8]) -> Option<Policy> {
    let (tag, mut fields, rest) = element(value)?;
    if tag != 0x30 || !rest.is_empty() {
        return None;
    }
    let mut policy = Policy::default();
    while !fields.is_empty() {
        let (tag, content, rest) = element(fields)?;
        match tag {
            0xa0 => {
                let (tag, number, rest) = element(content)?;
                let number = unsigned(number)?;
                policy.warning = Some(match tag {
                    0x80 => Warning::ExpiresIn(number),
                    0x81 => Warning::GraceLogins(number),
                    _ => return None,
                });
                if !rest.is_empty() {
                    return None;
                }
            }
            0x81 => {
                policy.error = Some(match unsigned(content)? {
                    0 => Fault::PasswordExpired,
                    1 => Fault::AccountLocked,
                    2 => Fault::ChangeAfterReset,
                    3 => Fault::ModNotAllowed,
                    4 => Fault::MustSupplyOld,
                    5 => Fault::InsufficientQuality,
                    6 => Fault::TooShort,
                    7 => Fault::TooYoung,
                    8 => Fault::InHistory,
                    _ => return None,
                });
            }
            _ => return None,
        }
        fields = rest;
    }
    Some(policy)
}

/// One element: tag, content, what follows. Lengths in the short form or the long one (X.690 §8.1.3), of
/// which liblber, and 389 Directory Server with it, always writes four bytes.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (length, rest) = match bytes.get(1..)?.split_first()? {
        (form @ 0x81..=0x84, rest) => {
            let (length, rest) = rest.split_at_checked(usize::from(form & 0x7f))?;
            (length.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        (length, rest) if *length < 0x80 => (usize::from(*length), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*bytes.first()?, content, rest))
}

/// A non-negative integer of at most 31 bits.
fn unsigned(content: &[u8]) -> Option<u32> {
    if content.is_empty() || content.len() > 4 || content.first().is_some_and(|b| *b >= 0x80) {
        return None;
    }
    Some(content.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(e: Fault) -> Option<Policy> {
        Some(Policy { warning: None, error: Some(e) })
    }

    #[test]
    fn responses() {
        assert_eq!(parse(b"\x30\x00"), Some(Policy::default()));
        assert_eq!(parse(b"\x30\x03\x81\x01\x00"), error(Fault::PasswordExpired));
        assert_eq!(parse(b"\x30\x03\x81\x01\x01"), error(Fault::AccountLocked));
        assert_eq!(parse(b"\x30\x03\x81\x01\x02"), error(Fault::ChangeAfterReset));
        assert_eq!(parse(b"\x30\x81\x03\x81\x01\x08"), error(Fault::InHistory));
        // As 389 Directory Server sends it.
        assert_eq!(parse(b"\x30\x84\x00\x00\x00\x03\x81\x01\x05"), error(Fault::InsufficientQuality));
        let warning = |w| Some(Policy { warning: Some(w), error: None });
        assert_eq!(parse(b"\x30\x06\xa0\x04\x80\x02\x02\x58"), warning(Warning::ExpiresIn(600)));
        assert_eq!(parse(b"\x30\x05\xa0\x03\x81\x01\x03"), warning(Warning::GraceLogins(3)));
        let both = Policy { warning: Some(Warning::GraceLogins(0)), error: Some(Fault::ChangeAfterReset) };
        assert_eq!(parse(b"\x30\x08\xa0\x03\x81\x01\x00\x81\x01\x02"), Some(both));
    }

    #[test]
    fn garbage_says_nothing() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x01",
            b"\x30\x80\x81\x01\x00\x00\x00",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x84\x00\x00\x03",
            b"\x30\x85\x00\x00\x00\x00\x03\x81\x01\x05",
            b"\x31\x03\x81\x01\x00",
            b"\x30\x03\x81\x01\x00\x00",
            b"\x30\x03\x81\x01\x09",
            b"\x30\x03\x81\x01\xff",
            b"\x30\x02\x81\x00",
            b"\x30\x07\x81\x05\x00\x00\x00\x00\x01",
            b"\x30\x05\xa0\x03\x82\x01\x00",
            b"\x30\x06\xa0\x04\x80\x01\x00\x00",
            b"\x30\x03\x81\x02\x00",
            b"\x30\x03\x02\x01\x00",
        ] {
            assert_eq!(parse(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn no_short_input_panics() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for tail in [&b""[..], b"\x00", b"\x81\x01\x00", b"\x80\x01\x7f\xff"] {
                    let mut bytes = vec![a, b];
                    bytes.extend_from_slice(tail);
                    let _ = parse(&bytes);
                }
            }
        }
    }

    #[test]
    fn only_its_own_control_is_read() {
        let raw = |ctype: &str, val: Option<&[u8]>| {
            Control(None, RawControl { ctype: ctype.into(), crit: false, val: val.map(<[u8]>::to_vec) })
        };
        let locked = Some(&b"\x30\x03\x81\x01\x01"[..]);
        assert_eq!(Policy::of(&[raw("1.2.3", locked)]), Policy::default());
        assert_eq!(Policy::of(&[raw(OID, None)]), Policy::default());
        assert_eq!(Policy::of(&[raw("1.2.3", None), raw(OID, locked)]).error, Some(Fault::AccountLocked));
    }
}
