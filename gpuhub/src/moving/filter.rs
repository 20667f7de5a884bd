//! LDAP filters (RFC 4515), as far as they have to be taken apart. Escapes of LDAPv2, which both programs take, come
//! out as those of RFC 4515.

use std::fmt;

/// Filters lie in each other no deeper.
const DEEPEST: usize = 32;

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// `(&…)`
    And(Vec<Filter>),
    /// `(|…)`
    Or(Vec<Filter>),
    /// `(!…)`
    Not(Box<Filter>),
    /// `(attribute=value)`, with whatever stands before the equals sign.
    Item(String, String),
}

/// Whom no directory has.
pub const NOBODY: &str = "(!(objectClass=*))";

impl Filter {
    /// Reads a filter; parentheses around it may be missing, as sssd takes it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let whole = if text.starts_with('(') { text.to_owned() } else { format!("({text})") };
        let (filter, rest) = one(&whole, 0)?;
        rest.is_empty().then_some(filter)
    }

    /// `(attribute=value)` for a value that is text.
    pub fn equals(attribute: &str, value: &str) -> Self {
        let escaped = value.chars().map(|c| match c {
            '(' | ')' | '*' | '\\' | '\0' => format!("\\{:02x}", u32::from(c)),
            c => c.to_string(),
        });
        Filter::Item(attribute.to_owned(), escaped.collect())
    }

    /// All of them; `None` of none.
    pub fn all(filters: Vec<Filter>) -> Option<Self> {
        several(filters, Filter::And)
    }

    /// One of them; `None` of none.
    pub fn any(filters: Vec<Filter>) -> Option<Self> {
        several(filters, Filter::Or)
    }

    /// Everybody but those; `None` of none.
    pub fn none_of(filters: Vec<Filter>) -> Option<Self> {
        Self::any(filters).map(|any| Filter::Not(Box::new(any)))
    }

    /// What has to be true together.
    pub fn terms(self) -> Vec<Filter> {
        match self {
            Filter::And(terms) => terms.into_iter().flat_map(Filter::terms).collect(),
            other => vec![other],
        }
    }

    /// Whether it is `(attribute=value)`, whatever the case.
    pub fn is(&self, attribute: &str, value: &str) -> bool {
        matches!(self, Filter::Item(a, v) if a.eq_ignore_ascii_case(attribute) && v.eq_ignore_ascii_case(value))
    }

    /// Every item, changed; `None` if one cannot be.
    pub fn map(&self, item: &mut impl FnMut(&str, &str) -> Option<(String, String)>) -> Option<Self> {
        Some(match self {
            Filter::And(all) => Filter::And(all.iter().map(|f| f.map(item)).collect::<Option<_>>()?),
            Filter::Or(any) => Filter::Or(any.iter().map(|f| f.map(item)).collect::<Option<_>>()?),
            Filter::Not(inner) => Filter::Not(Box::new(inner.map(item)?)),
            Filter::Item(attribute, value) => item(attribute, value).map(|(a, v)| Filter::Item(a, v))?,
        })
    }

    /// The same, each alternative once.
    pub fn simplified(self) -> Self {
        let each = |filters: Vec<Filter>| {
            let mut kept = Vec::new();
            for filter in filters.into_iter().map(Filter::simplified) {
                if !kept.contains(&filter) {
                    kept.push(filter);
                }
            }
            kept
        };
        match self {
            Filter::And(all) => several(each(all), Filter::And).unwrap_or(Filter::And(Vec::new())),
            Filter::Or(any) => several(each(any), Filter::Or).unwrap_or(Filter::Or(Vec::new())),
            Filter::Not(inner) => Filter::Not(Box::new(inner.simplified())),
            item => item,
        }
    }

    /// As `access_filter` takes it, in which a dollar sign is the beginning of a variable.
    pub fn without_variables(&self) -> Self {
        let plain = |attribute: &str, value: &str| Some((attribute.to_owned(), value.replace('$', "\\24")));
        self.map(&mut { plain }).unwrap_or_else(|| self.clone())
    }
}

fn several(mut filters: Vec<Filter>, together: fn(Vec<Filter>) -> Filter) -> Option<Filter> {
    match filters.len() {
        0 => None,
        1 => filters.pop(),
        _ => Some(together(filters)),
    }
}

/// The filter at the beginning of the text, and what follows it.
fn one(text: &str, depth: usize) -> Option<(Filter, &str)> {
    let text = text.strip_prefix('(').filter(|_| depth < DEEPEST)?.trim_start();
    if let Some(rest) = text.strip_prefix('!') {
        let (inner, rest) = one(rest.trim_start(), depth + 1)?;
        return Some((Filter::Not(Box::new(inner)), rest.trim_start().strip_prefix(')')?));
    }
    if text.starts_with(['&', '|']) {
        let mut rest = text.get(1..)?.trim_start();
        let mut inside = Vec::new();
        while !rest.starts_with(')') {
            let (filter, after) = one(rest, depth + 1)?;
            inside.push(filter);
            rest = after.trim_start();
        }
        // RFC 4526 has `(&)` and `(|)`; few servers do.
        let together = if text.starts_with('&') { Filter::And } else { Filter::Or };
        return (!inside.is_empty()).then_some((together(inside), rest.get(1..)?));
    }
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = matches!(c, '(' | ')') && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    let rest = text.get(end..)?.strip_prefix(')')?;
    let (attribute, value) = text.get(..end)?.split_once('=')?;
    let named = attribute.trim_end_matches(['~', '<', '>', ':']);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-.;:".contains(c);
    if named.is_empty() || !named.chars().all(legal) {
        return None;
    }
    Some((Filter::Item(attribute.to_owned(), rfc4515(value)), rest))
}

/// `\*` of LDAPv2 is `\2a`.
fn rfc4515(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let next: String = rest.as_str().chars().take(2).collect();
        if next.len() == 2 && next.bytes().all(|b| b.is_ascii_hexdigit()) {
            out.push(c);
        } else {
            let literal = rest.next().unwrap_or('\\');
            out += &literal.to_string().bytes().map(|b| format!("\\{b:02x}")).collect::<String>();
        }
    }
    out
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::And(all) => write!(f, "(&{})", all.iter().map(Filter::to_string).collect::<String>()),
            Filter::Or(any) => write!(f, "(|{})", any.iter().map(Filter::to_string).collect::<String>()),
            Filter::Not(inner) => write!(f, "(!{inner})"),
            Filter::Item(attribute, value) => write!(f, "({attribute}={value})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Option<String> {
        Filter::parse(text).map(|f| f.to_string())
    }

    #[test]
    fn filters() {
        for same in [
            "(a=b)",
            "(&(a=b)(|(c=*)(!(d>=3))))",
            "(memberOf:1.2.840.113556.1.4.1941:=cn=x,dc=y)",
            "(a=\\28x\\29)",
            NOBODY,
        ] {
            assert_eq!(again(same).as_deref(), Some(same));
        }
        assert_eq!(again(" ( & (a=b) ( c=d ) ) ").as_deref(), Some("(&(a=b)(c=d ))"));
        assert_eq!(again("employeeType=admin").as_deref(), Some("(employeeType=admin)"));
        assert_eq!(again("(host=\\*)").as_deref(), Some("(host=\\2a)"));
        assert_eq!(again("(cn=a\\)b\\)").as_deref(), None);
        for no in
            ["", "(", "(a)", "(a=b", "(a=b))", "(a=b)(c=d)", "(&)", "(=b)", "(a b=c)", "(&(a=b)", &"(!".repeat(99)]
        {
            assert_eq!(again(no), None, "{no}");
        }
    }

    #[test]
    fn made_of_parts() {
        let user = |name| Filter::equals("uid", name);
        assert_eq!(user("a*(b)").to_string(), "(uid=a\\2a\\28b\\29)");
        assert_eq!(Filter::none_of(vec![user("a"), user("b")]).unwrap().to_string(), "(!(|(uid=a)(uid=b)))");
        assert_eq!(Filter::all(vec![user("a")]), Some(user("a")));
        assert_eq!(Filter::any(Vec::new()), None);
        let twice = Filter::parse("(|(a=$x)(a=$x)(b=c))").unwrap();
        assert_eq!(twice.clone().simplified().to_string(), "(|(a=$x)(b=c))");
        assert_eq!(twice.without_variables().simplified().to_string(), "(|(a=\\24x)(b=c))");
        assert!(Filter::parse("(&(a=b)(&(c=d)(e=f)))").unwrap().terms().iter().any(|f| f.is("E", "F")));
    }
}
