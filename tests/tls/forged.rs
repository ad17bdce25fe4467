//! Peers that do not keep to the rules.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use firepool::tls::{ClientFiles, Connector, Transport, Trust};

use super::stage::{Encrypted, SSL_REQUEST, config_of};
use super::support::fixture::Proxy;
use super::support::messages;
use super::support::raw::Raw;
use super::support::server::DATABASE;
use super::support::wait::LIMIT;

/// Keeps what is written, and has nothing to read.
#[derive(Default)]
struct Paper(Mutex<Vec<u8>>);

impl Transport for Paper {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// What an honest client begins its handshake with.
fn client_hello() -> Vec<u8> {
    let connector = Connector::load("localhost", ClientFiles::default(), Trust::Roots).unwrap();
    let mut paper = Paper::default();
    {
        let mut connecting = pin!(connector.connect(&mut paper));
        assert!(connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    paper.0.into_inner().unwrap()
}

pub fn bytes_ahead_of_a_clients_handshake_are_refused() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let proxy = encrypted.proxy(&role, &encrypted.authority.tls("allow"), "");
    let hello = client_hello();
    assert_eq!(hello[0], 0x16);
    for ahead in [&hello[..], &hello[..1], b"Q\0\0\0\x0dSELECT 1\0", b"\0"] {
        let mut raw = Raw::connect(proxy.address);
        raw.send(&[&SSL_REQUEST, ahead].concat());
        let failure = raw.message().expect("a word").failure();
        assert_eq!(failure.code, "08P01", "{failure:?}");
        assert_eq!(failure.message, "received unencrypted data after SSL request");
        assert_eq!(raw.message(), None);
    }
    // The same, but asked first, is an honest client.
    let mut raw = Raw::connect(proxy.address);
    raw.send(&SSL_REQUEST);
    let mut answer = [0];
    raw.stream.read_exact(&mut answer).unwrap();
    raw.send(&hello);
    raw.stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x16]);
}

/// What a connection began with, and what came behind the answer to it.
type Said = ([u8; 8], Vec<u8>);

/// A server that answers the first eight bytes of each connection, and tells what was said on it, one after the other.
fn server(answer: &'static [u8]) -> (SocketAddr, mpsc::Receiver<Said>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::sync_channel(10);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let mut request = [0; 8];
            socket.read_exact(&mut request).unwrap();
            let _ = socket.write_all(answer);
            let mut behind = vec![0; 100];
            let length = socket.read(&mut behind).unwrap_or(0);
            behind.truncate(length);
            let _ = sender.send((request, behind));
        }
    });
    (address, receiver)
}

/// Everything that was said to the server before this moment. Connections are answered in the order in which they came.
fn said(address: SocketAddr, received: &mpsc::Receiver<Said>) -> Vec<Said> {
    const LAST: [u8; 8] = *b"the last";
    std::net::TcpStream::connect(address).unwrap().write_all(&LAST).unwrap();
    let next = || Some(received.recv_timeout(LIMIT).unwrap()).filter(|(request, _)| *request != LAST);
    std::iter::from_fn(next).collect()
}

pub fn bytes_ahead_of_a_servers_handshake_are_refused() {
    // AuthenticationOk and ReadyForQuery, as somebody on the way would like them to be read later on.
    let forged = b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    for sslmode in ["prefer", "require"] {
        let (address, received) = server(forged);
        let config = config_of(address, "somebody", "", &format!("sslmode = \"{sslmode}\""));
        let proxy = Proxy::serve(config);
        let failure = Raw::login(proxy.address, "somebody", DATABASE, &[]).unwrap_err();
        assert_eq!(failure.code, "08004");
        // No handshake is begun, and `prefer` does not go on without.
        assert_eq!(said(address, &received), [(SSL_REQUEST, Vec::new())], "{sslmode}");
    }
}

pub fn a_server_that_answers_with_an_error_is_not_quoted() {
    let (address, received) = server(b"E\0\0\0\x14SFATAL\0Mbuy gold\0\0");
    let config = config_of(address, "somebody", "[timeouts]\nquery_wait = \"1s\"", "sslmode = \"require\"");
    let proxy = Proxy::serve(config);
    let failure = Raw::login(proxy.address, "somebody", DATABASE, &[]).unwrap_err();
    assert_eq!(failure.code, "08001");
    assert!(!format!("{failure:?}").contains("gold"));
    let (request, behind) = received.recv_timeout(LIMIT).unwrap();
    assert_eq!((request, behind), (SSL_REQUEST, Vec::new()));
}

pub fn direct_tls_without_alpn_is_not_served() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let tls = encrypted.authority.tls("allow");
    let proxy = encrypted.proxy(&role, &format!("[proxy]\nlogin_timeout = \"2s\"\n{tls}"), "");
    let startup = messages::startup((3, 0), &[("user", &role), ("database", DATABASE)]);
    // What OpenSSL's client says, and what it is told.
    let talk = |alpn: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &proxy.address.to_string(), "-quiet", "-ign_eof"]).args(alpn);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.as_mut().unwrap().write_all(&startup);
        let output = child.wait_with_output().unwrap();
        (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (told, said) = talk(&["-alpn", "postgresql"]);
    assert!(told.starts_with(b"R"), "it is asked who it is: {told:?} {said}");
    let (told, said) = talk(&["-alpn", "http/1.1"]);
    assert!(told.is_empty() && said.contains("no application protocol"), "{told:?} {said}");
    let (told, said) = talk(&[]);
    assert!(told.is_empty() && said.contains("verify"), "shaken hands, and no more: {told:?} {said}");
}

/// A server of TLS that speaks another protocol, or any: what would be sent to it could mean something there.
pub fn a_server_that_is_not_asked_first_has_to_agree_by_alpn() {
    let encrypted = Encrypted::shared();
    let (certificate, key) = encrypted.authority.issue("elsewhere", "localhost", &["localhost"]);
    for alpn in [&[][..], &["-alpn", "http/1.1"]] {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0"]).args(alpn);
        command.arg("-cert").arg(&certificate).arg("-key").arg(&key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let accepts = said.by_ref().map(Result::unwrap).find_map(|line| {
            line.strip_prefix("ACCEPT ").map(|address| address.parse::<SocketAddr>().unwrap())
        });
        let target = "sslmode = \"require\"\nsslnegotiation = \"direct\"";
        let proxy = Proxy::serve(config_of(accepts.unwrap(), "somebody", "", target));
        let failure = Raw::login(proxy.address, "somebody", DATABASE, &[]).unwrap_err();
        assert_eq!(failure.code, "08004", "{alpn:?}: {failure:?}");
        drop(proxy);
        let _ = child.kill();
        let _ = child.wait();
        // It shows what it is sent.
        let sent: Vec<String> = said.map_while(Result::ok).filter(|line| line.contains("somebody")).collect();
        assert!(sent.is_empty(), "{alpn:?}: {sent:?}");
    }
}

pub fn a_client_that_stalls_in_its_handshake_is_dropped() {
    let encrypted = Encrypted::shared();
    let role = encrypted.server.role();
    let tls = encrypted.authority.tls("allow");
    let proxy = encrypted.proxy(&role, &format!("[proxy]\nlogin_timeout = \"300ms\"\n{tls}"), "");
    let hello = client_hello();
    for sent in [&[][..], &hello[..5], &hello[..hello.len() - 1], &hello[..]] {
        let mut raw = Raw::connect(proxy.address);
        raw.send(&SSL_REQUEST);
        raw.stream.read_exact(&mut [0]).unwrap();
        raw.send(sent);
        let mut rest = Vec::new();
        // The reading has a limit of its own, far above.
        raw.stream.read_to_end(&mut rest).unwrap();
    }
}
