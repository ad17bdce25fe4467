//! Who listens to what, and what the server is still to be told. Pure.
//!
//! A channel is here while anybody listens to it or wants to, and while the server has still to be told that nobody
//! does. Orders to the server come out of [`Table::next`] one at a time; clients that ask for the same channel before its
//! order goes out share it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::oneshot;

use super::ListenError;
use super::channel::Name;
use super::mailbox::{Failure, Slot};

/// A client that waits for its subscription.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) slot: Arc<Slot>,
    /// Closed when the client does not wait any more.
    pub(super) done: oneshot::Sender<Result<(), ListenError>>,
}

/// What to tell the server.
#[derive(Debug)]
pub(super) enum Order {
    /// LISTEN, for these clients. The answer goes to [`Table::answered`].
    Listen(Name, Vec<Waiter>),
    /// UNLISTEN.
    Unlisten(Name),
}

#[derive(Debug, Default)]
struct Channel {
    /// By the address of the slot, which the table keeps alive.
    subscribers: HashMap<usize, Arc<Slot>>,
    /// Clients for which no LISTEN was sent yet.
    waiting: Vec<Waiter>,
    /// LISTENs that are not answered.
    asked: u32,
    /// The server has it.
    on_server: bool,
    /// It stands in `todo`.
    queued: bool,
}

/// The subscriptions of one hub.
#[derive(Debug, Default)]
pub(super) struct Table {
    channels: HashMap<Name, Channel>,
    /// Channels of which the server may have to be told something.
    todo: VecDeque<Name>,
    /// A task with a connection works the orders off, or is on its way to.
    pub(super) running: bool,
}

fn id(slot: &Arc<Slot>) -> usize {
    Arc::as_ptr(slot).addr()
}

impl Table {
    /// Number of channels.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is nothing to listen to and nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Has the server asked on behalf of a client. `false` if that would be one channel too many.
    pub(super) fn request(&mut self, name: &Name, waiter: Waiter, max: usize) -> bool {
        if !self.channels.contains_key(name) && self.channels.len() >= max {
            return false;
        }
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        channel.waiting.push(waiter);
        self.look_at(name);
        true
    }

    /// Has `next` look at a channel.
    fn look_at(&mut self, name: &Name) {
        if let Some(channel) = self.channels.get_mut(name)
            && !std::mem::replace(&mut channel.queued, true)
        {
            self.todo.push_back(Arc::clone(name));
        }
    }

    /// What to tell the server next. It must be told in this order.
    pub(super) fn next(&mut self) -> Option<Order> {
        while let Some(name) = self.todo.pop_front() {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            channel.queued = false;
            if !channel.waiting.is_empty() {
                channel.asked += 1;
                let waiting = std::mem::take(&mut channel.waiting);
                return Some(Order::Listen(name, waiting));
            }
            // Where an answer is still to come, it brings the channel back here.
            if channel.subscribers.is_empty() && channel.asked == 0 {
                let on_server = channel.on_server;
                self.channels.remove(&name);
                if on_server {
                    return Some(Order::Unlisten(name));
                }
            }
        }
        None
    }

    /// The server answered a LISTEN: from this place in its stream on, the clients are subscribed. Those that left
    /// meanwhile are not.
    pub(super) fn answered(&mut self, name: &Name, waiters: Vec<Waiter>, answer: Result<(), ListenError>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.asked = channel.asked.saturating_sub(1);
        channel.on_server |= answer.is_ok();
        for Waiter { slot, done } in waiters {
            if answer.is_err() || slot.failure().is_some() {
                let _ = done.send(answer.clone().and(Err(ListenError::Lost)));
                continue;
            }
            // Before the client hears of it, because it looks.
            slot.add(name);
            if done.send(Ok(())).is_ok() {
                channel.subscribers.insert(id(&slot), slot);
            } else {
                slot.remove(name);
            }
        }
        if channel.subscribers.is_empty() {
            self.look_at(name);
        }
    }

    /// Ends a subscription, or the wait for one. Whether the server may have to be told.
    pub(super) fn unsubscribe(&mut self, name: &Name, slot: &Arc<Slot>) -> bool {
        slot.remove(name);
        let Some(channel) = self.channels.get_mut(name) else { return false };
        channel.subscribers.remove(&id(slot));
        channel.waiting.retain(|waiter| !Arc::ptr_eq(&waiter.slot, slot));
        if channel.subscribers.is_empty() {
            self.look_at(name);
        }
        channel_is_idle(self.channels.get(name))
    }

    /// Puts a notification into the mailboxes of a channel; how many. Whom to wake is added to `wakers`.
    pub(super) fn deliver(&self, channel: &[u8], message: &[u8], wakers: &mut Vec<Waker>) -> usize {
        let Some(channel) = self.channels.get(channel).filter(|channel| !channel.subscribers.is_empty())
        else {
            return 0;
        };
        let message = Arc::from(message);
        wakers.extend(channel.subscribers.values().filter_map(|slot| slot.push(&message)));
        channel.subscribers.len()
    }

    /// The connection is gone: nobody is subscribed any more, and those who wait get the error.
    pub(super) fn fail(&mut self, error: &ListenError) -> Vec<Waker> {
        self.running = false;
        self.todo.clear();
        let mut wakers = Vec::new();
        for (_, channel) in self.channels.drain() {
            wakers.extend(channel.subscribers.values().filter_map(|slot| slot.fail(Failure::Lost)));
            for waiter in channel.waiting {
                let _ = waiter.done.send(Err(error.clone()));
            }
        }
        wakers
    }
}

fn channel_is_idle(channel: Option<&Channel>) -> bool {
    channel.is_some_and(|channel| channel.subscribers.is_empty() && channel.asked == 0)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
