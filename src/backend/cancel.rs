//! Cancel requests to a server: a connection of their own, a few bytes, and no answer but the end of the stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::encrypt::Encryption;
use crate::stream::Stream;

/// How long a cancel request may take. PostgreSQL closes its connection at once; a server that does not within this
/// time has lost the request.
const DEADLINE: Duration = Duration::from_secs(5);

/// `CANCEL_REQUEST_CODE` of PostgreSQL's `src/include/libpq/pqcomm.h`.
pub const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// Where exactly a connection went. A host name may stand for several servers; a cancel request must reach the one
/// that runs the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Connects, with Nagle's algorithm off.
    pub async fn connect(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(address) => Stream::tcp(TcpStream::connect(address).await?)?,
            Self::Unix(path) => Stream::unix(UnixStream::connect(path).await?)?,
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a cancel request for a server connection needs. The secret stays out of `Debug`.
pub struct CancelKey {
    /// Where the connection went.
    pub endpoint: Endpoint,
    /// How the connection is encrypted, and the request therefore as well.
    pub encryption: Option<Encryption>,
    /// Process id of the backend.
    pub pid: u32,
    /// The secret that came with it, as long as it came: 4 to 256 bytes.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelKey(pid {} at {})", self.pid, self.endpoint)
    }
}

/// Asks the server to cancel what runs on a connection. Returns when the server has closed the connection: by then the
/// signal was sent to the backend, so that a query that is sent later cannot be hit by it.
pub async fn send(key: &CancelKey) -> io::Result<()> {
    let exchange = async {
        let mut stream = key.endpoint.connect().await?;
        if let Some(encryption) = &key.encryption {
            let begun = encryption.begin(&mut stream).await.map_err(io::Error::other)?;
            begun.ok_or_else(|| io::Error::other("the server does not support TLS any more"))?;
        }
        // Of at most 256 bytes, as the login made sure.
        let length = 12 + key.secret.len() as u32;
        let head = [length, CANCEL_REQUEST_CODE, key.pid].map(u32::to_be_bytes);
        stream.write_all(&[head.as_flattened(), &key.secret].concat()).await?;
        stream.read(&mut [0; 64]).await.map(drop)
    };
    timeout(DEADLINE, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
