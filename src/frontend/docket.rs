//! What has to be known of a statement when it has ended, beyond the numbers of its bill: a shape that has no place in the
//! table yet, the wait for a server connection, the trace, and the text, if the log is to show it. Most statements have
//! nothing of it.
//!
//! Entries are in the order in which statements are sent, and so in that of their answers. One whose portal is executed
//! much later may be gone by then, and the statement is counted with what its bill says.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::statement::{Shape, Traceparent};

/// Entries of one client, and those of them that may have a text.
const MOST: usize = 256;
const MOST_TEXTS: usize = 32;

/// Bytes of a text that are kept.
const LONGEST: usize = 2_000;

/// Room that is kept while nothing is under way, in entries.
const KEPT: usize = 8;

/// What a client has said of a statement.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) trace: Option<Traceparent>,
    /// Its text, cut, if it is to be shown.
    pub(super) text: Option<Box<[u8]>>,
}

impl Said {
    /// In that text.
    pub(super) fn read(text: &[u8], literals: bool) -> Self {
        let trace = Traceparent::of(text);
        Self { trace, text: literals.then(|| text[..text.len().min(LONGEST)].into()) }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.trace.is_none() && self.text.is_none()
    }
}

/// What is known of one statement.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Its shape, where the table has no place for it.
    pub(super) shape: Option<Arc<Shape>>,
    /// For how many nanoseconds it has waited for a server connection.
    pub(super) waited: Option<u64>,
    pub(super) said: Said,
}

/// The statements of one client that are under way.
#[derive(Debug, Default)]
pub(super) struct Docket {
    entries: VecDeque<(u32, Entry)>,
    last: u32,
}

impl Docket {
    /// Keeps what is to be known; the number under which it is found, 0 if there is nothing.
    pub(super) fn enter(&mut self, mut entry: Entry) -> u32 {
        if entry.shape.is_none() && entry.waited.is_none() && entry.said.is_nothing() {
            return 0;
        }
        if self.entries.len() >= MOST {
            self.entries.pop_front();
        }
        if self.entries.len() >= MOST_TEXTS {
            entry.said.text = None;
        }
        self.last = self.last.wrapping_add(1).max(1);
        self.entries.push_back((self.last, entry));
        self.last
    }

    /// What is known of the statement with that number, which has ended. It has waited only once, and those before it have
    /// ended as well.
    pub(super) fn close(&mut self, ticket: u32) -> Entry {
        if ticket == 0 {
            return Entry::default();
        }
        // Numbers begin anew after four thousand millions.
        let is_older = |number: u32| number.wrapping_sub(ticket) > u32::MAX / 2;
        while self.entries.front().is_some_and(|(number, _)| is_older(*number)) {
            self.entries.pop_front();
        }
        match self.entries.front_mut() {
            Some((number, entry)) if *number == ticket => {
                let known = entry.clone();
                entry.waited = None;
                known
            }
            _ => Entry::default(),
        }
    }

    /// Nothing is under way.
    pub(super) fn clear(&mut self) {
        if self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(nanos: u64) -> Entry {
        Entry { waited: Some(nanos), ..Entry::default() }
    }

    #[test]
    fn statements_are_found_in_their_order_and_have_waited_once() {
        let mut docket = Docket::default();
        assert_eq!(docket.enter(Entry::default()), 0);
        let [first, second, third] = [1, 2, 3].map(|nanos| docket.enter(waited(nanos)));
        assert_eq!([first, first, third].map(|ticket| docket.close(ticket).waited), [Some(1), None, Some(3)]);
        assert_eq!(docket.close(second).waited, None, "it ended before the third");
        assert_eq!(docket.close(0).waited, None);
        docket.clear();
        assert_eq!(docket.close(third).waited, None);
    }

    #[test]
    fn numbers_begin_anew() {
        let mut docket = Docket { last: u32::MAX - 1, ..Docket::default() };
        let tickets = [1, 2, 3].map(|nanos| docket.enter(waited(nanos)));
        assert_eq!(tickets, [u32::MAX, 1, 2]);
        assert_eq!(tickets.map(|ticket| docket.close(ticket).waited), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut docket = Docket::default();
        for _ in 0..10_000 {
            docket.enter(Entry { said: Said::read(&[b'x'; 100_000], true), ..waited(1) });
        }
        let texts = docket.entries.iter().filter_map(|(_, entry)| entry.said.text.as_ref());
        let bytes: usize = texts.map(|text| text.len()).sum();
        assert!(docket.entries.len() <= MOST && bytes <= MOST_TEXTS * LONGEST);
        docket.clear();
        assert!(docket.entries.capacity() <= KEPT);
    }

    #[test]
    fn texts_are_kept_only_where_they_are_to_be_shown() {
        let text = b"SELECT 'x' /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
        let said = Said::read(text, false);
        assert!(said.trace.is_some() && said.text.is_none());
        assert_eq!(Said::read(text, true).text.as_deref(), Some(&text[..]));
        assert!(Said::read(b"SELECT 1", false).is_nothing());
    }
}
