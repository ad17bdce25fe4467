//! A question of the proxy's own to a server, for checks; never on the path of a client's query.

use std::task::Poll;

use super::own::columns;
use super::{Lost, ServerConn};
use crate::relay::reply::Seen;
use crate::wire::frame::{self, HEADER};
use crate::wire::turn::Asker;

/// Bytes of an answer that are kept.
const MAX_ANSWER: usize = 1 << 20;

/// Runs one simple query and returns its rows as text, NULL as `None`.
///
/// # Errors
/// [`Lost::Refused`] if the server answered with an error or with more than a megabyte.
pub async fn rows(conn: &mut ServerConn, sql: &str) -> Result<Vec<Vec<Option<String>>>, Lost> {
    rows_within(conn, sql, MAX_ANSWER).await
}

/// [`rows`] of an answer of at most so many bytes.
///
/// # Errors
/// As of [`rows`].
pub async fn rows_within(
    conn: &mut ServerConn,
    sql: &str,
    most: usize,
) -> Result<Vec<Vec<Option<String>>>, Lost> {
    let mut message = vec![b'Q'];
    message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    conn.turn.request(b'Q', 0, Asker::Client);
    conn.send(&message)?;
    let (mut answer, mut scratch, mut seen) = (Vec::new(), vec![0; 64 * 1024], Seen::default());
    let mut out = Vec::new();
    while !conn.is_settled() {
        let read = std::future::poll_fn(|cx| {
            if conn.has_unsent() && conn.poll_write_ready(cx).is_ready() {
                return Poll::Ready(Ok(0));
            }
            conn.poll_receive(cx, &mut scratch, (&mut seen, &mut out))
        });
        let read = read.await?;
        answer.extend_from_slice(&scratch[..read]);
        conn.flush()?;
        if seen.errors > 0 || answer.len() > most {
            return Err(Lost::Refused);
        }
    }
    let (mut rest, mut rows) = (&answer[..], Vec::new());
    while let Ok(Some(header)) = frame::reply(rest) {
        let Some((message, behind)) = rest.split_at_checked(header.len) else { break };
        if header.tag == b'D' {
            rows.push(columns(&message[HEADER..]).ok_or(Lost::Refused)?);
        }
        rest = behind;
    }
    Ok(rows)
}
