//! Clients in the middle of a login, of which there may be only so many. One more is let in, and the one that has been
//! there for longest is dropped: honest clients are through in milliseconds, and those that stall keep nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Clients in the middle of a login.
#[derive(Debug)]
pub(super) struct Lobby {
    most: AtomicUsize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// By the order in which they came.
    clients: BTreeMap<u64, Arc<Notify>>,
}

/// One client's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    dropped: Arc<Notify>,
}

impl Lobby {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: AtomicUsize::new(most.max(1)), inside: Mutex::default() })
    }

    /// From the next client on.
    pub(super) fn set_most(&self, most: usize) {
        self.most.store(most.max(1), Ordering::Relaxed);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, for which the oldest client has to go where there is none.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let dropped = Arc::new(Notify::new());
        let mut inside = self.inside();
        let number = inside.next;
        inside.next += 1;
        while inside.clients.len() >= self.most.load(Ordering::Relaxed) {
            drop_oldest(&mut inside);
        }
        inside.clients.insert(number, Arc::clone(&dropped));
        Place { lobby: Arc::clone(self), number, dropped }
    }

    /// Drops the oldest client, where sockets are short; whether there was one.
    pub(super) fn make_room(&self) -> bool {
        drop_oldest(&mut self.inside())
    }
}

fn drop_oldest(inside: &mut Inside) -> bool {
    let oldest = inside.clients.pop_first();
    // A permit is kept for who does not wait yet.
    oldest.map(|(_, client)| client.notify_one()).is_some()
}

impl Place {
    /// Ready when the client has to go for another. Cancel safe.
    pub(super) async fn dropped(&self) {
        self.dropped.notified().await;
    }

    /// The client is who it says: it is nobody's place any more.
    pub(super) fn leave(&self) {
        self.lobby.inside().clients.remove(&self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_dropped(place: &Place) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = place.dropped() => true,
                () = std::future::ready(()) => false,
            }
        })
    }

    #[test]
    fn the_oldest_goes_for_the_newest_and_whoever_has_left_does_not_count() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter(), lobby.enter());
        second.leave();
        let third = lobby.enter();
        assert!(!is_dropped(&first) && !is_dropped(&second));
        let fourth = lobby.enter();
        assert!(is_dropped(&first) && !is_dropped(&second) && !is_dropped(&third));
        drop(third);
        assert!(lobby.make_room() && is_dropped(&fourth));
        assert!(!lobby.make_room());
    }
}
