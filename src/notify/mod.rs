//! LISTEN for many clients of one pool over one server connection, so that a client in transaction mode that listens
//! needs none of its own.
//!
//! Promises:
//! - A subscription is exact. [`Hub::listen`] returns once everything that is committed from then on comes to the
//!   mailbox, and what was committed before the call never does: each subscription costs a LISTEN, also where the
//!   connection listens already, and begins at the place of its answer in the stream.
//! - A mailbox has the server's order, across channels, and the server's bytes.
//! - Nothing is lost silently. A mailbox that grows over its limit, and every mailbox when the connection is lost, fails,
//!   and its client is to be ended: what a client with a connection of its own would have seen.
//! - Memory is bounded by the limits of mailboxes and channels, whatever the server sends and clients do not read.
//!
//! What it does not do: names and payloads come in the encoding that the connection has, which is the default of the
//! database and role: see [`Hub::encoding`]. The process id in a notification is the notifier's on the server.
//! Notifications that a client causes itself come when they come, and not before the end of its own query. How clients
//! come to listen here is the frontend's.
//!
//! - `channel`: names as the server compares them, and SQL.
//! - `mailbox`: what waits for one client.
//! - `table`: who listens to what, and what the server is to be told. Pure.
//! - `inbox`: from bytes to messages. Pure.
//! - `link`: the connection, and the task that works on it.

mod channel;
mod inbox;
mod link;
mod mailbox;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::backend::connect::{ConnectError, Opener};
use crate::backend::settings::Parameters;
use channel::Name;
pub use inbox::{MAX_NOTIFICATION, parts_of};
use mailbox::Slot;
pub use mailbox::{Failure, Mailbox};
use table::{Table, Waiter};

/// A place of a connection under the caps of its user and database, free again when dropped.
pub type Place = Box<dyn Send>;

/// Gives a place, or `None` where a cap is reached; it may make room then, because it is asked again soon.
pub type Admit = Box<dyn Fn() -> Option<Place> + Send + Sync>;

/// Bounds of one hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Channels of all clients together.
    pub channels: usize,
    /// Channels of one client.
    pub channels_per_mailbox: usize,
    /// How long the connection is kept when nobody listens.
    pub linger: Duration,
    /// How long a place under the caps is waited for.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels: 100_000,
            channels_per_mailbox: 10_000,
            linger: Duration::from_secs(60),
            patience: Duration::from_secs(5),
        }
    }
}

/// Why a client does not listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// No connection could be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused the LISTEN, on a standby for instance. Words and SQLSTATE are about the client's own request.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Refused {
        /// Its SQLSTATE; empty if it sent none.
        sqlstate: String,
        /// Its words.
        message: String,
    },
    /// The connection was lost before the answer, or the mailbox failed before.
    #[error("the server connection that listens was lost")]
    Lost,
    /// One channel more than [`Limits`] allow.
    #[error("too many channels")]
    TooManyChannels,
    /// A client that needs it has to listen on a connection of its own.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// The listening server connection of one pool, and who listens to what. The connection is opened for the first client
/// that listens, and closed when nobody has listened for a while.
pub struct Hub {
    /// For the log.
    name: String,
    opener: Opener,
    admit: Admit,
    limits: Limits,
    table: Mutex<Table>,
    /// Tells the task that the table has orders.
    work: Notify,
    encodings: Mutex<Option<Encodings>>,
}

/// Of the connection, while there is one.
#[derive(Debug, PartialEq, Eq)]
struct Encodings {
    client: Box<[u8]>,
    /// Names may have characters that are not ASCII: they mean the same to the server, and are cut off as it does.
    utf8: bool,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("name", &self.name).field("table", &self.table).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub without a connection. `name` is for the log; each connection that `opener` opens takes a place from
    /// `admit` and gives it back when the server has closed it.
    pub fn new(name: impl Into<String>, opener: Opener, admit: Admit, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            opener,
            admit,
            limits,
            table: Mutex::default(),
            work: Notify::new(),
            encodings: Mutex::default(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a mailbox to a channel, named as in an identifier without its quotes. Returns once every notification
    /// that is committed from now on will reach the mailbox, and none that was committed before the call. Returns at
    /// once where the mailbox has the channel already.
    ///
    /// Waits for the server without a limit of its own. Cancel safe: a subscription that nobody waited for is none.
    ///
    /// # Errors
    /// See [`ListenError`]; nothing has changed then.
    pub async fn listen(self: &Arc<Self>, mailbox: &Arc<Mailbox>, channel: &[u8]) -> Result<(), ListenError> {
        self.listen_all(mailbox, &[channel]).await
    }

    /// [`Self::listen`] for several channels, which wait together.
    ///
    /// # Errors
    /// The first one's; the mailbox may have some of the channels then.
    pub async fn listen_all(
        self: &Arc<Self>,
        mailbox: &Arc<Mailbox>,
        channels: &[impl AsRef<[u8]>],
    ) -> Result<(), ListenError> {
        if !mailbox.joins(self) {
            return Err(ListenError::Unsupported("the mailbox belongs to another pool"));
        }
        let names: Option<Vec<Name>> =
            channels.iter().map(|channel| channel::canonical(channel.as_ref())).collect();
        let names = names.ok_or(ListenError::Unsupported("no name of a channel"))?;
        let mut pending = Vec::new();
        for name in &names {
            if let Some(answer) = self.request(mailbox.slot(), name)? {
                pending.push(Pending { hub: self, slot: mailbox.slot(), name, answer: Some(answer) });
            }
        }
        for pending in &mut pending {
            pending.wait().await?;
        }
        Ok(())
    }

    /// Puts a request into the table, and has a task serve it. `None` where the mailbox is subscribed already.
    fn request(self: &Arc<Self>, slot: &Arc<Slot>, name: &Name) -> Result<Option<Answer>, ListenError> {
        if slot.failure().is_some() {
            return Err(ListenError::Lost);
        }
        if slot.has(name) {
            return Ok(None);
        }
        let runtime = Handle::try_current()
            .map_err(|_| ListenError::Unsupported("there is no runtime to listen in"))?;
        let (done, answer) = oneshot::channel();
        let start = {
            let mut table = self.table();
            let waiter = Waiter { slot: Arc::clone(slot), done };
            if slot.listening() >= self.limits.channels_per_mailbox
                || !table.request(name, waiter, self.limits.channels)
            {
                return Err(ListenError::TooManyChannels);
            }
            !std::mem::replace(&mut table.running, true)
        };
        if start {
            drop(runtime.spawn(link::run(Arc::clone(self))));
        }
        self.work.notify_one();
        Ok(Some(answer))
    }

    /// Ends a subscription: nothing more comes into the mailbox, though what is there already stays. The server is told
    /// when nobody else listens to the channel.
    pub fn unlisten(&self, mailbox: &Arc<Mailbox>, channel: &[u8]) {
        if let Some(name) = channel::canonical(channel) {
            self.unsubscribe(mailbox.slot(), &[name]);
        }
    }

    /// [`Self::unlisten`] for every channel of the mailbox. Dropping the mailbox does it as well.
    pub fn unlisten_all(&self, mailbox: &Arc<Mailbox>) {
        self.unlisten_all_of(mailbox.slot());
    }

    fn unlisten_all_of(&self, slot: &Arc<Slot>) {
        self.unsubscribe(slot, &slot.names());
    }

    fn unsubscribe(&self, slot: &Arc<Slot>, names: &[Name]) {
        let orders = {
            let mut table = self.table();
            names.iter().fold(false, |orders, name| table.unsubscribe(name, slot) | orders)
        };
        if orders {
            self.work.notify_one();
        }
    }

    /// The `client_encoding` of the connection, in which names and payloads come; `None` while there is no connection.
    /// It is known when a [`Self::listen`] has returned, and stays what it is for as long as anybody listens. A client
    /// with another one has to unlisten again, and to listen on a connection of its own.
    pub fn encoding(&self) -> Option<Vec<u8>> {
        self.encodings().as_ref().map(|encodings| encodings.client.to_vec())
    }

    /// Number of channels, with those that the server is still to be told about.
    pub fn channels(&self) -> usize {
        self.table().len()
    }

    fn encodings(&self) -> MutexGuard<'_, Option<Encodings>> {
        self.encodings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn speaks_utf8(&self) -> bool {
        self.encodings().as_ref().is_some_and(|encodings| encodings.utf8)
    }

    /// Notes what the server reports. Whether it differs from what it had reported on this connection.
    fn set_encoding(&self, parameters: &Parameters) -> bool {
        let get = |name: &str| parameters.get(name).unwrap_or_default();
        let (client, server) = (get("client_encoding"), get("server_encoding"));
        let new = Encodings { client: client.into(), utf8: client == b"UTF8" && server == b"UTF8" };
        let mut noted = self.encodings();
        let differs = noted.as_ref().is_some_and(|old| *old != new);
        *noted = Some(new);
        differs
    }

    /// The connection is gone, or was not to be had.
    fn fail(&self, error: &ListenError) {
        *self.encodings() = None;
        let wakers = self.table().fail(error);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Nobody listens and nobody wants to: the task ends. `false` if that has changed.
    fn retire(&self) -> bool {
        let mut table = self.table();
        let retired = table.is_empty();
        if retired {
            table.running = false;
            *self.encodings() = None;
        }
        retired
    }
}

type Answer = oneshot::Receiver<Result<(), ListenError>>;

/// A client that waits for its subscription. Dropped before the answer, it leaves none behind.
struct Pending<'a> {
    hub: &'a Hub,
    slot: &'a Arc<Slot>,
    name: &'a Name,
    answer: Option<Answer>,
}

impl Pending<'_> {
    async fn wait(&mut self) -> Result<(), ListenError> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        // A sender that is dropped is one whose connection was lost.
        let answer = answer.await.unwrap_or(Err(ListenError::Lost));
        self.answer = None;
        answer
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            // First the receiver: whoever answers later sees that nobody waits, whoever answered is undone below.
            drop(answer);
            self.hub.unsubscribe(self.slot, std::slice::from_ref(self.name));
        }
    }
}
