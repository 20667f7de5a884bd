//! LDAP directories.
//!
//! ```text
//! mod        what the engine asks, put together from:
//! schema     which filters, and what the attributes are called (pure)
//! person     what the entry of somebody says (pure), group that of a group; entry
//! access     whom its own rules let in, on which box and by which service
//! membership who is in which groups, and of whom a group is made
//! aging      how old a password may be (pure)
//! password   what an answer to a bind means (pure); ppolicy reads the control in it
//! sign_in    who proves herself elsewhere, and by what she is known there
//! recent     what a login has read a moment ago
//! directory  over which connection: kept ones, failover, never a password twice; server; watch
//! srv        which servers there are, by DNS too
//! together   names of one moment in one search
//! sync       the whole directory kept here: it tells what changes, or is asked again and again
//! link       one connection, each operation in a task of its own with a deadline; trouble
//! check      what the doctor tries
//! ```
//!
//! A lookup takes at most `timeout` on a connection that hangs, and then for each other server
//! `connect_timeout` and `timeout`; and one more `connect_timeout` where only DNS can know
//! another. Passwords are wiped on our side; the LDAP library's own
//! encoding of a bind is not.

mod access;
mod aging;
mod check;
mod directory;
mod entry;
mod group;
mod link;
mod membership;
mod password;
mod person;
mod ppolicy;
mod recent;
mod schema;
mod server;
mod sign_in;
mod srv;
mod sync;
mod together;
mod trouble;
mod watch;

use super::join::Join;
use super::news::News;
use super::{Authenticated, Origin, Provider, Which, Who};
use crate::config::{LdapConfig, LdapMembers, OneOrMore};
use crate::finding::Finding;
use crate::model::{Denied, DirectoryGroup, Method, Person, Reason, Standing, Unavailable, dn};
use async_trait::async_trait;
use directory::{Directory, Lane};
use entry::Entry;
use gpuhub_common::name::UserName;
use gpuhub_common::secret::Secret;
use ldap3::{Scope, dn_escape};
use link::Query;
use person::Found;
use recent::{Read, Recent};
use schema::{Members, Schema};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use together::Together;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// People or groups that one name or id may bring up: enough for other spellings of it.
const MOST_NAMESAKES: usize = 10;

/// Groups of one person.
const MOST_GROUPS: usize = 10_000;

/// A directory.
pub struct LdapProvider {
    name: String,
    issuer: String,
    user_bases: Vec<String>,
    group_bases: Vec<String>,
    schema: Schema,
    nesting: u8,
    members: LdapMembers,
    override_home: Option<String>,
    override_shell: Option<String>,
    cache_ttl: Duration,
    offline: Option<Duration>,
    access: access::Rules,
    primary: membership::Primary,
    directory: Directory,
    together: Together,
    recent: Recent,
    pace: password::Pace,
    sign_in: Option<sign_in::SignIn>,
    sync: Option<sync::Sync>,
    enumerate: bool,
}

impl LdapProvider {
    /// Checks the urls and reads the CA file; connects nowhere yet.
    pub fn new(config: &LdapConfig) -> Result<Self, String> {
        let bases = |own: &Option<OneOrMore>| own.as_ref().unwrap_or(&config.base).0.clone();
        Ok(Self {
            name: config.name.clone(),
            issuer: schema::issuer(&config.name),
            user_bases: bases(&config.user_base),
            group_bases: bases(&config.group_base),
            schema: Schema::new(config),
            nesting: config.group_nesting,
            members: config.members,
            override_home: config.override_home.clone(),
            override_shell: config.override_shell.clone(),
            cache_ttl: config.cache_ttl.0,
            offline: config.offline_passwords.then_some(config.offline_max_age.0),
            access: access::Rules::new(config),
            primary: membership::Primary::default(),
            directory: Directory::new(config).map_err(|e| format!("provider {}: {e}", config.name))?,
            together: Together::default(),
            recent: Recent::default(),
            pace: password::Pace::default(),
            sign_in: sign_in::SignIn::new(config),
            sync: sync::Sync::new(config),
            enumerate: config.enumerate,
        })
    }

    async fn read(&self, name: &UserName) -> Result<Read, Unavailable> {
        let at = Instant::now();
        Ok(Read { at, found: self.lookup(name).await? })
    }

    /// Somebody with her groups, and her DN, for a login.
    async fn lookup(&self, name: &UserName) -> Result<Option<Found>, Unavailable> {
        let filter = self.schema.people_by_name(std::slice::from_ref(name));
        let entries = self.search_people(Lane::Logins, filter, MOST_NAMESAKES);
        // The same questions whether she exists or not; all at once where they can be.
        let (found, groups) = match (self.with_her_groups(name).await?, self.schema.members) {
            (Some((people, groups)), _) => (self.person(&people, Who::Name(name))?, self.groups(&groups)?),
            (None, Members::Names) => {
                let (entries, groups) = tokio::join!(entries, self.groups_of(Lane::Logins, name, ""));
                (self.person(&entries?, Who::Name(name))?, groups?)
            }
            (None, Members::Dns | Members::Asked) => {
                let found = self.person(&entries.await?, Who::Name(name))?;
                let dn = found.as_ref().map_or_else(|| self.nobody_s_dn(name.as_str()), |found| found.dn.clone());
                (found, self.groups_of(Lane::Logins, name, &dn).await?)
            }
        };
        let Some(mut found) = found else { return Ok(None) };
        (found.person.groups, found.person.also_in) = (groups.claims, groups.dns);
        if let Some(gid) = found.person.gid {
            found.person.also_in.extend(self.primary_group(gid).await?);
        }
        Ok(Some(found))
    }

    /// The entries of this name, and those of the groups that have it for a member, by one search; `None`: this takes
    /// two, since they lie apart, or since it cannot be seen which is which.
    async fn with_her_groups(&self, name: &UserName) -> Result<Option<(Vec<Entry>, Vec<Entry>)>, Unavailable> {
        if self.schema.members != Members::Names || self.user_bases != self.group_bases {
            return Ok(None);
        }
        let filter = self.schema.person_or_groups(name);
        let attributes = self.schema.of_person_or_groups.clone();
        let all = self.search(Lane::Logins, &self.user_bases, filter, attributes, MOST_NAMESAKES + MOST_GROUPS).await?;
        if all.iter().any(|entry| entry.values("objectclass").is_empty()) {
            return Ok(None);
        }
        let is_a = |entry: &Entry, class| entry.values("objectclass").iter().any(|c| c.eq_ignore_ascii_case(class));
        // One may be both.
        let people = all.iter().filter(|entry| is_a(entry, schema::POSIX_ACCOUNT)).cloned().collect();
        Ok(Some((people, all.into_iter().filter(|entry| is_a(entry, schema::POSIX_GROUP)).collect())))
    }

    /// The one person among entries, without her groups.
    fn person(&self, entries: &[Entry], who: Who<'_>) -> Result<Option<Found>, Unavailable> {
        let found = person::person(&self.schema, entries, who, &self.name, now_s())?;
        Ok(found.map(|mut found| {
            let name = found.person.name.as_str();
            if let Some(home) = &self.override_home {
                found.person.home = Some(home.replace("%u", name));
            }
            if let Some(shell) = &self.override_shell {
                found.person.shell = Some(shell.clone());
            }
            found
        }))
    }

    /// The entries of this name, perhaps with others'.
    async fn named(&self, name: &UserName) -> Result<Arc<Vec<Entry>>, Unavailable> {
        let search = |names: Vec<_>| {
            self.search_people(Lane::Lookups, self.schema.people_by_name(&names), MOST_NAMESAKES * names.len())
        };
        self.together.find(name, search).await
    }

    async fn search_people(&self, lane: Lane, filter: String, most: usize) -> Result<Vec<Entry>, Unavailable> {
        self.search(lane, &self.user_bases, filter, self.schema.of_person.clone(), most).await
    }

    /// Under each base; an entry that lies under two of them is found once.
    async fn search(
        &self,
        lane: Lane,
        bases: &[String],
        filter: String,
        attributes: Arc<[String]>,
        most: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        let mut all = Vec::new();
        for base in bases {
            let (base, filter, attributes) = (base.clone(), filter.clone(), attributes.clone());
            let paged = self.schema.members == Members::Asked;
            let query = Query { base, scope: Scope::Subtree, filter, attributes, most, paged };
            all.extend(self.directory.search(lane, query).await?);
        }
        if bases.len() > 1 {
            let mut seen = HashSet::new();
            all.retain(|entry| seen.insert(dn::normalised(&entry.dn)));
        }
        Ok(all)
    }

    /// Where somebody of this name would be.
    fn nobody_s_dn(&self, name: &str) -> String {
        let base = self.user_bases.first().map(String::as_str).unwrap_or_default();
        format!("{}={},{base}", self.schema.name.name, dn_escape(name))
    }

    /// A bind that fails, of nobody, with a password that may be anything.
    async fn bind_nobody(&self, password: &Secret) {
        let nobody = self.nobody_s_dn(&nobody());
        let text = password::text(password).unwrap_or_else(|| Zeroizing::new("-".into()));
        let started = Instant::now();
        // Whatever the answer is: it is nobody's.
        if self.directory.bind(&nobody, &text).await.is_ok() {
            if let Some(wait) = self.pace.nobody(started.elapsed()) {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[async_trait]
impl Provider for LdapProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "ldap"
    }

    fn issuer(&self) -> &str {
        &self.issuer
    }

    fn method(&self) -> Method {
        if self.sign_in.is_some() { Method::DeviceCode } else { Method::Password }
    }

    fn knows_people(&self) -> bool {
        true
    }

    fn signs_in_at(&self) -> Option<&str> {
        self.sign_in.as_ref().map(|sign_in| sign_in.at.as_str())
    }

    async fn join(&self, person: &Person) -> Result<Join, Denied> {
        let Some(sign_in) = &self.sign_in else { return Err(Denied::because(Reason::Internal, "no joins here")) };
        let just_read = self.recent.take(person.name.as_str()).and_then(|read| read.found);
        let found = match just_read.filter(|found| found.person == *person) {
            Some(found) => Some(found),
            None => self.lookup(&person.name).await?.filter(|found| found.person.key == person.key),
        };
        let found = found.ok_or_else(|| Denied::because(Reason::UnknownUser, "her entry has gone"))?;
        sign_in.join(&self.schema, &found)
    }

    fn cache_ttl(&self) -> Option<Duration> {
        Some(self.cache_ttl)
    }

    fn offline(&self) -> Option<Duration> {
        self.offline
    }

    fn is_away(&self) -> bool {
        self.directory.servers.known().iter().all(|server| server.seems_down())
    }

    fn replica(&self) -> Option<Duration> {
        self.sync.as_ref().map(sync::Sync::bound)
    }

    async fn follow(&self, tell: mpsc::Sender<News>) {
        if let Some(sync) = &self.sync {
            self.keep_in_sync(sync, &tell).await;
        }
    }

    fn tell_again(&self) {
        if let Some(sync) = &self.sync {
            sync.again();
        }
    }

    fn is_enumerated(&self) -> bool {
        self.enumerate
    }

    async fn find(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        match who {
            Who::Name(name) => {
                let read = self.read(name).await?;
                let person = read.found.as_ref().map(|found| found.person.clone());
                self.recent.put(name, read);
                Ok(person)
            }
            // No login begins with a number.
            Who::Uid(..) => self.look_up(who).await,
        }
    }

    async fn look_up(&self, who: Who<'_>) -> Result<Option<Person>, Unavailable> {
        let entries = match who {
            Who::Name(name) => self.named(name).await?,
            Who::Uid(..) => {
                let Some(filter) = self.schema.person_filter(who) else { return Ok(None) };
                Arc::new(self.search_people(Lane::Lookups, filter, MOST_NAMESAKES).await?)
            }
        };
        let Some(Found { mut person, dn, .. }) = self.person(&entries, who)? else { return Ok(None) };
        person.groups = self.groups_of(Lane::Lookups, &person.name, &dn).await?.claims;
        Ok(Some(person))
    }

    async fn find_group(&self, which: Which<'_>) -> Result<Option<DirectoryGroup>, Unavailable> {
        let Some(filter) = self.schema.group_filter(which) else { return Ok(None) };
        let attributes = match self.members {
            LdapMembers::All => self.schema.of_group.clone(),
            LdapMembers::None => self.schema.of_her_groups.clone(),
        };
        let entries = self.search(Lane::Lookups, &self.group_bases, filter, attributes, MOST_NAMESAKES).await?;
        let Some((claim, entry)) = group::group(&self.schema, &entries, which)? else { return Ok(None) };
        Ok(Some(DirectoryGroup { claim, members: self.members_of(entry).await? }))
    }

    async fn ssh_keys(&self, name: &UserName) -> Result<Option<Vec<String>>, Unavailable> {
        let who = Who::Name(name);
        let filter = self.schema.people_by_name(std::slice::from_ref(name));
        let attributes = self.schema.of_keys.clone();
        // Anybody may ask for anybody's: not in the way of logins.
        let entries = self.search(Lane::Lookups, &self.user_bases, filter, attributes, MOST_NAMESAKES).await?;
        let Some((entry, _)) = person::entry(&self.schema, &entries, who)? else { return Ok(None) };
        Ok(Some(self.schema.ssh_keys.iter().flat_map(|a| entry.values(&a.key)).cloned().collect()))
    }

    fn has_aliases(&self) -> bool {
        self.schema.alias.is_some()
    }

    async fn owner_of_alias(&self, alias: &UserName, login: bool) -> Result<Option<UserName>, Unavailable> {
        let Some(filter) = self.schema.people_by_alias(alias) else { return Ok(None) };
        let lane = if login { Lane::Logins } else { Lane::Lookups };
        let attributes = self.schema.of_alias.clone();
        let entries = self.search(lane, &self.user_bases, filter, attributes, MOST_NAMESAKES).await?;
        let named = entries.iter().filter_map(|e| person::user_name(&self.schema, e).map(|name| (e, name)));
        let one = person::single(named, |(e, _)| &e.dn, "people of one login name")?;
        Ok(one.map(|(_, name)| name))
    }

    async fn permits(&self, person: &Person, origin: &Origin) -> Result<(), Denied> {
        let Some(filter) = self.access.filter(&self.schema, &person.name, origin) else { return Ok(()) };
        let entries = self.search_people(Lane::Logins, filter, MOST_NAMESAKES).await?;
        let entry = person::entry(&self.schema, &entries, Who::Name(&person.name))?;
        self.access.judge(entry.map(|(entry, _)| entry), origin)
    }

    /// Her entry is read again first, unless this login has just done so: whom to bind as must not come from memory,
    /// where a DN may meanwhile be another person's; and whether she is locked must be as of now.
    async fn verify_password(&self, person: &Person, password: &Secret) -> Result<Authenticated, Denied> {
        if password.is_empty() {
            return Err(Reason::EmptyPassword.into());
        }
        if let Some(at) = self.signs_in_at() {
            return Err(Denied::because(Reason::Internal, format!("no passwords here: its people sign in at {at}")));
        }
        let just_read = self.recent.take(person.name.as_str());
        let read = match just_read.filter(|read| read.found.as_ref().is_some_and(|found| found.person == *person)) {
            Some(read) => read,
            None => self.read(&person.name).await?,
        };
        let asked = read.at;
        let Some(found) = read.found else {
            self.bind_nobody(password).await;
            return Err(Denied::because(Reason::UnknownUser, "her entry has gone"));
        };
        let Some(text) = password::text(password) else {
            self.bind_nobody(password).await;
            return Err(Denied::because(Reason::WrongPassword, "not UTF-8 text"));
        };
        let started = Instant::now();
        let answer = self.directory.bind(&found.dn, &text).await?;
        drop(text);
        let standing = found.person.standing;
        let notice = match password::verdict(&answer) {
            Err(denied) if denied.reason == Reason::WrongPassword => {
                self.pace.refused(started.elapsed());
                // A server whose policy says nothing answers a locked account like this.
                let reason = if standing == Standing::Locked { Reason::AccountLocked } else { Reason::WrongPassword };
                return Err(Denied { reason, ..denied });
            }
            Err(denied) => return Err(denied),
            Ok(notice) => notice,
        };
        if found.person.key != person.key {
            return Err(Denied::because(Reason::NameTaken, format!("the name is now {}", found.person.key.subject)));
        }
        match standing {
            Standing::Expired => Err(Denied::because(Reason::AccountExpired, "shadowExpire")),
            // A directory has no others.
            Standing::Disabled | Standing::Barred => Err(Reason::AccountDisabled.into()),
            Standing::Locked if !found.lock_may_be_over => {
                Err(Denied::because(Reason::AccountLocked, "locked in her entry"))
            }
            // The server, who knows how long its locks last, has let her in.
            Standing::Locked | Standing::Active => {
                let aging = found.aging.verdict(person::today(now_s()))?;
                let person = Person { standing: Standing::Active, ..found.person };
                Ok(Authenticated::verified(person, Method::Password).with(notice.or(aging)).asked_at(asked))
            }
        }
    }

    async fn verify_decoy(&self, name: &str, password: &Secret) {
        if password.is_empty() {
            return;
        }
        let has_just_read = self.recent.take(name).is_some();
        if let (false, Ok(nobody)) = (has_just_read, UserName::new(&nobody())) {
            if self.lookup(&nobody).await.is_err() {
                return;
            }
        }
        self.bind_nobody(password).await;
    }

    async fn change_password(&self, person: &Person, old: &Secret, new: &Secret) -> Result<(), String> {
        let away = |_| "The directory does not answer. Your password may not have been changed.".to_owned();
        let (Some(old), Some(new)) = (password::text(old), password::text(new)) else {
            return Err("Passwords of this directory are UTF-8 text and not empty.".into());
        };
        let found = self.lookup(&person.name).await.map_err(away)?;
        let Some(found) = found.filter(|f| f.person.key == person.key) else {
            return Err("Your entry in the directory is no longer the same. Ask your administrator.".into());
        };
        if self.schema.members == Members::Asked {
            let change = self.directory.change_unicode_pwd(&found.dn, &old, &new).await.map_err(away)?;
            return password::taken(&change);
        }
        let today = found.aging.is_kept().then(|| person::today(now_s()));
        let (bound, change) = self.directory.change_password(&found.dn, &old, &new, today).await.map_err(away)?;
        password::changed(&bound, change.as_ref())
    }

    async fn check(&self) -> Vec<Finding> {
        check::findings(&self.directory, &self.schema, &self.user_bases).await
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A name that nobody has. Without a source of randomness it is always the same nobody.
fn nobody() -> String {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    format!("nobody-{:016x}", u64::from_ne_bytes(bytes))
}
