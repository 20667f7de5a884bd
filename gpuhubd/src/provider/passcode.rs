//! What people of OpenID providers give where no device code can be shown: a passcode that they have set, or a code
//! for one login. Both are kept here; whether they still count is the engine's to say.

use super::Authenticated;
use super::hash::Hashes;
use crate::model::{Denied, Method, Person, PersonKey, Reason};
use crate::store::{Passcode, SetBy, Store, StoreError, unix_now};
use gpuhub_common::secret::Secret;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Crockford's: digits and letters that are not taken for one another. Its length is a power of two.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of a one-time code: 50 bits, of which two minutes of guessing find nothing.
const LENGTH: usize = 10;

/// Over the broker's store.
#[derive(Debug, Clone)]
pub struct Passcodes {
    store: Store,
    hashes: Hashes,
    /// In memory alone: a broker that ends takes them along.
    one_time: Arc<Mutex<HashMap<String, OneTime>>>,
}

/// A code that was given out and not used yet.
#[derive(Debug)]
struct OneTime {
    key: PersonKey,
    digest: [u8; 32],
    until: Instant,
}

impl Passcodes {
    /// With nobody at work yet.
    pub fn new(store: Store) -> Self {
        Self { store, hashes: Hashes::default(), one_time: Arc::default() }
    }

    /// Somebody gives what may be her one-time code or her passcode (`own`). Either is right, or nothing is; that takes
    /// as long where she has neither.
    pub async fn verify(
        &self,
        person: Person,
        own: Option<&Passcode>,
        given: &Secret,
        tries: u32,
    ) -> Result<Authenticated, Denied> {
        if self.use_up(person.name.as_str(), &person.key, given) {
            return Ok(Authenticated::verified(person, Method::OneTimeCode));
        }
        self.compare(person.name.as_str(), own, given, Some(tries)).await?;
        Ok(Authenticated::verified(person, Method::Passcode))
    }

    /// Whether this is the passcode. Each try is counted, and after `tries` wrong ones in a row nothing is right; `None`:
    /// it is compared all the same, since it alone lets nobody in.
    pub async fn compare(
        &self,
        name: &str,
        own: Option<&Passcode>,
        given: &Secret,
        tries: Option<u32>,
    ) -> Result<(), Denied> {
        let Some(hash) = own.and_then(|own| own.hash.clone()) else {
            self.decoy(given).await;
            return Err(Reason::NoPasscode.into());
        };
        let internal = |e: StoreError| Denied::because(Reason::Internal, format!("store: {e}"));
        let tried = self.store.count_passcode_try(name).map_err(internal)?;
        if tries.is_some_and(|tries| tried > tries) {
            self.decoy(given).await;
            return Err(Denied::because(Reason::PasscodeLocked, "too many wrong ones since the last sign-in"));
        }
        if !self.hashes.matches(given, hash).await? {
            return Err(Reason::WrongPassword.into());
        }
        // Where no number of tries is set more is to come, and that forgives them.
        if tries.is_some() { self.store.clear_passcode_tries(name).map_err(internal) } else { Ok(()) }
    }

    /// Does for nobody what [`Passcodes::compare`] does for somebody.
    pub async fn decoy(&self, given: &Secret) {
        self.hashes.decoy(given).await;
    }

    /// From now on this is her passcode. The engine has seen that she may, and that it is a good one.
    pub async fn set(&self, name: &str, key: &PersonKey, passcode: &Secret, by: SetBy) -> Result<(), Denied> {
        let internal = |what: String| Denied::because(Reason::Internal, what);
        let copy = Secret::new(passcode.expose()).ok_or_else(|| internal("too long".into()))?;
        let hash = self.hashes.hash(copy).await.ok_or_else(|| internal("it could not be hashed".into()))?;
        match self.store.set_passcode(name, key, &hash, by, unix_now()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Reason::SignInNeeded.into()),
            Err(e) => Err(internal(format!("store: {e}"))),
        }
    }

    /// A new code for one login of hers; an older one is void.
    pub fn give_out(&self, name: &str, key: &PersonKey, life: Duration) -> Result<Secret, Denied> {
        let internal = |what: &str| Denied::because(Reason::Internal, what);
        let mut random = Zeroizing::new([0u8; LENGTH]);
        getrandom::fill(&mut *random).map_err(|e| internal(&e.to_string()))?;
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().unwrap_or_default();
        let code: Zeroizing<Vec<u8>> = Zeroizing::new(random.iter().map(letter).collect());
        let now = Instant::now();
        let mut all = self.one_time();
        all.retain(|_, code| now < code.until);
        let digest = Sha256::digest(&*code).into();
        all.insert(name.to_owned(), OneTime { key: key.clone(), digest, until: now + life });
        drop(all);
        let (first, second) = code.split_at(LENGTH / 2);
        let shown = Zeroizing::new([first, b"-".as_slice(), second].concat());
        Secret::new(&shown).ok_or_else(|| internal("no code"))
    }

    /// Whether this is the code that she was given, which is then used.
    fn use_up(&self, name: &str, key: &PersonKey, given: &Secret) -> bool {
        let digest: [u8; 32] = Sha256::digest(&*as_code(given)).into();
        let mut all = self.one_time();
        // What is compared are digests: how far two of them agree says nothing of the codes.
        let hers = all.get(name).is_some_and(|c| c.digest == digest && c.key == *key && Instant::now() < c.until);
        hers && all.remove(name).is_some()
    }

    fn one_time(&self) -> MutexGuard<'_, HashMap<String, OneTime>> {
        self.one_time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A code as people type it: in any case, with or without the dash, with letters for the digits that they look like.
fn as_code(given: &Secret) -> Zeroizing<Vec<u8>> {
    let mut code = Zeroizing::new(Vec::with_capacity(given.expose().len()));
    code.extend(given.expose().iter().filter(|b| !matches!(b, b'-' | b' ')).map(|b| match b.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    }));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Standing;
    use gpuhub_common::name::UserName;

    fn dave(subject: &str) -> Person {
        Person {
            provider: "sso".into(),
            name: UserName::new("dave").unwrap(),
            key: PersonKey { issuer: "https://sso".into(), subject: subject.into() },
            full_name: String::new(),
            uid: None,
            gid: None,
            home: None,
            shell: None,
            groups: Vec::new(),
            also_in: Vec::new(),
            standing: Standing::Active,
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    async fn outcome(p: &Passcodes, person: &Person, given: &str, tries: u32) -> Result<Method, Reason> {
        let own = p.store.passcode("dave", &person.key).unwrap();
        let proven = p.verify(person.clone(), own.as_ref(), &secret(given), tries).await;
        proven.map(|proven| proven.method()).map_err(|denied| denied.reason)
    }

    #[tokio::test]
    async fn the_passcode_and_no_other() {
        let (p, person) = (Passcodes::new(Store::in_memory().unwrap()), dave("1"));
        let horse = secret("correct horse");
        let set = || p.set("dave", &person.key, &horse, SetBy::SignIn);
        assert_eq!(set().await.unwrap_err().reason, Reason::SignInNeeded);
        p.store.signed_in("dave", &person.key, 1).unwrap();
        assert_eq!(outcome(&p, &person, "correct horse", 3).await, Err(Reason::NoPasscode));
        set().await.unwrap();
        assert_eq!(outcome(&p, &person, "correct horse", 3).await, Ok(Method::Passcode));
        for wrong in ["correct hors", "correct horsf", "Correct horse", "x"] {
            assert_eq!(outcome(&p, &person, wrong, 9).await, Err(Reason::WrongPassword), "{wrong}");
        }
        assert_eq!(outcome(&p, &dave("2"), "correct horse", 9).await, Err(Reason::NoPasscode), "another dave");
    }

    #[tokio::test]
    async fn after_so_many_wrong_ones_the_right_one_is_none() {
        let (p, person) = (Passcodes::new(Store::in_memory().unwrap()), dave("1"));
        p.store.signed_in("dave", &person.key, 1).unwrap();
        p.set("dave", &person.key, &secret("correct horse"), SetBy::SignIn).await.unwrap();
        for _ in 0..2 {
            assert_eq!(outcome(&p, &person, "wrong", 3).await, Err(Reason::WrongPassword));
            assert_eq!(outcome(&p, &person, "wrong", 3).await, Err(Reason::WrongPassword));
            assert_eq!(outcome(&p, &person, "correct horse", 3).await, Ok(Method::Passcode), "in a row");
        }
        for _ in 0..3 {
            assert_eq!(outcome(&p, &person, "wrong", 3).await, Err(Reason::WrongPassword));
        }
        // Another broker over the same store goes on counting.
        let p = Passcodes::new(p.store.clone());
        for _ in 0..3 {
            assert_eq!(outcome(&p, &person, "correct horse", 3).await, Err(Reason::PasscodeLocked));
        }
        p.store.signed_in("dave", &person.key, 2).unwrap();
        assert_eq!(outcome(&p, &person, "correct horse", 3).await, Ok(Method::Passcode));
    }

    #[tokio::test]
    async fn a_code_is_good_once_for_her_and_for_a_while() {
        let (p, person) = (Passcodes::new(Store::in_memory().unwrap()), dave("1"));
        let minute = Duration::from_secs(60);
        let give = |life| p.give_out("dave", &person.key, life).unwrap().expose_str().unwrap().to_owned();
        let code = give(minute);
        assert_eq!((code.len(), code.find('-')), (11, Some(5)), "{code}");
        assert_eq!(outcome(&p, &dave("2"), &code, 3).await, Err(Reason::NoPasscode), "another dave");
        assert_eq!(outcome(&p, &person, &code, 3).await, Ok(Method::OneTimeCode));
        assert_eq!(outcome(&p, &person, &code, 3).await, Err(Reason::NoPasscode), "used");
        let code = give(minute);
        assert_eq!(outcome(&p, &person, &code.to_lowercase().replace('-', " "), 3).await, Ok(Method::OneTimeCode));
        let (old, new) = (give(minute), give(minute));
        assert_ne!(old, new);
        assert_eq!(outcome(&p, &person, &old, 3).await, Err(Reason::NoPasscode), "void since there is a newer one");
        assert_eq!(outcome(&p, &person, &new, 3).await, Ok(Method::OneTimeCode));
        assert_eq!(outcome(&p, &person, &give(Duration::ZERO), 3).await, Err(Reason::NoPasscode), "too late");
        assert!(!format!("{p:?}").contains(&new));
    }

    #[tokio::test]
    async fn a_code_is_no_try_at_the_passcode() {
        let (p, person) = (Passcodes::new(Store::in_memory().unwrap()), dave("1"));
        p.store.signed_in("dave", &person.key, 1).unwrap();
        p.set("dave", &person.key, &secret("correct horse"), SetBy::SignIn).await.unwrap();
        for _ in 0..3 {
            let code = p.give_out("dave", &person.key, Duration::from_secs(60)).unwrap();
            assert_eq!(outcome(&p, &person, code.expose_str().unwrap(), 1).await, Ok(Method::OneTimeCode));
        }
        assert_eq!(outcome(&p, &person, "correct horse", 1).await, Ok(Method::Passcode));
    }

    #[test]
    fn codes_are_typed_as_people_type() {
        assert_eq!(as_code(&secret("o1i-lz 9")).as_slice(), b"0111Z9");
    }
}
