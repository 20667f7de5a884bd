//! The whole broker before a scripted provider: an address that is given to somebody else, where the box remembers
//! whose it was, where a registry does, and where nobody does.

use crate::idp::{CLIENT, Idp, token};
use crate::server::Server;
use crate::support::Broker;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const T: Duration = Duration::from_secs(20);

/// As sshd and the module go about it: the entry that she was promised, if any, and what came of it.
fn log_in(broker: &Broker) -> (Option<u32>, Code) {
    let query = UserQuery { name: Some("alice".into()), uid: None, login: true };
    let promised = broker.client().call::<UserReply>(Call::GetUser(query), T).ok().map(|reply| reply.user.uid);
    let context = Context { user: "alice".into(), service: "sshd".into(), ..Context::default() };
    let mut client = broker.client();
    let begin = Call::Begin(Begin { purpose: Purpose::Authenticate, context });
    let step: Step = client.call(begin, T).unwrap();
    assert!(matches!(step.next, Next::Prompt(_)), "{step:?}");
    let step: Step = client.call(Call::Answer(Answer { secret: Secret::new(b"").unwrap() }), T).unwrap();
    let Next::Done(code) = step.next else { panic!("{step:?}") };
    (promised, code)
}

/// A box that has known alice by her address, and its state is gone with the container; the address is another's by now.
/// What comes of her, or of him, then.
async fn after_the_state_is_lost(name: &str, registry: &str, is_she: bool) -> (u32, Option<u32>, Code, Broker) {
    let idp = Idp::start().await;
    let ca = crate::login::file(&idp.ca_pem);
    std::fs::set_permissions(&ca, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = format!(
        "{registry}[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nca_file = \"{ca}\"\n\
         name_claim = \"email\"\nallowed_domains = [\"example.org\"]\n",
        idp.issuer
    );
    let (hers, his) = (token(json!({})), token(json!({"sub": "subject-of-who-has-it-now"})));
    let name = name.to_owned();
    tokio::task::block_in_place(move || {
        let mut broker = Broker::start(&name, &config);
        idp.polls([hers.clone()]);
        let (promised, code) = log_in(&broker);
        assert_eq!(code, Code::Success, "{:#?}", broker.audit());
        idp.polls([his.clone()]);
        assert_ne!(log_in(&broker).1, Code::Success, "the state remembers her");
        broker.audited(&["name-taken", "alice"]);
        broker.kill();
        std::fs::remove_dir_all(broker.dir.join("state")).unwrap();
        std::fs::remove_dir_all(broker.dir.join("run")).unwrap();
        broker.restart();
        idp.polls([if is_she { hers } else { his }]);
        let (anew, code) = log_in(&broker);
        std::fs::remove_file(ca).unwrap();
        (promised.unwrap(), anew, code, broker)
    })
}

fn registry(server: &Server) -> String {
    let ca = server.dir.0.join("ca.pem");
    format!("[ids]\nregistry = \"{}\"\nregistry_ca_file = \"{}\"\n", server.url(), ca.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recycled_address_where_the_state_is_lost_and_a_registry_is_not() {
    let server = Server::start();
    let (uid, anew, code, broker) = after_the_state_is_lost("recycled", &registry(&server), false).await;
    assert_ne!(code, Code::Success, "{:#?}", broker.audit());
    broker.audited(&["name-taken", "alice"]);
    assert_eq!(anew, Some(uid), "what sshd is told of a name is told to whoever types it");
}

#[tokio::test(flavor = "multi_thread")]
async fn she_herself_is_who_she_was_by_the_registry() {
    let server = Server::start();
    let (uid, anew, code, broker) = after_the_state_is_lost("returning", &registry(&server), true).await;
    assert_eq!((anew, code), (Some(uid), Code::Success), "{:#?}", broker.audit());
}

/// docs/threats.md says so, and the doctor (`state-lost`): without either, whoever has the address now has her name, her id
/// and what lies in her home.
#[tokio::test(flavor = "multi_thread")]
async fn a_recycled_address_where_nothing_remembers() {
    let (uid, anew, code, broker) = after_the_state_is_lost("forgotten", "", false).await;
    assert_eq!((anew, code), (Some(uid), Code::Success), "{:#?}", broker.audit());
}
