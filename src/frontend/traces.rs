//! Which of a client's queries are recorded as spans, and what is remembered of those until they have ended.
//!
//! A query is a Query message, or a Parse with its Bind and what is executed first of that. It begins where its text or its
//! Bind passes by ([`Exchange::trace`]), travels as a number in its bill, and has ended with the batch that it is in. A
//! portal that is executed again later is not followed, nor is what a read-only route refuses.

use std::sync::Arc;

use super::exchange::{End, Exchange};
use super::judge::Message;
use super::login;
use super::names::significant;
use super::session::Session;
use crate::pool::Pool;
use crate::relay::reply::{Done, Ended};
use crate::relay::request;
use crate::spans::{Context, Outcome, Parent, Place, Query, Sampler};
use crate::statement::{Command, Facts, Kind, Shape, Statement, Traceparent};
use crate::wire::turn::Bill;

/// Recorded queries of one client that are under way. More are counted as lost.
const MOST: usize = 32;

/// Bytes of a text's words without literals.
const LONGEST: usize = 1_000;

/// What is remembered of a client's queries.
#[derive(Debug, Default)]
pub(super) struct Traces {
    open: Vec<Open>,
    /// Of the message that is looked at: its query, or 0 where that is not recorded.
    current: u32,
    /// A Parse that is not bound yet: its name, and its query.
    parsed: Option<(Box<[u8]>, u32)>,
    /// From when until when the client has just waited for a server connection.
    pub(super) waited: Option<(u64, u64)>,
    /// The SQLSTATE of what failed without being anybody's query: what follows it in its batch was not carried out.
    failed: Option<[u8; 5]>,
    /// The message that was looked at last comes by again.
    again: bool,
    place: Option<Arc<Place>>,
}

/// A query that has not ended.
#[derive(Debug)]
struct Open {
    number: u32,
    context: Context,
    /// Its batch; `None` while it is parsed and not bound.
    epoch: Option<u64>,
    operation: Command,
    text: Option<Box<str>>,
    /// Its text is SQL, in which it is known what is a literal.
    read: bool,
    waited: Option<(u64, u64)>,
    sent: u64,
    ended: Option<(u64, Outcome)>,
}

impl Traces {
    /// Begins a query, if it is recorded; with its number, or 0.
    fn begin(&mut self, sampler: &Sampler, text: Option<&[u8]>, (epoch, now): (Option<u64>, u64)) -> u32 {
        let parent = text.and_then(Traceparent::of).map(|found| Parent {
            trace: found.trace,
            span: found.parent,
            sampled: found.is_sampled(),
        });
        let Some(context) = sampler.begin(parent) else { return 0 };
        if self.open.len() >= MOST {
            sampler.lost();
            return 0;
        }
        let number = sampler.number();
        let text = text.map(|text| Shape::carefully(text, LONGEST).into());
        let waited = self.waited.take();
        let (operation, sent) = (Command::Unknown, now);
        let (read, ended) = (false, None);
        self.open.push(Open { number, context, epoch, operation, text, read, waited, sent, ended });
        number
    }

    fn find(&mut self, number: u32) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.number == number)
    }

    /// Gives up a Parse that will not be bound under its name again.
    fn forget_parsed(&mut self) {
        if let Some((_, number)) = self.parsed.take() {
            self.open.retain(|open| open.number != number || open.epoch.is_some());
        }
    }

    fn parse(&mut self, sampler: &Sampler, (name, text): (&[u8], Option<&[u8]>), now: u64) {
        self.forget_parsed();
        let number = self.begin(sampler, text, (None, now));
        self.parsed = Some((significant(name).into(), number));
        self.current = number;
    }

    /// The query that is bound: that of its Parse, if that was just now; or one of its own.
    fn bind(&mut self, sampler: &Sampler, name: Option<&[u8]>, (epoch, now): (u64, u64)) {
        let parsed = self.parsed.take_if(|(parsed, _)| Some(&**parsed) == name.map(significant));
        self.current = match parsed {
            None => self.begin(sampler, None, (Some(epoch), now)),
            Some((_, number)) => {
                if let Some(open) = self.find(number) {
                    open.epoch = Some(epoch);
                }
                number
            }
        };
    }

    /// A statement has ended.
    pub(super) fn note(&mut self, done: &Done, now: u64) {
        let outcome = match done.ended {
            Ended::Carried(rows, _) | Ended::Suspended(rows) => Outcome::Done(rows),
            Ended::Failed(sqlstate) => Outcome::Failed(sqlstate),
        };
        match (self.find(done.bill.trace), outcome) {
            (Some(open), _) => {
                let rows = match (open.ended, outcome) {
                    // Several statements of one text. A server may say any number.
                    (Some((_, Outcome::Done(before))), Outcome::Done(rows)) => {
                        Outcome::Done(before.saturating_add(rows))
                    }
                    _ => outcome,
                };
                open.ended = Some((now, rows));
                // It may have failed where it was parsed.
                open.epoch = open.epoch.or(Some(0));
            }
            (None, Outcome::Failed(sqlstate)) => self.failed = Some(sqlstate),
            (None, Outcome::Done(_)) => {}
        }
    }

    /// Every batch before `epoch` is over: hands in the queries that were in one. Those of which nothing was heard failed
    /// with what came before them, or were not carried out.
    fn settle(&mut self, sampler: &Sampler, place: impl FnOnce() -> Place, (epoch, now): (u64, u64)) {
        let failed = self.failed.take();
        if self.open.iter().all(|open| open.epoch.is_none_or(|of| of >= epoch)) {
            return;
        }
        let place = self.place.get_or_insert_with(|| Arc::new(place()));
        let over = self.open.extract_if(.., |open| open.epoch.is_some_and(|of| of < epoch));
        for open in over {
            let ended = open.ended.or(failed.map(|sqlstate| (now, Outcome::Failed(sqlstate))));
            let Some((ended, outcome)) = ended else { continue };
            sampler.end(Query {
                context: open.context,
                place: Arc::clone(place),
                operation: open.operation.as_str(),
                text: open.text.filter(|_| open.read),
                waited: open.waited,
                sent: open.sent,
                ended,
                outcome,
            });
        }
    }
}

impl Exchange<'_> {
    /// Looks whether a message begins a query that is recorded. It may come by again, if it has to wait.
    pub(super) fn trace(&mut self, message: Message<'_>) {
        let epoch = self.server.turn.epoch();
        let Some(books) = &mut self.books else { return };
        let Some(sampler) = books.sampler else { return };
        let traces = books.account.traces.get();
        if std::mem::take(&mut traces.again) {
            // It has been decided already.
            let current = traces.current;
            if let Some(open) = traces.find(current).filter(|open| open.epoch.is_some()) {
                open.epoch = Some(epoch);
            }
            return;
        }
        traces.current = 0;
        let (whole, now) = (message.is_whole(), || books.clock.exact());
        match message.header.tag {
            b'Q' => {
                let text = whole.then(|| request::query_text(message.body));
                traces.current = traces.begin(sampler, text, (Some(epoch), now()));
            }
            b'P' => {
                let parts = request::parse_parts(message.body).filter(|_| whole);
                let name = request::c_string(message.body).map_or(&b""[..], |(name, _)| name);
                traces.parse(sampler, (name, parts.map(|(_, text, _)| text)), now());
            }
            b'B' => {
                let name = request::bind_names(message.body).map(|(_, name)| name);
                traces.bind(sampler, name, (epoch, now()));
            }
            b'F' => traces.current = traces.begin(sampler, None, (Some(epoch), now())),
            _ => {}
        }
    }

    /// The message that was looked at last is put aside, and comes by again.
    pub(super) fn will_trace_again(&mut self) {
        if let Some(books) = &mut self.books {
            books.account.traces.get().again = true;
        }
    }

    /// A message is skipped behind an error: if it was put aside, it does not come by again.
    pub(super) fn trace_skipped(&mut self) {
        let Some(books) = self.books.as_mut().filter(|books| books.sampler.is_some()) else { return };
        let traces = books.account.traces.get();
        if !std::mem::take(&mut traces.again) {
            return;
        }
        let current = std::mem::take(&mut traces.current);
        if traces.parsed.as_ref().is_some_and(|(_, number)| *number == current) {
            traces.forget_parsed();
        }
    }

    /// The bill of what is sent now, with the number of its query.
    pub(super) fn traced(&mut self, bill: Bill, facts: Option<&Facts>) -> Bill {
        if !self.rules.traced {
            return bill;
        }
        let Some(books) = &mut self.books else { return bill };
        let traces = books.account.traces.get();
        let number = std::mem::take(&mut traces.current);
        if let Some(open) = traces.find(number) {
            open.operation = Command::numbered(bill.command);
            open.read = facts.is_some_and(|facts| facts.kind != Kind::Unknown);
            let first = facts.and_then(|facts| facts.named().statement(0));
            if let Some(shape) = first.and_then(Statement::shape) {
                (open.text, open.read) = (Some(shape.text.clone()), true);
            }
        }
        Bill { trace: number, ..bill }
    }

    /// Hands in what has ended.
    pub(super) fn settle_traces(&mut self) {
        let epoch = self.server.turn.answered_before();
        let Some(books) = &mut self.books else { return };
        let Some(sampler) = books.sampler else { return };
        books.account.traces.get().settle(sampler, || place(self.pool), (epoch, books.clock.exact()));
    }
}

impl Session {
    /// The relay has ended: what the client had under way has failed with this, if it is told so.
    pub(super) fn abandon_traces(&mut self, end: &End) {
        let Some(sampler) = &self.worker.sampler else { return };
        let kind = match end {
            End::Refused(refusal) => Some(refusal.kind),
            End::ServerLost(_) => Some(login::server_lost().kind),
            End::Settled | End::Spent | End::Left { .. } => None,
        };
        let traces = self.account.get().traces.get();
        traces.forget_parsed();
        traces.failed = kind.and_then(|kind| kind.sqlstate().as_bytes().try_into().ok());
        let now = self.worker.shared.clock.exact();
        traces.settle(sampler, || place(&self.identity.pool), (u64::MAX, now));
    }
}

fn place(pool: &Pool) -> Place {
    let target = &pool.route().target;
    Place {
        database: pool.database().to_owned(),
        user: pool.user().to_owned(),
        host: target.host.clone(),
        port: target.port,
    }
}
