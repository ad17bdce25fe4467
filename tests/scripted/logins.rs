//! A server that misbehaves while the proxy logs in. The client gets an error that fits, in time; nothing of it stays.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firepool::scram::{ServerExchange, Verifier};

use crate::peers::bytes::{answer, message, negotiate, notice, parameter, query, ready};
use crate::peers::client::Client;
use crate::peers::eventually;
use crate::peers::proxy::{PASSWORD, Proxy, Wishes};
use crate::peers::server::{BEGIN, Conn, Server, authentication_ok, welcome};

type Script = Box<dyn Fn(&mut Conn) -> io::Result<()> + Send + Sync>;

/// The proxy's login fails in a way that trying again would not mend, or the server cannot be reached.
const REJECTED: &str = "08004";
const UNREACHABLE: &str = "08001";

fn authentication(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

/// Sends these bytes and then nothing, until the proxy leaves.
fn says(bytes: Vec<u8>) -> Script {
    Box::new(move |conn| {
        conn.send(&bytes)?;
        conn.await_end()
    })
}

/// Sends these bytes again and again.
fn repeats(bytes: Vec<u8>) -> Script {
    Box::new(move |conn| {
        conn.send(&authentication_ok())?;
        loop {
            conn.send(&bytes)?;
        }
    })
}

/// SCRAM-SHA-256 by the book, but for what is done to the challenge and to the signature.
fn scram(
    conn: &mut Conn,
    challenge_of: impl Fn(&str, &str) -> String,
    signature_of: impl Fn(String) -> Vec<Vec<u8>>,
) -> io::Result<()> {
    conn.send(&authentication(10, b"SCRAM-SHA-256\0\0"))?;
    let initial = conn.expect(b'p')?;
    let first = &initial[b"SCRAM-SHA-256\0".len() + 4..];
    let nonce = std::str::from_utf8(first).unwrap().rsplit("r=").next().unwrap();
    let exchange = ServerExchange::new(Verifier::of_password(PASSWORD).unwrap());
    let (challenge, challenged) = exchange.challenge(first).unwrap();
    conn.send(&authentication(11, challenge_of(&challenge, nonce).as_bytes()))?;
    let last = conn.expect(b'p')?;
    for message in signature_of(challenged.finish(&last).unwrap()) {
        conn.send(&message)?;
    }
    Ok(())
}

fn challenges(with: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Script {
    Box::new(move |conn| scram(conn, &with, |_| Vec::new()))
}

fn signs(with: impl Fn(String) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Script {
    Box::new(move |conn| {
        scram(conn, |challenge, _| challenge.to_owned(), &with)?;
        conn.send(&welcome())?;
        conn.await_end()
    })
}

fn misbehaviours() -> Vec<(&'static str, Script, &'static str)> {
    let long = |tag: u8, length: u32| says([&[tag][..], &length.to_be_bytes(), &[0; 64]].concat());
    let after_ok = |bytes: &[u8]| says([&authentication_ok(), bytes].concat());
    let key = message(b'K', &[0; 8]);
    vec![
        ("a clear-text password is asked for", says(authentication(3, b"")), REJECTED),
        ("MD5 is asked for, and then there is silence", says(authentication(5, b"salt")), UNREACHABLE),
        ("MD5 is asked for with a salt of three bytes", says(authentication(5, b"sal")), REJECTED),
        (
            "MD5 is asked for twice",
            says([authentication(5, b"salt"), authentication(5, b"salt")].concat()),
            REJECTED,
        ),
        ("GSSAPI is asked for", says(authentication(7, b"")), REJECTED),
        ("an unknown method is asked for", says(authentication(4711, b"")), REJECTED),
        ("only channel binding is offered", says(authentication(10, b"SCRAM-SHA-256-PLUS\0\0")), REJECTED),
        ("no mechanism is offered", says(authentication(10, b"")), REJECTED),
        ("an authentication message of two bytes", says(message(b'R', b"\0\0")), REJECTED),
        ("ReadyForQuery before authentication", says(ready(b'I')), REJECTED),
        ("a row before authentication", says(message(b'D', b"\0\0")), REJECTED),
        ("parameters before authentication", says(welcome()), REJECTED),
        ("an unknown message type", says(message(b'!', b"")), REJECTED),
        ("no PostgreSQL at all", says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), REJECTED),
        ("an error without SQLSTATE", says(message(b'E', b"SFATAL\0Mno\0\0")), REJECTED),
        ("an error without any field", says(message(b'E', b"")), REJECTED),
        ("an error with a torn field", says(message(b'E', b"C28")), REJECTED),
        ("a SQLSTATE that is none", says(message(b'E', b"C'; DROP TABLE\0\0")), REJECTED),
        ("an error that is not UTF-8", says(message(b'E', b"M\xff\xfe\0C28000\0\0")), REJECTED),
        ("a message of 2 GiB", long(b'R', 0x7fff_ffff), REJECTED),
        ("an error of 2 GiB", long(b'E', 0x7fff_ffff), REJECTED),
        ("a negative length", long(b'R', 0xffff_ffff), REJECTED),
        ("a length of 3", long(b'R', 3), REJECTED),
        ("a length of 0", long(b'R', 0), REJECTED),
        ("no cancel key", after_ok(&ready(b'I')), REJECTED),
        ("a cancel key of 3 bytes", after_ok(&[message(b'K', &[0; 3]), ready(b'I')].concat()), REJECTED),
        ("a cancel key without a secret", after_ok(&message(b'K', &[0; 4])), REJECTED),
        ("a secret of 3 bytes", after_ok(&message(b'K', &[0; 7])), REJECTED),
        ("a secret of 257 bytes", after_ok(&message(b'K', &[0; 261])), REJECTED),
        ("a secret of 20 kB", after_ok(&message(b'K', &[0; 20_000])), REJECTED),
        ("ready in a transaction", after_ok(&[key.clone(), ready(b'T')].concat()), REJECTED),
        ("authenticated twice", after_ok(&authentication_ok()), REJECTED),
        ("a parameter of 64 kB", after_ok(&parameter("a", &"x".repeat(65_536))), REJECTED),
        ("a wrong signature", signs(|_| vec![authentication(12, b"v=AAAA"), authentication_ok()]), REJECTED),
        ("a signature of nothing", signs(|_| vec![authentication(12, b""), authentication_ok()]), REJECTED),
        ("no signature", signs(|_| vec![authentication_ok()]), REJECTED),
        ("silence", says(Vec::new()), UNREACHABLE),
        ("silence after authentication", after_ok(&key), UNREACHABLE),
        ("half a message", says(vec![b'R', 0, 0]), UNREACHABLE),
        ("notices without end", repeats(notice("more")), UNREACHABLE),
        ("parameters without end", repeats(parameter("name", "value")), UNREACHABLE),
        ("it hangs up", Box::new(|_| Ok(())), UNREACHABLE),
    ]
}

/// Servers whose challenge is none, or costs more than any honest one's.
fn challenges_that_are_none() -> Vec<(&'static str, Script, &'static str)> {
    vec![
        ("two billion iterations", challenges(|challenge, _| iterations(challenge, "2000000000")), REJECTED),
        ("no iterations", challenges(|challenge, _| iterations(challenge, "0")), REJECTED),
        (
            "a million iterations and one",
            challenges(|challenge, _| iterations(challenge, "1000001")),
            REJECTED,
        ),
        ("2^31 iterations", challenges(|challenge, _| iterations(challenge, "2147483648")), REJECTED),
        (
            "a nonce of 1.5 kB",
            challenges(|_, nonce| format!("r={nonce}{},s=c2FsdA==,i=4096", "x".repeat(1500))),
            REJECTED,
        ),
        (
            "a salt of 1 kB",
            challenges(|_, nonce| format!("r={nonce}x,s={},i=4096", "c2Fs".repeat(340))),
            REJECTED,
        ),
        ("no salt", challenges(|_, nonce| format!("r={nonce}x,s=,i=4096")), REJECTED),
        ("negative iterations", challenges(|challenge, _| iterations(challenge, "-1")), REJECTED),
        ("another nonce", challenges(|_, _| "r=other,s=c2FsdA==,i=4096".into()), REJECTED),
        ("the client's own nonce", challenges(|_, nonce| format!("r={nonce},s=c2FsdA==,i=4096")), REJECTED),
        ("a salt that is no base64", challenges(|_, nonce| format!("r={nonce}x,s=*,i=4096")), REJECTED),
        ("a challenge of nothing", challenges(|_, _| String::new()), REJECTED),
        (
            "a challenge of 60 kB",
            challenges(|challenge, _| challenge.to_owned() + &"x".repeat(60_000)),
            REJECTED,
        ),
    ]
}

/// Servers that agree on a version of the protocol in a way that none may.
fn misnegotiations() -> Vec<(&'static str, Script, &'static str)> {
    let after_ok = |bytes: &[u8]| says([&authentication_ok(), bytes].concat());
    vec![
        ("two versions", says([negotiate(3 << 16, &[]), negotiate(3 << 16, &[])].concat()), REJECTED),
        ("a newer version", says(negotiate(3 << 16 | 3, &[])), REJECTED),
        ("a version that does not exist", says(negotiate(3 << 16 | 1, &[])), REJECTED),
        ("the version that was asked for", says(negotiate(3 << 16 | 2, &[])), REJECTED),
        ("another protocol", says(negotiate(2 << 16, &[])), REJECTED),
        ("an option that was not sent", says(negotiate(3 << 16, &["_pq_.x"])), REJECTED),
        ("four billion options", says(message(b'v', &[0, 3, 0, 0, 255, 255, 255, 255])), REJECTED),
        ("a torn version", says(message(b'v', &[0, 3, 0])), REJECTED),
        ("bytes behind a version", says(message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0, 0])), REJECTED),
        (
            "a version behind the authentication",
            after_ok(&[negotiate(3 << 16, &[]), welcome()].concat()),
            REJECTED,
        ),
    ]
}

fn iterations(challenge: &str, count: &str) -> String {
    format!("{},i={count}", challenge.rsplit_once(",i=").unwrap().0)
}

#[test]
fn a_server_that_misbehaves_during_the_login_costs_an_error_and_nothing_else() {
    let wishes = Wishes {
        connect: Duration::from_millis(200),
        query_wait: Duration::from_millis(400),
        ..Wishes::default()
    };
    let all = misbehaviours().into_iter().chain(challenges_that_are_none()).chain(misnegotiations());
    for (name, script, sqlstate) in all {
        let mended = Arc::new(AtomicBool::new(false));
        let is_mended = Arc::clone(&mended);
        let server = Server::start(move |conn| {
            if !is_mended.load(Ordering::SeqCst) {
                return script(conn);
            }
            conn.log_in()?;
            conn.be_honest()
        });
        let proxy = Proxy::with(server.address, &wishes);
        let refused = Client::try_log_in(proxy.address, &[]).err();
        assert_eq!(refused.as_deref(), Some(sqlstate), "{name}");
        mended.store(true, Ordering::SeqCst);
        let mut client = eventually(name, || Client::try_log_in(proxy.address, &[]).ok());
        assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"), "{name}");
    }
}

#[test]
fn a_server_that_asks_for_scram_and_proves_itself_is_used() {
    let server = Server::start(|conn| {
        let by_the_book =
            |signature: String| vec![authentication(12, signature.as_bytes()), authentication_ok()];
        scram(conn, |challenge, _| challenge.to_owned(), by_the_book)?;
        conn.send(&welcome())?;
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"));
}

#[test]
fn a_login_that_comes_byte_by_byte_succeeds() {
    let server = Server::start(|conn| {
        conn.send_in_pieces(&[authentication_ok(), notice("hello"), welcome()].concat(), || 1)?;
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = Client::log_in(proxy.address);
    assert_eq!(client.query("SELECT 1").unwrap(), answer(b"SELECT 1"));
}

#[test]
fn what_a_server_sends_behind_its_first_ready_for_query_reaches_no_client() {
    let server = Server::start(|conn| {
        if conn.number == 0 {
            conn.send(&[authentication_ok(), welcome(), answer(b"stolen")].concat())?;
            return conn.await_end();
        }
        conn.log_in()?;
        conn.be_honest()
    });
    let proxy = Proxy::before(server.address);
    let mut client = eventually("a login", || Client::try_log_in(proxy.address, &[]).ok());
    assert_eq!(client.query("SELECT 'mine'").unwrap(), answer(b"SELECT 'mine'"));
    assert_eq!(server.accepted(), 2);
}

/// As many iterations as are taken cost the worker nothing: its other clients are served while the keys are derived.
#[test]
fn a_server_that_asks_for_much_work_does_not_stop_the_other_clients_of_the_worker() {
    let (asked, proved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (has_asked, has_proved) = (Arc::clone(&asked), Arc::clone(&proved));
    let server = Server::start(move |conn| {
        if conn.number == 0 {
            conn.log_in()?;
            return conn.be_honest();
        }
        conn.send(&authentication(10, b"SCRAM-SHA-256\0\0"))?;
        let initial = conn.expect(b'p')?;
        let nonce = std::str::from_utf8(&initial).unwrap().rsplit("r=").next().unwrap().to_owned();
        conn.send(&authentication(11, format!("r={nonce}x,s=c2FsdA==,i=1000000").as_bytes()))?;
        has_asked.store(true, Ordering::SeqCst);
        conn.expect(b'p')?;
        has_proved.store(true, Ordering::SeqCst);
        conn.await_end()
    });
    let proxy = Proxy::with(server.address, &Wishes { pool_size: 2, ..Wishes::default() });
    let mut busy = Client::log_in(proxy.address);
    busy.query(BEGIN).unwrap();
    let mut other = Client::log_in(proxy.address);
    other.send(&query("SELECT 1"));
    eventually("the server asks", || asked.load(Ordering::SeqCst).then_some(()));
    let mut answered = 0;
    while !proved.load(Ordering::SeqCst) {
        busy.query("SELECT 2").unwrap();
        answered += 1;
    }
    assert!(answered > 3, "{answered} queries while the keys were derived");
}
