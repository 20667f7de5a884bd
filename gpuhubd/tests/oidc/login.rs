//! The person at the prompt, and the provider as it is configured.

use crate::idp::{CLIENT, Idp};
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Next, Prompt};
use gpuhubd::config::{Config, ProviderConfig};
use gpuhubd::dialog::{Dialog, Far};
use gpuhubd::model::{Denied, Person};
use gpuhubd::provider::oidc::OidcProvider;
use gpuhubd::provider::{Origin, Provider};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

pub fn name(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

/// A file of this test run, private to it.
pub fn file(text: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::SeqCst);
    let path = std::env::temp_dir().join(format!("gpuhub-oidc-{}-{n}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    path.display().to_string()
}

/// The provider, from a configuration with these lines added.
pub fn provider(idp: &Idp, lines: &str) -> OidcProvider {
    let anyone = !lines.contains("allowed") && !lines.contains("required");
    of_kind(idp, "oidc", &format!("issuer = \"{}\"\nallow_anyone = {anyone}\n{lines}", idp.issuer))
}

/// The same of another kind, whose host it is (`HOST`), with all its lines.
pub fn of_kind(idp: &Idp, kind: &str, lines: &str) -> OidcProvider {
    let ca = file(&idp.ca_pem);
    let timeout = if lines.contains("timeout") { "" } else { "timeout = \"5s\"" };
    let text = format!(
        "[[provider]]\nname = \"sso\"\nkind = \"{kind}\"\nclient_id = \"{CLIENT}\"\nca_file = \"{ca}\"\n{timeout}\n{}\n",
        lines.replace("HOST", idp.issuer.trim_start_matches("https://"))
    );
    let ProviderConfig::Oidc(config) = Config::parse("test", &text).unwrap().providers.remove(0) else { panic!() };
    let provider = OidcProvider::new(config).unwrap();
    std::fs::remove_file(ca).unwrap();
    provider
}

/// How a login of alice went.
pub struct Login {
    pub result: Result<Person, Denied>,
    /// What the provider can be asked with again, as it is sealed.
    pub kept: Option<Vec<u8>>,
    pub prompts: Vec<Prompt>,
    /// From the answer to the end.
    pub after_enter: Duration,
}

/// What she does.
#[derive(Clone, Copy)]
pub struct Plan {
    wait: Duration,
    answer: bool,
}

impl Login {
    /// She presses Enter at once.
    pub fn plan() -> Plan {
        Plan { wait: Duration::ZERO, answer: true }
    }

    /// A login at a provider of its own.
    pub async fn of(idp: &Idp, lines: &str) -> Login {
        Self::plan().run(&provider(idp, lines)).await
    }
}

impl Plan {
    pub fn enter_after(self, wait: Duration) -> Plan {
        Plan { wait, ..self }
    }

    /// Closes the connection instead of pressing Enter.
    pub fn hang_up(self) -> Plan {
        Plan { answer: false, ..self }
    }

    pub async fn run(self, provider: &OidcProvider) -> Login {
        let (mut dialog, far) = Dialog::pair();
        let person = tokio::spawn(self.sit(far));
        let origin = Origin { box_name: "gpu-17".into(), service: "sshd".into(), source: Some("192.0.2.7".into()) };
        let result = provider.device_login((&name("alice")).into(), &origin, &mut dialog).await;
        let end = Instant::now();
        drop(dialog);
        let (prompts, entered) = person.await.unwrap();
        let after_enter = entered.map(|at| end - at).unwrap_or_default();
        let kept = result.as_ref().ok().and_then(|a| a.grant()?.kept.as_ref().map(|kept| kept.to_bytes().to_vec()));
        Login { result: result.map(|a| a.person().clone()), kept, prompts, after_enter }
    }

    async fn sit(self, mut far: Far) -> (Vec<Prompt>, Option<Instant>) {
        let (mut prompts, mut entered) = (Vec::new(), None);
        while let Some(step) = far.steps.recv().await {
            let Next::Prompt(prompt) = step.next else { panic!("not a prompt") };
            prompts.push(prompt);
            tokio::time::sleep(self.wait).await;
            if !self.answer {
                break;
            }
            entered = Some(Instant::now());
            far.answers.send(Secret::new(b"").unwrap()).await.unwrap();
        }
        (prompts, entered)
    }
}
