use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::file::{
    AdminTable, AuthenticationTable, DatabaseTable, File, LogTable, MetricsTable, ProxyTable, RouteTable,
    RuleTable, TargetTable, TimeoutsTable, TlsTable, TracingTable, UserTable,
};
use crate::config::typed::{Applied, Key};
use crate::tls::generate;

const OLD: &str = r#"
    [targets.main]
    host = "pg"
    [users]
    app.password = "sesame"
    gone.password = "x"
    [databases.d]
    [[routes]]
    database = "d"
    user = "app"
    replication = true
    [[routes]]
    user = "gone"
"#;

/// Every key has another value than in OLD. Certificates are put into the place of FOLDER.
const NEW: &str = r#"
    [proxy]
    listen = ["127.0.0.1:6433"]
    unix_socket_dir = "/run"
    unix_socket_mode = "0700"
    workers = 2
    max_clients = 20
    login_timeout = "1s"
    shutdown_timeout = "1s"
    [admin]
    listen = ""
    token = "ajar-ajar-ajar-ajar"
    [metrics]
    by_schema = false
    schemas = ["wm"]
    max_schemas = 3
    refresh = "1s"
    pgbouncer_names = true
    top_statements = 5
    [log]
    filter = "debug"
    format = "json"
    slow_query = "1s"
    slow_query_sample = 7
    slow_query_literals = true
    repeats = 7
    [tracing]
    otlp_endpoint = "http://collector:4318"
    sample = 1
    service_name = "other"
    [tls]
    mode = "require"
    certificate = "FOLDER/a.crt"
    key = "FOLDER/a.key"
    client_ca = "FOLDER/a.crt"
    client_crl = "FOLDER/a.crl"
    min_version = "1.3"
    [targets.main]
    host = "pg2"
    port = 5433
    required = false
    sslmode = "require"
    sslrootcert = "FOLDER/a.crt"
    channel_binding = "require"
    sslcrl = "FOLDER/a.crl"
    sslcert = "FOLDER/a.crt"
    sslkey = "FOLDER/a.key"
    sslnegotiation = "direct"
    cleartext_without_tls = true
    [authentication]
    max_logins = 5
    failed_logins = 5
    failed_logins_within = "1s"
    salt_secret = "thirty-two characters and a few more"
    auth_user = "came"
    auth_target = "main"
    auth_database = "d"
    auth_query = "SELECT $1"
    auth_ttl = "1s"
    auth_entries = 5
    [[rules]]
    method = "scram-sha-256"
    [users]
    app = { password = "open", other_password = "ajar", max_clients = 1, max_server_connections = 50 }
    came.password = "x"
    [databases.d]
    max_clients = 1
    max_server_connections = 50
    [[routes]]
    user = "came"
    [[routes]]
    database = "d"
    user = "app"
    target_database = "e"
    mode = "session"
    pool_size = 30
    min_size = 1
    reserve_size = 1
    reserve_after = "100ms"
    max_clients = 1
    reads_foreign_tables = true
    reuse = false
    access = "read-only"
    allow_notify = true
    functions = ["f"]
    slow_query = "2s"
    [routes.timeouts]
    connect = "1s"
    query_wait = "1s"
    query = "1s"
    idle_in_transaction = "1s"
    client_idle = "1s"
    server_lifetime = "1s"
    server_idle = "1s"
"#;

fn config(text: &str) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("firepool-reload-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let made = generate::self_signed(&["pg"]).unwrap();
    fs::write(folder.join("a.crt"), &made.certificate).unwrap();
    generate::write_key(&folder.join("a.key"), &made.key);
    let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_secs(48 * 60 * 60);
    fs::write(folder.join("a.crl"), generate::empty_list(tomorrow)).unwrap();
    let text = text.replace("FOLDER", folder.to_str().unwrap());
    let config = crate::config::parse(&text, Path::new("test.toml"), &|_| None);
    fs::remove_dir_all(&folder).unwrap();
    config.unwrap()
}

/// Keys, and whether SIGHUP applies them.
type Found = BTreeSet<(String, bool)>;

/// What the reference says of a table.
fn declared(table: &str, keys: &[Key]) -> Found {
    keys.iter().map(|key| (format!("{table}{}", key.name), key.applied == Applied::Reload)).collect()
}

/// The same without keys whose changes show otherwise.
fn without(mut found: Found, shown_otherwise: impl Fn(&str) -> bool) -> Found {
    found.retain(|(key, _)| !shown_otherwise(key));
    found
}

/// What is said of a change.
fn told(changes: &[KeyChange]) -> Found {
    changes.iter().map(|change| (change.key.to_owned(), change.is_applied)).collect()
}

#[test]
fn nothing_changes_between_a_configuration_and_itself() {
    let changes = diff(&config(OLD), &config(OLD));
    assert!(changes.is_empty());
    assert_eq!(changes.to_string(), "nothing changed");
}

#[test]
fn what_came_and_went_is_told_apart_from_what_changed() {
    let changes = diff(&config(OLD), &config(NEW));
    let names = |routes: &[RouteKey]| routes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&changes.routes.added), ["database `*`, user `came`"]);
    assert_eq!(names(&changes.routes.removed), ["database `*`, user `gone`"]);
    assert_eq!(changes.users.added, ["came"]);
    assert_eq!(changes.users.removed, ["gone"]);
    assert_eq!(changes.secrets().collect::<Vec<_>>(), ["app"]);
}

#[test]
fn every_key_that_the_reference_names_is_compared_and_told_as_it_says() {
    let changes = diff(&config(OLD), &config(NEW));
    let mut route =
        without(declared("", RouteTable::KEYS), |key| ["database", "user", "timeouts"].contains(&key));
    route.append(&mut declared("timeouts.", TimeoutsTable::KEYS));
    assert_eq!(told(&changes.routes.changed[0].1), route);
    let user = without(declared("", UserTable::KEYS), |key| key.starts_with("password_"));
    assert_eq!(told(&changes.users.changed[0].1), user);
    assert_eq!(told(&changes.databases.changed[0].1), declared("", DatabaseTable::KEYS));
    assert_eq!(told(&changes.targets.changed[0].1), declared("", TargetTable::KEYS));

    // What is in the files counts, and not what they are called.
    let is_file = |key: &str| ["authentication.hba_file", "authentication.userlist_file"].contains(&key);
    let mut others = without(declared("authentication.", AuthenticationTable::KEYS), is_file);
    others.append(&mut declared("proxy.", ProxyTable::KEYS));
    others.append(&mut declared("admin.", AdminTable::KEYS));
    others.append(&mut declared("metrics.", MetricsTable::KEYS));
    others.append(&mut declared("tracing.", TracingTable::KEYS));
    others.append(&mut declared("log.", LogTable::KEYS));
    others.append(&mut declared("tls.", TlsTable::KEYS));
    others.append(&mut without(declared("", File::KEYS), |key| key != "rules"));
    assert_eq!(told(&changes.keys), others);
    assert!(
        RuleTable::KEYS.iter().all(|key| key.applied == Applied::Reload),
        "rules are taken over as a whole"
    );
}

/// The reference says of each key what `App::reload` does; this is what it does, by hand.
#[test]
fn what_a_reload_applies_is_how_clients_log_in_and_what_is_logged() {
    let applied: Vec<_> =
        diff(&config(OLD), &config(NEW)).keys.iter().filter(|it| it.is_applied).map(|it| it.key).collect();
    assert_eq!(
        applied,
        [
            "authentication.max_logins",
            "authentication.failed_logins",
            "authentication.failed_logins_within",
            "rules",
            "proxy.login_timeout",
            "proxy.shutdown_timeout",
            "tls.mode",
            "tls.certificate",
            "tls.key",
            "tls.client_ca",
            "tls.client_crl",
            "tls.min_version",
            "log.filter",
            "log.repeats",
        ]
    );
}

#[test]
fn the_limits_of_a_user_who_came_wait_for_a_restart() {
    let came = OLD.replace("[databases.d]", "came = { password = \"x\", max_clients = 3 }\n[databases.d]");
    let told = diff(&config(OLD), &config(&came)).to_string();
    assert_eq!(told, "user came added\nuser came: max_clients none -> 3 (needs a restart)");
}

#[test]
fn a_moved_target_changes_its_routes() {
    let changes = diff(&config(OLD), &config(&OLD.replace("\"pg\"", "\"pg2\"")));
    assert_eq!(changes.routes.changed.len(), 2);
    assert_eq!(changes.routes.changed[0].1[0].to_string(), "target main (pg:5432) -> main (pg2:5432)");
}

#[test]
fn the_log_tells_every_change_and_no_secret() {
    let text = diff(&config(OLD), &config(NEW)).to_string();
    for line in [
        "route for database `*`, user `came` added (needs a restart)",
        "user gone removed",
        "user app: password changed, other_password changed",
        "user app: max_clients none -> 1, max_server_connections none -> 50 (needs a restart)",
        "proxy.login_timeout 15s -> 1s",
        "tls.min_version 1.2 -> 1.3",
        "authentication.auth_ttl none -> 1s (needs a restart)",
        "proxy.workers none -> 2 (needs a restart)",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n--\n{text}");
    }
    assert!(text.contains("timeouts.server_idle 10m -> 1s"), "{text}");
    assert!(!text.contains("sesame") && !text.contains("open") && !text.contains("ajar"), "{text}");
}
