//! Ids as text: CSV (RFC 4180) with a header, JSON, and the lines of passwd(5) and group(5).

use gpuhub_common::wire::{IdRow, IdSpace};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// kind,name,id,source,retired,issuer,subject
    Csv,
    /// A list of objects with these members.
    Json,
    /// passwd(5): users.
    Passwd,
    /// group(5): groups.
    Group,
}

impl Format {
    /// From the word of `--format`.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "csv" => Format::Csv,
            "json" => Format::Json,
            "passwd" => Format::Passwd,
            "group" => Format::Group,
            _ => return None,
        })
    }
}

/// A row of a CSV file: nothing in it may be missing but the last four.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    kind: IdSpace,
    name: String,
    id: u32,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    retired: bool,
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    subject: Option<String>,
}

/// The text of rows; of passwd(5) and group(5) there is none, since homes and members are not ids.
pub fn write(rows: &[IdRow], format: Format) -> String {
    if format == Format::Json {
        return serde_json::to_string_pretty(rows).unwrap_or_default() + "\n";
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    for r in rows.iter().cloned() {
        let IdRow { kind, name, id, source, retired, issuer, subject } = r;
        // Into memory: it does not fail.
        let _ = writer.serialize(Line { kind, name, id, source, retired, issuer, subject });
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// The rows of a text, or what is wrong in which line.
pub fn read(text: &str, format: Format) -> Result<Vec<IdRow>, String> {
    match format {
        Format::Json => serde_json::from_str(text).map_err(|e| e.to_string()),
        Format::Csv => {
            let mut rows = Vec::new();
            for line in csv::Reader::from_reader(text.as_bytes()).deserialize() {
                let Line { kind, name, id, source, retired, issuer, subject } = line.map_err(|e| e.to_string())?;
                rows.push(IdRow { kind, name, id, source, retired, issuer, subject });
            }
            Ok(rows)
        }
        Format::Passwd => colons(text, IdSpace::User, 7),
        Format::Group => colons(text, IdSpace::Group, 4),
    }
}

/// Lines of passwd(5) or group(5): the name is the first field, the id the third. Local accounts of
/// the system are left out: they are nobody of ours.
fn colons(text: &str, kind: IdSpace, fields: usize) -> Result<Vec<IdRow>, String> {
    let mut rows = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
        let parts: Vec<&str> = line.split(':').collect();
        let (Some(name), Some(id), true) = (parts.first(), parts.get(2), parts.len() == fields) else {
            return Err(format!("line {}: not {fields} fields", n + 1));
        };
        let id: u32 = id.parse().map_err(|_| format!("line {}: the id is no number", n + 1))?;
        if !gpuhub_common::id::is_allowed(id) {
            continue;
        }
        let name = (*name).to_owned();
        rows.push(IdRow { kind, name, id, source: None, retired: false, issuer: None, subject: None });
    }
    Ok(rows)
}

/// Refuses a file that gives an id to two names, or a name two ids.
pub fn one_each(rows: &[IdRow]) -> Result<(), String> {
    let (mut by_id, mut by_name) = (HashMap::new(), HashMap::new());
    for r in rows {
        if let Some(other) = by_id.insert((r.kind, r.id), &r.name).filter(|other| **other != r.name) {
            return Err(format!("the id {} is given to {other} and to {}", r.id, r.name));
        }
        if !r.retired {
            if let Some(other) = by_name.insert((r.kind, &r.name), r.id).filter(|other| *other != r.id) {
                return Err(format!("{} is given the ids {other} and {}", r.name, r.id));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: IdSpace, name: &str, id: u32) -> IdRow {
        IdRow { kind, name: name.into(), id, source: None, retired: false, issuer: None, subject: None }
    }

    #[test]
    fn what_was_written_is_read() {
        let rows = vec![
            IdRow {
                source: Some("directory".into()),
                issuer: Some("corp".into()),
                subject: Some("uid=a\\,b,dc=\"x\"".into()),
                ..row(IdSpace::User, "alice", 20001)
            },
            IdRow { retired: true, source: Some("computed".into()), ..row(IdSpace::Group, "ml team", 4_294_967_294) },
        ];
        for format in [Format::Csv, Format::Json] {
            assert_eq!(read(&write(&rows, format), format).unwrap(), rows);
        }
    }

    #[test]
    fn passwd_and_group_lines() {
        let text = "root:x:0:0::/root:/bin/sh\n# a comment\nalice:x:20001:20001:A:/home/alice:/bin/bash\n";
        assert_eq!(read(text, Format::Passwd).unwrap(), [row(IdSpace::User, "alice", 20001)]);
        assert_eq!(read("ml:x:20100:alice,bob\n", Format::Group).unwrap(), [row(IdSpace::Group, "ml", 20100)]);
        assert_eq!(read("a:x:1:1:::\nbroken\n", Format::Passwd).unwrap_err(), "line 2: not 7 fields");
        assert_eq!(read("a:x:one:\n", Format::Group).unwrap_err(), "line 1: the id is no number");
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        assert!(read("kind,name,id\nuser,alice,-1\n", Format::Csv).unwrap_err().contains("line: 2"));
        assert!(read("kind,name,id\nrole,alice,7\n", Format::Csv).is_err());
        assert!(read("[{\"kind\":\"user\",\"name\":\"a\",\"id\":1,\"x\":2}]", Format::Json).is_err());
        assert_eq!(read("kind,name,id\nuser,alice,20001\n", Format::Csv).unwrap().len(), 1);
    }

    #[test]
    fn one_id_one_name() {
        let (a, b) = (row(IdSpace::User, "a", 1000), row(IdSpace::User, "b", 1000));
        assert!(one_each(&[a.clone(), b.clone()]).is_err());
        assert!(one_each(&[a.clone(), row(IdSpace::Group, "b", 1000)]).is_ok());
        assert!(one_each(&[a.clone(), row(IdSpace::User, "a", 1001)]).is_err());
        assert!(one_each(&[a, IdRow { retired: true, ..row(IdSpace::User, "a", 1001) }]).is_ok());
    }
}
