//! Caps that several pools or clients share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Pool;

/// So many at once and no more.
#[derive(Debug, Default)]
pub struct Limit {
    max: Option<usize>,
    places: Arc<Places>,
    /// The pools that share it, to make room.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// The pools that have clients waiting and not a single connection: the next place is theirs.
    claims: Mutex<Vec<Weak<Pool>>>,
    /// Whether there are any.
    claimed: AtomicBool,
}

/// What permits and their limit share.
#[derive(Debug, Default)]
struct Places {
    used: AtomicUsize,
    /// A connection is being closed to make room: nobody has to close another before it is gone.
    coming: AtomicBool,
}

/// One place under a [`Limit`], free again when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Places>);

impl Limit {
    /// `None` is no limit; it counts all the same.
    pub fn new(max: Option<usize>) -> Self {
        Self { max, ..Self::default() }
    }

    /// A place, if there is one.
    pub fn try_acquire(&self) -> Option<Permit> {
        let max = self.max.unwrap_or(usize::MAX);
        let grown = |used: usize| (used < max).then_some(used + 1);
        self.places.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Permit(Arc::clone(&self.places)))
    }

    /// Places that are taken.
    pub fn used(&self) -> usize {
        self.places.used.load(Ordering::Relaxed)
    }

    pub(super) fn share(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Whether the next place is another pool's than this one.
    pub(super) fn is_claimed_from(&self, pool: &Pool) -> bool {
        self.is_claimed_by_another_than(pool)
    }

    fn is_claimed_by_another_than(&self, pool: *const Pool) -> bool {
        self.claimed.load(Ordering::Relaxed) && {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            claims.retain(|claim| claim.upgrade().is_some_and(|claimant| claimant.is_starved()));
            self.claimed.store(!claims.is_empty(), Ordering::Relaxed);
            claims.first().is_some_and(|claim| claim.as_ptr() != pool)
        }
    }

    /// Puts a pool that has nothing in line for the next place.
    fn claim(&self, pool: &Arc<Pool>) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.is_starved() && !claims.iter().any(|claim| std::ptr::eq(claim.as_ptr(), Arc::as_ptr(pool))) {
            claims.push(Arc::downgrade(pool));
            self.claimed.store(true, Ordering::Relaxed);
        }
    }

    /// Has one of the pools close an idle connection, unless one is being closed already.
    fn make_room(&self) {
        if self.places.coming.swap(true, Ordering::AcqRel) {
            return;
        }
        let pools: Vec<_> = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        if !pools.iter().any(Pool::evict) {
            self.places.coming.store(false, Ordering::Release);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        self.0.coming.store(false, Ordering::Release);
    }
}

/// A place under each of `limits` for a connection of `pool`. Where one is full, an idle connection of a pool that
/// shares it is closed, and a pool that has none at all gets the next place, so that a busy pool cannot starve it.
pub(super) fn acquire_all(limits: &[Arc<Limit>], pool: &Arc<Pool>) -> Option<Vec<Permit>> {
    let acquire = |limit: &Arc<Limit>| {
        let permit = if limit.is_claimed_from(pool) { None } else { limit.try_acquire() };
        if permit.is_none() {
            limit.claim(pool);
            limit.make_room();
        }
        permit
    };
    limits.iter().map(acquire).collect()
}

/// A place under each of `limits` that nobody waits for, for a connection that no client needs.
pub(super) fn acquire_spare(limits: &[Arc<Limit>]) -> Option<Vec<Permit>> {
    let spare = |limit: &Arc<Limit>| {
        if limit.is_claimed_by_another_than(std::ptr::null()) { None } else { limit.try_acquire() }
    };
    limits.iter().map(spare).collect()
}

/// A place under each of `limits` for a connection of no pool. Where one is full, an idle connection of a pool that
/// shares it is closed; pools that have none at all come first.
pub(super) fn acquire_outside(limits: &[Arc<Limit>]) -> Option<Vec<Permit>> {
    let acquire = |limit: &Arc<Limit>| {
        let claimed = limit.is_claimed_by_another_than(std::ptr::null());
        let permit = if claimed { None } else { limit.try_acquire() };
        if permit.is_none() {
            limit.make_room();
        }
        permit
    };
    limits.iter().map(acquire).collect()
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
}
