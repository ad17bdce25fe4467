//! Every version of the protocol on either side of the proxy, and cancel keys of every length.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use firepool::config::PoolMode;

use crate::peers::bytes::{
    answer, cancel, complete, error, message, negotiate, packet, query, ready, startup_of,
};
use crate::peers::client::Client;
use crate::peers::eventually;
use crate::peers::proxy::{DATABASE, PASSWORD, Proxy, USER, Wishes};
use crate::peers::server::{Conn, Server, authentication_ok, welcome_with_key};

/// A login with a minor version and these protocol options: NegotiateProtocolVersion if it came, and the cancel key.
fn log_in(proxy: &Proxy, minor: u32, options: &[&str]) -> (Client, Option<Vec<u8>>, Vec<u8>) {
    let mut client = Client::connect(proxy.address);
    let mut parameters = vec![(&b"user"[..], USER.as_bytes()), (b"database", DATABASE.as_bytes())];
    parameters.extend(options.iter().map(|option| (option.as_bytes(), &b"on"[..])));
    client.send(&startup_of(minor, &parameters));
    let mut negotiated = None;
    // A type byte, to see whether the first message is that one.
    let mut first = [0];
    client.socket.peek(&mut first).unwrap();
    if first == *b"v" {
        negotiated = Some(client.receive().unwrap().1);
    }
    client.prove(PASSWORD).unwrap();
    let mut key = Vec::new();
    loop {
        match client.receive().unwrap() {
            (b'Z', _) => return (client, negotiated, key),
            (b'K', body) => key = body,
            (b'R' | b'S', _) => {}
            (tag, body) => panic!("{:?} {body:?} during the login", char::from(tag)),
        }
    }
}

type Script = Arc<dyn Fn(&mut Conn) -> io::Result<()> + Send + Sync>;

/// Servers of every age: what they do with a startup packet, up to AuthenticationOk.
fn servers() -> Vec<(&'static str, Script)> {
    let negotiates = |version: u32| {
        move |conn: &mut Conn| {
            if conn.minor() > 0 {
                conn.send(&negotiate(version, &[]))?;
            }
            conn.log_in()?;
            conn.be_honest()
        }
    };
    let refuses = |answer: Vec<u8>| {
        move |conn: &mut Conn| {
            if conn.minor() > 0 {
                return conn.send(&answer);
            }
            conn.log_in()?;
            conn.be_honest()
        }
    };
    let unsupported = |sqlstate| error("FATAL", sqlstate, "unsupported");
    vec![
        (
            "3.2",
            Arc::new(|conn: &mut Conn| {
                assert_eq!(conn.minor(), 2);
                conn.send(&[authentication_ok(), welcome_with_key(&[1; 36])].concat())?;
                conn.be_honest()
            }) as Script,
        ),
        ("3.0 that negotiates", Arc::new(negotiates(3 << 16))),
        ("3.0 that negotiates with the minor version alone", Arc::new(negotiates(0))),
        ("3.0 that refuses with 08P01", Arc::new(refuses(unsupported("08P01")))),
        ("3.0 that refuses with 0A000", Arc::new(refuses(unsupported("0A000")))),
        ("3.0 that refuses without a SQLSTATE", Arc::new(refuses(message(b'E', b"SERROR\0Mno\0\0")))),
        ("3.0 that hangs up", Arc::new(refuses(Vec::new()))),
    ]
}

#[test]
fn every_version_of_a_client_works_with_every_version_of_a_server() {
    for (name, script) in servers() {
        let server = Server::start(move |conn| script(conn));
        let proxy = Proxy::before(server.address);
        // Asked for, spoken, and whether the client is told so.
        let table = [(0, 0, false), (1, 0, true), (2, 2, false), (3, 2, true), (9999, 2, true)];
        for (minor, spoken, told) in table {
            for options in [&[][..], &["_pq_.first", "_pq_.second"]] {
                let (mut client, negotiated, key) = log_in(&proxy, minor, options);
                let due = negotiate(3 << 16 | spoken, options)[5..].to_vec();
                let due = (told || !options.is_empty()).then_some(due);
                assert_eq!(negotiated, due, "3.{minor} with {options:?} before a server of {name}");
                assert_eq!(key.len(), if spoken == 2 { 4 + 32 } else { 4 + 4 }, "3.{minor}");
                assert!(key[0] < 0x80, "a process id is positive");
                assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"), "{name}");
            }
        }
    }
}

#[test]
fn a_server_that_refuses_the_newest_version_is_asked_for_it_once() {
    let asked = [0, 2].map(|_| Arc::<AtomicUsize>::default());
    let counts = asked.clone();
    let server = Server::start(move |conn| {
        if conn.minor() > 0 {
            counts[1].fetch_add(1, Ordering::SeqCst);
            return conn.send(&error("FATAL", "08P01", "bad packet header"));
        }
        counts[0].fetch_add(1, Ordering::SeqCst);
        conn.log_in()?;
        conn.be_honest()
    });
    let wishes = Wishes { pool_size: 3, mode: PoolMode::Session, ..Wishes::default() };
    let proxy = Proxy::with(server.address, &wishes);
    let mut clients: Vec<_> = (0..3).map(|_| Client::log_in(proxy.address)).collect();
    for client in &mut clients {
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"));
    }
    assert_eq!(asked.map(|count| count.load(Ordering::SeqCst)), [3, 1]);
}

#[test]
fn an_error_that_is_not_about_the_version_is_not_answered_with_another_attempt() {
    for sqlstate in ["28000", "3D000", "53300", "57P03"] {
        let server = Server::start(move |conn| {
            assert_eq!(conn.minor(), 2, "after {sqlstate}");
            conn.send(&error("FATAL", sqlstate, "no"))
        });
        let wishes = Wishes { query_wait: Duration::from_millis(300), ..Wishes::default() };
        let proxy = Proxy::with(server.address, &wishes);
        assert!(Client::try_log_in(proxy.address, &[]).is_err());
    }
}

#[test]
fn a_cancel_request_reaches_the_server_with_exactly_the_secret_that_it_gave() {
    for (length, minor) in [(4, 0), (4, 2), (5, 2), (32, 0), (32, 2), (255, 2), (256, 0), (256, 2)] {
        let key: Vec<u8> = [0, 0, 0, 7].into_iter().chain((0..length).map(|place| place as u8)).collect();
        let (runs, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (server_key, running, is_over) = (key.clone(), Arc::clone(&runs), Arc::clone(&over));
        let server = Server::start(move |conn| {
            conn.send(&[authentication_ok(), welcome_with_key(&server_key)].concat())?;
            conn.expect(b'Q')?;
            running.store(true, Ordering::SeqCst);
            eventually("the cancel request", || is_over.load(Ordering::SeqCst).then_some(()));
            conn.send(&[complete("SELECT 0"), ready(b'I')].concat())?;
            conn.be_honest()
        });
        let proxy = Proxy::before(server.address);
        let (mut client, _, own) = log_in(&proxy, minor, &[]);
        client.send(&query("SELECT 1"));
        eventually("the query runs", || runs.load(Ordering::SeqCst).then_some(()));
        let request = |key: &[u8]| {
            let mut canceller = Client::connect(proxy.address);
            canceller.send(&cancel(key));
            assert_eq!(canceller.until_end(), b"");
        };
        // Near misses, and the server's own key, hit nobody.
        let mut last = own.clone();
        *last.last_mut().unwrap() ^= 1;
        [&last, &key, &[&own[..], b"\0"].concat()].into_iter().for_each(|wrong| request(wrong));
        assert_eq!(server.cancels(), 0);
        request(&own);
        assert_eq!(server.cancel_keys(), std::slice::from_ref(&key));
        over.store(true, Ordering::SeqCst);
        client.until_ready().unwrap();
        assert_eq!(client.query("SELECT 2").unwrap(), answer(b"SELECT 2"), "{length}");
    }
}

#[test]
fn a_cancel_request_is_as_long_as_a_key_may_be_and_no_longer() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for length in [0, 4, 7, 8, 9, 36, 260, 261, 9_000] {
        let mut client = Client::connect(proxy.address);
        client.send(&packet(80_877_102, &vec![1; length]));
        let refused = !client.until_end().is_empty();
        assert_eq!(refused, !(8..=260).contains(&length), "{length}");
    }
    assert_eq!(server.accepted(), 0);
    proxy.assert_alive();
}
