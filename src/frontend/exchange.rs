//! The relay between one client and the server connection that it has at the moment. The only loop that reads and
//! writes both.
//!
//! It never waits for one side while the other has something: each step tries what can be tried, and only when nothing
//! moves does the task sleep. Neither side is read while the other does not take what was read before, so that memory
//! stays bounded and back-pressure passes through.

use std::task::{Context, Poll};

use super::client::Client;
use crate::backend::{Lost, ServerConn};
use crate::error::{ErrorKind, Refusal};
use crate::relay::reply::Seen;
use crate::relay::request::{Footprint, Memory, Stop};
use crate::wire::turn::Status;

/// The longest Parse of an unnamed statement that is remembered for another server connection, in bytes.
const PARSE: usize = 8 * 1024;

/// Why the relay stopped.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing is owed and no transaction is open: the server connection may go back.
    Settled,
    /// The client said goodbye in order, or is gone.
    Left {
        /// It said Terminate: what it had asked for before is still to be done.
        in_order: bool,
    },
    /// Nothing more will come, but the server connection cannot be used again.
    Spent,
    /// The server connection is of no more use.
    ServerLost(Lost),
    /// The client broke a rule.
    Refused(Refusal),
}

/// What was relayed in one step, for the books.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes from the client.
    pub(super) received: usize,
    /// Bytes to the client.
    pub(super) sent: usize,
    /// What stood in the replies.
    pub(super) seen: Seen,
}

/// One client and its server connection.
pub(super) struct Exchange<'a> {
    pub(super) client: &'a mut Client,
    pub(super) server: &'a mut ServerConn,
    pub(super) footprint: &'a mut Footprint,
    pub(super) tally: &'a mut Tally,
    /// The server connection is not this client's alone for its whole life.
    pub(super) shared: bool,
    /// The client keeps it, whatever state it is in.
    pub(super) keeps: bool,
    /// The client may have a connection for a single statement only.
    pub(super) statement_mode: bool,
}

impl Exchange<'_> {
    /// Moves what can be moved. Ready when the relay is over or the server connection has settled: one that was settled
    /// before has to be moved first.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<End> {
        let mut moved = !self.is_settled();
        loop {
            let replies = match self.replies(cx, scratch) {
                Ok(progress) => progress,
                Err(end) => return Poll::Ready(end),
            };
            let requests = match self.requests(cx, scratch) {
                Ok(progress) => progress,
                Err(end) => return Poll::Ready(end),
            };
            moved |= replies || requests;
            if moved && self.is_settled() {
                return Poll::Ready(End::Settled);
            }
            if !self.keeps && self.server.turn.is_spent() && !self.server.has_unsent() {
                return Poll::Ready(End::Spent);
            }
            if !replies && !requests {
                return Poll::Pending;
            }
        }
    }

    /// Looks at what the client sent and passes it on. Called with the first request of a lease, and by `poll`.
    pub(super) fn pass_on(&mut self, mut chunk: &[u8]) -> Result<(), End> {
        loop {
            let Self { client, server, footprint, .. } = self;
            let scanned = client.requests.scan(&mut server.turn, chunk, footprint, self.shared);
            match scanned.memory {
                Memory::Same => {}
                Memory::Nothing => client.parse = None,
                Memory::Parse(place) => {
                    let parse = chunk.get(place).filter(|parse| parse.len() <= PARSE);
                    (client.parse, client.parse_known) = (parse.map(Into::into), false);
                }
            }
            let (sent, rest) = chunk.split_at(scanned.forward);
            server.send(sent).map_err(End::ServerLost)?;
            match scanned.stop {
                Stop::Drained => client.put_aside(rest, false),
                Stop::Full => client.put_aside(rest, true),
                Stop::Verdict => {
                    client.verdict = true;
                    client.put_aside(rest, true);
                }
                Stop::Barrier => {
                    client.barrier = true;
                    client.put_aside(rest, !rest.is_empty());
                }
                Stop::Goodbye => return Err(End::Left { in_order: true }),
                Stop::UnknownStatement => {
                    let known = client.parse.as_ref().filter(|_| client.parse_known);
                    let Some(parse) = known else { return Err(End::Refused(unknown_statement())) };
                    server.repeat(parse).map_err(End::ServerLost)?;
                    footprint.parsed_again();
                    chunk = rest;
                    continue;
                }
                Stop::Invalid(error) => {
                    return Err(End::Refused(Refusal::new(ErrorKind::ProtocolViolation, error.to_string())));
                }
            }
            return Ok(());
        }
    }

    /// Whether the server connection has nothing more to do for this client at the moment.
    pub(super) fn is_settled(&self) -> bool {
        self.server.is_settled() && self.client.requests.between_messages()
    }

    /// Server to client.
    fn replies(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, End> {
        match self.client.poll_flush(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(_)) => return Err(End::Left { in_order: false }),
            Poll::Ready(Ok(())) => {}
        }
        let forward = match self.server.poll_receive(cx, scratch, &mut self.tally.seen) {
            Poll::Pending => return Ok(false),
            Poll::Ready(received) => received.map_err(End::ServerLost)?,
        };
        if self.tally.seen.own_failure.is_some() {
            return Err(End::ServerLost(Lost::Refused));
        }
        if let Some(event) = self.tally.seen.unnamed.take() {
            self.footprint.learn(event);
            self.client.parse_known = true;
        }
        self.tally.sent += forward;
        self.client.send(&scratch[..forward]).map_err(|_| End::Left { in_order: false })?;
        if self.tally.seen.farewell {
            // Whatever else came with it, and though the end of the stream may still be on its way.
            return Err(End::ServerLost(Lost::Closed));
        }
        if self.statement_mode && self.tally.seen.ready > 0 && self.server.turn.status() != Status::Idle {
            let message = "transaction blocks are not allowed in statement pooling mode";
            return Err(End::Refused(Refusal::new(ErrorKind::TransactionInStatementMode, message)));
        }
        Ok(true)
    }

    /// Client to server.
    fn requests(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, End> {
        if !self.server.flush().map_err(End::ServerLost)? {
            return Ok(self.server.poll_write_ready(cx).is_ready());
        }
        if !self.server.turn.has_room() {
            return Ok(false);
        }
        if std::mem::take(&mut self.client.verdict) && self.server.turn.owes_unnamed_parse() {
            self.client.verdict = true;
            return Ok(false);
        }
        if self.client.barrier {
            // Outside of a transaction it is the session's to lift.
            if !self.server.turn.is_quiet() || self.is_settled() {
                return Ok(false);
            }
            self.client.barrier = false;
        }
        let length = match self.client.take_aside(scratch) {
            Some(length) => length,
            None => {
                let aside = self.client.aside();
                match self.client.poll_fill(cx, scratch) {
                    Poll::Ready(Ok(0) | Err(_)) => return Err(End::Left { in_order: false }),
                    Poll::Ready(Ok(length)) => {
                        self.tally.received += length - aside;
                        length
                    }
                    Poll::Pending => return Ok(false),
                }
            }
        };
        self.pass_on(&scratch[..length])?;
        Ok(true)
    }
}

fn unknown_statement() -> Refusal {
    Refusal::new(ErrorKind::UnknownStatement, "unnamed prepared statement does not exist")
        .detail("It was parsed in an earlier transaction, perhaps on another server connection.")
}
