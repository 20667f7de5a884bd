//! Configurations and claims for the tests of this room.

use super::claims;
use crate::config::{Config, OidcConfig, ProviderConfig};
use crate::model::{Denied, Person, Reason};
use gpuhub_common::name::UserName;
use serde_json::{Value, json};

pub const ANYONE: &str = "allow_anyone = true";

pub fn of_kind(kind: &str, lines: &str) -> OidcConfig {
    let text = format!("[[provider]]\nname = \"sso\"\nkind = \"{kind}\"\nclient_id = \"c\"\n{lines}\n");
    match Config::parse("test", &text).unwrap().providers.remove(0) {
        ProviderConfig::Oidc(config) => *config,
        other => panic!("{other:?}"),
    }
}

pub fn config(lines: &str) -> OidcConfig {
    of_kind("oidc", &format!("issuer = \"https://sso.example\"\n{lines}"))
}

pub fn login(lines: &str, asked: &str, claims: Value) -> Result<Person, Denied> {
    let Value::Object(mut claims) = claims else { panic!("not an object") };
    claims.entry("sub").or_insert(json!("s-1"));
    claims::person(&config(lines), &claims, (&UserName::new(asked).unwrap()).into())
}

pub fn refused(lines: &str, asked: &str, claims: Value) -> Reason {
    login(lines, asked, claims).unwrap_err().reason
}
