//! What the PAM configuration and the application ask of a hook.

use pam::constants::PamFlag;
use std::ffi::CStr;

/// PAM_PRELIM_CHECK and PAM_UPDATE_AUTHTOK (security/pam_modules.h); pam-bindings lacks them.
pub const PRELIM_CHECK: PamFlag = 0x4000;
/// See [`PRELIM_CHECK`].
pub const UPDATE_AUTHTOK: PamFlag = 0x2000;

/// Whether a password that an earlier module asked for is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstPass {
    /// It is not looked at.
    #[default]
    Ignore,
    /// It answers the first prompt for a secret; the person is asked for whatever else.
    Try,
    /// It answers the first prompt for a secret; the person is never asked.
    Require,
}

/// Arguments in the PAM configuration, and flags of the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `try_first_pass`, `use_first_pass`.
    pub first_pass: FirstPass,
    /// The flags as PAM gave them.
    pub flags: PamFlag,
}

impl Options {
    /// Reads the arguments. Unknown ones are ignored: none could make this module laxer.
    pub fn new(args: &[&CStr], flags: PamFlag) -> Self {
        let has = |name: &CStr| args.contains(&name);
        let first_pass = match (has(c"use_first_pass"), has(c"try_first_pass")) {
            (true, _) => FirstPass::Require,
            (false, true) => FirstPass::Try,
            (false, false) => FirstPass::Ignore,
        };
        Self { first_pass, flags }
    }

    /// Whether the call has this flag.
    pub const fn has(&self, flag: PamFlag) -> bool {
        self.flags & flag != 0
    }

    /// PAM_SILENT: the application wants no messages.
    pub const fn silent(&self) -> bool {
        self.has(pam::constants::PAM_SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pam::constants::PAM_SILENT;

    #[test]
    fn the_stricter_argument_wins() {
        assert_eq!(Options::new(&[], 0).first_pass, FirstPass::Ignore);
        assert_eq!(Options::new(&[c"try_first_pass"], 0).first_pass, FirstPass::Try);
        assert_eq!(Options::new(&[c"try_first_pass", c"use_first_pass"], 0).first_pass, FirstPass::Require);
        assert_eq!(Options::new(&[c"try_first_passx"], 0).first_pass, FirstPass::Ignore);
    }

    #[test]
    fn flags() {
        assert!(Options::new(&[], PAM_SILENT | PRELIM_CHECK).silent());
        assert!(!Options::new(&[], PRELIM_CHECK).silent());
        assert!(Options::new(&[], PRELIM_CHECK).has(PRELIM_CHECK));
    }
}
