//! Passcodes and one-time codes of people whose provider shows device codes (`gpuhub passcode`).

use super::Nothing;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};

/// What is to be done, for whoever asks: by her uid.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasscodeCall {
    /// `gpuhub passcode set`.
    Set(NewPasscode),
    /// `gpuhub passcode clear`.
    Clear(PasscodeProof),
    /// `gpuhub passcode once`.
    Once(PasscodeProof),
    /// `gpuhub passcode status`.
    Status(PasscodeOf),
}

/// A new passcode.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPasscode {
    /// It.
    pub passcode: Secret,
    /// The one of until now; absent: she has just signed in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<Secret>,
}

/// That it is she.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasscodeProof {
    /// Her passcode; absent: she has just signed in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<Secret>,
    /// Of root, who needs no proof, and may clear a passcode: whose.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// Whose.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasscodeOf {
    /// Of root: this person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// Reply to [`super::Call::Passcode`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasscodeReply {
    /// Done.
    Done(Nothing),
    /// A sentence for the person.
    Refused(String),
    /// A code for one login.
    Code(OneTimeCode),
    /// How it stands.
    Status(PasscodeStatus),
}

/// See [`PasscodeReply`].
#[derive(Debug, Serialize, Deserialize)]
pub struct OneTimeCode {
    /// To be shown once.
    pub code: Secret,
    /// Good for so many seconds.
    pub life_s: u64,
}

/// See [`PasscodeReply`]. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasscodeStatus {
    /// Whose.
    pub name: String,
    /// Passcodes are switched on here.
    pub passcodes: bool,
    /// One-time codes are.
    pub one_time: bool,
    /// When hers was set; absent: she has none.
    #[serde(default)]
    pub set_at: Option<i64>,
    /// `sign-in`, `old-passcode`, `command`.
    #[serde(default)]
    pub set_by: Option<String>,
    /// When it will be too old.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// Too many wrong ones were tried: it counts no more until she signs in.
    #[serde(default)]
    pub locked: bool,
    /// When she last signed in at her provider.
    #[serde(default)]
    pub signed_in_at: Option<i64>,
    /// Until when that is good for passcodes and one-time codes; absent: her provider is asked each time.
    #[serde(default)]
    pub counts_until: Option<i64>,
    /// What a change takes now.
    pub proof: ProofOfHer,
}

/// See [`PasscodeStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofOfHer {
    /// Nothing more: she has just signed in.
    SignIn,
    /// Her passcode, or another sign-in.
    OldPasscode,
    /// A sign-in.
    None,
}
