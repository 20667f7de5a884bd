//! What the configuration says about claims: where they are, and what names and groups are made of them.

use regex::{Captures, Regex};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Map, Value};
use std::fmt;

/// Where a claim is: `groups`, or `realm_access.roles` inside another one. A dot that belongs to a key is written
/// `\.`, and a backslash `\\`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath {
    keys: Vec<String>,
}

/// One path or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPaths(pub Vec<ClaimPath>);

/// A regular expression for a whole text.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// What a text becomes that matches: `$1`, `${1}` or `${name}` are what the groups of the pattern matched, `$0` is
/// all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

/// Which groups of the provider are groups here, and what they are called.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "GroupRuleTable")]
pub struct GroupRule {
    claim: Option<ClaimPath>,
    pattern: Pattern,
    name: Option<Template>,
}

/// [`GroupRule`] as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupRuleTable {
    claim: Option<ClaimPath>,
    #[serde(rename = "match")]
    pattern: Pattern,
    name: Option<String>,
}

impl ClaimPath {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |what: &str| Err(format!("`{}` names no claim: {what}", text.escape_default()));
        let mut keys = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let c = match c {
                '.' => {
                    keys.push(String::new());
                    continue;
                }
                '\\' => match chars.next() {
                    Some(escaped @ ('.' | '\\')) => escaped,
                    _ => return bad("write \\. for a dot and \\\\ for a backslash"),
                },
                c => c,
            };
            keys.last_mut().unwrap_or(&mut String::new()).push(c);
        }
        if keys.iter().any(String::is_empty) { bad("a key is empty") } else { Ok(Self { keys }) }
    }

    /// The claim, if it is there and not null.
    pub fn get<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, rest) = self.keys.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, key| value.as_object()?.get(key)).filter(|v| !v.is_null())
    }

    /// The keys, the outermost first.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The outermost key.
    pub fn outermost(&self) -> &str {
        self.keys.first().map(String::as_str).unwrap_or_default()
    }

    /// The innermost key.
    pub fn innermost(&self) -> &str {
        self.keys.last().map(String::as_str).unwrap_or_default()
    }

    /// Whether it is the claim of this name itself.
    pub fn is(&self, name: &str) -> bool {
        self.keys.len() == 1 && self.outermost() == name
    }
}

/// As it is written.
impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(|k| k.replace('\\', "\\\\").replace('.', "\\.")).collect();
        f.write_str(&keys.join("."))
    }
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ClaimPaths {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let texts = super::ldap::OneOrMore::deserialize(d)?.0;
        texts.iter().map(|t| ClaimPath::parse(t)).collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

impl Pattern {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = Regex::new(&format!(r"\A(?:{text})\z"));
        whole.map(Self).map_err(|_| format!("`{}` is not a regular expression", text.escape_default()))
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// What the groups of it match, if the whole text does.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.0.captures(text)
    }

    /// Whether it has a group of its own.
    pub fn is_grouped(&self) -> bool {
        self.0.captures_len() > 1
    }

    fn has_group(&self, name: &str) -> bool {
        match name.parse::<usize>() {
            Ok(number) => number < self.0.captures_len(),
            Err(_) => self.0.capture_names().flatten().any(|n| n == name),
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

impl Template {
    /// One whose references are all groups of `pattern`: any other would be nothing, and two texts the same.
    pub fn new(text: &str, pattern: &Pattern) -> Result<Self, String> {
        match references(text).iter().find(|name| !pattern.has_group(name)) {
            Some(name) => Err(format!("the pattern has no group `{}`", name.escape_default())),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Whether anything of the text is in what it becomes.
    pub fn is_constant(&self) -> bool {
        references(&self.0).is_empty()
    }

    /// The text.
    pub fn fill_in(&self, captures: &Captures<'_>) -> String {
        let mut text = String::new();
        captures.expand(&self.0, &mut text);
        text
    }
}

/// The groups that a template names, as the crate regex reads it.
fn references(template: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut found, mut rest) = (Vec::new(), template);
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|a| a.split_once('}')) {
            found.push(name.to_owned());
            rest = after;
        } else {
            let (name, after) = after.split_at(after.find(|c| !is_word(c)).unwrap_or(after.len()));
            if !name.is_empty() {
                found.push(name.to_owned());
            }
            rest = after;
        }
    }
    found
}

impl TryFrom<GroupRuleTable> for GroupRule {
    type Error = String;

    fn try_from(table: GroupRuleTable) -> Result<Self, String> {
        let name = table.name.map(|name| Template::new(&name, &table.pattern)).transpose()?;
        Ok(Self { claim: table.claim, pattern: table.pattern, name })
    }
}

impl GroupRule {
    /// One of a profile's own.
    pub(super) fn fixed(pattern: &str, name: Option<&str>) -> Result<Self, String> {
        GroupRuleTable { claim: None, pattern: Pattern::parse(pattern)?, name: name.map(String::from) }.try_into()
    }

    /// What a group in that claim becomes; `None`: the rule is not about it. `Some(None)`: it is none here.
    fn judge(&self, claim: &ClaimPath, group: &str) -> Option<Option<String>> {
        if self.claim.as_ref().is_some_and(|c| c != claim) {
            return None;
        }
        let captures = self.pattern.captures(group)?;
        Some(self.name.as_ref().map(|name| name.fill_in(&captures)))
    }

    /// What a group is called here: as the first rule says that is about it, or else as it is.
    pub fn name(rules: &[GroupRule], claim: &ClaimPath, group: &str) -> Option<String> {
        rules.iter().find_map(|rule| rule.judge(claim, group)).unwrap_or_else(|| Some(group.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> ClaimPath {
        ClaimPath::parse(text).unwrap()
    }

    #[test]
    fn claims_inside_claims_and_keys_with_dots() {
        let claims = json!({
            "groups": ["a"], "realm_access": {"roles": ["b"]},
            "resource_access": {"gpu.example": {"roles": ["c"]}, "gpu": {"example": "no"}},
            "https://example.org/groups": ["d"], "a\\b": 1, "nothing": null, "text": "x",
        });
        let claims = claims.as_object().unwrap();
        let get = |text: &str| path(text).get(claims).cloned();
        assert_eq!(get("groups"), Some(json!(["a"])));
        assert_eq!(get("realm_access.roles"), Some(json!(["b"])));
        assert_eq!(get(r"resource_access.gpu\.example.roles"), Some(json!(["c"])));
        assert_eq!(get(r"https://example\.org/groups"), Some(json!(["d"])));
        assert_eq!(get(r"a\\b"), Some(json!(1)));
        for absent in ["nothing", "other", "text.x", "groups.0", "resource_access.gpu.example.roles"] {
            assert_eq!(get(absent), None, "{absent}");
        }
        for text in [r"a\.b.c", "groups", r"a\\b"] {
            assert_eq!(path(text).to_string(), text);
        }
        assert!(path("email").is("email") && !path("a.email").is("email") && !path(r"e\.mail").is("e"));
        for bad in ["", ".", "a.", ".a", "a..b", r"a\b", r"a\"] {
            assert!(ClaimPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_template_names_must_be_there() {
        let pattern = Pattern::parse(r"(?<first>[a-z]+)\.([a-z]+)").unwrap();
        for good in ["$1", "${1}-x", "$first.$2", "${first}", "$0", "a$$b", "plain", "$"] {
            assert!(Template::new(good, &pattern).is_ok(), "{good}");
        }
        // `$1x` is the group called "1x", not the first.
        for bad in ["$3", "$1x", "${second}", "$last", "${}"] {
            assert!(Template::new(bad, &pattern).is_err(), "{bad}");
        }
        let made = Template::new("${2}_$first", &pattern).unwrap();
        assert_eq!(made.fill_in(&pattern.captures("ada.byron").unwrap()), "byron_ada");
        assert!(!made.is_constant() && Template::new("x$$1", &pattern).unwrap().is_constant());
        assert!(pattern.captures("ada.byron.").is_none() && pattern.captures("Ada.byron").is_none());
    }

    #[test]
    fn groups_are_renamed_filtered_and_prefixed() {
        let rules: Vec<GroupRule> = serde_json::from_value(json!([
            {"claim": "realm_access.roles", "match": "gpu-(.+)", "name": "role-$1"},
            {"claim": "realm_access.roles", "match": ".*"},
            {"match": "6f1e0b2a-.*", "name": "ml"},
            {"match": "lab/(.+)", "name": "lab.$1"},
            {"match": "tmp-.*"},
        ]))
        .unwrap();
        let (groups, roles) = (path("groups"), path("realm_access.roles"));
        let name = |claim: &ClaimPath, group: &str| GroupRule::name(&rules, claim, group);
        assert_eq!(name(&roles, "gpu-admin").as_deref(), Some("role-admin"));
        assert_eq!(name(&roles, "offline_access"), None);
        assert_eq!(name(&groups, "gpu-admin").as_deref(), Some("gpu-admin"));
        assert_eq!(name(&groups, "6f1e0b2a-1111").as_deref(), Some("ml"));
        assert_eq!(name(&groups, "lab/vision").as_deref(), Some("lab.vision"));
        assert_eq!((name(&groups, "tmp-1"), name(&groups, "x-tmp-1").as_deref()), (None, Some("x-tmp-1")));
        for bad in [json!({"match": "("}), json!({"match": "a", "name": "$1"}), json!({"match": "a", "to": "b"})] {
            assert!(serde_json::from_value::<GroupRule>(bad.clone()).is_err(), "{bad}");
        }
    }
}
