//! The prepared statements of one client, by the names that the client gave them.
//!
//! A name is given or taken as soon as the client asks for it, because its next message may use it; should the server
//! say no, or skip the request behind an error, it is undone. Whether a statement is on the server connection that the
//! client has at the moment is not this file's business.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::texts::Prepared;
use crate::backend::prepared::Wanted;
use crate::relay::describe::{Description, Shape};
use crate::relay::reply::Outcome;

/// Bytes of a statement's name that PostgreSQL tells apart: `NAMEDATALEN - 1`, the key length of the table in its
/// `src/backend/commands/prepare.c`.
const NAME: usize = 63;

/// Statements that a client may have at once.
const MAX_STATEMENTS: usize = 20_000;

/// Bytes of the texts of all of them.
const MAX_BYTES: usize = 32 << 20;

/// A statement that a client prepared.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) prepared: Rc<Prepared>,
    /// How many statements of the pool had been parsed by then.
    pub(super) generation: u64,
    /// What the server said that it is when it was parsed.
    shape: Option<Shape>,
    /// The types of its parameters as the server made them out then, where the client had left some to it.
    types: Option<Arc<[u8]>>,
}

impl Named {
    /// A statement that the client is about to parse.
    pub(super) fn new(prepared: Rc<Prepared>, generation: u64) -> Self {
        Self { prepared, generation, shape: None, types: None }
    }

    /// What the client means by it.
    pub(super) fn wanted(&self) -> Wanted {
        let shape = self.shape.filter(|_| !self.prepared.facts.result_varies());
        Wanted { generation: self.generation, shape }
    }

    /// The types of its parameters with their count, as Parse has them: PostgreSQL makes them out once, when it parses the
    /// statement for the first time.
    pub(super) fn types(&self) -> &[u8] {
        self.types.as_deref().unwrap_or_else(|| self.prepared.types())
    }

    /// What it costs to keep, in bytes, roughly.
    fn size(&self) -> usize {
        self.prepared.size() + self.types.as_ref().map_or(0, |types| types.len())
    }

    fn learn(&mut self, description: &Description) {
        self.shape = Some(description.shape);
        let types = description.types.as_ref().filter(|types| ***types != *self.prepared.types());
        self.types = types.map(|types| self.prepared.share_types(types));
    }
}

#[derive(Debug)]
struct Given {
    named: Named,
    /// The request that gave the name.
    request: u64,
}

/// What has to be put back if a request fails.
#[derive(Debug)]
struct Undo {
    request: u64,
    /// The batch in which it was sent.
    epoch: u64,
    name: Box<[u8]>,
    before: Option<Given>,
}

/// A client has more statements than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The names of one client.
#[derive(Debug, Default)]
pub(super) struct Names {
    named: HashMap<Box<[u8]>, Given, RandomState>,
    bytes: usize,
    /// One for each request that is not answered yet, in their order.
    undo: VecDeque<Undo>,
    requests: u64,
}

/// As much of a statement's name as PostgreSQL tells apart.
pub(super) fn significant(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME)]
}

impl Names {
    /// The statement of that name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Named> {
        Some(&self.named.get(significant(name))?.named)
    }

    /// Whether it depends on an earlier batch than `epoch`, whose answer is still to come, what the name means.
    pub(super) fn is_open(&self, name: &[u8], epoch: u64) -> bool {
        let name = significant(name);
        // They are in the order of their batches.
        let mut earlier = self.undo.iter().take_while(|undo| undo.epoch != epoch);
        earlier.any(|undo| *undo.name == *name)
    }

    /// Gives a name, which is free or about to be, in batch `epoch`, until the server says otherwise.
    pub(super) fn give(&mut self, name: &[u8], named: Named, epoch: u64) -> Result<(), TooMany> {
        let bytes = named.size();
        if self.named.len() >= MAX_STATEMENTS || self.bytes + bytes > MAX_BYTES {
            return Err(TooMany);
        }
        self.requests += 1;
        self.bytes += bytes;
        let name: Box<[u8]> = significant(name).into();
        let before = self.named.remove(&name);
        self.bytes -= before.as_ref().map_or(0, |before| before.named.size());
        self.undo.push_back(Undo { request: self.requests, epoch, name: name.clone(), before });
        self.named.insert(name, Given { named, request: self.requests });
        Ok(())
    }

    /// Takes a name that was given, in batch `epoch`, until the server says otherwise; `false` if it was not given.
    pub(super) fn take(&mut self, name: &[u8], epoch: u64) -> bool {
        let name = significant(name);
        let Some((name, before)) = self.named.remove_entry(name) else { return false };
        self.requests += 1;
        self.bytes -= before.named.size();
        self.undo.push_back(Undo { request: self.requests, epoch, name, before: Some(before) });
        true
    }

    /// Takes a name for good.
    pub(super) fn forget(&mut self, name: &[u8]) {
        if let Some(given) = self.named.remove(significant(name)) {
            self.bytes -= given.named.size();
        }
    }

    /// Takes every name for good.
    pub(super) fn forget_all(&mut self) {
        self.named = HashMap::default();
        self.bytes = 0;
        self.undo.iter_mut().for_each(|undo| undo.before = None);
    }

    /// The same statement as it is under other settings, or with the types of its parameters.
    pub(super) fn renew(&mut self, name: &[u8], prepared: Rc<Prepared>) {
        if let Some(given) = self.named.get_mut(significant(name)) {
            self.bytes -= given.named.size();
            given.named.types.take_if(|types| **types == *prepared.types());
            given.named.prepared = prepared;
            self.bytes += given.named.size();
        }
    }

    /// Learns what became of requests.
    pub(super) fn learn(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome {
                Outcome::Done => drop(self.undo.pop_front()),
                Outcome::Described(description) => self.is_given(description),
                Outcome::Dropped(count) => {
                    let count = self.undo.len().min(*count as usize);
                    // The last one first, so that what was before all of them is what remains.
                    let dropped: Vec<_> = self.undo.drain(..count).collect();
                    dropped.into_iter().rev().for_each(|undo| self.put_back(undo));
                }
            }
        }
    }

    /// The server has the statement that the first request gave its name.
    fn is_given(&mut self, description: &Description) {
        let Some(Undo { request, name, .. }) = self.undo.pop_front() else { return };
        if let Some(given) = self.named.get_mut(&name).filter(|given| given.request == request) {
            self.bytes -= given.named.size();
            given.named.learn(description);
            self.bytes += given.named.size();
            return;
        }
        // A later request that is still under way took the name, and may put it back.
        let later = self.undo.iter_mut().filter_map(|undo| undo.before.as_mut());
        if let Some(given) = later.into_iter().find(|given| given.request == request) {
            given.named.learn(description);
        }
    }

    fn put_back(&mut self, undo: Undo) {
        // A later request that is still under way gave the name again: its own undo has to put this back.
        if let Some(later) = self.undo.iter_mut().find(|later| later.name == undo.name) {
            let given = later.before.as_ref().is_none_or(|before| before.request == undo.request);
            if given {
                later.before = undo.before;
            }
            return;
        }
        self.forget(&undo.name);
        if let Some(before) = undo.before {
            self.bytes += before.named.size();
            self.named.insert(undo.name, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::texts::Texts;
    use super::*;
    use crate::statement::{Dialect, Encoding};

    fn prepared(text: &str) -> Named {
        let dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
        let prepared = Texts::new([7; 32], false).prepared(text.as_bytes(), &[0, 0], &[0; 32], dialect);
        Named::new(prepared, 0)
    }

    fn text(names: &Names, name: &str) -> Option<String> {
        names.get(name.as_bytes()).map(|named| String::from_utf8(named.prepared.text().to_vec()).unwrap())
    }

    #[test]
    fn a_name_counts_at_once_and_stays_if_the_server_agrees() {
        let mut names = Names::default();
        names.give(b"a", prepared("SELECT 1"), 1).unwrap();
        assert_eq!(text(&names, "a").as_deref(), Some("SELECT 1"));
        names.learn(&[Outcome::Done]);
        assert!(names.take(b"a", 1));
        assert_eq!(text(&names, "a"), None);
        names.learn(&[Outcome::Done]);
        assert_eq!((text(&names, "a"), names.bytes), (None, 0));
        assert!(!names.take(b"a", 1));
    }

    fn described(n: u8, types: &[u8]) -> Outcome {
        Outcome::Described(Description { shape: Shape::of_test(n, true), types: Some(types.into()) })
    }

    #[test]
    fn what_the_server_said_of_a_statement_stays_with_its_name() {
        const INT4: &[u8] = b"\0\x01\0\0\0\x17";
        let mut names = Names::default();
        names.give(b"a", prepared("SELECT $1"), 1).unwrap();
        assert_eq!(
            (names.get(b"a").unwrap().wanted().shape, names.get(b"a").unwrap().types()),
            (None, &[0, 0][..])
        );
        // It is closed and given again before the first answer comes, and the second Parse fails.
        names.take(b"a", 1);
        names.give(b"a", prepared("SELECT $1 + 1"), 1).unwrap();
        names.learn(&[described(1, INT4)]);
        assert_eq!(names.get(b"a").unwrap().wanted().shape, None);
        names.learn(&[Outcome::Dropped(2)]);
        let named = names.get(b"a").unwrap();
        assert_eq!((named.wanted().shape, named.types()), (Some(Shape::of_test(1, true)), INT4));
        // Another one of the same text shares the list.
        names.give(b"b", Named::new(Rc::clone(&named.prepared), 1), 1).unwrap();
        names.learn(&[described(1, INT4)]);
        let lists = ["a", "b"].map(|name| names.get(name.as_bytes()).unwrap().types.clone().unwrap());
        assert!(Arc::ptr_eq(&lists[0], &lists[1]));
    }

    #[test]
    fn what_a_cursor_yields_is_not_held_against_its_statement() {
        let mut names = Names::default();
        names.give(b"a", prepared("FETCH 1 FROM c"), 1).unwrap();
        names.learn(&[described(1, b"\0\0")]);
        assert_eq!(names.get(b"a").unwrap().wanted().shape, None);
    }

    #[test]
    fn what_an_error_skipped_never_happened() {
        let mut names = Names::default();
        names.give(b"a", prepared("SELECT 1"), 1).unwrap();
        names.learn(&[Outcome::Done]);
        names.take(b"a", 1);
        names.give(b"a", prepared("SELECT 2"), 1).unwrap();
        names.give(b"b", prepared("SELECT 3"), 1).unwrap();
        names.learn(&[Outcome::Dropped(3)]);
        assert_eq!((text(&names, "a").as_deref(), text(&names, "b")), (Some("SELECT 1"), None));
        names.take(b"a", 1);
        names.give(b"a", prepared("SELECT 2"), 1).unwrap();
        names.learn(&[Outcome::Done, Outcome::Dropped(1)]);
        assert_eq!((text(&names, "a"), names.bytes), (None, 0));
    }

    #[test]
    fn what_a_later_batch_did_outlives_the_failure_of_an_earlier_one() {
        let mut names = Names::default();
        names.give(b"a", prepared("SELECT 1"), 1).unwrap();
        names.take(b"a", 1);
        names.give(b"a", prepared("SELECT 2"), 1).unwrap();
        // The first two were skipped, the third is still under way.
        names.learn(&[Outcome::Dropped(2)]);
        assert_eq!(text(&names, "a").as_deref(), Some("SELECT 2"));
        names.learn(&[Outcome::Dropped(1)]);
        assert_eq!(text(&names, "a"), None);
    }

    #[test]
    fn what_a_name_means_is_open_while_an_earlier_batch_is_not_answered() {
        let mut names = Names::default();
        names.give(b"a", prepared("SELECT 1"), 1).unwrap();
        assert!(!names.is_open(b"a", 1) && names.is_open(b"a", 2) && !names.is_open(b"b", 2));
        names.learn(&[Outcome::Dropped(1)]);
        assert!(!names.is_open(b"a", 2));
    }

    #[test]
    fn names_are_told_apart_by_63_bytes_as_on_the_server() {
        let mut names = Names::default();
        names.give(&[b'x'; 64], prepared("SELECT 1"), 1).unwrap();
        assert!(names.get(&[b'x'; 63]).is_some() && names.get(&[b'x'; 62]).is_none());
    }

    #[test]
    fn a_client_that_prepares_without_end_is_stopped() {
        let mut names = Names::default();
        let one = prepared("SELECT 1");
        for n in 0..MAX_STATEMENTS {
            names.give(n.to_string().as_bytes(), one.clone(), 1).unwrap();
            names.learn(&[Outcome::Done]);
        }
        assert_eq!(names.give(b"more", one, 1), Err(TooMany));
        let mut names = Names::default();
        let large = prepared(&"x".repeat(1 << 20));
        let given =
            (0..100).take_while(|n: &i32| names.give(n.to_string().as_bytes(), large.clone(), 1).is_ok());
        assert_eq!(given.count(), 31);
    }
}
