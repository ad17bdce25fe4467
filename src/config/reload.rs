//! What a reload would change, as a value.
//!
//! Only a comparison: nothing here applies anything. Secrets are compared and never printed; of a changed password a
//! [`Changes`] says only whose it is.

mod applied;
mod lines;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Authentication, Config, Database, Lookup, Proxy, Route, RouteKey, Target, TargetTls, Timeouts, User,
};
use crate::secret::{self, Secret};
use crate::tls::ServerFiles;

pub use lines::Line;

/// Everything that differs between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Routes, by what they serve. A change of a target's address is a change of every route to it.
    pub routes: Delta<RouteKey>,
    /// Users, by name; of a changed secret, the key `password` and no more.
    pub users: Delta<String>,
    /// Limits of databases, by name.
    pub databases: Delta<String>,
    /// Targets, by name.
    pub targets: Delta<String>,
    /// Keys outside of those tables, with their table.
    pub keys: Vec<KeyChange>,
}

/// What came, went and changed in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<K> {
    /// Only in the new configuration.
    pub added: Vec<K>,
    /// Only in the old one.
    pub removed: Vec<K>,
    /// In both, with different keys.
    pub changed: Vec<(K, Vec<KeyChange>)>,
}

/// One key with a different value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key, with its table where that is not evident.
    pub key: &'static str,
    /// The old and the new value in words; `None` for a secret.
    pub values: Option<(String, String)>,
    /// A running process takes the new one over, as the reference says.
    pub is_applied: bool,
}

/// Compares two configurations; the order of routes, users and targets does not matter.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut users = delta(&old.users, &new.users, |user| user.name.clone(), |old, new| user(old, new));
    limit_the_new(&mut users, &new.users);
    Changes {
        routes: delta(&old.routes, &new.routes, |route| route.key(), |old, new| route(old, new)),
        users,
        databases: delta(
            &old.databases,
            &new.databases,
            |database| database.name.clone(),
            |old, new| database(old, new),
        ),
        targets: delta(&old.targets, &new.targets, |target| target.name.clone(), |old, new| target(old, new)),
        keys: keys(old, new),
    }
}

impl Changes {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Users who have another password now.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let has_secret = |changes: &[KeyChange]| changes.iter().any(|change| change.values.is_none());
        self.users
            .changed
            .iter()
            .filter(move |(_, changes)| has_secret(changes))
            .map(|(user, _)| user.as_str())
    }
}

impl<K> Default for Delta<K> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() }
    }
}

fn delta<T, K: PartialEq>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
    compare: impl Fn(&T, &T) -> Vec<KeyChange>,
) -> Delta<K> {
    let mut delta = Delta::default();
    for after in new {
        let name = key(after);
        match old.iter().find(|before| key(before) == name) {
            None => delta.added.push(name),
            Some(before) => {
                let changes = compare(before, after);
                if !changes.is_empty() {
                    delta.changed.push((name, changes));
                }
            }
        }
    }
    let gone = old.iter().map(&key).filter(|name| !new.iter().any(|after| key(after) == *name));
    delta.removed.extend(gone);
    delta
}

/// Whoever comes is let in at once, and the limits that come along are those of the next start.
fn limit_the_new(users: &mut Delta<String>, new: &[Arc<User>]) {
    for user in new.iter().filter(|user| users.added.contains(&user.name)) {
        let mut limits = self::user(&User::named(&user.name), user);
        limits.retain(|change| !change.is_applied);
        if !limits.is_empty() {
            users.changed.push((user.name.clone(), limits));
        }
    }
}

/// Collects the keys that differ, in this table unless they name another one.
struct Comparison {
    table: &'static str,
    found: Vec<KeyChange>,
}

impl Comparison {
    fn of(table: &'static str) -> Self {
        Self { table, found: Vec::new() }
    }

    fn key<T: PartialEq + Shown>(self, key: &'static str, old: &T, new: &T) -> Self {
        let values = || Some((old.shown(), new.shown()));
        self.differs(key, old != new, values)
    }

    fn secret(self, key: &'static str, old: Option<&Secret>, new: Option<&Secret>) -> Self {
        let both = old.zip(new).is_none_or(|(old, new)| old.is(new.expose()));
        self.differs(key, !both || old.is_none() != new.is_none(), || None)
    }

    fn differs(
        mut self,
        key: &'static str,
        differs: bool,
        values: impl FnOnce() -> Option<(String, String)>,
    ) -> Self {
        if differs {
            let is_applied = applied::by_reload(self.table, key);
            self.found.push(KeyChange { key, values: values(), is_applied });
        }
        self
    }
}

fn listed(functions: &Option<Vec<String>>) -> Option<String> {
    functions.as_ref().map(|functions| format!("[{}]", functions.join(", ")))
}

fn route(old: &Route, new: &Route) -> Vec<KeyChange> {
    let address = |target: &Target| format!("{} ({}:{})", target.name, target.host, target.port);
    let changes = Comparison::of("routes")
        .key("target", &address(&old.target), &address(&new.target))
        .key("target_database", &old.target_database, &new.target_database)
        .key("mode", &old.mode.as_str(), &new.mode.as_str())
        .key("pool_size", &old.pool_size, &new.pool_size)
        .key("min_size", &old.min_size, &new.min_size)
        .key("reserve_size", &old.reserve_size, &new.reserve_size)
        .key("reserve_after", &old.reserve_after, &new.reserve_after)
        .key("max_clients", &old.max_clients, &new.max_clients)
        .key("reuse", &old.reuse, &new.reuse)
        .key("reads_foreign_tables", &old.reads_foreign_tables, &new.reads_foreign_tables)
        .key("replication", &old.replication, &new.replication)
        .key("access", &old.access.as_str(), &new.access.as_str())
        .key("allow_notify", &old.allow_notify, &new.allow_notify)
        .key("functions", &listed(&old.functions), &listed(&new.functions))
        .key("slow_query", &old.slow_query, &new.slow_query);
    timeouts(changes, &old.timeouts, &new.timeouts).found
}

fn timeouts(changes: Comparison, old: &Timeouts, new: &Timeouts) -> Comparison {
    changes
        .key("timeouts.connect", &old.connect, &new.connect)
        .key("timeouts.query_wait", &old.query_wait, &new.query_wait)
        .key("timeouts.query", &old.query, &new.query)
        .key("timeouts.idle_in_transaction", &old.idle_in_transaction, &new.idle_in_transaction)
        .key("timeouts.client_idle", &old.client_idle, &new.client_idle)
        .key("timeouts.server_lifetime", &old.server_lifetime, &new.server_lifetime)
        .key("timeouts.server_idle", &old.server_idle, &new.server_idle)
}

fn user(old: &User, new: &User) -> Vec<KeyChange> {
    let mut changes = Comparison::of("users");
    let first = |user: &User| user.credentials.first().cloned();
    let more = |user: &User| user.credentials.get(1).cloned();
    for (key, old, new) in [("password", first(old), first(new)), ("other_password", more(old), more(new))] {
        changes = changes.differs(key, !secret::are_same(old.as_slice(), new.as_slice()), || None);
    }
    changes
        .key("max_clients", &old.max_clients, &new.max_clients)
        .key("max_server_connections", &old.max_server_connections, &new.max_server_connections)
        .found
}

fn database(old: &Database, new: &Database) -> Vec<KeyChange> {
    Comparison::of("databases")
        .key("max_clients", &old.max_clients, &new.max_clients)
        .key("max_server_connections", &old.max_server_connections, &new.max_server_connections)
        .found
}

fn target(old: &Target, new: &Target) -> Vec<KeyChange> {
    Comparison::of("targets")
        .key("host", &old.host, &new.host)
        .key("port", &old.port, &new.port)
        .key("required", &old.required, &new.required)
        .key("sslmode", &old.tls.mode.as_str(), &new.tls.mode.as_str())
        .key("sslnegotiation", &negotiation(&old.tls), &negotiation(&new.tls))
        .key("channel_binding", &old.tls.binding.as_str(), &new.tls.binding.as_str())
        .key("sslrootcert", &root(&old.tls), &root(&new.tls))
        .key("sslcrl", &shown(old.tls.files.revoked.as_ref()), &shown(new.tls.files.revoked.as_ref()))
        .key("sslcert", &certificate(&old.tls), &certificate(&new.tls))
        .key("sslkey", &key(&old.tls), &key(&new.tls))
        .key("cleartext_without_tls", &old.cleartext_without_tls, &new.cleartext_without_tls)
        .found
}

/// Files by their paths: what stands in them is read again by itself.
fn shown(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn negotiation(tls: &TargetTls) -> &'static str {
    if tls.direct { "direct" } else { "postgres" }
}

fn root(tls: &TargetTls) -> Option<String> {
    if tls.files.system { Some("system".to_owned()) } else { shown(tls.files.root.as_ref()) }
}

fn certificate(tls: &TargetTls) -> Option<String> {
    shown(tls.files.identity.as_ref().map(|(certificate, _)| certificate))
}

fn key(tls: &TargetTls) -> Option<String> {
    shown(tls.files.identity.as_ref().map(|(_, key)| key))
}

fn file(config: &Config, which: impl Fn(&ServerFiles) -> Option<&PathBuf>) -> Option<String> {
    shown(config.tls.files.as_ref().and_then(which))
}

fn authentication(changes: Comparison, old: &Authentication, new: &Authentication) -> Comparison {
    let within = |authentication: &Authentication| authentication.failed_logins_within;
    let changes = changes
        .key("authentication.max_logins", &old.max_logins, &new.max_logins)
        .key("authentication.failed_logins", &old.failed_logins, &new.failed_logins)
        .key("authentication.failed_logins_within", &within(old), &within(new))
        .secret("authentication.salt_secret", old.salt_secret.as_ref(), new.salt_secret.as_ref())
        .key("rules", &rules(old), &rules(new));
    let (old, new) = (old.lookup.as_ref(), new.lookup.as_ref());
    let user = |lookup: Option<&Lookup>| lookup.map(|lookup| lookup.user.name.clone());
    let target = |lookup: Option<&Lookup>| lookup.map(|lookup| lookup.target.name.clone());
    let database = |lookup: Option<&Lookup>| lookup.map(|lookup| lookup.database.clone());
    let query = |lookup: Option<&Lookup>| lookup.map(|lookup| lookup.query.clone());
    let ttl = |lookup: Option<&Lookup>| lookup.map(|lookup| lookup.ttl);
    let entries = |lookup: Option<&Lookup>| lookup.map(|lookup| lookup.entries);
    changes
        .key("authentication.auth_user", &user(old), &user(new))
        .key("authentication.auth_target", &target(old), &target(new))
        .key("authentication.auth_database", &database(old), &database(new))
        .key("authentication.auth_query", &query(old), &query(new))
        .key("authentication.auth_ttl", &ttl(old), &ttl(new))
        .key("authentication.auth_entries", &entries(old), &entries(new))
}

/// A number that tells lists of rules apart, behind how many they are: they are too long for a line.
fn rules(authentication: &Authentication) -> String {
    let Some(rules) = &authentication.rules else { return "none".to_owned() };
    let mut hasher = DefaultHasher::new();
    format!("{rules:?}").hash(&mut hasher);
    format!("{} rules ({:08x})", rules.len(), hasher.finish() as u32)
}

fn keys(old: &Config, new: &Config) -> Vec<KeyChange> {
    let changes = authentication(Comparison::of(""), &old.authentication, &new.authentication);
    let changes = tls(proxy(changes, &old.proxy, &new.proxy), old, new);
    let endpoint = |config: &Config| config.tracing.as_ref().map(|tracing| tracing.endpoint.to_string());
    let sample = |config: &Config| config.tracing.as_ref().map(|tracing| tracing.sample);
    let service = |config: &Config| config.tracing.as_ref().map(|tracing| tracing.service_name.clone());
    let format = |config: &Config| if config.log.json { "json" } else { "text" };
    changes
        .key("log.filter", &old.log.filter, &new.log.filter)
        .key("log.repeats", &old.log.repeats, &new.log.repeats)
        .key("log.format", &format(old), &format(new))
        .key("log.slow_query", &old.log.slow_query.after, &new.log.slow_query.after)
        .key("log.slow_query_sample", &old.log.slow_query.sample, &new.log.slow_query.sample)
        .key("log.slow_query_literals", &old.log.slow_query.literals, &new.log.slow_query.literals)
        .key("admin.listen", &old.admin.map(|it| it.to_string()), &new.admin.map(|it| it.to_string()))
        .secret("admin.token", old.admin_token.as_ref(), new.admin_token.as_ref())
        .key("metrics.by_schema", &old.metrics.by_schema, &new.metrics.by_schema)
        .key("metrics.schemas", &old.metrics.schemas.join(", "), &new.metrics.schemas.join(", "))
        .key("metrics.max_schemas", &old.metrics.max_schemas, &new.metrics.max_schemas)
        .key("metrics.refresh", &old.metrics.refresh, &new.metrics.refresh)
        .key("metrics.pgbouncer_names", &old.metrics.pgbouncer_names, &new.metrics.pgbouncer_names)
        .key("metrics.top_statements", &old.metrics.top_statements, &new.metrics.top_statements)
        .key("tracing.otlp_endpoint", &endpoint(old), &endpoint(new))
        .key("tracing.sample", &sample(old), &sample(new))
        .key("tracing.service_name", &service(old), &service(new))
        .found
}

fn proxy(changes: Comparison, old: &Proxy, new: &Proxy) -> Comparison {
    let folder = |proxy: &Proxy| proxy.unix_socket_dir.as_ref().map(|folder| folder.display().to_string());
    let octal = |proxy: &Proxy| format!("{:04o}", proxy.unix_socket_mode);
    let listen = |proxy: &Proxy| {
        let mut addresses: Vec<_> = proxy.listen.iter().map(ToString::to_string).collect();
        // the first one names the Unix socket, so that the order matters only with one
        if proxy.unix_socket_dir.is_none() {
            addresses.sort();
        }
        format!("[{}]", addresses.join(", "))
    };
    changes
        .key("proxy.listen", &listen(old), &listen(new))
        .key("proxy.unix_socket_dir", &folder(old), &folder(new))
        .key("proxy.unix_socket_mode", &octal(old), &octal(new))
        .key("proxy.workers", &old.workers, &new.workers)
        .key("proxy.max_clients", &old.max_clients, &new.max_clients)
        .key("proxy.login_timeout", &old.login_timeout, &new.login_timeout)
        .key("proxy.shutdown_timeout", &old.shutdown_timeout, &new.shutdown_timeout)
}

fn tls(changes: Comparison, old: &Config, new: &Config) -> Comparison {
    let certificate = |config: &Config| file(config, |files| Some(&files.certificate));
    let key = |config: &Config| file(config, |files| Some(&files.key));
    let authorities = |config: &Config| file(config, |files| files.client_ca.as_ref());
    let revoked = |config: &Config| file(config, |files| files.client_crl.as_ref());
    changes
        .key("tls.mode", &old.tls.mode.as_str(), &new.tls.mode.as_str())
        .key("tls.certificate", &certificate(old), &certificate(new))
        .key("tls.key", &key(old), &key(new))
        .key("tls.client_ca", &authorities(old), &authorities(new))
        .key("tls.client_crl", &revoked(old), &revoked(new))
        .key("tls.min_version", &old.tls.oldest.as_str(), &new.tls.oldest.as_str())
}

/// A value as a log line shows it.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Duration {
    fn shown(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Shown::shown)
    }
}

macro_rules! shown_as_printed {
    ($($type:ty),*) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_as_printed!(String, &str, bool, u16, u32, usize, f64);

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Some((old, new)) => write!(f, "{} {old} -> {new}", self.key),
            None => write!(f, "{} changed", self.key),
        }
    }
}

#[cfg(test)]
mod tests;
