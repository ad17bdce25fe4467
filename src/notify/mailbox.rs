//! What waits for one client.
//!
//! A [`Mailbox`] belongs to the client and unsubscribes when it is dropped; its [`Slot`] is what the table and the
//! connection's task hold. So the task never drops the last of a mailbox while it holds the table.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::Hub;
use super::channel::Name;

/// Why a client that listens must be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// More waited than the mailbox may hold. What waited is gone.
    #[error("more notifications wait than the limit allows")]
    Overflow,
    /// The server connection that listened is gone, and with it whatever is notified before there is another. A client
    /// with a connection of its own would have lost that connection.
    #[error("the server connection that listened was lost")]
    Lost,
}

/// What a message counts beside its own bytes: its place in the queue, and the counters of the shared bytes.
const OVERHEAD: usize = 32;

/// Places of the queue that are kept when it is empty again.
const KEPT: usize = 16;

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Arc<[u8]>>,
    /// What `messages` counts.
    bytes: usize,
    failure: Option<Failure>,
    waker: Option<Waker>,
    channels: HashSet<Name>,
}

/// The part of a mailbox that others hold. Locked after the table, never before it.
#[derive(Debug)]
pub(super) struct Slot {
    /// Something waits, or the mailbox failed. Changed only under the lock; read without it.
    ready: AtomicBool,
    /// Number of channels.
    listening: AtomicUsize,
    limit: usize,
    inner: Mutex<Inner>,
}

impl Slot {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message. The waker, if any, is to be woken when no lock is held.
    pub(super) fn push(&self, message: &Arc<[u8]>) -> Option<Waker> {
        let mut inner = self.inner();
        if inner.failure.is_some() {
            return None;
        }
        let bytes = inner.bytes.saturating_add(message.len() + OVERHEAD);
        if bytes > self.limit {
            (inner.messages, inner.bytes) = (VecDeque::new(), 0);
            inner.failure = Some(Failure::Overflow);
        } else {
            inner.messages.push_back(Arc::clone(message));
            inner.bytes = bytes;
        }
        // Who knows that something waits and still sleeps waits for nothing but an overflow.
        let known = self.ready.swap(true, Ordering::Release) && inner.failure.is_none();
        if known { None } else { inner.waker.take() }
    }

    /// The end, behind what waits already.
    pub(super) fn fail(&self, failure: Failure) -> Option<Waker> {
        let mut inner = self.inner();
        inner.failure = inner.failure.or(Some(failure));
        self.ready.store(true, Ordering::Release);
        inner.waker.take()
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.inner().failure
    }

    /// Number of its channels.
    pub(super) fn listening(&self) -> usize {
        self.listening.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, name: &Name) {
        let mut inner = self.inner();
        inner.channels.insert(Arc::clone(name));
        self.listening.store(inner.channels.len(), Ordering::Relaxed);
    }

    pub(super) fn remove(&self, name: &[u8]) {
        let mut inner = self.inner();
        inner.channels.remove(name);
        self.listening.store(inner.channels.len(), Ordering::Relaxed);
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.inner().channels.contains(name)
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.inner().channels.iter().cloned().collect()
    }
}

/// What waits for one client, and what it listens to. Belongs to the first hub that it listens with.
#[derive(Debug)]
pub struct Mailbox {
    slot: Arc<Slot>,
    hub: OnceLock<Weak<Hub>>,
}

impl Mailbox {
    /// An empty one. `limit` is bytes of messages, each counted with 32 bytes of overhead; a message that would exceed
    /// it makes the mailbox fail.
    pub fn new(limit: usize) -> Arc<Self> {
        let slot = Slot {
            ready: AtomicBool::new(false),
            listening: AtomicUsize::new(0),
            limit,
            inner: Mutex::default(),
        };
        Arc::new(Self { slot: Arc::new(slot), hub: OnceLock::new() })
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Whether it is this hub's, which it becomes where it is nobody's.
    pub(super) fn joins(&self, hub: &Arc<Hub>) -> bool {
        let own = self.hub.get_or_init(|| Arc::downgrade(hub));
        std::ptr::eq(own.as_ptr(), Arc::as_ptr(hub))
    }

    /// Whether it listens to any channel, or did when it failed.
    pub fn is_listening(&self) -> bool {
        self.slot.listening() > 0
    }

    /// The channels that it listens to, in no order, with the names that the server has for them.
    pub fn channels(&self) -> Vec<Vec<u8>> {
        self.slot.names().iter().map(|name| name.to_vec()).collect()
    }

    /// Appends whole NotificationResponse messages to `out`, as the server sent them, at most `room` bytes; returns how
    /// many. With [`MAX_NOTIFICATION`](super::MAX_NOTIFICATION) bytes of room, there is progress whenever something
    /// waits. Costs a load where nothing does.
    ///
    /// # Errors
    /// The client must be ended: see [`Failure`]. What came before the connection was lost is returned first.
    pub fn take(&self, out: &mut Vec<u8>, room: usize) -> Result<usize, Failure> {
        if !self.slot.ready.load(Ordering::Acquire) {
            return Ok(0);
        }
        let mut inner = self.slot.inner();
        if inner.messages.is_empty()
            && let Some(failure) = inner.failure
        {
            return Err(failure);
        }
        let mut taken = 0;
        while let Some(message) = inner.messages.pop_front_if(|message| message.len() <= room - taken) {
            out.extend_from_slice(&message);
            taken += message.len();
            inner.bytes -= message.len() + OVERHEAD;
        }
        if inner.messages.is_empty() {
            inner.messages.shrink_to(KEPT);
            self.slot.ready.store(inner.failure.is_some(), Ordering::Release);
        }
        Ok(taken)
    }

    /// Ready when there is something to take or the mailbox failed. Keeps the waker of the last call.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot.ready.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut inner = self.slot.inner();
        if self.slot.ready.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        inner.keep_waker(cx);
        Poll::Pending
    }

    /// Ready when more came than the mailbox may hold. For a client that cannot take what waits at the moment.
    pub fn poll_overflow(&self, cx: &mut Context<'_>) -> Poll<Failure> {
        let mut inner = self.slot.inner();
        match inner.failure {
            Some(Failure::Overflow) => Poll::Ready(Failure::Overflow),
            _ => {
                inner.keep_waker(cx);
                Poll::Pending
            }
        }
    }
}

impl Inner {
    fn keep_waker(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.get().and_then(Weak::upgrade) {
            hub.unlisten_all_of(&self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(text: &[u8]) -> Arc<[u8]> {
        text.into()
    }

    #[test]
    fn messages_come_out_whole_and_in_order_within_the_room() {
        let mailbox = Mailbox::new(10_000);
        let mut out = Vec::new();
        assert_eq!(mailbox.take(&mut out, 100), Ok(0));
        for text in [&b"one"[..], b"two", b"three"] {
            mailbox.slot().push(&message(text));
        }
        assert_eq!(mailbox.take(&mut out, 2), Ok(0));
        assert_eq!(mailbox.take(&mut out, 7), Ok(6));
        assert_eq!(mailbox.take(&mut out, 5), Ok(5));
        assert_eq!(out, b"onetwothree");
        assert_eq!(mailbox.take(&mut out, 100), Ok(0));
        assert_eq!(mailbox.slot().inner().bytes, 0);
    }

    #[test]
    fn a_mailbox_over_its_limit_has_nothing_but_its_failure() {
        let mailbox = Mailbox::new(2 * (3 + OVERHEAD));
        let mut out = Vec::new();
        for _ in 0..3 {
            mailbox.slot().push(&message(b"abc"));
        }
        assert_eq!(mailbox.take(&mut out, 100), Err(Failure::Overflow));
        mailbox.slot().push(&message(b"abc"));
        mailbox.slot().fail(Failure::Lost);
        assert_eq!(mailbox.take(&mut out, 100), Err(Failure::Overflow));
        assert!(out.is_empty());
    }

    #[test]
    fn what_came_before_the_loss_is_delivered_before_it_is_told() {
        let mailbox = Mailbox::new(1000);
        mailbox.slot().push(&message(b"abc"));
        mailbox.slot().fail(Failure::Lost);
        let mut out = Vec::new();
        assert_eq!(mailbox.take(&mut out, 100), Ok(3));
        assert!(mailbox.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(mailbox.take(&mut out, 100), Err(Failure::Lost));
    }

    #[test]
    fn who_cannot_take_what_waits_is_woken_when_it_is_too_much_and_not_before() {
        let mailbox = Mailbox::new(2 * (3 + OVERHEAD));
        mailbox.slot().push(&message(b"abc"));
        let count = Arc::new(Count::default());
        let waker = Arc::clone(&count).into();
        assert!(mailbox.poll_overflow(&mut Context::from_waker(&waker)).is_pending());
        assert!(mailbox.slot().push(&message(b"abc")).is_none());
        mailbox.slot().push(&message(b"abc")).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let overflow = mailbox.poll_overflow(&mut Context::from_waker(&waker));
        assert_eq!(overflow, Poll::Ready(Failure::Overflow));
    }

    #[test]
    fn the_last_waker_is_woken_once_and_only_where_somebody_waits() {
        let mailbox = Mailbox::new(1000);
        let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
        for count in [&old, &new] {
            let waker = Arc::clone(count).into();
            assert!(mailbox.poll_ready(&mut Context::from_waker(&waker)).is_pending());
        }
        for _ in 0..2 {
            mailbox.slot().push(&message(b"abc")).into_iter().for_each(Waker::wake);
        }
        assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
        let waker = Arc::clone(&new).into();
        assert!(mailbox.poll_ready(&mut Context::from_waker(&waker)).is_ready());
        mailbox.take(&mut Vec::new(), 100).unwrap();
        assert!(mailbox.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    }
}
