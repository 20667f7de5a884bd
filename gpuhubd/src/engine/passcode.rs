//! Logins where no device code can be shown: by a passcode, or by a code for one login. And what of that belongs to a
//! sign-in at the provider: a passcode asked before it, and one offered after it.
//!
//! Whoever gives something wrong learns nothing: a name that has neither is asked the same, refused after the same
//! time, and told the same.

use super::Engine;
use super::directory::internal;
use super::login::{PASSWORD_PATIENCE_S, ask_password};
use crate::audit::Event;
use crate::dialog::Dialog;
use crate::model::{Denied, Method, Person, Reason};
use crate::provider::join::Sought;
use crate::provider::offline::is_fresh;
use crate::provider::{Authenticated, Provider};
use crate::store::{Passcode, SetBy, unix_now};
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use std::time::{Duration, Instant};

/// How often an unsuitable passcode may be followed by another.
const TRIES: u32 = 3;

/// Who has taken longer to sign in is not asked for a passcode besides: sshd ends a login after 120 seconds.
const IN_TIME: Duration = Duration::from_secs(60);

const FIRST: &str = "Passcode (Enter alone if you have none): ";

const OFFER: &str = "\nYou may set a passcode, for what cannot show you a code to sign in with (JupyterHub).\n\
                     New passcode (Enter alone: none): ";

const NOT_FIRST: &str = "Give your passcode, or press Enter alone if you never set one.";

/// What everybody is told whose passcode, or whatever it was, is not taken.
const NOT_TAKEN: &str = "Give your passcode or a one-time code; sign in by SSH to get one (gpuhub passcode).";

impl Engine {
    /// One answer, counted before it is judged, as any password.
    pub(super) async fn by_passcode(
        &self,
        sought: Sought<'_>,
        provider: &dyn Provider,
        known: bool,
        dialog: &mut Dialog,
        method: &mut Option<Method>,
    ) -> Result<Authenticated, Denied> {
        let (name, given) = (sought.name, ask_password(dialog).await?);
        if provider.takes_tokens() && is_token(&given) {
            *method = Some(Method::IdToken);
            // No guess: whoever can sign one need not.
            return provider.verify_token(sought, &given).await;
        }
        let result = self.counted(name, &given, self.proven_by(name, provider, known, &given)).await;
        if matches!(&result, Err(d) if d.reason.told().is_none()) {
            dialog.complain(NOT_TAKEN);
        }
        result
    }

    /// A judgement of what somebody gave, unless her name is locked. It counts as a failure until it turns out to be none.
    pub(super) async fn counted<T>(
        &self,
        name: &UserName,
        given: &Secret,
        judge: impl Future<Output = Result<T, Denied>>,
    ) -> Result<T, Denied> {
        if self.lockout.is_locked(name.as_str(), Instant::now()) {
            self.passcodes.decoy(given).await;
            return Err(Reason::TooManyTries.into());
        }
        self.lockout.failed(name.as_str(), Instant::now());
        let result = judge.await;
        let judged = |d: &Denied| matches!(d.reason, Reason::WrongPassword | Reason::NoPasscode | Reason::UnknownUser);
        if !result.as_ref().is_err_and(judged) {
            self.lockout.was_no_try(name.as_str());
        }
        result
    }

    async fn proven_by(
        &self,
        name: &UserName,
        provider: &dyn Provider,
        known: bool,
        given: &Secret,
    ) -> Result<Authenticated, Denied> {
        let there = self.store.person(name.as_str()).map_err(internal)?.filter(|k| known && !k.gone);
        let Some(there) = there else {
            self.passcodes.decoy(given).await;
            return Err(Reason::UnknownUser.into());
        };
        let last = self.store.passcode(name.as_str(), &there.key).map_err(internal)?;
        let own = last.as_ref().filter(|_| self.rules.passcode.enabled);
        let person = self.as_last_seen(name, there).await?;
        let proven = self.passcodes.verify(person, own, given, self.rules.passcode.tries).await?;
        // Only who has given the right thing is told what is wrong with it.
        if let (Method::Passcode, Some(own)) = (proven.method(), own) {
            self.not_expired(own)?;
        }
        self.still_honoured(provider, proven.person(), last.as_ref()).await?;
        Ok(proven)
    }

    /// Before a code is requested of her provider: a stranger who starts a login in her name, to send her the code,
    /// must know her passcode. Who has none presses Enter; who has one and does so is refused.
    pub(super) async fn passcode_first(&self, name: &UserName, known: bool, dialog: &mut Dialog) -> Result<(), Denied> {
        let given = dialog.ask(false, FIRST, PASSWORD_PATIENCE_S).await?;
        let there = self.store.person(name.as_str()).map_err(internal)?.filter(|k| known && !k.gone);
        let own = match there {
            Some(there) => self.store.passcode(name.as_str(), &there.key).map_err(internal)?,
            None => None,
        };
        let own = own.filter(|own| own.hash.is_some());
        if own.is_none() && given.is_empty() {
            return Ok(());
        }
        // However old it is, and however often strangers tried: it alone lets nobody in, and nobody shuts her out.
        let compared = self.passcodes.compare(name.as_str(), own.as_ref(), &given, None);
        self.counted(name, &given, compared).await.inspect_err(|_| dialog.complain(NOT_FIRST))
    }

    pub(super) fn not_expired(&self, own: &Passcode) -> Result<(), Denied> {
        let good = is_fresh(own.set_at, self.rules.passcode.expires.0);
        if good { Ok(()) } else { Err(Reason::PasscodeExpired.into()) }
    }

    /// Whether her provider still honours her, so that a proof that is not the provider's own counts.
    ///
    /// One that can be asked again is. Another is taken for having honoured her when she last signed in, and for so
    /// long after it as the configuration says; and not at all if that is not known.
    pub(super) async fn still_honoured(
        &self,
        provider: &dyn Provider,
        person: &Person,
        last: Option<&Passcode>,
    ) -> Result<(), Denied> {
        if provider.asks_again().is_some() {
            return self.still_allowed(person, &mut None).await.map(drop);
        }
        match last {
            Some(last) if is_fresh(last.signed_in_at, self.rules.passcode.sign_in_every.0) => Ok(()),
            _ => Err(Denied::because(Reason::SignInNeeded, "her last sign-in at the provider is too long ago")),
        }
    }

    /// She has signed in at her provider and was let in: that is written down, she is told what became of her passcode
    /// since, and offered one if she has none. `began`: when this login did.
    pub(super) async fn after_sign_in(
        &self,
        person: &Person,
        began: Instant,
        dialog: &mut Dialog,
    ) -> Result<(), Denied> {
        let rules = &self.rules.passcode;
        if !rules.is_on() {
            return Ok(());
        }
        let name = person.name.as_str();
        self.store.signed_in(name, &person.key, unix_now()).map_err(internal)?;
        let mut is_set = false;
        if let Some(own) = self.store.passcode(name, &person.key).map_err(internal)?.filter(|_| rules.enabled) {
            self.tell_of(name, &own, dialog)?;
            is_set = self.offer(person, &own, began, dialog).await?;
        }
        // Who has just set one gives that for whatever else she wants.
        self.signed_in.remember(name, &person.key, is_set, rules.set_within.0);
        Ok(())
    }

    /// A passcode that a process of hers set, or whoever knew the old one, is told to her when she signs in next.
    fn tell_of(&self, name: &str, own: &Passcode, dialog: &mut Dialog) -> Result<(), Denied> {
        if own.hash.is_none() || own.told {
            return Ok(());
        }
        let when = chrono::DateTime::from_timestamp(own.set_at, 0).unwrap_or_default();
        dialog.say(format!(
            "A passcode was set for you on {}. If that was not you: gpuhub passcode clear,\nand tell your administrator.",
            when.format("%Y-%m-%d at %H:%M UTC")
        ));
        self.store.told_of_passcode(name).map_err(internal)
    }

    /// Offers a passcode, if she has none that counts and was not asked lately. Whether she has set one.
    async fn offer(
        &self,
        person: &Person,
        own: &Passcode,
        began: Instant,
        dialog: &mut Dialog,
    ) -> Result<bool, Denied> {
        let has_one = own.hash.is_some() && self.not_expired(own).is_ok();
        let asked_lately = is_fresh(own.offered_at, self.rules.passcode.offer_every.0);
        if has_one || asked_lately || began.elapsed() > IN_TIME {
            return Ok(false);
        }
        self.store.offered_passcode(person.name.as_str(), unix_now()).map_err(internal)?;
        for _ in 0..TRIES {
            let new = dialog.ask(false, OFFER, 10).await?;
            if new.is_empty() {
                return Ok(false);
            }
            if let Err(sentence) = self.is_suitable(&new) {
                dialog.complain(sentence);
                continue;
            }
            let again = dialog.ask(false, "The same passcode again: ", PASSWORD_PATIENCE_S).await?;
            if new.expose() != again.expose() {
                dialog.complain("The two are not the same.");
                continue;
            }
            let outcome = self.passcodes.set(person.name.as_str(), &person.key, &new, SetBy::SignIn).await;
            self.audit_passcode("passcode-set", person, &outcome, "at the end of a sign-in");
            match outcome {
                Ok(()) => dialog.say("Your passcode has been set."),
                // She has signed in all the same.
                Err(_) => dialog.complain("Your passcode could not be set."),
            }
            return Ok(true);
        }
        dialog.complain("No passcode has been set. To set one: gpuhub passcode set");
        Ok(false)
    }

    /// `Err` has a sentence for the person.
    pub(super) fn is_suitable(&self, passcode: &Secret) -> Result<(), String> {
        let text = passcode.expose_str().ok_or("The passcode is not valid UTF-8.")?;
        self.rules.passcode.rule().check(text).map_err(|sentence| sentence.replace("password", "passcode"))
    }

    /// The line of whatever happens to a passcode.
    pub(super) fn audit_passcode(
        &self,
        event: &'static str,
        person: &Person,
        outcome: &Result<(), Denied>,
        detail: &str,
    ) {
        let (base, detail) = match outcome {
            Ok(()) => (Event::ok(event), detail.to_owned()),
            Err(d) => {
                let why = d.detail.as_ref().map(|why| format!("{why}; ")).unwrap_or_default();
                (Event::denied(event, d), format!("{why}{detail}"))
            }
        };
        self.audit.log(Event {
            user: Some(person.name.as_str().into()),
            uid: self.store.person(person.name.as_str()).ok().flatten().map(|k| k.passwd.uid),
            backend: Some(person.provider.clone()),
            detail: Some(detail),
            ..base
        });
    }
}

/// A JSON Web Signature in its compact form (RFC 7515 §7.1), whose header is an object.
fn is_token(given: &Secret) -> bool {
    let text = given.expose();
    text.starts_with(b"eyJ") && text.iter().filter(|b| **b == b'.').count() == 2
}
