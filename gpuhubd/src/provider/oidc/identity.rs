//! From the person's approval to who she is, by what her provider says that with. Each step has the deadline of one
//! request.

use super::documents::Metadata;
use super::opaque::Opaque;
use super::poll::Tokens;
use super::token::{self, Bad, Claims};
use super::{OidcProvider, claims, github, join};
use crate::config::Proof;
use crate::model::{Denied, Person, Reason};
use crate::provider::join::Sought;
use std::time::SystemTime;

impl OidcProvider {
    /// The person, who must be whom this is for.
    pub(super) async fn identify(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        sought: Sought<'_>,
    ) -> Result<Person, Denied> {
        let mut claims = match self.config.profile.proof {
            Proof::IdToken => self.of_id_token(metadata, tokens, sought).await?,
            Proof::Userinfo => self.userinfo(metadata, access(tokens)?).await?.ok_or_else(no_userinfo)?,
            Proof::GitHub => {
                let api = metadata.userinfo_endpoint.as_deref().ok_or_else(no_userinfo)?;
                github::Api::new(&self.http, api, access(tokens)?).claims(&self.config).await?
            }
        };
        self.complete(&mut claims).await?;
        claims::person(&self.config, &claims, sought)
    }

    /// The same by an ID token that did not just come from the provider.
    pub(super) async fn identify_by_token(&self, token: &Opaque, sought: Sought<'_>) -> Result<Person, Denied> {
        let metadata = self.documents.metadata().await?;
        let mut claims = self.verify(&metadata, token).await?;
        let max_age = self.config.id_token_max_age.0 + self.config.leeway.0;
        token::check_age(&claims, max_age, SystemTime::now())?;
        // Userinfo cannot be asked without an access token; groups that are missing would get past a rule that forbids one.
        if claims::lacks(&self.config, &claims) || join::lacks(&claims, sought) {
            return Err(Denied::because(Reason::BadToken, "ID token: it leaves out what userinfo would have to say"));
        }
        self.complete(&mut claims).await?;
        claims::person(&self.config, &claims, sought)
    }

    /// With what her provider's directory says of her and the token has no room for.
    async fn complete(&self, claims: &mut Claims) -> Result<(), Denied> {
        match &self.directory {
            Some(directory) => directory.complete(&self.config, claims).await,
            None => Ok(()),
        }
    }

    /// What the ID token says, and userinfo where that leaves something out.
    async fn of_id_token(&self, metadata: &Metadata, tokens: &Tokens, sought: Sought<'_>) -> Result<Claims, Denied> {
        let token = tokens.id_token.as_ref().ok_or_else(|| {
            Denied::because(Reason::NoIdToken, "the answer has no id_token: if this is no OpenID Connect, it is oauth2")
        })?;
        let mut claims = self.verify(metadata, token).await?;
        let lacks =
            claims::lacks(&self.config, &claims) || (self.config.profile.has_userinfo && join::lacks(&claims, sought));
        if let Some(access) = tokens.access_token.as_ref().filter(|_| lacks) {
            if let Some(userinfo) = self.userinfo(metadata, access).await? {
                // OpenID Connect Core §5.3.2: "the sub Claim in the UserInfo Response MUST be verified to exactly match".
                if userinfo.get("sub") != claims.get("sub") {
                    return Err(Denied::because(Reason::BadToken, "userinfo is about another sub"));
                }
                claims::complete(&mut claims, userinfo);
            }
        }
        Ok(claims)
    }

    /// Verifies an ID token; where its key is unknown, once more with the keys fetched anew
    /// (OpenID Connect Core §10.1.1: keys are rotated).
    pub(super) async fn verify(&self, metadata: &Metadata, token: &Opaque) -> Result<Claims, Denied> {
        let keys = self.documents.keys(metadata).await?;
        match self.rules.verify(&keys, token, SystemTime::now()) {
            Err(Bad::UnknownKey) => match self.documents.newer_keys(metadata, &keys).await {
                Some(newer) => Ok(self.rules.verify(&newer, token, SystemTime::now())?),
                None => Err(Bad::UnknownKey.into()),
            },
            verified => Ok(verified?),
        }
    }

    /// What userinfo says (OpenID Connect Core §5.3). A failure is one of the login: groups that
    /// are missing would get past a rule that forbids one. `None`: the provider has no userinfo.
    async fn userinfo(&self, metadata: &Metadata, token: &Opaque) -> Result<Option<Claims>, Denied> {
        let Some(url) = &metadata.userinfo_endpoint else { return Ok(None) };
        let unavailable = |what: String| Denied::because(Reason::BackendUnavailable, format!("userinfo: {what}"));
        let answer = self.http.get_as(url, token).await.map_err(|e| unavailable(e.to_string()))?;
        // RFC 6750 §3.1
        if answer.status == 401 {
            return Err(Denied::because(Reason::NotHonoured, "userinfo takes the token no more (HTTP 401)"));
        }
        if !answer.is_success() {
            return Err(unavailable(format!("the provider answers with {}", answer.status_text())));
        }
        answer.json().map(Some).ok_or_else(|| unavailable("not a JSON object".into()))
    }
}

fn access(tokens: &Tokens) -> Result<&Opaque, Denied> {
    tokens.access_token.as_ref().ok_or_else(|| Denied::because(Reason::BadToken, "the answer has no access_token"))
}

fn no_userinfo() -> Denied {
    Denied::because(Reason::BackendUnavailable, "the provider has no userinfo endpoint")
}
