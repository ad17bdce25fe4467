//! What SQL costs to judge: once, and again.

use std::hint::black_box;

use criterion::Criterion;
use firepool::statement::{Cache, Dialect, Encoding, judge};

const SIMPLE: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1";
const LITERAL: &[u8] =
    b"SELECT id, name, data FROM wm.working_memory WHERE name = 'a memory' AND id <> 1.5 LIMIT 10";
const ROWS: &[u8] = b"INSERT INTO entity.node (id, kind, data) VALUES (1, 'person', '{}'), (2, 'place', NULL), (3, 'person', '{}')";
const DIALECT: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("statement");
    group.bench_function("judging pgbench's SELECT", |bench| {
        bench.iter(|| judge(black_box(SIMPLE), DIALECT));
    });
    group.bench_function("a text that the cache has", |bench| {
        let mut cache = Cache::new(4_096, 1 << 20);
        cache.facts(SIMPLE, DIALECT);
        cache.facts(SIMPLE, DIALECT);
        bench.iter(|| cache.facts(black_box(SIMPLE), DIALECT));
    });
    group.bench_function("a text that the cache has not", |bench| {
        let mut cache = Cache::new(0, 0);
        bench.iter(|| cache.facts(black_box(SIMPLE), DIALECT));
    });
    group.bench_function("a text that comes once", |bench| {
        let mut cache = Cache::new(4_096, 1 << 20);
        let mut text = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1000000000".to_vec();
        bench.iter(|| {
            // The next number, in place.
            for digit in text.iter_mut().rev().take_while(|digit| digit.is_ascii_digit()) {
                *digit = if *digit == b'9' { b'0' } else { *digit + 1 };
                if *digit != b'0' {
                    break;
                }
            }
            cache.facts(black_box(&text), DIALECT)
        });
    });
    for (name, text) in [("a literal", LITERAL), ("a list of rows", ROWS)] {
        for shaping in [false, true] {
            let with = if shaping { "with" } else { "without" };
            group.bench_function(
                format!("a text with {name} that the cache has not, {with} its shape"),
                |bench| {
                    let cache = Cache::new(0, 0);
                    let mut cache = if shaping { cache.shaping() } else { cache };
                    bench.iter(|| cache.facts(black_box(text), DIALECT));
                },
            );
        }
    }
    group.bench_function("judging a join of three tables", |bench| {
        let text = b"SELECT o.id, c.name, sum(l.price * l.amount) FROM orders o JOIN customers c ON c.id = o.customer_id \
            LEFT JOIN lines l ON l.order_id = o.id WHERE o.created > now() - interval '1 day' AND c.country IN ('a', 'b') \
            GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10";
        bench.iter(|| judge(black_box(text), DIALECT));
    });
    group.finish();
}
