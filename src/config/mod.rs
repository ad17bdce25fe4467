//! What the configuration *means*.
//!
//! `file.rs` is what was typed: every key as it stands in the TOML file, unknown keys refused. This module is what
//! it comes to: routes resolved to targets, secrets read, durations parsed, zero turned into "off". Nothing here
//! opens a socket. Secrets never appear in `Debug` output, in problems, or in what `reload.rs` says of a change.
//!
//! In reading order: `typed` and `values` read tables and values, `file` declares every key, `resolve`, `tls`, `secrets`,
//! `authentication` and `routes` say what they come to, `problem` is what is wrong with them. [`budget`] adds up server connections, [`reload`]
//! compares two configurations, [`mod@reference`] prints the keys.

mod authentication;
pub mod budget;
mod counting;
mod file;
mod fingerprint;
mod observing;
mod problem;
pub mod reference;
pub mod reload;
mod resolve;
mod routes;
mod secrets;
#[cfg(test)]
mod tests;
mod tls;
mod typed;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use counting::{Metrics, SlowQuery};
pub use fingerprint::fingerprint;
pub use observing::{Log, Tracing};
pub use problem::{Problem, Problems, Severity};
pub use tls::{ChannelBinding, SslMode, TargetTls, Tls, TlsMode};

pub use crate::secret::{Credential, Secret};
pub use authentication::AUTH_QUERY;

use crate::hba::Rule;

/// A file that was read: what it means, unless it has errors, and what is wrong or doubtful about it.
#[derive(Debug)]
pub struct Examined {
    /// What it means; `None` if any problem is an error.
    pub config: Option<Config>,
    /// Errors and warnings, by line.
    pub problems: Problems,
}

/// Reads and checks a file; `env` looks up environment variables for `password_env`.
///
/// Warnings do not make it fail, and are dropped if it does not: [`examine`] keeps them.
///
/// # Errors
///
/// Every problem of the file, warnings among them, if at least one is an error.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let Examined { config, problems } = examine(path, env);
    config.ok_or(problems)
}

/// [`load`] of a text that is already in memory. Relative paths in it start at the folder of `file`.
///
/// # Errors
///
/// As [`load`].
pub fn parse(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let Examined { config, problems } = examine_text(text, file, env);
    config.ok_or(problems)
}

/// [`load`] that returns the warnings as well. A file that cannot be read is a problem like any other.
pub fn examine(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Examined {
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => examine_text(&text, path, env),
        Err(error) => {
            let mut found = problem::Found::new(path, "");
            found.whole_file(format!("cannot be read: {error}"));
            Examined { config: None, problems: found.finish() }
        }
    }
}

/// [`parse`] that returns the warnings as well.
pub fn examine_text(text: &str, file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Examined {
    let mut found = problem::Found::new(file, text);
    let config = match toml::de::DeTable::parse(text) {
        Ok(members) => {
            let file = file::File::of(members.into_inner(), &mut found);
            Some(resolve::resolve(file, env, &mut found))
        }
        Err(error) => {
            // its Display would quote the line, which may hold a password
            found.error(error.span().map_or(0, |span| span.start), error.message());
            None
        }
    };
    Examined { config: config.filter(|_| found.errors() == 0), problems: found.finish() }
}

/// A checked configuration: everything the proxy needs to know before it binds anything.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners, workers and limits of the whole proxy.
    pub proxy: Proxy,
    /// The admin HTTP listener; `None` switches it off.
    pub admin: Option<SocketAddr>,
    /// What has to be shown there; `None` asks for nothing.
    pub admin_token: Option<Secret>,
    /// What is counted.
    pub metrics: Metrics,
    /// How to log.
    pub log: Log,
    /// Where spans go; `None` is nowhere.
    pub tracing: Option<Tracing>,
    /// How clients are encrypted.
    pub tls: Tls,
    /// How clients have to prove who they are.
    pub authentication: Authentication,
    /// Every PostgreSQL server that routes may name.
    pub targets: Vec<Arc<Target>>,
    /// Who may log in, with what secret.
    pub users: Vec<Arc<User>>,
    /// Limits by database.
    pub databases: Vec<Arc<Database>>,
    /// What is pooled, in the order of precedence: exact database and user, exact database, exact user, any.
    pub routes: Vec<Arc<Route>>,
}

/// Listeners, workers and limits of the whole proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// TCP addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Folder of a Unix socket `.s.PGSQL.<port>`, with the port of the first TCP address (6432 if there is none).
    pub unix_socket_dir: Option<PathBuf>,
    /// Permission bits of the Unix socket.
    pub unix_socket_mode: u32,
    /// Worker threads; `None` means the cores the process may use.
    pub workers: Option<usize>,
    /// Clients that may be connected at once, over all routes (SQLSTATE 53300 above it).
    pub max_clients: usize,
    /// How long a client may take from accept to the end of authentication.
    pub login_timeout: Duration,
    /// How long running transactions may take to end after SIGTERM.
    pub shutdown_timeout: Duration,
}

/// How clients have to prove who they are.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// Of which the first that fits counts; `None` is SCRAM-SHA-256 for everybody.
    pub rules: Option<Vec<Rule>>,
    /// Where the secrets of users come from that are not in the configuration.
    pub lookup: Option<Lookup>,
    /// Clients that may be in the middle of a login at once; beyond it, the oldest of them is dropped.
    pub max_logins: usize,
    /// Failed logins of one address within `failed_logins_within`, after which it is refused; `None` is no limit.
    pub failed_logins: Option<u32>,
    /// For how long they count.
    pub failed_logins_within: Duration,
    /// What salts are made of, so that they stay the same over restarts and from one proxy to the next.
    pub salt_secret: Option<Secret>,
}

/// How the server is asked for the secrets of users.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The server.
    pub target: Arc<Target>,
    /// The database, as the server calls it.
    pub database: String,
    /// Who asks.
    pub user: Arc<User>,
    /// What is asked, with the user's name as `$1`.
    pub query: String,
    /// How long an answer is taken for the present one; zero asks at every login.
    pub ttl: Duration,
    /// Users whose answers are remembered.
    pub entries: usize,
}

/// One PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name routes use.
    pub name: String,
    /// Host name, IP address, or the folder of a Unix socket (starts with `/`).
    pub host: String,
    /// TCP port; with a socket folder, the number in the socket's name.
    pub port: u16,
    /// `/ready` waits until a required target has answered.
    pub required: bool,
    /// How connections to it are encrypted.
    pub tls: TargetTls,
    /// The password may be sent to it in clear text over TCP, where it asks for that.
    pub cleartext_without_tls: bool,
}

/// A login role, as clients and servers know it.
#[derive(Debug, Clone)]
pub struct User {
    /// The role's name.
    pub name: String,
    /// What is known of the passwords that clients prove and that servers are shown: usually one, two while it is being
    /// changed, none where it is looked up or a rule lets the user in without one.
    pub credentials: Vec<Credential>,
    /// Clients of this user that may be connected at once; `None` is no limit of its own.
    pub max_clients: Option<usize>,
    /// Server connections of this user, over all its pools; `None` is no limit of its own.
    pub max_server_connections: Option<usize>,
}

/// Limits of one database, over all its users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The database as clients name it.
    pub name: String,
    /// Clients that may be connected to it at once; `None` is no limit of its own.
    pub max_clients: Option<usize>,
    /// Server connections to it, over all its pools; `None` is no limit of its own.
    pub max_server_connections: Option<usize>,
}

/// When a server connection goes back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// When the transaction ends.
    Transaction,
    /// After every statement; explicit transactions are refused.
    Statement,
}

/// What the clients of a route may do to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// What their role may.
    ReadWrite,
    /// Read, whatever their role may.
    ReadOnly,
    /// The same, and nothing that functions do from inside lasts: transactions are the proxy's, and end with ROLLBACK.
    ReadOnlyStrict,
}

/// A name in a route, or `*`. Exact names sort before `*`, which is their precedence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Exactly this name.
    Exact(String),
    /// `*`
    Any,
}

/// What tells routes apart: no two routes of a configuration have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// The databases it serves.
    pub database: Pattern,
    /// The users it serves.
    pub user: Pattern,
}

/// What happens to the clients of one (database, user) pair, or of a whole class of them.
#[derive(Debug, Clone)]
pub struct Route {
    /// The databases it serves, as clients name them.
    pub database: Pattern,
    /// The users it serves.
    pub user: Pattern,
    /// Where its server connections go.
    pub target: Arc<Target>,
    /// The database's name on the server, where it differs.
    pub target_database: Option<String>,
    /// When a server connection goes back.
    pub mode: PoolMode,
    /// Server connections of one (database, user) pool.
    pub pool_size: u32,
    /// Server connections that are opened ahead and kept.
    pub min_size: u32,
    /// Server connections above `pool_size`, for clients that have waited longer than `reserve_after`.
    pub reserve_size: u32,
    /// How long a client waits before the reserve is used.
    pub reserve_after: Duration,
    /// Clients of one (database, user) pool; `None` is no limit of its own.
    pub max_clients: Option<usize>,
    /// In session mode, a server connection serves another client after the one that leaves.
    pub reuse: bool,
    /// Its users read `postgres_fdw` tables, so that each server connection may cost a second backend.
    pub reads_foreign_tables: bool,
    /// What its clients may do to the data.
    pub access: Access,
    /// On a read-only route, whether its clients may notify others.
    pub allow_notify: bool,
    /// On a read-only route, the functions that its clients may call beside PostgreSQL's own; `None` is all of them.
    pub functions: Option<Vec<String>>,
    /// Its users may replicate through the proxy, with server connections outside of the pool.
    pub replication: bool,
    /// Its timeouts.
    pub timeouts: Timeouts,
    /// How long a statement takes at least to be slow; `None` is never.
    pub slow_query: Option<Duration>,
}

/// The timeouts of a route. `None` is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening a server connection, from connect to ReadyForQuery.
    pub connect: Duration,
    /// A client's wait for a server connection (SQLSTATE 53300 after it).
    pub query_wait: Duration,
    /// A query that runs, from the client's message to ReadyForQuery (57014, server connection cancelled).
    pub query: Option<Duration>,
    /// A client that is silent inside a transaction (25P03).
    pub idle_in_transaction: Option<Duration>,
    /// A client that is silent outside a transaction (57P05).
    pub client_idle: Option<Duration>,
    /// The age at which a server connection is replaced, less up to a tenth of jitter.
    pub server_lifetime: Option<Duration>,
    /// How long a server connection above `min_size` may lie unused.
    pub server_idle: Option<Duration>,
}

impl Pattern {
    /// Whether `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == name,
        }
    }

    /// The name, or `None` for `*`.
    pub fn exact(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Exact(name) => Some(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.exact().unwrap_or("*"))
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database `{}`, user `{}`", self.database, self.user)
    }
}

impl Route {
    /// What tells it apart from other routes.
    pub fn key(&self) -> RouteKey {
        RouteKey { database: self.database.clone(), user: self.user.clone() }
    }
}

impl User {
    /// Of whom nothing is known but the name.
    pub fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, credentials: Vec::new(), max_clients: None, max_server_connections: None }
    }
}

impl Access {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::ReadOnlyStrict => "read-only-strict",
        }
    }

    /// Whether nothing may be written.
    pub fn is_read_only(self) -> bool {
        self != Self::ReadWrite
    }

    /// Whether transactions are the proxy's.
    pub fn is_strict(self) -> bool {
        self == Self::ReadOnlyStrict
    }
}

impl PoolMode {
    /// The word of the configuration and of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

impl Config {
    /// The route of a client, or `None` if no route serves its database and user.
    pub fn route(&self, database: &str, user: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.database.matches(database) && route.user.matches(user))
    }

    /// The route of a client that wants all of a server and no database in particular: that of the database which it
    /// names all the same, or else the first of its user's that allows it.
    pub fn route_of_physical_replication(&self, database: &str, user: &str) -> Option<&Arc<Route>> {
        let named = self.route(database, user).filter(|route| route.replication);
        named.or_else(|| self.routes.iter().find(|route| route.replication && route.user.matches(user)))
    }

    /// Whether any route serves `database`, whoever asks.
    pub fn knows_database(&self, database: &str) -> bool {
        self.routes.iter().any(|route| route.database.matches(database))
    }

    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The limits of a database, if any are configured.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.iter().find(|database| database.name == name)
    }
}
