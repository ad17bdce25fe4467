//! TLS towards a server: asked for, begun without asking, or done without, as libpq's `sslmode` has it.
//!
//! Exactly one byte is read of the answer to a request for TLS, and a server that sends more before the handshake is
//! not believed: somebody could have put it there for the session to come (CVE-2021-23222 of PostgreSQL, CVE-2021-43767
//! of Odyssey).

use std::io;
use std::sync::Arc;

use super::cancel::Endpoint;
use super::connect::ConnectError;
use crate::config::{ChannelBinding, SslMode, TargetTls};
use crate::stream::Stream;
use crate::tls::{Connector, Established};

/// `NEGOTIATE_SSL_CODE` of PostgreSQL's `src/include/libpq/pqcomm.h`, behind the length of its packet.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How a connection is encrypted. Cancel requests for it are encrypted in the same way.
#[derive(Debug, Clone)]
pub struct Encryption {
    connector: Arc<Connector>,
    /// The server is not asked first.
    direct: bool,
}

/// A connection on which the protocol may begin.
pub(super) struct Connected {
    pub(super) stream: Stream,
    pub(super) endpoint: Endpoint,
    /// How it is encrypted, and what the handshake found out.
    pub(super) encrypted: Option<(Encryption, Established)>,
}

/// One way to a server.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// As it is.
    Plain,
    /// Encrypted, if the server can.
    IfPossible(Encryption),
    /// Encrypted.
    Encrypted(Encryption),
}

/// The ways that a target's `sslmode` allows: one, and another where that fails.
pub(super) fn ways(tls: &TargetTls) -> (Way, Option<Way>) {
    let Some(connector) = &tls.connector else { return (Way::Plain, None) };
    let encryption = Encryption { connector: Arc::clone(connector), direct: tls.direct };
    match tls.mode {
        SslMode::Disable => (Way::Plain, None),
        // Without TLS there is nothing to bind to.
        _ if tls.binding == ChannelBinding::Require => (Way::Encrypted(encryption), None),
        SslMode::Allow => (Way::Plain, Some(Way::Encrypted(encryption))),
        SslMode::Prefer => (Way::IfPossible(encryption), Some(Way::Plain)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Way::Encrypted(encryption), None),
    }
}

/// Whether the other way may work where this one has failed: the handshake did, or the server does not let this user in
/// in this way (28000). A wrong password (28P01) is wrong in any way, and is not tried twice.
pub(super) fn may_be_about_the_way(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { sqlstate, .. } => sqlstate == "28000",
        ConnectError::Insecure(_) => true,
        _ => false,
    }
}

impl Way {
    /// Goes it. A Unix socket needs no encryption and gets none.
    pub(super) async fn take(
        self,
        mut stream: Stream,
        endpoint: Endpoint,
    ) -> Result<Connected, ConnectError> {
        let (encryption, required) = match self {
            Self::Encrypted(encryption) if !stream.is_local() => (encryption, true),
            Self::IfPossible(encryption) if !stream.is_local() => (encryption, false),
            _ => return Ok(Connected { stream, endpoint, encrypted: None }),
        };
        match encryption.begin(&mut stream).await? {
            None if required => Err(ConnectError::Insecure("the server does not support TLS".into())),
            established => {
                let encrypted = established.map(|established| (encryption, established));
                Ok(Connected { stream, endpoint, encrypted })
            }
        }
    }
}

impl Encryption {
    /// Asks for TLS and does the handshake; `None` if the server has none.
    pub(super) async fn begin(&self, stream: &mut Stream) -> Result<Option<Established>, ConnectError> {
        if !self.direct && !ask(stream).await? {
            return Ok(None);
        }
        let established = stream.connect_tls(&self.connector).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                ConnectError::Insecure(format!("the TLS handshake failed: {error}"))
            }
            _ => error.into(),
        })?;
        if self.direct && !established.alpn {
            return Err(ConnectError::Insecure("the server did not agree by ALPN on its protocol".into()));
        }
        Ok(Some(established))
    }
}

/// Whether the server has TLS; it waits for the handshake then.
async fn ask(stream: &mut Stream) -> Result<bool, ConnectError> {
    stream.write_all(&SSL_REQUEST).await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    match answer {
        [b'S'] if stream.is_silent()? => Ok(true),
        [b'S'] => {
            Err(ConnectError::Protocol("the server sent unencrypted data after it had agreed to TLS".into()))
        }
        [b'N'] => Ok(false),
        // It could not start a process, say. Its words come from anybody, and nobody reads them (CVE-2024-10977).
        [b'E'] => {
            Err(ConnectError::Unreachable("the server answered a request for TLS with an error".into()))
        }
        _ => Err(ConnectError::Protocol("the server answered a request for TLS with something else".into())),
    }
}
