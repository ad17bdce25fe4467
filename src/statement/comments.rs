//! Texts that differ only in the comments in front of them and behind them have one place in the cache: sqlcommenter
//! writes another trace into each.
//!
//! Such a text is read without them, and has the facts of what is left (its words) if that can be read. No second lexer
//! (PostgreSQL's is `src/backend/parser/scan.l`) has to be right for it:
//! - in front of everything else, `/*` begins a comment;
//! - words that the grammar can read have left no string, name or block comment open at their end. Without `--` on their
//!   last line, and without an operator at their end that could go on, what is behind them is a token of its own;
//! - from its `/*` to its `*/` nothing in the comment looks like a beginning or an end of one.
//!
//! A comment with a backslash, a letter beyond ASCII or a control character is left where it is.

use super::tokens::{comment, is_operator};

/// Bytes of a text that is looked at.
const LONGEST: usize = 16 * 1024;

/// Bytes of a comment that is looked at.
const LONGEST_COMMENT: usize = 4 * 1024;

/// Comments at either end that are taken away.
const MOST: usize = 4;

/// A text without the comments at its ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Core<'t> {
    /// What is between them. It is never empty.
    pub(super) words: &'t [u8],
    /// Its bytes stand in other places than those of the text.
    pub(super) moved: bool,
}

/// What a text is without the comments at its ends, if it has any.
pub(super) fn core(text: &[u8]) -> Option<Core<'_>> {
    if text.len() > LONGEST {
        return None;
    }
    let front = in_front(text)?;
    let mut words = &text[front..];
    for _ in 0..MOST {
        match before_comment(words) {
            Some(before) => words = before,
            None => break,
        }
    }
    let any = front > 0 && !words.is_empty() || words.len() < text.len() - front;
    any.then_some(Core { words, moved: front > 0 }).filter(|core| !core.words.is_empty())
}

/// Where the words begin: 0 if there is no comment in front of them. Nothing where one is not to be taken away.
fn in_front(text: &[u8]) -> Option<usize> {
    let mut begin = 0;
    for _ in 0..MOST {
        let rest = &text[begin..];
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        let rest = &rest[blanks..];
        if !rest.starts_with(b"/*") {
            return Some(if begin == 0 { 0 } else { begin + blanks });
        }
        let length = comment(&rest[..rest.len().min(LONGEST_COMMENT)])?;
        if !rest[..length].iter().all(|byte| is_plain(*byte)) {
            return None;
        }
        begin += blanks + length;
    }
    None
}

/// What stands before the comment at the end, which a semicolon may follow.
fn before_comment(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().rposition(|byte| !is_blank(*byte) && *byte != b';')? + 1;
    let inside = text[..end].strip_suffix(b"*/")?;
    // A slash in front of that begins another comment.
    let mut behind = b'*';
    let mut at = inside.len();
    loop {
        at = at.checked_sub(1)?;
        let byte = inside[at];
        if !is_plain(byte) || inside.len() - at > LONGEST_COMMENT {
            return None;
        }
        match (byte, behind) {
            (b'/', b'*') if at + 1 < inside.len() => break,
            (b'/', b'*') => return None,
            (b'*', b'/') => return None,
            _ => behind = byte,
        }
    }
    let before = &inside[..at];
    if before.last().is_some_and(|byte| is_operator(*byte)) || last_line_has_dashes(before) {
        return None;
    }
    let end = before.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
    Some(&before[..end])
}

/// Whether the last line may end in a comment.
fn last_line_has_dashes(text: &[u8]) -> bool {
    let mut behind = 0;
    for byte in text.iter().rev() {
        match byte {
            b'\n' | b'\r' => return false,
            b'-' if behind == b'-' => return true,
            _ => behind = *byte,
        }
    }
    false
}

/// What all versions of PostgreSQL take for a blank.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What is the same character in every encoding, and no escape.
fn is_plain(byte: u8) -> bool {
    is_blank(byte) || (byte.is_ascii_graphic() && byte != b'\\')
}
