//! The families of statements, by schema and in all, and the collector that turns what workers counted into samples.
//! A series appears with its first statement: most schemas are used by few users for few commands.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::families::{counter, family, labels};
use super::roster::Roster;
use super::traffic::{BOUNDS, CLASSES, Cell, Times, read};
use super::{Entry, PoolMetrics};
use crate::statement::Command;

/// What is read of a cell.
#[derive(Clone, Copy)]
enum Source {
    Statements,
    Rows,
    Errors,
    Received,
    Sent,
    Server,
    Wait,
}

impl Source {
    fn metric_type(self) -> MetricType {
        match self {
            Self::Server | Self::Wait => MetricType::HISTOGRAM,
            _ => MetricType::COUNTER,
        }
    }
}

/// Name, help, whether it is by schema, and what it is made of.
type Family = (&'static str, &'static str, bool, Source);

const FAMILIES: [Family; 11] = [
    (
        "firepool_statements_total",
        "Statements that were carried out, each once, by command.",
        false,
        Source::Statements,
    ),
    (
        "firepool_statement_rows_total",
        "Rows that statements returned or changed, as their tags say.",
        false,
        Source::Rows,
    ),
    (
        "firepool_statement_errors_total",
        "Errors that the server answered to statements, by class of SQLSTATE.",
        false,
        Source::Errors,
    ),
    (
        "firepool_statement_server_seconds",
        "Time from sending a statement, or from the end of the one before it, to its end.",
        false,
        Source::Server,
    ),
    (
        "firepool_schema_statements_total",
        "Statements that were carried out, once under each schema that they name.",
        true,
        Source::Statements,
    ),
    (
        "firepool_schema_rows_total",
        "Rows that statements returned or changed, under each schema that they name.",
        true,
        Source::Rows,
    ),
    (
        "firepool_schema_errors_total",
        "Errors that the server answered to statements, under each schema that they name, by class of SQLSTATE.",
        true,
        Source::Errors,
    ),
    (
        "firepool_schema_received_bytes_total",
        "Bytes received from clients for statements, under each schema that they name.",
        true,
        Source::Received,
    ),
    (
        "firepool_schema_sent_bytes_total",
        "Bytes sent to clients for statements, under each schema that they name.",
        true,
        Source::Sent,
    ),
    (
        "firepool_schema_server_seconds",
        "Time from sending a statement, or from the end of the one before it, to its end, under each schema that it names.",
        true,
        Source::Server,
    ),
    (
        "firepool_schema_wait_seconds",
        "Time that clients waited for a server connection with a statement, of those that had to wait, under each schema that it names.",
        true,
        Source::Wait,
    ),
];

/// Every pool's samples.
pub(super) struct Statements {
    pools: Arc<Mutex<Vec<Entry>>>,
    descriptions: Vec<Desc>,
}

impl Statements {
    pub(super) fn new(pools: Arc<Mutex<Vec<Entry>>>) -> Result<Self, prometheus::Error> {
        let describe = |(name, help, by_schema, source): Family| {
            let mut labels = vec!["database", "user", "command"];
            labels.extend(by_schema.then_some("schema"));
            labels.extend(matches!(source, Source::Errors).then_some("class"));
            let labels = labels.into_iter().map(str::to_owned).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let descriptions = FAMILIES.into_iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { pools, descriptions })
    }
}

impl Collector for Statements {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let pools: Vec<(Arc<PoolMetrics>, Arc<Roster>)> = {
            let entries = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            let living = entries.iter().filter(|entry| entry.state.strong_count() > 0);
            let counted = living.filter_map(|entry| Some((&entry.metrics, entry.metrics.roster.as_ref()?)));
            counted.map(|(metrics, roster)| (Arc::clone(metrics), Arc::clone(roster))).collect()
        };
        let mut samples: [Vec<Metric>; FAMILIES.len()] = Default::default();
        for (metrics, roster) in &pools {
            let names = roster.names();
            let schemas = names.iter().enumerate().map(|(number, name)| (Some(number), Some(&**name)));
            for (number, schema) in std::iter::once((None, None)).chain(schemas) {
                for command in Command::ALL {
                    let shards = metrics.shards.iter().filter_map(|shard| shard.traffic());
                    let cells: Vec<&Cell> =
                        shards.filter_map(|traffic| traffic.cell(number, command)).collect();
                    if !cells.is_empty() {
                        sample(&Sum { metrics, schema, command, cells }, &mut samples);
                    }
                }
            }
        }
        let families = FAMILIES.into_iter().zip(samples).filter(|(_, samples)| !samples.is_empty());
        families
            .map(|((name, help, _, source), samples)| family((name, help), source.metric_type(), samples))
            .collect()
    }
}

/// What all workers counted for one schema, or for none in particular, and one command.
struct Sum<'c> {
    metrics: &'c PoolMetrics,
    schema: Option<&'c str>,
    command: Command,
    cells: Vec<&'c Cell>,
}

impl Sum<'_> {
    fn labels(&self, class: Option<&'static str>) -> Vec<LabelPair> {
        let more = [("schema", self.schema), ("command", Some(self.command.as_str())), ("class", class)];
        labels(self.metrics, more.into_iter().filter_map(|(name, value)| Some((name, value?))))
    }

    fn of(&self, read: impl Fn(&Cell) -> u64) -> u64 {
        // A server may say any number of rows: what goes beyond begins anew, as in the cells themselves.
        self.cells.iter().map(|cell| read(cell)).fold(0, u64::wrapping_add)
    }

    fn counter(&self, count: impl Fn(&Cell) -> u64) -> Vec<Metric> {
        vec![counter(self.labels(None), self.of(count))]
    }

    fn errors(&self) -> Vec<Metric> {
        let counted = CLASSES
            .iter()
            .enumerate()
            .map(|(place, class)| (*class, self.of(|cell| read(&cell.errors[place]))));
        counted
            .filter(|(_, count)| *count > 0)
            .map(|(class, count)| counter(self.labels(Some(class)), count))
            .collect()
    }

    /// Nothing where nothing was observed.
    fn times(&self, times: impl Fn(&Cell) -> &Times) -> Vec<Metric> {
        let mut below = 0;
        let counts: Vec<u64> = (0..=BOUNDS.len())
            .map(|place| {
                below += self.of(|cell| read(&times(cell).counts[place]));
                below
            })
            .collect();
        if below == 0 {
            return Vec::new();
        }
        let buckets = BOUNDS.iter().zip(counts).map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(*bound));
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(below);
        histogram.set_sample_sum(seconds(self.of(|cell| read(&times(cell).nanos))));
        let mut metric = Metric::from_label(self.labels(None));
        metric.set_histogram(histogram);
        vec![metric]
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn sample(sum: &Sum<'_>, samples: &mut [Vec<Metric>; FAMILIES.len()]) {
    for ((_, _, by_schema, source), samples) in FAMILIES.into_iter().zip(samples) {
        if by_schema == sum.schema.is_some() {
            samples.extend(match source {
                Source::Statements => sum.counter(|cell| read(&cell.statements)),
                Source::Rows => sum.counter(|cell| read(&cell.rows)),
                Source::Received => sum.counter(|cell| read(&cell.received)),
                Source::Sent => sum.counter(|cell| read(&cell.sent)),
                Source::Errors => sum.errors(),
                Source::Server => sum.times(|cell| &cell.server),
                Source::Wait => sum.times(|cell| &cell.wait),
            });
        }
    }
}
