//! Prints `config/REFERENCE.md` from the declarations of keys in `file.rs`.
//!
//! The committed document is compared with this by a test; `UPDATE_REFERENCE=1 cargo test --lib reference` rewrites
//! it.

use std::fmt::Write as _;

use super::file;
use super::typed::{Applied, Key, Preset};

const INTRODUCTION: &str = "\
# Configuration reference

<!-- Generated from src/config/file.rs; do not edit. `UPDATE_REFERENCE=1 cargo test --lib reference` rewrites it. -->

firepool reads one TOML file. A key it does not know is refused, with the nearest key that it does know; `firepool check`
prints everything that is wrong with a file at once, and changes nothing.

- **Durations** are text with a unit: `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`, at most a year. A bare number is refused.
- **Names** of users and databases are case sensitive and have at most 63 bytes, as in PostgreSQL.
- **Applied by** says what makes a changed key take effect: `reload` at SIGHUP, without disconnecting anybody, or `restart`.
  Of a change that waits for a restart, the log says so at SIGHUP. What stands in certificates, keys and lists that were
  revoked is read again at SIGHUP for targets as well, though the names of those files wait for a restart.
- **Precedence**: a client is served by the route with exactly its database and user; otherwise by that with its
  database and any user, then any database and its user, then any and any.
";

/// One section of the document: heading, what it is for, keys.
fn sections() -> [(&'static str, &'static str, &'static [Key]); 13] {
    use file::{
        AdminTable, AuthenticationTable, DatabaseTable, LogTable, MetricsTable, ProxyTable, RouteTable,
        RuleTable, TargetTable, TimeoutsTable, TlsTable, TracingTable, UserTable,
    };
    [
        (ProxyTable::TITLE, "Listeners, workers and limits of the whole proxy.", ProxyTable::KEYS),
        (AdminTable::TITLE, "HTTP for people, Prometheus and health checks.", AdminTable::KEYS),
        (MetricsTable::TITLE, "What is counted.", MetricsTable::KEYS),
        (LogTable::TITLE, "What is logged, and how.", LogTable::KEYS),
        (TracingTable::TITLE, "Spans of queries for OpenTelemetry. Optional.", TracingTable::KEYS),
        (TlsTable::TITLE, "How clients are encrypted. Optional.", TlsTable::KEYS),
        (
            AuthenticationTable::TITLE,
            "How clients prove who they are, and where the secrets of users come from. Optional.",
            AuthenticationTable::KEYS,
        ),
        (
            RuleTable::TITLE,
            "Who has to prove what, in the order of precedence. Optional: without, everybody proves a password with \
             SCRAM-SHA-256.",
            RuleTable::KEYS,
        ),
        (TargetTable::TITLE, "One PostgreSQL server. At least one is required.", TargetTable::KEYS),
        (UserTable::TITLE, "One login role, which must exist in PostgreSQL.", UserTable::KEYS),
        (DatabaseTable::TITLE, "Limits of one database, over all its users. Optional.", DatabaseTable::KEYS),
        (RouteTable::TITLE, "What is pooled, and how. At least one is required.", RouteTable::KEYS),
        (
            TimeoutsTable::TITLE,
            "For all routes, or as `timeouts` in a route for that one.",
            TimeoutsTable::KEYS,
        ),
    ]
}

/// The whole document.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    // writing to a String cannot fail
    let _ = write!(page, "\n## The file\n\n| Table | If absent | Holds |\n|---|---|---|\n");
    for Key { name, preset, meaning, .. } in file::File::KEYS {
        let _ = writeln!(page, "| `{name}` | {} | {meaning} |", in_markdown(preset));
    }
    for (title, about, keys) in sections() {
        let _ = write!(
            page,
            "\n## `{title}`\n\n{about}\n\n| Key | Value | Default | Applied by | Meaning |\n|---|---|---|---|---|\n"
        );
        for key in keys {
            let _ = writeln!(page, "{}", row(key));
        }
    }
    page
}

fn row(key: &Key) -> String {
    let Key { name, kind, unit, preset, applied, meaning } = key;
    let value = if unit.is_empty() { (*kind).to_owned() } else { format!("{kind}: {unit}") };
    let preset = in_markdown(preset);
    let applied = match applied {
        Applied::Reload => "reload",
        Applied::Restart => "restart",
    };
    format!("| `{name}` | {value} | {preset} | {applied} | {meaning} |")
}

fn in_markdown(preset: &Preset) -> String {
    match preset {
        Preset::Typed(text) => format!("`{text}`"),
        Preset::Words(words) => (*words).to_owned(),
    }
}
