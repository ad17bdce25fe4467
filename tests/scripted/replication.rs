//! Clients that replicate: whatever either side sends reaches the other as it is, and an end on one side is one on both.

use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::peers::bytes::{message, notice, parameter, ready, startup};
use crate::peers::client::{Client, last_sqlstate};
use crate::peers::proxy::{DATABASE, PASSWORD, Proxy, USER, Wishes};
use crate::peers::server::{Conn, Server, authentication_ok, welcome};
use crate::peers::{Dice, eventually};

fn proxy(server: &Server) -> Proxy {
    Proxy::with(server.address, &Wishes { replication: true, ..Wishes::default() })
}

/// A client that asked to replicate and proved its password.
fn begin(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address);
    let asked = [
        (&b"user"[..], USER.as_bytes()),
        (b"database", DATABASE.as_bytes()),
        (b"replication", b"true"),
        (b"application_name", b"copier"),
        (b"options", b"-c a=b \\ x"),
    ];
    client.send(&startup(&asked));
    client.prove(PASSWORD).unwrap();
    client
}

/// The rest of its login: every message of it but the key.
fn finish(client: &mut Client) -> Vec<u8> {
    let mut messages = Vec::new();
    loop {
        let (tag, body) = client.receive().unwrap();
        if tag != b'K' {
            messages.extend(message(tag, &body));
        }
        if tag == b'Z' {
            return messages;
        }
    }
}

/// Replicates on a server that lets the proxy in and then does as the script says.
fn replicating(
    script: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
) -> (Server, Proxy, Client) {
    let server = Server::start(move |conn| {
        conn.log_in()?;
        script(conn)
    });
    let proxy = proxy(&server);
    let mut client = begin(&proxy);
    finish(&mut client);
    (server, proxy, client)
}

#[test]
fn the_servers_greeting_and_the_clients_parameters_are_passed_on_as_they_are() {
    let greeting = [parameter("one", "\u{e4}"), notice("hello"), parameter("in_hot_standby", "on")].concat();
    let sent = greeting.clone();
    let server = Server::start(move |conn| {
        let mut words: Vec<_> = conn.startup[4..].split(|&byte| byte == 0).collect();
        words.truncate(words.len() - 2);
        let pairs: Vec<_> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"application_name", b"copier"),
            (b"database", DATABASE.as_bytes()),
            (b"options", b"-c a=b \\ x"),
            (b"replication", b"true"),
            (b"user", USER.as_bytes()),
        ];
        assert_eq!(pairs, expected);
        let key = message(b'K', &[7; 260]);
        conn.send(&[&authentication_ok(), &sent, &key, &ready(b'I'), &b"and more"[..]].concat())?;
        conn.await_end()
    });
    let proxy = proxy(&server);
    let mut client = begin(&proxy);
    assert_eq!(finish(&mut client), [authentication_ok(), greeting, ready(b'I')].concat());
    assert_eq!(client.receive_raw(8), b"and more");
}

#[test]
fn whatever_is_sent_arrives_and_nothing_is_looked_at() {
    let (up, down) = (Dice(1).bytes(3_000_000), Dice(2).bytes(5_000_000));
    let (expected, sent) = (up.clone(), down.clone());
    let (_server, _proxy, mut client) = replicating(move |conn| {
        let (mut socket, sent) = (conn.socket.try_clone()?, sent.clone());
        let sending = std::thread::spawn(move || socket.write_all(&sent));
        let came = conn.receive_raw(expected.len())?;
        assert!(came == expected, "bytes have changed on the way to the server");
        sending.join().unwrap()
    });
    let mut socket = client.socket.try_clone().unwrap();
    let sending = std::thread::spawn(move || socket.write_all(&up).unwrap());
    let came = client.until_end();
    assert!(came == down, "{} bytes came of {}", came.len(), down.len());
    sending.join().unwrap();
}

#[test]
fn a_client_that_reads_nothing_holds_its_server_back() {
    const ALL: usize = 256 * 1024 * 1024;
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    let (_server, proxy, client) = replicating(move |conn| {
        let chunk = vec![b'x'; 64 * 1024];
        while counted.load(Ordering::SeqCst) < ALL {
            conn.send(&chunk)?;
            counted.fetch_add(chunk.len(), Ordering::SeqCst);
        }
        Ok(())
    });
    let mut last = 0;
    eventually("the server is held back", || {
        std::thread::park_timeout(Duration::from_millis(300));
        let now = sent.load(Ordering::SeqCst);
        (std::mem::replace(&mut last, now) == now && now > 0).then_some(())
    });
    assert!(last < ALL / 4, "{last} bytes were taken from the server");
    drop(client);
    eventually("both are gone", || {
        (proxy.metric("firepool_replication_connections_closed_total") == 1.0).then_some(())
    });
}

#[test]
fn an_end_on_one_side_is_one_on_the_other() {
    // The server closes, behind its last words.
    let (_server, _proxy, mut client) = replicating(|conn| conn.send(b"last words"));
    assert_eq!(client.until_end(), b"last words");
    // The client closes.
    let (_server, proxy, client) = replicating(Conn::await_end);
    drop(client);
    let closed = || proxy.metric("firepool_replication_connections_closed_total") == 1.0;
    eventually("the server connection is closed", || closed().then_some(()));
    // The client closes its half: the server hears of it and answers.
    let (_server, _proxy, mut client) = replicating(|conn| {
        conn.await_end()?;
        conn.send(b"answer")
    });
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.until_end(), b"answer");
}

#[test]
fn a_server_that_misbehaves_during_the_login_of_a_replicating_client_costs_an_error() {
    let flood = parameter("name", &"x".repeat(20_000)).repeat(4);
    for (name, answer) in [
        ("parameters without end", [authentication_ok(), flood].concat()),
        ("no cancel key", [authentication_ok(), ready(b'I')].concat()),
        ("a torn cancel key", [authentication_ok(), message(b'K', &[0; 6])].concat()),
        ("a row", [authentication_ok(), message(b'D', b"\0\0")].concat()),
        ("a transaction", [authentication_ok(), message(b'K', &[0; 8]), ready(b'T')].concat()),
        ("a welcome before the authentication", welcome()),
    ] {
        let server = Server::start(move |conn| {
            conn.send(&answer)?;
            conn.await_end()
        });
        let proxy = proxy(&server);
        let mut client = begin(&proxy);
        assert_eq!(last_sqlstate(&client.until_end()).as_deref(), Some("08004"), "{name}");
        assert_eq!(proxy.metric("firepool_replication_connections_opened_total"), 0.0, "{name}");
    }
}
