//! The fuzz targets of `fuzz/`, run by a bounded and reproducible driver: random bytes, and random messages that are
//! nearly right. `cargo +nightly fuzz run TARGET` in that folder goes further.
#![allow(unreachable_pub, dead_code, reason = "the targets are a library where cargo-fuzz builds them")]

mod peers;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Honest messages with a few wrong bytes, torn, or joined to others.
fn nearly(target: fn(&[u8]), honest: &[&[u8]]) {
    for seed in 0..ROUNDS {
        let mut dice = Dice(seed);
        let mut input = honest[dice.below(honest.len())].to_vec();
        for _ in 0..dice.below(4) {
            let place = dice.below(input.len());
            match dice.below(5) {
                0 => input[place] = dice.next() as u8,
                1 => input.truncate(place + 1),
                2 => input.insert(place, b",=:$\"\\#/ \n\0\xff"[dice.below(12)]),
                3 => input
                    .splice(place..place, honest[dice.below(honest.len())].iter().copied())
                    .for_each(drop),
                _ => input.extend(std::iter::repeat_n(b"Ax9,"[dice.below(4)], dice.below(3_000))),
            }
        }
        let run = std::panic::catch_unwind(|| target(&input));
        assert!(run.is_ok(), "seed {seed}: {}", input.escape_ascii());
    }
}

#[test]
fn nobody_gets_in_by_what_they_send_in_the_place_of_a_password() {
    drive(targets::login, b"pQX", 0);
    nearly(
        targets::login,
        &[
            b"SCRAM-SHA-256\0\0\0\0\x10n,,n=,r=abcdefgh",
            b"n,,n=,r=abcdefgh\xffc=biws,r=abcdefgh,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            b"y,,n=u,r=rOprNGfwEbeRWgbNEkqO\xffc=eSws,r=rOprNGfwEbeRWgbNEkqO,p=",
            b"p=tls-server-end-point,,n=,r=x\xffc=cD10,r=x,p=AAAA",
            b"r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"sesame\0",
            b"md50123456789abcdef0123456789abcdef\0",
        ],
    );
}

#[test]
fn rules_lists_and_hashes_are_read_or_refused() {
    nearly(
        targets::secrets,
        &[
            b"xyz,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"x,s=AAAA,i=2147483648",
            b"host all,\"a b\" +x 10.0.0.0/8 scram-sha-256 # why\n",
            b"hostssl sameuser all ::1 ffff:: md5 map=x\\\n y\nlocal all all peer\n",
            b"\"user\" \"pass\"\"word\" x\n; y\n\"b\" \"\"\n",
            b"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
              WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            b"md50123456789abcdef0123456789abcdef",
        ],
    );
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

/// Words that the grammar, the tables of names and the lexer's corners are made of.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "WITH",
    "AS",
    "(",
    ")",
    ",",
    ";",
    "'",
    "\"",
    "$$",
    "--",
    "\n",
    "/*",
    "*/",
    "\\",
    "E'",
    "U&'",
    "$1",
    "1",
    "a",
    "t",
    "*",
    "=",
    "+",
    "::",
    "[",
    "]",
    "NOT",
    "AND",
    "UNION",
    "JOIN",
    "ON",
    "CASE",
    "WHEN",
    "END",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "LOCAL",
    "SESSION",
    "DELETE",
    "MERGE INTO",
    "RESET",
    "ALL",
    "ROLE",
    "TIME ZONE",
    "TRANSACTION",
    "CHARACTERISTICS AS",
    "READ ONLY",
    "search_path",
    "TO",
    "DEFAULT",
    "CREATE",
    "TEMP",
    "TABLE",
    "VIEW",
    "FUNCTION",
    "INDEX",
    "ALTER",
    "ADD COLUMN",
    "DROP",
    "pg_temp.",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "DECLARE",
    "CURSOR WITH HOLD FOR",
    "CLOSE",
    "LISTEN",
    "UNLISTEN",
    "NOTIFY",
    "DISCARD",
    "EXPLAIN",
    "COPY",
    "STDIN",
    "DO",
    "CALL",
    "LOAD",
    "BEGIN",
    "COMMIT",
    "set_config(",
    "setseed(",
    "pg_advisory_lock(",
    "is_local =>",
    "true",
    "XMLPARSE(DOCUMENT",
    "JSON_OBJECT(",
    "OVER",
    "FILTER",
    "FOR UPDATE",
    "é",
    "\u{ff}",
];

#[test]
fn every_text_of_sql_has_facts() {
    // The room catches panics: here they count.
    let (own, before) = (std::thread::current().id(), std::panic::take_hook());
    let panics = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == own {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        before(panic);
    }));
    drive(targets::statement, b"QP", 1);
    for seed in 0..4 * ROUNDS {
        let mut dice = Dice(seed);
        let mut input = vec![dice.next() as u8 & 0x83];
        for _ in 0..1 + dice.below(20) {
            input.extend(WORDS[dice.below(WORDS.len())].bytes());
            input.extend([b' '].repeat(usize::from(dice.below(8) != 0)));
        }
        if dice.below(8) == 0 {
            let place = dice.below(input.len());
            input[place] = dice.next() as u8;
        }
        targets::statement(&input);
        assert_eq!(panics.load(Ordering::Relaxed), 0, "seed {seed}: {}", String::from_utf8_lossy(&input));
    }
}
