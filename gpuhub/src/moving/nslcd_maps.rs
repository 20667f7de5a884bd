//! `map` in nslcd.conf: attributes by other names, and values that are made of some.

use super::filter::Filter;
use super::nslcd::{is_on, is_served, of_map};
use super::source::{Setting, Settings};
use super::translation::{Provider, Translation};

/// What an nslcd.conf says of maps.
pub struct Maps<'s> {
    /// Of gpuhub's.
    pub schema: String,
    /// Ids come from SIDs.
    pub by_sid: bool,
    given: Vec<Mapping<'s>>,
}

struct Mapping<'s> {
    setting: &'s Setting,
    map: &'static str,
    attribute: String,
    value: &'s str,
}

/// Attributes whose names can be chosen on both sides: map, nslcd's name, gpuhub's key, and what gpuhub takes it
/// for in its schemas rfc2307 and ad.
const NAMES: &[(&str, &str, &str, [&str; 2])] = &[
    ("passwd", "uid", "user_name", ["uid", "sAMAccountName"]),
    ("passwd", "uidNumber", "user_uid", ["uidNumber"; 2]),
    ("passwd", "gidNumber", "user_gid", ["gidNumber"; 2]),
    ("passwd", "gecos", "user_gecos", ["gecos"; 2]),
    ("passwd", "homeDirectory", "user_home", ["homeDirectory", "unixHomeDirectory"]),
    ("passwd", "loginShell", "user_shell", ["loginShell"; 2]),
    ("group", "cn", "group_name", ["cn", "sAMAccountName"]),
    ("group", "gidNumber", "group_gid", ["gidNumber"; 2]),
];

impl<'s> Maps<'s> {
    /// Reads all `map`; of several for one attribute the last counts.
    pub fn read(t: &mut Translation, s: &'s Settings) -> Self {
        let mut given: Vec<Mapping<'s>> = Vec::new();
        for setting in s.take_all("map") {
            let (map, rest) = of_map(setting);
            let Some((attribute, value)) = rest.split_once(char::is_whitespace) else {
                t.remark(setting.line, "map", "it does not say of which attribute and into what", "Set attributes.");
                continue;
            };
            let map = match map {
                Some("passwd") => "passwd",
                Some("group") => "group",
                Some("shadow") => "shadow",
                Some(other) => {
                    is_served(t, setting, other);
                    continue;
                }
                None => {
                    t.remark(setting.line, "map", "it is of no map that is known here", "Set attributes.");
                    continue;
                }
            };
            given.retain(|other| other.map != map || !other.attribute.eq_ignore_ascii_case(attribute));
            given.push(Mapping { setting, map, attribute: attribute.to_owned(), value: value.trim() });
        }
        let mut maps = Self { schema: String::new(), by_sid: false, given };
        maps.by_sid = maps.given.iter().any(|m| is_sid(m.value));
        let filters: String = s.take_all("filter").map(|f| f.value.to_ascii_lowercase() + "\n").collect();
        let is_ad = maps.by_sid
            || maps.value("passwd", "uid").is_some_and(|name| name.eq_ignore_ascii_case("sAMAccountName"))
            || filters.lines().any(|f| f.starts_with("passwd") && f.contains("(objectclass=user)"));
        let has_dns = maps.value("group", "member").or(maps.value("group", "uniqueMember")).is_some()
            || s.has("nss_nested_groups") && s.take("nss_nested_groups").is_some_and(is_on)
            || filters.lines().any(|f| f.starts_with("group") && f.contains("names)"));
        maps.schema = if is_ad {
            "ad"
        } else if has_dns {
            "rfc2307bis"
        } else {
            "rfc2307"
        }
        .into();
        maps
    }

    fn value(&self, map: &str, attribute: &str) -> Option<&'s str> {
        self.given.iter().find(|m| m.map == map && m.attribute.eq_ignore_ascii_case(attribute)).map(|m| m.value)
    }

    /// The attribute that nslcd takes people's names from.
    pub fn user(&self) -> &str {
        self.value("passwd", "uid").unwrap_or("uid")
    }

    /// That of their numbers.
    pub fn uid(&self) -> &str {
        self.value("passwd", "uidNumber").unwrap_or("uidNumber")
    }

    fn is_ad(&self) -> bool {
        self.schema == "ad"
    }

    /// The classes of people or groups, in gpuhub's schema.
    pub fn classes(&self, of_people: bool) -> &'static [&'static str] {
        match (self.schema.as_str(), of_people) {
            ("ad", true) => &["user"],
            ("ad", false) => &["group"],
            (_, true) => &["posixAccount"],
            (_, false) => &["posixGroup"],
        }
    }

    /// Whether gpuhub's schema asks for it anyway.
    pub fn implies(&self, term: &Filter, of_people: bool) -> bool {
        let classes = self.classes(of_people);
        let no_computers = Filter::Not(Box::new(Filter::Item("objectclass".into(), "computer".into())));
        let in_ad = ["person", "organizationalPerson"].iter().any(|class| term.is("objectClass", class))
            || term.to_string().eq_ignore_ascii_case(&no_computers.to_string())
            || term.is("objectCategory", "person")
            || !self.by_sid && term.is(self.uid(), "*");
        classes.iter().any(|class| term.is("objectClass", class)) || of_people && self.is_ad() && in_ad
    }

    /// What becomes of them.
    pub fn names(&self, t: &mut Translation, p: &mut Provider) {
        if self.is_ad() && !self.by_sid {
            p.table.set("ids", "attributes");
        }
        let mut said = false;
        for m in &self.given {
            let known = NAMES.iter().find(|(map, name, ..)| *map == m.map && name.eq_ignore_ascii_case(&m.attribute));
            match known {
                _ if m.attribute.eq_ignore_ascii_case("userPassword") => {
                    t.idle(&format!("map {} userPassword", m.map), m.setting.line)
                }
                _ if is_sid(m.value) => {
                    p.table.set("ids", "sid");
                    if !std::mem::replace(&mut said, true) {
                        let why =
                            "nslcd takes the last number of a SID for the id; gpuhub computes another, as sssd does";
                        let along = "Take their ids along before anybody logs in: `getent -s ldap passwd` here, `gpuhub idmap import` there.";
                        t.shut(p, m.setting.line, &m.told(), why, along);
                    }
                }
                Some((_, _, key, _)) if is_name(m.value) => self.called(p, key, m.value),
                Some((_, _, key, _)) => self.made(t, p, m, key),
                None if m.map == "group" => self.members(t, p, m),
                None => shadow(t, p, m, self),
            }
        }
        // nslcd's own names, where they are others than those that gpuhub takes in this schema.
        for (map, name, key, usual) in NAMES.iter().filter(|_| self.is_ad()) {
            let theirs = usual.get(1).is_some_and(|ours| ours.eq_ignore_ascii_case(name));
            if self.value(map, name).is_none() && !theirs {
                p.attributes.insert(key, (*name).to_owned());
            }
        }
    }

    /// Values that are made of others: homes and shells.
    fn made(&self, t: &mut Translation, p: &mut Provider, m: &Mapping<'_>, key: &'static str) {
        let parts = expression(m.value).unwrap_or_default();
        let named = match (key, parts.as_slice()) {
            (_, [Part::Attribute(name, None)]) => Some(name),
            // People without gecos are shown with cn in any case.
            ("user_gecos", [Part::Attribute(name, Some(word))]) => match word.as_slice() {
                [Part::Attribute(other, None)] if other.eq_ignore_ascii_case("cn") => Some(name),
                _ => None,
            },
            ("user_home", [Part::Attribute(name, Some(word))]) => self.home(word).map(|home| {
                t.for_everybody(m.setting, "home", home);
                name
            }),
            ("user_shell", [Part::Attribute(name, Some(word))]) => shell(word).map(|shell| {
                t.for_everybody(m.setting, "shell", shell);
                name
            }),
            _ => None,
        };
        let whole = match key {
            "user_home" => self.home(&parts).map(|home| ("override_home", home)),
            "user_shell" => shell(&parts).map(|shell| ("override_shell", shell)),
            _ => None,
        };
        let why = "such a value cannot be made of others here";
        match (named, whole, key) {
            (Some(name), ..) => self.called(p, key, name),
            (_, Some((key, text)), _) => p.table.set(key, text),
            (.., "user_gecos") => {
                t.remark(m.setting.line, &m.told(), why, "Nothing to do: people are shown with gecos, or cn.");
            }
            (.., "user_home" | "user_shell") => {
                t.remark(m.setting.line, &m.told(), why, "Set override_home or override_shell, or [people].");
            }
            _ => t.shut(p, m.setting.line, &m.told(), why, "Have the directory show it as an attribute."),
        }
    }

    /// A home of her own.
    fn home(&self, parts: &[Part]) -> Option<String> {
        let each = parts.iter().map(|part| match part {
            Part::Text(text) => (!text.contains('%')).then(|| text.clone()),
            Part::Attribute(name, None) if name.eq_ignore_ascii_case(self.user()) => Some("%u".into()),
            Part::Attribute(..) => None,
        });
        let text = each.collect::<Option<String>>()?;
        (text.starts_with('/') && text.contains("%u") && !text.contains(':')).then_some(text)
    }

    /// An attribute's name, unless it is the schema's anyway.
    fn called(&self, p: &mut Provider, key: &'static str, name: &str) {
        let usual = NAMES.iter().find(|(.., known, _)| *known == key).map(|(.., usual)| usual);
        let usual = usual.and_then(|usual| usual.get(usize::from(self.is_ad()))).copied().unwrap_or_default();
        if !usual.eq_ignore_ascii_case(name) {
            p.attributes.insert(key, name.to_owned());
        }
    }

    fn members(&self, t: &mut Translation, p: &mut Provider, m: &Mapping<'_>) {
        let name = m.attribute.to_ascii_lowercase();
        match (self.schema.as_str(), name.as_str()) {
            ("ad", "member" | "uniquemember" | "memberuid") => {
                let why = "who is in a group is what the server says (tokenGroups, memberOf)";
                t.remark(m.setting.line, &m.told(), why, "See that people have the same groups.");
            }
            ("rfc2307bis", "member" | "uniquemember") | ("rfc2307", "memberuid") if is_name(m.value) => {
                p.attributes.insert("group_member", m.value.to_owned());
            }
            _ => t.remark(
                m.setting.line,
                &m.told(),
                "nothing here is called so",
                "Set attributes, if groups lack members.",
            ),
        }
    }
}

/// Passwords' ages are read by their usual names, but in Active Directory, which keeps them itself.
fn shadow(t: &mut Translation, p: &mut Provider, m: &Mapping<'_>, maps: &Maps<'_>) {
    const READ: &[&str] = &["shadowLastChange", "shadowMax", "shadowInactive", "shadowExpire"];
    let is_read = READ.iter().any(|name| name.eq_ignore_ascii_case(&m.attribute));
    if m.map == "shadow" && (maps.is_ad() || !is_read || m.attribute.eq_ignore_ascii_case(m.value)) {
        t.idle(&m.told(), m.setting.line);
    } else if m.map == "shadow" {
        t.shut(
            p,
            m.setting.line,
            &m.told(),
            "the attribute cannot have another name here",
            "Have the directory show it by the usual name, or set shadow = false.",
        );
    } else {
        t.remark(m.setting.line, &m.told(), "nothing here is called so", "See what it was for.");
    }
}

impl Mapping<'_> {
    fn told(&self) -> String {
        format!("map {} {}", self.map, self.attribute)
    }
}

fn is_sid(value: &str) -> bool {
    value.get(..10).is_some_and(|head| head.eq_ignore_ascii_case("objectSid:"))
}

fn is_name(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "-.;".contains(c))
}

fn shell(parts: &[Part]) -> Option<String> {
    match parts {
        [Part::Text(path)] if path.starts_with('/') => Some(path.clone()),
        _ => None,
    }
}

/// A piece of an expression.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// `$name`, or `${name:-word}`.
    Attribute(String, Option<Vec<Part>>),
}

/// An expression in quotes; `None` if there is more in it than `$name`, `${name}` and `${name:-word}`.
fn expression(value: &str) -> Option<Vec<Part>> {
    parts(value.strip_prefix('"')?.strip_suffix('"')?)
}

/// The same without quotes.
pub fn parts(text: &str) -> Option<Vec<Part>> {
    let (mut parts, mut plain) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '\\' => {
                let literal = rest.chars().next()?;
                rest = rest.get(literal.len_utf8()..)?;
                plain.push(literal);
            }
            '$' => {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                let (name, word, after) = match rest.strip_prefix('{') {
                    None => {
                        let (name, after) = rest.split_at(end_of_name(rest));
                        (name, None, after)
                    }
                    Some(inner) => {
                        let (name, after) = inner.split_at(end_of_name(inner));
                        let end = closing(after)?;
                        let (word, after) = (after.get(..end)?, after.get(end + 1..)?);
                        let word = match word {
                            "" => None,
                            word => Some(self::parts(word.strip_prefix(":-")?)?),
                        };
                        (name, word, after)
                    }
                };
                if name.is_empty() {
                    return None;
                }
                parts.push(Part::Attribute(name.to_owned(), word));
                rest = after;
            }
            c => plain.push(c),
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Some(parts)
}

fn end_of_name(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// Where the brace that is open is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let was = escaped;
        escaped = c == '\\' && !was;
        match c {
            '{' if !was => open += 1,
            '}' if !was && open == 0 => return Some(at),
            '}' if !was => open -= 1,
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    fn attribute(name: &str) -> Part {
        Part::Attribute(name.into(), None)
    }

    #[test]
    fn expressions() {
        assert_eq!(expression("\"/home/$cn\""), Some(vec![text("/home/"), attribute("cn")]));
        assert_eq!(expression("\"/bin/bash\""), Some(vec![text("/bin/bash")]));
        assert_eq!(expression("\"a\\$b\""), Some(vec![text("a$b")]));
        let with = |word| Some(vec![Part::Attribute("homeDirectory".into(), Some(word))]);
        assert_eq!(expression("\"${homeDirectory:-/home/$uid}\""), with(vec![text("/home/"), attribute("uid")]));
        assert_eq!(expression("\"${homeDirectory:-/home/${uid}}\""), with(vec![text("/home/"), attribute("uid")]));
        for no in
            ["\"${isDisabled:+100}\"", "\"${userPassword#{crypt\\}}\"", "\"${uid:0:1}\"", "\"$\"", "\"${uid\"", "plain"]
        {
            assert_eq!(expression(no), None, "{no}");
        }
    }
}
