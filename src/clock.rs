//! The process's coarse clock: milliseconds since start, moved on by one thread. Reading it costs a load, so that
//! time-outs can be noted for every query without asking the operating system.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the clock moves, and so how exact time-outs are.
pub const TICK: Duration = Duration::from_millis(50);

/// Milliseconds since start.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    now: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), now: AtomicU64::new(0) }
    }
}

impl Clock {
    /// The time at the last tick.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Nanoseconds since start, as exact as the operating system tells them.
    pub fn exact(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Moves the clock to the present.
    pub fn tick(&self) {
        self.now.store(millis(self.start.elapsed()), Ordering::Relaxed);
    }
}

/// A duration in the clock's unit.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
