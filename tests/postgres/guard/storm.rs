//! Statements made at random of fragments that write, leave the mode, or hide one in the other, sent in every way as a role
//! that owns the tables, and then as a superuser. Nothing changes. The seed is printed, and `FIREPOOL_TEST_SEED` repeats it;
//! `FIREPOOL_GUARD_STORM` is for how many seconds.

use std::time::{Duration, Instant};

use super::ground::{Ground, READ_ONLY, ROUTE, WAYS, send};
use crate::fidelity_storm::dice::Dice;
use crate::support::server::Server;

/// Statements between two looks at everything.
const BETWEEN: usize = 40;

/// How deep fragments are put into one another.
const DEEP: u32 = 4;

/// Fragments by what they stand for: `<s>` a statement, `<q>` a query, `<e>` an expression, `<n>` a setting's name, `<v>`
/// its value, `<m>` a mode, `<t>` text as a literal, `<f>` a function that does harm, `<b>` a blank.
const FRAGMENTS: [(&str, &[&str]); 9] = [
    (
        "s",
        &[
            "<q>",
            "<q>",
            "<q>",
            "INSERT<b>INTO t SELECT max(i) + 1, 'x' FROM t",
            "DELETE<b>FROM t",
            "UPDATE t SET s = <e>::text",
            "TRUNCATE t",
            "MERGE INTO t USING u ON t.i = u.i WHEN MATCHED THEN DELETE",
            "SET<b><n><b>=<b><v>",
            "SET LOCAL <n> TO <v>",
            "SET SESSION <n> TO DEFAULT",
            "RESET<b><n>",
            "RESET ALL",
            "DISCARD ALL",
            "SET TRANSACTION <m>",
            "SET SESSION CHARACTERISTICS AS TRANSACTION <m>",
            "BEGIN <m>",
            "BEGIN",
            "START TRANSACTION<b><m>, <m>",
            "COMMIT",
            "COMMIT AND CHAIN",
            "ROLLBACK",
            "SAVEPOINT a",
            "ROLLBACK TO a",
            "RELEASE a",
            "<s>;<s>",
            "<s>;<b><s>;<s>",
            "BEGIN; <s>; COMMIT",
            "COMMIT; <s>; BEGIN",
            "EXPLAIN <s>",
            "EXPLAIN ANALYZE <s>",
            "EXPLAIN (ANALYZE <v>) <s>",
            "EXPLAIN (ANALYZE, COSTS off) <s>",
            "PREPARE p AS <s>",
            "EXECUTE p",
            "EXECUTE p(<e>)",
            "PREPARE p(text) AS SELECT set_config($1, 'off', false)",
            "DEALLOCATE ALL",
            "DECLARE c CURSOR WITH HOLD FOR <q>",
            "DECLARE c CURSOR FOR <q>",
            "FETCH ALL c",
            "CLOSE ALL",
            "COPY (<q>) TO STDOUT",
            "COPY t FROM STDIN",
            "COPY t TO PROGRAM 'cat'",
            "COPY (<q>) TO <t>",
            "DO <t>",
            "DO $$BEGIN <s>; END$$",
            "CALL proc()",
            "CALL proc_sets()",
            "CREATE TABLE n AS <q>",
            "CREATE TEMP TABLE n (i int)",
            "CREATE VIEW n AS <q>",
            "REFRESH MATERIALIZED VIEW m",
            "CREATE FUNCTION n() RETURNS int LANGUAGE sql AS <t>",
            "DROP TABLE t",
            "ALTER TABLE t ADD n int",
            "GRANT ALL ON t TO PUBLIC",
            "LISTEN corpus",
            "NOTIFY corpus",
            "UNLISTEN *",
            "LOCK t",
            "LOCK t IN ACCESS SHARE MODE",
            "VACUUM t",
            "ANALYZE t",
            "CHECKPOINT",
            "PREPARE TRANSACTION 'x'",
            "SHOW <n>",
            "LOAD <t>",
            "SET ROLE <v>",
            "SET SESSION AUTHORIZATION DEFAULT",
        ],
    ),
    (
        "q",
        &[
            "SELECT<b><e>",
            "SELECT <e>, <e>",
            "SELECT <e> FROM t",
            "SELECT * FROM <f>",
            "SELECT <e> FROM t WHERE <e> IS NULL",
            "SELECT * FROM t, LATERAL (<q>) AS x",
            "WITH w AS (<q>) SELECT <e> FROM w",
            "WITH w AS MATERIALIZED (<s>) TABLE w",
            "VALUES (<e>)",
            "TABLE t",
            "SELECT x.lo_create FROM generate_series(80000, 80000) AS x",
            "SELECT (80001::oid).lo_creat",
            "SELECT * INTO n FROM t",
            "SELECT <e> ORDER BY <e>",
            "SELECT 1 LIMIT length(<e>::text)",
            "SELECT set_config(name, <v>, false) FROM pg_settings WHERE name = <t>",
            "SELECT set_config(name, <v>, false) FROM pg_settings WHERE name IN ('work_mem', <t>)",
            "SELECT * FROM t FOR UPDATE",
            "SELECT i FROM t UNION <q>",
            "SELECT * FROM ROWS FROM (<f>, reads())",
            "SELECT count(*) FILTER (WHERE <e> IS NULL) OVER () FROM t",
            "SELECT max(<e>::text) FROM t",
        ],
    ),
    (
        "e",
        &[
            "1",
            "NULL",
            "<t>",
            "i",
            "<f>",
            "<f>",
            "<f>",
            "(<q>)",
            "(<e>)::text",
            "CAST(<e> AS text)",
            "coalesce(<e>::text, <t>)",
            "CASE WHEN <e> IS NULL THEN <e> END",
            "ARRAY[<e>]",
            "row(<e>, <e>)",
            "EXISTS (<q>)",
            "reads()",
            "writes()",
            "set_config(<t>, <v>, false)",
            "set_config(<t><b>||<b><t>, <v>, true)",
            "<e> IS DISTINCT FROM <e>",
        ],
    ),
    (
        "f",
        &[
            "writes()",
            "set_config(<t>, <v>, true)",
            "pg_catalog.set_config(<t>, NULL, false)",
            "\"set_config\"(<t>, <v>, true)",
            "set_config(new_value => <v>, setting_name => <t>, is_local => false)",
            "lo_create(0)",
            "pg_catalog.lo_from_bytea(0, 'x')",
            "lo_unlink(80000)",
            "nextval('q')",
            "setval('q', 7)",
            "pg_notify('corpus', <t>)",
            "query_to_xml(<t>, true, true, '')",
            "table_to_xml('v', true, true, '')",
            "ts_stat(<t>)",
            "dblink_exec('', <t>)",
            "pg_advisory_lock(1)",
            "lo_put(80000, 0, 'x')",
            "lo_open(80000, 131072)",
            "lowrite(0, 'x')",
            "pg_terminate_backend(0)",
            "pg_reload_conf()",
            "pg_stat_reset()",
            "reads()",
            "lower(<t>)",
            "now()",
            "pg_create_restore_point(<t>)",
            "pg_logical_emit_message(false, <t>, <t>)",
            "ts_rewrite('a', <t>)",
        ],
    ),
    (
        "n",
        &[
            "transaction_read_only",
            "default_transaction_read_only",
            "\"transaction_read_only\"",
            "TRANSACTION_READ_ONLY",
            "Default_Transaction_Read_Only",
            "U&\"transaction\\005fread_only\"",
            "session_authorization",
            "role",
            "client_encoding",
            "standard_conforming_strings",
            "work_mem",
            "search_path",
            "my.own",
            "transaction_isolation",
            "default_transaction_isolation",
        ],
    ),
    (
        "v",
        &[
            "off",
            "'off'",
            "on",
            "0",
            "false",
            "'no'",
            "DEFAULT",
            "'SJIS'",
            "NULL",
            "'read committed'",
            "public",
            "E'o\\146f'",
            "$$off$$",
        ],
    ),
    (
        "m",
        &[
            "READ WRITE",
            "READ<b>WRITE",
            "READ ONLY",
            "ISOLATION LEVEL SERIALIZABLE",
            "ISOLATION LEVEL READ COMMITTED, READ WRITE",
            "DEFERRABLE",
        ],
    ),
    (
        "t",
        &[
            "'transaction_read_only'",
            "'default_transaction_read_only'",
            "E'transaction\\x5fread_only'",
            "U&'\\0074ransaction_read_only'",
            "$$transaction_read_only$$",
            "'transaction_'\n'read_only'",
            "'work_mem'",
            "'SELECT writes()'",
            "$a$SELECT lo_create(0)$a$",
            "'DELETE FROM t'",
            "'x'",
            "'it''s'",
            "'\\'",
            "E'\\''",
            "$q$SELECT set_config('transaction_read_only', 'off', true)$q$",
        ],
    ),
    ("b", &[" ", "\t", "\n", "/**/", " /* ' */ ", " -- '\n", "/*/**/*/", "\u{c}"]),
];

/// Puts fragments in the place of what stands for them.
fn made(dice: &mut Dice, of: &str, depth: u32) -> String {
    let (_, all) = FRAGMENTS.iter().find(|(name, _)| *name == of).unwrap();
    // Too deep: what has nothing in it.
    let flat: Vec<_> = all.iter().filter(|fragment| !fragment.contains('<')).collect();
    let fragment: &str =
        if depth == 0 && !flat.is_empty() { flat[dice.roll(flat.len())] } else { all[dice.roll(all.len())] };
    let mut text = String::new();
    let mut rest = fragment;
    while let Some((before, behind)) = rest.split_once('<') {
        text.push_str(before);
        let (name, behind) = behind.split_once('>').unwrap();
        text.push_str(&made(dice, name, depth.saturating_sub(1)));
        rest = behind;
    }
    text + rest
}

pub fn statements_made_at_random_change_nothing() {
    storm(ROUTE, false);
}

/// The same where transactions are the proxy's own, with functions that write whatever the mode is.
pub fn statements_made_at_random_change_nothing_on_a_strict_route() {
    storm(super::strict::ROUTE, true);
}

fn storm(route: &str, strict: bool) {
    let seed = std::env::var("FIREPOOL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5eed);
    let seconds = std::env::var("FIREPOOL_GUARD_STORM").ok().and_then(|seconds| seconds.parse().ok());
    println!("guard storm: FIREPOOL_TEST_SEED={seed}");
    let server = Server::own_with(&[("max_prepared_transactions", "5")]);
    let mut ground = Ground::new(&server, route);
    let mut dice = Dice::new(seed, 0);
    if strict {
        super::strict::dig(&mut ground);
    }
    let mut before = ground.state();
    let mut superuser = false;
    let half = Instant::now() + Duration::from_secs(seconds.unwrap_or(6)) / 2;
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(6));
    let (mut sent, mut refused, mut passed) = (0_u64, 0_u64, 0_u64);
    while Instant::now() < until {
        if !superuser && Instant::now() > half {
            superuser = true;
            ground.admin.run(&format!("ALTER ROLE {} SUPERUSER", ground.fixture.role));
            before = ground.state();
        }
        let mut client = ground.client(false);
        let mut said = Vec::new();
        for _ in 0..BETWEEN {
            let (mut text, way) = (made(&mut dice, "s", DEEP), dice.pick(&WAYS));
            if strict {
                text = text.replace("reads()", "resets()").replace("now()", "large()");
            }
            let reply = send(&mut client, std::slice::from_ref(&text), way);
            sent += 1;
            refused += u64::from(reply.code() == READ_ONLY);
            passed += u64::from(reply.code().is_empty());
            said.push(format!("{way}: {text}\n    -> {:?} {}", reply.code(), reply.status()));
            if reply.ended {
                client = ground.client(false);
            }
        }
        if client.query("COMMIT").ended {
            // What came last had been noticed behind its answer.
            client = ground.client(false);
        }
        let written = client.query(&format!("SELECT {}.writes()", ground.fixture.role)).code();
        let after = ground.state();
        assert!(
            after == before && written == READ_ONLY,
            "seed {seed}: a write afterwards {written:?}\n{}\nbefore: {before}\nafter: {after}",
            said.join("\n")
        );
    }
    println!("guard storm: {sent} statements, {refused} refused, {passed} let through");
    assert!(
        refused > sent / 10 && passed > sent / 50,
        "{sent} {refused} {passed}: the fragments have lost their point"
    );
}
