//! `kind = "ldap"`: a directory, and what its entries look like.

use super::providers::{check_ca, seconds};
use super::values::{ConfigError, DurationText, SecretFile, Source};
use serde::Deserialize;
use std::ops::Range;
use std::time::Duration;

/// An LDAP directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// Name in the audit log.
    pub name: String,
    /// `ldaps://host[:port]`, `ldap://host[:port]` or `ldapi://…`, asked in order.
    pub urls: Vec<String>,
    /// StartTLS (RFC 4511 §4.14) on ldap://.
    #[serde(default)]
    pub start_tls: bool,
    /// ldap:// without TLS: passwords travel readable.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// PEM file added to the system's CA store.
    pub ca_file: Option<String>,
    /// Search base, or several.
    pub base: OneOrMore,
    /// Where people are; absent: `base`.
    pub user_base: Option<OneOrMore>,
    /// Where groups are; absent: `base`.
    pub group_base: Option<OneOrMore>,
    /// What its entries look like.
    #[serde(default)]
    pub schema: LdapSchema,
    /// The attributes that differ from the schema's.
    #[serde(default)]
    pub attributes: LdapAttributes,
    /// A filter (RFC 4515) that people must match, besides the schema's.
    pub user_filter: Option<String>,
    /// The same for groups.
    pub group_filter: Option<String>,
    /// Through so many groups, each a member of the next, somebody is a member; where the schema has groups
    /// of groups.
    #[serde(default = "nesting")]
    pub group_nesting: u8,
    /// Whether groups are shown with their members.
    #[serde(default)]
    pub members: LdapMembers,
    /// Everybody's home, whatever the directory says; `%u` is the name.
    pub override_home: Option<String>,
    /// Everybody's shell, whatever the directory says.
    pub override_shell: Option<String>,
    /// Who searches; absent: anonymous.
    pub bind_dn: Option<String>,
    /// The password of `bind_dn`.
    pub bind_password_file: Option<SecretFile>,
    /// Which ids its people and groups have; absent: see [`LdapConfig::ids`].
    pub ids: Option<LdapIds>,
    /// To connect, TLS included.
    #[serde(default = "three")]
    pub connect_timeout: DurationText,
    /// For each operation.
    #[serde(default = "five")]
    pub timeout: DurationText,
    /// How long an answer is served before it is asked for again.
    #[serde(default = "ten_minutes")]
    pub cache_ttl: DurationText,
    /// Whether the whole directory is kept here.
    #[serde(default)]
    pub sync: LdapSync,
    /// How often a replica asks what changed, where the server does not tell by itself.
    #[serde(default = "half_a_minute")]
    pub poll_interval: DurationText,
    /// Whether its people and groups are listed by getpwent(3) and getgrent(3).
    #[serde(default = "yes")]
    pub enumerate: bool,
}

/// See [`LdapConfig::sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LdapSync {
    /// People are asked for when somebody asks for them.
    #[default]
    OnDemand,
    /// All of them are here, and follow the directory (RFC 4533, or by polling).
    Replica,
}

/// See [`LdapConfig::ids`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LdapIds {
    /// uidNumber and gidNumber (RFC 2307).
    Attributes,
    /// Computed from objectSid and primaryGroupID, as sssd does.
    Sid,
}

/// See [`LdapConfig::schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LdapSchema {
    /// RFC 2307: groups name their members (memberUid).
    #[default]
    Rfc2307,
    /// draft-howard-rfc2307bis: groups have the DNs of their members (member, uniqueMember), other groups
    /// among them.
    Rfc2307bis,
    /// FreeIPA: as rfc2307bis, under IPA's own unique id.
    Ipa,
    /// Active Directory: which groups somebody is in, through others too, the server says (tokenGroups).
    Ad,
}

/// See [`LdapConfig::members`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LdapMembers {
    /// With all of them.
    #[default]
    All,
    /// Without: for directories with groups of many thousands. People's own lists of groups are complete.
    None,
}

/// Attributes by other names than the schema's. Absent: the schema's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapAttributes {
    /// The login name: `uid`.
    pub user_name: Option<String>,
    /// `uidNumber`.
    pub user_uid: Option<String>,
    /// The number of the primary group: `gidNumber`.
    pub user_gid: Option<String>,
    /// `gecos`; `cn` where an entry has none.
    pub user_gecos: Option<String>,
    /// `homeDirectory`.
    pub user_home: Option<String>,
    /// `loginShell`.
    pub user_shell: Option<String>,
    /// What never changes and is never given again: `entryUUID`.
    pub user_key: Option<String>,
    /// `cn`.
    pub group_name: Option<String>,
    /// `gidNumber`.
    pub group_gid: Option<String>,
    /// The members: `memberUid`, or `member` and `uniqueMember`.
    pub group_member: Option<OneOrMore>,
}

impl LdapAttributes {
    fn all(&self) -> impl Iterator<Item = &str> {
        let one = [
            &self.user_name,
            &self.user_uid,
            &self.user_gid,
            &self.user_gecos,
            &self.user_home,
            &self.user_shell,
            &self.user_key,
            &self.group_name,
            &self.group_gid,
        ];
        let members = self.group_member.iter().flat_map(|m| m.0.iter());
        one.into_iter().flatten().chain(members).map(String::as_str)
    }
}

/// A text or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text or a list of texts")]
        enum Either {
            One(String),
            More(Vec<String>),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::One(one) => vec![one],
            Either::More(more) => more,
        }))
    }
}

fn nesting() -> u8 {
    8
}
fn three() -> DurationText {
    seconds(3)
}
fn five() -> DurationText {
    seconds(5)
}
fn ten_minutes() -> DurationText {
    seconds(600)
}
fn half_a_minute() -> DurationText {
    seconds(30)
}
fn yes() -> bool {
    true
}

impl LdapConfig {
    /// Which ids its people and groups have: where nothing is said, Active Directory's are computed, since few
    /// of its people have numbers.
    pub fn ids(&self) -> LdapIds {
        self.ids.unwrap_or(match self.schema {
            LdapSchema::Ad => LdapIds::Sid,
            LdapSchema::Rfc2307 | LdapSchema::Rfc2307bis | LdapSchema::Ipa => LdapIds::Attributes,
        })
    }

    pub(super) fn check(&self, source: &Source<'_>, span: &Range<usize>) -> Result<(), ConfigError> {
        let bad = |what: &str, remedy: &str| Err(source.at(span, &format!("provider {}: {what}", self.name), remedy));
        if self.urls.is_empty() {
            return bad("no urls", "Write urls = [\"ldaps://ldap.example.org\"].");
        }
        for url in &self.urls {
            let scheme = url.split("://").next().unwrap_or_default();
            match scheme {
                "ldaps" | "ldapi" => {}
                "ldap" if self.start_tls || self.allow_plaintext => {}
                "ldap" => {
                    return bad(
                        "ldap:// would send passwords readable over the network",
                        "Write start_tls = true, or use ldaps://, or accept it with allow_plaintext = true.",
                    );
                }
                _ => {
                    return bad(
                        "a url is not ldaps://, ldap:// or ldapi://",
                        "Write urls = [\"ldaps://ldap.example.org\"].",
                    );
                }
            }
        }
        if self.bind_dn.is_some() != self.bind_password_file.is_some() {
            return bad("bind_dn and bind_password_file go together", "Give both, or neither for anonymous searches.");
        }
        let bases = [Some(&self.base), self.user_base.as_ref(), self.group_base.as_ref()];
        if bases.into_iter().flatten().any(|base| base.0.is_empty()) {
            return bad("a list of bases is empty", "Write base = \"dc=example,dc=org\".");
        }
        for filter in [&self.user_filter, &self.group_filter].into_iter().flatten() {
            // The parser takes one without parentheses, too, which could not stand beside the schema's.
            if !filter.starts_with('(') || ldap3::parse_filter(filter).is_err() {
                return bad(
                    &format!("{filter} is no LDAP filter"),
                    "Write it as in RFC 4515, such as user_filter = \"(employeeType=staff)\".",
                );
            }
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-.;".contains(c);
        if let Some(name) = self.attributes.all().find(|name| name.is_empty() || !name.chars().all(is_name)) {
            return bad(&format!("{name:?} is no attribute's name"), "Write it as the directory's schema does.");
        }
        if self.sync == LdapSync::Replica && self.schema == LdapSchema::Ad {
            return bad(
                "a replica of Active Directory cannot be kept",
                "Leave out sync: its people are asked for on demand.",
            );
        }
        if self.poll_interval.0 < Duration::from_secs(1) {
            return bad("poll_interval is shorter than a second", "Write poll_interval = \"30s\".");
        }
        let template = |home: &String| !home.starts_with('/') || !home.contains("%u");
        if self.override_home.as_ref().is_some_and(template) {
            return bad("override_home gives nobody a home of her own", "Write override_home = \"/home/%u\".");
        }
        check_ca(self.ca_file.as_deref()).or_else(|what| bad(&what, "Give a PEM file that the broker can read."))
    }
}
