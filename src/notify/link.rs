//! The server connection that listens, and the task that works on it: orders out, answers and notifications in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::time::{Duration, Instant, sleep};

use super::channel::{self, Name};
use super::inbox::{self, Inbox, Violation};
use super::table::{Order, Waiter};
use super::{Hub, ListenError, Place};
use crate::backend::connect::ConnectError;
use crate::backend::{self, ServerConn};
use crate::relay::reply::Seen;
use crate::wire::error_fields;
use crate::wire::frame::HEADER;
use crate::wire::turn::Asker;

/// Orders that are sent ahead of their answers.
const AHEAD: usize = 256;

/// Bytes that are read at once.
const CHUNK: usize = 32 * 1024;

/// Messages that are put into mailboxes before others on the same thread get their turn.
const BUDGET: usize = 2_000;

/// How often a place under the caps is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Makes the connection known in pg_stat_activity, and keeps the server from closing it because it is silent, or from
/// ending a LISTEN. Written so that servers that do not know one of the settings take it as well.
const SETUP: &[u8] = b"SELECT pg_catalog.set_config(name, \
    CASE name WHEN 'application_name' THEN 'firepool listener' ELSE '0' END, false) \
    FROM pg_catalog.pg_settings \
    WHERE name IN ('application_name', 'idle_session_timeout', 'statement_timeout')";

/// Only in UTF-8 is it known what the server makes of such a name.
const NOT_UTF8: ListenError = ListenError::Unsupported("the name is not ASCII and the database not UTF-8");

/// What an answer of the server's is for.
enum Flight {
    Setup,
    Listen(Name, Vec<Waiter>),
    Unlisten,
}

struct Link {
    conn: ServerConn,
    /// What was sent and not answered, in order.
    flights: VecDeque<Flight>,
    inbox: Inbox,
    scratch: Vec<u8>,
    /// The error that came for the flight at the front.
    refusal: Option<ListenError>,
    /// The number of changed parameters when `Hub::encoding` was noted.
    changes: u64,
}

/// Ends the task's hold on the hub, whatever ends the task: a runtime that shuts down drops it.
struct Running {
    hub: Arc<Hub>,
    over: bool,
}

impl Running {
    fn end(&mut self, error: &ListenError) {
        if !std::mem::replace(&mut self.over, true) {
            self.hub.fail(error);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(&ListenError::Lost);
    }
}

/// Wakes whom it holds, whatever happens: they are nobody else's to wake.
#[derive(Default)]
struct Wakers(Vec<Waker>);

impl Wakers {
    fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        self.wake();
    }
}

/// Opens the connection, serves until nobody has listened for a while, and closes it.
pub(super) async fn run(hub: Arc<Hub>) {
    let mut running = Running { hub: Arc::clone(&hub), over: false };
    let (mut link, _place) = match open(&hub).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(pool = hub.name, %error, "nobody can listen: no server connection for it");
            return running.end(&error);
        }
    };
    match link.serve(&hub).await {
        // The table was told already.
        Ok(()) => running.over = true,
        Err(error) => {
            tracing::warn!(pool = hub.name, error, "the server connection that listens was lost");
            running.end(&ListenError::Lost);
            // Those that wait for an answer hear of it now, and not when the server has gone.
            link.flights.clear();
        }
    }
    link.conn.hang_up().await;
}

/// A connection, with its place under the caps.
async fn open(hub: &Hub) -> Result<(Link, Place), ListenError> {
    let deadline = Instant::now() + hub.limits.patience;
    let place = loop {
        match (hub.admit)() {
            Some(place) => break place,
            None if Instant::now() < deadline => sleep(ASK_AGAIN).await,
            None => return Err(ConnectError::LimitReached.into()),
        }
    };
    let mut conn = hub.opener.open().await?;
    // What is notified is ours.
    conn.set_exclusive(true);
    hub.set_encoding(conn.parameters());
    let changes = conn.parameters().changes();
    let mut link = Link {
        conn,
        flights: VecDeque::new(),
        inbox: Inbox::default(),
        scratch: vec![0; CHUNK],
        refusal: None,
        changes,
    };
    link.send(&channel::message(SETUP), Flight::Setup).map_err(|_| ListenError::Lost)?;
    Ok((link, place))
}

impl Link {
    /// Returns when nobody has listened for a while; an error says, for the log, why the connection is of no more use.
    async fn serve(&mut self, hub: &Hub) -> Result<(), String> {
        loop {
            while self.flights.len() < AHEAD {
                let Some(order) = hub.table().next() else { break };
                self.order(hub, order).map_err(|error| error.to_string())?;
            }
            self.conn.flush().map_err(|error| error.to_string())?;
            let idle = self.flights.is_empty() && hub.table().is_empty();
            tokio::select! {
                read = receive(&mut self.conn, &mut self.scratch) => {
                    let read = read.map_err(|error| error.to_string())?;
                    self.digest(hub, read).await?;
                }
                () = hub.work.notified() => {}
                () = sleep(hub.limits.linger), if idle => {
                    if hub.retire() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn order(&mut self, hub: &Hub, order: Order) -> Result<(), backend::Lost> {
        match order {
            Order::Listen(name, waiters) if !name.is_ascii() && !hub.speaks_utf8() => {
                hub.table().answered(&name, waiters, Err(NOT_UTF8));
                Ok(())
            }
            Order::Listen(name, waiters) => {
                let message = channel::query("LISTEN", &name);
                self.send(&message, Flight::Listen(name, waiters))
            }
            Order::Unlisten(name) => self.send(&channel::query("UNLISTEN", &name), Flight::Unlisten),
        }
    }

    fn send(&mut self, message: &[u8], flight: Flight) -> Result<(), backend::Lost> {
        // As a client's, so that the whole stream comes here in its order.
        self.conn.turn.request(b'Q', 0, Asker::Client);
        self.flights.push_back(flight);
        self.conn.send(message)
    }

    /// Goes through what was read. Not cancel safe: what is left of it would wait for the next read.
    async fn digest(&mut self, hub: &Hub, read: usize) -> Result<(), String> {
        if self.conn.parameters().changes() != self.changes {
            self.changes = self.conn.parameters().changes();
            if hub.set_encoding(self.conn.parameters()) {
                return Err("the server changed the encoding of what it sends".into());
            }
        }
        self.inbox.feed(&self.scratch[..read]);
        let (mut wakers, mut work, mut delivered) = (Wakers::default(), 0, 0);
        let wrong = |violation: Violation| violation.to_string();
        while let Some(message) = self.inbox.next().map_err(wrong)? {
            match message[0] {
                b'A' => {
                    let channel = inbox::channel_of(message).map_err(wrong)?;
                    let reached = hub.table().deliver(channel, message, &mut wakers.0);
                    (work, delivered) = (work + reached + 1, delivered + reached);
                }
                b'E' => self.refusal = Some(refused(message)?),
                // In a transaction, nothing would be subscribed.
                b'Z' if message[HEADER..] != *b"I" => return Err("a transaction was left open".into()),
                b'Z' => self.answered(hub)?,
                _ => {}
            }
            if work >= BUDGET {
                work = 0;
                wakers.wake();
                tokio::task::yield_now().await;
            }
        }
        wakers.wake();
        if delivered > 0 {
            // Whoever shares the thread empties the mailbox before there is more.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// A ReadyForQuery: the subscriptions that it ends the wait for begin here. The server says it behind the commit of
    /// LISTEN, and behind every notification that was committed before it read LISTEN.
    fn answered(&mut self, hub: &Hub) -> Result<(), String> {
        let refusal = self.refusal.take();
        match self.flights.pop_front() {
            Some(Flight::Listen(name, waiters)) => {
                hub.table().answered(&name, waiters, refusal.map_or(Ok(()), Err));
                Ok(())
            }
            Some(Flight::Setup) => {
                if let Some(error) = refusal {
                    tracing::warn!(pool = hub.name, %error, "the connection that listens keeps its settings");
                }
                Ok(())
            }
            Some(Flight::Unlisten) if refusal.is_none() => Ok(()),
            Some(Flight::Unlisten) => Err("the server refused an UNLISTEN".into()),
            None => Err("an answer to nothing".into()),
        }
    }
}

/// What the server said, unless it says goodbye with it.
fn refused(message: &[u8]) -> Result<ListenError, String> {
    let body = &message[HEADER..];
    let words = error_fields::text(body, b'M').unwrap_or_default();
    if error_fields::is_fatal(body) {
        return Err(words);
    }
    let is_sqlstate =
        |text: &String| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let sqlstate = error_fields::text(body, b'C').filter(is_sqlstate).unwrap_or_default();
    Ok(ListenError::Refused { sqlstate, message: words })
}

/// Sends what waits and reads. Ready with how many bytes came, which may be none. Cancel safe.
async fn receive(conn: &mut ServerConn, scratch: &mut [u8]) -> Result<usize, backend::Lost> {
    // Nothing is answered by the proxy itself here.
    let (mut seen, mut out) = (Seen::default(), Vec::new());
    std::future::poll_fn(|cx| {
        if conn.has_unsent() && conn.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Ok(0));
        }
        conn.poll_receive(cx, scratch, (&mut seen, &mut out))
    })
    .await
}
