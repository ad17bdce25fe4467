//! Statements by the schemas that they name: what `/metrics` says against what the clients have counted themselves, to
//! the statement and to the row, with FireFoundry's schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::fixture::{Proxy, configuration};
use crate::support::messages::*;
use crate::support::raw::{Raw, Reply};
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::until;

/// Tables as FireFoundry has them, roughly; `log` is in two schemas.
const SCHEMAS: &str = "CREATE SCHEMA wm; CREATE SCHEMA entity; CREATE SCHEMA brk_tracking; CREATE SCHEMA brk_registry;
    CREATE TABLE wm.working_memory (id serial PRIMARY KEY, name text NOT NULL, memory_type text);
    CREATE TABLE wm.log (line text);
    CREATE TYPE entity.kind AS ENUM ('person', 'place');
    CREATE TABLE entity.node (id int, kind entity.kind, data jsonb, PRIMARY KEY (id)) PARTITION BY HASH (id);
    CREATE TABLE entity.node_0 PARTITION OF entity.node FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE entity.node_1 PARTITION OF entity.node FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE entity.edge (a int, b int);
    CREATE TABLE entity.log (line text);
    CREATE FUNCTION entity.connected(int) RETURNS SETOF int LANGUAGE sql AS 'SELECT b FROM entity.edge WHERE a = $1';
    CREATE TABLE brk_tracking.broker_request (id serial, status text);
    CREATE TABLE brk_registry.model (id int, name text);
    INSERT INTO brk_registry.model SELECT n, 'model ' || n FROM generate_series(1, 7) n;
    GRANT USAGE ON SCHEMA wm, entity, brk_tracking, brk_registry TO PUBLIC;
    GRANT ALL ON ALL TABLES IN SCHEMA wm, entity, brk_tracking, brk_registry TO PUBLIC;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA wm, entity, brk_tracking, brk_registry TO PUBLIC;
    GRANT CREATE ON SCHEMA wm TO PUBLIC";

/// A family and the labels of a series that decide, in one line.
type Series = BTreeMap<String, u64>;

/// What the clients have counted.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) series: Series,
}

impl Truth {
    fn add(&mut self, family: &str, labels: &[(&str, &str)], count: u64) {
        *self.series.entry(line(family, labels)).or_default() += count;
    }

    /// What the proxy tells has to be this, and no more; in how many series.
    #[track_caller]
    pub(crate) fn compare(&self, proxy: &Proxy) -> usize {
        let told = told(proxy);
        let counted = self.series.iter().filter(|(_, count)| **count > 0);
        let truth: Series = counted.map(|(name, count)| (name.clone(), *count)).collect();
        let differs = |a: &Series, b: &Series| -> Vec<String> {
            a.iter()
                .filter(|(name, count)| b.get(*name) != Some(count))
                .map(|(name, count)| format!("{name} {count}"))
                .collect()
        };
        let (more, missing) = (differs(&told, &truth), differs(&truth, &told));
        assert!(more.is_empty() && missing.is_empty(), "told: {more:#?}\ncounted: {missing:#?}");
        truth.len()
    }

    /// Takes a statement that somebody else has sent, and that returned so many rows.
    pub(crate) fn said(&mut self, user: &str, statement: &str, rows: u64) {
        let (schema, command) = statement.split_once(' ').unwrap();
        let labels = [("user", user), ("command", command)];
        let by_schema = [&labels[..], &[("schema", schema)]].concat();
        for (of, labels, statements) in [
            ("statement", &labels[..], "firepool_statements_total"),
            ("schema", &by_schema, "firepool_schema_statements_total"),
        ] {
            self.add(statements, labels, 1);
            self.add(&format!("firepool_{of}_rows_total"), labels, rows);
            self.add(&format!("firepool_{of}_server_seconds_count"), labels, 1);
        }
    }

    /// Takes what came in answer to statements that are in these schemas: `wm,entity select; entity insert`.
    pub(crate) fn heard(&mut self, user: &str, statements: &str, reply: &Reply) {
        let mut left = statements.split("; ").filter(|statement| !statement.is_empty());
        for message in &reply.messages {
            if !matches!(message.tag, b'C' | b'E') {
                continue;
            }
            let statement = left.next().unwrap_or_else(|| panic!("{statements}: {reply:?}"));
            let (schemas, command) = statement.split_once(' ').unwrap();
            let by_schema = schemas.split(',').map(|schema| (Some(schema), "schema"));
            for (schema, of) in by_schema.chain([(None, "statement")]) {
                let schema = schema.map(|schema| ("schema", schema));
                let labels: Vec<_> =
                    [("user", user)].into_iter().chain(schema).chain([("command", command)]).collect();
                if message.tag == b'E' {
                    let code = message.failure().code;
                    let class = [&labels[..], &[("class", &code[..2])]].concat();
                    self.add(&format!("firepool_{of}_errors_total"), &class, 1);
                    self.add(&format!("firepool_{of}_server_seconds_count"), &labels, 1);
                    continue;
                }
                let tag = String::from_utf8_lossy(&message.body[..message.body.len() - 1]).into_owned();
                let rows = tag.rsplit(' ').next().unwrap().parse().unwrap_or(0);
                let statements = if schema.is_some() {
                    "firepool_schema_statements_total"
                } else {
                    "firepool_statements_total"
                };
                self.add(statements, &labels, 1);
                self.add(&format!("firepool_{of}_rows_total"), &labels, rows);
                self.add(&format!("firepool_{of}_server_seconds_count"), &labels, 1);
            }
        }
        let failed = reply.failure().is_some();
        assert!(failed || left.next().is_none(), "{statements}: {reply:?}");
    }
}

fn line(family: &str, labels: &[(&str, &str)]) -> String {
    let mut labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    format!("{family} {}", labels.join(" "))
}

/// The same series as `/metrics` has them, without those that are 0.
fn told(proxy: &Proxy) -> Series {
    let families = ["firepool_statement", "firepool_schema_"];
    let ends = ["_statements_total", "_rows_total", "_errors_total", "_server_seconds_count"];
    let (_, page) = proxy.get("/metrics");
    let mut series = Series::new();
    for sample in page.lines().filter(|sample| families.iter().any(|family| sample.starts_with(family))) {
        let Some((name, rest)) = sample.split_once('{') else { continue };
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        let labels = labels.replace('"', "");
        let labels: Vec<_> = labels.split(',').map(|label| label.split_once('=').unwrap()).collect();
        let labels: Vec<_> = labels.into_iter().filter(|(name, _)| *name != "database").collect();
        let value: f64 = value.parse().unwrap();
        if ends.iter().any(|end| name.ends_with(end)) && value > 0.0 {
            series.insert(line(name, &labels), value as u64);
        }
    }
    series
}

/// A proxy that asks for schemas, and some roles.
struct Bench {
    server: Arc<Server>,
    proxy: Proxy,
    roles: Vec<String>,
    truth: Truth,
}

impl Bench {
    fn new(mode: &str, settings: &[(&str, &str)], metrics: &str) -> Self {
        let server = Server::own_with(settings);
        server.superuser(DATABASE).run(SCHEMAS);
        let roles: Vec<String> = (0..3).map(|_| server.role()).collect();
        let users: String =
            roles.iter().map(|role| format!("[users.{role}]\npassword = \"{PASSWORD}\"\n")).collect();
        let text = format!(
            "[proxy]\nworkers = 2\n[metrics]\n{metrics}\n{users}[[routes]]\nmode = \"{mode}\"\npool_size = 4\n"
        );
        let proxy = Proxy::serve(configuration(server.address(), &text));
        let mut bench = Self { server, proxy, roles, truth: Truth::default() };
        for role in bench.roles.clone() {
            let mut client = bench.login(&role, &[]);
            bench.run(&mut client, &role, "SELECT 1", "none select");
        }
        until("the schemas are known", || {
            bench.proxy.metric("firepool_catalogue_names", &bench.roles[2]) > 0.0
        });
        bench
    }

    fn login(&self, role: &str, more: &[(&str, &str)]) -> Raw {
        Raw::login(self.proxy.address, role, DATABASE, more).unwrap()
    }

    #[track_caller]
    fn run(&mut self, client: &mut Raw, role: &str, sql: &str, statements: &str) {
        let reply = client.query(sql);
        self.truth.heard(role, statements, &reply);
    }

    #[track_caller]
    fn batch(&mut self, client: &mut Raw, role: &str, messages: &[Vec<u8>], statements: &str) {
        let reply = client.batch(messages);
        self.truth.heard(role, statements, &reply);
    }

    /// Counters move before the client has its reply, so there is nothing to wait for.
    #[track_caller]
    fn compare(&self) {
        self.truth.compare(&self.proxy);
    }
}

pub fn counters_by_schema_are_what_the_clients_counted() {
    for mode in ["transaction", "session"] {
        let mut bench = Bench::new(mode, &[], "");
        let [writer, reader, broker] = [0, 1, 2].map(|n| bench.roles[n].clone());
        for round in 0..20 {
            simple(&mut bench, &writer, round);
            extended(&mut bench, &reader, round);
            pipelined(&mut bench, &broker, round);
        }
        failures(&mut bench, &writer);
        copies(&mut bench, &writer);
        bench.compare();
    }
}

fn simple(bench: &mut Bench, role: &str, round: usize) {
    let mut client = bench.login(role, &[]);
    let c = &mut client;
    bench.run(c, role, "INSERT INTO wm.working_memory (name) VALUES ('a'), ('b')", "wm insert");
    bench.run(c, role, "SELECT * FROM wm.working_memory LIMIT 3", "wm select");
    let upsert = format!(
        "INSERT INTO entity.node VALUES ({round}, 'person', '{{}}') ON CONFLICT (id) DO UPDATE SET data = excluded.data"
    );
    bench.run(c, role, &upsert, "entity insert");
    bench.run(
        c,
        role,
        "SELECT * FROM entity.node n, wm.working_memory m WHERE n.id = m.id",
        "entity,wm select",
    );
    bench.run(c, role, "WITH node AS (SELECT 1 AS x) SELECT * FROM node", "none select");
    bench.run(
        c,
        role,
        "BEGIN; UPDATE wm.working_memory SET memory_type = 'x' WHERE id < 3; DELETE FROM entity.edge; COMMIT",
        "none transaction; wm update; entity delete; none transaction",
    );
    bench.run(
        c,
        role,
        "SELECT count(*), now() FROM entity.node_1; SELECT 2; TABLE wm.log",
        "entity select; none select; wm select",
    );
    bench.run(c, role, "EXPLAIN SELECT * FROM wm.log", "wm utility");
    bench.run(c, role, "SELECT * FROM pg_class WHERE false", "pg_catalog select");
    bench.run(c, role, "SELECT * FROM information_schema.tables WHERE false", "information_schema select");
    bench.run(c, role, "", "");
}

fn extended(bench: &mut Bench, role: &str, round: usize) {
    let path = if round.is_multiple_of(2) { "wm" } else { "entity" };
    let mut client = bench.login(role, &[("options", &format!("-c search_path={path},public"))]);
    let (c, here) = (&mut client, path);
    let first = format!("{here} insert");
    bench.batch(c, role, &[unnamed("INSERT INTO log VALUES ($1), ($1)", &["x"]), sync()], &first);
    bench.batch(c, role, &[parse("s", "SELECT * FROM log WHERE line <> $1 LIMIT 5"), sync()], "");
    for _ in 0..3 {
        let execute = [bind("", "s", &["y"]), describe(b'P', ""), execute("", 0), sync()];
        bench.batch(c, role, &execute, &format!("{here} select"));
    }
    // The other path, for the session and for a transaction.
    let (other, back) = if path == "wm" { ("entity", "wm") } else { ("wm", "entity") };
    bench.run(c, role, &format!("SET search_path = {other}"), "none utility");
    bench.run(c, role, "TABLE log LIMIT 1", &format!("{other} select"));
    bench.run(c, role, "BEGIN", "none transaction");
    bench.run(c, role, &format!("SET LOCAL search_path = {back}"), "none utility");
    bench.run(c, role, "TABLE log LIMIT 1", &format!("{back} select"));
    bench.run(c, role, "COMMIT", "none transaction");
    bench.run(c, role, "TABLE log LIMIT 1", &format!("{other} select"));
    // Portals that are executed in turn, and one that is not read to its end.
    let portals = [
        vec![unnamed("BEGIN", &[])],
        vec![parse("n", "SELECT generate_series(1, 5) FROM entity.node LIMIT 5"), bind("p", "n", &[])],
        vec![parse("m", "SELECT id FROM brk_registry.model"), bind("q", "m", &[])],
        vec![execute("q", 0), execute("p", 0), unnamed("COMMIT", &[]), sync()],
    ];
    bench.batch(
        c,
        role,
        &portals.concat(),
        "none transaction; brk_registry select; entity select; none transaction",
    );
}

fn pipelined(bench: &mut Bench, role: &str, round: usize) {
    let mut client = bench.login(role, &[]);
    let insert = "INSERT INTO brk_tracking.broker_request (status) VALUES ($1)";
    let batches: Vec<Vec<u8>> = (0..30)
        .map(|n| match n % 3 {
            0 => [unnamed(insert, &["done"]), sync()].concat(),
            1 => query("SELECT m.name FROM brk_registry.model m; SELECT * FROM entity.connected(1)"),
            _ => [unnamed("SELECT entity.connected($1), $2 FROM brk_registry.model", &["1", "2"]), sync()]
                .concat(),
        })
        .collect();
    client.send(&batches.concat());
    for n in 0..30 {
        let reply = client.reply();
        let statements = match n % 3 {
            0 => "brk_tracking insert",
            1 => "brk_registry select; entity select",
            _ => "entity,brk_registry select",
        };
        bench.truth.heard(role, statements, &reply);
    }
    // One of several in a batch fails: what follows is skipped.
    let messages = [
        unnamed(insert, &["a"]),
        unnamed("SELECT 1 / $1::int FROM brk_registry.model", &["0"]),
        unnamed("SELECT * FROM wm.log", &[]),
        sync(),
    ];
    bench.batch(&mut client, role, &messages, "brk_tracking insert; brk_registry select");
    if round == 0 {
        bench.run(&mut client, role, "PREPARE p AS SELECT * FROM brk_registry.model", "brk_registry utility");
        bench.run(&mut client, role, "EXECUTE p", "brk_registry select");
        bench.run(&mut client, role, "DEALLOCATE p", "none utility");
    }
}

fn failures(bench: &mut Bench, role: &str) {
    let mut client = bench.login(role, &[]);
    let c = &mut client;
    bench.run(c, role, "INSERT INTO wm.working_memory (name) VALUES (NULL)", "wm insert");
    bench.run(c, role, "SELECT * FROM wm.missing", "wm select");
    bench.run(c, role, "SELECT * FROM nowhere.t", "other select");
    bench.run(c, role, "SELEC 1", "none unknown");
    bench.run(
        c,
        role,
        "SELECT 1; SELECT * FROM wm.log; SELECT 1/0 FROM entity.node; SELECT 2",
        "none select; wm select; entity select; none select",
    );
    bench.batch(c, role, &[unnamed("SELECT * FROM wm.missing", &[]), sync()], "wm select");
    bench.batch(
        c,
        role,
        &[unnamed("SELECT * FROM entity.node WHERE id = $1", &["x"]), sync()],
        "entity select",
    );
}

fn copies(bench: &mut Bench, role: &str) {
    let mut client = bench.login(role, &[("options", "-c search_path=entity")]);
    client.send(&query("COPY wm.log FROM STDIN"));
    assert_eq!(client.reply_until(b'G').tags(), "G");
    client.send(&[copy_data(b"1\n2\n3\n"), copy_done()].concat());
    let reply = client.reply();
    bench.truth.heard(role, "wm copy", &reply);
    bench.run(&mut client, role, "COPY (SELECT * FROM wm.log, edge LIMIT 9) TO STDOUT", "wm,entity copy");
    bench.run(&mut client, role, "COPY log TO STDOUT", "entity copy");
    client.send(&query("COPY log FROM STDIN"));
    client.reply_until(b'G');
    client.send(&copy_fail("enough"));
    let reply = client.reply();
    bench.truth.heard(role, "entity copy", &reply);
}

pub fn what_is_made_through_the_proxy_is_known_soon() {
    let mut bench = Bench::new("transaction", &[], "");
    let role = bench.roles[0].clone();
    let mut client = bench.login(&role, &[("options", "-c search_path=wm")]);
    let known = bench.proxy.metric("firepool_catalogue_names", &role);
    bench.run(&mut client, &role, "CREATE TABLE fresh (id int)", "wm ddl");
    until("the new table is known", || bench.proxy.metric("firepool_catalogue_names", &role) > known);
    bench.run(&mut client, &role, "INSERT INTO fresh VALUES (1), (2)", "wm insert");
    let mut admin = bench.server.superuser(DATABASE);
    let asking =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_namespace%' AND pid <> pg_backend_pid()";
    until("the connection that asked is closed", || admin.value(asking) == "0");
    bench.compare();
}

pub fn schemas_beyond_the_limit_are_others_and_configured_ones_are_known_without_asking() {
    let mut bench = Bench::new("transaction", &[], "schemas = [\"entity\"]\nmax_schemas = 2");
    let role = bench.roles[0].clone();
    let mut client = bench.login(&role, &[]);
    // `public` is older than the others.
    bench.run(&mut client, &role, "SELECT * FROM entity.node", "entity select");
    bench.run(&mut client, &role, "SELECT * FROM wm.log, brk_registry.model", "other select");
    bench.compare();
    let schema = |name: &str| bench.proxy.get("/metrics").1.contains(&format!("schema=\"{name}\""));
    assert!(schema("entity") && !schema("wm"));
    let text = format!(
        "[metrics]\nrefresh = \"0s\"\nschemas = [\"wm\"]\n[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\n"
    );
    let proxy = Proxy::serve(configuration(bench.server.address(), &text));
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    client.run("SELECT * FROM wm.log");
    client.run("SELECT * FROM entity.node");
    let count =
        |schema: &str| proxy.metric("firepool_schema_statements_total", &format!("schema=\"{schema}\""));
    assert_eq!(["wm", "entity", "none"].map(count), [1.0, 0.0, 1.0]);
}

pub fn counters_agree_with_pg_stat_statements() {
    let mut bench = Bench::new("transaction", &[("shared_preload_libraries", "pg_stat_statements")], "");
    let mut admin = bench.server.superuser(DATABASE);
    admin.run("CREATE EXTENSION pg_stat_statements");
    let role = bench.roles[2].clone();
    for round in 0..10 {
        pipelined(&mut bench, &role, round);
    }
    for schema in ["brk_tracking", "brk_registry", "entity"] {
        let of = format!(
            "FROM pg_stat_statements WHERE query ~ '{schema}\\.' AND query ~* '^(select|insert)' \
             AND userid = (SELECT oid FROM pg_roles WHERE rolname = '{role}')"
        );
        let seen = admin.run(&format!("SELECT sum(calls), sum(rows) {of}"));
        let told = ["statements", "rows"].map(|what| {
            let name = format!("firepool_schema_{what}_total");
            let page = bench.proxy.get("/metrics").1;
            let samples = page.lines().filter(|sample| {
                sample.starts_with(&name) && sample.contains(&format!("schema=\"{schema}\""))
            });
            let counted =
                samples.filter(|sample| sample.contains("\"select\"") || sample.contains("\"insert\""));
            counted
                .map(|sample| sample.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum::<f64>()
                .to_string()
        });
        // EXECUTE runs what PREPARE says, which is how pg_stat_statements knows it.
        let executed = admin.run(&format!(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(rows), 0) FROM pg_stat_statements WHERE query ~* '^prepare' AND query ~ '{schema}\\.'"
        ));
        let add = |place: usize| {
            let number = |rows: &[Vec<String>]| rows[0][place].parse::<u64>().unwrap();
            (number(&seen) + number(&executed)).to_string()
        };
        assert_eq!(told, [add(0), add(1)], "{schema}: {seen:?} {executed:?}");
    }
    bench.compare();
}

pub fn a_read_only_route_counts_what_it_lets_through_and_no_refusal_of_its_own() {
    for (mode, access) in
        [("transaction", "read-only"), ("session", "read-only"), ("transaction", "read-only-strict")]
    {
        let mut bench = Bench::new(&format!("{mode}\"\naccess = \"{access}"), &[], "");
        let role = bench.roles[1].clone();
        let mut client = bench.login(&role, &[("options", "-c search_path=entity")]);
        let c = &mut client;
        bench.run(c, &role, "TABLE log", "entity select");
        bench.run(
            c,
            &role,
            "BEGIN; SELECT * FROM wm.log; COMMIT",
            "none transaction; wm select; none transaction",
        );
        bench.batch(
            c,
            &role,
            &[unnamed("SELECT * FROM node WHERE id = $1", &["1"]), sync()],
            "entity select",
        );
        bench.batch(c, &role, &[parse("s", "SELECT id FROM brk_registry.model"), sync()], "");
        for _ in 0..5 {
            bench.batch(c, &role, &[bind("", "s", &[]), execute("", 0), sync()], "brk_registry select");
        }
        assert_eq!(c.query("INSERT INTO wm.log VALUES ('x')").code(), "25006");
        assert_eq!(c.batch(&[unnamed("DELETE FROM wm.log", &[]), sync()]).code(), "25006");
        bench.run(c, &role, "SELECT * FROM wm.missing", "wm select");
        bench.compare();
    }
}

pub fn a_wait_for_a_server_connection_is_counted_under_the_schema_of_what_waited() {
    let mut bench = Bench::new("transaction", &[], "");
    let role = bench.roles[0].clone();
    let mut holders: Vec<Raw> = (0..4).map(|_| bench.login(&role, &[])).collect();
    for holder in &mut holders {
        bench.run(holder, &role, "BEGIN", "none transaction");
    }
    let mut waiting = bench.login(&role, &[]);
    waiting.send(&query("SELECT * FROM wm.log"));
    until("the client waits", || bench.proxy.metric("firepool_clients", "waiting") == 1.0);
    for holder in &mut holders {
        bench.run(holder, &role, "COMMIT", "none transaction");
    }
    let reply = waiting.reply();
    bench.truth.heard(&role, "wm select", &reply);
    bench.compare();
    let count = |schema: &str| {
        bench.proxy.metric("firepool_schema_wait_seconds_count", &format!("{role}\",schema=\"{schema}\""))
    };
    assert_eq!((count("wm"), count("entity")), (1.0, 0.0));
}
