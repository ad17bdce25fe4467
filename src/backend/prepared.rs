//! Which shared prepared statements a server connection has.
//!
//! Clients name their statements as they like; on the server a statement has a name that follows from what it is (its
//! text, its parameter types, and the settings it was parsed under), so that any client that means the same uses the
//! same, and nobody can guess another's. What counts is what the server has confirmed: a Parse that is on its way may
//! still be skipped behind an error, and then only the batch it is in is skipped with it.
//!
//! Behind each Parse goes a Describe, because the same text may be another statement by now: its tables have changed. Who
//! was told otherwise must not run it unawares.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::relay::describe::Shape;
use crate::relay::reply::Outcome;

/// Identifies a shared statement: a keyed hash of all that it is.
pub type StatementKey = [u8; 16];

/// Statements that a server connection keeps at most. Those that were used longest ago are closed first.
pub const MAX_STATEMENTS: usize = 256;

/// The name of a statement on the server, with its final NUL.
pub type ServerName = [u8; 36];

/// The name that a statement has on every server: `fp_` and 32 hexadecimal digits.
pub fn server_name(key: &StatementKey) -> ServerName {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = [0; 36];
    name[..3].copy_from_slice(b"fp_");
    for (place, byte) in key.iter().enumerate() {
        name[3 + 2 * place] = DIGITS[usize::from(byte >> 4)];
        name[4 + 2 * place] = DIGITS[usize::from(byte & 15)];
    }
    name
}

#[derive(Debug)]
struct Known {
    /// What it is, once the server has said so.
    shape: Option<Shape>,
    /// The batch in which its Parse was sent, and when.
    epoch: u64,
    sent: u64,
    /// When it was last used.
    used: u64,
    /// How many statements of the pool had been parsed by then.
    generation: u64,
    /// The [`Wanted::generation`] for whose sake it was parsed.
    owner: u64,
}

/// What a client means by a statement.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// It parsed it as the pool's statement of this number: it is to get it as it was parsed then or later.
    pub generation: u64,
    /// What it was told that the statement is; `None` if that was nothing, or does not matter.
    pub shape: Option<Shape>,
}

/// Whether a request may use a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It may.
    Ready,
    /// That depends on what the server is about to say of it.
    Soon,
    /// It has to be parsed first.
    Missing,
    /// It is not what the client was told.
    Different,
}

/// The shared statements of one server connection.
#[derive(Debug, Default)]
pub struct Statements {
    known: HashMap<StatementKey, Known, RandomState>,
    /// Those whose Parse is not answered yet and when that was sent, in this order.
    pending: VecDeque<(StatementKey, u64)>,
    clock: u64,
}

impl Statements {
    /// Whether a request of batch `epoch` may use it; it counts as used then.
    pub fn find(&mut self, key: &StatementKey, epoch: u64, wanted: Wanted) -> Found {
        self.clock += 1;
        let Some(known) = self.known.get_mut(key).filter(|known| known.generation >= wanted.generation)
        else {
            return Found::Missing;
        };
        let found = match (known.shape, wanted.shape) {
            (Some(known), Some(wanted)) if known != wanted => Found::Different,
            (Some(_), _) => Found::Ready,
            (None, _) if known.epoch != epoch => Found::Missing,
            // A Parse of its own is skipped with what follows it, and what yields no rows cannot yield others.
            (None, wanted_shape) => {
                let certain =
                    known.owner == wanted.generation && wanted_shape.is_none_or(|shape| !shape.has_rows());
                if certain { Found::Ready } else { Found::Soon }
            }
        };
        if found == Found::Ready {
            known.used = self.clock;
        }
        found
    }

    /// Its Parse is being sent in batch `epoch`, and the Describe behind it, so many statements of the pool having been
    /// parsed, for the client that had parsed it as number `owner`.
    pub fn sent(&mut self, key: &StatementKey, epoch: u64, (generation, owner): (u64, u64)) {
        self.clock += 1;
        let sent = self.clock;
        self.known.insert(*key, Known { shape: None, epoch, sent, used: sent, generation, owner });
        self.pending.push_back((*key, sent));
    }

    /// Learns what became of requests that were sent.
    pub fn learn(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome {
                Outcome::Done => {}
                Outcome::Described(description) => {
                    let Some((key, sent)) = self.pending.pop_front() else { continue };
                    // Where it was sent once more meanwhile, what counts is still to come.
                    if let Some(known) = self.known.get_mut(&key).filter(|known| known.sent == sent) {
                        known.shape = Some(description.shape);
                    }
                }
                Outcome::Dropped(count) => {
                    for (key, sent) in self.pending.drain(..self.pending.len().min(*count as usize)) {
                        if self.known.get(&key).is_some_and(|known| known.sent == sent) {
                            self.known.remove(&key);
                        }
                    }
                }
            }
        }
    }

    /// The server has lost it, or has it in a form that is of no use any more.
    pub fn forget(&mut self, key: &StatementKey) {
        self.known.remove(key);
    }

    /// The server has none any more. Those that are on their way are in doubt, and will be parsed again.
    pub fn forget_all(&mut self) {
        self.known.clear();
    }

    /// One that has to be closed to make room, if there are too many. It is not known any more then.
    pub fn surplus(&mut self) -> Option<StatementKey> {
        if self.known.len() <= MAX_STATEMENTS {
            return None;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key)?;
        self.known.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::describe::Description;

    fn key(n: u16) -> StatementKey {
        let mut key = [0; 16];
        key[..2].copy_from_slice(&n.to_be_bytes());
        key
    }

    fn shape(n: u8) -> Shape {
        Shape::of_test(n, true)
    }

    fn described(n: u8) -> Outcome {
        Outcome::Described(Description { shape: shape(n), types: None })
    }

    /// What a client wants that parsed it as this number and was told that.
    fn wanted(generation: u64, told: Option<u8>) -> Wanted {
        Wanted { generation, shape: told.map(shape) }
    }

    const ANY: Wanted = Wanted { generation: 0, shape: None };

    #[test]
    fn a_name_follows_from_the_key() {
        let name = server_name(&[0xab; 16]);
        assert_eq!(&name[..], format!("fp_{}\0", "ab".repeat(16)).as_bytes());
    }

    #[test]
    fn a_statement_may_be_used_at_once_in_its_own_batch_and_in_others_once_it_is_confirmed() {
        let mut statements = Statements::default();
        assert_eq!(statements.find(&key(1), 7, ANY), Found::Missing);
        statements.sent(&key(1), 7, (0, 0));
        assert_eq!(statements.find(&key(1), 7, ANY), Found::Ready);
        assert_eq!(
            statements.find(&key(1), 8, ANY),
            Found::Missing,
            "its Parse may be skipped, and a Bind of the next batch is not"
        );
        statements.learn(&[described(1)]);
        assert_eq!(statements.find(&key(1), 8, ANY), Found::Ready);
    }

    #[test]
    fn who_parses_anew_does_not_get_what_was_parsed_before_definitions_changed() {
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, (0, 0));
        assert_eq!(statements.find(&key(1), 1, ANY), Found::Ready);
        assert_eq!(statements.find(&key(1), 1, wanted(1, None)), Found::Missing);
        statements.sent(&key(1), 1, (1, 1));
        assert_eq!(statements.find(&key(1), 1, wanted(1, None)), Found::Ready);
    }

    #[test]
    fn who_was_told_of_other_columns_does_not_get_it() {
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, (5, 5));
        assert_eq!(statements.find(&key(1), 1, wanted(3, Some(3))), Found::Soon, "nobody knows yet");
        assert_eq!(statements.find(&key(1), 1, wanted(3, None)), Found::Soon, "another's Parse");
        statements.learn(&[described(4)]);
        assert_eq!(statements.find(&key(1), 1, wanted(3, Some(3))), Found::Different);
        assert_eq!(statements.find(&key(1), 1, wanted(3, Some(4))), Found::Ready);
        assert_eq!(statements.find(&key(1), 1, wanted(3, None)), Found::Ready, "was told nothing");
    }

    #[test]
    fn what_yields_no_rows_is_not_waited_for_by_whom_it_was_parsed_again() {
        let told = Wanted { generation: 3, shape: Some(Shape::of_test(3, false)) };
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, (5, 3));
        assert_eq!(statements.find(&key(1), 1, told), Found::Ready);
        assert_eq!(statements.find(&key(1), 1, wanted(3, Some(3))), Found::Soon);
        assert_eq!(statements.find(&key(1), 1, Wanted { generation: 4, ..told }), Found::Soon);
    }

    #[test]
    fn what_counts_is_what_the_server_said_of_the_last_parse() {
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, (1, 1));
        statements.sent(&key(1), 2, (2, 2));
        statements.learn(&[described(1)]);
        assert_eq!(statements.find(&key(1), 3, wanted(1, Some(1))), Found::Missing);
        statements.learn(&[described(2)]);
        assert_eq!(statements.find(&key(1), 3, wanted(1, Some(1))), Found::Different);
        statements.sent(&key(1), 4, (3, 3));
        statements.sent(&key(1), 5, (4, 4));
        statements.learn(&[Outcome::Dropped(1), described(4)]);
        assert_eq!(statements.find(&key(1), 6, wanted(1, Some(4))), Found::Ready);
    }

    #[test]
    fn what_was_skipped_behind_an_error_is_not_there() {
        let mut statements = Statements::default();
        for n in 0..4 {
            statements.sent(&key(n), 1, (0, 0));
        }
        statements.learn(&[described(0), Outcome::Dropped(2), described(3)]);
        let there: Vec<_> = (0..4).map(|n| statements.find(&key(n), 2, ANY) == Found::Ready).collect();
        assert_eq!(there, [true, false, false, true]);
    }

    #[test]
    fn the_one_that_was_used_longest_ago_makes_room() {
        let mut statements = Statements::default();
        for n in 0..=MAX_STATEMENTS as u16 {
            statements.sent(&key(n), 1, (0, 0));
        }
        assert_eq!(statements.find(&key(0), 1, ANY), Found::Ready);
        assert_eq!(statements.surplus(), Some(key(1)));
        assert_eq!(statements.surplus(), None);
        assert_eq!(statements.find(&key(1), 1, ANY), Found::Missing);
    }

    #[test]
    fn a_connection_that_was_reset_has_none() {
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, (0, 0));
        statements.forget_all();
        assert_eq!(statements.find(&key(1), 1, ANY), Found::Missing);
        statements.learn(&[described(1)]);
        assert_eq!(statements.find(&key(1), 2, ANY), Found::Missing);
    }
}
