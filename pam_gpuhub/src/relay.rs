//! The relay of one conversation: the broker sends steps, the person answers, until it is done.
//!
//! ```text
//! Begin ─→ Step{messages, Prompt} ─→ Answer ─→ Step{messages, Prompt} ─→ … ─→ Step{messages, Done(code)}
//! ```
//!
//! Nothing is retried: an answer that may have arrived is never sent twice. Whatever ends the
//! relay closes the connection, which cancels the login in the broker.

use gpuhub_common::client::{CallError, Client};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Answer, Begin, Call, Code, Message, Next, Prompt, Step};
use std::time::Duration;

/// To connect; the backlog of a living broker is empty at once.
pub const CONNECT: Duration = Duration::from_secs(2);
/// For a reply that needs nobody's patience.
pub const REPLY: Duration = Duration::from_secs(10);
/// The most patience that a broker may ask for. A device code lives 15 minutes.
pub const MAX_PATIENCE: Duration = Duration::from_secs(900);
/// More steps than any login has. Some applications answer each prompt by themselves: a broker
/// gone mad must not keep one busy forever.
const MAX_STEPS: u32 = 32;

/// Whoever is asked.
pub trait Person {
    /// Shows a message, if anybody can see it.
    fn show(&mut self, message: &Message);
    /// Asks, and waits for the answer.
    fn ask(&mut self, prompt: &Prompt) -> Result<Secret, NoAnswer>;
}

/// Why a prompt has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The application has none: the person hung up, or a program converses that knows only one
    /// password (JupyterHub).
    Conversation,
    /// The configuration forbids to ask (`use_first_pass`), or the answer is longer than any secret.
    Refused,
}

/// Whoever decides.
pub trait Broker {
    /// One request, one step.
    fn step(&mut self, call: Call, patience: Duration) -> Result<Step, CallError>;
}

impl Broker for Client {
    fn step(&mut self, call: Call, patience: Duration) -> Result<Step, CallError> {
        self.call(call, patience)
    }
}

/// Why a conversation ended without a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// By the broker.
    Call(CallError),
    /// By the person or the application.
    NoAnswer(NoAnswer),
}

/// Relays until the broker says what came of it.
pub fn converse(broker: &mut impl Broker, person: &mut impl Person, begin: Begin) -> Result<Code, Broken> {
    let mut step = broker.step(Call::Begin(begin), REPLY).map_err(Broken::Call)?;
    for _ in 0..MAX_STEPS {
        step.messages.iter().for_each(|message| person.show(message));
        let prompt = match step.next {
            Next::Done(code) => return Ok(code),
            Next::Prompt(prompt) => prompt,
        };
        let secret = person.ask(&prompt).map_err(Broken::NoAnswer)?;
        step = broker.step(Call::Answer(Answer { secret }), patience(&prompt)).map_err(Broken::Call)?;
    }
    Err(Broken::Call(CallError::Protocol))
}

/// What the broker asked for, and then the usual time for a reply: its own clock runs out first.
fn patience(prompt: &Prompt) -> Duration {
    Duration::from_secs(prompt.patience_s.into()).min(MAX_PATIENCE) + REPLY
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuhub_common::wire::{Context, Purpose};

    /// Plays its steps in order, and notes what it was asked.
    #[derive(Default)]
    struct Script {
        steps: Vec<Step>,
        heard: Vec<(String, Duration)>,
        endless: bool,
    }

    impl Broker for Script {
        fn step(&mut self, call: Call, patience: Duration) -> Result<Step, CallError> {
            let text = match call {
                Call::Begin(begin) => format!("begin {}", begin.context.user),
                Call::Answer(answer) => format!("answer {}", answer.secret.expose_str().unwrap()),
                other => format!("{other:?}"),
            };
            self.heard.push((text, patience));
            if self.endless {
                return Ok(prompt(true, 0));
            }
            if self.steps.is_empty() { Err(CallError::Protocol) } else { Ok(self.steps.remove(0)) }
        }
    }

    /// Answers with its answers in order.
    #[derive(Default)]
    struct Typist {
        answers: Vec<Result<&'static str, NoAnswer>>,
        seen: Vec<String>,
    }

    impl Person for Typist {
        fn show(&mut self, message: &Message) {
            self.seen.push(message.text.clone());
        }
        fn ask(&mut self, prompt: &Prompt) -> Result<Secret, NoAnswer> {
            self.seen.push(prompt.text.clone());
            let answer = if self.answers.is_empty() { Ok("x") } else { self.answers.remove(0) };
            answer.map(|text| Secret::new(text.as_bytes()).unwrap())
        }
    }

    fn prompt(echo: bool, patience_s: u32) -> Step {
        Step { messages: vec![], next: Next::Prompt(Prompt { echo, text: "Password: ".into(), patience_s }) }
    }

    fn done(code: Code) -> Step {
        Step { messages: vec![Message { error: false, text: "bye".into() }], next: Next::Done(code) }
    }

    fn begin() -> Begin {
        Begin { purpose: Purpose::Authenticate, context: Context { user: "alice".into(), ..Context::default() } }
    }

    #[test]
    fn a_login_is_relayed_in_order_and_each_wait_is_bounded() {
        let mut broker = Script {
            steps: vec![prompt(false, 0), prompt(true, 300), prompt(true, u32::MAX), done(Code::Success)],
            ..Script::default()
        };
        let mut person = Typist { answers: vec![Ok("one"), Ok(""), Ok("three")], ..Typist::default() };
        assert_eq!(converse(&mut broker, &mut person, begin()), Ok(Code::Success));
        let heard: Vec<_> = broker.heard.iter().map(|(text, d)| (text.as_str(), d.as_secs())).collect();
        assert_eq!(heard, [("begin alice", 10), ("answer one", 10), ("answer ", 310), ("answer three", 910)]);
        assert_eq!(person.seen, ["Password: ", "Password: ", "Password: ", "bye"]);
    }

    #[test]
    fn every_code_comes_through() {
        for code in Code::ALL {
            let mut broker = Script { steps: vec![done(code)], ..Script::default() };
            assert_eq!(converse(&mut broker, &mut Typist::default(), begin()), Ok(code));
        }
    }

    #[test]
    fn no_answer_ends_it_and_nothing_more_is_sent() {
        let mut broker = Script { steps: vec![prompt(false, 0), prompt(false, 0)], ..Script::default() };
        let mut hub = Typist { answers: vec![Ok("form"), Err(NoAnswer::Conversation)], ..Typist::default() };
        assert_eq!(converse(&mut broker, &mut hub, begin()), Err(Broken::NoAnswer(NoAnswer::Conversation)));
        assert_eq!(broker.heard.len(), 2);
    }

    #[test]
    fn a_lost_answer_is_not_sent_again() {
        let mut broker = Script { steps: vec![prompt(false, 0)], ..Script::default() };
        assert_eq!(converse(&mut broker, &mut Typist::default(), begin()), Err(Broken::Call(CallError::Protocol)));
        assert_eq!(broker.heard.len(), 2);
    }

    #[test]
    fn a_broker_that_never_comes_to_an_end_is_left() {
        let mut broker = Script { endless: true, ..Script::default() };
        assert_eq!(converse(&mut broker, &mut Typist::default(), begin()), Err(Broken::Call(CallError::Protocol)));
    }
}
