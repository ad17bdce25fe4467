//! How a session and its server connection part.

use std::sync::Arc;

use super::exchange::End;
use super::login;
use super::session::{Finish, Session};
use crate::backend::{Lost, reset};
use crate::config::PoolMode;
use crate::error::{ErrorKind, Refusal};
use crate::pool::Lease;
use crate::wire::tag::SessionState;

impl Session {
    /// Returns a server connection that is unpinned, and settled or to be closed.
    pub(super) fn give_back(&self, mut lease: Lease) {
        if lease.tainted {
            lease.spoil();
        }
        if self.identity.cancel.target.release() {
            drop(lease);
        } else {
            self.retire(lease, true);
        }
    }

    /// Returns a server connection that something has to be done about first, in a task of its own.
    pub(super) fn retire(&self, mut lease: Lease, in_order: bool) {
        let target = Arc::clone(&self.identity.cancel.target);
        let no_cancel_under_way = target.release();
        // Its statements may still be carried out, and others use what they make.
        let changing = self.holdings.lookout.defines.then(|| self.identity.pool.definitions_are_changing());
        let pins = self.holdings.pins;
        lease.needs_reset |= !pins.is_empty()
            || !self.holdings.lookout.is_empty()
            || self.asks()
            || self.identity.pool.route().mode == PoolMode::Session;
        let route = self.identity.pool.route();
        if route.mode == PoolMode::Session && !route.reuse {
            lease.spoil();
        }
        if [SessionState::Load, SessionState::RandomSeed, SessionState::Opaque]
            .into_iter()
            .any(|state| pins.contains(state))
            || lease.tainted
        {
            // DISCARD ALL neither unloads a library nor forgets a seed, nor does it end dblink's connections.
            lease.spoil();
        }
        if lease.at_rest() && no_cancel_under_way {
            return;
        }
        let whole_messages = self.client.requests.between_messages();
        tokio::task::spawn_local(async move {
            if let Err(error) = reset::bring_to_rest(&mut lease, whole_messages, in_order).await {
                tracing::debug!(%error, "a server connection is closed");
                lease.spoil();
            }
            drop(changing);
            if !target.settle(lease.cancel_key()).await {
                lease.spoil();
            }
        });
    }

    /// Ends the session after the relay ended.
    pub(super) fn part(&mut self, mut lease: Lease, end: End, farewell: bool) -> Finish {
        self.abandon_traces(&end);
        let in_order = matches!(end, End::Left { in_order: true });
        let finish = match end {
            End::Settled | End::Spent | End::Left { .. } => Finish::Left,
            End::Refused(refusal) => refusal.into(),
            End::ServerLost(error) => {
                tracing::warn!(
                    database = self.identity.pool.database(),
                    user = self.identity.pool.user(),
                    %error,
                    "a server connection was lost"
                );
                self.identity.pool.has_lost();
                lease.spoil();
                let refusal = if matches!(error, Lost::Mode) { left_mode() } else { login::server_lost() };
                if farewell { Finish::Told } else { refusal.into() }
            }
        };
        let torn = lease.is_mid_reply();
        self.retire(lease, in_order);
        match finish {
            Finish::Refused(refusal) if torn => Finish::Torn(refusal),
            finish => finish,
        }
    }
}

/// What a client is told whose server connection is not read-only any more, though its route is.
fn left_mode() -> Refusal {
    Refusal::new(ErrorKind::ReadOnlyRoute, "the server connection left the mode that the route prescribes")
        .detail("It was to be read-only, with standard strings and an encoding that keeps ASCII apart.")
}
