//! What only a client needs that has a server connection. It lies with the worker and not with the client: there are as
//! many as leases, and an idle client occupies memory for none of it.

use std::task::{Context, Poll};

use super::books::Course;
use super::exchange::{End, Tally};
use super::footprint::Footprint;
use super::lookout::Lookout;
use super::phase;
use super::seldom::Seldom;
use super::session::{Finish, Session};
use super::settle::Settled;
use super::worker::Worker;
use crate::backend::Lost;
use crate::error::ErrorKind;
use crate::pool::Lease;

/// What is known of a client's use of one lease.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) footprint: Footprint,
    pub(super) tally: Tally,
    /// What its statements under way are counted under.
    pub(super) course: Course,
    /// The client was answered with an error since its session was last looked at.
    pub(super) errors: bool,
    /// How often the server had reported another parameter by then.
    pub(super) changes: u64,
}

/// A visit with its server connection.
#[derive(Debug, Default)]
pub(super) struct Stay {
    /// Always there until the visit is over.
    pub(super) lease: Option<Lease>,
    pub(super) visit: Visit,
    /// The memory of the client's own, while it has none.
    pub(super) lookout: Seldom<Lookout>,
    /// The relay has stopped already.
    pub(super) end: Option<End>,
    /// The session ends with the visit, for this reason.
    pub(super) finish: Option<Finish>,
}

/// What comes after a step of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another one.
    Relay,
    /// The hub has to be asked.
    Subscribe,
    /// It is over.
    Over,
}

/// Stays that a worker keeps for the next ones.
const MOST_STAYS: usize = 128;

impl Worker {
    /// Memory for the next visit.
    pub(super) fn stay(&self) -> Box<Stay> {
        self.stays.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes it back when the visit is over; why the session ends with it, if it does.
    pub(super) fn end_stay(&self, mut stay: Box<Stay>) -> Result<(), Finish> {
        let finish = stay.finish.take();
        let mut stays = self.stays.borrow_mut();
        if stays.len() < MOST_STAYS {
            let visit = &mut stay.visit;
            (visit.footprint, visit.tally) = (Footprint::default(), Tally::default());
            visit.course.clear();
            (visit.errors, visit.changes) = (false, 0);
            stays.push(stay);
        }
        finish.map_or(Ok(()), Err)
    }
}

impl Session {
    /// Serves the client on a server connection until it can go back.
    pub(super) async fn relay(&mut self, mut stay: Box<Stay>) -> Result<(), Finish> {
        loop {
            let end = std::future::poll_fn(|cx| self.poll_end(&mut stay, cx)).await;
            let mut next = self.step(&mut stay, end);
            if next == Next::Subscribe
                && let Stay { lease: Some(lease), visit, .. } = &mut *stay
            {
                // Boxed, so that a session does not occupy the memory that this seldom needs.
                let settled = Box::pin(self.subscribe(lease, visit)).await;
                next = self.settled(&mut stay, settled);
            }
            if next == Next::Over {
                return self.worker.end_stay(stay);
            }
        }
    }

    /// Ready when the relay has stopped.
    fn poll_end(&mut self, stay: &mut Stay, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(end) = stay.end.take() {
            return Poll::Ready(end);
        }
        let Some(lease) = &mut stay.lease else { return Poll::Ready(End::Left { in_order: false }) };
        self.poll_relay(lease, &mut stay.visit, cx)
    }

    /// What comes after the relay stopped.
    fn step(&mut self, stay: &mut Stay, end: End) -> Next {
        let Stay { lease: Some(lease), visit, .. } = stay else { return Next::Over };
        visit.errors |= visit.tally.seen.errors > 0;
        self.settle_accounts(&mut visit.tally);
        match end {
            End::Settled => match self.settle(lease, visit) {
                Settled::Subscribe => Next::Subscribe,
                settled => self.settled(stay, Ok(settled)),
            },
            End::Spent if self.keeps(&visit.footprint) => Next::Relay,
            End::Spent => {
                lease.spoil();
                self.release(stay);
                Next::Over
            }
            end => self.part_from(stay, end),
        }
    }

    /// The server connection has settled.
    fn settled(&mut self, stay: &mut Stay, settled: Result<Settled, End>) -> Next {
        match settled {
            Ok(Settled::Ask | Settled::Subscribe | Settled::Keep) => Next::Relay,
            Ok(Settled::Done) if self.worker.draining.get() => {
                if let Some(lease) = stay.lease.take() {
                    self.retire(lease, true);
                }
                stay.finish = Some(phase::refusal(ErrorKind::Shutdown).into());
                Next::Over
            }
            Ok(Settled::Done) => {
                // Nothing is in it now.
                stay.lookout = std::mem::take(&mut self.holdings.lookout);
                self.release(stay);
                Next::Over
            }
            Ok(Settled::Lost) => self.part_from(stay, End::ServerLost(Lost::Refused)),
            Err(end) => self.part_from(stay, end),
        }
    }

    /// Gives the server connection back.
    fn release(&mut self, stay: &mut Stay) {
        let Some(mut lease) = stay.lease.take() else { return };
        if stay.visit.course.has_detour() {
            self.account.get().view = None;
        }
        std::mem::swap(&mut lease.told, &mut self.told);
        self.give_back(lease);
    }

    /// Ends the session with the visit.
    fn part_from(&mut self, stay: &mut Stay, end: End) -> Next {
        if stay.visit.course.defines {
            self.holdings.lookout.defines = true;
        }
        if let Some(lease) = stay.lease.take() {
            stay.finish = Some(self.part(lease, end, stay.visit.tally.seen.farewell));
        }
        Next::Over
    }
}

#[cfg(test)]
mod tests {
    use super::super::books::Account;
    use super::super::session::Session;

    fn size_of_future<A, B, F>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Of ten thousand clients most are idle, and each occupies this. A kilobyte and a half of resident memory for a client
    /// without TLS, its socket and its task in tokio included, leaves so much. What few clients need belongs into a
    /// `Seldom`, what only a lease needs into the `Stay`.
    #[test]
    fn an_idle_client_stays_small() {
        let sizes = (size_of::<Session>(), size_of_future(Session::run));
        assert!(sizes.0 <= 424 && sizes.1 <= 280 && size_of::<Account>() <= 80, "{sizes:?} bytes");
    }
}
