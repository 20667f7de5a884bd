//! LDAP (being written).
