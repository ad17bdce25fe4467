//! The client's socket with the bytes that are on their way, in either direction.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::carry::Remembered;
use super::strict::Batch;
use super::worker::SCRATCH;
use crate::relay::request::{self, JUDGED, RequestScan};
use crate::stream::Stream;

/// How long a client is waited for that does not read its end, or does not close its own.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of a client's that are thrown away meanwhile.
const UNHEARD: usize = 1 << 20;

/// A client's socket. While nothing is on its way it owns no buffer.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) requests: RequestScan,
    /// Bytes from the client that are still to be looked at.
    inbox: Vec<u8>,
    /// They can be looked at without more behind them.
    inbox_ready: bool,
    /// They may not be looked at before the server has said whether it has the unnamed statement.
    pub(super) verdict: bool,
    /// They may not be looked at before the server has said what a statement is.
    pub(super) description: bool,
    /// They may not be looked at before what was asked for is answered.
    pub(super) answers: bool,
    /// On a strictly read-only route, in whose transaction the batch of now runs.
    pub(super) batch: Batch,
    /// The Parse of the client's unnamed statement, if it may be bound on another server connection.
    pub(super) unnamed: Option<Box<Remembered>>,
    /// Bytes that the socket did not take yet.
    out: Vec<u8>,
}

impl Client {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            requests: RequestScan::default(),
            inbox: Vec::new(),
            inbox_ready: false,
            verdict: false,
            description: false,
            answers: false,
            batch: Batch::default(),
            unnamed: None,
            out: Vec::new(),
        }
    }

    /// As much of the worker's memory as it reads into: more where longer texts are looked at as a whole.
    pub(super) fn share<'a>(&self, scratch: &'a mut [u8]) -> &'a mut [u8] {
        let share = if self.requests.longest > JUDGED { scratch.len() } else { SCRATCH.min(scratch.len()) };
        &mut scratch[..share]
    }

    /// Reads into `scratch`, behind what was put aside. Ready with the length of both together; `Ok(0)` is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let aside = self.inbox.len();
        match ready!(self.stream.poll_read(cx, &mut scratch[aside..]))? {
            0 => Poll::Ready(Ok(0)),
            read => {
                scratch[..aside].copy_from_slice(&self.inbox);
                self.inbox.clear();
                Poll::Ready(Ok(aside + read))
            }
        }
    }

    /// Takes what was put aside into `scratch`, if it can be looked at as it is; how much it is.
    pub(super) fn take_aside(&mut self, scratch: &mut [u8]) -> Option<usize> {
        if !std::mem::take(&mut self.inbox_ready) {
            return None;
        }
        let aside = self.inbox.len();
        scratch[..aside].copy_from_slice(&self.inbox);
        self.inbox.clear();
        Some(aside)
    }

    /// Puts bytes aside that cannot be dealt with yet. `ready` says that they are not merely the beginning of a
    /// message.
    pub(super) fn put_aside(&mut self, bytes: &[u8], ready: bool) {
        self.inbox.extend_from_slice(bytes);
        self.inbox_ready |= ready;
    }

    /// Takes the client's first request back, if all of it is here and nothing of it was passed on.
    pub(super) fn withdraw(&mut self) -> bool {
        let Some(length) = request::first_request(&self.inbox) else { return false };
        self.inbox.drain(..length);
        self.inbox_ready = !self.inbox.is_empty();
        true
    }

    /// How much was put aside.
    pub(super) fn aside(&self) -> usize {
        self.inbox.len()
    }

    /// What is kept to be sent.
    pub(super) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what is kept, as far as the socket takes it.
    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        match self.stream.try_write(&self.out) {
            Ok(sent) => drop(self.out.drain(..sent)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends, behind what is kept, or keeps what the socket does not take.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return self.try_flush();
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = match self.stream.try_write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.out.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Ready when nothing is kept any more.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back memory that an idle client does not need.
    pub(super) fn slim(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Sends last words, behind what is kept, and waits for the client to close its end, but not for long: where something
    /// of its own was not read, the kernel would take the words back (RST) before the client has read them.
    pub(super) async fn say_goodbye(&mut self, words: &[u8]) {
        self.out.extend_from_slice(words);
        let out = std::mem::take(&mut self.out);
        let farewell = async {
            if self.stream.write_all(&out).await.is_err() || words.is_empty() || self.stream.finish().is_err()
            {
                return;
            }
            let (mut scratch, mut left) = (vec![0; 4096], UNHEARD);
            while let Ok(read @ 1..) = self.stream.read(&mut scratch).await {
                left = match left.checked_sub(read) {
                    Some(left) => left,
                    None => return,
                };
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        self.stream.close_tls();
    }
}
