//! The builtin directory: users and groups in the broker's own store, added by `gpuhub user` or
//! declared in the configuration. Passwords are argon2id hashes.

use super::hash::{self, Hashes, hash_password};
use super::{Authenticated, Provider, Which, Who};
use crate::config::{Builtin, ConfigError};
use crate::finding::Finding;
use crate::model::{Denied, DirectoryGroup, GroupClaim, Method, Person, PersonKey, Reason, Standing, Unavailable};
use crate::store::{BuiltinGroup, BuiltinUser, Store, StoreError};
use async_trait::async_trait;
use gpuhub_common::name::{GroupName, UserName};
use gpuhub_common::secret::Secret;

/// The name of this provider.
pub const NAME: &str = "builtin";

/// The provider.
#[derive(Debug)]
pub struct BuiltinProvider {
    store: Store,
    rule: PasswordRule,
    hashes: Hashes,
}

/// What a new password must be.
#[derive(Debug, Clone, Copy)]
pub struct PasswordRule {
    /// Characters.
    pub min_length: usize,
    /// Of lower case, upper case, digits, others.
    pub min_classes: usize,
}

impl PasswordRule {
    /// A sentence for the person if the password is not good enough.
    pub fn check(&self, password: &str) -> Result<(), String> {
        let classes: [fn(char) -> bool; 4] = [
            char::is_lowercase,
            char::is_uppercase,
            |c| c.is_ascii_digit(),
            |c| !c.is_lowercase() && !c.is_uppercase() && !c.is_ascii_digit(),
        ];
        let used = classes.iter().filter(|class| password.chars().any(class)).count();
        if password.chars().count() < self.min_length {
            Err(format!("The password is too short: it needs at least {} characters.", self.min_length))
        } else if used < self.min_classes {
            Err(format!(
                "The password is too simple: it needs {} of lower case, upper case, digits and other characters.",
                self.min_classes
            ))
        } else {
            Ok(())
        }
    }
}

impl BuiltinProvider {
    /// Over `store`, after [`declare`].
    pub fn new(store: Store, config: &Builtin) -> Self {
        Self {
            store,
            rule: PasswordRule { min_length: config.min_length, min_classes: config.min_classes },
            hashes: Hashes::default(),
        }
    }

    fn person(&self, user: BuiltinUser) -> Result<Option<Person>, Unavailable> {
        let Ok(name) = UserName::new(&user.name) else { return Ok(None) };
        let groups = self.store.builtin_groups_of(&user.name).map_err(unavailable)?;
        Ok(Some(Person {
            provider: NAME.into(),
            key: PersonKey { issuer: NAME.into(), subject: user.name },
            name,
            full_name: user.full_name,
            uid: user.uid.map(Into::into),
            gid: None,
            home: user.home,
            shell: user.shell,
            groups: groups.into_iter().filter_map(claim).collect(),
            also_in: Vec::new(),
            standing: Standing::Active,
        }))
    }
}

#[async_trait]
impl Provider for BuiltinProvider {
    fn name(&self) -> &str {
        NAME
    }

    fn kind(&self) -> &'static str {
        NAME
    }

    fn issuer(&self) -> &str {
        NAME
    }

    fn method(&self) -> Method {
        Method::Password
    }

    fn is_complete(&self) -> bool {
        true
    }

    async fn find(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        let user = match who {
            Who::Name(name) => self.store.builtin_user(name.as_str()).map_err(unavailable)?,
            // Derived uids are the idmap's; the engine knows them from the store.
            Who::Uid(uid, _) => {
                self.store.builtin_users().map_err(unavailable)?.into_iter().find(|u| u.uid == Some(uid))
            }
        };
        user.map_or(Ok(None), |u| self.person(u))
    }

    async fn find_group(&self, which: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable> {
        let groups = self.store.builtin_groups().map_err(unavailable)?;
        let found = groups.into_iter().find(|g| match which {
            Which::Name(name) => g.name == name.as_str(),
            Which::Gid(gid, _) => g.gid == Some(gid),
        });
        let Some(claim) = found.and_then(claim) else { return Ok(None) };
        let members = self.store.builtin_members_of(claim.name.as_str()).map_err(unavailable)?;
        let members = members.iter().filter_map(|m| UserName::new(m).ok()).collect();
        Ok(Some(DirectoryGroup { claim, members }))
    }

    async fn verify_password(&self, person: &Person, password: &Secret) -> Result<Authenticated, Denied> {
        let user = self.store.builtin_user(person.name.as_str()).map_err(|e| Denied::from(unavailable(e)))?;
        let Some(hash) = user.and_then(|u| u.hash) else {
            self.verify_decoy(person.name.as_str(), password).await;
            return Err(Denied::because(Reason::WrongPassword, "no password is set"));
        };
        if self.hashes.matches(password, hash).await? {
            Ok(Authenticated::verified(person.clone(), Method::Password))
        } else {
            Err(Reason::WrongPassword.into())
        }
    }

    async fn verify_decoy(&self, _name: &str, password: &Secret) {
        self.hashes.decoy(password).await;
    }

    async fn change_password(&self, person: &Person, old: &Secret, new: &Secret) -> Result<(), String> {
        // The next start would undo it: a password that leaked would be good again.
        if self.store.builtin_user(person.name.as_str()).is_ok_and(|u| u.is_some_and(|u| u.declared)) {
            return Err("Your password is set in this box's configuration. Ask your administrator.".into());
        }
        let text = new.expose_str().ok_or("The password is not valid UTF-8.")?;
        self.rule.check(text)?;
        if old.expose() == new.expose() {
            return Err("The new password is the old one.".into());
        }
        set_password(&self.store, person.name.as_str(), new).await
    }

    async fn check(&self) -> Vec<Finding> {
        match self.store.builtin_users() {
            Ok(users) => vec![Finding::note("builtin", format!("the builtin directory has {} users", users.len()))],
            Err(e) => vec![Finding::fatal(
                "store",
                format!("the store cannot be read: {e}"),
                "Look at /var/lib/gpuhub: its file system, its owner.",
            )],
        }
    }
}

/// Hashes and stores; `Err` has a sentence for whoever asked.
pub async fn set_password(store: &Store, name: &str, password: &Secret) -> Result<(), String> {
    let copy = Secret::new(password.expose()).ok_or("The password is too long.")?;
    let hash = tokio::task::spawn_blocking(move || hash_password(&copy)).await.map_err(|e| e.to_string())??;
    match store.set_builtin_hash(name, &hash) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("There is no builtin user {name}.")),
        Err(e) => Err(format!("The store cannot be written: {e}")),
    }
}

/// Brings the store to what the configuration declares. Secret files become hashes here, and
/// the hash is kept as long as it still fits, so that a restart does not rewrite it.
pub fn declare(store: &Store, config: &Builtin) -> Result<(), ConfigError> {
    declare_all(store, config).map_err(|what| ConfigError {
        file: "the declared users".into(),
        line: None,
        what,
        remedy: String::new(),
    })
}

fn declare_all(store: &Store, config: &Builtin) -> Result<(), String> {
    let text = |e: StoreError| e.to_string();
    for group in &config.group {
        let g = group.get_ref();
        store
            .add_builtin_group(&BuiltinGroup { name: g.name.as_str().into(), gid: g.gid, declared: true })
            .map_err(text)?;
    }
    for user in &config.user {
        let u = user.get_ref();
        let kept = store.builtin_user(u.name.as_str()).map_err(text)?.and_then(|k| k.hash);
        let hash = match (&u.password_hash, &u.password_file) {
            (Some(hash), _) => Some(hash.clone()),
            (None, Some(file)) => {
                let fits = kept.as_deref().is_some_and(|hash| hash::fits(file.secret(), hash));
                if fits { kept } else { Some(hash_password(file.secret())?) }
            }
            (None, None) => None,
        };
        let groups: Vec<String> = u.groups.iter().map(|g| g.as_str().to_owned()).collect();
        let row = BuiltinUser {
            name: u.name.as_str().into(),
            full_name: u.full_name.clone(),
            uid: u.uid,
            home: u.home.clone(),
            shell: u.shell.clone(),
            hash,
            declared: true,
        };
        store.declare_builtin_user(&row, &groups).map_err(text)?;
    }
    for old in store.builtin_users().map_err(text)? {
        if old.declared && !config.user.iter().any(|u| u.get_ref().name.as_str() == old.name) {
            store.delete_builtin_user(&old.name).map_err(text)?;
        }
    }
    for old in store.builtin_groups().map_err(text)? {
        if old.declared && !config.group.iter().any(|g| g.get_ref().name.as_str() == old.name) {
            store.delete_builtin_group(&old.name).map_err(text)?;
        }
    }
    Ok(())
}

fn claim(group: BuiltinGroup) -> Option<GroupClaim> {
    Some(GroupClaim { name: GroupName::new(&group.name).ok()?, gid: group.gid.map(Into::into) })
}

fn unavailable(e: StoreError) -> Unavailable {
    Unavailable(format!("store: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_rule() {
        let rule = PasswordRule { min_length: 8, min_classes: 3 };
        assert!(rule.check("aB3aB3a").is_err(), "short");
        assert!(rule.check("aaaaaaaaaB").is_err(), "two classes");
        assert!(rule.check("aaaaaaaB3").is_ok());
        assert!(rule.check("äääääÄ 3").is_ok(), "length in characters, not bytes");
    }

    #[tokio::test]
    async fn passwords_are_verified() {
        let store = Store::in_memory().unwrap();
        let config = crate::config::Config::parse("f", "[[builtin.user]]\nname = \"alice\"\n").unwrap();
        declare(&store, &config.builtin).unwrap();
        let p = BuiltinProvider::new(store.clone(), &config.builtin);
        let alice = p.find(Who::Name(&UserName::new("alice").unwrap())).await.unwrap().unwrap();
        let secret = |t: &str| Secret::new(t.as_bytes()).unwrap();
        let denied = p.verify_password(&alice, &secret("x")).await.unwrap_err();
        assert_eq!(denied.reason, Reason::WrongPassword, "no password set");
        set_password(&store, "alice", &secret("Correct horse 1")).await.unwrap();
        assert!(p.verify_password(&alice, &secret("Correct horse 1")).await.is_ok());
        assert!(p.verify_password(&alice, &secret("correct horse 1")).await.is_err());
        assert!(p.change_password(&alice, &secret("a"), &secret("short")).await.is_err());
        let refused = p.change_password(&alice, &secret("a"), &secret("Another horse 2")).await.unwrap_err();
        assert!(refused.contains("configuration"), "{refused}: the next start would undo it");
        declare(&store, &Builtin::default()).unwrap();
        assert!(store.builtin_user("alice").unwrap().is_none(), "what is declared no more goes");
    }
}
