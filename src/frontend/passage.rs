//! Two sockets joined for good: what either side sends reaches the other as it is. Neither side is read while the other
//! has not taken what was read before, so that memory is bounded by two buffers.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use super::replication::Link;
use super::worker::{Stage, Worker};
use crate::stream::Stream;

/// Bytes that are read at once. Base backups and WAL come from the server; clients send little but status.
const DOWN: usize = 64 * 1024;
const UP: usize = 16 * 1024;

/// How long a server may be silent that was told that its client sends nothing more. PostgreSQL ends at once.
const LINGER: Duration = Duration::from_secs(60);

/// How long the server is waited for at the end, so that its backend is gone when its place is somebody else's.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client that replicates and its server connection.
#[derive(Debug)]
pub(super) struct Passage {
    client: Stream,
    link: Link,
    up: Pipe,
    down: Pipe,
    worker: Rc<Worker>,
}

/// Why a passage ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the server closed it")]
    Server,
    /// The client cannot be written to, or the server not read from.
    #[error("{0}")]
    Lost(io::Error),
    /// A client goes on where it was as soon as it can connect again, so that it is not waited for.
    #[error("the proxy is shutting down")]
    Shutdown,
}

impl Passage {
    pub(super) fn new(client: Stream, link: Link, worker: Rc<Worker>) -> Self {
        Self { client, link, up: Pipe::new(UP), down: Pipe::new(DOWN), worker }
    }

    /// Passes bytes until one side ends or the process drains.
    pub(super) async fn run(mut self) {
        let mut stage = self.worker.stage.clone();
        let end = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage != Stage::Serving) => End::Shutdown,
            end = self.pass() => end,
        };
        tracing::info!(user = self.link.user, reason = %end, "a replication connection was closed");
        let Self { client, mut link, .. } = self;
        drop(client);
        let _ = link.server.finish();
        let gone = async {
            let mut scratch = [0; 4096];
            while matches!(link.server.read(&mut scratch).await, Ok(1..)) {}
        };
        let _ = timeout(FAREWELL, gone).await;
    }

    async fn pass(&mut self) -> End {
        loop {
            let (passed, over) = (self.down.passed, self.up.over);
            match timeout(LINGER, std::future::poll_fn(|cx| self.poll(cx))).await {
                Ok(end) => return end,
                Err(_) if over && self.down.passed == passed => {
                    return End::Lost(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(ended) = self.down.poll(&mut self.link.server, &mut self.client, cx) {
            return Poll::Ready(ended.map_or_else(End::Lost, |()| End::Server));
        }
        // Whatever ended this direction, the server may have something to say, and hears that the client has not.
        if !self.up.over && self.up.poll(&mut self.client, &mut self.link.server, cx).is_ready() {
            self.up.over = true;
            let _ = self.link.server.finish();
        }
        Poll::Pending
    }
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    buffer: Box<[u8]>,
    /// What the sink has not taken yet is between these two.
    start: usize,
    end: usize,
    /// Bytes that were passed on.
    passed: u64,
    /// Nothing more comes.
    over: bool,
}

impl Pipe {
    fn new(size: usize) -> Self {
        Self { buffer: vec![0; size].into_boxed_slice(), start: 0, end: 0, passed: 0, over: false }
    }

    /// Ready when the source has ended and the sink has taken everything, or when one of them failed.
    fn poll(&mut self, source: &mut Stream, sink: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.start < self.end {
                ready!(sink.poll_write_ready(cx))?;
                match sink.try_write(&self.buffer[self.start..self.end]) {
                    Ok(sent) => {
                        self.start += sent;
                        self.passed += sent as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match ready!(source.poll_read(cx, &mut self.buffer))? {
                0 => return Poll::Ready(Ok(())),
                read => (self.start, self.end) = (0, read),
            }
        }
    }
}
