//! The server dies, restarts, or is not there.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::support::fixture::{Fixture, Lines, Proxy, configuration};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::server::{DATABASE, PASSWORD, Server};
use crate::support::wait::{eventually, until};

fn fixture(route: &str) -> Fixture {
    Fixture::on(Server::own(), Lines { route, ..Lines::default() })
}

/// What a client may be told whose server died: our words, or the server's own.
fn lost(code: &str) -> bool {
    ["08006", "57P01", "57P02"].contains(&code)
}

pub fn after_a_crash_of_the_server_everything_works_again() {
    let fixture = fixture("pool_size = 4\ntimeouts = { query_wait = \"20s\" }");
    let mut admin = fixture.superuser();
    let (mut idle, mut running, mut open) = (fixture.client(), fixture.client(), fixture.client());
    idle.run("CREATE TABLE t (n int)");
    running.send(&query("SELECT pg_sleep(600)"));
    open.run("BEGIN; INSERT INTO t VALUES (1)");
    until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
    fixture.server.kill();
    for client in [&mut running, &mut open] {
        let failure = client.farewell();
        assert!(failure.severity == "FATAL" && lost(&failure.code), "{failure:?}");
    }
    fixture.server.restart();
    // It had no server connection, and has noticed nothing.
    assert_eq!(idle.value("SELECT 'again'"), "again");
    let mut new = fixture.client();
    assert_eq!(new.value("SELECT count(*) FROM t"), "0");
    assert!(fixture.connections(&mut fixture.superuser()) <= 4);
    assert!(fixture.proxy.metric("firepool_refusals_total", "server_lost") <= 2.0);
}

pub fn a_crash_in_the_middle_of_traffic_is_told_to_every_client_it_hits() {
    let fixture = fixture("pool_size = 4\ntimeouts = { query_wait = \"20s\" }");
    let (fixture, stop) = (&fixture, &std::sync::atomic::AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(move || {
                    let (mut client, mut losses, mut after) = (fixture.client(), 0, 0);
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) || after == 0 {
                        let reply = client.query("SELECT count(*) FROM generate_series(1, 1000)");
                        match reply.failure() {
                            None if reply.ended => panic!("the connection ended without a word: {reply:?}"),
                            None => {
                                assert_eq!(reply.rows(), [["1000"]]);
                                after += 1;
                            }
                            Some(failure) => {
                                assert!(lost(&failure.code) && reply.ended, "{reply:?}");
                                losses += 1;
                                after = 0;
                                client = fixture.client();
                            }
                        }
                    }
                    losses
                })
            })
            .collect();
        until("there is traffic", || fixture.proxy.metric("firepool_queries_total", "") > 200.0);
        fixture.server.kill();
        fixture.server.restart();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let losses: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(losses <= 16, "{losses} losses: no more than one a client");
    });
    assert!(fixture.connections(&mut fixture.superuser()) <= 4);
}

pub fn clients_that_wait_during_a_restart_are_served_after_it() {
    let fixture = fixture("pool_size = 2\ntimeouts = { query_wait = \"25s\" }");
    let mut clients: Vec<_> = (0..6).map(|_| fixture.client()).collect();
    for client in &mut clients {
        client.run("SELECT 1");
    }
    fixture.server.stop();
    for client in &mut clients {
        client.send(&query("SELECT 'served'"));
    }
    until("they wait", || fixture.proxy.metric("firepool_clients", "waiting") == 6.0);
    fixture.server.restart();
    for client in &mut clients {
        assert_eq!(client.reply().rows(), [["served"]]);
    }
}

pub fn a_shutdown_of_the_server_tells_a_client_in_a_transaction_and_nobody_else() {
    let fixture = fixture("pool_size = 2");
    let (mut idle, mut open) = (fixture.client(), fixture.client());
    idle.run("SELECT 1");
    open.run("BEGIN");
    fixture.server.stop();
    assert_eq!(open.farewell().code, "57P01");
    fixture.server.restart();
    assert_eq!(idle.value("SELECT 'well'"), "well");
}

/// Lost connections have the server asked when it was started, but not within ten seconds of the question before.
pub fn a_restart_of_the_server_is_counted() {
    let server = Server::own();
    let role = server.role();
    let users = format!("[users.{role}]\npassword = \"{PASSWORD}\"\n[[routes]]\npool_size = 2\n");
    let proxy = Proxy::start(&server, &users);
    let mut client = Raw::login(proxy.address, &role, DATABASE, &[]).unwrap();
    let metric = |name: &str| proxy.metric(name, "");
    client.run("SELECT 1");
    until("it has said when it was started", || metric("firepool_server_start_time_seconds") > 1e9);
    let started = metric("firepool_server_start_time_seconds");
    assert_eq!(metric("firepool_server_restarts_total"), 0.0);
    server.stop();
    server.restart();
    client.run("SELECT 1");
    until("the restart is seen", || metric("firepool_server_restarts_total") == 1.0);
    assert!(metric("firepool_server_start_time_seconds") > started);
}

/// A proxy for a server that is started later: its address is free until then.
fn ahead_of_its_server(query_wait: &str) -> (Proxy, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "[users.postgres]\npassword = \"{PASSWORD}\"\n[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"postgres\"\n\
         min_size = 1\ntimeouts = {{ query_wait = \"{query_wait}\" }}\n"
    );
    (Proxy::serve(configuration(address, &text)), address)
}

pub fn a_server_that_is_not_there_is_waited_for_and_then_08001() {
    let (proxy, _) = ahead_of_its_server("500ms");
    assert_eq!(proxy.get("/live").0, 200);
    assert_eq!(proxy.get("/ready").0, 503);
    for _ in 0..2 {
        let failure = Raw::login(proxy.address, "postgres", DATABASE, &[]).unwrap_err();
        assert_eq!((failure.severity.as_str(), failure.code.as_str()), ("FATAL", "08001"));
    }
}

pub fn a_server_that_comes_in_time_serves_those_that_waited() {
    let server = Server::own();
    server.stop();
    let text = format!(
        "[users.postgres]\npassword = \"{PASSWORD}\"\n[[routes]]\ndatabase = \"{DATABASE}\"\nuser = \"postgres\"\n\
         timeouts = {{ query_wait = \"14s\" }}\n"
    );
    let proxy = Proxy::start(&server, &text);
    assert_eq!(proxy.get("/ready").0, 503);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let address = proxy.address;
                scope.spawn(move || {
                    Raw::login(address, "postgres", DATABASE, &[]).unwrap().value("SELECT 'served'")
                })
            })
            .collect();
        until("they wait", || proxy.metric("firepool_clients", "waiting") == 5.0);
        server.restart();
        for client in clients {
            assert_eq!(client.join().unwrap(), "served");
        }
    });
    proxy.ready();
}

pub fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[users.postgres]\npassword = \"{PASSWORD}\"\n[[routes]]\nuser = \"postgres\"\n\
         timeouts = {{ query_wait = \"3s\", connect = \"200ms\" }}\n"
    );
    let proxy = Proxy::serve(configuration(silent.local_addr().unwrap(), &text));
    let failure = Raw::login(proxy.address, "postgres", DATABASE, &[]).unwrap_err();
    assert_eq!(failure.code, "08001");
    eventually("more than one attempt", || {
        (proxy.metric("firepool_server_connection_failures_total", "") >= 2.0).then_some(())
    });
}
