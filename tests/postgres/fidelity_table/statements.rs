//! Prepared statements, SQL's and the protocol's.

use super::{Talk, ask, many, prepare, run, say, talk};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    let mut talks = named();
    talks.extend(of_sql());
    talks.extend(in_doubt());
    talks
}

fn named() -> Vec<Talk> {
    vec![
        talk(
            "a named statement is used until it is closed",
            [
                prepare("s1", "SELECT $1::int + 1"),
                run("s1", &["1"]),
                say(&[describe(b'S', "s1"), sync()]),
                run("s1", &["2"]),
                say(&[close(b'S', "s1"), sync()]),
                run("s1", &["3"]),
                say(&[describe(b'S', "s1"), sync()]),
                say(&[close(b'S', "s1"), sync()]),
                prepare("s1", "SELECT $1::text"),
                run("s1", &["4"]),
            ],
        ),
        talk(
            "a name that is taken is refused and keeps its statement",
            [
                prepare("s1", "SELECT 'first'"),
                prepare("s1", "SELECT 'second'"),
                run("s1", &[]),
                say(&[parse("s1", "SELECT 'first'"), bind("", "s1", &[]), execute("", 0), sync()]),
                ask("BEGIN"),
                prepare("s1", "SELECT 'third'"),
                run("s1", &[]),
                ask("ROLLBACK"),
                run("s1", &[]),
            ],
        ),
        talk(
            "two names with the same text are two statements",
            [
                prepare("s1", "SELECT $1::int"),
                prepare("mine", "SELECT $1::int"),
                say(&[close(b'S', "s1"), sync()]),
                run("mine", &["1"]),
                run("s1", &["1"]),
                ask("DEALLOCATE mine"),
                run("mine", &["1"]),
            ],
        ),
        talk(
            "a statement outlives the transaction that prepared it",
            [
                ask("BEGIN"),
                prepare("s1", "SELECT 'kept'"),
                ask("ROLLBACK"),
                run("s1", &[]),
                ask("BEGIN"),
                say(&[close(b'S', "s1"), sync()]),
                ask("ROLLBACK"),
                run("s1", &[]),
            ],
        ),
        talk(
            "a failed transaction parses and binds nothing",
            [
                prepare("s1", "SELECT 1"),
                prepare("s2", "ROLLBACK"),
                ask("BEGIN; SELECT 1/0"),
                prepare("mine", "SELECT 2"),
                run("s1", &[]),
                run("none", &[]),
                say(&[describe(b'S', "s1"), sync()]),
                say(&[describe(b'S', "s2"), sync()]),
                run("s2", &[]),
                run("s1", &[]),
            ],
        ),
        talk(
            "names may be of any kind",
            [
                prepare("with space", "SELECT 1"),
                prepare("ünïcode \"quoted\"", "SELECT 2"),
                prepare(&"long".repeat(40), "SELECT 3"),
                prepare("MixedCase", "SELECT 4"),
                run("with space", &[]),
                run("ünïcode \"quoted\"", &[]),
                run(&"long".repeat(40), &[]),
                run("mixedcase", &[]),
                ask("DEALLOCATE MixedCase"),
                ask("DEALLOCATE \"MixedCase\""),
                run("MixedCase", &[]),
            ],
        ),
        talk(
            "types are those that the client gave",
            [
                say(&[parse_typed("s1", "SELECT $1", &[23]), describe(b'S', "s1"), sync()]),
                say(&[parse_typed("mine", "SELECT $1", &[25]), describe(b'S', "mine"), sync()]),
                run("s1", &["x"]),
                run("s1", &["7"]),
                run("mine", &["x"]),
                say(&[bind_binary("", "s1", &[None]), execute("", 0), sync()]),
                say(&[parse("", "SELECT $1"), describe(b'S', ""), sync()]),
            ],
        ),
    ]
}

fn of_sql() -> Vec<Talk> {
    vec![
        talk(
            "what SQL prepares it executes",
            [
                ask("PREPARE q (int) AS SELECT $1 + 1"),
                ask("EXECUTE q(1)"),
                ask("PREPARE q AS SELECT 2"),
                ask("BEGIN; DEALLOCATE q; ROLLBACK"),
                ask("EXECUTE q(1)"),
                ask("PREPARE q AS SELECT 3; EXECUTE q"),
                ask("EXECUTE q"),
                ask("SELECT name, from_sql FROM pg_prepared_statements WHERE from_sql"),
                ask("DEALLOCATE PREPARE q"),
                ask("EXECUTE q"),
            ],
        ),
        talk(
            "the protocol binds what SQL prepared",
            [
                ask("PREPARE q (int) AS SELECT $1 + 1"),
                run("q", &["1"]),
                say(&[describe(b'S', "q"), sync()]),
                prepare("q", "SELECT 2"),
                say(&[close(b'S', "q"), sync()]),
                ask("EXECUTE q(1)"),
            ],
        ),
        talk(
            "SQL executes what the protocol prepared",
            [
                prepare("s1", "SELECT $1::int + 1"),
                ask("EXECUTE s1(1)"),
                ask("EXECUTE s1(2); EXECUTE s1(3)"),
                ask("PREPARE s1 AS SELECT 2"),
                ask("DEALLOCATE s1"),
                ask("EXECUTE s1(1)"),
                run("s1", &["1"]),
            ],
        ),
        talk(
            "SQL explains what was prepared",
            [
                prepare("s1", "SELECT 1 WHERE $1::int = 1"),
                ask("EXPLAIN (COSTS OFF) EXECUTE s1(1)"),
                ask("CREATE TEMP TABLE made AS EXECUTE s1(1)"),
                ask("SELECT count(*) FROM made"),
                ask("DROP TABLE made"),
            ],
        ),
        talk(
            "deallocate all leaves nothing prepared",
            [
                prepare("s1", "SELECT 1"),
                ask("PREPARE q AS SELECT 2"),
                ask("DEALLOCATE ALL"),
                run("s1", &[]),
                ask("EXECUTE q"),
                prepare("s1", "SELECT 3"),
                say(&[unnamed("DEALLOCATE ALL", &[]), sync()]),
                run("s1", &[]),
                ask("BEGIN"),
                prepare("s1", "SELECT 4"),
                ask("DEALLOCATE ALL"),
                ask("ROLLBACK"),
                run("s1", &[]),
            ],
        ),
        talk(
            "discard forgets what it says it forgets",
            [
                prepare("s1", "SELECT 1"),
                ask("DISCARD PLANS"),
                run("s1", &[]),
                ask("DISCARD TEMP"),
                ask("DISCARD SEQUENCES"),
                run("s1", &[]),
                ask("DISCARD ALL"),
                run("s1", &[]),
            ],
        ),
    ]
}

fn in_doubt() -> Vec<Talk> {
    vec![
        talk(
            "a statement that is parsed anew has the columns of now",
            [
                prepare("s1", "SELECT * FROM t WHERE n = 1"),
                run("s1", &[]),
                ask("ALTER TABLE t ADD COLUMN y int"),
                say(&[close(b'S', "s1"), parse("s1", "SELECT * FROM t WHERE n = 1"), sync()]),
                run("s1", &[]),
            ],
        ),
        talk(
            "a statement that is parsed anew has the types of now",
            [
                prepare("s1", "SELECT * FROM t WHERE n = 1"),
                run("s1", &[]),
                ask("ALTER TABLE t ALTER COLUMN n TYPE bigint"),
                ask("DEALLOCATE s1"),
                prepare("s1", "SELECT * FROM t WHERE n = 1"),
                run("s1", &[]),
            ],
        ),
        talk(
            "a statement on a table that is gone fails until it is back",
            [
                ask("CREATE TABLE v (n int)"),
                prepare("s1", "SELECT count(*) FROM v"),
                run("s1", &[]),
                ask("DROP TABLE v"),
                run("s1", &[]),
                ask("CREATE TABLE v (n int)"),
                run("s1", &[]),
            ],
        ),
        talk(
            "an unnamed statement is gone after a simple query",
            [
                prepare("", "SELECT $1::int"),
                run("", &["1"]),
                run("", &["2"]),
                say(&[describe(b'S', ""), sync()]),
                ask("SELECT 1"),
                run("", &["3"]),
                say(&[describe(b'S', ""), sync()]),
                prepare("", "SELEC"),
                run("", &[]),
                prepare("", "SELECT 4"),
                say(&[close(b'S', ""), sync()]),
                run("", &[]),
            ],
        ),
        talk(
            "an error takes the rest of its batch and no more",
            [
                many(
                    4,
                    &[
                        unnamed("SELECT 1", &[]),
                        sync(),
                        unnamed("SELECT 1/0", &[]),
                        parse("s1", "SELECT 'never'"),
                        query("SELECT 'skipped as well'"),
                        sync(),
                        parse("s1", "SELECT 2"),
                        sync(),
                        bind("", "s1", &[]),
                        execute("", 0),
                        sync(),
                    ],
                ),
                run("s1", &[]),
                many(2, &[parse("s2", "SELECT 3"), bind("", "none", &[]), parse("s3", "x"), sync(), sync()]),
                run("s2", &[]),
                run("s3", &[]),
            ],
        ),
        talk(
            "a batch that binds wrongly is told why",
            [
                prepare("s1", "SELECT $1::int, $2::date"),
                run("s1", &["1"]),
                run("s1", &["1", "no date"]),
                run("s1", &["1", "2026-11-24"]),
                prepare("s1", "SELECT 1"),
                say(&[parse("", "SELECT 1; SELECT 2"), sync()]),
                say(&[parse("", "SELECT $1"), bind("", "", &["x"]), execute("none", 0), sync()]),
                run("s1", &["2", "2026-11-24"]),
            ],
        ),
    ]
}
