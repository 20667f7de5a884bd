//! A box whose only people are those of one provider: lookups and logins, as the engine answers them.

use crate::login::name;
use gpuhub_common::entry::{Group, Passwd};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Code, Context, Next};
use gpuhubd::audit::Audit;
use gpuhubd::config::Audit as AuditConfig;
use gpuhubd::dialog::Dialog;
use gpuhubd::engine::{Asker, Caller, Engine, GroupKey, LookupError, Rules, UserKey};
use gpuhubd::idmap::Idmap;
use gpuhubd::provider::Provider;
use gpuhubd::provider::oidc::OidcProvider;
use gpuhubd::publish::{self, View};
use gpuhubd::seal::Seal;
use gpuhubd::store::Store;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Box_ {
    pub engine: Engine,
    pub provider: Arc<OidcProvider>,
    dir: PathBuf,
}

impl Drop for Box_ {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Box_ {
    pub fn of(provider: OidcProvider) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("gpuhub-oidc-box-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let provider = Arc::new(provider);
        let store = Store::in_memory().unwrap();
        let audit = Audit::start("/nonexistent/log", AuditConfig::default().queue, "test").unwrap();
        let publishing = publish::start(store.clone(), dir.join("snapshot"), View::default(), audit.clone());
        let idmap = Idmap::new(store.clone(), [1_000_000_000, 1_999_999_999], None);
        let seal = Arc::new(Seal::of_file(&dir.join("grant.key")).unwrap());
        let rules = Rules { seal: Some(seal), ..Rules::default() };
        let all: Vec<Arc<dyn Provider>> = vec![provider.clone()];
        Self { engine: Engine::new(rules, store, idmap, all, publishing, audit), provider, dir }
    }

    /// getpwnam(3) of somebody's process.
    pub async fn user(&self, name: &str) -> Result<Passwd, LookupError> {
        self.engine.user(UserKey::Name(name), Asker::Anybody(1000)).await
    }

    /// That of a login daemon.
    pub async fn user_at_login(&self, name: &str) -> Result<Passwd, LookupError> {
        self.engine.user(UserKey::Name(name), Asker::Login).await
    }

    pub async fn uid(&self, uid: u32) -> Result<Passwd, LookupError> {
        self.engine.user(UserKey::Uid(uid), Asker::Anybody(1000)).await
    }

    pub async fn group(&self, name: &str) -> Result<Group, LookupError> {
        self.engine.group(GroupKey::Name(name), Asker::Anybody(1000)).await
    }

    /// Names of the groups of getgrouplist(3), but for her own.
    pub async fn groups(&self, user: &str) -> Vec<String> {
        let mut names = Vec::new();
        for gid in self.engine.group_ids(user, Asker::Anybody(1000)).await.unwrap() {
            names.push(self.engine.group(GroupKey::Gid(gid), Asker::Anybody(1000)).await.unwrap().name);
        }
        names.retain(|name| name != user);
        names.sort();
        names
    }

    /// A login over ssh by a code, and the account phase after it. What came of it, and the prompts.
    pub async fn log_in(&self, user: &str) -> (Code, Vec<String>) {
        let (dialog, mut far) = Dialog::pair();
        let person = async {
            let mut prompts = Vec::new();
            loop {
                match far.steps.recv().await.unwrap().next {
                    Next::Done(code) => return (code, prompts),
                    Next::Prompt(prompt) => {
                        prompts.push(prompt.text);
                        far.answers.send(Secret::new(b"").unwrap()).await.unwrap();
                    }
                }
            }
        };
        let (context, caller) = (context(user), caller(77));
        let (code, prompts) = tokio::join!(self.engine.login(&caller, &context, dialog), person).1;
        match code {
            Code::Success => (self.engine.account(&caller, &context).await.code, prompts),
            code => (code, prompts),
        }
    }

    /// The account phase of a login by key.
    pub async fn by_key(&self, user: &str) -> Code {
        self.engine.account(&caller(78), &context(user)).await.code
    }
}

fn context(user: &str) -> Context {
    Context { user: name(user).as_str().into(), service: "sshd".into(), ..Context::default() }
}

fn caller(pid: u32) -> Caller {
    Caller { listener: "test".into(), uid: 0, pid: Some(pid) }
}
