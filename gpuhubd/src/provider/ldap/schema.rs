//! How a directory's entries are found and what their attributes are called. Pure: what an entry says
//! is [`super::person`]'s and [`super::group`]'s.
//!
//! | | RFC 2307 | rfc2307bis, IPA | Active Directory |
//! |---|---|---|---|
//! | a group's members | names (memberUid) | DNs (member, uniqueMember) | asked for (memberOf) |
//! | somebody's groups | that name her | that have her DN, step by step | tokenGroups of her entry |
//! | ids | uidNumber, gidNumber | the same | computed from SIDs |
//!
//! Ids are the numbers of RFC 2307, or those that sssd computes from Active Directory's SIDs
//! ([`LdapIds`]).

use crate::config::{LdapConfig, LdapIds, LdapSchema};
use crate::model::Sid;
use crate::provider::{Which, Who};
use gpuhub_common::name::UserName;
use ldap3::ldap_escape;
use std::sync::Arc;

/// An attribute's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    /// As the directory is asked for it.
    pub(super) name: String,
    /// As an [`super::entry::Entry`] has it.
    pub(super) key: String,
}

impl Attribute {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), key: name.to_ascii_lowercase() }
    }
}

/// What the members of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Members {
    /// Login names.
    Names,
    /// DNs of people and of groups.
    Dns,
    /// What the server says of it, step by step or through all groups (Active Directory).
    Asked,
}

/// A directory's.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    /// Where ids come from.
    pub(super) ids: LdapIds,
    /// What the values of [`Schema::member`] are.
    pub(super) members: Members,
    /// Whether passwords age by shadowLastChange and what goes with it.
    pub(super) shadow: bool,
    /// Login name.
    pub(super) name: Attribute,
    /// Another one.
    pub(super) alias: Option<Attribute>,
    pub(super) uid: Attribute,
    pub(super) gid: Attribute,
    pub(super) gecos: Attribute,
    pub(super) home: Attribute,
    pub(super) shell: Attribute,
    /// What never changes, and is never given again: the first of these that an entry has, by an
    /// [`super::entry::Entry`]'s names.
    pub(super) keys: [String; 2],
    /// The configured one of them, or the usual one.
    pub(super) key: Attribute,
    pub(super) group_name: Attribute,
    pub(super) group_gid: Attribute,
    /// A group's members: the values of all of these.
    pub(super) member: Vec<Attribute>,
    /// What says who she is where she proves herself.
    pub(super) login: Option<Attribute>,
    /// Her public keys.
    pub(super) ssh_keys: Vec<Attribute>,
    /// Asked of an entry for those.
    pub(super) of_keys: Arc<[String]>,
    /// Asked of whoever has another login name.
    pub(super) of_alias: Arc<[String]>,
    /// Asked of a person's entry.
    pub(super) of_person: Arc<[String]>,
    /// Asked of the groups of somebody: not their members.
    pub(super) of_her_groups: Arc<[String]>,
    /// Asked of a person and of her groups.
    pub(super) of_person_or_groups: Arc<[String]>,
    /// Asked of a group's entry.
    pub(super) of_group: Arc<[String]>,
    /// Asked of a member that may be a person or a group.
    pub(super) of_member: Arc<[String]>,
    people: String,
    groups: String,
    any_group: String,
}

const NS_UNIQUE_ID: &str = "nsUniqueId";

/// Which objectClass (in lower case) makes an entry a POSIX group, whose id must be readable.
pub(super) const POSIX_GROUP: &str = "posixgroup";
/// The same of a person.
pub(super) const POSIX_ACCOUNT: &str = "posixaccount";

/// Classes of groups that have DNs for members.
const GROUPS_OF_DNS: &str =
    "(|(objectClass=posixGroup)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=groupOfMembers))";

/// Groups of Active Directory: security groups ([MS-ADTS] 2.2.12, by the rule of 3.1.1.3.4.4.1). Others are for mail,
/// and in nobody's tokenGroups.
pub(super) const DOMAIN_GROUPS: &str = "(&(objectClass=group)(groupType:1.2.840.113556.1.4.803:=2147483648))";

const AD_PEOPLE: &str = "(&(objectClass=user)(objectCategory=person))";

impl Schema {
    pub(super) fn new(config: &LdapConfig) -> Self {
        let own = &config.attributes;
        let named = |own: &Option<String>, usual: &str| Attribute::new(own.as_deref().unwrap_or(usual));
        let members = match config.schema {
            LdapSchema::Rfc2307 => Members::Names,
            LdapSchema::Rfc2307bis | LdapSchema::Ipa => Members::Dns,
            LdapSchema::Ad => Members::Asked,
        };
        let usual_members: &[&str] = match members {
            Members::Names => &["memberUid"],
            Members::Dns => &["member", "uniqueMember"],
            Members::Asked => &[],
        };
        let member = match &own.group_member {
            Some(own) => own.0.iter().map(|name| Attribute::new(name)).collect(),
            None => usual_members.iter().map(|name| Attribute::new(name)).collect::<Vec<_>>(),
        };
        let ad = config.schema == LdapSchema::Ad;
        let or_ad = |usual, ads| if ad { ads } else { usual };
        let key = if config.schema == LdapSchema::Ipa { "ipaUniqueID" } else { "entryUUID" };
        let key = named(&own.user_key, key);
        let mut keys = [NS_UNIQUE_ID.to_ascii_lowercase(), key.key.clone()];
        // 389 Directory Server gives every entry an nsUniqueId, but an entryUUID only to those that are made while
        // its plugin is on, or to all, years later, when somebody asks for that: nobody's key may change then.
        if own.user_key.is_some() || config.schema == LdapSchema::Ipa {
            keys.reverse();
        }
        let (people, groups) = match (ad, config.ids()) {
            (false, _) => ("(objectClass=posixAccount)".to_owned(), "(objectClass=posixGroup)".to_owned()),
            // Computers are users, too, and of another category.
            (true, LdapIds::Sid) => (AD_PEOPLE.to_owned(), DOMAIN_GROUPS.to_owned()),
            (true, LdapIds::Attributes) => {
                let uid = own.user_uid.as_deref().unwrap_or("uidNumber");
                let gid = own.group_gid.as_deref().unwrap_or("gidNumber");
                (format!("(&{AD_PEOPLE}({uid}=*))"), format!("(&{DOMAIN_GROUPS}({gid}=*))"))
            }
        };
        let and = |class: &str, filter: &Option<String>| match filter {
            Some(filter) => format!("(&{class}{filter})"),
            None => class.to_owned(),
        };
        let usual_keys = || match config.schema {
            LdapSchema::Rfc2307 | LdapSchema::Rfc2307bis => vec!["sshPublicKey".into()],
            LdapSchema::Ipa => vec!["ipaSshPubKey".into()],
            LdapSchema::Ad => vec!["sshPublicKey".into(), "altSecurityIdentities".into()],
        };
        let own_keys: Vec<String> = own.user_ssh_keys.as_ref().map_or_else(usual_keys, |own| own.0.clone());
        let none: Arc<[String]> = Arc::from(Vec::new());
        let mut schema = Self {
            ids: config.ids(),
            members,
            shadow: config.shadow && !ad,
            name: named(&own.user_name, or_ad("uid", "sAMAccountName")),
            alias: own
                .user_alias
                .as_deref()
                .or(ad.then_some("userPrincipalName"))
                .filter(|name| !name.is_empty())
                .map(Attribute::new),
            uid: named(&own.user_uid, "uidNumber"),
            gid: named(&own.user_gid, "gidNumber"),
            gecos: named(&own.user_gecos, "gecos"),
            // homeDirectory is a Windows share there.
            home: named(&own.user_home, or_ad("homeDirectory", "unixHomeDirectory")),
            shell: named(&own.user_shell, "loginShell"),
            keys,
            key,
            group_name: named(&own.group_name, or_ad("cn", "sAMAccountName")),
            group_gid: named(&own.group_gid, "gidNumber"),
            member,
            login: config.login_attribute.as_deref().map(Attribute::new),
            ssh_keys: own_keys.iter().map(|name| Attribute::new(name)).collect(),
            of_keys: none.clone(),
            of_alias: none.clone(),
            of_person: none.clone(),
            of_her_groups: none.clone(),
            of_person_or_groups: none.clone(),
            of_group: none.clone(),
            of_member: none,
            people: and(&people, &config.user_filter),
            any_group: match members {
                Members::Dns => and(GROUPS_OF_DNS, &config.group_filter),
                Members::Names | Members::Asked => and(&groups, &config.group_filter),
            },
            groups: and(&groups, &config.group_filter),
        };
        let access = config.access_attributes.iter().map(|a| a.name().to_owned());
        schema.name_what_is_asked(&access.chain(config.login_attribute.clone()).collect::<Vec<_>>());
        schema
    }

    /// `access`: the attributes that say where a person may log in, and by what she is known there.
    fn name_what_is_asked(&mut self, access: &[String]) {
        let all = |some: &[&Attribute], more: &[&str]| -> Arc<[String]> {
            some.iter().map(|a| a.name.clone()).chain(more.iter().map(|m| (*m).to_owned())).collect()
        };
        let Self { name, uid, gid, gecos, home, shell, key, group_name, group_gid, .. } = &*self;
        // Operational attributes are shown only to who names them.
        let aging: &[&str] = match self.shadow {
            true => &["shadowLastChange", "shadowMax", "shadowWarning", "shadowInactive"],
            false => &[],
        };
        let of_person = all(
            &[name, uid, gid, gecos, home, shell, key],
            match self.members {
                Members::Names | Members::Dns => &[
                    "cn",
                    NS_UNIQUE_ID,
                    "objectSid",
                    "primaryGroupID",
                    "shadowExpire",
                    "pwdAccountLockedTime",
                    "nsAccountLock",
                    "accountUnlockTime",
                    "passwordRetryCount",
                ],
                Members::Asked => {
                    &["cn", "displayName", "objectSid", "primaryGroupID", "userAccountControl", "accountExpires"]
                }
            },
        );
        let more = all(&[], aging).iter().cloned().chain(access.iter().cloned()).collect::<Vec<_>>();
        let of_person: Arc<[String]> = of_person.iter().cloned().chain(more).collect();
        let keys: Vec<&Attribute> = std::iter::once(name).chain(&self.ssh_keys).collect();
        let of_keys = all(&keys, &[]);
        let of_her_groups = all(&[group_name, group_gid], &["objectSid", "objectClass"]);
        let members: Vec<&Attribute> = self.member.iter().collect();
        let of_group = of_her_groups.iter().cloned().chain(all(&members, &[]).iter().cloned()).collect();
        let of_member = all(&members, &["objectClass"]).iter().cloned().chain([name.name.clone()]).collect();
        let mut both: Vec<String> = of_person.iter().cloned().chain(of_her_groups.iter().cloned()).collect();
        both.sort_unstable();
        both.dedup();
        let of_alias = all(&[name], &[]);
        (self.of_keys, self.of_alias, self.of_person_or_groups) = (of_keys, of_alias, both.into());
        (self.of_person, self.of_her_groups) = (of_person, of_her_groups);
        (self.of_group, self.of_member) = (of_group, of_member);
    }

    /// Any person: for the doctor, too.
    pub(super) fn people(&self) -> &str {
        &self.people
    }

    /// Any group through which somebody may be in one of ours.
    pub(super) fn any_group(&self) -> &str {
        &self.any_group
    }

    /// The filter for a person; `None`: an id that nobody of this directory can have.
    pub(super) fn person_filter(&self, who: Who<'_>) -> Option<String> {
        Some(match who {
            Who::Name(name) => self.people_by_name(std::slice::from_ref(name)),
            Who::Uid(uid, sid) => format!("(&{}{})", self.people, self.id_filter(&self.uid, uid, sid)?),
        })
    }

    /// The filter for whoever has one of these names.
    pub(super) fn people_by_name(&self, names: &[UserName]) -> String {
        let named = names.iter().map(|n| equals(&self.name, n.as_str()));
        format!("(&{}{})", self.people, any(named))
    }

    /// The filter for whoever has this other login name; `None`: nobody of this directory has any.
    pub(super) fn people_by_alias(&self, alias: &UserName) -> Option<String> {
        let attribute = self.alias.as_ref()?;
        Some(format!("(&{}{})", self.people, equals(attribute, alias.as_str())))
    }

    /// The filter for whoever has this name, and for the groups that name it.
    pub(super) fn person_or_groups(&self, name: &UserName) -> String {
        format!("(|{}{})", self.people_by_name(std::slice::from_ref(name)), self.groups_of_name(name.as_str()))
    }

    /// The filter for the POSIX groups that name this member.
    pub(super) fn groups_of_name(&self, name: &str) -> String {
        format!("(&{}{})", self.groups, any(self.member.iter().map(|m| equals(m, name))))
    }

    /// The filter for the groups, of whatever class, that have one of these members.
    pub(super) fn groups_of_dns<'a>(&self, dns: impl Iterator<Item = &'a str> + Clone) -> String {
        let members = self.member.iter().flat_map(|m| dns.clone().map(|dn| equals(m, dn)));
        format!("(&{}{})", self.any_group, any(members))
    }

    /// The filter for the groups with one of these SIDs.
    pub(super) fn groups_of_sids(&self, sids: &[Sid]) -> String {
        format!("(&{}{})", self.groups, any(sids.iter().map(|sid| equals_sid(*sid))))
    }

    /// The filter for the people who are members of one of these groups themselves, as the server knows it.
    pub(super) fn people_in(&self, groups: &[String]) -> String {
        format!("(&{}{})", self.people, is_member_of(groups))
    }

    /// The same for groups.
    pub(super) fn groups_in(&self, groups: &[String]) -> String {
        format!("(&{}{})", self.any_group, is_member_of(groups))
    }

    /// Anything that may be a member.
    pub(super) fn anything(&self) -> String {
        format!("(|{}{})", self.people, self.any_group)
    }

    /// The filter for a group; `None` as for a person.
    pub(super) fn group_filter(&self, which: Which<'_>) -> Option<String> {
        let asked = match which {
            Which::Name(name) => equals(&self.group_name, name.as_str()),
            Which::Gid(gid, sid) => self.id_filter(&self.group_gid, gid, sid)?,
        };
        Some(format!("(&{}{asked})", self.groups))
    }

    fn id_filter(&self, attribute: &Attribute, id: u32, sid: Option<Sid>) -> Option<String> {
        match self.ids {
            LdapIds::Attributes => Some(format!("({}={id})", attribute.name)),
            LdapIds::Sid => sid.map(equals_sid),
        }
    }
}

fn equals_sid(sid: Sid) -> String {
    let bytes = sid.to_bytes().iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
    format!("(objectSid={bytes})")
}

/// Not by the rule that follows chains by itself ([MS-ADTS] 3.1.1.3.4.4.3): it looks at everybody, and takes
/// seconds in a domain of a thousand.
fn is_member_of(groups: &[String]) -> String {
    any(groups.iter().map(|dn| format!("(memberOf={})", ldap_escape(dn.as_str()))))
}

fn equals(attribute: &Attribute, value: &str) -> String {
    format!("({}={})", attribute.name, ldap_escape(value))
}

/// One of them; one alone needs no "or".
fn any(filters: impl Iterator<Item = String>) -> String {
    let filters: Vec<String> = filters.collect();
    match &filters[..] {
        [one] => one.clone(),
        several => format!("(|{})", several.concat()),
    }
}

/// The issuer in the keys of a provider's people.
pub fn issuer(provider: &str) -> String {
    format!("ldap:{provider}")
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
