//! A checkout as a value.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Pool;
use super::manager::Slot;
use crate::backend::ServerConn;

/// A server connection that is one client's for a while. Dropping it gives the connection back to the pool if it is at
/// rest, and closes it if it is not.
#[derive(Debug)]
pub struct Lease {
    /// Always there until `drop`.
    slot: Option<Slot>,
    pool: Arc<Pool>,
    worker: usize,
}

impl Lease {
    pub(super) fn new(slot: Slot, pool: Arc<Pool>, worker: usize) -> Self {
        Self { slot: Some(slot), pool, worker }
    }
}

impl Deref for Lease {
    type Target = ServerConn;

    fn deref(&self) -> &ServerConn {
        match &self.slot {
            Some(slot) => slot,
            None => unreachable!("a lease has its connection until it is dropped"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut ServerConn {
        match &mut self.slot {
            Some(slot) => slot,
            None => unreachable!("a lease has its connection until it is dropped"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool.give_back(slot, self.worker);
        }
    }
}
