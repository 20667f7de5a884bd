//! The command line: words that choose the command, then options and operands in any order.

use crate::outcome::{Failure, plain};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

/// Words that begin a command of more than one word.
const FAMILIES: &[&str] = &["user", "group", "member", "idmap", "config", "cache", "passcode"];

/// What stands after the command's words.
#[derive(Debug, Clone)]
pub struct Args {
    rest: Vec<String>,
    socket: Option<String>,
    root: Option<String>,
}

/// The same, sorted.
#[derive(Debug)]
pub struct Parsed<const N: usize> {
    /// Exactly as many as the command takes.
    pub operands: [String; N],
    flags: BTreeSet<String>,
    values: BTreeMap<String, String>,
    /// `--socket`: where the broker is (tests).
    pub socket: Option<String>,
    /// `--root`: the tree that the doctor looks at (tests).
    pub root: Option<String>,
}

impl Args {
    /// Splits the command's words from the rest. `--socket` and `--root` may stand before them.
    pub fn command(words: impl Iterator<Item = OsString>) -> Result<(Vec<String>, Self), Failure> {
        let mut words = words.map(|w| w.into_string().map_err(|_| Failure::Usage("an argument is not UTF-8".into())));
        let (mut command, mut args) = (Vec::new(), Args { rest: Vec::new(), socket: None, root: None });
        while let Some(word) = words.next().transpose()? {
            match word.as_str() {
                "--socket" => args.socket = Some(value("--socket", words.next().transpose()?)?),
                "--root" => args.root = Some(value("--root", words.next().transpose()?)?),
                "-h" | "--help" => command.push("help".into()),
                "-V" | "--version" => command.push("version".into()),
                option if option.starts_with('-') => return Err(unknown(option)),
                _ => command.push(word),
            }
            if command.last().is_some_and(|last| !FAMILIES.contains(&last.as_str())) {
                break;
            }
        }
        args.rest = words.collect::<Result<_, _>>()?;
        if args.rest.iter().take_while(|w| *w != "--").any(|w| w == "--help" || w == "-h") {
            command = vec!["help".into()];
            args.rest.clear();
        }
        Ok((command, args))
    }

    /// Sorts the rest: `flags` stand alone, `values` take the next word or what follows `=`,
    /// `operands` name what remains, in order. `--` ends the options.
    pub fn parse<const N: usize>(
        self,
        flags: &[&str],
        values: &[&str],
        operands: [&str; N],
    ) -> Result<Parsed<N>, Failure> {
        let mut parsed = Parsed {
            operands: [const { String::new() }; N],
            flags: BTreeSet::new(),
            values: BTreeMap::new(),
            socket: self.socket,
            root: self.root,
        };
        let mut found = Vec::new();
        let mut words = self.rest.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                found.extend(words);
                break;
            }
            if !word.starts_with('-') || word == "-" {
                found.push(word);
                continue;
            }
            let (option, inline) = match word.split_once('=') {
                Some((option, text)) => (option.to_owned(), Some(text.to_owned())),
                None => (word, None),
            };
            let again = if flags.contains(&option.as_str()) {
                if inline.is_some() {
                    return Err(Failure::Usage(format!("{option} takes no value")));
                }
                !parsed.flags.insert(option.clone())
            } else if values.contains(&option.as_str()) || option == "--socket" || option == "--root" {
                let text = value(&option, inline.or_else(|| words.next()))?;
                match option.as_str() {
                    "--socket" => parsed.socket.replace(text).is_some(),
                    "--root" => parsed.root.replace(text).is_some(),
                    _ => parsed.values.insert(option.clone(), text).is_some(),
                }
            } else {
                return Err(unknown(&option));
            };
            if again {
                return Err(Failure::Usage(format!("{option} is given twice")));
            }
        }
        if let Some(missing) = operands.get(found.len()) {
            return Err(Failure::Usage(format!("{missing} is missing")));
        }
        parsed.operands = found.try_into().map_err(|found: Vec<String>| {
            Failure::Usage(format!("what is `{}`?", plain(found.get(N).map_or("", String::as_str))))
        })?;
        Ok(parsed)
    }
}

impl<const N: usize> Parsed<N> {
    /// Whether a flag is there.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.contains(name)
    }

    /// The value of an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of an option that is a number.
    pub fn number(&self, name: &str) -> Result<Option<u32>, Failure> {
        self.value(name)
            .map(|text| {
                text.parse().map_err(|_| Failure::Usage(format!("{name} takes a number, not `{}`", plain(text))))
            })
            .transpose()
    }
}

fn value(option: &str, text: Option<String>) -> Result<String, Failure> {
    text.ok_or_else(|| Failure::Usage(format!("{option} takes a value")))
}

fn unknown(option: &str) -> Failure {
    Failure::Usage(format!("there is no option `{}` here", plain(option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Result<(Vec<String>, Args), Failure> {
        Args::command(line.split_whitespace().map(OsString::from))
    }

    fn wrong(line: &str) -> String {
        let (_, args) = command(line).unwrap();
        match args.parse(&["--json"], &["--uid"], ["NAME"]) {
            Err(Failure::Usage(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_options_and_operands() {
        let (words, args) = command("--socket /s group member add --json --uid=7 a").unwrap();
        assert_eq!(words, ["group", "member", "add"]);
        let p = args.parse(&["--json"], &["--uid"], ["NAME"]).unwrap();
        assert_eq!(p.operands, ["a"]);
        assert!(p.flag("--json") && !p.flag("--jso"));
        assert_eq!(p.number("--uid").unwrap(), Some(7));
        assert_eq!(p.socket.as_deref(), Some("/s"));
        let p = command("user add --uid x -- --odd").unwrap().1.parse(&[], &["--uid"], ["NAME"]).unwrap();
        assert_eq!(p.operands, ["--odd"]);
        assert!(p.number("--uid").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(wrong("user add"), "NAME is missing");
        assert_eq!(wrong("user add a b"), "what is `b`?");
        assert_eq!(wrong("user add a --nope"), "there is no option `--nope` here");
        assert_eq!(wrong("user add a --uid"), "--uid takes a value");
        assert_eq!(wrong("user add a --json=1"), "--json takes no value");
        assert_eq!(wrong("user add a --uid 1 --uid 2"), "--uid is given twice");
    }

    #[test]
    fn help_anywhere() {
        for line in ["--help", "user add -h", "user add x --help", "user --help"] {
            assert_eq!(command(line).unwrap().0.last().map(String::as_str), Some("help"), "{line}");
        }
        assert_eq!(command("user add -- --help").unwrap().0, ["user", "add"]);
    }
}
