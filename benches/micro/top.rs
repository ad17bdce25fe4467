//! What it costs to count a statement by its shape: one that is in the table, and one that never comes again.

use std::hint::black_box;
use std::sync::Arc;

use firepool::metrics::{Counts, Metrics};
use firepool::statement::{Cache, Dialect, Encoding, Shape};

use crate::harness::Benches;

const DIALECT: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
const COUNTS: Counts =
    Counts { carried: true, rows: 1, failed: None, received: 50, sent: 80, server: Some(200_000) };

fn shape(cache: &mut Cache, text: &str) -> Arc<Shape> {
    let facts = cache.facts(text.as_bytes(), DIALECT);
    Arc::clone(facts.named().statement(0).and_then(|first| first.shape()).unwrap())
}

pub(crate) fn benches(benches: &mut Benches) {
    let metrics = Metrics::new(1).unwrap().ranking_statements(500);
    let pool = metrics.pool("db", "user", None).unwrap();
    let mut table = metrics.table(0).unwrap();
    let mut cache = Cache::new(16, 10_000).shaping();
    let shapes: Vec<_> = (0..2_000).map(|number| shape(&mut cache, &format!("SELECT c{number}"))).collect();
    let known = &shapes[0];
    benches.bench("a statement that the table has is found and counted", |bench| {
        table.enter(known, &pool);
        bench.iter(|| {
            let place = table.find(black_box(known), &pool);
            table.count(place, 1, &COUNTS);
        });
    });
    benches.bench("a statement that never comes again drives out another", |bench| {
        let mut next = shapes.iter().cycle();
        bench.iter(|| {
            if let Some(shape) = next.next() {
                let place = table.enter(shape, &pool);
                table.count(place, 1, &COUNTS);
            }
        });
    });
    benches.bench("a table of 500 is read", |bench| bench.iter(|| metrics.ranking()));
}
