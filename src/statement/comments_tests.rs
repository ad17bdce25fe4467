//! Which comments are left out, and that it makes no difference.

use super::comments::core;
use super::{Cache, Dialect, Encoding, Facts, judge, judge_guarded};

const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
const TRACE: &str = "traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'";

#[test]
fn comments_at_the_ends_are_left_out() {
    for (text, words, moved) in [
        ("SELECT 1 /*traceparent='00-1'*/", "SELECT 1", false),
        ("SELECT 1 /*a='it''s; -- \"',b='$$'*/ ;\n", "SELECT 1", false),
        ("SELECT 1; /* a */", "SELECT 1;", false),
        ("SELECT 'a'/**/", "SELECT 'a'", false),
        ("SELECT (1)/***/ /* a / b * c */", "SELECT (1)", false),
        ("SELECT 1 -- one\n+ 2 /* a */", "SELECT 1 -- one\n+ 2", false),
        ("/* -- */ SELECT 1 /* a */", "SELECT 1", true),
        (" /* a /* b */ c */\n/* d */SELECT 1 ", "SELECT 1 ", true),
        ("/* a */ SELECT 1 /* b /* c */ */", "SELECT 1 /* b /* c */ */", true),
        ("SELECT '/*' /* a */", "SELECT '/*'", false),
        ("/*/ a */ SELECT 1", "SELECT 1", true),
    ] {
        let core = core(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((std::str::from_utf8(core.words), core.moved), (Ok(words), moved), "{text}");
    }
}

#[test]
fn where_it_is_not_certain_what_a_comment_is_the_text_stays_as_it_is() {
    let long = format!("SELECT 1 /*{}*/", " ".repeat(5_000));
    let longer = format!("SELECT '{}' /* a */", " ".repeat(20_000));
    for text in [
        "",
        "SELECT 1",
        "*/",
        "/*/",
        "/* a */",
        "SELECT 1 /* a /*/",
        "/* a",
        "/* a /* b */ SELECT 1",
        "SELECT 1 /* a */ + 2",
        "SELECT 1 /* a /* b */ c */",
        "SELECT 1 -- /* a\n */",
        "SELECT 1 -- a /* b */",
        "SELECT */* a */ ",
        "SELECT 4 //* a */",
        "SELECT 1 /* \\ */",
        "SELECT 1 /* ä */",
        "/* ä */ SELECT 1",
        "SELECT 1 -- a",
        &long,
        &longer,
    ] {
        assert_eq!(core(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn texts_that_differ_in_their_comments_are_read_once() {
    for (text, behind) in [
        ("SELECT abalance FROM pgbench_accounts WHERE aid = {}", ""),
        ("UPDATE wm.t SET a = 'x' WHERE b = 1", ";"),
        ("SELECT f('a'), g(b) FROM t", ""),
        ("SELECT 'é'", ";"),
    ] {
        let mut cache = Cache::new(100, 10_000).guarding().shaping();
        for number in 0..1_000 {
            let text = text.replace("{}", &number.to_string());
            let facts = cache.facts(format!("{text} /*{TRACE},n='{number}'*/{behind}").as_bytes(), PLAIN);
            assert_eq!(shapes(&facts).len(), 1, "{text}");
        }
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.hits, stats.entries), (2, 998, 1), "{text}");
    }
    // Without a comment it is the same text.
    let mut cache = Cache::new(100, 10_000);
    for text in ["SELECT 'a'", "SELECT 'a'", "/* a */ SELECT 'a'", "SELECT 'a' /* b */ ; "] {
        cache.facts(text.as_bytes(), PLAIN);
    }
    assert_eq!((cache.stats().misses, cache.stats().hits), (2, 2));
}

#[test]
fn comments_that_say_something_are_read() {
    let mut cache = Cache::new(100, 10_000).guarding();
    for _ in 0..4 {
        for text in [
            "SET TRANSACTION READ ONLY",
            "SET TRANSACTION READ ONLY /* COMMIT */",
            "SET TRANSACTION READ ONLY /* ROLLBACK AND CHAIN */",
            "ROLLBACK",
            "ROLLBACK /* COMMIT */",
            "COMMIT /* a */",
            "COMMIT /* another */",
            "BEGIN READ WRITE /* a */",
            "BEGIN READ WRITE /* another */",
            "/* in front */ SELECT 1; DELETE FROM t",
            "/* a */ SELECT 1; DELETE FROM t",
            "SELECT set_config('a.b', 'c', false) /* a */",
            // What looks like a comment begins in a name and ends in an operator, or in a comment of another kind.
            "SELECT \"/*\" ORDER BY 1 USING */",
            "SELECT \"/*\"--*/",
            "SELECT \"/*\", pg_terminate_backend(1) ORDER BY 1 USING */",
        ] {
            let facts = cache.facts(text.as_bytes(), PLAIN);
            assert_eq!(*facts, judge_guarded(text.as_bytes(), PLAIN), "{text}");
        }
    }
}

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
    let mut words = dice.one(STATEMENTS).to_vec();
    match dice.below(8) {
        0 => words = dice.some(PIECES, 8),
        1 => words.extend(dice.some(PIECES, 3)),
        2 => words.insert(dice.below(words.len() + 1), b" /*'-"[dice.below(5)]),
        _ => {}
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

#[test]
fn whatever_the_comments_a_text_has_the_facts_that_it_has_by_itself() {
    let mut dice = Dice(7);
    let dialects = [Encoding::Utf8, Encoding::AsciiSafe, Encoding::Unsafe].map(|encoding| {
        [true, false].map(|standard_conforming_strings| Dialect { encoding, standard_conforming_strings })
    });
    let dialects = dialects.concat();
    let mut caches = [Cache::new(2_000, 100_000).guarding(), Cache::new(2_000, 100_000)];
    let mut shaping = Cache::new(2_000, 100_000).shaping();
    for _ in 0..20_000 {
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
