//! Both ends of a session in memory, over pipes that take as little as they like.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

mod revocation;

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Bytes that it holds at most.
    size: usize,
    closed: bool,
    /// All that ever went through.
    passed: Vec<u8>,
}

/// One end of two pipes.
#[derive(Clone)]
struct End {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
    /// Bytes that one read gives at most.
    sip: usize,
}

fn ends(size: usize, sip: usize) -> (End, End) {
    let pipe = || Rc::new(RefCell::new(Pipe { size, ..Pipe::default() }));
    let (up, down) = (pipe(), pipe());
    let client = End { incoming: Rc::clone(&down), outgoing: Rc::clone(&up), sip };
    (client, End { incoming: up, outgoing: down, sip })
}

impl End {
    fn close(&self) {
        self.outgoing.borrow_mut().closed = true;
    }
}

impl Transport for End {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.incoming.borrow_mut();
        let length = pipe.bytes.len().min(buffer.len()).min(self.sip);
        if length == 0 && !pipe.closed {
            return Poll::Pending;
        }
        for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..length)) {
            *to = from;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = self.outgoing.borrow();
        if pipe.bytes.len() < pipe.size { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.outgoing.borrow_mut();
        let length = bytes.len().min(pipe.size - pipe.bytes.len());
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes.extend(&bytes[..length]);
        pipe.passed.extend(&bytes[..length]);
        Ok(length)
    }
}

/// A folder of certificates, deleted when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("firepool-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let _ = fs::remove_file(&path);
        // Keys are among them, and nobody else may read those.
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    fn self_signed(&self, name: &str) -> (PathBuf, PathBuf) {
        let made = generate::self_signed(&["localhost"]).unwrap();
        (self.write(&format!("{name}.crt"), &made.certificate), self.write(&format!("{name}.key"), &made.key))
    }

    fn acceptor(&self, oldest: MinVersion) -> Acceptor {
        let (certificate, key) = self.self_signed("server");
        Acceptor::load(ServerFiles { certificate, key, client_ca: None, client_crl: None }, false, oldest)
            .unwrap()
    }
}

fn connector() -> Connector {
    Connector::load("localhost", ClientFiles::default(), Trust::Roots).unwrap()
}

type Shaken = io::Result<(Session, Established)>;

/// Both handshakes, turn by turn.
fn shake(client: &mut End, connector: &Connector, server: &mut End, acceptor: &Acceptor) -> (Shaken, Shaken) {
    let (client_end, server_end) = (client.clone(), server.clone());
    let mut connecting = pin!(connector.connect(client));
    let mut accepting = pin!(acceptor.accept(server, &[]));
    let cx = &mut Context::from_waker(Waker::noop());
    let (mut left, mut right) = (None, None);
    for _ in 0..100_000 {
        if left.is_none()
            && let Poll::Ready(done) = connecting.as_mut().poll(cx)
        {
            if done.is_err() {
                client_end.close();
            }
            left = Some(done);
        }
        if right.is_none()
            && let Poll::Ready(done) = accepting.as_mut().poll(cx)
        {
            if done.is_err() {
                server_end.close();
            }
            right = Some(done);
        }
        if left.is_some() && right.is_some() {
            break;
        }
    }
    (left.expect("the client waits for ever"), right.expect("the server waits for ever"))
}

fn pair(size: usize, sip: usize, oldest: MinVersion) -> ((Session, End), (Session, End), Established) {
    let (mut client, mut server) = ends(1 << 20, sip);
    let acceptor = Folder::new().acceptor(oldest);
    let (left, right) = shake(&mut client, &connector(), &mut server, &acceptor);
    let ((left, there), (right, here)) = (left.unwrap(), right.unwrap());
    assert_eq!(there.binding, here.binding, "both ends see the same certificate");
    client.outgoing.borrow_mut().size = size;
    ((left, client), (right, server), there)
}

fn read(session: &mut Session, end: &mut End, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    session.poll_read(end, &mut Context::from_waker(Waker::noop()), buffer)
}

#[test]
fn what_goes_in_comes_out_whatever_the_sockets_take_and_give() {
    for (size, sip, buffer, oldest) in [
        (1 << 20, 1 << 20, 64 * 1024, MinVersion::V1_2),
        (1 << 20, 1 << 20, 64 * 1024, MinVersion::V1_3),
        (100, 7, 64 * 1024, MinVersion::V1_2),
        (5000, 3000, 10, MinVersion::V1_3),
        (20_000, 1 << 20, 1, MinVersion::V1_2),
        (1, 1, 5000, MinVersion::V1_2),
    ] {
        let ((mut client, mut client_end), (mut server, mut server_end), _) = pair(size, sip, oldest);
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n / 3) as u8).collect();
        let (mut rest, mut got, mut buffer) = (&sent[..], Vec::new(), vec![0; buffer]);
        while got.len() < sent.len() {
            match client.try_write(&client_end, &rest[..rest.len().min(70_000)]) {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            while let Poll::Ready(length) = read(&mut server, &mut server_end, &mut buffer) {
                got.extend_from_slice(&buffer[..length.unwrap()]);
            }
        }
        assert!(got == sent, "{size} {sip}");
        assert!(rest.is_empty());
        // And back, though the other direction is over.
        client.close(&client_end);
        assert_eq!(server.try_write(&server_end, b"bye").unwrap(), 3);
        let mut last = Vec::new();
        while last != b"bye" {
            if let Poll::Ready(length) = read(&mut client, &mut client_end, &mut buffer) {
                last.extend_from_slice(&buffer[..length.unwrap()]);
            }
        }
    }
}

#[test]
fn a_reader_that_takes_nothing_stops_the_writer_and_costs_one_write() {
    let ((mut client, client_end), ..) = pair(10_000, 1 << 20, MinVersion::V1_3);
    let bytes = vec![7; 64 * 1024];
    let taken = client.try_write(&client_end, &bytes).unwrap();
    assert_eq!(taken, bytes.len() - 1, "one byte has to come again");
    for _ in 0..100 {
        let again = client.try_write(&client_end, &bytes).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn an_idle_session_owns_no_buffer() {
    let ((mut client, client_end), (mut server, mut server_end), _) =
        pair(1 << 20, 1 << 20, MinVersion::V1_3);
    let mut buffer = vec![0; 64 * 1024];
    for size in [1, 100_000] {
        let mut rest = &vec![1; size][..];
        while !rest.is_empty() {
            rest = &rest[client.try_write(&client_end, rest).unwrap()..];
        }
        while read(&mut server, &mut server_end, &mut buffer).is_ready() {}
        assert!(!server.holds_something());
        assert_eq!((client.capacity(), server.capacity()), (0, 0));
    }
}

#[test]
fn the_end_is_an_end_whether_it_was_announced_or_not() {
    for announced in [true, false] {
        let ((mut client, client_end), (mut server, mut server_end), _) =
            pair(1 << 20, 1 << 20, MinVersion::V1_2);
        client.try_write(&client_end, b"last words").unwrap();
        if announced {
            client.close(&client_end);
        } else {
            // Within a record.
            let _ = client_end.outgoing.borrow_mut().bytes.pop_back();
            client.try_write(&client_end, b"lost").unwrap();
        }
        client_end.close();
        let mut buffer = [0; 100];
        if announced {
            assert!(matches!(read(&mut server, &mut server_end, &mut buffer), Poll::Ready(Ok(10))));
            assert!(matches!(read(&mut server, &mut server_end, &mut buffer), Poll::Ready(Ok(0))));
            assert!(server.holds_something(), "the end is something");
        } else {
            assert!(matches!(read(&mut server, &mut server_end, &mut buffer), Poll::Ready(Err(_))));
        }
    }
    let ((_, client_end), (mut server, mut server_end), _) = pair(1 << 20, 1 << 20, MinVersion::V1_2);
    client_end.outgoing.borrow_mut().bytes.extend([0x17, 3, 3, 0, 50, 1, 2]);
    client_end.close();
    assert!(matches!(read(&mut server, &mut server_end, &mut [0; 9]), Poll::Ready(Ok(0))), "torn");
}

#[test]
fn what_is_no_record_is_an_error_that_the_peer_hears_of() {
    for garbage in [&b"Q\0\0\0\x0dSELECT 1\0"[..], &[0x17, 3, 3, 0xff, 0xff], &[0x17, 3, 3, 0, 20, 0]] {
        let ((mut client, mut client_end), (mut server, mut server_end), _) =
            pair(1 << 20, 1 << 20, MinVersion::V1_3);
        let before = server_end.outgoing.borrow().passed.len();
        client_end.outgoing.borrow_mut().bytes.extend(garbage);
        client_end.outgoing.borrow_mut().bytes.extend([0; 40]);
        let mut buffer = [0; 100];
        assert!(matches!(read(&mut server, &mut server_end, &mut buffer), Poll::Ready(Err(_))));
        assert!(server_end.outgoing.borrow().passed.len() > before, "no alert for {garbage:?}");
        assert!(server.try_write(&server_end, b"more").is_err());
        assert!(matches!(read(&mut server, &mut server_end, &mut buffer), Poll::Ready(Err(_))), "and again");
        assert!(matches!(read(&mut client, &mut client_end, &mut buffer), Poll::Ready(Err(_))));
    }
}

#[test]
fn plaintext_that_came_with_the_handshake_is_not_lost() {
    let (mut client, mut server) = ends(1 << 20, 1 << 20);
    let acceptor = Folder::new().acceptor(MinVersion::V1_2);
    let mut accepting = Box::pin({
        let mut server = server.clone();
        async move { acceptor.accept(&mut server, &[]).await }
    });
    let connector = connector();
    let mut connecting = Box::pin({
        let mut client = client.clone();
        async move { connector.connect(&mut client).await }
    });
    let cx = &mut Context::from_waker(Waker::noop());
    let mut connected = loop {
        if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
            break connected.unwrap().0;
        }
        assert!(accepting.as_mut().poll(cx).is_pending(), "the client speaks first, and last");
    };
    connected.try_write(&client, b"early").unwrap();
    let Poll::Ready(accepted) = accepting.as_mut().poll(cx) else { panic!("the server waits") };
    let mut accepted = accepted.unwrap().0;
    assert!(accepted.holds_something() && server.incoming.borrow().bytes.is_empty());
    let mut buffer = [0; 3];
    assert!(matches!(read(&mut accepted, &mut server, &mut buffer), Poll::Ready(Ok(3))));
    assert!(matches!(read(&mut accepted, &mut server, &mut buffer), Poll::Ready(Ok(2))));
    assert!(read(&mut accepted, &mut server, &mut buffer).is_pending());
    assert!(read(&mut connected, &mut client, &mut buffer).is_pending());
}

#[test]
fn bytes_that_are_no_handshake_or_too_many_end_it() {
    let acceptor = Folder::new().acceptor(MinVersion::V1_2);
    for bytes in [
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        // A message that claims to have 65,535 bytes and never ends.
        [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 100_000]].concat(),
        [&[0x16, 3, 1, 0x00, 4, 1, 0, 0xff, 0xff][..], &[0x16, 3, 1, 0, 1, 0].repeat(20_000)].concat(),
    ] {
        let (client, mut server) = ends(1 << 20, 1 << 20);
        client.outgoing.borrow_mut().bytes.extend(&bytes);
        let mut accepting = pin!(acceptor.accept(&mut server, &[]));
        let done = accepting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(done, Poll::Ready(Err(_))));
    }
}

#[test]
fn alpn_is_agreed_on() {
    let (.., established) = pair(1 << 20, 1 << 20, MinVersion::V1_3);
    assert!(established.alpn);
    assert_eq!(established.binding.map(|binding| binding.len()), Some(32));
}

#[test]
fn new_files_are_used_from_the_next_handshake_on_and_bad_ones_never() {
    let folder = Folder::new();
    let acceptor = folder.acceptor(MinVersion::V1_2);
    let seen = || {
        let (mut client, mut server) = ends(1 << 20, 1 << 20);
        shake(&mut client, &connector(), &mut server, &acceptor).0.unwrap().1.binding.unwrap()
    };
    let first = seen();
    assert_eq!(acceptor.reload(), Ok(Reloaded::Same));
    folder.self_signed("server");
    assert_eq!(seen(), first, "nobody said so");
    assert_eq!(acceptor.reload(), Ok(Reloaded::New));
    let second = seen();
    assert_ne!(first, second);

    let other = generate::self_signed(&["localhost"]).unwrap();
    let own = fs::read_to_string(folder.0.join("server.key")).unwrap();
    for (text, reason) in [
        (other.key.as_str(), "does not belong to"),
        ("", "there is no private key in it"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not supported"),
    ] {
        folder.write("server.key", text);
        let trouble = acceptor.reload().unwrap_err();
        assert!(trouble.to_string().contains(reason), "{trouble}");
        assert!(trouble.path.ends_with("server.key"));
        assert_eq!(seen(), second);
    }
    folder.write("server.key", &own);
    for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        folder.write("server.crt", text);
        assert!(acceptor.reload().is_err());
        assert_eq!(seen(), second);
    }
    fs::remove_file(folder.0.join("server.crt")).unwrap();
    assert!(acceptor.reload().unwrap_err().reason.starts_with("cannot be read"));
    assert_eq!(seen(), second);
}

#[test]
fn a_client_is_who_its_authority_says_or_nobody() {
    let folder = Folder::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let client_ca = folder.write("ca.crt", &generate::pem("CERTIFICATE", root.der()));
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "fireread");
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &issuer).unwrap();
    let good = Some((
        folder.write("client.crt", &generate::pem("CERTIFICATE", signed.der())),
        folder.write("client.key", &generate::pem("PRIVATE KEY", &key.serialize_der())),
    ));
    let stranger = Some(folder.self_signed("stranger"));
    let (certificate, key) = folder.self_signed("server");
    let files = ServerFiles { certificate, key, client_ca: Some(client_ca), client_crl: None };
    for (demanded, identity, expected) in [
        (true, &good, Some(Some("fireread"))),
        (true, &None, None),
        (true, &stranger, None),
        (false, &good, Some(Some("fireread"))),
        (false, &None, Some(None)),
        (false, &stranger, None),
    ] {
        for oldest in [MinVersion::V1_2, MinVersion::V1_3] {
            let acceptor = Acceptor::load(files.clone(), demanded, oldest).unwrap();
            let shown = ClientFiles { identity: identity.clone(), ..ClientFiles::default() };
            let connector = Connector::load("localhost", shown, Trust::Roots).unwrap();
            let (mut client, mut server) = ends(1 << 20, 1 << 20);
            let (_, accepted) = shake(&mut client, &connector, &mut server, &acceptor);
            let names =
                accepted.ok().map(|(_, established)| established.client.and_then(|names| names.common));
            assert_eq!(names.as_ref().map(Option::as_deref), expected, "{demanded}");
        }
    }
}
