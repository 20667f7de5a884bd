//! An entry as it came from the server: nothing in it is to be trusted.

use crate::model::Sid;
use ldap3::SearchEntry;
use std::collections::HashMap;

/// Its name and attributes. Values that are not UTF-8 are left out: nothing of passwd(5) or
/// group(5) could carry them.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Distinguished name.
    pub(super) dn: String,
    /// Its objectGUID, as [`guid`] has it; where extended names were asked for.
    pub(super) guid: Option<String>,
    attributes: HashMap<String, Vec<String>>,
    /// Values of [`NO_TEXT`].
    bytes: HashMap<&'static str, Vec<Vec<u8>>>,
}

/// The attributes that are asked for and are no text ([MS-ADA3] 2.42, 2.43, 2.331; [MS-ADA1] invocationId).
const NO_TEXT: [&str; 4] = ["objectguid", "objectsid", "tokengroups", "invocationid"];

impl Entry {
    /// The values of an attribute, in no order (RFC 4511 §4.1.7). `name` is in lower case.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.attributes.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The values as others write them who know them as text: an objectGUID as a GUID ([MS-DTYP] 2.3.4.3, in lower case).
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let guids = self.bytes.get("objectguid").into_iter().flatten().filter_map(|bytes| guid_text(bytes));
        match name {
            "objectguid" => guids.collect(),
            _ => self.values(name).iter().filter(|value| !value.is_empty()).cloned().collect(),
        }
    }

    /// One value. Where there are more it is the same one each time: the first by spelling.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.values(name).iter().min().map(String::as_str)
    }

    /// Its SID, if it has exactly one that is a domain's user's or group's.
    pub(super) fn sid(&self) -> Option<Sid> {
        self.only_bytes("objectsid").and_then(|bytes| Sid::from_bytes(bytes).ok())
    }

    /// Whether it has a SID that is the same in every domain: those of what each server has for itself.
    pub(super) fn is_of_no_domain(&self) -> bool {
        self.only_bytes("objectsid").is_some() && self.sid().is_none()
    }

    /// The value of one of [`NO_TEXT`], if there is exactly one.
    pub(super) fn only_bytes(&self, name: &str) -> Option<&[u8]> {
        match self.bytes.get(name).map(Vec::as_slice) {
            Some([bytes]) => Some(bytes),
            _ => None,
        }
    }

    /// Takes out the values of an attribute of which a server gives so many at once ([MS-ADTS] 3.1.1.3.1.3.3), and
    /// says from which on there are more.
    pub(super) fn take_part_of(&mut self, name: &str) -> (Vec<String>, Option<usize>) {
        let last = |key: &String| {
            let range = key.strip_prefix(name)?.strip_prefix(";range=")?;
            Some((key.clone(), range.split_once('-')?.1.to_owned()))
        };
        let (key, last) = self.attributes.keys().find_map(last).unwrap_or_else(|| (name.to_owned(), "*".to_owned()));
        // "*" is the end.
        let next = last.parse().ok().and_then(|last: usize| last.checked_add(1));
        (self.attributes.remove(&key).unwrap_or_default(), next)
    }

    /// The groups of its domain, and of others, that somebody is in; without those that each server has for
    /// itself.
    pub(super) fn token_groups(&self) -> impl Iterator<Item = Sid> {
        self.bytes.get("tokengroups").into_iter().flatten().filter_map(|bytes| Sid::from_bytes(bytes).ok())
    }

    /// The value, if there is exactly one.
    pub(super) fn only(&self, name: &str) -> Option<&str> {
        match self.values(name) {
            [value] => Some(value),
            _ => None,
        }
    }
}

impl From<SearchEntry> for Entry {
    fn from(raw: SearchEntry) -> Self {
        let (mut attributes, mut bytes) = (HashMap::<String, Vec<String>>::new(), HashMap::<_, Vec<_>>::new());
        let no_text = |name: &str| NO_TEXT.into_iter().find(|no_text| *no_text == name);
        // The library calls text what happens to be UTF-8, a SID too.
        for (name, values) in raw.attrs {
            let name = name.to_ascii_lowercase();
            match no_text(&name) {
                Some(name) => bytes.entry(name).or_default().extend(values.into_iter().map(String::into_bytes)),
                None => attributes.entry(name).or_default().extend(values),
            }
        }
        for (name, values) in raw.bin_attrs {
            let name = name.to_ascii_lowercase();
            match no_text(&name) {
                Some(name) => bytes.entry(name).or_default().extend(values),
                None => {
                    let texts = values.into_iter().filter_map(|v| String::from_utf8(v).ok());
                    attributes.entry(name).or_default().extend(texts);
                }
            }
        }
        let (guid, dn) = extended(&raw.dn);
        Self { dn: dn.to_owned(), guid, attributes, bytes }
    }
}

/// Its first three parts are little-endian numbers ([MS-DTYP] 2.3.4.2).
fn guid_text(bytes: &[u8]) -> Option<String> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = <&[u8; 16]>::try_from(bytes).ok()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (node, clock) = (rest.get(2..)?, rest.get(..2)?);
    Some([hex(&[*d, *c, *b, *a]), hex(&[*f, *e]), hex(&[*h, *g]), hex(clock), hex(node)].join("-"))
}

/// A name as the control of [`super::sync::domain`] has it ([MS-ADTS] 3.1.1.3.4.1.5), `<GUID=…>;<SID=…>;cn=…`: what
/// stands for the entry whatever it is called, in a spelling that is a name, too; and its name.
fn extended(name: &str) -> (Option<String>, &str) {
    let (mut guid, mut rest) = (None, name);
    while let Some((part, after)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        if let Some(hex) = part.strip_prefix("GUID=") {
            guid = Some(format!("<GUID={}>", hex.to_ascii_lowercase()));
        }
        rest = after.strip_prefix(';').unwrap_or(after);
    }
    (guid, rest)
}

/// Whom an extended name means.
pub(super) fn guid(name: &str) -> Option<String> {
    extended(name).0
}

#[cfg(test)]
impl Entry {
    /// For tests.
    pub(super) fn of(dn: &str, attributes: &[(&str, &[&str])]) -> Self {
        let attributes = attributes.iter().map(|(n, v)| ((*n).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()));
        let (guid, dn) = extended(dn);
        Self { dn: dn.to_owned(), guid, attributes: attributes.collect(), bytes: HashMap::new() }
    }

    pub(super) fn with_sids(mut self, sids: &[&[u8]]) -> Self {
        self.bytes.insert("objectsid", sids.iter().map(|sid| sid.to_vec()).collect());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attributes_have_no_case_and_values_that_are_not_text_are_left_out() {
        let raw = SearchEntry {
            dn: "uid=a".into(),
            attrs: HashMap::from([("gidNumber".into(), vec!["7".into()])]),
            bin_attrs: HashMap::from([("UID".into(), vec![b"\xff".to_vec(), b"a".to_vec()])]),
        };
        let entry = Entry::from(raw);
        assert_eq!(entry.values("uid"), ["a"]);
        assert_eq!(entry.only("gidnumber"), Some("7"));
        assert_eq!(entry.one("cn"), None);
    }

    #[test]
    fn a_sid_is_bytes_whether_they_are_text_or_not() {
        for text in ["S-1-5-21-1-2-3-4", "S-1-5-21-3623811015-3361044348-30300820-1013"] {
            let sid = Sid::parse(text).unwrap();
            let mut raw = SearchEntry { dn: "cn=a".into(), attrs: HashMap::new(), bin_attrs: HashMap::new() };
            match String::from_utf8(sid.to_bytes().to_vec()) {
                Ok(text) => _ = raw.attrs.insert("objectSid".into(), vec![text]),
                Err(e) => _ = raw.bin_attrs.insert("objectSid".into(), vec![e.into_bytes()]),
            }
            assert_eq!(Entry::from(raw).sid(), Some(sid), "{text}");
        }
    }

    #[test]
    fn a_guid_as_it_is_written() {
        // [MS-DTYP] 2.3.4: the first three parts are stored the other way round.
        let bytes: Vec<u8> = (0..16).collect();
        let raw = SearchEntry {
            dn: "cn=a".into(),
            attrs: HashMap::new(),
            bin_attrs: HashMap::from([("objectGUID".into(), vec![bytes, vec![1, 2]])]),
        };
        let entry = Entry::from(raw);
        assert_eq!(entry.texts("objectguid"), ["03020100-0504-0706-0809-0a0b0c0d0e0f"]);
        assert_eq!(Entry::of("cn=a", &[("mail", &["a@x", ""])]).texts("mail"), ["a@x"]);
    }

    #[test]
    fn extended_names() {
        let guid = "<GUID=5fdcd6cb4d8ea14d9f2f8a1b9c0d1e2f>";
        for name in [
            "<GUID=5fdcd6cb4d8ea14d9f2f8a1b9c0d1e2f>;<SID=0105>;CN=a <b>,DC=x",
            "<SID=0105>;<GUID=5FDCD6CB4D8EA14D9F2F8A1B9C0D1E2F>;CN=a <b>,DC=x",
        ] {
            assert_eq!(extended(name), (Some(guid.to_owned()), "CN=a <b>,DC=x"), "{name}");
        }
        for plain in ["", "CN=a,DC=x", "<GUID=5f"] {
            assert_eq!(extended(plain), (None, plain));
        }
    }

    #[test]
    fn an_attribute_comes_in_parts() {
        let part = |key: &str| {
            let (values, next) = Entry::of("cn=a", &[(key, &["x"])]).take_part_of("member");
            (values.len(), next)
        };
        assert_eq!(part("member;range=0-1499"), (1, Some(1500)));
        assert_eq!(part("member;range=1500-*"), (1, None));
        assert_eq!(part("member"), (1, None));
        for other in ["members;range=0-1499", "memberof", "member;range=x", "member;binary"] {
            assert_eq!(part(other), (0, None), "{other}");
        }
        assert_eq!(part("member;range=0-18446744073709551615"), (1, None));
    }
}
