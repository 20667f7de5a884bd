//! sssd.conf into gpuhub.toml: each domain becomes a provider.
//!
//! ```text
//! sssd          the file, domains, names and ids, homes, times, passwords
//! sssd_servers  servers, bases, TLS, who searches
//! sssd_access   who may log in
//! sssd_options  tables of what has no counterpart
//! ```

use super::filter::Filter;
use super::rest;
use super::source::{self, Section, Setting, Settings};
use super::sssd_access::{self, DomainRules};
use super::sssd_options::{DOMAIN, NAMES, NSS, PAM, SECTIONS, SERVICES, SSSD};
use super::sssd_servers::{account, addresses, bases, tls};
use super::translation::{Provider, Translation};
use gpuhub_common::name;

/// The command's name for it.
pub const COMMAND: &str = "from-sssd";

/// A domain on its way.
pub struct Domain<'a> {
    /// The name in `[domain/NAME]`.
    pub name: &'a str,
    /// What stands below it.
    pub own: &'a Settings,
    /// `[nss]`, which has some options for all domains.
    pub nss: &'a Settings,
    /// `[pam]`, too.
    pub pam: &'a Settings,
    /// The file, as it was named.
    pub file: &'a str,
    /// `ldap`, `ad` or `ipa`.
    pub kind: &'a str,
    /// Where `[domain/NAME]` stands.
    pub line: usize,
    /// sssd's schema, of [`NAMES`]' columns.
    theirs: usize,
    /// gpuhub's.
    pub schema: usize,
}

/// The columns of [`NAMES`], as gpuhub calls them.
const SCHEMAS: [&str; 4] = ["rfc2307", "rfc2307bis", "ipa", "ad"];
/// Where Active Directory's stands.
pub const AD: usize = 3;

/// Translates the text of an sssd.conf.
pub fn translate(file: &str, text: &str) -> Translation {
    let mut t = Translation::new(file);
    let (sections, strange) = source::sssd(text);
    for line in strange {
        t.remark(
            line,
            "this line",
            "it is neither a section nor an option",
            "Correct it; sssd itself would not start.",
        );
    }
    let none = Settings::default();
    let named = |name: &str| sections.iter().find(|section| section.name.eq_ignore_ascii_case(name));
    let of = |name: &str| named(name).map_or(&none, |section| &section.settings);
    let (sssd, nss, pam) = (of("sssd"), of("nss"), of("pam"));
    let mut rules = Vec::new();
    for section in active(&mut t, &sections, sssd) {
        domain(&mut t, section, (nss, pam), file, &mut rules);
    }
    sssd_access::together(&mut t, rules);
    if let Some(setting) = sssd.take("services") {
        for service in source::list(&setting.value) {
            if !rest::account_word(&mut t, setting.line, &format!("services: {service}"), service, SERVICES) {
                t.remark(
                    setting.line,
                    &setting.name,
                    "it names a service that is not known here",
                    "See what it was for.",
                );
            }
        }
    }
    rest::account(&mut t, None, "", sssd.rest(), SSSD);
    rest::account(&mut t, None, "[nss] ", nss.rest(), NSS);
    rest::account(&mut t, None, "[pam] ", pam.rest(), PAM);
    for section in &sections {
        let is_known = ["sssd", "nss", "pam"].iter().any(|known| section.name.eq_ignore_ascii_case(known));
        if is_known
            || section.name.to_ascii_lowercase().starts_with("domain/")
            || section.settings.rest().next().is_none()
        {
            continue;
        }
        let option = format!("[{}]", section.name);
        if !rest::account_word(&mut t, section.line, &option, &section.name, SECTIONS) {
            t.remark(section.line, &option, "it is no section that is known here", "See what it was for.");
        }
    }
    t
}

/// The domains that sssd serves, in its order. A file that names none is taken for a piece of one.
fn active<'s>(t: &mut Translation, sections: &'s [Section], sssd: &Settings) -> Vec<&'s Section> {
    let domains: Vec<(&Section, &str)> = sections
        .iter()
        .filter(|section| section.name.to_ascii_lowercase().starts_with("domain/"))
        .filter_map(|section| section.name.get("domain/".len()..).map(|name| (section, name)))
        .collect();
    let mut served = Vec::new();
    let listed = sssd.take("domains");
    for name in listed.iter().flat_map(|setting| source::list(&setting.value)) {
        match domains.iter().find(|(_, other)| other.eq_ignore_ascii_case(name)) {
            Some((section, _)) => served.push(*section),
            None => {
                t.remark(listed.map_or(0, |l| l.line), "domains", format!("there is no [domain/{name}]"), "Correct it.")
            }
        }
    }
    for (section, name) in domains {
        let enabled = section.settings.take("enabled").and_then(|setting| flag(t, setting));
        let is_listed = served.iter().any(|other| std::ptr::eq(*other, section));
        match enabled {
            Some(false) => served.retain(|other| !std::ptr::eq(*other, section)),
            _ if is_listed => continue,
            _ if name.contains('/') => {}
            Some(true) => served.push(section),
            None if listed.is_none() => served.push(section),
            None => {}
        }
        if !served.iter().any(|other| std::ptr::eq(*other, section)) {
            let (why, instead) = match name.contains('/') {
                true => ("people of trusted domains are not served", "Write a [[provider]] for each domain."),
                false => ("the domain is not among those that sssd serves", "Nothing to do."),
            };
            t.remark(section.line, &format!("[{}]", section.name), why, instead);
        }
    }
    served
}

fn domain(
    t: &mut Translation,
    section: &Section,
    (nss, pam): (&Settings, &Settings),
    file: &str,
    rules: &mut Vec<DomainRules>,
) {
    let own = &section.settings;
    let name = section.name.get("domain/".len()..).unwrap_or_default();
    let kind = match own.take("id_provider") {
        Some(setting) => setting.value.to_ascii_lowercase(),
        None => {
            let why = "it has no id_provider, and is taken for one of kind ldap";
            t.remark(section.line, &format!("[{}]", section.name), why, "See whether it is.");
            "ldap".into()
        }
    };
    if !["ldap", "ad", "ipa"].contains(&kind.as_str()) {
        let (why, instead) = match kind.as_str() {
            "files" | "local" => {
                ("accounts of the machine itself are never gpuhub's business", "Nothing to do: they log in as ever.")
            }
            _ => (
                "gpuhub has providers for LDAP, Active Directory, IPA and OpenID Connect",
                "Write a [[provider]] of kind ldap or oidc.",
            ),
        };
        return t.remark(section.line, &format!("[{}]", section.name), why, instead);
    }
    let schema = own.take("ldap_schema").map(|setting| (setting, setting.value.to_ascii_lowercase()));
    let usual = match kind.as_str() {
        "ad" => "ad",
        "ipa" => "ipa",
        _ => "rfc2307",
    };
    let word = schema.as_ref().map_or(usual, |(_, word)| word);
    let column = SCHEMAS.iter().position(|known| *known == word);
    if let (Some((setting, _)), None) = (&schema, column) {
        t.remark(setting.line, "ldap_schema", "gpuhub does not know this schema", "Choose one of gpuhub.toml(5).");
    }
    let theirs = column.unwrap_or(0);
    // Active Directory, whatever it is called: nobody else's people are users.
    let is_ad = own.peek("ldap_user_object_class").is_some_and(|setting| setting.value.eq_ignore_ascii_case("user"));
    let ours = if is_ad { AD } else { theirs };
    let d = Domain { name, own, nss, pam, file, kind: &kind, line: section.line, theirs, schema: ours };
    let mut p = Provider::new(name);
    p.table.set("schema", SCHEMAS.get(ours).copied().unwrap_or_default());
    if ours == AD {
        p.table.comment("schema", "Names are exact: sAMAccountName, as it is spelt there.");
    }
    bases(t, &d, &mut p);
    addresses(t, &d, &mut p);
    tls(t, &d, &mut p);
    account(t, &d, &mut p);
    let of_certificate = ["ldap_tls_cert", "ldap_tls_key", "ldap_sasl_mech"].map(|option| own.peek(option));
    p.settle_certificate(t, &of_certificate);
    names(t, &d, &mut p);
    groups(t, &d, &mut p);
    ids(t, &d, &mut p);
    left_out(&d, &mut p);
    homes(t, &d, &mut p);
    times(t, &d, &mut p);
    passwords(t, &d, &mut p);
    rules.extend(sssd_access::translate(t, &d, &mut p));
    rest::account(t, Some(&mut p), "", own.rest(), DOMAIN);
    t.providers.push(p);
}

// ---- who -----------------------------------------------------------------------------------------

fn names(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    for name in NAMES {
        let setting = d.own.take(name.option);
        let theirs = setting.map(|s| s.value.as_str()).or(name.sssd.get(d.theirs).copied()).unwrap_or_default();
        let ours = name.gpuhub.get(d.schema).copied().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-.;".contains(c);
        match setting {
            _ if theirs.is_empty() || theirs.eq_ignore_ascii_case(ours) => {}
            Some(setting) if !theirs.chars().all(is_name) => {
                t.remark(setting.line, name.option, "it is no attribute's name", "Correct it in attributes.");
            }
            _ => {
                p.attributes.insert(name.key, theirs.to_owned());
            }
        }
    }
    // Active Directory's people are bound to their SIDs.
    if let Some(setting) =
        d.own.take("ldap_user_uuid").filter(|s| d.schema != AD && !s.value.eq_ignore_ascii_case("ipaUniqueID"))
    {
        p.attributes.insert("user_key", setting.value.clone());
    }
}

fn groups(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let nesting = d.own.take("ldap_group_nesting_level");
    match nesting.map(|setting| (setting, setting.value.parse::<u8>())) {
        Some((setting, Err(_))) => {
            t.remark(setting.line, &setting.name, "it is no number up to 255", "Set group_nesting.")
        }
        Some((setting, Ok(_))) if d.schema == AD => {
            let why = "groups of somebody are those of her token, through all others";
            t.remark(setting.line, &setting.name, why, "Nothing to do, if all nested groups may count.");
        }
        Some((_, Ok(levels))) if d.schema > 0 => p.table.set("group_nesting", u32::from(levels)),
        Some(_) => {}
        None if d.schema == AD || d.schema == 0 => {}
        // sssd's default.
        None => p.table.set("group_nesting", 2),
    }
    if d.own.take("ignore_group_members").and_then(|setting| flag(t, setting)) == Some(true) {
        p.table.set("members", "none");
    }
}

fn ids(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let mapped = d.own.take("ldap_id_mapping").and_then(|setting| flag(t, setting)).unwrap_or(d.kind == "ad");
    match (mapped, d.schema == AD) {
        (true, false) => p.table.set("ids", "sid"),
        (false, true) => p.table.set("ids", "attributes"),
        _ => {}
    }
    let of = |key: &str, usual: &str| p.attributes.get(key).cloned().unwrap_or_else(|| usual.to_owned());
    let (uid, gid, group_gid) =
        (of("user_uid", "uidNumber"), of("user_gid", "gidNumber"), of("group_gid", "gidNumber"));
    for (option, sign) in [("min_id", '>'), ("max_id", '<'), ("ldap_min_id", '>'), ("ldap_max_id", '<')] {
        let Some(setting) = d.own.take(option) else { continue };
        match setting.value.parse::<u32>() {
            // No limit; and ids below 1000 are never taken from a directory.
            Ok(0) => {}
            Ok(id) if sign == '>' && id <= 1000 => {}
            Ok(id) if !mapped => {
                let within = |attribute: &str| Filter::Item(format!("{attribute}{sign}"), id.to_string());
                p.of_people.extend([within(&uid), within(&gid)]);
                p.of_groups.push(within(&group_gid));
            }
            Ok(_) => t.shut(
                p,
                setting.line,
                option,
                "computed ids have no limits here",
                "Write user_filter, or see that nobody is beyond it.",
            ),
            Err(_) => t.shut(p, setting.line, option, "it is no number", "Write user_filter."),
        }
    }
}

/// Names that sssd does not know, of `[nss]` or of the domain.
fn left_out(d: &Domain<'_>, p: &mut Provider) {
    let attribute = |key: &str| -> String {
        let column = NAMES.iter().find(|name| name.key == key).and_then(|name| name.gpuhub.get(d.schema).copied());
        p.attributes.get(key).cloned().unwrap_or_else(|| column.unwrap_or_default().to_owned())
    };
    let (user, group) = (attribute("user_name"), attribute("group_name"));
    for (option, attribute) in [("filter_users", &user), ("filter_groups", &group)] {
        // A domain's own list counts instead.
        let all = d.nss.take(option);
        let Some(setting) = d.own.take(option).or(all) else { continue };
        let names = source::list(&setting.value).filter_map(|name| match name.rsplit_once('@') {
            Some((name, domain)) => domain.eq_ignore_ascii_case(d.name).then_some(name),
            None => Some(name),
        });
        // root is never anybody of ours, nor are groups that give power.
        let names = names
            .filter(|name| *name != "root" && !(option == "filter_groups" && name::is_power_group(name.as_bytes())));
        let names: Vec<_> = names.map(|name| Filter::equals(attribute, name)).collect();
        let filter = Filter::none_of(names);
        if option == "filter_users" { p.of_people.extend(filter) } else { p.of_groups.extend(filter) }
    }
}

// ---- homes, times, passwords ---------------------------------------------------------------------

fn homes(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let own_or_all = |option: &str| {
        let all = d.nss.take(option);
        d.own.take(option).or(all)
    };
    let substring = own_or_all("homedir_substring").map_or("/home", |setting| setting.value.as_str());
    for option in ["override_homedir", "fallback_homedir"] {
        let Some(setting) = own_or_all(option) else { continue };
        match home(&setting.value, d.name, substring) {
            Some(home) if option == "override_homedir" => p.table.set("override_home", home),
            Some(home) => t.for_everybody(setting, "home", home),
            None => {
                t.remark(setting.line, option, "a home has only %u in it here", "Write override_home or [people] home.")
            }
        }
    }
    for (option, everybody) in [("override_shell", false), ("default_shell", true)] {
        let Some(setting) = own_or_all(option) else { continue };
        match setting.value.starts_with('/') {
            true if everybody => t.for_everybody(setting, "shell", setting.value.clone()),
            true => p.table.set("override_shell", setting.value.as_str()),
            false => t.remark(setting.line, option, "it is no path", "Write override_shell or [people] shell."),
        }
    }
}

/// A template with `%u` alone.
fn home(template: &str, domain: &str, substring: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = template.chars();
    while let Some(c) = rest.next() {
        match (c, (c == '%').then(|| rest.next()).flatten()) {
            ('%', Some('u')) => out += "%u",
            ('%', Some('f')) => out += &format!("%u@{domain}"),
            ('%', Some('d')) => out += domain,
            ('%', Some('H')) => out += substring,
            ('%', _) => return None,
            (c, _) => out.push(c),
        }
    }
    (out.starts_with('/') && out.contains("%u") && !out.contains([':', '\n'])).then_some(out)
}

fn times(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let mut wait = |options: &[&str], key: &'static str, longest: bool| {
        let mut all = Vec::new();
        for setting in options.iter().filter_map(|option| d.own.take(option)) {
            match setting.value.parse::<u32>() {
                Ok(0) => {}
                Ok(n) => all.push(n),
                Err(_) => t.remark(setting.line, &setting.name, "it is no number of seconds", format!("Set {key}.")),
            }
        }
        let chosen = if longest { all.into_iter().max() } else { all.into_iter().min() };
        if let Some(n) = chosen {
            p.table.set(key, format!("{n}s"));
        }
    };
    wait(&["ldap_network_timeout"], "connect_timeout", true);
    wait(&["ldap_search_timeout", "ldap_opt_timeout"], "timeout", true);
    wait(&["entry_cache_timeout", "entry_cache_user_timeout", "entry_cache_group_timeout"], "cache_ttl", false);
    match d.own.take("enumerate").and_then(|setting| flag(t, setting)) {
        Some(true) => {
            p.table.set("sync", "replica");
            p.table.set("enumerate", true);
        }
        Some(false) => p.table.set("enumerate", false),
        None => {}
    }
    if d.own.take("cache_credentials").and_then(|setting| flag(t, setting)) == Some(true) {
        p.table.set("offline_passwords", true);
        match d.pam.take("offline_credentials_expiration").map(|setting| (setting, setting.value.parse::<u32>())) {
            None | Some((_, Ok(0))) => {
                p.table.comment("offline_passwords", "For a week (offline_max_age); sssd has no limit.");
            }
            Some((_, Ok(days))) => p.table.set("offline_max_age", format!("{days}d")),
            Some((setting, Err(_))) => {
                t.remark(setting.line, &setting.name, "it is no number of days", "Set offline_max_age.");
            }
        }
    }
}

fn passwords(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    if let Some(setting) = d.own.take("auth_provider") {
        match setting.value.to_ascii_lowercase().as_str() {
            "ldap" => {}
            same if same == d.kind => {}
            "none" => t.shut(
                p,
                setting.line,
                &setting.name,
                "people of a directory log in with its passwords",
                "See that they may.",
            ),
            "krb5" | "ad" | "ipa" => t.remark(
                setting.line,
                &setting.name,
                "passwords are verified by an LDAP bind over TLS, not by Kerberos",
                "See that the directory takes the same passwords, and its servers have certificates.",
            ),
            _ => t.shut(
                p,
                setting.line,
                &setting.name,
                "passwords are verified by an LDAP bind",
                "See that those of the directory are to count.",
            ),
        }
    }
    if let Some(setting) = d.own.take("chpass_provider") {
        let value = setting.value.to_ascii_lowercase();
        if value != "ldap" && value != d.kind {
            let why = "passwords are changed in the directory, where it lets people";
            t.remark(setting.line, &setting.name, why, "Forbid it there, if nobody may.");
        }
    }
    let policy = d.own.take("ldap_pwd_policy");
    let word = policy.map(|setting| setting.value.to_ascii_lowercase());
    if let (Some(setting), Some("mit_kerberos")) = (policy, word.as_deref()) {
        t.shut(
            p,
            setting.line,
            &setting.name,
            "Kerberos' attributes of passwords are not read",
            "See that the server refuses what has expired.",
        );
    }
    if d.schema != AD {
        p.table.set("shadow", word.as_deref() == Some("shadow"));
    }
}

/// `true` or `false`, in whatever case.
pub fn flag(t: &mut Translation, setting: &Setting) -> Option<bool> {
    match setting.value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            t.remark(setting.line, &setting.name, "it is neither true nor false", "Correct it.");
            None
        }
    }
}
