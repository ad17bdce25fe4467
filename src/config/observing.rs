//! What the proxy says of itself: its logs, and the spans of queries.

use super::file::{LogTable, TracingTable};
use super::problem::Found;
use super::resolve::number;
use super::values::{LogFormat, Ratio, Text};
use super::{SlowQuery, counting};
use crate::spans::Endpoint;

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `firepool=debug`.
    pub filter: String,
    /// One JSON object a line instead of text for people.
    pub json: bool,
    /// Which slow statements it tells of.
    pub slow_query: SlowQuery,
    /// Lines of one kind within ten seconds; 0 is no limit.
    pub repeats: u32,
}

/// Where spans of queries go, and of which.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The collector.
    pub endpoint: Endpoint,
    /// Of the queries that say nothing of a trace, so many: 1 is all.
    pub sample: f64,
    /// What the proxy is called there.
    pub service_name: String,
}

pub(super) fn log(table: &LogTable, found: &mut Found<'_>) -> Log {
    let filter = table.filter.get().map_or("info", |(Text(filter), at)| {
        if let Err(error) = crate::log::check(filter) {
            found.error(at, format!("`filter` is not a filter such as \"info\": {error}"));
        }
        filter
    });
    let json = table.format.get().is_some_and(|(format, _)| *format == LogFormat::Json);
    let repeats = number("repeats", &table.repeats, 50, 0..=u32::MAX, found);
    Log { filter: filter.to_owned(), json, repeats, slow_query: counting::slow_query(table, found) }
}

pub(super) fn tracing(table: &TracingTable, found: &mut Found<'_>) -> Option<Tracing> {
    let (Text(url), at) = table.otlp_endpoint.get()?;
    if url.is_empty() {
        return None;
    }
    let endpoint = Endpoint::parse(url).map_err(|why| {
        let example = "such as \"http://127.0.0.1:4318\"";
        found.error(at, format!("`otlp_endpoint` must be a collector of OTLP over HTTP, {example}: {why}"));
    });
    Some(Tracing {
        endpoint: endpoint.ok()?,
        sample: table.sample.get().map_or(0.01, |(Ratio(sample), _)| *sample),
        service_name: table.service_name.get().map_or("firepool", |(Text(name), _)| name).to_owned(),
    })
}
