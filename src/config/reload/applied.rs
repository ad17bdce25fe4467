//! Which keys a running process takes over: those of which the declarations in `file.rs` say so, as the reference does.

use crate::config::file::{
    AdminTable, AuthenticationTable, DatabaseTable, File, LogTable, MetricsTable, ProxyTable, RouteTable,
    TargetTable, TimeoutsTable, TlsTable, TracingTable, UserTable,
};
use crate::config::typed::{Applied, Key};

/// Whether SIGHUP applies a key of this table, or of the one in front of its dot. What is not declared it does not apply.
pub(super) fn by_reload(table: &str, key: &str) -> bool {
    let (table, key) = key.split_once('.').unwrap_or((table, key));
    let declared = keys(table).iter().find(|declared| declared.name == key);
    declared.is_some_and(|declared| declared.applied == Applied::Reload)
}

/// The keys of a table; those of the file for what is in none.
fn keys(table: &str) -> &'static [Key] {
    match table {
        "" => File::KEYS,
        "proxy" => ProxyTable::KEYS,
        "admin" => AdminTable::KEYS,
        "metrics" => MetricsTable::KEYS,
        "log" => LogTable::KEYS,
        "tracing" => TracingTable::KEYS,
        "tls" => TlsTable::KEYS,
        "timeouts" => TimeoutsTable::KEYS,
        "authentication" => AuthenticationTable::KEYS,
        "targets" => TargetTable::KEYS,
        "users" => UserTable::KEYS,
        "databases" => DatabaseTable::KEYS,
        "routes" => RouteTable::KEYS,
        _ => &[],
    }
}
