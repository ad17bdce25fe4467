//! The names of prometheus-community's pgbouncer_exporter, so that dashboards which were made for it show something
//! while they are in use. Off by default: everything in it has a name of our own as well.
//!
//! What PgBouncer calls an active client is one that does not wait for a server connection. What has no counterpart here
//! is left out: DNS caches, states of cancel requests, the time in transactions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::families::{family, gauge_of as gauge, pairs, total as counter};
use super::traffic::read;
use super::{Counter, Entry, PoolAbout, PoolGauges, PoolMetrics};
use crate::statement::Command;

/// A pool and how it is.
struct Shown {
    metrics: Arc<PoolMetrics>,
    gauges: PoolGauges,
    about: PoolAbout,
}

impl Shown {
    fn clients(&self) -> u64 {
        let (opened, closed) = (Counter::ClientsOpened, Counter::ClientsClosed);
        self.metrics.sum(opened).saturating_sub(self.metrics.sum(closed))
    }

    fn servers(&self) -> u64 {
        self.gauges.active + self.gauges.idle + self.gauges.opening
    }

    /// Nanoseconds that the server took for all statements, where those are counted.
    fn server_nanos(&self) -> u64 {
        let traffic = self.metrics.shards.iter().filter_map(|shard| shard.traffic());
        let cells = traffic.flat_map(|traffic| {
            Command::ALL.into_iter().filter_map(move |command| traffic.cell(None, command))
        });
        cells.map(|cell| read(&cell.server.nanos)).sum()
    }
}

type Value = fn(&Shown) -> f64;
type OfAll = fn(&[Shown]) -> f64;

/// Of each pool, by database and user.
const POOLS: [(&str, &str, Value); 6] = [
    (
        "pgbouncer_pools_client_active_connections",
        "Clients that do not wait for a server connection.",
        |pool| pool.clients().saturating_sub(pool.gauges.waiting) as f64,
    ),
    ("pgbouncer_pools_client_waiting_connections", "Clients that wait for a server connection.", |pool| {
        pool.gauges.waiting as f64
    }),
    ("pgbouncer_pools_server_active_connections", "Server connections that clients have.", |pool| {
        pool.gauges.active as f64
    }),
    ("pgbouncer_pools_server_idle_connections", "Server connections that are free.", |pool| {
        pool.gauges.idle as f64
    }),
    ("pgbouncer_pools_server_login_connections", "Server connections that are being opened.", |pool| {
        pool.gauges.opening as f64
    }),
    ("pgbouncer_pools_server_used_connections", "Always 0.", |_| 0.0),
];

/// Sums over the pools of each database.
const TOTALS: [(&str, &str, Value); 7] = [
    ("pgbouncer_stats_totals_queries_pooled_total", "Query, Execute and FunctionCall messages.", |pool| {
        pool.metrics.sum(Counter::Queries) as f64
    }),
    ("pgbouncer_stats_totals_sql_transactions_pooled_total", "Transactions that ended.", |pool| {
        pool.metrics.sum(Counter::Transactions) as f64
    }),
    ("pgbouncer_stats_totals_received_bytes_total", "Bytes received from clients.", |pool| {
        pool.metrics.sum(Counter::ReceivedBytes) as f64
    }),
    ("pgbouncer_stats_totals_sent_bytes_total", "Bytes sent to clients.", |pool| {
        pool.metrics.sum(Counter::SentBytes) as f64
    }),
    (
        "pgbouncer_stats_totals_client_wait_seconds_total",
        "Time that clients waited for a server connection.",
        |pool| pool.metrics.wait.get_sample_sum(),
    ),
    (
        "pgbouncer_stats_totals_queries_duration_seconds_total",
        "Time that the server took for statements.",
        |pool| pool.server_nanos() as f64 / 1e9,
    ),
    ("pgbouncer_stats_totals_server_assignments_total", "Leases of a server connection.", |pool| {
        pool.metrics.sum(Counter::Checkouts) as f64
    }),
];

/// Of each pool, as a database of PgBouncer's with a forced user.
const DATABASES: [(&str, &str, Value); 6] = [
    ("pgbouncer_databases_pool_size", "Server connections of the pool.", |pool| pool.gauges.size as f64),
    ("pgbouncer_databases_reserve_pool", "Server connections above that.", |pool| pool.about.reserve as f64),
    ("pgbouncer_databases_max_connections", "Server connections at most, with the reserve.", |pool| {
        (pool.gauges.size + pool.about.reserve) as f64
    }),
    ("pgbouncer_databases_current_connections", "Server connections.", |pool| pool.servers() as f64),
    ("pgbouncer_databases_paused", "Always 0.", |_| 0.0),
    ("pgbouncer_databases_disabled", "Always 0.", |_| 0.0),
];

/// Of the whole proxy.
const WHOLE: [(&str, &str, OfAll); 7] = [
    ("pgbouncer_up", "Always 1.", |_| 1.0),
    ("pgbouncer_pools", "Pools.", |pools| pools.len() as f64),
    ("pgbouncer_databases", "Databases.", |pools| distinct(pools, |pool| &pool.metrics.database)),
    ("pgbouncer_users", "Users.", |pools| distinct(pools, |pool| &pool.metrics.user)),
    ("pgbouncer_used_clients", "Clients that are logged in.", |pools| {
        pools.iter().map(Shown::clients).sum::<u64>() as f64
    }),
    ("pgbouncer_used_servers", "Server connections that clients have.", |pools| {
        pools.iter().map(|pool| pool.gauges.active).sum::<u64>() as f64
    }),
    ("pgbouncer_free_servers", "Server connections that are free.", |pools| {
        pools.iter().map(|pool| pool.gauges.idle).sum::<u64>() as f64
    }),
];

fn distinct(pools: &[Shown], name: fn(&Shown) -> &String) -> f64 {
    pools.iter().map(name).collect::<std::collections::BTreeSet<_>>().len() as f64
}

/// Every pool's samples under those names.
pub(super) struct AsPgBouncer {
    pools: Arc<Mutex<Vec<Entry>>>,
    descriptions: Vec<Desc>,
}

impl AsPgBouncer {
    pub(super) fn new(pools: Arc<Mutex<Vec<Entry>>>) -> Result<Self, prometheus::Error> {
        let describe = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let mut descriptions = Vec::new();
        for (name, help, _) in WHOLE {
            descriptions.push(describe(name, help, &[])?);
        }
        for (name, help, _) in TOTALS {
            descriptions.push(describe(name, help, &["database"])?);
        }
        for (name, help, _) in POOLS {
            descriptions.push(describe(name, help, &["database", "user"])?);
        }
        let labels = ["name", "host", "port", "database", "force_user", "pool_mode"];
        for (name, help, _) in DATABASES {
            descriptions.push(describe(name, help, &labels)?);
        }
        Ok(Self { pools, descriptions })
    }
}

impl Collector for AsPgBouncer {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let pools: Vec<Shown> = {
            let entries = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            let living = entries.iter().filter_map(|entry| Some((&entry.metrics, entry.state.upgrade()?)));
            let shown = |(metrics, state): (&Arc<PoolMetrics>, Arc<dyn super::PoolState>)| Shown {
                metrics: Arc::clone(metrics),
                gauges: state.gauges(),
                about: state.about(),
            };
            living.map(shown).collect()
        };
        let mut families = Vec::new();
        for (name, help, value) in WHOLE {
            families.push(family((name, help), MetricType::GAUGE, vec![gauge(Vec::new(), value(&pools))]));
        }
        for (name, help, value) in TOTALS {
            let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
            for pool in &pools {
                *sums.entry(&pool.metrics.database).or_default() += value(pool);
            }
            let sums = sums.into_iter().map(|(database, sum)| counter(pairs([("database", database)]), sum));
            families.push(family((name, help), MetricType::COUNTER, sums.collect()));
        }
        for (name, help, value) in POOLS {
            let labels =
                |pool: &Shown| pairs([("database", &*pool.metrics.database), ("user", &*pool.metrics.user)]);
            let samples = pools.iter().map(|pool| gauge(labels(pool), value(pool)));
            families.push(family((name, help), MetricType::GAUGE, samples.collect()));
        }
        for (name, help, value) in DATABASES {
            let samples = pools.iter().map(|pool| gauge(of_database(pool), value(pool)));
            families.push(family((name, help), MetricType::GAUGE, samples.collect()));
        }
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

fn of_database(pool: &Shown) -> Vec<LabelPair> {
    let PoolAbout { host, port, database, mode, .. } = &pool.about;
    pairs([
        ("name", &*pool.metrics.database),
        ("host", host),
        ("port", &port.to_string()),
        ("database", database),
        ("force_user", &pool.metrics.user),
        ("pool_mode", mode),
    ])
}
