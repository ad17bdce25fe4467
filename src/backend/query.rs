//! A question of the proxy's own to a server, for checks; never on the path of a client's query.

use std::task::Poll;

use zeroize::Zeroizing;

use super::own::columns;
use super::{Lost, ServerConn};
use crate::relay::reply::Seen;
use crate::secret::Secret;
use crate::wire::error_fields;
use crate::wire::frame::{self, HEADER};
use crate::wire::turn::Asker;

/// Bytes of an answer that are kept.
const MAX_ANSWER: usize = 1 << 20;

/// Bytes that are read at once, and of an answer for which memory is there from the start.
const CHUNK: usize = 64 * 1024;

/// Runs one simple query and returns its rows as text, NULL as `None`.
///
/// # Errors
/// [`Lost::Refused`] if the server answered with an error, behind which the connection is settled, or with more than a
/// megabyte, behind which it is not.
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
    let answer = answer(conn, most).await?;
    rows_of(&answer)
}

/// Runs one statement with these parameters, which never become SQL. What it yields is secret: it is wiped.
///
/// # Errors
/// As [`rows`].
pub async fn rows_with(
    conn: &mut ServerConn,
    sql: &str,
    parameters: &[&str],
) -> Result<Vec<Vec<Option<Secret>>>, Lost> {
    let mut bind = vec![0, 0, 0, 0];
    bind.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        bind.extend_from_slice(&(parameter.len() as u32).to_be_bytes());
        bind.extend_from_slice(parameter.as_bytes());
    }
    bind.extend_from_slice(&[0, 0]);
    let parse = [b"\0", sql.as_bytes(), b"\0\0\0"].concat();
    let bodies: [(u8, &[u8]); 4] = [(b'P', &parse), (b'B', &bind), (b'E', b"\0\0\0\0\0"), (b'S', b"")];
    let mut messages = Vec::new();
    for (tag, body) in bodies {
        messages.push(tag);
        messages.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        messages.extend_from_slice(body);
        conn.turn.request(tag, 0, Asker::Client);
    }
    conn.send(&messages)?;
    let answer = answer(conn, MAX_ANSWER).await?;
    let secret = |row: Vec<Option<String>>| row.into_iter().map(|column| column.map(Secret::new)).collect();
    Ok(rows_of(&answer)?.into_iter().map(secret).collect())
}

/// Everything up to ReadyForQuery, at most so many bytes.
async fn answer(conn: &mut ServerConn, most: usize) -> Result<Zeroizing<Vec<u8>>, Lost> {
    let (mut answer, mut scratch) =
        (Zeroizing::new(Vec::with_capacity(CHUNK)), Zeroizing::new(vec![0; CHUNK]));
    let (mut seen, mut out) = (Seen::default(), Vec::new());
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
        if answer.len() > most {
            tracing::info!("the answer to a question of the proxy's own is too long");
            return Err(Lost::Refused);
        }
    }
    if seen.errors > 0 {
        tracing::info!(said = error_of(&answer), "a question of the proxy's own was refused");
        return Err(Lost::Refused);
    }
    Ok(answer)
}

/// The server's SQLSTATE and words, where it sent an error.
fn error_of(answer: &[u8]) -> Option<String> {
    let mut rest = answer;
    while let Ok(Some(header)) = frame::reply(rest) {
        let (message, behind) = rest.split_at_checked(header.len)?;
        if header.tag == b'E' {
            let field = |field| error_fields::text(&message[HEADER..], field).unwrap_or_default();
            return Some(format!("{} {}", field(b'C'), field(b'M')));
        }
        rest = behind;
    }
    None
}

fn rows_of(answer: &[u8]) -> Result<Vec<Vec<Option<String>>>, Lost> {
    let (mut rest, mut rows) = (answer, Vec::new());
    while let Ok(Some(header)) = frame::reply(rest) {
        let Some((message, behind)) = rest.split_at_checked(header.len) else { break };
        if header.tag == b'D' {
            rows.push(columns(&message[HEADER..]).ok_or(Lost::Refused)?);
        }
        rest = behind;
    }
    Ok(rows)
}
