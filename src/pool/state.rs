//! What a pool tells of itself to whoever scrapes.

use super::Pool;
use crate::metrics::{PoolAbout, PoolGauges, PoolState};

impl PoolState for Pool {
    fn gauges(&self) -> PoolGauges {
        let names = self.catalogue.as_ref().map_or(0, |catalogue| catalogue.snapshot().len() as u64);
        PoolGauges { names, ..self.queue().gauges() }
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
