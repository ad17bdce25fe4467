//! Under what the statements are counted whose replies are owed, as far as their requests do not say it themselves: an
//! Execute names a portal, and a Query may have several statements.

use std::collections::VecDeque;

use super::owed::Bill;
use super::turn::Turn;
use crate::fnv::fnv1a;

/// Named portals of which it is remembered what they are. The oldest give way.
const PORTALS: usize = 16;

/// Statements of several texts that are told apart at once.
const MOST: usize = 4_096;

/// Of one server connection.
#[derive(Debug, Default)]
pub(super) struct Bills {
    /// The time at which things are sent.
    pub(super) now: u64,
    /// Of the unnamed portal.
    unnamed: Bill,
    /// Of those with a name, by its hash.
    portals: VecDeque<(u64, Bill)>,
    /// Of the next Execute, if it is one of those.
    chosen: Option<Bill>,
    /// Of the second and following statements of a text, with the batch that it is.
    following: VecDeque<(u64, Bill)>,
}

impl Bills {
    pub(super) fn bind(&mut self, portal: &[u8], bill: Bill) {
        if portal.is_empty() {
            self.unnamed = bill;
            return;
        }
        let name = fnv1a(portal);
        self.portals.retain(|(known, _)| *known != name);
        if self.portals.len() >= PORTALS {
            self.portals.pop_front();
        }
        self.portals.push_back((name, bill));
    }

    pub(super) fn choose(&mut self, portal: &[u8]) {
        let name = fnv1a(portal);
        let known = self.portals.iter_mut().find(|(known, _)| *known == name);
        self.chosen = Some(known.map_or(Bill::default(), |(_, bill)| take(bill)));
    }

    /// Of the Execute that is sent now.
    pub(super) fn execute(&mut self) -> Bill {
        self.chosen.take().unwrap_or_else(|| take(&mut self.unnamed))
    }

    pub(super) fn queue(&mut self, epoch: u64, bills: impl Iterator<Item = Bill>) {
        let room = MOST.saturating_sub(self.following.len());
        self.following.extend(bills.take(room).map(|bill| (epoch, bill)));
    }

    /// A statement of the Query of that batch has been carried out: the next one is `bill`.
    pub(super) fn next_statement(&mut self, epoch: u64, bill: &mut Bill) {
        let (sent, trace) = (bill.sent, bill.trace);
        match self.following.front() {
            Some((of, next)) if *of == epoch => {
                *bill = Bill { sent, trace, ..*next };
                self.following.pop_front();
            }
            // One that nobody told apart.
            _ if bill.is_due() => *bill = Bill { schemas: 1, sent, trace, ..Bill::default() },
            _ => {}
        }
    }

    /// That batch, and so every one before it, is over.
    pub(super) fn answered(&mut self, epoch: u64) {
        while self.following.front().is_some_and(|(of, _)| *of <= epoch) {
            self.following.pop_front();
        }
    }
}

impl Turn {
    /// What is sent from now on is sent at this time.
    pub fn set_time(&mut self, now: u64) {
        self.bills.now = now;
    }

    /// Of the portal of that name, which is bound by what is sent next.
    pub fn bill_portal(&mut self, portal: &[u8], bill: Bill) {
        self.bills.bind(portal, bill);
    }

    /// Of the next statements of the text whose Query is sent next. The first one's is in its mark.
    pub fn bill_next_statements(&mut self, bills: impl Iterator<Item = Bill>) {
        let epoch = self.epoch();
        self.bills.queue(epoch, bills);
    }

    /// The next Execute is of this portal, which is not the unnamed one.
    pub fn will_execute(&mut self, portal: &[u8]) {
        self.bills.choose(portal);
    }
}

/// What a client sent for a portal is counted once, however often that is executed.
fn take(bill: &mut Bill) -> Bill {
    let taken = *bill;
    bill.received = 0;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::turn::{Asker, Mark};

    fn bill(schemas: u64) -> Bill {
        Bill { schemas, received: 10, ..Bill::default() }
    }

    fn billed(turn: &mut Turn, tag: u8, status: u8) -> u64 {
        turn.reply(tag, status).unwrap();
        turn.answered().bill.schemas
    }

    #[test]
    fn each_execute_is_counted_as_what_its_portal_was_bound_to() {
        let mut turn = Turn::new();
        for (portal, schemas) in [(&b""[..], 2), (b"p", 4), (b"q", 8)] {
            turn.mark_request(b'B', 0, Asker::Client, Mark::default());
            turn.bill_portal(portal, bill(schemas));
        }
        for portal in [&b"q"[..], b"", b"p", b"gone", b""] {
            if !portal.is_empty() {
                turn.will_execute(portal);
            }
            turn.request(b'E', 0, Asker::Client);
        }
        for _ in 0..3 {
            turn.reply(b'2', 0).unwrap();
        }
        let executed = [0; 5].map(|_| billed(&mut turn, b'C', 0));
        assert_eq!(executed, [8, 2, 4, 0, 2]);
    }

    #[test]
    fn each_statement_of_a_text_is_counted_by_itself_and_none_is_left_for_the_next_text() {
        let mut turn = Turn::new();
        turn.set_time(7);
        for (first, following) in [(2, vec![4, 8]), (16, vec![32, 64]), (128, vec![])] {
            turn.bill_next_statements(following.into_iter().map(bill));
            turn.mark_request(b'Q', 0, Asker::Client, Mark { bill: bill(first), ..Mark::default() });
        }
        let mut seen = Vec::new();
        // The second text fails at its second statement, and the third has one statement more than was told.
        for (tag, status) in
            [(b'C', 0), (b'C', 0), (b'C', 0), (b'Z', b'I'), (b'C', 0), (b'E', 0), (b'Z', b'I')]
        {
            seen.push(billed(&mut turn, tag, status));
        }
        assert_eq!(seen, [2, 4, 8, 1, 16, 32, 32]);
        turn.reply(b'C', 0).unwrap();
        let bill = turn.answered().bill;
        assert_eq!((bill.schemas, bill.sent, bill.received), (128, 7, 10));
        turn.reply(b'C', 0).unwrap();
        assert_eq!(turn.answered().bill, Bill { schemas: 1, sent: 7, ..Bill::default() });
    }

    #[test]
    fn all_statements_of_a_text_are_followed_under_its_number() {
        let mut turn = Turn::new();
        turn.bill_next_statements([bill(4)].into_iter());
        let first = Bill { trace: 9, ..bill(2) };
        turn.mark_request(b'Q', 0, Asker::Client, Mark { bill: first, ..Mark::default() });
        let followed = [0; 3].map(|_| {
            turn.reply(b'C', 0).unwrap();
            turn.answered().bill.trace
        });
        assert_eq!(followed, [9; 3]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut bills = Bills::default();
        bills.queue(1, (0..1_000_000).map(|_| bill(1)));
        assert_eq!(bills.following.len(), MOST);
        (0..1_000_u32).for_each(|portal| bills.bind(&portal.to_be_bytes(), bill(1)));
        assert_eq!(bills.portals.len(), PORTALS);
    }
}
