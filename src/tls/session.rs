//! An established session, as the relay uses a socket: readiness first, then one system call.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;

use super::figures::Open;
use super::handshake::{Machine, Pumped, Rest, last_words, pump};
use super::{Transport, invalid};

/// Plaintext that one write encrypts at most.
const WRITE: usize = 64 * 1024;

/// What a thread reads and encrypts into. Beyond [`WRITE`] there is room for the overhead of its records and for what
/// rustls puts in front of them, and on the way in for [`TAIL`].
const SCRATCH: usize = WRITE + TAIL;

/// Bytes of a record, or of a message over several, that may wait for their rest. A record has at most 16,384 bytes and
/// 256 of overhead (RFC 8446, section 5.2); tickets, the only messages behind a handshake that may be long, have less.
const TAIL: usize = 32 * 1024;

/// Bytes that are read at once for somebody who wants but a few.
const LEAST: usize = 4 * 1024;

thread_local! {
    /// Serves every session of the thread, because nothing stays in it beyond one call. Allocated by the first.
    static MEMORY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn with_memory<T>(run: impl FnOnce(&mut [u8]) -> T) -> T {
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(SCRATCH, 0);
        run(memory)
    })
}

pub(super) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// A session. While nothing is on its way it owns no buffer.
pub struct Session {
    connection: Connection,
    /// The beginning of a record.
    tail: Vec<u8>,
    /// Plaintext that nobody has taken yet, from `taken` on: less than one record and [`LEAST`] bytes.
    plain: Vec<u8>,
    taken: usize,
    /// Records that the socket did not take: at most one write's.
    out: Vec<u8>,
    /// The last byte of the plaintext in `out` was not acknowledged, so that its owner comes again.
    owes_one: bool,
    /// The peer sends nothing more.
    ended: bool,
    /// What the peer sent makes no sense: nothing more is sent either.
    failed: bool,
    /// Counts it while it lives.
    _open: Option<Open>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(TLS)")
    }
}

impl Session {
    pub(super) fn new(connection: Connection, Rest { plain, tail, ended }: Rest) -> Self {
        let (taken, out) = (0, Vec::new());
        Self { connection, tail, plain, taken, out, owes_one: false, ended, failed: false, _open: None }
    }

    /// The same, counted for as long as it lives.
    pub(super) fn counted(self, open: Option<Open>) -> Self {
        Self { _open: open, ..self }
    }

    /// Whether something is here that came from the peer, though the socket may be empty.
    pub fn holds_something(&self) -> bool {
        !self.plain.is_empty() || !self.tail.is_empty() || self.ended
    }

    /// Bytes that its buffers occupy.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.tail.capacity() + self.plain.capacity() + self.out.capacity()
    }

    /// Gives plaintext. `Ok(0)` is the end, whether the peer has announced it or not: libpq and PostgreSQL do not insist
    /// on it either, because the protocol inside has ends of its own.
    pub fn poll_read(
        &mut self,
        transport: &mut impl Transport,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.plain.is_empty() {
                return Poll::Ready(Ok(self.take_plain(buffer)));
            }
            if self.failed {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            match ready!(with_memory(|memory| self.poll_records(transport, cx, buffer, memory)))? {
                // Records without plaintext, or the end.
                0 => {}
                got => return Poll::Ready(Ok(got)),
            }
        }
    }

    fn take_plain(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.plain[self.taken..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        if self.taken == self.plain.len() {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        length
    }

    /// Reads records once and decrypts those that are complete into `buffer`; what it does not hold is kept.
    fn poll_records(
        &mut self,
        transport: &mut impl Transport,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        memory: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let held = self.tail.len();
        if held >= TAIL {
            return Poll::Ready(Err(invalid("a message of TLS is too long")));
        }
        // Plaintext is shorter than its records: all that is read fits, but for those who want but a few bytes.
        let room = buffer.len().saturating_sub(held).clamp(LEAST, SCRATCH - held);
        let read = ready!(transport.poll_read(cx, &mut memory[held..held + room]))?;
        if read == 0 {
            self.ended = true;
            return Poll::Ready(Ok(0));
        }
        memory[..held].copy_from_slice(&self.tail);
        let (mut filled, over) = (0, &mut self.plain);
        let mut give = |bytes: &[u8]| {
            let here = bytes.len().min(buffer.len() - filled);
            buffer[filled..filled + here].copy_from_slice(&bytes[..here]);
            filled += here;
            over.extend_from_slice(&bytes[here..]);
        };
        let incoming = &mut memory[..held + read];
        let before = self.out.len();
        let (used, pumped) = self.connection.pump(incoming, &mut give, &mut self.out);
        let rest = &mut incoming[used..];
        if pumped.is_err() {
            self.failed = true;
            self.connection.last_words(rest, &mut self.out);
        }
        self.tail.clear();
        self.tail.extend_from_slice(rest);
        if self.tail.is_empty() {
            self.tail = Vec::new();
        }
        if self.out.len() > before {
            // Answers of TLS itself. Whoever makes more of them than it takes is not served.
            if self.out.len() > WRITE + TAIL {
                return Poll::Ready(Err(invalid("too many messages of TLS itself")));
            }
            match self.flush(transport) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
        self.ended |= pumped.map_err(invalid)? == Pumped::Closed;
        Poll::Ready(Ok(filled))
    }

    /// One attempt to write; may take a part. What was encrypted and not sent is kept, and one byte of it is not
    /// acknowledged: it has to be given again, as the first of the next attempt.
    pub fn try_write(&mut self, transport: &mut impl Transport, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.flush(transport)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let known = usize::from(std::mem::take(&mut self.owes_one));
        let fresh = &bytes[known..];
        let fresh = &fresh[..fresh.len().min(WRITE)];
        if fresh.is_empty() {
            return Ok(known);
        }
        let (connection, tail, out) = (&mut self.connection, &mut self.tail, &mut self.out);
        with_memory(|memory| {
            let length = connection.encrypt(tail, fresh, memory)?;
            let sent = match transport.try_write(&memory[..length]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            out.extend_from_slice(&memory[sent..length]);
            Ok(())
        })?;
        self.owes_one = !self.out.is_empty();
        match known + fresh.len() - usize::from(self.owes_one) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    /// Sends what is kept; `WouldBlock` if that is not all of it.
    fn flush(&mut self, transport: &mut impl Transport) -> io::Result<()> {
        while !self.out.is_empty() {
            match transport.try_write(&self.out)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => drop(self.out.drain(..sent)),
            }
        }
        self.out = Vec::new();
        Ok(())
    }

    /// Tells the peer that nothing more will be sent, if the socket takes that at once.
    pub fn close(&mut self, transport: &mut impl Transport) {
        if self.failed {
            return;
        }
        let (connection, tail, out) = (&mut self.connection, &mut self.tail, &mut self.out);
        let closed = with_memory(|memory| {
            let length = connection.close(tail, memory)?;
            out.extend_from_slice(&memory[..length]);
            io::Result::Ok(())
        });
        let _ = closed.and_then(|()| self.flush(transport));
    }
}

impl Connection {
    fn pump(
        &mut self,
        incoming: &mut [u8],
        plain: &mut impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> (usize, Result<Pumped, rustls::Error>) {
        match self {
            Self::Client(connection) => pump(connection, incoming, plain, out),
            Self::Server(connection) => pump(connection, incoming, plain, out),
        }
    }

    fn last_words(&mut self, incoming: &mut [u8], out: &mut Vec<u8>) {
        match self {
            Self::Client(connection) => last_words(connection, incoming, out),
            Self::Server(connection) => last_words(connection, incoming, out),
        }
    }

    fn encrypt(&mut self, tail: &mut [u8], plain: &[u8], memory: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Client(connection) => encrypt(connection, tail, plain, memory),
            Self::Server(connection) => encrypt(connection, tail, plain, memory),
        }
    }

    fn close(&mut self, tail: &mut [u8], memory: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Client(connection) => close(connection, tail, memory),
            Self::Server(connection) => close(connection, tail, memory),
        }
    }
}

/// The state of a connection that has been shown `tail`, the beginning of a record, and wants to see it again.
fn idle<'c, 'i, M: Machine>(
    machine: &'c mut M,
    tail: &'i mut [u8],
) -> io::Result<ConnectionState<'c, 'i, M::Data>> {
    let status = machine.process(tail);
    if status.discard == 0 { status.state.map_err(invalid) } else { Err(io::ErrorKind::NotConnected.into()) }
}

fn encrypt<M: Machine>(
    machine: &mut M,
    tail: &mut [u8],
    plain: &[u8],
    memory: &mut [u8],
) -> io::Result<usize> {
    match idle(machine, tail)? {
        ConnectionState::WriteTraffic(mut traffic) => traffic.encrypt(plain, memory).map_err(invalid),
        _ => Err(io::ErrorKind::NotConnected.into()),
    }
}

fn close<M: Machine>(machine: &mut M, tail: &mut [u8], memory: &mut [u8]) -> io::Result<usize> {
    match idle(machine, tail)? {
        ConnectionState::WriteTraffic(mut traffic) => traffic.queue_close_notify(memory).map_err(invalid),
        _ => Err(io::ErrorKind::NotConnected.into()),
    }
}
