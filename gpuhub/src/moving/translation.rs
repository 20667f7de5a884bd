//! What comes out: a gpuhub.toml in the making, and what has to be said of it.
//!
//! One rule is kept throughout: who could not log in before cannot now. Where a rule of who may is not understood,
//! its provider lets nobody in until somebody has looked at it ([`Translation::shut`]).

use super::filter::{Filter, NOBODY};
use super::servers;
use super::source::Setting;
use super::toml::{Table, Value, as_comment};
use crate::outcome::plain;
use std::collections::BTreeMap;
use std::path::Path;
use zeroize::Zeroizing;

/// Where secrets are, unless somebody says otherwise.
pub const SECRETS: &str = "/etc/gpuhub";

/// A line in the list of what was left out or has to be looked at.
#[derive(Debug)]
struct Remark {
    line: usize,
    option: String,
    why: String,
    instead: String,
}

/// `[access]`: who may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Only these, if there are any lists of whom to allow.
    pub allow_users: Option<Vec<String>>,
    /// And members of these.
    pub allow_groups: Option<Vec<String>>,
    /// Never these.
    pub deny_users: Vec<String>,
    /// Nor members of these.
    pub deny_groups: Vec<String>,
}

/// A `[[provider]]` in the making.
#[derive(Debug, Default)]
pub struct Provider {
    /// Its keys.
    pub table: Table,
    /// Attributes by other names than the schema's.
    pub attributes: BTreeMap<&'static str, String>,
    /// Must all be true of people,
    pub of_people: Vec<Filter>,
    /// of groups,
    pub of_groups: Vec<Filter>,
    /// and of whoever logs in.
    pub access: Vec<Filter>,
    /// Nobody logs in.
    pub is_shut: bool,
    /// The password of `bind_dn`.
    pub secret: Option<Zeroizing<String>>,
}

/// All of it.
#[derive(Debug)]
pub struct Translation {
    file: String,
    remarks: Vec<Remark>,
    idle: Vec<(usize, String)>,
    /// `[access]`
    pub access: Rules,
    /// `[people]`
    pub people: Table,
    /// `[[provider]]`, in order.
    pub providers: Vec<Provider>,
}

impl Translation {
    /// Of a file by this name.
    pub fn new(file: &str) -> Self {
        Self {
            file: plain(file),
            remarks: Vec::new(),
            idle: Vec::new(),
            access: Rules::default(),
            people: Table::default(),
            providers: Vec::new(),
        }
    }

    /// An option that was left out, or that means something else here. Neither text may have a secret in it.
    pub fn remark(&mut self, line: usize, option: &str, why: impl Into<String>, instead: impl Into<String>) {
        self.remarks.push(Remark { line, option: plain(option), why: why.into(), instead: instead.into() });
    }

    /// The same of an option whose absence could let somebody in.
    pub fn shut(&mut self, provider: &mut Provider, line: usize, option: &str, why: impl Into<String>, instead: &str) {
        provider.is_shut = true;
        provider.table.comment("access_filter", "Nobody, until what is said of it above has been looked at.");
        self.remark(line, option, why, format!("{instead} Until then access_filter lets nobody in."));
    }

    /// An option that nothing here has to correspond to.
    pub fn idle(&mut self, option: &str, line: usize) {
        self.idle.push((line, format!("{} (line {line})", plain(option))));
    }

    /// Whether there is nothing to look at.
    pub fn is_complete(&self) -> bool {
        self.remarks.is_empty()
    }

    /// A key of `[people]`, of which there is one for all providers.
    pub fn for_everybody(&mut self, setting: &Setting, key: &'static str, value: String) {
        match self.people.get(key) {
            Some(Value::Text(already)) if *already != value => {
                let why = format!("[people] {key} is one for all providers, and an earlier domain has another");
                self.remark(setting.line, &setting.name, why, "Let the directory say it of each person.");
            }
            _ => self.people.set(key, value),
        }
    }

    /// The list, by lines of the file.
    pub fn remarks(&mut self) -> String {
        self.remarks.sort_by_key(|remark| remark.line);
        let told =
            |r: &Remark| format!("{}:{}: {}: {}. {}\n", self.file, r.line, r.option, plain(&r.why), plain(&r.instead));
        self.remarks.iter().map(told).collect()
    }

    /// The file.
    pub fn write(&mut self, command: &str) -> String {
        let mut out = as_comment(&format!(
            "Made by `gpuhub config {command}` of {}. As /etc/gpuhub/gpuhub.toml it is",
            self.file
        ));
        out += "# root:gpuhub 0640; then `gpuhubd --check` says what is wrong with it, and `gpuhub doctor` what with the box.\n";
        let remarks = self.remarks();
        if !remarks.is_empty() {
            out += "#\n# What was left out, or has to be looked at:\n";
            remarks.lines().for_each(|line| out += &as_comment(&format!("  {line}")));
        }
        if !self.idle.is_empty() {
            self.idle.sort();
            let idle: Vec<_> = self.idle.iter().map(|(_, told)| told.as_str()).collect();
            out += &format!("#\n# Nothing here need correspond to: {}\n", idle.join(", "));
        }
        out += &self.people.write("[people]", &["home", "shell"]);
        out += &self.access.table().write("[access]", &["allow_groups", "allow_users", "deny_groups", "deny_users"]);
        for provider in &mut self.providers {
            provider.finish();
            out += &provider.table.write("[[provider]]", PROVIDER_KEYS);
        }
        out
    }
}

/// In the order of conf/gpuhub.toml.example.
const PROVIDER_KEYS: &[&str] = &[
    "name",
    "kind",
    "urls",
    "start_tls",
    "allow_plaintext",
    "ca_file",
    "ca_dir",
    "client_cert_file",
    "client_key_file",
    "base",
    "user_base",
    "group_base",
    "schema",
    "group_nesting",
    "members",
    "user_filter",
    "group_filter",
    "attributes",
    "access_filter",
    "access_attributes",
    "shadow",
    "override_home",
    "override_shell",
    "bind_dn",
    "bind_password_file",
    "bind_external",
    "ids",
    "connect_timeout",
    "timeout",
    "cache_ttl",
    "sync",
    "enumerate",
    "offline_passwords",
    "offline_max_age",
];

impl Provider {
    /// One of kind `ldap`.
    pub fn new(name: &str) -> Self {
        let mut provider = Self::default();
        // The name of the directory of gpuhub's own.
        let name = if name == "builtin" { "builtin-ldap" } else { name };
        provider.table.set("name", name);
        provider.table.set("kind", "ldap");
        provider
    }

    fn name(&self) -> &str {
        match self.table.get("name") {
            Some(Value::Text(name)) => name,
            _ => "ldap",
        }
    }

    /// One base, or several.
    pub fn set_bases(&mut self, key: &'static str, mut bases: Vec<String>) {
        match (bases.pop(), bases.is_empty()) {
            (Some(only), true) => self.table.set(key, only),
            (Some(last), false) => self.table.set(key, [bases, vec![last]].concat()),
            (None, _) => {}
        }
    }

    /// Servers that the DNS names, in the domain or in that of the base.
    pub fn by_dns(
        &mut self,
        t: &mut Translation,
        line: usize,
        option: &str,
        domain: Option<String>,
        scheme: &'static str,
    ) {
        let base = match self.table.get("base") {
            Some(Value::Text(base)) => servers::domain_of(base),
            _ => None,
        };
        let domain = domain.or(base).unwrap_or_else(|| {
            t.remark(line, option, "the DNS is asked for servers of a domain that is not named", "Correct srv_domain.");
            "example.org".into()
        });
        self.table.set("srv_domain", domain);
        self.table.set("srv_scheme", scheme);
        self.table.comment("srv_scheme", "Their names must lie under srv_domain, unless srv_targets_anywhere = true.");
    }

    /// What belongs together: a certificate and its key, and who is known by them alone. `settings`: where those are
    /// written, the mechanism last.
    pub fn settle_certificate(&mut self, t: &mut Translation, settings: &[Option<&Setting>]) {
        let has = |p: &Self, key: &str| p.table.get(key).is_some();
        let mut tell = |why: &str, instead: &str| {
            if let Some(setting) = settings.iter().flatten().next_back() {
                t.remark(setting.line, &setting.name, why, instead);
            }
        };
        if has(self, "client_cert_file") != has(self, "client_key_file") {
            tell("a certificate and its key go together", "Set client_cert_file and client_key_file.");
            self.table.remove("client_cert_file");
            self.table.remove("client_key_file");
        }
        let is_local = |url: &String| url.starts_with("ldapi:");
        let all_local = matches!(self.table.get("urls"), Some(Value::List(urls)) if urls.iter().all(is_local));
        if has(self, "bind_external") && !has(self, "client_cert_file") && !all_local {
            tell("EXTERNAL has no certificate to show to the server", "Set client_cert_file and client_key_file.");
            self.table.remove("bind_external");
        }
    }

    /// The password of `bind_dn`, which goes into a file of its own.
    pub fn set_secret(&mut self, secret: &str, command: &str, file: &str) {
        self.secret = Some(Zeroizing::new(secret.to_owned()));
        self.table.set("bind_password_file", self.secret_path());
        let quoted = format!("'{}'", file.replace('\'', "'\\''"));
        let make = format!("gpuhub config {command} --secrets-dir {SECRETS} {quoted} > /dev/null");
        self.table.comment("bind_password_file", format!("Made, with mode 0600, by: {make}"));
    }

    /// The file has been written there.
    pub fn secret_is_in(&mut self, dir: &Path) {
        self.table.set("bind_password_file", dir.join(self.secret_name()).display().to_string());
    }

    /// Where it is to be.
    pub fn secret_path(&self) -> String {
        format!("{SECRETS}/{}", self.secret_name())
    }

    /// A file name.
    pub fn secret_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
        format!("{}.secret", self.name().chars().map(plain).collect::<String>())
    }

    /// Filters and attributes become keys.
    fn finish(&mut self) {
        let filters = [
            ("user_filter", std::mem::take(&mut self.of_people)),
            ("group_filter", std::mem::take(&mut self.of_groups)),
            ("access_filter", std::mem::take(&mut self.access)),
        ];
        for (key, filters) in filters {
            if let Some(filter) = Filter::all(filters) {
                self.table.set(key, filter.simplified().to_string());
            }
        }
        if self.is_shut {
            if let Some(Value::Text(rest)) = self.table.get("access_filter") {
                let rest = format!("What could be translated: {rest}");
                self.table.comment("access_filter", rest);
            }
            self.table.set("access_filter", NOBODY);
        }
        if !self.attributes.is_empty() {
            self.table.set("attributes", Value::Pairs(std::mem::take(&mut self.attributes)));
        }
    }
}

impl Rules {
    fn table(&self) -> Table {
        let mut table = Table::default();
        for (key, list) in [("allow_users", &self.allow_users), ("allow_groups", &self.allow_groups)] {
            if let Some(list) = list {
                table.set(key, list.clone());
            }
        }
        for (key, list) in [("deny_users", &self.deny_users), ("deny_groups", &self.deny_groups)] {
            if !list.is_empty() {
                table.set(key, list.clone());
            }
        }
        table
    }
}
