//! What the documents name exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use std::path::{Path, PathBuf};

/// `file::test` in docs/threats.md: some file of that name (or path's end) has a test of that name.
#[test]
fn the_tests_that_threats_names_are_there() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..");
    let mut files = Vec::new();
    for dir in ["common", "pam_gpuhub", "nss_gpuhub", "gpuhubd", "gpuhub", "tests"] {
        sources(&root.join(dir), &mut files);
    }
    let text = std::fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let named: Vec<(&str, &str)> =
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    let named: Vec<_> = named.into_iter().filter(|(file, _)| file.ends_with(".rs") || file.ends_with(".py")).collect();
    assert!(named.len() > 40, "the table was not read: {}", named.len());
    let missing: Vec<_> = named.iter().filter(|(file, test)| !files.iter().any(|f| has(f, file, test))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

fn has(path: &Path, file: &str, test: &str) -> bool {
    path.ends_with(file) && {
        let text = std::fs::read_to_string(path).unwrap();
        ["fn", "def"].iter().any(|keyword| text.contains(&format!("{keyword} {test}(")))
    }
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "py") {
            files.push(path);
        }
    }
}
