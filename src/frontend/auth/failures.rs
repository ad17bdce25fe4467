//! Failed logins by address, so that nobody can try passwords without end. Bounded: where the table is full, the address
//! that has been in it for longest is forgotten.
//!
//! A guess counts before it is compared with anything, and is given back if it was right: otherwise as many as come at
//! once would be compared before the first of them counts. Whoever would be one too many waits until it is known how
//! those before it come out, so that honest clients that come at once are not refused for coming at once. Between its
//! proof and the verdict a client has nothing to say: none can keep another waiting by being slow.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock::{Clock, millis};
use crate::config::Authentication;

/// Addresses that are remembered, at about 150 bytes each.
const MOST: usize = 10_000;

/// Failed logins by address.
#[derive(Debug, Default)]
pub(in crate::frontend) struct Failures {
    table: Mutex<Table>,
    /// A guess has come out.
    settled: Notify,
}

#[derive(Debug, Default)]
struct Table {
    counts: HashMap<IpAddr, Count>,
    /// In the order in which they were first seen.
    order: BTreeMap<u64, IpAddr>,
    next: u64,
}

#[derive(Debug)]
struct Count {
    failed: u32,
    /// When the first of them failed.
    since: u64,
    /// Of which it is not known yet how they come out.
    pending: u32,
    place: u64,
}

/// What an address may have at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// One more guess.
    Guess,
    /// Nothing before it is known how others come out.
    Later,
    /// Nothing: it has failed too often.
    Nothing,
}

/// Where one client's guesses are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate<'a> {
    pub(super) failures: &'a Failures,
    pub(super) limits: &'a Authentication,
    pub(super) clock: &'a Clock,
    /// `None` for Unix sockets, which have no limit.
    pub(super) address: Option<IpAddr>,
}

/// A guess that counts. It has failed unless it is said to have been right: also where nobody waits for its end.
#[derive(Debug)]
pub(super) struct Guess<'a> {
    /// `None` where nothing is counted.
    gate: Option<Gate<'a>>,
}

impl Gate<'_> {
    /// Whether its address has failed too often lately.
    pub(super) fn is_closed(&self) -> bool {
        let Some((address, limit)) = self.counted() else { return false };
        let (now, within) = (self.clock.now(), millis(self.limits.failed_logins_within));
        let room = self.failures.table().room(address, limit, (now, within));
        room == Room::Nothing
    }

    fn counted(&self) -> Option<(IpAddr, u32)> {
        Some((network(self.address?), self.limits.failed_logins?))
    }
}

impl<'a> Gate<'a> {
    /// Counts a guess that is about to be compared; `None` if the address has failed too often. Cancel safe.
    pub(super) async fn pass(&self) -> Option<Guess<'a>> {
        let Some((address, limit)) = self.counted() else { return Some(Guess { gate: None }) };
        let within = millis(self.limits.failed_logins_within);
        loop {
            let mut settled = std::pin::pin!(self.failures.settled.notified());
            // From here on, so that nothing is missed between the look and the wait.
            settled.as_mut().enable();
            let now = self.clock.now();
            let room = self.failures.table().take(address, limit, (now, within));
            match room {
                Room::Guess => return Some(Guess { gate: Some(*self) }),
                Room::Nothing => return None,
                Room::Later => settled.await,
            }
        }
    }
}

impl Guess<'_> {
    /// It was right, or was none: what was sent could not be compared with anything.
    pub(super) fn give_back(mut self) {
        self.settle(false);
    }

    fn settle(&mut self, has_failed: bool) {
        let Some(gate) = self.gate.take() else { return };
        let Some((address, _)) = gate.counted() else { return };
        let (now, within) = (gate.clock.now(), millis(gate.limits.failed_logins_within));
        gate.failures.table().settle(address, has_failed, (now, within));
        gate.failures.settled.notify_waiters();
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        self.settle(true);
    }
}

impl Failures {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time, and for how long failures count.
type Lately = (u64, u64);

impl Table {
    fn room(&self, address: IpAddr, limit: u32, (now, within): Lately) -> Room {
        let Some(count) = self.counts.get(&address) else { return Room::Guess };
        let failed = if now.saturating_sub(count.since) < within { count.failed } else { 0 };
        match failed {
            _ if failed >= limit => Room::Nothing,
            _ if failed.saturating_add(count.pending) >= limit => Room::Later,
            _ => Room::Guess,
        }
    }

    fn take(&mut self, address: IpAddr, limit: u32, lately: Lately) -> Room {
        let room = self.room(address, limit, lately);
        if room == Room::Guess {
            self.entry(address, lately.0).pending += 1;
        }
        room
    }

    fn settle(&mut self, address: IpAddr, has_failed: bool, (now, within): Lately) {
        let count = self.entry(address, now);
        count.pending = count.pending.saturating_sub(1);
        if has_failed {
            if count.failed == 0 || now.saturating_sub(count.since) >= within {
                (count.failed, count.since) = (0, now);
            }
            count.failed = count.failed.saturating_add(1);
        }
        if (count.failed, count.pending) == (0, 0) {
            let place = count.place;
            self.counts.remove(&address);
            self.order.remove(&place);
        }
    }

    fn entry(&mut self, address: IpAddr, now: u64) -> &mut Count {
        if !self.counts.contains_key(&address) {
            if self.counts.len() >= MOST
                && let Some((_, oldest)) = self.order.pop_first()
            {
                self.counts.remove(&oldest);
            }
            self.order.insert(self.next, address);
            self.next += 1;
        }
        let place = self.next.saturating_sub(1);
        self.counts.entry(address).or_insert(Count { failed: 0, since: now, pending: 0, place })
    }
}

/// Whoever has one address of IPv6 usually has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
