//! What a pool tells of itself to whoever scrapes.

use std::sync::atomic::Ordering;

use super::Pool;
use crate::metrics::{PoolAbout, PoolGauges, PoolState};

impl Pool {
    /// Counts a server connection that the server closed, or that broke.
    pub fn has_lost(&self) {
        self.metrics.lost.fetch_add(1, Ordering::Relaxed);
        if let Some(catalogue) = &self.catalogue {
            catalogue.has_lost(self.clock.now());
        }
    }
}

impl PoolState for Pool {
    fn gauges(&self) -> PoolGauges {
        let names = self.catalogue.as_ref().map_or(0, |catalogue| catalogue.snapshot().len() as u64);
        let starts = self.catalogue.as_ref().map(|catalogue| catalogue.starts());
        let (started, restarts) =
            (starts.and_then(|(started, _)| started), starts.map(|(_, restarts)| restarts));
        PoolGauges { names, started, restarts, ..self.queue().gauges() }
    }

    fn about(&self) -> PoolAbout {
        let route = &self.route;
        PoolAbout {
            host: route.target.host.clone(),
            port: route.target.port,
            database: route.target_database.clone().unwrap_or_else(|| self.database.clone()),
            mode: route.mode.as_str(),
            reserve: u64::from(route.reserve_size),
        }
    }
}
