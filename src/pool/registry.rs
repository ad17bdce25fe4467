//! From database and user to pool. Pools are made when their first client logs in, or at the start
//! where connections are to be opened ahead.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::catalogue::Asker;
use super::known::Definitions;
use super::{Dedicated, Limit, Parts, Pool};
use crate::backend::connect::Opener;
use crate::backend::proofs::Proofs;
use crate::clock::Clock;
use crate::config::{Config, Route, User};
use crate::metrics::roster::Roster;
use crate::metrics::{Metrics, PoolState};
use crate::schemas::Catalogue;
use crate::scram::Keys;

/// How long the pool of a wildcard route, and its counters, are kept after its last client, in milliseconds.
const FORGET: u64 = 600_000;

type Key = (String, String);

/// Every pool of the process, and the limits that are shared between them.
#[derive(Debug)]
pub struct Registry {
    config: Arc<Config>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    pools: RwLock<HashMap<Key, Arc<Pool>>>,
    /// By the database as clients name it, the target, and the database there.
    askers: Mutex<HashMap<(String, String, String), Arc<Asker>>>,
    /// What clients do to each database's definitions, by its target and its name there.
    definitions: Mutex<HashMap<(String, String), Arc<Definitions>>>,
    /// What is known of each user that the configuration names, or that has logged in.
    proofs: RwLock<HashMap<String, Arc<Proofs>>>,
    user_caps: HashMap<String, Arc<Limit>>,
    database_caps: HashMap<String, Arc<Limit>>,
}

impl Registry {
    /// No pools yet.
    pub fn new(config: Arc<Config>, clock: Arc<Clock>, metrics: Arc<Metrics>) -> Self {
        let cap = |name: &str, max: Option<usize>| (name.to_owned(), Arc::new(Limit::new(max)));
        let users = config.users.iter();
        let user_caps = users.map(|user| cap(&user.name, user.max_server_connections)).collect();
        let databases = config.databases.iter();
        let database_caps =
            databases.map(|database| cap(&database.name, database.max_server_connections)).collect();
        let proofs = config.users.iter().map(|user| (user.name.clone(), Proofs::of(user))).collect();
        Self {
            config,
            clock,
            metrics,
            pools: RwLock::default(),
            askers: Mutex::default(),
            definitions: Mutex::default(),
            proofs: RwLock::new(proofs),
            user_caps,
            database_caps,
        }
    }

    /// The pool of `user` on `database`, which `route` serves.
    ///
    /// # Errors
    /// Only if the metrics cannot be declared, which the database's and user's names cannot cause.
    pub fn pool(
        &self,
        database: &str,
        user: &Arc<User>,
        route: &Arc<Route>,
    ) -> Result<Arc<Pool>, crate::metrics::Error> {
        let key = (database.to_owned(), user.name.clone());
        if let Some(pool) = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(pool));
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(Arc::clone(pool));
        }
        let caps = self.caps(user, Some(database));
        let target_database = route.target_database.clone().unwrap_or_else(|| database.to_owned());
        let opener = || {
            let (target, limit) = (Arc::clone(&route.target), route.timeouts.connect);
            let opener = Opener::new(target, Arc::clone(user), target_database.clone(), limit);
            opener.with_proofs(self.proofs(user)).read_only(route.access.is_read_only())
        };
        let catalogue = self.config.metrics.by_schema.then(|| {
            let key = (database.to_owned(), route.target.name.clone(), target_database.clone());
            self.catalogue(key, opener(), &caps)
        });
        let roster = catalogue.as_ref().map(|catalogue| Arc::clone(catalogue.roster()));
        let metrics = self.metrics.pool(database, &user.name, roster)?;
        metrics.guarded.store(route.access.is_read_only(), Ordering::Relaxed);
        let pool = Pool::new(Parts {
            database: database.to_owned(),
            user: user.name.clone(),
            opener: opener(),
            catalogue,
            definitions: self.definitions(&route.target.name, &target_database),
            route: Arc::clone(route),
            caps: caps.clone(),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&metrics),
        });
        caps.iter().for_each(|cap| cap.share(&pool));
        let state: Arc<dyn PoolState> = Arc::<Pool>::clone(&pool);
        self.metrics.publish(metrics, Arc::downgrade(&state));
        pools.insert(key, Arc::clone(&pool));
        Ok(pool)
    }

    /// What is known of a database's schemas, which its users share.
    fn catalogue(
        &self,
        key: (String, String, String),
        opener: Opener,
        caps: &[Arc<Limit>],
    ) -> Arc<Catalogue> {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = askers.get(&key).and_then(|asker| Some((Arc::clone(asker), asker.catalogue()?)));
        let (asker, catalogue) = known.unwrap_or_else(|| {
            let config = &self.config.metrics;
            let roster = Arc::new(Roster::new(&config.schemas, config.max_schemas));
            let catalogue = Arc::new(Catalogue::new(roster, config.refresh));
            let asker = Arc::new(Asker::new(&catalogue));
            askers.insert(key, Arc::clone(&asker));
            (asker, catalogue)
        });
        asker.add(opener, caps);
        catalogue
    }

    fn definitions(&self, target: &str, database: &str) -> Arc<Definitions> {
        let mut all = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| Arc::strong_count(known) > 1);
        Arc::clone(all.entry((target.to_owned(), database.to_owned())).or_default())
    }

    fn caps(&self, user: &User, database: Option<&str>) -> Vec<Arc<Limit>> {
        let of_database = database.and_then(|database| self.database_caps.get(database));
        [self.user_caps.get(&user.name), of_database].into_iter().flatten().cloned().collect()
    }

    /// What opens server connections outside of the pools for a client of `user` that `route` serves, to `database` as
    /// the server calls it. They count under the cap of the database that clients call `capped`.
    pub fn dedicated(
        &self,
        capped: Option<&str>,
        database: String,
        user: &Arc<User>,
        route: &Arc<Route>,
    ) -> Dedicated {
        let (target, limit) = (Arc::clone(&route.target), route.timeouts.connect);
        let opener = Opener::new(target, Arc::clone(user), database, limit).with_proofs(self.proofs(user));
        let opener = opener.read_only(route.access.is_read_only());
        Dedicated { opener, caps: self.caps(user, capped), patience: route.timeouts.query_wait }
    }

    /// What the proxy proves to servers that it is `user`.
    pub fn proofs(&self, user: &User) -> Arc<Proofs> {
        if let Some(proofs) = self.proofs.read().unwrap_or_else(PoisonError::into_inner).get(&user.name) {
            return Arc::clone(proofs);
        }
        let mut all = self.proofs.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(user.name.clone()).or_insert_with(|| Proofs::of(user)))
    }

    /// A client has proved that it is `user` and has shown these keys.
    pub fn learned(&self, user: &User, keys: &Keys) {
        if self.proofs(user).learn(keys) {
            self.try_again(user);
        }
    }

    /// `user` has these credentials now, whatever it had before.
    pub fn replaced(&self, user: &User) {
        if self.proofs(user).replace(&user.credentials) {
            self.try_again(user);
        }
    }

    fn try_again(&self, user: &User) {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.iter().filter(|((_, name), _)| *name == user.name).for_each(|(_, pool)| pool.try_again());
    }

    /// Makes the pools whose connections are opened ahead, so that the next sweep opens them. Those of wildcard routes
    /// are not known before their first client comes.
    pub fn open_ahead(&self) {
        for route in self.config.routes.iter().filter(|route| route.min_size > 0) {
            let user = route.user.exact().and_then(|name| self.config.user(name));
            // Of whom only a verifier is known, nothing can be proved before a client has.
            if let (Some(database), Some(user)) = (route.database.exact(), user)
                && self.proofs(user).are_there()
                && let Err(error) = self.pool(database, user, route)
            {
                tracing::error!(database, user = user.name, %error, "a pool could not be made ahead");
            }
        }
    }

    /// The configuration that the pools follow.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Every pool there is.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sweeps every pool, and forgets those of wildcard routes that nobody uses any more.
    pub fn sweep(&self, scratch: &mut [u8]) {
        for pool in self.pools() {
            pool.sweep(scratch);
        }
        let named = |route: &Route| route.database != crate::config::Pattern::Any;
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        pools.retain(|_, pool| {
            let used = Arc::strong_count(pool) > 1 || !pool.is_deserted();
            named(pool.route()) || now.saturating_sub(pool.last_used(used.then_some(now))) < FORGET
        });
        drop(pools);
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        askers.retain(|_, asker| asker.catalogue().is_some());
        askers.values().for_each(|asker| asker.sweep(&self.clock));
    }

    /// Closes every pool.
    pub fn close(&self) {
        self.pools().iter().for_each(|pool| pool.close());
    }
}
