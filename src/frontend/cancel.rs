//! Which client's query a cancel request means. Each client has a key of its own, which has nothing to do with the
//! keys of server connections; it leads to the server connection that the client has at this moment, if it has one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::backend::cancel::{self, CancelKey};
use crate::metrics::Cancelled;
use crate::scram::{self, ScramError};

type Key = (u32, u32);

/// Every client's key.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<HashMap<Key, Arc<Target>>>);

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
}

impl Cancels {
    /// A fresh key for a client: a process id that is positive as a signed number, as PostgreSQL's are, and a secret.
    pub(super) fn register(&self) -> Result<(Key, Arc<Target>), ScramError> {
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
    pub(super) fn forget(&self, key: Key) {
        self.clients().remove(&key);
    }

    /// Cancels what the client with that key has running.
    pub(super) async fn cancel(&self, key: Key) -> Cancelled {
        let Some(target) = self.clients().get(&key).cloned() else { return Cancelled::Unknown };
        let Some(server) = target.depart() else { return Cancelled::Idle };
        let _under_way = UnderWay(target);
        if let Err(error) = cancel::send(&server).await {
            tracing::warn!(server = %server.endpoint, %error, "could not forward a cancel request");
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

    /// The client gives its server connection back. `false` while a request for it is on its way: then nobody else may
    /// have the connection before [`Target::settle`] returns, or the request would hit the wrong query.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state();
        state.server = None;
        state.in_flight == 0
    }

    /// Waits until no request is on its way.
    pub(super) async fn settle(&self) {
        loop {
            let settled = self.settled.notified();
            if self.state().in_flight == 0 {
                return;
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

    fn arrive(&self) {
        self.state().in_flight -= 1;
        self.settled.notify_waiters();
    }
}

/// A request that is on its way, until it arrives or is given up.
struct UnderWay(Arc<Target>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.arrive();
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
        target.arrive();
        assert!(target.release());
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
