//! Statements and what they name, as a table.

use super::{Dialect, Encoding, Name, Sort, judge};

const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

/// Every name that stands in the table, so that hashes can be told in words again.
fn name(word: &str) -> Name {
    let (sort, name) = match word.split_at(1) {
        ("+", _) => (Sort::Created, ""),
        ("f", rest) if rest.starts_with(':') => (Sort::Function, &rest[1..]),
        ("t", rest) if rest.starts_with(':') => (Sort::Type, &rest[1..]),
        ("r", rest) if rest.starts_with(':') => (Sort::Relation, &rest[1..]),
        _ => (Sort::Schema, word),
    };
    Name::new(sort, name)
}

/// Checks a text against its commands and names: `select wm r:t; insert f:f`. A type that is not told may be there.
fn check(table: &[(&str, &str)]) {
    for (sql, expected) in table {
        let facts = judge(sql.as_bytes(), PLAIN);
        let named = facts.named();
        let statements: Vec<&str> = expected.split("; ").collect();
        assert_eq!(named.len(), statements.len(), "{sql}");
        for (number, expected) in statements.iter().enumerate() {
            let statement = named.statement(number).unwrap();
            let mut words = expected.split(' ');
            let command = format!("{:?}", statement.command).to_lowercase();
            assert_eq!(Some(&*command), words.next(), "{sql}");
            let mut wanted: Vec<Name> = words.map(name).collect();
            let mut found = named.names(statement).to_vec();
            found.retain(|name| name.sort() != Sort::Type || wanted.contains(name));
            wanted.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, wanted, "{sql}: {expected}");
        }
    }
}

#[test]
fn queries_and_changes_of_rows_name_schemas_relations_and_functions() {
    check(&[
        ("SELECT 1", "select"),
        ("SELECT now(), count(*), upper('x')", "select"),
        ("SELECT * FROM wm.working_memory", "select wm"),
        ("SELECT * FROM db.wm.working_memory", "select wm"),
        ("TABLE node", "select r:node"),
        ("VALUES (1), (2)", "select"),
        ("SELECT n.*, e.a FROM entity.node n JOIN \"Edge\" e USING (id)", "select entity r:Edge"),
        ("SELECT (SELECT max(x) FROM a.t) FROM b.u WHERE EXISTS (SELECT FROM c.v)", "select a b c"),
        ("SELECT entity.get_connected_nodes($1), f(x) FROM t", "select entity f:f r:t"),
        ("SELECT * FROM entity.search($1) s, LATERAL (TABLE wm.x) y", "select entity wm"),
        ("SELECT pg_catalog.version()", "select pg_catalog"),
        ("SELECT extract(year FROM a), trim(b), substring(c FROM 1) FROM t", "select r:t"),
        ("SELECT * FROM pg_class, information_schema.tables", "select r:pg_class information_schema"),
        ("SELECT x::wm.kind, a.b.c FROM a.b", "select a"),
        ("SELECT 1 UNION SELECT x FROM a.t UNION ALL TABLE b.t ORDER BY 1", "select a b"),
        ("SELECT * FROM t FOR UPDATE OF t", "select r:t"),
        ("INSERT INTO wm.a SELECT * FROM entity.b RETURNING id", "insert wm entity"),
        ("INSERT INTO t VALUES (g(1)) ON CONFLICT (id) DO UPDATE SET x = h(2)", "insert r:t f:g f:h"),
        ("UPDATE wm.a SET x = y FROM b WHERE a.id = b.id", "update wm r:b"),
        ("DELETE FROM ONLY wm.a USING c.d WHERE true", "delete wm c"),
        ("MERGE INTO a.t USING b.u ON true WHEN MATCHED THEN DELETE", "merge a b"),
        ("TRUNCATE a.t, u", "truncate a r:u"),
    ]);
}

#[test]
fn names_of_with_hide_relations_where_they_are_seen_and_nowhere_else() {
    check(&[
        ("WITH x AS (SELECT 1) SELECT * FROM x", "select"),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "select r:t"),
        ("WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t", "select"),
        ("WITH a AS (TABLE b), b AS (TABLE a) SELECT * FROM a, b", "select r:b"),
        ("WITH RECURSIVE a AS (TABLE b), b AS (TABLE a) SELECT * FROM a, b", "select"),
        ("WITH x AS (SELECT 1) SELECT * FROM wm.x", "select wm"),
        ("SELECT (WITH x AS (SELECT 1) SELECT * FROM x), y.* FROM x AS y", "select r:x"),
        ("WITH x AS (SELECT 1) SELECT * FROM (WITH y AS (TABLE x) SELECT * FROM x, y, z) q", "select r:z"),
        ("WITH x AS (INSERT INTO wm.t VALUES (1) RETURNING *) SELECT * FROM x", "select wm"),
        ("WITH x AS (TABLE s.t) INSERT INTO u SELECT * FROM x", "insert s r:u"),
        ("WITH x AS (TABLE s.t) UPDATE u SET a = 1 FROM x", "update s r:u"),
        ("WITH x AS (TABLE s.t) DELETE FROM u USING x", "delete s r:u"),
        ("WITH x AS (TABLE s.t) MERGE INTO u USING x ON true WHEN MATCHED THEN DELETE", "merge s r:u"),
        ("INSERT INTO u WITH x AS (TABLE v) SELECT * FROM x", "insert r:u r:v"),
        ("SELECT * FROM a; WITH a AS (SELECT 1) TABLE a; TABLE a", "select r:a; select; select r:a"),
    ]);
}

#[test]
fn other_statements_name_what_they_are_about() {
    check(&[
        ("COPY wm.a FROM STDIN", "copy wm"),
        ("COPY (SELECT * FROM a.t, u) TO STDOUT", "copy a r:u"),
        ("EXPLAIN ANALYZE SELECT * FROM wm.a", "utility wm"),
        ("PREPARE p AS INSERT INTO wm.a VALUES ($1)", "utility wm"),
        ("EXECUTE p(1)", "unknown"),
        ("DECLARE c CURSOR FOR SELECT * FROM wm.a", "utility wm"),
        ("FETCH 10 FROM c", "fetch"),
        ("CALL wm.p(1)", "call wm"),
        ("CALL p(1)", "call f:p"),
        ("LOCK TABLE wm.a, b", "utility wm r:b"),
        ("VACUUM wm.a", "utility wm"),
        ("ANALYZE t", "utility r:t"),
        ("SET search_path = wm", "utility"),
        ("SHOW search_path", "utility"),
        ("BEGIN; INSERT INTO a.t VALUES (1); COMMIT", "transaction; insert a; transaction"),
        ("", "unknown"),
        ("SELEC 1", "unknown"),
    ]);
}

#[test]
fn ddl_names_what_it_makes_and_what_that_is_made_of() {
    check(&[
        ("CREATE TABLE t (a int, b wm.kind REFERENCES entity.node)", "ddl + wm entity"),
        ("CREATE TABLE wm.t (a kind, FOREIGN KEY (a) REFERENCES u)", "ddl wm t:kind r:u"),
        ("CREATE TABLE wm.p PARTITION OF entity.node DEFAULT", "ddl wm entity"),
        ("CREATE TABLE t AS SELECT * FROM a.u", "ddl + a"),
        ("SELECT * INTO b.t FROM a.u", "ddl a b"),
        ("CREATE VIEW wm.v AS WITH x AS (TABLE a.t) SELECT f() FROM x, y", "ddl wm a f:f r:y"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM a.t", "ddl + a"),
        ("REFRESH MATERIALIZED VIEW wm.v", "ddl wm"),
        ("CREATE INDEX i ON wm.t (g(a))", "ddl wm f:g"),
        ("ALTER TABLE wm.t ADD COLUMN c entity.kind REFERENCES q.p", "ddl wm entity q"),
        ("CREATE FUNCTION wm.f(a entity.kind) RETURNS SETOF q.t LANGUAGE sql AS ''", "ddl wm entity q"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''", "ddl +"),
        ("CREATE TRIGGER g BEFORE INSERT ON wm.t EXECUTE FUNCTION a.f()", "ddl wm a"),
        ("CREATE TYPE wm.e AS ENUM ('a')", "ddl wm"),
        ("ALTER TYPE wm.e ADD VALUE 'b'", "ddl wm"),
        ("CREATE DOMAIN d AS a.t", "ddl + a"),
        ("CREATE SEQUENCE wm.s", "ddl wm"),
        ("CREATE SCHEMA wm CREATE TABLE a.t (x int)", "ddl wm a"),
        ("DROP TABLE wm.t, u", "ddl wm r:u"),
        ("DROP FUNCTION wm.f(int), g", "ddl wm f:g"),
        ("DROP SCHEMA wm, entity CASCADE", "ddl wm entity"),
        ("DROP TYPE wm.k", "ddl wm"),
        ("DROP TRIGGER x ON wm.t", "ddl wm"),
        ("ALTER TABLE wm.t RENAME TO u", "ddl wm"),
        ("ALTER SCHEMA wm RENAME TO memory", "ddl wm"),
        ("ALTER TABLE wm.t SET SCHEMA entity", "ddl wm entity"),
        ("GRANT SELECT ON wm.t, u TO fireread", "ddl wm r:u"),
        ("GRANT USAGE ON SCHEMA wm TO fireread", "ddl"),
        ("COMMENT ON TABLE wm.t IS 'x'", "ddl wm"),
        ("COMMENT ON COLUMN wm.t.c IS 'x'", "ddl wm"),
        ("CREATE POLICY p ON wm.t USING (true)", "ddl wm"),
    ]);
}

#[test]
fn a_path_that_is_set_is_told_where_the_text_says_it() {
    for (sql, changes, path) in [
        ("SELECT 1", false, None),
        ("SET work_mem = '1MB'", false, None),
        ("SET search_path = wm, \"$user\", 'We\"ird'", true, Some("\"wm\", \"$user\", \"We\"\"ird\"")),
        ("BEGIN; SET LOCAL Search_Path TO a; COMMIT", true, Some("\"a\"")),
        ("SELECT set_config('search_path', 'a, b', true)", true, Some("a, b")),
        ("SELECT set_config('search_path', $1, true)", true, None),
        ("SET search_path = a; RESET search_path", true, None),
        ("SET search_path TO DEFAULT", true, None),
        ("SET ROLE wm", true, None),
        ("RESET ALL", true, None),
        ("DISCARD ALL", true, None),
    ] {
        let facts = judge(sql.as_bytes(), PLAIN);
        assert_eq!((facts.changes_path(), facts.path()), (changes, path), "{sql}");
    }
}

#[test]
fn a_text_of_very_many_statements_has_its_first_ones_told_apart() {
    let facts = judge("SELECT * FROM a.t;".repeat(500).as_bytes(), PLAIN);
    assert_eq!((facts.statements, facts.named().len()), (500, super::MOST_STATEMENTS));
}
