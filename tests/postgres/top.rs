//! Statements by their shapes: what `/statements.json` says against what the clients have counted themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::fixture::{Fixture, Proxy, configuration};
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

/// Calls, rows and errors of each shape.
type Counted = BTreeMap<String, [u64; 3]>;

const TABLES: &str =
    "CREATE TABLE t (a int, b text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 9) n";

/// A proxy, one client, and what that has counted.
struct Bench {
    fixture: Fixture,
    client: Raw,
    counted: Counted,
}

impl Bench {
    fn new(route: &str) -> Self {
        let fixture = Fixture::new(route);
        let client = fixture.client();
        Self { fixture, client, counted: Counted::new() }
    }

    /// Takes what came in answer to statements with these shapes.
    #[track_caller]
    fn heard(&mut self, reply: &Reply, shapes: &[&str]) {
        let mut left = shapes.iter();
        for message in reply.messages.iter().filter(|message| matches!(message.tag, b'C' | b'E')) {
            let shape = left.next().unwrap_or_else(|| panic!("{shapes:?}: {reply:?}"));
            let [calls, rows, errors] = self.counted.entry((*shape).to_owned()).or_default();
            if message.tag == b'E' {
                *errors += 1;
                continue;
            }
            let tag = String::from_utf8_lossy(&message.body[..message.body.len() - 1]).into_owned();
            *calls += 1;
            *rows += tag.rsplit(' ').next().unwrap().parse::<u64>().unwrap_or(0);
        }
        assert!(reply.failure().is_some() || left.next().is_none(), "{shapes:?}: {reply:?}");
    }

    #[track_caller]
    fn run(&mut self, sql: &str, shapes: &[&str]) {
        let reply = self.client.query(sql);
        self.heard(&reply, shapes);
    }

    #[track_caller]
    fn batch(&mut self, messages: &[Vec<u8>], shapes: &[&str]) {
        let reply = self.client.batch(messages);
        self.heard(&reply, shapes);
    }

    #[track_caller]
    fn compare(&self) {
        let page = page(&self.fixture.proxy, "limit=500");
        let mut told = Counted::new();
        for statement in page["statements"].as_array().unwrap() {
            assert_eq!(
                (statement["user"].as_str(), statement["database"].as_str()),
                (Some(&*self.fixture.role), Some(DATABASE))
            );
            let counts = ["calls", "rows", "errors"].map(|name| statement[name].as_u64().unwrap());
            assert!(told.insert(statement["statement"].as_str().unwrap().into(), counts).is_none());
        }
        assert_eq!(told, self.counted);
        for (place, name) in ["calls", "rows", "errors"].into_iter().enumerate() {
            let sum: u64 = self.counted.values().map(|counts| counts[place]).sum();
            assert_eq!((page["total"][name].as_u64(), page["other"][name].as_u64()), (Some(sum), Some(0)));
        }
    }
}

fn page(proxy: &Proxy, query: &str) -> Value {
    let (status, body) = proxy.get(&format!("/statements.json?{query}"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

pub fn calls_rows_and_errors_of_each_shape_are_what_the_client_counted() {
    for mode in ["transaction", "session"] {
        let mut bench = Bench::new(&format!("pool_size = 2\nmode = \"{mode}\""));
        let b = &mut bench;
        b.run("BEGIN", &["begin"]);
        b.run(
            &TABLES.replace("TABLE", "TEMP TABLE"),
            &["create temp table t(a int, b text)", "insert into t select n, ? from generate_series(?) n"],
        );
        for number in 0..10 {
            b.run(&format!("SELECT * FROM t WHERE a > {number}"), &["select * from t where a > ?"]);
            b.run(
                &format!("select * from t where a>'{number}' -- {number}"),
                &["select * from t where a > ?"],
            );
            b.batch(
                &[unnamed("SELECT * FROM t WHERE a > $1", &[&number.to_string()]), sync()],
                &["select * from t where a > ?"],
            );
        }
        b.run(
            "UPDATE t SET b = 'y' WHERE a < 4; SELECT 1; TABLE t",
            &["update t set b = ? where a < ?", "select ?", "table t"],
        );
        named(b);
        pipelined(b);
        b.run("COPY t TO STDOUT", &["copy t to stdout"]);
        b.run("COMMIT", &["commit"]);
        failures(b);
        let many = vec!["SELECT 1"; 64].join(";");
        b.run(&many, &["select ?"; 64]);
        b.compare();
    }
}

/// Statements that are prepared, in the protocol and in SQL, and portals that are read in parts.
fn named(b: &mut Bench) {
    b.batch(&[parse("s", "SELECT a FROM t WHERE b = $1 LIMIT 5"), sync()], &[]);
    for _ in 0..5 {
        let execute = [bind("", "s", &["x"]), describe(b'P', ""), execute("", 0), sync()];
        b.batch(&execute, &["select a from t where b = ? limit ?"]);
    }
    b.run(
        "PREPARE p (int) AS SELECT a FROM t WHERE a = $1",
        &["prepare ? (int) as select a from t where a = ?"],
    );
    for number in 0..3 {
        // The text that is executed is the one of PREPARE.
        b.run(&format!("EXECUTE p({number})"), &["prepare ? (int) as select a from t where a = ?"]);
    }
    b.run("DEALLOCATE p", &["deallocate ?"]);
    let parts =
        [parse("", "SELECT a FROM t ORDER BY a"), bind("c", "", &[]), execute("c", 4), execute("c", 0)];
    let reply = b.client.batch(&[parts.concat(), sync()]);
    assert_eq!(reply.tags().matches('D').count(), 9);
    // The tag counts only the rows of the last part.
    let [calls, rows, _] = b.counted.entry("select a from t order by a".into()).or_default();
    (*calls, *rows) = (*calls + 1, *rows + 9);
}

fn pipelined(b: &mut Bench) {
    let batches: Vec<Vec<u8>> = (0..60)
        .map(|n| match n % 3 {
            0 => [unnamed("INSERT INTO t VALUES ($1, $2)", &["1", "x"]), sync()].concat(),
            1 => query(&format!("SELECT {n}, a FROM t LIMIT 1; SELECT 'x{n}'")),
            _ => [unnamed("SELECT a AS x FROM t LIMIT 2", &[]), unnamed("SELECT $1::int", &["1"]), sync()]
                .concat(),
        })
        .collect();
    b.client.send(&batches.concat());
    for n in 0..60 {
        let reply = b.client.reply();
        let shapes: &[&str] = match n % 3 {
            0 => &["insert into t values (?)"],
            1 => &["select ?, a from t limit ?", "select ?"],
            _ => &["select a as x from t limit ?", "select ?::int"],
        };
        b.heard(&reply, shapes);
    }
}

fn failures(b: &mut Bench) {
    b.run("SELECT * FROM missing WHERE a = 'x'", &["select * from missing where a = ?"]);
    b.run("SELEC 'x'", &["(a text that could not be read)"]);
    b.run("SELECT 1; SELECT 1/0; SELECT 2", &["select ?", "select ? / ?", "select ?"]);
    b.batch(
        &[unnamed("SELECT * FROM missing WHERE a = $1", &["1"]), sync()],
        &["select * from missing where a = ?"],
    );
    b.batch(
        &[unnamed("SELECT 1 / $1::int", &["0"]), unnamed("SELECT now()", &[]), sync()],
        &["select ? / ?::int"],
    );
}

pub fn no_literal_is_in_what_admin_http_shows() {
    let mut bench = Bench::new("pool_size = 1");
    for sql in [
        "SELECT 'hidden-1', 4242, E'\\'hidden', U&'hidden', $x$hidden$x$, X'4242', B'01' -- hidden",
        "SET app.tenant TO hidden",
        "SET app.tenant = 'hidden'",
        "SELECT $$ hidden",
        "hidden",
        "SELECT 'hidden",
        "SELECT /* hidden */ 1 /* hidden",
        "ALTER ROLE nobody PASSWORD 'hidden'",
        "DO $do$ BEGIN PERFORM 'hidden'; END $do$",
        "SAVEPOINT hidden",
        "SELECT E'a'\n'b\\' hidden'",
        "SELECT --\r 'a\nhidden'",
        "ALTER ROLE nobody SET a.b TO hidden",
        "LISTEN hidden",
        "DECLARE hidden CURSOR FOR SELECT 1",
    ] {
        bench.client.query(sql);
        bench.client.batch(&[unnamed(sql, &[]), sync()]);
    }
    bench.client.batch(&[unnamed("SELECT $1, $2", &["hidden", "4242"]), sync()]);
    let long = format!("SELECT 'hidden', {}", "'hidden', ".repeat(20_000));
    bench.client.query(&format!("{long} 1"));
    bench.client.query(&format!("SELECT 'it's hidden, that's it', '{}'", "x".repeat(200_000)));
    bench.client.batch(&[unnamed(&format!("{long} 2"), &[]), sync()]);
    for path in ["/statements.json?limit=500", "/statements.txt?limit=500", "/metrics"] {
        let (status, text) = bench.fixture.proxy.get(path);
        assert_eq!((status, text.lines().find(|line| line.contains("hidden"))), (200, None), "{path}");
    }
    let page = page(&bench.fixture.proxy, "limit=500");
    let texts: Vec<&str> = page["statements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["statement"].as_str().unwrap())
        .collect();
    assert!(!texts.iter().any(|text| text.contains("42")), "{texts:?}");
    assert!(texts.contains(&"alter role nobody password ?") && texts.contains(&"select ..."), "{texts:?}");
}

pub fn fifty_thousand_shapes_stay_within_the_bound_and_sums_stay_true() {
    let server = Server::shared();
    let role = server.role();
    let text = format!(
        "[proxy]\nworkers = 2\n[metrics]\ntop_statements = 100\nrefresh = \"0s\"\n\
         [users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\npool_size = 2\n"
    );
    let proxy = Proxy::serve(configuration(server.address(), &text));
    let mut clients: Vec<Raw> =
        (0..2).map(|_| Raw::login(proxy.address, &role, DATABASE, &[]).unwrap()).collect();
    for batch in 0..1_000 {
        let names = (0..50).map(|number| format!("SELECT 1 AS c{}", batch * 50 + number));
        let reply = clients[batch % 2].query(&names.collect::<Vec<_>>().join(";"));
        assert_eq!(reply.commands().len(), 50);
    }
    for number in 0..200 {
        clients[0].query(&format!("SELECT pg_sleep(0.00{}) AS often", number % 10));
    }
    let page = page(&proxy, "order=calls&limit=500");
    let count = |of: &Value| of["calls"].as_u64().unwrap();
    let statements = page["statements"].as_array().unwrap();
    assert!(statements.len() <= 200 && page["shapes"].as_u64().unwrap() <= 200);
    assert_eq!((count(&page["total"]), page["total"]["rows"].as_u64()), (50_200, Some(50_200)));
    let shown: u64 = statements.iter().map(count).sum();
    assert_eq!(shown + count(&page["other"]), 50_200);
    assert_eq!(statements[0]["statement"], "select pg_sleep(?) as often");
    assert_eq!(count(&statements[0]), 200);
    assert!(page.to_string().len() < 400_000);
}

pub fn a_wait_is_counted_with_the_shape_that_waited() {
    let mut bench = Bench::new("pool_size = 1");
    bench.client.run("BEGIN");
    let mut waiting = bench.fixture.client();
    waiting.send(&query("SELECT 'it', 'waited', now()"));
    until("the client waits", || bench.fixture.proxy.metric("firepool_clients", "waiting") == 1.0);
    let since = Instant::now();
    until("it has waited", || since.elapsed() > Duration::from_millis(20));
    bench.client.run("COMMIT");
    let reply = waiting.reply();
    assert_eq!(reply.rows().len(), 1, "{reply:?}");
    let page = page(&bench.fixture.proxy, "order=wait&limit=1");
    let [first] = &page["statements"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&first["statement"], &first["waits"]), (&"select ?, now()".into(), &1.into()), "{page}");
    assert!(first["wait_seconds"].as_f64().unwrap() >= 0.02);
    assert_eq!(page["total"]["waits"], 1);
}

pub fn times_and_schemas_are_shown_and_orders_and_limits_are_kept() {
    let server = Server::own();
    server.superuser(DATABASE).run("CREATE SCHEMA wm; CREATE TABLE wm.log (line text); GRANT USAGE ON SCHEMA wm TO PUBLIC; GRANT ALL ON wm.log TO PUBLIC");
    let role = server.role();
    let text = format!(
        "[metrics]\nrefresh = \"0s\"\nschemas = [\"wm\"]\n[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\n"
    );
    let proxy = Proxy::serve(configuration(server.address(), &text));
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    client.run("SELECT pg_sleep(0.03)");
    (0..3).for_each(|_| drop(client.run("SELECT * FROM wm.log, pg_catalog.pg_class LIMIT 1")));
    let all = page(&proxy, "");
    let mut statements = all["statements"].as_array().unwrap().iter();
    let slow = statements.find(|line| line["statement"] == "select pg_sleep(?)").unwrap();
    for name in ["total_seconds", "mean_seconds", "min_seconds", "p50_seconds", "p99_seconds", "max_seconds"]
    {
        assert!(slow[name].as_f64().unwrap() >= 0.03, "{name}: {slow}");
    }
    let first = page(&proxy, "order=calls&limit=1");
    let [first] = &first["statements"].as_array().unwrap()[..] else { panic!("{first}") };
    assert_eq!((&first["calls"], first["fingerprint"].as_str().unwrap().len()), (&3.into(), 16));
    assert_eq!(first["schemas"], serde_json::json!(["pg_catalog", "wm"]));
    let (status, text) = proxy.get("/statements.txt?order=mean");
    assert_eq!(status, 200);
    assert!(text.contains("select pg_sleep(?)") && text.contains("pg_catalog,wm"), "{text}");
    for wrong in ["order=none", "limit=0", "limit=501", "sql=1"] {
        assert_eq!(proxy.get(&format!("/statements.json?{wrong}")).0, 400);
    }
}

pub fn statements_are_counted_by_shape_without_schemas_and_not_at_all_where_that_is_off() {
    let server = Server::shared();
    let role = server.role();
    let serve = |metrics: &str| {
        let text = format!("[metrics]\n{metrics}\n[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\n");
        let proxy = Proxy::serve(configuration(server.address(), &text));
        Raw::login(proxy.address, &role, DATABASE, &[]).unwrap().run("SELECT 1");
        proxy
    };
    let page = page(&serve("by_schema = false"), "");
    let first = &page["statements"][0];
    assert_eq!((&first["statement"], &first["calls"]), (&"select ?".into(), &1.into()));
    assert_eq!(first["schemas"], serde_json::json!([]));
    assert_eq!(serve("top_statements = 0").get("/statements.json").0, 404);
}
