//! The protocol, and the SQL of settings.

use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use firepool::backend::settings::{Parameters, Settings, difference};
use firepool::relay::reply::{Hearing, ReplyScan, Seen};
use firepool::relay::request::{Judging, RequestScan, Step, Stop, Walk};
use firepool::wire::frame;
use firepool::wire::frame::Header;
use firepool::wire::turn::{Asker, Turn};

const SIMPLE: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 54321;\0";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The one column `abalance`, as PostgreSQL describes it.
fn description() -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(b"abalance\0");
    body.extend([0; 18]);
    message(b'T', &body)
}

fn row_and_end() -> Vec<u8> {
    let row = message(b'D', b"\0\x01\0\0\0\x010");
    [row, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

/// What pgbench -S sends and gets back for one transaction.
struct Transaction {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Transaction {
    fn simple() -> Self {
        Self { request: message(b'Q', SIMPLE), reply: [description(), row_and_end()].concat() }
    }

    fn extended() -> Self {
        let parse = b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
        let bind = b"\0\0\0\0\0\x01\0\0\0\x0554321\0\x01\0\0";
        let request = [
            message(b'P', parse),
            message(b'B', bind),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ];
        let reply = [message(b'1', b""), message(b'2', b""), description(), row_and_end()];
        Self { request: request.concat(), reply: reply.concat() }
    }

    /// A server connection that has been asked, and its answer.
    fn asked(&self) -> (Turn, Vec<u8>) {
        let mut turn = Turn::new();
        scan_requests(&mut turn, &self.request);
        (turn, self.reply.clone())
    }
}

/// As a session does that judges everything and finds nothing to do.
fn scan_requests(turn: &mut Turn, request: &[u8]) -> Stop {
    let (mut scan, mut walk) = (RequestScan::default(), Walk::new(request));
    loop {
        match scan.next(turn, &mut walk, Judging::State) {
            Step::Stop(stop) => return stop,
            Step::Message { header: header @ Header { tag, .. }, .. } => {
                turn.request(tag, b'P', Asker::Client);
                scan.pass(&mut walk, header);
            }
        }
    }
}

pub(crate) fn benches(criterion: &mut Criterion) {
    frames(criterion);
    turns(criterion);
    scans(criterion);
    settings(criterion);
}

fn frames(criterion: &mut Criterion) {
    let Transaction { request, reply } = Transaction::simple();
    criterion.bench_function("the header of a request is read", |bench| {
        bench.iter(|| frame::request(black_box(&request)).unwrap());
    });
    criterion.bench_function("the header of a reply is read", |bench| {
        bench.iter(|| frame::reply(black_box(&reply)).unwrap());
    });
}

fn turns(criterion: &mut Criterion) {
    let mut turn = Turn::new();
    criterion.bench_function("a turn follows a simple round trip", |bench| {
        bench.iter(|| {
            turn.request(black_box(b'Q'), b'S', Asker::Client);
            for (tag, first) in [(b'T', 0), (b'D', 0), (b'C', b'S'), (b'Z', b'I')] {
                black_box(turn.reply(black_box(tag), first).unwrap());
            }
            turn.at_rest()
        });
    });
    criterion.bench_function("a turn follows an extended round trip", |bench| {
        bench.iter(|| {
            for tag in [b'P', b'B', b'D', b'E', b'S'] {
                turn.request(black_box(tag), b'P', Asker::Client);
            }
            for (tag, first) in [(b'1', 0), (b'2', 0), (b'T', 0), (b'D', 0), (b'C', b'S'), (b'Z', b'I')] {
                black_box(turn.reply(black_box(tag), first).unwrap());
            }
            turn.at_rest()
        });
    });
}

fn scans(criterion: &mut Criterion) {
    for (kind, transaction) in [("a simple", Transaction::simple()), ("an extended", Transaction::extended())]
    {
        criterion.bench_function(
            &format!("the request of {kind} pgbench -S transaction is scanned"),
            |bench| {
                let scan = |turn: &mut Turn| scan_requests(turn, black_box(&transaction.request));
                bench.iter_batched_ref(Turn::new, scan, BatchSize::SmallInput);
            },
        );
        criterion.bench_function(
            &format!("the reply of {kind} pgbench -S transaction is scanned"),
            |bench| {
                let scan = |(turn, chunk): &mut (Turn, Vec<u8>)| {
                    let mut seen = Seen::default();
                    let mut out = Vec::new();
                    ReplyScan::default()
                        .scan(turn, black_box(chunk), (&mut seen, &mut out), |_, _, _| Hearing::Pass)
                        .unwrap();
                    seen.transactions
                };
                bench.iter_batched_ref(|| transaction.asked(), scan, BatchSize::SmallInput);
            },
        );
    }
}

fn settings(criterion: &mut Criterion) {
    let settings = |timezone: &str| {
        let mut settings = Settings::default();
        let pairs = [("application_name", "bench"), ("client_encoding", "UTF8"), ("timezone", timezone)];
        for (name, value) in pairs {
            settings.set(name, value).unwrap();
        }
        settings
    };
    let (utc, zurich) = (settings("UTC"), settings("Europe/Zurich"));
    let mut reported = Parameters::default();
    for body in [&b"application_name\0bench\0"[..], b"client_encoding\0UTF8\0", b"TimeZone\0UTC\0"] {
        reported.report(body);
    }
    criterion.bench_function("equal settings are found to need nothing", |bench| {
        bench.iter(|| difference(black_box(&utc), black_box(&utc), black_box(&reported)));
    });
    criterion.bench_function("different settings become SQL", |bench| {
        bench.iter(|| difference(black_box(&utc), black_box(&zurich), black_box(&reported)));
    });
}
