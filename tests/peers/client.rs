//! A raw client: bytes out, bytes in, and a login where a test is not about logins.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use firepool::scram::{ClientExchange, Keys};

use super::PATIENCE;
use super::bytes::{self, message, query, read_message, sqlstate, startup};
use super::proxy::{DATABASE, PASSWORD, USER};

/// A client's socket.
pub struct Client {
    pub socket: TcpStream,
}

impl Client {
    /// Connects and says nothing.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// Connects and logs in.
    pub fn log_in(address: SocketAddr) -> Self {
        Self::try_log_in(address, &[]).expect("a login")
    }

    /// Connects and logs in with further startup parameters; the SQLSTATE of a refusal.
    pub fn try_log_in(address: SocketAddr, more: &[(&str, &str)]) -> Result<Self, String> {
        let mut client = Self::connect(address);
        let mut parameters = vec![(&b"user"[..], USER.as_bytes()), (b"database", DATABASE.as_bytes())];
        parameters.extend(more.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        client.send(&startup(&parameters));
        client.prove(PASSWORD)?;
        loop {
            match client.receive().map_err(|error| error.to_string())? {
                (b'Z', _) => return Ok(client),
                (b'E', body) => return Err(sqlstate(&body)),
                _ => {}
            }
        }
    }

    /// The SCRAM exchange, from AuthenticationSASL to AuthenticationSASLFinal.
    pub fn prove(&mut self, password: &str) -> Result<(), String> {
        self.authentication(10)?;
        let exchange = ClientExchange::new().unwrap();
        let first = exchange.first();
        self.send(&initial_response(first.as_bytes()));
        let challenged = exchange.challenge(&self.authentication(11)?).unwrap();
        let keys = Keys::derive(password, challenged.salt(), challenged.iterations());
        let (proof, proved) = challenged.prove(&keys);
        self.send(&message(b'p', proof.as_bytes()));
        proved.verify(&self.authentication(12)?).map_err(|error| error.to_string())
    }

    /// The next message, which must be this one of the authentication family; or the SQLSTATE of a refusal.
    pub fn authentication(&mut self, code: u32) -> Result<Vec<u8>, String> {
        match self.receive().map_err(|error| error.to_string())? {
            (b'R', body) if body.starts_with(&code.to_be_bytes()) => Ok(body[4..].to_vec()),
            (b'E', body) => Err(sqlstate(&body)),
            (tag, body) => panic!("{:?} {body:?} where authentication {code} was due", char::from(tag)),
        }
    }

    /// Sends everything.
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends as much as the proxy takes before it closes the connection.
    pub fn send_hopefully(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends bytes in pieces whose sizes `size` says.
    pub fn send_in_pieces(&mut self, bytes: &[u8], mut size: impl FnMut() -> usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(size().clamp(1, rest.len()));
            self.send(piece);
            rest = behind;
        }
    }

    /// The next message.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        read_message(&mut self.socket)
    }

    /// Exactly so many bytes.
    pub fn receive_raw(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// So many bytes, or less if no more come.
    pub fn receive_hopefully(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = (&mut self.socket).take(length as u64).read_to_end(&mut bytes);
        bytes
    }

    /// Everything up to and with the next ReadyForQuery; or the SQLSTATE of a FATAL error.
    pub fn until_ready(&mut self) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        loop {
            let (tag, body) = self.receive().map_err(|error| error.to_string())?;
            all.extend(bytes::message(tag, &body));
            match tag {
                b'Z' => return Ok(all),
                b'E' if firepool::wire::error_fields::is_fatal(&body) => return Err(sqlstate(&body)),
                _ => {}
            }
        }
    }

    /// Runs a simple query; its whole answer.
    pub fn query(&mut self, sql: &str) -> Result<Vec<u8>, String> {
        self.send(&query(sql));
        self.until_ready()
    }

    /// Everything until the proxy closes the connection. A reset is an end as well: it comes where the proxy closed
    /// while bytes of the client's were still unread.
    pub fn until_end(&mut self) -> Vec<u8> {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return all,
                Ok(read) => all.extend(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("the proxy neither answers nor closes: {error}"),
            }
        }
    }

    /// Nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Whether there is something to read at this moment.
    pub fn has_answer(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let answer = self.socket.peek(&mut [0; 1]).is_ok();
        self.socket.set_nonblocking(false).unwrap();
        answer
    }

    /// How long a write may block.
    pub fn write_within(&self, limit: Duration) {
        self.socket.set_write_timeout(Some(limit)).unwrap();
    }
}

/// SASLInitialResponse that chooses SCRAM-SHA-256.
pub fn initial_response(first: &[u8]) -> Vec<u8> {
    let body = [b"SCRAM-SHA-256\0", &(first.len() as u32).to_be_bytes()[..], first].concat();
    message(b'p', &body)
}

/// The SQLSTATE of the last message, if that is an ErrorResponse.
pub fn last_sqlstate(bytes: &[u8]) -> Option<String> {
    let (mut rest, mut last) = (bytes, None);
    while let Ok((tag, body)) = read_message(&mut rest) {
        last = (tag == b'E').then(|| sqlstate(&body));
    }
    last
}
