//! What the doctor finds: one plain sentence, and what to do.

use serde::Serialize;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for scripts and tests, such as `ldap-unreachable`.
    pub id: &'static str,
    /// Whether it would stop a login.
    pub fatal: bool,
    /// What is so.
    pub what: String,
    /// What to do about it; empty if nothing.
    pub remedy: String,
    /// How long a person has, where it is about that: `gpuhub doctor` compares it with what sshd gives her.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl Finding {
    /// Something that would stop a login.
    pub fn fatal(id: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id, fatal: true, what: what.into(), remedy: remedy.into(), seconds: None }
    }

    /// Something worth knowing.
    pub fn note(id: &'static str, what: impl Into<String>) -> Self {
        Self { id, fatal: false, what: what.into(), remedy: String::new(), seconds: None }
    }
}
