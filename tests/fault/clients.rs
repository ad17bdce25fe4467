//! Clients that do not behave.

use std::io::Read;
use std::net::Shutdown;

use crate::support::fixture::{Fixture, Lines};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, Server};
use crate::support::wait::until;

/// Bytes of memory that this process, with the proxy in it, has at the moment.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

pub fn a_client_that_never_reads_costs_little_and_hurts_nobody() {
    let fixture = Fixture::transaction(2);
    let mut admin = fixture.superuser();
    let mut greedy = fixture.client();
    let before = memory();
    greedy.send(&query("SELECT repeat('x', 1000000) FROM generate_series(1, 300)"));
    until("the server can send no more", || fixture.count(&mut admin, "wait_event = 'ClientWrite'") == 1);
    let mut other = fixture.client();
    for _ in 0..100 {
        assert_eq!(other.value("SELECT 'served'"), "served");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes of a result of 300 MB were taken into memory");
    // What it was sent is complete once it does read.
    let messages = std::iter::from_fn(|| greedy.message().filter(|message| message.tag != b'Z'));
    assert_eq!(messages.filter(|message| message.tag == b'D').count(), 300);
}

pub fn a_client_that_never_reads_can_be_ended() {
    let fixture = Fixture::new("pool_size = 1\ntimeouts = { query = \"1s\" }");
    let mut admin = fixture.superuser();
    let mut greedy = fixture.client();
    greedy.send(&query("SELECT repeat('x', 1000000) FROM generate_series(1, 300)"));
    until("the server can send no more", || fixture.count(&mut admin, "wait_event = 'ClientWrite'") == 1);
    assert_eq!(fixture.client().value("SELECT 'served'"), "served");
}

pub fn a_client_that_pipelines_without_reading_is_held_back() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    client.stream.set_nonblocking(true).unwrap();
    let (before, batch) = (memory(), query("SELECT repeat('x', 100000)").repeat(100));
    let mut sent = 0_usize;
    // Until nothing more is taken for as long as a query takes.
    let mut refused = 0;
    until("the client is held back", || {
        match std::io::Write::write(&mut client.stream, &batch) {
            Ok(taken) => (sent, refused) = (sent + taken, 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => refused += 1,
            Err(error) => panic!("{error}"),
        }
        refused > 100
    });
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {sent} bytes of requests");
    drop(client);
    assert_eq!(fixture.client().value("SELECT 'next'"), "next");
}

pub fn half_open_clients_are_gone_when_they_close_their_side() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    let mut waiting = fixture.client();
    waiting.run("BEGIN");
    let mut other = fixture.client();
    other.send(&query("SELECT 1"));
    until("it waits", || fixture.proxy.metric("firepool_clients", "waiting") == 1.0);
    other.stream.shutdown(Shutdown::Write).unwrap();
    until("it waits no more", || fixture.proxy.metric("firepool_clients", "waiting") == 0.0);
    waiting.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(waiting.message(), None);
    assert_eq!(fixture.client().value("SELECT 'next'"), "next");
    assert_eq!(fixture.count(&mut admin, "state <> 'idle'"), 0);
}

pub fn a_torn_login_leaves_nothing() {
    let fixture = Fixture::with(Lines { proxy: "max_clients = 3", ..Lines::default() });
    let packet = startup((3, 0), &[("user", &fixture.role), ("database", DATABASE)]);
    for length in 0..packet.len() {
        let mut raw = Raw::connect(fixture.proxy.address);
        raw.send(&packet[..length]);
        raw.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(raw.message(), None, "after {length} bytes");
    }
    let mut clients: Vec<_> = (0..3).map(|_| fixture.client()).collect();
    assert!(clients.iter_mut().all(|client| client.value("SELECT 1") == "1"));
}

pub fn five_hundred_that_never_finish_their_login_keep_nobody_out() {
    let fixture =
        Fixture::with(Lines { proxy: "max_clients = 20\nlogin_timeout = \"5m\"", ..Lines::default() });
    let packet = startup((3, 0), &[("user", &fixture.role), ("database", DATABASE)]);
    let mut unfinished: Vec<Raw> = Vec::new();
    for n in 0..500 {
        let mut raw = Raw::connect(fixture.proxy.address);
        raw.send(
            &packet[..match n % 3 {
                0 => 0,
                1 => 6,
                _ => packet.len(),
            }],
        );
        unfinished.push(raw);
    }
    let mut clients: Vec<_> = (0..20).map(|_| fixture.client()).collect();
    for client in &mut clients {
        assert_eq!(client.value("SELECT 'in'"), "in");
    }
    // Those that were asked for their password are still asked for it.
    for raw in unfinished.iter_mut().skip(2).step_by(3) {
        let mut tag = [0];
        raw.stream.read_exact(&mut tag).unwrap();
        assert_eq!(tag, *b"R");
    }
}

pub fn clients_that_vanish_at_every_moment_leave_the_pool_whole() {
    let fixture = Fixture::on(Server::shared(), Lines { route: "pool_size = 2", ..Lines::default() });
    let mut admin = fixture.superuser();
    let script = [
        query("BEGIN"),
        unnamed("SELECT $1::int", &["1"]),
        sync(),
        query("SELECT repeat('x', 100000)"),
        parse("named", "SELECT 1"),
        flush(),
        bind("", "named", &[]),
        execute("", 0),
        sync(),
        query("COMMIT"),
    ]
    .concat();
    for length in 0..=script.len() {
        let mut client = fixture.client();
        client.send(&script[..length]);
        drop(client);
        if length % 16 == 0 {
            assert_eq!(fixture.client().value("SELECT 'well'"), "well", "after {length} bytes");
            until("what was replaced is gone", || fixture.connections(&mut admin) <= 2);
        }
    }
    until("all is quiet", || fixture.count(&mut admin, "state <> 'idle'") == 0);
    assert_eq!(fixture.client().query("SELECT 1").status(), 'I');
}

/// A connection whose client left in the middle of a message is closed. Its backend takes a moment to end.
pub fn a_connection_is_replaced_only_after_its_backend_has_ended() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    for round in 0..100 {
        let mut client = fixture.client();
        client.run("BEGIN");
        client.send(&[b'Q', 0, 0, 0, 50, b'S']);
        let mut next = fixture.client();
        next.send(&query("SELECT 'next'"));
        drop(client);
        let reply = next.reply();
        assert_eq!(reply.rows(), [["next"]], "round {round}: {reply:?}");
        let connections = fixture.connections(&mut admin);
        assert!(connections <= 1, "{connections} connections in round {round}");
    }
}
