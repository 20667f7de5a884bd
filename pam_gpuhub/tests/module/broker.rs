//! A broker that says what a test tells it to say, and writes down what it heard.

use gpuhub_common::entry::Passwd;
use gpuhub_common::wire::{Call, Code, ErrorCode, HomePlan, Message, Next, Prompt, Ready, Request, Step, Verdict};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What it says to one call.
pub enum Say {
    Reply(String),
    /// Closes the connection.
    HangUp,
    /// Reads on and says nothing.
    Nothing,
}

#[derive(Clone)]
pub struct Broker {
    heard: Arc<Mutex<Vec<String>>>,
}

impl Broker {
    /// Listens; `say` answers the nth call of a connection.
    pub fn at(socket: &Path, say: impl Fn(&Call, usize) -> Say + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let broker = Self { heard: Arc::default() };
        let (heard, say) = (broker.heard.clone(), Arc::new(say));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heard, say) = (heard.clone(), say.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &heard, &*say));
            }
        });
        broker
    }

    /// One line a call, in order of arrival.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn serve(mut stream: UnixStream, heard: &Mutex<Vec<String>>, say: &dyn Fn(&Call, usize) -> Say) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for nth in 0.. {
        let mut frame = Vec::new();
        if reader.read_until(0, &mut frame).unwrap_or(0) == 0 {
            return;
        }
        let call = Request::parse(frame.strip_suffix(b"\0").unwrap()).unwrap().call;
        heard.lock().unwrap().push(line(&call));
        match say(&call, nth) {
            Say::Reply(text) => stream.write_all(text.as_bytes()).unwrap(),
            Say::HangUp => return,
            Say::Nothing => {}
        }
    }
}

fn line(call: &Call) -> String {
    match call {
        Call::Begin(begin) => {
            let c = &begin.context;
            format!("begin {:?} {} {} {:?} {:?}", begin.purpose, c.user, c.service, c.source, c.tty)
        }
        Call::Answer(answer) => format!("answer {}", String::from_utf8_lossy(answer.secret.expose())),
        Call::Account(c) => format!("account {} {:?}", c.user, c.ssh_auth_info),
        Call::Establish(c) => format!("establish {}", c.user),
        Call::OpenSession(c) => format!("open {}", c.user),
        Call::CloseSession(close) => format!("close {} {:?}", close.context.user, close.session),
        other => format!("{other:?}"),
    }
}

fn reply(parameters: &str) -> Say {
    Say::Reply(format!("{{\"parameters\":{parameters}}}\0"))
}

pub fn error(code: ErrorCode) -> Say {
    Say::Reply(format!("{{\"error\":{}}}\0", json(&code)))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

/// A prompt after messages.
pub fn prompt(echo: bool, text: &str, messages: &[&str]) -> Say {
    let next = Next::Prompt(Prompt { echo, text: text.into(), patience_s: 0 });
    reply(&json(&Step { messages: texts(messages), next }))
}

pub fn password() -> Say {
    prompt(false, "Password: ", &[])
}

pub fn done(code: Code, messages: &[&str]) -> Say {
    reply(&json(&Step { messages: texts(messages), next: Next::Done(code) }))
}

pub fn verdict(code: Code, messages: &[&str]) -> Say {
    reply(&json(&Verdict { code, messages: texts(messages) }))
}

/// Ready, with a home to be made at `home`.
pub fn ready(name: &str, uid: u32, home: &str) -> Say {
    reply(&json(&Ready {
        user: Passwd {
            name: name.into(),
            uid,
            gid: 20001,
            gecos: String::new(),
            home: home.into(),
            shell: "/bin/sh".into(),
        },
        home: Some(HomePlan { mode: 0o700, skel: "/etc/skel".into() }),
        session: Some("s-1".into()),
    }))
}

pub fn nothing() -> Say {
    reply("{}")
}

fn texts(messages: &[&str]) -> Vec<Message> {
    messages.iter().map(|text| Message { error: text.starts_with('!'), text: (*text).into() }).collect()
}

/// What everybody needs: alice with `right`, and her home in /home.
pub fn alice(call: &Call, _nth: usize) -> Say {
    match call {
        Call::Begin(_) => password(),
        Call::Answer(answer) if answer.secret.expose() == b"right" => done(Code::Success, &[]),
        Call::Answer(_) => done(Code::AuthErr, &[]),
        Call::Account(_) => verdict(Code::Success, &[]),
        Call::Establish(_) | Call::OpenSession(_) => ready("alice", 20001, "/home/alice"),
        Call::CloseSession(_) => nothing(),
        _ => Say::HangUp,
    }
}
