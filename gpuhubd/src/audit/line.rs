//! An event as text: `key="value"` pairs for syslog, or a JSON object.

use super::{Event, Outcome};
use std::fmt::Write;

/// Longest value in characters. What people type as a name can be anything.
const MAX_VALUE: usize = 256;

impl Event {
    /// Its fields in order, by name.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let result = match self.result {
            Outcome::Ok => "ok",
            Outcome::Denied => "denied",
            Outcome::Error => "error",
        };
        let mut fields = vec![("event", self.event.to_owned()), ("result", result.to_owned())];
        let mut add = |key, value: Option<String>| fields.extend(value.map(|v| (key, v)));
        add("user", self.user.clone());
        add("login_name", self.login_name.clone());
        add("uid", self.uid.map(|n| n.to_string()));
        add("service", self.service.clone());
        add("source", self.source.clone());
        add("tty", self.tty.clone());
        add("method", self.method.map(str::to_owned));
        add("backend", self.backend.clone());
        add("reason", Some(self.reason.to_owned()));
        add("session", self.session.clone());
        add("duration_s", self.duration_s.map(|n| n.to_string()));
        add("detail", self.detail.clone());
        fields
    }

    /// For syslog. Nothing in a value can end it or the line: quotes, backslashes and control
    /// characters are escaped (forged lines: the crate syslog 7 does not).
    pub(super) fn as_pairs(&self) -> String {
        let mut line = String::new();
        for (key, value) in self.fields() {
            if !line.is_empty() {
                line.push(' ');
            }
            let _ = write!(line, "{key}=\"");
            escape(&mut line, &value);
            line.push('"');
        }
        line
    }

    /// For stderr. JSON escapes by itself; the length is capped all the same.
    pub(super) fn as_json(&self, time: &str, host: &str) -> String {
        let mut object = serde_json::Map::new();
        object.insert("time".into(), time.into());
        object.insert("host".into(), host.into());
        for (key, value) in self.fields() {
            object.insert(key.into(), value.chars().take(MAX_VALUE).collect::<String>().into());
        }
        serde_json::Value::Object(object).to_string()
    }
}

fn escape(line: &mut String, value: &str) {
    for c in value.chars().take(MAX_VALUE) {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            '\n' => line.push_str("\\n"),
            // Controls, and what makes text run backwards or vanish in a terminal.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                let mut bytes = [0; 4];
                for b in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(line, "\\x{b:02x}");
                }
            }
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Denied, Reason};

    #[test]
    fn one_event_one_line() {
        let e = Event {
            user: Some("a\"b\\c\nd\x1b\u{202e}".into()),
            uid: Some(7),
            detail: Some("x".repeat(1000)),
            ..Event::denied("auth", &Denied::from(Reason::WrongPassword))
        };
        let line = e.as_pairs();
        assert!(line.starts_with(
            r#"event="auth" result="denied" user="a\"b\\c\nd\x1b\xe2\x80\xae" uid="7" reason="wrong-password" detail="xxx"#
        ), "{line}");
        assert!(!line.contains('\n') && line.len() < 500);
        let json = e.as_json("T", "box");
        assert!(!json.contains('\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["user"], "a\"b\\c\nd\x1b\u{202e}");
    }
}
