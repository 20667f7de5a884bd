//! `pam_authz_search`: a search that has to find something. Ours is a filter on her own entry, so that two usual
//! kinds of searches are translated: those for her entry, and those for a group that has her.

use super::filter::Filter;
use super::nslcd_maps::{Maps, Part, parts};
use super::source::Settings;
use super::translation::{Provider, Translation};
use gpuhub_common::name;

/// Translates all of them; each has to find something.
pub fn translate(t: &mut Translation, s: &Settings, maps: &Maps<'_>, p: &mut Provider) {
    for setting in s.take_all("pam_authz_search") {
        let option = "pam_authz_search";
        let Some(search) = variables(&setting.value).and_then(|text| Filter::parse(&text)) else {
            t.shut(
                p,
                setting.line,
                option,
                "it has more in it than a filter with $username, $service, $rhost, $hostname, $fqdn and $dn",
                "Write it as an access_filter.",
            );
            continue;
        };
        let has_fqdn = setting.value.contains("fqdn");
        let has_host = setting.value.contains("$hostname") || setting.value.contains("${hostname");
        let terms = search.terms();
        let her = |term: &Filter| term.is(maps.user(), "$username") || term.is(maps.user(), "$uid");
        if terms.iter().any(her) {
            let class = |term: &Filter| maps.implies(term, true);
            let rest: Vec<_> = terms.into_iter().filter(|term| !her(term) && !class(term)).collect();
            // Nothing else has to be true: she is there.
            let Some(rest) = Filter::all(rest) else { continue };
            match rest.map(&mut |attribute, value| in_access_filter(attribute, value)) {
                Some(filter) => {
                    p.access.push(filter.simplified());
                    if has_fqdn || has_host {
                        p.table.comment(
                            "access_filter",
                            "$host is [broker] box_name, which is the host name if it is not set.",
                        );
                    }
                    if has_fqdn {
                        let why = "a box has one name here";
                        t.remark(
                            setting.line,
                            option,
                            why,
                            "Set [broker] box_name to the one that the directory lists.",
                        );
                    }
                }
                None => t.shut(
                    p,
                    setting.line,
                    option,
                    "it asks for something that a login does not say of itself here",
                    "Write it as an access_filter.",
                ),
            }
        } else if let Some(names) = groups(&terms) {
            if t.access.allow_groups.is_some() {
                let why = "people have to be in groups of two lists, and there is one list here";
                t.shut(p, setting.line, option, why, "Make one group of them.");
            } else if let Some(bad) =
                names.iter().find(|n| !name::is_group_name(n.as_bytes()) || name::is_power_group(n.as_bytes()))
            {
                let why = format!("gpuhub has nobody in {bad} from a directory");
                t.shut(p, setting.line, option, why, "Choose another group.");
            } else {
                t.access.allow_groups = Some(names);
                let why = "who has such a group as her primary one is in it here, too";
                t.remark(setting.line, option, why, "See that all of them may log in.");
            }
        } else {
            let why = "it looks for something else than her own entry or a group that has her";
            t.shut(
                p,
                setting.line,
                option,
                why,
                "Write [access] allow_groups, or an access_filter on people's own entries.",
            );
        }
    }
}

/// The filter with its expressions as `$name`; `None` if there are others, or a dollar sign that is none.
fn variables(search: &str) -> Option<String> {
    let mut out = String::new();
    for part in parts(search)? {
        match part {
            Part::Text(text) => {
                // What follows a variable must not make another one of it.
                let glued = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && out.starts_with('$');
                if text.contains('$') || glued {
                    return None;
                }
                out += &text;
            }
            Part::Attribute(name, None) => {
                out.push('$');
                out += &name;
            }
            Part::Attribute(_, Some(_)) => return None,
        }
    }
    Some(out)
}

/// Variables as gpuhub calls them; `None`: it has no such.
fn in_access_filter(attribute: &str, value: &str) -> Option<(String, String)> {
    if attribute.contains('$') {
        return None;
    }
    let mut pieces = value.split('$');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        out += match name {
            "username" | "uid" => "$username",
            "service" => "$service",
            "rhost" => "$rhost",
            "hostname" | "fqdn" => "$host",
            _ => return None,
        };
        out += rest;
    }
    Some((attribute.to_owned(), out))
}

/// `(&(objectClass=posixGroup)(cn=gpu-users)(memberUid=$username))`: the groups.
fn groups(terms: &[Filter]) -> Option<Vec<String>> {
    let has_her = |term: &Filter| {
        term.is("memberUid", "$username")
            || term.is("memberUid", "$uid")
            || term.is("member", "$dn")
            || term.is("uniqueMember", "$dn")
    };
    let any_member = |term: &Filter| match term {
        Filter::Or(any) => any.iter().all(has_her),
        other => has_her(other),
    };
    let class =
        |term: &Filter| matches!(term, Filter::Item(a, v) if a.eq_ignore_ascii_case("objectClass") && !v.contains('$'));
    let mut names = None;
    let mut has_member = false;
    for term in terms {
        match term {
            term if any_member(term) => has_member = true,
            term if class(term) => {}
            term => {
                let all = match term {
                    Filter::Or(any) => any.iter().map(called).collect::<Option<Vec<_>>>(),
                    one => called(one).map(|name| vec![name]),
                };
                if names.replace(all?).is_some() {
                    return None;
                }
            }
        }
    }
    names.filter(|_| has_member)
}

fn called(term: &Filter) -> Option<String> {
    match term {
        Filter::Item(a, v) if a.eq_ignore_ascii_case("cn") && !v.contains(['$', '*', '\\']) => Some(v.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_gpuhubs() {
        let of = |text: &str| variables(text).and_then(|text| Filter::parse(&text));
        let ours = |text| of(text).and_then(|f| f.map(&mut in_access_filter)).map(|f| f.simplified().to_string());
        let host = "(|(host=$hostname)(host=${fqdn})(host=\\\\*))";
        assert_eq!(ours(host).as_deref(), Some("(|(host=$host)(host=\\2a))"));
        assert_eq!(ours("(a=x$service-$rhost)").as_deref(), Some("(a=x$service-$rhost)"));
        for no in [
            "(a=$ruser)",
            "(a=$tty)",
            "(a=$domain)",
            "(a=$dn)",
            "(a=${service:-x})",
            "(a=\\$x)",
            "(a=${service}x)",
            "($uid=x)",
        ] {
            assert_eq!(ours(no), None, "{no}");
        }
    }

    #[test]
    fn groups_that_have_her() {
        let of = |text: &str| groups(&Filter::parse(text).unwrap().terms());
        assert_eq!(of("(&(objectClass=posixGroup)(cn=gpu)(memberUid=$username))"), Some(vec!["gpu".into()]));
        let either = "(&(|(cn=a)(cn=b c))(|(member=$dn)(memberUid=$uid)))";
        assert_eq!(of(either), Some(vec!["a".into(), "b c".into()]));
        for no in [
            "(&(objectClass=posixGroup)(cn=gpu))",
            "(memberUid=$username)",
            "(&(cn=g*)(memberUid=$username))",
            "(&(cn=a)(cn=b)(memberUid=$username))",
            "(&(cn=a)(description=x)(memberUid=$username))",
            "(&(!(cn=a))(memberUid=$username))",
            "(&(cn=a)(|(memberUid=$username)(cn=*)))",
        ] {
            assert_eq!(of(no), None, "{no}");
        }
    }
}
