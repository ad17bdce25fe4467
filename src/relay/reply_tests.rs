//! However the replies are cut, and whatever a server says, the client gets the same and the books say the same: rows and
//! COPY data that are passed on many at once are those that would have passed one by one.

use super::reply::{Hearing, ReplyScan, Seen};
use crate::wire::turn::{Asker, Bill, Local, Mark, Turn};

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A request, as the turn is told of it.
#[derive(Clone, Copy)]
enum Sent {
    Message(u8, u8, Asker, Mark),
    Local,
}

fn requests(dice: &mut Dice) -> Vec<Sent> {
    let mut sent = Vec::new();
    for number in 0..1 + dice.below(6) {
        let tag = dice.one(b"QQQPBDEESSCFcf");
        let asker = dice.one(&[
            Asker::Client,
            Asker::Client,
            Asker::Client,
            Asker::Proxy,
            Asker::Stead,
            Asker::Refused(1),
        ]);
        let bill = Bill { schemas: number as u64 + 1, ..Bill::default() };
        let mut flag = || dice.once_in(4);
        let mark = Mark {
            unnamed: flag(),
            naming: flag(),
            shared: flag(),
            unread: flag(),
            owned: flag(),
            opening: flag(),
            commits: flag(),
            prefix: u8::from(flag()) * 3,
            bill,
            ..Mark::default()
        };
        sent.push(Sent::Message(tag, dice.one(b"SP"), asker, mark));
        if dice.once_in(8) {
            sent.push(Sent::Local);
        }
    }
    sent.push(Sent::Message(b'S', 0, Asker::Client, Mark::default()));
    sent
}

fn row(dice: &mut Dice, tag: u8) -> Vec<u8> {
    let length = dice.one(&[0, 1, 2, 7, 40, 300]);
    message(tag, &vec![dice.below(256) as u8; length])
}

fn result(dice: &mut Dice, ends: &[u8]) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    let copies = dice.once_in(3);
    if copies {
        replies.push(message(dice.one(b"HHHWG"), &[0, 0, 0]));
    }
    for _ in 0..dice.below(6) {
        replies.push(row(dice, if copies { b'd' } else { b'D' }));
    }
    if copies {
        replies.push(message(b'c', b""));
    }
    replies.push(match dice.one(ends) {
        b'C' => {
            message(b'C', dice.one(&[&b"SELECT 3\0"[..], b"ROLLBACK\0", b"LISTEN\0", b"COPY 2\0", b"SET\0"]))
        }
        b'E' => message(b'E', b"SERROR\0VERROR\0C42P01\0Mno\0P9\0\0"),
        tag => message(tag, b""),
    });
    replies
}

/// What an honest server could say to these requests, and sometimes says something else.
fn replies(dice: &mut Dice, sent: &[Sent]) -> Vec<u8> {
    let mut replies = Vec::new();
    for request in sent {
        let Sent::Message(tag, target, ..) = request else { continue };
        match (tag, target) {
            (b'Q', _) => {
                (0..1 + dice.below(3)).for_each(|_| replies.extend(result(dice, b"CCCCIE")));
                replies.push(message(b'Z', &[dice.one(b"IIIT")]));
            }
            (b'P', _) => replies.push(message(b'1', b"")),
            (b'B', _) => replies.push(message(b'2', b"")),
            (b'C', _) => replies.push(message(b'3', b"")),
            (b'D', b'S') => replies.extend([message(b't', &[0, 0]), message(b'n', b"")]),
            (b'D', _) => replies.push(message(b'T', &[0, 0])),
            (b'E', _) => replies.extend(result(dice, b"CCCIsE")),
            (b'F', _) => replies.extend([message(b'V', &[0; 9]), message(b'Z', b"I")]),
            (b'S', _) => replies.push(message(b'Z', &[dice.one(b"IIIT")])),
            _ => {}
        }
    }
    for _ in 0..dice.below(3) {
        let at = dice.below(replies.len() + 1);
        replies.insert(
            at,
            match dice.below(12) {
                0 => row(dice, b'D'),
                1 => row(dice, b'd'),
                2 => message(b'c', b""),
                3 => message(b'H', &[0, 0, 0]),
                4..7 => message(b'A', b"\0\0\0\x01a\0b\0"),
                7..10 => message(b'S', b"TimeZone\0UTC\0"),
                _ => message(b'N', b"SNOTICE\0\0"),
            },
        );
    }
    if dice.once_in(8) && !replies.is_empty() {
        let at = dice.below(replies.len());
        if dice.once_in(2) {
            replies.remove(at);
        } else if replies[at][0] != b'E' {
            // Of an error that is too long, as much is noted as is there.
            let length: u32 = dice.one(&[0, 3, 5, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
            replies[at][1..5].copy_from_slice(&length.to_be_bytes());
        }
    }
    replies.concat()
}

/// What came of it: what the client got, what was heard, noted and counted, and where the turn stands.
type Came = (Vec<u8>, String);

/// Gives the scan so many bytes at a time; nothing if it refused.
fn cut(sent: &[Sent], replies: &[u8], counts: bool, mut size: impl FnMut() -> usize) -> Option<Came> {
    let mut turn = Turn::new();
    for request in sent {
        match *request {
            Sent::Message(tag, target, asker, mark) => turn.mark_request(tag, target, asker, mark),
            Sent::Local => turn.answer_locally(Local::Closed),
        }
    }
    let (mut scan, mut seen) = (ReplyScan::default(), Seen::default());
    scan.count(counts);
    let (mut got, mut carry, mut heard, mut done) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut left = replies;
    while !left.is_empty() {
        let (piece, behind) = left.split_at(size().min(left.len()));
        left = behind;
        carry.extend_from_slice(piece);
        let mut out = Vec::new();
        let hear = |tag: u8, body: &[u8], asker: Asker| {
            heard.push((tag, body.to_vec(), asker));
            match asker {
                Asker::Refused(number) => Hearing::Instead(vec![number as u8; 9]),
                asker => Hearing::plain(asker == Asker::Client),
            }
        };
        let scanned = scan.scan(&mut turn, &mut carry, (&mut seen, &mut out), hear).ok()?;
        got.extend_from_slice(if out.is_empty() { &carry[..scanned.forward] } else { &out });
        carry.drain(..scanned.rest);
        done.extend(scan.take_done());
    }
    Some((got, format!("{carry:?} {heard:?} {done:?} {seen:?} {turn:?}")))
}

#[test]
fn however_it_is_cut_the_same_passes_and_the_same_is_refused() {
    let mut dice = Dice(11);
    let (mut passed, mut refused, mut longest) = (0, 0, 0);
    for round in 0..20_000 {
        let sent = requests(&mut dice);
        let replies = replies(&mut dice, &sent);
        let counts = dice.once_in(2);
        // A row of which only the header is there does not stream.
        let apart = cut(&sent, &replies, counts, || 1);
        let whole = cut(&sent, &replies, counts, || usize::MAX);
        let some = cut(&sent, &replies, counts, || 1 + dice.below(50));
        assert_eq!(apart, whole, "{round}");
        assert_eq!(apart, some, "{round}");
        match apart {
            Some((got, _)) => (passed, longest) = (passed + 1, longest.max(got.len())),
            None => refused += 1,
        }
    }
    assert!(passed > 2_000 && refused > 2_000 && longest > 2_000, "{passed} {refused} {longest}");
}
