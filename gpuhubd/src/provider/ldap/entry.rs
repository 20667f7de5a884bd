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
    attributes: HashMap<String, Vec<String>>,
    /// Values of the [`SIDS`], which are bytes.
    sids: HashMap<&'static str, Vec<Vec<u8>>>,
}

/// The attributes that are asked for and are no text ([MS-ADA3] 2.43, 2.331).
const SIDS: [&str; 2] = ["objectsid", "tokengroups"];

impl Entry {
    /// The values of an attribute, in no order (RFC 4511 §4.1.7). `name` is in lower case.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.attributes.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// One value. Where there are more it is the same one each time: the first by spelling.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.values(name).iter().min().map(String::as_str)
    }

    /// Its SID, if it has exactly one that is a domain's user's or group's.
    pub(super) fn sid(&self) -> Option<Sid> {
        match self.sids.get("objectsid").map(Vec::as_slice) {
            Some([bytes]) => Sid::from_bytes(bytes).ok(),
            _ => None,
        }
    }

    /// The groups of its domain, and of others, that somebody is in; without those that each server has for
    /// itself.
    pub(super) fn token_groups(&self) -> impl Iterator<Item = Sid> {
        self.sids.get("tokengroups").into_iter().flatten().filter_map(|bytes| Sid::from_bytes(bytes).ok())
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
        let (mut attributes, mut sids) = (HashMap::<String, Vec<String>>::new(), HashMap::<_, Vec<_>>::new());
        let sids_of = |name: &str| SIDS.into_iter().find(|sid| *sid == name);
        // The library calls text what happens to be UTF-8, a SID too.
        for (name, values) in raw.attrs {
            let name = name.to_ascii_lowercase();
            match sids_of(&name) {
                Some(sid) => sids.entry(sid).or_default().extend(values.into_iter().map(String::into_bytes)),
                None => attributes.entry(name).or_default().extend(values),
            }
        }
        for (name, values) in raw.bin_attrs {
            let name = name.to_ascii_lowercase();
            match sids_of(&name) {
                Some(sid) => sids.entry(sid).or_default().extend(values),
                None => {
                    let texts = values.into_iter().filter_map(|v| String::from_utf8(v).ok());
                    attributes.entry(name).or_default().extend(texts);
                }
            }
        }
        Self { dn: raw.dn, attributes, sids }
    }
}

#[cfg(test)]
impl Entry {
    /// For tests.
    pub(super) fn of(dn: &str, attributes: &[(&str, &[&str])]) -> Self {
        let attributes = attributes.iter().map(|(n, v)| ((*n).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()));
        Self { dn: dn.into(), attributes: attributes.collect(), sids: HashMap::new() }
    }

    pub(super) fn with_sids(mut self, sids: &[&[u8]]) -> Self {
        self.sids.insert("objectsid", sids.iter().map(|sid| sid.to_vec()).collect());
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
}
