//! People of Keycloak before they log in: a server that answers as its public documents say.
//!
//! - Admin REST API: `GET /admin/realms/{realm}/users` with `username`, `email`, `exact`, `q`, `first`, `max`,
//!   `briefRepresentation`; `GET …/users/{id}/groups`; `GET …/users/{id}/role-mappings/realm/composite`,
//!   `…/clients/{client-uuid}/composite`; `GET …/clients?clientId=`; UserRepresentation, GroupRepresentation,
//!   RoleRepresentation: <https://www.keycloak.org/docs-api/latest/rest-api/index.html>
//! - a client's service account, and the roles of `realm-management`:
//!   <https://www.keycloak.org/docs/latest/server_admin/#_service_accounts>,
//!   <https://www.keycloak.org/docs/latest/server_admin/#_per_realm_admin_permissions>
//! - the client credentials grant: RFC 6749 §4.4
//! - Retry-After, 429: RFC 9110 §10.2.3, RFC 6585 §4

use crate::engine::Box_;
use crate::idp::{Idp, Poll, SECRET, Seen, token};
use crate::login::{file, of_kind};
use gpuhub_common::wire::Code;
use gpuhubd::engine::LookupError;
use gpuhubd::provider::Provider;
use gpuhubd::provider::oidc::OidcProvider;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const USERS: &str = "/admin/realms/lab/users";
const ALICE: &str = "8f2b3c1e-0000-4000-8000-00000000a11c";

/// The realm `lab`, and what its server does.
struct Realm {
    idp: Idp,
    users: Arc<Mutex<Vec<Value>>>,
    /// The next access token for the service account; the one before is no longer taken.
    tokens: Arc<AtomicUsize>,
}

fn user(id: &str, username: &str, more: Value) -> Value {
    let mut user = json!({
        "id": id, "username": username, "firstName": "Alice", "lastName": "Archer", "enabled": true, "totp": false,
        "email": format!("{username}@example.org"), "emailVerified": true, "createdTimestamp": 1_700_000_000_000u64,
        "access": {"view": true, "manage": false},
    });
    user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    user
}

fn parameter(seen: &Seen, name: &str) -> Option<String> {
    let value = seen.query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%40", "@").replace("%3A", ":").replace("%20", " "))
}

fn page(seen: &Seen, rows: &[Value]) -> Poll {
    let number = |name, otherwise| parameter(seen, name).map_or(otherwise, |n| n.parse().unwrap());
    Poll::Json(200, rows.iter().skip(number("first", 0)).take(number("max", 100)).cloned().collect())
}

impl Realm {
    /// With alice, whose groups are many.
    async fn start() -> Self {
        let idp = Idp::start().await;
        let issuer = format!("{}/realms/lab", idp.issuer);
        let mut metadata = idp.script.lock().unwrap().metadata.clone();
        metadata["issuer"] = json!(issuer);
        idp.route("/realms/lab/.well-known/openid-configuration", move |_| Poll::Json(200, metadata.clone()));
        let realm = Self {
            idp,
            users: Arc::new(Mutex::new(vec![user(ALICE, "alice", json!({}))])),
            tokens: Arc::new(AtomicUsize::new(1)),
        };
        realm.signs_in(json!({}));
        let users = realm.users.clone();
        realm.route(USERS, move |seen| {
            let wanted = [("username", "username"), ("email", "email")];
            let is_it = |user: &&Value| {
                let by = wanted.iter().all(|(p, key)| parameter(seen, p).is_none_or(|v| user[key] == json!(v)));
                let q = parameter(seen, "q");
                let by_attribute = q.as_deref().and_then(|q| q.split_once(':')).is_none_or(|(name, value)| {
                    user["attributes"][name].as_array().is_some_and(|all| all.contains(&json!(value)))
                });
                by && by_attribute
            };
            page(seen, &users.lock().unwrap().iter().filter(is_it).cloned().collect::<Vec<_>>())
        });
        let groups = |n: usize| json!({"id": n.to_string(), "name": format!("g{n}"), "path": format!("/lab/g{n}")});
        let many: Vec<_> = (0..130).map(groups).chain([json!({"id": "x", "name": "ml", "path": "/ml"})]).collect();
        realm.route(&format!("{USERS}/{ALICE}/groups"), move |seen| page(seen, &many));
        for other in ["another", "r"] {
            realm.route(&format!("{USERS}/{other}/groups"), |_| Poll::Json(200, json!([])));
        }
        realm
    }

    /// Approves each device login, with alice's token and these changes.
    fn signs_in(&self, change: Value) {
        let issuer = format!("{}/realms/lab", self.idp.issuer);
        let (tokens, groups) = (self.tokens.clone(), json!(["/ml"]));
        self.idp.route("/token", move |seen| {
            if seen.form["grant_type"] == "client_credentials" {
                let n = tokens.load(Ordering::SeqCst);
                return Poll::Json(
                    200,
                    json!({"access_token": format!("sa-{n}"), "expires_in": 300, "token_type": "Bearer"}),
                );
            }
            let mut claims = json!({"iss": issuer, "sub": ALICE, "groups": groups, "name": "Alice Archer"});
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            token(claims)
        });
    }

    /// To whoever has the token of the service account.
    fn route(&self, path: &str, answer: impl Fn(&Seen) -> Poll + Send + 'static) {
        let tokens = self.tokens.clone();
        self.idp.route(path, move |seen| {
            let token = format!("Bearer sa-{}", tokens.load(Ordering::SeqCst));
            if seen.authorization == token {
                answer(seen)
            } else {
                Poll::Json(401, json!({"error": "HTTP 401 Unauthorized"}))
            }
        });
    }

    fn set(&self, users: impl IntoIterator<Item = Value>) {
        *self.users.lock().unwrap() = users.into_iter().collect();
    }

    /// The API answers so, for now.
    fn is_unwell(&self, answer: Poll) {
        self.idp.route(USERS, move |_| answer.clone());
    }

    fn provider(&self, lines: &str, directory: &str) -> OidcProvider {
        let secret = file(SECRET);
        let lines = format!(
            "issuer = \"https://HOST/realms/lab\"\n{lines}\n[provider.directory]\nclient_id = \"reader\"\n\
             client_secret_file = \"{secret}\"\n{directory}\n"
        );
        let provider = of_kind(&self.idp, "keycloak", &lines);
        std::fs::remove_file(secret).unwrap();
        provider
    }

    /// A box of its people that forgets at once what was said.
    fn a_box(&self, lines: &str) -> Box_ {
        Box_::of(self.provider(lines, "cache_ttl = \"0s\""))
    }
}

const RULES: &str = "allow_anyone = true\ngroup_rules = [{ match = 'lab/(.*)', name = 'lab.$1' }]";

#[tokio::test(flavor = "multi_thread")]
async fn known_before_she_logs_in_and_the_same_after_it() {
    let realm = Realm::start().await;
    let b = Box_::of(realm.provider(RULES, ""));
    let before = b.user("alice").await.unwrap();
    assert_eq!((before.name.as_str(), before.gecos.as_str()), ("alice", "Alice Archer"));
    let groups = b.groups("alice").await;
    assert_eq!((groups.len(), groups[0].as_str(), groups[130].as_str()), (131, "lab.g0", "ml"), "both pages");
    assert_eq!(b.group("ml").await.unwrap().members, ["alice"]);
    assert_eq!(b.uid(before.uid).await.unwrap(), before);
    assert_eq!(b.user("nobody").await, Err(LookupError::NoSuchEntry));
    assert_eq!(b.uid(1_234_567_890).await, Err(LookupError::NoSuchEntry), "uids follow from names");

    let (code, prompts) = b.log_in("alice").await;
    assert_eq!(code, Code::Success);
    assert!(prompts.len() == 1 && prompts[0].contains("WDJB-MJHT"), "a code all the same: {prompts:?}");
    assert_eq!(b.user("alice").await.unwrap(), before);
    assert_eq!(b.groups("alice").await, groups, "of her token's groups, which are fewer, nothing is seen");
    assert_eq!(b.by_key("alice").await, Code::Success);

    // RFC 6749 §4.4.2, §2.3.1: asked for once, by the client's secret.
    let asked: Vec<_> =
        realm.idp.seen("/token").into_iter().filter(|s| s.form["grant_type"] == "client_credentials").collect();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].authorization.starts_with("Basic cmVhZGVyOn"), "reader:…");
    let searched = &realm.idp.seen(USERS)[0];
    assert_eq!(searched.query, "username=alice&exact=true&briefRepresentation=false&max=100");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_fetched_again_once() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    assert!(b.user("alice").await.is_ok());
    realm.tokens.fetch_add(1, Ordering::SeqCst);
    assert!(b.user("alice").await.is_ok(), "another token");
    let tokens = |realm: &Realm| realm.idp.seen("/token").len();
    assert_eq!(tokens(&realm), 2);
    realm.is_unwell(Poll::Json(401, json!({"error": "HTTP 401 Unauthorized"})));
    assert_eq!(b.user("bob").await, Err(LookupError::Unavailable));
    assert!(tokens(&realm) <= 3, "not again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_and_deleted_and_renamed() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    let before = b.user("alice").await.unwrap();
    realm.set([user(ALICE, "alice", json!({"enabled": false}))]);
    assert_eq!(b.user("alice").await.unwrap(), before, "her files are still hers");
    assert_eq!(b.by_key("alice").await, Code::AcctExpired);
    assert_eq!(b.log_in("alice").await.0, Code::AcctExpired, "whatever her token says");
    realm.set([user("another", "bob", json!({}))]);
    assert_eq!(b.user("alice").await, Err(LookupError::NoSuchEntry));
    assert_eq!(b.by_key("alice").await, Code::PermDenied);

    // Somebody else has her name now; and she herself another one, which is not believed.
    realm.set([user("another", "alice", json!({})), user(ALICE, "alicia", json!({}))]);
    assert_eq!(b.user("alice").await, Err(LookupError::NoSuchEntry));
    assert_eq!(b.user("alicia").await, Err(LookupError::NoSuchEntry));
    assert_eq!(b.by_key("alice").await, Code::PermDenied);
    realm.set([user(ALICE, "alice", json!({}))]);
    tokio::time::sleep(Duration::from_millis(2100)).await; // what is absent is remembered
    assert_eq!(b.user("alice").await.unwrap(), before, "the same again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_directory_says_when_she_comes_back_counts() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    assert_eq!(b.log_in("alice").await.0, Code::Success);
    let (users, device) = (realm.users.clone(), realm.idp.script.lock().unwrap().device.1.clone());
    realm.idp.route("/device/auth", move |_| {
        *users.lock().unwrap() = vec![user(ALICE, "alice", json!({"enabled": false}))];
        Poll::Json(200, device.clone())
    });
    assert_eq!(b.log_in("alice").await.0, Code::AcctExpired);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_restrictions_refuse_is_known_and_refused() {
    let realm = Realm::start().await;
    let b = realm.a_box("required_groups = [\"gpu-users\"]");
    assert!(b.user("alice").await.is_ok());
    assert_eq!(b.by_key("alice").await, Code::PermDenied);
    realm.signs_in(json!({"groups": ["/gpu-users"]}));
    assert_eq!(b.log_in("alice").await.0, Code::PermDenied, "an old token's word does not help");
    let b = realm.a_box("required_groups = [\"ml\"]");
    assert!(b.user("alice").await.is_ok());
    assert_eq!(b.by_key("alice").await, Code::Success);
    realm.signs_in(json!({"groups": ["/other"]}));
    assert_eq!(b.log_in("alice").await.0, Code::PermDenied, "nor the directory's alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_person_is_not_hers() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    assert!(b.user("alice").await.is_ok());
    for change in [json!({"sub": "another"}), json!({"preferred_username": "bob"})] {
        realm.signs_in(change);
        assert_eq!(b.log_in("alice").await.0, Code::AuthErr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_shown_a_code_like_anybody() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    realm.signs_in(json!({"preferred_username": "mallory"}));
    assert_eq!(b.user_at_login("mallory").await, Err(LookupError::NoSuchEntry));
    let (code, prompts) = b.log_in("mallory").await;
    assert!(prompts[0].contains("WDJB-MJHT"), "a stranger cannot tell who exists");
    assert_eq!(code, Code::UserUnknown, "though her token is right: the directory does not have her");
    // Other names than people have there are asked for nowhere.
    let before = realm.idp.seen(USERS).len();
    assert_eq!(b.user("UPPER").await, Err(LookupError::NoSuchEntry));
    assert_eq!(realm.idp.seen(USERS).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_by_the_rules_of_tokens() {
    let realm = Realm::start().await;
    let rules = "strip_domains = [\"example.org\"]\nallow_anyone = true\nname_suffix = \"@lab\"";
    realm.set([user(ALICE, "alice@example.org", json!({}))]);
    let b = realm.a_box(rules);
    let before = b.user("alice@lab").await.unwrap();
    realm.signs_in(json!({"preferred_username": "alice@example.org"}));
    assert_eq!(b.log_in("alice@lab").await.0, Code::Success);
    assert_eq!(b.user("alice@lab").await.unwrap().uid, before.uid);
    for other in ["alice", "alice@example.org@lab", "alice@example.org"] {
        assert_eq!(b.user(other).await, Err(LookupError::NoSuchEntry), "{other}");
    }
    // Two people who come out as one name are neither of them.
    realm.set([user(ALICE, "alice@example.org", json!({})), user("other", "alice", json!({}))]);
    let b = realm.a_box(rules);
    assert_eq!(b.user("alice@lab").await, Err(LookupError::Unavailable));

    // By address: verified, and of a domain that names people.
    let by_mail = "name_claim = \"email\"\nallowed_domains = [\"example.org\"]";
    realm.set([user(ALICE, "x17", json!({"email": "alice@example.org"}))]);
    assert!(realm.a_box(by_mail).user("alice").await.is_ok());
    realm.set([user(ALICE, "x17", json!({"email": "alice@example.org", "emailVerified": false}))]);
    assert_eq!(realm.a_box(by_mail).user("alice").await, Err(LookupError::NoSuchEntry));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_out_as_another_name_is_nobody() {
    let realm = Realm::start().await;
    // A server that takes no notice of exact=true.
    let odd = json!([user(ALICE, "alice2", json!({})), user("x", "ALICE", json!({}))]);
    realm.route(USERS, move |_| Poll::Json(200, odd.clone()));
    let b = realm.a_box("allow_anyone = true");
    assert_eq!(b.user("alice").await, Err(LookupError::NoSuchEntry));
    // Accounts that clients act by, and names of the system.
    let service = user("s", "deploy", json!({"serviceAccountClientId": "deploy"}));
    realm.route(USERS, move |seen| match parameter(seen, "username").as_deref() {
        Some("deploy") => Poll::Json(200, json!([service])),
        Some("service-account-x") => Poll::Json(200, json!([user("t", "service-account-x", json!({}))])),
        other => Poll::Json(200, json!([user("r", other.unwrap_or("x"), json!({}))])),
    });
    for name in ["deploy", "service-account-x", "root", "daemon"] {
        assert_eq!(b.user(name).await, Err(LookupError::NoSuchEntry), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_by_claim_are_attributes_there() {
    let realm = Realm::start().await;
    let lines = "allow_anyone = true\nuid_claim = \"uid_number\"";
    realm.set([user(ALICE, "alice", json!({"attributes": {"uid_number": ["20001"], "sub": ["x"]}}))]);
    let b = realm.a_box(lines);
    assert_eq!(b.uid(20001).await.unwrap().name, "alice", "nobody asked for her by name");
    assert_eq!(b.uid(20002).await, Err(LookupError::NoSuchEntry));
    assert_eq!(realm.idp.seen(USERS)[0].query, "q=uid_number%3A20001&exact=true&briefRepresentation=false&max=100");
    realm.set([user(ALICE, "alice", json!({}))]);
    assert_eq!(realm.a_box(lines).user("alice").await, Err(LookupError::NoSuchEntry), "no uid, no entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_groups_where_they_are_in_tokens() {
    let realm = Realm::start().await;
    let role = |name: &str| json!({"id": name, "name": name, "composite": false, "clientRole": false});
    let roles = json!([role("lab-staff"), role("offline_access")]);
    realm.route(&format!("{USERS}/{ALICE}/role-mappings/realm/composite"), move |_| Poll::Json(200, roles.clone()));
    let clients = json!([{"id": "uuid-of-hub", "clientId": "gpu.hub"}]);
    realm.route("/admin/realms/lab/clients", move |seen| {
        assert_eq!(seen.query, "clientId=gpu.hub");
        Poll::Json(200, clients.clone())
    });
    let roles = json!([role("ops")]);
    let path = format!("{USERS}/{ALICE}/role-mappings/clients/uuid-of-hub/composite");
    realm.route(&path, move |_| Poll::Json(200, roles.clone()));
    let lines = "allow_anyone = true\ngroups_claim = ['realm_access.roles', 'resource_access.gpu\\.hub.roles']\n\
                 group_rules = [{ match = 'offline_access' }]";
    let b = realm.a_box(lines);
    assert!(b.user("alice").await.is_ok());
    assert_eq!(b.groups("alice").await, ["lab-staff", "ops"]);
    // Without their paths, if so they are in tokens.
    let b = Box_::of(realm.provider("allow_anyone = true", "full_group_paths = false"));
    assert!(b.user("alice").await.is_ok() && b.groups("alice").await.contains(&"g129".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_directory_is_away() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    let before = b.user("alice").await.unwrap();
    let odd = [
        (Poll::Json(500, json!({})), true),
        (Poll::HangUp, true),
        (Poll::Text(200, "text/html", "<html>".into()), false),
        (Poll::Raw(302, "Location: https://127.0.0.1:1/\r\n".into(), ""), false),
        (Poll::Json(200, json!([{"id": ALICE, "username": "alice"}])), false),
        (Poll::Text(200, "application/json", format!("[{}]", " ".repeat(1 << 20))), false),
        (Poll::Json(403, json!({"error": "HTTP 403 Forbidden"})), false),
    ];
    for (answer, is_away) in odd {
        realm.is_unwell(answer);
        assert_eq!(b.user("bob").await, Err(LookupError::Unavailable), "not known, and not known to be nobody");
        assert_eq!(b.provider.is_away(), is_away);
        assert_eq!(b.user("alice").await.unwrap(), before, "known people keep resolving");
        assert_eq!(b.by_key("alice").await, Code::AuthinfoUnavail, "no word of the provider's");
        assert_eq!(b.log_in("alice").await.0, Code::Success, "a token is the provider's own word");
        assert_eq!(b.log_in("bob").await.0, Code::AuthinfoUnavail, "of whom nothing is known");
        assert_eq!(b.user("alice").await.unwrap().uid, before.uid);
    }
}

/// With `ask_again` the provider itself is asked whether she may come in by a key, whatever becomes of its API.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_directory_is_away_and_the_provider_is_asked_again() {
    for (grace, in_grace) in [("8h", Code::Success), ("0s", Code::AuthinfoUnavail)] {
        let realm = Realm::start().await;
        let issuer = format!("{}/realms/lab", realm.idp.issuer);
        let (id_token, sa) = (realm.idp.id_token(&token(json!({"iss": issuer, "sub": ALICE}))), realm.tokens.clone());
        realm.idp.route("/token", move |seen| match seen.form["grant_type"].as_str() {
            "client_credentials" => {
                Poll::Json(200, json!({"access_token": format!("sa-{}", sa.load(Ordering::SeqCst)), "expires_in": 300}))
            }
            _ => Poll::Json(200, json!({"access_token": "a", "id_token": id_token, "refresh_token": "r"})),
        });
        let b = realm.a_box(&format!("allow_anyone = true\nask_again = \"0s\"\ngrace = \"{grace}\""));
        b.user("alice").await.unwrap();
        assert_eq!(b.by_key("alice").await, Code::AuthErr, "a key is no first proof, whatever the directory says");
        assert_eq!(b.log_in("alice").await.0, Code::Success);
        let polls =
            |realm: &Realm| realm.idp.seen("/token").iter().filter(|s| s.form["grant_type"] == "refresh_token").count();
        realm.is_unwell(Poll::Json(500, json!({})));
        let before = polls(&realm);
        assert_eq!((b.by_key("alice").await, polls(&realm)), (Code::Success, before + 1));
        assert_eq!(b.by_key("bob").await, Code::AuthinfoUnavail, "of whom nothing is known");
        realm.idp.route("/token", |_| Poll::Json(503, json!({})));
        assert_eq!(b.by_key("alice").await, in_grace);
    }
    // Whom the directory has refused is not let in by what the provider said before that.
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true\nask_again = \"5m\"");
    assert_eq!(b.log_in("alice").await.0, Code::Success);
    realm.set([user(ALICE, "alice", json!({"enabled": false}))]);
    assert_eq!(b.by_key("alice").await, Code::AcctExpired);
    realm.is_unwell(Poll::Json(500, json!({})));
    assert_ne!(b.by_key("alice").await, Code::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_hangs_is_waited_for_as_configured() {
    let realm = Realm::start().await;
    let b = Box_::of(realm.provider("allow_anyone = true\ntimeout = \"500ms\"", ""));
    realm.is_unwell(Poll::Hang);
    let start = std::time::Instant::now();
    assert_eq!(b.user("alice").await, Err(LookupError::Unavailable));
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_none_for_as_long_as_it_says() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    realm.is_unwell(Poll::Raw(429, "Retry-After: 3\r\n".into(), "slow down"));
    assert_eq!(b.user("alice").await, Err(LookupError::Unavailable));
    let users = realm.users.clone();
    realm.route(USERS, move |seen| page(seen, &users.lock().unwrap()));
    assert_eq!(b.user("alice").await, Err(LookupError::Unavailable));
    assert_eq!(realm.idp.seen(USERS).len(), 1, "it is left alone");
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert!(b.user("alice").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_search_and_not_view_is_not_told_of_nobody() {
    let realm = Realm::start().await;
    let b = realm.a_box("allow_anyone = true");
    assert!(b.user("alice").await.is_ok());
    let b2 = realm.a_box("allow_anyone = true");
    // query-users without view-users: 200, and a list without those whom it may not see.
    realm.is_unwell(Poll::Json(200, json!([])));
    assert_eq!(b2.user("alice").await, Err(LookupError::Unavailable));
    let findings = b2.provider.check().await;
    let refused = findings.iter().find(|f| f.id == "oidc-directory-refused").unwrap();
    assert!(refused.what.contains("view-users") && refused.remedy.contains("realm-management"), "{refused:?}");
    assert!(b.user("alice").await.is_ok(), "nor is she taken for gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_the_directory() {
    let realm = Realm::start().await;
    let provider = realm.provider("allow_anyone = true", "");
    let ids = |findings: Vec<gpuhubd::finding::Finding>| {
        findings.into_iter().map(|f| f.id).filter(|id| id.starts_with("oidc-directory")).collect::<Vec<_>>()
    };
    assert_eq!(ids(provider.check().await), ["oidc-directory"]);
    realm.is_unwell(Poll::Json(403, json!({"error": "HTTP 403 Forbidden"})));
    assert_eq!(ids(provider.check().await), ["oidc-directory-refused"]);
    realm.is_unwell(Poll::Json(502, json!({})));
    assert_eq!(ids(provider.check().await), ["oidc-directory-unreachable"]);
    let realm = Realm::start().await;
    realm.idp.route("/token", |_| Poll::Json(401, json!({"error": "unauthorized_client"})));
    let findings = realm.provider("allow_anyone = true", "").check().await;
    let refused = findings.iter().find(|f| f.id == "oidc-directory-refused").unwrap();
    assert!(refused.what.contains("unauthorized_client"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_the_provider_s_own_client_does_as_well() {
    let realm = Realm::start().await;
    let secret = file(SECRET);
    let lines = format!(
        "issuer = \"https://HOST/realms/lab\"\nallow_anyone = true\nclient_secret_file = \"{secret}\"\n[provider.directory]"
    );
    let b = Box_::of(of_kind(&realm.idp, "keycloak", &lines));
    std::fs::remove_file(secret).unwrap();
    assert!(b.user("alice").await.is_ok());
    assert!(realm.idp.seen("/token")[0].authorization.starts_with("Basic Z3B1aHViLXRlc3Q6"), "gpuhub-test:…");
}
