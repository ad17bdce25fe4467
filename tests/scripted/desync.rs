//! What one client asks and leaves behind must not reach another: whoever is slow, whoever leaves, wherever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::peers::bytes::{answer, complete, description, error, extended, message, query, ready};
use crate::peers::client::Client;
use crate::peers::honest::WRONG;
use crate::peers::proxy::{Proxy, Wishes};
use crate::peers::server::{BEGIN, Server};
use crate::peers::{Dice, eventually};

#[test]
fn answers_of_a_slow_and_a_fast_server_connection_are_not_mixed_up() {
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        if conn.number == 0 {
            conn.expect(b'Q')?;
            conn.send(&answer(b"slow")[..40])?;
            eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
            conn.send(&answer(b"slow")[40..])?;
        }
        conn.be_honest()
    });
    let proxy = Proxy::with(server.address, &Wishes { pool_size: 2, ..Wishes::default() });
    let (mut slow, mut fast) = (Client::log_in(proxy.address), Client::log_in(proxy.address));
    slow.send(&query("SELECT 'slow'"));
    eventually("the slow one's beginning", || slow.has_answer().then_some(()));
    for round in 0..200 {
        let sql = format!("SELECT 'fast {round}'");
        assert_eq!(fast.query(&sql).unwrap(), answer(sql.as_bytes()));
    }
    go.store(true, Ordering::SeqCst);
    assert_eq!(slow.until_ready().unwrap(), answer(b"slow"));
    for round in 0..50 {
        let (of_slow, of_fast) = (format!("SELECT 's{round}'"), format!("SELECT 'f{round}'"));
        slow.send(&query(&of_slow));
        fast.send(&query(&of_fast));
        assert_eq!(fast.until_ready().unwrap(), answer(of_fast.as_bytes()));
        assert_eq!(slow.until_ready().unwrap(), answer(of_slow.as_bytes()));
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn many_clients_on_few_connections_of_unequal_pace_each_get_their_own_answers() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let server = Server::start(move |conn| {
        conn.log_in()?;
        let mut dice = Dice(seed + conn.number as u64);
        loop {
            let sql = conn.expect(b'Q')?;
            let reply = answer(sql.strip_suffix(b"\0").unwrap());
            // One of the three dawdles over every answer.
            if conn.number == 0 {
                conn.send_in_pieces(&reply, || 1 + dice.below(9))?
            } else {
                conn.send(&reply)?
            }
        }
    });
    let proxy = Proxy::with(server.address, &Wishes { workers: 2, pool_size: 3, ..Wishes::default() });
    let clients: Vec<_> = (0..8_u64)
        .map(|number| {
            let address = proxy.address;
            thread::spawn(move || {
                let mut dice = Dice(seed ^ number << 32);
                let mut client = Client::log_in(address);
                for round in 0..150 {
                    // Now and then several at once, and now and then a client that leaves in the middle of it.
                    let burst = 1 + dice.below(3);
                    let texts: Vec<_> = (0..burst)
                        .map(|n| format!("SELECT 'client {number} round {round} query {n}'"))
                        .collect();
                    client.send(&texts.iter().flat_map(|text| query(text)).collect::<Vec<_>>());
                    if dice.below(20) == 0 {
                        client = Client::log_in(address);
                        continue;
                    }
                    for text in texts {
                        assert_eq!(client.until_ready().unwrap(), answer(text.as_bytes()));
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    proxy.assert_alive();
}

#[test]
fn the_answer_to_a_client_that_left_reaches_nobody() {
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        if conn.number == 0 {
            conn.expect(b'Q')?;
            eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
            conn.send(&answer(b"too late"))?;
        }
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut leaves = Client::log_in(proxy.address);
    leaves.send(&query("SELECT 'slow'"));
    eventually("the query", || (proxy.metric("firepool_queries_total") >= 1.0).then_some(()));
    drop(leaves);
    eventually("a cancel request", || (server.cancels() == 1).then_some(()));
    let mut next = Client::log_in(proxy.address);
    next.send(&query("SELECT 'mine'"));
    go.store(true, Ordering::SeqCst);
    assert_eq!(next.until_ready().unwrap(), answer(b"SELECT 'mine'"));
    assert_eq!(server.accepted(), 1, "the connection came to rest and was used again");
}

/// Connection number, type and body of each message.
type Log = Arc<Mutex<Vec<(usize, u8, Vec<u8>)>>>;

/// A server that notes every message it gets.
fn noting() -> (Server, Log) {
    let log = Log::default();
    let notes = Arc::clone(&log);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        let (mut status, mut skips) = (b'I', false);
        loop {
            let (tag, body) = conn.receive()?;
            notes.lock().unwrap().push((conn.number, tag, body.clone()));
            // As PostgreSQL's PostgresMain does: after an error in the extended protocol everything up to Sync.
            if skips && tag != b'S' {
                continue;
            }
            let reply = match tag {
                b'Q' if body.starts_with(b"BEGIN") => {
                    status = b'T';
                    [complete("BEGIN"), ready(status)].concat()
                }
                b'Q' if body.starts_with(b"ROLLBACK") => {
                    status = b'I';
                    [complete("ROLLBACK"), ready(status)].concat()
                }
                b'Q' => answer(body.strip_suffix(b"\0").unwrap()),
                b'S' => {
                    skips = false;
                    ready(status)
                }
                b'H' if body.is_empty() => Vec::new(),
                b'P' if !body.starts_with(b"\0SELECT wrong") => message(b'1', b""),
                b'B' => message(b'2', b""),
                b'D' => description(),
                b'E' if !body.starts_with(b"no") => complete("SELECT 0"),
                _ => {
                    skips = true;
                    error("ERROR", "08P01", "invalid message format")
                }
            };
            conn.send(&reply)?;
        }
    });
    (server, log)
}

#[test]
fn a_client_that_leaves_inside_a_transaction_leaves_no_transaction() {
    for farewell in [message(b'X', b""), Vec::new(), message(b'!', b"")] {
        let (server, log) = noting();
        let proxy = Proxy::before(server.address);
        let mut leaves = Client::log_in(proxy.address);
        leaves.query(BEGIN).unwrap();
        leaves.send(&farewell);
        drop(leaves);
        let mut next = Client::log_in(proxy.address);
        assert_eq!(next.query("SELECT 'mine'").unwrap(), answer(b"SELECT 'mine'"));
        let log = log.lock().unwrap();
        let texts: Vec<_> = log.iter().map(|(_, _, body)| String::from_utf8_lossy(body)).collect();
        assert_eq!(texts, ["BEGIN\0", "ROLLBACK\0", "SELECT 'mine'\0"]);
    }
}

#[test]
fn a_batch_without_its_sync_is_closed_before_anybody_else_comes() {
    for statement in ["SELECT 1", "SELECT wrong"] {
        let (server, _) = noting();
        let proxy = Proxy::before(server.address);
        let mut leaves = Client::log_in(proxy.address);
        let batch = extended(statement);
        leaves.send(&batch[..batch.len() - 5 - 10 - 7]);
        leaves.send(&message(b'H', b""));
        assert!(matches!(leaves.receive().unwrap().0, b'1' | b'E'));
        drop(leaves);
        let mut next = Client::log_in(proxy.address);
        assert_eq!(next.query("SELECT 'mine'").unwrap(), answer(b"SELECT 'mine'"), "{statement}");
    }
}

#[test]
fn a_client_that_leaves_within_a_message_takes_its_server_connection_with_it() {
    let (server, log) = noting();
    let proxy = Proxy::before(server.address);
    let mut leaves = Client::log_in(proxy.address);
    // Longer than what is read to its end before it is passed on.
    let whole = query(&format!("SELECT 'a query that is never finished{}'", "!".repeat(50_000)));
    leaves.send(&whole[..20]);
    eventually("half a query", || (proxy.metric("firepool_queries_total") >= 1.0).then_some(()));
    drop(leaves);
    let mut next = Client::log_in(proxy.address);
    assert_eq!(next.query("SELECT 'mine'").unwrap(), answer(b"SELECT 'mine'"));
    assert_eq!(server.accepted(), 2);
    assert_eq!(log.lock().unwrap().iter().map(|(conn, ..)| *conn).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_flush_with_a_body_cannot_leave_a_server_connection_that_ignores_everybody() {
    for tag in [b'H', b'S'] {
        let (server, _) = noting();
        let proxy = Proxy::before(server.address);
        let mut hostile = Client::log_in(proxy.address);
        hostile.send(&message(tag, b"x"));
        assert_eq!(hostile.until_ready().unwrap_err(), "08P01");
        let mut next = Client::log_in(proxy.address);
        assert_eq!(next.query("SELECT 'mine'").unwrap(), answer(b"SELECT 'mine'"));
    }
}

/// What a client is answered that binds an unnamed statement that it does not have.
fn no_such_statement() -> Vec<u8> {
    [error("ERROR", "26000", "prepared statement does not exist"), ready(b'I')].concat()
}

#[test]
fn a_client_cannot_use_the_unnamed_statement_of_another() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let (mut owner, mut thief) = (Client::log_in(proxy.address), Client::log_in(proxy.address));
    let (bind, sync) = (message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'S', b""));
    for attempt in [bind.clone(), message(b'D', b"S\0")] {
        owner.send(&[message(b'P', b"\0SELECT 'secret'\0\0\0"), bind.clone(), sync.clone()].concat());
        owner.until_ready().unwrap();
        thief.send(&[attempt, sync.clone()].concat());
        assert_eq!(thief.until_ready().unwrap(), no_such_statement());
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_parse_that_the_server_never_did_gives_no_right_to_the_unnamed_statement_of_another() {
    let parse = message(b'P', b"\0SELECT 1\0\0\0");
    let (sync, bind) = (message(b'S', b""), message(b'B', b"\0\0\0\0\0\0\0\0"));
    for tricks in [
        // Skipped behind an error; refused.
        [message(b'E', b"no such portal\0\0\0\0\0"), parse].concat(),
        message(b'P', format!("\0{WRONG}\0\0\0").as_bytes()),
    ] {
        let server = Server::honest();
        let proxy = Proxy::before(server.address);
        let (mut owner, mut thief) = (Client::log_in(proxy.address), Client::log_in(proxy.address));
        owner.send(&extended("SELECT 'secret'"));
        owner.until_ready().unwrap();
        // Everything at once, before any reply.
        thief.send(&[&tricks[..], &sync, &bind, &sync].concat());
        thief.until_ready().unwrap();
        assert_eq!(thief.until_ready().unwrap(), no_such_statement());
        assert_eq!(server.accepted(), 1);
    }
}

#[test]
fn a_client_whose_parse_failed_does_not_keep_its_server_connection() {
    let (server, _) = noting();
    let proxy = Proxy::before(server.address);
    let mut failed = Client::log_in(proxy.address);
    failed.send(&[message(b'P', b"\0SELECT wrong\0\0\0"), message(b'S', b"")].concat());
    failed.until_ready().unwrap();
    let mut other = Client::log_in(proxy.address);
    assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"));
}

#[test]
fn parse_and_bind_in_two_batches_of_one_write_are_both_answered() {
    let (server, _) = noting();
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    let (parse, sync) = (message(b'P', b"\0SELECT 1\0\0\0"), message(b'S', b""));
    let bind = [message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0")].concat();
    for _ in 0..100 {
        client.send(&[&parse[..], &sync, &bind, &sync].concat());
        assert_eq!(client.until_ready().unwrap(), [message(b'1', b""), ready(b'I')].concat());
        let bound = [message(b'2', b""), complete("SELECT 0"), ready(b'I')];
        assert_eq!(client.until_ready().unwrap(), bound.concat());
    }
    assert_eq!(server.accepted(), 1);
}
