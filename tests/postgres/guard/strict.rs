//! The strict level: what a client sends runs in transactions of the proxy's, which end with ROLLBACK. So neither what
//! functions do from inside leaves anything, nor views, operators and casts of the database's own.

use super::ground::{Ground, WAYS, cases, send};
use super::refused_cases_change_nothing;
use crate::support::messages::{self as msg};
use crate::support::raw::Raw;
use crate::support::server::Server;

pub const ROUTE: &str = "access = \"read-only-strict\"\npool_size = 3";

/// `feature_not_supported`, with which is refused what would have to last beyond a ROLLBACK.
const UNSUPPORTED: &str = "0A000";

pub fn a_strict_route_refuses_what_another_does_though_the_role_owns_the_tables() {
    refused_cases_change_nothing(ROUTE, "NOSUPERUSER");
}

pub fn a_strict_route_refuses_what_another_does_though_the_role_is_a_superuser() {
    refused_cases_change_nothing(ROUTE, "SUPERUSER");
}

/// What a strict route refuses though it only reads: the last step of a case, and why.
const REFUSED: &[(&str, &str)] = &[
    ("SELECT set_config('my.own', s, false) FROM t", "its value comes from a table, and would have to last"),
    (
        "SELECT set_config(name, '8MB', false) FROM pg_catalog.pg_settings WHERE name IN ('work_mem', 'temp_buffers')",
        "of conditions only one name is understood",
    ),
    (
        "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM t",
        "nothing is committed behind which it could be held",
    ),
    ("DECLARE c BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT 1", "the same"),
    (
        "BEGIN READ WRITE; SELECT 'é', count(*) FROM t; COMMIT; SELECT 1",
        "a statement behind COMMIT in one text",
    ),
];

fn is_listed(text: &str) -> bool {
    REFUSED.iter().any(|(refused, _)| *refused == text)
}

/// What only reads is let through, and answers as it does without a proxy.
pub fn what_only_reads_is_let_through_on_a_strict_route() {
    let server = Server::own();
    let ground = Ground::new(&server, ROUTE);
    let (mut client, mut direct) = (ground.client(false), ground.client(true));
    let (mut wrong, mut listed) = (Vec::new(), Vec::new());
    for case in cases(include_str!("allowed.txt")) {
        let texts: Vec<_> = case.steps.iter().map(|step| ground.text(step)).collect();
        if case.group == "startup" {
            continue;
        }
        for way in if case.simple { &WAYS[..1] } else { &WAYS[..3] } {
            for step in 0..texts.len() {
                let text = &texts[step..=step];
                let ours = send(&mut client, text, way);
                if is_listed(&text[0]) {
                    assert_eq!(ours.code(), UNSUPPORTED, "{text:?} {way} is not refused any more");
                    listed.push(text[0].clone());
                    break;
                }
                let theirs = send(&mut direct, text, way);
                let (tags, status) = (ours.tags().replace('N', ""), ours.status());
                if ours.code() != theirs.code()
                    || tags != theirs.tags().replace('N', "")
                    || status != theirs.status()
                {
                    wrong.push(format!("line {} {way} {text:?}: {ours:?}\ndirectly: {theirs:?}", case.line));
                }
            }
            for client in [&mut client, &mut direct] {
                client.query("ROLLBACK");
                client.query("DISCARD ALL");
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    for (refused, why) in REFUSED {
        assert!(listed.iter().any(|text| text == refused), "{refused}, of which is said: {why}");
    }
}

/// What the default level leaves to the server's mode, and that does not cover it.
const HOLES: &[&str] = &[
    "SELECT resets()",
    "SELECT * FROM resets()",
    "SELECT resets(), i FROM t",
    "WITH w AS MATERIALIZED (SELECT resets()) TABLE w",
    "SELECT mine('transaction_read_only', NULL, true), writes()",
    "SELECT large()",
    "SELECT tells()",
    "TABLE hole",
    "SELECT * FROM hole WHERE i = 1",
    "COPY (SELECT resets()) TO STDOUT",
    "COPY (TABLE hole) TO STDOUT",
    "EXPLAIN ANALYZE SELECT resets()",
    "SELECT 1::numeric ==== 2::numeric",
    "SELECT ROW(1)::pair::text::int",
    "SELECT 7::int8 OPERATOR({role}.=) 7::int8",
    "VALUES (resets())",
    "SELECT CASE WHEN resets() > 0 THEN writes() END",
    "SELECT folded(1)",
    "EXPLAIN SELECT folded(1)",
    "SELECT 1 WHERE resets() > 0",
    "SELECT count(*) FROM t WHERE resets() > 0",
    "SELECT resets() UNION SELECT large()::int",
    "SELECT 1; SELECT resets(); SELECT 2",
    "BEGIN; SELECT resets(); COMMIT",
    "SELECT resets(); COMMIT",
    "SELECT resets(); ROLLBACK",
    "PREPARE p AS SELECT resets(); EXECUTE p; DEALLOCATE p",
    "DECLARE c CURSOR FOR SELECT resets(); FETCH ALL c",
];

/// Functions, operators, a cast and a view that write whatever the mode is.
pub fn dig(ground: &mut Ground) {
    let role = ground.fixture.role.clone();
    ground.admin.run(&format!(
        "SET search_path = {role}; SET SESSION AUTHORIZATION {role};
         CREATE FUNCTION resets() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           SET transaction_read_only TO DEFAULT;
           INSERT INTO {role}.t SELECT max(i) + 1, 'w' FROM {role}.t; RETURN 1; END $$;
         CREATE FUNCTION folded(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
           RETURN {role}.resets(); END $$;
         CREATE FUNCTION mine(text, text, boolean) RETURNS text LANGUAGE sql
           AS 'SELECT set_config($1, $2, $3)';
         CREATE FUNCTION large() RETURNS oid LANGUAGE sql AS 'SELECT lo_create(0)';
         CREATE FUNCTION tells() RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('corpus', 'x') $$;
         CREATE FUNCTION odd(numeric, numeric) RETURNS boolean LANGUAGE sql AS 'SELECT {role}.resets() > 0';
         CREATE FUNCTION odd(int8, int8) RETURNS boolean LANGUAGE sql AS 'SELECT {role}.resets() > 0';
         CREATE OPERATOR ==== (FUNCTION = odd, LEFTARG = numeric, RIGHTARG = numeric);
         CREATE OPERATOR = (FUNCTION = odd, LEFTARG = int8, RIGHTARG = int8);
         CREATE FUNCTION equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT {role}.resets() > 0';
         CREATE OPERATOR = (FUNCTION = equal, LEFTARG = text, RIGHTARG = text);
         CREATE FUNCTION set_config(text, text, boolean) RETURNS text LANGUAGE sql
           AS 'SELECT {role}.resets()::text';
         CREATE FUNCTION runs_all() RETURNS int LANGUAGE plpgsql AS $$ DECLARE n text; BEGIN
           FOR n IN SELECT name FROM pg_prepared_statements LOOP
             EXECUTE 'EXECUTE ' || quote_ident(n);
           END LOOP;
           RETURN 1; END $$;
         CREATE TYPE pair AS (i int);
         CREATE FUNCTION text_of(pair) RETURNS text LANGUAGE sql AS 'SELECT {role}.resets()::text';
         CREATE CAST (pair AS text) WITH FUNCTION text_of(pair);
         CREATE VIEW hole AS SELECT i, resets() FROM t;
         RESET SESSION AUTHORIZATION; RESET search_path"
    ));
}

/// What the strict level is for: without it, most of the holes are of effect.
pub fn what_functions_do_from_inside_is_of_effect_at_the_default_level() {
    let server = Server::own();
    let mut ground = Ground::new(&server, super::ground::ROUTE);
    dig(&mut ground);
    let role = ground.fixture.role.clone();
    let (mut harmless, mut harmful) = (Vec::new(), Vec::new());
    for text in HOLES {
        let before = ground.state();
        let mut client = ground.client(false);
        send(&mut client, &[text.replace("{role}", &role)], "simple");
        drop(client);
        if ground.state() == before { &mut harmless } else { &mut harmful }.push(*text);
    }
    if ground.admin.value("SHOW server_version_num").parse::<u32>().unwrap() >= 160_000 {
        // These let nobody leave the mode once a query has run, and large objects are covered by it.
        assert_eq!(harmful, ["SELECT tells()"]);
    } else {
        // One ends with ROLLBACK of its own.
        assert_eq!(harmless, ["SELECT resets(); ROLLBACK"]);
    }
}

/// Each hole in each way, in the client's transactions and outside of them.
pub fn what_functions_do_from_inside_leaves_nothing_on_a_strict_route() {
    for attributes in ["NOSUPERUSER", "SUPERUSER"] {
        let server = Server::own();
        let mut ground = Ground::new(&server, ROUTE);
        dig(&mut ground);
        let role = ground.fixture.role.clone();
        ground.admin.run(&format!("ALTER ROLE {role} {attributes}"));
        let before = ground.state();
        let mut client = ground.client(false);
        for text in HOLES {
            let text = text.replace("{role}", &role);
            for way in WAYS {
                for (begin, end) in [("", ""), ("BEGIN", "COMMIT"), ("BEGIN", "")] {
                    let mut said = Vec::new();
                    if !begin.is_empty() {
                        client.query(begin);
                    }
                    let reply = send(&mut client, std::slice::from_ref(&text), way);
                    said.push(format!("{reply:?}"));
                    let mut ended = reply.ended;
                    if !end.is_empty() && !ended {
                        ended = client.query(end).ended;
                    }
                    if ended || end.is_empty() {
                        client = ground.client(false);
                    }
                    assert_eq!(ground.state(), before, "{attributes} {way} {begin}: {text}: {said:?}");
                }
            }
        }
        // A search path in which the role's own come before PostgreSQL's.
        for text in [
            "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'application_name'",
            "SELECT set_config('application_name', 'y', false)",
        ] {
            for way in WAYS {
                let mut client = ground.client(false);
                client.run(&format!("SET search_path = {role}, pg_catalog"));
                send(&mut client, &[text.to_owned()], way);
                assert_eq!(ground.state(), before, "{way}: {text}");
            }
        }
    }
}

/// Simple queries that answer as PostgreSQL does, one after the other.
const TEXTS: &[&str] = &[
    "SELECT 1/0",
    "SELECT nobody FROM t",
    "BEGIN",
    "SELECT 1",
    "SELECT 1/0",
    "SELECT 1",
    "COMMIT",
    "BEGIN",
    "SAVEPOINT a",
    "SELECT 1/0",
    "ROLLBACK TO a",
    "SELECT 2",
    "COMMIT",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "SHOW transaction_isolation",
    "COMMIT AND CHAIN",
    "SHOW transaction_isolation",
    "ROLLBACK",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELECT 1; SELECT 2",
    "BEGIN; SELECT 1; COMMIT",
    "BEGIN; SELECT 1",
    "SELECT 2; COMMIT",
    "COMMIT AND CHAIN",
    "SAVEPOINT a",
    "SET work_mem = '9MB'",
    "SHOW work_mem",
    "SET work_mem = '10MB'; SET statement_timeout = '7s'",
    "SHOW work_mem",
    "SELECT set_config('work_mem', '11MB', false)",
    "SELECT pg_catalog.set_config('my.own', 'seven', false)",
    "SHOW work_mem",
    "SHOW my.own",
    "RESET work_mem",
    "SHOW work_mem",
    "",
    "-- nothing",
    "PREPARE p AS SELECT 5",
    "EXECUTE p",
    "DEALLOCATE p",
    "EXECUTE p",
];

/// Batches that do, sent at once.
const BATCHES: &[&[&[&str]]] = &[
    &[&["SELECT 1", "SELECT 2"], &["SELECT 3"]],
    &[&["BEGIN", "SELECT 1"], &["SELECT 2", "COMMIT"], &["SELECT 1"]],
    &[&["BEGIN", "SELECT 1", "COMMIT"], &["SELECT 2"]],
    &[&["BEGIN"], &["SELECT 1/0", "COMMIT"], &["SELECT 1"], &["COMMIT"], &["SELECT 4"]],
    &[&["SELECT 1/0", "SELECT 2"], &["SELECT 1"]],
    &[&["SET work_mem = '9MB'"], &["SHOW work_mem"], &["RESET work_mem"]],
];

/// What a client sees of its transactions.
pub fn a_clients_transactions_are_what_they_are_without_a_proxy() {
    let server = Server::own();
    let ground = Ground::new(&server, ROUTE);
    let (mut client, mut direct) = (ground.client(false), ground.client(true));
    let mut same = |text: &str, ours: &mut Raw| {
        let (mine, theirs) = (ours.query(text), direct.query(text));
        assert_eq!(mine.commands(), theirs.commands(), "{text}");
        assert_eq!(
            (mine.code(), mine.rows(), mine.status()),
            (theirs.code(), theirs.rows(), theirs.status()),
            "{text}"
        );
        let place = |failure: Option<crate::support::raw::Failure>| failure.map(|failure| failure.message);
        assert_eq!(place(mine.failure()), place(theirs.failure()), "{text}");
    };
    for text in TEXTS {
        same(text, &mut client);
    }
    let batch = |sql: &[&str]| {
        let statements: Vec<_> = sql.iter().map(|sql| msg::unnamed(sql, &[])).collect();
        [statements.concat(), msg::sync()].concat()
    };
    for batches in BATCHES {
        let all: Vec<_> = batches.iter().map(|statements| batch(statements)).collect();
        client.send(&all.concat());
        direct.send(&all.concat());
        for _ in *batches {
            let (ours, theirs) = (client.reply(), direct.reply());
            assert_eq!(ours.code(), theirs.code(), "{batches:?}");
            assert_eq!((ours.commands(), ours.status()), (theirs.commands(), theirs.status()), "{batches:?}");
            assert_eq!(ours.rows(), theirs.rows(), "{batches:?}");
        }
    }
}

/// What is prepared lives on, and what could not last is refused.
pub fn a_client_of_a_strict_route_is_told_what_cannot_last() {
    let server = Server::shared();
    let ground = Ground::new(&server, ROUTE);
    let mut client = ground.client(false);
    // As pgjdbc does.
    let named = |name: &str, sql: &str| {
        [msg::parse(name, sql), msg::bind("", name, &[]), msg::execute("", 0), msg::sync()].concat()
    };
    for (end, tag) in [("COMMIT", "COMMIT"), ("ROLLBACK", "ROLLBACK"), ("COMMIT AND CHAIN", "COMMIT")] {
        let begin = [msg::close(b'S', "s1"), msg::close(b'S', "s2"), named("s1", "BEGIN")].concat();
        assert_eq!(client.batch(&[begin]).status(), 'T');
        client.run("SELECT 1");
        let ended = client.batch(&[named("s2", end)]);
        assert_eq!((ended.commands(), ended.status() == 'T'), (vec![tag.to_owned()], end.ends_with("CHAIN")));
        let again = [msg::bind("", "s2", &[]), msg::execute("", 0), msg::sync()].concat();
        assert_eq!((client.batch(&[again]).status() == 'T'), end.ends_with("CHAIN"));
        client.query("ROLLBACK");
    }
    // An unnamed statement that is parsed in one batch and bound in the next, twice.
    client.batch(&[msg::parse("", "SELECT 8"), msg::sync()]);
    for _ in 0..2 {
        let bound = client.batch(&[msg::bind("", "", &[]), msg::execute("", 0), msg::sync()]);
        assert_eq!(bound.rows(), [["8"]]);
    }
    // What would have to last in a transaction is refused, and the transaction has failed.
    for text in ["SET work_mem = '9MB'", "LISTEN a", "SELECT set_config('my.own', 'x', false)"] {
        client.run("BEGIN");
        let refused = client.query(text);
        assert_eq!((refused.code().as_str(), refused.status()), (UNSUPPORTED, 'E'), "{text}");
        assert!(refused.failure().unwrap().detail.contains("\"strict\""), "{text}");
        assert_eq!(client.query("COMMIT").status(), 'I');
    }
}
