//! Clients that misbehave before and during their login.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use firepool::scram::ClientExchange;

use crate::peers::bytes::{message, packet, query, startup};
use crate::peers::client::{Client, initial_response, last_sqlstate};
use crate::peers::proxy::{DATABASE, PASSWORD, Proxy, USER, Wishes};
use crate::peers::server::Server;
use crate::peers::{Dice, eventually, resident};

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

fn honest_startup() -> Vec<u8> {
    startup(&[(b"user", USER.as_bytes()), (b"database", DATABASE.as_bytes())])
}

/// A startup packet whose body has exactly so many bytes, its length included.
fn startup_of(length: usize) -> Vec<u8> {
    let user = [(&b"user"[..], USER.as_bytes()), (b"database", DATABASE.as_bytes())];
    let rest = length - startup(&user).len() - b"application_name\0\0".len();
    let name = vec![b'n'; rest];
    let packet = startup(&[user[0], user[1], (b"application_name", &name)]);
    assert_eq!(packet.len(), length);
    packet
}

/// What is answered to bytes that come before a login: with a SQLSTATE, or with the end alone.
fn openings() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let claims = |length: u32| [&length.to_be_bytes()[..], &(3_u32 << 16).to_be_bytes(), &[0; 64]].concat();
    let named = |name: &[u8]| startup(&[(b"user", name), (b"database", DATABASE.as_bytes())]);
    let with = |name: &[u8], value: &[u8]| {
        startup(&[(b"user", USER.as_bytes()), (b"database", DATABASE.as_bytes()), (name, value)])
    };
    vec![
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), None),
        ("a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), None),
        ("an SSH banner", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), None),
        ("a length of 0", claims(0), None),
        ("a length of 3", claims(3), None),
        ("a length of 7", claims(7), None),
        ("a length of 2 GiB", claims(0x7fff_ffff), None),
        ("a negative length", claims(0xffff_ffff), None),
        ("10,001 bytes", startup_of(10_001), None),
        ("protocol 2", packet(2 << 16, &[0; 292]), Some("0A000")),
        ("protocol 4", packet(4 << 16, b"\0"), Some("0A000")),
        ("protocol 0", packet(0, b"\0"), Some("0A000")),
        ("no parameters", packet(3 << 16, b""), Some("08P01")),
        ("a name without a value", packet(3 << 16, b"user\0"), Some("08P01")),
        ("a name without an end", packet(3 << 16, b"user"), Some("08P01")),
        ("no empty name at the end", packet(3 << 16, b"user\0alice\0"), Some("08P01")),
        ("bytes behind the empty name", packet(3 << 16, b"user\0alice\0\0more"), Some("08P01")),
        ("a NUL within a name", packet(3 << 16, b"user\0al\0ice\0\0"), Some("08P01")),
        ("no user", packet(3 << 16, b"\0"), Some("28000")),
        ("an empty user", named(b""), Some("28000")),
        ("a user that is not UTF-8", named(b"\xff\xfe\x80"), Some("08P01")),
        ("a value that is not UTF-8", with(b"application_name", b"\xc3\x28"), Some("08P01")),
        ("a setting that is not UTF-8", with(b"\xff", b"x"), Some("08P01")),
        ("a setting with a quote", with(b"a\"b", b"x"), Some("22023")),
        ("a setting with a semicolon", with(b"a;DROP TABLE x;--", b"x"), Some("22023")),
        ("a setting with a very long name", with(&[b's'; 5000], b"x"), Some("22023")),
        ("replication of nobody knows what", with(b"replication", b"perhaps"), Some("22023")),
        ("options that are none", with(b"options", b"--"), Some("0A000")),
        ("SSLRequest with a body", packet(SSL_REQUEST, b"x"), Some("08P01")),
        ("GSSENCRequest with a body", packet(GSSENC_REQUEST, b"x"), Some("08P01")),
        ("a cancel request without a key", packet(80_877_102, b""), Some("08P01")),
        ("a cancel request with half a key", packet(80_877_102, &[0; 4]), Some("08P01")),
        ("a cancel request for nobody", packet(80_877_102, &[1; 8]), None),
    ]
}

#[test]
fn an_opening_that_breaks_the_protocol_ends_with_its_own_error_or_in_silence() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for (name, bytes, sqlstate) in openings() {
        let mut client = Client::connect(proxy.address);
        client.send(&bytes);
        let answer = client.until_end();
        assert_eq!(last_sqlstate(&answer).as_deref(), sqlstate, "{name}: {answer:?}");
        assert!(sqlstate.is_some() || answer.is_empty(), "{name}: {answer:?}");
    }
    assert_eq!(server.accepted(), 0, "none of them cost a server connection");
    proxy.assert_alive();
}

#[test]
fn a_startup_packet_as_long_as_postgresql_takes_it_is_taken() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let mut client = Client::connect(proxy.address);
    client.send(&startup_of(10_000));
    client.authentication(10).unwrap();
}

#[test]
fn encryption_is_declined_once_of_each_kind_and_no_byte_behind_the_request_is_lost_or_trusted() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
    for (declined, requests) in
        [(1, vec![&ssl]), (1, vec![&gss]), (2, vec![&ssl, &gss]), (2, vec![&gss, &ssl])]
    {
        // One after the other, and all of it ahead with the startup packet.
        for ahead in [false, true] {
            let mut client = Client::connect(proxy.address);
            for request in &requests {
                client.send(request);
                if !ahead {
                    assert_eq!(client.receive_raw(1), b"N");
                }
            }
            client.send(&honest_startup());
            if ahead {
                assert_eq!(client.receive_raw(declined), b"N".repeat(declined));
            }
            client.prove(PASSWORD).unwrap();
            while client.receive().unwrap().0 != b'Z' {}
            client.query("SELECT 1").unwrap();
        }
    }
    for twice in [[&ssl, &ssl], [&gss, &gss]] {
        let mut client = Client::connect(proxy.address);
        client.send(&twice.map(Vec::as_slice).concat());
        let answer = client.until_end();
        assert_eq!((answer[0], last_sqlstate(&answer[1..]).as_deref()), (b'N', Some("08P01")));
    }
    // What an eavesdropper put behind the request is a packet like any other: here one that is none.
    let mut client = Client::connect(proxy.address);
    client.send(&[ssl, query("SELECT 1")].concat());
    assert_eq!(client.until_end(), b"N");
    proxy.assert_alive();
}

/// What stands in the place of the client's first SASL message.
fn sasl_messages() -> Vec<(&'static str, Vec<u8>)> {
    let claims = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
    let initial = |body: &[u8]| message(b'p', body);
    vec![
        ("a query", query("SELECT 1")),
        ("a Terminate", message(b'X', b"")),
        ("a length of 0", claims(b'p', 0)),
        ("a length of 3", claims(b'p', 3)),
        ("a length of 2 GiB", claims(b'p', 0x7fff_ffff)),
        ("a negative length", claims(b'p', 0xffff_ffff)),
        ("a body of nothing", initial(b"")),
        ("a password", initial(b"correct horse\0")),
        ("no length of data", initial(b"SCRAM-SHA-256\0")),
        ("another mechanism", initial(b"SCRAM-SHA-256-PLUS\0\0\0\0\0")),
        ("a mechanism that is not UTF-8", initial(b"\xff\xff\0\0\0\0\0")),
        ("data that is longer than it is", initial(b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=x")),
        ("data of length -1", initial(b"SCRAM-SHA-256\0\xff\xff\xff\xff")),
        ("no data", initial_response(b"")),
        ("data that is not UTF-8", initial_response(b"n,,n=,r=\xff\xfe")),
        ("no nonce", initial_response(b"n,,n=,r=")),
        ("a nonce with a space", initial_response(b"n,,n=,r=a b")),
        ("channel binding", initial_response(b"p=tls-server-end-point,,n=,r=abc")),
        ("another identity", initial_response(b"n,a=postgres,n=,r=abc")),
        ("commas", initial_response(b",,,,,,,,,")),
        ("a long nonce", initial_response(&[b"n,,n=,r=", &[b'x'; 1500][..]].concat())),
        ("a very long nonce", initial_response(&[b"n,,n=,r=", &[b'x'; 3000][..]].concat())),
    ]
}

#[test]
fn a_first_sasl_message_that_breaks_the_protocol_ends_with_08p01() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for (name, bytes) in sasl_messages() {
        let mut client = Client::connect(proxy.address);
        client.send(&honest_startup());
        client.authentication(10).unwrap();
        client.send_hopefully(&bytes);
        let answer = client.until_end();
        // Where bytes were left unread, the error may be lost with the reset connection.
        let lost = answer.is_empty() && ["a query", "a very long nonce"].contains(&name);
        assert!(lost || last_sqlstate(&answer).as_deref() == Some("08P01"), "{name}: {answer:?}");
    }
    assert_eq!(server.accepted(), 0);
    proxy.assert_alive();
}

#[test]
fn a_last_sasl_message_that_breaks_the_protocol_or_proves_nothing_lets_nobody_in() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    let proof = "A".repeat(43);
    type Last = Box<dyn Fn(&str) -> Vec<u8>>;
    let cases: Vec<(&str, Last, &str)> = vec![
        ("no proof", Box::new(|nonce| format!("c=biws,r={nonce}").into()), "08P01"),
        ("an empty proof", Box::new(|nonce| format!("c=biws,r={nonce},p=").into()), "08P01"),
        ("a short proof", Box::new(|nonce| format!("c=biws,r={nonce},p=AAAA").into()), "08P01"),
        ("a wrong proof", Box::new(move |nonce| format!("c=biws,r={nonce},p={proof}=").into()), "28P01"),
        ("another nonce", Box::new(|_| b"c=biws,r=other,p=AAAA".to_vec()), "08P01"),
        ("another binding", Box::new(|nonce| format!("c=eSws,r={nonce},p=AAAA").into()), "08P01"),
        ("nothing", Box::new(|_| Vec::new()), "08P01"),
        ("bytes that are not UTF-8", Box::new(|_| b"c=biws,r=\xff,p=AAAA".to_vec()), "08P01"),
    ];
    for (name, last, sqlstate) in cases {
        let mut client = Client::connect(proxy.address);
        client.send(&honest_startup());
        client.authentication(10).unwrap();
        client.send(&initial_response(ClientExchange::new().unwrap().first().as_bytes()));
        let challenge = String::from_utf8(client.authentication(11).unwrap()).unwrap();
        let nonce = challenge.strip_prefix("r=").unwrap().split(',').next().unwrap();
        client.send(&message(b'p', &last(nonce)));
        assert_eq!(last_sqlstate(&client.until_end()).as_deref(), Some(sqlstate), "{name}");
    }
    assert_eq!(server.accepted(), 0);
    proxy.assert_alive();
}

#[test]
fn an_unknown_user_goes_through_the_same_exchange_and_gets_the_same_answer_as_a_wrong_password() {
    let server = Server::honest();
    let proxy = Proxy::before(server.address);
    for user in [USER, "nobody", "x'; DROP TABLE y; --", &"long".repeat(1000)] {
        let mut client = Client::connect(proxy.address);
        client.send(&startup(&[(b"user", user.as_bytes()), (b"database", DATABASE.as_bytes())]));
        assert_eq!(client.prove("wrong").unwrap_err(), "28P01", "{user}");
    }
    proxy.assert_alive();
}

#[test]
fn a_client_that_never_finishes_its_login_is_told_so_and_let_go() {
    let server = Server::honest();
    let wishes = Wishes { login_timeout: Duration::from_millis(300), ..Wishes::default() };
    let proxy = Proxy::with(server.address, &wishes);
    let steps: [&[u8]; 5] = [
        b"",
        &honest_startup()[..3],
        &honest_startup()[..20],
        &packet(SSL_REQUEST, b""),
        &[honest_startup(), vec![b'p', 0, 0]].concat(),
    ];
    let mut clients: Vec<_> = steps
        .iter()
        .map(|bytes| {
            let mut client = Client::connect(proxy.address);
            client.send(bytes);
            client
        })
        .collect();
    for (step, client) in clients.iter_mut().enumerate() {
        let answer = client.until_end();
        let answer = answer.strip_prefix(b"N").unwrap_or(&answer);
        assert_eq!(last_sqlstate(answer).as_deref(), Some("57014"), "step {step}");
    }
    proxy.assert_alive();
}

#[test]
fn a_thousand_connections_of_garbage_leave_the_proxy_as_it_was() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let server = Server::honest();
    let proxy = Proxy::with(server.address, &Wishes { workers: 2, ..Wishes::default() });
    proxy.assert_alive();
    let before = resident();
    let (done, finished) = sync_channel(4);
    for thread in 0..4_u64 {
        let (address, done) = (proxy.address, done.clone());
        thread::spawn(move || {
            let mut dice = Dice(seed ^ thread << 40);
            for _ in 0..250 {
                let mut client = Client::connect(address);
                let length = dice.below(2000);
                let mut bytes = dice.bytes(length);
                match dice.below(4) {
                    // A believable length, so that more than the first four bytes are looked at.
                    0 if length > 8 => {
                        bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
                        bytes[4..8].copy_from_slice(&(3_u32 << 16).to_be_bytes());
                    }
                    1 => bytes = [honest_startup(), bytes].concat(),
                    2 => bytes = [packet(SSL_REQUEST, b""), honest_startup(), bytes].concat(),
                    _ => {}
                }
                client.send_hopefully(&bytes);
                client.finish();
                client.until_end();
            }
            done.send(()).unwrap();
        });
    }
    (0..4).for_each(|_| finished.recv().unwrap());
    let after = resident();
    println!("a thousand connections of garbage: {before} KiB resident before, {after} KiB after");
    assert!(after < before + 64 * 1024, "{before} KiB before, {after} KiB after");
    assert_eq!(server.accepted(), 1);
    eventually("all of them to be gone", || (proxy.metric("firepool_clients") == 0.0).then_some(()));
    proxy.assert_alive();
}
