//! A server that dies in the middle of a reply. The client gets what the server sent, then an error or the end; nobody
//! ever gets anything else of that connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::peers::bytes::{answer, complete, description, error, extended, message, query, ready, row};
use crate::peers::client::{Client, last_sqlstate};
use crate::peers::proxy::Proxy;
use crate::peers::server::Server;

/// A server whose every connection answers its first request with the first so many bytes of `reply` and dies.
fn mortal(reply: Vec<u8>, length: &Arc<AtomicUsize>) -> Server {
    let length = Arc::clone(length);
    Server::start(move |conn| {
        conn.log_in()?;
        let (tag, _) = conn.receive()?;
        if tag == b'P' {
            while conn.receive()?.0 != b'S' {}
        }
        conn.send(&reply[..length.load(Ordering::SeqCst)])
    })
}

/// Where the messages of `reply` end.
fn seams(reply: &[u8]) -> Vec<usize> {
    let (mut at, mut seams) = (0, vec![0]);
    while at < reply.len() {
        at += 1 + u32::from_be_bytes(reply[at + 1..at + 5].try_into().unwrap()) as usize;
        seams.push(at);
    }
    seams
}

/// Lets the server die at every byte of `reply`.
fn die_everywhere(request: &[u8], reply: &[u8]) {
    let length = Arc::new(AtomicUsize::new(0));
    let server = mortal(reply.to_vec(), &length);
    let proxy = Proxy::before(server.address);
    let seams = seams(reply);
    for place in 0..reply.len() {
        length.store(place, Ordering::SeqCst);
        let mut client = Client::log_in(proxy.address);
        client.send(request);
        let got = client.until_end();
        // A message that needs to be looked at is not passed on before it is whole: then less has come.
        let whole = *seams.iter().filter(|&&seam| seam <= place).max().unwrap();
        let passed_on = (whole..=place.min(got.len())).find(|&passed_on| {
            let (own, words) = got.split_at(passed_on);
            // Between messages a reason is due; within one, it would become part of the message.
            let reason = last_sqlstate(words).is_some_and(|sqlstate| sqlstate == "08006");
            own == &reply[..passed_on] && if seams.contains(&passed_on) { reason } else { words.is_empty() }
        });
        assert!(passed_on.is_some(), "torn at {place}: {got:?}");
    }
    let served = server.accepted();
    assert!(served >= reply.len(), "{served} connections for {} deaths: one was reused", reply.len());
}

#[test]
fn a_server_that_dies_at_any_byte_of_a_simple_answer_is_never_used_again() {
    die_everywhere(&query("SELECT 1"), &answer(b"a value of some length"));
}

#[test]
fn a_server_that_dies_at_any_byte_of_an_extended_answer_is_never_used_again() {
    let reply = [
        message(b'1', b""),
        message(b'2', b""),
        description(),
        row(b"value"),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    die_everywhere(&extended("SELECT 1"), &reply.concat());
}

#[test]
fn a_server_that_dies_at_any_byte_of_an_error_is_never_used_again() {
    die_everywhere(&query("SELECT 1"), &[error("ERROR", "42601", "syntax"), ready(b'I')].concat());
}

#[test]
fn a_server_that_dies_within_a_row_larger_than_a_buffer_adds_nothing_to_the_row() {
    let length = Arc::new(AtomicUsize::new(0));
    let whole = answer(&vec![b'r'; 300_000]);
    let server = mortal(whole.clone(), &length);
    let proxy = Proxy::before(server.address);
    for place in [40_000, 65_536, 131_072, 250_000] {
        length.store(place, Ordering::SeqCst);
        let mut client = Client::log_in(proxy.address);
        client.send(&query("SELECT 1"));
        assert!(client.until_end() == whole[..place], "torn at {place}");
    }
}

#[test]
fn a_server_that_says_why_it_dies_is_quoted_and_nothing_is_added() {
    let farewell = error("FATAL", "57P01", "terminating connection due to administrator command");
    let reply = [description(), row(b"1"), farewell.clone()].concat();
    let length = Arc::new(AtomicUsize::new(reply.len()));
    let server = mortal(reply.clone(), &length);
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    client.send(&query("SELECT 1"));
    assert_eq!(client.until_end(), reply);
}

#[test]
fn a_client_that_comes_after_a_death_gets_a_fresh_connection_and_its_own_answer() {
    let server = Server::start(|conn| {
        conn.log_in()?;
        if conn.number % 2 == 0 {
            conn.expect(b'Q')?;
            conn.send(&answer(b"somebody else's")[..50])?;
            return Ok(());
        }
        conn.expect(b'Q')?;
        conn.send(&answer(b"own"))?;
        conn.await_end()
    });
    let proxy = Proxy::before(server.address);
    let mut first = Client::log_in(proxy.address);
    let mut second = Client::log_in(proxy.address);
    first.send(&query("SELECT 1"));
    first.until_end();
    assert_eq!(second.query("SELECT 2").unwrap(), answer(b"own"));
}
