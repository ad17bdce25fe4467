//! Transactions, explicit and implicit.

use super::{Talk, ask, many, run, say, talk};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    let mut talks = explicit();
    talks.extend(implicit());
    talks
}

fn explicit() -> Vec<Talk> {
    vec![
        talk(
            "a failed transaction does nothing until it is rolled back",
            [
                ask("BEGIN"),
                ask("INSERT INTO t VALUES (4, 'four')"),
                ask("SELECT 1/0"),
                ask("SELECT 1"),
                say(&[unnamed("SELECT 1", &[]), sync()]),
                ask("COMMIT"),
                ask("SELECT count(*) FROM t"),
                ask("BEGIN; SELECT 1/0"),
                ask("ROLLBACK"),
                ask("SELECT 1"),
            ],
        ),
        talk(
            "savepoints go back as far as they are asked",
            [
                ask("BEGIN"),
                ask("SAVEPOINT a"),
                ask("INSERT INTO t VALUES (4, 'four')"),
                ask("SAVEPOINT a"),
                ask("SELECT 1/0"),
                ask("SAVEPOINT b"),
                ask("ROLLBACK TO a"),
                ask("SELECT count(*) FROM t"),
                ask("RELEASE a"),
                ask("ROLLBACK TO SAVEPOINT a"),
                ask("SELECT count(*) FROM t"),
                ask("ROLLBACK TO none"),
                ask("COMMIT"),
            ],
        ),
        talk(
            "a transaction may be chained to the next",
            [
                ask("BEGIN ISOLATION LEVEL SERIALIZABLE"),
                ask("INSERT INTO t VALUES (4, 'four')"),
                ask("COMMIT AND CHAIN"),
                ask("SHOW transaction_isolation"),
                ask("INSERT INTO t VALUES (5, 'five')"),
                ask("ROLLBACK AND CHAIN"),
                ask("SELECT count(*) FROM t"),
                ask("COMMIT"),
                ask("COMMIT AND CHAIN"),
            ],
        ),
        talk(
            "a transaction is as isolated as it asks",
            [
                ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
                ask(
                    "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')",
                ),
                ask("INSERT INTO t VALUES (4, 'four')"),
                ask("ROLLBACK"),
                ask("BEGIN"),
                ask("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
                ask("SHOW transaction_isolation"),
                ask("COMMIT"),
                ask("SHOW transaction_isolation"),
            ],
        ),
        talk(
            "a commit that fails is told as an error",
            [
                ask("BEGIN"),
                ask("INSERT INTO u VALUES (1), (1)"),
                ask("SET application_name = 'for now'"),
                ask("COMMIT"),
                ask("SHOW application_name"),
                ask("BEGIN; SET CONSTRAINTS ALL IMMEDIATE"),
                ask("INSERT INTO u VALUES (1), (1)"),
                ask("ROLLBACK"),
                ask("SELECT count(*) FROM u"),
            ],
        ),
        talk(
            "what may not be in a transaction is refused",
            [
                ask("BEGIN"),
                ask("VACUUM t"),
                ask("ROLLBACK"),
                ask("SELECT 1; VACUUM t"),
                ask("VACUUM t"),
                ask("BEGIN"),
                ask("PREPARE TRANSACTION 'two'"),
                ask("SELECT 1"),
                ask("ROLLBACK PREPARED 'two'"),
            ],
        ),
        talk(
            "a transaction of extended queries is one",
            [
                say(&[parse("b", "BEGIN"), bind("", "b", &[]), execute("", 0), sync()]),
                say(&[
                    parse("i", "INSERT INTO t VALUES ($1::int)"),
                    bind("", "i", &["4"]),
                    execute("", 0),
                    sync(),
                ]),
                run("i", &["x"]),
                run("i", &["5"]),
                run("b", &[]),
                say(&[parse("r", "ROLLBACK"), sync()]),
                say(&[unnamed("ROLLBACK", &[]), sync()]),
                ask("SELECT count(*) FROM t"),
                run("i", &["6"]),
                ask("SELECT count(*) FROM t"),
            ],
        ),
    ]
}

fn implicit() -> Vec<Talk> {
    vec![
        talk(
            "a query of several statements is one transaction",
            [
                ask("INSERT INTO t VALUES (4); INSERT INTO t VALUES (5); SELECT 1/0"),
                ask("SELECT count(*) FROM t"),
                ask("INSERT INTO t VALUES (4); COMMIT; INSERT INTO t VALUES (5); SELECT 1/0"),
                ask("SELECT count(*) FROM t"),
                ask("INSERT INTO t VALUES (6); ROLLBACK; SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "a query of several statements may leave a transaction open",
            [
                ask("INSERT INTO t VALUES (4); BEGIN; INSERT INTO t VALUES (5)"),
                ask("SELECT count(*) FROM t"),
                ask("ROLLBACK; SELECT count(*) FROM t"),
                ask("BEGIN; INSERT INTO t VALUES (6); COMMIT; BEGIN; SELECT 1/0; COMMIT"),
                ask("COMMIT; SELECT count(*) FROM t; BEGIN"),
                ask("END"),
            ],
        ),
        talk(
            "a batch is one transaction",
            [
                say(&[
                    unnamed("INSERT INTO t VALUES (4)", &[]),
                    unnamed("INSERT INTO t VALUES (5)", &[]),
                    unnamed("SELECT 1/0", &[]),
                    sync(),
                ]),
                ask("SELECT count(*) FROM t"),
                say(&[
                    unnamed("INSERT INTO t VALUES (4)", &[]),
                    unnamed("COMMIT", &[]),
                    unnamed("SELECT 1/0", &[]),
                    sync(),
                ]),
                ask("SELECT count(*) FROM t"),
                say(&[unnamed("BEGIN", &[]), unnamed("INSERT INTO t VALUES (6)", &[]), sync()]),
                ask("ROLLBACK"),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "simple and extended queries follow each other in one write",
            [
                many(
                    5,
                    &[
                        query("BEGIN"),
                        unnamed("INSERT INTO t VALUES ($1::int)", &["4"]),
                        sync(),
                        query("SELECT count(*) FROM t"),
                        query("SET work_mem = '2MB'"),
                        query("COMMIT"),
                    ],
                ),
                many(3, &[query("SHOW work_mem"), query("RESET work_mem"), query("SHOW work_mem")]),
            ],
        ),
        talk(
            "a procedure may commit on its way",
            [
                ask(
                    "CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (4); COMMIT; \
                     INSERT INTO t VALUES (5); ROLLBACK; PERFORM set_config('work_mem', '2MB', false); END $$",
                ),
                ask("CALL steps()"),
                ask("SELECT count(*) FROM t"),
                ask("SHOW work_mem"),
                ask("BEGIN"),
                ask("CALL steps()"),
                ask("ROLLBACK"),
            ],
        ),
    ]
}
