//! A directory's own rules of who may log in where: a filter that her entry must match, and attributes of it that
//! list boxes and services. Pure.

use super::entry::Entry;
use super::schema::Schema;
use crate::config::{AccessAttribute, LdapConfig, fill_in};
use crate::model::{Denied, Reason};
use crate::provider::Origin;
use gpuhub_common::name::UserName;
use ldap3::ldap_escape;

/// A directory's.
#[derive(Debug)]
pub(super) struct Rules {
    filter: Option<String>,
    attributes: Vec<AccessAttribute>,
}

impl Rules {
    pub(super) fn new(config: &LdapConfig) -> Self {
        Self { filter: config.access_filter.clone(), attributes: config.access_attributes.clone() }
    }

    /// The filter that finds her if she matches; `None`: there is no rule, and nothing to ask. What the login says of
    /// itself is escaped: a stranger chooses her name, and the name of the host he comes from.
    pub(super) fn filter(&self, schema: &Schema, name: &UserName, origin: &Origin) -> Option<String> {
        if self.filter.is_none() && self.attributes.is_empty() {
            return None;
        }
        let her = schema.people_by_name(std::slice::from_ref(name));
        let Some(rule) = &self.filter else { return Some(her) };
        let value = |variable: &str| match variable {
            "username" => ldap_escape(name.as_str()).into_owned(),
            "service" => ldap_escape(&*origin.service).into_owned(),
            "rhost" => ldap_escape(origin.source.as_deref().unwrap_or_default()).into_owned(),
            "host" => ldap_escape(&*origin.box_name).into_owned(),
            // Nobody is found by what is no filter.
            _ => String::new(),
        };
        Some(format!("(&{her}{})", fill_in(rule, value)?))
    }

    /// What follows from the entry that was found, if there was one.
    pub(super) fn judge(&self, entry: Option<&Entry>, origin: &Origin) -> Result<(), Denied> {
        let denied = |detail: String| Err(Denied::because(Reason::NotAllowed, detail));
        let Some(entry) = entry else { return denied("access_filter".into()) };
        for attribute in &self.attributes {
            let here = match attribute {
                AccessAttribute::Host => &origin.box_name,
                AccessAttribute::AuthorizedService => &origin.service,
            };
            if !lists(entry.values(&attribute.name().to_ascii_lowercase()), here) {
                return denied(format!("her attribute {} does not list {here}", attribute.name()));
            }
        }
        Ok(())
    }
}

/// Whether the values have it. As in sssd-ldap(5): `!` and a value refuses it, whatever else there is, and `*` is
/// all; no value is none.
fn lists(values: &[String], here: &str) -> bool {
    let is_it = |value: &str| value == "*" || value.eq_ignore_ascii_case(here);
    let refused = values.iter().filter_map(|value| value.strip_prefix('!')).any(is_it);
    !refused && values.iter().any(|value| is_it(value))
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn where_she_may() {
        let lists = |values: &[&str]| lists(&values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>(), "gpu1");
        assert!(lists(&["gpu1"]) && lists(&["gpu0", "GPU1"]) && lists(&["*"]) && lists(&["!gpu0", "*"]));
        for none in [
            &[][..],
            &["gpu0"],
            &["gpu1.example.org"],
            &["!gpu1", "*"],
            &["*", "!GPU1"],
            &["!gpu0"],
            &["gpu*"],
            &["!*", "gpu1"],
        ] {
            assert!(!lists(none), "{none:?}");
        }
    }
}
