//! `firepool check --connect`: logs in to every target as every pool would, and compares the pools with what the
//! server allows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::{complain, print};
use crate::backend::connect::{ConnectError, Opener};
use crate::backend::{ServerConn, query};
use crate::config::{self, Config, Pattern, budget};

/// How long the server that knows the users may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What a server allows. `reserved_connections` came with PostgreSQL 16.
const ALLOWANCE: &str = "SELECT pg_catalog.current_setting('max_connections'), \
     pg_catalog.current_setting('superuser_reserved_connections')::int \
     + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int";

/// What a role could write with: whether it is a superuser, relations that it owns, those that it may change, and schemas
/// in which it may make something.
const POWERS: &str = "SELECT r.rolsuper, \
     (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relowner = r.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')), \
     (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
       WHERE c.relkind IN ('r', 'p', 'v', 'f') AND c.relowner <> r.oid AND n.nspname NOT LIKE 'pg\\_%' \
         AND n.nspname <> 'information_schema' \
         AND pg_catalog.has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')), \
     (SELECT count(*) FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')) \
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

pub(super) fn run(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> ExitCode {
    let Ok(config) = config::load(path, environment) else { return ExitCode::FAILURE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let good = match runtime {
        Ok(runtime) => runtime.block_on(check(&config)),
        Err(error) => {
            complain(&format!("firepool: {error}"));
            false
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line for each login and each target; whether every login worked.
async fn check(config: &Config) -> bool {
    let mut good = true;
    let mut allowances = BTreeMap::new();
    for ((target, database, user), read_only) in logins(config) {
        let name = format!("target `{target}`, database `{database}`, user `{user}`");
        match log_in(config, &target, &database, &user).await {
            Ok(mut conn) => {
                print(&format!("{name}: logged in\n"));
                if read_only {
                    powers(&mut conn).await.iter().for_each(|power| {
                        print(&format!("warning: {name}: its route is read-only, and the role {power}\n"));
                    });
                }
                if let Some(allowance) = allowance(&mut conn).await {
                    allowances.insert(target, allowance);
                }
            }
            // With a verifier alone nothing can be tried: that is no mistake.
            Err(LoginError::Connect(ConnectError::Unproved(why))) => {
                print(&format!("{name}: not tried: {why}\n"))
            }
            Err(error) => {
                good = false;
                print(&format!("{name}: error: {error}\n"));
            }
        }
    }
    if let Some(lookup) = &config.authentication.lookup {
        let name = format!("look-up by `{}` on target `{}`", lookup.user.name, lookup.target.name);
        match look_up(lookup).await {
            Ok(()) => print(&format!("{name}: auth_query works\n")),
            Err(error) => {
                good = false;
                print(&format!("{name}: error: {error}\n"));
            }
        }
    }
    for worst in budget::worst(config) {
        if let Some((max, reserved)) = allowances.get(&worst.target) {
            match budget::judge(&worst, *max, *reserved) {
                Some(warning) => print(&format!("warning: {warning}\n")),
                None => print(&format!(
                    "target `{}`: {max} connections allowed, {reserved} reserved\n",
                    worst.target
                )),
            }
        }
    }
    good
}

/// What a role could do on a read-only route if that did not hold, in words.
async fn powers(conn: &mut ServerConn) -> Vec<String> {
    let rows = query::rows(conn, POWERS).await.unwrap_or_default();
    let Some([Some(superuser), Some(owned), Some(writable), Some(schemas)]) = rows.first().map(Vec::as_slice)
    else {
        return vec!["could not be looked at".to_owned()];
    };
    let mut powers = Vec::new();
    if superuser == "t" {
        // It may do everything, so that the rest says nothing.
        return vec!["is a superuser".to_owned()];
    }
    for (count, power) in
        [(owned, "owns relations"), (writable, "may write to relations"), (schemas, "may create in schemas")]
    {
        if count != "0" {
            powers.push(format!("{power}: {count}"));
        }
    }
    powers
}

/// Every target, database and user that the routes name, wildcards left out, and whether the route is read-only.
fn logins(config: &Config) -> BTreeMap<(String, String, String), bool> {
    let exact = |pattern: &Pattern| match pattern {
        Pattern::Exact(name) => Some(name.clone()),
        Pattern::Any => None,
    };
    let named = config.routes.iter().filter_map(|route| {
        let database = route.target_database.clone().or_else(|| exact(&route.database))?;
        let login = (route.target.name.clone(), database, exact(&route.user)?);
        Some((login, route.access.is_read_only()))
    });
    named.collect()
}

/// Why a login was not possible.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("unknown")]
    Unknown,
    #[error("{0}")]
    Connect(#[from] ConnectError),
}

async fn log_in(config: &Config, target: &str, database: &str, user: &str) -> Result<ServerConn, LoginError> {
    let route = config.routes.iter().find(|route| route.target.name == target);
    let (Some(route), Some(user)) = (route, config.user(user)) else { return Err(LoginError::Unknown) };
    let opener =
        Opener::new(Arc::clone(&route.target), Arc::clone(user), database.to_owned(), route.timeouts.connect);
    Ok(opener.open().await?)
}

/// Asks about whoever asks, as for a client.
async fn look_up(lookup: &config::Lookup) -> Result<(), String> {
    let (target, user) = (Arc::clone(&lookup.target), Arc::clone(&lookup.user));
    let opener = Opener::new(target, user, lookup.database.clone(), LIMIT)
        .with_parameters(vec![("search_path", "pg_catalog".to_owned())]);
    let mut conn = opener.open().await.map_err(|error| error.to_string())?;
    let rows = query::rows_with(&mut conn, &lookup.query, &[&lookup.user.name]).await;
    let rows = rows.map_err(|_| "the server refused auth_query".to_owned())?;
    match rows.first().map(Vec::len) {
        Some(2) => Ok(()),
        Some(columns) => Err(format!("auth_query yields {columns} columns and not two")),
        None => Err(format!("auth_query does not find `{}`", lookup.user.name)),
    }
}

async fn allowance(conn: &mut ServerConn) -> Option<(u64, u64)> {
    let rows = query::rows(conn, ALLOWANCE).await.ok()?;
    match rows.first().map(Vec::as_slice) {
        Some([Some(max), Some(reserved)]) => Some((max.parse().ok()?, reserved.parse().ok()?)),
        _ => None,
    }
}
