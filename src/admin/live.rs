//! The figures of this moment as JSON.

use serde::Serialize;

use super::readiness::Readiness;
use crate::metrics::{Live, Metrics};

#[derive(Serialize)]
struct Answer {
    /// Why the proxy is not ready for clients, if it is not.
    not_ready: Option<String>,
    #[serde(flatten)]
    live: Live,
}

/// All that the page shows but for statements.
///
/// # Errors
/// None that the figures could cause.
pub(super) fn json(metrics: &Metrics, readiness: &Readiness) -> Result<String, serde_json::Error> {
    let not_ready = readiness.check().err().map(|why| why.trim_end().to_owned());
    serde_json::to_string(&Answer { not_ready, live: metrics.live() })
}
