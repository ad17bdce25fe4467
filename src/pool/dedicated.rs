//! Server connections outside of every pool: those of clients that have one for themselves and replicate, and those that
//! listen for a pool's clients. They count under the caps of their user and database like those of the pools.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Limit, Permit, limits};
use crate::backend::connect::{ConnectError, Opener};
use crate::backend::replication::Walsender;

/// How often a place under the caps is looked for, while there is none.
const BREATH: Duration = Duration::from_millis(50);

/// Places under the caps.
#[derive(Debug)]
pub struct Places(Vec<Arc<Limit>>);

impl Places {
    /// A place under each, if there is one; room is made where there is none.
    pub fn take(&self) -> Option<Vec<Permit>> {
        limits::acquire_outside(&self.0)
    }
}

/// Opens them, for one client.
#[derive(Debug)]
pub struct Dedicated {
    pub(super) opener: Opener,
    pub(super) caps: Vec<Arc<Limit>>,
    /// How long a place under the caps is waited for.
    pub(super) patience: Duration,
}

impl Dedicated {
    /// What opens an ordinary connection, and the places that each of them takes.
    pub fn into_parts(self) -> (Opener, Places) {
        (self.opener, Places(self.caps))
    }

    /// Opens a replication connection with a client's startup parameters, and its places under the caps.
    ///
    /// # Errors
    /// The server's, or [`ConnectError::LimitReached`] if no place came free in time.
    pub async fn open_replication(
        &self,
        parameters: &[(&str, &str)],
    ) -> Result<(Walsender, Vec<Permit>), ConnectError> {
        let deadline = Instant::now() + self.patience;
        let places = loop {
            match limits::acquire_outside(&self.caps) {
                Some(places) => break places,
                None if Instant::now() >= deadline => return Err(ConnectError::LimitReached),
                None => sleep(BREATH).await,
            }
        };
        Ok((self.opener.open_replication(parameters).await?, places))
    }
}
