//! sssd.conf into gpuhub.toml: each domain becomes a provider.
//!
//! ```text
//! sssd          the file, domains, servers, bases, names and ids
//! sssd_access   who may log in
//! sssd_options  tables of what has no counterpart
//! ```

use super::filter::Filter;
use super::rest;
use super::servers::{self, Scheme};
use super::source::{self, Section, Setting, Settings};
use super::sssd_access::{self, DomainRules};
use super::sssd_options::{DOMAIN, NAMES, NSS, PAM, SECTIONS, SERVICES, SSSD};
use super::toml::Value;
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
    /// The file, as it was named.
    pub file: &'a str,
    /// `ldap`, `ad` or `ipa`.
    pub kind: &'a str,
    /// Of [`NAMES`]' columns.
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
        domain(&mut t, section, nss, file, &mut rules);
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

fn domain(t: &mut Translation, section: &Section, nss: &Settings, file: &str, rules: &mut Vec<DomainRules>) {
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
    let column = column.unwrap_or(0);
    let d = Domain { name, own, nss, file, kind: &kind, schema: column };
    let mut p = Provider::new(name);
    p.table.set("schema", SCHEMAS.get(column).copied().unwrap_or_default());
    if column == AD {
        p.table.comment("schema", "Names are exact: sAMAccountName, as it is spelt there.");
    }
    bases(t, &d, &mut p);
    addresses(t, &d, &mut p);
    tls(t, &d, &mut p);
    account(t, &d, &mut p);
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

// ---- where ---------------------------------------------------------------------------------------

fn addresses(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let (first, second) = match d.kind {
        "ad" => ("ad_server", "ad_backup_server"),
        "ipa" => ("ipa_server", "ipa_backup_server"),
        _ => ("ldap_uri", "ldap_backup_uri"),
    };
    let (mut urls, mut by_dns) = (Vec::new(), None);
    let mut plain = false;
    let others = ["ldap_uri", "ldap_backup_uri"].into_iter().filter(|_| d.kind != "ldap");
    for setting in [first, second].into_iter().chain(others).filter_map(|option| d.own.take(option)) {
        for server in source::list(&setting.value) {
            if server.eq_ignore_ascii_case("_srv_") {
                by_dns = Some(setting);
                continue;
            }
            // Active Directory's and IPA's are named without a scheme.
            let uri = if server.contains("://") { server.to_owned() } else { format!("ldaps://{server}") };
            match servers::address(&uri) {
                Ok((scheme, address)) => {
                    plain |= scheme == Scheme::Plain;
                    urls.push(address);
                }
                Err(why) => {
                    t.remark(setting.line, &setting.name, format!("{} {why}", uri), "Write its name and port alone.")
                }
            }
        }
    }
    let line = by_dns.map_or(0, |setting| setting.line);
    match (urls.is_empty(), by_dns) {
        (false, Some(setting)) => {
            t.remark(
                setting.line,
                &setting.name,
                "servers that are named and servers of the DNS cannot be mixed",
                "Set srv_domain instead of urls, if the DNS is to be asked.",
            );
        }
        (true, _) => plain = d.kind == "ldap" && discovery(t, d, p, line),
        (false, None) => {}
    }
    if !urls.is_empty() {
        p.table.set("urls", urls);
    }
    let asked = d.own.take("ldap_id_use_start_tls").and_then(|setting| flag(t, setting));
    if plain {
        p.table.set("start_tls", true);
        if asked != Some(true) {
            p.table.comment("start_tls", "sssd searches without TLS here, and has it for passwords; gpuhub for both.");
        }
    }
}

/// Servers that the DNS knows; whether they are asked by ldap://.
fn discovery(t: &mut Translation, d: &Domain<'_>, p: &mut Provider, line: usize) -> bool {
    let named = ["dns_discovery_domain", "ad_domain", "ipa_domain"].into_iter().find_map(|option| d.own.take(option));
    let base = match p.table.get("base") {
        Some(Value::Text(base)) => servers::domain_of(base),
        _ => None,
    };
    let domain = named.map(|setting| setting.value.clone());
    let domain = domain.or_else(|| servers::is_domain(d.name).then(|| d.name.to_owned())).or(base);
    if named.is_none() {
        let why = "which servers there are is asked of the DNS, in the domain of the machine's name";
        t.remark(line.max(1), &format!("[domain/{}] servers", d.name), why, "See whether srv_domain is that domain.");
    }
    p.table.set("srv_domain", domain.unwrap_or_else(|| "example.org".into()));
    true
}

fn bases(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let all = d.own.take("ldap_search_base");
    match all {
        Some(setting) => {
            let (bases, filter) = search_bases(t, p, setting, true);
            p.set_bases("base", bases);
            let user = !d.own.has("ldap_user_search_base");
            let group = !d.own.has("ldap_group_search_base");
            p.of_people.extend(filter.clone().filter(|_| user));
            p.of_groups.extend(filter.filter(|_| group));
        }
        None => {
            let domain = d.own.take(if d.kind == "ad" { "ad_domain" } else { "ipa_domain" }).map(|s| s.value.as_str());
            let domain = domain.or(servers::is_domain(d.name).then_some(d.name)).filter(|_| d.kind != "ldap");
            match (d.kind, domain) {
                ("ipa", Some(domain)) => p.table.set("base", format!("cn=accounts,{}", servers::base_of(domain))),
                (_, Some(domain)) => p.table.set("base", servers::base_of(domain)),
                (_, None) => {
                    p.table.set("base", "");
                    let why = "no base is named: sssd asks the server, gpuhub does not";
                    let ask = "Write base = what `ldapsearch -x -H URL -s base -b '' namingContexts` shows.";
                    t.remark(1, &format!("[domain/{}] ldap_search_base", d.name), why, ask);
                }
            }
        }
    }
    for (option, key) in [("ldap_user_search_base", "user_base"), ("ldap_group_search_base", "group_base")] {
        let Some(setting) = d.own.take(option) else { continue };
        let (bases, filter) = search_bases(t, p, setting, key == "user_base");
        p.set_bases(key, bases);
        if key == "user_base" { p.of_people.extend(filter) } else { p.of_groups.extend(filter) }
    }
    for (option, is_user) in [("ldap_user_search_filter", true), ("ldap_group_search_filter", false)] {
        let Some(setting) = d.own.take(option) else { continue };
        match Filter::parse(&setting.value) {
            Some(filter) if is_user => p.of_people.push(filter),
            Some(filter) => p.of_groups.push(filter),
            None => t.shut(p, setting.line, option, "it is no LDAP filter", "Write user_filter or group_filter."),
        }
    }
    for (option, is_user) in [("ldap_user_search_scope", true), ("ldap_group_search_scope", false)] {
        if let Some(setting) = d.own.take(option) {
            scope(t, p, setting, &setting.value, is_user);
        }
    }
}

/// `base?scope?filter?base?scope?filter`: the bases, and the filter if they all have the same.
fn search_bases(
    t: &mut Translation,
    p: &mut Provider,
    setting: &Setting,
    of_people: bool,
) -> (Vec<String>, Option<Filter>) {
    let parts: Vec<&str> = setting.value.split('?').map(str::trim).collect();
    let (mut bases, mut filters) = (Vec::new(), Vec::new());
    for base in parts.chunks(3) {
        let [dn, rest @ ..] = base else { continue };
        bases.push((*dn).to_owned());
        scope(t, p, setting, rest.first().copied().unwrap_or_default(), of_people);
        filters.push(rest.get(1).copied().unwrap_or_default());
    }
    filters.dedup();
    let filter = match filters.as_slice() {
        [] | [""] => return (bases, None),
        [one] => Filter::parse(one),
        _ => None,
    };
    if filter.is_none() {
        let why = "user_filter and group_filter are for all bases, and these have filters of their own";
        t.shut(
            p,
            setting.line,
            &setting.name,
            why,
            "Write a [[provider]] for each base, or one filter for all of them.",
        );
    }
    (bases, filter)
}

/// gpuhub searches whole subtrees.
fn scope(t: &mut Translation, p: &mut Provider, setting: &Setting, scope: &str, of_people: bool) {
    if matches!(scope.to_ascii_lowercase().as_str(), "" | "sub" | "subtree") {
        return;
    }
    let why = "whole subtrees are searched, and so whoever is further below is found, too";
    if of_people {
        t.shut(p, setting.line, &setting.name, why, "See that nobody else is below the base, or set user_filter.");
    } else {
        t.remark(setting.line, &setting.name, why, "See that no other groups are below the base, or set group_filter.");
    }
}

fn tls(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let keys = [
        ("ldap_tls_cacert", "ca_file"),
        ("ldap_tls_cacertdir", "ca_dir"),
        ("ldap_tls_cert", "client_cert_file"),
        ("ldap_tls_key", "client_key_file"),
    ];
    for (option, key) in keys {
        if let Some(setting) = d.own.take(option) {
            p.table.set(key, setting.value.as_str());
        }
    }
    if d.kind == "ipa" && p.table.get("ca_file").is_none() {
        p.table.set("ca_file", "/etc/ipa/ca.crt");
        p.table.comment("ca_file", "Where sssd has it by itself: copy it from an enrolled machine.");
    }
    for key in ["ca_file", "ca_dir"] {
        p.table.comment(key, "Besides the CAs of the system, which sssd does not take then.");
    }
    if let Some(setting) = d.own.take("ldap_tls_reqcert") {
        if matches!(setting.value.to_ascii_lowercase().as_str(), "never" | "allow") {
            let why = "the server's certificate is always checked, by its CA and its name";
            t.remark(
                setting.line,
                &setting.name,
                why,
                "Set ca_file to the server's CA, and write the name in its certificate into urls.",
            );
        }
    }
}

/// Who searches.
fn account(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let external = d.own.has("ldap_sasl_mech")
        && d.own.take("ldap_sasl_mech").is_some_and(|setting| setting.value.eq_ignore_ascii_case("EXTERNAL"));
    let (dn, token, kind) = (
        d.own.take("ldap_default_bind_dn"),
        d.own.take("ldap_default_authtok"),
        d.own.take("ldap_default_authtok_type"),
    );
    if external {
        p.table.set("bind_external", true);
    } else if let Some(setting) = d.own.take("ldap_sasl_mech") {
        t.remark(setting.line, &setting.name, "gpuhub speaks no Kerberos", "Give an account that may read: bind_dn and bind_password_file, or bind_external with a client certificate.");
    }
    match (dn, token) {
        (Some(dn), Some(token)) if !external => {
            p.table.set("bind_dn", dn.value.as_str());
            match kind.map(|kind| kind.value.to_ascii_lowercase()).as_deref() {
                None | Some("password") => p.set_secret(&token.value, COMMAND, d.file),
                Some(_) => {
                    p.table.set("bind_password_file", p.secret_path());
                    t.remark(
                        token.line,
                        &token.name,
                        "it is obfuscated, which only hides it from a glance",
                        "Write the password itself into bind_password_file, with an editor.",
                    );
                }
            }
        }
        (Some(dn), None) if !external => {
            let why = "an account without a password cannot be bound as; searches are anonymous";
            t.remark(dn.line, &dn.name, why, "Set bind_dn and bind_password_file.");
        }
        _ => {}
    }
    if d.kind != "ldap" && p.table.get("bind_dn").is_none() && !external {
        let why = match d.kind {
            "ad" => {
                "sssd searches by Kerberos as the machine's account; gpuhub, over TLS, as an account with a password"
            }
            _ => "sssd searches by Kerberos with the machine's keytab; gpuhub, over TLS, as an account with a password",
        };
        let line = d.own.take("id_provider").map_or(1, |setting| setting.line);
        t.remark(
            line,
            "id_provider",
            why,
            "Make one that may read, and set bind_dn and bind_password_file; the servers must have certificates.",
        );
        p.table.remind(match d.kind {
            "ad" => "bind_dn = \"CN=gpuhub,CN=Users,...\"",
            _ => "bind_dn = \"uid=gpuhub,cn=sysaccounts,cn=etc,...\"",
        });
        p.table.remind(format!("bind_password_file = \"{}\"", p.secret_path()));
    }
}

// ---- who -----------------------------------------------------------------------------------------

fn names(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    for name in NAMES {
        let setting = d.own.take(name.option);
        let theirs = setting.map(|s| s.value.as_str()).or(name.sssd.get(d.schema).copied()).unwrap_or_default();
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
