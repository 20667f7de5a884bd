//! Logins of the engine's tests: a person at her terminal.

use super::tests::Box_;
use super::*;
use crate::dialog::Dialog;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Code, Next, Verdict};

/// What came of a login, what was asked, and what was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) code: Code,
    pub(super) prompts: Vec<String>,
    pub(super) told: Vec<String>,
}

/// Somebody who gives these answers, and presses Enter when she has none left.
pub(super) async fn visit(b: &Box_, name: &str, service: &str, answers: &[&str]) -> Seen {
    visit_meanwhile(b, name, service, answers, || ()).await
}

/// `meanwhile` happens while she is at her browser.
pub(super) async fn visit_meanwhile(
    b: &Box_,
    name: &str,
    service: &str,
    answers: &[&str],
    meanwhile: impl Fn(),
) -> Seen {
    let (dialog, mut far) = Dialog::pair();
    let context = Context { user: name.into(), service: service.into(), ..Context::default() };
    let person = async {
        let (mut prompts, mut told, mut answers) = (Vec::new(), Vec::new(), answers.iter());
        loop {
            let step = far.steps.recv().await.unwrap();
            told.extend(step.messages.into_iter().map(|m| m.text));
            match step.next {
                Next::Done(code) => return Seen { code, prompts, told },
                Next::Prompt(prompt) => {
                    prompts.push(prompt.text);
                    meanwhile();
                    let answer = answers.next().unwrap_or(&"");
                    far.answers.send(Secret::new(answer.as_bytes()).unwrap()).await.unwrap();
                }
            }
        }
    };
    let caller = nobodys();
    tokio::join!(b.engine.login(&caller, &context, dialog), person).1
}

/// The account phase of a login by key.
pub(super) async fn verdict(b: &Box_, name: &str) -> Verdict {
    let context = Context { user: name.into(), service: "sshd".into(), ..Context::default() };
    b.engine.account(&nobodys(), &context).await
}

/// Its code.
pub(super) async fn by_key(b: &Box_, name: &str) -> Code {
    verdict(b, name).await.code
}

/// Of no process that could be known again.
fn nobodys() -> Caller {
    Caller { listener: "test".into(), uid: 0, pid: None }
}
