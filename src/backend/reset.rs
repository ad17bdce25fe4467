//! Bringing a server connection back to rest after its client left it somewhere in the middle.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::settings::{self, Settings};
use super::{Lost, READ_ONLY, ServerConn, cancel, own};
use crate::relay::reply::Seen;
use crate::wire::error_fields;
use crate::wire::turn::{Asker, Mark, Status};

/// How long the way back to rest may take before the connection is closed instead.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long the work of a client that said goodbye may still take before it is cancelled. PostgreSQL itself sets no
/// limit, but nobody would see which query keeps a server connection from the pool.
const LEAVE: Duration = Duration::from_secs(60);

/// The first pause between two cancel requests for what a client left running, doubled each time.
const CANCEL_AGAIN: Duration = Duration::from_millis(20);

/// Replies that are read and thrown away at once.
const CHUNK: usize = 32 * 1024;

/// Ends what the client left behind: cancels a query that runs, ends COPY and batches, rolls back, and discards the
/// session state if there is any. `whole_messages` says that the client's last message was sent to its end; without
/// that, nothing can be said to the server any more. What a client asked for before it said goodbye in order is worked
/// off first, as PostgreSQL does.
///
/// # Errors
/// The connection cannot be brought to rest, or not in time: it must be closed.
pub async fn bring_to_rest(conn: &mut ServerConn, whole_messages: bool, in_order: bool) -> Result<(), Lost> {
    if !whole_messages || conn.spoiled {
        return Err(Lost::Refused);
    }
    if in_order && !conn.turn.in_copy_in() && !conn.turn.needs_sync() {
        // Whether it ends or not is seen below.
        let _ = timeout(LEAVE, drain(conn, &mut vec![0; CHUNK])).await;
    }
    timeout(DEADLINE, settle(conn)).await.map_err(|_| Lost::Io(std::io::ErrorKind::TimedOut.into()))?
}

async fn settle(conn: &mut ServerConn) -> Result<(), Lost> {
    let running = conn.turn.awaits_reply() && !conn.turn.in_copy_in();
    if conn.turn.in_copy_in() {
        // CopyFail with an empty reason.
        conn.turn.request(b'f', 0, Asker::Proxy);
        conn.out.extend_from_slice(&[b'f', 0, 0, 0, 5, 0]);
    }
    if conn.turn.needs_sync() {
        // The client never closed its batch: what it did in it is not to last. PostgreSQL takes it back where a client
        // goes away, and where a batch fails.
        conn.queue_own(b'B', &[b"\0", own::NONE, &[0; 6]], Asker::Proxy, Mark::default());
        conn.queue_own(b'S', &[], Asker::Proxy, Mark::default());
    }
    let mut scratch = vec![0; CHUNK];
    if running {
        cancel_and_drain(conn, &mut scratch).await?;
    }
    // A failure that was meant to be is none.
    answered(conn, &mut scratch).await?;
    if conn.turn.status() != Status::Idle {
        conn.ask("ROLLBACK");
        drain(conn, &mut scratch).await?;
    }
    if conn.needs_reset {
        conn.ask("DISCARD ALL");
        drain(conn, &mut scratch).await?;
        (conn.needs_reset, conn.used, conn.unlisted) = (false, false, false);
        conn.forget_settings();
        conn.statements.forget_all();
        conn.last_client = 0;
    }
    if conn.at_rest() { Ok(()) } else { Err(Lost::Refused) }
}

/// Cancels until the server is done. One request is not enough: it does nothing where it overtakes a query that the
/// server has not read yet, and of several queries in flight it ends only one.
async fn cancel_and_drain(conn: &mut ServerConn, scratch: &mut [u8]) -> Result<(), Lost> {
    let mut pause = CANCEL_AGAIN;
    loop {
        // What waits goes first, or there would be nothing to cancel.
        conn.flush()?;
        cancel::send(&conn.key).await?;
        match timeout(pause, answered(conn, scratch)).await {
            Ok(answered) => return answered.map(drop),
            Err(_) => pause *= 2,
        }
    }
}

/// Sends what waits and reads until nothing is owed. What comes is thrown away, but for a refusal of the proxy's own
/// request.
async fn drain(conn: &mut ServerConn, scratch: &mut [u8]) -> Result<(), Lost> {
    match answered(conn, scratch).await? {
        None => Ok(()),
        Some(_) => Err(Lost::Refused),
    }
}

/// Why a client's settings could not be applied.
#[derive(Debug)]
pub enum SettingsError {
    /// The server refused a value: its SQLSTATE and words, which the client may read, because they are about its own
    /// startup packet.
    Refused {
        /// SQLSTATE, if the server sent one.
        sqlstate: Option<String>,
        /// The server's words.
        message: String,
    },
    /// The connection is of no more use.
    Lost(Lost),
}

/// Brings a connection to `wanted` and waits until it is there: only then may a client's request follow, or it would
/// run with another client's settings where this fails. A refusal leaves the settings as they were.
///
/// What settings the last client may have beyond those that are known is not for another `client` to see.
pub async fn apply(conn: &mut ServerConn, wanted: &Arc<Settings>, client: u64) -> Result<(), SettingsError> {
    if conn.has_unlisted(client) {
        ask(conn, "RESET ALL; RESET ROLE").await?;
        conn.unlisted = false;
        conn.forget_settings();
    }
    let Some(sql) = settings::difference(&conn.settings, wanted, &conn.parameters) else {
        conn.settings = Arc::clone(wanted);
        return Ok(());
    };
    if conn.read_only && wanted.get(READ_ONLY).is_some_and(|value| value != "on") {
        return Err(SettingsError::Lost(Lost::Mode));
    }
    ask(conn, &sql).await?;
    conn.settings = Arc::clone(wanted);
    Ok(())
}

async fn ask(conn: &mut ServerConn, sql: &str) -> Result<(), SettingsError> {
    conn.ask(sql);
    let refusal = timeout(DEADLINE, answered(conn, &mut vec![0; CHUNK])).await;
    let refusal = refusal.unwrap_or_else(|_| Err(Lost::Io(std::io::ErrorKind::TimedOut.into())));
    match refusal.map_err(SettingsError::Lost)? {
        None => Ok(()),
        // The server rolled the query back as a whole.
        Some(body) => Err(SettingsError::Refused {
            sqlstate: error_fields::text(&body, b'C'),
            message: error_fields::text(&body, b'M').unwrap_or_default(),
        }),
    }
}

/// Sends what waits and reads until nothing is owed; the first refusal of the proxy's own request, if there was one.
async fn answered(conn: &mut ServerConn, scratch: &mut [u8]) -> Result<Option<Vec<u8>>, Lost> {
    let mut refusal = None;
    loop {
        conn.flush()?;
        if conn.turn.is_quiet()
            && !conn.has_unsent()
            && conn.carry.is_empty()
            && conn.replies.between_messages()
        {
            return Ok(refusal);
        }
        if conn.turn.is_spent() {
            return Err(Lost::Refused);
        }
        let mut seen = Seen::default();
        std::future::poll_fn(|cx| {
            if conn.has_unsent() && conn.poll_write_ready(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            conn.poll_receive(cx, scratch, (&mut seen, &mut Vec::new())).map_ok(drop)
        })
        .await?;
        // What the client asked for and did not stay to hear of has its effect all the same.
        conn.needs_reset |= seen.commands > 0;
        refusal = refusal.or(seen.own_failure);
    }
}
