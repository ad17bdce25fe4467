//! Clients that misbehave after their login: the proxy ends them with 08P01, and nobody else notices.

use crate::peers::bytes::{answer, message, query, ready};
use crate::peers::client::{Client, last_sqlstate};
use crate::peers::honest::NOTHING;
use crate::peers::proxy::{Proxy, Wishes};
use crate::peers::server::{BEGIN, Server, is_question};
use crate::peers::{Dice, eventually};

/// Types that clients may send after their login.
const KNOWN: &[u8] = b"QFPBdXCDEHScf";

fn claims(tag: u8, length: u32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes(), &[0; 16]].concat()
}

#[test]
fn a_message_type_that_no_client_may_send_ends_the_session() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for tag in (0..=255_u8).filter(|tag| !KNOWN.contains(tag)) {
        let mut client = Client::log_in(proxy.address);
        client.send(&message(tag, b"body"));
        assert_eq!(last_sqlstate(&client.until_end()).as_deref(), Some("08P01"), "{tag:#04x}");
    }
    assert_eq!(server.accepted(), 1, "no server connection had to be given up");
    proxy.assert_alive();
}

#[test]
fn a_length_that_no_honest_client_sends_ends_the_session() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for &tag in KNOWN {
        for length in [0, 3, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let mut client = Client::log_in(proxy.address);
            client.send(&claims(tag, length));
            let what = format!("{:?} of length {length:#x}", char::from(tag));
            assert_eq!(last_sqlstate(&client.until_end()).as_deref(), Some("08P01"), "{what}");
        }
    }
    assert_eq!(server.accepted(), 1, "no server connection had to be given up");
    proxy.assert_alive();
}

#[test]
fn garbage_behind_a_good_request_gets_the_good_request_no_stranger_an_answer() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let mut other = Client::log_in(proxy.address);
    for garbage in [message(b'!', b"x"), claims(b'Q', 3), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        for before in [query("SELECT 1"), query(BEGIN)] {
            let mut client = Client::log_in(proxy.address);
            client.send(&[before, garbage.clone()].concat());
            client.until_end();
            assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"));
        }
    }
    proxy.assert_alive();
}

#[test]
fn a_client_that_stops_within_a_message_keeps_nobody_waiting_once_it_is_gone() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let whole = [query("SELECT 1"), message(b'P', b"\0SELECT 1\0\0\0")].concat();
    for end in 1..whole.len() {
        let mut client = Client::log_in(proxy.address);
        client.send(&whole[..end]);
        drop(client);
        let mut other = Client::log_in(proxy.address);
        assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"), "after {end} bytes");
    }
    eventually("all of them to be gone", || (proxy.metric("firepool_clients") == 0.0).then_some(()));
}

#[test]
fn random_messages_after_the_login_harm_nobody_else() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    // Answers Syncs and queries, and whatever else it is sent with nothing.
    let server = Server::start(|conn| {
        conn.log_in()?;
        loop {
            let (tag, body) = conn.receive()?;
            match tag {
                b'Q' if body == b"SELECT 'other'\0" => conn.send(&answer(b"SELECT 'other'"))?,
                b'Q' => conn.send(&[message(b'I', b""), ready(b'I')].concat())?,
                b'S' => conn.send(&ready(b'I'))?,
                tag if is_question(tag, &body) => conn.answer_question(NOTHING)?,
                b'F' => conn.send(&[message(b'V', &[0xff; 4]), ready(b'I')].concat())?,
                _ => {}
            }
        }
    });
    let proxy = Proxy::with(server.address, &Wishes { workers: 2, pool_size: 4, ..Wishes::default() });
    let mut dice = Dice(seed);
    for round in 0..150 {
        let mut client = Client::log_in(proxy.address);
        for _ in 0..1 + dice.below(8) {
            let length = dice.below(300);
            let body = dice.bytes(length);
            let tag = if dice.below(8) == 0 { dice.next() as u8 } else { KNOWN[dice.below(KNOWN.len())] };
            client.send_hopefully(&message(tag, &body));
        }
        drop(client);
        if round % 10 == 0 {
            let mut other = Client::log_in(proxy.address);
            assert_eq!(
                other.query("SELECT 'other'").unwrap(),
                answer(b"SELECT 'other'"),
                "seed {seed}, round {round}"
            );
        }
    }
    let mut other = Client::log_in(proxy.address);
    assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"), "seed {seed}");
    assert!(proxy.ask("/live").starts_with("HTTP/1.1 200"));
}
