//! Failed logins by address, so that nobody can try passwords without end. Bounded: where the table is full, the address
//! that has been in it for longest is forgotten.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::clock::millis;
use crate::config::Authentication;

/// Addresses that are remembered, at about 100 bytes each.
const MOST: usize = 10_000;

/// Failed logins by address.
#[derive(Debug, Default)]
pub(in crate::frontend) struct Failures(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// How many failed since when.
    counts: HashMap<IpAddr, (u32, u64)>,
    /// In the order in which they were first seen.
    order: VecDeque<IpAddr>,
}

impl Failures {
    /// Whether an address has failed too often lately.
    pub(super) fn are_too_many(&self, limits: &Authentication, address: IpAddr, now: u64) -> bool {
        let Some(limit) = limits.failed_logins else { return false };
        let within = millis(limits.failed_logins_within);
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.counts.get(&network(address));
        count.is_some_and(|(count, since)| *count >= limit && now.saturating_sub(*since) < within)
    }

    /// One more.
    pub(super) fn count(&self, limits: &Authentication, address: IpAddr, now: u64) {
        if limits.failed_logins.is_none() {
            return;
        }
        let (address, within) = (network(address), millis(limits.failed_logins_within));
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &mut *table;
        if let Some((count, since)) = table.counts.get_mut(&address) {
            if now.saturating_sub(*since) >= within {
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
    use std::time::Duration;

    fn limits(failed_logins: Option<u32>) -> Authentication {
        Authentication {
            rules: None,
            lookup: None,
            max_logins: 1,
            failed_logins,
            failed_logins_within: Duration::from_secs(10),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_refused_after_its_limit_until_its_failures_are_forgotten() {
        let (failures, limits) = (Failures::default(), limits(Some(3)));
        let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..3 {
            assert!(!failures.are_too_many(&limits, one, 1_000));
            failures.count(&limits, one, 1_000);
        }
        assert!(
            failures.are_too_many(&limits, one, 10_999) && !failures.are_too_many(&limits, other, 10_999)
        );
        assert!(!failures.are_too_many(&limits, one, 11_000));
        failures.count(&limits, one, 11_000);
        assert!(!failures.are_too_many(&limits, one, 11_000), "counted from the start");
    }

    #[test]
    fn neighbours_of_ipv6_count_as_one_and_without_a_limit_nobody_counts() {
        let (failures, limits) = (Failures::default(), limits(Some(1)));
        failures.count(&limits, address("2001:db8::1"), 0);
        assert!(failures.are_too_many(&limits, address("2001:db8::ffff:1"), 0));
        assert!(!failures.are_too_many(&limits, address("2001:db8:0:1::1"), 0));
        failures.count(&limits, address("::ffff:1.2.3.4"), 0);
        assert!(failures.are_too_many(&limits, address("1.2.3.4"), 0));
        let (unlimited, none) = (Failures::default(), Authentication { failed_logins: None, ..limits });
        unlimited.count(&none, address("1.2.3.4"), 0);
        assert!(!unlimited.are_too_many(&none, address("1.2.3.4"), 0));
    }

    #[test]
    fn the_table_stays_bounded() {
        let (failures, limits) = (Failures::default(), limits(Some(1)));
        for number in 0..3 * MOST as u32 {
            failures.count(&limits, IpAddr::V4(number.into()), 0);
        }
        let table = failures.0.lock().unwrap();
        assert_eq!((table.counts.len(), table.order.len()), (MOST, MOST));
    }
}
