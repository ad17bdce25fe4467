//! The table of families: name and help of each, and the collector that turns pools into samples.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntGauge, Opts};

use super::{Counter, Entry, PoolGauges, PoolMetrics};
use crate::rule::Rule;
use crate::wire::tag::SessionState;

pub(super) const REFUSALS: (&str, &str) = (
    "firepool_refusals_total",
    "Clients that were refused or ended with an error, by kind and by whose fault it was.",
);
pub(super) const LOGINS: (&str, &str) = ("firepool_logins_total", "Logins of clients, by result.");
pub(super) const CANCELS: (&str, &str) =
    ("firepool_cancel_requests_total", "Cancel requests of clients, by result.");
pub(super) const REPLICATIONS_OPENED: (&str, &str) = (
    "firepool_replication_connections_opened_total",
    "Server connections that were opened for a replicating client, outside of the pools.",
);
pub(super) const REPLICATIONS_CLOSED: (&str, &str) =
    ("firepool_replication_connections_closed_total", "Those of them that were closed.");
/// Lines of the log that were not written.
pub const LOG_SUPPRESSED: (&str, &str) = (
    "firepool_log_lines_suppressed_total",
    "Lines of the log that were not written because there were too many of their kind.",
);
/// Lines of the log that were lost.
pub const LOG_DROPPED: (&str, &str) = (
    "firepool_log_lines_dropped_total",
    "Lines of the log that were lost because whoever reads them was too slow, or had gone.",
);
/// Spans that a collector has taken.
pub const SPANS_EXPORTED: (&str, &str) =
    ("firepool_spans_exported_total", "Spans of queries that a collector has taken.");
/// Spans that were lost.
pub const SPANS_DROPPED: (&str, &str) = (
    "firepool_spans_dropped_total",
    "Spans, and queries that would have been some, that were lost because the collector was too slow, or away.",
);
pub(super) const WAIT: (&str, &str) =
    ("firepool_wait_seconds", "Time that clients waited for a server connection, of those that had to wait.");

/// From a hundred microseconds, a hand-over between two clients, to longer than any sensible query_wait.
pub(super) const WAIT_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

const CLIENTS: (&str, &str) = ("firepool_clients", "Clients that are logged in, by state.");
const LISTENERS: (&str, &str) =
    ("firepool_listening_clients", "Clients that listen without a server connection of their own.");
const SERVERS: (&str, &str) = ("firepool_server_connections", "Server connections, by state.");
const SIZE: (&str, &str) =
    ("firepool_pool_size", "Server connections that the pool may have, without its reserve.");
const NAMES: (&str, &str) = (
    "firepool_catalogue_names",
    "Tables, views, sequences, functions and types of the database whose schema is known; 0 before it was asked.",
);
const STARTED: (&str, &str) = (
    "firepool_server_start_time_seconds",
    "When the server was started, as it said when its catalogue was asked last, in seconds of Unix time.",
);
const RESTARTS: (&str, &str) = (
    "firepool_server_restarts_total",
    "Times that the server turned out to have been started anew, or to be another one.",
);
const PINS: (&str, &str) = (
    "firepool_pins_total",
    "Clients that were kept on their server connection because of session state, by reason.",
);
const UNPINS: (&str, &str) = (
    "firepool_unpins_total",
    "Clients whose session state was gone again, so that nothing kept them on their server connection, by reason.",
);
const PINNED: (&str, &str) = (
    "firepool_pinned_seconds_total",
    "Time that clients were kept on their server connection, of those that are not any more.",
);

const GUARDED: (&str, &str) = (
    "firepool_guard_refusals_total",
    "What clients of read-only routes sent and was refused, by the rule that it broke.",
);

/// Families that are one counter of a pool.
const COUNTERS: [(&str, &str, Source); 18] = [
    ("firepool_client_connections_total", "Clients that logged in.", Source::Shard(Counter::ClientsOpened)),
    ("firepool_client_disconnections_total", "Clients that left.", Source::Shard(Counter::ClientsClosed)),
    ("firepool_checkouts_total", "Leases of a server connection.", Source::Shard(Counter::Checkouts)),
    (
        "firepool_session_questions_total",
        "Times that a server was asked what a client left in its session.",
        Source::Shard(Counter::Questions),
    ),
    ("firepool_transactions_total", "Transactions that ended.", Source::Shard(Counter::Transactions)),
    ("firepool_queries_total", "Query, Execute and FunctionCall messages.", Source::Shard(Counter::Queries)),
    (
        "firepool_notifications_total",
        "Notifications that clients got from the server connection that listens for all of a pool's.",
        Source::Shard(Counter::Notifications),
    ),
    (
        "firepool_prepared_statement_hits_total",
        "Uses of a prepared statement that the server connection had.",
        Source::Shard(Counter::PreparedHits),
    ),
    (
        "firepool_prepared_statement_misses_total",
        "Uses of a prepared statement that had to be parsed again on the server connection.",
        Source::Shard(Counter::PreparedMisses),
    ),
    (
        "firepool_prepared_statement_evictions_total",
        "Prepared statements that were closed on a server connection to make room for others.",
        Source::Shard(Counter::PreparedEvictions),
    ),
    ("firepool_received_bytes_total", "Bytes received from clients.", Source::Shard(Counter::ReceivedBytes)),
    ("firepool_sent_bytes_total", "Bytes sent to clients.", Source::Shard(Counter::SentBytes)),
    (
        "firepool_server_errors_total",
        "Errors that the server answered.",
        Source::Shard(Counter::ServerErrors),
    ),
    (
        "firepool_proxy_errors_total",
        "Sessions that the proxy ended with an error.",
        Source::Shard(Counter::ProxyErrors),
    ),
    ("firepool_server_connections_opened_total", "Server connections that were opened.", Source::Opened),
    ("firepool_server_connections_closed_total", "Server connections that were closed.", Source::Closed),
    ("firepool_server_connection_failures_total", "Attempts to open one that failed.", Source::Failed),
    (
        "firepool_server_connections_lost_total",
        "Server connections that the server closed, or that broke.",
        Source::Lost,
    ),
];

#[derive(Clone, Copy)]
enum Source {
    Shard(Counter),
    Opened,
    Closed,
    Failed,
    Lost,
}

impl Source {
    fn read(self, metrics: &PoolMetrics) -> u64 {
        match self {
            Self::Shard(counter) => metrics.sum(counter),
            Self::Opened => metrics.opened.load(Ordering::Relaxed),
            Self::Closed => metrics.closed.load(Ordering::Relaxed),
            Self::Failed => metrics.failed.load(Ordering::Relaxed),
            Self::Lost => metrics.lost.load(Ordering::Relaxed),
        }
    }
}

/// The build, as a gauge that is always 1.
pub(super) fn build_info() -> Result<IntGauge, prometheus::Error> {
    let opts = Opts::new("firepool_build_info", "The version that runs.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let gauge = IntGauge::with_opts(opts)?;
    gauge.set(1);
    Ok(gauge)
}

/// Every pool's samples.
pub(super) struct Pools {
    pools: Arc<Mutex<Vec<Entry>>>,
    descriptions: Vec<Desc>,
}

impl Pools {
    pub(super) fn new(pools: Arc<Mutex<Vec<Entry>>>) -> Result<Self, prometheus::Error> {
        let names = COUNTERS.iter().map(|&(name, help, _)| (name, help)).chain([
            CLIENTS, LISTENERS, SERVERS, SIZE, NAMES, STARTED, RESTARTS, PINS, UNPINS, PINNED, GUARDED, WAIT,
        ]);
        let labels = || vec!["database".to_owned(), "user".to_owned()];
        let descriptions = names
            .map(|(name, help)| Desc::new(name.to_owned(), help.to_owned(), labels(), Default::default()))
            .collect::<Result<_, _>>()?;
        Ok(Self { pools, descriptions })
    }
}

impl Collector for Pools {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let pools: Vec<(Arc<PoolMetrics>, PoolGauges)> = {
            let entries = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            let living = entries.iter().filter_map(|entry| Some((&entry.metrics, entry.state.upgrade()?)));
            living.map(|(metrics, state)| (Arc::clone(metrics), state.gauges())).collect()
        };
        let each = |samples: &dyn Fn(&PoolMetrics, &PoolGauges) -> Vec<Metric>| {
            pools.iter().flat_map(|(metrics, gauges)| samples(metrics, gauges)).collect::<Vec<_>>()
        };
        let mut families: Vec<MetricFamily> = COUNTERS
            .iter()
            .map(|&(name, help, source)| {
                let samples = each(&|metrics, _| vec![counter(labels(metrics, None), source.read(metrics))]);
                family((name, help), MetricType::COUNTER, samples)
            })
            .collect();
        // Of each pool what it has of it: nothing, one sample, or several.
        type Samples = fn(&PoolMetrics, &PoolGauges) -> Vec<Metric>;
        let more: [((&str, &str), MetricType, Samples); 12] = [
            (CLIENTS, MetricType::GAUGE, clients),
            (LISTENERS, MetricType::GAUGE, listeners),
            (SERVERS, MetricType::GAUGE, servers),
            (SIZE, MetricType::GAUGE, |metrics, gauges| vec![gauge(labels(metrics, None), gauges.size)]),
            (NAMES, MetricType::GAUGE, |metrics, gauges| vec![gauge(labels(metrics, None), gauges.names)]),
            (STARTED, MetricType::GAUGE, started),
            (RESTARTS, MetricType::COUNTER, restarts),
            (PINS, MetricType::COUNTER, |metrics, _| by_reason(metrics, PoolMetrics::pins)),
            (UNPINS, MetricType::COUNTER, |metrics, _| by_reason(metrics, PoolMetrics::unpins)),
            (PINNED, MetricType::COUNTER, |metrics, _| {
                vec![seconds(labels(metrics, None), metrics.sum(Counter::PinnedMillis))]
            }),
            (GUARDED, MetricType::COUNTER, |metrics, _| by_rule(metrics)),
            (WAIT, MetricType::HISTOGRAM, waits),
        ];
        families.extend(more.map(|(name, kind, samples)| family(name, kind, each(&samples))));
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

fn clients(metrics: &PoolMetrics, gauges: &PoolGauges) -> Vec<Metric> {
    let open = metrics.sum(Counter::ClientsOpened).saturating_sub(metrics.sum(Counter::ClientsClosed));
    let idle = open.saturating_sub(gauges.active + gauges.waiting);
    [("active", gauges.active), ("idle", idle), ("waiting", gauges.waiting)]
        .into_iter()
        .map(|(state, value)| gauge(labels(metrics, Some(("state", state))), value))
        .collect()
}

fn listeners(metrics: &PoolMetrics, _: &PoolGauges) -> Vec<Metric> {
    let opened = metrics.sum(Counter::ListenersOpened);
    vec![gauge(labels(metrics, None), opened.saturating_sub(metrics.sum(Counter::ListenersClosed)))]
}

fn servers(metrics: &PoolMetrics, gauges: &PoolGauges) -> Vec<Metric> {
    [("active", gauges.active), ("idle", gauges.idle), ("opening", gauges.opening)]
        .into_iter()
        .map(|(state, value)| gauge(labels(metrics, Some(("state", state))), value))
        .collect()
}

fn started(metrics: &PoolMetrics, gauges: &PoolGauges) -> Vec<Metric> {
    let started = gauges.started.map(|millis| gauge_of(labels(metrics, None), millis as f64 / 1_000.0));
    started.into_iter().collect()
}

fn restarts(metrics: &PoolMetrics, gauges: &PoolGauges) -> Vec<Metric> {
    gauges.restarts.map(|restarts| counter(labels(metrics, None), restarts)).into_iter().collect()
}

fn by_reason(metrics: &PoolMetrics, read: fn(&PoolMetrics, SessionState) -> u64) -> Vec<Metric> {
    SessionState::ALL
        .into_iter()
        .map(|reason| counter(labels(metrics, Some(("reason", reason.as_str()))), read(metrics, reason)))
        .collect()
}

fn by_rule(metrics: &PoolMetrics) -> Vec<Metric> {
    if !metrics.guarded.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let sample = |rule: Rule| counter(labels(metrics, Some(("rule", rule.as_str()))), metrics.guarded(rule));
    Rule::ALL.into_iter().map(sample).collect()
}

fn waits(metrics: &PoolMetrics, _: &PoolGauges) -> Vec<Metric> {
    let mut sample = super::observe(&metrics.wait);
    sample.set_label(labels(metrics, None));
    vec![sample]
}

/// Labels with these names and values.
pub(super) fn pairs<'n>(pairs: impl IntoIterator<Item = (&'static str, &'n str)>) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    pairs.into_iter().map(pair).collect()
}

pub(super) fn labels<'m>(
    metrics: &'m PoolMetrics,
    more: impl IntoIterator<Item = (&'static str, &'m str)>,
) -> Vec<LabelPair> {
    let own = [("database", metrics.database.as_str()), ("user", metrics.user.as_str())];
    pairs(own.into_iter().chain(more))
}

pub(super) fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    total(labels, value as f64)
}

fn seconds(labels: Vec<LabelPair>, millis: u64) -> Metric {
    total(labels, millis as f64 / 1_000.0)
}

pub(super) fn total(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = prometheus::proto::Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<LabelPair>, value: u64) -> Metric {
    gauge_of(labels, value as f64)
}

pub(super) fn gauge_of(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = prometheus::proto::Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

pub(super) fn family((name, help): (&str, &str), kind: MetricType, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}
