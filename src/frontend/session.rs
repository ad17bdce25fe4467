//! The life of a client that is logged in. It waits without a server connection, leases one when it asks for
//! something, and gives it back when its transaction ends; the relay between is `exchange`'s.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::books::{Account, Books};
use super::client::Client;
use super::exchange::{End, Exchange, Rules, Tally};
use super::footprint::Footprint;
use super::handover::Transfer;
use super::holdings::Holdings;
use super::identity::Identity;
use super::phase::{self, Phase};
use super::refuse;
use super::settle::{Inquiry, Settled};
use super::watch::Watch;
use super::worker::Worker;
use crate::backend::Lost;
use crate::backend::told::Told;
use crate::clock::millis;
use crate::config::PoolMode;
use crate::error::{ErrorKind, Refusal};
use crate::metrics::{Counter, Shard};
use crate::pool::{Checkout, Lease};
use crate::relay::request;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum Finish {
    /// The client left.
    Left,
    /// The client has to be told why.
    Refused(Refusal),
    /// The client would have to be told why, but has only the beginning of a reply: words would become part of it.
    Torn(Refusal),
    /// The client has been told by the server.
    Told,
}

impl From<Refusal> for Finish {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What is known of a client's use of one lease.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) footprint: Footprint,
    pub(super) tally: Tally,
    /// The client was answered with an error since its session was last looked at.
    pub(super) errors: bool,
    /// How often the server had reported another parameter by then.
    pub(super) changes: u64,
}

/// A client that is logged in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) worker: Rc<Worker>,
    pub(super) identity: Identity,
    pub(super) shard: Arc<Shard>,
    pub(super) watch: Rc<Watch>,
    phase: Phase,
    /// What its session holds, wherever it is served.
    pub(super) holdings: Holdings,
    /// What it knows of its parameters, while no server connection has that.
    pub(super) told: Told,
    /// What the server is being asked about it.
    pub(super) inquiry: Option<Inquiry>,
    /// How far what it listens to is on its way to the hub.
    pub(super) transfer: Option<Transfer>,
    /// What its statements are counted under.
    pub(super) account: Account,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shard.add(Counter::ClientsClosed, 1);
    }
}

impl Session {
    pub(super) fn new(client: Client, worker: Rc<Worker>, identity: Identity) -> Self {
        let shard = identity.pool.metrics().shard(worker.id);
        shard.add(Counter::ClientsOpened, 1);
        let watch = worker.watches.register();
        let startup = Arc::clone(&identity.settings);
        let welcome = Arc::clone(&identity.parameters);
        let holdings = Holdings::new(startup, welcome, worker.next_number(), &worker.texts.borrow());
        let told = Told::new(Arc::clone(&identity.parameters), Arc::clone(&identity.settings));
        let (phase, account) = (Phase::Running, Account::default());
        Self {
            client,
            worker,
            identity,
            shard,
            watch,
            phase,
            holdings,
            told,
            inquiry: None,
            transfer: None,
            account,
        }
    }

    /// Serves the client to its end.
    pub(super) async fn run(mut self) {
        loop {
            let finish = match self.serve().await {
                Ok(()) => continue,
                Err(finish) => finish,
            };
            if let Finish::Refused(refusal) | Finish::Torn(refusal) = &finish {
                self.shard.add(Counter::ProxyErrors, 1);
                self.worker.shared.metrics.refused(refusal.kind);
                let (database, user) = (self.identity.pool.database(), self.identity.pool.user());
                tracing::info!(database, user, kind = refusal.kind.as_str(), reason = ?refusal.message, "a session was ended");
            }
            let words =
                if let Finish::Refused(refusal) = finish { refuse::encode(&refusal) } else { Vec::new() };
            self.end_pins();
            self.client.say_goodbye(&words).await;
            return;
        }
    }

    /// From one wait for a request to the return of the server connection.
    async fn serve(&mut self) -> Result<(), Finish> {
        if self.worker.draining.get() {
            return Err(phase::refusal(ErrorKind::Shutdown).into());
        }
        self.enter(self.resting());
        if let Some(lease) = self.identity.own.take() {
            return self.relay(lease, 0).await;
        }
        self.client.slim();
        // Nothing may be awaited between this and the use of the scratch memory.
        let length = std::future::poll_fn(|cx| self.poll_request(cx)).await?;
        let mut checkout = self.checkout();
        let mut fits = false;
        if let Checkout::Ready(lease) = &mut checkout {
            fits = lease.has(&self.holdings.settings, self.holdings.client());
        }
        match checkout {
            Checkout::Ready(lease) if fits => self.relay(lease, length).await,
            checkout => {
                self.client.put_aside(&self.worker.scratch.borrow()[..length], true);
                let lease = self.equip(checkout).await;
                self.identity.cancel.target.has_waited();
                match lease? {
                    Some(lease) => self.relay(lease, 0).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Ready when the scratch memory holds a request that can be judged; with the length of all that is there.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Finish>> {
        loop {
            if let Poll::Ready(reason) = self.watch.poll(cx) {
                return Poll::Ready(Err(phase::refusal(reason).into()));
            }
            if let Poll::Ready(Err(_)) = self.client.poll_flush(cx) {
                return Poll::Ready(Err(Finish::Left));
            }
            self.poll_deliver(None, cx)?;
            if self.holdings.listening.is_handing_over() {
                return Poll::Pending;
            }
            let worker = Rc::clone(&self.worker);
            let scratch = &mut *worker.scratch.borrow_mut();
            let scratch = self.client.share(scratch);
            let length = match self.client.take_aside(scratch) {
                Some(length) => length,
                None => {
                    let before = self.client.aside();
                    let length = match ready!(self.client.poll_fill(cx, scratch)) {
                        Ok(0) | Err(_) => return Poll::Ready(Err(Finish::Left)),
                        Ok(length) => length,
                    };
                    self.shard.add(Counter::ReceivedBytes, (length - before) as u64);
                    length
                }
            };
            return Poll::Ready(
                match request::is_judgeable(&scratch[..length], self.client.requests.longest) {
                    Ok(false) => {
                        self.client.put_aside(&scratch[..length], false);
                        continue;
                    }
                    Ok(true) if scratch[0] == b'X' => Err(Finish::Left),
                    Ok(true) => Ok(length),
                    Err(error) => Err(Refusal::new(ErrorKind::ProtocolViolation, error.to_string()).into()),
                },
            );
        }
    }

    /// Serves the client on a server connection until it can go back. `length` bytes of the scratch memory are the
    /// client's first request; with 0, it was put aside.
    async fn relay(&mut self, mut lease: Lease, length: usize) -> Result<(), Finish> {
        self.identity.cancel.target.aim(lease.cancel_key());
        self.shard.add(Counter::Checkouts, 1);
        std::mem::swap(&mut lease.told, &mut self.told);
        self.holdings.renew_hidden(&self.identity.pool);
        let mut visit = Visit { changes: lease.parameters().changes(), ..Visit::default() };
        visit.footprint.returns = lease.last_client == self.holdings.client();
        lease.last_client = self.holdings.client();
        if lease.used && !visit.footprint.returns && self.identity.pool.reads_sequences() {
            lease.queue_statement("DISCARD SEQUENCES", &[]);
            lease.queue_sync();
        }
        lease.set_exclusive(self.keeps(&visit.footprint));
        lease.count(self.counts());
        lease.used = true;
        let mut end = None;
        if length > 0 {
            let worker = Rc::clone(&self.worker);
            let scratch = worker.scratch.borrow();
            end = self.exchange(&mut lease, &mut visit).pass_on(&scratch[..length]).err();
        }
        loop {
            let end = match end.take() {
                Some(end) => end,
                None => std::future::poll_fn(|cx| self.poll_relay(&mut lease, &mut visit, cx)).await,
            };
            visit.errors |= visit.tally.seen.errors > 0;
            self.settle_accounts(&mut visit.tally);
            match end {
                End::Settled => match self.settle_all(&mut lease, &mut visit).await {
                    Err(end) => return Err(self.part(lease, end, visit.tally.seen.farewell)),
                    Ok(Settled::Ask | Settled::Subscribe | Settled::Keep) => {}
                    Ok(Settled::Done) if self.worker.draining.get() => {
                        self.retire(lease, true);
                        return Err(phase::refusal(ErrorKind::Shutdown).into());
                    }
                    Ok(Settled::Done) => {
                        std::mem::swap(&mut lease.told, &mut self.told);
                        self.give_back(lease);
                        return Ok(());
                    }
                    Ok(Settled::Lost) => {
                        return Err(self.part(lease, End::ServerLost(Lost::Refused), false));
                    }
                },
                End::Spent if self.keeps(&visit.footprint) => {}
                End::Spent => {
                    lease.spoil();
                    std::mem::swap(&mut lease.told, &mut self.told);
                    self.give_back(lease);
                    return Ok(());
                }
                other => return Err(self.part(lease, other, visit.tally.seen.farewell)),
            }
        }
    }

    /// What becomes of a server connection that has settled.
    async fn settle_all(&mut self, lease: &mut Lease, visit: &mut Visit) -> Result<Settled, End> {
        match self.settle(lease, visit) {
            // Boxed, so that a session does not occupy the memory that this seldom needs.
            Settled::Subscribe => Box::pin(self.subscribe(lease, visit)).await,
            settled => Ok(settled),
        }
    }

    fn exchange<'a>(&'a mut self, lease: &'a mut Lease, visit: &'a mut Visit) -> Exchange<'a> {
        let mode = self.identity.pool.route().mode;
        let asking = self.asks() || self.holdings.listening.is_handing_over();
        let books = Books::open(&mut self.account, &self.shard, &self.identity.pool, &self.worker);
        let Visit { footprint, tally, .. } = visit;
        Exchange {
            client: &mut self.client,
            server: lease,
            footprint,
            tally,
            rules: Rules {
                shared: mode != PoolMode::Session,
                guarded: self.identity.pool.route().access.is_read_only(),
                strict: self.identity.pool.route().access.is_strict(),
                has_defaults: !self.holdings.startup().is_empty(),
                keeps: mode == PoolMode::Session || !self.holdings.pins.is_empty(),
                statement_mode: mode == PoolMode::Statement,
                counted: books.is_some(),
                asking,
            },
            books,
            holdings: &mut self.holdings,
            texts: &self.worker.texts,
            pool: &self.identity.pool,
            judged: None,
        }
    }

    pub(super) fn poll_relay(
        &mut self,
        lease: &mut Lease,
        visit: &mut Visit,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        match self.watch.poll(cx) {
            Poll::Ready(ErrorKind::UnknownStatement) => {
                visit.footprint.give_up();
                return Poll::Ready(End::Settled);
            }
            Poll::Ready(reason) => return Poll::Ready(End::Refused(phase::refusal(reason))),
            Poll::Pending => {}
        }
        let quiet = lease.is_settled() && self.client.requests.between_messages() && !self.asks();
        if quiet && let Err(refusal) = self.poll_deliver(Some(lease), cx) {
            return Poll::Ready(End::Refused(refusal));
        }
        // What settled without a reply, such as an answer that was taken before: it is not looked for again.
        let idle = lease.is_settled() && self.client.requests.between_messages() && self.client.aside() == 0;
        if idle && !self.asks() && !self.keeps(&visit.footprint) {
            return Poll::Ready(End::Settled);
        }
        let worker = Rc::clone(&self.worker);
        let end = self.exchange(lease, visit).poll(cx, &mut worker.scratch.borrow_mut());
        let phase = match () {
            () if lease.turn.awaits_reply() => Phase::Running,
            () if lease.is_settled() && visit.footprint.will_bind() && self.holdings.pins.is_empty() => {
                Phase::Held
            }
            () if lease.is_settled() || lease.turn.is_spent() => self.resting(),
            () => Phase::InTransaction,
        };
        if phase != self.phase || visit.tally.seen.ready > 0 {
            self.enter(phase);
        }
        if end.is_pending() {
            visit.errors |= visit.tally.seen.errors > 0;
            self.settle_accounts(&mut visit.tally);
        }
        end
    }

    /// Whether the client keeps its server connection though nothing is under way.
    pub(super) fn keeps(&self, footprint: &Footprint) -> bool {
        self.identity.pool.route().mode == PoolMode::Session
            || !self.holdings.pins.is_empty()
            || footprint.will_bind()
    }

    /// Whether the proxy asks the server, or the hub, something of its own.
    pub(super) fn asks(&self) -> bool {
        self.inquiry.is_some() || self.transfer.is_some()
    }

    /// Whether anybody wants to know of its statements.
    fn counts(&self) -> bool {
        let slow = self.identity.pool.route().slow_query.is_some();
        slow || self.shard.traffic().is_some() || self.worker.table.is_some()
    }

    fn resting(&self) -> Phase {
        if self.holdings.listening.is_handing_over() { Phase::Subscribing } else { Phase::Idle }
    }

    /// Starts the time-out of a phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        let (limit, reason) = phase.limit(&self.identity.pool.route().timeouts);
        let now = self.worker.shared.clock.now();
        self.watch.set(limit.map(|limit| now.saturating_add(millis(limit))), reason, phase != Phase::Idle);
        self.phase = phase;
    }
}
