//! Which client's query a cancel request means. Each client has a key of its own, which has nothing to do with the
//! keys of server connections; it leads to the server connection that the client has at this moment, if it has one.
//!
//! A key says which replica of the proxy gave it out, so that several behind one address can pass requests on to one
//! another. Today there is one, with the number 0. The number stands
//!
//! - in protocol 3.2, in the first two bytes of the secret, most significant byte first; thirty random bytes follow;
//! - in protocol 3.0, whose secret has four bytes, in the process id: a zero bit, so that it is positive as a signed
//!   number, as PostgreSQL's are; eight bits of the replica; 23 random bits, of which one is set. A client that has
//!   another process id, its server connection's, can be any replica's.
//!
//! A process id is no secret: a request's is looked up, and then the secrets are compared in constant time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use aws_lc_rs::constant_time;
use tokio::sync::Notify;

use super::Shared;
use crate::backend::cancel::{self, CancelKey};
use crate::metrics::Cancelled;
use crate::scram::{self, ScramError};
use crate::wire::version::Version;

/// The number of this replica of the proxy.
const REPLICA: u8 = 0;

/// Bits of a process id that are random; the replica's number stands above them.
const RANDOM_BITS: u32 = 23;

/// Every client's key. The process id is not the client's alone: in session mode it is its server connection's, and two
/// servers may have processes of the same number.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<Clients>);

#[derive(Debug, Default)]
struct Clients {
    /// By process id, and by when the client came.
    by_place: BTreeMap<Place, Arc<Target>>,
    came: u64,
}

type Place = (u32, u64);

/// What a client proves its right to cancel with. It stays out of `Debug`, and is compared by [`Secret::is`] only.
#[derive(Clone)]
pub(super) enum Secret {
    /// Of protocol 3.0.
    Short([u8; 4]),
    /// Of protocol 3.2, which few clients speak yet. As long as PostgreSQL's own.
    Long(Box<[u8; 32]>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Secret {
    fn fresh(version: Version) -> Result<Self, ScramError> {
        if version < Version::V3_2 {
            return Ok(Self::Short(scram::random()?));
        }
        let mut secret = scram::random::<32>()?;
        secret[..2].copy_from_slice(&u16::from(REPLICA).to_be_bytes());
        Ok(Self::Long(Box::new(secret)))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => &**bytes,
        }
    }

    fn is(&self, other: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.as_bytes(), other).is_ok()
    }
}

/// A client's key, for as long as the client is there.
#[derive(Debug)]
pub(super) struct Registration {
    shared: Arc<Shared>,
    place: Place,
    /// What a request with it hits.
    pub(super) target: Arc<Target>,
}

impl Registration {
    /// Gives a client a key: with this process id, that of the server connection that is its own, or with one that is
    /// nobody's.
    pub(super) fn new(shared: &Arc<Shared>, version: Version, pid: Option<u32>) -> Result<Self, ScramError> {
        let (place, target) = shared.cancels.register(version, pid)?;
        Ok(Self { shared: Arc::clone(shared), place, target })
    }

    /// What the client is given: a process id and a secret.
    pub(super) fn key(&self) -> (u32, Secret) {
        (self.place.0, self.target.secret.clone())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.cancels.forget(self.place);
    }
}

/// What a cancel request for one client hits.
#[derive(Debug)]
pub(super) struct Target {
    secret: Secret,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    server: Option<Arc<CancelKey>>,
    /// Requests, once there was one: most clients never cancel anything.
    requests: Option<Box<Requests>>,
    /// The client waits for a server connection.
    waits: Option<Waker>,
    /// It is not to wait any longer.
    cancelled: bool,
}

#[derive(Debug, Default)]
struct Requests {
    /// How many are on their way to the server.
    in_flight: usize,
    /// Server connections for which one was lost on its way: it may still arrive, whoever has them then.
    lost: Vec<Arc<CancelKey>>,
    /// Tells when one has arrived or is lost.
    settled: Arc<Notify>,
}

impl Cancels {
    /// A fresh key for a client, with this process id or with one of its own.
    fn register(&self, version: Version, pid: Option<u32>) -> Result<(Place, Arc<Target>), ScramError> {
        loop {
            let secret = Secret::fresh(version)?;
            let pid = match pid {
                Some(pid) => pid,
                None => fresh_pid()?,
            };
            let mut clients = self.clients();
            if clients.of(pid, secret.as_bytes()).is_some() {
                continue;
            }
            clients.came += 1;
            let (place, target) = ((pid, clients.came), Arc::new(Target::new(secret)));
            clients.by_place.insert(place, Arc::clone(&target));
            return Ok((place, target));
        }
    }

    /// The client is gone.
    fn forget(&self, place: Place) {
        self.clients().by_place.remove(&place);
    }

    /// Cancels what the client with that key has running.
    pub(super) async fn cancel(&self, pid: u32, secret: &[u8]) -> Cancelled {
        let Some(target) = self.clients().of(pid, secret) else { return Cancelled::Unknown };
        let Some(server) = target.depart() else {
            return if target.end_wait() { Cancelled::Waiting } else { Cancelled::Idle };
        };
        let mut under_way = UnderWay { target, server, delivered: false };
        match cancel::send(&under_way.server).await {
            Ok(()) => under_way.delivered = true,
            Err(error) => {
                let server = &under_way.server.endpoint;
                tracing::warn!(%server, %error, "could not forward a cancel request");
            }
        }
        Cancelled::Forwarded
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn of(&self, pid: u32, secret: &[u8]) -> Option<Arc<Target>> {
        let same_pid = self.by_place.range((pid, 0)..=(pid, u64::MAX));
        same_pid.map(|(_, target)| target).find(|target| target.secret.is(secret)).cloned()
    }
}

/// A random process id of this replica.
fn fresh_pid() -> Result<u32, ScramError> {
    let random = u32::from_be_bytes(scram::random()?) >> (u32::BITS - RANDOM_BITS);
    Ok(u32::from(REPLICA) << RANDOM_BITS | random.max(1))
}

impl Target {
    fn new(secret: Secret) -> Self {
        Self { secret, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has this server connection from now on.
    pub(super) fn aim(&self, server: &Arc<CancelKey>) {
        self.state().server = Some(Arc::clone(server));
    }

    /// The client gives its server connection back. `false` if a request for it may still arrive: then nobody else may
    /// have the connection before [`Target::settle`] says so, or the request would hit the wrong query.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state();
        state.server = None;
        state.requests.as_ref().is_none_or(|requests| requests.in_flight == 0 && requests.lost.is_empty())
    }

    /// Waits until no request is on its way; `false` if one for this connection was lost and may arrive at any time.
    pub(super) async fn settle(&self, server: &Arc<CancelKey>) -> bool {
        loop {
            let settled = {
                let mut state = self.state();
                let Some(requests) = &mut state.requests else { return true };
                if requests.in_flight == 0 {
                    let before = requests.lost.len();
                    requests.lost.retain(|lost| !Arc::ptr_eq(lost, server));
                    return requests.lost.len() == before;
                }
                // From here on it hears of what arrives, though it does not wait yet.
                Arc::clone(&requests.settled).notified_owned()
            };
            settled.await;
        }
    }

    /// Ready when a client that waits for a server connection is not to wait any longer.
    pub(super) fn poll_wait(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if std::mem::take(&mut state.cancelled) {
            return Poll::Ready(());
        }
        state.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The client waits no more.
    pub(super) fn has_waited(&self) {
        let mut state = self.state();
        (state.waits, state.cancelled) = (None, false);
    }

    /// Ends the client's wait for a server connection, if it waits.
    fn end_wait(&self) -> bool {
        let mut state = self.state();
        let Some(waker) = state.waits.take() else { return false };
        state.cancelled = true;
        drop(state);
        waker.wake();
        true
    }

    fn depart(&self) -> Option<Arc<CancelKey>> {
        let mut state = self.state();
        let server = state.server.clone()?;
        state.requests.get_or_insert_default().in_flight += 1;
        Some(server)
    }

    fn arrive(&self, lost: Option<&Arc<CancelKey>>) {
        let mut state = self.state();
        let Some(requests) = &mut state.requests else { return };
        requests.in_flight -= 1;
        requests.lost.extend(lost.cloned());
        requests.settled.notify_waiters();
    }
}

/// A request that is on its way, until the server has taken it or it is given up.
struct UnderWay {
    target: Arc<Target>,
    server: Arc<CancelKey>,
    delivered: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.target.arrive((!self.delivered).then_some(&self.server));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cancel::Endpoint;

    #[test]
    fn a_connection_is_not_free_while_a_cancel_request_for_it_is_on_its_way() {
        let target = Target::new(Secret::Short([1; 4]));
        target.aim(&nowhere());
        assert!(target.depart().is_some());
        assert!(!target.release());
        assert!(target.depart().is_none(), "it belongs to nobody now");
        target.arrive(None);
        assert!(target.release());
    }

    #[tokio::test]
    async fn a_connection_for_which_a_request_was_lost_is_never_safe_again() {
        let (cancels, server) = (Cancels::default(), nowhere());
        let (place, target) = cancels.register(Version::V3_2, None).unwrap();
        target.aim(&server);
        let result = cancels.cancel(place.0, target.secret.as_bytes()).await;
        assert_eq!(result, Cancelled::Forwarded, "to an address where nobody listens");
        assert!(!target.release());
        assert!(!target.settle(&server).await);
        assert!(target.settle(&nowhere()).await, "another connection is not meant");
        assert!(target.release());
    }

    fn nowhere() -> Arc<CancelKey> {
        let endpoint = Endpoint::Unix("/nowhere".into());
        Arc::new(CancelKey { endpoint, encryption: None, pid: 1, secret: [2; 4].into() })
    }

    #[tokio::test]
    async fn only_a_key_that_was_given_out_cancels_anything() {
        for version in [Version::V3_0, Version::V3_2] {
            let cancels = Cancels::default();
            let (place, target) = cancels.register(version, None).unwrap();
            let (pid, secret) = (place.0, target.secret.as_bytes());
            assert!(pid > 0 && pid <= i32::MAX as u32);
            assert_eq!(cancels.cancel(pid, secret).await, Cancelled::Idle);
            assert_eq!(cancels.cancel(pid ^ 1, secret).await, Cancelled::Unknown);
            let mut wrong = vec![b"".to_vec(), secret[..3].to_vec(), [secret, b"\0"].concat(), vec![0; 256]];
            for place in 0..secret.len() {
                wrong.push(secret.to_vec());
                wrong.last_mut().unwrap()[place] ^= 1;
            }
            for wrong in wrong {
                assert_eq!(cancels.cancel(pid, &wrong).await, Cancelled::Unknown, "{wrong:?}");
            }
            cancels.forget(place);
            assert_eq!(cancels.cancel(pid, secret).await, Cancelled::Unknown);
            assert!(cancels.clients().by_place.is_empty());
        }
    }

    #[tokio::test]
    async fn clients_with_the_same_process_id_are_told_apart_by_their_secrets() {
        let cancels = Cancels::default();
        let versions = [Version::V3_0, Version::V3_2, Version::V3_2, Version::V3_0];
        let clients = versions.map(|version| cancels.register(version, Some(4711)).unwrap());
        for (place, target) in &clients {
            assert_eq!(place.0, 4711);
            target.aim(&nowhere());
            assert_eq!(cancels.cancel(4711, target.secret.as_bytes()).await, Cancelled::Forwarded);
            assert!(!target.release(), "the request was for this one");
            cancels.forget(*place);
            assert_eq!(cancels.cancel(4711, target.secret.as_bytes()).await, Cancelled::Unknown);
        }
    }

    #[test]
    fn a_key_says_whose_it_is_and_tells_nothing_else() {
        let cancels = Cancels::default();
        let (place, target) = cancels.register(Version::V3_2, None).unwrap();
        let secret = &target.secret;
        assert_eq!(place.0 >> RANDOM_BITS, u32::from(REPLICA));
        assert_eq!((secret.as_bytes().len(), &secret.as_bytes()[..2]), (32, &[0, REPLICA][..]));
        let (_, other) = cancels.register(Version::V3_2, None).unwrap();
        let other = &other.secret;
        assert_ne!(secret.as_bytes()[2..], other.as_bytes()[2..]);
        assert_eq!(format!("{secret:?}"), "(secret)");
        let (_, short) = cancels.register(Version::V3_0, Some(1)).unwrap();
        let short = &short.secret;
        assert_eq!(short.as_bytes().len(), 4);
    }
}
