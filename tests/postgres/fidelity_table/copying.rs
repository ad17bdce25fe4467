//! COPY, whole and broken.

use super::{Talk, ask, many, run, say, talk, upto};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    vec![
        talk(
            "rows are copied in step by step",
            [
                upto(b'G', &[query("COPY t FROM STDIN")]),
                say(&[copy_data(b"4\tfour\n5\tfi"), copy_data(b"ve\n"), copy_done()]),
                ask("SELECT * FROM t WHERE n > 3"),
                upto(b'G', &[query("COPY t FROM STDIN (FORMAT csv)")]),
                say(&[copy_data(b"6,\"a,b\"\n"), copy_done()]),
                ask("COPY t TO STDOUT"),
                ask("COPY (SELECT 1, NULL) TO STDOUT (FORMAT csv, HEADER)"),
            ],
        ),
        talk(
            "a copy that the client ends changes nothing",
            [
                upto(b'G', &[query("COPY t FROM STDIN")]),
                say(&[copy_data(b"4\tfour\n"), copy_fail("no more")]),
                ask("SELECT count(*) FROM t"),
                ask("BEGIN"),
                upto(b'G', &[query("COPY t FROM STDIN")]),
                say(&[copy_fail("no more")]),
                ask("SELECT 1"),
                ask("ROLLBACK"),
            ],
        ),
        talk(
            "a copy with a bad row says which",
            [
                upto(b'G', &[query("COPY t FROM STDIN")]),
                say(&[copy_data(b"4\tfour\nx\tfive\n"), copy_data(b"6\tsix\n"), copy_done()]),
                ask("SELECT count(*) FROM t"),
                ask("COPY none FROM STDIN"),
                ask("COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT"),
                ask("SELECT 1"),
            ],
        ),
        talk(
            "a copy inside a transaction is undone with it",
            [
                ask("BEGIN"),
                upto(b'G', &[query("COPY t FROM STDIN")]),
                say(&[copy_data(b"4\tfour\n"), copy_done()]),
                ask("SELECT count(*) FROM t"),
                ask("ROLLBACK"),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "rows are copied with extended queries",
            [
                say(&[
                    parse("c", "COPY t FROM STDIN"),
                    bind("", "c", &[]),
                    execute("", 0),
                    copy_data(b"4\tfour\n"),
                    copy_done(),
                    sync(),
                ]),
                say(&[parse("o", "COPY t TO STDOUT"), bind("", "o", &[]), execute("", 0), sync()]),
                say(&[bind("", "c", &[]), execute("", 0), copy_data(b"x\n"), copy_done(), sync()]),
                run("o", &[]),
            ],
        ),
        talk(
            "copies stand among other statements",
            [
                upto(b'G', &[query("SELECT 1; COPY t FROM STDIN; SELECT 2; COPY t FROM STDIN; SELECT 3")]),
                upto(b'G', &[copy_data(b"4\tfour\n"), copy_done()]),
                say(&[copy_data(b"5\tfive\n"), copy_done()]),
                ask("COPY t TO STDOUT; SELECT 1; COPY t TO STDOUT; SELECT 1/0"),
                ask("SELECT count(*) FROM t"),
            ],
        ),
        talk(
            "a copy and the next queries are sent in one write",
            [
                many(
                    3,
                    &[
                        query("COPY t FROM STDIN"),
                        copy_data(b"4\tfour\n"),
                        copy_done(),
                        query("SELECT 1"),
                        query("SELECT 2"),
                    ],
                ),
                many(
                    2,
                    &[
                        query("COPY t FROM STDIN"),
                        copy_data(b"x\n"),
                        copy_done(),
                        query("SELECT count(*) FROM t"),
                    ],
                ),
            ],
        ),
        talk(
            "rows are copied into a temporary table of this client",
            [
                ask("CREATE TEMP TABLE mine (n int)"),
                upto(b'G', &[query("COPY mine FROM STDIN")]),
                say(&[copy_data(b"4\n5\n"), copy_done()]),
                ask("COPY mine TO STDOUT"),
                ask("DROP TABLE mine"),
            ],
        ),
    ]
}
