//! Stories of the queue, with numbers for connections and a clock that is an argument.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::queue::{Back, Limits, OVERTAKING, Queue};
use super::wait::Waiter;

fn queue(size: u32, min: u32, reserve: u32) -> Queue<u32> {
    Queue::new(Limits { size, min, reserve, reserve_after: 1000 })
}

/// A pool whose connections `0..size` exist and rest, all last used by worker 0.
fn filled(size: u32) -> Queue<u32> {
    let mut queue = queue(size, 0, 0);
    for conn in 0..size {
        let _ = queue.wait(Arc::default(), 0, 0);
        assert!(queue.start_opening(0));
        queue.drain_waiters();
        queue.opened();
        assert!(matches!(queue.give_back(conn, 0, 0), Back::Kept));
    }
    queue
}

fn granted(back: Back<u32>) -> Arc<Waiter<u32>> {
    match back {
        Back::Granted(waiter, conn) => {
            assert_eq!(waiter.grant(conn), Ok(()));
            waiter
        }
        other => panic!("{other:?}"),
    }
}

fn line_up(queue: &mut Queue<u32>, worker: usize) -> Arc<Waiter<u32>> {
    queue.wait(Arc::default(), worker, 0)
}

#[test]
fn a_connection_that_came_back_before_its_client_lined_up_is_free() {
    let mut queue = filled(1);
    let conn = queue.take(0, |_| 0).unwrap();
    assert_eq!(queue.take(1, |_| 0), None);
    assert!(!queue.is_free());
    assert!(matches!(queue.give_back(conn, 0, 0), Back::Kept));
    assert!(queue.is_free(), "and whoever waits instead waits in vain");
}

#[test]
fn of_a_workers_connections_the_one_that_suits_best_is_taken() {
    let mut queue = filled(4);
    assert_eq!(queue.take(0, |conn| u8::from(*conn < 3)), Some(2));
    assert_eq!(queue.take(0, |conn| u8::from(*conn == 0)), Some(0));
    assert!(matches!(queue.give_back(2, 1, 5), Back::Kept));
    assert_eq!(queue.take(1, |conn| u8::from(*conn == 3)), Some(2), "its own worker's before another's");
}

#[test]
fn the_connection_that_was_used_last_is_used_next() {
    let mut queue = filled(3);
    assert_eq!(queue.take(0, |_| 0), Some(2));
    assert_eq!(queue.take(0, |_| 0), Some(1));
    assert!(matches!(queue.give_back(2, 0, 5), Back::Kept));
    assert_eq!(queue.take(0, |_| 0), Some(2));
}

#[test]
fn a_worker_prefers_its_own_connections_and_takes_others_rather_than_wait() {
    let mut queue = filled(3);
    let (a, b) = (queue.take(0, |_| 0).unwrap(), queue.take(0, |_| 0).unwrap());
    assert!(matches!(queue.give_back(a, 1, 5), Back::Kept));
    assert!(matches!(queue.give_back(b, 0, 6), Back::Kept));
    assert_eq!(queue.take(1, |_| 0), Some(a));
    assert_eq!(queue.take(1, |_| 0), Some(b));
}

#[test]
fn clients_of_one_worker_are_served_in_the_order_in_which_they_came() {
    let mut queue = filled(1);
    let conn = queue.take(0, |_| 0).unwrap();
    let waiters: Vec<_> = (0..5).map(|_| line_up(&mut queue, 0)).collect();
    for waiter in &waiters {
        assert!(Arc::ptr_eq(&granted(queue.give_back(conn, 0, 0)), waiter));
    }
    assert!(matches!(queue.give_back(conn, 0, 0), Back::Kept));
}

#[test]
fn a_newcomer_never_overtakes_those_who_wait() {
    let mut queue = filled(2);
    let (first, _second) = (queue.take(0, |_| 0).unwrap(), queue.take(0, |_| 0).unwrap());
    let waiter = line_up(&mut queue, 1);
    assert_eq!(queue.take(0, |_| 0), None);
    assert!(Arc::ptr_eq(&granted(queue.give_back(first, 0, 0)), &waiter));
    assert_eq!(queue.take(0, |_| 0), None, "nothing is idle");
}

#[test]
fn another_workers_client_is_passed_over_a_bounded_number_of_times() {
    let mut queue = filled(1);
    let conn = queue.take(0, |_| 0).unwrap();
    let patient = line_up(&mut queue, 1);
    for turn in 0..OVERTAKING {
        let favoured = line_up(&mut queue, 0);
        assert!(Arc::ptr_eq(&granted(queue.give_back(conn, 0, 0)), &favoured), "turn {turn}");
    }
    let _favoured = line_up(&mut queue, 0);
    assert!(Arc::ptr_eq(&granted(queue.give_back(conn, 0, 0)), &patient));
}

#[test]
fn as_many_connections_are_opened_as_clients_wait_and_no_more_than_the_size() {
    let mut queue = queue(2, 0, 0);
    assert!(!queue.start_opening(0), "nobody waits");
    for expected in [true, true, false, false] {
        line_up(&mut queue, 0);
        assert_eq!(queue.start_opening(0), expected);
    }
    queue.opening_ended();
    assert!(queue.start_opening(0), "a failed attempt makes room for the next");
}

#[test]
fn the_reserve_is_for_clients_that_have_waited_too_long() {
    let mut queue = queue(1, 0, 1);
    line_up(&mut queue, 0);
    line_up(&mut queue, 0);
    assert!(queue.start_opening(0));
    assert!(!queue.start_opening(999));
    assert!(queue.start_opening(1000));
    assert!(!queue.start_opening(9999));
    // When nobody waits any more, the surplus goes.
    queue.opened();
    queue.opened();
    granted(queue.give_back(1, 0, 0));
    granted(queue.give_back(2, 0, 0));
    assert!(matches!(queue.give_back(1, 0, 0), Back::Surplus(1)));
    queue.closing();
    queue.lost();
    assert!(matches!(queue.give_back(2, 0, 0), Back::Kept));
}

#[test]
fn the_minimum_is_opened_without_anybody_asking_and_survives_the_sweep() {
    let mut queue = queue(3, 2, 0);
    while queue.start_opening(0) {
        queue.opened();
    }
    for conn in 0..2 {
        assert!(matches!(queue.give_back(conn, 0, 0), Back::Kept));
    }
    assert_eq!(queue.gauges().idle, 2);
    assert!(queue.sweep(1_000_000, Some(10), |_| false).is_empty());
    assert_eq!(queue.evict(), None);
    assert_eq!(queue.sweep(1_000_000, Some(10), |conn| *conn == 0), [0], "but not if it is dead");
    queue.closing();
    queue.lost();
    assert!(queue.start_opening(0), "and then another is opened");
}

#[test]
fn what_lies_unused_too_long_is_closed_and_the_longest_unused_is_evicted_first() {
    let mut queue = filled(3);
    let conn = queue.take(0, |_| 0).unwrap();
    assert!(matches!(queue.give_back(conn, 0, 500), Back::Kept));
    assert_eq!(queue.evict(), Some(0));
    assert_eq!(queue.sweep(700, Some(600), |_| false), [1]);
    assert_eq!(queue.gauges().idle, 1);
    assert!(queue.sweep(u64::MAX, None, |_| false).is_empty());
}

#[test]
fn a_client_that_left_is_not_served_and_what_it_was_granted_is_not_lost() {
    let mut queue = filled(1);
    let conn = queue.take(0, |_| 0).unwrap();
    let (first, second) = (line_up(&mut queue, 0), line_up(&mut queue, 0));
    queue.leave(&first);
    assert!(Arc::ptr_eq(&granted(queue.give_back(conn, 0, 0)), &second));
    // It had been granted the connection, and goes before it looks.
    assert_eq!(second.leave(), Some(conn));
    // And one that goes before it is granted anything gives the connection back to whoever grants it.
    let third = line_up(&mut queue, 0);
    assert_eq!(third.leave(), None);
    assert_eq!(third.grant(conn), Err(conn));
}

#[test]
fn a_waiter_hears_what_became_of_it() {
    let waiter = Waiter::<u32>::default();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiter.poll(&mut cx).is_pending());
    assert_eq!(waiter.grant(7), Ok(()));
    assert_eq!(waiter.poll(&mut cx), Poll::Ready(Ok(7)));
    assert!(waiter.poll(&mut cx).is_pending(), "once");
}

/// Random workers, waits and returns: nobody waits while anything rests, and nothing is lost.
#[test]
fn nobody_waits_while_a_connection_rests_whatever_happens() {
    let mut seed = 42_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut queue = filled(4);
    let (mut leased, mut waiting): (Vec<u32>, Vec<Arc<Waiter<u32>>>) = (Vec::new(), Vec::new());
    for step in 0..100_000 {
        let worker = random(3) as usize;
        match random(3) {
            0 => match queue.take(worker, |_| 0) {
                Some(conn) => leased.push(conn),
                None => waiting.push(line_up(&mut queue, worker)),
            },
            1 if !leased.is_empty() => {
                let conn = leased.swap_remove(random(leased.len() as u64) as usize);
                if let Back::Granted(waiter, conn) = queue.give_back(conn, worker, step) {
                    waiting.retain(|known| !Arc::ptr_eq(known, &waiter));
                    leased.push(conn);
                }
            }
            _ if !waiting.is_empty() && random(4) == 0 => {
                let waiter = waiting.swap_remove(random(waiting.len() as u64) as usize);
                queue.leave(&waiter);
            }
            _ => {}
        }
        let gauges = queue.gauges();
        assert!(gauges.idle == 0 || gauges.waiting == 0, "step {step}: {gauges:?}");
        assert_eq!((gauges.idle + gauges.active, gauges.waiting), (4, waiting.len() as u64), "step {step}");
    }
}
