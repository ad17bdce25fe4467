//! A connected socket, TCP or Unix, as the relay uses it: readiness first, then one system call.
//!
//! Nothing here buffers. Reads and writes are attempts that say `WouldBlock`; whoever calls owns the bytes. A socket may
//! have a session of TLS, which is used in the same way and moves with it: plaintext goes past it for one comparison.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};
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
    Unix(Local),
}

/// A Unix socket that the runtime watches for reading only. One that it watches for writing as well, as tokio's own does,
/// tells of every message that the peer has read: a wake-up for each query, for nothing.
#[derive(Debug)]
struct Local {
    socket: AsyncFd<LocalSocket>,
    /// The same socket, watched for writing: only while it does not take what it is given.
    blocked: Option<Box<AsyncFd<LocalSocket>>>,
}

type LocalSocket = std::os::unix::net::UnixStream;

/// Has the runtime watch a socket.
#[allow(
    deprecated,
    reason = "the other constructor is unsafe for the sake of types that give away the descriptor of somebody else, or close \
              it early; a socket of the standard library's owns its descriptor until it is dropped"
)]
fn watched(socket: LocalSocket, interest: Interest) -> io::Result<AsyncFd<LocalSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl Local {
    fn new(socket: LocalSocket) -> io::Result<Self> {
        Ok(Self { socket: watched(socket, Interest::READABLE)?, blocked: None })
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            match ready.try_io(|socket| socket.get_ref().read(buffer)) {
                Ok(Ok(read)) => {
                    // What comes from now on is told again; an end that came before stays known.
                    if (1..buffer.len()).contains(&read) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Nothing is there after all: that is known now.
                Err(_) => {}
            }
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.blocked {
            None => Poll::Ready(Ok(())),
            Some(socket) => socket.poll_write_ready(cx).map_ok(drop),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(socket) = &self.blocked {
            let sent = socket.try_io(Interest::WRITABLE, |mut socket| socket.write(bytes))?;
            if sent == bytes.len() {
                self.blocked = None;
            }
            return Ok(sent);
        }
        let sent = self.socket.get_ref().write(bytes);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            let again = self.socket.get_ref().try_clone()?;
            self.blocked = Some(Box::new(watched(again, Interest::WRITABLE)?));
        }
        sent
    }
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
            Bare::Unix(socket) => Socket::Unix(Local::new(socket)?),
        };
        Ok(Stream { socket, tls: self.tls })
    }
}

impl Transport for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => {
                let mut buffer = ReadBuf::new(buffer);
                Pin::new(socket).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            }
            Self::Unix(socket) => socket.poll_read(cx, buffer),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(cx),
            Self::Unix(socket) => socket.poll_write_ready(cx),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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
    pub fn unix(socket: UnixStream) -> io::Result<Self> {
        Ok(Self { socket: Socket::Unix(Local::new(socket.into_std()?)?), tls: None })
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
            Socket::Unix(local) => socket_peercred(local.socket.get_ref()).ok().map(|peer| peer.uid.as_raw()),
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
            Socket::Unix(local) => Bare::Unix(local.socket.into_inner()),
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
            Socket::Unix(local) => SockRef::from(local.socket.get_ref()).peek(&mut byte),
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
            Some(session) => session.try_write(&mut self.socket, bytes),
        }
    }

    /// Tells the peer that nothing more will be sent; it may go on sending.
    pub fn finish(&mut self) -> io::Result<()> {
        self.close_tls();
        match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(local) => SockRef::from(local.socket.get_ref()).shutdown(Shutdown::Write),
        }
    }

    /// Says goodbye in the terms of TLS, where there is any, before the socket is dropped.
    pub fn close_tls(&mut self) {
        if let Some(session) = &mut self.tls {
            session.close(&mut self.socket);
        }
    }

    /// Reads exactly as much as `buffer` holds. Not cancel safe: what was read is lost.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match poll_fn(|cx| self.poll_read(cx, &mut buffer[filled..])).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    /// Reads what is there, at least one byte unless the stream ended. Cancel safe.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes all of `bytes`. Not cancel safe: a part may have been written.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        poll_fn(|cx| {
            while !rest.is_empty() {
                match self.try_write(rest) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Runs `test` with one end of a pair of Unix sockets, and `peer` with the other one.
    fn with_peer<F: Future<Output = ()>>(
        peer: impl FnOnce(LocalSocket) + Send + 'static,
        test: impl FnOnce(Stream) -> F,
    ) {
        let (own, other) = LocalSocket::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        let peer = thread::spawn(move || peer(other));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = Stream::unix(UnixStream::from_std(own).unwrap()).unwrap();
            tokio::time::timeout(PATIENCE, test(stream)).await.unwrap();
        });
        peer.join().unwrap();
    }

    async fn read_to_end(stream: &mut Stream, buffer: usize) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; buffer]);
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => return all,
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn a_unix_socket_gives_all_that_came_however_it_came_and_then_the_end() {
        let sent: Vec<u8> = (0..3_000_u32).map(|n| n as u8).collect();
        for buffer in [1, 2, 3, 1_000, 64 * 1024] {
            for pieces in [1, 7, 3_000] {
                let bytes = sent.clone();
                let speak = move |mut socket: LocalSocket| {
                    bytes.chunks(pieces).for_each(|piece| socket.write_all(piece).unwrap());
                };
                with_peer(speak, async |mut stream| {
                    assert_eq!(read_to_end(&mut stream, buffer).await, sent, "{buffer} {pieces}");
                    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "it stays at its end");
                });
            }
        }
    }

    #[test]
    fn who_has_shut_down_its_own_side_still_gets_an_answer() {
        let ask = |mut socket: LocalSocket| {
            socket.write_all(b"a question").unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert_eq!(answer.len(), 4 << 20);
        };
        with_peer(ask, async |mut stream| {
            assert_eq!(read_to_end(&mut stream, 64).await, b"a question");
            stream.write_all(&vec![7; 4 << 20]).await.unwrap();
        });
    }

    /// Each end has more to say than the socket holds, and moves between runtimes while it is blocked.
    #[test]
    fn a_blocked_unix_socket_goes_on_once_there_is_room_and_hears_meanwhile() {
        const ROUNDS: usize = 20;
        let talk = |mut socket: LocalSocket| {
            for _ in 0..ROUNDS {
                socket.write_all(b"word").unwrap();
                let mut answer = vec![0; 1 << 20];
                socket.read_exact(&mut answer).unwrap();
            }
        };
        with_peer(talk, async |mut stream| {
            for _ in 0..ROUNDS {
                let answer = vec![7; 1 << 20];
                let mut sent = loop {
                    match stream.try_write(&answer) {
                        Ok(sent) => break sent,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                };
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                assert_eq!(&word, b"word");
                while sent < answer.len() {
                    match stream.try_write(&answer[sent..]) {
                        Ok(more) => sent += more,
                        Err(_) => {
                            stream = stream.detach().unwrap().attach().unwrap();
                            poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
                        }
                    }
                }
            }
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        });
    }
}
