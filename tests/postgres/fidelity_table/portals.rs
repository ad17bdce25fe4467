//! Portals, Flush, empty queries, function calls, notices.

use super::{Talk, ask, many, run, say, talk, upto};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    let mut talks = portals();
    talks.extend(unusual());
    talks.extend(notices());
    talks
}

fn portals() -> Vec<Talk> {
    vec![
        talk(
            "a portal is read in pages inside a transaction",
            [
                ask("BEGIN"),
                say(&[
                    parse("", "SELECT generate_series(1, 7)"),
                    bind("p", "", &[]),
                    describe(b'P', "p"),
                    execute("p", 2),
                    sync(),
                ]),
                say(&[execute("p", 2), sync()]),
                ask("SELECT 'between'"),
                say(&[execute("p", 2), execute("p", 2), sync()]),
                say(&[close(b'P', "p"), sync()]),
                say(&[execute("p", 2), sync()]),
                ask("ROLLBACK"),
            ],
        ),
        talk(
            "a portal ends with its transaction",
            [
                say(&[
                    parse("s1", "SELECT generate_series(1, 3)"),
                    bind("p", "s1", &[]),
                    execute("p", 1),
                    sync(),
                ]),
                say(&[execute("p", 1), sync()]),
                ask("BEGIN"),
                say(&[bind("p", "s1", &[]), execute("p", 1), sync()]),
                say(&[bind("p", "s1", &[]), sync()]),
                ask("ROLLBACK"),
                say(&[describe(b'P', "p"), sync()]),
            ],
        ),
        talk(
            "a portal outlives its statement inside a transaction",
            [
                ask("BEGIN"),
                say(&[
                    parse("s1", "SELECT generate_series(1, 3)"),
                    bind("p", "s1", &[]),
                    execute("p", 1),
                    sync(),
                ]),
                say(&[execute("p", 1), sync()]),
                ask("FETCH 1 FROM p"),
                ask("COMMIT"),
                run("s1", &[]),
            ],
        ),
        talk(
            "a flush brings answers without a sync",
            [
                upto(b'T', &[parse("", "SELECT $1::text"), describe(b'S', ""), flush()]),
                upto(b'C', &[bind("", "", &["x"]), execute("", 0), flush()]),
                upto(b'C', &[bind("", "", &["y"]), execute("", 0), flush()]),
                say(&[sync()]),
                upto(b'1', &[parse("s1", "SELECT 1/$1::int"), flush()]),
                upto(b'E', &[bind("", "s1", &["0"]), execute("", 0), flush()]),
                say(&[bind("", "s1", &["1"]), execute("", 0), sync()]),
                run("s1", &["1"]),
            ],
        ),
        talk(
            "what is set before a flush is undone with its batch",
            [
                upto(b'C', &[unnamed("SET work_mem = '2MB'", &[]), flush()]),
                upto(b'C', &[unnamed("SHOW work_mem", &[]), flush()]),
                say(&[unnamed("SELECT 1/0", &[]), sync()]),
                ask("SHOW work_mem"),
                upto(b'C', &[unnamed("SET work_mem = '3MB'", &[]), flush()]),
                say(&[sync()]),
                ask("SHOW work_mem"),
            ],
        ),
    ]
}

fn unusual() -> Vec<Talk> {
    vec![
        talk(
            "empty queries are answered as such",
            [
                ask(""),
                ask(" ; ;"),
                ask("-- nothing"),
                say(&[unnamed("", &[]), sync()]),
                say(&[parse("s1", ""), describe(b'S', "s1"), sync()]),
                run("s1", &[]),
                many(3, &[sync(), sync(), sync()]),
            ],
        ),
        talk(
            "functions are called by their oid",
            [
                // int4pl and int4div in PostgreSQL's pg_proc.dat.
                say(&[function_call(177, &["40", "2"])]),
                say(&[function_call(154, &["1", "0"])]),
                say(&[function_call(4_000_000_000, &[])]),
                ask("BEGIN"),
                say(&[function_call(154, &["1", "0"])]),
                say(&[function_call(177, &["40", "2"])]),
                ask("ROLLBACK"),
                many(2, &[function_call(177, &["40", "2"]), query("SELECT 1")]),
            ],
        ),
        talk(
            "an error in the middle of rows comes behind those before it",
            [
                ask("SELECT 1 / (3 - g) FROM generate_series(1, 5) g"),
                say(&[unnamed("SELECT 1 / (3 - g) FROM generate_series(1, 5) g", &[]), sync()]),
                ask("SELECT 1; SELECT 1 / (3 - g) FROM generate_series(1, 5) g; SELECT 2"),
            ],
        ),
        talk(
            "a result without columns has rows",
            [ask("SELECT"), ask("SELECT FROM t"), say(&[unnamed("SELECT FROM t", &[]), sync()])],
        ),
        talk(
            "commands that return rows return them",
            [
                ask("INSERT INTO t VALUES (4, 'four') RETURNING n, x"),
                say(&[unnamed("UPDATE t SET x = $1 WHERE n = 4 RETURNING x", &["vier"]), sync()]),
                ask("DELETE FROM t WHERE n > 2 RETURNING n; TABLE t"),
                ask("EXPLAIN (COSTS OFF) SELECT 1"),
                ask("SHOW server_encoding; VALUES (1), (NULL)"),
            ],
        ),
    ]
}

fn notices() -> Vec<Talk> {
    vec![
        talk(
            "notices come where they arise",
            [
                ask("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING DETAIL = 'detail'; END $$"),
                ask("SELECT 1; DO $$ BEGIN RAISE NOTICE 'between'; END $$; SELECT 2"),
                say(&[unnamed("DROP TABLE IF EXISTS nothing", &[]), sync()]),
                ask("SET client_min_messages = error"),
                ask("DROP TABLE IF EXISTS nothing"),
                ask("RESET client_min_messages"),
                ask("DROP TABLE IF EXISTS nothing"),
            ],
        ),
        talk(
            "notices come among rows",
            [
                ask("CREATE FUNCTION says(n int) RETURNS int LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE NOTICE 'row %', n; RETURN n; END $$"),
                ask("SELECT says(g) FROM generate_series(1, 3) g"),
                say(&[unnamed("SELECT says($1::int)", &["7"]), sync()]),
                upto(b'C', &[unnamed("SELECT says(8)", &[]), flush()]),
                say(&[sync()]),
            ],
        ),
        talk(
            "a transaction that is none is warned of",
            [
                ask("COMMIT"),
                ask("ROLLBACK"),
                ask("BEGIN; BEGIN"),
                ask("COMMIT; COMMIT"),
                ask("SET LOCAL work_mem = '2MB'"),
                ask("SAVEPOINT a"),
                ask("LOCK TABLE t"),
                ask("SET TRANSACTION READ ONLY"),
            ],
        ),
        talk(
            "errors carry all that PostgreSQL says",
            [
                ask(
                    "DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'XX123'; END $$",
                ),
                ask("SELECT nothing FROM t"),
                ask("INSERT INTO u VALUES (1), (1)"),
                say(&[unnamed("SELECT $1::int", &["x"]), sync()]),
                ask("SELEC"),
            ],
        ),
    ]
}
