//! How old a password may be, by the attributes of RFC 2307 that are called as the fields of shadow(5). The
//! server knows nothing of them: whoever lets people in obeys them. Pure.

use super::entry::Entry;
use crate::model::{Denied, Notice, Reason};

/// What an entry says of its password; all in days, as shadow(5) counts them. Absent or negative: no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Aging {
    /// When it was changed, since 1970.
    changed: Option<i64>,
    /// So long it may be used.
    max: Option<i64>,
    /// So long before the end she is warned.
    warning: Option<i64>,
    /// So long after the end it may still be changed.
    inactive: Option<i64>,
}

impl Aging {
    /// Those of an entry, of which none has to be there. What is no number is no rule: it was never one to any
    /// other program.
    pub(super) fn of(entry: &Entry) -> Self {
        let days = |key| entry.only(key).and_then(|text| text.trim().parse::<i64>().ok()).filter(|days| *days >= 0);
        Self {
            changed: days("shadowlastchange"),
            max: days("shadowmax"),
            warning: days("shadowwarning"),
            inactive: days("shadowinactive"),
        }
    }

    /// Whether there is anything to be kept up when the password is changed.
    pub(super) fn is_kept(&self) -> bool {
        self.changed.is_some() || self.max.is_some()
    }

    /// What becomes of a password that was right, on a day since 1970.
    pub(super) fn verdict(&self, today: i64) -> Result<Option<Notice>, Denied> {
        let Some(changed) = self.changed else { return Ok(None) };
        if changed == 0 {
            return Err(Denied::because(Reason::MustChangePassword, "shadowLastChange is 0"));
        }
        let Some(last) = self.max.map(|max| changed.saturating_add(max)) else { return Ok(None) };
        if today <= last {
            let left = last.saturating_sub(today);
            let warned = self.warning.is_some_and(|days| left <= days);
            // It is good until the end of its last day.
            let seconds = u64::try_from(left.saturating_add(1)).unwrap_or_default().saturating_mul(86_400);
            return Ok(warned.then_some(Notice::ExpiresIn(seconds)));
        }
        match self.inactive {
            Some(days) if today > last.saturating_add(days) => {
                Err(Denied::because(Reason::AccountExpired, "shadowInactive: the password expired too long ago"))
            }
            _ => Err(Denied::because(Reason::PasswordExpired, "shadowMax")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(of: [i64; 4], today: i64) -> Result<Option<Notice>, Reason> {
        let some = |days: i64| (days >= 0).then_some(days);
        let [changed, max, warning, inactive] = of.map(some);
        Aging { changed, max, warning, inactive }.verdict(today).map_err(|d| d.reason)
    }

    #[test]
    fn as_shadow_says() {
        let days = |n: u64| Ok(Some(Notice::ExpiresIn(n * 86_400)));
        assert_eq!(verdict([-1, 90, 7, 3], 20_000), Ok(None), "nobody knows how old it is");
        assert_eq!(verdict([0, -1, -1, -1], 20_000), Err(Reason::MustChangePassword));
        assert_eq!(verdict([19_000, -1, 7, 3], 20_000), Ok(None));
        assert_eq!(verdict([19_990, 90, 7, 3], 20_000), Ok(None));
        assert_eq!(verdict([19_910, 90, -1, -1], 20_000), Ok(None), "its last day");
        assert_eq!(verdict([19_910, 90, 0, -1], 20_000), days(1));
        assert_eq!(verdict([19_917, 90, 7, 3], 20_000), days(8));
        assert_eq!(verdict([19_918, 90, 7, 3], 20_000), Ok(None), "a day too early for a warning");
        assert_eq!(verdict([19_909, 90, 7, -1], 20_000), Err(Reason::PasswordExpired));
        assert_eq!(verdict([19_907, 90, 7, 3], 20_000), Err(Reason::PasswordExpired));
        assert_eq!(verdict([19_906, 90, 7, 3], 20_000), Err(Reason::AccountExpired));
        assert_eq!(verdict([20_001, 90, 7, 3], 20_000), Ok(None), "changed tomorrow, by some other clock");
        assert_eq!(verdict([i64::MAX; 4], 20_000), Ok(Some(Notice::ExpiresIn(u64::MAX))), "nothing overflows");
    }
}
