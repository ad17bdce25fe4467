//! Times in buckets that grow with them: four for each doubling, from a microsecond to four minutes. A quantile that is
//! read from them is at most an eighth away from the truth, in 900 bytes.

use std::sync::atomic::AtomicU64;

use super::shard::add;
use super::traffic::read;

/// The first bucket's upper bound, as a power of two of nanoseconds, and how many doublings follow it.
const FIRST: u32 = 10;
const DOUBLINGS: u32 = 28;
const PARTS: u32 = 4;

/// Below the first bound, each part of each doubling, and what is longer.
const BUCKETS: usize = (DOUBLINGS * PARTS) as usize + 2;

/// How many took how long. Only one thread adds.
#[derive(Debug)]
pub(super) struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Histogram {
    pub(super) fn observe(&self, nanos: u64) {
        add(&self.0[bucket(nanos)], 1);
    }

    /// Takes what another has.
    pub(super) fn take(&self, other: &Self) {
        // Most have but a few.
        let counted = self.0.iter().zip(&other.0).map(|(own, other)| (own, read(other)));
        counted.filter(|(_, count)| *count > 0).for_each(|(own, count)| add(own, count));
    }
}

/// What was read of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread([u64; BUCKETS]);

impl Default for Spread {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Spread {
    pub(super) fn read(&mut self, histogram: &Histogram) {
        self.0.iter_mut().zip(&histogram.0).for_each(|(own, other)| *own += read(other));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own += other);
    }

    /// The time that so many of a thousand have not exceeded, in nanoseconds; `None` if nothing was observed.
    pub(super) fn quantile(&self, of_thousand: u64) -> Option<u64> {
        let all: u64 = self.0.iter().sum();
        let wanted = (u128::from(all) * u128::from(of_thousand)).div_ceil(1_000).max(1);
        let mut below = 0_u128;
        for (number, count) in self.0.iter().enumerate() {
            let here = below + u128::from(*count);
            if here >= wanted {
                // They are taken to be spread evenly within their bucket.
                let (from, to) = (bound(number), bound(number + 1));
                let part = u128::from(to - from) * (wanted - below) / u128::from(*count).max(1);
                return Some(from + part as u64);
            }
            below = here;
        }
        None
    }
}

fn bucket(nanos: u64) -> usize {
    let Some(doubling) = nanos.checked_ilog2().and_then(|log| log.checked_sub(FIRST)) else { return 0 };
    // Two bits behind the highest one.
    let part = (nanos >> (doubling + FIRST - 2)) & u64::from(PARTS - 1);
    (1 + (doubling * PARTS) as usize + part as usize).min(BUCKETS - 1)
}

/// The lowest time of a bucket.
fn bound(number: usize) -> u64 {
    let Some(place) = number.checked_sub(1) else { return 0 };
    let (doubling, part) = (place as u32 / PARTS, place as u64 % u64::from(PARTS));
    (u64::from(PARTS) + part) << (doubling + FIRST - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_between_whose_bounds_it_is() {
        let times = (0..63).flat_map(|log| [(1_u64 << log) - 1, 1 << log, (1 << log) + (1 << log) / 3]);
        for nanos in times.chain([u64::MAX]) {
            let number = bucket(nanos);
            assert!(bound(number) <= nanos, "{nanos}");
            assert!(nanos < bound(number + 1) || number == BUCKETS - 1, "{nanos}");
        }
        assert_eq!((bound(1), bound(BUCKETS - 1)), (1 << FIRST, 1 << (FIRST + DOUBLINGS)));
    }

    #[test]
    fn a_quantile_is_at_most_an_eighth_off() {
        let histogram = Histogram::default();
        (1..=10_000_u64).for_each(|n| histogram.observe(n * 1_000));
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(500), None);
        spread.read(&histogram);
        for of_thousand in [1, 10, 500, 900, 950, 990, 999, 1_000] {
            let (told, truth) = (spread.quantile(of_thousand).unwrap(), of_thousand * 10_000);
            assert!(told.abs_diff(truth) <= truth / 8, "{of_thousand}: {told} for {truth}");
        }
    }

    #[test]
    fn one_that_takes_another_has_both() {
        let (first, second) = (Histogram::default(), Histogram::default());
        first.observe(5_000);
        second.observe(7_000_000);
        first.take(&second);
        let (mut both, mut sum) = (Spread::default(), Spread::default());
        both.read(&first);
        let mut own = Spread::default();
        own.0[bucket(5_000)] = 1;
        sum.read(&second);
        sum.add(&own);
        assert_eq!(both, sum);
    }
}
