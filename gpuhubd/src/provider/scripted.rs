//! A provider for the engine's own tests: its people are a list, and whoever is on it is proven.

use super::{Authenticated, Origin, Provider, Which, Who};
use crate::dialog::Dialog;
use crate::finding::Finding;
use crate::model::{Denied, DirectoryGroup, Method, Person, Reason, Unavailable};
use async_trait::async_trait;
use gpuhub_common::name::UserName;
use std::sync::Mutex;

/// The provider; the name is the issuer, too.
pub struct Scripted {
    /// Its name.
    pub name: &'static str,
    /// How its people log in.
    pub method: Method,
    /// Who they are.
    pub people: Mutex<Vec<Person>>,
}

impl Scripted {
    fn find(&self, name: &str) -> Option<Person> {
        self.people.lock().unwrap().iter().find(|p| p.name.as_str() == name).cloned()
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
        self.method
    }
    fn may_become(&self, _: &UserName) -> bool {
        self.method == Method::DeviceCode
    }
    async fn find(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        Ok(match who {
            Who::Name(name) if self.method == Method::Password => self.find(name.as_str()),
            _ => None,
        })
    }
    async fn find_group(&self, _: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable> {
        Ok(None)
    }
    async fn device_login(&self, name: &UserName, _: &Origin, dialog: &mut Dialog) -> Result<Authenticated, Denied> {
        dialog.ask(true, "Press Enter: ", 10).await?;
        let person = self.find(name.as_str()).ok_or(Reason::WrongSubject)?;
        Ok(Authenticated::verified(person, Method::DeviceCode))
    }
    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }
}
