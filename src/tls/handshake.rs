//! From the first byte to an established session.

use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::task::{Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error};

use super::session::Session;
use super::{Transport, invalid};

/// Bytes of a handshake that may wait for their rest. Chains of certificates are a few thousand bytes; OpenSSL's limit
/// (`SSL_MAX_CERT_LIST_DEFAULT`) is 100 KiB, but for somebody who has not logged in that is generous.
const LONGEST: usize = 32 * 1024;

/// Bytes that are read at once.
const CHUNK: usize = 4 * 1024;

/// Either end of a connection.
pub(super) trait Machine: Deref<Target = UnbufferedConnectionCommon<Self::Data>> {
    /// rustls' own.
    type Data;
    /// Looks at records.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// What records came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// More has to come before anything can be sent.
    Blocked,
    /// Plaintext may be sent.
    Open,
    /// The peer has said that it sends nothing more.
    Closed,
}

/// Looks at all records that are complete: plaintext goes to `plain`, what has to be sent behind `out`. Returns how many
/// bytes of `incoming` are done with.
pub(super) fn pump<M: Machine>(
    machine: &mut M,
    incoming: &mut [u8],
    plain: &mut impl FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> (usize, Result<Pumped, Error>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = machine.process(&mut incoming[used..]);
        let outcome = match state {
            Err(error) => Some(Err(error)),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break None,
                    Some(Err(error)) => break Some(Err(error)),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        plain(record.payload);
                    }
                }
            },
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out).err().map(Err),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::BlockedHandshake) => Some(Ok(Pumped::Blocked)),
            Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(Pumped::Open)),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Ok(Pumped::Closed)),
            // Early data is not offered, and rustls adds no state without being asked.
            Ok(_) => Some(Err(Error::General("unexpected state".into()))),
        };
        used += discard;
        if let Some(outcome) = outcome {
            return (used, outcome);
        }
    }
}

/// What rustls has to say behind an error: the alert, at last. Not asked for more than there is, or it would look at the
/// records again that it has failed on.
pub(super) fn last_words<M: Machine>(machine: &mut M, incoming: &mut [u8], out: &mut Vec<u8>) {
    while machine.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = machine.process(incoming).state else { return };
        if encode(data, out).is_err() {
            return;
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let wrong = || Error::General("a record could not be encoded".into());
    let size = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Err(wrong()),
    };
    let start = out.len();
    out.resize(start + size, 0);
    data.encode(&mut out[start..]).map(drop).map_err(|_| wrong())
}

/// What is left of a handshake that is over.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Plaintext that came with its last message.
    pub(super) plain: Vec<u8>,
    /// The beginning of a record.
    pub(super) tail: Vec<u8>,
    /// The peer sends nothing more.
    pub(super) ended: bool,
}

impl Rest {
    /// The session of a client that was accepted.
    pub(super) fn serving(self, connection: UnbufferedServerConnection) -> Session {
        Session::new(super::session::Connection::Server(connection), self)
    }

    /// The session with a server that was called.
    pub(super) fn calling(self, connection: UnbufferedClientConnection) -> Session {
        Session::new(super::session::Connection::Client(connection), self)
    }
}

/// Does the handshake of `machine`, of which `first` was read already. Not cancel safe.
///
/// # Errors
/// `InvalidData` where the peer, or its certificate, is not as it should be; it was sent an alert, if it takes one.
pub(super) async fn run<M>(
    mut machine: M,
    transport: &mut impl Transport,
    first: &[u8],
) -> io::Result<(Rest, M)>
where
    M: Machine,
    UnbufferedConnectionCommon<M::Data>: Deref<Target = CommonState>,
{
    let (mut incoming, mut out, mut plain) = (first.to_vec(), Vec::new(), Vec::new());
    loop {
        let mut keep = |bytes: &[u8]| plain.extend_from_slice(bytes);
        let (used, pumped) = pump(&mut machine, &mut incoming, &mut keep, &mut out);
        incoming.drain(..used);
        if pumped.is_err() {
            last_words(&mut machine, &mut incoming, &mut out);
        }
        send(transport, &out, pumped.is_err()).await?;
        out.clear();
        let pumped = pumped.map_err(invalid)?;
        if !machine.is_handshaking() {
            // No more memory than they need.
            let (plain, tail) = (plain.as_slice().to_vec(), incoming.as_slice().to_vec());
            return Ok((Rest { plain, tail, ended: pumped == Pumped::Closed }, machine));
        }
        let start = incoming.len();
        if pumped == Pumped::Closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if start >= LONGEST {
            return Err(invalid("a message of the handshake is too long"));
        }
        incoming.resize(start + CHUNK, 0);
        let read = poll_fn(|cx| transport.poll_read(cx, &mut incoming[start..])).await?;
        incoming.truncate(start + read);
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Sends all of it; or, where it is only an alert, what the socket takes at once.
async fn send(transport: &mut impl Transport, bytes: &[u8], at_once: bool) -> io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            match transport.try_write(&bytes[sent..]) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(taken) => sent += taken,
                Err(_) if at_once => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(transport.poll_write_ready(cx))?
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}
