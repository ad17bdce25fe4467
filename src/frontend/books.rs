//! What a client's statements are counted under: the schemas that they name, and the time that the server takes.
//!
//! At the request, a statement gets its bill, which waits in the turn with the reply that is owed. What its names come to
//! is looked up once for each text and path, and remembered beside the text's facts; after that it is two comparisons.
//! At the reply, the bill is counted. The clock is read once for what is sent together and once for what comes together.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::exchange::{Exchange, Tally};
use super::judge::Message;
use super::session::Session;
use super::views::Views;
use super::worker::Worker;
use crate::backend::settings::Settings;
use crate::clock::Clock;
use crate::metrics::roster::NONE;
use crate::metrics::{Counter, Counts, Place, PoolMetrics, Shard, Table, Traffic};
use crate::pool::{Lease, Pool};
use crate::relay::reply::{Done, Ended};
use crate::relay::request;
use crate::schemas::{Catalogue, View};
use crate::statement::{Command, Facts, Statement, States, Touched};
use crate::wire::turn::Bill;

/// How the path of a session differs from that of its settings, for as long as the server was not asked.
#[derive(Debug, Default)]
enum Detour {
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
    view: Option<Rc<View>>,
    /// Of what the view was made.
    generation: u64,
    settings: Arc<Settings>,
    detour: Detour,
    /// The one that ends with the transaction.
    local: Detour,
    /// For how many nanoseconds it has just waited for a server connection.
    pub(super) waited: Option<u64>,
    /// When the last statement ended.
    ended: u64,
    /// DDL was carried out in the transaction.
    changes: bool,
    /// So were statements that make or change what runs when others are used.
    defines: bool,
    /// Bytes of Parse messages whose statement is not bound yet.
    parsed: u32,
}

/// What is needed to count.
pub(super) struct Books<'a> {
    account: &'a mut Account,
    /// Where statements are counted by schema, and what knows those.
    by_schema: Option<(&'a Traffic, &'a Catalogue)>,
    /// Where they are counted by shape, and as whose.
    table: Option<(&'a RefCell<Table>, &'a PoolMetrics)>,
    views: &'a RefCell<Views>,
    clock: &'a Clock,
}

impl<'a> Books<'a> {
    /// Where anybody counts.
    pub(super) fn open(
        account: &'a mut Account,
        shard: &'a Shard,
        pool: &'a Pool,
        worker: &'a Worker,
    ) -> Option<Self> {
        let by_schema = shard.traffic().zip(pool.catalogue().map(|catalogue| &**catalogue));
        let table = worker.table.as_ref().map(|table| (table, &**pool.metrics()));
        if by_schema.is_none() && table.is_none() {
            return None;
        }
        Some(Self { account, by_schema, table, views: &worker.views, clock: &worker.shared.clock })
    }

    /// The view of the session, if it is needed. `moved` says that its settings may be others than those that are known.
    fn view(&mut self, pool: &Pool, settings: &Arc<Settings>, moved: bool) -> Option<Rc<View>> {
        let (_, catalogue) = self.by_schema?;
        let (account, generation) = (&mut *self.account, catalogue.generation());
        let detours = !account.detour.is_none() || !account.local.is_none();
        if detours && !moved {
            (account.detour, account.local, account.view) = (Detour::None, Detour::None, None);
        }
        let fresh = account.generation == generation && Arc::ptr_eq(&account.settings, settings);
        if let Some(view) = account.view.as_ref().filter(|_| fresh) {
            return Some(Rc::clone(view));
        }
        let snapshot = catalogue.snapshot();
        let role = settings.get("role").unwrap_or(pool.user());
        let detour = if account.local.is_none() { &account.detour } else { &account.local };
        let path = match detour {
            Detour::None => settings.get("search_path"),
            Detour::Path(path) => Some(&**path),
            Detour::Unknown => None,
        };
        let view = match detour {
            Detour::Unknown => Rc::new(View::blind(snapshot)),
            _ => self.views.borrow_mut().get(&snapshot, (pool.user(), role), path),
        };
        (account.generation, account.settings) = (generation, Arc::clone(settings));
        account.view = Some(Rc::clone(&view));
        Some(view)
    }

    /// The bill of a statement, for which `received` bytes came.
    fn bill(&self, view: Option<&View>, facts: &Facts, statement: &Statement, received: u32) -> Bill {
        let Place { row, generation } = self.place(statement);
        let schemas = self.schemas(view, facts, statement);
        Bill { schemas, command: statement.command as u8, received, row, generation, sent: 0 }
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

    fn place(&self, statement: &Statement) -> Place {
        let Some(((table, pool), shape)) = self.table.zip(statement.shape()) else { return Place::default() };
        table.borrow_mut().place(shape, pool)
    }

    /// A statement is sent: what it had to wait is counted now.
    fn waited(&mut self, bill: Bill) {
        if let Some(nanos) = self.account.waited.take() {
            if let Some((traffic, _)) = self.by_schema {
                traffic.waited(bill.schemas, Command::numbered(bill.command), nanos);
            }
            if let Some((table, _)) = self.table {
                table.borrow().waited(place(bill), nanos);
            }
        }
    }

    fn close(&mut self, done: Done, (now, copied): (u64, &mut u64)) {
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
            Ended::Failed(class) => (false, 0, Some(class)),
        };
        let mut received = u64::from(bill.received);
        if command == Command::Copy {
            received += std::mem::take(copied);
        }
        // What was sent behind another statement began when that had ended.
        let timed = bill.is_due() && (carried || failed.is_some());
        let server = timed.then(|| now.saturating_sub(bill.sent.max(self.account.ended)));
        self.account.ended = now;
        self.account.changes |= command == Command::Ddl;
        let schemas = if bill.is_due() { bill.schemas } else { 1 << NONE };
        let counts = Counts { carried, rows, failed, received, sent, server };
        if let Some((traffic, _)) = self.by_schema {
            traffic.count(schemas, command, counts);
        }
        if let Some((table, _)) = self.table {
            table.borrow_mut().count(place(bill), schemas, &counts);
        }
    }
}

impl Session {
    /// It has waited since then for a server connection.
    pub(super) fn has_waited(&mut self, since: u64, lease: Lease) -> Lease {
        self.account.waited = Some(self.worker.shared.clock.exact().saturating_sub(since));
        lease
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

    /// The bill of the first statement of a text, for which `received` bytes came.
    pub(super) fn bill(&mut self, facts: &Facts, received: usize) -> Bill {
        let Some(books) = &mut self.books else { return Bill::default() };
        let moved = self.holdings.lookout.planning || !self.rules.shared || facts.changes_path();
        let view = books.view(self.pool, &self.holdings.settings, moved);
        books.account.defines |= facts.defines();
        let received = u32::try_from(received).unwrap_or(u32::MAX);
        match facts.named().statement(0) {
            Some(first) => books.bill(view.as_deref(), facts, first, received),
            None => Bill { schemas: 1 << NONE, received, ..Bill::default() },
        }
    }

    /// The bill of a Query; those of its second and following statements are put behind it.
    pub(super) fn bill_query(&mut self, facts: &Rc<Facts>, received: usize) -> Bill {
        if self.books.is_none() {
            return Bill::default();
        }
        self.turn_off(facts);
        let mut bill = self.bill(facts, received);
        if let Some(executed) = self.executes(facts) {
            bill = bill.executing(self.bill(&executed, 0));
        }
        let Some(books) = &mut self.books else { return bill };
        books.waited(bill);
        if facts.named().len() > 1 {
            let view = books.view(self.pool, &self.holdings.settings, true);
            let numbers = 1..facts.named().len();
            let following = numbers.filter_map(|number| {
                let statement = facts.named().statement(number)?;
                Some(books.bill(view.as_deref(), facts, statement, 0))
            });
            self.server.turn.bill_next_statements(following);
        }
        bill
    }

    /// What the text executes that was prepared, where it is nothing but that.
    fn executes(&self, facts: &Facts) -> Option<Rc<Facts>> {
        let first = facts.named().statement(0)?;
        let only = facts.effects.prepared_names.len() == 1 && facts.named().len() == 1;
        if !only || first.command != Command::Unknown || !first.names_nothing() {
            return None;
        }
        let name = facts.effects.prepared_names.first()?;
        let executed = self.holdings.executed(&facts.effects).pop();
        executed.or_else(|| self.footprint.own(name.as_bytes()).cloned())
    }

    /// The bill of a Parse: what an error would be counted under.
    pub(super) fn bill_parse(&mut self, facts: &Facts, length: usize) -> Bill {
        let bill = self.bill(facts, 0);
        if let Some(books) = &mut self.books {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            books.account.parsed = books.account.parsed.saturating_add(length);
        }
        bill
    }

    /// The bill of a Bind, and of the Executes of its portal; of nothing that is known without facts.
    pub(super) fn bill_bind(&mut self, portal: &[u8], facts: Option<&Rc<Facts>>, length: usize) -> Bill {
        let Some(books) = &mut self.books else { return Bill::default() };
        let length = std::mem::take(&mut books.account.parsed) as usize + length;
        let bill = match facts {
            Some(facts) => {
                self.turn_off(facts);
                let mut bill = self.bill(facts, length);
                if let Some(executed) = self.executes(facts) {
                    bill = bill.executing(self.bill(&executed, 0));
                }
                bill
            }
            None => unknown(length),
        };
        if let Some(books) = &mut self.books {
            books.waited(bill);
        }
        self.server.turn.bill_portal(portal, bill);
        bill
    }

    /// The bill of a message on a server connection of the client's own; `facts` of its text, if it has one.
    pub(super) fn bill_own(&mut self, message: Message<'_>, facts: Option<&Rc<Facts>>) -> Bill {
        if self.books.is_none() {
            return Bill::default();
        }
        let length = message.header.len;
        let (first, rest) = request::c_string(message.body).unwrap_or_default();
        match (message.header.tag, facts) {
            (b'Q', Some(facts)) => {
                if let [name] = &*facts.effects.prepared_names
                    && facts.effects.suspects.contains(States::PREPARED)
                {
                    self.footprint.owns(name.as_bytes(), Some(facts));
                }
                self.bill_query(facts, length)
            }
            (b'Q', None) => unknown(length),
            (b'P', facts) => {
                self.footprint.owns(first, facts);
                facts.map_or(Bill::default(), |facts| self.bill_parse(facts, length))
            }
            (b'B', _) => {
                let statement = request::c_string(rest).unwrap_or_default().0;
                let facts = self.footprint.own(statement).cloned();
                self.bill_bind(first, facts.as_ref(), length)
            }
            (b'F', _) => self.bill_call(length),
            _ => Bill::default(),
        }
    }

    /// The bill of a message about a statement that nobody knows.
    pub(super) fn bill_unknown(&mut self, message: Message<'_>) -> Bill {
        match request::c_string(message.body) {
            Some((portal, _)) if message.header.tag == b'B' => {
                self.bill_bind(portal, None, message.header.len)
            }
            _ => Bill::default(),
        }
    }

    /// The bill of a FunctionCall: nobody looks for the schema of its number.
    pub(super) fn bill_call(&mut self, length: usize) -> Bill {
        let Some(books) = &mut self.books else { return Bill::default() };
        let bill = Bill { command: Command::Call as u8, ..unknown(length) };
        books.waited(bill);
        bill
    }

    /// A statement may change the path: what follows it is seen from there.
    fn turn_off(&mut self, facts: &Facts) {
        if !facts.changes_path() {
            return;
        }
        let Some(books) = &mut self.books else { return };
        let account = &mut *books.account;
        let detour = facts.path().map_or(Detour::Unknown, |path| Detour::Path(path.into()));
        if facts.effects.settings == Touched::None {
            account.local = detour;
        } else {
            (account.detour, account.local) = (detour, Detour::None);
        }
        account.view = None;
    }

    /// Counts what has ended.
    pub(super) fn close_books(&mut self) {
        let Some(books) = &mut self.books else { return };
        let mut now = 0;
        for done in self.server.take_done() {
            if now == 0 {
                now = books.clock.exact();
            }
            books.close(done, (now, &mut self.client.requests.copied));
        }
        if self.tally.seen.transactions > 0 {
            let account = &mut *books.account;
            if std::mem::take(&mut account.defines) {
                self.pool.definitions_have_changed();
            }
            if std::mem::take(&mut account.changes)
                && let Some((_, catalogue)) = books.by_schema
            {
                catalogue.has_changed(books.clock.now());
            }
            if !account.local.is_none() {
                (account.local, account.view) = (Detour::None, None);
            }
        }
    }
}

/// Where the shape is counted that a bill is of.
fn place(bill: Bill) -> Place {
    Place { row: bill.row, generation: bill.generation }
}

/// A statement of which only its tag will say what it is.
fn unknown(length: usize) -> Bill {
    let received = u32::try_from(length).unwrap_or(u32::MAX);
    Bill { schemas: 1 << NONE, received, ..Bill::default() }
}
