//! A server with Entra's quirks, each from its public documents:
//!
//! - `authorization_declined`, no `verification_uri_complete`, `tenant` in the path:
//!   <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-device-code>
//! - `iss` is the person's tenant, whatever was asked; the metadata of many tenants has `{tenantid}` for it:
//!   <https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens#validate-the-issuer>
//! - `tid` and `oid`; `sub` is another one for each application; `preferred_username`; `_claim_names` for groups beyond
//!   200, or `hasgroups`: <https://learn.microsoft.com/en-us/entra/identity-platform/id-token-claims-reference>

use crate::idp::{CLIENT, Idp, Poll, Signer, signed, token};
use crate::login::{Login, of_kind};
use futures_util::future::join_all;
use gpuhubd::model::{Denied, Person, Reason};
use serde_json::{Value, json};

pub const OURS: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHERS: &str = "11111111-2222-3333-4444-555555555555";
pub const ALICE: &str = "6f1e0b2a-0000-4000-8000-0123456789ab";
pub const GROUP: &str = "0d4e2f6c-aaaa-4bbb-8ccc-dddddddddddd";

/// A directory of many tenants, whose token is alice's of `tenant`, with these changes.
pub async fn entra(tenant: &str, change: Value) -> Idp {
    let idp = Idp::start().await;
    let base = idp.issuer.clone();
    for asked in [OURS, OTHERS, "organizations", "common"] {
        let mut metadata = idp.script.lock().unwrap().metadata.clone();
        let issuer = if asked.len() == 36 { asked } else { "{tenantid}" };
        metadata["issuer"] = json!(format!("{base}/{issuer}/v2.0"));
        idp.route(&format!("/{asked}/v2.0/.well-known/openid-configuration"), move |_| {
            Poll::Json(200, metadata.clone())
        });
    }
    idp.change(|s| drop(s.device.1.as_object_mut().unwrap().remove("verification_uri_complete")));
    idp.polls([token(claims(&base, tenant, change))]);
    idp
}

/// Those of alice's token, with these changes.
pub fn claims(base: &str, tenant: &str, change: Value) -> Value {
    let mut claims = json!({
        "iss": format!("{base}/{tenant}/v2.0"), "tid": tenant, "oid": ALICE, "sub": "pairwise", "ver": "2.0",
        "preferred_username": "Alice@contoso.example", "email": null, "email_verified": null, "groups": [GROUP],
    });
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

async fn login(idp: &Idp, lines: &str) -> Result<Person, Denied> {
    let lines = format!("host = \"HOST\"\nstrip_domains = [\"contoso.example\"]\n{lines}");
    Login::plan().run(&of_kind(idp, "entra", &lines)).await.result
}

fn one() -> String {
    format!("tenant = \"{OURS}\"")
}

#[tokio::test]
async fn a_person_of_the_tenant() {
    let idp = entra(OURS, json!({})).await;
    let person = login(&idp, &one()).await.unwrap();
    assert_eq!(person.name.as_str(), "alice");
    assert_eq!(person.key.subject, format!("{OURS}/{ALICE}"));
    assert_eq!(person.key.issuer, format!("{}/{OURS}/v2.0", idp.issuer));
    assert_eq!(person.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), [GROUP]);
    assert_eq!(idp.seen("/device/auth")[0].form["client_id"], CLIENT);
    assert!(idp.seen("/userinfo").is_empty(), "it has nothing that the ID token leaves out");
    // Groups have ids there; what they are called here is a rule's to say.
    let named = format!(
        "{}\nrequired_groups = [\"{GROUP}\"]\ngroup_rules = [{{ match = \"{GROUP}\", name = \"gpu-users\" }}]",
        one()
    );
    let person = login(&idp, &named).await.unwrap();
    assert_eq!(person.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["gpu-users"]);
}

#[tokio::test]
async fn tenants_that_are_listed_and_no_others() {
    let many = |tenants: &str| format!("tenant = \"organizations\"\nallowed_tenants = [\"{tenants}\"]");
    let idp = entra(OURS, json!({})).await;
    let person = login(&idp, &many(OURS)).await.unwrap();
    assert_eq!(person.key.subject, format!("{OURS}/{ALICE}"));
    assert_eq!(person.key.issuer, format!("{}/organizations/v2.0", idp.issuer), "whoever's tenant she is of");
    assert!(login(&idp, "tenant = \"common\"\nallow_anyone = true").await.is_ok());
    let denied = login(&idp, &many(OTHERS)).await.unwrap_err();
    assert!(denied.reason == Reason::NotAllowed && denied.detail.unwrap().contains("allowed_tenants"));
    let theirs = entra(OTHERS, json!({})).await;
    assert_eq!(login(&theirs, &one()).await.unwrap_err().reason, Reason::BadToken, "another issuer");

    // What a token says of its tenant must be what signed it: `tid` alone opens nothing.
    let other_tids = [
        json!({"tid": OURS}),
        json!({"tid": null}),
        json!({"tid": "72f988bf"}),
        json!({"tid": format!("{OURS}/../{OTHERS}")}),
        json!({"tid": [OURS]}),
    ];
    join_all(other_tids.map(|change| async move {
        let idp = entra(OTHERS, change.clone()).await;
        let lines = format!("tenant = \"organizations\"\nallowed_tenants = [\"{OURS}\"]");
        assert_eq!(login(&idp, &lines).await.unwrap_err().reason, Reason::BadToken, "{change}");
    }))
    .await;
    let forged = entra(OURS, json!({})).await;
    let claims = json!({"iss": format!("{}/{OURS}/v2.0", forged.issuer), "tid": OURS, "oid": ALICE});
    forged.polls([signed(claims, Signer::Key("b"), "a")]);
    assert_eq!(login(&forged, &many(OURS)).await.unwrap_err().reason, Reason::BadToken);
}

#[tokio::test]
async fn too_many_groups_for_a_token() {
    for overage in [
        json!({"groups": null, "_claim_names": {"groups": "src1"},
               "_claim_sources": {"src1": {"endpoint": "https://graph.microsoft.com/v1.0/users/x/getMemberObjects"}}}),
        json!({"groups": null, "hasgroups": true}),
    ] {
        let idp = entra(OURS, overage).await;
        let denied = login(&idp, &one()).await.unwrap_err();
        assert_eq!(denied.reason, Reason::NotAllowed);
        assert!(denied.detail.unwrap().contains("groups"));
        assert!(
            login(&idp, &format!("{}\ngroups_claim = []", one())).await.is_ok(),
            "where groups are none of gpuhub's"
        );
    }
}

#[tokio::test]
async fn guests_addresses_and_missing_ids() {
    for (change, reason) in [
        (json!({"preferred_username": "alice@gmail.com"}), Reason::WrongSubject),
        (json!({"oid": null}), Reason::BadToken),
        (json!({"oid": ""}), Reason::BadToken),
    ] {
        let idp = entra(OURS, change.clone()).await;
        assert_eq!(login(&idp, &one()).await.unwrap_err().reason, reason, "{change}");
    }
    // An address that Entra does not say it has verified is what its owner typed.
    let idp = entra(OURS, json!({"email": "alice@contoso.example"})).await;
    let denied = login(&idp, &format!("{}\nname_claim = \"email\"", one())).await.unwrap_err();
    assert_eq!(denied.reason, Reason::NotAllowed);
}

#[tokio::test]
async fn declined_in_entra_s_words() {
    for (word, reason) in
        [("authorization_declined", Reason::DeniedByUser), ("bad_verification_code", Reason::BadToken)]
    {
        let idp = entra(OURS, json!({})).await;
        idp.polls([crate::idp::error(word)]);
        assert_eq!(login(&idp, &one()).await.unwrap_err().reason, reason);
    }
}
