//! From the server connection on which a client said LISTEN to the hub of its pool, once its transaction has ended. The
//! client keeps the connection meanwhile:
//!
//! 1. The server is asked for the channels of its session.
//! 2. Those that are new are subscribed to in the hub. From here on a notification may come both ways.
//! 3. The session notifies the client's own channel, which both listen to, and so has read everything before that.
//! 4. It stops listening, and the connection can go back.
//! 5. The same notification comes through the hub. The client's next request waits for it.
//!
//! Where the hub cannot serve the client it stays on the server connection, pinned.

use std::pin::pin;
use std::task::{Context, Poll};

use super::exchange::{End, Exchange};
use super::listening;
use super::phase::Phase;
use super::session::Session;
use super::settle::{ATTEMPTS, Settled};
use super::visit::Visit;
use crate::backend::channels;
use crate::error::Refusal;
use crate::metrics::Counter;
use crate::notify::{ListenError, MAX_NOTIFICATION};
use crate::pool::Lease;
use crate::relay::request::Walk;
use crate::statement::Facts;
use crate::wire::tag::SessionState;
use crate::wire::turn::{Asker, Status};

/// Bytes that are taken from a mailbox at once.
const ROOM: usize = 32 * 1024;
const _: () = assert!(ROOM >= MAX_NOTIFICATION);

/// How far it is.
#[derive(Debug)]
pub(super) enum Transfer {
    /// The server is asked for channels, so many times before.
    Asked(u32),
    /// The hub is asked to listen to `new`, or will be.
    Subscribing { present: Vec<String>, new: Vec<String> },
    /// The mark is on its way.
    Marking { mark: u64, present: Vec<String>, new: Vec<String> },
    /// The session is to stop listening; so many times before it was asked in vain.
    Leaving { sql: Vec<String>, attempts: u32 },
}

impl Exchange<'_> {
    /// Whether the client's next request has to wait until it is known what it listens to: it has said UNLISTEN, its
    /// transaction has ended, and nothing but replies to the proxy is owed. Otherwise it could be told of something behind
    /// the answer to that request.
    pub(super) fn must_settle_first(&self) -> bool {
        let turn = &self.server.turn;
        self.holdings.listening.has_ended()
            && turn.status() == Status::Idle
            && (turn.at_rest() || (turn.awaits_reply() && turn.next_asker() == Asker::Proxy))
            && !turn.needs_sync()
            && self.client.requests.between_messages()
    }

    /// Puts in front of a statement what will tell whether, and where, it ended listening.
    pub(super) fn arm(&mut self, walk: &mut Walk<'_>, facts: &Facts, in_batch: bool) {
        if facts.effects.listens.is_empty() {
            return;
        }
        let Some(sql) = self.holdings.listening.arm(&facts.effects, in_batch) else { return };
        self.interrupt(walk);
        self.server.set_exclusive(true);
        if in_batch {
            sql.iter().for_each(|sql| self.server.queue_within(sql));
        } else {
            sql.iter().for_each(|sql| self.server.queue_statement(sql, &[]));
            self.server.queue_sync();
        }
    }
}

impl Session {
    /// Begins.
    pub(super) fn begin_transfer(&mut self, lease: &mut Lease) -> Settled {
        self.identity.cancel.target.release();
        lease.set_exclusive(true);
        self.ask_for_channels(lease, 0)
    }

    fn ask_for_channels(&mut self, lease: &mut Lease, attempts: u32) -> Settled {
        channels::queue(lease, [channels::ASK]);
        self.transfer = Some(Box::new(Transfer::Asked(attempts)));
        Settled::Ask
    }

    /// Takes an answer, which is `None` where the server refused; `None` if it is over.
    pub(super) fn go_on(
        &mut self,
        transfer: Transfer,
        answer: Option<&[Vec<u8>]>,
        lease: &mut Lease,
    ) -> Option<Settled> {
        match (transfer, answer) {
            (Transfer::Asked(attempts), answer) => match answer.and_then(channels::read) {
                Some(present) => self.compare(present, lease),
                None if attempts + 1 < ATTEMPTS => Some(self.ask_for_channels(lease, attempts + 1)),
                None => Some(Settled::Lost),
            },
            (Transfer::Subscribing { present, new }, _) => {
                self.transfer = Some(Box::new(Transfer::Subscribing { present, new }));
                Some(Settled::Subscribe)
            }
            (Transfer::Marking { mark, present, new }, Some(_))
                if new.is_empty() || lease.told.is_marked() =>
            {
                self.holdings.listening.hand_over(mark, present.clone(), new);
                self.leave(&present, lease)
            }
            (Transfer::Marking { new, .. }, _) if new.is_empty() => Some(Settled::Lost),
            (Transfer::Marking { present, new, .. }, _) => self.stay(present, &new, lease),
            (Transfer::Leaving { .. }, Some(_)) => None,
            (Transfer::Leaving { sql, attempts }, None) if attempts + 1 < ATTEMPTS => {
                Some(self.unlisten(sql, attempts + 1, lease))
            }
            (Transfer::Leaving { .. }, None) => Some(Settled::Lost),
        }
    }

    /// Compares what the server connection has with what comes through the hub.
    fn compare(&mut self, present: Vec<String>, lease: &mut Lease) -> Option<Settled> {
        let is_pinned = self.holdings.pins.contains(SessionState::Listen);
        let listening = &mut self.holdings.listening;
        listening.found = false;
        let new = if is_pinned { Vec::new() } else { listening.new_ones(&present) };
        if !channels::is_certain(&present) {
            return self.stay(present, &[], lease);
        }
        if !new.is_empty() {
            self.transfer = Some(Box::new(Transfer::Subscribing { present, new }));
            return Some(Settled::Subscribe);
        }
        if listening.has_ended() { self.mark(present, new, lease) } else { self.leave(&present, lease) }
    }

    /// Waits for the hub, while what comes over the server connection is given to the client.
    pub(super) async fn subscribe(&mut self, lease: &mut Lease, visit: &mut Visit) -> Result<Settled, End> {
        let Some(Transfer::Subscribing { present, new }) = self.transfer.as_deref() else {
            return Ok(Settled::Keep);
        };
        let (present, new) = (present.clone(), new.clone());
        let pool = &self.identity.pool;
        let post = self.holdings.listening.open(&self.worker.shared, pool, &self.shard);
        let wanted = post.map(|post| {
            let mut channels = new.clone();
            channels.push(post.private.clone());
            (post.hub.clone(), post.mailbox.clone(), channels)
        });
        let limit = pool.route().timeouts.query_wait;
        let subscribed = async move {
            let lost = ListenError::Lost;
            let (hub, mailbox, channels) = wanted.ok_or_else(|| lost.clone())?;
            let listened = tokio::time::timeout(limit, hub.listen_all(&mailbox, &channels)).await;
            listened.unwrap_or_else(|_| Err(lost.clone()))?;
            hub.encoding().ok_or(lost)
        };
        let mut subscribed = pin!(subscribed);
        let encoding = std::future::poll_fn(|cx| {
            if let Poll::Ready(encoding) = subscribed.as_mut().poll(cx) {
                return Poll::Ready(Ok(encoding));
            }
            loop {
                match self.poll_relay(lease, visit, cx) {
                    Poll::Ready(End::Settled) => {}
                    Poll::Ready(end) => return Poll::Ready(Err(end)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let encoding = encoding.await?;
        let settled = match encoding {
            Ok(encoding) if lease.parameters().get("client_encoding") == Some(&*encoding) => {
                if let Some(post) = &mut self.holdings.listening.post {
                    post.encoding = encoding;
                }
                self.mark(present, new, lease)
            }
            other => {
                let (database, user) = (self.identity.pool.database(), self.identity.pool.user());
                let reason = other.err().map_or_else(|| "client_encoding".into(), |error| error.to_string());
                tracing::info!(database, user, reason, "a client listens on its own server connection");
                self.stay(present, &new, lease)
            }
        };
        Ok(settled.unwrap_or_else(|| self.conclude(lease, visit)))
    }

    /// Sends the mark.
    fn mark(&mut self, present: Vec<String>, new: Vec<String>, lease: &mut Lease) -> Option<Settled> {
        let listening = &mut self.holdings.listening;
        let mark = listening.next_mark();
        let post = listening.post.as_ref()?;
        let payload = mark.to_string();
        let mut sql = Vec::new();
        if !new.is_empty() {
            lease.told.await_mark(&post.private, &payload);
            sql.push(channels::listen(&post.private));
        }
        sql.push(channels::notify(&post.private, &payload));
        channels::queue(lease, sql.iter().map(String::as_str));
        self.transfer = Some(Box::new(Transfer::Marking { mark, present, new }));
        Some(Settled::Ask)
    }

    /// Has the server connection stop listening to what comes through the hub.
    fn leave(&mut self, present: &[String], lease: &mut Lease) -> Option<Settled> {
        if present.is_empty() {
            return None;
        }
        let sql = if self.holdings.pins.contains(SessionState::Listen) {
            let own = self.holdings.listening.new_ones(present);
            let others = present.iter().filter(|name| !own.contains(name));
            others.map(|name| channels::unlisten(Some(name))).collect()
        } else {
            vec![channels::unlisten(None)]
        };
        Some(self.unlisten(sql, 0, lease))
    }

    fn unlisten(&mut self, sql: Vec<String>, attempts: u32, lease: &mut Lease) -> Settled {
        channels::queue(lease, sql.iter().map(String::as_str));
        self.transfer = Some(Box::new(Transfer::Leaving { sql, attempts }));
        Settled::Ask
    }

    /// The client listens on its server connection, and stays there.
    fn stay(&mut self, present: Vec<String>, new: &[String], lease: &mut Lease) -> Option<Settled> {
        self.transfer = None;
        let before = self.holdings.pins;
        self.holdings.pins.insert(SessionState::Listen);
        self.note_pins(before);
        self.holdings.listening.give_up(new);
        lease.told.comes_elsewhere(&self.holdings.listening.elsewhere());
        if self.holdings.listening.has_ended() { self.mark(present, Vec::new(), lease) } else { None }
    }

    /// Gives the client what waits for it in the hub, while it has nothing under way. A client that has not taken what it
    /// was given last gets nothing more: it is for the limit of its mailbox to say when that is too much.
    pub(super) fn poll_deliver(
        &mut self,
        mut lease: Option<&mut Lease>,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        while let Some(post) = &self.holdings.listening.post {
            // The mark is looked for behind whatever the client does not take.
            if !self.client.outbox().is_empty() && !self.holdings.listening.is_handing_over() {
                let stuck = post.mailbox.poll_overflow(cx);
                return if let Poll::Ready(failure) = stuck {
                    Err(listening::refusal(failure))
                } else {
                    Ok(())
                };
            }
            if post.mailbox.poll_ready(cx).is_pending() {
                return Ok(());
            }
            let (mut came, mut given) = (Vec::new(), Vec::new());
            post.mailbox.take(&mut came, ROOM).map_err(listening::refusal)?;
            let was_waiting = self.holdings.listening.is_handing_over();
            let count = self.holdings.listening.sort(&came, &mut given)?;
            if was_waiting && !self.holdings.listening.is_handing_over() {
                let told = lease.as_deref_mut().map_or(&mut self.told, |lease| &mut lease.told);
                told.comes_elsewhere(&self.holdings.listening.elsewhere());
                self.enter(Phase::Idle);
            }
            self.shard.add(Counter::Notifications, count);
            self.shard.add(Counter::SentBytes, given.len() as u64);
            // A client that is gone is noticed where it is read from.
            let _ = self.client.send(&given);
            if !self.client.outbox().is_empty() {
                // Whoever polls next waits for the socket.
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }
}
