//! Whether the PAM stacks of login programs ask us, before pam_unix and so that our answer counts.

use super::tree::Tree;
use super::{Finding, Part};

const OURS: &str = "pam_gpuhub.so";
const UNIX: &str = "pam_unix.so";
/// Services that people log in by; those that are here are checked.
const SERVICES: &[&str] = &["sshd", "login", "su", "jupyterhub"];
/// Where Linux-PAM looks for a service, in order.
const DIRS: &[&str] = &["/etc/pam.d", "/usr/lib/pam.d"];
/// Includes deeper than this are a circle.
const DEPTH: u8 = 16;
const REMEDY: &str = "Run: pam-auth-update --package. Where that changes nothing, the service has a stack of its own, \
                      or common-* was edited by hand: see /usr/share/doc/gpuhub/pam-stack.md.";

/// `pam-stack`.
pub fn stacks(tree: &Tree) -> Part {
    let checked: Vec<&str> = SERVICES.iter().copied().filter(|s| file_of(tree, s).is_some()).collect();
    // Most share common-*: what is wrong there is told once.
    let mut wrong: Vec<((bool, String), Vec<&str>)> = Vec::new();
    for service in &checked {
        for problem in problems(tree, service) {
            match wrong.iter_mut().find(|(known, _)| *known == problem) {
                Some((_, services)) => services.push(service),
                None => wrong.push((problem, vec![service])),
            }
        }
    }
    let mut findings: Vec<Finding> = wrong
        .into_iter()
        .map(|((fatal, what), services)| Finding {
            fatal,
            ..Finding::fatal("pam-stack", format!("{what} (PAM service {}).", services.join(", ")), REMEDY)
        })
        .collect();
    // JupyterHub asks for a service that no package brings; then this one is asked.
    let fatal = problems(tree, "other").into_iter().find(|(fatal, _)| *fatal);
    if let (false, Some((_, what))) = (checked.contains(&"jupyterhub"), fatal) {
        let what =
            format!("{what} (PAM service other, which JupyterHub gets, since /etc/pam.d/jupyterhub is not there).");
        findings.push(Finding::note("pam-stack", what, REMEDY));
    }
    if checked.is_empty() {
        let what = format!("No PAM service that people log in by is here (looked for {}).", SERVICES.join(", "));
        findings.push(Finding::fatal("pam-stack", what, "Install openssh-server, or write /etc/pam.d/jupyterhub."));
    }
    findings.extend(module(tree));
    Part { ok: format!("PAM asks gpuhub for {}", checked.join(", ")), findings }
}

/// The module's file must be where libpam looks.
fn module(tree: &Tree) -> Option<Finding> {
    if tree.library_dirs().iter().any(|dir| tree.has(&format!("{dir}/security/{OURS}"))) {
        return None;
    }
    let what =
        format!("The PAM module {OURS} is in none of PAM's directories (such as /usr/lib/<multiarch>/security).");
    Some(Finding::fatal("pam-stack", what, "Install the gpuhub package in this image."))
}

/// What is wrong with one service: whether it is fatal, and what.
fn problems(tree: &Tree, service: &str) -> Vec<(bool, String)> {
    let mut stack = Vec::new();
    if let Err(what) = gather(tree, service, None, 0, &mut stack) {
        return vec![(true, what)];
    }
    let mut found = Vec::new();
    for kind in ["auth", "account", "session"] {
        let lines: Vec<&Line> = stack.iter().filter(|l| l.kind == kind).collect();
        let at = |module: &str| lines.iter().position(|l| l.is(module));
        let Some((ours, line)) = at(OURS).and_then(|i| Some((i, lines.get(i)?))) else {
            found.push((true, format!("{OURS} is not in the {kind} stack")));
            continue;
        };
        let unix = at(UNIX).filter(|unix| *unix < ours);
        match kind {
            "auth" if unix.is_some() => {
                found.push((
                    true,
                    format!(
                        "{UNIX} stands before {OURS} in auth, so people are asked for a password that it cannot know"
                    ),
                ));
            }
            "auth" if line.on("auth_err") == "ignore" => {
                found.push((
                    false,
                    format!("{OURS} is \"{}\" in auth: after a refusal {UNIX} asks again", line.control),
                ));
            }
            "account" if line.on("perm_denied") == "ignore" => {
                found.push((true, format!("{OURS} is \"{}\" in account: a refusal would not count", line.control)));
            }
            "account" if unix.and_then(|i| lines.get(i)).is_some_and(|l| l.on("success") == "done") => {
                found.push((
                    true,
                    format!("{UNIX} ends the account stack before {OURS}: key logins would slip past the policy"),
                ));
            }
            _ => {}
        }
        if matches!(line.on("user_unknown"), "bad" | "die") {
            found.push((
                true,
                format!("{OURS} is \"{}\" in {kind}: root and local users would be locked out", line.control),
            ));
        }
    }
    found
}

/// One line of a stack.
struct Line {
    kind: String,
    control: String,
    module: String,
}

impl Line {
    fn is(&self, module: &str) -> bool {
        self.module.rsplit('/').next() == Some(module)
    }

    /// What is done on a result: pam.d(5), and its table of what the simple words mean.
    fn on(&self, result: &str) -> &str {
        let success = matches!(result, "success" | "new_authtok_reqd");
        let Some(pairs) = self.control.strip_prefix('[').and_then(|c| c.strip_suffix(']')) else {
            return match (self.control.as_str(), success) {
                ("sufficient", true) => "done",
                ("required" | "requisite" | "optional", true) => "ok",
                ("required", false) => "bad",
                ("requisite", false) => "die",
                _ => "ignore",
            };
        };
        let find = |key: &str| pairs.split_whitespace().find_map(|p| p.split_once('=').filter(|(k, _)| *k == key));
        find(result).or_else(|| find("default")).map_or("bad", |(_, action)| action)
    }
}

fn file_of(tree: &Tree, service: &str) -> Option<String> {
    if service.starts_with('/') {
        return tree.has(service).then(|| service.to_owned());
    }
    DIRS.iter().map(|dir| format!("{dir}/{service}")).find(|path| tree.has(path))
}

/// Appends the lines of a service, of one kind or of all, with what it includes in its place.
fn gather(tree: &Tree, service: &str, only: Option<&str>, depth: u8, stack: &mut Vec<Line>) -> Result<(), String> {
    let Some(path) = file_of(tree, service) else { return Err(format!("{service} is not in /etc/pam.d")) };
    if depth > DEPTH {
        return Err(format!("{path} includes itself"));
    }
    let text = tree.read(&path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    for line in text.replace("\\\n", " ").lines() {
        let words = words(line);
        let included = |name: &str| format!("{path} includes {name}: ");
        match words.as_slice() {
            [include, name, ..] if include == "@include" => {
                gather(tree, name, only, depth + 1, stack).map_err(|e| included(name) + &e)?;
            }
            [kind, control, module, ..] => {
                let kind = kind.trim_start_matches('-').to_ascii_lowercase();
                if only.is_some_and(|only| only != kind) {
                    continue;
                }
                if control == "include" || control == "substack" {
                    gather(tree, module, Some(&kind), depth + 1, stack).map_err(|e| included(module) + &e)?;
                } else {
                    stack.push(Line { kind, control: control.clone(), module: module.clone() });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The words of a line; `[…]` is one word.
fn words(line: &str) -> Vec<String> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for piece in line.split_whitespace() {
        match words.last_mut().filter(|_| open) {
            Some(word) => {
                word.push(' ');
                word.push_str(piece);
            }
            None => words.push(piece.to_owned()),
        }
        open = (open || piece.starts_with('[')) && !piece.ends_with(']');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        assert_eq!(
            words("-auth  [success=2 user_unknown=ignore default=die]\tpam_gpuhub.so x # y"),
            ["-auth", "[success=2 user_unknown=ignore default=die]", "pam_gpuhub.so", "x"]
        );
        assert_eq!(words("  # nothing"), [""; 0]);
    }

    #[test]
    fn controls() {
        let on = |control: &str, result: &str| {
            Line { kind: String::new(), control: control.into(), module: String::new() }.on(result).to_owned()
        };
        assert_eq!(on("required", "user_unknown"), "bad");
        assert_eq!(on("sufficient", "auth_err"), "ignore");
        assert_eq!(on("[success=1 default=ignore]", "success"), "1");
        assert_eq!(on("[success=ok user_unknown=ignore default=bad]", "perm_denied"), "bad");
        assert_eq!(on("[success=ok]", "perm_denied"), "bad");
    }
}
