//! `io.gpuhub.Broker.varlink` and `wire.rs` say the same: every method is sent and answered with
//! everything in it that may be in it, and held against the written interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test file

use gpuhub_common::entry::{Group, Passwd};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::*;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_written_protocol_is_the_one_that_is_spoken() {
    let interface = Interface::written();
    let seen = interface.hold_against_samples();
    let unspoken: Vec<_> = interface.members().difference(&seen).cloned().collect();
    assert_eq!(unspoken, [""; 0], "members that nobody sends");
}

#[test]
fn words_and_errors_are_complete() {
    let interface = Interface::written();
    let words = |name: &str| match &interface.types[name] {
        Type::Enum(words) => words.clone(),
        other => panic!("{other:?}"),
    };
    fn spoken(values: &[impl Serialize]) -> BTreeSet<String> {
        let word = |v| serde_json::to_value(v).unwrap().as_str().unwrap().replace("io.gpuhub.Broker.", "");
        values.iter().map(word).collect()
    }
    assert_eq!(words("Code"), spoken(&Code::ALL));
    assert_eq!(words("IdSpace"), spoken(&[IdSpace::User, IdSpace::Group]));
    assert_eq!(words("ProofOfHer"), spoken(&[ProofOfHer::SignIn, ProofOfHer::OldPasscode, ProofOfHer::None]));
    assert_eq!(words("Purpose"), spoken(&[Purpose::Authenticate, Purpose::ChangePassword]));
    let errors = [ErrorCode::NoSuchEntry, ErrorCode::Unavailable, ErrorCode::VersionMismatch, ErrorCode::Busy];
    assert_eq!(interface.errors, spoken(&errors));
}

/// Every call there is, with all its members, and the replies to it.
fn samples() -> Vec<(Call, Vec<Value>)> {
    let name = || NameQuery { name: "alice".into() };
    let text = |t: &str| Some(t.to_owned());
    let secret = || Secret::new(b"x").unwrap();
    let alice = || Passwd {
        name: "alice".into(),
        uid: 20001,
        gid: 20001,
        gecos: "Alice".into(),
        home: "/home/alice".into(),
        shell: "/bin/bash".into(),
    };
    let group = || Group { name: "ml".into(), gid: 20100, members: vec!["alice".into()] };
    let context = || Context {
        user: "alice".into(),
        typed: None,
        service: "sshd".into(),
        source: text("192.0.2.7"),
        tty: text("ssh"),
        ssh_auth_info: text("publickey ssh-ed25519 AAAA"),
    };
    let message = || vec![Message { error: true, text: "t".into() }];
    let step = |next| json(Step { messages: message(), next });
    let prompt = || step(Next::Prompt(Prompt { echo: false, text: "Password: ".into(), patience_s: 45 }));
    let home = || Some(HomePlan { mode: 0o700, skel: "/etc/skel".into() });
    let ready = || json(Ready { user: alice(), home: home(), session: text("s") });
    let begin = |purpose| Call::Begin(Begin { purpose, context: context() });
    let change =
        |admin| (Call::Admin(admin), vec![json(AdminReply::Done(Nothing {})), json(AdminReply::Refused("no".into()))]);
    let status = Status {
        version: "0.1.0".into(),
        uptime_s: 1,
        generation: 1,
        users: 1,
        groups: 1,
        sessions: 1,
        audit_dropped: 1,
        providers: vec![ProviderStatus { name: "a".into(), kind: "ldap".into(), problem: text("p") }],
    };
    let row = || IdRow {
        kind: IdSpace::User,
        name: "alice".into(),
        id: 20001,
        source: text("computed"),
        retired: false,
        issuer: text("corp"),
        subject: text("1"),
    };
    let after = Some(IdAt { kind: IdSpace::Group, id: 1 });
    let changed =
        IdmapReply::Changed(vec![IdChange { kind: IdSpace::User, name: "alice".into(), old: Some(1), new: 2 }]);
    let cached = (
        CacheProvider {
            name: "a".into(),
            mode: "syncrepl".into(),
            complete: true,
            people: Some(1),
            groups: Some(1),
            contact_s: Some(1),
            cookie: true,
            server: text("ldaps://a"),
            problem: text("p"),
        },
        CacheRow {
            kind: IdSpace::User,
            name: "alice".into(),
            id: 20001,
            provider: "a".into(),
            subject: text("1"),
            age_s: Some(1),
            state: CacheState::Fresh,
        },
    );
    vec![
        (
            Call::Idmap(IdmapCall::Set(NewId { kind: IdSpace::User, name: "alice".into(), id: 1 })),
            vec![json(changed), json(IdmapReply::Refused("no".into()))],
        ),
        (Call::Idmap(IdmapCall::Move(Rename { old: "a".into(), new: "b".into() })), vec![]),
        (
            Call::Idmap(IdmapCall::List(IdQuery { name: text("alice"), after })),
            vec![json(IdmapReply::Rows(vec![row()]))],
        ),
        (Call::Idmap(IdmapCall::Import(IdImport { rows: vec![row()], dry_run: true, replace: false })), vec![]),
        (Call::Idmap(IdmapCall::Untie(Named { name: "alice".into() })), vec![]),
        (Call::Idmap(IdmapCall::Check(Nothing {})), vec![json(IdmapReply::Problems(vec!["alice has no id".into()]))]),
        (
            Call::Cache(CacheCall::Show(CacheQuery {
                name: text("alice"),
                after: Some(CacheAt { kind: IdSpace::User, name: "a".into() }),
            })),
            vec![
                json(CacheReply::Refused("no".into())),
                json(CacheReply::Shown(CacheShown { providers: vec![cached.0], rows: vec![cached.1] })),
                json(CacheReply::Done(CacheDone { entries: 1, gone: 1, unavailable: 1, problem: text("p") })),
            ],
        ),
        (
            Call::Passcode(PasscodeCall::Set(NewPasscode { passcode: secret(), old: Some(secret()) })),
            vec![json(PasscodeReply::Done(Nothing {})), json(PasscodeReply::Refused("no".into()))],
        ),
        (Call::Passcode(PasscodeCall::Clear(PasscodeProof { old: Some(secret()), name: text("alice") })), vec![]),
        (
            Call::Passcode(PasscodeCall::Once(PasscodeProof::default())),
            vec![json(PasscodeReply::Code(OneTimeCode { code: secret(), life_s: 120 }))],
        ),
        (
            Call::Passcode(PasscodeCall::Status(PasscodeOf { name: text("alice") })),
            vec![json(PasscodeReply::Status(PasscodeStatus {
                name: "alice".into(),
                passcodes: true,
                one_time: true,
                set_at: Some(1),
                set_by: text("sign-in"),
                expires_at: Some(1),
                locked: true,
                signed_in_at: Some(1),
                counts_until: Some(1),
                proof: ProofOfHer::None,
            }))],
        ),
        (Call::Cache(CacheCall::Expire(CacheQuery::default())), vec![]),
        (Call::Cache(CacheCall::Refresh(CacheQuery::default())), vec![]),
        (
            Call::GetUser(UserQuery { name: text("alice"), uid: None, login: true }),
            vec![json(UserReply { user: alice() })],
        ),
        (Call::GetUser(UserQuery { name: None, uid: Some(20001), login: false }), vec![]),
        (Call::GetGroup(GroupQuery { name: text("ml"), gid: None }), vec![json(GroupReply { group: group() })]),
        (Call::GetGroup(GroupQuery { name: None, gid: Some(20100) }), vec![]),
        (Call::GetGroupIds(name()), vec![json(GroupIdsReply { gids: vec![1] })]),
        (Call::GetSshKeys(name()), vec![json(SshKeysReply { keys: vec!["ssh-ed25519 AAAA".into()] })]),
        (begin(Purpose::Authenticate), vec![prompt(), step(Next::Done(Code::SystemErr))]),
        (begin(Purpose::ChangePassword), vec![]),
        (Call::Answer(Answer { secret: secret() }), vec![prompt(), step(Next::Done(Code::Success))]),
        (Call::Account(context()), vec![json(Verdict { code: Code::AcctExpired, messages: message() })]),
        (Call::Establish(context()), vec![ready()]),
        (Call::OpenSession(context()), vec![ready()]),
        (Call::CloseSession(CloseSession { context: context(), session: text("s") }), vec![json(Nothing {})]),
        (Call::GetStatus(Nothing {}), vec![json(status)]),
        (Call::Admin(Admin::UserList(Nothing {})), vec![json(AdminReply::Users(vec![alice()]))]),
        (Call::Admin(Admin::GroupList(Nothing {})), vec![json(AdminReply::Groups(vec![group()]))]),
        change(Admin::UserAdd(NewUser {
            name: "alice".into(),
            full_name: "Alice".into(),
            uid: Some(20001),
            groups: vec!["ml".into()],
            password: Some(secret()),
        })),
        change(Admin::UserDel(name())),
        change(Admin::UserPasswd(NewPassword { name: "alice".into(), password: secret() })),
        change(Admin::GroupAdd(NewGroup { name: "ml".into(), gid: Some(20100) })),
        change(Admin::GroupDel(name())),
        change(Admin::GroupMember(Membership { group: "ml".into(), user: "alice".into(), member: true })),
    ]
}

fn json(reply: impl Serialize) -> Value {
    serde_json::to_value(reply).unwrap()
}

/// A type of the interface.
#[derive(Debug)]
enum Type {
    Bool,
    Int,
    Text,
    Named(String),
    Maybe(Box<Type>),
    List(Box<Type>),
    Struct(BTreeMap<String, Type>),
    Enum(BTreeSet<String>),
}

/// Structs and their members, as `Type`, `Type.member`, `Method.parameter`, `Method:reply.member`.
type Members = BTreeSet<String>;

#[derive(Debug, Default)]
struct Interface {
    types: BTreeMap<String, Type>,
    methods: BTreeMap<String, (Type, Type)>,
    errors: BTreeSet<String>,
}

impl Interface {
    fn written() -> Self {
        Parser::new(include_str!("../io.gpuhub.Broker.varlink")).interface()
    }

    /// Every sample fits; gives back what was seen in them.
    fn hold_against_samples(&self) -> Members {
        let mut seen = Members::new();
        for (call, replies) in samples() {
            let request = json(Request { version: VERSION, call });
            let method = request["method"].as_str().unwrap().strip_prefix("io.gpuhub.Broker.").unwrap();
            let (parameters, result) = self.methods.get(method).unwrap_or_else(|| panic!("no method {method}"));
            self.fits(method, parameters, &request["parameters"], &mut seen);
            for reply in &replies {
                self.fits(&format!("{method}:reply"), result, reply, &mut seen);
            }
        }
        seen
    }

    fn fits(&self, path: &str, t: &Type, value: &Value, seen: &mut Members) {
        match (t, value) {
            (Type::Maybe(_), Value::Null)
            | (Type::Bool, Value::Bool(_))
            | (Type::Int, Value::Number(_))
            | (Type::Text, Value::String(_)) => {}
            (Type::Maybe(t), value) => self.fits(path, t, value, seen),
            (Type::List(t), Value::Array(items)) => items.iter().for_each(|v| self.fits(path, t, v, seen)),
            (Type::Enum(words), Value::String(word)) => assert!(words.contains(word), "{path}: {word}"),
            (Type::Named(name), value) => {
                let t = self.types.get(name).unwrap_or_else(|| panic!("there is no type {name}"));
                self.fits(name, t, value, seen);
            }
            (Type::Struct(fields), Value::Object(object)) => {
                seen.insert(path.to_owned());
                for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
                    let t = fields.get(key).unwrap_or_else(|| panic!("{path} has no {key}"));
                    self.fits(&format!("{path}.{key}"), t, value, seen);
                    seen.insert(format!("{path}.{key}"));
                }
                for (key, t) in fields {
                    assert!(matches!(t, Type::Maybe(_)) || object.contains_key(key), "{path}.{key} is missing");
                }
            }
            (t, value) => panic!("{path}: {value} is no {t:?}"),
        }
    }

    /// All that the interface has.
    fn members(&self) -> Members {
        fn of(path: &str, t: &Type, all: &mut Members) {
            match t {
                Type::Maybe(t) | Type::List(t) => of(path, t, all),
                Type::Struct(fields) => {
                    all.insert(path.to_owned());
                    for (key, t) in fields {
                        all.insert(format!("{path}.{key}"));
                        of(&format!("{path}.{key}"), t, all);
                    }
                }
                _ => {}
            }
        }
        let mut all = Members::new();
        self.types.iter().for_each(|(name, t)| of(name, t, &mut all));
        for (name, (parameters, result)) in &self.methods {
            of(name, parameters, &mut all);
            of(&format!("{name}:reply"), result, &mut all);
        }
        all
    }
}

/// Varlink's grammar, as far as the file uses it.
struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn new(text: &str) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        for line in text.lines() {
            let mut word = String::new();
            for c in line.split('#').next().unwrap().chars().chain([' ']) {
                if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') {
                    word.push(c);
                    continue;
                }
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
            }
        }
        Self { tokens, at: 0 }
    }

    fn interface(mut self) -> Interface {
        let mut interface = Interface::default();
        self.expect(&["interface", "io.gpuhub.Broker"]);
        while self.at < self.tokens.len() {
            let (keyword, name) = (self.next(), self.next());
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            let t = self.parse_type();
            let new = match keyword.as_str() {
                "type" => interface.types.insert(name, t).is_none(),
                "error" => interface.errors.insert(name),
                "method" => {
                    self.expect(&["-", ">"]);
                    let result = self.parse_type();
                    interface.methods.insert(name, (t, result)).is_none()
                }
                other => panic!("{other}"),
            };
            assert!(new, "something is there twice");
        }
        interface
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].clone()
    }

    /// Takes the next token if it is this one.
    fn take(&mut self, token: &str) -> bool {
        let is = self.tokens[self.at] == token;
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, tokens: &[&str]) {
        for token in tokens {
            assert!(self.take(token), "{token}, not {}", self.tokens[self.at]);
        }
    }

    fn parse_type(&mut self) -> Type {
        match self.next().as_str() {
            "?" => Type::Maybe(Box::new(self.parse_type())),
            "[" => {
                self.expect(&["]"]);
                Type::List(Box::new(self.parse_type()))
            }
            "bool" => Type::Bool,
            "int" => Type::Int,
            "string" => Type::Text,
            "(" => self.parse_members(),
            name => Type::Named(name.to_owned()),
        }
    }

    /// What is inside parentheses, of a struct or of an enum.
    fn parse_members(&mut self) -> Type {
        let (mut fields, mut words) = (BTreeMap::new(), BTreeSet::new());
        while !self.take(")") {
            if !fields.is_empty() || !words.is_empty() {
                self.expect(&[","]);
            }
            let name = self.next();
            // [A-Za-z](_?[A-Za-z0-9])*
            let legal = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.contains("__")
                && !name.ends_with('_');
            assert!(legal, "{name} is no name in Varlink");
            let new = if self.take(":") {
                let t = self.parse_type();
                fields.insert(name, t).is_none()
            } else {
                words.insert(name)
            };
            assert!(new, "a member is there twice");
        }
        assert!(fields.is_empty() || words.is_empty());
        if words.is_empty() { Type::Struct(fields) } else { Type::Enum(words) }
    }
}
