//! Clients: accepting them, logging them in, and serving them until they leave.
//!
//! - `accept`: listeners, and which worker gets a new client.
//! - `worker`: one thread, one current-thread runtime, many clients.
//! - `startup`: from the first byte to exactly one of Startup or Cancel.
//! - `auth`: who it is.
//! - `login`: everything between startup and the first ReadyForQuery; `identity` is what it found out.
//! - `session`: the life of a client that is logged in; `exchange` is its only relay loop, `phase` its time-outs,
//!   `settle` what becomes of a server connection after a transaction, and `parting` how the client leaves it.
//! - `judge`: what a request needs to mean on a shared server connection what it means on one of the client's own;
//!   `attend` is what a statement needs around it, `carry` brings prepared statements to the server connection.
//! - `guard`: what a read-only route refuses, of which `audit` tells the log.
//! - `holdings`: what a client's session holds, and `lookout` what it may have done to that; `names` are its prepared statements (`removals`
//!   what DEALLOCATE is about to take of them), `texts` what a worker knows of
//!   statements, `footprint` what a client left on the server connection of the moment.
//! - `books`: what statements are counted under, and how long they took.
//! - `listening`: what a client listens to through the hub of its pool; `handover` brings it there.
//! - `replication`: clients that have a server connection for themselves, which `passage` joins to theirs.
//! - `watch`: time-outs and shutdown, without a timer for each client.
//! - `cancel`: which client's query a cancel request means.
//! - `refuse`: the only place that says no to a client.

pub mod accept;
mod attend;
mod audit;
mod auth;
mod books;
mod cancel;
mod carry;
mod client;
mod exchange;
mod footprint;
mod guard;
mod handover;
mod holdings;
mod identity;
mod judge;
mod listening;
mod login;
mod lookout;
mod names;
mod parting;
mod passage;
mod phase;
mod refuse;
mod removals;
mod replication;
mod session;
mod settle;
mod startup;
mod texts;
mod watch;
pub mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::pool::{Limit, Registry};
use crate::scram::{self, ScramError, Verifier};
use cancel::Cancels;
use listening::Hubs;

/// For the fuzz targets: whether a startup packet of this version, with this behind it, would be understood.
#[doc(hidden)]
pub fn takes_startup(body: &[u8]) -> bool {
    startup::takes(body)
}

/// What every worker shares.
#[derive(Debug)]
pub struct Shared {
    config: Arc<Config>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    verifiers: HashMap<String, Verifier>,
    /// Makes the salts of users who do not exist.
    mock_secret: [u8; 32],
    /// Makes the names of shared prepared statements.
    statement_secret: [u8; 32],
    cancels: Cancels,
    hubs: Hubs,
    clients: Limit,
    user_clients: HashMap<String, Limit>,
    database_clients: HashMap<String, Limit>,
}

impl Shared {
    /// Salts and hashes the users' passwords: a few milliseconds of CPU for each.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn new(
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        clock: Arc<Clock>,
    ) -> Result<Self, ScramError> {
        let config = Arc::clone(registry.config());
        let verifiers = config
            .users
            .iter()
            .map(|user| Ok((user.name.clone(), Verifier::of_password(user.password.expose())?)))
            .collect::<Result<_, ScramError>>()?;
        let limit = |name: &String, max: Option<usize>| (name.clone(), Limit::new(max));
        Ok(Self {
            user_clients: config.users.iter().map(|user| limit(&user.name, user.max_clients)).collect(),
            database_clients: config.databases.iter().map(|db| limit(&db.name, db.max_clients)).collect(),
            clients: Limit::new(Some(config.proxy.max_clients)),
            mock_secret: scram::random()?,
            statement_secret: scram::random()?,
            cancels: Cancels::default(),
            hubs: Hubs::default(),
            config,
            registry,
            metrics,
            clock,
            verifiers,
        })
    }
}
