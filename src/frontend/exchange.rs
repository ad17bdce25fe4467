//! The relay between one client and the server connection that it has at the moment. The only loop that reads and
//! writes both.
//!
//! It never waits for one side while the other has something: each step tries what can be tried, and only when nothing
//! moves does the task sleep. Neither side is read while the other does not take what was read before, so that memory
//! stays bounded and back-pressure passes through.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::books::Books;
use super::carry::Remembered;
use super::client::Client;
use super::footprint::Footprint;
use super::guard::Refused;
use super::holdings::Holdings;
use super::refuse;
use super::slow::Slow;
use super::texts::Texts;
use super::worker::SCRATCH;
use crate::backend::prepared::StatementKey;
use crate::backend::{Lost, ServerConn};
use crate::error::{ErrorKind, Refusal};
use crate::pool::Pool;
use crate::relay::reply::{Outcome, Seen};
use crate::relay::request::{Judging, Stop, Walk};
use crate::statement::Facts;
use crate::wire::turn::Status;

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
    /// What the client was refused by a read-only route.
    pub(super) refused: Vec<Refused>,
    /// What it was refused for other reasons.
    pub(super) refusals: Vec<ErrorKind>,
    /// Statements of which the log is to tell.
    pub(super) slow: Vec<Slow>,
    /// How its prepared statements were found.
    pub(super) prepared: Prepared,
}

/// Uses of prepared statements, by how the server connection had them.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) hits: u32,
    pub(super) misses: u32,
    pub(super) evictions: u32,
    /// The one that was missed last and is waited for: the same use comes again.
    pub(super) missed: Option<StatementKey>,
}

/// One client and its server connection.
pub(super) struct Exchange<'a> {
    pub(super) client: &'a mut Client,
    pub(super) server: &'a mut ServerConn,
    pub(super) footprint: &'a mut Footprint,
    pub(super) holdings: &'a mut Holdings,
    pub(super) texts: &'a RefCell<Texts>,
    pub(super) pool: &'a Pool,
    pub(super) tally: &'a mut Tally,
    pub(super) rules: Rules,
    /// Where the text lies that was judged last, how long it is, and its facts: a text that will not come again is read
    /// once.
    pub(super) judged: Option<(*const u8, usize, Rc<Facts>)>,
    /// Where statements are counted, if they are.
    pub(super) books: Option<Books<'a>>,
}

/// How a client is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The server connection is not the client's for its whole life.
    pub(super) shared: bool,
    /// Nothing may be written.
    pub(super) guarded: bool,
    /// Nor be committed: transactions are the proxy's.
    pub(super) strict: bool,
    /// The client has startup settings, which the server does not know for the defaults.
    pub(super) has_defaults: bool,
    /// The client keeps its server connection, whatever state that is in.
    pub(super) keeps: bool,
    /// The client may have a connection for a single statement only.
    pub(super) statement_mode: bool,
    /// Statements are counted by their schemas.
    pub(super) counted: bool,
    /// Some of them are recorded as spans.
    pub(super) traced: bool,
    /// The proxy asks the server something: the client's next request waits for the answer.
    pub(super) asking: bool,
}

impl Rules {
    /// What is looked at before it is sent.
    pub(super) fn judging(self) -> Judging {
        if self.strict {
            return Judging::All;
        }
        let judged = self.shared || self.has_defaults || self.guarded || self.counted;
        if judged { Judging::State } else { Judging::Nothing }
    }
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
            if !self.rules.keeps && self.server.turn.is_spent() && !self.server.has_unsent() {
                return Poll::Ready(End::Spent);
            }
            if !replies && !requests {
                return Poll::Pending;
            }
        }
    }

    /// Looks at what the client sent and passes it on. Called with the first request of a lease, and by `poll`.
    pub(super) fn pass_on(&mut self, chunk: &[u8]) -> Result<(), End> {
        let mut walk = Walk::new(chunk);
        self.stamp();
        let stop = self.walk(&mut walk);
        let run = walk.take_run();
        self.footprint.started = true;
        if let Some(parse) = walk.kept() {
            self.client.unnamed = Some(Box::new(Remembered::new(parse)));
        }
        if !run.is_empty() || self.server.has_unsent() {
            self.server.send(run).map_err(End::ServerLost)?;
        }
        let rest = walk.rest();
        let stop = stop?;
        if self.rules.traced && matches!(stop, Stop::Verdict | Stop::Answers | Stop::Description) {
            self.will_trace_again();
        }
        match stop {
            Stop::Drained => self.client.put_aside(rest, false),
            Stop::Full => self.client.put_aside(rest, true),
            Stop::Verdict => {
                self.client.verdict = true;
                self.client.put_aside(rest, true);
            }
            Stop::Answers => {
                self.client.answers = true;
                self.client.put_aside(rest, true);
            }
            Stop::Description => {
                self.client.description = true;
                self.client.put_aside(rest, true);
            }
            Stop::Goodbye => return Err(End::Left { in_order: true }),
            Stop::Invalid(error) => {
                return Err(End::Refused(Refusal::new(ErrorKind::ProtocolViolation, error.to_string())));
            }
        }
        self.give_locals()
    }

    /// Gives the proxy's own replies that nothing from the server will bring along: those of a batch that is not closed
    /// yet, whose Flush the server has nothing to answer to.
    fn give_locals(&mut self) -> Result<(), End> {
        if !self.server.turn.needs_sync() || !self.server.is_between_replies() {
            return Ok(());
        }
        let mut given = 0;
        while let Some(local) = self.server.turn.take_local() {
            self.client.outbox().extend_from_slice(&local.bytes());
            self.holdings.names.get().learn(&[Outcome::Done]);
            given += local.bytes().len();
        }
        self.tally.sent += given;
        self.client.try_flush().map_err(|_| End::Left { in_order: false })
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
        let seen = (&mut self.tally.seen, self.client.outbox());
        let forward = match self.server.poll_receive(cx, &mut scratch[..SCRATCH], seen) {
            Poll::Pending => return Ok(false),
            Poll::Ready(received) => received.map_err(End::ServerLost)?,
        };
        self.close_books();
        self.learn();
        self.tally.sent += forward.max(self.client.outbox().len());
        self.client.send(&scratch[..forward]).map_err(|_| End::Left { in_order: false })?;
        if self.tally.seen.farewell {
            // Whatever else came with it, and though the end of the stream may still be on its way.
            return Err(End::ServerLost(Lost::Closed));
        }
        let open = self.server.turn.status() != Status::Idle && !self.rules.strict;
        if self.rules.statement_mode && self.tally.seen.ready > 0 && open {
            let kind = ErrorKind::TransactionInStatementMode;
            return Err(End::Refused(Refusal::new(kind, refuse::NO_BLOCKS)));
        }
        Ok(true)
    }

    /// Takes note of what the server said of statements.
    fn learn(&mut self) {
        let seen = &mut self.tally.seen;
        if let Some(event) = seen.unnamed.take() {
            self.footprint.learn(event);
            if let Some(remembered) = &mut self.client.unnamed {
                remembered.known = true;
            }
        }
        if let Some(remembered) = &mut self.client.unnamed {
            if seen.reparsed {
                remembered.is_parsed();
            }
            let described = seen.unnamed_described.drain(..);
            described.for_each(|(asker, description)| remembered.is_described(asker, description));
        }
        (seen.reparsed, seen.unnamed_described) = (false, Vec::new());
        if std::mem::take(&mut seen.stale) {
            // Whichever it was, it is parsed anew before it is used again.
            self.footprint.used().iter().for_each(|key| self.server.statements.forget(key));
        }
        if !seen.names.is_empty() {
            self.holdings.names.get().learn(&seen.names);
            seen.names.clear();
        }
        seen.removals.drain(..).for_each(|removal| self.holdings.removed(removal));
        self.holdings.removals.forget_before(self.server.turn.answered_before());
    }

    /// Client to server.
    fn requests(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<bool, End> {
        if !self.server.flush().map_err(End::ServerLost)? {
            return Ok(self.server.poll_write_ready(cx).is_ready());
        }
        if self.rules.asking || self.must_settle_first() || !self.server.turn.has_room() {
            return Ok(false);
        }
        let open =
            self.server.turn.owes_verdict() || self.holdings.removals.are_open(self.server.turn.epoch());
        // The end of the reply that tells may still be on its way.
        self.client.verdict &= open || !self.server.is_between_replies();
        self.client.description &= self.awaits_description();
        let turn = &self.server.turn;
        self.client.answers &= turn.answered_before() < turn.epoch() || !self.server.is_between_replies();
        if self.client.verdict || self.client.description || self.client.answers {
            return Ok(false);
        }
        let scratch = self.client.share(scratch);
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
