//! Texts that share a place in the cache have the facts that each has by itself: texts at random, with literals and
//! comments of every kind.

use super::{Cache, Dialect, Encoding, Facts, judge, judge_guarded};

const TRACE: &str = "traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'";

fn shapes(facts: &Facts) -> Vec<&str> {
    let statements = (0..facts.named().len()).filter_map(|number| facts.named().statement(number));
    statements.filter_map(|statement| statement.shape()).map(|shape| &*shape.text).collect()
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn one<'t>(&mut self, of: &[&'t [u8]]) -> &'t [u8] {
        of[self.below(of.len())]
    }

    fn some(&mut self, of: &[&[u8]], most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).flat_map(|_| self.one(of).to_vec()).collect()
    }
}

/// Statements, most of them right.
const STATEMENTS: &[&[u8]] = &[
    b"SELECT a FROM wm.t WHERE b = 7",
    b"SELECT 'it''s', \"a\"\"b\" FROM t",
    b"SELECT * FROM t WHERE a = '/*' AND b = '*/'",
    b"SELECT $$ /* $$, $x$ */ $x$",
    b"SELECT E'\\'', 1",
    b"SELECT '\\'",
    b"SELECT 1 -- one",
    b"SELECT 1 -- one\n, 2",
    b"SELECT 4 / 2 * 3 - 1",
    b"SELECT f('x'), own.g(1)",
    b"SELECT lo_open(1, 131072)",
    b"SELECT 'caf\xc3\xa9'",
    b"SELECT 'caf\xe9'",
    b"INSERT INTO t (a) VALUES (1), (2)",
    b"DELETE FROM t; SELECT 1",
    b"SELECT 1; DELETE FROM t",
    b"BEGIN",
    b"BEGIN READ WRITE",
    b"COMMIT",
    b"ROLLBACK",
    b"SET TRANSACTION READ ONLY",
    b"SET search_path = a, b",
    b"SELECT set_config('a.b', 'c', false)",
    b"PREPARE p AS SELECT 1",
    b"LISTEN a",
    b"NOTIFY a, 'b'",
    b"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END",
    b"DO 'BEGIN END'",
    b"EXPLAIN (ANALYZE) SELECT 1",
    b"SELEC 1",
    b"SELECT 'open",
    b"SELECT \"open",
    b"SELECT 1 +",
    b"SELECT a *",
    b"SELECT a ORDER BY 1 USING *",
    b"SELECT '/*' ORDER BY 1 USING */",
    b"SELECT \"/*\" ORDER BY 1 USING */",
    b"SELECT '",
    b"SELECT \"",
    b"",
];

/// What texts and comments are made of.
const PIECES: &[&[u8]] = &[
    b" ",
    b"\n",
    b"\r",
    b"\t",
    b"\x0b",
    b"/*",
    b"*/",
    b"/",
    b"*",
    b"-",
    b"--",
    b"'",
    b"''",
    b"\"",
    b";",
    b"$$",
    b"$a$",
    b"a",
    b"SELECT",
    b"1",
    b"+",
    b"(",
    b")",
    b",",
    b"E'",
    b"U&'",
    b"\\",
    b"\xc3\xa9",
    b"\xe9",
    b"\x95\x5c",
    b"@",
    b"::",
    b"FROM t",
];

/// What a comment often has.
const WORDS: &[&[u8]] = &[
    b"a",
    b" ",
    b"'",
    b"=",
    b",",
    b"\"",
    b"--",
    b"/",
    b"*",
    b"\n",
    b";",
    b"$$",
    b"%20",
    b" COMMIT ",
    b"\xc3\xa9",
    b"\\",
];

fn comment(dice: &mut Dice) -> Vec<u8> {
    let inside = match dice.below(4) {
        0 => dice.some(PIECES, 5),
        1 => [b"/*", &*dice.some(WORDS, 3), b"*/"].concat(),
        _ => dice.some(WORDS, 5),
    };
    let inside = if dice.below(3) == 0 { TRACE.as_bytes().to_vec() } else { inside };
    match dice.below(12) {
        0 => [b"--", &*inside, b"\n"].concat(),
        1 => [b"/*", &*inside].concat(),
        _ => [b"/*", &*inside, b"*/"].concat(),
    }
}

fn text(dice: &mut Dice) -> Vec<u8> {
    let mut words = if dice.below(2) == 0 { dice.one(STATEMENTS).to_vec() } else { with_literals(dice) };
    match dice.below(16) {
        0 => words = dice.some(PIECES, 8),
        1 => words.extend(dice.some(PIECES, 3)),
        2 => words.insert(dice.below(words.len() + 1), b" /*'-"[dice.below(5)]),
        _ => {}
    }
    if dice.below(3) == 0 {
        return words;
    }
    let mut text = Vec::new();
    for _ in 0..dice.below(3) {
        text.extend(dice.some(&[b" ", b"\n", b";"], 1));
        text.extend(comment(dice));
    }
    text.extend(dice.some(&[b" ", b"\n"], 2));
    text.extend(words);
    for _ in 0..dice.below(3) {
        text.extend(dice.some(&[b" ", b"\n", b";"], 2));
        text.extend(comment(dice));
    }
    text.extend(dice.some(&[b" ", b";", b"\n"], 2));
    text
}

/// Statements with literals: `%s` is a string, `%n` a number.
const WITH_LITERALS: &[&[u8]] = &[
    b"SELECT a FROM wm.t WHERE b = %s AND c = %n",
    b"SELECT %s, %s\n%s",
    b"SELECT %s::regclass, nextval(%s), %s::text",
    b"SELECT set_config(%s, %s, %s)",
    b"SELECT set_config(%s, %s, true)",
    b"SELECT pg_catalog.set_config(%s, %s, false)",
    b"SELECT f(%s), own.g(%n)",
    b"SELECT lower(%s), coalesce(a, %s), now()",
    b"SELECT currval(%s)",
    b"SELECT lo_open(%n, %n)",
    b"SELECT lo_open(%n, %s)",
    b"INSERT INTO t VALUES (%n, %s), (%n, %s)",
    b"INSERT INTO t VALUES (%s) ON CONFLICT (a) DO UPDATE SET b = %s RETURNING %n",
    b"UPDATE t SET a = %s WHERE b = -%n",
    b"UPDATE pg_settings SET setting = %s WHERE name = %s",
    b"DELETE FROM t WHERE a IN (%s, %s, %n)",
    b"MERGE INTO t USING u ON t.i = u.i WHEN MATCHED THEN UPDATE SET a = %s",
    b"SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s",
    b"SELECT lower(name) FROM pg_settings WHERE name IN (%s, %s)",
    b"SELECT U&%s UESCAPE %s",
    b"SELECT U&\"!0061b\" UESCAPE %s",
    b"SELECT U& %s, %s",
    b"SELECT E%s, B%s, N%s, X %s",
    b"SELECT date %s, interval %s",
    b"SELECT own.type %s, CAST(%s AS own.type), regclass %s",
    b"SELECT a LIKE %s ESCAPE %s, extract(%s FROM b), c AT TIME ZONE %s",
    b"EXPLAIN (ANALYZE %s) DELETE FROM t",
    b"EXPLAIN (ANALYZE %n) DELETE FROM t",
    b"SET search_path = %s",
    b"SET a.b = %n",
    b"COPY t FROM %s",
    b"COPY (SELECT %s) TO STDOUT (FORMAT %s)",
    b"DO %s",
    b"PREPARE p AS SELECT %s",
    b"NOTIFY a, %s",
    b"SELECT query_to_xml(%s, true, true, %s)",
    b"SELECT ts_rewrite(a, %s), ts_rewrite(a, b, %s)",
    b"SELECT * FROM dblink(%s, %s) AS t(a int)",
    b"SELECT JSON_VALUE(a, %s), a -> %s ->> %n",
    b"SELECT * FROM JSON_TABLE(a, %s COLUMNS (b int PATH %s))",
    b"SELECT * FROM XMLTABLE(%s PASSING a COLUMNS b int PATH %s DEFAULT %n)",
    b"WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) CYCLE a SET b TO %s DEFAULT %s USING c SELECT %n",
    b"SELECT a FROM t TABLESAMPLE system(%n) ORDER BY %n LIMIT %n OFFSET %s",
    b"SELECT 'a' AS \"%s\", %s AS \"b\"",
    b"CREATE TABLE t (a int DEFAULT %n, b text DEFAULT %s)",
];

/// Strings that say something to some function.
const NAMES: &[&[u8]] = &[
    b"'search_path'",
    b"'transaction_isolation'",
    b"'transaction_isolation'",
    b"'pg_temp'",
    b"'on'",
    b"'!'",
    b"'wm.t'",
];

/// What strings have in them.
const IN_STRINGS: &[&[u8]] = &[
    b"a",
    b"wm.t",
    b"!",
    b"+",
    b"''",
    b"--",
    b"/*",
    b"*/",
    b"\"",
    b"$$",
    b"$1",
    b"7",
    b" ",
    b"\n",
    b";",
    b"\x01",
    b"search_path",
    b"pg_temp",
    b"transaction_isolation",
    b"seed",
    b"work_mem",
    b"on",
    b"true",
    b"SELECT f()",
];

fn literal(dice: &mut Dice, kind: u8) -> Vec<u8> {
    match (kind, dice.below(24)) {
        (b'n', 0) => b"131072".to_vec(),
        (b'n', 1) => b"9999999999".to_vec(),
        (b'n', 2) => b"1.5".to_vec(),
        (b'n', 3) => b"1e5".to_vec(),
        (b'n', other) => other.to_string().into_bytes(),
        (_, 0) => b"$$a$$".to_vec(),
        (_, 1) => b"'caf\xc3\xa9'".to_vec(),
        (_, 2) => b"'\\'".to_vec(),
        (_, 3) => b"'open".to_vec(),
        (_, 4) => dice.some(PIECES, 4),
        (_, 5..14) => dice.one(NAMES).to_vec(),
        _ => [b"'", &*dice.some(IN_STRINGS, 2), b"'"].concat(),
    }
}

fn with_literals(dice: &mut Dice) -> Vec<u8> {
    let mut text = Vec::new();
    let mut parts = dice.one(WITH_LITERALS).split(|byte| *byte == b'%');
    text.extend_from_slice(parts.next().unwrap());
    for part in parts {
        text.extend(literal(dice, part[0]));
        text.extend_from_slice(&part[1..]);
    }
    text
}

#[test]
fn whatever_its_literals_and_comments_a_text_has_the_facts_that_it_has_by_itself() {
    let mut dice = Dice(7);
    let dialects = [Encoding::Utf8, Encoding::AsciiSafe, Encoding::Unsafe].map(|encoding| {
        [true, false].map(|standard_conforming_strings| Dialect { encoding, standard_conforming_strings })
    });
    let dialects = dialects.concat();
    let mut caches = [Cache::new(2_000, 100_000).guarding(), Cache::new(2_000, 100_000)];
    let mut shaping = Cache::new(2_000, 100_000).shaping();
    for _ in 0..30_000 {
        let text = text(&mut dice);
        let dialect = dialects[dice.below(dialects.len() + 6).saturating_sub(6)];
        let shown = String::from_utf8_lossy(&text);
        let [guarded, free] = &mut caches;
        assert_eq!(*guarded.facts(&text, dialect), judge_guarded(&text, dialect), "{shown:?} {dialect:?}");
        assert_eq!(*free.facts(&text, dialect), judge(&text, dialect), "{shown:?} {dialect:?}");
        let mut alone = Cache::new(0, 0).shaping();
        let (found, own) = (shaping.facts(&text, dialect), alone.facts(&text, dialect));
        assert_eq!(shapes(&found), shapes(&own), "{shown:?} {dialect:?}");
    }
    assert!(caches.iter().all(|cache| cache.stats().hits > 1_000), "{caches:?}");
}
