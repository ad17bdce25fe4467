//! Starts the logs with what the configuration and the environment say of them.

use super::complain;
use crate::config;
use crate::log::{Flush, Logs, Options};

/// The logs of the process, written to the end when this is dropped.
pub(super) struct Logging {
    pub(super) logs: Logs,
    /// `RUST_LOG`, which overrides the configuration's filter.
    environment: Option<String>,
    _flush: Option<Flush>,
}

/// Starts logging. `RUST_LOG` overrides the configuration's filter.
pub(super) fn start(log: &config::Log) -> Logging {
    let environment = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let started = |filter: &str| Logs::start(Options { filter, json: log.json, repeats: log.repeats });
    if let Some(filter) = environment {
        match started(&filter) {
            Ok((logs, flush)) => return Logging { logs, environment: Some(filter), _flush: Some(flush) },
            Err(error) => complain(&format!("RUST_LOG is not used: {error}")),
        }
    }
    match started(&log.filter) {
        Ok((logs, flush)) => Logging { logs, environment: None, _flush: Some(flush) },
        Err(error) => {
            complain(&format!("nothing is logged: {error}"));
            Logging { logs: Logs::default(), environment: None, _flush: None }
        }
    }
}

impl Logging {
    /// Takes another configuration; what was set by hand ends with it.
    pub(super) fn reload(&self, log: &config::Log) {
        let filter = self.environment.as_ref().unwrap_or(&log.filter);
        if let Err(error) = self.logs.set_filter(filter) {
            tracing::error!(%error, "the filter of the logs stays as it was");
        }
        self.logs.set_repeats(log.repeats);
    }
}
