//! The place of one client in the queue of a pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::manager::Slot;
use super::{Lease, Pool};
use crate::backend::connect::ConnectError;

#[derive(Debug)]
enum State<C> {
    Waiting(Option<Waker>),
    Granted(C),
    Refused(ConnectError),
    /// The client went away, or has got what it waited for.
    Done,
}

/// What the queue knows of a waiting client.
#[derive(Debug)]
pub(super) struct Waiter<C>(Mutex<State<C>>);

impl<C> Default for Waiter<C> {
    fn default() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }
}

impl<C> Waiter<C> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a connection over; gives it back if the client is gone.
    pub(super) fn grant(&self, conn: C) -> Result<(), C> {
        self.settle(State::Granted(conn)).map_err(|state| match state {
            State::Granted(conn) => conn,
            // `settle` gives back what it was given.
            _ => unreachable!("a grant comes back as a grant"),
        })
    }

    /// Says that nothing will come.
    pub(super) fn refuse(&self, error: ConnectError) {
        let _ = self.settle(State::Refused(error));
    }

    fn settle(&self, to: State<C>) -> Result<(), State<C>> {
        let mut state = self.state();
        let State::Waiting(waker) = &mut *state else { return Err(to) };
        let waker = waker.take();
        *state = to;
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<C, ConnectError>> {
        let mut state = self.state();
        match &mut *state {
            State::Waiting(waker) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            _ => match std::mem::replace(&mut *state, State::Done) {
                State::Granted(conn) => Poll::Ready(Ok(conn)),
                State::Refused(error) => Poll::Ready(Err(error)),
                State::Waiting(_) | State::Done => Poll::Pending,
            },
        }
    }

    /// Goes away; gives back what was already granted.
    pub(super) fn leave(&self) -> Option<C> {
        match std::mem::replace(&mut *self.state(), State::Done) {
            State::Granted(conn) => Some(conn),
            _ => None,
        }
    }
}

/// A client's wait for a server connection. Dropping it gives up the place, and loses no connection.
#[derive(Debug)]
pub struct Wait {
    waiter: Arc<Waiter<Slot>>,
    pool: Arc<Pool>,
    worker: usize,
    since: Instant,
    over: bool,
}

impl Wait {
    pub(super) fn new(waiter: Arc<Waiter<Slot>>, pool: Arc<Pool>, worker: usize) -> Self {
        Self { waiter, pool, worker, since: Instant::now(), over: false }
    }

    /// Ready with a lease, or with the reason why none will come. Cancel safe.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, ConnectError>> {
        let Poll::Ready(result) = self.waiter.poll(cx) else { return Poll::Pending };
        self.over = true;
        Poll::Ready(result.map(|slot| {
            self.pool.metrics.waited(self.since.elapsed());
            let mut lease = Lease::new(slot, Arc::clone(&self.pool), self.worker);
            if lease.attach_to(self.worker).is_err() {
                lease.spoil();
            }
            lease
        }))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.pool.queue().leave(&self.waiter);
        if let Some(slot) = self.waiter.leave() {
            self.pool.give_back(slot, self.worker);
        }
    }
}
