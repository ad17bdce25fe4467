//! A connected socket, TCP or Unix, as the relay uses it: readiness first, then one system call.
//!
//! Nothing here buffers. Reads and writes are attempts that say `WouldBlock`; whoever calls owns the bytes. A socket may
//! have a session of TLS, which is used in the same way and moves with it: plaintext goes past it for one comparison.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::{Acceptor, Connector, Established, Session, Transport};

/// A connected socket, registered with the runtime of the worker that uses it.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<Session>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected socket that no runtime knows: what travels between threads.
#[derive(Debug)]
pub struct Detached {
    socket: Bare,
    tls: Option<Box<Session>>,
}

#[derive(Debug)]
enum Bare {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Registers the socket with the current runtime.
    pub fn attach(self) -> io::Result<Stream> {
        let socket = match self.socket {
            Bare::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            Bare::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        };
        Ok(Stream { socket, tls: self.tls })
    }
}

impl Transport for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(cx),
            Self::Unix(socket) => socket.poll_write_ready(cx),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
        }
    }
}

impl Stream {
    /// A TCP socket, whose Nagle's algorithm this switches off.
    pub fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket: Socket::Tcp(socket), tls: None })
    }

    /// A Unix socket.
    pub fn unix(socket: UnixStream) -> Self {
        Self { socket: Socket::Unix(socket), tls: None }
    }

    /// Whether it is a Unix socket, which needs no TLS.
    pub fn is_local(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Does the handshake of TLS with a client, of which `first` was read already. Not cancel safe.
    pub async fn accept_tls(&mut self, acceptor: &Acceptor, first: &[u8]) -> io::Result<Established> {
        let (session, established) = acceptor.accept(&mut self.socket, first).await?;
        self.tls = Some(Box::new(session));
        Ok(established)
    }

    /// Does the handshake of TLS with a server. Not cancel safe.
    pub async fn connect_tls(&mut self, connector: &Connector) -> io::Result<Established> {
        let (session, established) = connector.connect(&mut self.socket).await?;
        self.tls = Some(Box::new(session));
        Ok(established)
    }

    /// Has the kernel find out within about two minutes that a silent peer's host is gone, also while bytes are on
    /// their way to it. A Unix socket needs nothing.
    pub fn keep_alive(&self) -> io::Result<()> {
        let Socket::Tcp(socket) = &self.socket else { return Ok(()) };
        let socket = SockRef::from(socket);
        let probes =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
        socket.set_tcp_keepalive(&probes.with_retries(3))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
        Ok(())
    }

    /// The address at the other end; `None` of a Unix socket.
    pub fn address(&self) -> io::Result<Option<IpAddr>> {
        match &self.socket {
            Socket::Tcp(socket) => socket.peer_addr().map(|peer| Some(peer.ip())),
            Socket::Unix(_) => Ok(None),
        }
    }

    /// As whom the process at the other end of a Unix socket runs, from `SO_PEERCRED`.
    pub fn uid(&self) -> Option<u32> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix(socket) => socket.peer_cred().ok().map(|peer| peer.uid()),
        }
    }

    /// Whose it is, for the log.
    pub fn peer(&self) -> String {
        match &self.socket {
            Socket::Tcp(socket) => socket.peer_addr().map_or_else(|_| "gone".into(), |peer| peer.to_string()),
            Socket::Unix(_) => "unix".into(),
        }
    }

    /// Takes the socket out of the runtime that it is registered with. Two system calls with [`Detached::attach`].
    pub fn detach(self) -> io::Result<Detached> {
        let socket = match self.socket {
            Socket::Tcp(socket) => Bare::Tcp(socket.into_std()?),
            Socket::Unix(socket) => Bare::Unix(socket.into_std()?),
        };
        Ok(Detached { socket, tls: self.tls })
    }

    /// Ready when a write is worth trying. No system call.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Reads once when there is something to read; `Ok(0)` is the end of the stream. A read that does not fill the
    /// buffer proves that the socket is empty, so that the next call needs no system call to know it: `try_read` of
    /// tokio's sockets would ask the kernel again.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            None => self.socket.poll_read(cx, buffer),
            Some(session) => session.poll_read(&mut self.socket, cx, buffer),
        }
    }

    /// Whether there is nothing to read at this moment, not even the end of the stream. One system call, whatever the
    /// runtime knows. Of TLS, records without plaintext are something.
    pub fn is_silent(&self) -> io::Result<bool> {
        if self.tls.as_ref().is_some_and(|session| session.holds_something()) {
            return Ok(false);
        }
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket).peek(&mut byte),
            Socket::Unix(socket) => SockRef::from(socket).peek(&mut byte),
        };
        match peeked {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// One attempt to write; may take a part. What it did not take has to come again, first, in the next attempt.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_write(bytes),
            Some(session) => session.try_write(&self.socket, bytes),
        }
    }

    /// Tells the peer that nothing more will be sent; it may go on sending.
    pub fn finish(&mut self) -> io::Result<()> {
        self.close_tls();
        match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
        }
    }

    /// Says goodbye in the terms of TLS, where there is any, before the socket is dropped.
    pub fn close_tls(&mut self) {
        if let Some(session) = &mut self.tls {
            session.close(&self.socket);
        }
    }

    /// Reads exactly as much as `buffer` holds. Not cancel safe: what was read is lost.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match (&mut self.socket, &self.tls) {
            (Socket::Tcp(socket), None) => socket.read_exact(buffer).await.map(drop),
            (Socket::Unix(socket), None) => socket.read_exact(buffer).await.map(drop),
            (_, Some(_)) => {
                let mut filled = 0;
                while filled < buffer.len() {
                    match poll_fn(|cx| self.poll_read(cx, &mut buffer[filled..])).await? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        read => filled += read,
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads what is there, at least one byte unless the stream ended. Cancel safe.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes all of `bytes`. Not cancel safe: a part may have been written.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (&mut self.socket, &self.tls) {
            (Socket::Tcp(socket), None) => socket.write_all(bytes).await,
            (Socket::Unix(socket), None) => socket.write_all(bytes).await,
            (_, Some(_)) => {
                let mut rest = bytes;
                poll_fn(|cx| {
                    while !rest.is_empty() {
                        match self.try_write(rest) {
                            Ok(sent) => rest = &rest[sent..],
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                                ready!(self.poll_write_ready(cx))?;
                            }
                            Err(error) => return Poll::Ready(Err(error)),
                        }
                    }
                    Poll::Ready(Ok(()))
                })
                .await
            }
        }
    }
}
