//! The life of a client that is logged in. It waits without a server connection, leases one when it asks for
//! something, and gives it back when its transaction ends; the relay between is `exchange`'s.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::books::{Account, Books};
use super::client::Client;
use super::exchange::{End, Exchange, Rules};
use super::footprint::Footprint;
use super::handover::Transfer;
use super::holdings::Holdings;
use super::identity::Identity;
use super::phase::{self, Phase};
use super::refuse;
use super::seldom::Seldom;
use super::settle::Inquiry;
use super::visit::{Stay, Visit};
use super::watch::Watch;
use super::worker::{Counted, Worker};
use crate::backend::settings::{Parameters, Settings};
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
    pub(super) inquiry: Option<Box<Inquiry>>,
    /// How far what it listens to is on its way to the hub.
    pub(super) transfer: Option<Box<Transfer>>,
    /// What its statements are counted under.
    pub(super) account: Seldom<Account>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shard.add(Counter::ClientsClosed, 1);
    }
}

impl Session {
    /// With the settings of its startup packet, and what it was told of them.
    pub(super) fn new(
        client: Client,
        worker: Rc<Worker>,
        identity: Identity,
        (startup, welcome): (Arc<Settings>, Arc<Parameters>),
    ) -> Self {
        let shard = identity.pool.metrics().shard(worker.id);
        shard.add(Counter::ClientsOpened, 1);
        let watch = worker.watches.register();
        let told = Told::new(Arc::clone(&welcome), Arc::clone(&startup));
        let number = worker.next_number();
        let holdings =
            Holdings::new((startup, welcome), number, &mut worker.texts.borrow_mut(), &identity.pool);
        Self {
            client,
            worker,
            identity,
            shard,
            watch,
            phase: Phase::Running,
            holdings,
            told,
            inquiry: None,
            transfer: None,
            account: Seldom::default(),
        }
    }

    /// Serves the client to its end, until which it counts as one.
    pub(super) async fn run(mut self: Box<Self>, _count: Counted) {
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
            // Boxed, like all that a session seldom needs: an idle client occupies memory for the largest of its futures.
            Box::pin(self.client.say_goodbye(&words)).await;
            return;
        }
    }

    /// From one wait for a request to the return of the server connection. What is large and needed only with a lease lies
    /// in its `Stay`, so that this future, and with it every idle client, stays small.
    async fn serve(&mut self) -> Result<(), Finish> {
        if self.worker.draining.get() {
            return Err(phase::refusal(ErrorKind::Shutdown).into());
        }
        self.enter(self.resting());
        let stay = match self.begin_own() {
            Some(stay) => stay,
            None => {
                self.client.slim();
                // Nothing may be awaited between this and the use of the scratch memory.
                let length = std::future::poll_fn(|cx| self.poll_request(cx)).await?;
                match self.begin(length) {
                    Ok(stay) => stay,
                    Err(mut checkout) => {
                        let equipped = self.equip(&mut checkout).await;
                        self.identity.cancel.target.has_waited();
                        equipped?;
                        match self.begin_equipped(checkout) {
                            Some(stay) => stay,
                            None => return Ok(()),
                        }
                    }
                }
            }
        };
        self.relay(stay).await
    }

    /// In session mode, begins the visit that lasts as long as the client.
    fn begin_own(&mut self) -> Option<Box<Stay>> {
        let lease = self.identity.own.take()?;
        Some(self.visit(*lease, 0))
    }

    /// Begins a visit if there is a server connection for the client; otherwise the request is put aside.
    fn begin(&mut self, length: usize) -> Result<Box<Stay>, Checkout> {
        let mut checkout = self.checkout();
        let mut fits = false;
        if let Checkout::Ready(lease) = &mut checkout {
            fits = lease.has(&self.holdings.settings, self.holdings.client());
        }
        match checkout {
            Checkout::Ready(lease) if fits => Ok(self.visit(lease, length)),
            checkout => {
                self.client.put_aside(&self.worker.scratch.borrow()[..length], true);
                Err(checkout)
            }
        }
    }

    /// Begins a visit with a server connection that the client has waited for; `None` if it got none.
    fn begin_equipped(&mut self, checkout: Checkout) -> Option<Box<Stay>> {
        let Checkout::Ready(lease) = checkout else { return None };
        Some(self.visit(lease, 0))
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

    /// Begins a visit. `length` bytes of the scratch memory are the client's first request; with 0, it was put aside.
    fn visit(&mut self, mut lease: Lease, length: usize) -> Box<Stay> {
        let mut stay = self.worker.stay();
        if self.holdings.lookout.is_absent() {
            std::mem::swap(&mut self.holdings.lookout, &mut stay.lookout);
        }
        let visit = &mut stay.visit;
        self.identity.cancel.target.aim(lease.cancel_key());
        self.shard.add(Counter::Checkouts, 1);
        std::mem::swap(&mut lease.told, &mut self.told);
        self.holdings.renew_hidden(&self.identity.pool);
        visit.changes = lease.parameters().changes();
        visit.footprint.returns = lease.last_client == self.holdings.client();
        lease.last_client = self.holdings.client();
        if lease.used && !visit.footprint.returns && self.identity.pool.reads_sequences() {
            lease.queue_statement("DISCARD SEQUENCES", &[]);
            lease.queue_sync();
        }
        lease.set_exclusive(self.keeps(&visit.footprint));
        lease.count(self.counts());
        lease.used = true;
        if length > 0 {
            let worker = Rc::clone(&self.worker);
            let scratch = worker.scratch.borrow();
            stay.end = self.exchange(&mut lease, visit).pass_on(&scratch[..length]).err();
        }
        stay.lease = Some(lease);
        stay
    }

    fn exchange<'a>(&'a mut self, lease: &'a mut Lease, visit: &'a mut Visit) -> Exchange<'a> {
        let mode = self.identity.pool.route().mode;
        let asking = self.asks() || self.holdings.listening.is_handing_over();
        let Visit { footprint, tally, course, .. } = visit;
        let account = (&mut self.account, course);
        let books = Books::open(account, &self.shard, &self.identity.pool, &self.worker);
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
                traced: books.as_ref().is_some_and(|books| books.sampler.is_some()),
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
    pub(super) fn counts(&self) -> bool {
        let slow = self.identity.pool.route().slow_query.is_some();
        let watched = self.worker.table.is_some() || self.worker.sampler.is_some();
        slow || watched || self.shard.traffic().is_some()
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
