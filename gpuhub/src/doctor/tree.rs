//! The files that the doctor looks at: the machine's, or those under `--root` in a test.

use std::path::{Path, PathBuf};

/// A root directory.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// `None` is the machine itself.
    pub fn new(root: Option<&str>) -> Self {
        Self { root: PathBuf::from(root.unwrap_or("/")) }
    }

    /// Whether it is the machine itself.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where an absolute path is.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text; what is not UTF-8 in it cannot matter here.
    pub fn read(&self, path: &str) -> std::io::Result<String> {
        std::fs::read(self.at(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a file is there.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).is_file()
    }

    /// The names in a directory, sorted; none if it is not there.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.at(dir))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// The directories that the loader searches by itself, Debian's multiarch ones among them.
    pub fn library_dirs(&self) -> Vec<String> {
        let mut dirs = Vec::new();
        for base in ["/lib", "/usr/lib", "/usr/local/lib"] {
            let triplets = self.names(base).into_iter().filter(|n| n.contains("-linux-"));
            dirs.extend(triplets.map(|n| format!("{base}/{n}")));
            dirs.extend([base.to_owned(), format!("{base}64")]);
        }
        dirs
    }
}
