//! Read-only routes hold: whatever a client sends, in whatever way, nothing changes, though its role owns the tables or is
//! a superuser; and what only reads is let through.
//!
//! The cases are in `guard/refused.txt` and `guard/allowed.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::fixture::{Fixture, Lines};
use crate::support::messages::{self as msg};
use crate::support::raw::{Raw, Reply};
use crate::support::server::{DATABASE, PASSWORD, Server};

/// `read_only_sql_transaction`
const READ_ONLY: &str = "25006";

/// How many large objects were numbered.
static OBJECTS: AtomicU32 = AtomicU32::new(0);

const ROUTE: &str = "access = \"read-only\"\npool_size = 3";

/// One case of the corpus.
#[derive(Debug)]
pub struct Case {
    /// The heading that it stands under, and its line.
    pub group: &'static str,
    pub line: usize,
    /// It goes as simple queries only.
    pub simple: bool,
    pub steps: Vec<&'static str>,
}

/// The cases of a file.
pub fn cases(text: &'static str) -> Vec<Case> {
    let (mut group, mut simple, mut cases) = ("", false, Vec::<Case>::new());
    let mut starts: Vec<(usize, usize, usize)> = Vec::new();
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match line.as_bytes()[0] {
            b'#' | b'\n' => {}
            b'=' => {}
            b' ' | b'\t' => starts.last_mut().unwrap().1 = at + line.trim_end().len(),
            _ => starts.push((at, at + line.trim_end().len(), number + 1)),
        }
        if let Some(heading) = line.strip_prefix("== ") {
            take(text, &mut starts, (group, simple), &mut cases);
            let mut words = heading.split_whitespace();
            (group, simple) = (words.next().unwrap(), words.next() == Some("simple"));
        }
        at += line.len();
    }
    take(text, &mut starts, (group, simple), &mut cases);
    cases
}

fn take(
    text: &'static str,
    starts: &mut Vec<(usize, usize, usize)>,
    (group, simple): (&'static str, bool),
    cases: &mut Vec<Case>,
) {
    for (start, end, line) in starts.drain(..) {
        cases.push(Case { group, line, simple, steps: text[start..end].split(" ;;; ").collect() });
    }
}

/// Tables of a role's own, a proxy in front of them, and an eye on everything that could change.
struct Ground {
    fixture: Fixture,
    admin: Raw,
    folder: PathBuf,
    /// Its large object.
    object: u32,
    /// Nothing was taken away yet, so that all of the state can be read.
    whole: bool,
}

impl Ground {
    fn new(server: &Arc<Server>, route: &str) -> Self {
        let fixture = Fixture::on(Arc::clone(server), Lines { route, ..Lines::default() });
        let mut admin = fixture.superuser();
        admin.run("LISTEN corpus");
        let folder =
            std::env::temp_dir().join(format!("firepool-guard-{}-{}", std::process::id(), fixture.role));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let object = 70_001 + OBJECTS.fetch_add(1, Ordering::Relaxed);
        let mut ground = Self { fixture, admin, folder, object, whole: true };
        ground.fill();
        ground.state();
        ground.whole = false;
        ground
    }

    /// Makes everything anew.
    fn fill(&mut self) {
        let (role, object) = (&self.fixture.role, self.object);
        let schema = format!(
            "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE lomowner = '{role}'::regrole; DROP SCHEMA IF EXISTS {role} CASCADE;
             CREATE SCHEMA AUTHORIZATION {role}; SET SESSION AUTHORIZATION {role};
             CREATE TABLE t (i int PRIMARY KEY, s text);
             INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL);
             CREATE TABLE u (i int); INSERT INTO u VALUES (2), (4);
             CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT 1 AS i; CREATE SEQUENCE q;
             CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t';
             CREATE FUNCTION reads_row(t) RETURNS text LANGUAGE sql AS 'SELECT $1.s';
             CREATE FUNCTION writes() RETURNS int LANGUAGE sql
               AS 'INSERT INTO t SELECT max(i) + 1, ''w'' FROM t RETURNING i';
             CREATE PROCEDURE proc() LANGUAGE sql AS 'DELETE FROM t';
             CREATE PROCEDURE proc_sets() LANGUAGE plpgsql
               AS 'BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM t; COMMIT; END';
             SELECT lo_from_bytea({object}, 'large'); RESET SESSION AUTHORIZATION"
        );
        self.admin.run(&schema);
        for entry in fs::read_dir(&self.folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Everything that a client could change, in words.
    fn state(&mut self) -> String {
        let role = &self.fixture.role;
        let listed = |what: &str, from: &str| {
            format!("(SELECT coalesce(string_agg({what}, ' ' ORDER BY {what}), '') FROM {from})")
        };
        let columns = [
            listed("x::text", &format!("{role}.t AS x")),
            listed("x::text", &format!("{role}.u AS x")),
            listed("x::text", &format!("{role}.m AS x")),
            format!("(SELECT (last_value, is_called)::text FROM {role}.q)"),
            listed("(oid, md5(lo_get(oid)))::text", "pg_largeobject_metadata"),
            listed(
                "(oid, relname, relowner, relacl, relchecks, relhasrules, relhastriggers, relrowsecurity)::text",
                "pg_class WHERE oid >= 16384",
            ),
            listed("(oid, proname, prosrc, proacl)::text", "pg_proc WHERE oid >= 16384"),
            listed("(oid, typname)::text", "pg_type WHERE oid >= 16384"),
            listed("(oid, nspname, nspacl)::text", "pg_namespace"),
            listed("(oid, rolname, rolsuper, rolcreatedb)::text", "pg_roles"),
            listed("(oid, datname, datacl)::text", "pg_database"),
            listed("x::text", "pg_db_role_setting AS x"),
            listed("x::text", "pg_description AS x WHERE objoid >= 16384"),
            listed("gid", "pg_prepared_xacts"),
            listed("slot_name", "pg_replication_slots"),
            listed("roname", "pg_replication_origin"),
            listed("extname", "pg_extension"),
            listed("x::text", "pg_default_acl AS x"),
            "(SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory')".to_owned(),
            listed("coalesce(stats_reset::text, '')", "pg_stat_database WHERE datname = current_database()"),
            "(SELECT stats_reset::text FROM pg_stat_bgwriter)".to_owned(),
            "pg_conf_load_time()::text".to_owned(),
            "coalesce(pg_read_file('postgresql.auto.conf', 0, 100000, true), '')".to_owned(),
            format!("(SELECT count(attname)::text FROM pg_attribute WHERE attrelid = '{role}.t'::regclass)"),
        ];
        let reply = self.admin.query(&format!("SELECT {}", columns.join(", ")));
        let rows =
            reply.failure().map_or_else(|| reply.rows().concat().join("\n"), |failure| failure.message);
        assert!(!self.whole || reply.failure().is_none(), "{rows}");
        let heard = reply.messages.iter().filter(|message| message.tag == b'A').count();
        let files = fs::read_dir(&self.folder).unwrap().count();
        format!("{rows}\nnotifications {heard}, files {files}")
    }

    fn text(&self, step: &str) -> String {
        let address = self.fixture.server.address();
        let role = &self.fixture.role;
        let (host, port) = (address.ip(), address.port());
        let dsn = format!("host={host} port={port} user={role} password={PASSWORD} dbname={DATABASE}");
        let step = step.replace("{lo}", &self.object.to_string());
        step.replace("{role}", role).replace("{dir}", self.folder.to_str().unwrap()).replace("{dsn}", &dsn)
    }

    /// A client through the proxy, or beside it in PostgreSQL's own read-only mode.
    fn client(&self, direct: bool) -> Raw {
        if direct {
            let more = [("default_transaction_read_only", "on")];
            return Raw::login(self.fixture.server.address(), &self.fixture.role, DATABASE, &more).unwrap();
        }
        self.fixture.client()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let role = &self.fixture.role;
        let _ = self.admin.query(&format!("SELECT lo_unlink({})", self.object));
        let _ = self.admin.query(&format!("ALTER ROLE {role} NOSUPERUSER"));
    }
}

/// The ways in which a client can send one statement.
const WAYS: [&str; 4] = ["simple", "unnamed", "named", "pipelined"];

/// Sends a case in one of them, and returns the last reply.
fn send(client: &mut Raw, texts: &[String], way: &str) -> Reply {
    let (last, before) = texts.split_last().unwrap();
    for text in before {
        client.query(text);
    }
    match way {
        "simple" => client.query(last),
        "unnamed" => client.batch(&[msg::unnamed(last, &[]), msg::sync()]),
        "named" => {
            client.send(&[msg::close(b'S', "n"), msg::parse("n", last), msg::sync()].concat());
            let parsed = client.reply();
            if parsed.failure().is_some() {
                return parsed;
            }
            client.batch(&[
                msg::bind("", "n", &[]),
                msg::describe(b'P', ""),
                msg::execute("", 0),
                msg::sync(),
            ])
        }
        _ => {
            let batch =
                [msg::unnamed("SELECT 41", &[]), msg::unnamed(last, &[]), msg::unnamed("SELECT 42", &[])];
            client.batch(&[batch.concat(), msg::sync()])
        }
    }
}

fn is_ended(reply: &Reply) -> bool {
    reply.ended
}

/// Every refused case in every way, as a role with these rights.
fn refused_cases_change_nothing(attributes: &str) {
    let server = Server::own_with(&[("max_prepared_transactions", "5")]);
    let mut ground = Ground::new(&server, ROUTE);
    let role = ground.fixture.role.clone();
    ground.admin.run(&format!("ALTER ROLE {role} {attributes}"));
    let before = ground.state();
    let mut bystander = ground.client(false);
    let mut client = ground.client(false);
    let mut wrong = Vec::new();
    let all = cases(include_str!("guard/refused.txt"));
    assert!(all.len() >= 300, "{}", all.len());
    for case in all {
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        let ways = if case.simple { &WAYS[..1] } else { &WAYS[..] };
        for way in if matches!(case.group, "startup" | "call") { &["-"][..] } else { ways } {
            let code = match case.group {
                "startup" => {
                    let (name, value) = texts[0].split_once('=').unwrap();
                    ground
                        .fixture
                        .login(&[(name, value)])
                        .err()
                        .map(|failure| failure.code)
                        .unwrap_or_default()
                }
                "call" => {
                    let mut words = texts[0].split(' ');
                    let function = words.next().unwrap().parse().unwrap();
                    client.send(&msg::function_call(function, &words.collect::<Vec<_>>()));
                    client.reply().code()
                }
                _ => {
                    let reply = send(&mut client, &texts, way);
                    if *way == "pipelined" {
                        assert!(
                            !format!("{:?}", reply.rows()).contains("42"),
                            "{case:?}: what follows has run"
                        );
                    }
                    if is_ended(&reply) { "the session ended".to_owned() } else { reply.code() }
                }
            };
            if code == "the session ended" {
                client = ground.client(false);
            }
            client.query("ROLLBACK");
            let written = client.query("SELECT writes()").code();
            client.query("DISCARD ALL");
            let after = ground.state();
            if code != READ_ONLY || written != READ_ONLY || after != before {
                let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
                wrong.push(format!(
                    "line {} {way} {:?}: answered {code:?}, then a write {written:?}; changed {changed:?}",
                    case.line, case.steps
                ));
                ground.fill();
            }
            assert_eq!(bystander.query("SELECT 1").code(), "", "{case:?} {way}: another's session ended");
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

pub fn what_is_refused_changes_nothing_though_the_role_owns_the_tables() {
    refused_cases_change_nothing("NOSUPERUSER");
}

pub fn what_is_refused_changes_nothing_though_the_role_is_a_superuser() {
    refused_cases_change_nothing("SUPERUSER");
}

/// What only reads is let through in every way, and answers as it does without a proxy.
pub fn what_only_reads_is_let_through() {
    let server = Server::own();
    let ground = Ground::new(&server, ROUTE);
    let (mut client, mut direct) = (ground.client(false), ground.client(true));
    let mut wrong = Vec::new();
    let all = cases(include_str!("guard/allowed.txt"));
    assert!(all.len() >= 150, "{}", all.len());
    for case in all {
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        if case.group == "startup" {
            let (name, value) = texts[0].split_once('=').unwrap();
            let mode = ground.fixture.login(&[(name, value)]).unwrap().value("SHOW transaction_read_only");
            assert_eq!(mode, "on", "{case:?}");
            continue;
        }
        for way in if case.simple { &WAYS[..1] } else { &WAYS[..3] } {
            for step in 0..texts.len() {
                let text = &texts[step..=step];
                let (ours, theirs) = (send(&mut client, text, way), send(&mut direct, text, way));
                if ours.code() != theirs.code() || ours.tags() != theirs.tags() {
                    wrong.push(format!("line {} {way} {text:?}: {ours:?}\ndirectly: {theirs:?}", case.line));
                }
                assert_eq!(theirs.code(), "", "{case:?} is wrong itself");
                assert_eq!(ours.status(), theirs.status(), "{case:?}");
            }
            for client in [&mut client, &mut direct] {
                client.query("ROLLBACK");
                client.query("DISCARD ALL");
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What PostgreSQL's own mode lets through, so that it is known what the guard is for.
pub fn postgresqls_own_mode_leaves_holes_that_the_guard_closes() {
    let server = Server::own_with(&[("max_prepared_transactions", "5")]);
    let mut ground = Ground::new(&server, ROUTE);
    let mut groups = BTreeMap::<&str, [usize; 3]>::new();
    for case in cases(include_str!("guard/refused.txt")) {
        if matches!(case.group, "startup" | "call") {
            continue;
        }
        let before = ground.state();
        let mut client = ground.client(true);
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        let reply = send(&mut client, &texts, "simple");
        let passed = reply.code().is_empty() || is_ended(&reply);
        if is_ended(&reply) {
            client = ground.client(true);
        }
        client.query("COMMIT");
        let written = client.query("SELECT writes()").code().is_empty();
        drop(client);
        let changed = ground.state() != before;
        let counts = groups.entry(case.group).or_default();
        for (count, is) in counts.iter_mut().zip([true, passed, written || changed]) {
            *count += usize::from(is);
        }
        if changed {
            ground.admin.query("ROLLBACK PREPARED 'x'");
            ground.fill();
        }
    }
    println!("PostgreSQL's own read-only mode, for the owner of the tables:");
    println!("{:16}{:>8}{:>12}{:>12}", "rule", "cases", "let through", "of effect");
    for (group, [cases, passed, changed]) in &groups {
        println!("{group:16}{cases:>8}{passed:>12}{changed:>12}");
    }
    let holes: usize = groups.values().map(|[_, _, changed]| changed).sum();
    assert!(holes > 50, "PostgreSQL leaves {holes} holes: are the cases still what they were?");
}

/// The transaction status that the client sees is what PostgreSQL shows after an error.
pub fn a_refusal_fails_the_transaction_as_an_error_of_postgresqls_would() {
    let server = Server::shared();
    let ground = Ground::new(&server, ROUTE);
    let (mut client, mut direct) = (ground.client(false), ground.client(true));
    for texts in [
        &["DELETE FROM t"][..],
        &["BEGIN", "DELETE FROM t", "SELECT 1", "COMMIT"],
        &["BEGIN", "SAVEPOINT a", "DELETE FROM t", "ROLLBACK TO a", "SELECT 1", "COMMIT"],
        &["SELECT 1; DELETE FROM t; SELECT 2"],
        &["BEGIN; SELECT 1; DELETE FROM t; COMMIT", "SELECT 1", "ROLLBACK"],
        &["BEGIN", "COMMIT; DELETE FROM t", "SELECT 1"],
        &["BEGIN", "COMMIT; BEGIN; DELETE FROM t", "DELETE FROM t", "END"],
        &["SELECT 1/0; DELETE FROM t"],
        &["BEGIN; SELECT 1/0; DELETE FROM t", "DELETE FROM t", "ROLLBACK; DELETE FROM t; BEGIN"],
        &["BEGIN READ ONLY; DELETE FROM t", "COMMIT"],
        &["SELECT 'é'; BEGIN; DELETE FROM t", "ROLLBACK"],
        &[
            "SET work_mem = '9MB'; DELETE FROM t",
            "SHOW work_mem",
            "SET work_mem = '9MB'; COMMIT; DELETE FROM t",
            "SHOW work_mem",
        ],
    ] {
        for text in texts {
            let (ours, theirs) = (client.query(text), direct.query(text));
            assert_eq!(
                (ours.tags(), ours.code(), ours.status()),
                (theirs.tags(), theirs.code(), theirs.status()),
                "{text} of {texts:?}"
            );
            assert_eq!(ours.rows(), theirs.rows(), "{text} of {texts:?}");
        }
    }
    let batch = |sql: &[&str]| {
        let statements: Vec<_> = sql.iter().map(|sql| msg::unnamed(sql, &[])).collect();
        [statements.concat(), msg::sync()].concat()
    };
    for batches in [
        &[&["SELECT 1", "DELETE FROM t", "SELECT 2"][..], &["SELECT 3"]][..],
        &[&["BEGIN", "SELECT 1"], &["DELETE FROM t", "COMMIT"], &["SELECT 1"], &["ROLLBACK"]],
        &[&["BEGIN READ WRITE", "SELECT 1", "COMMIT"], &["SELECT 2"]],
        &[&["SELECT 1/0", "DELETE FROM t"], &["DELETE FROM t"], &["SELECT 1"]],
    ] {
        let all: Vec<_> = batches.iter().map(|statements| batch(statements)).collect();
        client.send(&all.concat());
        direct.send(&all.concat());
        for _ in batches {
            let (ours, theirs) = (client.reply(), direct.reply());
            assert_eq!(ours.code(), theirs.code(), "{batches:?}");
            assert_eq!((ours.commands(), ours.status()), (theirs.commands(), theirs.status()), "{batches:?}");
        }
    }
    let refused = client.query("INSERT INTO t VALUES (1); SELECT 1").failure().unwrap();
    assert_eq!(refused.message, "cannot execute INSERT in a read-only route");
    assert_eq!(refused.detail, "The proxy refused it under the rule \"write\".");
    assert_eq!(client.query("SELEC 1").failure().unwrap().message, "syntax error at or near \"SELEC\"");
}

/// A function that leaves the mode from inside is closed out by what the server reports.
pub fn a_connection_that_leaves_the_mode_is_closed_and_its_client_told() {
    let server = Server::shared();
    let mut ground = Ground::new(&server, ROUTE);
    let role = ground.fixture.role.clone();
    for (setting, value) in [
        ("default_transaction_read_only", "off"),
        ("standard_conforming_strings", "off"),
        ("client_encoding", "SJIS"),
    ] {
        ground.admin.run(&format!(
            "CREATE OR REPLACE FUNCTION {role}.leaves() RETURNS text LANGUAGE sql
               AS $$ SELECT set_config('{setting}', '{value}', false) $$"
        ));
        let mut client = ground.client(false);
        client.send(&msg::query("SELECT leaves()"));
        let farewell = client.farewell();
        assert_eq!((farewell.severity.as_str(), farewell.code.as_str()), ("FATAL", READ_ONLY), "{setting}");
        let mut next = ground.client(false);
        assert_eq!(
            next.value(&format!("SHOW {setting}")),
            if setting.starts_with('c') { "UTF8" } else { "on" }
        );
    }
}

/// What a route says of notifications and functions.
pub fn a_route_may_allow_to_notify_and_list_its_functions() {
    let server = Server::shared();
    let ground = Ground::new(&server, &format!("{ROUTE}\nallow_notify = true\nfunctions = [\"reads\"]"));
    let mut client = ground.client(false);
    client.run("LISTEN mine");
    assert_eq!(client.query("NOTIFY mine, 'x'").code(), "");
    assert_eq!(client.query("SELECT pg_notify('mine', 'x')").code(), "");
    assert_eq!(client.value("SELECT reads()"), "3");
    for text in [
        "SELECT writes()",
        "SELECT public.reads()",
        "SELECT reads(), writes()",
        "SELECT reads(); SELECT writes()",
    ] {
        let failure = client.query(text).failure().unwrap();
        assert_eq!((failure.code.as_str(), failure.message.contains("()")), (READ_ONLY, true), "{text}");
        assert!(failure.detail.contains("unlisted_function"), "{failure:?}");
    }
    assert_eq!(client.query("SELECT count(*), lower(s) FROM t GROUP BY 2").code(), "");
}

/// Refusals are counted by route and rule.
pub fn refusals_are_counted_by_rule() {
    let server = Server::shared();
    let ground = Ground::new(&server, ROUTE);
    let mut client = ground.client(false);
    for text in ["DELETE FROM t", "TRUNCATE t", "DO 'BEGIN END'", "SELECT 1"] {
        client.query(text);
    }
    let count = |rule: &str| {
        let label = format!("user=\"{}\",rule=\"{rule}\"", ground.fixture.role);
        ground.fixture.proxy.metric("firepool_guard_refusals_total", &label)
    };
    assert_eq!((count("write"), count("procedure"), count("copy")), (2.0, 1.0, 0.0));
}

/// A text that is too long to be read does not go to the server, and what follows it does.
pub fn a_text_that_is_too_long_is_refused() {
    let server = Server::own();
    let mut ground = Ground::new(&server, ROUTE);
    let before = ground.state();
    let mut client = ground.client(false);
    for length in [50_000, 70_000, 500_000, 5_000_000] {
        let text = format!("DELETE FROM t; -- {}", "x".repeat(length));
        assert_eq!(client.query(&text).code(), READ_ONLY);
        let batch = [msg::unnamed(&text, &[]), msg::unnamed("SELECT writes()", &[]), msg::sync()];
        assert_eq!(client.batch(&batch).code(), READ_ONLY);
        client.send(&[msg::query(&text), msg::query("SELECT 7"), msg::query(&text)].concat());
        assert_eq!(client.reply().code(), READ_ONLY);
        assert_eq!(client.reply().rows(), [["7"]]);
        assert_eq!(client.reply().code(), READ_ONLY);
    }
    assert_eq!(ground.state(), before);
}

/// In session mode as well, and in statement mode.
pub fn every_mode_of_a_pool_is_guarded() {
    let server = Server::own();
    for mode in ["session", "statement"] {
        let mut ground = Ground::new(&server, &format!("access = \"read-only\"\nmode = \"{mode}\""));
        let before = ground.state();
        let mut client = ground.client(false);
        for text in
            ["DELETE FROM t", "SET transaction_read_only = off", "SELECT 1; DELETE FROM t", "DO 'BEGIN END'"]
        {
            for way in WAYS {
                let code = send(&mut client, &[text.to_owned()], way).code();
                assert_eq!(code, READ_ONLY, "{mode} {way} {text}");
            }
        }
        client.send(&msg::function_call(957, &["-1"]));
        assert_eq!(client.reply().code(), READ_ONLY);
        if mode == "session" {
            for way in &WAYS[..3] {
                assert_eq!(send(&mut client, &["BEGIN READ WRITE".to_owned()], way).code(), "", "{way}");
                assert_eq!(client.query("SELECT writes()").code(), READ_ONLY, "{way}");
                client.run("ROLLBACK");
            }
            client.run("RESET ALL");
            client.run("DISCARD ALL");
        }
        assert_eq!(client.query("SELECT writes()").code(), READ_ONLY);
        assert_eq!(ground.state(), before, "{mode}");
    }
}
