//! Spans of queries, as a collector of OTLP reads them: of simple and extended queries against a real server, and what a
//! collector that hangs, or is away, costs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::support::fixture::Proxy;
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::{eventually, until};

/// A trace that is recorded, and one that is not.
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-11111111111111111111111111111111-00f067aa0ba902b7-00";

/// A collector in the test. It keeps every span that it was sent.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self { address, spans: Arc::default(), services: Arc::default() };
        let taking = collector.clone();
        thread::spawn(move || listener.incoming().for_each(|socket| taking.take(socket.unwrap())));
        collector
    }

    fn take(&self, socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut head = HashMap::new();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            head.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        assert_eq!(head["content-type"], "application/x-protobuf");
        let mut body = vec![0; head["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&*body).unwrap();
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let service = service.value.clone().unwrap().value.unwrap();
            let Value::StringValue(service) = service else { panic!("{service:?}") };
            self.services.lock().unwrap().push(service);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans);
        }
        // An answer without a body is an answer without anything to complain about.
        (&socket).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }

    /// Every span of a query, once there are so many queries: the whole, with its parts.
    fn queries(&self, count: usize) -> Vec<Trace> {
        eventually(&format!("{count} queries"), || {
            let spans = self.spans.lock().unwrap();
            let whole: Vec<_> = spans.iter().filter(|span| span.kind == 2).cloned().collect();
            let parts = |whole: &Span| {
                let of = |span: &&Span| span.parent_span_id == whole.span_id;
                spans.iter().filter(of).cloned().collect()
            };
            let traces = whole.iter().map(|whole| Trace { whole: whole.clone(), parts: parts(whole) });
            (whole.len() >= count).then(|| traces.collect())
        })
    }
}

/// One query.
#[derive(Debug)]
struct Trace {
    whole: Span,
    parts: Vec<Span>,
}

impl Trace {
    fn attribute(&self, name: &str) -> String {
        let found = self.whole.attributes.iter().find(|attribute| attribute.key == name);
        match found.and_then(|found| found.value.clone()?.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn part(&self, kind: i32) -> Option<&Span> {
        self.parts.iter().find(|part| part.kind == kind)
    }

    fn trace_id(&self) -> String {
        self.whole.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A proxy that sends spans to `collector`, with one server connection.
fn traced(server: &Server, role: &str, collector: SocketAddr, (sample, mode): (&str, &str)) -> Proxy {
    // In one of the modes nothing else is counted.
    let metrics = if mode == "statement" { "by_schema = false\ntop_statements = 0\n" } else { "" };
    Proxy::start(
        server,
        &format!(
            "[proxy]\nworkers = 1\n[metrics]\n{metrics}refresh = \"0s\"\n\
             [tracing]\notlp_endpoint = \"http://{collector}\"\nsample = {sample}\nservice_name = \"pool\"\n\
             [users.{role}]\npassword = \"{PASSWORD}\"\n\
             [[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"{role}\"\nmode = \"{mode}\"\npool_size = 1\n"
        ),
    )
}

fn commented(sql: &str, traceparent: &str) -> String {
    format!("{sql} /*application='shop',traceparent='{traceparent}'*/")
}

pub fn a_query_has_the_trace_and_the_parent_that_its_comment_says() {
    for mode in ["session", "transaction", "statement"] {
        let (server, collector) = (Server::shared(), Collector::start());
        let role = server.role();
        let proxy = traced(&server, &role, collector.address, ("0", mode));
        let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
        let before = nanos();
        client.run("SELECT 'of no trace'");
        client.run(&commented("SELECT 'not recorded'", UNSAMPLED));
        client.run(&commented("SELECT 'a secret', generate_series(1, 3)", SAMPLED));
        let sql = commented("SELECT $1::text, 'a secret'", SAMPLED);
        let reply = client.batch(&[unnamed(&sql, &["another secret"]), sync()]);
        assert_eq!(reply.code(), "");
        let named = [parse("s", &sql), bind("", "s", &["x"]), describe(b'P', ""), execute("", 0), sync()];
        assert_eq!(client.batch(&named).code(), "");
        client.query(&commented("SELECT 1/0", SAMPLED));
        client.query(&commented("SELEC 'it's a secret, that's it'", SAMPLED));
        let reply = client.batch(&[unnamed(&commented("SELECT 1/$1::int", SAMPLED), &["0"]), sync()]);
        assert_eq!(reply.code(), "22012");
        let reply = client.batch(&[parse("", &commented("SELECT nothing", SAMPLED)), sync()]);
        assert_eq!(reply.code(), "42703");

        let queries = collector.queries(7);
        assert_eq!(queries.len(), 7, "{mode}: {queries:#?}");
        let outcomes: Vec<_> =
            queries.iter().map(|query| query.attribute("db.response.status_code")).collect();
        assert_eq!(outcomes, ["None", "None", "None", "22012", "42601", "22012", "42703"], "{mode}");
        for (number, query) in queries.iter().enumerate() {
            assert_eq!(query.trace_id(), SAMPLED[3..35], "{mode} {number}");
            assert_eq!(query.whole.parent_span_id, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
            assert_eq!(query.attribute("db.system.name"), "postgresql");
            assert_eq!(query.attribute("db.namespace"), DATABASE);
            assert_eq!(query.attribute("server.address"), server.address().ip().to_string());
            assert_eq!(query.attribute("server.port"), server.address().port().to_string());
            assert_eq!(query.whole.status.is_some(), number >= 3);
            let of_server = query.part(3).unwrap();
            assert_eq!(of_server.trace_id, query.whole.trace_id);
            assert_ne!(of_server.span_id, query.whole.span_id);
            let (start, end) = (query.whole.start_time_unix_nano, query.whole.end_time_unix_nano);
            assert!(before <= start && start <= end && end <= nanos(), "{before} {start} {end}");
            assert!(of_server.start_time_unix_nano >= start && of_server.end_time_unix_nano == end);
        }
        assert_eq!(queries[0].attribute("db.operation.name"), "SELECT");
        assert_eq!(queries[0].whole.name, format!("SELECT {DATABASE}"));
        assert_eq!(queries[0].attribute("db.response.returned_rows"), "3");
        assert_eq!(queries[0].attribute("db.query.text"), "select ?, generate_series(?)");
        assert!(!format!("{queries:?}").contains("secret"), "{mode}");
        assert!(collector.services.lock().unwrap().iter().all(|service| service == "pool"));
        let counted = || proxy.metric("firepool_spans_exported_total", "");
        until("they are counted", || counted() == collector.spans.lock().unwrap().len() as f64);
        assert_eq!(proxy.metric("firepool_spans_dropped_total", ""), 0.0);
    }
}

pub fn a_pipeline_of_queries_gives_each_its_own_trace() {
    let (server, collector) = (Server::shared(), Collector::start());
    let role = server.role();
    let proxy = traced(&server, &role, collector.address, ("0", "transaction"));
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    let trace = |number: usize| format!("00-{number:032x}-00f067aa0ba902b7-{:02x}", number % 2);
    let mut pipeline = Vec::new();
    for number in 1..=40 {
        let sql = format!("SELECT generate_series(1, {number})");
        match number % 3 {
            0 => pipeline.push(query(&commented(&sql, &trace(number)))),
            1 => pipeline.extend([unnamed(&commented(&sql, &trace(number)), &[]), sync()]),
            _ => {
                let name = format!("s{number}");
                pipeline.push(parse(&name, &commented(&sql, &trace(number))));
                pipeline.extend([bind("", &name, &[]), execute("", 0), sync()]);
            }
        }
    }
    client.send(&pipeline.concat());
    for _ in 1..=40 {
        assert_eq!(client.reply().code(), "");
    }
    let queries = collector.queries(20);
    let found: Vec<_> = queries
        .iter()
        .map(|query| (query.trace_id(), query.attribute("db.response.returned_rows")))
        .collect();
    let expected: Vec<_> =
        (1..=40).step_by(2).map(|number| (format!("{number:032x}"), number.to_string())).collect();
    assert_eq!(found, expected);
}

pub fn what_is_skipped_behind_an_error_leaves_its_trace_to_nobody() {
    let (server, collector) = (Server::shared(), Collector::start());
    let role = server.role();
    let proxy = traced(&server, &role, collector.address, ("0", "transaction"));
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    let trace = |number: usize| format!("00-{number:032x}-00f067aa0ba902b7-01");
    let pipeline = [
        parse("s", &commented("SELECT 1", &trace(1))),
        sync(),
        parse("", &commented("SELEC", &trace(2))),
        // What the name means is open when it comes, and it is skipped when it comes again.
        parse("s", &commented("SELECT 3", &trace(3))),
        sync(),
        query(&commented("SELECT 4", &trace(4))),
    ];
    client.send(&pipeline.concat());
    assert_eq!([(); 3].map(|()| client.reply().code()), ["", "42601", ""]);
    let found: Vec<_> = collector.queries(1).iter().map(Trace::trace_id).collect();
    assert_eq!(found, [format!("{:032x}", 4)]);
}

pub fn a_wait_for_a_server_connection_is_a_part_of_what_waited() {
    let (server, collector) = (Server::shared(), Collector::start());
    let role = server.role();
    let proxy = traced(&server, &role, collector.address, ("1", "transaction"));
    let mut holder = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    let mut waiter = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    holder.run("BEGIN");
    waiter.send(&query("SELECT 'waited'"));
    until("it waits", || proxy.metric("firepool_clients", "waiting") == 1.0);
    thread::park_timeout(Duration::from_millis(150));
    holder.run("COMMIT");
    assert_eq!(waiter.reply().code(), "");
    let queries = collector.queries(3);
    let waited = queries.iter().find(|query| query.attribute("db.operation.name") == "SELECT").unwrap();
    let wait = waited.part(1).unwrap();
    let length = wait.end_time_unix_nano - wait.start_time_unix_nano;
    assert!(length >= 150_000_000, "{length}");
    assert_eq!(wait.start_time_unix_nano, waited.whole.start_time_unix_nano);
    assert!(waited.part(3).unwrap().start_time_unix_nano >= wait.end_time_unix_nano);
    // Nobody caused it: it has a trace of its own.
    assert!(waited.whole.parent_span_id.is_empty());
    let traces: std::collections::HashSet<_> = queries.iter().map(Trace::trace_id).collect();
    assert_eq!(traces.len(), 3);
    assert_eq!(queries.iter().filter(|query| query.part(1).is_some()).count(), 1);
}

pub fn a_query_whose_server_dies_has_failed_and_a_statement_that_is_bound_later_is_followed() {
    let (server, collector) = (Server::own(), Collector::start());
    let role = server.role();
    let proxy = traced(&server, &role, collector.address, ("0", "transaction"));
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    assert_eq!(client.batch(&[parse("s", &commented("SELECT 5", SAMPLED)), sync()]).code(), "");
    assert_eq!(client.batch(&[bind("", "s", &[]), execute("", 0), sync()]).code(), "");
    assert_eq!(client.batch(&[bind("", "s", &[]), execute("", 0), sync()]).code(), "");
    client.send(&query(&commented("SELECT pg_sleep(60)", SAMPLED)));
    let mut admin = server.superuser(DATABASE);
    let running = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'";
    until("it runs", || admin.value(&format!("SELECT count(*) {running}")) == "1");
    server.kill();
    assert!(client.reply().ended);
    let queries = collector.queries(2);
    let ends: Vec<_> = queries.iter().map(|query| query.attribute("error.type")).collect();
    assert_eq!(ends[0], "None");
    assert!(["57P02", "57P01", "08006"].contains(&ends[1].as_str()), "{ends:?}");
    assert_eq!(queries.len(), 2, "only the first Bind is of the trace in the Parse");
}

/// Runs so many recorded queries, and says how long they took.
fn storm(client: &mut Raw, queries: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..queries {
        assert_eq!(client.query("SELECT 1").code(), "");
    }
    start.elapsed()
}

pub fn a_collector_that_hangs_or_is_away_costs_spans_and_no_client_its_time() {
    let server = Server::shared();
    let role = server.role();
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (held, sockets): (SyncSender<TcpStream>, _) = sync_channel(64);
    let address = hanging.local_addr().unwrap();
    thread::spawn(move || hanging.incoming().for_each(|socket| held.send(socket.unwrap()).unwrap()));
    for (collector, count) in [(address, 6_000), (away, 1_000)] {
        let mut proxy = traced(&server, &role, collector, ("1", "transaction"));
        let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
        storm(&mut client, count);
        let dropped = || proxy.metric("firepool_spans_dropped_total", "");
        if collector == address {
            // Those in the queue and in the request that hangs are all that is kept.
            let least = count - firepool::spans::QUEUE - 512;
            until("the rest is dropped", || dropped() >= least as f64);
            let memory = resident();
            storm(&mut client, 2_000);
            assert!(resident() < memory + 16 * 1024, "{memory} KiB became {} KiB", resident());
        } else {
            until("what could not be sent is dropped", || dropped() > 0.0);
        }
        assert_eq!(proxy.metric("firepool_spans_exported_total", ""), 0.0);
        drop(client);
        // The end does not wait for it either.
        let start = Instant::now();
        proxy.drain(Duration::from_secs(5)).join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
    drop(sockets);
}

pub fn a_query_that_is_too_long_to_be_read_is_followed_as_well() {
    for mode in ["session", "transaction"] {
        let (server, collector) = (Server::shared(), Collector::start());
        let role = server.role();
        let proxy = traced(&server, &role, collector.address, ("1", mode));
        let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
        for length in [60_000, 300_000] {
            client.run(&format!("SELECT length('{}')", "secret".repeat(length / 6)));
        }
        client.run("SELECT 'behind'");
        let queries = collector.queries(3);
        assert_eq!(queries.len(), 3, "{mode}");
        assert!(!format!("{queries:?}").contains("secret"), "{mode}");
    }
}

pub fn what_waits_at_the_end_is_still_sent() {
    let (server, collector) = (Server::shared(), Collector::start());
    let role = server.role();
    let mut proxy = traced(&server, &role, collector.address, ("1", "transaction"));
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    storm(&mut client, 20);
    drop(client);
    proxy.drain(Duration::from_secs(5)).join().unwrap();
    assert_eq!(collector.queries(20).len(), 20);
}

/// Now, in nanoseconds since 1970.
fn nanos() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
