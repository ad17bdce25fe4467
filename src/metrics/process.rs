//! What is told of the process as a whole: its configuration, TLS, logins, and its workers.
//!
//! What a worker knows for itself it copies here at its tick, ten times a second, so that nothing on a query's path
//! touches memory that others read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::families::{family, gauge_of, pairs, total};
use super::{Error, Metrics};
use crate::error::ErrorKind;
use crate::statement::CacheStats;
use crate::tls::figures::{Counts, Expiry, Handshakes};
use crate::tls::{Acceptor, Connector};

pub(super) const LOGIN_FAILURES: (&str, &str) =
    ("firepool_login_failures_total", "Logins of clients that came to nothing, by reason.");

/// The reason of clients that left during their login, or whose handshake of TLS failed.
const GONE: &str = "gone";

/// Why logins fail: those that there are from the start, so that their first one is seen as an increase.
const AT_LOGIN: [ErrorKind; 20] = [
    ErrorKind::AuthenticationFailed,
    ErrorKind::FeatureNotSupported,
    ErrorKind::InsecureChannel,
    ErrorKind::InvalidStartup,
    ErrorKind::LoginTimeout,
    ErrorKind::LoginRefused,
    ErrorKind::LookupFailed,
    ErrorKind::NotPermitted,
    ErrorKind::ProtocolViolation,
    ErrorKind::QueryWaitTimeout,
    ErrorKind::ReadOnlyRoute,
    ErrorKind::ServerRejected,
    ErrorKind::ServerUnreachable,
    ErrorKind::SettingRefused,
    ErrorKind::Shutdown,
    ErrorKind::TooManyClients,
    ErrorKind::TooManyFailures,
    ErrorKind::TooManyLogins,
    ErrorKind::UnknownDatabase,
    ErrorKind::UnsupportedProtocol,
];

/// What a worker tells of itself.
#[derive(Debug, Default)]
pub struct WorkerFigures {
    /// Milliseconds since 1970.
    seen: AtomicU64,
    clients: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl WorkerFigures {
    /// The worker runs, with so many clients, and its caches of statements fare like this.
    pub fn tick(&self, clients: usize, caches: [CacheStats; 2]) {
        let sum = |count: fn(&CacheStats) -> u64| caches.iter().map(count).sum::<u64>();
        for (figure, value) in [
            (&self.seen, u64::try_from(now().as_millis()).unwrap_or(u64::MAX)),
            (&self.clients, clients as u64),
            (&self.hits, sum(|cache| cache.hits)),
            (&self.misses, sum(|cache| cache.misses)),
            (&self.entries, sum(|cache| cache.entries as u64)),
            (&self.bytes, sum(|cache| cache.bytes as u64)),
        ] {
            figure.store(value, Ordering::Relaxed);
        }
    }

    /// When it ran last, in milliseconds since 1970, and its clients then.
    pub(super) fn last(&self) -> (u64, u64) {
        (self.seen.load(Ordering::Relaxed), self.clients.load(Ordering::Relaxed))
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The configuration that is in use, and how the last reload went.
#[derive(Debug, Clone, Default)]
pub(super) struct Configured {
    pub(super) hash: String,
    pub(super) reloaded: bool,
    /// Seconds since 1970 of the last time that all went well.
    pub(super) at: u64,
}

/// All of it.
pub(super) struct State {
    workers: Box<[Arc<WorkerFigures>]>,
    configured: Mutex<Configured>,
    tls: Mutex<Tls>,
}

#[derive(Default)]
struct Tls {
    acceptor: Option<Arc<Acceptor>>,
    connectors: Vec<Arc<Connector>>,
    /// Of acceptors that others have taken the place of, while any of their clients is there; and of those before them.
    earlier: Vec<Arc<Counts>>,
    past: Handshakes,
}

impl Tls {
    /// Adds up what nothing can be added to any more, so that reloads without end leave no list without end.
    fn bury(&mut self) {
        let (past, earlier) = (&mut self.past, &mut self.earlier);
        earlier.retain(|counts| {
            let lives = Arc::strong_count(counts) > 1;
            if !lives {
                *past = *past + counts.read();
            }
            lives
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| Arc::default()).collect();
        Self { workers, configured: Mutex::default(), tls: Mutex::default() }
    }

    pub(super) fn workers(&self) -> &[Arc<WorkerFigures>] {
        &self.workers
    }

    pub(super) fn configured(&self) -> Configured {
        lock(&self.configured).clone()
    }

    /// Each file once, however many targets share it.
    pub(super) fn expiries(&self) -> BTreeSet<Expiry> {
        let tls = lock(&self.tls);
        let own = tls.acceptor.iter().flat_map(|acceptor| acceptor.expiries());
        own.chain(tls.connectors.iter().flat_map(|connector| connector.expiries())).collect()
    }

    /// Of clients, and of servers.
    pub(super) fn handshakes(&self) -> [(&'static str, Handshakes); 2] {
        let mut tls = lock(&self.tls);
        tls.bury();
        let clients = tls.acceptor.as_ref().map(|acceptor| acceptor.handshakes()).unwrap_or_default();
        let clients = tls.earlier.iter().fold(clients + tls.past, |sum, counts| sum + counts.read());
        let servers = tls.connectors.iter().map(|connector| connector.handshakes());
        let servers = servers.fold(Handshakes::default(), |sum, one| sum + one);
        [("client", clients), ("server", servers)]
    }
}

impl Metrics {
    /// Where a worker tells of itself, by its number.
    pub fn worker(&self, number: usize) -> Arc<WorkerFigures> {
        let workers = self.process.workers();
        Arc::clone(&workers[number % workers.len()])
    }

    /// Shows the handshakes and certificates of both legs.
    pub fn watch_tls(&self, acceptor: Option<Arc<Acceptor>>, connectors: Vec<Arc<Connector>>) {
        *lock(&self.process.tls) = Tls { acceptor, connectors, ..Tls::default() };
    }

    /// Clients' handshakes are done with another acceptor from now on. What was counted goes on.
    pub fn accepting(&self, acceptor: Option<Arc<Acceptor>>) {
        let mut tls = lock(&self.process.tls);
        let counts = |acceptor: &Option<Arc<Acceptor>>| acceptor.as_ref().map(|acceptor| acceptor.counts());
        let (before, after) = (counts(&tls.acceptor), counts(&acceptor));
        if before.as_ref().map(Arc::as_ptr) != after.as_ref().map(Arc::as_ptr) {
            tls.earlier.extend(before);
            tls.bury();
        }
        tls.acceptor = acceptor;
    }

    /// A configuration is in use, which `hash` tells apart; `complete` if nothing that was to be loaded with it failed.
    pub fn configured(&self, hash: String, complete: bool) {
        let mut configured = lock(&self.process.configured);
        let at = if complete { now().as_secs() } else { configured.at };
        *configured = Configured { hash, reloaded: complete, at };
    }

    /// Another configuration was of no use: the old one stays.
    pub fn reload_failed(&self) {
        lock(&self.process.configured).reloaded = false;
    }

    /// Counts a login that came to nothing; without a reason, the client had gone.
    pub fn login_failed(&self, reason: Option<ErrorKind>) {
        self.login_failures.with_label_values(&[reason.map_or(GONE, ErrorKind::as_str)]).inc();
    }

    /// Has the reasons from the start.
    pub(super) fn foresee_login_failures(failures: &prometheus::IntCounterVec) {
        for reason in AT_LOGIN.into_iter().map(ErrorKind::as_str).chain([GONE]) {
            failures.with_label_values(&[reason]);
        }
    }
}

/// Name, help, type, and the labels' names.
type Row = (&'static str, &'static str, MetricType, &'static [&'static str]);

const HANDSHAKES: Row = (
    "firepool_tls_handshakes_total",
    "Handshakes of TLS that came to a session, with clients and with servers.",
    MetricType::COUNTER,
    &["leg", "version"],
);
const HANDSHAKE_FAILURES: Row = (
    "firepool_tls_handshake_failures_total",
    "Handshakes of TLS that came to nothing, whoever gave up.",
    MetricType::COUNTER,
    &["leg"],
);
const SESSIONS: Row =
    ("firepool_tls_connections", "Connections that are encrypted.", MetricType::GAUGE, &["leg"]);
const EXPIRY: Row = (
    "firepool_tls_certificate_expiry_timestamp_seconds",
    "When the first certificate of a chain expires, or the last one of a file of authorities, in seconds since 1970.",
    MetricType::GAUGE,
    &["role", "file"],
);
const CONFIG: Row = (
    "firepool_config_info",
    "The configuration that is in use, by a hash of what it means without its secrets.",
    MetricType::GAUGE,
    &["hash"],
);
const RELOADED: Row = (
    "firepool_config_last_reload_successful",
    "1 if the last reload took the configuration and all certificates, or there was none.",
    MetricType::GAUGE,
    &[],
);
const RELOADED_AT: Row = (
    "firepool_config_last_reload_success_timestamp_seconds",
    "When a configuration and all certificates were last taken, in seconds since 1970.",
    MetricType::GAUGE,
    &[],
);
const SEEN: Row = (
    "firepool_worker_last_seen_timestamp_seconds",
    "When a worker last had time for its deadlines, in seconds since 1970: ten times a second, unless something holds it up.",
    MetricType::GAUGE,
    &["worker"],
);
const CLIENTS: Row =
    ("firepool_worker_clients", "Connections of clients that a worker has.", MetricType::GAUGE, &["worker"]);
const CACHE_HITS: Row = (
    "firepool_statement_cache_hits_total",
    "Texts of SQL of which it was known what they do.",
    MetricType::COUNTER,
    &[],
);
const CACHE_MISSES: Row = (
    "firepool_statement_cache_misses_total",
    "Texts of SQL that had to be read to know what they do.",
    MetricType::COUNTER,
    &[],
);
const CACHE_ENTRIES: Row = (
    "firepool_statement_cache_entries",
    "Texts of SQL that are held with what they do.",
    MetricType::GAUGE,
    &[],
);
const CACHE_BYTES: Row =
    ("firepool_statement_cache_bytes", "Bytes of the texts of SQL that are held.", MetricType::GAUGE, &[]);

const ROWS: [Row; 13] = [
    HANDSHAKES,
    HANDSHAKE_FAILURES,
    SESSIONS,
    EXPIRY,
    CONFIG,
    RELOADED,
    RELOADED_AT,
    SEEN,
    CLIENTS,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_ENTRIES,
    CACHE_BYTES,
];

/// The process's samples.
pub(super) struct Process {
    state: Arc<State>,
    descriptions: Vec<Desc>,
}

impl Process {
    pub(super) fn new(state: Arc<State>) -> Result<Self, Error> {
        let describe = |(name, help, _, labels): Row| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let descriptions = ROWS.into_iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { state, descriptions })
    }

    fn tls(&self) -> Vec<MetricFamily> {
        let legs = self.state.handshakes();
        let versions = legs
            .iter()
            .flat_map(|(leg, counted)| [(leg, "1.2", counted.v1_2), (leg, "1.3", counted.v1_3)])
            .map(|(leg, version, count)| sample(HANDSHAKES, &[*leg, version], count as f64));
        let of_leg = |row: Row, count: fn(&Handshakes) -> u64| {
            let samples = legs.iter().map(|(leg, counted)| sample(row, &[*leg], count(counted) as f64));
            of(row, samples.collect())
        };
        let expiries = self.state.expiries();
        let expiries = expiries.iter().map(|expiry| {
            sample(EXPIRY, &[expiry.role, &expiry.path.display().to_string()], expiry.until as f64)
        });
        vec![
            of(HANDSHAKES, versions.collect()),
            of_leg(HANDSHAKE_FAILURES, |counted| counted.failed),
            of_leg(SESSIONS, |counted| counted.open),
            of(EXPIRY, expiries.collect()),
        ]
    }

    fn configuration(&self) -> Vec<MetricFamily> {
        let Configured { hash, reloaded, at } = self.state.configured();
        vec![
            of(CONFIG, vec![sample(CONFIG, &[&hash], 1.0)]),
            of(RELOADED, vec![sample(RELOADED, &[], f64::from(u8::from(reloaded)))]),
            of(RELOADED_AT, vec![sample(RELOADED_AT, &[], at as f64)]),
        ]
    }

    fn workers(&self) -> Vec<MetricFamily> {
        let workers = self.state.workers();
        let sum = |row: Row, figure: fn(&WorkerFigures) -> &AtomicU64| {
            let sum: u64 = workers.iter().map(|worker| figure(worker).load(Ordering::Relaxed)).sum();
            of(row, vec![sample(row, &[], sum as f64)])
        };
        let each = |row: Row, figure: fn(&WorkerFigures) -> f64| {
            let samples = workers
                .iter()
                .enumerate()
                .map(|(number, worker)| sample(row, &[&number.to_string()], figure(worker)));
            of(row, samples.collect())
        };
        vec![
            each(SEEN, |worker| worker.last().0 as f64 / 1_000.0),
            each(CLIENTS, |worker| worker.last().1 as f64),
            sum(CACHE_HITS, |worker| &worker.hits),
            sum(CACHE_MISSES, |worker| &worker.misses),
            sum(CACHE_ENTRIES, |worker| &worker.entries),
            sum(CACHE_BYTES, |worker| &worker.bytes),
        ]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = [self.tls(), self.configuration(), self.workers()].concat();
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

fn of((name, help, kind, _): Row, samples: Vec<Metric>) -> MetricFamily {
    family((name, help), kind, samples)
}

fn sample((_, _, kind, names): Row, values: &[&str], value: f64) -> Metric {
    let labels = pairs(names.iter().copied().zip(values.iter().copied()));
    if kind == MetricType::COUNTER { total(labels, value) } else { gauge_of(labels, value) }
}
