//! Which comments are left out, and that it makes no difference.

use super::comments::core;
use super::{Cache, Dialect, Encoding, Facts, judge_guarded};

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
