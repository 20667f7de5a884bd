//! Whether sshd lets PAM ask its questions.

use super::tree::Tree;
use super::{Finding, Part};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const SSHD: &str = "/usr/sbin/sshd";
const CONFIG: &str = "/etc/ssh/sshd_config";

/// A device code lives ten minutes at most providers (RFC 8628 leaves it to them); for when none was asked.
const DEVICE_CODE_S: u64 = 600;

/// `sshd-keyboard-interactive` and `sshd-grace`; nothing where there is no sshd. `code_s`: so long device codes live here.
pub fn server(tree: &Tree, device_codes: bool, code_s: Option<u64>) -> Option<Part> {
    if !tree.has(SSHD) {
        return None;
    }
    let settings = Settings::of_sshd(tree).unwrap_or_else(|| Settings::of_files(tree));
    let mut findings = Vec::new();
    for (key, name, without) in [
        (
            "kbdinteractiveauthentication",
            "KbdInteractiveAuthentication",
            "nobody is asked for more than a password, so no device code is shown",
        ),
        ("usepam", "UsePAM", "it does not ask us at all"),
    ] {
        let value = settings.get(key);
        if value != "yes" {
            findings.push(Finding::fatal(
                "sshd-keyboard-interactive",
                format!("sshd runs with {name} {value}: {without}."),
                format!(
                    "Set {name} yes in /etc/ssh/sshd_config.d/50-gpuhub.conf, see that sshd_config includes that \
                     directory and that no file before it says otherwise (the first value counts), and restart sshd."
                ),
            ));
        }
    }
    let life = code_s.unwrap_or(DEVICE_CODE_S);
    match seconds(settings.get("logingracetime")) {
        Some(grace) if device_codes && grace > 0 && grace < life => findings.push(Finding::note(
            "sshd-grace",
            format!(
                "sshd gives a person {grace} seconds to log in (LoginGraceTime); a device code {} longer{}.",
                if code_s.is_some() { "lives" } else { "usually lives" },
                code_s.map_or(String::new(), |s| format!(", {s} seconds")),
            ),
            format!("Set LoginGraceTime {life} if people need the time to find their phone."),
        )),
        _ => {}
    }
    Some(Part { ok: "sshd asks by keyboard-interactive, through PAM".into(), findings })
}

/// Keyword in lower case → value, the first one that counts.
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn get(&self, key: &str) -> &str {
        // What OpenSSH does where nothing is written: servconf.c.
        let default = match key {
            "kbdinteractiveauthentication" => "yes",
            "usepam" => "no",
            "logingracetime" => "120",
            _ => "",
        };
        self.0.get(key).map_or(default, String::as_str)
    }

    fn put(&mut self, key: &str, value: &str) {
        let key = match key.to_ascii_lowercase().as_str() {
            // Older names for the same.
            "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication".into(),
            other => other.to_owned(),
        };
        self.0.entry(key).or_insert_with(|| value.trim_matches('"').to_ascii_lowercase());
    }

    /// What sshd itself says. It says nothing without host keys or its run directory.
    fn of_sshd(tree: &Tree) -> Option<Self> {
        let mut command = Command::new(tree.at(SSHD));
        command.arg("-T");
        if !tree.is_machine() {
            command.arg("-f").arg(tree.at(CONFIG));
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok().filter(|o| o.status.success())?;
        let mut settings = Self(BTreeMap::new());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((key, value)) = line.split_once(' ') {
                settings.put(key, value.trim());
            }
        }
        settings.0.contains_key("usepam").then_some(settings)
    }

    /// What its files say: sshd_config(5), up to the first Match.
    fn of_files(tree: &Tree) -> Self {
        let mut settings = Self(BTreeMap::new());
        settings.read(tree, CONFIG, 0);
        settings
    }

    fn read(&mut self, tree: &Tree, path: &str, depth: u8) {
        let Ok(text) = tree.read(path) else { return };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let Some((key, value)) = line.split_once(|c: char| c.is_whitespace() || c == '=') else { continue };
            let value = value.trim_start_matches(|c: char| c.is_whitespace() || c == '=').trim();
            match key.to_ascii_lowercase().as_str() {
                // A Match ends with its file; an Include inside one counts only there.
                "match" => return,
                "include" if depth < 16 => {
                    for pattern in value.split_whitespace().map(|p| p.trim_matches('"')) {
                        for file in matching(tree, pattern) {
                            self.read(tree, &file, depth + 1);
                        }
                    }
                }
                _ => self.put(key, value),
            }
        }
    }
}

/// The files of an Include, in sshd's order. Wildcards in the last part only, as everyone writes.
fn matching(tree: &Tree, pattern: &str) -> Vec<String> {
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/ssh/{pattern}") };
    let Some((dir, last)) = pattern.rsplit_once('/') else { return Vec::new() };
    let hit =
        |name: &String| (!name.starts_with('.') || last.starts_with('.')) && glob(last.as_bytes(), name.as_bytes());
    tree.names(dir).into_iter().filter(hit).map(|name| format!("{dir}/{name}")).collect()
}

/// `*` and `?`.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if glob(rest, name) => true,
        (Some((b'*', _)), Some((_, tail))) => glob(pattern, tail),
        (Some((b'?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some((p, rest)), Some((n, tail))) => p == n && glob(rest, tail),
        _ => false,
    }
}

/// A time of sshd_config(5): `120`, `2m`, `1h30m`.
fn seconds(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    if number.is_empty() { Some(total) } else { total.checked_add(number.parse().ok()?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, hit) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf~", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("x", "x", true),
            ("**", "", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), hit, "{pattern} {name}");
        }
    }

    #[test]
    fn times() {
        for (text, s) in [
            ("120", Some(120)),
            ("2m", Some(120)),
            ("1h30m", Some(5400)),
            ("1m5", Some(65)),
            ("0", Some(0)),
            ("x", None),
            ("m", None),
        ] {
            assert_eq!(seconds(text), s, "{text}");
        }
    }
}
