//! TLS on both legs, and the only door to rustls.
//!
//! The room knows no sockets and no runtime: whoever has a socket lends it as a [`Transport`]. A [`Session`] owns no
//! buffer while nothing is on its way. Records are decrypted from one buffer a thread into the memory of whoever reads,
//! and encrypted into that buffer on their way out, so that an idle client costs its keys and little else.
//!
//! It never reads from a socket unless somebody takes the plaintext, and never takes plaintext that the socket does not
//! take, but for one write's worth: what rustls could buffer is bounded by what it is given.
//!
//! - `acceptor`: the certificate that clients see, and what is asked of theirs.
//! - `connector`: what is asked of servers; `verifier` carries it out.
//! - `handshake`: from the first byte to a [`Session`].
//! - `session`: readiness first, then one system call.
//! - `figures`: what is told of all that to whoever watches.
//! - `certificate`: what stands in a certificate; `files` reads them, `generate` makes one for development.

mod acceptor;
pub mod certificate;
mod connector;
pub mod figures;
mod files;
pub mod generate;
mod handshake;
mod session;
#[cfg(test)]
mod tests;
mod verifier;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use acceptor::{Acceptor, ServerFiles};
pub use connector::{ClientFiles, Connector, Trust};
pub use files::exposure;
pub use session::Session;

use certificate::Names;

/// PostgreSQL's name in ALPN: `PG_ALPN_PROTOCOL` of its `src/include/libpq/pqcomm.h`.
const ALPN: &[u8] = b"postgresql";

/// The first byte of a TLS connection: a handshake record.
pub const FIRST_BYTE: u8 = 0x16;

/// A socket, as far as TLS uses one. Nothing blocks: attempts say `WouldBlock` or are pending.
pub trait Transport {
    /// Reads once when there is something to read; `Ok(0)` is the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Ready when a write is worth trying.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// One attempt to write; may take a part.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.2, which every driver of the last ten years speaks.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

impl MinVersion {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::V1_2 => &VERSIONS,
            Self::V1_3 => &VERSIONS[1..],
        }
    }
}

/// Why files of certificates and keys are of no use. It never quotes what stands in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Trouble {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, in words.
    pub reason: String,
}

impl Trouble {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What a handshake found out, for the login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Established {
    /// `tls-server-end-point` of RFC 5929: a hash of the server's certificate. `None` where none is defined for it.
    pub binding: Option<Arc<[u8]>>,
    /// Whom the client's certificate names, if it showed one. It was verified, or there is none.
    pub client: Option<Names>,
    /// Both sides agreed by ALPN that this is PostgreSQL's protocol.
    pub alpn: bool,
}

/// How a reload of certificates went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are what they were.
    Same,
    /// New connections use what the files say now.
    New,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
