//! What is translated, taken apart: the sections of an sssd.conf, the lines of an nslcd.conf. Nothing is
//! interpreted here.

use std::cell::Cell;

/// An option as it is written.
#[derive(Debug, Clone)]
pub struct Setting {
    /// In lower case.
    pub name: String,
    /// Without the spaces around it.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
    seen: Cell<bool>,
}

/// Options, of which each is accounted for: who takes none of them hears of it in the end.
#[derive(Debug, Default)]
pub struct Settings(Vec<Setting>);

/// A `[section]`.
#[derive(Debug)]
pub struct Section {
    /// What stands between the brackets.
    pub name: String,
    /// The line of it.
    pub line: usize,
    /// What stands below it.
    pub settings: Settings,
}

impl Settings {
    fn push(&mut self, name: &str, value: &str, line: usize) {
        let (name, value) = (name.to_ascii_lowercase(), value.to_owned());
        self.0.push(Setting { name, value, line, seen: Cell::new(false) });
    }

    /// An option that counts once. Of several the last does, as both programs read them; the others remain.
    pub fn take(&self, name: &str) -> Option<&Setting> {
        let last = self.0.iter().rfind(|setting| setting.name == name)?;
        last.seen.set(true);
        Some(last)
    }

    /// An option that may be given several times, in order.
    pub fn take_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Setting> {
        self.0.iter().filter(move |setting| setting.name == name).inspect(|setting| setting.seen.set(true))
    }

    /// The same, and somebody else accounts for it.
    pub fn peek(&self, name: &str) -> Option<&Setting> {
        self.0.iter().rfind(|setting| setting.name == name)
    }

    /// Whether it is there; that takes nothing.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|setting| setting.name == name)
    }

    /// What nobody took, in order; each with whether a later one of its name counts instead.
    pub fn rest(&self) -> impl Iterator<Item = (&Setting, bool)> {
        self.0.iter().enumerate().filter(|(_, setting)| !setting.seen.get()).map(|(at, setting)| {
            let later = self.0.iter().skip(at + 1).any(|other| other.name == setting.name && other.seen.get());
            (setting, later)
        })
    }
}

/// The sections of an sssd.conf, those of one name put together, and the lines that are neither a section nor an
/// option. Comments have lines of their own, and no value goes on in the next line.
pub fn sssd(text: &str) -> (Vec<Section>, Vec<usize>) {
    let (mut sections, mut strange) = (Vec::<Section>::new(), Vec::new());
    let mut current = None;
    for (line, text) in numbered(text) {
        if text.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            current = sections.iter().position(|section| section.name.eq_ignore_ascii_case(name)).or_else(|| {
                sections.push(Section { name: name.to_owned(), line, settings: Settings::default() });
                Some(sections.len() - 1)
            });
            continue;
        }
        let section = current.and_then(|at| sections.get_mut(at));
        match (section, text.split_once('=')) {
            (Some(section), Some((name, value))) => section.settings.push(name.trim(), value.trim(), line),
            _ => strange.push(line),
        }
    }
    (sections, strange)
}

/// The lines of an nslcd.conf: a word, and what is said of it.
pub fn nslcd(text: &str) -> Settings {
    let mut settings = Settings::default();
    for (line, text) in numbered(text).filter(|(_, text)| !text.starts_with('#')) {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        settings.push(name, value.trim(), line);
    }
    settings
}

/// Lines that say something.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())).filter(|(_, line)| !line.is_empty())
}

/// `a, b ,c`
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_their_options() {
        let text = "stray\n# c\n[sssd]\nDomains = a, b\n; c = d\n\n [domain/a]\n  id_provider=ldap\nno option\n[SSSD]\ndomains=b\n";
        let (sections, strange) = sssd(text);
        assert_eq!(
            sections.iter().map(|s| (s.name.as_str(), s.line)).collect::<Vec<_>>(),
            [("sssd", 3), ("domain/a", 7)]
        );
        assert_eq!(strange, [1, 9]);
        let domains = sections[0].settings.take("domains").unwrap();
        assert_eq!((domains.value.as_str(), domains.line), ("b", 11), "the last one counts");
        let rest: Vec<_> = sections[0].settings.rest().map(|(s, later)| (s.line, later)).collect();
        assert_eq!(rest, [(4, true)]);
        assert_eq!(sections[1].settings.rest().map(|(s, _)| s.value.as_str()).collect::<Vec<_>>(), ["ldap"]);
    }

    #[test]
    fn values_have_whatever_is_in_them() {
        let (sections, _) = sssd("[domain/a]\nldap_access_filter = (a=b#c;d)\nldap_default_authtok = =x= \n");
        assert_eq!(sections[0].settings.take("ldap_access_filter").unwrap().value, "(a=b#c;d)");
        assert_eq!(sections[0].settings.take("ldap_default_authtok").unwrap().value, "=x=");
    }

    #[test]
    fn words_and_what_is_said_of_them() {
        let settings = nslcd("# c\nURI  ldap://a/\tldap://b/\nuri ldap://c/\n\nssl\tstart_tls\nbase\n");
        let uris: Vec<_> = settings.take_all("uri").map(|s| s.value.as_str()).collect();
        assert_eq!(uris, ["ldap://a/\tldap://b/", "ldap://c/"]);
        assert_eq!(settings.take("ssl").unwrap().value, "start_tls");
        assert_eq!(
            settings.rest().map(|(s, _)| (s.name.as_str(), s.value.as_str())).collect::<Vec<_>>(),
            [("base", "")]
        );
    }
}
