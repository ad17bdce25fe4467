//! Statements and what they do, as a table.

use super::{Dialect, Encoding, Facts, Listening, States, Touch, Touched, judge};

const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

/// The facts in a few words.
fn words(facts: &Facts) -> String {
    let effects = &facts.effects;
    let mut words = vec![format!("{:?}", facts.kind).to_lowercase()];
    let mut say = |is_so: bool, word: &str| {
        if is_so {
            words.push(word.to_owned());
        }
    };
    say(facts.statements > 1, &format!("x{}", facts.statements));
    for (state, word) in [
        (States::PREPARED, "+prepared"),
        (States::CURSOR, "+cursor"),
        (States::TEMP, "+temp"),
        (States::ADVISORY, "+advisory"),
        (States::LISTEN, "+listen"),
    ] {
        say(effects.suspects.contains(state), word);
    }
    say(effects.releases, "releases");
    let touched =
        [(&effects.settings, "set"), (&effects.local_settings, "local"), (&effects.resets, "resets")];
    for (touched, word) in touched {
        match touched {
            Touched::None => {}
            Touched::Names(names) => say(true, &format!("{word}:{}", names.join(","))),
            Touched::Any => say(true, &format!("{word}:*")),
        }
    }
    say(effects.discards_all, "discards-all");
    say(effects.deallocates_all, "deallocates-all");
    say(!effects.prepared_names.is_empty(), &format!("names:{}", effects.prepared_names.join(",")));
    say(!effects.deallocates.is_empty(), &format!("deallocates:{}", effects.deallocates.join(",")));
    say(effects.reads_sequence, "reads-sequence");
    for listening in &effects.listens {
        match listening {
            Listening::Listen(channel) => say(true, &format!("listen:{channel}")),
            Listening::Unlisten(channel) => say(true, &format!("unlisten:{channel}")),
            Listening::UnlistenAll => say(true, "unlisten:*"),
        }
    }
    say(effects.transaction_control, "transaction-control");
    say(effects.calls_unknown, "unknown-call");
    say(effects.runs != Touch::Nothing, &format!("runs:{:?}", effects.runs));
    if let Some(pin) = effects.pin {
        words.push(format!("pin:{pin:?}"));
    }
    assert_eq!(facts.is_plain(), words.len() == 1 + usize::from(facts.statements > 1));
    words.join(" ")
}

fn check(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, expected)| {
            let found = words(&judge(text.as_bytes(), PLAIN));
            (found != *expected).then(|| format!("{text}\n  expected {expected}\n  found    {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
#[rustfmt::skip]
fn queries_leave_nothing_behind() {
    check(&[
        ("", "empty"),
        (" \n-- a comment\n/* and /* another */ one */ ;; ", "empty"),
        ("SELECT abalance FROM pgbench_accounts WHERE aid = 1", "read"),
        ("SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "read"),
        ("TABLE t", "read"),
        ("VALUES (1), (2)", "read"),
        ("SHOW search_path", "read"),
        ("SELECT 1; SELECT 2", "read x2"),
        ("SELECT now(), count(*), coalesce(a, 0), CURRENT_DATE, extract(year FROM d) FROM t GROUP BY 3", "read"),
        ("SELECT pg_catalog.lower('A'), 'set_config', \"set_config\" FROM t", "read"),
        ("SELECT sum(x) OVER (PARTITION BY y ORDER BY z), array_agg(a ORDER BY b) FILTER (WHERE c) FROM t", "read"),
        ("SELECT * FROM generate_series(1, 3) g, LATERAL (SELECT g) s JOIN unnest('{1}'::int[]) u ON true", "read"),
        ("SELECT xmlelement(name a, b), json_object('a': 1), trim(both FROM c) FROM t", "read"),
        ("SELECT nextval('s')", "read"),
        ("SELECT lo_open(1, 2)", "read"),
        ("WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT * FROM r", "read"),
        ("SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1, 2)", "read"),
        ("SELECT 'SET search_path = x; LISTEN a'", "read"),
        ("SELECT $$SET x = 1$$, E'\\'; LISTEN a; --'", "read"),
        ("SELECT * FROM t FOR UPDATE", "write"),
        ("INSERT INTO t VALUES (1, DEFAULT) ON CONFLICT (a) DO UPDATE SET b = 1 RETURNING *", "write"),
        ("UPDATE t SET a = a + 1 FROM u WHERE t.i = u.i", "write"),
        ("DELETE FROM t USING u WHERE t.i = u.i", "write"),
        ("MERGE INTO t USING u ON t.i = u.i WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)", "write"),
        ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "write"),
        ("TRUNCATE t", "write"),
        ("EXPLAIN SELECT 1", "read"),
        ("EXPLAIN (ANALYZE) UPDATE t SET a = 1", "write"),
        ("COPY t FROM STDIN", "copy"),
        ("COPY (SELECT * FROM t) TO STDOUT (FORMAT csv)", "copy"),
        ("NOTIFY channel, 'payload'", "other"),
        ("VACUUM (FULL) t", "other"),
        ("ANALYZE t", "other"),
        ("DECLARE c CURSOR FOR SELECT 1", "read"),
        ("FETCH 10 FROM c", "read"),
        ("MOVE ALL IN c", "read"),
        ("LOCK TABLE t", "transaction"),
        ("SET CONSTRAINTS ALL DEFERRED", "transaction"),
    ]);
}

#[test]
#[rustfmt::skip]
fn transactions_are_noticed() {
    check(&[
        ("BEGIN", "transaction transaction-control"),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY", "transaction transaction-control"),
        ("COMMIT AND CHAIN", "transaction transaction-control"),
        ("END", "transaction transaction-control"),
        ("ROLLBACK", "transaction transaction-control"),
        ("SAVEPOINT s", "transaction transaction-control"),
        ("RELEASE s", "transaction transaction-control"),
        ("ROLLBACK TO s", "transaction transaction-control"),
        ("PREPARE TRANSACTION 'x'", "transaction transaction-control"),
        ("COMMIT PREPARED 'x'", "transaction transaction-control"),
        ("BEGIN; UPDATE t SET a = 1; COMMIT", "write x3 transaction-control"),
        ("SET TRANSACTION READ ONLY", "transaction"),
        ("SET TRANSACTION SNAPSHOT '0-1'", "transaction"),
        ("SET LOCAL transaction_read_only = on", "transaction"),
        ("SET transaction_isolation = 'serializable'", "transaction"),
        ("RESET transaction_deferrable", "transaction"),
        ("SELECT set_config('transaction_read_only', 'on', false)", "read"),
    ]);
}

#[test]
#[rustfmt::skip]
fn settings_are_named() {
    check(&[
        ("SET search_path = a, b", "session set:search_path"),
        ("SET SESSION Search_Path TO a", "session set:search_path"),
        ("SET \"Search_Path\" TO a", "session set:search_path"),
        ("SET SCHEMA 'a'", "session set:search_path"),
        ("SET TIME ZONE 'UTC'", "session set:timezone"),
        ("SET TIME ZONE LOCAL", "session set:timezone resets:timezone"),
        ("SET TIME ZONE INTERVAL '1' HOUR TO MINUTE", "session set:timezone"),
        ("SET NAMES 'LATIN1'", "session set:client_encoding"),
        ("SET XML OPTION DOCUMENT", "session set:xmloption"),
        ("SET app.user_id = '1'", "session set:app.user_id"),
        ("SET work_mem FROM CURRENT", "session set:work_mem"),
        ("SET a.b TO DEFAULT", "session set:a.b resets:a.b"),
        ("SET LOCAL work_mem = '1MB'", "session local:work_mem"),
        ("SET LOCAL work_mem TO DEFAULT", "session local:work_mem"),
        ("SET LOCAL TIME ZONE 'UTC'", "session local:timezone"),
        ("RESET work_mem", "session set:work_mem resets:work_mem"),
        ("RESET TIME ZONE", "session set:timezone resets:timezone"),
        ("RESET ALL", "session set:* resets:*"),
        ("SET ROLE alice", "session set:role"),
        ("SET ROLE NONE", "session set:role"),
        ("SET LOCAL ROLE alice", "session local:role"),
        ("RESET ROLE", "session set:role resets:role"),
        ("SET SESSION AUTHORIZATION alice", "session set:session_authorization pin:SessionAuthorization"),
        ("SET session_authorization = 'alice'", "session set:session_authorization pin:SessionAuthorization"),
        ("SET LOCAL SESSION AUTHORIZATION alice", "session local:session_authorization"),
        ("SET SESSION AUTHORIZATION DEFAULT", "session set:role resets:role"),
        ("RESET SESSION AUTHORIZATION", "session set:role resets:role"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "session set:default_transaction_read_only"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, DEFERRABLE",
            "session set:default_transaction_isolation,default_transaction_deferrable"),
        ("SET seed = 0.5", "session set:seed pin:RandomSeed"),
        ("SET search_path = pg_temp, public", "session set:search_path pin:Opaque"),
        ("SET search_path = public, pg_temp", "session set:search_path"),
        ("SET a = 1; SET b = 2; SET A = 3", "session x3 set:a,b"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "other"),
        ("ALTER ROLE alice SET work_mem = '1MB'", "ddl"),
        ("ALTER DATABASE d SET work_mem = '1MB'", "ddl"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a AS 'SELECT 1'", "ddl"),
    ]);
}

#[test]
#[rustfmt::skip]
fn set_config_is_set() {
    check(&[
        ("SELECT set_config('search_path', 'a', false)", "read set:search_path"),
        ("SELECT set_config('Search_Path', '', true)", "read local:search_path"),
        ("SELECT pg_catalog.set_config('search_path', $1, false)", "read set:search_path"),
        ("SELECT set_config('a'::text, 'b', 't')", "read local:a"),
        ("SELECT set_config('a', 'b', $1)", "read set:a local:a"),
        ("SELECT set_config($1, $2, false)", "read set:* pin:Opaque"),
        ("SELECT set_config($1, $2, true)", "read local:*"),
        ("SELECT set_config('a' || b, 'c', false) FROM t", "read set:* pin:Opaque"),
        ("SELECT set_config(is_local => true, new_value => 'x', setting_name => 'a')", "read local:a"),
        ("SELECT set_config('a', is_local => false, new_value => 'x')", "read set:a"),
        ("SELECT set_config(VARIADIC ARRAY['a', 'b'])", "read set:* local:* pin:Opaque"),
        ("SELECT set_config('session_authorization', 'x', false)",
            "read set:session_authorization pin:SessionAuthorization"),
        ("SELECT set_config('search_path', 'pg_temp', true)", "read local:search_path pin:Opaque"),
        ("SELECT 1 FROM t WHERE (SELECT set_config('a', 'b', false)) = 'b'", "read set:a"),
        ("WITH x AS (SELECT set_config('a', 'b', false)) SELECT 1", "read set:a"),
        ("INSERT INTO t SELECT set_config('a', 'b', false)", "write set:a"),
        ("SELECT CASE WHEN a THEN b ELSE set_config('a', 'b', false) END FROM t", "read set:a"),
        ("SELECT * FROM ROWS FROM (set_config('a', 'b', false)) f", "read set:a"),
        ("SELECT 1 ORDER BY set_config('a', 'b', false) LIMIT length(set_config('b', 'c', false))", "read set:b,a"),
        ("SELECT ARRAY[(set_config('a', 'b', false))], ROW(lower(set_config('c', 'd', true)))", "read set:a local:c"),
        ("COPY (SELECT set_config('a', 'b', false)) TO STDOUT", "copy set:a"),
        ("COPY t FROM STDIN WHERE set_config('a', 'b', false) = ''", "copy set:a"),
        ("DECLARE c CURSOR FOR SELECT set_config('a', 'b', false)", "read set:a"),
        ("EXPLAIN ANALYZE SELECT set_config('a', 'b', false)", "read set:a"),
        ("PREPARE p AS SELECT set_config('a', 'b', false)", "session +prepared set:a names:p"),
        ("CREATE TABLE t AS SELECT set_config('a', 'b', false)", "ddl set:a"),
        ("CREATE VIEW v AS SELECT set_config('a', 'b', false)", "ddl"),
        ("CREATE RULE r AS ON UPDATE TO t DO ALSO SELECT set_config('a', 'b', false)", "ddl"),
        ("CREATE FUNCTION f() RETURNS text RETURN set_config('a', 'b', false)", "ddl"),
        ("CREATE TABLE t (a text DEFAULT set_config('a', 'b', false))", "ddl"),
        ("ALTER TABLE t ADD COLUMN a text DEFAULT set_config('a', 'b', false)", "ddl set:a"),
        ("ALTER TABLE t ALTER COLUMN a TYPE text USING set_config('a', 'b', false)", "ddl set:a"),
        ("ALTER TABLE t ADD CHECK (set_config('a', 'b', false) = a)", "ddl set:a"),
        ("ALTER DOMAIN d ADD CHECK (set_config('a', 'b', false) = VALUE)", "ddl set:a"),
        ("CREATE TABLE p PARTITION OF t FOR VALUES FROM (set_config('a', 'b', false)) TO (MAXVALUE)", "ddl set:a"),
        ("ALTER TABLE t ATTACH PARTITION p FOR VALUES IN (set_config('a', 'b', false))", "ddl set:a"),
        ("CREATE TABLE p PARTITION OF t FOR VALUES WITH (MODULUS 4, REMAINDER 0)", "ddl"),
        ("CREATE TABLE p PARTITION OF t DEFAULT", "ddl"),
        ("SELECT set_config('search_pathology'::varchar(11), 'a', false)", "read set:* pin:Opaque"),
        ("SELECT set_config('a'::my, 'a', false)", "read set:* pin:Opaque"),
        ("SELECT set_config('a'::pg_catalog.text, 'a', 'f'::bool)", "read set:a"),
        ("SELECT set_config('a', 'b', NULL)", "read set:a local:a"),
        ("SELECT set_limit(0.5)", "read set:pg_trgm.similarity_threshold unknown-call"),
    ]);
}

#[test]
#[rustfmt::skip]
fn session_state_is_suspected_and_its_end_noticed() {
    check(&[
        ("PREPARE p AS SELECT 1", "session +prepared names:p"),
        ("PREPARE \"P x\" (int) AS INSERT INTO t VALUES ($1)", "session +prepared names:P x"),
        ("EXECUTE p (1, now())", "other names:p"),
        ("EXPLAIN EXECUTE p", "other names:p"),
        ("EXPLAIN ANALYZE CREATE TABLE t AS EXECUTE p", "ddl names:p"),
        ("CREATE TABLE t AS EXECUTE p (1)", "ddl names:p"),
        ("CREATE TEMP TABLE t AS EXECUTE p", "ddl +temp names:p"),
        ("DEALLOCATE p", "session releases names:p deallocates:p"),
        ("DEALLOCATE PREPARE p", "session releases names:p deallocates:p"),
        ("DEALLOCATE ALL", "session releases deallocates-all"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "read +cursor"),
        ("DECLARE c BINARY SCROLL CURSOR WITH HOLD FOR SELECT my()", "read +cursor unknown-call"),
        ("CLOSE c", "session releases"),
        ("CLOSE ALL", "session releases"),
        ("SELECT pg_advisory_lock(1)", "read +advisory"),
        ("SELECT pg_try_advisory_lock_shared(1, 2) FROM t", "read +advisory"),
        ("SELECT pg_advisory_unlock(1)", "read releases"),
        ("SELECT pg_advisory_unlock_all()", "read releases"),
        ("LISTEN a", "session +listen listen:a"),
        ("LISTEN \"A b\"", "session +listen listen:A b"),
        ("UNLISTEN a", "session releases unlisten:a"),
        ("UNLISTEN *", "session releases unlisten:*"),
        ("LISTEN a; UNLISTEN *; LISTEN b", "session x3 +listen releases listen:a unlisten:* listen:b"),
        ("DROP TABLE t", "ddl releases"),
        ("DROP FUNCTION f(int)", "ddl releases"),
        ("DISCARD ALL", "session releases set:* resets:* discards-all deallocates-all unlisten:*"),
        ("DISCARD TEMP", "session releases"),
        ("DISCARD PLANS", "session releases"),
        ("DISCARD SEQUENCES", "session releases"),
        ("SELECT currval('s')", "read reads-sequence"),
        ("INSERT INTO t VALUES (lastval())", "write reads-sequence"),
        ("SELECT setval('s', 1)", "read"),
    ]);
}

#[test]
#[rustfmt::skip]
fn temporary_objects_are_suspected() {
    check(&[
        ("CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b <> ''))", "ddl"),
        ("CREATE TEMP TABLE t (a int)", "ddl +temp"),
        ("CREATE TEMPORARY TABLE t (a int) ON COMMIT DROP", "ddl +temp"),
        ("CREATE LOCAL TEMP TABLE t (LIKE u)", "ddl +temp"),
        ("CREATE TABLE pg_temp.t (a int)", "ddl +temp"),
        ("CREATE TABLE pg_temp_3.t (a int)", "ddl +temp"),
        ("CREATE TABLE \"PG_TEMP\".t (a int)", "ddl"),
        ("CREATE TEMP TABLE t AS SELECT 1", "ddl +temp"),
        ("CREATE TABLE pg_temp.t AS SELECT 1", "ddl +temp"),
        ("CREATE TABLE t AS SELECT 1 WITH NO DATA", "ddl"),
        ("SELECT 1 INTO TEMP t", "ddl +temp"),
        ("SELECT 1 INTO pg_temp.t UNION SELECT 2", "ddl +temp"),
        ("SELECT 1 INTO t", "ddl"),
        ("EXPLAIN CREATE TEMP TABLE t AS SELECT 1", "ddl +temp"),
        ("CREATE TEMP VIEW v AS SELECT 1", "ddl +temp"),
        ("CREATE OR REPLACE TEMP RECURSIVE VIEW v (a) AS SELECT 1", "ddl +temp"),
        ("CREATE TEMP SEQUENCE s", "ddl +temp"),
        ("CREATE SEQUENCE pg_temp.s", "ddl +temp"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ddl +temp"),
        ("CREATE TYPE pg_temp.e AS ENUM ('a')", "ddl +temp"),
        ("CREATE TYPE pg_temp.c AS (a int)", "ddl +temp"),
        ("CREATE TYPE pg_temp.r AS RANGE (subtype = int)", "ddl +temp"),
        ("CREATE DOMAIN pg_temp.d AS int", "ddl +temp"),
        ("CREATE AGGREGATE pg_temp.a (int) (sfunc = f, stype = int)", "ddl +temp"),
        ("CREATE OPERATOR pg_temp.+ (function = f, leftarg = int)", "ddl +temp"),
        ("CREATE COLLATION pg_temp.c FROM \"C\"", "ddl +temp"),
        ("CREATE STATISTICS pg_temp.s ON a, b FROM t", "ddl +temp"),
        ("CREATE FOREIGN TABLE f (a int) SERVER s", "ddl +temp"),
        ("CREATE UNLOGGED TABLE t (a int)", "ddl"),
        ("CREATE MATERIALIZED VIEW m AS SELECT 1", "ddl"),
        ("CREATE INDEX i ON pg_temp.t (a)", "ddl"),
        ("INSERT INTO pg_temp.t VALUES (1)", "write"),
        ("CREATE SCHEMA s CREATE TABLE t (a int) CREATE VIEW v AS SELECT 1", "ddl"),
    ]);
}

#[test]
#[rustfmt::skip]
fn code_is_read_by_its_words() {
    check(&[
        ("CALL p(1)", "other unknown-call"),
        ("DO $$BEGIN UPDATE t SET n = 1; SET LOCAL work_mem = '1MB'; END$$", "other"),
        ("DO LANGUAGE plpgsql $$BEGIN PERFORM set_config('a', 'b', false); END$$", "other runs:Session"),
        ("DO $$BEGIN SET app.tenant = 'a'; RESET app.other; END$$", "other set:app.tenant,app.other runs:Session"),
        ("DO 'BEGIN CREATE TEMP TABLE t (); END'", "other runs:Session"),
        ("DO $$BEGIN EXECUTE 'CREATE TABLE t ()'; END$$", "other"),
        ("DO $$BEGIN EXECUTE 'CREATE TABLE ' || t; END$$", "other runs:Dynamic"),
        ("DO $$BEGIN PERFORM set_config(n, v, false); END$$", "other runs:Untold"),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_told_keeps_the_client_where_it_is() {
    check(&[
        ("LOAD 'auto_explain'", "session pin:Load"),
        ("SELECT setseed(0.5)", "read pin:RandomSeed"),
        ("SELECT dblink_connect('c', 'host=x')", "read unknown-call pin:Opaque"),
        ("SELECT pg_replication_origin_session_setup('o')", "read pin:Opaque"),
        ("SELECT pg_create_logical_replication_slot('s', 'p', true)", "read pin:Opaque"),
        ("SELECT my_function(1)", "read unknown-call"),
        ("SELECT app.lower('A')", "read unknown-call"),
        ("SELECT * FROM crosstab('SELECT 1') AS c (a int)", "read unknown-call runs:Dynamic"),
        ("SELECT query_to_xml('SELECT 1', true, true, '')", "read unknown-call pin:Opaque"),
        ("SELECT * FROM ts_stat('SELECT v FROM t')", "read unknown-call pin:Opaque"),
        ("SELECT app.set_config('a', 'b', false)", "read set:a unknown-call"),
        ("CREATE INDEX i ON t (lower(a), my(b)) WHERE my(c)", "ddl unknown-call"),
        ("CREATE EXTENSION pg_trgm", "ddl +temp unknown-call"),
        ("EXECUTE p (my())", "other names:p unknown-call"),
    ]);
    let unknown = "unknown +prepared +cursor +temp +advisory +listen releases set:* local:* reads-sequence \
        transaction-control unknown-call pin:Opaque";
    check(&[
        ("SELEC 1", unknown),
        ("SELECT 1; SELEC 2", unknown),
        ("SELECT 'open", unknown),
        ("SELECT \0", unknown),
    ]);
}
