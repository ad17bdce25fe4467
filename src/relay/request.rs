//! Client to server: walks over a chunk of requests, keeps the books of the [`Turn`], and stops where the client says
//! goodbye or something has to be decided first.

use std::cmp::min;

use crate::wire::frame::{self, FrameError, HEADER};
use crate::wire::turn::{Asker, Turn};

/// A portal's name in Bind is looked for in so many bytes. PostgreSQL keeps 63 of it.
const NAMES: usize = 4096;

/// Why the walk ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The chunk is used up, or what is left of it is no complete header.
    Drained,
    /// Too many replies are owed: go on when some have come.
    Full,
    /// The client ended its session (Terminate).
    Goodbye,
    /// A Bind or Describe of the unnamed statement, which was not parsed on this server connection.
    UnknownStatement,
    /// A Bind or Describe of the unnamed statement, of which the server has not yet said whether it could be parsed:
    /// go on when it has.
    Unproven,
}

/// What becomes of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes at the chunk's start go to the server.
    pub forward: usize,
    /// Why no more than that.
    pub stop: Stop,
}

/// The unnamed prepared statement, as far as this server connection has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Unnamed {
    /// Never parsed here by this client: what the server has under no name is somebody else's.
    #[default]
    Foreign,
    /// Parsed, and not bound yet: the client means to come back for it.
    Parsed,
    /// Parsed and bound.
    Bound,
}

/// What the requests on one lease leave behind.
#[derive(Debug, Default)]
pub struct Footprint {
    unnamed: Unnamed,
    /// No Sync came since it was parsed: if the Parse fails, whatever uses it is skipped as well.
    same_batch: bool,
    /// The walk stopped to learn what became of it.
    unproven: bool,
    /// A statement was parsed under a name.
    pub named_statement: bool,
    /// Query, Execute and FunctionCall messages.
    pub queries: u32,
}

impl Footprint {
    /// The unnamed statement was parsed and is still to be bound: as several drivers do, Parse and Bind come in two
    /// batches.
    pub fn will_bind(&self, turn: &Turn) -> bool {
        self.unnamed == Unnamed::Parsed && (turn.holds_unnamed() || turn.owes_unnamed())
    }

    /// Whether the next request has to wait for a reply about the unnamed statement.
    pub fn waits_for_proof(&self, turn: &Turn) -> bool {
        self.unproven && turn.owes_unnamed()
    }
}

/// The place in the stream of requests of one client.
#[derive(Debug, Default)]
pub struct RequestScan {
    /// Bytes that are still to come of a message whose header was seen.
    left: usize,
}

impl RequestScan {
    /// Whether the stream stands between two messages.
    pub fn between_messages(&self) -> bool {
        self.left == 0
    }

    /// Walks over `chunk` and tells `turn` of each message. With `shared`, the unnamed statement of another client is
    /// out of reach.
    pub fn scan(
        &mut self,
        turn: &mut Turn,
        chunk: &[u8],
        footprint: &mut Footprint,
        shared: bool,
    ) -> Result<Scanned, FrameError> {
        let mut read = min(self.left, chunk.len());
        self.left -= read;
        let stop = loop {
            let rest = &chunk[read..];
            let Some(header) = frame::request(rest)? else { break Stop::Drained };
            if header.tag == b'X' {
                break Stop::Goodbye;
            }
            if !turn.has_room() {
                break Stop::Full;
            }
            let taken = min(header.len, rest.len());
            let Some(names) = names(header.tag, &rest[HEADER..taken], taken == header.len) else {
                break Stop::Drained;
            };
            let unnamed = matches!(names, Statement::UseUnnamed { .. });
            if let Some(stop) = footprint.objection(turn).filter(|_| unnamed && shared) {
                footprint.unproven = stop == Stop::Unproven;
                break stop;
            }
            footprint.note(header.tag, names);
            turn.request(header.tag, rest.get(HEADER).copied().unwrap_or(0), Asker::Client);
            read += taken;
            self.left = header.len - taken;
            if self.left > 0 {
                break Stop::Drained;
            }
        };
        Ok(Scanned { forward: read, stop })
    }
}

/// What a message says about prepared statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statement {
    None,
    ParseNamed,
    ParseUnnamed,
    UseNamed,
    UseUnnamed { binds: bool },
}

/// Reads the statement's name, as far as the answer needs it; `None` while the chunk does not hold enough.
fn names(tag: u8, body: &[u8], whole: bool) -> Option<Statement> {
    let unnamed = |at: usize| match body.get(at) {
        Some(0) => Some(true),
        Some(_) => Some(false),
        // A message that ends before its name is the server's to refuse.
        None => whole.then_some(false),
    };
    match tag {
        b'P' => Some(if unnamed(0)? { Statement::ParseUnnamed } else { Statement::ParseNamed }),
        b'B' => match body.iter().take(NAMES).position(|&byte| byte == 0) {
            Some(portal_end) if unnamed(portal_end + 1)? => Some(Statement::UseUnnamed { binds: true }),
            // Who hides the statement's name behind such a portal's may well mean the unnamed one.
            None if body.len() >= NAMES => Some(Statement::UseUnnamed { binds: true }),
            None if !whole => None,
            _ => Some(Statement::UseNamed),
        },
        b'D' if body.is_empty() && !whole => None,
        b'D' if body.first() == Some(&b'S') => {
            Some(if unnamed(1)? { Statement::UseUnnamed { binds: false } } else { Statement::UseNamed })
        }
        // Close needs its first body byte for the turn.
        b'C' if body.is_empty() && !whole => None,
        _ => Some(Statement::None),
    }
}

impl Footprint {
    /// Why the unnamed statement may not be used, if it may not: it would be another client's, or could turn out to.
    fn objection(&self, turn: &Turn) -> Option<Stop> {
        match self.unnamed {
            Unnamed::Foreign => Some(Stop::UnknownStatement),
            _ if self.same_batch => None,
            _ if turn.owes_unnamed() => Some(Stop::Unproven),
            _ if turn.holds_unnamed() => None,
            _ => Some(Stop::UnknownStatement),
        }
    }

    /// Notes a message.
    fn note(&mut self, tag: u8, statement: Statement) {
        self.queries += u32::from(matches!(tag, b'Q' | b'E' | b'F'));
        self.unproven = false;
        match statement {
            Statement::ParseNamed => self.named_statement = true,
            Statement::ParseUnnamed => {
                self.unnamed = Unnamed::Parsed;
                self.same_batch = true;
            }
            Statement::UseUnnamed { binds: true } => self.unnamed = Unnamed::Bound,
            // A Query destroys the unnamed statement.
            _ if tag == b'Q' => self.unnamed = Unnamed::Foreign,
            _ if tag == b'S' => self.same_batch = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// Feeds `bytes` in chunks of `size`; what was forwarded, and the last stop.
    fn feed(bytes: &[u8], size: usize, footprint: &mut Footprint) -> (Vec<u8>, Stop, Turn) {
        let (mut turn, mut scan) = (Turn::new(), RequestScan::default());
        let (mut sent, mut carry, mut stop) = (Vec::new(), Vec::new(), Stop::Drained);
        for piece in bytes.chunks(size) {
            carry.extend(piece);
            let scanned = scan.scan(&mut turn, &carry, footprint, true).unwrap();
            sent.extend(carry.drain(..scanned.forward));
            stop = scanned.stop;
            if stop != Stop::Drained {
                break;
            }
        }
        (sent, stop, turn)
    }

    fn batch() -> Vec<u8> {
        [
            message(b'P', b"\0SELECT $1\0\0\0"),
            message(b'B', b"\0\0\0\0\0\x01\0\0\0\x011\0\0"),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat()
    }

    #[test]
    fn whatever_the_chunks_the_server_gets_the_same_bytes_and_the_turn_the_same_messages() {
        let bytes = [batch(), message(b'Q', b"SELECT 1\0"), message(b'd', &[9; 200])].concat();
        for size in 1..=bytes.len() {
            let mut footprint = Footprint::default();
            let (sent, stop, mut turn) = feed(&bytes, size, &mut footprint);
            assert_eq!((sent, stop), (bytes.clone(), Stop::Drained), "chunks of {size}");
            assert_eq!(footprint.queries, 2);
            for (tag, status) in
                [(b'1', 0), (b'2', 0), (b'T', 0), (b'C', 0), (b'Z', b'I'), (b'C', 0), (b'Z', b'I')]
            {
                turn.reply(tag, status).unwrap();
            }
            assert!(turn.at_rest());
        }
    }

    #[test]
    fn terminate_is_never_passed_on() {
        let bytes = [batch(), message(b'X', b"")].concat();
        let (sent, stop, _) = feed(&bytes, bytes.len(), &mut Footprint::default());
        assert_eq!((sent, stop), (batch(), Stop::Goodbye));
    }

    #[test]
    fn another_clients_unnamed_statement_is_out_of_reach() {
        for bytes in
            [message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'B', b"portal\0\0\0\0"), message(b'D', b"S\0")]
        {
            for size in 1..=bytes.len() {
                let (sent, stop, _) = feed(&bytes, size, &mut Footprint::default());
                assert_eq!((sent.len(), stop), (0, Stop::UnknownStatement), "{bytes:?} in chunks of {size}");
            }
        }
        // Nor does a portal's name help that is too long to be read to its end.
        for length in [NAMES - 1, NAMES, NAMES + 1, 3 * NAMES] {
            let bytes = message(b'B', &[&vec![b'p'; length][..], &[0; 8]].concat());
            for size in [1, 100, NAMES, NAMES + 6, bytes.len()] {
                let (sent, stop, _) = feed(&bytes, size, &mut Footprint::default());
                assert_eq!((sent.len(), stop), (0, Stop::UnknownStatement), "{length} in chunks of {size}");
            }
        }
        // Its own, parsed on this lease, is not; and a named one is the server's to judge.
        let own = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'B', b"\0\0\0\0\0\0\0\0")].concat();
        assert_eq!(feed(&own, own.len(), &mut Footprint::default()).1, Stop::Drained);
        let named = message(b'B', b"\0name\0\0\0\0\0\0\0");
        assert_eq!(feed(&named, named.len(), &mut Footprint::default()).1, Stop::Drained);
        // A simple query destroys the unnamed statement.
        let gone = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'Q', b"\0"), message(b'D', b"S\0")].concat();
        assert_eq!(feed(&gone, gone.len(), &mut Footprint::default()).1, Stop::UnknownStatement);
    }

    #[test]
    fn behind_a_sync_the_unnamed_statement_is_the_clients_once_the_server_has_parsed_it() {
        let parse = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'S', b"")].concat();
        let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
        let bytes = [&parse[..], &bind].concat();
        for (replies, outcome) in [
            (&b"1Z"[..], Stop::Drained),
            (b"EZ", Stop::UnknownStatement),
            (b"", Stop::Unproven),
            (b"N", Stop::Unproven),
        ] {
            let mut footprint = Footprint::default();
            let (sent, stop, mut turn) = feed(&bytes, bytes.len(), &mut footprint);
            assert_eq!((sent, stop), (parse.clone(), Stop::Unproven));
            assert!(footprint.waits_for_proof(&turn));
            for reply in replies {
                turn.reply(*reply, b'I').unwrap();
            }
            assert_eq!(footprint.waits_for_proof(&turn), outcome == Stop::Unproven);
            let scanned = RequestScan::default().scan(&mut turn, &bind, &mut footprint, true).unwrap();
            assert_eq!(scanned.stop, outcome, "{replies:?}");
        }
        // A Parse that was skipped, because of an error before it, has parsed nothing.
        let bytes = [message(b'E', b"none\0\0\0\0\0"), parse, bind.clone()].concat();
        let mut footprint = Footprint::default();
        let (_, _, mut turn) = feed(&bytes, bytes.len(), &mut footprint);
        turn.reply(b'E', 0).unwrap();
        turn.reply(b'Z', b'I').unwrap();
        let scanned = RequestScan::default().scan(&mut turn, &bind, &mut footprint, true).unwrap();
        assert_eq!(scanned.stop, Stop::UnknownStatement);
        assert!(!footprint.will_bind(&turn), "there is nothing to come back for");
    }

    #[test]
    fn a_client_that_parsed_and_not_yet_bound_will_come_back() {
        let mut footprint = Footprint::default();
        let parse = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'D', b"S\0"), message(b'S', b"")].concat();
        let (_, _, mut turn) = feed(&parse, parse.len(), &mut footprint);
        for reply in b"1tnZ" {
            assert!(footprint.will_bind(&turn) && !footprint.named_statement);
            turn.reply(*reply, b'I').unwrap();
        }
        assert!(footprint.will_bind(&turn) && turn.at_rest());
        let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
        let scanned = RequestScan::default().scan(&mut turn, &bind, &mut footprint, true).unwrap();
        assert_eq!(scanned, Scanned { forward: bind.len(), stop: Stop::Drained });
        assert!(!footprint.will_bind(&turn));
        feed(&message(b'P', b"name\0SELECT 1\0\0\0"), 99, &mut footprint);
        assert!(footprint.named_statement);
    }

    #[test]
    fn a_pipeline_without_end_is_stopped_before_it_fills_memory() {
        let bind = message(b'B', b"p\0s\0\0\0\0\0\0\0");
        let bytes = bind.repeat(crate::wire::turn::MAX_OWED + 10);
        let (sent, stop, _) = feed(&bytes, bytes.len(), &mut Footprint::default());
        assert_eq!((sent.len(), stop), (bind.len() * crate::wire::turn::MAX_OWED, Stop::Full));
    }

    #[test]
    fn garbage_is_refused() {
        let mut turn = Turn::new();
        let scan = |turn: &mut Turn, bytes: &[u8]| {
            RequestScan::default().scan(turn, bytes, &mut Footprint::default(), true).map(|_| ())
        };
        assert_eq!(scan(&mut turn, b"GET / HTTP/1.1\r\n"), Err(FrameError::UnknownType(b'G')));
        assert!(scan(&mut turn, &[b'Q', 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(scan(&mut turn, &[b'p', 0, 0, 0, 9]).is_err(), "a password has no place after the login");
    }
}
