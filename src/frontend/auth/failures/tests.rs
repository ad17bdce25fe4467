use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn limits(failed_logins: Option<u32>) -> Authentication {
    Authentication {
        rules: None,
        lookup: None,
        max_logins: 1,
        failed_logins,
        failed_logins_within: Duration::from_secs(10),
        salt_secret: None,
    }
}

fn address(text: &str) -> IpAddr {
    network(text.parse().unwrap())
}

/// Limit and time.
const LATELY: fn(u64) -> Lately = |now| (now, 10_000);

fn fail(table: &mut Table, address: IpAddr, limit: u32, now: u64) -> Room {
    let room = table.take(address, limit, LATELY(now));
    if room == Room::Guess {
        table.settle(address, true, LATELY(now));
    }
    room
}

#[test]
fn an_address_is_refused_after_its_limit_until_its_failures_are_forgotten() {
    let mut table = Table::default();
    let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
    for _ in 0..3 {
        assert_eq!(fail(&mut table, one, 3, 1_000), Room::Guess);
    }
    assert_eq!(table.room(one, 3, LATELY(10_999)), Room::Nothing);
    assert_eq!(table.room(other, 3, LATELY(10_999)), Room::Guess);
    assert_eq!(fail(&mut table, one, 3, 11_000), Room::Guess, "forgotten");
    assert_eq!(table.room(one, 3, LATELY(11_000)), Room::Guess, "counted from the start");
}

#[test]
fn neighbours_of_ipv6_count_as_one() {
    let mut table = Table::default();
    fail(&mut table, address("2001:db8::1"), 1, 0);
    assert_eq!(table.room(address("2001:db8::ffff:1"), 1, LATELY(0)), Room::Nothing);
    assert_eq!(table.room(address("2001:db8:0:1::1"), 1, LATELY(0)), Room::Guess);
    fail(&mut table, address("::ffff:1.2.3.4"), 1, 0);
    assert_eq!(table.room(address("1.2.3.4"), 1, LATELY(0)), Room::Nothing);
}

#[test]
fn guesses_that_are_not_decided_count_and_right_ones_leave_nothing() {
    let mut table = Table::default();
    let one = address("10.0.0.1");
    for _ in 0..3 {
        assert_eq!(table.take(one, 3, LATELY(0)), Room::Guess);
    }
    assert_eq!(table.take(one, 3, LATELY(0)), Room::Later);
    table.settle(one, true, LATELY(0));
    assert_eq!(table.take(one, 3, LATELY(0)), Room::Later, "one failed and two may");
    table.settle(one, false, LATELY(0));
    assert_eq!(table.take(one, 3, LATELY(0)), Room::Guess);
    table.settle(one, false, LATELY(0));
    table.settle(one, false, LATELY(0));
    assert_eq!(table.counts.len(), 1);
    let other = address("10.0.0.2");
    table.take(other, 3, LATELY(0));
    table.settle(other, false, LATELY(0));
    assert_eq!((table.counts.len(), table.order.len()), (1, 1));
}

#[test]
fn the_table_stays_bounded() {
    let mut table = Table::default();
    for number in 0..3 * MOST as u32 {
        fail(&mut table, IpAddr::V4(number.into()), 1, 0);
    }
    assert_eq!((table.counts.len(), table.order.len()), (MOST, MOST));
    // Whoever was forgotten in the middle of a guess counts all the same.
    let first = IpAddr::V4(0.into());
    table.settle(first, true, LATELY(0));
    assert_eq!(table.room(first, 1, LATELY(0)), Room::Nothing);
    assert_eq!((table.counts.len(), table.order.len()), (MOST, MOST));
}

struct Stage {
    failures: Failures,
    limits: Authentication,
    clock: Clock,
}

impl Stage {
    fn gate(&self, address: Option<&str>) -> Gate<'_> {
        let address = address.map(|text| text.parse().unwrap());
        Gate { failures: &self.failures, limits: &self.limits, clock: &self.clock, address }
    }
}

fn stage(failed_logins: Option<u32>) -> Stage {
    Stage { failures: Failures::default(), limits: limits(failed_logins), clock: Clock::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn without_a_limit_or_an_address_nobody_is_counted() {
    for (stage, address) in [(stage(None), Some("1.2.3.4")), (stage(Some(1)), None)] {
        for _ in 0..3 {
            drop(runtime().block_on(stage.gate(address).pass()).unwrap());
        }
        assert!(!stage.gate(address).is_closed());
        assert!(stage.failures.table().counts.is_empty());
    }
}

#[test]
fn a_guess_that_nobody_waits_for_has_failed() {
    let stage = stage(Some(1));
    let gate = stage.gate(Some("10.0.0.1"));
    runtime().block_on(gate.pass()).unwrap().give_back();
    assert!(!gate.is_closed());
    drop(runtime().block_on(gate.pass()));
    assert!(gate.is_closed());
    assert!(runtime().block_on(gate.pass()).is_none());
}

/// Many threads at once, each of which holds its guess for a moment: never more undecided and failed ones than the limit.
#[test]
fn of_many_at_once_no_more_than_the_limit_fail_and_right_ones_all_pass() {
    let stage = Arc::new(stage(Some(3)));
    let at_once = |is_right: bool| {
        let (passed, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (stage, passed, inside) = (Arc::clone(&stage), Arc::clone(&passed), Arc::clone(&inside));
                std::thread::spawn(move || {
                    let guess = runtime().block_on(stage.gate(Some("10.0.0.1")).pass());
                    let Some(guess) = guess else { return };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                    passed.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    if is_right { guess.give_back() } else { drop(guess) }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        passed.load(Ordering::SeqCst)
    };
    assert_eq!(at_once(true), 16);
    assert_eq!(at_once(false), 3);
}
