//! Cancel requests: the right query, and no other.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::{Raw, cancel, cancel_with};
use crate::support::server::{DATABASE, PASSWORD};
use crate::support::wait::until;

pub fn a_cancel_reaches_the_query_of_its_client_and_no_other() {
    let fixture = Fixture::transaction(3);
    let mut admin = fixture.superuser();
    let mut clients: Vec<_> = (0..3).map(|_| fixture.client()).collect();
    for client in &mut clients {
        client.send(&query("SELECT pg_sleep(600)"));
    }
    for left in [2, 1, 0] {
        until("the others sleep", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == left + 1);
        clients[left].cancel();
        let reply = clients[left].reply();
        assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("TEZ", "57014"));
        assert_eq!(fixture.count(&mut admin, "wait_event = 'PgSleep'"), left);
    }
    for client in &mut clients {
        assert_eq!(client.value("SELECT 1"), "1");
    }
    assert_eq!(fixture.proxy.metric("firepool_cancel_requests_total", "forwarded"), 3.0);
}

pub fn a_cancel_with_a_wrong_key_does_nothing() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    let mut client = fixture.client();
    client.send(&query("SELECT pg_sleep(1)"));
    until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
    let (pid, secret) = client.key;
    for key in [(pid, secret ^ 1), (pid ^ 1, secret), (0, 0), (u32::MAX, u32::MAX)] {
        cancel(fixture.proxy.address, key);
    }
    assert_eq!(client.reply().tags(), "TDCZ");
    assert_eq!(fixture.proxy.metric("firepool_cancel_requests_total", "unknown"), 4.0);
}

pub fn a_client_of_protocol_3_2_cancels_with_its_long_secret() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    let mut client = Raw::connect(fixture.proxy.address);
    client.send(&startup((3, 2), &[("user", &fixture.role), ("database", DATABASE)]));
    client.authenticate(PASSWORD).unwrap();
    let (pid, secret) = (client.key.0, client.secret.clone());
    assert_eq!(secret.len(), 32);
    client.send(&query("SELECT pg_sleep(600)"));
    until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
    cancel_with(fixture.proxy.address, pid, &secret[..4]);
    cancel_with(fixture.proxy.address, pid, &[&secret[..31], &[secret[31] ^ 1]].concat());
    assert_eq!(fixture.proxy.metric("firepool_cancel_requests_total", "unknown"), 2.0);
    cancel_with(fixture.proxy.address, pid, &secret);
    assert_eq!(client.reply().code(), "57014");
    assert_eq!(client.value("SELECT 1"), "1");
}

pub fn the_servers_own_key_is_not_the_clients() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    assert_ne!(client.backend(), client.key.0.to_string());
}

pub fn a_cancel_for_an_idle_client_hits_nobody() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    let (mut idle, mut busy) = (fixture.client(), fixture.client());
    idle.run("SELECT 1");
    busy.send(&query("SELECT pg_sleep(1)"));
    until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
    idle.cancel();
    assert_eq!(busy.reply().tags(), "TDCZ");
    assert_eq!(idle.value("SELECT 'still there'"), "still there");
}

pub fn a_cancel_between_the_statements_of_a_transaction_does_nothing() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    client.run("BEGIN");
    for _ in 0..20 {
        client.cancel();
        assert_eq!(client.query("SELECT 1").tags(), "TDCZ");
    }
    assert_eq!(client.query("COMMIT").commands(), ["COMMIT"]);
}

/// Six clients cancel themselves at random moments while eight others run short queries over three connections: of
/// those others, nobody is ever cancelled.
pub fn however_many_cancel_nobody_elses_query_is_hit() {
    let fixture = Fixture::transaction(3);
    let (over, cancelled, own) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for n in 0..6_u32 {
            let (fixture, over, own) = (&fixture, &over, &own);
            scope.spawn(move || {
                let mut client = fixture.client();
                let mut turn = n;
                while !over.load(Ordering::Relaxed) {
                    turn = turn.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    client.send(&query(
                        ["SELECT pg_sleep(0.01)", "SELECT 1", "SELECT pg_sleep(0.002)"]
                            [turn as usize / 7 % 3],
                    ));
                    // Most of the time it still waits for a connection: so several, at moments of their own.
                    for _ in 0..turn / 97 % 8 {
                        client.cancel();
                    }
                    let key = client.key;
                    let code = client.reply().code();
                    // A moment too late for its own query, which has left its connection to somebody else.
                    cancel(fixture.proxy.address, key);
                    assert!(["", "57014"].contains(&code.as_str()), "{code}");
                    own.fetch_add(u32::from(code == "57014"), Ordering::Relaxed);
                }
            });
        }
        let victims: Vec<_> = (0..8)
            .map(|n| {
                let (fixture, cancelled) = (&fixture, &cancelled);
                scope.spawn(move || {
                    let mut client = fixture.client();
                    for turn in 0..150 {
                        let sql = [
                            "SELECT 1",
                            "SELECT pg_sleep(0.001)",
                            "SELECT count(*) FROM generate_series(1, 1000)",
                        ];
                        let reply = client.query(sql[(turn + n) % 3]);
                        cancelled.fetch_add(u32::from(!reply.code().is_empty()), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        victims.into_iter().for_each(|victim| victim.join().unwrap());
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        cancelled.load(Ordering::Relaxed),
        0,
        "queries of clients that cancelled nothing were cancelled"
    );
    assert!(own.load(Ordering::Relaxed) > 0, "no cancel ever hit: the test shows nothing");
    assert!(fixture.connections(&mut fixture.superuser()) <= 3);
}

/// A client that waits for a server connection has nothing running on any server: the proxy itself answers, and the
/// request never runs.
pub fn a_client_that_waits_for_a_server_connection_is_cancelled_too() {
    let fixture = Fixture::transaction(1);
    let (mut holder, mut waiter) = (fixture.client(), fixture.client());
    waiter.run("CREATE TABLE t (n int)");
    holder.run("BEGIN");
    let insert = "INSERT INTO t VALUES (1)";
    for request in [query(insert), [parse("", insert), bind("", "", &[]), execute("", 0), sync()].concat()] {
        waiter.send(&request);
        until("it waits", || fixture.proxy.metric("firepool_clients", "waiting") == 1.0);
        waiter.cancel();
        let reply = waiter.reply();
        assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZ", "57014"));
        until("it waits no more", || fixture.proxy.metric("firepool_clients", "waiting") == 0.0);
    }
    assert_eq!(fixture.proxy.metric("firepool_cancel_requests_total", "waiting"), 2.0);
    holder.run("COMMIT");
    assert_eq!(waiter.value("SELECT count(*) FROM t"), "0");
}
