//! OpenID Connect and OAuth 2.0 providers, by the device authorization grant (RFC 8628). Of which kind one is, and what
//! that changes, is a table: `crate::config::PROFILES`.
//!
//! ```text
//!   device.rs    a code for the person            POST device_authorization_endpoint
//!   prompt.rs    box, source, URL, code, QR       one prompt, while …
//!   poll.rs      … the broker asks for tokens     POST token_endpoint
//!   identity.rs  what they say, by the proof of the provider's kind:
//!     token.rs     the ID token verifies, or not    keys by documents.rs
//!     github.rs    its API
//!   again.rs     asked again, later, whether she may still come in
//!   claims.rs    who that is; it must be who was asked for (join.rs): names.rs, groups.rs
//! ```
//!
//! Nobody is known before a login (known people come from the broker's own bindings), unless the provider has an API
//! that says who its people are, and is configured to be asked by it: directory/.

mod again;
mod check;
mod claims;
mod device;
mod directory;
mod documents;
mod github;
mod groups;
mod http;
mod identity;
mod join;
mod names;
mod opaque;
mod pending;
mod poll;
mod prompt;
mod qr;
mod shared;
mod shown;
mod token;
#[cfg(test)]
mod trial;

pub use opaque::Opaque;
pub use poll::Tokens;

use super::grant::{AskAgain, Kept};
use super::join::Sought;
use super::{Authenticated, Origin, Provider, Which, Who};
use crate::config::{OidcConfig, Proof};
use crate::dialog::Dialog;
use crate::finding::Finding;
use crate::model::{Denied, DirectoryGroup, Method, Person, Reason, Unavailable};
use async_trait::async_trait;
use device::Grant;
use directory::Directory;
use documents::Documents;
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use http::{Credentials, Http};
use pending::{Caps, Pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use token::Rules;

/// How long after its code has expired a login waits for an Enter: she may have approved in the last
/// second. Then it is over, so that a prompt that nobody answers keeps no place for ever.
const LAST_CALL: Duration = Duration::from_secs(120);

/// One provider.
#[derive(Debug)]
pub struct OidcProvider {
    config: Box<OidcConfig>,
    /// Separated by spaces; with ID tokens `openid` is among them.
    scopes: String,
    credentials: Credentials,
    rules: Rules,
    http: Arc<Http>,
    documents: Arc<Documents>,
    /// People before they log in.
    directory: Option<Directory>,
    pending: Arc<Pending>,
}

impl OidcProvider {
    /// As the configuration says; asks nothing of the network.
    pub fn new(config: impl Into<Box<OidcConfig>>) -> Result<Self, String> {
        let config = config.into();
        let secret = config.client_secret_file.as_ref().map(|file| {
            let text = file.secret().expose_str().ok_or("client_secret_file is not text")?;
            Ok::<_, String>(Opaque::from(text.to_owned()))
        });
        let http = Arc::new(Http::new(&config)?);
        let documents = Arc::new(Documents::new(http.clone(), &config));
        Ok(Self {
            scopes: scopes(&config),
            credentials: Credentials {
                id: config.client_id.clone(),
                secret: secret.transpose()?,
                in_form: config.profile.secret_in_form,
            },
            rules: Rules::of(&config)?,
            directory: Directory::new(&config, &http, &documents)?,
            documents,
            pending: Pending::new(Caps::default()),
            http,
            config,
        })
    }

    /// The directory of its people, if they are people here.
    fn people(&self) -> Option<&Directory> {
        self.directory.as_ref().filter(|_| self.config.has_people)
    }

    /// Shows the code and waits for both the person's Enter and the end of the polling. What the
    /// polling ended with, good or bad, is told once she presses Enter: a prompt cannot be taken back.
    /// `Err`: she did not.
    async fn converse(
        &self,
        name: &UserName,
        origin: &Origin,
        dialog: &mut Dialog,
        grant: &Grant,
        outcome: impl Future<Output = Result<Authenticated, Denied>>,
    ) -> Result<Result<Authenticated, Denied>, Denied> {
        let text = prompt::text(name, origin, grant, self.config.qr);
        let last_call = grant.since + grant.life + LAST_CALL;
        let asked = async {
            let enter = dialog.ask(true, &text, self.patience(grant));
            match tokio::time::timeout_at(last_call, enter).await {
                // What she types besides is of no interest.
                Ok(answer) => answer.map(drop),
                Err(_) => Err(Denied::because(Reason::CodeExpired, "nobody pressed Enter")),
            }
        };
        let (mut asked, mut outcome) = (pin!(asked), pin!(outcome));
        tokio::select! {
            enter = &mut asked => {
                enter?;
                Ok(outcome.await)
            }
            end = &mut outcome => {
                asked.await?;
                Ok(end)
            }
        }
    }

    /// How long the broker may take after Enter: as long as the code lives, and then for the last
    /// poll, keys and userinfo.
    fn patience(&self, grant: &Grant) -> u32 {
        let left = grant.life.saturating_sub(grant.since.elapsed());
        let time = left + self.config.timeout.0 * 4 + Duration::from_secs(5);
        u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
    }
}

#[async_trait]
impl Provider for OidcProvider {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn kind(&self) -> &'static str {
        self.config.profile.kind
    }

    fn issuer(&self) -> &str {
        &self.config.issuer
    }

    fn method(&self) -> Method {
        Method::DeviceCode
    }

    fn has_people(&self) -> bool {
        self.config.has_people
    }

    fn is_complete(&self) -> bool {
        !self.config.has_people
    }

    fn knows_people(&self) -> bool {
        self.people().is_some()
    }

    /// They come with each of her logins and lookups.
    fn refreshes_groups(&self) -> bool {
        false
    }

    fn cache_ttl(&self) -> Option<Duration> {
        self.people()?;
        self.config.directory.as_ref().map(|directory| directory.cache_ttl.0)
    }

    fn is_away(&self) -> bool {
        self.people().is_some_and(Directory::is_away)
    }

    async fn find(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        match self.people() {
            Some(directory) => directory.find(&self.config, who, true).await,
            None => Ok(None),
        }
    }

    async fn look_up(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        match self.people() {
            Some(directory) => directory.find(&self.config, who, false).await,
            None => Ok(None),
        }
    }

    async fn find_group(&self, _which: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable> {
        Ok(None)
    }

    fn may_become(&self, name: &UserName) -> bool {
        self.config.has_people && names::may_become(&self.config, name.as_str())
    }

    async fn device_login(
        &self,
        sought: Sought<'_>,
        origin: &Origin,
        dialog: &mut Dialog,
    ) -> Result<Authenticated, Denied> {
        let name = sought.name;
        let _slot = self.pending.enter(name, origin.source.as_deref())?;
        let metadata = self.documents.metadata().await?;
        let Some(endpoint) = &metadata.device_authorization_endpoint else {
            return Err(Denied::because(Reason::BackendUnavailable, "the provider offers no device grant"));
        };
        let mut is_last = false;
        loop {
            let grant = device::request(&self.http, endpoint, &self.credentials, &self.scopes).await?;
            // Boxed is what a login need not hold while it waits for her: there may be a thousand.
            let outcome = Box::pin(async {
                // The keys are fetched while she is at her browser; if that fails, verifying tries again.
                let keys = async {
                    if self.config.profile.proof == Proof::IdToken {
                        let _ = Box::pin(self.documents.keys(&metadata)).await;
                    }
                };
                let tokens = poll::tokens(&self.http, &metadata.token_endpoint, &self.credentials, &grant);
                let ((), tokens) = tokio::join!(keys, tokens);
                let tokens = tokens?;
                let person =
                    Box::pin(self.identify(&metadata, &tokens, sought)).await.map_err(again::of_a_new_token)?;
                let grant = self.grant(&person, Some(&tokens));
                Ok(Authenticated::verified(person, Method::DeviceCode).granting(grant))
            });
            match self.converse(name, origin, dialog, &grant, outcome).await? {
                // She is there, and was too late. Once: something that presses Enter by itself is not asked for ever.
                Err(denied) if denied.reason == Reason::CodeExpired && !is_last => {
                    dialog.complain("The code has expired. Here is a fresh one.");
                    is_last = true;
                }
                ended => return ended,
            }
        }
    }

    fn asks_passcode_first(&self) -> bool {
        self.config.ask_passcode_first
    }

    fn takes_tokens(&self) -> bool {
        self.config.id_token_as_password && self.config.profile.proof == Proof::IdToken
    }

    async fn verify_token(&self, sought: Sought<'_>, token: &Secret) -> Result<Authenticated, Denied> {
        let not_well_formed = || Denied::because(Reason::BadToken, "ID token: not a well-formed ID token");
        let token = Opaque::from(token.expose_str().ok_or_else(not_well_formed)?.to_owned());
        let person = self.identify_by_token(&token, sought).await?;
        let grant = self.grant(&person, None);
        Ok(Authenticated::verified(person, Method::IdToken).granting(grant))
    }

    fn asks_again(&self) -> Option<AskAgain> {
        self.config.ask_again
    }

    async fn renew(&self, kept: &Kept) -> Result<Tokens, Denied> {
        self.tokens_again(kept).await
    }

    async fn who_has(&self, tokens: &Tokens, sought: Sought<'_>) -> Result<Option<Person>, Denied> {
        self.identify_again(tokens, sought).await
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = check::findings(self).await;
        if let Some(directory) = &self.directory {
            findings.extend(directory.findings(&self.config).await);
        }
        findings
    }
}

/// What is asked for. `openid` first where an ID token is the proof: without it there is none; and what brings a
/// refresh token, where one is wanted.
fn scopes(config: &OidcConfig) -> String {
    let openid = (config.profile.proof == Proof::IdToken).then_some("openid");
    let lasting = config.ask_again.and(config.profile.lasting_scope);
    let others = config.scopes.iter().map(String::as_str).filter(|s| Some(*s) != openid && Some(*s) != lasting);
    openid.into_iter().chain(others).chain(lasting).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ProviderConfig};
    use tokio::time::Instant;

    fn provider() -> OidcProvider {
        let text = "[[provider]]\nname = \"sso\"\nkind = \"oidc\"\nissuer = \"https://sso.example\"\nclient_id = \"c\"\n\
                    allow_anyone = true\nqr = \"off\"\n";
        let ProviderConfig::Oidc(config) = Config::parse("test", text).unwrap().providers.remove(0) else { panic!() };
        OidcProvider::new(config).unwrap()
    }

    fn grant() -> Grant {
        Grant {
            device_code: String::from("d").into(),
            user_code: "WDJB-MJHT".into(),
            uri: "https://sso.example/device".into(),
            uri_complete: None,
            life: Duration::from_secs(600),
            interval: None,
            since: Instant::now(),
        }
    }

    /// However long she leaves the prompt alone, the login ends, and its place is free again.
    #[tokio::test(start_paused = true)]
    async fn a_prompt_that_nobody_answers_ends() {
        let (provider, grant) = (provider(), grant());
        let name = UserName::new("alice").unwrap();
        let origin = Origin { box_name: "gpu-17".into(), service: "login".into(), source: None };
        let approved = async { Err(Reason::DeniedByUser.into()) };
        for outcome in
            [Box::pin(approved) as std::pin::Pin<Box<dyn Future<Output = _>>>, Box::pin(std::future::pending())]
        {
            let (mut dialog, _far) = Dialog::pair();
            let denied = provider.converse(&name, &origin, &mut dialog, &grant, outcome).await.unwrap_err();
            assert_eq!(denied.reason, Reason::CodeExpired);
            assert_eq!(grant.since.elapsed().as_secs(), 720);
        }
    }

    #[test]
    fn openid_is_always_asked_for() {
        let asked = |lines: &str| scopes(&trial::config(&format!("{}\n{lines}", trial::ANYONE)));
        assert_eq!(asked("scopes = []"), "openid");
        assert_eq!(asked("scopes = [\"email\", \"openid\", \"groups\"]"), "openid email groups");
        assert_eq!(asked("scopes = [\"email\"]\nask_again = \"5m\""), "openid email offline_access");
        assert_eq!(asked("scopes = [\"offline_access\"]\nask_again = \"5m\""), "openid offline_access");
    }

    #[test]
    fn no_secret_in_debug() {
        let mut provider = provider();
        provider.credentials.secret = Some(String::from("hunter2").into());
        assert!(!format!("{provider:?}").contains("hunter2"));
    }
}
