//! Providers: who is this, and is it really her?
//!
//! A provider speaks only [`crate::model`]. It keeps no lock across the network, gives every
//! network step a deadline, and retries nothing after a secret was sent.

pub mod builtin;
pub mod grant;
pub mod hash;
pub mod join;
pub mod ldap;
pub mod news;
pub mod offline;
pub mod oidc;
pub mod passcode;
#[cfg(test)]
pub mod scripted;

use crate::dialog::Dialog;
use crate::finding::Finding;
use crate::model::{Denied, DirectoryGroup, Method, Notice, Person, PersonKey, Reason, Sid, Unavailable};
use async_trait::async_trait;
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::secret::Secret;
use grant::{AskAgain, Grant, Kept};
use join::{Join, Sought};
use news::News;
use oidc::Tokens;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A person whose proof was verified. Only a provider can make one, so no "success" leaves the
/// engine that no factor stands behind.
#[derive(Debug)]
pub struct Authenticated {
    person: Person,
    method: Method,
    notice: Option<Notice>,
    asked: Instant,
    grant: Option<Grant>,
    at: Option<PersonKey>,
}

impl Authenticated {
    /// By whoever has just verified the proof.
    fn verified(person: Person, method: Method) -> Self {
        Self { person, method, notice: None, asked: Instant::now(), grant: None, at: None }
    }

    /// Who she is otherwise is `person`, as the directory that knows her says. It must be her: the proof is one for
    /// that key alone.
    pub fn known_as(self, person: Person) -> Result<Self, Denied> {
        if self.person.key == person.key && self.person.name == person.name {
            return Ok(Self { person, ..self });
        }
        Err(Denied::because(Reason::WrongSubject, "her directory knows somebody else by this name"))
    }

    /// The same of somebody of a directory, who is `person` as of `asked`: what was proven is that she is who that
    /// knows by her name, at another provider ([`Sought::join`]) or by what is kept here under her own key.
    pub fn joined(self, person: Person, asked: Instant) -> Result<Self, Denied> {
        if self.person.name != person.name {
            return Err(Denied::because(Reason::WrongSubject, "the proof is for another name"));
        }
        let at = Some(self.person.key).filter(|key| *key != person.key);
        Ok(Self { person, asked, at, ..self })
    }

    /// Who she is where she proved herself, if that is another provider than the one whose she is.
    pub fn at(&self) -> Option<&PersonKey> {
        self.at.as_ref()
    }

    /// And what she should know about it.
    fn with(self, notice: Option<Notice>) -> Self {
        Self { notice, ..self }
    }

    /// The provider honours her, and this is how it can be asked about that again.
    fn granting(self, grant: Option<Grant>) -> Self {
        Self { grant, ..self }
    }

    /// The directory was asked for her then.
    fn asked_at(self, asked: Instant) -> Self {
        Self { asked, ..self }
    }

    /// As of when all this is so.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// Who.
    pub fn person(&self) -> &Person {
        &self.person
    }

    /// How.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What she granted at her provider.
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// What she should know about her password.
    pub fn notice(&self) -> Option<Notice> {
        self.notice
    }
}

/// How to look a person up.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    /// By login name, exactly.
    Name(&'a UserName),
    /// By uid, and by the SID that such a uid is computed from.
    Uid(u32, Option<Sid>),
}

/// How to look a group up.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// By name, exactly.
    Name(&'a GroupName),
    /// By gid, and by the SID that such a gid is computed from.
    Gid(u32, Option<Sid>),
}

/// Where a login goes and comes from: for the person to compare with what she is doing, and for rules.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of this box.
    pub box_name: String,
    /// The service.
    pub service: String,
    /// The source address, where the service gives one.
    pub source: Option<String>,
}

/// One source of people.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name in the configuration, and in the audit log.
    fn name(&self) -> &str;

    /// `builtin`, `ldap`, or the kind of a provider with the device grant: `oidc`, `github` …
    fn kind(&self) -> &'static str;

    /// The issuer in the keys of its people. A provider that is now another one under the old name
    /// answers for nobody whom the old one knew.
    fn issuer(&self) -> &str;

    /// How its people log in.
    fn method(&self) -> Method;

    /// Whether it can say who somebody is before she logs in ([`Provider::find`]). Else only those are known who
    /// have logged in, and it is asked for nobody.
    fn knows_people(&self) -> bool {
        self.method() == Method::Password
    }

    /// Whether it has people at all, and is not only where those of a directory prove themselves.
    fn has_people(&self) -> bool {
        true
    }

    /// The provider where its people prove themselves; absent: this one.
    fn signs_in_at(&self) -> Option<&str> {
        None
    }

    /// By what such a provider must know her, whom [`Provider::find`] has just found.
    async fn join(&self, _person: &Person) -> Result<Join, Denied> {
        Err(Denied::because(Reason::Internal, "no joins here"))
    }

    /// Whether its administrator decides what people are called, and not they themselves.
    fn decides_on_names(&self) -> bool {
        self.method() == Method::Password || self.signs_in_at().is_some()
    }

    /// Whether it is asked again what became of its groups ([`Provider::find_group`]). Else they are what its people
    /// bring along, as far as these are known here.
    fn refreshes_groups(&self) -> bool {
        self.cache_ttl().is_some()
    }

    /// Whether it can name all its people without being asked for one. Then an absence is known.
    fn is_complete(&self) -> bool {
        false
    }

    /// How long what it said of somebody is served before it is asked again; `None`: for good,
    /// since it is the broker's own store, or since only a login could ask.
    fn cache_ttl(&self) -> Option<Duration> {
        None
    }

    /// For how long its people may come in by what it last said of them, when it does not answer; `None`: not at all.
    fn offline(&self) -> Option<Duration> {
        None
    }

    /// For so long after it was last heard of, its whole content counts as known here, if it is one
    /// that tells it ([`Provider::follow`]).
    fn replica(&self) -> Option<Duration> {
        None
    }

    /// Tells its whole content, and from then on what changes in it, for ever; only of a replica.
    async fn follow(&self, _tell: mpsc::Sender<News>) {}

    /// Lets it tell all of it once more, now.
    fn tell_again(&self) {}

    /// Whether its people are among those of getpwent(3) and getgrent(3).
    fn is_enumerated(&self) -> bool {
        true
    }

    /// Whether no server of it works now. One that answers, and not what it should, is not away.
    fn is_away(&self) -> bool {
        false
    }

    /// The person, if this provider knows people before they log in; `None` is certain.
    async fn find(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable>;

    /// The same for whoever is not logging in: never in the way of [`Provider::find`], and free to
    /// spare what only a login needs.
    async fn look_up(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        self.find(who).await
    }

    /// The group, for whoever is not logging in; `None` is certain.
    async fn find_group(&self, which: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable>;

    /// Whether somebody of this name, unknown so far, may turn up by logging in.
    fn may_become(&self, _name: &UserName) -> bool {
        false
    }

    /// What it has for public keys of hers, as it is; `None`: it does not know her.
    async fn ssh_keys(&self, name: &UserName) -> Result<Option<Vec<String>>, Unavailable> {
        Ok(self.look_up(Who::Name(name)).await?.map(|_| Vec::new()))
    }

    /// Whether its people have other login names besides their own.
    fn has_aliases(&self) -> bool {
        false
    }

    /// The name of whoever has `alias` for another login name; `None` is certain. `login`: as for [`Provider::find`].
    async fn owner_of_alias(&self, _alias: &UserName, _login: bool) -> Result<Option<UserName>, Unavailable> {
        Ok(None)
    }

    /// Whether its own rules let her in there. The rules of `[access]` are the engine's.
    async fn permits(&self, _person: &Person, _origin: &Origin) -> Result<(), Denied> {
        Ok(())
    }

    /// Verifies a password that is not empty. Also says so when the account itself is locked.
    async fn verify_password(&self, _person: &Person, _password: &Secret) -> Result<Authenticated, Denied> {
        Err(Denied::because(Reason::Internal, "no passwords here"))
    }

    /// Does for `name`, who is nobody, what [`Provider::verify_password`] does for somebody, in the same time.
    async fn verify_decoy(&self, _name: &str, _password: &Secret) {}

    /// Lets the person prove herself at the provider (RFC 8628). The person is who the token
    /// says; one that is not whom this is for is refused here.
    async fn device_login(
        &self,
        _sought: Sought<'_>,
        _origin: &Origin,
        _dialog: &mut Dialog,
    ) -> Result<Authenticated, Denied> {
        Err(Denied::because(Reason::Internal, "no device codes here"))
    }

    /// Whether who has a passcode gives it before she is shown a code.
    fn asks_passcode_first(&self) -> bool {
        false
    }

    /// Whether a token of its own, given in a password's place, is a proof.
    fn takes_tokens(&self) -> bool {
        false
    }

    /// Verifies such a token, as that of [`Provider::device_login`] is verified; it must not be old, either.
    async fn verify_token(&self, _sought: Sought<'_>, _token: &Secret) -> Result<Authenticated, Denied> {
        Err(Denied::because(Reason::Internal, "no tokens here"))
    }

    /// How long its word is good that somebody who signed in may come in; `None`: it cannot be asked again.
    fn asks_again(&self) -> Option<AskAgain> {
        None
    }

    /// Asks it again. Refused with [`Reason::NotHonoured`], `kept` is of no use any more; what takes its place, if
    /// anything does, is in the tokens.
    async fn renew(&self, _kept: &Kept) -> Result<Tokens, Denied> {
        Err(Denied::because(Reason::Internal, "no tokens here"))
    }

    /// Who has these tokens, who must be whom this is for; `None`: the provider honours her, and says no more than that.
    async fn who_has(&self, _tokens: &Tokens, _sought: Sought<'_>) -> Result<Option<Person>, Denied> {
        Err(Denied::because(Reason::Internal, "no tokens here"))
    }

    /// Changes a password whose old one has just been verified. `Err` has a sentence for the person.
    async fn change_password(&self, _person: &Person, _old: &Secret, _new: &Secret) -> Result<(), String> {
        Err("Passwords of this directory cannot be changed here.".into())
    }

    /// What would stop a login, found by trying: server, certificate, clock.
    async fn check(&self) -> Vec<Finding>;
}
