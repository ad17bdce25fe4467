//! Client to server: walks over a chunk of requests, keeps the books of the [`Turn`], and stops where the client says
//! goodbye or something has to be decided first.

use std::cmp::min;
use std::ops::Range;

use super::reply::Unnamed;
use crate::wire::frame::{self, FrameError, HEADER, Header};
use crate::wire::turn::{Asker, Turn};

/// A portal's name in Bind is looked for in so many bytes. PostgreSQL keeps 63 of it.
const NAMES: usize = 4096;

/// The longest Query that may turn out to be a reset of the session.
const RESET: usize = 64;

/// Why the walk ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The chunk is used up, or what is left of it cannot be judged without more behind it.
    Drained,
    /// Too many replies are owed: go on when some have come.
    Full,
    /// The answer to a Parse of the unnamed statement has to come first: it decides whether what is next may be sent.
    Verdict,
    /// A query that resets the session: what stands behind it may go on when that is answered, and when the client's
    /// startup settings are in force again.
    Barrier,
    /// The client ended its session (Terminate).
    Goodbye,
    /// A Bind or Describe of the unnamed statement, which was not parsed on this server connection.
    UnknownStatement,
    /// What no honest client sends.
    Invalid(FrameError),
}

/// What becomes of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes at the chunk's start go to the server, whatever the reason for the stop.
    pub forward: usize,
    /// Why no more than that.
    pub stop: Stop,
    /// What to remember of the unnamed statement from here on.
    pub memory: Memory,
}

/// What to remember of the unnamed statement. Several drivers parse it in one batch and bind it in later ones; by then
/// they may have another server connection, which has to be given the statement first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// What is remembered is still true.
    Same,
    /// Nothing: it is gone, or was bound at once, as most drivers do.
    Nothing,
    /// The Parse that stands here in the chunk.
    Parse(Range<usize>),
}

/// What the requests on one lease leave behind. The unnamed statement on a server connection is whoever's parsed it
/// last; until the server has confirmed this client's own, it may be another client's.
#[derive(Debug, Default)]
pub struct Footprint {
    /// The server has said ParseComplete to an unnamed Parse of this client: what it has under no name is the client's,
    /// or nothing.
    confirmed: bool,
    /// It was not bound since: the client means to come back for it.
    unbound: bool,
    /// An unnamed Parse was sent since the last Sync: should it fail, everything behind it is skipped.
    in_batch: bool,
    /// Query, Execute and FunctionCall messages.
    pub queries: u32,
}

impl Footprint {
    /// The unnamed statement was parsed and is still to be bound: as several drivers do, Parse and Bind come in two
    /// batches.
    pub fn will_bind(&self) -> bool {
        self.unbound
    }

    /// The client did not come back for its unnamed statement.
    pub fn give_up(&mut self) {
        self.unbound = false;
    }

    /// The remembered Parse was sent again, in front of what is next.
    pub fn parsed_again(&mut self) {
        self.in_batch = true;
    }

    /// Takes what the server said of the unnamed statement.
    pub fn learn(&mut self, unnamed: Unnamed) {
        self.confirmed = true;
        self.unbound = unnamed == Unnamed::Parsed;
    }

    /// Notes a message; `false` if it uses an unnamed statement that may not be this client's.
    fn note(&mut self, tag: u8, statement: Statement) -> bool {
        if let Statement::UseUnnamed = statement
            && !self.confirmed
            && !self.in_batch
        {
            return false;
        }
        match (tag, statement) {
            (_, Statement::ParseUnnamed) => self.in_batch = true,
            (b'S', _) => self.in_batch = false,
            // A Query destroys the unnamed statement.
            (b'Q', _) => (self.in_batch, self.unbound) = (false, false),
            _ => {}
        }
        self.queries += u32::from(matches!(tag, b'Q' | b'E' | b'F'));
        true
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
    ) -> Scanned {
        let mut read = min(self.left, chunk.len());
        self.left -= read;
        let mut memory = Memory::Same;
        let stop = loop {
            let rest = &chunk[read..];
            let header = match frame::request(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break Stop::Drained,
                Err(error) => break Stop::Invalid(error),
            };
            if header.tag == b'X' {
                break Stop::Goodbye;
            }
            if !turn.has_room() {
                break Stop::Full;
            }
            let taken = min(header.len, rest.len());
            let body = &rest[HEADER..taken];
            let Some(statement) = statement(header, body) else {
                break Stop::Drained;
            };
            if !footprint.note(header.tag, statement) && shared {
                // The answer to a Parse that is on its way decides.
                break if turn.owes_unnamed_parse() { Stop::Verdict } else { Stop::UnknownStatement };
            }
            let target = match statement {
                Statement::ParseUnnamed | Statement::UseUnnamed if header.tag != b'D' => 0,
                _ if matches!(header.tag, b'P' | b'B') => 1,
                _ => body.first().copied().unwrap_or(0),
            };
            turn.request(header.tag, target, Asker::Client);
            memory = match (header.tag, statement, memory) {
                (_, Statement::ParseUnnamed, _) if taken == header.len => Memory::Parse(read..read + taken),
                (_, Statement::ParseUnnamed, _) | (b'Q', ..) => Memory::Nothing,
                (b'B', Statement::UseUnnamed, Memory::Parse(_)) => Memory::Nothing,
                (.., memory) => memory,
            };
            read += taken;
            self.left = header.len - taken;
            if self.left > 0 {
                break Stop::Drained;
            }
            if header.tag == b'Q' && header.len <= RESET && resets_session(body) {
                break Stop::Barrier;
            }
        };
        Scanned { forward: read, stop, memory }
    }
}

/// Whether a chunk begins with a request that can be judged as it is; `false` while more has to come first.
///
/// # Errors
/// What no honest client sends.
pub fn is_judgeable(chunk: &[u8]) -> Result<bool, FrameError> {
    let Some(header) = frame::request(chunk)? else { return Ok(false) };
    let taken = min(header.len, chunk.len());
    Ok(statement(header, &chunk[HEADER..taken]).is_some())
}

/// Whether a Query is nothing but DISCARD ALL or RESET ALL, as drivers and pools send it. Nothing depends on seeing it
/// in every disguise: it only decides whether what is pipelined behind it waits.
fn resets_session(body: &[u8]) -> bool {
    let text = body.strip_suffix(&[0]).unwrap_or(body).trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end();
    text.eq_ignore_ascii_case(b"DISCARD ALL") || text.eq_ignore_ascii_case(b"RESET ALL")
}

/// What a message says about prepared statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statement {
    None,
    Named,
    ParseUnnamed,
    UseUnnamed,
}

/// Reads the statement's name, as far as the answer needs it; `None` while the chunk does not hold enough.
fn statement(header: Header, body: &[u8]) -> Option<Statement> {
    let whole = HEADER + body.len() == header.len;
    let unnamed = |at: usize| match body.get(at) {
        Some(0) => Some(true),
        Some(_) => Some(false),
        // A message that ends before its name is the server's to refuse.
        None => whole.then_some(false),
    };
    match header.tag {
        // Whether it resets the session is seen in the whole of it.
        b'Q' if !whole && header.len <= RESET => None,
        b'P' => Some(if unnamed(0)? { Statement::ParseUnnamed } else { Statement::Named }),
        b'B' => match body.iter().take(NAMES).position(|&byte| byte == 0) {
            Some(portal_end) if unnamed(portal_end + 1)? => Some(Statement::UseUnnamed),
            // Who hides the statement's name behind such a portal's may well mean the unnamed one.
            None if body.len() >= NAMES => Some(Statement::UseUnnamed),
            None if !whole => None,
            _ => Some(Statement::Named),
        },
        b'D' if body.is_empty() && !whole => None,
        b'D' if body.first() == Some(&b'S') => {
            Some(if unnamed(1)? { Statement::UseUnnamed } else { Statement::Named })
        }
        // Close needs its first body byte for the turn.
        b'C' if body.is_empty() && !whole => None,
        _ => Some(Statement::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::turn::ReplyKind;

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
            let scanned = scan.scan(&mut turn, &carry, footprint, true);
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
        // Its own, parsed on this lease, is not; and a named one is the server's to judge.
        let own = [parse(), bind()].concat();
        assert_eq!(feed(&own, own.len(), &mut Footprint::default()).1, Stop::Drained);
        let named = message(b'B', b"\0name\0\0\0\0\0\0\0");
        assert_eq!(feed(&named, named.len(), &mut Footprint::default()).1, Stop::Drained);
        // A simple query destroys the unnamed statement; whether there was one, the answer to the Parse tells.
        let gone = [parse(), message(b'Q', b"\0"), message(b'D', b"S\0")].concat();
        assert_eq!(feed(&gone, gone.len(), &mut Footprint::default()).1, Stop::Verdict);
    }

    /// Plays requests (as bytes) and replies (as type bytes) against one turn; the last stop.
    fn play(steps: &[Result<Vec<u8>, &str>]) -> (Stop, Footprint) {
        let (mut turn, mut scan, mut footprint) = (Turn::new(), RequestScan::default(), Footprint::default());
        let mut stop = Stop::Drained;
        for step in steps {
            match step {
                Ok(bytes) => stop = scan.scan(&mut turn, bytes, &mut footprint, true).stop,
                Err(replies) => {
                    for tag in replies.bytes() {
                        match turn.reply(tag, b'I').unwrap().kind {
                            ReplyKind::Parsed { unnamed: true } => footprint.learn(Unnamed::Parsed),
                            ReplyKind::Bound { unnamed: true } => footprint.learn(Unnamed::Bound),
                            _ => {}
                        }
                    }
                }
            }
        }
        (stop, footprint)
    }

    fn parse() -> Vec<u8> {
        message(b'P', b"\0SELECT 1\0\0\0")
    }

    fn bind() -> Vec<u8> {
        message(b'B', b"\0\0\0\0\0\0\0\0")
    }

    fn sync() -> Vec<u8> {
        message(b'S', b"")
    }

    #[test]
    fn a_client_that_parsed_and_not_yet_bound_will_come_back() {
        let (_, footprint) = play(&[Ok([parse(), sync()].concat()), Err("1Z")]);
        assert!(footprint.will_bind());
        let (stop, footprint) =
            play(&[Ok([parse(), sync()].concat()), Err("1Z"), Ok([bind(), sync()].concat()), Err("2Z")]);
        assert!(!footprint.will_bind() && stop == Stop::Drained);
        let (_, footprint) = play(&[Ok([parse(), bind(), sync()].concat()), Err("12Z")]);
        assert!(!footprint.will_bind());
        let (_, footprint) = play(&[Ok([parse(), sync()].concat()), Err("EZ")]);
        assert!(!footprint.will_bind(), "it failed: there is nothing to come back for");
    }

    #[test]
    fn a_parse_that_was_sent_is_no_parse_that_the_server_has() {
        // The first Bind fails, so that the server skips the Parse behind it and still has another client's statement.
        let named = message(b'B', b"\0name\0\0\0\0\0\0\0");
        let skipped = Ok([named, parse(), sync()].concat());
        assert_eq!(play(&[skipped.clone(), Ok(bind())]).0, Stop::Verdict);
        assert_eq!(play(&[skipped, Err("EZ"), Ok(bind())]).0, Stop::UnknownStatement);
        // Behind a Parse of the same batch a Bind is safe: it is skipped with it.
        assert_eq!(play(&[Ok([parse(), bind()].concat())]).0, Stop::Drained);
        assert_eq!(play(&[Ok([parse(), sync()].concat()), Ok(bind())]).0, Stop::Verdict);
        assert_eq!(play(&[Ok([parse(), sync()].concat()), Err("1Z"), Ok(bind())]).0, Stop::Drained);
    }

    #[test]
    fn what_stands_behind_a_reset_of_the_session_waits() {
        for text in ["DISCARD ALL\0", " reset all ; \0"] {
            let both = [message(b'Q', text.as_bytes()), message(b'Q', b"SELECT 1\0")].concat();
            let scanned =
                RequestScan::default().scan(&mut Turn::new(), &both, &mut Footprint::default(), true);
            assert_eq!((scanned.forward, scanned.stop), (5 + text.len(), Stop::Barrier));
        }
        assert_eq!(play(&[Ok(message(b'Q', b"RESET work_mem\0"))]).0, Stop::Drained);
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
        let good = message(b'Q', b"SELECT 1\0");
        let mut stop = |bytes: &[u8]| {
            let bytes = [&good, bytes].concat();
            let scanned = RequestScan::default().scan(&mut turn, &bytes, &mut Footprint::default(), true);
            assert_eq!(scanned.forward, good.len(), "what came before is sent");
            scanned.stop
        };
        assert_eq!(stop(b"GET / HTTP/1.1\r\n"), Stop::Invalid(FrameError::UnknownType(b'G')));
        assert!(matches!(stop(&[b'Q', 0xff, 0xff, 0xff, 0xff]), Stop::Invalid(_)));
        assert!(
            matches!(stop(&[b'p', 0, 0, 0, 9]), Stop::Invalid(_)),
            "a password has no place after the login"
        );
    }
}
