//! Caps that several pools or clients share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Pool;

/// So many at once and no more.
#[derive(Debug, Default)]
pub struct Limit {
    max: Option<usize>,
    used: Arc<AtomicUsize>,
    /// The pools that share it, to make room.
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// One place under a [`Limit`], free again when dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Limit {
    /// `None` is no limit; it counts all the same.
    pub fn new(max: Option<usize>) -> Self {
        Self { max, ..Self::default() }
    }

    /// A place, if there is one.
    pub fn try_acquire(&self) -> Option<Permit> {
        let max = self.max.unwrap_or(usize::MAX);
        let grown = |used: usize| (used < max).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Permit(Arc::clone(&self.used)))
    }

    /// Places that are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn share(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Has one of the pools close an idle connection.
    fn make_room(&self) -> bool {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().filter_map(Weak::upgrade).any(|pool| pool.evict())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place under each of `limits`. Where one is full, an idle connection of a pool that shares it is closed.
pub(super) fn acquire_all(limits: &[Arc<Limit>]) -> Option<Vec<Permit>> {
    limits
        .iter()
        .map(|limit| limit.try_acquire().or_else(|| limit.make_room().then(|| limit.try_acquire())?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let limit = Limit::new(Some(2));
        let (first, _second) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
        assert!(limit.try_acquire().is_none());
        drop(first);
        assert!(limit.try_acquire().is_some());
        assert_eq!(limit.used(), 1);
        assert!(Limit::new(Some(0)).try_acquire().is_none());
        assert!(Limit::new(None).try_acquire().is_some());
    }

    #[test]
    fn all_or_none_of_several_limits_are_taken() {
        let (wide, narrow) = (Arc::new(Limit::new(Some(5))), Arc::new(Limit::new(Some(1))));
        let both = [Arc::clone(&wide), Arc::clone(&narrow)];
        let held = acquire_all(&both);
        assert!(held.is_some() && acquire_all(&both).is_none());
        assert_eq!((wide.used(), narrow.used()), (1, 1));
    }
}
