//! Server to client: walks over a chunk of replies, keeps the books of the [`Turn`], takes out what the proxy itself
//! had asked for, and notes what session, pool and metrics want to know.

use std::cmp::min;

use super::describe::{Description, Scribe};
use crate::wire::error_fields;
use crate::wire::frame::{self, FrameError, HEADER};
use crate::wire::tag::{self, Deallocated, Pins, SessionState};
use crate::wire::turn::{Asker, Mark, ReplyKind, Turn, Violation};

use super::done::Counted;
pub use super::done::{Done, Ended};

/// The server sent what an honest server does not send. The connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A header that makes no sense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A reply that was not owed.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// What stood in the replies of a chunk.
#[derive(Debug, Default)]
pub struct Seen {
    /// ReadyForQuery messages for the client with status `I`: transactions that ended.
    pub transactions: u32,
    /// ReadyForQuery messages for the client, whatever their status.
    pub ready: u32,
    /// ErrorResponses for the client.
    pub errors: u32,
    /// What the client asked for and was carried out, at least in part.
    pub commands: u32,
    /// Something was carried out whose text nobody could read, and that does more than change rows.
    pub unclear: bool,
    /// The session state that the client's commands may have left, as far as their tags tell.
    pub leaves: Pins,
    /// The client discarded all session state.
    pub discarded: bool,
    /// The client had settings reset to what the server takes for their default.
    pub reset: bool,
    /// Every prepared statement of the connection is gone.
    pub deallocated: bool,
    /// What the client's commands removed, in their order.
    pub removals: Vec<Deallocated>,
    /// How often the client's startup settings were set again.
    pub reassigned: u32,
    /// What last happened to the client's unnamed statement.
    pub unnamed: Option<Unnamed>,
    /// The server has parsed an unnamed statement of the client's: what was said of another before does not hold for it.
    pub reparsed: bool,
    /// What the server said of the client's unnamed statement since then, and who had asked.
    pub unnamed_described: Vec<(Asker, Description)>,
    /// What became of the client's requests that give or take a statement's name, in their order.
    pub names: Vec<Outcome>,
    /// What became of the requests to parse a statement that clients share, in their order.
    pub shared: Vec<Outcome>,
    /// A notification came that this client cannot have asked for; it was swallowed.
    pub strayed: bool,
    /// The server said that it ends the connection; the client gets to read it.
    pub farewell: bool,
    /// The client got an error that a statement may cause that was parsed before definitions changed.
    pub stale: bool,
    /// An error that answered the proxy's own request: its body.
    pub own_failure: Option<Vec<u8>>,
    /// The rows that answered the proxy's own requests: their bodies, as far as they are short.
    pub own_rows: Vec<Vec<u8>>,
}

/// What becomes of a message that is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// The client gets it.
    Pass,
    /// The client does not.
    Swallow,
    /// The client gets one with this body instead.
    Instead(Vec<u8>),
}

impl Hearing {
    /// Whether the client gets it as it is.
    pub fn plain(passes: bool) -> Self {
        if passes { Self::Pass } else { Self::Swallow }
    }
}

/// What became of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// One was carried out.
    Done,
    /// A statement was parsed, and this is what it is.
    Described(Description),
    /// So many failed, or were skipped behind an error.
    Dropped(u32),
}

/// What happened to an unnamed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// The server has it.
    Parsed,
    /// The server has it, and it was bound.
    Bound,
}

/// Rows of the proxy's own requests that are kept.
const OWN_ROWS: usize = 1024;

/// What becomes of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes at the chunk's start go to the client, unless `out` has something: then all of it is there.
    /// Shorter than what was read where replies were swallowed.
    pub forward: usize,
    /// From here to its end the chunk holds a message that is not complete: give it again with more behind it.
    pub rest: usize,
}

/// The place in the stream of replies of one server connection.
#[derive(Debug, Default)]
pub struct ReplyScan {
    /// Bytes that are still to come of a message whose header was seen.
    left: usize,
    /// Whether those bytes are swallowed.
    swallow: bool,
    /// Type and body of a message to be given in the place of the one that was just read.
    instead: Option<(u8, Vec<u8>)>,
    /// Takes down a description.
    scribe: Option<Scribe>,
    /// The message that is being read is part of it; for whom, if it is the last part.
    described: Option<Option<(Mark, Asker)>>,
    /// The connection is one client's alone, which may have asked for notifications.
    pub exclusive: bool,
    counted: Counted,
}

/// A chunk while its swallowed parts are being taken out of it, and the proxy's own replies put in.
struct Sieve<'a> {
    chunk: &'a mut [u8],
    read: usize,
    forward: usize,
    out: &'a mut Vec<u8>,
}

impl Sieve<'_> {
    fn keep(&mut self, length: usize) {
        let taken = self.read..self.read + length;
        if !self.out.is_empty() {
            self.out.extend_from_slice(&self.chunk[taken]);
        } else {
            if self.forward != self.read {
                self.chunk.copy_within(taken, self.forward);
            }
            self.forward += length;
        }
        self.read += length;
    }

    fn give_locals(&mut self, turn: &mut Turn, seen: &mut Seen) {
        while let Some(local) = turn.take_local() {
            self.give(&[&local.bytes()]);
            seen.names.push(Outcome::Done);
        }
    }

    /// Puts something of the proxy's own behind what the client gets so far.
    fn give(&mut self, parts: &[&[u8]]) {
        if self.out.is_empty() {
            self.out.extend_from_slice(&self.chunk[..self.forward]);
            self.forward = 0;
        }
        for part in parts {
            self.out.extend_from_slice(part);
        }
    }
}

impl ReplyScan {
    /// Whether the stream stands between two messages.
    pub fn between_messages(&self) -> bool {
        self.left == 0
    }

    /// Forgets what has ended, and counts what ends from now on, or does not.
    pub fn count(&mut self, on: bool) {
        self.counted.start(on);
    }

    /// What has ended since the last call.
    pub fn take_done(&mut self) -> std::vec::Drain<'_, Done> {
        self.counted.take()
    }

    /// Whether the stream stands within a message whose beginning went to the client.
    pub fn forwards_rest(&self) -> bool {
        self.left > 0 && !self.swallow
    }

    /// Walks over `chunk`. `hear` is told of each ParameterStatus, of each notification that the client may get, and of
    /// each ErrorResponse that is not very long: type, body, and what it is a reply to; it says what the client gets.
    /// `out`, which is empty, takes what goes to the client where the proxy has replies of its own to put in between.
    ///
    /// # Errors
    /// What the server must not send.
    pub fn scan(
        &mut self,
        turn: &mut Turn,
        chunk: &mut [u8],
        (seen, out): (&mut Seen, &mut Vec<u8>),
        mut hear: impl FnMut(u8, &[u8], Asker) -> Hearing,
    ) -> Result<Scanned, ReplyError> {
        let mut sieve = Sieve { chunk, read: 0, forward: 0, out };
        loop {
            if self.left == 0 {
                sieve.give_locals(turn, seen);
            }
            let available = sieve.chunk.len() - sieve.read;
            if available == 0 {
                break;
            }
            let (taken, head) = if self.left > 0 {
                let taken = min(self.left, available);
                self.left -= taken;
                (taken, 0)
            } else {
                let streamed = self.stream(turn, &sieve.chunk[sieve.read..]);
                sieve.keep(streamed);
                if streamed == available {
                    break;
                }
                let Some(taken) = self.begin(turn, &sieve.chunk[sieve.read..], seen, &mut hear)? else {
                    break;
                };
                (taken, HEADER)
            };
            if self.described.is_some() {
                self.take_down(&sieve.chunk[sieve.read + head..sieve.read + taken], seen);
            }
            if let Some((tag, body)) = self.instead.take() {
                sieve.give(&[&[tag], &(body.len() as u32 + 4).to_be_bytes(), &body]);
            }
            if self.swallow {
                sieve.read += taken;
            } else {
                sieve.keep(taken);
            }
        }
        Ok(Scanned { forward: sieve.forward, rest: sieve.read })
    }

    /// How many bytes at the start of `chunk` are whole messages that the client gets as they are, and about which nothing is
    /// to be known but how many they are: a large result is nearly all of them.
    fn stream(&mut self, turn: &Turn, chunk: &[u8]) -> usize {
        let streams = turn.streams();
        let (mut bytes, mut rows) = (0, 0);
        while let Some(&[tag, ref length @ ..]) = chunk[bytes..].first_chunk::<HEADER>() {
            // The length counts itself and not the type; one that makes no sense is for others to find.
            let length = (u32::from_be_bytes(*length) as usize).saturating_add(1);
            let flows = (tag == b'D' && streams.rows) || (tag == b'd' && streams.data);
            if !flows || length < HEADER || length > chunk.len() - bytes {
                break;
            }
            bytes += length;
            rows += u64::from(tag == b'D');
        }
        self.counted.stream(bytes as u64, rows);
        bytes
    }

    /// Looks at the message at the start of `chunk`; how many of its bytes are there, `None` if they have to be more.
    fn begin(
        &mut self,
        turn: &mut Turn,
        chunk: &[u8],
        seen: &mut Seen,
        hear: &mut impl FnMut(u8, &[u8], Asker) -> Hearing,
    ) -> Result<Option<usize>, ReplyError> {
        let Some(header) = frame::reply(chunk)? else { return Ok(None) };
        let own = turn.next_asker() == Asker::Proxy;
        // These are looked into, and short; only an ErrorResponse or a row may be longer than a chunk.
        let looked_into =
            matches!(header.tag, b'Z' | b'C' | b'E' | b'S' | b'A') || (own && header.tag == b'D');
        let limit = if header.tag == b'A' { frame::NOTIFICATION } else { frame::SMALL_REPLY + 1 };
        let whole = looked_into && header.len <= limit;
        if chunk.len() < header.len && whole {
            return Ok(None);
        }
        let taken = min(header.len, chunk.len());
        let body = &chunk[HEADER..taken];
        // PostgreSQL says nothing but its farewell, which is short, without having been asked.
        let farewell = header.tag == b'E' && whole && error_fields::is_fatal(body);
        if header.tag == b'E' && turn.is_quiet() && !farewell {
            return Err(Violation::Unexpected { tag: b'E', expected: "nothing" }.into());
        }
        let reply = turn.reply(header.tag, body.first().copied().unwrap_or(0))?;
        let strayed = header.tag == b'A' && !self.exclusive;
        seen.strayed |= strayed;
        self.swallow = strayed || (reply.asker == Asker::Proxy && header.tag != b'A');
        self.left = header.len - taken;
        if !self.swallow {
            self.counted.pass(header, reply, (turn.answered(), body));
        }
        if reply.kind == ReplyKind::Described {
            self.begin_description(header.tag, *turn.answered(), reply.asker);
        } else if reply.kind != ReplyKind::Part {
            let asker = if matches!(reply.asker, Asker::Refused(_)) { Asker::Client } else { reply.asker };
            note(seen, turn, reply.kind, (asker, body));
            if reply.kind == ReplyKind::Row && own && seen.own_rows.len() < OWN_ROWS {
                // One that is too long is left empty, so that whoever asked finds that it is not all there.
                seen.own_rows.push(if whole { body.to_vec() } else { Vec::new() });
            }
            // Its own notifications may come in the same breath.
            self.exclusive |= seen.leaves.contains(SessionState::Listen);
            let heard = matches!(header.tag, b'S' | b'E') || (header.tag == b'A' && !strayed);
            if whole && heard {
                let hearing = hear(header.tag, body, reply.asker);
                self.swallow = hearing != Hearing::Pass;
                if let Hearing::Instead(body) = hearing {
                    self.instead = Some((header.tag, body));
                }
                if header.tag == b'E' && reply.asker == Asker::Client && turn.prefix() > 0 {
                    let body = self.instead.take().map_or_else(|| body.to_vec(), |(_, body)| body);
                    self.swallow = true;
                    self.instead = Some((b'E', error_fields::moved(&body, turn.prefix())));
                }
            }
            if let Some(body) = in_place((reply.kind, turn.answered()), body).filter(|_| !self.swallow) {
                self.swallow = true;
                self.instead = Some((header.tag, body.to_vec()));
            }
        }
        Ok(Some(taken))
    }

    /// A part of a description begins.
    fn begin_description(&mut self, tag: u8, mark: Mark, asker: Asker) {
        if !mark.shared && !mark.unnamed {
            return;
        }
        if tag == b't' {
            self.scribe = None;
        }
        self.scribe.get_or_insert_with(Scribe::new).begin(tag);
        self.described = Some((tag != b't').then_some((mark, asker)));
    }

    /// Takes down bytes of a description, and what it is at its end.
    fn take_down(&mut self, bytes: &[u8], seen: &mut Seen) {
        if let Some(scribe) = &mut self.scribe {
            scribe.take(bytes);
        }
        if self.left > 0 {
            return;
        }
        let last = self.described.take().flatten();
        let Some((mark, asker)) = last else { return };
        let Some(description) = self.scribe.take().map(Scribe::finish) else { return };
        if mark.naming {
            seen.names.push(Outcome::Described(description.clone()));
        }
        if mark.shared {
            seen.shared.push(Outcome::Described(description));
        } else {
            seen.unnamed_described.push((asker, description));
        }
    }
}

/// What the client gets in the place of a reply, where its transactions are the proxy's own.
fn in_place(reply: (ReplyKind, &Mark), body: &[u8]) -> Option<&'static [u8]> {
    match reply {
        (ReplyKind::Ready, Mark { owned: true, .. }) => Some(b"I"),
        (ReplyKind::Command, Mark { commits: true, .. }) if body == b"ROLLBACK\0" => Some(b"COMMIT\0"),
        _ => None,
    }
}

fn note(seen: &mut Seen, turn: &mut Turn, kind: ReplyKind, (asker, body): (Asker, &[u8])) {
    match (kind, asker) {
        (ReplyKind::Error, _) => {
            let dropped = turn.take_dropped();
            push_dropped(&mut seen.names, dropped.naming);
            push_dropped(&mut seen.shared, dropped.shared);
            if asker == Asker::Client {
                seen.errors += 1;
                seen.farewell |= error_fields::is_fatal(body);
                seen.stale |= may_be_stale(body);
            } else {
                seen.own_failure = Some(body.to_vec());
            }
        }
        (ReplyKind::Ready, Asker::Proxy) => seen.reassigned += u32::from(turn.answered().reassigns),
        (ReplyKind::Ready, _) => {
            seen.ready += 1;
            let idle = turn.answered().owned || turn.status() == crate::wire::turn::Status::Idle;
            seen.transactions += u32::from(idle);
        }
        (ReplyKind::Parsed, Asker::Client) if turn.answered().unnamed => {
            seen.unnamed = Some(Unnamed::Parsed);
            seen.reparsed = true;
            seen.unnamed_described.clear();
        }
        (ReplyKind::Carried, Asker::Client) => seen.commands += 1,
        (ReplyKind::Bound, Asker::Client) => {
            seen.unclear |= turn.answered().unread;
            if turn.answered().unnamed {
                seen.unnamed = Some(Unnamed::Bound);
            }
        }
        (ReplyKind::Command, _) => {
            let name = body.strip_suffix(&[0]).unwrap_or(body);
            let deallocated = tag::deallocates(name);
            seen.deallocated |= deallocated == Some(Deallocated::All);
            if asker == Asker::Client {
                seen.commands += 1;
                seen.removals.extend(deallocated);
                seen.unclear |= turn.answered().unread && !tag::changes_rows(name);
                seen.discarded |= tag::discards_all(name);
                seen.reset |= tag::resets(name);
                if let Some(state) = tag::leaves(name) {
                    seen.leaves.insert(state);
                }
            }
        }
        _ => {}
    }
}

fn push_dropped(outcomes: &mut Vec<Outcome>, count: u32) {
    if count > 0 {
        outcomes.push(Outcome::Dropped(count));
    }
}

/// A statement that the server does not have (26000), one whose result would have other columns than when it was parsed
/// (0A000), or one that does not fit its tables any more (class 42, but
/// not 42P05: its name is taken).
fn may_be_stale(body: &[u8]) -> bool {
    let sqlstate = error_fields::field(body, b'C').unwrap_or_default();
    matches!(sqlstate, b"26000" | b"0A000") || (sqlstate.starts_with(b"42") && sqlstate != b"42P05")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn conversation() -> (Turn, Vec<u8>, Vec<u8>) {
        let mut turn = Turn::new();
        turn.request(b'Q', 0, Asker::Proxy);
        turn.request(b'Q', 0, Asker::Client);
        let swallowed =
            [message(b'S', b"TimeZone\0UTC\0"), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        let wanted = [
            message(b'T', &[0, 0]),
            message(b'D', &[7; 300]),
            message(b'N', b"SNOTICE\0\0"),
            message(b'C', b"SET\0"),
            message(b'Z', b"I"),
        ]
        .concat();
        (turn, swallowed, wanted)
    }

    #[test]
    fn whatever_the_chunks_the_client_gets_its_own_replies_byte_for_byte() {
        let (_, swallowed, wanted) = conversation();
        let all = [swallowed, wanted.clone()].concat();
        for size in 1..=all.len() {
            let (mut turn, ..) = conversation();
            let (mut scan, mut seen) = (ReplyScan::default(), Seen::default());
            let (mut got, mut carry, mut parameters) = (Vec::<u8>::new(), Vec::<u8>::new(), 0);
            for piece in all.chunks(size) {
                let mut chunk = std::mem::take(&mut carry);
                chunk.extend(piece);
                let mut out = Vec::new();
                let scanned = scan
                    .scan(&mut turn, &mut chunk, (&mut seen, &mut out), |_, _, reply| {
                        parameters += 1;
                        Hearing::plain(reply == Asker::Client)
                    })
                    .unwrap();
                got.extend(if out.is_empty() { &chunk[..scanned.forward] } else { &out });
                carry = chunk[scanned.rest..].to_vec();
            }
            assert_eq!(got, wanted, "chunks of {size}");
            assert!(carry.is_empty() && scan.between_messages() && turn.at_rest());
            assert_eq!((seen.transactions, seen.ready, parameters), (1, 1, 1));
            assert!(seen.leaves.contains(SessionState::Setting));
        }
    }

    #[test]
    fn a_reply_that_nobody_is_owed_is_an_error() {
        let mut turn = Turn::new();
        let mut chunk = message(b'D', b"stolen");
        let result = ReplyScan::default().scan(
            &mut turn,
            &mut chunk,
            (&mut Seen::default(), &mut Vec::new()),
            |_, _, _| Hearing::Pass,
        );
        assert!(matches!(result, Err(ReplyError::Violation(_))));
    }

    #[test]
    fn the_servers_farewell_is_noted_and_passed_on() {
        let mut turn = Turn::new();
        let mut seen = Seen::default();
        let mut chunk = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
        let scanned = ReplyScan::default()
            .scan(&mut turn, &mut chunk, (&mut seen, &mut Vec::new()), |_, _, _| Hearing::Pass)
            .unwrap();
        assert_eq!(scanned.forward, chunk.len());
        assert!(seen.farewell && seen.own_failure.is_none());
    }
}
