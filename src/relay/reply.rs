//! Server to client: walks over a chunk of replies, keeps the books of the [`Turn`], takes out what the proxy itself
//! had asked for, and notes what session, pool and metrics want to know.

use std::cmp::min;

use crate::wire::frame::{self, FrameError, HEADER};
use crate::wire::tag::{self, SessionState};
use crate::wire::turn::{Asker, ReplyKind, Turn, Violation};

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
    /// The last session state that a command of the client's left on the connection.
    pub leaves: Option<SessionState>,
    /// The client discarded all session state.
    pub discarded: bool,
    /// The client had settings reset to what the server thinks is their default.
    pub reset: bool,
    /// What last happened to the client's unnamed statement.
    pub unnamed: Option<Unnamed>,
    /// A notification came that this client cannot have asked for; it was swallowed.
    pub strayed: bool,
    /// The server said that it ends the connection; the client gets to read it.
    pub farewell: bool,
    /// An error that answered the proxy's own request: its body.
    pub own_failure: Option<Vec<u8>>,
}

/// What happened to an unnamed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// The server has it.
    Parsed,
    /// The server has it, and it was bound.
    Bound,
}

/// What becomes of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes at the chunk's start go to the client. Shorter than what was read where replies were swallowed.
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
    /// The connection is one client's alone, which may have asked for notifications.
    pub exclusive: bool,
}

impl ReplyScan {
    /// Whether the stream stands between two messages.
    pub fn between_messages(&self) -> bool {
        self.left == 0
    }

    /// Whether the stream stands within a message whose beginning went to the client.
    pub fn forwards_rest(&self) -> bool {
        self.left > 0 && !self.swallow
    }

    /// Walks over `chunk`. `parameter` is told of each ParameterStatus: its body, name and value with their NULs.
    pub fn scan(
        &mut self,
        turn: &mut Turn,
        chunk: &mut [u8],
        seen: &mut Seen,
        mut parameter: impl FnMut(&[u8]),
    ) -> Result<Scanned, ReplyError> {
        let (mut read, mut forward) = (0, 0);
        while read < chunk.len() {
            let available = chunk.len() - read;
            let taken = if self.left > 0 {
                let taken = min(self.left, available);
                self.left -= taken;
                taken
            } else {
                let Some(header) = frame::reply(&chunk[read..])? else { break };
                // These are looked into, and short; only an ErrorResponse may be longer than a chunk.
                let whole =
                    matches!(header.tag, b'Z' | b'C' | b'E' | b'S') && header.len <= frame::SMALL_REPLY + 1;
                if available < header.len && whole {
                    break;
                }
                let taken = min(header.len, available);
                let body = &chunk[read + HEADER..read + taken];
                // PostgreSQL says nothing but its farewell, which is short, without having been asked.
                let farewell = whole && crate::wire::error_fields::is_fatal(body);
                if header.tag == b'E' && turn.is_quiet() && !farewell {
                    return Err(Violation::Unexpected { tag: b'E', expected: "nothing" }.into());
                }
                let reply = turn.reply(header.tag, body.first().copied().unwrap_or(0))?;
                let strayed = header.tag == b'A' && !self.exclusive;
                seen.strayed |= strayed;
                self.swallow = strayed || reply.asker == Asker::Proxy;
                self.left = header.len - taken;
                if reply.kind != ReplyKind::Part {
                    note(seen, turn, reply.kind, reply.asker, body);
                    // Its own notifications may come in the same breath.
                    self.exclusive |= seen.leaves == Some(SessionState::Listen);
                    if reply.kind == ReplyKind::Parameter {
                        parameter(body);
                    }
                }
                taken
            };
            if !self.swallow {
                if forward != read {
                    chunk.copy_within(read..read + taken, forward);
                }
                forward += taken;
            }
            read += taken;
        }
        Ok(Scanned { forward, rest: read })
    }
}

fn note(seen: &mut Seen, turn: &Turn, kind: ReplyKind, asker: Asker, body: &[u8]) {
    match (kind, asker) {
        (ReplyKind::Error, Asker::Proxy) => seen.own_failure = Some(body.to_vec()),
        (ReplyKind::Error, Asker::Client) => {
            seen.errors += 1;
            seen.farewell |= crate::wire::error_fields::is_fatal(body);
        }
        (ReplyKind::Ready, Asker::Client) => {
            seen.ready += 1;
            seen.transactions += u32::from(turn.status() == crate::wire::turn::Status::Idle);
        }
        (ReplyKind::Parsed { unnamed: true }, Asker::Client) => seen.unnamed = Some(Unnamed::Parsed),
        (ReplyKind::Parsed { unnamed: false }, Asker::Client) => {
            seen.leaves = Some(SessionState::PreparedStatement);
        }
        (ReplyKind::Bound { unnamed: true }, Asker::Client) => seen.unnamed = Some(Unnamed::Bound),
        (ReplyKind::Command, Asker::Client) => {
            let name = body.strip_suffix(&[0]).unwrap_or(body);
            seen.reset |= tag::resets(name);
            if tag::discards_all(name) {
                seen.discarded = true;
                seen.leaves = None;
            } else if let Some(state) = tag::leaves(name) {
                seen.leaves = Some(state);
            }
        }
        _ => {}
    }
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
                let scanned = scan.scan(&mut turn, &mut chunk, &mut seen, |_| parameters += 1).unwrap();
                got.extend(&chunk[..scanned.forward]);
                carry = chunk[scanned.rest..].to_vec();
            }
            assert_eq!(got, wanted, "chunks of {size}");
            assert!(carry.is_empty() && scan.between_messages() && turn.at_rest());
            assert_eq!((seen.transactions, seen.ready, parameters), (1, 1, 1));
            assert_eq!(seen.leaves, Some(SessionState::Setting));
        }
    }

    #[test]
    fn a_reply_that_nobody_is_owed_is_an_error() {
        let mut turn = Turn::new();
        let mut chunk = message(b'D', b"stolen");
        let result = ReplyScan::default().scan(&mut turn, &mut chunk, &mut Seen::default(), |_| {});
        assert!(matches!(result, Err(ReplyError::Violation(_))));
    }

    #[test]
    fn the_servers_farewell_is_noted_and_passed_on() {
        let mut turn = Turn::new();
        let mut seen = Seen::default();
        let mut chunk = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
        let scanned = ReplyScan::default().scan(&mut turn, &mut chunk, &mut seen, |_| {}).unwrap();
        assert_eq!(scanned.forward, chunk.len());
        assert!(seen.farewell && seen.own_failure.is_none());
    }
}
