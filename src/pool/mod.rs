//! Pools: few server connections for many clients, one pool for each database and user.
//!
//! - `queue`: who is next, and which connection they get. Pure, with time as an argument.
//! - `wait`: the place of one client in the queue.
//! - `lease`: a checkout as a value; dropping it gives the connection back, or closes it if it is not at rest.
//! - `opening`: a connection that is on its way.
//! - `manager`: the door to bb8, which opens, counts and disposes of connections.
//! - `limits`: caps over several pools, and over the connections outside of any that are `dedicated`.
//! - `catalogue`: asks a database whose schemas its names are in.
//! - `registry`: from database and user to pool.
//!
//! The queue is first come, first served: a connection that comes back goes straight to a client that waits, and a
//! newcomer never overtakes those of its own worker; across workers, overtaking is bounded. Idle connections are reused last in, first out, those of the
//! asking worker first, because moving a socket to another worker's reactor costs two system calls and an allocation.
//! That is why idle connections rest in the queue and not in bb8, which knows neither workers nor waiters.

mod catalogue;
mod dedicated;
mod known;
mod lease;
mod limits;
mod manager;
mod opening;
mod queue;
mod registry;
mod state;
mod wait;

#[cfg(test)]
mod queue_tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::connect::{ConnectError, Opener};
use crate::backend::settings::Settings;
use crate::clock::{Clock, millis};
use crate::config::Route;
use crate::metrics::PoolMetrics;
use crate::schemas::Catalogue;
pub use dedicated::{Dedicated, Places};
pub use known::Changing;
use known::{Definitions, Known};
pub use lease::Lease;
pub use limits::{Limit, Permit};
use manager::{Manager, Slot};
use opening::Opening;
use queue::{Back, Queue};
pub use registry::Registry;
pub use wait::Wait;
use wait::Waiter;

/// The first pause after a failed attempt to open a connection, and the longest, in milliseconds. Doubled in between.
const FIRST_PAUSE: u64 = 100;
const LONGEST_PAUSE: u64 = 2_000;

/// How often the same failure is said in the log, in milliseconds: a server that is away is away for every attempt.
const REPEAT: u64 = 30_000;

/// For how long a failed attempt counts as the reason why clients wait, in milliseconds after its pause.
const TROUBLE: u64 = 5_000;

/// The last attempt to open a connection failed.
#[derive(Debug, Clone)]
struct Failure {
    error: ConnectError,
    /// When the next attempt is due.
    until: u64,
    pause: u64,
    /// When it was last said in the log.
    said: u64,
}

/// The server connections of one database and user.
#[derive(Debug)]
pub struct Pool {
    database: String,
    user: String,
    route: Arc<Route>,
    bb8: bb8::Pool<Manager>,
    queue: Mutex<Queue<Slot>>,
    failure: Mutex<Option<Failure>>,
    known: Known,
    catalogue: Option<Arc<Catalogue>>,
    caps: Vec<Arc<Limit>>,
    clients: Limit,
    closed: AtomicBool,
    used: AtomicU64,
    clock: Arc<Clock>,
    metrics: Arc<PoolMetrics>,
}

/// Who asks for a server connection, and which one would suit best.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The worker that serves the client.
    pub worker: usize,
    /// The client's number, 0 for none.
    pub client: u64,
    /// The settings that the client has.
    pub settings: &'a Arc<Settings>,
}

impl Wish<'_> {
    /// How well a connection suits: the one that the client had last, where nobody had it since, then one that has the
    /// client's settings already.
    fn rank(&self, slot: &Slot) -> u8 {
        if self.client != 0 && slot.last_client == self.client {
            2
        } else {
            u8::from(Arc::ptr_eq(slot.settings(), self.settings))
        }
    }
}

/// What a client gets that asks for a server connection.
#[derive(Debug)]
pub enum Checkout {
    /// A connection.
    Ready(Lease),
    /// A place in the queue.
    Wait(Wait),
    /// An error that waiting would not mend.
    Refused(ConnectError),
}

/// What a pool is made of.
pub(super) struct Parts {
    pub(super) database: String,
    pub(super) user: String,
    pub(super) route: Arc<Route>,
    pub(super) opener: Opener,
    pub(super) catalogue: Option<Arc<Catalogue>>,
    pub(super) definitions: Arc<Definitions>,
    pub(super) caps: Vec<Arc<Limit>>,
    pub(super) clock: Arc<Clock>,
    pub(super) metrics: Arc<PoolMetrics>,
}

impl Pool {
    fn new(parts: Parts) -> Arc<Self> {
        let Parts { database, user, route, opener, catalogue, definitions, caps, clock, metrics } = parts;
        let size = route.pool_size.saturating_add(route.reserve_size);
        Arc::new(Self {
            bb8: manager::build(opener, size, Arc::clone(&metrics)),
            queue: Mutex::new(Queue::new(queue::Limits {
                size: route.pool_size,
                min: route.min_size,
                reserve: route.reserve_size,
                reserve_after: millis(route.reserve_after),
            })),
            failure: Mutex::default(),
            known: Known::new(definitions),
            catalogue,
            clients: Limit::new(route.max_clients),
            closed: AtomicBool::new(false),
            used: AtomicU64::new(clock.now()),
            database,
            user,
            route,
            caps,
            clock,
            metrics,
        })
    }

    /// The database as clients name it.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The route whose clients it serves.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Arc<PoolMetrics> {
        &self.metrics
    }

    /// Whose schemas the names of its database are in; `None` if nobody counts by them.
    pub fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.catalogue.as_ref()
    }

    /// The limit of its clients.
    pub fn clients(&self) -> &Limit {
        &self.clients
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Slot>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a server connection. `scratch` is memory to read in.
    pub fn checkout(self: &Arc<Self>, wish: Wish<'_>, scratch: &mut [u8]) -> Checkout {
        let worker = wish.worker;
        loop {
            let taken = self.queue().take(worker, |slot| wish.rank(slot));
            let Some(mut slot) = taken else {
                match self.line_up(worker) {
                    Some(checkout) => return checkout,
                    None => continue,
                }
            };
            let fit = !slot.expired(self.clock.now())
                && slot.move_idle_to(worker).is_ok()
                && self.check_idle(&mut slot, scratch).is_ok();
            if fit {
                return Checkout::Ready(Lease::new(slot, Arc::clone(self), worker));
            }
            self.dispose(slot);
        }
    }

    /// [`crate::backend::ServerConn::check_idle`]. Other parameters mean that the server's configuration was reloaded:
    /// what was remembered of it is not true any more.
    fn check_idle(&self, slot: &mut Slot, scratch: &mut [u8]) -> Result<(), crate::backend::Lost> {
        match slot.check_idle(scratch) {
            Ok(true) => self.known.forget_welcomes(),
            Ok(false) => {}
            Err(lost) => {
                self.has_lost();
                return Err(lost);
            }
        }
        Ok(())
    }

    /// `None` if a connection came back since the queue was last looked at: nobody would hand it to a client that waits.
    fn line_up(self: &Arc<Self>, worker: usize) -> Option<Checkout> {
        let now = self.clock.now();
        let pausing = self.failure().clone().filter(|failure| now < failure.until);
        let (waiter, open) = {
            let mut queue = self.queue();
            if let Some(failure) = &pausing
                && failure.error.is_definitive()
                && queue.is_deserted()
            {
                return Some(Checkout::Refused(failure.error.clone()));
            }
            if queue.is_free() {
                return None;
            }
            let waiter = queue.wait(Arc::new(Waiter::default()), worker, now);
            (waiter, pausing.is_none() && queue.start_opening(now))
        };
        if open {
            self.spawn_open(worker);
        }
        Some(Checkout::Wait(Wait::new(waiter, Arc::clone(self), worker)))
    }

    /// Takes a connection back that a client has used.
    fn give_back(self: &Arc<Self>, slot: Slot, worker: usize) {
        // A pool that starves under a shared limit is served before this pool's own clients.
        if self.caps.iter().any(|cap| cap.is_claimed_from(self)) {
            return self.dispose(slot);
        }
        self.hand_on(slot, worker);
    }

    /// Hands a connection that counts as leased to the next client, or lets it rest.
    fn hand_on(self: &Arc<Self>, slot: Slot, worker: usize) {
        let now = self.clock.now();
        if !slot.at_rest() || slot.expired(now) || self.closed.load(Ordering::Relaxed) {
            return self.dispose(slot);
        }
        let mut slot = slot;
        slot.set_exclusive(false);
        loop {
            let back = self.queue().give_back(slot, worker, now);
            slot = match back {
                Back::Kept => return,
                Back::Surplus(slot) => return self.dispose(slot),
                Back::Granted(waiter, slot) => match waiter.grant(slot) {
                    Ok(()) => return,
                    // The client left in the meantime: the next one, please.
                    Err(slot) => slot,
                },
            };
        }
    }

    /// Closes a connection that counts as leased, in the background where that is possible.
    fn dispose(self: &Arc<Self>, mut slot: Slot) {
        let pool = Arc::clone(self);
        self.queue().closing();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                slot.hang_up().await;
                manager::close(slot);
                pool.lost();
            })),
            Err(_) => {
                manager::close(slot);
                self.lost();
            }
        }
    }

    /// A connection is gone: opens another if clients wait.
    fn lost(self: &Arc<Self>) {
        let now = self.clock.now();
        let pausing = self.failure().as_ref().is_some_and(|failure| now < failure.until);
        let open = {
            let mut queue = self.queue();
            queue.lost();
            !pausing && !self.closed.load(Ordering::Relaxed) && queue.start_opening(now)
        };
        if open {
            self.spawn_open(usize::MAX);
        }
    }

    /// Opens a connection in the background, on the current runtime. The queue has been told.
    fn spawn_open(self: &Arc<Self>, worker: usize) {
        let opening = Opening::new(Arc::clone(self));
        // Outside of any runtime, as at the end of the process, it is given up, and the next sweep tries again.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(opening.run(worker)));
        }
    }

    async fn try_open(self: &Arc<Self>, worker: usize) -> Result<Slot, ConnectError> {
        let permits = limits::acquire_all(&self.caps, self).ok_or(ConnectError::LimitReached)?;
        let mut slot = manager::open(&self.bb8, permits).await?;
        slot.opened_by(worker);
        let lifetime = self.route.timeouts.server_lifetime.map(|lifetime| {
            let lifetime = millis(lifetime);
            // Up to a tenth earlier, so that connections that were opened together are not replaced together.
            let jitter = RandomState::new().build_hasher().finish() % (lifetime / 10 + 1);
            self.clock.now().saturating_add(lifetime - jitter)
        });
        slot.set_expiry(lifetime);
        self.known.check_welcomes(slot.parameters());
        Ok(slot)
    }

    fn opening_failed(&self, error: ConnectError) {
        self.metrics.failed.fetch_add(1, Ordering::Relaxed);
        let (now, definitive) = (self.clock.now(), error.is_definitive());
        {
            let mut failure = self.failure();
            let last = failure.as_ref();
            let pause = match last {
                Some(last) if error != ConnectError::LimitReached => (last.pause * 2).min(LONGEST_PAUSE),
                _ => FIRST_PAUSE,
            };
            let said =
                last.filter(|last| last.error == error && now < last.said + REPEAT).map(|last| last.said);
            if said.is_none() {
                let (database, user, error) = (&self.database, &self.user, error.to_string());
                tracing::warn!(database, user, ?error, "could not open a server connection");
            }
            let said = said.unwrap_or(now);
            *failure = Some(Failure { error: error.clone(), until: now + pause, pause, said });
        }
        let hopeless = {
            let mut queue = self.queue();
            if definitive && queue.is_deserted() { queue.drain_waiters() } else { Vec::new() }
        };
        for waiter in hopeless {
            waiter.refuse(error.clone());
        }
    }

    /// What kept connections from being opened may be over: the user has another password, or a client has proved it.
    fn try_again(&self) {
        self.failure().take();
    }

    /// The error that keeps connections from being opened at this moment, if there is one.
    pub fn trouble(&self) -> Option<ConnectError> {
        let recent = self.clock.now().saturating_sub(TROUBLE);
        self.failure().as_ref().filter(|failure| failure.until >= recent).map(|failure| failure.error.clone())
    }

    /// What has to be done from time to time: closes idle connections that the server closed, that are too old, or
    /// that lie unused for too long, and opens those that are missing.
    pub fn sweep(self: &Arc<Self>, scratch: &mut [u8]) {
        let now = self.clock.now();
        let idle_limit = self.route.timeouts.server_idle.map(millis);
        let (useless, wanted) = {
            let mut queue = self.queue();
            let useless = queue
                .sweep(now, idle_limit, |slot| slot.expired(now) || self.check_idle(slot, scratch).is_err());
            let pausing = self.failure().as_ref().is_some_and(|failure| now < failure.until);
            let mut wanted = 0;
            while !pausing && !self.closed.load(Ordering::Relaxed) && queue.start_opening(now) {
                wanted += 1;
            }
            (useless, wanted)
        };
        useless.into_iter().for_each(|slot| self.dispose(slot));
        for _ in 0..wanted {
            self.spawn_open(usize::MAX);
        }
    }

    /// Closes the idle connection that has lain unused longest, to make room under a cap that several pools share.
    fn evict(self: &Arc<Self>) -> bool {
        let oldest = self.queue().evict();
        oldest.map(|slot| self.dispose(slot)).is_some()
    }

    /// Closes idle connections now, and every other one when it comes back.
    pub fn close(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Relaxed);
        let idle = self.queue().take_idle();
        idle.into_iter().for_each(|slot| self.dispose(slot));
    }

    /// When the pool was last seen in use, moved to `now` if it is.
    fn last_used(&self, now: Option<u64>) -> u64 {
        now.map_or_else(
            || self.used.load(Ordering::Relaxed),
            |now| {
                self.used.store(now, Ordering::Relaxed);
                now
            },
        )
    }

    /// Whether clients wait while not a single connection exists.
    fn is_starved(&self) -> bool {
        self.queue().is_starved()
    }

    /// Whether no client waits and no connection exists.
    pub fn is_deserted(&self) -> bool {
        let queue = self.queue();
        queue.is_deserted() && queue.waiting() == 0
    }
}
