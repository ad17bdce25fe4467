use super::*;
use crate::notify::channel::canonical;
use crate::notify::mailbox::Mailbox;

type Answer = oneshot::Receiver<Result<(), ListenError>>;

const MANY: usize = 100;

fn name(text: &str) -> Name {
    canonical(text.as_bytes()).unwrap()
}

fn mailbox() -> Arc<Mailbox> {
    Mailbox::new(10_000)
}

fn request(table: &mut Table, mailbox: &Mailbox, channel: &str) -> Answer {
    let (done, answer) = oneshot::channel();
    assert!(table.request(&name(channel), Waiter { slot: Arc::clone(mailbox.slot()), done }, MANY));
    answer
}

fn listen(table: &mut Table) -> (Name, Vec<Waiter>) {
    match table.next() {
        Some(Order::Listen(name, waiters)) => (name, waiters),
        other => panic!("{other:?}"),
    }
}

fn subscribe(table: &mut Table, mailbox: &Mailbox, channel: &str) {
    let mut answer = request(table, mailbox, channel);
    let (name, waiters) = listen(table);
    table.answered(&name, waiters, Ok(()));
    assert_eq!(answer.try_recv(), Ok(Ok(())));
}

fn deliver(table: &Table, channel: &str, message: &str) -> usize {
    table.deliver(channel.as_bytes(), message.as_bytes(), &mut Vec::new())
}

fn taken(mailbox: &Mailbox) -> String {
    let mut out = Vec::new();
    mailbox.take(&mut out, 10_000).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_subscription_begins_at_the_answer_and_not_before() {
    let (mut table, old, new) = (Table::default(), mailbox(), mailbox());
    subscribe(&mut table, &old, "a");
    let mut answer = request(&mut table, &new, "a");
    assert_eq!(deliver(&table, "a", "1"), 1);
    let (name, waiters) = listen(&mut table);
    assert_eq!(deliver(&table, "a", "2"), 1);
    assert!(answer.try_recv().is_err() && !new.is_listening());
    table.answered(&name, waiters, Ok(()));
    assert!(answer.try_recv().is_ok() && new.is_listening());
    assert_eq!(deliver(&table, "a", "3"), 2);
    assert_eq!(deliver(&table, "b", "4"), 0);
    assert_eq!((taken(&old).as_str(), taken(&new).as_str()), ("123", "3"));
}

#[test]
fn those_that_ask_before_the_order_goes_out_share_it_and_later_ones_do_not() {
    let (mut table, a, b, c) = (Table::default(), mailbox(), mailbox(), mailbox());
    let mut answers = vec![request(&mut table, &a, "x"), request(&mut table, &b, "x")];
    let first = listen(&mut table);
    assert_eq!(first.1.len(), 2);
    assert!(table.next().is_none());
    answers.push(request(&mut table, &c, "x"));
    let second = listen(&mut table);
    table.answered(&first.0, first.1, Ok(()));
    assert_eq!(deliver(&table, "x", "1"), 2);
    table.answered(&second.0, second.1, Ok(()));
    assert_eq!(deliver(&table, "x", "2"), 3);
    assert!(answers.iter_mut().all(|answer| answer.try_recv() == Ok(Ok(()))));
}

#[test]
fn the_server_is_told_when_the_last_one_has_left_and_not_earlier() {
    let (mut table, a, b) = (Table::default(), mailbox(), mailbox());
    subscribe(&mut table, &a, "x");
    subscribe(&mut table, &b, "x");
    table.unsubscribe(&name("x"), a.slot());
    assert!(table.next().is_none());
    assert_eq!(deliver(&table, "x", "1"), 1);
    assert!(table.unsubscribe(&name("x"), b.slot()));
    assert_eq!(deliver(&table, "x", "2"), 0);
    assert!(matches!(table.next(), Some(Order::Unlisten(gone)) if *gone == *b"x"));
    assert!(table.is_empty() && table.next().is_none());
    assert_eq!((taken(&a).as_str(), taken(&b).as_str()), ("", "1"));
    assert!(!a.is_listening() && !b.is_listening());
}

#[test]
fn somebody_who_comes_before_the_server_was_told_keeps_the_channel() {
    let (mut table, a, b) = (Table::default(), mailbox(), mailbox());
    subscribe(&mut table, &a, "x");
    table.unsubscribe(&name("x"), a.slot());
    let mut answer = request(&mut table, &b, "x");
    let (asked, waiters) = listen(&mut table);
    assert!(table.next().is_none());
    table.answered(&asked, waiters, Ok(()));
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert!(table.next().is_none());
    assert_eq!(deliver(&table, "x", "1"), 1);
}

#[test]
fn somebody_who_comes_after_the_server_was_told_has_it_told_again() {
    let (mut table, a) = (Table::default(), mailbox());
    subscribe(&mut table, &a, "x");
    table.unsubscribe(&name("x"), a.slot());
    assert!(matches!(table.next(), Some(Order::Unlisten(_))));
    subscribe(&mut table, &a, "x");
    assert_eq!(deliver(&table, "x", "1"), 1);
}

#[test]
fn those_that_left_while_they_waited_are_not_subscribed() {
    let (mut table, a, b) = (Table::default(), mailbox(), mailbox());
    drop(request(&mut table, &a, "x"));
    table.unsubscribe(&name("x"), a.slot());
    assert!(table.next().is_none() && table.is_empty());
    let answer = request(&mut table, &b, "x");
    let (asked, waiters) = listen(&mut table);
    drop(answer);
    // Not before the answer: the server would be told in the wrong order.
    assert!(!table.unsubscribe(&name("x"), b.slot()));
    assert!(table.next().is_none());
    table.answered(&asked, waiters, Ok(()));
    assert_eq!(deliver(&table, "x", "1"), 0);
    assert!(!b.is_listening());
    assert!(matches!(table.next(), Some(Order::Unlisten(_))));
    assert!(table.is_empty());
}

#[test]
fn a_refusal_concerns_those_that_asked_and_nobody_else() {
    let (mut table, a, b) = (Table::default(), mailbox(), mailbox());
    subscribe(&mut table, &a, "x");
    let mut answer = request(&mut table, &b, "x");
    let (asked, waiters) = listen(&mut table);
    let refused = ListenError::Refused { sqlstate: "25006".into(), message: "no".into() };
    table.answered(&asked, waiters, Err(refused.clone()));
    assert_eq!(answer.try_recv(), Ok(Err(refused.clone())));
    assert_eq!(deliver(&table, "x", "1"), 1);
    let mut answer = request(&mut table, &b, "y");
    let (asked, waiters) = listen(&mut table);
    table.answered(&asked, waiters, Err(refused.clone()));
    assert_eq!(answer.try_recv(), Ok(Err(refused)));
    assert!(table.next().is_none());
    assert_eq!(table.len(), 1);
}

#[test]
fn a_lost_connection_fails_those_that_listen_and_refuses_those_that_wait() {
    let (mut table, a, b, idle) = (Table::default(), mailbox(), mailbox(), mailbox());
    table.running = true;
    subscribe(&mut table, &a, "x");
    subscribe(&mut table, &a, "y");
    deliver(&table, "x", "1");
    let mut answer = request(&mut table, &b, "x");
    assert!(table.fail(&ListenError::Lost).is_empty());
    assert!(table.is_empty() && table.next().is_none() && !table.running);
    assert_eq!(answer.try_recv(), Ok(Err(ListenError::Lost)));
    assert_eq!(taken(&a), "1");
    assert_eq!(a.take(&mut Vec::new(), 100), Err(Failure::Lost));
    assert!(a.is_listening(), "its client has still to hear of it");
    assert_eq!(b.take(&mut Vec::new(), 100), Ok(0));
    assert_eq!(idle.take(&mut Vec::new(), 100), Ok(0));
}

#[test]
fn one_channel_too_many_is_refused_and_another_listener_of_a_known_one_is_not() {
    let (mut table, a) = (Table::default(), mailbox());
    let mut ask = |channel: &str, max: usize| {
        let done = oneshot::channel().0;
        table.request(&name(channel), Waiter { slot: Arc::clone(a.slot()), done }, max)
    };
    assert!(ask("x", 1));
    assert!(ask("x", 1));
    assert!(!ask("y", 1));
}

/// The table against a server that is played: whatever the order of events, the server has every channel that somebody
/// is subscribed to, and in the end no other.
#[test]
fn at_every_moment_the_server_has_what_is_subscribed() {
    use std::collections::{HashSet, VecDeque};
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        // A linear congruential generator is random enough here, and the same each time.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut table, mut server) = (Table::default(), HashSet::new());
    let mut flights: VecDeque<Option<(Name, Vec<Waiter>)>> = VecDeque::new();
    let boxes: Vec<_> = (0..5).map(|_| mailbox()).collect();
    let mut answers: Vec<Answer> = Vec::new();
    let serve = |table: &mut Table, server: &mut HashSet<Name>| match table.next()? {
        Order::Listen(name, waiters) => {
            server.insert(Arc::clone(&name));
            Some(Some((name, waiters)))
        }
        Order::Unlisten(name) => {
            server.remove(&name);
            Some(None)
        }
    };
    for step in 0..20_000 {
        let mailbox = &boxes[random(5) as usize];
        let channel = format!("c{}", random(4));
        match random(5) {
            0 => answers.push(request(&mut table, mailbox, &channel)),
            1 => {
                table.unsubscribe(&name(&channel), mailbox.slot());
            }
            2 if !answers.is_empty() => drop(answers.swap_remove(random(answers.len() as u64) as usize)),
            3 => flights.extend(serve(&mut table, &mut server)),
            _ => {
                if let Some(Some((name, waiters))) = flights.pop_front() {
                    table.answered(&name, waiters, Ok(()));
                }
            }
        }
        for name in table.channels.iter().filter(|(_, channel)| !channel.subscribers.is_empty()) {
            assert!(server.contains(name.0), "step {step}");
        }
    }
    for mailbox in &boxes {
        for n in 0..4 {
            table.unsubscribe(&name(&format!("c{n}")), mailbox.slot());
        }
    }
    loop {
        match flights.pop_front() {
            Some(Some((name, waiters))) => {
                table.answered(&name, waiters, Ok(()));
                for mailbox in &boxes {
                    table.unsubscribe(&name, mailbox.slot());
                }
            }
            Some(None) => {}
            None => match serve(&mut table, &mut server) {
                Some(flight) => flights.push_back(flight),
                None => break,
            },
        }
    }
    assert!(table.is_empty() && server.is_empty());
}
