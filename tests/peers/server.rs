//! A scripted PostgreSQL server: each connection gets the same script, which is told how many came before it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use firepool::backend::connect::Opener;
use firepool::config::{Credential, Secret, Target, User};

use super::PATIENCE;
use super::bytes::{message, parameter, read_message, ready};
use super::honest::{Honest, OWN, own_result, strings};

/// A request's text that makes the server open a transaction, and close it.
pub const BEGIN: &str = "BEGIN";
/// See [`BEGIN`].
pub const COMMIT: &str = "COMMIT";

/// A server that runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    cancels: Mutex<Vec<Vec<u8>>>,
    ending: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    failures: Mutex<Vec<String>>,
}

/// One connection to the server, behind its startup packet.
pub struct Conn {
    pub socket: TcpStream,
    input: BufReader<TcpStream>,
    /// How many connections came before it.
    pub number: usize,
    /// What the startup packet said, with its NULs.
    pub startup: Vec<u8>,
}

impl Server {
    /// Opens connections to it as one of the proxy's own.
    pub fn opener(&self) -> Opener {
        let target = Target {
            name: "main".into(),
            host: self.address.ip().to_string(),
            port: self.address.port(),
            required: false,
            tls: Default::default(),
            cleartext_without_tls: false,
        };
        let credentials = vec![Credential::Password(Secret::new("sesame".into()))];
        let user = User { name: "u".into(), credentials, max_clients: None, max_server_connections: None };
        Opener::new(Arc::new(target), Arc::new(user), "db".into(), PATIENCE)
    }

    /// Starts it. A script that ends closes its connection; one that panics fails the test at the server's end. Errors
    /// of the socket are the end of a script like any other.
    pub fn start(script: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let (of_acceptor, script) = (Arc::clone(&shared), Arc::new(script));
        let acceptor = thread::spawn(move || {
            let mut threads = Vec::new();
            while let Ok((socket, _)) = listener.accept() {
                if of_acceptor.ending.load(Ordering::Relaxed) {
                    break;
                }
                of_acceptor.open.lock().unwrap().push(socket.try_clone().unwrap());
                let (shared, script) = (Arc::clone(&of_acceptor), Arc::clone(&script));
                threads.push(thread::spawn(move || serve(socket, &shared, &*script)));
            }
            for thread in threads {
                if let Err(panic) = thread.join() {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
                    of_acceptor.failures.lock().unwrap().push(text.unwrap_or_default());
                }
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// One that answers every request as PostgreSQL would.
    pub fn honest() -> Self {
        Self::start(|conn| {
            conn.log_in()?;
            conn.be_honest()
        })
    }

    /// Connections that sent a startup packet.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Cancel requests that arrived.
    pub fn cancels(&self) -> usize {
        self.shared.cancels.lock().unwrap().len()
    }

    /// The process id and secret of each cancel request that arrived, as bytes.
    pub fn cancel_keys(&self) -> Vec<Vec<u8>> {
        self.shared.cancels.lock().unwrap().clone()
    }
}

fn serve(socket: TcpStream, shared: &Shared, script: &dyn Fn(&mut Conn) -> io::Result<()>) {
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut input = BufReader::with_capacity(64 * 1024, socket.try_clone().unwrap());
    let mut length = [0; 4];
    if input.read_exact(&mut length).is_err() {
        return;
    }
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    input.read_exact(&mut startup).unwrap();
    if startup.starts_with(&80_877_102_u32.to_be_bytes()) {
        shared.cancels.lock().unwrap().push(startup.split_off(4));
        let _ = socket.shutdown(Shutdown::Both);
        return;
    }
    let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
    let mut conn = Conn { socket, input, number, startup };
    let _ = script(&mut conn);
    let _ = conn.socket.shutdown(Shutdown::Both);
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        for socket in self.shared.open.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
        let failures = self.shared.failures.lock().unwrap();
        if !thread::panicking() {
            assert!(failures.is_empty(), "the server's script failed: {failures:?}");
        }
    }
}

/// What follows AuthenticationOk.
pub fn welcome() -> Vec<u8> {
    welcome_with_key(&[0, 0, 0, 7, 0, 0, 0, 9])
}

/// What follows AuthenticationOk, with this process id and secret.
pub fn welcome_with_key(key: &[u8]) -> Vec<u8> {
    [
        parameter("server_version", "18.0"),
        parameter("client_encoding", "UTF8"),
        message(b'K', key),
        ready(b'I'),
    ]
    .concat()
}

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    message(b'R', &0_u32.to_be_bytes())
}

impl Conn {
    /// The minor version of the protocol that the proxy asked for.
    pub fn minor(&self) -> u16 {
        u16::from_be_bytes([self.startup[2], self.startup[3]])
    }

    /// Lets the proxy in without a password.
    pub fn log_in(&mut self) -> io::Result<()> {
        self.send(&[authentication_ok(), welcome()].concat())
    }

    /// Sends bytes as one write.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends bytes in pieces whose sizes `size` says, each a segment of its own as far as the kernel obeys.
    pub fn send_in_pieces(&mut self, bytes: &[u8], mut size: impl FnMut() -> usize) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(size().clamp(1, rest.len()));
            self.socket.write_all(piece)?;
            rest = behind;
        }
        Ok(())
    }

    /// The next message.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        read_message(&mut self.input)
    }

    /// The next message, which must be of this type. The end of the stream ends the script, and so does Terminate: the
    /// proxy says goodbye when it stops.
    pub fn expect(&mut self, tag: u8) -> io::Result<Vec<u8>> {
        let (got, body) = self.receive()?;
        if got == b'X' && tag != b'X' {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        assert_eq!(char::from(got), char::from(tag), "server connection {}", self.number);
        Ok(body)
    }

    /// Reads and keeps nothing until the proxy closes the connection.
    pub fn await_end(&mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(drop)
    }

    /// Reads exactly so many bytes.
    pub fn receive_raw(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether more has arrived than was read.
    fn has_more(&self) -> bool {
        !self.input.buffer().is_empty()
    }

    /// Answers every request as PostgreSQL would, until the proxy leaves. A query yields its own text.
    pub fn be_honest(&mut self) -> io::Result<()> {
        let (mut session, mut out) = (Honest::default(), Vec::new());
        loop {
            if !self.has_more() && !out.is_empty() {
                self.send(&out)?;
                out.clear();
            }
            if self.input.fill_buf()?.is_empty() {
                return Ok(());
            }
            let (tag, body) = self.receive()?;
            if tag == b'X' {
                return Ok(());
            }
            out.extend(session.reply(tag, &body));
        }
    }

    /// Expects the proxy to ask what the session holds, and says that it is `held`: a letter for each kind, see
    /// [`NOTHING`](super::honest::NOTHING).
    pub fn expect_question(&mut self, held: &str) -> io::Result<()> {
        let (tag, body) = self.receive()?;
        assert!(is_question(tag, &body), "{:?} where a question was due: {body:?}", char::from(tag));
        self.answer_question(held)
    }

    /// Answers the question whose first message was read.
    pub fn answer_question(&mut self, held: &str) -> io::Result<()> {
        let (mut session, mut text, mut out) = (Honest::default(), Vec::new(), message(b'3', b""));
        loop {
            let (tag, body) = self.receive()?;
            if tag == b'P' {
                assert_eq!(strings(&body).next(), Some(OWN));
                text = strings(&body).nth(1).unwrap().to_vec();
            }
            let reply = session.reply(tag, &body);
            let own = if tag == b'E' { own_result(&text, held) } else { None };
            out.extend(own.unwrap_or(reply));
            if tag == b'S' {
                return self.send(&out);
            }
        }
    }
}

/// Whether a message is the first of the proxy's own question.
pub fn is_question(tag: u8, body: &[u8]) -> bool {
    tag == b'C' && body.strip_prefix(b"S").is_some_and(|name| strings(name).next() == Some(OWN))
}
