//! Asks a database which schema its names are in, over a connection that is opened for it and closed again: never a
//! client's, and none that would be kept from them. It counts under the caps like every other.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::backend::connect::{ConnectError, Opener};
use crate::backend::{Lost, ServerConn, query};
use crate::clock::Clock;
use crate::schemas::{Catalogue, Reading};
use crate::statement::Sort;

use super::limits::{self, Limit};

/// How long one question may take, from connecting on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer. Names have up to 63 each.
const MAX_ANSWER: usize = 16 << 20;

/// Logins that are tried in turn: one may have been locked, or have no right to connect.
const MOST_LOGINS: usize = 8;

/// Nothing but PostgreSQL's own names, whatever the role's path is: what is asked runs with the role's rights.
const SAFELY: &str = "SET search_path = pg_catalog";

/// Not those of temporary and overlong things, whose names say nothing. The oldest first, so that a limit meets those
/// that came last.
const SCHEMAS: &str = "SELECT oid, nspname FROM pg_namespace \
    WHERE nspname !~ '^pg_(toast|temp|toast_temp)(_|$)' ORDER BY oid LIMIT 10000";

/// Tables, views, sequences; functions that are called like none of PostgreSQL's own, which come first in every path;
/// types that are no table's and no array.
const NAMES: &str = "(SELECT 'r', relnamespace, relname::text FROM pg_class \
        WHERE relkind IN ('r', 'v', 'm', 'f', 'p', 'S') LIMIT 100000) \
    UNION ALL (SELECT DISTINCT 'f', pronamespace, proname::text FROM pg_proc p \
        WHERE pronamespace <> 11 AND NOT EXISTS \
            (SELECT FROM pg_proc o WHERE o.proname = p.proname AND o.pronamespace = 11) LIMIT 50000) \
    UNION ALL (SELECT 't', typnamespace, typname::text FROM pg_type \
        WHERE typnamespace <> 11 AND typrelid = 0 AND typelem = 0 LIMIT 50000)";

/// Paths that roles have by default, what is said of a role in this database first; and those without a role last.
const PATHS: &str = "SELECT r.rolname, substr(c, 13) FROM pg_db_role_setting s \
    LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c \
    WHERE c LIKE 'search\\_path=%' AND (s.setrole = 0 OR r.rolname IS NOT NULL) \
        AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
    ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 10000";

/// That of the server, if this role has no other.
const PATH: &str = "SELECT reset_val FROM pg_settings WHERE name = 'search_path' \
    AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE c LIKE 'search\\_path=%' \
        AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user)))";

/// When the server was started, in milliseconds of Unix time.
const STARTED: &str = "SELECT (1000 * extract(epoch FROM pg_postmaster_start_time()))::bigint";

/// A way to log in, with its caps.
#[derive(Debug, Clone)]
struct Login {
    opener: Arc<Opener>,
    caps: Vec<Arc<Limit>>,
}

/// Who asks for one catalogue.
#[derive(Debug)]
pub(super) struct Asker {
    catalogue: Weak<Catalogue>,
    logins: Mutex<Vec<Login>>,
}

impl Asker {
    pub(super) fn new(catalogue: &Arc<Catalogue>) -> Self {
        Self { catalogue: Arc::downgrade(catalogue), logins: Mutex::default() }
    }

    /// The catalogue, while a pool uses it.
    pub(super) fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.catalogue.upgrade()
    }

    /// One more way to log in.
    pub(super) fn add(&self, opener: Opener, caps: &[Arc<Limit>]) {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() < MOST_LOGINS {
            logins.push(Login { opener: Arc::new(opener), caps: caps.to_vec() });
        }
    }

    /// Asks in the background, if it is time.
    pub(super) fn sweep(self: &Arc<Self>, clock: &Arc<Clock>) {
        let Some(catalogue) = self.catalogue().filter(|catalogue| catalogue.asks(clock.now())) else {
            return;
        };
        let (asker, clock) = (Arc::clone(self), Arc::clone(clock));
        let login = asker.logins.lock().unwrap_or_else(PoisonError::into_inner).first().cloned();
        let (Ok(runtime), Some(login)) = (tokio::runtime::Handle::try_current(), login) else {
            return catalogue.failed(clock.now());
        };
        drop(runtime.spawn(async move {
            let read = tokio::time::timeout(PATIENCE, read(&login));
            match read.await.unwrap_or(Err(Failure::Slow)) {
                Ok(reading) => catalogue.is(reading, clock.now()),
                Err(error) => {
                    tracing::warn!(%error, "a database could not be asked for its schemas");
                    asker.rotate();
                    catalogue.failed(clock.now());
                }
            }
        }));
    }

    /// Another login is next.
    fn rotate(&self) {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if !logins.is_empty() {
            logins.rotate_left(1);
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("it took too long")]
    Slow,
    #[error("the answer makes no sense")]
    Odd,
}

async fn read(login: &Login) -> Result<Reading, Failure> {
    let _places = limits::acquire_spare(&login.caps).ok_or(ConnectError::LimitReached)?;
    let mut conn = login.opener.open().await?;
    let reading = ask(&mut conn).await;
    conn.hang_up().await;
    reading
}

async fn ask(conn: &mut ServerConn) -> Result<Reading, Failure> {
    query::rows(conn, SAFELY).await?;
    let mut reading = Reading::default();
    if let [row] = query::rows(conn, STARTED).await?.as_slice()
        && let [Some(millis)] = row.as_slice()
    {
        reading.started = millis.parse().ok();
    }
    let mut numbers = std::collections::HashMap::new();
    for row in query::rows_within(conn, SCHEMAS, MAX_ANSWER).await? {
        let [Some(oid), Some(name)] = row.as_slice() else { return Err(Failure::Odd) };
        if let Some(number) = reading.schema(name) {
            numbers.insert(oid.clone(), number);
        }
    }
    for row in query::rows_within(conn, NAMES, MAX_ANSWER).await? {
        let [Some(sort), Some(oid), Some(name)] = row.as_slice() else { return Err(Failure::Odd) };
        let sort = match sort.as_str() {
            "r" => Sort::Relation,
            "f" => Sort::Function,
            _ => Sort::Type,
        };
        if let Some(schema) = numbers.get(oid) {
            reading.name(*schema, sort, name);
        }
    }
    for row in query::rows_within(conn, PATHS, MAX_ANSWER).await? {
        let [role, Some(path)] = row.as_slice() else { return Err(Failure::Odd) };
        reading.path(role.as_deref(), path);
    }
    for row in query::rows(conn, PATH).await? {
        if let [Some(path)] = row.as_slice() {
            reading.path(None, path);
        }
    }
    Ok(reading)
}
