//! The options of sssd.conf(5), sssd-ldap(5), sssd-ad(5), sssd-ipa(5), sssd-krb5(5) and sssd-simple(5) that nothing
//! in gpuhub.toml corresponds to, and the names of attributes that do.

use super::rest::{Rest, idle, left, shut, unless};

/// An attribute's name: sssd's option, gpuhub's key, and what both take it for in the schemas rfc2307, rfc2307bis,
/// ipa and ad; `""`: nothing that the other would say.
pub struct Name {
    pub option: &'static str,
    pub key: &'static str,
    pub sssd: [&'static str; 4],
    pub gpuhub: [&'static str; 4],
}

const fn name(option: &'static str, key: &'static str, both: [&'static str; 4]) -> Name {
    Name { option, key, sssd: both, gpuhub: both }
}

const UID: &str = "uidNumber";
const GID: &str = "gidNumber";
const HOME: &str = "homeDirectory";
const KEYS: &str = "sshPublicKey";
const SAM: &str = "sAMAccountName";

/// Attributes whose names can be chosen on both sides.
pub const NAMES: &[Name] = &[
    name("ldap_user_name", "user_name", ["uid", "uid", "uid", SAM]),
    name("ldap_user_uid_number", "user_uid", [UID; 4]),
    name("ldap_user_gid_number", "user_gid", [GID; 4]),
    name("ldap_user_gecos", "user_gecos", ["gecos"; 4]),
    name("ldap_user_home_directory", "user_home", [HOME, HOME, HOME, "unixHomeDirectory"]),
    name("ldap_user_shell", "user_shell", ["loginShell"; 4]),
    Name {
        option: "ldap_user_ssh_public_key",
        key: "user_ssh_keys",
        sssd: ["", "", "ipaSshPubKey", ""],
        gpuhub: [KEYS, KEYS, KEYS, ""],
    },
    name("ldap_group_name", "group_name", ["cn", "cn", "cn", SAM]),
    name("ldap_group_gid_number", "group_gid", [GID; 4]),
    // In rfc2307bis gpuhub takes those of uniqueMember, too.
    Name {
        option: "ldap_group_member",
        key: "group_member",
        sssd: ["memberUid", "member", "member", "member"],
        gpuhub: ["memberUid", "", "member", "member"],
    },
];

const NO_KERBEROS: &str = "gpuhub speaks no Kerberos: passwords are verified by an LDAP bind over TLS";
const BIND: &str =
    "Give an account that may read: bind_dn and bind_password_file, or bind_external with a client certificate.";
const PEOPLE_ONLY: &str = "gpuhub serves people and groups alone";
const ELSEWHERE: &str = "Get this from somewhere else, or leave sssd in charge of it.";
const FIXED: &str = "the attribute cannot have another name here";
const COPY: &str = "Have the directory show it by the usual name.";
const OTHER_IDS: &str =
    "gpuhub computes ids from SIDs as sssd does with its defaults; with this, people's ids would change";
const TAKE_ALONG: &str =
    "Take their ids along before anybody logs in: `getent -s sss passwd NAME ...` here, `gpuhub idmap import` there.";
const ITS_OWN: &str = "gpuhub has its own way of choosing and leaving servers";
const REVERT: &str = "Nothing to do, if it was only about speed.";

/// What `[domain/…]` may have besides.
pub const DOMAIN: &[Rest] = &[
    // ---- how sssd works inside, and what gpuhub does in any case
    idle("description"),
    idle("enabled"),
    idle("debug*"),
    idle("command"),
    idle("timeout"),
    idle("reconnection_retries"),
    idle("realmd_tags"),
    idle("offline_timeout*"),
    idle("account_cache_expiration"),
    idle("cached_auth_timeout"),
    idle("entry_cache_*"),
    idle("refresh_expired_interval*"),
    idle("subdomain_refresh_interval*"),
    idle("lookup_family_order"),
    idle("dns_resolver_*"),
    idle("homedir_substring"),
    idle("wildcard_limit"),
    idle("cache_credentials_minimal_first_factor_length"),
    unless("domain_type", &["posix"], "application domains have no POSIX ids", "Leave this domain to sssd."),
    idle("ldap_page_size"),
    idle("ldap_disable_paging"),
    idle("ldap_disable_range_retrieval"),
    idle("ldap_deref_threshold"),
    idle("ldap_ignore_unreadable_references"),
    idle("ldap_connection_*"),
    idle("ldap_offline_timeout"),
    idle("ldap_purge_cache_timeout"),
    idle("ldap_enumeration_*"),
    idle("ldap_library_debug_level"),
    idle("ldap_entry_usn"),
    idle("ldap_rootdse_last_usn"),
    idle("ldap_user_entry_usn"),
    idle("ldap_group_entry_usn"),
    idle("ldap_user_modify_timestamp"),
    idle("ldap_group_modify_timestamp"),
    idle("ldap_user_member_of"),
    idle("ldap_user_principal"),
    idle("ldap_force_upper_case_realm"),
    idle("ldap_pwd_attribute"),
    idle("ldap_chpass_update_last_change"),
    idle("ldap_group_uuid"),
    idle("ldap_pwdlockout_dn"),
    // ---- names of attributes
    unless(
        "ldap_user_object_class",
        &["posixaccount", "user"],
        "people are posixAccount here, or user in Active Directory",
        "Give people that class.",
    ),
    unless(
        "ldap_group_object_class",
        &["posixgroup", "group", "ipausergroup", "groupofnames"],
        "groups with a gid are posixGroup here, or group in Active Directory",
        "Give groups that class.",
    ),
    unless("ldap_user_objectsid", &["objectsid"], FIXED, COPY),
    unless("ldap_group_objectsid", &["objectsid"], FIXED, COPY),
    unless("ldap_user_primary_group", &["primarygroupid"], FIXED, COPY),
    unless(
        "ldap_user_fullname",
        &["cn", "displayname", "name"],
        "people without gecos are shown with displayName or cn",
        "Set user_gecos in attributes.",
    ),
    shut("ldap_user_shadow_expire", &["shadowexpire"], FIXED, COPY),
    shut("ldap_user_shadow_last_change", &["shadowlastchange"], FIXED, COPY),
    shut("ldap_user_shadow_max", &["shadowmax"], FIXED, COPY),
    shut("ldap_user_shadow_inactive", &["shadowinactive"], FIXED, COPY),
    idle("ldap_user_shadow_*"),
    shut("ldap_ns_account_lock", &["nsaccountlock"], FIXED, COPY),
    shut("ldap_user_ad_account_expires", &["accountexpires"], FIXED, COPY),
    shut("ldap_user_ad_user_account_control", &["useraccountcontrol"], FIXED, COPY),
    idle("ldap_user_nds_*"),
    idle("ldap_user_krb_*"),
    unless(
        "ldap_user_uuid",
        &["entryuuid", "objectguid", "ipauniqueid"],
        "people are bound to another attribute here",
        "Set user_key in attributes.",
    ),
    left("ldap_user_extra_attrs", "no program can ask gpuhub for other attributes", ELSEWHERE),
    left("ldap_user_certificate", "there are no logins by smart card", "Use SSH keys, or passwords."),
    left("ldap_user_email", "people log in by their names alone, not by e-mail address", "Tell them."),
    left(
        "ldap_user_auth_type",
        "there is one way to authenticate: an LDAP bind",
        "See whether the server asks for a second factor in it.",
    ),
    idle("ldap_group_type"),
    left(
        "ldap_group_external_member",
        "people of trusted domains are not served",
        "Make them people of this directory.",
    ),
    // ---- other maps
    left("ldap_netgroup_*", PEOPLE_ONLY, ELSEWHERE),
    left("ldap_service_*", PEOPLE_ONLY, ELSEWHERE),
    left("ldap_sudo*", PEOPLE_ONLY, "Write /etc/sudoers.d in the image."),
    left("ldap_autofs_*", PEOPLE_ONLY, ELSEWHERE),
    left("ldap_iphost_*", PEOPLE_ONLY, ELSEWHERE),
    left("ldap_ipnetwork_*", PEOPLE_ONLY, ELSEWHERE),
    left("ldap_host_*", PEOPLE_ONLY, ELSEWHERE),
    left("ldap_subid_*", PEOPLE_ONLY, "Write /etc/subuid and /etc/subgid in the image."),
    unless("sudo_provider", &["none"], PEOPLE_ONLY, "Write /etc/sudoers.d in the image."),
    unless("autofs_provider", &["none"], PEOPLE_ONLY, ELSEWHERE),
    unless("hostid_provider", &["none"], PEOPLE_ONLY, ELSEWHERE),
    unless("session_provider", &["none"], PEOPLE_ONLY, ELSEWHERE),
    unless("selinux_provider", &["none"], PEOPLE_ONLY, "Containers have no SELinux users."),
    idle("resolver_provider"),
    unless(
        "subdomains_provider",
        &["none"],
        "people of trusted domains are not served",
        "Write a [[provider]] for each domain.",
    ),
    // ---- the connection
    left(
        "ldap_tls_cipher_suite",
        "the ciphers are those of TLS 1.3 and of good TLS 1.2",
        "Nothing to do, if the server has one of them.",
    ),
    unless(
        "ldap_referrals",
        &["false"],
        "references to other servers are left out",
        "Write a [[provider]] for each server with people of its own.",
    ),
    unless("ldap_deref", &["never"], "aliases are not followed", "Name the bases where the entries themselves are."),
    left("ldap_sasl_*", NO_KERBEROS, BIND),
    left("ldap_krb5_*", NO_KERBEROS, BIND),
    left("krb5_*", NO_KERBEROS, "Nothing to do, if the directory takes the same passwords."),
    idle("ldap_dns_service_name"),
    left(
        "ldap_chpass_*",
        "passwords are changed on the servers that are asked",
        "Put the server that takes changes first in urls.",
    ),
    unless(
        "ldap_pwmodify_mode",
        &["exop"],
        "passwords are changed by the operation of RFC 3062 (in Active Directory by unicodePwd)",
        "Let the server take it.",
    ),
    left(
        "ldap_auth_disable_tls_never_use_in_production",
        "passwords are sent over TLS",
        "Give the server a certificate.",
    ),
    idle("dns_discovery_domain"),
    unless("dyndns_update", &["false"], "gpuhub does not register boxes in the DNS", ELSEWHERE),
    idle("dyndns_*"),
    // ---- who has which name and id
    shut("ldap_idmap_range_min", &["200000"], OTHER_IDS, TAKE_ALONG),
    shut("ldap_idmap_range_max", &["2000200000"], OTHER_IDS, TAKE_ALONG),
    shut("ldap_idmap_range_size", &["200000"], OTHER_IDS, TAKE_ALONG),
    shut("ldap_idmap_autorid_compat", &["false"], OTHER_IDS, TAKE_ALONG),
    idle("ldap_idmap_helper_table_size"),
    shut("ldap_idmap_default_domain*", &[], OTHER_IDS, TAKE_ALONG),
    unless("auto_private_groups", &["false"], "primary groups are those that the directory says", "See docs/ids.md."),
    shut("override_gid", &[], "primary groups are those that the directory says", "See docs/ids.md."),
    unless(
        "case_sensitive",
        &["true"],
        "names are exact here, as the directory spells them",
        "Tell people to use that spelling.",
    ),
    left("full_name_format", "names are the directory's, without a domain", "See whether anything expects a domain."),
    left(
        "re_expression",
        "names are the directory's, without a domain",
        "Set name_pattern of OpenID providers, if there are any.",
    ),
    unless(
        "use_fully_qualified_names",
        &["false"],
        "names have no domain here, and of two people of one name the first provider's counts",
        "Import their ids under the short names (`gpuhub idmap import`).",
    ),
    left("subdomain_*", "people of trusted domains are not served", "Write a [[provider]] for each domain."),
    unless(
        "ldap_rfc2307_fallback_to_local_users",
        &["false"],
        "local users are never given groups of a directory",
        "Add them to local groups.",
    ),
    unless(
        "ldap_use_tokengroups",
        &["true"],
        "which groups somebody is in is what Active Directory says of her token",
        "Nothing to do, if all nested groups may count.",
    ),
    unless(
        "pwd_expiration_warning",
        &["0"],
        "when people are warned is what the server says",
        "Set it in the server's policy.",
    ),
    left("pam_gssapi_*", NO_KERBEROS, "Nothing to do, if nobody logs in by ticket."),
    // ---- what has no effect where it was not asked for; what has is taken before
    idle("simple_*"),
    idle("ldap_access_*"),
    idle("ldap_account_expire_policy"),
    idle("ldap_user_authorized_*"),
    idle("ad_access_filter"),
    idle("ad_gpo_*"),
    idle("ipa_hbac_*"),
    // ---- Active Directory and IPA
    left("ad_enabled_domains", "people of trusted domains are not served", "Write a [[provider]] for each domain."),
    unless("ad_enable_gc", &["false"], "the global catalogue is not asked", "Write a [[provider]] for each domain."),
    unless("ad_use_ldaps", &["true"], "TLS is used in any case", "Nothing to do."),
    left("ad_site", ITS_OWN, "Write the servers of the site as urls."),
    idle("ad_*"),
    left("ipa_deskprofile_*", PEOPLE_ONLY, ELSEWHERE),
    left("ipa_automount_location", PEOPLE_ONLY, ELSEWHERE),
    left(
        "ipa_views_search_base",
        "overrides of views are not read",
        "Write them into the directory, or import ids with `gpuhub idmap import`.",
    ),
    unless("ipa_server_mode", &["false"], "gpuhub is no part of a server", ELSEWHERE),
    idle("ipa_*"),
    left("proxy_*", "there is no provider that asks other libraries", ELSEWHERE),
    left("ldap_opt_*", ITS_OWN, REVERT),
];

/// `[sssd]`
pub const SSSD: &[Rest] = &[
    idle("config_file_version"),
    idle("debug*"),
    idle("description"),
    idle("reconnection_retries"),
    idle("user"),
    idle("timeout"),
    idle("command"),
    idle("fd_limit"),
    idle("client_idle_timeout"),
    idle("responder_idle_timeout"),
    idle("cache_first"),
    idle("krb5_rcache_dir"),
    idle("disable_netlink"),
    idle("enable_files_domain"),
    idle("try_inotify"),
    idle("monitor_resolv_conf"),
    idle("implicit_pac_responder"),
    idle("core_dumpable"),
    idle("certificate_verification"),
    left(
        "default_domain_suffix",
        "names have no domain here",
        "Import ids under the short names (`gpuhub idmap import`).",
    ),
    left(
        "domain_resolution_order",
        "providers are asked in the order in which they stand",
        "Put them into that order.",
    ),
    left("full_name_format", "names are the directory's, without a domain", "See whether anything expects a domain."),
    left("re_expression", "names are the directory's, without a domain", "See whether anything expects a domain."),
    left("override_space", "names of groups keep their spaces", "See whether anything expects another character."),
];

/// `[nss]`; what is about homes, shells and who is left out is taken before.
pub const NSS: &[Rest] = &[
    idle("debug*"),
    idle("description"),
    idle("reconnection_retries"),
    idle("timeout"),
    idle("fd_limit"),
    idle("client_idle_timeout"),
    idle("responder_idle_timeout"),
    idle("cache_first"),
    idle("enum_cache_timeout"),
    idle("entry_cache_nowait_percentage"),
    idle("entry_negative_timeout"),
    idle("local_negative_timeout"),
    idle("memcache_*"),
    idle("get_domains_timeout"),
    idle("filter_users_in_groups"),
    idle("homedir_substring"),
    idle("pwfield"),
    left("user_attributes", "no program can ask gpuhub for other attributes", ELSEWHERE),
    left("allowed_shells", "shells are those that the directory says", "Install them, or set override_shell."),
    left(
        "vetoed_shells",
        "shells are those that the directory says",
        "Set override_shell, or correct them in the directory.",
    ),
    left("shell_fallback", "shells are those that the directory says", "Install them, or set override_shell."),
];

/// `[pam]`
pub const PAM: &[Rest] = &[
    idle("debug*"),
    idle("description"),
    idle("reconnection_retries"),
    idle("timeout"),
    idle("fd_limit"),
    idle("client_idle_timeout"),
    idle("responder_idle_timeout"),
    idle("get_domains_timeout"),
    idle("pam_verbosity"),
    idle("pam_response_filter"),
    idle("pam_id_timeout"),
    idle("pam_initgroups_scheme"),
    idle("p11_child_timeout"),
    idle("pam_pwd_expiration_warning"),
    left(
        "offline_*",
        "logins without a server have limits of their own here",
        "See offline_passwords in gpuhub.toml(5).",
    ),
    left("pam_account_expired_message", "the texts are fixed", "Put it into /etc/issue or the like."),
    left("pam_account_locked_message", "the texts are fixed", "Put it into /etc/issue or the like."),
    unless("pam_cert_auth", &["false"], "there are no logins by smart card", "Use SSH keys, or passwords."),
    left("pam_cert_*", "there are no logins by smart card", "Use SSH keys, or passwords."),
    left("pam_p11_*", "there are no logins by smart card", "Use SSH keys, or passwords."),
    left("p11_*", "there are no logins by smart card", "Use SSH keys, or passwords."),
    left("pam_trusted_users", "who may run logins is root, and whom [broker] login_peers names", "Set login_peers."),
    left("pam_public_domains", "who may run logins is root, and whom [broker] login_peers names", "Set login_peers."),
    left("pam_app_services", "application domains have no POSIX ids", "Leave them to sssd."),
    left("pam_gssapi_*", NO_KERBEROS, "Nothing to do, if nobody logs in by ticket."),
];

/// Other sections: nothing in them is translated.
pub const SECTIONS: &[Rest] = &[
    left("sudo", PEOPLE_ONLY, "Write /etc/sudoers.d in the image."),
    left("autofs", PEOPLE_ONLY, ELSEWHERE),
    left("ssh", "keys of a directory are sshd's to ask for", "Set AuthorizedKeysCommand, see gpuhub(1)."),
    idle("pac"),
    left("ifp", "there is no D-Bus interface", "Let programs ask by getpwnam(3) and the like."),
    left("secrets", "gpuhub keeps no secrets for others", ELSEWHERE),
    left("kcm", NO_KERBEROS, ELSEWHERE),
    left("session_recording", "sessions are not recorded", "Set up tlog by itself."),
    left("certmap/*", "there are no logins by smart card", "Use SSH keys, or passwords."),
    left("prompting/*", "the prompts are fixed", "Nothing to do."),
    left("application/*", "application domains have no POSIX ids", "Leave them to sssd."),
];

/// Services of sssd's that somebody may miss.
pub const SERVICES: &[Rest] = &[
    idle("nss"),
    idle("pam"),
    idle("pac"),
    left("ssh", "keys of a directory are sshd's to ask for", "Set AuthorizedKeysCommand, see gpuhub(1)."),
    left("sudo", PEOPLE_ONLY, "Write /etc/sudoers.d in the image."),
    left("autofs", PEOPLE_ONLY, ELSEWHERE),
    left("ifp", "there is no D-Bus interface", "Let programs ask by getpwnam(3) and the like."),
];
