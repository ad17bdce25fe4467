//! A server that speaks when nobody asked it. What the protocol allows is passed on or noted; after anything else the
//! connection is closed and never handed to anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firepool::config::PoolMode;

use crate::peers::bytes::{
    answer, complete, description, error, message, notice, parameter, query, ready, row,
};
use crate::peers::client::Client;
use crate::peers::eventually;
use crate::peers::honest::Honest;
use crate::peers::proxy::{Proxy, Wishes};
use crate::peers::server::{BEGIN, COMMIT, Server};

/// A server whose first connection says `words` after its first answer, when it is told to. The answer and the words
/// come as one write with `at_once`.
fn talkative(words: Vec<u8>, at_once: bool) -> (Server, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        if conn.number > 0 {
            return conn.be_honest();
        }
        conn.expect(b'Q')?;
        let reply = answer(b"first");
        if at_once {
            conn.send(&[reply, words.clone()].concat())?;
        } else {
            conn.send(&reply)?;
            eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
            conn.send(&words)?;
        }
        // It would answer, if anybody asked.
        while conn.receive()?.0 == b'Q' {
            conn.send(&answer(b"from a connection that should be closed"))?;
        }
        Ok(())
    });
    (server, go)
}

/// What no server may send while nothing is owed.
fn intrusions() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a row", row(b"stolen")),
        ("a whole answer", answer(b"stolen")),
        ("a completion", complete("SELECT 1")),
        ("ReadyForQuery", ready(b'I')),
        ("ReadyForQuery in a transaction", ready(b'T')),
        ("an error that is not fatal", error("ERROR", "XX000", "out of the blue")),
        ("a fatal error", error("FATAL", "57P01", "terminating connection")),
        ("ParseComplete", message(b'1', b"")),
        ("CopyInResponse", message(b'G', b"\0\0\0")),
        ("CopyData", message(b'd', b"data")),
        ("authentication", message(b'R', &[0; 4])),
        ("a key", message(b'K', &[0; 8])),
        ("an unknown type", message(b'!', b"")),
        ("a length below 4", vec![b'D', 0, 0, 0, 3]),
        ("a negative length", vec![b'D', 0xff, 0xff, 0xff, 0xff]),
        ("half a header", vec![b'N', 0, 0]),
        ("half a notice", notice("interrupted")[..9].to_vec()),
    ]
}

/// Those that can be told for what they are; the rest of half a message may be on its way.
fn whole_intrusions() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    intrusions().into_iter().filter(|(name, _)| !name.starts_with("half"))
}

#[test]
fn an_idle_server_connection_that_speaks_unasked_is_closed_and_never_handed_on() {
    for (name, words) in intrusions() {
        let (server, go) = talkative(words, false);
        let proxy = Proxy::before(server.address);
        let mut client = Client::log_in(proxy.address);
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"first"), "{name}");
        go.store(true, Ordering::SeqCst);
        eventually(name, || (proxy.metric("firepool_server_connections_closed_total") >= 1.0).then_some(()));
        assert_eq!(client.query("SELECT 'mine'").unwrap(), answer(b"SELECT 'mine'"), "{name}");
        let mut other = Client::log_in(proxy.address);
        assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"), "{name}");
        assert_eq!(server.accepted(), 2, "{name}");
    }
}

#[test]
fn what_comes_unasked_right_behind_an_answer_reaches_no_other_client() {
    for (name, words) in whole_intrusions() {
        let (server, _) = talkative(words, true);
        let proxy = Proxy::before(server.address);
        let (mut client, mut other) = (Client::log_in(proxy.address), Client::log_in(proxy.address));
        client.send(&query("SELECT 1"));
        // The client may see its answer, and what the proxy has to say of the violation; the other client nothing.
        eventually(name, || (proxy.metric("firepool_server_connections_closed_total") >= 1.0).then_some(()));
        assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"), "{name}");
        assert_eq!(server.accepted(), 2, "{name}");
        drop(client);
    }
}

#[test]
fn a_leased_server_connection_that_speaks_unasked_is_closed_with_08006() {
    for (name, words) in whole_intrusions() {
        let go = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&go);
        let (fatal, copy) = (name == "a fatal error", words.clone());
        let server = Server::start(move |conn| {
            conn.log_in()?;
            if conn.number > 0 {
                return conn.be_honest();
            }
            conn.expect(b'Q')?;
            conn.send(&[complete(BEGIN), ready(b'T')].concat())?;
            eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
            conn.send(&copy)?;
            if fatal { Ok(()) } else { conn.await_end() }
        });
        let proxy = Proxy::before(server.address);
        let mut client = Client::log_in(proxy.address);
        assert_eq!(client.query(BEGIN).unwrap(), [complete(BEGIN), ready(b'T')].concat());
        go.store(true, Ordering::SeqCst);
        let due = if fatal { "57P01" } else { "08006" };
        assert_eq!(client.until_ready().unwrap_err(), due, "{name}");
        assert_eq!(client.until_end(), b"", "{name}");
        let mut other = Client::log_in(proxy.address);
        assert_eq!(other.query("SELECT 'other'").unwrap(), answer(b"SELECT 'other'"), "{name}");
        assert_eq!(server.accepted(), 2, "{name}");
    }
}

#[test]
fn a_parameter_that_changes_on_an_idle_connection_is_noted_and_a_notice_is_dropped() {
    let words = [notice("hello"), parameter("TimeZone", "Mars/Olympus"), notice("again")].concat();
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let server = Server::start(move |conn| {
        conn.log_in()?;
        conn.expect(b'Q')?;
        conn.send(&answer(b"first"))?;
        eventually("the word to go", || told.load(Ordering::SeqCst).then_some(()));
        conn.send(&words)?;
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    client.query("SELECT 1").unwrap();
    go.store(true, Ordering::SeqCst);
    for round in 0..20 {
        let sql = format!("SELECT 'query {round}'");
        let got = client.query(&sql).unwrap();
        // They may come just as the connection is leased again: then they are this client's to see.
        assert!(got.ends_with(&answer(sql.as_bytes())), "{round}");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn parameters_and_notices_at_any_moment_are_passed_on_in_their_place() {
    let parts = [description(), row(b"1"), row(b"2"), complete("SELECT 2"), ready(b'I')];
    let replies: Vec<Vec<u8>> = (0..parts.len())
        .flat_map(|place| {
            [notice("now"), parameter("TimeZone", "UTC"), message(b'A', b"\0\0\0\x07channel\0\0")].map(
                |extra| {
                    let mut with = parts.to_vec();
                    with.insert(place, extra);
                    with.concat()
                },
            )
        })
        .collect();
    // Notifications are passed on to those who have the connection for themselves.
    let listen = [complete("LISTEN"), ready(b'I')].concat();
    let replies = [vec![listen], replies].concat();
    let script = replies.clone();
    let server = Server::start(move |conn| {
        conn.log_in()?;
        for reply in &script {
            conn.expect(b'Q')?;
            conn.send(reply)?;
        }
        conn.await_end()
    });
    let wishes = Wishes { mode: PoolMode::Session, ..Wishes::default() };
    let proxy = Proxy::with(server.address, &wishes);
    let mut client = Client::log_in(proxy.address);
    assert_eq!(client.query("LISTEN channel").unwrap(), replies[0]);
    for reply in &replies[1..] {
        assert_eq!(&client.query("SELECT 1").unwrap(), reply);
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn notices_without_end_while_idle_in_a_transaction_reach_their_client_and_end_with_it() {
    let server = Server::start(|conn| {
        conn.log_in()?;
        conn.expect(b'Q')?;
        conn.send(&[complete(BEGIN), ready(b'T')].concat())?;
        for _ in 0..1000 {
            conn.send(&notice("again"))?;
        }
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    client.query(BEGIN).unwrap();
    for _ in 0..1000 {
        assert_eq!(client.receive().unwrap().0, b'N');
    }
    assert_eq!(client.query(COMMIT).unwrap(), [complete(COMMIT), ready(b'I')].concat());
}

#[test]
fn a_server_may_claim_any_number_of_rows_and_every_figure_can_still_be_read() {
    let server = Server::start(|conn| {
        conn.log_in()?;
        let mut session = Honest::default();
        loop {
            let (tag, body) = conn.receive()?;
            let command = String::from_utf8_lossy(&body[..body.len().min(6)]).into_owned();
            let claim = complete(&format!("{command} {}", u64::MAX));
            match (tag, &*command) {
                (b'X', _) => return Ok(()),
                (b'Q', "SELECT" | "UPDATE" | "DELETE") => conn.send(&[claim, ready(b'I')].concat())?,
                _ => conn.send(&session.reply(tag, &body))?,
            }
        }
    });
    let wishes = Wishes { workers: 2, pool_size: 2, pgbouncer_names: true, ..Wishes::default() };
    let proxy = Proxy::with(server.address, &wishes);
    let mut clients = [(); 2].map(|()| Client::log_in(proxy.address));
    for sql in ["SELECT 1", "UPDATE t SET a = 1", "DELETE FROM t"] {
        for client in &mut clients {
            client.query(sql).unwrap();
        }
    }
    for path in ["/metrics", "/live.json", "/statements.json", "/statements.txt"] {
        let answer = proxy.ask(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}
