//! Conversations as strings: capitals and small letters are the type bytes of the protocol. `>` tells what goes to
//! the server, `<` what comes back; `ZI`, `ZT`, `ZE` are ReadyForQuery with its status, `DS` and `DP` Describe.

use super::turn::{Asker, Dropped, Local, MAX_OWED, Mark, Reply, ReplyKind, Status, Turn, Violation};

fn send(turn: &mut Turn, messages: &str) {
    for message in messages.split_whitespace() {
        let bytes = message.as_bytes();
        turn.request(bytes[0], bytes.get(1).copied().unwrap_or(0), Asker::Client);
    }
}

fn receive(turn: &mut Turn, messages: &str) -> Result<(), Violation> {
    for message in messages.split_whitespace() {
        let bytes = message.as_bytes();
        turn.reply(bytes[0], bytes.get(1).copied().unwrap_or(0))?;
    }
    Ok(())
}

/// Plays `> ... < ... > ...` and returns the state after it.
fn play(script: &str) -> Result<Turn, Violation> {
    let mut turn = Turn::new();
    for line in script.split_inclusive(['>', '<']).collect::<Vec<_>>().windows(2) {
        let [direction, messages] = line else { continue };
        let messages = messages.trim_end_matches(['>', '<']);
        match direction.chars().last() {
            Some('>') => send(&mut turn, messages),
            _ => receive(&mut turn, messages)?,
        }
    }
    Ok(turn)
}

#[track_caller]
fn rests(script: &str) {
    let turn = play(script).unwrap_or_else(|violation| panic!("{script}: {violation}"));
    assert!(turn.at_rest(), "{script}: {turn:?}");
}

#[track_caller]
fn is_busy(script: &str) {
    let turn = play(script).unwrap_or_else(|violation| panic!("{script}: {violation}"));
    assert!(!turn.at_rest(), "{script}: {turn:?}");
}

#[test]
fn a_connection_rests_only_when_all_that_is_owed_has_come() {
    rests(">");
    rests("> Q < T D D C ZI");
    is_busy("> Q < T D D C");
    is_busy("> Q");
    rests("> Q Q < C ZI C ZI");
    is_busy("> Q Q < C ZI");
    rests("> Q < T D C I C ZI");
    rests("> F < V ZI");
    rests("> F < E ZI");
    rests("> S < ZI");
}

#[test]
fn an_open_transaction_is_not_rest() {
    is_busy("> Q < C ZT");
    is_busy("> Q < C ZT > Q < E ZE");
    rests("> Q < C ZT > Q < E ZE > Q < C ZI");
    let turn = play("> Q < C ZT").unwrap();
    assert!(turn.is_quiet() && turn.status() == Status::InTransaction);
}

#[test]
fn an_extended_batch_is_open_until_its_sync_is_answered() {
    is_busy("> P B E H < 1 2 D C");
    rests("> P B E H < 1 2 D C > S < ZI");
    rests("> P DS B DP E S < 1 t T 2 T D C ZI");
    rests("> P DS B DP E C S < 1 t n 2 n I 3 ZI");
    rests("> B E S B E S < 2 D s ZI 2 C ZI");
    is_busy("> B E S B E S < 2 D s ZI");
}

#[test]
fn an_error_skips_to_the_next_sync_and_no_further() {
    rests("> P B E S < E ZI");
    rests("> P B E S P B E S < E ZI 1 2 C ZI");
    rests("> P B E S P B E S < 1 2 E ZI E ZI");
    // The error comes before the Sync is sent: everything up to it is ignored, a Query as well.
    rests("> P H < E > B E Q S < ZI");
    is_busy("> P H < E > B E Q");
    rests("> P Q S < E ZI");
    // An error at Sync itself: a deferred constraint that fails at commit.
    rests("> B E S < 2 C E ZI");
}

#[test]
fn asynchronous_messages_change_nothing() {
    rests("> < N A S");
    rests("> Q < N S T A D N C S ZI");
    let mut turn = Turn::new();
    assert_eq!(turn.reply(b'S', 0), Ok(Reply { asker: Asker::Client, kind: ReplyKind::Parameter }));
}

#[test]
fn copy_out_and_copy_in_by_query() {
    rests("> Q < H d d c C ZI");
    is_busy("> Q < G");
    rests("> Q < G > d d c < C ZI");
    rests("> Q < G > d f < E ZI");
    // The error comes first; the client sends the rest of its data, which the server ignores.
    rests("> Q < G > d < E ZI > d d c");
    rests("> Q < G > d d c < E ZI");
    // Two COPYs in one Query.
    rests("> Q < G > d c < C G > c < C ZI");
    // A stray CopyDone, and one that travels with the next query.
    rests("> c < > Q < T C ZI");
    rests("> Q c Q < C ZI C ZI");
}

#[test]
fn copy_in_by_execute_ignores_syncs_until_its_data_ends() {
    rests("> P B E H < 1 2 G > d c S < C ZI");
    // libpq sends Sync with Execute, which COPY mode ignores, and another after CopyDone.
    rests("> P B DP E S < 1 2 n G > d d c S < C ZI");
    // All of it before the server says a word.
    rests("> P B E S d c S < 1 2 G C ZI");
    // No COPY came of it: both Syncs are answered.
    rests("> P B E S d c S < E ZI ZI");
    is_busy("> P B E S d c S < E ZI");
    rests("> P B E S d c S < 1 2 C ZI ZI");
}

#[test]
fn an_error_in_copy_in_by_execute_never_leaves_a_connection_that_looks_reusable_in_doubt() {
    rests("> P B E H < 1 2 G > d < E > d c S < ZI");
    rests("> P B E H < 1 2 G > d c S < E ZI");
    // With a Sync sent before COPY mode began it cannot be known whether one or two ReadyForQuery follow.
    is_busy("> P B E S < 1 2 G > d c S < E ZI");
    is_busy("> P B E S < 1 2 G > d c S < E ZI ZI");
    is_busy("> P B E S < 1 2 G > d < E > c S < ZI");
}

#[test]
fn copy_both_passes_data_both_ways() {
    rests("> Q < W d > d d < d c > c < C ZI");
    is_busy("> Q < W d");
}

#[test]
fn a_reply_that_is_not_owed_is_a_violation() {
    for script in [
        "> < ZI",
        "> < C",
        "> < T",
        "> < D",
        "> Q < 1",
        "> Q < ZI ZI",
        "> Q < C ZI C",
        "> P S < 2",
        "> P S < ZI",
        "> B E S < 2 ZI",
        "> E S < 2",
        "> S < C",
        "> Q < d",
        "> Q < c",
        "> Q < R",
        "> Q < K",
        "> DP S < t",
        "> F < C",
        "> P B E S < 1 2 G C",
        "> Q < ZX",
    ] {
        assert!(play(script).is_err(), "{script}");
    }
}

#[test]
fn replies_to_the_proxys_own_queries_are_not_the_clients() {
    let mut turn = Turn::new();
    turn.request(b'Q', 0, Asker::Proxy);
    send(&mut turn, "Q");
    for tag in [b'T', b'D', b'C', b'S', b'N'] {
        assert_eq!(turn.reply(tag, 0).unwrap().asker, Asker::Proxy, "{tag}");
    }
    assert_eq!(turn.reply(b'Z', b'I'), Ok(Reply { asker: Asker::Proxy, kind: ReplyKind::Ready }));
    assert_eq!(turn.reply(b'C', 0), Ok(Reply { asker: Asker::Client, kind: ReplyKind::Command }));
    assert_eq!(turn.reply(b'Z', b'I'), Ok(Reply { asker: Asker::Client, kind: ReplyKind::Ready }));
    assert!(turn.at_rest());
}

#[test]
fn the_queue_says_when_it_is_full() {
    let mut turn = Turn::new();
    for _ in 0..MAX_OWED {
        assert!(turn.has_room());
        turn.request(b'B', 0, Asker::Client);
    }
    assert!(!turn.has_room());
}

/// A model server with COPY-free rules, fed random requests: what the model answers is always what is owed.
#[test]
fn random_pipelines_are_answered_without_a_violation() {
    let mut seed: u64 = 0x5eed;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..20_000 {
        let mut turn = Turn::new();
        let mut skipping = false;
        let mut replies: Vec<(u8, u8)> = Vec::new();
        let length = random(12) + 1;
        for step in 0..=length {
            let (tag, target) = if step == length {
                (b'S', 0)
            } else {
                [
                    (b'Q', 0),
                    (b'P', 0),
                    (b'B', 0),
                    (b'D', b'S'),
                    (b'D', b'P'),
                    (b'E', 0),
                    (b'C', 0),
                    (b'S', 0),
                    (b'F', 0),
                ][random(9) as usize]
            };
            turn.request(tag, target, Asker::Client);
            if tag == b'S' {
                skipping = false;
                replies.push((b'Z', b'I'));
            } else if !skipping {
                let fails = random(5) == 0;
                match tag {
                    b'Q' | b'F' => {
                        let body = if tag == b'Q' { b'C' } else { b'V' };
                        replies.push((if fails { b'E' } else { body }, 0));
                        replies.push((b'Z', b'I'));
                    }
                    _ if fails => {
                        replies.push((b'E', 0));
                        skipping = true;
                    }
                    b'P' => replies.push((b'1', 0)),
                    b'B' => replies.push((b'2', 0)),
                    b'C' => replies.push((b'3', 0)),
                    b'E' => replies.push((b'C', 0)),
                    _ if target == b'S' => replies.extend([(b't', 0), (b'n', 0)]),
                    _ => replies.push((b'T', 0)),
                }
            }
            // Some of the replies arrive between the requests.
            while !replies.is_empty() && random(3) == 0 {
                let (tag, status) = replies.remove(0);
                turn.reply(tag, status).unwrap();
            }
        }
        for (tag, status) in replies {
            turn.reply(tag, status).unwrap();
        }
        assert!(turn.at_rest(), "{turn:?}");
    }
}

#[test]
fn a_local_reply_waits_for_its_turn() {
    let mut turn = play("> Q").unwrap();
    turn.answer_locally(Local::Closed);
    send(&mut turn, "S");
    assert_eq!(turn.take_local(), None);
    receive(&mut turn, "C ZI").unwrap();
    assert_eq!(turn.take_local(), Some(Local::Closed));
    assert_eq!(turn.take_local(), None);
    assert!(!turn.at_rest());
    receive(&mut turn, "ZI").unwrap();
    assert!(turn.at_rest());
}

#[test]
fn an_error_skips_local_replies_and_counts_what_was_not_done() {
    let mut turn = Turn::new();
    let shared = Mark { naming: true, shared: true, ..Mark::default() };
    turn.mark_request(b'P', 0, Asker::Client, shared);
    turn.answer_locally(Local::Closed);
    turn.mark_request(b'P', 0, Asker::Stead, Mark { shared: true, ..Mark::default() });
    send(&mut turn, "B E S");
    turn.answer_locally(Local::Closed);
    send(&mut turn, "S");
    let reply = turn.reply(b'E', 0).unwrap();
    assert_eq!(reply, Reply { asker: Asker::Client, kind: ReplyKind::Error });
    assert_eq!(turn.take_dropped(), Dropped { naming: 2, shared: 2 });
    assert_eq!(turn.take_dropped(), Dropped::default());
    assert_eq!(turn.take_local(), None);
    receive(&mut turn, "ZI").unwrap();
    assert_eq!(turn.take_local(), Some(Local::Closed), "of the next batch");
    receive(&mut turn, "ZI").unwrap();
    assert!(turn.at_rest());
}

#[test]
fn what_the_proxy_does_in_a_clients_stead_is_silent_unless_it_fails() {
    let mut turn = Turn::new();
    turn.request(b'C', b'S', Asker::Stead);
    turn.request(b'P', 0, Asker::Stead);
    send(&mut turn, "S");
    assert_eq!(turn.reply(b'3', 0).unwrap().asker, Asker::Proxy);
    assert_eq!(turn.reply(b'E', 0).unwrap().asker, Asker::Client);
    assert_eq!(turn.reply(b'Z', b'I').unwrap().asker, Asker::Client);
}

#[test]
fn what_is_sent_behind_an_answered_error_is_not_owed_before_the_next_sync() {
    let mut turn = play("> B < E").unwrap();
    assert!(turn.is_skipping());
    turn.answer_locally(Local::Closed);
    send(&mut turn, "B S");
    assert_eq!(turn.take_local(), None);
    receive(&mut turn, "ZI").unwrap();
    assert!(turn.at_rest() && !turn.is_skipping());
}

#[test]
fn a_batch_ends_with_sync_query_or_function_call() {
    let mut turn = Turn::new();
    let before = turn.epoch();
    send(&mut turn, "P B E");
    assert_eq!(turn.epoch(), before);
    send(&mut turn, "S Q F");
    assert_eq!(turn.epoch(), before + 3);
}
