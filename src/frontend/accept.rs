//! Listeners, and which worker gets a new client: the one with the fewest.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::Shared;
use super::lobby::Lobby;
use super::worker::{Handle, Stage};
use crate::config::Proxy;
use crate::stream::{Detached, Stream};

/// Connections that the kernel keeps until they are accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long to wait before accepting again where the process is out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// How often, and for how long each time, a client that has to go is waited for.
const ROUNDS: usize = 20;
const ROUND: Duration = Duration::from_millis(5);

/// Bound listeners.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
    unix: Option<(UnixListener, SocketFile)>,
}

/// The file of a Unix socket, removed when the listener goes.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Binds everything that the configuration names. To be called within a runtime.
    ///
    /// # Errors
    /// An address that cannot be bound, with the address in the message.
    pub fn bind(proxy: &Proxy) -> io::Result<Self> {
        let named = |address: &dyn std::fmt::Display, error: io::Error| {
            io::Error::new(error.kind(), format!("could not listen on {address}: {error}"))
        };
        let tcp = proxy
            .listen
            .iter()
            .map(|address| bind_tcp(*address).map_err(|error| named(address, error)))
            .collect::<io::Result<Vec<_>>>()?;
        let unix = match &proxy.unix_socket_dir {
            Some(folder) => {
                let port = proxy.listen.first().map_or(6432, SocketAddr::port);
                let path = folder.join(format!(".s.PGSQL.{port}"));
                let bound = bind_unix(&path, proxy.unix_socket_mode);
                Some((bound.map_err(|error| named(&path.display(), error))?, SocketFile(path)))
            }
            None => None,
        };
        Ok(Self { tcp, unix })
    }

    /// The TCP addresses as bound, with the port that the system chose where the configuration says 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Accepts clients and gives them to workers until the process drains.
    ///
    /// At most `most` sockets are open at once, logged in or not: those above are closed without a word, so that
    /// clients that never log in cannot take the file descriptors that server connections need.
    pub async fn serve(
        self,
        workers: Arc<Vec<Handle>>,
        (most, shared): (usize, Arc<Shared>),
        mut stage: watch::Receiver<Stage>,
    ) {
        let Self { tcp, unix } = self;
        let doors = Arc::new(Doors { workers, most, lobby: Arc::clone(&shared.lobby) });
        let mut accepting = tokio::task::JoinSet::new();
        for listener in tcp {
            let doors = Arc::clone(&doors);
            accepting.spawn(async move {
                loop {
                    let socket = listener.accept().await.and_then(|(socket, _)| {
                        let stream = Stream::tcp(socket)?;
                        stream.keep_alive()?;
                        stream.detach()
                    });
                    doors.hand_over(socket).await;
                }
            });
        }
        let _file = unix.map(|(listener, file)| {
            let doors = Arc::clone(&doors);
            accepting.spawn(async move {
                loop {
                    let socket =
                        listener.accept().await.and_then(|(socket, _)| Stream::unix(socket)?.detach());
                    doors.hand_over(socket).await;
                }
            });
            file
        });
        let _ = stage.wait_for(|stage| *stage != Stage::Serving).await;
    }
}

/// The way in.
struct Doors {
    workers: Arc<Vec<Handle>>,
    most: usize,
    lobby: Arc<Lobby>,
}

impl Doors {
    fn are_full(&self) -> bool {
        self.workers.iter().map(Handle::load).sum::<usize>() >= self.most
    }

    async fn hand_over(&self, socket: io::Result<Detached>) {
        match socket {
            Ok(socket) => {
                // Whoever has been in the middle of a login for longest goes first.
                for _ in 0..ROUNDS {
                    if !self.are_full() || !self.lobby.make_room() {
                        break;
                    }
                    tokio::time::sleep(ROUND).await;
                }
                if self.are_full() {
                    tracing::debug!(self.most, "a client was turned away: too many sockets");
                } else if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.load()) {
                    worker.take(socket).await;
                }
            }
            // The client is gone again, or the process is out of file descriptors: then accepting at once would spin.
            Err(error) => {
                tracing::warn!(%error, "could not accept a client");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can stand side by side.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    // A socket file that nobody listens on is left from a process that was killed.
    if std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
