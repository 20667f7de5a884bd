//! Logins while a directory is away: by what it last said, where the configuration lets that count. As soon as it
//! answers again, it is asked again.

use super::directory::internal;
use super::login::ask_password;
use super::{Engine, policy};
use crate::dialog::Dialog;
use crate::model::{Denied, Method, Person, Reason};
use crate::provider::offline::is_fresh;
use crate::provider::{Authenticated, Provider};
use crate::store::{KnownPerson, Remembered, unix_now};
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::Context;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Somebody whose directory does not answer now.
pub(super) struct Absentee {
    known: KnownPerson,
    last: Option<Remembered>,
    max_age: Duration,
}

/// Somebody known, and the provider whose she is.
pub(super) type Bound<'e> = (&'e Arc<dyn Provider>, KnownPerson);

impl Absentee {
    pub(super) fn known(&self) -> &KnownPerson {
        &self.known
    }
}

impl Engine {
    /// Somebody who may come in without her directory, given that it has just failed in this way.
    pub(super) fn absentee(&self, name: &UserName, denied: &Denied) -> Result<Option<Absentee>, Denied> {
        if denied.reason != Reason::BackendUnavailable {
            return Ok(None);
        }
        let known = self.store.person(name.as_str()).map_err(internal)?.filter(|known| !known.gone);
        let Some(known) = known else { return Ok(None) };
        let provider = self.provider(&known.provider).filter(|p| p.issuer() == known.key.issuer);
        // A directory that answers, and not what it should, may be about to say that she is somebody else.
        let Some(max_age) = provider.filter(|p| p.is_away()).and_then(|p| p.offline()) else { return Ok(None) };
        let last = self.store.remembered(name.as_str()).map_err(internal)?.filter(|last| last.key == known.key);
        Ok(Some(Absentee { known, last, max_age }))
    }

    /// The identity provider of somebody known whose own directory it is that has just failed in this way. Whom another
    /// directory knows who signs in there, is nobody without that.
    pub(super) fn without_its_directory(&self, name: &UserName, denied: &Denied) -> Result<Option<Bound<'_>>, Denied> {
        if denied.reason != Reason::BackendUnavailable {
            return Ok(None);
        }
        let known = self.store.person(name.as_str()).map_err(internal)?.filter(|known| !known.gone);
        let Some(known) = known else { return Ok(None) };
        let provider = self.provider(&known.provider).filter(|p| p.issuer() == known.key.issuer);
        let provider =
            provider.filter(|p| p.method() == Method::DeviceCode && p.knows_people() && p.signs_in_at().is_none());
        Ok(provider.map(|provider| (provider, known)))
    }

    /// One password, as of somebody whose directory answers: asked, counted, compared.
    pub(super) async fn by_cached_password(
        &self,
        name: &UserName,
        absentee: &Absentee,
        context: &Context,
        dialog: &mut Dialog,
    ) -> Result<(), Denied> {
        let password = ask_password(dialog).await?;
        if self.lockout.is_locked(name.as_str(), Instant::now()) {
            return Err(Reason::TooManyTries.into());
        }
        let person = self.as_remembered(name, absentee).await?;
        self.lockout.failed(name.as_str(), Instant::now());
        let tries = self.rules.access.tries;
        let last = absentee.last.as_ref();
        let proven = self.offline.verify(person, last, &password, absentee.max_age, tries).await;
        if !matches!(&proven, Err(d) if d.reason == Reason::WrongPassword) {
            self.lockout.was_no_try(name.as_str());
        }
        let proven = proven?;
        self.may_enter_offline(absentee, proven.person(), context)?;
        dialog.say("The directory does not answer: you are let in as it last knew you.");
        Ok(())
    }

    /// The account phase of somebody whose directory is away.
    pub(super) async fn may_enter_as_remembered(
        &self,
        name: &UserName,
        absentee: &Absentee,
        context: &Context,
    ) -> Result<(), Denied> {
        let person = self.as_remembered(name, absentee).await?;
        self.may_enter_offline(absentee, &person, context)
    }

    /// Her directory let her in by this service not long ago, and the rules of the box still do.
    fn may_enter_offline(&self, absentee: &Absentee, person: &Person, context: &Context) -> Result<(), Denied> {
        let by_service = absentee.last.as_ref().and_then(|last| last.services.get(&context.service));
        if !by_service.is_some_and(|at| is_fresh(*at, absentee.max_age)) {
            let why = "she was not let in by this service lately, and her directory is away";
            return Err(Denied::because(Reason::BackendUnavailable, why));
        }
        policy::check(&self.rules.access, &context.service, person, self.common_group())
    }

    async fn as_remembered(&self, name: &UserName, absentee: &Absentee) -> Result<Person, Denied> {
        let mut person = self.as_last_seen(name, absentee.known.clone()).await?;
        person.also_in = absentee.last.as_ref().map(|last| last.also_in.clone()).unwrap_or_default();
        Ok(person)
    }

    /// Her directory has let her in.
    pub(super) fn remember_admission(&self, person: &Person, context: &Context) {
        if self.provider(&person.provider).is_some_and(|p| p.offline().is_some()) {
            // If the store does not take it, she is not let in offline.
            let name = person.name.as_str();
            let _ = self.store.remember_admission(name, &person.key, &person.also_in, &context.service, unix_now());
        }
    }

    /// And this was her password. It is hashed after she is in: she need not wait for that.
    pub(super) fn remember_password(&self, proven: &Authenticated, password: Option<Secret>) {
        let person = proven.person();
        let wanted = self.provider(&person.provider).is_some_and(|p| p.offline().is_some());
        if let Some(password) = password.filter(|_| wanted) {
            let (offline, name, key) = (self.offline.clone(), person.name.as_str().to_owned(), person.key.clone());
            tokio::spawn(async move { offline.remember(name, key, password).await });
        }
    }

    /// Whom her directory refuses is not let in without it, either, nor by what her provider said before. The rules of
    /// the box are not its word: they hold without it, too.
    pub(super) fn refused_by_directory(&self, name: &str, denied: &Denied) {
        let gone = matches!(
            denied.reason,
            Reason::AccountLocked
                | Reason::AccountDisabled
                | Reason::AccountExpired
                | Reason::UnknownUser
                | Reason::NameTaken
                | Reason::EntryRefused
        );
        if gone {
            let _ = self.store.refused_otherwise(name, denied.reason.as_str());
            self.forget_admissions(name);
        }
    }

    /// By no service does she come in without her directory.
    pub(super) fn forget_admissions(&self, name: &str) {
        if self.providers.iter().any(|p| p.offline().is_some()) {
            let _ = self.store.forget_offline(name);
        }
    }
}
