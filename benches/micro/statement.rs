//! What SQL costs to judge: once, and again.

use std::hint::black_box;

use firepool::statement::{Cache, Dialect, Encoding, judge, judge_guarded};

use crate::harness::Benches;

const SIMPLE: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1";
const LITERAL: &[u8] =
    b"SELECT id, name, data FROM wm.working_memory WHERE name = 'a memory' AND id <> 1.5 LIMIT 10";
const ROWS: &[u8] = b"INSERT INTO entity.node (id, kind, data) VALUES (1, 'person', '{}'), (2, 'place', NULL), (3, 'person', '{}')";
const JOIN: &[u8] = b"SELECT o.id, c.name, sum(l.price * l.amount) FROM orders o JOIN customers c ON c.id = o.customer_id \
    LEFT JOIN lines l ON l.order_id = o.id WHERE o.created > now() - interval '1 day' AND c.country IN ('a', 'b') \
    GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10";
const DIALECT: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

pub(crate) fn benches(benches: &mut Benches) {
    reading(benches);
    remembering(benches);
    guarding(benches);
}

/// Each text anew.
fn reading(benches: &mut Benches) {
    benches.bench("the grammar alone reads pgbench's SELECT", |bench| {
        let text = std::str::from_utf8(SIMPLE).unwrap();
        bench.iter(|| pg_raw_parse::parse(black_box(text)).unwrap().len());
    });
    benches.bench("pgbench's SELECT is judged", |bench| bench.iter(|| judge(black_box(SIMPLE), DIALECT)));
    benches.bench("a join of three tables is judged", |bench| bench.iter(|| judge(black_box(JOIN), DIALECT)));
    benches.bench("a text that the cache has not", |bench| {
        let mut cache = Cache::new(0, 0);
        bench.iter(|| cache.facts(black_box(SIMPLE), DIALECT));
    });
    benches.bench("a text that comes once", |bench| {
        let mut cache = Cache::new(4_096, 1 << 20);
        let mut text = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1000000000".to_vec();
        bench.iter(|| {
            count(&mut text, b"");
            cache.facts(black_box(&text), DIALECT)
        });
    });
    for (name, text) in [("a literal", LITERAL), ("a list of rows", ROWS)] {
        for shaping in [false, true] {
            let with = if shaping { "with" } else { "without" };
            benches.bench(&format!("a text with {name} that the cache has not, {with} its shape"), |bench| {
                let cache = Cache::new(0, 0);
                let mut cache = if shaping { cache.shaping() } else { cache };
                bench.iter(|| cache.facts(black_box(text), DIALECT));
            });
        }
    }
}

/// Texts that were read before, as they are or nearly.
fn remembering(benches: &mut Benches) {
    benches.bench("a text that the cache has", |bench| {
        let mut cache = Cache::new(4_096, 1 << 20);
        cache.facts(SIMPLE, DIALECT);
        cache.facts(SIMPLE, DIALECT);
        bench.iter(|| cache.facts(black_box(SIMPLE), DIALECT));
    });
    let trace = "/*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',n='10000000'*/";
    let simple = "SELECT abalance FROM pgbench_accounts WHERE aid = 1";
    for (what, text, behind) in [
        ("a number", "SELECT abalance FROM pgbench_accounts WHERE aid = 10000000".to_owned(), ""),
        ("a string", "SELECT id, data FROM wm.working_memory WHERE name = '10000000'".to_owned(), "'"),
        ("its comment", format!("{simple} {trace}"), "'*/"),
    ] {
        benches.bench(&format!("a text that differs in {what} from one that the cache has"), |bench| {
            let mut cache = Cache::new(4_096, 1 << 20);
            let mut text = text.clone().into_bytes();
            bench.iter(|| {
                count(&mut text, behind.as_bytes());
                cache.facts(black_box(&text), DIALECT)
            });
            assert!(cache.stats().misses <= 2, "{:?}", cache.stats());
        });
    }
}

/// For read-only routes.
fn guarding(benches: &mut Benches) {
    benches.bench("pgbench's SELECT is judged for a read-only route", |bench| {
        bench.iter(|| judge_guarded(black_box(SIMPLE), DIALECT));
    });
    let functions = ["wm.search".to_owned()];
    for (what, text) in
        [("pgbench's SELECT", SIMPLE), ("a call of a listed function", b"SELECT wm.search('a')")]
    {
        benches.bench(&format!("{what} that the cache has is let through by a read-only route"), |bench| {
            let mut cache = Cache::new(4_096, 1 << 20).guarding();
            cache.facts(text, DIALECT);
            bench.iter(|| {
                let facts = cache.facts(black_box(text), DIALECT);
                let breach = facts.verdict().and_then(|verdict| verdict.breach(false, Some(&functions)));
                assert!(breach.is_none());
            });
        });
    }
}

/// The next number, in place.
fn count(text: &mut [u8], behind: &[u8]) {
    let end = text.len() - behind.len();
    for digit in text[..end].iter_mut().rev().take_while(|digit| digit.is_ascii_digit()) {
        *digit = if *digit == b'9' { b'0' } else { *digit + 1 };
        if *digit != b'0' {
            break;
        }
    }
}
