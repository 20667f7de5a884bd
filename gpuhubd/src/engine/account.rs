//! May she come in now, and her sessions: the PAM hooks after (or without) authentication.

use super::directory::{LookupError, Resolved, internal};
use super::{Asker, Caller, Engine, event_of};
use crate::audit::Event;
use crate::config::ServiceMode;
use crate::model::{Denied, GroupClaim, Method, Person, Reason, Standing};
use crate::store::{KnownPerson, OpenSession, unix_now};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::wire::{CloseSession, Code, Context, HomePlan, Message, Ready, Verdict};
use sha2::{Digest, Sha256};
use std::time::Instant;

impl Engine {
    /// pam_acct_mgmt(3): stateless, since JupyterHub asks on a new handle and a key login never
    /// authenticated. Asks the directory now, unless a password login of this process asked it a moment ago.
    pub async fn account(&self, caller: &Caller, context: &Context) -> Verdict {
        let mut event = by_key(Event::ok("account"), context);
        let outcome = match UserName::new(&context.user) {
            Ok(_) if self.rules.services.mode(&context.service) == ServiceMode::None => {
                Err(Denied::because(Reason::NotAllowed, "[services] has \"none\" for this service"))
            }
            Ok(name) => self.may_enter(caller, &name, context, &mut event).await,
            Err(_) => Err(Reason::BadName.into()),
        };
        match outcome {
            Ok(()) => {
                self.audit.log(event_of(event, context));
                Verdict { code: Code::Success, messages: Vec::new() }
            }
            Err(denied) => {
                self.refused_by_directory(&context.user, &denied);
                let base = Event::denied("account", &denied);
                let detail = denied.detail.or(event.detail);
                self.audit.log(event_of(
                    Event { detail, method: event.method, backend: event.backend, uid: event.uid, ..base },
                    context,
                ));
                let told = denied.reason.told().map(|text| Message { error: true, text: text.into() });
                let code = match denied.reason.code() {
                    // "user unknown" is ignored by the stack, and pam_unix would then be content
                    // with whomever NSS still remembers. Only a name that can never have been
                    // ours is somebody else's business.
                    Code::UserUnknown if self.may_be_ours(&context.user) => Code::PermDenied,
                    code => code,
                };
                Verdict { code, messages: told.into_iter().collect() }
            }
        }
    }

    async fn may_enter(
        &self,
        caller: &Caller,
        name: &UserName,
        context: &Context,
        event: &mut Event,
    ) -> Result<(), Denied> {
        let asked = match self.proven.take(caller, name.as_str()) {
            Some(person) => Ok(person),
            None => self.ask_for(name, event).await,
        };
        let asked = match asked {
            // The provider itself is asked about her below.
            Err(denied) => match self.without_its_directory(name, &denied)? {
                Some((provider, known)) if provider.asks_again().is_some() => self.as_last_seen(name, known).await,
                _ => Err(denied),
            },
            asked => asked,
        };
        let person = match asked {
            Ok(person) => person,
            Err(denied) => {
                let Some(absentee) = self.absentee(name, &denied)? else { return Err(denied) };
                event.backend = Some(absentee.known().provider.clone());
                event.uid = Some(absentee.known().passwd.uid);
                self.may_enter_as_remembered(name, &absentee, context).await?;
                event.detail = Some("the directory is away".into());
                return Ok(());
            }
        };
        event.backend = Some(person.provider.clone());
        event.uid = self.store.person(name.as_str()).ok().flatten().map(|k| k.passwd.uid);
        let person = self.still_allowed(&person, &mut event.detail).await?.unwrap_or(person);
        self.permit(&person, context).await?;
        let (passwd, changed) = self.absorb(&person).await?;
        event.uid = Some(passwd.uid);
        if changed && !self.publishing.publish().await {
            return Err(Denied::because(Reason::Internal, "the snapshot could not be written"));
        }
        self.remember_admission(&person, context);
        Ok(())
    }

    async fn ask_for(&self, name: &UserName, event: &mut Event) -> Result<Person, Denied> {
        match self.resolve(name, Asker::Login).await? {
            Resolved::Known(_, person) => Ok(*person),
            Resolved::AtProvider(provider, true) => {
                event.backend = Some(provider.name().into());
                let known = self.store.person(name.as_str()).map_err(internal)?.ok_or(Reason::UnknownUser)?;
                self.as_last_seen(name, known).await
            }
            // Nobody proved herself under this name yet: a key must not be the first proof.
            Resolved::AtProvider(_, false) | Resolved::Nobody => Err(Reason::UnknownUser.into()),
        }
    }

    /// Somebody whom only her own logins make known, as her last login left her.
    pub(super) async fn as_last_seen(&self, name: &UserName, known: KnownPerson) -> Result<Person, Denied> {
        // A gid that is neither her own group's nor everybody's was her provider's word.
        let common = self.common_gid(&*self.local.accounts()?).await?;
        let gid = Some(known.passwd.gid).filter(|gid| *gid != known.passwd.uid && Some(*gid) != common);
        let gids = self.store.gids_of(name.as_str()).map_err(internal)?;
        let mut groups = Vec::new();
        for gid in gids {
            let group = self.store.group_by_gid(gid).map_err(internal)?;
            groups.extend(
                group.and_then(|g| GroupName::new(&g.group.name).ok()).map(|n| GroupClaim { name: n, gid: None }),
            );
        }
        Ok(Person {
            provider: known.provider,
            name: name.clone(),
            key: known.key,
            full_name: known.passwd.gecos,
            uid: None,
            gid: gid.map(Into::into),
            home: Some(known.passwd.home),
            shell: Some(known.passwd.shell),
            groups,
            also_in: Vec::new(),
            standing: Standing::Active,
        })
    }

    fn may_be_ours(&self, user: &str) -> bool {
        let Ok(name) = UserName::new(user) else { return false };
        // A store that cannot be read has perhaps known her.
        self.store.person(user).map_or(true, |known| known.is_some())
            || self.provisional.get(user, Instant::now()).is_some()
            || self.providers.iter().any(|p| p.may_become(&name))
    }

    /// pam_setcred(3): what must be ready before her processes run.
    pub fn establish(&self, context: &Context) -> Result<Ready, LookupError> {
        let known = self.store.person(&context.user).map_err(|_| LookupError::Unavailable)?;
        let known = known.filter(|k| !k.gone).ok_or(LookupError::NoSuchEntry)?;
        let people = &self.rules.people;
        let home = people.make_homes.then(|| HomePlan { mode: people.home_mode, skel: people.skel.clone() });
        Ok(Ready { user: known.passwd, home, session: None })
    }

    /// pam_open_session(3).
    pub fn open_session(&self, context: &Context) -> Result<Ready, LookupError> {
        let mut ready = self.establish(context)?;
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|_| LookupError::Unavailable)?;
        let id = format!("{:016x}", u64::from_be_bytes(random));
        let session = OpenSession {
            id: id.clone(),
            user: context.user.clone(),
            uid: ready.user.uid,
            service: context.service.clone(),
            tty: context.tty.clone().unwrap_or_default(),
            source: context.source.clone().unwrap_or_default(),
            opened_at: unix_now(),
        };
        self.store.open_session(&session).map_err(|_| LookupError::Unavailable)?;
        let backend = self.store.person(&context.user).ok().flatten().map(|k| k.provider);
        self.audit.log(event_of(
            Event {
                uid: Some(session.uid),
                backend,
                session: Some(id.clone()),
                ..by_key(Event::ok("session-open"), context)
            },
            context,
        ));
        ready.session = Some(id);
        Ok(ready)
    }

    /// pam_close_session(3).
    pub fn close_session(&self, close: &CloseSession) -> Result<(), LookupError> {
        let c = &close.context;
        let tty = c.tty.as_deref().unwrap_or_default();
        let closed = self
            .store
            .close_session(close.session.as_deref(), &c.user, &c.service, tty)
            .map_err(|_| LookupError::Unavailable)?
            .ok_or(LookupError::NoSuchEntry)?;
        let source = c.source.clone().filter(|s| !s.is_empty()).or(Some(closed.source)).filter(|s| !s.is_empty());
        self.audit.log(Event {
            source,
            uid: Some(closed.uid),
            session: Some(closed.id),
            duration_s: Some((unix_now() - closed.opened_at).max(0)),
            ..event_of(Event::ok("session-close"), c)
        });
        Ok(())
    }
}

/// Adds the key of a public-key login. OpenSSH tells it at the opening of the session (and in
/// pam_acct_mgmt only of methods that were completed before the last), so there the audit log has it.
fn by_key(event: Event, context: &Context) -> Event {
    match context.ssh_auth_info.as_deref().and_then(public_key) {
        Some(key) => Event { method: Some(Method::PublicKey.as_str()), detail: Some(key), ..event },
        None => event,
    }
}

/// The fingerprint of the key in SSH_AUTH_INFO_0, as `ssh-keygen -l` prints it.
fn public_key(auth_info: &str) -> Option<String> {
    let mut words = auth_info.lines().find(|l| l.starts_with("publickey "))?.split_ascii_whitespace().skip(1);
    let (kind, blob) = (words.next()?, STANDARD.decode(words.next()?).ok()?);
    Some(format!("{kind} SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))))
}

#[cfg(test)]
mod tests {
    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // ssh-keygen -l -f on this very key.
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        assert_eq!(
            super::public_key(&format!("publickey ssh-ed25519 {key}\n")).as_deref(),
            Some("ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU")
        );
        assert_eq!(super::public_key("password"), None);
        assert_eq!(super::public_key("publickey ssh-rsa !!!"), None);
    }
}
