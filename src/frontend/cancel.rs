//! Which client's query a cancel request means. Each client has a key of its own, which has nothing to do with the
//! keys of server connections; it leads to the server connection that the client has at this moment, if it has one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Shared;
use crate::backend::cancel::{self, CancelKey};
use crate::metrics::Cancelled;
use crate::scram::{self, ScramError};

type Key = (u32, u32);

/// Every client's key.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<HashMap<Key, Arc<Target>>>);

/// A client's key, for as long as the client is there.
#[derive(Debug)]
pub(super) struct Registration {
    shared: Arc<Shared>,
    /// What the client is given.
    pub(super) key: Key,
    /// What a request with it hits.
    pub(super) target: Arc<Target>,
}

impl Registration {
    /// Gives a client a key.
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, ScramError> {
        let (key, target) = shared.cancels.register()?;
        Ok(Self { shared: Arc::clone(shared), key, target })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.cancels.forget(self.key);
    }
}

/// What a cancel request for one client hits.
#[derive(Debug, Default)]
pub(super) struct Target {
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    server: Option<Arc<CancelKey>>,
    /// Requests that are on their way to the server.
    in_flight: usize,
    /// Server connections for which a request was lost on its way: it may still arrive, whoever has them then.
    lost: Vec<Arc<CancelKey>>,
}

impl Cancels {
    /// A fresh key for a client: a process id that is positive as a signed number, as PostgreSQL's are, and a secret.
    fn register(&self) -> Result<(Key, Arc<Target>), ScramError> {
        loop {
            let [a, b, c, d, secret @ ..] = scram::random::<8>()?;
            let key = ((u32::from_be_bytes([a, b, c, d]) >> 1).max(1), u32::from_be_bytes(secret));
            let mut clients = self.clients();
            if clients.contains_key(&key) {
                continue;
            }
            let target = Arc::<Target>::default();
            clients.insert(key, Arc::clone(&target));
            return Ok((key, target));
        }
    }

    /// The client is gone.
    fn forget(&self, key: Key) {
        self.clients().remove(&key);
    }

    /// Cancels what the client with that key has running.
    pub(super) async fn cancel(&self, key: Key) -> Cancelled {
        let Some(target) = self.clients().get(&key).cloned() else { return Cancelled::Unknown };
        let Some(server) = target.depart() else { return Cancelled::Idle };
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

    fn clients(&self) -> MutexGuard<'_, HashMap<Key, Arc<Target>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
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
        state.in_flight == 0 && state.lost.is_empty()
    }

    /// Waits until no request is on its way; `false` if one for this connection was lost and may arrive at any time.
    pub(super) async fn settle(&self, server: &Arc<CancelKey>) -> bool {
        loop {
            let settled = self.settled.notified();
            {
                let mut state = self.state();
                if state.in_flight == 0 {
                    let before = state.lost.len();
                    state.lost.retain(|lost| !Arc::ptr_eq(lost, server));
                    return state.lost.len() == before;
                }
            }
            settled.await;
        }
    }

    fn depart(&self) -> Option<Arc<CancelKey>> {
        let mut state = self.state();
        let server = state.server.clone()?;
        state.in_flight += 1;
        Some(server)
    }

    fn arrive(&self, lost: Option<&Arc<CancelKey>>) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.lost.extend(lost.cloned());
        drop(state);
        self.settled.notify_waiters();
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
        let target = Target::default();
        let server = CancelKey { endpoint: Endpoint::Unix("/nowhere".into()), pid: 1, secret: 2 };
        target.aim(&Arc::new(server));
        assert!(target.depart().is_some());
        assert!(!target.release());
        assert!(target.depart().is_none(), "it belongs to nobody now");
        target.arrive(None);
        assert!(target.release());
    }

    #[tokio::test]
    async fn a_connection_for_which_a_request_was_lost_is_never_safe_again() {
        let (cancels, server) = (Cancels::default(), nowhere());
        let (key, target) = cancels.register().unwrap();
        target.aim(&server);
        assert_eq!(cancels.cancel(key).await, Cancelled::Forwarded, "to an address where nobody listens");
        assert!(!target.release());
        assert!(!target.settle(&server).await);
        assert!(target.settle(&nowhere()).await, "another connection is not meant");
        assert!(target.release());
    }

    fn nowhere() -> Arc<CancelKey> {
        Arc::new(CancelKey { endpoint: Endpoint::Unix("/nowhere".into()), pid: 1, secret: 2 })
    }

    #[tokio::test]
    async fn only_a_key_that_was_given_out_cancels_anything() {
        let cancels = Cancels::default();
        let (key, _target) = cancels.register().unwrap();
        assert!(key.0 > 0 && key.0 <= i32::MAX as u32);
        assert_eq!(cancels.cancel(key).await, Cancelled::Idle);
        assert_eq!(cancels.cancel((key.0, key.1 ^ 1)).await, Cancelled::Unknown);
        cancels.forget(key);
        assert_eq!(cancels.cancel(key).await, Cancelled::Unknown);
    }
}
