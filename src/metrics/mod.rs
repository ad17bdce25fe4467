//! What Prometheus scrapes. Every family is declared once, in `families`; label sets are closed; what the path of a
//! query touches are plain counters of one worker's own ([`Shard`]), summed when somebody scrapes.
//!
//! Gauges of a pool are not kept here at all: the pool is asked at the scrape ([`PoolGauges`]), so that they cannot
//! drift from the truth.

mod families;
mod histogram;
mod live;
mod pgbouncer;
mod process;
mod ranking;
pub mod roster;
mod shard;
mod statements;
mod top;
#[cfg(test)]
mod top_tests;
mod traffic;
mod watched;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

pub use families::{LOG_DROPPED, LOG_SUPPRESSED, SPANS_DROPPED, SPANS_EXPORTED};
pub use live::Live;
pub use process::WorkerFigures;
pub use prometheus::Error;
pub use ranking::{Figures, Order, Ranked, Ranking};
pub use shard::{Counter, Shard};
pub use top::{Place, Table};
pub use traffic::{Counts, Traffic};

use crate::error::{ErrorKind, Origin};
use crate::metrics::roster::Roster;
use crate::rule::Rule;
use crate::wire::tag::SessionState;
use top::{Owner, Shown};

/// What a pool is like at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolGauges {
    /// Server connections that are leased.
    pub active: u64,
    /// Server connections that wait for work.
    pub idle: u64,
    /// Server connections that are being opened.
    pub opening: u64,
    /// Clients that wait for a server connection.
    pub waiting: u64,
    /// The most server connections that the pool may have, without its reserve.
    pub size: u64,
    /// Names of the database whose schema is known.
    pub names: u64,
    /// When the server was started, in milliseconds of Unix time, if that is known.
    pub started: Option<u64>,
    /// How often it was another time than before, if it is asked at all.
    pub restarts: Option<u64>,
}

/// What a pool is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolAbout {
    /// Where its server is.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database's name there.
    pub database: String,
    /// When a server connection goes back.
    pub mode: &'static str,
    /// Server connections above the pool's size.
    pub reserve: u64,
}

/// Whoever can tell the gauges of a pool.
pub trait PoolState: Send + Sync {
    /// The state now.
    fn gauges(&self) -> PoolGauges;

    /// What stays as it is.
    fn about(&self) -> PoolAbout;
}

/// The metrics of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    database: String,
    user: String,
    shards: Box<[Arc<Shard>]>,
    wait: Histogram,
    /// The schemas by which its statements are counted.
    roster: Option<Arc<Roster>>,
    owner: Arc<Owner>,
    /// Of a read-only route.
    pub guarded: AtomicBool,
    /// Server connections that were opened.
    pub opened: AtomicU64,
    /// Server connections that were closed.
    pub closed: AtomicU64,
    /// Attempts to open one that failed.
    pub failed: AtomicU64,
    /// Server connections that the server closed, or that broke.
    pub lost: AtomicU64,
}

impl PoolMetrics {
    /// The counters of a worker, by its number.
    pub fn shard(&self, worker: usize) -> Arc<Shard> {
        Arc::clone(&self.shards[worker % self.shards.len()])
    }

    /// A client got its server connection after it had waited so long.
    pub fn waited(&self, time: Duration) {
        self.wait.observe(time.as_secs_f64());
    }

    fn sum(&self, counter: Counter) -> u64 {
        self.shards.iter().map(|shard| shard.count(counter)).sum()
    }

    fn pins(&self, reason: SessionState) -> u64 {
        self.shards.iter().map(|shard| shard.pins(reason)).sum()
    }

    fn guarded(&self, rule: Rule) -> u64 {
        self.shards.iter().map(|shard| shard.refusals(rule)).sum()
    }

    fn unpins(&self, reason: SessionState) -> u64 {
        self.shards.iter().map(|shard| shard.unpins(reason)).sum()
    }
}

struct Entry {
    metrics: Arc<PoolMetrics>,
    state: Weak<dyn PoolState>,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    workers: usize,
    pools: Arc<Mutex<Vec<Entry>>>,
    /// How many there have been.
    numbers: AtomicU64,
    /// Of each worker, its table of statements, if there is one, and how many places each has.
    tables: Box<[Arc<Shown>]>,
    places: usize,
    refusals: IntCounterVec,
    logins: IntCounterVec,
    login_failures: IntCounterVec,
    process: Arc<process::State>,
    cancels: IntCounterVec,
    replications_opened: IntCounter,
    replications_closed: IntCounter,
}

/// A replicating client's server connection, counted as closed when it is dropped.
#[derive(Debug)]
pub struct Replicating(IntCounter);

impl Drop for Replicating {
    fn drop(&mut self) {
        self.0.inc();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Declares every family, for so many workers.
    pub fn new(workers: usize) -> Result<Self, prometheus::Error> {
        let (registry, workers) = (Registry::new(), workers.max(1));
        let process = Arc::new(process::State::new(workers));
        registry.register(Box::new(process::Process::new(Arc::clone(&process))?))?;
        let vector =
            |(name, help): (&str, &str), labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let refusals = vector(families::REFUSALS, &["kind", "origin"])?;
        let logins = vector(families::LOGINS, &["result"])?;
        let login_failures = vector(process::LOGIN_FAILURES, &["reason"])?;
        Self::foresee_login_failures(&login_failures);
        let cancels = vector(families::CANCELS, &["result"])?;
        for kind in ErrorKind::ALL {
            refusals.with_label_values(&[kind.as_str(), origin(kind.origin())]);
        }
        for result in ["ok", "failed"] {
            logins.with_label_values(&[result]);
        }
        for result in [Cancelled::Forwarded, Cancelled::Waiting, Cancelled::Idle, Cancelled::Unknown] {
            cancels.with_label_values(&[result.as_str()]);
        }
        let counter = |(name, help): (&str, &str)| IntCounter::new(name, help);
        let replications_opened = counter(families::REPLICATIONS_OPENED)?;
        let replications_closed = counter(families::REPLICATIONS_CLOSED)?;
        for family in [&replications_opened, &replications_closed] {
            registry.register(Box::new(family.clone()))?;
        }
        let pools = Arc::new(Mutex::new(Vec::new()));
        registry.register(Box::new(families::Pools::new(Arc::clone(&pools))?))?;
        registry.register(Box::new(statements::Statements::new(Arc::clone(&pools))?))?;
        registry.register(Box::new(families::build_info()?))?;
        for family in [&refusals, &logins, &login_failures, &cancels] {
            registry.register(Box::new(family.clone()))?;
        }
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self {
            registry,
            workers,
            pools,
            numbers: AtomicU64::new(0),
            tables: Box::default(),
            places: 0,
            refusals,
            logins,
            login_failures,
            process,
            cancels,
            replications_opened,
            replications_closed,
        })
    }

    /// Counts statements by their shapes, in tables of so many places.
    #[must_use]
    pub fn ranking_statements(self, places: usize) -> Self {
        let tables = if places == 0 { 0 } else { self.workers };
        Self { tables: (0..tables).map(|_| Arc::default()).collect(), places, ..self }
    }

    /// The table of a worker, by its number, if statements are counted by their shapes. A second one takes the place of
    /// the first.
    pub fn table(&self, worker: usize) -> Option<Table> {
        self.tables.get(worker).map(|shown| Table::new(Arc::clone(shown), self.places))
    }

    /// What the tables of all workers hold, if there are any.
    pub fn ranking(&self) -> Option<Ranking> {
        (!self.tables.is_empty()).then(|| Ranking::read(&self.tables))
    }

    /// Shows the pools under the names of pgbouncer_exporter as well.
    ///
    /// # Errors
    /// They are shown already.
    pub fn show_pgbouncer_names(&self) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(pgbouncer::AsPgBouncer::new(Arc::clone(&self.pools))?))
    }

    /// Shows a counter that somebody else keeps, under a name and with a help text.
    ///
    /// # Errors
    /// It is shown already.
    pub fn show_total(
        &self,
        family: (&'static str, &'static str),
        read: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(watched::Watched::new(family, read)?))
    }

    /// The metrics of a new pool. With a roster, its statements are counted by the schemas in it.
    pub fn pool(
        &self,
        database: &str,
        user: &str,
        roster: Option<Arc<Roster>>,
    ) -> Result<Arc<PoolMetrics>, prometheus::Error> {
        let wait = Histogram::with_opts(
            HistogramOpts::new(families::WAIT.0, families::WAIT.1).buckets(families::WAIT_BUCKETS.to_vec()),
        )?;
        Ok(Arc::new(PoolMetrics {
            database: database.to_owned(),
            user: user.to_owned(),
            shards: (0..self.workers).map(|_| Arc::new(Shard::new(roster.is_some()))).collect(),
            owner: Arc::new(Owner {
                number: self.numbers.fetch_add(1, Ordering::Relaxed),
                database: database.to_owned(),
                user: user.to_owned(),
                roster: roster.clone(),
            }),
            roster,
            wait,
            guarded: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }))
    }

    /// Shows a pool to whoever scrapes. A pool that is gone disappears with its counters.
    pub fn publish(&self, metrics: Arc<PoolMetrics>, state: Weak<dyn PoolState>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|entry| entry.state.strong_count() > 0);
        pools.push(Entry { metrics, state });
    }

    /// Counts a client that was refused or ended.
    pub fn refused(&self, kind: ErrorKind) {
        self.refusals.with_label_values(&[kind.as_str(), origin(kind.origin())]).inc();
    }

    /// Counts a login.
    pub fn login(&self, ok: bool) {
        self.logins.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// Counts a cancel request.
    pub fn cancelled(&self, result: Cancelled) {
        self.cancels.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts a server connection of a replicating client, for as long as the result lives.
    pub fn replicating(&self) -> Replicating {
        self.replications_opened.inc();
        Replicating(self.replications_closed.clone())
    }

    /// Everything in Prometheus' text format 0.0.4.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// What became of a cancel request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Sent to the server on which the client's query runs.
    Forwarded,
    /// The client waited for a server connection, and waits no more.
    Waiting,
    /// The client had no query running.
    Idle,
    /// No client has that key.
    Unknown,
}

impl Cancelled {
    fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
        }
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Client => "client",
        Origin::Server => "server",
        Origin::Pool => "pool",
        Origin::Proxy => "proxy",
    }
}

fn observe(histogram: &Histogram) -> prometheus::proto::Metric {
    histogram.collect().first().and_then(|family| family.get_metric().first().cloned()).unwrap_or_default()
}
