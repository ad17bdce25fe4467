//! Server connections: opening them, bringing them to a client's settings, cancelling, and bringing them back to rest.
//!
//! A [`ServerConn`] keeps everything that is known of one connection in one place: its protocol state, the settings it
//! has, what it reported, and the bytes that are on their way. It is handed out only at rest, and it never guesses: a
//! reply that was not owed ends it.

pub mod cancel;
pub mod channels;
pub mod connect;
pub mod encrypt;
pub mod hidden;
mod login;
pub mod own;
mod owned;
pub mod prepared;
pub mod probe;
pub mod proofs;
pub mod query;
pub mod refusal;
pub mod replication;
pub mod reset;
pub mod settings;
pub mod told;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::relay::reply::{Done, ReplyError, ReplyScan, Seen};
use crate::statement::{Dialect, Encoding};
use crate::stream::{Detached, Stream};
use crate::wire::turn::{Asker, Turn};
use cancel::CancelKey;
use prepared::Statements;
use settings::{Parameters, Settings};
use told::Told;

/// The parameter that makes a session's transactions read-only. PostgreSQL reports it since 14.
pub const READ_ONLY: &str = "default_transaction_read_only";

/// The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent what was not owed.
    #[error("{0}")]
    Protocol(#[from] ReplyError),
    /// The connection is to be read-only, and it is in doubt that it still is.
    #[error("the connection is not read-only any more")]
    Mode,
    /// The server refused a request of the proxy's own.
    #[error("the server refused the proxy's own request")]
    Refused,
}

/// One connection to a server, logged in.
#[derive(Debug)]
pub struct ServerConn {
    stream: Option<Stream>,
    /// The number of the worker whose runtime knows the socket.
    worker: usize,
    /// The protocol state.
    pub turn: Turn,
    replies: ReplyScan,
    /// The beginning of a reply whose rest is still to come.
    carry: Vec<u8>,
    /// Bytes that the socket did not take yet.
    out: Vec<u8>,
    key: Arc<CancelKey>,
    parameters: Parameters,
    settings: Arc<Settings>,
    dialect: Dialect,
    /// It was opened read-only, and is closed when it is not any more.
    read_only: bool,
    /// What the client has been told of its parameters.
    pub told: Told,
    /// Milliseconds of the process's clock at which the connection is to be replaced.
    expires: Option<u64>,
    /// Something went wrong that only closing it mends.
    spoiled: bool,
    /// The prepared statements of clients that it has.
    pub statements: Statements,
    /// It holds session state of the client's that used it last.
    pub needs_reset: bool,
    /// A client has used it since it was opened or reset.
    pub used: bool,
    /// The number of the client that had it last; 0 is nobody.
    pub last_client: u64,
    /// It may have settings of that client's that nobody knows to ask about.
    pub unlisted: bool,
    /// Something may be in it that no reset undoes: it is closed when its client is done with it.
    pub tainted: bool,
}

impl ServerConn {
    fn new(stream: Stream, key: CancelKey, parameters: Parameters, unread: Vec<u8>) -> Self {
        Self {
            stream: Some(stream),
            worker: usize::MAX,
            turn: Turn::new(),
            replies: ReplyScan::default(),
            carry: unread,
            out: Vec::new(),
            key: Arc::new(key),
            dialect: dialect(&parameters),
            read_only: false,
            told: Told::default(),
            parameters,
            settings: Arc::default(),
            expires: None,
            spoiled: false,
            statements: Statements::default(),
            needs_reset: false,
            used: false,
            last_client: 0,
            unlisted: false,
            tainted: false,
        }
    }

    /// Says when it is to be replaced, in milliseconds of the process's clock.
    pub fn set_expiry(&mut self, at: Option<u64>) {
        self.expires = at;
    }

    /// Whether it has grown too old.
    pub fn expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| now >= at)
    }

    /// Whether it may serve somebody else: at rest in every respect, with nothing of the last client's.
    pub fn at_rest(&self) -> bool {
        self.is_settled() && !self.needs_reset
    }

    /// Whether everything that was asked is answered and no transaction is open, though session state may be left.
    pub fn is_settled(&self) -> bool {
        self.turn.at_rest()
            && !self.spoiled
            && self.out.is_empty()
            && self.carry.is_empty()
            && self.replies.between_messages()
            && self.stream.is_some()
    }

    /// Whether every reply that has begun has come to its end.
    pub fn is_between_replies(&self) -> bool {
        self.replies.between_messages()
    }

    /// Whether the client has the beginning of a reply and not its end.
    pub fn is_mid_reply(&self) -> bool {
        self.replies.forwards_rest()
    }

    /// Never to be used again.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// What a cancel request for it needs.
    pub fn cancel_key(&self) -> &Arc<CancelKey> {
        &self.key
    }

    /// The parameters as the server last reported them.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// From here on it is closed when the server reports that it is not read-only any more. `false` if it is not now.
    pub fn hold_read_only(&mut self) -> bool {
        self.read_only = true;
        self.is_read_only()
    }

    /// Whether the server reports the mode, and reads texts as the proxy does.
    fn is_read_only(&self) -> bool {
        let Dialect { encoding, standard_conforming_strings } = self.dialect;
        self.parameters.get(READ_ONLY) == Some(b"on")
            && standard_conforming_strings
            && encoding != Encoding::Unsafe
    }

    /// Registers the socket with the current worker's runtime, unless it is there already.
    pub fn attach_to(&mut self, worker: usize) -> io::Result<()> {
        if self.worker == worker {
            return Ok(());
        }
        let detached: Detached = self.stream.take().ok_or(io::ErrorKind::NotConnected)?.detach()?;
        self.stream = Some(detached.attach()?);
        self.worker = worker;
        Ok(())
    }

    /// [`Self::attach_to`] for a connection that lay idle. An error where the server has sent something meanwhile: the
    /// new worker's runtime would not know that before it asks the kernel, so [`Self::check_idle`] could not see it.
    pub fn move_idle_to(&mut self, worker: usize) -> io::Result<()> {
        if self.worker != worker && !self.stream()?.is_silent()? {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.attach_to(worker)
    }

    /// Marks the socket as known to the runtime of this worker, which opened it.
    pub fn opened_by(&mut self, worker: usize) {
        self.worker = worker;
    }

    fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ready when writing is worth trying. No system call.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_write_ready(cx)
    }

    /// Reads replies into `scratch`. Ready with how many bytes at its start are for the client; where `out`, which was
    /// empty, has something, all that is for the client is there.
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        (seen, out): (&mut Seen, &mut Vec<u8>),
    ) -> Poll<Result<usize, Lost>> {
        let carried = self.carry.len();
        let Some(room) = scratch.get_mut(carried..).filter(|room| !room.is_empty()) else {
            return Poll::Ready(Err(Lost::Io(io::ErrorKind::OutOfMemory.into())));
        };
        let stream = self.stream.as_mut().ok_or(Lost::Closed)?;
        let read = match ready!(stream.poll_read(cx, room))? {
            0 => return Poll::Ready(Err(Lost::Closed)),
            read => read,
        };
        scratch[..carried].copy_from_slice(&self.carry);
        self.carry.clear();
        Poll::Ready(self.walk(&mut scratch[..carried + read], seen, out))
    }

    fn walk(&mut self, chunk: &mut [u8], seen: &mut Seen, out: &mut Vec<u8>) -> Result<usize, Lost> {
        let parameters = &mut self.parameters;
        let changes = parameters.changes();
        let told = &mut self.told;
        let mut written = false;
        let scanned = self.replies.scan(&mut self.turn, chunk, (seen, out), |tag, body, asker| {
            match tag {
                b'E' => {
                    written |= asker == Asker::Proxy && owned::is_hit(body);
                    return told.hear_error(body, asker);
                }
                b'A' => return told.hear_notification(body),
                _ => {}
            }
            parameters.report(body);
            told.hear(body, asker)
        })?;
        if written {
            return Err(Lost::Mode);
        }
        self.told.reassigned(std::mem::take(&mut seen.reassigned));
        if parameters.changes() != changes {
            self.dialect = dialect(parameters);
            if self.read_only && !self.is_read_only() {
                return Err(Lost::Mode);
            }
        }
        self.carry.extend_from_slice(&chunk[scanned.rest..]);
        self.spoiled |= seen.farewell;
        self.statements.learn(&seen.shared);
        seen.shared.clear();
        if std::mem::take(&mut seen.deallocated) {
            self.statements.forget_all();
        }
        // Somebody left a LISTEN behind that no tag had shown.
        self.needs_reset |= seen.strayed;
        Ok(scanned.forward)
    }

    /// Sends bytes that `turn` knows of, or keeps what the socket does not take.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return self.flush().map(drop);
        }
        let sent = match self.stream.as_mut().ok_or(Lost::Closed)?.try_write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        self.out.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what is kept, as far as the socket takes it; `true` when all of it is gone.
    pub fn flush(&mut self) -> Result<bool, Lost> {
        let stream = self.stream.as_mut().ok_or(Lost::Closed)?;
        while !self.out.is_empty() {
            match stream.try_write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Whether bytes wait for the socket to take them.
    pub fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    /// Queues a simple query of the proxy's own; its replies are swallowed. Sent with the next bytes.
    pub fn ask(&mut self, sql: &str) {
        self.turn.request(b'Q', 0, Asker::Proxy);
        self.out.push(b'Q');
        // 4 for the length itself and 1 for the NUL. The proxy's own queries are short: settings are bounded by the
        // startup packet's 10,000 bytes.
        self.out.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
        self.out.extend_from_slice(sql.as_bytes());
        self.out.push(0);
    }

    /// Says goodbye and waits until the server has closed its end, so that its backend is gone when another connection
    /// is opened in the place of this one. A server that takes longer than a second is not waited for.
    pub async fn hang_up(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        // Terminate. Where it cannot be sent, or comes within a message, the end of the stream says the same.
        let _ = stream.try_write(&[b'X', 0, 0, 0, 4]);
        let gone = async {
            let mut scratch = [0; 1024];
            while matches!(stream.read(&mut scratch).await, Ok(1..)) {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
    }

    /// Whether the session has settings of another client's than this that nobody knows to ask about.
    pub fn has_unlisted(&self, client: u64) -> bool {
        self.unlisted && self.last_client != client
    }

    /// Whether the session has the settings of a client. Comparing costs next to nothing where they are the same value.
    pub fn has(&mut self, wanted: &Arc<Settings>, client: u64) -> bool {
        if self.has_unlisted(client) {
            return false;
        }
        if Arc::ptr_eq(&self.settings, wanted) {
            return true;
        }
        let same = settings::difference(&self.settings, wanted, &self.parameters).is_none();
        if same {
            self.settings = Arc::clone(wanted);
        }
        same
    }

    /// Whether the connection is one client's alone for now, so that notifications that come are the client's.
    pub fn set_exclusive(&mut self, exclusive: bool) {
        self.replies.exclusive = exclusive;
    }

    /// Whether what becomes of statements is counted from now on.
    pub fn count(&mut self, on: bool) {
        self.replies.count(on);
    }

    /// The statements that have ended since the last call.
    pub fn take_done(&mut self) -> std::vec::Drain<'_, Done> {
        self.replies.take_done()
    }

    /// The session has these settings now.
    pub fn settings_are(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// The settings that the session has.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// How the server reads a text.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The server has its own defaults again, after `DISCARD ALL` or `RESET ALL`.
    pub fn forget_settings(&mut self) {
        self.settings = Arc::default();
    }

    /// Reads what an idle connection was sent without being asked: parameters after a reload, notices, or a farewell.
    /// No system call where nothing came. An error means that it must not be handed out. Returns whether the server
    /// reported other parameters than before.
    pub fn check_idle(&mut self, scratch: &mut [u8]) -> Result<bool, Lost> {
        let before = self.parameters.changes();
        let (mut seen, mut out) = (Seen::default(), Vec::new());
        loop {
            let receiving = std::future::poll_fn(|cx| self.poll_receive(cx, scratch, (&mut seen, &mut out)));
            // Without this, tokio would answer "nothing" once a task has done enough for its turn.
            let receiving = std::pin::pin!(tokio::task::unconstrained(receiving));
            match receiving.poll(&mut Context::from_waker(std::task::Waker::noop())) {
                Poll::Pending => break,
                Poll::Ready(received) => drop(received?),
            }
            if seen.farewell {
                return Err(Lost::Closed);
            }
        }
        if self.at_rest() { Ok(self.parameters.changes() != before) } else { Err(Lost::Closed) }
    }
}

/// How the server reads a text, as far as it has said.
fn dialect(parameters: &Parameters) -> Dialect {
    Dialect {
        encoding: Encoding::of(parameters.get("client_encoding").unwrap_or_default()),
        standard_conforming_strings: parameters.get("standard_conforming_strings") == Some(b"on"),
    }
}
