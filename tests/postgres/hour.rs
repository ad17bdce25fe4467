//! A scripted hour of FireFoundry's traffic, compressed: services write the entity graph and the working memory, the
//! broker tracks requests and reads the registry through its foreign tables, readers read all of it, and unqualified
//! names mean one table under one search_path and another under another. What `/metrics` says of schemas has to be what the
//! clients have counted, and what pg_stat_statements has, to the statement and to the row.
//!
//! `FIREPOOL_HOUR=SECONDS` repeats it for so long at a pace, for `make metrics` and `make page`, which find the address of
//! admin HTTP in the file `FIREPOOL_HOUR_FILE`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use firepool::config::{self, Config, Pattern, Route, Secret};
use firepool::tls::{Acceptor, MinVersion, ServerFiles, generate};

use crate::auth::Folder;
use crate::guide::shipped;
use crate::schemas::Truth;
use crate::support::fixture::Proxy;
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};
use crate::support::server::{PASSWORD, Server};
use crate::support::wait::until;

const DATABASE: &str = "firefoundry";

/// Somebody whose name wants to be more than a name.
const HOSTILE: &str = "<script>hacked=1</script>";

/// For `make page` and `make metrics`, which give it to whoever asks.
const TOKEN: &str = "an-hour-of-traffic-and-no-more";

/// What a client does: a text without constants, so that pg_stat_statements keeps it as it is.
struct Statement {
    sql: &'static str,
    parameters: &'static [&'static str],
    /// What it is counted under.
    under: &'static str,
}

const fn statement(sql: &'static str, parameters: &'static [&'static str], under: &'static str) -> Statement {
    Statement { sql, parameters, under }
}

const BEGIN: Statement = statement("BEGIN", &[], "none transaction");
const COMMIT: Statement = statement("COMMIT", &[], "none transaction");

const APP: &str = "a0000000-0000-4000-8000-000000000001";
const NODE: &str = "e0000000-0000-4000-8000-000000000001";
const STEP: &str = "e0000000-0000-4000-8000-000000000002";

/// A graph of entities that grows and changes, and its working memory.
const SERVICES: [Statement; 8] = [
    BEGIN,
    statement(
        "INSERT INTO entity.node (app_id, name, general_type_name, specific_type_name, data) \
         VALUES ($1, $2, $3, $4, $5), ($1, $6, $3, $4, $5) \
         ON CONFLICT (app_id, name, graph_name) DO UPDATE SET data = excluded.data RETURNING id",
        &[
            APP,
            "quarterly-report",
            "Workflow",
            "ReportWorkflow",
            "{\"quarter\": \"2026-Q1\"}",
            "yearly-report",
        ],
        "entity insert",
    ),
    statement(
        "SELECT position FROM entity.create_edge_with_incrementing_pos($1, $2, $3, $4, $5)",
        &[APP, NODE, STEP, "Calls", "Calls"],
        "entity select",
    ),
    COMMIT,
    statement(
        "INSERT INTO wm.working_memory (entity_node_id, memory_type, name, description, provider) VALUES ($1, $2, $3, $4, $5)",
        &[NODE, "data/json", "figures", "Sums by region", "postgres"],
        "wm insert",
    ),
    statement(
        "SELECT id, name, memory_type FROM wm.working_memory WHERE memory_type = $1 ORDER BY created_at DESC LIMIT $2",
        &["data/json", "5"],
        "wm select",
    ),
    statement(
        "SELECT n.name, m.name FROM entity.node AS n JOIN wm.working_memory AS m ON m.entity_node_id = n.id WHERE n.id = $1 LIMIT $2",
        &[NODE, "3"],
        "entity,wm select",
    ),
    statement(
        "INSERT INTO wm.working_memory (memory_type, name, description, provider) VALUES ($1, $2, $3, $4)",
        &["file", "lost.pdf", "Nobody stores it there", "floppy"],
        "wm insert",
    ),
];

const BROKER: [Statement; 4] = [
    statement(
        "INSERT INTO brk_tracking.broker_request (status, model_pool) VALUES ($1, $2) RETURNING id",
        &["pending", "general-chat"],
        "brk_tracking insert",
    ),
    statement(
        "SELECT m.name AS model, hp.name AS provider FROM brk_registry.model m \
         JOIN brk_registry.hosted_model hm ON m.id = hm.model_id \
         JOIN brk_registry.hosting_provider hp ON hm.provider_id = hp.id ORDER BY hp.name, m.name",
        &[],
        "brk_registry select",
    ),
    statement(
        "UPDATE brk_tracking.broker_request SET status = $1 WHERE id < $2",
        &["completed", "4"],
        "brk_tracking update",
    ),
    statement(
        "SELECT r.status, p.code FROM brk_tracking.broker_request AS r CROSS JOIN brk_registry.hosting_provider AS p LIMIT $1",
        &["4"],
        "brk_registry,brk_tracking select",
    ),
];

const READERS: [Statement; 4] = [
    statement(
        "SELECT id, request_id, status, created_at FROM brk_tracking.broker_request ORDER BY created_at DESC LIMIT $1",
        &["10"],
        "brk_tracking select",
    ),
    statement("SELECT name, code FROM brk_registry.hosting_provider", &[], "brk_registry select"),
    statement(
        "SELECT name, depth FROM entity.get_connected_nodes_with_io($1, $2)",
        &[NODE, "2"],
        "entity select",
    ),
    statement("SELECT id, blob_key FROM wm.working_memory WHERE blob_key IS NOT NULL", &[], "wm select"),
];

/// The same texts under two paths, where `journal` is another table each time.
const JOURNAL: [&str; 2] =
    ["INSERT INTO journal (line) VALUES ($1), ($2)", "SELECT line FROM journal WHERE line <> $1 LIMIT $2"];

const IN_WM: [Statement; 2] =
    [statement(JOURNAL[0], &["x", "y"], "wm insert"), statement(JOURNAL[1], &["x", "3"], "wm select")];
const IN_ENTITY: [Statement; 3] = [
    statement(JOURNAL[0], &["x", "y"], "entity insert"),
    statement(JOURNAL[1], &["x", "7"], "entity select"),
    statement(JOURNAL[1], &["y", "7"], "entity select"),
];

/// What a page has to show as it is.
const STRANGE: [Statement; 1] =
    [statement("SELECT $1 AS \"<img src=x onerror=hacked=1>\"", &["x"], "none select")];

/// Who does what, and under which path.
struct Part {
    user: &'static str,
    path: &'static str,
    clients: usize,
    work: &'static [Statement],
}

const PARTS: [Part; 6] = [
    Part { user: "fireinsert", path: "", clients: 4, work: &SERVICES },
    Part { user: "firebroker", path: "", clients: 2, work: &BROKER },
    Part { user: "fireread", path: "", clients: 2, work: &READERS },
    Part { user: "fireinsert", path: "wm,public", clients: 1, work: &IN_WM },
    Part { user: "fireinsert", path: "entity,public", clients: 1, work: &IN_ENTITY },
    Part { user: HOSTILE, path: "", clients: 1, work: &STRANGE },
];

/// Calls and rows, by user and text.
type Calls = BTreeMap<(String, String), (u64, u64)>;

/// What one client has counted.
#[derive(Default)]
struct Counted {
    truth: Truth,
    calls: Calls,
}

impl Counted {
    fn heard(&mut self, user: &str, statement: &Statement, reply: &Reply) {
        self.truth.heard(user, statement.under, reply);
        for command in reply.commands() {
            let rows = command.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let (calls, all) = self.calls.entry((user.to_owned(), statement.sql.to_owned())).or_default();
            (*calls, *all) = (*calls + 1, *all + rows);
        }
    }

    fn add(&mut self, other: Self) {
        for (series, count) in other.truth.series {
            *self.truth.series.entry(series).or_default() += count;
        }
        for (whose, (calls, rows)) in other.calls {
            let sum = self.calls.entry(whose).or_default();
            *sum = (sum.0 + calls, sum.1 + rows);
        }
    }
}

/// Until when, and how fast.
#[derive(Clone, Copy)]
struct Pace {
    rounds: usize,
    until: Option<Instant>,
}

impl Pace {
    fn goes_on(self, round: usize) -> bool {
        self.until.map_or(round < self.rounds, |until| Instant::now() < until)
    }
}

/// One client's part of the hour. Every third time it prepares what it does, and otherwise uses what it has prepared.
fn play(address: std::net::SocketAddr, part: &Part, pace: Pace) -> Counted {
    let path = format!("-c search_path={}", part.path);
    let more: Vec<_> = [("options", path.as_str())].into_iter().filter(|_| !part.path.is_empty()).collect();
    let mut client = Raw::login(address, part.user, DATABASE, &more).unwrap();
    let mut counted = Counted::default();
    let mut round = 0;
    while pace.goes_on(round) {
        for (number, statement) in part.work.iter().enumerate() {
            // pg_stat_statements misses a utility statement that is executed again from one Parse (PostgreSQL 14 and 15).
            if statement.under == "none transaction" {
                counted.heard(part.user, statement, &client.query(statement.sql));
                continue;
            }
            let name = format!("s{number}");
            let mut batch = Vec::new();
            if round.is_multiple_of(3) {
                batch.extend([close(b'S', &name), parse(&name, statement.sql)].concat());
            }
            batch.extend([bind("", &name, statement.parameters), execute("", 0), sync()].concat());
            client.send(&batch);
            counted.heard(part.user, statement, &client.reply());
        }
        round += 1;
        if pace.until.is_some() {
            thread::park_timeout(Duration::from_millis(20));
        }
    }
    counted
}

/// The shipped configuration, with somebody else, few server connections, and TLS.
fn configuration(server: &Arc<Server>, folder: &Folder) -> Config {
    let mut config = shipped(server);
    let text =
        format!("[targets.t]\nhost = \"x\"\n[users.\"{HOSTILE}\"]\npassword = \"{PASSWORD}\"\n[[routes]]\n");
    let more = config::parse(&text, std::path::Path::new("x"), &|_| None).unwrap();
    config.users.extend(more.users);
    let like = Arc::clone(&config.routes[0]);
    let user = Pattern::Exact(HOSTILE.to_owned());
    config.routes.insert(0, Arc::new(Route { user, ..Route::clone(&like) }));
    for route in &mut config.routes {
        let route = Arc::make_mut(route);
        (route.pool_size, route.reserve_size) = (route.pool_size.min(3), 0);
        route.timeouts.query_wait = Duration::from_secs(60);
    }
    let made = generate::self_signed(&["localhost"]).unwrap();
    let (certificate, key): (PathBuf, PathBuf) =
        (folder.file("tls.crt", &made.certificate).into(), folder.file("tls.key", &made.key).into());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let files = ServerFiles { certificate, key, client_ca: None, client_crl: None };
    config.tls.mode = config::TlsMode::Allow;
    config.tls.acceptor = Some(Arc::new(Acceptor::load(files, false, MinVersion::default()).unwrap()));
    if std::env::var_os("FIREPOOL_HOUR_TOKEN").is_some() {
        config.admin_token = Some(Secret::new(TOKEN.to_owned()));
    }
    config
}

/// FireFoundry's databases, with what the hour needs beside.
fn stage() -> Arc<Server> {
    let server = Server::firefoundry(&[
        ("shared_preload_libraries", "pg_stat_statements"),
        ("pg_stat_statements.max", "10000"),
    ]);
    let mut admin = server.superuser(DATABASE);
    admin.run(&format!(
        "CREATE EXTENSION pg_stat_statements; CREATE ROLE \"{HOSTILE}\" LOGIN PASSWORD '{PASSWORD}'; \
         GRANT CONNECT ON DATABASE {DATABASE} TO \"{HOSTILE}\"; SET ROLE firebrand; \
         CREATE TABLE wm.journal (line text); CREATE TABLE entity.journal (line text)"
    ));
    server
}

/// What pg_stat_statements has of these texts: calls and rows by user and text, and the calls of each single entry.
fn of_server(server: &Server, texts: &Calls) -> (Calls, BTreeMap<(String, String), Vec<u64>>) {
    let rows = server.superuser(DATABASE).run(
        "SELECT rolname, query, calls, rows FROM pg_stat_statements \
         JOIN pg_roles ON pg_roles.oid = userid JOIN pg_database ON pg_database.oid = dbid \
         WHERE datname = current_database() ORDER BY calls",
    );
    let (mut calls, mut entries) = (Calls::new(), BTreeMap::<_, Vec<u64>>::new());
    for row in rows {
        let whose = (row[0].clone(), row[1].clone());
        if texts.contains_key(&whose) {
            let (n, m): (u64, u64) = (row[2].parse().unwrap(), row[3].parse().unwrap());
            let sum = calls.entry(whose.clone()).or_default();
            *sum = (sum.0 + n, sum.1 + m);
            entries.entry(whose).or_default().push(n);
        }
    }
    (calls, entries)
}

/// libpq over TLS, once a second: one statement each time.
fn encrypted(server: &Server, address: std::net::SocketAddr, pace: Pace) -> Counted {
    let mut counted = Counted::default();
    let mut round = 0;
    while pace.goes_on(round) {
        let url =
            format!("host=127.0.0.1 port={} user=fireread dbname={DATABASE} sslmode=require", address.port());
        let mut psql = Command::new(&server.programs().psql);
        psql.args(["-X", &url, "-c", "SELECT 1"]).env("PGPASSWORD", PASSWORD).stdout(Stdio::null());
        assert!(psql.status().unwrap().success());
        counted.truth.said("fireread", "none select", 1);
        round += 1;
        if pace.until.is_some() {
            thread::park_timeout(Duration::from_secs(1));
        }
    }
    counted
}

/// Somebody who guesses, a reader who tries what it may not, and a service that is pinned for a while.
fn misbehave(address: std::net::SocketAddr, pace: Pace) -> Counted {
    let mut counted = Counted::default();
    let mut round = 0;
    while pace.goes_on(round) {
        let mut reader = Raw::login(address, "fireread", DATABASE, &[]).unwrap();
        Raw::login_with(address, "guessed", &[("user", "fireread"), ("database", DATABASE)]).unwrap_err();
        assert_eq!(reader.query("DELETE FROM wm.working_memory").code(), "25006");
        let mut service = Raw::login(address, "fireinsert", DATABASE, &[]).unwrap();
        let reply = service.query("SELECT pg_advisory_lock(7)");
        counted.truth.heard("fireinsert", "none select", &reply);
        thread::park_timeout(Duration::from_millis(if pace.until.is_some() { 1_500 } else { 1 }));
        counted.truth.heard("fireinsert", "none select", &service.query("SELECT pg_advisory_unlock(7)"));
        round += 1;
    }
    counted
}

pub fn an_hour_of_firefoundrys_traffic_is_counted_to_the_statement_and_to_the_row() {
    let (server, folder) = (stage(), Folder::new());
    let proxy = Proxy::serve(configuration(&server, &folder));
    let seconds: Option<u64> = std::env::var("FIREPOOL_HOUR").ok().map(|text| text.parse().unwrap());
    let pace =
        Pace { rounds: 60, until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)) };
    let mut counted = Counted::default();
    for part in &PARTS {
        let mut client = Raw::login(proxy.address, part.user, DATABASE, &[]).unwrap();
        counted.truth.heard(part.user, "none select", &client.query("SELECT 'here'"));
    }
    until("the schemas are known", || proxy.metric("firepool_catalogue_names", "firefoundry") > 0.0);
    if let Some(file) = std::env::var_os("FIREPOOL_HOUR_FILE") {
        std::fs::write(file, format!("{} {TOKEN}\n", proxy.admin)).unwrap();
    }
    thread::scope(|scope| {
        let address = proxy.address;
        let mut clients: Vec<_> = PARTS
            .iter()
            .flat_map(|part| (0..part.clients).map(move |_| part))
            .map(|part| scope.spawn(move || play(address, part, pace)))
            .collect();
        let few = Pace { rounds: 5, ..pace };
        let server = &server;
        clients.push(scope.spawn(move || encrypted(server, address, few)));
        clients.push(scope.spawn(move || misbehave(address, few)));
        clients.into_iter().for_each(|client| counted.add(client.join().unwrap()));
    });
    compare(&server, &proxy, &counted);
}

fn compare(server: &Server, proxy: &Proxy, counted: &Counted) {
    let statements: u64 = counted.calls.values().map(|(calls, _)| calls).sum();
    let (calls, entries) = of_server(server, &counted.calls);
    for (whose, counts) in &counted.calls {
        assert_eq!(calls.get(whose), Some(counts), "pg_stat_statements: {whose:?}");
    }
    // The same text under two paths is two schemas' here, as it is two statements of the server's: up to PostgreSQL 17, which
    // tells tables apart by their numbers, and not by their names (`JumbleRangeTblEntry` in its queryjumblefuncs.c).
    let version: u32 = server.superuser(DATABASE).value("SHOW server_version_num").parse().unwrap();
    let of_each = if version >= 180_000 { 1 } else { 2 };
    for text in JOURNAL {
        assert_eq!(entries[&("fireinsert".to_owned(), text.to_owned())].len(), of_each, "{text}");
    }
    let series = counted.truth.compare(proxy);
    assert!(statements >= 3_000, "{statements}");
    println!("{statements} statements in {series} series are the same on all three sides");
}
