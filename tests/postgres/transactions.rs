//! A transaction holds its server connection; a client that vanishes holds nothing.

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;
use crate::support::wait::until;

pub fn two_clients_take_turns_on_one_connection() {
    let fixture = Fixture::transaction(1);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    let backend = first.backend();
    for _ in 0..50 {
        assert_eq!(second.backend(), backend);
        assert_eq!(first.backend(), backend);
    }
    assert_eq!(fixture.connections(&mut fixture.superuser()), 1);
}

pub fn a_transaction_keeps_its_connection_until_it_ends() {
    let fixture = Fixture::transaction(1);
    let (mut first, mut second) = (fixture.client(), fixture.client());
    first.run("CREATE TABLE t (n int)");
    assert_eq!(first.query("BEGIN").status(), 'T');
    let backend = first.backend();
    second.send(&query("SELECT count(*) FROM t"));
    until("the second client waits", || fixture.proxy.metric("firepool_clients", "waiting") == 1.0);
    first.run("INSERT INTO t VALUES (1)");
    assert_eq!(first.backend(), backend);
    assert_eq!(first.query("SELECT 1/0").status(), 'E');
    assert_eq!(fixture.proxy.metric("firepool_clients", "waiting"), 1.0);
    assert_eq!(first.query("ROLLBACK").status(), 'I');
    assert_eq!(second.reply().rows(), [["0"]]);
}

pub fn a_vanished_clients_transaction_is_rolled_back() {
    for mode in ["session", "transaction"] {
        let fixture = Fixture::new(&format!("mode = \"{mode}\"\npool_size = 1"));
        fixture.client().run("CREATE TABLE t (n int)");
        for end in [&b""[..], &terminate(), &[b'Q', 0, 0, 0, 50, b'S'], b"\0\0\0\0\0\0\0\0"] {
            let mut client = fixture.client();
            client.run("BEGIN; INSERT INTO t VALUES (1)");
            client.send(end);
            drop(client);
            let mut next = fixture.client();
            assert_eq!(next.value("SELECT count(*) FROM t"), "0", "{mode}");
            assert_eq!(
                next.query("COMMIT").messages.iter().filter(|m| m.tag == b'N').count(),
                1,
                "no transaction"
            );
        }
        assert!(fixture.connections(&mut fixture.superuser()) <= 1);
    }
}

pub fn a_vanished_clients_query_is_cancelled() {
    for mode in ["session", "transaction", "statement"] {
        let fixture = Fixture::new(&format!("mode = \"{mode}\"\npool_size = 1"));
        let mut admin = fixture.superuser();
        for batch in [
            query("SELECT pg_sleep(600)"),
            [unnamed("SELECT pg_sleep(600)", &[]), sync()].concat(),
            [unnamed("SELECT pg_sleep(600)", &[]), flush()].concat(),
        ] {
            let mut client = fixture.client();
            client.send(&batch);
            until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
            drop(client);
            assert_eq!(fixture.client().value("SELECT 'next'"), "next");
            assert_eq!(fixture.count(&mut admin, "wait_event = 'PgSleep'"), 0);
            assert!(fixture.connections(&mut admin) <= 1);
        }
    }
}

/// A cancel request ends one query, or none if it overtakes it. A connection that is closed while queries run leaves
/// a backend behind that works on, beyond the pool's size.
pub fn a_vanished_clients_pipeline_is_cancelled_to_its_end() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    for pipeline in [
        query("SELECT pg_sleep(600)").repeat(5),
        [unnamed("SELECT pg_sleep(600)", &[]), sync()].concat().repeat(5),
    ] {
        let mut client = fixture.client();
        client.send(&pipeline);
        until("a query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
        drop(client);
        assert_eq!(fixture.client().value("SELECT 'next'"), "next");
        assert_eq!(fixture.count(&mut admin, "wait_event = 'PgSleep'"), 0);
        assert_eq!(fixture.connections(&mut admin), 1);
    }
}

/// The replies that would have told what it left come when nobody listens any more.
pub fn what_a_client_set_after_it_vanished_is_gone_as_well() {
    let fixture = Fixture::transaction(1);
    let mut admin = fixture.superuser();
    for sql in ["SET work_mem = '1234kB'", "LISTEN mine", "PREPARE mine AS SELECT 1"] {
        let mut client = fixture.client();
        client.send(&[query("SELECT pg_sleep(600)"), query(sql)].concat());
        until("the query runs", || fixture.count(&mut admin, "wait_event = 'PgSleep'") == 1);
        drop(client);
        assert_eq!(state(&mut fixture.client()), NOTHING, "{sql}");
    }
}

pub fn a_vanished_client_leaves_no_session_state_in_session_mode() {
    let fixture = Fixture::new("mode = \"session\"\npool_size = 1");
    let mut client = fixture.client();
    let backend = client.backend();
    client.run(
        "SET work_mem = '1234kB'; SET application_name = 'mine'; CREATE TEMP TABLE mine (n int); LISTEN mine",
    );
    client.run("SELECT pg_advisory_lock(77); PREPARE mine AS SELECT 1; SELECT set_config('search_path', 'mine', false)");
    client.run("BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT");
    drop(client);
    let mut next = fixture.client();
    assert_eq!(next.backend(), backend, "it was to be reused");
    assert_eq!(state(&mut next), NOTHING);
    assert_eq!(next.query("EXECUTE mine").code(), "26000");
}

/// What the next client must find: `firepool` is the application's name until a client says its own.
const NOTHING: &str = "4MB|firepool|\"$user\", public|-|-|-|-|0";

/// What a session can hold, in words.
fn state(client: &mut Raw) -> String {
    client.value(
        "SELECT concat_ws('|', current_setting('work_mem'), current_setting('application_name'), \
         current_setting('search_path'), coalesce(to_regclass('pg_temp.mine')::text, '-'), \
         coalesce((SELECT string_agg(name, ',') FROM pg_prepared_statements WHERE from_sql), '-'), \
         coalesce((SELECT string_agg(name, ',') FROM pg_cursors WHERE is_holdable), '-'), \
         coalesce((SELECT string_agg(c, ',') FROM pg_listening_channels() c), '-'), \
         (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()))",
    )
}

pub fn a_pinned_client_that_vanishes_leaves_no_session_state_in_transaction_mode() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    client.run("SET work_mem = '1234kB'");
    client.run("CREATE TEMP TABLE mine (n int)");
    client.run("LISTEN mine");
    client.run("SELECT pg_advisory_lock(77)");
    client.run("PREPARE mine AS SELECT 1");
    drop(client);
    let mut next = fixture.client();
    assert_eq!(state(&mut next), NOTHING);
    // The other one is there for LISTEN.
    assert_eq!(fixture.count(&mut fixture.superuser(), "application_name <> 'firepool listener'"), 1);
}

pub fn clients_that_come_and_vanish_never_exceed_the_pool() {
    let fixture = Fixture::transaction(3);
    let mut admin = fixture.superuser();
    for round in 0..40 {
        let mut clients: Vec<_> = (0..6).map(|_| fixture.client()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            let sql = ["SELECT pg_sleep(60)", "BEGIN; SELECT 1", "SELECT 1", "SET work_mem = '99kB'"];
            client.send(&query(sql[(n + round) % 4]));
        }
        let connections = fixture.connections(&mut admin);
        assert!(connections <= 3, "{connections} connections in round {round}");
    }
    until("all is quiet", || fixture.count(&mut admin, "state <> 'idle'") == 0);
    assert_eq!(fixture.client().value("SELECT current_setting('work_mem')"), "4MB");
}
