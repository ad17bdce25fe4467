//! What a client is doing, which decides the time-out that runs and what the client is told when it has run out.

use std::time::Duration;

use crate::config::Timeouts;
use crate::error::{ErrorKind, Refusal};

/// How long a server connection is held for a client that parsed the unnamed statement in one batch and is to bind it in
/// the next. Drivers that do this send the second batch as soon as they have read the answer to the first.
const HOLD: Duration = Duration::from_secs(1);

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Idle,
    /// Waiting for a server connection.
    Waiting,
    /// Waiting for the server's answer.
    Running,
    /// Waiting for the hub to have taken over what it listens to.
    Subscribing,
    /// It parsed the unnamed statement and is about to bind it.
    Held,
    /// Thinking, within a transaction.
    InTransaction,
}

impl Phase {
    /// How long it may last, and why it ends then.
    pub(super) fn limit(self, timeouts: &Timeouts) -> (Option<Duration>, ErrorKind) {
        match self {
            Self::Idle => (timeouts.client_idle, ErrorKind::ClientIdle),
            Self::Waiting => (Some(timeouts.query_wait), ErrorKind::QueryWaitTimeout),
            Self::Subscribing => (Some(timeouts.query_wait), ErrorKind::ServerLost),
            Self::Running => (timeouts.query, ErrorKind::QueryTimeout),
            Self::Held => (Some(HOLD), ErrorKind::UnknownStatement),
            Self::InTransaction => (timeouts.idle_in_transaction, ErrorKind::IdleInTransaction),
        }
    }
}

/// What a client is told whose phase lasted too long, or that is ended with the proxy.
pub(super) fn refusal(reason: ErrorKind) -> Refusal {
    match reason {
        ErrorKind::ClientIdle => Refusal::new(reason, "terminating connection due to idle-session timeout"),
        ErrorKind::IdleInTransaction => {
            Refusal::new(reason, "terminating connection due to idle-in-transaction timeout")
        }
        ErrorKind::QueryTimeout => {
            Refusal::new(reason, "canceling statement due to the proxy's query timeout")
        }
        ErrorKind::ServerLost => super::login::server_lost(),
        _ => Refusal::new(ErrorKind::Shutdown, "terminating connection due to administrator command"),
    }
}
