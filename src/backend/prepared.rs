//! Which shared prepared statements a server connection has.
//!
//! Clients name their statements as they like; on the server a statement has a name that follows from what it is (its
//! text, its parameter types, and the settings it was parsed under), so that any client that means the same uses the
//! same, and nobody can guess another's. What counts is what the server has confirmed: a Parse that is on its way may
//! still be skipped behind an error, and then only the batch it is in is skipped with it.

use std::collections::{HashMap, VecDeque};

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
    /// The server has said ParseComplete.
    confirmed: bool,
    /// The batch in which its Parse was sent.
    epoch: u64,
    /// When it was last used.
    used: u64,
    /// How many statements of the pool had been parsed by then.
    generation: u64,
}

/// The shared statements of one server connection.
#[derive(Debug, Default)]
pub struct Statements {
    known: HashMap<StatementKey, Known>,
    /// Those whose Parse is not answered yet, in the order of their sending.
    pending: VecDeque<StatementKey>,
    clock: u64,
}

impl Statements {
    /// Whether a request of batch `epoch` may use it; it counts as used then. Who parsed it as the pool's
    /// statement number `generation` is to get it as it was parsed then or later: before, it may have had other columns.
    pub fn has(&mut self, key: &StatementKey, epoch: u64, generation: u64) -> bool {
        self.clock += 1;
        match self.known.get_mut(key) {
            Some(known) if known.generation >= generation && (known.confirmed || known.epoch == epoch) => {
                known.used = self.clock;
                true
            }
            _ => false,
        }
    }

    /// Its Parse is being sent in batch `epoch`, so many statements of the pool having been parsed.
    pub fn sent(&mut self, key: &StatementKey, epoch: u64, generation: u64) {
        self.clock += 1;
        self.known.insert(*key, Known { confirmed: false, epoch, used: self.clock, generation });
        self.pending.push_back(*key);
    }

    /// Learns what became of requests that were sent.
    pub fn learn(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match *outcome {
                Outcome::Done => {
                    let key = self.pending.pop_front();
                    if let Some(known) = key.and_then(|key| self.known.get_mut(&key)) {
                        known.confirmed = true;
                    }
                }
                Outcome::Dropped(count) => {
                    for key in self.pending.drain(..self.pending.len().min(count as usize)) {
                        self.known.remove(&key);
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

    fn key(n: u16) -> StatementKey {
        let mut key = [0; 16];
        key[..2].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn a_name_follows_from_the_key() {
        let name = server_name(&[0xab; 16]);
        assert_eq!(&name[..], format!("fp_{}\0", "ab".repeat(16)).as_bytes());
    }

    #[test]
    fn a_statement_may_be_used_at_once_in_its_own_batch_and_in_others_once_it_is_confirmed() {
        let mut statements = Statements::default();
        assert!(!statements.has(&key(1), 7, 0));
        statements.sent(&key(1), 7, 0);
        assert!(statements.has(&key(1), 7, 0));
        assert!(
            !statements.has(&key(1), 8, 0),
            "its Parse may be skipped, and a Bind of the next batch is not"
        );
        statements.learn(&[Outcome::Done]);
        assert!(statements.has(&key(1), 8, 0));
    }

    #[test]
    fn who_parses_anew_does_not_get_what_was_parsed_before_definitions_changed() {
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, 0);
        assert!(statements.has(&key(1), 1, 0) && !statements.has(&key(1), 1, 1));
        statements.sent(&key(1), 1, 1);
        assert!(statements.has(&key(1), 1, 0));
    }

    #[test]
    fn what_was_skipped_behind_an_error_is_not_there() {
        let mut statements = Statements::default();
        for n in 0..4 {
            statements.sent(&key(n), 1, 0);
        }
        statements.learn(&[Outcome::Done, Outcome::Dropped(2), Outcome::Done]);
        let there: Vec<_> = (0..4).map(|n| statements.has(&key(n), 2, 0)).collect();
        assert_eq!(there, [true, false, false, true]);
    }

    #[test]
    fn the_one_that_was_used_longest_ago_makes_room() {
        let mut statements = Statements::default();
        for n in 0..=MAX_STATEMENTS as u16 {
            statements.sent(&key(n), 1, 0);
        }
        assert!(statements.has(&key(0), 1, 0));
        assert_eq!(statements.surplus(), Some(key(1)));
        assert_eq!(statements.surplus(), None);
        assert!(!statements.has(&key(1), 1, 0));
    }

    #[test]
    fn a_connection_that_was_reset_has_none() {
        let mut statements = Statements::default();
        statements.sent(&key(1), 1, 0);
        statements.forget_all();
        assert!(!statements.has(&key(1), 1, 0));
        statements.learn(&[Outcome::Done]);
        assert!(!statements.has(&key(1), 2, 0));
    }
}
