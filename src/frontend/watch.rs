//! Time-outs and shutdown without a timer for each client: a client notes a deadline in a cell, and once in a while its
//! worker looks at all of them. Setting a deadline costs a store.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::ErrorKind;

/// The deadline of one client.
#[derive(Debug)]
pub(super) struct Watch {
    /// Milliseconds of the process's clock; `u64::MAX` is never.
    deadline: Cell<u64>,
    reason: Cell<ErrorKind>,
    fired: Cell<Option<ErrorKind>>,
    /// The client has something under way that a graceful shutdown waits for.
    busy: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            deadline: Cell::new(u64::MAX),
            reason: Cell::new(ErrorKind::ClientIdle),
            fired: Cell::new(None),
            busy: Cell::new(false),
            waker: RefCell::new(None),
        }
    }
}

impl Watch {
    /// From now on, `reason` fires at `deadline`.
    pub(super) fn set(&self, deadline: Option<u64>, reason: ErrorKind, busy: bool) {
        self.deadline.set(deadline.unwrap_or(u64::MAX));
        // What fired for the last phase and was not seen is over with it.
        if self.fired.get() != Some(ErrorKind::Shutdown) {
            self.fired.set(None);
        }
        self.reason.set(reason);
        self.busy.set(busy);
    }

    /// Ready when something fired.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        if let Some(reason) = self.fired.take() {
            return Poll::Ready(reason);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn fire(&self, reason: ErrorKind) {
        self.deadline.set(u64::MAX);
        self.fired.set(Some(reason));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// The watches of a worker's clients.
#[derive(Debug, Default)]
pub(super) struct Watches(RefCell<Vec<Rc<Watch>>>);

impl Watches {
    /// A watch for a new client; forgotten when the client drops it.
    pub(super) fn register(&self) -> Rc<Watch> {
        let watch = Rc::<Watch>::default();
        self.0.borrow_mut().push(Rc::clone(&watch));
        watch
    }

    /// Fires what is due.
    pub(super) fn tick(&self, now: u64) {
        let mut watches = self.0.borrow_mut();
        watches.retain(|watch| Rc::strong_count(watch) > 1);
        for watch in watches.iter().filter(|watch| now >= watch.deadline.get()) {
            watch.fire(watch.reason.get());
        }
    }

    /// Ends clients with [`ErrorKind::Shutdown`]: all of them, or those that have nothing under way.
    pub(super) fn shut_down(&self, all: bool) {
        for watch in self.0.borrow().iter().filter(|watch| all || !watch.busy.get()) {
            watch.fire(ErrorKind::Shutdown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(watch: &Watch) -> Option<ErrorKind> {
        match watch.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_deadline_fires_once_when_it_has_passed() {
        let watches = Watches::default();
        let watch = watches.register();
        watch.set(Some(100), ErrorKind::QueryTimeout, true);
        watches.tick(99);
        assert_eq!(fired(&watch), None);
        watches.tick(100);
        assert_eq!(fired(&watch), Some(ErrorKind::QueryTimeout));
        watches.tick(101);
        assert_eq!(fired(&watch), None);
    }

    #[test]
    fn what_fired_too_late_to_be_seen_does_not_end_the_next_phase() {
        let watches = Watches::default();
        let watch = watches.register();
        watch.set(Some(100), ErrorKind::QueryWaitTimeout, true);
        watches.tick(100);
        watch.set(None, ErrorKind::QueryTimeout, true);
        assert_eq!(fired(&watch), None);
        watches.shut_down(true);
        watch.set(None, ErrorKind::ClientIdle, false);
        assert_eq!(fired(&watch), Some(ErrorKind::Shutdown), "but a shutdown does");
    }

    #[test]
    fn a_graceful_shutdown_waits_for_the_busy() {
        let watches = Watches::default();
        let (idle, busy) = (watches.register(), watches.register());
        busy.set(None, ErrorKind::QueryTimeout, true);
        watches.shut_down(false);
        assert_eq!((fired(&idle), fired(&busy)), (Some(ErrorKind::Shutdown), None));
        watches.shut_down(true);
        assert_eq!(fired(&busy), Some(ErrorKind::Shutdown));
    }

    #[test]
    fn a_watch_is_forgotten_with_its_client() {
        let watches = Watches::default();
        drop(watches.register());
        watches.tick(0);
        assert!(watches.0.borrow().is_empty());
    }
}
