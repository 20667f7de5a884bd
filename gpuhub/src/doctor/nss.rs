//! Whether getpwnam(3) and kin ask us.

use super::tree::Tree;
use super::{Finding, Part};

const SWITCH: &str = "/etc/nsswitch.conf";
const LIBRARY: &str = "libnss_gpuhub.so.2";

/// `nsswitch`: gpuhub is asked for users and groups, after the container's own files.
pub fn switch(tree: &Tree) -> Part {
    // Without the file, or the line, glibc asks the files alone.
    let text = tree.read(SWITCH).unwrap_or_default();
    let mut findings = Vec::new();
    for database in ["passwd", "group"] {
        findings.extend(database_finding(database, line(&text, database).unwrap_or("files")));
    }
    // Where this line is, it stands in for `group` when groups of a login are gathered.
    findings.extend(line(&text, "initgroups").and_then(|sources| database_finding("initgroups", sources)));
    Part { ok: format!("{SWITCH} asks gpuhub for users and groups"), findings }
}

fn line<'a>(text: &'a str, database: &str) -> Option<&'a str> {
    text.lines().find_map(|l| {
        let (name, sources) = l.split('#').next()?.split_once(':')?;
        (name.trim() == database).then_some(sources.trim())
    })
}

fn database_finding(database: &str, sources: &str) -> Option<Finding> {
    let remedy = format!(
        "Write in {SWITCH}: {database}: {} gpuhub",
        if database == "initgroups" { "files [SUCCESS=continue]" } else { "files" }
    );
    let bad = |what: String| Some(Finding::fatal("nsswitch", what, remedy.clone()));
    // `[NOTFOUND=return]` belongs to the source before it.
    let words: Vec<String> = spaced(sources).split_whitespace().map(str::to_owned).collect();
    let at = |name: &str| words.iter().position(|w| w == name);
    let Some(ours) = at("gpuhub") else {
        return bad(format!("{SWITCH} does not name gpuhub for {database}: programs do not see the users."));
    };
    match at("files").or_else(|| at("compat")) {
        None => {
            return bad(format!("{SWITCH} does not name files for {database}: root and local users are not found."));
        }
        Some(files) if files > ours => {
            return bad(format!("{SWITCH} asks gpuhub before files for {database}: local users must come first."));
        }
        Some(_) => {}
    }
    let stops = words.iter().take(ours).any(|word| stops_at_absence(word));
    if stops {
        return bad(format!("{SWITCH} stops before gpuhub for {database}: {sources}"));
    }
    None
}

/// Whether `[NOTFOUND=return]`, or another action in brackets, ends the search for a name that the
/// source before it does not have.
fn stops_at_absence(action: &str) -> bool {
    let Some(pairs) = action.strip_prefix('[').and_then(|a| a.strip_suffix(']')) else { return false };
    pairs.to_ascii_lowercase().split(',').filter_map(|pair| pair.split_once('=')).any(|(status, then)| {
        let on_absence = status.strip_prefix('!').map_or(status == "notfound", |not| not != "notfound");
        on_absence && then == "return"
    })
}

/// `[ NOTFOUND = return ]` in one word, and apart from its neighbours.
fn spaced(sources: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in sources.chars() {
        match c {
            '[' => {
                inside = true;
                out.push_str(" [");
            }
            ']' => {
                inside = false;
                out.push_str("] ");
            }
            c if inside && c.is_whitespace() => out.push(','),
            c => out.push(c),
        }
    }
    out.replace(",=", "=").replace("=,", "=")
}

/// `nss-library`: the loader finds our library.
pub fn library(tree: &Tree) -> Part {
    let found = tree.library_dirs().into_iter().map(|dir| format!("{dir}/{LIBRARY}")).find(|path| tree.has(path));
    match found {
        Some(path) => Part { ok: format!("the NSS library is {path}"), findings: Vec::new() },
        None => {
            let what = format!(
                "The NSS library {LIBRARY} is in none of the loader's directories: programs do not see the users."
            );
            let finding = Finding::fatal("nss-library", what, "Install the gpuhub package in this image.");
            Part { ok: String::new(), findings: vec![finding] }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        for good in [
            "files gpuhub",
            "compat gpuhub",
            "files systemd gpuhub",
            "files [SUCCESS=merge] gpuhub",
            "files gpuhub [NOTFOUND=return] sss",
            "files [!NOTFOUND=return] gpuhub",
        ] {
            assert_eq!(database_finding("group", good), None, "{good}");
        }
        for (bad, why) in [
            ("files", "does not name gpuhub"),
            ("gpuhub files", "before files"),
            ("gpuhub", "does not name files"),
            ("files[NOTFOUND=return]gpuhub", "stops before"),
            ("files [ UNAVAIL=continue notfound = return ] gpuhub", "stops before"),
            ("files [!UNAVAIL=return] gpuhub", "stops before"),
            ("files xgpuhub", "does not name gpuhub"),
        ] {
            let finding = database_finding("passwd", bad);
            assert!(finding.as_ref().is_some_and(|f| f.fatal && f.what.contains(why)), "{bad}: {finding:?}");
        }
    }

    #[test]
    fn lines() {
        let text = "# passwd: nope\npasswd :\tfiles gpuhub # ours\ngroup: files";
        assert_eq!(line(text, "passwd"), Some("files gpuhub"));
        assert_eq!(line(text, "group"), Some("files"));
        assert_eq!(line(text, "initgroups"), None);
    }
}
