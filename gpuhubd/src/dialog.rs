//! The conversation with the person at the prompt, as the engine and the providers see it.
//!
//! The server holds the other end and relays it over the socket. When the client goes away the
//! whole login is dropped, wherever it waits.

use crate::model::{Denied, Reason};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Message, Next, Prompt, Step};
use tokio::sync::mpsc;

/// One conversation.
#[derive(Debug)]
pub struct Dialog {
    steps: mpsc::Sender<Step>,
    answers: mpsc::Receiver<Secret>,
    pending: Vec<Message>,
}

/// The server's end.
#[derive(Debug)]
pub struct Far {
    /// Steps to be relayed.
    pub steps: mpsc::Receiver<Step>,
    /// Answers of the person.
    pub answers: mpsc::Sender<Secret>,
}

impl Dialog {
    /// Both ends.
    pub fn pair() -> (Dialog, Far) {
        let (to, steps) = mpsc::channel(1);
        let (answers, from) = mpsc::channel(1);
        (Dialog { steps: to, answers: from, pending: Vec::new() }, Far { steps, answers })
    }

    /// Shows a line with the next prompt, or at the end.
    pub fn say(&mut self, text: impl Into<String>) {
        self.pending.push(Message { error: false, text: text.into() });
    }

    /// As [`Dialog::say`], as an error.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.pending.push(Message { error: true, text: text.into() });
    }

    /// Asks, and waits for the answer. `patience_s`: how long the broker may take after it.
    pub async fn ask(&mut self, echo: bool, text: &str, patience_s: u32) -> Result<Secret, Denied> {
        let messages = std::mem::take(&mut self.pending);
        let next = Next::Prompt(Prompt { echo, text: text.to_owned(), patience_s });
        self.steps.send(Step { messages, next }).await.map_err(|_| Reason::Cancelled)?;
        self.answers.recv().await.ok_or_else(|| Reason::Cancelled.into())
    }

    /// Ends the conversation.
    pub async fn end(mut self, code: gpuhub_common::wire::Code) {
        let messages = std::mem::take(&mut self.pending);
        // A client that has gone needs no last word.
        let _ = self.steps.send(Step { messages, next: Next::Done(code) }).await;
    }
}
