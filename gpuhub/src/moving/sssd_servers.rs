//! Where a domain's people are: servers, bases, TLS, and who searches.

use super::filter::Filter;
use super::servers::{self, Scheme};
use super::source::{self, Setting};
use super::sssd::{COMMAND, Domain, flag};
use super::translation::{Provider, Translation};

pub fn addresses(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
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
    let line = by_dns.map_or(d.line, |setting| setting.line);
    if urls.is_empty() || by_dns.is_some() {
        let named = ["dns_discovery_domain", "ad_domain", "ipa_domain"];
        let named = named.into_iter().find_map(|option| d.own.take(option)).map(|setting| setting.value.clone());
        let domain = named.or_else(|| servers::is_domain(d.name).then(|| d.name.to_owned()));
        let option = by_dns.map_or(first, |setting| setting.name.as_str());
        // sssd asks for _ldap._tcp, which is all that Active Directory and IPA have there.
        p.by_dns(t, line, option, domain, "ldap");
        plain = true;
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

pub fn bases(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
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
                    t.remark(d.line, &format!("[domain/{}] ldap_search_base", d.name), why, ask);
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

pub fn tls(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
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
pub fn account(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) {
    let mechanism = d.own.take("ldap_sasl_mech");
    let external = mechanism.is_some_and(|setting| setting.value.eq_ignore_ascii_case("EXTERNAL"));
    let (dn, token, kind) = (
        d.own.take("ldap_default_bind_dn"),
        d.own.take("ldap_default_authtok"),
        d.own.take("ldap_default_authtok_type"),
    );
    if external {
        p.table.set("bind_external", true);
    } else if let Some(setting) = mechanism {
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
        let line = d.own.take("id_provider").map_or(d.line, |setting| setting.line);
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
