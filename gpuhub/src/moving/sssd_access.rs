//! Who may log in, as sssd has it: access_provider and what goes with it.

use super::filter::Filter;
use super::source::{self, Setting};
use super::sssd::{AD, Domain, flag};
use super::translation::{Provider, Rules, Translation};
use gpuhub_common::name;

/// The rules of access_provider = simple, which are for one domain there and for the box here.
pub struct DomainRules {
    /// Which provider they are of.
    provider: usize,
    /// Where they are written.
    line: usize,
    /// The attribute that is people's name.
    attribute: String,
    rules: Rules,
}

/// Translates what a domain says; the rules that are lists of names are handed back.
pub fn translate(t: &mut Translation, d: &Domain<'_>, p: &mut Provider) -> Option<DomainRules> {
    let setting = d.own.take("access_provider")?;
    match setting.value.to_ascii_lowercase().as_str() {
        "permit" => {}
        "deny" => {
            p.is_shut = true;
            p.table.comment("access_filter", "access_provider = deny.");
        }
        "simple" => return simple(t, d, p, setting),
        "ldap" => ldap(t, d, p, setting),
        "ad" => ad(t, d, p, setting),
        "ipa" => t.shut(
            p,
            setting.line,
            &setting.name,
            "IPA's HBAC rules are not read",
            "Write [access] allow_groups, or access_filter, as they say it.",
        ),
        "krb5" => t.shut(p, setting.line, &setting.name, ".k5login is not read", "Write [access] allow_users."),
        _ => t.shut(p, setting.line, &setting.name, "gpuhub has no such rules", "Write [access], or access_filter."),
    }
    None
}

fn simple(t: &mut Translation, d: &Domain<'_>, p: &mut Provider, provider: &Setting) -> Option<DomainRules> {
    let mut rules = Rules::default();
    let mut is_denial_inexact = None;
    for option in ["simple_allow_users", "simple_allow_groups", "simple_deny_users", "simple_deny_groups"] {
        let Some(setting) = d.own.take(option) else { continue };
        let (allows, groups) = (option.contains("allow"), option.ends_with("groups"));
        let mut kept = Vec::new();
        for whole in source::list(&setting.value) {
            let name = match whole.rsplit_once('@') {
                Some((name, domain)) if domain.eq_ignore_ascii_case(d.name) => name,
                _ => whole,
            };
            let legal = match groups {
                true => name::is_group_name(name.as_bytes()) && !name::is_power_group(name.as_bytes()),
                false => name::is_user_name(name.as_bytes()),
            };
            match (legal, allows) {
                (true, _) => kept.push(name.to_owned()),
                (false, true) => t.remark(
                    setting.line,
                    option,
                    format!("gpuhub has nobody by the name {name} from a directory, so that it lets nobody in"),
                    "Choose another group, or people by name.",
                ),
                (false, false) => t.shut(
                    p,
                    setting.line,
                    option,
                    format!("gpuhub has nobody by the name {name} from a directory, so that it keeps nobody out"),
                    "Deny another group, or people by name.",
                ),
            }
        }
        if !allows && !kept.is_empty() {
            is_denial_inexact = Some(setting);
        }
        match (allows, groups) {
            (true, true) => rules.allow_groups = Some(kept),
            (true, false) => rules.allow_users = Some(kept),
            (false, true) => rules.deny_groups = kept,
            (false, false) => rules.deny_users = kept,
        }
    }
    let folded = d.schema == AD || d.own.take("case_sensitive").is_some_and(|s| !s.value.eq_ignore_ascii_case("true"));
    if let Some(setting) = is_denial_inexact.filter(|_| folded) {
        let why = "sssd compares these names without case, gpuhub exactly: another spelling denies nobody";
        t.shut(p, setting.line, &setting.name, why, "See that they are spelt as in the directory.");
    }
    let attribute =
        p.attributes.get("user_name").map_or(if d.schema == AD { "sAMAccountName" } else { "uid" }, String::as_str);
    // All lists empty: everybody.
    let attribute = attribute.to_owned();
    Some(DomainRules { provider: t.providers.len(), line: provider.line, attribute, rules })
        .filter(|of| of.rules != Rules::default())
}

/// `[access]` is for the whole box. Where domains have different rules, lists of people become filters of their
/// providers; lists of groups cannot.
pub fn together(t: &mut Translation, of_domains: Vec<DomainRules>) {
    let alike = of_domains.windows(2).all(|two| matches!(two, [a, b] if a.rules == b.rules));
    if alike && of_domains.len() == t.providers.len() {
        t.access = of_domains.into_iter().next().map(|of| of.rules).unwrap_or_default();
        return;
    }
    for DomainRules { provider, line, attribute, rules } in of_domains {
        let Some(mut p) = t.providers.get_mut(provider).map(std::mem::take) else { continue };
        let people = |names: Vec<String>| names.iter().map(|name| Filter::equals(&attribute, name)).collect::<Vec<_>>();
        if rules.allow_groups.is_some() || !rules.deny_groups.is_empty() {
            let why = "[access] is for people of all providers, and other domains have other rules";
            t.shut(&mut p, line, "access_provider", why, "Write an access_filter, or [access] for all of them.");
        } else {
            let allowed = rules.allow_users.map(|names| Filter::any(people(names)));
            p.is_shut |= allowed == Some(None);
            p.access.extend(allowed.flatten().into_iter().chain(Filter::none_of(people(rules.deny_users))));
        }
        if let Some(place) = t.providers.get_mut(provider) {
            *place = p;
        }
    }
}

fn ldap(t: &mut Translation, d: &Domain<'_>, p: &mut Provider, provider: &Setting) {
    let order = d.own.take("ldap_access_order");
    let line = order.unwrap_or(provider).line;
    let listed = order.map_or("filter", |setting| setting.value.as_str());
    let policy = d.own.take("ldap_account_expire_policy").map(|setting| setting.value.to_ascii_lowercase());
    let mut attributes = Vec::new();
    for rule in source::list(listed) {
        let option = format!("ldap_access_order: {rule}");
        match rule.to_ascii_lowercase().as_str() {
            "filter" => match d.own.take("ldap_access_filter") {
                Some(setting) => filter(t, p, setting, &setting.value),
                None => {
                    p.is_shut = true;
                    p.table.comment("access_filter", "sssd lets nobody in without ldap_access_filter.");
                }
            },
            "expire" => match policy.as_deref() {
                // Always looked at.
                Some("shadow" | "rhds" | "ipa" | "389ds") => {}
                Some("ad") if d.schema == AD => {}
                Some("ad") => t.shut(
                    p,
                    line,
                    &option,
                    "disabled accounts of Active Directory are known in its schema alone",
                    "Write schema = \"ad\".",
                ),
                None => t.shut(
                    p,
                    line,
                    &option,
                    "without ldap_account_expire_policy sssd lets nobody in",
                    "See who should come in.",
                ),
                Some(_) => t.shut(
                    p,
                    line,
                    &option,
                    "gpuhub does not know this policy of expired accounts",
                    "See that the server refuses them.",
                ),
            },
            // An account that is locked for good is so here, too.
            "lockout" => {}
            "ppolicy" => t.shut(
                p,
                line,
                &option,
                "for logins by key a lock counts for a day here, whatever the policy has for pwdLockoutDuration",
                "See that it is no more than a day, or that people have no keys.",
            ),
            "host" | "authorized_service" => {
                let (option, usual) = match rule.eq_ignore_ascii_case("host") {
                    true => ("ldap_user_authorized_host", "host"),
                    false => ("ldap_user_authorized_service", "authorizedService"),
                };
                match d.own.take(option).filter(|setting| !setting.value.eq_ignore_ascii_case(usual)) {
                    Some(setting) => t.shut(
                        p,
                        setting.line,
                        option,
                        "the attribute cannot have another name here",
                        "Write an access_filter.",
                    ),
                    None => attributes.push(usual.to_owned()),
                }
                if usual == "host" {
                    p.table.comment(
                        "access_attributes",
                        "`host` has to list [broker] box_name, which is the host name if it is not set.",
                    );
                }
            }
            "rhost" => {
                let attribute =
                    d.own.take("ldap_user_authorized_rhost").map_or("rhost", |setting| setting.value.as_str());
                let text = format!("(&(|({attribute}=$rhost)({attribute}=\\2a))(!({attribute}=!$rhost)))");
                match Filter::parse(&text) {
                    Some(filter) => p.access.push(filter),
                    None => t.shut(p, line, &option, "the attribute's name is none", "Write an access_filter."),
                }
            }
            "pwd_expire_policy_reject" | "pwd_expire_policy_renew" => {
                t.shut(
                    p,
                    line,
                    &option,
                    "a login by key does not ask how old the password is",
                    "See that this may be so.",
                );
            }
            "pwd_expire_policy_warn" => {
                t.remark(line, &option, "a login by key does not ask how old the password is", "Nothing to do.");
            }
            _ => t.shut(p, line, &option, "gpuhub does not know this rule", "Write an access_filter."),
        }
    }
    if !attributes.is_empty() {
        p.table.set("access_attributes", attributes);
    }
}

fn ad(t: &mut Translation, d: &Domain<'_>, p: &mut Provider, provider: &Setting) {
    let gpo = d.own.take("ad_gpo_access_control");
    let denied = d.own.take("ad_gpo_implicit_deny").and_then(|setting| flag(t, setting)) == Some(true);
    match gpo.map(|setting| setting.value.to_ascii_lowercase()).as_deref() {
        Some("disabled" | "permissive") if !denied => {}
        _ => t.shut(
            p,
            gpo.unwrap_or(provider).line,
            "ad_gpo_access_control",
            "group policies are not read, and by default sssd enforces those about logons",
            "Write [access] allow_groups or access_filter as they say it, or neither if there are none for this box.",
        ),
    }
    let Some(setting) = d.own.take("ad_access_filter") else { return };
    let domain = d.own.take("ad_domain").map_or(d.name, |setting| setting.value.as_str());
    match of_domain(&setting.value, domain) {
        Some(text) => filter(t, p, setting, text),
        None => t.shut(
            p,
            setting.line,
            &setting.name,
            "it is not clear which of its filters is for this domain",
            "Write access_filter.",
        ),
    }
}

/// Of `DOM:a:(…)?b:(…)?FOREST:c:(…)?(…)` the one for this domain: its own, or else that for all.
fn of_domain<'f>(filters: &'f str, domain: &str) -> Option<&'f str> {
    let mut everybody = None;
    let mut is_unsure = false;
    for part in filters.split('?').map(str::trim) {
        let head = part.get(..part.find('(').unwrap_or(part.len())).unwrap_or_default();
        let filter = part.get(head.len()..).unwrap_or_default();
        let words: Vec<&str> = head.trim_end_matches(':').split(':').collect();
        match words.as_slice() {
            // Without parentheses at all.
            _ if filter.is_empty() => everybody = everybody.or(Some(part)),
            [""] => everybody = everybody.or(Some(filter)),
            [name] => {
                if name.eq_ignore_ascii_case(domain) {
                    return Some(filter);
                }
            }
            [word, name] if word.eq_ignore_ascii_case("DOM") => {
                if name.eq_ignore_ascii_case(domain) {
                    return Some(filter);
                }
            }
            // Whether the domain is in that forest, nobody says.
            _ => is_unsure = true,
        }
    }
    everybody.filter(|_| !is_unsure)
}

fn filter(t: &mut Translation, p: &mut Provider, setting: &Setting, text: &str) {
    match Filter::parse(text) {
        Some(filter) => p.access.push(filter.without_variables()),
        None => t.shut(p, setting.line, &setting.name, "it is no LDAP filter (RFC 4515)", "Write access_filter."),
    }
}

#[cfg(test)]
mod tests {
    use super::of_domain;

    #[test]
    fn the_filter_for_a_domain() {
        let of = |filters| of_domain(filters, "dom1");
        assert_eq!(of("(a=b)"), Some("(a=b)"));
        assert_eq!(of("a=b"), Some("a=b"));
        assert_eq!(of("dom1:(a=b)"), Some("(a=b)"));
        assert_eq!(of("DOM:dom2:(a=b)"), None);
        assert_eq!(
            of("(x=y)?DOM:dom1:(memberOf:1.2.840.113556.1.4.1941:=cn=n,dc=e)"),
            Some("(memberOf:1.2.840.113556.1.4.1941:=cn=n,dc=e)")
        );
        assert_eq!(of("(x=y)?FOREST:EXAMPLE.COM:(a=b)"), None, "it might be of that forest");
        assert_eq!(of("FOREST:EXAMPLE.COM:(a=b)?dom1:(c=d)"), Some("(c=d)"));
    }
}
