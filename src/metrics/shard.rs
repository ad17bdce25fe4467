//! Counters that the path of a query touches: one worker's own, for each pool.

use std::sync::atomic::{AtomicU64, Ordering};

use super::traffic::Traffic;
use crate::rule::Rule;
use crate::wire::tag::SessionState;

/// Counters of one pool on one worker. Only that worker's thread adds, so an addition is a load and a store, without
/// a lock prefix; a scrape reads whatever is there. Aligned so that two workers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shard {
    counters: [AtomicU64; Counter::COUNT],
    pins: [AtomicU64; SessionState::ALL.len()],
    unpins: [AtomicU64; SessionState::ALL.len()],
    traffic: Option<Traffic>,
    guarded: Guarded,
}

/// Refusals of read-only routes, by rule.
#[derive(Debug)]
struct Guarded([AtomicU64; Rule::ALL.len()]);

impl Default for Guarded {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Rule::ALL.len()])
    }
}

/// The counters of a [`Shard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Clients that logged in.
    ClientsOpened,
    /// Clients that left.
    ClientsClosed,
    /// Leases of a server connection.
    Checkouts,
    /// Times that a server was asked what a client's session holds.
    Questions,
    /// Transactions that ended.
    Transactions,
    /// Query, Execute and FunctionCall messages.
    Queries,
    /// Bytes from clients.
    ReceivedBytes,
    /// Bytes to clients.
    SentBytes,
    /// ErrorResponses of the server.
    ServerErrors,
    /// Sessions that the proxy ended with an error.
    ProxyErrors,
    /// Milliseconds for which clients were pinned, of those that are not any more.
    PinnedMillis,
    /// Notifications that clients got from the connection that listens for all of them.
    Notifications,
    /// Clients that began to listen there.
    ListenersOpened,
    /// Clients that do not any more.
    ListenersClosed,
    /// Uses of a prepared statement that the server connection had.
    PreparedHits,
    /// Uses of one for which it had to be parsed again.
    PreparedMisses,
    /// Statements that were closed on a server connection to make room.
    PreparedEvictions,
}

impl Counter {
    const COUNT: usize = 17;
}

impl Shard {
    /// All zero. `by_schema` says whether statements are counted by schema.
    pub(super) fn new(by_schema: bool) -> Self {
        Self { traffic: by_schema.then(Traffic::new), ..Self::default() }
    }

    pub(super) fn count(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    pub(super) fn pins(&self, reason: SessionState) -> u64 {
        self.pins[reason.index()].load(Ordering::Relaxed)
    }

    pub(super) fn unpins(&self, reason: SessionState) -> u64 {
        self.unpins[reason.index()].load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self, rule: Rule) -> u64 {
        self.guarded.0[rule.index()].load(Ordering::Relaxed)
    }

    /// Where statements are counted by schema, if they are.
    pub fn traffic(&self) -> Option<&Traffic> {
        self.traffic.as_ref()
    }

    /// Adds `n`. To be called by the shard's own worker only.
    pub fn add(&self, counter: Counter, n: u64) {
        add(&self.counters[counter as usize], n);
    }

    /// Counts a client that was pinned to its server connection.
    pub fn pinned(&self, reason: SessionState) {
        add(&self.pins[reason.index()], 1);
    }

    /// Counts what was refused on a read-only route.
    pub fn refused(&self, rule: Rule) {
        add(&self.guarded.0[rule.index()], 1);
    }

    /// Counts a client that is not pinned for this reason any more.
    pub fn unpinned(&self, reason: SessionState) {
        add(&self.unpins[reason.index()], 1);
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}
