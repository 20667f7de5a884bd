//! The tables that are about people, whoever vouches for them.

use super::values::{ConfigError, SecretFile, Source};
use crate::registry::Postgres;
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::{entry, id, name};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// A range of fewer ids than this needs a registry: two names of a hundred would clash once in a
/// few thousand boxes, and nothing would make boxes that never met agree.
const SMALL_RANGE: u32 = 1 << 24;

/// `[ids]`: which ids are derived, and where it is recorded who has them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ids {
    /// First and last id that may be derived, for users and groups alike.
    uid_range: Spanned<[u32; 2]>,
    /// `"local"`, the store of this box, or the URL of a PostgreSQL database that a fleet shares.
    registry: Option<Spanned<String>>,
    /// The password for it.
    registry_password_file: Option<Spanned<SecretFile>>,
    /// The CA that its certificate is of, besides those of the system.
    registry_ca_file: Option<Spanned<String>>,
    /// The primary group of people whose directory names none; absent: each has one of her own.
    pub primary_group: Option<Spanned<GroupName>>,
}

impl Default for Ids {
    /// Odds that any two of 1,000 people clash without a registry: 1 in 2,000.
    fn default() -> Self {
        Self {
            uid_range: Spanned::new(0..0, [1_000_000_000, 1_999_999_999]),
            registry: None,
            registry_password_file: None,
            registry_ca_file: None,
            primary_group: None,
        }
    }
}

impl Ids {
    /// First and last id that may be derived, for users and groups alike.
    pub fn uid_range(&self) -> [u32; 2] {
        *self.uid_range.get_ref()
    }

    /// Whether it is written where ids and bindings are kept: nobody need be warned.
    pub fn is_registered(&self) -> bool {
        self.registry.is_some()
    }

    /// The fleet's registry, if there is one. It is not asked yet.
    pub fn registry(&self) -> Result<Option<Postgres>, String> {
        match self.registry.as_ref().map(|r| r.get_ref().as_str()) {
            None | Some("local") => Ok(None),
            Some(url) => {
                let password = self.registry_password_file.as_ref().map(|file| file.get_ref().secret());
                let ca_file = self.registry_ca_file.as_ref().map(|file| file.get_ref().as_str());
                Postgres::new(url, password, ca_file).map(Some)
            }
        }
    }

    pub(super) fn check(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        let [first, last] = self.uid_range();
        let span = self.uid_range.span();
        let bad = |what: &str| {
            Err(source.at(
                &span,
                what,
                "Choose a range of ids that are never system ids, such as [1000000000, 1999999999].",
            ))
        };
        if first > last {
            return bad("uid_range ends before it starts");
        }
        if !id::is_allowed(first) || !id::is_allowed(last) || (first < 61184 && last > 61184) {
            return bad("uid_range reaches into 0-999, 61184-65535 or 4294967295, which are never given to people");
        }
        if last - first < SMALL_RANGE - 1 && self.registry.is_none() {
            return Err(source.at(
                &span,
                "uid_range has fewer than 16777216 ids, so that people of different boxes would often clash",
                "Set registry = \"postgres://…\" for a fleet, or registry = \"local\" if this box is alone and keeps its state.",
            ));
        }
        let of_a_server = [
            ("registry_password_file", self.registry_password_file.as_ref().map(Spanned::span)),
            ("registry_ca_file", self.registry_ca_file.as_ref().map(Spanned::span)),
        ];
        if self.registry.as_ref().is_none_or(|r| r.get_ref() == "local") {
            if let Some((key, Some(span))) = of_a_server.into_iter().find(|(_, span)| span.is_some()) {
                let what = format!("{key} is set, and no registry that it could be for");
                return Err(source.at(&span, &what, "Set registry = \"postgres://…\", or leave it out."));
            }
        }
        let Some(registry) = &self.registry else { return Ok(()) };
        match registry.get_ref().as_str() {
            "local" => Ok(()),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                self.registry().map(|_| ()).map_err(|e| {
                    source.at(&registry.span(), &e, "Write registry = \"postgres://USER@HOST:PORT/DATABASE\".")
                })
            }
            _ => Err(source.at(
                &registry.span(),
                "registry is neither \"local\" nor the URL of a PostgreSQL database",
                "Write registry = \"postgres://USER@HOST:PORT/DATABASE\".",
            )),
        }
    }
}

/// `[people]`: what a directory does not say about somebody.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct People {
    /// Home; `%u` is the name.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// What a new home is copied from.
    pub skel: String,
    /// Whether missing homes are made at login.
    pub make_homes: bool,
    /// Permission bits of a new home.
    pub home_mode: u32,
}

impl Default for People {
    fn default() -> Self {
        Self {
            home: "/home/%u".into(),
            shell: "/bin/bash".into(),
            skel: "/etc/skel".into(),
            make_homes: true,
            home_mode: 0o700,
        }
    }
}

impl People {
    /// The home of somebody whose directory names none.
    pub fn home_of(&self, name: &UserName) -> String {
        self.home.replace("%u", name.as_str())
    }

    pub(super) fn check(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        for (key, path) in [("home", &self.home), ("shell", &self.shell), ("skel", &self.skel)] {
            if !entry::is_path(path.as_bytes()) {
                return Err(source.at(
                    &(0..0),
                    &format!("[people] {key} is not an absolute path"),
                    "It must start with / and have no colon and no \"..\".",
                ));
            }
        }
        if self.make_homes && !self.home.contains("%u") {
            return Err(source.at(&(0..0), "[people] home is the same for everybody", "Put %u into it."));
        }
        Ok(())
    }
}

/// What a service can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceMode {
    /// Several prompts, text that is seen, a person who waits.
    Interactive,
    /// One password and nothing else; it never waits for a human.
    SinglePrompt,
    /// No login of ours at all.
    None,
}

/// `[services]`: PAM service → mode; `default` for all others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Services(BTreeMap<String, ServiceMode>);

impl Services {
    /// The mode of a PAM service. A device code is only shown where it is sure to be seen.
    pub fn mode(&self, service: &str) -> ServiceMode {
        match self.0.get(service) {
            Some(mode) => *mode,
            None if matches!(service, "sshd" | "login" | "su" | "su-l" | "gpuhub") => ServiceMode::Interactive,
            None => self.0.get("default").copied().unwrap_or(ServiceMode::SinglePrompt),
        }
    }
}

/// `[audit]`: where the lines go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The syslog socket; where there is none, JSON lines on stderr.
    pub syslog: String,
    /// Lines kept while the sink is away.
    pub queue: usize,
}

impl Default for Audit {
    fn default() -> Self {
        Self { syslog: "/dev/log".into(), queue: 4096 }
    }
}

/// `[builtin]`: the embedded directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Builtin {
    /// Shortest password in characters.
    pub min_length: usize,
    /// Of lower case, upper case, digits and others, at least so many.
    pub min_classes: usize,
    /// `[[builtin.user]]`
    pub user: Vec<Spanned<DeclaredUser>>,
    /// `[[builtin.group]]`
    pub group: Vec<Spanned<DeclaredGroup>>,
}

impl Default for Builtin {
    fn default() -> Self {
        Self { min_length: 10, min_classes: 2, user: Vec::new(), group: Vec::new() }
    }
}

/// A user declared in the configuration: an image made by configuration alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredUser {
    /// Login name.
    pub name: UserName,
    /// gecos.
    #[serde(default)]
    pub full_name: String,
    /// Absent: derived.
    pub uid: Option<u32>,
    /// Supplementary groups, each declared.
    #[serde(default)]
    pub groups: Vec<GroupName>,
    /// An argon2id hash in PHC form.
    pub password_hash: Option<String>,
    /// Or a file with the password.
    pub password_file: Option<SecretFile>,
    /// Absent: the template.
    pub home: Option<String>,
    /// Absent: the default.
    pub shell: Option<String>,
}

/// A group declared in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredGroup {
    /// Its name.
    pub name: GroupName,
    /// Absent: derived.
    pub gid: Option<u32>,
}

impl Builtin {
    /// Declares a group that another key names, unless it is declared.
    pub(super) fn declare_group(&mut self, name: &Spanned<GroupName>) {
        if !self.group.iter().any(|g| g.get_ref().name == *name.get_ref()) {
            self.group.push(Spanned::new(name.span(), DeclaredGroup { name: name.get_ref().clone(), gid: None }));
        }
    }

    pub(super) fn check(&self, source: &Source<'_>) -> Result<(), ConfigError> {
        for (i, user) in self.user.iter().enumerate() {
            let u = user.get_ref();
            let bad = |what: String, remedy: &str| Err(source.at(&user.span(), &what, remedy));
            if self.user.iter().take(i).any(|other| other.get_ref().name == u.name) {
                return bad(format!("{} is declared twice", u.name), "Remove one.");
            }
            if u.uid.is_some_and(|uid| !id::is_allowed(uid)) {
                return bad(format!("{} has an id that is never given to people", u.name), "Choose one above 999.");
            }
            if u.password_hash.is_some() && u.password_file.is_some() {
                return bad(format!("{} has password_hash and password_file", u.name), "Keep one.");
            }
            if u.password_hash
                .as_deref()
                .is_some_and(|h| argon2::PasswordHash::new(h).is_err() || !h.starts_with("$argon2id$"))
            {
                return bad(
                    format!("the password_hash of {} is not argon2id", u.name),
                    "Make one with: gpuhub hash-password",
                );
            }
            if !entry::is_plain(u.full_name.as_bytes()) {
                return bad(format!("full_name of {} has a colon or a control character", u.name), "Remove it.");
            }
            for path in [&u.home, &u.shell].into_iter().flatten() {
                if !entry::is_path(path.as_bytes()) {
                    return bad(
                        format!("home or shell of {} is not an absolute path", u.name),
                        "It must start with /.",
                    );
                }
            }
            if let Some(group) = u.groups.iter().find(|g| !self.group.iter().any(|d| d.get_ref().name == **g)) {
                return bad(format!("the group {group} of {} is not declared", u.name), "Add it as [[builtin.group]].");
            }
        }
        for group in &self.group {
            let g = group.get_ref();
            if name::is_power_group(g.name.as_str().as_bytes()) {
                return Err(source.at(
                    &group.span(),
                    &format!("the group name {} gives power by itself", g.name),
                    "Choose another; local groups are joined by /etc/gpuhub/extra-gids.",
                ));
            }
            if g.gid.is_some_and(|gid| !id::is_allowed(gid)) {
                return Err(source.at(
                    &group.span(),
                    &format!("{} has an id that is never given", g.name),
                    "Choose one above 999.",
                ));
            }
        }
        Ok(())
    }
}
