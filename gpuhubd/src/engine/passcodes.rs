//! `gpuhub passcode …`: what a person may do about her own passcode and one-time codes.
//!
//! Who asks is known by uid (SO_PEERCRED), and that is not enough: all that runs in her name has it, a notebook's
//! package too. So she must have signed in at her provider just before, which opens a window for one thing to be done,
//! or give the passcode that she has. docs/threats.md says what that is worth.

use super::directory::internal;
use super::{Caller, Engine};
use crate::model::{Denied, Method, Person, PersonKey, Reason};
use crate::provider::Provider;
use crate::store::{Passcode, SetBy};
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{
    Nothing, OneTimeCode, PasscodeCall, PasscodeProof, PasscodeReply, PasscodeStatus, ProofOfHer,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who has just signed in. In memory, by a clock that nobody sets: a broker that starts anew knows of nobody.
#[derive(Debug, Default)]
pub(super) struct SignIns(Mutex<HashMap<String, SignIn>>);

#[derive(Debug)]
struct SignIn {
    key: PersonKey,
    at: Instant,
    /// Something was done in its window.
    used: bool,
}

impl SignIns {
    /// She has; whether its window is closed already.
    pub(super) fn remember(&self, name: &str, key: &PersonKey, used: bool, within: Duration) {
        let mut all = self.all();
        all.retain(|_, s| s.at.elapsed() < within);
        all.insert(name.to_owned(), SignIn { key: key.clone(), at: Instant::now(), used });
    }

    /// Whether she has lately, and nothing was done in that window yet.
    fn is_open(&self, name: &str, key: &PersonKey, within: Duration) -> bool {
        self.all().get(name).is_some_and(|s| s.key == *key && s.at.elapsed() < within && !s.used)
    }

    /// Whether she has lately.
    fn is_recent(&self, name: &str, key: &PersonKey, within: Duration) -> bool {
        self.all().get(name).is_some_and(|s| s.key == *key && s.at.elapsed() < within)
    }

    /// Uses the window, which is closed then. Why it cannot be.
    fn take(&self, name: &str, key: &PersonKey, within: Duration) -> Result<(), &'static str> {
        match self.all().get_mut(name).filter(|s| s.key == *key && s.at.elapsed() < within) {
            None => Err("no sign-in at the provider just before"),
            Some(s) if s.used => Err("something was done already after the last sign-in"),
            Some(s) => {
                s.used = true;
                Ok(())
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, SignIn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose passcode it is about.
struct Owner {
    person: Person,
    provider: Arc<dyn Provider>,
    last: Option<Passcode>,
}

impl Owner {
    fn name(&self) -> &str {
        self.person.name.as_str()
    }

    fn own(&self) -> Option<&Passcode> {
        self.last.as_ref().filter(|last| last.hash.is_some())
    }
}

impl Engine {
    /// One call of anybody about herself, or of root.
    pub async fn passcode(&self, caller: &Caller, call: PasscodeCall) -> PasscodeReply {
        let name = match &call {
            PasscodeCall::Status(of) => of.name.as_deref(),
            PasscodeCall::Clear(proof) => proof.name.as_deref(),
            PasscodeCall::Set(_) | PasscodeCall::Once(_) => None,
        };
        let owner = match self.owner(caller, name).await {
            Ok(owner) => owner,
            Err(sentence) => return PasscodeReply::Refused(sentence),
        };
        let by = format!("by uid {} on {}", caller.uid, caller.listener);
        let (event, outcome) = match call {
            PasscodeCall::Status(_) => return PasscodeReply::Status(self.passcode_status(&owner)),
            PasscodeCall::Set(new) => {
                if !self.rules.passcode.enabled {
                    return PasscodeReply::Refused("Passcodes are not switched on here.".into());
                }
                if let Err(sentence) = self.is_suitable(&new.passcode) {
                    return PasscodeReply::Refused(sentence);
                }
                ("passcode-set", self.set(&owner, new.old, &new.passcode).await)
            }
            PasscodeCall::Once(proof) => {
                if !self.rules.passcode.one_time {
                    return PasscodeReply::Refused("One-time codes are not switched on here.".into());
                }
                ("passcode-once", self.once(&owner, proof).await)
            }
            PasscodeCall::Clear(proof) => ("passcode-clear", self.clear(caller, &owner, proof).await),
        };
        self.audit_passcode(event, &owner.person, &outcome.as_ref().map(|_| ()).map_err(Clone::clone), &by);
        outcome.unwrap_or_else(|denied| PasscodeReply::Refused(sentence(&denied)))
    }

    /// Who asks, by her uid; root must name somebody, and nobody else may. `Err` has a sentence.
    async fn owner(&self, caller: &Caller, name: Option<&str>) -> Result<Owner, String> {
        let failed = |e| format!("The store failed: {e}");
        let nobody = || "Only people of an OpenID provider who have signed in here have passcodes.".to_owned();
        let known = match (caller.uid, name) {
            (0, None) => return Err("Say whose it is: root has none.".into()),
            (0, Some(name)) => self.store.person(name).map_err(failed)?,
            (uid, _) => self.store.person_by_uid(uid).map_err(failed)?,
        };
        let known = known.filter(|k| !k.gone).ok_or_else(nobody)?;
        if name.is_some_and(|name| name != known.passwd.name) {
            return Err("Only root may do this for somebody else.".into());
        }
        let provider = self.provider(&known.provider).filter(|p| p.issuer() == known.key.issuer);
        let provider = provider.filter(|p| p.method() == Method::DeviceCode).ok_or_else(nobody)?;
        let name = UserName::new(&known.passwd.name).map_err(|e| format!("The name {e}."))?;
        let last = self.store.passcode(name.as_str(), &known.key).map_err(failed)?;
        let person = self.as_last_seen(&name, known).await.map_err(|d| sentence(&d))?;
        let provider = Arc::clone(self.proves_at(provider).map_err(|d| sentence(&d))?);
        Ok(Owner { person, provider, last })
    }

    fn passcode_status(&self, owner: &Owner) -> PasscodeStatus {
        let rules = &self.rules.passcode;
        let own = owner.own();
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        let proof = if self.signed_in.is_open(owner.name(), &owner.person.key, rules.set_within.0) {
            ProofOfHer::SignIn
        } else if own.is_some() {
            ProofOfHer::OldPasscode
        } else {
            ProofOfHer::None
        };
        PasscodeStatus {
            name: owner.name().into(),
            passcodes: rules.enabled,
            one_time: rules.one_time,
            set_at: own.map(|own| own.set_at),
            set_by: own.and_then(|own| own.set_by).map(|by| by.as_str().into()),
            expires_at: own.map(|own| own.set_at.saturating_add(seconds(rules.expires.0))),
            locked: own.is_some_and(|own| own.failures >= rules.tries),
            signed_in_at: owner.last.as_ref().map(|last| last.signed_in_at),
            // One that is asked again decides by itself.
            counts_until: owner
                .last
                .as_ref()
                .filter(|_| owner.provider.asks_again().is_none())
                .map(|last| last.signed_in_at.saturating_add(seconds(rules.sign_in_every.0))),
            proof,
        }
    }

    async fn set(&self, owner: &Owner, old: Option<Secret>, new: &Secret) -> Result<PasscodeReply, Denied> {
        let by = self.prove(owner, old).await?;
        self.passcodes.set(owner.name(), &owner.person.key, new, by).await?;
        Ok(PasscodeReply::Done(Nothing {}))
    }

    async fn once(&self, owner: &Owner, proof: PasscodeProof) -> Result<PasscodeReply, Denied> {
        self.prove(owner, proof.old).await?;
        let life = self.rules.passcode.one_time_life.0;
        let code = self.passcodes.give_out(owner.name(), &owner.person.key, life)?;
        Ok(PasscodeReply::Code(OneTimeCode { code, life_s: life.as_secs() }))
    }

    async fn clear(&self, caller: &Caller, owner: &Owner, proof: PasscodeProof) -> Result<PasscodeReply, Denied> {
        // What something in her name did in the window she can undo in it.
        let within = self.rules.passcode.set_within.0;
        let recent = proof.old.is_none() && self.signed_in.is_recent(owner.name(), &owner.person.key, within);
        if caller.uid != 0 && !recent {
            self.prove(owner, proof.old).await?;
        }
        if self.store.clear_passcode(owner.name()).map_err(internal)? {
            Ok(PasscodeReply::Done(Nothing {}))
        } else {
            Err(Reason::NoPasscode.into())
        }
    }

    /// That it is she, and not only something that runs in her name.
    async fn prove(&self, owner: &Owner, old: Option<Secret>) -> Result<SetBy, Denied> {
        let (name, rules) = (&owner.person.name, &self.rules.passcode);
        let Some(old) = old else {
            let taken = self.signed_in.take(name.as_str(), &owner.person.key, rules.set_within.0);
            return taken.map(|()| SetBy::Command).map_err(|why| Denied::because(Reason::SignInNeeded, why));
        };
        let compared = self.passcodes.compare(name.as_str(), owner.own(), &old, Some(rules.tries));
        self.counted(name, &old, compared).await?;
        if let Some(own) = owner.own() {
            self.not_expired(own)?;
        }
        self.still_honoured(&*owner.provider, &owner.person, owner.last.as_ref()).await?;
        Ok(SetBy::OldPasscode)
    }
}

/// What she is told, who has proved by her uid that she may know.
fn sentence(denied: &Denied) -> String {
    match denied.reason {
        Reason::WrongPassword => "That is not your passcode.".into(),
        Reason::NoPasscode => "There is no passcode.".into(),
        Reason::PasscodeLocked => "Too many wrong passcodes were tried. Sign in by SSH, with a code.".into(),
        Reason::TooManyTries => "There were too many failures. Try again in some minutes.".into(),
        Reason::SignInNeeded => {
            let why = denied.detail.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("Sign in by SSH with a code, and do it then{why}; or give the passcode that you have.")
        }
        reason => reason.told().unwrap_or("It failed; see the audit log.").into(),
    }
}
