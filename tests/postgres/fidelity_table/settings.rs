//! SET and its relatives.

use super::{Talk, ask, many, prepare, run, say, talk};
use crate::support::messages::*;

pub fn talks() -> Vec<Talk> {
    let mut talks = lasting();
    talks.extend(undone());
    talks.extend(hidden());
    talks.extend(reported());
    talks
}

fn lasting() -> Vec<Talk> {
    vec![
        talk(
            "what is set stays set",
            [
                ask("SET work_mem = '2MB'"),
                ask("SHOW work_mem"),
                ask("SET app.tenant = 'mine'"),
                ask("SELECT current_setting('app.tenant'), current_setting('work_mem')"),
                say(&[unnamed("SHOW work_mem", &[]), sync()]),
            ],
        ),
        talk(
            "set_config with parameters stays set",
            [
                say(&[unnamed("SELECT set_config($1, $2, false)", &["app.user", "it's \\ me"]), sync()]),
                ask("SELECT current_setting('app.user')"),
                say(&[unnamed("SELECT set_config($1, $2, true)", &["app.user", "nobody"]), sync()]),
                ask("SELECT current_setting('app.user')"),
                ask("BEGIN"),
                say(&[unnamed("SELECT set_config($1, $2, true)", &["app.user", "for now"]), sync()]),
                ask("SELECT current_setting('app.user')"),
                ask("COMMIT"),
                ask("SELECT current_setting('app.user')"),
            ],
        ),
        talk(
            "a reset gives back what the startup packet said",
            [
                ask("SHOW search_path"),
                ask("SET search_path = public"),
                ask("SET work_mem = '2MB'"),
                ask("RESET search_path"),
                ask("SHOW search_path"),
                ask("SET search_path = public"),
                ask("RESET ALL"),
                ask("SHOW search_path"),
                ask("SHOW work_mem"),
                ask("SET search_path TO DEFAULT"),
                ask("SHOW search_path"),
            ],
        )
        .with(&[("options", "-c search_path=pg_catalog,public"), ("work_mem", "3MB")]),
        talk(
            "a reset inside a transaction counts at once",
            [
                ask("SET work_mem = '2MB'"),
                ask("BEGIN"),
                ask("RESET work_mem"),
                ask("SHOW work_mem"),
                ask("ROLLBACK"),
                ask("SHOW work_mem"),
                ask("BEGIN"),
                ask("RESET ALL"),
                ask("SHOW work_mem"),
                ask("SHOW application_name"),
                ask("COMMIT"),
                ask("SHOW work_mem"),
            ],
        )
        .with(&[("work_mem", "3MB")]),
        talk(
            "a setting made with a prepared statement is made each time",
            [
                prepare("s1", "SET work_mem = '2MB'"),
                run("s1", &[]),
                ask("SHOW work_mem"),
                ask("SET work_mem = '3MB'"),
                run("s1", &[]),
                ask("SHOW work_mem"),
                ask("BEGIN"),
                ask("SET work_mem = '3MB'"),
                run("s1", &[]),
                ask("ROLLBACK"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "settings change how values look",
            [
                ask("SET bytea_output = escape; SET extra_float_digits = -10; SET IntervalStyle = iso_8601"),
                ask("SELECT '\\x61ff'::bytea, 0.1::float8 + 0.2, '1 day 2 hours'::interval"),
                ask("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'"),
                ask("SELECT '2026-11-24 12:00:00Z'::timestamptz"),
                ask("SET lc_monetary = 'C'; SELECT 12::money"),
            ],
        ),
    ]
}

fn undone() -> Vec<Talk> {
    vec![
        talk(
            "a rollback undoes what was set",
            [
                ask("SET work_mem = '2MB'"),
                ask("BEGIN"),
                ask("SET work_mem = '3MB'"),
                ask("SHOW work_mem"),
                ask("ROLLBACK"),
                ask("SHOW work_mem"),
                ask("BEGIN; SET work_mem = '4MB'; SELECT 1/0"),
                ask("COMMIT"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "set local ends with its transaction",
            [
                ask("SET LOCAL work_mem = '2MB'"),
                ask("SHOW work_mem"),
                ask("BEGIN"),
                ask("SET work_mem = '3MB'"),
                ask("SET LOCAL work_mem = '5MB'"),
                ask("SHOW work_mem"),
                ask("COMMIT"),
                ask("SHOW work_mem"),
                ask("SET LOCAL work_mem = '6MB'; SHOW work_mem"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "savepoints undo what was set behind them",
            [
                ask("BEGIN"),
                ask("SET work_mem = '2MB'"),
                ask("SAVEPOINT a"),
                ask("SET work_mem = '3MB'; SET LOCAL TimeZone = 'UTC'"),
                ask("SAVEPOINT b"),
                ask("SET work_mem = '4MB'"),
                ask("SELECT 1/0"),
                ask("ROLLBACK TO b"),
                ask("SHOW work_mem"),
                ask("RELEASE b"),
                ask("ROLLBACK TO a"),
                ask("SHOW work_mem"),
                ask("COMMIT"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "an error in a query of several statements undoes what they set",
            [
                ask("SET work_mem = '2MB'; SELECT 1/0"),
                ask("SHOW work_mem"),
                ask("SET work_mem = '2MB'; ROLLBACK"),
                ask("SHOW work_mem"),
                ask("SET work_mem = '2MB'; COMMIT; SET work_mem = '3MB'; SELECT 1/0"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "an error in a batch undoes what it set",
            [
                say(&[unnamed("SET work_mem = '2MB'", &[]), unnamed("SELECT 1/0", &[]), sync()]),
                ask("SHOW work_mem"),
                many(2, &[unnamed("SET work_mem = '2MB'", &[]), sync(), unnamed("SELECT 1/0", &[]), sync()]),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "a setting that is refused changes nothing",
            [
                ask("SET work_mem = 'much'"),
                ask("SET no_such_setting = 1"),
                ask("SET shared_buffers = '1GB'"),
                ask("SET log_statement = 'all'"),
                ask("SELECT set_config('work_mem', 'much', false)"),
                ask("SHOW work_mem"),
                ask("SHOW no_such_setting"),
            ],
        ),
    ]
}

fn hidden() -> Vec<Talk> {
    vec![
        talk(
            "a setting made inside a DO block stays",
            [
                ask("DO $$ BEGIN PERFORM set_config('work_mem', '2MB', false); END $$"),
                ask("SHOW work_mem"),
                ask("DO $$ BEGIN SET application_name = 'of a block'; END $$"),
                ask("SHOW application_name"),
            ],
        ),
        talk(
            "a setting made by a function stays and one of a function does not",
            [
                ask("CREATE FUNCTION sets() RETURNS text LANGUAGE plpgsql AS \
                     $$ BEGIN SET work_mem = '2MB'; RETURN 'set'; END $$"),
                ask("SELECT sets()"),
                ask("SHOW work_mem"),
                ask("CREATE FUNCTION has() RETURNS text LANGUAGE sql SET work_mem = '3MB' AS \
                     $$ SELECT current_setting('work_mem') $$"),
                ask("SELECT has()"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "a setting made by updating pg_settings stays",
            [
                ask("UPDATE pg_settings SET setting = '2048' WHERE name = 'work_mem'"),
                ask("SHOW work_mem"),
                ask("RESET work_mem"),
                ask("SHOW work_mem"),
            ],
        ),
        talk(
            "a role is kept until it is reset",
            [
                ask("SET ROLE pg_read_all_settings"),
                ask("SELECT current_user"),
                ask("SELECT n FROM t"),
                ask("RESET ALL"),
                ask("SELECT current_user"),
                ask("RESET ROLE"),
                ask("SELECT n FROM t"),
                ask("BEGIN; SET LOCAL ROLE pg_read_all_settings"),
                ask("SELECT current_user"),
                ask("COMMIT"),
                ask("SELECT current_user = session_user"),
                ask("SET ROLE postgres"),
                ask("SET SESSION AUTHORIZATION postgres"),
                ask("SET ROLE pg_read_all_settings; DISCARD ALL"),
                ask("SET ROLE pg_read_all_settings"),
                ask("DISCARD ALL"),
                ask("SELECT current_user = session_user"),
            ],
        ),
        talk(
            "the search path decides what a statement means",
            [
                prepare(
                    "s1",
                    "SELECT count(*) FROM pg_class WHERE relname = $1 AND pg_table_is_visible(oid)",
                ),
                run("s1", &["t"]),
                ask("SET search_path = pg_catalog"),
                run("s1", &["t"]),
                ask("SELECT * FROM t"),
                ask("RESET search_path"),
                run("s1", &["t"]),
                ask("SELECT n FROM t WHERE n = 1"),
            ],
        ),
        talk(
            "a statement timeout ends a query of its own client",
            [
                ask("SET statement_timeout = '50ms'"),
                ask("SELECT pg_sleep(60)"),
                ask("BEGIN"),
                ask("SELECT pg_sleep(60)"),
                ask("ROLLBACK"),
                ask("RESET statement_timeout"),
                ask("SELECT 'patient' FROM pg_sleep(0.1)"),
            ],
        ),
    ]
}

fn reported() -> Vec<Talk> {
    vec![
        talk(
            "what is reported is the client's own",
            [
                ask("SET TimeZone = 'Europe/Zurich'"),
                ask("SELECT 1"),
                ask("SET application_name = 'mine'"),
                ask("BEGIN; SET DateStyle = 'German'"),
                ask("SELECT 1"),
                ask("ROLLBACK"),
                ask("SELECT 1"),
                ask("SET TimeZone = 'Europe/Zurich'"),
                ask("RESET ALL"),
                ask("SELECT 1"),
            ],
        ),
        talk(
            "discard all reports what the startup packet said",
            [
                ask("SET TimeZone = 'Asia/Tokyo'; SET application_name = 'mine'; SET DateStyle = 'German'"),
                ask("DISCARD ALL"),
                ask("SELECT current_setting('TimeZone'), current_setting('application_name')"),
                ask("DISCARD ALL"),
                ask("BEGIN"),
                ask("DISCARD ALL"),
                ask("ROLLBACK"),
                ask("SELECT 1; DISCARD ALL"),
            ],
        )
        .with(&[("TimeZone", "Europe/Zurich"), ("DateStyle", "ISO, DMY")]),
        talk(
            "an error reports what it undoes",
            [
                ask("BEGIN"),
                ask("SET application_name = 'for now'"),
                ask("SELECT 1/0"),
                ask("SELECT 1"),
                ask("ROLLBACK"),
                ask("SHOW application_name"),
            ],
        ),
        talk(
            "the encoding is the client's own",
            [
                ask("SET client_encoding = 'LATIN1'"),
                say(&[message(b'Q', b"SELECT ascii('\xe4')\0")]),
                ask("SELECT chr(228)"),
                ask("SET NAMES 'UTF8'"),
                ask("SELECT chr(228), ascii('ä')"),
                ask("SET client_encoding = 'klingon'"),
                ask("SHOW client_encoding"),
            ],
        ),
        talk(
            "strings mean what the client's setting says",
            [
                ask("SET escape_string_warning = off; SET standard_conforming_strings = off"),
                ask("SELECT 'a\\nb', 'it\\'s'"),
                ask("SET standard_conforming_strings = on"),
                ask("SELECT 'a\\nb'"),
                ask("SELECT E'a\\nb'"),
            ],
        ),
    ]
}
