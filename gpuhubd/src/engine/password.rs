//! Changing one's password, as a conversation: pam_chauthtok(3), and in the middle of a login whose password has
//! become too old. That is not left to the account phase, as programs expect of modules with a memory:
//! JupyterHub asks it on a handle that knows nothing of the password, and may be told not to ask at all.

use super::directory::Resolved;
use super::login::ask_password;
use super::{Asker, Engine, event_of};
use crate::audit::Event;
use crate::dialog::Dialog;
use crate::model::{Denied, Method, Person, Reason};
use crate::provider::{Authenticated, Provider};
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Code, Context};
use std::time::Instant;

/// How often an unsuitable new password may be followed by another.
const TRIES: u32 = 3;

/// How long a directory may take to change a password, in seconds; the client waits so long.
const PATIENCE_S: u32 = 45;

/// When a new password is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Before anything else.
    Now,
    /// She may put it off.
    Soon,
}

impl Urgency {
    fn prompt(self) -> &'static str {
        match self {
            Urgency::Now => "New password: ",
            Urgency::Soon => "New password (Enter alone: not now): ",
        }
    }
}

impl Engine {
    /// The old password is always asked and verified, by whomever the module was called.
    pub async fn change_password(&self, context: &Context, mut dialog: Dialog) {
        let (outcome, backend) = self.change(context, &mut dialog).await;
        let (base, code) = match outcome {
            Ok(()) => (Event::ok("password-change"), Code::Success),
            Err((denied, code)) => {
                if let Some(text) = denied.reason.told() {
                    dialog.complain(text);
                }
                (Event::denied("password-change", &denied), code)
            }
        };
        self.audit.log(event_of(Event { backend, method: Some(Method::Password.as_str()), ..base }, context));
        dialog.end(code).await;
    }

    async fn change(&self, context: &Context, dialog: &mut Dialog) -> (Result<(), (Denied, Code)>, Option<String>) {
        let plain = |d: Denied| {
            let code = d.reason.code();
            (d, code)
        };
        let Ok(name) = UserName::new(&context.user) else { return (Err(plain(Reason::BadName.into())), None) };
        if self.lockout.is_locked(name.as_str(), Instant::now()) {
            return (Err(plain(Reason::TooManyTries.into())), None);
        }
        let (provider, person) = match self.resolve(&name, Asker::Login).await {
            Ok(Resolved::Known(provider, person)) if provider.method() == Method::Password => (provider, person),
            Ok(Resolved::Known(provider, _) | Resolved::AtProvider(provider, _)) => {
                dialog.complain("Your password is your provider's: change it there.");
                return (Err((Reason::NoInteractiveService.into(), Code::AuthtokErr)), Some(provider.name().into()));
            }
            Ok(Resolved::Nobody) => return (Err(plain(Reason::UnknownUser.into())), None),
            Err(denied) => return (Err(plain(denied)), None),
        };
        let backend = Some(provider.name().to_owned());
        let old = match self.verified_old(&*provider, &person, dialog).await {
            Ok(old) => old,
            Err(denied) => return (Err(plain(denied)), backend),
        };
        match self.choose(&*provider, &person, &old, Urgency::Now, dialog).await {
            Ok(_) => (Ok(()), backend),
            Err(denied) if denied.reason == Reason::NotChanged => (Err((denied, Code::AuthtokErr)), backend),
            Err(denied) => (Err(plain(denied)), backend),
        }
    }

    /// Leads from a password that has become too old to a new one, and verifies that; from then on it is
    /// `password`. `None` if she put it off.
    pub(super) async fn renew(
        &self,
        provider: &dyn Provider,
        person: &Person,
        password: &mut Secret,
        urgency: Urgency,
        context: &Context,
        dialog: &mut Dialog,
    ) -> Result<Option<Authenticated>, Denied> {
        let outcome = self.choose(provider, person, password, urgency, dialog).await;
        let base = match &outcome {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => Event::ok("password-change"),
            Err(denied) => Event::denied("password-change", denied),
        };
        let (backend, method) = (Some(person.provider.clone()), Some(Method::Password.as_str()));
        self.audit.log(event_of(Event { backend, method, ..base }, context));
        let Some(new) = outcome? else { return Ok(None) };
        *password = new;
        dialog.say("Your password has been changed.");
        provider.verify_password(person, password).await.map(Some)
    }

    /// Asks for a new password until the directory takes it. `None`: not now.
    async fn choose(
        &self,
        provider: &dyn Provider,
        person: &Person,
        old: &Secret,
        urgency: Urgency,
        dialog: &mut Dialog,
    ) -> Result<Option<Secret>, Denied> {
        for _ in 0..TRIES {
            let new = dialog.ask(false, urgency.prompt(), 10).await?;
            if new.is_empty() {
                return if urgency == Urgency::Soon { Ok(None) } else { Err(Reason::EmptyPassword.into()) };
            }
            // A program that knows one password and no person answers whatever it is asked with that.
            if new.expose() == old.expose() {
                dialog.complain("The new password is the old one.");
                continue;
            }
            let again = dialog.ask(false, "New password again: ", PATIENCE_S).await?;
            if new.expose() != again.expose() {
                dialog.complain("The two passwords are not the same.");
                continue;
            }
            match provider.change_password(person, old, &new).await {
                Ok(()) => return Ok(Some(new)),
                Err(sentence) => dialog.complain(sentence),
            }
        }
        Err(Denied::because(Reason::NotChanged, "no suitable new password"))
    }

    async fn verified_old(
        &self,
        provider: &dyn Provider,
        person: &Person,
        dialog: &mut Dialog,
    ) -> Result<Secret, Denied> {
        dialog.say(format!("Changing the password of {}.", person.name));
        let old = ask_password(dialog).await?;
        match self.try_password(provider, person, &old).await {
            Ok(_) => Ok(old),
            // An expired password is what one comes here to change.
            Err(d) if d.reason.wants_a_new_password() => Ok(old),
            Err(denied) => Err(denied),
        }
    }
}
