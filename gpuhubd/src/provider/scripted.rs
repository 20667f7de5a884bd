//! A provider for the engine's own tests: its people are a list, and whoever is on it is proven.

use super::grant::{AskAgain, Grant, Kept};
use super::join::{By, Join, Sought};
use super::oidc::Tokens;
use super::{Authenticated, Origin, Provider, Which, Who};
use crate::dialog::Dialog;
use crate::finding::Finding;
use crate::model::{Denied, DirectoryGroup, Method, Person, Reason, Unavailable};
use async_trait::async_trait;
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Where, and the values of each name.
pub type Joins = (&'static str, HashMap<String, Vec<String>>);

/// The provider; the name is the issuer, too.
pub struct Scripted {
    /// Its name.
    pub name: &'static str,
    /// How its people log in.
    pub method: Method,
    /// Who they are.
    pub people: Mutex<Vec<Person>>,
    /// Their other login names; each with the name of whose it is.
    pub aliases: Mutex<HashMap<String, String>>,
    /// It does not answer.
    pub away: AtomicBool,
    /// What it said is asked again each time.
    pub forgetful: AtomicBool,
    /// Who has a passcode gives it first.
    pub passcode_first: AtomicBool,
    /// Its tokens are passwords.
    pub tokens: AtomicBool,
    /// It is asked again.
    pub asks_again: Mutex<Option<AskAgain>>,
    /// So often it was. Each refresh token has the number of the last answer and whose it is in it, and is good once.
    pub renewals: AtomicU32,
    /// Its new tokens are those of whoever is first on the list.
    pub confused: AtomicBool,
    /// Where its people prove themselves, and by what they are known there; it has people all the same.
    pub joins: Mutex<Option<Joins>>,
    /// It is only where those of another one prove themselves.
    pub for_others: AtomicBool,
    /// It is kept whole ([`Provider::replica`]).
    pub replica: Mutex<Option<Duration>>,
}

impl Scripted {
    fn answer(&self) -> Result<(), Unavailable> {
        if self.away.load(Ordering::Relaxed) { Err(Unavailable("away".into())) } else { Ok(()) }
    }

    fn find(&self, name: &str) -> Option<Person> {
        self.people.lock().unwrap().iter().find(|p| p.name.as_str() == name).cloned()
    }

    /// Who is on the list by that name; of a join by a value for her name here.
    fn prove(&self, sought: Sought<'_>) -> Option<Person> {
        match sought.by {
            By::Name | By::Key => self.find(sought.name.as_str()),
            By::Join(join) => {
                let there = join.values.iter().find_map(|value| self.find(value))?;
                Some(Person { name: sought.name.clone(), ..there })
            }
        }
    }
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &str {
        self.name
    }
    fn kind(&self) -> &'static str {
        "scripted"
    }
    fn issuer(&self) -> &str {
        self.name
    }
    fn method(&self) -> Method {
        self.signs_in_at().map_or(self.method, |_| Method::DeviceCode)
    }
    fn knows_people(&self) -> bool {
        self.method == Method::Password
    }
    fn signs_in_at(&self) -> Option<&str> {
        self.joins.lock().unwrap().as_ref().map(|(at, _)| *at)
    }
    async fn join(&self, person: &Person) -> Result<Join, Denied> {
        self.answer()?;
        let joins = self.joins.lock().unwrap();
        let values = joins.as_ref().and_then(|(_, values)| values.get(person.name.as_str()));
        let values = values.cloned().ok_or_else(|| Denied::because(Reason::EntryRefused, "no value"))?;
        Ok(Join { claim: None, values })
    }
    fn cache_ttl(&self) -> Option<Duration> {
        self.forgetful.load(Ordering::Relaxed).then_some(Duration::ZERO)
    }
    fn asks_passcode_first(&self) -> bool {
        self.passcode_first.load(Ordering::Relaxed)
    }
    /// Its tokens name a person by their third part.
    fn takes_tokens(&self) -> bool {
        self.tokens.load(Ordering::Relaxed)
    }
    async fn verify_token(&self, sought: Sought<'_>, token: &Secret) -> Result<Authenticated, Denied> {
        let name = sought.name;
        let signed = token.expose_str().and_then(|text| text.rsplit('.').next()) == Some(name.as_str());
        let person = self.prove(sought).filter(|_| signed).ok_or(Reason::WrongSubject)?;
        Ok(Authenticated::verified(person, Method::IdToken))
    }
    fn replica(&self) -> Option<Duration> {
        *self.replica.lock().unwrap()
    }
    fn may_become(&self, _: &UserName) -> bool {
        self.method == Method::DeviceCode && self.has_people()
    }
    fn has_people(&self) -> bool {
        !self.for_others.load(Ordering::Relaxed)
    }
    fn has_aliases(&self) -> bool {
        self.method == Method::Password
    }
    async fn owner_of_alias(&self, alias: &UserName, _: bool) -> Result<Option<UserName>, Unavailable> {
        self.answer()?;
        let aliases = self.aliases.lock().unwrap();
        Ok(aliases.get(&alias.as_str().to_ascii_lowercase()).map(|name| UserName::new(name).unwrap()))
    }
    async fn find(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        self.answer()?;
        Ok(match who {
            Who::Name(name) if self.method == Method::Password => self.find(name.as_str()),
            Who::Uid(uid, _) if self.method == Method::Password => {
                self.people.lock().unwrap().iter().find(|p| p.uid == Some(uid.into())).cloned()
            }
            _ => None,
        })
    }
    async fn find_group(&self, which: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable> {
        let people = self.people.lock().unwrap();
        let mut members: Vec<_> = people.iter().flat_map(|p| p.groups.iter().map(move |g| (g, &p.name))).collect();
        members.retain(|(g, _)| match which {
            Which::Name(name) => g.name == *name,
            Which::Gid(gid, _) => g.gid == Some(gid.into()),
        });
        let claim = members.first().map(|(g, _)| (*g).clone());
        Ok(claim.map(|claim| DirectoryGroup { claim, members: members.iter().map(|(_, m)| (*m).clone()).collect() }))
    }
    async fn verify_password(&self, person: &Person, _: &Secret) -> Result<Authenticated, Denied> {
        let person = self.find(person.name.as_str()).ok_or(Reason::UnknownUser)?;
        Ok(Authenticated::verified(person, Method::Password))
    }
    async fn device_login(&self, sought: Sought<'_>, _: &Origin, dialog: &mut Dialog) -> Result<Authenticated, Denied> {
        dialog.ask(true, "Press Enter: ", 10).await?;
        let person = self.prove(sought).ok_or(Reason::WrongSubject)?;
        let grant = self.asks_again().map(|_| {
            let number = self.renewals.load(Ordering::Relaxed);
            let kept = Kept::Refresh(format!("{number} {}", person.key.subject).into());
            Grant { provider: self.name.into(), key: person.key.clone(), kept: Some(kept) }
        });
        Ok(Authenticated::verified(person, Method::DeviceCode).granting(grant))
    }
    fn asks_again(&self) -> Option<AskAgain> {
        *self.asks_again.lock().unwrap()
    }
    async fn renew(&self, kept: &Kept) -> Result<Tokens, Denied> {
        self.answer()?;
        let Kept::Refresh(token) = kept else { panic!("it gives no others") };
        let used = self.renewals.fetch_add(1, Ordering::Relaxed);
        let (number, whose) = token.expose().split_once(' ').unwrap();
        if number != used.to_string() {
            return Err(Denied::because(Reason::NotHonoured, "that was used"));
        }
        // As long as an answer takes: others may want to ask meanwhile, or give up.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let refresh_token = Some(format!("{} {whose}", used + 1).into());
        let first = self.people.lock().unwrap().first().map(|p| p.key.subject.clone());
        let whose = first.filter(|_| self.confused.load(Ordering::Relaxed)).unwrap_or_else(|| whose.to_owned());
        Ok(Tokens { id_token: None, access_token: Some(whose.into()), refresh_token })
    }
    async fn who_has(&self, tokens: &Tokens, sought: Sought<'_>) -> Result<Option<Person>, Denied> {
        let whose = tokens.access_token.as_ref().unwrap().expose();
        let person = self.people.lock().unwrap().iter().find(|p| p.key.subject == whose).cloned();
        let person = person.ok_or(Denied::because(Reason::NotHonoured, "disabled"))?;
        match sought.by {
            By::Key => Ok(Some(Person { name: sought.name.clone(), ..person })),
            _ if person.name == *sought.name => Ok(Some(person)),
            _ => Err(Reason::WrongSubject.into()),
        }
    }
    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }
}
