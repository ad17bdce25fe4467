//! Who is next. A stack of idle connections, a line of waiting clients, and the count of what exists; never both idle
//! connections and waiting clients for longer than a call. Pure: connections are any type, time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wait::Waiter;
use crate::metrics::PoolGauges;

/// The sizes of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at most.
    pub(super) size: u32,
    /// Connections that are kept, whether anybody wants them or not.
    pub(super) min: u32,
    /// Connections beyond `size` for clients that have waited too long.
    pub(super) reserve: u32,
    /// How long is too long, in milliseconds.
    pub(super) reserve_after: u64,
}

#[derive(Debug)]
struct Idle<C> {
    conn: C,
    worker: usize,
    since: u64,
}

#[derive(Debug)]
struct Waiting<C> {
    waiter: Arc<Waiter<C>>,
    /// Its place among all that ever waited.
    ticket: u64,
    since: u64,
}

/// How often the client that has waited longest may be passed over in favour of one of the worker that gives a
/// connection back. Handing a connection to another worker costs a wake-up of its thread and two system calls; with
/// this bound a client of two equally loaded workers waits no longer than in a strict line, because its own worker's
/// connections come back as often as the other's.
pub(super) const OVERTAKING: u32 = 16;

/// What became of a connection that was given back.
#[derive(Debug)]
pub(super) enum Back<C> {
    /// It rests.
    Kept,
    /// It is this client's now, and still counts as leased.
    Granted(Arc<Waiter<C>>, C),
    /// There are more than there should be: to be closed. It still counts as leased.
    Surplus(C),
}

/// The state of a pool. The connections that exist are `idle`, `leased`, `opening` or `closing`.
#[derive(Debug)]
pub(super) struct Queue<C> {
    /// The most recently used is last.
    idle: Vec<Idle<C>>,
    /// A line for each worker; in each, the one that has waited longest is first.
    lines: Vec<VecDeque<Waiting<C>>>,
    tickets: u64,
    /// How often the client that has waited longest was passed over.
    overtaken: u32,
    leased: u32,
    opening: u32,
    /// They are of no more use, and their backends may still be there.
    closing: u32,
    limits: Limits,
}

impl<C> Queue<C> {
    pub(super) fn new(limits: Limits) -> Self {
        let room = limits.size.saturating_add(limits.reserve).min(1024) as usize;
        Self {
            idle: Vec::with_capacity(room),
            lines: Vec::new(),
            tickets: 0,
            overtaken: 0,
            leased: 0,
            opening: 0,
            closing: 0,
            limits,
        }
    }

    fn total(&self) -> u32 {
        // The idle ones are at most `size + reserve`, which is a u32.
        self.idle.len() as u32 + self.leased + self.opening + self.closing
    }

    /// Takes an idle connection: of those that `worker` used last, or else of all, the one that `rank` puts highest, the
    /// last one used where several are alike. `None` if there is none, or if others wait.
    pub(super) fn take(&mut self, worker: usize, rank: impl Fn(&C) -> u8) -> Option<C> {
        if self.waiting() > 0 {
            return None;
        }
        // Of equal ones, `max_by_key` takes the last.
        let best =
            self.idle.iter().enumerate().max_by_key(|(_, idle)| (idle.worker == worker, rank(&idle.conn)));
        let place = best?.0;
        self.leased += 1;
        Some(self.idle.remove(place).conn)
    }

    /// Whether there is an idle connection and nobody waits.
    pub(super) fn is_free(&self) -> bool {
        !self.idle.is_empty() && self.waiting() == 0
    }

    /// Puts a client of `worker` at the end of its line.
    pub(super) fn wait(&mut self, waiter: Arc<Waiter<C>>, worker: usize, now: u64) -> Arc<Waiter<C>> {
        if self.lines.len() <= worker {
            self.lines.resize_with(worker + 1, VecDeque::new);
        }
        self.tickets += 1;
        let waiting = Waiting { waiter: Arc::clone(&waiter), ticket: self.tickets, since: now };
        self.lines[worker].push_back(waiting);
        waiter
    }

    /// Takes a client out of the line, wherever it stands.
    pub(super) fn leave(&mut self, waiter: &Arc<Waiter<C>>) {
        for line in &mut self.lines {
            line.retain(|waiting| !Arc::ptr_eq(&waiting.waiter, waiter));
        }
    }

    /// The line whose first client has waited longest of all.
    fn longest(&self) -> Option<usize> {
        let firsts =
            self.lines.iter().enumerate().filter_map(|(worker, line)| Some((line.front()?.ticket, worker)));
        firsts.min().map(|(_, worker)| worker)
    }

    /// The client that is next when `worker` gives a connection back.
    fn next(&mut self, worker: usize) -> Option<Arc<Waiter<C>>> {
        let longest = self.longest()?;
        let own = self.lines.get(worker).is_some_and(|line| !line.is_empty());
        let chosen = if own && self.overtaken < OVERTAKING { worker } else { longest };
        self.overtaken = if chosen == longest { 0 } else { self.overtaken + 1 };
        self.lines[chosen].pop_front().map(|first| first.waiter)
    }

    /// Whether another connection should be opened now; if so, it counts as opening from here on.
    pub(super) fn start_opening(&mut self, now: u64) -> bool {
        let patience_ends = self
            .longest()
            .and_then(|line| self.lines[line].front())
            .is_some_and(|first| now >= first.since.saturating_add(self.limits.reserve_after));
        let ceiling = self.limits.size.saturating_add(if patience_ends { self.limits.reserve } else { 0 });
        let wanted = self.waiting() > self.opening as usize || self.total() < self.limits.min;
        let open = wanted && self.total() < ceiling;
        self.opening += u32::from(open);
        open
    }

    /// An opening connection is there; it counts as leased until it is given back.
    pub(super) fn opened(&mut self) {
        self.opening_ended();
        self.leased += 1;
    }

    /// An opening connection did not come to be.
    pub(super) fn opening_ended(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// A leased connection is being closed.
    pub(super) fn closing(&mut self) {
        self.leased = self.leased.saturating_sub(1);
        self.closing += 1;
    }

    /// A closing connection is gone.
    pub(super) fn lost(&mut self) {
        self.closing = self.closing.saturating_sub(1);
    }

    /// Takes a leased connection that is at rest.
    pub(super) fn give_back(&mut self, conn: C, worker: usize, now: u64) -> Back<C> {
        if let Some(waiter) = self.next(worker) {
            return Back::Granted(waiter, conn);
        }
        if self.total() - self.closing > self.limits.size {
            return Back::Surplus(conn);
        }
        self.leased = self.leased.saturating_sub(1);
        self.idle.push(Idle { conn, worker, since: now });
        Back::Kept
    }

    /// Takes idle connections that are dead, or unused for longer than `limit` milliseconds while there are more than
    /// the minimum. They count as leased until they are lost.
    pub(super) fn sweep(
        &mut self,
        now: u64,
        limit: Option<u64>,
        mut dead: impl FnMut(&mut C) -> bool,
    ) -> Vec<C> {
        let mut useless = Vec::new();
        let (mut place, mut gone) = (0, 0);
        while place < self.idle.len() {
            let spare = self.total() - gone > self.limits.min;
            let idle = &mut self.idle[place];
            let stale = limit.is_some_and(|limit| now.saturating_sub(idle.since) >= limit);
            if dead(&mut idle.conn) || (stale && spare) {
                useless.push(self.idle.remove(place).conn);
                self.leased += 1;
                gone += 1;
            } else {
                place += 1;
            }
        }
        useless
    }

    /// Takes the idle connection that has lain unused longest, unless the minimum is reached. It counts as leased until
    /// it is lost.
    pub(super) fn evict(&mut self) -> Option<C> {
        let oldest = self.idle.iter().enumerate().min_by_key(|(_, idle)| idle.since)?.0;
        let spare = self.total() > self.limits.min;
        self.leased += u32::from(spare);
        spare.then(|| self.idle.remove(oldest).conn)
    }

    /// Takes every idle connection. They count as leased until they are lost.
    pub(super) fn take_idle(&mut self) -> Vec<C> {
        self.leased += self.idle.len() as u32;
        self.idle.drain(..).map(|idle| idle.conn).collect()
    }

    /// Whether clients wait while not a single connection exists.
    pub(super) fn is_starved(&self) -> bool {
        self.waiting() > 0 && self.idle.is_empty() && self.leased == 0
    }

    /// Empties the line.
    pub(super) fn drain_waiters(&mut self) -> Vec<Arc<Waiter<C>>> {
        self.lines.iter_mut().flat_map(|line| line.drain(..)).map(|waiting| waiting.waiter).collect()
    }

    /// Whether no connection exists or is on its way.
    pub(super) fn is_deserted(&self) -> bool {
        self.total() == 0
    }

    /// Clients in the line.
    pub(super) fn waiting(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    pub(super) fn gauges(&self) -> PoolGauges {
        PoolGauges {
            active: u64::from(self.leased),
            idle: self.idle.len() as u64,
            opening: u64::from(self.opening),
            waiting: self.waiting() as u64,
            size: u64::from(self.limits.size),
            ..PoolGauges::default()
        }
    }
}
