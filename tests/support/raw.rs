//! A client that speaks the protocol byte by byte and hides nothing.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use firepool::scram::{ClientExchange, Keys, MECHANISM};

use super::messages;
use super::server::PASSWORD;
use super::wait::LIMIT;

/// A message of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(300)];
        write!(f, "{} \"{}\"", self.tag as char, body.escape_ascii())
    }
}

/// The fields of an ErrorResponse that tests look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: String,
}

/// Replies up to ReadyForQuery, or up to the end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub messages: Vec<Message>,
    /// The connection ended.
    pub ended: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    pub stream: TcpStream,
    address: SocketAddr,
    startup: Vec<(String, String)>,
    /// From BackendKeyData.
    pub key: (u32, u32),
    /// The whole secret, of which protocol 3.0 has but four bytes.
    pub secret: Vec<u8>,
    /// ParameterStatus of the login.
    pub parameters: Vec<(String, String)>,
}

impl Raw {
    /// A connection on which nothing has been said.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self { stream, address, startup: Vec::new(), key: (0, 0), secret: Vec::new(), parameters: Vec::new() }
    }

    /// Logs in with the password that every role has.
    pub fn login(
        address: SocketAddr,
        user: &str,
        database: &str,
        more: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        Self::login_with(address, PASSWORD, &[&[("user", user), ("database", database)], more].concat())
    }

    /// Logs in with a password and startup parameters.
    pub fn login_with(
        address: SocketAddr,
        password: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let mut raw = Self::connect(address);
        raw.send(&messages::startup((3, 0), parameters));
        raw.authenticate(password)?;
        raw.startup =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(raw)
    }

    /// Another connection with the same startup packet.
    pub fn again(&self) -> Self {
        let parameters: Vec<_> =
            self.startup.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self::login_with(self.address, PASSWORD, &parameters).unwrap()
    }

    /// From the startup packet, which was sent, to ReadyForQuery.
    pub fn authenticate(&mut self, password: &str) -> Result<(), Failure> {
        let mut exchange = Some(ClientExchange::new().unwrap());
        let mut challenged = None;
        loop {
            let message = self.message().expect("the connection was closed without a word");
            let body = &message.body;
            match (message.tag, body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code))) {
                (b'R', Some(10)) => {
                    let first = exchange.as_ref().unwrap().first();
                    let length = (first.len() as u32).to_be_bytes();
                    let body = [&messages::text(&[MECHANISM]), &length[..], first.as_bytes()].concat();
                    self.send(&messages::message(b'p', &body));
                }
                (b'R', Some(11)) => {
                    let answered = exchange.take().unwrap().challenge(&body[4..]).unwrap();
                    let keys = Keys::derive(password, answered.salt(), answered.iterations());
                    let (proof, proved) = answered.prove(&keys);
                    challenged = Some(proved);
                    self.send(&messages::message(b'p', proof.as_bytes()));
                }
                (b'R', Some(12)) => challenged.take().unwrap().verify(&body[4..]).unwrap(),
                (b'S', _) => {
                    let mut strings = body.split(|&byte| byte == 0).map(String::from_utf8_lossy);
                    let (name, value) = (strings.next().unwrap(), strings.next().unwrap());
                    self.parameters.push((name.into_owned(), value.into_owned()));
                }
                (b'K', Some(pid)) => {
                    self.key = (pid, u32::from_be_bytes(*body[4..].first_chunk().unwrap()));
                    self.secret = body[4..].to_vec();
                }
                (b'R' | b'N' | b'v', _) => {}
                (b'Z', _) => return Ok(()),
                (b'E', _) => return Err(message.failure()),
                _ => panic!("{message:?} during the login"),
            }
        }
    }

    /// The value of a ParameterStatus of the login.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message; `None` when the connection ended.
    pub fn message(&mut self) -> Option<Message> {
        let mut header = [0; 5];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return None,
            Err(error) => panic!("no message came: {error}"),
        }
        let [tag, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.stream.read_exact(&mut body).unwrap();
        Some(Message { tag, body })
    }

    /// Whether bytes, or the end, come within this time. Nothing is read.
    pub fn has_more(&self, within: Duration) -> bool {
        let limit = self.stream.read_timeout().unwrap();
        self.stream.set_read_timeout(Some(within)).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(limit).unwrap();
        peeked.is_ok()
    }

    /// Messages up to the next ReadyForQuery.
    pub fn reply(&mut self) -> Reply {
        self.reply_until(b'Z')
    }

    /// Messages up to the next of this type.
    pub fn reply_until(&mut self, tag: u8) -> Reply {
        let mut messages = Vec::new();
        loop {
            let Some(message) = self.message() else { return Reply { messages, ended: true } };
            let last = message.tag == tag;
            messages.push(message);
            if last {
                return Reply { messages, ended: false };
            }
        }
    }

    /// A simple query and what comes of it.
    pub fn query(&mut self, sql: &str) -> Reply {
        self.send(&messages::query(sql));
        self.reply()
    }

    /// A simple query that must succeed: its rows.
    #[track_caller]
    pub fn run(&mut self, sql: &str) -> Vec<Vec<String>> {
        let reply = self.query(sql);
        assert!(reply.failure().is_none() && !reply.ended, "{sql}: {reply:?}");
        reply.rows()
    }

    /// A simple query that must succeed: its only value.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        let rows = self.run(sql);
        assert!(rows.len() == 1 && rows[0].len() == 1, "{sql}: {rows:?}");
        rows[0][0].clone()
    }

    /// The server process behind it at this moment.
    #[track_caller]
    pub fn backend(&mut self) -> String {
        self.value("SELECT pg_backend_pid()")
    }

    /// A batch that must end with a Sync, and what comes of it.
    pub fn batch(&mut self, messages: &[Vec<u8>]) -> Reply {
        self.send(&messages.concat());
        self.reply()
    }

    /// Asks to cancel what this client has running, and waits until the request was dealt with.
    pub fn cancel(&self) {
        cancel(self.address, self.key);
    }

    /// What an ended session was told.
    #[track_caller]
    pub fn farewell(&mut self) -> Failure {
        let reply = self.reply();
        assert!(reply.ended, "the session goes on: {reply:?}");
        reply.failure().expect("no reason was given")
    }
}

/// Sends a CancelRequest and waits until the peer closes the connection.
pub fn cancel(address: SocketAddr, key: (u32, u32)) {
    cancel_with(address, key.0, &key.1.to_be_bytes());
}

/// The same with a secret of any length.
pub fn cancel_with(address: SocketAddr, pid: u32, secret: &[u8]) {
    let mut raw = Raw::connect(address);
    raw.send(&messages::cancel(pid, secret));
    assert_eq!(raw.message(), None);
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

impl Message {
    /// Its fields, if it is an ErrorResponse.
    pub fn failure(&self) -> Failure {
        assert_eq!(self.tag, b'E');
        let field = |wanted: u8| {
            let mut fields = self.body.split(|&byte| byte == 0);
            let found = fields.find(|field| field.first() == Some(&wanted));
            found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
        };
        Failure { severity: field(b'V'), code: field(b'C'), message: field(b'M'), detail: field(b'D') }
    }

    /// The strings of its body, from a byte on.
    pub fn strings(&self, from: usize) -> Vec<String> {
        let strings = self.body[from..].split(|&byte| byte == 0);
        strings.map(|string| String::from_utf8_lossy(string).into_owned()).collect()
    }

    fn values(&self) -> Vec<String> {
        let (count, mut rest) = self.body.split_first_chunk::<2>().unwrap();
        let mut value = || {
            let (length, tail) = rest.split_first_chunk::<4>().unwrap();
            // NULL has the length -1.
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let (value, tail) = tail.split_at(length);
            rest = tail;
            String::from_utf8_lossy(value).into_owned()
        };
        (0..u16::from_be_bytes(*count)).map(|_| value()).collect()
    }
}

impl Reply {
    /// The types of its messages, without notices and parameters, which come when they like.
    pub fn tags(&self) -> String {
        let tags = self.messages.iter().map(|message| message.tag as char);
        tags.filter(|tag| !matches!(tag, 'N' | 'S' | 'A')).collect()
    }

    pub fn rows(&self) -> Vec<Vec<String>> {
        self.messages.iter().filter(|message| message.tag == b'D').map(Message::values).collect()
    }

    /// The first error.
    pub fn failure(&self) -> Option<Failure> {
        self.messages.iter().find(|message| message.tag == b'E').map(Message::failure)
    }

    /// The SQLSTATE of the first error, or nothing.
    pub fn code(&self) -> String {
        self.failure().map(|failure| failure.code).unwrap_or_default()
    }

    /// The command tags.
    pub fn commands(&self) -> Vec<String> {
        let commands = self.messages.iter().filter(|message| message.tag == b'C');
        commands
            .map(|message| String::from_utf8_lossy(&message.body[..message.body.len() - 1]).into_owned())
            .collect()
    }

    /// The transaction status at its end.
    pub fn status(&self) -> char {
        self.messages
            .last()
            .filter(|message| message.tag == b'Z')
            .map_or('?', |message| message.body[0] as char)
    }
}
