//! The door to bb8, and the only one. bb8 opens connections within a capacity, counts them, and disposes of broken
//! ones. Who gets them when is the queue's business: see the module above for why.
//!
//! Two hazards of bb8 0.9 shape this file. A connection whose checkout is abandoned goes back as healthy, so
//! `has_broken` answers from the protocol state and nothing else. Bad sizes panic, so they are checked in the
//! configuration and bounded here.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bb8::ManageConnection;

use super::limits::Permit;
use crate::backend::ServerConn;
use crate::backend::connect::{ConnectError, Opener};
use crate::metrics::PoolMetrics;

/// A server connection of a pool.
pub(super) type Slot = bb8::PooledConnection<'static, Manager>;

/// A connection with its places under the caps. Boxed, because leases move often.
#[derive(Debug)]
pub(super) struct Counted(Box<(ServerConn, Vec<Permit>, Closing)>);

#[derive(Debug)]
struct Closing(Arc<PoolMetrics>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Deref for Counted {
    type Target = ServerConn;

    fn deref(&self) -> &ServerConn {
        &self.0.0
    }
}

impl DerefMut for Counted {
    fn deref_mut(&mut self) -> &mut ServerConn {
        &mut self.0.0
    }
}

/// What bb8 asks to make and judge connections.
#[derive(Debug)]
pub(super) struct Manager {
    opener: Opener,
    metrics: Arc<PoolMetrics>,
}

impl ManageConnection for Manager {
    type Connection = Counted;
    type Error = ConnectError;

    async fn connect(&self) -> Result<Counted, ConnectError> {
        let conn = self.opener.open().await?;
        self.metrics.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Counted(Box::new((conn, Vec::new(), Closing(Arc::clone(&self.metrics))))))
    }

    async fn is_valid(&self, conn: &mut Counted) -> Result<(), ConnectError> {
        if conn.at_rest() { Ok(()) } else { Err(ConnectError::Unreachable("not at rest".into())) }
    }

    fn has_broken(&self, conn: &mut Counted) -> bool {
        !conn.at_rest()
    }
}

pub(super) fn build(opener: Opener, size: u32, metrics: Arc<PoolMetrics>) -> bb8::Pool<Manager> {
    bb8::Pool::builder()
        .max_size(size.max(1))
        .min_idle(None)
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .retry_connection(false)
        .build_unchecked(Manager { opener, metrics })
}

/// Opens a connection and takes it out of bb8's hands.
pub(super) async fn open(bb8: &bb8::Pool<Manager>, permits: Vec<Permit>) -> Result<Slot, ConnectError> {
    let mut conn = bb8.dedicated_connection().await?;
    conn.0.1 = permits;
    bb8.add(conn).map_err(|_| ConnectError::Unreachable("the pool is full".into()))?;
    bb8.get_owned().await.map_err(|error| match error {
        bb8::RunError::User(error) => error,
        bb8::RunError::TimedOut => ConnectError::Unreachable("the pool is full".into()),
    })
}

/// Closes a connection.
pub(super) fn close(mut slot: Slot) {
    slot.spoil();
    drop(slot);
}
