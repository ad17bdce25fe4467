//! What is counted of statements, and which of them the log tells of.

use std::time::Duration;

use super::file::{LogTable, MetricsTable};
use super::problem::Found;
use super::resolve::{number, or_off, refuse_bad_name};
use super::values::{Switch, Text};

/// As many as have a number of their own: `metrics::roster`.
const MOST_SCHEMAS: u32 = 60;
/// A row of a table has about two kilobytes, and each worker has a table.
const MOST_STATEMENTS: u32 = 2_000;
const MOST_SAMPLE: u32 = 1_000_000;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Statements are counted by the schemas that they name.
    pub by_schema: bool,
    /// Schemas that are counted by name whatever else there is.
    pub schemas: Vec<String>,
    /// Schemas of a database that are counted by name.
    pub max_schemas: usize,
    /// How often a database is asked which schema its names are in; `None` is never.
    pub refresh: Option<Duration>,
    /// The names of pgbouncer_exporter are shown as well.
    pub pgbouncer_names: bool,
    /// Shapes of statements that each worker counts by themselves; none at all with 0.
    pub top_statements: usize,
}

/// Which slow statements the log tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowQuery {
    /// How long one takes at least, its wait for a server connection with it; `None` is off. Routes may have their own.
    pub after: Option<Duration>,
    /// One of so many of them is told.
    pub sample: u32,
    /// With its literals.
    pub literals: bool,
}

pub(super) fn metrics(table: &MetricsTable, found: &mut Found<'_>) -> Metrics {
    let schemas = table.schemas.get().map_or(&[][..], |(list, _)| &list.items);
    let most = number("max_schemas", &table.max_schemas, 32, 1..=MOST_SCHEMAS, found) as usize;
    for (Text(name), at) in schemas {
        refuse_bad_name("schema", name, *at, found);
    }
    if let Some((_, at)) = table.schemas.get()
        && schemas.len() > most
    {
        found.error(at, format!("`schemas` has {} names, and `max_schemas` is {most}", schemas.len()));
    }
    Metrics {
        by_schema: table.by_schema.get().is_none_or(|(Switch(on), _)| *on),
        schemas: schemas.iter().map(|(Text(name), _)| name.clone()).collect(),
        max_schemas: most,
        refresh: or_off(&table.refresh, Some(Duration::from_secs(5 * 60))),
        pgbouncer_names: table.pgbouncer_names.get().is_some_and(|(Switch(on), _)| *on),
        top_statements: number("top_statements", &table.top_statements, 500, 0..=MOST_STATEMENTS, found)
            as usize,
    }
}

pub(super) fn slow_query(table: &LogTable, found: &mut Found<'_>) -> SlowQuery {
    SlowQuery {
        after: or_off(&table.slow_query, None),
        sample: number("slow_query_sample", &table.slow_query_sample, 1, 1..=MOST_SAMPLE, found),
        literals: table.slow_query_literals.get().is_some_and(|(Switch(on), _)| *on),
    }
}
