//! How many server connections a configuration can come to, against what PostgreSQL allows.
//!
//! Pure arithmetic. The figures are upper bounds: every pool full, every reserve used. A limit by user and a limit by
//! database are each taken into account, the smaller result counts; where both bind at once the true maximum may be
//! smaller still. A pool of a user who reads `postgres_fdw` tables counts twice, because every one of its backends
//! keeps a connection of its own to the foreign server, which is the same instance in FireFoundry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Config, Pattern, Route};

/// What one target has to expect at worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worst {
    /// The target's name.
    pub target: String,
    /// (database, user) pools that are known by name.
    pub pools: usize,
    /// Server connections of all pools together.
    pub server: u64,
    /// Connections that those open to foreign servers, at most one each.
    pub foreign: u64,
    /// A route with any database and no limit by user, or with any user where users are looked up, may open more pools:
    /// the figures are then a lower bound.
    pub unbounded: bool,
}

/// One (database, user) pool; `database` is `None` for all those that are not known by name.
#[derive(Debug)]
struct Pool<'c> {
    database: Option<&'c str>,
    user: &'c str,
    size: u64,
    foreign: bool,
}

impl Worst {
    /// Server connections and the foreign ones they open.
    pub fn total(&self) -> u64 {
        self.server.saturating_add(self.foreign)
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, total) = (self.server, self.total());
        let bound = if self.unbounded { "unbounded, at least" } else { "up to" };
        write!(f, "{bound} {server} server connections ({total} with foreign tables)")
    }
}

/// The worst case of every target, in the order of the configuration.
pub fn worst(config: &Config) -> Vec<Worst> {
    config.targets.iter().map(|target| worst_of(config, &target.name)).collect()
}

/// What is wrong with opening that many connections to a server with these settings (`max_connections`, and
/// `superuser_reserved_connections` plus `reserved_connections`); `None` if they fit.
pub fn judge(worst: &Worst, max_connections: u64, reserved: u64) -> Option<String> {
    let Worst { target, unbounded, .. } = worst;
    let available = max_connections.saturating_sub(reserved);
    let total = worst.total();
    if total > available {
        return Some(format!(
            "target `{target}`: {worst}, but PostgreSQL allows {available} (max_connections {max_connections} less \
             {reserved} reserved): lower pool_size and reserve_size, or set max_server_connections"
        ));
    }
    unbounded.then(|| {
        format!(
            "target `{target}`: {worst}: a route with any database opens a pool for each database that is asked \
             for, and one with any user for each user that is looked up; name them, or set max_server_connections of \
             its users or databases"
        )
    })
}

fn worst_of(config: &Config, target: &str) -> Worst {
    let pools = pools(config, target);
    let server = bound(config, &pools);
    let foreign = bound(config, pools.iter().filter(|pool| pool.foreign));
    let lookup = config.authentication.lookup.as_ref();
    // Nobody knows how many users there are that only the server knows.
    let any_user = lookup.is_some()
        && config.routes.iter().any(|route| route.target.name == target && route.user == Pattern::Any);
    let own = u64::from(lookup.is_some_and(|lookup| lookup.target.name == target));
    Worst {
        target: target.to_owned(),
        pools: pools.iter().filter(|pool| pool.database.is_some()).count(),
        server: server.0 + own,
        foreign: foreign.0,
        unbounded: server.1 || any_user,
    }
}

/// Every known database with every user that may log in, and any other database with every user.
fn pools<'c>(config: &'c Config, target: &str) -> Vec<Pool<'c>> {
    let by_limit = config.databases.iter().map(|database| database.name.as_str());
    let by_route = config.routes.iter().filter_map(|route| route.database.exact());
    let databases: BTreeSet<&str> = by_limit.chain(by_route).collect();
    let mut pools = Vec::new();
    for user in &config.users {
        let mut add = |database: Option<&'c str>, route: &Route| {
            if route.target.name == target {
                let size = u64::from(route.pool_size) + u64::from(route.reserve_size);
                pools.push(Pool { database, user: &user.name, size, foreign: route.reads_foreign_tables });
            }
        };
        for database in &databases {
            if let Some(route) = config.route(database, &user.name) {
                add(Some(database), route);
            }
        }
        let other = config
            .routes
            .iter()
            .find(|route| route.database == Pattern::Any && route.user.matches(&user.name));
        if let Some(route) = other {
            add(None, route);
        }
    }
    pools
}

/// What `pools` come to at worst, and whether that is only a lower bound.
///
/// The databases that are not known by name count as one more database: with as many connections as its user may
/// have, or with one pool if the user has no limit, which is the lower bound.
fn bound<'p>(config: &'p Config, pools: impl IntoIterator<Item = &'p Pool<'p>>) -> (u64, bool) {
    let limit_of_user = |name: &str| config.user(name)?.max_server_connections.map(|limit| limit as u64);
    let limit_of_database =
        |name: &str| config.database(name)?.max_server_connections.map(|limit| limit as u64);

    let (mut by_user, mut by_database) = (BTreeMap::new(), BTreeMap::new());
    let mut unbounded = false;
    for pool in pools {
        let size = match (pool.database, limit_of_user(pool.user)) {
            (None, Some(limit)) => limit,
            (None, None) => {
                unbounded = true;
                pool.size
            }
            (Some(_), _) => pool.size,
        };
        *by_user.entry(pool.user).or_insert(0_u64) += size;
        *by_database.entry(pool.database).or_insert(0_u64) += size;
    }
    let capped = |size: u64, limit: Option<u64>| limit.map_or(size, |limit| limit.min(size));
    let users: u64 = by_user.into_iter().map(|(user, size)| capped(size, limit_of_user(user))).sum();
    let databases: u64 = by_database
        .into_iter()
        .map(|(database, size)| capped(size, database.and_then(limit_of_database)))
        .sum();
    (users.min(databases), unbounded)
}

#[cfg(test)]
mod tests;
