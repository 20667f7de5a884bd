//! Writing TOML: tables whose keys come in the order of gpuhub.toml's example, with comments.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a key may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(u32),
    /// A table in one line.
    Pairs(BTreeMap<&'static str, String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}
impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Number(number)
    }
}
impl From<Vec<String>> for Value {
    fn from(list: Vec<String>) -> Self {
        Value::List(list)
    }
}

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    keys: BTreeMap<&'static str, Value>,
    comments: BTreeMap<&'static str, Vec<String>>,
    after: Vec<String>,
}

impl Table {
    /// Writes a key, or writes it anew.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.keys.insert(key, value.into());
    }

    /// Leaves a key out again.
    pub fn remove(&mut self, key: &str) {
        self.keys.remove(key);
    }

    /// A comment above a key, shown if the key is, and once.
    pub fn comment(&mut self, key: &'static str, text: impl Into<String>) {
        let (text, comments) = (text.into(), self.comments.entry(key).or_default());
        if !comments.contains(&text) {
            comments.push(text);
        }
    }

    /// A line of comment below all keys.
    pub fn remind(&mut self, text: impl Into<String>) {
        self.after.push(text.into());
    }

    /// What a key has.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// The table under its header; keys come as `order` has them, and what it does not have comes last. Nothing if
    /// there is nothing in it.
    pub fn write(&self, header: &str, order: &[&str]) -> String {
        if self.keys.is_empty() && self.after.is_empty() {
            return String::new();
        }
        let mut out = format!("\n{header}\n");
        let others = self.keys.keys().filter(|key| !order.contains(key));
        for key in order.iter().chain(others) {
            let Some(value) = self.keys.get(key) else { continue };
            for comment in self.comments.get(key).into_iter().flatten() {
                out += &as_comment(comment);
            }
            let _ = writeln!(out, "{key} = {}", written(value));
        }
        self.after.iter().for_each(|line| out += &as_comment(line));
        out
    }
}

/// A line of comment, whatever is in the text.
pub fn as_comment(text: &str) -> String {
    format!("# {}\n", crate::outcome::plain(text))
}

fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::List(list) => format!("[{}]", list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")),
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Pairs(pairs) => {
            let pairs: Vec<_> = pairs.iter().map(|(key, text)| format!("{key} = {}", quoted(text))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// A basic string (TOML 1.0).
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_text_stays_in_it() {
        assert_eq!(quoted("a\"b\\c\nd\u{7f}é"), "\"a\\\"b\\\\c\\u000Ad\\u007Fé\"");
        assert_eq!(as_comment("a\nb = 1"), "# a?b = 1\n");
    }

    #[test]
    fn keys_come_in_order() {
        let mut table = Table::default();
        assert_eq!(table.write("[x]", &[]), "");
        table.set("b", true);
        table.set("z", 3);
        table.set("a", vec!["x".to_owned(), "y".to_owned()]);
        table.set("c", Value::Pairs([("k", "v".to_owned())].into()));
        table.comment("a", "why");
        table.comment("absent", "is not shown");
        let text = "\n[x]\n# why\na = [\"x\", \"y\"]\nb = true\nc = { k = \"v\" }\nz = 3\n";
        assert_eq!(table.write("[x]", &["a", "b", "c"]), text);
    }
}
