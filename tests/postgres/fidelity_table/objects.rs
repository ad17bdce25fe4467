//! What belongs to a session and not to the database: temporary tables, cursors, locks, channels, sequences.

use super::{Talk, ask, many, prepare, run, say, talk};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    let mut talks = temporary();
    talks.extend(cursors());
    talks.extend(others());
    talks
}

fn temporary() -> Vec<Talk> {
    vec![
        talk(
            "a temporary table is there until it is dropped",
            [
                ask("CREATE TEMP TABLE mine AS SELECT 1 AS n"),
                ask("SELECT n FROM mine"),
                ask("INSERT INTO mine VALUES (2)"),
                say(&[unnamed("SELECT count(*) FROM mine", &[]), sync()]),
                ask("CREATE TEMP TABLE mine (n int)"),
                ask("BEGIN; DROP TABLE mine; ROLLBACK"),
                ask("SELECT count(*) FROM pg_temp.mine"),
                ask("DROP TABLE mine"),
                ask("SELECT count(*) FROM mine"),
            ],
        ),
        talk(
            "a temporary table that is rolled back is not there",
            [
                ask("BEGIN"),
                ask("CREATE TEMP TABLE mine (n int)"),
                ask("SELECT * FROM mine"),
                ask("ROLLBACK"),
                ask("SELECT * FROM mine"),
                ask("BEGIN; SAVEPOINT a; CREATE TEMP TABLE mine (n int); ROLLBACK TO a"),
                ask("SELECT * FROM mine"),
                ask("ROLLBACK"),
                ask("CREATE TEMP TABLE mine (n int); SELECT 1/0"),
                ask("SELECT * FROM mine"),
            ],
        ),
        talk(
            "a temporary table goes or is emptied with the commit",
            [
                ask("BEGIN"),
                ask("CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS n"),
                ask("CREATE TEMP TABLE other (n int) ON COMMIT DELETE ROWS"),
                ask("INSERT INTO other SELECT n FROM mine"),
                ask("SELECT * FROM other"),
                ask("COMMIT"),
                ask("SELECT * FROM mine"),
                ask("SELECT * FROM other"),
                ask("DISCARD TEMP"),
                ask("SELECT * FROM other"),
            ],
        ),
        talk(
            "a temporary table hides another of its name",
            [
                prepare("s1", "SELECT n FROM t LIMIT 1"),
                run("s1", &[]),
                ask("CREATE TEMP TABLE t AS SELECT 77 AS n"),
                run("s1", &[]),
                ask("SELECT n FROM t LIMIT 1"),
                ask("SET search_path = \"$user\", public, pg_temp"),
                run("s1", &[]),
                ask("RESET search_path"),
                ask("DISCARD ALL"),
                ask("SELECT n FROM t LIMIT 1"),
                run("s1", &[]),
            ],
        ),
        talk(
            "temporary objects come in many kinds",
            [
                ask("SELECT 3 AS n INTO TEMP mine"),
                ask("SELECT n FROM mine"),
                ask("CREATE TEMP VIEW seen AS SELECT 4 AS n"),
                ask("SELECT n FROM seen"),
                ask("CREATE TEMP SEQUENCE counted"),
                ask("SELECT nextval('counted')"),
                ask("SELECT nextval('counted')"),
                ask("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 5'"),
                ask("SELECT pg_temp.f()"),
                ask("CREATE TABLE pg_temp.plain (n int)"),
                ask("SELECT * FROM plain"),
                ask("DO $$ BEGIN CREATE TEMP TABLE within (n int); END $$"),
                ask("SELECT * FROM within"),
                ask("DISCARD ALL"),
                ask("SELECT pg_temp.f()"),
            ],
        ),
    ]
}

fn cursors() -> Vec<Talk> {
    vec![
        talk(
            "a cursor lives inside its transaction",
            [
                ask("DECLARE c CURSOR FOR SELECT 1"),
                ask("BEGIN"),
                ask("DECLARE c SCROLL CURSOR FOR SELECT generate_series(1, 5)"),
                ask("FETCH 2 FROM c"),
                ask("MOVE 1 FROM c"),
                ask("FETCH BACKWARD 1 FROM c"),
                say(&[unnamed("FETCH ALL FROM c", &[]), sync()]),
                ask("COMMIT"),
                ask("FETCH 1 FROM c"),
            ],
        ),
        talk(
            "a cursor with hold lives on",
            [
                ask("BEGIN"),
                ask("DECLARE c CURSOR WITH HOLD FOR SELECT n FROM t ORDER BY n"),
                ask("FETCH 1 FROM c"),
                ask("COMMIT"),
                ask("FETCH 1 FROM c"),
                ask("BEGIN; FETCH 1 FROM c; ROLLBACK"),
                ask("FETCH 1 FROM c"),
                ask("SELECT name, is_holdable FROM pg_cursors WHERE is_holdable"),
                ask("CLOSE c"),
                ask("FETCH 1 FROM c"),
                ask("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; ROLLBACK"),
                ask("FETCH 1 FROM c"),
                ask("DECLARE c CURSOR WITH HOLD FOR SELECT 2"),
                ask("CLOSE ALL"),
                ask("FETCH 1 FROM c"),
            ],
        ),
    ]
}

fn others() -> Vec<Talk> {
    const HELD: &str = "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() \
        ORDER BY objid";
    vec![
        talk(
            "advisory locks are held until they are given back",
            [
                ask("SELECT pg_advisory_lock(hashtext(current_user), 2)"),
                ask(HELD),
                ask("BEGIN; SELECT pg_advisory_lock(hashtext(current_user), 3); ROLLBACK"),
                ask(HELD),
                ask("SELECT pg_advisory_unlock(hashtext(current_user), 2)"),
                ask("SELECT pg_advisory_unlock(hashtext(current_user), 2)"),
                ask(HELD),
                ask("SELECT pg_advisory_unlock_all()"),
                ask(HELD),
                say(&[unnamed("SELECT pg_try_advisory_lock(hashtext(current_user), 4)", &[]), sync()]),
                ask(HELD),
                ask("DISCARD ALL"),
                ask(HELD),
            ],
        ),
        talk(
            "advisory locks of a transaction end with it",
            [
                ask("BEGIN"),
                ask("SELECT pg_advisory_xact_lock(hashtext(current_user), 2)"),
                ask("SAVEPOINT a; SELECT pg_advisory_xact_lock(hashtext(current_user), 3)"),
                ask("ROLLBACK TO a"),
                ask(HELD),
                ask("COMMIT"),
                ask(HELD),
            ],
        ),
        talk(
            "who listens is told of what is committed",
            [
                ask("LISTEN told"),
                ask("NOTIFY told, 'one'"),
                ask("BEGIN; NOTIFY told, 'two'; NOTIFY told, 'two'; NOTIFY told, 'three'"),
                ask("COMMIT"),
                ask("BEGIN; NOTIFY told, 'never'; ROLLBACK"),
                say(&[unnamed("SELECT pg_notify($1, $2)", &["told", "four"]), sync()]),
                ask("NOTIFY news"),
                ask("UNLISTEN told"),
                ask("NOTIFY told, 'five'"),
            ],
        ),
        talk(
            "listening begins and ends with the commit",
            [
                ask("BEGIN; LISTEN begun; NOTIFY begun, 'one'"),
                ask("ROLLBACK"),
                ask("NOTIFY begun, 'two'"),
                ask("BEGIN; LISTEN begun; NOTIFY begun, 'three'"),
                ask("COMMIT"),
                ask("BEGIN; UNLISTEN *; NOTIFY begun, 'four'"),
                ask("ROLLBACK"),
                ask("NOTIFY begun, 'five'"),
                ask("DISCARD ALL"),
                ask("NOTIFY begun, 'six'"),
            ],
        ),
        talk(
            "the current value of a sequence is that of the transaction",
            [
                ask("SELECT currval('s')"),
                ask("BEGIN; SELECT nextval('s')"),
                ask("SELECT currval('s'), lastval()"),
                ask("COMMIT"),
                many(1, &[unnamed("SELECT nextval('s')", &[]), unnamed("SELECT lastval()", &[]), sync()]),
                ask("SELECT setval('s', 100); SELECT currval('s')"),
            ],
        ),
    ]
}
