//! The table of statements and what is read of it.

use std::sync::Arc;
use std::time::Duration;

use super::ranking::{Figures, Order, Ranking};
use super::roster::Roster;
use super::top::{Place, Table};
use super::traffic::Counts;
use super::{Metrics, PoolMetrics};
use crate::statement::{Cache, Dialect, Encoding, Shape};

const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };

struct Bench {
    metrics: Metrics,
    pool: Arc<PoolMetrics>,
    cache: Cache,
}

impl Bench {
    fn new(workers: usize, most: usize) -> Self {
        let metrics = Metrics::new(workers).unwrap().ranking_statements(most);
        let roster = Arc::new(Roster::new(&["wm".into(), "entity".into()], 8));
        let pool = metrics.pool("db", "user", Some(roster)).unwrap();
        Self { metrics, pool, cache: Cache::new(16, 10_000).shaping() }
    }

    fn table(&self, worker: usize) -> Table {
        self.metrics.table(worker).unwrap()
    }

    fn shape(&mut self, text: &str) -> Arc<Shape> {
        let facts = self.cache.facts(text.as_bytes(), PLAIN);
        Arc::clone(facts.named().statement(0).unwrap().shape().unwrap())
    }

    fn run(&mut self, table: &mut Table, text: &str, micros: u64) -> Place {
        let shape = self.shape(text);
        let place = table.enter(&shape, &self.pool);
        table.count(place, 1 << 4, &carried(2, micros));
        place
    }

    fn ranking(&self) -> Ranking {
        self.metrics.ranking().unwrap()
    }

    fn texts(&self, order: Order) -> Vec<String> {
        self.ranking().first(order, 100).iter().map(|ranked| ranked.text.clone()).collect()
    }
}

fn carried(rows: u64, micros: u64) -> Counts {
    Counts { carried: true, rows, failed: None, received: 0, sent: 0, server: Some(micros * 1_000) }
}

#[test]
fn what_workers_have_counted_is_put_together_by_shape_database_and_user() {
    let mut bench = Bench::new(2, 10);
    let (mut first, mut second) = (bench.table(0), bench.table(1));
    for number in 0..10 {
        bench.run(&mut first, &format!("SELECT a FROM t WHERE b = {number}"), 100);
        bench.run(&mut second, &format!("select a from t where b = 'x{number}'"), 300);
    }
    let failed = Counts { carried: false, rows: 0, failed: Some(*b"42"), ..carried(0, 50) };
    let shape = bench.shape("SELECT a FROM t WHERE b = 1");
    let place = second.enter(&shape, &bench.pool);
    second.count(place, 1 << 5, &failed);
    second.waited(place, 7_000);
    let other = bench.metrics.pool("db", "other", None).unwrap();
    let place = first.enter(&shape, &other);
    first.count(place, 1, &carried(1, 1));

    let ranking = bench.ranking();
    let [ranked, alone] = &ranking.first(Order::Total, 100)[..] else { panic!("{ranking:?}") };
    assert_eq!((&*ranked.text, &*ranked.user), ("select a from t where b = ?", "user"));
    assert_eq!(ranked.schemas, ["wm", "entity"]);
    let figures = &ranked.figures;
    assert_eq!((figures.calls, figures.errors, figures.rows, figures.waits), (20, 1, 40, 1));
    assert_eq!(figures.total(), Duration::from_micros(4_050));
    assert_eq!(figures.waited(), Duration::from_micros(7));
    assert_eq!(figures.mean(), Some(Duration::from_micros(4_050) / 21));
    assert_eq!(figures.min(), Some(Duration::from_micros(50)));
    assert_eq!(figures.max(), Some(Duration::from_micros(300)));
    assert_eq!(figures.quantile(990), Some(Duration::from_micros(300)));
    assert_eq!((&*alone.user, alone.schemas.len(), alone.figures.calls), ("other", 0, 1));
    assert_eq!((ranking.other.clone(), ranking.total().calls), (Figures::default(), 21));
}

#[test]
fn a_table_is_bounded_and_what_gives_way_is_counted_in_other() {
    let mut bench = Bench::new(1, 50);
    let mut table = bench.table(0);
    for number in 0..50_000 {
        bench.run(&mut table, &format!("SELECT c{number}"), 1 + number % 7);
    }
    let ranking = bench.ranking();
    assert_eq!((ranking.statements.len(), ranking.gone), (50, 49_950));
    assert_eq!(ranking.other.calls, 49_950);
    let total = ranking.total();
    assert_eq!((total.calls, total.rows), (50_000, 100_000));
    assert_eq!(total.total(), Duration::from_micros((0..50_000_u64).map(|n| 1 + n % 7).sum()));
    assert_eq!((total.min(), total.max()), (Some(Duration::from_micros(1)), Some(Duration::from_micros(7))));
}

#[test]
fn what_is_used_all_the_time_stays_and_what_was_slow_once_does_not() {
    let mut bench = Bench::new(1, 20);
    let mut table = bench.table(0);
    bench.run(&mut table, "SELECT slow_once", 10_000_000);
    for number in 0..5_000 {
        bench.run(&mut table, "SELECT often", 100);
        bench.run(&mut table, &format!("SELECT c{number}"), 90);
    }
    let texts = bench.texts(Order::Calls);
    assert_eq!(texts[0], "select often");
    assert_eq!(bench.ranking().first(Order::Calls, 1)[0].figures.calls, 5_000);
    assert!(!texts.iter().any(|text| text == "select slow_once"));
}

#[test]
fn a_statement_whose_row_has_gone_meanwhile_is_counted_in_other() {
    let mut bench = Bench::new(1, 1);
    let mut table = bench.table(0);
    let place = bench.run(&mut table, "SELECT a", 10);
    bench.run(&mut table, "SELECT b", 10);
    table.count(place, 1, &carried(5, 10));
    table.waited(place, 9);
    table.count(Place::default(), 1, &carried(7, 10));
    let ranking = bench.ranking();
    assert_eq!(ranking.statements.len(), 1);
    assert_eq!((ranking.statements[0].figures.calls, ranking.statements[0].figures.rows), (1, 2));
    assert_eq!((ranking.other.calls, ranking.other.rows, ranking.other.waits), (3, 14, 1));
}

#[test]
fn each_order_has_its_own_first() {
    let mut bench = Bench::new(1, 50);
    let mut table = bench.table(0);
    let mut place = |name: &str| {
        let shape = bench.shape(&format!("SELECT {name}"));
        table.enter(&shape, &bench.pool)
    };
    let names = ["total", "mean", "calls", "p99", "rows", "errors", "wait"];
    let [total, mean, calls, p99, rows, errors, wait] = names.map(&mut place);
    (0..100).for_each(|_| table.count(total, 1, &carried(1, 10_000)));
    table.count(mean, 1, &carried(1, 50_000));
    (0..1_000).for_each(|_| table.count(calls, 1, &carried(1, 1)));
    (0..50).for_each(|number| table.count(p99, 1, &carried(1, if number == 9 { 90_000 } else { 10 })));
    table.count(rows, 1, &carried(1_000_000, 1));
    table.count(errors, 1, &Counts { carried: false, failed: Some(*b"23"), ..carried(0, 1) });
    table.waited(wait, 1_000);
    for order in Order::ALL {
        assert_eq!(bench.texts(order)[0], format!("select {}", order.as_str()));
    }
}

#[test]
fn without_places_there_is_no_table() {
    let metrics = Metrics::new(2).unwrap();
    assert!(metrics.table(0).is_none() && metrics.ranking().is_none());
}
