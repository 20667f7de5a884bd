//! People before they log in, by the API of a provider that has one: `[provider.directory]`.
//!
//! ```text
//!   name ── what she may be called there ── search ── the same claims as in a token ── names.rs: is that her name?
//!                                                                    │
//!                                       her groups, her standing ────┴── claims.rs: the person
//! ```
//!
//! What comes out of it is what her token would give, made by the same rules: the same key, the same name. Whom the
//! provider's restrictions would refuse is known all the same, and refused ([`Standing::Barred`]).
//!
//! Who makes up names cannot have the provider asked without end: [`budget`].

mod api;
mod budget;
mod entra;
mod github;
mod keycloak;

use super::Who;
use super::claims;
use super::documents::Documents;
use super::groups;
use super::http::{Credentials, Http};
use super::names;
use super::opaque::Opaque;
use super::token::Claims;
use crate::config::{OidcConfig, SecretFile, is_email};
use crate::finding::Finding;
use crate::model::{Denied, Person, Reason, Standing, Unavailable};
use api::{Api, Trouble};
use budget::Budget;
use gpuhub_common::name::UserName;
use std::sync::Arc;
use std::time::Duration;

/// Each request has the provider's deadline, and all for one person have this one: the PAM module waits for ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// The directory of one provider.
#[derive(Debug)]
pub struct Directory {
    api: Arc<Api>,
    kind: Kind,
    budget: Budget,
}

#[derive(Debug)]
enum Kind {
    Keycloak,
    Entra,
    GitHub(github::GitHub),
}

/// What to look for: the claim and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling<'c> {
    claim: &'c str,
    value: String,
}

/// Somebody as the API has her.
#[derive(Debug)]
pub struct Found {
    /// What a token would say of her, but for her groups.
    claims: Claims,
    /// Whether her account is in use there.
    enabled: bool,
}

impl Directory {
    /// As the configuration says; `None`: there is none. Asks nothing of the network.
    pub fn new(config: &OidcConfig, http: &Arc<Http>, documents: &Arc<Documents>) -> Result<Option<Self>, String> {
        let Some(directory) = &config.directory else { return Ok(None) };
        let secret = |file: &SecretFile| {
            let text = file.secret().expose_str().ok_or("the directory's secret is not text")?;
            Ok::<_, String>(Opaque::from(text.to_owned()))
        };
        let client = || {
            let (id, file) = match &directory.client_id {
                Some(id) => (id, &directory.client_secret_file),
                None => (&config.client_id, &config.client_secret_file),
            };
            Ok::<_, String>(Credentials {
                id: id.clone(),
                secret: file.as_ref().map(secret).transpose()?,
                in_form: config.profile.secret_in_form,
            })
        };
        let (root, http) = (&directory.url, http.clone());
        let (kind, api) = match (config.profile.kind, &directory.token_file) {
            ("github", Some(token)) => {
                (Kind::GitHub(github::GitHub::default()), Api::with_token(http, root, secret(token)?))
            }
            ("entra", _) => {
                let scope = Some(entra::scope(root));
                (Kind::Entra, Api::with_client(http, root, client()?, scope, documents.clone()))
            }
            _ => (Kind::Keycloak, Api::with_client(http, root, client()?, None, documents.clone())),
        };
        Ok(Some(Self { api: Arc::new(api), kind, budget: Budget::default() }))
    }

    /// Whether it did not answer when it was last asked.
    pub fn is_away(&self) -> bool {
        self.api.is_away()
    }

    /// The person; `None` is certain. `login`: not for whoever makes up names.
    pub async fn find(&self, config: &OidcConfig, who: Who<'_>, login: bool) -> Result<Option<Person>, Unavailable> {
        let found = async {
            match who {
                Who::Name(name) => self.find_by_name(config, name, login).await,
                Who::Uid(uid, _) => self.find_by_uid(config, uid).await,
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => {
                self.api.takes_too_long();
                Err(Unavailable("directory: it takes too long".into()))
            }
        }
    }

    async fn find_by_name(
        &self,
        config: &OidcConfig,
        name: &UserName,
        login: bool,
    ) -> Result<Option<Person>, Unavailable> {
        if !names::may_become(config, name.as_str()) {
            return Ok(None);
        }
        // Who is in GitHub's organisations is known without asking for anybody.
        if !matches!(self.kind, Kind::GitHub(_)) {
            self.budget.spend(name.as_str(), login)?;
        }
        let mut her: Option<Found> = None;
        for spelling in spellings(config, name) {
            for found in self.search(config, &spelling, login).await? {
                if names::name(config, &found.claims).ok().as_ref() != Some(name) {
                    continue;
                }
                match &her {
                    Some(other) if claims::subject(config, &other.claims) != claims::subject(config, &found.claims) => {
                        return Err(Unavailable(format!("directory: several people come out as {name}")));
                    }
                    _ => her = Some(found),
                }
            }
        }
        let Some(her) = her else { return Ok(None) };
        self.budget.found(name.as_str());
        self.person(config, her, name).await
    }

    /// Where a claim fixes uids, the directory is searched for it. Elsewhere uids follow from names, and one that was
    /// given to nobody here is nobody's.
    async fn find_by_uid(&self, config: &OidcConfig, uid: u32) -> Result<Option<Person>, Unavailable> {
        let (Kind::Keycloak, Some(claim)) = (&self.kind, &config.uid_claim) else { return Ok(None) };
        self.budget.spend(&format!("uid {uid}"), false)?;
        let mut people = Vec::new();
        for found in keycloak::by_attribute(&self.api, config, claim.outermost(), &uid.to_string()).await? {
            if let Ok(name) = names::name(config, &found.claims) {
                people.extend(self.person(config, found, &name).await?);
            }
        }
        people.retain(|person| person.uid == Some(uid.into()));
        if people.len() > 1 {
            return Err(Unavailable(format!("directory: uid {uid} is that of several people")));
        }
        Ok(people.pop())
    }

    async fn search(&self, config: &OidcConfig, spelling: &Spelling<'_>, login: bool) -> Result<Vec<Found>, Trouble> {
        match &self.kind {
            Kind::Keycloak => keycloak::search(&self.api, config, spelling).await,
            Kind::Entra => entra::search(&self.api, config, spelling).await,
            Kind::GitHub(github) => github.search(&self.api, config, spelling, login).await,
        }
    }

    async fn person(&self, config: &OidcConfig, found: Found, name: &UserName) -> Result<Option<Person>, Unavailable> {
        let Found { mut claims, enabled } = found;
        if !config.groups_claims.is_empty() {
            match &self.kind {
                Kind::Keycloak => keycloak::add_groups(&self.api, config, &mut claims).await?,
                Kind::Entra => entra::add_groups(&self.api, &mut claims).await?,
                Kind::GitHub(_) => github::add_groups(&self.api, &mut claims).await?,
            }
        }
        Ok(match claims::known(config, &claims, name.into()) {
            Ok(person) if enabled => Some(person),
            Ok(person) => Some(Person { standing: Standing::Disabled, ..person }),
            // Nobody whom her token would let in, either.
            Err(_) => None,
        })
    }

    /// Adds to what a token says what it had no room for.
    pub async fn complete(&self, config: &OidcConfig, claims: &mut Claims) -> Result<(), Denied> {
        let Kind::Entra = self.kind else { return Ok(()) };
        if config.groups_claims.is_empty() || !groups::are_elsewhere(claims) {
            return Ok(());
        }
        groups::take_off_elsewhere(claims);
        let added = entra::add_groups(&self.api, claims).await;
        added.map_err(|trouble| Denied::because(Reason::BackendUnavailable, format!("directory: {trouble}")))
    }

    /// Whether it can be asked, found by asking it.
    pub async fn findings(&self, config: &OidcConfig) -> Vec<Finding> {
        let (asked, remedy) = match &self.kind {
            Kind::Keycloak => (
                keycloak::check(&self.api).await,
                "Give the client's service account the role view-users of realm-management (docs/providers/keycloak.md).",
            ),
            Kind::Entra => (
                entra::check(&self.api).await,
                "Give the application the application permissions User.Read.All and GroupMember.Read.All, and an \
                 administrator's consent (docs/providers/entra.md).",
            ),
            Kind::GitHub(_) => (
                github::check(&self.api, config).await,
                "Give a token with read:org, or Members: read, of a member of all the allowed organisations \
                 (docs/providers/github.md).",
            ),
        };
        let whose = format!("provider {}: its directory {}", config.name, self.api.root);
        vec![match asked {
            Ok(()) => Finding::note("oidc-directory", format!("{whose} answers")),
            Err(Trouble::Refused(why)) => {
                Finding::fatal("oidc-directory-refused", format!("{whose} does not let us ask: {why}"), remedy)
            }
            Err(trouble) => Finding::fatal(
                "oidc-directory-unreachable",
                format!("{whose} does not answer as it should: {trouble}"),
                "Check url in the table directory, the network, and the proxy.",
            ),
        }]
    }
}

/// What somebody of that name may be called there, in each claim that names people: names.rs read backwards.
fn spellings<'c>(config: &'c OidcConfig, name: &UserName) -> Vec<Spelling<'c>> {
    let Some(base) = name.as_str().strip_suffix(config.name_suffix.as_str()).filter(|base| !base.is_empty()) else {
        return Vec::new();
    };
    if config.lowercase_names && base.bytes().any(|b| b.is_ascii_uppercase()) {
        return Vec::new();
    }
    let mut all = Vec::new();
    for claim in &config.name_claims {
        let at = |domain: &String| format!("{base}@{domain}");
        let values: Vec<String> = if is_email(claim) {
            config.mail_domains().map(at).collect()
        } else {
            std::iter::once(base.to_owned()).chain(config.strip_domains.iter().map(at)).collect()
        };
        all.extend(values.into_iter().map(|value| Spelling { claim: claim.outermost(), value }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oidc::trial::{ANYONE, config};

    #[test]
    fn what_somebody_may_be_called_there() {
        let asked = |lines: &str, name: &str| {
            let config = config(&format!("{ANYONE}\n{lines}"));
            let all = spellings(&config, &UserName::new(name).unwrap());
            all.into_iter().map(|s| format!("{} {}", s.claim, s.value)).collect::<Vec<_>>()
        };
        assert_eq!(asked("", "alice"), ["preferred_username alice"]);
        assert_eq!(asked("", "Alice"), ["preferred_username Alice"]);
        assert!(asked("lowercase_names = true", "Alice").is_empty());
        let both = "strip_domains = [\"a.example\", \"b.example\"]\nname_claim = [\"email\", \"preferred_username\"]";
        assert_eq!(
            asked(both, "alice"),
            [
                "email alice@a.example",
                "email alice@b.example",
                "preferred_username alice",
                "preferred_username alice@a.example",
                "preferred_username alice@b.example"
            ]
        );
        let suffix = "name_suffix = \"@partner.example\"";
        assert_eq!(asked(suffix, "alice@partner.example"), ["preferred_username alice"]);
        assert!(asked(suffix, "alice").is_empty());
    }
}
