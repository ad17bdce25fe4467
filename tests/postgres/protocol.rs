//! The protocol's shapes in every pool mode: simple, extended, pipelined, broken, large.

use crate::support::fixture::Fixture;
use crate::support::messages::*;
use crate::support::raw::Raw;

const MODES: [&str; 3] = ["session", "transaction", "statement"];

/// Runs `check` with two clients of a pool with a connection each in session mode, and only one in the other modes.
fn in_every_mode(check: impl Fn(&mut Raw, &mut Raw)) {
    for mode in MODES {
        let size = if mode == "session" { 2 } else { 1 };
        let fixture = Fixture::new(&format!("mode = \"{mode}\"\npool_size = {size}"));
        let (mut first, mut second) = (fixture.client(), fixture.client());
        check(&mut first, &mut second);
        // Whatever was done, the connection is as good as new.
        for client in [&mut first, &mut second] {
            assert_eq!(client.value("SELECT 'well'"), "well", "{mode}");
        }
        assert!(fixture.connections(&mut fixture.superuser()) <= size, "{mode}");
    }
}

pub fn simple_queries_answer_in_every_mode() {
    in_every_mode(|first, second| {
        for client in [first, second] {
            assert_eq!(client.query("SELECT 1").tags(), "TDCZ");
            assert_eq!(client.query("").tags(), "IZ");
            assert_eq!(client.query(" ; ").tags(), "IZ");
            assert_eq!(client.query("SELECT 1; SELECT 2; ; SELECT 3").tags(), "TDCTDCTDCZ");
            let failed = client.query("SELECT 1; SELECT 1/0; SELECT 2");
            assert_eq!((failed.tags().as_str(), failed.code().as_str()), ("TDCEZ", "22012"));
            assert_eq!(client.query("SELEC").code(), "42601");
            assert_eq!(client.query("BEGIN; SELECT 1; COMMIT").tags(), "CTDCCZ");
            assert_eq!(client.query("SELECT g FROM generate_series(1, 1000) g").rows().len(), 1000);
        }
    });
}

pub fn extended_queries_answer_in_every_mode() {
    in_every_mode(|first, second| {
        for client in [first, second] {
            let reply = client.batch(&[unnamed("SELECT $1::int + 1", &["41"]), sync()]);
            assert_eq!((reply.tags().as_str(), reply.rows()), ("12TDCZ", vec![vec!["42".to_owned()]]));
            assert_eq!(client.batch(&[unnamed("", &[]), sync()]).tags(), "12nIZ");
            assert_eq!(client.batch(&[sync()]).tags(), "Z");
            let described = client.batch(&[
                parse("", "SELECT $1::text"),
                describe(b'S', ""),
                bind("", "", &["x"]),
                describe(b'P', ""),
                execute("", 0),
                close(b'P', ""),
                close(b'S', "none"),
                sync(),
            ]);
            assert_eq!(described.tags(), "1tT2TDC33Z");
            let portal = client.batch(&[
                parse("", "SELECT generate_series(1, 5)"),
                bind("p", "", &[]),
                execute("p", 2),
                execute("p", 2),
                execute("p", 0),
                sync(),
            ]);
            assert_eq!(portal.tags(), "12DDsDDsDCZ");
        }
    });
}

pub fn an_error_skips_to_the_next_sync_and_no_further() {
    in_every_mode(|first, second| {
        for client in [first, second] {
            client.send(
                &[
                    unnamed("SELECT 1/0", &[]),
                    unnamed("SELECT 'skipped'", &[]),
                    sync(),
                    unnamed("SELECT 'after'", &[]),
                    sync(),
                    parse("", "SELEC"),
                    describe(b'S', ""),
                    bind("", "", &[]),
                    execute("", 0),
                    sync(),
                    unnamed("SELECT 'last'", &[]),
                    sync(),
                ]
                .concat(),
            );
            // Constants are folded when the portal is made.
            let replies: Vec<_> = (0..4).map(|_| client.reply()).collect();
            let tags: Vec<String> = replies.iter().map(|reply| reply.tags()).collect();
            assert_eq!(tags, ["1EZ", "12TDCZ", "EZ", "12TDCZ"], "{replies:?}");
        }
    });
}

pub fn many_batches_in_flight_are_answered_in_order() {
    in_every_mode(|first, second| {
        let pipeline: Vec<u8> =
            (0..500).flat_map(|n| [unnamed("SELECT $1::int", &[&n.to_string()]), sync()].concat()).collect();
        for client in [&mut *first, &mut *second] {
            client.send(&pipeline);
        }
        for client in [first, second] {
            let answers: Vec<String> = (0..500).map(|_| client.reply().rows()[0][0].clone()).collect();
            assert_eq!(answers, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
        }
    });
}

pub fn simple_queries_in_flight_are_answered_in_order() {
    in_every_mode(|first, second| {
        let pipeline: Vec<u8> = (0..300).flat_map(|n| query(&format!("SELECT {n}"))).collect();
        first.send(&pipeline);
        second.send(&pipeline);
        for client in [first, second] {
            for n in 0..300 {
                assert_eq!(client.reply().rows(), [[n.to_string()]]);
            }
        }
    });
}

pub fn a_statement_may_be_described_in_one_batch_and_bound_in_the_next() {
    in_every_mode(|first, second| {
        for n in 0..20 {
            let described = first.batch(&[parse("", "SELECT $1::int * 2"), describe(b'S', ""), sync()]);
            assert_eq!(described.tags(), "1tTZ");
            // Another client parses its own unnamed statement in between, if it gets a connection at once.
            second.send(&[unnamed("SELECT 'other'", &[]), sync()].concat());
            let bound = first.batch(&[bind("", "", &[&n.to_string()]), execute("", 0), sync()]);
            assert_eq!((bound.tags().as_str(), bound.rows()), ("2DCZ", vec![vec![(n * 2).to_string()]]));
            let other = second.reply();
            assert_eq!(other.rows(), [["other"]], "{other:?}");
        }
    });
}

pub fn flush_brings_answers_without_a_sync() {
    in_every_mode(|first, _| {
        first.send(&[parse("", "SELECT $1::text"), describe(b'S', ""), flush()].concat());
        assert_eq!(first.reply_until(b'T').tags(), "1tT");
        first.send(&[bind("", "", &["x"]), execute("", 0), flush()].concat());
        assert_eq!(first.reply_until(b'C').tags(), "2DC");
        assert_eq!(first.batch(&[sync()]).tags(), "Z");
        first.send(&[parse("", "SELEC"), flush()].concat());
        assert_eq!(first.reply_until(b'E').tags(), "E");
        assert_eq!(first.batch(&[bind("", "", &[]), execute("", 0), sync()]).tags(), "Z");
    });
}

pub fn ten_megabytes_go_up_and_come_down_again() {
    in_every_mode(|first, second| {
        let large = "0123456789abcdef".repeat(640 * 1024);
        for client in [first, second] {
            let reply = client.batch(&[unnamed("SELECT $1::text, length($1)", &[&large]), sync()]);
            assert_eq!(reply.tags(), "12TDCZ");
            assert!(reply.rows()[0][0] == large, "the value has changed");
            let sql = format!("SELECT md5('{large}') = md5(repeat('0123456789abcdef', 640 * 1024))");
            assert_eq!(client.value(&sql), "t");
            let long_error = client.query(&format!("SELECT 1/0 AS \"{large}\""));
            assert_eq!(long_error.code(), "22012");
        }
    });
}

pub fn a_message_that_arrives_byte_by_byte_is_answered() {
    in_every_mode(|first, _| {
        let batch = [unnamed("SELECT $1::int", &["7"]), sync(), query("SELECT 8")].concat();
        for byte in batch {
            first.send(&[byte]);
        }
        assert_eq!(first.reply().rows(), [["7"]]);
        assert_eq!(first.reply().rows(), [["8"]]);
    });
}

pub fn functions_are_called_in_every_mode() {
    in_every_mode(|first, _| {
        // int4pl has the oid 177 in PostgreSQL's pg_proc.dat.
        let mut body = 177_u32.to_be_bytes().to_vec();
        body.extend([0, 0, 0, 2]);
        for argument in ["40", "2"] {
            body.extend((argument.len() as u32).to_be_bytes());
            body.extend(argument.as_bytes());
        }
        body.extend([0, 0]);
        first.send(&message(b'F', &body));
        let reply = first.reply();
        assert_eq!(reply.tags(), "VZ");
        assert_eq!(reply.messages[0].body, [0, 0, 0, 2, b'4', b'2']);
    });
}

pub fn notices_and_parameters_reach_the_client_that_caused_them() {
    in_every_mode(|first, second| {
        let reply = first.query("DROP TABLE IF EXISTS nothing_of_that_name");
        assert!(reply.messages.iter().any(|message| message.tag == b'N'));
        assert!(!second.query("SELECT 1").messages.iter().any(|message| message.tag == b'N'));
        let reply = first.query("SET application_name = 'a'");
        assert!(reply.messages.iter().any(|message| message.tag == b'S'));
        // So that the server connection is free for the other client.
        assert_eq!(first.query("DISCARD ALL").code(), "");
    });
}

pub fn garbage_ends_the_session_with_a_protocol_violation() {
    let fixture = Fixture::transaction(1);
    let mut client = fixture.client();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.farewell().code, "08P01");
    assert_eq!(fixture.client().value("SELECT 1"), "1");
}
