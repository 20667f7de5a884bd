//! Options that have no counterpart: a table says of each whether that matters.

use super::source::Setting;
use super::translation::{Provider, Translation};

/// What becomes of an option that nothing else has taken.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    /// Its name; `*` at the end stands for any rest of it.
    name: &'static str,
    /// With these values (in lower case) nothing need correspond to it; `*`: with any.
    harmless: &'static [&'static str],
    why: &'static str,
    instead: &'static str,
    shuts: bool,
}

/// Nothing need correspond to it: it is about how the other program works inside, or gpuhub does it always.
pub const fn idle(name: &'static str) -> Rest {
    Rest { name, harmless: &["*"], why: "", instead: "", shuts: false }
}

/// It is left out.
pub const fn left(name: &'static str, why: &'static str, instead: &'static str) -> Rest {
    Rest { name, harmless: &[], why, instead, shuts: false }
}

/// It is left out unless it says what gpuhub does anyway.
pub const fn unless(
    name: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
    instead: &'static str,
) -> Rest {
    Rest { name, harmless, why, instead, shuts: false }
}

/// The same, and without it somebody could come in who could not.
pub const fn shut(
    name: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
    instead: &'static str,
) -> Rest {
    Rest { name, harmless, why, instead, shuts: true }
}

impl Rest {
    fn is_of(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.name,
        }
    }
}

/// Accounts for options that nothing else has taken. `prefix`: what they are called by before their names.
/// `provider`: whom they are about; without one, nothing is shut.
pub fn account<'s>(
    t: &mut Translation,
    mut provider: Option<&mut Provider>,
    prefix: &str,
    rest: impl Iterator<Item = (&'s Setting, bool)>,
    table: &[Rest],
) {
    for (setting, later) in rest {
        let option = format!("{prefix}{}", setting.name);
        if later {
            t.remark(setting.line, &option, "it is given again below, and the last one counts", "Nothing to do.");
            continue;
        }
        match table.iter().find(|row| row.is_of(&setting.name)) {
            None => t.remark(setting.line, &option, "it is no option that is known here", "See what it was for."),
            Some(row) => verdict(t, provider.as_deref_mut(), row, setting.line, &option, &setting.value),
        }
    }
}

/// The same for a word that is no option, such as the name of a section; whether the table has it.
pub fn account_word(t: &mut Translation, line: usize, option: &str, word: &str, table: &[Rest]) -> bool {
    let row = table.iter().find(|row| row.is_of(&word.to_ascii_lowercase()));
    row.inspect(|row| verdict(t, None, row, line, option, "")).is_some()
}

fn verdict(t: &mut Translation, of: Option<&mut Provider>, row: &Rest, line: usize, option: &str, value: &str) {
    let value = value.to_ascii_lowercase();
    if row.harmless.iter().any(|harmless| *harmless == "*" || *harmless == value) {
        return t.idle(option, line);
    }
    match of.filter(|_| row.shuts) {
        Some(provider) => t.shut(provider, line, option, row.why, row.instead),
        None => t.remark(line, option, row.why, row.instead),
    }
}
