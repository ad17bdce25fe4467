//! Waiting for something to become true. Nothing here measures time: the limit only keeps a failing test from hanging.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up. Far above what anything takes, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks again and again until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Looks again and again until it is so.
#[track_caller]
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    eventually(what, || look().then_some(()));
}
