//! Addresses of servers, bases and names of domains, as both programs write them and as gpuhub does.

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `ldap://`
    Plain,
    /// `ldaps://`
    Tls,
    /// `ldapi://`
    Local,
}

/// A server's address, or why gpuhub does not take it.
pub fn address(uri: &str) -> Result<(Scheme, String), &'static str> {
    let (scheme, rest) = uri.split_once("://").ok_or("is no address of an LDAP server")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (scheme, word) = match scheme.to_ascii_lowercase().as_str() {
        "ldap" => (Scheme::Plain, "ldap"),
        "ldaps" => (Scheme::Tls, "ldaps"),
        // Where Debian's slapd and its clients have it.
        "ldapi" if rest.is_empty() => return Ok((Scheme::Local, "ldapi:///run/slapd/ldapi".into())),
        "ldapi" => return Ok((Scheme::Local, format!("ldapi://{rest}"))),
        _ => return Err("is neither ldap://, ldaps:// nor ldapi://"),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    match rest {
        v6 if v6.starts_with('[') => Err("is a bare IPv6 address, which no certificate can be checked against"),
        host if host.is_empty() || host.starts_with(':') => Err("names no host"),
        host if !host.chars().all(plain) => Err("has more in it than a host and a port"),
        host => Ok((scheme, format!("{word}://{host}"))),
    }
}

/// `dc=example,dc=org` of `example.org`.
pub fn base_of(domain: &str) -> String {
    domain.split('.').map(|label| format!("dc={label}")).collect::<Vec<_>>().join(",")
}

/// `example.org` of a DN that ends in `dc=example,dc=org`.
pub fn domain_of(base: &str) -> Option<String> {
    let labels = base.rsplit(',').map_while(|part| {
        let (attribute, value) = part.split_once('=')?;
        attribute.trim().eq_ignore_ascii_case("dc").then(|| value.trim().to_ascii_lowercase())
    });
    let mut labels: Vec<_> = labels.collect();
    labels.reverse();
    (!labels.is_empty()).then(|| labels.join("."))
}

/// A DNS name of more than one label.
pub fn is_domain(name: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    name.contains('.') && name.split('.').all(label)
}

/// A number of seconds as a duration of gpuhub's; `None` if it is none.
pub fn seconds(text: &str) -> Option<String> {
    text.trim().parse::<u32>().ok().filter(|n| *n > 0).map(|n| format!("{n}s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("ldap://127.0.0.1/"), Ok((Scheme::Plain, "ldap://127.0.0.1".into())));
        assert_eq!(address("LDAPS://a.example:1636"), Ok((Scheme::Tls, "ldaps://a.example:1636".into())));
        assert_eq!(address("ldapi:///"), Ok((Scheme::Local, "ldapi:///run/slapd/ldapi".into())));
        assert_eq!(
            address("ldapi://%2fvar%2frun%2fldapi/"),
            Ok((Scheme::Local, "ldapi://%2fvar%2frun%2fldapi".into()))
        );
        for no in ["a", "http://a", "ldap://", "ldap:///", "ldap://a/dc=x", "ldap://[::1]", "ldap://u@a", "ldap://:1"] {
            assert!(address(no).is_err(), "{no}");
        }
    }

    #[test]
    fn domains_and_bases() {
        assert_eq!(base_of("lab.example.org"), "dc=lab,dc=example,dc=org");
        assert_eq!(domain_of("ou=people, DC=Example,dc=org").as_deref(), Some("example.org"));
        assert_eq!(domain_of("o=x"), None);
        assert!(is_domain("a.b") && !is_domain("LDAP") && !is_domain("a..b") && !is_domain("a b.c"));
        assert_eq!((seconds("6").as_deref(), seconds("0"), seconds("x")), (Some("6s"), None, None));
    }
}
