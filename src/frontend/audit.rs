//! What the log says of refusals on read-only routes: each shape of statement once, without its literals, and never so
//! many lines that a client could fill a disk.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Shapes that are remembered; with more, all are forgotten, and may be said again.
const SHAPES: usize = 1024;

/// Lines that a worker may write within a window of so many milliseconds.
const LINES: u32 = 20;
const WINDOW: u64 = 10_000;

/// Characters of a shape.
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
    pub(super) fn note(&mut self, of: (&str, &str, &str), text: &[u8], now: u64) -> Option<Line> {
        if now.saturating_sub(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            self.unsaid += 1;
            return None;
        }
        let shape = shape(text);
        let hash = self.hasher.hash_one((of, &shape));
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

/// A text without its literals and comments, in one line. Where it is not certain what is a literal, it ends.
pub(super) fn shape(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(16 * 1024)]);
    let mut shape = String::new();
    let mut rest = &*text;
    while let Some(first) = rest.chars().next() {
        if shape.chars().count() >= LONGEST {
            shape.push_str(" ...");
            break;
        }
        let word = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
        let Some(taken) = skipped(first, rest, word) else {
            shape.push_str(" ...");
            break;
        };
        match (first, &rest[..taken]) {
            (_, space) if first.is_whitespace() || is_comment(space) => {
                if !shape.ends_with(' ') && !shape.is_empty() {
                    shape.push(' ');
                }
            }
            ('\'' | '0'..='9', _) => shape.push('?'),
            ('$', quoted) if quoted.len() > 1 && !quoted[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                shape.push('?');
            }
            (_, word) => shape.extend(word.chars().filter(|c| !c.is_control())),
        }
        rest = &rest[taken..];
    }
    shape.trim_end().to_owned()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

fn is_comment(text: &str) -> bool {
    text.starts_with("--") || text.starts_with("/*")
}

/// How long the token is at the beginning of `rest`, whose first word ends at `word`; `None` where that is not certain.
fn skipped(first: char, rest: &str, word: usize) -> Option<usize> {
    match first {
        '\'' => quoted(rest, '\'').filter(|end| !rest[..*end].contains('\\')),
        '"' => quoted(rest, '"'),
        '-' if rest.starts_with("--") => Some(rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => comment(rest),
        '$' => {
            let tag = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_' || !c.is_ascii()));
            let tag = tag.unwrap_or(rest.len() - 1) + 1;
            if rest[tag..].starts_with('$') && !rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
                let tag = &rest[..=tag];
                Some(rest[tag.len()..].find(tag)? + 2 * tag.len())
            } else {
                Some(tag)
            }
        }
        '0'..='9' => Some(word.max(1)),
        c if is_of_word(c) => Some(word),
        c => Some(c.len_utf8()),
    }
}

/// Behind the closing quote; doubled ones do not close.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(quote)? + 1;
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += text[at..].chars().next()?.len_utf8();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_no_literals_and_no_comments() {
        for (text, expected) in [
            ("INSERT INTO t VALUES (1, 'se''cret', -2.5e3)", "INSERT INTO t VALUES (?, ?, -?.?)"),
            (
                "DELETE /* it's 'secret' */ FROM \"T 1\" -- 'x'\n WHERE a1 = $1",
                "DELETE FROM \"T 1\" WHERE a1 = $1",
            ),
            ("DO $x$ secret $$ $x$; SELECT $$secret$$", "DO ?; SELECT ?"),
            ("UPDATE t SET a = E'secret\\'; more secret'", "UPDATE t SET a = E ..."),
            ("SELECT 'never closed secret", "SELECT  ..."),
            ("a$b$secret$b$c\u{7}", "a$b$secret$b$c"),
            ("SELECT $tag$ secret", "SELECT  ..."),
        ] {
            assert_eq!(shape(text.as_bytes()), expected, "{text}");
        }
        assert!(shape("x ".repeat(10_000).as_bytes()).len() <= LONGEST + 5);
        assert_eq!(shape(b"caf\xe9 'x'"), "caf\u{fffd} ?");
    }

    #[test]
    fn each_shape_is_said_once_for_each_rule_and_lines_are_few() {
        let mut audit = Audit::default();
        let of = ("db", "user", "write");
        assert!(audit.note(of, b"DELETE FROM t WHERE i = 1", 0).is_some());
        assert!(audit.note(of, b"DELETE FROM t WHERE i = 2", 0).is_none());
        assert!(audit.note(("db", "other", "write"), b"DELETE FROM t WHERE i = 2", 0).is_some());
        let said = (0..1_000).filter(|n| audit.note(of, format!("DELETE FROM t{n}").as_bytes(), 1).is_some());
        assert_eq!(said.count(), LINES as usize - 2);
        let next = audit.note(of, b"DELETE FROM another", WINDOW).unwrap();
        assert_eq!(next.unsaid, 1_000 - u64::from(LINES) + 2);
        for n in 0..100_000_u64 {
            audit.note(of, format!("DELETE FROM u{n}").as_bytes(), n * WINDOW);
        }
        assert!(audit.said.len() <= SHAPES);
    }
}
