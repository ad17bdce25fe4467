//! Server connections from opening to replacement.

use std::collections::HashSet;

use crate::support::fixture::Fixture;
use crate::support::raw::Raw;
use crate::support::wait::until;

/// Process ids of the fixture's server connections.
fn backends(fixture: &Fixture, admin: &mut Raw) -> HashSet<String> {
    let rows = admin.run(&format!("SELECT pid FROM pg_stat_activity WHERE usename = '{}'", fixture.role));
    rows.into_iter().flatten().collect()
}

pub fn the_minimum_is_opened_ahead_and_kept() {
    let fixture = Fixture::new("pool_size = 5\nmin_size = 3\ntimeouts = { server_idle = \"300ms\" }");
    let mut admin = fixture.superuser();
    drop(fixture.client());
    until("three connections are open", || fixture.connections(&mut admin) == 3);
    let mut clients: Vec<_> = (0..5).map(|_| fixture.client()).collect();
    for client in &mut clients {
        client.run("BEGIN");
    }
    assert_eq!(fixture.connections(&mut admin), 5);
    drop(clients);
    until("the surplus is closed", || fixture.connections(&mut admin) == 3);
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename";
    admin.run(&format!("{terminate} = '{}' LIMIT 2", fixture.role));
    until("they are replaced", || fixture.connections(&mut admin) == 3);
}

pub fn the_minimum_is_opened_before_the_first_client_comes() {
    let fixture = Fixture::new("pool_size = 5\nmin_size = 2");
    let mut admin = fixture.superuser();
    until("two connections are open", || fixture.connections(&mut admin) == 2);
}

pub fn connections_that_lie_unused_are_closed() {
    let fixture = Fixture::new("pool_size = 3\ntimeouts = { server_idle = \"300ms\" }");
    let mut admin = fixture.superuser();
    let mut client = fixture.client();
    assert_eq!(client.value("SELECT 1"), "1");
    until("it is closed", || fixture.connections(&mut admin) == 0);
    assert_eq!(client.value("SELECT 1"), "1");
    assert!(fixture.proxy.metric("firepool_server_connections_opened_total", "") >= 2.0);
}

pub fn connections_that_are_old_are_replaced_but_not_inside_a_transaction() {
    let fixture = Fixture::new("pool_size = 1\ntimeouts = { server_lifetime = \"500ms\" }");
    let mut admin = fixture.superuser();
    let mut client = fixture.client();
    let first = client.backend();
    until("it is replaced", || client.backend() != first);
    client.run("BEGIN");
    let second = client.backend();
    client.run("SELECT pg_sleep(1)");
    assert_eq!(client.backend(), second);
    client.run("COMMIT");
    assert_ne!(client.backend(), second);
    assert!(fixture.connections(&mut admin) <= 1);
}

pub fn a_terminated_connection_is_never_handed_out() {
    let fixture = Fixture::transaction(4);
    let mut admin = fixture.superuser();
    let mut clients: Vec<_> = (0..4).map(|_| fixture.client()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.run("BEGIN");
        }
        for client in &mut clients {
            client.run("COMMIT");
        }
        let idle = backends(&fixture, &mut admin);
        assert_eq!(idle.len(), 4);
        // With a time to wait for, the function returns when the process is gone.
        let rows = admin.run(&format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{}'",
            fixture.role
        ));
        assert!(rows.iter().flatten().all(|gone| gone == "t"), "{rows:?}");
        for client in &mut clients {
            assert!(!idle.contains(&client.backend()));
        }
    }
}

pub fn a_terminated_connection_tells_its_client_why() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    let mut client = fixture.client();
    client.run("BEGIN");
    let pid = client.backend();
    admin.run(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
    let failure = client.farewell();
    assert_eq!((failure.severity.as_str(), failure.code.as_str()), ("FATAL", "57P01"));
    assert_eq!(fixture.client().value("SELECT 1"), "1");
}

pub fn without_reuse_a_client_in_session_mode_gets_a_backend_that_nobody_had() {
    let fixture = Fixture::new("mode = \"session\"\npool_size = 1\nreuse = false");
    let mut before = fixture.client().backend();
    for _ in 0..3 {
        let mut client = fixture.client();
        let backend = client.backend();
        assert_ne!(backend, before);
        // A library that an earlier client had loaded would have reserved its prefix.
        assert_eq!(client.query("SET plpgsql.no_such_setting = 1").code(), "");
        client.run("DO $$ BEGIN END $$");
        before = backend;
    }
    assert!(fixture.connections(&mut fixture.superuser()) <= 1);
}
