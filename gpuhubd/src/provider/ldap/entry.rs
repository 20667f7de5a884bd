//! An entry as it came from the server: nothing in it is to be trusted.

use ldap3::SearchEntry;
use std::collections::HashMap;

/// Its name and attributes. Values that are not UTF-8 are left out: nothing of passwd(5) or
/// group(5) could carry them.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Distinguished name.
    pub(super) dn: String,
    attributes: HashMap<String, Vec<String>>,
}

impl Entry {
    /// The values of an attribute, in no order (RFC 4511 §4.1.7). `name` is in lower case.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.attributes.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// One value. Where there are more it is the same one each time: the first by spelling.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.values(name).iter().min().map(String::as_str)
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
        let mut attributes: HashMap<String, Vec<String>> = HashMap::new();
        for (name, values) in raw.attrs {
            attributes.entry(name.to_ascii_lowercase()).or_default().extend(values);
        }
        for (name, values) in raw.bin_attrs {
            let texts = values.into_iter().filter_map(|v| String::from_utf8(v).ok());
            attributes.entry(name.to_ascii_lowercase()).or_default().extend(texts);
        }
        Self { dn: raw.dn, attributes }
    }
}

#[cfg(test)]
impl Entry {
    /// For tests.
    pub(super) fn of(dn: &str, attributes: &[(&str, &[&str])]) -> Self {
        let attributes = attributes.iter().map(|(n, v)| ((*n).to_owned(), v.iter().map(|v| (*v).to_owned()).collect()));
        Self { dn: dn.into(), attributes: attributes.collect() }
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
}
