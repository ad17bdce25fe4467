//! Prepared statements whose tables change under them.

use super::{Talk, ask, many, prepare, run, say, talk};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    let mut talks = of_results();
    talks.extend(of_parameters());
    talks.extend(in_their_place());
    talks
}

/// An int4 and an int8 as PostgreSQL's binary format.
const SHORT: [u8; 4] = 2_i32.to_be_bytes();
const LONG: [u8; 8] = 2_i64.to_be_bytes();

fn of_results() -> Vec<Talk> {
    vec![
        talk(
            "a statement whose result has got a column fails until it is parsed anew",
            [
                prepare("s1", "SELECT * FROM t WHERE n = $1"),
                run("s1", &["1"]),
                ask("ALTER TABLE t ADD COLUMN y int"),
                run("s1", &["1"]),
                run("s1", &["1"]),
                say(&[close(b'S', "s1"), parse("s1", "SELECT * FROM t WHERE n = $1"), sync()]),
                run("s1", &["1"]),
            ],
        ),
        talk(
            "a statement whose result has lost a column fails until the column is back",
            [
                prepare("s1", "SELECT * FROM t"),
                ask("ALTER TABLE t DROP COLUMN x"),
                run("s1", &[]),
                ask("ALTER TABLE t ADD COLUMN x text"),
                run("s1", &[]),
                ask("ALTER TABLE t RENAME x TO z"),
                run("s1", &[]),
                ask("ALTER TABLE t RENAME z TO x"),
                run("s1", &[]),
            ],
        ),
        talk(
            "a statement whose result has other types fails",
            [
                prepare("s1", "SELECT n, x FROM t WHERE n = 1"),
                run("s1", &[]),
                ask("ALTER TABLE t ALTER x TYPE varchar(10)"),
                run("s1", &[]),
                ask("ALTER TABLE t ALTER x TYPE varchar(20)"),
                say(&[parse("mine", "SELECT n, x FROM t WHERE n = 1"), describe(b'S', "mine"), sync()]),
                ask("ALTER TABLE t ALTER x TYPE varchar(30)"),
                run("mine", &[]),
                run("s1", &[]),
            ],
        ),
        talk(
            "another table of the same columns will do",
            [
                ask("CREATE TABLE v (n int, x text)"),
                say(&[parse("s1", "SELECT * FROM v"), describe(b'S', "s1"), sync()]),
                run("s1", &[]),
                ask("DROP TABLE v; CREATE TABLE v (gone int, n int, x text); ALTER TABLE v DROP gone"),
                run("s1", &[]),
                ask("DROP TABLE v; CREATE TABLE v (x text, n int)"),
                run("s1", &[]),
            ],
        ),
        talk(
            "a function that returns other columns is noticed",
            [
                ask("CREATE FUNCTION f(OUT a int) LANGUAGE sql AS 'SELECT 1'"),
                prepare("s1", "SELECT * FROM f()"),
                run("s1", &[]),
                ask(
                    "DROP FUNCTION f; CREATE FUNCTION f(OUT a int, OUT b text) LANGUAGE sql AS 'SELECT 1, 2::text'",
                ),
                run("s1", &[]),
                ask("DROP FUNCTION f; CREATE FUNCTION f(OUT a int) LANGUAGE sql AS 'SELECT 3'"),
                run("s1", &[]),
            ],
        ),
        talk(
            "a cursor of other columns is fetched from with the same statement",
            [
                ask("BEGIN"),
                ask("DECLARE c CURSOR FOR SELECT n FROM t ORDER BY n"),
                prepare("s1", "FETCH 1 FROM c"),
                run("s1", &[]),
                ask("COMMIT"),
                ask("BEGIN"),
                ask("DECLARE c CURSOR FOR SELECT x, n FROM t ORDER BY n"),
                run("s1", &[]),
                ask("COMMIT"),
                run("s1", &[]),
            ],
        ),
        talk(
            "an unnamed statement whose result has got a column fails",
            [
                prepare("mine", "ALTER TABLE t ADD COLUMN y int"),
                say(&[parse("", "SELECT * FROM t WHERE n = $1"), describe(b'S', ""), sync()]),
                run("", &["1"]),
                run("mine", &[]),
                run("", &["1"]),
                run("", &["1"]),
                say(&[parse("", "SELECT * FROM t WHERE n = $1"), describe(b'S', ""), sync()]),
                run("", &["1"]),
            ],
        ),
    ]
}

fn of_parameters() -> Vec<Talk> {
    vec![
        talk(
            "a parameter has the type that it had at first",
            [
                say(&[parse("s1", "SELECT x FROM t WHERE n = $1"), describe(b'S', "s1"), sync()]),
                ask("ALTER TABLE t ALTER n TYPE bigint"),
                say(&[bind_binary("", "s1", &[Some(&SHORT)]), execute("", 0), sync()]),
                say(&[describe(b'S', "s1"), sync()]),
                say(&[bind_binary("", "s1", &[Some(&LONG)]), execute("", 0), sync()]),
                say(&[parse("mine", "SELECT x FROM t WHERE n = $1"), describe(b'S', "mine"), sync()]),
                say(&[bind_binary("", "mine", &[Some(&LONG)]), execute("", 0), sync()]),
                say(&[bind_binary("", "s1", &[Some(&SHORT)]), execute("", 0), sync()]),
                say(&[bind_binary("", "mine", &[Some(&LONG)]), execute("", 0), sync()]),
                say(&[bind_binary("", "s1", &[Some(&SHORT)]), execute("", 0), sync()]),
            ],
        ),
        talk(
            "a parameter of what yields no rows has the type that it had at first",
            [
                prepare("s1", "UPDATE t SET n = $1 WHERE n = $1"),
                ask("ALTER TABLE t ALTER n TYPE bigint"),
                say(&[bind_binary("", "s1", &[Some(&SHORT)]), execute("", 0), sync()]),
                say(&[
                    bind_binary("", "s1", &[Some(&SHORT)]),
                    execute("", 0),
                    bind_binary("", "s1", &[Some(&SHORT)]),
                    execute("", 0),
                    sync(),
                ]),
                ask("EXECUTE s1(2)"),
                ask("ALTER TABLE t ADD COLUMN y int"),
                say(&[bind_binary("", "s1", &[Some(&SHORT)]), execute("", 0), sync()]),
            ],
        ),
        talk(
            "an unnamed statement's parameter has the type that it had at first",
            [
                prepare("mine", "ALTER TABLE t ALTER n TYPE bigint"),
                say(&[parse("", "SELECT x FROM t WHERE n = $1"), describe(b'S', ""), sync()]),
                run("mine", &[]),
                say(&[bind_binary("", "", &[Some(&SHORT)]), execute("", 0), sync()]),
                say(&[describe(b'S', ""), sync()]),
                say(&[bind_binary("", "", &[Some(&SHORT)]), execute("", 0), sync()]),
            ],
        ),
    ]
}

fn in_their_place() -> Vec<Talk> {
    let bound = || [bind("", "s1", &[]), execute("", 0)].concat();
    vec![
        talk(
            "a statement whose result has changed fails its transaction",
            [
                prepare("s1", "SELECT * FROM t"),
                ask("ALTER TABLE t ADD COLUMN y int"),
                ask("BEGIN"),
                ask("INSERT INTO t VALUES (4)"),
                run("s1", &[]),
                run("s1", &[]),
                ask("SELECT 1"),
                ask("ROLLBACK"),
                run("s1", &[]),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "a statement whose result has changed does nothing and takes its batch back",
            [
                prepare("s1", "INSERT INTO t SELECT 5 RETURNING *"),
                ask("ALTER TABLE t ADD COLUMN y int"),
                say(&[unnamed("INSERT INTO t VALUES (4)", &[]), bound(), unnamed("SELECT 1", &[]), sync()]),
                ask("SELECT count(*) FROM t"),
                many(3, &[bound(), sync(), query("SELECT count(*) FROM t"), bound(), bound(), sync()]),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "a statement is parsed and the old one used in the same batch",
            [
                prepare("s1", "SELECT * FROM t WHERE n = 1"),
                ask("ALTER TABLE t ADD COLUMN y int"),
                say(&[
                    parse("mine", "SELECT * FROM t WHERE n = 1"),
                    bind("", "mine", &[]),
                    execute("", 0),
                    bound(),
                    parse("never", "SELECT 1"),
                    sync(),
                ]),
                run("mine", &[]),
                run("never", &[]),
                many(
                    2,
                    &[
                        close(b'S', "s1"),
                        parse("s1", "SELECT * FROM t WHERE n = 1"),
                        bound(),
                        sync(),
                        bound(),
                        bind("", "mine", &[]),
                        execute("", 0),
                        sync(),
                    ],
                ),
            ],
        ),
        talk(
            "a change in the transaction of the statement is noticed and rolled back",
            [
                prepare("s1", "SELECT * FROM t WHERE n = 1"),
                ask("BEGIN"),
                run("s1", &[]),
                ask("ALTER TABLE t ADD COLUMN y int"),
                ask("SAVEPOINT a"),
                run("s1", &[]),
                ask("ROLLBACK TO a"),
                prepare("mine", "SELECT * FROM t WHERE n = 1"),
                run("mine", &[]),
                ask("ROLLBACK"),
                run("s1", &[]),
                run("mine", &[]),
            ],
        ),
    ]
}
