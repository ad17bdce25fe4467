//! OpenTelemetry spans of queries, on their way to a collector over OTLP.
//!
//! What it promises: whoever serves clients never waits for a collector. A span is plain data, put into a bounded queue
//! ([`Tracer`]); a thread of its own makes messages of them and sends those (`export`, `otlp`). What finds no place, or
//! no collector, is dropped and counted. What it never does: it changes no text, and shows no literal.
//!
//! The SDK of OpenTelemetry is not used: its queue neither counts what it drops nor is it read without a lock, and it
//! brings another generator of random numbers along.

mod export;
mod otlp;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

pub use export::{Endpoint, Exporter};

/// Queries that may wait for the collector. Each has a few hundred bytes, and one normalised text of at most a thousand.
pub const QUEUE: usize = 4096;

/// Bytes of the trace and of its span that caused a query, and whether they are recorded there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// Whoever caused it records it.
    pub sampled: bool,
}

/// Which trace a query belongs to that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span that is its parent; `None` where it is the first one.
    pub parent: Option<[u8; 8]>,
    /// The query's own span.
    pub span: [u8; 8],
}

/// Where queries go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The database as clients name it.
    pub database: String,
    /// The user.
    pub user: String,
    /// The server's host name, address, or folder.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out, for so many rows.
    Done(u64),
    /// With an error of this SQLSTATE.
    Failed([u8; 5]),
}

/// A query that has ended. Times are nanoseconds of the process's clock.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which trace it belongs to.
    pub context: Context,
    /// Where it went.
    pub place: Arc<Place>,
    /// What it is, in the words of metrics.
    pub operation: &'static str,
    /// Its text without literals, if that is known.
    pub text: Option<Box<str>>,
    /// From when until when its client waited for a server connection.
    pub waited: Option<(u64, u64)>,
    /// When it was sent to the server.
    pub sent: u64,
    /// When it had ended.
    pub ended: u64,
    /// How.
    pub outcome: Outcome,
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Spans that a collector has taken.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Queries, and spans of queries, that no collector will see.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn add_exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    fn add_dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }
}

/// Where queries are handed in. Each worker makes a [`Sampler`] of its own.
#[derive(Debug, Clone)]
pub struct Tracer {
    queue: mpsc::Sender<Query>,
    counts: Arc<Counts>,
    /// A number below it is recorded.
    threshold: u64,
}

impl Tracer {
    /// What became of spans.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// One for a worker.
    pub fn sampler(&self) -> Sampler {
        Sampler { tracer: self.clone(), state: Cell::new(random()), numbers: Cell::default() }
    }
}

/// A worker's.
#[derive(Debug)]
pub struct Sampler {
    tracer: Tracer,
    /// Of splitmix64, whose numbers decide and are nobody's identity.
    state: Cell<u64>,
    /// How many queries it has given a number.
    numbers: Cell<u32>,
}

impl Sampler {
    /// The trace of a query, if it is recorded: one that says who caused it is recorded where that is, and of the others so
    /// many as were asked for.
    pub fn begin(&self, parent: Option<Parent>) -> Option<Context> {
        match parent {
            Some(Parent { trace, span, sampled }) => {
                sampled.then(|| Context { trace, parent: Some(span), span: identity() })
            }
            None => self.chance().then(|| Context { trace: identity(), parent: None, span: identity() }),
        }
    }

    /// A number for a query, which is not 0 and, among those of its worker that are under way, no other's.
    pub fn number(&self) -> u32 {
        self.numbers.set(self.numbers.get().wrapping_add(1).max(1));
        self.numbers.get()
    }

    /// Hands in a query that has ended. Never waits.
    pub fn end(&self, query: Query) {
        if self.tracer.queue.try_send(query).is_err() {
            self.lost();
        }
    }

    /// Counts a query that could not be followed to its end.
    pub fn lost(&self) {
        self.tracer.counts.add_dropped(1);
    }

    fn chance(&self) -> bool {
        let next = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31) < self.tracer.threshold
    }
}

/// Below which of all numbers so many are. One is all of them, but for one in 2^64.
fn threshold(sample: f64) -> u64 {
    // `as` saturates.
    (sample.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

/// Random bytes, which are never all zero: that is no identity.
fn identity<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Where the operating system gives none, spans of different queries are told apart by chance.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    if bytes == [0; N] {
        bytes = [1; N];
    }
    bytes
}

fn random() -> u64 {
    u64::from_be_bytes(identity())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(sample: f64) -> (Tracer, mpsc::Receiver<Query>) {
        let (queue, queries) = mpsc::channel(2);
        (Tracer { queue, counts: Arc::default(), threshold: threshold(sample) }, queries)
    }

    fn query(context: Context) -> Query {
        let place = Place { database: "d".into(), user: "u".into(), host: "h".into(), port: 1 };
        Query {
            context,
            place: Arc::new(place),
            operation: "select",
            text: None,
            waited: None,
            sent: 1,
            ended: 2,
            outcome: Outcome::Done(1),
        }
    }

    #[test]
    fn whoever_caused_a_query_decides_and_chance_decides_about_the_others() {
        for (sample, expected) in [(0.0, 0..=0), (0.01, 50..=150), (0.5, 4800..=5200), (1.0, 10_000..=10_000)]
        {
            let sampler = tracer(sample).0.sampler();
            let recorded = (0..10_000).filter(|_| sampler.begin(None).is_some()).count();
            assert!(expected.contains(&recorded), "{sample}: {recorded}");
            let caused = |sampled| Some(Parent { trace: [7; 16], span: [8; 8], sampled });
            assert_eq!(sampler.begin(caused(false)), None);
            let context = sampler.begin(caused(true)).unwrap();
            assert_eq!((context.trace, context.parent), ([7; 16], Some([8; 8])));
            assert_ne!(context.span, [0; 8]);
        }
    }

    #[test]
    fn what_finds_no_place_is_dropped_and_counted() {
        let (tracer, mut queries) = tracer(1.0);
        let sampler = tracer.sampler();
        for _ in 0..5 {
            sampler.end(query(sampler.begin(None).unwrap()));
        }
        assert_eq!(tracer.counts().dropped(), 3);
        assert!(queries.try_recv().is_ok() && queries.try_recv().is_ok() && queries.try_recv().is_err());
        drop(queries);
        sampler.end(query(sampler.begin(None).unwrap()));
        assert_eq!(tracer.counts().dropped(), 4);
    }
}
