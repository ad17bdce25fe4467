//! Client to server: walks over a chunk of requests and keeps the books of the [`Turn`]. What can be passed on as it is
//! passes without being looked into; at a message that says something about the session, the walk stops and asks.

use std::cmp::min;
use std::ops::Range;

use crate::wire::frame::{self, FrameError, HEADER, Header};
use crate::wire::turn::{Asker, Turn};

/// The longest Query or Parse that is looked at as a whole before it is passed on, in bytes. Longer ones flow through,
/// and what they did is found out afterwards.
pub const JUDGED: usize = 48 * 1024;

/// The same on a read-only route, where what is longer is refused.
pub const GUARDED: usize = 256 * 1024;

/// The names at the beginning of Parse and Bind end within so many bytes. PostgreSQL keeps 63 of each name
/// (`NAMEDATALEN` in `src/include/pg_config_manual.h`).
const NAMES: usize = 4096;

/// Why the walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The chunk is used up, or what is left of it cannot be judged without more behind it.
    Drained,
    /// Too many replies are owed: go on when some have come.
    Full,
    /// The answer to a Parse of the unnamed statement has to come first: it decides whether what is next may be sent.
    Verdict,
    /// Everything that was asked for in earlier batches has to be answered first.
    Answers,
    /// The server has to say first what a statement is, and was asked to say it now.
    Description,
    /// The client ended its session (Terminate).
    Goodbye,
    /// What no honest client sends.
    Invalid(FrameError),
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for the moment.
    Stop(Stop),
    /// A message that has to be judged. It begins where the walk stands.
    Message {
        /// Its header.
        header: Header,
        /// How much of it is there, the header included.
        taken: usize,
    },
}

/// A walk over one chunk.
#[derive(Debug)]
pub struct Walk<'a> {
    chunk: &'a [u8],
    at: usize,
    /// What lies between here and `at` is still to be passed on as it is.
    run: usize,
    /// Where the message stands that is to be remembered beyond this chunk.
    kept: Option<Range<usize>>,
}

impl<'a> Walk<'a> {
    /// At the beginning.
    pub fn new(chunk: &'a [u8]) -> Self {
        Self { chunk, at: 0, run: 0, kept: None }
    }

    /// The bytes from where it stands.
    pub fn rest(&self) -> &'a [u8] {
        &self.chunk[self.at..]
    }

    /// Takes what is to be passed on as it is.
    pub fn take_run(&mut self) -> &'a [u8] {
        let run = &self.chunk[self.run..self.at];
        self.run = self.at;
        run
    }

    /// The next `length` bytes are to be remembered beyond this chunk, unless something follows that makes it needless.
    pub fn keep(&mut self, length: usize) {
        self.kept = Some(self.at..self.at + length);
    }

    /// It is needless to remember it.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    /// What is to be remembered.
    pub fn kept(&self) -> Option<&'a [u8]> {
        self.chunk.get(self.kept.clone()?)
    }

    /// Whether everything up to here is to be passed on as it is.
    pub fn is_whole(&self) -> bool {
        self.run == 0
    }
}

/// The place in the stream of requests of one client.
#[derive(Debug)]
pub struct RequestScan {
    /// The longest Query or Parse that is waited for as a whole: [`JUDGED`] or [`GUARDED`].
    pub longest: usize,
    /// Bytes that are still to come of a message whose header was seen.
    left: usize,
    /// They do not go to the server.
    drops: bool,
    /// Query, Execute and FunctionCall messages that were passed on, until somebody takes the count.
    pub queries: u32,
    /// Bytes of COPY that were passed on, until somebody takes the count.
    pub copied: u64,
}

impl Default for RequestScan {
    fn default() -> Self {
        Self { longest: JUDGED, left: 0, drops: false, queries: 0, copied: 0 }
    }
}

impl RequestScan {
    /// Whether the stream stands between two messages.
    pub fn between_messages(&self) -> bool {
        self.left == 0
    }

    /// Walks on and tells `turn` of each message that passes. With `judging`, stops at those that have to be judged.
    pub fn next(&mut self, turn: &mut Turn, walk: &mut Walk<'_>, judging: Judging) -> Step {
        loop {
            let passed = min(self.left, walk.rest().len());
            self.left -= passed;
            walk.at += passed;
            if self.drops {
                walk.run = walk.at;
                self.drops = self.left > 0;
            }
            if self.left > 0 {
                return Step::Stop(Stop::Drained);
            }
            let rest = walk.rest();
            let header = match frame::request(rest) {
                Ok(Some(header)) => header,
                Ok(None) => return Step::Stop(Stop::Drained),
                Err(error) => return Step::Stop(Stop::Invalid(error)),
            };
            if header.tag == b'X' {
                return Step::Stop(Stop::Goodbye);
            }
            if !turn.has_room() {
                return Step::Stop(Stop::Full);
            }
            let taken = min(header.len, rest.len());
            let judged = judging != Judging::Nothing || matches!(header.tag, b'D' | b'C');
            if judged && !is_readable(header, &rest[HEADER..taken], self.longest) {
                return Step::Stop(Stop::Drained);
            }
            if judging.stops_at(header.tag) {
                return Step::Message { header, taken };
            }
            let target = rest.get(HEADER).copied().unwrap_or(0);
            if header.tag == b'E' && target != 0 {
                // Where not all of its name is there, it is one that nobody knows.
                turn.will_execute(c_string(&rest[HEADER..taken]).map_or(b"", |(portal, _)| portal));
            }
            turn.request(header.tag, target, Asker::Client);
            self.pass(walk, header);
        }
    }

    /// The message at which the walk stands is to be passed on as it is.
    pub fn pass(&mut self, walk: &mut Walk<'_>, header: Header) {
        let here = min(header.len, walk.rest().len());
        walk.at += here;
        self.left = header.len - here;
        self.queries += u32::from(matches!(header.tag, b'Q' | b'E' | b'F'));
        if header.tag == b'd' {
            self.copied += header.len as u64;
        }
    }

    /// The message at which the walk stands is not to be passed on, and nothing of it that is still to come. What came
    /// before is to be taken out of the walk first.
    pub fn discard(&mut self, walk: &mut Walk<'_>, header: Header) {
        let here = min(header.len, walk.rest().len());
        self.replace(walk, header, here);
        self.drops = self.left > 0;
        self.queries += u32::from(matches!(header.tag, b'Q' | b'E' | b'F'));
    }

    /// The message at which the walk stands, or `length` bytes of it, are not to be passed on; the rest of it is.
    /// What came before is to be taken out of the walk first.
    pub fn replace(&mut self, walk: &mut Walk<'_>, header: Header, length: usize) {
        walk.at += length;
        walk.run = walk.at;
        self.left = header.len - length;
    }
}

/// Which messages are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judging {
    /// None: the server connection is the client's own.
    Nothing,
    /// Those that can leave or use session state.
    State,
    /// And Sync, because something has to follow it.
    StateAndSync,
    /// And whatever else runs something.
    All,
}

impl Judging {
    fn stops_at(self, tag: u8) -> bool {
        match self {
            Self::Nothing => false,
            Self::State => matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'C' | b'F'),
            Self::All => matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'C' | b'F' | b'S' | b'E'),
            Self::StateAndSync => matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'C' | b'F' | b'S'),
        }
    }
}

/// Whether a chunk begins with a request that can be judged as it is; `false` while more has to come first. `longest` is
/// that of [`RequestScan`].
///
/// # Errors
/// What no honest client sends.
pub fn is_judgeable(chunk: &[u8], longest: usize) -> Result<bool, FrameError> {
    let Some(header) = frame::request(chunk)? else { return Ok(false) };
    let taken = min(header.len, chunk.len());
    Ok(is_readable(header, &chunk[HEADER..taken], longest))
}

/// Whether enough of a message is there to judge it.
fn is_readable(header: Header, body: &[u8], longest: usize) -> bool {
    let whole = HEADER + body.len() == header.len;
    let has_names = |names: usize| {
        let head = &body[..min(body.len(), NAMES)];
        head.len() == NAMES || head.iter().filter(|&&byte| byte == 0).take(names).count() == names
    };
    whole
        || match header.tag {
            b'Q' => header.len > longest,
            b'P' => header.len > longest && has_names(1),
            b'B' => has_names(2),
            b'D' | b'C' => false,
            b'F' => header.len > longest && body.len() >= 4,
            _ => true,
        }
}

/// How long the client's first request is, from its first message to the one behind which ReadyForQuery is due; `None`
/// while it is not all there.
pub fn first_request(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        let header = frame::request(bytes.get(end..)?).ok()??;
        end += header.len;
        if matches!(header.tag, b'Q' | b'F' | b'S') {
            return (end <= bytes.len()).then_some(end);
        }
    }
}

/// The text of a Query, or as much of it as is there.
pub fn query_text(body: &[u8]) -> &[u8] {
    body.strip_suffix(&[0]).unwrap_or(body)
}

/// What a Parse says: the statement's name, its text, and the parameter types with their count; `None` if it is
/// malformed, or too long to be here as a whole.
pub fn parse_parts(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = c_string(body)?;
    let (text, types) = c_string(rest)?;
    let (count, oids) = types.split_first_chunk::<2>()?;
    (oids.len() == usize::from(u16::from_be_bytes(*count)) * 4).then_some((name, text, types))
}

/// The names of portal and statement in a Bind; `None` if they do not end.
pub fn bind_names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = c_string(body)?;
    Some((portal, c_string(rest)?.0))
}

/// The bytes up to the first NUL, and what follows it.
pub fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
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

    /// Feeds `bytes` in chunks of `size`, passing on what has to be judged; what was passed on, and the last stop.
    fn feed(bytes: &[u8], size: usize, judging: Judging) -> (Vec<u8>, Stop, Turn) {
        let (mut turn, mut scan) = (Turn::new(), RequestScan::default());
        let (mut sent, mut carry, mut stop) = (Vec::new(), Vec::new(), Stop::Drained);
        for piece in bytes.chunks(size) {
            carry.extend(piece);
            let mut walk = Walk::new(&carry);
            stop = loop {
                match scan.next(&mut turn, &mut walk, judging) {
                    Step::Stop(stop) => break stop,
                    Step::Message { header, .. } => {
                        turn.request(
                            header.tag,
                            walk.rest().get(HEADER).copied().unwrap_or(0),
                            Asker::Client,
                        );
                        scan.pass(&mut walk, header);
                    }
                }
            };
            sent.extend(walk.take_run());
            carry = walk.rest().to_vec();
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
        for (size, judging) in (1..=bytes.len()).flat_map(|size| {
            [Judging::Nothing, Judging::State, Judging::StateAndSync].map(|judging| (size, judging))
        }) {
            let (sent, stop, mut turn) = feed(&bytes, size, judging);
            assert_eq!((sent, stop), (bytes.clone(), Stop::Drained), "chunks of {size}");
            for (tag, status) in
                [(b'1', 0), (b'2', 0), (b'T', 0), (b'C', 0), (b'Z', b'I'), (b'C', 0), (b'Z', b'I')]
            {
                turn.reply(tag, status).unwrap();
            }
            assert!(turn.at_rest());
        }
    }

    #[test]
    fn a_message_that_is_replaced_leaves_its_tail() {
        let bytes = [message(b'Q', b"a\0"), message(b'B', b"p\0s\0tail"), message(b'S', b"")].concat();
        let (mut turn, mut scan, mut walk) = (Turn::new(), RequestScan::default(), Walk::new(&bytes));
        let mut out = Vec::<u8>::new();
        loop {
            match scan.next(&mut turn, &mut walk, Judging::State) {
                Step::Message { header, .. } if header.tag == b'B' => {
                    assert!(walk.is_whole());
                    out.extend(walk.take_run());
                    out.extend(b"<head>");
                    scan.replace(&mut walk, header, HEADER + 4);
                }
                Step::Message { header, .. } => scan.pass(&mut walk, header),
                Step::Stop(stop) => {
                    assert_eq!(stop, Stop::Drained);
                    break;
                }
            }
        }
        assert!(!walk.is_whole());
        out.extend(walk.take_run());
        assert_eq!(out, [message(b'Q', b"a\0"), b"<head>tail".to_vec(), message(b'S', b"")].concat());
    }

    #[test]
    fn terminate_is_never_passed_on() {
        let bytes = [batch(), message(b'X', b"")].concat();
        let (sent, stop, _) = feed(&bytes, bytes.len(), Judging::State);
        assert_eq!((sent, stop), (batch(), Stop::Goodbye));
    }

    #[test]
    fn what_is_judged_as_a_whole_waits_for_its_end_and_what_is_too_long_does_not() {
        let short = message(b'Q', b"SELECT 1\0");
        assert_eq!(is_judgeable(&short[..short.len() - 1], JUDGED), Ok(false));
        assert_eq!(is_judgeable(&short, JUDGED), Ok(true));
        let long = message(b'Q', &[b' '; JUDGED]);
        assert_eq!(is_judgeable(&long[..6], JUDGED), Ok(true));
        assert_eq!(is_judgeable(&long[..6], GUARDED), Ok(false));
        let bind = message(b'B', b"portal\0statement\0\0\0");
        assert_eq!(is_judgeable(&bind[..21], JUDGED), Ok(false));
        assert_eq!(is_judgeable(&bind[..22], JUDGED), Ok(true));
        assert_eq!(
            is_judgeable(&message(b'B', &[b'x'; 9000])[..NAMES + 5], JUDGED),
            Ok(true),
            "a name without end"
        );
        let describe = message(b'D', b"Sname\0");
        assert_eq!(is_judgeable(&describe[..describe.len() - 1], JUDGED), Ok(false));
    }

    #[test]
    fn a_parse_is_taken_apart_only_if_it_is_well_formed() {
        assert_eq!(
            parse_parts(b"s\0SELECT $1\0\0\x01\0\0\0\x17"),
            Some((&b"s"[..], &b"SELECT $1"[..], &b"\0\x01\0\0\0\x17"[..]))
        );
        for torn in [&b"s\0SELECT $1\0\0\x01\0\0\0"[..], b"s\0x\0\0\0\0", b"s\0x\0\0", b"s\0x", b"s", b""] {
            assert_eq!(parse_parts(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn a_request_ends_where_the_client_waits_for_ready_for_query() {
        let (query, batch) = (message(b'Q', b"SELECT 1\0"), batch());
        assert_eq!(first_request(&[query.clone(), batch.clone()].concat()), Some(query.len()));
        assert_eq!(first_request(&[batch.clone(), query].concat()), Some(batch.len()));
        for end in 0..batch.len() {
            assert_eq!(first_request(&batch[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn a_pipeline_without_end_is_stopped_before_it_fills_memory() {
        let bind = message(b'B', b"p\0s\0\0\0\0\0\0\0");
        let bytes = bind.repeat(crate::wire::turn::MAX_OWED + 10);
        let (sent, stop, _) = feed(&bytes, bytes.len(), Judging::State);
        assert_eq!((sent.len(), stop), (bind.len() * crate::wire::turn::MAX_OWED, Stop::Full));
    }

    #[test]
    fn garbage_is_refused() {
        let good = message(b'Q', b"SELECT 1\0");
        let stop = |bytes: &[u8]| {
            let bytes = [&good, bytes].concat();
            let (sent, stop, _) = feed(&bytes, bytes.len(), Judging::State);
            assert_eq!(sent, good, "what came before is sent");
            stop
        };
        assert_eq!(stop(b"GET / HTTP/1.1\r\n"), Stop::Invalid(FrameError::UnknownType(b'G')));
        assert!(matches!(stop(&[b'Q', 0xff, 0xff, 0xff, 0xff]), Stop::Invalid(_)));
        assert!(
            matches!(stop(&[b'p', 0, 0, 0, 9]), Stop::Invalid(_)),
            "a password has no place after the login"
        );
    }
}
