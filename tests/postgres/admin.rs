//! Admin HTTP, and the end of the process in good order.

use std::time::Duration;

use crate::support::fixture::{Fixture, Proxy};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::{LIMIT, eventually, until};

pub fn metrics_count_what_happened() {
    let fixture = Fixture::transaction(2);
    let mut client = fixture.client();
    let before = fixture.proxy.metric("firepool_queries_total", &fixture.role);
    client.run("SELECT 1");
    client.run("BEGIN; SELECT 1; COMMIT");
    client.query("SELECT 1/0");
    client.batch(&[unnamed("SELECT 2", &[]), sync()]);
    let metric = |name: &str| fixture.proxy.metric(name, &fixture.role);
    // Counters move when the client has its reply already.
    until("the last query is counted", || metric("firepool_transactions_total") >= 4.0);
    assert_eq!(metric("firepool_queries_total") - before, 4.0);
    assert_eq!(metric("firepool_transactions_total"), 4.0);
    assert_eq!(metric("firepool_server_errors_total"), 1.0);
    assert_eq!(metric("firepool_client_connections_total"), 1.0);
    until("all is idle", || {
        fixture.proxy.metric("firepool_server_connections", "idle") == 1.0
            && fixture.proxy.metric("firepool_clients", "idle") == 1.0
    });
    assert!(metric("firepool_sent_bytes_total") > 0.0 && metric("firepool_received_bytes_total") > 0.0);
    client.send(&terminate());
    assert_eq!(client.message(), None);
    until("the client is gone", || metric("firepool_client_disconnections_total") == 1.0);
}

pub fn live_and_ready_answer() {
    let server = Server::shared();
    let role = server.role();
    let text = format!("[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\ndatabase = \"{DATABASE}\"\n");
    let proxy = Proxy::start(&server, &text);
    assert_eq!(proxy.get("/live"), (200, "live\n".to_owned()));
    proxy.ready();
    assert!(proxy.app.as_ref().unwrap().is_ready());
    assert_eq!(proxy.get("/nothing").0, 404);
    // A server that refuses the login is there, and has answered.
    let proxy = Proxy::start(&server, &text.replace(PASSWORD, "wrong"));
    proxy.ready();
}

pub fn a_drain_lets_a_transaction_end_and_sends_idle_clients_home() {
    let mut fixture = Fixture::transaction(2);
    fixture.proxy.ready();
    let (mut busy, mut idle, mut pinned) = (fixture.client(), fixture.client(), fixture.client());
    busy.run("CREATE TABLE t (n int)");
    idle.run("SELECT 1");
    pinned.run("SET work_mem = '1MB'");
    busy.run("BEGIN; INSERT INTO t VALUES (1)");
    let draining = fixture.proxy.drain(LIMIT);
    for client in [&mut idle, &mut pinned] {
        let failure = client.farewell();
        assert_eq!((failure.severity.as_str(), failure.code.as_str()), ("FATAL", "57P01"));
    }
    let (status, why) = fixture.proxy.get("/ready");
    assert_eq!((status, why.as_str()), (503, "draining\n"));
    assert_eq!(fixture.proxy.get("/live").0, 200);
    let refused = || std::net::TcpStream::connect(fixture.proxy.address).is_err();
    until("nobody is accepted any more", refused);
    busy.run("INSERT INTO t VALUES (2)");
    assert_eq!(busy.query("COMMIT").commands(), ["COMMIT"]);
    assert_eq!(busy.farewell().code, "57P01");
    draining.join().unwrap();
    let mut admin = fixture.superuser();
    assert_eq!(admin.value(&format!("SELECT count(*) FROM {}.t", fixture.role)), "2");
    until("every server connection is closed", || fixture.connections(&mut admin) == 0);
}

pub fn a_drain_ends_what_takes_too_long() {
    let mut fixture = Fixture::transaction(2);
    let mut admin = fixture.superuser();
    let mut stubborn = fixture.client();
    stubborn.send(&query("SELECT pg_sleep(600)"));
    until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
    fixture.proxy.drain(Duration::from_millis(300)).join().unwrap();
    assert_eq!(stubborn.farewell().code, "57P01");
    until("the query is cancelled", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 0);
}

pub fn a_drain_does_not_wait_for_logins_that_never_end() {
    let mut fixture = Fixture::with(crate::support::fixture::Lines {
        proxy: "login_timeout = \"10m\"",
        ..Default::default()
    });
    let mut silent = Raw::connect(fixture.proxy.address);
    let mut half = Raw::connect(fixture.proxy.address);
    half.send(&startup((3, 0), &[("user", &fixture.role), ("database", DATABASE)]));
    assert_eq!(half.message().unwrap().tag, b'R');
    let draining = fixture.proxy.drain(Duration::from_millis(300));
    eventually("the drain ends", || draining.is_finished().then_some(()));
    for client in [&mut silent, &mut half] {
        client.reply();
    }
}
