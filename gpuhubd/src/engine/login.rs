//! Is this really her? One login, from the name to the published entry.
//!
//! ```text
//!  name legal? ── service? ── locked out? ── whose is she? ─┬─ a directory's ─ Password: ─┐
//!                                                           ├─ a provider's ── the code ──┤ or a passcode
//!                                                           └─ nobody's ────── Password: ─┴─ decoy, denied
//!  Authenticated ── access rules ── entry (id, binding, vetting) ── as promised? ── published ── success
//! ```

use super::directory::{Resolved, internal};
use super::join::Elsewhere;
use super::password::Urgency;
use super::{Asker, Caller, Engine, event_of};
use crate::audit::{Audit, Event};
use crate::config::ServiceMode;
use crate::dialog::Dialog;
use crate::model::{Denied, Method, Notice, Person, Reason};
use crate::provider::join::{By, Sought};
use crate::provider::{Authenticated, Provider, Who};
use gpuhub_common::entry::Passwd;
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Code, Context};
use std::sync::Arc;
use std::time::Instant;

/// How long the verification of a password may take, in seconds; the client waits so long.
pub(super) const PASSWORD_PATIENCE_S: u32 = 45;

/// What is known of a login so far, for its audit line. Dropped before its end (the client went
/// away, the task was cancelled) it says so.
struct Trail<'a> {
    audit: &'a Audit,
    event: &'static str,
    context: &'a Context,
    uid: Option<u32>,
    method: Option<Method>,
    backend: Option<String>,
    /// The provider where somebody of a directory proves herself.
    at: Option<String>,
    done: bool,
}

/// Where somebody proves herself, whether she was here before, and who she is if a directory knows her.
pub(super) struct SignIn {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) known: bool,
    pub(super) person: Option<Person>,
    /// If that is not the provider's own.
    pub(super) elsewhere: Option<Elsewhere>,
}

impl<'a> Trail<'a> {
    fn new(audit: &'a Audit, event: &'static str, context: &'a Context) -> Self {
        Self { audit, event, context, uid: None, method: None, backend: None, at: None, done: false }
    }

    fn end(&mut self, outcome: &Result<(), Denied>) {
        self.done = true;
        let base = match outcome {
            Ok(()) => Event::ok(self.event),
            Err(denied) => Event::denied(self.event, denied),
        };
        let (uid, method, backend) = (self.uid, self.method.map(Method::as_str), self.backend.take());
        let at = self.at.take().map(|at| format!("at {at}"));
        let detail = base.detail.clone().into_iter().chain(at).reduce(|why, at| format!("{why}; {at}"));
        self.audit.log(event_of(Event { uid, method, backend, detail, ..base }, self.context));
    }
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.end(&Err(Denied::because(Reason::Cancelled, "the client went away")));
        }
    }
}

impl Engine {
    /// pam_authenticate(3), as a conversation.
    pub async fn login(&self, caller: &Caller, context: &Context, mut dialog: Dialog) {
        let mut trail = Trail::new(&self.audit, "auth", context);
        let outcome = self.authenticate(caller, context, &mut dialog, &mut trail).await;
        if let Err(denied) = &outcome {
            self.refused_by_directory(&context.user, denied);
        }
        trail.end(&outcome);
        self.finish(outcome, context, dialog).await;
    }

    async fn finish(&self, outcome: Result<(), Denied>, context: &Context, mut dialog: Dialog) {
        let code = match outcome {
            Ok(()) => {
                self.lockout.succeeded(&context.user);
                Code::Success
            }
            Err(denied) => {
                // Passwords were counted before they were verified.
                if denied.reason == Reason::WrongSubject {
                    self.lockout.failed(&context.user, Instant::now());
                }
                if let Some(text) = denied.reason.told() {
                    dialog.complain(text);
                }
                denied.reason.code()
            }
        };
        dialog.end(code).await;
    }

    async fn authenticate(
        &self,
        caller: &Caller,
        context: &Context,
        dialog: &mut Dialog,
        trail: &mut Trail<'_>,
    ) -> Result<(), Denied> {
        let began = Instant::now();
        let mode = self.rules.services.mode(&context.service);
        if mode == ServiceMode::None {
            return Err(Denied::because(Reason::NotAllowed, "[services] has \"none\" for this service"));
        }
        let Ok(name) = UserName::new(&context.user) else {
            return Err(self.turn_away("", dialog, Reason::BadName).await);
        };
        if self.lockout.is_locked(name.as_str(), Instant::now()) {
            return Err(self.turn_away(name.as_str(), dialog, Reason::TooManyTries).await);
        }
        // Boxed below is what does not wait for a person at her browser: a login that does is kept for minutes, and its
        // memory is that of the largest way from here.
        // As sshd saw her: it asked for the name before PAM did.
        let promised = self.provisional.get(name.as_str(), Instant::now());
        let mut password = None;
        let proven = match self.whose(&name, mode).await {
            Ok(Resolved::Known(provider, person)) if provider.method() == Method::Password => {
                trail.backend = Some(provider.name().into());
                trail.method = Some(Method::Password);
                trail.uid = self.known_uid(&name);
                self.by_password(&provider, &person, context, dialog, &mut password).await?
            }
            Ok(Resolved::Known(provider, person)) => {
                trail.backend = Some(provider.name().into());
                match self.sign_in_of(provider, *person).await {
                    Ok(at) => self.sign_in(&name, at, context, dialog, trail).await?,
                    Err(denied) => {
                        self.turn_away(name.as_str(), dialog, denied.reason).await;
                        return Err(denied);
                    }
                }
            }
            Ok(Resolved::AtProvider(provider, known)) => {
                let at = SignIn { provider, known, person: None, elsewhere: None };
                self.sign_in(&name, at, context, dialog, trail).await?
            }
            Ok(Resolved::Nobody) => return Err(self.turn_nobody_away(&name, context, dialog, trail).await),
            Err(denied) => {
                if let Some(absentee) = self.absentee(&name, &denied)? {
                    trail.backend = Some(absentee.known().provider.clone());
                    trail.method = Some(Method::CachedPassword);
                    trail.uid = Some(absentee.known().passwd.uid);
                    return Box::pin(self.by_cached_password(&name, &absentee, context, dialog)).await;
                }
                // The prompt comes all the same, so that the answer does not go to the next module.
                self.turn_away(name.as_str(), dialog, denied.reason).await;
                return Err(denied);
            }
        };
        Box::pin(self.admit(&name, &proven, promised, context, trail)).await?;
        self.tie(&proven)?;
        self.keep_grant(&proven)?;
        self.remember_admission(proven.person(), context);
        self.remember_password(&proven, password);
        // Of the broker's own store an answer a moment old would be a wrong one.
        if self.provider(&proven.person().provider).is_some_and(|p| p.cache_ttl().is_some()) {
            self.proven.remember(caller, proven.person(), proven.asked());
        }
        if proven.method() == Method::DeviceCode {
            self.after_sign_in(proven.person(), began, dialog).await?;
        }
        Ok(())
    }

    /// Whose login it is. While the directory of an identity provider does not answer, whoever it has told of before
    /// may show a token of the provider's: that it gives one is word enough, for this login. Who is new, or shows none,
    /// must wait.
    async fn whose(&self, name: &UserName, mode: ServiceMode) -> Result<Resolved, Denied> {
        let resolved = self.resolve(name, Asker::Login).await;
        match &resolved {
            Err(denied) if mode == ServiceMode::Interactive => match self.without_its_directory(name, denied)? {
                Some((provider, _)) => Ok(Resolved::AtProvider(Arc::clone(provider), true)),
                None => resolved,
            },
            _ => resolved,
        }
    }

    /// At her provider, by a code; or by a passcode where none can be shown.
    async fn sign_in(
        &self,
        name: &UserName,
        at: SignIn,
        context: &Context,
        dialog: &mut Dialog,
        trail: &mut Trail<'_>,
    ) -> Result<Authenticated, Denied> {
        let SignIn { provider, known, person, elsewhere } = at;
        let sought = Sought { name, by: elsewhere.as_ref().map_or(By::Name, |e| By::Join(&e.join)) };
        let passcodes = self.rules.passcode.is_on() || provider.takes_tokens();
        trail.uid = self.known_uid(name).filter(|_| known);
        trail.backend = Some(elsewhere.as_ref().map_or(&provider, |e| &e.directory).name().into());
        trail.at = elsewhere.as_ref().map(|_| provider.name().into());
        let proven = match self.rules.services.mode(&context.service) {
            ServiceMode::Interactive => {
                trail.method = Some(Method::DeviceCode);
                self.provisional.claim(name.as_str(), Instant::now());
                if provider.asks_passcode_first() {
                    trail.method = Some(Method::Passcode);
                    self.passcode_first(name, known, dialog).await?;
                    trail.method = Some(Method::DeviceCode);
                }
                provider.device_login(sought, &self.origin(context), dialog).await?
            }
            // This service never waits for a human.
            _ if self.rules.passcode.is_for(&context.service) && passcodes => {
                trail.backend.take_if(|_| !known);
                trail.method = Some(Method::Passcode);
                Box::pin(self.by_passcode(sought, &*provider, known, dialog, &mut trail.method)).await?
            }
            _ if known => return Err(self.turn_away(name.as_str(), dialog, Reason::NoInteractiveService).await),
            _ => {
                trail.backend = None;
                return Err(self.turn_away(name.as_str(), dialog, Reason::UnknownUser).await);
            }
        };
        match (person, elsewhere) {
            (Some(person), Some(elsewhere)) => self.joined(proven, &person, &elsewhere).await,
            // By now: it may have taken her minutes. If that cannot be known, what was so then.
            (Some(person), None) => match provider.find(Who::Name(name)).await {
                Ok(Some(now)) => proven.known_as(now),
                Ok(None) => Err(Denied::because(Reason::UnknownUser, "she has gone since she began to sign in")),
                Err(_) => proven.known_as(person),
            },
            (None, _) => Ok(proven),
        }
    }

    /// Whoever an identity provider might know, and does not, is shown a code as if it did: a stranger cannot find out
    /// by it who exists. Where codes cannot be shown, all are asked for a password.
    async fn turn_nobody_away(
        &self,
        name: &UserName,
        context: &Context,
        dialog: &mut Dialog,
        trail: &mut Trail<'_>,
    ) -> Denied {
        let asked = self.providers.iter().find(|p| p.method() == Method::DeviceCode && p.may_become(name));
        match asked.filter(|_| self.rules.services.mode(&context.service) == ServiceMode::Interactive) {
            None => self.turn_away(name.as_str(), dialog, Reason::UnknownUser).await,
            Some(provider) => {
                let at = SignIn { provider: Arc::clone(provider), known: false, person: None, elsewhere: None };
                match self.sign_in(name, at, context, dialog, trail).await {
                    Ok(_) => Denied::because(Reason::UnknownUser, "the directory of her provider does not know her"),
                    Err(denied) => denied,
                }
            }
        }
    }

    async fn by_password(
        &self,
        provider: &Arc<dyn Provider>,
        person: &Person,
        context: &Context,
        dialog: &mut Dialog,
        used: &mut Option<Secret>,
    ) -> Result<Authenticated, Denied> {
        let password = used.insert(ask_password(dialog).await?);
        let proven = self.try_password(&**provider, person, password).await;
        // Where nobody could answer, an old password is refused, or counts as long as its directory says.
        let can_ask = self.rules.services.mode(&context.service) == ServiceMode::Interactive;
        match (&proven, proven.as_ref().map(Authenticated::notice)) {
            (Err(denied), _) if can_ask && denied.reason.wants_a_new_password() => {
                dialog.complain(denied.reason.told().unwrap_or_default());
                let renewed = self.renew(&**provider, person, password, Urgency::Now, context, dialog).await;
                renewed?.map_or(proven, Ok)
            }
            (Ok(_), Ok(Some(notice @ Notice::GraceLogins(_)))) if can_ask => {
                dialog.complain(notice.told());
                match self.renew(&**provider, person, password, Urgency::Soon, context, dialog).await {
                    // Her directory lets her in as she is.
                    Err(denied) if denied.reason == Reason::NotChanged => proven,
                    renewed => renewed?.map_or(proven, Ok),
                }
            }
            (_, notice) => {
                if let Ok(Some(notice)) = notice {
                    dialog.say(notice.told());
                }
                proven
            }
        }
    }

    /// One password, counted before it is tried: prompts that were opened before the name was
    /// locked, and answered all at once, are tries like any others.
    pub(super) async fn try_password(
        &self,
        provider: &dyn Provider,
        person: &Person,
        password: &Secret,
    ) -> Result<Authenticated, Denied> {
        let name = person.name.as_str();
        if self.lockout.is_locked(name, Instant::now()) {
            provider.verify_decoy(name, password).await;
            return Err(Reason::TooManyTries.into());
        }
        self.lockout.failed(name, Instant::now());
        let result = provider.verify_password(person, password).await;
        let judged = matches!(&result, Err(d) if matches!(d.reason, Reason::WrongPassword | Reason::AccountLocked | Reason::AccountDisabled));
        if !judged {
            self.lockout.was_no_try(name);
        }
        result
    }

    /// Everything that nobody's name gets, at the price of somebody's: the same prompt, and a
    /// verification that takes as long.
    async fn turn_away(&self, name: &str, dialog: &mut Dialog, reason: Reason) -> Denied {
        match ask_password(dialog).await {
            Ok(password) => {
                if reason == Reason::UnknownUser {
                    self.lockout.failed(name, Instant::now());
                }
                let decoy = self.providers.iter().rev().find(|p| p.method() == Method::Password);
                // With the directory away there is nothing to imitate: everybody fails the same way.
                if let Some(provider) = decoy.filter(|_| reason != Reason::BackendUnavailable) {
                    provider.verify_decoy(name, &password).await;
                }
                reason.into()
            }
            Err(denied) => denied,
        }
    }

    /// From a verified proof to the published entry.
    async fn admit(
        &self,
        name: &UserName,
        proven: &Authenticated,
        promised: Option<Passwd>,
        context: &Context,
        trail: &mut Trail<'_>,
    ) -> Result<(), Denied> {
        let person = proven.person();
        trail.method = Some(proven.method());
        trail.backend = Some(person.provider.clone());
        // Providers check this too; nobody else may answer for the name that the login is for.
        if person.name != *name {
            return Err(Denied::because(Reason::WrongSubject, "the provider vouches for another name"));
        }
        let known = self.store.person(name.as_str()).map_err(internal)?.filter(|k| !k.gone);
        if known.as_ref().is_some_and(|k| k.key == person.key) {
            // What was just verified of her counts for her key logins too, let in or not.
            if self.absorb(person).await?.1 {
                self.publishing.publish().await;
            }
        }
        self.permit(person, context).await?;
        // sshd took her entry before she was asked for anything. Who was nobody then can only have
        // been promised one; if no such promise is known any more, its id may be another's by now. Her next login has
        // one, by login(1) too, which asks for her entry only when she is in.
        let is_told = self.provider(&person.provider).is_some_and(|p| p.knows_people());
        if known.is_none() && promised.is_none() && !is_told && proven.method() == Method::DeviceCode {
            let _ = self.promise(name).await;
            return Err(Denied::because(Reason::EntryChanged, "no promise of an entry is known for her first login"));
        }
        let (passwd, changed) = self.absorb(person).await?;
        trail.uid = Some(passwd.uid);
        // Before the success that needs it: sshd and the hub look her up at once.
        if changed && !self.publishing.publish().await {
            return Err(Denied::because(Reason::Internal, "the snapshot could not be written"));
        }
        match promised {
            Some(p) if (p.uid, p.gid, &p.home, &p.shell) != (passwd.uid, passwd.gid, &passwd.home, &passwd.shell) => {
                // The next lookup has the right one; logins that began on the old one are refused, too.
                self.provisional.correct(passwd);
                Err(Reason::EntryChanged.into())
            }
            _ => {
                self.provisional.kept(name.as_str());
                Ok(())
            }
        }
    }

    fn known_uid(&self, name: &UserName) -> Option<u32> {
        self.store.person(name.as_str()).ok().flatten().map(|k| k.passwd.uid)
    }
}

/// One password that is not empty.
pub(super) async fn ask_password(dialog: &mut Dialog) -> Result<Secret, Denied> {
    let password = dialog.ask(false, "Password: ", PASSWORD_PATIENCE_S).await?;
    if password.is_empty() { Err(Reason::EmptyPassword.into()) } else { Ok(password) }
}
