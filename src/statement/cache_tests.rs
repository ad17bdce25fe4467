//! What the cache holds, and for whom.

use std::rc::Rc;

use super::{Cache, Dialect, Encoding, Facts, Kind};

const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

#[test]
fn a_text_is_held_from_the_second_time_on() {
    let mut cache = Cache::new(100, 10_000);
    for _ in 0..4 {
        assert_eq!(cache.facts(b"BEGIN", PLAIN).kind, Kind::Transaction);
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.hits, stats.entries, stats.bytes), (2, 2, 1, 5));
}

#[test]
fn texts_that_never_come_again_are_not_held_and_share_their_facts() {
    let mut cache = Cache::new(100, 10_000);
    let first = cache.facts("SELECT 'é0'".as_bytes(), PLAIN);
    for number in 1..1_000 {
        let facts = cache.facts(format!("SELECT 'é{number}'").as_bytes(), PLAIN);
        assert!(Rc::ptr_eq(&facts, &first));
    }
    assert_eq!(cache.stats().entries, 0);
    let broken = cache.facts(b"SELEC 1", PLAIN);
    assert!(Rc::ptr_eq(&broken, &cache.facts(b"\0", PLAIN)));
    assert_eq!(broken, cache.facts(&[b' '; 70_000], PLAIN));
}

#[test]
fn the_cache_keeps_to_its_number_and_its_bytes() {
    let mut cache = Cache::new(64, 2_000);
    for number in 0..5_000 {
        let text = format!("SELECT {number}, 'é{}'", "x".repeat(number % 90));
        for _ in 0..2 {
            cache.facts(text.as_bytes(), PLAIN);
        }
        assert!(cache.stats().entries <= 64 && cache.stats().bytes <= 2_000, "{:?}", cache.stats());
    }
    assert!(cache.stats().entries > 8);
    let mut cache = Cache::new(0, 0);
    for _ in 0..5 {
        cache.facts(b"BEGIN", PLAIN);
    }
    assert_eq!((cache.stats().entries, cache.stats().hits), (0, 0));
}

#[test]
fn what_is_used_survives_what_comes_and_goes() {
    let mut cache = Cache::new(64, 100_000);
    for number in 0..2_000 {
        let text = format!("SELECT 'é{number}'");
        for text in ["SELECT 'always'", &text, &text] {
            cache.facts(text.as_bytes(), PLAIN);
        }
    }
    // 1,998 where no two texts meet at one place of the doorkeeper, which its random keys decide: one in 256 does.
    assert!(cache.stats().hits >= 1_980, "{:?}", cache.stats());
}

#[test]
fn texts_that_differ_in_numbers_are_read_once_where_numbers_make_no_difference() {
    let mut cache = Cache::new(100, 10_000).guarding();
    for number in 0..1_000 {
        let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};");
        assert!(cache.facts(text.as_bytes(), PLAIN).verdict().is_none());
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.hits, stats.entries), (2, 998, 1));
    // Whether it opens to read is in the number.
    for _ in 0..3 {
        for (mode, refused) in [(131_072, true), (262_144, false)] {
            let facts = cache.facts(format!("SELECT lo_open(1, {mode})").as_bytes(), PLAIN);
            let breach = facts.verdict().and_then(|verdict| verdict.breach(false, None));
            assert_eq!(breach.is_some(), refused, "{mode}");
        }
    }
    assert_eq!(cache.facts(b"SET work_mem = 1000", PLAIN).kind, Kind::Session);
}

#[test]
fn texts_that_differ_in_strings_are_read_once_where_strings_make_no_difference() {
    let mut cache = Cache::new(100, 10_000).guarding().shaping();
    for number in 0..1_000 {
        for text in [
            format!("SELECT a FROM wm.t WHERE name = 'n{number}' AND lower(b) = '' LIMIT {number}"),
            format!("SELECT 'it''s {number} $1', now(), '-- /*'::text"),
        ] {
            assert!(cache.facts(text.as_bytes(), PLAIN).verdict().is_none());
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.hits, stats.entries), (4, 1_996, 2));
    // What the string says, decides.
    let mut cache = Cache::new(100, 10_000);
    for _ in 0..3 {
        for (name, plain) in [("transaction_isolation", true), ("search_path", false)] {
            let facts = cache.facts(format!("SELECT set_config('{name}', 'a', true)").as_bytes(), PLAIN);
            assert_eq!(facts.is_plain(), plain, "{name}");
        }
    }
    // So it does about a name.
    let mut cache = Cache::new(100, 10_000).guarding();
    for text in ["SELECT U&\"!0061\" UESCAPE '!'", "SELECT U&\"!0061\" UESCAPE '?'"] {
        assert_eq!(*cache.facts(text.as_bytes(), PLAIN), super::judge_guarded(text.as_bytes(), PLAIN));
    }
}

#[test]
fn a_text_that_is_refused_unread_is_refused_whatever_others_have_sent() {
    // Strings full of what looks like comments, which are counted before anybody knows what they are.
    let dashes = |count| "-".repeat(count);
    let (many, few) = (format!("SELECT '{}'", dashes(1_200)), "SELECT 'a'".to_owned());
    // Of a short text they are not.
    let numbers = |number: &str| format!("SELECT '{}', {}", dashes(900), vec![number; 30].join(","));
    for (refused, read) in [(many, few), (numbers("1234"), numbers("1"))] {
        let mut cache = Cache::new(100, 100_000).guarding();
        for text in [&refused, &read, &read, &read, &refused, &refused] {
            let alone = super::judge_guarded(text.as_bytes(), PLAIN);
            assert_eq!(alone.verdict().is_none(), *text == read, "{text}");
            assert_eq!(*cache.facts(text.as_bytes(), PLAIN), alone, "{text}");
        }
    }
}

#[test]
fn a_dialect_gets_only_its_own_facts_where_it_matters() {
    let loose = Dialect { standard_conforming_strings: false, ..PLAIN };
    let mut cache = Cache::new(100, 10_000);
    for _ in 0..3 {
        assert_eq!(cache.facts(br"SELECT '\'", PLAIN).kind, Kind::Read);
        assert_eq!(cache.facts(br"SELECT '\'", loose).kind, Kind::Unknown);
    }
    for dialect in [PLAIN, loose, PLAIN, loose] {
        cache.facts(b"SELECT 1", dialect);
    }
    assert_eq!(cache.stats().hits, 2, "a text of ASCII without backslashes is the same in every dialect");
}

#[test]
fn texts_that_differ_in_literals_share_facts_and_shape() {
    let mut cache = Cache::new(100, 10_000).shaping();
    let first = cache.facts(b"SELECT a FROM t WHERE b = 0", PLAIN);
    for number in 1..1_000 {
        let facts = cache.facts(format!("SELECT a FROM t WHERE b = {number}").as_bytes(), PLAIN);
        assert!(Rc::ptr_eq(&facts, &first));
    }
    let shape = |facts: &Rc<Facts>| facts.named().statement(0).unwrap().shape().unwrap().text.to_string();
    assert_eq!(shape(&first), "select a from t where b = ?");
    let other = cache.facts(b"SELECT a FROM t WHERE b > 0", PLAIN);
    assert!(!Rc::ptr_eq(&other, &first));
    assert_eq!(shape(&cache.facts(b"SELEC 'secret'", PLAIN)), "(a text that could not be read)");
    let long = format!("INSERT INTO t VALUES {}", "(1, 'x'),".repeat(20_000));
    assert_eq!(shape(&cache.facts(long.as_bytes(), PLAIN)), "insert into t values (? ...");
    let broken = format!("INSERT INTO t VALUES ('it's a secret, that's it', '{}')", "x".repeat(90_000));
    assert_eq!(shape(&cache.facts(broken.as_bytes(), PLAIN)), "insert into t values ( ...");
    assert_eq!(shape(&cache.unjudged(&broken.as_bytes()[..9_000]).unwrap()), "insert into t values ( ...");
}

#[test]
fn plain_facts_are_plain_and_others_are_not() {
    let mut cache = Cache::new(100, 10_000);
    assert!(cache.facts(b"SELECT 1", PLAIN).is_plain());
    assert!(!cache.facts(b"BEGIN", PLAIN).is_plain());
}
