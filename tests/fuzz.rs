//! The fuzz targets of `fuzz/`, run by a bounded and reproducible driver: random bytes, and random messages that are
//! nearly right. `cargo +nightly fuzz run TARGET` in that folder goes further.
#![allow(unreachable_pub, dead_code, reason = "the targets are a library where cargo-fuzz builds them")]

mod peers;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use peers::Dice;
use peers::bytes::message;

/// Inputs of each kind for each target.
const ROUNDS: u64 = 4_000;

/// Bytes that stand where the protocol looks: terminators, types, severities.
fn nearly_right(dice: &mut Dice, types: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + dice.below(12) {
        let tag = types[dice.below(types.len())];
        let length = match dice.below(12) {
            0 => dice.below(6_000),
            1 => 0,
            _ => dice.below(24),
        };
        let mut body = dice.bytes(length);
        match dice.below(6) {
            0 => body = b"I".to_vec(),
            1 => body.insert(0, 0),
            2 => body.splice(0..0, *b"SERROR\0VFATAL\0C57P01\0").for_each(drop),
            3 => body.splice(0..0, *b"SET\0").for_each(drop),
            4 => {
                // A name, perhaps a long one, and an empty one behind it.
                body.iter_mut().for_each(|byte| *byte = *byte % 26 + b'a');
                body.extend([0, 0]);
            }
            _ => {}
        }
        bytes.extend(message(tag, &body));
    }
    if dice.below(4) == 0 {
        // Torn, or with one wrong byte.
        let place = dice.below(bytes.len());
        if dice.below(2) == 0 { bytes.truncate(place) } else { bytes[place] ^= 1 << dice.below(8) }
    }
    bytes
}

fn drive(target: fn(&[u8]), types: &[u8], ahead: usize) {
    for seed in 0..ROUNDS {
        let mut dice = Dice(seed);
        let length = dice.below(300);
        let random = dice.bytes(length);
        let head = dice.below(ahead + 1);
        let nearly =
            [&[head as u8][..ahead.min(1)], &dice.bytes(head), &nearly_right(&mut dice, types)].concat();
        for input in [random, nearly] {
            let run = std::panic::catch_unwind(|| target(&input));
            assert!(run.is_ok(), "seed {seed}: {input:?}");
        }
    }
}

#[test]
fn a_header_is_judged_by_its_five_bytes() {
    drive(targets::frame, b"QFPBEDCHSXdcf123CDEGHIKRSTVWZ", 0);
}

#[test]
fn a_startup_packet_is_taken_only_whole() {
    drive(targets::startup, b"uo", 0);
    let startups = [&b"user\0alice\0\0"[..], b"user\0a\0options\0-c a=b -cx=y --z=1 \\\\\0\0", b"\0"];
    for packet in startups.into_iter().chain([&b"\0\x03\0\0\0\0\0\0"[..]]) {
        targets::startup(packet);
        for seed in 0..ROUNDS {
            let mut dice = Dice(seed);
            let mut packet = packet.to_vec();
            let place = dice.below(packet.len());
            packet[place] = dice.next() as u8;
            targets::startup(&packet);
        }
    }
}

#[test]
fn a_turn_at_rest_owes_nothing_whatever_came_before() {
    drive(targets::turn, b"abcdefghijklmnopqrstuvwxyz", 0);
}

#[test]
fn replies_reach_the_client_the_same_however_they_are_cut() {
    drive(targets::reply_scan, b"123CDEGHISTVWZcdnstANZZCC", 15);
}

#[test]
fn requests_reach_the_server_the_same_however_they_are_cut() {
    drive(targets::request_scan, b"QFPBEDCHSXdcfPBDESPBDES", 0);
}
