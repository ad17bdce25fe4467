//! The protocol, and the SQL of settings.

use std::hint::black_box;

use firepool::backend::prepared::{Found, Statements, Wanted, server_name};
use firepool::backend::settings::{Parameters, Settings, difference};
use firepool::relay::reply::{Hearing, ReplyScan, Seen};
use firepool::relay::request::{Judging, RequestScan, Step, Stop, Walk, bind_names};
use firepool::wire::frame;
use firepool::wire::frame::Header;
use firepool::wire::turn::{Asker, Mark, Turn};

use crate::harness::Benches;

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

pub(crate) fn benches(benches: &mut Benches) {
    frames(benches);
    turns(benches);
    scans(benches);
    binds(benches);
    settings(benches);
}

fn frames(benches: &mut Benches) {
    let Transaction { request, reply } = Transaction::simple();
    benches.bench("the header of a request is read", |bench| {
        bench.iter(|| frame::request(black_box(&request)).unwrap());
    });
    benches.bench("the header of a reply is read", |bench| {
        bench.iter(|| frame::reply(black_box(&reply)).unwrap());
    });
}

fn turns(benches: &mut Benches) {
    let mut turn = Turn::new();
    benches.bench("a turn follows a simple round trip", |bench| {
        bench.iter(|| {
            turn.request(black_box(b'Q'), b'S', Asker::Client);
            for (tag, first) in [(b'T', 0), (b'D', 0), (b'C', b'S'), (b'Z', b'I')] {
                black_box(turn.reply(black_box(tag), first).unwrap());
            }
            turn.at_rest()
        });
    });
    benches.bench("a turn follows an extended round trip", |bench| {
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

fn scans(benches: &mut Benches) {
    for (kind, transaction) in [("a simple", Transaction::simple()), ("an extended", Transaction::extended())]
    {
        benches.bench(&format!("the request of {kind} pgbench -S transaction is scanned"), |bench| {
            let scan = |turn: &mut Turn| scan_requests(turn, black_box(&transaction.request));
            bench.iter_with(Turn::new, scan);
        });
        benches.bench(&format!("the reply of {kind} pgbench -S transaction is scanned"), |bench| {
            let scan = |(turn, chunk): &mut (Turn, Vec<u8>)| {
                let mut seen = Seen::default();
                let mut out = Vec::new();
                ReplyScan::default()
                    .scan(turn, black_box(chunk), (&mut seen, &mut out), |_, _, _| Hearing::Pass)
                    .unwrap();
                seen.transactions
            };
            bench.iter_with(|| transaction.asked(), scan);
        });
    }
}

/// What a session does of its own with a Bind of a statement that has a name: it finds out whether the server connection has
/// the statement, and puts the name there in the place of the client's.
fn binds(benches: &mut Benches) {
    let request = message(b'B', b"\0S_1\0\0\0\0\x01\0\0\0\x0554321\0\x01\0\0");
    let key = [7; 16];
    let name = server_name(&key);
    let mut statements = Statements::default();
    statements.sent(&key, 0, (1, 1));
    let mut out = Vec::with_capacity(64 * 1024);
    let mut rewrite = |turn: &mut Turn| {
        let (mut scan, mut walk) = (RequestScan::default(), Walk::new(black_box(&request)));
        let Step::Message { header, taken } = scan.next(turn, &mut walk, Judging::State) else { return 0 };
        let Some((portal, own)) = bind_names(&walk.rest()[5..taken]) else { return 0 };
        let found = statements.find(&key, 0, Wanted { generation: 1, shape: None });
        assert_eq!(found, Found::Ready);
        let replaced = portal.len() + own.len() + 2;
        let length = header.len - 1 - replaced + portal.len() + 1 + name.len();
        turn.mark_request(b'B', 0, Asker::Client, Mark::default());
        out.clear();
        out.push(b'B');
        out.extend_from_slice(&(length as u32).to_be_bytes());
        [portal, b"\0", &name].iter().for_each(|part| out.extend_from_slice(part));
        scan.replace(&mut walk, header, 5 + replaced);
        out.extend_from_slice(walk.take_run());
        out.len()
    };
    assert!(rewrite(&mut Turn::new()) > 0);
    benches.bench("a Bind gets the server's name of its statement", |bench| {
        bench.iter_with(Turn::new, &mut rewrite);
    });
}

fn settings(benches: &mut Benches) {
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
    benches.bench("equal settings are found to need nothing", |bench| {
        bench.iter(|| difference(black_box(&utc), black_box(&utc), black_box(&reported)));
    });
    benches.bench("different settings become SQL", |bench| {
        bench.iter(|| difference(black_box(&utc), black_box(&zurich), black_box(&reported)));
    });
}
