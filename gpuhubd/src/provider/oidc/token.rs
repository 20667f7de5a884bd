//! ID tokens: verified here, or they are nothing (OpenID Connect Core 1.0 §3.1.3.7).
//!
//! The verifier of the crate openidconnect checks issuer, audience, algorithm, signature and
//! `exp`. What it leaves to its users is done here: `azp`, `iat` and `nbf` with a leeway, `sub`.
//! There is no nonce in the device grant. The time is passed in.

use super::opaque::Opaque;
use crate::config::{OidcConfig, Tenants, is_guid};
use crate::model::{Denied, Reason};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreGenderClaim, CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AdditionalClaims, ClaimsVerificationError, ClientId, IdToken, IdTokenVerifier, IssuerUrl, Nonce,
    SignatureVerificationError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Claims that somebody answers for: those of a verified ID token, or of its userinfo.
pub type Claims = Map<String, Value>;

/// Longest `sub` (OpenID Connect Core §2: "MUST NOT exceed 255 ASCII characters").
const MAX_SUBJECT: usize = 255;

/// What a token must satisfy.
#[derive(Debug, Clone)]
pub struct Rules {
    issuer: Issuer,
    client_id: ClientId,
    algorithms: Vec<CoreJwsSigningAlgorithm>,
    leeway: Duration,
}

/// Whose tokens are taken.
#[derive(Debug, Clone)]
enum Issuer {
    One(IssuerUrl),
    /// Entra's tenants: each is an issuer of its own, and all sign with the same keys.
    Tenants(String, Tenants),
}

/// What stands for a tenant in the metadata of many (and is what they call their issuer).
pub const TENANT_ID: &str = "{tenantid}";

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Bad {
    /// No key of the provider has its key id: the keys may have been rotated, fetch them again.
    UnknownKey,
    /// For good.
    Refused(Denied),
}

impl From<Bad> for Denied {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::UnknownKey => Denied::because(Reason::BadToken, "the ID token's key is not among the provider's"),
            Bad::Refused(denied) => denied,
        }
    }
}

/// Whatever claims the standard does not name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Others {
    #[serde(flatten)]
    all: Claims,
}

impl AdditionalClaims for Others {}

type Token = IdToken<Others, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

impl Rules {
    /// Those of a provider.
    pub fn of(config: &OidcConfig) -> Result<Self, String> {
        let one = Self::new(&config.issuer, &config.client_id, &config.signing_algs, config.leeway.0)?;
        let Some(tenants) = config.tenants.clone() else { return Ok(one) };
        Ok(Self { issuer: Issuer::Tenants(announced(config), tenants), ..one })
    }

    /// Only asymmetric algorithms: with an HMAC, whoever knows the client's secret, or takes the
    /// public key for one, could make tokens (CVE-2025-4658); `none` is no signature at all.
    pub fn new(issuer: &str, client_id: &str, algorithms: &[String], leeway: Duration) -> Result<Self, String> {
        let algorithms = algorithms.iter().map(|a| algorithm(a)).collect::<Result<Vec<_>, _>>()?;
        if algorithms.is_empty() || client_id.is_empty() {
            return Err("an ID token cannot be verified without client_id and signing_algs".into());
        }
        let issuer = IssuerUrl::new(issuer.to_owned()).map_err(|e| format!("issuer is not a URL: {e}"))?;
        Ok(Self { issuer: Issuer::One(issuer), client_id: ClientId::new(client_id.to_owned()), algorithms, leeway })
    }

    /// Verifies `token` with `keys` and gives its claims.
    pub fn verify(&self, keys: &CoreJsonWebKeySet, token: &Opaque, now: SystemTime) -> Result<Claims, Bad> {
        let issuer = self.issuer_of(token)?;
        // The parser's own message may quote claims, so it is not passed on.
        let token = Token::from_str(token.expose()).map_err(|_| bad(Reason::BadToken, "not a well-formed ID token"))?;
        let leeway = self.leeway;
        let latest = seconds(now + leeway);
        let verifier: IdTokenVerifier<'_, CoreJsonWebKey> =
            IdTokenVerifier::new_public_client(self.client_id.clone(), issuer, keys.clone())
                .set_allowed_algs(self.algorithms.iter().cloned())
                .set_time_fn(move || now.checked_sub(leeway).unwrap_or(UNIX_EPOCH).into())
                .set_issue_time_verifier_fn(move |iat| {
                    if iat.timestamp() > latest { Err("issued in the future".into()) } else { Ok(()) }
                });
        let no_nonce = |_: Option<&Nonce>| Ok(());
        let claims = token.claims(&verifier, no_nonce).map_err(|e| classify(&e))?;

        // Core §3.1.3.7, 4 and 5. The verifier refuses every audience but ours; a token whose
        // authorised party is another client was made for that client.
        if claims.authorized_party().is_some_and(|azp| *azp != self.client_id) {
            return Err(bad(Reason::WrongAudience, "azp names another client"));
        }
        let subject = claims.subject().as_str();
        if subject.is_empty() || subject.len() > MAX_SUBJECT {
            return Err(bad(Reason::BadToken, "sub is empty or too long"));
        }
        match serde_json::to_value(claims) {
            Ok(Value::Object(claims)) => {
                self.check_not_before(&claims, latest)?;
                Ok(claims)
            }
            _ => Err(bad(Reason::BadToken, "not a well-formed ID token")),
        }
    }

    /// Who must have issued it. Of many tenants, that of the `tid` in the token, if it is one whose tokens are taken:
    /// nothing is believed by that, since the token's own `iss` must then be this tenant's, and both are signed.
    fn issuer_of(&self, token: &Opaque) -> Result<IssuerUrl, Bad> {
        #[derive(Deserialize)]
        struct Tenant {
            tid: String,
        }
        let (announced, tenants) = match &self.issuer {
            Issuer::One(issuer) => return Ok(issuer.clone()),
            Issuer::Tenants(announced, tenants) => (announced, tenants),
        };
        let body = token.expose().split('.').nth(1).and_then(|body| BASE64_URL_SAFE_NO_PAD.decode(body).ok());
        let tid = body.and_then(|body| serde_json::from_slice::<Tenant>(&body).ok()).map(|t| t.tid);
        let tid = tid.filter(|tid| is_guid(tid)).ok_or_else(|| bad(Reason::BadToken, "tid is no tenant's id"))?;
        if matches!(tenants, Tenants::These(ids) if !ids.contains(&tid)) {
            return Err(bad(Reason::NotAllowed, "tid is not among allowed_tenants"));
        }
        IssuerUrl::new(announced.replace(TENANT_ID, &tid)).map_err(|_| bad(Reason::BadToken, "iss is no URL"))
    }

    /// RFC 7519 §4.1.5.
    fn check_not_before(&self, claims: &Claims, latest: i64) -> Result<(), Bad> {
        let Some(nbf) = claims.get("nbf") else { return Ok(()) };
        match nbf.as_f64() {
            Some(nbf) if nbf <= latest as f64 => Ok(()),
            Some(_) => Err(bad(Reason::TokenExpired, "not valid yet (nbf)")),
            None => Err(bad(Reason::BadToken, "nbf is not a number")),
        }
    }
}

/// Whether verified claims were issued no longer ago than `max_age`: of a token that did not just come from the provider.
pub fn check_age(claims: &Claims, max_age: Duration, now: SystemTime) -> Result<(), Bad> {
    let issued =
        claims.get("iat").and_then(Value::as_f64).ok_or_else(|| bad(Reason::BadToken, "iat is not a number"))?;
    let oldest = seconds(now.checked_sub(max_age).unwrap_or(UNIX_EPOCH));
    if issued >= oldest as f64 { Ok(()) } else { Err(bad(Reason::TokenExpired, "issued too long ago (iat)")) }
}

/// What the metadata calls the issuer.
pub fn announced(config: &OidcConfig) -> String {
    let mut parts: Vec<_> = config.issuer.split('/').collect();
    if let (Some(_), [.., tenant, _version]) = (&config.tenants, &mut parts[..]) {
        *tenant = TENANT_ID;
    }
    parts.join("/")
}

fn algorithm(name: &str) -> Result<CoreJwsSigningAlgorithm, String> {
    match serde_json::from_value(Value::from(name)) {
        Ok(
            alg @ (CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256
            | CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384
            | CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512
            | CoreJwsSigningAlgorithm::RsaSsaPssSha256
            | CoreJwsSigningAlgorithm::RsaSsaPssSha384
            | CoreJwsSigningAlgorithm::RsaSsaPssSha512
            | CoreJwsSigningAlgorithm::EcdsaP256Sha256
            | CoreJwsSigningAlgorithm::EcdsaP384Sha384
            | CoreJwsSigningAlgorithm::EdDsa),
        ) => Ok(alg),
        _ => Err(format!("signing_algs: `{}` is not accepted", name.escape_default())),
    }
}

/// In words of ours: the crate's messages quote the token.
fn classify(error: &ClaimsVerificationError) -> Bad {
    use ClaimsVerificationError as E;
    use SignatureVerificationError as S;
    match error {
        E::Expired(why) if why.contains("future") => bad(Reason::TokenExpired, "issued in the future (iat)"),
        E::Expired(_) => bad(Reason::TokenExpired, "expired (exp)"),
        E::InvalidAudience(_) => bad(Reason::WrongAudience, "aud is not our client alone"),
        E::InvalidIssuer(_) => bad(Reason::BadToken, "iss is another issuer"),
        E::SignatureVerification(S::NoMatchingKey) => Bad::UnknownKey,
        E::SignatureVerification(S::AmbiguousKeyId(_)) => bad(Reason::BadToken, "no key id, and several keys fit"),
        E::SignatureVerification(S::NoSignature) => bad(Reason::BadToken, "not signed (alg none)"),
        E::SignatureVerification(S::DisallowedAlg(_) | S::UnsupportedAlg(_)) => {
            bad(Reason::BadToken, "its algorithm is not among signing_algs")
        }
        E::SignatureVerification(_) => bad(Reason::BadToken, "its signature is wrong"),
        E::Unsupported(_) => bad(Reason::BadToken, "its JOSE header asks for what is not supported"),
        _ => bad(Reason::BadToken, "does not verify"),
    }
}

fn bad(reason: Reason, detail: &str) -> Bad {
    Bad::Refused(Denied::because(reason, format!("ID token: {detail}")))
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const ISSUED: u64 = 1_000_000;
    const EXPIRES: u64 = 1_000_300;
    const LEEWAY: u64 = 60;

    #[derive(Deserialize)]
    struct Vectors {
        keys: CoreJsonWebKeySet,
        tokens: BTreeMap<String, String>,
    }

    fn rules(algorithms: &[&str]) -> Rules {
        let algorithms: Vec<_> = algorithms.iter().map(ToString::to_string).collect();
        Rules::new("https://sso.example", "gpuhub", &algorithms, Duration::from_secs(LEEWAY)).unwrap()
    }

    fn verify_with(rules: &Rules, token: &str, now: u64) -> Result<Claims, Bad> {
        let vectors: Vectors = serde_json::from_str(include_str!("token_vectors.json")).unwrap();
        let token = Opaque::from(vectors.tokens[token].clone());
        rules.verify(&vectors.keys, &token, UNIX_EPOCH + Duration::from_secs(now))
    }

    fn verify(token: &str, now: u64) -> Result<Claims, Bad> {
        verify_with(&rules(&["RS256", "ES256", "PS256", "EdDSA", "ES384"]), token, now)
    }

    fn reason(token: &str, now: u64) -> Reason {
        match verify(token, now).unwrap_err() {
            Bad::Refused(denied) => denied.reason,
            Bad::UnknownKey => panic!("{token}: unknown key"),
        }
    }

    #[test]
    fn every_algorithm_that_is_accepted() {
        for alg in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
            let claims = verify(alg, ISSUED).unwrap();
            assert_eq!((&claims["sub"], &claims["preferred_username"]), (&"s-1".into(), &"alice".into()), "{alg}");
            assert_eq!(claims["groups"], serde_json::json!(["ml"]));
            assert_eq!(claims["email_verified"], true, "a boolean, though it was sent as text");
        }
    }

    #[test]
    fn algorithms_are_pinned() {
        for (pinned, token) in [("RS256", "ES256"), ("ES256", "RS256"), ("RS256", "PS256"), ("ES256", "ES384")] {
            let denied: Denied = verify_with(&rules(&[pinned]), token, ISSUED).unwrap_err().into();
            assert_eq!(denied.reason, Reason::BadToken, "{token}");
        }
        assert_eq!(reason("HS256", ISSUED), Reason::BadToken, "signed with the public key as if it were a secret");
        assert_eq!(reason("alg-none", ISSUED), Reason::BadToken);
        assert_eq!(reason("alg-None", ISSUED), Reason::BadToken);
        for never in ["none", "HS256", "HS512", "ES512", "RSA-OAEP", ""] {
            let made = Rules::new("https://sso.example", "gpuhub", &[never.to_owned()], Duration::ZERO);
            assert!(made.is_err(), "{never}");
        }
        assert!(Rules::new("https://sso.example", "gpuhub", &[], Duration::ZERO).is_err());
        assert!(Rules::new("https://sso.example", "", &["RS256".to_owned()], Duration::ZERO).is_err());
    }

    #[test]
    fn what_is_not_what_was_signed() {
        for token in ["body-swapped", "signature-cut", "two-parts", "five-parts", "empty", "crit", "typ-at"] {
            assert_eq!(reason(token, ISSUED), Reason::BadToken, "{token}");
        }
        assert!(verify("jku", ISSUED).is_ok(), "signed with a key of ours; the token's own advice is not followed");
    }

    #[test]
    fn for_us_and_nobody_else() {
        for token in ["aud-list", "azp-ours"] {
            assert!(verify(token, ISSUED).is_ok(), "{token}");
        }
        for token in ["aud-two", "aud-other", "aud-none", "aud-prefix", "azp-other"] {
            assert_eq!(reason(token, ISSUED), Reason::WrongAudience, "{token}");
        }
    }

    #[test]
    fn of_this_issuer_about_somebody() {
        for token in ["iss-other", "iss-none", "sub-none", "sub-empty", "sub-long", "exp-none", "iat-none", "nbf-text"]
        {
            assert_eq!(reason(token, ISSUED), Reason::BadToken, "{token}");
        }
    }

    #[test]
    fn in_its_time_give_or_take_the_leeway() {
        assert!(verify("ES256", EXPIRES + LEEWAY - 1).is_ok());
        assert_eq!(reason("ES256", EXPIRES + LEEWAY), Reason::TokenExpired);
        assert!(verify("ES256", ISSUED - LEEWAY).is_ok());
        assert_eq!(reason("ES256", ISSUED - LEEWAY - 1), Reason::TokenExpired);
        assert!(verify("nbf-past", ISSUED).is_ok());
        assert!(verify("nbf-200", ISSUED + 200 - LEEWAY).is_ok());
        assert_eq!(reason("nbf-200", ISSUED + 200 - LEEWAY - 1), Reason::TokenExpired);
    }

    #[test]
    fn no_older_than_it_may_be() {
        let claims = verify("ES256", ISSUED).unwrap();
        let at = |now: u64| check_age(&claims, Duration::from_secs(100), UNIX_EPOCH + Duration::from_secs(now));
        assert_eq!(at(ISSUED + 100), Ok(()));
        assert!(matches!(at(ISSUED + 101), Err(Bad::Refused(d)) if d.reason == Reason::TokenExpired));
        assert!(check_age(&Claims::new(), Duration::from_secs(100), UNIX_EPOCH).is_err());
    }

    #[test]
    fn empty_claims_are_absent_ones_and_standard_claims_have_their_types() {
        let claims = verify("nulls", ISSUED).unwrap();
        assert!(["name", "email", "groups"].iter().all(|name| claims.get(*name).is_none_or(Value::is_null)));
        // The verifier reads the standard claims of Core §5.1, used or not.
        assert_eq!(reason("claims-odd", ISSUED), Reason::BadToken);
    }

    #[test]
    fn keys_are_found_by_id_or_alone() {
        assert!(verify("kid-rsa-none", ISSUED).is_ok(), "one RSA key for signatures");
        // Core §10.1: with several keys of a kind "the JWT's kid MUST be there".
        assert_eq!(reason("kid-none", ISSUED), Reason::BadToken, "two EC keys");
        for token in ["kid-unknown", "kid-enc", "kid-of-other-kind"] {
            assert_eq!(verify(token, ISSUED), Err(Bad::UnknownKey), "{token}");
        }
    }

    #[test]
    fn nothing_of_a_token_is_in_a_detail() {
        let vectors: Vectors = serde_json::from_str(include_str!("token_vectors.json")).unwrap();
        for (name, token) in &vectors.tokens {
            let Err(bad) = verify(name, EXPIRES + LEEWAY) else { panic!("{name} was not refused") };
            let detail = Denied::from(bad).detail.unwrap();
            assert!(detail.len() < 80 && detail.is_ascii(), "{detail}");
            assert!(
                token.is_empty()
                    || token.split('.').all(|part| part.is_empty() || part.len() < 5 || !detail.contains(part))
            );
        }
    }
}
