//! The connection that listens for many clients, against a server whose every word is the test's.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};

use firepool::notify::{Failure, Hub, Limits, ListenError, MAX_NOTIFICATION, Mailbox};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::peers::PATIENCE;
use crate::peers::bytes::{answer, complete, error, message, notice, parameter, ready, row};
use crate::peers::server::{Conn, Server};

fn notification(channel: &str, payload: &str) -> Vec<u8> {
    message(b'A', format!("\0\0\0\x07{channel}\0{payload}\0").as_bytes())
}

/// Lets the hub in and answers its setup.
fn let_in(conn: &mut Conn) -> io::Result<()> {
    conn.log_in()?;
    conn.expect(b'Q')?;
    conn.send(&answer(b"set"))
}

fn hub(server: &Server) -> Arc<Hub> {
    Hub::new("db/u", server.opener(), Box::new(|| Some(Box::new(()))), Limits::default())
}

async fn listen(hub: &Arc<Hub>, mailbox: &Arc<Mailbox>, channel: &str) {
    timeout(PATIENCE, hub.listen(mailbox, channel.as_bytes())).await.unwrap().unwrap();
}

/// So many bytes, or the failure that came before them.
async fn take(mailbox: &Mailbox, count: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        timeout(PATIENCE, poll_fn(|cx| mailbox.poll_ready(cx))).await.expect("nothing came");
        mailbox.take(&mut bytes, 1 << 20)?;
    }
    Ok(bytes)
}

fn run(future: impl Future<Output = ()>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

#[test]
fn a_subscription_begins_behind_its_answer_however_the_stream_is_cut() {
    let (old, new) = (notification("x", "old"), notification("x", "new"));
    let (before, after) = (old.clone(), new.clone());
    let server = Server::start(move |conn| {
        let_in(conn)?;
        assert_eq!(conn.expect(b'Q')?, b"LISTEN \"x\"\0");
        conn.send(&answer(b""))?;
        assert_eq!(conn.expect(b'Q')?, b"LISTEN \"x\"\0");
        let stream =
            [&before, &complete("LISTEN"), &notice("cut"), &ready(b'I'), &after].map(|m| &m[..]).concat();
        conn.send_in_pieces(&stream, || 1)?;
        conn.await_end()
    });
    run(async {
        let (hub, first, second) = (hub(&server), Mailbox::new(10_000), Mailbox::new(10_000));
        listen(&hub, &first, "x").await;
        listen(&hub, &second, "x").await;
        assert_eq!(take(&second, new.len()).await.unwrap(), new);
        assert_eq!(take(&first, old.len() + new.len()).await.unwrap(), [old, new].concat());
    });
}

#[test]
fn the_server_is_told_of_each_channel_while_somebody_has_it() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let server = Server::start(move |conn| {
        let_in(conn)?;
        loop {
            let sql = conn.expect(b'Q')?;
            hearing.lock().unwrap().push(String::from_utf8(sql).unwrap());
            conn.send(&[complete("DONE"), ready(b'I')].concat())?;
        }
    });
    run(async {
        let (hub, first, second) = (hub(&server), Mailbox::new(10_000), Mailbox::new(10_000));
        listen(&hub, &first, "x").await;
        listen(&hub, &second, "x").await;
        listen(&hub, &second, "x").await;
        hub.unlisten(&first, b"x");
        listen(&hub, &first, "a").await;
        drop(second);
        listen(&hub, &first, "b").await;
    });
    let wanted = ["LISTEN \"x\"\0", "LISTEN \"x\"\0", "LISTEN \"a\"\0", "UNLISTEN \"x\"\0", "LISTEN \"b\"\0"];
    assert_eq!(*heard.lock().unwrap(), wanted);
}

#[test]
fn whatever_else_the_server_says_ends_the_connection_and_its_listeners() {
    let torn = |length: u32| [&b"A"[..], &length.to_be_bytes(), b"\0\0\0\x07x\0"].concat();
    for (what, words) in [
        ("a notification that is too long", torn(MAX_NOTIFICATION as u32)),
        ("a notification of two gigabytes", torn(i32::MAX as u32)),
        ("a notification without an end", message(b'A', b"\0\0\0\x07x\0payload")),
        ("a notification with more behind it", message(b'A', b"\0\0\0\x07x\0payload\0more\0")),
        ("a notification without a channel", message(b'A', b"\0\0\0\x07\0payload\0")),
        ("a notification without a body", message(b'A', b"")),
        ("a row", row(b"stolen")),
        ("ReadyForQuery", ready(b'I')),
        ("an error that is not fatal", error("ERROR", "XX000", "out of the blue")),
        ("a farewell", error("FATAL", "57P01", "terminating connection")),
        ("an unknown type", message(b'!', b"")),
        ("another encoding", parameter("client_encoding", "LATIN1")),
    ] {
        let good = notification("x", "before");
        let sent = [good.clone(), words].concat();
        let server = Server::start(move |conn| {
            let_in(conn)?;
            conn.expect(b'Q')?;
            conn.send(&[answer(b""), sent.clone()].concat())?;
            conn.await_end()
        });
        run(async {
            let (hub, mailbox) = (hub(&server), Mailbox::new(10_000));
            // It may be lost before it was heard of.
            if timeout(PATIENCE, hub.listen(&mailbox, b"x")).await.unwrap().is_ok() {
                assert_eq!(take(&mailbox, usize::MAX).await, Err(Failure::Lost), "{what}");
            }
            assert_eq!((hub.channels(), hub.encoding()), (0, None), "{what}");
        });
    }
}

/// See `terse`.
#[test]
fn an_error_that_says_too_little_subscribes_nobody_and_ends_nobody() {
    for body in [&b"SERROR\0VERROR\0Mno\0\0"[..], b"\0", b"", b"C42", b"C\0\0"] {
        let server = Server::start(move |conn| {
            let_in(conn)?;
            conn.expect(b'Q')?;
            conn.send(&[message(b'E', body), ready(b'I')].concat())?;
            conn.expect(b'Q')?;
            conn.send(&[complete("LISTEN"), ready(b'I'), notification("x", "heard")].concat())?;
            conn.await_end()
        });
        run(async {
            let (hub, mailbox) = (hub(&server), Mailbox::new(10_000));
            let refused = timeout(PATIENCE, hub.listen(&mailbox, b"x")).await.unwrap().unwrap_err();
            assert!(
                matches!(&refused, ListenError::Refused { sqlstate, .. } if sqlstate.is_empty()),
                "{refused:?}"
            );
            listen(&hub, &mailbox, "x").await;
            assert!(take(&mailbox, 1).await.is_ok(), "{body:?}");
        });
    }
}

#[test]
fn an_answer_within_a_transaction_subscribes_nobody() {
    let server = Server::start(|conn| {
        let_in(conn)?;
        conn.expect(b'Q')?;
        conn.send(&[complete("LISTEN"), ready(b'T')].concat())?;
        conn.await_end()
    });
    run(async {
        let (hub, mailbox) = (hub(&server), Mailbox::new(10_000));
        assert!(timeout(PATIENCE, hub.listen(&mailbox, b"x")).await.unwrap().is_err());
        assert!(!mailbox.is_listening());
    });
}

#[test]
fn a_runtime_that_ends_takes_its_listeners_along_and_the_next_one_begins_anew() {
    let server = Server::start(|conn| {
        let_in(conn)?;
        loop {
            conn.expect(b'Q')?;
            conn.send(&[complete("LISTEN"), ready(b'I')].concat())?;
        }
    });
    let (hub, first, second) = (hub(&server), Mailbox::new(10_000), Mailbox::new(10_000));
    run(listen(&hub, &first, "x"));
    run(async {
        assert_eq!(take(&first, 1).await, Err(Failure::Lost));
        listen(&hub, &second, "x").await;
    });
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_server_that_notifies_without_end_fills_no_mailbox_beyond_its_limit() {
    let wave = [notification("x", &"y".repeat(7_000)), notification("nobody's", "z")].concat();
    let server = Server::start(move |conn| {
        let_in(conn)?;
        for _ in 0..2 {
            conn.expect(b'Q')?;
            conn.send(&answer(b""))?;
        }
        loop {
            conn.send(&wave)?;
        }
    });
    run(async {
        let (hub, lazy, eager) = (hub(&server), Mailbox::new(100_000), Mailbox::new(1 << 20));
        listen(&hub, &lazy, "x").await;
        listen(&hub, &eager, "x").await;
        assert_eq!(take(&eager, 2 << 20).await.map(|bytes| bytes.len() >= 2 << 20), Ok(true));
        assert_eq!(take(&lazy, 1).await, Err(Failure::Overflow));
    });
}
