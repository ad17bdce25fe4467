//! How a client gets a server connection: at once, or after its wait, and with its own settings.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::phase::{self, Phase};
use super::session::{Finish, Session};
use super::{login, refuse};
use crate::backend::connect::ConnectError;
use crate::backend::reset;
use crate::error::{ErrorKind, Refusal};
use crate::metrics::Counter;
use crate::pool::{Checkout, Lease, Wait, Wish};

/// How many server connections are tried before a client is told that its settings cannot be applied.
const ATTEMPTS: usize = 3;

impl Session {
    pub(super) fn checkout(&self) -> Checkout {
        let wish = Wish {
            worker: self.worker.id,
            client: self.holdings.client(),
            settings: &self.holdings.settings,
        };
        self.identity.pool.checkout(wish, &mut self.worker.aside.borrow_mut())
    }

    /// Waits for a server connection and brings it to the client's settings. One on which that fails is not tried again. It
    /// is not there afterwards if the client has cancelled its request and was told so.
    pub(super) async fn equip(&mut self, checkout: &mut Checkout) -> Result<(), Finish> {
        self.enter(Phase::Waiting);
        let since = self.worker.shared.clock.exact();
        let mut attempts = 0;
        loop {
            std::future::poll_fn(|cx| self.poll_checkout(checkout, since, cx)).await?;
            let Checkout::Ready(lease) = checkout else { return Ok(()) };
            let (settings, client) = (&self.holdings.settings, self.holdings.client());
            if lease.has(settings, client) {
                return Ok(());
            }
            let applied = Box::pin(reset::apply(lease, settings, client)).await;
            let Err(error) = applied else { return Ok(()) };
            lease.spoil();
            attempts += 1;
            if attempts == ATTEMPTS {
                return Err(login::settings_refusal(error).into());
            }
            self.checkout_again(checkout);
        }
    }

    /// The last one is of no use: it goes before the next one is asked for.
    fn checkout_again(&self, checkout: &mut Checkout) {
        *checkout = Checkout::Refused(ConnectError::LimitReached);
        *checkout = self.checkout();
    }

    /// Ready when a wait that began at `since` is over, with or without a server connection.
    fn poll_checkout(
        &mut self,
        checkout: &mut Checkout,
        since: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Finish>> {
        match checkout {
            Checkout::Ready(_) => Poll::Ready(Ok(())),
            Checkout::Refused(error) => Poll::Ready(Err(error.refusal(self.identity.pool.database()).into())),
            Checkout::Wait(wait) => match ready!(self.poll_wait(wait, cx))? {
                Some(lease) => {
                    self.has_waited(since);
                    *checkout = Checkout::Ready(lease);
                    Poll::Ready(Ok(()))
                }
                None => Poll::Ready(Ok(())),
            },
        }
    }

    /// Ready when a server connection came free, or when there is no point in waiting any longer; without one if the
    /// client has cancelled its request.
    fn poll_wait(&mut self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, Finish>> {
        if let Poll::Ready(lease) = wait.poll(cx) {
            let refusal =
                |error: crate::backend::connect::ConnectError| error.refusal(self.identity.pool.database());
            return Poll::Ready(lease.map(Some).map_err(|error| refusal(error).into()));
        }
        if self.identity.cancel.target.poll_wait(cx).is_ready() && self.client.withdraw() {
            let cancelled = Refusal::new(ErrorKind::Cancelled, "canceling statement due to user request");
            let answered = self.client.send(&refuse::answer(&cancelled));
            return Poll::Ready(answered.map(|()| None).map_err(|_| Finish::Left));
        }
        if let Poll::Ready(reason) = self.watch.poll(cx) {
            return Poll::Ready(Err(match reason {
                ErrorKind::QueryWaitTimeout => login::waited_too_long(&self.identity.pool).into(),
                reason => phase::refusal(reason).into(),
            }));
        }
        // A client that is gone should not take a server connection from those that are not.
        let worker = Rc::clone(&self.worker);
        let scratch = &mut *worker.scratch.borrow_mut();
        let scratch = self.client.share(scratch);
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
}
