//! What the log says of refusals on read-only routes: each shape of statement once, without its literals, and never so
//! many lines that a client could fill a disk.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::rule::Rule;
use crate::statement::Shape;

/// Shapes that are remembered; with more, all are forgotten, and may be said again.
const SHAPES: usize = 1024;

/// Lines that a worker may write within a window of so many milliseconds.
const LINES: u32 = 20;
const WINDOW: u64 = 10_000;

/// Bytes of a shape.
const LONGEST: usize = 300;

/// What a worker has said.
#[derive(Debug, Default)]
pub(super) struct Audit {
    said: HashSet<u64>,
    hasher: RandomState,
    /// When the window began, in milliseconds of the process's clock.
    since: u64,
    lines: u32,
    /// Refusals of the window for which there was no line left.
    unsaid: u64,
}

/// A line that is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) shape: String,
    /// Refusals before it that were not said for want of lines.
    pub(super) unsaid: u64,
}

impl Audit {
    /// Takes a refusal: `of` says on which route and under which rule. `None` if it is not to be said.
    pub(super) fn note(&mut self, of: (&str, &str, Rule), text: &[u8], now: u64) -> Option<Line> {
        if now.saturating_sub(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            self.unsaid += 1;
            return None;
        }
        let shape = match of.2 {
            Rule::Syntax | Rule::Unread => Shape::doubtfully(text, LONGEST),
            _ => Shape::carefully(text, LONGEST),
        };
        let hash = self.hasher.hash_one((of.0, of.1, of.2.as_str(), &shape));
        if self.said.contains(&hash) {
            return None;
        }
        if self.said.len() >= SHAPES {
            self.said.clear();
        }
        self.said.insert(hash);
        self.lines += 1;
        Some(Line { shape, unsaid: std::mem::take(&mut self.unsaid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_is_said_once_for_each_rule_and_lines_are_few() {
        let mut audit = Audit::default();
        let of = ("db", "user", Rule::Write);
        assert!(audit.note(of, b"DELETE FROM t WHERE i = 1", 0).is_some());
        assert!(audit.note(of, b"DELETE FROM t WHERE i = 2", 0).is_none());
        assert!(audit.note(("db", "other", Rule::Write), b"DELETE FROM t WHERE i = 2", 0).is_some());
        let said = (0..1_000).filter(|n| audit.note(of, format!("DELETE FROM t{n}").as_bytes(), 1).is_some());
        assert_eq!(said.count(), LINES as usize - 2);
        let next = audit.note(of, b"DELETE FROM another", WINDOW).unwrap();
        assert_eq!(next.unsaid, 1_000 - u64::from(LINES) + 2);
        for n in 0..100_000_u64 {
            audit.note(of, format!("DELETE FROM u{n}").as_bytes(), n * WINDOW);
        }
        assert!(audit.said.len() <= SHAPES);
    }

    #[test]
    fn of_a_text_that_could_not_be_read_nothing_is_said_that_may_be_a_literal() {
        let text = b"ALTER USER bob PASSWORD 'it's secret, that's it'";
        let line = Audit::default().note(("db", "user", Rule::Syntax), text, 0).unwrap();
        assert_eq!(line.shape, "alter user bob password ...");
    }
}
