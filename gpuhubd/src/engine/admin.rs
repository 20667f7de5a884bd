//! Administration of the builtin directory (`gpuhub user`, `gpuhub group`), and its people at start.

use super::{Caller, Engine, LookupError};
use crate::audit::{Event, Outcome};
use crate::model::{Denied, GroupClaim, Reason};
use crate::provider::Who;
use crate::provider::builtin::{self, PasswordRule};
use crate::provider::hash::hash_password;
use crate::store::{BuiltinGroup, BuiltinUser, StoreError};
use gpuhub_common::entry::Passwd;
use gpuhub_common::name::{GroupName, UserName, is_power_group};
use gpuhub_common::secret::Secret;
use gpuhub_common::wire::{Admin, AdminReply, NewUser, Nothing};
use std::sync::atomic::Ordering;

type Answer = Result<AdminReply, String>;

impl Engine {
    /// One administrative call; who may make it is the server's to decide.
    pub async fn admin(&self, caller: &Caller, call: Admin, rule: PasswordRule) -> AdminReply {
        let (what, about) = describe(&call);
        let answer = self.administer(call, rule).await;
        if let Some(what) = what {
            let result = if answer.is_ok() { Outcome::Ok } else { Outcome::Denied };
            let reason = if answer.is_ok() { "ok" } else { "refused" };
            let by = format!("{what} by uid {} on {}", caller.uid, caller.listener);
            self.audit.log(Event { result, reason, user: Some(about), detail: Some(by), ..Event::ok("admin") });
        }
        answer.unwrap_or_else(AdminReply::Refused)
    }

    async fn administer(&self, call: Admin, rule: PasswordRule) -> Answer {
        match call {
            Admin::UserAdd(new) => self.add_user(new, rule).await,
            Admin::UserDel(q) => self.delete_user(&q.name).await,
            Admin::UserList(_) => self.list_users(),
            Admin::UserPasswd(new) => {
                check_password(rule, &new.password)?;
                self.not_declared(&new.name)?;
                builtin::set_password(&self.store, &new.name, &new.password).await?;
                done()
            }
            Admin::GroupAdd(new) => {
                let name = GroupName::new(&new.name).map_err(|e| format!("The name {e}."))?;
                if is_power_group(new.name.as_bytes()) {
                    return Err(format!("The group name {name} gives power by itself; choose another."));
                }
                let group = BuiltinGroup { name: new.name, gid: new.gid, declared: false };
                if !self.store.add_builtin_group(&group).map_err(text)? {
                    return Err(format!("The group {name} is there already."));
                }
                let claim = GroupClaim { name, gid: new.gid.map(Into::into) };
                if self.take_in_group(builtin::NAME, &claim, Vec::new()).await.is_err() {
                    self.store.delete_builtin_group(&group.name).map_err(text)?;
                    return Err(format!("The group {} cannot have such a name or gid; see the audit log.", group.name));
                }
                done()
            }
            Admin::GroupDel(q) => {
                let declared =
                    self.store.builtin_groups().map_err(text)?.iter().any(|g| g.name == q.name && g.declared);
                if declared {
                    return Err(format!("{} is declared in the configuration; remove it there.", q.name));
                }
                if !self.store.delete_builtin_group(&q.name).map_err(text)? {
                    return Err(format!("There is no builtin group {}.", q.name));
                }
                self.store.drop_group(&q.name).map_err(text)?;
                self.publishing.publish().await;
                done()
            }
            Admin::GroupList(_) => {
                let mut groups = Vec::new();
                for g in self.store.builtin_groups().map_err(text)? {
                    groups.extend(self.store.group(&g.name).map_err(text)?.map(|k| k.group));
                }
                Ok(AdminReply::Groups(groups))
            }
            Admin::GroupMember(m) => {
                if self.store.builtin_user(&m.user).map_err(text)?.is_none() {
                    return Err(format!("There is no builtin user {}.", m.user));
                }
                self.has_group(&m.group)?;
                self.store.set_builtin_member(&m.group, &m.user, m.member).map_err(text)?;
                self.take_in_builtin(&m.user).await?;
                done()
            }
        }
    }

    async fn add_user(&self, new: NewUser, rule: PasswordRule) -> Answer {
        let name = UserName::new(&new.name).map_err(|e| format!("The name {e}."))?;
        if self.local.accounts().map_err(|d| d.detail.unwrap_or_default())?.has_user(new.name.as_bytes()) {
            return Err(format!("{name} is a local account of this machine."));
        }
        let taken = self.store.person(&new.name).map_err(text)?.filter(|k| k.provider != builtin::NAME);
        if let Some(k) = taken {
            return Err(format!("The name {name} belongs to somebody of {}.", k.provider));
        }
        for group in &new.groups {
            self.has_group(group)?;
        }
        let hash = match new.password {
            Some(password) => {
                check_password(rule, &password)?;
                Some(
                    tokio::task::spawn_blocking(move || hash_password(&password))
                        .await
                        .map_err(|e| e.to_string())??,
                )
            }
            None => None,
        };
        let user = BuiltinUser {
            name: new.name,
            full_name: new.full_name,
            uid: new.uid,
            home: None,
            shell: None,
            hash,
            declared: false,
        };
        if !self.store.add_builtin_user(&user, &new.groups).map_err(text)? {
            return Err(format!("{name} is there already."));
        }
        if let Err(sentence) = self.take_in_builtin(&user.name).await {
            self.store.delete_builtin_user(&user.name).map_err(text)?;
            return Err(sentence);
        }
        done()
    }

    async fn delete_user(&self, name: &str) -> Answer {
        self.not_declared(name)?;
        if !self.store.delete_builtin_user(name).map_err(text)? {
            return Err(format!("There is no builtin user {name}."));
        }
        self.forget(name).await;
        done()
    }

    fn list_users(&self) -> Answer {
        let mut users: Vec<Passwd> = Vec::new();
        for u in self.store.builtin_users().map_err(text)? {
            users.extend(self.store.person(&u.name).map_err(text)?.filter(|k| !k.gone).map(|k| k.passwd));
        }
        Ok(AdminReply::Users(users))
    }

    fn has_group(&self, name: &str) -> Result<(), String> {
        let groups = self.store.builtin_groups().map_err(text)?;
        if groups.iter().any(|g| g.name == name) { Ok(()) } else { Err(format!("There is no builtin group {name}.")) }
    }

    fn not_declared(&self, name: &str) -> Result<(), String> {
        match self.store.builtin_user(name).map_err(text)? {
            Some(u) if u.declared => Err(format!("{name} is declared in the configuration; change it there.")),
            _ => Ok(()),
        }
    }

    /// Makes a builtin user's entry anew.
    async fn take_in_builtin(&self, name: &str) -> Result<(), String> {
        if self.absorb_builtin(name).await.map_err(|(_, why)| why)? && !self.publishing.publish().await {
            return Err("The snapshot could not be written; see the audit log.".into());
        }
        Ok(())
    }

    /// The same without publishing it; whether a reader could see a difference. An error comes with a
    /// sentence.
    async fn absorb_builtin(&self, name: &str) -> Result<bool, (Reason, String)> {
        let legal = UserName::new(name).map_err(|e| (Reason::BadName, format!("The name {e}.")))?;
        let provider = self.provider(builtin::NAME);
        let provider = provider.ok_or((Reason::UnknownUser, "There is no builtin directory.".to_owned()))?;
        let person = provider.find(Who::Name(&legal)).await.map_err(|u| (Reason::Internal, u.0))?;
        let person = person.ok_or_else(|| (Reason::UnknownUser, format!("There is no builtin user {name}.")))?;
        let absorbed = self.absorb(&person).await;
        let told = |d: Denied| format!("{name} cannot be used: {} ({}).", d.reason, d.detail.unwrap_or_default());
        absorbed.map(|(_, changed)| changed).map_err(|d| (d.reason, told(d)))
    }

    /// After the start: the entries of the builtin directory are what its tables say. Lookups that
    /// come before do the same, one by one. While somebody is left out only because the registry does
    /// not answer, no file says of anybody that he does not exist; it is tried again ([`super::ids`]).
    pub async fn take_in_builtins(&self) -> Result<(), StoreError> {
        let users = self.store.builtin_users()?;
        let groups = self.store.builtin_groups()?;
        self.store.forget_former_builtins(builtin::NAME)?;
        let mut all_decided = true;
        for g in &groups {
            if let Ok(name) = GroupName::new(&g.name) {
                let claim = GroupClaim { name, gid: g.gid.map(Into::into) };
                // What is refused is audited there; the others must be served all the same.
                let taken = self.take_in_group(builtin::NAME, &claim, Vec::new()).await;
                all_decided &= !matches!(taken, Err(LookupError::Unavailable));
            }
        }
        for u in &users {
            if let Err((reason, detail)) = self.absorb_builtin(&u.name).await {
                all_decided &= !matches!(reason, Reason::RegistryUnavailable | Reason::Internal);
                self.audit_refused(builtin::NAME, &u.name, "entry-refused", Some(detail));
            }
        }
        self.undecided.store(!all_decided, Ordering::Relaxed);
        // Those who were taken in are seen in any case.
        if all_decided {
            self.publishing.settle().await
        } else {
            self.publishing.publish().await
        };
        Ok(())
    }
}

fn describe(call: &Admin) -> (Option<&'static str>, String) {
    match call {
        Admin::UserAdd(u) => (Some("user add"), u.name.clone()),
        Admin::UserDel(q) => (Some("user del"), q.name.clone()),
        Admin::UserPasswd(p) => (Some("user passwd"), p.name.clone()),
        Admin::GroupAdd(g) => (Some("group add"), g.name.clone()),
        Admin::GroupDel(q) => (Some("group del"), q.name.clone()),
        Admin::GroupMember(m) if m.member => (Some("group member add"), format!("{} {}", m.group, m.user)),
        Admin::GroupMember(m) => (Some("group member del"), format!("{} {}", m.group, m.user)),
        Admin::UserList(_) | Admin::GroupList(_) => (None, String::new()),
    }
}

fn check_password(rule: PasswordRule, password: &Secret) -> Result<(), String> {
    rule.check(password.expose_str().ok_or("The password is not valid UTF-8.")?)
}

fn done() -> Answer {
    Ok(AdminReply::Done(Nothing {}))
}

fn text(e: StoreError) -> String {
    format!("The store failed: {e}")
}
