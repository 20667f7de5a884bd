//! People of a directory who prove themselves at an identity provider: who they are is the directory's word, and that
//! it is really they the provider's. What joins the two is an attribute of their entry, and from the first sign-in on
//! the account there: a value that is given to somebody else later leads nobody in.

use super::Engine;
use super::directory::internal;
use super::ids::{Answer, text};
use super::login::SignIn;
use crate::model::{Denied, Person, Reason};
use crate::provider::join::Join;
use crate::provider::{Authenticated, Provider, Who};
use crate::store::{Joined, unix_now};
use gpuhub_common::wire::IdmapReply;
use std::sync::Arc;
use std::time::Instant;

/// Whose somebody is who signs in elsewhere, and by what she is known there.
pub(super) struct Elsewhere {
    pub(super) directory: Arc<dyn Provider>,
    pub(super) join: Join,
}

impl Engine {
    /// Where people of `provider` prove themselves.
    pub(super) fn proves_at<'e>(&'e self, provider: &'e Arc<dyn Provider>) -> Result<&'e Arc<dyn Provider>, Denied> {
        let Some(at) = provider.signs_in_at() else { return Ok(provider) };
        // The configuration was checked; nobody proves herself at a directory by being asked again.
        let there = self.provider(at).filter(|p| p.signs_in_at().is_none());
        there.ok_or_else(|| Denied::because(Reason::Internal, format!("there is no provider {at}")))
    }

    /// How somebody signs in whom her directory has just said to be `person`.
    pub(super) async fn sign_in_of(&self, directory: Arc<dyn Provider>, person: Person) -> Result<SignIn, Denied> {
        let provider = Arc::clone(self.proves_at(&directory)?);
        let elsewhere = match directory.signs_in_at() {
            Some(_) => Some(Elsewhere { join: directory.join(&person).await?, directory }),
            None => None,
        };
        Ok(SignIn { provider, known: true, person: Some(person), elsewhere })
    }

    /// Who has just proved herself is who her directory says she is, by now: it may have taken her minutes.
    pub(super) async fn joined(
        &self,
        proven: Authenticated,
        person: &Person,
        elsewhere: &Elsewhere,
    ) -> Result<Authenticated, Denied> {
        let (asked, directory) = (Instant::now(), &elsewhere.directory);
        let Some(now) = directory.find(Who::Name(&person.name)).await? else {
            self.forget(person.name.as_str()).await;
            return Err(Denied::because(Reason::AccountDisabled, "her entry has gone since she began to sign in"));
        };
        if now.key != person.key || directory.join(&now).await? != elsewhere.join {
            return Err(Denied::because(Reason::EntryChanged, "her entry has changed since she began to sign in"));
        }
        proven.joined(now, asked)
    }

    /// Somebody of a directory is let in: account and entry belong together from now on, if they did not before.
    pub(super) fn tie(&self, proven: &Authenticated) -> Result<(), Denied> {
        let Some(at) = proven.at() else { return Ok(()) };
        let why = match self.store.join(&proven.person().key, at, unix_now()).map_err(internal)? {
            Joined::Hers => return Ok(()),
            Joined::Otherwise => "she signed in first with another account".into(),
            Joined::Anothers(key) => match self.store.name_of_key(&key).map_err(internal)? {
                Some(name) => format!("the account is that of {name}"),
                None => "the account is that of somebody else".into(),
            },
        };
        Err(Denied::because(Reason::NameTaken, why))
    }

    /// The administrator's word that she has another account there, or that it was not she. What was set after a sign-in
    /// with the old one goes, too.
    pub(super) fn untie(&self, name: &str) -> Answer {
        let key = self.store.key_of(name).map_err(text)?.ok_or_else(|| format!("{name} is bound to nobody."))?;
        if !self.store.untie(&key).map_err(text)? {
            return Err(format!("{name} is tied to no account."));
        }
        self.store.clear_passcode(name).map_err(text)?;
        self.store.forget_grant(name).map_err(text)?;
        Ok(IdmapReply::Changed(Vec::new()))
    }
}
