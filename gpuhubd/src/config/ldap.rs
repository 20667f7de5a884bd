//! `kind = "ldap"`: a directory, and what its entries look like.

use super::claims::ClaimPath;
use super::providers::seconds;
use super::values::{ConfigError, DurationText, SecretFile, Source};
use crate::tls::Own;
use serde::Deserialize;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// An LDAP directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapConfig {
    /// Name in the audit log.
    pub name: String,
    /// `ldaps://host[:port]`, `ldap://host[:port]` or `ldapi://…`, asked in order.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Its servers, after those of `urls`, are those that DNS names (RFC 2782) at `_ldaps._tcp` of this domain, or
    /// `_ldap._tcp`. Answers of DNS can be forged; TLS then checks the certificate for the name that was forged. So
    /// they must lie under the domain; see docs/threats.md.
    pub srv_domain: Option<String>,
    /// See [`LdapConfig::srv_scheme`].
    pub srv_scheme: Option<SrvScheme>,
    /// Servers outside the domain are taken, too: whoever can forge DNS and has a certificate of some CA that is
    /// trusted here gets the passwords.
    #[serde(default)]
    pub srv_targets_anywhere: bool,
    /// `address:port` of the DNS servers that are asked; absent: those of /etc/resolv.conf.
    #[serde(default)]
    pub srv_dns: Vec<SocketAddr>,
    /// StartTLS (RFC 4511 §4.14) on ldap://.
    #[serde(default)]
    pub start_tls: bool,
    /// ldap:// without TLS: passwords travel readable.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// PEM file added to the system's CA store.
    pub ca_file: Option<String>,
    /// Directory of such files.
    pub ca_dir: Option<String>,
    /// PEM file of the certificate that is shown to servers, and those that lead to its CA.
    pub client_cert_file: Option<String>,
    /// PEM file of its key.
    pub client_key_file: Option<SecretFile>,
    /// Whoever the certificate, or on ldapi:// the process, belongs to searches (SASL EXTERNAL, RFC 4422 appendix A).
    #[serde(default)]
    pub bind_external: bool,
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
    /// A filter that a person's entry must match for her to log in; `$username`, `$service`, `$rhost` and `$host`
    /// stand for what the login is.
    pub access_filter: Option<String>,
    /// Attributes of her entry that list where she may log in.
    #[serde(default)]
    pub access_attributes: Vec<AccessAttribute>,
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
    /// Whether passwords age by the attributes of shadow(5) (shadowLastChange, shadowMax …). An account whose
    /// shadowExpire is past has expired in any case.
    #[serde(default = "yes")]
    pub shadow: bool,
    /// Who searches; absent: anonymous.
    pub bind_dn: Option<String>,
    /// The password of `bind_dn`.
    pub bind_password_file: Option<SecretFile>,
    /// Which ids its people and groups have; absent: see [`LdapConfig::ids`].
    pub ids: Option<LdapIds>,
    /// The provider where its people prove themselves, by a code; absent: by their passwords, here.
    pub login: Option<String>,
    /// The attribute of her entry that says who she is there; absent: her login name.
    pub login_attribute: Option<String>,
    /// The claim that must have a value of it; absent: the login name that the provider's rules make.
    pub login_claim: Option<ClaimPath>,
    /// To connect, TLS included.
    #[serde(default = "three")]
    pub connect_timeout: DurationText,
    /// For each operation.
    #[serde(default = "five")]
    pub timeout: DurationText,
    /// Whether people come in by the password that was last right here, when no server answers.
    #[serde(default)]
    pub offline_passwords: bool,
    /// For how long after that.
    #[serde(default = "a_week")]
    pub offline_max_age: DurationText,
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

/// See [`LdapConfig::srv_scheme`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SrvScheme {
    /// `_ldaps._tcp`
    Ldaps,
    /// `_ldap._tcp`
    Ldap,
}

impl SrvScheme {
    /// As in a url, and in DNS.
    pub const fn name(self) -> &'static str {
        match self {
            SrvScheme::Ldaps => "ldaps",
            SrvScheme::Ldap => "ldap",
        }
    }
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

/// See [`LdapConfig::access_attributes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AccessAttribute {
    /// Boxes, as in nis-like directories (RFC 4524 §2.8).
    #[serde(rename = "host")]
    Host,
    /// PAM services (ldapns.schema).
    #[serde(rename = "authorizedService")]
    AuthorizedService,
}

impl AccessAttribute {
    /// As the directory calls it.
    pub const fn name(self) -> &'static str {
        match self {
            AccessAttribute::Host => "host",
            AccessAttribute::AuthorizedService => "authorizedService",
        }
    }
}

/// What `access_filter` may have in it.
pub const ACCESS_VARIABLES: [&str; 4] = ["username", "service", "rhost", "host"];

/// The filter with its variables replaced by what `value` says of them; `None`: a variable that nobody knows.
pub fn fill_in(filter: &str, value: impl Fn(&str) -> String) -> Option<String> {
    let mut pieces = filter.split('$');
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        filled.push_str(&value(ACCESS_VARIABLES.into_iter().find(|known| *known == name)?));
        filled.push_str(rest);
    }
    Some(filled)
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
    /// Another login name, with an `@` in it: Active Directory's `userPrincipalName`; elsewhere none. Empty: none.
    pub user_alias: Option<String>,
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
    /// What never changes and is never given again: `nsUniqueId` or else `entryUUID`.
    pub user_key: Option<String>,
    /// Public keys for ssh: `sshPublicKey`, IPA's `ipaSshPubKey`, and in Active Directory `altSecurityIdentities`.
    pub user_ssh_keys: Option<OneOrMore>,
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
        let alias = self.user_alias.iter().filter(|name| !name.is_empty());
        let several = [&self.group_member, &self.user_ssh_keys].into_iter().flatten().flat_map(|m| m.0.iter());
        one.into_iter().flatten().chain(alias).chain(several).map(String::as_str)
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

fn yes() -> bool {
    true
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
fn a_week() -> DurationText {
    seconds(7 * 86_400)
}
fn ten_minutes() -> DurationText {
    seconds(600)
}
fn half_a_minute() -> DurationText {
    seconds(30)
}

/// Labels of letters, digits, hyphens and underscores, as DNS may have them.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 240 && text.split('.').all(label)
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

    /// Which records are asked for: where nothing is said, those of LDAPS, or with StartTLS those of LDAP.
    pub fn srv_scheme(&self) -> SrvScheme {
        self.srv_scheme.unwrap_or(if self.start_tls { SrvScheme::Ldap } else { SrvScheme::Ldaps })
    }

    pub(super) fn check(&self, source: &Source<'_>, span: &Range<usize>) -> Result<(), ConfigError> {
        let bad = |what: &str, remedy: &str| Err(source.at(span, &format!("provider {}: {what}", self.name), remedy));
        if self.urls.is_empty() && self.srv_domain.is_none() {
            return bad("no urls", "Write urls = [\"ldaps://ldap.example.org\"], or srv_domain = \"example.org\".");
        }
        match &self.srv_domain {
            Some(domain) if !is_domain(domain) => {
                return bad(&format!("{domain:?} is no domain"), "Write srv_domain = \"example.org\".");
            }
            Some(_) if self.srv_scheme() == SrvScheme::Ldap && !self.start_tls && !self.allow_plaintext => {
                return bad(
                    "srv_scheme = \"ldap\" would send passwords readable over the network",
                    "Write start_tls = true, or use \"ldaps\", or accept it with allow_plaintext = true.",
                );
            }
            None if self.srv_scheme.is_some() || self.srv_targets_anywhere || !self.srv_dns.is_empty() => {
                return bad("srv_scheme, srv_targets_anywhere and srv_dns are for srv_domain", "Give it, too.");
            }
            _ => {}
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
        let access = match &self.access_filter {
            Some(filter) => match fill_in(filter, |_| "x".into()) {
                Some(filled) => Some(filled),
                None => {
                    return bad(
                        "access_filter has a variable that is not known",
                        "The variables are $username, $service, $rhost and $host; a dollar itself is \\24.",
                    );
                }
            },
            None => None,
        };
        for filter in [&self.user_filter, &self.group_filter, &access].into_iter().flatten() {
            // The parser takes one without parentheses, too, which could not stand beside the schema's.
            if !filter.starts_with('(') || ldap3::parse_filter(filter).is_err() {
                return bad(
                    &format!("{filter} is no LDAP filter"),
                    "Write it as in RFC 4515, such as user_filter = \"(employeeType=staff)\".",
                );
            }
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-.;".contains(c);
        let mut all = self.attributes.all().chain(self.login_attribute.as_deref());
        if let Some(name) = all.find(|name| name.is_empty() || !name.chars().all(is_name)) {
            return bad(&format!("{name:?} is no attribute's name"), "Write it as the directory's schema does.");
        }
        if self.poll_interval.0 < Duration::from_secs(1) {
            return bad("poll_interval is shorter than a second", "Write poll_interval = \"30s\".");
        }
        let template = |home: &String| !home.starts_with('/') || !home.contains("%u");
        if self.override_home.as_ref().is_some_and(template) {
            return bad("override_home gives nobody a home of her own", "Write override_home = \"/home/%u\".");
        }
        if self.client_cert_file.is_some() != self.client_key_file.is_some() {
            return bad("client_cert_file and client_key_file go together", "Give both, or neither.");
        }
        if self.bind_external {
            if self.bind_dn.is_some() {
                return bad("bind_external and bind_dn are two ways to search", "Take one out.");
            }
            let by_tcp = self.srv_domain.is_some() || self.urls.iter().any(|url| !url.starts_with("ldapi:"));
            if self.client_cert_file.is_none() && by_tcp {
                return bad(
                    "bind_external has nothing to show to the server",
                    "Give client_cert_file and client_key_file, or use ldapi://.",
                );
            }
        }
        self.check_login().or_else(|(what, remedy)| bad(&what, &remedy))?;
        self.tls().check().or_else(|what| bad(&what, "Give files that the broker can read."))
    }

    /// What its TLS connections have of their own.
    pub fn tls(&self) -> Own<'_> {
        Own {
            ca_file: self.ca_file.as_deref(),
            ca_dir: self.ca_dir.as_deref(),
            certificate: self.client_cert_file.as_deref().zip(self.client_key_file.as_ref().map(SecretFile::secret)),
        }
    }
}
