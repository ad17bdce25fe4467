//! What only a client needs that has a server connection. It lies with the worker and not with the client: there are as
//! many as leases, and an idle client occupies memory for none of it.

use super::docket::Docket;
use super::exchange::{End, Tally};
use super::footprint::Footprint;
use super::lookout::Lookout;
use super::seldom::Seldom;
use super::session::Finish;
use super::worker::Worker;
use crate::pool::Lease;

/// What is known of a client's use of one lease.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) footprint: Footprint,
    pub(super) tally: Tally,
    /// Its statements that are under way.
    pub(super) docket: Docket,
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
            visit.docket.clear();
            (visit.errors, visit.changes) = (false, 0);
            stays.push(stay);
        }
        finish.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
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
        assert!(sizes.0 <= 424 && sizes.1 <= 264, "{sizes:?} bytes");
    }
}
