//! Peers that send without end while the other side does not read. Memory stays bounded; what was sent still arrives.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::peers::bytes::{answer, complete, description, message, ready};
use crate::peers::client::Client;
use crate::peers::proxy::Proxy;
use crate::peers::server::Server;
use crate::peers::{eventually, resident};

/// What a flood may add to the resident memory of this process, in KiB. The tests run side by side in one process, so
/// that it is far more than the proxy takes, and far less than is sent.
const ALLOWANCE: u64 = 48 * 1024;

const HUNDRED_MEGABYTES: usize = 100_000_000;

/// Writes `piece` so many times on a thread of its own; how many it has written.
fn pour(client: &Client, head: Vec<u8>, piece: Vec<u8>, times: usize) -> Arc<AtomicUsize> {
    let written = Arc::<AtomicUsize>::default();
    let (mut socket, count) = (client.socket.try_clone().unwrap(), Arc::clone(&written));
    thread::spawn(move || {
        socket.write_all(&head).unwrap();
        for _ in 0..times {
            socket.write_all(&piece).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    written
}

/// Waits until the count stands still: the flood is held back.
fn held_back(count: &AtomicUsize) -> usize {
    let (mut last, mut still) = (usize::MAX, 0);
    eventually("the flood to be held back", || {
        let now = count.load(Ordering::SeqCst);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        (still > 60).then_some(now)
    })
}

#[test]
fn a_query_of_100_mb_to_a_server_that_does_not_read_is_held_back_and_arrives_whole() {
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
        assert_eq!(conn.receive_raw(5)?[0], b'Q');
        let mut left = HUNDRED_MEGABYTES;
        while left > 0 {
            let taken = conn.receive_raw(left.min(50_000))?;
            assert!(taken.iter().all(|&byte| byte == b'q'));
            left -= taken.len();
        }
        conn.send(&answer(b"read"))?;
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    let before = resident();
    let head = [&b"Q"[..], &(HUNDRED_MEGABYTES as u32 + 4).to_be_bytes()].concat();
    let count = pour(&client, head, vec![b'q'; 50_000], HUNDRED_MEGABYTES / 50_000);
    let pieces = held_back(&count);
    let held = resident();
    println!(
        "100 MB query: held back after {} kB; {before} KiB resident before, {held} KiB then",
        pieces * 50
    );
    assert!(pieces < HUNDRED_MEGABYTES / 50_000, "nobody held it back");
    assert!(held < before + ALLOWANCE, "{before} KiB before, {held} KiB then");
    go.store(true, Ordering::SeqCst);
    assert_eq!(client.until_ready().unwrap(), answer(b"read"));
    let after = resident();
    println!("100 MB query: {after} KiB resident after it was read");
    assert!(after < before + ALLOWANCE, "{before} KiB before, {after} KiB after");
    assert_eq!(client.query("SELECT 'next'").unwrap(), answer(b"SELECT 'next'"));
}

#[test]
fn an_answer_of_100_mb_to_a_client_that_does_not_read_is_held_back_and_arrives_whole() {
    let sent = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&sent);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        conn.expect(b'Q')?;
        conn.send(&description())?;
        let row = message(b'D', &[b'r'; 49_995]);
        for _ in 0..HUNDRED_MEGABYTES / 50_000 {
            conn.send(&row)?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        conn.send(&[complete("SELECT 2000"), ready(b'I')].concat())?;
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    let before = resident();
    client.send(&crate::peers::bytes::query("SELECT everything"));
    let rows = held_back(&sent);
    let held = resident();
    println!(
        "100 MB answer: held back after {} kB; {before} KiB resident before, {held} KiB then",
        rows * 50
    );
    assert!(rows < HUNDRED_MEGABYTES / 50_000, "nobody held it back");
    assert!(held < before + ALLOWANCE, "{before} KiB before, {held} KiB then");
    let behind = [complete("SELECT 2000"), ready(b'I')].concat();
    let length = description().len() + HUNDRED_MEGABYTES;
    let copied = io::copy(&mut (&mut client.socket).take(length as u64), &mut io::sink()).unwrap();
    assert_eq!(copied, length as u64);
    assert_eq!(client.receive_raw(behind.len()), behind);
    assert_eq!(client.query("SELECT 'next'").unwrap(), answer(b"SELECT 'next'"));
}

#[test]
fn a_pipeline_of_100_000_messages_without_a_sync_is_answered_to_its_last() {
    const BATCHES: usize = 33_333;
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    let before = resident();
    let parse = message(b'P', b"\0SELECT 1\0\0\0");
    let batch = [message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0")];
    pour(&client, parse, batch.concat(), BATCHES);
    let reply = [message(b'2', b""), answer(b"SELECT 1")].concat();
    let reply = &reply[..reply.len() - ready(b'I').len()];
    assert_eq!(client.receive_raw(5), message(b'1', b""));
    for number in 0..BATCHES {
        assert!(client.receive_raw(reply.len()) == reply, "reply {number}");
    }
    let after = resident();
    println!("100,000 messages without Sync: {before} KiB resident before, {after} KiB after");
    assert!(after < before + ALLOWANCE, "{before} KiB before, {after} KiB after");
    client.send(&message(b'S', b""));
    assert_eq!(client.until_ready().unwrap(), ready(b'I'));
    let mut other = Client::log_in(proxy.address);
    assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"));
}

#[test]
fn fifty_thousand_syncs_in_flight_to_a_slow_server_are_answered_one_by_one() {
    const SYNCS: usize = 50_000;
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
        for _ in 0..SYNCS {
            conn.expect(b'S')?;
            conn.send(&ready(b'I'))?;
        }
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    let before = resident();
    let count = pour(&client, Vec::new(), message(b'S', b"").repeat(100), SYNCS / 100);
    held_back(&count);
    let held = resident();
    println!("50,000 Syncs: {before} KiB resident before, {held} KiB then");
    assert!(held < before + ALLOWANCE, "{before} KiB before, {held} KiB then");
    go.store(true, Ordering::SeqCst);
    let all = client.receive_raw(SYNCS * 6);
    assert!(all == ready(b'I').repeat(SYNCS));
    assert_eq!(client.query("SELECT 'next'").unwrap(), answer(b"SELECT 'next'"));
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_thousand_idle_clients_cost_little_memory_each() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    proxy.assert_alive();
    let before = resident();
    let mut clients: Vec<_> = (0..1000).map(|_| Client::log_in(proxy.address)).collect();
    let after = resident();
    let each = (after.saturating_sub(before)) as f64 * 1024.0 / 1000.0;
    println!("1,000 idle clients: {before} KiB resident before, {after} KiB after, {each:.0} bytes each");
    assert!(after < before + ALLOWANCE, "{before} KiB before, {after} KiB after");
    for client in clients.iter_mut().step_by(100) {
        assert_eq!(client.query("SELECT 'here'").unwrap(), answer(b"SELECT 'here'"));
    }
}
