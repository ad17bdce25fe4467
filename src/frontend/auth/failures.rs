//! Failed logins by address, so that nobody can try passwords without end. Bounded: where the table is full, the address
//! that has been in it for longest is forgotten.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::millis;

/// Addresses that are remembered, at about 100 bytes each.
const MOST: usize = 10_000;

/// Failed logins by address.
#[derive(Debug)]
pub(in crate::frontend) struct Failures {
    /// `None` is no limit.
    limit: Option<u32>,
    within: u64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// How many failed since when.
    counts: HashMap<IpAddr, (u32, u64)>,
    /// In the order in which they were first seen.
    order: VecDeque<IpAddr>,
}

impl Failures {
    pub(in crate::frontend) fn new(limit: Option<u32>, within: Duration) -> Self {
        Self { limit, within: millis(within), table: Mutex::default() }
    }

    /// Whether an address has failed too often lately.
    pub(super) fn are_too_many(&self, address: IpAddr, now: u64) -> bool {
        let Some(limit) = self.limit else { return false };
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.counts.get(&network(address));
        count.is_some_and(|(count, since)| *count >= limit && now.saturating_sub(*since) < self.within)
    }

    /// One more.
    pub(super) fn count(&self, address: IpAddr, now: u64) {
        if self.limit.is_none() {
            return;
        }
        let address = network(address);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &mut *table;
        if let Some((count, since)) = table.counts.get_mut(&address) {
            if now.saturating_sub(*since) >= self.within {
                (*count, *since) = (0, now);
            }
            *count = count.saturating_add(1);
            return;
        }
        if table.counts.len() >= MOST
            && let Some(oldest) = table.order.pop_front()
        {
            table.counts.remove(&oldest);
        }
        table.counts.insert(address, (1, now));
        table.order.push_back(address);
    }
}

/// Whoever has one address of IPv6 usually has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_refused_after_its_limit_until_its_failures_are_forgotten() {
        let failures = Failures::new(Some(3), Duration::from_secs(10));
        let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..3 {
            assert!(!failures.are_too_many(one, 1_000));
            failures.count(one, 1_000);
        }
        assert!(failures.are_too_many(one, 10_999) && !failures.are_too_many(other, 10_999));
        assert!(!failures.are_too_many(one, 11_000));
        failures.count(one, 11_000);
        assert!(!failures.are_too_many(one, 11_000), "counted from the start");
    }

    #[test]
    fn neighbours_of_ipv6_count_as_one_and_without_a_limit_nobody_counts() {
        let failures = Failures::new(Some(1), Duration::from_secs(10));
        failures.count(address("2001:db8::1"), 0);
        assert!(failures.are_too_many(address("2001:db8::ffff:1"), 0));
        assert!(!failures.are_too_many(address("2001:db8:0:1::1"), 0));
        failures.count(address("::ffff:1.2.3.4"), 0);
        assert!(failures.are_too_many(address("1.2.3.4"), 0));
        let unlimited = Failures::new(None, Duration::from_secs(10));
        unlimited.count(address("1.2.3.4"), 0);
        assert!(!unlimited.are_too_many(address("1.2.3.4"), 0));
    }

    #[test]
    fn the_table_stays_bounded() {
        let failures = Failures::new(Some(1), Duration::from_secs(10));
        for number in 0..3 * MOST as u32 {
            failures.count(IpAddr::V4(number.into()), 0);
        }
        let table = failures.table.lock().unwrap();
        assert_eq!((table.counts.len(), table.order.len()), (MOST, MOST));
    }
}
