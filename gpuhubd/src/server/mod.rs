//! The sockets. Wire types stop here: the engine knows nothing of connections.
//!
//! One task a connection. All begin in a runtime of one thread, the crowd's, where lookups stay to their
//! end: nothing is handed from thread to thread for them. What begins otherwise moves to the broker's own
//! runtime, so that logins have a thread for themselves, however many lookups there are. A connection is
//! either fresh, or in a conversation (a login or a password change); [`rights`] says what may be asked in
//! which state by whom, and whatever else comes ends the connection.

mod frame;
mod rights;

use crate::dialog::{Dialog, Far};
use crate::engine::{Asker, Caller, Engine, GroupKey, LookupError, UserKey};
use crate::provider::builtin::PasswordRule;
use frame::Frames;
use gpuhub_common::wire::{
    BadRequest, Call, CloseSession, Code, ErrorCode, GroupIdsReply, GroupQuery, GroupReply, Next, Nothing, Purpose,
    Reply, Request, SshKeysReply, Step, UserQuery, UserReply,
};
use nix::sys::resource::{Resource, getrlimit};
use rights::{Peer, State};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections at once, root's and everybody else's counted apart, and of one uid: nobody's shell can
/// keep sshd from asking, and logins that wait for people leave as many again for its lookups. The file
/// descriptors of the process are the limit behind it.
const MOST_OF_ROOT: usize = 2 * MOST_LOGINS;
const MOST_OF_OTHERS: usize = 2000;
const MOST_OF_ONE: usize = 500;
/// Conversations at once. They are counted apart from lookups, so that a flood of `getent` cannot
/// keep anybody from logging in; and they are more than the device logins that may wait at a provider
/// (`provider::oidc`), so that these cannot keep anybody out who has a password.
const MOST_LOGINS: usize = 2000;
/// Lookups of login daemons at once; more wait. Those of others wait in a line of their own
/// (`engine::turns`).
const MOST_LOGIN_LOOKUPS: usize = 64;
/// For the first request, and between requests outside a conversation.
const IDLE: Duration = Duration::from_secs(10);
/// For a person to answer a prompt.
const HUMAN: Duration = Duration::from_secs(900);
/// For a whole conversation.
const CONVERSATION: Duration = Duration::from_secs(2400);

/// One socket: who may ask what on it, and where requests on it come from.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Label in the audit log.
    pub label: Arc<str>,
    /// Uids besides 0 that may run logins.
    pub login_peers: Vec<u32>,
}

/// Serves `listener` for ever; to be run by the crowd's runtime. Whatever is no lookup goes on in `own`.
/// Fails if the listener cannot be watched.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    policy: Policy,
    engine: Arc<Engine>,
    rule: PasswordRule,
    own: Handle,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let server = Arc::new(Server {
        policy,
        engine,
        rule,
        own,
        logins: Arc::new(Semaphore::new(most_logins(descriptors))),
        login_lookups: Semaphore::new(MOST_LOGIN_LOOKUPS),
    });
    let places = Arc::new(Places::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(peer) = stream.peer_cred() else { continue };
                // Whoever has too many is dropped at once; his next attempt may find a place.
                let Some(place) = places.take(peer.uid()) else { continue };
                let caller = Caller { listener: Arc::clone(&server.policy.label), uid: peer.uid(), pid: pid(&peer) };
                let server = Arc::clone(&server);
                // A connection that ends in an error has been answered by its end.
                tokio::spawn(server.connection(stream, caller, place));
            }
            // Out of file descriptors: those in use end some time.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// [`MOST_LOGINS`], or fewer where the process may not have many file descriptors: a login takes one,
/// and one for its provider or directory, and as many are for everybody else.
fn most_logins(descriptors: u64) -> usize {
    usize::try_from(descriptors / 4).map_or(MOST_LOGINS, |most| most.min(MOST_LOGINS))
}

/// Who has how many connections.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<u32, usize>>);

/// One connection's place; given back when it ends.
struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&uid).copied().unwrap_or(0);
        let others: usize = taken.iter().filter(|(of, _)| **of != 0).map(|(_, n)| n).sum();
        let room = if uid == 0 { own < MOST_OF_ROOT } else { own < MOST_OF_ONE && others < MOST_OF_OTHERS };
        room.then(|| {
            *taken.entry(uid).or_default() += 1;
            Place { places: Arc::clone(self), uid }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = taken.get_mut(&self.uid) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

/// A process of another PID namespace that ours does not contain has no number here.
fn pid(peer: &UCred) -> Option<u32> {
    peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
}

/// Ends the connection, without a word: to whoever breaks the protocol nothing is owed.
#[derive(Debug)]
struct Dropped;

struct Server {
    policy: Policy,
    engine: Arc<Engine>,
    rule: PasswordRule,
    own: Handle,
    logins: Arc<Semaphore>,
    login_lookups: Semaphore,
}

impl Server {
    async fn connection(self: Arc<Self>, stream: UnixStream, caller: Caller, place: Place) -> Result<(), Dropped> {
        let peer = match caller.uid {
            0 => Peer::Root,
            uid if self.policy.login_peers.contains(&uid) => Peer::LoginProgram,
            _ => Peer::Anyone,
        };
        let mut frames = Frames::new(stream);
        let call = next_call(&mut frames, peer).await?;
        let is_lookup = match &call {
            Call::GetUser(query) => !query.login,
            Call::GetGroup(_) | Call::GetGroupIds(_) | Call::GetSshKeys(_) => true,
            _ => false,
        };
        if is_lookup {
            return self.answer_all(peer, caller, place, frames, call).await;
        }
        let stream = frames.into_std().ok_or(Dropped)?;
        self.own.clone().spawn(async move {
            let frames = Frames::new(UnixStream::from_std(stream).map_err(|_| Dropped)?);
            self.answer_all(peer, caller, place, frames, call).await
        });
        Ok(())
    }

    /// Answers this call, and whatever comes after it.
    async fn answer_all(
        self: Arc<Self>,
        peer: Peer,
        caller: Caller,
        _place: Place,
        mut frames: Frames,
        mut call: Call,
    ) -> Result<(), Dropped> {
        loop {
            self.answer(call, &caller, peer, &mut frames).await?;
            call = next_call(&mut frames, peer).await?;
        }
    }

    // Boxed is what is not a lookup: one task's memory for each connection is that of its largest answer.
    async fn answer(&self, call: Call, caller: &Caller, peer: Peer, frames: &mut Frames) -> Result<(), Dropped> {
        let engine = &self.engine;
        let sent = match call {
            Call::GetUser(query) => frames.send(&reply(self.get_user(query, caller, peer).await?)).await,
            Call::GetGroup(query) => frames.send(&reply(self.get_group(query, caller).await?)).await,
            Call::GetGroupIds(query) => {
                let asker = Asker::Anybody(caller.uid);
                let gids = match engine.own_name(query.name, asker).await {
                    Ok(name) => engine.group_ids(&name, asker).await,
                    Err(error) => Err(error),
                };
                frames.send(&reply(gids.map(|gids| GroupIdsReply { gids }))).await
            }
            Call::GetSshKeys(query) => {
                let asker = Asker::Anybody(caller.uid);
                let keys = match engine.own_name(query.name, asker).await {
                    Ok(name) => Box::pin(engine.ssh_keys(&name, asker)).await,
                    Err(error) => Err(error),
                };
                frames.send(&reply(keys.map(|keys| SshKeysReply { keys }))).await
            }
            Call::Begin(begin) => {
                let Ok(_place) = Arc::clone(&self.logins).try_acquire_owned() else {
                    return frames.send(&error::<Nothing>(ErrorCode::Busy)).await.ok_or(Dropped);
                };
                let (dialog, far) = Dialog::pair();
                let (engine, caller) = (Arc::clone(engine), caller.clone());
                let task = tokio::spawn(async move {
                    let context = engine.by_own_name(begin.context).await;
                    match begin.purpose {
                        Purpose::Authenticate => engine.login(&caller, &context, dialog).await,
                        Purpose::ChangePassword => engine.change_password(&context, dialog).await,
                    }
                });
                let conversation = Box::pin(converse(frames, far, Conversation(task), peer));
                return timeout(CONVERSATION, conversation).await.map_err(|_| Dropped)?;
            }
            // Only ever inside a conversation; the rights table says so.
            Call::Answer(_) => return Err(Dropped),
            Call::Account(context) => {
                let context = Box::pin(engine.by_own_name(context)).await;
                frames.send(&reply(Ok(Box::pin(engine.account(caller, &context)).await))).await
            }
            Call::Establish(context) => frames.send(&reply(engine.establish(&engine.by_known_name(context)))).await,
            Call::OpenSession(context) => {
                frames.send(&reply(engine.open_session(&engine.by_known_name(context)))).await
            }
            Call::CloseSession(close) => {
                let close = CloseSession { context: engine.by_known_name(close.context), ..close };
                frames.send(&reply(engine.close_session(&close).map(|()| Nothing {}))).await
            }
            Call::Admin(admin) => frames.send(&reply(Ok(Box::pin(engine.admin(caller, admin, self.rule)).await))).await,
            Call::Idmap(call) => frames.send(&reply(Ok(Box::pin(engine.idmap(caller, call)).await))).await,
            Call::Cache(call) => frames.send(&reply(Ok(Box::pin(engine.cache(caller, call)).await))).await,
            Call::Passcode(call) => frames.send(&reply(Ok(Box::pin(engine.passcode(caller, call)).await))).await,
            Call::GetStatus(_) => frames.send(&reply(Ok(engine.status()))).await,
        };
        sent.ok_or(Dropped)
    }

    async fn get_user(
        &self,
        q: UserQuery,
        caller: &Caller,
        peer: Peer,
    ) -> Result<Result<UserReply, LookupError>, Dropped> {
        // Only root's login daemons get provisional entries.
        let (asker, _turn) = if q.login && peer == Peer::Root {
            (Asker::Login, Some(self.login_lookups.acquire().await.map_err(|_| Dropped)?))
        } else {
            (Asker::Anybody(caller.uid), None)
        };
        let found = match (q.name, q.uid) {
            (Some(name), None) => match self.engine.own_name(name, asker).await {
                Ok(name) => self.engine.user(UserKey::Name(&name), asker).await,
                Err(error) => Err(error),
            },
            (None, Some(uid)) => self.engine.user(UserKey::Uid(uid), asker).await,
            _ => return Err(Dropped),
        };
        Ok(found.map(|user| UserReply { user }))
    }

    async fn get_group(&self, q: GroupQuery, caller: &Caller) -> Result<Result<GroupReply, LookupError>, Dropped> {
        let key = match (&q.name, q.gid) {
            (Some(name), None) => GroupKey::Name(name),
            (None, Some(gid)) => GroupKey::Gid(gid),
            _ => return Err(Dropped),
        };
        Ok(self.engine.group(key, Asker::Anybody(caller.uid)).await.map(|group| GroupReply { group }))
    }
}

/// The next thing that is asked outside a conversation.
async fn next_call(frames: &mut Frames, peer: Peer) -> Result<Call, Dropped> {
    let frame = timeout(IDLE, frames.next()).await.map_err(|_| Dropped)?;
    let call = match Request::parse(&frame.ok_or(Dropped)?) {
        Ok(request) => request.call,
        Err(BadRequest::Version) => {
            frames.send(&error::<Nothing>(ErrorCode::VersionMismatch)).await.ok_or(Dropped)?;
            return Err(Dropped);
        }
        Err(BadRequest::Malformed) => return Err(Dropped),
    };
    if rights::allowed(&call, peer, State::Fresh) { Ok(call) } else { Err(Dropped) }
}

/// The engine's side of a conversation; gone with the connection.
struct Conversation(JoinHandle<()>);

impl Drop for Conversation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Relays steps and answers until the engine is done or the client goes away.
async fn converse(frames: &mut Frames, mut far: Far, _engine: Conversation, peer: Peer) -> Result<(), Dropped> {
    loop {
        let step = tokio::select! {
            step = far.steps.recv() => step,
            () = frames.disturbed() => return Err(Dropped),
        };
        // No last word: the engine's task panicked. The person is refused, the broker lives.
        let step = step.unwrap_or(Step { messages: Vec::new(), next: Next::Done(Code::SystemErr) });
        let done = matches!(step.next, Next::Done(_));
        frames.send(&reply(Ok(step))).await.ok_or(Dropped)?;
        if done {
            return Ok(());
        }
        let frame = timeout(HUMAN, frames.next()).await.map_err(|_| Dropped)?.ok_or(Dropped)?;
        let call = Request::parse(&frame).map_err(|_| Dropped)?.call;
        if !rights::allowed(&call, peer, State::Prompted) {
            return Err(Dropped);
        }
        let Call::Answer(answer) = call else { return Err(Dropped) };
        // If nobody listens any more, the next step says why.
        let _ = far.answers.send(answer.secret).await;
    }
}

fn reply<T: Serialize>(result: Result<T, LookupError>) -> Reply<T> {
    match result {
        Ok(parameters) => Reply { parameters: Some(parameters), error: None },
        Err(LookupError::NoSuchEntry) => error(ErrorCode::NoSuchEntry),
        Err(LookupError::Unavailable) => error(ErrorCode::Unavailable),
    }
}

fn error<T>(code: ErrorCode) -> Reply<T> {
    Reply { parameters: None, error: Some(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_logins_than_there_are_descriptors_for() {
        assert_eq!([1024, 4096, 16_384, u64::MAX].map(most_logins), [256, 1024, 2000, 2000]);
    }
}
