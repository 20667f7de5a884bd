//! nslcd.conf into gpuhub.toml.
//!
//! ```text
//! nslcd          the file: servers, TLS, who searches, where
//! nslcd_maps     attributes by other names, and values that are made of some
//! nslcd_access   pam_authz_search
//! ```

use super::filter::Filter;
use super::nslcd_access;
use super::nslcd_maps::Maps;
use super::rest::{self, Rest, idle, left, shut, unless};
use super::servers::{self, Scheme};
use super::source::{self, Setting, Settings};
use super::translation::{Provider, Translation};

/// The command's name for it.
pub const COMMAND: &str = "from-nslcd";

/// Maps that gpuhub serves; shadow(5) is only about passwords here.
const SERVED: &[&str] = &["passwd", "group", "shadow"];
/// All that nslcd has.
const MAPS: &[&str] = &[
    "passwd",
    "group",
    "shadow",
    "alias",
    "aliases",
    "ether",
    "ethers",
    "host",
    "hosts",
    "netgroup",
    "network",
    "networks",
    "protocol",
    "protocols",
    "rpc",
    "service",
    "services",
];

/// Translates the text of an nslcd.conf.
pub fn translate(file: &str, text: &str) -> Translation {
    let mut t = Translation::new(file);
    let settings = source::nslcd(text);
    let mut p = Provider::new("ldap");
    let maps = Maps::read(&mut t, &settings);
    p.table.set("schema", maps.schema.as_str());
    bases(&mut t, &settings, &mut p);
    addresses(&mut t, &settings, &mut p);
    tls(&mut t, &settings, &mut p);
    account(&mut t, &settings, &mut p, file);
    p.settle_certificate(&mut t, &["tls_cert", "tls_key", "sasl_mech"].map(|option| settings.peek(option)));
    maps.names(&mut t, &mut p);
    filters(&mut t, &settings, &maps, &mut p);
    groups(&mut t, &settings, &maps, &mut p);
    limits(&mut t, &settings, &maps, &mut p);
    nslcd_access::translate(&mut t, &settings, &maps, &mut p);
    rest::account(&mut t, Some(&mut p), "", settings.rest(), REST);
    t.providers.push(p);
    t
}

/// What an option says of a map: the map (none: all), and the rest.
pub fn of_map(setting: &Setting) -> (Option<&str>, &str) {
    let (word, rest) = setting.value.split_once(char::is_whitespace).unwrap_or((&setting.value, ""));
    match MAPS.iter().find(|map| map.eq_ignore_ascii_case(word)) {
        Some(map) => (Some(map), rest.trim()),
        None => (None, &setting.value),
    }
}

/// Whether gpuhub serves the map; if not, that is said.
pub fn is_served(t: &mut Translation, setting: &Setting, map: &str) -> bool {
    if SERVED.contains(&map) {
        return true;
    }
    let option = format!("{} {map}", setting.name);
    t.remark(setting.line, &option, "gpuhub serves people and groups alone", "Get this from somewhere else.");
    false
}

fn addresses(t: &mut Translation, s: &Settings, p: &mut Provider) {
    let ssl = s.take("ssl");
    let word = ssl.map(|setting| setting.value.to_ascii_lowercase()).unwrap_or_default();
    let (always, start) = (matches!(word.as_str(), "on" | "yes" | "true"), word == "start_tls");
    let (mut urls, mut plain) = (Vec::new(), None);
    let mut by_dns = None;
    for setting in s.take_all("uri") {
        for uri in setting.value.split_whitespace() {
            let (word, domain) = uri.split_once(':').unwrap_or((uri, ""));
            if word.eq_ignore_ascii_case("DNS") || word.eq_ignore_ascii_case("DNSLDAPS") {
                by_dns = Some((setting, domain, word.eq_ignore_ascii_case("DNSLDAPS")));
                continue;
            }
            match servers::address(uri) {
                // TLS from the first byte, on whichever port it names.
                Ok((Scheme::Plain, address)) if always => {
                    let host = address.trim_start_matches("ldap://");
                    let port = if host.contains(':') { "" } else { ":389" };
                    urls.push(format!("ldaps://{host}{port}"));
                }
                Ok((scheme, address)) => {
                    if scheme == Scheme::Plain {
                        plain = plain.or(Some(setting));
                    }
                    urls.push(address);
                }
                Err(why) => t.remark(setting.line, "uri", format!("{uri} {why}"), "Write its name and port alone."),
            }
        }
    }
    if let Some((setting, domain, is_tls)) = by_dns {
        let domain = (!domain.is_empty()).then(|| domain.to_owned());
        let scheme = if is_tls || always { "ldaps" } else { "ldap" };
        p.by_dns(t, setting.line, "uri", domain, scheme);
        plain = plain.or(Some(setting).filter(|_| scheme == "ldap"));
    }
    if urls.is_empty() && by_dns.is_none() {
        t.remark(1, "uri", "no server is named", "Write urls.");
        urls.push("ldaps://ldap.example.org".into());
    }
    if !urls.is_empty() {
        p.table.set("urls", urls);
    }
    match plain {
        Some(_) if start => p.table.set("start_tls", true),
        Some(setting) => {
            p.table.set("allow_plaintext", true);
            let why = "without TLS, passwords can be read on their way, as they can with nslcd";
            t.remark(
                ssl.unwrap_or(setting).line,
                "ssl",
                why,
                "Write start_tls = true instead of allow_plaintext, once the server has a certificate.",
            );
        }
        None => {}
    }
}

fn tls(t: &mut Translation, s: &Settings, p: &mut Provider) {
    let keys = [
        ("tls_cacertfile", "ca_file"),
        ("tls_cacert", "ca_file"),
        ("tls_cacertdir", "ca_dir"),
        ("tls_cert", "client_cert_file"),
        ("tls_key", "client_key_file"),
    ];
    for (option, key) in keys {
        if let Some(setting) = s.take(option).filter(|setting| !setting.value.is_empty()) {
            p.table.set(key, setting.value.as_str());
        }
    }
    for key in ["ca_file", "ca_dir"] {
        p.table.comment(key, "Besides the CAs of the system, which nslcd does not take then.");
    }
    for option in ["tls_reqcert", "tls_reqsan"] {
        if let Some(setting) = s.take(option) {
            if matches!(setting.value.to_ascii_lowercase().as_str(), "never" | "allow") {
                let why = "the server's certificate is always checked, by its CA and its name";
                t.remark(
                    setting.line,
                    option,
                    why,
                    "Set ca_file to the server's CA, and write the name in its certificate into urls.",
                );
            }
        }
    }
}

/// Who searches.
fn account(t: &mut Translation, s: &Settings, p: &mut Provider, file: &str) {
    let (dn, password) = (s.take("binddn"), s.take("bindpw"));
    match s.take("sasl_mech") {
        Some(setting) if setting.value.eq_ignore_ascii_case("EXTERNAL") => return p.table.set("bind_external", true),
        Some(setting) => t.remark(
            setting.line,
            "sasl_mech",
            "gpuhub speaks no Kerberos, and of SASL EXTERNAL alone",
            "Give an account that may read: bind_dn and bind_password_file, or bind_external with a client certificate.",
        ),
        None => {}
    }
    match (dn, password) {
        (Some(dn), Some(password)) => {
            p.table.set("bind_dn", dn.value.as_str());
            p.set_secret(&password.value, COMMAND, file);
        }
        (Some(dn), None) => {
            let why = "an account without a password cannot be bound as; searches are anonymous";
            t.remark(dn.line, "binddn", why, "Set bind_dn and bind_password_file.");
        }
        _ => {}
    }
}

fn bases(t: &mut Translation, s: &Settings, p: &mut Provider) {
    let mut all: [(&'static str, Vec<String>); 3] = [("base", vec![]), ("user_base", vec![]), ("group_base", vec![])];
    for setting in s.take_all("base") {
        let (map, dn) = of_map(setting);
        let key = match map {
            None => "base",
            Some("passwd") => "user_base",
            Some("group") => "group_base",
            Some("shadow") => continue,
            Some(other) => {
                is_served(t, setting, other);
                continue;
            }
        };
        if dn.eq_ignore_ascii_case("DOMAIN") {
            let why = "the base is made of the domain of the machine's name";
            t.remark(setting.line, "base", why, "Write base = \"dc=example,dc=org\" for example.org.");
            continue;
        }
        let dn = if dn == "\"\"" { "" } else { dn };
        if let Some((_, bases)) = all.iter_mut().find(|(known, _)| *known == key) {
            bases.push(dn.to_owned());
        }
    }
    let of_maps = all.iter().skip(1).flat_map(|(_, bases)| bases.iter().cloned()).collect::<Vec<_>>();
    for (key, bases) in all {
        match (key, bases.is_empty()) {
            ("base", true) if !of_maps.is_empty() => p.set_bases(key, of_maps.clone()),
            ("base", true) => {
                p.table.set("base", "");
                let why = "no base is named: nslcd asks the server, gpuhub does not";
                t.remark(
                    1,
                    "base",
                    why,
                    "Write base = what `ldapsearch -x -H URL -s base -b '' namingContexts` shows.",
                );
            }
            _ => p.set_bases(key, bases),
        }
    }
    for setting in s.take_all("scope") {
        let (map, scope) = of_map(setting);
        let whole = matches!(scope.to_ascii_lowercase().as_str(), "sub" | "subtree" | "children");
        if map.is_some_and(|map| !is_served(t, setting, map)) || map == Some("shadow") || whole {
            continue;
        }
        let why = "whole subtrees are searched, and so whoever is further below is found, too";
        if map == Some("group") {
            t.remark(
                setting.line,
                "scope group",
                why,
                "See that no other groups are below the base, or set group_filter.",
            );
        } else {
            t.shut(p, setting.line, "scope", why, "See that nobody else is below the base, or set user_filter.");
        }
    }
}

/// What the schema does not ask for anyway.
fn filters(t: &mut Translation, s: &Settings, maps: &Maps, p: &mut Provider) {
    let (mut people, mut others) = (None, None);
    for setting in s.take_all("filter") {
        let (map, text) = of_map(setting);
        match map {
            Some("passwd") => people = Some((setting, text)),
            Some("group") => others = Some((setting, text)),
            // Of whom there is a password is for the server to say.
            Some("shadow") => {}
            Some(other) => {
                is_served(t, setting, other);
            }
            None => {
                t.remark(setting.line, "filter", "it does not say of which map", "Write user_filter or group_filter.")
            }
        }
    }
    for (found, is_people) in [(people, true), (others, false)] {
        let Some((setting, text)) = found else { continue };
        let Some(filter) = Filter::parse(text) else {
            t.shut(p, setting.line, "filter", "it is no LDAP filter (RFC 4515)", "Write user_filter or group_filter.");
            continue;
        };
        let terms = filter.terms();
        let classes = maps.classes(is_people);
        let is_implied = |term: &Filter| maps.implies(term, is_people);
        if !terms.iter().any(|term| classes.iter().any(|class| term.is("objectClass", class))) {
            let what = if is_people { "people" } else { "groups" };
            let why = format!("{what} are {} here, whatever the filter", classes.join(" or "));
            t.remark(setting.line, "filter", why, "Give them that class, in the directory.");
        }
        let kept = terms.into_iter().filter(|term| !is_implied(term));
        if is_people { p.of_people.extend(kept) } else { p.of_groups.extend(kept) }
    }
}

fn groups(t: &mut Translation, s: &Settings, maps: &Maps, p: &mut Provider) {
    let nested = s.take("nss_nested_groups").is_some_and(is_on);
    match maps.schema.as_str() {
        "rfc2307bis" if !nested => p.table.set("group_nesting", 0),
        // nslcd's depth is the directory's.
        "rfc2307bis" => p.table.set("group_nesting", 255),
        "ad" => {}
        _ => p.table.comment("schema", "\"rfc2307bis\", if groups have DNs for members (member): nslcd takes both."),
    }
    if s.take("nss_getgrent_skipmembers").is_some_and(is_on) {
        p.table.set("members", "none");
    }
    if let Some(setting) = s.take("nss_disable_enumeration") {
        p.table.set("enumerate", !is_on(setting));
    }
    let _ = t;
}

fn limits(t: &mut Translation, s: &Settings, maps: &Maps, p: &mut Provider) {
    for (option, key) in [("bind_timelimit", "connect_timeout"), ("timelimit", "timeout")] {
        let Some(setting) = s.take(option) else { continue };
        match servers::seconds(&setting.value) {
            Some(time) => p.table.set(key, time),
            // Without limit, which nothing is here.
            None if setting.value == "0" => {}
            None => t.remark(setting.line, option, "it is no number of seconds", format!("Set {key}.")),
        }
    }
    if let Some(setting) = s.take("nss_min_uid") {
        match setting.value.parse::<u32>() {
            // Those are never taken from a directory.
            Ok(id) if id <= 1000 => {}
            Ok(id) if !maps.by_sid => p.of_people.push(Filter::Item(format!("{}>", maps.uid()), id.to_string())),
            Ok(_) => t.shut(
                p,
                setting.line,
                &setting.name,
                "computed ids have no limits here",
                "Write user_filter, or see that nobody is below it.",
            ),
            Err(_) => t.shut(p, setting.line, &setting.name, "it is no number", "Write user_filter."),
        }
    }
}

/// As nslcd reads it.
pub fn is_on(setting: &Setting) -> bool {
    matches!(setting.value.to_ascii_lowercase().as_str(), "on" | "yes" | "true" | "1")
}

const NO_KERBEROS: &str = "gpuhub speaks no Kerberos, and of SASL EXTERNAL alone";
const BIND: &str = "Give an account that may read: bind_dn and bind_password_file.";
const OTHER_IDS: &str = "ids are those that the directory has, and with this people's ids would change";
const TAKE_ALONG: &str =
    "Take their ids along before anybody logs in: `getent -s ldap passwd` here, `gpuhub idmap import` there.";

/// What nothing corresponds to.
const REST: &[Rest] = &[
    idle("threads"),
    idle("uid"),
    idle("gid"),
    idle("log"),
    idle("idle_timelimit"),
    idle("reconnect_*"),
    idle("pagesize"),
    idle("cache"),
    idle("tls_randfile"),
    idle("nss_initgroups_ignoreusers"),
    unless("ldap_version", &["3"], "gpuhub speaks LDAP version 3", "See that the server does."),
    unless("deref", &["never"], "aliases are not followed", "Name the bases where the entries themselves are."),
    unless(
        "referrals",
        &["no", "off", "false"],
        "references to other servers are left out",
        "Write a [[provider]] for each server with people of its own.",
    ),
    left(
        "tls_ciphers",
        "the ciphers are those of TLS 1.3 and of good TLS 1.2",
        "Nothing to do, if the server has one of them.",
    ),
    unless(
        "tls_crlcheck",
        &["none"],
        "lists of revoked certificates are not read",
        "Give servers certificates of short life.",
    ),
    left("tls_crlfile", "lists of revoked certificates are not read", "Give servers certificates of short life."),
    left("sasl_*", NO_KERBEROS, BIND),
    left("krb5_*", NO_KERBEROS, BIND),
    left("rootpwmod*", "root cannot change the passwords of others from here", "Change them in the directory."),
    shut("nss_uid_offset", &["0"], OTHER_IDS, TAKE_ALONG),
    shut("nss_gid_offset", &["0"], OTHER_IDS, TAKE_ALONG),
    shut(
        "validnames",
        &[],
        "gpuhub has its own rule for names, and takes any from A to Z, 0 to 9 and ._@+-",
        "See that it lets in nobody whom this one kept out.",
    ),
    unless(
        "ignorecase",
        &["no", "off", "false"],
        "names are exact, as the directory spells them",
        "Tell people to use that spelling.",
    ),
    unless(
        "pam_authc_ppolicy",
        &["yes", "on", "true"],
        "what the server says of passwords is always heard",
        "Nothing to do.",
    ),
    shut(
        "pam_authc_search",
        &["base", "none"],
        "a password is right if the server takes it",
        "Write it as an access_filter.",
    ),
    left(
        "pam_password_prohibit_message",
        "passwords are changed in the directory, where it lets people",
        "Forbid it there, if nobody may.",
    ),
];
