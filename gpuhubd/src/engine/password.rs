//! Changing one's password: pam_chauthtok(3), as a conversation.

use super::directory::Resolved;
use super::login::ask_password;
use super::{Asker, Engine, event_of};
use crate::audit::Event;
use crate::dialog::Dialog;
use crate::model::{Denied, Method, Reason};
use gpuhub_common::name::UserName;
use gpuhub_common::wire::{Code, Context};
use std::time::Instant;

/// How often an unsuitable new password may be followed by another.
const TRIES: u32 = 3;

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
            Ok(Resolved::Known(provider, person)) => (provider, person),
            Ok(Resolved::AtProvider(provider, _)) => {
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
        for _ in 0..TRIES {
            let new = match ask_new(dialog).await {
                Ok(Some(new)) => new,
                Ok(None) => {
                    dialog.complain("The two passwords are not the same.");
                    continue;
                }
                Err(denied) => return (Err(plain(denied)), backend),
            };
            match provider.change_password(&person, &old, &new).await {
                Ok(()) => return (Ok(()), backend),
                Err(sentence) => dialog.complain(sentence),
            }
        }
        let denied = Denied::because(Reason::WrongPassword, "no suitable new password");
        (Err((denied, Code::AuthtokErr)), backend)
    }

    async fn verified_old(
        &self,
        provider: &dyn crate::provider::Provider,
        person: &crate::model::Person,
        dialog: &mut Dialog,
    ) -> Result<gpuhub_common::secret::Secret, Denied> {
        dialog.say(format!("Changing the password of {}.", person.name));
        let old = ask_password(dialog).await?;
        match self.try_password(provider, person, &old).await {
            Ok(_) => Ok(old),
            // An expired password is what one comes here to change.
            Err(d) if matches!(d.reason, Reason::PasswordExpired | Reason::MustChangePassword) => Ok(old),
            Err(denied) => Err(denied),
        }
    }
}

/// The new password, typed the same way twice; `None` if it was not.
async fn ask_new(dialog: &mut Dialog) -> Result<Option<gpuhub_common::secret::Secret>, Denied> {
    let new = dialog.ask(false, "New password: ", 10).await?;
    if new.is_empty() {
        return Err(Reason::EmptyPassword.into());
    }
    let again = dialog.ask(false, "New password again: ", 45).await?;
    Ok((new.expose() == again.expose()).then_some(new))
}
