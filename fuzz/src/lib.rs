//! What must hold whatever the bytes. Each function is one fuzz target:
//!
//! ```text
//! cargo +nightly fuzz run reply_scan
//! ```
//!
//! The tests of firepool run the same functions with a bounded, reproducible driver.

mod entry;

use firepool::frontend::{takes_password, takes_startup};
use firepool::hba;
use firepool::relay::reply::{Hearing, ReplyScan, Seen};
use firepool::relay::request::{Judging, RequestScan, Step, Stop, Walk};
use firepool::scram::{Channel, ClientExchange, Look, MAX_ITERATIONS, ServerExchange, Verifier};
use firepool::secret::{Credential, Secret, userlist};
use firepool::statement::{Cache, Dialect, Encoding, Kind, Pin, States, Touched, judge};
use firepool::wire::frame::{self, FrameError, HEADER, Header};
use firepool::wire::turn::{Asker, ReplyKind, Turn};
use firepool::wire::version::{self, Version};
use firepool::wire::{error_fields, tag};

pub use entry::entry;

/// A header is judged by its five bytes alone, and what it claims is believable.
pub fn frame(data: &[u8]) {
    type Judge = fn(&[u8]) -> Result<Option<Header>, FrameError>;
    for judge in [frame::request as Judge, frame::reply as Judge] {
        match judge(data) {
            Ok(None) => assert!(data.len() < HEADER),
            Ok(Some(header)) => {
                assert!(header.len >= HEADER && header.len <= 1 << 31 && header.tag == data[0]);
                assert_eq!(judge(&data[..HEADER]), Ok(Some(header)));
            }
            Err(error) => assert_eq!(judge(&data[..data.len().min(HEADER)]), Err(error)),
        }
    }
    let _ = (tag::leaves(data), tag::discards_all(data), error_fields::is_fatal(data));
    let _ = error_fields::text(data, b'C');
}

/// A startup packet is taken or refused, and taken only with its end where the protocol wants it. What a server answers
/// to ours changes the version to an older one or to none.
pub fn startup(data: &[u8]) {
    if takes_startup(data) {
        assert_eq!(data.last(), Some(&0));
        assert!(!takes_startup(&data[..data.len() - 1]));
    }
    if let Ok(version) = version::negotiated(data, Version::V3_2) {
        assert_eq!((version, data.len()), (Version::V3_0, 8));
    }
    assert!(version::negotiated(data, Version::V3_0).is_err(), "there is nothing older");
}

/// What a client sends in the place of a password, and what a server answers to the proxy: SCRAM's messages, a SASL
/// response, a password. Nobody gets in by chance, nobody gets in who does not exist, and what a server asks for is bounded.
pub fn login(data: &[u8]) {
    let (initial, password) = takes_password(data);
    assert!(!initial || data.starts_with(b"SCRAM-SHA-256\0") || data.starts_with(b"SCRAM-SHA-256-PLUS\0"));
    assert!(!password || (data.ends_with(b"\0") && std::str::from_utf8(data).is_ok()));
    let at = data.iter().position(|&byte| byte == 0xff).unwrap_or(data.len());
    let (first, rest) = data.split_at(at);
    let keyless = Verifier::mock("nobody", b"secret", Look::DEFAULT);
    // Also against a verifier that all the keys of are known: a proof has to be made for the nonce.
    let open = format!("SCRAM-SHA-256$1:AAAA${0}:{0}", "A".repeat(43) + "=");
    for verifier in [Some(keyless), Verifier::parse(&open).ok()].into_iter().flatten() {
        for channel in [Channel::Plain, Channel::Able, Channel::Bound(b"hash".as_slice().into())] {
            let exchange = ServerExchange::new(verifier.clone()).over(channel);
            if let Ok((challenge, challenged)) = exchange.challenge(first) {
                assert!(challenge.starts_with("r=") && challenge.len() < 8192);
                // The nonce that the client has to repeat is not known before.
                assert!(challenged.learn(rest.get(1..).unwrap_or_default()).is_err());
            }
        }
    }
    let challenged = ClientExchange::new().and_then(|exchange| exchange.challenge(data));
    assert!(challenged.is_err(), "no server knows the nonce before it was sent");
}

/// What a server says to a nonce that it has seen, which is `salt` and `iterations` of the proxy's work.
pub fn challenge(data: &[u8]) {
    let Ok(exchange) = ClientExchange::new() else { return };
    let first = exchange.first();
    let nonce = first.rsplit("r=").next().unwrap_or_default();
    let message = [b"r=", nonce.as_bytes(), data].concat();
    if let Ok(challenged) = exchange.challenge(&message) {
        assert!(!challenged.salt().is_empty() && challenged.salt().len() <= 256);
        assert!(challenged.iterations().get() <= MAX_ITERATIONS && message.len() <= 2048);
    }
}

/// Files and answers in which secrets and rules come: `pg_hba.conf`, `userlist.txt`, what PostgreSQL keeps. What is read is
/// read the same again, and no complaint quotes a line.
pub fn secrets(data: &[u8]) {
    challenge(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match hba::parse(text) {
        Ok(rules) => assert_eq!(hba::parse(&format!("{text}\n# more\n")), Ok(rules)),
        Err(errors) => assert!(!errors.is_empty() && errors.len() <= text.lines().count()),
    }
    match userlist(text) {
        Ok(entries) => assert!(entries.len() <= text.lines().count()),
        Err(error) => assert!(error.line <= text.lines().count()),
    }
    match Credential::read(Secret::new(text.to_owned())) {
        Ok(Credential::Scram(verifier)) => assert!(verifier.look().iterations.get() <= MAX_ITERATIONS),
        Ok(Credential::Md5(digits)) => assert_eq!(digits.expose().len(), 32),
        Ok(Credential::Password(password)) => assert_eq!(password.expose(), text),
        Err(_) => assert!(text.starts_with("SCRAM-SHA-256$")),
    }
}

/// The tags of requests and of replies, so that few inputs are spent on types that do not exist.
const REQUESTS: &[u8] = b"QFPBEDCHSdcf";
const REPLIES: &[u8] = b"123CDEGHISTVWZcdnstAN";

/// Random requests and replies in random order. The turn never panics, and at rest it owes nothing to anybody.
pub fn turn(data: &[u8]) {
    let mut turn = Turn::new();
    let (mut asked, mut ready) = (0, 0);
    for pair in data.chunks_exact(2) {
        let [choice, detail] = [pair[0], pair[1]];
        if choice & 1 == 0 {
            let tag = REQUESTS[usize::from(choice >> 1) % REQUESTS.len()];
            asked += u32::from(matches!(tag, b'Q' | b'F' | b'S'));
            let asker = if detail & 1 == 0 { Asker::Client } else { Asker::Proxy };
            turn.request(tag, if detail & 2 == 0 { b'S' } else { b'P' }, asker);
        } else {
            let tag = REPLIES[usize::from(choice >> 1) % REPLIES.len()];
            let owed = turn.awaits_reply();
            match turn.reply(tag, b"ITE?"[usize::from(detail % 4)]) {
                Ok(reply) => ready += u32::from(matches!(reply.kind, ReplyKind::Ready)),
                // The connection is closed.
                Err(_) => return,
            }
            assert!(
                owed || !matches!(tag, b'C' | b'D' | b'T'),
                "{:?} while nothing was owed",
                char::from(tag)
            );
        }
        if turn.at_rest() {
            assert!(!turn.awaits_reply() && !turn.needs_sync() && !turn.in_copy_in() && turn.is_quiet());
            assert!(ready <= asked, "{ready} times ready, {asked} times asked");
        }
    }
}

/// A turn that has been asked what the bytes at the input's start say, and the rest of the input.
fn prepared(data: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return (Vec::new(), data) };
    let (asked, rest) = rest.split_at(rest.len().min(usize::from(count % 16)));
    (asked.iter().map(|choice| REQUESTS[usize::from(*choice) % REQUESTS.len()]).collect(), rest)
}

/// However the replies are cut, the client gets the same bytes, or the connection is closed.
pub fn reply_scan(data: &[u8]) {
    let (asked, stream) = prepared(data);
    let walk = |sizes: &dyn Fn(usize) -> usize| {
        let (mut turn, mut scan, mut seen) = (Turn::new(), ReplyScan::default(), Seen::default());
        for (place, tag) in asked.iter().enumerate() {
            turn.request(*tag, b'P', if place % 3 == 0 { Asker::Proxy } else { Asker::Client });
        }
        let (mut to_client, mut carry, mut at, mut round) = (Vec::new(), Vec::new(), 0, 0);
        while at < stream.len() {
            let end = stream.len().min(at + sizes(round).max(1));
            let mut chunk = std::mem::take(&mut carry);
            chunk.extend_from_slice(&stream[at..end]);
            let mut out = Vec::new();
            let scanned =
                scan.scan(&mut turn, &mut chunk, (&mut seen, &mut out), |_, _, _| Hearing::Pass).ok()?;
            assert!(scanned.forward <= scanned.rest && scanned.rest <= chunk.len());
            assert!(out.is_empty(), "nothing is answered by the proxy itself");
            to_client.extend_from_slice(&chunk[..scanned.forward]);
            carry = chunk[scanned.rest..].to_vec();
            (at, round) = (end, round + 1);
        }
        assert!(to_client.len() <= stream.len());
        Some((to_client, carry, turn.at_rest(), seen.ready, seen.errors, seen.transactions))
    };
    let whole = walk(&|_| usize::MAX);
    // Notes of what is only looked at in part may differ; nothing else may.
    for cut in [walk(&|_| 1), walk(&|round| usize::from(data[round % data.len()]))] {
        assert_eq!(cut, whole);
    }
}

/// However the requests are cut, the server gets the same bytes, and the walk stops at the same places.
pub fn request_scan(data: &[u8]) {
    let judging = match data.first() {
        Some(0..100) => Judging::Nothing,
        Some(100..200) => Judging::State,
        _ => Judging::StateAndSync,
    };
    let walk = |sizes: &dyn Fn(usize) -> usize| {
        let (mut turn, mut scan) = (Turn::new(), RequestScan::default());
        let (mut to_server, mut carry, mut at, mut round) = (Vec::new(), Vec::new(), 0, 0);
        let mut judged = Vec::new();
        while at < data.len() {
            let end = data.len().min(at + sizes(round).max(1));
            let mut chunk = std::mem::take(&mut carry);
            chunk.extend_from_slice(&data[at..end]);
            let mut walk = Walk::new(&chunk);
            let stop = loop {
                match scan.next(&mut turn, &mut walk, judging) {
                    Step::Stop(stop) => break stop,
                    Step::Message { header, .. } => {
                        judged.push(header);
                        turn.request(header.tag, b'S', Asker::Client);
                        scan.pass(&mut walk, header);
                    }
                }
            };
            to_server.extend_from_slice(walk.take_run());
            if stop != Stop::Drained {
                return (to_server, Some(stop), judged, scan.queries);
            }
            carry = walk.rest().to_vec();
            (at, round) = (end, round + 1);
        }
        assert!(data.starts_with(&to_server), "the server gets the beginning of what the client sent");
        (to_server, None, judged, scan.queries)
    };
    let whole = walk(&|_| usize::MAX);
    for cut in [walk(&|_| 1), walk(&|round| usize::from(data[round % data.len()]))] {
        assert_eq!(cut, whole);
    }
}

/// Any text in any dialect has facts, the same from the cache, and the most careful ones where it cannot be read.
pub fn statement(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let encoding = [Encoding::Utf8, Encoding::AsciiSafe, Encoding::Unsafe][usize::from(choice % 3)];
    let dialect = Dialect { encoding, standard_conforming_strings: choice & 0x80 == 0 };
    let facts = judge(text, dialect);
    let mut cache = Cache::new(8, 1 << 20);
    for _ in 0..3 {
        assert_eq!(*cache.facts(text, dialect), facts);
    }
    // It may be held without the comments at its ends as well.
    assert!(cache.stats().entries <= 2 && cache.stats().bytes <= 2 * text.len());
    let shaped = Cache::new(8, 1 << 20).shaping().facts(text, dialect);
    for number in 0..shaped.named().len() {
        let shape = shaped.named().statement(number).and_then(|statement| statement.shape());
        // A thousand bytes, and what says that there were more.
        assert!(shape.is_none_or(|shape| !shape.text.is_empty() && shape.text.len() <= 1_004));
        assert!(shape.is_some() || shaped.statements == 0);
    }
    let effects = &facts.effects;
    if facts.kind == Kind::Unknown {
        assert_eq!((effects.pin, effects.suspects), (Some(Pin::Opaque), States::ALL));
        assert_eq!(effects.settings, Touched::Any);
    }
    assert_eq!(facts.statements == 0, matches!(facts.kind, Kind::Empty | Kind::Unknown));
    assert!(!facts.is_plain() || (effects.pin.is_none() && effects.suspects.is_empty()));
    assert!(effects.deallocates.iter().all(|name| effects.prepared_names.contains(name)));
}
