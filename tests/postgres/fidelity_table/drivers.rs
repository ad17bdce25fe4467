//! What drivers and frameworks say, as they say it.

use super::{Talk, ask, many, prepare, run, say, talk, upto};
use crate::support::messages::*;

/// The oids of int4 and text in PostgreSQL's `pg_type.dat`.
const INT4: u32 = 23;
const TEXT: u32 = 25;

fn portal(statement: &str, parameters: &[&str]) -> Vec<u8> {
    [bind("", statement, parameters), describe(b'P', ""), execute("", 0)].concat()
}

pub fn talks() -> Vec<Talk> {
    let mut talks = libpq_and_python();
    talks.extend(java_and_net());
    talks.extend(others());
    talks
}

fn libpq_and_python() -> Vec<Talk> {
    vec![
        talk(
            "psycopg3 binds on the server and deallocates what it prepared",
            [
                say(&[parse_typed("", "SELECT $1 + 1", &[INT4]), portal("", &["1"]), sync()]),
                say(&[parse_typed("_pg3_0", "SELECT $1 + 1", &[INT4]), sync()]),
                say(&[portal("_pg3_0", &["1"]), sync()]),
                say(&[portal("_pg3_0", &["2"]), sync()]),
                ask("DEALLOCATE _pg3_0"),
                say(&[portal("_pg3_0", &["3"]), sync()]),
                say(&[parse_typed("_pg3_0", "SELECT $1 || ''", &[TEXT]), sync()]),
                say(&[portal("_pg3_0", &["x"]), sync()]),
                ask("DEALLOCATE ALL"),
                say(&[portal("_pg3_0", &["x"]), sync()]),
            ],
        ),
        talk(
            "psycopg3 in its pipeline mode flushes and syncs",
            [
                upto(b'2', &[parse("", "BEGIN"), bind("", "", &[]), flush()]),
                upto(b'1', &[execute("", 0), parse("_pg3_0", "INSERT INTO t VALUES ($1)"), flush()]),
                upto(b'C', &[bind("", "_pg3_0", &["7"]), execute("", 0), flush()]),
                many(2, &[parse("", "COMMIT"), portal("", &[]), sync(), portal("_pg3_0", &["x"]), sync()]),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "psycopg2 sets its dates and works in transactions",
            [
                ask("SET datestyle TO 'ISO'"),
                ask("SHOW default_transaction_isolation"),
                ask("SET client_encoding TO 'LATIN1'"),
                ask("BEGIN"),
                ask("INSERT INTO t VALUES (4, 'four')"),
                ask("ROLLBACK"),
                ask("SHOW client_encoding"),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "sqlalchemy sets the isolation of its session",
            [
                ask("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
                ask("BEGIN"),
                ask("SHOW transaction_isolation"),
                ask("ROLLBACK"),
                ask("SHOW default_transaction_isolation"),
                ask("SELECT current_setting('transaction_isolation')"),
                ask("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED"),
                ask("SHOW transaction_isolation"),
            ],
        ),
        talk(
            "django reads from a named cursor that it holds",
            [
                ask("DECLARE \"_django_curs_1\" NO SCROLL CURSOR WITH HOLD FOR SELECT n FROM t ORDER BY n"),
                ask("FETCH FORWARD 2 FROM \"_django_curs_1\""),
                ask("SET TIME ZONE 'Europe/Zurich'"),
                ask("FETCH FORWARD 2 FROM \"_django_curs_1\""),
                ask("CLOSE \"_django_curs_1\""),
                ask("FETCH FORWARD 2 FROM \"_django_curs_1\""),
                ask("SHOW timezone"),
            ],
        ),
        talk(
            "asyncpg flushes where others sync and resets with many statements",
            [
                upto(
                    b'T',
                    &[
                        parse("__asyncpg_stmt_1__", "SELECT $1::int4"),
                        describe(b'S', "__asyncpg_stmt_1__"),
                        flush(),
                    ],
                ),
                say(&[
                    bind_binary("", "__asyncpg_stmt_1__", &[Some(&7_i32.to_be_bytes())]),
                    execute("", 0),
                    sync(),
                ]),
                say(&[bind_binary("", "__asyncpg_stmt_1__", &[None]), execute("", 0), sync()]),
                ask("BEGIN;"),
                say(&[
                    bind_binary("", "__asyncpg_stmt_1__", &[Some(&8_i32.to_be_bytes())]),
                    execute("", 0),
                    sync(),
                ]),
                ask("COMMIT;"),
                ask("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"),
                say(&[close(b'S', "__asyncpg_stmt_1__"), sync()]),
                say(&[bind("", "__asyncpg_stmt_1__", &["1"]), sync()]),
            ],
        ),
    ]
}

fn java_and_net() -> Vec<Talk> {
    vec![
        talk(
            "jdbc sets its session up and prepares S_1",
            [
                say(&[parse("", "SET extra_float_digits = 3"), bind("", "", &[]), execute("", 1), sync()]),
                say(&[
                    parse("", "SET application_name = 'PostgreSQL JDBC Driver'"),
                    bind("", "", &[]),
                    execute("", 1),
                    sync(),
                ]),
                say(&[
                    parse("", "BEGIN"),
                    bind("", "", &[]),
                    execute("", 0),
                    parse_typed("S_1", "SELECT x FROM t WHERE n = $1", &[INT4]),
                    portal("S_1", &["1"]),
                    sync(),
                ]),
                say(&[portal("S_1", &["2"]), sync()]),
                say(&[parse("S_2", "COMMIT"), bind("", "S_2", &[]), execute("", 1), sync()]),
                say(&[portal("S_1", &["3"]), sync()]),
                say(&[close(b'S', "S_1"), parse("", "SELECT 0.1::float8 + 0.2"), portal("", &[]), sync()]),
                say(&[portal("S_1", &["3"]), sync()]),
                ask("SHOW application_name"),
            ],
        )
        .with(&[("DateStyle", "ISO"), ("TimeZone", "Europe/Zurich"), ("extra_float_digits", "2")]),
        talk(
            "jdbc reads a page of a large result at a time",
            [
                say(&[
                    parse("", "BEGIN"),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("S_1", "SELECT generate_series(1, 5)"),
                    bind("C_1", "S_1", &[]),
                    describe(b'P', "C_1"),
                    execute("C_1", 2),
                    sync(),
                ]),
                say(&[execute("C_1", 2), sync()]),
                say(&[execute("C_1", 2), sync()]),
                say(&[close(b'P', "C_1"), sync()]),
                ask("COMMIT"),
            ],
        ),
        talk(
            "hikari makes a session read only and undoes it",
            [
                ask("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
                ask("INSERT INTO t VALUES (4, 'four')"),
                ask("SHOW transaction_read_only"),
                ask("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
                ask("INSERT INTO t VALUES (4, 'four')"),
            ],
        ),
        talk(
            "npgsql says DISCARD ALL before the first command of whoever comes next",
            [
                say(&[parse("_p1", "SELECT $1::text"), describe(b'S', "_p1"), sync()]),
                say(&[portal("_p1", &["x"]), sync()]),
                ask("SET work_mem = '2MB'"),
                many(2, &[query("DISCARD ALL"), parse("", "SHOW work_mem"), portal("", &[]), sync()]),
                say(&[portal("_p1", &["x"]), sync()]),
                many(2, &[query("DISCARD ALL"), parse("_p1", "SELECT 1"), portal("_p1", &[]), sync()]),
                say(&[portal("_p1", &[]), sync()]),
            ],
        ),
    ]
}

fn others() -> Vec<Talk> {
    vec![
        talk(
            "pgx describes and then binds",
            [
                say(&[
                    parse("stmtcache_1", "SELECT n, x FROM t WHERE n = $1"),
                    describe(b'S', "stmtcache_1"),
                    sync(),
                ]),
                say(&[
                    bind_binary("", "stmtcache_1", &[Some(&2_i32.to_be_bytes())]),
                    describe(b'P', ""),
                    execute("", 0),
                    sync(),
                ]),
                ask("begin"),
                say(&[
                    bind_binary("", "stmtcache_1", &[Some(b"x")]),
                    describe(b'P', ""),
                    execute("", 0),
                    sync(),
                ]),
                ask("rollback"),
                say(&[close(b'S', "stmtcache_1"), sync()]),
                say(&[bind_binary("", "stmtcache_1", &[Some(&2_i32.to_be_bytes())]), sync()]),
            ],
        ),
        talk(
            "node-postgres names a statement and parses it once",
            [
                say(&[parse("fetch user", "SELECT $1::text"), portal("fetch user", &["a"]), sync()]),
                say(&[portal("fetch user", &["b"]), sync()]),
                say(&[portal("fetch user", &["c"]), sync()]),
                say(&[parse("fetch user", "SELECT $1::text"), portal("fetch user", &["d"]), sync()]),
                say(&[portal("fetch user", &["e"]), sync()]),
            ],
        ),
        talk(
            "rails sets its connection up and prepares a1",
            [
                ask("SET client_min_messages TO 'warning'"),
                ask("SET standard_conforming_strings = on"),
                ask("SET SESSION timezone TO 'UTC'"),
                prepare("a1", "SELECT n FROM t WHERE n = $1 LIMIT $2"),
                say(&[describe(b'S', "a1"), sync()]),
                run("a1", &["1", "1"]),
                ask("SELECT 1"),
                run("a1", &["2", "1"]),
                ask("DEALLOCATE \"a1\""),
                ask("DROP TABLE IF EXISTS nothing"),
                ask("SHOW client_min_messages"),
            ],
        ),
        talk(
            "php deallocates what the protocol prepared",
            [
                say(&[parse("pdo_stmt_00000001", "SELECT $1::int"), sync()]),
                run("pdo_stmt_00000001", &["1"]),
                run("pdo_stmt_00000001", &["x"]),
                ask("DEALLOCATE pdo_stmt_00000001"),
                ask("DEALLOCATE pdo_stmt_00000001"),
                run("pdo_stmt_00000001", &["1"]),
            ],
        ),
        talk(
            "postgrex prepares with a flush and closes its portals",
            [
                upto(b'T', &[parse("ecto_1", "SELECT $1::text"), describe(b'S', "ecto_1"), flush()]),
                say(&[bind("", "ecto_1", &["x"]), execute("", 0), close(b'P', ""), sync()]),
                say(&[bind("", "ecto_1", &["y"]), execute("", 0), close(b'P', ""), sync()]),
                say(&[close(b'S', "ecto_1"), parse("ecto_1", "SELECT 2"), describe(b'S', "ecto_1"), sync()]),
                run("ecto_1", &[]),
            ],
        ),
        talk(
            "tokio-postgres pipelines what it prepares",
            [
                many(
                    2,
                    &[
                        parse("s0", "SELECT $1::int4"),
                        describe(b'S', "s0"),
                        sync(),
                        parse("s1", "SELECT $1::text"),
                        describe(b'S', "s1"),
                        sync(),
                    ],
                ),
                many(
                    3,
                    &[portal("s0", &["1"]), sync(), portal("s1", &["a"]), sync(), close(b'S', "s0"), sync()],
                ),
                many(2, &[portal("s0", &["1"]), sync(), portal("s1", &["b"]), sync()]),
            ],
        ),
    ]
}
