//! Still allowed? Somebody who proved herself at a provider once comes in by her keys and passcodes ever after. So the
//! provider is asked again whether it still honours her: at a login, if its word is old, and on a schedule.
//!
//! ```text
//!   its word is fresh ─────────────────────────────────────▶ in
//!   else it is asked ─┬─ yes, and who she is by now ───────▶ in, with her groups of now
//!                     ├─ no ───────────────────────────────▶ out, until she signs in anew
//!                     └─ no answer ─┬─ its word counts yet ▶ in (grace)
//!                                   └─ it does not ────────▶ out
//! ```
//!
//! However many of her logins want to know, one question is under way: a refresh token that is used twice is taken for
//! a stolen one (RFC 9700 §4.14.2). It is asked in a task of its own, so that a client that goes away does not lose
//! the token that comes in its place. No lock is held meanwhile.

use super::Engine;
use super::directory::internal;
use crate::audit::Event;
use crate::model::{Denied, Method, Person, PersonKey, Reason};
use crate::provider::grant::{Grant, Kept};
use crate::provider::join::{By, Sought};
use crate::provider::offline::is_fresh;
use crate::provider::{Authenticated, Provider};
use crate::seal::Seal;
use crate::store::{Granted, Store, StoreError, unix_now};
use gpuhub_common::name::UserName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A login does not wait longer for the provider's word.
const PATIENCE: Duration = Duration::from_secs(5);
/// A provider that did not answer is not waited for again so soon.
const PAUSE: Duration = Duration::from_secs(10);
/// How often is looked for people to be asked for, and how many are, each time.
const ROUND: Duration = Duration::from_secs(15);
const MOST: u32 = 100;

/// What a provider said.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// She may come in; and who she is by now, if it says that.
    Yes(Option<Arc<Person>>),
    No(Denied),
    /// Nothing, and why.
    Silent(String),
}

/// The questions that are under way.
#[derive(Debug, Default, Clone)]
pub(super) struct Asking(Arc<Mutex<Questions>>);

#[derive(Debug, Default)]
struct Questions {
    /// By name.
    open: HashMap<String, watch::Receiver<Option<Word>>>,
    /// When a provider last did not answer.
    silent: HashMap<String, Instant>,
}

/// One question, with all that its task needs.
struct Question {
    asking: Asking,
    store: Store,
    seal: Arc<Seal>,
    provider: Arc<dyn Provider>,
    name: UserName,
    /// What was known when it was asked.
    granted: Granted,
}

impl Engine {
    /// Where her proof is made, if that is a provider that can be asked again.
    fn asked_again(&self, person: &Person) -> Result<Option<&Arc<dyn Provider>>, Denied> {
        let Some(provider) = self.provider(&person.provider) else { return Ok(None) };
        Ok(Some(self.proves_at(provider)?).filter(|at| at.asks_again().is_some()))
    }

    /// She has just proved herself at her provider and was let in: what it can be asked with is kept.
    pub(super) fn keep_grant(&self, proven: &Authenticated) -> Result<(), Denied> {
        let Some(Grant { provider, key: there, kept }) = proven.grant() else { return Ok(()) };
        let (person, now) = (proven.person(), unix_now());
        let name = person.name.as_str();
        // An ID token says as much, and is no reason to forget what can be asked with.
        if proven.method() == Method::IdToken
            && self.store.confirm_otherwise(name, &person.key, now).map_err(internal)?
        {
            return Ok(());
        }
        let mut granted = Granted {
            name: name.to_owned(),
            key: person.key.clone(),
            provider: provider.clone(),
            there: there.clone(),
            token: None,
            confirmed_at: now,
            asked_at: now,
            refused: None,
        };
        granted.token = match (&self.rules.seal, kept) {
            (Some(seal), Some(kept)) => seal.seal(&whose(&granted), &kept.to_bytes()),
            _ => None,
        };
        if granted.token.is_none() && self.is_news(name, "no-refresh-token") {
            let detail = "the provider gave no refresh token: it cannot be asked again, and its word counts for grace";
            self.audit.log(Event {
                user: Some(name.into()),
                backend: Some(provider.clone()),
                reason: "no-refresh-token",
                detail: Some(detail.into()),
                ..Event::ok("still-allowed")
            });
        }
        self.store.grant(&granted).map_err(internal)
    }

    /// Whether her provider still honours her, and who she is by now, if it was asked and said so. `detail` gets why
    /// she is let in although it did not answer.
    pub(super) async fn still_allowed(
        &self,
        person: &Person,
        detail: &mut Option<String>,
    ) -> Result<Option<Person>, Denied> {
        let Some(provider) = self.asked_again(person)? else { return Ok(None) };
        let Some(rule) = provider.asks_again() else { return Ok(None) };
        let granted = self.store.granted(person.name.as_str(), &person.key).map_err(internal)?;
        let Some(granted) = granted.filter(|g| is_of(g, &**provider)) else {
            return Err(Denied::because(
                Reason::SignInNeeded,
                "she has not signed in since her provider is asked again",
            ));
        };
        let honoured = granted.refused.is_none();
        if honoured && is_fresh(granted.confirmed_at, rule.at_login) {
            return Ok(None);
        }
        if granted.token.is_none() && !honoured {
            return Err(Denied::because(Reason::NotHonoured, "said so before, and she has not signed in since"));
        }
        let in_grace = honoured && is_fresh(granted.confirmed_at, rule.grace);
        let can_be_asked = granted.token.is_some();
        let has_her_entry = has_her_entry(&granted, &**provider);
        match self.question(provider, &person.name, granted).await {
            Word::Yes(now) => Ok(now.filter(|_| has_her_entry).map(|now| Person::clone(&now))),
            Word::No(denied) => Err(denied),
            Word::Silent(why) if in_grace => {
                *detail = Some(format!("her provider was asked whether she still may, and did not say: {why}"));
                Ok(None)
            }
            Word::Silent(why) if can_be_asked => Err(Denied::because(Reason::BackendUnavailable, why)),
            Word::Silent(why) => Err(Denied::because(Reason::SignInNeeded, why)),
        }
    }

    pub(super) async fn question(&self, provider: &Arc<dyn Provider>, name: &UserName, granted: Granted) -> Word {
        let Some(seal) = self.rules.seal.clone().filter(|_| granted.token.is_some()) else {
            return Word::Silent("there is nothing to ask it with".into());
        };
        let mut heard = {
            let mut questions = self.asking.questions();
            let silent = questions.silent.get(provider.name());
            if silent.is_some_and(|at| at.elapsed() < PAUSE) {
                return Word::Silent("it did not answer a moment ago".into());
            }
            match questions.open.get(name.as_str()).filter(|open| open.has_changed().is_ok()) {
                Some(open) => open.clone(),
                None => {
                    let (tell, heard) = watch::channel(None);
                    questions.open.insert(name.as_str().to_owned(), heard.clone());
                    let (asking, store) = (self.asking.clone(), self.store.clone());
                    let question =
                        Question { asking, store, seal, provider: provider.clone(), name: name.clone(), granted };
                    tokio::spawn(async move { tell.send_replace(Some(question.answer().await)) });
                    heard
                }
            }
        };
        match tokio::time::timeout(PATIENCE, heard.wait_for(Option::is_some)).await {
            Ok(Ok(word)) => word.clone().unwrap_or_else(|| Word::Silent("nothing was said".into())),
            Ok(Err(_)) => Word::Silent("the question was lost".into()),
            Err(_) => Word::Silent(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

impl Question {
    async fn answer(self) -> Word {
        let word = self.ask().await.unwrap_or_else(|e| Word::Silent(format!("store: {e}")));
        self.asking.questions().open.remove(self.name.as_str());
        word
    }

    async fn ask(&self) -> Result<Word, StoreError> {
        let name = self.name.as_str();
        // Another question about her may have ended since: its token is in the place of the one that was known.
        let now = self.store.granted(name, &self.granted.key)?.filter(|now| now.there == self.granted.there);
        let Some(Granted { token: Some(mut token), confirmed_at, refused, .. }) = now else {
            return Ok(Word::Silent("it has just been asked".into()));
        };
        if refused.is_none() && confirmed_at > self.granted.confirmed_at {
            return Ok(Word::Yes(None));
        }
        let whose = whose(&self.granted);
        let Some(kept) = self.seal.open(&whose, &token).and_then(|bytes| Kept::from_bytes(&bytes)) else {
            // Another key by now, or another row's token: it is never asked with.
            self.store.refused(name, &token, "unsealable", true)?;
            let why = "what it was to be asked with was sealed by another key";
            return Ok(Word::No(Denied::because(Reason::SignInNeeded, why)));
        };
        self.store.asking(name, unix_now())?;
        let tokens = match self.provider.renew(&kept).await {
            Ok(tokens) => tokens,
            Err(denied) => return self.told_no(&token, denied),
        };
        // Before anything else: the old one may be worth nothing any more.
        if let Some(new) = &tokens.refresh_token {
            let Some(new) = self.seal.seal(&whose, &Kept::Refresh(new.clone()).to_bytes()) else {
                return Ok(Word::Silent("a new token could not be sealed".into()));
            };
            if !self.store.replace_token(name, &token, &new)? {
                return Ok(Word::Silent("she has signed in anew meanwhile".into()));
            }
            token = new;
        }
        // Of somebody of a directory what joined the two was seen to when she signed in.
        let by = if self.granted.key == self.granted.there { By::Name } else { By::Key };
        match self.provider.who_has(&tokens, Sought { name: &self.name, by }).await {
            Ok(Some(person)) if person.key != self.granted.there => {
                self.told_no(&token, Denied::because(Reason::WrongSubject, "the new tokens are somebody else's"))
            }
            Ok(person) => {
                self.store.confirmed(name, &token, unix_now())?;
                Ok(Word::Yes(person.map(Arc::new)))
            }
            Err(denied) => self.told_no(&token, denied),
        }
    }

    fn told_no(&self, token: &[u8], denied: Denied) -> Result<Word, StoreError> {
        if denied.reason == Reason::BackendUnavailable {
            self.asking.questions().silent.insert(self.provider.name().to_owned(), Instant::now());
            return Ok(Word::Silent(denied.detail.unwrap_or_else(|| "it does not answer".into())));
        }
        let over = denied.reason == Reason::NotHonoured;
        self.store.refused(self.name.as_str(), token, denied.reason.as_str(), over)?;
        Ok(Word::No(denied))
    }
}

impl Asking {
    #[cfg(test)]
    pub(super) fn forget_silence(&self) {
        self.questions().silent.clear();
    }

    /// Never held across an await.
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it was granted at this provider, as it is configured now.
fn is_of(granted: &Granted, provider: &dyn Provider) -> bool {
    granted.provider == provider.name() && granted.there.issuer == provider.issuer()
}

/// Whether what it says of her entry counts: nobody else has that.
fn has_her_entry(granted: &Granted, provider: &dyn Provider) -> bool {
    granted.key == granted.there && !provider.knows_people()
}

/// What a token is sealed for: so that it is asked with for nobody else, and nowhere else.
fn whose(granted: &Granted) -> String {
    let PersonKey { issuer, subject } = &granted.there;
    // No name and no issuer has a newline in it.
    [granted.name.as_str(), &granted.provider, issuer, subject].join("\n")
}

/// Runs for ever: asks for those of whom nobody has asked for long, so that groups follow, tokens stay alive, and it
/// is written down when somebody is not honoured any more.
pub async fn run(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(ROUND).await;
        for provider in &engine.providers {
            if let Some(rule) = provider.asks_again() {
                engine.ask_for_all(provider, rule.every).await;
            }
        }
    }
}

impl Engine {
    pub(super) async fn ask_for_all(&self, provider: &Arc<dyn Provider>, every: Duration) {
        let then = unix_now() - i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
        let due = self.store.to_be_asked(provider.name(), then, MOST).unwrap_or_default();
        for granted in due.into_iter().filter(|g| is_of(g, &**provider)) {
            let Ok(name) = UserName::new(&granted.name) else { continue };
            let has_her_entry = has_her_entry(&granted, &**provider);
            match self.question(provider, &name, granted).await {
                Word::Yes(Some(now)) if has_her_entry => drop(self.take_in(&now).await),
                Word::Yes(_) => {}
                Word::No(denied) => self.audit.log(Event {
                    user: Some(name.as_str().into()),
                    uid: self.store.person(name.as_str()).ok().flatten().map(|k| k.passwd.uid),
                    backend: Some(provider.name().into()),
                    ..Event::denied("still-allowed", &denied)
                }),
                // Nor will it answer for the others.
                Word::Silent(_) => return,
            }
        }
    }
}
