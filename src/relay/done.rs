//! What has become of the client's statements, for whoever counts them.

use crate::wire::error_fields;
use crate::wire::frame::Header;
use crate::wire::tag;
use crate::wire::turn::{Asker, Bill, Mark, Reply, ReplyKind};

/// A statement of the client's that has ended, or been suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Under what it is counted.
    pub bill: Bill,
    /// Bytes that the client got since the last one ended.
    pub sent: u64,
    /// How it ended.
    pub ended: Ended,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was carried out, for so many rows, and these are the first letters of its tag.
    Carried(u64, [u8; 6]),
    /// A portal has given so many rows, and may give more.
    Suspended(u64),
    /// With an error of this SQLSTATE.
    Failed([u8; 5]),
}

/// What is counted until somebody takes it: at most what stands in one chunk.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Whether anybody counts.
    on: bool,
    done: Vec<Done>,
    sent: u64,
    rows: u64,
}

/// Memory that is kept for the next chunk, in statements.
const KEPT: usize = 256;

impl Counted {
    /// Forgets what was counted, and begins anew or does not.
    pub(super) fn start(&mut self, on: bool) {
        self.done.clear();
        (self.on, self.sent, self.rows) = (on, 0, 0);
    }

    pub(super) fn take(&mut self) -> std::vec::Drain<'_, Done> {
        if self.done.capacity() > KEPT && self.done.is_empty() {
            self.done = Vec::new();
        }
        self.done.drain(..)
    }

    /// So many bytes go to the client, which are so many rows, or none.
    pub(super) fn stream(&mut self, bytes: u64, rows: u64) {
        self.sent += bytes;
        self.rows += rows;
    }

    /// A reply goes to the client; `answered` is its [`crate::wire::turn::Turn::answered`], `body` as much of it as is there.
    #[inline]
    pub(super) fn pass(&mut self, header: Header, reply: Reply, (answered, body): (&Mark, &[u8])) {
        if !self.on {
            return;
        }
        self.sent += header.len as u64;
        let ended = match reply.kind {
            ReplyKind::Row => {
                self.rows += 1;
                return;
            }
            ReplyKind::Command => {
                let first = body.first_chunk().copied().unwrap_or_else(|| short(body));
                Ended::Carried(tag::rows(body.strip_suffix(&[0]).unwrap_or(body)), first)
            }
            ReplyKind::Carried if header.tag == b's' => Ended::Suspended(self.rows),
            ReplyKind::Carried => Ended::Carried(0, *b"CALL\0\0"),
            // What the proxy refuses is none of the server's errors.
            ReplyKind::Error if !matches!(reply.asker, Asker::Refused(_)) => {
                let sqlstate = error_fields::field(body, b'C').unwrap_or_default();
                Ended::Failed(sqlstate.first_chunk().copied().unwrap_or_default())
            }
            _ => return,
        };
        let sent = std::mem::take(&mut self.sent);
        self.rows = 0;
        // An error is counted whatever it answers; without a bill it belongs to no schema.
        if answered.bill.is_due() || matches!(ended, Ended::Failed(_)) {
            self.done.push(Done { bill: answered.bill, sent, ended });
        }
    }
}

/// A tag that is shorter than its first letters.
fn short(body: &[u8]) -> [u8; 6] {
    let mut letters = [0; 6];
    letters.iter_mut().zip(body).for_each(|(letter, byte)| *letter = *byte);
    letters
}
