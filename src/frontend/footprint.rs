//! What the requests on one lease leave behind. The unnamed statement on a server connection is whoever's parsed it
//! last; until the server has confirmed this client's own, it may be another client's.

use std::collections::HashMap;
use std::rc::Rc;

use super::names::significant;
use crate::backend::prepared::StatementKey;
use crate::relay::reply::Unnamed;
use crate::statement::Facts;

/// What the requests on one lease leave behind.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// The server has said ParseComplete to an unnamed Parse of this client: what it has under no name is the client's,
    /// or nothing.
    confirmed: bool,
    /// It was not bound since: the client means to come back for it.
    unbound: bool,
    /// The batch of the last unnamed Parse: should that fail, everything behind it in the same batch is skipped.
    epoch: Option<u64>,
    /// Something was sent.
    pub(super) started: bool,
    /// Nobody else has used the server connection since the client had it last.
    pub(super) returns: bool,
    /// What the unnamed statement does.
    pub(super) facts: Option<Rc<Facts>>,
    /// On a server connection of the client's own, what its statements do, by their names.
    own: HashMap<Box<[u8]>, Rc<Facts>>,
    /// The shared statements that were used last, and how many of these places are taken.
    used: [StatementKey; USED],
    uses: usize,
    /// The shared statement that was parsed last because the server connection did not have it as the client knows it, and
    /// the batch in which it was.
    again: Option<(StatementKey, u64)>,
}

/// Statements that are remembered of a client that has a server connection of its own.
const OWN: usize = 1_000;

/// Shared statements that are remembered as the ones that may have failed.
const USED: usize = 8;

impl Footprint {
    /// The unnamed statement was parsed and is still to be bound: as several drivers do, Parse and Bind come in two
    /// batches.
    pub(super) fn will_bind(&self) -> bool {
        self.unbound
    }

    /// The client did not come back for its unnamed statement.
    pub(super) fn give_up(&mut self) {
        self.unbound = false;
    }

    /// An unnamed Parse was sent in this batch.
    pub(super) fn parsed(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
    }

    /// Whether one was sent in this batch, so that nobody else's is bound in it.
    pub(super) fn parsed_in(&self, epoch: u64) -> bool {
        self.epoch == Some(epoch)
    }

    /// A Query was sent, which destroys the unnamed statement.
    pub(super) fn destroy_unnamed(&mut self) {
        self.unbound = false;
    }

    /// Takes what the server said of the unnamed statement.
    pub(super) fn learn(&mut self, unnamed: Unnamed) {
        self.confirmed = true;
        self.unbound = unnamed == Unnamed::Parsed;
    }

    /// A shared statement is being used.
    pub(super) fn uses(&mut self, key: &StatementKey) {
        self.used[self.uses % USED] = *key;
        self.uses += 1;
    }

    /// On a server connection of the client's own: a statement of that name is parsed; without facts, nobody knows what
    /// it does.
    pub(super) fn owns(&mut self, name: &[u8], facts: Option<&Rc<Facts>>) {
        let name = significant(name);
        match (self.own.get_mut(name), facts) {
            (Some(known), Some(facts)) => *known = Rc::clone(facts),
            (_, None) => drop(self.own.remove(name)),
            (None, Some(facts)) => {
                if self.own.len() >= OWN {
                    self.own.clear();
                }
                self.own.insert(name.into(), Rc::clone(facts));
            }
        }
    }

    /// What the statement of that name does.
    pub(super) fn own(&self, name: &[u8]) -> Option<&Rc<Facts>> {
        self.own.get(significant(name))
    }

    /// The shared statements that were used last.
    pub(super) fn used(&self) -> &[StatementKey] {
        &self.used[..self.uses.min(USED)]
    }

    /// A shared statement is being parsed in batch `epoch` because the client knows another one.
    pub(super) fn parses_again(&mut self, key: &StatementKey, epoch: u64) {
        self.again = Some((*key, epoch));
    }

    /// Whether the last one was this, in this batch.
    pub(super) fn was_parsed_again(&self, key: &StatementKey, epoch: u64) -> bool {
        self.again == Some((*key, epoch))
    }

    /// Whether a request in this batch can only meet an unnamed statement of this client's.
    pub(super) fn owns_unnamed(&self, epoch: u64) -> bool {
        self.confirmed || self.epoch == Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_that_was_sent_is_no_parse_that_the_server_has() {
        let mut footprint = Footprint::default();
        assert!(!footprint.owns_unnamed(1));
        footprint.parsed(1);
        assert!(
            footprint.owns_unnamed(1),
            "behind a Parse of the same batch a Bind is safe: it is skipped with it"
        );
        assert!(!footprint.owns_unnamed(2));
        footprint.learn(Unnamed::Parsed);
        assert!(footprint.owns_unnamed(2));
    }

    #[test]
    fn a_client_that_parsed_and_not_yet_bound_will_come_back() {
        let mut footprint = Footprint::default();
        footprint.parsed(1);
        assert!(!footprint.will_bind());
        footprint.learn(Unnamed::Parsed);
        assert!(footprint.will_bind());
        footprint.learn(Unnamed::Bound);
        assert!(!footprint.will_bind());
        footprint.learn(Unnamed::Parsed);
        footprint.destroy_unnamed();
        assert!(!footprint.will_bind());
    }

    #[test]
    fn names_of_a_clients_own_statements_are_kept_as_far_as_the_server_keeps_them() {
        let (mut footprint, facts) = (Footprint::default(), Rc::new(Facts::unknown()));
        for number in 0..OWN {
            footprint.owns(format!("{number:063}{}", "x".repeat(10_000)).as_bytes(), Some(&facts));
        }
        assert_eq!(footprint.own.keys().map(|name| name.len()).sum::<usize>(), 63 * OWN);
        assert!(footprint.own(format!("{:063}", 7).as_bytes()).is_some());
        footprint.owns(format!("{:063}and more", 7).as_bytes(), None);
        assert!(footprint.own(format!("{:063}", 7).as_bytes()).is_none());
    }
}
