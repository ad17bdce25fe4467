//! COPY in both directions, simple and extended, to its good end and to its bad one.

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;

/// With a table `t(n int)`, one connection, and a second client that must find the connection in order each time.
fn with_table(check: impl Fn(&mut Raw, &mut Raw)) {
    for mode in ["session", "transaction", "statement"] {
        let size = if mode == "session" { 2 } else { 1 };
        let fixture = Fixture::new(&format!("mode = \"{mode}\"\npool_size = {size}"));
        let (mut client, mut other) = (fixture.client(), fixture.client());
        client.run("CREATE TABLE t (n int)");
        check(&mut client, &mut other);
        assert_eq!(other.value("SELECT 'well'"), "well", "{mode}");
        assert_eq!(client.value("SELECT 'well'"), "well", "{mode}");
    }
}

pub fn rows_are_copied_in_and_out_with_simple_queries() {
    with_table(|client, other| {
        client.send(&query("COPY t FROM STDIN"));
        assert_eq!(client.reply_until(b'G').tags(), "G");
        let data: Vec<u8> = (0..100_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        for piece in data.chunks(50_001) {
            client.send(&copy_data(piece));
        }
        client.send(&copy_done());
        assert_eq!(client.reply().commands(), ["COPY 100000"]);
        assert_eq!(other.value("SELECT sum(n) FROM t"), (0..100_000_u64).sum::<u64>().to_string());

        let reply = client.query("COPY t TO STDOUT");
        let out: Vec<u8> =
            reply.messages.iter().filter(|m| m.tag == b'd').flat_map(|m| m.body.clone()).collect();
        assert!(out == data, "other rows came out than went in");
        assert_eq!(reply.commands(), ["COPY 100000"]);
    });
}

pub fn rows_are_copied_with_extended_queries() {
    with_table(|client, _| {
        let copy = [parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("", 0)].concat();
        // With the Sync after the data, as the protocol's documentation has it.
        client.send(&[&copy[..], &flush()].concat());
        assert_eq!(client.reply_until(b'G').tags(), "12G");
        client.send(&[copy_data(b"1\n2\n"), copy_done(), sync()].concat());
        assert_eq!(client.reply().tags(), "CZ");
        // With another Sync before it, as libpq's PQexecParams sends it.
        client.send(&[&copy[..], &sync()].concat());
        assert_eq!(client.reply_until(b'G').tags(), "12G");
        client.send(&[copy_data(b"3\n"), copy_data(b"4\n"), copy_done(), sync()].concat());
        assert_eq!(client.reply().tags(), "CZ");
        let out = client.batch(&[
            parse("", "COPY (SELECT n FROM t ORDER BY n) TO STDOUT"),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]);
        assert_eq!(out.tags(), "12HddddcCZ");
        assert_eq!(client.batch(&[unnamed("SELECT count(*) FROM t", &[]), sync()]).rows(), [["4"]]);
    });
}

pub fn a_copy_that_fails_leaves_the_connection_in_order() {
    with_table(|client, other| {
        for end in [copy_fail("no more"), [copy_data(b"not a number\n"), copy_done()].concat()] {
            client.send(&query("COPY t FROM STDIN"));
            assert_eq!(client.reply_until(b'G').tags(), "G");
            client.send(&[copy_data(b"1\n"), end].concat());
            assert_eq!(client.reply().tags(), "EZ");
            assert_eq!(other.value("SELECT count(*) FROM t"), "0");
        }
    });
}

/// libpq's pattern again, with data that the server refuses at once: it cannot be known whether the server read the
/// first Sync in COPY mode, so the connection is closed as its client leaves.
pub fn a_copy_that_fails_with_a_sync_in_doubt_is_answered_and_its_connection_replaced() {
    with_table(|client, other| {
        client.send(&[parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("", 0), sync()].concat());
        assert_eq!(client.reply_until(b'G').tags(), "12G");
        client.send(&[copy_data(b"x\n"), copy_data(b"2\n"), copy_done(), sync()].concat());
        assert_eq!(client.reply().tags(), "EZ");
        client.send(&terminate());
        assert_eq!(client.message(), None);
        assert_eq!(other.value("SELECT count(*) FROM t"), "0");
        *client = other.again();
    });
}

/// The same, and the client stays: the connection must not stay with it.
pub fn a_copy_that_fails_with_a_sync_in_doubt_gives_its_connection_back() {
    with_table(|client, other| {
        client.send(&[parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("", 0), sync()].concat());
        assert_eq!(client.reply_until(b'G').tags(), "12G");
        client.send(&[copy_data(b"x\n"), copy_data(b"2\n"), copy_done(), sync()].concat());
        assert_eq!(client.reply().tags(), "EZ");
        assert_eq!(other.value("SELECT count(*) FROM t"), "0");
    });
}

pub fn several_copies_in_one_query_work() {
    with_table(|client, other| {
        client.send(&query("COPY t FROM STDIN; SELECT 'between'; COPY t FROM STDIN; COPY t TO STDOUT"));
        for _ in 0..2 {
            assert!(client.reply_until(b'G').tags().ends_with('G'));
            client.send(&[copy_data(b"5\n"), copy_done()].concat());
        }
        assert_eq!(client.reply().tags(), "CHddcCZ");
        assert_eq!(other.value("SELECT count(*) FROM t"), "2");
    });
}

pub fn a_client_that_leaves_in_the_middle_of_a_copy_leaves_nothing_behind() {
    with_table(|_, other| {
        assert_eq!(other.value("SELECT count(*) FROM t"), "0");
    });
    for mode in ["session", "transaction", "statement"] {
        let fixture = Fixture::new(&format!("mode = \"{mode}\"\npool_size = 1"));
        fixture.client().run("CREATE TABLE t (n int)");
        for half in [&b""[..], &[b'd', 0, 0, 0, 99, b'1']] {
            let mut client = fixture.client();
            client.send(&query("COPY t FROM STDIN"));
            client.reply_until(b'G');
            client.send(&copy_data(b"1\n"));
            client.send(half);
            drop(client);
            assert_eq!(fixture.client().value("SELECT count(*) FROM t"), "0", "{mode}");
        }
        let mut client = fixture.client();
        client.send(&query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"));
        client.reply_until(b'H');
        drop(client);
        assert_eq!(fixture.client().value("SELECT count(*) FROM t"), "0", "{mode}");
        assert!(fixture.connections(&mut fixture.superuser()) <= 1);
    }
}
