//! Clients: accepting them, logging them in, and serving them until they leave.
//!
//! - `accept`: listeners, and which worker gets a new client.
//! - `worker`: one thread, one current-thread runtime, many clients.
//! - `startup`: from the first byte to exactly one of Startup or Cancel.
//! - `channel`: what its connection has to be before it may say who it is.
//! - `auth`: who it is. `lookup` asks a server for the secrets of users that the configuration does not have.
//! - `lobby`: how many may be in the middle of a login.
//! - `login`: everything between startup and the first ReadyForQuery; `identity` is what it found out.
//! - `session`: the life of a client that is logged in; `exchange` is its only relay loop, `phase` its time-outs,
//!   `equip` how the client gets a server connection, `settle` what becomes of that after a transaction, and `parting` how
//!   the client leaves it.
//! - `judge`: what a request needs to mean on a shared server connection what it means on one of the client's own;
//!   `attend` is what a statement needs around it, `carry` brings prepared statements to the server connection.
//! - `guard`: what a read-only route refuses, of which `audit` tells the log; `strict` puts transactions of the proxy's own around the
//!   rest, where a route wants that.
//! - `holdings`: what a client's session holds, and `lookout` what it may have done to that (`calls`: by functions that are called by their number); `names` are its prepared statements (`removals`
//!   what DEALLOCATE is about to take of them), `texts` what a worker knows of
//!   statements, `footprint` what a client left on the server connection of the moment.
//! - `billing`: what statements are counted under; `books`: how they ended, and how long they took; `views`: what their names mean to a session;
//!   `docket`: what has to be known of them at their end, of which `slow` tells the log.
//! - `listening`: what a client listens to through the hub of its pool; `handover` brings it there.
//! - `replication`: clients that have a server connection for themselves, which `passage` joins to theirs.
//! - `visit`: what only a client needs that has a server connection; `seldom` holds what few clients need at all.
//! - `watch`: time-outs and shutdown, without a timer for each client.
//! - `cancel`: which client's query a cancel request means.
//! - `refuse`: the only place that says no to a client.

pub mod accept;
mod attend;
mod audit;
mod auth;
mod billing;
mod books;
mod calls;
mod cancel;
mod carry;
mod channel;
mod client;
mod docket;
mod equip;
mod exchange;
mod footprint;
mod guard;
mod handover;
mod holdings;
mod identity;
mod judge;
mod listening;
mod lobby;
mod login;
mod lookout;
pub mod lookup;
mod names;
mod parting;
mod passage;
mod phase;
mod refuse;
mod removals;
mod replication;
mod seldom;
mod session;
mod settle;
mod slow;
mod startup;
mod strict;
mod texts;
mod traces;
mod views;
mod visit;
mod watch;
pub mod worker;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::Clock;
use crate::config::{Config, User};
use crate::metrics::Metrics;
use crate::pool::{Limit, Registry};
use crate::scram::{self, ScramError};
use crate::spans::Tracer;
use crate::stream::Stream;
use crate::tls::Acceptor;
use auth::{Failures, State};
use cancel::Cancels;
use listening::Hubs;
use lobby::Lobby;
use lookup::{Asker, Lookups};

/// For the fuzz targets: whether a startup packet of this version, with this behind it, would be understood.
#[doc(hidden)]
pub fn takes_startup(body: &[u8]) -> bool {
    startup::takes(body)
}

/// For the fuzz targets: whether a client says what it wants. Its handshake of TLS is done on the way.
#[doc(hidden)]
pub async fn takes_opening(stream: &mut Stream, acceptor: Option<&Acceptor>) -> bool {
    startup::read(stream, acceptor).await.is_ok()
}

/// For the fuzz targets: whether a first SASL message, and a password, would be understood.
#[doc(hidden)]
pub use auth::takes_password;

/// What every worker shares.
#[derive(Debug)]
pub struct Shared {
    config: Arc<Config>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    /// What logins are judged by, which a reload replaces.
    state: RwLock<Arc<State>>,
    /// Makes the salts of passwords, and those of users who do not exist.
    salt_secret: [u8; 32],
    failures: Failures,
    lookups: Option<Lookups>,
    lobby: Arc<Lobby>,
    /// Makes the names of shared prepared statements.
    statement_secret: [u8; 32],
    cancels: Cancels,
    hubs: Hubs,
    /// Where recorded queries go, if any do.
    tracer: Option<Tracer>,
    clients: Limit,
    user_clients: HashMap<String, Limit>,
    database_clients: HashMap<String, Limit>,
}

impl Shared {
    /// Salts and hashes the users' passwords: a few milliseconds of CPU for each. Beside it comes what asks a server for
    /// users, if one is to be asked, and which somebody has to run.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn new(
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        clock: Arc<Clock>,
    ) -> Result<(Self, Option<Asker>), ScramError> {
        let config = Arc::clone(registry.config());
        let salt_secret = auth::salt_secret(&config)?;
        let state = State::new(&config, salt_secret);
        let (lookups, asker) = match &config.authentication.lookup {
            Some(lookup) => {
                let proofs = registry.proofs(&lookup.user);
                let (lookups, asker) = lookup::new(lookup.clone(), proofs, Arc::clone(&clock));
                (Some(lookups), Some(asker))
            }
            None => (None, None),
        };
        let limit = |name: &String, max: Option<usize>| (name.clone(), Limit::new(max));
        let shared = Self {
            failures: Failures::default(),
            lobby: Lobby::new(config.authentication.max_logins),
            state: RwLock::new(Arc::new(state)),
            salt_secret,
            lookups,
            user_clients: config.users.iter().map(|user| limit(&user.name, user.max_clients)).collect(),
            database_clients: config.databases.iter().map(|db| limit(&db.name, db.max_clients)).collect(),
            clients: Limit::new(Some(config.proxy.max_clients)),
            statement_secret: scram::random()?,
            cancels: Cancels::default(),
            hubs: Hubs::default(),
            tracer: None,
            config,
            registry,
            metrics,
            clock,
        };
        Ok((shared, asker))
    }

    /// Takes encryption, users, their secrets, rules and the limits of logins from another configuration. Clients that are
    /// connected stay as they are; nothing else of it is looked at.
    pub fn reload(&self, config: &Config) {
        let state = Arc::new(State::new(config, self.salt_secret));
        let before = {
            let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::clone(&state))
        };
        self.lobby.set_most(config.authentication.max_logins);
        for user in before.users() {
            let known = state.users().find(|known| known.name == user.name);
            match known {
                // Their secrets are looked up, at the next login.
                Some(known) if known.credentials.is_empty() => {}
                Some(known) => self.registry.replaced(known),
                None => self.registry.replaced(&User::named(&user.name)),
            }
        }
    }

    /// What clients' handshakes are done with at this moment.
    pub fn acceptor(&self) -> Option<Arc<Acceptor>> {
        self.state().tls().acceptor.clone()
    }

    /// Has queries recorded, before any worker is started.
    #[must_use]
    pub fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// What logins are judged by at this moment.
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}
