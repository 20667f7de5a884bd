//! The application as a [`Person`]: prompts and messages through its conversation function.
//!
//! How applications converse: OpenSSH keeps messages until the next prompt or the end; pamela
//! (JupyterHub) answers messages and visible prompts with NULL, the first hidden prompt with the
//! form's password, and the next with an error. So a message that fails is no failure, and a
//! prompt without an answer ends the login.

use crate::handle;
use crate::options::{FirstPass, Options};
use crate::relay::{NoAnswer, Person};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Message, Prompt, Purpose};
use pam::constants::{PAM_ERROR_MSG, PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON, PAM_TEXT_INFO, PamMessageStyle};
use pam::conv::Conv;
use pam::items::AuthTok;
use pam::module::PamHandle;
use pam::secret::SecretBytes;

/// A conversation with whoever sits behind the application.
pub struct Conversation<'h> {
    handle: &'h mut PamHandle,
    purpose: Purpose,
    first_pass: FirstPass,
    silent: bool,
    /// A hidden prompt has been answered.
    had_secret: bool,
}

impl<'h> Conversation<'h> {
    /// For one call of a hook.
    pub fn new(handle: &'h mut PamHandle, purpose: Purpose, options: &Options) -> Self {
        // `use_first_pass` speaks of the password to log in with: a change asks for others too.
        let first_pass = match purpose {
            Purpose::Authenticate => options.first_pass,
            Purpose::ChangePassword => FirstPass::Ignore,
        };
        Self { handle, purpose, first_pass, silent: options.silent(), had_secret: false }
    }

    /// Lets go of the handle.
    pub fn end(self) -> &'h mut PamHandle {
        self.handle
    }

    fn converse(&self, style: PamMessageStyle, text: &str) -> Option<SecretBytes> {
        // Fetched anew each time: the application may replace it, as any item, while it converses.
        let conv = self.handle.get_item::<Conv<'_>>().ok().flatten()?;
        // pam-bindings wipes the C reply before it frees it; its own copy is wiped on drop.
        conv.send(style, text).ok().flatten()
    }

    /// The password that an earlier module asked for.
    fn first_pass(&self) -> Option<Secret> {
        let token = self.handle.get_item::<AuthTok<'_>>().ok().flatten()?;
        Secret::new(token.as_bytes())
    }

    fn hear(&self, prompt: &Prompt) -> Result<Secret, NoAnswer> {
        if self.first_pass != FirstPass::Ignore && !prompt.echo && !self.had_secret {
            if let Some(secret) = self.first_pass() {
                return Ok(secret);
            }
        }
        if self.first_pass == FirstPass::Require {
            return Err(NoAnswer::Refused);
        }
        let style = if prompt.echo { PAM_PROMPT_ECHO_ON } else { PAM_PROMPT_ECHO_OFF };
        // NULL is no answer; an empty line would be an empty string.
        let reply = self.converse(style, &prompt.text).ok_or(NoAnswer::Conversation)?;
        Secret::new(reply.as_bytes()).ok_or(NoAnswer::Refused)
    }
}

impl Person for Conversation<'_> {
    fn show(&mut self, message: &Message) {
        if !self.silent {
            let style = if message.error { PAM_ERROR_MSG } else { PAM_TEXT_INFO };
            let _ = self.converse(style, &message.text);
        }
    }

    fn ask(&mut self, prompt: &Prompt) -> Result<Secret, NoAnswer> {
        let secret = self.hear(prompt)?;
        if !prompt.echo && !self.had_secret {
            self.had_secret = true;
            // For the modules behind us: pam_unix does not ask a second time for a name that nobody
            // knows, pam_mount has the password. An empty one too, else an empty answer would be
            // asked for again only if the name is unknown, and tell who exists.
            if self.purpose == Purpose::Authenticate {
                handle::set_authtok(self.handle, &secret);
            }
        }
        Ok(secret)
    }
}
