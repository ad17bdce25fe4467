//! Timeouts of routes: what a client is told, and what becomes of what it had.

use crate::support::fixture::{Fixture, Lines};
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::wait::until;

fn route(timeouts: &str) -> Fixture {
    Fixture::new(&format!("pool_size = 1\ntimeouts = {{ {timeouts} }}"))
}

#[track_caller]
fn told(client: &mut Raw) -> (String, String) {
    let failure = client.farewell();
    (failure.severity, failure.code)
}

#[track_caller]
fn fatal(code: &str) -> (String, String) {
    ("FATAL".to_owned(), code.to_owned())
}

pub fn a_client_that_waits_too_long_gets_53300_and_the_others_go_on() {
    let fixture = route("query_wait = \"300ms\"");
    let (mut first, mut second) = (fixture.client(), fixture.client());
    first.run("BEGIN");
    second.send(&query("SELECT 1"));
    assert_eq!(told(&mut second), fatal("53300"));
    assert_eq!(first.query("COMMIT").status(), 'I');
    assert_eq!(fixture.proxy.metric("firepool_refusals_total", "query_wait_timeout"), 1.0);
    assert_eq!(fixture.client().value("SELECT 1"), "1");
}

pub fn a_silent_transaction_ends_with_25p03_and_is_rolled_back() {
    let fixture = route("idle_in_transaction = \"300ms\"");
    fixture.client().run("CREATE TABLE t (n int)");
    for begin in ["BEGIN; INSERT INTO t VALUES (1)", "BEGIN; SELECT 1/0"] {
        let mut client = fixture.client();
        client.query(begin);
        assert_eq!(told(&mut client), fatal("25P03"));
        assert_eq!(fixture.client().value("SELECT count(*) FROM t"), "0");
    }
    // Work inside the transaction is no silence.
    let mut client = fixture.client();
    client.run("BEGIN");
    assert_eq!(client.value("SELECT 'busy' FROM pg_sleep(1)"), "busy");
    assert_eq!(client.query("COMMIT").commands(), ["COMMIT"]);
}

pub fn a_silent_client_ends_with_57p05() {
    let fixture = route("client_idle = \"300ms\"");
    assert_eq!(told(&mut fixture.client()), fatal("57P05"));
    let mut client = fixture.client();
    assert_eq!(client.value("SELECT 'busy' FROM pg_sleep(1)"), "busy");
    assert_eq!(told(&mut client), fatal("57P05"));
    // Pinned, and silent all the same.
    let mut client = fixture.client();
    client.run("SET work_mem = '1MB'");
    assert_eq!(told(&mut client), fatal("57P05"));
    assert_eq!(fixture.client().value("SHOW work_mem"), "4MB");
}

pub fn a_query_that_runs_too_long_ends_with_57014_and_is_cancelled_on_the_server() {
    let fixture = route("query = \"300ms\"");
    let mut admin = fixture.superuser();
    for long in [
        query("SELECT pg_sleep(600)"),
        [unnamed("SELECT pg_sleep(600)", &[]), sync()].concat(),
        query("BEGIN; SELECT pg_sleep(600)"),
    ] {
        let mut client = fixture.client();
        client.send(&long);
        assert_eq!(told(&mut client), fatal("57014"));
        until("the query is cancelled", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 0);
        assert_eq!(fixture.client().value("SELECT 1"), "1");
    }
    let mut client = fixture.client();
    client.run("BEGIN");
    for _ in 0..20 {
        client.run("SELECT pg_sleep(0.05)");
    }
    assert_eq!(client.query("COMMIT").status(), 'I');
}

pub fn a_login_that_does_not_end_is_ended() {
    let fixture = Fixture::with(Lines { proxy: "login_timeout = \"300ms\"", ..Lines::default() });
    let mut silent = Raw::connect(fixture.proxy.address);
    assert_eq!(told(&mut silent), fatal("57014"));
    let mut half = Raw::connect(fixture.proxy.address);
    half.send(&startup((3, 0), &[("user", &fixture.role)]));
    assert_eq!(half.message().unwrap().tag, b'R');
    assert_eq!(told(&mut half), fatal("57014"));
}
