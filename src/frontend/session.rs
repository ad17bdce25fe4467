//! The life of a client that is logged in. It waits without a server connection, leases one when it asks for
//! something, and gives it back when its transaction ends; the relay between is `exchange`'s.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::cancel::Target;
use super::client::Client;
use super::exchange::{End, Exchange, Tally};
use super::watch::Watch;
use super::worker::Worker;
use super::{login, refuse};
use crate::backend::reset;
use crate::backend::settings::Settings;
use crate::clock::millis;
use crate::config::PoolMode;
use crate::error::{ErrorKind, Refusal};
use crate::metrics::{Counter, Shard};
use crate::pool::{Checkout, Lease, Permit, Pool, Wait};
use crate::relay::request::Footprint;
use crate::wire::frame;
use crate::wire::tag::SessionState;

/// What a login found out.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Arc<Settings>,
    pub(super) cancel: ((u32, u32), Arc<Target>),
    /// Its places under the limits of clients, held and never read.
    pub(super) _permits: Vec<Permit>,
}

/// What a client is doing, which decides the time-out that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Waiting,
    Running,
    InTransaction,
}

/// Why a session ended.
#[derive(Debug)]
enum Finish {
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
    client: Client,
    worker: Rc<Worker>,
    identity: Identity,
    shard: Arc<Shard>,
    watch: Rc<Watch>,
    phase: Phase,
    /// Why the client keeps its server connection, if it does.
    pinned: Option<SessionState>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.worker.shared.cancels.forget(self.identity.cancel.0);
        self.shard.add(Counter::ClientsClosed, 1);
    }
}

impl Session {
    pub(super) fn new(client: Client, worker: Rc<Worker>, identity: Identity) -> Self {
        let shard = identity.pool.metrics().shard(worker.id);
        shard.add(Counter::ClientsOpened, 1);
        let watch = worker.watches.register();
        Self { client, worker, identity, shard, watch, phase: Phase::Running, pinned: None }
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
                tracing::info!(database, user, kind = refusal.kind.as_str(), reason = %refusal, "a session was ended");
            }
            let words =
                if let Finish::Refused(refusal) = finish { refuse::encode(&refusal) } else { Vec::new() };
            self.client.say_goodbye(&words).await;
            return;
        }
    }

    /// From one wait for a request to the return of the server connection.
    async fn serve(&mut self) -> Result<(), Finish> {
        if self.worker.draining.get() {
            return Err(shutdown().into());
        }
        self.enter(Phase::Idle);
        self.client.slim();
        // Nothing may be awaited between this and the use of the scratch memory.
        let length = std::future::poll_fn(|cx| self.poll_request(cx)).await?;
        let checkout = {
            let mut aside = self.worker.aside.borrow_mut();
            self.identity.pool.checkout(self.worker.id, &mut aside)
        };
        match checkout {
            Checkout::Ready(lease) => self.relay(lease, length).await,
            Checkout::Refused(error) => Err(error.refusal(self.identity.pool.database()).into()),
            Checkout::Wait(mut wait) => {
                self.client.put_aside(&self.worker.scratch.borrow()[..length], true);
                self.enter(Phase::Waiting);
                let lease = std::future::poll_fn(|cx| self.poll_wait(&mut wait, cx)).await?;
                drop(wait);
                self.relay(lease, 0).await
            }
        }
    }

    /// Ready when the scratch memory holds at least the header of a request; with its length.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Finish>> {
        loop {
            if let Poll::Ready(reason) = self.watch.poll(cx) {
                return Poll::Ready(Err(self.timed_out(reason).into()));
            }
            let worker = Rc::clone(&self.worker);
            let scratch = &mut *worker.scratch.borrow_mut();
            if let Poll::Ready(Err(_)) = self.client.poll_flush(cx) {
                return Poll::Ready(Err(Finish::Left));
            }
            let before = self.client.aside();
            let length = match ready!(self.client.poll_fill(cx, scratch)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Finish::Left)),
                Ok(length) => length,
            };
            self.shard.add(Counter::ReceivedBytes, (length - before) as u64);
            return Poll::Ready(match frame::request(&scratch[..length]) {
                Ok(None) => {
                    self.client.put_aside(&scratch[..length], false);
                    continue;
                }
                Ok(Some(header)) if header.tag == b'X' => Err(Finish::Left),
                Ok(Some(_)) => Ok(length),
                Err(error) => Err(Refusal::new(ErrorKind::ProtocolViolation, error.to_string()).into()),
            });
        }
    }

    /// Ready when a server connection came free, or when there is no point in waiting any longer.
    fn poll_wait(&mut self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<Lease, Finish>> {
        if let Poll::Ready(lease) = wait.poll(cx) {
            let refusal =
                |error: crate::backend::connect::ConnectError| error.refusal(self.identity.pool.database());
            return Poll::Ready(lease.map_err(|error| refusal(error).into()));
        }
        if let Poll::Ready(reason) = self.watch.poll(cx) {
            return Poll::Ready(Err(match reason {
                ErrorKind::QueryWaitTimeout => login::waited_too_long(&self.identity.pool).into(),
                reason => self.timed_out(reason).into(),
            }));
        }
        // A client that is gone should not take a server connection from those that are not.
        let worker = Rc::clone(&self.worker);
        let scratch = &mut *worker.scratch.borrow_mut();
        if self.client.aside() < scratch.len() / 2 {
            let before = self.client.aside();
            match self.client.poll_fill(cx, scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Finish::Left)),
                Poll::Ready(Ok(length)) => {
                    self.shard.add(Counter::ReceivedBytes, (length - before) as u64);
                    self.client.put_aside(&scratch[..length], true);
                    cx.waker().wake_by_ref();
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Serves the client on a server connection until it can go back. `length` bytes of the scratch memory are the
    /// client's first request; with 0, it was put aside.
    async fn relay(&mut self, mut lease: Lease, length: usize) -> Result<(), Finish> {
        self.identity.cancel.1.aim(lease.cancel_key());
        self.shard.add(Counter::Checkouts, 1);
        lease.adopt(&self.identity.settings);
        let (mut footprint, mut tally) = (Footprint::default(), Tally::default());
        let mut end = None;
        if length > 0 {
            let worker = Rc::clone(&self.worker);
            let scratch = worker.scratch.borrow();
            end = self.exchange(&mut lease, &mut footprint, &mut tally).pass_on(&scratch[..length]).err();
        }
        loop {
            let settled = lease.is_settled() && self.client.requests.between_messages();
            let end = match end.take() {
                Some(end) => end,
                None if settled && self.client.aside() == 0 && !self.keeps(&footprint) => End::Settled,
                None => {
                    std::future::poll_fn(|cx| self.poll_relay(&mut lease, &mut footprint, &mut tally, cx))
                        .await
                }
            };
            self.settle_accounts(&mut footprint, &mut tally);
            match end {
                End::Settled if self.worker.draining.get() => {
                    self.retire(lease);
                    return Err(shutdown().into());
                }
                End::Settled if self.keeps(&footprint) => {}
                End::Settled => {
                    self.give_back(lease);
                    return Ok(());
                }
                other => return Err(self.part(lease, other, tally.seen.farewell)),
            }
        }
    }

    fn exchange<'a>(
        &'a mut self,
        lease: &'a mut Lease,
        footprint: &'a mut Footprint,
        tally: &'a mut Tally,
    ) -> Exchange<'a> {
        let mode = self.identity.pool.route().mode;
        Exchange {
            client: &mut self.client,
            server: lease,
            footprint,
            tally,
            shared: mode != PoolMode::Session,
            statement_mode: mode == PoolMode::Statement,
        }
    }

    fn poll_relay(
        &mut self,
        lease: &mut Lease,
        footprint: &mut Footprint,
        tally: &mut Tally,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        if let Poll::Ready(reason) = self.watch.poll(cx) {
            return Poll::Ready(End::Refused(self.timed_out(reason)));
        }
        let worker = Rc::clone(&self.worker);
        let end = self.exchange(lease, footprint, tally).poll(cx, &mut worker.scratch.borrow_mut());
        let phase = match () {
            () if lease.turn.awaits_reply() => Phase::Running,
            () if lease.is_settled() => Phase::Idle,
            () => Phase::InTransaction,
        };
        if phase != self.phase || tally.seen.ready > 0 {
            self.enter(phase);
        }
        if end.is_pending() {
            self.settle_accounts(footprint, tally);
        }
        end
    }

    /// Moves what was counted to the metrics, and notes what keeps the client on its server connection.
    fn settle_accounts(&mut self, footprint: &mut Footprint, tally: &mut Tally) {
        let seen = &mut tally.seen;
        for (counter, n) in [
            (Counter::Queries, u64::from(std::mem::take(&mut footprint.queries))),
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
        if self.identity.pool.route().mode == PoolMode::Session {
            return;
        }
        if std::mem::take(&mut seen.discarded) {
            self.pinned = None;
            footprint.named_statement = false;
        }
        let named = footprint.named_statement.then_some(SessionState::PreparedStatement);
        let reason = seen.leaves.take().or(named);
        if let (None, Some(reason)) = (self.pinned, reason) {
            self.pinned = Some(reason);
            self.shard.pinned(reason);
            let (database, user) = (self.identity.pool.database(), self.identity.pool.user());
            tracing::info!(
                database,
                user,
                reason = reason.as_str(),
                "a client is pinned to its server connection"
            );
        }
    }

    /// Whether the client keeps its server connection though nothing is under way.
    fn keeps(&self, footprint: &Footprint) -> bool {
        self.identity.pool.route().mode == PoolMode::Session || self.pinned.is_some() || footprint.will_bind()
    }

    /// Returns a server connection that is settled and unpinned.
    fn give_back(&self, lease: Lease) {
        if self.identity.cancel.1.release() {
            drop(lease);
        } else {
            self.retire(lease);
        }
    }

    /// Returns a server connection that something has to be done about first, in a task of its own.
    fn retire(&self, mut lease: Lease) {
        let target = Arc::clone(&self.identity.cancel.1);
        let no_cancel_under_way = target.release();
        lease.needs_reset = self.pinned.is_some() || self.identity.pool.route().mode == PoolMode::Session;
        if lease.at_rest() && no_cancel_under_way {
            return;
        }
        let whole_messages = self.client.requests.between_messages();
        tokio::task::spawn_local(async move {
            if let Err(error) = reset::bring_to_rest(&mut lease, whole_messages).await {
                tracing::debug!(%error, "a server connection is closed");
                lease.spoil();
            }
            target.settle().await;
        });
    }

    /// Ends the session after the relay ended.
    fn part(&self, mut lease: Lease, end: End, farewell: bool) -> Finish {
        let finish = match end {
            End::Settled | End::Left => Finish::Left,
            End::Refused(refusal) => refusal.into(),
            End::ServerLost(error) => {
                tracing::warn!(
                    database = self.identity.pool.database(),
                    user = self.identity.pool.user(),
                    %error,
                    "a server connection was lost"
                );
                lease.spoil();
                if farewell { Finish::Told } else { login::server_lost().into() }
            }
        };
        let torn = lease.is_mid_reply();
        self.retire(lease);
        match finish {
            Finish::Refused(refusal) if torn => Finish::Torn(refusal),
            finish => finish,
        }
    }

    /// Starts the time-out of a phase.
    fn enter(&mut self, phase: Phase) {
        let timeouts = &self.identity.pool.route().timeouts;
        let (limit, reason) = match phase {
            Phase::Idle => (timeouts.client_idle, ErrorKind::ClientIdle),
            Phase::Waiting => (Some(timeouts.query_wait), ErrorKind::QueryWaitTimeout),
            Phase::Running => (timeouts.query, ErrorKind::QueryTimeout),
            Phase::InTransaction => (timeouts.idle_in_transaction, ErrorKind::IdleInTransaction),
        };
        let now = self.worker.shared.clock.now();
        self.watch.set(limit.map(|limit| now.saturating_add(millis(limit))), reason, phase != Phase::Idle);
        self.phase = phase;
    }

    fn timed_out(&self, reason: ErrorKind) -> Refusal {
        match reason {
            ErrorKind::ClientIdle => {
                Refusal::new(reason, "terminating connection due to idle-session timeout")
            }
            ErrorKind::IdleInTransaction => {
                Refusal::new(reason, "terminating connection due to idle-in-transaction timeout")
            }
            ErrorKind::QueryTimeout => {
                Refusal::new(reason, "canceling statement due to the proxy's query timeout")
            }
            _ => shutdown(),
        }
    }
}

fn shutdown() -> Refusal {
    Refusal::new(ErrorKind::Shutdown, "terminating connection due to administrator command")
}
