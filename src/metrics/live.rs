//! The figures of this moment, for the page for people. Counters are told as they are, and whoever looks twice has rates:
//! nothing is kept here for anybody. What it comes to is bounded, however many pools and schemas there are.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::traffic::{BOUNDS, Cell, Times, read};
use super::{Counter, Metrics, PoolAbout, PoolGauges, PoolMetrics};
use crate::rule::Rule;
use crate::statement::Command;
use crate::wire::tag::SessionState;

/// Pools that are told: those for which clients wait first, then the busiest.
const POOLS: usize = 200;
/// Pairs of a database and a schema: those with the most statements.
const SCHEMAS: usize = 300;
/// Of pins, refusals and the like.
const ROWS: usize = 300;

/// All of it. Times are seconds, and moments milliseconds since 1970, unless they say otherwise.
#[derive(Debug, Serialize)]
pub struct Live {
    version: &'static str,
    now: u64,
    config: Config,
    workers: Vec<Worker>,
    pools: Vec<Pool>,
    /// Pools that are not told.
    pools_left_out: usize,
    /// Upper bounds of the buckets of times; the last bucket has none.
    bounds: Vec<f64>,
    schemas: Vec<Schema>,
    schemas_left_out: usize,
    pins: Vec<Pin>,
    guarded: Vec<Guarded>,
    refusals: BTreeMap<String, u64>,
    logins: BTreeMap<String, u64>,
    login_failures: BTreeMap<String, u64>,
    tls: Vec<Leg>,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Serialize)]
struct Config {
    hash: String,
    reloaded: bool,
    /// Seconds since 1970.
    at: u64,
}

#[derive(Debug, Serialize)]
struct Worker {
    seen: u64,
    clients: u64,
}

#[derive(Debug, Serialize)]
struct Pool {
    database: String,
    user: String,
    mode: &'static str,
    read_only: bool,
    clients: u64,
    waiting: u64,
    active: u64,
    idle: u64,
    opening: u64,
    size: u64,
    reserve: u64,
    transactions: u64,
    queries: u64,
    errors: u64,
    failed: u64,
    lost: u64,
    waits: u64,
    wait_seconds: f64,
}

#[derive(Debug, Default, Serialize)]
struct Schema {
    database: String,
    schema: String,
    statements: u64,
    rows: u64,
    errors: u64,
    sent: u64,
    seconds: f64,
    wait_seconds: f64,
    /// How many took how long on the server.
    buckets: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Pin {
    database: String,
    user: String,
    reason: &'static str,
    now: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct Guarded {
    database: String,
    user: String,
    rule: &'static str,
    total: u64,
}

#[derive(Debug, Serialize)]
struct Leg {
    leg: &'static str,
    open: u64,
    v1_2: u64,
    v1_3: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct Certificate {
    role: &'static str,
    file: String,
    /// Seconds since 1970.
    until: i64,
}

type Shown = (Arc<PoolMetrics>, PoolGauges, PoolAbout);

impl Metrics {
    /// The figures of this moment.
    pub fn live(&self) -> Live {
        let pools = self.living();
        let configured = self.process.configured();
        let workers = self.process.workers().iter().map(|worker| {
            let (seen, clients) = worker.last();
            Worker { seen, clients }
        });
        let schemas = schemas(&pools);
        let (pins, guarded) = (pins(&pools), guarded(&pools));
        let certificates = self.process.expiries().into_iter().take(ROWS).map(|expiry| Certificate {
            role: expiry.role,
            file: expiry.path.display().to_string(),
            until: expiry.until,
        });
        let tls = self.process.handshakes().map(|(leg, counted)| Leg {
            leg,
            open: counted.open,
            v1_2: counted.v1_2,
            v1_3: counted.v1_3,
            failed: counted.failed,
        });
        Live {
            version: env!("CARGO_PKG_VERSION"),
            now: millis(),
            config: Config { hash: configured.hash, reloaded: configured.reloaded, at: configured.at },
            workers: workers.collect(),
            pools_left_out: pools.len().saturating_sub(POOLS),
            pools: told(pools),
            bounds: BOUNDS.iter().map(|bound| *bound as f64 / 1e9).collect(),
            schemas_left_out: schemas.len().saturating_sub(SCHEMAS),
            schemas: schemas.into_iter().take(SCHEMAS).collect(),
            pins,
            guarded,
            refusals: by_label(&self.refusals, "kind"),
            logins: by_label(&self.logins, "result"),
            login_failures: by_label(&self.login_failures, "reason"),
            tls: tls.into(),
            certificates: certificates.collect(),
        }
    }

    fn living(&self) -> Vec<Shown> {
        let entries = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let living = entries.iter().filter_map(|entry| Some((&entry.metrics, entry.state.upgrade()?)));
        living.map(|(metrics, state)| (Arc::clone(metrics), state.gauges(), state.about())).collect()
    }
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The samples of a family with one label that matters, but for those that are 0.
fn by_label(family: &prometheus::IntCounterVec, label: &str) -> BTreeMap<String, u64> {
    use prometheus::core::Collector;
    let mut counts = BTreeMap::new();
    for metric in family.collect().iter().flat_map(|family| family.get_metric()) {
        let value = metric.get_counter().get_value() as u64;
        let named = metric.get_label().iter().find(|pair| pair.name() == label);
        if let Some(pair) = named.filter(|_| value > 0) {
            *counts.entry(pair.value().to_owned()).or_default() += value;
        }
    }
    counts
}

fn told(mut pools: Vec<Shown>) -> Vec<Pool> {
    pools.sort_by_key(|(metrics, gauges, _)| {
        (std::cmp::Reverse((gauges.waiting, gauges.active)), metrics.database.clone(), metrics.user.clone())
    });
    let tell = |(metrics, gauges, about): Shown| {
        let open = metrics.sum(Counter::ClientsOpened).saturating_sub(metrics.sum(Counter::ClientsClosed));
        Pool {
            database: metrics.database.clone(),
            user: metrics.user.clone(),
            mode: about.mode,
            read_only: metrics.guarded.load(std::sync::atomic::Ordering::Relaxed),
            clients: open,
            waiting: gauges.waiting,
            active: gauges.active,
            idle: gauges.idle,
            opening: gauges.opening,
            size: gauges.size,
            reserve: about.reserve,
            transactions: metrics.sum(Counter::Transactions),
            queries: metrics.sum(Counter::Queries),
            errors: metrics.sum(Counter::ServerErrors) + metrics.sum(Counter::ProxyErrors),
            failed: read(&metrics.failed),
            lost: read(&metrics.lost),
            waits: metrics.wait.get_sample_count(),
            wait_seconds: metrics.wait.get_sample_sum(),
        }
    };
    pools.into_iter().take(POOLS).map(tell).collect()
}

/// Every pair of a database and a schema under which something was counted, over all users and commands.
fn schemas(pools: &[Shown]) -> Vec<Schema> {
    let mut sums: BTreeMap<(&str, Box<str>), Schema> = BTreeMap::new();
    for (metrics, ..) in pools {
        let Some(roster) = &metrics.roster else { continue };
        for (number, name) in roster.names().into_iter().enumerate() {
            let traffic = || metrics.shards.iter().filter_map(|shard| shard.traffic());
            let mut cells = Command::ALL
                .into_iter()
                .flat_map(|command| traffic().filter_map(move |traffic| traffic.cell(Some(number), command)))
                .peekable();
            if cells.peek().is_some() {
                let sum = sums.entry((&metrics.database, name)).or_default();
                cells.for_each(|cell| sum.add(cell));
            }
        }
    }
    let mut schemas: Vec<Schema> = sums
        .into_iter()
        .map(|((database, schema), sum)| Schema {
            database: database.to_owned(),
            schema: schema.into(),
            ..sum
        })
        .collect();
    schemas.sort_by_key(|schema| std::cmp::Reverse(schema.statements + schema.errors));
    schemas
}

impl Schema {
    fn add(&mut self, cell: &Cell) {
        let seconds = |times: &Times| read(&times.nanos) as f64 / 1e9;
        self.statements += read(&cell.statements);
        // A server may say any number.
        self.rows = self.rows.saturating_add(read(&cell.rows));
        self.errors += cell.errors.iter().map(read).sum::<u64>();
        self.sent += read(&cell.sent);
        self.seconds += seconds(&cell.server);
        self.wait_seconds += seconds(&cell.wait);
        self.buckets.resize(BOUNDS.len() + 1, 0);
        self.buckets.iter_mut().zip(&cell.server.counts).for_each(|(sum, count)| *sum += read(count));
    }
}

fn pins(pools: &[Shown]) -> Vec<Pin> {
    let of = |(metrics, ..): &Shown| {
        let metrics = Arc::clone(metrics);
        SessionState::ALL.into_iter().filter_map(move |reason| {
            let total = metrics.pins(reason);
            (total > 0).then(|| Pin {
                database: metrics.database.clone(),
                user: metrics.user.clone(),
                reason: reason.as_str(),
                now: total.saturating_sub(metrics.unpins(reason)),
                total,
            })
        })
    };
    let mut pins: Vec<Pin> = pools.iter().flat_map(of).collect();
    pins.sort_by_key(|pin| std::cmp::Reverse((pin.now, pin.total)));
    pins.truncate(ROWS);
    pins
}

fn guarded(pools: &[Shown]) -> Vec<Guarded> {
    let of = |(metrics, ..): &Shown| {
        let metrics = Arc::clone(metrics);
        Rule::ALL.into_iter().filter_map(move |rule| {
            let total = metrics.guarded(rule);
            (total > 0).then(|| Guarded {
                database: metrics.database.clone(),
                user: metrics.user.clone(),
                rule: rule.as_str(),
                total,
            })
        })
    };
    let mut guarded: Vec<Guarded> = pools.iter().flat_map(of).collect();
    guarded.sort_by_key(|guarded| std::cmp::Reverse(guarded.total));
    guarded.truncate(ROWS);
    guarded
}
