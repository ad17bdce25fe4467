//! What a client's statements are counted under: the schemas that they name, and the time that the server takes.
//!
//! At the request, a statement gets its bill, which waits in the turn with the reply that is owed. What its names come to
//! is looked up once for each text and path, and remembered beside the text's facts; after that it is two comparisons.
//! At the reply, the bill is counted. The clock is read once for what is sent together and once for what comes together.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::docket::{Docket, Entry, Said};
use super::exchange::{Exchange, Tally};
use super::seldom::Seldom;
use super::session::Session;
use super::slow::Slow;
use super::traces::Traces;
use super::views::Views;
use super::worker::Worker;
use crate::backend::settings::Settings;
use crate::clock::Clock;
use crate::metrics::roster::NONE;
use crate::metrics::{Counter, Counts, Place, PoolMetrics, Shard, Table, Traffic};
use crate::pool::Pool;
use crate::relay::reply::{Done, Ended};
use crate::schemas::{Catalogue, View};
use crate::spans::Sampler;
use crate::statement::{Command, Facts, Statement};
use crate::wire::turn::{Bill, Status};

/// How the path of a session differs from that of its settings, for as long as the server was not asked.
#[derive(Debug, Default)]
pub(super) enum Detour {
    #[default]
    None,
    /// A text has said which it is.
    Path(Box<str>),
    /// Nobody knows.
    Unknown,
}

impl Detour {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// What is remembered of one client.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) view: Option<Rc<View>>,
    /// Of what the view was made.
    generation: u64,
    settings: Option<Arc<Settings>>,
    pub(super) detour: Detour,
    /// For how many nanoseconds it has just waited for a server connection.
    pub(super) waited: Option<NonZeroU64>,
    /// Bytes of Parse messages whose statement is not bound yet.
    pub(super) parsed: u32,
    /// What was said of the unnamed statement.
    unnamed: Option<Box<Said>>,
    /// Its queries that are recorded.
    pub(super) traces: Seldom<Traces>,
}

impl Account {
    /// This was said of the unnamed statement.
    pub(super) fn says(&mut self, said: Said) {
        match &mut self.unnamed {
            Some(unnamed) => **unnamed = said,
            None if said.is_nothing() => {}
            None => self.unnamed = Some(Box::new(said)),
        }
    }

    /// What was.
    pub(super) fn said(&self) -> Said {
        self.unnamed.as_deref().cloned().unwrap_or_default()
    }
}

/// What is remembered of it while it has a server connection.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The detour that ends with the transaction.
    pub(super) local: Detour,
    /// When the last statement ended.
    ended: u64,
    /// DDL was carried out in the transaction.
    changes: bool,
    /// So were statements that make or change what runs when others are used.
    pub(super) defines: bool,
    docket: Docket,
}

impl Course {
    /// Whether the client's view is that of a transaction only.
    pub(super) fn has_detour(&self) -> bool {
        !self.local.is_none()
    }

    /// It gives the server connection back: nothing is under way.
    pub(super) fn clear(&mut self) {
        (self.local, self.ended, self.changes, self.defines) = (Detour::None, 0, false, false);
        self.docket.clear();
    }
}

/// What is needed to count.
pub(super) struct Books<'a> {
    pub(super) account: &'a mut Account,
    pub(super) course: &'a mut Course,
    /// Where statements are counted by schema, and what knows those.
    pub(super) by_schema: Option<(&'a Traffic, &'a Catalogue)>,
    /// Where they are counted by shape, and as whose.
    table: Option<(&'a RefCell<Table>, &'a PoolMetrics)>,
    /// When statements are slow, and whether the log then shows their literals.
    pub(super) slow: Option<(Duration, bool)>,
    views: &'a RefCell<Views>,
    pub(super) clock: &'a Clock,
    /// Where queries are recorded, if any are.
    pub(super) sampler: Option<&'a Sampler>,
}

impl<'a> Books<'a> {
    /// Where anybody counts.
    pub(super) fn open(
        (account, course): (&'a mut Seldom<Account>, &'a mut Course),
        shard: &'a Shard,
        pool: &'a Pool,
        worker: &'a Worker,
    ) -> Option<Self> {
        let by_schema = shard.traffic().zip(pool.catalogue().map(|catalogue| &**catalogue));
        let table = worker.table.as_ref().map(|table| (table, &**pool.metrics()));
        let slow = pool.route().slow_query.map(|after| (after, worker.shared.config.log.slow_query.literals));
        let sampler = worker.sampler.as_ref();
        if by_schema.is_none() && table.is_none() && slow.is_none() && sampler.is_none() {
            return None;
        }
        let (views, clock) = (&worker.views, &worker.shared.clock);
        Some(Self { account: account.get(), course, by_schema, table, slow, views, clock, sampler })
    }

    /// The view of the session, if it is needed. `moved` says that its settings may be others than those that are known.
    pub(super) fn view(&mut self, pool: &Pool, settings: &Arc<Settings>, moved: bool) -> Option<Rc<View>> {
        let (_, catalogue) = self.by_schema?;
        let (account, course) = (&mut *self.account, &mut *self.course);
        let generation = catalogue.generation();
        let detours = !account.detour.is_none() || !course.local.is_none();
        if detours && !moved {
            (account.detour, course.local, account.view) = (Detour::None, Detour::None, None);
        }
        let fresh = account.generation == generation
            && account.settings.as_ref().is_some_and(|known| Arc::ptr_eq(known, settings));
        if let Some(view) = account.view.as_ref().filter(|_| fresh) {
            return Some(Rc::clone(view));
        }
        let snapshot = catalogue.snapshot();
        let role = settings.get("role").unwrap_or(pool.user());
        let detour = if course.local.is_none() { &account.detour } else { &course.local };
        let path = match detour {
            Detour::None => settings.get("search_path"),
            Detour::Path(path) => Some(&**path),
            Detour::Unknown => None,
        };
        let view = match detour {
            Detour::Unknown => Rc::new(View::blind(snapshot)),
            _ => self.views.borrow_mut().get(&snapshot, (pool.user(), role), path),
        };
        (account.generation, account.settings) = (generation, Some(Arc::clone(settings)));
        account.view = Some(Rc::clone(&view));
        Some(view)
    }

    /// The bill of a statement, for which `received` bytes came.
    pub(super) fn bill(
        &self,
        view: Option<&View>,
        facts: &Facts,
        statement: &Statement,
        received: u32,
    ) -> Bill {
        let known = self.table.zip(statement.shape());
        let Place { row, generation } =
            known.map_or(Place::default(), |((table, pool), shape)| table.borrow().find(shape, pool));
        let schemas = self.schemas(view, facts, statement);
        let command = statement.command as u8;
        Bill { schemas, command, received, row, generation, ..Bill::default() }
    }

    fn schemas(&self, view: Option<&View>, facts: &Facts, statement: &Statement) -> u64 {
        let Some((view, (_, catalogue))) = view.zip(self.by_schema) else { return 1 << NONE };
        if statement.names_nothing() {
            return 1 << NONE;
        }
        statement.schemas(facts.named(), view.key(), |names| {
            let (schemas, missed) = view.resolve(names);
            if missed {
                catalogue.missed(self.clock.now());
            }
            schemas
        })
    }

    /// A statement is sent: what it had to wait is counted now, and what has to be known when it has ended is kept.
    pub(super) fn enter(&mut self, bill: &mut Bill, statement: Option<&Statement>, said: Said) {
        let waited = self.account.waited.take().map(NonZeroU64::get);
        if let Some((nanos, (traffic, _))) = waited.zip(self.by_schema) {
            traffic.waited(bill.schemas, Command::numbered(bill.command), nanos);
        }
        let unplaced = bill.row == 0 || self.table.is_none();
        let shape = statement.filter(|_| unplaced).and_then(Statement::shape).cloned();
        bill.ticket = self.course.docket.enter(Entry { shape, waited, said });
    }

    /// What a text says that the log of slow statements is to tell.
    pub(super) fn said(&self, text: &[u8]) -> Said {
        self.slow.map_or(Said::default(), |(_, literals)| Said::read(text, literals))
    }

    /// Counts a statement that has ended; what is to be told of it, if it was slow.
    fn close(&mut self, done: Done, (now, copied): (u64, &mut u64)) -> Option<Slow> {
        let Done { bill, sent, ended } = done;
        let mut command = Command::numbered(bill.command);
        let (carried, rows, failed) = match ended {
            Ended::Carried(rows, tag) => {
                if command == Command::Unknown {
                    command = Command::of_tag(&tag);
                }
                (true, rows, None)
            }
            Ended::Suspended(rows) => (false, rows, None),
            Ended::Failed([first, second, ..]) => (false, 0, Some([first, second])),
        };
        let mut received = u64::from(bill.received);
        if command == Command::Copy {
            received += std::mem::take(copied);
        }
        // What was sent behind another statement began when that had ended.
        let timed = bill.is_due() && (carried || failed.is_some());
        let server = timed.then(|| now.saturating_sub(bill.sent.max(self.course.ended)));
        self.course.ended = now;
        self.course.changes |= command == Command::Ddl;
        let schemas = if bill.is_due() { bill.schemas } else { 1 << NONE };
        let counts = Counts { carried, rows, failed, received, sent, server };
        if let Some((traffic, _)) = self.by_schema {
            traffic.count(schemas, command, counts);
        }
        let Entry { shape, waited, said } = self.course.docket.close(bill.ticket);
        let mut place = Place { row: bill.row, generation: bill.generation };
        if let Some((table, pool)) = self.table {
            let table = &mut *table.borrow_mut();
            if let Some(shape) = &shape {
                place = table.enter(shape, pool);
            }
            table.count(place, schemas, &counts);
            if let Some(nanos) = waited {
                table.waited(place, nanos);
            }
        }
        let (waited, server) = (Duration::from_nanos(waited.unwrap_or(0)), Duration::from_nanos(server?));
        let (after, _) = self.slow?;
        if waited + server < after {
            return None;
        }
        let known = self.table.and_then(|(table, _)| table.borrow().shape(place).cloned());
        Some(Slow { shape: shape.or(known), said, waited, server, rows, failed })
    }
}

impl Session {
    /// It has waited since then for a server connection.
    pub(super) fn has_waited(&mut self, since: u64) {
        if !self.counts() {
            return;
        }
        let (now, account) = (self.worker.shared.clock.exact(), self.account.get());
        account.waited = NonZeroU64::new(now.saturating_sub(since));
        if self.worker.sampler.is_some() {
            account.traces.get().waited = Some((since, now));
        }
    }

    /// Moves what was counted to the metrics.
    pub(super) fn settle_accounts(&mut self, tally: &mut Tally) {
        let seen = &mut tally.seen;
        for (counter, n) in [
            (Counter::Queries, u64::from(std::mem::take(&mut self.client.requests.queries))),
            (Counter::Transactions, u64::from(std::mem::take(&mut seen.transactions))),
            (Counter::ReceivedBytes, std::mem::take(&mut tally.received) as u64),
            (Counter::SentBytes, std::mem::take(&mut tally.sent) as u64),
            (Counter::ServerErrors, u64::from(std::mem::take(&mut seen.errors))),
            (Counter::PreparedHits, u64::from(std::mem::take(&mut tally.prepared.hits))),
            (Counter::PreparedMisses, u64::from(std::mem::take(&mut tally.prepared.misses))),
            (Counter::PreparedEvictions, u64::from(std::mem::take(&mut tally.prepared.evictions))),
        ] {
            if n > 0 {
                self.shard.add(counter, n);
            }
        }
        seen.ready = 0;
        for kind in tally.refusals.drain(..) {
            self.worker.shared.metrics.refused(kind);
        }
        if !tally.refused.is_empty() {
            self.note_refusals(&mut tally.refused);
        }
        if !tally.slow.is_empty() {
            self.tell_slow(&mut tally.slow);
        }
    }
}

impl Exchange<'_> {
    /// What is sent now is sent at this time.
    pub(super) fn stamp(&mut self) {
        if let Some(books) = &self.books {
            let now = books.clock.exact();
            self.server.turn.set_time(now);
        }
    }

    /// Counts what has ended.
    pub(super) fn close_books(&mut self) {
        let Some(books) = &mut self.books else { return };
        let mut now = 0;
        for done in self.server.take_done() {
            if now == 0 {
                now = books.clock.exact();
            }
            if self.rules.traced {
                books.account.traces.get().note(&done, now);
            }
            if let Some(slow) = books.close(done, (now, &mut self.client.requests.copied)) {
                self.tally.slow.push(slow);
            }
        }
        if !self.server.turn.awaits_reply() && self.server.turn.status() == Status::Idle {
            books.course.docket.clear();
        }
        if self.rules.traced && self.tally.seen.ready > 0 {
            self.settle_traces();
        }
        let Some(books) = &mut self.books else { return };
        if self.tally.seen.transactions > 0 {
            let (account, course) = (&mut *books.account, &mut *books.course);
            if std::mem::take(&mut course.defines) {
                self.pool.definitions_have_changed();
            }
            if std::mem::take(&mut course.changes)
                && let Some((_, catalogue)) = books.by_schema
            {
                catalogue.has_changed(books.clock.now());
            }
            if !course.local.is_none() {
                (course.local, account.view) = (Detour::None, None);
            }
        }
    }
}
