//! What would stop a login at this provider, found by asking it.

use super::documents::{self, Metadata, Missing, Place};
use super::http::Fault;
use super::{OidcProvider, device, shown};
use crate::config::{OidcConfig, Proof};
use crate::finding::Finding;
use chrono::{DateTime, Utc};

/// Everything that is wrong, or a note that nothing is.
pub async fn findings(provider: &OidcProvider) -> Vec<Finding> {
    let (config, http) = (&*provider.config, &*provider.http);
    let place = Place::of(config);
    let (metadata, answer) = match Metadata::written(config) {
        Some(metadata) => return written(provider, &metadata).await,
        None => match documents::discover(http, &place).await {
            Ok(found) => found,
            Err(missing) => return vec![missing_document(config, &missing, "its discovery document")],
        },
    };
    let mut findings = Vec::new();
    findings.extend(no_device_grant(config, &metadata));
    if config.profile.proof == Proof::IdToken {
        findings.extend(no_common_algorithm(config, &metadata));
        findings.extend(clock(config, answer.date, Utc::now()));
        let keys = match &metadata.jwks_uri {
            Some(url) => documents::fetch_keys(http, url).await.map(drop),
            None => Err(Missing::Malformed("the discovery document does not say where")),
        };
        findings.extend(keys.err().map(|missing| missing_document(config, &missing, "its keys")));
    } else {
        findings.extend(no_userinfo(config, &metadata));
    }
    if findings.is_empty() {
        findings.push(code(provider, &metadata).await);
    }
    findings.extend(not_asked_again(config, Some(&metadata)));
    findings
}

/// Whether this client is given a code, by asking for one that nobody will use: nothing else shows that its id and
/// secret are right, that it may have these scopes, and how long a person will have.
async fn code(provider: &OidcProvider, metadata: &Metadata) -> Finding {
    let config = &provider.config;
    let endpoint = metadata.device_authorization_endpoint.as_deref().unwrap_or_default();
    match device::request(&provider.http, endpoint, &provider.credentials, &provider.scopes).await {
        Ok(grant) => {
            let life = grant.life.as_secs();
            let what = format!("provider {}: {} answers, and its codes live {life} s", config.name, config.issuer);
            Finding { seconds: Some(life), ..Finding::note("oidc", what) }
        }
        Err(denied) => Finding::fatal(
            "oidc-no-code",
            format!(
                "provider {}: {} gives this client no code: {}",
                config.name,
                config.issuer,
                denied.detail.unwrap_or_default()
            ),
            "Check client_id, client_secret_file and scopes, and that the client may use the device grant there.",
        ),
    }
}

/// Who is disabled at the provider must not come in for ever by what is here of her.
fn not_asked_again(config: &OidcConfig, metadata: Option<&Metadata>) -> Option<Finding> {
    let name = &config.name;
    if config.ask_again.is_none() && config.directory.is_some() {
        // That is asked at each login by key.
        return None;
    }
    if config.ask_again.is_none() {
        let what = format!("provider {name}: somebody who is disabled there keeps coming in by her SSH keys");
        let remedy = "Write ask_again = \"5m\": the provider is asked whether it still honours her.".into();
        return Some(Finding { remedy, ..Finding::note("oidc-not-asked-again", what) });
    }
    let lacks = |list: Option<&Vec<String>>, word: &str| list.is_some_and(|list| !list.iter().any(|w| w == word));
    let metadata = metadata?;
    let refresh = lacks(metadata.grant_types_supported.as_ref(), "refresh_token");
    let scope = config.profile.lasting_scope.filter(|scope| lacks(metadata.scopes_supported.as_ref(), scope));
    (refresh || scope.is_some()).then(|| Finding {
        remedy: "Let the client have refresh tokens; the page of its kind in docs/providers says how.".into(),
        ..Finding::note(
            "oidc-no-refresh-token",
            format!(
                "provider {name} does not say that it gives {}",
                match scope {
                    Some(scope) if !refresh => format!("the scope {scope}"),
                    _ => "refresh tokens".into(),
                }
            ),
        )
    })
}

/// Endpoints that are written: whether they are there at all, under a certificate that is trusted, and give a code.
async fn written(provider: &OidcProvider, metadata: &Metadata) -> Vec<Finding> {
    let (config, http) = (&provider.config, &provider.http);
    let url = metadata.userinfo_endpoint.as_ref().unwrap_or(&config.issuer);
    match http.get(url).await {
        Err(fault) => vec![missing_document(config, &Missing::Fault(fault), "an answer")],
        Ok(_) => std::iter::once(code(provider, metadata).await).chain(not_asked_again(config, None)).collect(),
    }
}

fn no_userinfo(config: &OidcConfig, metadata: &Metadata) -> Option<Finding> {
    metadata.userinfo_endpoint.is_none().then(|| {
        Finding::fatal(
            "oauth2-no-userinfo",
            format!("provider {}: the metadata of {} has no userinfo_endpoint", config.name, config.issuer),
            "Write device_authorization_endpoint, token_endpoint and userinfo_endpoint in gpuhub.toml.",
        )
    })
}

fn missing_document(config: &OidcConfig, missing: &Missing, what: &str) -> Finding {
    let who = format!("provider {}: {}", config.name, config.issuer);
    match missing {
        Missing::OtherIssuer(other) => Finding::fatal(
            "oidc-issuer",
            format!("{who} calls itself {}", shown::message(other)),
            "Write the issuer in gpuhub.toml exactly as the provider calls itself, a final slash included.",
        ),
        Missing::Fault(Fault::Certificate(why)) => Finding::fatal(
            "oidc-certificate",
            format!("{who} shows a certificate that is not trusted: {why}"),
            "Install ca-certificates, or give the provider's CA with ca_file.",
        ),
        Missing::Fault(_) | Missing::Status(_) | Missing::Malformed(_) => Finding::fatal(
            "oidc-unreachable",
            format!("{who} does not give {what}: {missing}"),
            "Check the issuer, the network and HTTPS_PROXY of the broker.",
        ),
    }
}

fn no_device_grant(config: &OidcConfig, metadata: &Metadata) -> Option<Finding> {
    metadata.device_authorization_endpoint.is_none().then(|| {
        Finding::fatal(
            "oidc-no-device-grant",
            format!("provider {}: {} offers no device authorization grant (RFC 8628)", config.name, config.issuer),
            "Switch it on at the provider: people sign in by it.",
        )
    })
}

fn no_common_algorithm(config: &OidcConfig, metadata: &Metadata) -> Option<Finding> {
    let theirs = &metadata.id_token_signing_alg_values_supported;
    let none = !theirs.is_empty() && !theirs.iter().any(|a| config.signing_algs.contains(a));
    none.then(|| {
        Finding::fatal(
            "oidc-algorithm",
            format!(
                "provider {}: it signs with {}, and signing_algs has none of them",
                config.name,
                shown::message(&theirs.join(", "))
            ),
            "Let the provider sign ID tokens with RS256 or ES256.",
        )
    })
}

/// Tokens are checked against the local clock, so it must be the provider's, within the leeway.
fn clock(config: &OidcConfig, theirs: Option<DateTime<Utc>>, ours: DateTime<Utc>) -> Option<Finding> {
    let difference = ours - theirs?;
    (difference.abs().to_std().unwrap_or_default() > config.leeway.0).then(|| {
        let seconds = difference.num_seconds();
        let direction = if seconds > 0 { "ahead of" } else { "behind" };
        Finding::fatal(
            "clock",
            format!("the clock is {} s {direction} that of provider {}", seconds.unsigned_abs(), config.name),
            "Set the clock: tokens are refused as expired, or as issued in the future.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ProviderConfig};
    use chrono::Duration;

    #[test]
    fn clocks() {
        let text = "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://x\"\nclient_id = \"c\"\nallow_anyone = true\n";
        let ProviderConfig::Oidc(config) = Config::parse("test", text).unwrap().providers.remove(0) else { panic!() };
        let theirs = Utc::now();
        let at = |seconds| clock(&config, Some(theirs), theirs + Duration::seconds(seconds));
        assert_eq!((at(0), at(60), at(-60)), (None, None, None));
        assert!(at(61).unwrap().what.contains("61 s ahead of"));
        assert!(at(-3600).unwrap().what.contains("3600 s behind"));
        assert_eq!(clock(&config, None, theirs), None);
    }
}
