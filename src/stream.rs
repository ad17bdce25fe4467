//! A connected socket, TCP or Unix, as the relay uses it: readiness first, then one system call.
//!
//! Nothing here buffers. Reads and writes are attempts that say `WouldBlock`; whoever calls owns the bytes.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket, registered with the runtime of the worker that uses it.
#[derive(Debug)]
pub enum Stream {
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A connected socket that no runtime knows: what travels between threads.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Registers the socket with the current runtime.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(socket) => Stream::Tcp(TcpStream::from_std(socket)?),
            Self::Unix(socket) => Stream::Unix(UnixStream::from_std(socket)?),
        })
    }
}

impl Stream {
    /// Has the kernel find out within about two minutes that a silent peer's host is gone, also while bytes are on
    /// their way to it. A Unix socket needs nothing.
    pub fn keep_alive(&self) -> io::Result<()> {
        let Self::Tcp(socket) = self else { return Ok(()) };
        let socket = SockRef::from(socket);
        let probes =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
        socket.set_tcp_keepalive(&probes.with_retries(3))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
        Ok(())
    }

    /// Whose it is, for the log.
    pub fn peer(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.peer_addr().map_or_else(|_| "gone".into(), |peer| peer.to_string()),
            Self::Unix(_) => "unix".into(),
        }
    }

    /// Takes the socket out of the runtime that it is registered with. Two system calls with [`Detached::attach`].
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(socket) => Detached::Tcp(socket.into_std()?),
            Self::Unix(socket) => Detached::Unix(socket.into_std()?),
        })
    }

    /// Ready when a write is worth trying. No system call.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(cx),
            Self::Unix(socket) => socket.poll_write_ready(cx),
        }
    }

    /// Reads once when there is something to read; `Ok(0)` is the end of the stream. A read that does not fill the
    /// buffer proves that the socket is empty, so that the next call needs no system call to know it: `try_read` of
    /// tokio's sockets would ask the kernel again.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Whether there is nothing to read at this moment, not even the end of the stream. One system call, whatever the
    /// runtime knows.
    pub fn is_silent(&self) -> io::Result<bool> {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(socket) => SockRef::from(socket).peek(&mut byte),
            Self::Unix(socket) => SockRef::from(socket).peek(&mut byte),
        };
        match peeked {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// One attempt to write; may take a part.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
        }
    }

    /// Tells the peer that nothing more will be sent; it may go on sending.
    pub fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
            Self::Unix(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
        }
    }

    /// Reads exactly as much as `buffer` holds. Not cancel safe: what was read is lost.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.read_exact(buffer).await.map(drop),
            Self::Unix(socket) => socket.read_exact(buffer).await.map(drop),
        }
    }

    /// Reads what is there, at least one byte unless the stream ended. Cancel safe.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer).await,
            Self::Unix(socket) => socket.read(buffer).await,
        }
    }

    /// Writes all of `bytes`. Not cancel safe: a part may have been written.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.write_all(bytes).await,
            Self::Unix(socket) => socket.write_all(bytes).await,
        }
    }
}
