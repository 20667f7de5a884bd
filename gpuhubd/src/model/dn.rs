//! Distinguished names as text (RFC 4514).

use ldap3::dn_escape;

/// The parts of a name: for each RDN its types (in lower case) and values (unescaped).
type Rdns = Vec<Vec<(String, String)>>;

/// One spelling for each name: types and values in lower case, spaces folded, one way to escape,
/// the parts of a multi-valued RDN sorted. A name that cannot be parsed is its own spelling.
pub fn normalised(dn: &str) -> String {
    let Some(rdns) = parse(dn) else { return dn.to_owned() };
    let rdn = |parts: Vec<(String, String)>| {
        let mut parts: Vec<_> = parts
            .into_iter()
            .map(|(kind, value)| {
                let folded = value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
                format!("{kind}={}", dn_escape(folded))
            })
            .collect();
        parts.sort_unstable();
        parts.join("+")
    };
    rdns.into_iter().map(rdn).collect::<Vec<_>>().join(",")
}

/// Whether a text is a name at all.
pub fn is_one(dn: &str) -> bool {
    parse(dn).is_some()
}

/// The value of `kind` (in lower case) in the first RDN: of several values of an attribute, the
/// one by which the entry is named.
pub fn naming_value(dn: &str, kind: &str) -> Option<String> {
    let first = parse(dn)?.into_iter().next()?;
    first.into_iter().find(|(k, _)| k == kind).map(|(_, value)| value)
}

fn parse(dn: &str) -> Option<Rdns> {
    let (mut rdns, mut rdn) = (Vec::new(), Vec::new());
    let mut rest = dn;
    loop {
        let (kind, after) = rest.split_once('=')?;
        let kind = kind.trim().to_ascii_lowercase();
        if kind.is_empty() || !kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) {
            return None;
        }
        let (value, end) = value(after)?;
        rdn.push((kind, value));
        let mut chars = end.chars();
        match chars.next() {
            Some('+') => {}
            Some(_) => rdns.push(std::mem::take(&mut rdn)),
            None => {
                rdns.push(rdn);
                return Some(rdns);
            }
        }
        rest = chars.as_str();
    }
}

/// A value up to an unescaped `,` `;` or `+`, and the rest from there.
fn value(text: &str) -> Option<(String, &str)> {
    let mut bytes = Vec::new();
    // Spaces around a value are not part of it, unless escaped.
    let text = text.trim_start_matches(' ');
    let mut length_to_keep = 0;
    let mut chars = text.char_indices();
    let mut end = "";
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | ';' | '+' => {
                end = text.get(at..)?;
                break;
            }
            '\\' => {
                let (_, first) = chars.next()?;
                match first.to_digit(16) {
                    Some(high) => {
                        let low = chars.next()?.1.to_digit(16)?;
                        bytes.push(u8::try_from(high * 16 + low).ok()?);
                    }
                    None => bytes.extend(first.to_string().bytes()),
                }
                length_to_keep = bytes.len();
            }
            c => {
                bytes.extend(c.to_string().bytes());
                if c != ' ' {
                    length_to_keep = bytes.len();
                }
            }
        }
    }
    bytes.truncate(length_to_keep);
    Some((String::from_utf8(bytes).ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name() {
        for dn in [
            "uid=alice,ou=People,dc=example,dc=org",
            "UID=Alice, OU=people , DC=example,DC=org",
            "uid=alice;ou=People;dc=example;dc=org",
            r"uid=al\69ce,ou=People,dc=example,dc=org",
        ] {
            assert_eq!(normalised(dn), "uid=alice,ou=people,dc=example,dc=org", "{dn}");
        }
        assert_eq!(normalised(r"cn=Smith\, John+uid=js,o=x"), r"cn=smith\2c john+uid=js,o=x");
        assert_eq!(normalised(r"uid=js+cn=Smith\2C  John,o=x"), r"cn=smith\2c john+uid=js,o=x");
    }

    #[test]
    fn what_is_no_name_stays_as_it_is() {
        for dn in ["", "x", "=x", "a b=c", r"uid=a\", r"uid=\4", r"uid=\ff,o=x", "uid=a,"] {
            assert_eq!(normalised(dn), dn, "{dn}");
            assert_eq!(naming_value(dn, "uid"), None, "{dn}");
        }
    }

    #[test]
    fn naming_values() {
        assert_eq!(naming_value("uid=alice,o=x", "uid").as_deref(), Some("alice"));
        assert_eq!(naming_value(r"cn=Smith\, John+UID=js,o=x", "uid").as_deref(), Some("js"));
        assert_eq!(naming_value("cn=a,uid=b", "uid"), None);
        assert_eq!(naming_value(r"cn=\20a\20 ,o=x", "cn").as_deref(), Some(" a "));
    }
}
